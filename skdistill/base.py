"""BaseDistiller: the common part of all distillers."""

from abc import ABCMeta, abstractmethod
from copy import copy
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import ClassifierTags
from sklearn.utils.validation import _check_n_features, check_is_fitted

from skdistill._training_set import (
    TrainingSet,
    check_test_images,
)
from skdistill.neural_network._any_classifier import check_classifier, of_images
from skdistill.neural_network._default import default_estimator, warn_of_unused_labels
from skdistill.neural_network._in_batches import in_batches
from skdistill.synthetic import SyntheticSet
from skdistill.utils._callbacks import CallbackSupportMixin
from skdistill.utils._doc_link import DocLinkMixin
from skdistill.utils._frames import TablesMixin, labels_like, rows_like
from skdistill.utils._labels import already_checked
from skdistill.utils._nested import NestedParametersMixin
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import (
    check_columns,
    hand_on_image_shape,
    is_flattened,
)


class BaseDistiller(
    CallbackSupportMixin,
    NestedParametersMixin,
    TablesMixin,
    DocLinkMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base class of distillers: estimators that condense a large set into a small one.

    A distiller changes the number of samples.  It is therefore a sampler in the sense
    of imbalanced-learn, with ``fit_resample``, and not a transformer.  A subclass has
    ``fit``, which sets ``synthetic_``, and the parameters ``estimator`` and
    ``random_state``.
    """

    synthetic_: SyntheticSet
    estimator: Any
    random_state: Any
    device: Any

    @abstractmethod
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "BaseDistiller":
        """Distill X, y into ``synthetic_``."""

    @with_own_torch_state
    def fit_resample(
        self, X: Any, y: Any, sample_weight: Any = None
    ) -> tuple[Any, Any]:
        """Distill X, y and return the synthetic images and labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images, as in ``fit``.

        Returns
        -------
        X_synthetic : ndarray of shape (n_images, height, width, channels), or \
                ndarray or DataFrame of shape (n_images, height * width * channels)
            The synthetic images, with the same number of axes as X; for a pandas or
            polars DataFrame a DataFrame with the same columns and a new index.
        y_synthetic : ndarray, Series or list of shape (n_images,)
            Their labels, in the type of y; for a Series a Series with the same name and
            type.
        """
        X_synthetic, y_synthetic = self.fit(X, y, sample_weight).synthetic_
        if is_flattened(X):
            X_synthetic = rows_like(X, X_synthetic.reshape(len(X_synthetic), -1))
        return X_synthetic, labels_like(y, y_synthetic)

    @with_own_torch_state
    def score(self, X: Any, y: Any) -> float:
        """Train a network on the synthetic images and score it on real ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Real images.
        y : array-like of shape (n_samples,)
            Their labels.  A warning is raised for classes that are not in the distilled
            set, and an error if none is.

        Returns
        -------
        accuracy : float
            Accuracy of one network, the parameter ``estimator`` or its default.
        """
        check_is_fitted(self)
        X = check_columns(self, X)
        data = TrainingSet(self.synthetic_, is_flattened(X))
        if data.flattened:
            _check_n_features(self, X, reset=False)
        X, y = check_test_images(self.synthetic_, X, y)
        network = self._trained_network(data)
        with already_checked():
            X = data.as_given(X)
            return float(in_batches(network, X).score(X, y))

    def _trained_network(self, data: TrainingSet) -> Any:
        """Train what :meth:`score` scores."""
        network = self._scoring_network()
        if self.estimator is not None:
            data.check(network)
        warn_of_unused_labels(network, self.synthetic_)
        return data.fit(of_images(network))

    def _for_callbacks(self, **attributes: Any) -> dict[str, Any]:
        """Return attributes that only callbacks of a fit get.

        A distiller has no ``predict``: its copy has that of the network of
        :meth:`score`, which is trained when it is asked for the first time.
        """
        distiller = copy(self)
        for name, value in attributes.items():
            setattr(distiller, name, value)
        found: dict[bool, tuple[TrainingSet, Any]] = {}

        def ask(method: str, X: Any) -> np.ndarray:
            flattened = is_flattened(X)
            if flattened not in found:
                data = TrainingSet(distiller.synthetic_, flattened)
                found[flattened] = data, distiller._trained_network(data)
            data, network = found[flattened]
            X = data.as_given(X)
            return getattr(in_batches(network, X), method)(X)

        def predict(X: Any) -> np.ndarray:
            return ask("predict", X)

        def predict_proba(X: Any) -> np.ndarray:
            return ask("predict_proba", X)

        def tags() -> Any:
            said = distiller.__sklearn_tags__()
            said.estimator_type = "classifier"
            said.classifier_tags = ClassifierTags()
            return said

        predictions = {"predict": predict, "predict_proba": predict_proba}
        return attributes | predictions | {"__sklearn_tags__": tags}

    def _check_estimator(self, images: Any, classes: np.ndarray) -> None:
        """Find out what is wrong with the parameter ``estimator`` before the work.

        Parameters
        ----------
        images : ndarray or Rows of shape (n_images, height, width, channels)
            Validated images, of which the first two are used.
        classes : ndarray of shape (n_classes,)
            Their class labels, in sorted order.
        """
        if self.estimator is not None:
            some = np.asarray(images[:2], dtype=np.float32)
            check_classifier(self.estimator, some, classes, [{}])

    def _scoring_network(self) -> Any:
        """Return what :meth:`score` trains, which knows the shape of the images."""
        if self.estimator is None:
            return self._default_estimator()
        return hand_on_image_shape(clone(self.estimator), self.synthetic_.X.shape[1:])

    def _default_estimator(self) -> Any:
        """Return what :meth:`score` trains when the user names no estimator.

        It is what the metadata of the set say, by which it is the same where only the
        set is known: a distiller for whose sets the common network is wrong writes
        what :func:`describe_estimator` returns into them.
        """
        return default_estimator(
            self.synthetic_.metadata,
            self.synthetic_.step_size,
            on_targets=self.synthetic_.targets is not None,
            **self._own_network(),
            image_shape=self.synthetic_.X.shape[1:],
            device=self.device,
            random_state=self.random_state,
        )

    def _own_network(self) -> dict[str, Any]:
        """Return what makes a user's own network, if sets are distilled with one."""
        return {}

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "synthetic_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
