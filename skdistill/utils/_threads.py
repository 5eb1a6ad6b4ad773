"""Borrowing PyTorch's thread pool for a while, and giving it back as it was."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_n_inside = 0
_n_before = 1


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Compute with one thread inside the block.

    Sums are split over threads, so their last bits depend on the number of threads:
    work that several processes may share must always use the same number.  Where
    several threads of a process are inside, as in a worker of dask, the last to leave
    gives the number back.
    """
    global _n_inside, _n_before
    with _lock:
        if _n_inside == 0:
            _n_before = torch.get_num_threads()
        _n_inside += 1
    # PyTorch has a number for the process and one for each thread that has computed.
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _n_inside -= 1
            if _n_inside == 0:
                torch.set_num_threads(_n_before)
