"""What evaluate_synthetic compares a set with in the same call."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from skdistill import (
    ConvNetClassifier,
    FullData,
    Herding,
    NeuralKernelClassifier,
    RandomSubset,
    SyntheticSet,
    evaluate_synthetic,
)
from skdistill.metrics import compare_scores
from skdistill.metrics._baseline import default_of_baseline
from skdistill.metrics._protocol import TrainingSet
from skdistill.neural_network._default import describe_network

NETWORK = ConvNetClassifier(width=4, depth=1, max_iter=3, device="cpu")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.array(["round", "edge", "spiral"])[np.arange(90) % 3]
    X = rng.normal(size=(90, 6, 6, 1)).astype(np.float32)
    X = (X + np.roll(X, 1, axis=2)) / 2
    return X[:45], y[:45], X[45:], y[45:]


@pytest.fixture(scope="module")
def distilled(data):
    """A set with another number of images of each class."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(6, 6, 6, 1)).astype(np.float32)
    return SyntheticSet(X, np.array(["spiral", "edge", "edge", "round"] + ["edge"] * 2))


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps, for all instances, what it was trained with."""

    seen = []

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y):
        self.seen.append((X, np.asarray(y), self.random_state))
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        rng = np.random.default_rng(self.random_state)
        return rng.choice(self.classes_, len(X))


def evaluate(distilled, data, **options):
    X, y, X_test, y_test = data
    if not isinstance(options["baseline"], SyntheticSet):
        options = {"X_train": X, "y_train": y, **options}
    options = {"estimator": NETWORK, "n_repeats": 3, "random_state": 0, **options}
    return evaluate_synthetic(distilled, X_test, y_test, **options)


def test_random_images_are_as_many_and_new_for_each_network(
    data, distilled, monkeypatch
):
    monkeypatch.setattr(Recorder, "seen", [])
    evaluate(distilled, data, baseline="random", estimator=Recorder())
    own, drawn = Recorder.seen[:3], Recorder.seen[3:]
    assert len(drawn) == 3
    X, y, _, _ = data
    rows = []
    for images, labels, _ in drawn:
        np.testing.assert_array_equal(labels, distilled.y)
        found = [np.flatnonzero((image == X).all(axis=(1, 2, 3))) for image in images]
        rows.append(np.concatenate(found))
        assert len(set(rows[-1].tolist())) == len(images)
        np.testing.assert_array_equal(y[rows[-1]], labels)
    assert len({tuple(row) for row in rows}) == 3
    # Each network of the baseline is the pair of one of the set.
    assert [state for *_, state in own] == [state for *_, state in drawn]


def test_difference_is_that_of_pairs(data, distilled):
    plain = evaluate_synthetic(
        distilled, *data[2:], estimator=NETWORK, n_repeats=3, random_state=0
    )
    assert plain.baseline is plain.difference is None
    assert "baseline" not in repr(plain)
    found = evaluate(distilled, data, baseline="random")
    # The score itself is what it is without.
    np.testing.assert_array_equal(found.scores, plain.scores)
    expected = compare_scores(found.scores, found.baseline.scores, paired=True)
    assert found.difference == expected
    mean, _, _ = found
    assert mean == found.mean
    assert f"baseline={found.baseline.mean}" in repr(found)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.baseline.scores, found.baseline.scores)
    same = evaluate(distilled, data, baseline="random", at_once=True)
    np.testing.assert_allclose(same.baseline.scores, found.baseline.scores, atol=0.03)


def test_distillers_and_sets_are_baselines(data, distilled, monkeypatch):
    X, y, _, _ = data
    monkeypatch.setattr(Recorder, "seen", [])
    evaluate(distilled, data, baseline=RandomSubset(ipc=2), estimator=Recorder())
    drawn = [tuple(images.ravel()) for images, _, _ in Recorder.seen[3:]]
    assert len(set(drawn)) == 3
    assert {len(images) for images, _, _ in Recorder.seen[3:]} == {6}
    alone = evaluate_synthetic(
        Herding().fit(X, y).synthetic_,
        *data[2:],
        estimator=NETWORK,
        n_repeats=3,
        random_state=0,
    )
    for baseline in (Herding(), Herding().fit(X, y).synthetic_):
        found = evaluate(distilled, data, baseline=baseline)
        np.testing.assert_array_equal(found.baseline.scores, alone.scores)
    # All images are the same ones each time.
    fits = []
    fit = FullData.fit
    monkeypatch.setattr(
        FullData, "fit", lambda self, X, y: fits.append(1) or fit(self, X, y)
    )
    evaluate(distilled, data, baseline=FullData())
    assert len(fits) == 1


def test_each_gets_the_rate_that_suits_it(data, distilled):
    X, y, _, _ = data
    found = evaluate(
        distilled,
        data,
        baseline="random",
        protocol="honest",
        X_train=X[15:],
        y_train=y[15:],
        X_validation=X[:15],
        y_validation=y[:15],
        param_grid={"learning_rate": [1e-3, 1e-2]},
        n_repeats=1,
    )
    assert len(found.baseline.validation) == 2
    assert found.difference.low == -np.inf


def test_step_size_and_targets_are_the_sets_own(data, distilled):
    X, y, _, _ = data
    random = TrainingSet(RandomSubset().fit(X, y).synthetic_, False)
    own = SyntheticSet(
        distilled.X,
        distilled.y,
        0.3,
        metadata=describe_network(width=16),
        targets=np.eye(3)[[2, 0, 0, 1, 0, 0]],
    )
    network = TrainingSet(own, False).default_estimator()
    assert (network.width, network.learning_rate) == (16, 0.3)
    assert network.loss == "squared"
    other = default_of_baseline(random, TrainingSet(own, False))
    assert (other.width, other.max_iter) == (16, network.max_iter)
    plain = ConvNetClassifier()
    assert (other.learning_rate, other.loss) == (plain.learning_rate, plain.loss)
    kernel = SyntheticSet(
        distilled.X, distilled.y, metadata={"default_estimator": {
            "name": "NeuralKernelClassifier", "depth": 2}}
    )  # fmt: skip
    other = default_of_baseline(random, TrainingSet(kernel, False))
    assert isinstance(other, NeuralKernelClassifier)
    assert other.depth == 2


@pytest.mark.parametrize("baseline", ["random", RandomSubset()])
def test_flattened_pairs(data, baseline):
    X, y, X_test, y_test = data
    flat = X.reshape(45, -1)
    network = ConvNetClassifier(
        width=4, depth=1, max_iter=2, image_shape=(6, 6, 1), device="cpu"
    )
    found = evaluate_synthetic(
        (flat[:6], y[:6]),
        X_test.reshape(45, -1),
        y_test,
        estimator=network,
        baseline=baseline,
        X_train=flat,
        y_train=y,
        n_repeats=2,
    )
    assert found.baseline.scores.shape == (2,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"X_train": None}, "requires `X_train` and `y_train`, the real"),
        ({"y_train": None}, "requires `X_train` and `y_train`, the real"),
        ({"baseline": None}, "`X_train` and `y_train` are only used if"),
        ({"baseline": "herding"}, "'baseline'"),
        ({"baseline": NETWORK}, "'baseline'"),
        (
            {"baseline": RandomSubset},
            r"`baseline` must be a distiller.*RandomSubset\(\)",
        ),
        ({"baseline": RandomSubset(ipc=0)}, "`baseline`: .*'ipc'"),
        ({"baseline": RandomSubset(ipc=16)}, "`ipc`=16"),
        ({"y_train": ["round", "edge", "merger"] * 15}, "`y_train` must hold.*merger"),
        (
            {"y_train": ["round"] * 43 + ["edge", "spiral"]},
            "4 of class 'edge', but .* has 1",
        ),
        (
            {"y_train": ["round"] * 44},
            "`X_train` and `y_train` must have the same length",
        ),
        ({"X_train": np.zeros((45, 5, 6, 1))}, "X_train must hold images of shape"),
    ],
)
def test_what_cannot_be_a_baseline(data, distilled, options, message, monkeypatch):
    monkeypatch.setattr(Recorder, "seen", [])
    options = {"baseline": "random", "estimator": Recorder(), **options}
    with pytest.raises(ValueError, match=message):
        evaluate(distilled, data, **options)
    assert not Recorder.seen


def test_sets_of_another_kind(data, distilled):
    X, y, _, _ = data
    with pytest.raises(ValueError, match="images of the same shape"):
        evaluate(distilled, data, baseline=SyntheticSet(np.zeros((3, 5, 5, 1)), y[:3]))
    with pytest.raises(ValueError, match="the classes of the set"):
        evaluate(distilled, data, baseline=SyntheticSet(X[:2], y[:2]))
    with pytest.raises(ValueError, match="`X_train` and `y_train` are only used if"):
        evaluate_synthetic(
            distilled, *data[2:], baseline=distilled, X_train=X, y_train=y
        )


def test_test_images_that_random_ones_are_drawn_from(data, distilled):
    X, y, X_test, y_test = data
    both = {"X_train": np.r_[X, X_test[:7]], "y_train": np.r_[y, y_test[:7]]}
    with pytest.warns(
        UserWarning, match="7 of 45 images of `X_test` are also in `X_train`"
    ):
        evaluate(distilled, data, baseline="random", n_repeats=1, **both)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(distilled, data, baseline="random", n_repeats=1)
