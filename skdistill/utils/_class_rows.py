"""Rows with a number for each class: probabilities and regression targets."""

from pathlib import Path
from typing import Any

import numpy as np

from skdistill.utils._image_input import unmasked, without_torch
from skdistill.utils._labels import LABEL_KINDS, as_labels
from skdistill.utils._warnings import warn_once

# By how much a sum of probabilities may differ from 1, also in half precision.
_MAX_EXCESS = 0.01


def check_class_rows(
    values: Any,
    name: str,
    n_images: int,
    classes: Any,
    *,
    dtype: Any = np.float64,
    min_classes: int = 2,
) -> tuple[np.ndarray, np.ndarray]:
    """Check a table with a row for each image and a column for each class.

    Parameters
    ----------
    values : array-like of shape (n_images, n_classes)
        Of a DataFrame whose columns have the names of the classes they must be in
        their order.
    name : str
        Of the parameter, for messages.  "probabilities" must not be negative.
    n_images : int
    classes : array-like of shape (n_classes,)
        The class labels, in sorted order.
    dtype : dtype, default=float64
        In which the numbers are kept.
    min_classes : int, default=2

    Returns
    -------
    rows : ndarray of shape (n_images, n_classes)
        A copy, unless it is contiguous and of that type already.
    classes : ndarray of shape (n_classes,)

    Raises
    ------
    ValueError
        If classes are too few, there twice or not sorted; if there are other numbers of
        rows or columns, or something else than finite numbers.  The message names the
        parameter.
    """
    classes = _check_classes(classes, min_classes)
    soft = name == "probabilities"
    what = "the probability" if soft else "a number"
    wanted = (n_images, len(classes))
    check_column_order(values, name, classes)
    given = np.asarray(unmasked(without_torch(values, name), name, "rows"))
    if given.dtype.kind not in "biufO":
        raise ValueError(
            f"`{name}` must hold {what} of each class for each image, shape {wanted}; "
            f"got {given.dtype}"
        )
    if given.shape != wanted:
        labels = (
            "; the class of each image is `y`, not a row"
            if given.shape in ((n_images,), (n_images, 1))
            else ""
        )
        raise ValueError(
            f"`{name}` must hold {what} of each class for each image, shape {wanted}; "
            f"got shape {given.shape}{labels}"
        )
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            rows = np.ascontiguousarray(given, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must hold numbers; {error}") from error
    if soft:
        if not (np.isfinite(rows).all() and (rows >= 0).all()):
            raise ValueError(
                "`probabilities` must be finite and non-negative; convert logits by "
                "softmax, and pass regression targets of any sign as `targets`"
            )
        _warn_of_sums(rows)
        return rows, classes
    poor = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(poor):
        raise ValueError(
            f"`{name}` must be finite as {np.dtype(dtype)}; got "
            f"{given[poor[0]].tolist()} in row {poor[0]}"
        )
    return rows, classes


def _warn_of_sums(rows: np.ndarray) -> None:
    """Warn about rows that are no probabilities, such as counts or percentages."""
    sums = rows.sum(axis=1)
    if not (np.abs(sums - 1) <= _MAX_EXCESS).all():
        warn_once(
            "sums of probabilities",
            "`probabilities` must sum to 1 in each row, but the sums are from "
            f"{sums.min():.3g} to {sums.max():.3g}: networks are trained on them as "
            "they are, with gradients that are larger or smaller in proportion.  "
            "Divide counts and percentages by their sums, "
            "rows / rows.sum(axis=1, keepdims=True)",
        )


def _check_classes(classes: Any, min_classes: int) -> np.ndarray:
    labels = np.asarray(classes)
    if labels.ndim != 1 or len(np.unique(labels)) < max(len(labels), min_classes):
        raise ValueError(
            f"`classes` must hold at least two different labels; got {labels.tolist()}"
        )
    if (np.sort(labels) != labels).any():
        raise ValueError(f"`classes` must be in sorted order; got {labels.tolist()}")
    return labels


def check_column_order(values: Any, name: str, classes: np.ndarray) -> None:
    """Refuse a table whose columns have the names of the classes in another order."""
    columns, known = list(getattr(values, "columns", ())), classes.tolist()
    if columns != known and set(columns) == set(known):
        raise ValueError(
            f"the columns of `{name}` must be in the sorted order of the classes, "
            f"{known}; got {columns}"
        )


def name_classes(
    classes: Any,
    codes: np.ndarray,
    rows: np.ndarray | None,
    n_classes: int,
    path: Path,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Replace the codes of a file by class labels.

    Parameters
    ----------
    classes : array-like of shape (n_classes,)
        Labels as the user named them, in the order of the codes.
    codes : ndarray of shape (n_images,), int
    rows : ndarray of shape (n_images, n_classes) or None
        Probabilities or targets, with columns in the order of the codes.
    n_classes : int
        Number of columns, or the largest code and 1.
    path : Path
        For messages.

    Returns
    -------
    labels : ndarray of shape (n_images,)
    rows : ndarray of shape (n_images, n_classes) or None
        With columns in the sorted order of the classes.

    Raises
    ------
    ValueError
        If there are other labels than one for each class.
    """
    labels = as_labels(classes, "classes")
    if labels.ndim != 1 or (
        labels.dtype == object and not all(isinstance(name, str) for name in labels)
    ):
        raise ValueError(
            f"`classes` must be {LABEL_KINDS}, one for each of the {n_classes} classes "
            f"of {path}; got {classes!r}"
        )
    # Codes may have gaps; columns have none.
    is_enough = len(labels) >= n_classes if rows is None else len(labels) == n_classes
    if not is_enough or codes.min(initial=0) < 0:
        raise ValueError(
            f"`classes` must name the {n_classes} classes of {path}; got {len(labels)}"
        )
    if len(np.unique(labels)) < len(labels):
        raise ValueError(
            f"`classes` must name each class of {path} differently; got "
            f"{labels.tolist()}"
        )
    return labels[codes], None if rows is None else rows[:, np.argsort(labels)]
