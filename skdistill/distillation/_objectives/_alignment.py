"""Layer-wise alignment of features, with networks that learn meanwhile (CAFE).

A network serves for some rounds.  In each the images make a step, and then the network
trains on them until its accuracy on real images has moved; a network whose accuracy
does not move any more from round to round makes room for a new one.

References
----------
Wang et al., "CAFE: Learning to Condense Dataset by Aligning Features", CVPR 2022.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skdistill.distillation._engine._objective import Draw, Evaluation, State
from skdistill.distillation._engine._parameters import SyntheticParameters
from skdistill.distillation._engine._real_batches import RealBatch, RealData
from skdistill.distillation._objectives._feature_matching import FeatureMatching
from skdistill.distillation._objectives._features import discrimination, mean_distance
from skdistill.distillation._objectives._networks import Networks
from skdistill.neural_network._convnet import ConvNet
from skdistill.neural_network._feature_derivatives import Features, mean_of_part
from skdistill.neural_network._module_derivatives import (
    Derivatives,
    ModuleDerivatives,
)
from skdistill.neural_network._sgd import (
    GradientFunction,
    SGDSettings,
    all_at_once,
    descend_epoch,
    modules_one_by_one,
    one_by_one,
    plan_epoch,
)
from skdistill.utils._random import torch_generator
from skdistill.utils._workers import map_pieces

# How many of the last accuracies are watched.
N_WATCHED_VALUES = 10

# The weight of the discrimination loss is that of a sum over this number of real images
# of each class, however many there are.
_DISCRIMINATED_IMAGES = 256

# Number of images whose feature maps, of all blocks, are computed at once.
_MAX_MAPS_BYTES = 2**26

_TRAINING, _WATCHED, _DRAWN = 3, 4, 5


def has_settled(accuracies: Sequence[float], tolerance: float) -> bool:
    """Tell whether the last ten of all accuracies span less than a tolerance."""
    last = accuracies[-N_WATCHED_VALUES:]
    return len(last) == N_WATCHED_VALUES and max(last) - min(last) < tolerance


def has_moved(accuracies: Sequence[float], tolerance: float) -> bool:
    """Tell whether the last ten of all accuracies span more than a tolerance."""
    last = accuracies[-N_WATCHED_VALUES:]
    return len(last) == N_WATCHED_VALUES and max(last) - min(last) > tolerance


@dataclass(frozen=True)
class Rounds:
    """How long a network serves, and how it learns meanwhile.

    Attributes
    ----------
    outer_tolerance, inner_tolerance : float
        A network makes room once its accuracies after ten rounds span less than the
        former; it trains in a round until those after ten epochs span more than the
        latter.
    max_rounds, max_epochs : int
        Maximum number of rounds of a network, and of epochs in a round.
    n_watched : int
        Number of real images whose accuracy is watched.
    learning_rate : float
    batch_size : int
    """

    outer_tolerance: float
    inner_tolerance: float
    max_rounds: int
    max_epochs: int
    n_watched: int
    learning_rate: float
    batch_size: int


class Served(NamedTuple):
    """A network in service.

    Attributes
    ----------
    iteration : int
        That of the draw that it came from.
    parameters : Tensor of shape (n_parameters,)
    accuracies : tuple of float
        On the watched images before each round, the present one included.
    """

    iteration: int
    parameters: Tensor
    accuracies: tuple[float, ...]


class LayerAlignment(FeatureMatching):
    """Distances between means of all layers, and a discrimination loss.

    Parameters
    ----------
    data, network
        As for :class:`FeatureMatching`.
    module : torch.nn.Module
        Only its structure is used.
    networks : Networks
        Where new networks come from.
    batch_size, families
        As for :class:`FeatureMatching`.
    layer_weights : sequence of float
        Of the activations of each block or layer, and of the embedding.
    discrimination : float
        Of the cross-entropy of real images among the means of synthetic ones.
    rounds : Rounds
    n_networks : int, default=1
        As for :class:`FeatureMatching`.
    """

    columns = ("loss", "network_accuracy")
    notes = ("round",)

    def __init__(
        self,
        data: RealData,
        network: Derivatives,
        module: nn.Module,
        networks: Networks,
        *,
        batch_size: int | None,
        families: Sequence[str],
        layer_weights: Sequence[float],
        discrimination: float,
        rounds: Rounds,
        n_networks: int = 1,
    ) -> None:
        super().__init__(
            data,
            network,
            batch_size=batch_size,
            families=families,
            n_networks=n_networks,
        )
        self._networks = networks
        self._layer_weights = tuple(layer_weights)
        self._discrimination = discrimination
        self._rounds = rounds
        # Blocks of no weight are computed, but not compared.
        self._blocks = [
            place for place, weight in enumerate(self._layer_weights[:-1]) if weight
        ]
        self._module = module
        if isinstance(network, ModuleDerivatives):
            largest = sum(network.activation_sizes) + network.n_features
        else:
            assert isinstance(module, ConvNet)
            largest = sum(
                block.height * block.width * block.out_channels
                for block in module.blocks
            )
        self._n_at_once = max(1, _MAX_MAPS_BYTES // (4 * largest))
        # By the place of a draw; None where the next draw says which network it is.
        self._served: tuple[Served | None, ...] = (None,) * n_networks

    def evaluate(self, synthetic: SyntheticParameters, draw: Draw) -> Evaluation:
        """Return the distances of all layers, and their gradient, for one network."""
        served = self._served[draw.place] or self._new(draw, synthetic.images.dtype)
        augmentations = self._augmentations(draw)
        seen = self._see(synthetic, augmentations)
        codes, dtype = synthetic.codes, seen.images.dtype
        parameters = served.parameters
        weights = seen.averages.sum(dim=0)
        means = self._network.mean_features(
            parameters,
            seen.images,
            codes,
            weights,
            n_groups=self._data.n_classes,
            activations=self._blocks,
        )
        assert means.embedding is not None
        real = means.map(torch.zeros_like)
        loss, by_embedding = means.embedding.new_zeros(()), means.embedding * 0.0
        factor = self._discrimination * _DISCRIMINATED_IMAGES
        for _, batch in self._real(draw, augmentations, dtype):
            for first in range(0, len(batch.images), self._n_at_once):
                part = slice(first, first + self._n_at_once)
                found = self._network.features(
                    parameters, batch.images[part], activations=self._blocks
                )
                assert found.embedding is not None
                own, own_weights = batch.codes[part], batch.weights[part]
                present, sums = mean_of_part(found, own, own_weights)
                for rows, more in zip(real.tensors(), sums.tensors(), strict=True):
                    rows[present] += more
                if factor:
                    told, by_means = discrimination(
                        found.embedding, own, own_weights, means.embedding
                    )
                    loss = loss + factor * told
                    by_embedding += factor * by_means
        distance, by_means_of_layers = self._align(real, means)
        loss = loss + distance
        assert by_means_of_layers.embedding is not None
        adjoints = replace(
            by_means_of_layers, embedding=by_means_of_layers.embedding + by_embedding
        )
        by_seen = torch.empty_like(seen.images)
        for first in range(0, len(codes), self._n_at_once):
            part = slice(first, first + self._n_at_once)
            own, share = codes[part], weights[part]
            by_seen[part] = self._network.pull_back(
                parameters,
                seen.images[part],
                adjoints.map(lambda rows: _of_images(rows, own, share)),  # noqa: B023
            )
        metrics = {
            "loss": loss,
            "network_accuracy": loss.new_tensor(served.accuracies[-1]),
        }
        notes = {"round": float(len(served.accuracies) - 1)}
        return Evaluation(metrics, {"images": seen.back(by_seen)}, notes)

    def _align(self, real: Features, means: Features) -> tuple[Tensor, Features]:
        """Return the distance of all layers, and its gradient by the means."""
        assert means.embedding is not None
        assert real.embedding is not None
        same = torch.eye(self._data.n_classes).to(means.embedding)

        def compare(own: Tensor, other: Tensor, weight: float) -> tuple[Tensor, Tensor]:
            found = mean_distance(other.flatten(1), own.flatten(1), same)
            return weight * found.values.sum(), weight * found.gradient.view_as(own)

        loss, by_embedding = compare(
            means.embedding, real.embedding, self._layer_weights[-1]
        )
        by_blocks = {}
        for place in self._blocks:
            more, by_blocks[place] = compare(
                means.activations[place],
                real.activations[place],
                self._layer_weights[place],
            )
            loss = loss + more
        return loss, Features(by_embedding, activations=by_blocks)

    def advance(
        self, synthetic: SyntheticParameters, numbers: Mapping[str, float], draw: Draw
    ) -> str:
        """Train the networks on the images, or take new ones."""
        images, labels = synthetic.images, synthetic.labels

        def advance(place: int) -> Served | None:
            own = replace(draw, place=place)
            served = self._served[place] or self._new(own, images.dtype)
            if len(served.accuracies) >= self._rounds.max_rounds or has_settled(
                served.accuracies, self._rounds.outer_tolerance
            ):
                return None
            return self._train(served, images, labels, own)

        self._served = tuple(map_pieces(advance, range(self.n_draws)))
        return ""

    def rolled_back(self, synthetic: SyntheticParameters, n_times: int) -> None:
        """Take new networks: it may be these that were not finite."""
        self._served = (None,) * self.n_draws

    def _new(self, draw: Draw, dtype: torch.dtype) -> Served:
        parameters = self._networks(draw)[0].to(dtype)
        served = Served(draw.iteration, parameters, ())
        accuracy = self._accuracy(parameters, self._watched(served, draw))
        return served._replace(accuracies=(accuracy,))

    def _watched(self, served: Served, draw: Draw) -> RealBatch:
        """Return real images: the same as long as a network serves.

        Accuracies on the same images differ by what the network has learned alone.
        """
        draw = replace(draw, iteration=served.iteration)
        n_per_class = -(-self._rounds.n_watched // self._data.n_classes)
        dtype = served.parameters.dtype
        return self._data.batch(draw, n_per_class, key=_WATCHED, dtype=dtype)

    def _accuracy(self, parameters: Tensor, watched: RealBatch) -> float:
        logits = self._network.features(parameters, watched.images).logits
        assert logits is not None
        is_right = logits.argmax(dim=1) == watched.codes
        return float((is_right * watched.weights).sum() / self._data.n_classes)

    def _train(
        self, served: Served, images: Tensor, labels: Tensor, draw: Draw
    ) -> Served:
        """Train a network on the images until its accuracy has moved."""
        rounds = self._rounds
        watched = self._watched(served, draw)
        generator = torch_generator(draw.child_seed(_TRAINING))
        descent = SGDSettings(
            rounds.learning_rate,
            momentum=0.0,
            weight_decay=0.0,
            batch_size=rounds.batch_size,
            scale=self._data.pixel_scale,
        )
        gradients = self._gradients(draw)
        parameters = served.parameters[None].clone()
        # So few epochs end for their number, and watching is most of their cost.
        is_watched = rounds.max_epochs > N_WATCHED_VALUES
        accuracies: list[float] = []
        for _ in range(rounds.max_epochs):
            if has_moved(accuracies, rounds.inner_tolerance):
                break
            plan = plan_epoch(len(images), rounds.batch_size, self._families, generator)
            descend_epoch(gradients, parameters, None, images, labels, [plan], descent)
            if is_watched:
                accuracies.append(self._accuracy(parameters[0], watched))
        if not is_watched:
            accuracies.append(self._accuracy(parameters[0], watched))
        return served._replace(
            parameters=parameters[0],
            accuracies=(*served.accuracies, accuracies[-1]),
        )

    def _gradients(self, draw: Draw) -> GradientFunction:
        """Return what differentiates a network in training, step by step."""
        if isinstance(self._network, ModuleDerivatives):
            return modules_one_by_one(self._network, [draw.child_seed(_DRAWN)])
        assert isinstance(self._module, ConvNet)
        is_cpu = self._data.device.type == "cpu"
        return (one_by_one if is_cpu else all_at_once)(self._module)

    def state(self) -> State:
        """Return the networks in service."""
        served = [one for one in self._served if one is not None]
        state = {
            "n_rounds": torch.tensor(
                [0 if one is None else len(one.accuracies) for one in self._served]
            ),
            "iterations": torch.tensor(
                [one.iteration for one in served], dtype=torch.int64
            ),
            "accuracies": torch.tensor(
                [value for one in served for value in one.accuracies],
                dtype=torch.float64,
            ),
        }
        if served:
            state["networks"] = torch.stack([one.parameters for one in served])
        return state

    def restore(self, state: State) -> None:
        """Take on networks in service."""
        sizes, iterations = state["n_rounds"].tolist(), state["iterations"].tolist()
        networks = state.get("networks", torch.empty(0, self._network.n_parameters))
        served = [size for size in sizes if size]
        if len(sizes) != self.n_draws or networks.shape != (
            len(served),
            self._network.n_parameters,
        ):
            raise ValueError("it holds networks with a different architecture")
        if min(sizes) < 0 or max(sizes) > self._rounds.max_rounds:
            raise ValueError("its networks are at rounds that do not exist")
        found = [
            Served(iteration, one.to(self._data.device), tuple(part.tolist()))
            for iteration, one, part in zip(
                iterations, networks, state["accuracies"].split(served), strict=True
            )
        ]
        rest = iter(found)
        self._served = tuple(next(rest) if size else None for size in sizes)


def _of_images(by_means: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
    """Turn gradients by means of classes into those by what they are means of."""
    shape = (-1, *[1] * (by_means.ndim - 1))
    return by_means[codes] * weights.view(shape)
