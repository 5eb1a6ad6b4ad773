"""Features and their pull-back, against the module and what autograd finds."""

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skdistill.neural_network import _convnet_features, _micro_batches
from skdistill.neural_network._convnet import (
    NORMALIZATIONS,
    POOLINGS,
    ConvNet,
    flatten_parameters,
    load_flat_parameters,
    n_parameters,
)
from skdistill.neural_network._convolution import Winograd
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.neural_network._feature_derivatives import Features
from skdistill.utils._workers import worker_threads

NORMALIZATIONS = (*NORMALIZATIONS, "group")


@dataclass
class Case:
    """A network and images."""

    module: ConvNet
    parameters: torch.Tensor
    images: torch.Tensor


def make_case(
    seed=0,
    shape=(6, 7, 2),
    n_classes=3,
    width=3,
    depth=2,
    n_samples=4,
    normalization="instance",
    pooling="average",
):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    with torch.device("meta"):
        module = ConvNet(
            shape,
            n_classes,
            width=width,
            depth=depth,
            normalization=normalization,
            pooling=pooling,
        )
    module = module.double().to_empty(device="cpu").requires_grad_(False)
    load_flat_parameters(module, 0.4 * normal(n_parameters(module)))
    height, columns, channels = shape
    images = normal(n_samples, channels, height, columns)
    return Case(module, flatten_parameters(module), images)


cases = st.builds(
    make_case,
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
    n_classes=st.integers(2, 4),
    width=st.integers(1, 8),
    depth=st.integers(1, 3),
    n_samples=st.integers(1, 6),
    normalization=st.sampled_from(NORMALIZATIONS),
    pooling=st.sampled_from(POOLINGS),
)


def relative_error(found, expected):
    # What is 0 but for rounding has no relative error.
    return float((found - expected).norm() / expected.norm().clamp_min(1e-3))


def in_micro_batches_of_one(monkeypatch):
    """One image per micro-batch from here on."""
    monkeypatch.setattr(_micro_batches, "_MAX_BYTES", 1)
    monkeypatch.setattr(_micro_batches, "_MIN_BYTES_TO_CUT", 1)


def held_bytes(tapes):
    storages = {
        part.untyped_storage().data_ptr(): part.untyped_storage().nbytes()
        for tape in tapes
        for block in tape
        for part in block
        if part is not None
    }
    return sum(storages.values())


def by_the_module(case, images):
    """Everything that can be asked for, from the layers of the module itself."""
    blocks, activations, maps, place = {}, {}, images, -1
    for layer in case.module.features:
        maps = layer(maps)
        if isinstance(layer, torch.nn.Conv2d):
            place += 1
        if isinstance(layer, torch.nn.ReLU):
            activations[place] = maps
        blocks[place] = maps
    embedding = blocks[place].flatten(1)
    return Features(embedding, case.module.classifier(embedding), blocks, activations)


def random_adjoints(features, seed, which=None):
    generator = torch.Generator().manual_seed(seed)
    adjoints = features.map(
        lambda tensor: torch.randn(
            tensor.shape, generator=generator, dtype=torch.float64
        )
    )
    return adjoints if which is None else replace(Features(), **which(adjoints))


def by_autograd(case, adjoints):
    images = case.images.clone().requires_grad_()
    found = by_the_module(case, images)
    wanted = Features(
        None if adjoints.embedding is None else found.embedding,
        None if adjoints.logits is None else found.logits,
        {place: found.blocks[place] for place in adjoints.blocks},
        {place: found.activations[place] for place in adjoints.activations},
    )
    product = sum(
        (a * b).sum() for a, b in zip(adjoints.tensors(), wanted.tensors(), strict=True)
    )
    return torch.autograd.grad(product, images)[0]


def assume_that_rounding_stays_small(case, adjoints):
    # The scores of a few pixels that are nearly equal make anything of a rounding
    # error: two right ways to compute differ too.
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(case.images.shape, generator=generator, dtype=torch.float64)
    moved = replace(case, images=case.images * (1 + 1e-14 * noise))
    expected = by_autograd(case, adjoints)
    assume(relative_error(by_autograd(moved, adjoints), expected) < 3e-13)


def all_places(case):
    places = range(len(case.module.blocks))
    return {"blocks": places, "activations": places}


SUBSETS = {
    "all": None,
    "embedding": lambda found: {"embedding": found.embedding},
    "logits": lambda found: {"logits": found.logits},
    "first block": lambda found: {"blocks": {0: found.blocks[0]}},
    "first activations": lambda found: {"activations": {0: found.activations[0]}},
    "maps": lambda found: {"blocks": found.blocks, "activations": found.activations},
}


