"""Tables of galaxies from files, their identifiers kept exact."""

import io
import os
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skdistill.datasets._csv import MAX_COLUMNS, read_csv, too_many_columns
from skdistill.utils._files import as_path
from skdistill.utils._frames import as_pandas, how_to_pass, with_text
from skdistill.utils._ids import is_id_name, is_rounded, plain_name
from skdistill.utils._plain import told
from skdistill.utils._signatures import name_content
from skdistill.utils._untrusted import BoundedGzip, errors_as_value_errors, max_unpacked
from skdistill.utils._warnings import warn

# Galaxies are told apart by these: none may be missing.
_KEYS = ("dr7objid", "objid")
# As letters and digits alone, in any spelling.
_JOINED = (*_KEYS, "assetid")
# Whole numbers by their name, of these or any other survey or data release.
_ID_NAME = re.compile(r"(.*objid|asset_id)$", re.IGNORECASE)
# Identifiers that are text, even if they look like something else.
_TEXT_NAME = "id_str"
_WHOLE = re.compile(r"0|[1-9]\d{0,17}")

TableLike = str | os.PathLike[str] | pd.DataFrame


def read_table(
    table: TableLike, name: str, ids: Sequence[str] = (), *, joined: bool = True
) -> pd.DataFrame:
    """Read a table of galaxies.

    Parameters
    ----------
    table : str, path-like or DataFrame of pandas or polars
        A table, or a file with one: `.csv`, `.csv.gz`, `.parquet`, or FITS (`.fits`,
        `.fit`, each also with `.gz`).
    name : str
        Name of the caller's parameter, for errors.
    ids : sequence of str, default=()
        Columns of identifiers whose names do not say so: they are read from a file
        exactly, as those that are called like one.
    joined : bool, default=True
        Whether rows are matched by `objid` and the like, so that these must hold whole
        numbers.  If not they may be any text.

    Returns
    -------
    frame : DataFrame
        A table of its own.  That of a file has a RangeIndex.  Columns of identifiers
        (`objid`, `dr7objid` and the like, `asset_id`) are int64, or Int64 where some
        are missing.  Text that comes as bytes, as from FITS tables, is made text.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If the package that reads such files is not installed.
    TypeError
        If `table` is neither a DataFrame nor a path.
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
        if not isinstance(table, (str, os.PathLike)):
            raise TypeError(
                f"`{name}` must be a pandas or polars DataFrame or the path of a "
                f"file; got {type(table).__name__}{how_to_pass(table)}"
            )
        path = as_path(table, name)
        source = f"`{name}` ('{path}')"
        if not path.is_file():
            raise FileNotFoundError(f"`{name}` must be an existing file; got '{path}'")
        reader = _reader(path)
        if reader is None:
            raise ValueError(
                f"`{name}` must end in .csv, .csv.gz, .parquet, .fits, .fit, .fits.gz "
                f"or .fit.gz; got '{path}'. Read other formats with pandas or astropy "
                "and pass a DataFrame"
            )
        with errors_as_value_errors(f"{source} cannot be read: {{error}}"):
            frame = reader(path, ids)
        for column in frame.columns:
            is_id = is_id_name(column) or column in ids
            if is_id and not (isinstance(column, str) and _ID_NAME.match(column)):
                frame[column] = _as_numbers(frame[column])
    frame = with_text(frame)
    for column in _id_columns(frame.columns):
        if isinstance(frame[column], pd.DataFrame):
            raise ValueError(f"{source} has the column {column!r} more than once")
        try:
            frame[column] = _exact(frame[column], source)
        except ValueError:
            # Of another catalog: left as it is, text where it comes from a file.
            if plain_name(column) in _JOINED and (joined or _is_lossy(frame[column])):
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


def _reader(path: Path) -> Callable[[Path, Sequence[str]], pd.DataFrame] | None:
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        return read_csv
    if name.endswith(".parquet"):
        return _read_parquet
    if name.endswith((".fits", ".fit", ".fits.gz", ".fit.gz")):
        return _read_fits
    return None


def _read_parquet(path: Path, ids: Sequence[str]) -> pd.DataFrame:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"Reading '{path}' requires pyarrow: pip install skdistill[parquet]"
        ) from error
    _check_start(path, b"PAR1")
    with pyarrow.parquet.ParquetFile(path) as file:
        found = file.metadata
        if found.num_columns > MAX_COLUMNS:
            raise ValueError(too_many_columns(found.num_columns))
        # A run of equal values takes a few bytes, however long it is.  (What columns
        # say of themselves is not asked for: pyarrow 26 aborts where it is damaged.)
        groups = [found.row_group(i) for i in range(found.num_row_groups)]
        claimed = max(
            sum(group.num_rows for group in groups) * found.num_columns * 8,
            found.num_rows * found.num_columns * 8,
            sum(max(group.total_byte_size, 0) for group in groups),
        )
        _check_size(claimed, os.path.getsize(path))
        table = file.read()
        frame = table.to_pandas()
        if len(frame) != found.num_rows:
            raise ValueError(f"it declares {found.num_rows} rows, but has {len(frame)}")
        for name in table.column_names:
            column = table[name]
            is_whole = pyarrow.types.is_integer(column.type)
            is_id = is_id_name(name) or name in ids
            if is_whole and column.null_count and name in frame and is_id:
                # Beside a NaN integers became floats, which large ids do not fit in.
                frame[name] = pd.array(column.to_pylist(), dtype="Int64")
    return _with_index(frame)


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Make columns of an index that is more than the numbers of the rows."""
    index = frame.index
    if isinstance(index, pd.RangeIndex) and index.name is None:
        return frame.reset_index(drop=True)
    for level, name in enumerate(index.names):
        if name in frame.columns:
            column = frame[name]
            same = (index.get_level_values(level) == column.to_numpy()).all()
            if not same:
                raise ValueError(f"its index and a column are both called {name!r}")
    if all(name in frame.columns for name in index.names):
        return frame.reset_index(drop=True)
    return frame.reset_index()


