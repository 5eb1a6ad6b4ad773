"""Kernel ridge regression: coefficients, and the backward pass through them.

With the kernel K of n images, their targets Y and the ridge ``l = reg tr(K) / n``, the
coefficients are ``A = (K + l I)^-1 Y``, and what is predicted of others is ``K_t A``,
where K_t is their kernel with the n images.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from skdistill.utils._warnings import warn_once

# Of a retry, where rounding leaves the first ridge too small.
_RETRY = 10.0


class NotFiniteError(ValueError):
    """Values of a kernel are NaN or infinite, as those of images that diverged."""


class RidgeRegression:
    """The equations of a kernel ridge regression, factorized once.

    Parameters
    ----------
    kernel : Tensor of shape (n, n), float64
        Symmetric, positive semidefinite.
    reg : float
        The ridge, in units of the mean of the kernel's diagonal.
    weight : Tensor of shape (n,), default=None
        Weights of the images: one of weight 2 counts as two equal ones.

    Attributes
    ----------
    reg : float
        The ridge that was used: the one given, or ten times that.
    ridge : Tensor, scalar
        What is added to the diagonal, without weights.

    Raises
    ------
    NotFiniteError
        If the kernel has values that are NaN or infinite.
    ValueError
        If the matrix is not positive definite even with ten times the ridge.
    """

    def __init__(
        self, kernel: Tensor, reg: float, weight: Tensor | None = None
    ) -> None:
        diagonal = kernel.diagonal()
        if weight is None:
            mean, share = diagonal.mean(), torch.ones_like(diagonal)
        else:
            mean, share = (weight * diagonal).sum() / weight.sum(), 1 / weight
        self._n = len(kernel)
        for factor in (1.0, _RETRY):
            self.reg = factor * reg
            self.ridge = self.reg * mean
            matrix = kernel + torch.diag(self.ridge * share)
            self._factor, info = torch.linalg.cholesky_ex(matrix)
            if int(info) == 0 and bool(self._factor.diagonal().isfinite().all()):
                if factor > 1:
                    warn_once(
                        ("ridge",),
                        f"the kernel of the {self._n} images with `reg`={reg:g} is not "
                        f"positive definite to rounding: `reg`={self.reg:g} was used",
                    )
                return
        if not bool(kernel.isfinite().all()):
            raise NotFiniteError(
                "the kernel of the images has values that are NaN or infinite; check "
                "whether the pixels are too large"
            )
        if not bool(mean > 0):
            raise ValueError(
                f"the kernel of the {self._n} images is not positive definite: the "
                f"mean of its diagonal is {float(mean):.3g} and must be positive.  "
                "Either the function is not a valid kernel, or all images are black, "
                "for which the kernels of networks are 0 with `bias_variance`=0"
            )
        raise ValueError(
            f"the kernel of the {self._n} images is not positive definite, even with "
            f"`reg`={self.reg:g} (ten times the given value): some images are "
            "identical or the function is not a valid kernel; in the first case use a "
            "larger `reg`"
        )

    def solve(self, values: Tensor) -> Tensor:
        """Return ``(K + l I)^-1`` times a matrix of shape (n, k)."""
        return torch.cholesky_solve(values, self._factor)

    def pull_back(
        self, coefficients: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return derivatives by targets and kernel from those by the coefficients.

        That the ridge follows the trace of the kernel is part of them; there must have
        been no weights.

        Parameters
        ----------
        coefficients : Tensor of shape (n, n_classes)
        gradient : Tensor of shape (n, n_classes)
            The derivative of a number by the coefficients.

        Returns
        -------
        targets : Tensor of shape (n, n_classes)
        kernel : Tensor of shape (n, n), symmetric
        """
        by_targets = self.solve(gradient)
        by_matrix = -(by_targets @ coefficients.T)
        by_kernel = (by_matrix + by_matrix.T) / 2
        by_kernel.diagonal().add_(self.reg / self._n * by_matrix.trace())
        return by_targets, by_kernel


def least_squares(parts: Iterator[tuple[Tensor, Tensor]], n: int) -> Tensor:
    """Solve a least-squares problem whose rows come in parts.

    Parameters
    ----------
    parts : iterator of pairs of Tensor of shapes (m, n) and (m, n_classes), float64
        Rows of the matrix, and of the right-hand sides.
    n : int

    Returns
    -------
    solution : Tensor of shape (n, n_classes)
        Of the least norm where there are several.
    """
    stacked: Tensor | None = None
    n_rows = 0
    for matrix, values in parts:
        n_rows += len(matrix)
        rows = torch.cat([matrix, values], 1)
        if stacked is not None:
            rows = torch.cat([stacked, rows])
        # The triangle of a QR decomposition has the same solution: normal equations
        # would lose half of the digits.
        stacked = torch.linalg.qr(rows, mode="r")[1]
    if stacked is None:
        raise ValueError("there are no rows to solve")
    matrix, values = stacked[:, :n], stacked[:, n:]
    left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
    smallest = singular[0] * max(n_rows, n) * torch.finfo(matrix.dtype).eps
    inverse = torch.where(singular > smallest, 1 / singular, 0.0)
    return right.T @ (inverse[:, None] * (left.T @ values))
