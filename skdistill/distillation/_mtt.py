"""MTTDistiller: trajectory matching with a fixed pool of start epochs."""

import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from skdistill.distillation._objectives._trajectory import Task, TrajectoryMatching
from skdistill.distillation._trajectory_matching import TrajectoryDistiller
from skdistill.trajectory import TrajectoryBuffer


class FixedPoolMatching(TrajectoryMatching):
    """Trajectory matching with start epochs from a pool that stays as it is.

    Parameters
    ----------
    *arguments
        As of :class:`TrajectoryMatching`.
    max_start_epoch : int
        Size of the pool.
    n_target_epochs : int
        How many epochs ahead students aim.
    **settings
        As of :class:`TrajectoryMatching`.
    """

    def __init__(
        self,
        *arguments: Any,
        max_start_epoch: int,
        n_target_epochs: int,
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, **settings)
        self._max_start_epoch = max_start_epoch
        self._n_target_epochs = n_target_epochs

    def task(self, iteration: int, rng: np.random.Generator) -> Task:
        teacher = int(rng.integers(self._buffer.n_teachers_))
        start = int(rng.integers(self._max_start_epoch))
        return Task(teacher, start, start + self._n_target_epochs)

    @property
    def last_matched(self) -> int:
        return self._max_start_epoch - 1 + self._n_target_epochs


