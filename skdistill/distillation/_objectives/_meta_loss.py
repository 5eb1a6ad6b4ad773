"""The loss on real images of a network that was trained on the synthetic ones.

References
----------
Wang, Zhu, Torralba and Efros, "Dataset Distillation", 2018, algorithm 1.
Feng et al., "Embarrassingly Simple Dataset Distillation", ICLR 2024: random windows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skdistill.distillation._engine._objective import (
    Draw,
    Evaluation,
    Extra,
    Objective,
    State,
)
from skdistill.distillation._engine._parameters import SyntheticParameters, one_hot
from skdistill.distillation._engine._real_batches import RealBatch, RealData
from skdistill.distillation._objectives._inner_optimizers import (
    InnerOptimizer,
    InnerSGD,
)
from skdistill.distillation._objectives._networks import Networks
from skdistill.distillation._objectives._student_lr import LearnedStepSize
from skdistill.distillation._objectives._unrolled import (
    backpropagate,
    plan_steps,
    unroll,
)
from skdistill.neural_network._augment import augment, draw_augmentation
from skdistill.neural_network._module_derivatives import Derivatives
from skdistill.utils._device import to_device
from skdistill.utils._random import torch_generator

# What else is random of a draw, beside real images and network.
_REAL_AUGMENTATION, _WINDOW = 1, 2

# Memory of the running mean of gradient norms that a gradient is clipped by.
_NORM_DECAY = 0.9


class RealLoss(NamedTuple):
    """How a network does on real images.

    Attributes
    ----------
    loss : Tensor, scalar
        The mean of the classes' mean cross-entropy.
    accuracy : Tensor, scalar
        The mean of the classes' accuracy.
    gradient : Tensor of shape (n_parameters,)
        Of the loss.
    """

    loss: Tensor
    accuracy: Tensor
    gradient: Tensor


def real_loss(
    network: Derivatives, parameters: Tensor, batch: RealBatch, n_classes: int
) -> RealLoss:
    """Return the loss of a network on real images, and its gradient.

    The images go through in micro-batches, so that their number takes no memory but
    their own.

    Parameters
    ----------
    network : ConvNetDerivatives or ModuleDerivatives
    parameters : Tensor of shape (n_parameters,)
    batch : RealBatch
        Images of all classes.
    n_classes : int

    Returns
    -------
    RealLoss
    """
    dtype = batch.images.dtype
    weights = batch.weights[:, None] / n_classes
    targets = one_hot(batch.codes, n_classes, dtype) * weights
    logits: list[Tensor] = []
    # It is a mean over images, in which each of these counts by its weight.
    # Nothing is dropped out of a network that is judged.
    judged: dict[str, Any] = {"training": False} if network.is_random else {}
    gradient = network.gradient(
        parameters, batch.images, targets * len(batch.images), logits=logits, **judged
    )
    scores = torch.cat(logits)
    is_right = scores.argmax(dim=1, keepdim=True) == batch.codes[:, None]
    return RealLoss(
        -(targets * scores.log_softmax(dim=1)).sum(),
        (is_right * weights).sum(),
        gradient,
    )


class MetaLoss(Objective):
    """Loss on real images of a network trained on the synthetic ones.

    A network as it is initialized makes K + M steps on the synthetic images, and
    the loss is that on a batch of real images.  Derivatives are of the last M steps,
    the window; what the K steps before it made of the network is taken as given.

    Parameters
    ----------
    data : RealData
    derivatives : ConvNetDerivatives or ModuleDerivatives
    networks : Networks
    optimizer : InnerOptimizer
        Of the steps.
    step_size : LearnedStepSize
        Of the steps.
    n_steps : int
        The most steps that a network makes.
    window : int
        M, at most ``n_steps``.
    position : {"random", "last", "first"}
        K is drawn from 0, ..., n_steps - M; is the last of these; or is 0.
    batch_size : int or None
        Synthetic images per step, None means all.
    n_real : int or None
        Number of real images of each class in the loss; None means all.
    families : sequence of str
        Families of augmentation, for synthetic and real images.
    clip : float or None
        The most that the norm of the gradient by the images may be, as a multiple of
        its running mean; None means any.
    keep : bool
        Whether to keep the activations of the window's steps.
    n_networks : int
        Number of networks whose gradients are averaged.
    """

    notes = ("window_start",)
    out_of_memory_hint = (
        "A smaller `window`, `batch_size`, `n_real` or `width` needs less memory, and "
        "so does an optimizer of 'sgd'."
    )

    def __init__(
        self,
        data: RealData,
        derivatives: Derivatives,
        networks: Networks,
        *,
        optimizer: InnerOptimizer,
        step_size: LearnedStepSize,
        n_steps: int,
        window: int,
        position: str,
        batch_size: int | None,
        n_real: int | None,
        families: Sequence[str],
        clip: float | None,
        keep: bool = False,
        n_networks: int = 1,
    ) -> None:
        self.n_draws = n_networks
        self.columns = ("loss", "network_accuracy", "step_size")
        self._data = data
        self._derivatives = derivatives
        self._networks = networks
        self._optimizer = optimizer
        self.step_size = step_size
        self._window = window
        self._n_free = n_steps - window
        self._position = position
        self._batch_size = batch_size
        self._n_real = n_real
        self._families = tuple(families)
        self._clip = clip
        self._keep = keep
        # The running mean of the gradient's norm.
        self._norm: Tensor | None = None

    def extras(self) -> dict[str, Extra]:
        """Return the step size, if it is learned."""
        return {"step_size": self.step_size} if self.step_size.learning_rate else {}

    def evaluate(self, synthetic: SyntheticParameters, draw: Draw) -> Evaluation:
        """Return the loss and its gradients for one network."""
        images, labels = synthetic.images, synthetic.labels
        n_before = self._n_before(draw)
        start, _ = self._networks(draw)
        logarithm = self.step_size.logarithm.to(images.dtype)
        student = unroll(
            self._derivatives,
            start.to(images.dtype),
            images,
            labels,
            logarithm,
            plan_steps(
                n_before + self._window,
                len(images),
                batch_size=self._batch_size,
                families=self._families,
                generator=draw.generator(),
                is_random=self._derivatives.is_random,
                device=images.device,
            ),
            window=self._window,
            optimizer=self._optimizer,
            scale=self._data.pixel_scale,
            keep=self._keep,
        )
        found = real_loss(
            self._derivatives,
            student.parameters,
            self._real_batch(draw, images.dtype),
            self._data.n_classes,
        )
        by = backpropagate(student, found.gradient)
        by_images = self._clipped(by.images)
        gradients = {"images": by_images}
        if synthetic.learns_labels:
            gradients["labels"] = by.targets
        metrics = {
            "loss": found.loss,
            "network_accuracy": found.accuracy,
            "step_size": to_device(logarithm.exp(), images.device),
            "by_step_size": by.log_step_size,
            "gradient_norm": by_images.norm(),
        }
        return Evaluation(metrics, gradients, {"window_start": float(n_before)})

    def advance(
        self, synthetic: SyntheticParameters, numbers: Mapping[str, float], draw: Draw
    ) -> str:
        """Take note of the norm of the gradient."""
        norm = torch.tensor(numbers["gradient_norm"], dtype=torch.float64)
        if self._norm is not None:
            norm = _NORM_DECAY * self._norm + (1 - _NORM_DECAY) * norm
        self._norm = norm
        return ""

    def rolled_back(self, synthetic: SyntheticParameters, n_times: int) -> None:
        """Have smaller steps: it may be these that were too large."""
        for _ in range(n_times):
            self.step_size.shrink()

    def state(self) -> State:
        """Return the running mean of the gradient's norm."""
        return {} if self._norm is None else {"gradient_norm": self._norm}

    def restore(self, state: State) -> None:
        """Take on a running mean."""
        norm = state.get("gradient_norm")
        if norm is not None:
            norm = norm.cpu().to(torch.float64)
            if norm.shape != () or not 0 <= float(norm) < torch.inf:
                raise ValueError("it does not hold a gradient norm")
        self._norm = norm

    def student_learning_rate(self) -> float | None:
        """Return the step size where it is that of gradient descent."""
        is_sgd = isinstance(self._optimizer, InnerSGD)
        return self.step_size.value if is_sgd else None

    def progress(self, numbers: Mapping[str, float]) -> dict[str, str]:
        """Return what a progress bar shows of an iteration."""
        return {
            **super().progress(numbers),
            "network_accuracy": f"{numbers['network_accuracy']:.2f}",
        }

    def _n_before(self, draw: Draw) -> int:
        if self._position == "first":
            return 0
        if self._position == "last":
            return self._n_free
        return int(draw.rng(_WINDOW).integers(self._n_free + 1))

    def _real_batch(self, draw: Draw, dtype: torch.dtype) -> RealBatch:
        batch = self._data.batch(draw, self._n_real, dtype=dtype)
        augmentation = draw_augmentation(
            self._families,
            len(batch.images),
            torch_generator(draw.child_seed(_REAL_AUGMENTATION)),
        )
        seen = augment(batch.images, augmentation, self._data.pixel_scale)
        return batch._replace(images=seen)

    def _clipped(self, gradient: Tensor) -> Tensor:
        """Return a gradient that is no outlier: training may amplify anything."""
        if self._clip is None or not self._norm:
            return gradient
        norm = gradient.norm()
        bound = to_device(self._norm.to(norm.dtype), norm.device) * self._clip
        return gradient * (bound / norm.clamp_min(bound))
