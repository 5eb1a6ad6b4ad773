"""DSADistiller: gradient matching with siamese augmentation."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from skdistill.distillation._dc import DCDistiller
from skdistill.neural_network._network_kind import CONVNET
from skdistill.trajectory import TrajectoryBuffer


class DSADistiller(DCDistiller):
    """Distill an image set by matching gradients of augmented images (DSA).

    The method of :class:`DCDistiller` with an augmentation :math:`A_c`, drawn for each
    class and iteration and applied with the same parameters to real and to synthetic
    images [1]_:

    .. math::

        \\mathcal{L}(S) = \\sum_c \\sum_l D\\bigl(
        \\nabla_{\\theta_l} \\ell(\\theta; A_c(S_c)),
        \\nabla_{\\theta_l} \\ell(\\theta; A_c(R_c))\\bigr),

    and with real initial images.  Only the defaults of ``augmentation`` and ``init``
    differ.

    Read more in the :ref:`User Guide <gradients>`.

    Parameters
    ----------
    ipc : int, default=1
        Number of synthetic images per class.
    max_iter : int, default=1000
        Number of iterations, each an update of the images.  This and the following
        parameters are those of :class:`DCDistiller`.
    n_rounds : int or "auto", default="auto"
        Number of updates of the images for which a network is used.
    n_network_epochs : int or "auto", default="auto"
        Number of epochs for which a network is trained on the synthetic images between
        two updates.
    network_lr : float, default=0.01
        Learning rate of that training.
    network_batch_size : int, default=256
        Batch size of this training.
    distance : {"cosine", "squared", "absolute"}, default="cosine"
        The distance between gradients: as for :class:`DCDistiller`.
    matched : {"weights", "kernels", "all"}, default="weights"
        The parameters whose gradients are compared:

        - "weights": kernels of convolutions and the matrix of the last layer;
        - "kernels": kernels of convolutions;
        - "all": those of all parameters.

    buffer : TrajectoryBuffer, FrozenEstimator or path-like, default=None
        Teachers, whose snapshots are used as networks, as for :class:`DCDistiller`.
        A fitted buffer, or the folder of one, is used as it is; an unfitted one is
        cloned and fitted on X, y.
    batch_size : int, "auto" or None, default="auto"
        Number of real images of each class in an iteration.
    n_networks : int or "auto", default="auto"
        Number of networks whose gradients are averaged in an iteration.
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
        Families of which one is drawn for each class and iteration.  Omit "flip" for
        images that are not symmetric, such as digits.
    pixel_lr : float or "auto", default="auto"
        Learning rate of the pixels.
    average : bool, default=True
        Whether ``synthetic_`` contains averages of the images (and learned labels) over
        all iterations, with weight t^2 for iteration t.  They are less noisy than the
        last images, which are returned if False.
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
        "mlp" and custom networks.
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
        Per iteration, as for :class:`DCDistiller`.
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
    DCDistiller : The same without augmentation; describes all parameters.

    References
    ----------
    .. [1] Zhao and Bilen, "Dataset Condensation with Differentiable Siamese
       Augmentation", ICML 2021.

    Examples
    --------
    >>> from skdistill import DSADistiller, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> distiller = DSADistiller(max_iter=3, width=8, random_state=0).fit(X, y)
    >>> distiller.synthetic_
    <SyntheticSet: 9 images of 16x16x3, 9 classes>
    """

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
        super().__init__(
            ipc,
            max_iter=max_iter,
            n_rounds=n_rounds,
            n_network_epochs=n_network_epochs,
            network_lr=network_lr,
            network_batch_size=network_batch_size,
            distance=distance,
            matched=matched,
            buffer=buffer,
            batch_size=batch_size,
            n_networks=n_networks,
            init=init,
            pixel_size=pixel_size,
            augmentation=augmentation,
            pixel_lr=pixel_lr,
            average=average,
            architecture=architecture,
            width=width,
            depth=depth,
            normalization=normalization,
            checkpoint=checkpoint,
            estimator=estimator,
            image_shape=image_shape,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
