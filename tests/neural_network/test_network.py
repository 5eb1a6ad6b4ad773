import pickle
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skdistill import ConvNetClassifier, NetworkClassifier
from skdistill.neural_network._architectures import ARCHITECTURES, build_network
from skdistill.neural_network._convnet import (
    ALL_NORMALIZATIONS,
    POOLINGS,
    ConvNet,
    flatten_parameters,
    load_flat_parameters,
    n_parameters,
    normalization_layer,
)


@pytest.fixture(scope="module")
def stripes():
    """Noisy images with horizontal and with vertical stripes."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = rng.normal(0, 0.3, size=(60, 8, 8, 3)).astype(np.float32)
    X[y == 0, ::2] += 1
    X[y == 1, :, ::2] += 1
    return X, np.array(["level", "upright"])[y]


def classifier(architecture, **parameters):
    defaults = {
        "width_multiplier": 0.1,
        "learning_rate": 0.02,
        "max_iter": 12,
        "batch_size": 20,
        "augmentation": None,
        "device": "cpu",
        "random_state": 0,
    }
    return NetworkClassifier(architecture, **(defaults | parameters))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_learns(architecture, stripes):
    X, y = stripes
    # A rate for all; the deepest without residuals bears no more.
    network = classifier(architecture, learning_rate=0.005, max_iter=30)
    network.fit(X[:40], y[:40])
    assert network.score(X[40:], y[40:]) > 0.9
    back = pickle.loads(pickle.dumps(network))
    np.testing.assert_array_equal(back.predict_proba(X), network.predict_proba(X))


@pytest.mark.parametrize(
    ("architecture", "normalization"),
    [
        *(("convnet", normalization) for normalization in ALL_NORMALIZATIONS),
        # So deep a network learns little without any.
        *(("resnet18", normalization) for normalization in ALL_NORMALIZATIONS[:2]),
        *(("resnet18", normalization) for normalization in ALL_NORMALIZATIONS[3:]),
    ],
)
def test_learns_with_each_normalization(architecture, normalization, stripes):
    X, y = stripes
    if architecture == "convnet":
        network = ConvNetClassifier(
            width=8,
            depth=2,
            learning_rate=0.05,
            max_iter=12,
            batch_size=20,
            augmentation=None,
            device="cpu",
            random_state=0,
        )
    else:
        network = classifier(architecture)
    network.set_params(normalization=normalization).fit(X[:40], y[:40])
    assert network.score(X[40:], y[40:]) > 0.9


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling(pooling, stripes):
    X, y = stripes
    network = ConvNetClassifier(
        width=8,
        depth=2,
        pooling=pooling,
        learning_rate=0.02,
        max_iter=15,
        batch_size=20,
        augmentation=None,
        device="cpu",
        random_state=0,
    ).fit(X[:40], y[:40])
    assert network.score(X[40:], y[40:]) > 0.9
    n_features = network.extract_features(X[:1]).shape[1]
    assert n_features == 8 * (64 if pooling == "none" else 4)
    kinds = {type(layer) for layer in network._build().features}
    assert (nn.MaxPool2d in kinds) == (pooling == "max")
    assert (nn.AvgPool2d in kinds) == (pooling == "average")


def test_sizes_of_the_literature():
    """Counted by hand from the published numbers of channels."""
    count = {
        name: n_parameters(build_network(name, (32, 32, 3), 10))
        for name in ARCHITECTURES
    }
    assert count["mlp"] == 3072 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10
    # 5x5 kernels twice, then 3x3 ones, on maps that end with 4x4 pixels.
    channels = [3, 128, 192, 256, 192, 192]
    kernels = [25, 25, 9, 9, 9]
    weights = sum(
        size * n_in * n_out + 3 * n_out
        for size, (n_in, n_out) in zip(kernels, pairwise(channels), strict=True)
    )
    assert count["alexnet"] == weights + 192 * 16 * 10 + 10
    channels = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    pairs = pairwise(channels)
    weights = sum(9 * n_in * n_out + 3 * n_out for n_in, n_out in pairs)
    assert count["vgg11"] == weights + 512 * 10 + 10
    # torchvision's ResNet18 has 11,689,512, of which 9408 and 513,000 are those of the
    # first kernel and of 1000 classes.
    assert count["resnet18"] == 11_689_512 - 9408 - 513_000 + 9 * 3 * 64 + 5130


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("image_shape", [(1, 1, 1), (1, 5, 2), (9, 7, 4), (33, 8, 1)])
@pytest.mark.parametrize("normalization", ALL_NORMALIZATIONS)
def test_images_of_any_shape(architecture, image_shape, normalization):
    module = build_network(
        architecture, image_shape, 3, width_multiplier=0.05, normalization=normalization
    )
    height, width, channels = image_shape
    outputs = module(torch.randn(2, channels, height, width))
    assert outputs.shape == (2, 3)
    assert outputs.isfinite().all()
    outputs.sum().backward()


@pytest.mark.parametrize("kind", ALL_NORMALIZATIONS)
def test_normalizations_against_their_definition(kind):
    x = torch.randn(5, 8, 4, 6, dtype=torch.float64) * 3 + 1
    layer = normalization_layer(kind, 8, 24).double()
    grouped = x.view(5, 4, 2, 4, 6)
    axes = {"instance": (2, 3), "layer": (1, 2, 3), "batch": (0, 2, 3)}
    if kind == "none":
        expected = x
    elif kind == "group":
        variance, mean = torch.var_mean(grouped, (2, 3, 4), False, keepdim=True)
        expected = ((grouped - mean) / (variance + 1e-5).sqrt()).view_as(x)
    else:
        variance, mean = torch.var_mean(x, axes[kind], False, keepdim=True)
        expected = (x - mean) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), expected)


def test_statistics_of_a_batch_normalization_are_kept(stripes):
    X, y = stripes
    network = classifier("resnet18", normalization="batch").fit(X, y)
    expected = network.predict_proba(X)
    np.testing.assert_array_equal(clone(network).fit(X, y).predict_proba(X), expected)
    module = network._build()
    fresh = flatten_parameters(module)
    assert len(fresh) > n_parameters(module)
    load_flat_parameters(module, torch.from_numpy(network.parameters_))
    assert torch.equal(
        flatten_parameters(module), torch.from_numpy(network.parameters_)
    )
    # Running means start at zero.
    n_statistics = len(fresh) - n_parameters(module)
    assert (network.parameters_[-n_statistics:] != fresh[-n_statistics:].numpy()).any()


class Dropping(nn.Module):
    """A module as a user writes one, with dropout and a table of its own."""

    def __init__(self, image_shape, n_classes):
        super().__init__()
        height, width, channels = image_shape
        table = torch.linspace(0.5, 1, height * width * channels)
        self.register_buffer("table", table, persistent=False)
        self.dropout = nn.Dropout(0.5)
        self.layer = nn.Linear(len(table), n_classes)

    def forward(self, images):
        return self.layer(self.dropout(images.flatten(1) * self.table))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("architecture", "mlp"),
        ("architecture", Dropping),
        ("width_multiplier", 0.2),
        ("normalization", "layer"),
    ],
)
def test_another_network_has_no_weights_of_this_one(stripes, name, value):
    X, y = stripes
    network = classifier("vgg11", max_iter=1).fit(X, y)
    before, fitted = network.predict_proba(X), network.get_params()[name]
    network.set_params(**{name: value})
    with pytest.raises(ValueError, match=f"`{name}`=.* must be that of fit"):
        network.predict(X)
    network.set_params(**{name: fitted}, learning_rate=0.5)
    np.testing.assert_array_equal(network.predict_proba(X), before)
    network.set_params(**{name: value}).fit(X, y).predict(X)


def test_any_module(stripes):
    X, y = stripes
    network = classifier(Dropping, max_iter=20).fit(X[:40], y[:40])
    assert network.score(X[40:], y[40:]) > 0.9
    # Seeded, and nobody's generator is moved.
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = clone(network).fit(X[:40], y[:40])
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(again.parameters_, network.parameters_)
    np.testing.assert_array_equal(again.predict_proba(X), again.predict_proba(X))
    other = clone(network).set_params(random_state=1).fit(X[:40], y[:40])
    assert (other.parameters_ != network.parameters_).any()
    assert pickle.loads(pickle.dumps(network)).score(X[40:], y[40:]) > 0.9


def test_what_is_no_module_is_refused(stripes):
    with pytest.raises(ValueError, match=r"must return a torch\.nn\.Module; got int"):
        classifier(lambda image_shape, n_classes: n_classes).fit(*stripes)
    with pytest.raises(ValueError, match="'architecture' parameter"):
        classifier("lenet").fit(*stripes)


@pytest.mark.parametrize("architecture", ["convnet", *ARCHITECTURES])
def test_features_make_the_logits(architecture, stripes):
    X, y = stripes
    if architecture == "convnet":
        network = ConvNetClassifier(width=4, depth=2, max_iter=2, device="cpu")
    else:
        network = classifier(architecture, max_iter=2)
    X, y = np.concatenate([X, X]), np.concatenate([y, y])  # more than one batch
    features = network.fit(X, y).extract_features(X)
    assert len(features) == len(X)
    module = network._structure(torch.device("cpu"))
    load_flat_parameters(module, torch.from_numpy(network.parameters_))
    last = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
    logits = torch.from_numpy(features) @ last.weight.T + last.bias
    np.testing.assert_allclose(
        logits.detach().softmax(dim=1).numpy(), network.predict_proba(X), atol=1e-5
    )


def test_modules_without_a_linear_layer_have_no_features(stripes):
    def build(image_shape, n_classes):
        return nn.Sequential(
            nn.Conv2d(image_shape[2], n_classes, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    network = classifier(build, max_iter=1).fit(*stripes)
    with pytest.raises(ValueError, match="no linear layer"):
        network.extract_features(stripes[0])


def test_defaults_are_the_network_of_before():
    """Teachers and students share their parameters' order."""
    torch.manual_seed(0)
    plain = ConvNet((8, 8, 3), 4, width=8)
    layers = [type(layer).__name__ for layer in plain.features]
    block = ["Conv2d", "GroupNorm", "ReLU"]
    assert layers == [*block, "AvgPool2d", *block, *block, "AvgPool2d"]


