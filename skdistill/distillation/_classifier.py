"""DistilledClassifier: distil, then train a classifier on the synthetic images."""

from contextlib import suppress
from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    _fit_context,
    clone,
)
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _is_fitted, check_is_fitted

from skdistill.distillation._stm import STMDistiller
from skdistill.neural_network import ConvNetClassifier
from skdistill.neural_network._any_classifier import (
    check_classifier,
    flatten_images,
    of_images,
    takes_tables,
)
from skdistill.neural_network._default import fit_on, warn_of_unused_labels
from skdistill.synthetic import SyntheticSet
from skdistill.utils._callbacks import CallbackSupportMixin, FitTasks
from skdistill.utils._doc_link import DocLinkMixin
from skdistill.utils._image_input import unmasked
from skdistill.utils._labels import already_checked, as_labels, check_known_labels
from skdistill.utils._nested import NestedParametersMixin
from skdistill.utils._pixel_space_checks import warn_of_other_pixels
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import (
    check_columns,
    check_image_shape,
    hand_on_image_shape,
)
from skdistill.utils._whole_fits import fitted_as_a_whole


def _where_it_has(method: str) -> Any:
    """Let a method be there where the classifier has it, the default one if None."""

    def has(model: "DistilledClassifier") -> bool:
        classifier = getattr(model, "estimator_", model.estimator)
        return hasattr(
            model._default_kind() if classifier is None else classifier, method
        )

    return available_if(has)


def _has_distilled(model: Any) -> bool:
    """Tell whether a fit came as far as a distilled set, which takes the time."""
    return hasattr(model, "distiller_") and _is_fitted(model.distiller_)