def _check_start(path: Path, expected: bytes) -> None:
    """Raise a ValueError that says what a file is, if that is known, and is another."""
    with path.open("rb") as file:
        start = file.read(1000)
    other = None if start.startswith(expected) else name_content(start)
    if other is not None:
        raise ValueError(f"it is {other}")


def _as_numbers(ids: pd.Series) -> pd.Series:
    """Make numbers of identifiers that are text, where that loses nothing."""
    if ids.name == _TEXT_NAME or pd.api.types.is_numeric_dtype(ids.dtype):
        return ids
    known = ids.dropna()
    if not all(isinstance(text, str) and _WHOLE.fullmatch(text) for text in known):
        return ids
    numbers = pd.array([None if pd.isna(v) else int(v) for v in ids], dtype="Int64")
    series = pd.Series(numbers, index=ids.index, name=ids.name)
    return series if series.hasnans or not len(known) else series.astype("int64")


def _check_size(claimed: int, n_bytes: int) -> None:
    limit = max_unpacked(n_bytes)
    if claimed > limit:
        raise ValueError(
            f"its {n_bytes} bytes declare a table of {claimed}; at most {limit} are "
            "read. If the file is correct, pass it as a DataFrame"
        )


def _read_fits(path: Path, ids: Sequence[str]) -> pd.DataFrame:
    try:
        from astropy.io import fits
        from astropy.table import Table
        from astropy.units import UnitsWarning
    except ImportError as error:
        raise ImportError(
            f"Reading '{path}' requires astropy: pip install skdistill[fits]"
        ) from error
    with ExitStack() as stack:
        # Units that the standard does not know do not matter here.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", UnitsWarning)
        opened: Any = path
        if path.name.lower().endswith(".gz"):
            opened = io.BytesIO(stack.enter_context(BoundedGzip(path)).read())
            start = opened.getvalue()[:1000]
        else:
            with path.open("rb") as begin:
                start = begin.read(1000)
        # astropy would unpack what is packed in other ways, to any size.
        if not start.startswith(b"SIMPLE  ="):
            other = name_content(start)
            raise ValueError("it is not a FITS file" + (f" but {other}" * bool(other)))
        file = stack.enter_context(fits.open(opened))
        tables = [h for h in file if isinstance(h, (fits.BinTableHDU, fits.TableHDU))]
        tables = [h for h in tables if not isinstance(h, fits.CompImageHDU)]
        if not tables:
            raise ValueError("it has no table")
        if len(tables) > 1:
            warn(
                f"'{path}' has {len(tables)} tables, {[h.name for h in tables][:10]}; "
                "the first is read. To use another one, pass it as a DataFrame"
            )
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
            f"it declares {n_rows} rows of {row_bytes} bytes, but has {n_bytes} bytes"
        )
    n_columns, varying = 0, []
    for column in table.columns:
        match = re.match(r"\s*(\d*)\s*([A-Z])", str(column.format))
        repeat, kind = match.groups() if match else ("", "")
        if kind in ("P", "Q"):
            varying.append(column.name)
        n_columns += int(repeat or 1) if kind not in "APQ" else 1
    if n_columns > MAX_COLUMNS:
        raise ValueError(too_many_columns(n_columns))
    # Columns of no width have any number of rows.
    _check_size(n_rows * n_columns * 8, n_bytes)
    for name in varying:
        # Lengths and places; nothing keeps all rows from the same place.
        lengths = np.asarray(table.data)[name][:, 0].astype(np.float64)
        if lengths.min(initial=0) < 0 or lengths.sum() > n_bytes:
            raise ValueError(f"the arrays in column {name!r} are larger than the file")


