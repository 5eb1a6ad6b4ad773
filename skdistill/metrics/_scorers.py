"""Whether a metric can be computed is found out before networks are trained for it."""

import inspect
import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import check_scoring
from sklearn.utils.metaestimators import available_if

from skdistill.utils._plain import told


def check_scorer(
    estimator: Any, scoring: Any, classes: np.ndarray, y: np.ndarray, names: Any
) -> Any:
    """Return a scorer that was tried on the labels.

    Parameters
    ----------
    estimator : classifier
        What is going to be scored; it need not be fitted.
    scoring : str, callable or None
        As for :func:`~skdistill.metrics.evaluate_synthetic`.
    classes : ndarray of shape (n_classes,)
        Those that it learns.
    y : ndarray of shape (n_samples,)
        The labels of the test images.
    names : tuple (str, str)
        What messages call the metric and the labels.

    Returns
    -------
    scorer : callable

    Raises
    ------
    ValueError
        If the metric cannot be computed of such labels, as one that needs every class
        in them.
    """
    name, name_y = names
    scorer = check_scoring(estimator, scoring)
    if scoring is None:
        return scorer
    if not hasattr(scorer, "_score_func"):
        _check_signature(scorer, name)
        return scorer
    guess = _Guess(estimator, classes, y)
    missing = [label for label in classes.tolist() if label not in set(y.tolist())]
    hint = f".  `{name_y}` has no image of {missing[:10]}" if missing else ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = scorer(guess, np.zeros((len(y), 1)), y)
    except Exception as error:
        reason = str(error).replace(_Guess.__name__, type(estimator).__name__)
        raise ValueError(
            f"`{name}`={scoring!r} cannot be computed for `{name_y}`: {reason}{hint}"
        ) from error
    # Of guesses some metrics are not finite that are so of better answers.
    if np.ndim(value) != 0 or (missing and not np.isfinite(float(value))):
        raise ValueError(
            f"`{name}`={scoring!r} must be one finite number; for `{name_y}` it is "
            f"{told(value)}{hint}"
        )
    return scorer


def _check_signature(scorer: Any, name: str) -> None:
    """Raise a ValueError unless a callable takes what scorers are called with.

    It is not tried: what it does with a classifier nobody knows.
    """
    try:
        inspect.signature(scorer).bind("classifier", "X", "y")
    except TypeError as error:
        raise ValueError(
            f"`{name}` must be called as scorer(classifier, X, y): {error}.  Use "
            "sklearn.metrics.make_scorer to create one from a metric"
        ) from error
    except ValueError:  # a builtin without a signature
        return


def _has(method: str) -> Any:
    return available_if(lambda guess: hasattr(guess.estimator, method))


class _Guess(ClassifierMixin, BaseEstimator):
    """Stands for a fitted classifier: guesses, but has the classes."""

    def __init__(self, estimator: Any, classes: Any, y: Any) -> None:
        self.estimator = estimator
        self.classes = classes
        self.y = y
        self.classes_ = classes

    def fit(self, X: Any, y: Any) -> "_Guess":
        return self

    @_has("predict")
    def predict(self, X: Any) -> np.ndarray:
        """Return each class in turn, known labels where they are."""
        return self.classes[np.arange(len(X)) % len(self.classes)]

    @_has("predict_proba")
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities that rank the images."""
        n_classes = len(self.classes)
        rows = np.arange(len(X))[:, None] + np.arange(n_classes)
        weights = 1.0 + rows % n_classes
        return weights / weights.sum(axis=1, keepdims=True)

    @_has("decision_function")
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logarithms of the probabilities."""
        n_classes = len(self.classes)
        rows = np.arange(len(X))[:, None] + np.arange(n_classes)
        values = np.log(1.0 + rows % n_classes)
        return values[:, 1] - values[:, 0] if n_classes == 2 else values
