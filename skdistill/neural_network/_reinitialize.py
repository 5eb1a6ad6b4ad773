"""Copies of a module passed by a user, and new weights for it."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

# Layers say by these how their weights are drawn.
_METHODS = ("reset_parameters", "_reset_parameters")

_INSTEAD = (
    "give that layer a method `reset_parameters`, or pass a callable that takes "
    "(image_shape, n_classes) and returns a new module"
)


def copy_of(module: nn.Module) -> nn.Module:
    """Copy a module with all that it holds.

    Tensors that were computed, as those of :func:`torch.nn.utils.weight_norm`, are
    copied without their graph, which PyTorch would refuse, and buffers that were
    expanded with a place in memory for each number, since they are written to later.

    Raises
    ------
    ValueError
        If it cannot be copied.
    """
    computed = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    for buffer in module.buffers():
        if buffer.layout == torch.strided and _is_expanded(buffer):
            computed[id(buffer)] = buffer.detach().clone()
    try:
        return copy.deepcopy(module, computed)
    except Exception as error:
        raise ValueError(
            f"`architecture`, a module {type(module).__name__}, cannot be copied "
            f"({type(error).__name__}: {error}); pass a callable that takes "
            "(image_shape, n_classes) and returns a new module"
        ) from error


def _is_expanded(tensor: Tensor) -> bool:
    """Tell whether several numbers of a tensor are one in memory."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return any(size > 1 and not stride for size, stride in sides)


class ModuleParameterMixin:
    """Let estimators be cloned whose parameter ``architecture`` is a module.

    scikit-learn would copy it by :func:`copy.deepcopy`, which refuses those that hold
    what they have computed.
    """

    def __sklearn_clone__(self) -> Any:
        given = getattr(self, "architecture", None)
        if not isinstance(given, nn.Module):
            return super().__sklearn_clone__()  # type: ignore[misc]
        without: Any = copy.copy(self)
        without.architecture = None
        as_others: Any = super(ModuleParameterMixin, without)
        cloned = as_others.__sklearn_clone__()
        cloned.architecture = copy_of(given)
        return cloned


@torch.no_grad()
def reinitialize(module: nn.Module) -> nn.Module:
    """Draw the weights of a module again, in place.

    Every layer draws its own, those inside of it before it, from PyTorch's global
    generator.  Parameters that are not trained (``requires_grad`` is False) keep their
    values, and layers that have no others keep their buffers, such as the statistics of
    a batch normalization.

    Parameters
    ----------
    module : torch.nn.Module
        Without layers that wait for an image.

    Returns
    -------
    module : torch.nn.Module
        The same.

    Raises
    ------
    ValueError
        If a parameter that is trained is none that a layer draws again.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    for part in module.modules():
        own = list(part.parameters(recurse=False))
        fixed: list[Tensor] = [each for each in own if not each.requires_grad]
        if fixed and len(fixed) == len(own):
            fixed += part.buffers(recurse=False)
        kept += [(tensor, tensor.clone()) for tensor in fixed]
    learned = {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }
    # What is left of this, nobody has drawn.
    for parameter in learned.values():
        parameter.fill_(torch.nan)
    for name, part in reversed(list(module.named_modules())):
        method = next((m for m in _METHODS if callable(getattr(part, m, None))), None)
        if method is None:
            continue
        try:
            getattr(part, method)()
        except Exception as error:
            raise ValueError(
                f"`architecture`, a module {type(module).__name__}, cannot be "
                f"initialized again: `{method}` of its part {name or 'itself'!r} "
                f"raised {type(error).__name__}: {error}; {_INSTEAD}"
            ) from error
    for tensor, values in kept:
        tensor.copy_(values)
    wrong = [name for name, part in learned.items() if not part.isfinite().all()]
    if wrong:
        more = f" and {len(wrong) - 1} others" if len(wrong) > 1 else ""
        raise ValueError(
            f"`architecture`, a module {type(module).__name__}, cannot be initialized "
            f"again: none of its layers initializes the parameter {wrong[0]!r}{more}; "
            f"{_INSTEAD}"
        )
    return module
