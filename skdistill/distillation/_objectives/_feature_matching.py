"""Matching the features that networks make of synthetic and of real images.

Features of real images are a constant: they are computed some classes at a time, and
never kept where means are all that is wanted.  All synthetic images pass through the
network together; the gradient of their features is pulled back to the pixels without
one by the parameters.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skdistill.distillation._engine._objective import Draw, Evaluation, Objective
from skdistill.distillation._engine._parameters import SyntheticParameters
from skdistill.distillation._engine._real_batches import RealBatch, RealData
from skdistill.distillation._objectives._features import (
    averages,
    equal_weights,
    mean_distance,
)
from skdistill.distillation._objectives._networks import Networks
from skdistill.neural_network._augment import (
    ClassAugmentations,
    draw_class_augmentations,
    with_pull_back,
)
from skdistill.neural_network._feature_derivatives import Features
from skdistill.neural_network._module_derivatives import Derivatives
from skdistill.utils._random import torch_generator

# Real images are read some classes at a time: as many as take no more than this.
_MAX_READ_BYTES = 2**26

# While what the synthetic images leave for the backward pass takes no more, it is kept.
_MAX_KEPT_BYTES = 2**29

# The gradient of a batch is, on average, that of all real images of the class: its size
# decides on noise alone.  Networks are the other noise; the best size, that of most
# signal per second, grows with the square root of the number of synthetic images, whose
# time it has to be worth.  On CIFAR-10 and galaxies of five classes, at a width of 128,
# it is 8 or less with one image per class; with ten it is 20 at the start and 60 after
# 200 iterations (benchmarks/feature_matching.py).
_AUTO_BATCH = 16

# What else is random of a draw, beside real images and network.
_AUGMENTATION = 1


def resolve_batch_size(batch_size: int | str | None, ipc: int) -> int | None:
    """Return the number of real images of each class that a parameter stands for.

    Parameters
    ----------
    batch_size : int, "auto" or None
    ipc : int
        Number of synthetic images per class.

    Returns
    -------
    n_per_class : int or None
        None means all.
    """
    if batch_size == "auto":
        return round(_AUTO_BATCH * math.sqrt(ipc))
    return None if batch_size is None else int(batch_size)


class Seen(NamedTuple):
    """Synthetic images as a network sees them.

    Attributes
    ----------
    images : Tensor of shape (n_images, channels, height, width)
        Augmented.
    back : callable
        Turns a gradient by the augmented images into one by what they were.
    averages : Tensor of shape (n_classes, n_images)
    """

    images: Tensor
    back: Callable[[Tensor], Tensor]
    averages: Tensor


class FeatureMatching(Objective):
    """What objectives have in common that match features of a class.

    Parameters
    ----------
    data : RealData
    network : ConvNetDerivatives or ModuleDerivatives
    batch_size : int or None
        Number of real images of each class in an evaluation; None means all.
    families : sequence of str
        Families of augmentation, of which one is drawn for each class.
    n_networks : int
        Number of networks whose gradients are averaged in an iteration.
    """

    out_of_memory_hint = "A smaller `batch_size` or `width` needs less memory."

    def __init__(
        self,
        data: RealData,
        network: Derivatives,
        *,
        batch_size: int | None,
        families: Sequence[str],
        n_networks: int,
    ) -> None:
        self._data = data
        self._network = network
        self._batch_size = batch_size
        self._families = tuple(families)
        self.n_draws = n_networks

    def _augmentations(self, draw: Draw) -> ClassAugmentations:
        generator = torch_generator(draw.child_seed(_AUGMENTATION))
        return draw_class_augmentations(self._families, self._data.n_classes, generator)

    def _real(
        self, draw: Draw, augmentations: ClassAugmentations, dtype: torch.dtype
    ) -> Iterator[tuple[slice, RealBatch]]:
        """Give augmented real images, some classes that follow each other at a time."""
        data = self._data
        height, width, n_channels = data.image_shape
        most = _MAX_READ_BYTES // (height * width * n_channels * dtype.itemsize)
        first = 0
        for batch in data.batches(draw, self._batch_size, most, dtype=dtype):
            classes = slice(first, first + len(batch.sizes))
            images = augmentations(batch.images, batch.codes, data.pixel_scale)
            yield classes, batch._replace(images=images)
            first = classes.stop

    def _see(
        self, synthetic: SyntheticParameters, augmentations: ClassAugmentations
    ) -> Seen:
        """Return the synthetic images as the network sees them."""
        codes, n_classes = synthetic.codes, self._data.n_classes
        scale = self._data.pixel_scale
        images, back = with_pull_back(
            lambda leaf: augmentations(leaf, codes, scale), synthetic.images
        )
        weights = equal_weights(codes, n_classes, images.dtype)
        return Seen(images, back, averages(codes, n_classes, weights))

    def _real_means(
        self, parameters: Tensor, draw: Draw, augmentations: ClassAugmentations
    ) -> Tensor:
        """Return the mean embedding of each class's real images."""
        means = []
        for classes, batch in self._real(draw, augmentations, parameters.dtype):
            found = self._network.mean_features(
                parameters,
                batch.images,
                batch.codes - classes.start,
                batch.weights,
                n_groups=len(batch.sizes),
            ).embedding
            assert found is not None
            means.append(found)
        return torch.cat(means)

    def _forward(
        self, parameters: Tensor, seen: Seen
    ) -> tuple[Features, list[Any] | None]:
        """Return features, and what is kept for the backward pass if it is little."""
        images = seen.images
        needed = self._network.feature_tape_bytes(len(images), images.dtype)
        tapes: list[Any] | None = [] if needed <= _MAX_KEPT_BYTES else None
        return self._network.features(parameters, images, tapes=tapes), tapes


