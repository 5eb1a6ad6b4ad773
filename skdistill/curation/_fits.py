"""Decode FITS files into bands."""

import io
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from skdistill.curation._planes import are_pictures, check_axes

SIGNATURE = b"SIMPLE  ="

# Columns with the tiles of a compressed image.
_PACKED = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA")


def decode_fits(
    content: bytes,
    bands: Sequence[int | str] | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> np.ndarray:
    """Decode the image or the images of a FITS file.

    Parameters
    ----------
    content : bytes
        The file, not compressed as a whole; images compressed inside it are fine.
    bands : sequence of int or str, default=None
        Which bands to take, in this order: numbers of planes or, for an image per
        extension, of images, or names of extensions.  None takes all but errors,
        weights, flags and the like, by the names of their extensions.
    note : callable, default=None
        Takes what was guessed, in the plural; None is nobody.

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
        If there is no image or none with a value, if values are too large or too small
        for float32, if images differ in shape, if a band is not there, if a cube has
        its bands on another axis than the first, or if the file is damaged, truncated,
        or declares more pixels than it can have.

    Notes
    -----
    Bands are the planes of the first image if that is a cube, else all images of two
    dimensions; errors, weights and flags are no images here.  Where a header has a
    checksum, it is checked.
    """
    try:
        from astropy.io import fits
    except ImportError as error:
        raise ImportError(
            "Reading FITS files requires astropy: `pip install skdistill[fits]`"
        ) from error

    # Without `uint` astropy honors BLANK in unsigned integers, too.
    with fits.open(
        io.BytesIO(content), memmap=False, lazy_load_hdus=False, uint=False
    ) as hdus:
        images = [hdu for hdu in hdus if hdu.is_image and _shape(hdu)]
        if not images:
            raise ValueError("the FITS file has no image")
        # Spectra and calibrations beside a picture are none.
        images = [hdu for hdu in images if len(_shape(hdu)) > 1] or images
        if bands is None:
            images = _pictures(images, note)
        cube = _cube(images, bands)
        if cube is not None:
            check_axes(_shape(cube))
            if bands is None and len(images) > 1:
                note(
                    f"have {len(images)} images, of which the first is a cube: "
                    "only its planes are used as bands"
                )
            _check_sizes([cube], content, fits)
            planes = _read(cube, content, note)
            chosen = [planes[i] for i in _choose(bands, len(planes), [])]
        else:
            flat = [hdu for hdu in images if len(_shape(hdu)) == 2]
            if bands is None and len(flat) < len(images):
                note(
                    f"have {len(images)} images, of which {len(images) - len(flat)} "
                    "are cubes: only those of two axes are used as bands"
                )
            images = flat
            names = [hdu.name for hdu in images]
            numbers = _choose(bands, len(images), names)
            images = [images[i] for i in numbers]
            for hdu in images:
                if _shape(hdu) != _shape(images[0]):
                    raise ValueError(
                        "the images of the FITS file differ in shape: "
                        f"{_shape(images[0])} and {_shape(hdu)}; use `bands` to "
                        "select images of one shape"
                    )
            if bands is None:
                _tell_differences(images, names, note)
            else:
                _tell_numbers(bands, numbers, names, note)
            _check_sizes(images, content, fits)
            chosen = [_read(hdu, content, note) for hdu in images]
    pixels = np.stack([plane[::-1] for plane in chosen], axis=-1)
    if not np.isfinite(pixels).any():
        raise ValueError("no pixel of the FITS image has a value")
    _tell_placeholders(pixels, note)
    return pixels


# What some pipelines write where there is no value, in place of NaN or BLANK.
_PLACEHOLDERS = (-99.0, -999.0, -9999.0, -99999.0, -32768.0)


def _tell_placeholders(pixels: np.ndarray, note: Callable[[str], None]) -> None:
    """Warn about values that most likely mark missing pixels."""
    low = float(np.nanmin(pixels))
    # No smallest brightness is met twice by chance with just such a number.
    if low in _PLACEHOLDERS and np.count_nonzero(pixels == low) > 1:
        note(
            f"have pixels of {low:g}, which often marks a missing value but is "
            "treated as a brightness; mark missing pixels by NaN or BLANK in the "
            "file"
        )


def _pictures(images: list[Any], note: Callable[[str], None]) -> list[Any]:
    """Leave out what is no picture by its name."""
    names = [hdu.name for hdu in images]
    pictures = [
        hdu for hdu, is_one in zip(images, are_pictures(names), strict=True) if is_one
    ]
    if not pictures:
        raise ValueError(
            f"judging by their names, its images {names[:20]} are errors, weights, "
            "flags or the like; use `bands` to select some of them anyway"
        )
    if len(pictures) < len(images):
        left = [hdu.name for hdu in images if hdu not in pictures]
        note(
            f"have images {names[:20]} of which {left[:20]} are left out because of "
            "their names; use `bands` to select others"
        )
    return pictures


def _cube(images: list[Any], bands: Sequence[int | str] | None) -> Any:
    """Return the image whose planes are the bands, None if the bands are images.

    It is the first picture: numbers are of the same planes that are read without them.
    """
    pictures = are_pictures([hdu.name for hdu in images])
    first = next(
        (hdu for hdu, is_one in zip(images, pictures, strict=True) if is_one), images[0]
    )
    shape = _shape(first)
    if len(shape) not in (2, 3):
        raise ValueError(
            f"an image in a FITS file must have 2 or 3 axes; its shape is {shape}"
        )
    # Names are of images, never of planes.
    named = any(isinstance(band, str) for band in bands or ())
    if len(shape) == 2 or (named and any(len(_shape(hdu)) == 2 for hdu in images)):
        return None
    return first


def _tell_numbers(
    bands: Sequence[int | str],
    numbers: list[int],
    names: list[str],
    note: Callable[[str], None],
) -> None:
    """Say which errors, weights and flags were chosen by their numbers."""
    pictures = are_pictures(names)
    others = [
        names[i]
        for band, i in zip(bands, numbers, strict=True)
        if not isinstance(band, str) and not pictures[i]
    ]
    if others and any(pictures[i] for i in numbers):
        note(
            f"have images {names[:20]}, of which `bands` selects {others[:20]} by "
            "their numbers, which count all images; use names to confirm this"
        )


def _tell_differences(
    images: list[Any], names: list[str], note: Callable[[str], None]
) -> None:
    """Say why images are perhaps no bands of one picture."""
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        note(
            f"have several images of the same name, {twice[:20]}, which are used "
            "as bands; use `bands` to select others"
        )
    kinds = {hdu.header.get("BITPIX", 0) < 0 for hdu in images}
    if len(kinds) > 1:
        note(
            "have images of floats and of integers, which are all used as bands; "
            "if some are masks, use `bands` to leave them out"
        )


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
            if not names:
                raise ValueError(
                    f"`bands` asks for {band!r}, but the planes of a cube have no "
                    f"names: use numbers from 0 to {n_bands - 1}"
                )
            # astropy gives names of extensions in capitals.
            if band.upper() not in names:
                raise ValueError(
                    f"`bands` asks for {band!r}; the names of the images are {names}"
                )
            if names.count(band.upper()) > 1:
                raise ValueError(
                    f"`bands` asks for {band!r}; several of the images, {names}, "
                    "have this name: use numbers instead"
                )
            chosen.append(names.index(band.upper()))
        elif 0 <= band < n_bands:
            chosen.append(int(band))
        else:
            raise ValueError(
                f"`bands` asks for number {band}; the file has {n_bands} bands"
            )
    return chosen


def _check_sizes(images: list[Any], content: bytes, fits: Any) -> None:
    """Raise an error if images are too large, before anything of that size is made."""
    n_pixels = 0
    for hdu in images:
        shape = _shape(hdu)
        if math.prod(shape) == 0:
            raise ValueError(f"an image of shape {shape} has no pixels")
        n_pixels += math.prod(shape)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and n_pixels > limit:
        shapes = _shape(images[0]) if len(images) == 1 else [_shape(i) for i in images]
        what = "an image of shape" if len(images) == 1 else "images of shapes"
        raise ValueError(
            f"{what} {str(shapes)[:200]} have more pixels than "
            f"`PIL.Image.MAX_IMAGE_PIXELS` ({limit})"
        )
    packed = [hdu for hdu in images if isinstance(hdu, fits.CompImageHDU)]
    if packed:
        starts = {hdu.fileinfo()["datLoc"] for hdu in packed}
        with fits.open(
            io.BytesIO(content),
            memmap=False,
            lazy_load_hdus=False,
            disable_image_compression=True,
        ) as tables:
            for table in tables:
                if table.fileinfo()["datLoc"] in starts:
                    _check_tiles(table, content)


def _check_tiles(table: Any, content: bytes) -> None:
    """Raise an error unless the tiles of a compressed image are of the size they claim.

    The decoders of astropy take what the packed data say for granted.
    """
    header = table.header
    sides = [header[f"ZNAXIS{i}"] for i in range(1, 1 + header["ZNAXIS"])]
    # Rows, where the header does not say.
    tile = [
        header.get(f"ZTILE{i}", side if i == 1 else 1)
        for i, side in enumerate(sides, start=1)
    ]
    if min(tile) < 1 or any(t > s for t, s in zip(tile, sides, strict=True)):
        raise ValueError(f"its tiles of {tile} pixels do not fit an image of {sides}")
    n_tiles = math.prod(-(-s // t) for s, t in zip(sides, tile, strict=True))
    if len(table.data) != n_tiles:
        raise ValueError(f"it has {len(table.data)} tiles instead of {n_tiles}")
    n_pixels = math.prod(tile)
    heap = table.fileinfo()["datLoc"] + header.get(
        "THEAP", header["NAXIS1"] * header["NAXIS2"]
    )
    rows = np.asarray(table.data)
    for column in table.columns:
        if column.name not in _PACKED:
            continue
        kind = str(column.format).lstrip("01")[1:2]
        width = {"B": 1, "I": 2, "J": 4}.get(kind)
        if width is None:
            raise ValueError(f"its tiles are of type {column.format!r}")
        places = rows[column.name].astype(np.int64)
        # Nothing keeps all tiles from lying in the same place.
        if places.min() < 0 or width * float(places[:, 0].sum()) > len(content):
            raise ValueError("its tiles are larger than the file")
        coding = header["ZCMPTYPE"] if column.name == "COMPRESSED_DATA" else "GZIP_1"
        for n_items, offset in places.tolist():
            start = heap + offset
            packed = content[start : start + n_items * width]
            if n_items:
                _check_tile(packed, str(coding).strip().upper(), n_pixels)


def _check_tile(packed: bytes, coding: str, n_pixels: int) -> None:
    if coding.startswith("GZIP"):
        # Of 8 bytes at most is a pixel.
        unzip = zlib.decompressobj(wbits=31)
        unzip.decompress(packed, 8 * n_pixels)
        if not unzip.eof and unzip.decompress(unzip.unconsumed_tail, 1):
            raise ValueError("a compressed tile is larger than declared")
    elif coding.startswith("HCOMPRESS"):
        # A signature of two bytes, then both sides.
        height, width = struct.unpack(">ii", packed[2:10].ljust(8, b"\0"))
        if height < 1 or width < 1 or height * width > n_pixels:
            raise ValueError("a compressed tile is larger than declared")


def _read(hdu: Any, content: bytes, note: Callable[[str], None]) -> np.ndarray:
    """Values of an image, float32 of shape (..., height, width)."""
    shape = _shape(hdu)
    place = hdu.fileinfo()
    if place["datLoc"] + place["datSpan"] > len(content):
        raise ValueError("the FITS file is truncated")
    if hdu.verify_datasum() == 0:
        raise ValueError("the FITS file is damaged: a checksum does not match its data")
    header = hdu.header
    # Astropy takes a BLANK of 0 for none.
    is_blank = header.get("BITPIX", 0) > 0 and header.get("BLANK") == 0
    zero = header.get("BZERO", 0)
    values = _as_float32(np.asarray(hdu.data), note)
    if is_blank:
        values[values == np.float32(zero)] = np.nan
    return values.reshape(shape)


def _as_float32(values: np.ndarray, note: Callable[[str], None]) -> np.ndarray:
    """Return values as float32, those beyond its range as infinite, hence missing."""
    with np.errstate(over="ignore", under="ignore"):
        found = values.astype(np.float32)
    if values.dtype.kind != "f" or values.dtype.itemsize <= found.dtype.itemsize:
        return found
    known = np.abs(values[np.isfinite(values)])
    largest = float(known.max(initial=0.0))
    limits = np.finfo(np.float32)
    # Numbers of Python: a float32 would take the other for one, too.
    if largest > float(limits.max):
        if not np.isfinite(found).any():
            raise ValueError(
                f"the values of the FITS image, of up to {largest:.3g}, are too large "
                "for float32, in which images are read: scale them"
            )
        note(
            f"have pixels of up to {largest:.3g}, too large for float32, which are "
            "treated as missing"
        )
    elif 0 < largest < float(limits.tiny):
        raise ValueError(
            f"the values of the FITS image, of up to {largest:.3g}, are too small for "
            "float32, in which images are read: scale them"
        )
    return found
