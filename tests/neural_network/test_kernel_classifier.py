"""Kernel regression as a classifier."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    DistilledClassifier,
    NeuralKernelClassifier,
    RandomSubset,
    SyntheticSet,
    evaluate_synthetic,
)
from skdistill.neural_network import _kernel_classifier
from skdistill.neural_network._kernels import resolve_kernel


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).reshape(-1, 8, 8, 1).astype(np.float32), y


@pytest.mark.parametrize("kernel", ["ntk", "nngp", "linear"])
def test_is_kernel_ridge(kernel, digits):
    """scikit-learn's regression on the same kernel and ridge."""
    X, y = digits
    rows = X.reshape(len(X), -1).astype(np.float64)
    function = resolve_kernel(kernel, depth=2, weight_variance=2.0, bias_variance=0.1)
    matrix = function(torch.from_numpy(rows[:400])).numpy()
    train, test = matrix[:150, :150], matrix[150:, :150]
    targets = np.eye(10)[y[:150]] - 0.1
    ours = NeuralKernelClassifier(kernel=kernel, depth=2, bias_variance=0.1, reg=1e-3)
    ours.fit(X[:150], y[:150])
    theirs = KernelRidge(alpha=1e-3 * np.trace(train) / 150, kernel="precomputed")
    theirs.fit(train, targets)
    np.testing.assert_allclose(
        ours.decision_function(X[150:400]), theirs.predict(test), atol=1e-9
    )
    np.testing.assert_allclose(ours.dual_coef_, theirs.dual_coef_, rtol=1e-6)


