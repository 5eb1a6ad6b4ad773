"""The objective of FRePo and RFAD: a regression on what networks make of images."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from skdistill.distillation._engine._objective import (
    Draw,
    Evaluation,
    Extra,
    Objective,
    State,
)
from skdistill.distillation._engine._optimizers import Adam
from skdistill.distillation._engine._parameters import SyntheticParameters
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._objectives._feature_regression import (
    RealFeatures,
    margin_loss,
    regression_loss,
)
from skdistill.distillation._objectives._kernel_ridge import centered
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.neural_network._feature_derivatives import Features
from skdistill.neural_network._module_derivatives import ModuleDerivatives
from skdistill.neural_network._pool import NetworkPool

# While what the synthetic images leave for the backward pass takes no more, it is kept.
_MAX_KEPT_BYTES = 2**29
# Maximum size in bytes of the features of real images that are computed at once.
_MAX_FEATURE_BYTES = 2**27


class Temperature:
    """The temperature that predictions are divided by, learned by Adam.

    Parameters
    ----------
    learning_rate : float
        Of its logarithm.
    """

    def __init__(self, learning_rate: float) -> None:
        self._log_scale = Adam(torch.zeros(()), learning_rate, 1.0)

    @property
    def log_scale(self) -> Tensor:
        """The logarithm of what predictions are multiplied by."""
        return self._log_scale.value

    @property
    def value(self) -> float:
        """The temperature."""
        return float((-self.log_scale).exp())

    def step(self, metrics: Mapping[str, float], factor: float) -> None:
        """Make a step, with ``factor`` times the learning rate."""
        gradient = torch.full_like(self.log_scale, metrics["by_log_scale"])
        self._log_scale.step(gradient, factor)

    def state(self) -> State:
        """Return everything that steps change."""
        return self._log_scale.state()

    def restore(self, state: State) -> None:
        """Take on a state."""
        self._log_scale.restore({name: one.cpu() for name, one in state.items()})


class NetworkRegression(Objective):
    """The loss on real images of a regression on features of the synthetic ones.

    In each iteration one network of a pool makes the features, and learns from the
    synthetic images afterwards; or several do together, and are all drawn again.

    Parameters
    ----------
    data : RealData
    derivatives : ConvNetDerivatives or ModuleDerivatives
        With a squared loss.
    pool : NetworkPool
    n_joined : int or None
        The number of networks that make features together: with n draws the pool has
        n times as many, and all of them are drawn again after each iteration.  None
        means one of the pool for each draw.
    reg : float
        The ridge, in units of the mean squared length of the features.
    temperature : Temperature or None
        With it the loss is the cross-entropy of predictions divided by it; without it
        the squared distance from the classes.
    n_real : int or None
        Number of real images of each class; None means all.
    mirror : bool
        Whether each image also enters mirrored.
    learns_labels : bool
        Whether the labels are regression targets, not one-hot rows.
    n_draws : int
        Number of draws whose gradients are averaged.
    """

    out_of_memory_hint = (
        "A smaller `n_real`, `n_networks` or `width` needs less memory."
    )

    def __init__(
        self,
        data: RealData,
        derivatives: ConvNetDerivatives | ModuleDerivatives,
        pool: NetworkPool,
        *,
        n_joined: int | None,
        reg: float,
        temperature: Temperature | None,
        n_real: int | None,
        mirror: bool,
        learns_labels: bool,
        n_draws: int = 1,
    ) -> None:
        self.n_draws = n_draws
        self.columns = ("loss", "network_accuracy")
        if temperature is not None:
            self.columns += ("temperature",)
        if n_joined is None:
            self.notes = ("n_network_steps",)
        self._data = data
        self._derivatives = derivatives
        self._pool = pool
        self._n_joined = n_joined
        self._reg = reg
        self.temperature = temperature
        self._n_real = n_real
        self._mirror = mirror
        self._learns_labels = learns_labels
        # Apple's GPUs have no float64, in which the regression is computed.
        on_mps = data.device.type == "mps"
        self._device = torch.device("cpu") if on_mps else data.device

    def extras(self) -> dict[str, Extra]:
        """Return the temperature, if there is one."""
        return {} if self.temperature is None else {"temperature": self.temperature}

    def evaluate(self, synthetic: SyntheticParameters, draw: Draw) -> Evaluation:
        """Return the loss and its gradients for the networks of a draw."""
        images, targets = self._seen(synthetic)
        places = self._places(draw)
        networks = [self._pool[place].parameters.to(images.dtype) for place in places]
        needed = self._derivatives.feature_tape_bytes(len(images), images.dtype)
        keep = len(networks) * needed <= _MAX_KEPT_BYTES
        tapes: list[list[Any] | None] = [[] if keep else None for _ in networks]
        made = [
            self._derivatives.features(network, images, tapes=tape).embedding
            for network, tape in zip(networks, tapes, strict=True)
        ]
        features = self._joined(made)
        notes = {"n_network_steps": float(self._pool[places[0]].n_steps)}
        if not bool(features.isfinite().all()):
            # The engine goes back to images that were good.
            return self._nothing(synthetic, notes)
        log_scale = None
        if self.temperature is not None:
            log_scale = self.temperature.log_scale.to(self._device).double()
        found = regression_loss(
            features,
            targets.to(self._device).double(),
            self._real(networks, draw, images.dtype, features.shape[1]),
            self._reg,
            log_scale,
        )
        loss = found.loss
        by_features = found.features.to(images).split(self._derivatives.n_features, 1)
        by_images = torch.zeros_like(images)
        for network, tape, adjoint in zip(networks, tapes, by_features, strict=True):
            by_images += self._derivatives.pull_back(
                network, images, Features(embedding=adjoint.contiguous()), tapes=tape
            )
        gradients = {"images": self._folded(by_images)}
        if self._learns_labels:
            n = len(synthetic.codes)
            by_targets = found.targets.unflatten(0, (-1, n)).sum(0)
            margin, by_margin = margin_loss(targets[:n])
            loss = loss + margin
            gradients["labels"] = by_targets.to(images) + by_margin
        # Weights of float32 sum to 1 but for rounding.
        metrics = {"loss": loss, "network_accuracy": found.accuracy.clamp_max(1)}
        if log_scale is not None:
            metrics["temperature"] = (-log_scale).exp()
            metrics["by_log_scale"] = found.log_scale
        return Evaluation(metrics, gradients, notes)

    def advance(
        self, synthetic: SyntheticParameters, numbers: Mapping[str, float], draw: Draw
    ) -> str:
        """Train the networks of the iteration on the images, or draw others."""
        places: Sequence[int] = range(len(self._pool))
        if self._n_joined is None:
            draws = [
                Draw(draw.seed, draw.iteration, place) for place in range(self.n_draws)
            ]
            places = [self._places(one)[0] for one in draws]
        self._pool.train(places, *self._seen(synthetic))
        return ""

    def rolled_back(self, synthetic: SyntheticParameters, n_times: int) -> None:
        """Draw all networks again: they have learned from images that were wrong."""
        for place in range(len(self._pool)):
            self._pool.renew(place)

    def targets(self, images: Tensor, labels: Tensor) -> Tensor | None:
        """Return the labels where they are regression targets."""
        return labels if self._learns_labels else None

    def state(self) -> State:
        """Return the networks of the pool."""
        return self._pool.state()

    def restore(self, state: State) -> None:
        """Take on networks."""
        self._pool.restore(state)

    def progress(self, numbers: Mapping[str, float]) -> dict[str, str]:
        """Return what a progress bar shows of an iteration."""
        return {
            **super().progress(numbers),
            "network_accuracy": f"{numbers['network_accuracy']:.2f}",
        }

    def _places(self, draw: Draw) -> Sequence[int]:
        """Return which networks of the pool serve a draw."""
        if self._n_joined is None:
            return [self._pool.choose(draw.iteration, draw.place)]
        first = draw.place * self._n_joined
        return range(first, first + self._n_joined)

    def _seen(self, synthetic: SyntheticParameters) -> tuple[Tensor, Tensor]:
        """Return images and regression targets as the networks see them."""
        images, targets = synthetic.images, synthetic.labels
        if not self._learns_labels:
            targets = centered(targets)
        if not self._mirror:
            return images, targets
        return torch.cat([images, images.flip(3)]), torch.cat([targets, targets])

    def _folded(self, gradient: Tensor) -> Tensor:
        """Return the gradient by images of that by images as they are seen."""
        if not self._mirror:
            return gradient
        first, mirrored = gradient.chunk(2)
        return first + mirrored.flip(3)

    def _joined(self, features: Sequence[Tensor | None]) -> Tensor:
        """Put what several networks make of images side by side."""
        found = [one for one in features if one is not None]
        return torch.cat(found, 1).to(self._device).double()

    def _real(
        self,
        networks: Sequence[Tensor],
        draw: Draw,
        dtype: torch.dtype,
        n_features: int,
    ) -> Iterator[RealFeatures]:
        n_at_once = _MAX_FEATURE_BYTES // (8 * n_features)
        for batch in self._data.batches(draw, self._n_real, n_at_once, dtype=dtype):
            made = [
                self._derivatives.features(network, batch.images).embedding
                for network in networks
            ]
            weights = batch.weights.to(self._device).double() / self._data.n_classes
            yield RealFeatures(
                self._joined(made), batch.codes.to(self._device), weights
            )

    def _nothing(
        self, synthetic: SyntheticParameters, notes: dict[str, float]
    ) -> Evaluation:
        """Return an evaluation without numbers."""
        nan = torch.tensor(torch.nan, dtype=torch.float64)
        names = ["loss", "network_accuracy"]
        if self.temperature is not None:
            names += ["temperature", "by_log_scale"]
        gradients = {"images": torch.zeros_like(synthetic.images)}
        if self._learns_labels:
            gradients["labels"] = torch.zeros_like(synthetic.labels)
        return Evaluation(dict.fromkeys(names, nan), gradients, notes)
