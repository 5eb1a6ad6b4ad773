"""A student's training on the synthetic images, and the derivatives through it.

A student makes N steps of an inner optimizer on the synthetic images, and a loss is
computed where it ends.  The gradient of that loss by the images, their targets and the
step size passes through the last M steps, the window; with M = N through all.  A graph
over the steps would need memory for each of them; here the forward pass keeps a few
parameter vectors of each step of the window, and the backward pass differentiates one
step at a time, with the batch and the augmentation that the step had.

References
----------
Maclaurin, Duvenaud and Adams, "Gradient-based Hyperparameter Optimization through
Reversible Learning", ICML 2015.

Feng et al., "Embarrassingly Simple Dataset Distillation", ICLR 2024: truncated windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skdistill.distillation._objectives._inner_optimizers import (
    InnerOptimizer,
    InnerSGD,
    Kept,
    Memory,
)
from skdistill.neural_network._augment import (
    AugmentationDraw,
    augment,
    draw_augmentation,
)
from skdistill.neural_network._module_derivatives import Derivatives
from skdistill.utils._device import to_device

_CPU = torch.device("cpu")


class StudentStep(NamedTuple):
    """Everything random of one step of the student: enough to replay it.

    Attributes
    ----------
    batch : Tensor of shape (n_batch,), int64, or None
        Positions of the synthetic images that the step sees; None means all.
    draw : AugmentationDraw
        The augmentation of these images.
    seed : int
        Decides on what the network draws itself, as for dropout.
    """

    batch: Tensor | None
    draw: AugmentationDraw
    seed: int = 0


def plan_steps(
    n_steps: int,
    n_images: int,
    *,
    batch_size: int | None,
    families: Sequence[str],
    generator: torch.Generator,
    is_random: bool = False,
    device: torch.device = _CPU,
) -> list[StudentStep]:
    """Draw the batches and the augmentations of a student's steps.

    Parameters
    ----------
    n_steps : int
    n_images : int
        Number of synthetic images.
    batch_size : int or None
        Images per step, in reshuffled passes over all; None takes all in each step.
    families : sequence of str
        Families of augmentation.
    generator : torch.Generator
        On the CPU: the same draws on any device.
    is_random : bool, default=False
        Whether the network draws something in a step, for which a seed is drawn.
    device : torch.device, default=CPU
        Where the draws are put.

    Returns
    -------
    steps : list of StudentStep
    """
    steps = []
    waiting: list[Tensor] = []
    for _ in range(n_steps):
        batch = None
        if batch_size is not None and batch_size < n_images:
            if not waiting:
                order = torch.randperm(n_images, generator=generator)
                waiting = list(order.split(batch_size))
            batch = waiting.pop(0)
        n_batch = n_images if batch is None else len(batch)
        draw = draw_augmentation(families, n_batch, generator)
        seed = 0
        if is_random:
            seed = int(torch.randint(2**62, (), generator=generator))
        steps.append(
            StudentStep(
                None if batch is None else to_device(batch, device),
                AugmentationDraw(draw.family, to_device(draw.uniforms, device)),
                seed,
            )
        )
    return steps


class _Visit(NamedTuple):
    """What the forward pass keeps of one step of the window."""

    parameters: Tensor  # before the step
    kept: Kept | None
    tapes: list[Any] | None


@dataclass
class Unrolled:
    """A student that was trained, and what its backward pass needs.

    Attributes
    ----------
    parameters : Tensor of shape (n_parameters,)
        After the last step.
    network, images, targets, step_size, optimizer, scale
        As given to :func:`unroll`, without a graph.
    steps : sequence of StudentStep
        Those of the window.
    memory : tuple of Tensor
        The optimizer's before the window.
    visits : list
        One of each step of the window; :func:`backpropagate` takes them away.
    """

    parameters: Tensor
    network: Derivatives
    images: Tensor
    targets: Tensor
    step_size: Tensor
    optimizer: InnerOptimizer
    scale: float
    steps: Sequence[StudentStep]
    memory: Memory
    visits: list[_Visit]


class StudentGradient(NamedTuple):
    """The derivatives of a loss through a student's training.

    Attributes
    ----------
    images : Tensor, of the shape of the images
    targets : Tensor, of the shape of the targets
    log_step_size : Tensor, scalar
    """

    images: Tensor
    targets: Tensor
    log_step_size: Tensor


def _seen(
    images: Tensor, targets: Tensor, step: StudentStep, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the images as the student sees them in a step, and their targets."""
    if step.batch is not None:
        images, targets = images[step.batch], targets[step.batch]
    return augment(images, step.draw, scale), targets


def _drawn(network: Derivatives, step: StudentStep) -> dict[str, Any]:
    """Return what a network's draws in a step follow from, if it makes any."""
    return {"seed": step.seed} if network.is_random else {}


