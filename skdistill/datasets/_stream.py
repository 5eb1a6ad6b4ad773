"""Pairs of an image and a label, streamed into what the loaders return."""

import os
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions

from skdistill.datasets._collect import check_out, collect
from skdistill.datasets._image_table import classes_of
from skdistill.datasets._items import ItemReader, as_label
from skdistill.datasets._modes import MODES, check_size
from skdistill.utils._warnings import warn

#: Of the parameters that these loaders share.
CONSTRAINTS: dict[str, Any] = {
    "size": [Integral, "array-like", None],
    "mode": [StrOptions(set(MODES))],
    "out": [str, os.PathLike, None],
    "return_X_y": ["boolean"],
    "verbose": ["verbose"],
}


def name_of(i: int, what: str) -> str:
    """Name an image in messages."""
    return f"{what}[{i}]"


class Notes:
    """What was guessed or lost in which images."""

    def __init__(self, what: str):
        self._what = what
        self._notes: dict[str, set[int]] = {}

    def at(self, i: int) -> Callable[[str], None]:
        """Return what takes notes of an image."""
        return lambda text: self._notes.setdefault(text, set()).add(i)

    def tell(self, n: int) -> None:
        """Warn of all notes, of `n` images."""
        for text, some in self._notes.items():
            warn(
                f"{len(some)} of {n} images {text}; the first is "
                f"{name_of(min(some), self._what)}."
            )


def stream(
    n: int,
    pair: Callable[[int], tuple[Any, Any]],
    names: list[str] | None,
    size: Any,
    mode: str,
    out: Any,
    return_X_y: bool,
    verbose: int,
) -> Any:
    """Collect pairs of an image and a label."""
    sides = check_size(size)
    target = check_out(out)
    notes = Notes("dataset")
    place = [0]
    reader = ItemReader(mode, sides, lambda text: notes.at(place[0])(text))
    labels: list[Any] = [None] * n

    def read_pair(i: int) -> np.ndarray:
        place[0] = i
        try:
            image, label = pair(i)
            labels[i] = as_label(label)
            return reader.pixels(image)
        except (MemoryError, ImportError):
            raise
        # Data sets raise any kind of error for a damaged file.
        except Exception as error:
            text = str(error) or type(error).__name__
            raise ValueError(
                f"{name_of(i, 'dataset')} cannot be read: {text}"
            ) from error

    first = read_pair(0)

    def read(i: int) -> np.ndarray:
        # Once each: a data set may be slow.
        pixels = first if i == 0 else read_pair(i)
        if (pixels.shape, pixels.dtype) != (first.shape, first.dtype):
            cure = (
                ""
                if pixels.shape == first.shape
                else ". Use `size` to resize all images"
            )
            raise ValueError(
                f"{name_of(i, 'dataset')} is an image of shape {pixels.shape} and type "
                f"{pixels.dtype}; the first is of {first.shape} and {first.dtype} "
                f"(height, width, channels){cure}"
            )
        return pixels

    # In this thread alone: few data sets are made for several.
    images, _ = collect(
        n, read, first.shape, first.dtype, out=target, n_jobs=1, verbose=verbose
    )
    notes.tell(n)
    return as_result(images, as_classes(labels, names), return_X_y)


def as_classes(labels: list[Any], names: list[str] | None) -> np.ndarray:
    """Labels as an array of one type; names in place of their numbers."""
    classes, _ = classes_of(pd.Series(labels, name="label", dtype=object))
    if names is None or classes.dtype.kind != "i":
        return classes
    if classes.min() < 0 or classes.max() >= len(names):
        outside = classes[(classes < 0) | (classes >= len(names))][0]
        warn(
            f"The labels do not match the names of the {len(names)} classes: found "
            f"the label {outside}. The numbers are kept as labels."
        )
        return classes
    return np.array(names)[classes]


def as_result(images: np.ndarray, classes: np.ndarray | None, return_X_y: bool) -> Any:
    """Return what the loaders return: a Bunch, or images and classes."""
    if return_X_y:
        return images, classes
    bunch = Bunch(data=images, images=images)
    if classes is not None:
        bunch.update(target=classes, target_names=np.unique(classes).tolist())
    return bunch
