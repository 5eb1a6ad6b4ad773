"""Gradient matching: identities, values by hand, double automatic differentiation."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.func import functional_call
from torch.nn import functional as F

from skdistill.distillation._engine._objective import Draw
from skdistill.distillation._engine._optimizers import SGD
from skdistill.distillation._engine._parameters import (
    HardLabels,
    SyntheticParameters,
    one_hot,
)
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._objectives import _gradient_matching, _gradients
from skdistill.distillation._objectives._gradient_matching import (
    GradientMatching,
    Training,
)
from skdistill.distillation._objectives._gradients import (
    DISTANCES,
    MATCHED,
    Part,
    gradient_distance,
    match_gradient,
    matched_parts,
)
from skdistill.distillation._objectives._networks import Networks, RandomNetworks
from skdistill.neural_network._augment import (
    FAMILIES,
    augment,
    draw_augmentation,
    draw_class_augmentations,
    siamese,
)
from skdistill.neural_network._convnet import ALL_NORMALIZATIONS, ConvNet, n_parameters
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.utils._random import torch_generator

DOUBLE = torch.float64
NORMALIZATIONS = [name for name in ALL_NORMALIZATIONS if name != "batch"]
ROWS = [Part(0, 2, 3, True)]


def structure(shape=(6, 7, 2), n_classes=3, width=3, depth=2, normalization="instance"):
    with torch.device("meta"):
        return ConvNet(
            shape, n_classes, width=width, depth=depth, normalization=normalization
        )


# The equations, written plainly.


def plain_gradient(module, parameters, images, targets, graph=False):
    """The gradient of the mean loss, a list of the parameters' own."""
    views = dict(module.named_parameters())
    split = parameters.split([part.numel() for part in views.values()])
    leaves = [
        part.view(view.shape).detach().requires_grad_()
        for part, view in zip(split, views.values(), strict=True)
    ]
    logits = functional_call(module, dict(zip(views, leaves, strict=True)), (images,))
    loss = -(targets * logits.log_softmax(1)).sum() / len(images)
    return torch.autograd.grad(loss, leaves, create_graph=graph)


def plain_distance(synthetic, real, distance, matched):
    total = 0.0
    for a, b in zip(synthetic, real, strict=True):
        if (matched == "weights" and a.ndim < 2) or (
            matched == "kernels" and a.ndim != 4
        ):
            continue
        if distance == "squared":
            total = total + ((a - b) ** 2).sum()
        elif distance == "absolute":
            total = total + (a - b).abs().sum()
        elif a.ndim > 1:
            a, b = a.flatten(1), b.flatten(1)
            # Two rows of which no image has anything are equal.
            a, b = (rows[(a != 0).any(1) | (b != 0).any(1)] for rows in (a, b))
            total = total + (1 - F.cosine_similarity(a, b)).sum()
    return total


def flat(parts):
    return torch.cat([part.detach().reshape(-1) for part in parts])


@dataclass
class Case:
    """A network, and synthetic and real images of one class."""

    module: ConvNet
    parameters: torch.Tensor
    images: torch.Tensor
    targets: torch.Tensor
    real: list

    def by_autograd(self, distance, matched, draw=None):
        images = self.images.clone().requires_grad_()
        seen = images if draw is None else augment(images, draw)
        found = plain_gradient(self.module, self.parameters, seen, self.targets, True)
        loss = plain_distance(found, self.real, distance, matched)
        if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
            return torch.zeros((), dtype=DOUBLE), torch.zeros_like(images)
        return loss.detach(), torch.autograd.grad(loss, images)[0]

    def found(self, distance, matched, draw=None):
        return match_gradient(
            ConvNetDerivatives(self.module),
            self.parameters,
            self.images,
            self.targets,
            flat(self.real),
            matched_parts(self.module, matched),
            distance,
            augmentation=None if draw is None else lambda x: augment(x, draw),
        )


