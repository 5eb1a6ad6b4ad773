"""Whether images are in the pixel space of those that were distilled."""

import math
from typing import Any

import numpy as np

from skdistill.utils._labels import is_already_checked
from skdistill.utils._pixel_space import PixelSpace, pixel_space
from skdistill.utils._warnings import warn

# By how much the space of other images may differ: a mean by this number of deviations,
# a deviation by this factor, a correlation by this much.  Two halves of a set of a few
# hundred images differ far less, images before and after a scaler or a whitening more.
_MEAN_DEVIATIONS = 1.0
_DEVIATION_FACTOR = 2.0
_CORRELATION = 0.3
# Fewer images may be unlike the others by chance, and have a wider tolerance.
_MIN_IMAGES = 20
# Distilled images themselves are less like real ones than real ones of each other:
# noisier, and of more contrast.
_OWN_SLACK = 2.0
_OWN_CORRELATION = 0.5
_FITTED_FOR_THEM = "Transform `{}` by the scaler or whitener that was fitted on these"
# Number of pixel values, of evenly spaced images, that are a sufficient sample.
_MAX_VALUES = 2**24


def warn_of_other_space(
    space: PixelSpace | None,
    X: Any,
    *,
    name: str = "X",
    shape: tuple[int, int, int] | None = None,
    own: np.ndarray | None = None,
    may_be_noise: bool = False,
    recorded: PixelSpace | None = None,
    are_distilled: bool = False,
    remedy: str | None = None,
) -> None:
    """Warn if images are in a different pixel space from those of a distilled set.

    Parameters
    ----------
    space : PixelSpace or None
        Of the images that were distilled, None if it is not known.
    X : array-like of shape (n_images, height, width, channels) or \
            (n_images, height * width * channels)
        Images; what cannot be such is not looked at.
    name : str, default="X"
        Of the parameter, for the message.
    shape : tuple (height, width, channels), default=None
        How to read images that are flattened.
    own : ndarray of shape (n_images, height, width, channels), default=None
        Distilled images, whose own pixels are compared where ``space`` is None.
    may_be_noise : bool, default=False
        Whether neighboring pixels may be as little alike as they like, unless
        something is recorded.
    recorded : PixelSpace, default=None
        Of the real images that the images were distilled from, which is compared in
        place of their own.
    are_distilled : bool, default=False
        Whether the images are distilled, which differ more if nothing is recorded.
    remedy : str, default=None
        What the message says to do about it.
    """
    if is_already_checked() or (space is None and (own is None or not len(own))):
        return
    images = _some_images(X, shape)
    if images is None:
        return
    # What is recorded was measured on all real images.
    slack = _slack(len(images)) if recorded is None else 1.0
    correlation = _CORRELATION * slack
    n_pixels = images[..., 0].size
    there = "the images that were distilled"
    if space is None:
        some = _some_images(own, None)
        if some is None:
            return
        space = pixel_space(some)
        slack = _slack(min(len(images), len(some)))
        n_pixels = min(n_pixels, some[..., 0].size)
        correlation = max(_OWN_CORRELATION, _CORRELATION * slack)
        slack *= _OWN_SLACK
        there = "the distilled images"
    elif are_distilled and recorded is None:
        slack *= _OWN_SLACK
    if images.shape[3] != len(space.mean):
        return
    if may_be_noise and recorded is None:
        correlation = np.inf
    # Of few pixels a correlation is a matter of chance, too.
    correlation += 3 / n_pixels**0.5
    with np.errstate(invalid="ignore", over="ignore"):
        other = pixel_space(images) if recorded is None else recorded
        if own is not None and not (space.deviation * other.deviation > 0).all():
            return  # of a constant there is nothing to compare
        found = differences(space, other, slack, correlation)
    if found:
        warn(
            f"`{name}` is in a different pixel space from {there}: "
            + "; ".join(found)
            + f".  {remedy or _FITTED_FOR_THEM.format(name)}.  If it was, its "
            "images differ, such as those of another survey, and results hold for "
            "such images"
        )


