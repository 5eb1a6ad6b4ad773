"""Networks that a user brings: how they are made again, and how they are recognized."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from skdistill.neural_network._modules import (
    call_architecture,
    check_draws,
    has_lazy_layers,
    try_module,
    unwrapped,
    warn_of_probabilities,
)
from skdistill.utils._plain import digest_of, parts_of_largest
from skdistill.utils._random import isolated_torch_seed
from skdistill.utils._warnings import warn

ImageShape = tuple[int, int, int]


@dataclass(frozen=True)
class OwnNetwork:
    """A network of a user's, as far as a file can hold it, and where it comes from.

    Attributes
    ----------
    parameters : tuple of (name, shape)
        Those of the module.
    digest : str
        Of its layers, and of what it makes of some images with given weights.
    source : callable or torch.nn.Module or None
        What makes it; None if only a file is known that says the rest.
    """

    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    digest: str
    source: Any = field(default=None, compare=False, repr=False)

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for _, shape in self.parameters)

    def build(self, image_shape: ImageShape, n_classes: int) -> nn.Module:
        """Make the module, with new weights from PyTorch's global generator."""
        if self.source is None:
            raise ValueError(
                "the teachers have a custom network, which cannot be stored in files; "
                "pass it to TrajectoryBuffer.load(path, architecture=...)"
            )
        return build_own(self.source, image_shape, n_classes)

    def to_plain(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "parameters": [[name, list(shape)] for name, shape in self.parameters],
            "digest": self.digest,
        }

    @classmethod
    def from_plain(cls, values: Any) -> "OwnNetwork":
        """Return a network without a source from what JSON said.

        Raises
        ------
        ValueError
            If that is none.
        """
        if not is_plain_network(values):
            raise ValueError("its settings ['architecture'] are invalid")
        parameters = tuple((name, tuple(shape)) for name, shape in values["parameters"])
        return cls(parameters, values["digest"])


def is_plain_network(values: Any) -> bool:
    """Tell whether something is what :meth:`OwnNetwork.to_plain` returns."""
    return (
        isinstance(values, Mapping)
        and set(values) == {"parameters", "digest"}
        and isinstance(values["digest"], str)
        and isinstance(values["parameters"], list)
        and all(map(_is_named_shape, values["parameters"]))
    )


def _is_named_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], list)
        and all(type(side) is int and side >= 0 for side in value[1])
    )


def build_own(source: Any, image_shape: ImageShape, n_classes: int) -> nn.Module:
    """Make a user's module, with new weights from PyTorch's global generator.

    Its parameters are there for any layers, on the CPU and in float32.
    """
    module = unwrapped(call_architecture(source, image_shape, n_classes)).float()
    if has_lazy_layers(module):
        images = np.zeros((2, *image_shape), dtype=np.float32)
        try_module(module, images, n_classes, torch.device("cpu"))
    return module


def own_network(
    source: Any,
    image_shape: ImageShape,
    n_classes: int,
    images: np.ndarray | None = None,
) -> OwnNetwork:
    """Try a user's network, and say what it is.

    Parameters
    ----------
    source : callable or torch.nn.Module
    image_shape : tuple (height, width, channels)
    n_classes : int
    images : ndarray of shape (n_images, height, width, channels), default=None
        A few on which it is tried; None draws some.

    Returns
    -------
    OwnNetwork

    Raises
    ------
    ValueError
        If no module can be made, or if it does not make finite logits of images.
    """
    with isolated_torch_seed(0):
        module = build_own(source, image_shape, n_classes)
        rng = np.random.default_rng(0)
        drawn = rng.standard_normal((2, *image_shape), dtype=np.float32)
        given = drawn if images is None else images
        logits = try_module(module, given, n_classes, torch.device("cpu"))
        warn_of_probabilities(logits)
        if not isinstance(source, nn.Module):
            check_draws(
                lambda: build_own(source, image_shape, n_classes),
                drawn,
                with_buffers=False,
            )
        parameters = tuple(
            (name, tuple(part.shape)) for name, part in module.named_parameters()
        )
        torch.manual_seed(1)
        _warn_of_same_weights(module, build_own(source, image_shape, n_classes))
        return OwnNetwork(parameters, _digest(module, drawn, n_classes), source)


def _warn_of_same_weights(module: nn.Module, other: nn.Module) -> None:
    """Warn if two networks that are drawn have the same weights."""
    if all(
        torch.equal(one, another)
        for one, another in zip(module.parameters(), other.parameters(), strict=True)
        if one.requires_grad
    ):
        warn(
            "`architecture` returns modules of the same weights, so that all networks "
            "start from these, as those that are pretrained do.  For new weights of "
            "each, return a new module at each call without seeding PyTorch, or pass "
            "the module itself"
        )


def _digest(module: nn.Module, images: np.ndarray, n_classes: int) -> str:
    """Return a digest of layers and of what they compute; changes the weights."""
    rng = np.random.default_rng(1)
    for name, part in module.named_parameters():
        numbers = torch.from_numpy(rng.standard_normal(tuple(part.shape)))
        if part.ndim > 1:
            numbers = numbers / math.sqrt(math.prod(part.shape[1:]) or 1)
        else:
            numbers = 0.1 * numbers + name.endswith("weight")
        # What is not trained is part of the network.
        if part.requires_grad:
            part.data.copy_(numbers)
    content = {
        "layers": [
            [name, type(part).__name__, part.extra_repr()]
            for name, part in module.named_modules()
        ],
        "parameters": [
            [name, list(part.shape), part.requires_grad]
            for name, part in module.named_parameters()
        ],
        "logits": parts_of_largest(_logits(module, images)),
        "n_classes": n_classes,
    }
    return digest_of(content)


@torch.no_grad()
def _logits(module: nn.Module, images: np.ndarray) -> np.ndarray:
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    module.eval()
    try:
        # Machines agree on more digits.
        found = module.double()(inputs.double())
    except Exception:  # some modules have a type of their own inside
        found = module.float()(inputs)
    return found.double().numpy()


def differences_of_networks(found: Any, asked: Any) -> str:
    """Say what differs between two networks, "" if nothing does.

    Parameters
    ----------
    found, asked : str or dict
        The name of a network, or what :meth:`OwnNetwork.to_plain` returns.
    """
    if isinstance(found, str) or isinstance(asked, str):
        if found == asked:
            return ""
        one, other = (
            repr(each) if isinstance(each, str) else "a custom network"
            for each in (found, asked)
        )
        return f"found {one}, expected {other}"
    here, there = dict(map(tuple, found["parameters"])), dict(asked["parameters"])
    told = [
        f"parameter {name!r}: found {_shape(here, name)}, expected "
        f"{_shape(there, name)}"
        for name in dict.fromkeys([*here, *there])
        if here.get(name) != there.get(name)
    ]
    if told:
        more = [f"{len(told) - 3} more"] if len(told) > 3 else []
        return ", ".join([*told[:3], *more])
    if list(here) != list(there):
        return "the same parameters in another order"
    if found["digest"] != asked["digest"]:
        return (
            "the same parameters, but other layers, other settings of them, or other "
            f"logits of the same images (digest {found['digest'][:8]}, expected "
            f"{asked['digest'][:8]})"
        )
    return ""


def _shape(shapes: Mapping[str, Any], name: str) -> str:
    return f"shape {tuple(shapes[name])}" if name in shapes else "none"