# Modules of users


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            lambda shape, n: nn.Sequential(nn.Flatten(), nn.Linear(32, n + 3)),
            r"\(n_images, n_classes\) = \(2, 3\); got \(2, 6\)",
        ),
        (
            lambda shape, n: nn.Sequential(nn.Flatten(), nn.Linear(32, n - 1)),
            r"got \(2, 2\)",
        ),
        (
            lambda shape, n: nn.Conv2d(shape[2], n, 4),
            r"got \(2, 3, 1, 1\)",
        ),
        (
            lambda shape, n: nn.Sequential(nn.Flatten(0), nn.Linear(64, n)),
            r"got \(3,\)",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(32, 4)),
            r"\(n_images, n_classes\) = \(2, 3\); got \(2, 4\)",
        ),
        (
            lambda shape, n: nn.Sequential(nn.Flatten(), nn.Linear(7, n)),
            r"must accept images .*for \(2, 2, 4, 4\) its module raised RuntimeError",
        ),
        (nn.Sigmoid, r"raised TypeError.*\.  Pass an instance of the class"),
        (lambda shape: nn.Flatten(), r"called with \(4, 4, 2\) and 3 it raised Type"),
        (
            lambda shape, n: nn.LSTM(4, 4),
            "must accept images|must return a tensor of logits",
        ),
        (
            lambda shape, n: nn.Sequential(nn.Flatten(), Infinite(), nn.Linear(32, n)),
            "must return finite logits; the new module returns",
        ),
        (
            lambda shape, n: nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), Repeated(n)),
            "with trainable parameters; it has none",
        ),
        (lambda shape, n: "resnet", "must return a torch.nn.Module; got str"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_first_step(
    architecture, message, monkeypatch
):
    X, y = np.random.default_rng(0).normal(size=(9, 4, 4, 2)), np.arange(9) % 3
    monkeypatch.setattr(
        "skdistill.neural_network._base.train_epochs",
        lambda *args, **options: pytest.fail("training has begun"),
    )
    with pytest.raises(ValueError, match=f"(?s)`architecture` .*{message}|{message}"):
        NetworkClassifier(architecture).fit(X, y)


class Infinite(nn.Module):
    def forward(self, images):
        return images / 0


class Repeated(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.n = n

    def forward(self, rows):
        return rows[:, :1].repeat(1, self.n)


def test_probabilities_that_are_taken_for_logits_are_told():
    X, y = np.random.default_rng(0).normal(size=(9, 4, 4, 2)), np.arange(9) % 3

    def of(*last):
        return NetworkClassifier(
            lambda shape, n: nn.Sequential(nn.Flatten(), nn.Linear(32, n), *last),
            max_iter=1,
        )

    with pytest.warns(UserWarning, match="as after a softmax") as caught:
        of(nn.Softmax(1)).fit(X, y)
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of().fit(X, y)
        of(nn.LogSoftmax(1)).fit(X, y)


def test_lazy_layers_are_like_others():
    X, y = np.random.default_rng(0).normal(size=(9, 4, 4, 2)), np.arange(9) % 3

    def of(kind):
        return NetworkClassifier(
            lambda shape, n: nn.Sequential(nn.Flatten(), kind(n)),
            max_iter=2,
            random_state=0,
        )

    lazy = of(nn.LazyLinear).fit(X, y)
    again = pickle.loads(pickle.dumps(clone(lazy).fit(X, y).parameters_))
    np.testing.assert_array_equal(again, lazy.parameters_)
    plain = of(lambda n: nn.Linear(32, n)).fit(X, y)
    assert lazy.parameters_.shape == plain.parameters_.shape
    assert lazy.predict_proba(X).shape == (9, 3)
