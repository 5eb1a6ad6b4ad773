"""Rotate, crop and resample decoded images."""

import math

import numpy as np
from PIL import Image

_QUARTER_TURNS = {
    1: Image.Transpose.ROTATE_90,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
}


def cut_out(
    image: Image.Image, *, size: int, crop: float, angle: float = 0.0
) -> Image.Image:
    """Rotate an image, crop it to its center and resample it.

    Parameters
    ----------
    image : PIL.Image.Image
        A decoded image of any mode with values (no palette).
    size : int
        Height and width of the result in pixels.
    crop : float
        Side of the square that is kept as a fraction of the shorter side.
    angle : float, default=0.0
        Degrees, counter-clockwise.

    Returns
    -------
    cutout : PIL.Image.Image
        Image of `size` x `size` pixels.
    """
    side = max(1, round(crop * min(image.size)))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    quarters, rest = divmod(angle, 90)
    if rest == 0:
        box = (left, top, left + side, top + side)
        cutout = image.resize((size, size), Image.Resampling.BOX, box=box)
        turn = _QUARTER_TURNS.get(int(quarters) % 4)
        return cutout if turn is None else cutout.transpose(turn)

    # A mean over whole blocks first bounds the number of points for large images.
    shrink = max(1, side // (2 * size))
    if shrink > 1:
        image = image.reduce(shrink)
    n_points = max(2, math.ceil(2 * side / (shrink * size)))

    # Point (x, y) of the grid lies at (a x + b y + c, -b x + a y + f) in the image.
    n_grid = n_points * size
    spacing = side / (shrink * n_grid)
    a = math.cos(math.radians(angle)) * spacing
    b = -math.sin(math.radians(angle)) * spacing
    c = (left + side / 2) / shrink - (a + b) * n_grid / 2
    f = (top + side / 2) / shrink - (a - b) * n_grid / 2
    grid = image.transform(
        (n_grid, n_grid),
        Image.Transform.AFFINE,
        (a, b, c, -b, a, f),
        resample=Image.Resampling.NEAREST,
    )
    return grid.reduce(n_points)


def cut_out_bands(
    pixels: np.ndarray, *, size: int, crop: float, angle: float = 0.0
) -> np.ndarray:
    """Do the same to bands of numbers, of which some may be missing.

    Parameters
    ----------
    pixels : ndarray of shape (height, width, n_bands), dtype float32
        Any values; those that are not finite count as missing.
    size, crop, angle
        As in :func:`cut_out`.

    Returns
    -------
    cutout : ndarray of shape (size, size, n_bands), dtype float32
        Means over the pixels that are there; 0 where none is.
    """
    height, width, n_bands = pixels.shape
    there = np.isfinite(pixels)
    # Beyond the image a tilted crop meets pixels that are missing, too.
    side = max(1, round(crop * min(height, width)))
    beyond = angle % 90 != 0 and side * math.sqrt(2) > min(height, width)
    cutout = np.empty((size, size, n_bands), dtype=np.float32)
    for band in range(n_bands):
        known = there[..., band]
        values = np.where(known, pixels[..., band], np.float32(0))
        cutout[..., band] = _cut_out_numbers(values, size, crop, angle)
        if beyond or not known.all():
            share = _cut_out_numbers(known.astype(np.float32), size, crop, angle)
            np.divide(
                cutout[..., band], share, out=cutout[..., band], where=share > 1e-6
            )
    return cutout


def _cut_out_numbers(
    values: np.ndarray, size: int, crop: float, angle: float
) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(cut_out(image, size=size, crop=crop, angle=angle))
