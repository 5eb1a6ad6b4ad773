"""The work of training some teachers, as a process here or elsewhere does it."""

import time
import warnings
from collections.abc import Generator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from skdistill.trajectory._settings import TeacherSettings
from skdistill.trajectory._store import (
    Identity,
    TeacherFile,
    TeacherRun,
    binding,
    manifest_path,
    read_manifest,
    teacher_path,
    write_teacher,
)
from skdistill.trajectory._teacher import Teachers, teachers_at_once
from skdistill.trajectory._told import TeacherTasks, Trained
from skdistill.utils._device import resolve_device
from skdistill.utils._files import SharedFolder, claim, remove_leftovers
from skdistill.utils._images import Images
from skdistill.utils._memory import reused_memory
from skdistill.utils._parallel import run_parallel
from skdistill.utils._random import child_seed
from skdistill.utils._tensors import RealImages
from skdistill.utils._workers import worker_threads

# What is done of a teacher is stored so often; a kill loses no more, and the epoch.
_STORE_SECONDS = 60.0

_POLL_SECONDS = 0.5


class Place(NamedTuple):
    """Where teachers are stored.

    Attributes
    ----------
    folder : Path
    buffer : str
        What ties its files to its manifest.
    shared : SharedFolder
        Tells a worker whether it sees the folder.
    seed : int or None
        That of the buffer, which its files are not tied to; None in old pickles.
    """

    folder: Path
    buffer: str
    shared: SharedFolder
    seed: int | None = None

    def present(self) -> "Place":
        """Return where that is now that the working directory may be another one."""
        if self.folder.exists() or not self.shared.path.exists():
            return self
        return self._replace(folder=self.shared.path)


def train_missing(
    settings: TeacherSettings,
    data: tuple[Images, np.ndarray, np.ndarray, str | torch.device],
    missing: list[int],
    n_epochs: int,
    place: Place | None,
    told: TeacherTasks,
    seed: int,
    n_jobs: int | None,
) -> Generator[Trained]:
    """Train missing teachers; yields each when it is done.

    Parameters
    ----------
    settings : TeacherSettings
    data : tuple of (images, codes, weight, device)
        As :func:`train_group` takes them.
    missing : list of int
        The teachers' numbers.
    n_epochs : int
    place : Place or None
    told : TeacherTasks
    seed : int
        That of the buffer.
    n_jobs : int or None
    """
    device = resolve_device(data[-1])
    while missing:
        size = teachers_at_once(settings, device, len(missing))
        groups = [missing[i : i + size] for i in range(0, len(missing), size)]
        tasks = {
            tuple(group): (
                {number: teacher_seed(number, seed, place) for number in group},
            )
            for group in groups
        }
        results = run_parallel(
            train_group,
            (settings, *data, n_epochs, place, told),
            tasks,
            # On a GPU a group fills it: more processes would only share it.
            n_jobs=n_jobs if device.type == "cpu" else None,
            what="teachers",
        )
        done = set()
        for _, group in results:
            for trained in group:
                done.add(trained.number)
                yield trained
        # What is left, other processes are training.
        missing = [number for number in missing if number not in done]
        if missing and place is not None:
            wait_for_any(place.folder, missing)


def teacher_seed(number: int, seed: int, place: Place | None) -> int:
    """Return the seed of a teacher; those of a merged buffer have their own."""
    if place is not None and teacher_path(place.folder, number).exists():
        with TeacherFile(place.folder, number, place.buffer) as file:
            return file.seed
    return child_seed(seed, number)


