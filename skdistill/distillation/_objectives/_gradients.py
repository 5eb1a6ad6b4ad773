"""Matching the gradients that networks get from synthetic and from real images.

A network with parameters theta gets the gradient g_S from the synthetic images of a
class, and g_R from real ones.  A distance D(g_S, g_R) is to be small.  With its
derivative v = dD/dg_S, which has a closed form,

    dD/dX = d<v, g_S>/dX  with v held fixed:

the Hessian-vector product that trajectory matching needs, too.  Nothing is
differentiated twice by a machine, and no graph is kept.

References
----------
Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021.
Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML
2022: distances of kernels alone, squared or absolute.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skdistill.neural_network._augment import with_pull_back
from skdistill.neural_network._module_derivatives import Derivatives

DISTANCES = ("cosine", "squared", "absolute")
MATCHED = ("weights", "kernels", "all")

# While what the gradient of a class computed takes no more, it is kept for the
# Hessian-vector product.
_MAX_KEPT_BYTES = 2**28


class Part(NamedTuple):
    """A parameter that is matched, as it lies in the flat vector of all.

    Attributes
    ----------
    start : int
    n_rows, length : int
        A row holds what leads to one output unit.
    is_weight : bool
        Whether it has two or more axes: a bias is compared as one row.
    """

    start: int
    n_rows: int
    length: int
    is_weight: bool


def matched_parts(module: nn.Module, matched: str) -> list[Part]:
    """Return where the parameters that are matched lie.

    Parameters
    ----------
    module : nn.Module
        Only its structure is used.
    matched : {"weights", "kernels", "all"}
        Kernels of convolutions and matrices of linear layers, the former alone, or
        biases and the factors of normalizations as well: parameters of at least two
        axes, of at least three, or all.  Those that are not trained are left out.

    Returns
    -------
    parts : list of Part
    """
    parts = []
    start = 0
    for parameter in module.parameters():
        n_axes, size = parameter.ndim, parameter.numel()
        is_wanted = {
            "weights": n_axes >= 2,
            "kernels": n_axes >= 3,
            "all": True,
        }[matched]
        # What is not trained has a gradient of 0.
        if is_wanted and parameter.requires_grad:
            n_rows = len(parameter) if n_axes >= 2 else 1
            parts.append(Part(start, n_rows, size // n_rows, n_axes >= 2))
        start += size
    return parts


class Distance(NamedTuple):
    """How far a gradient is from another.

    Attributes
    ----------
    value : Tensor, scalar
    direction : Tensor of shape (n_parameters,)
        The derivative of the value by the first gradient; 0 where nothing is matched.
    """

    value: Tensor
    direction: Tensor


def gradient_distance(
    synthetic: Tensor, real: Tensor, parts: Sequence[Part], distance: str
) -> Distance:
    """Compare two gradients parameter by parameter.

    Parameters
    ----------
    synthetic, real : Tensor of shape (n_parameters,)
    parts : sequence of Part
        From :func:`matched_parts`.
    distance : {"cosine", "squared", "absolute"}
        The sum over all rows of 1 - cos, with cos that of the angle between both
        gradients' rows, biases adding nothing; the sum over all numbers of squared, or
        of absolute, differences.

    Returns
    -------
    Distance
    """
    compare = {"cosine": _cosine, "squared": _squared, "absolute": _absolute}[distance]
    value = synthetic.new_zeros(())
    direction = torch.zeros_like(synthetic)
    for part in parts:
        if distance == "cosine" and not part.is_weight:
            # A bias has rows of one number, whose angle is not one.
            continue
        place = slice(part.start, part.start + part.n_rows * part.length)
        shape = (part.n_rows, part.length)
        found = compare(synthetic[place].view(shape), real[place].view(shape))
        value += found.value
        direction[place] = found.direction.flatten()
    return Distance(value, direction)


def _cosine(a: Tensor, b: Tensor) -> Distance:
    """Return the sum of 1 - cos over rows, and its derivative by ``a``.

    A row that is nothing but rounding beside the largest of its layer has no angle:
    as a unit that no image activates.  Two such rows are equal, and one of them is at
    a right angle to any other.  Relative to the layer, unlike a small number in the
    denominator, this leaves the distance as it is when a gradient is multiplied.
    """
    a, length_a, tiny_a = _unit_rows(a)
    b, _, tiny_b = _unit_rows(b)
    has_angle = ~(tiny_a | tiny_b)
    # As accurate at angles of nearly 0 as elsewhere, and exactly 0 of equal gradients.
    distances = 0.5 * (a - b).square().sum(dim=1, keepdim=True)
    direction = torch.where(has_angle, ((1.0 - distances) * a - b) / length_a, 0.0)
    values = torch.where(has_angle, distances, (tiny_a != tiny_b).to(a.dtype))
    return Distance(values.sum(), direction)


def _unit_rows(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows of length 1, their lengths, and which are too short to have one."""
    limits = torch.finfo(rows.dtype)
    # In the unit of the largest number squares neither vanish nor overflow.
    unit = rows.abs().max().clamp_min(limits.tiny)
    rows = rows / unit
    lengths = rows.norm(dim=1, keepdim=True)
    is_tiny = lengths <= limits.eps * lengths.max()
    lengths = torch.where(is_tiny, 1.0, lengths)
    return rows / lengths, lengths * unit, is_tiny


