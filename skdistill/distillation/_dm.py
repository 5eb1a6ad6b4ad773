"""DMDistiller: matching of mean features."""

import os
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch
from sklearn.utils._param_validation import Interval
from torch import nn

from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._network_matching import NetworkMatchingDistiller
from skdistill.distillation._objectives._feature_matching import (
    FeatureMeans,
    resolve_batch_size,
)
from skdistill.distillation._objectives._networks import RandomNetworks
from skdistill.neural_network._module_derivatives import (
    Derivatives,
    with_embedding,
)
from skdistill.neural_network._network_kind import CONVNET


class DMDistiller(NetworkMatchingDistiller):
    r"""Distill an image set by matching mean features (DM).

    Synthetic images are optimized such that networks with random weights have the same
    mean features on them as on real images of their class [1]_:

    .. math::

        \mathcal{L}(S) = \sum_c \Bigl| \frac{1}{|R_c|} \sum_{x \in R_c} \psi(A_c x)
        - \frac{1}{|S_c|} \sum_{s \in S_c} \psi(A_c s) \Bigr|^2,

    where :math:`\psi` are the inputs of a network's last layer, :math:`S_c` are all
    synthetic and :math:`R_c` some real images of class c, and :math:`A_c` is an
    augmentation with one set of parameters for all of them.  Every iteration draws a
    new network, which is not trained.

    Neither teachers nor second derivatives are needed: an iteration is a forward pass
    of the real images, and a forward and a backward pass of the synthetic images.
    Since only means are matched, a single image per class resembles the mean of its
    class.

    Read more in the :ref:`User Guide <features>`.

    Parameters
    ----------
    ipc : int, default=1
        Number of synthetic images per class.
    max_iter : int, default=20000
        Number of iterations, each an update of the images.
    n_steps_per_network : int, default=1
        Number of consecutive iterations that share networks, real images and
        augmentations.  With more than one, the features of the real images are computed
        once for all of them, which saves time with large batches.
    batch_size : int, "auto" or None, default="auto"
        Number of real images of each class in an iteration; all images of a class with
        fewer images.  None uses all images of every class.  "auto" is 16 times the
        square root of ``ipc``: the expected gradient does not depend on the batch size,
        and with larger batches most of the noise comes from the random networks.  [1]_
        uses 256.
    n_networks : int or "auto", default="auto"
        Number of networks whose gradients are averaged in an iteration.  More networks
        give less noisy steps at a proportional cost.  "auto" is 1, or one per process
        of a torch.distributed group.
    init : {"real", "noise"}, SyntheticSet or array-like, default="real"
        Initialization of the synthetic images:

        - "real": random real images of their class;
        - "noise": Gaussian noise with the mean and standard deviation of each channel;
        - a :class:`~skdistill.SyntheticSet` with ``ipc`` images per class: its images,
          such as those of another distiller, but not its labels or step size;
        - an array of shape (n_classes * ipc, height, width, channels): these images,
          in the order of the classes.

    pixel_size : int, default=1
        Side length of the learned pixels, in pixels of the real images.  With 2 an
        image consists of a quarter of the values, and four times as many images have
        the same storage budget.  ``ipc`` is the number of images.  Real and given
        initial images are averaged over these pixels.
    augmentation : "dsa", None, str or sequence of str, default="dsa"
        Families of which one is drawn for each class and iteration; real and
        synthetic images are augmented with the same parameters.  Omit "flip" for images
        that are not symmetric, such as digits.
    pixel_lr : float or "auto", default="auto"
        Learning rate of the pixels, with a momentum of 0.5.  A number is the learning
        rate of SGD, 1 in [1]_.  "auto" divides the gradient by its running root mean
        square and measures steps in standard deviations of the real pixels.
    average : bool, default=True
        Whether ``synthetic_`` contains averages of the images (and learned labels) over
        all iterations, with weight t^2 for iteration t.  They are less noisy than the
        last images, which are returned if False, as in [1]_.
    architecture : str, callable or torch.nn.Module, default="convnet"
        The networks: "convnet", "alexnet", "mlp", "resnet18" or "vgg11"; a callable
        that takes ``image_shape`` and the number of classes and returns a module; or a
        module, whose layers draw new weights for each network.  As for
        :class:`~skdistill.trajectory.TrajectoryBuffer`.  The features are the inputs of
        its last :class:`torch.nn.Linear`.
    width : int, default=128
        Number of channels of each convolution of a "convnet".
    depth : int, default=3
        Number of blocks of a "convnet".
    normalization : {"instance", "layer", "group", "none"}, default="instance"
        As for :class:`~skdistill.neural_network.ConvNetClassifier`; without effect for
        "mlp" and custom networks.  "batch" is rejected, since it makes the features of
        an image depend on the other images of its batch.
    checkpoint : path-like, default=None
        A folder for the state of the fit, from which the same fit is resumed;
        ``max_iter`` may be larger than before.  In a search or a cross-validation of
        scikit-learn each fit uses a separate subfolder ``fit-...``.
    estimator : classifier, default=None
        The classifier that :meth:`score` trains; None uses the network of the
        distillation.
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None treats each row as an
        image of height 1 with one channel.
    device : str or torch.device, default="auto"
        Device for the computation; "auto" uses a GPU if available.
    random_state : int, RandomState instance or None, default=None
        Controls all randomness; pass an int for reproducible results.
    verbose : int, default=0
        Shows progress bars if positive.

    Attributes
    ----------
    synthetic_ : SyntheticSet
        The distilled images and their labels.
    best_synthetic_ : SyntheticSet
        The set with the smallest mean loss over ten iterations.
    best_iteration_ : int
        The number of iterations after which ``best_synthetic_`` was obtained.
    history_ : DataFrame of `n_iter_` rows, but at most 10,000
        Per iteration: ``loss``, and ``event``: "rolled back" if the images were reset
        to the last good state.
    n_networks_ : int
        Number of networks in an iteration.
    n_iter_ : int
        Number of iterations.
    stop_reason_ : str
        Reason why the fit ended: "max_iter", "diverged",
        "interrupted" (from the keyboard), or "callback" (by a callback of
        scikit-learn).
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
    NCFMDistiller : Matches distributions of features, of trained networks.
    CAFEDistiller : Matches mean features of all layers.
    ClassMeans : Mean images instead of mean features.

    References
    ----------
    .. [1] Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV
       2023.

    Examples
    --------
    >>> from skdistill import DMDistiller, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> distiller = DMDistiller(ipc=2, max_iter=20, width=8, random_state=0).fit(X, y)
    >>> distiller.synthetic_
    <SyntheticSet: 18 images of 16x16x3, 9 classes>
    >>> losses = distiller.history_["loss"]
    >>> bool(losses[-5:].mean() < losses[:5].mean())
    True
    """

    _parameter_constraints: dict = {
        **NetworkMatchingDistiller._parameter_constraints,
        "n_steps_per_network": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        ipc: int = 1,
        *,
        max_iter: int = 20000,
        n_steps_per_network: int = 1,
        batch_size: int | str | None = "auto",
        n_networks: int | str = "auto",
        init: Any = "real",
        pixel_size: int = 1,
        augmentation: str | Sequence[str] | None = "dsa",
        pixel_lr: float | str = "auto",
        average: bool = True,
        architecture: str | Callable[..., nn.Module] | nn.Module = CONVNET,
        width: int = 128,
        depth: int = 3,
        normalization: str = "instance",
        checkpoint: str | os.PathLike[str] | None = None,
        estimator: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.ipc = ipc
        self.max_iter = max_iter
        self.n_steps_per_network = n_steps_per_network
        self.batch_size = batch_size
        self.n_networks = n_networks
        self.init = init
        self.pixel_size = pixel_size
        self.augmentation = augmentation
        self.pixel_lr = pixel_lr
        self.average = average
        self.architecture = architecture
        self.width = width
        self.depth = depth
        self.normalization = normalization
        self.checkpoint = checkpoint
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _check_module(self, network: Derivatives) -> None:
        with_embedding(network)

    def _make_objective(self, data: RealData, seed: int) -> FeatureMeans:
        return FeatureMeans(
            data,
            self._kind.derivatives(data.device),
            RandomNetworks(self._kind.build, data.device),
            batch_size=resolve_batch_size(self.batch_size, self.ipc),
            families=self._families,
            n_networks=self.n_networks_,
            n_steps_per_network=int(self.n_steps_per_network),
        )
