import pickle
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline

import skdistill.metrics._training as module
from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    SyntheticSet,
    evaluate_synthetic,
)
from skdistill.metrics import SyntheticScore
from skdistill.metrics._protocol import LEARNING_RATES
from skdistill.neural_network import TrainingDivergedError


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
    with pytest.warns(UserWarning, match="Recorder does not accept soft labels"):
        evaluate_synthetic(soft, X, y, estimator=Recorder(), n_repeats=1)
    assert Recorder.seen[0][1].tolist() == y.tolist()


# The honest protocol


class Rated(ClassifierMixin, BaseEstimator):
    """Is right as often as its rate says, on validation and on test images."""

    quality = {0.001: 0.2, 0.005: 0.8, 0.01: 0.4, 0.05: 0.9, 0.1: None}
    seen = []

    def __init__(self, learning_rate=0.01, random_state=None):
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X, y):
        if self.quality[self.learning_rate] is None:
            raise TrainingDivergedError("too high")
        self.seen.append((self.learning_rate, self.random_state))
        self.classes_ = np.unique(y)
        return self

    def score(self, X, y):
        # The images say what they are for: at test time another rate is best.
        is_test = bool(X[0, 0, 0, 0] > 0)
        return (1 - self.quality[self.learning_rate]) if is_test else self.rated()

    def rated(self):
        return self.quality[self.learning_rate]

    def predict(self, X):
        raise NotImplementedError


@pytest.fixture
def parts(data):
    X, y, *_ = data
    test, validation = np.ones_like(X), -np.ones_like(X)
    return (X, y), {
        "X_test": test,
        "y_test": y,
        "protocol": "honest",
        "X_validation": validation,
        "y_validation": y,
        "random_state": 0,
    }


def test_rate_is_chosen_on_the_validation_images_alone(parts, monkeypatch):
    synthetic, options = parts
    monkeypatch.setattr(Rated, "seen", [])
    found = evaluate_synthetic(synthetic, estimator=Rated(), n_repeats=3, **options)
    # Best on the validation images, worst on the test images.
    assert found.parameters == {"learning_rate": 0.05}
    assert found.scores == pytest.approx([0.1] * 3)
    assert found.validation["learning_rate"].tolist() == list(LEARNING_RATES)
    assert found.validation["mean_score"].tolist() == [0.2, 0.8, 0.4, 0.9, -np.inf]
    # New networks, and the same ones for each rate.
    tuning = {seed for _, seed in Rated.seen[:4]}
    final = {seed for _, seed in Rated.seen[4:]}
    assert (len(tuning), len(final)) == (1, 3)
    assert not tuning & final


def test_all_sets_are_treated_alike(parts, monkeypatch):
    """A learned step size has no part in it."""
    (X, y), options = parts
    with_rate = SyntheticSet(X, y, step_size=0.5)
    tried = []

    def fit(self, X, y):
        tried.append((self.learning_rate, self.max_iter, self.augmentation))
        return self

    monkeypatch.setattr(ConvNetClassifier, "fit", fit)
    monkeypatch.setattr(ConvNetClassifier, "score", lambda self, X, y: 0.5)
    evaluate_synthetic(with_rate, n_repeats=1, **options)
    with_it, tried[:] = list(tried), []
    evaluate_synthetic((X, y), n_repeats=1, **options)
    assert tried == with_it
    assert [rate for rate, *_ in tried] == [*LEARNING_RATES, LEARNING_RATES[0]]
    assert {tuple(rest) for _, *rest in tried} == {(1000, "dsa")}


def test_paper_takes_the_step_size_and_chooses_nothing(data, network):
    X, y, X_test, y_test = data
    found = evaluate_synthetic((X, y), X_test, y_test, estimator=network, n_repeats=1)
    assert found.parameters == {}
    assert found.validation.empty


def test_grids(parts):
    synthetic, options = parts
    found = evaluate_synthetic(
        synthetic,
        estimator=Rated(),
        param_grid={"learning_rate": [0.01, 0.005]},
        n_validation_repeats=2,
        n_repeats=1,
        **options,
    )
    assert found.parameters == {"learning_rate": 0.005}
    assert len(found.validation) == 2
    # Rates of steps count, too; what has none is trained as it is.
    found = evaluate_synthetic(
        synthetic,
        estimator=make_pipeline("passthrough", Rated()),
        n_repeats=1,
        **options,
    )
    assert found.parameters == {"rated__learning_rate": 0.05}
    constant = DummyClassifier(strategy="constant", constant=1)
    found = evaluate_synthetic(synthetic, estimator=constant, **options)
    assert found.parameters == {}
    assert found.mean == pytest.approx(1 / 3)


def test_honest_needs_validation_images(parts, network):
    synthetic, options = parts
    del options["y_validation"]
    with pytest.raises(ValueError, match="`X_validation` and `y_validation`"):
        evaluate_synthetic(synthetic, **options)
    with pytest.raises(ValueError, match="require `protocol`='honest'; got 'paper'"):
        evaluate_synthetic(synthetic, **{**options, "protocol": "paper"})
    with pytest.raises(ValueError, match="'protocol' parameter"):
        evaluate_synthetic(synthetic, **{**options, "protocol": "best"})


