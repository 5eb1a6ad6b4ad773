"""One mode for pictures of several: gray, color, transparency, more than 8 bits."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from skdistill.utils._pictures import (
    check_picture,
    describe_loss,
    describe_orientation,
    is_deep,
)
from skdistill.utils._warnings import warn

# What pictures may be made of.
MODES = ("auto", "L", "RGB", "RGBA")
_GRAY = ("1", "L", "LA", "La")
# Modes for pictures of more than 8 bits, by what those are called.
_DEEP = {"gray of 16 bits": "I;16", "gray of floats": "F", "FITS": "FITS"}


@dataclass(frozen=True)
class Look:
    """What a picture says of itself before it is decoded."""

    # "gray", "color", or one of those of more than 8 bits.
    kind: str
    # Width and height; None where only the pixels tell.
    size: tuple[int, int] | None


FITS = Look("FITS", None)


def look_at(image: Image.Image, content: bytes = b"") -> Look:
    """Return the kind of a picture; reject it if Pillow would drop bits or frames.

    Parameters
    ----------
    image : PIL.Image.Image
        The picture; it need not be decoded yet.
    content : bytes, default=b""
        Its file, or the beginning of that, as far as there is one.

    Raises
    ------
    ValueError
        If it has several frames, or channels that Pillow does not keep.
    """
    # The further images of a JPEG file are copies of the first.
    if image.format not in ("JPEG", "MPO"):
        check_picture(content, image, deep=True)
    if is_deep(image):
        kind = "gray of floats" if image.mode == "F" else "gray of 16 bits"
    else:
        kind = "gray" if image.mode in _GRAY else "color"
    return Look(kind, image.size)


def settle_mode(
    looks: Mapping[int, Look],
    mode: str,
    name: Callable[[int], str],
    *,
    resized: bool,
) -> tuple[str, dict[int, str]]:
    """Choose what all pictures become, and find those that cannot.

    Parameters
    ----------
    looks : mapping of int to Look
        What the pictures are, by position; one or more.
    mode : {"auto", "L", "RGB", "RGBA"}
        What was asked for.
    name : callable
        Takes a position and names the picture in messages.
    resized : bool
        Whether they are resized.

    Returns
    -------
    mode : str
        "L", "RGB", "RGBA", "I;16", "F" or "FITS".
    wrong : dict of int to str
        Why pictures do not fit to most others, by position.
    """
    wrong: dict[int, str] = {}
    n = len(looks)
    family = {i: _family(look.kind) for i, look in looks.items()}
    most, n_most = Counter(family.values()).most_common(1)[0]
    for i, what in family.items():
        if what != most:
            wrong[i] = (
                f"{name(i)} is {what}; {n_most} of {n} images are {most}, whose values "
                "are on another scale"
            )
    fitting = {i: look for i, look in looks.items() if i not in wrong}
    if most in _DEEP:
        if mode != "auto":
            raise ValueError(
                f"`mode={mode!r}` is for images of 8 bits; {name(min(fitting))} is "
                f"{most}; use `mode='auto'` to keep it"
            )
        chosen = _DEEP[most]
    elif mode != "auto":
        chosen = mode
    else:
        gray = [i for i, look in fitting.items() if look.kind == "gray"]
        chosen = "L" if len(gray) == len(fitting) else "RGB"
        if gray and chosen == "RGB":
            warn(
                f"{len(gray)} of {n} images are gray, the first {name(gray[0])}, and "
                "the others in color: gray images are repeated in the three channels. "
                "Pass `mode='RGB'` to confirm this, or `mode='L'` to convert all "
                "images to gray."
            )
    sizes = Counter(look.size for look in fitting.values())
    if not resized and len(sizes) > 1:
        size, n_size = sizes.most_common(1)[0]
        for i, look in fitting.items():
            if look.size != size:
                wrong[i] = (
                    f"{name(i)} has {_times(look.size)} pixels (width x height); "
                    f"{n_size} of {n} images have {_times(size)}. Use `size=(height, "
                    "width)` to resize all images"
                )
    return chosen, wrong


def _family(kind: str) -> str:
    return kind if kind in _DEEP else "of 8 bits"


def _times(size: tuple[int, int] | None) -> str:
    return "unknown" if size is None else f"{size[0]} x {size[1]}"


def pixels_of(
    image: Image.Image,
    mode: str,
    size: tuple[int, int] | None,
    note: Callable[[str], None],
) -> np.ndarray:
    """Return the pixels of a decoded picture in a mode and a size.

    Parameters
    ----------
    image : PIL.Image.Image
        The picture.
    mode : str
        What :func:`settle_mode` chose.
    size : tuple (height, width) or None
        What to resize it to.
    note : callable
        Takes what is lost, in the plural.

    Returns
    -------
    pixels : ndarray of shape (height, width, channels)
        Of dtype uint8; uint16 or float32 for those modes.
    """
    if mode in ("I;16", "F"):
        describe_orientation(image, note)
        values = np.asarray(image)
        values = values.astype(np.uint16 if mode == "I;16" else np.float32)
        if not np.isfinite(values).all():
            note("have pixels that are NaN or infinite, which estimators refuse")
        return resize_values(values[..., np.newaxis], size)
    if mode == "RGBA":
        describe_orientation(image, note)
    else:
        describe_loss(image, note)
    if image.mode != mode:
        if mode == "L" and image.mode not in _GRAY:
            # A palette has colors, which its numbers are not.
            image = image.convert("RGB")
        image = image.convert(mode)
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BOX)
    pixels = np.asarray(image)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def resize_values(values: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Resize images of any type of number by means over areas.

    Parameters
    ----------
    values : ndarray of shape (height, width, channels)
        The image.
    size : tuple (height, width) or None
        The size; None leaves it.

    Returns
    -------
    values : ndarray of shape (*size, channels)
        Of the same type.
    """
    if size is None or values.shape[:2] == size:
        return values
    planes: list[Any] = [
        Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32)).resize(
            size[::-1], Image.Resampling.BOX
        )
        for plane in np.moveaxis(values, -1, 0)
    ]
    resized = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    if values.dtype.kind in "ui":
        resized = np.rint(resized)
    return resized.astype(values.dtype)


def check_size(size: Any) -> tuple[int, int] | None:
    """Return (height, width) of what a user gave as a size; None is None.

    Raises
    ------
    ValueError
        If it is neither a whole number above 0 nor a pair of those.
    """
    if size is None:
        return None
    pair = (size, size) if np.ndim(size) == 0 else tuple(size)
    if len(pair) != 2 or not all(
        isinstance(side, (int, np.integer)) and not isinstance(side, bool) and side > 0
        for side in pair
    ):
        raise ValueError(
            "`size` must be a number of pixels or a pair (height, width) of them; got "
            f"{size!r}"
        )
    return int(pair[0]), int(pair[1])
