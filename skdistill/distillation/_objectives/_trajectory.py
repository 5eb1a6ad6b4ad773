"""Matching of trajectories: the objective on a student's distance from its teacher."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skdistill.distillation._engine._objective import (
    Draw,
    Evaluation,
    Extra,
    Objective,
)
from skdistill.distillation._engine._parameters import SyntheticParameters
from skdistill.distillation._objectives._student_lr import (
    BELIEVED_STRETCHES,
    StepSizes,
)
from skdistill.distillation._objectives._trajectory_distance import (
    match,
    match_gradient,
)
from skdistill.distillation._objectives._unrolled import plan_steps
from skdistill.neural_network._module_derivatives import Derivatives
from skdistill.trajectory import TrajectoryBuffer
from skdistill.trajectory._signature import teachers_signature
from skdistill.utils._device import to_device
from skdistill.utils._workers import map_pieces

VALIDATION_COLUMNS = ("validation_loss", "validation_misalignment")


class Task(NamedTuple):
    """What one iteration matches.

    Attributes
    ----------
    teacher : int
    start_epoch, end_epoch : int
        The snapshots that the student starts at and aims at.
    validation_epoch : int or None
        The snapshot that another student starts at for the validation loss; it aims
        as far ahead.
    """

    teacher: int
    start_epoch: int
    end_epoch: int
    validation_epoch: int | None = None


class TrajectoryMatching(Objective):
    """The distance of a student from its teacher, for a pair of epochs.

    A subclass says in ``task`` what an iteration matches.

    Parameters
    ----------
    buffer : TrajectoryBuffer
        The fitted teachers.
    network : ConvNetDerivatives or ModuleDerivatives
        The students' network.
    step_sizes : StepSizes
    n_draws : int
        Number of matches in an iteration, each of another teacher.
    n_steps : int
    batch_size : int
        Synthetic images per step.
    families : tuple of str
        Families of augmentation.
    detached : bool
        Whether the student's path is taken as given (TESLA).
    keep : bool
        Whether the activations of all steps are kept.
    teacher_labels : bool
        Whether students learn the labels that the teacher gives, where it ends.
    device : torch.device
    """

    columns: tuple[str, ...] = ("loss", "misalignment")
    notes: tuple[str, ...] = ("teacher", "start_epoch")
    last_columns: tuple[str, ...] = ("step_size",)

    def __init__(
        self,
        buffer: TrajectoryBuffer,
        network: Derivatives,
        step_sizes: StepSizes,
        *,
        n_draws: int,
        n_steps: int,
        batch_size: int,
        families: tuple[str, ...],
        detached: bool,
        keep: bool,
        teacher_labels: bool,
        device: torch.device,
    ) -> None:
        self.n_draws = n_draws
        self.step_sizes = step_sizes
        self._buffer = buffer
        self._network = network
        self._n_steps = n_steps
        self._batch_size = batch_size
        self._families = families
        self._detached = detached
        self._keep = keep
        self._teacher_labels = teacher_labels
        self._device = device
        self.out_of_memory_hint = (
            "With `keep_activations=False` the fit needs less memory."
            if keep
            else "A smaller `batch_size` needs less memory."
        )

    @abstractmethod
    def task(self, iteration: int, rng: np.random.Generator) -> Task:
        """Choose what an iteration matches, with the first of its teachers."""

    def numbers(self) -> dict[str, float]:
        """Return what else ``history_`` notes of an iteration."""
        return {}

    def evaluate(self, synthetic: SyntheticParameters, draw: Draw) -> Evaluation:
        # The order of the draws decides on what they are.
        rng = draw.shared_rng()
        task = self.task(draw.iteration, rng)
        teachers = draw_teachers(
            rng, task.teacher, self._buffer.n_teachers_, self.n_draws
        )
        notes = self.numbers() | {
            "teacher": task.teacher,
            "start_epoch": task.start_epoch,
            "step_size": float(self.step_sizes.logarithm(task.start_epoch).exp()),
        }
        task = task._replace(teacher=teachers[draw.place])
        scale = self._buffer.pixel_scale_
        generator = draw.generator()
        parts: list[Callable[[], Any]] = []
        if task.validation_epoch is not None:
            start = task.validation_epoch
            end = start + task.end_epoch - task.start_epoch
            # Draws before the match does.
            validated = self._arguments(synthetic, task.teacher, start, end, generator)
            parts = [lambda: match(*validated, scale=scale)]
        matched = self._arguments(
            synthetic, task.teacher, task.start_epoch, task.end_epoch, generator
        )
        # The longer work first: a thread that is through with the other can help.
        gradient, *validations = map_pieces(
            lambda compute: compute(),
            [
                lambda: match_gradient(
                    *matched, detached=self._detached, keep=self._keep, scale=scale
                ),
                *parts,
            ],
        )
        metrics: dict[str, Tensor] = {}
        for found in validations:
            metrics |= dict(
                zip(VALIDATION_COLUMNS, (found.loss, found.misalignment), strict=True)
            )
        metrics |= gradient.match._asdict()
        metrics["by_step_size"] = gradient.log_step_size
        gradients = {"images": gradient.images}
        if synthetic.learns_labels:
            gradients["labels"] = gradient.targets
        return Evaluation(metrics, gradients, notes)

    def _arguments(
        self,
        synthetic: SyntheticParameters,
        teacher: int,
        start_epoch: int,
        end_epoch: int,
        generator: torch.Generator,
    ) -> tuple:
        start = self._snapshot(teacher, start_epoch)
        end = self._snapshot(teacher, end_epoch)
        images, labels = synthetic.images, synthetic.labels
        if self._teacher_labels:
            labels = self._labels_of(end, images)
        steps = plan_steps(
            self._n_steps,
            len(images),
            batch_size=self._batch_size,
            families=self._families,
            generator=generator,
            is_random=self._network.is_random,
            device=self._device,
        )
        return (
            self._network,
            start,
            end,
            images,
            labels,
            self.step_sizes.logarithm(start_epoch),
            steps,
        )

    def _snapshot(self, teacher: int, place: int) -> Tensor:
        """Return a teacher's parameters at one of its snapshots."""
        epoch = self._buffer.snapshot_epochs_[place]
        found = torch.from_numpy(self._buffer.snapshot(teacher, epoch))
        return to_device(found, self._device)

    def _labels_of(self, parameters: Tensor, images: Tensor) -> Tensor:
        """Return the probabilities that a network gives to images."""
        logits = self._network.features(parameters, images).logits
        assert logits is not None
        return logits.softmax(1)

    @property
    @abstractmethod
    def last_matched(self) -> int:
        """The last snapshot that students aim at."""

    def probabilities(self, images: Tensor) -> Tensor | None:
        if not self._teacher_labels:
            return None
        labels = [
            self._labels_of(self._snapshot(teacher, self.last_matched), images)
            for teacher in range(self._buffer.n_teachers_)
        ]
        return torch.stack(labels).mean(0)

    def signature(self) -> dict[str, Any]:
        return teachers_signature(self._buffer)

    def extras(self) -> dict[str, Extra]:
        return {"step_sizes": self.step_sizes}

    def average(self, rows: Sequence[dict[str, float]]) -> dict[str, float]:
        means = super().average(rows)
        # A factor, by its logarithm.
        stretches = np.array([row["stretch"] for row in rows])
        believed = np.log(stretches.clip(*BELIEVED_STRETCHES))
        return means | {"stretch": float(np.exp(believed.mean()))}

    def rolled_back(self, synthetic: SyntheticParameters, n_times: int) -> None:
        for _ in range(n_times):
            self.step_sizes.shrink()

    def student_learning_rate(self) -> float:
        return self.step_sizes.values()[-1]

    def progress(self, numbers: Mapping[str, float]) -> dict[str, str]:
        return {
            "loss": f"{numbers['loss']:.3f}",
            "step_size": f"{numbers['step_size']:.2g}",
        }


def draw_teachers(
    rng: np.random.Generator, first: int, n_teachers: int, n_matches: int
) -> list[int]:
    """Return the teachers of an iteration, each as often as any other if it can be."""
    if n_matches == 1:
        return [first]
    others = rng.permutation(np.setdiff1d(np.arange(n_teachers), first)).tolist()
    order = [first, *others]
    return [order[place % n_teachers] for place in range(n_matches)]
