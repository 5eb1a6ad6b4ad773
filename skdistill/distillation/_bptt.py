"""BPTTDistiller: the loss on real images, differentiated through the training."""

import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

from skdistill.distillation._engine._optimizers import AUTO_STEP
from skdistill.distillation._engine._parameters import Labels
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._engine._state import DistillationState
from skdistill.distillation._network_matching import NetworkMatchingDistiller
from skdistill.distillation._objectives._inner_optimizers import (
    InnerAdam,
    InnerOptimizer,
    InnerSGD,
)
from skdistill.distillation._objectives._meta_loss import MetaLoss
from skdistill.distillation._objectives._networks import RandomNetworks
from skdistill.distillation._objectives._student_lr import LearnedStepSize
from skdistill.distillation._student import (
    make_labels,
    resolve_batch_size,
    resolve_keep,
)
from skdistill.neural_network._compile import pays_to_compile
from skdistill.neural_network._default import describe_kind, own_parameters
from skdistill.neural_network._module_derivatives import (
    Derivatives,
    ModuleDerivatives,
    check_second_derivatives,
)
from skdistill.neural_network._network_kind import CONVNET
from skdistill.utils._distributed import Ranks
from skdistill.utils._warnings import warn
from skdistill.utils._workers import n_threads

# Number of iterations whose mean accuracy is checked, and the multiple of chance level
# below which it counts as guessing.
_N_JUDGED = 10
_ABOVE_CHANCE = 1.1

# What "auto" stands for.
_AUTO_WINDOW = 60
_AUTO_STEP_SIZE = {"adam": 0.001, "sgd": 0.01}


