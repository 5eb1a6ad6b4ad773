"""DCDistiller and DSADistiller: gradient matching."""

import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._network_matching import NetworkMatchingDistiller
from skdistill.distillation._objectives._gradient_matching import (
    GradientMatching,
    Training,
)
from skdistill.distillation._objectives._gradients import (
    DISTANCES,
    MATCHED,
    matched_parts,
)
from skdistill.distillation._objectives._networks import (
    Networks,
    RandomNetworks,
    Snapshots,
)
from skdistill.distillation._teachers import (
    describe_teachers,
    fit_teachers,
    kind_of_teachers,
)
from skdistill.neural_network._module_derivatives import (
    Derivatives,
    check_second_derivatives,
)
from skdistill.neural_network._network_kind import CONVNET, NetworkKind
from skdistill.trajectory import TrajectoryBuffer
from skdistill.utils._distributed import Ranks
from skdistill.utils._random import child_seed
from skdistill.utils._warnings import warn

# As released: the angle between gradients is not linear in that of the real images,
# and a smaller batch gives another mean.
_AUTO_BATCH = 256

# Why of a network there may be no parameters that are matched.
_NOTHING = (
    '"weights" are the trainable parameters with at least two dimensions, such as '
    'those of convolutions and linear layers, "kernels" those with at least three, '
    'of which the network has none; "all" uses all parameters'
)

# Images of a class times epochs after each update, as released: (10, 50), (50, 10).
_AUTO_EPOCHS = 500


