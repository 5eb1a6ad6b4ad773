"""Objectives of feature matching against the equations, differentiated by autograd."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call

import skdistill.distillation._objectives._feature_matching as feature_matching
from skdistill.distillation._engine._objective import Draw
from skdistill.distillation._engine._optimizers import SGD
from skdistill.distillation._engine._parameters import (
    HardLabels,
    SyntheticParameters,
    one_hot,
)
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._objectives._alignment import (
    LayerAlignment,
    Rounds,
    has_moved,
    has_settled,
)
from skdistill.distillation._objectives._feature_distributions import (
    DISTANCES,
    FeatureDistributions,
)
from skdistill.distillation._objectives._feature_matching import (
    FeatureMeans,
)
from skdistill.distillation._objectives._features import CHARACTERISTIC_WEIGHT
from skdistill.distillation._objectives._networks import Networks
from skdistill.neural_network._augment import (
    FAMILIES,
    AugmentationDraw,
    augment,
    draw_class_augmentations,
)
from skdistill.neural_network._convnet import ConvNet, flatten_parameters
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.utils._random import isolated_torch_seed, torch_generator

DOUBLE = torch.float64
CPU = torch.device("cpu")


class OneNetwork(Networks):
    """Always the same parameters."""

    def __init__(self, parameters):
        self.parameters = parameters

    def __call__(self, draw):
        return self.parameters, {}


class Problem:
    """Real and synthetic images of a few classes in float64, and a network."""

    def __init__(
        self,
        seed=0,
        sizes=(5, 7),
        ipc=2,
        shape=(8, 8, 3),
        normalization="instance",
        weighted=False,
        depth=2,
    ):
        rng = np.random.default_rng(seed)
        n_classes = len(sizes)
        y = np.repeat(np.arange(n_classes), sizes)
        X = rng.normal(size=(len(y), *shape)).astype(np.float32)
        weight = rng.uniform(0.2, 1, len(y)) if weighted else None
        self.data = RealData(
            X, y, weight, np.arange(n_classes), device=CPU, fingerprint="", given=()
        )
        images = torch.from_numpy(rng.normal(size=(n_classes * ipc, *shape)))
        self.images = images.permute(0, 3, 1, 2).contiguous()
        self.codes = torch.arange(n_classes).repeat_interleave(ipc)
        with isolated_torch_seed(seed):
            self.module = ConvNet(
                shape, n_classes, width=4, depth=depth, normalization=normalization
            ).double()
            # Affine parameters that a normalization does not start from.
            for parameter in self.module.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
        self.parameters = flatten_parameters(self.module)
        self.network = ConvNetDerivatives(self.module)

    def synthetic(self, images=None, codes=None):
        codes = self.codes if codes is None else codes
        labels = HardLabels(one_hot(codes, self.data.n_classes, DOUBLE))
        images = self.images if images is None else images
        return SyntheticParameters(SGD(images, 1.0, 1.0), labels, codes, {})

    def views(self, parameters):
        named = dict(self.module.named_parameters())
        parts = parameters.split([part.numel() for part in named.values()])
        return {
            name: part.view(own.shape)
            for (name, own), part in zip(named.items(), parts, strict=True)
        }

    def layers(self, images, parameters=None):
        """Return activations of all blocks, then the embedding, then logits."""
        views = self.views(self.parameters if parameters is None else parameters)
        found = []
        for place, layer in enumerate(self.module.features):
            own = {
                name.removeprefix(f"features.{place}."): part
                for name, part in views.items()
                if name.startswith(f"features.{place}.")
            }
            images = functional_call(layer, own, (images,))
            if isinstance(layer, torch.nn.ReLU):
                found.append(images)
        flat = images.flatten(1)
        logits = flat @ views["classifier.weight"].T + views["classifier.bias"]
        return [*found, flat, logits]

    def augmented(self, objective, draw, images, codes):
        """Augment image by image, as the draw says."""
        drawn = objective._augmentations(draw)
        if not drawn.families:
            return images
        return torch.cat(
            [
                augment(
                    images[place : place + 1],
                    AugmentationDraw(
                        drawn.families[code], drawn.uniforms[code : code + 1]
                    ),
                    self.data.pixel_scale,
                )
                for place, code in enumerate(codes.tolist())
            ]
        )

    def compare(self, objective, loss_of, draw):
        """Compare loss and gradient with those of a function of features."""
        batch = self.data.batch(draw, objective._batch_size, dtype=DOUBLE)
        real = self.augmented(objective, draw, batch.images, batch.codes)
        leaf = self.images.clone().requires_grad_()
        seen = self.augmented(objective, draw, leaf, self.codes)
        loss = loss_of(real, seen, batch)
        (expected,) = torch.autograd.grad(loss, leaf)
        found = objective.evaluate(self.synthetic(), draw)
        torch.testing.assert_close(
            found.metrics["loss"], loss.detach(), rtol=1e-12, atol=1e-13
        )
        scale = float(expected.abs().max())
        torch.testing.assert_close(
            found.gradients["images"], expected, rtol=0, atol=1e-12 * scale
        )
        assert set(objective.columns) <= set(found.metrics)
        assert set(found.notes) == set(objective.notes)

    def real_mean(self, rows, batch, code):
        own = batch.codes == code
        shape = (-1, *[1] * (rows.ndim - 1))
        return (rows[own] * batch.weights[own].view(shape)).sum(0)


@st.composite
def problems(draw):
    n_classes = draw(st.integers(2, 3))
    sizes = draw(st.lists(st.integers(1, 6), min_size=n_classes, max_size=n_classes))
    return Problem(
        seed=draw(st.integers(0, 2**20)),
        sizes=sizes,
        ipc=draw(st.integers(1, 3)),
        shape=(
            draw(st.integers(5, 9)),
            draw(st.integers(5, 9)),
            draw(st.sampled_from([1, 2, 3, 5])),
        ),
        normalization=draw(st.sampled_from(["instance", "layer", "group", "none"])),
        weighted=draw(st.booleans()),
    )


SETTINGS = {
    "batch_size": st.sampled_from([None, 1, 3, 50]),
    "families": st.sampled_from([(), FAMILIES, ("color", "rotate")]),
    "iteration": st.integers(0, 1000),
}


@settings(max_examples=15)
@given(problems(), st.fixed_dictionaries(SETTINGS))
def test_feature_means(problem, drawn):
    iteration = drawn.pop("iteration")
    objective = FeatureMeans(
        problem.data, problem.network, OneNetwork(problem.parameters), **drawn
    )

    def loss_of(real, seen, batch):
        real, seen = problem.layers(real)[-2], problem.layers(seen)[-2]
        return sum(
            (problem.real_mean(real, batch, code) - seen[problem.codes == code].mean(0))
            .square()
            .sum()
            for code in range(problem.data.n_classes)
        )

    problem.compare(objective, loss_of, Draw(0, iteration))


@settings(max_examples=25)
@given(
    problems(),
    st.fixed_dictionaries(SETTINGS),
    st.sampled_from(DISTANCES),
    st.sampled_from([0.0, 0.7]),
)
def test_characteristic_functions(problem, drawn, distance, calibration):
    draw = Draw(0, drawn.pop("iteration"))
    trained = problem.parameters.flip(0)
    objective = FeatureDistributions(
        problem.data,
        problem.network,
        lambda _, dtype: (1, problem.parameters.to(dtype), trained.to(dtype)),
        distance=distance,
        n_frequencies=6,
        calibration=calibration,
        **drawn,
    )
    frequencies = objective._draw_frequencies(draw, problem.layers(problem.images)[-2])

    def kernel(a, b):
        return torch.exp(-(a[:, None] - b).square().sum(2) / 2)

    def loss_of(real, seen, batch):
        logits = problem.layers(seen, trained)[-1]
        real, seen = problem.layers(real)[-2], problem.layers(seen)[-2]
        if distance != "mean":
            real, seen = (torch.nn.functional.normalize(each) for each in (real, seen))
        total = 0.0
        for code in range(problem.data.n_classes):
            own = seen[problem.codes == code]
            rows, weights = (
                real[batch.codes == code],
                batch.weights[batch.codes == code],
            )
            if distance == "mean":
                total += (
                    (problem.real_mean(real, batch, code) - own.mean(0)).square().sum()
                )
            elif distance == "gaussian":
                total += CHARACTERISTIC_WEIGHT * (
                    weights @ kernel(rows, rows) @ weights
                    + kernel(own, own).mean()
                    - 2 * (weights @ kernel(rows, own)).mean()
                )
            else:
                a = (weights[:, None] * torch.exp(1j * (rows @ frequencies.T))).sum(0)
                b = torch.exp(1j * (own @ frequencies.T)).mean(0)
                total += CHARACTERISTIC_WEIGHT * ((a - b).abs() * 0.5**0.5).mean()
            wanted = torch.full((len(own),), code)
            total += calibration * torch.nn.functional.cross_entropy(
                logits[problem.codes == code], wanted
            )
        return total

    problem.compare(objective, loss_of, draw)


def make_alignment(problem, **changes):
    rounds = Rounds(
        outer_tolerance=0.04,
        inner_tolerance=0.03,
        max_rounds=5,
        max_epochs=3,
        n_watched=4,
        learning_rate=0.1,
        batch_size=3,
    )
    changes = {
        "batch_size": None,
        "families": (),
        "layer_weights": (0.1, 1.0, 2.0),
        "discrimination": 0.01,
        "rounds": rounds,
    } | changes
    return LayerAlignment(
        problem.data,
        problem.network,
        problem.module,
        OneNetwork(problem.parameters),
        **changes,
    )


@pytest.mark.parametrize("discrimination", [0.0, 0.01])
@pytest.mark.parametrize(
    ("shape", "normalization"),
    [((8, 8, 3), "instance"), ((7, 9, 1), "layer"), ((5, 6, 5), "none")],
)
@pytest.mark.parametrize("families", [(), FAMILIES], ids=["plain", "augmented"])
def test_layer_alignment(shape, normalization, discrimination, families, monkeypatch):
    monkeypatch.setattr(
        "skdistill.distillation._objectives._alignment._MAX_MAPS_BYTES", 2**11
    )
    problem = Problem(1, (5, 4, 7), 3, shape, normalization, weighted=True)
    weights = (0.1, 1.0, 2.0)
    objective = make_alignment(
        problem, batch_size=4, families=families, discrimination=discrimination
    )
    assert objective._n_at_once < 4

    def loss_of(real, seen, batch):
        *real, _ = problem.layers(real)
        *seen, _ = problem.layers(seen)
        total = 0.0
        for weight, a, b in zip(weights, real, seen, strict=True):
            for code in range(3):
                difference = problem.real_mean(a, batch, code)
                difference = difference - b[problem.codes == code].mean(0)
                total += weight * difference.square().sum()
        means = [seen[-1][problem.codes == code].mean(0) for code in range(3)]
        every = torch.nn.functional.cross_entropy(
            real[-1] @ torch.stack(means).T, batch.codes, reduction="none"
        )
        return total + discrimination * 256 * (batch.weights * every).sum()

    problem.compare(objective, loss_of, Draw(0, 3))


def test_layer_alignment_of_the_embedding_alone_is_that_of_feature_means():
    problem = Problem(2, (4, 6), 2)
    one = make_alignment(
        problem, layer_weights=(0.0, 0.0, 1.0), discrimination=0.0, families=FAMILIES
    )
    two = FeatureMeans(
        problem.data,
        problem.network,
        OneNetwork(problem.parameters),
        batch_size=None,
        families=FAMILIES,
    )
    found = [each.evaluate(problem.synthetic(), Draw(0, 5)) for each in (one, two)]
    torch.testing.assert_close(
        found[0].metrics["loss"], found[1].metrics["loss"], rtol=1e-13, atol=0
    )
    torch.testing.assert_close(
        found[0].gradients["images"],
        found[1].gradients["images"],
        rtol=1e-10,
        atol=1e-15,
    )


def test_means_of_encoders_are_those_of_networks():
    """Bit for bit: the same draws, the same distance."""
    problem = Problem(3, (4, 6), 2)
    drawn = {"batch_size": 3, "families": FAMILIES}
    one = FeatureDistributions(
        problem.data,
        problem.network,
        lambda _, dtype: (0, problem.parameters, problem.parameters),
        distance="mean",
        n_frequencies=1,
        calibration=0.0,
        **drawn,
    )
    two = FeatureMeans(
        problem.data, problem.network, OneNetwork(problem.parameters), **drawn
    )
    found = [each.evaluate(problem.synthetic(), Draw(0, 7)) for each in (one, two)]
    assert torch.equal(found[0].gradients["images"], found[1].gradients["images"])


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_real_images_themselves_have_no_distance(distance):
    problem = Problem(4, (3, 3), 3)
    objective = FeatureDistributions(
        problem.data,
        problem.network,
        lambda _, dtype: (0, problem.parameters, problem.parameters),
        distance=distance,
        n_frequencies=5,
        calibration=0.0,
        batch_size=None,
        families=FAMILIES,
    )
    batch = problem.data.batch(Draw(0, 0), None, dtype=DOUBLE)
    found = objective.evaluate(problem.synthetic(batch.images, batch.codes), Draw(0, 1))
    assert float(found.metrics["loss"].abs()) < 1e-11
    # A root has no derivative at 0, and rounding decides on its direction.
    assert found.gradients["images"].isfinite().all()
    if distance != "characteristic":
        assert float(found.gradients["images"].abs().max()) < 1e-11


def test_steps_of_a_network_share_its_draw():
    problem = Problem(5, (9, 9), 1)
    calls = []

    class Counted(OneNetwork):
        def __call__(self, draw):
            calls.append(draw)
            return super().__call__(draw)

    def make(n_steps):
        return FeatureMeans(
            problem.data,
            problem.network,
            Counted(problem.parameters),
            batch_size=2,
            families=FAMILIES,
            n_steps_per_network=n_steps,
        )

    shared = make(3)
    found = [
        shared.evaluate(problem.synthetic(), Draw(0, iteration)).gradients["images"]
        for iteration in range(6)
    ]
    assert calls == [Draw(0, 0), Draw(0, 1)]
    assert all(torch.equal(found[0], found[place]) for place in (1, 2))
    assert not torch.equal(found[0], found[3])
    # What is kept is nothing that a resumed run would miss.
    alone = [
        make(3).evaluate(problem.synthetic(), Draw(0, iteration)).gradients["images"]
        for iteration in range(6)
    ]
    assert all(torch.equal(*pair) for pair in zip(found, alone, strict=True))


def test_classes_in_any_number_at_a_time(monkeypatch):
    """How many classes are read together changes rounding alone."""
    problem = Problem(6, (5, 2, 8, 3), 2)

    def evaluate(distance):
        return FeatureDistributions(
            problem.data,
            problem.network,
            lambda _, dtype: (0, problem.parameters, problem.parameters),
            distance=distance,
            n_frequencies=5,
            calibration=0.0,
            batch_size=4,
            families=FAMILIES,
        ).evaluate(problem.synthetic(), Draw(0, 1))

    together = {name: evaluate(name) for name in DISTANCES}
    monkeypatch.setattr(feature_matching, "_MAX_READ_BYTES", 1)
    # Nor does what is kept of the forward pass.
    monkeypatch.setattr(feature_matching, "_MAX_KEPT_BYTES", 1)
    for name, expected in together.items():
        found = evaluate(name)
        torch.testing.assert_close(
            found.gradients["images"], expected.gradients["images"], rtol=0, atol=1e-12
        )


def test_batches_give_the_gradient_of_the_class_on_average():
    problem = Problem(7, (40, 40), 1, (6, 6, 1), weighted=True)

    def evaluate(batch_size, iteration):
        return FeatureMeans(
            problem.data,
            problem.network,
            OneNetwork(problem.parameters),
            batch_size=batch_size,
            families=(),
        ).evaluate(problem.synthetic(), Draw(0, iteration))

    whole = evaluate(None, 0).gradients["images"]
    errors = []
    for size in (2, 8):
        found = [evaluate(size, place).gradients["images"] for place in range(100)]
        error = torch.stack(found) - whole
        assert (error.mean(0).abs() < 5 * error.std(0) / 10).all()
        errors.append(float(error.square().mean().sqrt()))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.25)


def test_augmentations_of_classes():
    """One family and one set of parameters for all images of a class."""
    images = torch.randn(12, 3, 8, 8, dtype=DOUBLE)
    codes = torch.tensor([0, 3, 1, 2, 0, 3, 1, 2, 2, 2, 1, 0])
    seen = set()
    for seed in range(10):
        drawn = draw_class_augmentations(FAMILIES, 4, torch_generator(seed))
        seen |= set(drawn.families)
        together = drawn(images, codes, 1.3)
        for code in range(4):
            own = codes == code
            draw = AugmentationDraw(
                drawn.families[code],
                drawn.uniforms[code].expand(int(own.sum()), -1),
            )
            expected = augment(images[own], draw, 1.3)
            assert torch.equal(together[own], expected)
    assert seen == set(FAMILIES)


def test_rules_of_stopping():
    constant = [0.3] * 30
    assert has_settled(constant, 0.04)
    assert not has_moved(constant, 0.03)
    assert not has_settled(constant[:9], 0.04)
    rising = [0.01 * place for place in range(9)]
    assert not has_moved(rising, 0.03)
    assert has_moved([*rising, 0.09], 0.03)
    # The last ten alone count.
    assert has_settled([*rising, *constant[:10]], 0.04)
    assert not has_settled([*rising, *constant[:9]], 0.04)


def test_networks_of_alignment_serve_a_bounded_time():
    problem = Problem(8, (6, 6), 2)
    objective = make_alignment(problem, n_networks=2)
    synthetic = problem.synthetic()
    rounds, networks = [], []
    for iteration in range(12):
        rounds.append(objective.evaluate(synthetic, Draw(0, iteration)).notes["round"])
        assert objective.advance(synthetic, {}, Draw(0, iteration)) == ""
        networks += [one.parameters for one in objective._served if one is not None]
    assert rounds == [0, 1, 2, 3, 4] * 2 + [0, 1]
    # After each round but the last they have learned; new ones are those of the draw.
    assert len(networks) == 20
    assert len({tuple(network.tolist()) for network in networks}) == 20
    assert {served.iteration for served in objective._served} == {10}
    # What is not finite is not taken on.
    objective.rolled_back(synthetic, 1)
    assert objective._served == (None, None)


def test_alignment_resumes_from_its_state():
    problem = Problem(9, (6, 6), 2)
    synthetic = problem.synthetic()
    one, two = (make_alignment(problem, n_networks=2, families=FAMILIES) for _ in "ab")
    # Before the first round there is nothing.
    two.restore(one.state())
    assert two._served == (None, None)
    for iteration in range(3):
        one.advance(synthetic, {}, Draw(0, iteration))
    state = {name: tensor.clone() for name, tensor in one.state().items()}
    two.restore(one.state())
    for each in (one, two):
        each.advance(synthetic, {}, Draw(0, 3))
    for name, tensor in one.state().items():
        assert torch.equal(tensor, two.state()[name])
    found = [
        each.evaluate(synthetic, Draw(0, 4, 1)).gradients["images"]
        for each in (one, two)
    ]
    assert torch.equal(*found)
    # What `advance` changed it replaced.
    two.restore(state)
    assert torch.equal(two.state()["networks"], state["networks"])
    with pytest.raises(ValueError, match="a different architecture"):
        make_alignment(problem).restore(state)
    wrong = state | {"n_rounds": state["n_rounds"] + 90}
    with pytest.raises(ValueError, match="rounds"):
        two.restore(wrong)


def test_draws_are_networks_of_their_own():
    problem = Problem(10, (6, 6), 2)
    objective = make_alignment(problem, n_networks=2, families=FAMILIES)
    one, two = (
        objective.evaluate(problem.synthetic(), replace(Draw(0, 0), place=place))
        for place in range(2)
    )
    assert not torch.equal(one.gradients["images"], two.gradients["images"])
