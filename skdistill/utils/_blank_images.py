"""Warnings about blank images, before the work starts."""

import numpy as np

from skdistill.utils._image_input import some_of
from skdistill.utils._images import Images, batches
from skdistill.utils._warnings import warn_once

# In an image that is not blank, some of this number of pixels nearly always differ.
_N_LOOKS = 16


def warn_of_blank_images(X: Images, y: np.ndarray, name: str = "X") -> None:
    """Warn of images of one value, and of classes whose images are all equal.

    Rows of a table, of height or width 1, may have equal values, and are not looked at.

    Parameters
    ----------
    X : array of shape (n_samples, height, width, channels)
        Finite images.
    y : ndarray of shape (n_samples,)
        Their classes.
    name : str, default="X"
        What the caller calls `X`.
    """
    if min(X.shape[1:3]) < 2:
        return
    blank = blank_images(X)
    if blank:
        warn_once(
            ("blank images", len(blank), blank[0]),
            f"{len(blank)} of {len(X)} images in {name} have the same value in all "
            f"pixels (positions {some_of(blank)}): they are blank, but are used like "
            "the others.  Remove them if they are empty or failed cutouts",
        )
    equal = _classes_of_equal_images(X, y)
    if equal:
        n_images = int((y == equal[0]).sum())
        warn_once(
            ("equal images", str(equal[0])),
            f"All {n_images} images of the class {equal[0]!r} in {name} are equal"
            + (f", as in {len(equal) - 1} other classes" if len(equal) > 1 else "")
            + ": a classifier would learn this single image.  Check whether they "
            "were read from the same file",
        )


def blank_images(X: Images) -> list[int]:
    """Return the positions of images whose pixels are all equal, channel by channel.

    Parameters
    ----------
    X : array of shape (n_samples, height, width, channels)
        Images.

    Returns
    -------
    blank : list of int
        Positions, in order.
    """
    blank: list[int] = []
    for part in batches(X):
        batch = np.asarray(X[part])
        pixels = batch.reshape(len(batch), -1, batch.shape[-1])
        # A few pixels first: most images need no more.
        step = max(1, pixels.shape[1] // _N_LOOKS)
        doubtful = np.flatnonzero((pixels[:, ::step] == pixels[:, :1]).all(axis=(1, 2)))
        some = pixels[doubtful]
        is_blank = (some == some[:, :1]).all(axis=(1, 2))
        blank += (part.start + doubtful[is_blank]).tolist()
    return blank


def _classes_of_equal_images(X: Images, y: np.ndarray) -> list:
    """Return the classes of two images or more that are all the same image."""
    equal = []
    classes, codes = np.unique(y, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    ends = np.bincount(codes, minlength=len(classes)).cumsum()
    for label, rows in zip(classes.tolist(), np.split(order, ends[:-1]), strict=True):
        if len(rows) < 2:
            continue
        first = np.asarray(X[int(rows[0])])
        # Ends with the first that differs.
        if all(np.array_equal(first, X[int(row)]) for row in rows[1:]):
            equal.append(label)
    return equal
