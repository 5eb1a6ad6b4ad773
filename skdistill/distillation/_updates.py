"""How synthetic images, their labels and the step size follow their gradients.

Tensors are replaced and never changed in place: a state that was taken stays what it
was, which makes going back and storing it simple.
"""

import math

import torch
from torch import Tensor

from skdistill.distillation._objectives._trajectory_distance import MatchGradient

State = dict[str, Tensor]

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

# The most that one iteration changes the step size by, as a factor's logarithm: one
# bad match must not undo a hundred good ones.
MOST_LOG_CHANGE = 0.2

# The part of the logarithm of the best stretch that "auto" follows in one iteration,
# and the most of that logarithm that it believes.
AUTO_STEP_SIZE_PART = 0.1
MOST_LOG_STRETCH = 1.0
BELIEVED_STRETCHES = math.exp(-MOST_LOG_STRETCH), math.exp(MOST_LOG_STRETCH)

# The probability of its own class that a learned label starts with.
FIRST_CONFIDENCE = 0.9


class Descent:
    """Gradient descent with momentum on a tensor.

    The values of all steps are averaged, the later with more weight: each gradient is
    that of one match with one draw of augmentations, and the values walk at random
    about what they would be for the mean of all.

    Parameters
    ----------
    value : Tensor
        What it starts from.
    learning_rate : float or "auto"
        The rate, or "auto": the gradient is divided by its running root mean square
        over all values and the steps are measured in ``unit``.
    unit : float
        The natural scale of the values.

    References
    ----------
    Shamir and Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", ICML
    2013, section 4: averages with polynomial decay.
    """

    def __init__(self, value: Tensor, learning_rate: float | str, unit: float) -> None:
        self._automatic = isinstance(learning_rate, str)
        if isinstance(learning_rate, str):
            learning_rate = AUTO_STEP * unit
        self._rate = learning_rate
        self.value = value
        self._velocity = torch.zeros_like(value)
        self._rms = value.new_zeros(())
        # Of all gradients the mean square is known to this share.
        self._known = value.new_zeros(())
        self.average = value
        self._n_steps = torch.zeros((), dtype=torch.int64)

    def step(self, gradient: Tensor, factor: float) -> None:
        """Make a step, with ``factor`` times the rate."""
        if self._automatic:
            gradient = gradient / self._running_rms(gradient)
        self._velocity = MOMENTUM * self._velocity + gradient
        self.value = self.value - (self._rate * factor) * self._velocity
        self._n_steps = self._n_steps + 1
        weight = (1 + AVERAGE_POWER) / (int(self._n_steps) + AVERAGE_POWER)
        self.average = torch.lerp(self.average, self.value, weight)

    @property
    def learning_rate(self) -> float:
        """The rate of a step whose factor is 1."""
        return float(self._rate)

    def restart_average(self) -> None:
        """Leave what was until now out of the average."""
        self._n_steps = torch.zeros_like(self._n_steps)

    def _running_rms(self, gradient: Tensor) -> Tensor:
        # Squares of a gradient in the unit of its largest value neither vanish nor
        # overflow, and a gradient of exactly 0 stays 0.
        tiny = torch.finfo(gradient.dtype).tiny
        largest = gradient.abs().max().clamp_min(tiny)
        rms = largest * (gradient / largest).square().mean().sqrt()
        self._rms = AUTO_DECAY * self._rms + (1 - AUTO_DECAY) * rms
        self._known = AUTO_DECAY * self._known + (1 - AUTO_DECAY)
        return (self._rms / self._known).clamp_min(tiny)

    def state(self) -> State:
        """Return everything that steps change."""
        return {
            "value": self.value,
            "velocity": self._velocity,
            "rms": self._rms,
            "known": self._known,
            "average": self.average,
            "n_steps": self._n_steps,
        }

    def restore(self, state: State) -> None:
        """Go back to a state."""
        self.value, self._velocity = state["value"], state["velocity"]
        self._rms, self._known = state["rms"], state["known"]
        # The count is read in each step: it stays where that costs nothing.
        self.average, self._n_steps = state["average"], state["n_steps"].cpu()


def enlarge(images: Tensor, pixel_size: int) -> Tensor:
    """Return images of shape (..., height, width) with pixels so many times larger."""
    if pixel_size == 1:
        return images
    return images.repeat_interleave(pixel_size, -1).repeat_interleave(pixel_size, -2)


def block_sums(images: Tensor, pixel_size: int) -> Tensor:
    """Return the sum of each block of pixels: the derivative of :func:`enlarge`."""
    if pixel_size == 1:
        return images
    rows = images.unflatten(-2, (-1, pixel_size)).sum(-2)
    return rows.unflatten(-1, (-1, pixel_size)).sum(-1)


