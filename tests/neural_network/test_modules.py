"""Modules and callables of users: how they are called, copied and given back."""

import copy
import pickle
import threading
from functools import lru_cache, partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from skdistill import DMDistiller, STMDistiller, TrajectoryBuffer
from skdistill.neural_network import ConvNetClassifier, NetworkClassifier
from skdistill.neural_network._module_features import ModuleFeatures
from skdistill.neural_network._modules import call_architecture, try_module
from skdistill.utils._metadata import qualified_name

SHAPE, N_CLASSES = (8, 6, 2), 3


def linear(channels, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(48 // 2 * channels * 2, n_classes))


def ours(image_shape, n_classes):
    assert image_shape == SHAPE
    return linear(2, n_classes)


def ours_by_another_name(input_shape, num_classes):
    return ours(input_shape, num_classes)


def of_torchvision(*, weights=None, progress=True, **kwargs):
    assert weights is None
    return linear(2, n_classes=kwargs["num_classes"])


def of_one(num_classes):
    return linear(2, num_classes)


def of_ours_alone(n_classes):
    return linear(2, n_classes)


def with_default(num_classes=1000, dropout=0.5):
    assert dropout == 0.5
    return linear(2, num_classes)


def of_channels(in_channels, num_classes):
    return linear(in_channels, num_classes)


def of_timm(num_classes=1000, in_chans=3):
    return linear(in_chans, num_classes)


def before_channels(image_shape, num_classes, n_channels=16):
    assert n_channels == 16
    return ours(image_shape, num_classes)


def after_an_option(pretrained=False, num_classes=1000):
    assert pretrained is False
    return linear(2, num_classes)


def after_options(width=4, bias=True, n_classes=1000):
    assert (width, bias) == (4, True)
    return linear(2, n_classes)


def by_default(image_shape=(32, 32, 3), n_classes=10):
    return ours(image_shape, n_classes)


class OfTorchvision(nn.Sequential):
    def __init__(self, num_classes=1000):
        super().__init__(*linear(2, num_classes))


class WithoutGradient(OfTorchvision):
    def __init__(self):
        super().__init__(N_CLASSES)

    @torch.no_grad()
    def forward(self, images):
        return super().forward(images)


class Keeping(WithoutGradient):
    def forward(self, images):
        self.kept = OfTorchvision.forward(self, images)
        return self.kept


class Method:
    def build(self, image_shape, n_classes):
        return ours(image_shape, n_classes)

    def __call__(self, image_shape, n_classes):
        return ours(image_shape, n_classes)


@pytest.mark.parametrize(
    "architecture",
    [
        ours,
        ours_by_another_name,
        of_torchvision,
        partial(of_torchvision, progress=False),
        of_one,
        of_ours_alone,
        with_default,
        of_channels,
        of_timm,
        before_channels,
        after_an_option,
        partial(after_an_option, pretrained=False),
        after_options,
        by_default,
        OfTorchvision,
        Method(),
        Method().build,
        lambda *args: ours(*args),
        lambda **options: of_torchvision(**options),
    ],
)
def test_callables_get_what_they_ask_for(architecture):
    module = call_architecture(architecture, SHAPE, N_CLASSES)
    assert module(torch.zeros(2, 2, 8, 6)).shape == (2, N_CLASSES)


def test_names_say_where_a_callable_is_from():
    assert qualified_name(ours).endswith("test_modules.ours")
    assert qualified_name(partial(ours)) == qualified_name(ours)
    assert qualified_name(nn.Linear(2, 2)) == qualified_name(nn.Linear)
    assert qualified_name(Method()).endswith(".Method")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(24, *SHAPE)).astype(np.float32)
    y = np.arange(24) % N_CLASSES
    X[np.arange(24), y] += 2
    return X, y


def module():
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(4 * 48, N_CLASSES),
    )


def classifier(architecture, **parameters):
    settings = {"max_iter": 5, "random_state": 0, "device": "cpu", "batch_size": 8}
    return NetworkClassifier(architecture, **(settings | parameters))


