"""From pixels of any unit to colors on a screen: which value is black, which white."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skdistill.utils._bands import composite_weights, describe_composite

# The values of images of 8 bits, of shares, and of what networks are often given; and
# how large the largest value of a set of real images has to be to be one of them.
_NATURAL = {(0.0, 255.0): 128.0, (0.0, 1.0): 0.5, (-1.0, 1.0): 0.5}
# Images of the type of 8 bits may be darker, but digits of 0 to 16 are not black.
_DARKEST_8_BIT = 64.0
# By how much of the range distilled images, which are noisy, may be beyond it.
_BEYOND = 0.25
_DARK = 0.35  # of the range, at most, is the darkest of it
# Of fluxes, what is shown in deviations of the real pixels from their mean.
_BELOW, _ABOVE = 2.0, 6.0
_MAX_LOOKED_AT = 400  # images


@dataclass
class Stretch:
    """How pixels become colors.

    Attributes
    ----------
    value_range : tuple (low, high)
        The values that become black and white.
    weights : ndarray of shape (3, channels)
        How much each channel adds to red, green and blue.
    note : str
        The same in words.
    """

    value_range: tuple[float, float]
    weights: np.ndarray
    note: str

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Turn images to 8-bit RGB, (n_images, height, width, 3)."""
        rgb = to_rgb(images, self.weights)
        if not rgb.size:
            return np.zeros(rgb.shape, dtype=np.uint8)
        low, high = self.value_range
        stretched = (rgb - low) / (high - low if high > low else 1.0)
        return (stretched.clip(0, 1) * 255).round().astype(np.uint8)

    def gray(self, images: np.ndarray) -> np.ndarray:
        """Turn images of one channel to 8-bit RGB by the same range."""
        return Stretch(self.value_range, np.ones((3, 1)), "")(images)