def make_case(seed=0, n_synthetic=2, n_real=4, **changes):
    module = structure(**changes)
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=DOUBLE)

    height, width, channels = changes.get("shape", (6, 7, 2))
    n_classes = changes.get("n_classes", 3)
    parameters = 0.4 * normal(n_parameters(module))
    code = int(torch.randint(n_classes, (), generator=generator))

    def labels(n):
        return one_hot(torch.full((n,), code), n_classes, DOUBLE)

    real = plain_gradient(
        module, parameters, normal(n_real, channels, height, width), labels(n_real)
    )
    return Case(
        module,
        parameters,
        normal(n_synthetic, channels, height, width),
        labels(n_synthetic),
        [part.detach() for part in real],
    )


cases = st.builds(
    make_case,
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)),
    n_classes=st.integers(2, 4),
    width=st.integers(1, 5),
    depth=st.integers(1, 3),
    n_synthetic=st.integers(1, 5),
    n_real=st.integers(1, 6),
    normalization=st.sampled_from(NORMALIZATIONS),
)


def error(found, expected):
    return float((found - expected).norm() / expected.norm().clamp_min(1e-3))


def assume_no_row_vanishes(case):
    """A row of nothing but rounding has a right to be left out, or not."""
    own = plain_gradient(case.module, case.parameters, case.images, case.targets)
    for part in [*own, *case.real]:
        lengths = part.reshape(len(part), -1).norm(dim=1)
        assume(bool((lengths > 1e-5 * lengths.max().clamp_min(1e-5)).all()))


# Distances.


def test_rows_are_those_of_the_published_network():
    parts = matched_parts(structure((32, 32, 3), 10, 128, 3), "weights")
    assert sum(part.n_rows for part in parts) == 3 * 128 + 10 == 394
    assert [part.length for part in parts] == [27, 1152, 1152, 2048]


def test_parts_are_where_the_parameters_lie():
    module = structure()
    flat_names = torch.cat(
        [
            torch.full((parameter.numel(),), float(place))
            for place, parameter in enumerate(module.parameters())
        ]
    )
    axes = [parameter.ndim for parameter in module.parameters()]
    for matched, wanted in [
        ("all", range(len(axes))),
        ("weights", [place for place, n in enumerate(axes) if n > 1]),
        ("kernels", [place for place, n in enumerate(axes) if n == 4]),
    ]:
        parts = matched_parts(module, matched)
        found = [
            flat_names[part.start : part.start + part.n_rows * part.length].unique()
            for part in parts
        ]
        assert [names.tolist() for names in found] == [[place] for place in wanted]


def test_cosine_by_hand():
    a = torch.tensor([3.0, 4.0, 0.0, 0.0, 2.0, 0.0], dtype=DOUBLE)
    b = torch.tensor([4.0, 3.0, 0.0, 0.0, 0.0, 5.0], dtype=DOUBLE)
    found = gradient_distance(a, b, ROWS, "cosine")
    # 1 - 24/25, and 1 at a right angle.
    assert float(found.value) == pytest.approx(1 / 25 + 1)
    # -(b/|b| - cos a/|a|) / |a|
    expected = [(0.96 * 0.6 - 0.8) / 5, (0.96 * 0.8 - 0.6) / 5, 0, 0, 0, -0.5]
    torch.testing.assert_close(found.direction, torch.tensor(expected, dtype=DOUBLE))


def test_squared_and_absolute_by_hand():
    a, b = torch.tensor([[1.0, 2, 3, 4, 5, 6], [1.0, 0, 5, 4, 8, 6]], dtype=DOUBLE)
    squared = gradient_distance(a, b, ROWS, "squared")
    assert float(squared.value) == 4 + 4 + 9
    assert squared.direction.tolist() == [0, 4, -4, 0, -6, 0]
    absolute = gradient_distance(a, b, ROWS, "absolute")
    assert float(absolute.value) == 2 + 2 + 3
    assert absolute.direction.tolist() == [0, 1, -1, 0, -1, 0]
    # Nothing outside of what is matched.
    last = gradient_distance(a, b, [Part(3, 1, 3, True)], "squared")
    assert float(last.value) == 9
    assert last.direction.tolist() == [0, 0, 0, 0, -6, 0]


