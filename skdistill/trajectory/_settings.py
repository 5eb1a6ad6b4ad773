"""How teachers are trained: settings from parameters, and from a file."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import compute_class_weight
from torch import nn

from skdistill.neural_network._architectures import ARCHITECTURES
from skdistill.neural_network._augment import is_family
from skdistill.neural_network._convnet import ALL_NORMALIZATIONS
from skdistill.neural_network._network_kind import CONVNET, NetworkKind
from skdistill.neural_network._own_network import OwnNetwork, is_plain_network
from skdistill.neural_network._training import balanced_weights
from skdistill.trajectory._store import STORAGES

# What "auto" keeps the batch size within, and the steps that an epoch shall have.
_MIN_BATCH, _MAX_BATCH = 8, 256
_STEPS_PER_EPOCH = 200
# Averages were as good or better with batches up to 30 images, worse with 250.
_LARGE_BATCH = 100


@dataclass(frozen=True)
class TeacherSettings:
    """Everything but the data and the seed that decides what a teacher becomes.

    How many epochs it is trained for does not: those of a longer training begin with
    those of a shorter one.
    """

    image_shape: tuple[int, int, int]
    n_classes: int
    # None where the architecture has none.
    width: int | None
    depth: int | None
    normalization: str | None
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
    architecture: str | OwnNetwork = CONVNET

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> "TeacherSettings":
        """Return settings from what JSON said, which may be anything.

        A user's own network comes without its source.

        Raises
        ------
        ValueError
            If they are none.
        """
        values = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        architecture = values.setdefault("architecture", CONVNET)
        without = _without(architecture)
        expected = set(cls.__dataclass_fields__) - set(without)
        wrong = sorted(set(values) ^ expected) or [
            name
            for name, check in _CHECKS.items()
            if name in expected and not check(values[name])
        ]
        if wrong:
            raise ValueError(f"its settings {wrong} are invalid")
        if not isinstance(architecture, str):
            values["architecture"] = OwnNetwork.from_plain(architecture)
        absent: dict[str, Any] = dict.fromkeys(without)
        return cls(**values, **absent)

    def to_plain(self) -> dict[str, Any]:
        """Return settings as JSON can hold them."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in _without(self.architecture):
            del values[name]
        if isinstance(self.architecture, OwnNetwork):
            values["architecture"] = self.architecture.to_plain()
        elif self.is_convnet:
            # As it was before there were others.
            del values["architecture"]
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }

    @property
    def network(self) -> NetworkKind:
        """Which network the teachers are."""
        return NetworkKind(
            self.image_shape,
            self.n_classes,
            self.architecture,
            self.width,
            self.depth,
            self.normalization,
        )

    @property
    def is_convnet(self) -> bool:
        """Whether teachers are ConvNets, whose derivatives are written out."""
        return self.network.is_convnet

    def build_structure(self) -> nn.Module:
        """Build the network without parameters; one of a user's with any."""
        return self.network.build_structure()


def _without(architecture: Any) -> tuple[str, ...]:
    """Return the settings that an architecture does not have."""
    if not isinstance(architecture, str):
        return ("width", "depth", "normalization")
    if architecture == CONVNET:
        return ()
    if architecture == "mlp":
        return ("width", "depth", "normalization")
    return ("width", "depth")


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
    "normalization": lambda value: (
        isinstance(value, str) and value in ALL_NORMALIZATIONS and value != "batch"
    ),
    "learning_rate": _number,
    "momentum": _number,
    "weight_decay": _number,
    "batch_size": _positive,
    "class_weight": lambda value: value in (None, "balanced") or _each(_number, value),
    "families": lambda value: value == () or _each(is_family, value),
    "scale": lambda value: _number(value) and value > 0,
    "snapshots_per_epoch": lambda value: _positive(value) or _each(_positive, value),
    "average": lambda value: isinstance(value, bool),
    "storage": lambda value: isinstance(value, str) and value in STORAGES,
    "architecture": lambda value: (
        is_plain_network(value)
        or (isinstance(value, str) and value in (CONVNET, *ARCHITECTURES))
    ),
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


def resolve_batch_size(batch_size: int | str, n_samples: int) -> int:
    """Return the images per step; "auto" depends on the number of images."""
    if batch_size != "auto":
        return int(batch_size)
    return int(np.clip(n_samples // _STEPS_PER_EPOCH, _MIN_BATCH, _MAX_BATCH))


def resolve_average(average: bool | str, batch_size: int) -> bool:
    """Return whether snapshots are averages; "auto" depends on the batch."""
    if isinstance(average, str):
        return batch_size < _LARGE_BATCH
    return bool(average)


def resolve_snapshots(
    snapshots_per_epoch: Any, batch_size: int = 1, n_samples: int | None = None
) -> int | tuple[int, ...]:
    """Validate ``snapshots_per_epoch``, against the steps of an epoch if known.

    Parameters
    ----------
    snapshots_per_epoch : int or sequence of int
        As a user gave it.
    batch_size : int, default=1
    n_samples : int, default=None
        Number of images; None if it is not known.

    Returns
    -------
    per_epoch : int or tuple of int

    Raises
    ------
    ValueError
        If it is no such number or sequence, or an epoch has fewer steps.
    """
    numbers = np.atleast_1d(snapshots_per_epoch)
    if (
        numbers.ndim != 1
        or not np.issubdtype(numbers.dtype, np.integer)
        or not len(numbers)
        or numbers.min() < 1
    ):
        raise ValueError(
            "`snapshots_per_epoch` must be a positive int or a sequence of positive "
            f"ints; got {snapshots_per_epoch!r}"
        )
    if n_samples is not None:
        n_steps = -(-n_samples // batch_size)
        if numbers.max() > n_steps:
            raise ValueError(
                "`snapshots_per_epoch` must be at most the number of steps in an "
                f"epoch, {n_steps} with batches of {batch_size} images; got "
                f"{snapshots_per_epoch!r}"
            )
    if np.ndim(snapshots_per_epoch) == 0:
        return int(numbers[0])
    return tuple(numbers.tolist())


def resolve_class_weight(
    class_weight: Any, classes: np.ndarray
) -> str | tuple[float, ...] | None:
    """Return "balanced", None, or what an image of each class weighs.

    Raises
    ------
    ValueError
        If a dict does not give every class a weight above 0.
    """
    if not isinstance(class_weight, dict):
        return class_weight
    per_class = compute_class_weight(class_weight, classes=classes, y=classes)
    if not (np.isfinite(per_class).all() and per_class.min() > 0):
        raise ValueError(
            f"`class_weight` must be positive for every class in y; got {class_weight}"
        )
    return tuple(per_class.tolist())


def image_weights(
    class_weight: str | tuple[float, ...] | None,
    codes: np.ndarray,
    n_classes: int,
    weight: np.ndarray | None,
) -> np.ndarray:
    """Return what each image counts in the loss, with mean 1.

    Parameters
    ----------
    class_weight : "balanced", tuple of float or None
        What :func:`resolve_class_weight` returned.
    codes : ndarray of shape (n_samples,)
        Class codes.
    n_classes : int
    weight : ndarray of shape (n_samples,) or None
        Weights of the images.

    Returns
    -------
    weights : ndarray of shape (n_samples,)
    """
    if class_weight == "balanced":
        return balanced_weights(codes, n_classes, weight)
    weight = np.ones(len(codes)) if weight is None else weight
    if class_weight is not None:
        weight = weight * np.array(class_weight)[codes]
    return weight / weight.mean()
