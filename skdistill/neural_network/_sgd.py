"""Stochastic gradient descent of several networks of one structure at once.

The parameters of K networks are the rows of one tensor.  On a CPU the networks are
shared out among threads in each step, with the written-out derivatives; on a GPU, where
one small network leaves most of the device idle, one call differentiates all of them.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from skdistill.neural_network._augment import (
    AugmentationDraw,
    augment,
    n_uniforms,
)
from skdistill.neural_network._compile import Compiled
from skdistill.neural_network._convnet import ConvNet
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.neural_network._losses import image_losses
from skdistill.neural_network._module_derivatives import ModuleDerivatives
from skdistill.utils._random import child_seed
from skdistill.utils._tensors import RealImages
from skdistill.utils._workers import map_pieces

# On a GPU as many networks at once as their maps fit into this share of free memory.
_SHARE_OF_MEMORY = 0.4
_MAX_AT_ONCE = 32


class Gradients(NamedTuple):
    """What the networks' losses and gradients in one step are.

    Attributes
    ----------
    parameters : Tensor of shape (n_networks, n_parameters)
        The gradients of the mean losses.
    losses, logits : Tensor of shape (n_networks, n_batch) and (..., n_classes)
        Of each image.
    """

    parameters: Tensor
    losses: Tensor
    logits: Tensor


# Parameters (n_networks, n_parameters), images (n_networks, n_batch, channels, height,
# width) and targets (n_networks, n_batch, n_classes) to gradients.
GradientFunction = Callable[[Tensor, Tensor, Tensor], Gradients]


def one_by_one(module: ConvNet, *, loss: str = "cross_entropy") -> GradientFunction:
    """Return a function that differentiates one network after the other.

    Parameters
    ----------
    module : ConvNet
        Only its structure is used.
    loss : {"cross_entropy", "squared"}, default="cross_entropy"

    Returns
    -------
    gradients : callable
    """
    network = ConvNetDerivatives(module, loss=loss)
    losses_of = _losses_of(loss)

    @torch.no_grad()
    def gradients(parameters: Tensor, images: Tensor, targets: Tensor) -> Gradients:
        def differentiate(place: int) -> tuple[Tensor, Tensor, Tensor]:
            logits: list[Tensor] = []
            found = network.gradient(
                parameters[place], images[place], targets[place], logits=logits
            )
            of_batch = torch.cat(logits)
            return found, losses_of(of_batch, targets[place]), of_batch

        found = map_pieces(differentiate, range(len(parameters)))
        return Gradients(*map(torch.stack, zip(*found, strict=True)))

    return gradients


def modules_one_by_one(
    network: ModuleDerivatives, seeds: Sequence[int]
) -> GradientFunction:
    """Return a function that differentiates modules of one structure, by their loss.

    Parameters
    ----------
    network : ModuleDerivatives
    seeds : sequence of int
        One for each network: with the number of the step they decide on what the
        module draws, as dropout does.

    Returns
    -------
    gradients : callable
        To be called once for each step.
    """
    number = itertools.count()

    @torch.no_grad()
    def gradients(parameters: Tensor, images: Tensor, targets: Tensor) -> Gradients:
        step = next(number)

        def differentiate(place: int) -> tuple[Tensor, Tensor, Tensor]:
            logits: list[Tensor] = []
            found = network.gradient(
                parameters[place],
                images[place],
                targets[place],
                logits=logits,
                seed=child_seed(seeds[place], step),
            )
            (of_batch,) = logits
            return found, _cross_entropy(of_batch, targets[place]), of_batch

        found = map_pieces(differentiate, range(len(parameters)))
        return Gradients(*map(torch.stack, zip(*found, strict=True)))

    return gradients


def all_at_once(
    module: ConvNet, *, compile: bool = False, loss: str = "cross_entropy"
) -> GradientFunction:
    """Return a function that differentiates all networks in one call.

    Convolutions with kernels of several networks become one grouped convolution.

    Parameters
    ----------
    module : ConvNet
        Only its structure is used.
    compile : bool, default=False
        Whether to compile it; the values are the same but for rounding.
    loss : {"cross_entropy", "squared"}, default="cross_entropy"

    Returns
    -------
    gradients : callable
    """
    shapes = {name: part.shape for name, part in module.named_parameters()}
    sizes = [shape.numel() for shape in shapes.values()]

    losses_of = _losses_of(loss)

    def mean_loss(own: Tensor, images: Tensor, targets: Tensor) -> tuple[Tensor, Any]:
        views = {
            name: part.view(shape)
            for (name, shape), part in zip(
                shapes.items(), own.split(sizes), strict=True
            )
        }
        logits = functional_call(module, views, (images,))
        losses = losses_of(logits, targets)
        return losses.mean(), (losses, logits)

    stacked = vmap(grad_and_value(mean_loss, has_aux=True))
    function: Callable[..., Any] = Compiled(stacked) if compile else stacked

    def gradients(parameters: Tensor, images: Tensor, targets: Tensor) -> Gradients:
        found, (_, (losses, logits)) = function(parameters, images, targets)
        return Gradients(found, losses, logits)

    return gradients


def networks_at_once(
    module: ConvNet, batch_size: int, device: torch.device, n_networks: int
) -> int:
    """Return how many of ``n_networks`` :func:`all_at_once` is best called with.

    Parameters
    ----------
    module : ConvNet
        Only its structure is used.
    batch_size : int
        Images per step.
    device : torch.device
        All networks if it is no GPU.
    n_networks : int

    Returns
    -------
    n_at_once : int
    """
    if device.type != "cuda":
        return n_networks
    free, _ = torch.cuda.mem_get_info(device)
    # Automatic differentiation keeps three maps of a block, and needs two more.
    numbers = sum(
        5 * block.height * block.width * block.out_channels for block in module.blocks
    )
    most = _SHARE_OF_MEMORY * free // (4 * numbers * batch_size)
    most = int(min(max(most, 1), _MAX_AT_ONCE))
    # Groups of nearly equal size.
    return -(-n_networks // -(-n_networks // most))


def _losses_of(loss: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of logits and targets; the latter may be weighted labels."""
    return (
        _cross_entropy if loss == "cross_entropy" else partial(image_losses, loss=loss)
    )


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return -(targets * logits.log_softmax(dim=-1)).sum(dim=-1)


