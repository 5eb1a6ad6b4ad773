"""A distiller that somebody else writes."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError

import skdistill.base as module
from skdistill import RandomSubset, SyntheticSet
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

    def default_network(step_size, **parameters):
        asked.update(parameters, step_size=step_size)
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


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_in_are_frames_out(kind):
    """As imbalanced-learn's samplers do: columns and names stay, rows are new."""
    rng = np.random.default_rng(0)
    names = [f"pixel{place}" for place in range(12)]
    X = pd.DataFrame(rng.normal(size=(8, 12)), columns=names, index=range(10, 18))
    y = pd.Series(np.arange(8) % 2 + 5, name="answer", index=X.index, dtype="int16")
    if kind == "polars":
        X = pl.DataFrame(X.to_numpy(), schema=names)
        y = pl.Series("answer", y.to_numpy(), dtype=pl.Int16)
    rows, labels = RandomSubset(image_shape=(2, 2, 3), random_state=0).fit_resample(
        X, y
    )
    assert type(rows) is type(X)
    assert list(rows.columns) == names
    assert type(labels) is type(y)
    assert (labels.name, labels.dtype) == (y.name, y.dtype)
    assert labels.to_list() == [5, 6]
    given = {tuple(row) for row in X.to_numpy().astype("f4").tolist()}
    assert {tuple(row) for row in rows.to_numpy().astype("f4").tolist()} <= given


def test_labels_come_back_as_they_came():
    X = np.random.default_rng(0).normal(size=(8, 2, 2, 3))
    codes = np.arange(8) % 2
    subset = RandomSubset(random_state=0)
    names = np.array(["spiral", "smooth"])[codes]
    assert subset.fit_resample(X, names.tolist())[1] == ["smooth", "spiral"]
    categories = pd.Series(names, dtype="category", name="class")
    labels = subset.fit_resample(X, categories)[1]
    assert labels.dtype == categories.dtype
    assert labels.tolist() == ["smooth", "spiral"]
    images, labels = subset.fit_resample(X, codes)
    assert type(images) is type(labels) is np.ndarray
    assert images.shape == (2, 2, 2, 3)