@settings(max_examples=60)
@given(case=cases, factor=st.floats(1e-12, 1e12))
def test_identities_of_the_cosine(case, factor):
    assume_no_row_vanishes(case)
    parts = matched_parts(case.module, "weights")
    n_rows = sum(part.n_rows for part in parts)
    g = flat(case.real)
    assert not any(map(torch.any, gradient_distance(g, g, parts, "cosine")))
    opposite = gradient_distance(-g, g, parts, "cosine")
    assert float(opposite.value) == pytest.approx(2 * n_rows)
    other = flat(
        plain_gradient(case.module, case.parameters, case.images, case.targets)
    )
    found = gradient_distance(other, g, parts, "cosine")
    assert 0 <= float(found.value) <= 2 * n_rows + 1e-9
    # A factor of either gradient, and whatever happens to biases, leave it as it is.
    scaled = gradient_distance(other, factor * g, parts, "cosine")
    torch.testing.assert_close(scaled, found, rtol=1e-9, atol=1e-9)
    scaled = gradient_distance(factor * other, g, parts, "cosine")
    assert float(scaled.value) == pytest.approx(float(found.value), abs=1e-9)
    is_weight = torch.zeros(len(g), dtype=torch.bool)
    for part in parts:
        is_weight[part.start : part.start + part.n_rows * part.length] = True
    changed = torch.where(is_weight, g, g + 1.0)
    assert gradient_distance(other, changed, parts, "cosine").value == found.value
    assert not found.direction[~is_weight].any()
    everything = gradient_distance(
        other, g, matched_parts(case.module, "all"), "cosine"
    )
    assert all(map(torch.equal, everything, found))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_rows_of_rounding_alone_have_no_angle(dtype, factor):
    rows = torch.tensor([[3.0, 4], [0, 0], [1e-20, 1e-20], [0, 0]], dtype=dtype)
    others = torch.tensor([[4.0, 3], [1, 2], [5, -6], [1e-20, 0]], dtype=dtype)
    parts = [Part(0, 4, 2, True)]
    found = gradient_distance(
        factor * rows.flatten(), others.flatten(), parts, "cosine"
    )
    # Of the last row neither has an angle: they agree.
    assert float(found.value) == pytest.approx(1 / 25 + 1 + 1 + 0)
    assert found.direction.isfinite().all()
    assert not found.direction[2:].any()
    nothing = torch.zeros(8, dtype=dtype)
    found = gradient_distance(nothing, nothing, parts, "cosine")
    assert not any(map(torch.any, found))


@pytest.mark.parametrize("distance", DISTANCES)
def test_what_is_no_number_does_not_hide(distance):
    a = torch.ones(6)
    a[1] = torch.nan
    assert not gradient_distance(a, torch.ones(6), ROWS, distance).value.isfinite()
    assert not gradient_distance(torch.ones(6), a, ROWS, distance).value.isfinite()


@settings(max_examples=40)
@given(
    case=cases, distance=st.sampled_from(DISTANCES), matched=st.sampled_from(MATCHED)
)
def test_direction_is_the_derivative_of_the_distance(case, distance, matched):
    assume_no_row_vanishes(case)
    own = plain_gradient(case.module, case.parameters, case.images, case.targets)
    own = [part.detach().requires_grad_() for part in own]
    value = plain_distance(own, case.real, distance, matched)
    expected = torch.autograd.grad(value, own, allow_unused=True)
    expected = [
        torch.zeros_like(part) if grad is None else grad
        for part, grad in zip(own, expected, strict=True)
    ]
    found = gradient_distance(
        flat(own), flat(case.real), matched_parts(case.module, matched), distance
    )
    assert float(found.value) == pytest.approx(
        float(value.detach()), rel=1e-12, abs=1e-12
    )
    assert error(found.direction, flat(expected)) < 1e-11


# The pixel gradient.


