"""How the synthetic images and the step size follow their gradients."""

import math

import torch
from torch import Tensor

MOMENTUM = 0.5

# Steps of the pixels in units of their standard deviation, with pixel_lr="auto".  With
# steps several times larger the matching loss falls faster, but into noise: networks
# trained on the images score less.
AUTO_PIXEL_STEP = 0.02
# Memory of the running root mean square that "auto" divides by.
AUTO_DECAY = 0.9

# The most that one iteration changes the step size by, as a factor's logarithm: one
# bad match must not undo a hundred good ones.
MOST_LOG_CHANGE = 0.2


class PixelUpdate:
    """Gradient descent with momentum on the pixels.

    Parameters
    ----------
    learning_rate : float or "auto"
        The rate, or "auto": the gradient is divided by its running root mean square
        over all pixels and the steps are measured in ``scale``.
    scale : float
        Standard deviation of the real pixels.
    """

    def __init__(self, learning_rate: float | str, scale: float) -> None:
        self._automatic = isinstance(learning_rate, str)
        if isinstance(learning_rate, str):
            learning_rate = AUTO_PIXEL_STEP * scale
        self._rate = learning_rate
        self._velocity: Tensor | None = None
        self._rms: Tensor | None = None
        self._n_updates = 0

    def __call__(self, images: Tensor, gradient: Tensor) -> Tensor:
        """Return the images after a step."""
        if self._automatic:
            gradient = gradient / self._running_rms(gradient)
        if self._velocity is None:
            self._velocity = torch.zeros_like(gradient)
        self._velocity = MOMENTUM * self._velocity + gradient
        return images - self._rate * self._velocity

    def _running_rms(self, gradient: Tensor) -> Tensor:
        # Squares of a gradient in the unit of its largest value neither vanish nor
        # overflow, and a gradient of exactly 0 stays 0.
        largest = gradient.abs().max().clamp_min(torch.finfo(gradient.dtype).tiny)
        rms = largest * (gradient / largest).square().mean().sqrt()
        if self._rms is None:
            self._rms = torch.zeros_like(rms)
        self._rms = AUTO_DECAY * self._rms + (1 - AUTO_DECAY) * rms
        self._n_updates += 1
        unbiased = self._rms / (1 - AUTO_DECAY**self._n_updates)
        return unbiased.clamp_min(torch.finfo(gradient.dtype).tiny)


class StepSizeUpdate:
    """Gradient descent with momentum on the logarithm of the step size.

    Parameters
    ----------
    value : float
        The step size at the start.
    learning_rate : float
        The rate.
    """

    def __init__(self, value: float, learning_rate: float) -> None:
        self.logarithm = torch.tensor(math.log(value), dtype=torch.float32)
        self._rate = learning_rate
        self._velocity = 0.0

    @property
    def value(self) -> float:
        """The step size."""
        return float(self.logarithm.exp())

    def __call__(self, gradient: Tensor) -> None:
        """Make a step against a gradient with respect to the logarithm."""
        self._velocity = MOMENTUM * self._velocity + float(gradient)
        change = -self._rate * self._velocity
        self.logarithm += max(-MOST_LOG_CHANGE, min(MOST_LOG_CHANGE, change))

    def shrink(self) -> None:
        """Halve the step size and forget the momentum."""
        self.logarithm -= math.log(2.0)
        self._velocity = 0.0
