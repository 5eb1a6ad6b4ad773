"""Borrowing PyTorch's thread pool for a while, and giving it back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Compute with one thread inside the block.

    Sums are split over threads, so their last bits depend on the number of threads:
    work that several processes may share must always use the same number.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
