"""Images passed by users: arrays, or a message that names the solution.

Every public function that takes images calls one of these before it does anything
else.  What is refused here NumPy would take, and take for something else.
"""

import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from skdistill.utils._axes import check_axis_order, which_axes
from skdistill.utils._warnings import warn_once

_LAYOUT = "4-D (n_samples, height, width, channels)"
# Maximum number of positions in a message.
_MAX_NAMED = 5


def as_images(
    X: Any, name: str = "X", *, shape: Any = None, flattened: bool = True
) -> Any:
    """Return images as an array, a table or a sparse matrix, none of them misread.

    They may have any number of axes: it is for the caller to check what is in them.

    Parameters
    ----------
    X : object
        The images passed by the user.
    name : str, default="X"
        What the parameter is called.
    shape : tuple (height, width, channels), default=None
        That of the images a fitted estimator knows; None in a fit.
    flattened : bool, default=True
        Whether the caller reads flattened images, which messages then say.

    Returns
    -------
    X : ndarray, DataFrame or sparse matrix
        With 4 axes images, else for scikit-learn to validate.

    Raises
    ------
    TypeError
        If X is no array and cannot be made one, as a path or a torch Dataset.
    ValueError
        If X holds something else than images in their order of axes, or has a mask
        that would be lost.
    """
    layout = _LAYOUT + (", or 2-D with `image_shape`" if flattened else "")
    if sparse.issparse(X):
        return X
    _refuse_other_things(X, name)
    X = unmasked(X, name)
    if _is_tensor(X):
        X = _tensor_as_array(X, name)
    if hasattr(X, "columns"):
        _check_columns(X, name)
        return X
    X = _join(list(X), name) if isinstance(X, (list, tuple)) else np.asarray(X)
    if X.dtype == object and X.ndim == 0:
        raise TypeError(
            f"{name} must be an array of images, {layout}; got {type(X.item())!r}"
        )
    if X.dtype.kind in "OUST" and X.ndim == 1 and len(X):
        _refuse_objects(X, name)
    _check_kind(X, name)
    if X.ndim == 4:
        check_axis_order(X.shape, name, shape)
    elif X.ndim > 4:
        raise ValueError(
            f"{name} must be {layout}; got {X.ndim}-D {X.shape}. Join batches by "
            f"{name}.reshape(-1, *{name}.shape[-3:])"
        )
    elif X.ndim == 3:
        raise ValueError(
            f"{name} must be {layout}; got 3-D {X.shape}. "
            + which_axes(X.shape, name, shape)
        )
    elif (
        X.ndim == 2
        and shape is not None
        and X.shape == tuple(shape[:2])
        and X.shape[1] != math.prod(shape)
    ):
        raise ValueError(
            f"{name} must be {layout}; got 2-D {X.shape}, a single image without "
            f"channels, but images must have the shape {tuple(shape)}. For a single "
            f"image with one channel, pass {name}[np.newaxis, :, :, np.newaxis]"
        )
    return X


def some_of(positions: Any) -> str:
    """Name the first of some positions."""
    named = ", ".join(str(int(place)) for place in positions[:_MAX_NAMED])
    return named + (", ..." if len(positions) > _MAX_NAMED else "")


# What is no array.


