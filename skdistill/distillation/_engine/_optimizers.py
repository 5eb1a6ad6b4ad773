"""How a tensor follows its gradient: SGD, normalized SGD and Adam, with averaging.

Tensors are replaced and never changed in place: a state that was taken stays what it
was, which makes rolling back and storing it simple.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from skdistill.distillation._engine._objective import State

MOMENTUM = 0.5

# Steps with a learning rate of "auto", in units of the deviation of the pixels or of
# the logits of labels.  With steps several times larger the matching loss falls
# faster, but into noise: networks trained on the images score less.
AUTO_STEP = 0.02
# Memory of the running root mean square that "auto" divides by.
AUTO_DECAY = 0.9

# How much the later of all steps count in their average: with weights proportional to
# the number of the step to this power its age is on average a quarter of the run's.
AVERAGE_POWER = 2.0


class Optimizer(ABC):
    """A tensor that follows its gradient, and the average of where it has been.

    The values of all steps are averaged, the later with more weight: each gradient is
    that of one draw, and the values walk at random about what they would be for the
    mean of all.

    Parameters
    ----------
    value : Tensor
        What it starts from.
    learning_rate : float

    References
    ----------
    Shamir and Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", ICML
    2013, section 4: averages with polynomial decay.
    """

    def __init__(self, value: Tensor, learning_rate: float) -> None:
        self.value = value
        self.learning_rate = float(learning_rate)
        self.average = value
        self._n_steps = torch.zeros((), dtype=torch.int64)

    @abstractmethod
    def _change(self, gradient: Tensor) -> Tensor:
        """Return what a step with a learning rate of 1 subtracts."""

    def step(self, gradient: Tensor, factor: float) -> None:
        """Make a step, with ``factor`` times the learning rate."""
        self.value = self.value - (self.learning_rate * factor) * self._change(gradient)
        self._n_steps = self._n_steps + 1
        weight = (1 + AVERAGE_POWER) / (int(self._n_steps) + AVERAGE_POWER)
        self.average = torch.lerp(self.average, self.value, weight)

    def restart_average(self) -> None:
        """Leave what was until now out of the average."""
        self._n_steps = torch.zeros_like(self._n_steps)

    def state(self) -> State:
        """Return everything that steps change."""
        return {
            "value": self.value,
            "average": self.average,
            "n_steps": self._n_steps,
        }

    def restore(self, state: State) -> None:
        """Take on a state."""
        self.value, self.average = state["value"], state["average"]
        # The count is read in each step: it stays where that costs nothing.
        self._n_steps = state["n_steps"].cpu()


class SGD(Optimizer):
    """Gradient descent with momentum.

    Parameters
    ----------
    value : Tensor
        What it starts from.
    learning_rate : float or "auto"
        With "auto" the gradient is divided by its running root mean square over all
        values, and steps are measured in ``unit``: normalized SGD.
    unit : float
        The natural scale of the values.
    auto_step : float
        The learning rate that "auto" means, in units of ``unit``.
    momentum : float
    """

    def __init__(
        self,
        value: Tensor,
        learning_rate: float | str,
        unit: float,
        *,
        auto_step: float = AUTO_STEP,
        momentum: float = MOMENTUM,
    ) -> None:
        self._is_normalized = isinstance(learning_rate, str)
        if isinstance(learning_rate, str):
            learning_rate = auto_step * unit
        super().__init__(value, learning_rate)
        self._momentum = momentum
        self._buffer = torch.zeros_like(value)
        self._rms = value.new_zeros(())
        # A running mean from 0 has this share of the weight of a full one.
        self._bias_correction = value.new_zeros(())

    def _change(self, gradient: Tensor) -> Tensor:
        if self._is_normalized:
            gradient = gradient / self._running_rms(gradient)
        self._buffer = self._momentum * self._buffer + gradient
        return self._buffer

    def _running_rms(self, gradient: Tensor) -> Tensor:
        # Squares of a gradient in the unit of its largest value neither vanish nor
        # overflow, and a gradient of exactly 0 stays 0.
        tiny = torch.finfo(gradient.dtype).tiny
        largest = gradient.abs().max().clamp_min(tiny)
        rms = largest * (gradient / largest).square().mean().sqrt()
        self._rms = AUTO_DECAY * self._rms + (1 - AUTO_DECAY) * rms
        self._bias_correction = AUTO_DECAY * self._bias_correction + (1 - AUTO_DECAY)
        return (self._rms / self._bias_correction).clamp_min(tiny)

    def state(self) -> State:
        return super().state() | {
            "momentum_buffer": self._buffer,
            "rms": self._rms,
            "bias_correction": self._bias_correction,
        }

    def restore(self, state: State) -> None:
        super().restore(state)
        self._buffer = state["momentum_buffer"]
        self._rms, self._bias_correction = state["rms"], state["bias_correction"]


class Adam(Optimizer):
    """Adam (Kingma and Ba, ICLR 2015, algorithm 1).

    Parameters
    ----------
    value : Tensor
        What it starts from.
    learning_rate : float or "auto"
        The step size, "auto" that in units of ``unit``.
    unit : float
        The natural scale of the values.
    auto_step : float
        The learning rate that "auto" means, in units of ``unit``.
    betas : tuple of float
        Decay of the running means of the gradient and of its square.
    """

    _EPSILON = 1e-8

    def __init__(
        self,
        value: Tensor,
        learning_rate: float | str,
        unit: float,
        *,
        auto_step: float = AUTO_STEP,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        if isinstance(learning_rate, str):
            learning_rate = auto_step * unit
        super().__init__(value, learning_rate)
        self._betas = betas
        self._first = torch.zeros_like(value)
        self._second = torch.zeros_like(value)
        # Unlike the number of steps of the average this one is never restarted.
        self._age = torch.zeros((), dtype=torch.int64)

    def _change(self, gradient: Tensor) -> Tensor:
        one, two = self._betas
        self._first = one * self._first + (1 - one) * gradient
        self._second = two * self._second + (1 - two) * gradient.square()
        self._age = self._age + 1
        age = int(self._age)
        first = self._first / (1 - one**age)
        second = self._second / (1 - two**age)
        return first / (second.sqrt() + self._EPSILON)

    def state(self) -> State:
        return super().state() | {
            "first_moment": self._first,
            "second_moment": self._second,
            "age": self._age,
        }

    def restore(self, state: State) -> None:
        super().restore(state)
        self._first, self._second = state["first_moment"], state["second_moment"]
        self._age = state["age"].cpu()
