"""Modules of users: called as they should be, and tried before they are trained."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from skdistill.neural_network._module_checks import (
    check_parameters,
    differ,
    is_scripted,
)
from skdistill.neural_network._reinitialize import copy_of, reinitialize
from skdistill.utils._memory import is_out_of_memory
from skdistill.utils._tensors import to_tensor
from skdistill.utils._warnings import warn

_HOW = (
    "a callable that takes (image_shape, n_classes), or num_classes= like the "
    "networks of torchvision, and returns a torch.nn.Module"
)
# What a callable names the number of channels of an image.
_CHANNELS = ("in_channels", "in_chans", "in_channel", "n_channels", "num_channels")


def call_architecture(
    architecture: Any, image_shape: tuple[int, int, int], n_classes: int
) -> nn.Module:
    """Make a module with new weights, from PyTorch's global generator.

    Parameters
    ----------
    architecture : callable or torch.nn.Module
        A callable gets ``image_shape`` and ``n_classes``; one of torchvision's kind,
        which knows the number of classes by the name of ``num_classes``, is given
        that; what it returns is copied, since it may be used elsewhere.  A module is
        copied and initialized again.
    image_shape : tuple (height, width, channels)
    n_classes : int

    Returns
    -------
    module : torch.nn.Module
        On the CPU.

    Raises
    ------
    ValueError
        If none can be made.
    """
    if isinstance(architecture, nn.Module):
        check_parameters(architecture)
        # Weights are drawn from the generator of the CPU, on any device.
        module = copy_of(architecture).cpu()
        if has_lazy_layers(module):
            # They have a shape, and weights, only after they have seen an image.
            images = np.zeros((2, *image_shape), dtype=np.float32)
            try_module(module, images, n_classes, torch.device("cpu"))
        return reinitialize(module)
    args, options = _arguments(architecture, image_shape, n_classes)
    try:
        module = architecture(*args, **options)
    except Exception as error:
        cure = ""
        if isinstance(architecture, type) and issubclass(architecture, nn.Module):
            cure = ".  Pass an instance of the class that fits these images and classes"
        said = [*map(str, args), *(f"{name}={n}" for name, n in options.items())]
        raise ValueError(
            f"`architecture` must be {_HOW}; called with {' and '.join(said)} "
            f"it raised {type(error).__name__}: {error}{cure}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"`architecture` must return a torch.nn.Module; got {type(module).__name__}"
        )
    check_parameters(module)
    if is_scripted(module):
        return module  # copies of its parameters cannot be trained
    try:
        return copy_of(module).cpu()
    except ValueError:  # few cannot be copied, and most of them are new
        return module.cpu()


def _arguments(
    architecture: Callable[..., Any], image_shape: tuple[int, int, int], n_classes: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what a callable is called with."""
    ours = (image_shape, n_classes), dict[str, Any]()
    try:
        signature = inspect.signature(architecture)
    except (TypeError, ValueError):  # some callables have none
        return ours
    names = list(signature.parameters)
    parameters = list(signature.parameters.values())
    kinds = [each.kind for each in parameters]
    channels = [name for name in _CHANNELS if name in names]
    # An option, such as pretrained=False, is no place for an image shape.
    takes_shape = not any(map(_is_option, parameters[:1]))
    # After an image shape it is what others call our n_classes.
    is_second = takes_shape and names[1:2] == ["num_classes"]
    is_second = is_second and names[0] not in _CHANNELS
    by_name = {"num_classes": n_classes}
    if "num_classes" in names and not is_second:
        return (), by_name | {name: image_shape[2] for name in channels}
    if takes_shape and _can_be_called(signature, *ours[0]):
        return ours
    if "n_classes" in names:
        by_name = {"n_classes": n_classes}
    if "n_classes" in names or inspect.Parameter.VAR_KEYWORD in kinds:
        return (), by_name | {name: image_shape[2] for name in channels}
    return ours


