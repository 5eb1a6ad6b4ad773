"""Find the files that rows of a table name: on disk, in archives, in the table."""

import os
import posixpath
import threading
import zipfile
from typing import Any

import pandas as pd

from skdistill.curation._decode import MAX_BYTES
from skdistill.utils._ids import canonical_id
from skdistill.utils._image_files import (
    OTHER_SUFFIXES,
    SUFFIXES,
    index_images,
    list_folders,
    the_one,
)
from skdistill.utils._untrusted import errors_as_value_errors, max_unpacked

# Between the path of an archive and that of a member.
_BORDER = "!/"


class Bands(tuple):
    """What there is of one image for each band: values of a table, or sources."""


def path_of(source: tuple | None) -> str | None:
    """Path of a source, with that of the member; None for bytes from a table.

    Where each band has a file, it is that of the first.
    """
    if isinstance(source, Bands):
        return path_of(source[0])
    path, member = source or (None, None)
    return path if path is None or member is None else f"{path}{_BORDER}{member}"


def describe(source: tuple | None) -> str:
    """Name a source in a message."""
    if isinstance(source, Bands):
        return " and ".join(map(describe, source))
    path = path_of(source)
    return "an image in the table" if path is None else repr(path)


class Sources:
    """The files of an `ImageReader`, opened when they are needed.

    A source is what `locate` returns: `(path, None)`, `(archive, member)` or
    `(None, content)`.

    Parameters
    ----------
    folder : str
        Folder, archive, or `{archive}!/{folder in it}` that relative paths start from.
    """

    def __init__(self, folder: str):
        self.folder = folder
        self._archives: dict[str, zipfile.ZipFile] = {}
        # Images by the ids that they are named after; listed when it is needed.
        self._index: dict[str, list[str]] | None = None
        #: Files that were taken although there are others with another ending.
        self.chosen: list[str] = []
        self._lock = threading.Lock()
        self._archive: str | None = None
        # A folder in the archive, with its slash.
        self._inner = ""
        split = None if os.path.isdir(folder) else self._split(folder)
        if split is not None:
            self._archive, inner = split
            self._inner = inner.rstrip("/") + "/" if inner.rstrip("/") else ""

    def close(self) -> None:
        """Close the archives."""
        for archive in self._archives.values():
            archive.close()

    def locate(self, value: Any, by_asset: bool) -> tuple:
        """Find the file that a value of a table stands for.

        Parameters
        ----------
        value : str, path-like, bytes, dict with "bytes" and "path", or asset id
            What the table says.
        by_asset : bool
            Whether it is an asset id, of a file `{value}.jpg` or of another ending.

        Returns
        -------
        source : tuple
            The source, for `read`.

        Raises
        ------
        FileNotFoundError
            If there is no such file or member.
        ValueError
            If the value is nothing of the kind.
        """
        if isinstance(value, dict):
            content = value.get("bytes")
            value = value.get("path") if content is None else content
        if isinstance(value, (bytes, bytearray, memoryview)):
            return None, bytes(value)
        if by_asset:
            if pd.isna(value):
                raise ValueError(f"{value!r} is not an id")
            return self._locate_asset(value)
        if not isinstance(value, (str, os.PathLike)):
            raise ValueError(f"{value!r} is not a path")
        return self._locate_path(os.path.expanduser(os.fspath(value)))

    def read(self, source: tuple) -> bytes:
        """Read a whole file.

        Parameters
        ----------
        source : tuple
            What `locate` returned.

        Returns
        -------
        content : bytes
            Its bytes.
        """
        path, member = source
        if path is None:
            return member
        if member is None:
            # Without a buffer: the whole is read in one call.
            with open(path, "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size > MAX_BYTES:
                    raise ValueError(f"it has more than {MAX_BYTES} bytes")
                return file.readall()
        archive = self._open(path)
        info = archive.getinfo(member)
        if info.flag_bits & 1:
            raise ValueError("the member of the archive is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # The others of zipfile's unpack a piece of any size at once.
            raise ValueError(
                "the member of the archive has an unsupported compression method"
            )
        limit = min(MAX_BYTES, max_unpacked(info.compress_size))
        if info.file_size > limit:
            raise ValueError(f"it has {info.file_size} bytes, more than {limit}")
        return archive.read(info)

    def stamp(self, source: tuple) -> str:
        """Tell in a short text what changes when a file does.

        Parameters
        ----------
        source : tuple
            What `locate` returned.

        Returns
        -------
        stamp : str
            Name, size and time of the last change; for an archive also the checksum of
            the member; for bytes from the table the content itself.
        """
        if isinstance(source, Bands):
            return "\n".join(map(self.stamp, source))
        path, member = source
        if path is None:
            return member.hex()
        if member is not None:
            info = self._open(path).getinfo(member)
            return f"{path}{_BORDER}{member} {info.CRC} {info.file_size}"
        status = os.stat(path)
        return f"{path} {status.st_size} {status.st_mtime_ns}"

    def _locate_path(self, path: str) -> tuple:
        if self._archive is not None and not os.path.isabs(path):
            member = posixpath.normpath(posixpath.join(self._inner, path))
            if member in self._open(self._archive).NameToInfo:
                return self._archive, member
            raise FileNotFoundError(f"{self.folder!r} has no file {path!r}")
        path = path if self._archive is not None else os.path.join(self.folder, path)
        if os.path.isfile(path):
            return path, None
        split = self._split(path)
        if split is None:
            is_folder = os.path.isdir(path)
            raise FileNotFoundError(
                f"{path!r} is a folder, not a file"
                if is_folder
                else f"{path!r} does not exist"
            )
        archive, member = split
        if member not in self._open(archive).NameToInfo:
            raise FileNotFoundError(f"{archive!r} has no file {member!r}")
        return archive, member

    def _locate_asset(self, asset: Any) -> tuple:
        # A column of integers with gaps is read as float.
        key = canonical_id(asset)
        stem = str(asset) if key is None else key
        if self._index is None:
            self._index = self._list_images()
        paths = self._index.get(stem)
        if paths is None:
            place = self.folder if self._archive is None else None
            expected = os.path.join(place or "", stem + SUFFIXES[0])
            others = [] if place is None else self._others(os.path.join(place, stem))
            raise FileNotFoundError(
                f"{expected!r} does not exist"
                + (f" in {self.folder!r}" if place is None else "")
                + (
                    f"; found {others}, which is not a supported image format"
                    if others
                    else ""
                )
            )
        path, had_others = the_one(paths, stem, self.folder or ".")
        if had_others:
            self.chosen.append(path)
        return (path, None) if self._archive is None else (self._archive, path)

    def _list_images(self) -> dict[str, list[str]]:
        if self._archive is None:
            if not os.path.isdir(self.folder or "."):
                return {}
            return index_images(list_folders(self.folder or "."))
        # The published archive has its images in a folder.
        members = self._open(self._archive).namelist()
        return index_images(m for m in members if m.startswith(self._inner))

    def _others(self, stem: str) -> list[str]:
        others = [stem + ending for ending in OTHER_SUFFIXES]
        return [os.path.basename(path) for path in others if os.path.isfile(path)]

    def _split(self, path: str) -> tuple[str, str] | None:
        """Archive and member of a path; None where no part of it is a file."""
        if os.path.isfile(path):
            return path, ""
        start = path.find(_BORDER)
        while start >= 0:
            if os.path.isfile(path[:start]):
                return path[:start], path[start + len(_BORDER) :]
            start = path.find(_BORDER, start + 1)
        return None

    def _open(self, path: str) -> zipfile.ZipFile:
        with self._lock:
            if path not in self._archives:
                # Where the list of members is damaged, zipfile raises many errors.
                with errors_as_value_errors(
                    f"{path!r} is not a zip archive, or is damaged: {{error}}"
                ):
                    self._archives[path] = zipfile.ZipFile(path)
            return self._archives[path]
