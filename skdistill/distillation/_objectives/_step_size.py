"""A step size of the student that follows its gradient."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from skdistill.distillation._engine._objective import State
from skdistill.distillation._engine._optimizers import MOMENTUM

# The most that one iteration changes the step size by, as a factor's logarithm: one
# bad gradient must not undo a hundred good ones.
MAX_LOG_CHANGE = 0.2


class LearnedStepSize:
    """The logarithm of a step size under gradient descent with momentum.

    Parameters
    ----------
    value : float
        The step size at the start.
    learning_rate : float
        Of the logarithm; 0 leaves it as it is.
    metric : str, default="by_step_size"
        The metric of an evaluation that is the gradient by the logarithm.
    """

    def __init__(
        self, value: float, learning_rate: float, metric: str = "by_step_size"
    ) -> None:
        self._logarithm = torch.tensor(math.log(value), dtype=torch.float64)
        self._buffer = torch.zeros_like(self._logarithm)
        self._metric = metric
        self.learning_rate = float(learning_rate)

    @property
    def logarithm(self) -> Tensor:
        """The natural logarithm of the step size, a scalar of 64 bits."""
        return self._logarithm

    @property
    def value(self) -> float:
        """The step size."""
        return float(self._logarithm.exp())

    def step(self, metrics: Mapping[str, float], factor: float) -> None:
        """Make a step, with ``factor`` times the learning rate."""
        if not self.learning_rate:
            return
        self._buffer = MOMENTUM * self._buffer + metrics[self._metric]
        change = self.learning_rate * factor * self._buffer
        self._logarithm = self._logarithm - change.clamp(
            -MAX_LOG_CHANGE, MAX_LOG_CHANGE
        )

    def state(self) -> State:
        """Return everything that steps change."""
        return {"logarithm": self._logarithm, "momentum_buffer": self._buffer}

    def restore(self, state: State) -> None:
        """Take on a state."""
        self._logarithm = state["logarithm"].cpu()
        self._buffer = state["momentum_buffer"].cpu()