def test_a_module_is_copied_and_drawn_anew(data):
    given = module()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    network = classifier(given).fit(*data)
    assert network.score(*data) > 0.9
    after = given.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    # Its weights do not matter.
    with torch.no_grad():
        for part in given.parameters():
            part.fill_(7)
    again = clone(network).fit(*data)
    np.testing.assert_array_equal(again.parameters_, network.parameters_)
    other = classifier(given, random_state=1).fit(*data)
    assert not np.array_equal(other.parameters_, network.parameters_)


def test_frozen_parameters_of_a_module_stay(data):
    given = module()
    given[0].requires_grad_(False)
    found = classifier(given, weight_decay=0.1).fit(*data).module_
    assert torch.equal(found[0].weight, given[0].weight)
    assert not torch.equal(found[-1].weight, given[-1].weight)


def test_statistics_of_frozen_layers_stay():
    given = module()
    given[:2].requires_grad_(False)
    given[1].running_mean[:] = 3
    for frozen, expected in ((True, 3), (False, 0)):
        given[1].requires_grad_(not frozen)
        found = call_architecture(given, SHAPE, N_CLASSES)
        assert (found[1].running_mean == expected).all()
        assert (given[1].running_mean == 3).all()


@pytest.mark.parametrize("kind", ["module", "callable", "name", "convnet"])
def test_module_is_the_trained_network(data, kind):
    X, y = data
    if kind == "convnet":
        network = ConvNetClassifier(width=4, depth=1, max_iter=3, device="cpu")
    else:
        architecture = {"module": module(), "callable": ours, "name": "mlp"}[kind]
        network = classifier(architecture)
    with pytest.raises(NotFittedError):
        _ = network.module_
    assert not hasattr(network, "module_")
    network.fit(X, y)
    found = network.module_
    assert not found.training
    with torch.no_grad():
        logits = found(torch.from_numpy(X.transpose(0, 3, 1, 2).copy()))
        probabilities = logits.softmax(1).numpy()
        np.testing.assert_allclose(
            probabilities, network.predict_proba(X), rtol=1e-4, atol=1e-6
        )
        # It is the user's own.
        for part in found.parameters():
            part.zero_()
    np.testing.assert_allclose(
        probabilities, network.predict_proba(X), rtol=1e-4, atol=1e-6
    )
    assert "module_" not in vars(network)


def test_what_a_module_lacks_is_said_before_training(data):
    X, y = data
    with pytest.raises(ValueError, match=r"logits of shape .* \(2, 3\); got \(2, 7\)"):
        classifier(nn.Sequential(nn.Flatten(), nn.Linear(96, 7))).fit(X, y)
    given = module()
    given.register_parameter("scale", nn.Parameter(torch.ones(())))
    with pytest.raises(ValueError, match="initializes the parameter 'scale'; give"):
        classifier(given).fit(X, y)
    given = module()
    given.kept = threading.Lock()
    with pytest.raises(ValueError, match="a module Sequential, cannot be copied"):
        classifier(given).fit(X, y)
    with pytest.raises(ValueError, match="no gradient with respect to its parameters"):
        classifier(WithoutGradient()).fit(X, y)


@pytest.mark.parametrize("kind", ["complex64", "int64"])
def test_parameters_of_other_types_are_named(data, kind):
    given = nn.Sequential(nn.Flatten(), nn.Linear(96, N_CLASSES))
    values = torch.ones(2, dtype=getattr(torch, kind))
    given.register_parameter("table", nn.Parameter(values, requires_grad=False))
    for architecture in (given, lambda image_shape, n_classes: given):
        with pytest.raises(ValueError, match=f"'table' is of torch.{kind}: "):
            classifier(architecture).fit(*data)


def test_modules_may_be_on_other_devices(data):
    class Elsewhere(OfTorchvision):
        n_moved = 0

        def cpu(self):
            Elsewhere.n_moved += 1
            return super().cpu()

    for architecture in (Elsewhere(N_CLASSES), lambda s, n: Elsewhere(n)):
        n_moved = Elsewhere.n_moved
        call_architecture(architecture, SHAPE, N_CLASSES)
        assert Elsewhere.n_moved == n_moved + 1
    with torch.device("meta"):
        empty = OfTorchvision(N_CLASSES)
    for architecture in (empty, lambda s, n: empty):
        with pytest.raises(ValueError, match="is on the meta device: build"):
            classifier(architecture).fit(*data)


