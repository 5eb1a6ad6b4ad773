"""What is in a folder of images, or in a table of them: files and their classes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skdistill.curation._rows import locate_all
from skdistill.curation._sources import Sources, path_of
from skdistill.datasets._image_table import (
    ENDINGS,
    choose_columns,
    classes_of,
    is_image_name,
    tell_of_parts,
)
from skdistill.datasets._shards import (
    is_pattern,
    matching,
    patterns,
    read_shards,
    tell_of_others,
)
from skdistill.datasets._tables import read_table
from skdistill.utils._files import expand_path
from skdistill.utils._frames import how_to_pass, is_polars
from skdistill.utils._image_files import list_folders, several_endings
from skdistill.utils._warnings import warn

_TABLES = (".csv", ".csv.gz", ".parquet")
# What parts of a data set are called, which are no classes.
_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}
_NO_FILES = ("thumbs.db", "desktop.ini", "__macosx")
_N_NAMED = 5


@dataclass
class Entries:
    """Images and their classes, before anything is read."""

    files: Sources
    # A path, bytes or an id for each.
    values: list
    by_id: bool
    classes: np.ndarray
    missing: np.ndarray
    # Of rows of a table, for messages; empty where the paths say all.
    names: list[str]
    frame: pd.DataFrame
    # What messages call the table.
    table: str = "the table"

    @property
    def n_images(self) -> int:
        """How many there are."""
        return len(self.values)

    def locate(self, skip: bool) -> tuple[list[tuple | None], dict[int, Exception]]:
        """Find the source of each image, and say why others have none.

        With `skip` those are no error.
        """
        sources, missing = locate_all(self.files, self.values, self.by_id)
        if self.files.chosen:
            warn(
                several_endings(
                    len(self.files.chosen), self.files.chosen[0], self.files.folder
                )
            )
        elsewhere = _Elsewhere(self.files.folder)
        moved = []
        failures: dict[int, Exception] = {}
        for i, error in missing.items():
            value = self.values[i]
            found = elsewhere.find(value) if not self.by_id else None
            if isinstance(found, str):
                sources[i] = (found, None)
                moved.append((value, found))
            else:
                start = f"{self.names[i]}: " if self.names else ""
                error = found or error
                failures[i] = type(error)(f"{start}{error}")
        if moved and (skip or not failures):
            warn(
                f"{len(moved)} of {self.n_images} files were found in a sub-folder, "
                f"or with different capitalization; the first, {moved[0][0]!r}, as "
                f"{moved[0][1]!r}."
            )
        self._check_repeated(sources)
        return sources, failures

    def _check_repeated(self, sources: list[tuple | None]) -> None:
        """Reject a file in two classes, and warn about one that occurs more than once.

        Files are compared as they were found: `a.png`, `./a.png` and a link to it are
        the same.
        """
        first: dict[str, int] = {}
        again = []
        for i, source in enumerate(sources):
            path = path_of(source)
            if self.missing[i] or path is None:
                continue
            is_link = os.path.islink(path)
            key = os.path.realpath(path) if is_link else os.path.abspath(path)
            earlier = first.setdefault(key, i)
            if earlier == i:
                continue
            again.append(i)
            if self.classes[earlier] != self.classes[i]:
                raise ValueError(
                    f"{self._name(i, path)} has the class {self.classes[i].item()!r}, "
                    f"{self._name(earlier, path_of(sources[earlier]))} has "
                    f"{self.classes[earlier].item()!r}: each image must have one class"
                )
        if again:
            path = path_of(sources[again[0]])
            cure = (
                " Use table.drop_duplicates() to keep each once." if self.names else ""
            )
            warn(
                f"{len(again)} of {self.n_images} images have the same file as an "
                f"earlier one, the first {self._name(again[0], path)}: the image is "
                f"repeated in the result.{cure}"
            )

    def _name(self, i: int, path: str | None) -> str:
        return f"{self.names[i]} ({path!r})" if self.names else repr(path)

    def without_class(self) -> dict[int, str]:
        """Say which images have no class."""
        hint = ""
        if ".csv" in self.table:
            hint = (
                ", or one that pandas takes for a missing value, such as 'NA' or "
                "'None': to keep these, pass pandas.read_csv(path, "
                "keep_default_na=False)"
            )
        return {
            int(i): f"{self.names[i]} has no class{hint}"
            for i in np.flatnonzero(self.missing)
        }


class _Elsewhere:
    """Files by their names alone, in a folder and its direct sub-folders."""

    def __init__(self, folder: str):
        self._folder = folder or "."
        self._index: dict[str, list[str]] | None = None

    def find(self, value: Any) -> str | ValueError | None:
        """Return the one file of a name that was not where the table says."""
        if not isinstance(value, (str, os.PathLike)):
            return None
        name = os.fspath(value).strip().replace("\\", "/")
        straight = os.path.join(self._folder, name)
        if os.path.isfile(straight):
            return straight
        base = name.rpartition("/")[2].lower()
        paths = self._listed().get(base, [])
        # The folders that the table names stay; only what is above them may differ.
        paths = [p for p in paths if _ends_alike(p, name)]
        if len(paths) > 1:
            return ValueError(
                f"{self._folder!r} has several files of {name!r}: {paths[:_N_NAMED]}"
            )
        return paths[0] if paths else None

    def _listed(self) -> dict[str, list[str]]:
        if self._index is None:
            self._index = {}
            if os.path.isdir(self._folder):
                for path in list_folders(self._folder):
                    base = os.path.basename(path).lower()
                    if base.endswith(ENDINGS):
                        self._index.setdefault(base, []).append(path)
        return self._index


def _ends_alike(path: str, name: str) -> bool:
    path = path.replace(os.sep, "/").lower()
    return path.endswith("/" + name.lower().removeprefix("./").lstrip("/"))


def find_entries(
    path: Any, images_dir: Any, file_column: str | None, class_column: str | None
) -> Entries:
    """Find the images that a user means.

    Parameters
    ----------
    path : path-like or DataFrame
        A folder or a table.
    images_dir : path-like or None
        Where the files of a table are.
    file_column, class_column : str or None
        Columns of a table.

    Returns
    -------
    entries : Entries
        One for each image; one or more.
    """
    if isinstance(path, pd.DataFrame) or is_polars(path):
        return _of_table(path, "the table", "", images_dir, file_column, class_column)
    how = how_to_pass(path)
    if how or isinstance(path, (list, tuple, np.ndarray, dict)):
        how = how or (
            ". For Pillow images use from_pil_images, for a list of paths "
            "ImageReader().transform"
        )
        raise TypeError(
            "`path` must be a folder or a table of files and classes; got a "
            f"{type(path).__name__}{how}"
        )
    place = expand_path(path, "path")
    columns = (images_dir, file_column, class_column)
    if is_pattern(place):
        return _of_table(place, repr(place), os.path.dirname(place), *columns)
    if os.path.isfile(place):
        if place.lower().endswith(".zip"):
            raise ValueError(
                f"`path` must be a folder or a table; got the archive {place!r}. "
                "Extract it, or pass a table of its files, with `images_dir`"
            )
        tell_of_others(place)
        return _of_table(place, repr(place), os.path.dirname(place), *columns)
    if not os.path.isdir(place):
        raise FileNotFoundError(
            f"`path` must be an existing folder or table; {place!r} does not exist"
        )
    names = [n for n in sorted(os.listdir(place)) if not _is_hidden(n)]
    folders = [n for n in names if os.path.isdir(os.path.join(place, n))]
    tables = [n for n in names if n.lower().endswith(_TABLES) and n not in folders]
    loose = [n for n in names if n.lower().endswith(ENDINGS) and n not in folders]
    wants_table = file_column is not None or class_column is not None
    parts = patterns(place, tables)
    if len(parts) > 1 and len(folders) < 2:
        raise ValueError(
            f"`path`: {place!r} has several tables; pass one of {parts[:_N_NAMED]}"
        )
    if parts and len(tables) > 1:
        tables = [os.path.basename(parts[0])]
    if "data" in folders and {*folders} <= {"data", "card_images"} and not tables:
        # As data sets lie in a repository of a hub.
        inner = os.path.join(place, "data")
        if any(name.endswith(_TABLES) for name in os.listdir(inner)):
            return find_entries(inner, *columns)
    if len(tables) == 1 and (wants_table or loose or len(folders) < 2):
        table = os.path.join(place, tables[0])
        if not wants_table:
            warn(
                f"{place!r} has fewer than two class folders, or images outside them: "
                f"the classes are taken from {table!r}. Pass the path of that table "
                "to confirm this."
            )
        return _of_table(table, repr(table), place, *columns)
    given = {
        "images_dir": images_dir,
        "file_column": file_column,
        "class_column": class_column,
    }
    useless = [f"`{name}`" for name, value in given.items() if value is not None]
    if useless:
        raise ValueError(
            f"{' and '.join(useless)} are for a table of files and classes; `path` is "
            f"the folder {place!r}, "
            + (f"with several tables, {tables}" if tables else "without a table")
        )
    return _of_folders(place, folders, loose, tables)


def _of_folders(
    place: str, folders: list[str], loose: list[str], tables: list[str]
) -> Entries:
    """Entries of a folder with a folder for each class."""
    paths: list[str] = []
    classes: list[str] = []
    others: list[str] = []
    empty: list[str] = []
    for folder in folders:
        found: list[str] = []
        for path in _walk(os.path.join(place, folder)):
            (found if path.lower().endswith(ENDINGS) else others).append(path)
        if not found:
            empty.append(folder)
        paths += found
        classes += [folder] * len(found)
    with_images = sorted(set(classes))
    hint = (
        f". It has tables, {tables[:_N_NAMED]}, which can be passed instead"
        if tables
        else ""
    )
    if not paths:
        arrays = [p for p in others if is_image_name(p)]
        what = (
            f"{len(loose)} images, the first {loose[0]!r}, but no class folders"
            if loose
            else "no images in class folders"
        )
        if others:
            odd = arrays or others
            why = (
                "which are no images"
                if arrays
                else "whose extensions are not supported"
            )
            what += f", but {len(odd)} files such as {odd[0]!r}, {why}"
        raise ValueError(
            f"`path` must be a folder with one folder of images per class; {place!r} "
            f"has {what}{hint}"
        )
    if len(with_images) > 1 and {name.lower() for name in with_images} <= _PARTS:
        deeper = os.path.join(place, with_images[0])
        raise ValueError(
            f"`path` must be a folder with one folder per class; {place!r} has the "
            f"parts of a data set, {with_images}. Load them separately, starting with "
            f"{deeper!r}"
        )
    if len(with_images) == 1 and not loose:
        _refuse_wrapper(os.path.join(place, with_images[0]), paths)
    inner = _common_folders(place, paths)
    if len(with_images) > 1 and len(inner) > 1:
        warn(
            f"The classes are the folders in {place!r}, {with_images[:_N_NAMED]}, each "
            f"of which has the folders {inner[:_N_NAMED]}. If these are the classes, "
            f"load each folder separately, starting with "
            f"{os.path.join(place, with_images[0])!r}"
        )
    if tables:
        warn(
            f"{tables[:_N_NAMED]} in {place!r} are not read: the classes are taken "
            "from the folders. To use a table instead, pass its path."
        )
    if empty:
        warn(
            f"{len(empty)} folders in {place!r} have no images and are not treated as "
            f"classes: {empty[:_N_NAMED]}"
        )
    if loose:
        warn(
            f"{len(loose)} images in {place!r} are not in a class folder and are left "
            f"out; the first is {loose[0]!r}"
        )
    if others:
        warn(
            f"{len(others)} files in {place!r} do not have the extension of an image "
            f"and are left out; the first is {others[0]!r}"
        )
    foreign = [name for name in with_images if not _is_unicode(name)]
    if foreign:
        raise ValueError(
            f"`path`: the class folders in {place!r} must have names in UTF-8, which "
            f"become labels; rename {os.fsencode(foreign[0])!r}"
        )
    # pandas' text is of Unicode, names of files need not be.
    kind = None if all(map(_is_unicode, paths)) else object
    frame = pd.DataFrame({"file": pd.Series(paths, dtype=kind), "class": classes})
    return Entries(
        # Paths begin with the folder already.
        files=Sources(""),
        values=paths,
        by_id=False,
        classes=np.array(classes),
        missing=np.zeros(len(paths), dtype=bool),
        names=[],
        frame=frame,
    )


def _common_folders(place: str, paths: list[str]) -> list[str]:
    """Return the folders of images in each class, if they are the same in all."""
    found: dict[str, set[str]] = {}
    for path in paths:
        folder, *rest = os.path.relpath(path, place).split(os.sep)
        found.setdefault(folder, set()).add(rest[0] if len(rest) > 1 else "")
    first, *others = found.values()
    if "" in first or any(other != first for other in others):
        return []
    return sorted(first)


def _refuse_wrapper(folder: str, paths: list[str]) -> None:
    """Raise a ValueError if the only class is a folder of folders of classes."""
    if any(os.path.dirname(path) == folder for path in paths):
        return
    folders = sorted({os.path.relpath(path, folder).split(os.sep)[0] for path in paths})
    if len(folders) > 1:
        raise ValueError(
            "`path` must be a folder with one folder per class; it has a single "
            f"folder, which contains {len(folders)} folders of images, "
            f"{folders[:_N_NAMED]}: pass {folder!r} if these are the classes"
        )


def _is_unicode(name: str) -> bool:
    """Tell whether a name is text, and no bytes that are text in another encoding."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _NO_FILES


