"""What every display needs: images as pixels, their colors, names of classes."""

import textwrap
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skdistill.synthetic import SyntheticSet
from skdistill.utils._images import batches
from skdistill.utils._inverse import to_original_pixels
from skdistill.utils._labels import check_known_labels, labels_of_images
from skdistill.utils._maps import scratch_array
from skdistill.utils._pixel_space_checks import warn_of_other_pixels
from skdistill.utils._stretch import Stretch, find_stretch
from skdistill.utils._validation import check_same_columns, image_array

_MAX_LOOKED_AT = 400  # images, to find black and white


def check_matplotlib(caller: str) -> None:
    """Raise an ImportError that says how to install matplotlib if it is missing."""
    try:
        import matplotlib as mpl  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller} requires matplotlib: pip install skdistill[plot]"
        ) from error


def distilled_by(estimator: Any, preprocessing: Any = None) -> tuple[SyntheticSet, Any]:
    """Return the distilled set of an estimator, and the inverse to pixels.

    Parameters
    ----------
    estimator : estimator instance
        A fitted distiller, a :class:`~skdistill.distillation.DistilledClassifier` or
        a pipeline that ends with either.
    preprocessing : transformer, default=None
        What the real images were transformed by before the estimator saw them.

    Returns
    -------
    synthetic : SyntheticSet
    preprocessing : transformer or None
        What has the ``inverse_transform`` from the pixels of the distilled images.
    """
    check_is_fitted(estimator)
    if isinstance(estimator, Pipeline):
        if preprocessing is not None:
            raise ValueError(
                "`preprocessing` must be None if `estimator` is a pipeline, which "
                "contains its own"
            )
        if len(estimator) > 1:
            preprocessing = estimator[:-1]
        estimator = estimator[-1]
    estimator = getattr(estimator, "distiller_", estimator)
    synthetic = getattr(estimator, "synthetic_", None)
    if not isinstance(synthetic, SyntheticSet):
        raise ValueError(
            "`estimator` must be a fitted distiller, a DistilledClassifier or a "
            f"pipeline that ends with one; got {type(estimator).__name__}"
        )
    if preprocessing is None:
        preprocessing = synthetic.preprocessing
    return synthetic, preprocessing


def name_of(estimator: Any) -> str:
    """Return the name of the distiller inside an estimator."""
    inner = getattr(estimator, "steps", [(None, estimator)])[-1][1]
    return type(getattr(inner, "distiller_", inner)).__name__


def to_pixels(images: Any, preprocessing: Any = None, name: str = "X") -> np.ndarray:
    """Return images in the unit that they had before a preprocessing.

    Parameters
    ----------
    images : array-like of shape (n_images, height, width, channels)
    preprocessing : transformer, default=None
        A fitted transformer with ``inverse_transform``.
    name : str, default="X"
        What the images are called.

    Returns
    -------
    pixels : ndarray of shape (n_images, height, width, channels), float32
    """
    images = image_array(images, name)
    if not len(images) or (preprocessing is None and images.dtype == np.float32):
        return images.astype(np.float32, copy=False)
    # Of many images in a temporary file.
    pixels = scratch_array(images.shape, np.float32)
    for part in batches(images):
        pixels[part] = to_original_pixels(preprocessing, images[part])
    return pixels


def real_images(
    X: Any,
    estimator: Any,
    shape: tuple[int, ...],
    preprocessing: Any = None,
    name: str = "X",
) -> np.ndarray:
    """Return real images in their own pixels.

    Parameters
    ----------
    X : array-like of shape (n_images, height, width, channels) or \
            (n_images, height * width * channels)
        What the estimator takes.
    estimator : estimator instance
        A pipeline takes pixels, anything else what ``preprocessing`` made of them.
    shape : tuple (height, width, channels)
        Of the distilled images.
    preprocessing : transformer, default=None
        As for :func:`distilled_by`.
    name : str, default="X"
        Of the parameter, for messages.

    Returns
    -------
    pixels : ndarray of shape (n_images, height, width, channels), float32
    """
    check_fitted_columns(estimator, X, name)
    X = image_array(X, name, shape=shape)
    if not isinstance(estimator, Pipeline):
        # What comes to a pipeline is not yet in the space of the distilled images.
        warn_of_other_pixels(distilled_by(estimator)[0], X)
    return to_pixels(X, None if isinstance(estimator, Pipeline) else preprocessing)