@settings(max_examples=150)
@given(
    case=cases,
    seed=st.integers(0, 1000),
    subset=st.sampled_from(sorted(SUBSETS)),
    keep=st.booleans(),
    is_cut=st.booleans(),
    in_tiles=st.booleans(),
)
def test_features_and_pull_back_are_those_of_autograd(
    case, seed, subset, keep, is_cut, in_tiles
):
    expected = by_the_module(case, case.images)
    adjoints = random_adjoints(expected, seed, SUBSETS[subset])
    assume_that_rounding_stays_small(case, adjoints)
    network = ConvNetDerivatives(case.module)
    tapes = [] if keep else None
    with pytest.MonkeyPatch.context() as monkeypatch:
        if is_cut:
            in_micro_batches_of_one(monkeypatch)
        if in_tiles:
            monkeypatch.setattr(Winograd, "pays", lambda *sizes: True)
        found = network.features(
            case.parameters, case.images, **all_places(case), tapes=tapes
        )
        gradient = network.pull_back(
            case.parameters, case.images, adjoints, tapes=tapes
        )
    pairs = list(zip(found.tensors(), expected.tensors(), strict=True))
    assert len(pairs) == 2 + 2 * len(case.module.blocks)
    # Winograd's sums round ten times as much as the library's.
    limit = 1e-10 if in_tiles else 1e-12
    for a, b in pairs:
        assert a.shape == b.shape
        assert relative_error(a, b) <= limit
    assert gradient.shape == case.images.shape
    assert gradient.dtype == case.images.dtype
    assert relative_error(gradient, by_autograd(case, adjoints)) <= limit


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("shape", [(9, 8, 3), (4, 11, 1), (1, 6, 2), (1, 1, 3)])
def test_pull_back_of_every_kind_of_network(shape, normalization, pooling):
    case = make_case(
        shape=shape, normalization=normalization, pooling=pooling, width=8, depth=3
    )
    adjoints = random_adjoints(by_the_module(case, case.images), 1)
    network = ConvNetDerivatives(case.module)
    found = network.pull_back(case.parameters, case.images, adjoints)
    torch.testing.assert_close(
        found, by_autograd(case, adjoints), rtol=1e-9, atol=1e-11
    )


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_only_what_is_asked_for(normalization):
    case = make_case(depth=3, normalization=normalization)
    network = ConvNetDerivatives(case.module)
    found = network.features(case.parameters, case.images, blocks=[2], activations=[0])
    assert list(found.blocks) == [2]
    assert list(found.activations) == [0]
    assert torch.equal(found.blocks[2].flatten(1), found.embedding)
    assert network.n_features == found.embedding.shape[1]
    assert network.n_classes == found.logits.shape[1]
    plain = network.features(case.parameters, case.images)
    assert not plain.blocks
    assert not plain.activations
    assert torch.equal(plain.logits, found.logits)


def test_gradient_of_the_loss_is_a_pull_back():
    """The same of another method: the gradient along no parameters but the images."""
    case = make_case(depth=2)
    network = ConvNetDerivatives(case.module)
    logits = network.features(case.parameters, case.images).logits
    codes = torch.tensor([0, 2, 1, 2])
    residuals = (logits.softmax(1) - torch.eye(3)[codes]) / len(logits)
    found = network.pull_back(case.parameters, case.images, Features(logits=residuals))
    images = case.images.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(case.module(images), codes)
    expected = torch.autograd.grad(loss, images)[0]
    assert relative_error(found, expected) <= 1e-12


@settings(max_examples=50)
@given(case=cases, seed=st.integers(0, 1000), is_cut=st.booleans())
def test_mean_features_are_sums_over_classes(case, seed, is_cut):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(5, (len(case.images),), generator=generator)
    weights = torch.rand(len(codes), generator=generator, dtype=torch.float64)
    network = ConvNetDerivatives(case.module)
    places = all_places(case)
    with pytest.MonkeyPatch.context() as monkeypatch:
        if is_cut:
            in_micro_batches_of_one(monkeypatch)
        found = network.mean_features(
            case.parameters, case.images, codes, weights, n_groups=5, **places
        )
    single = by_the_module(case, case.images)
    for a, b in zip(found.tensors(), single.tensors(), strict=True):
        expected = torch.stack(
            [
                (weights[codes == code] * b[codes == code].movedim(0, -1)).sum(-1)
                for code in range(5)
            ]
        )
        assert a.shape == expected.shape
        assert relative_error(a, expected) <= 1e-9