class DCDistiller(NetworkMatchingDistiller):
    """Distill an image set by matching gradients (DC).

    Synthetic images are optimized such that networks have the same gradients on them as
    on real images of the same class [1]_:

    .. math::

        \\mathcal{L}(S) = \\sum_c \\sum_l D\\bigl(
        \\nabla_{\\theta_l} \\ell(\\theta; S_c),
        \\nabla_{\\theta_l} \\ell(\\theta; R_c)\\bigr),
        \\qquad D(A, B) = \\sum_i \\Bigl(1 -
        \\frac{\\langle a_i, b_i \\rangle}{|a_i| |b_i|}\\Bigr),

    where :math:`\\ell` is the mean cross-entropy, :math:`S_c` are all synthetic and
    :math:`R_c` some real images of class c, :math:`\\theta_l` the weights of layer l of
    a network, and :math:`a_i` the part of its gradient that belongs to output unit i.
    A network is drawn at random and used for ``n_rounds`` updates of the images,
    between which it is trained on them; then it is replaced.

    Teachers are not needed.  With other parameters this is the method of [2]_, which
    is more accurate: see ``buffer``.

    Read more in the :ref:`User Guide <gradients>`.

    Parameters
    ----------
    ipc : int, default=1
        Number of synthetic images per class.
    max_iter : int, default=1000
        Number of iterations, each an update of the images.  [1]_ uses 1000 networks,
        which are 1000 times ``n_rounds`` iterations.
    n_rounds : int or "auto", default="auto"
        Number of updates of the images for which a network is used.  "auto" is ``ipc``,
        as in [1]_: with one image per class networks are not trained.
    n_network_epochs : int or "auto", default="auto"
        Number of epochs for which a network is trained on the synthetic images between
        two updates.  "auto" is 500 / ``ipc``, approximately as in [1]_.
    network_lr : float, default=0.01
        Learning rate of this training, plain SGD.
    network_batch_size : int, default=256
        Batch size of this training.
    distance : {"cosine", "squared", "absolute"}, default="cosine"
        The distance between gradients:

        - "cosine": the sum over output units of 1 - cos, as above.  Biases and the
          weights of normalization layers do not contribute, since their rows have a
          single value.
        - "squared": the sum of squared differences.
        - "absolute": the sum of absolute differences.

    matched : {"weights", "kernels", "all"}, default="weights"
        The parameters whose gradients are compared:

        - "weights": kernels of convolutions and the matrix of the last layer, in any
          ``architecture`` the parameters with two or more axes, the first of which is
          that of the output units;
        - "kernels": kernels of convolutions, the parameters with three or more axes;
        - "all": all parameters.

        Parameters that are not trained are excluded.

    buffer : TrajectoryBuffer, FrozenEstimator or path-like, default=None
        Teachers, whose snapshots are used as networks: a random teacher and epoch in
        each iteration.  ``n_rounds``, ``n_network_epochs``, ``network_lr``,
        ``network_batch_size``, ``architecture``, ``width``, ``depth`` and
        ``normalization`` then have no effect, and iterations are faster.  The setting
        of [2]_, which also trains its networks on real images, is
        ``buffer=TrajectoryBuffer(...)``, ``distance="squared"``, ``matched="kernels"``,
        ``init="real"``, ``augmentation="color+crop+cutout"``, ``batch_size=64`` and
        ``pixel_size=2``.  A fitted buffer, or the folder of one, is used as it is; an
        unfitted one is cloned and fitted on X, y.  In a search or a cross-validation a
        fitted buffer is trained again on the images of each fold, unless it is wrapped
        in a
        :class:`~sklearn.frozen.FrozenEstimator`.
    batch_size : int, "auto" or None, default="auto"
        Number of real images of each class in an iteration; all images of a class with
        fewer images.  None uses all images of every class.  "auto" is 256.
    n_networks : int or "auto", default="auto"
        Number of networks whose gradients are averaged in an iteration.  More networks
        give less noisy steps at a proportional cost.  "auto" is 1, or one per process
        of a torch.distributed group.
    init : {"real", "noise"}, SyntheticSet or array-like, default="noise"
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
        initial images are averaged over these pixels.  This is the multi-formation of
        [2]_.
    augmentation : "dsa", None, str or sequence of str, default=None
        Families of which one is drawn for each class and iteration; real and
        synthetic images are augmented with the same parameters [3]_.  Training of the
        networks on the synthetic images also uses augmentation.
    pixel_lr : float or "auto", default="auto"
        Learning rate of the pixels, with a momentum of 0.5.  A number is the learning
        rate of SGD, 0.1 in [1]_.  "auto" divides the gradient by its running root mean
        square and measures steps in standard deviations of the real pixels.
    average : bool, default=True
        Whether ``synthetic_`` contains averages of the images (and learned labels) over
        all iterations, with weight t^2 for iteration t.  They are less noisy than the
        last images, which are returned if False, as in [1]_.
    architecture : str, callable or torch.nn.Module, default="convnet"
        The networks: "convnet", "alexnet", "mlp", "resnet18" or "vgg11"; a callable
        that takes ``image_shape`` and the number of classes and returns a module; or a
        module, whose layers draw new weights for each network.  As for
        :class:`~skdistill.trajectory.TrajectoryBuffer`.
    width : int, default=128
        Number of channels of each convolution of a "convnet".
    depth : int, default=3
        Number of blocks of a "convnet".
    normalization : {"instance", "layer", "group", "none"}, default="instance"
        As for :class:`~skdistill.neural_network.ConvNetClassifier`; without effect for
        "mlp" and custom networks.  "batch" is rejected, since it makes the gradient of
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
    buffer_ : TrajectoryBuffer
        The fitted teachers; only with ``buffer``.
    history_ : DataFrame of `n_iter_` rows, but at most 10,000
        Per iteration: ``round``, the number of previous updates with the same network,
        or ``teacher`` and ``snapshot`` with a buffer; ``loss``; ``network_accuracy``,
        the mean over classes of the network's accuracy on real images; and ``event``.
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
    DSADistiller : The same with augmentation.
    STMDistiller : Matches the result of many steps of training.

    References
    ----------
    .. [1] Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching",
       ICLR 2021.
    .. [2] Kim et al., "Dataset Condensation via Efficient Synthetic-Data
       Parameterization", ICML 2022.
    .. [3] Zhao and Bilen, "Dataset Condensation with Differentiable Siamese
       Augmentation", ICML 2021.

    Examples
    --------
    >>> from skdistill import DCDistiller, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> distiller = DCDistiller(ipc=2, max_iter=4, width=8, random_state=0).fit(X, y)
    >>> distiller.synthetic_
    <SyntheticSet: 18 images of 16x16x3, 9 classes>
    >>> distiller.history_["round"].tolist()
    [0, 1, 0, 1]
    """

    _parameter_constraints: dict = {
        **NetworkMatchingDistiller._parameter_constraints,
        "n_rounds": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_network_epochs": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "network_lr": [Interval(Real, 0, None, closed="neither")],
        "network_batch_size": [Interval(Integral, 1, None, closed="left")],
        "distance": [StrOptions(set(DISTANCES))],
        "matched": [StrOptions(set(MATCHED))],
        "buffer": [TrajectoryBuffer, FrozenEstimator, str, os.PathLike, None],
    }

    _free_parameters = NetworkMatchingDistiller._free_parameters | {"buffer"}

    def __init__(
        self,
        ipc: int = 1,
        *,
        max_iter: int = 1000,
        n_rounds: int | str = "auto",
        n_network_epochs: int | str = "auto",
        network_lr: float = 0.01,
        network_batch_size: int = 256,
        distance: str = "cosine",
        matched: str = "weights",
        buffer: TrajectoryBuffer | str | os.PathLike[str] | None = None,
        batch_size: int | str | None = "auto",
        n_networks: int | str = "auto",
        init: Any = "noise",
        pixel_size: int = 1,
        augmentation: str | Sequence[str] | None = None,
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
        self.n_rounds = n_rounds
        self.n_network_epochs = n_network_epochs
        self.network_lr = network_lr
        self.network_batch_size = network_batch_size
        self.distance = distance
        self.matched = matched
        self.buffer = buffer
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

    def _find_kind(self, data: RealData) -> NetworkKind:
        if self.buffer is None:
            return super()._find_kind(data)
        if self.architecture != CONVNET:
            warn(
                "`architecture` has no effect if `buffer` is given: the networks are "
                "those of its teachers"
            )
        # Teachers look at their images themselves.
        return kind_of_teachers(self.buffer, data)

    def _check_module(self, network: Derivatives) -> None:
        check_second_derivatives(network)
        if not matched_parts(self._kind.build_structure(), self.matched):
            raise ValueError(
                f"`matched`={self.matched!r} selects no parameters: {_NOTHING}"
            )

    def _training(self) -> Training | None:
        """Return how networks are trained, if they are."""
        if self.buffer is not None:
            return None
        n_rounds = self.ipc if self.n_rounds == "auto" else self.n_rounds
        n_epochs = self.n_network_epochs
        if n_epochs == "auto":
            n_epochs = max(1, round(_AUTO_EPOCHS / self.ipc))
        return Training(
            int(n_rounds),
            int(n_epochs),
            float(self.network_lr),
            int(self.network_batch_size),
        )

    def _make_objective(self, data: RealData, seed: int) -> GradientMatching:
        networks: Networks
        if self.buffer is None:
            networks = RandomNetworks(self._kind.build, data.device)
        else:
            self.buffer_ = fit_teachers(
                self.buffer,
                data,
                seed=child_seed(seed, 1) % 2**31,
                ranks=Ranks(),
                is_fixed=self.random_state is not None,
                checkpoint=self.checkpoint,
            )
            self._kind = self.buffer_.settings_.network
            networks = Snapshots(self.buffer_, data.device)
        batch_size = _AUTO_BATCH if self.batch_size == "auto" else self.batch_size
        return GradientMatching(
            data,
            self._kind.build_structure(),
            networks,
            training=self._training(),
            distance=self.distance,
            matched=self.matched,
            batch_size=None if batch_size is None else int(batch_size),
            families=self._families,
            n_networks=self.n_networks_,
            derivatives=self._kind.derivatives(data.device),
        )

    def _metadata(self) -> dict[str, Any]:
        if self.buffer is None:
            return super()._metadata()
        return describe_teachers(self.buffer_)
