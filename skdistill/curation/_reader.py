"""Read image files into one array: rotate, crop and resample on the way."""

import os
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from PIL import ImageFile
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.parallel import Parallel, delayed
from tqdm.auto import tqdm

from skdistill.curation._array_file import ArrayFile, take_notes, with_notes
from skdistill.curation._job import (
    GALAXY_ZOO_CROP,
    GALAXY_ZOO_SIZE,
    Job,
    Settings,
)
from skdistill.curation._rotation import rotation_angles
from skdistill.curation._rows import advise_column, images_of_rows, locate_all
from skdistill.curation._sources import Sources, path_of
from skdistill.utils._callers import is_repeated
from skdistill.utils._doc_link import DocLinkMixin
from skdistill.utils._files import expand_path
from skdistill.utils._frames import as_pandas
from skdistill.utils._ids import object_ids, plain_name
from skdistill.utils._image_files import several_endings
from skdistill.utils._leaks import find_leaks
from skdistill.utils._maps import check_map_path
from skdistill.utils._memory import reused_memory
from skdistill.utils._plain import told
from skdistill.utils._termination import orderly_end
from skdistill.utils._warnings import warn

# What the tables of Galaxy Zoo have, as letters and digits alone.
_VOTES_OF_GALAXY_ZOO = ("t01smoothorfeatures", "smoothorfeatured")
_IDS_OF_GALAXY_ZOO = {"assetid", "dr7objid"}
# A batch takes some 50 ms, which hides the cost of handing it to a thread.
_BATCH_SIZE = 64


