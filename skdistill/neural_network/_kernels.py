"""Kernels of images in closed form, and their derivatives; no network is drawn.

The kernels of infinitely wide ReLU networks, in the parametrization of the neural
tangent kernel: with n numbers to an image, weight variance w and bias variance b, a
fully connected network starts from ``k = w <x, z> / n + b`` and ``t = k``.  Each hidden
layer, where p and q are what k is for x with x and for z with z, makes ::

    s = sqrt(p q - k^2)                 angle = atan2(s, k)
    d = 1/2 - angle / (2 pi)            r = s / (2 pi) + d k
    k <- w r + b                        t <- k + w d t

At the end k is the NNGP kernel, the covariance of random networks, and t the NTK, by
which networks learn under gradient descent with small steps (Jacot et al., NeurIPS
2018; Cho and Saul, NeurIPS 2009, for r and d).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skdistill.utils._memory import is_out_of_memory

PullBack = Callable[[Tensor], Tensor]

# Of the sine of an angle, squared: what is smaller is rounding of equal images.  There
# the NTK has a cusp, and 0 is the derivative that symmetry asks for.
_EQUAL = 64 * torch.finfo(torch.float64).eps

_NOT_DIFFERENTIABLE = (
    "`kernel` must use differentiable PyTorch operations if images are learned; its "
    "result has no gradient with respect to the images (functions of NumPy and "
    "scikit-learn, and `detach`, break the graph)"
)


class Kernel(ABC):
    """A symmetric positive semidefinite function of pairs of images."""

    @abstractmethod
    def with_pull_back(self, x: Tensor, z: Tensor | None) -> tuple[Tensor, PullBack]:
        """Return the kernel of all pairs, and the backward pass from it to ``x``.

        Parameters
        ----------
        x : Tensor of shape (n, n_features), float64
        z : Tensor of shape (m, n_features), float64, or None
            None stands for ``x``.

        Returns
        -------
        values : Tensor of shape (n, m)
        pull_back : callable
            Turns the derivative of a number by ``values`` into that by ``x``, the first
            argument alone.  Where ``z`` is ``x`` and the derivative by ``values`` is
            symmetric, the derivative by the images is twice that.
        """

    @abstractmethod
    def diagonal(self, x: Tensor) -> Tensor:
        """Return the kernel of each image with itself, of shape (n,)."""

    def __call__(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Return the kernel of all pairs."""
        return self.with_pull_back(x, z)[0]


class _Layer(NamedTuple):
    """What the backward pass through a hidden layer needs of the forward pass."""

    k: Tensor
    t: Tensor
    s: Tensor
    d: Tensor
    p: Tensor