def _refuse_other_things(X: Any, name: str) -> None:
    if isinstance(X, (str, bytes, os.PathLike)):
        # Where `np.load` finds it.
        path = Path(os.path.expanduser(os.fsdecode(X)))
        how = "use ImageReader().transform([path, ...]) to read image files"
        if path.suffix in (".npy", ".npz"):
            how = f"np.load({str(path)!r}) reads it"
        raise TypeError(f"{name} must hold images; got the path {str(path)!r}: {how}")
    torch = sys.modules.get("torch")
    if torch is not None:
        if isinstance(X, torch.utils.data.TensorDataset):
            raise TypeError(
                f"{name} must hold images; got a torch TensorDataset: pass its "
                "tensors, `X, y = dataset.tensors`"
            )
        if isinstance(X, (torch.utils.data.Dataset, torch.utils.data.DataLoader)):
            loads = isinstance(X, torch.utils.data.DataLoader)
            raise TypeError(
                f"{name} must hold images; got a torch {type(X).__name__}, which holds "
                + ("batches" if loads else "pairs")
                + " of images and labels. Collect them: "
                "`X, y = from_torch_dataset("
                + ("loader.dataset" if loads else "dataset")
                + ", return_X_y=True)`"
            )
    if hasattr(X, "column_names") and hasattr(X, "to_pandas"):
        # Of Arrow, or of Hugging Face, whose columns have features.
        how = f"pass {name}.to_pandas()"
        if hasattr(X, "features"):
            how = "`X, y = from_huggingface(dataset, return_X_y=True)`"
        raise TypeError(
            f"{name} must hold images; got a {type(X).__name__} with the columns "
            f"{list(X.column_names)[:_MAX_NAMED]}: {how}"
        )
    if hasattr(X, "collect_schema") and hasattr(X, "collect"):
        raise TypeError(
            f"{name} must hold images; got a {type(X).__name__}, which holds no values "
            f"yet: pass {name}.collect()"
        )
    if isinstance(X, Mapping):
        keys = ", ".join(repr(key) for key in list(X)[:_MAX_NAMED])
        raise TypeError(
            f"{name} must hold images; got a {type(X).__name__} with the entries "
            f"{keys}: pass one of them"
        )
    if isinstance(X, Iterator):
        raise TypeError(
            f"{name} must hold images; got a {type(X).__name__}, which cannot be "
            f"indexed: pass np.stack(list({name}))"
        )
    if _is_picture(X):
        cure = f"np.asarray({_of_colors('image', X.mode)})[np.newaxis]"
        raise TypeError(
            f"{name} must hold images; got a single Pillow image, of mode {X.mode!r}: "
            f"pass {cure}"
        )
    if hasattr(X, "synthetic_") or type(X).__name__ == "SyntheticSet":
        whose = "synthetic_.X" if hasattr(X, "synthetic_") else "X"
        raise TypeError(
            f"{name} must hold images; got a {type(X).__name__}: pass its `{whose}`"
        )


