"""A distiller that somebody else writes."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.svm import SVC

import skdistill.base as module
from skdistill import (
    ConvNetClassifier,
    DistilledClassifier,
    NeuralKernelClassifier,
    RandomSubset,
    SyntheticSet,
    evaluate_synthetic,
)
from skdistill.base import BaseDistiller
from skdistill.neural_network._default import describe_estimator


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


def test_default_estimator_is_that_of_the_set(data, monkeypatch):
    asked = {}

    def default_estimator(metadata, step_size, **parameters):
        asked.update(parameters, step_size=step_size, metadata=metadata)
        return DummyClassifier(strategy="constant", constant=0)

    monkeypatch.setattr(module, "default_estimator", default_estimator)
    distiller = FirstImages(random_state=7).fit(*data)
    distiller.synthetic_.metadata = {"ipc": "1"}
    assert distiller.score(*data) == pytest.approx(1 / 3)
    assert asked == {
        "metadata": {"ipc": "1"},
        "step_size": 0.03,
        "on_targets": False,
        "image_shape": (4, 4, 1),
        "device": "cpu",
        "random_state": 7,
    }


class KernelDistiller(FirstImages):
    """One whose images have regression targets, for a kernel regression."""

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y)
        X, y = self.synthetic_
        entry = describe_estimator(NeuralKernelClassifier(reg=1e-3))
        # The classes change places: who learns from targets alone can know.
        self.synthetic_ = SyntheticSet(
            X, y, metadata={"default_estimator": entry}, targets=np.eye(3)[[1, 0, 2]]
        )
        return self


@pytest.mark.filterwarnings("ignore:2 of 3 distilled images have `targets`")
def test_every_door_trains_what_the_set_says_on_its_targets(data):
    X, y = data
    X, y = X[:3], y[:3]
    swapped = np.array([1, 0, 2])
    distiller = KernelDistiller().fit(X, y)
    assert type(distiller._default_estimator()) is NeuralKernelClassifier
    assert distiller.score(X, swapped) == 1
    assert evaluate_synthetic(distiller.synthetic_, X, swapped, n_repeats=1).mean == 1
    model = DistilledClassifier(KernelDistiller()).fit(X, y)
    assert isinstance(model.estimator_, NeuralKernelClassifier)
    assert model.estimator_.reg == 1e-3
    assert model.predict(X).tolist() == swapped.tolist()
    # A network learns from the targets as well, and others are told.
    network = ConvNetClassifier(
        width=8, depth=1, max_iter=60, augmentation=None, device="cpu", random_state=0
    )
    model = DistilledClassifier(KernelDistiller(), network).fit(X, y)
    assert model.predict(X).tolist() == swapped.tolist()
    with pytest.warns(UserWarning, match="does not accept regression targets"):
        model = DistilledClassifier(KernelDistiller(), SVC()).fit(X, y)
    assert model.predict(X).tolist() == y.tolist()


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
