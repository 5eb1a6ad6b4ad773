"""Callback events of teachers in training."""

import os
import threading
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from skdistill.trajectory._store import TeacherRun
from skdistill.utils._callbacks import FitTasks


class Trained(NamedTuple):
    """A teacher that is trained.

    Attributes
    ----------
    number : int
    loss, accuracy : ndarray of shape (n_epochs,)
        Of each epoch.
    run : TeacherRun or None
        All of the training; None if it is in a file.
    """

    number: int
    loss: np.ndarray
    accuracy: np.ndarray
    run: TeacherRun | None = None


class TeacherTasks:
    """Tell callbacks of teachers and of their epochs.

    Where teachers are trained in the process and the thread of the fit, each epoch is
    reported when it has ended; those of other processes when their teacher is complete.

    Parameters
    ----------
    tasks : FitTasks
        Those of the fit, whose steps are the teachers.
    """

    def __init__(self, tasks: FitTasks) -> None:
        self._tasks = tasks
        self._thread = (os.getpid(), threading.get_ident())
        self._teachers: dict[int, FitTasks] = {}
        self._n_told: dict[int, int] = {}

    def __reduce__(self) -> tuple[Any, tuple]:
        # In another process there is nobody to tell.
        return _nobody, ()

    @property
    def is_here(self) -> bool:
        """Whether somebody listens where this is asked."""
        here = (os.getpid(), threading.get_ident())
        return self._tasks.are_told and self._thread == here

    def tell(self, trained: Trained) -> None:
        """Report the epochs of a teacher that have not been reported yet."""
        number = trained.number
        if number not in self._teachers:
            self._teachers[number] = self._tasks.branch("epoch")
        teacher = self._teachers[number]
        for epoch in range(self._n_told.get(number, 0), len(trained.loss)):
            teacher.begin_step()
            self._n_told[number] = epoch + 1
            teacher.end_step(None, partial(_numbers, trained, epoch))

    def finish(self, trained: Trained) -> None:
        """Report a complete teacher, and its epochs that have not been reported."""
        if not self._tasks.are_told:
            return
        self.tell(trained)
        last = len(trained.loss) - 1
        self._teachers[trained.number].end(None, partial(_numbers, trained, last))


def _nobody() -> None:
    return None


def _numbers(trained: Trained, epoch: int) -> dict[str, float]:
    return {
        "teacher": trained.number,
        "epoch": epoch + 1,
        "loss": float(trained.loss[epoch]),
        "accuracy": float(trained.accuracy[epoch]),
    }
