import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    SyntheticSet,
    evaluate_synthetic,
)
from skdistill.metrics import SyntheticScore


@pytest.fixture(scope="module")
def data():
    """Few images to train on, more to test on, with a little to learn."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = rng.normal(size=(60, 4, 4, 2)).astype(np.float32)
    X[..., 0] += np.eye(3)[y][:, :, None].repeat(4, axis=2)[:, [0, 1, 2, 0]]
    return X[:9], y[:9], X[9:], y[9:]


@pytest.fixture
def network():
    return ConvNetClassifier(width=4, depth=1, max_iter=4, device="cpu")


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps, for all instances, what it was trained with."""

    seen = []

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y):
        self.seen.append((X, y, self.random_state, torch.get_num_threads()))
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        rng = np.random.default_rng(self.random_state)
        return rng.choice(self.classes_, len(X))


def test_mean_and_deviation(data, network):
    X, y, X_test, y_test = data
    result = evaluate_synthetic(
        SyntheticSet(X, y), X_test, y_test, estimator=network, n_repeats=3
    )
    mean, std, scores = result
    assert isinstance(result, SyntheticScore)
    assert (mean, std) == (result.mean, result.std)
    assert scores is result.scores
    assert scores.shape == (3,)
    assert mean == pytest.approx(np.mean(scores))
    assert std == pytest.approx(np.std(scores))
    assert type(mean) is type(std) is float


def test_scores_do_not_depend_on_the_number_of_processes(data, network):
    X, y, X_test, y_test = data
    # The steps' random states count too: a pipeline has none of its own.
    pipeline = make_pipeline(ChannelScaler(), network)
    options = {"estimator": pipeline, "n_repeats": 3, "random_state": 0}
    alone = evaluate_synthetic((X, y), X_test, y_test, **options)
    again = evaluate_synthetic([X, y], X_test, y_test, **options)
    np.testing.assert_array_equal(again.scores, alone.scores)
    two = evaluate_synthetic((X, y), X_test, y_test, n_jobs=2, **options)
    np.testing.assert_array_equal(two.scores, alone.scores)
    assert len(set(alone.scores)) > 1


@pytest.mark.parametrize("wrap", [False, True])
def test_each_network_has_its_own_random_state(data, monkeypatch, wrap):
    X, y, X_test, y_test = data
    estimator = make_pipeline("passthrough", Recorder()) if wrap else Recorder()

    def states(random_state):
        monkeypatch.setattr(Recorder, "seen", [])
        evaluate_synthetic(
            (X, y), X_test, y_test, estimator=estimator, random_state=random_state
        )
        return [state for _, _, state, _ in Recorder.seen]

    first = states(0)
    assert len(set(first)) == len(first) == 5
    assert all(0 <= state < 2**32 for state in first)
    assert states(0) == first
    assert not set(states(1)) & set(first)


