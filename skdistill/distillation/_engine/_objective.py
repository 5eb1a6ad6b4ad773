"""What a method implements: an objective, evaluated in each iteration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from skdistill.utils._random import child_seed, torch_generator

if TYPE_CHECKING:
    from skdistill.distillation._engine._parameters import SyntheticParameters

State = dict[str, Tensor]

# Streams of random numbers of a run; 0 and 1 are for the first images and teachers.
_SHARED, _OWN, _REAL = 2, 3, 4


@dataclass(frozen=True)
class Draw:
    """Names what is random in an evaluation: nothing of it has to be stored.

    An iteration averages several draws, each of them made in one process.

    Attributes
    ----------
    seed : int
        The seed of the run.
    iteration : int
        Number of iterations before this one.
    place : int
        Which of the draws of the iteration it is.
    """

    seed: int
    iteration: int
    place: int = 0

    def shared_rng(self) -> np.random.Generator:
        """Return a generator that is the same for all draws of the iteration."""
        return np.random.default_rng([self.seed, _SHARED, self.iteration])

    def generator(self) -> torch.Generator:
        """Return a generator of this draw alone, on the CPU."""
        key = (self.iteration, *([self.place] if self.place else []))
        return torch_generator(child_seed(self.seed, _OWN, *key))

    def rng(self, *key: int) -> np.random.Generator:
        """Return a generator of this draw alone for the part that ``key`` names."""
        return np.random.default_rng(
            [self.seed, _REAL, self.iteration, self.place, *key]
        )

    def child_seed(self, *key: int) -> int:
        """Return a seed of this draw alone for the part that ``key`` names."""
        return child_seed(self.seed, _REAL, self.iteration, self.place, *key)


@dataclass(frozen=True)
class Evaluation:
    """An objective at the present parameters, for one draw.

    Attributes
    ----------
    metrics : dict of scalar Tensor
        Numbers that are averaged over draws; one of them is "loss".
    gradients : dict of Tensor
        By the name of a parameter: "images", of shape (n_images, channels, height,
        width) for any pixel size, and "labels", of shape (n_images, n_classes),
        where they are learned.
    notes : dict of float
        Numbers of the first draw alone, as which network it was.
    """

    metrics: dict[str, Tensor]
    gradients: dict[str, Tensor]
    notes: dict[str, float] = field(default_factory=dict)


class Extra(Protocol):
    """A parameter that is learned beside images and labels, by a rule of its own."""

    def step(self, metrics: Mapping[str, float], factor: float) -> None:
        """Make a step, from what an iteration measured."""

    def state(self) -> State:
        """Return everything that steps change."""

    def restore(self, state: State) -> None:
        """Take on a state."""


class Objective(ABC):
    """What a distiller minimizes.

    Nothing about it is random but by a :class:`Draw`, and its tensors are replaced,
    never changed in place: a state that was taken stays what it was.

    Attributes
    ----------
    columns : tuple of str
        The metrics that ``history_`` shows; means over the iterations of a row.
    notes : tuple of str
        The notes that ``history_`` shows, before them; integers.
    last_columns : tuple of str
        Notes that ``history_`` shows behind them; floats of a row's first iteration.
    n_draws : int
        Number of draws whose evaluations are averaged in each iteration.
    max_n_iter : int or None
        Number of iterations after which it ends at the latest; None if it does not end
        by itself.
    out_of_memory_hint : str
        What a user can do where an evaluation needs more memory than there is.
    """

    columns: tuple[str, ...] = ("loss",)
    notes: tuple[str, ...] = ()
    last_columns: tuple[str, ...] = ()
    n_draws: int = 1
    max_n_iter: int | None = None
    out_of_memory_hint: str = ""

    @abstractmethod
    def evaluate(self, synthetic: SyntheticParameters, draw: Draw) -> Evaluation:
        """Return the loss and its gradients for one draw.

        May be called for several draws at once, in threads or processes: it changes
        nothing.
        """

    def extras(self) -> dict[str, Extra]:
        """Return parameters that are learned beside images and labels."""
        return {}

    def average(self, rows: Sequence[dict[str, float]]) -> dict[str, float]:
        """Average the metrics of several draws."""
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def advance(
        self, synthetic: SyntheticParameters, numbers: Mapping[str, float], draw: Draw
    ) -> str:
        """Decide after an accepted update how to continue.

        Parameters
        ----------
        synthetic : SyntheticParameters
            After the update.
        numbers : dict of float
            Metrics and notes of the iteration.
        draw : Draw
            The iteration's first draw.

        Returns
        -------
        stop_reason : str
            Why the run is at its end; "" where it is not.
        """
        return ""

    def rolled_back(  # noqa: B027 - most objectives have nothing to note
        self, synthetic: SyntheticParameters, n_times: int
    ) -> None:
        """Take note that parameters were rolled back to their last good state.

        Parameters
        ----------
        synthetic : SyntheticParameters
        n_times : int
            How often they have in succession.
        """

    def targets(self, images: Tensor, labels: Tensor) -> Tensor | None:
        """Return regression targets that the images are stored with.

        Parameters
        ----------
        images : Tensor of shape (n_images, channels, height, width)
        labels : Tensor of shape (n_images, n_classes)

        Returns
        -------
        targets : Tensor of shape (n_images, n_classes) or None
            None where the labels are probabilities.
        """
        return None

    def probabilities(self, images: Tensor) -> Tensor | None:
        """Return soft labels that the images are stored with.

        Parameters
        ----------
        images : Tensor of shape (n_images, channels, height, width)

        Returns
        -------
        probabilities : Tensor of shape (n_images, n_classes) or None
            None where the objective makes none of its own.
        """
        return None

    def student_learning_rate(self) -> float | None:
        """Return the learning rate that networks shall be trained on the images with.

        None where the objective says nothing of it.
        """
        return None

    def state(self) -> State:
        """Return what :meth:`advance` changes, for a checkpoint."""
        return {}

    def restore(self, state: State) -> None:  # noqa: B027 - nor to take on
        """Take on what :meth:`state` returned, or raise a ValueError."""

    def signature(self) -> dict[str, Any]:
        """Return what a checkpoint belongs to, beside the distiller's parameters."""
        return {}

    def progress(self, numbers: Mapping[str, float]) -> dict[str, str]:
        """Return what a progress bar shows of an iteration."""
        return {"loss": f"{numbers['loss']:.3g}"}