def warn_of_other_pixels(synthetic: Any, X: Any, *, name: str = "X") -> None:
    """Warn if images are in a different pixel space from a distilled set.

    A set that does not say what the real images were like is compared by its own.

    Parameters
    ----------
    synthetic : SyntheticSet
        The set.
    X, name
        As of :func:`warn_of_other_space`.
    """
    warn_of_other_space(
        synthetic.pixel_space,
        X,
        name=name,
        shape=synthetic.X.shape[1:],
        own=synthetic.X if synthetic.pixel_space is None else None,
        remedy=None
        if synthetic.preprocessing is None
        else f"Transform raw images by `synthetic.transform({name})`, with the "
        "preprocessing of the set",
    )


def _some_images(X: Any, shape: tuple[int, ...] | None) -> np.ndarray | None:
    """Return enough of some images to tell what they are like, None if they are not."""
    if isinstance(X, (str, bytes, dict)):
        return None
    try:
        X = np.asarray(X)
    except (TypeError, ValueError, RuntimeError):
        # A tensor with a gradient, among others: it is refused where images are read.
        return None
    if X.ndim == 2 and shape is not None and X.shape[1] == math.prod(shape):
        X = X.reshape(len(X), *shape)
    if X.ndim != 4 or not X.size or X.dtype.kind not in "biuf":
        return None
    n_images = max(_MIN_IMAGES, _MAX_VALUES // X[0].size)
    if len(X) > n_images:
        X = X[np.linspace(0, len(X) - 1, n_images).astype(np.int64)]
    return X


def _slack(n_images: int) -> float:
    """Return the additional tolerance for a small number of images."""
    return 1.0 if n_images >= _MIN_IMAGES else 1.2 * (_MIN_IMAGES / n_images) ** 0.5


def differences(
    space: PixelSpace,
    other: PixelSpace,
    slack: float = 1.0,
    correlation: float = _CORRELATION,
) -> list[str]:
    """Say in words what of two spaces differs too much for images of one kind.

    Parameters
    ----------
    space, other : PixelSpace
        With the same channels.
    slack : float, default=1.0
        What the tolerances of mean and deviation are multiplied by.
    correlation : float, default=0.3
        The tolerance of correlations.

    Returns
    -------
    differences : list of str
        Empty if the spaces may be the same.
    """
    found = []

    def compare(
        name: str, wrong: np.ndarray, one: np.ndarray, two: np.ndarray, unit: Any = 1.0
    ) -> None:
        if wrong.any():
            channel = int(np.argmax(wrong))
            units = np.broadcast_to(unit, wrong.shape)
            there, here = (_plain(v[channel], units[channel]) for v in (one, two))
            found.append(
                f"the {name} of channel {channel} is {there} there, {here} here"
            )

    scale = np.maximum(space.deviation, other.deviation)
    least = np.minimum(space.deviation, other.deviation)
    shift = np.abs(space.mean - other.mean)
    compare(
        "mean",
        shift > _MEAN_DEVIATIONS * slack * scale,
        space.mean,
        other.mean,
        np.where(least > 0, least, np.maximum(scale, shift)),
    )
    compare(
        "standard deviation",
        scale > _DEVIATION_FACTOR * slack * least,
        space.deviation,
        other.deviation,
        np.where(least > 0, least, scale),
    )
    compare(
        "correlation of neighboring pixels",
        np.abs(space.correlation - other.correlation) > correlation,
        space.correlation,
        other.correlation,
    )
    return found


def _plain(value: float, unit: float) -> str:
    """Write a number to a hundredth of a unit: what is smaller is rounding."""
    places = 2 - round(math.log10(unit)) if unit > 0 else 2
    rounded = round(float(value), places) + 0.0  # no minus in front of 0
    if rounded and not 1e-4 <= abs(rounded) < 1e7:
        return f"{rounded:.2e}"
    return f"{rounded:.{min(max(places, 0), 8)}f}"
