"""ChannelScaler: every channel to mean 0 and standard deviation 1."""

from typing import Any

import numpy as np

from skdistill.preprocessing._base import PixelTransformer
from skdistill.utils._images import Images
from skdistill.utils._pixel_space import ChannelMoments, loses_contrast


class ChannelScaler(PixelTransformer):
    """Standardize each channel by the mean and deviation of all its pixels.

    Read more in the :ref:`User Guide <scikit_learn>`.

    Parameters
    ----------
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None takes each for one row of
        pixels with one channel.

    Attributes
    ----------
    mean_ : ndarray of shape (channels,), float64
        Mean of each channel, in the unit of the pixels.
    scale_ : ndarray of shape (channels,), float64
        Standard deviation of each channel, in the unit of the pixels; 1 for a channel
        whose pixels are all the same.
    data_min_, data_max_ : ndarray of shape (channels,), float64
        Lowest and highest value of each channel, in the unit of the pixels:
        pictures take from them what is black and white.
    n_samples_seen_ : int
        Number of images that were learned from.
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
        self._moments.add(images)
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
