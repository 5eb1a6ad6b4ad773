"""A callback that ends a fit when its time is used."""

import time


class Budget:
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

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        now = self._clock()
        took, self._last = now - self._last, now
        return now + took / 2 >= self._end
