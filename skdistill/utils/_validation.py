"""Validation of images, the same for every estimator."""

import hashlib
import math
from numbers import Integral
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_feature_names,
    _check_sample_weight,
    _get_feature_names,
    validate_data,
)

from skdistill.utils._axes import check_shape_order, warn_of_flattened_squares
from skdistill.utils._blank_images import warn_of_blank_images
from skdistill.utils._image_input import (
    as_images,
    looks_like_pixels,
    some_of,
    unmasked,
    without_torch,
)
from skdistill.utils._images import Images, Rows, batches, select, take
from skdistill.utils._labels import (
    check_labels,
    native_labels,
    warn_of_doubtful_classes,
)
from skdistill.utils._warnings import warn

ImageShape = tuple[int, int, int]

_NUMBERS = [np.float64, np.float32, np.float16, np.bool_] + [
    np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)
]
_MAX_VALUE = float(np.finfo(np.float32).max)

# Maximum number of classes in a message.
_MAX_NAMED = 10


def check_image_shape(image_shape: Any) -> ImageShape:
    """Check ``image_shape`` and return it as a tuple of three positive integers.

    What can only be PyTorch's order of axes is refused.
    """
    shape = tuple(image_shape)
    if len(shape) != 3 or any(
        not isinstance(side, Integral) or side < 1 for side in shape
    ):
        raise ValueError(
            "`image_shape` must be (height, width, channels), three positive "
            f"integers; got {image_shape!r}"
        )
    height, width, channels = (int(side) for side in shape)
    check_shape_order((height, width, channels))
    return (height, width, channels)