class ImageReader(TransformerMixin, DocLinkMixin, BaseEstimator):
    """Read the images of a table of galaxies into one array.

    Each image is rotated, cropped to its center, and resampled to `size` pixels a side
    by averaging over areas.  Images are files, members of zip archives, or bytes in the
    table, in any format of Pillow (JPEG, PNG, ...) or FITS with any number of bands.

    Read more in the :ref:`User Guide <curation>`.

    Parameters
    ----------
    images_dir : str, path-like or None, default=None
        Folder of relative paths; or a zip archive, `images.zip`, or a folder in one,
        `images.zip!/folder`. None is the working directory.
    path_column : str, sequence of str or None, default=None
        Column with the paths of the files, or their content as bytes or as `{"bytes":
        ..., "path": ...}`. A file in an archive is named `{archive}!/{member}`. None
        uses `path` or `file_loc`, else `image` if it holds bytes, else `asset_id`,
        which means `{asset_id}.jpg` (or `.jpeg`, `.png`, `.tif`, `.webp`, `.fits`,
        `.fits.gz`, `.fits.fz`) in `images_dir` or a direct sub-folder, in an archive in
        any folder. Several columns name one FITS file per band, in this order; `bands`
        then selects one band of each file.
    id_column : str or None, default=None
        Column of ids after which the files in `images_dir` are named, like `asset_id`
        in the tables of Galaxy Zoo; "index" is the index. Replaces `path_column`.
    size : int, default=128
        Height and width of the resulting images in pixels.
    crop : float or "auto", default="auto"
        Central part of the image that is kept, as a fraction of its shorter side in
        (0, 1]. The crop is square and has a whole number of pixels. "auto" is 0.5 if
        the first image has the 424 x 424 pixels of a Galaxy Zoo cutout, and 1
        otherwise, with a warning if this is a guess, or if images are not square and
        lose a part of their longer side.
    bands : sequence of int or str, default=None
        The bands to read, in this order. Numbers are indices of the planes of a FITS
        cube, of the images of a FITS file with one per extension (errors and flags
        count, too), or of the channels R, G, B; names are those of extensions. None
        reads all, except for extensions that are not pictures according to their names:
        ERR, WHT, DQ, IVAR, MASK and the like.
    stretch : float or None, default=None
        Flux per pixel, in the unit of the FITS files, up to which brightness is about
        linear; above, it grows logarithmically [1]_. The result then has 8 bits. None
        keeps the fluxes of FITS images. Files of 8 bits are unchanged.
    softening : float, default=8.0
        Q of the stretch: larger values enhance faint light more, relative to bright
        light.
    minimum : float, default=0.0
        Flux per pixel that is mapped to black.
    out : str, path-like or None, default=None
        A `.npy` file to which the images are written if they do not fit into memory;
        the result is a read-only memory map of this file. The images are written to
        `{out}.part`, which is renamed to `out` when it is complete and replaces an
        existing file. After an interrupt or an error the same call resumes. Cannot be
        used for a reader inside a search or a cross-validation.
    n_jobs : int, default=None
        Number of threads that read files.  None means 1 unless in a
        :func:`joblib.parallel_config` context, -1 one per core.  Threads suffice:
        decoding and resampling release Python's lock, except for FITS.
    on_error : {"raise", "skip"}, default="raise"
        What to do with files that are missing, damaged or not images. "skip" leaves
        their rows out of the result, with one warning; `sample_indices_` has the
        positions of the remaining rows.
    verbose : int, default=0
        Shows a progress bar over the images if positive.

    Attributes
    ----------
    sample_indices_ : ndarray of shape (n_images,)
        Positions in the last `rows` of the images in the last result. Only with
        `on_error="skip"`.
    skipped_ : DataFrame of shape (n_skipped, 2)
        `path` and `error` of the rows left out of the last result, on the index of
        `rows`. Only with `on_error="skip"`.

    See Also
    --------
    GalaxyZooCurator : Choose galaxies by their votes.
    RotationAugmenter : Repeat rows at several angles.

    Notes
    -----
    Nothing is learned: `transform` works without `fit`.

    Unrotated images are cropped and resized with Pillow's BOX filter, exactly. A
    rotation by a multiple of 90 degrees rotates that result, without loss. For other
    angles each pixel of the result is the mean over a grid of points in its (tilted)
    square, at least two points per pixel of the file along each axis, which
    approximates the mean over that area. Pixels outside the crop are not computed. The
    parts of a tilted crop outside the image (`crop` > 0.7) are filled with 0.

    The center of the rotation is that of the crop. The file of consecutive rows is
    decoded once. The JPEG decoder's own reduction (Pillow's `draft`) is not used: it
    only supports powers of two and is not a mean over areas.

    Images of any mode with 8 bits per channel become RGB: gray is repeated in the three
    channels, transparency is dropped. The EXIF orientation is ignored, as is any image
    but the first of a JPEG file; other files with several frames or pages cause an
    error. A warning is given if pixels are transparent or an orientation is not
    applied.

    FITS files require `pip install skdistill[fits]`. Their bands are the planes of the
    first image if it is a cube, else all two-dimensional images in the file; those left
    out because of their names are listed in a warning. The last row of a plane is the
    top row of the result, as in viewers. NaN and infinite pixels are masked: means are
    over valid pixels, and without any the flux is 0, the sky of background-subtracted
    images. The stretch is applied after the resampling. All bands of a pixel are scaled
    by the same factor, which preserves the color; for three bands this is
    `astropy.visualization.make_lupton_rgb`.

    A damaged file causes an error, never a partly gray image. Detected are truncated
    JPEG files, shifts of their compressed data by more than about four blocks of 8 x 8
    pixels (in progressive files: data that end too early), and any change of a PNG
    file, of a member of an archive, or of a FITS image with a checksum. A flipped bit
    after which a JPEG file is a valid file of a different image, such as one in a
    brightness or a quantization table, cannot be detected.

    References
    ----------
    .. [1] Lupton, R., et al. "Preparing Red-Green-Blue Images from CCD Data." PASP 116
       (2004).

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import pandas as pd
    >>> from PIL import Image
    >>> from skdistill.curation import ImageReader
    >>> rows = pd.DataFrame({"asset_id": [7, 8], "rotation": [0.0, 36.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for asset_id in rows["asset_id"]:
    ...         pixels = np.full((60, 60, 3), 10 * asset_id, dtype=np.uint8)
    ...         Image.fromarray(pixels).save(f"{folder}/{asset_id}.png")
    ...     X = ImageReader(images_dir=folder, size=16, crop=0.7).fit_transform(rows)
    >>> X.shape, X.dtype
    ((2, 16, 16, 3), dtype('uint8'))
    >>> X.mean(axis=(1, 2, 3)).tolist()
    [70.0, 80.0]
    """

    _parameter_constraints: ClassVar[dict] = {
        "images_dir": [str, os.PathLike, None],
        "path_column": [str, "array-like", None],
        "id_column": [str, None],
        "size": [Interval(Integral, 1, None, closed="left")],
        "crop": [Interval(Real, 0, 1, closed="right"), StrOptions({"auto"})],
        "bands": ["array-like", None],
        "stretch": [Interval(Real, 0, None, closed="neither"), None],
        "softening": [Interval(Real, 0, None, closed="neither")],
        "minimum": [Interval(Real, None, None, closed="neither")],
        "out": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "on_error": [StrOptions({"raise", "skip"})],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        images_dir: str | os.PathLike[str] | None = None,
        path_column: str | Sequence[str] | None = None,
        id_column: str | None = None,
        size: int = 128,
        crop: float | str = "auto",
        bands: Sequence[int | str] | None = None,
        stretch: float | None = None,
        softening: float = 8.0,
        minimum: float = 0.0,
        out: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        on_error: str = "raise",
        verbose: int = 0,
    ):
        self.images_dir = images_dir
        self.path_column = path_column
        self.id_column = id_column
        self.size = size
        self.crop = crop
        self.bands = bands
        self.stretch = stretch
        self.softening = softening
        self.minimum = minimum
        self.out = out
        self.n_jobs = n_jobs
        self.on_error = on_error
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, rows: Any, y: None = None) -> "ImageReader":
        """Check the parameters; there is nothing to learn.

        Parameters
        ----------
        rows : DataFrame or sequence of images
            Ignored, here for API consistency.
        y : None
            Ignored, here for API consistency.

        Returns
        -------
        self : ImageReader
            The reader.

        Raises
        ------
        ValueError
            If `out` is set in a search or a cross-validation, each fit of which would
            overwrite it.
        """
        if self.out is not None and is_repeated():
            path = expand_path(self.out, "out")
            raise ValueError(
                f"`out`={path!r} is a single file, which each fit of a search or "
                "cross-validation would overwrite. Read the images once, X = "
                "reader.transform(rows), and search over X, or use `out=None`"
            )
        return self

    def set_output(self, *, transform: str | None = None) -> "ImageReader":
        """Do nothing: a data frame cannot hold images.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            Ignored, so that it can be set for the other steps of a pipeline.

        Returns
        -------
        self : ImageReader
            The reader.
        """
        return self

    def transform(self, rows: Any) -> np.ndarray:
        """Read the images.

        Parameters
        ----------
        rows : pandas or polars DataFrame of shape (n_rows, n_columns) or sequence \
                of n_rows paths, bytes or dicts of both
            What to read. A column `rotation` holds degrees, counter-clockwise.

        Returns
        -------
        X : ndarray or memmap of shape (n_images, size, size, n_bands)
            Images in the order of the rows: RGB of dtype uint8; for FITS all bands, of
            dtype uint8 with `stretch`, else float32. There is one image per row unless
            `on_error="skip"`.

        Raises
        ------
        FileNotFoundError
            If files are missing, before the first file is read.
        ValueError
            If a file is damaged, truncated, not an image, or encrypted, has more than 8
            bits per channel, bands other than RGB and transparency, or several frames
            without being FITS, has its bands on the last axis of a FITS cube, has more
            pixels than `PIL.Image.MAX_IMAGE_PIXELS`, or has different bands from the
            first; if there is no column with images, if a row has no image or an id has
            several files in different folders, or if the column `rotation` holds
            anything but finite numbers.
        TypeError
            If `rows` is neither a DataFrame nor a sequence of images.
        ImportError
            If there are FITS files and astropy is not installed.
        OSError
            If `out` cannot be written, for example because its disk is too small.
        """
        self._validate_params()
        if ImageFile.LOAD_TRUNCATED_IMAGES:
            raise ValueError(
                "`PIL.ImageFile.LOAD_TRUNCATED_IMAGES` must be False; it is True, "
                "which would let truncated files pass as half-gray images"
            )
        out = None if self.out is None else check_map_path(self.out, "out")
        rows = as_pandas(rows)
        names, values, by_asset = images_of_rows(
            rows, self.path_column, self.images_dir, self.id_column
        )
        if len(values) == 0:
            raise ValueError("`rows` must have at least one row; got 0")
        if isinstance(rows, pd.DataFrame):
            angles = rotation_angles(rows)
        else:
            angles = np.zeros(len(values))

        files = Sources(
            ""
            if self.images_dir is None
            else expand_path(self.images_dir, "images_dir")
        )
        try:
            sources, missing = locate_all(files, values, by_asset)
            if files.chosen:
                warn(several_endings(len(files.chosen), files.chosen[0], files.folder))
            if isinstance(rows, pd.DataFrame) and "split" in rows.columns:
                for message in find_leaks(
                    rows.drop(columns=["path"], errors="ignore"),
                    rows["split"],
                    object_ids(rows, self.id_column),
                    paths=[path_of(source) for source in sources],
                ):
                    warn(message)
            if missing and self.on_error == "raise":
                first = min(missing)
                raise type(missing[first])(
                    f"Row {told(names[first])}: {missing[first]}. "
                    f"{len(missing)} of {len(values)} rows have no file."
                    f"{advise_column(self.path_column, values[first])}"
                )
            job = Job(
                settings=self._settings(),
                files=files,
                sources=sources,
                missing=missing,
                angles=angles,
                names=names,
                skip=self.on_error == "skip",
            )
            X, failures = self._run(job, out)
        finally:
            files.close()
        for message in self._guesses(job, rows):
            warn(message)
        if self.on_error == "raise":
            return X

        skipped = sorted(failures)
        self.sample_indices_ = _without(len(values), failures)
        self.skipped_ = pd.DataFrame(
            {
                "path": [
                    str(values[i]) if sources[i] is None else path_of(sources[i])
                    for i in skipped
                ],
                "error": [failures[i] for i in skipped],
            },
            index=names[skipped],
            dtype=object,
        )
        if skipped:
            warn(
                f"{len(skipped)} of {len(values)} images could not be read; the "
                f"first: row {told(names[skipped[0]])}: {failures[skipped[0]]}. They "
                "are left out; see `skipped_`"
            )
        return X

    def _guesses(self, job: Job, rows: Any) -> list[str]:
        """Say what was guessed or lost, for warnings."""
        messages = [
            f"{len(some)} of {len(job.names)} images {text}; the first is in row "
            f"{told(job.names[min(some)])}."
            for text, some in job.notes.items()
        ]
        if self.crop != "auto":
            return messages
        if not job.of_galaxy_zoo and (job.angles % 90 != 0).any():
            messages.append(
                "The images are not cropped, and rotated images have corners of 0, "
                "outside the original image. `crop=0.7` keeps only pixels that are "
                "inside it at any angle; use it for all images, rotated or not."
            )
        columns = rows.columns if isinstance(rows, pd.DataFrame) else ()
        names = {plain_name(name) for name in columns}
        has_votes = any(name.startswith(_VOTES_OF_GALAXY_ZOO) for name in names)
        width, height = GALAXY_ZOO_SIZE
        if job.of_galaxy_zoo and not (has_votes or names & _IDS_OF_GALAXY_ZOO):
            messages.append(
                f"The images have {width} x {height} pixels and are treated as "
                "Galaxy Zoo cutouts: they are cropped to the central "
                f"{GALAXY_ZOO_CROP} of their sides. Pass `crop={GALAXY_ZOO_CROP}` "
                "to confirm this, or `crop=1` to keep the whole images."
            )
        elif has_votes and not job.of_galaxy_zoo:
            messages.append(
                f"The images do not have the {width} x {height} pixels of Galaxy "
                "Zoo cutouts and are not cropped. Pass `crop=1` to confirm this, "
                f"or `crop={GALAXY_ZOO_CROP}` to keep their central half."
            )
        return messages

    def _settings(self) -> Settings:
        bands = None if self.bands is None else tuple(self.bands)
        if bands is not None and not (
            bands
            # A mask would be read as the numbers 0 and 1.
            and all(isinstance(band, (Integral, str)) for band in bands)
            and not any(isinstance(band, bool) for band in bands)
        ):
            raise ValueError(
                f"`bands` must hold numbers or names of bands; got {self.bands!r}"
            )
        return Settings(
            size=self.size,
            crop=self.crop,
            bands=bands,
            stretch=self.stretch,
            softening=self.softening,
            minimum=self.minimum,
        )

    def _run(self, job: Job, out: Path | None) -> tuple[np.ndarray, dict[int, str]]:
        """Read everything; return the images, and why others are not there."""
        n = len(job.sources)
        shape, dtype = form = job.find_form()
        batches = list(gen_batches(n, _BATCH_SIZE))
        failures: dict[int, str] = {}
        if out is None:
            X = np.empty((n, *shape), dtype=dtype)
            for _, failed in self._read(job, batches, range(len(batches)), X, form):
                failures.update(failed)
            return X[_without(n, failures)] if failures else X, failures

        digests = [job.digest(batch) for batch in batches]
        # A SIGTERM too leaves notes of all that is finished.
        with orderly_end(), ArrayFile(out, (n, *shape), dtype, digests) as file:
            todo = [i for i in range(len(batches)) if i not in file.finished]
            for number, failed in self._read(job, batches, todo, file, form):
                batch = range(n)[batches[number]]
                file.finish_part(number, with_notes(failed, job.notes, batch))
            for content in file.finished.values():
                failures.update(take_notes(content, job.notes))
            return file.complete(_without(n, failures)), failures

    def _read(
        self, job: Job, batches: list[slice], todo: Sequence[int], out: Any, form: tuple
    ) -> Iterator[tuple[int, dict[int, str]]]:
        """Read batches in threads; yield number and failures of each that is done."""
        sizes = [batch.stop - batch.start for batch in batches]
        parallel = Parallel(
            n_jobs=self.n_jobs, require="sharedmem", return_as="generator_unordered"
        )
        tasks = (delayed(job.read_batch)(i, batches[i], out, form) for i in todo)
        done = len(job.sources) - sum(sizes[i] for i in todo)
        bar = tqdm(
            total=len(job.sources),
            initial=done,
            desc="images",
            disable=not self.verbose,
        )
        # A decoded image is large enough to be asked from the system each time.
        with bar, reused_memory():
            for number, failures in parallel(tasks):
                bar.update(sizes[number])
                yield number, failures

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []
        return tags


def _without(n: int, failures: dict[int, str]) -> np.ndarray:
    """Positions of the images that were read."""
    return np.setdiff1d(np.arange(n), list(failures))
