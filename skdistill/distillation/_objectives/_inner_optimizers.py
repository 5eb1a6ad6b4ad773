"""How a student follows its gradient, and how derivatives come back through that.

An inner optimizer makes of the parameters theta_i and the gradient g_i of step i

    theta_{i+1} = theta_i - alpha d_i,

where d_i depends on g_i and on what the optimizer remembers.  With a_i = dL/dtheta_i
the backward pass needs of it the direction u_i for which

    a_i = a_{i+1} - alpha d<u_i, g_i>/dtheta_i,

and likewise for all else that g_i depends on.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

# What an optimizer remembers from step to step.
Memory = tuple[Tensor, ...]


class Kept(NamedTuple):
    """What the backward pass of Adam reads of one step.

    Attributes
    ----------
    gradient : Tensor of shape (n_parameters,)
        Weight decay included.
    first, second : Tensor of shape (n_parameters,)
        The moments after the step.
    number : int
        Of the step, counted from 1.
    """

    gradient: Tensor
    first: Tensor
    second: Tensor
    number: int


class BackwardPass(ABC):
    """Comes back through the steps of an optimizer, from the last to the first."""

    @abstractmethod
    def direction(
        self, adjoint: Tensor, kept: Kept | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the direction u_i, and <a_{i+1}, d_i> where that is not <u_i, d_i>.

        Parameters
        ----------
        adjoint : Tensor of shape (n_parameters,)
            a_{i+1}, the derivative of the loss by the parameters after the step.
        kept : Kept or None
            What the step left.
        """

    def remainder(self, memory: Memory) -> Tensor | None:
        """Return what the first step's memory adds to the sum of <a_{i+1}, d_i>."""
        return None


