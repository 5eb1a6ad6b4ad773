"""ConvNetClassifier: the network of the benchmarks."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skdistill.neural_network._base import BaseNetworkClassifier
from skdistill.neural_network._convnet import ALL_NORMALIZATIONS, POOLINGS, ConvNet


class ConvNetClassifier(BaseNetworkClassifier):
    """A small ConvNet trained by gradient descent with augmentation.

    The network that is used to compare dataset distillers: blocks of 3x3 convolution,
    instance normalization, ReLU and average pooling, and one linear layer.  It is
    trained with differentiable Siamese augmentation (DSA) [1]_; after half of the
    epochs the learning rate falls to a tenth, as in the evaluation of [2]_.

    Read more in the :ref:`User Guide <evaluation>`.

    Parameters
    ----------
    width : int, default=128
        Number of channels of each convolution.
    depth : int, default=3
        Number of blocks.  Each halves the sides of the image; before the last one, no
        side to less than 4 pixels.
    normalization : {"instance", "layer", "group", "batch", "none"}, default="instance"
        Normalization of each convolution's output over: each channel of an image, all
        its channels, its channels in four groups, each channel of all images of a step,
        or none.  Teachers support "instance", "layer", "group" and "none".
    pooling : {"average", "max", "none"}, default="average"
        The pooling that halves the sides.  Teachers use "average".
    learning_rate : float, default=0.01
        Learning rate during the first half of the epochs; see ``optimizer``.
    momentum : float, default=0.9
        Momentum of the optimizer, in [0, 1).
    weight_decay : float, default=5e-4
        Strength of the L2 penalty.
    batch_size : int, default=256
        Number of images per step.
    max_iter : int, default=300
        Number of epochs.  For a distilled set of a few images an epoch is one step;
        :func:`~skdistill.metrics.evaluate_synthetic` uses 1000.
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
        Families of which one is drawn for each batch: "color", "crop", "cutout",
        "flip", "scale" and "rotate".  "dsa" means all of them, None no augmentation.
        Families joined by "+", as in "color+crop+cutout", are applied together, in this
        order.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in scikit-learn.
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None treats each row as an
        image of height 1 with one channel.
    device : str or torch.device, default="auto"
        Device for the computation; "auto" uses a GPU if available.
    random_state : int, RandomState instance or None, default=None
        Controls the initial weights, the order of the images and the augmentation; pass
        an int for reproducible results.
    verbose : int, default=0
        Shows a progress bar over the epochs if positive.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    parameters_ : ndarray of shape (n_parameters,), float32
        All weights of the network in one vector, and at its end the statistics of a
        batch normalization.  The type is PyTorch's default type,
        in which the network computes: float32 unless it has been changed.
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
    skdistill.trajectory.TrajectoryBuffer : Trains many of these as teachers.
    skdistill.metrics.evaluate_synthetic : Scores a distilled set by this network.
    skdistill.neural_network.NetworkClassifier : Other networks.

    Notes
    -----
    The code of [1]_ pads images of one channel by three pixels in the first block, so
    that 28x28 pixels become 32x32, and its layer normalization has a weight for each
    value of a map, here for each channel.  It trains for one epoch more, lowers the
    learning rate two epochs later, and resets the momentum then.

    References
    ----------
    .. [1] Zhao and Bilen, "Dataset Condensation with Differentiable Siamese
       Augmentation", ICML 2021.
    .. [2] Guan et al., "Discovering Galaxy Features via Dataset Distillation", 2023,
       section 3.

    Examples
    --------
    >>> from skdistill import ConvNetClassifier, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> network = ConvNetClassifier(width=8, max_iter=2, random_state=0).fit(X, y)
    >>> network.predict(X[:5]).shape
    (5,)
    """

    _parameter_constraints: dict = {
        **BaseNetworkClassifier._parameter_constraints,
        "width": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 1, None, closed="left")],
        "normalization": [StrOptions(set(ALL_NORMALIZATIONS))],
        "pooling": [StrOptions(set(POOLINGS))],
    }

    def __init__(
        self,
        *,
        width: int = 128,
        depth: int = 3,
        normalization: str = "instance",
        pooling: str = "average",
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
        self.width = width
        self.depth = depth
        self.normalization = normalization
        self.pooling = pooling
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
    def _of_structure(self) -> tuple[str, ...]:
        return "width", "depth", "normalization", "pooling"

    def _build(self) -> ConvNet:
        return ConvNet(
            self.image_shape_,
            len(self.classes_),
            width=self.width,
            depth=self.depth,
            normalization=self.normalization,
            pooling=self.pooling,
        )
