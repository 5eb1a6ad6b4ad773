"""What a distillation learns: images, labels, and what a method learns beside them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from skdistill.distillation._engine._objective import Extra, State
from skdistill.distillation._engine._optimizers import Optimizer

# The probability of its own class that a learned label starts with.
FIRST_CONFIDENCE = 0.9


def enlarge(images: Tensor, pixel_size: int) -> Tensor:
    """Return images of shape (..., height, width) with pixels enlarged by a factor."""
    if pixel_size == 1:
        return images
    return images.repeat_interleave(pixel_size, -1).repeat_interleave(pixel_size, -2)


def block_sums(images: Tensor, pixel_size: int) -> Tensor:
    """Return the sum of each block of pixels: the derivative of :func:`enlarge`."""
    if pixel_size == 1:
        return images
    rows = images.unflatten(-2, (-1, pixel_size)).sum(-2)
    return rows.unflatten(-1, (-1, pixel_size)).sum(-1)


def one_hot(codes: Tensor, n_classes: int, dtype: torch.dtype) -> Tensor:
    """Return the labels of images of which each has one class for certain."""
    return torch.nn.functional.one_hot(codes, n_classes).to(dtype)


def first_logits(codes: Tensor, n_classes: int, dtype: torch.dtype) -> Tensor:
    """Return the logits that learned probabilities start from."""
    others = (1 - FIRST_CONFIDENCE) / (n_classes - 1)
    hard = one_hot(codes, n_classes, dtype)
    return hard * math.log(FIRST_CONFIDENCE / others)


class Labels(ABC):
    """The labels of synthetic images, of shape (n_images, n_classes)."""

    # What moves, if anything does.
    optimizer: Optimizer | None = None

    @property
    @abstractmethod
    def value(self) -> Tensor:
        """The labels."""

    @property
    @abstractmethod
    def average(self) -> Tensor:
        """The labels, averaged over steps."""

    def step(self, gradient: Tensor, factor: float) -> None:  # noqa: B027 - or stay
        """Follow a gradient by the labels."""


class HardLabels(Labels):
    """Labels that stay as they are.

    Parameters
    ----------
    labels : Tensor of shape (n_images, n_classes)
    """

    def __init__(self, labels: Tensor) -> None:
        self._labels = labels

    @property
    def value(self) -> Tensor:
        return self._labels

    @property
    def average(self) -> Tensor:
        return self._labels


class Probabilities(Labels):
    """Labels that are the softmax of logits, which are learned.

    Parameters
    ----------
    logits : Optimizer
    """

    def __init__(self, logits: Optimizer) -> None:
        self.optimizer: Optimizer = logits

    @property
    def value(self) -> Tensor:
        return self.optimizer.value.softmax(1)

    @property
    def average(self) -> Tensor:
        return self.optimizer.average.softmax(1)

    def step(self, gradient: Tensor, factor: float) -> None:
        labels = self.value
        mean = (labels * gradient).sum(dim=1, keepdim=True)
        self.optimizer.step(labels * (gradient - mean), factor)


class Targets(Labels):
    """Labels of any sign that are learned as they are.

    Parameters
    ----------
    targets : Optimizer
    """

    def __init__(self, targets: Optimizer) -> None:
        self.optimizer: Optimizer = targets

    @property
    def value(self) -> Tensor:
        return self.optimizer.value

    @property
    def average(self) -> Tensor:
        return self.optimizer.average

    def step(self, gradient: Tensor, factor: float) -> None:
        self.optimizer.step(gradient, factor)


class SyntheticParameters:
    """Everything that a distillation learns.

    Parameters
    ----------
    images : Optimizer
        Of images of shape (n_images, channels, height, width), of as few pixels as
        are learned.
    labels : Labels
    codes : Tensor of shape (n_images,), int64
        The class of each image.
    extras : dict of Extra
        What the objective learns beside them.
    pixel_size : int
        How many pixels of real images, down and across, one that is learned stands
        for.

    Attributes
    ----------
    learning_rate_factor : float
        What all learning rates are multiplied by.  Roll-backs halve it, and an
        objective may change it.
    stage : int
        How often an objective began something new.
    """

    def __init__(
        self,
        images: Optimizer,
        labels: Labels,
        codes: Tensor,
        extras: dict[str, Extra],
        pixel_size: int = 1,
    ) -> None:
        self._images = images
        self._labels = labels
        self._pixel_size = pixel_size
        self.codes = codes
        self.extras = extras
        self.learning_rate_factor = 1.0
        self.stage = 0

    @property
    def images(self) -> Tensor:
        """The synthetic images, as large as real ones."""
        return enlarge(self._images.value, self._pixel_size)

    @property
    def labels(self) -> Tensor:
        """The label of each image: a number for each class."""
        return self._labels.value

    @property
    def learns_labels(self) -> bool:
        """Whether labels follow a gradient."""
        return self._labels.optimizer is not None

    @property
    def has_probabilities(self) -> bool:
        """Whether labels are probabilities that are learned."""
        return isinstance(self._labels, Probabilities)

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rates of the next step, by the names of parameters."""
        factor = self.learning_rate_factor
        rates = {"pixel_lr": self._images.learning_rate * factor}
        if self._labels.optimizer is not None:
            rates["label_lr"] = self._labels.optimizer.learning_rate * factor
        return rates

    def begin_stage(self) -> None:
        """Leave what was until now out of averages: the aim has changed."""
        self.stage += 1
        self._images.restart_average()
        if self._labels.optimizer is not None:
            self._labels.optimizer.restart_average()

    def result(self, average: bool) -> tuple[Tensor, Tensor]:
        """Return images and labels, of the last step or averaged over steps."""
        if not average:
            return self.images, self.labels
        return enlarge(self._images.average, self._pixel_size), self._labels.average

    def step(
        self, gradients: Mapping[str, Tensor], metrics: Mapping[str, float]
    ) -> None:
        """Follow the gradients of an evaluation."""
        factor = self.learning_rate_factor
        self._images.step(block_sums(gradients["images"], self._pixel_size), factor)
        if self.learns_labels:
            self._labels.step(gradients["labels"], factor)
        for extra in self.extras.values():
            extra.step(metrics, factor)

    def is_finite(self) -> bool:
        """Tell whether everything that steps change holds numbers alone."""
        tensors = [one for one in self.state().values() if one.is_floating_point()]
        # A sum is finite only if all that it adds up is, and needs one transfer.
        sums = [tensor.sum().to(self._images.value) for tensor in tensors]
        if torch.stack(sums).sum().isfinite():
            return True
        # Or that of large numbers is not, and they are.
        return all(bool(tensor.isfinite().all()) for tensor in tensors)

    def state(self) -> State:
        """Return everything that steps change."""
        parts: dict[str, Optimizer | Extra] = {"images": self._images}
        parts |= self.extras
        if self._labels.optimizer is not None:
            parts["labels"] = self._labels.optimizer
        return {
            f"{name}.{key}": tensor
            for name, part in parts.items()
            for key, tensor in part.state().items()
        }

    def restore(self, state: State) -> None:
        """Take on a state, from any device."""
        device = self._images.value.device

        def part(name: str) -> State:
            length = len(name) + 1
            return {
                key[length:]: tensor.to(device)
                for key, tensor in state.items()
                if key.startswith(f"{name}.")
            }

        self._images.restore(part("images"))
        for name, extra in self.extras.items():
            extra.restore(part(name))
        if self._labels.optimizer is not None:
            self._labels.optimizer.restore(part("labels"))