class FeatureMeans(FeatureMatching):
    """Distances between mean features of classes (DM).

    Parameters
    ----------
    data, network
        As for :class:`FeatureMatching`.
    networks : Networks
        Where the networks come from.
    batch_size, families, n_networks
        As for :class:`FeatureMatching`.
    n_steps_per_network : int
        Number of iterations in a row with the same networks, real images and
        augmentations.
    """

    def __init__(
        self,
        data: RealData,
        network: Derivatives,
        networks: Networks,
        *,
        batch_size: int | None,
        families: Sequence[str],
        n_networks: int = 1,
        n_steps_per_network: int = 1,
    ) -> None:
        super().__init__(
            data,
            network,
            batch_size=batch_size,
            families=families,
            n_networks=n_networks,
        )
        self._networks = networks
        self._n_steps = n_steps_per_network
        # By the place of a draw: the draw, its network, and the means of real images.
        self._kept: dict[int, tuple[Draw, Tensor, Tensor]] = {}

    def evaluate(self, synthetic: SyntheticParameters, draw: Draw) -> Evaluation:
        """Return the distance between means, and its gradient, for one network."""
        # Iterations in a row that make the same draw.
        draw = replace(draw, iteration=draw.iteration // self._n_steps)
        augmentations = self._augmentations(draw)
        parameters, means = self._target(draw, augmentations, synthetic.images.dtype)
        seen = self._see(synthetic, augmentations)
        features, tapes = self._forward(parameters, seen)
        assert features.embedding is not None
        distance = mean_distance(means, features.embedding, seen.averages)
        by_seen = self._network.pull_back(
            parameters, seen.images, Features(distance.gradient), tapes=tapes
        )
        return Evaluation(
            {"loss": distance.values.sum()}, {"images": seen.back(by_seen)}
        )

    def _target(
        self, draw: Draw, augmentations: ClassAugmentations, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return a network, and the means of what it makes of real images."""
        kept = self._kept.get(draw.place)
        # It follows from the draw alone: to keep it saves time and changes nothing.
        if kept is not None and kept[0] == draw:
            return kept[1], kept[2]
        parameters = self._networks(draw)[0].to(dtype)
        means = self._real_means(parameters, draw, augmentations)
        if self._n_steps > 1:
            self._kept[draw.place] = draw, parameters, means
        return parameters, means
