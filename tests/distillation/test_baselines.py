import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skdistill import (
    ClassMeans,
    ConvNetClassifier,
    FullData,
    Herding,
    KMeansPrototypes,
    RandomSubset,
    evaluate_synthetic,
)
from skdistill.distillation._selection import find_clusters, herd


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.array(["b", "a", "c", "a", "b"] * 8)
    return rng.normal(size=(40, 4, 5, 2)).astype(np.float32), y


ALL = [RandomSubset(3), KMeansPrototypes(3), Herding(3), ClassMeans(), FullData()]
REAL = [RandomSubset(3), KMeansPrototypes(3, prototype="medoid"), Herding(3)]


@pytest.mark.parametrize("distiller", ALL, ids=lambda d: type(d).__name__)
def test_sets(distiller, data):
    X, y = data
    distiller = clone(distiller).set_params(random_state=0)
    synthetic = distiller.fit(X, y).synthetic_
    ipc = distiller.get_params().get("ipc", 1)
    counts = {"a": ipc, "b": ipc, "c": ipc}
    if isinstance(distiller, FullData):
        counts = {"a": 16, "b": 16, "c": 8}
    assert dict(zip(*np.unique(synthetic.y, return_counts=True), strict=True)) == counts
    assert synthetic.y.tolist() == sorted(synthetic.y)
    assert synthetic.step_size is None
    assert synthetic.metadata["distiller"] == type(distiller).__name__
    np.testing.assert_allclose(synthetic.pixel_space.mean, X.mean((0, 1, 2)), atol=1e-6)
    flat, labels = distiller.set_params(image_shape=X.shape[1:]).fit_resample(
        X.reshape(40, -1), y
    )
    np.testing.assert_array_equal(flat.reshape(synthetic.X.shape), synthetic.X)
    assert labels.tolist() == synthetic.y.tolist()


@pytest.mark.parametrize("distiller", REAL, ids=lambda d: type(d).__name__)
def test_real_images_are_of_their_class_and_different(distiller, data):
    X, y = data
    synthetic = clone(distiller).set_params(random_state=0).fit(X, y).synthetic_
    found = [
        np.flatnonzero((image == X).all(axis=(1, 2, 3))).item() for image in synthetic.X
    ]
    assert y[found].tolist() == synthetic.y.tolist()
    assert len(set(found)) == len(found)


def test_class_means(data):
    X, y = data
    synthetic = ClassMeans().fit(X, y).synthetic_
    for label, image in zip(synthetic.y, synthetic.X, strict=True):
        np.testing.assert_allclose(image, X[y == label].mean(axis=0), atol=1e-6)
    one = KMeansPrototypes(1, random_state=0).fit(X, y).synthetic_
    np.testing.assert_allclose(one.X, synthetic.X, atol=1e-5)


def test_weights(data):
    X, y = data
    weight = np.random.default_rng(1).uniform(0.5, 2, size=40)
    synthetic = ClassMeans().fit(X, y, weight).synthetic_
    expected = np.average(X[y == "b"], axis=0, weights=weight[y == "b"])
    np.testing.assert_allclose(synthetic.X[1], expected, atol=1e-6)
    # Images of weight 0 are as if they were not there.
    weight[::3] = 0
    for distiller in ALL:
        distiller = clone(distiller).set_params(random_state=0)
        some = distiller.fit(X, y, weight).synthetic_
        kept = weight > 0
        other = distiller.fit(X[kept], y[kept], weight[kept]).synthetic_
        np.testing.assert_array_equal(some.X, other.X)


def test_random_images_are_drawn_by_weight():
    X = np.arange(4, dtype=float).reshape(4, 1, 1, 1).repeat(2, axis=0)
    y = np.arange(8) % 2
    weight = np.array([1, 1, 1, 1, 1, 1, 5, 5])
    drawn = [
        RandomSubset(random_state=seed).fit(X, y, weight).synthetic_.X.ravel()
        for seed in range(400)
    ]
    share = np.mean(np.concatenate(drawn) == 3)
    # Of 800 draws; four deviations.
    assert share == pytest.approx(5 / 8, abs=0.07)


def test_random_state_decides(data):
    X, y = data

    def images(seed):
        return RandomSubset(2, random_state=seed).fit(X, y).synthetic_.X

    np.testing.assert_array_equal(images(3), images(3))
    assert (images(3) != images(4)).any()


