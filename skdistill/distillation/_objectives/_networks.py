"""Where the networks of an iteration come from: nothing of them has to be stored."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from skdistill.distillation._engine._objective import Draw
from skdistill.neural_network._convnet import flatten_learned
from skdistill.trajectory import TrajectoryBuffer
from skdistill.trajectory._signature import teachers_signature
from skdistill.utils._device import to_device
from skdistill.utils._random import isolated_torch_seed

# Tells a draw's network apart from what else is random of it.
NETWORK = 0


class Networks(ABC):
    """Networks, of which a draw decides on one.

    Attributes
    ----------
    notes : tuple of str
        What is noted of each.
    """

    notes: tuple[str, ...] = ()

    def signature(self) -> dict[str, Any]:
        """Return what a checkpoint belongs to, beside the distiller's parameters."""
        return {}

    @abstractmethod
    def __call__(self, draw: Draw) -> tuple[Tensor, dict[str, float]]:
        """Return the parameters of a network, and the notes about it."""


class RandomNetworks(Networks):
    """Networks as they are initialized, each with other weights.

    Parameters
    ----------
    build : callable
        Returns a module with weights drawn from PyTorch's global generator.
    device : torch.device
    """

    def __init__(self, build: Callable[[], nn.Module], device: torch.device) -> None:
        self._build = build
        self._device = device

    def __call__(self, draw: Draw) -> tuple[Tensor, dict[str, float]]:
        with isolated_torch_seed(draw.child_seed(NETWORK)):
            parameters = flatten_learned(self._build())
        return to_device(parameters, self._device), {}


class Snapshots(Networks):
    """Networks of teachers, any teacher after any of the epochs that were kept.

    Parameters
    ----------
    buffer : TrajectoryBuffer
        Fitted.
    device : torch.device
    """

    notes = ("teacher", "snapshot")

    def __init__(self, buffer: TrajectoryBuffer, device: torch.device) -> None:
        self._buffer = buffer
        self._device = device

    def signature(self) -> dict[str, Any]:
        return teachers_signature(self._buffer)

    def __call__(self, draw: Draw) -> tuple[Tensor, dict[str, float]]:
        rng = draw.rng(NETWORK)
        teacher = int(rng.integers(self._buffer.n_teachers_))
        epochs = self._buffer.snapshot_epochs_
        place = int(rng.integers(len(epochs)))
        snapshot = torch.from_numpy(self._buffer.snapshot(teacher, epochs[place]))
        notes = {"teacher": float(teacher), "snapshot": float(place)}
        return to_device(snapshot, self._device), notes
