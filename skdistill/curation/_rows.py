"""What the rows of a table say of their images, and where these are."""

import os
import re
from collections.abc import Hashable, Sequence
from numbers import Integral
from typing import Any

import pandas as pd

from skdistill.curation._sources import Bands, Sources
from skdistill.utils._frames import as_text, how_to_pass
from skdistill.utils._ids import exact_ids
from skdistill.utils._image_files import split_name
from skdistill.utils._plain import told

_PATH_COLUMNS = ("path", "file_loc")


def images_of_rows(
    rows: Any,
    path_column: str | Sequence[str] | None,
    images_dir: Any,
    id_column: str | None = None,
) -> tuple[pd.Index, list, bool]:
    """Return what names the image of each row.

    Parameters
    ----------
    rows : DataFrame or sequence
        As a user gave them to an ImageReader.
    path_column : str, sequence of str or None
        The column of paths; None looks for one.  Several have a band each.
    images_dir : path-like or None
        Folder of the images.
    id_column : str or None, default=None
        The column of ids that files are named after.

    Returns
    -------
    names : Index
        Names of the rows, for messages.
    values : list
        A path, bytes, a dict of these, an id, or a tuple of paths for each row.
    by_asset : bool
        Whether they are ids.

    Raises
    ------
    ValueError
        If there is no such column, ids without a folder, or ids that are none.
    TypeError
        If `rows` is neither a DataFrame nor a sequence of images.
    """
    if id_column is not None:
        if path_column is not None:
            raise ValueError(
                "`path_column` and `id_column` cannot be used together: files are "
                f"found by paths or by ids; got {path_column!r} and {id_column!r}"
            )
        return _ids_of_rows(rows, id_column, images_dir)
    if path_column is not None and not isinstance(path_column, str):
        return _bands_of_rows(rows, list(path_column))
    if isinstance(rows, pd.DataFrame):
        if path_column is None:
            candidates = [*_PATH_COLUMNS, "image", "asset_id"]
        else:
            candidates = [path_column]
        guess = path_column is None
        column = next((c for c in candidates if _has_images(rows, c, guess)), None)
        if column is None:
            raise ValueError(
                f"`path_column={path_column!r}` requires one of the columns "
                f"{candidates}; the columns of `rows` are {rows.columns.tolist()}. "
                "If the files are named by ids, use `id_column`"
            )
        by_asset = path_column is None and column == "asset_id"
        if by_asset and images_dir is None:
            raise ValueError(
                "`images_dir` must be the folder of the images if `rows` has "
                "`asset_id` but no paths; got None"
            )
        return rows.index, _values(rows, column), by_asset

    if how := how_to_pass(rows):
        raise TypeError(
            f"`rows` must be a DataFrame or a sequence; got {type(rows).__name__}{how}"
        )
    single = (str, bytes, dict, os.PathLike)
    if isinstance(rows, single) or not hasattr(rows, "__len__"):
        cure = "To read all images of a folder, pass their paths: "
        cure += "sorted(Path(folder).glob('**/*.png'))"
        if str(rows).lower().endswith((".csv", ".csv.gz", ".parquet")):
            cure = "Read the table with pandas first, or pass it to load_image_folder"
        raise TypeError(
            "`rows` must be a DataFrame or a sequence of paths; got "
            f"{type(rows).__name__}. {cure}"
        )
    values = _paths_or_content(list(rows))
    names = rows.index if isinstance(rows, pd.Series) else range(len(values))
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, single):
            raise TypeError(
                "`rows` must be a DataFrame or hold paths or images as bytes; "
                f"element {name!r} is a {type(value).__name__}"
            )
    return pd.Index(names), values, False


def _paths_or_content(values: list) -> list:
    """Return paths that came as bytes as text, unless they are more likely content.

    Without the name of a column only endings tell paths from what a server sent in
    place of an image: an error message.
    """
    texts = as_text(values)
    return texts if all(_is_like_a_file(text) for text in texts) else values


def _is_like_a_file(value: Any) -> bool:
    return not isinstance(value, str) or bool(re.search(r"\.\w+$", value))