def test_means_of_clusters_that_are_plain_to_see():
    rng = np.random.default_rng(2)
    centers = rng.normal(0, 10, size=(2, 3, 4, 4, 1))
    X = (centers[:, :, None] + rng.normal(0, 0.01, size=(2, 3, 6, 4, 4, 1))).reshape(
        36, 4, 4, 1
    )
    y = np.arange(2).repeat(18)
    for prototype in ("mean", "medoid"):
        synthetic = (
            KMeansPrototypes(3, prototype=prototype, n_init=5, random_state=0)
            .fit(X, y)
            .synthetic_
        )
        distance = np.abs(
            synthetic.X.reshape(2, 3, 1, -1) - centers.reshape(2, 1, 3, -1)
        ).max(axis=-1)
        assert (distance.min(axis=2) < 0.05).all()
        assert (np.sort(distance.argmin(axis=2), axis=1) == [0, 1, 2]).all()


@pytest.mark.parametrize("unit", [2.0**-100, 2.0**-50, 2.0**50, 2.0**100])
@pytest.mark.parametrize("values", [2**24, 40])
def test_clusters_do_not_depend_on_the_unit(unit, values, monkeypatch):
    monkeypatch.setattr("skdistill.distillation._selection._KMEANS_VALUES", values)
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(20, 2, 2, 1)).astype(np.float32)
    expected = find_clusters(X, np.ones(20), 3, 1, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = find_clusters(X * np.float32(unit), np.ones(20), 3, 1, 0)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("values", [2**24, 60])
@pytest.mark.parametrize("unit", [1e-45, 1e45])
def test_clusters_do_not_depend_on_the_unit_of_weights(unit, values, monkeypatch):
    """Inverse variances of fluxes may be so large, which k-means has in float32."""
    monkeypatch.setattr("skdistill.distillation._selection._KMEANS_VALUES", values)
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(20, 2, 2, 1)).astype(np.float32)
    weight = rng.uniform(0.5, 2, size=20)
    expected = find_clusters(X, weight, 3, 1, 0)
    found = find_clusters(X, weight * unit, 3, 1, 0)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_medoid_has_the_least_sum_of_squared_distances(data):
    X, y = data
    found = KMeansPrototypes(1, prototype="medoid").fit(X, y).synthetic_
    for label, image in zip(found.y, found.X, strict=True):
        of_class = X[y == label].reshape((y == label).sum(), -1)
        sums = np.square(of_class[:, None] - of_class[None]).sum(axis=(1, 2))
        np.testing.assert_array_equal(image.ravel(), of_class[sums.argmin()])


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.filterwarnings("ignore:.* images in X have the same value:UserWarning")
@pytest.mark.filterwarnings("ignore:All 4 images of the class:UserWarning")
def test_fewer_different_images_than_clusters():
    X = np.zeros((8, 2, 2, 1))
    X[4:] = 1
    for prototype in ("mean", "medoid"):
        distiller = KMeansPrototypes(3, prototype=prototype, random_state=0)
        synthetic = distiller.fit(X, np.arange(8) // 4).synthetic_
        assert synthetic.X[:3].max() == 0
        assert synthetic.X[3:].min() == 1


@settings(max_examples=40)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 1000))
def test_herding_against_its_definition(n_samples, n_features, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(100, 1, size=(n_samples, n_features))
    weight = rng.uniform(0.1, 1, size=n_samples)
    mean = np.average(features, axis=0, weights=weight)
    expected = []
    for _ in range(n_samples):
        distances = {
            row: np.square(features[[*expected, row]].mean(axis=0) - mean).sum()
            for row in set(range(n_samples)) - set(expected)
        }
        expected.append(min(distances, key=distances.get))
    assert herd(features, n_samples, weight) == expected


def test_herding_follows_the_mean_better_than_chance(data):
    X, y = data

    def distance(distiller):
        synthetic = distiller.fit(X, y).synthetic_
        means = [
            np.square(synthetic.X[synthetic.y == c].mean(0) - X[y == c].mean(0)).mean()
            for c in "abc"
        ]
        return np.mean(means)

    random = [distance(RandomSubset(4, random_state=seed)) for seed in range(20)]
    assert distance(Herding(4)) < 0.7 * np.mean(random)


class Brightness(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_seen_ = len(X)
        return self

    def transform(self, X):
        return X.mean(axis=(1, 2, 3))[:, None]


def test_features_decide_what_is_close(data):
    X, y = data
    brightness = X.mean(axis=(1, 2, 3))
    found = Herding(1, features=Brightness()).fit(X, y).synthetic_
    for label, image in zip(found.y, found.X, strict=True):
        of_class = np.flatnonzero(y == label)
        gap = np.abs(brightness[of_class] - brightness[of_class].mean())
        np.testing.assert_array_equal(image, X[of_class[gap.argmin()]])


def test_networks_as_features(data):
    X, y = data
    network = ConvNetClassifier(width=4, depth=1, max_iter=2, device="cpu")
    one = Herding(2, features=network, random_state=0).fit(X, y).synthetic_
    assert not hasattr(network, "classes_")
    again = Herding(2, features=network, random_state=0).fit(X, y).synthetic_
    np.testing.assert_array_equal(one.X, again.X)
    fitted = network.fit(X, y)
    frozen = Herding(2, features=FrozenEstimator(fitted)).fit(X, y).synthetic_
    features = fitted.extract_features(X[y == "a"])
    taken = herd(features, 2, np.ones(len(features)))
    np.testing.assert_array_equal(frozen.X[:2], X[y == "a"][taken])
    prototypes = KMeansPrototypes(2, features=FrozenEstimator(fitted), random_state=0)
    assert len(prototypes.fit(X, y).synthetic_) == 6


def test_errors(data):
    X, y = data
    for distiller in (RandomSubset(9), Herding(9), KMeansPrototypes(9)):
        with pytest.raises(ValueError, match=r"`ipc`=9: every class .* 'c' has 8"):
            distiller.fit(X, y)

    class Broken(Brightness):
        def transform(self, X):
            return np.full((len(X), 1), np.nan)

    with pytest.raises(ValueError, match="`features` must return a row of finite"):
        Herding(features=Broken()).fit(X, y)
    with pytest.raises(ValueError, match="'features' parameter"):
        Herding(features="pixels").fit(X, y)


def test_scores_and_evaluation(data, monkeypatch):
    X, y = data
    constant = DummyClassifier(strategy="constant", constant="a")
    baseline = RandomSubset(estimator=constant, random_state=0).fit(X, y)
    assert baseline.score(X, y) == pytest.approx(16 / 40)
    found = evaluate_synthetic(baseline.synthetic_, X, y, estimator=constant)
    assert found.mean == pytest.approx(16 / 40)
    # Many images make many steps per epoch: the default network knows.
    epochs = []

    def fit(self, X, y):
        epochs.append(self.max_iter)
        return self

    monkeypatch.setattr(ConvNetClassifier, "fit", fit)
    monkeypatch.setattr(ConvNetClassifier, "score", lambda self, X, y: 0.5)
    for distiller in (ClassMeans(), FullData()):
        assert distiller.fit(X, y).score(X, y) == 0.5
    assert epochs == [1000, 300]


@pytest.mark.parametrize(
    "distiller",
    [
        RandomSubset(3, random_state=0),
        ClassMeans(),
        FullData(),
        Herding(3),
        Herding(2, features=PCA(4)),
        KMeansPrototypes(2, features=PCA(4), prototype="medoid", random_state=0),
    ],
    ids=lambda one: type(one).__name__,
)
def test_many_images_in_batches_are_as_good(distiller, monkeypatch):
    """All limits so low that results are in files and sums in parts."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (40, 4, 4, 1), dtype=np.uint8)
    y = np.arange(40) % 2
    weight = rng.integers(0, 3, 40)
    if getattr(distiller, "features", None) is not None:
        flat = FunctionTransformer(lambda X: X.reshape(len(X), -1))
        distiller = clone(distiller).set_params(
            features=make_pipeline(flat, PCA(4, random_state=0))
        )
    few = clone(distiller).fit(X.astype(np.float32), y, sample_weight=weight)
    monkeypatch.setattr("skdistill.utils._images._BATCH_VALUES", 50)
    monkeypatch.setattr("skdistill.utils._embedding._BATCH_VALUES", 100)
    monkeypatch.setattr("skdistill.distillation._selection._KEPT_VALUES", 10)
    monkeypatch.setattr("skdistill.utils._maps._SCRATCH_BYTES", 10)
    many = clone(distiller).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(many.synthetic_.X, few.synthetic_.X, rtol=1e-5)
    np.testing.assert_array_equal(many.synthetic_.y, few.synthetic_.y)


def test_clusters_of_many_images(monkeypatch):
    """In mini-batches: groups that are plain to see are found."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 300)
    images = rng.normal(size=(300, 3, 3, 1)) + 20 * group[:, None, None, None]
    monkeypatch.setattr("skdistill.distillation._selection._KMEANS_VALUES", 1000)
    found = find_clusters(images, np.ones(300), 3, 2, 0)
    assert sorted(map(len, found)) == sorted(np.bincount(group))
    for cluster in found:
        assert len(set(group[cluster])) == 1


class RandomProjection(TransformerMixin, BaseEstimator):
    """Features that are drawn."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y=None):
        rng = np.random.default_rng(self.random_state)
        self.directions_ = rng.normal(size=(X.shape[1], 2))
        return self

    def transform(self, X):
        return X @ self.directions_


def test_random_states_of_steps_of_the_feature_space(data):
    flat = FunctionTransformer(lambda X: X.reshape(len(X), -1))
    features = make_pipeline(flat, RandomProjection())
    distiller = Herding(2, features=features, random_state=0)
    found = [clone(distiller).fit(*data).synthetic_.X for _ in range(3)]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    other = clone(distiller).set_params(random_state=1).fit(*data).synthetic_.X
    assert not np.array_equal(found[0], other)
