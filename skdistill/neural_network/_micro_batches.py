"""How a batch of images is cut into micro-batches, which threads compute side by side.

The cut depends on the images and the network alone, never on the number of threads:
sums over micro-batches, added up in their order, are bitwise the same for any number.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

# Maximum size in bytes of the largest feature map of a micro-batch: several such maps
# then fit into the last cache that cores share.
_MAX_BYTES = 5 * 2**20
# Below, a step is mostly the overhead of its operations, which each part would repeat.
_MIN_BYTES_TO_CUT = 3 * 2**19


def micro_batches(n_images: int, n_bytes: int, device: torch.device) -> list[slice]:
    """Cut a batch into an even number of nearly equal parts, or leave it whole.

    Parameters
    ----------
    n_images : int
    n_bytes : int
        Size of the largest feature map of one image.
    device : torch.device
        A batch on a GPU is left whole.

    Returns
    -------
    parts : list of slice
    """
    total = n_images * n_bytes
    n_parts = 1
    if device.type == "cpu" and total >= _MIN_BYTES_TO_CUT:
        n_parts = min(n_images, 2 * -(-total // (2 * _MAX_BYTES)))
    bounds = [n_images * place // n_parts for place in range(n_parts + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]


def largest_map(module: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Return the number of values of the largest feature map of one image.

    Parameters
    ----------
    module : nn.Module
        On the meta device, where nothing is computed.
    image_shape : tuple (height, width, channels)
    """
    largest = 0

    def note(_: nn.Module, __: tuple[Tensor], output: Tensor) -> None:
        nonlocal largest
        largest = max(largest, output.numel())

    hooks = [part.register_forward_hook(note) for part in module.modules()]
    height, width, channels = image_shape
    module(torch.empty(1, channels, height, width, device="meta"))
    for hook in hooks:
        hook.remove()
    return largest
