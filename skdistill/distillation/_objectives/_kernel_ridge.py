"""The loss of a kernel ridge regression on synthetic images, and its derivatives.

With the kernel K of n synthetic images X, their targets Y, and the kernel K_t of m real
images with them ::

    l = reg tr(K) / n         A = (K + l I)^-1 Y         P = K_t A
    L = mean over real images and classes of (P - Y_t)^2 / 2

The derivatives are written out (Nguyen et al., ICLR 2021, has the loss).  With
``G = dL/dP`` and ``B = (K + l I)^-1 K_t^T G`` ::

    dL/dY = B        dL/dK_t = G A^T        S = -B A^T
    dL/dK = (S + S^T) / 2 + (reg / n) tr(S) I

A does not depend on the real images: they pass by in parts, and what is held of them is
the kernel of one part.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from skdistill.neural_network._kernels import Kernel
from skdistill.neural_network._ridge import RidgeRegression, least_squares

# Number of kernel values that are computed at once: some 32 MiB for each of the
# matrices that the backward pass needs, of which a layer has five.
_PART_VALUES = 2**22
_MIN_PART = 16


class RealPart(NamedTuple):
    """Some of the real images.

    Attributes
    ----------
    x : Tensor of shape (m, n_features), float64
        A row per image.
    targets : Tensor of shape (m, n_classes), float64
    weight : Tensor of shape (m,), float64
        Of each image in the loss; those of all parts sum to 1.
    """

    x: Tensor
    targets: Tensor
    weight: Tensor


class RidgeLoss(NamedTuple):
    """The loss, and its derivatives by rows of pixels and by targets."""

    loss: Tensor
    x: Tensor
    targets: Tensor


def part_size(n: int) -> int:
    """Return how many real images are one part, beside n synthetic ones."""
    return max(_MIN_PART, _PART_VALUES // n)


def centered(labels: Tensor) -> Tensor:
    """Return the regression targets of probabilities: less those of pure chance."""
    return labels - 1 / labels.shape[1]


def ridge_loss(
    kernel: Kernel,
    x: Tensor,
    targets: Tensor,
    real: Iterable[RealPart],
    reg: float,
    *,
    by_images: bool = True,
) -> RidgeLoss:
    """Return the loss of a regression on synthetic images, with its derivatives.

    Parameters
    ----------
    kernel : Kernel
    x : Tensor of shape (n, n_features), float64
        The synthetic images.
    targets : Tensor of shape (n, n_classes), float64
    real : iterable of RealPart
    reg : float
        The ridge, in units of the mean of the kernel's diagonal.
    by_images : bool, default=True
        Whether the derivative by the images is wanted; if not, it is 0.
    """
    if by_images:
        values, pull_back = kernel.with_pull_back(x, None)
    else:
        values = kernel(x)
    regression = RidgeRegression(values, reg)
    coefficients = regression.solve(targets)
    loss = x.new_zeros(())
    by_x = torch.zeros_like(x)
    by_coefficients = torch.zeros_like(targets)
    for part in real:
        if by_images:
            across, part_back = kernel.with_pull_back(x, part.x)
        else:
            across = kernel(x, part.x)
        error = across.T @ coefficients - part.targets
        weighted = error * (part.weight[:, None] / targets.shape[1])
        loss = loss + (weighted * error).sum() / 2
        by_coefficients += across @ weighted
        if by_images:
            by_x += part_back(coefficients @ weighted.T)
    by_targets, by_values = regression.pull_back(coefficients, by_coefficients)
    if by_images:
        by_x += 2 * pull_back(by_values)
    return RidgeLoss(loss, by_x, by_targets)


def solve_labels(
    kernel: Kernel, x: Tensor, real: Iterable[RealPart], reg: float
) -> Tensor:
    """Return the targets with which the loss is least: ``(K + l I) K_t^+ Y_t``.

    Parameters
    ----------
    kernel : Kernel
    x : Tensor of shape (n, n_features), float64
        The synthetic images.
    real : iterable of RealPart
    reg : float
        The ridge, in units of the mean of the kernel's diagonal.

    Returns
    -------
    targets : Tensor of shape (n, n_classes)
    """
    values = kernel(x)
    ridge = RidgeRegression(values, reg).ridge

    def equations() -> Iterator[tuple[Tensor, Tensor]]:
        for part in real:
            root = part.weight.sqrt()[:, None]
            yield root * kernel(part.x, x), root * part.targets

    coefficients = least_squares(equations(), len(x))
    return values @ coefficients + ridge * coefficients
