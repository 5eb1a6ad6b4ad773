"""Matching the gradients that networks get from synthetic and from real images.

A network with parameters theta gets the gradient g_S from the synthetic images of a
class, and g_R from real ones.  A distance D(g_S, g_R) is to be small.  With its
derivative v = dD/dg_S, which has a closed form,

    dD/dX = d<v, g_S>/dX  with v held fixed:

the Hessian-vector product that trajectory matching needs, too.  Nothing is
differentiated twice by a machine, and no graph is kept.

References
----------
Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021.
Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML
2022: distances of kernels alone, squared or absolute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

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
from skdistill.distillation._objectives._networks import Networks
from skdistill.neural_network._augment import (
    AugmentationDraw,
    augment,
    draw_augmentation,
)
from skdistill.neural_network._convnet import ConvNet
from skdistill.neural_network._derivatives import ConvNetDerivatives, Tape
from skdistill.neural_network._sgd import (
    Descent,
    all_at_once,
    descend_epoch,
    one_by_one,
    plan_epoch,
)
from skdistill.utils._random import torch_generator
from skdistill.utils._workers import map_pieces

DISTANCES = ("cosine", "squared", "absolute")
MATCHED = ("weights", "kernels", "all")

# While what the gradient of a class computed takes no more, it is kept for the
# Hessian-vector product.
_MAX_KEPT_BYTES = 2**28

# What else is random of a draw, beside real images and network.
_AUGMENTATION, _TRAINING = 1, 2


class Part(NamedTuple):
    """A parameter that is matched, as it lies in the flat vector of all.

    Attributes
    ----------
    start : int
    n_rows, length : int
        A row holds what leads to one output unit.
    is_weight : bool
        Whether it has two or more axes: a bias is compared as one row.
    """

    start: int
    n_rows: int
    length: int
    is_weight: bool


def matched_parts(module: nn.Module, matched: str) -> list[Part]:
    """Return where the parameters that are matched lie.

    Parameters
    ----------
    module : nn.Module
        Only its structure is used.
    matched : {"weights", "kernels", "all"}
        Kernels of convolutions and matrices of linear layers, the former alone, or
        biases and the factors of normalizations as well.

    Returns
    -------
    parts : list of Part
    """
    parts = []
    start = 0
    for parameter in module.parameters():
        n_axes, size = parameter.ndim, parameter.numel()
        is_wanted = {
            "weights": n_axes >= 2,
            "kernels": n_axes >= 3,
            "all": True,
        }[matched]
        if is_wanted:
            n_rows = len(parameter) if n_axes >= 2 else 1
            parts.append(Part(start, n_rows, size // n_rows, n_axes >= 2))
        start += size
    return parts


class Distance(NamedTuple):
    """How far a gradient is from another.

    Attributes
    ----------
    value : Tensor, scalar
    direction : Tensor of shape (n_parameters,)
        The derivative of the value by the first gradient; 0 where nothing is matched.
    """

    value: Tensor
    direction: Tensor


def gradient_distance(
    synthetic: Tensor, real: Tensor, parts: Sequence[Part], distance: str
) -> Distance:
    """Compare two gradients parameter by parameter.

    Parameters
    ----------
    synthetic, real : Tensor of shape (n_parameters,)
    parts : sequence of Part
        From :func:`matched_parts`.
    distance : {"cosine", "squared", "absolute"}
        The sum over all rows of 1 - cos, with cos that of the angle between both
        gradients' rows, biases adding nothing; the sum over all numbers of squared, or
        of absolute, differences.

    Returns
    -------
    Distance
    """
    compare = {"cosine": _cosine, "squared": _squared, "absolute": _absolute}[distance]
    value = synthetic.new_zeros(())
    direction = torch.zeros_like(synthetic)
    for part in parts:
        if distance == "cosine" and not part.is_weight:
            # A bias has rows of one number, whose angle is not one.
            continue
        place = slice(part.start, part.start + part.n_rows * part.length)
        shape = (part.n_rows, part.length)
        found = compare(synthetic[place].view(shape), real[place].view(shape))
        value += found.value
        direction[place] = found.direction.flatten()
    return Distance(value, direction)


def _cosine(a: Tensor, b: Tensor) -> Distance:
    """Return the sum of 1 - cos over rows, and its derivative by ``a``.

    A row that is nothing but rounding beside the largest of its layer has no angle:
    as a unit that no image activates.  Two such rows are equal, and one of them is at
    a right angle to any other.  Relative to the layer, unlike a small number in the
    denominator, this leaves the distance as it is when a gradient is multiplied.
    """
    a, length_a, tiny_a = _unit_rows(a)
    b, _, tiny_b = _unit_rows(b)
    has_angle = ~(tiny_a | tiny_b)
    # As accurate at angles of nearly 0 as elsewhere, and exactly 0 of equal gradients.
    distances = 0.5 * (a - b).square().sum(dim=1, keepdim=True)
    direction = torch.where(has_angle, ((1.0 - distances) * a - b) / length_a, 0.0)
    values = torch.where(has_angle, distances, (tiny_a != tiny_b).to(a.dtype))
    return Distance(values.sum(), direction)


def _unit_rows(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows of length 1, their lengths, and which are too short to have one."""
    limits = torch.finfo(rows.dtype)
    # In the unit of the largest number squares neither vanish nor overflow.
    unit = rows.abs().max().clamp_min(limits.tiny)
    rows = rows / unit
    lengths = rows.norm(dim=1, keepdim=True)
    is_tiny = lengths <= limits.eps * lengths.max()
    lengths = torch.where(is_tiny, 1.0, lengths)
    return rows / lengths, lengths * unit, is_tiny


