"""A distiller that somebody else writes."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError

import skdistill.base as module
from skdistill import SyntheticSet
from skdistill.base import BaseDistiller


class FirstImages(BaseDistiller):
    """Take the first image of each class."""

    def __init__(self, estimator=None, random_state=None, device="cpu"):
        self.estimator = estimator
        self.random_state = random_state
        self.device = device

    def fit(self, X, y, sample_weight=None):
        classes, first = np.unique(y, return_index=True)
        self.synthetic_ = SyntheticSet(X[first], classes, step_size=0.03)
        return self


@pytest.fixture
def data():
    return np.random.default_rng(0).normal(size=(6, 4, 4, 1)), np.arange(6) % 3


def test_fit_resample(data):
    X, y = FirstImages().fit_resample(*data)
    np.testing.assert_allclose(X, data[0][:3], rtol=1e-6)
    assert y.tolist() == [0, 1, 2]


def test_score_is_that_of_the_estimator(data):
    distiller = FirstImages(DummyClassifier(strategy="constant", constant=2))
    with pytest.raises(NotFittedError):
        distiller.score(*data)
    assert distiller.fit(*data).score(*data) == pytest.approx(1 / 3)


def test_default_network_is_that_of_the_set(data, monkeypatch):
    asked = {}

    def default_network(synthetic, **parameters):
        asked.update(parameters, step_size=synthetic.step_size)
        return DummyClassifier(strategy="constant", constant=0)

    monkeypatch.setattr(module, "default_network", default_network)
    distiller = FirstImages(random_state=7).fit(*data)
    assert distiller.score(*data) == pytest.approx(1 / 3)
    assert asked == {
        "step_size": 0.03,
        "image_shape": (4, 4, 1),
        "device": "cpu",
        "random_state": 7,
    }
