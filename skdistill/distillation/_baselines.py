"""What a distilled set has to beat: real images, means and prototypes of them."""

from abc import abstractmethod
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import _fit_context, clone
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skdistill.base import BaseDistiller
from skdistill.distillation._prototypes import find_clusters, herd, medoid
from skdistill.neural_network import ConvNetClassifier
from skdistill.neural_network._classifier import BaseNetworkClassifier
from skdistill.synthetic import SyntheticSet
from skdistill.utils._callbacks import FitTasks
from skdistill.utils._images import Images, batches, select, take, weighted_mean
from skdistill.utils._maps import scratch_array
from skdistill.utils._pixel_space import check_contrast, pixel_space
from skdistill.utils._random import child_seed, root_seed
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import check_class_sizes, check_images, check_weights

# A network extracts features of more images at once than are averaged at once.
_EXTRACTED_VALUES = 2**23


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
    @with_own_torch_state
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
        tasks = FitTasks(self, "", 0, X, y)
        seed = root_seed(self.random_state)
        features = self._features(X, y, child_seed(seed, 0))
        space = pixel_space(X)
        check_contrast(X.dtype, space.mean, space.deviation)
        images: list[Images] = []
        labels: list[Any] = []
        for code, label in enumerate(self.classes_):
            of_class = np.flatnonzero(codes == code)
            rng = np.random.default_rng([seed, code])
            made = self._of_class(
                select(X, of_class), weight[of_class], select(features, of_class), rng
            )
            images.append(made)
            labels += [label] * len(made)
        self.synthetic_ = SyntheticSet(
            self._joined(images),
            np.asarray(labels, dtype=self.classes_.dtype),
            metadata={"distiller": type(self).__name__},
            pixel_space=space,
        )
        tasks.end(self._for_callbacks)
        return self

    def _joined(self, images: list[Images]) -> np.ndarray:
        """Return the images of all classes one after the other."""
        return np.concatenate([np.asarray(part, dtype=np.float32) for part in images])

    def _features(self, X: Images, y: np.ndarray, seed: int) -> Images:
        """Return what images are compared by: their pixels."""
        return X

    @abstractmethod
    def _of_class(
        self,
        images: Images,
        weight: np.ndarray,
        features: Images,
        rng: np.random.Generator,
    ) -> Images:
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
        images: Images,
        weight: np.ndarray,
        features: Images,
        rng: np.random.Generator,
    ) -> np.ndarray:
        share = weight / weight.sum()
        return take(images, rng.choice(len(images), self.ipc, replace=False, p=share))


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
        images: Images,
        weight: np.ndarray,
        features: Images,
        rng: np.random.Generator,
    ) -> np.ndarray:
        return weighted_mean(images, weight)[np.newaxis]


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
        images: Images,
        weight: np.ndarray,
        features: Images,
        rng: np.random.Generator,
    ) -> Images:
        return images

    def _joined(self, images: list[Images]) -> np.ndarray:
        n_images = sum(map(len, images))
        joined = scratch_array((n_images, *images[0].shape[1:]), np.float32)
        place = 0
        for of_class in images:
            for part in batches(of_class):
                joined[place + part.start : place + part.stop] = of_class[part]
            place += len(of_class)
        return joined

    def _default_estimator(self) -> Any:
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

    def _features(self, X: Images, y: np.ndarray, seed: int) -> Images:
        if self.features is None:
            return super()._features(X, y, seed)
        extractor = clone(self.features)
        if extractor.get_params(deep=False).get("random_state", 0) is None:
            extractor.set_params(random_state=seed % 2**31)
        # Others than ours may not know what leaves rows where they are.
        is_ours = isinstance(extractor, BaseNetworkClassifier)
        extractor.fit(X if is_ours else np.asarray(X), y)
        if hasattr(extractor, "extract_features"):
            extract = extractor.extract_features
        else:
            extract = extractor.transform
        found: np.ndarray | None = None
        for part in batches(X, _EXTRACTED_VALUES):
            features = np.asarray(extract(X[part]))
            n_wanted = part.stop - part.start
            if len(features) != n_wanted or not np.isfinite(features).all():
                raise ValueError(
                    "`features` must make a row of finite numbers for each image; for "
                    f"{n_wanted} images it made shape {features.shape}"
                )
            features = features.reshape(n_wanted, -1)
            if found is None:
                found = scratch_array((len(X), features.shape[1]), features.dtype)
            found[part] = features
        assert found is not None
        return found


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
        Number of k-means runs per class, of which the best counts.  Of a class whose
        features take more than 64 MiB, each run is one in mini-batches.
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
        images: Images,
        weight: np.ndarray,
        features: Images,
        rng: np.random.Generator,
    ) -> np.ndarray:
        clusters = find_clusters(
            features, weight, self.ipc, self.n_init, int(rng.integers(2**31))
        )
        made = []
        for cluster in clusters:
            shares = weight[cluster]
            if self.prototype == "mean":
                made.append(weighted_mean(select(images, cluster), shares))
                continue
            # Of squared distances the sum is least where that to the mean is.
            nearest = medoid(select(features, cluster), shares)
            made.append(take(images, cluster[nearest : nearest + 1])[0])
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
        images: Images,
        weight: np.ndarray,
        features: Images,
        rng: np.random.Generator,
    ) -> np.ndarray:
        return take(images, np.array(herd(features, self.ipc, weight)))
