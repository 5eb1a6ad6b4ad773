"""NCFMDistiller: matching of distributions of features of teachers."""

import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._network_matching import NetworkMatchingDistiller
from skdistill.distillation._objectives._feature_distributions import (
    DISTANCES,
    Encoders,
    FeatureDistributions,
)
from skdistill.distillation._objectives._feature_matching import resolve_batch_size
from skdistill.distillation._teachers import (
    describe_teachers,
    fit_teachers,
    given_buffer,
    kind_of_teachers,
)
from skdistill.neural_network._module_derivatives import (
    Derivatives,
    with_embedding,
)
from skdistill.neural_network._network_kind import NetworkKind
from skdistill.trajectory import TrajectoryBuffer
from skdistill.trajectory._signature import teachers_signature
from skdistill.utils._distributed import Ranks
from skdistill.utils._random import child_seed

# The root of a square is not linear in what real images are averaged to: with fewer
# it is another distance.
_CHARACTERISTIC_BATCH = 128


class NCFMDistiller(NetworkMatchingDistiller):
    r"""Distill an image set by matching distributions of features (NCFM, DANCE).

    Synthetic images are optimized such that the teachers' features of them have the
    same distribution as those of real images of their class.  An iteration uses the
    features :math:`f` of a network between the start and the end of a teacher's
    training, :math:`\theta = \lambda \theta_0 + (1 - \lambda) \theta_T` with
    :math:`\lambda` uniform in [0, 1] [2]_.  With the characteristic functions

    .. math::

        \Phi_R(t) = \frac{1}{|R_c|} \sum_{x \in R_c} e^{i \langle t, f(A_c x) \rangle},
        \qquad
        \Phi_S(t) = \frac{1}{|S_c|} \sum_{s \in S_c} e^{i \langle t, f(A_c s) \rangle}

    of features of length 1, the loss is [1]_

    .. math::

        \mathcal{L}(S) = \sum_c \Bigl( \frac{300}{\sqrt{2}} \, \mathrm{mean}_t
        |\Phi_R(t) - \Phi_S(t)| + \beta \, \mathrm{mean}_{s \in S_c}
        \ell(\theta_T; A_c s, c) \Bigr),

    where t are random frequencies from a standard normal distribution, :math:`R_c` are
    some real images of class c, :math:`A_c` is an augmentation with one set of
    parameters for all of them, and :math:`\beta` is ``calibration``, the weight of the
    trained teacher's cross-entropy on the images.

    In [1]_ amplitudes and phases of :math:`\Phi` are compared separately; with equal
    weights, as in its code, their sum is identical to the above.  The network that
    selects frequencies is omitted, since the released code does not use it.

    Read more in the :ref:`User Guide <features>`.

    Parameters
    ----------
    ipc : int, default=1
        Number of synthetic images per class.
    buffer : TrajectoryBuffer, FrozenEstimator or path-like, default=None
        The teachers.  A fitted buffer, or the folder of one, is used as it is; an
        unfitted one is cloned and fitted on X, y; None uses an unfitted
        :class:`~skdistill.trajectory.TrajectoryBuffer` with default parameters and all
        cores.  In a search or a cross-validation a fitted buffer is trained again on
        the images of each fold, unless it is wrapped in a
        :class:`~sklearn.frozen.FrozenEstimator`.  Only the first and the last snapshot
        of a teacher are used.
    max_iter : int, default=10000
        Number of iterations, each an update of the images.
    distance : {"characteristic", "mean", "gaussian"}, default="characteristic"
        The distance between distributions:

        - "characteristic": the mean difference of characteristic functions, as above
          [1]_.
        - "mean": the squared distance of mean features, without normalization [2]_.
        - "gaussian": 300 times the mean squared difference of characteristic functions
          over all frequencies.  It has a closed form, the squared maximum mean
          discrepancy with the kernel
          :math:`e^{-|f - g|^2 / 2}`, and takes less time and memory, especially for
          large images.

    n_frequencies : int, default=1024
        Number of frequencies in an iteration, 4096 in [1]_; only for "characteristic".
    calibration : float, default=1.0
        The weight :math:`\beta` of the cross-entropy of the synthetic images.
    batch_size : int, "auto" or None, default="auto"
        Number of real images of each class in an iteration; all images of a class with
        fewer images.  None uses all images of every class.  "auto" is 128 for
        "characteristic", otherwise 16 times the square root of ``ipc``.  [2]_ uses 128,
        [1]_ 1024.
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
        rate of SGD, 0.01 times ``ipc`` in [2]_.  "auto" divides the gradient by its
        running root mean square and measures steps in standard deviations of the real
        pixels.
    average : bool, default=True
        Whether ``synthetic_`` contains averages of the images (and learned labels) over
        all iterations, with weight t^2 for iteration t.  They are less noisy than the
        last images, which are returned if False, as in [1]_.
    checkpoint : path-like, default=None
        A folder for the state of the fit, from which the same fit is resumed;
        ``max_iter`` may be larger than before.  In a search or a cross-validation of
        scikit-learn each fit uses a separate subfolder ``fit-...``.
    estimator : classifier, default=None
        The classifier that :meth:`score` trains; None uses the teachers' network.
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
        The fitted teachers.
    history_ : DataFrame of `n_iter_` rows, but at most 10,000
        Per iteration: ``teacher`` (with several networks the first), ``loss``, its
        parts ``distance`` and ``calibration`` if ``calibration`` is positive, and
        ``event``: "rolled back" if the images were reset to the last good state.
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
    DMDistiller : Matches mean features of random networks.
    STMDistiller : Matches the trajectories of the same teachers.

    References
    ----------
    .. [1] Wang et al., "Dataset Distillation with Neural Characteristic Function: A
       Minmax Perspective", CVPR 2025.
    .. [2] Zhang et al., "DANCE: Dual-View Distribution Alignment for Dataset
       Condensation", IJCAI 2024.

    Examples
    --------
    >>> from skdistill import NCFMDistiller, TrajectoryBuffer, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> buffer = TrajectoryBuffer(n_teachers=2, n_epochs=3, width=8, random_state=0)
    >>> distiller = NCFMDistiller(
    ...     ipc=2, buffer=buffer, max_iter=10, distance="gaussian", random_state=0)
    >>> distiller.fit(X, y).synthetic_
    <SyntheticSet: 18 images of 16x16x3, 9 classes>
    >>> list(distiller.history_)
    ['teacher', 'loss', 'distance', 'calibration', 'event']
    """

    _parameter_constraints: dict = {
        **{
            name: constraint
            for name, constraint in (
                NetworkMatchingDistiller._parameter_constraints.items()
            )
            # Those of the teachers.
            if name not in {"architecture", "width", "depth", "normalization"}
        },
        "buffer": [TrajectoryBuffer, FrozenEstimator, str, os.PathLike, None],
        "distance": [StrOptions(set(DISTANCES))],
        "n_frequencies": [Interval(Integral, 1, None, closed="left")],
        "calibration": [Interval(Real, 0, None, closed="left")],
    }

    _free_parameters = NetworkMatchingDistiller._free_parameters | {"buffer"}

    def __init__(
        self,
        ipc: int = 1,
        *,
        buffer: TrajectoryBuffer | str | os.PathLike[str] | None = None,
        max_iter: int = 10000,
        distance: str = "characteristic",
        n_frequencies: int = 1024,
        calibration: float = 1.0,
        batch_size: int | str | None = "auto",
        n_networks: int | str = "auto",
        init: Any = "real",
        pixel_size: int = 1,
        augmentation: str | Sequence[str] | None = "dsa",
        pixel_lr: float | str = "auto",
        average: bool = True,
        checkpoint: str | os.PathLike[str] | None = None,
        estimator: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.ipc = ipc
        self.buffer = buffer
        self.max_iter = max_iter
        self.distance = distance
        self.n_frequencies = n_frequencies
        self.calibration = calibration
        self.batch_size = batch_size
        self.n_networks = n_networks
        self.init = init
        self.pixel_size = pixel_size
        self.augmentation = augmentation
        self.pixel_lr = pixel_lr
        self.average = average
        self.checkpoint = checkpoint
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _find_kind(self, data: RealData) -> NetworkKind:
        # Teachers look at their images themselves.
        return kind_of_teachers(self._given_buffer(), data)

    def _check_module(self, network: Derivatives) -> None:
        with_embedding(network)

    def _given_buffer(self) -> Any:
        return given_buffer(self)

    def _make_objective(self, data: RealData, seed: int) -> FeatureDistributions:
        self.buffer_ = fit_teachers(
            self._given_buffer(),
            data,
            seed=child_seed(seed, 1) % 2**31,
            ranks=Ranks(),
            is_fixed=self.random_state is not None,
            checkpoint=self.checkpoint,
        )
        self._kind = self.buffer_.settings_.network
        batch_size = self.batch_size
        if batch_size == "auto" and self.distance == "characteristic":
            batch_size = _CHARACTERISTIC_BATCH
        return FeatureDistributions(
            data,
            self._kind.derivatives(data.device),
            Encoders(self.buffer_, data.device),
            batch_size=resolve_batch_size(batch_size, self.ipc),
            families=self._families,
            distance=self.distance,
            n_frequencies=int(self.n_frequencies),
            calibration=float(self.calibration),
            n_networks=self.n_networks_,
            teachers=teachers_signature(self.buffer_),
        )

    def _metadata(self) -> dict[str, Any]:
        return describe_teachers(self.buffer_)
