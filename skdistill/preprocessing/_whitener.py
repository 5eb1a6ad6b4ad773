"""ZCAWhitener: pixels without correlation, images that still look like images."""

from numbers import Real
from typing import Any

import numpy as np
import scipy.linalg
from sklearn.base import (
    BaseEstimator,
    OneToOneFeatureMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skdistill.utils._callbacks import CallbackSupportMixin, FitTasks
from skdistill.utils._doc_link import DocLinkMixin
from skdistill.utils._validation import check_images, in_shape_of

# Images that are turned to float64 at once.
_BATCH_SIZE = 1024


class ZCAWhitener(
    CallbackSupportMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
    DocLinkMixin,
    BaseEstimator,
):
    """Remove the correlation of pixels by the whitening that changes images least.

    With the covariance C of the pixels and the mean m of the images, x becomes
    (C + eps I)^(-1/2) (x - m) [1]_.  What is known in the field as ZCA is a
    :class:`~skdistill.preprocessing.ChannelScaler` and this.

    Parameters
    ----------
    eps : float, default=0.1
        What is added to all variances, in the unit of the pixels squared: directions
        that vary less are not amplified to the full.  The default is for images of
        standard deviation 1.
    image_shape : tuple (height, width, channels), default=None
        How 2-D X is to be read.  None reads one row of pixels with one channel.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,), float64
        Mean of each pixel value.
    components_ : ndarray of shape (n_components, n_features), float64
        Orthonormal directions in which the images vary, by falling variance.
    variances_ : ndarray of shape (n_components,), float64
        Variance of the images along each; n_components is the smaller of n_samples
        and n_features, the variance along all other directions is 0.
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

    See Also
    --------
    skdistill.preprocessing.ChannelScaler : Standardises each channel.

    Notes
    -----
    Computed in float64 from the covariance of the pixels or, of fewer images than
    pixel values, from the scalar products of the images.

    References
    ----------
    .. [1] Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
       appendix A.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from skdistill import ChannelScaler, ZCAWhitener
    >>> X = np.random.default_rng(0).integers(0, 256, size=(20, 8, 8, 3))
    >>> whitening = make_pipeline(ChannelScaler(), ZCAWhitener()).fit(X)
    >>> back = whitening.inverse_transform(whitening.transform(X))
    >>> bool(np.allclose(back, X, atol=1e-3))
    True
    """

    _parameter_constraints: dict = {
        "eps": [Interval(Real, 0, None, closed="neither")],
        "image_shape": ["array-like", None],
    }

    def __init__(
        self, *, eps: float = 0.1, image_shape: tuple[int, int, int] | None = None
    ) -> None:
        self.eps = eps
        self.image_shape = image_shape

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> "ZCAWhitener":
        """Measure mean and covariance of the pixels.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : None
            Ignored.

        Returns
        -------
        self : ZCAWhitener
            The fitted whitener.
        """
        images, _ = check_images(self, X, reset=True, image_shape=self.image_shape)
        task = FitTasks(self, "", 0, images, y)
        flat = images.reshape(len(images), -1)
        n_samples, n_features = flat.shape
        self.mean_ = flat.mean(axis=0, dtype=np.float64)
        if n_samples < n_features:
            centred = flat - self.mean_
            products = centred @ centred.T / n_samples
            variances, along = scipy.linalg.eigh(products, overwrite_a=True)
            # Twice orthogonal: directions of no variance are lost in the product.
            directions, _ = np.linalg.qr(centred.T @ along[:, ::-1])
            components = directions.T
        else:
            covariance = np.zeros((n_features, n_features))
            for batch in gen_batches(n_samples, _BATCH_SIZE):
                centred = flat[batch] - self.mean_
                covariance += centred.T @ centred
            covariance /= n_samples
            variances, along = scipy.linalg.eigh(covariance, overwrite_a=True)
            components = along.T[::-1]
        self.components_ = np.ascontiguousarray(components)
        # Rounding leaves variances of 0 a little below.
        self.variances_ = np.maximum(variances[::-1], 0.0)
        task.end()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Whiten images.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.

        Returns
        -------
        X_white : ndarray of the shape of X, float32
            Whitened images.
        """
        check_is_fitted(self)
        images, _ = check_images(self, X, reset=False)
        flat = images.reshape(len(images), -1)
        scales = 1 / np.sqrt(self.variances_ + self.eps)
        white = np.empty_like(flat)
        for batch in gen_batches(len(flat), _BATCH_SIZE):
            centred = flat[batch] - self.mean_
            white[batch] = self._scale(centred, scales, 1 / np.sqrt(self.eps))
        return in_shape_of(X, white.reshape(images.shape))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return whitened images to what they were.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Whitened images.

        Returns
        -------
        X_original : ndarray of the shape of X, float32
            Images in the unit of the pixels of fit.
        """
        check_is_fitted(self)
        images, _ = check_images(self, X, reset=False)
        flat = images.reshape(len(images), -1)
        scales = np.sqrt(self.variances_ + self.eps)
        original = np.empty_like(flat)
        for batch in gen_batches(len(flat), _BATCH_SIZE):
            white = flat[batch].astype(np.float64)
            original[batch] = self._scale(white, scales, np.sqrt(self.eps)) + self.mean_
        return in_shape_of(X, original.reshape(images.shape))

    def _scale(self, flat: np.ndarray, scales: np.ndarray, rest: float) -> np.ndarray:
        """Scale along the components, and by ``rest`` along all other directions."""
        components = self.components_
        along = flat @ components.T
        scaled = (along * scales) @ components
        if len(components) == flat.shape[1]:
            return scaled
        # What is left over is small where the components vary much: without the second
        # turn it would hold their rounding.
        others = flat - along @ components
        others -= (others @ components.T) @ components
        return scaled + rest * others

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
