"""Images and labels out of the data sets of other libraries."""

import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions, validate_params

from skdistill.datasets._collect import check_out, collect
from skdistill.datasets._image_table import classes_of
from skdistill.datasets._items import ItemReader, as_label, as_names
from skdistill.datasets._modes import (
    MODES,
    check_size,
    look_at,
    pixels_of,
    settle_mode,
)
from skdistill.utils._ids import plain_name
from skdistill.utils._warnings import warn

_IMAGE_KEYS = ("image", "img", "picture", "pixelvalues", "x", "input", "data")
_LABEL_KEYS = ("label", "labels", "target", "targets", "class", "finelabel", "y")
_CONSTRAINTS: dict[str, Any] = {
    "size": [Integral, "array-like", None],
    "mode": [StrOptions(set(MODES))],
    "out": [str, os.PathLike, None],
    "return_X_y": ["boolean"],
    "verbose": ["verbose"],
}


@validate_params(
    {"dataset": "no_validation", **_CONSTRAINTS}, prefer_skip_nested_validation=True
)
def from_torch_dataset(
    dataset: Any,
    *,
    size: int | Sequence[int] | None = None,
    mode: str = "auto",
    out: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    verbose: int = 1,
) -> Any:
    """Collect the images and labels of a data set of PyTorch.

    Parameters
    ----------
    dataset : map-style torch.utils.data.Dataset
        Anything with a length whose items are pairs `(image, label)`, or dicts with an
        `image` and a `label`.  Images are pictures of Pillow, tensors (channels,
        height, width), or arrays (height, width, channels).  Its transforms apply, so
        leave random ones out.
    size : int, pair (height, width) or None, default=None
        Pixels that all images are resized to, by means over areas.  None keeps them
        as they are; they must then be of one size.
    mode : {"auto", "L", "RGB", "RGBA"}, default="auto"
        What pictures become: gray, in color, or with transparency as a fourth
        channel.  "auto" is gray if the first is gray, else color.
    out : str, path-like or None, default=None
        A `.npy` file that the images are written to, for more images than there is
        memory; the result is this file, mapped into memory for reading.
    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.
    verbose : int, default=1
        Whether to show a progress bar; 0 is silent.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the following attributes.

        data : ndarray or memmap of shape (n_samples, height, width, channels)
            Images of the type that they have: uint8 for pictures, float32 for most
            tensors.
        images : ndarray or memmap of shape (n_samples, height, width, channels)
            The same array.
        target : ndarray of shape (n_samples,)
            The class of each image: its name where the data set, or the one that it is
            a part of, has `classes`, else the label as it is.
        target_names : list
            The classes, each once, sorted.
    (data, target) : tuple if `return_X_y=True`
        Both as above.

    Raises
    ------
    TypeError
        If `dataset` has no length or no items, as an IterableDataset or a DataLoader.
    ValueError
        If an item is no such pair, cannot be read, has no label, or an image of
        another shape, type or kind than the first; the message has its position.
    OSError
        If `out` cannot be written.

    Warns
    -----
    UserWarning
        If axes were guessed, gray made color, transparency dropped, or names of
        classes do not fit to the labels.

    See Also
    --------
    from_huggingface : The same for a data set of Hugging Face.
    load_image_folder : Images in a folder for each class, as in ImageFolder.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.datasets import from_torch_dataset
    >>> class Pairs:
    ...     classes = ["smooth", "spiral"]
    ...     def __len__(self):
    ...         return 4
    ...     def __getitem__(self, i):
    ...         return np.full((8, 8, 3), i, dtype=np.uint8), i % 2
    >>> galaxies = from_torch_dataset(Pairs())
    >>> galaxies.data.shape
    (4, 8, 8, 3)
    >>> galaxies.target.tolist()
    ['smooth', 'spiral', 'smooth', 'spiral']
    """
    _check_map_style(dataset)
    if hasattr(dataset, "features") and hasattr(dataset, "column_names"):
        return from_huggingface(
            dataset,
            size=size,
            mode=mode,
            out=out,
            return_X_y=return_X_y,
            verbose=verbose,
        )

    def pair(i: int) -> tuple[Any, Any]:
        return _as_pair(dataset[i])

    return _stream(
        len(dataset), pair, _classes_of(dataset), size, mode, out, return_X_y, verbose
    )


