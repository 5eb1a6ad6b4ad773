"""Read image files into one array: rotate, crop and resample on the way."""

import math
import os
import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from PIL import Image, ImageFile
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.parallel import Parallel, delayed

from skdistill.curation._rotation import rotation_angles
from skdistill.utils._doc_link import DocLinkMixin
from skdistill.utils._frames import as_pandas

_PATH_COLUMNS = ("path", "file_loc")
_EXTENSIONS = (".jpg", ".jpeg", ".png")
# A batch takes some 50 ms, which hides the cost of handing it to a thread.
_BATCH_SIZE = 64
_QUARTER_TURNS = {
    1: Image.Transpose.ROTATE_90,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
}


class ImageReader(TransformerMixin, DocLinkMixin, BaseEstimator):
    """Read the images of a table of galaxies into one array.

    Each image is rotated, cropped to its centre, and resampled to `size` pixels a side
    by averaging over areas.

    Parameters
    ----------
    images_dir : str, path-like or None, default=None
        Folder that relative paths start from. None stands for the working directory.

    path_column : str or None, default=None
        Column with the paths of the files. None takes `path` or `file_loc`, whichever
        is there, else `asset_id`, which stands for `{images_dir}/{asset_id}.jpg`
        (or `.jpeg`, `.png`).

    size : int, default=128
        Height and width of the resulting images in pixels.

    crop : float, default=0.5
        Central part of the image that is kept, as a fraction of its shorter side in
        (0, 1]. The crop is square and has a whole number of pixels.

    n_jobs : int or None, default=None
        Number of threads that read files. None means 1 unless in a
        :obj:`joblib.parallel_backend` context, -1 means all processors. Threads
        suffice: decoding and resampling do not hold Python's lock.

    on_error : {"raise", "skip"}, default="raise"
        What to do about files that are missing, damaged or not images. "skip" leaves
        their rows out of the result, with one warning; take the rows that are left
        from `sample_indices_`.

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
    multiple of 90 degrees turns that result, which loses nothing. For other angles each
    pixel of the result is the mean over a grid of points in its (tilted) square, two
    or more points per pixel of the file along each axis, which tends to the exact mean
    over that area. Pixels outside the crop are not computed. Where a tilted crop
    reaches beyond the image (`crop` > 0.7) it is filled with 0.

    The centre of the rotation is that of the crop. Consecutive rows with the same file
    decode it once. The JPEG decoder's own reduction (Pillow's `draft`) is not used: it
    offers powers of two only and is not a mean over areas.

    Images of any mode with 8 bits per channel become RGB: grey is repeated in the three
    channels, transparency is dropped. The EXIF orientation is ignored, as is any frame
    but the first.

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
    ...     X = ImageReader(images_dir=folder, size=16).fit_transform(rows)
    >>> X.shape, X.dtype
    ((2, 16, 16, 3), dtype('uint8'))
    >>> X.mean(axis=(1, 2, 3)).tolist()
    [70.0, 80.0]
    """

    _parameter_constraints: ClassVar[dict] = {
        "images_dir": [str, os.PathLike, None],
        "path_column": [str, None],
        "size": [Interval(Integral, 1, None, closed="left")],
        "crop": [Interval(Real, 0, 1, closed="right")],
        "n_jobs": [Integral, None],
        "on_error": [StrOptions({"raise", "skip"})],
    }

    def __init__(
        self,
        *,
        images_dir: str | os.PathLike[str] | None = None,
        path_column: str | None = None,
        size: int = 128,
        crop: float = 0.5,
        n_jobs: int | None = None,
        on_error: str = "raise",
    ):
        self.images_dir = images_dir
        self.path_column = path_column
        self.size = size
        self.crop = crop
        self.n_jobs = n_jobs
        self.on_error = on_error

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, rows: Any, y: None = None) -> "ImageReader":
        """Check the parameters; there is nothing to learn.

        Parameters
        ----------
        rows : DataFrame or sequence of paths
            Ignored, here for API consistency.

        y : None
            Ignored, here for API consistency.

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
                of n_rows paths
            What to read. A column `rotation` holds degrees, counter-clockwise.

        Returns
        -------
        X : ndarray of shape (n_images, size, size, 3), dtype uint8
            RGB images in the order of the rows. There are as many as rows unless
            `on_error="skip"`.

        Raises
        ------
        FileNotFoundError
            If files are missing, before the first file is read.
        ValueError
            If a file is damaged, cut short, not an image, has more than 8 bits per
            channel or more pixels than `PIL.Image.MAX_IMAGE_PIXELS`; if no column with
            paths is there, if a row has no path, or if the column `rotation` holds
            anything but finite numbers.
        TypeError
            If `rows` is neither a DataFrame nor a sequence of paths.
        """
        self._validate_params()
        if ImageFile.LOAD_TRUNCATED_IMAGES:
            raise ValueError(
                "`PIL.ImageFile.LOAD_TRUNCATED_IMAGES` must be False; it is True, and "
                "files that were cut short would pass as half-grey images."
            )
        rows = as_pandas(rows)
        names, values, by_asset = self._path_values(rows)
        if len(values) == 0:
            raise ValueError("`rows` must have at least one row; got none.")
        if isinstance(rows, pd.DataFrame):
            angles = rotation_angles(rows)
        else:
            angles = np.zeros(len(values))

        # Looked up once per file, however often its row is repeated.
        folder = "" if self.images_dir is None else os.fspath(self.images_dir)
        located = {value: _locate(folder, value, by_asset) for value in set(values)}
        paths = [located[value][0] for value in values]
        failures = {
            i: located[value][1]
            for i, value in enumerate(values)
            if located[value][1] is not None
        }
        if failures and self.on_error == "raise":
            first = min(failures)
            message = (
                f"Row {names[first]!r}: {failures[first]}. "
                f"{len(failures)} of {len(paths)} rows have no file."
            )
            if isinstance(failures[first], FileNotFoundError):
                raise FileNotFoundError(message)
            raise ValueError(message)

        X = np.empty((len(paths), self.size, self.size, 3), dtype=np.uint8)
        todo = np.array([i for i in range(len(paths)) if i not in failures], dtype=int)
        done = Parallel(n_jobs=self.n_jobs, require="sharedmem")(
            delayed(_read_batch)(
                todo[batch], paths, angles, names, X, self.crop, self.on_error
            )
            for batch in gen_batches(len(todo), _BATCH_SIZE)
        )
        for failed in done:
            failures.update(failed)

        if self.on_error == "raise":
            return X
        skipped = sorted(failures)
        self.sample_indices_ = np.setdiff1d(np.arange(len(paths)), skipped)
        self.skipped_ = pd.DataFrame(
            {
                "path": [paths[i] for i in skipped],
                "error": [str(failures[i]) for i in skipped],
            },
            index=names[skipped],
            dtype=object,
        )
        if not skipped:
            return X
        message = (
            f"{len(skipped)} of {len(paths)} images could not be read; the first: row "
            f"{names[skipped[0]]!r}: {failures[skipped[0]]}."
        )
        if len(skipped) == len(paths):
            raise ValueError(message)
        # The caller is one further up: scikit-learn wraps `transform`.
        warnings.warn(f"{message} They are left out, see `skipped_`.", stacklevel=3)
        return X[self.sample_indices_]

    def _path_values(self, rows: Any) -> tuple[pd.Index, list, bool]:
        """Index of the rows, their paths or asset ids, and which of the two it is."""
        if isinstance(rows, pd.DataFrame):
            if self.path_column is None:
                candidates = [*_PATH_COLUMNS, "asset_id"]
            else:
                candidates = [self.path_column]
            column = next((c for c in candidates if c in rows.columns), None)
            if column is None:
                raise ValueError(
                    f"`path_column={self.path_column!r}` needs one of the columns "
                    f"{candidates}; the columns of `rows` are "
                    f"{rows.columns.tolist()}."
                )
            by_asset = self.path_column is None and column == "asset_id"
            if by_asset and self.images_dir is None:
                raise ValueError(
                    "`images_dir` must name the folder of the images where `rows` has "
                    "`asset_id` but no paths; got None."
                )
            return rows.index, rows[column].tolist(), by_asset

        if isinstance(rows, (str, bytes, os.PathLike)) or not hasattr(rows, "__len__"):
            raise TypeError(
                "`rows` must be a DataFrame or a sequence of paths; got "
                f"{type(rows).__name__}."
            )
        values = list(rows)
        names = rows.index if isinstance(rows, pd.Series) else range(len(values))
        for name, value in zip(names, values, strict=True):
            if not isinstance(value, (str, os.PathLike)):
                raise TypeError(
                    "`rows` must hold paths where it is not a DataFrame; element "
                    f"{name!r} is a {type(value).__name__}."
                )
        return pd.Index(names), values, False

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []
        return tags


