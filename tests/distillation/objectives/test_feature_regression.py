"""Regression on features: the loss, its closed gradients, and what it is a case of."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdistill.distillation._engine._objective import Draw
from skdistill.distillation._engine._optimizers import Adam
from skdistill.distillation._engine._parameters import (
    HardLabels,
    SyntheticParameters,
    Targets,
    one_hot,
)
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._objectives._feature_regression import (
    RealFeatures,
    margin_loss,
    platt_loss,
    regression_loss,
    squared_loss,
)
from skdistill.distillation._objectives._inner_optimizers import InnerAdam
from skdistill.distillation._objectives._kernel_ridge import RealPart, ridge_loss
from skdistill.distillation._objectives._network_regression import (
    NetworkRegression,
    Temperature,
)
from skdistill.neural_network._convnet import ConvNet, load_flat_parameters
from skdistill.neural_network._convnet_features import ConvNetFeatures
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.neural_network._kernels import NetworkKernel, resolve_kernel
from skdistill.neural_network._pool import NetworkPool

DOUBLE = {"dtype": torch.float64}


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, **DOUBLE)


def problem(n=5, m=11, n_features=7, n_classes=3):
    features, targets = numbers(n, n_features), numbers(n, n_classes, seed=1)
    codes = torch.arange(m) % n_classes
    weights = torch.linspace(1, 2, m, **DOUBLE)
    real = RealFeatures(numbers(m, n_features, seed=2), codes, weights / weights.sum())
    return features, targets, real


def by_autograd(features, targets, real, reg, log_scale):
    """Return loss and gradients as PyTorch finds them through the dense solve."""
    leaves = [leaf.clone().requires_grad_() for leaf in (features, targets)]
    scale = torch.tensor(0.0 if log_scale is None else log_scale, **DOUBLE)
    scale.requires_grad_()
    x, y = leaves
    kernel = x @ x.T
    ridge = reg * kernel.trace() / len(x) * torch.eye(len(x), **DOUBLE)
    predictions = real.features @ x.T @ torch.linalg.solve(kernel + ridge, y)
    n_classes = targets.shape[1]
    if log_scale is None:
        wanted = one_hot(real.codes, n_classes, torch.float64) - 1 / n_classes
        losses = (predictions - wanted).square().sum(1) / 2
        losses = losses + 0 * scale
    else:
        losses = torch.nn.functional.cross_entropy(
            scale.exp() * predictions, real.codes, reduction="none"
        )
    loss = (losses * real.weights).sum()
    return loss.detach(), *torch.autograd.grad(loss, [x, y, scale])


@pytest.mark.parametrize("log_scale", [None, 0.0, 1.3])
@pytest.mark.parametrize(("n", "reg"), [(4, 1e-6), (4, 0.1), (12, 1e-2)])
def test_gradients_are_those_of_automatic_differentiation(n, reg, log_scale):
    """Also with more images than features, where only the ridge makes a solution."""
    features, targets, real = problem(n=n)
    scale = None if log_scale is None else torch.tensor(log_scale, **DOUBLE)
    found = regression_loss(features, targets, [real], reg, scale)
    expected = by_autograd(features, targets, real, reg, log_scale)
    got = found.loss, found.features, found.targets, found.log_scale
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_real_images_pass_by_in_parts():
    features, targets, real = problem()
    parts = [
        RealFeatures(*(tensor[part] for tensor in real))
        for part in (slice(0, 4), slice(4, 5), slice(5, None))
    ]
    whole = regression_loss(features, targets, [real], 1e-3)
    found = regression_loss(features, targets, parts, 1e-3)
    for one, other in zip(found, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_features_that_are_pixels_make_a_linear_kernel():
    """Then it is the loss of KIP, but for the mean over classes that is a sum here."""
    features, targets, real = problem()
    n_classes = targets.shape[1]
    kernel = resolve_kernel(
        "linear",
        depth=1,
        weight_variance=float(features.shape[1]),
        bias_variance=0.0,
    )
    wanted = one_hot(real.codes, n_classes, torch.float64) - 1 / n_classes
    part = RealPart(real.features, wanted, real.weights)
    expected = ridge_loss(kernel, features, targets, [part], 1e-4)
    found = regression_loss(features, targets, [real], 1e-4)
    torch.testing.assert_close(found.loss, n_classes * expected.loss)
    torch.testing.assert_close(found.features, n_classes * expected.x)
    torch.testing.assert_close(found.targets, n_classes * expected.targets)


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-4, 1e4), st.integers(2, 9), st.integers(2, 4))
def test_the_scale_of_features_does_not_matter(factor, n, n_classes):
    features, targets, real = problem(n=n, n_classes=n_classes)
    expected = regression_loss(features, targets, [real], 1e-3)
    scaled = real._replace(features=factor * real.features)
    found = regression_loss(factor * features, targets, [scaled], 1e-3)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.targets, expected.targets, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(
        factor * found.features, expected.features, rtol=1e-8, atol=1e-10
    )


def test_permuted_images_have_permuted_gradients():
    features, targets, real = problem(n=6)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    expected = regression_loss(features, targets, [real], 1e-3)
    found = regression_loss(features[order], targets[order], [real], 1e-3)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.features, expected.features[order])
    torch.testing.assert_close(found.targets, expected.targets[order])


def test_accuracy_is_the_weight_of_what_is_recognized():
    features, targets, real = problem()
    found = regression_loss(features, targets, [real], 1e-3)
    kernel = features @ features.T
    ridge = 1e-3 * kernel.trace() / len(features)
    solution = torch.linalg.solve(kernel + ridge * torch.eye(len(features)), targets)
    predictions = real.features @ features.T @ solution
    expected = real.weights[predictions.argmax(1) == real.codes].sum()
    torch.testing.assert_close(found.accuracy, expected)
    assert 0 < float(expected) < 1


def test_features_of_a_dead_network_teach_nothing():
    _, targets, real = problem()
    nothing = torch.zeros(5, 7, **DOUBLE)
    found = regression_loss(nothing, targets, [real], 1e-6)
    # All predictions are 0: half the squared length of a centered one-hot row.
    assert float(found.loss) == pytest.approx((1 - 1 / 3) / 2)
    assert not found.features.any()
    assert not found.targets.any()


def test_squared_loss_of_hand_computed_numbers():
    found = squared_loss(
        torch.tensor([[1.0, 0.0]], **DOUBLE), torch.tensor([0]), torch.ones(1, **DOUBLE)
    )
    # From (1/2, -1/2).
    assert float(found.loss) == pytest.approx(0.25)
    assert found.predictions.tolist() == [[0.5, 0.5]]


def test_platt_loss_of_hand_computed_numbers():
    found = platt_loss(
        torch.tensor([[1.0, 0.0]], **DOUBLE),
        torch.tensor([0]),
        torch.ones(1, **DOUBLE),
        torch.tensor(math.log(2.0), **DOUBLE),
    )
    wrong = 1 / (1 + math.exp(2))
    assert float(found.loss) == pytest.approx(math.log(1 + math.exp(-2)))
    assert found.predictions.tolist()[0] == pytest.approx([-2 * wrong, 2 * wrong])
    assert float(found.log_scale) == pytest.approx(-2 * wrong)


def test_margins_of_learned_targets():
    targets = torch.tensor(
        [[0.9, 0.1, 0.0], [0.2, 0.1, 0.0], [-0.3, 0.5, 0.4]], **DOUBLE
    ).requires_grad_()
    loss, gradient = margin_loss(targets.detach())
    # The first is wide enough.
    assert float(loss) == pytest.approx(-(1 / 3 + 0.1 + 0.1) / 3)
    two = targets.topk(2, dim=1).values
    expected = -(two[:, 0] - two[:, 1]).clamp(max=1 / 3).mean()
    (by_targets,) = torch.autograd.grad(expected, targets)
    torch.testing.assert_close(gradient, by_targets)


# The objective


def network(width=3, depth=2, normalization="instance", channels=2, n_classes=3):
    return ConvNet(
        (8, 8, channels),
        n_classes,
        width=width,
        depth=depth,
        normalization=normalization,
    )


def real_data(n=13, channels=2, weight=None):
    X = numbers(n, 8, 8, channels, seed=3).numpy()
    codes = np.arange(n) % 3
    return RealData(
        X,
        codes,
        weight,
        np.arange(3),
        device=torch.device("cpu"),
        fingerprint="",
        given=(X, codes, weight),
    )


def make_objective(data, n_joined=None, max_steps=2, n_networks=3, **changes):
    options = {"reg": 1e-2, "temperature": None, "n_real": None, "mirror": False}
    options |= {"learns_labels": True} | changes
    derivatives = ConvNetDerivatives(network(), loss="squared")
    pool = NetworkPool(
        network,
        derivatives.gradient,
        InnerAdam(),
        n_networks=n_networks,
        max_steps=max_steps,
        learning_rate=1e-2,
        seed=0,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )
    return NetworkRegression(data, derivatives, pool, n_joined=n_joined, **options)


def make_synthetic(n=3, *, hard=False, objective=None):
    codes = torch.arange(n) % 3
    labels = one_hot(codes, 3, torch.float64)
    if not hard:
        labels = labels - 1 / 3 + 0.1 * numbers(n, 3, seed=5)
    extras = {} if objective is None else objective.extras()
    return SyntheticParameters(
        Adam(numbers(n, 2, 8, 8, seed=4), 0.1, 1.0),
        HardLabels(labels) if hard else Targets(Adam(labels, 0.1, 1.0)),
        codes,
        extras,
    )


@pytest.mark.parametrize("platt", [False, True])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("n_joined", [None, 2])
def test_gradients_of_images_labels_and_temperature(n_joined, mirror, platt):
    temperature = Temperature(0.1) if platt else None
    if temperature is not None:
        temperature.step({"by_log_scale": -1.0}, 1.0)
    data = real_data(weight=np.linspace(1, 2, 13))
    objective = make_objective(
        data,
        n_joined,
        max_steps=0 if n_joined else 2,
        n_networks=n_joined or 3,
        mirror=mirror,
        temperature=temperature,
    )
    synthetic = make_synthetic(objective=objective)
    draw = Draw(0, 1)
    found = objective.evaluate(synthetic, draw)

    places = range(n_joined) if n_joined else [objective._pool.choose(1)]
    modules = []
    for place in places:
        module = network().double()
        load_flat_parameters(module, objective._pool[place].parameters)
        modules.append(module)

    def features(images):
        return torch.cat([m.features(images).flatten(1) for m in modules], 1)

    images = synthetic.images.clone().requires_grad_()
    labels = synthetic.labels.clone().requires_grad_()
    log_scale = torch.zeros((), **DOUBLE)
    if temperature is not None:
        log_scale = temperature.log_scale.double()
        assert float(log_scale) == pytest.approx(0.1)
    log_scale.requires_grad_()
    x, y = images, labels
    if mirror:
        x, y = torch.cat([images, images.flip(3)]), torch.cat([labels, labels])
    phi = features(x)
    kernel = phi @ phi.T
    ridge = 1e-2 * kernel.trace() / len(phi) * torch.eye(len(phi), **DOUBLE)
    batch = data.batch(draw, None, dtype=torch.float64)
    predictions = features(batch.images) @ phi.T @ torch.linalg.solve(kernel + ridge, y)
    if platt:
        losses = torch.nn.functional.cross_entropy(
            log_scale.exp() * predictions, batch.codes, reduction="none"
        )
    else:
        wanted = one_hot(batch.codes, 3, torch.float64) - 1 / 3
        losses = (predictions - wanted).square().sum(1) / 2 + 0 * log_scale
    two = labels.topk(2, dim=1).values
    margin = (two[:, 0] - two[:, 1]).clamp(max=1 / 3).mean()
    loss = (losses * batch.weights).sum() / 3 - margin
    expected = torch.autograd.grad(loss, [images, labels, log_scale])

    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(found.metrics["loss"], loss.detach(), **close)
    torch.testing.assert_close(found.gradients["images"], expected[0], **close)
    torch.testing.assert_close(found.gradients["labels"], expected[1], **close)
    if platt:
        by_log_scale = found.metrics["by_log_scale"]
        torch.testing.assert_close(by_log_scale, expected[2], **close)


def test_hard_labels_are_one_hot_rows_less_those_of_chance():
    data = real_data()
    hard = make_objective(data, learns_labels=False)
    found = hard.evaluate(make_synthetic(hard=True), Draw(0, 0))
    assert set(found.gradients) == {"images"}
    learned = make_objective(data)
    synthetic = make_synthetic()
    codes = synthetic.codes
    synthetic._labels.optimizer.value = one_hot(codes, 3, torch.float64) - 1 / 3
    other = learned.evaluate(synthetic, Draw(0, 0))
    assert torch.equal(found.gradients["images"], other.gradients["images"])
    # The margin of such labels is wide enough.
    loss = other.metrics["loss"] + 1 / 3
    torch.testing.assert_close(found.metrics["loss"], loss)
    assert hard.targets(synthetic.images, synthetic.labels) is None


def test_one_network_without_steps_is_plain_descent():
    data = real_data()
    objective = make_objective(data, n_joined=1, max_steps=0, n_networks=1)
    synthetic = make_synthetic()
    found = [objective.evaluate(synthetic, Draw(0, place)) for place in range(2)]
    # All real images, the same network: nothing is random.
    assert torch.equal(found[0].gradients["images"], found[1].gradients["images"])
    objective.advance(synthetic, {}, Draw(0, 0))
    other = objective.evaluate(synthetic, Draw(0, 1))
    assert not torch.equal(found[0].gradients["images"], other.gradients["images"])


def test_networks_that_served_learn_from_the_images():
    data = real_data()
    objective, synthetic = make_objective(data), make_synthetic()
    objective.n_draws = 2
    served = {objective._pool.choose(4), objective._pool.choose(4, 1)}
    objective.advance(synthetic, {}, Draw(0, 4))
    steps = [network.n_steps for network in map(objective._pool.__getitem__, range(3))]
    renewed = objective.state()["generations"].tolist()
    for place in range(3):
        changed = steps[place] + renewed[place]
        assert changed == (1 if place in served else 0)


def test_networks_with_joint_features_are_all_drawn_anew():
    objective = make_objective(real_data(), n_joined=2, max_steps=0, n_networks=4)
    objective.n_draws = 2
    objective.advance(make_synthetic(), {}, Draw(0, 0))
    assert objective.state()["generations"].tolist() == [1, 1, 1, 1]
    objective.rolled_back(make_synthetic(), 1)
    assert objective.state()["generations"].tolist() == [2, 2, 2, 2]


def test_a_stored_pool_goes_on_bitwise():
    data, synthetic = real_data(), make_synthetic()
    objective = make_objective(data)
    for iteration in range(5):
        objective.advance(synthetic, {}, Draw(0, iteration))
    other = make_objective(data)
    other.restore(objective.state())
    for one in (objective, other):
        one.advance(synthetic, {}, Draw(0, 5))
    found, expected = other.state(), objective.state()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    few = make_objective(data, n_networks=2)
    with pytest.raises(ValueError, match="pool of 2 networks"):
        few.restore(objective.state())


def test_images_that_are_no_numbers_make_no_numbers():
    """The engine goes back to others then; nothing is raised."""
    for temperature in (None, Temperature(0.1)):
        objective = make_objective(real_data(), temperature=temperature)
        synthetic = make_synthetic()
        synthetic._images.value = synthetic.images * torch.nan
        found = objective.evaluate(synthetic, Draw(0, 0))
        assert found.metrics["loss"].isnan()
        assert set(objective.columns) <= set(found.metrics)
        assert set(found.gradients) == {"images", "labels"}


def test_batches_of_some_classes_are_parts_of_the_whole_batch():
    data, draw = real_data(n=30, weight=np.linspace(1, 2, 30)), Draw(0, 7)
    whole = data.batch(draw, 4)
    for most in (1, 8, 9, 100):
        parts = list(data.batches(draw, 4, most))
        assert len(parts) == {1: 3, 8: 2, 9: 2, 100: 1}[most]
        for name in ("images", "codes", "weights"):
            joined = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(joined, getattr(whole, name))
    assert sum(sum(part.sizes) for part in data.batches(draw, None, 5)) == 30


# Random features


def kernel_of_random_features(x, width, n_networks, generator):
    """Return the mean of <phi(x), phi(z)> over features of networks that are drawn."""
    n_inputs = x.shape[1]
    # On images of one pixel a convolution is a fully connected layer.
    module = ConvNet((1, 1, n_inputs), 2, width=width, depth=1, normalization="none")
    networks = ConvNetFeatures(module)
    images = x[:, :, None, None]
    features = []
    for _ in range(n_networks):
        kernel = torch.randn(width, n_inputs, 3, 3, generator=generator, **DOUBLE)
        kernel *= math.sqrt(2 / n_inputs)
        bias = torch.randn(width, generator=generator, **DOUBLE) * 0.1
        rest = torch.zeros(2 * width + 2, **DOUBLE)
        parameters = torch.cat([kernel.flatten(), bias, rest])
        features.append(networks.features(parameters, images).embedding)
    joined = torch.cat(features, 1)
    return 2 * joined @ joined.T / joined.shape[1] + 0.01


def test_joint_features_of_random_networks_come_to_the_nngp():
    """With an error that falls like one over the root of the number of features."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 4, generator=generator, **DOUBLE)
    exact = NetworkKernel(
        tangent=False, depth=1, weight_variance=2.0, bias_variance=0.01
    )(x)

    def error(width, n_networks):
        squares = [
            (kernel_of_random_features(x, width, n_networks, generator) - exact)
            .square()
            .mean()
            for _ in range(30)
        ]
        return float(torch.stack(squares).mean().sqrt() / exact.square().mean().sqrt())

    narrow, wide, joined = error(64, 1), error(1024, 1), error(128, 8)
    assert narrow / wide == pytest.approx(4, rel=0.25)
    # Eight networks are as good as one that is eight times as wide.
    assert joined / wide == pytest.approx(1, rel=0.25)
    # Of an entry of the diagonal the root of 5 over the number of features.
    assert wide < 0.1