class MTTDistiller(TrajectoryDistiller):
    """Distill an image set by matching training trajectories (MTT).

    Synthetic images and a step size are optimized such that ``n_steps`` steps of a
    student on them lead to the parameters that a teacher reaches ``n_target_epochs``
    epochs later.  Start epochs are drawn at random from a pool of fixed size, which
    :class:`~skdistill.distillation.STMDistiller` determines automatically.

    Read more in the :ref:`User Guide <trajectories>`.

    Parameters
    ----------
    ipc : int, default=1
        Number of synthetic images per class.
    buffer : TrajectoryBuffer, FrozenEstimator or path-like, default=None
        The teachers.  A fitted buffer, or the folder of one, is used as it is; an
        unfitted one is cloned and fitted on X, y; None uses an unfitted
        :class:`~skdistill.trajectory.TrajectoryBuffer` with default parameters and all
        cores.  In a search or a cross-validation a fitted buffer is cloned and trained
        on the images of each fold, since teachers that were trained on the test images
        bias the scores.  To use it nevertheless, wrap it in a
        :class:`~sklearn.frozen.FrozenEstimator`.
    max_start_epoch : int, default=10
        Size of the pool: a student starts after one of the epochs 0, ...,
        ``max_start_epoch`` - 1 of a teacher.  If snapshots are finer than epochs, they
        count as epochs, here and below.
    n_target_epochs : int, default=2
        Number M of epochs between start and target.
    n_steps : int, default=20
        Number N of the student's steps.
    step_size : float, default=0.01
        Learning rate of the student at the first iteration; it is learned.
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
        initial images are averaged over these pixels.  This is the multi-formation of
        [2]_.
    labels : {"hard", "learned", "teacher"}, default="hard"
        The label of each image:

        - "hard": its class;
        - "learned": probabilities of all classes that are learned with it;
        - "teacher": in each iteration the probabilities that the matched teacher
          predicts at the target epoch (TESLA, [3]_).  ``synthetic_`` has their mean
          over all teachers at the last target epoch.
    batch_size : int, "auto" or None, default="auto"
        Synthetic images per step of the student, in reshuffled passes, as for
        :class:`~skdistill.distillation.STMDistiller`.
    n_matches : int or "auto", default="auto"
        Number of matches, each with a different teacher, whose gradients are averaged
        in an iteration.  More matches give less noisy steps at a proportional cost.
        "auto" is 1, or one per process of a torch.distributed group.
    augmentation : "dsa", None, str or sequence of str, default="dsa"
        Families of which one is drawn for each step of the student.
    pixel_lr : float or "auto", default="auto"
        Learning rate of the pixels, as for
        :class:`~skdistill.distillation.STMDistiller`.
    step_size_lr : float or "auto", default="auto"
        Learning rate of the logarithm of the step size.  A number is the learning rate
        of gradient descent; [1]_ descends on the step size itself, at 1e-5, which is
        0.1 here at a step size of 0.01.  The gradient is small while the student's path
        is much too short; "auto" follows the length that brings the student closest to
        its target instead, a tenth of the way in each iteration.
    label_lr : float or "auto", default="auto"
        Learning rate of learned labels' logits.
    average : bool, default=True
        Whether ``synthetic_`` contains averages of the images (and learned labels) over
        all iterations, with weight t^2 for iteration t.  They are less noisy than the
        last images, which are returned if False, as in [1]_.
    gradient : {"exact", "detached"}, default="exact"
        How the gradient of the pixels is computed:

        - "exact": through all of the student's steps;
        - "detached": with the approximation of TESLA.

    keep_activations : bool or "auto", default="auto"
        Whether to keep the activations of each of the student's steps, as for
        :class:`~skdistill.distillation.STMDistiller`.
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
        The distilled images, their labels and the learned step size.
    best_synthetic_ : SyntheticSet
        The set with the smallest mean loss over ten iterations.
    best_iteration_ : int
        The number of iterations after which ``best_synthetic_`` was obtained.
    step_sizes_ : ndarray of shape (1,)
        The learned step size.
    buffer_ : TrajectoryBuffer
        The fitted teachers.
    history_ : DataFrame of `n_iter_` rows, but at most 10,000
        Per iteration: ``teacher``, ``start_epoch``, ``loss`` and ``misalignment`` of
        the match (with several matches the first teacher, and means), ``step_size``
        before the update, and ``event``, as in
        :class:`~skdistill.distillation.STMDistiller`.
    n_matches_ : int
        Number of matches in an iteration.
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
    skdistill.distillation.STMDistiller : Determines the pool automatically.

    References
    ----------
    .. [1] Cazenavette et al., "Dataset Distillation by Matching Training
       Trajectories", CVPR 2022, algorithm 1.
    .. [2] Kim et al., "Dataset Condensation via Efficient Synthetic-Data
       Parameterization", ICML 2022.
    .. [3] Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant
       Memory", ICML 2023.

    Examples
    --------
    >>> from skdistill import MTTDistiller, TrajectoryBuffer, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> buffer = TrajectoryBuffer(n_teachers=2, n_epochs=3, width=8, random_state=0)
    >>> distiller = MTTDistiller(
    ...     ipc=1, buffer=buffer, max_start_epoch=2, n_target_epochs=1, n_steps=5,
    ...     max_iter=3, random_state=0)
    >>> distiller.fit(X, y).synthetic_
    <SyntheticSet: 9 images of 16x16x3, 9 classes, step size ...>
    """

    _parameter_constraints: dict = {
        **TrajectoryDistiller._parameter_constraints,
        "max_start_epoch": [Interval(Integral, 1, None, closed="left")],
        "n_target_epochs": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        ipc: int = 1,
        *,
        buffer: TrajectoryBuffer | str | os.PathLike[str] | None = None,
        max_start_epoch: int = 10,
        n_target_epochs: int = 2,
        n_steps: int = 20,
        step_size: float = 0.01,
        max_iter: int = 1000,
        init: Any = "real",
        pixel_size: int = 1,
        labels: str = "hard",
        batch_size: int | str | None = "auto",
        n_matches: int | str = "auto",
        augmentation: str | Sequence[str] | None = "dsa",
        pixel_lr: float | str = "auto",
        step_size_lr: float | str = "auto",
        label_lr: float | str = "auto",
        average: bool = True,
        gradient: str = "exact",
        keep_activations: bool | str = "auto",
        checkpoint: str | os.PathLike[str] | None = None,
        estimator: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.ipc = ipc
        self.buffer = buffer
        self.max_start_epoch = max_start_epoch
        self.n_target_epochs = n_target_epochs
        self.n_steps = n_steps
        self.step_size = step_size
        self.max_iter = max_iter
        self.init = init
        self.pixel_size = pixel_size
        self.labels = labels
        self.batch_size = batch_size
        self.n_matches = n_matches
        self.augmentation = augmentation
        self.pixel_lr = pixel_lr
        self.step_size_lr = step_size_lr
        self.label_lr = label_lr
        self.average = average
        self.gradient = gradient
        self.keep_activations = keep_activations
        self.checkpoint = checkpoint
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _check_epochs(self, n_epochs: int) -> None:
        needed = self.max_start_epoch - 1 + self.n_target_epochs
        if n_epochs < needed:
            raise ValueError(
                f"`max_start_epoch`={self.max_start_epoch} and `n_target_epochs`="
                f"{self.n_target_epochs} need teachers of at least {needed} epochs; "
                f"`buffer` has n_epochs={n_epochs}"
            )

    def _make_matching(self, *arguments: Any, **settings: Any) -> FixedPoolMatching:
        return FixedPoolMatching(
            *arguments,
            max_start_epoch=int(self.max_start_epoch),
            n_target_epochs=int(self.n_target_epochs),
            **settings,
        )
