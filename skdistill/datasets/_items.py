"""Images and labels as data sets give them: pictures, tensors, arrays, bytes."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from PIL import Image

from skdistill.curation._decode import decode_picture, unpacked
from skdistill.datasets._modes import look_at, pixels_of, resize_values
from skdistill.utils._image_input import unmasked

_MAX_CHANNELS = 4


class ItemReader:
    """Makes pixels of images one after the other; the first decides what all become.

    Parameters
    ----------
    mode : {"auto", "L", "RGB", "RGBA"}
        What pictures become.
    size : tuple (height, width) or None
        What they are resized to.
    note : callable
        Takes what is guessed or lost, in the plural.
    """

    def __init__(
        self, mode: str, size: tuple[int, int] | None, note: Callable[[str], None]
    ):
        self._mode = mode
        self._size = size
        self._note = note
        # What the first picture was, and so all must be.
        self._chosen: str | None = None

    def pixels(self, image: Any) -> np.ndarray:
        """Return the pixels of an image.

        Parameters
        ----------
        image : PIL.Image.Image, tensor, array-like, bytes or dict with "bytes"
            The image; tensors have their channels first.

        Returns
        -------
        pixels : ndarray of shape (height, width, channels)
            Its pixels.
        """
        if isinstance(image, Mapping) and {"bytes", "path"} & set(image):
            image = _content(image)
        if isinstance(image, (bytes, bytearray)):
            image = decode_picture(unpacked(bytes(image)), deep=True)
        if isinstance(image, Image.Image):
            return pixels_of(image, self._settle(image), self._size, self._note)
        if isinstance(image, str):
            raise ValueError(
                f"the image is a string, {image!r:.80}; to read the files that a "
                "table names, use load_image_folder"
            )
        is_tensor = hasattr(image, "detach")
        array = _as_array(image)
        if self._mode != "auto":
            raise ValueError(
                f"`mode={self._mode!r}` is for Pillow images; the image is "
                f"{'a tensor' if is_tensor else 'an array'} of shape {array.shape}"
            )
        array = self._channels_last(array, is_tensor)
        return resize_values(array, self._size)

    def _settle(self, image: Image.Image) -> str:
        kind = look_at(image).kind
        deep = {"gray of 16 bits": "I;16", "gray of floats": "F"}.get(kind)
        if deep is not None and self._mode != "auto":
            raise ValueError(
                f"`mode={self._mode!r}` is for images of 8 bits; it is {kind}"
            )
        able = deep or {"gray": "L", "color": "RGB"}[kind]
        if self._mode != "auto":
            return self._mode
        if self._chosen is None:
            self._chosen = able
        if able == self._chosen:
            return able
        if able == "L" and self._chosen == "RGB":
            self._note(
                "are gray, but the first is in color: gray images are repeated in "
                "three channels"
            )
            return "RGB"
        cure = "; use `mode='RGB'` or `mode='L'` to convert all images" * (deep is None)
        raise ValueError(
            f"the image is {kind}, of mode {image.mode!r}; the first is converted to "
            f"{self._chosen!r}{cure}"
        )

    def _channels_last(self, array: np.ndarray, is_tensor: bool) -> np.ndarray:
        if array.ndim == 2:
            return array[..., np.newaxis]
        if array.ndim != 3:
            raise ValueError(
                f"an image must have 2 or 3 dimensions; its shape is {array.shape}"
            )
        first, last = (
            axis <= _MAX_CHANNELS for axis in (array.shape[0], array.shape[-1])
        )
        if first == last:
            channels_first = is_tensor
            # Equal sides are those of an image.
            height, width, channels = array.shape
            if (height == width) != (width == channels) and channels_first == (
                height == width
            ):
                self._note(
                    f"are {'tensors' if is_tensor else 'arrays'} whose "
                    f"{'first' if is_tensor else 'last'} axis is treated as the "
                    f"channels, although their shape is {array.shape}"
                )
        else:
            channels_first = first
            if channels_first != is_tensor:
                what = "first" if first else "last"
                self._note(
                    f"are {'tensors' if is_tensor else 'arrays'} whose {what} axis is "
                    f"treated as the channels, because their shape is {array.shape}"
                )
        return np.moveaxis(array, 0, -1) if channels_first else array


def _content(image: Mapping) -> bytes:
    content = image.get("bytes")
    if content is None and image.get("path") is not None:
        with open(image["path"], "rb") as file:
            content = file.read()
    if content is None:
        raise ValueError("it has neither bytes nor a path")
    return content


def _as_array(image: Any) -> np.ndarray:
    if image is None:
        raise ValueError("the image is missing: it is None")
    if hasattr(image, "detach"):
        image = _without_torch(image)
    array = np.asarray(unmasked(image, "the image"))
    if array.dtype.kind not in "buif":
        raise ValueError(
            "an image must be a Pillow image, a tensor or an array of numbers; got "
            f"{type(image).__name__} of {array.dtype}"
        )
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def _without_torch(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    try:
        return tensor.numpy()
    except TypeError:
        # A type that NumPy lacks, such as bfloat16.
        return tensor.float().numpy()


def as_label(label: Any) -> Any:
    """Return the one class that a label is, as Python has it.

    Parameters
    ----------
    label : int, str, bool, or tensor or array of one of them
        The label.

    Raises
    ------
    ValueError
        If it is missing, several, or a number that is not whole.
    """
    if hasattr(label, "detach"):
        label = _without_torch(label)
    label = unmasked(label, "the label", "labels")
    if isinstance(label, (np.ndarray, np.generic)):
        if label.size != 1:
            raise ValueError(
                f"a label must be one class; it has shape {label.shape}. Convert "
                "one-hot rows by label.argmax()"
            )
        label = label.item()
    if isinstance(label, str) and not label:
        raise ValueError("the label is missing: it is ''")
    if isinstance(label, (str, bool, Integral)):
        return label
    if isinstance(label, Real) and float(label).is_integer():
        return int(float(label))
    raise ValueError(f"a label must be a string or an integer; got {label!r:.80}")


def as_names(classes: Any) -> list[str] | None:
    """Return names of classes, None where they do not tell all apart.

    Parameters
    ----------
    classes : sequence of str or of tuples of str
        Names in the order of their numbers; of tuples the synonyms are joined.
    """
    if isinstance(classes, (str, bytes)) or not isinstance(
        classes, (Sequence, np.ndarray)
    ):
        return None
    names = [
        ", ".join(map(str, name)) if isinstance(name, (tuple, list)) else str(name)
        for name in classes
    ]
    return names if names and len(set(names)) == len(names) else None
