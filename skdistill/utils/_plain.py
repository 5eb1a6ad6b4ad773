"""Parameters as JSON gives them back, for files that say what they belong to."""

import hashlib
import json
import re
from collections.abc import Mapping
from math import inf
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator

# What functions compute is compared up to this fraction of the largest number: machines
# differ by less.
_PARTS = 10**4

# Those that are told by their names, and the random states of NumPy, which are told by
# the seed that is drawn from them.
_ADDRESS = re.compile(r"(<function [\w.]+|RandomState\(\w+\)) at 0x[0-9A-Fa-f]+")


def as_plain(value: Any) -> Any:
    """Return a parameter as JSON gives it back and people can read it."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [as_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(name): as_plain(entry) for name, entry in value.items()}
    if callable(value):
        name = getattr(value, "__qualname__", "") or lasting_repr(value)
        return f"{value.__module__}.{name}"
    if isinstance(value, (str, int, float, type(None))):
        return value
    return lasting_repr(value)


def told(value: Any) -> str:
    """Return the repr of a value for a message, a scalar of NumPy as Python has it.

    An entry of an index or a column of pandas is one, ``np.int64(7)``.
    """
    return repr(value.item() if isinstance(value, np.generic) else value)


def lasting_repr(value: Any) -> str:
    """Return the repr of an object, the same in every process as far as it can be.

    Functions are told by their names rather than their addresses, also in the reprs of
    what holds them.  The addresses of others, and of functions without a name of their
    own, are what tells them apart.
    """
    if isinstance(value, BaseEstimator):
        # All of it, where scikit-learn leaves out the middle of a long one.
        with config_context(print_changed_only=True):
            said = BaseEstimator.__repr__(value, N_CHAR_MAX=inf)
    else:
        said = repr(value)
    return _ADDRESS.sub(r"\1", said)


def parts_of_largest(numbers: np.ndarray) -> list[int]:
    """Return numbers as fractions of the largest, as exactly as machines agree."""
    largest = float(np.abs(numbers).max()) or 1.0
    parts = np.rint(numbers / largest * _PARTS)
    return [int(part) if np.isfinite(part) else 0 for part in parts.flat]


def digest_of(content: Any) -> str:
    """Return a digest of what JSON can hold."""
    text = json.dumps(content, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest()
