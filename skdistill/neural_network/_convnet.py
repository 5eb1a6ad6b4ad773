"""The ConvNet of the distillation literature, and its parameters as one vector."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

NORMALIZATIONS = ("instance", "layer", "none")


class ConvNet(nn.Module):
    """Blocks of convolution, normalisation, ReLU and average pooling, then one layer.

    Each block is a 3x3 convolution with padding 1, an affine normalisation (epsilon
    1e-5), ReLU and 2x2 average pooling.  A side that is 1 pixel long is no longer
    pooled, and a map of one pixel is not normalised over itself: that would erase it.

    Parameters
    ----------
    image_shape : tuple (height, width, channels)
    n_classes : int
    width : int, default=128
        Number of channels of each convolution.
    depth : int, default=3
        Number of blocks.
    normalization : {"instance", "layer", "none"}, default="instance"
        Over each channel of an image, over all channels of an image, or none.

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
    ) -> None:
        super().__init__()
        rows, columns, channels = image_shape
        blocks: list[nn.Module] = []
        for _ in range(depth):
            blocks.append(nn.Conv2d(channels, width, kernel_size=3, padding=1))
            if normalization != "none" and rows * columns > 1:
                # Instance normalisation, written as a group of one channel: the same
                # function, and twice as fast in the second derivative.
                groups = width if normalization == "instance" else 1
                blocks.append(nn.GroupNorm(groups, width))
            blocks.append(nn.ReLU())
            pool = (2 if rows > 1 else 1, 2 if columns > 1 else 1)
            if pool != (1, 1):
                blocks.append(nn.AvgPool2d(pool))
            rows, columns, channels = rows // pool[0], columns // pool[1], width
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(rows * columns * channels, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (n_samples, n_classes) of images (n, channels, h, w)."""
        return self.classifier(self.features(images).flatten(1))


class FlatNetwork:
    """A module as a pure function of its parameters in one flat vector.

    Trajectory matching compares whole networks: one vector makes a distance one
    subtraction and a snapshot one row of a file.

    Parameters
    ----------
    module : torch.nn.Module
        A module without buffers.  Only its structure is used.

    Attributes
    ----------
    n_parameters : int
        Length of the vector.
    """

    def __init__(self, module: nn.Module) -> None:
        if any(True for _ in module.buffers()):
            raise ValueError("a module with buffers is not a function of parameters")
        self._module = module
        self._names = [name for name, _ in module.named_parameters()]
        self._shapes = [parameter.shape for parameter in module.parameters()]
        self._sizes = [parameter.numel() for parameter in module.parameters()]
        self.n_parameters = sum(self._sizes)

    def __call__(self, parameters: Tensor, images: Tensor) -> Tensor:
        """Return the logits (n_samples, n_classes) under the given parameters."""
        return functional_call(self._module, dict(self.views(parameters)), (images,))

    def views(self, parameters: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the name and the view of each parameter in the flat vector."""
        parts = parameters.split(self._sizes)
        for name, part, shape in zip(self._names, parts, self._shapes, strict=True):
            yield name, part.view(shape)


def flatten_parameters(module: nn.Module) -> Tensor:
    """Copy the parameters of a module into one flat vector, detached.

    A copy always: on a CPU ``detach().cpu()`` would alias the live parameters and
    every snapshot of a training run would become the last one.
    """
    return torch.cat(
        [parameter.detach().reshape(-1) for parameter in module.parameters()]
    )


@torch.no_grad()
def load_flat_parameters(module: nn.Module, parameters: Tensor) -> None:
    """Copy a flat vector into the parameters of a module."""
    sizes = [parameter.numel() for parameter in module.parameters()]
    parts = parameters.split(sizes)
    for parameter, part in zip(module.parameters(), parts, strict=True):
        parameter.copy_(part.view_as(parameter))
