"""Classifiers of any kind, of images and of tables, and how they are given images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skdistill.neural_network._base import BaseNetworkClassifier

# Whose classifiers take tables, a row of pixels for each image.
_OF_TABLES = {"sklearn", "imblearn", "xgboost", "lightgbm", "catboost"}
# What these homes hold is shared by classifiers of tables and of anything.
_OF_ANYTHING = {"sklearn.base", "sklearn.dummy", "sklearn.callback", "sklearn.utils"}


def flatten_images(X: Any) -> np.ndarray:
    """Return images as one row of pixels each."""
    X = np.asarray(X)
    return X.reshape(len(X), -1)


def takes_tables(estimator: Any) -> bool:
    """Tell whether a classifier takes rows of pixels rather than images.

    Those of scikit-learn and of the libraries of gradient boosting do, unless an
    estimator of images is inside.  scikit-learn's tags do not tell images of four axes
    from tables.
    """
    if isinstance(estimator, Pipeline):
        steps = _active(estimator.steps)
        return bool(steps) and takes_tables(steps[0])
    if isinstance(estimator, FunctionTransformer):
        return bool(estimator.validate)
    if any(_home(type(inner)) == "skdistill" for inner in _nested(estimator)):
        return False
    return any(
        _home(kind) in _OF_TABLES
        and ".".join(kind.__module__.split(".")[:2]) not in _OF_ANYTHING
        for kind in type(estimator).__mro__
    )


def _active(steps: list[tuple[str, Any]]) -> list[Any]:
    return [step for _, step in steps if step is not None and step != "passthrough"]


def _home(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _nested(estimator: Any) -> list[Any]:
    """Return an estimator and those inside of it."""
    if not hasattr(estimator, "get_params"):
        return [estimator]
    inner = estimator.get_params(deep=True).values()
    return [estimator, *(one for one in inner if hasattr(one, "get_params"))]


def of_images(estimator: Any) -> Any:
    """Return a classifier that takes images: itself, or behind a step that flattens."""
    if not takes_tables(estimator):
        return estimator
    # Arrays, also where another container of output is configured.
    flatten = FunctionTransformer(flatten_images).set_output(transform="default")
    return make_pipeline(flatten, estimator)


def check_classifier(
    estimator: Any,
    images: np.ndarray | None,
    classes: np.ndarray,
    settings: Sequence[dict[str, Any]],
    name: str = "estimator",
) -> None:
    """Find out what is wrong with a classifier before it is trained.

    Parameters
    ----------
    estimator : estimator instance
        A classifier, or a pipeline that ends with one.
    images : ndarray of shape (n_images, height, width, channels) or None
        A few of those that it is going to be trained on, None if they are flattened.
    classes : ndarray of shape (n_classes,)
        Their class labels, in sorted order.
    settings : sequence of dict
        The parameters that it is going to have, one after the other.
    name : str, default="estimator"
        Of the parameter, for messages.

    Raises
    ------
    ValueError
        If it is none, a parameter is wrong, or a network cannot be built for these
        images and classes.
    """
    kind = _kind(estimator)
    if (
        isinstance(estimator, type)
        or kind not in ("classifier", None)
        or not hasattr(estimator, "fit")
        or not (hasattr(estimator, "predict") or hasattr(estimator, "score"))
        or hasattr(estimator, "fit_resample")
    ):
        what = "a class" if isinstance(estimator, type) else kind or "no classifier"
        raise ValueError(
            f"`{name}` must be a classifier with `fit` and `predict`; got "
            f"{estimator!r}, {what}"
        )
    for setting in settings:
        changed = clone(estimator).set_params(**setting)
        for inner in _nested(changed):
            if hasattr(inner, "_parameter_constraints"):
                inner._validate_params()
        network = _network_of(changed)
        if network is not None and images is not None:
            shape = network.image_shape
            if shape is not None and tuple(shape) != images.shape[1:]:
                raise ValueError(
                    f"`{name}` has `image_shape`={tuple(shape)}, but the images have "
                    f"the shape (height, width, channels) = {images.shape[1:]}"
                )
            network._rehearse(images[:2], classes)


def _kind(estimator: Any) -> str | None:
    try:
        return estimator.__sklearn_tags__().estimator_type
    except (AttributeError, TypeError):
        return None


def _network_of(estimator: Any) -> BaseNetworkClassifier | None:
    """Return a network that is given images of the shape of the set's."""
    if isinstance(estimator, Pipeline):
        # Scalers and whiteners keep the shape of images; of others nobody knows.
        if any(
            type(step).__module__.split(".")[:2] != ["skdistill", "preprocessing"]
            for step in _active(estimator.steps[:-1])
        ):
            return None
        estimator = estimator.steps[-1][1]
    return estimator if isinstance(estimator, BaseNetworkClassifier) else None