def _values(rows: pd.DataFrame, column: str) -> list:
    """Return the values of a column, text that came as bytes as text."""
    found = rows[column]
    if isinstance(found, pd.DataFrame):
        raise ValueError(f"`rows` has the column {column!r} more than once")
    return as_text(found.tolist())


def _bands_of_rows(rows: Any, columns: list) -> tuple[pd.Index, list, bool]:
    """Return the files of the bands of each row."""
    if not isinstance(rows, pd.DataFrame):
        raise TypeError(
            f"`path_column={columns!r}` requires a DataFrame with a column for "
            f"each band; got {type(rows).__name__}{how_to_pass(rows)}"
        )
    missing = [name for name in columns if name not in rows.columns]
    if missing or not columns:
        raise ValueError(
            f"`path_column={columns!r}` must name a column for each band; "
            f"{missing} are not among {rows.columns.tolist()}"
        )
    if len(set(columns)) < len(columns):
        raise ValueError(f"`path_column={columns!r}` must not contain a column twice")
    values = [_values(rows, name) for name in columns]
    return rows.index, [Bands(v) for v in zip(*values, strict=True)], False


def _ids_of_rows(
    rows: Any, column: str, images_dir: Any
) -> tuple[pd.Index, list, bool]:
    """Return the ids that the files of the rows are named after."""
    if not isinstance(rows, pd.DataFrame):
        raise TypeError(
            f"`id_column={column!r}` requires a DataFrame; got "
            f"{type(rows).__name__}{how_to_pass(rows)}"
        )
    if images_dir is None:
        raise ValueError(
            "`images_dir` must be the folder of the images if "
            f"`id_column={column!r}`; got None"
        )
    ids = exact_ids(rows, column, "id_column")
    known = ids.dropna()
    if len(known) and split_name(known.iloc[0]) is not None:
        raise ValueError(
            f"`id_column={column!r}` must hold ids; the first value, "
            f"{told(known.iloc[0])}, is the name of a file: use "
            f"`path_column={column!r}` instead"
        )
    if not len(known) and len(ids):
        raise ValueError(f"`id_column={column!r}` has no id in any of {len(ids)} rows")
    return rows.index, ids.tolist(), True


def advise_column(path_column: Any, value: Any) -> str:
    """Say what to do about a number, or a name without ending, as a path."""
    is_name = isinstance(value, str) and not os.path.splitext(value)[1]
    is_id = is_name or isinstance(value, (Integral, float))
    if not isinstance(path_column, str) or not is_id or pd.isna(value):
        return ""
    return (
        f" If the values are ids, not paths, use `id_column={path_column!r}` and "
        "`images_dir` instead of `path_column`."
    )


def _has_images(rows: pd.DataFrame, column: str, guess: bool) -> bool:
    """Tell whether a column is there and, where that is a guess, holds images."""
    if column not in rows.columns:
        return False
    if column != "image" or not guess:
        return True
    # So is called what else is in the table of a survey, too.
    values = _values(rows, column)
    first = next((v for v in values if not isinstance(v, float)), None)
    return isinstance(first, (bytes, dict))


def locate_all(
    files: Sources, values: list, by_asset: bool
) -> tuple[list[tuple | None], dict[int, Exception]]:
    """Find the source of each row, and why those that have none have none."""
    # Looked up once per file, however often its row is repeated.
    known: dict[Any, tuple | Exception] = {}
    sources: list[tuple | None] = []
    missing: dict[int, Exception] = {}
    for i, value in enumerate(values):
        if isinstance(value, Bands) or not isinstance(value, Hashable):
            found = _locate(files, value, by_asset)
        else:
            if value not in known:
                known[value] = _locate(files, value, by_asset)
            found = known[value]
        if isinstance(found, tuple):
            sources.append(found)
        else:
            sources.append(None)
            missing[i] = found
    return sources, missing


def _locate(files: Sources, value: Any, by_asset: bool) -> tuple | Exception:
    try:
        if isinstance(value, Bands):
            return Bands(files.locate(band, by_asset) for band in value)
        return files.locate(value, by_asset)
    except (FileNotFoundError, ValueError) as error:
        return error