@pytest.mark.parametrize(
    ("factor", "offset", "settings"),
    [
        (1e-5, 0, {}),
        (1, 1e4, {"kernel": "linear"}),
        (1e-20, 0, {"kernel": "nngp", "weight_variance": 1.0}),
    ],
)
def test_pixels_that_a_kernel_does_not_see(digits, factor, offset, settings):
    X, y = digits
    X = factor * X[:50].astype(np.float64) + offset
    classifier = NeuralKernelClassifier(**settings)
    with pytest.warns(UserWarning, match="sees next to nothing.*A ChannelScaler"):
        classifier.fit(X, y[:50])
    classifier.set_params(bias_variance=0.0 if offset == 0 else 0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.fit(X - offset, y[:50])
        NeuralKernelClassifier(kernel=rbf_kernel).fit(X, y[:50])


def test_learns_digits(digits):
    X, y = digits
    classifier = NeuralKernelClassifier().fit(X[:500], y[:500])
    assert classifier.score(X[500:], y[500:]) > 0.93
    assert classifier.score(X[:500], y[:500]) == 1
    # Images and rows, any order of images, any type of pixels.
    rows = X.reshape(len(X), -1)
    flat = NeuralKernelClassifier(image_shape=(8, 8, 1)).fit(rows[:500], y[:500])
    np.testing.assert_array_equal(flat.predict(rows), classifier.predict(X))
    whole = (16 * X).astype(np.uint8)
    scaled = NeuralKernelClassifier(bias_variance=0.01 * 16**2).fit(
        whole[:500], y[:500]
    )
    assert scaled.X_fit_.dtype == np.uint8
    np.testing.assert_allclose(
        scaled.decision_function(whole), classifier.decision_function(X), atol=1e-6
    )
    back = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(
        back.decision_function(X), classifier.decision_function(X)
    )


def test_two_classes(digits):
    X, y = digits
    X, y = X[y < 2], np.array(["zero", "one"])[y[y < 2]]
    classifier = NeuralKernelClassifier().fit(X[:50], y[:50])
    values = classifier.decision_function(X)
    assert values.shape == (len(X),)
    assert classifier.classes_.tolist() == ["one", "zero"]
    np.testing.assert_array_equal(
        classifier.predict(X), classifier.classes_[(values > 0).astype(int)]
    )
    assert classifier.score(X, y) > 0.99
    # Of hard labels the columns mirror each other: the difference is that of +-1.
    targets = np.where(y[:50] == "zero", 1.0, -1.0)
    pair = NeuralKernelClassifier().fit_targets(
        X[:50], np.column_stack([0 * targets, targets]), ["one", "zero"]
    )
    np.testing.assert_allclose(pair.decision_function(X), values, atol=1e-9)


def test_targets_and_probabilities(digits):
    X, y = digits
    hard = NeuralKernelClassifier().fit(X[:100], y[:100])
    one_hot = np.eye(10)[y[:100]]
    soft = clone(hard).fit_probabilities(X[:100], one_hot, range(10))
    targets = clone(hard).fit_targets(X[:100], one_hot - 0.1, np.arange(10))
    for other in (soft, targets):
        np.testing.assert_array_equal(
            other.decision_function(X), hard.decision_function(X)
        )
        assert other.score(X, y) == hard.score(X, y)
    negative = clone(hard).fit_targets(X[:100], -one_hot, range(10))
    assert negative.score(X[:100], y[:100]) == 0


@pytest.mark.parametrize(
    ("values", "classes", "message"),
    [
        (
            np.ones((4, 3)),
            ["a", "b"],
            r"shape \(4, 2\); got shape \(4, 3\)",
        ),
        (
            np.ones((3, 2)),
            ["a", "b"],
            r"shape \(4, 2\); got shape \(3, 2\)",
        ),
        (np.ones((4, 2)), ["b", "a"], "in sorted order"),
        (np.ones((4, 1)), ["a"], "two different labels"),
        (np.ones((4, 2)), ["a", "a"], "two different labels"),
        (np.full((4, 2), np.nan), ["a", "b"], "must be finite"),
        (np.ones(4), ["a", "b"], r"got shape \(4,\)"),
        (np.ma.masked_array(np.ones((4, 2)), np.eye(4, 2)), ["a", "b"], "masked"),
    ],
)
@pytest.mark.parametrize("method", ["fit_targets", "fit_probabilities"])
def test_wrong_targets(method, values, classes, message, digits):
    classifier = NeuralKernelClassifier()
    with pytest.raises(ValueError, match=message):
        getattr(classifier, method)(digits[0][:4], values, classes)


def test_probabilities_are_not_negative(digits):
    with pytest.raises(ValueError, match=r"`probabilities` must be .*non-negative"):
        NeuralKernelClassifier().fit_probabilities(digits[0][:2], -np.eye(2), [0, 1])


def test_one_class(digits):
    with pytest.raises(ValueError, match="at least two classes; got one class, 1"):
        NeuralKernelClassifier().fit(digits[0][:4], [1, 1, 1, 1])


def test_weights(digits):
    X, y = digits
    twice = np.r_[np.arange(60), np.arange(30)]
    weight = np.r_[np.full(30, 2.0), np.ones(30), np.zeros(40)]
    weighted = NeuralKernelClassifier(reg=0.1).fit(X[:100], y[:100], weight)
    repeated = NeuralKernelClassifier(reg=0.1).fit(X[twice], y[twice])
    assert weighted.X_fit_.shape == (60, 64)
    np.testing.assert_allclose(
        weighted.decision_function(X), repeated.decision_function(X), atol=1e-9
    )


@pytest.mark.filterwarnings("ignore:.* images in X have the same value:UserWarning")
@pytest.mark.filterwarnings("ignore:All 2 images of the class:UserWarning")
def test_equal_images_of_different_classes(digits):
    """An image that is there twice is no reason to fail."""
    X, _ = digits
    classifier = NeuralKernelClassifier().fit(X[[0, 0, 1]], [0, 1, 1])
    assert np.isfinite(classifier.decision_function(X)).all()
    assert abs(classifier.decision_function(X[:1])[0]) < 1e-5
    with pytest.raises(ValueError, match="not positive definite"):
        NeuralKernelClassifier(kernel="linear", bias_variance=0).fit(
            np.zeros((3, 2, 2, 1)), [0, 1, 1]
        )


def test_callable_kernels(digits):
    """Those of scikit-learn, and of tensors."""
    X, y = digits

    def gaussian(a, b):
        return (-torch.cdist(a, b).square() / 64).exp()

    found = [
        NeuralKernelClassifier(kernel=kernel, reg=1e-3).fit(X[:100], y[:100])
        for kernel in (lambda a, b: rbf_kernel(a, b), gaussian)
    ]
    np.testing.assert_allclose(
        found[0].decision_function(X), found[1].decision_function(X), atol=1e-6
    )
    with pytest.raises(ValueError, match=r"shape \(100, 100\); got shape \(100,\)"):
        NeuralKernelClassifier(kernel=lambda a, b: a.sum(1)).fit(X[:100], y[:100])


def test_too_many_images(digits, monkeypatch):
    """Said before the machine runs out of memory."""
    monkeypatch.setattr(_kernel_classifier, "_N_MATRICES", 1e15)
    X, y = digits
    with pytest.raises(ValueError, match=r"on 100 images needs about .*RandomSubset"):
        NeuralKernelClassifier(device="cpu").fit(X[:100], y[:100])


def test_no_probabilities(digits):
    """There is no honest one; calibration on other images makes some."""
    X, y = digits
    assert not hasattr(NeuralKernelClassifier(), "predict_proba")
    calibrated = CalibratedClassifierCV(NeuralKernelClassifier(), cv=3)
    calibrated.fit(X[:300], y[:300])
    found = calibrated.predict_proba(X[300:500])
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert calibrated.score(X[300:500], y[300:500]) > 0.8


def test_in_pipelines_and_searches(digits):
    X, y = digits
    model = make_pipeline(
        ChannelScaler(),
        DistilledClassifier(
            RandomSubset(ipc=5, random_state=0), NeuralKernelClassifier()
        ),
    )
    assert cross_val_score(model, X[:600], y[:600], cv=2).min() > 0.7
    search = GridSearchCV(NeuralKernelClassifier(), {"depth": [1, 3]}, cv=2)
    assert search.fit(X[:200], y[:200]).best_score_ > 0.8


def test_scores_distilled_sets(digits):
    X, y = digits
    first = np.array([np.flatnonzero(y == digit)[:3] for digit in range(10)]).ravel()
    found = evaluate_synthetic(
        SyntheticSet(X[first], y[first]),
        X[600:],
        y[600:],
        estimator=NeuralKernelClassifier(),
        n_repeats=2,
        random_state=0,
    )
    assert found.mean > 0.7
    # Nothing in it is random.
    assert found.std == 0
    soft = SyntheticSet(
        X[first], y[first], probabilities=0.9 * np.eye(10)[y[first]] + 0.01
    )
    evaluate_synthetic(soft, X[600:], y[600:], estimator=NeuralKernelClassifier())


def test_of_maps_of_files(digits, tmp_path):
    X, y = digits
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    classifier = NeuralKernelClassifier().fit(mapped[:100], y[:100])
    np.testing.assert_array_equal(
        classifier.predict(mapped),
        NeuralKernelClassifier().fit(X[:100], y[:100]).predict(X),
    )
