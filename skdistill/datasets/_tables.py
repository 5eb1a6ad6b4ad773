"""Tables of galaxies from files, their identifiers kept exact."""

import os
import re
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skdistill.utils._frames import as_pandas

# Galaxies are told apart by these: none may be missing.
_KEYS = ("dr7objid", "objid")
_JOINED = (*_KEYS, "asset_id")
# Whole numbers by their name, of these or any other survey or data release.
_ID_NAME = re.compile(r"(.*objid|asset_id)$", re.IGNORECASE)
# Identifiers that are text, whatever they look like.
_TEXT_NAME = "id_str"

TableLike = str | os.PathLike[str] | pd.DataFrame


def read_table(table: TableLike, name: str) -> pd.DataFrame:
    """Read a table of galaxies.

    Parameters
    ----------
    table : str, path-like or DataFrame of pandas or polars
        A table, or a file with one: `.csv`, `.csv.gz`, `.parquet`, or FITS (`.fits`,
        `.fit`, each also with `.gz`).

    name : str
        Name of the caller's parameter, for errors.

    Returns
    -------
    frame : DataFrame
        A table of its own.  That of a file has a RangeIndex.  Columns of identifiers
        (`objid`, `dr7objid` and the like, `asset_id`) are int64, or Int64 where some
        are missing.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ImportError
        If the package that reads such files is not installed.

    ValueError
        If the file has an unknown suffix or cannot be read, or if a column `dr7objid`,
        `objid` or `asset_id` holds anything but whole numbers, or floats that have
        lost digits.
    """
    frame = as_pandas(table)
    if isinstance(frame, pd.DataFrame):
        source = f"`{name}` (the DataFrame)"
        frame = frame.copy()
    else:
        path = Path(table)  # type: ignore[arg-type]
        source = f"`{name}` ('{path}')"
        if not path.is_file():
            raise FileNotFoundError(f"`{name}` must be an existing file; got '{path}'.")
        reader = _reader(path)
        if reader is None:
            raise ValueError(
                f"`{name}` must end in .csv, .csv.gz, .parquet, .fits, .fit, .fits.gz "
                f"or .fit.gz; got '{path}'."
            )
        try:
            frame = reader(path)
        except (ValueError, OSError, EOFError, zlib.error, TypeError) as error:
            raise ValueError(f"{source} cannot be read: {error}") from error
    for column in _id_columns(frame.columns):
        try:
            frame[column] = _exact(frame[column], source)
        except ValueError:
            # Of another catalogue: left as it is, text where it comes from a file.
            if column in _JOINED:
                raise
    return frame


def column_names(frame: pd.DataFrame) -> str:
    """Return the first columns of a table, for errors.

    Parameters
    ----------
    frame : DataFrame
        A table.

    Returns
    -------
    str
        At most ten names and the number of the others.
    """
    names = [str(name) for name in frame.columns]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"the columns {names[:10]}{more}"


def _id_columns(columns: Any) -> list[str]:
    return [c for c in columns if isinstance(c, str) and _ID_NAME.match(c)]


def _reader(path: Path) -> Callable[[Path], pd.DataFrame] | None:
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        return _read_csv
    if name.endswith(".parquet"):
        return _read_parquet
    if name.endswith((".fits", ".fit", ".fits.gz", ".fit.gz")):
        return _read_fits
    return None


def _read_csv(path: Path) -> pd.DataFrame:
    header = pd.read_csv(path, nrows=0).columns
    # As text first: one missing identifier would turn all of them to floats.
    text: dict[str, type] = dict.fromkeys(_id_columns(header), str)
    if _TEXT_NAME in header:
        text[_TEXT_NAME] = str
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.DtypeWarning)
        try:
            # In chunks, which takes half the memory and decides types chunk by chunk.
            frame = pd.read_csv(path, dtype=text)
        except pd.errors.DtypeWarning:
            frame = pd.read_csv(path, dtype=text, low_memory=False)
    # One block of memory a type: pandas warns about adding a column to many.  Its own
    # `copy` does that, too, but in two steps, each as large as the table.
    return pd.DataFrame({column: frame[column] for column in frame.columns})


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"Reading '{path}' needs pyarrow: pip install skdistill[parquet]"
        ) from error
    return pyarrow.parquet.read_table(path).to_pandas().reset_index(drop=True)


def _read_fits(path: Path) -> pd.DataFrame:
    try:
        from astropy.io import fits
        from astropy.table import Table
        from astropy.units import UnitsWarning
    except ImportError as error:
        raise ImportError(
            f"Reading '{path}' needs astropy: pip install skdistill[fits]"
        ) from error
    with fits.open(path) as file, warnings.catch_warnings():
        # Units that the standard does not know do not matter here.
        warnings.simplefilter("ignore", UnitsWarning)
        tables = [h for h in file if isinstance(h, (fits.BinTableHDU, fits.TableHDU))]
        tables = [h for h in tables if not isinstance(h, fits.CompImageHDU)]
        if not tables:
            raise ValueError("there is no table in it")
        table = Table.read(tables[0])
        columns = {}
        for name in table.colnames:
            cells = table[name]
            # A vector in each row becomes one column for each of its elements.
            parts = cells.reshape(len(cells), -1).T if cells.ndim > 1 else [cells]
            names = [f"{name}_{i}" for i in range(len(parts))]
            part = Table(list(parts), names=names if cells.ndim > 1 else [name])
            part.convert_bytestring_to_unicode()
            # Big-endian numbers become native, masked integers Int64.
            for column, series in part.to_pandas(index=False).items():
                # FITS pads text with blanks.
                is_text = cells.dtype.kind in "SU"
                columns[column] = series.str.rstrip() if is_text else series
    return pd.DataFrame(columns)


def _exact(ids: pd.Series, source: str) -> pd.Series:
    """Identifiers as int64, Int64 where some are missing."""
    must = f"{source} must have whole numbers in column '{ids.name}'"
    missing = ids.isna().to_numpy()
    if missing.any() and ids.name in _KEYS:
        raise ValueError(
            f"{must}; {missing.sum()} of {len(ids)} are missing, the first in row "
            f"{ids.index[missing].tolist()[0]!r}."
        )
    known = ids[~missing]
    is_float = pd.api.types.is_float_dtype(ids.dtype)
    if is_float and not ((known % 1 == 0) & (known.abs() < 2**53)).all():
        raise ValueError(
            f"{must}; got {ids.dtype}, which cannot hold identifiers above 2**53 "
            "exactly. Read the column as int64 or text."
        )
    try:
        exact = known.astype("int64").to_numpy()
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{must}: {error}.") from error
    # What NumPy cuts without a word: unsigned numbers above 2**63, decimal fractions.
    if ids.dtype == object or pd.api.types.is_unsigned_integer_dtype(ids.dtype):
        for row, value, number in zip(known.index, known, exact.tolist(), strict=True):
            if not isinstance(value, (str, bytes)) and value != number:
                raise ValueError(f"{must} below 2**63; got {value!r} in row {row!r}.")
    if not missing.any():
        return pd.Series(exact, index=ids.index, name=ids.name)
    values = np.zeros(len(ids), dtype=np.int64)
    values[~missing] = exact
    array = pd.arrays.IntegerArray(values, missing)
    return pd.Series(array, index=ids.index, name=ids.name)
