"""SyntheticSet: a distilled set, its attributes, and its file format."""

import html
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from safetensors import safe_open
from safetensors.numpy import save_file

from skdistill._described import Described
from skdistill._exchange import Exchange
from skdistill._standalone import Standalone
from skdistill.preprocessing._carried import (
    PREFIX,
    carried,
    packed,
    unpacked,
)
from skdistill.utils._class_rows import check_class_rows
from skdistill.utils._figures import bounded_figures
from skdistill.utils._files import as_path, atomic_path
from skdistill.utils._images import batches
from skdistill.utils._inverse import names_of, to_original_pixels
from skdistill.utils._labels import LABEL_KINDS, as_labels
from skdistill.utils._pixel_space import ChannelMoments, PixelSpace, check_contrast
from skdistill.utils._stretch import to_displayable
from skdistill.utils._untrusted import (
    class_labels,
    errors_as_value_errors,
    max_unpacked,
    parse_json,
)
from skdistill.utils._validation import image_array

_FORMAT = "skdistill-synthetic-set"
# A set is written in the oldest version that can hold it, for those who read no other:
# larger pixels came with version 2, regression targets with version 3, preprocessing
# with version 4.
_VERSIONS = ("1", "2", "3", "4")
# What a file holds: tensors, and entries in JSON.
_DTYPES: dict[str, type] = {
    "X": np.float32,
    "y": np.int64,
    "probabilities": np.float32,
    "targets": np.float32,
    "pixel_space": np.float64,
}
_CONTENT = ("classes", "step_size", "metadata")


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
        The images, in the pixel space of the distilled images.
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
        self.y = as_labels(self.y)
        if self.y.shape != self.X.shape[:1]:
            soft = (
                ".  Convert one-hot rows by y = classes[rows.argmax(axis=1)]; pass "
                "soft labels as `probabilities`"
                if self.y.ndim == 2
                else ""
            )
            raise ValueError(
                f"y must hold one label for each of the {len(self.X)} images; got "
                f"shape {self.y.shape}{soft}"
            )
        if self.y.dtype.kind not in "biufUT" and not (
            self.y.dtype == object and all(isinstance(label, str) for label in self.y)
        ):
            raise ValueError(f"y must hold {LABEL_KINDS}; got {self.y.dtype}")
        if self.y.dtype.kind == "f" and np.isnan(self.y).any():
            raise ValueError("y must hold a label for each image; got NaN")
        if self.metadata is None:
            self.metadata = {}
        if not all(np.isfinite(self.X[part]).all() for part in batches(self.X)):
            raise ValueError("X must be finite; it holds NaN or infinite pixels")
        if not np.can_cast(given.dtype, np.float32) and self.X.size:
            moments = ChannelMoments(given.shape[3]).add(given)
            check_contrast(given.dtype, moments.mean, moments.deviation)
        if self.step_size is not None:
            try:
                self.step_size = float(self.step_size)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"`step_size` must be a number; got {self.step_size!r}"
                ) from error
            if not (np.isfinite(self.step_size) and self.step_size > 0):
                raise ValueError(
                    f"`step_size` must be positive and finite; got {self.step_size}"
                )

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

        if not isinstance(self.pixel_size, Integral) or self.pixel_size < 1:
            raise ValueError(
                f"`pixel_size` must be an integer of at least 1; got {self.pixel_size}"
            )
        self.pixel_size = int(self.pixel_size)
        # Of other shapes where the pixels do not fill the images.
        if self.pixel_size > 1 and not np.array_equal(
            self.X, _enlarge(self._small(), self.pixel_size)
        ):
            raise ValueError(
                f"X must consist of blocks of {self.pixel_size}x{self.pixel_size} "
                f"equal pixels with `pixel_size`={self.pixel_size}"
            )

        if self.pixel_space is not None:
            space = np.asarray(self.pixel_space, dtype=np.float64)
            wanted = (3, self.X.shape[3])
            if space.shape != wanted or not np.isfinite(space).all():
                raise ValueError(
                    "`pixel_space` must be the finite mean, deviation and correlation "
                    f"of each channel, of shape {wanted}; got {self.pixel_space!r}"
                )
            self.pixel_space = PixelSpace(*space)
        self.preprocessing = carried(self.preprocessing, self.X.shape[1:])

    def __iter__(self) -> Iterator[np.ndarray]:
        yield self.X
        yield self.y

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.X)

    def _small(self) -> np.ndarray:
        """Return one pixel of each block of equal pixels."""
        return self.X[:, :: self.pixel_size, :: self.pixel_size]

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
        replace(self)._write(path)

    def _version(self) -> str:
        """Return the oldest version of the file format that can store the set."""
        if self.preprocessing is not None:
            return _VERSIONS[3]
        if self.targets is not None:
            return _VERSIONS[2]
        return _VERSIONS[1] if self.pixel_size > 1 else _VERSIONS[0]

    def _write(self, path: str | os.PathLike[str]) -> None:
        path = as_path(path)
        classes, codes = np.unique(self.y, return_inverse=True)
        metadata = {
            "format": _FORMAT,
            "version": self._version(),
            "classes": json.dumps(classes.tolist()),
            "step_size": json.dumps(self.step_size),
            "metadata": _as_json(self.metadata),
        }
        if metadata["version"] != _VERSIONS[0]:
            metadata["pixel_size"] = json.dumps(self.pixel_size)
        tensors = {
            "X": np.ascontiguousarray(self._small()),
            "y": codes.astype(np.int64),
        }
        for name in ("probabilities", "targets"):
            if getattr(self, name) is not None:
                tensors[name] = getattr(self, name)
        if self.pixel_space is not None:
            tensors["pixel_space"] = np.asarray(self.pixel_space)
        if self.preprocessing is not None:
            steps, learned = packed(self.preprocessing)
            metadata["preprocessing"] = json.dumps(steps)
            tensors.update(learned)
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
            try:
                found = type(self).load(temporary)
            except ValueError as error:
                reason = str(error).replace(str(temporary), "it")
                raise ValueError(
                    f"the set cannot be saved to {path}: {reason}"
                ) from error
            if not np.array_equal(found.y, self.y):
                raise ValueError(
                    f"the set cannot be saved to {path}: labels of {self.y.dtype} are "
                    f"loaded as {found.y.dtype}"
                )

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
            from skdistill.utils._card import OWN_FILE

            path /= OWN_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist")
        with errors_as_value_errors(f"{path} cannot be read: {{error}}"):
            # A zip archive, as torch and NumPy write them.
            with path.open("rb") as start:
                is_archive = start.read(4) == b"PK\x03\x04"
            if is_archive:
                raise ValueError(
                    "it is not a set of skdistill; use `SyntheticSet.from_published` "
                    "to read files written by torch or NumPy"
                )
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise ValueError("it is not a synthetic set")
                version = metadata.get("version")
                if version not in _VERSIONS:
                    raise ValueError(
                        f"its format version is {version!r}, this version of "
                        f"skdistill reads {', '.join(_VERSIONS)}"
                    )
                known = _DTYPES.keys() - (
                    {"targets"} if version in ("1", "2") else set()
                )
                parts, learned = {}, {}
                for name in file.keys():  # noqa: SIM118
                    if version == "4" and name.startswith(PREFIX):
                        learned[name] = file.get_tensor(name)
                        continue
                    if name not in known:
                        raise ValueError(f"it has an unknown part {name!r}")
                    parts[name] = file.get_tensor(name)
                    if parts[name].dtype != _DTYPES[name]:
                        raise ValueError(
                            f"its part {name!r} is of {parts[name].dtype}, not of "
                            f"{_DTYPES[name].__name__}"
                        )
            missing = [name for name in ("X", "y") if name not in parts]
            if version == "3" and "targets" not in parts:
                missing.append("targets")
            entries = [*_CONTENT, *([] if version == "1" else ["pixel_size"])]
            entries += ["preprocessing"] if version == "4" else []
            missing += [name for name in entries if name not in metadata]
            if missing:
                raise ValueError(f"it lacks {missing}")
            content = {name: parse_json(metadata[name]) for name in entries}
            preprocessing = unpacked(content.get("preprocessing", []), learned)
            if (version == "4") != (preprocessing is not None):
                raise ValueError("its preprocessing has no step")
            codes = parts.pop("y")
            classes = class_labels(content["classes"], codes.size)
            if codes.size and not (codes.min() >= 0 and codes.max() < len(classes)):
                raise ValueError("it has labels that are not in its classes")
            if not isinstance(content["step_size"], (int, float, type(None))):
                raise ValueError("its step size is not a number")
            if not isinstance(content["metadata"], dict):
                raise ValueError("its metadata are not pairs of a name and a value")
            pixel_size = content.get("pixel_size", 1)
            if type(pixel_size) is not int or pixel_size < 1:
                raise ValueError("its pixel size is not a number of pixels")
            small = parts.pop("X")
            if small.nbytes * pixel_size**2 > max_unpacked(path.stat().st_size):
                raise ValueError(
                    f"with pixels of {pixel_size}x{pixel_size} its images are too large"
                )
            return cls(
                _enlarge(small, pixel_size),
                classes[codes],
                content["step_size"],
                content["metadata"],
                **parts,
                pixel_size=pixel_size,
                preprocessing=preprocessing,
            )

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
        if preprocessing is None:
            preprocessing = self.preprocessing
        X = to_original_pixels(preprocessing, self.X)
        return to_displayable(X, value_range, composite, band_names, preprocessing)

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row per image: its label and its pixels.

        Returns
        -------
        frame : DataFrame of shape (n_images, 1 + height * width * channels)
            Column ``label``, then ``pixel_{row}_{column}_{channel}``.
        """
        _, height, width, channels = self.X.shape
        names = [
            f"pixel_{row}_{column}_{channel}"
            for row in range(height)
            for column in range(width)
            for channel in range(channels)
        ]
        pixels = self.X.reshape(len(self.X), -1)
        frame = pd.DataFrame(pixels, columns=names, copy=True)
        frame.insert(0, "label", self.y)
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


def _as_json(metadata: Any) -> str:
    """Return metadata as JSON text, or raise an error that names the invalid entry."""
    if not isinstance(metadata, Mapping) or not all(
        isinstance(name, str) for name in metadata
    ):
        raise ValueError(
            f"`metadata` must be a dict whose keys are strings; got {metadata!r}"
        )
    for name, value in metadata.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"`metadata`[{name!r}] must be text, a finite number, or a list or "
                f"dict of these; got {type(value).__name__}: {error}"
            ) from error
    return json.dumps(dict(metadata))


def _enlarge(images: np.ndarray, pixel_size: int) -> np.ndarray:
    """Repeat each pixel of images (n_images, height, width, channels)."""
    if pixel_size == 1:
        return images
    return images.repeat(pixel_size, axis=1).repeat(pixel_size, axis=2)


def _as_set(synthetic: Any) -> SyntheticSet:
    """Take a set, or anything that unpacks as X, y."""
    if isinstance(synthetic, SyntheticSet):
        return synthetic
    X, y = synthetic
    return SyntheticSet(X, y)
