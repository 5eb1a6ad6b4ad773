"""Callbacks of scikit-learn: a fit ends when its time is used, and its cost is kept."""

import json
import time

from _report import write_text

from skdistill import STMDistiller


def need_callbacks():
    """End the script, before its work, where nothing could end a fit."""
    if not hasattr(STMDistiller, "set_callbacks"):
        raise SystemExit("needs scikit-learn 1.9 or newer: a callback ends each fit")


class _OfFit:
    """A callback of scikit-learn that acts at the end of iterations only."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass


class Budget(_OfFit):
    """Ends a fit after the iteration that ends nearest to a time.

    Parameters
    ----------
    seconds : float
        From now on.
    clock : callable, default=time.process_time
        ``time.perf_counter`` for the time that passes; the default counts the CPU time
        of this process.
    """

    def __init__(self, seconds, clock=time.process_time):
        self._clock = clock
        self._last = clock()
        self._end = self._last + seconds

    def on_fit_task_end(self, estimator, context):
        now = self._clock()
        took, self._last = now - self._last, now
        return now + took / 2 >= self._end


class Spent(_OfFit):
    """Core-seconds of all calls so far, by name, in a file.

    As a callback it also writes what a fit has cost so far, for the case that it is
    killed: what is computed again after that has been paid for twice.

    Parameters
    ----------
    path : Path
    every : float, default=60.0
        Core-seconds between two entries of a fit.
    """

    def __init__(self, path, every=60.0):
        self._path = path
        self._every = every
        self._found = json.loads(path.read_text()) if path.exists() else {}

    def start(self, name):
        """Count what comes next under a name, and what was before under none."""
        self._name, self._last = name, time.process_time()

    def add(self):
        """Add what was spent since the last time."""
        now = time.process_time()
        self._found[self._name] = self._found.get(self._name, 0.0) + now - self._last
        self._last = now
        write_text(self._path, json.dumps(self._found))

    def hours(self, name):
        return self._found.get(name, 0.0) / 3600

    def on_fit_task_end(self, estimator, context):
        if time.process_time() - self._last >= self._every:
            self.add()
        return False