def to_rgb(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mix the channels of images to red, green and blue, in the unit of the pixels."""
    dtype = images.dtype if images.dtype.kind == "f" else np.dtype(np.float64)
    return images.astype(dtype, copy=False) @ weights.T.astype(dtype)


def to_displayable(
    images: np.ndarray,
    value_range: tuple[float, float] | None = None,
    composite: ArrayLike | None = None,
    band_names: Sequence[str] | None = None,
    preprocessing: Any = None,
) -> np.ndarray:
    """Turn images of any pixel unit to 8-bit RGB, all by the same stretch.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels)
    value_range, composite, band_names
        As in :meth:`skdistill.SyntheticSet.to_images`.
    preprocessing : transformer, default=None
        What knows the range of the real images.

    Returns
    -------
    pixels : ndarray of shape (n_images, height, width, 3), uint8
    """
    stretch = find_stretch(
        images,
        preprocessing,
        value_range=value_range,
        composite=composite,
        band_names=band_names,
        stacklevel=3,
    )
    return stretch(images)


def find_stretch(
    images: Any,
    preprocessing: Any = None,
    *,
    value_range: tuple[float, float] | None = None,
    composite: ArrayLike | None = None,
    band_names: Sequence[str] | None = None,
    stacklevel: int = 2,
) -> Stretch:
    """Find out how to show images, alike in every picture of the same images.

    What the pixels of the real images were, a scaler knows that was fitted to them;
    where there is none, the images themselves are looked at.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels)
        In the unit that they are shown in.
    preprocessing : transformer, default=None
        What the real images were transformed by.
    value_range, composite, band_names
        What the user asked for; None if nothing.
    """
    if value_range is not None:
        check_value_range(value_range)
    n_channels = images.shape[-1]
    weights = composite_weights(n_channels, composite, band_names, stacklevel + 1)
    colors = describe_composite(n_channels, composite, band_names)
    if value_range is not None:
        low, high = (float(end) for end in value_range)
        why = ""
    else:
        low, high, why = _infer(images, preprocessing, weights)
    text = f"black is {low:.3g}, white {high:.3g}{why}"
    note = f"{text}; {colors}" if colors else text
    return Stretch((low, high), weights, note)


def check_value_range(value_range: Any) -> None:
    """Raise a ValueError unless a range is two finite numbers that increase."""
    try:
        bounds = np.asarray(value_range, dtype=np.float64)
        wrong = bounds.shape != (2,) or not np.isfinite(bounds).all()
    except (TypeError, ValueError):
        wrong = True
    if wrong or bounds[0] >= bounds[1]:
        raise ValueError(
            f"`value_range` must be (low, high) with low < high; got {value_range!r}"
        )


def display_range(images: np.ndarray, highest: float = 0.995) -> tuple[float, float]:
    """Return nearly the whole range of the pixels of images, two quantiles."""
    low, high = np.quantile(images, [0.005, highest])
    if high <= low:  # nearly all pixels are the same
        low, high = images.min(), images.max()
    return float(low), float(high)


def _infer(
    images: Any, preprocessing: Any, weights: np.ndarray
) -> tuple[float, float, str]:
    """Return black, white and why."""
    # Mixed by weights, pixels have another unit than they came in.
    same_unit = np.allclose(weights.sum(axis=1), 1.0) and (weights >= 0).all()
    source = _source(preprocessing)
    if source is not None and same_unit:
        low, high = float(np.min(source.data_min_)), float(np.max(source.data_max_))
        natural = _natural(low, high)
        if natural is not None:
            return (*natural, _reason(natural, "real images"))
        mean, scale = getattr(source, "mean_", None), getattr(source, "scale_", None)
        if mean is not None and scale is not None and high > low:
            darkest = max(low, float(np.min(mean - _BELOW * scale)))
            brightest = min(high, float(np.max(mean + _ABOVE * scale)))
            return darkest, brightest, " (nearly the whole range of the real images)"
        if high > low:
            return low, high, " (the range of the real images)"
    # A bounded number, evenly spaced: more would not change a quantile.
    number = min(len(images), _MAX_LOOKED_AT)
    looked = np.asarray(images)[np.linspace(0, len(images) - 1, number).astype(int)]
    if not looked.size:
        return 0.0, 1.0, ""
    if looked.dtype == bool:
        looked = looked.astype(np.float32)  # NumPy has no quantiles of booleans
    if same_unit:
        natural = _natural(
            float(looked.min()), float(looked.max()), looked.dtype == np.uint8
        ) or _nearly_natural(looked)
        if natural is not None:
            return (*natural, _reason(natural, "images"))
    # Each color has its say, and the cores of galaxies, few pixels, are not clipped.
    colors = looked if looked.shape[-1] == 1 else to_rgb(looked, weights)
    found = display_range(colors, 0.999)
    return (*found, " (nearly the whole range of the images)")


def _source(preprocessing: Any) -> Any:
    """Return what was fitted to the real images as they were and knows their range."""
    steps = getattr(preprocessing, "steps", None)
    first = steps[0][1] if steps else preprocessing
    known = hasattr(first, "data_min_") and hasattr(first, "data_max_")
    return first if known else None


def _natural(
    low: float, high: float, eight_bit: bool = False
) -> tuple[float, float] | None:
    """Return the range that images from a lowest to a highest value are likely of."""
    for natural, least in _NATURAL.items():
        if natural[1] == 255.0 and eight_bit:
            least = _DARKEST_8_BIT
        black, white = natural
        # Something has to be dark: counts from 150 to 240 are not of 8 bits.
        dark = low <= black + _DARK * (white - black)
        if black <= low and dark and least <= high <= white:
            return natural
    return None


def _nearly_natural(images: np.ndarray) -> tuple[float, float] | None:
    """Do the same for distilled images, whose noise goes beyond the range."""
    low, dark, high = np.quantile(images, [0.005, 0.05, 0.995])
    for black, white in ((0.0, 255.0), (0.0, 1.0)):
        unit = white - black
        near = low >= -_BEYOND * unit and high <= (1 + _BEYOND) * unit
        if near and high >= 0.5 * unit and dark <= _DARK * unit:
            return black, white
    return None


def _reason(natural: tuple[float, float], whose: str) -> str:
    kind = "8 bits" if natural[1] == 255.0 else f"{natural[0]:g} to {natural[1]:g}"
    return f" (assumed as {whose} of {kind}; set `value_range` to change it)"