def test_same_bits_for_any_number_of_threads(monkeypatch):
    case = make_case(shape=(8, 8, 3), n_samples=7)
    network = ConvNetDerivatives(case.module)
    in_micro_batches_of_one(monkeypatch)
    codes, weights = torch.arange(7) // 3, torch.rand(7, dtype=torch.float64)

    def everything():
        tapes = []
        at = case.parameters, case.images
        found = network.features(*at, **all_places(case), tapes=tapes)
        means = network.mean_features(*at, codes, weights, **all_places(case))
        gradients = [
            network.pull_back(*at, found, tapes=kept) for kept in (None, tapes)
        ]
        assert torch.equal(*gradients)
        return [*found.tensors(), *means.tensors(), *gradients]

    expected = everything()
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with worker_threads():
            found = everything()
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_bytes_of_feature_tapes_are_foretold(normalization, pooling):
    case = make_case(
        shape=(16, 24, 2),
        width=16,
        depth=3,
        n_samples=5,
        normalization=normalization,
        pooling=pooling,
    )
    network = ConvNetDerivatives(case.module)
    tapes = []
    network.features(case.parameters, case.images, tapes=tapes)
    foretold = network.feature_tape_bytes(5, torch.float64)
    # Not counted are the scales of the normalization.
    assert held_bytes(tapes) == pytest.approx(foretold, rel=0.02)
    assert 2 * network.feature_tape_bytes(5) == foretold


def test_mean_features_keep_no_maps(monkeypatch):
    """What a few micro-batches made is added up before others are computed."""
    case = make_case(shape=(8, 8, 1), n_samples=40)
    in_micro_batches_of_one(monkeypatch)
    counts = []
    real = _convnet_features.map_pieces

    def spy(function, pieces):
        counts.append(len(pieces))
        return real(function, pieces)

    monkeypatch.setattr(_convnet_features, "map_pieces", spy)
    codes = torch.zeros(40, dtype=torch.int64)
    weights = torch.ones(40, dtype=torch.float64)
    ConvNetDerivatives(case.module).mean_features(
        case.parameters, case.images, codes, weights
    )
    assert sum(counts) == 40
    assert max(counts) <= 2


def test_what_is_no_place_of_a_block():
    case = make_case(depth=2)
    network = ConvNetDerivatives(case.module)
    at = case.parameters, case.images
    with pytest.raises(ValueError, match=r"`blocks` must hold .* from 0 to 1; got 2"):
        network.features(*at, blocks=[0, 2])
    with pytest.raises(ValueError, match=r"`activations` must hold .* got -1"):
        network.mean_features(*at, None, None, activations=[-1])
    with pytest.raises(ValueError, match=r"`blocks` must hold .* got 5"):
        network.pull_back(*at, Features(blocks={5: case.images}))


def test_adjoints_that_do_not_fit():
    case = make_case()
    network = ConvNetDerivatives(case.module)
    at = case.parameters, case.images
    with pytest.raises(ValueError, match="at least one tensor; got none"):
        network.pull_back(*at, Features())
    for wrong in (
        Features(logits=torch.zeros(1, 3)),
        Features(embedding=torch.zeros(4, 3)),
        # Maps of one pixel would be spread over all of them.
        Features(blocks={0: torch.zeros(4, 3, 1, 1)}),
        Features(activations={1: torch.zeros(4, 3, 1, 1)}),
    ):
        with pytest.raises(ValueError, match=r"shapes of the features, here \(4, "):
            network.pull_back(*at, wrong)


def test_batch_normalization_is_refused():
    module = ConvNet((8, 8, 1), 2, normalization="batch", width=4)
    with pytest.raises(ValueError, match="batch normalization makes the features"):
        ConvNetDerivatives(module)


@pytest.mark.gpu
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gpu_finds_what_the_cpu_does(normalization, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    monkeypatch.setattr(_convnet_features, "_MAX_GPU_BYTES", 20_000)
    case = make_case(shape=(12, 13, 3), n_samples=6, normalization=normalization)
    codes, weights = torch.arange(6) // 2, torch.ones(6, dtype=torch.float64)
    network, found = ConvNetDerivatives(case.module), []
    for device in ("cpu", "cuda"):
        at = case.parameters.to(device), case.images.to(device)
        features = network.features(*at, **all_places(case))
        on = codes.to(device), weights.to(device)
        means = network.mean_features(*at, *on, **all_places(case))
        gradient = network.pull_back(*at, features)
        found.append([*features.tensors(), *means.tensors(), gradient])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b.cpu(), a, rtol=1e-9, atol=1e-9)
