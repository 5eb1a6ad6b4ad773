"""Tables of pandas and of polars, and how estimators store theirs."""

import sys
from typing import Any

import numpy as np
import pandas as pd

# More bytes are an image, also where all of them could be letters.
_MAX_TEXT = 1024
# So begins a FITS file, one that is cut off early, too.
_FITS = b"SIMPLE  ="


def is_polars(table: Any) -> bool:
    """Tell whether a table is a DataFrame of polars, which need not be installed."""
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(table, polars.DataFrame)


def as_pandas(table: Any) -> Any:
    """Return a table of pandas or polars as one of pandas, anything else as it is.

    For polars the index of the result is the position of the row.  Numbers have the
    byte order of the machine: pandas can neither select nor match others, such as
    those of a FITS table.
    """
    if isinstance(table, pd.DataFrame):
        return _native(table)
    if not is_polars(table):
        return table
    # Without pyarrow, which polars' own conversion needs.
    return pd.DataFrame({name: _as_series(table[name]) for name in table.columns})


def _native(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with numbers in the byte order of the machine."""
    foreign = [
        place
        for place, dtype in enumerate(table.dtypes)
        if isinstance(dtype, np.dtype) and not dtype.isnative
    ]
    kind: Any = table.index.dtype
    is_native = not isinstance(kind, np.dtype) or kind.isnative
    if foreign or not is_native:
        table = table.copy(deep=False)
    for place in foreign:
        values = table.iloc[:, place].to_numpy()
        table.isetitem(place, values.astype(values.dtype.newbyteorder("=")))
    if not is_native:
        table.index = table.index.astype(kind.newbyteorder("="))
    return table


def _as_series(column: Any) -> Any:
    if not column.dtype.is_numeric():
        return column.to_list()
    if column.dtype.is_integer() and column.null_count():
        # Beside a NaN integers would become floats, which large ids do not fit in.
        return pd.array(column.to_list(), dtype="Int64")
    return column.to_numpy()


def how_to_pass(table: Any) -> str:
    """Say for an error how another kind of table becomes a DataFrame."""
    # The latter is what data sets of Hugging Face have.
    if hasattr(table, "to_pandas") and (
        hasattr(table, "columns") or hasattr(table, "column_names")
    ):
        return ": pass its .to_pandas()"
    if hasattr(table, "collect_schema"):
        return ": pass its .collect()"
    # What astropy.io.fits.getdata returns, for one.
    has_columns = getattr(getattr(table, "dtype", None), "names", None) is not None
    return ": pass pd.DataFrame(...) of it" if has_columns else ""


def as_text(values: list) -> list:
    """Return text that came as bytes, as in FITS tables; anything else as it is.

    Blanks at the end, with which FITS pads text, are dropped.  Bytes that are no text,
    such as images, stay bytes, and so do all others of their column.
    """
    texts = []
    for value in values:
        text = _text_of(value) if isinstance(value, bytes) else value
        if text is None:
            return values
        texts.append(text)
    # A column of nothing else is of images that were lost on their way.
    return texts if any(isinstance(one, str) and one for one in texts) else values


def _text_of(content: bytes) -> str | None:
    if len(content) > _MAX_TEXT or content.startswith(_FITS):
        return None
    try:
        text = content.decode().rstrip(" \0")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def with_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with text in place of bytes that are text.

    Parameters
    ----------
    table : DataFrame
        Is changed.
    """
    for place in range(table.shape[1]):
        column = table.iloc[:, place]
        is_mixed = pd.api.types.is_object_dtype(column.dtype)
        if is_mixed and any(isinstance(value, bytes) for value in column):
            values = np.empty(len(column), dtype=object)
            values[:] = as_text(column.tolist())
            table.isetitem(place, values)
    return table


def rows_like(given: Any, rows: np.ndarray) -> Any:
    """Return new rows in the kind of table that the given ones came in.

    Parameters
    ----------
    given : array-like or DataFrame
    rows : ndarray of shape (n_rows, n_columns)

    Returns
    -------
    rows : DataFrame of pandas or polars, or ndarray
        With the columns of the given table, and an index of its own.
    """
    if is_polars(given):
        return type(given)(rows, schema=given.columns)
    if isinstance(given, pd.DataFrame):
        return pd.DataFrame(rows, columns=given.columns)
    return rows


def labels_like(given: Any, labels: np.ndarray) -> Any:
    """Return new labels in the kind of sequence that the given ones came in.

    Parameters
    ----------
    given : array-like, Series or DataFrame of one column
    labels : ndarray of shape (n_labels,)

    Returns
    -------
    labels : Series of pandas or polars, DataFrame, list or ndarray
        With the name and the type of the given ones.
    """
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(given, polars.Series):
        return polars.Series(given.name, labels.tolist(), dtype=given.dtype)
    if isinstance(given, pd.Series):
        return pd.Series(labels, name=given.name).astype(given.dtype)
    if isinstance(given, pd.DataFrame):
        return pd.DataFrame({given.columns[0]: labels})
    return labels.tolist() if isinstance(given, list) else labels


class TablesMixin:
    """Store the tables of an estimator column by column.

    skops knows no DataFrame, and pickles of one depend on the version of pandas.
    """

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().items()  # type: ignore[attr-defined]
        return {
            name: {_MARK: _columns(value)} if isinstance(value, pd.DataFrame) else value
            for name, value in state
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(  # type: ignore[misc]
            {
                name: _table(value[_MARK])
                if isinstance(value, dict) and _MARK in value
                else value
                for name, value in state.items()
            }
        )


_MARK = "columns of a table"


def _columns(table: pd.DataFrame) -> dict[str, tuple[str, Any]]:
    # Of numbers arrays, of text lists.
    return {
        str(name): (
            str(column.dtype),
            column.to_numpy() if column.dtype.kind in "biuf" else column.tolist(),
        )
        for name, column in table.items()
    }


def _table(columns: dict[str, tuple[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            name: pd.Series(values, dtype=kind)
            for name, (kind, values) in columns.items()
        }
    )
