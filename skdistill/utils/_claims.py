"""Sharing work between processes that know of each other only by a folder."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Claim a piece of work that a path stands for, while the block runs.

    The claim is a lock that the system holds on a file.  It ends with the process,
    however that ends, so that nothing is left behind that would have to be removed by
    hand.  Where the file system has no locks, nothing is claimed and everything may
    be done twice.

    Parameters
    ----------
    path : Path
        The result of the work.  The lock is a hidden file beside it.

    Yields
    ------
    claimed : bool
        False if another process, or thread, holds the claim.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError):
        yield True
        return
    try:
        yield True
    finally:
        if path.exists():
            # Whoever claims it from now on sees that the work is done.
            with suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
