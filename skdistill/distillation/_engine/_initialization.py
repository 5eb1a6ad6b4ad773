"""What synthetic images start from: real images, noise, or given ones."""

from typing import Any

import numpy as np
import torch

from skdistill.distillation._engine._real_batches import RealData
from skdistill.utils._device import memory_of
from skdistill.utils._images import take
from skdistill.utils._validation import check_given_images


def check_pixel_size(pixel_size: int, image_shape: tuple[int, int, int]) -> None:
    """Raise a ValueError unless images consist of whole pixels of a size."""
    height, width, _ = image_shape
    if height % pixel_size or width % pixel_size:
        raise ValueError(
            f"`pixel_size`={pixel_size} must divide the height and width of the "
            f"images, {height} and {width}"
        )


def check_image_memory(
    ipc: int, n_classes: int, image_shape: tuple[int, int, int], device: torch.device
) -> None:
    """Raise a ValueError if synthetic images alone do not fit into memory."""
    height, width, n_channels = image_shape
    needed = 4 * n_classes * ipc * height * width * n_channels
    there = memory_of(device)
    if there is not None and needed > there:
        raise ValueError(
            f"`ipc`={ipc} images of each of {n_classes} classes, of shape "
            f"{image_shape}, need {needed / 1e9:.0f} GB of memory, but only "
            f"{there / 1e9:.0f} GB are available"
        )


def given_images(
    init: Any, n_images: int, image_shape: tuple[int, ...]
) -> np.ndarray | None:
    """Return the images that ``init`` gives, or None where it names a rule."""
    if isinstance(init, str):
        return None
    return check_given_images(init, "init", (n_images, *image_shape))


def initial_images(
    init: Any, data: RealData, ipc: int, pixel_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the first images, of as few pixels as are learned.

    Parameters
    ----------
    init : {"real", "noise"} or array-like
        Random real images of each class; Gaussian noise with the mean and deviation
        of each channel; or the images themselves.
    data : RealData
    ipc : int
        Number of images of each class.
    pixel_size : int
        Side of their pixels; of larger images means over these are taken.
    rng : Generator

    Returns
    -------
    images : ndarray of shape (n_classes * ipc, height / pixel_size, width / \
            pixel_size, channels), float32
    """
    height, width, n_channels = data.image_shape
    n_images = data.n_classes * ipc
    if isinstance(init, str) and init == "noise":
        mean, scale, _ = data.pixel_space
        shape = (n_images, height // pixel_size, width // pixel_size, n_channels)
        noise = rng.standard_normal(shape, dtype=np.float32)
        return (noise * scale.astype(np.float32) + mean).astype(np.float32)
    images = given_images(init, n_images, data.image_shape)
    if images is None:
        chosen = [rng.choice(rows, ipc, replace=False) for rows in data.rows]
        images = take(data.images, np.concatenate(chosen))
    blocks = images.reshape(
        n_images,
        height // pixel_size,
        pixel_size,
        width // pixel_size,
        pixel_size,
        n_channels,
    )
    return blocks.mean(axis=(2, 4), dtype=np.float32)
