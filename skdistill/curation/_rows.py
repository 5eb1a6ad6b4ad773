"""What the rows of a table say of their images, and where these are."""

import os
from collections.abc import Hashable, Sequence
from numbers import Integral
from typing import Any

import pandas as pd

from skdistill.curation._sources import Bands, Sources

_PATH_COLUMNS = ("path", "file_loc")


def images_of_rows(
    rows: Any, path_column: str | Sequence[str] | None, images_dir: Any
) -> tuple[pd.Index, list, bool]:
    """Return what names the image of each row.

    Parameters
    ----------
    rows : DataFrame or sequence
        As a user gave them to an ImageReader.
    path_column : str, sequence of str or None
        The column of paths; None looks for one.  Several have a band each.
    images_dir : path-like or None

    Returns
    -------
    names : Index
        Names of the rows, for messages.
    values : list
        A path, bytes, a dict of these, an asset id, or a tuple of paths for each row.
    by_asset : bool
        Whether they are asset ids.

    Raises
    ------
    ValueError
        If there is no such column, or asset ids without a folder.
    TypeError
        If `rows` is neither a DataFrame nor a sequence of images.
    """
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
                f"`path_column={path_column!r}` needs one of the columns "
                f"{candidates}; the columns of `rows` are "
                f"{rows.columns.tolist()}"
            )
        by_asset = path_column is None and column == "asset_id"
        if by_asset and images_dir is None:
            raise ValueError(
                "`images_dir` must name the folder of the images where `rows` has "
                "`asset_id` but no paths; got None"
            )
        return rows.index, rows[column].tolist(), by_asset

    single = (str, bytes, dict, os.PathLike)
    if isinstance(rows, single) or not hasattr(rows, "__len__"):
        raise TypeError(
            "`rows` must be a DataFrame or a sequence of paths; got "
            f"{type(rows).__name__}. For all images of a folder pass their paths: "
            "sorted(Path(folder).glob('**/*.png'))"
        )
    values = list(rows)
    names = rows.index if isinstance(rows, pd.Series) else range(len(values))
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, single):
            raise TypeError(
                "`rows` must hold paths, or images as bytes, where it is not a "
                f"DataFrame; element {name!r} is a {type(value).__name__}"
            )
    return pd.Index(names), values, False


def _bands_of_rows(rows: Any, columns: list) -> tuple[pd.Index, list, bool]:
    """Return the files of the bands of each row."""
    if not isinstance(rows, pd.DataFrame):
        raise TypeError(
            f"`path_column={columns!r}` needs a DataFrame with a column for each band; "
            f"got {type(rows).__name__}"
        )
    missing = [name for name in columns if name not in rows.columns]
    if missing or not columns:
        raise ValueError(
            f"`path_column={columns!r}` must name a column for each band; {missing} "
            f"are none of {rows.columns.tolist()}"
        )
    if len(set(columns)) < len(columns):
        raise ValueError(f"`path_column={columns!r}` has a column twice")
    values = [rows[name].tolist() for name in columns]
    return rows.index, [Bands(v) for v in zip(*values, strict=True)], False


def advise_column(path_column: Any, value: Any) -> str:
    """Say what to do about a number, or a name without ending, as a path."""
    is_name = isinstance(value, str) and not os.path.splitext(value)[1]
    if path_column is None or not (is_name or isinstance(value, Integral)):
        return ""
    cure = "leave `path_column` at None"
    if path_column != "asset_id":
        cure += f", and rows.rename(columns={{{path_column!r}: 'asset_id'}})"
    return (
        " Numbers, and names without the ending of a file, are read from a column "
        f"`asset_id`: {cure}."
    )


def _has_images(rows: pd.DataFrame, column: str, guess: bool) -> bool:
    """Tell whether a column is there and, where that is a guess, holds images."""
    if column not in rows.columns:
        return False
    if column != "image" or not guess:
        return True
    # So is called what else is in the table of a survey, too.
    first = next((v for v in rows[column] if not isinstance(v, float)), None)
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
