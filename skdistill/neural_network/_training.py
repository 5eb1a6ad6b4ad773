"""Stochastic gradient descent on images: one loop for classifiers and teachers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skdistill.neural_network._augment import (
    AugmentationDraw,
    augment,
    draw_augmentation,
)
from skdistill.neural_network._losses import image_losses
from skdistill.utils._images import Images
from skdistill.utils._pixel_space import ChannelMoments, check_contrast, scale_of
from skdistill.utils._tensors import RealImages
from skdistill.utils._warnings import warn
from skdistill.utils._workers import map_pieces

# In float32 the squares of larger pixels, summed over a map, would overflow.
_MAX_PIXEL = 1e18
# Where pixels deviate by less, a normalization's epsilon outweighs the variance of its
# maps; without a normalization, larger ones let the training diverge.
_MIN_SCALE, _MAX_SCALE = 0.01, 100.0
# Adam's decay rate of the mean squared gradient.
_SQUARES_DECAY = 0.999


class EpochSummary(NamedTuple):
    """What an epoch of training looked like, over the augmented images it saw."""

    loss: float
    accuracy: float


def check_pixel_unit(images: Images, normalization: str) -> float:
    """Refuse images that a network cannot compute with; warn of a unit far from 1.

    Parameters
    ----------
    images : ndarray of shape (n_samples, height, width, channels)
    normalization : str
        Of the network.

    Returns
    -------
    scale : float
        What :func:`pixel_scale` returns.

    Raises
    ------
    ValueError
        If pixels are so large that float32 would overflow, or so close together that
        it could not tell them apart.
    """
    moments = ChannelMoments(images.shape[3]).add(images)
    largest = float(max(moments.high.max(), -moments.low.min()))
    if largest > _MAX_PIXEL:
        raise ValueError(
            f"the pixels of X must be at most {_MAX_PIXEL:.0e} for a network, which "
            f"computes in float32; got {largest:.3g}.  Use a ChannelScaler to scale "
            "them to a standard deviation of 1"
        )
    check_contrast(images.dtype, moments.mean, moments.deviation)
    scale = scale_of(moments)
    if scale < _MIN_SCALE:
        effect = "it learns next to nothing from these"
    elif scale > _MAX_SCALE and normalization == "none":
        effect = "without normalization training may diverge"
    else:
        return scale
    warn(
        f"the pixels of X have a standard deviation of {scale:.3g}; networks expect "
        f"about 1, and {effect}.  Use a ChannelScaler to scale them"
    )
    return scale


def balanced_weights(
    codes: np.ndarray, n_classes: int, weight: np.ndarray | None = None
) -> np.ndarray:
    """Weigh images such that all classes weigh the same, with mean 1 over images.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,), int
        Class codes.
    n_classes : int
    weight : ndarray of shape (n_samples,), default=None
        Weights of the images within their classes.

    Returns
    -------
    weights : ndarray of shape (n_samples,), float64
    """
    weights = np.ones(len(codes)) if weight is None else weight
    of_class = np.bincount(codes, weights, minlength=n_classes)
    weights = weights / of_class[codes]
    return weights / weights.mean()


def make_optimizer(
    name: str,
    parameters: Iterable[Tensor],
    learning_rate: float,
    momentum: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Return what turns gradients into steps.

    Parameters
    ----------
    name : {"sgd", "adam"}
    parameters : iterable of Tensor
        What is learned.
    learning_rate : float
    momentum : float
        Of SGD; of Adam the decay rate of its mean gradient.
    weight_decay : float
        Strength of the L2 penalty.
    """
    if name == "adam":
        return torch.optim.Adam(
            parameters,
            lr=learning_rate,
            betas=(momentum, _SQUARES_DECAY),
            weight_decay=weight_decay,
        )
    return torch.optim.SGD(
        parameters, lr=learning_rate, momentum=momentum, weight_decay=weight_decay
    )


