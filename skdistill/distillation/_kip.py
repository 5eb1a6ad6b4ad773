"""KIPDistiller: kernel ridge regression on synthetic images, without networks."""

import os
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from skdistill.distillation._engine._optimizers import Adam, Optimizer
from skdistill.distillation._engine._parameters import Labels, Targets, one_hot
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._iterative import IterativeDistiller
from skdistill.distillation._objectives._kernel_regression import KernelRegression
from skdistill.distillation._objectives._kernel_ridge import centered
from skdistill.neural_network._default import ENTRY, describe_estimator
from skdistill.neural_network._kernel_classifier import (
    KERNEL_CONSTRAINTS,
    NeuralKernelClassifier,
    check_kernel_memory,
    check_kernel_unit,
)
from skdistill.neural_network._kernels import Kernel, as_rows, resolve_kernel
from skdistill.utils._device import resolve_float64_device
from skdistill.utils._pixel_space import check_contrast
from skdistill.utils._plain import digest_of, parts_of_largest

# What "auto" stands for: in deviations of the real pixels, and of one-hot labels.
_AUTO_STEP = 0.04

# Where between two images a kernel is compared with another: near and far.
_SHARES = (0.01, 0.1, 0.5)


class KIPDistiller(IterativeDistiller):
    r"""Distill an image set by kernel ridge regression (KIP): no network is needed.

    Synthetic images are learned that minimize the loss of a
    :class:`~skdistill.neural_network.NeuralKernelClassifier` fitted to them on real
    images [1]_.  The kernel of an infinitely wide network and all derivatives have
    closed forms: a fit takes seconds to minutes on a CPU, and the result does not
    depend on random weights.

    For n synthetic images X with targets Y, their kernel :math:`K` and their kernel
    :math:`K_t` with m real images, whose targets :math:`Y_t` are one-hot rows minus
    :math:`1/C` for C classes, the loss is

    .. math::

        L = \frac{1}{2 m C} \| K_t (K + \lambda I)^{-1} Y - Y_t \|^2, \quad
        \lambda = \mathrm{reg} \cdot \mathrm{tr}(K) / n,

    minimized by Adam, with new real images in each iteration.  With ``labels="solved"``
    Y is optimal for the given images, :math:`(K + \lambda I) K_t^+ Y_t`; in combination
    with ``images="fixed"`` only this is computed: the label solve of [1]_.

    Read more in the :ref:`User Guide <kernel_distillers>`.

    Parameters
    ----------
    ipc : int, default=1
        Number of synthetic images per class.
    kernel : {"ntk", "nngp", "linear"} or callable, default="ntk"
        The kernel, as for :class:`~skdistill.neural_network.NeuralKernelClassifier`.
        A callable must compute by differentiable operations of PyTorch, unless the
        images are fixed.
    depth : int, default=1
        Number of hidden layers of the network.
    weight_variance : float, default=2.0
        Variance of the network's weights, times the number of their inputs.
    bias_variance : float, default=0.01
        Variance of its biases.
    reg : float, default=1e-6
        The ridge parameter, in units of the mean of the kernel's diagonal.
    labels : {"hard", "learned", "solved"}, default="hard"
        Labels of the synthetic images:

        - "hard": the class of each image.
        - "learned": regression targets, learned by gradient descent like the images.
        - "solved": the regression targets that minimize the loss.

    images : {"learned", "fixed"}, default="learned"
        Whether the images are learned, or fixed to those of ``init``.
    n_targets : int or None, default=5000
        Number of real images in an iteration, the same number of each class; None uses
        all.
    max_iter : int, default=300
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
    pixel_lr : float or "auto", default="auto"
        Learning rate of Adam for the pixels.  "auto" is 0.04, that of [1]_ for
        CIFAR-10, in standard deviations of the real pixels.
    label_lr : float or "auto", default="auto"
        Learning rate of Adam for learned labels.  "auto" is 0.04 in standard deviations
        of one-hot labels.
    average : bool, default=True
        Whether ``synthetic_`` contains averages of the images (and learned labels) over
        all iterations, with weight t^2 for iteration t.  They are less noisy than the
        last images, which are returned if False.
    checkpoint : path-like, default=None
        A folder for the state of the fit, from which the same fit is resumed;
        ``max_iter`` may be larger than before.  In a search or a cross-validation of
        scikit-learn each fit uses a separate subfolder ``fit-...``.
    estimator : classifier, default=None
        The classifier that :meth:`score` trains; None uses a
        :class:`~skdistill.neural_network.NeuralKernelClassifier` with the same kernel.
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None treats each row as an
        image of height 1 with one channel.
    device : str or torch.device, default="auto"
        Device for the computation; "auto" uses a GPU if available.
    random_state : int, RandomState instance or None, default=None
        Controls the initial images and the choice of real images; pass an int for
        reproducible results.
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
    history_ : DataFrame of `n_iter_` rows, but at most 10,000
        Per iteration ``loss``, and ``event`` as in
        :class:`~skdistill.distillation.STMDistiller`.
    n_iter_ : int
        Number of iterations; 1 for the label solve alone.
    stop_reason_ : str
        Reason why the fit ended: "max_iter", "solved", "diverged", "interrupted" (from
        the keyboard), or "callback" (by a callback of scikit-learn).
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
    skdistill.neural_network.NeuralKernelClassifier : What it distills for.
    skdistill.metrics.evaluate_synthetic : Scores the distilled set, also by networks.

    Notes
    -----
    The score of the regression is no indication of the accuracy of networks trained
    on the set.  This accuracy is much lower, especially with learned labels, which are
    fitted to the kernel like the images.  Never compare one with the other.

    All computations are in float64.  Memory is a few times that of K, and of
    :math:`K_t` for a part of the real images at a time.  Scale the images by
    :class:`~skdistill.preprocessing.ChannelScaler`, which removes the component that
    all images share.

    References
    ----------
    .. [1] Nguyen, Chen and Lee, "Dataset Meta-Learning from Kernel Ridge-Regression",
       ICLR 2021.
    .. [2] Nguyen et al., "Dataset Distillation with Infinitely Wide Convolutional
       Networks", NeurIPS 2021, for ``labels="learned"``.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdistill import KIPDistiller
    >>> X, y = load_digits(return_X_y=True)
    >>> distiller = KIPDistiller(
    ...     ipc=1, max_iter=50, image_shape=(8, 8, 1), random_state=0)
    >>> distiller.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.85
    True

    The best labels for one random image of each class:

    >>> distiller.set_params(images="fixed", labels="solved").fit(X[:1000], y[:1000])
    KIPDistiller(...)
    >>> distiller.synthetic_.targets.shape
    (10, 10)
    """

    _parameter_constraints: dict = {
        **IterativeDistiller._parameter_constraints,
        **KERNEL_CONSTRAINTS,
        "labels": [StrOptions({"hard", "learned", "solved"})],
        "images": [StrOptions({"learned", "fixed"})],
        "n_targets": [Interval(Integral, 1, None, closed="left"), None],
        "label_lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        ipc: int = 1,
        *,
        kernel: str | Callable[[Any, Any], Any] = "ntk",
        depth: int = 1,
        weight_variance: float = 2.0,
        bias_variance: float = 0.01,
        reg: float = 1e-6,
        labels: str = "hard",
        images: str = "learned",
        n_targets: int | None = 5000,
        max_iter: int = 300,
        init: Any = "real",
        pixel_size: int = 1,
        pixel_lr: float | str = "auto",
        label_lr: float | str = "auto",
        average: bool = True,
        checkpoint: str | os.PathLike[str] | None = None,
        estimator: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.ipc = ipc
        self.kernel = kernel
        self.depth = depth
        self.weight_variance = weight_variance
        self.bias_variance = bias_variance
        self.reg = reg
        self.labels = labels
        self.images = images
        self.n_targets = n_targets
        self.max_iter = max_iter
        self.init = init
        self.pixel_size = pixel_size
        self.pixel_lr = pixel_lr
        self.label_lr = label_lr
        self.average = average
        self.checkpoint = checkpoint
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _kernel(self) -> Kernel:
        return resolve_kernel(
            self.kernel,
            depth=self.depth,
            weight_variance=self.weight_variance,
            bias_variance=self.bias_variance,
        )

    def _check_parameters(self, data: RealData) -> None:
        learns_images = self.images == "learned"
        if self.labels == "hard" and not learns_images:
            raise ValueError(
                "`images`='fixed' with `labels`='hard' leaves nothing to learn; use "
                "`labels`='solved' or 'learned', or RandomSubset to draw images"
            )
        n_classes = data.n_classes
        if self.n_targets is not None and self.n_targets < n_classes:
            raise ValueError(
                f"`n_targets` must be at least the number of classes, {n_classes}, "
                f"since the same number is drawn from each class; got {self.n_targets}"
            )
        device = resolve_float64_device(self.device)
        check_kernel_memory(n_classes * self.ipc, device)
        mean, deviation, _ = data.pixel_space
        check_contrast(data.given[0].dtype, mean, deviation)
        check_kernel_unit(self, mean, deviation)
        if callable(self.kernel):
            # What is wrong with it shows on two images.
            some = as_rows(data.read(data.rows[0][:2]).to(device)).double()
            kernel = self._kernel()
            if learns_images:
                kernel.with_pull_back(some, None)
            between = (torch.lerp(some[0], some[1], share) for share in _SHARES)
            values = kernel(torch.stack([*some, *between])).cpu().numpy()
            scale = f"{abs(values).max():.3e}"
            self._kernel_digest = digest_of([scale, parts_of_largest(values)])

    def _resolved_parameters(self) -> dict[str, Any]:
        if not callable(self.kernel):
            return {}
        # It is identified by what it computes, not by its name.
        return {"kernel": f"a function with the digest {self._kernel_digest}"}

    def _make_optimizer(self, images: Tensor, data: RealData) -> Optimizer:
        return Adam(images, self.pixel_lr, data.pixel_scale, auto_step=_AUTO_STEP)

    def _make_labels(self, codes: Tensor, n_classes: int) -> Labels:
        if self.labels != "learned":
            return super()._make_labels(codes, n_classes)
        targets = centered(one_hot(codes, n_classes, torch.float32))
        unit = float(targets.std(correction=0))
        return Targets(Adam(targets, self.label_lr, unit, auto_step=_AUTO_STEP))

    def _make_objective(self, data: RealData, seed: int) -> KernelRegression:
        return KernelRegression(
            data,
            self._kernel(),
            self.reg,
            n_targets=self.n_targets,
            labels=self.labels,
            learns_images=self.images == "learned",
        )

    def _metadata(self) -> dict[str, Any]:
        if callable(self.kernel):
            # No file can hold it.
            return {}
        return {ENTRY: describe_estimator(self._default_estimator())}

    _default_kind = NeuralKernelClassifier

    def _default_estimator(self) -> NeuralKernelClassifier:
        return NeuralKernelClassifier(
            kernel=self.kernel,
            depth=self.depth,
            weight_variance=self.weight_variance,
            bias_variance=self.bias_variance,
            reg=self.reg,
            image_shape=self.image_shape_,
            device=self.device,
        )
