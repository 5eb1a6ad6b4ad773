"""Keeping the C library from returning memory that the next step asks for again."""

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from skdistill.utils._fork import after_fork

# Parameters of mallopt(3) in the GNU C library, with the values they are set back to:
# those that its own adaptation ends with in a process that uses large arrays.
_TRIM_THRESHOLD, _TRIM_DEFAULT = -1, 64 * 2**20
_MMAP_MAX, _MMAP_DEFAULT = -4, 65536
_MMAP_THRESHOLD, _THRESHOLD_DEFAULT = -3, 32 * 2**20

_lock = threading.Lock()
_n_inside = 0


def _mend_after_fork() -> None:
    global _lock
    _lock = threading.Lock()


after_fork(_mend_after_fork)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory is used up, that of a GPU or another."""
    # By its name: this module is for packages too that import no torch.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


@contextmanager
def reused_memory() -> Iterator[None]:
    """Let freed memory be used again inside the block, instead of returning it.

    PyTorch has no cache of its own on a CPU.  A training step allocates and frees the
    same large arrays as the one before, and the system clears every page of them again:
    with small networks that takes as long as the arithmetic.  Inside the block freed
    memory stays with the process; at its end the system gets it back.

    Where the C library is not GNU's, nothing happens.
    """
    global _n_inside
    library = _gnu_library()
    if library is None:
        yield
        return
    with _lock:
        _n_inside += 1
        if _n_inside == 1:
            library.mallopt(_MMAP_MAX, 0)
            library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        with _lock:
            _n_inside -= 1
            if _n_inside == 0:
                library.mallopt(_MMAP_MAX, _MMAP_DEFAULT)
                # Any call ends the adaptation, which starts at a mere 128 KiB.
                library.mallopt(_MMAP_THRESHOLD, _THRESHOLD_DEFAULT)
                library.mallopt(_TRIM_THRESHOLD, _TRIM_DEFAULT)
                library.malloc_trim(0)


def return_memory() -> None:
    """Give freed memory back to the system, where the C library is GNU's."""
    library = _gnu_library()
    if library is not None:
        library.malloc_trim(0)


def _gnu_library() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None
