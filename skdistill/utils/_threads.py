"""How many threads PyTorch computes with: one for a while, and never too many."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from skdistill.utils._fork import after_fork

_lock = threading.Lock()


def _mend_after_fork() -> None:
    """Let a forked process compute with one thread.

    The threads of OpenMP do not come along, and GNU's library, with which PyTorch and
    scikit-learn are built, waits for them for ever.  With one thread it needs none.
    If there were none, more can be requested with torch.set_num_threads.
    """
    global _lock
    _lock = threading.Lock()
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="openmp")


after_fork(_mend_after_fork)


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Compute with one thread inside the block.

    Sums are split over threads, so their last bits depend on the number of threads:
    work that several processes may share must always use the same number.  Other
    threads of the process keep the number they have.
    """
    before = torch.get_num_threads()
    set_own_number(1)
    try:
        yield
    finally:
        set_own_number(before)


def take_number() -> None:
    """Let this thread have its number of threads, if it has none yet.

    To be called before a thread computes, for all that it computes to have the bits
    that it would have without others.
    """
    with _lock:
        torch.get_num_threads()


def set_own_number(n_threads: int) -> None:
    """Set the number of threads that this thread computes with, and of no other.

    PyTorch has a number for each thread.  It starts as the last that any thread has
    set, when the thread first asks, and is its own from then on: what one thread sets
    for itself would become that of all that start in the meantime.
    """
    with _lock, ThreadPoolExecutor(1) as new_thread:
        of_new = new_thread.submit(torch.get_num_threads).result()
        # A thread that has no number yet would take one when it next asks.
        torch.get_num_threads()
        torch.set_num_threads(n_threads)
        new_thread.submit(torch.set_num_threads, of_new).result()