@settings(max_examples=100)
@given(
    case=cases, distance=st.sampled_from(DISTANCES), matched=st.sampled_from(MATCHED)
)
def test_pixel_gradient_is_that_of_differentiating_twice(case, distance, matched):
    assume_no_row_vanishes(case)
    # Where rounding is magnified, by the scores of a few pixels that are nearly equal,
    # two right ways to compute differ as well.
    value, gradient = case.by_autograd(distance, matched)
    moved = Case(**(vars(case) | {"parameters": case.parameters * (1 + 1e-13)}))
    assume(error(moved.by_autograd(distance, matched)[1], gradient) < 1e-11)
    found = case.found(distance, matched)
    assert float(found.distance) == pytest.approx(float(value), rel=1e-11, abs=1e-11)
    assert error(found.images, gradient) < 1e-10


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("shape", [(12, 12, 3), (9, 11, 5)])
def test_pixel_gradient_to_rounding(normalization, distance, shape):
    case = make_case(
        seed=1, shape=shape, width=8, depth=3, normalization=normalization, n_real=8
    )
    value, gradient = case.by_autograd(distance, "weights")
    found = case.found(distance, "weights")
    assert float(found.distance) == pytest.approx(float(value), rel=1e-12)
    assert error(found.images, gradient) < 1e-12


def test_what_is_not_kept_is_computed_again(monkeypatch):
    case = make_case()
    kept = case.found("cosine", "weights")
    monkeypatch.setattr(_gradients, "_MAX_KEPT_BYTES", 0)
    assert all(map(torch.equal, case.found("cosine", "weights"), kept))


# Siamese augmentation.


@pytest.mark.parametrize("family", FAMILIES)
def test_pixel_gradient_through_an_augmentation(family):
    case = make_case(seed=2, shape=(10, 9, 3), n_synthetic=3, width=6)
    generator = torch.Generator().manual_seed(1)
    draw = siamese(draw_augmentation([family], 1, generator), 3)
    value, gradient = case.by_autograd("cosine", "weights", draw)
    found = case.found("cosine", "weights", draw)
    assert float(found.distance) == pytest.approx(float(value), rel=1e-12)
    assert error(found.images, gradient) < 1e-11
    assert not found.images.requires_grad


# The objective.


class Doubles(Networks):
    """Random networks in double precision."""

    def __init__(self, module):
        self.n_parameters = n_parameters(module)

    def __call__(self, draw):
        rng = draw.rng(99)
        return torch.from_numpy(0.4 * rng.standard_normal(self.n_parameters)), {}


def make_data(sizes=(5, 7, 6), shape=(8, 8, 3), seed=0, weight=None):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    images = rng.standard_normal((len(codes), *shape)).astype(np.float32)
    return RealData(
        images,
        codes,
        weight,
        np.arange(len(sizes)),
        device=torch.device("cpu"),
        fingerprint="",
        given=(images, codes, weight),
    )


def make_synthetic(data, ipc=2, seed=1, order=None):
    height, width, channels = data.image_shape
    codes = torch.arange(data.n_classes).repeat_interleave(ipc)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(
        len(codes), channels, height, width, generator=generator, dtype=DOUBLE
    )
    if order is not None:
        images, codes = images[order], codes[order]
    labels = HardLabels(one_hot(codes, data.n_classes, DOUBLE))
    return SyntheticParameters(SGD(images, 0.1, 1.0), labels, codes, {})


def make_objective(data, networks=None, **changes):
    module = structure(data.image_shape, data.n_classes, width=4)
    settings = {
        "training": None,
        "distance": "cosine",
        "matched": "weights",
        "batch_size": 4,
        "families": (),
    }
    return GradientMatching(
        data, module, networks or Doubles(module), **(settings | changes)
    )


