"""What class labels may be."""

from collections.abc import Collection, Iterator, Mapping, Set
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from unicodedata import normalize

import numpy as np

from skdistill.utils._image_input import unmasked, without_torch
from skdistill.utils._warnings import warn, warn_once

# Every format that labels are stored in can hold these.
LABEL_KINDS = "labels of the same type: strings, integers, booleans or whole numbers"

# Maximum number of classes in a message.
_MAX_NAMED = 10

# What a missing label becomes when it is made a string.
_MISSING = {"", "nan", "NaN", "None", "<NA>", "NaT"}

# Whether a caller further out has checked the very data already.
_CHECKED: ContextVar[bool] = ContextVar("_CHECKED", default=False)


@contextmanager
def already_checked() -> Iterator[None]:
    """Mark a block whose test data were checked: no second check, no second warning."""
    token = _CHECKED.set(True)
    try:
        yield
    finally:
        _CHECKED.reset(token)


def is_already_checked() -> bool:
    """Tell whether this is inside of :func:`already_checked`."""
    return _CHECKED.get()


def as_labels(y: Any, name: str = "y") -> np.ndarray:
    """Return labels as an array that holds exactly what was given.

    NumPy makes strings of all that is in a list with a string: a missing label becomes
    the class ``"nan"``.

    Raises
    ------
    TypeError
        If labels have no order, or cannot be counted.
    ValueError
        If there is a mask that hides some, or a tensor that NumPy cannot read.
    """
    check_sequence(y, name)
    y = without_torch(y, name)
    labels = np.asarray(native_labels(unmasked(y, name, "labels")))
    if (
        labels.dtype.kind == "U"
        and isinstance(y, (list, tuple))
        and not all(
            isinstance(label, str) for label in np.asarray(y, dtype=object).flat
        )
    ):
        return np.asarray(y, dtype=object)
    return labels


def check_sequence(y: Any, name: str = "y") -> None:
    """Raise a TypeError if labels have no order, or cannot be counted."""
    cure = ""
    if isinstance(y, Mapping):
        cure = f"pass list({name}.values()) if these are the labels"
    elif isinstance(y, Iterator):
        cure = f"pass list({name})"
    elif isinstance(y, Set):
        cure = "pass a list or an array with one label for each image"
    if cure:
        raise TypeError(
            f"{name} must hold a class label for each image; got a "
            f"{type(y).__name__}: {cure}"
        )


def native_labels(y: Any) -> Any:
    """Return labels of nullable types as such of NumPy, anything else as it is.

    scikit-learn makes floats of pandas' "Int64" and "boolean", and does not know
    NumPy's strings of variable length; pandas and PyTorch do not know numbers in
    another byte order than that of the machine, as those of FITS tables.
    """
    dtype = getattr(y, "dtype", None)
    if isinstance(dtype, np.dtype) and not dtype.isnative:
        return np.asarray(y).astype(dtype.newbyteorder("="))
    if getattr(dtype, "kind", "") == "T":
        return y.astype(object)
    native = getattr(dtype, "numpy_dtype", None)
    if native is None or native.kind not in "biu" or y.isna().any():
        return y
    return np.asarray(y, dtype=native)


def warn_of_doubtful_classes(labels: np.ndarray) -> None:
    """Warn about classes that are likely one class, or missing labels."""
    if labels.dtype.kind not in "OUT" or labels.ndim != 1:
        return
    classes = np.unique(labels).tolist()
    missing = [label for label in classes if label.strip() in _MISSING]
    if missing:
        warn_once(
            ("missing labels", *missing),
            f"y has the class {missing[0]!r}, which often marks a missing label; it "
            "is treated as a class like the others.  Remove these images if their "
            "label is missing",
        )
    several: dict[str, list[str]] = {}
    for label in classes:
        # Letters may be classes: "a" and "A".
        plain = _composed(label)
        several.setdefault(plain.casefold() if len(plain) > 1 else plain, []).append(
            label
        )
    alike = [labels for labels in several.values() if len(labels) > 1]
    if alike:
        warn_once(
            ("classes alike", *alike[0]),
            f"y has the classes {_some(alike[0])}, which differ only in "
            "capitalization, whitespace or the encoding of accents, and are treated as "
            "different classes.  Use "
            "pd.Series(y).str.strip().str.lower().str.normalize('NFC') to merge them",
        )


def _composed(label: str) -> str:
    """Return a label without what nobody sees: spaces around it, parts of letters."""
    return normalize("NFC", label.strip())


def check_labels(y: Any, name: str = "y") -> None:
    """Refuse labels that scikit-learn or a file would refuse later, or worse.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or None
    name : str, default="y"
        Of the parameter, for messages.

    Raises
    ------
    ValueError
        If there are objects other than strings, or dates.
    """
    labels = as_labels(y, name)
    if labels.dtype.kind in "mM":
        raise ValueError(
            f"Unknown label type: {name} must hold {LABEL_KINDS}; got {labels.dtype}"
        )
    some_bytes = labels.dtype.kind in "SO" and labels.ndim == 1 and len(labels)
    if some_bytes and isinstance(labels[0], bytes):
        raise ValueError(
            f"Unknown label type: {name} must hold {LABEL_KINDS}; got bytes, such as "
            f"{bytes(labels[0])!r}, which astropy makes of text in FITS tables.  "
            f"Convert them by np.char.decode(np.asarray({name}, dtype='S'))"
        )
    if labels.dtype != object or labels.ndim != 1:
        return
    for place, label in enumerate(labels):
        if not isinstance(label, str):
            raise ValueError(
                f"Unknown label type: {name} must hold {LABEL_KINDS}; Python objects "
                f"must be strings, got {label!r} at position {place}.  Convert numbers "
                f"to a numeric array, such as {name}.astype(int)"
            )


