import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import make_scorer
from sklearn.naive_bayes import GaussianNB

from skdistill.metrics import evaluate_synthetic, expected_calibration_error


def test_by_hand():
    # Two images at .9, of which one is right, and one at .6 that is right.
    proba = [[0.9, 0.1], [0.1, 0.9], [0.4, 0.6]]
    found = expected_calibration_error([0, 0, 1], proba, n_bins=10)
    assert found == pytest.approx((abs(1.8 - 1) + abs(0.6 - 1)) / 3)
    # In one bin what is too much in some images makes up for others.
    found = expected_calibration_error([0, 0, 1], proba, n_bins=1)
    assert found == pytest.approx(abs(2.4 - 2) / 3)


def test_perfect_and_worst():
    y = np.array(["a", "b", "c"])
    assert expected_calibration_error(y, np.eye(3)) == 0
    assert expected_calibration_error(y, np.eye(3)[[1, 2, 0]]) == 1


def test_draws_from_the_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1, 1, 1, 1], size=20_000)
    y = (proba.cumsum(axis=1) < rng.uniform(size=(20_000, 1))).sum(axis=1)
    honest = expected_calibration_error(y, proba)
    # A bin of n images is off by about 0.4 / sqrt(n).
    assert honest < 0.02
    sharp = proba**3 / (proba**3).sum(axis=1, keepdims=True)
    assert expected_calibration_error(y, sharp) > honest + 0.1


def test_agrees_with_scikit_learn_on_what_is_right():
    rng = np.random.default_rng(1)
    proba = rng.dirichlet([1, 1, 1], size=500)
    y = rng.integers(3, size=500)
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == y
    fraction, mean = calibration_curve(right, confidence, n_bins=8)
    edges = np.linspace(0, 1, 9)
    counts = np.histogram(confidence, edges)[0]
    expected = (np.abs(fraction - mean) * counts[counts > 0]).sum() / 500
    assert expected_calibration_error(y, proba, n_bins=8) == pytest.approx(expected)


def test_one_axis_is_the_second_class():
    y, proba = [0, 1, 1], np.array([0.2, 0.7, 0.4])
    expected = expected_calibration_error(y, np.column_stack([1 - proba, proba]))
    assert expected_calibration_error(y, proba) == pytest.approx(expected)


def test_wrong_input():
    proba = np.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match="`y_true` has 2: pass all classes as"):
        expected_calibration_error([0, 1], proba)
    assert expected_calibration_error([0, 1], proba, labels=[0, 1, 2]) >= 0
    with pytest.raises(ValueError, match="`labels` 2"):
        expected_calibration_error([0, 1], proba, labels=[0, 1])
    with pytest.raises(ValueError, match="probabilities that sum to 1"):
        expected_calibration_error([0, 1, 2], np.ones((3, 3)))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        expected_calibration_error([0, 1, 2], proba)


class Flat(GaussianNB):
    def fit(self, X, y):
        return super().fit(X.reshape(len(X), -1), y)

    def predict_proba(self, X):
        return super().predict_proba(X.reshape(len(X), -1))

    def predict(self, X):
        return super().predict(X.reshape(len(X), -1))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_of_networks_trained_on_a_set(n_classes):
    rng = np.random.default_rng(2)
    y = np.arange(120) % n_classes
    X = rng.normal(size=(120, 2, 2, 1)) + y[:, None, None, None]
    scorer = make_scorer(expected_calibration_error, response_method="predict_proba")
    found = evaluate_synthetic(
        (X[:30], y[:30]),
        X[30:],
        y[30:],
        estimator=Flat(),
        scoring=scorer,
        n_repeats=2,
    )
    proba = Flat().fit(X[:30].astype(np.float32), y[:30]).predict_proba(X[30:])
    assert found.mean == pytest.approx(expected_calibration_error(y[30:], proba))
    brier = evaluate_synthetic(
        (X[:30], y[:30]),
        X[30:],
        y[30:],
        estimator=Flat(),
        scoring="neg_brier_score",
        n_repeats=1,
    )
    per_class = np.square(proba - np.eye(n_classes)[y[30:]]).sum(axis=1).mean()
    # Of two classes scikit-learn counts one.
    assert -brier.mean == pytest.approx(per_class / (2 if n_classes == 2 else 1))


def test_tables_with_classes_in_another_order_are_refused():
    y = np.array(["a", "b", "c"])
    table = pd.DataFrame(np.eye(3), columns=list("cab"))
    with pytest.raises(ValueError, match=r"columns of `y_proba` must be in the sorted"):
        expected_calibration_error(y, table)
    assert expected_calibration_error(y, table.set_axis(list("abc"), axis=1)) == 0
