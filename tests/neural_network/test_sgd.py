import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skdistill.neural_network._augment import (
    FAMILIES,
    N_UNIFORMS,
    AugmentationDraw,
    augment,
)
from skdistill.neural_network._convnet import (
    NORMALIZATIONS,
    ConvNet,
    flatten_parameters,
)
from skdistill.neural_network._sgd import (
    SGDSettings,
    all_at_once,
    descend_epoch,
    one_by_one,
    plan_epoch,
)
from skdistill.utils._random import isolated_torch_seed, torch_generator

N_NETWORKS, N_SAMPLES, N_CLASSES, SHAPE = 3, 11, 4, (8, 8, 2)


def make_module(normalization="instance", seed=0, dtype=torch.float64):
    with isolated_torch_seed(seed):
        module = ConvNet(
            SHAPE, N_CLASSES, width=6, depth=2, normalization=normalization
        )
        return module.to(dtype)


@pytest.fixture
def data():
    generator = torch_generator(1)
    images = torch.randn(N_SAMPLES, 2, 8, 8, dtype=torch.float64, generator=generator)
    codes = torch.randint(N_CLASSES, (N_SAMPLES,), generator=generator)
    weight = torch.rand(N_SAMPLES, dtype=torch.float64, generator=generator) + 0.5
    return images, F.one_hot(codes, N_CLASSES) * weight[:, None]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("which", [one_by_one, all_at_once])
def test_gradients_are_those_of_the_module(data, which, normalization):
    images, targets = data
    modules = [make_module(normalization, seed) for seed in range(N_NETWORKS)]
    batches = torch.stack([torch.arange(5) + 2 * k for k in range(N_NETWORKS)])
    parameters = torch.stack([flatten_parameters(module) for module in modules])
    found = which(modules[0])(parameters, images[batches], targets[batches])
    for k, module in enumerate(modules):
        logits = module(images[batches[k]])
        wanted = targets[batches[k]]
        weight, classes = wanted.sum(dim=1), wanted.argmax(dim=1)
        losses = weight * F.cross_entropy(logits, classes, reduction="none")
        expected = torch.autograd.grad(losses.mean(), list(module.parameters()))
        expected = torch.cat([part.reshape(-1) for part in expected])
        torch.testing.assert_close(found.parameters[k], expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found.losses[k], losses.detach())
        torch.testing.assert_close(found.logits[k], logits.detach())


def descend(parameters, data, gradients, plans, descent, velocity=None):
    images, targets = data
    parameters = parameters.clone()
    summary = descend_epoch(
        gradients, parameters, velocity, images, targets, plans, descent
    )
    return parameters, summary


def make_plans(families, seeds=range(N_NETWORKS), batch_size=4):
    return [
        plan_epoch(N_SAMPLES, batch_size, families, torch_generator(seed))
        for seed in seeds
    ]


@pytest.mark.parametrize("families", [(), ("flip",), FAMILIES])
def test_networks_at_once_are_as_one_by_one(data, families):
    """What a GPU does is, but for rounding, what the CPU does."""
    module = make_module()
    parameters = torch.stack(
        [flatten_parameters(make_module(seed=k)) for k in range(N_NETWORKS)]
    )
    descent = SGDSettings(0.1, 0.5, 0.01, 4, 1.3)
    plans = make_plans(families)
    velocity = torch.zeros_like(parameters)
    found, summary = descend(
        parameters, data, all_at_once(module), plans, descent, velocity
    )
    for k in range(N_NETWORKS):
        alone_velocity = torch.zeros_like(parameters[k : k + 1])
        alone, own = descend(
            parameters[k : k + 1],
            data,
            one_by_one(module),
            plans[k : k + 1],
            descent,
            alone_velocity,
        )
        torch.testing.assert_close(found[k], alone[0], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(velocity[k], alone_velocity[0], rtol=1e-8, atol=1e-9)
        for one, other in zip(summary, own, strict=True):
            torch.testing.assert_close(one[k], other[0])


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0, 0), (0.9, 0), (0.5, 0.2)])
def test_descent_is_that_of_torch(data, momentum, weight_decay):
    """The same as torch's SGD on the module, batch by batch."""
    images, targets = data
    module = make_module()
    start = flatten_parameters(module)[None]
    plans = make_plans(FAMILIES, seeds=[3])
    descent = SGDSettings(0.1, momentum, weight_decay, 4, 1.3)
    velocity = torch.zeros_like(start) if momentum else None
    found, (loss, accuracy) = descend(
        start, data, one_by_one(module), plans, descent, velocity
    )
    optimizer = torch.optim.SGD(
        module.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay
    )
    losses, right = [], []
    order, families, uniforms = plans[0]
    for step, batch in enumerate(order.split(4)):
        own = uniforms[4 * step : 4 * step + 4]
        seen = augment(images[batch], AugmentationDraw(families[step], own), 1.3)
        logits = module(seen)
        weight, classes = targets[batch].sum(dim=1), targets[batch].argmax(dim=1)
        each = weight * F.cross_entropy(logits, classes, reduction="none")
        optimizer.zero_grad()
        each.mean().backward()
        optimizer.step()
        losses += each.tolist()
        right += (logits.argmax(dim=1) == classes).tolist()
    torch.testing.assert_close(found[0], flatten_parameters(module))
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-6)
    assert float(accuracy) == pytest.approx(np.mean(right))


