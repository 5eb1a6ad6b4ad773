"""Fitted preprocessing that a distilled set carries: copied, stored, read, applied.

What is stored may come out of an untrusted file.  No class is imported by a name that
is in it: the table here lists the transformers that can be in it, and each of them
checks its own numbers.
"""

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline, make_pipeline

from skdistill.preprocessing._base import PixelTransformer
from skdistill.preprocessing._scaler import ChannelScaler
from skdistill.preprocessing._whitener import ZCAWhitener
from skdistill.utils._callers import steps_before
from skdistill.utils._images import batches, take
from skdistill.utils._inverse import names_of, steps_of, to_original_pixels
from skdistill.utils._maps import check_map_path, scratch_array, write_map
from skdistill.utils._pixel_space import PixelSpace, pixel_space
from skdistill.utils._pixel_space_checks import (
    differences,
    warn_of_other_pixels,
    warn_of_other_space,
)
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import image_array
from skdistill.utils._warnings import warn

_TRANSFORMERS: dict[str, type[PixelTransformer]] = {
    "ChannelScaler": ChannelScaler,
    "ZCAWhitener": ZCAWhitener,
}
# The part of a file that is tensor "mean" of its first step is "preprocessing.0.mean".
PREFIX = "preprocessing."


def carried(preprocessing: Any, image_shape: tuple[int, ...]) -> Pipeline | None:
    """Return a preprocessing as a set carries it: a copy, in the precision of files.

    Parameters
    ----------
    preprocessing : transformer or None
        A fitted :class:`ChannelScaler` or :class:`ZCAWhitener`, or a pipeline or
        sequence of these.
    image_shape : tuple (height, width, channels)
        Of the images of the set.

    Returns
    -------
    preprocessing : Pipeline or None
        None of one without steps.

    Raises
    ------
    TypeError, ValueError
        If a set cannot carry it; the message names the step.
    """
    found = unpacked(*packed(preprocessing))
    for step in steps_of(found):
        if step.n_features_in_ != math.prod(image_shape):
            raise ValueError(
                "`preprocessing` of a set must be fitted on images of the same shape, "
                f"{_words(image_shape)}; its {type(step).__name__} was fitted on "
                f"images of {_words(step.image_shape_)}"
            )
    return found


def carried_in(estimator: Any, image_shape: tuple[int, ...]) -> Pipeline | None:
    """Return what comes before an estimator in the pipelines that are fitting it.

    Parameters
    ----------
    estimator : estimator instance
        In its ``fit``.
    image_shape
        As of :func:`carried`.

    Returns
    -------
    preprocessing : Pipeline or None
        None, too, where there is a step that a set cannot carry.
    """
    try:
        # Samplers choose or repeat images, which are what they were.
        steps = [s for s in steps_before(estimator) if not hasattr(s, "fit_resample")]
        return carried(steps, image_shape)
    except (TypeError, ValueError):
        return None


