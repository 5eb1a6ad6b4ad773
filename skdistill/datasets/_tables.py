"""Tables of galaxies from files, their identifiers kept exact."""

import csv
import io
import os
import re
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skdistill.utils._frames import as_pandas
from skdistill.utils._strangers import BoundedGzip, most_unpacked, whatever_is_wrong

# Galaxies are told apart by these: none may be missing.
_KEYS = ("dr7objid", "objid")
_JOINED = (*_KEYS, "asset_id")
# Whole numbers by their name, of these or any other survey or data release.
_ID_NAME = re.compile(r"(.*objid|asset_id)$", re.IGNORECASE)
# Identifiers that are text, whatever they look like.
_TEXT_NAME = "id_str"

# More than any catalogue has.
MOST_COLUMNS = 10_000
# Of the header and the first row of a file.
_MOST_START_BYTES = 2**21

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
        with whatever_is_wrong(f"{source} cannot be read: {{error}}"):
            frame = reader(path)
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
    header = _read_header(path)
    # As text first: one missing identifier would turn all of them to floats.
    text: dict[str, type] = dict.fromkeys(_id_columns(header), str)
    if _TEXT_NAME in header:
        text[_TEXT_NAME] = str
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.DtypeWarning)
        # Rows with more fields than the header: pandas would make an index of some,
        # or leave them out.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            # In chunks, which takes half the memory and decides types chunk by chunk.
            frame = _parse_csv(path, dtype=text)
        except pd.errors.DtypeWarning:
            frame = _parse_csv(path, dtype=text, low_memory=False)
    # One block of memory a type: pandas warns about adding a column to many.  Its own
    # `copy` does that, too, but in two steps, each as large as the table.
    return pd.DataFrame({column: frame[column] for column in frame.columns})


def _read_header(path: Path) -> list[str]:
    """Read the names of the columns; there must not be too many."""
    with _open_csv(path) as file:
        start = file.read(_MOST_START_BYTES)
    # pandas makes a column of each field of the first row, whatever the header says.
    text = io.StringIO(start.decode("latin-1"), newline="")
    lines = (fields for fields in csv.reader(text) if fields)
    header, row = next(lines, []), next(lines, [])
    n_columns = max(len(header), len(row))
    if n_columns > MOST_COLUMNS:
        raise ValueError(_too_many(n_columns))
    if len(start) == _MOST_START_BYTES and text.tell() == len(start):
        raise ValueError(f"its first lines have more than {_MOST_START_BYTES} bytes")
    if len(row) > len(header):
        raise ValueError(f"it has {len(header)} columns, and {len(row)} in a row")
    return _parse_csv(path, nrows=0).columns.tolist()


def _too_many(n_columns: int) -> str:
    return f"it has {n_columns} columns or more; at most {MOST_COLUMNS} are read"


def _open_csv(path: Path) -> Any:
    if path.name.lower().endswith(".gz"):
        return io.BufferedReader(BoundedGzip(path))
    return path.open("rb")


def _parse_csv(path: Path, **how: Any) -> pd.DataFrame:
    with _open_csv(path) as file:
        return pd.read_csv(file, index_col=False, **how)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"Reading '{path}' needs pyarrow: pip install skdistill[parquet]"
        ) from error
    with pyarrow.parquet.ParquetFile(path) as file:
        found = file.metadata
        if found.num_columns > MOST_COLUMNS:
            raise ValueError(_too_many(found.num_columns))
        # A run of equal values takes a few bytes, however long it is.  (What columns
        # say of themselves is not asked for: pyarrow 26 aborts where it is damaged.)
        groups = [found.row_group(i) for i in range(found.num_row_groups)]
        claimed = max(
            sum(group.num_rows for group in groups) * found.num_columns * 8,
            found.num_rows * found.num_columns * 8,
            sum(max(group.total_byte_size, 0) for group in groups),
        )
        _check_size(claimed, os.path.getsize(path))
        return file.read().to_pandas().reset_index(drop=True)


def _check_size(claimed: int, n_bytes: int) -> None:
    most = most_unpacked(n_bytes)
    if claimed > most:
        raise ValueError(
            f"its {n_bytes} bytes claim a table of {claimed}; at most {most} are read. "
            "If that is right, give it as a DataFrame"
        )


def _read_fits(path: Path) -> pd.DataFrame:
    try:
        from astropy.io import fits
        from astropy.table import Table
        from astropy.units import UnitsWarning
    except ImportError as error:
        raise ImportError(
            f"Reading '{path}' needs astropy: pip install skdistill[fits]"
        ) from error
    with ExitStack() as stack:
        # Units that the standard does not know do not matter here.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", UnitsWarning)
        opened: Any = path
        if path.name.lower().endswith(".gz"):
            opened = io.BytesIO(stack.enter_context(BoundedGzip(path)).read())
            start = opened.getvalue()[:9]
        else:
            with path.open("rb") as begin:
                start = begin.read(9)
        # astropy would unpack what is packed in other ways, to any size.
        if start != b"SIMPLE  =":
            raise ValueError("it is not a FITS file")
        file = stack.enter_context(fits.open(opened))
        tables = [h for h in file if isinstance(h, (fits.BinTableHDU, fits.TableHDU))]
        tables = [h for h in tables if not isinstance(h, fits.CompImageHDU)]
        if not tables:
            raise ValueError("there is no table in it")
        n_bytes = os.path.getsize(path) if opened is path else len(opened.getvalue())
        _check_fits_table(tables[0], n_bytes)
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


def _check_fits_table(table: Any, n_bytes: int) -> None:
    """Raise an error if a table has too many columns, or is larger than its file."""
    header = table.header
    row_bytes, n_rows = header["NAXIS1"], header["NAXIS2"]
    if row_bytes < 0 or n_rows < 0 or row_bytes * n_rows > n_bytes:
        raise ValueError(
            f"it claims {n_rows} rows of {row_bytes} bytes; there are {n_bytes} bytes"
        )
    n_columns, varying = 0, []
    for column in table.columns:
        match = re.match(r"\s*(\d*)\s*([A-Z])", str(column.format))
        repeat, kind = match.groups() if match else ("", "")
        if kind in ("P", "Q"):
            varying.append(column.name)
        n_columns += int(repeat or 1) if kind not in "APQ" else 1
    if n_columns > MOST_COLUMNS:
        raise ValueError(_too_many(n_columns))
    # Columns of no width have any number of rows.
    _check_size(n_rows * n_columns * 8, n_bytes)
    for name in varying:
        # Lengths and places; nothing keeps all rows from the same place.
        lengths = np.asarray(table.data)[name][:, 0].astype(np.float64)
        if lengths.min(initial=0) < 0 or lengths.sum() > n_bytes:
            raise ValueError(f"the arrays in column {name!r} are larger than the file")


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