class InnerOptimizer(ABC):
    """An optimizer of the student.

    Parameters
    ----------
    weight_decay : float, default=0.0
        The parameters, multiplied by it, are added to the gradient.

    Attributes
    ----------
    is_trained : Tensor of shape (n_parameters,), bool, or None
        Which parameters have weight decay; None means all.
    """

    is_trained: Tensor | None = None

    def __init__(self, weight_decay: float = 0.0) -> None:
        self.weight_decay = weight_decay

    def decaying(self, parameters: Tensor) -> Tensor:
        """Return the parameters, with 0 in place of those without weight decay."""
        return parameters if self.is_trained is None else parameters * self.is_trained

    def decayed(self, parameters: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient with weight decay."""
        if self.weight_decay:
            return gradient.add(self.decaying(parameters), alpha=self.weight_decay)
        return gradient

    @abstractmethod
    def step(
        self,
        parameters: Tensor,
        gradient: Tensor,
        step_size: Tensor,
        memory: Memory,
        number: int,
    ) -> tuple[Tensor, Memory, Kept | None]:
        """Make a step; nothing that is given is changed.

        Parameters
        ----------
        parameters, gradient : Tensor of shape (n_parameters,)
        step_size : Tensor, scalar
        memory : tuple of Tensor
            What the last step returned, empty before the first.
        number : int
            Of the step, counted from 1.

        Returns
        -------
        parameters : Tensor of shape (n_parameters,)
        memory : tuple of Tensor
        kept : Kept or None
            What the backward pass reads beside the parameters before the step.
        """

    @abstractmethod
    def backward_pass(self) -> BackwardPass:
        """Return a new backward pass."""


class InnerSGD(InnerOptimizer):
    """Gradient descent, with momentum and weight decay as in PyTorch.

    The backward pass needs nothing but the parameters before each step: with v_i the
    momentum buffer, sum_i <a_{i+1}, v_{i+1}> = sum_i <u_i, g_i> + mu <u_0, v_0>.

    Parameters
    ----------
    momentum : float, default=0.0
    weight_decay : float, default=0.0
    """

    def __init__(self, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(weight_decay)
        self.momentum = momentum

    def step(
        self,
        parameters: Tensor,
        gradient: Tensor,
        step_size: Tensor,
        memory: Memory,
        number: int,
    ) -> tuple[Tensor, Memory, Kept | None]:
        update = self.decayed(parameters, gradient)
        if self.momentum:
            if memory:
                update = torch.add(update, memory[0], alpha=self.momentum)
            memory = (update,)
        return torch.addcmul(parameters, update, step_size, value=-1), memory, None

    def backward_pass(self) -> BackwardPass:
        return _BackwardSGD(self.momentum)


class _BackwardSGD(BackwardPass):
    def __init__(self, momentum: float) -> None:
        self._momentum = momentum
        self._adjoint: Tensor | None = None  # of the momentum buffer

    def direction(
        self, adjoint: Tensor, kept: Kept | None
    ) -> tuple[Tensor, Tensor | None]:
        if not self._momentum:
            return adjoint, None
        if self._adjoint is not None:
            adjoint = torch.add(adjoint, self._adjoint, alpha=self._momentum)
        self._adjoint = adjoint
        return adjoint, None

    def remainder(self, memory: Memory) -> Tensor | None:
        if not memory or self._adjoint is None:
            return None
        return self._momentum * (self._adjoint @ memory[0])


class InnerAdam(InnerOptimizer):
    """Adam (Kingma and Ba, ICLR 2015, algorithm 1).

    Where the second moment is 0 its square root has no derivative; 0 is used for it,
    since the gradient is 0 there too.

    Parameters
    ----------
    betas : tuple of float, default=(0.9, 0.999)
    epsilon : float, default=1e-8
    weight_decay : float, default=0.0
    """

    def __init__(
        self,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(weight_decay)
        self.betas = betas
        self.epsilon = epsilon

    def step(
        self,
        parameters: Tensor,
        gradient: Tensor,
        step_size: Tensor,
        memory: Memory,
        number: int,
    ) -> tuple[Tensor, Memory, Kept | None]:
        one, two = self.betas
        gradient = self.decayed(parameters, gradient)
        if memory:
            first = torch.lerp(gradient, memory[0], one)
            second = (two * memory[1]).addcmul_(gradient, gradient, value=1 - two)
        else:
            first = (1 - one) * gradient
            second = (1 - two) * gradient.square()
        kept = Kept(gradient, first, second, number)
        update, _, _ = self.update(kept)
        parameters = torch.addcmul(parameters, update, step_size, value=-1)
        return parameters, (first, second), kept

    def update(self, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
        """Return d_i, the root of the second moment and what d_i is divided by."""
        one, two = self.betas
        root = (kept.second / (1 - two**kept.number)).sqrt_()
        divisor = root + self.epsilon
        return kept.first / (1 - one**kept.number) / divisor, root, divisor

    def backward_pass(self) -> BackwardPass:
        return _BackwardAdam(self)


class _BackwardAdam(BackwardPass):
    """With p and q the derivatives by the two moments, in units of -alpha.

    One step back, with c and C the bias corrections, s the root and D the divisor:

        p += a / (c D),    q -= a d / (2 C D s),
        u  = (1 - beta_1) p + 2 (1 - beta_2) q g,
        p *= beta_1,       q *= beta_2.
    """

    def __init__(self, optimizer: InnerAdam) -> None:
        self._optimizer = optimizer
        self._first: Tensor | None = None
        self._second: Tensor | None = None

    def direction(
        self, adjoint: Tensor, kept: Kept | None
    ) -> tuple[Tensor, Tensor | None]:
        assert kept is not None
        one, two = self._optimizer.betas
        update, root, divisor = self._optimizer.update(kept)
        along = adjoint @ update
        scaled = adjoint / divisor
        by_root = update.mul_(scaled).div_(root.mul_(2 * (1 - two**kept.number)))
        by_root.masked_fill_(root == 0, 0.0)
        by_first = scaled.div_(1 - one**kept.number)
        if self._first is not None and self._second is not None:
            by_first.add_(self._first, alpha=one)
            by_root = torch.sub(two * self._second, by_root)
        else:
            by_root.neg_()
        self._first, self._second = by_first, by_root
        direction = torch.addcmul(
            (1 - one) * by_first, by_root, kept.gradient, value=2 * (1 - two)
        )
        return direction, along
