"""What a classifier looks at, of classifiers that are known to look somewhere."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
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


def test_maps_are_what_the_definition_says(watcher, images):
    images[0] += np.random.default_rng(0).uniform(0, 0.1, images.shape[1:])
    window, stride = 3, 2
    found = occlusion_maps(
        watcher, images, ["bright", "bright"], window=window, stride=stride, fill=[0.0]
    )
    expected = np.zeros((2, 12, 14))
    number = np.zeros((12, 14))
    before = watcher.predict_proba(images)[:, 0]
    for row in [*range(0, 9, 2), 9]:
        for column in [*range(0, 11, 2), 11]:
            hidden = images.copy()
            square = np.s_[row : row + 3, column : column + 3]
            hidden[:, *square] = 0
            fall = before - watcher.predict_proba(hidden)[:, 0]
            expected[:, *square] += fall[:, None, None]
            number[square] += 1
    np.testing.assert_allclose(found, expected / number, atol=1e-12)


def test_what_is_looked_at_is_found(watcher, images):
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
    at_once = occlusion_maps(watcher, images)
    calls = watcher.n_calls_
    assert calls == 2  # the whole images, and all squares
    monkeypatch.setattr("skdistill.inspection._occlusion._BATCH_PIXELS", 1000)
    np.testing.assert_array_equal(occlusion_maps(watcher, images), at_once)
    assert watcher.n_calls_ > 10


def test_images_are_left_as_they_were(watcher, images):
    before = images.copy()
    occlusion_maps(watcher, images, fill="mean")
    np.testing.assert_array_equal(images, before)


def test_display(watcher, images):
    display = OcclusionDisplay.from_estimator(watcher, images, window=3)
    maps = occlusion_maps(watcher, images, window=3)
    for drawn, expected in zip(display.images_[1], maps, strict=True):
        np.testing.assert_array_equal(drawn.get_array(), expected)
        assert drawn.get_clim() == (-np.abs(maps).max(), np.abs(maps).max())
    names = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert names == ["bright", "dark"]


def test_errors(watcher, images):
    with pytest.raises(NotFittedError):
        occlusion_maps(ConvNetClassifier(), images)
    with pytest.raises(ValueError, match="X must be 4-D"):
        occlusion_maps(watcher, images[0])
    with pytest.raises(ValueError, match="`window` must be at most the shorter side"):
        occlusion_maps(watcher, images, window=13)
    with pytest.raises(ValueError, match="`fill` must be 'sky', 'mean' or 1 finite"):
        occlusion_maps(watcher, images, fill=[0, 1])
    with pytest.raises(ValueError, match="got 'grey'"):
        occlusion_maps(watcher, images, ["bright", "grey"])
    with pytest.raises(ValueError, match="y must hold one class for each"):
        occlusion_maps(watcher, images, ["bright"])
    with pytest.raises(ValueError, match="`names` must hold one for each"):
        OcclusionDisplay.from_estimator(watcher, images, names=["one"])
