"""NetworkClassifier: any torch module as a classifier of scikit-learn."""

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from skdistill.neural_network._architectures import ARCHITECTURES, build_network
from skdistill.neural_network._base import BaseNetworkClassifier
from skdistill.neural_network._convnet import ALL_NORMALIZATIONS
from skdistill.neural_network._modules import (
    call_architecture,
    check_draws,
    check_last_batch,
    has_lazy_layers,
    in_type,
    try_module,
    warn_of_probabilities,
)
from skdistill.neural_network._reinitialize import ModuleParameterMixin
from skdistill.utils._random import isolated_torch_seed
from skdistill.utils._tensors import RealImages


class NetworkClassifier(ModuleParameterMixin, BaseNetworkClassifier):
    """A network other than the ConvNet, trained in the same way.

    To test whether distilled images work for networks that were not used in the
    distillation.  AlexNet, VGG11 and ResNet18 are the versions of the literature for
    small images [1]_: convolutions of stride 1 at the start, pooling while a side can
    be halved, and one linear layer in place of the large dense ones.

    Read more in the :ref:`User Guide <evaluation>`.

    Parameters
    ----------
    architecture : {"alexnet", "mlp", "resnet18", "vgg11"}, callable or \
            torch.nn.Module, default="resnet18"
        The network.

        - A name: one of this library.
        - A callable: it takes ``image_shape`` and the number of classes and returns a
          :class:`torch.nn.Module` that maps images ``(n_images, channels, height,
          width)`` to logits ``(n_images, n_classes)``.  A callable with a parameter
          ``num_classes``, as torchvision's networks have, is called with that.
        - A module: it is copied, and its layers draw new weights by their
          ``reset_parameters``.  Pretrained weights are lost, except for parameters that
          are not trained (``requires_grad`` is False) and the statistics of layers that
          have no others.  To start from pretrained weights, pass a callable that loads
          them.

        The network is tested with two images before the first step; a network that
        cannot be trained raises an error.
    width_multiplier : float, default=1.0
        Factor of the published number of channels of each layer; without effect for
        custom networks.
    normalization : {"instance", "layer", "group", "batch", "none"}, default="instance"
        Normalization after each convolution; without effect for "mlp" and custom
        networks.  The AlexNet of [1]_ has none.  With few images "batch" is unstable.
    learning_rate : float, default=0.01
        Learning rate during the first half of the epochs; see ``optimizer``.
    momentum : float, default=0.9
        Momentum of the optimizer, in [0, 1).
    weight_decay : float, default=5e-4
        Strength of the L2 penalty.
    batch_size : int, default=256
        Number of images per step.
    max_iter : int, default=300
        Number of epochs.
    loss : {"cross_entropy", "squared"}, default="cross_entropy"
        The loss of ``fit`` and ``fit_probabilities``: the cross-entropy of labels
        and softmax, or half the squared distance of the outputs from the
        probabilities of the classes, 0 and 1 for labels.  ``fit_targets`` always uses
        the latter.
    optimizer : {"sgd", "adam"}, default="sgd"
        The optimizer of the weights:

        - "sgd", stochastic gradient descent with momentum, whose learning rate falls
          to a tenth after half of the epochs;
        - "adam", whose learning rate rises during the first 500 epochs, at most half
          of all, and falls along a cosine to a hundredth.  It needs smaller learning
          rates, such as 3e-4, and uses ``momentum`` as the decay rate of its mean
          gradient.
    augmentation : "dsa", None, str or sequence of str, default="dsa"
        Families of which one is drawn for each batch, as for
        :class:`~skdistill.neural_network.ConvNetClassifier`.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in scikit-learn.
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None treats each row as an
        image of height 1 with one channel.
    device : str or torch.device, default="auto"
        Device for the computation; "auto" uses a GPU if available.
    random_state : int, RandomState instance or None, default=None
        Controls the initial weights, the order of the images, the augmentation, and
        on a CPU the random numbers of the module, such as dropout; pass an int for
        reproducible results.
    verbose : int, default=0
        Shows a progress bar over the epochs if positive.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    parameters_ : ndarray of shape (n_parameters,)
        All weights of the network, and the statistics of a batch normalization, in one
        vector.
    module_ : torch.nn.Module
        The trained network, in evaluation mode: a new one at each access.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.
    n_iter_ : int
        Number of epochs done.

    See Also
    --------
    skdistill.neural_network.ConvNetClassifier : The network of the benchmarks.
    skdistill.metrics.cross_architecture : Scores a distilled set by many networks.

    References
    ----------
    .. [1] Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR
       2021, section 4.

    Examples
    --------
    >>> from skdistill import NetworkClassifier, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> network = NetworkClassifier("mlp", max_iter=2, random_state=0).fit(X, y)
    >>> network.predict(X[:5]).shape
    (5,)
    """

    _parameter_constraints: dict = {
        **BaseNetworkClassifier._parameter_constraints,
        "architecture": [StrOptions(set(ARCHITECTURES)), callable],
        "width_multiplier": [Interval(Real, 0, None, closed="neither")],
        "normalization": [StrOptions(set(ALL_NORMALIZATIONS))],
    }

    def __init__(
        self,
        architecture: str | Callable[..., nn.Module] | nn.Module = "resnet18",
        *,
        width_multiplier: float = 1.0,
        normalization: str = "instance",
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        batch_size: int = 256,
        max_iter: int = 300,
        loss: str = "cross_entropy",
        optimizer: str = "sgd",
        augmentation: str | Sequence[str] | None = "dsa",
        class_weight: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.architecture = architecture
        self.width_multiplier = width_multiplier
        self.normalization = normalization
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.loss = loss
        self.optimizer = optimizer
        self.augmentation = augmentation
        self.class_weight = class_weight
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @property
    def _draws_itself(self) -> bool:
        return callable(self.architecture)

    @property
    def _treats_images_alone(self) -> bool:
        # What a callable makes is unknown.
        return super()._treats_images_alone and not callable(self.architecture)

    @property
    def _of_structure(self) -> tuple[str, ...]:
        # Whether two callables build the same is unknown; they do not use the others.
        if callable(self.architecture):
            return ()
        return "architecture", "width_multiplier", "normalization"

    def _build(self) -> nn.Module:
        shape, n_classes = self.image_shape_, len(self.classes_)
        if callable(self.architecture):
            module = call_architecture(self.architecture, shape, n_classes)
            return in_type(module, torch.get_default_dtype())
        assert isinstance(self.architecture, str)
        return build_network(
            self.architecture,
            shape,
            n_classes,
            width_multiplier=self.width_multiplier,
            normalization=self.normalization,
        )

    def _checked_module(self, images: np.ndarray, device: torch.device) -> nn.Module:
        module = super()._checked_module(images, device)
        if callable(self.architecture):
            n_classes = len(self.classes_)
            logits = try_module(module, images, n_classes, device)
            warn_of_probabilities(logits)
            if not isinstance(self.architecture, nn.Module):
                check_draws(lambda: self._build().to(device), images, with_buffers=True)
        return module

    def _check_last_batch(self, module: nn.Module, images: RealImages) -> None:
        if callable(self.architecture):
            image = images[torch.zeros(1, dtype=torch.int64)]
            check_last_batch(module, image, self.batch_size)

    def _structure(self, device: torch.device) -> nn.Module:
        if not callable(self.architecture):
            return super()._structure(device)
        # It may hold more than parameters, such as tables that it computes or draws.
        with isolated_torch_seed(self._build_seed):
            module = self._build().to(device)
            # Lazy layers have a shape only after they have seen an image.
            images = np.zeros((2, *self.image_shape_), dtype=np.float32)
            if has_lazy_layers(module):
                try_module(module, images, len(self.classes_), device, learns=False)
        return module