def _walk(folder: str) -> Iterator[str]:
    """Yield the files below a folder, hidden ones aside, links to folders followed."""
    seen = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in sorted(names):
            if not _is_hidden(name):
                yield os.path.join(here, name)


def _of_table(
    table: Any,
    source: str,
    folder: str,
    images_dir: Any,
    file_column: str | None,
    class_column: str | None,
) -> Entries:
    """Entries of a table of files and classes."""
    # Files may be named after ids, which must be read exactly.
    ids = () if file_column is None else (file_column,)
    if isinstance(table, str) and is_pattern(table):
        frame = read_shards(matching(table), ids)
    else:
        frame = read_table(table, "path", ids, joined=False)
    if not len(frame):
        raise ValueError(f"{source} must have at least one row; got 0")
    files_in, classes_in = choose_columns(frame, file_column, class_column, source)
    tell_of_parts(frame, (files_in, classes_in), _PARTS, source)
    classes, lacking = classes_of(frame[classes_in])
    values = frame[files_in].tolist()
    values = [v.strip() if isinstance(v, str) else v for v in values]
    known = [v for v in values if isinstance(v, (str, os.PathLike, bytes, dict))]
    # Text without the ending of an image is an id that the file is named after.
    by_id = not any(isinstance(v, (bytes, dict)) or is_image_name(v) for v in known)
    place = folder if images_dir is None else expand_path(images_dir, "images_dir")
    if images_dir is not None and not os.path.exists(place.partition("!/")[0]):
        raise FileNotFoundError(
            f"`images_dir` must be an existing folder or zip archive; got {place!r}"
        )
    rows = [f"Row {name!r}" for name in frame.index.tolist()]
    files = Sources(place)
    if images_dir is None and folder and not by_id:
        # Paths that start from the working directory, as other programs write them.
        texts = [v for v in known if isinstance(v, (str, os.PathLike))]
        here = [os.path.isfile(os.path.join(place, v)) for v in texts[:100]]
        there = [os.path.isfile(v) for v in texts[:100]]
        if not any(here) and any(there):
            files = Sources("")
    return Entries(files, values, by_id, classes, lacking, rows, frame, source)