class Noisy(nn.Module):
    def __init__(self, image_shape, n_classes):
        super().__init__()
        self.last = nn.Linear(96, n_classes)

    def forward(self, images):
        return self.last(nn.functional.dropout(images.flatten(1), 0.5))


def test_predictions_that_draw_are_reproducible(data):
    X, y = data
    network = classifier(Noisy).fit(X, y)
    before = torch.get_rng_state()
    found = network.predict_proba(X)
    np.testing.assert_array_equal(network.predict_proba(X), found)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_module_that_a_callable_returns_again_is_not_changed(data):
    given = module()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    first = classifier(lambda image_shape, n_classes: given).fit(*data)
    second = clone(first).fit(*data)
    np.testing.assert_array_equal(first.parameters_, second.parameters_)
    after = given.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


class WithTables(nn.Module):
    """Pixels in a drawn order, filtered in Fourier space by a drawn table."""

    def __init__(self):
        super().__init__()
        self.order = torch.randperm(96)
        self.register_buffer("filter", torch.randn(49, dtype=torch.complex64))
        self.last = nn.Linear(96, N_CLASSES)

    def forward(self, images):
        spectrum = torch.fft.rfft(images.flatten(1)[:, self.order])
        return self.last(torch.fft.irfft(spectrum * self.filter))


def test_tables_are_those_of_the_training(data):
    X, y = data
    network = classifier(
        lambda image_shape, n_classes: WithTables(), max_iter=60, augmentation=None
    ).fit(X, y)
    assert network.score(X, y) > 0.9


class HeadFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, N_CLASSES)
        self.body = nn.Linear(96, 5)

    def forward(self, images):
        return self.head(input=self.body(images.flatten(1)).relu()).bfloat16()


def test_features_are_of_the_last_layer_that_is_called(data):
    X, y = data
    network = classifier(HeadFirst()).fit(X, y)
    found = network.module_
    logits = found.head(torch.from_numpy(network.extract_features(X))).bfloat16()
    np.testing.assert_array_equal(logits.argmax(1).numpy(), network.predict(X))


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(2, track_running_stats=False),
        nn.Softmax(dim=0),
    ],
)
def test_predictions_of_an_image_must_not_depend_on_others(data, layer):
    given = nn.Sequential(layer, nn.Flatten(), nn.Linear(96, N_CLASSES))
    with pytest.raises(ValueError, match=r"not in training; .* depend on the other im"):
        classifier(given).fit(*data)


class WithAuxiliary(OfTorchvision):
    """As Inception and GoogLeNet have it."""

    def forward(self, images):
        logits = super().forward(images)
        return (logits, logits) if self.training else logits


class Squeezed(OfTorchvision):
    def forward(self, images):
        return super().forward(images).squeeze()


def test_outputs_are_tried_in_training_and_of_one_image(data):
    with pytest.raises(ValueError, match=r"\(2, 3\) in training; got tuple"):
        classifier(WithAuxiliary).fit(*data)
    with pytest.raises(ValueError, match=r"\(1, 3\) of a single image; got \(3,\)"):
        classifier(Squeezed).fit(*data)


def test_last_batch_of_one_image(data):
    given = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(96), nn.Linear(96, N_CLASSES))
    for batch_size in (23, 1):
        with pytest.raises(ValueError, match=f"`batch_size`={batch_size} leaves one"):
            classifier(given, batch_size=batch_size).fit(*data)
        classifier(module(), batch_size=batch_size, max_iter=1).fit(*data)
    classifier(given, batch_size=22).fit(*data)


