"""Base class of the transformers of pixel values: batches in, a file out."""

import os
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Mapping
from functools import wraps
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
from skdistill.utils._images import Images, batches, take
from skdistill.utils._maps import check_map_path, write_map
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import check_images, in_shape_of, is_flattened
from skdistill.utils._whole_fits import fitted_as_a_whole


def _images_stay_arrays(transformer: Any) -> Any:
    """Leave to scikit-learn's containers what they can hold: tables, not images.

    What is configured by ``set_output`` or by scikit-learn's ``transform_output`` holds
    for flattened images alone.
    """
    for name in ("transform", "fit_transform"):
        setattr(transformer, name, _of_tables_alone(vars(transformer)[name]))
    return transformer


def _of_tables_alone(in_container: Any) -> Any:
    plain = in_container.__wrapped__

    @wraps(plain)
    def method(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        chosen = in_container if is_flattened(X) else plain
        return chosen(self, X, *args, **kwargs)

    return method


@_images_stay_arrays
class PixelTransformer(
    CallbackSupportMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
    DocLinkMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base class of invertible transformers that compute in float64, in batches.

    A subclass defines its statistics of images and the transformation of a batch.
    """

    # Number of values that are processed at once.
    _batch_values = 2**21

    image_shape: Any

    @fitted_as_a_whole()
    @_fit_context(prefer_skip_nested_validation=True)
    @with_own_torch_state
    def fit(self, X: Any, y: Any = None) -> "PixelTransformer":
        """Fit to images, without the results of earlier fits.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.  They are read in batches: a memory map need not fit into memory.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        images, _ = check_images(self, X, reset=True, image_shape=self.image_shape)
        task = FitTasks(self, "", 0, images, y)
        self._learn(images, is_first=True)
        task.end()
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    @with_own_torch_state
    def partial_fit(self, X: Any, y: Any = None) -> "PixelTransformer":
        """Fit to further images, as if all had been passed to one fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images, of the same shape as before.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        is_first = not hasattr(self, "n_samples_seen_")
        images, _ = check_images(
            self,
            X,
            reset=is_first,
            image_shape=self.image_shape if is_first else None,
        )
        self._learn(images, is_first=is_first, is_last=False)
        return self

    @with_own_torch_state
    def transform(
        self, X: Any, out: str | os.PathLike[str] | None = None
    ) -> np.ndarray:
        """Transform images.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        out : path-like, default=None
            A `.npy` file for the result, which is written in batches and appears under
            this name when it is complete; it may be the file of a memory map X.  None
            keeps the result in memory.

        Returns
        -------
        X_transformed : ndarray or memmap of the shape of X, float32
            Transformed images; with ``out`` a memory map of the file, for reading.
        """
        return self._in_batches(X, out, self._forward, np.float32)

    @with_own_torch_state
    def fit_transform(
        self, X: Any, y: Any = None, out: str | os.PathLike[str] | None = None
    ) -> np.ndarray:
        """Fit to images and transform them.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : None
            Ignored.
        out : path-like, default=None
            As in :meth:`transform`.

        Returns
        -------
        X_transformed : ndarray or memmap of the shape of X, float32
            Transformed images.
        """
        if out is not None:
            # Before the work of the fit.
            check_map_path(out, "out")
        return self.fit(X, y).transform(X, out)

    @with_own_torch_state
    def inverse_transform(
        self, X: Any, out: str | os.PathLike[str] | None = None
    ) -> np.ndarray:
        """Transform images back to their original unit.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Transformed images.
        out : path-like, default=None
            As in :meth:`transform`.

        Returns
        -------
        X_original : ndarray or memmap of the shape of X
            Images in the unit of the pixels of fit: float32, or float64 if their mean
            is so large that float32 would lose their contrast.
        """
        check_is_fitted(self)
        return self._in_batches(X, out, self._backward, self._original_dtype())

    def _in_batches(self, X: Any, out: Any, change: Any, dtype: Any) -> np.ndarray:
        check_is_fitted(self)
        if out is not None:
            check_map_path(out, "out")
        images, _ = check_images(self, X, reset=False)

        def parts() -> Iterator[np.ndarray]:
            for part in batches(images, self._batch_values):
                yield change(take(images, part, np.float64))

        if out is not None:
            shape = images.shape
            if is_flattened(X):
                shape = (len(images), self.n_features_in_)
            return write_map(out, shape, dtype, parts())
        result = np.empty(images.shape, dtype)
        place = 0
        for changed in parts():
            result[place : place + len(changed)] = changed
            place += len(changed)
        return in_shape_of(X, result)

    @abstractmethod
    def _learn(self, images: Images, *, is_first: bool, is_last: bool = True) -> None:
        """Learn from images; ``is_last`` if no others will follow."""

    @abstractmethod
    def _forward(self, batch: np.ndarray) -> np.ndarray:
        """Transform images in float64, which may be changed in place."""

    @abstractmethod
    def _backward(self, batch: np.ndarray) -> np.ndarray:
        """Invert :meth:`_forward`."""

    @abstractmethod
    def _original_dtype(self) -> Any:
        """Return the type that holds images in their own unit."""

    @abstractmethod
    def _given(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation of each channel of the images of fit."""

    @abstractmethod
    def _made(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation of each channel of the same, transformed."""

    @abstractmethod
    def _packed(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what was learned as numbers that JSON can hold, and arrays.

        Raises
        ------
        AttributeError
            If it is not fitted.
        """

    @classmethod
    @abstractmethod
    def _unpacked(
        cls, numbers: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> "PixelTransformer":
        """Return what :meth:`_packed` was asked for something of.

        Raises
        ------
        ValueError
            If they cannot be of such a transformer: they may come out of any file.
        """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
