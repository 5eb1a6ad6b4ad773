"""What teachers will cost: a rehearsal of their training."""

from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import effective_n_jobs
from torch import Tensor

from skdistill.trajectory._settings import TeacherSettings, n_snapshots_until
from skdistill.trajectory._store import STORAGES, pack
from skdistill.trajectory._teacher import Teachers, teachers_at_once
from skdistill.trajectory._told import Trained
from skdistill.utils._cost import CostEstimate, PeakMemory, Stopwatch
from skdistill.utils._device import resolve_device
from skdistill.utils._memory import reused_memory
from skdistill.utils._parallel import is_serial, run_parallel
from skdistill.utils._tensors import RealImages
from skdistill.utils._workers import worker_threads

# Steps of the epochs that are rehearsed, and the number of these at most.
_N_STEPS, _MAX_EPOCHS = 4, 40
# Digests in a file, of each snapshot and beside these.
_BYTES_PER_DIGEST, _BYTES_PER_FILE = 36, 1200


class StraightWay:
    """Snapshots of a teacher that nobody trained: it goes straight ahead.

    Parameters
    ----------
    first, step : Tensor of shape (n_parameters,)
        Its initial weights, and the way from each snapshot to the next.
    storage : str
    """

    def __init__(self, first: Tensor, step: Tensor, storage: str) -> None:
        self._first = first
        self._step = step
        self._storage = storage

    def __getitem__(self, row: int) -> np.ndarray:
        return pack(self._first + int(row) * self._step, self._storage)


class Trial(NamedTuple):
    """A training of a few steps.

    Attributes
    ----------
    seconds : float
        Of an epoch.
    n_timed : int
        How many epochs were timed.
    n_bytes : int or None
        All the memory of the process at its peak.
    first, step : Tensor of shape (n_parameters,)
        The initial weights, and the way of an epoch.
    """

    seconds: float
    n_timed: int
    n_bytes: int | None
    first: Tensor
    step: Tensor


def _train_a_while(
    settings: TeacherSettings,
    images: np.ndarray,
    codes: np.ndarray,
    weight: np.ndarray,
    device: str | torch.device,
    seeds: list[int],
) -> Trial:
    """Train teachers side by side on some images, until the time of an epoch is known.

    Parameters
    ----------
    settings, images, codes, weight, device
        As of :func:`train_group`.
    seeds : list of int
        Of each teacher.
    """
    where = resolve_device(device)
    watch = Stopwatch(where, n_max=_MAX_EPOCHS - 1)
    with PeakMemory(where) as memory, worker_threads(where), reused_memory():
        teachers = Teachers(
            replace(settings, snapshots_per_epoch=1),
            RealImages(images, where),
            torch.from_numpy(codes.astype(np.int64)).to(where),
            torch.from_numpy(weight.astype(np.float32)).to(where),
            seeds,
            _MAX_EPOCHS,
        )
        epochs = teachers.train()
        # The first has what is done once, such as compiling.
        done = next(epochs)
        watch.lap()
        while not watch.has_enough:
            done = next(epochs)
            watch.count()
        run = teachers.runs(done)[0]
    first = run.parameters[0].clone()
    step = (run.last - first) / done
    return Trial(watch.mean, watch.n_done, memory.n_bytes_in_all, first, step)


