"""What the pixels of an image set are like: the space that it is in."""

import warnings
from typing import Any, NamedTuple

import numpy as np

# Fewer images may be unlike the others by chance.
_FEWEST_IMAGES = 20
# By how much the space of other images may differ: a mean by so many deviations, a
# deviation by this factor, a correlation by this much.  Two halves of a set of a few
# hundred images differ far less, images before and after a scaler or a whitening more.
_MEAN_DEVIATIONS = 1.0
_DEVIATION_FACTOR = 2.0
_CORRELATION = 0.3


class PixelSpace(NamedTuple):
    """Statistics of images by which those of another unit or preprocessing show.

    Attributes
    ----------
    mean : ndarray of shape (channels,), float64
        Mean of each channel.
    deviation : ndarray of shape (channels,), float64
        Standard deviation of each channel.
    correlation : ndarray of shape (channels,), float64
        Correlation of neighbouring pixels in each channel: near 1 in natural images,
        near 0 after a whitening.
    """

    mean: np.ndarray
    deviation: np.ndarray
    correlation: np.ndarray


def pixel_space(images: np.ndarray) -> PixelSpace:
    """Measure the pixels of images.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels)

    Returns
    -------
    PixelSpace
    """
    axes = (0, 1, 2)
    mean = images.mean(axis=axes, dtype=np.float64)
    centred = (images - mean).astype(np.float32)
    # In the unit of the largest, squares neither overflow nor vanish.
    unit = np.abs(centred).max(axis=axes, initial=0.0).astype(np.float64)
    unit[unit == 0] = 1.0
    centred /= unit.astype(np.float32)
    variance = np.square(centred).mean(axis=axes, dtype=np.float64)
    products, n_pairs = np.zeros(len(mean)), 0
    for pairs in (
        centred[:, 1:] * centred[:, :-1],
        centred[:, :, 1:] * centred[:, :, :-1],
    ):
        products += pairs.sum(axis=axes, dtype=np.float64)
        n_pairs += pairs[..., 0].size
    covariance = products / max(n_pairs, 1)
    known = variance > 0
    correlation = np.divide(covariance, variance, out=np.zeros(len(mean)), where=known)
    return PixelSpace(mean, unit * np.sqrt(variance), correlation)


def warn_of_other_space(space: PixelSpace | None, X: Any, stacklevel: int) -> None:
    """Warn if images are in another pixel space than those of a distilled set.

    Parameters
    ----------
    space : PixelSpace or None
        Of the images that were distilled, None if it is not known.
    X : array-like
        Images; only a 4-D array of at least 20 is looked at.
    stacklevel : int
        As of :func:`warnings.warn`, seen from the caller.
    """
    shape = np.shape(X)
    if space is None or len(shape) != 4 or shape[0] < _FEWEST_IMAGES:
        return
    if shape[3] != len(space.mean):
        return
    found = differences(space, pixel_space(np.asarray(X)))
    if found:
        warnings.warn(
            "the images are in another pixel space than those that were distilled: "
            + "; ".join(found)
            + ".  Transform them by the same fitted scaler",
            stacklevel=stacklevel + 1,
        )


def differences(space: PixelSpace, other: PixelSpace) -> list[str]:
    """Say in words what of two spaces differs too much for images of one kind.

    Parameters
    ----------
    space, other : PixelSpace
        With the same channels.

    Returns
    -------
    differences : list of str
        Empty if the spaces may be the same.
    """
    found = []

    def compare(name: str, wrong: np.ndarray, one: np.ndarray, two: np.ndarray) -> None:
        if wrong.any():
            channel = int(np.argmax(wrong))
            found.append(
                f"the {name} of channel {channel} is {one[channel]:.3g} there, "
                f"{two[channel]:.3g} here"
            )

    scale = np.maximum(space.deviation, other.deviation)
    shift = np.abs(space.mean - other.mean)
    compare("mean", shift > _MEAN_DEVIATIONS * scale, space.mean, other.mean)
    least = np.minimum(space.deviation, other.deviation)
    compare(
        "standard deviation",
        scale > _DEVIATION_FACTOR * least,
        space.deviation,
        other.deviation,
    )
    compare(
        "correlation of neighbouring pixels",
        np.abs(space.correlation - other.correlation) > _CORRELATION,
        space.correlation,
        other.correlation,
    )
    return found
