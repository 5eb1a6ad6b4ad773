"""What distillers by trajectory matching share: their teachers and their students."""

import os
from abc import abstractmethod
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from skdistill.distillation._engine._optimizers import SGD, Optimizer
from skdistill.distillation._engine._parameters import (
    Labels,
    Probabilities,
    first_logits,
)
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._engine._state import DistillationState
from skdistill.distillation._iterative import IterativeDistiller
from skdistill.distillation._objectives._student_lr import StepSizes
from skdistill.distillation._objectives._trajectory import TrajectoryMatching
from skdistill.neural_network._augment import resolve_families
from skdistill.neural_network._compile import pays_to_compile
from skdistill.neural_network._default import default_network
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.trajectory import TrajectoryBuffer
from skdistill.trajectory._store import manifest_path
from skdistill.utils._distributed import Ranks
from skdistill.utils._files import as_path
from skdistill.utils._pixel_space import check_contrast
from skdistill.utils._random import child_seed
from skdistill.utils._warnings import warn
from skdistill.utils._workers import n_threads

# While the activations of all steps take no more, they are kept, which is faster.
_MAX_KEPT_BYTES = 2**30

# With more images "auto" makes batches of at most so many, and at least one per class.
# Smaller images than 32x32 it takes more of: their steps are short anyway.
_AUTO_BATCH = 32
_AUTO_PIXELS = 32 * 32 * 32


