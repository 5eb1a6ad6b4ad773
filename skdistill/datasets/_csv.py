"""Tables from CSV files, with what programs and servers make of them."""

import codecs
import csv
import io
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from skdistill.utils._ids import is_id_name
from skdistill.utils._signatures import name_content
from skdistill.utils._untrusted import BoundedGzip
from skdistill.utils._warnings import warn

# More than any catalog has.
MAX_COLUMNS = 10_000
# Of the header and the first row of a file.
_MAX_START_BYTES = 2**21
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
# The mark of Excel for its own separator.
_EXCEL = re.compile(r"sep=(.)", re.IGNORECASE)


@dataclass
class _Start:
    """How a file begins."""

    encoding: str
    # Lines before the header: comments and empty ones.
    n_skipped: int
    header: list[str]


def read_csv(path: Path, ids: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV file, or say why it is none.

    Parameters
    ----------
    path : Path
        The file, in gzip if it ends in `.gz`.
    ids : sequence of str, default=()
        Columns of ids whose names do not say so.

    Returns
    -------
    frame : DataFrame
        The table. Columns of ids, by `ids` or their names, are text.

    Raises
    ------
    ValueError
        If the file is another one, a web page for example, if it has another separator
        than the comma, or if rows have more or fewer fields than the header.

    Warns
    -----
    UserWarning
        If a column is there twice.

    Notes
    -----
    Lines before the header that begin with `#`, as SkyServer writes them, are skipped.
    The text is UTF-8, or UTF-16 with a byte order mark.
    """
    start = _look_at_start(path)
    how: dict[str, Any] = {"skiprows": start.n_skipped, "encoding": start.encoding}
    header = _parse(path, nrows=0, **how).columns
    # As text first: one missing identifier would turn all of them to floats.
    how["dtype"] = {c: str for c in header if is_id_name(c) or c.strip() in ids}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.DtypeWarning)
        # Rows with more fields than the header: pandas would make an index of some,
        # or leave them out.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            # In chunks, which takes half the memory and decides types chunk by chunk.
            frame = _parse(path, **how)
        except pd.errors.DtypeWarning:
            frame = _parse(path, low_memory=False, **how)
    _check_rows(path, start, frame)
    counts = Counter(start.header)
    twice = [name for name, count in counts.items() if count > 1 and name]
    ids_twice = [name for name in twice if is_id_name(name) or name.strip() in ids]
    if ids_twice:
        raise ValueError(
            f"it has the column {ids_twice[0]!r} {counts[ids_twice[0]]} times"
        )
    if twice:
        warn(
            f"'{path}' has several columns of the same name, {twice[:10]}; all but "
            f"the first are renamed to {twice[0] + '.1'!r} and so on"
        )
    # A comma at the end of each line makes a column of nothing.
    last = frame.columns[-1]
    nothing = not start.header[-1].strip() and frame[last].isna().all()
    names = frame.columns[: -1 if nothing and len(frame.columns) > 1 else None]
    stripped = [name.strip() for name in names]
    if len(set(stripped)) < len(stripped):
        stripped = names.tolist()
    # One block of memory a type: pandas warns about adding a column to many.  Its own
    # `copy` does that, too, but in two steps, each as large as the table.
    return pd.DataFrame(
        {new: frame[old] for new, old in zip(stripped, names, strict=True)}
    )


def too_many_columns(n_columns: int) -> str:
    """Return what is wrong with a table of too many columns.

    Parameters
    ----------
    n_columns : int
        How many it has.

    Returns
    -------
    message : str
        The message.
    """
    return f"it has at least {n_columns} columns; at most {MAX_COLUMNS} can be read"


def _look_at_start(path: Path) -> _Start:
    """Read the names of the columns; there must not be too many."""
    with _open(path) as file:
        start = file.read(_MAX_START_BYTES)
    other = name_content(start)
    if other is not None:
        raise ValueError(f"it is {other}")
    encoding = "utf-8"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in start[:1000]:
        raise ValueError(
            "it contains zero bytes, which only occur in text encoded as UTF-16"
        )
    elif start.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    text = io.StringIO(start.decode(encoding, "replace"), newline="")
    n_skipped, comment, first = 0, "", text.readline()
    while first.lstrip().startswith("#") or (first and not first.strip()):
        comment = first.strip() or comment
        n_skipped, first = n_skipped + 1, text.readline()
    excel = _EXCEL.match(first.strip())
    if excel:
        if excel[1] != ",":
            raise ValueError(_other_separator(excel[1]))
        n_skipped, first = n_skipped + 1, text.readline()
    # pandas makes a column of each field of the first row, regardless of the header.
    lines = (fields for fields in csv.reader(itertools.chain([first], text)) if fields)
    header, row = next(lines, []), next(lines, [])
    if not header:
        raise ValueError("it has no header")
    n_columns = max(len(header), len(row))
    if n_columns > MAX_COLUMNS:
        raise ValueError(too_many_columns(n_columns))
    if len(start) == _MAX_START_BYTES and text.tell() == len(text.getvalue()):
        raise ValueError(f"its first lines have more than {_MAX_START_BYTES} bytes")
    if len(header) == 1:
        _check_separator(header[0], row)
    if len(comment.split(",")) == len(header) > 1 and any(
        map(_NUMBER.fullmatch, header)
    ):
        raise ValueError(f"its header begins with '#', {comment[:60]!r}: remove that")
    if len(header) > 1 and all(map(_NUMBER.fullmatch, header)):
        hint = f" but a comment, {comment[:60]!r}" if comment else ""
        raise ValueError(
            f"it has no header{hint}: its first line has only numbers. Pass the "
            "result of pandas.read_csv(path, names=[...]) instead"
        )
    if len(row) > len(header):
        raise ValueError(
            f"its header has {len(header)} columns, but a row has {len(row)}"
            + (": its rows end in a comma, its header does not" if not row[-1] else "")
        )
    return _Start(encoding, n_skipped, header)


def _check_separator(name: str, row: list[str]) -> None:
    """Raise a ValueError if the one column of a table is several with another mark."""
    for mark in _SEPARATORS:
        if mark in name:
            raise ValueError(_other_separator(mark))
    values = " ".join(row).split()
    if len(name.split()) == len(values) > 1 and all(map(_NUMBER.fullmatch, values)):
        raise ValueError(_other_separator(" "))


def _other_separator(mark: str) -> str:
    pattern = r"\s+" if mark == " " else mark
    return (
        f"its columns are separated by {_SEPARATORS.get(mark, repr(mark))}, not by "
        f"commas; pass the result of pandas.read_csv(path, sep={pattern!r}) instead "
        "(with decimal=',' if numbers have a decimal comma)"
    )


def _check_rows(path: Path, start: _Start, frame: pd.DataFrame) -> None:
    """Raise a ValueError if rows were truncated, or are headers."""
    first = frame.columns[0]
    values = frame[first]
    if not pd.api.types.is_numeric_dtype(values.dtype):
        again = (values == first).to_numpy(dtype=bool, na_value=False)
        if again.any():
            raise ValueError(
                f"row {int(again.argmax())} repeats the header: several files were "
                "joined into one"
            )
    # pandas fills what is missing at the end of a row; without such a row the lines
    # need not be counted.
    if not frame.iloc[:, -1].isna().any():
        return
    with _open(path) as file:
        text = io.TextIOWrapper(file, start.encoding, "replace", newline="")
        for _ in range(start.n_skipped):
            text.readline()
        lines = csv.reader(text)
        n_fields = len(next((fields for fields in lines if fields), []))
        for fields in lines:
            if fields and len(fields) != n_fields and any(map(str.strip, fields)):
                raise ValueError(
                    f"line {start.n_skipped + lines.line_num} has {len(fields)} "
                    f"fields, but the header has {n_fields}: "
                    f"{','.join(fields)[:60]!r}. The file or a line is truncated"
                )


def _open(path: Path) -> Any:
    if path.name.lower().endswith(".gz"):
        return io.BufferedReader(BoundedGzip(path))
    return path.open("rb")


def _parse(path: Path, encoding: str, **how: Any) -> pd.DataFrame:
    with _open(path) as file:
        try:
            if encoding == "utf-16":
                text = io.TextIOWrapper(file, encoding, newline="")
                return pd.read_csv(text, index_col=False, **how)
            return pd.read_csv(file, index_col=False, encoding=encoding, **how)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"it is not encoded in UTF-8 ({error}); pass the result of "
                "pandas.read_csv(path, encoding='latin-1'), or with another encoding, "
                "instead"
            ) from error