def _squared(a: Tensor, b: Tensor) -> Distance:
    difference = a - b
    return Distance(difference.square().sum(), 2.0 * difference)


def _absolute(a: Tensor, b: Tensor) -> Distance:
    difference = a - b
    return Distance(difference.abs().sum(), difference.sign())


def siamese(draw: AugmentationDraw, n_samples: int) -> AugmentationDraw:
    """Return the draw that augments so many images by the one row of another."""
    if draw.family == "identity":
        return draw
    return AugmentationDraw(draw.family, draw.uniforms.expand(n_samples, -1))


class MatchedClass(NamedTuple):
    """The distance of a class's gradients, and its derivative.

    Attributes
    ----------
    distance : Tensor, scalar
    images : Tensor of shape (n_images, channels, height, width)
        The gradient of the distance with respect to the synthetic images.
    """

    distance: Tensor
    images: Tensor


def match_gradient(
    network: ConvNetDerivatives,
    parameters: Tensor,
    images: Tensor,
    targets: Tensor,
    real: Tensor,
    parts: Sequence[Part],
    distance: str,
    *,
    draw: AugmentationDraw | None = None,
    scale: float = 1.0,
) -> MatchedClass:
    """Compare the gradient from synthetic images with one from real images.

    Parameters
    ----------
    network : ConvNetDerivatives
    parameters : Tensor of shape (n_parameters,)
    images : Tensor of shape (n_images, channels, height, width)
        Synthetic images, of one class for instance.
    targets : Tensor of shape (n_images, n_classes)
        The probability of each class for each image.
    real : Tensor of shape (n_parameters,)
        The gradient to match.
    parts : sequence of Part
        From :func:`matched_parts`.
    distance : {"cosine", "squared", "absolute"}
    draw : AugmentationDraw, default=None
        How the images are augmented before the network sees them; not at all if None.
    scale : float, default=1.0
        Standard deviation of the pixels, the unit of the augmentation's brightness.

    Returns
    -------
    MatchedClass
    """
    images = images.detach()
    seen = images
    if draw is not None:
        with torch.enable_grad():
            images = images.requires_grad_()
            seen = augment(images, draw, scale)
    shown = seen.detach()
    is_kept = network.tape_bytes(len(shown), shown.dtype) <= _MAX_KEPT_BYTES
    tapes: list[Tape] | None = [] if is_kept else None
    gradient = network.gradient(parameters, shown, targets, tapes=tapes)
    found = gradient_distance(gradient, real, parts, distance)
    by_images = network.curvature(
        parameters, found.direction, shown, targets, tapes=tapes, with_parameters=False
    ).images
    if draw is not None:
        (by_images,) = torch.autograd.grad(seen, images, by_images)
    return MatchedClass(found.value, by_images)