@pytest.mark.parametrize("families", [(), FAMILIES])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("distance", DISTANCES)
def test_objective_is_the_sum_over_classes(families, weighted, distance):
    """Everything at once, from the draws to the pixels, against the plain form."""
    weight = np.random.default_rng(2).uniform(0.5, 2, 18) if weighted else None
    data = make_data(weight=weight)
    synthetic = make_synthetic(data, order=[5, 0, 3, 1, 4, 2])
    objective = make_objective(data, families=families, distance=distance)
    module = structure(data.image_shape, 3, width=4)
    draw = Draw(3, 11)
    network, _ = Doubles(module)(draw)
    images = synthetic.images.clone().requires_grad_()
    total = 0.0
    generator = torch_generator(draw.child_seed(_gradient_matching._AUGMENTATION))
    drawn = draw_class_augmentations(families, 3, generator)
    scale = data.pixel_scale
    for code in range(3):
        batch = data.batch(draw, 4, [code], dtype=DOUBLE)
        targets = one_hot(batch.codes, 3, DOUBLE) * batch.weights[:, None] * 4
        seen = drawn(batch.images, batch.codes, scale)
        real = plain_gradient(module, network, seen, targets)
        own = synthetic.codes == code
        shown = drawn(images[own], synthetic.codes[own], scale)
        found = plain_gradient(module, network, shown, synthetic.labels[own], True)
        total = total + plain_distance(found, real, distance, "weights")
    (gradient,) = torch.autograd.grad(total, images)
    evaluation = objective.evaluate(synthetic, draw)
    assert set(evaluation.metrics) == set(objective.columns)
    loss = float(evaluation.metrics["loss"])
    assert loss == pytest.approx(float(total.detach()), rel=1e-12)
    assert error(evaluation.gradients["images"], gradient) < 1e-11
    assert 0 <= float(evaluation.metrics["network_accuracy"]) <= 1


def test_synthetic_images_that_are_the_real_ones_have_no_distance():
    data = make_data((3, 3, 3))
    synthetic = make_synthetic(data, ipc=3)
    images = torch.from_numpy(data.images).permute(0, 3, 1, 2).double()
    synthetic.restore(synthetic.state() | {"images.value": images})
    for distance in DISTANCES:
        objective = make_objective(
            data, batch_size=None, families=FAMILIES, distance=distance
        )
        found = objective.evaluate(synthetic, Draw(0, 5))
        assert float(found.metrics["loss"]) == pytest.approx(0, abs=1e-12)
        if distance != "absolute":  # whose derivative at 0 is anything
            assert float(found.gradients["images"].abs().max()) < 1e-12


def test_each_class_alone_is_all_together():
    data = make_data()
    whole = make_objective(data, families=FAMILIES)
    before = make_synthetic(data)
    found = whole.evaluate(before, Draw(0, 1)).gradients["images"]
    changed = before.images.clone()
    changed[:4] = 0.0
    after = make_synthetic(data)
    after.restore(after.state() | {"images.value": changed})
    other = whole.evaluate(after, Draw(0, 1)).gradients["images"]
    assert torch.equal(found[4:], other[4:])
    assert not torch.equal(found[:4], other[:4])


def test_classes_of_any_size():
    data = make_data((1, 9, 3))
    objective = make_objective(data, batch_size=4)
    found = objective.evaluate(make_synthetic(data), Draw(0, 0))
    assert found.gradients["images"].isfinite().all()


def run(objective, synthetic, n_iterations, start=0):
    """Iterations as the engine makes them, and the networks that each saw."""
    networks = []
    for iteration in range(start, start + n_iterations):
        draw = Draw(7, iteration)
        networks.append(objective._network(draw, DOUBLE)[0].clone())
        found = objective.evaluate(synthetic, draw)
        numbers = {name: float(value) for name, value in found.metrics.items()}
        synthetic.step(found.gradients, numbers)
        assert objective.advance(synthetic, numbers | found.notes, draw) == ""
    return networks


def test_a_network_that_serves_once_is_never_trained():
    data = make_data()
    objective = make_objective(data, training=Training(1, 500, 0.01, 256))
    networks = run(objective, make_synthetic(data), 3)
    expected = Doubles(structure(data.image_shape, 3, width=4))
    for iteration, network in enumerate(networks):
        assert torch.equal(network, expected(Draw(7, iteration))[0])


def test_networks_learn_from_the_synthetic_images():
    """By full-batch descent, as the equations say it; then a new network is drawn."""
    data = make_data()
    module = structure(data.image_shape, 3, width=4)
    objective = make_objective(data, training=Training(3, 2, 0.05, 256))
    synthetic = make_synthetic(data)
    expected = None
    for iteration in range(6):
        (network,) = run(objective, synthetic, 1, iteration)
        if iteration % 3 == 0:
            expected = Doubles(module)(Draw(7, iteration))[0]
        torch.testing.assert_close(network, expected, rtol=1e-10, atol=1e-12)
        for _ in range(2):
            gradient = plain_gradient(
                module, expected, synthetic.images, synthetic.labels
            )
            expected = expected - 0.05 * flat(gradient)


