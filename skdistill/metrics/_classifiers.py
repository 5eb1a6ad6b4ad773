"""Classifiers of any kind, of images and of tables, trained on a distilled set."""

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skdistill.metrics._checks import TrainingSet
from skdistill.neural_network._classifier import BaseNetworkClassifier
from skdistill.synthetic import SyntheticSet
from skdistill.utils._labels import is_already_checked
from skdistill.utils._warnings import warn

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
    # Arrays, whatever container of output is configured.
    flatten = FunctionTransformer(flatten_images).set_output(transform="default")
    return make_pipeline(flatten, estimator)


def fit_on(estimator: Any, X: Any, y: Any, probabilities: Any) -> Any:
    """Fit a classifier, to soft labels if there are any and it can use them."""
    if probabilities is None or not hasattr(estimator, "fit_probabilities"):
        return estimator.fit(X, y)
    return estimator.fit_probabilities(X, probabilities, np.unique(y))


def warn_of_unused_labels(estimator: Any, synthetic: SyntheticSet) -> None:
    """Say so where a classifier is given the classes in place of soft labels."""
    if is_already_checked() or synthetic.probabilities is None:
        return
    if not hasattr(estimator, "fit_probabilities"):
        warn(
            f"{type(estimator).__name__} takes no soft labels: those of the distilled "
            "set are left out, and it is trained on the class of each image alone"
        )


def check_classifier(
    estimator: Any,
    data: TrainingSet,
    settings: list[dict[str, Any]],
    name: str = "estimator",
) -> None:
    """Find out what is wrong with a classifier before it is trained.

    Parameters
    ----------
    estimator : estimator instance
        A classifier, or a pipeline that ends with one.
    data : TrainingSet
        What it is going to be trained on.
    settings : list of dict
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
        if network is not None and not data.flattened:
            network._rehearse(data.synthetic.X[:2], np.unique(data.synthetic.y))


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
