"""Baselines of averaged images: class means and k-means prototypes."""

from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skdistill.distillation._class_wise import BaselineDistiller, FeatureDistiller
from skdistill.distillation._selection import find_clusters, medoid
from skdistill.utils._images import Images, select, take, weighted_mean


class ClassMeans(BaselineDistiller):
    """Use the mean image of each class.

    Read more in the :ref:`User Guide <baselines>`.

    Parameters
    ----------
    estimator : classifier, default=None
        The classifier that :meth:`score` trains; None uses the network of the
        benchmarks.
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None treats each row as an
        image of height 1 with one channel.
    device : str or torch.device, default="auto"
        Device for :meth:`score`; "auto" uses a GPU if available.
    random_state : int, RandomState instance or None, default=None
        Controls the network of :meth:`score` only; pass an int for reproducible
        results.

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
    skdistill.distillation.KMeansPrototypes : Means of clusters of each class.

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


class KMeansPrototypes(FeatureDistiller):
    """Use prototypes of each class found by k-means.

    Read more in the :ref:`User Guide <baselines>`.

    Parameters
    ----------
    ipc : int, default=1
        Number of clusters and prototypes per class.
    prototype : {"mean", "medoid"}, default="mean"
        The mean image of each cluster, or its medoid: the real image with the least
        sum of squared distances to the others.
    features : estimator, default=None
        The feature space of k-means: an estimator with ``extract_features``, such as
        :class:`~skdistill.neural_network.ConvNetClassifier`, or with ``transform``.  It
        is cloned and fitted on X, y; wrap a fitted one in a
        :class:`~sklearn.frozen.FrozenEstimator`.  None uses the pixels.
    n_init : int, default=1
        Number of k-means runs per class, of which the best is used.  For a class whose
        features take more than 64 MiB, mini-batch k-means is used.
    estimator : classifier, default=None
        The classifier that :meth:`score` trains; None uses the network of the
        benchmarks.
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None treats each row as an
        image of height 1 with one channel.
    device : str or torch.device, default="auto"
        Device for :meth:`score`; "auto" uses a GPU if available.
    random_state : int, RandomState instance or None, default=None
        Controls the initialization of k-means, and the randomness of ``features`` if it
        has no random state; pass an int for reproducible results.

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
    skdistill.distillation.ClassMeans : One mean per class.
    sklearn.cluster.KMeans : The clustering method.

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
