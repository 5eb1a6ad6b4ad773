"""The derivatives written out, against those that autograd finds."""

import warnings
from dataclasses import dataclass, fields, replace
from functools import partial

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from skdistill.neural_network import _micro_batches
from skdistill.neural_network._convnet import NORMALIZATIONS as OF_TEACHERS
from skdistill.neural_network._convnet import ConvNet, n_parameters
from skdistill.neural_network._convolution import Direct, Winograd
from skdistill.neural_network._derivatives import (
    LOSSES,
    ConvNetDerivatives,
    Curvature,
)

NORMALIZATIONS = (*OF_TEACHERS, "group")
POOLINGS = ("average", "max", "none")
NAMES = ["gradient", *Curvature._fields]


@dataclass
class Case:
    """What the derivatives take, and the loss written out plainly."""

    module: ConvNet
    parameters: torch.Tensor
    direction: torch.Tensor
    images: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor | None = None
    loss: str = "cross_entropy"

    def to(self, *args):
        tensors = {
            field.name: getattr(self, field.name).to(*args)
            for field in fields(self)
            if isinstance(getattr(self, field.name), torch.Tensor)
        }
        return replace(self, **tensors)

    def logits(self, parameters, images):
        named = dict(self.module.named_parameters())
        parts = parameters.split([part.numel() for part in named.values()])
        views = {
            name: part.view(named[name].shape)
            for name, part in zip(named, parts, strict=True)
        }
        return functional_call(self.module, views, (images,))

    def by_autograd(self):
        """The gradient, its product with the direction, and the three derivatives."""
        leaves = [
            tensor.clone().requires_grad_()
            for tensor in (self.images, self.targets, self.parameters)
        ]
        images, targets, parameters = leaves
        logits = self.logits(parameters, images)
        if self.loss == "squared":
            losses = (logits - targets).square().sum(1) / 2
        else:
            losses = -(targets * logits.log_softmax(1)).sum(1)
        if self.weights is not None:
            losses = self.weights * losses
        loss = losses.mean()
        (gradient,) = torch.autograd.grad(loss, parameters, create_graph=True)
        product = gradient @ self.direction
        found = torch.autograd.grad(product, leaves)
        return [gradient.detach(), product.detach(), *found]

    def written_out(self, network=None, keep=False):
        """The same of the class that is tested."""
        if network is None:
            network = ConvNetDerivatives(self.module, loss=self.loss)
        at = self.images, self.targets
        options = {"weights": self.weights, "tapes": [] if keep else None}
        gradient = network.gradient(self.parameters, *at, **options)
        found = network.curvature(self.parameters, self.direction, *at, **options)
        return [gradient, *found]


def make_case(
    seed=0,
    shape=(6, 7, 2),
    n_classes=3,
    width=3,
    depth=2,
    n_samples=4,
    normalization="instance",
    targets="weights",
    pooling="average",
    loss="cross_entropy",
    is_weighted=False,
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
    height, columns, channels = shape
    wanted = normal(n_samples, n_classes)
    if targets == "probabilities":
        wanted = wanted.softmax(1)
    elif targets == "one-hot":
        wanted = torch.eye(n_classes, dtype=torch.float64)[wanted.argmax(1)]
    return Case(
        module,
        0.4 * normal(n_parameters(module)),
        normal(n_parameters(module)),
        normal(n_samples, channels, height, columns),
        wanted,
        # Any sign: nothing is taken for granted.
        normal(n_samples) if is_weighted else None,
        loss,
    )


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
    # Any number may stand for the weight of a class, a negative one too.
    targets=st.sampled_from(["probabilities", "one-hot", "weights"]),
    loss=st.sampled_from(LOSSES),
    is_weighted=st.booleans(),
)


def relative_error(found, expected):
    # What is 0 but for rounding has no relative error.
    return float((found - expected).norm() / expected.norm().clamp_min(1e-3))


def largest_error(found, expected):
    pairs = list(zip(found, expected, strict=True))
    assert len(pairs) == len(NAMES)
    for a, b in pairs:
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert not a.requires_grad
    return max(relative_error(a, b) for a, b in pairs)


