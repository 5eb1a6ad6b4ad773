"""What is trained on a distilled set where the user names no classifier, and how."""

from typing import Any

import numpy as np

from skdistill.neural_network._classifier import ConvNetClassifier


def default_network(
    step_size: float | None = None, **parameters: Any
) -> ConvNetClassifier:
    """Return the network that a set is scored with when the user names none.

    Parameters
    ----------
    step_size : float, default=None
        That of the set, if it has one.
    **parameters : dict
        Of the network.

    Returns
    -------
    network : ConvNetClassifier
    """
    if step_size is not None:
        parameters["learning_rate"] = step_size
    return ConvNetClassifier(max_iter=1000, **parameters)


def fit_on(estimator: Any, X: Any, y: Any, probabilities: Any = None) -> Any:
    """Fit a classifier, to soft labels if there are any and it can use them.

    Parameters
    ----------
    estimator : classifier
    X : array-like
        Images, or rows of pixels.
    y : array-like of shape (n_images,)
        Class labels.
    probabilities : array-like of shape (n_images, n_classes), default=None
        Soft labels.

    Returns
    -------
    estimator : classifier
        The same, fitted.
    """
    if probabilities is None or not hasattr(estimator, "fit_probabilities"):
        return estimator.fit(X, y)
    return estimator.fit_probabilities(X, probabilities, np.unique(y))