def _is_option(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.KEYWORD_ONLY or isinstance(
        parameter.default, (bool, int, float, str)
    )


def _can_be_called(signature: inspect.Signature, *args: Any) -> bool:
    try:
        signature.bind(*args)
    except TypeError:
        return False
    return True


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module in what torch.compile or DataParallel makes of one.

    These run its layers in a way of their own, and know its own parameters only.
    """
    wrappers = nn.DataParallel, nn.parallel.DistributedDataParallel
    name = "module" if isinstance(module, wrappers) else "_orig_mod"
    inner = getattr(module, name, None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else module


def has_lazy_layers(module: nn.Module) -> bool:
    """Tell whether parameters wait for an image to get their shapes."""
    return any(
        isinstance(tensor, (UninitializedParameter, UninitializedBuffer))
        for tensor in (*module.parameters(), *module.buffers())
    )


@torch.no_grad()
def try_module(
    module: nn.Module,
    images: np.ndarray,
    n_classes: int,
    device: torch.device,
    *,
    learns: bool = True,
) -> Tensor:
    """Let a few images through a module, and check what comes out.

    Parameters
    ----------
    module : torch.nn.Module
        On the device; left in training mode.
    images : ndarray of shape (n_images, height, width, channels), float32
    n_classes : int
    device : torch.device
    learns : bool, default=True
        Whether to check that it can be trained.

    Returns
    -------
    logits : Tensor of shape (n_images, n_classes)

    Raises
    ------
    ValueError
        If the module cannot take such images, or makes something else than finite
        logits, one for each class, that depend on its parameters.
    """
    # A copy: a module may change its inputs, which are the user's.
    inputs = to_tensor(np.array(images, dtype=np.float32), device)
    inputs = inputs.to(_type_of(module))
    wanted = (len(inputs), n_classes)
    module.eval()  # a batch normalization keeps its statistics
    is_trained = not learns
    if learns:
        with torch.enable_grad():
            is_trained = getattr(_outputs(module, inputs[:2]), "requires_grad", False)
    # Afterwards: a module that keeps what it computed can be copied without a graph.
    outputs = _outputs(module, inputs)
    module.train()
    _check_shape(outputs, wanted)
    if not outputs.is_floating_point() or not torch.isfinite(outputs).all():
        raise ValueError(
            "`architecture` must return finite logits; the new module returns "
            f"{outputs.flatten()[:3].tolist()}, ... for the first images"
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ValueError(
            "`architecture` must return a module with trainable parameters; it has none"
        )
    if not is_trained:
        raise ValueError(
            "`architecture` must compute logits by differentiable PyTorch operations; "
            "they have no gradient with respect to its parameters (`no_grad`, "
            "`detach` and NumPy break the graph)"
        )
    _check_alone(module, inputs[:2])
    if learns:
        _check_training(module, inputs[:2], n_classes)
    return outputs


def _type_of(module: nn.Module) -> torch.dtype:
    """Return the type of a module's numbers, which need not be the default one."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.get_default_dtype()


def _check_shape(outputs: Any, wanted: tuple[int, int], when: str = "") -> None:
    if not isinstance(outputs, Tensor):
        raise ValueError(
            "`architecture` must return a tensor of logits (n_images, n_classes) = "
            f"{wanted}{when}; got {type(outputs).__name__}"
        )
    if tuple(outputs.shape) != wanted:
        raise ValueError(
            "`architecture` must return logits of shape (n_images, n_classes) = "
            f"{wanted}{when}; got {tuple(outputs.shape)}"
        )


def _drawing_alike(module: nn.Module, images: Tensor) -> Any:
    """Call a module with draws that are always the same."""
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        return _outputs(module, images.clone())


def _copy_in_training(module: nn.Module) -> nn.Module | None:
    """Copy a module, whose statistics a trial would change; None if that fails."""
    if is_scripted(module):
        return None
    try:
        return copy_of(module).train()
    except ValueError:
        return None


def _check_training(module: nn.Module, images: Tensor, n_classes: int) -> None:
    """Raise a ValueError if a module in training makes anything but logits."""
    copied = _copy_in_training(module)
    if copied is not None:
        outputs = _drawing_alike(copied, images)
        _check_shape(outputs, (len(images), n_classes), " in training")


@torch.no_grad()
def check_last_batch(module: nn.Module, image: Tensor, batch_size: int) -> None:
    """Raise a ValueError if a module cannot be trained on a batch of one image.

    Parameters
    ----------
    module : torch.nn.Module
    image : Tensor of shape (1, channels, height, width)
    batch_size : int
        What the user asked for.
    """
    copied = _copy_in_training(module)
    if copied is None:
        return
    try:
        _drawing_alike(copied, image)
    except ValueError as error:
        raise ValueError(
            f"`batch_size`={batch_size} leaves one image for the last batch of an "
            "epoch, on which `architecture` cannot be trained; choose another: "
            f"{error}"
        ) from error


def _check_alone(module: nn.Module, images: Tensor) -> None:
    """Raise a ValueError if a prediction for an image depends on others."""
    others = torch.cat([images[:1], images[:1] / 2])
    module.eval()
    alone = _drawing_alike(module, images[:1])
    found = [_drawing_alike(module, batch)[0] for batch in (images, others)]
    module.train()
    _check_shape(alone, (1, found[0].shape[0]), " of a single image")
    if differ(*found):
        raise ValueError(
            "`architecture` must treat each image alone when it is not in training; "
            "its logits of an image depend on the other images of its batch, as with "
            "a batch normalization that keeps no statistics "
            "(track_running_stats=False), or on a random generator other than that of "
            "PyTorch"
        )


@torch.no_grad()
def check_draws(
    build: Callable[[], nn.Module], images: np.ndarray, *, with_buffers: bool
) -> None:
    """See that what a callable makes follows from PyTorch's seed for the CPU.

    Parameters
    ----------
    build : callable
        Makes a module with weights from PyTorch's global generator, which is seeded.
    images : ndarray of shape (n_images, height, width, channels)
    with_buffers : bool
        Whether the buffers of a trained module are kept, and may be drawn otherwise.

    Raises
    ------
    ValueError
        If two modules of one seed compute something else with the same parameters.

    Warns
    -----
    UserWarning
        If they begin with other parameters.
    """
    made = []
    for _ in range(2):
        torch.default_generator.manual_seed(0)
        made.append(build().eval())
    one, other = made
    device = next(one.parameters()).device
    inputs = to_tensor(images, device).to(_type_of(one))
    for module in made:  # lazy layers get their shapes
        _drawing_alike(module, inputs)
    pairs: list[tuple[Tensor, Tensor]] = list(
        zip(one.parameters(), other.parameters(), strict=False)
    )
    is_same = all(torch.equal(*pair) for pair in pairs)
    if with_buffers:
        buffers = zip(one.buffers(), other.buffers(), strict=False)
        pairs += [pair for pair in buffers if pair[0].layout == torch.strided]
    if all(there.shape == here.shape for here, there in pairs):
        for here, there in pairs:
            there.copy_(here)
    outputs = [_drawing_alike(module, inputs) for module in made]
    if differ(*outputs):
        raise ValueError(
            "`architecture` must return modules that differ in nothing but their "
            "weights; they compute something else with the same weights, as with a "
            "table or layers that are drawn by another random generator than that of "
            "PyTorch for the CPU: draw by functions of torch on the CPU, or once for "
            "all modules"
        )
    if not is_same:
        warn(
            "`architecture` draws weights by another random generator than that of "
            "PyTorch for the CPU, so that `random_state` does not decide on them and "
            "results are not reproducible; draw them by functions of torch on the CPU"
        )


def in_type(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Convert floating-point numbers of a module; complex ones stay, as others do.

    ``Module.to`` would drop their imaginary parts.
    """
    name = {
        torch.float64: "double",
        torch.float16: "half",
        torch.bfloat16: "bfloat16",
    }
    return getattr(module, name.get(dtype, "float"))()


def seen_by(args: tuple[Any, ...], options: dict[str, Any]) -> Tensor | None:
    """Return the input of a layer, given by its place or by its name."""
    return args[0] if args else options.get("input")


def _outputs(module: nn.Module, images: Tensor) -> Any:
    try:
        return module(images)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            "`architecture` must accept images (n_images, channels, height, width); "
            f"for {tuple(images.shape)} its module raised {type(error).__name__}: "
            f"{error}"
        ) from error


def warn_of_probabilities(logits: Tensor) -> None:
    """Warn if the outputs are probabilities, which are treated as logits."""
    if (logits >= 0).all() and torch.allclose(
        logits.sum(dim=1), torch.ones(len(logits)).to(logits), atol=1e-4
    ):
        warn(
            "`architecture` should return logits; its outputs are non-negative and "
            "sum to 1, as after a softmax.  They are treated as logits, to which "
            "training and `predict_proba` apply a second softmax: remove the last "
            "layer"
        )
