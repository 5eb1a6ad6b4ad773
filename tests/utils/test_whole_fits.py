"""A fit after a fit: nothing of the first is left beside the second, or all of it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

import skdistill.distillation._class_wise as class_wise_module
import skdistill.distillation._iterative as iterative_module
import skdistill.neural_network._base as network_module
import skdistill.neural_network._kernel_classifier as kernel_module
import skdistill.trajectory._buffer as buffer_module
from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    DMDistiller,
    FRePoDistiller,
    KMeansPrototypes,
    NeuralKernelClassifier,
    RandomSubset,
    STMDistiller,
    TrajectoryBuffer,
    ZCAWhitener,
)

TINY = {"width": 4, "depth": 1, "device": "cpu", "random_state": 0}
TEACHERS = TrajectoryBuffer(n_teachers=1, n_epochs=2, **TINY)
# Of each kind, and what is called in the midst of its fit.
KINDS = [
    (TEACHERS, buffer_module, "train_missing"),
    (ConvNetClassifier(max_iter=1, **TINY), network_module, "train_epochs"),
    (NeuralKernelClassifier(device="cpu"), kernel_module, "RidgeRegression"),
    (ChannelScaler(), ChannelScaler, "_learn"),
    (ZCAWhitener(), ZCAWhitener, "_set"),
    (DMDistiller(max_iter=1, **TINY), iterative_module, "Optimization"),
    (KMeansPrototypes(random_state=0), class_wise_module, "SyntheticSet"),
    (
        DistilledClassifier(RandomSubset(random_state=0), LogisticRegression()),
        class_wise_module,
        "SyntheticSet",
    ),
]


def make_data(labels, size, seed):
    rng = np.random.default_rng(seed)
    y = np.array(labels)[np.arange(12) % len(labels)]
    return rng.normal(size=(12, size, size, 1)).astype(np.float32), y


@pytest.fixture
def break_off(monkeypatch):
    """Return a function that interrupts what is given, as Ctrl-C does."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    def break_off(place, name):
        monkeypatch.setattr(place, name, interrupt)

    return break_off


@pytest.mark.parametrize(
    ("estimator", "place", "name"), KINDS, ids=[type(one[0]).__name__ for one in KINDS]
)
def test_interrupted_fits_leave_no_mixture(estimator, place, name, break_off):
    estimator, other = clone(estimator), clone(estimator)
    estimator.fit(*make_data(["a", "b"], 4, 0))
    before = dict(vars(estimator))
    break_off(place, name)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(*make_data(["c", "d", "e"], 8, 1))
    assert list(vars(estimator)) == list(before)
    assert all(vars(estimator)[key] is value for key, value in before.items())
    check_is_fitted(estimator)
    # One without an earlier fit is not fitted, whatever the start has set.
    with pytest.raises(KeyboardInterrupt):
        other.fit(*make_data(["a", "b"], 4, 0))
    with pytest.raises(NotFittedError):
        check_is_fitted(other)


def test_wrong_input_costs_no_result():
    X, y = make_data(["a", "b"], 4, 0)
    distiller = RandomSubset(random_state=0).fit(X, y)
    expected = distiller.synthetic_
    with pytest.raises(ValueError, match="inconsistent"):
        distiller.fit(X, y[:-1])
    with pytest.raises(ValueError, match="'ipc' parameter"):
        distiller.set_params(ipc=0).fit(X, y)
    assert distiller.synthetic_ is expected


def test_teachers_of_an_interrupted_fit_are_not_taken_for_others(break_off):
    """They would be those of the first images, with the name of the second."""
    first, second = make_data(["a", "b"], 4, 0), make_data(["a", "b"], 4, 1)
    buffer = clone(TEACHERS).fit(*first)
    break_off(buffer_module, "train_missing")
    with pytest.raises(KeyboardInterrupt):
        buffer.fit(*second)
    distiller = STMDistiller(
        buffer=buffer, n_steps=1, max_total_iter=1, device="cpu", random_state=0
    )
    with pytest.warns(UserWarning, match="`buffer` was fitted on different images"):
        distiller.fit(*second)


def test_what_the_second_fit_does_not_learn_is_gone():
    X, y = make_data(["a", "b"], 4, 0)
    rows = X.reshape(len(X), -1)
    table = pd.DataFrame(rows).add_prefix("pixel_")
    model = DistilledClassifier(
        RandomSubset(random_state=0), LogisticRegression(), image_shape=(4, 4, 1)
    )
    assert hasattr(model.fit(table, y), "feature_names_in_")
    model.fit(rows, y)
    assert not hasattr(model, "feature_names_in_")
    # Without a warning about names, which would be an error here.
    assert len(model.predict(rows)) == 12

    distiller = FRePoDistiller(
        max_iter=1, n_networks=1, max_network_steps=1, loss="platt", **TINY
    )
    assert distiller.fit(X, y).temperature_ > 0
    distiller.set_params(loss="squared").fit(X, y)
    assert not hasattr(distiller, "temperature_")


class Impatient(ClassifierMixin, BaseEstimator):
    """A classifier whose training is interrupted."""

    def fit(self, X, y):
        raise KeyboardInterrupt

    def predict(self, X):
        return np.zeros(len(X))


def test_a_distilled_set_is_not_lost_with_the_training():
    X, y = make_data(["a", "b"], 4, 0)
    model = DistilledClassifier(RandomSubset(random_state=0), LogisticRegression())
    earlier = model.fit(X, y).distiller_
    model.set_params(estimator=Impatient(), distiller__ipc=2)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert model.distiller_ is not earlier
    assert len(model.distiller_.synthetic_) == 4
    with pytest.raises(NotFittedError):
        model.predict(X)
