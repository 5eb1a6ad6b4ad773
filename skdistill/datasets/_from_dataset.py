"""Images and labels out of the data sets of other libraries."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from sklearn.utils._param_validation import validate_params

from skdistill.datasets._items import as_label, as_names
from skdistill.datasets._stream import CONSTRAINTS, stream
from skdistill.utils._frames import is_polars
from skdistill.utils._ids import plain_name
from skdistill.utils._warnings import warn

_IMAGE_KEYS = ("image", "img", "picture", "pixelvalues", "x", "input", "data")
_LABEL_KEYS = ("label", "labels", "target", "targets", "class", "finelabel", "y")


@validate_params(
    {"dataset": "no_validation", **CONSTRAINTS}, prefer_skip_nested_validation=True
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
    """Collect the images and labels of a PyTorch data set.

    Parameters
    ----------
    dataset : map-style torch.utils.data.Dataset
        An object with a length whose items are pairs `(image, label)`, or dicts with an
        `image` and a `label`.  Images are Pillow images, tensors (channels, height,
        width), or arrays (height, width, channels).  Its transforms are applied; it
        should not have random ones.
    size : int, pair (height, width) or None, default=None
        Size in pixels to which all images are resized by averaging over areas.  None
        keeps their size, which must then be the same.
    mode : {"auto", "L", "RGB", "RGBA"}, default="auto"
        Mode to which Pillow images are converted: gray, color, or color with
        transparency as a fourth channel.  "auto" uses gray if the first is gray, else
        color.
    out : str, path-like or None, default=None
        A `.npy` file to which the images are written if they do not fit into memory;
        the result is a read-only memory map of this file.
    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.
    verbose : int, default=1
        Whether to show a progress bar; 0 is silent.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the following attributes.

        data : ndarray or memmap of shape (n_samples, height, width, channels)
            Images with their own dtype: uint8 for Pillow images, float32 for most
            tensors.
        images : ndarray or memmap of shape (n_samples, height, width, channels)
            The same array.
        target : ndarray of shape (n_samples,)
            The class of each image: its name if the data set, or the data set of which
            it is a subset, has `classes`, else the label.  Labels that a
            `target_transform`, or a data set around another, may have changed are kept
            as they are.
        target_names : list
            The classes, each once, sorted.
    (data, target) : tuple if `return_X_y=True`
        Both as above.

    Raises
    ------
    TypeError
        If `dataset` has no length or no items, such as an IterableDataset or a
        DataLoader.
    ValueError
        If an item is not such a pair, cannot be read, has no label, or has an image
        whose shape, type or kind differs from the first; the message names its
        position.
    OSError
        If `out` cannot be written.

    Warns
    -----
    UserWarning
        If axes were guessed, gray images were converted to color, transparency was
        dropped, or the names of the classes do not, or may not, match the labels.

    See Also
    --------
    from_huggingface : The same for a Hugging Face data set.
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

    names, doubt = _classes_of(dataset)
    found = stream(len(dataset), pair, names, size, mode, out, return_X_y, verbose)
    target = found[1] if return_X_y else found.target
    if doubt and target.dtype.kind == "i":
        warn(f"The labels are kept as numbers, without the names of classes: {doubt}")
    return found


