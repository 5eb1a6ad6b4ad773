"""Borrowing PyTorch's thread pool for a while, and giving it back as it was."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from skdistill.utils._fork import after_fork

_lock = threading.Lock()
_n_inside = 0
_n_before = 1
_own = threading.local()


def _mend_after_fork() -> None:
    """Let a forked process compute with one thread.

    The threads of OpenMP do not come along, and GNU's library, with which PyTorch and
    scikit-learn are built, waits for them for ever.  With one thread it needs none.
    Whoever knows that there were none may ask for more with torch.set_num_threads.
    """
    global _lock, _n_before
    _lock = threading.Lock()
    _n_before = 1
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="openmp")


after_fork(_mend_after_fork)


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Compute with one thread inside the block.

    Sums are split over threads, so their last bits depend on the number of threads:
    work that several processes may share must always use the same number.  Several
    threads of a process may be inside, as in a worker of dask.
    """
    global _n_inside, _n_before
    depth = getattr(_own, "depth", 0)
    # PyTorch has a number for each thread, which starts as the last that any thread
    # has set, when the thread first asks; from then on it is the thread's own.
    n_now = torch.get_num_threads()
    with _lock:
        if _n_inside == 0:
            _n_before = n_now
        _n_inside += 1
    _own.depth = depth + 1
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _own.depth = depth
        with _lock:
            _n_inside -= 1
            if depth == 0:
                torch.set_num_threads(_n_before)
