"""Parameters as JSON gives them back, for files that say what they belong to."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def as_plain(value: Any) -> Any:
    """Return a parameter as JSON gives it back and people can read it."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [as_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(name): as_plain(entry) for name, entry in value.items()}
    if callable(value):
        return f"{value.__module__}.{getattr(value, '__qualname__', repr(value))}"
    return value if isinstance(value, (str, int, float, type(None))) else repr(value)
