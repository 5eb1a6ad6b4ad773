"""Which rows of a table are of the same object: one rule for all that take a table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

# Names of columns of ids, as letters and digits alone, in order of preference.
_NAMES = (
    *("dr7objid", "objid", r"(?!spec)\w*objid", r"(gz|galaxyzoo)?objectid"),
    *("galaxyid", "iauname", r"(zooniverse)?subjectid", "zooniverseid", "sourceid"),
    *("targetid", "cataid", "mangaid", "nsaid", "objname", "objectname", "sourcename"),
    *("galaxyname", "assetid", "idstr", r"dr\d+id", "id", "specobjid"),
)
# Where there is none of them, an image has one galaxy.
PATHS = ("path", "fileloc", "filename", "filepath", "imagepath")
# Numbers of objects in the Legacy Surveys start again in each brick of the sky.
BRICKS = ("brickid", "brickname")
# What tables write where there is no id. Numbers count only if they stand out.
_NO_TEXT = ("", "nan", "none", "null", "na", "n/a", "<na>", "-", "--", "masked")
_NO_NUMBER = re.compile(r"0|-1|-9+")
_ROUNDED = re.compile(r"\d\.\d+[eE]\+?\d{2}")
_WHOLE = re.compile(r"([+-]?\d{1,40})(\.0*)?")


def plain_name(name: Any) -> str:
    """Return a name without case, blanks and punctuation."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def find_id_column(columns: Any) -> Any | None:
    """Return the column that tells objects apart by its name, None if none does.

    Parameters
    ----------
    columns : iterable
        Names of columns.

    Returns
    -------
    column : object or None
        One of them.
    """
    plain = {name: plain_name(name) for name in columns if isinstance(name, str)}
    for pattern in _NAMES:
        for name, text in plain.items():
            if re.fullmatch(pattern, text):
                return name
    return None


def is_id_name(name: Any) -> bool:
    """Tell whether a column of this name holds ids."""
    return find_id_column([name]) is not None


def is_rounded(text: str) -> bool:
    """Tell whether a spreadsheet has rounded an id, such as 5.87E+17."""
    return _ROUNDED.fullmatch(text.strip()) is not None


