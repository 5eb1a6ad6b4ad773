"""Objects that a table has twice, and that must not be in training and test set."""

from typing import Any

import numpy as np
import pandas as pd

from skdistill.utils._ids import (
    BRICKS,
    PATHS,
    Ids,
    is_id_name,
    object_ids,
    plain_name,
)
from skdistill.utils._positions import same_positions

# Values of a row, other than 0 and 1, that two objects do not share by chance.
_N_TELLING = 6
# Numbers of rows, as likely as of objects: no proof that two rows are of one.
_ROW_NUMBERS = ("id", "index")


def object_ranks(
    table: pd.DataFrame, id_column: Any = None
) -> tuple[np.ndarray, list[str]]:
    """Rank the objects of a table by their ids; rows of one object have one rank.

    Rows without an id are objects of their own, behind the others, unless they have the
    same numbers as another row throughout.

    Parameters
    ----------
    table : DataFrame
        One row per object or per image of one.
    id_column : str, sequence of str or None, default=None
        As in :func:`~skdistill.utils._ids.object_ids`.

    Returns
    -------
    ranks : ndarray of shape (n_rows,), dtype int64
        The ranks.
    notes : list of str
        What was guessed, for warnings.
    """
    ids = object_ids(table, id_column)
    if ids is None:
        notes = [
            "No column of the table has the name of an id, such as 'objid': its index "
            "is used as the id. Use `id_column` to name the right column, or pass "
            "'index' to confirm this."
        ]
        if table.index.is_unique:
            ids = object_ids(table, "index")
        ranks = np.arange(len(table)) if ids is None else ids.ranks()
        unknown = np.ones(len(table), dtype=bool)
    else:
        notes = list(ids.notes)
        ranks = ids.ranks()
        unknown = ids.values.isna().to_numpy()
    if not unknown.any():
        return ranks, notes
    names = telling_rows(table)
    known = names.notna().to_numpy()
    if known.any():
        lowest = pd.Series(ranks).groupby(names.to_numpy()).transform("min").to_numpy()
        same = unknown & known & (lowest != ranks)
        if same.any():
            notes.append(
                f"{int(same.sum())} rows without an id have the same values as "
                "another row in all columns, and count as the same object."
            )
            ranks = np.where(same, lowest, ranks).astype(np.int64)
    return ranks, notes


def telling_rows(table: pd.DataFrame) -> pd.Series:
    """Name rows by all of their numbers, so that equal rows have the same name.

    Parameters
    ----------
    table : DataFrame
        Votes and anything else that is known of each object. Ids do not matter.

    Returns
    -------
    names : Series of object
        A text for each row that is there more than once; None for the others, and
        where a row has too few numbers other than 0 and 1 to tell objects apart.
    """
    numbers = table.select_dtypes("number")
    keep = [
        i
        for i, name in enumerate(numbers.columns)
        if not is_id_name(name) and plain_name(name) not in ("index", "rotation")
    ]
    values = numbers.iloc[:, keep].to_numpy(dtype=np.float64, na_value=np.nan)
    names = pd.Series(None, index=range(len(table)), dtype=object)
    if values.shape[1] < _N_TELLING:
        return names
    # -0.0 is 0.0.
    hashes = pd.util.hash_pandas_object(pd.DataFrame(values + 0.0), index=False)
    repeated = np.flatnonzero(hashes.duplicated(keep=False).to_numpy())
    for row in repeated.tolist():
        some = values[row]
        some = np.unique(some[np.isfinite(some) & (some != 0) & (some != 1)])
        if len(some) >= _N_TELLING:
            names.iloc[row] = f"row {hashes.iloc[row]}"
    return names


def find_leaks(
    rows: pd.DataFrame, split: Any, ids: Ids | None = None, paths: Any = None
) -> list[str]:
    """Say which objects are in more than one set.

    Parameters
    ----------
    rows : DataFrame
        The rows of all sets.
    split : array-like of shape (n_rows,)
        Name of the set of each row.
    ids : Ids or None, default=None
        The ids of the rows, if the caller has them.
    paths : sequence of object or None, default=None
        What each row's image was read from; None takes the columns of paths.

    Returns
    -------
    messages : list of str
        One for each way in which rows are the same: an id, a file, a position in the
        sky, all numbers.
    """
    keys: dict[str, Any] = {} if ids is None else {ids.name: ids.values}
    # There a number is that of an object only together with the brick's.
    in_bricks = any(plain_name(name) in BRICKS for name in rows.columns)
    for name in rows.columns:
        plain = plain_name(name)
        if plain in PATHS and paths is None:
            keys[repr(name)] = rows[name].map(_as_text)
        elif (
            is_id_name(name)
            and plain not in _ROW_NUMBERS
            and not (in_bricks and plain == "objid")
        ):
            found = _ids_of(rows, name)
            if found is not None:
                keys.setdefault(found.name, found.values)
    if paths is not None:
        keys["the file of the image"] = paths
    position = same_positions(rows)
    if position is not None:
        keys[position[0]] = position[1]
    keys["all of their numbers"] = telling_rows(rows)
    messages = []
    for what, values in keys.items():
        shared, n_rows = shared_between(split, values)
        if shared:
            messages.append(
                f"{len(shared)} objects are in more than one set: {n_rows} rows of "
                f"different sets share {what}"
                + (
                    "."
                    if what == "all of their numbers"
                    else f", the first {shared[0]!r}."
                )
                + " A score on such a test set is too high."
            )
    return messages


def _ids_of(rows: pd.DataFrame, name: str) -> Ids | None:
    try:
        return object_ids(rows, name)
    except ValueError:
        # Another column than the one that is used.
        return None


def _as_text(value: Any) -> str | None:
    return None if not isinstance(value, str) and pd.isna(value) is True else str(value)


def shared_between(split: Any, keys: Any) -> tuple[list[Any], int]:
    """Return the keys that are in more than one set.

    Parameters
    ----------
    split : array-like of str
        Name of the set of each row.
    keys : sequence
        What must be in one set only; None counts as no key.

    Returns
    -------
    shared : list
        Each key once.
    n_rows : int
        Number of rows with one of them.
    """
    frame = pd.DataFrame(
        {
            "split": np.asarray(split, dtype=object),
            "key": pd.Series(list(keys), dtype=object),
        }
    ).dropna()
    if frame.empty:
        return [], 0
    n_sets = frame.groupby("key", sort=False)["split"].transform("nunique")
    shared = frame.loc[n_sets > 1, "key"]
    return shared.drop_duplicates().tolist(), len(shared)