class DistilledClassifier(
    CallbackSupportMixin,
    ClassifierMixin,
    MetaEstimatorMixin,
    NestedParametersMixin,
    DocLinkMixin,
    BaseEstimator,
):
    """A classifier that distills its training images and is trained on the result.

    A distiller changes the number of samples, which is not possible in a step of a
    scikit-learn pipeline.  This classifier contains the distiller and can be the last
    step of a pipeline.

    Read more in the :ref:`User Guide <scikit_learn>`.

    Parameters
    ----------
    distiller : distiller, default=None
        An estimator with ``fit_resample``.  None uses a
        :class:`~skdistill.distillation.STMDistiller`.
    estimator : classifier, default=None
        The classifier that is trained on the synthetic images, and on their soft labels
        if it has ``fit_probabilities``, or on their regression targets if it has
        ``fit_targets``.  None uses the classifier that the distiller's ``score``
        trains: its ``estimator`` or its default.
    image_shape : tuple (height, width, channels), default=None
        Shape of the images in a 2-D X, for the distiller and the classifier: it is
        passed to each that has a parameter of this name with the value None.  None uses
        the distiller's shape for the classifier, too.

    Attributes
    ----------
    distiller_ : distiller
        The fitted distiller.
    estimator_ : classifier
        The classifier fitted on the synthetic images.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skdistill import (ChannelScaler, ConvNetClassifier, DistilledClassifier,
    ...     STMDistiller, TrajectoryBuffer, make_galaxies)
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> teachers = TrajectoryBuffer(n_teachers=2, n_epochs=3, width=8)
    >>> model = make_pipeline(
    ...     ChannelScaler(),
    ...     DistilledClassifier(
    ...         STMDistiller(buffer=teachers, n_steps=5, max_total_iter=3),
    ...         ConvNetClassifier(width=8, max_iter=10)))
    >>> model.fit(X, y).predict(X[:3]).shape
    (3,)
    """

    _parameter_constraints: dict = {
        "distiller": [HasMethods(["fit", "fit_resample"]), None],
        "estimator": [HasMethods(["fit", "predict"]), None],
        "image_shape": ["array-like", None],
    }

    def __init__(
        self,
        distiller: Any = None,
        estimator: Any = None,
        *,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        self.distiller = distiller
        self.estimator = estimator
        self.image_shape = image_shape

    def _chosen_distiller(self) -> Any:
        return STMDistiller() if self.distiller is None else self.distiller

    @fitted_as_a_whole(_has_distilled)
    @_fit_context(prefer_skip_nested_validation=False)
    @with_own_torch_state
    def fit(self, X: Any, y: Any, **fit_params: Any) -> "DistilledClassifier":
        """Distill X, y and train the classifier on the result.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Class labels.
        **fit_params : dict
            Further arguments of the distiller's ``fit_resample``, such as
            ``sample_weight``; with metadata routing, those that its ``fit`` requests.

        Returns
        -------
        self : DistilledClassifier
            The fitted classifier.
        """
        if _routing_enabled():
            routed = process_routing(self, "fit", **fit_params)
            fit_params = routed["distiller"]["fit"]
        shape = self.image_shape
        if shape is not None:
            shape = check_image_shape(shape)
        self._check_classifier(X, y, shape)
        self.distiller_ = clone(self._chosen_distiller())
        own: Any = getattr(self.distiller_, "image_shape", shape)
        if shape is not None and own is None:
            # Its teachers get images as they are, and their folder need not know.
            self.distiller_.set_params(image_shape=shape)
        elif shape is not None and tuple(own) != shape:
            raise ValueError(
                f"`image_shape`={shape} must be that of `distiller`; it has "
                f"`image_shape`={tuple(own)}"
            )
        tasks = FitTasks(self, "step", 2, X, y)
        with tasks.hand_on(self.distiller_):
            X_synthetic, y_synthetic = self.distiller_.fit_resample(X, y, **fit_params)
        # Of another distiller than ours there may be no set, only what it returned.
        synthetic = getattr(self.distiller_, "synthetic_", None)
        labels = [getattr(synthetic, k, None) for k in ("probabilities", "targets")]
        if hasattr(X_synthetic, "columns"):
            # The names are checked here, before X is passed to the classifier.
            X_synthetic = np.asarray(X_synthetic)
        shape = getattr(self.distiller_, "image_shape_", shape)
        network = hand_on_image_shape(self._chosen_network(), shape)
        if isinstance(synthetic, SyntheticSet):
            warn_of_unused_labels(network, synthetic)
        if np.ndim(X_synthetic) == 4:
            network = of_images(network)
        with tasks.hand_on(network):
            self.estimator_ = fit_on(network, X_synthetic, y_synthetic, *labels)
        self.classes_ = self.estimator_.classes_
        fitted = (self.distiller_, self.estimator_)
        self.n_features_in_ = next(
            one.n_features_in_ for one in fitted if hasattr(one, "n_features_in_")
        )
        if hasattr(self.distiller_, "feature_names_in_"):
            self.feature_names_in_ = self.distiller_.feature_names_in_
        tasks.end()
        return self

    def _check_classifier(self, X: Any, y: Any, shape: Any) -> None:
        """Find out what is wrong with the classifier before the distillation.

        Distillers check what they train themselves, and X and y.
        """
        if self.estimator is None:
            return
        images, classes = None, np.zeros(0)
        with suppress(TypeError, ValueError):
            sides, classes = np.shape(X), np.unique(as_labels(y))
            if shape is None:
                shape = getattr(self.distiller, "image_shape", None)
            if len(sides) == 4:
                shape = sides[1:]
            if shape is not None:
                images = np.zeros((2, *shape), np.float32)
        check_classifier(self.estimator, images, classes, [{}])

    def _default_kind(self) -> Any:
        """Return what is trained without ``estimator``, or its class."""
        own = getattr(self.distiller, "estimator", None)
        if own is not None:
            return own
        return getattr(self.distiller, "_default_kind", ConvNetClassifier)

    def _chosen_network(self) -> Any:
        if self.estimator is not None:
            return clone(self.estimator)
        if hasattr(self.distiller_, "_scoring_network"):
            return self.distiller_._scoring_network()
        return ConvNetClassifier()

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the metadata routing: ``fit`` passes metadata to the distiller.

        Returns
        -------
        routing : MetadataRouter
            See scikit-learn's user guide on metadata routing.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        # Its own `score` has weights.
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(distiller=self._chosen_distiller(), method_mapping=mapping)

    @with_own_torch_state
    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Class labels.
        """
        check_is_fitted(self)
        X = self._known_images(X)
        with already_checked():
            return self.estimator_.predict(X)

    @_where_it_has("predict_proba")
    @with_own_torch_state
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        check_is_fitted(self)
        X = self._known_images(X)
        with already_checked():
            return self.estimator_.predict_proba(X)

    @_where_it_has("decision_function")
    @with_own_torch_state
    def decision_function(self, X: Any) -> np.ndarray:
        """Return what the classifier's ``decision_function`` returns.

        Only if the classifier has it, as
        :class:`~skdistill.neural_network.NeuralKernelClassifier` has.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.

        Returns
        -------
        values : ndarray of shape (n_samples, n_classes) or (n_samples,)
            A column per class, in the order of ``classes_``; with two classes a number
            per image, larger for the second.
        """
        check_is_fitted(self)
        X = self._known_images(X)
        with already_checked():
            return self.estimator_.decision_function(X)

    @with_own_torch_state
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on the given images and labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Real images.
        y : array-like of shape (n_samples,)
            Their labels.  A warning is raised for unknown classes, and an error if all
            are unknown.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images.

        Returns
        -------
        accuracy : float
            In [0, 1].
        """
        check_is_fitted(self)
        y = check_known_labels(y, self.classes_, of="the distilled images")
        X = self._known_images(X)
        with already_checked():
            predicted = self.estimator_.predict(X)
        sample_weight = unmasked(sample_weight, "sample_weight", "weights")
        return float(accuracy_score(y, predicted, sample_weight=sample_weight))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def _known_images(self, X: Any) -> Any:
        """Check columns, and warn about images in another pixel space."""
        X = check_columns(self, X)
        # Of another distiller than ours there may be no set, only what it returned.
        synthetic = getattr(self.distiller_, "synthetic_", None)
        if isinstance(synthetic, SyntheticSet):
            warn_of_other_pixels(synthetic, X)
        # A classifier of tables was fitted on what came flattened, or flattens itself.
        if takes_tables(self.estimator_) and np.asarray(X).ndim == 4:
            X = flatten_images(X)
        return X