class OfGraph(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("edges", torch.eye(96).roll(1, 0).to_sparse())
        self.last = nn.Linear(96, N_CLASSES)

    def forward(self, images):
        return self.last((self.edges @ images.flatten(1).T).T)


def test_sparse_buffers(data):
    network = classifier(OfGraph(), max_iter=2).fit(*data)
    assert network.predict(data[0]).shape == data[1].shape
    assert ModuleFeatures(OfGraph(), torch.randn(2, 2, 8, 6)).n_features == 96


def test_buffers_without_a_value_are_no_divergence(data):
    given = nn.Sequential(nn.Flatten(), nn.Linear(96, N_CLASSES))
    given.register_buffer("unused", torch.full((2,), torch.nan))
    assert classifier(given).fit(*data).score(*data) > 0
    images = torch.randn(2, 2, 8, 6)
    assert ModuleFeatures(given, images).n_features == 96


class Standardizing(nn.Module):
    """It takes mean and deviation from the first images that it sees."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(2, 1, 1))
        self.register_buffer("std", torch.ones(2, 1, 1))
        self.register_buffer("has_seen", torch.tensor(False))
        self.last = nn.Linear(96, N_CLASSES)

    def forward(self, images):
        if not self.has_seen:
            self.mean.copy_(images.mean((0, 2, 3))[:, None, None])
            self.std.copy_(images.std((0, 2, 3))[:, None, None])
            self.has_seen.fill_(True)
        return self.last(((images - self.mean) / self.std).flatten(1))


def test_what_a_module_notes_in_training_is_kept(data):
    X, y = data
    network = classifier(Standardizing(), max_iter=20).fit(X, y)
    assert network.module_.has_seen
    expected = network.predict_proba(X)
    shifted = np.concatenate([X, 100 + X])
    np.testing.assert_allclose(network.predict_proba(shifted)[:24], expected, rtol=1e-5)
    stored = pickle.loads(pickle.dumps(network))
    np.testing.assert_array_equal(stored.predict_proba(X), expected)


def test_expanded_buffers(data):
    given = nn.Sequential(nn.Flatten(), nn.Linear(96, N_CLASSES))
    given.register_buffer("mean", torch.zeros(2, 1, 1).expand(SHAPE[::-1]))
    for architecture in (given, lambda *_: given):
        network = classifier(architecture).fit(*data)
        assert network.module_.mean.shape == SHAPE[::-1]


def test_images_are_not_changed_in_place():
    X = np.random.default_rng(0).normal(size=(64, 4, 4, 1)).astype(np.float32)
    y = np.arange(64) % N_CLASSES
    before = X.copy()
    given = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, N_CLASSES))
    classifier(given, max_iter=1).fit(X, y).predict(X)
    np.testing.assert_array_equal(X, before)


def test_a_module_may_keep_what_it_computed(data):
    """As those that show their attention do, which cannot be copied with a graph."""
    X, _ = data
    module = Keeping()
    try_module(module, X, N_CLASSES, torch.device("cpu"))
    assert copy.deepcopy(module).kept.shape[1] == N_CLASSES


def test_lazy_layers_get_their_shapes_in_a_prediction(data):
    X, y = data
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(N_CLASSES))
    for architecture in (lazy, lambda image_shape, n_classes: copy.deepcopy(lazy)):
        network = classifier(architecture).fit(X, y)
        predicted = network.predict(X)
        copied = clone(network)
        copied.__setstate__(network.__getstate__())
        assert np.array_equal(copied.predict(X), predicted)


def test_networks_of_torchvision(data):
    models = pytest.importorskip("torchvision.models")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 32, 32, 3)).astype(np.float32)
    y = np.arange(6) % 3
    network = classifier(models.squeezenet1_1, max_iter=1).fit(X, y)
    assert network.predict_proba(X).shape == (6, 3)
    assert isinstance(network.module_, models.SqueezeNet)
    with pytest.raises(ValueError, match=r"must accept images .*channels"):
        classifier(models.resnet18, max_iter=1).fit(data[0], data[1])
    with pytest.raises(ValueError, match=r"called with num_classes=3 it raised"):
        classifier(partial(models.resnet18, block=None), max_iter=1).fit(X, y)


class LateBuffers(nn.Module):
    """Buffers that are there only after the first call, as those of caches."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", None)
        self.last = nn.Linear(96, N_CLASSES)

    def forward(self, images):
        if self.mean is None:
            self.mean = images.mean((0, 2, 3), keepdim=True).detach()
            self.register_buffer("n_seen", torch.tensor(len(images)))
        return self.last((images - self.mean).flatten(1))


