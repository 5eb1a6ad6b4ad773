"""FRePoDistiller and RFADDistiller: ridge regression on features of networks."""

import os
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

from skdistill.distillation._engine._optimizers import Adam, Optimizer
from skdistill.distillation._engine._parameters import Labels, Targets, one_hot
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._engine._state import DistillationState
from skdistill.distillation._network_matching import NetworkMatchingDistiller
from skdistill.distillation._objectives._feature_regression import LOSSES
from skdistill.distillation._objectives._inner_optimizers import InnerAdam
from skdistill.distillation._objectives._kernel_ridge import centered
from skdistill.distillation._objectives._network_regression import (
    NetworkRegression,
    Temperature,
)
from skdistill.neural_network._augment import FAMILIES
from skdistill.neural_network._default import (
    ENTRY,
    default_network,
    describe_estimator,
)
from skdistill.neural_network._module_derivatives import (
    Derivatives,
    with_embedding,
)
from skdistill.neural_network._network import NetworkClassifier
from skdistill.neural_network._network_kind import CONVNET
from skdistill.neural_network._pool import NetworkPool
from skdistill.utils._distributed import Ranks
from skdistill.utils._random import child_seed

# What "auto" stands for: in deviations of the real pixels, and of one-hot labels.
_AUTO_STEP = 0.03
_AUTO_LABEL_STEP = 0.03
_TEMPERATURE_LR = 0.01

# Maximum number of synthetic images in a training step of a network.
_MAX_TRAINED = 1000

# How many steps networks are trained for that are scored, by the number of images: as
# in the authors' code.
_SCORE_IMAGES = (10, 100, 500, 1000, 5000)
_SCORE_STEPS = (1000, 2000, 5000, 10_000, 40_000)
_SCORE_BATCH = 500

# Streams of random numbers, beside those of the engine.
_POOL = 5