def packed(
    preprocessing: Any,
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Return what a file holds of a preprocessing: entries for JSON, and tensors.

    Raises
    ------
    TypeError, ValueError
        If it is another one than a set can carry.
    """
    entries, tensors = [], {}
    for place, step in enumerate(steps_of(preprocessing)):
        name = type(step).__name__
        # Of a subclass nobody knows what it does.
        if _TRANSFORMERS.get(name) is not type(step):
            what = f"the class {step.__name__}" if isinstance(step, type) else name
            if hasattr(step, "predict") and not isinstance(step, type):
                raise TypeError(
                    f"`preprocessing` of a set must not include a model; got {what}: "
                    "of a pipeline, pass `model[:-1]`"
                )
            raise TypeError(
                "`preprocessing` of a set must be fitted transformers of "
                f"skdistill.preprocessing, {' or '.join(_TRANSFORMERS)}, or a "
                f"pipeline of these; got {what}.  Distill images that were "
                "transformed by one of these, or store the other transformer in a "
                "separate file and leave `preprocessing` out"
            )
        try:
            entry, found = step._packed()
        except AttributeError:
            raise ValueError(
                f"`preprocessing` must be fitted; {name} is not: fit it on the real "
                "images"
            ) from None
        entries.append({"name": name, **entry})
        tensors.update({f"{PREFIX}{place}.{key}": v for key, v in found.items()})
    return entries, tensors


def unpacked(entries: Any, tensors: Mapping[str, np.ndarray]) -> Pipeline | None:
    """Return the preprocessing that :func:`packed` has made something of.

    Parameters
    ----------
    entries : object
        What should be the entries.
    tensors : dict of str to ndarray

    Raises
    ------
    ValueError
        If they are anything else.
    """
    if not isinstance(entries, list):
        raise ValueError("its preprocessing is not a list of transformers")
    steps = []
    left = dict(tensors)
    for place, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name not in _TRANSFORMERS:
            raise ValueError(
                f"step {place} of its preprocessing must be one of "
                f"{', '.join(_TRANSFORMERS)}; got {name!r:.100}"
            )
        prefix = f"{PREFIX}{place}."
        own = {
            key.removeprefix(prefix): left.pop(key)
            for key in list(left)
            if key.startswith(prefix)
        }
        numbers = {key: value for key, value in entry.items() if key != "name"}
        try:
            step = _TRANSFORMERS[name]._unpacked(numbers, own)
        except ValueError as error:
            raise ValueError(
                f"step {place} of the preprocessing, {name}: {error}"
            ) from error
        steps.append(step)
    if left:
        raise ValueError(f"it has an unknown part {min(left)!r}")
    return make_pipeline(*steps) if steps else None


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two sets carry the same preprocessing."""
    (entries, tensors), (entries_2, tensors_2) = packed(one), packed(other)
    return entries == entries_2 and all(
        np.array_equal(tensor, tensors_2[name]) for name, tensor in tensors.items()
    )


def warn_of_other_result(
    preprocessing: Pipeline | None, space: PixelSpace | None, X: np.ndarray
) -> None:
    """Warn if it is not what the real images of a distilled set were transformed by.

    Parameters
    ----------
    preprocessing : Pipeline or None
        As of :func:`carried`.
    space : PixelSpace or None
        Of the images that were distilled, None if it is not known.
    X : ndarray of shape (n_images, height, width, channels)
        The distilled images.
    """
    if preprocessing is None or not len(X):
        return
    last = preprocessing[-1]
    if last.image_shape_ != X.shape[1:]:
        return
    # Distilled images are less like the real ones than those are like each other.
    slack = 1.0 if space is not None else 2.0
    space = pixel_space(X) if space is None else space
    mean, deviation = last._made()
    made = PixelSpace(mean, deviation, space.correlation)
    found = differences(made, space, slack)
    if found:
        warn(
            "`preprocessing` does not seem to contain all steps by which the "
            "distilled images were transformed: "
            + "; ".join(found)
            .replace(" there", " of what it makes")
            .replace(" here", " of the set")
        )


class RawImages(TransformerMixin, BaseEstimator):
    """The first step of a classifier of raw images: what a set carries, and a check.

    No fit changes it, and clones are it.

    Parameters
    ----------
    synthetic : SyntheticSet
        One without ``preprocessing`` leaves images as they are.
    """

    def __init__(self, synthetic: Any) -> None:
        self.synthetic = synthetic

    def __sklearn_clone__(self) -> "RawImages":
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any = None) -> "RawImages":
        """Do nothing."""
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Transform raw images; many of them into a temporary file."""
        return self.apply(X, scratch=True)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return transformed images to the unit they had."""
        images = image_array(X, shape=self.synthetic.X.shape[1:])
        return to_original_pixels(self.synthetic.preprocessing, images)

    @with_own_torch_state
    def apply(
        self,
        X: Any,
        out: str | os.PathLike[str] | None = None,
        *,
        scratch: bool = False,
    ) -> np.ndarray:
        """Transform raw images, and warn where they are unlike those of the fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Raw images.
        out : path-like, default=None
            A `.npy` file for the result.
        scratch : bool, default=False
            Whether a large result may be in a temporary file.

        Returns
        -------
        X_transformed : ndarray or memmap of shape \
                (n_samples, height, width, channels), float32
        """
        if out is not None:
            check_map_path(out, "out")
        images = image_array(X, shape=self.synthetic.X.shape[1:])
        steps = steps_of(self.synthetic.preprocessing)
        if not steps:
            warn_of_other_pixels(self.synthetic, images)
            return images
        self._check(steps, images)
        parts = _parts(steps, images)
        if out is not None:
            return write_map(out, images.shape, np.float32, parts)
        make = scratch_array if scratch else np.empty
        result = make(images.shape, np.float32)
        place = 0
        for part in parts:
            result[place : place + len(part)] = part
            place += len(part)
        return result

    def _check(self, steps: list[Any], images: np.ndarray) -> None:
        """Compare images with those that the first step was fitted to.

        Behind a whitener those of another unit may look like any other.
        """
        first, space = steps[0], self.synthetic.pixel_space
        mean, deviation = first._given()
        # A scaler leaves it as it is.
        keeps = space is not None and all(isinstance(s, ChannelScaler) for s in steps)
        keeps = keeps and first.image_shape_ == self.synthetic.X.shape[1:]
        unit = ""
        if isinstance(first, ChannelScaler):
            low, high = first.data_min_.min(), first.data_max_.max()
            unit = f", with pixels from {low:.4g} to {high:.4g}"
        warn_of_other_space(
            PixelSpace(mean, deviation, space.correlation if keeps else mean),
            images.reshape(-1, *first.image_shape_),
            may_be_noise=not keeps,
            remedy=(
                "Pass raw images as `X`, not transformed by the preprocessing "
                f"of the set, {names_of(steps)}{unit}"
            ),
        )


def _parts(steps: list[Any], images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield transformed images, bitwise identical to the steps one after the other."""
    for part in batches(images):
        changed = take(images, part)
        for place, step in enumerate(steps):
            # Of the raw images nothing is rounded before their mean is subtracted.
            batch = np.array(images[part] if not place else changed, np.float64)
            batch = batch.reshape(len(batch), *step.image_shape_)
            changed = step._forward(batch).astype(np.float32)
        yield changed.reshape(-1, *images.shape[1:])


def _words(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
