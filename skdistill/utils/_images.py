"""Images of any type of number, read a part at a time: they may be a map of a file."""

from collections.abc import Iterator
from typing import Any

import numpy as np

# Number of values that are converted to floating point at once: 16 MiB of float64.
_BATCH_VALUES = 2**21


class Rows:
    """Some rows of an array, in any order, copied only when they are asked for.

    Parameters
    ----------
    array : ndarray or Rows
    rows : ndarray of int
        Positions in it.
    """

    def __init__(self, array: "np.ndarray | Rows", rows: np.ndarray) -> None:
        self._array = array
        self._rows = rows
        self.dtype: np.dtype = array.dtype
        self.shape: tuple[int, ...] = (len(rows), *array.shape[1:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, tuple):
            return self._array[self._rows[key[0]]][(slice(None), *key[1:])]
        return self._array[self._rows[key]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._array[self._rows], dtype=dtype)


Images = np.ndarray | Rows


def select(images: Images, rows: np.ndarray) -> Images:
    """Return some images without copying them.

    Parameters
    ----------
    images : ndarray or Rows of shape (n_images, height, width, channels)
    rows : ndarray of int or bool
        Which of them.
    """
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    return Rows(images, rows)


def batches(images: Images, n_values: int | None = None) -> Iterator[slice]:
    """Yield slices of some images each, so that those fit into little memory.

    They depend on the shape of the images alone, and so do sums over them.

    Parameters
    ----------
    images : ndarray or Rows of shape (n_images, ...)
    n_values : int, default=None
        Approximate number of values in a batch; None uses the default.
    """
    n_values = _BATCH_VALUES if n_values is None else n_values
    step = max(1, n_values // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), step):
        yield slice(start, min(start + step, len(images)))


def take(images: Images, key: Any, dtype: Any = np.float32) -> np.ndarray:
    """Return a copy of some images in C order and in a type of floating point.

    Parameters
    ----------
    images : ndarray or Rows of shape (n_images, ...)
    key : slice or ndarray of int
        Which of them.
    dtype : dtype, default=float32
    """
    return np.array(images[key], dtype=dtype, order="C")


def weighted_mean(images: Images, weight: np.ndarray) -> np.ndarray:
    """Return the mean of images in float64, a batch at a time.

    Parameters
    ----------
    images : ndarray or Rows of shape (n_images, ...)
    weight : ndarray of shape (n_images,)
        With a positive sum.
    """
    total = np.zeros(images.shape[1:])
    for part in batches(images):
        total += np.einsum("i,i...->...", weight[part], take(images, part, np.float64))
    return total / weight.sum()
