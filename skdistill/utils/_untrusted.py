"""Reading files that may come from anybody: bounded, and without surprises.

A file's claims about itself are checked before anything of that size is made, and
anything wrong with it is a ValueError.
"""

import gzip
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

# JSON of ours is three levels deep; that of others may be read, too.
_MAX_LEVELS = 64
# Text of ours: classes, settings, checksums.
_MAX_JSON_BYTES = 2**26
# Labels become an array with room for the longest in each place.
_MAX_LABEL_BYTES = 2**28

# What a compressed file may become: sound ones shrink less than a hundredfold, unless
# they are small.
_ANY_BYTES = 2**27
_MAX_RATIO = 100


def parse_json(text: str | bytes) -> Any:
    """Return what a text in JSON says.

    Raises
    ------
    ValueError
        If it is no JSON, has more than 64 MiB, or is nested in more than 64 levels.
    """
    if len(text) > _MAX_JSON_BYTES:
        raise ValueError(f"its JSON has more than {_MAX_JSON_BYTES} bytes")
    too_deep = ValueError(f"its JSON has more than {_MAX_LEVELS} levels")
    try:
        value = json.loads(text)
    except RecursionError:
        raise too_deep from None
    level = [value]
    for _ in range(_MAX_LEVELS):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise too_deep
    return value


def read_json(path: Path) -> Any:
    """Return what a file in JSON says; errors as of :func:`parse_json`."""
    with path.open("rb") as file:
        return parse_json(file.read(_MAX_JSON_BYTES + 1))


def class_labels(labels: Any, n_more: int = 0) -> np.ndarray:
    """Return labels from JSON as an array.

    Parameters
    ----------
    labels : object
        What should be a list of integers, booleans, floats or strings.
    n_more : int, default=0
        How many labels of the same type will be made of them.

    Returns
    -------
    labels : ndarray of shape (n_labels,)

    Raises
    ------
    ValueError
        If they are anything else, or would take more than 256 MiB.
    """
    if not isinstance(labels, list) or not all(
        isinstance(label, (int, float, str)) for label in labels
    ):
        raise ValueError("its classes are not a list of numbers or of strings")
    longest = max((len(label) for label in labels if isinstance(label, str)), default=0)
    n_bytes = (len(labels) + n_more) * 4 * longest
    if n_bytes > _MAX_LABEL_BYTES:
        raise ValueError(f"its class labels would take {n_bytes} bytes")
    array = np.asarray(labels)
    if array.dtype.kind == "f" and all(type(label) is int for label in labels):
        # Some are too large for a signed integer.
        try:
            array = np.asarray(labels, dtype=np.uint64)
        except OverflowError as error:
            raise ValueError("its classes are not all integers of 64 bits") from error
    if len(labels) and array.dtype.kind not in "biufU":
        raise ValueError("its classes are not all numbers or all strings")
    return array


def max_unpacked(n_bytes: int) -> int:
    """Return the maximum uncompressed size for a number of compressed bytes."""
    return _ANY_BYTES + _MAX_RATIO * n_bytes


class BoundedGzip(io.RawIOBase):
    """The content of a file in gzip, up to a bound.

    Reading on raises a ValueError.

    Parameters
    ----------
    path : path-like
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = gzip.open(path)  # noqa: SIM115
        self._limit = max_unpacked(os.path.getsize(path))
        self._n_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n_read = self._file.readinto(buffer)
        self._n_read += n_read
        if self._n_read > self._limit:
            raise ValueError(
                f"it has more than {self._limit} bytes when decompressed; if the file "
                "is correct, decompress it first"
            )
        return n_read

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def errors_as_value_errors(message: str) -> Iterator[None]:
    """Turn each error of a reader into a ValueError.

    Parameters
    ----------
    message : str
        With the name of the file, and ``{error}`` where the reason goes.

    Raises
    ------
    ValueError
        For every Exception but those that are not about the file's content: a file
        that is not there, a package that is missing.
    """
    try:
        yield
    except (FileNotFoundError, ImportError):
        raise
    # The decoders of a format raise any kind of error for a damaged file.
    except Exception as error:
        _refuse(message, error)


def _refuse(message: str, error: Exception) -> NoReturn:
    reason = str(error) or type(error).__name__
    raise ValueError(message.replace("{error}", reason)) from error
