"""What distillers by trajectory matching share: their teachers and their students."""

import os
from abc import abstractmethod
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from skdistill.distillation._engine._optimizers import SGD, Optimizer
from skdistill.distillation._engine._parameters import Labels
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._engine._state import DistillationState
from skdistill.distillation._iterative import IterativeDistiller
from skdistill.distillation._objectives._student_lr import StepSizes
from skdistill.distillation._objectives._trajectory import TrajectoryMatching
from skdistill.distillation._student import (
    make_labels,
    resolve_batch_size,
    resolve_keep,
)
from skdistill.distillation._teachers import (
    describe_teachers,
    fit_teachers,
    given_buffer,
)
from skdistill.neural_network._augment import resolve_families
from skdistill.neural_network._compile import pays_to_compile
from skdistill.neural_network._default import own_parameters
from skdistill.neural_network._module_derivatives import check_second_derivatives
from skdistill.trajectory import TrajectoryBuffer
from skdistill.utils._distributed import Ranks
from skdistill.utils._random import child_seed
from skdistill.utils._workers import n_threads


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
                "`n_matches` must be at least the number of processes, "
                f"{n_processes}, since each process makes a match in each iteration; "
                f"got {n_matches}"
            )
        self.n_matches_ = n_matches

    def _resolved_parameters(self) -> dict[str, Any]:
        return {"n_matches": self.n_matches_, "augmentation": list(self._families)}

    def _make_labels(self, codes: Tensor, n_classes: int) -> Labels:
        return make_labels(self.labels, codes, n_classes, self.label_lr)

    def _make_optimizer(self, images: Tensor, data: RealData) -> Optimizer:
        return SGD(images, self.pixel_lr, self.buffer_.pixel_scale_)

    def _given_buffer(self) -> Any:
        return given_buffer(self)

    def _check_teachers(self, buffer: TrajectoryBuffer) -> None:
        self._check_epochs(len(buffer.planned_snapshot_epochs()) - 1)

    def _make_objective(self, data: RealData, seed: int) -> TrajectoryMatching:
        ranks = Ranks()
        self.buffer_ = fit_teachers(
            self._given_buffer(),
            data,
            seed=child_seed(seed, 1) % 2**31,
            ranks=ranks,
            is_fixed=self.random_state is not None,
            checkpoint=self.checkpoint,
            check_epochs=self._check_epochs,
            check_network=check_second_derivatives,
        )
        n_steps_in_all = (
            (self._limit or self.max_iter) * self.n_steps * self.n_matches_
        ) // ranks.size
        network = self.buffer_.settings_.network.derivatives(
            data.device, compile=pays_to_compile(data.device, n_steps_in_all)
        )
        batch_size = resolve_batch_size(
            self.batch_size,
            data.n_classes * self.ipc,
            data.n_classes,
            data.image_shape,
        )
        keep = resolve_keep(
            self.keep_activations,
            network,
            batch_size,
            self.n_steps,
            min(self.n_matches_ // ranks.size, n_threads()),
        )
        return self._make_matching(
            self.buffer_,
            network,
            self._make_step_sizes(),
            n_draws=self.n_matches_,
            n_steps=self.n_steps,
            batch_size=batch_size,
            families=self._families,
            detached=self.gradient == "detached",
            keep=keep,
            teacher_labels=self.labels == "teacher",
            device=data.device,
        )

    def _attributes(self, state: DistillationState) -> dict[str, Any]:
        objective = state.objective
        assert isinstance(objective, TrajectoryMatching)
        return {"step_sizes_": np.asarray(objective.step_sizes.values())}

    def _metadata(self) -> dict[str, Any]:
        # The teachers' own network, whichever buffer they came from.
        return describe_teachers(self.buffer_, augmentation=self.augmentation)

    def _own_network(self) -> dict[str, Any]:
        kind = self.buffer_.settings_.network
        return own_parameters(kind, augmentation=self.augmentation)
