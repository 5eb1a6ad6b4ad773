"""SyntheticSet: a distilled set and its attributes."""

import html
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from skdistill._described import Described
from skdistill._exchange import Exchange
from skdistill._set_files import (
    check_metadata,
    enlarge,
    read_set,
    shrink,
    write_set,
)
from skdistill._standalone import Standalone
from skdistill.preprocessing._carried import carried
from skdistill.utils._card import OWN_FILE
from skdistill.utils._class_rows import check_class_rows
from skdistill.utils._figures import bounded_figures
from skdistill.utils._files import as_path
from skdistill.utils._images import batches
from skdistill.utils._inverse import names_of, to_original_pixels
from skdistill.utils._labels import LABEL_KINDS, as_labels
from skdistill.utils._pixel_space import ChannelMoments, PixelSpace, check_contrast
from skdistill.utils._stretch import to_displayable
from skdistill.utils._untrusted import errors_as_value_errors
from skdistill.utils._validation import image_array


@dataclass(eq=False)
class SyntheticSet(Exchange, Described, Standalone):
    """A few synthetic images with their labels and the step size to train on them.

    A set unpacks as ``X, y``.  ``np.asarray`` returns its images.  Indexing with the
    name of a class, integers, slices or booleans returns a subset; :meth:`of_class`
    selects classes with labels of any type.

    A set with preprocessing is self-contained: :meth:`classifier` returns a classifier
    of raw images, :meth:`transform` transforms raw images to the pixel space of the
    set, and :meth:`to_images` converts the set to pictures.  Sets that are distilled in
    a scikit-learn pipeline contain the preceding steps; :meth:`with_preprocessing` adds
    them to other sets.

    Read more in the :ref:`User Guide <sets>`.

    Parameters
    ----------
    X : ndarray of shape (n_images, height, width, channels), float32
        The images, in the pixel space of the distilled images.  Arrays that need no
        conversion are not copied.
    y : ndarray of shape (n_images,)
        Class labels: integers, booleans, floats or strings.
    step_size : float, default=None
        The learning rate learned with the images; None if there is none.
    metadata : dict, default={}
        Further information about the set, in types that JSON supports.  Distillers
        record ``"distiller"``, ``"parameters"``, ``"seed"``, ``"n_iter"``,
        ``"teachers"``, ``"n_real_images"`` of each class, and ``"run"``: date, command
        and versions, the only difference between sets of equal fits.  :meth:`described`
        adds the origin of the data.  ``"default_estimator"`` is the classifier that
        evaluates the set by default, such as ``{"name": "ConvNetClassifier", "width":
        64}``; distillers also record it.
    probabilities : ndarray of shape (n_images, n_classes), float32, default=None
        Learned soft labels: the probability of each class, in sorted order, for each
        image.  None for hard labels.  A set has either these or ``targets``, since a
        network is trained on one of them.
    pixel_space : tuple (mean, deviation, correlation), default=None
        Statistics of the pixels of the real images: for each channel the mean, the
        standard deviation and the correlation of neighboring pixels.  They are used to
        warn about scores on images of another unit or preprocessing.
    pixel_size : int, default=1
        Side length of the blocks of equal pixels that the images consist of.  A file
        contains one value for each block.
    targets : ndarray of shape (n_images, n_classes), float32, default=None
        Learned regression targets: for each image a number of any sign for each class,
        in sorted order, to which the outputs of a network are fitted by least squares.
        The largest is usually that of the class ``y``.
    preprocessing : transformer, default=None
        The transformer that was applied to the real images before the distillation: a
        fitted :class:`~skdistill.preprocessing.ChannelScaler` or
        :class:`~skdistill.preprocessing.ZCAWhitener`, or a pipeline or list of these;
        the set contains a copy as a pipeline.  It is stored in the file: a few numbers
        for a scaler; for a whitener 4 bytes for each value of ``components_``, which
        are 38 MB for images of 32x32x3 if there are more images than pixel values.
        These are stored in float32, so that transformed images agree up to rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill import SyntheticSet
    >>> distilled = SyntheticSet(np.zeros((2, 8, 8, 3)), ["spiral", "smooth"])
    >>> X, y = distilled
    >>> X.shape
    (2, 8, 8, 3)
    """

    X: np.ndarray
    y: np.ndarray
    step_size: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    probabilities: np.ndarray | None = None
    pixel_space: PixelSpace | None = None
    pixel_size: int = 1
    targets: np.ndarray | None = None
    preprocessing: Any = None

    def __post_init__(self) -> None:
        given = image_array(self.X)
        self.X = np.ascontiguousarray(given, dtype=np.float32)
        self.y = _checked_labels(self.y, len(self.X))
        if self.metadata is None:
            self.metadata = {}
        check_metadata(self.metadata)
        _check_pixels(given, self.X)
        if self.step_size is not None:
            self.step_size = _checked_step_size(self.step_size)
        if self.probabilities is not None and self.targets is not None:
            raise ValueError(
                "a set has `probabilities` or `targets`, not both: a network is "
                "trained on one of them"
            )
        for name in ("probabilities", "targets"):
            rows = getattr(self, name)
            if rows is not None:
                classes = np.unique(self.y)
                rows, _ = check_class_rows(
                    rows, name, len(self.X), classes, dtype=np.float32, min_classes=0
                )
                setattr(self, name, rows)
        self.pixel_size = _checked_pixel_size(self.pixel_size, self.X)
        if self.pixel_space is not None:
            self.pixel_space = _checked_pixel_space(self.pixel_space, self.X.shape[3])
        self.preprocessing = carried(self.preprocessing, self.X.shape[1:])

    def __iter__(self) -> Iterator[np.ndarray]:
        yield self.X
        yield self.y

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.X)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the set to one safetensors file, atomically.

        Changes of the set since its construction are validated, and the file is read
        back.

        Parameters
        ----------
        path : path-like
            The file.  An existing file is only replaced by a file that :meth:`load` can
            read.

        Raises
        ------
        ValueError
            If the set cannot be stored in a file.
        """
        write_set(replace(self), as_path(path), type(self).load)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SyntheticSet":
        """Read a set from a file written by :meth:`save`.

        Parameters
        ----------
        path : path-like
            The file, or a folder written by :meth:`card`.

        Returns
        -------
        synthetic : SyntheticSet
            The set.

        Raises
        ------
        FileNotFoundError
            If the file does not exist.
        ValueError
            If the file is damaged or is not a distilled set; the message names it.
        """
        path = as_path(path)
        if path.is_dir():
            path /= OWN_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist")
        with errors_as_value_errors(f"{path} cannot be read: {{error}}"):
            return cls(**read_set(path))

    def to_images(
        self,
        preprocessing: Any = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        band_names: Sequence[str] | None = None,
    ) -> np.ndarray:
        """Return the images as 8-bit RGB pictures.

        Parameters
        ----------
        preprocessing : transformer, default=None
            The transformer that was applied to the real images before the distillation:
            a fitted transformer or pipeline with ``inverse_transform``, such as
            ``model[:-1]`` of a pipeline that ends with a
            :class:`~skdistill.distillation.DistilledClassifier`.  Transformers of
            tables, such as :class:`~sklearn.preprocessing.StandardScaler`, get
            flattened images, as in the fit.  None uses the preprocessing of the set,
            "passthrough" none.
        value_range : tuple (low, high), default=None
            The values, in the unit of the real images, that are mapped to 0 and 255;
            values outside are clipped.  None uses 0 to 255, 0 to 1 or -1 to 1 if the
            real images, according to ``preprocessing``, or otherwise the images
            themselves have this range, and nearly the whole range of other images.
        composite : array-like of shape (3,) or (3, channels), default=None
            The channels to show as red, green and blue, by position or name, or the
            weight of each channel in them.  None shows one channel as gray, two as red
            and blue, three as red, green and blue, and for more channels the means of
            the first, the middle and the last third, from red to blue unless
            ``band_names`` are given.
        band_names : sequence of str, default=None
            Names of the channels, such as ``"ugriz"``: known names determine the order
            of the channels from red to blue.

        Returns
        -------
        pixels : ndarray of shape (n_images, height, width, 3), uint8
            The RGB images.
        """
        # What was changed in a set since it was made is checked, too.
        checked = replace(self)
        if preprocessing is None:
            preprocessing = checked.preprocessing
        X = to_original_pixels(preprocessing, checked.X)
        return to_displayable(X, value_range, composite, band_names, preprocessing)

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row per image: its label and its pixels.

        Returns
        -------
        frame : DataFrame of shape (n_images, 1 + height * width * channels)
            Column ``label``, then ``pixel_{row}_{column}_{channel}``.
        """
        # What was changed in a set since it was made is checked, too.
        X, y = replace(self)
        _, height, width, channels = X.shape
        names = [
            f"pixel_{row}_{column}_{channel}"
            for row in range(height)
            for column in range(width)
            for channel in range(channels)
        ]
        pixels = X.reshape(len(X), len(names))
        frame = pd.DataFrame(pixels, columns=names, copy=True)
        frame.insert(0, "label", y)
        return frame

    def __repr__(self) -> str:
        _, height, width, channels = self.X.shape
        step_size = (
            "" if self.step_size is None else f", step size {self.step_size:.3g}"
        )
        pixels = ""
        if self.pixel_size > 1:
            pixels = f" in pixels of {self.pixel_size}x{self.pixel_size}"
        labels = ""
        if self.targets is not None:
            labels = ", regression targets"
        elif self.probabilities is not None:
            labels = ", soft labels"
        carries = names_of(self.preprocessing)
        carries = f", carries {carries}" if carries else ""
        return (
            f"<SyntheticSet: {len(self)} images of {height}x{width}x{channels}"
            f"{pixels}, {len(np.unique(self.y))} classes{labels}{step_size}{carries}>"
        )

    def _repr_html_(self) -> str:
        markup = bounded_figures(self.X, self.y)
        return f"<div><p>{html.escape(repr(self))}</p>{markup}</div>"


