"""What a distilled set has to beat: real images, means and prototypes of them."""

from abc import abstractmethod
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn import config_context
from sklearn.base import _fit_context, clone
from sklearn.cluster import KMeans
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skdistill.base import BaseDistiller
from skdistill.neural_network import ConvNetClassifier
from skdistill.synthetic import SyntheticSet
from skdistill.utils._pixels import pixel_space
from skdistill.utils._random import child_seed, root_seed
from skdistill.utils._validation import check_class_sizes, check_images, check_weights


class BaselineDistiller(BaseDistiller):
    """Base class of distillers that treat each class alone and learn nothing."""

    _parameter_constraints: dict = {
        "estimator": [None, HasMethods(["fit", "score"])],
        "image_shape": ["array-like", None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
    }

    image_shape: Any
    image_shape_: tuple[int, int, int]

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "BaselineDistiller":
        """Make ``synthetic_`` of X, y.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images within their classes; images of weight 0 are left
            out.

        Returns
        -------
        self : object
            The fitted distiller.
        """
        X, y = check_images(
            self, X, y, reset=True, with_labels=True, image_shape=self.image_shape
        )
        X, y, weight = check_weights(sample_weight, X, y)
        ipc = getattr(self, "ipc", 1)
        check_class_sizes(y, ipc, f"`ipc`={ipc}")
        self.classes_, codes = np.unique(y, return_inverse=True)
        if weight is None:
            weight = np.ones(len(X))
        seed = root_seed(self.random_state)
        features = self._features(X, y, child_seed(seed, 0))
        images, labels = [], []
        for code, label in enumerate(self.classes_):
            of_class = np.flatnonzero(codes == code)
            rng = np.random.default_rng([seed, code])
            made = self._of_class(
                X[of_class], weight[of_class], features[of_class], rng
            )
            images.append(made)
            labels += [label] * len(made)
        self.synthetic_ = SyntheticSet(
            np.concatenate(images),
            np.asarray(labels, dtype=self.classes_.dtype),
            metadata={"distiller": type(self).__name__},
            pixel_space=pixel_space(X),
        )
        return self

    def _features(self, X: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
        """Return a row per image: its pixels."""
        return X.reshape(len(X), -1)

    @abstractmethod
    def _of_class(
        self,
        images: np.ndarray,
        weight: np.ndarray,
        features: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return the images that stand for a class."""


_IPC = {"ipc": [Interval(Integral, 1, None, closed="left")]}


class RandomSubset(BaselineDistiller):
    """Take random real images of each class.

    Parameters
    ----------
    ipc : int, default=1
        Number of images per class.
    estimator : classifier, default=None
        The network that :meth:`score` trains; None takes that of the benchmarks.
    image_shape : tuple (height, width, channels), default=None
        How 2-D X is to be read.  None reads one row of pixels with one channel.
    device : str or torch.device, default="auto"
        Where :meth:`score` computes; "auto" takes a GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        Decides which images are taken.

    Attributes
    ----------
    synthetic_ : SyntheticSet
        The images and their labels.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

    See Also
    --------
    skdistill.distillation.Herding : Real images whose mean is that of the class.
    skdistill.metrics.improvement_over_random : How much better a distilled set is.

    Examples
    --------
    >>> from skdistill import RandomSubset, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> RandomSubset(ipc=2, random_state=0).fit(X, y).synthetic_
    <SyntheticSet: 18 images of 16x16x3, 9 classes>
    """

    _parameter_constraints: dict = {**BaselineDistiller._parameter_constraints, **_IPC}

    def __init__(
        self,
        ipc: int = 1,
        *,
        estimator: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
    ) -> None:
        self.ipc = ipc
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state

    def _of_class(
        self,
        images: np.ndarray,
        weight: np.ndarray,
        features: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        share = weight / weight.sum()
        return images[rng.choice(len(images), self.ipc, replace=False, p=share)]


class ClassMeans(BaselineDistiller):
    """Take the mean image of each class.

    Parameters
    ----------
    estimator : classifier, default=None
        The network that :meth:`score` trains; None takes that of the benchmarks.
    image_shape : tuple (height, width, channels), default=None
        How 2-D X is to be read.  None reads one row of pixels with one channel.
    device : str or torch.device, default="auto"
        Where :meth:`score` computes; "auto" takes a GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        Decides on the network of :meth:`score` alone.

    Attributes
    ----------
    synthetic_ : SyntheticSet
        The images and their labels.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

    See Also
    --------
    skdistill.distillation.KMeansPrototypes : Means of parts of each class.

    Examples
    --------
    >>> from skdistill import ClassMeans, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> ClassMeans().fit(X, y).synthetic_
    <SyntheticSet: 9 images of 16x16x3, 9 classes>
    """

    def __init__(
        self,
        *,
        estimator: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state

    def _of_class(
        self,
        images: np.ndarray,
        weight: np.ndarray,
        features: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        return np.average(images, axis=0, weights=weight)[np.newaxis]


class FullData(BaselineDistiller):
    """Take all real images: what no distilled set of any size is expected to beat.

    Parameters
    ----------
    estimator : classifier, default=None
        The network that :meth:`score` trains; None takes a
        :class:`~skdistill.neural_network.ConvNetClassifier` with its own number of
        epochs, since many images make many steps in each.
    image_shape : tuple (height, width, channels), default=None
        How 2-D X is to be read.  None reads one row of pixels with one channel.
    device : str or torch.device, default="auto"
        Where :meth:`score` computes; "auto" takes a GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        Decides on the network of :meth:`score` alone.

    Attributes
    ----------
    synthetic_ : SyntheticSet
        The images and their labels, in the order of the classes.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

    See Also
    --------
    skdistill.metrics.hard_label_recovery : What a distilled set loses against it.

    Examples
    --------
    >>> from skdistill import FullData, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> FullData().fit(X, y).synthetic_
    <SyntheticSet: 90 images of 16x16x3, 9 classes>
    """

    def __init__(
        self,
        *,
        estimator: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state

    def _of_class(
        self,
        images: np.ndarray,
        weight: np.ndarray,
        features: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        return images

    def _default_network(self) -> Any:
        return ConvNetClassifier(
            image_shape=self.image_shape_,
            device=self.device,
            random_state=self.random_state,
        )


class FeatureDistiller(BaselineDistiller):
    """Base class of baselines that compare images in a space of features."""

    _parameter_constraints: dict = {
        **BaselineDistiller._parameter_constraints,
        **_IPC,
        "features": [
            None,
            HasMethods(["fit", "extract_features"]),
            HasMethods(["fit", "transform"]),
        ],
    }

    ipc: int
    features: Any

    def _features(self, X: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
        if self.features is None:
            return super()._features(X, y, seed)
        extractor = clone(self.features)
        if extractor.get_params(deep=False).get("random_state", 0) is None:
            extractor.set_params(random_state=seed % 2**31)
        extractor.fit(X, y)
        if hasattr(extractor, "extract_features"):
            features = np.asarray(extractor.extract_features(X))
        else:
            features = np.asarray(extractor.transform(X))
        if len(features) != len(X) or not np.isfinite(features).all():
            raise ValueError(
                "`features` must make a row of finite numbers for each of the "
                f"{len(X)} images; got shape {features.shape}"
            )
        return features.reshape(len(X), -1)


class KMeansPrototypes(FeatureDistiller):
    """Take prototypes of each class that k-means finds.

    Parameters
    ----------
    ipc : int, default=1
        Number of clusters, and so of prototypes, per class.
    prototype : {"mean", "medoid"}, default="mean"
        The mean image of each cluster, or its medoid: the real image with the least
        sum of squared distances to the others.
    features : estimator, default=None
        The space in which k-means works: an estimator with ``extract_features``, as
        :class:`~skdistill.neural_network.ConvNetClassifier`, or with ``transform``.  It
        is cloned and fitted on X, y; put a fitted one into a
        :class:`~sklearn.frozen.FrozenEstimator`.  None is the space of pixels.
    n_init : int, default=1
        Number of k-means runs per class, of which the best counts.
    estimator : classifier, default=None
        The network that :meth:`score` trains; None takes that of the benchmarks.
    image_shape : tuple (height, width, channels), default=None
        How 2-D X is to be read.  None reads one row of pixels with one channel.
    device : str or torch.device, default="auto"
        Where :meth:`score` computes; "auto" takes a GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        Decides on the start of k-means, and of features without one of their own.

    Attributes
    ----------
    synthetic_ : SyntheticSet
        The prototypes and their labels.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

    See Also
    --------
    skdistill.distillation.ClassMeans : The same with one mean per class.
    sklearn.cluster.KMeans : What finds the clusters.

    Examples
    --------
    >>> from skdistill import KMeansPrototypes, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> KMeansPrototypes(ipc=2, random_state=0).fit(X, y).synthetic_
    <SyntheticSet: 18 images of 16x16x3, 9 classes>
    """

    _parameter_constraints: dict = {
        **FeatureDistiller._parameter_constraints,
        "prototype": [StrOptions({"mean", "medoid"})],
        "n_init": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        ipc: int = 1,
        *,
        prototype: str = "mean",
        features: Any = None,
        n_init: int = 1,
        estimator: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
    ) -> None:
        self.ipc = ipc
        self.prototype = prototype
        self.features = features
        self.n_init = n_init
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state

    def _of_class(
        self,
        images: np.ndarray,
        weight: np.ndarray,
        features: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        clusters = _clusters(
            features, weight, self.ipc, self.n_init, int(rng.integers(2**31))
        )
        made = []
        for cluster in clusters:
            shares = weight[cluster]
            if self.prototype == "mean":
                made.append(np.average(images[cluster], axis=0, weights=shares))
                continue
            # Of squared distances the sum is least where that to the mean is.
            mean = np.average(features[cluster], axis=0, weights=shares)
            nearest = np.square(features[cluster] - mean).sum(axis=1).argmin()
            made.append(images[cluster[nearest]])
        return np.stack(made)


class Herding(FeatureDistiller):
    """Take real images of each class whose mean follows that of the class.

    Each image is the one that brings the mean of those taken so far closest to the
    mean of the class [1]_: the first ones are a good subset of any size.

    Parameters
    ----------
    ipc : int, default=1
        Number of images per class.
    features : estimator, default=None
        The space of the means: an estimator with ``extract_features``, as
        :class:`~skdistill.neural_network.ConvNetClassifier`, or with ``transform``.  It
        is cloned and fitted on X, y; put a fitted one into a
        :class:`~sklearn.frozen.FrozenEstimator`.  None is the space of pixels.
    estimator : classifier, default=None
        The network that :meth:`score` trains; None takes that of the benchmarks.
    image_shape : tuple (height, width, channels), default=None
        How 2-D X is to be read.  None reads one row of pixels with one channel.
    device : str or torch.device, default="auto"
        Where :meth:`score` computes; "auto" takes a GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        Decides on features without a random state of their own.

    Attributes
    ----------
    synthetic_ : SyntheticSet
        The images and their labels.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

    See Also
    --------
    skdistill.distillation.RandomSubset : Real images without a choice.

    References
    ----------
    .. [1] Welling, "Herding Dynamical Weights to Learn", ICML 2009.

    Examples
    --------
    >>> from skdistill import ConvNetClassifier, Herding, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> network = ConvNetClassifier(width=8, max_iter=2)
    >>> Herding(ipc=2, features=network, random_state=0).fit(X, y).synthetic_
    <SyntheticSet: 18 images of 16x16x3, 9 classes>
    """

    def __init__(
        self,
        ipc: int = 1,
        *,
        features: Any = None,
        estimator: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
    ) -> None:
        self.ipc = ipc
        self.features = features
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state

    def _of_class(
        self,
        images: np.ndarray,
        weight: np.ndarray,
        features: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        return images[herd(features, self.ipc, weight)]


def herd(features: np.ndarray, n_taken: int, weight: np.ndarray) -> list[int]:
    """Choose rows, one after the other, whose mean stays close to that of all.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
    n_taken : int
        At most ``n_samples``.
    weight : ndarray of shape (n_samples,)
        Weights of the rows in their mean.

    Returns
    -------
    taken : list of int
        Different rows, in the order of their choice.
    """
    features = features.astype(np.float64)
    features -= np.average(features, axis=0, weights=weight)
    squares = np.square(features).sum(axis=1)
    total = np.zeros(features.shape[1])
    taken: list[int] = []
    for _ in range(n_taken):
        # |total + row|^2, without what is the same for all rows.
        distances = squares + 2 * (features @ total)
        distances[taken] = np.inf
        taken.append(int(distances.argmin()))
        total += features[taken[-1]]
    return taken


def _clusters(
    features: np.ndarray, weight: np.ndarray, n_clusters: int, n_init: int, seed: int
) -> list[np.ndarray]:
    """Return the rows of each cluster, none of them empty."""
    # NumPy's arrays, which scikit-learn 1.7 fails on where it dispatches on others.
    with config_context(array_api_dispatch=False):
        found = KMeans(n_clusters, n_init=n_init, random_state=seed).fit(
            features, sample_weight=weight
        )
    clusters = [np.flatnonzero(found.labels_ == k) for k in range(n_clusters)]
    # Of fewer different images than clusters some are left empty: they take one of the
    # largest cluster each.
    for place, cluster in enumerate(clusters):
        if not len(cluster):
            largest = int(np.argmax([len(other) for other in clusters]))
            clusters[place], clusters[largest] = (
                clusters[largest][-1:],
                clusters[largest][:-1],
            )
    return clusters