@validate_params(
    {
        "dataset": "no_validation",
        "image_column": [str, None],
        "label_column": [str, None],
        **_CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def from_huggingface(
    dataset: Any,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    size: int | Sequence[int] | None = None,
    mode: str = "auto",
    out: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    verbose: int = 1,
) -> Any:
    """Collect the images and labels of a data set of Hugging Face.

    Parameters
    ----------
    dataset : datasets.Dataset
        One split, with a feature of images and one of labels; in any format.
    image_column : str or None, default=None
        Which column has the images.  None takes the one feature of the type `Image`,
        else of an array.
    label_column : str or None, default=None
        Which column has the labels.  None takes the one feature of the type
        `ClassLabel`, else the one that is called `label` or the like, with a warning.
    size : int, pair (height, width) or None, default=None
        Pixels that all images are resized to, by means over areas.  None keeps them
        as they are; they must then be of one size.
    mode : {"auto", "L", "RGB", "RGBA"}, default="auto"
        What pictures become: gray, in color, or with transparency as a fourth
        channel.  "auto" is gray if the first is gray, else color.
    out : str, path-like or None, default=None
        A `.npy` file that the images are written to, for more images than there is
        memory; the result is this file, mapped into memory for reading.
    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.
    verbose : int, default=1
        Whether to show a progress bar; 0 is silent.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        As :func:`from_torch_dataset` returns it; `target` has the names of the classes
        where the feature is a `ClassLabel`.
    (data, target) : tuple if `return_X_y=True`
        Images and labels.

    Raises
    ------
    TypeError
        If `dataset` is a DatasetDict, a streaming data set, or nothing of the kind.
    ValueError
        If a column is not there or not clear, or an item cannot be read, has no label,
        or an image of another shape, type or kind than the first.
    OSError
        If `out` cannot be written.

    See Also
    --------
    from_torch_dataset : The same for a data set of PyTorch.
    load_image_folder : Images in folders or a table, such as a parquet file of a hub.

    Examples
    --------
    >>> from datasets import load_dataset  # doctest: +SKIP
    >>> from skdistill.datasets import from_huggingface
    >>> mnist = load_dataset("mnist", split="train")  # doctest: +SKIP
    >>> X, y = from_huggingface(mnist, return_X_y=True)  # doctest: +SKIP
    """
    if isinstance(dataset, Mapping):
        raise TypeError(
            f"`dataset` must be one split; got a {type(dataset).__name__} with "
            f"{list(dataset)[:10]}: pass one of them"
        )
    if not hasattr(dataset, "features"):
        raise TypeError(
            "`dataset` must be a data set of Hugging Face, with features; got "
            f"{type(dataset).__name__}"
        )
    _check_map_style(dataset)
    features = dict(dataset.features or {})
    images = _choose_feature(
        features, image_column, "image_column", ("Image",), ("Array2D", "Array3D"), ()
    )
    labels = _choose_feature(
        {name: f for name, f in features.items() if name != images},
        label_column,
        "label_column",
        ("ClassLabel",),
        (),
        _LABEL_KEYS,
    )
    names = as_names(getattr(features[labels], "names", None))
    if hasattr(dataset, "select_columns"):
        # The others need not be decoded.
        dataset = dataset.select_columns([images, labels])

    def pair(i: int) -> tuple[Any, Any]:
        row = dataset[i]
        label = row[labels]
        if names is not None and as_label(label) == -1:
            raise ValueError("its label is -1, which stands for none")
        return row[images], label

    return _stream(len(dataset), pair, names, size, mode, out, return_X_y, verbose)


@validate_params(
    {"pictures": "no_validation", "labels": ["array-like", None], **_CONSTRAINTS},
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
    load_image_folder : The notes there say what becomes of modes.

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
            "`pictures` must be a sequence of pictures of Pillow; got "
            f"{type(pictures).__name__}: give a list"
        )
    pictures = list(pictures)
    if not pictures:
        raise ValueError("`pictures` must have at least one picture; it is empty")
    looks = {}
    for i, picture in enumerate(pictures):
        if not isinstance(picture, Image.Image):
            raise TypeError(
                f"`pictures` must hold pictures of Pillow; pictures[{i}] is a "
                f"{type(picture).__name__}"
            )
        try:
            looks[i] = look_at(picture)
        except ValueError as error:
            raise ValueError(f"{_name(i, 'pictures')}: {error}") from error
    classes = None
    if labels is not None:
        if len(labels) != len(pictures):
            raise ValueError(
                f"`labels` must have one for each of {len(pictures)} pictures; got "
                f"{len(labels)}"
            )
        classes = _as_classes([as_label(label) for label in labels], None)
    chosen, wrong = settle_mode(
        looks, mode, lambda i: _name(i, "pictures"), resized=pair is not None
    )
    if wrong:
        raise ValueError(
            f"{wrong[min(wrong)]} ({len(wrong)} of {len(pictures)} images)"
        )
    notes = _Notes("pictures")

    def read(i: int) -> np.ndarray:
        try:
            return pixels_of(pictures[i], chosen, pair, notes.at(i))
        # Decoders raise whatever a damaged file leads them to.
        except Exception as error:
            raise ValueError(
                f"{_name(i, 'pictures')} cannot be read: {error}"
            ) from error

    first = read(0)
    images, _ = collect(
        len(pictures), read, first.shape, first.dtype, out=target, verbose=verbose
    )
    notes.tell(len(pictures))
    return _result(images, classes, return_X_y)


def _check_map_style(dataset: Any) -> None:
    if isinstance(dataset, type):
        raise TypeError(
            f"`dataset` must be a data set; got the class {dataset.__name__}: make one"
        )
    if hasattr(dataset, "batch_size") and hasattr(dataset, "dataset"):
        raise TypeError(
            "`dataset` must give one image and label at a time; got a "
            f"{type(dataset).__name__}: pass its `.dataset`"
        )
    if isinstance(dataset, Mapping):
        raise TypeError(
            f"`dataset` must be one data set; got a {type(dataset).__name__} with "
            f"{list(dataset)[:10]}: pass one of them"
        )
    # Where this does not count, `len` says so by a TypeError of its own.
    lacking = [
        name for name in ("__len__", "__getitem__") if not hasattr(dataset, name)
    ]
    try:
        n = 0 if lacking else len(dataset)
    except (TypeError, NotImplementedError):
        n, lacking = 0, ["__len__"]
    if lacking or isinstance(dataset, (str, bytes)):
        raise TypeError(
            "`dataset` must have a length and items, dataset[0]; got "
            f"{type(dataset).__name__}. Of what can only be gone through, "
            "list(dataset) has both"
        )
    if not n:
        raise ValueError("`dataset` must have at least one image; it is empty")


def _as_pair(item: Any) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        chosen = []
        for what, keys in (("image", _IMAGE_KEYS), ("label", _LABEL_KEYS)):
            found = [key for key in item if plain_name(key) in keys]
            if len(found) != 1:
                raise ValueError(
                    f"it must have one {what}; it is a dict with {list(item)[:10]}"
                )
            chosen.append(item[found[0]])
        return chosen[0], chosen[1]
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return item[0], item[1]
    what = f"{len(item)} elements" if isinstance(item, (tuple, list)) else ""
    raise ValueError(
        "it must be a pair (image, label); it is a "
        f"{type(item).__name__}{f' of {what}' if what else ''}. A list of pairs is a "
        "data set, too: [(item[0], item[1]) for item in dataset]"
    )


def _classes_of(dataset: Any) -> list[str] | None:
    """Names of the classes of a data set, or of that which it is a part of."""
    classes = getattr(dataset, "classes", None)
    numbers = getattr(dataset, "class_to_idx", None)
    if (
        classes is None
        and isinstance(numbers, Mapping)
        and sorted(numbers.values()) == list(range(len(numbers)))
    ):
        classes = sorted(numbers, key=numbers.__getitem__)
    if classes is not None:
        return as_names(classes)
    whole = getattr(dataset, "dataset", None)
    if whole is not None:
        return _classes_of(whole)
    parts = getattr(dataset, "datasets", None)
    if not isinstance(parts, (list, tuple)):
        return None
    names = [_classes_of(part) for part in parts]
    named = [some for some in names if some is not None]
    if len(named) > 1 and any(some != named[0] for some in named[1:]):
        other = next(some for some in named if some != named[0])
        raise ValueError(
            "`dataset` has parts whose classes differ, so that a label means several: "
            f"{named[0][:5]} and {other[:5]}. Collect each part by itself"
        )
    return named[0] if len(named) == len(names) and named else None


def _choose_feature(
    features: Mapping[str, Any],
    given: str | None,
    parameter: str,
    kinds: tuple[str, ...],
    other_kinds: tuple[str, ...],
    names: tuple[str, ...],
) -> str:
    """Choose a column by the type of its feature, else by its name."""
    types = {name: type(feature).__name__ for name, feature in features.items()}
    if given is not None:
        if given not in features:
            raise ValueError(f"`{parameter}={given!r}` must be one of {list(features)}")
        return given
    for some in (kinds, other_kinds):
        found = [name for name, kind in types.items() if kind in some]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"`{parameter}` must say which; there are {found}")
    found = [name for name in features if plain_name(name) in names]
    if len(found) != 1:
        raise ValueError(
            f"`{parameter}` must say which column it is; the features are {types}"
        )
    warn(
        f"The column {found[0]!r} is taken for the labels, by its name; "
        f"`{parameter}={found[0]!r}` says so."
    )
    return found[0]


def _name(i: int, what: str) -> str:
    return f"{what}[{i}]"


class _Notes:
    """What was guessed or lost in which images."""

    def __init__(self, what: str):
        self._what = what
        self._notes: dict[str, set[int]] = {}

    def at(self, i: int) -> Callable[[str], None]:
        return lambda text: self._notes.setdefault(text, set()).add(i)

    def tell(self, n: int) -> None:
        for text, some in self._notes.items():
            warn(
                f"{len(some)} of {n} images {text}; the first is "
                f"{_name(min(some), self._what)}."
            )


def _stream(
    n: int,
    pair: Callable[[int], tuple[Any, Any]],
    names: list[str] | None,
    size: Any,
    mode: str,
    out: Any,
    return_X_y: bool,
    verbose: int,
) -> Any:
    """Collect pairs of an image and a label."""
    sides = check_size(size)
    target = check_out(out)
    notes = _Notes("dataset")
    place = [0]
    reader = ItemReader(mode, sides, lambda text: notes.at(place[0])(text))
    labels: list[Any] = [None] * n

    def read_pair(i: int) -> np.ndarray:
        place[0] = i
        try:
            image, label = pair(i)
            labels[i] = as_label(label)
            return reader.pixels(image)
        except (MemoryError, ImportError):
            raise
        # Data sets raise whatever a damaged file leads them to.
        except Exception as error:
            text = str(error) or type(error).__name__
            raise ValueError(f"{_name(i, 'dataset')} cannot be read: {text}") from error

    first = read_pair(0)

    def read(i: int) -> np.ndarray:
        # Once each: a data set may be slow.
        pixels = first if i == 0 else read_pair(i)
        if (pixels.shape, pixels.dtype) != (first.shape, first.dtype):
            cure = "" if pixels.shape == first.shape else ". `size` resizes all"
            raise ValueError(
                f"{_name(i, 'dataset')} is an image of shape {pixels.shape} and type "
                f"{pixels.dtype}; the first is of {first.shape} and {first.dtype} "
                f"(height, width, channels){cure}"
            )
        return pixels

    # In this thread alone: few data sets are made for several.
    images, _ = collect(
        n, read, first.shape, first.dtype, out=target, n_jobs=1, verbose=verbose
    )
    notes.tell(n)
    return _result(images, _as_classes(labels, names), return_X_y)


def _as_classes(labels: list[Any], names: list[str] | None) -> np.ndarray:
    """Labels as an array of one type; names in place of their numbers."""
    classes, _ = classes_of(pd.Series(labels, name="label", dtype=object))
    if names is None or classes.dtype.kind != "i":
        return classes
    if classes.min() < 0 or classes.max() >= len(names):
        outside = classes[(classes < 0) | (classes >= len(names))][0]
        warn(
            f"The labels do not fit to the names of the {len(names)} classes: there is "
            f"the label {outside}. They stay numbers."
        )
        return classes
    return np.array(names)[classes]


def _result(images: np.ndarray, classes: np.ndarray | None, return_X_y: bool) -> Any:
    if return_X_y:
        return images, classes
    bunch = Bunch(data=images, images=images)
    if classes is not None:
        bunch.update(target=classes, target_names=np.unique(classes).tolist())
    return bunch
