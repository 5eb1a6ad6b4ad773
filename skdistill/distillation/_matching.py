"""The matching objective and its exact gradient, as plain functions of tensors.

A student starts where a teacher was after epoch t, makes N steps of gradient descent
on the synthetic images, and is compared with where the teacher was after epoch t + 1:

    L = ||theta_N - theta*||^2 / ||theta_0 - theta*||^2.

The gradient of L with respect to the images, their targets and the step size passes
through all N steps.  A graph over the steps would need memory for each of them; the
reverse sweep here keeps only the N parameter vectors and differentiates one step at a
time, with the batch and the augmentation that the step had.

References
----------
Guan et al., "Discovering Galaxy Features via Dataset Distillation", 2023, algorithm 1
and equation 2.

Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR
2022, algorithm 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from skdistill.neural_network._augment import (
    AugmentationDraw,
    augment,
    draw_augmentation,
)
from skdistill.neural_network._derivatives import ConvNetDerivatives, Tape
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
    """

    batch: Tensor | None
    draw: AugmentationDraw


class Match(NamedTuple):
    """How close a student came to its target.

    Attributes
    ----------
    loss : Tensor, scalar
        The squared distance to the target, in units of that at the start.
    misalignment : Tensor, scalar
        1 - cos^2 of the angle between the way the student went and the way to the
        target (1 if it went away from the target): the least loss that any length of
        the same way has.
    stretch : Tensor, scalar
        By what factor the same way would have to be longer to have that least loss; 0
        or less if it went away from the target.
    """

    loss: Tensor
    misalignment: Tensor
    stretch: Tensor


class MatchGradient(NamedTuple):
    """A match and the gradient of its loss.

    Attributes
    ----------
    match : Match
    images : Tensor, of the shape of the images
    targets : Tensor, of the shape of the targets
    log_step_size : Tensor, scalar
    """

    match: Match
    images: Tensor
    targets: Tensor
    log_step_size: Tensor


def plan_steps(
    n_steps: int,
    n_images: int,
    *,
    batch_size: int | None,
    families: Sequence[str],
    generator: torch.Generator,
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
        On the CPU: the same draws whatever the device.
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
        steps.append(
            StudentStep(
                None if batch is None else to_device(batch, device),
                AugmentationDraw(draw.family, to_device(draw.uniforms, device)),
            )
        )
    return steps


def _seen(
    images: Tensor, targets: Tensor, step: StudentStep, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the images as the student sees them in a step, and their targets."""
    if step.batch is not None:
        images, targets = images[step.batch], targets[step.batch]
    return augment(images, step.draw, scale), targets


def compare(final: Tensor, start: Tensor, target: Tensor) -> Match:
    """Compare where a student ended with where its teacher did.

    Parameters
    ----------
    final, start, target : Tensor of shape (n_parameters,)
        Where the student ended, where both started, where the teacher ended.

    Returns
    -------
    Match
    """
    way, aim = final - start, target - start
    aim_squared = aim @ aim
    loss = (final - target).square().sum() / aim_squared
    # The smallest number instead of 0/0 for a student that did not move.
    tiny = torch.finfo(way.dtype).tiny
    along, way_squared = way @ aim, way @ way
    cosine = along / (way_squared * aim_squared).sqrt().clamp_min(tiny)
    stretch = along / way_squared.clamp_min(tiny)
    return Match(loss, 1.0 - cosine.clamp(0.0, 1.0).square(), stretch)


def match(
    network: ConvNetDerivatives,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    targets: Tensor,
    log_step_size: Tensor,
    steps: Sequence[StudentStep],
    *,
    scale: float = 1.0,
) -> Match:
    """Train a student and compare it with the teacher; builds no graph.

    Parameters
    ----------
    network : ConvNetDerivatives
        The student's network.
    start, target : Tensor of shape (n_parameters,)
        The teacher's parameters before and after its epoch.
    images : Tensor of shape (n_images, channels, height, width)
        The synthetic images.
    targets : Tensor of shape (n_images, n_classes)
        The probability of each class for each image.
    log_step_size : Tensor, scalar
        Natural logarithm of the student's learning rate.
    steps : sequence of StudentStep
        The student's steps.
    scale : float, default=1.0
        Standard deviation of the pixels.

    Returns
    -------
    Match
    """
    images, targets = images.detach(), targets.detach()
    step_size = log_step_size.detach().to(start.device).exp()
    parameters = start
    for step in steps:
        gradient = network.gradient(parameters, *_seen(images, targets, step, scale))
        parameters = torch.addcmul(parameters, gradient, step_size, value=-1)
    return compare(parameters, start, target)


def match_gradient(
    network: ConvNetDerivatives,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    targets: Tensor,
    log_step_size: Tensor,
    steps: Sequence[StudentStep],
    *,
    scale: float = 1.0,
    detached: bool = False,
    keep: bool = False,
) -> MatchGradient:
    """Return the loss of a match and its gradient.

    With v_N = dL/dtheta_N and g_i the gradient that step i followed, the sweep back
    over i = N - 1, ..., 0 finds the derivatives of <v_{i+1}, g_i>:

        dL/dX     -= alpha d<v_{i+1}, g_i>/dX, and likewise for the targets,
        dL/dalpha -= <v_{i+1}, g_i>,
        v_i        = v_{i+1} - alpha d<v_{i+1}, g_i>/dtheta_i.

    The memory is that of N + 1 parameter vectors and of one step.  Where there is more,
    keeping what each step computed on the way forth saves computing it again.

    Parameters
    ----------
    network, start, target, images, targets, log_step_size, steps, scale
        As for :func:`match`.
    detached : bool, default=False
        Leaves out the last line: v stays v_N.  This is the approximation of TESLA
        (Cui et al., ICML 2023), which takes each theta_i as given.
    keep : bool, default=False
        Whether to keep the maps of all steps, ``network.tape_bytes`` for each; the
        result is the same.

    Returns
    -------
    MatchGradient
    """
    images, targets = images.detach().requires_grad_(), targets.detach()
    step_size = log_step_size.detach().to(start.device).exp()

    visited = [start]
    kept: list[list[Tape]] = []
    for step in steps:
        tapes: list[Tape] | None = [] if keep else None
        gradient = network.gradient(
            visited[-1], *_seen(images.detach(), targets, step, scale), tapes=tapes
        )
        if tapes is not None:
            kept.append(tapes)
        visited.append(torch.addcmul(visited[-1], gradient, step_size, value=-1))
    final = visited.pop()
    result = compare(final, start, target)

    aim_squared = (target - start).square().sum()
    adjoint = (final - target) * (2.0 / aim_squared)
    by_images, by_targets = torch.zeros_like(images), torch.zeros_like(targets)
    along = torch.zeros_like(step_size)
    for step in reversed(steps):
        with torch.enable_grad():
            seen, wanted = _seen(images, targets, step, scale)
        found = network.curvature(
            visited.pop(),
            adjoint,
            seen.detach(),
            wanted,
            tapes=kept.pop() if keep else None,
        )
        along += found.product
        by_images += torch.autograd.grad(seen, images, found.images)[0]
        if step.batch is None:
            by_targets += found.targets
        else:
            by_targets[step.batch] += found.targets
        if not detached:
            adjoint = torch.addcmul(adjoint, found.parameters, step_size, value=-1)
    return MatchGradient(
        result,
        by_images * -step_size,
        by_targets * -step_size,
        # dL/d(log alpha) = alpha dL/dalpha.
        along * -step_size,
    )
