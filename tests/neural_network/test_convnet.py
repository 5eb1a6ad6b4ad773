import numpy as np
import pytest
import torch
from torch import nn

from skdistill.neural_network._convnet import (
    NORMALIZATIONS,
    ConvNet,
    FlatNetwork,
    flatten_parameters,
    load_flat_parameters,
)


def _network(image_shape=(8, 8, 3), n_classes=4, **options):
    torch.manual_seed(0)
    return ConvNet(image_shape, n_classes, **{"width": 6, **options}).double()


def _images(image_shape=(8, 8, 3), n_samples=5):
    rows, columns, channels = image_shape
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(n_samples, channels, rows, columns)))


@pytest.fixture(autouse=True)
def _keep_global_generator():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize(
    ("image_shape", "n_classes", "n_parameters"),
    [
        ((32, 32, 3), 10, 320_010),
        ((32, 32, 3), 100, 504_420),
        ((128, 128, 3), 9, 594_441),
    ],
)
def test_size_of_the_network_of_the_benchmarks(image_shape, n_classes, n_parameters):
    with torch.device("meta"):
        network = ConvNet(image_shape, n_classes)
    assert FlatNetwork(network).n_parameters == n_parameters


def test_instance_normalization_is_that_of_torch():
    network = _network()
    layers = []
    for layer in network.features:
        if isinstance(layer, nn.GroupNorm):
            instance = nn.InstanceNorm2d(6, affine=True, eps=1e-5).double()
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
            instance.load_state_dict(layer.state_dict())
            layer = instance
        layers.append(layer)
    assert sum(isinstance(layer, nn.InstanceNorm2d) for layer in layers) == 3
    images = _images()
    expected = network.classifier(nn.Sequential(*layers)(images).flatten(1))
    torch.testing.assert_close(network(images), expected, rtol=1e-12, atol=1e-12)


def test_layer_normalization_is_over_the_whole_image():
    network = _network(normalization="layer", depth=1)
    convolution, norm = network.features[:2]
    maps = convolution(_images())
    expected = nn.functional.layer_norm(maps, maps.shape[1:], eps=1e-5)
    torch.testing.assert_close(norm(maps), expected, rtol=1e-10, atol=1e-10)


def test_blocks_are_those_of_the_literature():
    kinds = [type(layer) for layer in _network().features]
    assert kinds == [nn.Conv2d, nn.GroupNorm, nn.ReLU, nn.AvgPool2d] * 3
    kinds = [type(layer) for layer in _network(normalization="none").features]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.AvgPool2d] * 3


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 2), (9, 1, 1), (2, 3, 5)])
def test_small_images(shape, normalization):
    network = _network(shape, normalization=normalization, depth=4)
    images = _images(shape)
    logits = network(images)
    assert logits.shape == (5, 4)
    # No layer erases what tells the images apart, alone or in a batch.
    assert torch.cdist(logits, logits).fill_diagonal_(1).min() > 1e-6
    torch.testing.assert_close(network(images[:1]), logits[:1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_flat_network_is_the_module(normalization):
    network, images = _network(normalization=normalization), _images()
    flat = FlatNetwork(_network(normalization=normalization))
    parameters = flatten_parameters(network).requires_grad_()
    assert parameters.shape == (flat.n_parameters,)
    logits = flat(parameters, images)
    torch.testing.assert_close(logits, network(images), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(logits.square().sum(), parameters)
    network(images).square().sum().backward()
    expected = torch.cat([p.grad.reshape(-1) for p in network.parameters()])
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


def test_views_name_the_parameters():
    network = _network()
    views = dict(FlatNetwork(network).views(flatten_parameters(network)))
    assert list(views) == [name for name, _ in network.named_parameters()]
    for name, parameter in network.named_parameters():
        assert torch.equal(views[name], parameter)


def test_flat_network_needs_a_module_without_buffers():
    with pytest.raises(ValueError, match="a module with buffers is not a function"):
        FlatNetwork(nn.BatchNorm2d(3))


def test_flatten_and_load_round_trip():
    network = _network()
    parameters = torch.arange(float(FlatNetwork(network).n_parameters)).double()
    before = parameters.clone()
    load_flat_parameters(network, parameters)
    assert torch.equal(flatten_parameters(network), parameters)
    nn.init.zeros_(network.classifier.weight)
    assert torch.equal(parameters, before)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("difference", [-1, 1])
def test_vector_of_another_length(difference):
    network = _network()
    length = FlatNetwork(network).n_parameters + difference
    with pytest.raises((RuntimeError, ValueError), match=r"split|size|shape"):
        load_flat_parameters(network, torch.zeros(length))


@pytest.mark.parametrize("module", [_network(), nn.Linear(3, 1, bias=False)])
def test_snapshot_is_a_copy(module):
    snapshot = flatten_parameters(module)
    before = snapshot.clone()
    assert not snapshot.requires_grad
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert torch.equal(snapshot, before)
    assert torch.equal(flatten_parameters(module), before + 1)
