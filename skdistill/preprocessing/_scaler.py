"""ChannelScaler: every channel to mean 0 and standard deviation 1."""

from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    OneToOneFeatureMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils.validation import check_is_fitted

from skdistill.utils._callbacks import CallbackSupportMixin, FitTasks
from skdistill.utils._doc_link import DocLinkMixin
from skdistill.utils._validation import check_images, in_shape_of


class ChannelScaler(
    CallbackSupportMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
    DocLinkMixin,
    BaseEstimator,
):
    """Standardise each channel by the mean and deviation of all its pixels.

    Parameters
    ----------
    image_shape : tuple (height, width, channels), default=None
        How 2-D X is to be read.  None reads one row of pixels with one channel.

    Attributes
    ----------
    mean_ : ndarray of shape (channels,), float64
        Mean of each channel, in the unit of the pixels.
    scale_ : ndarray of shape (channels,), float64
        Standard deviation of each channel, in the unit of the pixels; 1 for a channel
        whose pixels are all the same.
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

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

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> "ChannelScaler":
        """Measure mean and standard deviation of each channel.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : None
            Ignored.

        Returns
        -------
        self : ChannelScaler
            The fitted scaler.
        """
        images, _ = check_images(self, X, reset=True, image_shape=self.image_shape)
        task = FitTasks(self, "", 0, images, y)
        self.mean_ = images.mean(axis=(0, 1, 2), dtype=np.float64)
        # Two passes: the mean square minus the squared mean would cancel.
        centre = self.mean_.astype(np.float32)
        variance = np.square(images - centre, dtype=np.float64).mean(axis=(0, 1, 2))
        # What float32 took from the mean counts where the mean is a large number.
        variance = np.maximum(variance - np.square(self.mean_ - centre), 0.0)
        self.scale_ = np.sqrt(variance)
        # A constant channel leaves rounding noise, not exactly 0.
        constant = self.scale_ <= np.finfo(np.float32).eps * np.abs(self.mean_)
        self.scale_[constant] = 1.0
        task.end()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Standardise the channels.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.

        Returns
        -------
        X_scaled : ndarray of the shape of X, float32
            Images with channels of mean 0 and standard deviation 1, over the images
            of fit.
        """
        check_is_fitted(self)
        images, _ = check_images(self, X, reset=False)
        scaled = (images - self.mean_) / self.scale_
        return in_shape_of(X, scaled.astype(np.float32))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return standardised images to the unit they had.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Standardised images.

        Returns
        -------
        X_original : ndarray of the shape of X, float32
            Images in the unit of the pixels of fit.
        """
        check_is_fitted(self)
        images, _ = check_images(self, X, reset=False)
        original = images * self.scale_ + self.mean_
        return in_shape_of(X, original.astype(np.float32))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