@torch.no_grad()
def unroll(
    network: Derivatives,
    start: Tensor,
    images: Tensor,
    targets: Tensor,
    log_step_size: Tensor,
    steps: Sequence[StudentStep],
    *,
    window: int | None = None,
    optimizer: InnerOptimizer | None = None,
    scale: float = 1.0,
    keep: bool = False,
) -> Unrolled:
    """Train a student: the forward pass.

    Of each step of the window one vector of the length of the parameters is kept with
    SGD, with or without momentum, and four with Adam; of the steps before it none.

    Parameters
    ----------
    network : ConvNetDerivatives or ModuleDerivatives
        The student's network.
    start : Tensor of shape (n_parameters,)
        The parameters it starts from.
    images : Tensor of shape (n_images, channels, height, width)
        The synthetic images.
    targets : Tensor of shape (n_images, n_classes)
        The probability of each class for each image.
    log_step_size : Tensor, scalar
        Natural logarithm of the student's learning rate.
    steps : sequence of StudentStep
        The student's steps.
    window : int, default=None
        How many of the last steps :func:`backpropagate` will come back through; None
        means all.
    optimizer : InnerOptimizer, default=None
        None means gradient descent without momentum.
    scale : float, default=1.0
        Standard deviation of the pixels.
    keep : bool, default=False
        Whether to keep the activations of the window's steps too, of
        ``network.tape_bytes`` each, which saves computing them again; the result is
        the same.

    Returns
    -------
    Unrolled
    """
    images, targets = images.detach(), targets.detach()
    step_size = log_step_size.detach().to(start.device).exp()
    optimizer = InnerSGD() if optimizer is None else optimizer
    n_before = 0 if window is None else max(len(steps) - window, 0)

    parameters = start
    memory: Memory = ()
    memory_before = memory
    visits: list[_Visit] = []
    for place, step in enumerate(steps):
        in_window = place >= n_before
        if place == n_before:
            memory_before = memory
        tapes: list[Any] | None = [] if keep and in_window else None
        gradient = network.gradient(
            parameters,
            *_seen(images, targets, step, scale),
            tapes=tapes,
            **_drawn(network, step),
        )
        after, memory, kept = optimizer.step(
            parameters, gradient, step_size, memory, place + 1
        )
        if in_window:
            visits.append(_Visit(parameters, kept, tapes))
        parameters = after
        # Not to be there while the next step is computed.
        del gradient, kept
    return Unrolled(
        parameters,
        network,
        images,
        targets,
        step_size,
        optimizer,
        scale,
        steps[n_before:],
        memory_before,
        visits,
    )


@torch.no_grad()
def backpropagate(
    unrolled: Unrolled, adjoint: Tensor, *, detached: bool = False
) -> StudentGradient:
    """Return the derivatives of a loss at the end of a training: the backward pass.

    With a_N = dL/dtheta_N and g_i the gradient of step i, it computes for
    i = N - 1, ..., N - M the Hessian-vector product and the other derivatives of
    <u_i, g_i>, where u_i follows from a_{i+1} and the optimizer, for gradient descent
    u_i = a_{i+1}:

        dL/dX     -= alpha d<u_i, g_i>/dX, and likewise for the targets,
        a_i        = a_{i+1} - alpha d<u_i, g_i>/dtheta_i,
        dL/dalpha -= <a_{i+1}, d_i>, d_i being what the step subtracted over alpha.

    Parameters
    ----------
    unrolled : Unrolled
        What :func:`unroll` returned.  Its memory is given back step by step: a second
        call needs a second forward pass.
    adjoint : Tensor of shape (n_parameters,)
        a_N, the gradient of the loss by the parameters after the last step.
    detached : bool, default=False
        Leaves out the second line: a stays a_N.

    Returns
    -------
    StudentGradient
    """
    network, step_size = unrolled.network, unrolled.step_size
    decay, scale = unrolled.optimizer.weight_decay, unrolled.scale
    decaying = unrolled.optimizer.decaying
    images, targets = unrolled.images.detach().requires_grad_(), unrolled.targets
    backward = unrolled.optimizer.backward_pass()
    if len(unrolled.visits) != len(unrolled.steps):
        raise ValueError("a second backward pass needs a second forward pass")

    by_images, by_targets = torch.zeros_like(images), torch.zeros_like(targets)
    by_step_size = torch.zeros_like(step_size)
    for step in reversed(unrolled.steps):
        with torch.enable_grad():
            seen, wanted = _seen(images, targets, step, scale)
        visit = unrolled.visits.pop()
        direction, along = backward.direction(adjoint, visit.kept)
        found = network.curvature(
            visit.parameters,
            direction,
            seen.detach(),
            wanted,
            tapes=visit.tapes,
            **_drawn(network, step),
        )
        by_parameters = found.parameters
        if along is None:
            along = found.product
            if decay:
                along = along + decay * (direction @ decaying(visit.parameters))
        if decay:
            by_parameters = by_parameters.add(decaying(direction), alpha=decay)
        del visit
        by_step_size += along
        by_images += torch.autograd.grad(seen, images, found.images)[0]
        if step.batch is None:
            by_targets += found.targets
        else:
            by_targets[step.batch] += found.targets
        if not detached:
            adjoint = torch.addcmul(adjoint, by_parameters, step_size, value=-1)
    remainder = backward.remainder(unrolled.memory)
    if remainder is not None:
        by_step_size += remainder
    return StudentGradient(
        by_images * -step_size,
        by_targets * -step_size,
        # dL/d(log alpha) = alpha dL/dalpha.
        by_step_size * -step_size,
    )