def assume_that_rounding_stays_small(case):
    # The scores of a few pixels that are nearly equal make anything of a rounding
    # error: two right ways to compute differ too.
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(case.parameters.shape, generator=generator, dtype=torch.float64)
    change = 1e-12
    moved = replace(case, parameters=case.parameters * (1 + change * noise))
    assume(largest_error(moved.by_autograd(), case.by_autograd()) < 1e4 * change)


def in_micro_batches_of_one(monkeypatch):
    """One image per micro-batch from here on."""
    monkeypatch.setattr(_micro_batches, "_MAX_BYTES", 1)
    monkeypatch.setattr(_micro_batches, "_MIN_BYTES_TO_CUT", 1)


@settings(max_examples=150)
@given(case=cases, keep=st.booleans())
def test_derivatives_are_those_of_autograd(case, keep):
    assume_that_rounding_stays_small(case)
    assert largest_error(case.written_out(keep=keep), case.by_autograd()) <= 1e-9


@settings(max_examples=40)
@given(case=cases, keep=st.booleans())
def test_derivatives_do_not_depend_on_how_it_convolves(case, keep):
    """Small networks are convolved directly: here all of them are not."""
    assume_that_rounding_stays_small(case)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Winograd, "pays", lambda *sizes: True)
        found = case.written_out(keep=keep)
    assert largest_error(found, case.by_autograd()) <= 1e-9
    assert largest_error(found, case.written_out(keep=keep)) <= 1e-9


def test_wide_networks_convolve_in_tiles(monkeypatch):
    used = []
    real = Winograd.convolve

    def spy(self, *pairs):
        used.append(len(pairs))
        return real(self, *pairs)

    monkeypatch.setattr(Winograd, "convolve", spy)
    case = make_case(shape=(16, 16, 3), width=32, depth=3, n_samples=2)
    assert largest_error(case.written_out(), case.by_autograd()) <= 1e-9
    # The second and third block: in the gradient, once more, and along a direction.
    assert used == [1, 1, 1, 1, 2, 2]
    # What is compiled leaves the choice to the library.
    compiled = ConvNetDerivatives(case.module, compile=True)
    for convolution in compiled._convolutions(torch.device("cpu")):
        assert isinstance(convolution, Direct)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 3), (1, 6, 2), (7, 1, 1), (2, 3, 1), (9, 8, 4)]
)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_derivatives_of_every_kind_of_shape(shape, depth, normalization):
    """Sides that are no longer pooled, and maps of a pixel, which are not normalized.

    Each output is compared: two pixels make scores of nearly 1 and -1, whose
    derivatives are small but not nothing.
    """
    case = make_case(shape=shape, depth=depth, normalization=normalization, width=4)
    found, expected = case.written_out(), case.by_autograd()
    for name, a, b in zip(NAMES, found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11, msg=name)


def test_curvature_is_the_slope_of_the_gradient():
    """Finite differences, which share nothing with either form."""
    case = make_case(seed=3, shape=(5, 6, 2), normalization="layer")
    network = ConvNetDerivatives(case.module)
    found = network.curvature(
        case.parameters, case.direction, case.images, case.targets
    )
    generator = torch.Generator().manual_seed(1)
    step = 1e-6

    def product(at):
        return case.direction @ network.gradient(at.parameters, at.images, at.targets)

    assert float(found.product) == pytest.approx(float(product(case)), rel=1e-12)
    for name in ("images", "targets", "parameters"):
        point, slopes = getattr(case, name), getattr(found, name)
        way = torch.randn(point.shape, generator=generator, dtype=torch.float64)
        after, before = (
            product(replace(case, **{name: point + sign * step * way}))
            for sign in (1, -1)
        )
        assert float((slopes * way).sum()) == pytest.approx(
            float(after - before) / (2 * step), rel=1e-6, abs=1e-8
        )


