"""CAFEDistiller: matching of mean features of all layers."""

import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._network_matching import NetworkMatchingDistiller
from skdistill.distillation._objectives._alignment import LayerAlignment, Rounds
from skdistill.distillation._objectives._feature_matching import resolve_batch_size
from skdistill.distillation._objectives._networks import RandomNetworks
from skdistill.neural_network._module_derivatives import (
    Derivatives,
    ModuleDerivatives,
    with_embedding,
)
from skdistill.neural_network._network_kind import CONVNET

# As released, for three blocks: of all blocks but the last, of the last, and of what
# it is pooled to, which is compared twice there.
_EARLY_WEIGHT, _LAST_WEIGHT, _EMBEDDING_WEIGHT = 0.1, 1.0, 2.0


class CAFEDistiller(NetworkMatchingDistiller):
    r"""Distill an image set by aligning features of all layers (CAFE).

    Synthetic images are optimized such that all layers of a network have the same mean
    features on them as on real images of their class, and such that real images can be
    classified by the synthetic ones [1]_:

    .. math::

        \mathcal{L}(S) = \sum_l w_l \sum_c \Bigl| \mathrm{mean}_{x \in R_c} f_l(A_c x)
        - \mathrm{mean}_{s \in S_c} f_l(A_c s) \Bigr|^2 + \gamma \sum_c \sum_{x \in R_c}
        \ell\bigl( (\langle f(A_c x), m_k \rangle)_k, c \bigr),

    where :math:`f_l` is the output of a block's ReLU or, for the last term, the
    embedding :math:`f`, the input of the last layer, :math:`m_k` is the mean embedding
    of the synthetic images of class k, :math:`\ell` the cross-entropy, :math:`R_c` are
    some real images of class c, and :math:`A_c` is an augmentation with one set of
    parameters for all of them.

    A network is used for several rounds.  In each round the images are updated once;
    then the network is trained on them, for some epochs, until its accuracy on some
    real images has changed.  When this accuracy settles from round to round, the
    network is replaced.

    Read more in the :ref:`User Guide <features>`.

    Parameters
    ----------
    ipc : int, default=1
        Number of synthetic images per class.
    max_iter : int, default=20000
        Number of iterations, each a round with one update of the images.  [1]_ uses
        2000 networks, each for at least ten rounds.
    layer_weights : sequence of float of length ``depth`` + 1, or "auto", default="auto"
        The weights :math:`w_l` of the blocks and of the embedding.  "auto" is 0.1 for
        all blocks but the last, 1 for the last block, and 2 for the embedding.  With an
        ``architecture`` other than "convnet" there is a weight for each layer; a wrong
        length raises an error that states their number.
    discrimination : float, default=0.01
        The weight :math:`\gamma` of the last term.  For any number of real images the
        term is scaled to a sum over 256 images of each class.
    outer_tolerance : float, default=0.04
        A network is replaced when its accuracies before the last ten rounds have a
        smaller range.
    inner_tolerance : float, default=0.03
        In a round a network is trained until its accuracies after the last ten epochs
        have a larger range; used only if ``max_network_epochs`` is greater than ten.
    n_watched : int, default=128
        Number of real images on which the accuracy is watched, at least one of each
        class; 128 of each class in [1]_.  They stay the same while a network is used.
    max_rounds : int, default=50
        Maximum number of rounds for which a network is used.
    max_network_epochs : int, default=10
        Maximum number of training epochs in a round.  Ten is the number in most rounds
        of the code of [1]_; with ten the accuracy is not watched, which saves most of
        the cost.
    network_lr : float, default=0.01
        Learning rate of this training, plain SGD.
    network_batch_size : int, default=256
        Batch size of this training.
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
        initial images are averaged over these pixels.
    augmentation : "dsa", None, str or sequence of str, default=None
        Families of which one is drawn for each class and iteration; real and
        synthetic images are augmented with the same parameters.  Omit "flip" for images
        that are not symmetric, such as digits.  Training of the networks on the
        synthetic images also uses augmentation.
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
        :class:`~skdistill.trajectory.TrajectoryBuffer`.  The features of architectures
        other than "convnet" are the inputs of convolutions and linear layers, in the
        order in which they are called, except the first, whose input is the image; the
        input of the last linear layer is the embedding.  Inputs of several layers count
        once.
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
        Per iteration: ``round``, the number of previous updates with the same network
        (with several networks the first); ``loss``; ``network_accuracy``, on the
        watched images; and ``event``: "rolled back" if the images were reset to the
        last good state.
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
    DMDistiller : Matches the last features of networks that are never trained.

    References
    ----------
    .. [1] Wang et al., "CAFE: Learning to Condense Dataset by Aligning Features",
       CVPR 2022.

    Examples
    --------
    >>> from skdistill import CAFEDistiller, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> distiller = CAFEDistiller(
    ...     max_iter=4, max_rounds=2, max_network_epochs=3, width=8, random_state=0)
    >>> distiller.fit(X, y).synthetic_
    <SyntheticSet: 9 images of 16x16x3, 9 classes>
    >>> distiller.history_["round"].tolist()
    [0, 1, 0, 1]
    """

    _parameter_constraints: dict = {
        **NetworkMatchingDistiller._parameter_constraints,
        "layer_weights": [StrOptions({"auto"}), "array-like"],
        "discrimination": [Interval(Real, 0, None, closed="left")],
        "outer_tolerance": [Interval(Real, 0, None, closed="left")],
        "inner_tolerance": [Interval(Real, 0, None, closed="left")],
        "n_watched": [Interval(Integral, 1, None, closed="left")],
        "max_rounds": [Interval(Integral, 1, None, closed="left")],
        "max_network_epochs": [Interval(Integral, 1, None, closed="left")],
        "network_lr": [Interval(Real, 0, None, closed="neither")],
        "network_batch_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        ipc: int = 1,
        *,
        max_iter: int = 20000,
        layer_weights: str | Sequence[float] = "auto",
        discrimination: float = 0.01,
        outer_tolerance: float = 0.04,
        inner_tolerance: float = 0.03,
        n_watched: int = 128,
        max_rounds: int = 50,
        max_network_epochs: int = 10,
        network_lr: float = 0.01,
        network_batch_size: int = 256,
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
        self.layer_weights = layer_weights
        self.discrimination = discrimination
        self.outer_tolerance = outer_tolerance
        self.inner_tolerance = inner_tolerance
        self.n_watched = n_watched
        self.max_rounds = max_rounds
        self.max_network_epochs = max_network_epochs
        self.network_lr = network_lr
        self.network_batch_size = network_batch_size
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

    def _check_networks(self, data: RealData) -> None:
        self._n_layers = int(self.depth) + 1
        super()._check_networks(data)

    def _check_module(self, network: Derivatives) -> None:
        assert isinstance(network, ModuleDerivatives)
        with_embedding(network)
        self._n_layers = len(network.activation_sizes) + 1

    def _describe_layers(self) -> str:
        if self._kind.is_convnet:
            return f"the blocks of a network of `depth`={self.depth}"
        return f"the inputs of {self._n_layers - 1} layers of {self._kind.name}"

    def _check_parameters(self, data: RealData) -> None:
        super()._check_parameters(data)
        self._weights = self._resolve_layer_weights()

    def _resolved_parameters(self) -> dict[str, Any]:
        return super()._resolved_parameters() | {"layer_weights": self._weights}

    def _resolve_layer_weights(self) -> list[float]:
        n_layers = self._n_layers
        if isinstance(self.layer_weights, str):
            early = [_EARLY_WEIGHT] * (n_layers - 2)
            return [*early, _LAST_WEIGHT, _EMBEDDING_WEIGHT][-n_layers:]
        try:
            weights = np.asarray(self.layer_weights, dtype=float)
        except (TypeError, ValueError):
            weights = np.empty(0)
        if weights.shape != (n_layers,) or not (
            np.isfinite(weights).all() and (weights >= 0).all()
        ):
            raise ValueError(
                f"`layer_weights` must be 'auto' or {n_layers} non-negative numbers, "
                f"for {self._describe_layers()} and for the embedding; got "
                f"{self.layer_weights!r}"
            )
        if not weights.any() and not self.discrimination:
            raise ValueError(
                "`layer_weights` are all 0, and so is `discrimination`: there is "
                "nothing to match"
            )
        return weights.tolist()

    def _make_objective(self, data: RealData, seed: int) -> LayerAlignment:
        return LayerAlignment(
            data,
            self._kind.derivatives(data.device),
            self._kind.build_structure(),
            RandomNetworks(self._kind.build, data.device),
            batch_size=resolve_batch_size(self.batch_size, self.ipc),
            families=self._families,
            layer_weights=self._weights,
            discrimination=float(self.discrimination),
            rounds=Rounds(
                outer_tolerance=float(self.outer_tolerance),
                inner_tolerance=float(self.inner_tolerance),
                max_rounds=int(self.max_rounds),
                max_epochs=int(self.max_network_epochs),
                n_watched=int(self.n_watched),
                learning_rate=float(self.network_lr),
                batch_size=int(self.network_batch_size),
            ),
            n_networks=self.n_networks_,
        )