def _checked_labels(y: Any, n_images: int) -> np.ndarray:
    """Return labels as an array, one for each image."""
    labels = as_labels(y)
    if labels.shape != (n_images,):
        soft = (
            ".  Convert one-hot rows by y = classes[rows.argmax(axis=1)]; pass "
            "soft labels as `probabilities`"
            if labels.ndim == 2
            else ""
        )
        raise ValueError(
            f"y must hold one label for each of the {n_images} images; got shape "
            f"{labels.shape}{soft}"
        )
    is_text = labels.dtype == object and all(isinstance(one, str) for one in labels)
    if labels.dtype.kind not in "biufUT" and not is_text:
        raise ValueError(f"y must hold {LABEL_KINDS}; got {labels.dtype}")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ValueError("y must hold a label for each image; got NaN")
    return labels


def _check_pixels(given: np.ndarray, X: np.ndarray) -> None:
    """Raise an error if X is not finite, or lost the contrast of what was given."""
    if not all(np.isfinite(X[part]).all() for part in batches(X)):
        raise ValueError("X must be finite; it holds NaN or infinite pixels")
    if not np.can_cast(given.dtype, np.float32) and X.size:
        moments = ChannelMoments(given.shape[3]).add(given)
        check_contrast(given.dtype, moments.mean, moments.deviation)


