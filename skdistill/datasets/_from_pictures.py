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
    """Make one array of pictures of Pillow.

    Parameters
    ----------
    pictures : sequence of PIL.Image.Image
        The pictures, of any modes.
    labels : array-like of shape (n_samples,), default=None
        The class of each.
    size : int, pair (height, width) or None, default=None
        Pixels that all pictures are resized to, by means over areas.  None keeps them
        as they are; they must then be of one size.
    mode : {"auto", "L", "RGB", "RGBA"}, default="auto"
        What they become: gray, in color, or with transparency as a fourth channel.
        "auto" is gray if all are gray, else color.
    out : str, path-like or None, default=None
        A `.npy` file that the images are written to; the result is this file, mapped
        into memory for reading.
    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.
    verbose : int, default=1
        Whether to show a progress bar; 0 is silent.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        As :func:`load_image_folder` returns it, with `data`, `images` and, where there
        are labels, `target` and `target_names`.
    (data, target) : tuple if `return_X_y=True`
        Images and labels; None where there are none.

    Raises
    ------
    TypeError
        If there is anything but pictures of Pillow.
    ValueError
        If there are none, if one cannot be decoded or has another size or kind than
        most, or if there are more or fewer labels.
    OSError
        If `out` cannot be written.

    See Also
    --------
    load_image_folder : The notes there say what is done with modes.

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
        if len(labels) != len(pictures):
            raise ValueError(
                f"`labels` must have one label for each of the {len(pictures)} "
                f"pictures; got {len(labels)}"
            )
        classes = as_classes([as_label(label) for label in labels], None)
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
