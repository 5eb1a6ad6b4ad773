"""Where the images of galaxies are: in a folder, or in a zip archive."""

import errno
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from skdistill.datasets._download import locked
from skdistill.utils._image_files import index_images, list_folders, the_one
from skdistill.utils._untrusted import errors_as_value_errors, max_unpacked

# What zipfile raises where an archive is damaged.
_DAMAGE = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError)


def image_paths(images_dir: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Find the images of a folder or an archive by the ids that they are named after.

    Parameters
    ----------
    images_dir : str or path-like
        A folder, of which direct sub-folders are searched, too, or a zip archive.

    Returns
    -------
    paths : dict of str to list of str
        Files of each id in its canonical form; `"{archive}!/{member}"` in an archive.

    Raises
    ------
    FileNotFoundError
        If there is neither a folder nor a file of that name.
    ValueError
        If the file is not a zip archive, or one with unsafe members.
    """
    place = os.fspath(images_dir)
    if os.path.isdir(place):
        return index_images(list_folders(place))
    if not os.path.isfile(place):
        raise FileNotFoundError(
            f"`images_dir` must be an existing folder or zip archive; got '{place}'"
        )
    with open_archive(place) as archive:
        _check_members(archive)
        index = index_images(m.filename for m in archive.infolist() if not m.is_dir())
    return {
        key: [f"{place}!/{name}" for name in members] for key, members in index.items()
    }


@contextmanager
def open_archive(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive.

    Parameters
    ----------
    path : str or path-like
        The archive.

    Yields
    ------
    archive : ZipFile
        The archive, to read from.

    Raises
    ------
    ValueError
        If the file is not a zip archive, or a damaged one.
    """
    with errors_as_value_errors(f"'{path}' is not a valid zip archive: {{error}}."):
        # Where the list of members is damaged, zipfile raises many errors.
        archive = zipfile.ZipFile(path)
    try:
        with archive:
            yield archive
    except _DAMAGE as error:
        raise ValueError(f"'{path}' is not a valid zip archive: {error}") from error


def image_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the images of an archive, if all of its members are safe.

    Parameters
    ----------
    archive : ZipFile
        An open archive.

    Returns
    -------
    members : list of ZipInfo
        The files that are named after a number.

    Raises
    ------
    ValueError
        If a member, image or not, would be outside of a folder that the archive is
        extracted to, is a link, needs a password, or is packed in another way than
        with deflate; or if a number has several images.
    """
    _check_members(archive)
    files = {m.filename: m for m in archive.infolist() if not m.is_dir()}
    chosen = []
    for key, names in index_images(files).items():
        # Identifiers have no more than 19 digits.
        if key.isascii() and key.isdecimal() and len(key) < 20:
            path, _ = the_one(names, key, str(archive.filename))
            chosen.append(files[path])
    return chosen


def _check_members(archive: zipfile.ZipFile) -> None:
    """Raise a ValueError unless all members of an archive are safe."""
    for member in archive.infolist():
        first, *others = member.filename.replace("\\", "/").split("/")
        if not first or ":" in first or ".." in (first, *others):
            problem = "a path outside the archive"
        elif stat.S_ISLNK(member.external_attr >> 16):
            problem = "a link"
        elif member.flag_bits & 1:
            problem = "encrypted"
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # The others of zipfile's unpack a piece of any size at once.
            problem = "compressed by an unsupported method"
        else:
            continue
        raise ValueError(
            f"'{archive.filename}' must be an archive of images only; its member "
            f"{member.filename!r} is {problem}"
        )


def extract_images(
    archive_path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    progress: bool = False,
) -> None:
    """Extract the images of a zip archive, each as `{number}{suffix}`.

    The folder takes its name when it is complete; what an interrupted call extracted
    is not extracted again.  Of several processes one extracts, the others wait for it.

    Parameters
    ----------
    archive_path : str or path-like
        The archive.
    folder : str or path-like
        Where to put the images.  If it exists nothing is done.
    progress : bool, default=False
        Whether to show a progress bar.

    Raises
    ------
    ValueError
        If the archive or one of its images is damaged, or a member is unsafe.
    OSError
        If the images do not fit on the disk.
    """
    folder = Path(folder)
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder, verbose=progress):
        if not folder.is_dir():
            _extract(archive_path, folder, progress)


def _extract(path: str | os.PathLike[str], folder: Path, progress: bool) -> None:
    unfinished = folder.with_name(f"{folder.name}.part")
    unfinished.mkdir(exist_ok=True)
    with open_archive(path) as archive:
        todo = []
        for member in image_members(archive):
            # The name is made again: nothing of the archive's own path is used.
            target = unfinished / PurePosixPath(member.filename).name
            if not target.exists() or target.stat().st_size != member.file_size:
                todo.append((member, target))
        size = sum(member.file_size for member, _ in todo)
        # Images hardly shrink.
        limit = max_unpacked(os.path.getsize(path))
        if size > limit:
            raise ValueError(
                f"The images in '{path}' declare {size} bytes; an archive of this "
                f"size can have at most {limit}"
            )
        free = shutil.disk_usage(unfinished).free
        if size > free:
            raise OSError(
                f"The images in '{path}' need {size / 1e9:.1f} GB; only "
                f"{free / 1e9:.1f} GB are free in '{unfinished}'"
            )
        temporary = unfinished / "unfinished"
        for member, target in tqdm(todo, folder.name, unit="", disable=not progress):
            try:
                with archive.open(member) as source, temporary.open("wb") as file:
                    shutil.copyfileobj(source, file)
            except (*_DAMAGE, ValueError, OSError) as error:
                # zipfile seeks wherever the archive says: that is no fault of the disk.
                if isinstance(error, OSError) and error.errno != errno.EINVAL:
                    raise
                raise ValueError(
                    f"'{path}' is damaged at {member.filename!r}: {error}"
                ) from error
            os.replace(temporary, target)
    temporary.unlink(missing_ok=True)
    # One for all: after a power cut no empty file must be found in the folder.
    if hasattr(os, "sync"):
        os.sync()
    os.replace(unfinished, folder)