def test_trains_on_the_set_with_one_thread(data, monkeypatch):
    X, y, X_test, y_test = data
    monkeypatch.setattr(Recorder, "seen", [])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        evaluate_synthetic(
            (X, y), X_test, y_test, estimator=Recorder(), n_repeats=1, random_state=0
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    [(X_seen, y_seen, _, n_threads)] = Recorder.seen
    np.testing.assert_array_equal(X_seen, X)
    np.testing.assert_array_equal(y_seen, y)
    assert n_threads == 1


def test_scores_are_those_of_the_test_images(data):
    X, y, X_test, _ = data
    constant = DummyClassifier(strategy="constant", constant=1)
    labels = np.r_[np.ones(17, int), np.zeros(34, int)]
    result = evaluate_synthetic((X, y), X_test, labels, estimator=constant)
    assert result.mean == pytest.approx(1 / 3)
    assert result.std == 0


@settings(max_examples=25)
@given(right=st.lists(st.booleans(), min_size=1, max_size=30), more=st.integers(0, 29))
def test_scores_are_bounded_and_rise_with_every_right_answer(data, right, more):
    X, y, X_test, _ = data
    constant = DummyClassifier(strategy="constant", constant=1)

    def score(right):
        labels = np.asarray(right, dtype=int)
        images = X_test[: len(right)]
        return evaluate_synthetic((X, y), images, labels, estimator=constant).mean

    found = score(right)
    assert 0 <= found <= 1
    assert found == pytest.approx(np.mean(right))
    place = more % len(right)
    better = [*right[:place], True, *right[place + 1 :]]
    assert (score(better) > found) == (not right[place])


def test_the_given_estimator_is_not_changed(data, network):
    X, y, X_test, y_test = data
    network.set_params(random_state=5)
    evaluate_synthetic((X, y), X_test, y_test, estimator=network, n_repeats=1)
    assert network.random_state == 5
    assert not hasattr(network, "classes_")


@pytest.mark.parametrize(("step_size", "rate"), [(0.037, 0.037), (None, 0.01)])
def test_default_network_uses_the_step_size(data, monkeypatch, step_size, rate):
    X, y, X_test, y_test = data
    fitted = []

    def fit(self, X, y):
        fitted.append(self)
        self.classes_ = np.unique(y)
        return self

    monkeypatch.setattr(ConvNetClassifier, "fit", fit)
    monkeypatch.setattr(ConvNetClassifier, "score", lambda self, X, y: 0.5)
    distilled = SyntheticSet(X, y, step_size)
    evaluate_synthetic(distilled, X_test, y_test, n_repeats=2)
    assert len(fitted) == 2
    for network in fitted:
        assert network.learning_rate == rate
        assert network.max_iter == 1000
        assert network.width == 128
        assert network.augmentation == "dsa"


def test_parameters_are_validated(data, network):
    X, y, X_test, y_test = data
    for wrong, message in [
        ({"n_repeats": 0}, "'n_repeats' parameter"),
        ({"n_repeats": 2.0}, "'n_repeats' parameter"),
        ({"estimator": "svm"}, "'estimator' parameter"),
        ({"estimator": ConvNetClassifier}, "'estimator' parameter"),
        ({"random_state": -1}, "'random_state' parameter"),
        ({"n_jobs": "all"}, "'n_jobs' parameter"),
    ]:
        with pytest.raises(ValueError, match=f"The {message}"):
            evaluate_synthetic((X, y), X_test, y_test, **wrong)
    with pytest.raises(ValueError, match="The 'synthetic' parameter"):
        evaluate_synthetic("set.safetensors", X_test, y_test)
    with pytest.raises(ValueError, match=r"each of the 9 images; got shape \(8,\)"):
        evaluate_synthetic((X, y[1:]), X_test, y_test)
    with pytest.raises(ValueError, match=r"= \(4, 4, 2\); got \(3, 4, 2\)"):
        evaluate_synthetic((X, y), X_test[:, 1:], y_test, estimator=network)


def test_verbose_shows_a_bar(data, network, capsys):
    X, y, X_test, y_test = data
    options = {"estimator": network, "n_repeats": 2}
    evaluate_synthetic((X, y), X_test, y_test, **options)
    assert capsys.readouterr().err == ""
    evaluate_synthetic((X, y), X_test, y_test, verbose=1, **options)
    assert "evaluation" in capsys.readouterr().err


def test_soft_labels_are_used_where_they_can_be(data, network, monkeypatch):
    X, y, *_ = data
    probabilities = np.eye(3)[(y + 1) % 3]
    soft = SyntheticSet(X, y, probabilities=probabilities)
    network.set_params(max_iter=100, learning_rate=0.05, augmentation=None)
    settings = {"estimator": network, "n_repeats": 2, "random_state": 0}
    # On the very images it was trained on: they name another class.
    assert evaluate_synthetic(soft, X, y, **settings).mean < 0.2
    assert evaluate_synthetic((X, y), X, y, **settings).mean > 0.8
    # One that knows nothing of soft labels is given the classes.
    monkeypatch.setattr(Recorder, "seen", [])
    evaluate_synthetic(soft, X, y, estimator=Recorder(), n_repeats=1)
    assert Recorder.seen[0][1].tolist() == y.tolist()