class FRePoDistiller(NetworkMatchingDistiller):
    r"""Distill an image set by ridge regression on features of networks (FRePo).

    Images and regression targets are learned that minimize the loss on real images of a
    network whose last layer is fitted to the synthetic images by least squares [1]_.
    Let F be the features, the inputs of the last layer, of n synthetic images with
    targets Y, and F_t those of m real images, whose targets :math:`Y_t` are one-hot
    rows minus :math:`1/C` for C classes.  The loss is

    .. math::

        L = \frac{1}{2 m} \| F_t F^T (K + \lambda I)^{-1} Y - Y_t \|^2, \quad
        K = F F^T, \quad \lambda = \mathrm{reg} \cdot \mathrm{tr}(K) / n,

    minimized by Adam.  The networks form a pool.  In each iteration one of them
    computes the features and is treated as a constant; then it takes a step of Adam on
    the synthetic images, and is replaced by a new network after ``max_network_steps``
    steps.  Thus networks at all stages of training are used, and only first derivatives
    are needed.

    With learned targets there is an additional term, as in the authors' code: minus the
    mean of the smaller of :math:`1/C` and the difference between the two largest
    targets of an image.

    Read more in the :ref:`User Guide <feature_regression>`.

    Parameters
    ----------
    ipc : int, default=1
        Number of synthetic images per class.
    max_iter : int, default=2000
        Number of iterations, each an update of the images.
    n_networks : int, default=10
        Number of networks in the pool, one of which is drawn in each iteration; with
        ``max_network_steps=0``, number of networks whose features are concatenated.
    max_network_steps : int, default=100
        Number of steps after which a network of the pool is replaced.  With 0, networks
        are not trained: all are drawn in each iteration, and their features are
        concatenated.
    network_lr : float, default=3e-4
        Learning rate of Adam for the training of networks on the synthetic images.
    reg : float, default=1e-6
        The ridge parameter, in units of the mean squared norm of the features.
    loss : {"squared", "platt"}, default="squared"
        The loss of the predictions for real images:

        - "squared": the squared distance from the targets;
        - "platt": the cross-entropy of the softmax of the predictions divided by a
          learned temperature.

    labels : {"learned", "hard"}, default="learned"
        Labels of the synthetic images:

        - "learned": regression targets, learned by gradient descent like the images;
          initially one-hot rows minus :math:`1/C`.
        - "hard": the class of each image.

    n_real : int or None, default=1024
        Number of real images in an iteration, the same number of each class; None uses
        all.
    n_draws : int or "auto", default="auto"
        Number of draws of networks and real images whose gradients are averaged in an
        iteration; with a pool at most ``n_networks``.  "auto" is 1, or one per process
        of a torch.distributed group.
    mirror : bool or "auto", default="auto"
        Whether a left-right mirrored copy of each synthetic image is added.  "auto"
        does so for images with more than one channel, since digits and letters, which
        are not symmetric, usually have one.
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
    pixel_lr : float or "auto", default="auto"
        Learning rate of Adam for the pixels.  "auto" is 0.03 in standard deviations
        of the real pixels.
    label_lr : float or "auto", default="auto"
        Learning rate of Adam for learned labels.  "auto" is 0.03 in standard
        deviations of one-hot labels.
    average : bool, default=True
        Whether ``synthetic_`` contains averages of the images (and learned labels) over
        all iterations, with weight t^2 for iteration t.  They are less noisy than the
        last images, which are returned if False.
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
        Normalization after each convolution; without effect for "mlp" and custom
        networks.  "batch" is rejected, since it makes the features of an image depend
        on the other images of its batch.
    checkpoint : path-like, default=None
        A folder for the state of the fit, from which the same fit is resumed;
        ``max_iter`` may be larger than before.  In a search or a cross-validation of
        scikit-learn each fit uses a separate subfolder ``fit-...``.
    estimator : classifier, default=None
        The classifier that :meth:`score` trains; None uses the network of the
        distillation, trained on the targets by squared loss and Adam, with the number
        of steps of [1]_.
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
        The distilled images and, unless they are hard, their labels as ``targets``.
    best_synthetic_ : SyntheticSet
        The set with the smallest mean loss over ten iterations.
    best_iteration_ : int
        The number of iterations after which ``best_synthetic_`` was obtained.
    temperature_ : float
        The final temperature; only with ``loss="platt"``.
    history_ : DataFrame of `n_iter_` rows, but at most 10,000
        Per iteration: ``n_network_steps``, the number of training steps of the network,
        only if networks are trained; ``loss``; ``network_accuracy``, the accuracy of
        the regression on the real images; ``temperature``, only with ``loss="platt"``;
        and ``event``: "rolled back" if the images were reset to the last good state.
    n_draws_ : int
        Number of draws in an iteration.
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
    RFADDistiller : The same with features of many random networks.
    KIPDistiller : Uses a kernel in closed form instead of networks.
    BPTTDistiller : Differentiates through the training of the whole network.

    Notes
    -----
    The networks of [1]_ have batch normalization, over real images in the regression
    and over synthetic images in training; here it is rejected and instance
    normalization is the default, as usual in comparisons.  Their width increases with
    depth (128, 256 and 512 channels); here all blocks have ``width``.  Adam replaces
    LAMB, and averages over iterations replace the learning-rate decay, so that a run
    can be continued with a larger ``max_iter``.

    References
    ----------
    .. [1] Zhou, Nezhadarya and Ba, "Dataset Distillation using Neural Feature
       Regression", NeurIPS 2022.

    Examples
    --------
    >>> from skdistill import FRePoDistiller, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> distiller = FRePoDistiller(max_iter=20, width=8, random_state=0).fit(X, y)
    >>> distiller.synthetic_.targets.shape
    (9, 9)
    >>> losses = distiller.history_["loss"]
    >>> bool(losses[-5:].mean() < losses[:5].mean())
    True
    """

    _parameter_constraints: dict = {
        **NetworkMatchingDistiller._parameter_constraints,
        "n_networks": [Interval(Integral, 1, None, closed="left")],
        "max_network_steps": [Interval(Integral, 0, None, closed="left")],
        "network_lr": [Interval(Real, 0, None, closed="neither")],
        "reg": [Interval(Real, 0, None, closed="neither")],
        "loss": [StrOptions(set(LOSSES))],
        "labels": [StrOptions({"learned", "hard"})],
        "n_real": [Interval(Integral, 1, None, closed="left"), None],
        "n_draws": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "mirror": [StrOptions({"auto"}), "boolean"],
        "label_lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    }
    for _name in ("batch_size", "augmentation"):
        del _parameter_constraints[_name]
    del _name

    def __init__(
        self,
        ipc: int = 1,
        *,
        max_iter: int = 2000,
        n_networks: int = 10,
        max_network_steps: int = 100,
        network_lr: float = 3e-4,
        reg: float = 1e-6,
        loss: str = "squared",
        labels: str = "learned",
        n_real: int | None = 1024,
        n_draws: int | str = "auto",
        mirror: bool | str = "auto",
        init: Any = "real",
        pixel_size: int = 1,
        pixel_lr: float | str = "auto",
        label_lr: float | str = "auto",
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
        self.n_networks = n_networks
        self.max_network_steps = max_network_steps
        self.network_lr = network_lr
        self.reg = reg
        self.loss = loss
        self.labels = labels
        self.n_real = n_real
        self.n_draws = n_draws
        self.mirror = mirror
        self.init = init
        self.pixel_size = pixel_size
        self.pixel_lr = pixel_lr
        self.label_lr = label_lr
        self.average = average
        self.width = width
        self.depth = depth
        self.normalization = normalization
        self.architecture = architecture
        self.checkpoint = checkpoint
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self, data: RealData) -> None:
        self._check_networks(data)
        n_processes = Ranks().size
        self.n_draws_ = n_processes if self.n_draws == "auto" else int(self.n_draws)
        if self.n_draws_ < n_processes:
            raise ValueError(
                f"`n_draws` must be at least the number of processes, {n_processes}, "
                "since each process makes a draw in each iteration; got "
                f"{self.n_draws_}"
            )
        if self.max_network_steps and int(self.n_networks) < self.n_draws_:
            raise ValueError(
                "`n_networks` must be at least the number of draws per iteration, "
                f"{self.n_draws_}, since each draw uses a different network of the "
                f"pool; got {self.n_networks}"
            )
        self._mirrors = bool(self.mirror)
        if isinstance(self.mirror, str):
            self._mirrors = data.image_shape[2] > 1

    def _resolved_parameters(self) -> dict[str, Any]:
        return {
            "mirror": self._mirrors,
            "n_draws": self.n_draws_,
            **self._kind.signature(),
        }

    def _make_optimizer(self, images: Tensor, data: RealData) -> Optimizer:
        return Adam(images, self.pixel_lr, data.pixel_scale, auto_step=_AUTO_STEP)

    def _make_labels(self, codes: Tensor, n_classes: int) -> Labels:
        if self.labels == "hard":
            return super()._make_labels(codes, n_classes)
        targets = centered(one_hot(codes, n_classes, torch.float32))
        unit = float(targets.std(correction=0))
        return Targets(Adam(targets, self.label_lr, unit, auto_step=_AUTO_LABEL_STEP))

    def _make_objective(self, data: RealData, seed: int) -> NetworkRegression:
        n_draws = self.n_draws_
        derivatives = self._kind.derivatives(data.device, loss="squared")
        n_joined = None if self.max_network_steps else int(self.n_networks)
        pool = NetworkPool(
            self._kind.build,
            derivatives.gradient,
            InnerAdam(),
            n_networks=n_draws * n_joined if n_joined else int(self.n_networks),
            max_steps=int(self.max_network_steps),
            learning_rate=self.network_lr,
            batch_size=_MAX_TRAINED,
            is_random=derivatives.is_random,
            seed=child_seed(seed, _POOL),
            device=data.device,
        )
        return NetworkRegression(
            data,
            derivatives,
            pool,
            n_joined=n_joined,
            reg=self.reg,
            temperature=Temperature(_TEMPERATURE_LR) if self.loss == "platt" else None,
            n_real=None if self.n_real is None else -(-self.n_real // data.n_classes),
            mirror=self._mirrors,
            learns_labels=self.labels == "learned",
            n_draws=n_draws,
        )

    def _check_module(self, network: Derivatives) -> None:
        with_embedding(network)

    def _attributes(self, state: DistillationState) -> dict[str, Any]:
        objective = state.objective
        assert isinstance(objective, NetworkRegression)
        if objective.temperature is None:
            return {}
        return {"temperature_": objective.temperature.value}

    def _metadata(self) -> dict[str, Any]:
        if self._kind.source is not None:
            return super()._metadata()
        return {ENTRY: describe_estimator(self._default_estimator())}

    def _default_estimator(self) -> Any:
        n_images = len(self.classes_) * self.ipc
        n_steps = np.interp(np.log(n_images), np.log(_SCORE_IMAGES), _SCORE_STEPS)
        settings = {
            "max_iter": round(n_steps / -(-n_images // _SCORE_BATCH)),
            "batch_size": _SCORE_BATCH,
            "augmentation": [f for f in FAMILIES if self._mirrors or f != "flip"],
            "normalization": self.normalization,
            "image_shape": self.image_shape_,
            "device": self.device,
            "random_state": self.random_state,
        }
        on_targets = self.labels == "learned"
        network = default_network(on_targets=on_targets, **settings)
        if self.architecture == CONVNET:
            return network.set_params(width=self.width, depth=self.depth)
        fitting = {
            name: getattr(network, name)
            for name in ("loss", "optimizer", "learning_rate")
        }
        return NetworkClassifier(self.architecture, **fitting, **settings)
