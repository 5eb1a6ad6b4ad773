"""What every display needs: images in true colour, axes, names of classes."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skdistill.synthetic import SyntheticSet, display_range, to_displayable, to_rgb
from skdistill.utils._images import batches
from skdistill.utils._inverse import to_original_pixels
from skdistill.utils._maps import scratch_array
from skdistill.utils._validation import image_array

_GAP = 0.06  # between two images of a grid, in widths of one
_GROUP_GAP = 0.25  # and between two groups of columns


def check_matplotlib(caller: str) -> None:
    """Raise an ImportError that says how to install matplotlib if it is missing."""
    try:
        import matplotlib as mpl  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller} needs matplotlib: pip install skdistill[plot]"
        ) from error


def distilled_by(estimator: Any, preprocessing: Any = None) -> tuple[SyntheticSet, Any]:
    """Return the distilled set of an estimator, and the way back to pixels.

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
                "`preprocessing` is what comes before the estimator; a pipeline has "
                "it inside: leave it out"
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
    return synthetic, preprocessing


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
    X: Any, estimator: Any, shape: tuple[int, ...], preprocessing: Any = None
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

    Returns
    -------
    pixels : ndarray of shape (n_images, height, width, channels), float32
    """
    X = image_array(X, shape=shape)
    return to_pixels(X, None if isinstance(estimator, Pipeline) else preprocessing)


def in_colour(
    *groups: np.ndarray,
    value_range: tuple[float, float] | None = None,
    composite: ArrayLike | None = None,
    reference: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Turn groups of images to 8-bit RGB, all by the same stretch.

    Parameters
    ----------
    *groups : ndarray of shape (n_images, height, width, channels)
        Images, all in the same unit.
    value_range : tuple (low, high), default=None
        The values that become 0 and 255.
    composite : array-like of shape (3,) or (3, channels), default=None
        As in :meth:`~skdistill.SyntheticSet.to_images`.
    reference : ndarray of shape (n_images, height, width, channels), default=None
        Images whose range is taken when there is no ``value_range``; None takes that
        of all groups.

    Returns
    -------
    pixels : list of ndarray of shape (n_images, height, width, 3), uint8
        One array for each group.
    """
    if value_range is None:
        some = groups if reference is None or not reference.size else (reference,)
        values = [to_rgb(images, composite).ravel() for images in some]
        joined = np.concatenate(values)
        # The cores of galaxies are few pixels, and shall not be clipped.
        value_range = display_range(joined, 0.999) if joined.size else (0.0, 1.0)
    else:
        check_value_range(value_range)
    return [to_displayable(images, value_range, composite) for images in groups]


def check_value_range(value_range: Any) -> None:
    """Raise a ValueError unless a range is two finite numbers that increase."""
    bounds = np.asarray(value_range, dtype=np.float64)
    if bounds.shape != (2,) or not np.isfinite(bounds).all() or bounds[0] >= bounds[1]:
        raise ValueError(
            f"`value_range` must be (low, high) with low < high; got {value_range!r}"
        )


def class_rows(y: Any, classes: ArrayLike | None) -> tuple[list[Any], list[np.ndarray]]:
    """Return the classes in the order to show them, and the images of each.

    Parameters
    ----------
    y : array-like of shape (n_images,)
        Labels.
    classes : array-like, default=None
        The classes to show, in order; None takes all, sorted.

    Returns
    -------
    classes : list
    positions : list of ndarray of int
        Of the images of each class.
    """
    y = np.asarray(y)
    known = np.unique(y)
    shown = known.tolist() if classes is None else np.asarray(classes).tolist()
    missing = [label for label in shown if label not in known.tolist()]
    if missing:
        raise ValueError(
            f"`classes` must be labels of the images; without any image: {missing}"
        )
    return shown, [np.flatnonzero(y == label) for label in shown]


def check_names(class_names: Sequence[str] | None, classes: Sequence[Any]) -> list[str]:
    """Return a name for each class that is shown, its label unless one is given."""
    if class_names is None:
        return [str(label) for label in classes]
    names = [str(name) for name in class_names]
    if len(names) != len(classes):
        raise ValueError(
            f"`class_names` must hold a name for each of the {len(classes)} classes; "
            f"got {len(names)}"
        )
    return names


def wrapped(text: str, width: int = 13) -> str:
    """Break a name into short lines."""
    lines = textwrap.wrap(str(text), width, break_on_hyphens=False)
    return "\n".join(lines) or str(text)


def plain_text(ax: Any) -> None:
    """Write names of classes as they are, dollar signs too."""
    from matplotlib.text import Text

    for text in ax.findobj(Text):
        text.set_parse_math(False)


def new_axes(ax: Any, width: float, height: float) -> Any:
    """Return the axes that are given, or those of a new figure of a size in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=(width, height), layout="compressed")
    return ax


def draw_grid(
    ax: Any,
    rows: Any,
    row_names: Sequence[str],
    column_names: Sequence[str] = (),
    per_group: int = 1,
    **imshow_kw: Any,
) -> tuple[Any, list[list[Any]]]:
    """Draw images in rows and columns, all in one axes.

    Parameters
    ----------
    ax : matplotlib Axes or None
        Where to draw; None makes a new figure.
    rows : sequence of sequences of ndarray of shape (height, width[, 3])
        The images of each row.
    row_names : sequence of str
    column_names : sequence of str, default=()
        Titles of the columns; fewer are repeated.
    per_group : int, default=1
        Number of columns after which there is a wider gap.
    **imshow_kw : dict
        For :meth:`matplotlib.axes.Axes.imshow`.

    Returns
    -------
    ax : matplotlib Axes
    drawn : list of list of matplotlib AxesImage
    """
    n_columns = max(len(images) for images in rows)
    height, width = rows[0][0].shape[:2]
    aspect = height / width
    left = np.arange(n_columns) * (1 + _GAP)
    if per_group > 1:
        left = left + (np.arange(n_columns) // per_group) * _GROUP_GAP
    top = np.arange(len(rows)) * (aspect + _GAP)
    side = np.clip(12 / n_columns, 0.8, 1.3)
    ax = new_axes(ax, 1.8 + side * (left[-1] + 1), 0.4 + side * (top[-1] + aspect))
    imshow_kw = {"interpolation": "nearest"} | imshow_kw
    drawn = [
        [
            ax.imshow(image, extent=(x, x + 1, y + aspect, y), **imshow_kw)
            for image, x in zip(images, left, strict=False)
        ]
        for images, y in zip(rows, top, strict=True)
    ]
    ax.set(
        xlim=(-_GAP, left[-1] + 1 + _GAP),
        ylim=(top[-1] + aspect + _GAP, -_GAP),
        aspect="equal",
        xticks=left + 0.5 if column_names else [],
        yticks=top + aspect / 2,
    )
    ax.set_yticklabels([wrapped(name, 16) for name in row_names])
    if column_names:
        ax.set_xticklabels(list(column_names) * (n_columns // len(column_names)))
        ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    plain_text(ax)
    return ax, drawn
