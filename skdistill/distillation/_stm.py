"""STMDistiller: self-adaptive trajectory matching."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import _fit_context, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from torch import Tensor
from tqdm.auto import tqdm

from skdistill.base import BaseDistiller
from skdistill.distillation._matching import (
    Match,
    graph_bytes,
    match,
    match_gradient,
    plan_steps,
)
from skdistill.distillation._stages import decide, strongest_trend
from skdistill.distillation._updates import PixelUpdate, StepSizeUpdate
from skdistill.metrics._evaluate import default_network
from skdistill.neural_network._augment import resolve_families
from skdistill.neural_network._training import to_images, to_tensor
from skdistill.synthetic import SyntheticSet
from skdistill.trajectory import TrajectoryBuffer
from skdistill.trajectory._store import manifest_path
from skdistill.utils._device import resolve_device
from skdistill.utils._memory import reused_memory
from skdistill.utils._random import child_seed, root_seed, torch_generator
from skdistill.utils._validation import (
    check_class_sizes,
    check_given_images,
    check_images,
    fingerprint_images,
)


class STMDistiller(BaseDistiller):
    """Distil an image set by self-adaptive trajectory matching (STM).

    Synthetic images and a step size are optimised so that ``n_steps`` steps of a
    student on them land where a teacher's next epoch on the real images did
    (algorithm 1 of [1]_).  Start epochs cycle through the first T epochs of the
    teachers.  Before each update a probe matches epoch T, which is not among them:
    when the probe's values fall with time by more than ``threshold`` standard
    deviations of the correlation, one more epoch is taken in, and when they do not
    within ``max_iter`` iterations, the images hold what they can, and the fit ends.

    Parameters
    ----------
    ipc : int, default=1
        Number of synthetic images per class.
    buffer : TrajectoryBuffer or path-like, default=None
        The teachers.  A fitted buffer, or the folder of one, is used as it is; an
        unfitted one is cloned and fitted on X, y; None stands for an unfitted
        :class:`~skdistill.trajectory.TrajectoryBuffer` with its default parameters,
        that uses all cores.
    n_steps : int, default=20
        Number N of the student's steps for one epoch of the teacher.
    step_size : float, default=0.01
        Learning rate of the student at the start; it is learned with the images.
    threshold : float, default=5.0
        The lambda of [1]_: by how many standard deviations the probe's trend must be
        negative for one more epoch to be taken in.
    max_iter : int, default=1000
        Number of iterations without a level-up after which the fit ends.
    max_total_iter : int, default=None
        Number of iterations after which the fit ends in any case.
    init : {"real", "noise"} or array-like of shape (n_classes * ipc, height, width, \
            channels), default="real"
        What the synthetic images start from: random real images of their class,
        Gaussian noise with the mean and deviation of each channel, or given images in
        the order of the classes.
    batch_size : int, default=None
        Synthetic images per step of the student, in reshuffled passes; None takes all.
    augmentation : "dsa", None or sequence of str, default="dsa"
        Families of which one is drawn for each step of the student, as in
        :class:`~skdistill.neural_network.ConvNetClassifier`.
    pixel_lr : float or "auto", default="auto"
        Learning rate of the pixels.  A number is that of plain gradient descent, as
        in [1]_, 1000 there; the right one depends on the number and size of the
        images, N, the step size and the unit of the pixels.  "auto" divides the
        gradient by its own running root mean square and measures steps in standard
        deviations of the real pixels: it depends on none of them.
    step_size_lr : float, default=0.01
        Learning rate of the logarithm of the step size.
    trend_on : {"misalignment", "loss"}, default="misalignment"
        What of the probe the trend test sees.  "loss" is the rule of [1]_.  It also
        falls when merely the step size shrinks; "misalignment" is 1 - cos^2 of the
        angle between the student's way and the teacher's, the part of the loss that
        no step size can remove.  With it the test also looks for a trend that all
        teachers share beneath the differences between them.
    gradient : {"exact", "detached"}, default="exact"
        The gradient through all of the student's steps, or the approximation of TESLA
        that takes the student's way as given.
    estimator : classifier, default=None
        The network that :meth:`score` trains.  None takes the teachers' network.
    image_shape : tuple (height, width, channels), default=None
        How 2-D X is to be read.  None reads one row of pixels with one channel.
    device : str or torch.device, default="auto"
        Where to compute; "auto" takes a GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        Decides on everything random.
    verbose : int, default=0
        Shows progress bars with loss, T and step size if positive.

    Attributes
    ----------
    synthetic_ : SyntheticSet
        The distilled images, their labels and the learned step size.
    buffer_ : TrajectoryBuffer
        The fitted teachers.
    history_ : DataFrame of `n_iter_` rows
        Per iteration: ``n_epochs_matched`` (T), ``teacher``, ``start_epoch``, ``loss``
        and ``misalignment`` of the match, ``probe_loss`` and ``probe_misalignment``,
        ``step_size`` before the update, and ``event``: "" or "undone", if numbers were
        not finite and the images stayed as they were.
    stages_ : DataFrame, a row per stage
        ``n_epochs_matched`` (T), ``first_iteration``, ``n_iter``, the ``correlation``
        of the probe with time at the end of the stage, its ``deviation`` under the
        null hypothesis, and the ``reason`` that ended the stage.
    n_epochs_matched_ : int
        T at the end: the number of epochs of the teachers that were matched.
    n_iter_ : int
        Number of iterations.
    stop_reason_ : {"no trend", "max_total_iter", "diverged", "interrupted"}
        Why the fit ended.
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
    skdistill.distillation.DistilledClassifier : Distils and trains in one estimator.

    Notes
    -----
    The gradient is computed by a sweep back that recomputes one step of the student at
    a time: beyond half a GiB, memory grows with N by one vector of parameters per
    step.  Smaller graphs are kept, which saves recomputing them.

    References
    ----------
    .. [1] Guan et al., "Discovering Galaxy Features via Dataset Distillation", 2023,
       appendix A.1.

    Examples
    --------
    >>> from skdistill import STMDistiller, TrajectoryBuffer, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> buffer = TrajectoryBuffer(n_teachers=2, n_epochs=3, width=8, random_state=0)
    >>> distiller = STMDistiller(
    ...     ipc=1, buffer=buffer, n_steps=5, max_total_iter=3, random_state=0)
    >>> distiller.fit(X, y).synthetic_
    <SyntheticSet: 9 images of 16x16x3, 9 classes, step size ...>
    """

    _parameter_constraints: dict = {
        "ipc": [Interval(Integral, 1, None, closed="left")],
        "buffer": [TrajectoryBuffer, str, os.PathLike, None],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "step_size": [Interval(Real, 0, None, closed="neither")],
        "threshold": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "max_total_iter": [Interval(Integral, 1, None, closed="left"), None],
        "init": [StrOptions({"real", "noise"}), "array-like"],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "augmentation": [str, "array-like", None],
        "pixel_lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "step_size_lr": [Interval(Real, 0, None, closed="left")],
        "trend_on": [StrOptions({"misalignment", "loss"})],
        "gradient": [StrOptions({"exact", "detached"})],
        "estimator": [None, HasMethods(["fit", "score"])],
        "image_shape": ["array-like", None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        ipc: int = 1,
        *,
        buffer: TrajectoryBuffer | str | os.PathLike[str] | None = None,
        n_steps: int = 20,
        step_size: float = 0.01,
        threshold: float = 5.0,
        max_iter: int = 1000,
        max_total_iter: int | None = None,
        init: Any = "real",
        batch_size: int | None = None,
        augmentation: str | Sequence[str] | None = "dsa",
        pixel_lr: float | str = "auto",
        step_size_lr: float = 0.01,
        trend_on: str = "misalignment",
        gradient: str = "exact",
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
        self.threshold = threshold
        self.max_iter = max_iter
        self.max_total_iter = max_total_iter
        self.init = init
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.pixel_lr = pixel_lr
        self.step_size_lr = step_size_lr
        self.trend_on = trend_on
        self.gradient = gradient
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> "STMDistiller":
        """Distil X, y into ``synthetic_``.

        An interrupt from the keyboard ends the fit early, with the images so far.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        self : STMDistiller
            The fitted distiller.
        """
        families = resolve_families(self.augmentation)
        device = resolve_device(self.device)
        X, y = check_images(
            self, X, y, reset=True, with_labels=True, image_shape=self.image_shape
        )
        check_class_sizes(y, 2, "distillation")
        self.classes_, codes = np.unique(y, return_inverse=True)
        if isinstance(self.init, str) and self.init == "real":
            check_class_sizes(y, self.ipc, f"`ipc`={self.ipc} with `init`='real'")
        seed = root_seed(self.random_state)
        images = self._initial_images(X, codes, np.random.default_rng([seed, 0]))
        self.buffer_ = self._fit_buffer(X, y, codes, child_seed(seed, 1) % 2**31)

        targets = torch.arange(len(self.classes_)).repeat_interleave(self.ipc)
        state = _State(
            images=to_tensor(images, device),
            targets=targets.to(device),
            pixels=PixelUpdate(self.pixel_lr, self.buffer_.pixel_scale_),
            step_size=StepSizeUpdate(self.step_size, self.step_size_lr),
            teachers=np.random.default_rng([seed, 2]),
            draws=torch_generator(child_seed(seed, 3)),
        )
        with reused_memory():
            self._optimise(state, families, device)
        self.synthetic_ = SyntheticSet(
            to_images(state.images),
            self.classes_.repeat(self.ipc),
            state.step_size.value,
            {"distiller": type(self).__name__},
        )
        return self

    def _initial_images(
        self, X: np.ndarray, codes: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        n_images = len(self.classes_) * self.ipc
        if not isinstance(self.init, str):
            return check_given_images(self.init, "init", (n_images, *X.shape[1:]))
        if self.init == "noise":
            mean = X.mean(axis=(0, 1, 2))
            scale = X.std(axis=(0, 1, 2))
            noise = rng.standard_normal((n_images, *X.shape[1:]), dtype=np.float32)
            return (noise * scale + mean).astype(np.float32)
        chosen = [
            rng.choice(np.flatnonzero(codes == code), self.ipc, replace=False)
            for code in range(len(self.classes_))
        ]
        return X[np.concatenate(chosen)]

    def _fit_buffer(
        self, X: np.ndarray, y: np.ndarray, codes: np.ndarray, seed: int
    ) -> TrajectoryBuffer:
        """Return fitted teachers that match the images, and as long as is needed."""
        buffer = self.buffer
        if isinstance(buffer, (str, os.PathLike)):
            buffer = TrajectoryBuffer.load(Path(buffer))
        elif buffer is None:
            buffer = TrajectoryBuffer(
                augmentation=self.augmentation,
                n_jobs=-1,
                device=self.device,
                verbose=self.verbose,
            )
        fitted = hasattr(buffer, "history_")
        n_epochs = buffer.n_epochs_ if fitted else buffer.n_epochs
        if n_epochs < 2:
            raise ValueError(
                "`buffer` must hold teachers of at least 2 epochs, one to match and "
                f"one to probe; got n_epochs={n_epochs}"
            )
        if not fitted:
            buffer = clone(buffer)
            # Teachers that are on disk already keep the seed they have.
            on_disk = buffer.path is not None and manifest_path(buffer.path).exists()
            if buffer.random_state is None and not on_disk:
                buffer.set_params(random_state=seed)
            return buffer.fit(X, y)
        if buffer.image_shape_ != self.image_shape_:
            raise ValueError(
                f"`buffer` was made for images of shape {buffer.image_shape_}; X has "
                f"images of shape {self.image_shape_}"
            )
        if not np.array_equal(buffer.classes_, self.classes_):
            raise ValueError(
                f"`buffer` was made for the classes {buffer.classes_.tolist()}; y has "
                f"{self.classes_.tolist()}"
            )
        if buffer.fingerprint_ != fingerprint_images(X, codes):
            warnings.warn(
                "`buffer` was fitted on other images or labels than X, y: if they "
                "hold images that the distilled set is later tested on, the test is "
                "not fair",
                stacklevel=4,
            )
        return buffer

    def _optimise(
        self, state: "_State", families: tuple[str, ...], device: torch.device
    ) -> None:
        """Run algorithm 1 on the state."""
        network = self.buffer_._flat_network(device)
        rows: list[dict[str, Any]] = []
        stages: list[dict[str, Any]] = []
        probes: list[float] = []
        probed_teachers: list[int] = []
        stage_start = 0
        n_epochs_matched = 1
        n_undone = 0
        # The literal rule knows nothing of teachers.
        groups = None if self.trend_on == "loss" else probed_teachers
        self.stop_reason_ = ""

        def draw() -> list:
            return plan_steps(
                self.n_steps,
                len(state.images),
                batch_size=self.batch_size,
                families=families,
                generator=state.draws,
            )

        def snapshot(teacher: int, epoch: int) -> Tensor:
            return torch.from_numpy(self.buffer_.snapshot(teacher, epoch)).to(device)

        def end_stage(reason: str) -> None:
            found = strongest_trend(probes, groups)
            stages.append(
                {
                    "n_epochs_matched": n_epochs_matched,
                    "first_iteration": stage_start,
                    "n_iter": len(rows) - stage_start,
                    "correlation": found.correlation,
                    "deviation": found.deviation,
                    "reason": reason,
                }
            )

        one_step = graph_bytes(
            network,
            snapshot(0, 0),
            state.images,
            state.targets,
            plan_steps(
                1,
                len(state.images),
                batch_size=self.batch_size,
                families=families,
                generator=torch_generator(0),
            )[0],
        )
        keep_graphs = self.n_steps * one_step <= _GRAPH_BYTES

        bar = tqdm(
            desc="distillation",
            unit="iteration",
            total=self.max_total_iter,
            disable=not self.verbose,
        )
        try:
            while not self.stop_reason_:
                teacher = int(state.teachers.integers(self.buffer_.n_teachers_))
                start_epoch = len(rows) % n_epochs_matched
                arguments = (state.images, state.targets, state.step_size.logarithm)
                probe = match(
                    network,
                    snapshot(teacher, n_epochs_matched),
                    snapshot(teacher, n_epochs_matched + 1),
                    *arguments,
                    draw(),
                    scale=self.buffer_.pixel_scale_,
                )
                update = match_gradient(
                    network,
                    snapshot(teacher, start_epoch),
                    snapshot(teacher, start_epoch + 1),
                    *arguments,
                    draw(),
                    scale=self.buffer_.pixel_scale_,
                    detached=self.gradient == "detached",
                    keep_graphs=keep_graphs,
                )
                row = _history_row(update.match, probe)
                finite = np.isfinite([row["loss"], row["probe_loss"]]).all() and bool(
                    update.images.isfinite().all() & update.log_step_size.isfinite()
                )
                rows.append(
                    {
                        "n_epochs_matched": n_epochs_matched,
                        "teacher": teacher,
                        "start_epoch": start_epoch,
                        **row,
                        "step_size": state.step_size.value,
                        "event": "" if finite else "undone",
                    }
                )
                if finite:
                    n_undone = 0
                    state.images = state.pixels(state.images, update.images)
                    state.step_size(update.log_step_size)
                    probes.append(row[f"probe_{self.trend_on}"])
                    probed_teachers.append(teacher)
                else:
                    # The images that led here are kept; shorter steps lead away.
                    n_undone += 1
                    state.step_size.shrink()
                bar.set_postfix(
                    loss=f"{row['loss']:.3f}",
                    T=n_epochs_matched,
                    step_size=f"{state.step_size.value:.2g}",
                    refresh=False,
                )
                bar.update()

                if n_undone == _MOST_UNDONE:
                    self.stop_reason_ = "diverged"
                    continue
                decision = decide(
                    probes, groups, threshold=self.threshold, max_iter=self.max_iter
                )
                if decision == "stop":
                    self.stop_reason_ = "no trend"
                elif decision is not None:
                    end_stage(decision)
                    stage_start = len(rows)
                    probes.clear()
                    probed_teachers.clear()
                    # The probe needs the epoch after the last that is matched.
                    n_epochs_matched = min(
                        n_epochs_matched + 1, self.buffer_.n_epochs_ - 1
                    )
                if len(rows) == self.max_total_iter and not self.stop_reason_:
                    self.stop_reason_ = "max_total_iter"
        except KeyboardInterrupt:
            self.stop_reason_ = "interrupted"
            warnings.warn(
                f"the distillation was interrupted after {len(rows)} iterations; the "
                "images so far are kept",
                stacklevel=4,
            )
        finally:
            bar.close()
        if self.stop_reason_ == "diverged":
            warnings.warn(
                f"the distillation diverged: the last {_MOST_UNDONE} iterations gave "
                "no finite gradient; the images before them are kept.  A smaller "
                "`step_size` or, if it is a number, `pixel_lr` may help",
                ConvergenceWarning,
                stacklevel=4,
            )
        if stage_start < len(rows) or not stages:
            end_stage(self.stop_reason_)
        self.history_ = pd.DataFrame(rows)
        self.stages_ = pd.DataFrame(stages)
        self.n_iter_ = len(rows)
        self.n_epochs_matched_ = n_epochs_matched

    def _default_network(self) -> Any:
        # The teachers' own network, whichever buffer they came from.
        buffer = self.buffer_
        return default_network(
            self.synthetic_,
            width=buffer.width,
            depth=buffer.depth,
            normalization=buffer.normalization,
            augmentation=self.augmentation,
            image_shape=self.image_shape_,
            device=self.device,
            random_state=self.random_state,
        )


# Each halves the step size: by then it is a millionth of what it was.
_MOST_UNDONE = 20

# While the graphs of all steps take no more, they are kept, which is faster.
_GRAPH_BYTES = 2**29


@dataclass
class _State:
    """What an iteration changes."""

    images: Tensor
    targets: Tensor
    pixels: PixelUpdate
    step_size: StepSizeUpdate
    teachers: np.random.Generator
    draws: torch.Generator


def _history_row(found: Match, probe: Match) -> dict[str, float]:
    # One transfer from the device for all four numbers.
    numbers = torch.stack([*found, *probe]).tolist()
    names = ("loss", "misalignment", "probe_loss", "probe_misalignment")
    return dict(zip(names, numbers, strict=True))