@settings(max_examples=50)
@given(case=cases, keep=st.booleans(), size=st.integers(1, 4))
def test_micro_batches_change_nothing_but_rounding(case, keep, size):
    assume_that_rounding_stays_small(case)
    whole = case.written_out()
    largest = max(
        block.height * block.width * block.out_channels for block in case.module.blocks
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(_micro_batches, "_MAX_BYTES", 4 * largest * size)
        monkeypatch.setattr(_micro_batches, "_MIN_BYTES_TO_CUT", 1)
        assert largest_error(case.written_out(keep=keep), whole) <= 1e-10


@pytest.mark.parametrize("n_samples", [1, 2, 7])
def test_micro_batches_are_taken_apart(n_samples, monkeypatch):
    case = make_case(n_samples=n_samples)
    network = ConvNetDerivatives(case.module)
    whole, single = [], []
    network.gradient(case.parameters, case.images, case.targets, tapes=whole)
    in_micro_batches_of_one(monkeypatch)
    network.gradient(case.parameters, case.images, case.targets, tapes=single)
    assert [len(tape.features) for tape in whole] == [n_samples]
    assert [len(tape.features) for tape in single] == [1] * n_samples
    apart = torch.cat([tape.features for tape in single])
    torch.testing.assert_close(apart, whole[0].features, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_kept_tapes_give_the_same_bits(normalization, monkeypatch):
    case = make_case(normalization=normalization)
    for _ in range(2):
        recomputed, kept = case.written_out(), case.written_out(keep=True)
        assert all(map(torch.equal, kept, recomputed))
        in_micro_batches_of_one(monkeypatch)


@settings(max_examples=50)
@given(case=cases)
def test_kept_tapes_give_the_same_derivatives(case):
    assume_that_rounding_stays_small(case)
    assert largest_error(case.written_out(keep=True), case.written_out()) <= 1e-10


def test_tapes_serve_more_than_once():
    case = make_case()
    network = ConvNetDerivatives(case.module)
    at = case.images, case.targets
    tapes = []
    network.gradient(case.parameters, *at, tapes=tapes)
    first = network.curvature(case.parameters, case.direction, *at, tapes=tapes)
    network.curvature(case.parameters, -case.direction, *at, tapes=tapes)
    again = network.curvature(case.parameters, case.direction, *at, tapes=tapes)
    assert all(map(torch.equal, again, first))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_what_is_not_asked_for_changes_nothing_else(normalization):
    case = make_case(normalization=normalization)
    network = ConvNetDerivatives(case.module)
    at = case.parameters, case.direction, case.images, case.targets
    whole = network.curvature(*at)
    part = network.curvature(*at, with_parameters=False)
    assert whole.parameters.shape == (network.n_parameters,)
    assert part.parameters.shape == (0,)
    for name in ("product", "images", "targets"):
        assert torch.equal(getattr(part, name), getattr(whole, name))


def test_another_loss_is_refused():
    module = make_case().module
    with pytest.raises(ValueError, match=r"`loss` must be one of .* got 'hinge'"):
        ConvNetDerivatives(module, loss="hinge")


def test_squared_loss_by_hand():
    """Logits that are those of the bias alone, of a network without weights."""
    case = make_case(n_classes=2, n_samples=2, loss="squared")
    parameters = torch.zeros_like(case.parameters)
    parameters[-2:] = torch.tensor([1.0, -2.0])
    targets = torch.tensor([[3.0, -1.0], [-1.0, 0.5]], dtype=torch.float64)
    network = ConvNetDerivatives(case.module, loss="squared")
    gradient = network.gradient(parameters, case.images, targets)
    assert gradient[-2:].tolist() == [(-2 + 2) / 2, (-1 - 2.5) / 2]
    weights = torch.tensor([3.0, 0.0], dtype=torch.float64)
    gradient = network.gradient(parameters, case.images, targets, weights=weights)
    assert gradient[-2:].tolist() == [-3.0, -1.5]


def test_curvature_is_linear_in_the_direction():
    case = make_case(normalization="layer")
    network = ConvNetDerivatives(case.module)
    twice = network.curvature(
        case.parameters, 2 * case.direction, case.images, case.targets
    )
    zero = network.curvature(
        case.parameters, 0 * case.direction, case.images, case.targets
    )
    once = case.written_out()[1:]
    for a, b, c in zip(twice, once, zero, strict=True):
        torch.testing.assert_close(a, 2 * b, rtol=1e-12, atol=1e-12)
        assert not c.any()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_single_precision_agrees_with_double(normalization):
    n_compared = 0
    for seed in range(20):
        case = make_case(seed=seed, normalization=normalization)
        if smallest_input_of_a_relu(case) < 1e-4:
            # It may be positive in one precision and negative in the other.
            continue
        n_compared += 1
        single = case.to(torch.float32).written_out()
        double = [x.float() for x in case.written_out()]
        assert largest_error(single, double) <= 1e-4
    assert n_compared >= 5


def smallest_input_of_a_relu(case):
    smallest = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, inputs: smallest.append(float(inputs[0].abs().min()))
        )
        for layer in case.module.features
        if isinstance(layer, torch.nn.ReLU)
    ]
    case.logits(case.parameters, case.images)
    for hook in hooks:
        hook.remove()
    assert smallest
    return min(smallest)