def _checked_step_size(step_size: Any) -> float:
    try:
        number = float(step_size)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`step_size` must be a number; got {step_size!r}") from error
    if not (np.isfinite(number) and number > 0):
        raise ValueError(f"`step_size` must be positive and finite; got {number}")
    return number


def _checked_pixel_size(pixel_size: Any, X: np.ndarray) -> int:
    """Return the side of the blocks of equal pixels that X consists of."""
    if not isinstance(pixel_size, Integral) or pixel_size < 1:
        raise ValueError(
            f"`pixel_size` must be an integer of at least 1; got {pixel_size}"
        )
    pixel_size = int(pixel_size)
    # Of other shapes where the pixels do not fill the images.
    if pixel_size > 1 and not np.array_equal(
        X, enlarge(shrink(X, pixel_size), pixel_size)
    ):
        raise ValueError(
            f"X must consist of blocks of {pixel_size}x{pixel_size} equal pixels "
            f"with `pixel_size`={pixel_size}"
        )
    return pixel_size


def _checked_pixel_space(pixel_space: Any, n_channels: int) -> PixelSpace:
    wanted = (3, n_channels)
    try:
        space = np.asarray(pixel_space, dtype=np.float64)
    except (TypeError, ValueError):  # what has no numbers, or not as many of each
        space = np.empty(0)
    if space.shape != wanted or not np.isfinite(space).all():
        raise ValueError(
            "`pixel_space` must be the finite mean, deviation and correlation of each "
            f"channel, of shape {wanted}; got {pixel_space!r}"
        )
    return PixelSpace(*space)


def _as_set(synthetic: Any) -> SyntheticSet:
    """Take a set, or anything that unpacks as X, y."""
    if isinstance(synthetic, SyntheticSet):
        return synthetic
    if len(synthetic) != 2:
        raise ValueError(
            "`synthetic` must be a SyntheticSet or a pair (X, y); got a "
            f"{type(synthetic).__name__} of {len(synthetic)}.  Soft labels are "
            "passed in a SyntheticSet"
        )
    X, y = synthetic
    return SyntheticSet(X, y)
