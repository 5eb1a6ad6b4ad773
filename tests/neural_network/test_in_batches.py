import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skdistill import ConvNetClassifier, evaluate_synthetic
from skdistill.neural_network import _in_batches
from skdistill.neural_network._any_classifier import flatten_images
from skdistill.neural_network._in_batches import in_batches


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], 20)
    X = rng.normal(size=(60, 4, 4, 1)) + np.repeat([0, 1, 2], 20)[:, None, None, None]
    return X, y


@pytest.fixture
def seen(monkeypatch):
    """Let any set be large, and return the sizes of what a classifier is asked for."""
    monkeypatch.setattr(_in_batches, "_WHOLE_VALUES", 100)
    monkeypatch.setattr(_in_batches, "_BATCH_VALUES", 160)
    sizes = []

    def look(X):
        sizes.append(len(X))
        return flatten_images(X)

    return sizes, look


@pytest.mark.parametrize("scoring", [None, "accuracy", "neg_log_loss", "roc_auc_ovr"])
def test_scores_are_the_same_in_batches(data, seen, scoring):
    X, y = data
    sizes, look = seen
    model = make_pipeline(FunctionTransformer(look), LogisticRegression()).fit(X, y)
    sizes.clear()
    scorer = get_scorer(scoring) if scoring else (lambda one, *pair: one.score(*pair))
    expected = scorer(model, X, y)
    assert sizes == [60]
    sizes.clear()
    assert scorer(in_batches(model, X), X, y) == pytest.approx(expected, abs=1e-12)
    assert set(sizes) == {10}
    sizes.clear()
    found = evaluate_synthetic(
        (X, y), X, y, estimator=model, scoring=scoring, n_repeats=1
    )
    assert found.mean == pytest.approx(expected, abs=1e-6)
    assert set(sizes[1:]) == {10}


def test_what_is_asked_as_it_is(data, seen):
    X, y = data

    class Own(DummyClassifier):
        def score(self, X, y):
            return 7.0

    assert in_batches(Own().fit(X, y), X).score(X, y) == 7.0
    network = ConvNetClassifier()
    assert in_batches(network, X) is network
    small = DummyClassifier()
    assert in_batches(small, X[:3]) is small
