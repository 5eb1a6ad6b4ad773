"""What threads do for an `ImageReader`: read images, batch by batch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from skdistill._version import __version__
from skdistill.curation._array_file import ArrayFile
from skdistill.curation._cutout import cut_out, cut_out_bands
from skdistill.curation._decode import decode
from skdistill.curation._sources import Bands, Sources, describe
from skdistill.curation._stretch import asinh_stretch
from skdistill.utils._plain import told

# Of the cutouts of Galaxy Zoo 2 and its successors, and what of them a galaxy fills.
GALAXY_ZOO_SIZE, GALAXY_ZOO_CROP = (424, 424), 0.5
# Of the longer side to the shorter: what a crop to a square takes from others is told.
_NEARLY_SQUARE = 1.1


@dataclass(frozen=True)
class Settings:
    """How images are made of files: parameters of `ImageReader`."""

    size: int
    # "auto" until the first image is there.
    crop: float | str
    bands: Sequence[int | str] | None
    stretch: float | None
    softening: float
    minimum: float


@dataclass
class Job:
    """Images to read, with all that is needed for it."""

    settings: Settings
    files: Sources
    # One for each row; None where there is no such file.
    sources: list[tuple | None]
    # Why not, by position.
    missing: dict[int, Exception]
    angles: np.ndarray
    names: pd.Index
    skip: bool
    # Rows of which something was guessed or lost, by what that was.
    notes: dict[str, set[int]] = field(default_factory=dict)
    # Whether the crop is that of Galaxy Zoo's cutouts, since the first image is one.
    of_galaxy_zoo: bool = False
    # Whether nobody asked for the crop.
    crop_is_guess: bool = False

    def find_form(self) -> tuple[tuple[int, ...], np.dtype]:
        """Find shape and type of the images: those of the first that can be read.

        Returns
        -------
        shape : tuple of int
            Height, width and number of bands.
        dtype : dtype
            Type of the values.
        """
        n = len(self.sources)
        first = None
        for i in range(n):
            try:
                pixels = self._read(i, {})
            except ValueError as error:
                if not self.skip:
                    raise ValueError(f"Row {told(self.names[i])}: {error}") from error
                first = first or error
            else:
                return pixels.shape, pixels.dtype
        raise ValueError(
            f"{n} of {n} images could not be read; the first: row "
            f"{told(self.names[0])}: {first}"
        )

    def digest(self, batch: slice) -> str:
        """Say in a short text what images will be read, and how.

        Parameters
        ----------
        batch : slice
            Positions of the images.

        Returns
        -------
        digest : str
            Another one where any image of the batch could be another.
        """
        parts: list[Any] = [__version__, self.settings, self.skip]
        for i in range(batch.start, batch.stop):
            source = self.sources[i]
            stamp = None if source is None else self.files.stamp(source)
            parts += [stamp, float(self.angles[i])]
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def read_batch(
        self, number: int, batch: slice, out: np.ndarray | ArrayFile, form: tuple
    ) -> tuple[int, dict[int, str]]:
        """Read some of the images.

        Parameters
        ----------
        number : int
            Number of the batch, handed back.
        batch : slice
            Positions of the images.
        out : ndarray or ArrayFile
            Where all images go.
        form : tuple
            Shape and type of an image.

        Returns
        -------
        number : int
            As given.
        failures : dict of int to str
            Why images could not be read, by position.
        """
        if isinstance(out, ArrayFile):
            rows = np.zeros((batch.stop - batch.start, *form[0]), dtype=form[1])
        else:
            rows = out[batch]
        failures = {}
        kept: dict[str, Any] = {}
        for row, i in enumerate(range(batch.start, batch.stop)):
            try:
                pixels = self._read(i, kept)
                if (pixels.shape, pixels.dtype) != form:
                    raise ValueError(
                        f"{describe(self.sources[i])} has an image of "
                        f"{_say(pixels.shape, pixels.dtype)}, but the first image "
                        f"is of {_say(*form)}"
                    )
                rows[row] = pixels
            except ValueError as error:
                if not self.skip:
                    raise ValueError(f"Row {told(self.names[i])}: {error}") from error
                failures[i] = str(error)
        if isinstance(out, ArrayFile):
            out.write(batch.start, rows)
        return number, failures

    def _read(self, i: int, kept: dict[str, Any]) -> np.ndarray:
        """Read one image; `kept` holds the file that was decoded last."""
        source = self.sources[i]
        if source is None:
            raise ValueError(str(self.missing[i]))
        try:
            # Rotations of one galaxy stand together: its file is decoded once.
            if kept.get("source") != source:
                kept.clear()
                notes: list[str] = []
                parts = source if isinstance(source, Bands) else (source,)
                images = [
                    decode(
                        self.files.read(part),
                        self.settings.bands,
                        notes.append,
                    )
                    for part in parts
                ]
                kept["image"] = (
                    join_bands(images, parts)
                    if isinstance(source, Bands)
                    else images[0]
                )
                kept["source"], kept["notes"] = source, notes
            for text in kept["notes"]:
                # Threads do no harm: each note is added by itself.
                self.notes.setdefault(text, set()).add(i)
            self._settle_crop(kept["image"], i)
            return render(kept["image"], self.angles[i], self.settings)
        except (MemoryError, ImportError):
            raise
        # Decoders raise any kind of error for a damaged file.
        except Exception as error:
            raise ValueError(f"cannot read {describe(source)}: {error}") from error

    def _settle_crop(self, image: Image.Image | np.ndarray, i: int) -> None:
        """Choose the crop by the first image; others must be like it."""
        if isinstance(image, np.ndarray):
            # The cutouts are pictures, never FITS.
            size, is_cutout = image.shape[1::-1], False
        else:
            size, is_cutout = image.size, image.size == GALAXY_ZOO_SIZE
        # Not in threads: the first image is read before they start.
        if self.settings.crop == "auto":
            self.of_galaxy_zoo, self.crop_is_guess = is_cutout, True
            crop = GALAXY_ZOO_CROP if is_cutout else 1.0
            self.settings = replace(self.settings, crop=crop)
        elif self.of_galaxy_zoo and not is_cutout:
            raise ValueError(
                f"it has {size[0]} x {size[1]} pixels; the first image has the "
                f"size of a Galaxy Zoo cutout, {GALAXY_ZOO_SIZE[0]} x "
                f"{GALAXY_ZOO_SIZE[1]}, and is cropped to its central "
                f"{GALAXY_ZOO_CROP}. Pass `crop` to set the crop of both"
            )
        if self.crop_is_guess and max(size) > _NEARLY_SQUARE * min(size):
            text = (
                "are not square, and only the square in their middle is kept "
                "(`crop=1` confirms this)"
            )
            self.notes.setdefault(text, set()).add(i)


def join_bands(images: Sequence[Any], sources: Sequence[tuple]) -> np.ndarray:
    """Make one image of files with a band each.

    Parameters
    ----------
    images : sequence of ndarray of shape (height, width, 1)
        What `decode` returned for each.
    sources : sequence of tuple
        Where they are from.

    Returns
    -------
    image : ndarray of shape (height, width, n_bands)
        Their bands in this order.

    Raises
    ------
    ValueError
        If a file is not FITS, has several bands, or another shape than the first.
    """
    for image, source in zip(images, sources, strict=True):
        if isinstance(image, Image.Image):
            raise ValueError(
                f"{describe(source)} is not a FITS file; files of one band "
                "each must be FITS"
            )
        if image.shape[-1] != 1:
            raise ValueError(
                f"{describe(source)} has {image.shape[-1]} bands, but each file "
                "must have one band; use `bands` to select one band of each file"
            )
        if image.shape != images[0].shape:
            raise ValueError(
                f"{describe(source)} has {image.shape[1]} x {image.shape[0]} pixels, "
                f"{describe(sources[0])} {images[0].shape[1]} x {images[0].shape[0]}"
            )
    return np.concatenate(images, axis=-1)


def render(
    image: Image.Image | np.ndarray, angle: float, settings: Settings
) -> np.ndarray:
    """Make the pixels of the result from a decoded image.

    Parameters
    ----------
    image : PIL.Image.Image or ndarray of shape (height, width, n_bands)
        What `decode` returns.
    angle : float
        Degrees, counter-clockwise.
    settings : Settings
        Size, crop and stretch.

    Returns
    -------
    pixels : ndarray of shape (size, size, n_bands)
        Of dtype uint8 or float32.
    """
    size, crop = settings.size, float(settings.crop)
    if isinstance(image, Image.Image):
        pixels = np.asarray(cut_out(image, size=size, crop=crop, angle=angle))
        if settings.bands is None:
            return pixels
        if not set(settings.bands) <= {0, 1, 2}:
            raise ValueError(
                f"`bands={settings.bands}` must hold numbers among 0, 1, 2, for R, "
                "G, B, if the file is not FITS"
            )
        return np.take(pixels, np.array(settings.bands), axis=2)
    flux = cut_out_bands(image, size=size, crop=crop, angle=angle)
    if settings.stretch is None:
        return flux
    brightness = asinh_stretch(
        flux,
        stretch=settings.stretch,
        softening=settings.softening,
        minimum=settings.minimum,
    )
    return np.rint(255 * brightness).astype(np.uint8)


def _say(shape: tuple[int, ...], dtype: np.dtype) -> str:
    return f"{shape[2]} bands of {dtype}"
