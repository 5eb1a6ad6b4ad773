"""The matching objective and its exact gradient, as plain functions of tensors.

A student starts where a teacher was after epoch t, makes N steps of gradient descent
on the synthetic images, and is compared with where the teacher was after epoch t + 1:

    L = ||theta_N - theta*||^2 / ||theta_0 - theta*||^2.

The gradient of L with respect to the images, their targets and the step size passes
through all N steps.  A graph over the steps would need memory for each of them; the
reverse sweep here keeps only the N parameter vectors and recomputes one step at a
time, with the batch and the augmentation that the step had.

References
----------
Guan et al., "Discovering Galaxy Features via Dataset Distillation", 2023, algorithm 1
and equation 2.

Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR
2022, algorithm 1.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from skdistill.neural_network._augment import (
    AugmentationDraw,
    augment,
    draw_augmentation,
)

Network = Callable[[Tensor, Tensor], Tensor]


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
    """

    loss: Tensor
    misalignment: Tensor


class MatchGradient(NamedTuple):
    """A match and the gradient of its loss.

    Attributes
    ----------
    match : Match
    images : Tensor, of the shape of the images
    targets : Tensor, of the shape of the targets, or None for class codes
    log_step_size : Tensor, scalar
    """

    match: Match
    images: Tensor
    targets: Tensor | None
    log_step_size: Tensor


def plan_steps(
    n_steps: int,
    n_images: int,
    *,
    batch_size: int | None,
    families: Sequence[str],
    generator: torch.Generator,
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
        steps.append(
            StudentStep(batch, draw_augmentation(families, n_batch, generator))
        )
    return steps


def _student_loss(
    network: Network,
    parameters: Tensor,
    images: Tensor,
    targets: Tensor,
    step: StudentStep,
    scale: float,
) -> Tensor:
    if step.batch is not None:
        batch = step.batch.to(images.device)
        images, targets = images[batch], targets[batch]
    logits = network(parameters, augment(images, step.draw, scale))
    return F.cross_entropy(logits, targets)


def _step_gradient(
    network: Network,
    parameters: Tensor,
    images: Tensor,
    targets: Tensor,
    step: StudentStep,
    scale: float,
    *,
    create_graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the leaf of the parameters and the gradient that the step follows."""
    parameters = parameters.detach().requires_grad_()
    loss = _student_loss(network, parameters, images, targets, step, scale)
    gradient = torch.autograd.grad(loss, parameters, create_graph=create_graph)[0]
    return parameters, gradient


def graph_bytes(
    network: Network,
    parameters: Tensor,
    images: Tensor,
    targets: Tensor,
    step: StudentStep,
    *,
    scale: float = 1.0,
) -> int:
    """Measure how many bytes the graph of one step holds."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = images.detach().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _step_gradient(
            network, parameters, images, targets, step, scale, create_graph=True
        )
    return sum(storages.values())


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
    cosine = (way @ aim) / ((way @ way) * aim_squared).sqrt().clamp_min(tiny)
    return Match(loss, 1.0 - cosine.clamp(0.0, 1.0).square())


def match(
    network: Network,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    targets: Tensor,
    log_step_size: Tensor,
    steps: Sequence[StudentStep],
    *,
    scale: float = 1.0,
) -> Match:
    """Train a student and compare it with the teacher; builds no graph over the steps.

    Parameters
    ----------
    network : callable
        Maps flat parameters and images to logits.
    start, target : Tensor of shape (n_parameters,)
        The teacher's parameters before and after its epoch.
    images : Tensor of shape (n_images, channels, height, width)
        The synthetic images.
    targets : Tensor of shape (n_images,), int64, or (n_images, n_classes)
        Class codes, or the probability of each class.
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
        _, gradient = _step_gradient(network, parameters, images, targets, step, scale)
        parameters = torch.addcmul(parameters, gradient, step_size, value=-1)
    return compare(parameters, start, target)


def match_gradient(
    network: Network,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    targets: Tensor,
    log_step_size: Tensor,
    steps: Sequence[StudentStep],
    *,
    scale: float = 1.0,
    detached: bool = False,
    keep_graphs: bool = False,
) -> MatchGradient:
    """Return the loss of a match and its gradient.

    With v_N = dL/dtheta_N and g_i the gradient that step i followed, the sweep back
    over i = N - 1, ..., 0 recomputes g_i, and differentiates <v_{i+1}, g_i>:

        dL/dX     -= alpha d<v_{i+1}, g_i>/dX
        dL/dalpha -= <v_{i+1}, g_i>
        v_i        = v_{i+1} - alpha d<v_{i+1}, g_i>/dtheta_i.

    The memory is that of N + 1 parameter vectors and of one step.  Where there is more,
    keeping the graph of each g_i from the way forth saves recomputing them.

    Parameters
    ----------
    network, start, target, images, targets, log_step_size, steps, scale
        As for :func:`match`.  Targets in floating point get a gradient too.
    detached : bool, default=False
        Leaves out the last line: v stays v_N.  This is the approximation of TESLA
        (Cui et al., ICML 2023), which takes each theta_i as given.
    keep_graphs : bool, default=False
        Whether to keep the graphs of all steps; the result is the same.

    Returns
    -------
    MatchGradient
    """
    images = images.detach().requires_grad_()
    targets = targets.detach()
    leaves = [images]
    if targets.is_floating_point():
        leaves.append(targets.requires_grad_())
    step_size = log_step_size.detach().to(start.device).exp()

    visited = [start]
    graphs = []
    for step in steps:
        seen = (images, targets) if keep_graphs else (images.detach(), targets.detach())
        graph = _step_gradient(
            network, visited[-1], *seen, step, scale, create_graph=keep_graphs
        )
        gradient = graph[1].detach()
        if keep_graphs:
            graphs.append(graph)
        visited.append(torch.addcmul(visited[-1], gradient, step_size, value=-1))
    final = visited.pop()
    result = compare(final, start, target)

    aim_squared = (target - start).square().sum()
    adjoint = (final - target) * (2.0 / aim_squared)
    sums = [torch.zeros_like(leaf) for leaf in leaves]
    along = torch.zeros_like(step_size)
    for step in reversed(steps):
        before = visited.pop()
        parameters, gradient = (
            graphs.pop()
            if keep_graphs
            else _step_gradient(
                network, before, images, targets, step, scale, create_graph=True
            )
        )
        product = gradient @ adjoint
        along += product.detach()
        wanted = leaves if detached else [*leaves, parameters]
        parts = torch.autograd.grad(product, wanted)
        for total, part in zip(sums, parts, strict=False):
            total += part
        if not detached:
            adjoint = torch.addcmul(adjoint, parts[-1], step_size, value=-1)
    return MatchGradient(
        result,
        sums[0] * -step_size,
        sums[1] * -step_size if len(sums) > 1 else None,
        # dL/d(log alpha) = alpha dL/dalpha.
        along * -step_size,
    )
