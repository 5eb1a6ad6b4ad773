"""Matching the distributions of features that teachers make of images (DANCE, NCFM).

References
----------
Zhang et al., "DANCE: Dual-View Distribution Alignment for Dataset Condensation", IJCAI
2024.
Wang et al., "Dataset Distillation with Neural Characteristic Function: A Minmax
Perspective", CVPR 2025.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from skdistill.distillation._engine._objective import Draw, Evaluation
from skdistill.distillation._engine._parameters import SyntheticParameters
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._objectives._feature_matching import (
    FeatureMatching,
    Seen,
)
from skdistill.distillation._objectives._features import (
    Characteristic,
    Distance,
    averages,
    characteristic,
    characteristic_distance,
    cross_entropy,
    gaussian_distance,
    mean_distance,
    through_unit_length,
    to_unit_length,
)
from skdistill.distillation._objectives._networks import NETWORK
from skdistill.neural_network._augment import ClassAugmentations
from skdistill.neural_network._feature_derivatives import Features
from skdistill.neural_network._module_derivatives import Derivatives
from skdistill.trajectory import TrajectoryBuffer
from skdistill.utils._device import to_device
from skdistill.utils._random import torch_generator

DISTANCES = ("characteristic", "mean", "gaussian")

# What else is random of a draw, beside what all feature matching draws.
_FREQUENCIES = 2


class Encoders:
    """Networks between the start and the end of a teacher's training.

    Parameters
    ----------
    buffer : TrajectoryBuffer
        Fitted.
    device : torch.device
    """

    def __init__(self, buffer: TrajectoryBuffer, device: torch.device) -> None:
        self._buffer = buffer
        self._device = device

    def __call__(self, draw: Draw, dtype: torch.dtype) -> tuple[int, Tensor, Tensor]:
        """Return a teacher, a point between its start and its end, and its end."""
        rng = draw.rng(NETWORK)
        epochs = self._buffer.snapshot_epochs_
        teacher = int(rng.integers(self._buffer.n_teachers_))
        start, end = (
            to_device(
                torch.from_numpy(self._buffer.snapshot(teacher, epoch)), self._device
            ).to(dtype)
            for epoch in (epochs[0], epochs[-1])
        )
        return teacher, torch.lerp(start, end, float(rng.random())), end


class FeatureDistributions(FeatureMatching):
    """Distances between distributions of features, seen by teachers (DANCE, NCFM).

    Parameters
    ----------
    data, network
        As for :class:`FeatureMatching`.
    encoders : callable
        Makes of a draw what :class:`Encoders` does.
    batch_size, families
        As for :class:`FeatureMatching`.
    distance : {"characteristic", "mean", "gaussian"}
    n_frequencies : int
        Number of frequencies of the characteristic functions.
    calibration : float
        The weight of the cross-entropy of the synthetic images for a trained network.
    n_networks
        As for :class:`FeatureMatching`.
    teachers : dict
        What a checkpoint belongs to, of the encoders.
    """

    def __init__(
        self,
        data: RealData,
        network: Derivatives,
        encoders: Callable[[Draw, torch.dtype], tuple[int, Tensor, Tensor]],
        *,
        batch_size: int | None,
        families: Sequence[str],
        distance: str,
        n_frequencies: int,
        calibration: float,
        n_networks: int = 1,
        teachers: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            data,
            network,
            batch_size=batch_size,
            families=families,
            n_networks=n_networks,
        )
        self._encoders = encoders
        self._distance = distance
        self._n_frequencies = n_frequencies
        self._calibration = calibration
        self._teachers = teachers or {}
        self.columns = ("loss", "distance", "calibration") if calibration else ("loss",)
        self.notes = ("teacher",)
        self.out_of_memory_hint = (
            "A smaller `batch_size` or teachers of a smaller `width` need less memory."
        )
        if distance == "characteristic":
            self.out_of_memory_hint += "  So do fewer `n_frequencies`."

    def signature(self) -> dict[str, Any]:
        """Return which teachers the encoders are."""
        return self._teachers

    def evaluate(self, synthetic: SyntheticParameters, draw: Draw) -> Evaluation:
        """Return distance and cross-entropy, and their gradient, for one encoder."""
        augmentations = self._augmentations(draw)
        seen = self._see(synthetic, augmentations)
        teacher, parameters, trained = self._encoders(draw, seen.images.dtype)
        features, tapes = self._forward(parameters, seen)
        assert features.embedding is not None
        distance = self._compare(
            features.embedding, seen, parameters, draw, augmentations
        )
        by_seen = self._network.pull_back(
            parameters, seen.images, Features(distance.gradient), tapes=tapes
        )
        loss = distance.values.sum()
        metrics = {"loss": loss}
        if self._calibration:
            del tapes
            found, by_logits = self._calibrate(trained, seen, synthetic.codes)
            by_seen = by_seen + by_logits
            metrics = {
                "loss": loss + self._calibration * found,
                "distance": loss,
                "calibration": found,
            }
        notes = {"teacher": float(teacher)}
        return Evaluation(metrics, {"images": seen.back(by_seen)}, notes)

    def _compare(
        self,
        embedding: Tensor,
        seen: Seen,
        parameters: Tensor,
        draw: Draw,
        augmentations: ClassAugmentations,
    ) -> Distance:
        if self._distance == "mean":
            means = self._real_means(parameters, draw, augmentations)
            return mean_distance(means, embedding, seen.averages)
        unit = to_unit_length(embedding)
        real = (
            (classes, batch, self._unit_features(parameters, batch.images))
            for classes, batch in self._real(draw, augmentations, embedding.dtype)
        )
        if self._distance == "gaussian":
            found = [
                gaussian_distance(
                    features,
                    averages(
                        batch.codes - classes.start, len(batch.sizes), batch.weights
                    ),
                    unit.features,
                    seen.averages[classes],
                )
                for classes, batch, features in real
            ]
            distance = Distance(
                torch.cat([part.values for part in found]),
                torch.stack([part.gradient for part in found]).sum(0),
            )
        else:
            frequencies = self._draw_frequencies(draw, embedding)
            parts = [
                characteristic(
                    features,
                    averages(
                        batch.codes - classes.start, len(batch.sizes), batch.weights
                    ),
                    frequencies,
                )
                for classes, batch, features in real
            ]
            target = Characteristic(*map(torch.cat, zip(*parts, strict=True)))
            distance = characteristic_distance(
                target, unit.features, seen.averages, frequencies
            )
        gradient = through_unit_length(unit, distance.gradient)
        return distance._replace(gradient=gradient)

    def _unit_features(self, parameters: Tensor, images: Tensor) -> Tensor:
        embedding = self._network.features(parameters, images).embedding
        assert embedding is not None
        return to_unit_length(embedding).features

    def _draw_frequencies(self, draw: Draw, embedding: Tensor) -> Tensor:
        generator = torch_generator(draw.child_seed(_FREQUENCIES))
        shape = self._n_frequencies, embedding.shape[1]
        drawn = torch.randn(shape, generator=generator, dtype=embedding.dtype)
        return to_device(drawn, embedding.device)

    def _calibrate(
        self, trained: Tensor, seen: Seen, codes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of a trained network, and what it adds by images."""
        features, tapes = self._forward(trained, seen)
        assert features.logits is not None
        weights = seen.averages.sum(dim=0)
        loss, gradient = cross_entropy(features.logits, codes, weights)
        adjoints = Features(logits=self._calibration * gradient)
        return loss, self._network.pull_back(
            trained, seen.images, adjoints, tapes=tapes
        )
