"""Training teachers, one or several at once, and keeping their snapshots."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from skdistill.neural_network._augment import FAMILIES
from skdistill.neural_network._convnet import (
    NORMALIZATIONS,
    ConvNet,
    flatten_parameters,
)
from skdistill.neural_network._derivatives import pays_to_compile
from skdistill.neural_network._sgd import (
    Descent,
    GradientFunction,
    all_at_once,
    descend_epoch,
    networks_at_once,
    one_by_one,
    plan_epoch,
)
from skdistill.trajectory._store import STORAGES, TeacherRun
from skdistill.utils._random import child_seed, isolated_torch_seed, torch_generator
from skdistill.utils._tensors import RealImages


@dataclass(frozen=True)
class TeacherSettings:
    """Everything but the data and the seed that decides what a teacher becomes.

    How many epochs it is trained for does not: those of a longer training begin with
    those of a shorter one.
    """

    image_shape: tuple[int, int, int]
    n_classes: int
    width: int
    depth: int
    normalization: str
    learning_rate: float
    momentum: float
    weight_decay: float
    batch_size: int
    class_weight: str | tuple[float, ...] | None
    families: tuple[str, ...]
    scale: float
    snapshots_per_epoch: int | tuple[int, ...]
    average: bool
    storage: str

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> "TeacherSettings":
        """Return settings from what JSON said, which may be anything.

        Raises
        ------
        ValueError
            If they are none.
        """
        values = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        wrong = sorted(set(values) ^ set(cls.__dataclass_fields__)) or [
            name for name, check in _CHECKS.items() if not check(values[name])
        ]
        if wrong:
            raise ValueError(f"its settings {wrong} make no sense")
        return cls(**values)

    def build(self) -> ConvNet:
        module = ConvNet(
            self.image_shape,
            self.n_classes,
            width=self.width,
            depth=self.depth,
            normalization=self.normalization,
        )
        # Snapshots are float32 whatever PyTorch's default type is.
        return module.float()

    def build_structure(self) -> ConvNet:
        """Build the network without parameters."""
        with torch.device("meta"):
            return self.build()


def _positive(value: Any) -> bool:
    return type(value) is int and value > 0


def _number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


def _each(check: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and all(map(check, value))


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "image_shape": lambda value: (
        _each(_positive, value) and len(value) == 3 and math.prod(value) < 2**31
    ),
    "n_classes": _positive,
    "width": _positive,
    "depth": lambda value: _positive(value) and value < 1000,
    "normalization": lambda value: isinstance(value, str) and value in NORMALIZATIONS,
    "learning_rate": _number,
    "momentum": _number,
    "weight_decay": _number,
    "batch_size": _positive,
    "class_weight": lambda value: value in (None, "balanced") or _each(_number, value),
    "families": lambda value: value == () or _each(FAMILIES.__contains__, value),
    "scale": lambda value: _number(value) and value > 0,
    "snapshots_per_epoch": lambda value: _positive(value) or _each(_positive, value),
    "average": lambda value: isinstance(value, bool),
    "storage": lambda value: isinstance(value, str) and value in STORAGES,
}


def snapshots_in(per_epoch: int | tuple[int, ...], epoch: int) -> int:
    """Return the number of snapshots in an epoch, counted from 0."""
    if isinstance(per_epoch, int):
        return per_epoch
    return per_epoch[epoch] if epoch < len(per_epoch) else 1


def snapshot_epochs(per_epoch: int | tuple[int, ...], n_epochs: int) -> np.ndarray:
    """Return after how many epochs each snapshot is taken, the first after 0."""
    times = [0.0]
    for epoch in range(n_epochs):
        n_snapshots = snapshots_in(per_epoch, epoch)
        times += [epoch + (k + 1) / n_snapshots for k in range(n_snapshots)]
    return np.array(times)


def n_snapshots_until(per_epoch: int | tuple[int, ...], n_epochs: int) -> int:
    """Return the number of snapshots of some epochs, with the first of all."""
    if isinstance(per_epoch, int):
        return 1 + per_epoch * n_epochs
    return 1 + sum(per_epoch[:n_epochs]) + max(0, n_epochs - len(per_epoch))


class Teachers:
    """Teachers in training, side by side.

    Parameters
    ----------
    settings : TeacherSettings
    images : RealImages
    codes : Tensor of shape (n_samples,), int64
    weight : Tensor of shape (n_samples,) or None
        Weights of the images' losses, with mean 1.
    seeds : sequence of int
        Each decides on everything random of one teacher.
    n_epochs : int
        Number of epochs to train for.
    runs : sequence of TeacherRun, default=None
        The trainings so far, to go on with, all of the same number of epochs.
    numbers : sequence of int, default=None
        What the teachers are called in messages.
    """

    def __init__(
        self,
        settings: TeacherSettings,
        images: RealImages,
        codes: Tensor,
        weight: Tensor | None,
        seeds: Sequence[int],
        n_epochs: int,
        runs: Sequence[TeacherRun] | None = None,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self._settings = settings
        self._images = images
        targets = F.one_hot(codes, settings.n_classes).to(images.dtype)
        self._targets = targets if weight is None else targets * weight[:, None]
        self._seeds = list(seeds)
        self._numbers = range(len(seeds)) if numbers is None else numbers
        self._first = runs[0].n_epochs if runs else 0
        self._last = n_epochs
        n_snapshots = n_snapshots_until(settings.snapshots_per_epoch, n_epochs)
        if runs:
            start = torch.stack([run.last for run in runs])
        else:
            start = torch.stack([self._initial(seed) for seed in seeds])
        self._parameters = start.to(images.device)
        self._velocity = None
        if settings.momentum:
            self._velocity = torch.zeros_like(self._parameters)
        n_teachers = len(self._seeds)
        self._snapshots = torch.empty(n_teachers, n_snapshots, start.shape[1])
        self._snapshots[:, 0] = start
        self._curves = torch.empty(2, n_teachers, n_epochs, dtype=torch.float64)
        for place, run in enumerate(runs or []):
            self._snapshots[place, : len(run.parameters)] = run.parameters
            self._curves[0, place, : run.n_epochs] = run.loss
            self._curves[1, place, : run.n_epochs] = run.accuracy
            if self._velocity is not None:
                self._velocity[place] = run.velocity

    def _initial(self, seed: int) -> Tensor:
        with isolated_torch_seed(child_seed(seed, 0)):
            return flatten_parameters(self._settings.build())

    def train(self) -> Iterator[int]:
        """Train; yields the number of epochs done after each of them.

        Raises
        ------
        ValueError
            If numbers are not finite any more.
        """
        settings = self._settings
        n_samples = len(self._images)
        n_steps = -(-n_samples // settings.batch_size)
        gradients = self._gradients((self._last - self._first) * n_steps)
        descent = Descent(
            settings.learning_rate,
            settings.momentum,
            settings.weight_decay,
            settings.batch_size,
            settings.scale,
        )
        for epoch in range(self._first, self._last):
            # A generator for each epoch: nothing of it has to be stored to go on.
            plans = [
                plan_epoch(
                    n_samples,
                    settings.batch_size,
                    settings.families,
                    torch_generator(child_seed(seed, 1, epoch)),
                )
                for seed in self._seeds
            ]
            n_snapshots = snapshots_in(settings.snapshots_per_epoch, epoch)
            first = n_snapshots_until(settings.snapshots_per_epoch, epoch)
            places = {
                -(-n_steps * (k + 1) // n_snapshots): first + k
                for k in range(n_snapshots)
            }

            snapshot = self._parameters
            if settings.average:
                snapshot = torch.zeros_like(self._parameters)
            n_averaged = 0

            def keep(
                step: int,
                places: dict[int, int] = places,
                snapshot: Tensor = snapshot,
            ) -> None:
                nonlocal n_averaged
                if settings.average:
                    n_averaged += 1
                    snapshot.lerp_(self._parameters, 1 / n_averaged)
                if step in places:
                    self._snapshots[:, places[step]] = snapshot.cpu()
                    n_averaged = 0

            curves = descend_epoch(
                gradients,
                self._parameters,
                self._velocity,
                self._images,
                self._targets,
                plans,
                descent,
                keep,
            )
            self._curves[:, :, epoch] = torch.stack(curves).cpu()
            self._check(epoch, first)
            yield epoch + 1

    def runs(self, n_epochs: int) -> list[TeacherRun]:
        """Return the trainings so far.

        Parameters
        ----------
        n_epochs : int
            The number of epochs that was yielded last.
        """
        n_snapshots = n_snapshots_until(self._settings.snapshots_per_epoch, n_epochs)
        velocity = torch.empty(len(self._seeds), 0)
        if self._velocity is not None:
            velocity = self._velocity.cpu()
        last = self._parameters.cpu()
        return [
            TeacherRun(
                self._snapshots[place, :n_snapshots],
                self._curves[0, place, :n_epochs].clone(),
                self._curves[1, place, :n_epochs].clone(),
                velocity[place].clone(),
                last[place].clone(),
            )
            for place in range(len(self._seeds))
        ]

    def _gradients(self, n_steps: int) -> GradientFunction:
        structure = self._settings.build_structure()
        device = self._images.device
        if trains_one_by_one(device):
            return one_by_one(structure)
        return all_at_once(structure, compile=pays_to_compile(device, n_steps))

    def _check(self, epoch: int, first: int) -> None:
        # The loss is that before each step, it does not see the last one.
        losses = self._curves[0, :, epoch]
        n_snapshots = snapshots_in(self._settings.snapshots_per_epoch, epoch)
        taken = self._snapshots[:, first : first + n_snapshots]
        finite = losses.isfinite() & taken.isfinite().all(dim=2).all(dim=1)
        for number, loss, good in zip(
            self._numbers, losses.tolist(), finite.tolist(), strict=True
        ):
            if not good:
                raise ValueError(
                    f"teacher {number} diverged in epoch {epoch + 1} (loss {loss}); "
                    f"`learning_rate`={self._settings.learning_rate} is too high for "
                    "these images"
                )


def trains_one_by_one(device: torch.device) -> bool:
    """Tell whether teachers take their turns in each step."""
    return device.type == "cpu"


def teachers_at_once(
    settings: TeacherSettings, device: torch.device, n_teachers: int
) -> int:
    """Return how many of ``n_teachers`` are best trained side by side on a device."""
    if device.type != "cuda":
        return 1
    return networks_at_once(
        settings.build_structure(), settings.batch_size, device, n_teachers
    )