class EpochPlan(NamedTuple):
    """Everything random of one epoch of one network.

    Attributes
    ----------
    order : Tensor of shape (n_samples,), int64
        The images in the order in which they are seen.
    families : list of str
        The family of augmentation of each batch.
    uniforms : Tensor of shape (n_samples, n_uniforms)
        The draws of the augmentation of each image, in the same order: three for each
        family of the longest chain.
    """

    order: Tensor
    families: list[str]
    uniforms: Tensor


def plan_epoch(
    n_samples: int,
    batch_size: int,
    families: Sequence[str],
    generator: torch.Generator,
) -> EpochPlan:
    """Draw the batches and the augmentations of an epoch.

    Parameters
    ----------
    n_samples, batch_size : int
    families : sequence of str
        Families of augmentation or chains of them, one of which is drawn per batch.
    generator : torch.Generator
        On the CPU: the same draws on any device.

    Returns
    -------
    EpochPlan
    """
    order = torch.randperm(n_samples, generator=generator)
    n_steps = -(-n_samples // batch_size)
    if not families:
        return EpochPlan(order, ["identity"] * n_steps, torch.empty(n_samples, 0))
    drawn = torch.randint(len(families), (n_steps,), generator=generator)
    uniforms = torch.rand(n_samples, n_uniforms(families), generator=generator)
    return EpochPlan(order, [families[index] for index in drawn.tolist()], uniforms)


class SGDSettings(NamedTuple):
    """How the networks descend.

    Attributes
    ----------
    learning_rate, momentum, weight_decay : float
    batch_size : int
    scale : float
        Standard deviation of the pixels, the unit of the augmentation's brightness.
    """

    learning_rate: float
    momentum: float
    weight_decay: float
    batch_size: int
    scale: float


@torch.no_grad()
def descend_epoch(
    gradients: GradientFunction,
    parameters: Tensor,
    momentum_buffer: Tensor | None,
    images: RealImages | Tensor,
    targets: Tensor,
    plans: Sequence[EpochPlan],
    descent: SGDSettings,
    after_step: Callable[[int], None] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> tuple[Tensor, Tensor]:
    """Train networks in place for an epoch, each by a plan of its own.

    Parameters
    ----------
    gradients : callable
        From :func:`one_by_one` or :func:`all_at_once`.
    parameters : Tensor of shape (n_networks, n_parameters)
        Is changed in place.
    momentum_buffer : Tensor of shape (n_networks, n_parameters) or None
        What momentum has gathered, changed in place; None where there is no momentum.
    images : RealImages or Tensor of shape (n_samples, channels, height, width)
    targets : Tensor of shape (n_samples, n_classes)
        The probability of each class, times the weight of the image; of the squared
        loss numbers of any sign.
    plans : sequence of EpochPlan
        One for each network.
    descent : SGDSettings
    after_step : callable, default=None
        Is called with the number of steps done, from 1, after each of them.
    optimizer : torch.optim.Optimizer, default=None
        Of ``parameters``, which makes the steps by its own settings; each network's
        alone, as Adam does.  None takes SGD, with the settings of ``descent``.

    Returns
    -------
    loss, accuracy : Tensor of shape (n_networks,), float32
        Means over the augmented images of the epoch; on the device, so that the host
        need not wait.
    """
    device = images.device
    orders = torch.stack([plan.order for plan in plans]).to(device)
    uniforms = torch.stack([plan.uniforms for plan in plans]).to(device)
    n_networks, n_samples = orders.shape
    total_loss = torch.zeros(n_networks, device=device)
    n_right = torch.zeros(n_networks, device=device)
    for step, first in enumerate(range(0, n_samples, descent.batch_size)):
        part = slice(first, first + descent.batch_size)
        batches = orders[:, part]
        seen = _augmented(
            images[batches],
            [plan.families[step] for plan in plans],
            uniforms[:, part],
            descent.scale,
        )
        wanted = targets[batches]
        found = gradients(parameters, seen, wanted)
        if optimizer is None:
            _step(parameters, momentum_buffer, found.parameters, descent)
        else:
            parameters.grad = found.parameters
            optimizer.step()
        total_loss += found.losses.sum(dim=1)
        n_right += (found.logits.argmax(dim=2) == wanted.argmax(dim=2)).sum(dim=1)
        if after_step is not None:
            after_step(step + 1)
    return total_loss / n_samples, n_right / n_samples


def _step(
    parameters: Tensor,
    momentum_buffer: Tensor | None,
    change: Tensor,
    descent: SGDSettings,
) -> None:
    """Make a step of SGD in place."""
    if descent.weight_decay:
        change = change.add(parameters, alpha=descent.weight_decay)
    if momentum_buffer is not None:
        change = momentum_buffer.mul_(descent.momentum).add_(change)
    parameters.sub_(change, alpha=descent.learning_rate)


def _augmented(
    images: Tensor, families: Sequence[str], uniforms: Tensor, scale: float
) -> Tensor:
    """Augment each network's images, those of one family in one go."""
    for family in sorted(set(families)):
        members = [place for place, other in enumerate(families) if other == family]
        draw = AugmentationDraw(family, uniforms[members].flatten(0, 1))
        found = augment(images[members].flatten(0, 1), draw, scale)
        images[members] = found.unflatten(0, (len(members), -1))
    return images
