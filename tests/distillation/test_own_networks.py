"""Distillers with teachers and networks of a user's own architecture."""

import numpy as np
import pytest
import torch
from torch import nn

from skdistill import (
    DCDistiller,
    MTTDistiller,
    NCFMDistiller,
    NetworkClassifier,
    STMDistiller,
    TrajectoryBuffer,
    make_galaxies,
)


def small(image_shape, n_classes):
    """A network that draws in training."""
    height, width, channels = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(height * width // 4, n_classes),
    )


def without_head(image_shape, n_classes):
    return nn.Sequential(
        nn.Conv2d(image_shape[2], n_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


@pytest.fixture(scope="module")
def images():
    return make_galaxies(36, size=8, random_state=0)


@pytest.fixture(scope="module")
def buffer(images):
    return TrajectoryBuffer(
        architecture=small,
        n_teachers=2,
        n_epochs=3,
        learning_rate=0.1,
        random_state=0,
        device="cpu",
    ).fit(*images)


DISTILLERS = {
    "STM": (STMDistiller, {"n_steps": 3}),
    "STM, kept": (STMDistiller, {"n_steps": 3, "keep_activations": True}),
    "STM, learned": (STMDistiller, {"n_steps": 3, "labels": "learned"}),
    "MTT": (MTTDistiller, {"n_steps": 3, "max_start_epoch": 1}),
    "MTT, teacher": (
        MTTDistiller,
        {"n_steps": 3, "max_start_epoch": 1, "labels": "teacher"},
    ),
    "DC": (DCDistiller, {"batch_size": 3}),
    "NCFM": (NCFMDistiller, {"batch_size": 3}),
}


@pytest.mark.parametrize("name", DISTILLERS)
def test_distillers_follow_teachers_of_any_network(images, buffer, name):
    kind, settings = DISTILLERS[name]

    def fit(**changes):
        distiller = kind(
            buffer=buffer, max_iter=4, random_state=0, device="cpu", **settings
        )
        return distiller.set_params(**changes).fit(*images)

    found = fit()
    assert np.isfinite(found.history_["loss"]).all()
    assert found.stop_reason_ in ("max_iter", "no trend")
    # What networks draw is the same in every fit.
    assert np.array_equal(fit().synthetic_.X, found.synthetic_.X)
    assert not np.array_equal(fit(random_state=1).synthetic_.X, found.synthetic_.X)
    network = found._default_estimator()
    assert isinstance(network, NetworkClassifier)
    assert network.architecture is small
    assert network.image_shape == (8, 8, 3)


def test_checkpoints_resume_and_know_the_network(images, buffer, tmp_path):
    def fit(max_iter, buffer, **changes):
        return MTTDistiller(
            buffer=buffer,
            n_steps=3,
            max_start_epoch=1,
            max_iter=max_iter,
            random_state=0,
            device="cpu",
            **changes,
        ).fit(*images)

    fit(2, buffer, checkpoint=tmp_path)
    resumed = fit(4, buffer, checkpoint=tmp_path)
    assert np.array_equal(resumed.synthetic_.X, fit(4, buffer).synthetic_.X)
    assert resumed.synthetic_.metadata["architecture"].endswith(".small")
    other = TrajectoryBuffer(
        architecture="mlp", n_teachers=2, n_epochs=3, random_state=0, device="cpu"
    ).fit(*images)
    with pytest.raises(ValueError, match="teachers' settings"):
        fit(4, other, checkpoint=tmp_path)


def test_score_trains_the_teachers_network(images, buffer):
    distiller = MTTDistiller(
        buffer=buffer,
        n_steps=2,
        max_start_epoch=1,
        max_iter=2,
        random_state=0,
        device="cpu",
    ).fit(*images)
    network = distiller._default_estimator()
    assert network.learning_rate == pytest.approx(distiller.synthetic_.step_size)
    assert network.max_iter == 1000
    distiller.set_params(estimator=network.set_params(max_iter=2))
    assert 0 <= distiller.score(*images) <= 1


def test_features_need_a_linear_layer(images):
    buffer = TrajectoryBuffer(
        architecture=without_head, n_teachers=1, n_epochs=2, device="cpu"
    )
    distiller = NCFMDistiller(buffer=buffer, max_iter=2, device="cpu")
    with pytest.raises(ValueError, match=r"must have a torch\.nn\.Linear layer"):
        distiller.fit(*images)
    fitted = DCDistiller(buffer=buffer, max_iter=2, device="cpu").fit(*images)
    assert np.isfinite(fitted.history_["loss"]).all()


def test_folder_of_such_teachers_says_how_to_load_it(images, tmp_path):
    TrajectoryBuffer(
        architecture=small, n_teachers=1, n_epochs=2, path=tmp_path, device="cpu"
    ).fit(*images)
    with pytest.raises(ValueError, match=r"TrajectoryBuffer\.load\(path, architecture"):
        STMDistiller(buffer=tmp_path, max_iter=1, device="cpu").fit(*images)
    torch.manual_seed(0)
    teachers = TrajectoryBuffer.load(tmp_path, architecture=small((8, 8, 3), 9))
    fitted = STMDistiller(buffer=teachers, max_iter=1, n_steps=2, device="cpu")
    assert np.isfinite(fitted.fit(*images).history_["loss"]).all()


def test_sets_name_a_network_of_the_library(images):
    buffer = TrajectoryBuffer(
        architecture="alexnet",
        normalization="group",
        n_teachers=1,
        n_epochs=2,
        batch_size=36,
        device="cpu",
    )
    distiller = NCFMDistiller(buffer=buffer, max_iter=1, batch_size=3, device="cpu")
    network = distiller.fit(*images)._default_estimator()
    assert distiller.synthetic_.metadata["default_estimator"] == {
        "name": "NetworkClassifier",
        "architecture": "alexnet",
        "normalization": "group",
    }
    assert (network.architecture, network.normalization) == ("alexnet", "group")
