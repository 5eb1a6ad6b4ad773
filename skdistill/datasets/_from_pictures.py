"""Lists of pictures of Pillow."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from sklearn.utils._param_validation import validate_params

from skdistill.datasets._collect import check_out, collect
from skdistill.datasets._items import as_label
from skdistill.datasets._modes import check_size, look_at, pixels_of, settle_mode
from skdistill.datasets._stream import (
    CONSTRAINTS,
    Notes,
    as_classes,
    as_result,
    name_of,
)
from skdistill.utils._image_input import unmasked
from skdistill.utils._labels import check_sequence


@validate_params(
    {"pictures": "no_validation", "labels": ["array-like", None], **CONSTRAINTS},
    prefer_skip_nested_validation=True,
)
def from_pil_images(
    pictures: Any,
    labels: Any = None,
    *,
    size: int | Sequence[int] | None = None,
    mode: str = "auto",
    out: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    verbose: int = 1,
) -> Any:
    """Convert Pillow images to one array.

    Parameters
    ----------
    pictures : sequence of PIL.Image.Image
        The images, of any mode.
    labels : array-like of shape (n_samples,), default=None
        The class of each image.
    size : int, pair (height, width) or None, default=None
        Size in pixels to which all images are resized by averaging over areas.  None
        keeps their size, which must then be the same.
    mode : {"auto", "L", "RGB", "RGBA"}, default="auto"
        Mode to which images are converted: gray, color, or color with transparency as a
        fourth channel.  "auto" uses gray if all are gray, else color.
    out : str, path-like or None, default=None
        A `.npy` file to which the images are written; the result is a read-only memory
        map of this file.
    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.
    verbose : int, default=1
        Whether to show a progress bar; 0 is silent.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        As :func:`load_image_folder` returns it, with `data`, `images` and, if there are
        labels, `target` and `target_names`.
    (data, target) : tuple if `return_X_y=True`
        Images and labels, or None without labels.

    Raises
    ------
    TypeError
        If an element is not a Pillow image, or the labels have no order.
    ValueError
        If there are no images, if one cannot be decoded or differs in size or kind from
        most, or if the number of labels differs.
    OSError
        If `out` cannot be written.

    See Also
    --------
    load_image_folder : Its notes explain the conversion of modes.

    Examples
    --------
    >>> from PIL import Image
    >>> from skdistill.datasets import from_pil_images
    >>> pictures = [Image.new("L", (8, 6), color=i) for i in range(4)]
    >>> X, y = from_pil_images(pictures, ["a", "b", "a", "b"], return_X_y=True)
    >>> X.shape
    (4, 6, 8, 1)
    """
    pair = check_size(size)
    target = check_out(out)
    if isinstance(pictures, Image.Image) or not hasattr(pictures, "__len__"):
        raise TypeError(
            "`pictures` must be a sequence of Pillow images; got "
            f"{type(pictures).__name__}: pass a list"
        )
    pictures = list(pictures)
    if not pictures:
        raise ValueError("`pictures` must have at least one image; it is empty")
    looks = {}
    for i, picture in enumerate(pictures):
        if not isinstance(picture, Image.Image):
            raise TypeError(
                f"`pictures` must hold Pillow images; pictures[{i}] is a "
                f"{type(picture).__name__}"
            )
        try:
            looks[i] = look_at(picture)
        except ValueError as error:
            raise ValueError(f"{name_of(i, 'pictures')}: {error}") from error
    classes = None
    if labels is not None:
        check_sequence(labels, "labels")
        if len(labels) != len(pictures):
            raise ValueError(
                f"`labels` must have one label for each of the {len(pictures)} "
                f"pictures; got {len(labels)}"
            )
        if hasattr(labels, "columns"):
            # Of a table rows are labels, where a loop has the names of its columns.
            labels = np.asarray(labels)
        labels = unmasked(labels, "labels", "labels")
        known = []
        for i, label in enumerate(labels):
            try:
                known.append(as_label(label))
            except ValueError as error:
                raise ValueError(f"{name_of(i, 'labels')}: {error}") from error
        classes = as_classes(known, None)
    chosen, wrong = settle_mode(
        looks, mode, lambda i: name_of(i, "pictures"), resized=pair is not None
    )
    if wrong:
        raise ValueError(
            f"{wrong[min(wrong)]} ({len(wrong)} of {len(pictures)} images)"
        )
    notes = Notes("pictures")

    def read(i: int) -> np.ndarray:
        try:
            return pixels_of(pictures[i], chosen, pair, notes.at(i))
        # Decoders raise any kind of error for a damaged file.
        except Exception as error:
            raise ValueError(
                f"{name_of(i, 'pictures')} cannot be read: {error}"
            ) from error

    first = read(0)
    images, _ = collect(
        len(pictures), read, first.shape, first.dtype, out=target, verbose=verbose
    )
    notes.tell(len(pictures))
    return as_result(images, classes, return_X_y)
