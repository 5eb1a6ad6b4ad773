"""Decode an image file of any format from its bytes."""

import io
import zlib
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from PIL import Image, UnidentifiedImageError

from skdistill.curation._fits import SIGNATURE, decode_fits
from skdistill.curation._jpeg import decode_jpeg, open_checked
from skdistill.utils._pictures import check_picture, describe_loss, name_unknown
from skdistill.utils._untrusted import max_unpacked

# No sound cutout is as large.
MAX_BYTES = 2**30
# What is tried on files that are neither JPEG nor FITS.  Of Pillow's other formats
# some start programs, and none is one of images that are classified.
_FORMATS = ("PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "JPEG2000")
_JPEG, _PNG, _GZIP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x1f\x8b"


def decode(
    content: bytes,
    bands: Sequence[int | str] | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Image.Image | np.ndarray:
    """Decode the content of an image file.

    Parameters
    ----------
    content : bytes
        A file in JPEG, PNG, TIFF, WebP, GIF, BMP, PPM, JPEG 2000 or FITS, as it is
        or in gzip.
    bands : sequence of int or str, default=None
        Which bands of a FITS file to take.
    note : callable, default=None
        Takes what was guessed or lost, in the plural; None is nobody.

    Returns
    -------
    image : PIL.Image.Image, or ndarray of shape (height, width, n_bands)
        The former, of mode RGB, but for FITS the latter, of dtype float32.

    Raises
    ------
    Exception
        Any error of the decoders for a damaged file; the message says what is wrong.
    """
    content = unpacked(content)
    if content.startswith(SIGNATURE):
        return decode_fits(content, bands, note)
    image = decode_picture(content)
    describe_loss(image, note)
    return image if image.mode == "RGB" else image.convert("RGB")


def decode_picture(content: bytes, *, deep: bool = False) -> Image.Image:
    """Decode the content of an image file that is not FITS, in the mode that it has.

    Parameters
    ----------
    content : bytes
        A file in a format of Pillow, not in gzip.
    deep : bool, default=False
        Whether gray of 16 bits or of floats will do.

    Returns
    -------
    image : PIL.Image.Image
        The decoded image.

    Raises
    ------
    Exception
        Any error of the decoders for a damaged file; the message says what is wrong.
    """
    try:
        if content.startswith(_JPEG):
            return decode_jpeg(content)
        if content.startswith(_PNG):
            # Pillow checks what the image is made of only when it is asked to.
            open_checked(io.BytesIO(content), ("PNG",)).verify()
        image = open_checked(io.BytesIO(content), known_formats())
    except UnidentifiedImageError as error:
        raise ValueError(name_unknown(content)) from error
    check_picture(content, image, deep=deep)
    image.load()
    return image


@cache
def known_formats() -> tuple[str, ...]:
    """Return the formats that are tried on files that are neither JPEG nor FITS."""
    # Pillow can be built without some.
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def unpacked(content: bytes) -> bytes:
    """Return the content of a file in gzip, of another what it is."""
    return _unzip(content) if content.startswith(_GZIP) else content


def _unzip(content: bytes) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    limit = min(MAX_BYTES, max_unpacked(len(content)))
    unzipped = unzip.decompress(content, limit)
    if not unzip.eof:
        if len(unzipped) == limit:
            raise ValueError(f"it has more than {limit} bytes when decompressed")
        raise ValueError("it is truncated: its gzip stream has no end")
    return unzipped
