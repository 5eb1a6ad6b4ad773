"""STMDistiller: self-adaptive trajectory matching."""

import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skdistill.distillation._engine._state import DistillationState
from skdistill.distillation._objectives._student_lr import StepSizes
from skdistill.distillation._stages import SelfAdaptiveMatching
from skdistill.distillation._trajectory_matching import TrajectoryDistiller
from skdistill.trajectory import TrajectoryBuffer


class STMDistiller(TrajectoryDistiller):
    """Distill an image set by self-adaptive trajectory matching (STM).

    Synthetic images and a step size are optimized such that ``n_steps`` steps of a
    student on them lead to the parameters that a teacher reaches in its next epoch on
    the real images (algorithm 1 of [1]_).  Start epochs cycle through the first T
    epochs of the teachers, the epoch pool.  Before each update a validation loss is
    computed at epoch T, which is not in the pool.  If it decreases over the iterations
    by more than ``threshold`` standard deviations of the correlation, the pool is
    expanded by one epoch.  If this does not happen within ``max_iter`` iterations, the
    images are fine-tuned and the fit ends.

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
    n_steps : int, default=20
        Number N of the student's steps for ``n_target_epochs`` of the teacher.
    step_size : float, default=0.01
        Learning rate of the student at the first iteration; it is learned.
    n_initial_epochs : int or "auto", default="auto"
        The initial T.  With 1, as in [1]_, the epochs are added one after the other; a
        short run then ends at the first epochs, although larger sets can match more.
        "auto" is ``ipc``, but at most half of the teachers' epochs.
    n_target_epochs : int, default=1
        Number M of epochs between start and target, also for the validation loss; 1 in
        [1]_.
    threshold : float, default=5.0
        The lambda of [1]_: the epoch pool is expanded if the trend of the validation
        loss is negative by more than this number of standard deviations.
    max_iter : int, default=1000
        Number of iterations without an expansion of the epoch pool after which the
        images are fine-tuned, without validation losses and with learning rates that
        are reduced by a fifth every ``max_iter / 20`` iterations.  The fit ends when
        they are below a twentieth.
    max_total_iter : int, default=None
        Number of iterations after which the fit ends in any case.
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
        Synthetic images per step of the student, in reshuffled passes.  None uses all,
        as in [1]_.  "auto" uses all images if there are at most 32 (or more for images
        smaller than 32x32, with the same total number of pixels) or one per class, and
        otherwise equal batches within this limit: iterations are faster, and the images
        do not overfit the first epochs.
    n_matches : int or "auto", default="auto"
        Number of matches, each with a different teacher, whose gradients are averaged
        in an iteration.  More matches give less noisy steps at a proportional cost.
        "auto" is 1, or one per process of a torch.distributed group.
    augmentation : "dsa", None, str or sequence of str, default="dsa"
        Families of which one is drawn for each step of the student, as in
        :class:`~skdistill.neural_network.ConvNetClassifier`.
    pixel_lr : float or "auto", default="auto"
        Learning rate of the pixels.  A number is the learning rate of SGD, as
        in [1]_, 1000 there; a suitable value depends on the number and size of the
        images, N, the step size and the unit of the pixels.  "auto" divides the
        gradient by its running root mean square and measures steps in standard
        deviations of the real pixels, and does not depend on these.
    step_size_lr : float or "auto", default="auto"
        Learning rate of the logarithm of the step size.  A number is that of gradient
        descent, 0.01 in [1]_.  The gradient is small while the student's path is much
        too short; "auto" follows the length that brings the student closest to its
        target instead, a tenth of the way in each iteration.
    step_size_per_epoch : bool, default=False
        Whether to learn a separate step size for each start epoch.
    label_lr : float or "auto", default="auto"
        Learning rate of learned labels' logits.  "auto" is as for the pixels.
    average : bool, default=True
        Whether ``synthetic_`` contains averages of the images (and learned labels) over
        the iterations since the last expansion of the pool, with weight t^2 for the
        t-th.  They are less noisy than the last images, which are returned if False, as
        in [1]_.
    trend_on : {"misalignment", "loss"}, default="misalignment"
        The value that the trend test uses:

        - "loss": the validation loss, the rule of [1]_.  It also decreases if only the
          step size decreases;
        - "misalignment": 1 - cos^2 of the angle between the displacements of student
          and teacher, the part of the loss that does not depend on the step size.  The
          test is then also applied after removing the differences between teachers.

    gradient : {"exact", "detached"}, default="exact"
        How the gradient of the pixels is computed:

        - "exact": through all of the student's steps;
        - "detached": with the approximation of TESLA, which treats the student's
          parameters at each step as constants.

    keep_activations : bool or "auto", default="auto"
        Whether to keep the activations of each of the student's steps for the backward
        pass through them: faster by about a tenth, but memory grows with ``n_steps``.
        "auto" does so if it takes less than 1 GiB.  The result is the same.
    checkpoint : path-like, default=None
        A folder for the state of the fit, stored at most twice a minute, and for
        teachers that have no ``path`` of their own.  A fit on the same data with the
        same parameters resumes from there, bitwise identically on a CPU;
        ``max_total_iter`` may be larger than before.  A folder of another fit raises an
        error; in a search or a cross-validation of scikit-learn each fit uses a
        separate subfolder ``fit-...``, so that the same search can be resumed.
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
        Shows progress bars with loss, T and step size if positive.

    Attributes
    ----------
    synthetic_ : SyntheticSet
        The distilled images, their labels and the learned step size (the last one with
        ``step_size_per_epoch``).
    best_synthetic_ : SyntheticSet
        The set with the smallest mean loss over ten iterations in the last stage.
    best_iteration_ : int
        The number of iterations after which ``best_synthetic_`` was obtained.
    step_sizes_ : ndarray
        All learned step sizes.
    buffer_ : TrajectoryBuffer
        The fitted teachers.
    history_ : DataFrame of `n_iter_` rows, but at most 10,000
        Per iteration: ``n_epochs_matched`` (T), ``teacher``, ``start_epoch``, ``loss``
        and ``misalignment`` of the match, ``validation_loss`` and
        ``validation_misalignment`` (with several matches the first teacher, and means),
        ``step_size`` before the update, and ``event``: "" or "rolled back" if values
        were not finite, or losses were far above the first ones and rising: images,
        labels and step size were rolled back to the last good state, and the learning
        rates and the step size were halved.  In runs of more than 10,000 iterations a
        row summarizes 2, 4, 8, ... iterations and is indexed by the first of them.
        Losses and misalignments are then means, "rolled back" means that at least one
        iteration was, and the other columns are those of the first iteration.
    stages_ : DataFrame, a row per stage
        ``n_epochs_matched`` (T), ``first_iteration``, ``n_iter``, the ``correlation``
        of the validation value with time at the end of the stage, its ``deviation``
        under the null hypothesis, and the ``reason`` that ended the stage:  "expanded",
        "overfit", "no trend", "fine-tuned" or as in ``stop_reason_``.
    n_epochs_matched_ : int
        The final T: the number of matched epochs of the teachers, or of intervals
        between snapshots if these are finer than epochs.
    n_matches_ : int
        Number of matches in an iteration.
    n_iter_ : int
        Number of iterations.
    stop_reason_ : str
        Reason why the fit ended: "no trend" after the fine-tuning, "max_total_iter",
        "diverged", "interrupted" (from the keyboard), or "callback" (by a callback of
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
    skdistill.metrics.evaluate_synthetic : Scores the distilled set.
    skdistill.distillation.DistilledClassifier : Distills and trains in one estimator.

    Notes
    -----
    The gradient is backpropagated through one step of the student at a time,
    with derivatives implemented by hand: memory grows with N by one parameter vector
    per step, unless activations are kept.

    References
    ----------
    .. [1] Guan et al., "Discovering Galaxy Features via Dataset Distillation", 2023,
       appendix A.1.
    .. [2] Kim et al., "Dataset Condensation via Efficient Synthetic-Data
       Parameterization", ICML 2022.
    .. [3] Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant
       Memory", ICML 2023.

    Examples
    --------
    >>> from skdistill import STMDistiller, TrajectoryBuffer, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> buffer = TrajectoryBuffer(n_teachers=2, n_epochs=3, width=8, random_state=0)
    >>> distiller = STMDistiller(
    ...     ipc=1, buffer=buffer, n_steps=5, max_total_iter=3, random_state=0)
    >>> distiller.fit(X, y).synthetic_
    <SyntheticSet: 9 images of 16x16x3, 9 classes, step size ...>

    With larger pixels, four times as many images have the same storage budget:

    >>> distiller.set_params(ipc=4, pixel_size=2).fit(X, y).synthetic_
    <SyntheticSet: 36 images of 16x16x3 in pixels of 2x2, 9 classes, step size ...>
    """

    _parameter_constraints: dict = {
        **TrajectoryDistiller._parameter_constraints,
        "n_initial_epochs": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "n_target_epochs": [Interval(Integral, 1, None, closed="left")],
        "threshold": [Interval(Real, 0, None, closed="neither")],
        "max_total_iter": [Interval(Integral, 1, None, closed="left"), None],
        "step_size_per_epoch": ["boolean"],
        "trend_on": [StrOptions({"misalignment", "loss"})],
    }

    def __init__(
        self,
        ipc: int = 1,
        *,
        buffer: TrajectoryBuffer | str | os.PathLike[str] | None = None,
        n_steps: int = 20,
        step_size: float = 0.01,
        n_initial_epochs: int | str = "auto",
        n_target_epochs: int = 1,
        threshold: float = 5.0,
        max_iter: int = 1000,
        max_total_iter: int | None = None,
        init: Any = "real",
        pixel_size: int = 1,
        labels: str = "hard",
        batch_size: int | str | None = "auto",
        n_matches: int | str = "auto",
        augmentation: str | Sequence[str] | None = "dsa",
        pixel_lr: float | str = "auto",
        step_size_lr: float | str = "auto",
        step_size_per_epoch: bool = False,
        label_lr: float | str = "auto",
        average: bool = True,
        trend_on: str = "misalignment",
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
        self.n_steps = n_steps
        self.step_size = step_size
        self.n_initial_epochs = n_initial_epochs
        self.n_target_epochs = n_target_epochs
        self.threshold = threshold
        self.max_iter = max_iter
        self.max_total_iter = max_total_iter
        self.init = init
        self.pixel_size = pixel_size
        self.labels = labels
        self.batch_size = batch_size
        self.n_matches = n_matches
        self.augmentation = augmentation
        self.pixel_lr = pixel_lr
        self.step_size_lr = step_size_lr
        self.step_size_per_epoch = step_size_per_epoch
        self.label_lr = label_lr
        self.average = average
        self.trend_on = trend_on
        self.gradient = gradient
        self.keep_activations = keep_activations
        self.checkpoint = checkpoint
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    _limit_name = "max_total_iter"

    def _check_epochs(self, n_epochs: int) -> None:
        asked = self.n_initial_epochs
        at_first = 1 if isinstance(asked, str) else asked
        needed = at_first + self.n_target_epochs
        if n_epochs < needed:
            raise ValueError(
                f"`buffer` must hold teachers of at least {needed} epochs: the "
                f"validation loss starts after {at_first} "
                f"(`n_initial_epochs`={asked!r}) and its target is "
                f"{self.n_target_epochs} epochs later (`n_target_epochs`); got "
                f"n_epochs={n_epochs}"
            )

    def _initial_epochs(self) -> int:
        if not isinstance(self.n_initial_epochs, str):
            return int(self.n_initial_epochs)
        n_epochs = len(self.buffer_.snapshot_epochs_) - 1
        most = min(n_epochs // 2, n_epochs - self.n_target_epochs)
        return max(1, min(self.ipc, most))

    def _make_step_sizes(self) -> StepSizes:
        return StepSizes(
            self.step_size, self.step_size_lr, per_epoch=self.step_size_per_epoch
        )

    def _make_matching(self, *arguments: Any, **settings: Any) -> SelfAdaptiveMatching:
        return SelfAdaptiveMatching(
            *arguments,
            n_epochs_matched=self._initial_epochs(),
            n_target_epochs=int(self.n_target_epochs),
            last_epoch=len(self.buffer_.snapshot_epochs_) - 1,
            threshold=self.threshold,
            max_iter=self.max_iter,
            trend_on=self.trend_on,
            **settings,
        )

    def _attributes(self, state: DistillationState) -> dict[str, Any]:
        objective = state.objective
        assert isinstance(objective, SelfAdaptiveMatching)
        stages = objective.stages(len(state.history), state.stop_reason)
        # Not an epoch that was taken in by the last iteration, and never matched.
        n_epochs_matched = int(stages["n_epochs_matched"].iloc[-1])
        step_sizes = objective.step_sizes.values()[:n_epochs_matched]
        return {
            "step_sizes_": np.asarray(step_sizes),
            "stages_": stages,
            "n_epochs_matched_": n_epochs_matched,
        }
