"""What a classifier looks at, of classifiers that are known to look somewhere."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError

from skdistill import ConvNetClassifier
from skdistill.inspection import OcclusionDisplay, occlusion_maps

SPOT = (slice(2, 5), slice(6, 9))


class Watcher(ClassifierMixin, BaseEstimator):
    """Say how probable "bright" is by nothing but the light in one spot."""

    def fit(self, X, y):
        self.classes_ = np.array(["bright", "dark"])
        self.n_calls_ = 0
        return self

    def predict_proba(self, X):
        self.n_calls_ += 1
        bright = X[(slice(None), *SPOT)].mean(axis=(1, 2, 3)).clip(0, 1)
        return np.column_stack([bright, 1 - bright])

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


@pytest.fixture
def watcher():
    return Watcher().fit(None, None)


@pytest.fixture
def images():
    X = np.zeros((2, 12, 14, 1))
    X[0][SPOT] = 1.0
    return X


@pytest.mark.parametrize("scale", ["log-odds", "probability"])
def test_maps_are_what_the_definition_says(watcher, images, scale):
    images = 0.8 * images + 0.1
    images[0] += np.random.default_rng(0).uniform(0, 0.05, images.shape[1:])
    window, stride = 3, 2
    found = occlusion_maps(
        watcher,
        images,
        ["bright", "bright"],
        window=window,
        stride=stride,
        fill=[0.1],
        scale=scale,
    )

    def watched(images):
        p = watcher.predict_proba(images)[:, 0]
        return p if scale == "probability" else np.log(p / (1 - p))

    expected = np.zeros((2, 12, 14))
    number = np.zeros((12, 14))
    before = watched(images)
    for row in [*range(0, 9, 2), 9]:
        for column in [*range(0, 11, 2), 11]:
            hidden = images.copy()
            square = np.s_[row : row + 3, column : column + 3]
            hidden[:, *square] = 0.1
            fall = before - watched(hidden)
            expected[:, *square] += fall[:, None, None]
            number[square] += 1
    np.testing.assert_allclose(found, expected / number, atol=1e-12)


def test_what_is_looked_at_is_found(watcher, images):
    images = 0.8 * images + 0.1
    maps = occlusion_maps(watcher, images, window=3, stride=1)
    bright, dark = maps
    inside = np.zeros(bright.shape, dtype=bool)
    inside[SPOT] = True
    assert bright[inside].min() > bright[~inside].max()
    # Only squares that touch the spot count.
    assert not bright[8:].any()
    # The sky hides nothing in an image that is all sky.
    assert not dark.any()
    against = occlusion_maps(watcher, images, ["dark", "dark"], window=3, stride=1)
    np.testing.assert_allclose(against[0], -bright)


def test_hiding_is_done_in_batches(watcher, images, monkeypatch):
    images = 0.8 * images + 0.1
    at_once = occlusion_maps(watcher, images)
    calls = watcher.n_calls_
    assert calls == 2  # the whole images, and all squares
    monkeypatch.setattr("skdistill.inspection._occlusion._BATCH_PIXELS", 1000)
    np.testing.assert_array_equal(occlusion_maps(watcher, images), at_once)
    assert watcher.n_calls_ > 10


def test_images_are_left_as_they_were(watcher, images):
    before = images.copy()
    occlusion_maps(watcher, images, fill="mean", scale="probability")
    np.testing.assert_array_equal(images, before)


class Sure(Watcher):
    """The same, as sure as networks become: p is 1 as float32 writes it."""

    def predict_proba(self, X):
        bright = X[(slice(None), *SPOT)].mean(axis=(1, 2, 3))
        logits = np.column_stack([30 * bright, 0 * bright])
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def test_a_sure_classifier_has_maps_too(images):
    sure = Sure().fit(None, None)
    assert sure.predict_proba(images)[0, 0] == 1.0
    p = occlusion_maps(sure, images, window=1, stride=1, scale="probability")
    assert np.abs(p[0]).max() < 1e-4  # blank
    maps = occlusion_maps(sure, images, window=1, stride=1)
    # Each of nine pixels takes a ninth of the logit of 30.
    np.testing.assert_allclose(maps[0][SPOT], 30 / 9, rtol=1e-5)
    outside = np.ones(maps.shape[1:], dtype=bool)
    outside[SPOT] = False
    np.testing.assert_allclose(maps[0][outside], 0, atol=1e-5)


def test_logarithms_are_taken_from_a_classifier_that_has_them(images):
    class Logs(Sure):
        def predict_log_proba(self, X):
            bright = 3000 * X[(slice(None), *SPOT)].mean(axis=(1, 2, 3))
            return -np.logaddexp(0, np.column_stack([-bright, bright]))

    maps = occlusion_maps(Logs().fit(None, None), images, window=1, stride=1)
    np.testing.assert_allclose(maps[0][SPOT], 3000 / 9, rtol=1e-6)


def test_probabilities_of_0_are_told(images):
    X = np.concatenate([images, images[::-1]] * 5)
    forest = RandomForestClassifier(20, random_state=0)
    labels = np.where(X[(slice(None), *SPOT)].mean(axis=(1, 2, 3)) > 0.5, "b", "d")

    class Forest(Watcher):
        def predict_proba(self, X):
            return forest.predict_proba(X.reshape(len(X), -1))

    forest.fit(X.reshape(len(X), -1), labels)
    voting = Forest().fit(None, None)
    voting.classes_ = forest.classes_
    with pytest.warns(UserWarning, match=r"is 0 or 1.*are replaced by 0\.005"):
        maps = occlusion_maps(voting, images, window=3, stride=1)
    assert np.isfinite(maps).all()
    assert maps[0][SPOT].min() > 0


def test_display(watcher, images):
    images = 0.8 * images + 0.1
    display = OcclusionDisplay.from_estimator(
        watcher, images, ["bright", "bright"], window=3, stride=2, title="Spots"
    )
    maps = occlusion_maps(watcher, images, ["bright", "bright"], window=3, stride=2)
    most = np.quantile(np.abs(maps), 0.995)
    for drawn, expected in zip(display.images_[1], maps, strict=True):
        np.testing.assert_array_equal(drawn.get_array(), expected)
        assert drawn.get_clim() == (-most, most)
    names = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert names == [
        "bright\np = 0.9\npredicted:\nbright",
        "bright\np = 0.1\npredicted:\ndark",
    ]
    rows = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert "blue: against" in rows[1].replace("\n", " ")
    assert "log-odds" in display.colorbar_.ax.get_ylabel()
    assert "3 x 3 pixels, in steps of 2" in display.note
    assert display.ax_.get_title() == "Spots"


def test_of_many_images_a_few_are_shown_and_computed(watcher, images):
    images = np.repeat(0.8 * images + 0.1, 450, axis=0)
    display = OcclusionDisplay.from_estimator(
        watcher, images, max_images=5, class_names=["light", "shade"]
    )
    assert len(display.maps) == len(display.images_[0]) == 5
    assert "5 of 900 images" in display.note
    assert max(display.figure_.get_size_inches()) <= 14
    assert display.names[0].startswith("light\np = 0.9")
    with pytest.raises(ValueError, match="'max_images' parameter"):
        OcclusionDisplay.from_estimator(watcher, images, max_images=0)


def test_errors(watcher, images):
    with pytest.raises(NotFittedError):
        occlusion_maps(ConvNetClassifier(), images)
    with pytest.raises(ValueError, match="X must be 4-D"):
        occlusion_maps(watcher, images[0])
    with pytest.raises(ValueError, match="`window` must be at most the shorter side"):
        occlusion_maps(watcher, images, window=13)
    with pytest.raises(ValueError, match="`fill` must be 'sky', 'mean' or 1 finite"):
        occlusion_maps(watcher, images, fill=[0, 1])
    with pytest.raises(ValueError, match=r"got \['gray'\]"):
        occlusion_maps(watcher, images, ["bright", "gray"])
    with pytest.raises(ValueError, match="`y` must hold one label for each"):
        occlusion_maps(watcher, images, ["bright"])
    with pytest.raises(ValueError, match="`names` must hold one value for each"):
        OcclusionDisplay.from_estimator(watcher, images, names=["one"])


class Foreign:
    """A classifier that is not of scikit-learn."""

    def __init__(self):
        self.n_calls = 0

    def predict_proba(self, X):
        self.n_calls += 1
        return Watcher.predict_proba(Watcher().fit(None, None), X)


def test_classifiers_that_are_not_of_scikit_learn(watcher, images):
    expected = occlusion_maps(watcher, images, window=3, scale="probability")
    found = occlusion_maps(Foreign(), images, window=3, scale="probability")
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(TypeError, match="must have an attribute `classes_`"):
        occlusion_maps(Foreign(), images, ["bright", "dark"])
    with pytest.raises(TypeError, match="is a class, not an instance"):
        occlusion_maps(Foreign, images)
    foreign = Foreign()
    with pytest.raises(TypeError, match="must have an attribute `classes_`"):
        OcclusionDisplay.from_estimator(foreign, images)
    foreign.classes_ = ["bright", "dark"]
    with pytest.raises(ValueError, match="`class_names` must hold a name for each"):
        OcclusionDisplay.from_estimator(foreign, images, class_names=["one"])
    assert not foreign.n_calls
    display = OcclusionDisplay.from_estimator(foreign, images, scale="probability")
    assert display.names[0].startswith("bright\n")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, bool])
@pytest.mark.parametrize("fill", ["mean", "sky", [-1.0], [300.0]])
def test_integer_images_are_hidden_by_the_same_values(dtype, fill):
    class Weighted(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.array(["z", "a"])  # in an order of its own
            return self

        def predict_proba(self, X):
            p = expit((X.reshape(len(X), -1) / 400) @ np.linspace(-1, 1, 30))
            return np.column_stack([p, 1 - p])

    X = np.random.default_rng(0).integers(0, 200, (2, 6, 5, 1)).astype(dtype)
    classifier = Weighted().fit(None, None)
    found = occlusion_maps(classifier, X, ["a", "z"], window=2, fill=fill)
    floats = X.astype(np.float64)
    expected = occlusion_maps(classifier, floats, ["a", "z"], window=2, fill=fill)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    opposite = occlusion_maps(classifier, floats, ["z", "a"], window=2, fill=fill)
    np.testing.assert_allclose(expected, -opposite, atol=1e-9)
