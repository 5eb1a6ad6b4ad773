"""ChannelScaler: every channel to mean 0 and standard deviation 1."""

import math
from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np

from skdistill.preprocessing._base import PixelTransformer
from skdistill.preprocessing._stored import (
    stored_arrays,
    stored_numbers,
    stored_shape,
)
from skdistill.utils._images import Images
from skdistill.utils._pixel_space import ChannelMoments, loses_contrast

_OF_CHANNELS = ("mean", "scale", "low", "high", "center", "squares")


class ChannelScaler(PixelTransformer):
    """Standardize each channel by the mean and deviation of all its pixels.

    Read more in the :ref:`User Guide <scikit_learn>`.

    Parameters
    ----------
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None treats each row as an
        image of height 1 with one channel.

    Attributes
    ----------
    mean_ : ndarray of shape (channels,), float64
        Mean of each channel, in the unit of the pixels.
    scale_ : ndarray of shape (channels,), float64
        Standard deviation of each channel, in the unit of the pixels; 1 for a channel
        whose pixels are all the same.
    data_min_, data_max_ : ndarray of shape (channels,), float64
        Lowest and highest value of each channel, in the unit of the pixels; they
        determine black and white in pictures.
    n_samples_seen_ : int
        Number of images of the fit.
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

    Notes
    -----
    Computed in float64, in which a large offset is subtracted before anything is
    rounded to float32.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill import ChannelScaler
    >>> X = np.random.default_rng(0).integers(0, 256, size=(10, 8, 8, 3))
    >>> scaler = ChannelScaler().fit(X)
    >>> bool(np.allclose(scaler.inverse_transform(scaler.transform(X)), X, atol=1e-3))
    True
    """

    _parameter_constraints: dict = {"image_shape": ["array-like", None]}

    def __init__(self, *, image_shape: tuple[int, int, int] | None = None) -> None:
        self.image_shape = image_shape

    def _learn(self, images: Images, *, is_first: bool, is_last: bool = True) -> None:
        if is_first:
            self._moments = ChannelMoments(images.shape[3])
            self._rounding = 0.0
            self.n_samples_seen_ = 0
        # An interrupt in the midst shall not leave some of the images in them.
        self._moments = copy(self._moments).add(images)
        self.n_samples_seen_ += len(images)
        if images.dtype.kind == "f":
            # Of half precision no more: its steps are no noise.
            eps = np.finfo(np.promote_types(images.dtype, np.float32)).eps
            self._rounding = max(self._rounding, float(eps))
        self.mean_ = self._moments.mean
        self.data_min_, self.data_max_ = self._moments.low, self._moments.high
        self.scale_ = self._moments.deviation
        # A constant channel may hold the rounding noise of its type, not one value.
        is_constant = self.scale_ <= self._rounding * np.abs(self.mean_)
        self.scale_[is_constant | (self.scale_ == 0)] = 1.0

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "scale_")

    def _forward(self, batch: np.ndarray) -> np.ndarray:
        batch -= self.mean_
        batch /= self.scale_
        return batch

    def _backward(self, batch: np.ndarray) -> np.ndarray:
        batch *= self.scale_
        batch += self.mean_
        return batch

    def _original_dtype(self) -> Any:
        is_lost = loses_contrast(self.mean_, self._moments.deviation)
        # Not for a type that held no more, nor for the noise of a constant channel.
        if self._rounding > np.finfo(np.float64).eps or not is_lost.any():
            return np.float32
        return np.float64

    def _given(self) -> tuple[np.ndarray, np.ndarray]:
        return self._moments.mean, self._moments.deviation

    def _made(self) -> tuple[np.ndarray, np.ndarray]:
        mean, deviation = self._given()
        return (mean - self.mean_) / self.scale_, deviation / self.scale_

    def _packed(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        moments = self._moments
        numbers = {
            "image_shape": list(self.image_shape_),
            "n_samples_seen": self.n_samples_seen_,
            "n_pixels": moments.n_pixels,
            "rounding": self._rounding,
        }
        values = {
            "mean": self.mean_,
            "scale": self.scale_,
            "low": self.data_min_,
            "high": self.data_max_,
            "center": moments.mean,
            "squares": moments.squares,
        }
        return numbers, {k: np.array(v, np.float64) for k, v in values.items()}

    @classmethod
    def _unpacked(
        cls, numbers: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> "ChannelScaler":
        shape = stored_shape(numbers)
        stored_numbers(
            numbers, {"image_shape", "n_samples_seen", "n_pixels"}, {"rounding"}
        )
        by_channel = {k: (np.float64, (shape[2],)) for k in _OF_CHANNELS}
        stored_arrays(arrays, by_channel)
        scale, low, high = (arrays[name] for name in ("scale", "low", "high"))
        if not (scale > 0).all():
            raise ValueError("'scale' must be positive")
        if not ((arrays["squares"] >= 0).all() and (low <= high).all()):
            raise ValueError("'squares' must not be negative, nor 'low' above 'high'")
        scaler = cls()
        scaler._moments = moments = ChannelMoments(shape[2])
        moments.n_pixels, scaler._rounding = numbers["n_pixels"], numbers["rounding"]
        moments.mean, moments.squares = arrays["center"], arrays["squares"]
        moments.low, moments.high = low, high
        scaler.mean_, scaler.scale_ = arrays["mean"], scale
        scaler.data_min_, scaler.data_max_ = low, high
        scaler.n_samples_seen_ = numbers["n_samples_seen"]
        scaler.image_shape_ = shape
        scaler.n_features_in_ = math.prod(shape)
        return scaler
