"""The step size of a student, learned with the images that it is trained on."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from skdistill.distillation._engine._objective import State
from skdistill.distillation._engine._optimizers import MOMENTUM

# How far one iteration changes the step size at most, as a factor's logarithm: one
# bad match must not undo a hundred good ones.
MAX_LOG_CHANGE = 0.2

# The part of the logarithm of the best stretch that "auto" follows in one iteration,
# and how much of that logarithm it believes.
AUTO_STEP_SIZE_PART = 0.1
MAX_LOG_STRETCH = 1.0
BELIEVED_STRETCHES = math.exp(-MAX_LOG_STRETCH), math.exp(MAX_LOG_STRETCH)


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

    def shrink(self) -> None:
        """Halve the step size and forget the momentum, if it is learned."""
        if self.learning_rate:
            self._logarithm = self._logarithm - math.log(2.0)
            self._buffer = torch.zeros_like(self._buffer)

    def state(self) -> State:
        """Return everything that steps change."""
        return {"logarithm": self._logarithm, "momentum_buffer": self._buffer}

    def restore(self, state: State) -> None:
        """Take on a state."""
        self._logarithm = state["logarithm"].cpu()
        self._buffer = state["momentum_buffer"].cpu()


class StepSizes:
    """How the logarithms of step sizes follow the matches.

    Parameters
    ----------
    value : float
        The step size at the start.
    learning_rate : float or "auto"
        That of gradient descent with momentum, or "auto": each iteration goes a
        part of the way to the step size with which the student would have come
        closest to its target, had it gone the same way, only farther or less far.
    per_epoch : bool
        Whether each start epoch has its own.
    """

    def __init__(
        self, value: float, learning_rate: float | str, per_epoch: bool
    ) -> None:
        self._logarithms = torch.tensor([math.log(value)], dtype=torch.float64)
        self._buffers = torch.zeros(1, dtype=torch.float64)
        self._learning_rate = learning_rate
        self._per_epoch = per_epoch

    def logarithm(self, epoch: int) -> Tensor:
        """Return the logarithm of the step size of a start epoch."""
        return self._logarithms[self._place(epoch)].to(torch.float32)

    def values(self) -> list[float]:
        """Return all step sizes."""
        return self._logarithms.exp().tolist()

    def step(self, metrics: Mapping[str, float], factor: float) -> None:
        """Make a step, with ``factor`` times the learning rate.

        Parameters
        ----------
        metrics : dict of float
            ``start_epoch``, and of the match that started there ``stretch`` and
            ``by_step_size``, the derivative of its loss by the logarithm.
        factor : float
        """
        place = self._place(int(metrics["start_epoch"]))
        buffers, logarithms = self._buffers.clone(), self._logarithms.clone()
        if isinstance(self._learning_rate, str):
            low, high = BELIEVED_STRETCHES
            believed = math.log(max(low, min(high, metrics["stretch"])))
            logarithms[place] += AUTO_STEP_SIZE_PART * factor * believed
            self._logarithms = logarithms
            return
        buffers[place] = MOMENTUM * buffers[place] + metrics["by_step_size"]
        # With one more step size each is seen less often (the authors' code).
        change = -self._learning_rate * factor * len(logarithms) * float(buffers[place])
        logarithms[place] += max(-MAX_LOG_CHANGE, min(MAX_LOG_CHANGE, change))
        self._buffers, self._logarithms = buffers, logarithms

    def extend(self, n_epochs: int) -> None:
        """Have one for each of ``n_epochs``, new ones starting from the last."""
        n_more = n_epochs - len(self._logarithms)
        if self._per_epoch and n_more > 0:
            last = self._logarithms[-1:].expand(n_more)
            self._logarithms = torch.cat([self._logarithms, last])
            self._buffers = torch.zeros_like(self._logarithms)

    def shrink(self) -> None:
        """Halve the step sizes and forget the momentum."""
        self._logarithms = self._logarithms - math.log(2.0)
        self._buffers = torch.zeros_like(self._logarithms)

    def state(self) -> State:
        """Return everything that steps change."""
        return {"logarithms": self._logarithms, "momentum_buffers": self._buffers}

    def restore(self, state: State) -> None:
        """Take on a state."""
        self._logarithms = state["logarithms"].cpu()
        self._buffers = state["momentum_buffers"].cpu()

    def _place(self, epoch: int) -> int:
        return min(epoch, len(self._logarithms) - 1)