def _is_picture(thing: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(thing, pillow.Image)


def _of_colors(picture: str, mode: str) -> str:
    return f"{picture}.convert('RGB')" if mode in ("1", "L", "P", "PA") else picture


# Masks.


def unmasked(X: Any, name: str, what: str = "images", fill: str = "0") -> Any:
    """Return what is below a mask that hides nothing; refuse one that hides a value.

    Every public parameter that takes numbers or labels goes through this: what makes
    an array of a masked one drops the mask without a word.
    """
    mask = getattr(X, "mask", None)
    if mask is None or callable(mask) or isinstance(X, type):
        return X
    hidden = np.asarray(mask)
    if hidden.dtype != bool or hidden.shape not in ((), np.shape(X)):
        return X
    if hidden.any():
        filled = f", such as {name}.filled({fill})" if hasattr(X, "filled") else ""
        where = "all"
        if hidden.ndim:
            rows = np.flatnonzero(hidden.reshape(len(hidden), -1).any(axis=1))
            where = f"{len(rows)} of {len(hidden)} {what} (positions {some_of(rows)})"
        raise ValueError(
            f"{name} is masked: {int(hidden.sum())} values in {where}. Masked values "
            f"would be used like any other value: fill them{filled}, or remove these "
            f"{what}"
        )
    return X.data if isinstance(X, np.ma.MaskedArray) else np.asarray(X)


# Tensors.


def _is_tensor(thing: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, torch.Tensor)


def without_torch(X: Any, name: str) -> Any:
    """Return a tensor as an array, and anything else as it is.

    Raises
    ------
    ValueError
        If NumPy cannot read the tensor.
    """
    return _tensor_as_array(X, name) if _is_tensor(X) else X


def _tensor_as_array(X: Any, name: str) -> np.ndarray:
    """Return a tensor as an array; the message has all that it lacks for that."""
    torch = sys.modules["torch"]
    steps = []
    if X.requires_grad:
        steps.append(("has a gradient", ".detach()"))
    if X.layout != torch.strided:
        steps.append((f"has the layout {X.layout}", ".to_dense()"))
    if X.device.type != "cpu":
        steps.append((f"is on the device {X.device}", ".cpu()"))
    if X.dtype == torch.bfloat16 or (X.is_floating_point() and X.element_size() == 1):
        steps.append((f"is of {X.dtype}, which NumPy does not have", ".float()"))
    if steps:
        raise ValueError(
            f"{name} must be an array, or a tensor that NumPy can convert; the "
            "tensor "
            + " and ".join(what for what, _ in steps)
            + f": pass {name}"
            + "".join(call for _, call in steps)
        )
    if X.ndim == 4:
        check_axis_order(tuple(X.shape), name, None, is_tensor=True)
    return X.numpy(force=True)


# Tables, and what is in lists and in arrays of objects.


def _check_columns(X: Any, name: str) -> None:
    """Refuse tables of text or of images, with a message that says what reads them."""
    for column in X.columns:
        values = X[column]
        if getattr(values, "ndim", 1) != 1 or not len(values):
            continue
        # Of strings, of objects, and of types that tables alone have.
        if getattr(values.dtype, "kind", "O") not in "OUT":
            continue
        first = next(iter(values))
        if _is_text(first):
            raise ValueError(
                f"{name} must hold pixels; its column {column!r} holds text, such as "
                f"{str(first)!r}. Use ImageReader to read the images that a table "
                "names"
            )
        if isinstance(first, (bytes, Mapping)):
            what = "image files. Use load_image_folder to read them"
        elif _is_picture(first):
            what = f"Pillow images: pass list({name}[{column!r}])"
        elif _is_tensor(first) or np.ndim(first) > 0:
            what = f"arrays: pass np.stack({name}[{column!r}])"
        else:
            continue
        raise ValueError(
            f"{name} must hold a pixel in each column; its column {column!r} holds "
            f"{what}"
        )


def _is_text(value: Any) -> bool:
    """Tell text from what is a number, or an object that is no text at all."""
    if isinstance(value, os.PathLike):
        return True
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False


def _join(items: list[Any], name: str) -> np.ndarray:
    """Make one array of a list of images, or say what keeps them apart."""
    if items and _is_picture(items[0]):
        items = _pictures_as_arrays(items, name)
    elif items and _is_tensor(items[0]):
        items = [
            _tensor_as_array(item, f"{name}[{place}]") if _is_tensor(item) else item
            for place, item in enumerate(items)
        ]
    elif items and isinstance(items[0], (str, bytes, os.PathLike)):
        _refuse_objects(np.asarray(items, dtype=object), name)
    elif items and any(hasattr(item, "mask") for item in items):
        items = [unmasked(item, f"{name}[{place}]") for place, item in enumerate(items)]
    kinds = {
        item.dtype.kind in "fc"
        for item in items
        if isinstance(item, np.ndarray) and item.ndim > 1
    }
    if len(kinds) > 1:
        named = sorted({item.dtype.name for item in items if hasattr(item, "dtype")})
        warn_once(
            ("types of images", name, *named),
            f"{name} has images of several types, {', '.join(named)}, which become one "
            "type: check that their values are on the same scale, such as 0 to 255 "
            "instead of 0 to 1",
        )
    if any(item is None for item in items):
        missing = [place for place, item in enumerate(items) if item is None]
        raise ValueError(
            f"{name} must hold images; those at positions {some_of(missing)} are None"
        )
    try:
        return np.asarray(items)
    except ValueError:
        pass
    if _is_pair(items[0]):
        raise ValueError(
            f"{name} must hold images; got pairs of images and labels: split them by "
            "`images, labels = zip(*pairs)` and pass `np.stack(images)`"
        )
    try:
        shapes = {np.shape(image) for image in items}
    except ValueError:
        raise ValueError(
            f"{name} must hold images of the same size; got images with rows of "
            "different lengths"
        ) from None
    raise ValueError(
        f"{name} must hold images of the same size; got images of shapes "
        f"{sorted(shapes)[:_MAX_NAMED]}"
    )


# Modes whose numbers mean something else than the brightness of a color.
_OTHER_SPACES = {
    "CMYK": "amounts of ink, which are large where the picture is dark",
    "YCbCr": "differences of colors",
    "LAB": "differences of colors",
    "HSV": "an angle for the color",
}


def _is_pair(item: Any) -> bool:
    return (
        isinstance(item, (list, tuple))
        and len(item) == 2
        and (_is_picture(item[0]) or np.ndim(item[0]) > 1)
        and np.ndim(item[1]) < 2
    )


def _pictures_as_arrays(pictures: list[Any], name: str) -> list[Any]:
    modes = [getattr(picture, "mode", None) for picture in pictures]
    palettes = [place for place, mode in enumerate(modes) if mode in ("P", "PA")]
    cure = "[image.convert('RGB') for image in pictures]"
    if palettes:
        raise ValueError(
            f"{name} has {len(palettes)} images with a palette (mode 'P', positions "
            f"{some_of(palettes)}): their values are indices of colors, not "
            f"brightness. Pass {cure}"
        )
    others = [place for place, mode in enumerate(modes) if mode != modes[0]]
    if others:
        raise ValueError(
            f"{name} must hold images of the same mode; the image at position 0 has "
            f"{modes[0]!r}, those at positions {some_of(others)} have "
            f"{sorted({str(modes[place]) for place in others})}. Pass {cure}"
        )
    if modes[0] in _OTHER_SPACES:
        raise ValueError(
            f"{name} must hold images of brightness values; those of mode "
            f"{modes[0]!r} have {_OTHER_SPACES[modes[0]]}. Pass {cure}"
        )
    if modes[0] in ("LA", "RGBA", "La", "RGBa"):
        warn_once(
            ("alpha", name),
            f"{name} has images of mode {modes[0]!r}: their transparency is treated "
            f"as a channel like the others. To drop it, pass {cure}",
        )
    if modes[0] == "L":
        # Pillow has no axis for one channel, and says so by the mode.
        return [np.asarray(picture)[..., np.newaxis] for picture in pictures]
    return [np.asarray(picture) for picture in pictures]


def _refuse_objects(X: np.ndarray, name: str) -> None:
    """Refuse an array with one axis of things that are no numbers."""
    first = X[0]
    if isinstance(first, (str, os.PathLike)):
        if isinstance(first, str) and not _is_text(first):
            return
        raise ValueError(
            f"{name} must hold images; got text or paths, such as {str(first)!r}: use "
            f"ImageReader().transform({name}) to read image files"
        )
    if isinstance(first, bytes):
        raise ValueError(
            f"{name} must hold images; got bytes, such as {first[:8]!r}: use "
            f"ImageReader().transform({name}) to read the content of image files"
        )
    if _is_picture(first):
        raise ValueError(
            f"{name} must be an array of images; got an array of Pillow images: pass "
            f"list({name}), or np.stack([image.convert('RGB') for image in {name}])"
        )
    missing = [place for place, item in enumerate(X) if item is None]
    if missing:
        raise ValueError(
            f"{name} must hold images; those at positions {some_of(missing)} are None"
        )
    if np.ndim(first) > 0 or _is_tensor(first):
        raise ValueError(
            f"{name} must be one array of images; got an array of objects, each of "
            f"which is an image: pass np.stack({name})"
        )


def _check_kind(X: np.ndarray, name: str) -> None:
    if X.dtype.names is not None:
        raise ValueError(
            f"{name} must hold numbers; got a structured array with the fields "
            f"{list(X.dtype.names)}: pass np.stack([{name}[field] for field in "
            f"{name}.dtype.names], axis=-1)"
        )
    if X.dtype.kind == "c":
        raise ValueError(
            f"Complex data not supported: {name} must hold real numbers, such as "
            f"np.abs({name})"
        )
    if X.dtype.kind in "mM":
        raise ValueError(f"{name} must hold numbers; got dates or times, {X.dtype}")
    # Text that is no number; scikit-learn converts what is one.
    if X.ndim > 1 and X.size and X.dtype.kind in "OUST" and _is_text(X.flat[0]):
        raise ValueError(
            f"{name} must hold pixels; got text, such as {str(X.flat[0])!r}. Use "
            "ImageReader to read the images that a table names"
        )


_DIGITS = re.compile(r"\d+")


def looks_like_pixels(columns: Any) -> bool:
    """Tell whether the names of columns, if there are any, differ by numbers alone."""
    if columns is None:
        return True
    return len({_DIGITS.sub("", str(column)) for column in columns}) == 1
