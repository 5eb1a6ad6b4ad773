"""Classifiers that are asked for many images a part at a time."""

import functools
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.metrics import accuracy_score
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from skdistill.neural_network._base import BaseNetworkClassifier
from skdistill.utils._images import batches

# More values would take more than 128 MiB as float64, which many classifiers turn them
# to all at once.
_WHOLE_VALUES = 2**24
_BATCH_VALUES = 2**22


def in_batches(classifier: Any, X: Any) -> Any:
    """Return what a scorer can ask for the predictions of many images.

    Parameters
    ----------
    classifier : estimator instance
        A fitted classifier.
    X : array-like
        What it will be asked for.

    Returns
    -------
    classifier : estimator instance
        The same, unless X is a large array and it would read all of it at once.
    """
    is_large = isinstance(X, np.ndarray) and X.size > _WHOLE_VALUES
    if (
        not is_large
        or isinstance(classifier, BaseNetworkClassifier)
        or not is_classifier(classifier)
    ):
        return classifier
    return _InBatches(classifier)


class _InBatches:
    """A fitted classifier whose answers are put together from those for parts of X."""

    def __init__(self, classifier: Any) -> None:
        self._classifier = classifier

    def __sklearn_tags__(self) -> Any:
        return get_tags(self._classifier)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._classifier, name)
        if name not in ("predict", "predict_proba", "decision_function"):
            return found

        # Scorers look at the name.
        @functools.wraps(found)
        def answer(X: Any) -> np.ndarray:
            parts = [found(X[part]) for part in batches(X, _BATCH_VALUES)]
            return np.concatenate(parts)

        return answer

    def score(self, X: Any, y: Any) -> float:
        last = self._classifier
        while isinstance(last, Pipeline):
            last = last[-1]
        if getattr(type(last), "score", None) is not ClassifierMixin.score:
            # It has its own idea of a score.
            return float(self._classifier.score(X, y))
        return float(accuracy_score(y, self.predict(X)))