def late_buffers(image_shape, n_classes):
    return LateBuffers()


def test_buffers_of_the_first_call_are_kept(data):
    X, y = data
    for architecture in (LateBuffers(), late_buffers):
        network = classifier(architecture, max_iter=1).fit(X, y)
        expected = network.predict_proba(X)
        assert network.module_.n_seen == 2
        among_others = network.predict_proba(np.concatenate([X, 100 + X]))
        np.testing.assert_allclose(among_others[: len(X)], expected, rtol=1e-5)
        stored = pickle.loads(pickle.dumps(network))
        np.testing.assert_array_equal(stored.predict_proba(X), expected)


def test_modules_that_keep_what_they_computed_can_be_cloned(data):
    class Showing(OfTorchvision):
        def forward(self, images):
            self.kept = super().forward(images)
            return self.kept

    module = Showing(N_CLASSES)
    module(torch.zeros(2, 2, 8, 6))
    for estimator in (
        classifier(module),
        DMDistiller(architecture=module),
        STMDistiller(buffer=TrajectoryBuffer(architecture=module)),
    ):
        cloned = clone(estimator)
        owner = getattr(cloned, "buffer", cloned)
        assert owner.architecture is not module
        assert owner.architecture.kept.shape == (2, N_CLASSES)
    assert clone(classifier(module)).fit(*data).predict(data[0]).shape == (24,)
    module.lock = threading.Lock()
    with pytest.raises(ValueError, match=r"`architecture`.* cannot be copied"):
        clone(classifier(module))


def test_tables_of_a_prediction_serve_in_training(data):
    @lru_cache
    def table(n_numbers):
        return torch.linspace(0, 1, n_numbers)

    class WithTable(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.ones(96))
            self.last = nn.Linear(96, N_CLASSES)

        def forward(self, images):
            return self.last(images.flatten(1) * (self.factor * table(96)))

    network = classifier(lambda *_: WithTable()).fit(*data)
    table.cache_clear()
    expected = network.predict_proba(data[0])
    np.testing.assert_array_equal(network.fit(*data).predict_proba(data[0]), expected)


class Shuffling(nn.Module):
    def __init__(self, order, weight=None, *, as_buffer=False):
        super().__init__()
        self.last = nn.Linear(96, N_CLASSES)
        if weight is not None:
            self.last.weight.data.copy_(torch.from_numpy(weight))
        if as_buffer:
            self.register_buffer("order", torch.as_tensor(order))
        else:
            self.order = order

    def forward(self, images):
        return self.last(images.flatten(1)[:, self.order])


def test_draws_of_other_generators_are_told(data):
    rng = np.random.default_rng(0)
    tables = classifier(lambda *_: Shuffling(rng.permutation(96)))
    distiller = DMDistiller(architecture=tables.architecture, max_iter=1)
    teachers = TrajectoryBuffer(architecture=tables.architecture)
    for estimator in (tables, distiller, teachers):
        with pytest.raises(ValueError, match="drawn by another random generator"):
            estimator.fit(*data)
    # A buffer is kept by a classifier, and a module is there once.
    kept = classifier(lambda *_: Shuffling(rng.permutation(96), as_buffer=True))
    kept.set_params(max_iter=30).fit(*data)
    assert kept.score(*data) > 0.9
    classifier(Shuffling(rng.permutation(96))).fit(*data)
    classifier(lambda *_: Shuffling(torch.randperm(96))).fit(*data)
    weights = classifier(
        lambda *_: Shuffling(slice(None), 0.1 * rng.normal(size=(N_CLASSES, 96)))
    )
    with pytest.warns(UserWarning, match="`random_state` does not decide on them"):
        weights.fit(*data)
    distiller.set_params(architecture=weights.architecture)
    with pytest.warns(UserWarning, match="`random_state` does not decide on them"):
        distiller.fit(*data)
