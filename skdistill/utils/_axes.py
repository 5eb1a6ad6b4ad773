"""The order of the axes of images: errors, and warnings about likely mistakes."""

import math
from typing import Any

from skdistill.utils._warnings import warn_once

# Channels of gray, color, and color with transparency or four bands.
_USUAL_CHANNELS = (1, 3, 4)
# Equal sides from the first number of pixels on are warned about, from the second on
# rejected.
_MIN_SIDE, _MIN_SURE_SIDE = 5, 8
# Unusual numbers of channels are accepted as such below this limit.
_MAX_CHANNELS = 16
# One channel with sides that differ more is a signal: one row, long, of channels.
_MAX_ASPECT = 2


def is_channels_first(height: int, width: int, channels: int) -> bool:
    """Tell whether a shape can only be (channels, height, width), PyTorch's order.

    An image that is 1, 3 or 4 pixels high and has as many channels as it is wide is
    none: the first axis has the channels.  Of 3 or 4 the others may differ.
    """
    return (
        height in _USUAL_CHANNELS
        and min(width, channels) >= _MIN_SURE_SIDE
        and (width == channels or height > 1)
    )


def _may_be_channels_first(height: int, width: int, channels: int) -> bool:
    short, long = sorted((width, channels))
    if height in _USUAL_CHANNELS and short == long >= _MIN_SIDE:
        return True
    if height == 1:
        return short >= _MIN_SURE_SIDE and long <= _MAX_ASPECT * short
    return 1 < height < _MAX_CHANNELS <= width == channels


def moved_to_last(name: str, is_tensor: bool = False) -> str:
    """Return what moves the channels from PyTorch's place to the last axis."""
    by_numpy = f"{name}.transpose(0, 2, 3, 1)"
    if not is_tensor:
        return by_numpy
    return f"{name}.permute(0, 2, 3, 1), or of an array {by_numpy}"


def check_axis_order(
    shape: tuple[int, ...],
    name: str,
    expected: Any = None,
    *,
    is_tensor: bool = False,
) -> None:
    """Reject images in another order of axes, and warn about ambiguous ones.

    Parameters
    ----------
    shape : tuple (n_samples, height, width, channels)
        The shape of the images passed by the user.
    name : str
        What the parameter is called.
    expected : tuple (height, width, channels), default=None
        That of the images a fitted estimator knows.
    is_tensor : bool, default=False
        Whether it is a tensor of PyTorch, which moves axes by another name.

    Raises
    ------
    ValueError
        If the channels do not come last.
    """
    n_samples, height, width, channels = shape
    cure = moved_to_last(name, is_tensor)
    if expected is not None:
        one, two, three = expected
        if shape[1:] != (one, two, three) and shape[1:] == (three, one, two):
            raise ValueError(
                f"{name} must hold images of shape (height, width, channels) = "
                f"{(one, two, three)}; got {shape[1:]}, which is the order of "
                f"PyTorch: pass {cure}"
            )
        return
    if is_channels_first(height, width, channels):
        raise ValueError(
            f"{name} must hold images (n_samples, height, width, channels); got "
            f"{tuple(shape)}, which is PyTorch's order (n_samples, channels, height, "
            f"width): pass {cure}.  Images that really are {height} "
            f"pixel{'s' if height > 1 else ''} high can be turned: {name}.swapaxes(1, "
            "2)"
        )
    if (
        n_samples == height >= _MAX_CHANNELS <= channels
        and width in _USUAL_CHANNELS
        and width > 1
    ):
        raise ValueError(
            f"{name} must hold images (n_samples, height, width, channels); got "
            f"{tuple(shape)}, which is the order (height, width, channels, n_samples): "
            f"pass {name}.transpose(3, 0, 1, 2)"
        )
    if _may_be_channels_first(height, width, channels):
        warn_once(
            ("order of axes", shape[1:]),
            f"{name} of shape {tuple(shape)} is treated as images {height} pixels "
            f"high and {width} wide, with {channels} channels.  If it is in PyTorch's "
            f"order (n_samples, channels, height, width), pass {cure}",
        )


def check_shape_order(shape: tuple[int, int, int]) -> None:
    """Refuse an `image_shape` in PyTorch's order."""
    if is_channels_first(*shape):
        raise ValueError(
            f"`image_shape` must be (height, width, channels); got {shape}, which is "
            "PyTorch's order.  Convert flattened images in that order by "
            f"X.reshape(-1, {shape[0]}, {shape[1]}, {shape[2]}).transpose(0, 2, 3, 1)"
        )


def which_axes(shape: tuple[int, int, int], name: str, expected: Any) -> str:
    """Say what three axes may be, and how the fourth is added."""
    one_image = f"For a single image, pass {name}[np.newaxis]"
    gray = f"For gray images, add an axis for the channel: pass {name}[..., np.newaxis]"
    turned = (
        f"For a single image in the order of PyTorch, pass {name}.transpose(1, "
        "2, 0)[np.newaxis]"
    )
    if expected is not None:
        height, width, channels = expected
        if shape == (height, width, channels):
            return one_image
        if shape == (channels, height, width):
            return turned if channels > 1 else f"{gray}.  {one_image}"
    elif shape[2] in _USUAL_CHANNELS and min(shape[:2]) >= _MIN_SIDE:
        return one_image
    elif shape[0] in _USUAL_CHANNELS and shape[0] > 1 and shape[1] == shape[2]:
        return f"{gray}.  {turned}"
    return f"{gray}.  {one_image}"


def square_shape(n_features: int) -> tuple[int, int, int] | None:
    """Return the shape of square images with this number of pixel values, or None."""
    for channels in _USUAL_CHANNELS:
        side = math.isqrt(n_features // channels)
        if side >= _MIN_SURE_SIDE and side * side * channels == n_features:
            return (side, side, channels)
    return None


def warn_of_flattened_squares(n_features: int) -> None:
    """Tell that as many columns as square images have are read as one row of pixels."""
    square = square_shape(n_features)
    if square is not None:
        warn_once(
            ("flattened", n_features),
            f"X has {n_features} columns, which are read as images of 1 x "
            f"{n_features} pixels, since `image_shape` is None.  Use "
            f"`image_shape`={square} for images of {square[0]} x {square[1]} pixels, "
            f"or `image_shape`={(1, n_features, 1)} to confirm that they are not "
            "images",
        )
