import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skdistill.neural_network._convnet import (
    EPSILON,
    NORMALIZATIONS,
    Block,
    ConvNet,
    flatten_parameters,
    load_flat_parameters,
    n_parameters,
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
    ("image_shape", "n_classes", "expected"),
    [
        ((32, 32, 3), 10, 320_010),
        ((32, 32, 3), 100, 504_420),
        ((128, 128, 3), 9, 594_441),
    ],
)
def test_size_of_the_network_of_the_benchmarks(image_shape, n_classes, expected):
    with torch.device("meta"):
        network = ConvNet(image_shape, n_classes)
    assert n_parameters(network) == expected


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
    kinds = [type(layer) for layer in _network((16, 16, 3)).features]
    assert kinds == [nn.Conv2d, nn.GroupNorm, nn.ReLU, nn.AvgPool2d] * 3
    network = _network((16, 16, 3), normalization="none")
    kinds = [type(layer) for layer in network.features]
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


def _what_runs(network, images):
    """The blocks as they show in the shapes of what passes through the layers."""
    found, maps = [], images
    for layer in network.features:
        before, maps = maps.shape, layer(maps)
        if isinstance(layer, nn.Conv2d):
            assert maps.shape[2:] == before[2:]
            sides, channels = before[2:], (before[1], maps.shape[1])
            found.append(Block(*sides, *channels, 0, (1, 1)))
        elif isinstance(layer, nn.GroupNorm):
            assert layer.eps == EPSILON
            found[-1] = found[-1]._replace(n_groups=layer.num_groups)
        elif isinstance(layer, nn.AvgPool2d):
            found[-1] = found[-1]._replace(pool=layer.kernel_size)
    return found


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize(
    "shape", [(8, 8, 3), (7, 12, 1), (1, 1, 1), (1, 7, 2), (9, 1, 1), (2, 3, 5)]
)
def test_blocks_say_what_the_layers_do(shape, normalization):
    network = _network(shape, normalization=normalization, depth=4)
    expected = _what_runs(network, _images(shape))
    assert len(network.blocks) == len(expected) == 4
    for block, wanted in zip(network.blocks, expected, strict=True):
        assert block == wanted


def test_blocks_are_there_without_parameters():
    with torch.device("meta"):
        network = ConvNet((9, 6, 2), 3, width=5, depth=3, normalization="layer")
    # A side is not pooled below 4 pixels but in the last block, and not below 1 there.
    assert network.blocks == [
        Block(9, 6, 2, 5, 1, (2, 1)),
        Block(4, 6, 5, 5, 1, (1, 1)),
        Block(4, 6, 5, 5, 1, (2, 2)),
    ]
    for shape, pools in {
        (32, 32, 1): [(2, 2)] * 3,
        (16, 16, 1): [(2, 2)] * 3,
        (8, 8, 1): [(2, 2), (1, 1), (2, 2)],
        (1, 3, 1): [(1, 1), (1, 1), (1, 2)],
    }.items():
        with torch.device("meta"):
            network = ConvNet(shape, 3, width=5)
        assert [block.pool for block in network.blocks] == pools


def test_flatten_and_load_round_trip():
    network = _network()
    parameters = torch.arange(float(n_parameters(network))).double()
    before = parameters.clone()
    load_flat_parameters(network, parameters)
    assert torch.equal(flatten_parameters(network), parameters)
    first, second = network.features[0].weight, network.features[0].bias
    assert torch.equal(parameters[: first.numel()], first.flatten())
    assert torch.equal(parameters[first.numel() :][: second.numel()], second)
    nn.init.zeros_(network.classifier.weight)
    assert torch.equal(parameters, before)
    assert all(parameter.requires_grad for parameter in network.parameters())


@settings(max_examples=25)
@given(
    image_shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
    n_classes=st.integers(2, 5),
    width=st.integers(1, 5),
    depth=st.integers(1, 3),
    normalization=st.sampled_from(sorted(NORMALIZATIONS)),
    seed=st.integers(0, 999),
)
def test_any_network_is_one_vector(
    image_shape, n_classes, width, depth, normalization, seed
):
    structure = {"width": width, "depth": depth, "normalization": normalization}
    one, other = (ConvNet(image_shape, n_classes, **structure) for _ in range(2))
    generator = torch.Generator().manual_seed(seed)
    parameters = torch.randn(n_parameters(one), generator=generator)
    load_flat_parameters(one, parameters)
    assert torch.equal(flatten_parameters(one), parameters)
    load_flat_parameters(other, flatten_parameters(one))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("difference", [-1, 1])
def test_vector_of_another_length(difference):
    network = _network()
    length = n_parameters(network) + difference
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