def test_single_precision_is_close_to_double(data):
    images, targets = (tensor.float() for tensor in data)
    module = make_module(dtype=torch.float32)
    start = flatten_parameters(module)[None]
    plans = make_plans(FAMILIES, seeds=[0])
    descent = SGDSettings(0.1, 0.0, 0.0, 4, 1.0)
    found, _ = descend(start, (images, targets), one_by_one(module), plans, descent)
    exact, _ = descend(
        start.double(), data, one_by_one(module.double()), plans, descent
    )
    error = (found - exact).norm() / (exact - start).norm()
    assert error < 1e-5


def test_plans():
    plan = plan_epoch(N_SAMPLES, 4, FAMILIES, torch_generator(0))
    assert sorted(plan.order.tolist()) == list(range(N_SAMPLES))
    assert len(plan.families) == 3
    assert set(plan.families) <= set(FAMILIES)
    assert plan.uniforms.shape == (N_SAMPLES, N_UNIFORMS)
    other = plan_epoch(N_SAMPLES, 4, FAMILIES, torch_generator(1))
    assert not torch.equal(plan.order, other.order)
    assert plan_epoch(7, 7, (), torch_generator(0)).families == ["identity"]


def test_all_families_of_a_chain_are_applied(data):
    """Each in turn, with draws of its own, as in the training of a module."""
    images, targets = data
    module = make_module()
    start = flatten_parameters(module)[None]
    plans = make_plans(("flip", "color+crop+cutout"), seeds=[0])
    order, families, uniforms = plans[0]
    assert set(families) == {"flip", "color+crop+cutout"}
    assert uniforms.shape == (N_SAMPLES, 3 * N_UNIFORMS)
    found, _ = descend(
        start, data, one_by_one(module), plans, SGDSettings(0.1, 0.0, 0.0, 4, 1.3)
    )
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for step, batch in enumerate(order.split(4)):
        seen = images[batch]
        for place, family in enumerate(families[step].split("+")):
            own = uniforms[4 * step : 4 * step + 4, 3 * place : 3 * place + 3]
            seen = augment(seen, AugmentationDraw(family, own), 1.3)
        each = -(targets[batch] * module(seen).log_softmax(1)).sum(1)
        optimizer.zero_grad()
        each.mean().backward()
        optimizer.step()
    torch.testing.assert_close(found[0], flatten_parameters(module))


def test_families_are_drawn_alike():
    plan = plan_epoch(6000, 1, FAMILIES, torch_generator(0))
    counts = [plan.families.count(family) for family in FAMILIES]
    # Six standard deviations of a binomial of 6000 and 1/6.
    assert max(abs(count - 1000) for count in counts) < 6 * 28.9


def test_after_each_step_one_is_told(data):
    images, targets = data
    module = make_module()
    parameters = flatten_parameters(module)[None]
    told = []

    def after_step(step):
        told.append((step, parameters.clone()))

    descend_epoch(
        one_by_one(module),
        parameters,
        None,
        images,
        targets,
        make_plans((), seeds=[0]),
        SGDSettings(0.1, 0.0, 0.0, 4, 1.0),
        after_step,
    )
    assert [step for step, _ in told] == [1, 2, 3]
    assert torch.equal(told[-1][1], parameters)
    assert not torch.equal(told[0][1], told[1][1])