def rehearse(
    buffer: Any, X: Any, y: Any, sample_weight: Any, *, on_disk: bool
) -> tuple[CostEstimate, Any]:
    """Estimate what a fit of a buffer takes.

    Parameters
    ----------
    buffer : TrajectoryBuffer
        Stays as it is.
    X, y, sample_weight
        As of its fit.
    on_disk : bool
        Whether teachers are stored in files.

    Returns
    -------
    cost : CostEstimate
    stand_in : TrajectoryBuffer
        As the fitted one will be, but for its snapshots: a few kilobytes stand for
        them.
    """
    stand_in = copy(buffer)
    # A RandomState that was passed is used in the fit.
    stand_in.set_params(path=None, random_state=0, verbose=0)
    stand_in.__dict__.pop("_skl_callbacks", None)
    device = resolve_device(buffer.device)
    n_teachers, n_epochs = int(buffer.n_teachers), int(buffer.n_epochs)
    n_jobs = 1
    with PeakMemory(device) as memory:
        watch = Stopwatch(device, n_max=1)
        (X, _, codes, weight), settings = stand_in._prepare(X, y, sample_weight)
        at_once = teachers_at_once(settings, device, n_teachers)
        n_groups = -(-n_teachers // at_once)
        if device.type == "cpu" and not is_serial(buffer.n_jobs):
            n_jobs = min(effective_n_jobs(buffer.n_jobs), n_groups)
        # Evenly spaced, of all classes as a rule.
        n_used = min(len(X), _N_STEPS * settings.batch_size)
        rows = np.linspace(0, len(X) - 1, n_used).astype(np.int64)
        part = np.asarray(X[rows]), codes[rows], weight[rows]
        # On a GPU all images may be kept.
        kept = RealImages(X, device) if device.type == "cuda" else None
        before = watch.lap()
        tasks = {job: (list(range(at_once)),) for job in range(n_jobs)}
        # Side by side, as busy as the machine will be.
        found = dict(
            run_parallel(
                _train_a_while,
                (settings, *part, buffer.device),
                tasks,
                n_jobs=n_jobs if n_jobs > 1 else None,
                what="teachers",
            )
            if n_jobs > 1
            else [(0, _train_a_while(settings, *part, buffer.device, *tasks[0]))]
        )
        del kept
    # Beside the epochs: workers start, and networks may be compiled.
    trials = list(found.values())
    longest = max(trial.n_timed * trial.seconds for trial in trials)
    before += max(0.0, watch.lap() - longest)
    one_epoch = np.mean([trial.seconds for trial in trials]) * len(X) / n_used
    n_rounds = -(-n_groups // n_jobs)
    seconds = before + n_rounds * n_epochs * float(one_epoch)

    n_snapshots = n_snapshots_until(settings.snapshots_per_epoch, n_epochs)
    n_parameters = stand_in.n_parameters_
    snapshots = n_snapshots * n_parameters * STORAGES[settings.storage].itemsize
    needed = memory.n_bytes
    if needed is not None and device.type == "cpu":
        # Snapshots that were not there: of teachers in training, and those kept.
        missing = 4 * n_parameters * max(0, n_snapshots - _MAX_EPOCHS - 1)
        needed += n_jobs * missing
        if n_jobs > 1:
            needed += sum(trial.n_bytes or 0 for trial in trials)
        needed += 0 if on_disk else n_teachers * snapshots
    disk = 0
    if on_disk:
        disk = n_teachers * (snapshots + _beside_snapshots(settings, n_parameters))
        disk += n_teachers * (16 * n_epochs + _BYTES_PER_DIGEST * n_snapshots)
    stand_in.seed_ = 0
    curve = np.zeros(n_epochs)
    numbers = range(n_teachers)
    stand_in._keep([Trained(n, curve, curve) for n in numbers], settings, None)
    way = StraightWay(trials[0].first, trials[0].step, settings.storage)
    stand_in._snapshots = [way] * n_teachers
    cost = CostEstimate(
        seconds=seconds,
        memory=needed,
        disk=disk,
        unit="epoch",
        n_iter=n_teachers * n_epochs,
        seconds_per_iteration=n_rounds * float(one_epoch) / n_teachers,
    )
    return cost, stand_in


def in_memory(buffer: Any) -> int:
    """Return the bytes of the snapshots of a buffer without a path."""
    n_bytes = STORAGES[buffer.settings_.storage].itemsize * buffer.n_parameters_
    return buffer.n_teachers_ * len(buffer.snapshot_epochs_) * n_bytes


def _beside_snapshots(settings: TeacherSettings, n_parameters: int) -> int:
    """Return the bytes of a teacher's file that are no snapshots."""
    is_exact = settings.storage == "float32" and not settings.average
    n_vectors = int(not is_exact) + bool(settings.momentum)
    return 4 * n_parameters * n_vectors + _BYTES_PER_FILE
