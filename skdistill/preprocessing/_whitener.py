"""ZCAWhitener: pixels without correlation, images that still look like images."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import scipy.linalg
from sklearn.utils._param_validation import Interval

from skdistill.preprocessing._base import PixelTransformer
from skdistill.preprocessing._stored import (
    stored_arrays,
    stored_numbers,
    stored_shape,
)
from skdistill.utils._images import Images, batches, take
from skdistill.utils._pixel_space import loses_contrast
from skdistill.utils._warnings import warn

# With less, the least amplified direction is amplified 95 % as much as the most.
_MIN_RATIO = 10
# Of a whitened image, in standard deviations.
_MAX_ROUNDING = 1e-3


class ZCAWhitener(PixelTransformer):
    """Remove the correlation of pixels with a minimal change of the images (ZCA).

    With the covariance C of the pixels and the mean m of the images, x becomes
    (C + eps I)^(-1/2) (x - m) [1]_.  In the literature ZCA is either a
    :class:`~skdistill.preprocessing.ChannelScaler` followed by this transformer or, for
    trajectory matching, this transformer alone on images of 0 to 1.

    Read more in the :ref:`User Guide <scikit_learn>`.

    Parameters
    ----------
    eps : float, default=0.1
        The value added to all variances, in the unit of the pixels squared: directions
        with a smaller variance are amplified less.  The default is for images of
        standard deviation 1; a warning is raised if it is far from the variances of
        the images.
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None treats each row as an
        image of height 1 with one channel.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,), float64
        Mean of each pixel value.
    components_ : ndarray of shape (n_components, n_features), float64
        Orthonormal directions in which the images vary, by falling variance.
    variances_ : ndarray of shape (n_components,), float64
        Variance of the images along each; n_components is the smaller of n_samples
        and n_features, the variance along all other directions is 0.
    n_samples_seen_ : int
        Number of images of the fit.
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

    See Also
    --------
    skdistill.preprocessing.ChannelScaler : Standardizes each channel.

    Notes
    -----
    Computed in float64 from the covariance of the pixels or, for fewer images than
    pixel values, from the inner products of the images.  Images are read in batches,
    but a fit needs about three times the memory of ``components_``: 0.2 GB for images
    of 32x32x3, and 60 GB for images of 128x128x3 if there are as many as pixel values.
    ``partial_fit`` keeps the covariance and recomputes its directions in each call:
    pass many images at a time.

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

    def _learn(self, images: Images, *, is_first: bool, is_last: bool = True) -> None:
        n_samples, n_features = len(images), math.prod(images.shape[1:])
        if is_first:
            self.n_samples_seen_ = 0
            self.mean_ = np.zeros(n_features)
            self._scatter: np.ndarray | None = None
        mean = np.zeros(n_features)
        for part in batches(images, self._batch_values):
            mean += _flat(images, part).sum(axis=0)
        mean /= n_samples
        if is_last and n_samples < n_features:
            self.mean_, self.n_samples_seen_ = mean, n_samples
            self._from_products(images)
            self._warn_of_scale()
            return
        n_seen = self.n_samples_seen_
        n_all = n_seen + n_samples
        shift = mean - self.mean_
        try:
            if self._scatter is None:
                self._scatter = np.zeros((n_features, n_features))
                if n_seen:
                    # A fit keeps the directions alone, which tell the same.
                    along = self.components_.T * (self.variances_ * n_seen)
                    self._scatter += along @ self.components_
            for part in batches(images, self._batch_values):
                centered = _flat(images, part) - mean
                self._scatter += centered.T @ centered
            if n_seen:
                self._scatter += np.outer(shift, shift * (n_seen * n_samples / n_all))
            variances, along = scipy.linalg.eigh(
                self._scatter / n_all, overwrite_a=True
            )
        except BaseException:
            # It may hold some of these images; the directions tell what was before.
            self._scatter = None
            raise
        self.mean_ = self.mean_ + shift * (n_samples / n_all)
        self.n_samples_seen_ = n_all
        n_components = min(n_all, n_features)
        self._set(variances, along.T[::-1][:n_components])
        if is_last:
            self._scatter = None
            self._warn_of_scale()

    def _warn_of_scale(self) -> None:
        """Warn about pixels of a unit that ``eps`` is not meant for."""
        largest = float(self.variances_.max())
        if 0 < largest < self.eps / _MIN_RATIO:
            what = "far larger than all their variances: they are hardly whitened"
        # What rounding leaves along other directions is divided by the root of `eps`.
        elif np.finfo(np.float64).eps * largest**0.5 > _MAX_ROUNDING * self.eps**0.5:
            what = "less than rounding errors: the result would consist of these"
        else:
            return
        deviation = (float(self.variances_.sum()) / len(self.mean_)) ** 0.5
        warn(
            f"the pixels of X have a standard deviation of {deviation:.3g}, and "
            f"`eps`={self.eps:g} is {what}.  Apply a ChannelScaler first, or set "
            "`eps` in the unit of the pixels squared"
        )

    def _from_products(self, images: Images) -> None:
        """Find the directions of fewer images than pixel values."""
        n_samples = len(images)
        parts = list(batches(images, self._batch_values))
        products = np.empty((n_samples, n_samples))
        for place, one in enumerate(parts):
            rows = _flat(images, one) - self.mean_
            for other in parts[: place + 1]:
                columns = rows if other == one else _flat(images, other) - self.mean_
                products[one, other] = rows @ columns.T
                products[other, one] = products[one, other].T
        products /= n_samples
        variances, along = scipy.linalg.eigh(products, overwrite_a=True)
        along = along[:, ::-1]
        directions = np.zeros((len(self.mean_), n_samples))
        for part in parts:
            directions += (_flat(images, part) - self.mean_).T @ along[part]
        # Twice orthogonal: directions of no variance are lost in the product.
        directions, _ = np.linalg.qr(directions)
        self._set(variances, directions.T)

    def _set(self, variances: np.ndarray, components: np.ndarray) -> None:
        self.components_ = np.ascontiguousarray(components)
        # Rounding leaves variances of 0 a little below.
        self.variances_ = np.maximum(variances[::-1][: len(components)], 0.0)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "components_")

    def _forward(self, batch: np.ndarray) -> np.ndarray:
        flat = batch.reshape(len(batch), -1)
        scales = 1 / np.sqrt(self.variances_ + self.eps)
        white = self._scale(flat - self.mean_, scales, 1 / np.sqrt(self.eps))
        return white.reshape(batch.shape)

    def _backward(self, batch: np.ndarray) -> np.ndarray:
        flat = batch.reshape(len(batch), -1)
        scales = np.sqrt(self.variances_ + self.eps)
        original = self._scale(flat, scales, np.sqrt(self.eps)) + self.mean_
        return original.reshape(batch.shape)

    def _original_dtype(self) -> Any:
        # Of all pixel values together: one may not vary.
        mean = np.abs(self.mean_).mean(keepdims=True)
        deviation = np.sqrt(self.variances_.sum(keepdims=True) / len(self.mean_))
        return np.float64 if loses_contrast(mean, deviation).any() else np.float32

    def _given(self) -> tuple[np.ndarray, np.ndarray]:
        mean = self.mean_.reshape(-1, self.image_shape_[2])
        # Between the pixels of the mean, and about them.
        variances = self._by_channel(self.variances_) + mean.var(axis=0)
        return mean.mean(axis=0), np.sqrt(variances)

    def _made(self) -> tuple[np.ndarray, np.ndarray]:
        variances = self._by_channel(self.variances_ / (self.variances_ + self.eps))
        return np.zeros(len(variances)), np.sqrt(variances)

    def _by_channel(self, variances: np.ndarray) -> np.ndarray:
        """Return the mean variance of the pixels of each channel."""
        components = self.components_
        of_pixels = np.einsum("ij,ij,i->j", components, components, variances)
        return of_pixels.reshape(-1, self.image_shape_[2]).mean(axis=0)

    def _packed(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        numbers: dict[str, Any] = {
            "image_shape": list(self.image_shape_),
            "n_samples_seen": self.n_samples_seen_,
            "eps": float(self.eps),
        }
        arrays: dict[str, np.ndarray] = {
            "mean": np.array(self.mean_, np.float64),
            "variances": np.array(self.variances_, np.float64),
            # Half the size.  What is transformed becomes float32, too, and differs by
            # no more than its rounding.
            "components": np.asarray(self.components_, np.float32),
        }
        return numbers, arrays

    @classmethod
    def _unpacked(
        cls, numbers: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> "ZCAWhitener":
        shape = stored_shape(numbers)
        stored_numbers(numbers, {"image_shape", "n_samples_seen"}, {"eps"})
        if not numbers["eps"] > 0:
            raise ValueError(f"'eps' must be positive; got {numbers['eps']}")
        n_features = math.prod(shape)
        n_components = arrays["variances"].size if "variances" in arrays else 0
        stored_arrays(
            arrays,
            {
                "mean": (np.float64, (n_features,)),
                "variances": (np.float64, (n_components,)),
                "components": (np.float32, (n_components, n_features)),
            },
        )
        variances, components = arrays["variances"], arrays["components"]
        if not 1 <= n_components <= n_features:
            raise ValueError(
                f"it must have 1 to {n_features} components; got {n_components}"
            )
        if (variances < 0).any():
            raise ValueError("'variances' must not be negative")
        norms = np.einsum("ij,ij->i", components, components)
        if not np.allclose(norms, 1.0, atol=1e-3):
            raise ValueError("'components' must have norm 1")
        whitener = cls(eps=numbers["eps"])
        whitener.mean_, whitener._scatter = arrays["mean"], None
        whitener.variances_, whitener.components_ = variances, components
        whitener.n_samples_seen_ = numbers["n_samples_seen"]
        whitener.image_shape_ = shape
        whitener.n_features_in_ = n_features
        return whitener

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


def _flat(images: Images, part: slice) -> np.ndarray:
    return take(images, part, np.float64).reshape(part.stop - part.start, -1)
