"""What a distillation will cost: a rehearsal of its first iterations."""

import warnings
from contextlib import ExitStack
from copy import copy
from typing import Any

from skdistill.distillation._engine._history import MAX_ROWS
from skdistill.distillation._engine._loop import Optimization
from skdistill.distillation._engine._state import DistillationState
from skdistill.trajectory import TrajectoryBuffer
from skdistill.trajectory._cost import in_memory, rehearse
from skdistill.utils._cost import CostEstimate, PeakMemory, Stopwatch
from skdistill.utils._device import resolve_device
from skdistill.utils._distributed import Ranks
from skdistill.utils._memory import reused_memory
from skdistill.utils._workers import worker_threads

_BYTES_PER_FILE = 4096  # of names, signatures and the like


def estimate_cost(distiller: Any, X: Any, y: Any, sample_weight: Any) -> CostEstimate:
    """Estimate what a fit of a distiller takes.

    Parameters
    ----------
    distiller : IterativeDistiller
        Stays as it is.
    X, y, sample_weight
        As of its fit.

    Returns
    -------
    cost : CostEstimate
    """
    if Ranks().size > 1:
        raise RuntimeError(
            "`estimate_cost` measures a single process; call it before "
            "torch.distributed is initialized"
        )
    device = resolve_device(distiller.device)
    rehearsal = copy(distiller)
    keeps_files = distiller.checkpoint is not None
    # A RandomState that was passed is used in the fit.
    rehearsal.set_params(checkpoint=None, random_state=0, verbose=0)
    rehearsal.__dict__.pop("_skl_callbacks", None)
    teachers = None
    held_bytes = 0
    buffer = rehearsal._given_buffer()
    if isinstance(buffer, TrajectoryBuffer) and not hasattr(buffer, "history_"):
        buffer._validate_params()
        # What a distiller alone finds wrong, it shall find before.
        data = rehearsal._validate(X, y, sample_weight)
        rehearsal._check_teachers(buffer)
        on_disk = keeps_files or buffer.path is not None
        teachers, stand_in = rehearse(buffer, *data.given, on_disk=on_disk)
        rehearsal.buffer = stand_in
        if not on_disk and device.type == "cpu":
            held_bytes = in_memory(stand_in)
        del data
    with PeakMemory(device) as memory, ExitStack() as held:
        state, watch, before = _rehearse(rehearsal, X, y, sample_weight, held)
        # Only its size counts.
        rehearsal._described_fit = {}
        result = rehearsal._synthetic_set(state, watch.n_done)
    n_iter, is_bound = _limit(distiller._limit, state.objective.max_n_iter)
    seconds = None
    if n_iter is not None:
        seconds = before + n_iter * watch.mean
        if teachers is not None and teachers.seconds is not None:
            seconds += teachers.seconds
    needed = memory.n_bytes
    if needed is not None:
        needed += held_bytes
        if teachers is not None and teachers.memory is not None:
            needed = max(needed, teachers.memory)
    disk = 0 if teachers is None else teachers.disk
    disk += _n_bytes(result.X, result.probabilities, result.targets) + _BYTES_PER_FILE
    if keeps_files:
        disk += _checkpoint_bytes(state, n_iter)
    return CostEstimate(
        seconds=seconds,
        memory=needed,
        disk=disk,
        unit="iteration",
        n_iter=n_iter,
        seconds_per_iteration=watch.mean,
        is_bound=is_bound,
        teachers=teachers,
    )


def _rehearse(
    rehearsal: Any, X: Any, y: Any, sample_weight: Any, held: ExitStack
) -> tuple[DistillationState, Stopwatch, float]:
    """Make iterations and time them; return also what comes before them."""
    device = resolve_device(rehearsal.device)
    limit = rehearsal._limit
    watch = Stopwatch(device, n_max=limit or 2**31)
    data = rehearsal._validate(X, y, sample_weight)
    fit = rehearsal._open(data, held)
    objective = rehearsal._make_objective(data, fit.seed)
    state = rehearsal._begin(data, objective, fit)
    before = watch.lap()
    held.enter_context(reused_memory())
    held.enter_context(worker_threads(device))
    # One that diverges costs as much as another.
    held.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    first = 0.0
    while not watch.has_enough:
        n_done = len(state.history)
        Optimization(
            state,
            seed=fit.seed,
            limit_name=rehearsal._limit_name,
            limit=n_done + 1,
            checkpoint=None,
            tasks=fit.tasks,
            so_far=dict,
            keep=lambda: None,
            ranks=fit.ranks,
            end=fit.end,
            verbose=False,
        ).run()
        if state.stop_reason == "interrupted":
            raise KeyboardInterrupt
        if n_done == 0 and limit != 1:
            # With what is done once, such as compiling.
            first = watch.lap()
        else:
            watch.count()
        if state.stop_reason != rehearsal._limit_name:
            break
        state.stop("")
    if watch.n_done == 0:
        watch.seconds, watch.n_done, first = first, 1, 0.0
    return state, watch, before + max(0.0, first - watch.mean)


def _limit(asked: int | None, own: int | None) -> tuple[int | None, bool]:
    """Return the number of iterations, and whether there may be fewer."""
    known = [limit for limit in (asked, own) if limit is not None]
    return (min(known) if known else None), own is not None


def _checkpoint_bytes(state: DistillationState, n_iter: int | None) -> int:
    """Return the size of the file of a run at its end."""
    parameters = _n_bytes(*state.parameters.state().values())
    objective = _n_bytes(*state.objective.state().values())
    rows, _ = state.history.state()
    n_rows = MAX_ROWS if n_iter is None else min(n_iter, MAX_ROWS)
    history = n_rows * rows.nbytes // max(1, len(rows))
    # Now, the last good ones and the best.
    return 3 * parameters + objective + history + _BYTES_PER_FILE


def _n_bytes(*arrays: Any) -> int:
    return sum(array.nbytes for array in arrays if array is not None)
