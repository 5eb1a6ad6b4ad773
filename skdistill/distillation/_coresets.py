"""Baselines of real images: a random subset, herding, and all images."""

from typing import Any

import numpy as np
import torch

from skdistill.distillation._class_wise import (
    IPC_CONSTRAINTS,
    BaselineDistiller,
    FeatureDistiller,
)
from skdistill.distillation._selection import herd
from skdistill.neural_network import ConvNetClassifier
from skdistill.neural_network._default import describe_network
from skdistill.utils._images import Images, batches, take
from skdistill.utils._maps import scratch_array


class RandomSubset(BaselineDistiller):
    """Select random real images of each class.

    Read more in the :ref:`User Guide <baselines>`.

    Parameters
    ----------
    ipc : int, default=1
        Number of images per class.
    estimator : classifier, default=None
        The classifier that :meth:`score` trains; None uses the network of the
        benchmarks.
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None treats each row as an
        image of height 1 with one channel.
    device : str or torch.device, default="auto"
        Device for :meth:`score`; "auto" uses a GPU if available.
    random_state : int, RandomState instance or None, default=None
        Controls which images are drawn; pass an int for reproducible results.

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
    skdistill.metrics.improvement_over_random : The improvement of a distilled set.

    Examples
    --------
    >>> from skdistill import RandomSubset, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> RandomSubset(ipc=2, random_state=0).fit(X, y).synthetic_
    <SyntheticSet: 18 images of 16x16x3, 9 classes>
    """

    _parameter_constraints: dict = {
        **BaselineDistiller._parameter_constraints,
        **IPC_CONSTRAINTS,
    }

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


class Herding(FeatureDistiller):
    """Select real images of each class whose mean is close to the class mean.

    Each selected image is the one that brings the mean of the selected images closest
    to the mean of the class [1]_: the first images are a good subset of any size.

    Read more in the :ref:`User Guide <baselines>`.

    Parameters
    ----------
    ipc : int, default=1
        Number of images per class.
    features : estimator, default=None
        The feature space: an estimator with ``extract_features``, such as
        :class:`~skdistill.neural_network.ConvNetClassifier`, or with ``transform``.  It
        is cloned and fitted on X, y; wrap a fitted one in a
        :class:`~sklearn.frozen.FrozenEstimator`.  None uses the pixels.
    estimator : classifier, default=None
        The classifier that :meth:`score` trains; None uses the network of the
        benchmarks.
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None treats each row as an
        image of height 1 with one channel.
    device : str or torch.device, default="auto"
        Device for :meth:`score`; "auto" uses a GPU if available.
    random_state : int, RandomState instance or None, default=None
        Controls the randomness of ``features`` if it has no random state; pass an int
        for reproducible results.

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
    skdistill.distillation.RandomSubset : Randomly selected real images.

    Notes
    -----
    The mean of whitened pixels is close to 0, and so are the images of least contrast:
    after :class:`~skdistill.preprocessing.ZCAWhitener` faint images tend to be
    selected, which are not typical.  Use `features`, or images that are only scaled.

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


class FullData(BaselineDistiller):
    """Use all real images, as an upper reference for distilled sets.

    Read more in the :ref:`User Guide <baselines>`.

    Parameters
    ----------
    estimator : classifier, default=None
        The classifier that :meth:`score` trains; None uses a
        :class:`~skdistill.neural_network.ConvNetClassifier` with its default number of
        epochs, since an epoch of many images has many steps.
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
    skdistill.metrics.hard_label_recovery : The accuracy that a distilled set loses.

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

    def _metadata(self) -> dict[str, Any]:
        # For many images fewer epochs are enough.
        return describe_network(max_iter=ConvNetClassifier().max_iter)