def train_epochs(
    module: nn.Module,
    images: RealImages,
    targets: Tensor,
    *,
    n_epochs: int,
    batch_size: int,
    learning_rate: Callable[[int], float],
    momentum: float,
    weight_decay: float,
    families: Sequence[str],
    scale: float,
    generator: torch.Generator,
    sample_weight: Tensor | None = None,
    cut: Callable[[int], list[slice]] | None = None,
    loss: str = "cross_entropy",
    optimizer: str = "sgd",
) -> Iterator[EpochSummary]:
    """Train a module in place, an epoch per iteration.

    Parameters
    ----------
    module : torch.nn.Module
    images : RealImages
    targets : Tensor of shape (n_samples,), int64, or (n_samples, n_classes), float
        Class codes, or the probability of each class; of the squared loss numbers of
        any sign.
    n_epochs, batch_size : int
    learning_rate : callable
        The learning rate of an epoch, counted from 0.
    momentum, weight_decay : float
    families : sequence of str
        Families of augmentation, one of which is drawn per batch.
    scale : float
        Standard deviation of the pixels, the unit of the augmentation's brightness.
    generator : torch.Generator
        On the CPU; decides on the order of the images and on the augmentation.
    sample_weight : Tensor of shape (n_samples,), default=None
        Weights of the images' losses, with mean 1.
    cut : callable, default=None
        Turns the number of images of a step into micro-batches, which threads compute
        side by side.  None where the module does not treat each image alone.
    loss : {"cross_entropy", "squared"}, default="cross_entropy"
    optimizer : {"sgd", "adam"}, default="sgd"
        As of :func:`make_optimizer`.

    Yields
    ------
    EpochSummary
        After each epoch.
    """
    device = images.device
    n_samples = len(images)
    descent = make_optimizer(
        optimizer, module.parameters(), learning_rate(0), momentum, weight_decay
    )
    codes = targets if targets.ndim == 1 else targets.argmax(dim=1)
    module.train()
    learned = [part for part in module.parameters() if part.requires_grad]

    def losses_of(rows: Tensor, draw: AugmentationDraw) -> tuple[Tensor, Tensor]:
        logits = module(augment(images[rows], draw, scale))
        losses = image_losses(logits, targets[rows], loss)
        if sample_weight is not None:
            losses = losses * sample_weight[rows]
        return losses, logits

    def backward(
        batch: Tensor, draw: AugmentationDraw
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Set the gradients; return rows, losses and logits of the micro-batches."""
        if cut is None:
            losses, logits = losses_of(batch, draw)
            losses.mean().backward()
            return [(batch, losses.detach(), logits.detach())]

        def differentiate(part: slice) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
            own = AugmentationDraw(draw.family, draw.uniforms[part])
            losses, logits = losses_of(batch[part], own)
            found = torch.autograd.grad(losses.sum() / len(batch), learned)
            return found, losses.detach(), logits.detach()

        parts = cut(len(batch))
        found = map_pieces(differentiate, parts)
        for place, parameter in enumerate(learned):
            first, *others = (gradients[place] for gradients, _, _ in found)
            parameter.grad = sum(others, start=first)
        return [
            (batch[part], losses, logits)
            for part, (_, losses, logits) in zip(parts, found, strict=True)
        ]

    for epoch in range(n_epochs):
        for group in descent.param_groups:
            group["lr"] = learning_rate(epoch)
        order = torch.randperm(n_samples, generator=generator).to(device)
        # Sums stay on the device: reading them in each batch would stall a GPU.
        total_loss = torch.zeros((), device=device)
        n_right = torch.zeros((), device=device)
        for batch in order.split(batch_size):
            draw = draw_augmentation(families, len(batch), generator)
            descent.zero_grad(set_to_none=True)
            seen = backward(batch, draw)
            descent.step()
            for rows, losses, logits in seen:
                total_loss += losses.sum()
                n_right += (logits.argmax(dim=1) == codes[rows]).sum()
        yield EpochSummary(float(total_loss) / n_samples, float(n_right) / n_samples)
