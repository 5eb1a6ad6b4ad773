"""What a file says a transformer has learned, checked before it is used."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

# Sides and counts that nothing exceeds: products of them are still integers of 64 bits.
_MAX_SIDE = 2**20
_MAX_COUNT = 2**62


def stored_shape(numbers: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the entry "image_shape".

    Raises
    ------
    ValueError
        If it is no shape of images.
    """
    shape = numbers.get("image_shape")
    if (
        not isinstance(shape, list)
        or len(shape) != 3
        or not all(type(side) is int and 1 <= side <= _MAX_SIDE for side in shape)
    ):
        raise ValueError(
            f"'image_shape' must be (height, width, channels); got {shape!r:.100}"
        )
    height, width, channels = shape
    return height, width, channels


def stored_numbers(
    numbers: Mapping[str, Any], counts: set[str], others: set[str]
) -> None:
    """Check that there are these entries and no others.

    Parameters
    ----------
    numbers : dict
    counts : set of str
        Those that are counts, or "image_shape".
    others : set of str
        Those that are numbers, not negative.

    Raises
    ------
    ValueError
        If one is missing, unknown or something else.
    """
    if set(numbers) != counts | others:
        raise ValueError(
            f"it must have the entries {sorted(counts | others)}; got "
            f"{sorted(numbers)!r:.200}"
        )
    for name in sorted(counts - {"image_shape"}):
        if type(numbers[name]) is not int or not 1 <= numbers[name] <= _MAX_COUNT:
            raise ValueError(f"{name!r} must be a count; got {numbers[name]!r:.100}")
    for name in sorted(others):
        value = numbers[name]
        if type(value) not in (int, float) or not 0 <= value < math.inf:
            raise ValueError(f"{name!r} must be a number; got {value!r:.100}")


def stored_arrays(
    arrays: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[type, tuple[int, ...]]]
) -> None:
    """Check that there are these arrays, finite, and no others.

    Parameters
    ----------
    arrays : dict of str to ndarray
    wanted : dict of str to (type, shape)

    Raises
    ------
    ValueError
        If one is missing, unknown or something else.
    """
    if set(arrays) != set(wanted):
        raise ValueError(
            f"it must have the tensors {sorted(wanted)}; got {sorted(arrays)!r:.200}"
        )
    for name, (dtype, shape) in wanted.items():
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"{name!r} must be {np.dtype(dtype).name} of shape {shape}; got "
                f"{array.dtype} of shape {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} must be finite")