def check_known_labels(
    y: Any,
    classes: Any,
    *,
    name: str = "y",
    of: str = "the distilled images",
    every: bool = False,
) -> np.ndarray:
    """Check the labels of images that are to be scored against the known classes.

    A label that a classifier does not know can only count as wrong, which looks like a
    bad score.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        The labels.
    classes : array-like of shape (n_classes,)
        What is known.
    name : str, default="y"
        Of the parameter, for messages.
    of : str, default="the distilled images"
        Whose classes they are.
    every : bool, default=False
        Whether every label must be known.  If not, one that is is enough, and the
        others are warned about.

    Returns
    -------
    labels : ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If the labels are no labels, of another type than the classes, or unknown.
    """
    labels = one_label_each(y, name)
    if is_already_checked() or not len(labels):
        return labels
    known = np.asarray(classes).tolist()
    if _is_text(labels) != _is_text(np.asarray(classes)):
        kinds = ("strings", "numbers") if _is_text(labels) else ("numbers", "strings")
        raise ValueError(
            f"`{name}` holds {kinds[0]}, {_some(np.unique(labels).tolist())}; the "
            f"classes of {of} are {kinds[1]}, {_some(known)}"
        )
    if labels.dtype.kind != np.asarray(classes).dtype.kind and not (
        {*labels.tolist(), *known} <= {0, 1}
    ):
        # True is 1 to Python.
        for which, those in ((f"`{name}` holds", labels), (f"{of} have", classes)):
            if np.asarray(those).dtype.kind == "b":
                raise ValueError(
                    f"`{name}` must hold classes of {of}, {_some(known)}; {which} "
                    "booleans"
                )
    found, counts = np.unique(labels, return_counts=True)
    known_set = set(known)
    unknown = [label for label in found.tolist() if label not in known_set]
    if not unknown:
        return labels
    n_unknown = sum(
        count
        for label, count in zip(found.tolist(), counts.tolist(), strict=True)
        if label not in known_set
    )
    hint = _hint(found.tolist(), unknown, known)
    if every or len(unknown) == len(found):
        raise ValueError(
            f"`{name}` must hold classes of {of}, {_some(known)}; got {_some(unknown)}"
            f"{hint}"
        )
    warn(
        f"`{name}` holds classes that are not among those of {of} and count as wrong: "
        f"{_some(unknown)} ({n_unknown} of {len(labels)} labels); the known classes "
        f"are {_some(known)}{hint}"
    )
    return labels


def one_label_each(y: Any, name: str = "y") -> np.ndarray:
    """Return labels with one axis, or say what a table of them should be.

    Raises
    ------
    ValueError
        If they have more columns than one, as one-hot rows and probabilities do, or
        some are NaN.
    """
    check_labels(y, name)
    labels = as_labels(y, name)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        rows = (
            "; convert one-hot rows or probabilities to labels, such as "
            f"classes[{name}.argmax(axis=1)]"
            if labels.ndim == 2
            else ""
        )
        raise ValueError(
            f"`{name}` must hold one label for each image, shape (n_images,); got "
            f"shape {labels.shape}{rows}"
        )
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        place = int(np.flatnonzero(np.isnan(labels))[0])
        raise ValueError(
            f"`{name}` must hold a label for each image; got NaN at position {place}"
        )
    return labels


def labels_of_images(y: Any, n_images: int, name: str = "y") -> np.ndarray:
    """Return the label of each of some images.

    Parameters
    ----------
    y : array-like of shape (n_images,)
        The labels.
    n_images : int
        Number of images.
    name : str, default="y"
        Of the parameter, for messages.

    Returns
    -------
    labels : ndarray of shape (n_images,)

    Raises
    ------
    ValueError
        As :func:`one_label_each`, and if there is no image or another number of labels.
    """
    labels = one_label_each(y, name)
    if len(labels) != n_images or not n_images:
        raise ValueError(
            f"`{name}` must hold one label for each of the {n_images} images, of which "
            f"there must be at least one; got {len(labels)} labels"
        )
    return labels


def places_of(labels: np.ndarray, classes: Any) -> np.ndarray:
    """Return the place of each label among the classes, which hold all, in any order.

    Parameters
    ----------
    labels : ndarray of shape (n_labels,)
    classes : array-like of shape (n_classes,)

    Returns
    -------
    places : ndarray of shape (n_labels,), int
    """
    place = {label: k for k, label in enumerate(np.asarray(classes).tolist())}
    return np.array([place[label] for label in labels.tolist()], dtype=np.int64)


def _is_text(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "OUST"


def _some(labels: Collection[Any]) -> str:
    some = ", ".join(repr(label) for label in list(labels)[:_MAX_NAMED])
    return f"[{some}{', ...' if len(labels) > _MAX_NAMED else ''}]"


def _hint(found: list[Any], unknown: list[Any], known: list[Any]) -> str:
    """Say what two namings of the same classes most likely differ in."""
    if isinstance(unknown[0], str):
        plain = {_composed(str(label)).casefold() for label in known}
        if all(_composed(label).casefold() in plain for label in unknown):
            return (
                ".  They differ only in capitalization, whitespace or the encoding of "
                "accents"
            )
        return ""
    for step in (1, -1):
        if len(found) > 1 and found == [label + step for label in known]:
            return (
                f".  They are the classes {step:+d}: counting starts at a "
                "different number"
            )
    return ""
