"""The objective of gradient matching: networks, real images, inner loop.

References
----------
Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021,
algorithm 1.
Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML
2021.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skdistill.distillation._engine._objective import (
    Draw,
    Evaluation,
    Objective,
    State,
)
from skdistill.distillation._engine._parameters import SyntheticParameters, one_hot
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._objectives._gradients import (
    match_gradient,
    matched_parts,
)
from skdistill.distillation._objectives._networks import Networks
from skdistill.neural_network._augment import (
    ClassAugmentations,
    draw_class_augmentations,
)
from skdistill.neural_network._convnet import ConvNet
from skdistill.neural_network._derivatives import ConvNetDerivatives
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

# What else is random of a draw, beside real images and network.
_AUGMENTATION, _TRAINING, _DRAWN = 1, 2, 3


@dataclass(frozen=True)
class Training:
    """How networks learn from the synthetic images between updates of these.

    Attributes
    ----------
    n_rounds : int
        Number of updates of the images for which a network is used.
    n_epochs : int
        Passes over the synthetic images after each of them but the last.
    learning_rate : float
    batch_size : int
    """

    n_rounds: int
    n_epochs: int
    learning_rate: float
    batch_size: int


class GradientMatching(Objective):
    """Distance between gradients from synthetic and from real images.

    The sum over classes c of D(g(theta; A_c S_c), g(theta; A_c R_c)), where R_c are
    real images of the class, S_c all synthetic ones, and A_c is one augmentation
    with one set of parameters for all of them.

    Parameters
    ----------
    data : RealData
    module : torch.nn.Module
        Only its structure is used.
    networks : Networks
    training : Training or None
        None draws new networks in each iteration, and trains none.
    distance : {"cosine", "squared", "absolute"}
    matched : {"weights", "kernels", "all"}
    batch_size : int or None
        Number of real images of each class; None means all.
    families : sequence of str
        Families of augmentation, one of which is drawn for each class.
    n_networks : int
        Number of networks whose gradients are averaged.
    derivatives : ConvNetDerivatives or ModuleDerivatives, default=None
        Of the module; None makes those of a ConvNet.
    """

    out_of_memory_hint = "A smaller `batch_size` or `width` needs less memory."

    def __init__(
        self,
        data: RealData,
        module: nn.Module,
        networks: Networks,
        *,
        training: Training | None,
        distance: str,
        matched: str,
        batch_size: int | None,
        families: Sequence[str],
        n_networks: int = 1,
        derivatives: Derivatives | None = None,
    ) -> None:
        self.n_draws = n_networks
        self.columns = ("loss", "network_accuracy")
        self.notes = networks.notes if training is None else ("round",)
        self._data = data
        self._networks = networks
        self._training = training
        self._distance = distance
        self._batch_size = batch_size
        self._families = tuple(families)
        self._parts = matched_parts(module, matched)
        self._is_cpu = data.device.type == "cpu"
        self._module = module
        if derivatives is None:
            assert isinstance(module, ConvNet)
            derivatives = ConvNetDerivatives(module)
        self._derivatives = derivatives
        # How many updates the present networks have served for, and what they have
        # become; in their first round they are what the draw says.
        self._round = 0
        self._trained: Tensor | None = None

    def evaluate(self, synthetic: SyntheticParameters, draw: Draw) -> Evaluation:
        """Return the distance and its gradient for one network."""
        images, labels = synthetic.images, synthetic.labels
        network, notes = self._network(draw, images.dtype)
        gradient = torch.zeros_like(images)

        augmentations = draw_class_augmentations(
            self._families,
            self._data.n_classes,
            torch_generator(draw.child_seed(_AUGMENTATION)),
        )

        def match(code: int) -> tuple[Tensor, Tensor]:
            drawn: dict[str, Any] = {}
            if self._derivatives.is_random:
                drawn["seed"] = draw.child_seed(_DRAWN, code)
            real, accuracy = self._real_gradient(
                network, draw, code, augmentations, images.dtype, drawn
            )
            own = (synthetic.codes == code).nonzero()[:, 0]
            found = match_gradient(
                self._derivatives,
                network,
                images[own],
                labels[own],
                real,
                self._parts,
                self._distance,
                augmentation=partial(
                    augmentations,
                    codes=synthetic.codes[own],
                    scale=self._data.pixel_scale,
                ),
                **drawn,
            )
            gradient[own] = found.images
            return found.distance, accuracy

        matched = map_pieces(match, range(self._data.n_classes))
        distances, accuracies = map(torch.stack, zip(*matched, strict=True))
        metrics = {"loss": distances.sum(), "network_accuracy": accuracies.mean()}
        return Evaluation(metrics, {"images": gradient}, notes)

    def advance(
        self, synthetic: SyntheticParameters, numbers: Mapping[str, float], draw: Draw
    ) -> str:
        """Train the networks on the images, or have new ones drawn."""
        training = self._training
        if training is None:
            return ""
        if self._round + 1 == training.n_rounds:
            self._round, self._trained = 0, None
            return ""
        dtype = synthetic.images.dtype
        draws = [replace(draw, place=place) for place in range(self.n_draws)]
        networks = torch.stack([self._network(one, dtype)[0] for one in draws])
        self._trained = self._train(networks, synthetic, draws, training)
        self._round += 1
        return ""

    def rolled_back(self, synthetic: SyntheticParameters, n_times: int) -> None:
        """Have new networks drawn: it may be these that were not finite."""
        self._round, self._trained = 0, None

    def state(self) -> State:
        """Return the networks that are in training."""
        state = {"round": torch.tensor(self._round)}
        return state if self._trained is None else state | {"networks": self._trained}

    def restore(self, state: State) -> None:
        """Take on networks that were in training."""
        n_rounds = 1 if self._training is None else self._training.n_rounds
        n_done, trained = int(state["round"]), state.get("networks")
        shape = (self.n_draws, self._derivatives.n_parameters)
        if not 0 <= n_done < n_rounds or (trained is None) != (n_done == 0):
            raise ValueError("its round does not exist in this fit")
        if trained is not None and trained.shape != shape:
            raise ValueError("it holds networks with a different architecture")
        self._round = n_done
        self._trained = None if trained is None else trained.to(self._data.device)

    def signature(self) -> dict[str, Any]:
        """Return which networks there are, beside what parameters say."""
        return self._networks.signature()

    def _network(
        self, draw: Draw, dtype: torch.dtype
    ) -> tuple[Tensor, dict[str, float]]:
        round_ = {"round": float(self._round)}
        if self._trained is not None:
            return self._trained[draw.place], round_
        network, notes = self._networks(draw)
        return network.to(dtype), notes if self._training is None else round_

    def _real_gradient(
        self,
        network: Tensor,
        draw: Draw,
        code: int,
        augmentations: ClassAugmentations,
        dtype: torch.dtype,
        drawn: dict[str, Any],
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient from a class's real images, and the share recognized."""
        batch = self._data.batch(draw, self._batch_size, [code], dtype=dtype)
        seen = augmentations(batch.images, batch.codes, self._data.pixel_scale)
        weights = batch.weights[:, None]
        # The loss is a mean over the batch, in which each image counts by its weight.
        targets = one_hot(batch.codes, self._data.n_classes, dtype) * weights
        targets *= len(batch.images)
        logits: list[Tensor] = []
        gradient = self._derivatives.gradient(
            network, seen, targets, logits=logits, **drawn
        )
        is_right = torch.cat(logits).argmax(dim=1) == code
        return gradient, (is_right * batch.weights).sum()

    def _train(
        self,
        networks: Tensor,
        synthetic: SyntheticParameters,
        draws: Sequence[Draw],
        training: Training,
    ) -> Tensor:
        images, labels = synthetic.images, synthetic.labels
        n_images = len(images)
        descent = SGDSettings(
            training.learning_rate,
            momentum=0.0,
            weight_decay=0.0,
            batch_size=training.batch_size,
            scale=self._data.pixel_scale,
        )
        generators = [torch_generator(draw.child_seed(_TRAINING)) for draw in draws]
        gradients = self._gradients(draws)
        for _ in range(training.n_epochs):
            plans = [
                plan_epoch(n_images, training.batch_size, self._families, generator)
                for generator in generators
            ]
            descend_epoch(gradients, networks, None, images, labels, plans, descent)
        return networks

    def _gradients(self, draws: Sequence[Draw]) -> GradientFunction:
        """Return what differentiates the networks in training, step by step."""
        if isinstance(self._derivatives, ModuleDerivatives):
            seeds = [draw.child_seed(_DRAWN) for draw in draws]
            return modules_one_by_one(self._derivatives, seeds)
        assert isinstance(self._module, ConvNet)
        return (one_by_one if self._is_cpu else all_at_once)(self._module)
