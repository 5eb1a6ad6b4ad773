"""What Pillow makes of an image file, held against what the file says of itself.

Pillow opens many files of more than 8 bits per channel, or of more channels, as if they
had 8 bits and three, and does not say so.
"""

import re
import struct
from collections.abc import Callable
from typing import Any

from PIL import Image

from skdistill.utils._signatures import name_content

_PNG = b"\x89PNG\r\n\x1a\n"
# A comment may stand between any two words of the header.
_GAP = rb"(?:\s|#[^\n\r]*[\n\r])+"
_NETPBM = re.compile(rb"P[2356]" + (_GAP + rb"(\d{1,10})") * 3)
# Start of a JPEG 2000 codestream, and of its description.
_CODESTREAM = b"\xff\x4f\xff\x51"
# Tags of TIFF.
_KIND, _BITS, _SAMPLES, _EXTRA, _FORMAT = 254, 258, 277, 338, 339
_NUMBERS = {2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex"}
_ORIENTATION = 274
# Pages of a TIFF file that are looked at.
_MAX_PAGES = 8
# Formats that are known but come in more kinds than Pillow reads.
_VARIETIES = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    _PNG: "PNG",
    b"\xff\xd8\xff": "JPEG",
}


def is_deep(image: Image.Image) -> bool:
    """Tell whether a picture is gray of 16 bits, or of floats, as Pillow reads it."""
    return image.mode == "F" or image.mode.startswith("I;16")


def check_picture(content: bytes, image: Image.Image, *, deep: bool = False) -> None:
    """Refuse an image of which Pillow would drop bits, bands or frames.

    Parameters
    ----------
    content : bytes
        The file.
    image : PIL.Image.Image
        What Pillow opened, not yet decoded.
    deep : bool, default=False
        Whether gray of 16 bits or of floats will do.

    Raises
    ------
    ValueError
        If a channel has more than 8 bits or is none of whole numbers from 0, if there
        are bands beside colors and transparency, or several frames or pages.
    """
    deep &= is_deep(image)
    n_bits = 8 if deep else _bits(content, image)
    # Pillow would clip these to 255.
    if image.mode.startswith(("I", "F")) and not deep:
        raise ValueError(
            f"mode {image.mode!r} has more than 8 bits per channel. Scale the images "
            "to 8 bits, or store them as FITS"
        )
    if n_bits > 8:
        raise ValueError(
            f"{n_bits} bits per channel are more than the 8 bits that Pillow keeps. "
            "Scale the images to 8 bits, or store them as FITS"
        )
    tags = getattr(image, "tag_v2", {})
    numbers = [_NUMBERS.get(kind) for kind in _all(tags, _FORMAT)]
    if any(numbers) and not deep:
        raise ValueError(
            f"its pixels are {next(filter(None, numbers))}, not integers from 0 to 255"
        )
    n_samples, extra = _all(tags, _SAMPLES), _all(tags, _EXTRA)
    if 0 in extra or (n_samples and n_samples[0] > max(4, len(image.getbands()))):
        raise ValueError(
            f"it has {n_samples[0] if n_samples else 'more'} bands, of which Pillow "
            "would drop all but three. Store the image as FITS, or read it with "
            "tifffile as an array"
        )
    if getattr(image, "is_animated", False) and not _has_one_page(image):
        raise ValueError(
            "it has several frames or pages; save the right one as a separate file"
        )


def _all(tags: Any, number: int) -> list[Any]:
    value = tags.get(number, ())
    return list(value) if isinstance(value, tuple) else [value]


def _bits(content: bytes, image: Image.Image) -> int:
    """Bits of the deepest channel by the file's own word; 8 if it has none."""
    if content.startswith(_PNG):
        return content[24]
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        return max([int(bits) for bits in _all(tags, _BITS)], default=1)
    header = _NETPBM.match(content[:4096])
    if header:
        return int(header[3]).bit_length()
    start = content.find(_CODESTREAM) if image.format == "JPEG2000" else -1
    if start >= 0:
        # After the markers: length, capabilities, eight sizes, number of components.
        place = start + 4 + 2 + 2 + 8 * 4
        (n_components,) = struct.unpack_from(">H", content, place)
        depths = content[place + 2 : place + 2 + 3 * n_components : 3]
        return max([(depth & 0x7F) + 1 for depth in depths], default=8)
    return 8


def _has_one_page(image: Any) -> bool:
    """Tell whether the further pages of a TIFF file are smaller copies and masks."""
    if getattr(image, "tag_v2", None) is None:
        return False
    try:
        for page in range(1, _MAX_PAGES):
            try:
                image.seek(page)
            except EOFError:
                break
            # One bit for a smaller copy, one for a mask.
            if not int(image.tag_v2.get(_KIND, 0)) & 5:
                return False
    finally:
        image.seek(0)
    return True


def describe_loss(image: Image.Image, note: Callable[[str], None]) -> None:
    """Say what is lost where a decoded image becomes RGB, as it is.

    Parameters
    ----------
    image : PIL.Image.Image
        A decoded image.
    note : callable
        Takes what to say, in the plural.
    """
    has_alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa")
    if has_alpha or "transparency" in image.info:
        alpha = image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
        lowest: Any = alpha.getchannel("A").getextrema()[0]
        if lowest < 255:
            note("have transparent pixels, which are read with their stored color")
    describe_orientation(image, note)


def describe_orientation(image: Image.Image, note: Callable[[str], None]) -> None:
    """Say that a decoded image is to be shown turned or mirrored, if it is."""
    if "exif" in image.info:
        try:
            orientation = image.getexif().get(_ORIENTATION, 1)
        # Notes of a camera are no part of the image.
        except Exception:
            orientation = 1
        if orientation in range(2, 9):
            note("have an EXIF orientation, which is not applied")


def name_unknown(content: bytes) -> str:
    """Say of a file what it is instead of an image that Pillow reads.

    Parameters
    ----------
    content : bytes
        The file.

    Returns
    -------
    message : str
        A sentence about "it".
    """
    variety = next((v for k, v in _VARIETIES.items() if content.startswith(k)), None)
    if variety is not None:
        return (
            f"it is a {variety} file that is damaged or of a kind that Pillow does "
            "not read, such as floats, 12 bits or more than four bands"
        )
    other = name_content(content[:1000])
    return f"it is {other}" if other else "its image format is unknown"
