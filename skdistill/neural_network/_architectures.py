"""Other networks of the literature, for small images."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from skdistill.neural_network._convnet import normalization_layer

# Channels of the convolutions; "pool" halves the sides.
_ALEXNET: tuple[int | str, ...] = (128, "pool", 192, "pool", 256, 192, 192, "pool")
_VGG11: tuple[int | str, ...] = (
    *(64, "pool", 128, "pool", 256, 256, "pool"),
    *(512, 512, "pool", 512, 512, "pool"),
)
_RESNET18 = (64, 128, 256, 512)
_MLP = (128, 128)

ImageShape = tuple[int, int, int]


class _Plain(nn.Module):
    """Convolutions, normalizations and ReLUs with max pooling, and one linear layer."""

    def __init__(
        self,
        plan: Sequence[int | str],
        kernels: Sequence[int],
        image_shape: ImageShape,
        n_classes: int,
        width: Callable[[int], int],
        normalization: str,
    ) -> None:
        super().__init__()
        rows, columns, channels = image_shape
        layers: list[nn.Module] = []
        n_convolutions = 0
        for place, step in enumerate(plan, start=1):
            if isinstance(step, str):
                # One pixel is normalized no more: images of 32 pixels come to it with
                # VGG11's last pooling, and smaller ones no sooner.
                smallest = 1 if place == len(plan) else 2
                pool = (
                    2 if rows >= 2 * smallest else 1,
                    2 if columns >= 2 * smallest else 1,
                )
                layers.append(nn.MaxPool2d(pool))
                rows, columns = rows // pool[0], columns // pool[1]
                continue
            size = kernels[min(n_convolutions, len(kernels) - 1)]
            n_convolutions += 1
            layers += [
                nn.Conv2d(channels, width(step), size, padding=size // 2),
                normalization_layer(normalization, width(step), rows * columns),
                nn.ReLU(),
            ]
            channels = width(step)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(rows * columns * channels, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))


class _Residual(nn.Module):
    """Two 3x3 convolutions, added to what goes in."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        sides: tuple[int, int],
        stride: int,
        normalization: str,
    ) -> None:
        super().__init__()
        n_pixels = sides[0] * sides[1]  # of the output

        def convolution(n_in: int, size: int, step: int) -> list[nn.Module]:
            return [
                nn.Conv2d(n_in, channels, size, step, size // 2, bias=False),
                normalization_layer(normalization, channels, n_pixels),
            ]

        self.branch = nn.Sequential(
            *convolution(in_channels, 3, stride),
            nn.ReLU(),
            *convolution(channels, 3, 1),
        )
        changes = stride != 1 or in_channels != channels
        self.shortcut = nn.Sequential(
            *(convolution(in_channels, 1, stride) if changes else [])
        )

    def forward(self, maps: Tensor) -> Tensor:
        return nn.functional.relu(self.branch(maps) + self.shortcut(maps))


class _ResNet18(nn.Module):
    """Four stages of two residual blocks, the mean over all pixels, one layer."""

    def __init__(
        self,
        image_shape: ImageShape,
        n_classes: int,
        width: Callable[[int], int],
        normalization: str,
    ) -> None:
        super().__init__()
        rows, columns, channels = image_shape
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width(_RESNET18[0]), 3, padding=1, bias=False),
            normalization_layer(normalization, width(_RESNET18[0]), rows * columns),
            nn.ReLU(),
        ]
        channels = width(_RESNET18[0])
        for stage, step in enumerate(_RESNET18):
            for block in range(2):
                stride = 2 if stage and not block else 1
                rows, columns = -(-rows // stride), -(-columns // stride)
                layers.append(
                    _Residual(
                        channels, width(step), (rows, columns), stride, normalization
                    )
                )
                channels = width(step)
        layers.append(nn.AdaptiveAvgPool2d(1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))


def _mlp(
    image_shape: ImageShape, n_classes: int, width: Callable[[int], int]
) -> nn.Module:
    rows, columns, channels = image_shape
    sizes = [rows * columns * channels, *map(width, _MLP)]
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], n_classes))


ARCHITECTURES = ("alexnet", "mlp", "resnet18", "vgg11")


def build_network(
    architecture: str,
    image_shape: ImageShape,
    n_classes: int,
    *,
    width_multiplier: float = 1.0,
    normalization: str = "instance",
) -> nn.Module:
    """Build one of the networks by its name.

    Parameters
    ----------
    architecture : {"alexnet", "mlp", "resnet18", "vgg11"}
    image_shape : tuple (height, width, channels)
    n_classes : int
    width_multiplier : float, default=1.0
        Times the published numbers of channels.
    normalization : {"instance", "layer", "group", "batch", "none"}, default="instance"
        After each convolution.

    Returns
    -------
    module : torch.nn.Module
        From images (n, channels, height, width) to logits (n, n_classes).
    """

    def width(channels: int) -> int:
        return max(1, round(channels * width_multiplier))

    if architecture == "mlp":
        return _mlp(image_shape, n_classes, width)
    if architecture == "resnet18":
        return _ResNet18(image_shape, n_classes, width, normalization)
    plan, kernels = (
        (_ALEXNET, (5, 5, 3)) if architecture == "alexnet" else (_VGG11, (3,))
    )
    return _Plain(plan, kernels, image_shape, n_classes, width, normalization)
