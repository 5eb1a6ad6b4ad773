"""New weights for a module passed by a user."""

import copy

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
    copied without their graph, which PyTorch would refuse.

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
    try:
        return copy.deepcopy(module, computed)
    except Exception as error:
        raise ValueError(
            f"`architecture`, a module {type(module).__name__}, cannot be copied "
            f"({type(error).__name__}: {error}); pass a callable that takes "
            "(image_shape, n_classes) and returns a new module"
        ) from error


@torch.no_grad()
def reinitialize(module: nn.Module) -> nn.Module:
    """Draw the weights of a module again, in place.

    Every layer draws its own, those inside of it before it, from PyTorch's global
    generator.  Parameters that are not trained (``requires_grad`` is False) keep their
    values.

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
    kept = [
        (parameter, parameter.clone())
        for parameter in module.parameters()
        if not parameter.requires_grad
    ]
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
    for parameter, values in kept:
        parameter.copy_(values)
    wrong = [name for name, part in learned.items() if not part.isfinite().all()]
    if wrong:
        more = f" and {len(wrong) - 1} others" if len(wrong) > 1 else ""
        raise ValueError(
            f"`architecture`, a module {type(module).__name__}, cannot be initialized "
            f"again: none of its layers initializes the parameter {wrong[0]!r}{more}; "
            f"{_INSTEAD}"
        )
    return module
