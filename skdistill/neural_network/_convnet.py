"""The ConvNet of the distillation literature, and its parameters as one vector."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

# Those that teachers can have.
NORMALIZATIONS = ("instance", "layer", "none")
ALL_NORMALIZATIONS = (*NORMALIZATIONS, "batch", "group")
POOLINGS = ("average", "max", "none")
EPSILON = 1e-5
_GROUPS = 4

# Pooling leaves the next blocks at least this number of pixels per side.  Normalized
# over 2x2 values, a map is little more than their signs: the gradient through 20 steps
# of a student then varies by a factor of a million between two draws of its
# augmentation.
_MIN_SIDE = 4


class Block(NamedTuple):
    """The structure of one block.

    Attributes
    ----------
    height, width : int
        Sides of the map before pooling.
    in_channels, out_channels : int
    n_groups : int
        Number of groups of channels that are normalized apart; 0 without
        normalization.
    pool : tuple (rows, columns)
    max_pooled : bool
        Whether pixels are pooled to their largest value instead of their mean.
    """

    height: int
    width: int
    in_channels: int
    out_channels: int
    n_groups: int
    pool: tuple[int, int]
    max_pooled: bool = False

    @property
    def normalized(self) -> bool:
        """Whether its maps are normalized."""
        return self.n_groups > 0

    @property
    def over_channels(self) -> bool:
        """Whether several channels of an image are normalized together."""
        return 0 < self.n_groups < self.out_channels


class ConvNet(nn.Module):
    """Blocks of convolution, normalization, ReLU and pooling, then one layer.

    Each block is a 3x3 convolution with padding 1, an affine normalization (epsilon
    1e-5), ReLU and 2x2 pooling.  A side is not pooled below 4 pixels before the
    last block, nor one of 1 pixel in the last: images of 32 pixels, or of 16 with
    three blocks, are pooled in each, small ones in fewer, since a normalization over
    a few values destroys them.  A map of one pixel is not normalized over itself.

    Read more in the :ref:`User Guide <evaluation>`.

    Parameters
    ----------
    image_shape : tuple (height, width, channels)
    n_classes : int
    width : int, default=128
        Number of channels of each convolution.
    depth : int, default=3
        Number of blocks.
    normalization : {"instance", "layer", "group", "batch", "none"}, default="instance"
        Over each channel of an image, over all its channels, over its channels in four
        groups, over each channel of all images, or none.
    pooling : {"average", "max", "none"}, default="average"

    References
    ----------
    Gidaris and Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting",
    CVPR 2018; the default network of the dataset distillation benchmarks.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        n_classes: int,
        *,
        width: int = 128,
        depth: int = 3,
        normalization: str = "instance",
        pooling: str = "average",
    ) -> None:
        super().__init__()
        rows, columns, channels = image_shape
        layers: list[nn.Module] = []
        self.blocks: list[Block] = []
        for place in range(depth):
            # The last block's output is not normalized any more.
            smallest = 1 if place == depth - 1 else _MIN_SIDE
            block = Block(
                rows,
                columns,
                channels,
                width,
                n_groups=_n_groups(normalization, width) if rows * columns > 1 else 0,
                pool=(
                    2 if pooling != "none" and rows >= 2 * smallest else 1,
                    2 if pooling != "none" and columns >= 2 * smallest else 1,
                ),
                max_pooled=pooling == "max",
            )
            layers.append(nn.Conv2d(channels, width, kernel_size=3, padding=1))
            if block.normalized:
                layers.append(normalization_layer(normalization, width, rows * columns))
            layers.append(nn.ReLU())
            if block.pool != (1, 1):
                pool = nn.MaxPool2d if pooling == "max" else nn.AvgPool2d
                layers.append(pool(block.pool))
            self.blocks.append(block)
            rows, columns = rows // block.pool[0], columns // block.pool[1]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(rows * columns * channels, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (n_samples, n_classes) of images (n, channels, h, w)."""
        return self.classifier(self.features(images).flatten(1))


def normalization_layer(kind: str, channels: int, n_pixels: int) -> nn.Module:
    """Build an affine normalization; none for maps of one pixel.

    Parameters
    ----------
    kind : {"instance", "layer", "group", "batch", "none"}
    channels : int
    n_pixels : int
        Number of pixels of a map.

    Returns
    -------
    layer : torch.nn.Module
    """
    if kind == "none" or n_pixels == 1:
        return nn.Identity()
    if kind == "batch":
        return nn.BatchNorm2d(channels, eps=EPSILON)
    # Instance normalization, written as a group of one channel: the same function, and
    # twice as fast.
    return nn.GroupNorm(_n_groups(kind, channels), channels, eps=EPSILON)


def _n_groups(kind: str, channels: int) -> int:
    """Return how many groups of channels are normalized apart."""
    groups = {"none": 0, "layer": 1, "group": math.gcd(_GROUPS, channels)}
    return groups.get(kind, channels)


def n_parameters(module: nn.Module) -> int:
    """Count the parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def flatten_parameters(module: nn.Module) -> Tensor:
    """Copy the parameters of a module into one flat vector, detached.

    Statistics that a module keeps, such as those of a batch normalization, come last.

    A copy always: on a CPU ``detach().cpu()`` would alias the live parameters and
    every snapshot of a training run would become the last one.
    """
    return torch.cat([tensor.detach().reshape(-1) for tensor in _tensors(module)])


def flatten_learned(module: nn.Module) -> Tensor:
    """Copy the parameters of a module, and no statistics, into one flat vector."""
    return torch.cat([part.detach().reshape(-1) for part in module.parameters()])


@torch.no_grad()
def load_flat_parameters(module: nn.Module, parameters: Tensor) -> None:
    """Copy a flat vector into the parameters of a module."""
    tensors = _tensors(module)
    parts = parameters.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def load_learned(module: nn.Module, parameters: Tensor) -> None:
    """Copy what :func:`flatten_learned` returned into the parameters of a module."""
    learned = list(module.parameters())
    parts = parameters.split([part.numel() for part in learned])
    for own, part in zip(learned, parts, strict=True):
        own.copy_(part.view_as(own))


def _tensors(module: nn.Module) -> list[Tensor]:
    statistics = [
        one
        for one in module.buffers()
        # No training changes a sparse table.
        if one.is_floating_point() and one.layout == torch.strided
    ]
    return [*module.parameters(), *statistics]