def test_divergence(parts, monkeypatch):
    synthetic, options = parts
    with pytest.raises(ValueError, match=r"diverged with each setting.*`param_grid`"):
        evaluate_synthetic(
            synthetic,
            estimator=Rated(),
            param_grid={"learning_rate": [0.1, 0.1]},
            **options,
        )
    options = {key: options[key] for key in ("X_test", "y_test")}
    with pytest.raises(TrainingDivergedError, match="5 of 5 networks diverged"):
        evaluate_synthetic(synthetic, estimator=Rated(0.1), **options)


def test_a_rate_is_not_chosen_by_a_score_that_is_nan(parts, monkeypatch):
    synthetic, options = parts
    monkeypatch.setattr(Rated, "quality", {**Rated.quality, 0.01: np.nan})
    with pytest.raises(ValueError, match=r"`scoring`=None must be finite.* nan"):
        evaluate_synthetic(synthetic, estimator=Rated(), **options)


def test_scores_are_pickled_with_what_was_chosen(parts):
    synthetic, options = parts
    found = evaluate_synthetic(synthetic, estimator=Rated(), n_repeats=2, **options)
    back = pickle.loads(pickle.dumps(found))
    assert isinstance(back, SyntheticScore)
    assert back.parameters == found.parameters
    assert back.validation.equals(found.validation)
    assert back.mean == found.mean
    assert "SyntheticScore(mean=" in repr(back)


def test_real_networks_choose_a_rate_that_learns(data):
    """Too low a rate learns nothing in so few steps."""
    X, y, X_test, y_test = data
    found = evaluate_synthetic(
        (X_test, y_test),
        X,
        y,
        estimator=ConvNetClassifier(
            width=8, depth=1, max_iter=30, augmentation=None, device="cpu"
        ),
        protocol="honest",
        X_validation=X_test[::2],
        y_validation=y_test[::2],
        n_repeats=2,
        n_jobs=2,
        random_state=0,
    )
    assert found.parameters["learning_rate"] >= 0.01
    assert found.validation["mean_score"].max() > 0.6


# Networks that train at once


@pytest.mark.parametrize("protocol", ["paper", "honest"])
def test_networks_at_once_score_as_one_after_the_other(data, network, protocol):
    X, y, X_test, y_test = data
    options = {"estimator": network, "n_repeats": 3, "random_state": 0}
    if protocol == "honest":
        options |= {
            "protocol": protocol,
            "X_validation": X_test[:20],
            "y_validation": y_test[:20],
            "n_validation_repeats": 2,
        }
    for synthetic in (
        (X, y),
        SyntheticSet(X, y, probabilities=np.full((9, 3), 1 / 3) + np.eye(3)[y] / 2),
    ):
        together, alone = (
            evaluate_synthetic(synthetic, X_test, y_test, at_once=at_once, **options)
            for at_once in (True, False)
        )
        assert together.parameters == alone.parameters
        # A rounding may move an image over the border, at most.
        np.testing.assert_allclose(together.scores, alone.scores, atol=2 / 51)


def test_networks_that_diverge_at_once(data, network):
    X, y, X_test, y_test = data
    network.set_params(learning_rate=1e30)
    with pytest.raises(TrainingDivergedError, match="2 of 2 networks diverged"):
        evaluate_synthetic(
            (X, y), X_test, y_test, estimator=network, n_repeats=2, at_once=True
        )


def test_at_once_is_for_convnets_and_a_gpu(data, network, monkeypatch):
    X, y, X_test, y_test = data
    with pytest.raises(ValueError, match="needs a ConvNetClassifier without batch"):
        evaluate_synthetic(
            (X, y), X_test, y_test, estimator=DummyClassifier(), at_once=True
        )
    called = []
    monkeypatch.setattr(
        module,
        "fit_together",
        lambda classifiers, X, y, p, t: called.append(len(classifiers)) or [False] * 2,
    )
    for kind, n_jobs, expected in [
        ("cpu", None, []),
        ("cuda", 1, []),
        ("cuda", None, [2]),
    ]:
        monkeypatch.setattr(module, "resolve_device", lambda _, k=kind: torch.device(k))
        called.clear()
        with suppress(TrainingDivergedError):
            evaluate_synthetic(
                (X, y), X_test, y_test, estimator=network, n_repeats=2, n_jobs=n_jobs
            )
        assert called == expected


def test_images_of_another_space_are_warned_about(parts):
    (X, y), options = parts
    space = ([0.0, 0.0], [1.0, 1.0], [0.0, 0.0])
    synthetic = SyntheticSet(X, y, pixel_space=space)
    rng = np.random.default_rng(0)
    fine = rng.normal(size=(60, 4, 4, 2))
    labels = np.arange(60) % 3
    constant = DummyClassifier(strategy="constant", constant=1)
    for wrong in ("X_test", "X_validation"):
        images = {"X_test": fine, "X_validation": fine} | {wrong: 100 * fine}
        with pytest.warns(UserWarning, match="a different pixel space") as caught:
            evaluate_synthetic(
                synthetic,
                estimator=constant,
                **{**options, **images, "y_test": labels, "y_validation": labels},
            )
        assert [warning.filename for warning in caught] == [__file__]
