"""Decode FITS files into bands."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

SIGNATURE = b"SIMPLE  ="


def decode_fits(content: bytes, bands: Sequence[int | str] | None = None) -> np.ndarray:
    """Decode the image or the images of a FITS file.

    Parameters
    ----------
    content : bytes
        The file, not compressed as a whole; images compressed inside it are fine.

    bands : sequence of int or str, default=None
        Which bands to take, in this order: numbers of planes or, for an image per
        extension, of images, or names of extensions.  None takes all.

    Returns
    -------
    pixels : ndarray of shape (height, width, n_bands), dtype float32
        Physical values; missing ones are NaN.  The first row is the uppermost, as
        viewers show it, which is the last of the file.

    Raises
    ------
    ImportError
        If astropy is not installed.

    ValueError
        If there is no image or none with a value, if images differ in shape, if a band
        is not there, or if the file is damaged, cut short, or claims more pixels than
        it can have.

    Notes
    -----
    Bands are the planes of the first image if that is a cube, else all images of two
    dimensions.  Where a header has a checksum, it is checked.
    """
    try:
        from astropy.io import fits
    except ImportError as error:
        raise ImportError(
            "FITS files need astropy: `pip install skdistill[fits]`."
        ) from error

    with fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=False) as hdus:
        images = [hdu for hdu in hdus if hdu.is_image and _shape(hdu)]
        if not images:
            raise ValueError("the FITS file has no image")
        first = _shape(images[0])
        if len(first) not in (2, 3):
            raise ValueError(
                f"an image in a FITS file must have 2 or 3 axes; its shape is {first}"
            )
        if len(first) == 3:
            planes = _read(images[0], content)
            chosen = [planes[i] for i in _choose(bands, len(planes), [])]
        else:
            images = [hdu for hdu in images if len(_shape(hdu)) == 2]
            numbers = _choose(bands, len(images), [hdu.name for hdu in images])
            images = [images[i] for i in numbers]
            for hdu in images:
                if _shape(hdu) != _shape(images[0]):
                    raise ValueError(
                        "the images of the FITS file differ in shape: "
                        f"{_shape(images[0])} and {_shape(hdu)}; `bands` takes some"
                    )
            chosen = [_read(hdu, content) for hdu in images]
    pixels = np.stack([plane[::-1] for plane in chosen], axis=-1)
    if not np.isfinite(pixels).any():
        raise ValueError("no pixel of the FITS image has a value")
    return pixels


def _shape(hdu: Any) -> tuple[int, ...]:
    """Shape of an image from its header, without axes of length 1 in front."""
    shape = tuple(hdu.shape or ())
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _choose(
    bands: Sequence[int | str] | None, n_bands: int, names: list[str]
) -> list[int]:
    """Numbers of the bands to take."""
    if bands is None:
        return list(range(n_bands))
    chosen = []
    for band in bands:
        if isinstance(band, str):
            # astropy gives names of extensions in capitals.
            if band.upper() not in names:
                raise ValueError(
                    f"`bands` asks for {band!r}; the names of the images are {names}"
                )
            chosen.append(names.index(band.upper()))
        elif 0 <= band < n_bands:
            chosen.append(int(band))
        else:
            raise ValueError(
                f"`bands` asks for number {band}; the file has {n_bands} bands"
            )
    return chosen


def _read(hdu: Any, content: bytes) -> np.ndarray:
    """Values of an image, float32 of shape (..., height, width)."""
    # Before anything of that size is allocated.
    shape = _shape(hdu)
    n_pixels = math.prod(shape)
    if n_pixels == 0:
        raise ValueError(f"an image of shape {shape} has no pixels")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and n_pixels > limit:
        raise ValueError(
            f"an image of shape {shape} has more pixels than "
            f"`PIL.Image.MAX_IMAGE_PIXELS` ({limit})"
        )
    place = hdu.fileinfo()
    if place["datLoc"] + place["datSpan"] > len(content):
        raise ValueError("the FITS file is cut short")
    if hdu.verify_datasum() == 0:
        raise ValueError("the FITS file is damaged: a checksum does not fit its data")
    # Values that float32 cannot hold become infinite, which counts as missing.
    with np.errstate(over="ignore"):
        values = np.asarray(hdu.data).astype(np.float32)
    return values.reshape(shape)
