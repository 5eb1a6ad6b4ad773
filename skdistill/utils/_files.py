"""Paths as users give them; files of which a reader never meets half of one."""

import glob
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# In the folder of an unfinished file: the process that writes it holds a lock on this.
_LOCK = ".lock"


def expand_path(path: str | os.PathLike[str], parameter: str) -> str:
    """Return a path that a user gave, with the home folder in place of ``~``.

    Only a shell does this by itself.  In Python a folder of the name ``~`` would be
    made where the process happens to run.

    Parameters
    ----------
    path : path-like
    parameter : str
        What it is called in messages.

    Raises
    ------
    TypeError
        If it is no path.
    ValueError
        If it is empty, or in the home folder of a user who does not exist.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"`{parameter}` must be a path, a str or os.PathLike; got an object of "
            f"type {type(path).__name__}"
        )
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(
            f"`{parameter}` must be a path as str; got bytes, {text!r:.100}"
        )
    if not text.strip():
        raise ValueError(
            f"`{parameter}` must be a path; got an empty string. Use '.' for the "
            "current folder"
        )
    if "\0" in text:
        raise ValueError(
            f"`{parameter}` must be a path; got {text!r}, which contains a "
            "null character"
        )
    expanded = os.path.expanduser(text)
    if expanded.startswith("~") and not os.path.lexists(Path(expanded).parts[0]):
        raise ValueError(
            f"`{parameter}`: got {text!r}, but this home folder does not exist; for a "
            f"file or folder of this name use './{text}'"
        )
    # A file of such a name, which a Path would not tell from a home folder later.
    if Path(expanded).parts[:1] and Path(expanded).parts[0].startswith("~"):
        return os.path.join(os.getcwd(), expanded)
    return expanded


def as_path(path: str | os.PathLike[str], parameter: str = "path") -> Path:
    """Return what :func:`expand_path` does, as a Path."""
    return Path(expand_path(path, parameter))


def behind_link(path: str | os.PathLike[str]) -> Path:
    """Return the path of the file that is written, that of a link's target.

    A file that takes the name of a symbolic link would replace the link, and be on
    another disk.
    """
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


@contextmanager
def atomic_path(
    path: str | os.PathLike[str], *, make_folder: bool = True
) -> Iterator[Path]:
    """Yield a temporary path near ``path`` that takes its name on success.

    What a process that was killed left of an earlier attempt is removed.  If ``path``
    is a symbolic link, the file that it points to is written.

    Parameters
    ----------
    path : path-like
        Where the finished file shall be.
    make_folder : bool, default=True
        Whether to make its folder if it is missing.  Not where a missing folder means
        that a disk is gone.

    Yields
    ------
    Path
        An empty file in a folder of its own, to be written; removed if the block
        raises.

    Raises
    ------
    OSError
        If the file cannot be written, by any library that the block uses; the message
        names ``path``.
    """
    target = behind_link(path)
    if make_folder:
        target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    try:
        with _own_folder(target) as folder:
            temporary = folder / target.name
            temporary.touch()
            yield temporary
            # A power cut after the rename must not find an empty file under the name.
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            # Some writers make it private; finished it gets the usual permissions.
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
            os.replace(temporary, target)
    except Exception as error:
        number = _number_of(error, target)
        if number is None:
            raise
        raise OSError(
            number,
            "the file cannot be written, and an existing file is unchanged: "
            f"{os.strerror(number)}",
            os.fspath(target),
        ) from error


def remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed left of a file they were writing."""
    pattern = f"{glob.escape(f'.{path.name}.')}*.part"
    for folder in path.parent.glob(pattern):
        with suppress(OSError), (folder / _LOCK).open("r+b") as lock:
            if _try_to_lock(lock):
                _remove(folder)
        # One without a lock, from a process that was killed before it made that.
        with suppress(OSError):
            folder.rmdir()


def check_folder(folder: Path, parameter: str) -> None:
    """Raise a ValueError where a file is in the place of a folder."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`{parameter}` must be a folder; {folder} is a file")


def check_writable(folder: Path, parameter: str) -> None:
    """Make a folder if it is missing, and see that files can be made in it.

    Raises
    ------
    OSError
        If they cannot; the message names the parameter and the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # It has no name where the system can do that: a kill leaves nothing.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(
            error.errno,
            f"`{parameter}` must be in a folder in which files can be created: "
            f"{error.strerror}",
            os.fspath(folder),
        ) from error


@contextmanager
def _own_folder(target: Path) -> Iterator[Path]:
    """Make a folder beside a file that is removed at the end, if only by the next one.

    Some writers make files of their own beside the one they write.
    """
    while True:
        folder = Path(
            tempfile.mkdtemp(
                prefix=f".{target.name}.", suffix=".part", dir=target.parent
            )
        )
        with ExitStack() as held:
            held.callback(_remove, folder)
            try:
                lock = held.enter_context((folder / _LOCK).open("wb"))
            except FileNotFoundError:
                lock = None
            # Another process may take a folder that has no lock yet for a leftover.
            if lock is not None and _wait_for_lock(lock):
                yield folder
                return


def _try_to_lock(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed; tell whether that was possible."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _wait_for_lock(file: IO[bytes]) -> bool:
    """Lock an open file; return whether it still has its name then.

    Where the file system has no locks, nothing is removed that has one.
    """
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
    return os.path.exists(file.name)


def _remove(folder: Path) -> None:
    with suppress(OSError):
        # The lock last: a kill in between leaves what can be found again.
        for file in sorted(folder.iterdir(), key=lambda file: file.name == _LOCK):
            file.unlink(missing_ok=True)
        folder.rmdir()


def _number_of(error: Exception, target: Path) -> int | None:
    """Return the system's number of an error in writing; None if it is another one."""
    if isinstance(error, OSError):
        # A block may also fail to read something elsewhere.
        name = error.filename
        is_own = name is None or Path(os.fsdecode(name)).parent.is_relative_to(
            target.parent
        )
        return error.errno if is_own else None
    # safetensors, which is written in Rust, says the number only in words; older
    # versions in others.
    found = re.search(r"(?:\(os error |\bOs \{ code: )(\d+)", str(error))
    return int(found[1]) if found else None


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
            # A process that claims it from now on sees that the work is done.
            with suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