def _exact(ids: pd.Series, source: str) -> pd.Series:
    """Identifiers as int64, Int64 where some are missing."""
    must = f"{source} must have integers in column '{ids.name}'"
    if ids.dtype == object or isinstance(ids.dtype, pd.StringDtype):
        ids = ids.map(_without_point, na_action="ignore")
    missing = ids.isna().to_numpy()
    if missing.any() and ids.name in _KEYS:
        raise ValueError(
            f"{must}; {missing.sum()} of {len(ids)} are missing, the first in row "
            f"{ids.index[missing].tolist()[0]!r}"
        )
    known = ids[~missing]
    is_float = pd.api.types.is_float_dtype(ids.dtype)
    if is_float and not ((known % 1 == 0) & (known.abs() < 2**53)).all():
        raise ValueError(
            f"{must}; got {ids.dtype}, which cannot hold identifiers above 2**53 "
            "exactly. Read the column as int64 or text"
        )
    try:
        exact = known.astype("int64").to_numpy()
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{must}: {error}. Numbers with commas, or rounded by a spreadsheet, such "
            "as 5.87E+17, must be exported again"
        ) from error
    # What NumPy cuts without a word: unsigned numbers above 2**63, decimal fractions.
    if ids.dtype == object or pd.api.types.is_unsigned_integer_dtype(ids.dtype):
        for row, value, number in zip(known.index, known, exact.tolist(), strict=True):
            if not isinstance(value, (str, bytes)) and value != number:
                raise ValueError(
                    f"{must} below 2**63; got {told(value)} in row {told(row)}"
                )
    if not missing.any():
        return pd.Series(exact, index=ids.index, name=ids.name)
    values = np.zeros(len(ids), dtype=np.int64)
    values[~missing] = exact
    array = pd.arrays.IntegerArray(values, missing)
    return pd.Series(array, index=ids.index, name=ids.name)


def _is_lossy(ids: pd.Series) -> bool:
    """Tell whether identifiers have lost digits, as floats or in a spreadsheet."""
    if pd.api.types.is_float_dtype(ids.dtype):
        return True
    return any(isinstance(value, str) and is_rounded(value) for value in ids)


def _without_point(value: Any) -> Any:
    """Return text of a whole number without its ".0", if a float would hold it."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    whole, _, rest = text.partition(".")
    is_exact = whole.isascii() and whole.isdecimal() and len(whole) < 16
    return whole if is_exact and rest and not rest.strip("0") else text
