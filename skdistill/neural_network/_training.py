"""Stochastic gradient descent on images: one loop for classifiers and teachers."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skdistill.neural_network._augment import augment, draw_augmentation

# In float32 the squares of larger pixels, summed over a map, would overflow.
_LARGEST_PIXEL = 1e18
# Where pixels deviate by less, a normalisation's epsilon outweighs the variance of its
# maps; without a normalisation, larger ones let the training diverge.
_LEAST_SCALE, _LARGEST_SCALE = 0.01, 100.0


class EpochSummary(NamedTuple):
    """What an epoch of training looked like, over the augmented images it saw."""

    loss: float
    accuracy: float


def to_tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """Move images (n, height, width, channels) to a tensor (n, channels, h, w)."""
    channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if not channels_first.flags.writeable:
        channels_first = channels_first.copy()
    # By way of one axis: an array of one channel may have strides that PyTorch takes
    # for channels that come last, for which it has other kernels with other bits.
    flat = torch.from_numpy(channels_first.reshape(-1))
    return flat.view(channels_first.shape).to(device)


def to_images(tensor: Tensor) -> np.ndarray:
    """Copy a tensor (n, channels, height, width) to images (n, h, w, channels)."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy().transpose(0, 2, 3, 1))


def pixel_scale(images: np.ndarray) -> float:
    """Return the standard deviation of all pixels, 1 where they are all the same."""
    scale = float(np.std(images, dtype=np.float64))
    # Rounding leaves a constant set a tiny deviation.
    mean = float(np.abs(images.mean(dtype=np.float64)))
    return scale if scale > np.finfo(np.float32).eps * mean else 1.0


def check_pixel_unit(images: np.ndarray, normalization: str, stacklevel: int) -> None:
    """Refuse images that a network cannot compute with; warn of a unit far from 1.

    Parameters
    ----------
    images : ndarray of shape (n_samples, height, width, channels)
    normalization : str
        Of the network.
    stacklevel : int
        As of :func:`warnings.warn`, seen from the caller.

    Raises
    ------
    ValueError
        If pixels are so large that float32 would overflow.
    """
    largest = float(max(images.max(), -images.min()))
    if largest > _LARGEST_PIXEL:
        raise ValueError(
            f"X must have pixels of at most {_LARGEST_PIXEL:.0e} for a network, which "
            f"computes in float32; got {largest:.3g}.  A ChannelScaler brings them to "
            "a standard deviation of 1"
        )
    scale = pixel_scale(images)
    if scale < _LEAST_SCALE:
        effect = "it sees next to nothing of these"
    elif scale > _LARGEST_SCALE and normalization == "none":
        effect = "without normalisation its training may diverge"
    else:
        return
    warnings.warn(
        f"the pixels of X have a standard deviation of {scale:.3g}; a network is made "
        f"for one of about 1, and {effect}.  A ChannelScaler brings them there",
        stacklevel=stacklevel + 1,
    )


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


def train_epochs(
    module: nn.Module,
    images: Tensor,
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
) -> Iterator[EpochSummary]:
    """Train a module in place by SGD on the cross-entropy, an epoch per iteration.

    Parameters
    ----------
    module : torch.nn.Module
    images : Tensor of shape (n_samples, channels, height, width)
    targets : Tensor of shape (n_samples,), int64, or (n_samples, n_classes), float
        Class codes, or the probability of each class.
    n_epochs, batch_size : int
    learning_rate : callable
        The rate of an epoch, counted from 0.
    momentum, weight_decay : float
    families : sequence of str
        Families of augmentation, one of which is drawn per batch.
    scale : float
        Standard deviation of the pixels, the unit of the augmentation's brightness.
    generator : torch.Generator
        On the CPU; decides on the order of the images and on the augmentation.
    sample_weight : Tensor of shape (n_samples,), default=None
        Weights of the images' losses, with mean 1.

    Yields
    ------
    EpochSummary
        After each epoch.
    """
    device = images.device
    n_samples = len(images)
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=learning_rate(0),
        momentum=momentum,
        weight_decay=weight_decay,
    )
    codes = targets if targets.ndim == 1 else targets.argmax(dim=1)
    module.train()
    for epoch in range(n_epochs):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(epoch)
        order = torch.randperm(n_samples, generator=generator).to(device)
        # Sums stay on the device: reading them in each batch would stall a GPU.
        total_loss = torch.zeros((), device=device)
        n_right = torch.zeros((), device=device)
        for batch in order.split(batch_size):
            draw = draw_augmentation(families, len(batch), generator)
            logits = module(augment(images[batch], draw, scale))
            losses = F.cross_entropy(logits, targets[batch], reduction="none")
            if sample_weight is not None:
                losses = losses * sample_weight[batch]
            optimizer.zero_grad(set_to_none=True)
            losses.mean().backward()
            optimizer.step()
            total_loss += losses.detach().sum()
            n_right += (logits.detach().argmax(dim=1) == codes[batch]).sum()
        yield EpochSummary(float(total_loss) / n_samples, float(n_right) / n_samples)