@pytest.mark.parametrize("families", [(), FAMILIES])
def test_state_is_all_that_a_resumed_run_needs(families):
    data = make_data()
    settings = {
        "training": Training(3, 1, 0.05, 4),
        "n_networks": 2,
        "families": families,
    }
    one, other = make_objective(data, **settings), make_objective(data, **settings)
    synthetic = make_synthetic(data)
    for iteration in range(5):
        state = {name: value.clone() for name, value in one.state().items()}
        images = synthetic.state()
        run(one, synthetic, 1, iteration)
        expected = synthetic.images, one.state()
        other.restore(state)
        synthetic.restore(images)
        run(other, synthetic, 1, iteration)
        assert torch.equal(synthetic.images, expected[0])
        assert other.state().keys() == expected[1].keys()
        for name, value in other.state().items():
            assert torch.equal(value, expected[1][name])


def test_roll_backs_draw_new_networks():
    data = make_data()
    objective = make_objective(data, training=Training(3, 1, 0.05, 4))
    synthetic = make_synthetic(data)
    run(objective, synthetic, 1)
    objective.rolled_back(synthetic, 1)
    expected = Doubles(structure(data.image_shape, 3, width=4))(Draw(7, 1))[0]
    assert torch.equal(objective._network(Draw(7, 1), DOUBLE)[0], expected)


def test_networks_of_an_iteration_differ():
    data = make_data()
    objective = make_objective(data, training=Training(2, 1, 0.05, 4), n_networks=2)
    synthetic = make_synthetic(data)
    for iteration in range(2):
        one, other = (
            objective._network(Draw(7, iteration, place), DOUBLE)[0] for place in (0, 1)
        )
        assert not torch.equal(one, other)
        run(objective, synthetic, 1, iteration)


@pytest.mark.parametrize(
    "state",
    [
        {"round": torch.tensor(3), "networks": torch.zeros(1, 1)},
        {"round": torch.tensor(1)},
        {"round": torch.tensor(0), "networks": torch.zeros(1, 1)},
        {"round": torch.tensor(1), "networks": torch.zeros(1, 1)},
    ],
)
def test_states_of_other_runs_are_refused(state):
    objective = make_objective(make_data(), training=Training(3, 1, 0.05, 4))
    with pytest.raises(ValueError, match=r"^its? "):
        objective.restore(state)


def test_random_networks_are_those_of_the_draw():
    networks = RandomNetworks(
        lambda: ConvNet((8, 8, 1), 2, width=2, depth=1), torch.device("cpu")
    )
    before = torch.get_rng_state()
    one, again, other, place = (
        networks(draw)[0]
        for draw in (Draw(0, 1), Draw(0, 1), Draw(0, 2), Draw(0, 1, 1))
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, place)


def test_squared_distances_of_batches_have_the_gradient_of_the_class_on_average():
    data = make_data((8, 8, 8))
    synthetic = make_synthetic(data)
    module = structure(data.image_shape, 3, width=4)
    network = Doubles(module)(Draw(0, 0))[0]

    class Same(Networks):
        def __call__(self, draw):
            return network, {}

    def gradients(batch_size, n):
        objective = make_objective(
            data, Same(), distance="squared", batch_size=batch_size
        )
        return torch.stack(
            [
                objective.evaluate(synthetic, Draw(0, k)).gradients["images"].flatten()
                for k in range(n)
            ]
        )

    (whole,) = gradients(None, 1)
    errors = gradients(2, 80) - whole
    bias = errors.mean(0).norm()
    spread = errors.square().sum(1).mean().sqrt()
    assert bias < 2 * spread / 80**0.5
    assert gradients(4, 80).sub(whole).square().sum(1).mean().sqrt() < spread