def canonical_id(value: Any) -> str | None:
    """Return the one form of an id that may come as 1, "1", "01", 1.0, b" 1 " or "1.0".

    Parameters
    ----------
    value : object
        An id from a table or the name of a file.

    Returns
    -------
    text : str or None
        A whole number without leading zeros, else the text without blanks around it;
        None where there is no id.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, (float, np.floating, Decimal)):
        if not np.isfinite(float(value)):
            return None
        value = int(value) if value == int(value) else value
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    text = str(value).strip()
    if text.lower() in _NO_TEXT:
        return None
    whole = _WHOLE.fullmatch(text) if text.isascii() else None
    return str(int(whole[1])) if whole else text


@dataclass
class Ids:
    """The ids of the rows of a table."""

    # Names of the columns that they are from, for messages; empty where there are none.
    name: str
    # Canonical text, None where it is missing; on the index of the table.
    values: pd.Series
    # What was guessed, for a warning.
    notes: list[str] = field(default_factory=list)

    def ranks(self) -> np.ndarray:
        """Rank of each row's id, equal for rows of one object.

        Rows without an id are objects of their own, behind the others.

        Returns
        -------
        ranks : ndarray of shape (n_rows,), dtype int64
            Numbers are ordered as numbers, text by the alphabet.
        """
        known = self.values.dropna()
        if not known.map(lambda text: _WHOLE.fullmatch(text) is None).any():
            keys = known.map(int).astype(object)
        else:
            keys = known.astype(object)
        codes, uniques = pd.factorize(keys, sort=True)
        ranks = np.full(len(self.values), -1, dtype=np.int64)
        ranks[self.values.notna().to_numpy()] = codes
        return np.where(ranks >= 0, ranks, len(uniques) + np.arange(len(ranks)))


def object_ids(
    table: pd.DataFrame,
    column: str | Sequence[str] | None = None,
    parameter: str = "id_column",
) -> Ids | None:
    """Find the ids of the objects in a table.

    Parameters
    ----------
    table : DataFrame
        One row per object or per image of one.
    column : str, sequence of str or None, default=None
        Columns, or names of the index, that tell objects apart; "index" is the index.
        None takes those whose name says so.
    parameter : str, default="id_column"
        What the caller calls `column`.

    Returns
    -------
    ids : Ids or None
        None if no column has such a name.

    Raises
    ------
    ValueError
        If a column is not there or is there twice, or if ids were read as floats and
        have lost digits.
    """
    notes: list[str] = []
    names = _chosen(table, column, parameter)
    if not names:
        return None
    parts = [_canonical(_column(table, name), name) for name in names]
    values = parts[0]
    for part in parts[1:]:
        values = (values + " " + part).where(values.notna() & part.notna(), None)
    name = ", ".join(repr(name) for name in names)
    if len(names) == 1:
        values = _without_placeholders(values, name, notes)
    return Ids(name, values, notes)


def exact_ids(table: pd.DataFrame, column: str, parameter: str) -> pd.Series:
    """Return the ids in a column as canonical text, None where one is missing.

    Parameters
    ----------
    table : DataFrame
        Any table.
    column : str
        Its column, or the name of its index; "index" is the index.
    parameter : str
        What the caller calls `column`.

    Returns
    -------
    ids : Series of object
        The ids, on the index of the table.

    Raises
    ------
    ValueError
        If there is no such column, or if ids have lost digits as floats.
    """
    (name,) = _chosen(table, column, parameter)
    return _canonical(_column(table, name), name)


def _chosen(
    table: pd.DataFrame, column: str | Sequence[str] | None, parameter: str
) -> list[Any]:
    levels = [name for name in table.index.names if name is not None]
    if column is not None:
        names = [column] if isinstance(column, str) else list(column)
        unknown = [
            n for n in names if n not in table.columns and n not in [*levels, "index"]
        ]
        if unknown or not names:
            raise ValueError(
                f"`{parameter}={column!r}` must name columns of the table; its "
                f"columns are {[str(name) for name in table.columns][:20]}"
            )
        return names
    found = find_id_column(table.columns)
    if found is None:
        found = find_id_column(levels)
    if found is None:
        plain = {plain_name(name): name for name in table.columns[::-1]}
        found = next((plain[name] for name in PATHS if name in plain), None)
    if found is None:
        # An index that was named, or is text, was chosen by somebody.
        index = table.index
        chosen = bool(levels) or index.inferred_type in ("string", "bytes", "mixed")
        return ["index"] if chosen and index.is_unique else []
    if plain_name(found) == "objid":
        bricks = [n for n in table.columns if plain_name(n) in BRICKS]
        return [*bricks[:1], found]
    return [found]


def _column(table: pd.DataFrame, name: Any) -> pd.Series:
    if name in table.columns:
        column = table[name]
        if isinstance(column, pd.DataFrame):
            raise ValueError(f"The table has the column {name!r} more than once")
        return column
    if name == "index" and name not in table.index.names:
        return table.index.to_flat_index().to_series(index=table.index)
    return table.index.get_level_values(name).to_series(index=table.index)


def _canonical(ids: pd.Series, name: Any) -> pd.Series:
    """Return canonical text, None where an id is missing."""
    # float64 holds integers up to 2**53, SDSS ids go up to 2**63.
    if pd.api.types.is_float_dtype(ids.dtype) and (ids.abs() >= 2**53).any():
        raise ValueError(
            f"{name!r} has dtype {ids.dtype}, which cannot hold these ids: their "
            "last digits are lost. Read the column as int64 or as text"
        )
    # Each once: a table may repeat its ids many times.
    codes, uniques = pd.factorize(ids)
    texts = np.array([*map(canonical_id, uniques), None], dtype=object)
    rounded = next((t for t in texts if t and is_rounded(t)), None)
    if rounded is not None:
        raise ValueError(
            f"{name!r} has the id {rounded!r}, which was rounded by a spreadsheet, so "
            "that different objects share an id. Export the table again with the ids "
            "as text"
        )
    return pd.Series(texts[codes], index=ids.index, dtype=object)


def _without_placeholders(values: pd.Series, name: str, notes: list[str]) -> pd.Series:
    """Take a number that stands out, such as -9999 in many rows, for a missing id."""
    counts = values.value_counts()
    numbers = {text for text in counts.index if _NO_NUMBER.fullmatch(text)}
    others = counts[~counts.index.isin(numbers)]
    most = int(others.max()) if len(others) else 1
    # Of ids that count from 0, or that are negative, it may be one.
    wrong = [text for text in numbers if counts[text] > max(most, 1)]
    if not wrong:
        return values
    is_wrong = values.isin(wrong)
    notes.append(
        f"{int(is_wrong.sum())} rows have {' or '.join(sorted(wrong))} as {name}, "
        "which is treated as a missing id: each of these rows counts as a separate "
        "object. Drop them if an object may have several rows, or use `id_column` to "
        "name another column."
    )
    return values.mask(is_wrong, None)
