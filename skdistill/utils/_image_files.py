"""Image files that are named after an id: one way to find them, for all who look."""

import os
from collections.abc import Iterable, Iterator

from skdistill.utils._ids import canonical_id

#: Endings of image files, in order of preference should an image be there in several.
SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"),
    *(".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.fz"),
)
# What people have instead, for messages.
OTHER_SUFFIXES = (".npy", ".npz", ".gif", ".bmp", ".pt", ".h5")


def split_name(path: str) -> tuple[str, str, str] | None:
    """Split the path of an image file.

    Parameters
    ----------
    path : str
        Path of a file, or of a member of an archive.

    Returns
    -------
    parts : (folder, stem, suffix) or None
        None if it does not end as images do.
    """
    start = max(path.rfind("/"), path.rfind(os.sep)) + 1
    name = path[start:].lower()
    end = next((e for e in SUFFIXES if name.endswith(e)), None)
    if end is None or len(name) == len(end):
        return None
    return path[:start], path[start : len(path) - len(end)], end


def index_images(paths: Iterable[str]) -> dict[str, list[str]]:
    """Sort image files by the ids that they are named after.

    Parameters
    ----------
    paths : iterable of str
        Paths of files.

    Returns
    -------
    index : dict of str to list of str
        The files of each id in its canonical form: `1.jpg` and `0001.png` are of "1".
    """
    index: dict[str, list[str]] = {}
    for path in paths:
        parts = split_name(path)
        if parts is not None:
            stem = parts[1]
            # Most by far are numbers as they should be.
            plain = stem.isascii() and stem.isdecimal() and stem[0] != "0"
            key = stem if plain else canonical_id(stem)
            if key is not None:
                index.setdefault(key, []).append(path)
    return index


def the_one(paths: list[str], key: str, place: str) -> tuple[str, bool]:
    """Return the one image of an id, or refuse to choose.

    Parameters
    ----------
    paths : list of str
        Its files.
    key : str
        The id.
    place : str
        Where the files are, for the error.

    Returns
    -------
    path : str
        The file. Of files that differ in their ending alone, the first of `SUFFIXES`.
    chosen : bool
        Whether there were others.

    Raises
    ------
    ValueError
        If the files are in several folders, or named in several ways.
    """
    if len(paths) == 1:
        return paths[0], False
    parts = [split_name(path) for path in paths]
    if len({part[:2] for part in parts if part is not None}) > 1:
        some = f"{sorted(paths)[:5]}{' and more' if len(paths) > 5 else ''}"
        raise ValueError(f"{place!r} has several files of {key!r}: {some}")
    ranks = [SUFFIXES.index(part[2]) for part in parts if part is not None]
    return paths[ranks.index(min(ranks))], True


def several_endings(n_images: int, example: str, place: str) -> str:
    """Return what to warn of where :func:`the_one` had to choose.

    Parameters
    ----------
    n_images : int
        For how many images.
    example : str
        The first file that was taken.
    place : str
        Where the files are.

    Returns
    -------
    message : str
        The message.
    """
    return (
        f"{n_images} images exist with several extensions in {place!r}; the first of "
        f"{', '.join(SUFFIXES)} is used, such as {example!r}. To use others, name the "
        "files in a column `path`."
    )


def list_folders(place: str) -> Iterator[str]:
    """Yield the files of a folder and of each of its direct sub-folders.

    Parameters
    ----------
    place : str
        The folder.

    Yields
    ------
    path : str
        A file, in the order of the names; one listing for each folder.
    """
    names = sorted(os.listdir(place))
    yield from (os.path.join(place, name) for name in names)
    for name in names:
        # A look at each of 243,434 names with a suffix would take seconds.
        folder = os.path.join(place, name)
        if "." not in name and os.path.isdir(folder):
            yield from (os.path.join(folder, n) for n in sorted(os.listdir(folder)))
