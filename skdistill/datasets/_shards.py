"""Tables in several files, as on a hub: `train-00000-of-00002.parquet` and the rest."""

import glob
import os
import re
from collections.abc import Sequence

import pandas as pd

from skdistill.datasets._tables import column_names, read_table
from skdistill.utils._warnings import warn

_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.parquet", re.IGNORECASE)


def is_pattern(path: str) -> bool:
    """Say whether a path stands for several files."""
    return "*" in os.path.basename(path) and not os.path.exists(path)


def matching(pattern: str) -> list[str]:
    """Return the files of a pattern: all parts of a table, if they are such."""
    folder, name = os.path.split(pattern)
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), name)))
    if not paths:
        raise FileNotFoundError(
            f"`path` must match one or more tables; {pattern!r} matches none"
        )
    _check_complete(paths)
    return paths


def patterns(folder: str, names: Sequence[str]) -> list[str]:
    """Return the patterns of the tables in a folder, if all are parts of tables."""
    found = [_NAME.fullmatch(name) for name in names]
    stems = [match[1] for match in found if match]
    if len(stems) < len(names):
        return []
    return [os.path.join(folder, f"{stem}-*.parquet") for stem in sorted(set(stems))]


def tell_of_others(path: str) -> None:
    """Warn if a table is one part of several."""
    folder, name = os.path.split(path)
    match = _NAME.fullmatch(name)
    if match and int(match[3]) > 1:
        pattern = os.path.join(folder, f"{match[1]}-*.parquet")
        warn(
            f"{path!r} is one of {int(match[3])} parts: use `path`={pattern!r} to "
            "read all"
        )


def read_shards(paths: Sequence[str], ids: Sequence[str]) -> pd.DataFrame:
    """Return the rows of several tables, one after the other.

    Parameters
    ----------
    paths : sequence of str
        One or more files.
    ids : sequence of str
        As of :func:`read_table`.

    Returns
    -------
    frame : DataFrame
        With a RangeIndex.
    """
    frames = [read_table(path, "path", ids, joined=False) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if set(frame.columns) != set(frames[0].columns):
            raise ValueError(
                f"`path`: tables must have the same columns to be joined; {path!r} has "
                f"{column_names(frame)}, {paths[0]!r} {column_names(frames[0])}"
            )
    return pd.concat(frames, ignore_index=True)


def _check_complete(paths: Sequence[str]) -> None:
    """Raise an error if some parts of a table are there, and others are not."""
    found: dict[tuple[str, int], set[int]] = {}
    for path in paths:
        match = _NAME.fullmatch(os.path.basename(path))
        if match:
            found.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    for (stem, total), numbers in found.items():
        missing = sorted(set(range(total)) - numbers)
        if missing:
            raise FileNotFoundError(
                f"`path` must have all parts of a table; {len(missing)} of {total} are "
                f"missing, the first '{stem}-{missing[0]:05d}-of-{total:05d}.parquet'"
            )