class BPTTDistiller(NetworkMatchingDistiller):
    r"""Distill an image set by backpropagation through a network's training (BPTT).

    In each iteration a new network with random weights :math:`\theta_0` is trained on
    the synthetic images :math:`\mathcal{S}`, and the images are updated by the gradient
    of its loss on a batch :math:`\mathcal{T}` of real images:

    .. math::

        \theta_{i+1} = \theta_i - \alpha\, d(\nabla_\theta \ell(\theta_i; A_i
        \mathcal{S}_i)), \quad i < K + M, \qquad
        L = \ell(\theta_{K+M}; A \mathcal{T}),

    where :math:`A` is an augmentation and :math:`d` the update of the inner optimizer.
    The gradient is backpropagated through the last :math:`M` steps, the window, and
    :math:`\theta_K` is treated as a constant.  With a window of all steps this is
    dataset distillation [1]_, with momentum in the inner optimizer the method of [2]_;
    a short window at a random position in a long training is RaT-BPTT [3]_, the
    default.

    Memory is needed for one step and for the parameter vectors of the window: one per
    step for SGD, four for Adam.

    Read more in the :ref:`User Guide <through_training>`.

    Parameters
    ----------
    ipc : int, default=1
        Number of synthetic images per class.
    n_steps : int, default=200
        Maximum number of training steps of a network.
    window : int or "auto", default="auto"
        Number of steps through which the gradient is backpropagated, at most
        ``n_steps``; "auto" is 60, or all steps if there are fewer.
    position : {"random", "last", "first"}, default="random"
        Position of the window:

        - "random": after a number of steps that is drawn in each iteration, from 0 to
          ``n_steps`` - ``window``;
        - "last": at the end of ``n_steps`` steps;
        - "first": at the start; only the steps of the window are run.
    optimizer : {"adam", "sgd"}, default="adam"
        The inner optimizer.
    step_size : float or "auto", default="auto"
        Learning rate of the inner optimizer; "auto" is 0.001 for "adam" and 0.01 for
        "sgd".
    momentum : float, default=0.9
        Momentum of the optimizer, in [0, 1), for "sgd"; without effect for "adam".
    weight_decay : float, default=0.0
        Strength of the L2 penalty: the parameters, multiplied by it, are added to each
        gradient.
    step_size_lr : float, default=0.0
        Learning rate of the logarithm of the step size, by SGD with momentum.  With 0
        the step size is constant.
    max_iter : int, default=1000
        Number of iterations.
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
    labels : {"hard", "learned"}, default="hard"
        The label of each image:

        - "hard": its class;
        - "learned": probabilities of all classes that are learned with it.

    batch_size : int, "auto" or None, default="auto"
        Synthetic images per step of the training, in reshuffled passes, as for
        :class:`~skdistill.distillation.STMDistiller`.
    n_real : int or None, default=1000
        Number of real images in the loss, the same number of each class; the loss is
        the mean over classes.  None uses all.
    n_networks : int or "auto", default="auto"
        Number of networks whose gradients are averaged in an iteration.  More networks
        give less noisy steps at a proportional cost.  "auto" is 1, or one per process
        of a torch.distributed group.
    architecture : str, callable or torch.nn.Module, default="convnet"
        The networks: "convnet", "alexnet", "mlp", "resnet18" or "vgg11"; a callable
        that takes ``image_shape`` and the number of classes and returns a module; or a
        module, whose layers draw new weights for each network.  As for
        :class:`~skdistill.trajectory.TrajectoryBuffer`.  Dropout is active in the
        training steps on synthetic images, but not in the loss on real images.
    width : int, default=128
        Number of channels of each convolution of a "convnet".
    depth : int, default=3
        Number of blocks of a "convnet".
    normalization : {"instance", "layer", "group", "none"}, default="instance"
        Normalization after each convolution; without effect for "mlp" and custom
        networks.
    augmentation : "dsa", None, str or sequence of str, default="dsa"
        Families of which one is drawn for each step, and one for the real images.
    clip : float or None, default=2.0
        Maximum norm of the gradient with respect to the pixels, as a multiple of its
        running mean; None means no limit.
    pixel_lr : float or "auto", default="auto"
        Learning rate of the pixels, as for
        :class:`~skdistill.distillation.STMDistiller`.
    label_lr : float or "auto", default="auto"
        Learning rate of learned labels' logits.
    average : bool, default=True
        Whether ``synthetic_`` contains averages of the images (and learned labels) over
        all iterations, with weight t^2 for iteration t.  They are less noisy than the
        last images, which are returned if False.
    keep_activations : bool or "auto", default="auto"
        Whether to keep the activations of each step of the window, as for
        :class:`~skdistill.distillation.STMDistiller`.
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
        Shows a progress bar if positive.

    Attributes
    ----------
    synthetic_ : SyntheticSet
        The distilled images and their labels; with "sgd" also the step size.
    best_synthetic_ : SyntheticSet
        The set with the smallest mean loss over ten iterations.
    best_iteration_ : int
        The number of iterations after which ``best_synthetic_`` was obtained.
    step_size_ : float
        The step size of the inner optimizer, after the last iteration.
    history_ : DataFrame of `n_iter_` rows, but at most 10,000
        Per iteration: ``window_start``, the number of steps before the window (with
        several networks the first), ``loss`` and ``network_accuracy`` on the real
        images, ``step_size`` before the update, and ``event``, as in
        :class:`~skdistill.distillation.STMDistiller`.
    n_networks_ : int
        Number of networks in an iteration.
    n_iter_ : int
        Number of iterations.
    stop_reason_ : str
        Reason why the fit ended: "max_iter", "diverged", "interrupted" (from the
        keyboard), or "callback" (by a callback of scikit-learn).
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
    skdistill.distillation.STMDistiller : Matches trajectories of teachers; its students
        take fewer steps.

    Notes
    -----
    An iteration computes K + M gradients on the synthetic images, M Hessian-vector
    products, which take three times as long each, and a gradient on the real images.

    References
    ----------
    .. [1] Wang, Zhu, Torralba and Efros, "Dataset Distillation", 2018.
    .. [2] Deng and Russakovsky, "Remember the Past: Distilling Datasets into
       Addressable Memories for Neural Networks", NeurIPS 2022.
    .. [3] Feng, Vedantam and Kempe, "Embarrassingly Simple Dataset Distillation", ICLR
       2024.

    Examples
    --------
    >>> from skdistill import BPTTDistiller, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> distiller = BPTTDistiller(
    ...     ipc=1, n_steps=10, window=5, width=8, depth=2, max_iter=3, random_state=0)
    >>> distiller.fit(X, y).synthetic_
    <SyntheticSet: 9 images of 16x16x3, 9 classes...>
    """

    # As for trajectories: BPTT had no part in the trial of its family.
    _auto_step = AUTO_STEP

    _parameter_constraints: dict = {
        **NetworkMatchingDistiller._parameter_constraints,
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "window": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "position": [StrOptions({"random", "last", "first"})],
        "optimizer": [StrOptions({"adam", "sgd"})],
        "step_size": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="neither"),
        ],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "step_size_lr": [Interval(Real, 0, None, closed="left")],
        "labels": [StrOptions({"hard", "learned"})],
        "n_real": [Interval(Integral, 1, None, closed="left"), None],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
        "label_lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "keep_activations": [StrOptions({"auto"}), "boolean"],
    }

    _free_parameters = NetworkMatchingDistiller._free_parameters | {"keep_activations"}

    def __init__(
        self,
        ipc: int = 1,
        *,
        n_steps: int = 200,
        window: int | str = "auto",
        position: str = "random",
        optimizer: str = "adam",
        step_size: float | str = "auto",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        step_size_lr: float = 0.0,
        max_iter: int = 1000,
        init: Any = "real",
        pixel_size: int = 1,
        labels: str = "hard",
        batch_size: int | str | None = "auto",
        n_real: int | None = 1000,
        n_networks: int | str = "auto",
        architecture: str | Callable[..., nn.Module] | nn.Module = CONVNET,
        width: int = 128,
        depth: int = 3,
        normalization: str = "instance",
        augmentation: str | Sequence[str] | None = "dsa",
        clip: float | None = 2.0,
        pixel_lr: float | str = "auto",
        label_lr: float | str = "auto",
        average: bool = True,
        keep_activations: bool | str = "auto",
        checkpoint: str | os.PathLike[str] | None = None,
        estimator: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.ipc = ipc
        self.n_steps = n_steps
        self.window = window
        self.position = position
        self.optimizer = optimizer
        self.step_size = step_size
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.step_size_lr = step_size_lr
        self.max_iter = max_iter
        self.init = init
        self.pixel_size = pixel_size
        self.labels = labels
        self.batch_size = batch_size
        self.n_real = n_real
        self.n_networks = n_networks
        self.architecture = architecture
        self.width = width
        self.depth = depth
        self.normalization = normalization
        self.augmentation = augmentation
        self.clip = clip
        self.pixel_lr = pixel_lr
        self.label_lr = label_lr
        self.average = average
        self.keep_activations = keep_activations
        self.checkpoint = checkpoint
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self, data: RealData) -> None:
        super()._check_parameters(data)
        if self.window == "auto":
            self._window = min(_AUTO_WINDOW, int(self.n_steps))
        elif int(self.window) > self.n_steps:
            raise ValueError(
                f"`window`={self.window} must be at most `n_steps`={self.n_steps}, "
                "the number of training steps of a network"
            )
        else:
            self._window = int(self.window)

    def _check_module(self, network: Derivatives) -> None:
        check_second_derivatives(network)

    def _resolved_parameters(self) -> dict[str, Any]:
        return super()._resolved_parameters() | {"window": self._window}

    def _make_labels(self, codes: Tensor, n_classes: int) -> Labels:
        return make_labels(self.labels, codes, n_classes, self.label_lr)

    def _make_objective(self, data: RealData, seed: int) -> MetaLoss:
        batch_size = resolve_batch_size(
            self.batch_size,
            data.n_classes * self.ipc,
            data.n_classes,
            data.image_shape,
        )
        n_at_once = max(self.n_networks_ // Ranks().size, 1)
        n_steps_in_all = self.max_iter * self.n_steps * n_at_once
        network = self._kind.derivatives(
            data.device, compile=pays_to_compile(data.device, n_steps_in_all)
        )
        step_size = self.step_size
        if isinstance(step_size, str):
            step_size = _AUTO_STEP_SIZE[self.optimizer]
        n_real = self.n_real
        return MetaLoss(
            data,
            network,
            RandomNetworks(self._kind.build, data.device),
            optimizer=self._inner_optimizer(network),
            step_size=LearnedStepSize(step_size, self.step_size_lr),
            n_steps=int(self.n_steps),
            window=self._window,
            position=self.position,
            batch_size=batch_size,
            n_real=None if n_real is None else -(-n_real // data.n_classes),
            families=self._families,
            clip=self.clip,
            keep=resolve_keep(
                self.keep_activations,
                network,
                batch_size,
                self._window,
                min(n_at_once, n_threads()),
            ),
            n_networks=self.n_networks_,
        )

    def _inner_optimizer(self, network: Derivatives) -> InnerOptimizer:
        optimizer: InnerOptimizer = InnerSGD(self.momentum, self.weight_decay)
        if self.optimizer == "adam":
            optimizer = InnerAdam(weight_decay=self.weight_decay)
        if isinstance(network, ModuleDerivatives) and not network.is_trained.all():
            # It would shrink the others.
            optimizer.is_trained = network.is_trained
        return optimizer

    def _attributes(self, state: DistillationState) -> dict[str, Any]:
        objective = state.objective
        assert isinstance(objective, MetaLoss)
        return {"step_size_": objective.step_size.value}

    def _end(self, state: DistillationState, fit: Any) -> None:
        super()._end(state, fit)
        accuracies = self.history_["network_accuracy"].iloc[-_N_JUDGED:]
        chance = 1 / len(self.classes_)
        if (
            len(accuracies) == _N_JUDGED
            and self.stop_reason_ != "diverged"
            and accuracies.mean() < _ABOVE_CHANCE * chance
            and fit.ranks.is_first
        ):
            warn(
                "networks trained on the synthetic images had an accuracy of "
                f"{accuracies.mean():.1%} on real images in the last {_N_JUDGED} "
                f"iterations; chance level is {chance:.1%}: `step_size` may be too "
                "large, or too small for `n_steps` steps",
            )

    def _training(self) -> dict[str, Any]:
        """Return how a network is trained on the set, as far as the fit says it."""
        training = {"augmentation": self.augmentation}
        if self.optimizer == "sgd":
            training["momentum"] = self.momentum
        return training

    def _metadata(self) -> dict[str, Any]:
        return describe_kind(self._kind, **self._training())

    def _own_network(self) -> dict[str, Any]:
        return own_parameters(self._kind, **self._training())
