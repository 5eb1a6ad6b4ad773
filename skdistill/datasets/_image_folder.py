"""Images of files: a folder for each class, or a table of files and classes."""

import io
import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from PIL import ImageFile, UnidentifiedImageError
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions, validate_params

from skdistill.curation._decode import decode_picture, known_formats, unpacked
from skdistill.curation._fits import SIGNATURE, decode_fits
from skdistill.curation._jpeg import open_checked
from skdistill.curation._sources import Sources, describe, path_of
from skdistill.datasets._class_folders import find_entries
from skdistill.datasets._collect import check_out, collect, progress
from skdistill.datasets._modes import (
    FITS,
    MODES,
    Look,
    check_size,
    look_at,
    pixels_of,
    resize_values,
    settle_mode,
)
from skdistill.utils._pictures import name_unknown
from skdistill.utils._warnings import warn

# Of a file on disk, enough for what any format says of itself at its beginning.
_HEAD_BYTES = 2**16
_GZIP = b"\x1f\x8b"


@validate_params(
    {
        "path": "no_validation",
        "images_dir": [str, os.PathLike, None],
        "file_column": [str, None],
        "class_column": [str, None],
        "size": [Integral, "array-like", None],
        "mode": [StrOptions(set(MODES))],
        "out": [str, os.PathLike, None],
        "on_error": [StrOptions({"raise", "skip"})],
        "n_jobs": [Integral, None],
        "return_X_y": ["boolean"],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def load_image_folder(
    path: str | os.PathLike[str] | pd.DataFrame,
    *,
    images_dir: str | os.PathLike[str] | None = None,
    file_column: str | None = None,
    class_column: str | None = None,
    size: int | Sequence[int] | None = None,
    mode: str = "auto",
    out: str | os.PathLike[str] | None = None,
    on_error: str = "raise",
    n_jobs: int | None = None,
    return_X_y: bool = False,
    verbose: int = 1,
) -> Any:
    """Load images with a folder for each class, or with a table of their classes.

    Parameters
    ----------
    path : str, path-like or DataFrame of pandas or polars
        A folder with one folder per class, named after the class; images may be in
        nested folders.  Or a table with one row per image, as a DataFrame or a file
        `.csv`, `.csv.gz`, `.parquet` or `.fits`.  A folder with such a file next to its
        images is treated as that table.  A table in several files is given as a
        pattern, `data/train-*.parquet`, or as a folder that contains nothing else.
    images_dir : str, path-like or None, default=None
        Location of the files of a table: a folder, a zip archive, or a folder in one,
        `images.zip!/folder`.  None uses the folder of the table, or the working
        directory for a DataFrame.
    file_column : str or None, default=None
        Column of the table with paths, with the ids in the names of the files in
        `images_dir` or its direct sub-folders, or with images as bytes or as `{"bytes":
        ..., "path": ...}`.  None uses the column named `path`, `file`, `image` or the
        like, else the column whose values have the extensions of images, else a column
        of ids; a guess is reported by a warning.
    class_column : str or None, default=None
        Column of the table with the classes, strings or integers.  None uses the column
        named `class`, `label`, `target` or the like, or the only other column; a guess
        is reported by a warning.
    size : int, pair (height, width) or None, default=None
        Size in pixels to which all images are resized by averaging over areas.  None
        keeps their size, which must then be the same.
    mode : {"auto", "L", "RGB", "RGBA"}, default="auto"
        Mode to which 8-bit images are converted: gray, color, or color with
        transparency as a fourth channel.  "auto" uses gray if all images are gray, else
        color.  See the notes.
    out : str, path-like or None, default=None
        A `.npy` file to which the images are written if they do not fit into memory;
        the result is a read-only memory map of this file.  The file gets this name when
        it is complete; after an interrupt the same call resumes.
    on_error : {"raise", "skip"}, default="raise"
        What to do with images that are missing, damaged, different in size or kind from
        most images, or without a class.  "skip" leaves them out, with one warning.
    n_jobs : int, default=None
        Number of threads that read files.  None means 1 unless in a
        :func:`joblib.parallel_config` context, -1 one per core.
    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.
    verbose : int, default=1
        Whether to show progress bars; 0 is silent.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the following attributes.

        data : ndarray or memmap of shape (n_samples, height, width, channels)
            Images in the order of the folders and files by their names, or of the
            rows.  Of dtype uint8; uint16 for gray images of 16 bits; float32 for gray
            images of floats and for FITS.
        images : ndarray or memmap of shape (n_samples, height, width, channels)
            The same array.
        target : ndarray of shape (n_samples,)
            The class of each image: the name of the folder, or the value in the table.
            Separately loaded parts of a data set are therefore consistent, even if one
            lacks a class.
        target_names : list
            The classes, each once, sorted.
        filenames : ndarray of shape (n_samples,), dtype object
            Path of each image; None where its bytes are in the table.
        frame : DataFrame
            The rows of the table that were read; `file` and `class` for folders.
        skipped : DataFrame
            `file` and `error` of the images that were left out; only with
            `on_error="skip"`.
    (data, target) : tuple if `return_X_y=True`
        Both as above.

    Raises
    ------
    FileNotFoundError
        If the folder, the table or files that it names do not exist.
    ValueError
        If an image is damaged, has several frames, more than 8 bits per channel in
        color, or another size or kind than most; if a row has no class, or a file has
        several; if the columns of a table are ambiguous; if there are no images in
        class folders, or if the folders are parts of a data set, such as `train` and
        `test`.
    ImportError
        If the package that reads a file is not installed: pyarrow (``pip install
        skdistill[parquet]``) or astropy (``pip install skdistill[fits]``).
    OSError
        If `out` cannot be written.

    Warns
    -----
    UserWarning
        If columns were guessed, files or folders were skipped, images were converted to
        color or distorted, transparency was dropped, or images of floats have pixels
        that are NaN or infinite.

    See Also
    --------
    ImageReader : Also crop, rotate and stretch images, such as those of a survey.
    from_torch_dataset : Images and labels of a PyTorch data set.
    from_huggingface : Images and labels of a Hugging Face data set.

    Notes
    -----
    Gray, color, palette and black-and-white images can be mixed: if all images are
    gray, the result has one channel, otherwise three, in which gray images are
    repeated, with a warning.  Palette images count as color.  Transparency is dropped
    unless `mode="RGBA"`, with a warning if pixels are transparent.  Gray images of 16
    bits or floats are kept as they are if all images are of this kind; mixed with 8-bit
    images, whose values have another scale, they cause an error, as do color images of
    16 bits, of which Pillow drops half.  FITS images have one channel per band, and 0
    for missing values.

    Extensions may be in upper case.  Hidden files and folders, whose names begin with a
    dot, and `__MACOSX` are ignored silently, other files that are not images with a
    warning.  A class folder without images is ignored, with a warning.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> from skdistill.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, gray in [("spiral", 10), ("smooth", 200)]:
    ...         Path(folder, name).mkdir()
    ...         for i in range(3):
    ...             pixels = np.full((16, 16), gray + i, dtype=np.uint8)
    ...             Image.fromarray(pixels).save(f"{folder}/{name}/{i}.png")
    ...     galaxies = load_image_folder(folder)
    >>> galaxies.data.shape
    (6, 16, 16, 1)
    >>> galaxies.target.tolist()
    ['smooth', 'smooth', 'smooth', 'spiral', 'spiral', 'spiral']
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError(
            "`PIL.ImageFile.LOAD_TRUNCATED_IMAGES` must be False; it is True, which "
            "would let truncated files pass as half-gray images"
        )
    pair = check_size(size)
    target = check_out(out)
    skip = on_error == "skip"
    entries = find_entries(path, images_dir, file_column, class_column)
    try:
        sources, missing = entries.locate(skip)
        failures = {i: str(error) for i, error in missing.items()}
        if missing:
            kind = type(missing[min(missing)])
            _refuse(failures, entries.n_images, skip, kind)
        failures |= entries.without_class()
        _refuse(failures, entries.n_images, skip)
        reader = _Reader(entries.files, sources, entries.names, entries.table)
        looks, unreadable = reader.look(failures, skip, verbose)
        failures |= unreadable
        if not looks:
            raise ValueError(
                f"{entries.n_images} of {entries.n_images} images cannot be read; the "
                f"first: {failures[min(failures)]}"
            )
        reader.mode, wrong = settle_mode(
            looks, mode, reader.name, resized=pair is not None
        )
        failures |= wrong
        _refuse(failures, entries.n_images, skip)
        reader.size = pair
        places = np.setdiff1d(np.arange(entries.n_images), list(failures))
        _tell_of_stretching(looks, places, pair, reader)
        shape, dtype = reader.find_form(places, skip)

        def read(i: int) -> np.ndarray:
            return reader.pixels(int(places[i]), shape, dtype)

        def stamp(i: int) -> str:
            source = sources[places[i]]
            return f"{entries.files.stamp(source)} {reader.mode} {pair} {shape} {dtype}"

        images, unreadable = collect(
            len(places),
            read,
            shape,
            dtype,
            out=target,
            stamp=stamp,
            skip=skip,
            n_jobs=n_jobs,
            verbose=verbose,
            notes=reader.notes,
            places=places,
        )
    finally:
        entries.files.close()
    failures |= {int(places[i]): reason for i, reason in unreadable.items()}
    reader.tell(entries.n_images)
    if failures:
        warn(
            f"{len(failures)} of {entries.n_images} images are left out; the first: "
            f"{failures[min(failures)]}"
        )
    places = np.setdiff1d(np.arange(entries.n_images), list(failures))
    classes = entries.classes[places]
    if return_X_y:
        return images, classes
    paths = np.empty(entries.n_images, dtype=object)
    paths[:] = [path_of(source) for source in sources]
    bunch = Bunch(
        data=images,
        images=images,
        target=classes,
        target_names=np.unique(classes).tolist(),
        filenames=paths[places],
        frame=entries.frame.iloc[places],
    )
    if skip:
        left = sorted(failures)
        bunch.skipped = pd.DataFrame(
            {"file": paths[left], "error": [failures[i] for i in left]},
            index=entries.frame.index[left],
            dtype=object,
        )
    return bunch


def _refuse(
    failures: dict[int, str], n: int, skip: bool, kind: type[Exception] = ValueError
) -> None:
    """Raise an error that names the first failure, unless they are skipped."""
    if failures and not skip:
        more = f" ({len(failures)} of {n} images)" if n > 1 else ""
        raise kind(
            f"{failures[min(failures)]}{more}. Use `on_error='skip'` to leave out "
            "these images"
        )


def _tell_of_stretching(
    looks: dict[int, Look],
    places: np.ndarray,
    size: tuple[int, int] | None,
    reader: "_Reader",
) -> None:
    """Warn of images that a size makes narrower or lower than they are."""
    if size is None:
        return
    height, width = size
    stretched = []
    for i in places.tolist():
        across, down = looks[i].size or (width, height)
        # Of a pixel more or less nobody takes notice.
        if abs(across * height - down * width) > max(height, width):
            stretched.append(i)
    if stretched:
        first = stretched[0]
        across, down = looks[first].size or (0, 0)
        warn(
            f"{len(stretched)} of {len(places)} images do not have the aspect ratio "
            f"of `size={size}` (height, width) and are distorted; the first, "
            f"{reader.name(first)}, has {across} x {down} pixels (width x height). To "
            "crop images instead, use ImageReader."
        )


class _Reader:
    """Reads images of one mode and size from their sources.

    Parameters
    ----------
    files : Sources
        Where they are.
    sources : list of tuple or None
        One for each image.
    names : list of str
        Of rows, for messages; empty where files have no rows.
    table : str
        What messages call the table.
    """

    def __init__(self, files: Sources, sources: list, names: list[str], table: str):
        self.files = files
        self.sources = sources
        self.names = names
        self.table = table
        self.mode = ""
        self.size: tuple[int, int] | None = None
        self.notes: dict[str, set[int]] = {}

    def name(self, i: int) -> str:
        """Name an image in messages."""
        source = self.sources[i]
        in_table = path_of(source) is None
        where = f"an image in {self.table}" if in_table else describe(source)
        return f"{self.names[i]}: {where}" if self.names else where

    def look(
        self, left_out: dict[int, str], skip: bool, verbose: int
    ) -> tuple[dict[int, Look], dict[int, str]]:
        """Look at what all images say of themselves, before the first is decoded."""
        looks: dict[int, Look] = {}
        failures: dict[int, str] = {}
        with progress(len(self.sources), verbose, "headers") as bar:
            for i in range(len(self.sources)):
                bar.update()
                if i in left_out:
                    continue
                try:
                    looks[i] = self._look(self.sources[i])
                except (MemoryError, ImportError):
                    raise
                # Decoders raise any kind of error for a damaged file.
                except Exception as error:
                    failures[i] = f"{self.name(i)} cannot be read: {error}"
                    _refuse(failures, 1, skip)
        return looks, failures

    def _look(self, source: tuple) -> Look:
        path, member = source
        if path is not None and member is None:
            with open(path, "rb") as file:
                head = file.read(_HEAD_BYTES)
                if not head.startswith(_GZIP):
                    file.seek(0)
                    return _look_at_file(file, head)
        content = unpacked(self.files.read(source))
        return _look_at_file(io.BytesIO(content), content)

    def find_form(self, places: np.ndarray, skip: bool) -> tuple[tuple, np.dtype]:
        """Return shape and type of the images: those of the first that can be read."""
        first = None
        for i in places.tolist():
            try:
                pixels = self.pixels(i)
            except ValueError as error:
                if not skip:
                    raise
                first = first or error
            else:
                return pixels.shape, pixels.dtype
        raise ValueError(f"No image could be read; the first: {first}")

    def pixels(self, i: int, shape: Any = None, dtype: Any = None) -> np.ndarray:
        """Read an image, and refuse one of another form."""
        try:
            content = unpacked(self.files.read(self.sources[i]))

            def note(text: str) -> None:
                # Threads do no harm: each note is added by itself.
                self.notes.setdefault(text, set()).add(i)

            if self.mode == "FITS":
                pixels = decode_fits(content, None, note)
                lacking = ~np.isfinite(pixels)
                if lacking.any():
                    note("have missing pixels, which are set to 0")
                    pixels[lacking] = 0
                pixels = resize_values(pixels, self.size)
            else:
                image = decode_picture(content, deep=self.mode in ("I;16", "F"))
                pixels = pixels_of(image, self.mode, self.size, note)
            if shape is not None and (pixels.shape, pixels.dtype) != (shape, dtype):
                raise ValueError(
                    f"its shape is {pixels.shape}, but the other images have {shape} "
                    "(height, width, channels)"
                )
        except (MemoryError, ImportError):
            raise
        except Exception as error:
            raise ValueError(f"{self.name(i)} cannot be read: {error}") from error
        return pixels

    def tell(self, n_images: int) -> None:
        """Warn of what was guessed or lost."""
        for text, some in self.notes.items():
            warn(
                f"{len(some)} of {n_images} images {text}; the first is "
                f"{self.name(min(some))}."
            )


def _look_at_file(file: Any, head: bytes) -> Look:
    if head.startswith(SIGNATURE):
        return FITS
    try:
        with open_checked(file, ("JPEG", *known_formats())) as image:
            return look_at(image, head)
    except UnidentifiedImageError as error:
        raise ValueError(name_unknown(head) if head else "it is empty") from error
