"""An array that is written to disk part by part and takes its name when it is whole."""

import io
import json
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from skdistill.utils._files import atomic_path, behind_link, check_writable
from skdistill.utils._untrusted import read_json

# What an interrupt of any kind can cost at most.
_SECONDS_BETWEEN_NOTES = 5.0
_COPY_BYTES = 2**24
# Beside the positions of images in what is known of a part.
_TOLD = "told"


class ArrayFile:
    """A `.npy` file in the making.

    The array grows in `{path}.part`, with notes of its finished parts in
    `{path}.part.json`.  The next attempt keeps those whose digest has not changed.

    Parameters
    ----------
    path : path-like
        Where the whole array shall be.
    shape : tuple of int
        Its shape; parts are ranges along the first axis.
    dtype : dtype
        Its type.
    digests : list of str
        One for each part: says what the part is made of.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: tuple[int, ...],
        dtype: Any,
        digests: list[str],
    ):
        self.path = behind_link(path)
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.digests = digests
        # What is worth knowing of each finished part, by its number.
        self.finished: dict[int, Any] = {}
        self._noted = time.monotonic()
        self._lock = threading.Lock()
        self._part = self.path.with_name(self.path.name + ".part")
        self._notes = self.path.with_name(self.path.name + ".part.json")
        self._header = _header(shape, self.dtype)
        self._row_bytes = self.dtype.itemsize * int(np.prod(shape[1:]))

    def __enter__(self) -> "ArrayFile":
        check_writable(self.path.parent, "out")
        self._file = self._open()
        try:
            self._resume()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        try:
            # Not after the end: then there is no part any more.
            if kind is not None and self._part.exists():
                # On a full disk older notes stay, and what went wrong is told already.
                with suppress(OSError):
                    self._note()
        finally:
            with suppress(OSError):
                self._file.close()

    def write(self, start: int, rows: np.ndarray) -> None:
        """Write some rows; from any thread.

        Parameters
        ----------
        start : int
            Where they begin.
        rows : ndarray of shape (n_rows, *shape[1:])
            The rows.
        """
        with self._lock, self._telling():
            self._file.seek(len(self._header) + start * self._row_bytes)
            self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).data)

    def finish_part(self, number: int, content: Any) -> None:
        """Note that a part is written.

        Parameters
        ----------
        number : int
            Which.
        content : object
            What is worth knowing of it, for JSON.
        """
        self.finished[number] = content
        if time.monotonic() - self._noted > _SECONDS_BETWEEN_NOTES:
            with self._telling():
                self._note()

    def complete(self, keep: np.ndarray) -> np.memmap:
        """Give the file its name.

        Parameters
        ----------
        keep : ndarray of int
            The rows that stay, in rising order.

        Returns
        -------
        array : memmap of shape (len(keep), *shape[1:])
            The array, for reading.
        """
        with self._lock, self._telling():
            if len(keep) < self.shape[0]:
                # From here on positions are others: an interrupted call starts again.
                self.finished = {}
                self._notes.unlink(missing_ok=True)
                self._compact(keep)
            self._file.seek(0)
            self._file.write(_header((len(keep), *self.shape[1:]), self.dtype))
            self._file.truncate(len(self._header) + len(keep) * self._row_bytes)
            self._file.flush()
            os.fsync(self._file.fileno())
            # Windows renames no open file.
            self._file.close()
            os.replace(self._part, self.path)
        self._notes.unlink(missing_ok=True)
        return np.load(self.path, mmap_mode="r")

    def _open(self) -> Any:
        """Open the part, and keep other processes out for as long as it is open."""
        while True:
            # Not truncated: it may hold finished parts, or be another process's.
            handle = os.open(self._part, os.O_RDWR | os.O_CREAT, 0o666)
            file = open(handle, "r+b")  # noqa: SIM115
            try:
                import fcntl
            except ImportError:  # Windows
                return file
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.close()
                raise BlockingIOError(
                    f"`out='{self.path}'` is being written by another process"
                ) from error
            except OSError:  # a file system without locks
                return file
            # The other process may just have finished, and renamed what was opened.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(self._part)):
                    return file
            file.close()

    def _resume(self) -> None:
        """Take over the parts of an earlier attempt that are still the same."""
        size = len(self._header) + self.shape[0] * self._row_bytes
        try:
            notes = read_json(self._notes)
            if notes["header"] == self._header.hex():
                for key, (digest, content) in notes["parts"].items():
                    number = int(key)
                    known = 0 <= number < len(self.digests)
                    if known and digest == self.digests[number]:
                        self.finished[number] = content
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            # No notes, or none that make sense.
            self.finished = {}
        present = os.fstat(self._file.fileno()).st_size
        if present != size:
            self.finished = {}
        self._check_space(size - present)
        self._file.truncate(size)
        if self._notes.exists():
            # Before parts that are not taken over are written over.
            self._note()

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise OSError(
                f"`out='{self.path}'` needs {needed / 1e9:.1f} GB more on its "
                f"disk, but only {free / 1e9:.1f} GB are free"
            )

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say of an error of the disk what it was that could not be written."""
        try:
            yield
        except OSError as error:
            raise OSError(
                error.errno,
                f"`out` cannot be written: {os.strerror(error.errno or 0)}; "
                "finished images are kept in a file next to it, and the next call "
                "resumes from there",
                os.fspath(self.path),
            ) from error

    def _note(self) -> None:
        """Store which parts are finished, after they are safe on the disk."""
        with self._lock:
            self._file.flush()
            os.fsync(self._file.fileno())
        parts = {n: (self.digests[n], content) for n, content in self.finished.items()}
        with atomic_path(self._notes, make_folder=False) as temporary:
            temporary.write_text(
                json.dumps({"header": self._header.hex(), "parts": parts})
            )
        self._noted = time.monotonic()

    def _compact(self, keep: np.ndarray) -> None:
        """Move the rows that stay together, from the front."""
        step = max(1, _COPY_BYTES // self._row_bytes)
        begin = len(self._header)
        for start in range(0, len(keep), step):
            chosen = keep[start : start + step]
            rows = []
            for run in np.split(chosen, np.flatnonzero(np.diff(chosen) != 1) + 1):
                self._file.seek(begin + int(run[0]) * self._row_bytes)
                rows.append(self._file.read(len(run) * self._row_bytes))
            self._file.seek(begin + start * self._row_bytes)
            self._file.write(b"".join(rows))


def with_notes(
    failed: dict[int, str], notes: dict[str, set[int]], places: Iterable[int]
) -> dict[Any, Any]:
    """Return what is worth knowing of a part of images, for `finish_part`.

    Parameters
    ----------
    failed : dict of int to str
        Why images could not be read, by position.
    notes : dict of str to set of int
        What was guessed or lost, and the places of the images; threads may add to it.
    places : iterable of int
        Those of the images of this part.

    Returns
    -------
    content : dict
        Both, for JSON: a call that resumes tells what an earlier one has met.
    """
    places = list(places)
    found = {
        text: [i for i in places if i in some] for text, some in list(notes.items())
    }
    told = {text: some for text, some in found.items() if some}
    return failed | {_TOLD: told} if told else dict(failed)


def take_notes(content: dict[Any, Any], notes: dict[str, set[int]]) -> dict[int, str]:
    """Return the failures of a finished part, and add its notes to the others.

    Parameters
    ----------
    content : dict
        What :func:`with_notes` returned, in this call or an earlier one.
    notes : dict of str to set of int
        Is added to.

    Returns
    -------
    failed : dict of int to str
        Why images could not be read, by position.
    """
    for text, some in content.get(_TOLD, {}).items():
        notes.setdefault(text, set()).update(some)
    # JSON has no keys but text.
    return {int(i): reason for i, reason in content.items() if i != _TOLD}


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Head of a `.npy` file: as long for any number of rows."""
    head = io.BytesIO()
    description = {
        "shape": shape,
        "fortran_order": False,
        "descr": np.lib.format.dtype_to_descr(dtype),
    }
    np.lib.format.write_array_header_1_0(head, description)
    return head.getvalue()