def _squared(a: Tensor, b: Tensor) -> Distance:
    difference = a - b
    return Distance(difference.square().sum(), 2.0 * difference)


def _absolute(a: Tensor, b: Tensor) -> Distance:
    difference = a - b
    return Distance(difference.abs().sum(), difference.sign())


class MatchedClass(NamedTuple):
    """The distance of a class's gradients, and its derivative.

    Attributes
    ----------
    distance : Tensor, scalar
    images : Tensor of shape (n_images, channels, height, width)
        The gradient of the distance with respect to the synthetic images.
    """

    distance: Tensor
    images: Tensor


def match_gradient(
    network: Derivatives,
    parameters: Tensor,
    images: Tensor,
    targets: Tensor,
    real: Tensor,
    parts: Sequence[Part],
    distance: str,
    *,
    augmentation: Callable[[Tensor], Tensor] | None = None,
    **drawn: Any,
) -> MatchedClass:
    """Compare the gradient from synthetic images with one from real images.

    Parameters
    ----------
    network : ConvNetDerivatives or ModuleDerivatives
    parameters : Tensor of shape (n_parameters,)
    images : Tensor of shape (n_images, channels, height, width)
        Synthetic images, of one class for instance.
    targets : Tensor of shape (n_images, n_classes)
        The probability of each class for each image.
    real : Tensor of shape (n_parameters,)
        The gradient to match.
    parts : sequence of Part
        From :func:`matched_parts`.
    distance : {"cosine", "squared", "absolute"}
    augmentation : callable, default=None
        Augments the images before the network sees them; differentiable.
    **drawn : dict
        The ``seed`` of a network that draws something, as dropout does.

    Returns
    -------
    MatchedClass
    """
    seen, pull_back = with_pull_back(augmentation or _identity, images)
    is_kept = network.tape_bytes(len(seen), seen.dtype) <= _MAX_KEPT_BYTES
    tapes: list[Any] | None = [] if is_kept else None
    gradient = network.gradient(parameters, seen, targets, tapes=tapes, **drawn)
    found = gradient_distance(gradient, real, parts, distance)
    by_seen = network.curvature(
        parameters,
        found.direction,
        seen,
        targets,
        tapes=tapes,
        with_parameters=False,
        **drawn,
    ).images
    return MatchedClass(found.value, pull_back(by_seen))


def _identity(images: Tensor) -> Tensor:
    return images
