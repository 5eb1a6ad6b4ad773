"""RFADDistiller: ridge regression on features of random networks."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from skdistill.distillation._frepo import FRePoDistiller
from skdistill.neural_network._network_kind import CONVNET


class RFADDistiller(FRePoDistiller):
    r"""Distill an image set by ridge regression on random features (RFAD).

    :class:`FRePoDistiller` with networks that are not trained: in each iteration
    ``n_networks`` random networks are drawn, and their features are concatenated.  With
    more features, their inner products converge to the kernel of the network's Gaussian
    process [1]_; this corresponds to :class:`KIPDistiller` for convolutional instead of
    fully connected networks.  The loss uses predicted probabilities,

    .. math::

        L = \frac{1}{m} \sum_i -\log \mathrm{softmax}\left(
        e^{\tau} f(x_i)\right)_{y_i}, \quad
        f(x) = F(x) F^T (K + \lambda I)^{-1} Y, \quad K = F F^T,

    where :math:`\tau`, the logarithm of an inverse temperature, is learned (Platt
    scaling), and :math:`\lambda = \mathrm{reg} \cdot \mathrm{tr}(K) / n`.

    Only the defaults differ from those of :class:`FRePoDistiller`.

    Read more in the :ref:`User Guide <feature_regression>`.

    Parameters
    ----------
    ipc : int, default=1
        Number of synthetic images per class.
    max_iter : int, default=2000
        Number of iterations, each an update of the images.
    n_networks : int, default=2
        Number of networks in the pool, one of which is drawn in each iteration; with
        ``max_network_steps=0``, number of networks whose features are concatenated.
    max_network_steps : int, default=0
        Number of steps after which a network of the pool is replaced.  With 0, networks
        are not trained: all are drawn in each iteration, and their features are
        concatenated.
    network_lr : float, default=3e-4
        Learning rate of Adam for the training of networks on the synthetic images.
    reg : float, default=5e-3
        The ridge parameter, in units of the mean squared norm of the features.
    loss : {"squared", "platt"}, default="platt"
        The loss of the predictions for real images:

        - "squared": the squared distance from the targets;
        - "platt": the cross-entropy of the softmax of the predictions divided by a
          learned temperature.

    labels : {"learned", "hard"}, default="learned"
        Labels of the synthetic images:

        - "learned": regression targets, learned by gradient descent like the images;
          initially one-hot rows minus :math:`1/C`.
        - "hard": the class of each image.

    n_real : int or None, default=256
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
    normalization : {"instance", "layer", "group", "none"}, default="none"
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
        of steps of [2]_.
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
    FRePoDistiller : The same with networks that are trained.
    KIPDistiller : Uses a kernel in closed form instead of networks.

    Notes
    -----
    [1]_ draws 8 networks of width 256 and 5120 real images in each iteration, learns a
    linear preconditioner of the pixels, uses AdaBelief, and adds 0.01 to the kernel.
    Here the draws are smaller, which allows some twenty times as many iterations in
    the same time, and nothing is added, so that the scale of the features does not
    matter.  Mirrored images and the additional term of :class:`FRePoDistiller` for
    learned targets are not part of [1]_.

    References
    ----------
    .. [1] Loo, Hasani, Amini and Rus, "Efficient Dataset Distillation using Random
       Feature Approximation", NeurIPS 2022.
    .. [2] Zhou, Nezhadarya and Ba, "Dataset Distillation using Neural Feature
       Regression", NeurIPS 2022.

    Examples
    --------
    >>> from skdistill import RFADDistiller, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> distiller = RFADDistiller(
    ...     n_networks=2, max_iter=20, width=8, random_state=0).fit(X, y)
    >>> distiller.synthetic_.targets.shape
    (9, 9)
    >>> losses = distiller.history_["loss"]
    >>> bool(losses[-5:].mean() < losses[:5].mean())
    True
    """

    def __init__(
        self,
        ipc: int = 1,
        *,
        max_iter: int = 2000,
        n_networks: int = 2,
        max_network_steps: int = 0,
        network_lr: float = 3e-4,
        reg: float = 5e-3,
        loss: str = "platt",
        labels: str = "learned",
        n_real: int | None = 256,
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
        normalization: str = "none",
        checkpoint: str | os.PathLike[str] | None = None,
        estimator: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            ipc,
            max_iter=max_iter,
            n_networks=n_networks,
            max_network_steps=max_network_steps,
            network_lr=network_lr,
            reg=reg,
            loss=loss,
            labels=labels,
            n_real=n_real,
            n_draws=n_draws,
            mirror=mirror,
            init=init,
            pixel_size=pixel_size,
            pixel_lr=pixel_lr,
            label_lr=label_lr,
            average=average,
            width=width,
            depth=depth,
            normalization=normalization,
            architecture=architecture,
            checkpoint=checkpoint,
            estimator=estimator,
            image_shape=image_shape,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
