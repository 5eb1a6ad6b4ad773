"""Modules of users: called as they should be, and tried before they are trained."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from skdistill.utils._memory import is_out_of_memory
from skdistill.utils._tensors import to_tensor
from skdistill.utils._warnings import warn

_HOW = "a callable that gets (image_shape, n_classes) and returns a torch.nn.Module"


def call_architecture(
    architecture: Callable[..., Any], image_shape: tuple[int, int, int], n_classes: int
) -> nn.Module:
    """Let a callable make a module.

    Raises
    ------
    ValueError
        If it is a module itself, or makes none.
    """
    if isinstance(architecture, nn.Module):
        raise ValueError(
            f"`architecture` must be {_HOW}, so that each fit starts from new weights; "
            f"got a module itself, {type(architecture).__name__}"
        )
    try:
        module = architecture(image_shape, n_classes)
    except Exception as error:
        raise ValueError(
            f"`architecture` must be {_HOW}; called with {image_shape} and {n_classes} "
            f"it raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"`architecture` must return a torch.nn.Module; got {type(module).__name__}"
        )
    return module


def has_lazy_layers(module: nn.Module) -> bool:
    """Tell whether parameters wait for an image to get their shapes."""
    return any(
        isinstance(tensor, (UninitializedParameter, UninitializedBuffer))
        for tensor in (*module.parameters(), *module.buffers())
    )


@torch.no_grad()
def try_module(
    module: nn.Module, images: np.ndarray, n_classes: int, device: torch.device
) -> Tensor:
    """Let a few images through a module, and check what comes out.

    Parameters
    ----------
    module : torch.nn.Module
        On the device; left in training mode.
    images : ndarray of shape (n_images, height, width, channels), float32
    n_classes : int
    device : torch.device

    Returns
    -------
    logits : Tensor of shape (n_images, n_classes)

    Raises
    ------
    ValueError
        If the module cannot take such images, or makes something else than finite
        logits, one for each class.
    """
    inputs = to_tensor(np.asarray(images, dtype=np.float32), device)
    inputs = inputs.to(torch.get_default_dtype())
    wanted = (len(inputs), n_classes)
    module.eval()  # a batch normalization keeps its statistics
    try:
        outputs = module(inputs)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            "`architecture` must take images (n_images, channels, height, width); of "
            f"{tuple(inputs.shape)} its module raised {type(error).__name__}: {error}"
        ) from error
    module.train()
    if not isinstance(outputs, Tensor):
        raise ValueError(
            "`architecture` must make a tensor of logits (n_images, n_classes) = "
            f"{wanted}; got {type(outputs).__name__}"
        )
    if tuple(outputs.shape) != wanted:
        raise ValueError(
            "`architecture` must make logits of shape (n_images, n_classes) = "
            f"{wanted}; got {tuple(outputs.shape)}"
        )
    if not outputs.is_floating_point() or not torch.isfinite(outputs).all():
        raise ValueError(
            "`architecture` must make finite logits; the new module makes "
            f"{outputs.flatten()[:3].tolist()}, ... of the first images"
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ValueError(
            "`architecture` must make a module with parameters to train; it has none"
        )
    return outputs


def warn_of_probabilities(logits: Tensor) -> None:
    """Warn if what should be logits are probabilities: they are taken for logits."""
    if (logits >= 0).all() and torch.allclose(
        logits.sum(dim=1), torch.ones(len(logits)).to(logits), atol=1e-4
    ):
        warn(
            "`architecture` should make logits; its outputs are not negative and sum "
            "to 1, as after a softmax.  They are taken for logits, of which training "
            "and `predict_proba` take the softmax once more: leave the last one out"
        )