def held_bytes(tapes):
    """The bytes of the storages of all tensors in nested tuples and lists."""
    storages = {}

    def visit(found):
        if isinstance(found, torch.Tensor):
            storage = found.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(found, (list, tuple)):
            for part in found:
                visit(part)

    visit(tapes)
    return sum(storages.values())


def bytes_of_tapes(case):
    tapes = []
    network = ConvNetDerivatives(case.module)
    network.gradient(case.parameters, case.images, case.targets, tapes=tapes)
    return held_bytes(tapes)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_bytes_of_tapes_are_those_foretold(normalization):
    n_samples, n_classes, width, depth = 10, 3, 6, 3
    case = make_case(
        shape=(16, 24, 2),
        n_classes=n_classes,
        width=width,
        depth=depth,
        n_samples=n_samples,
        normalization=normalization,
    )
    network = ConvNetDerivatives(case.module)
    foretold = network.tape_bytes(n_samples, torch.float64)
    # Not counted are logits, probabilities and residuals of the classes, and what
    # normalization has of each image: a scale, an offset and a slope.
    uncounted = 3 * n_classes
    uncounted += {
        "instance": 3 * depth * width,
        "layer": 3 * depth,
        "none": 0,
        "group": 3 * depth * width,
    }[normalization]
    assert bytes_of_tapes(case) - foretold == 8 * n_samples * uncounted


@settings(max_examples=50)
@given(
    case=st.builds(
        make_case,
        shape=st.tuples(st.integers(8, 20), st.integers(8, 20), st.integers(1, 4)),
        width=st.integers(4, 16),
        depth=st.integers(1, 3),
        n_samples=st.integers(1, 6),
        normalization=st.sampled_from(NORMALIZATIONS),
    )
)
def test_bytes_of_tapes_are_foretold_for_any_network(case):
    n_samples = len(case.images)
    foretold = ConvNetDerivatives(case.module).tape_bytes(n_samples, torch.float64)
    assert bytes_of_tapes(case) == pytest.approx(foretold, rel=0.15)


def test_bytes_of_tapes_are_the_same_in_portions(monkeypatch):
    case = make_case()
    whole = bytes_of_tapes(case)
    in_micro_batches_of_one(monkeypatch)
    assert bytes_of_tapes(case) == whole


@given(case=cases, n_samples=st.integers(1, 1000), factor=st.integers(1, 1000))
def test_bytes_of_tapes_grow_in_proportion_to_the_images(case, n_samples, factor):
    network = ConvNetDerivatives(case.module)
    assert network.tape_bytes(n_samples * factor) == factor * network.tape_bytes(
        n_samples
    )
    assert isinstance(network.tape_bytes(1), int)
    # Of half the precision by default.
    assert 2 * network.tape_bytes(1) == network.tape_bytes(1, torch.float64)


@pytest.fixture
def compile_quickly(monkeypatch):
    """Trace and differentiate as the real compiler does, but generate no code."""
    torch.compiler.reset()
    # A full graph: what cannot be traced must not run in Python instead, unnoticed.
    quick = partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", quick)
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("compile_quickly")
@pytest.mark.parametrize(
    ("shape", "normalization", "depth"),
    [
        ((6, 7, 2), "instance", 2),
        ((5, 4, 1), "layer", 2),
        ((6, 7, 2), "none", 2),
        ((1, 1, 2), "instance", 1),
    ],
)
def test_compiled_form_is_the_same(shape, normalization, depth):
    case = make_case(shape=shape, normalization=normalization, depth=depth)
    if depth == 1:
        case = replace(case, loss="squared", weights=torch.rand(4).double())
    compiled = ConvNetDerivatives(case.module, compile=True, loss=case.loss)
    expected = case.written_out()
    for keep in (False, True):
        found = case.written_out(compiled, keep=keep)
        assert largest_error(found, expected) <= 1e-12


