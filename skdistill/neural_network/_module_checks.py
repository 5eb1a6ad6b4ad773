"""What a module must be so that a distiller can follow it: checks on two images."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from skdistill.utils._memory import is_out_of_memory

# What rounding may change, as a share of the largest number.
_ROUNDING = 1e-3

_NOT_DIFFERENTIABLE = (
    "`architecture` must compute logits by differentiable PyTorch operations; they "
    "have no gradient with respect to the pixels (`no_grad`, `detach`, integers and "
    "NumPy break the graph)"
)


def check_parameters(module: nn.Module) -> None:
    """Raise a ValueError where parameters are no numbers, or no floating-point ones."""
    for name, part in module.named_parameters():
        if part.is_meta:
            raise ValueError(
                "`architecture` must have parameters with values; "
                f"{name!r} is on the meta device: build the module on another"
            )
        if not part.is_floating_point():
            cure = (
                "use its real and imaginary parts (torch.view_as_real)"
                if part.is_complex()
                else "register it as a buffer"
            )
            raise ValueError(
                "`architecture` must have parameters of floating-point numbers; "
                f"{name!r} is of {part.dtype}: {cure}"
            )


def is_scripted(module: nn.Module) -> bool:
    """Tell whether a module, or a part of it, is one of TorchScript."""
    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


def check_no_script(module: nn.Module) -> None:
    """Raise a ValueError where a module cannot be called with other parameters."""
    if is_scripted(module):
        raise ValueError(
            "`architecture` must be a module that can be called with other parameters "
            "than its own, which those of TorchScript cannot; pass the module that was "
            "scripted or traced"
        )


def check_images_are_singly(module: nn.Module) -> None:
    """Raise a ValueError where a module normalizes over batches.

    Its loss is then no mean of losses of single images, and what it gives for one
    depends on the others.
    """
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm):
            raise ValueError(
                f"`architecture` has batch normalization ({type(part).__name__} "
                f"{name!r}), which makes the output for an image depend on the other "
                "images of its batch; use group, layer or instance normalization "
                "instead, as with `normalization` of NetworkClassifier or "
                "`norm_layer` of torchvision's networks"
            )


def check_alone(logits: Tensor, among_others: Tensor) -> None:
    """Raise a ValueError if the logits of an image change with the other images."""
    if differ(logits, among_others):
        raise ValueError(
            "`architecture` returns logits of an image that depend on the other "
            "images of its batch, as with batch normalization, or on a random "
            "generator other than that of PyTorch; normalize each image separately, "
            "as group, layer and instance normalization do, and draw random numbers "
            "by functions of torch"
        )


def check_by_pixels(
    call: Callable[[nn.Module, Tensor], Tensor], module: nn.Module, images: Tensor
) -> None:
    """Raise a ValueError unless logits can be differentiated by the pixels.

    Parameters
    ----------
    call : callable
        Calls a module on images, with other parameters than its own.
    module : torch.nn.Module
    images : Tensor of shape (n_samples, channels, height, width)
    """
    images = images.detach().requires_grad_()
    inside = _ByPixels(module)
    try:
        with torch.enable_grad():
            logits = call(_Itself(module), images)
            if logits.requires_grad:
                found = inside.gradient(logits, images)
                expected = call(inside, images)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        if "numpy()" in str(error):
            raise ValueError(_NOT_DIFFERENTIABLE) from error
        raise ValueError(
            "`architecture` must compute logits that are differentiable with respect "
            "to the pixels, also after the call (without recomputation by "
            "torch.utils.checkpoint), and must not change its inputs in place; its "
            f"module raised {type(error).__name__}: {error}"
        ) from error
    if not logits.requires_grad:
        raise ValueError(_NOT_DIFFERENTIABLE)
    if differ(expected, found):
        raise ValueError(
            "`architecture` must have the same derivatives during and after the call; "
            "they differ, as with recomputation by torch.utils.checkpoint: remove it"
        )


class _Itself(nn.Module):
    """A module under the same name as in :class:`_ByPixels`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Any:
        return self.module(images)


class _ByPixels(_Itself):
    """The derivative of some sum of logits by the pixels, within the same call."""

    def forward(self, images: Tensor) -> Any:
        return self.gradient(self.module(images), images)

    @staticmethod
    def gradient(logits: Tensor, images: Tensor) -> Tensor:
        weights = torch.linspace(1, 2, logits.numel()).to(logits).view_as(logits)
        return torch.autograd.grad(logits, images, weights)[0]


def differ(expected: Tensor, found: Tensor) -> bool:
    """Tell whether numbers differ by more than rounding."""
    change = (found.detach() - expected.detach()).abs().max()
    return bool(change > _ROUNDING * expected.detach().abs().max())