class StepSizes:
    """How the logarithms of step sizes follow the matches.

    Parameters
    ----------
    value : float
        The step size at the start.
    learning_rate : float or "auto"
        The rate of gradient descent with momentum, or "auto": each iteration goes a
        part of the way to the step size with which the student would have come
        closest to its target, had it gone the same way, only farther or less far.
    per_epoch : bool
        Whether each start epoch has its own.
    """

    def __init__(
        self, value: float, learning_rate: float | str, per_epoch: bool
    ) -> None:
        self._logarithms = torch.tensor([math.log(value)], dtype=torch.float64)
        self._velocities = torch.zeros(1, dtype=torch.float64)
        self._rate = learning_rate
        self._per_epoch = per_epoch

    def logarithm(self, epoch: int) -> Tensor:
        """Return the logarithm of the step size of a start epoch."""
        return self._logarithms[self._place(epoch)].to(torch.float32)

    def values(self) -> list[float]:
        """Return all step sizes."""
        return self._logarithms.exp().tolist()

    def step(self, epoch: int, gradient: float, stretch: float, factor: float) -> None:
        """Make a step, with ``factor`` times the rate."""
        place = self._place(epoch)
        velocities, logarithms = self._velocities.clone(), self._logarithms.clone()
        if isinstance(self._rate, str):
            least, most = BELIEVED_STRETCHES
            believed = math.log(max(least, min(most, stretch)))
            logarithms[place] += AUTO_STEP_SIZE_PART * factor * believed
            self._logarithms = logarithms
            return
        velocities[place] = MOMENTUM * velocities[place] + gradient
        # With one more step size each is seen less often (the authors' code).
        change = -self._rate * factor * len(logarithms) * float(velocities[place])
        logarithms[place] += max(-MOST_LOG_CHANGE, min(MOST_LOG_CHANGE, change))
        self._velocities, self._logarithms = velocities, logarithms

    def extend(self, n_epochs: int) -> None:
        """Have one for each of ``n_epochs``, new ones starting from the last."""
        n_more = n_epochs - len(self._logarithms)
        if self._per_epoch and n_more > 0:
            last = self._logarithms[-1:].expand(n_more)
            self._logarithms = torch.cat([self._logarithms, last])
            self._velocities = torch.zeros_like(self._logarithms)

    def shrink(self) -> None:
        """Halve the step sizes and forget the momentum."""
        self._logarithms = self._logarithms - math.log(2.0)
        self._velocities = torch.zeros_like(self._logarithms)

    def state(self) -> State:
        """Return everything that steps change."""
        return {"logarithms": self._logarithms, "velocities": self._velocities}

    def restore(self, state: State) -> None:
        """Go back to a state."""
        self._logarithms = state["logarithms"].cpu()
        self._velocities = state["velocities"].cpu()

    def _place(self, epoch: int) -> int:
        return min(epoch, len(self._logarithms) - 1)


class Learned:
    """Everything that a distillation learns.

    Parameters
    ----------
    images : Descent
    codes : Tensor of shape (n_images,), int64
        The class of each image.
    n_classes : int
    step_sizes : StepSizes
    label_lr : float, "auto" or None
        The rate of the labels; with None they stay the classes.
    pixel_size : int
        How many pixels of real images, down and across, one of the descent's stands
        for.
    """

    def __init__(
        self,
        images: Descent,
        codes: Tensor,
        n_classes: int,
        step_sizes: StepSizes,
        label_lr: float | str | None,
        pixel_size: int = 1,
    ) -> None:
        self._images = images
        self._pixel_size = pixel_size
        self.step_sizes = step_sizes
        self._hard = torch.nn.functional.one_hot(codes, n_classes).to(
            images.value.dtype
        )
        self._logits = None
        if label_lr is not None:
            others = (1 - FIRST_CONFIDENCE) / (n_classes - 1)
            logits = self._hard * math.log(FIRST_CONFIDENCE / others)
            self._logits = Descent(logits, label_lr, 1.0)

    @property
    def images(self) -> Tensor:
        """The synthetic images, as large as real ones."""
        return enlarge(self._images.value, self._pixel_size)

    @property
    def targets(self) -> Tensor:
        """The probability of each class for each image."""
        return self._hard if self._logits is None else self._logits.value.softmax(1)

    def learning_rates(self, factor: float) -> dict[str, float]:
        """Return the rates of a step with a factor, by the names of parameters."""
        rates = {"pixel_lr": self._images.learning_rate * factor}
        if self._logits is not None:
            rates["label_lr"] = self._logits.learning_rate * factor
        return rates

    def restart_averages(self) -> None:
        """Leave what was until now out of the averages: the aim has changed."""
        self._images.restart_average()
        if self._logits is not None:
            self._logits.restart_average()

    def result(self, average: bool) -> tuple[Tensor, Tensor]:
        """Return images and targets, of the last step or averaged over steps."""
        if not average:
            return self.images, self.targets
        targets = self._hard
        if self._logits is not None:
            targets = self._logits.average.softmax(1)
        return enlarge(self._images.average, self._pixel_size), targets

    def step(
        self,
        epoch: int,
        gradient: MatchGradient,
        by_step_size: float,
        stretch: float,
        factor: float,
    ) -> None:
        """Follow the gradient of a match from a start epoch.

        Its derivative by the step size and its stretch are given as numbers too, so
        that they are not transferred from the device once more.
        """
        self._images.step(block_sums(gradient.images, self._pixel_size), factor)
        if self._logits is not None:
            targets = self.targets
            mean = (targets * gradient.targets).sum(dim=1, keepdim=True)
            self._logits.step(targets * (gradient.targets - mean), factor)
        self.step_sizes.step(epoch, by_step_size, stretch, factor)

    def is_finite(self) -> bool:
        """Tell whether images and labels hold numbers alone."""
        # A sum is finite only if all that it adds up is.
        return bool((self._images.value.sum() + self.targets.sum()).isfinite())

    def state(self) -> State:
        """Return everything that steps change."""
        parts: dict[str, Descent | StepSizes] = {
            "images": self._images,
            "step_sizes": self.step_sizes,
        }
        if self._logits is not None:
            parts["logits"] = self._logits
        return {
            f"{name}.{key}": tensor
            for name, part in parts.items()
            for key, tensor in part.state().items()
        }

    def restore(self, state: State) -> None:
        """Go back to a state, from whatever device."""
        device = self._images.value.device

        def part(name: str) -> State:
            length = len(name) + 1
            return {
                key[length:]: tensor.to(device)
                for key, tensor in state.items()
                if key.startswith(f"{name}.")
            }

        self._images.restore(part("images"))
        self.step_sizes.restore(part("step_sizes"))
        if self._logits is not None:
            self._logits.restore(part("logits"))