class TrajectoryDistiller(IterativeDistiller):
    """Base class of distillers that match the trajectories of teachers.

    A subclass says which epochs an iteration matches.
    """

    _parameter_constraints: dict = {
        **IterativeDistiller._parameter_constraints,
        "n_matches": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "buffer": [TrajectoryBuffer, FrozenEstimator, str, os.PathLike, None],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "step_size": [Interval(Real, 0, None, closed="neither")],
        "labels": [StrOptions({"hard", "learned", "teacher"})],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "augmentation": [str, "array-like", None],
        "step_size_lr": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="left"),
        ],
        "label_lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "gradient": [StrOptions({"exact", "detached"})],
        "keep_activations": [StrOptions({"auto"}), "boolean"],
    }

    _free_parameters = IterativeDistiller._free_parameters | {
        "buffer",
        "keep_activations",
    }

    buffer: Any
    n_steps: int
    step_size: float
    labels: str
    batch_size: int | str | None
    n_matches: int | str
    augmentation: Any
    step_size_lr: float | str
    label_lr: float | str
    gradient: str
    keep_activations: bool | str

    # What subclasses decide.

    @abstractmethod
    def _check_epochs(self, n_epochs: int) -> None:
        """Raise a ValueError if the teachers have too few epochs."""

    @abstractmethod
    def _make_matching(self, *arguments: Any, **settings: Any) -> TrajectoryMatching:
        """Return the objective, given what is the same for all."""

    def _make_step_sizes(self) -> StepSizes:
        return StepSizes(self.step_size, self.step_size_lr, per_epoch=False)

    def _check_parameters(self, data: RealData) -> None:
        self._families = resolve_families(self.augmentation)
        n_processes = Ranks().size
        n_matches = n_processes if self.n_matches == "auto" else int(self.n_matches)
        if n_matches < n_processes:
            raise ValueError(
                f"`n_matches` must be at least the number of processes, {n_processes}, "
                f"each of which makes a match in each iteration; got {n_matches}"
            )
        self.n_matches_ = n_matches

    def _resolved_parameters(self) -> dict[str, Any]:
        return {"n_matches": self.n_matches_, "augmentation": list(self._families)}

    def _make_labels(self, codes: Tensor, n_classes: int) -> Labels:
        if self.labels != "learned":
            return super()._make_labels(codes, n_classes)
        logits = first_logits(codes, n_classes, torch.float32)
        return Probabilities(SGD(logits, self.label_lr, 1.0))

    def _make_optimizer(self, images: Tensor, data: RealData) -> Optimizer:
        return SGD(images, self.pixel_lr, self.buffer_.pixel_scale_)

    def _make_objective(self, data: RealData, seed: int) -> TrajectoryMatching:
        ranks = Ranks()
        self.buffer_ = self._fit_buffer(data, child_seed(seed, 1) % 2**31, ranks)
        n_steps_in_all = (
            (self._limit or self.max_iter) * self.n_steps * self.n_matches_
        ) // ranks.size
        network = ConvNetDerivatives(
            self.buffer_.settings_.build_structure(),
            compile=pays_to_compile(data.device, n_steps_in_all),
        )
        batch_size = self._images_per_step(data.n_classes * self.ipc)
        keep = self.keep_activations
        if keep == "auto":
            n_at_once = min(self.n_matches_ // ranks.size, n_threads())
            of_match = self.n_steps * network.tape_bytes(batch_size)
            keep = n_at_once * of_match <= _MAX_KEPT_BYTES
        return self._make_matching(
            self.buffer_,
            network,
            self._make_step_sizes(),
            n_draws=self.n_matches_,
            n_steps=self.n_steps,
            batch_size=batch_size,
            families=self._families,
            detached=self.gradient == "detached",
            keep=bool(keep),
            teacher_labels=self.labels == "teacher",
            device=data.device,
        )

    def _images_per_step(self, n_images: int) -> int:
        size = self.batch_size
        if isinstance(size, str):
            height, width, _ = self.image_shape_
            most = max(
                _AUTO_BATCH, len(self.classes_), _AUTO_PIXELS // (height * width)
            )
            size = -(-n_images // -(-n_images // most))
        return min(int(size or n_images), n_images)

    # Teachers.

    def _fit_buffer(self, data: RealData, seed: int, ranks: Ranks) -> TrajectoryBuffer:
        """Return fitted teachers that match the images."""
        buffer = self.buffer
        if isinstance(buffer, FrozenEstimator):
            buffer = buffer.estimator
            if not hasattr(buffer, "history_"):
                raise ValueError("`buffer` must be fitted where it is frozen")
        if isinstance(buffer, (str, os.PathLike)):
            buffer = TrajectoryBuffer.load(as_path(buffer, "buffer"))
        elif buffer is None:
            buffer = TrajectoryBuffer(
                augmentation=self.augmentation,
                n_jobs=-1,
                device=self.device,
                verbose=self.verbose,
            )
        if not hasattr(buffer, "history_"):
            return self._train(buffer, data, seed, ranks)
        self._check_buffer(buffer, data)
        if buffer.fingerprint_ != data.fingerprint and ranks.is_first:
            warn(
                "`buffer` was fitted on other images, labels or weights than X, y: if "
                "they hold images that the distilled set is later tested on, the test "
                "is not fair",
            )
        return buffer

    def _train(
        self, buffer: TrajectoryBuffer, data: RealData, seed: int, ranks: Ranks
    ) -> TrajectoryBuffer:
        self._check_epochs(len(buffer.planned_snapshot_epochs()) - 1)
        buffer = clone(buffer)
        if self.checkpoint is not None and buffer.path is None:
            # Teachers are most of the work: a killed fit shall not lose them.  In a
            # search all fits share those that they have in common.
            folder = as_path(self.checkpoint, "checkpoint")
            buffer.set_params(path=folder / "teachers")
        # Teachers that are on disk already keep the seed they have.
        on_disk = (
            buffer.path is not None and manifest_path(as_path(buffer.path)).exists()
        )
        if buffer.random_state is None and not on_disk:
            buffer.set_params(random_state=seed)
        if buffer.path is None:
            # One process trains them while the others wait, however long.
            return ranks.from_first(lambda: buffer.fit(*data.given), long=True)
        if not ranks.is_first:
            buffer.set_params(verbose=0)
        # Those that see one folder share its teachers.
        return ranks.side_by_side(lambda: buffer.fit(*data.given))

    def _check_buffer(self, buffer: TrajectoryBuffer, data: RealData) -> None:
        """Raise a ValueError unless fitted teachers are for images such as these."""
        # Teachers that are trained now look at this themselves.
        space = data.pixel_space
        check_contrast(data.given[0].dtype, space.mean, space.deviation)
        self._check_epochs(len(buffer.snapshot_epochs_) - 1)
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

    def _attributes(self, state: DistillationState) -> dict[str, Any]:
        objective = state.objective
        assert isinstance(objective, TrajectoryMatching)
        return {"step_sizes_": np.asarray(objective.step_sizes.values())}

    def _default_estimator(self) -> Any:
        # The teachers' own network, whichever buffer they came from.
        settings = self.buffer_.settings_
        return default_network(
            self.synthetic_.step_size,
            width=settings.width,
            depth=settings.depth,
            normalization=settings.normalization,
            augmentation=self.augmentation,
            image_shape=self.image_shape_,
            device=self.device,
            random_state=self.random_state,
        )