def train_group(
    settings: TeacherSettings,
    images: Images,
    codes: np.ndarray,
    weight: np.ndarray,
    device: str | torch.device,
    n_epochs: int,
    place: Place | None,
    told: TeacherTasks | None,
    seeds: dict[int, int],
) -> list[Trained]:
    """Train some teachers, or what is missing of them, and store them.

    Parameters
    ----------
    settings : TeacherSettings
    images : ndarray or Rows of shape (n_samples, height, width, channels)
    codes : ndarray of shape (n_samples,)
        Class codes.
    weight : ndarray of shape (n_samples,)
        Weights of the images, with mean 1.
    device : str or torch.device
        "auto" is what the machine that this runs on has.
    n_epochs : int
    place : Place or None
        Where they are stored, if this process sees it; else their runs are returned.
    told : TeacherTasks or None
        Called after each epoch, if that is possible.
    seeds : dict of int
        The seed of each teacher, by its number.

    Returns
    -------
    trained : list of Trained
        Without those that another process is training at this moment.
    """
    if place is not None and not place.shared.is_here():
        place = None
    elif place is not None:
        # Workers of a cluster have another working directory.
        place = place._replace(folder=place.shared.path)
    done: list[Trained] = []
    with ExitStack() as claims:
        runs: dict[int, TeacherRun | None] = dict.fromkeys(seeds)
        seeds = dict(seeds)
        if place is not None:
            for number in list(runs):
                path = teacher_path(place.folder, number)
                if not claims.enter_context(claim(path)):
                    del runs[number]
                    continue
                remove_leftovers(path)
                if path.exists():
                    with TeacherFile(place.folder, number, place.buffer) as file:
                        # A merged buffer has teachers of several seeds.
                        runs[number], seeds[number] = file.run(), file.seed
        for number, run in list(runs.items()):
            # Since the claim was asked for, another process may have done it.
            if run is not None and run.n_epochs >= n_epochs:
                done.append(trained_teacher(number, run, n_epochs))
                del runs[number]
        # Only teachers of the same age can be trained side by side.
        ages = {n: 0 if run is None else run.n_epochs for n, run in runs.items()}
        for age, members in groupby(sorted(runs, key=lambda n: (ages[n], n)), ages.get):
            numbers = list(members)
            where = resolve_device(device)
            begun = [run for n in numbers if (run := runs[n]) is not None]
            with worker_threads(where), reused_memory():
                teachers = Teachers(
                    settings,
                    RealImages(images, where),
                    torch.from_numpy(codes.astype(np.int64)).to(where),
                    torch.from_numpy(weight.astype(np.float32)).to(where),
                    [seeds[number] for number in numbers],
                    n_epochs,
                    begun if age else None,
                    numbers,
                )
                _train(
                    teachers, numbers, seeds, n_epochs, place, settings.storage, told
                )
            for number, run in zip(numbers, teachers.runs(n_epochs), strict=True):
                trained = trained_teacher(number, run, n_epochs)
                if place is None:
                    trained = trained._replace(run=run)
                done.append(trained)
    return done


def _train(
    teachers: Teachers,
    numbers: list[int],
    seeds: dict[int, int],
    n_epochs: int,
    place: Place | None,
    storage: str,
    told: TeacherTasks | None,
) -> None:
    """Train, and store what is done at the end and now and then before."""
    stored_at = time.monotonic()
    for epoch in teachers.train():
        if told is not None and told.is_here:
            for number, run in zip(numbers, teachers.runs(epoch), strict=True):
                told.tell(trained_teacher(number, run, epoch))
        late = time.monotonic() - stored_at > _STORE_SECONDS
        if place is None or not (late or epoch == n_epochs):
            continue
        try:
            for number, run in zip(numbers, teachers.runs(epoch), strict=True):
                store(place, number, run, seeds[number], storage)
        except OSError as error:
            if epoch == n_epochs:
                raise
            # The disk may be there again, or have room, a minute later.
            warnings.warn(
                f"{epoch} of {n_epochs} epochs of teachers {numbers} could not be "
                f"stored: {error}; the training continues, and tries again in a "
                "minute or at its end",
                stacklevel=2,
            )
        stored_at = time.monotonic()


def store(place: Place, number: int, run: TeacherRun, seed: int, storage: str) -> None:
    """Write a teacher to its folder, unless that is another buffer's by now.

    Before its first teacher is stored, a folder belongs to the last buffer that began.

    Raises
    ------
    ValueError
        If it is another buffer's: its files would be of use to neither.
    """
    # Where the folder is gone, writing says so.
    if manifest_path(place.folder).exists():
        manifest = read_manifest(place.folder)
        seeds = None, manifest["seed"]
        if binding(manifest) != place.buffer or place.seed not in seeds:
            raise ValueError(
                f"`path`: {place.folder} is in use by another fit with different data, "
                "settings or random state, which began before this one had stored a "
                "teacher; use a folder for each"
            )
    identity = Identity(number, place.buffer, seed)
    write_teacher(place.folder, run, identity, storage)


def trained_teacher(number: int, run: TeacherRun, n_epochs: int) -> Trained:
    """Return a teacher's first epochs, without its snapshots."""
    return Trained(number, run.loss[:n_epochs].numpy(), run.accuracy[:n_epochs].numpy())


def wait_for_any(folder: Path, numbers: list[int]) -> None:
    """Return when another process has let go of one of the teachers."""
    while True:
        for number in numbers:
            with claim(teacher_path(folder, number)) as claimed:
                if claimed:
                    return
        time.sleep(_POLL_SECONDS)
