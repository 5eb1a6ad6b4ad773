"""FRePo and RFAD: what they have beside what all distillers have."""

import inspect
import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import skdistill.distillation._objectives._network_regression as objective_module
from skdistill import (
    ConvNetClassifier,
    FRePoDistiller,
    NetworkClassifier,
    RandomSubset,
    RFADDistiller,
    evaluate_synthetic,
)
from skdistill.synthetic import SyntheticSet


def make(kind=FRePoDistiller, **changes):
    settings = {"n_networks": 3, "width": 4, "depth": 1, "max_iter": 4}
    if "architecture" in changes:
        del settings["width"], settings["depth"]
    settings |= {"device": "cpu", "random_state": 0}
    return kind(**(settings | changes))


def test_attributes(tiny_bars):
    distiller = make(ipc=2, max_network_steps=2).fit(*tiny_bars)
    found = distiller.synthetic_
    assert isinstance(found, SyntheticSet)
    assert isinstance(distiller.best_synthetic_, SyntheticSet)
    assert found.targets.shape == (6, 3)
    assert found.probabilities is None
    assert found.step_size is None
    assert distiller.n_draws_ == 1
    columns = ["n_network_steps", "loss", "network_accuracy", "event"]
    assert list(distiller.history_) == columns
    assert distiller.history_["n_network_steps"].isin([0, 1, 2]).all()
    assert distiller.history_["network_accuracy"].between(0, 1).all()
    assert not hasattr(distiller, "temperature_")


def test_rfad_is_frepo_with_other_defaults(tiny_bars):
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(RFADDistiller).parameters.items()
    }
    distiller = make(RFADDistiller).fit(*tiny_bars)
    defaults |= {"n_networks": 3, "width": 4, "depth": 1, "max_iter": 4}
    other = FRePoDistiller(**defaults | {"device": "cpu", "random_state": 0})
    other.fit(*tiny_bars)
    assert np.array_equal(distiller.synthetic_.X, other.synthetic_.X)
    assert np.array_equal(distiller.synthetic_.targets, other.synthetic_.targets)
    columns = ["loss", "network_accuracy", "temperature", "event"]
    assert list(distiller.history_) == columns
    # Before the update of each iteration, and after the last.
    temperatures = [*distiller.history_["temperature"], distiller.temperature_]
    assert temperatures[0] == 1
    assert all(0.9 < t < 1.1 for t in temperatures)
    assert len(set(temperatures)) == 5


def test_loss_falls(bars):
    for kind in (FRePoDistiller, RFADDistiller):
        history = make(kind, max_iter=60, width=8, depth=2).fit(*bars).history_
        assert history["loss"][-10:].mean() < 0.8 * history["loss"][:10].mean()


def test_hard_labels_stay(tiny_bars):
    found = make(labels="hard").fit(*tiny_bars).synthetic_
    assert found.targets is None
    assert found.probabilities is None


def test_batch_normalization_is_refused_by_name(tiny_bars):
    with pytest.raises(ValueError, match="`normalization`='batch' makes"):
        make(normalization="batch").fit(*tiny_bars)


@pytest.mark.parametrize("normalization", ["instance", "layer", "group", "none"])
def test_other_normalizations(tiny_bars, normalization):
    found = make(normalization=normalization).fit(*tiny_bars)
    assert np.isfinite(found.synthetic_.X).all()


# Mirrored images


def test_images_of_several_channels_are_mirrored(tiny_bars, bars):
    X, y = tiny_bars
    found = {
        mirror: make(mirror=mirror).fit(X, y).synthetic_.X
        for mirror in (True, False, "auto")
    }
    assert np.array_equal(found["auto"], found[False])
    assert not np.array_equal(found["auto"], found[True])
    X, y = bars
    auto, mirrored = (
        make(mirror=mirror).fit(X, y).synthetic_.X for mirror in ("auto", True)
    )
    assert np.array_equal(auto, mirrored)


@pytest.mark.parametrize("mirror", [True, False])
def test_scored_networks_are_augmented_as_images_may_be(tiny_bars, mirror):
    fitted = make(mirror=mirror).fit(*tiny_bars)
    assert ("flip" in fitted._default_estimator().augmentation) == mirror


# Networks


@pytest.mark.parametrize("n_draws", [1, 2])
def test_networks_of_the_pool_serve_and_learn(tiny_bars, monkeypatch, n_draws):
    trained = []
    real = objective_module.NetworkPool.train

    def train(self, places, images, targets, **options):
        trained.append((list(places), len(images)))
        real(self, places, images, targets, **options)

    monkeypatch.setattr(objective_module.NetworkPool, "train", train)
    make(max_network_steps=5, mirror=True, n_draws=n_draws).fit(*tiny_bars)
    assert len(trained) == 4
    for places, n_images in trained:
        assert len(set(places)) == n_draws
        # Of three classes, each image once more in a mirror.
        assert n_images == 6


def test_draws_are_averaged(tiny_bars):
    """Images that stand still have the mean of the losses of the same networks."""
    still = {"max_iter": 1, "pixel_lr": 1e-30, "n_real": None, "max_network_steps": 9}
    one, two, three = (
        make(n_draws=n, **still).fit(*tiny_bars).history_["loss"][0] for n in (1, 2, 3)
    )
    second, third = 2 * two - one, 3 * three - 2 * two
    assert len({round(loss, 6) for loss in (one, second, third)}) == 3
    with pytest.raises(ValueError, match=r"`n_networks` must be at least .* draws"):
        make(n_draws=4).fit(*tiny_bars)
    # Networks that are drawn again are as many as are asked for.
    assert make(RFADDistiller, n_draws=4).fit(*tiny_bars).n_draws_ == 4