@validate_params(
    {
        "dataset": "no_validation",
        "image_column": [str, None],
        "label_column": [str, None],
        **CONSTRAINTS,
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
    """Collect the images and labels of a Hugging Face data set.

    Parameters
    ----------
    dataset : datasets.Dataset
        A single split with a feature of images and one of labels, in any format.
    image_column : str or None, default=None
        Column with the images.  None uses the only feature of type `Image`, else the
        only array.
    label_column : str or None, default=None
        Column with the labels.  None uses the only feature of type `ClassLabel`, else
        the column named `label` or the like, with a warning.
    size : int, pair (height, width) or None, default=None
        Size in pixels to which all images are resized by averaging over areas.  None
        keeps their size, which must then be the same.
    mode : {"auto", "L", "RGB", "RGBA"}, default="auto"
        Mode to which Pillow images are converted: gray, color, or color with
        transparency as a fourth channel.  "auto" uses gray if the first is gray, else
        color.
    out : str, path-like or None, default=None
        A `.npy` file to which the images are written if they do not fit into memory;
        the result is a read-only memory map of this file.
    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.
    verbose : int, default=1
        Whether to show a progress bar; 0 is silent.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        As :func:`from_torch_dataset` returns it; `target` has the names of the classes
        if the feature is a `ClassLabel`.
    (data, target) : tuple if `return_X_y=True`
        Images and labels.

    Raises
    ------
    TypeError
        If `dataset` is a DatasetDict, a streaming data set, or not a data set.
    ValueError
        If a column is missing or ambiguous, or an item cannot be read, has no label, or
        has an image whose shape, type or kind differs from the first.
    OSError
        If `out` cannot be written.

    See Also
    --------
    from_torch_dataset : The same for a PyTorch data set.
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
            f"`dataset` must be a single split; got a {type(dataset).__name__} with "
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
            raise ValueError("its label is -1, which means that it is missing")
        return row[images], label

    return stream(len(dataset), pair, names, size, mode, out, return_X_y, verbose)


def _check_map_style(dataset: Any) -> None:
    if isinstance(dataset, type):
        raise TypeError(
            f"`dataset` must be a data set; got the class {dataset.__name__}: "
            "pass an instance of it"
        )
    if hasattr(dataset, "batch_size") and hasattr(dataset, "dataset"):
        raise TypeError(
            "`dataset` must return one image and label at a time; got a "
            f"{type(dataset).__name__}: pass its `.dataset`"
        )
    if isinstance(dataset, Mapping):
        raise TypeError(
            f"`dataset` must be a single data set; got a {type(dataset).__name__} "
            f"with {list(dataset)[:10]}: pass one of them"
        )
    if isinstance(dataset, pd.DataFrame) or is_polars(dataset):
        raise TypeError(
            "`dataset` must return a pair (image, label) for each position; got a "
            f"{type(dataset).__name__}: pass list(zip(dataset['image'], "
            "dataset['label'])), or use load_image_folder if it names image files"
        )
    # Where this does not count, `len` says so by a TypeError of its own.
    lacking = [
        name for name in ("__len__", "__getitem__") if not hasattr(dataset, name)
    ]
    try:
        n = 0 if lacking else len(dataset)
    except (TypeError, NotImplementedError):
        n, lacking = 0, ["__len__"]
    torch = sys.modules.get("torch.utils.data")
    # PyTorch's base class only raises an error; an IterableDataset inherits that.
    if torch and getattr(type(dataset), "__getitem__", None) is (
        torch.Dataset.__getitem__
    ):
        lacking = ["__getitem__"]
    if lacking or isinstance(dataset, (str, bytes)):
        raise TypeError(
            "`dataset` must have a length and support indexing, dataset[0]; got "
            f"{type(dataset).__name__}. If it can only be iterated over, pass "
            "list(dataset)"
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
    what, pairs = "", "list(zip(images, labels))"
    if isinstance(item, (tuple, list)):
        what, pairs = (
            f" of {len(item)} elements",
            "[(item[0], item[1]) for item in dataset]",
        )
    raise ValueError(
        f"it must be a pair (image, label); it is a {type(item).__name__}{what}. A "
        f"list of pairs can be passed as well: {pairs}"
    )


def _classes_of(dataset: Any) -> tuple[list[str] | None, str]:
    """Names of the classes of a data set, or of that which it is a part of.

    Where there are names, but labels need not be their numbers, the second says why.
    """
    kind = type(dataset).__name__
    classes = getattr(dataset, "classes", None)
    numbers = getattr(dataset, "class_to_idx", None)
    if isinstance(numbers, Mapping) and sorted(numbers.values()) == list(
        range(len(numbers))
    ):
        # Where they have the same names, the numbers decide on their order.
        ordered = sorted(numbers, key=numbers.__getitem__)
        if classes is None or sorted(map(str, classes)) == sorted(map(str, ordered)):
            classes = ordered
    if classes is not None:
        names = as_names(classes)
        if names is not None and getattr(dataset, "target_transform", None) is not None:
            return None, f"the `target_transform` of the {kind} may have changed them"
        return names, ""
    whole = getattr(dataset, "dataset", None)
    if whole is not None:
        names, doubt = _classes_of(whole)
        # Subsets have places of images, and leave these what they are.
        if names is None or hasattr(dataset, "indices"):
            return names, doubt
        return None, (
            f"the {kind} around a {type(whole).__name__} may have changed them; if it "
            "has not, give it the attribute `classes` of the other"
        )
    parts = getattr(dataset, "datasets", None)
    if not isinstance(parts, (list, tuple)):
        return None, ""
    found = [_classes_of(part) for part in parts]
    named = [names for names, _ in found if names is not None]
    if len(named) > 1 and any(some != named[0] for some in named[1:]):
        other = next(some for some in named if some != named[0])
        raise ValueError(
            "`dataset` has parts with different classes, so that the labels are "
            f"ambiguous: {named[0][:5]} and {other[:5]}. Collect each part separately"
        )
    doubt = next((doubt for _, doubt in found if doubt), "")
    return named[0] if len(named) == len(found) and named else None, doubt


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
            raise ValueError(f"`{parameter}` must name one of them; found {found}")
    found = [name for name in features if plain_name(name) in names]
    if len(found) != 1:
        raise ValueError(
            f"`{parameter}` must name the column; the features are {types}"
        )
    warn(
        f"The column {found[0]!r} is used as the labels because of its name; pass "
        f"`{parameter}={found[0]!r}` to confirm this."
    )
    return found[0]
