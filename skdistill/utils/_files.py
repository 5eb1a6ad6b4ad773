"""Writing files so that a reader never meets half of one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its name on success.

    Parameters
    ----------
    path : path-like
        Where the finished file shall be.  Its folder is made if it is missing.

    Yields
    ------
    Path
        A file in the same folder, to be written; removed if the block raises.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{target.name}.", suffix=".part", dir=target.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # A power cut after the rename must not find an empty file under the name.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp made it private; the finished file gets the usual permissions.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class SharedFolder:
    """A folder that a process on another machine may see under its name, or not.

    Parameters
    ----------
    mark : Path
        A file in the folder.  A process that finds this very file there, and not just
        one of its name, sees the same folder.
    """

    def __init__(self, mark: Path) -> None:
        # Workers of a cluster have another working directory.
        self._mark = mark.absolute()
        self.path = self._mark.parent
        self._identity = _identity(self._mark)

    def is_here(self) -> bool:
        """Tell whether this process sees the folder."""
        return self._identity is not None and _identity(self._mark) == self._identity


def _identity(path: Path) -> tuple[int, int, int] | None:
    # A file has the same number on every machine that a server shares it with; copies
    # have others.  The number of the device is each machine's own.
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