def _locate(
    folder: str, value: Any, by_asset: bool
) -> tuple[str | None, Exception | None]:
    """Path of a file, and None or the error if there is no such file."""
    if not isinstance(value, (str, os.PathLike)) and (pd.isna(value) or not by_asset):
        return None, ValueError(f"{value!r} is not a path")
    if not by_asset:
        path = os.path.join(folder, value)
    else:
        # A column of integers with gaps is read as float.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        stem = os.path.join(folder, str(value))
        existing = (stem + e for e in _EXTENSIONS if os.path.isfile(stem + e))
        path = next(existing, stem + _EXTENSIONS[0])
    if not os.path.isfile(path):
        return path, FileNotFoundError(f"there is no file {path!r}")
    return path, None


def _read_batch(
    positions: np.ndarray,
    paths: list[str],
    angles: np.ndarray,
    names: pd.Index,
    out: np.ndarray,
    crop: float,
    on_error: str,
) -> dict[int, ValueError]:
    """Read some of the images into `out`; return the failures by position."""
    failures = {}
    image_path = None
    for i in positions:
        try:
            if paths[i] != image_path:
                image = open_rgb(paths[i])
                image_path = paths[i]
            out[i] = cut_out(image, size=out.shape[1], crop=crop, angle=angles[i])
        except MemoryError:
            raise
        # Pillow's decoders raise whatever a damaged file leads them to.
        except Exception as error:
            failure = ValueError(f"cannot read {paths[i]!r}: {error}")
            if on_error == "raise":
                raise ValueError(f"Row {names[i]!r}: {failure}") from error
            failures[int(i)] = failure
    return failures


def open_rgb(path: str | os.PathLike[str]) -> Image.Image:
    """Read a whole image file.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    image : PIL.Image.Image
        The decoded image in mode RGB.
    """
    with Image.open(path) as image:
        # Pillow only warns; and warnings cannot be caught safely in threads.
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise ValueError(
                f"{image.width} x {image.height} pixels are more than "
                f"`PIL.Image.MAX_IMAGE_PIXELS` ({limit})"
            )
        # Pillow would clip these to 255.
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"mode {image.mode!r} has more than 8 bits per channel")
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")


def cut_out(
    image: Image.Image, *, size: int, crop: float, angle: float = 0.0
) -> Image.Image:
    """Rotate an image, crop it to its centre and resample it.

    Parameters
    ----------
    image : PIL.Image.Image
        A decoded image.

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