def check_fitted_columns(estimator: Any, X: Any, name: str = "X") -> None:
    """Raise a ValueError if a table has other columns than an estimator was fitted to.

    Without names, as of images with four axes, there is nothing to compare.
    """
    check_same_columns(getattr(estimator, "feature_names_in_", None), X, name)


def real_labels(y: Any, n_images: int, synthetic: SyntheticSet) -> np.ndarray:
    """Return the labels of real images, some of which a distilled set must know."""
    y = labels_of_images(y, n_images)
    # NumPy would take the text "1" for the number.
    if not {*y.tolist()} & {*synthetic.y.tolist()}:
        check_known_labels(y, np.unique(synthetic.y), every=True)
    return y


def rows_of_classes(y: np.ndarray, classes: Sequence[Any]) -> list[np.ndarray]:
    """Return which real images are of each class of a distilled set."""
    missing = [label for label in classes if not (y == label).any()]
    if missing:
        raise ValueError(
            f"`y` must hold a real image of each class that is shown; it has none of "
            f"{missing[:12]}.  Use `classes` to select those to show"
        )
    return [np.flatnonzero(y == label) for label in classes]


def find_look(X: Any, preprocessing: Any = None, **asked: Any) -> Stretch:
    """Find how to show images, the same in every display of the same images.

    Parameters
    ----------
    X : array-like of shape (n_images, height, width, channels)
        Images before the inverse to pixels, for their type; a bounded number of
        them is looked at.
    preprocessing : transformer, default=None
        What has the ``inverse_transform``.
    **asked : dict
        ``value_range``, ``composite`` and ``band_names``, as the user gave them.
    """
    X = image_array(X)
    places = np.linspace(0, len(X) - 1, min(len(X), _MAX_LOOKED_AT)).astype(np.int64)
    some = X[places]
    pixels = some if preprocessing is None else to_pixels(some, preprocessing)
    return find_stretch(pixels, preprocessing, stacklevel=4, **asked)


def class_rows(
    y: Any, classes: ArrayLike | None, name: str = "classes"
) -> tuple[list[Any], list[np.ndarray]]:
    """Return the classes in the order to show them, and the images of each.

    Parameters
    ----------
    y : array-like of shape (n_images,)
        Labels.
    classes : array-like, default=None
        The classes to show, in order; None takes all, sorted.
    name : str, default="classes"
        Of that parameter, for messages.

    Returns
    -------
    classes : list
    positions : list of ndarray of int
        Of the images of each class.
    """
    y = np.asarray(y)
    known = np.unique(y).tolist()
    shown = known if classes is None else np.asarray(classes).tolist()
    if not shown:
        raise ValueError(f"`{name}` must hold at least one label; it is empty")
    missing = [label for label in shown if label not in known]
    if missing:
        raise ValueError(
            f"`{name}` must be labels of the images; no images have {missing[:12]}"
        )
    return shown, [np.flatnonzero(y == label) for label in shown]


def check_names(
    class_names: Sequence[str] | Mapping[Any, str] | None, classes: Sequence[Any]
) -> list[str]:
    """Return a name for each class that is shown, its label unless one is given."""
    if class_names is None:
        return [str(label) for label in classes]
    if isinstance(class_names, Mapping):
        unknown = [name for name in class_names if name not in list(classes)]
        if len(unknown) == len(class_names):
            raise ValueError(
                "`class_names` as a mapping must have labels of the classes, "
                f"{list(classes)[:12]}, as its keys; got {unknown[:12]}"
            )
        return [str(class_names.get(label, label)) for label in classes]
    if isinstance(class_names, Set):
        raise ValueError(
            "`class_names` must be a sequence or a mapping; got a "
            f"{type(class_names).__name__}, which has no order"
        )
    names = [str(name) for name in class_names]
    if len(names) != len(classes):
        raise ValueError(
            f"`class_names` must hold a name for each of the {len(classes)} classes; "
            f"got {len(names)}"
        )
    return names


_SWAPPED = str.maketrans("_-", "-\0")
_SWAPPED_BACK = {0: ord("-"), ord("-"): ord("_")}


def wrapped(text: str, width: int = 13) -> str:
    """Break a name into short lines, at blanks and after underscores."""
    # textwrap breaks after hyphens alone, at which names are not broken.
    swapped = str(text).translate(_SWAPPED)
    lines = textwrap.wrap(swapped, width, break_on_hyphens=True)
    return "\n".join(lines).translate(_SWAPPED_BACK) or str(text)


def plain_text(ax: Any) -> None:
    """Write names of classes as they are, dollar signs too."""
    from matplotlib.text import Text

    for text in ax.findobj(Text):
        text.set_parse_math(False)