def test_all_real_images_are_one_batch(tiny_bars):
    found = [make(n_real=n).fit(*tiny_bars).synthetic_.X for n in (None, 18, 16, 1000)]
    # 16 are 6 of each class, all that there are.
    assert all(np.array_equal(found[0], other) for other in found[1:])
    fewer = make(n_real=15).fit(*tiny_bars).synthetic_.X
    assert not np.array_equal(found[0], fewer)
    # Fewer than classes are one of each.
    assert np.isfinite(make(n_real=1).fit(*tiny_bars).synthetic_.X).all()


class OwnNetwork(nn.Module):
    """A module with a buffer, as users write them."""

    def __init__(self, image_shape, n_classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(image_shape[2], 3, 3), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.LazyLinear(n_classes)
        self.register_buffer("offset", torch.tensor(0.1))

    def forward(self, images):
        return self.head(self.body(images + self.offset))


@pytest.mark.parametrize("architecture", ["mlp", OwnNetwork])
def test_any_architecture_makes_features(tiny_bars, architecture, tmp_path):
    X, y = tiny_bars
    settings = {"architecture": architecture, "max_network_steps": 2}
    distiller = make(**settings, checkpoint=tmp_path, max_iter=2).fit(X, y)
    distiller.set_params(max_iter=4).fit(X, y)
    expected = make(**settings).fit(X, y)
    assert np.array_equal(distiller.synthetic_.X, expected.synthetic_.X)
    plain = make(max_network_steps=2).fit(X, y)
    assert not np.array_equal(plain.synthetic_.X, expected.synthetic_.X)
    copy = pickle.loads(pickle.dumps(distiller))
    model = copy._default_estimator()
    assert isinstance(model, NetworkClassifier)
    assert (model.loss, model.optimizer) == ("squared", "adam")
    has_entry = "default_estimator" in distiller.synthetic_.metadata
    assert has_entry == isinstance(architecture, str)
    copy.estimator = model.set_params(max_iter=2)
    assert 0 <= copy.score(X, y) <= 1


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (lambda *_: nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()), "Linear"),
        (
            lambda *_: nn.Sequential(
                nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3)
            ),
            "batch normalization",
        ),
        (nn.Linear(64, 3), "must accept images"),
        (lambda *_: 3, "must return a torch.nn.Module"),
        (lambda *_: nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), r"\(4, 3\)"),
        (lambda *_: nn.Sequential(nn.Flatten(), nn.Linear(63, 3)), "`architecture`"),
    ],
)
def test_architectures_that_cannot_be(tiny_bars, architecture, message, tmp_path):
    distiller = make(architecture=architecture, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        distiller.fit(*tiny_bars)
    # Before the work.
    assert not (tmp_path / "run").exists()


# How sets are scored


@pytest.mark.parametrize(
    ("n_images", "n_steps"),
    [(10, 1000), (100, 2000), (500, 5000), (1000, 10_000), (5000, 40_000)],
)
def test_networks_are_trained_for_as_many_steps_as_in_the_paper(n_images, n_steps):
    distiller = make(ipc=n_images // 10)
    distiller.classes_ = np.arange(10)
    distiller.image_shape_ = (8, 8, 1)
    distiller._mirrors = False
    network = distiller._default_estimator()
    n_batches = -(-n_images // network.batch_size)
    assert network.max_iter * n_batches == n_steps
    assert (network.loss, network.optimizer) == ("squared", "adam")
    assert network.learning_rate == 3e-4


def test_sets_say_themselves_how_they_are_scored(tiny_bars, tmp_path):
    fitted = make(max_iter=2).fit(*tiny_bars)
    fitted.synthetic_.save(tmp_path / "set.safetensors")
    found = SyntheticSet.load(tmp_path / "set.safetensors")
    said = found.metadata["default_estimator"]
    assert said["name"] == "ConvNetClassifier"
    assert said["max_iter"] == fitted._default_estimator().max_iter == 1000
    assert said["width"] == 4
    assert np.array_equal(found.targets, fitted.synthetic_.targets)


def test_digits():
    """Better than random digits, by far."""
    X, y = load_digits(return_X_y=True)
    X = ((X - 8) / 6).reshape(-1, 8, 8, 1).astype(np.float32)
    fitted, held_out = slice(0, 1200), slice(1200, None)
    network = ConvNetClassifier(
        width=16, depth=2, max_iter=100, augmentation=None, loss="squared",
        optimizer="adam", learning_rate=3e-3, device="cpu",
    )  # fmt: skip
    settings = {"width": 16, "depth": 2, "n_real": 100, "max_iter": 150}
    scores = {}
    for name, distiller in {
        "FRePo": make(**settings),
        "RFAD": make(RFADDistiller, **settings),
        "random": RandomSubset(1, random_state=0, device="cpu"),
    }.items():
        found = []
        for seed in range(3):
            distiller.set_params(random_state=seed).fit(X[fitted], y[fitted])
            found.append(
                evaluate_synthetic(
                    distiller.synthetic_,
                    X[held_out],
                    y[held_out],
                    estimator=network,
                    n_repeats=1,
                    random_state=seed,
                ).mean
            )
        scores[name] = np.array(found)
    errors = {name: found.std(ddof=1) / 3**0.5 for name, found in scores.items()}
    for name in ("FRePo", "RFAD"):
        gain = scores[name].mean() - scores["random"].mean()
        assert gain > 2 * np.hypot(errors[name], errors["random"]), scores
