"""The inverse of what images were transformed by before they were distilled."""

import math
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator

from skdistill.utils._warnings import without_names


def to_original_pixels(preprocessing: Any, images: np.ndarray) -> np.ndarray:
    """Return images to the unit that they had before a preprocessing.

    Transformers of tables, as scikit-learn has them, get the images flattened.

    Parameters
    ----------
    preprocessing : transformer
        Fitted, with ``inverse_transform``; a pipeline or sequence of such, which may
        be empty.
    images : ndarray of shape (n_images, height, width, channels)

    Returns
    -------
    pixels : ndarray of shape (n_images, height, width, channels)

    Raises
    ------
    ValueError
        If it has no inverse, or none to images of this shape.
    """
    if isinstance(preprocessing, type):
        raise TypeError(
            "`preprocessing` must be a fitted transformer; got the class "
            f"{preprocessing.__name__}"
        )
    steps = steps_of(preprocessing)
    if not steps or not len(images):
        return images
    n_features = math.prod(images.shape[1:])
    flat = any(
        getattr(step, "n_features_in_", None) == n_features
        and getattr(step, "image_shape_", None) != images.shape[1:]
        for step in steps
    )
    whole = [] if isinstance(preprocessing, (list, tuple)) else [preprocessing]
    for step in (*steps, *whole):
        if isinstance(step, type):
            raise ValueError(
                "`preprocessing` must be a fitted transformer; got the class "
                f"{step.__name__}"
            )
        if not hasattr(step, "inverse_transform"):
            raise ValueError(
                "`preprocessing` must have `inverse_transform`, and so must each step "
                f"of a pipeline; {type(step).__name__} has none"
            )
    given = images.reshape(len(images), -1) if flat else images
    with without_names():
        if isinstance(preprocessing, (list, tuple)):
            for step in reversed(steps):
                given = step.inverse_transform(given)
            pixels = np.asarray(given)
        else:
            pixels = np.asarray(preprocessing.inverse_transform(given))
    if pixels.size != images.size or len(pixels) != len(images):
        raise ValueError(
            "`preprocessing` must return images of the shape of its input, "
            f"{images.shape}; got {pixels.shape}"
        )
    return pixels.reshape(images.shape)


def steps_of(preprocessing: Any) -> list[Any]:
    """Return the transformers of a pipeline or sequence, and of those in it."""
    if preprocessing is None:
        return []
    if isinstance(preprocessing, str):
        if preprocessing == "passthrough":
            return []
        raise TypeError(
            "`preprocessing` must be a fitted transformer, or 'passthrough' for none; "
            f"got {preprocessing!r:.100}"
        )
    if isinstance(preprocessing, FrozenEstimator):
        return steps_of(preprocessing.estimator)
    if isinstance(preprocessing, (list, tuple)):
        if len(preprocessing) == 2 and isinstance(preprocessing[0], str):
            # A step with its name, as pipelines have them.
            return steps_of(preprocessing[1])
        return [inner for step in preprocessing for inner in steps_of(step)]
    steps = getattr(preprocessing, "steps", None)
    if steps is None:
        return [preprocessing]
    return [inner for _, step in steps for inner in steps_of(step)]


def names_of(preprocessing: Any) -> str:
    """Return the names of the transformers, in their order."""
    return ", ".join(type(step).__name__ for step in steps_of(preprocessing))