@pytest.mark.gpu
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gpu_finds_what_the_cpu_does(normalization):
    if not torch.cuda.is_available():
        pytest.skip("only CUDA's compiler is known to work")
    case = make_case(
        shape=(12, 13, 3), width=8, depth=3, n_samples=6, normalization=normalization
    )
    expected, on_gpu = case.written_out(), case.to("cuda")
    torch.compiler.reset()
    for compiled in (False, True):
        network = ConvNetDerivatives(case.module, compile=compiled)
        for keep in (False, True):
            found = on_gpu.written_out(network, keep=keep)
            assert all(x.device.type == "cuda" for x in found)
            assert largest_error([x.cpu() for x in found], expected) <= 1e-9
    torch.compiler.reset()


# One channel, or one pixel: images that are stored alike in both layouts.
@pytest.mark.parametrize("shape", [(6, 7, 2), (6, 7, 1), (1, 1, 3), (1, 5, 1)])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_nothing_that_was_given_is_changed(shape, normalization):
    case = make_case(shape=shape, normalization=normalization)
    inputs = [case.parameters, case.direction, case.images, case.targets]
    for tensor in inputs:
        tensor.requires_grad_()
    before = [tensor.detach().clone() for tensor in inputs]
    # It counts whatever is written to a tensor or to a view of it.
    versions = [tensor._version for tensor in inputs]
    for keep in (False, True):
        assert not any(found.requires_grad for found in case.written_out(keep=keep))
    assert [tensor._version for tensor in inputs] == versions
    for now, then in zip(inputs, before, strict=True):
        assert torch.equal(now, then)
        assert now.grad is None


def test_results_share_no_memory_with_what_was_given():
    case = make_case(shape=(1, 1, 3), normalization="none", depth=1)
    inputs = [case.parameters, case.direction, case.images, case.targets]
    theirs = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    ours = {found.untyped_storage().data_ptr() for found in case.written_out()}
    assert not theirs & ours
    assert len(ours) == len(NAMES)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("portions", [False, True])
def test_inputs_of_any_strides(normalization, portions, monkeypatch):
    """Expanded tensors cannot be written to, and strided ones not be reshaped."""
    case = make_case(normalization=normalization, n_classes=3, n_samples=4)
    generator = torch.Generator().manual_seed(2)
    if portions:
        in_micro_batches_of_one(monkeypatch)
    strided = replace(
        case,
        parameters=torch.stack([case.parameters] * 2, dim=1)[:, 0],
        direction=torch.tensor(0.3, dtype=torch.float64).expand(len(case.direction)),
        images=torch.randn(6, 7, 2, generator=generator, dtype=torch.float64)
        .permute(2, 0, 1)
        .expand(4, -1, -1, -1),
        targets=torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).expand(4, -1),
    )
    dense = replace(
        case,
        **{
            field.name: getattr(strided, field.name).contiguous()
            for field in fields(case)
            if isinstance(getattr(case, field.name), torch.Tensor)
        },
    )
    assert largest_error(strided.written_out(), dense.written_out()) <= 1e-10
    assert largest_error(strided.written_out(keep=True), dense.by_autograd()) <= 1e-9


def test_arrays_that_are_read_only():
    case = make_case(shape=(6, 7, 1))
    expected = case.written_out()
    arrays = {}
    for field in fields(case):
        if isinstance(getattr(case, field.name), torch.Tensor):
            array = getattr(case, field.name).numpy().copy()
            array.flags.writeable = False
            with warnings.catch_warnings():
                # Torch has no read-only tensors: it warns that writing is undefined.
                warnings.simplefilter("ignore")
                arrays[field.name] = torch.from_numpy(array)
    assert all(map(torch.equal, replace(case, **arrays).written_out(), expected))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_images_of_one_color(normalization):
    """Scores of next to nothing: epsilon alone keeps them from being 0/0.

    Instance normalization sees the same in every pixel but those next to the edges.
    """
    case = make_case(normalization=normalization)
    case.images[:] = case.images[:, :, :1, :1]
    case.images[0] = 0
    assert largest_error(case.written_out(), case.by_autograd()) <= 1e-9


def test_structure_alone_is_used():
    case = make_case()
    module = ConvNet((6, 7, 2), 3, width=3, depth=2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(torch.nan)
    network = ConvNetDerivatives(module)
    assert network.n_parameters == n_parameters(module) == len(case.parameters)
    assert all(map(torch.equal, case.written_out(network), case.written_out()))
