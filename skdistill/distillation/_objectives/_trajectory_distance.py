"""The matching objective and its exact gradient, as plain functions of tensors.

A student starts where a teacher was after epoch t, makes N steps of gradient descent
on the synthetic images, and is compared with where the teacher was after epoch t + 1:

    L = ||theta_N - theta*||^2 / ||theta_0 - theta*||^2.

The gradient of L with respect to the images, their targets and the step size passes
through all N steps, as :mod:`skdistill.distillation._objectives._unrolled` says.

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

from skdistill.distillation._objectives._unrolled import (
    StudentStep,
    backpropagate,
    plan_steps,
    unroll,
)
from skdistill.neural_network._module_derivatives import Derivatives

__all__ = [
    "Match",
    "MatchGradient",
    "StudentStep",
    "compare",
    "match",
    "match_gradient",
    "plan_steps",
]


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
    network: Derivatives,
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
    network : ConvNetDerivatives or ModuleDerivatives
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
    student = unroll(
        network, start, images, targets, log_step_size, steps, window=0, scale=scale
    )
    return compare(student.parameters, start, target)


def match_gradient(
    network: Derivatives,
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

    The memory is that of N + 1 parameter vectors and of one step.  Where there is more,
    keeping the activations of each step saves computing them again.

    Parameters
    ----------
    network, start, target, images, targets, log_step_size, steps, scale
        As for :func:`match`.
    detached : bool, default=False
        Takes each theta_i as given: v stays v_N.  This is the approximation of TESLA
        (Cui et al., ICML 2023), exact for a single step.
    keep : bool, default=False
        Whether to keep the activations of all steps, ``network.tape_bytes`` for each;
        the result is the same.

    Returns
    -------
    MatchGradient
    """
    student = unroll(
        network, start, images, targets, log_step_size, steps, scale=scale, keep=keep
    )
    result = compare(student.parameters, start, target)
    aim_squared = (target - start).square().sum()
    found = backpropagate(
        student,
        (student.parameters - target) * (2.0 / aim_squared),
        detached=detached,
    )
    return MatchGradient(result, *found)