@dataclass(frozen=True)
class Training:
    """How networks learn from the synthetic images between updates of these.

    Attributes
    ----------
    n_rounds : int
        Number of updates of the images that a network serves for.
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
    module : ConvNet
        Only its structure is used.
    networks : Networks
    training : Training or None
        None draws networks anew in each iteration, and trains none.
    distance : {"cosine", "squared", "absolute"}
    matched : {"weights", "kernels", "all"}
    batch_size : int or None
        Number of real images of each class; None means all.
    families : sequence of str
        Families of augmentation, one of which is drawn for each class.
    n_networks : int
        Number of networks whose gradients are averaged.
    """

    out_of_memory_hint = "a smaller `batch_size` or `width` needs less"

    def __init__(
        self,
        data: RealData,
        module: ConvNet,
        networks: Networks,
        *,
        training: Training | None,
        distance: str,
        matched: str,
        batch_size: int | None,
        families: Sequence[str],
        n_networks: int = 1,
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
        self._derivatives = ConvNetDerivatives(module)
        is_cpu = data.device.type == "cpu"
        self._all_gradients = (one_by_one if is_cpu else all_at_once)(module)
        # How many updates the present networks have served for, and what they have
        # become; in their first round they are what the draw says.
        self._round = 0
        self._trained: Tensor | None = None

    def evaluate(self, synthetic: SyntheticParameters, draw: Draw) -> Evaluation:
        """Return the distance and its gradient for one network."""
        network, notes = self._network(draw)
        images, labels = synthetic.images, synthetic.labels
        gradient = torch.zeros_like(images)

        def match(code: int) -> tuple[Tensor, Tensor]:
            augmentation = self._siamese_draw(draw, code)
            real, accuracy = self._real_gradient(
                network, draw, code, augmentation, images.dtype
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
                draw=siamese(augmentation, len(own)),
                scale=self._data.pixel_scale,
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
        draws = [replace(draw, place=place) for place in range(self.n_draws)]
        networks = torch.stack([self._network(one)[0] for one in draws])
        self._trained = self._train(networks, synthetic, draws, training)
        self._round += 1
        return ""

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
            raise ValueError("it was not at a round of this fit")
        if trained is not None and trained.shape != shape:
            raise ValueError("it holds networks of another kind")
        self._round = n_done
        self._trained = None if trained is None else trained.to(self._data.device)

    def _network(self, draw: Draw) -> tuple[Tensor, dict[str, float]]:
        if self._training is None:
            return self._networks(draw)
        notes = {"round": float(self._round)}
        if self._trained is not None:
            return self._trained[draw.place], notes
        return self._networks(draw)[0], notes

    def _siamese_draw(self, draw: Draw, code: int) -> AugmentationDraw:
        generator = torch_generator(draw.child_seed(_AUGMENTATION, code))
        return draw_augmentation(self._families, 1, generator)

    def _real_gradient(
        self,
        network: Tensor,
        draw: Draw,
        code: int,
        augmentation: AugmentationDraw,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient from a class's real images, and the share recognised."""
        batch = self._data.batch(draw, self._batch_size, [code], dtype=dtype)
        n_images = len(batch.images)
        seen = augment(
            batch.images, siamese(augmentation, n_images), self._data.pixel_scale
        )
        weights = batch.weights[:, None]
        # The loss is a mean over the batch, in which each image counts by its weight.
        targets = one_hot(batch.codes, self._data.n_classes, dtype) * weights * n_images
        logits: list[Tensor] = []
        gradient = self._derivatives.gradient(network, seen, targets, logits=logits)
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
        descent = Descent(
            training.learning_rate,
            momentum=0.0,
            weight_decay=0.0,
            batch_size=training.batch_size,
            scale=self._data.pixel_scale,
        )
        generators = [torch_generator(draw.child_seed(_TRAINING)) for draw in draws]
        for _ in range(training.n_epochs):
            plans = [
                plan_epoch(n_images, training.batch_size, self._families, generator)
                for generator in generators
            ]
            descend_epoch(
                self._all_gradients, networks, None, images, labels, plans, descent
            )
        return networks
