"""Gradient matching as users meet it: DCDistiller and DSADistiller."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

from skdistill import (
    ConvNetClassifier,
    DCDistiller,
    DSADistiller,
    RandomSubset,
    TrajectoryBuffer,
)

SHORT = {
    "max_iter": 4,
    "n_network_epochs": 2,
    "width": 8,
    "depth": 2,
    "device": "cpu",
    "random_state": 0,
}


@pytest.fixture
def make():
    def make_distiller(made=DCDistiller, **changes):
        return made(**(SHORT | changes))

    return make_distiller


def test_what_a_fit_leaves_behind(make, bars):
    distiller = make(ipc=2).fit(*bars)
    assert distiller.synthetic_.X.shape == (6, 16, 16, 3)
    assert distiller.synthetic_.y.tolist() == [0, 0, 1, 1, 2, 2]
    assert distiller.synthetic_.step_size is None
    assert distiller.synthetic_.probabilities is None
    assert distiller.synthetic_.metadata["distiller"] == "DCDistiller"
    assert distiller.stop_reason_ == "max_iter"
    assert distiller.n_iter_ == 4
    history = distiller.history_
    assert list(history) == ["round", "loss", "network_accuracy", "event"]
    assert history["round"].tolist() == [0, 1, 0, 1]
    # Of rows in all: 8 of each of two kernels, 3 of the last layer.
    assert history["loss"].between(0, 3 * 2 * 19).all()
    assert history["network_accuracy"].between(0, 1).all()
    assert not hasattr(distiller, "buffer_")


def test_images_come_to_have_the_gradients_of_real_ones(make, bars):
    distiller = make(max_iter=80, average=False).fit(*bars)
    loss = distiller.history_["loss"]
    assert loss[-10:].mean() < 0.6 * loss[:3].mean()


@pytest.mark.parametrize("made", [DCDistiller, DSADistiller])
def test_better_than_random_images(made, make_bars):
    X, y = make_bars(40, seed=1)
    X_test, y_test = make_bars(60, seed=2)
    X, X_test = X - X.mean(), X_test - X.mean()
    settings = SHORT | {"max_iter": 60}
    distiller = made(**settings).fit(X, y)
    network = distiller._default_estimator().set_params(max_iter=60)
    scores = [
        one.set_params(estimator=network).score(X_test, y_test)
        for one in (
            distiller,
            *(RandomSubset(random_state=seed).fit(X, y) for seed in range(3)),
        )
    ]
    assert scores[0] > np.mean(scores[1:])


def test_dsa_is_dc_with_other_defaults(make, bars):
    """Without augmentation and from the same images: bitwise identical."""
    own = {name for name in vars(DSADistiller) if not name.startswith("__")}
    # What scikit-learn itself adds to every class.
    assert own <= {"_abc_impl", "set_fit_request", "set_score_request"} | {
        name for name in own if name.startswith("_sklearn")
    }
    one, other = DCDistiller(), DSADistiller()
    different = {
        name: value
        for name, value in other.get_params().items()
        if value != one.get_params()[name]
    }
    assert different == {"init": "real", "augmentation": "dsa"}
    plain = make(DSADistiller, ipc=2, augmentation=None).fit(*bars)
    expected = make(ipc=2, init="real").fit(*bars)
    assert np.array_equal(plain.synthetic_.X, expected.synthetic_.X)
    augmented = make(DSADistiller, ipc=2).fit(*bars)
    assert not np.array_equal(augmented.synthetic_.X, expected.synthetic_.X)


def test_rounds_and_epochs_follow_from_the_number_of_images():
    def training(**changes):
        found = DCDistiller(**changes)._training()
        return found.n_rounds, found.n_epochs

    # As published; in between, and beyond, as many rounds as images.
    assert [training(ipc=ipc) for ipc in (10, 20, 50)] == [(10, 50), (20, 25), (50, 10)]
    assert training(ipc=1)[0] == 1
    assert training(ipc=7) == (7, 71)
    assert training(ipc=2000) == (2000, 1)
    assert training(ipc=10, n_rounds=3, n_network_epochs=4) == (3, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"ipc": 2},
        {"ipc": 3, "n_networks": 2, "augmentation": "dsa"},
        {"matched": "all", "distance": "squared", "pixel_size": 2},
    ],
)
def test_a_run_is_resumed_at_every_iteration(changes, make, bars, tmp_path):
    whole = make(**changes).fit(*bars)
    for n_first in (1, 2, 3):
        stored = {"checkpoint": tmp_path / str(n_first), **changes}
        make(**(stored | {"max_iter": n_first})).fit(*bars)
        resumed = make(**stored).fit(*bars)
        assert np.array_equal(resumed.synthetic_.X, whole.synthetic_.X)
        assert resumed.history_.equals(whole.history_)


def test_a_checkpoint_of_another_run_is_refused(make, bars, tmp_path):
    make(ipc=2, checkpoint=tmp_path, max_iter=1).fit(*bars)
    for changes in ({"distance": "squared"}, {"n_rounds": 3}, {"network_lr": 0.1}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            make(ipc=2, checkpoint=tmp_path, **changes).fit(*bars)


def test_teachers_in_place_of_training(make, make_teachers, bars):
    buffer = make_teachers().fit(*bars)
    settings = {
        "buffer": buffer,
        "distance": "squared",
        "matched": "kernels",
        "init": "real",
        "augmentation": "color+crop+cutout",
        "pixel_size": 2,
        "max_iter": 6,
    }
    distiller = make(ipc=2, **settings).fit(*bars)
    assert distiller.buffer_ is buffer
    names = ["teacher", "snapshot", "loss", "network_accuracy", "event"]
    assert list(distiller.history_) == names
    assert distiller.history_["teacher"].isin(range(buffer.n_teachers_)).all()
    assert distiller.history_["snapshot"].nunique() > 1
    # Pixels of four.
    X = distiller.synthetic_.X
    assert np.array_equal(X[:, ::2, ::2], X[:, 1::2, 1::2])
    network = distiller._default_estimator()
    assert (network.width, network.depth) == (buffer.width, buffer.depth)
    # Teachers that are not fitted are; the distiller's own width is without effect.
    other = make(ipc=2, **(settings | {"buffer": clone(buffer), "width": 3}))
    other.fit(*bars)
    assert not hasattr(other.buffer, "history_")
    frozen = make(ipc=2, **(settings | {"buffer": FrozenEstimator(buffer)}))
    assert np.array_equal(frozen.fit(*bars).synthetic_.X, X)


def test_teachers_of_other_images_are_refused(make, make_teachers, make_bars, bars):
    buffer = make_teachers().fit(*make_bars(size=8))
    with pytest.raises(ValueError, match="`buffer` was made for images of shape"):
        make(buffer=buffer).fit(*bars)


def test_weights_are_probabilities_of_the_real_draw(make, bars):
    X, y = bars
    weight = np.ones(len(y))
    weight[:9] = 0
    found = make(batch_size=3).fit(X, y, weight)
    expected = make(batch_size=3).fit(X[9:], y[9:], weight[9:])
    assert np.array_equal(found.synthetic_.X, expected.synthetic_.X)
    # Of those that are all but impossible none is drawn: they may be anything.
    weight[:9] = 1e-12
    other = X.copy()
    other[:9] = X[::-1][:9]
    one, two = (
        make(batch_size=3, init=X[:3], pixel_lr=0.1).fit(images, y, weight)
        for images in (X, other)
    )
    assert np.array_equal(one.synthetic_.X, two.synthetic_.X)


def test_batch_normalization_is_refused_by_name(make, bars):
    with pytest.raises(ValueError, match="`normalization`='batch' makes"):
        make(normalization="batch").fit(*bars)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distance": "euclidean"}, "distance"),
        ({"matched": "biases"}, "matched"),
        ({"n_rounds": 0}, "n_rounds"),
        ({"n_rounds": "ipc"}, "n_rounds"),
        ({"n_network_epochs": 0}, "n_network_epochs"),
        ({"network_lr": 0.0}, "network_lr"),
        ({"network_batch_size": 0}, "network_batch_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"n_networks": 0}, "n_networks"),
        ({"buffer": 3}, "buffer"),
        ({"buffer": "no/such/folder"}, "no/such/folder"),
        ({"augmentation": "flips"}, "augmentation"),
        ({"width": 0}, "width"),
        ({"pixel_size": 3}, "pixel_size"),
        ({"init": "real", "ipc": 13}, "ipc"),
        ({"pixel_lr": 0.0}, "pixel_lr"),
    ],
)
def test_what_is_wrong_is_named(changes, words, make, bars):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        make(**changes).fit(*bars)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels_and_sizes_of_classes(channels, make, make_bars):
    X, y = make_bars(channels=channels, size=9)
    rare = np.r_[np.flatnonzero(y == 0)[:2], np.flatnonzero(y)]
    for normalization in ("instance", "layer", "group", "none"):
        found = make(normalization=normalization, batch_size=5, max_iter=2)
        found.fit(X[rare], np.array(["a", "b", "c"])[y[rare]])
        assert np.isfinite(found.synthetic_.X).all()
        assert found.synthetic_.y.tolist() == ["a", "b", "c"]


def test_networks_that_diverge_end_the_fit(make, bars):
    with pytest.warns(UserWarning, match="the distillation diverged"):
        found = make(ipc=2, network_lr=1e30, max_iter=100).fit(*bars)
    assert found.stop_reason_ == "diverged"
    assert np.isfinite(found.synthetic_.X).all()


def test_in_a_search(make, bars):
    network = ConvNetClassifier(width=4, depth=1, max_iter=2, random_state=0)
    estimator = make(max_iter=1, estimator=network)
    search = GridSearchCV(estimator, {"distance": ["cosine", "squared"]}, cv=2)
    assert search.fit(*bars).best_params_["distance"] in ("cosine", "squared")


def test_unfitted_teachers_are_kept_with_the_checkpoint(make, bars, tmp_path):
    buffer = TrajectoryBuffer(n_teachers=1, n_epochs=2, width=4, depth=1)
    found = make(buffer=buffer, checkpoint=tmp_path).fit(*bars)
    assert found.buffer_.path == tmp_path / "teachers"