def check_images(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    reset: bool,
    with_labels: bool = False,
    image_shape: Any = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Validate images, and labels where given, for an estimator.

    Images come as a 4-D array, or flattened to 2-D with ``image_shape``. Either way
    the estimator gets the attributes ``n_features_in_`` (the number of pixel values
    of one image) and ``image_shape_`` when ``reset`` is true, and X is checked
    against them when it is false.

    Parameters
    ----------
    estimator : estimator instance
        The estimator that is being fitted, or that was.
    X : array-like of shape (n_samples, height, width, channels) or \
            (n_samples, height * width * channels)
        The images, of any numeric dtype.
    y : array-like of shape (n_samples,), default=None
        Class labels.
    reset : bool
        Whether X defines the shape of the images (in fit) or must have it.
    with_labels : bool, default=False
        Whether y is needed and checked.
    image_shape : tuple (height, width, channels), default=None
        How 2-D X is to be read. None reads one row of pixels, one channel.

    Returns
    -------
    images : ndarray of shape (n_samples, height, width, channels)
        In the type of X, and without a copy: a memory map stays one.  Callers
        convert one batch at a time to floating point.
    y : ndarray of shape (n_samples,) or None

    Raises
    ------
    ValueError
        If X has another number of axes or other sides than asked for, or pixels that
        are NaN or infinite; the message says which image.
    """
    shape = None if image_shape is None else check_image_shape(image_shape)
    if not reset:
        shape = estimator.image_shape_

    if not isinstance(X, Rows):
        X = as_images(X, shape=shape if not reset else None)
    n_axes = len(X.shape)
    if n_axes == 4:
        if shape is not None and X.shape[1:] != shape:
            raise ValueError(
                f"X must hold images of shape (height, width, channels) = {shape}; "
                f"got {X.shape[1:]}"
            )
        shape = X.shape[1:]
        if 0 in shape:
            raise ValueError(f"X must hold images with pixels; got shape {X.shape}")
    columns = getattr(X, "columns", None)

    # Other types than these, as of strings or objects, become the first.
    options = {"dtype": _NUMBERS, "ensure_all_finite": False, "reset": reset}
    given: Any = X
    if n_axes == 4:
        # What is checked of the whole is its size: nothing of X is copied.
        X = _stand_in(X, math.prod(X.shape[1:]))
    if with_labels:
        check_labels(y)
        y = native_labels(y)
        X, y = validate_data(estimator, X, y, **options)
        check_classification_targets(y)
        warn_of_doubtful_classes(np.asarray(y))
    else:
        X = validate_data(estimator, X, **options)
    n_features = X.shape[1]
    if n_axes == 4:
        X = given if given.dtype.kind in "biuf" else X.reshape(given.shape)
    check_finite_images(X)

    if shape is None:
        if looks_like_pixels(columns):
            warn_of_flattened_squares(n_features)
        shape = (1, n_features, 1)
    if n_features != shape[0] * shape[1] * shape[2]:
        raise ValueError(
            f"X has {n_features} features, but `image_shape`={shape} makes "
            f"{shape[0] * shape[1] * shape[2]}"
        )
    if reset:
        estimator.image_shape_ = tuple(int(side) for side in shape)
    images = X if n_axes == 4 else X.reshape(len(X), *shape)
    if with_labels:
        warn_of_blank_images(images, np.asarray(y))
    return images, y


def _stand_in(X: Images, n_features: int) -> np.ndarray:
    """Return an array for checks of shape and type that holds no pixels of numbers."""
    if X.dtype.kind in "biuf":
        return np.broadcast_to(np.zeros((), X.dtype), (len(X), n_features))
    return np.asarray(X).reshape(len(X), n_features)


def image_array(X: Any, name: str = "X", *, shape: Any = None) -> np.ndarray:
    """Return images for a function that has no estimator which would check them.

    Parameters
    ----------
    X : object
        The images passed by the user.
    name : str, default="X"
        What the parameter is called.
    shape : tuple (height, width, channels), default=None
        What the images must have, and how flattened ones are read.  None takes those
        of 4 axes alone, of any shape.

    Returns
    -------
    images : ndarray of shape (n_images, height, width, channels)
        Finite real numbers, of the type that they came in.

    Raises
    ------
    TypeError, ValueError
        As :func:`as_images`, and where pixels are missing or infinite.
    """
    images = as_images(X, name, shape=shape, flattened=shape is not None)
    if sparse.issparse(images):
        images = images.toarray()
    images = np.asarray(images)
    if images.ndim == 2 and shape is not None and images.shape[1] == math.prod(shape):
        images = images.reshape(len(images), *shape)
    if images.ndim != 4:
        raise ValueError(
            f"{name} must be 4-D (n_images, height, width, channels); got shape "
            f"{images.shape}"
        )
    if shape is not None and images.shape[1:] != tuple(shape):
        raise ValueError(
            f"{name} must hold images of shape (height, width, channels) = "
            f"{tuple(shape)}; got {images.shape[1:]}"
        )
    if images.dtype.kind not in "biuf":
        images = images.astype(np.float64)
    if images.dtype.kind == "f" and images.size:
        check_finite_images(images, name)
    return images


def hand_on_image_shape(estimator: Any, shape: Any) -> Any:
    """Tell an estimator, and what is in it, the shape of images unless it was told.

    Parameters
    ----------
    estimator : estimator instance
        Is changed.
    shape : tuple (height, width, channels) or None
        None if it is not known.

    Returns
    -------
    estimator : estimator instance
        The same.
    """
    if shape is not None and hasattr(estimator, "get_params"):
        names = [
            name
            for name, value in estimator.get_params().items()
            if name.rpartition("__")[2] == "image_shape" and value is None
        ]
        estimator.set_params(**dict.fromkeys(names, shape))
    return estimator


def is_flattened(X: Any) -> bool:
    """Tell whether images came flattened, as a 2-D array-like."""
    n_axes = getattr(X, "ndim", None)
    return bool((np.asarray(X).ndim if n_axes is None else n_axes) == 2)


def check_weights(
    sample_weight: Any, X: Images, y: np.ndarray
) -> tuple[Images, np.ndarray, np.ndarray | None]:
    """Validate the weights of images, and leave out those of weight 0.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,), number or None
        None if all weigh the same.
    X : ndarray of shape (n_samples, height, width, channels)
        Images.
    y : ndarray of shape (n_samples,)
        Class labels.

    Returns
    -------
    X : ndarray or Rows
        The images of a weight above 0, not copied.
    y : ndarray
        Their labels.
    weight : ndarray of float64 or None
        Their weights.
    """
    if sample_weight is None:
        return X, y, None
    sample_weight = without_torch(sample_weight, "`sample_weight`")
    try:
        weight = _check_sample_weight(
            unmasked(sample_weight, "sample_weight", "weights"),
            y,
            dtype=np.float64,
            ensure_non_negative=True,
        )
    except (TypeError, ValueError) as error:
        if "sample_weight" in str(error):
            raise
        raise ValueError(
            f"`sample_weight` must hold a number for each image: {error}"
        ) from error
    used = weight > 0
    if used.all():
        return X, y, weight
    classes = np.unique(y)
    left = np.unique(y[used])
    n_classes = len(left)
    if n_classes < min(2, len(classes)):
        raise ValueError(
            "y must hold at least two classes of images whose `sample_weight` is above "
            f"0; got {n_classes}"
        )
    if n_classes < len(classes):
        lost = np.setdiff1d(classes, left).tolist()
        warn(
            f"all images of the classes {lost} have a `sample_weight` of 0: these "
            "classes are ignored"
        )
    return select(X, used), y[used], weight[used]


def in_shape_of(X: Any, images: np.ndarray) -> np.ndarray:
    """Return images flattened if X came flattened."""
    return images.reshape(len(images), -1) if is_flattened(X) else images


def check_columns(estimator: Any, X: Any) -> Any:
    """Check the columns of X against those of fit, and return X without their names.

    For estimators that hand X on to another one, which was fitted without names.

    Parameters
    ----------
    estimator : estimator instance
        The fitted estimator.
    X : array-like or DataFrame
        Images.

    Returns
    -------
    X : array-like
        An array if X was a DataFrame, else X itself.
    """
    _check_feature_names(estimator, X, reset=False)
    return np.asarray(X) if hasattr(X, "columns") else X


def column_names(X: Any) -> np.ndarray | None:
    """Return the names of the columns of a table, None if some are no strings."""
    try:
        return _get_feature_names(X)
    except TypeError:  # strings and numbers
        return None


def check_same_columns(
    expected: np.ndarray | None, X: Any, name: str = "X", of: str = "those of fit"
) -> None:
    """Raise a ValueError if a table has columns of other names, or in another order.

    Pixels are read by their places: in another order the images would be others.

    Parameters
    ----------
    expected : ndarray of str or None
        The names that it should have, None if there are none.
    X : array-like or DataFrame
        What has no names is not checked.
    name : str, default="X"
        Of the parameter, for messages.
    of : str, default="those of fit"
        Whose names are expected.
    """
    found = column_names(X)
    if expected is None or found is None or np.array_equal(expected, found):
        return
    how = "in another order" if sorted(expected) == sorted(found) else "others"
    raise ValueError(
        f"{name} must have the same columns in the same order as {of}; they are {how}"
    )


def check_finite_images(X: Images, name: str = "X") -> None:
    """Raise a ValueError that names the images with NaN or infinite pixels."""
    if X.dtype.kind != "f":
        return
    bad: list[int] = []
    has_nan = False
    for part in batches(X):
        batch = X[part].reshape(part.stop - part.start, -1)
        # NaN is passed on by both, and compares as False.
        with np.errstate(invalid="ignore"):
            is_good = (
                float(batch.min()) >= -_MAX_VALUE and float(batch.max()) <= _MAX_VALUE
            )
        if is_good:
            continue
        with np.errstate(invalid="ignore"):
            sizes = np.abs(batch.astype(np.float64))
            rows = np.flatnonzero(~(sizes <= _MAX_VALUE).all(axis=1))
        has_nan |= bool(np.isnan(batch[rows]).any())
        bad += (part.start + rows).tolist()
    if bad:
        kind = "NaN" if has_nan else "infinity or a value too large for float32"
        raise ValueError(
            f"Input {name} contains {kind}: in {len(bad)} of {len(X)} images "
            f"(positions {some_of(bad)}); pixels must be finite"
        )


def check_class_sizes(y: np.ndarray, minimum: int, reason: str) -> None:
    """Raise a ValueError that lists the classes with fewer than ``minimum`` images."""
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"y must hold at least two classes; got one class, {classes.tolist()[0]!r}"
        )
    small = {
        label: count
        for label, count in zip(classes.tolist(), counts.tolist(), strict=True)
        if count < minimum
    }
    if small:
        some = list(small.items())[:_MAX_NAMED]
        listing = ", ".join(f"{label!r} has {count}" for label, count in some)
        if len(small) > len(some):
            listing += f", and {len(small) - len(some)} others have too few"
        raise ValueError(
            f"{reason}: every class in y must have at least {minimum} images; "
            "class " + listing
        )


def fingerprint_images(
    X: Images, y: np.ndarray, weight: np.ndarray | None = None
) -> str:
    """Return a digest of images and labels that changes when any of them does.

    Parameters
    ----------
    X : ndarray of shape (n_samples, height, width, channels)
        Counts as float32, of any type.
    y : ndarray of shape (n_samples,), int
        Class codes.
    weight : ndarray of shape (n_samples,), default=None
        Weights of the images, if they have any.

    Returns
    -------
    digest : str
        The hexadecimal BLAKE2b digest (32 characters).
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr(X.shape).encode())
    for part in batches(X):
        digest.update(take(X, part, "<f4").data)
    digest.update(np.ascontiguousarray(y, dtype="<i8").data)
    if weight is not None:
        digest.update(np.ascontiguousarray(weight, dtype="<f8").data)
    return digest.hexdigest()


def check_given_images(images: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Validate images that came as a parameter and return them as float32."""
    images = as_images(images, name, shape=shape[1:])
    if np.shape(images) != shape:
        raise ValueError(
            f"`{name}` as an array must have shape {shape}; got {np.shape(images)}"
        )
    return image_array(images, name).astype(np.float32)
