"""Tables of pandas and of polars."""

import sys
from typing import Any

import pandas as pd


def is_polars(table: Any) -> bool:
    """Tell whether a table is a DataFrame of polars, which need not be installed."""
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(table, polars.DataFrame)


def as_pandas(table: Any) -> Any:
    """Return a table of polars as one of pandas, anything else as it is.

    The index of the result is the position of the row.
    """
    if not is_polars(table):
        return table
    # Without pyarrow, which polars' own conversion needs.
    return pd.DataFrame({name: _as_series(table[name]) for name in table.columns})


def _as_series(column: Any) -> Any:
    if not column.dtype.is_numeric():
        return column.to_list()
    if column.dtype.is_integer() and column.null_count():
        # Beside a NaN integers would become floats, which large ids do not fit in.
        return pd.array(column.to_list(), dtype="Int64")
    return column.to_numpy()