@dataclass(frozen=True)
class NetworkKernel(Kernel):
    """Kernel of an infinitely wide, fully connected ReLU network.

    Parameters
    ----------
    tangent : bool
        Whether it is the NTK rather than the NNGP.
    depth : int
        Number of hidden layers.  With 0 both are those of a linear function.
    weight_variance : float
    bias_variance : float
    """

    tangent: bool
    depth: int
    weight_variance: float
    bias_variance: float

    def _inputs(self, x: Tensor) -> Tensor:
        # No square of every number is stored.
        squares = torch.einsum("ij,ij->i", x, x)
        return self.weight_variance / x.shape[1] * squares + self.bias_variance

    def _hidden(self, diagonal: Tensor) -> Tensor:
        # An image has the angle 0 with itself.
        return self.weight_variance / 2 * diagonal + self.bias_variance

    def diagonal(self, x: Tensor) -> Tensor:
        k = t = self._inputs(x)
        for _ in range(self.depth):
            k = self._hidden(k)
            t = k + self.weight_variance / 2 * t
        return t if self.tangent else k

    def __call__(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        return self._forward(x, z, None)

    def with_pull_back(self, x: Tensor, z: Tensor | None) -> tuple[Tensor, PullBack]:
        layers: list[_Layer] = []
        values = self._forward(x, z, layers)
        other = x if z is None else z

        def pull_back(gradient: Tensor) -> Tensor:
            return self._backward(gradient, x, other, layers)

        return values, pull_back

    def _forward(
        self, x: Tensor, z: Tensor | None, layers: list[_Layer] | None
    ) -> Tensor:
        other = x if z is None else z
        p, q = self._inputs(x), self._inputs(other)
        k = self.weight_variance / x.shape[1] * (x @ other.T) + self.bias_variance
        if z is None:
            # To the last digit: their angle is 0.
            k.diagonal().copy_(p)
        t = k
        for _ in range(self.depth):
            # In place where it can be: the time is that of memory.
            pq = p[:, None] * q
            squared = torch.addcmul(pq, k, k, value=-1)
            is_equal = squared <= pq.mul_(_EQUAL)
            s = squared.masked_fill_(is_equal, 0.0).sqrt_()
            d = torch.atan2(s, k).mul_(-1 / (2 * math.pi)).add_(0.5)
            if layers is not None:
                layers.append(_Layer(k, t, s, d, p))
            k = (d * k).add_(s, alpha=1 / (2 * math.pi))
            k.mul_(self.weight_variance).add_(self.bias_variance)
            if self.tangent:
                t = torch.addcmul(k, d, t, value=self.weight_variance)
            p, q = self._hidden(p), self._hidden(q)
        return t if self.tangent else k

    def _backward(
        self, gradient: Tensor, x: Tensor, other: Tensor, layers: list[_Layer]
    ) -> Tensor:
        weight = self.weight_variance
        by_k = None if self.tangent else gradient
        by_t = gradient if self.tangent else None
        by_p = x.new_zeros(len(x))
        for k, t, s, d, p in reversed(layers):
            # dr/dk is d, and dr/dp is s / (4 pi p).
            by_r = weight * _sum(by_k, by_t)
            by_k = by_r * d
            through_p = by_r.mul_(s)
            if by_t is not None:
                # Of the angle: -1/s by k, and k / (2 p s) by p.
                by_angle = (by_t * t).div_(s).mul_(weight / (2 * math.pi))
                by_angle.masked_fill_(s == 0, 0.0)
                by_k += by_angle
                through_p.addcmul_(by_angle, k, value=-2 * math.pi)
                by_t = (by_t * d).mul_(weight)
            # An image of zeros without bias: by symmetry, as for equal images.
            per_p = torch.where(p > 0, through_p.sum(1) / (4 * math.pi * p), 0.0)
            by_p = weight / 2 * by_p + per_p
        scale = weight / x.shape[1]
        return scale * (_sum(by_k, by_t) @ other + 2 * by_p[:, None] * x)


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor:
    """Return the sum of what there is."""
    if one is None or other is None:
        found = other if one is None else one
        assert found is not None
        return found
    return one + other


@dataclass(frozen=True)
class CallableKernel(Kernel):
    """A kernel of the user's.

    Parameters
    ----------
    function : callable
        Of two tensors or, if it makes no tensor of them, arrays, with a row per image.
    """

    function: Callable[[Any, Any], Any]

    def __call__(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        other = x if z is None else z
        return self._checked(self._called(x, other), x, other)

    def with_pull_back(self, x: Tensor, z: Tensor | None) -> tuple[Tensor, PullBack]:
        leaf = x.detach().requires_grad_()
        # As the first argument alone: see `pull_back` of Kernel.
        other = x.detach() if z is None else z
        try:
            with torch.enable_grad():
                values = self._checked(self._called(leaf, other), x, other)
        except ValueError as error:
            if "numpy()" not in str(error):
                raise
            raise ValueError(_NOT_DIFFERENTIABLE) from error
        if not values.requires_grad:
            raise ValueError(_NOT_DIFFERENTIABLE)

        def pull_back(gradient: Tensor) -> Tensor:
            return torch.autograd.grad(values, leaf, gradient)[0]

        return values.detach(), pull_back

    def diagonal(self, x: Tensor) -> Tensor:
        return torch.cat([self(row[None])[0] for row in x])

    def _called(self, x: Tensor, z: Tensor) -> Any:
        """Return what the function makes, a tensor or an array of numbers."""
        try:
            values = self.function(x, z)
            if isinstance(values, Tensor):
                return values
            return np.asarray(values, np.float64)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ValueError(
                "`kernel` must be a function of two tensors, here of shapes "
                f"{tuple(x.shape)} and {tuple(z.shape)}, that returns numbers; it "
                f"raised {type(error).__name__}: {error}"
            ) from error

    def _checked(self, values: Any, x: Tensor, z: Tensor) -> Tensor:
        if not isinstance(values, Tensor):
            values = torch.from_numpy(values).to(x.device)
        if values.shape != (len(x), len(z)):
            raise ValueError(
                "`kernel` must return a number for each pair of images, here of shape "
                f"{(len(x), len(z))}; got shape {tuple(values.shape)}"
            )
        if not bool(values.detach().isfinite().all()):
            raise ValueError("`kernel` returned values that are NaN or infinite")
        return values.to(x.dtype)


def resolve_kernel(
    kernel: Any, *, depth: int, weight_variance: float, bias_variance: float
) -> Kernel:
    """Return the kernel that parameters of estimators name.

    Parameters
    ----------
    kernel : {"ntk", "nngp", "linear"} or callable
    depth : int
        Number of hidden layers; not used by the last two.
    weight_variance : float
    bias_variance : float
    """
    if callable(kernel):
        return CallableKernel(kernel)
    return NetworkKernel(
        tangent=kernel == "ntk",
        depth=0 if kernel == "linear" else depth,
        weight_variance=float(weight_variance),
        bias_variance=float(bias_variance),
    )


def as_rows(images: Tensor) -> Tensor:
    """Return images (n, channels, height, width) as rows, in the order of 2-D X."""
    return images.permute(0, 2, 3, 1).flatten(1)


def as_channels_first(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return rows as images of a shape (channels, height, width)."""
    channels, height, width = shape
    return rows.view(-1, height, width, channels).permute(0, 3, 1, 2).contiguous()
