"""How a tensor follows its gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdistill.distillation._engine._optimizers import (
    AUTO_DECAY,
    AUTO_STEP,
    MOMENTUM,
    SGD,
    Adam,
)

SHAPE = (3, 2, 5, 4)

powers_of_ten = st.floats(-20, 20).map(lambda exponent: 10.0**exponent)
learning_rates = st.sampled_from(["auto", 0.3])


def draw_gradients(seed, n_updates=6):
    """Gradients whose size goes up and down, as those of different epochs do."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.rand(n_updates, generator=generator) + 0.1
    return [size * torch.randn(SHAPE, generator=generator) for size in sizes]


def follow(learning_rate, unit, gradients, start=None, factor=1.0):
    start = torch.zeros(SHAPE) if start is None else start
    optimizer = SGD(start, learning_rate, unit)
    for gradient in gradients:
        optimizer.step(gradient, factor)
    return optimizer.value


# A tensor


@settings(max_examples=40)
@given(unit=powers_of_ten, seed=st.integers(0, 99))
def test_auto_is_the_same_in_any_unit_of_the_values(unit, seed):
    gradients = draw_gradients(seed)
    expected = follow("auto", 0.8, gradients)
    # Pixels that are larger by a factor have gradients that are smaller by it.
    smaller = [gradient / unit for gradient in gradients]
    found = follow("auto", 0.8 * unit, smaller)
    torch.testing.assert_close(found / unit, expected, rtol=1e-4, atol=1e-5)
    assert float(expected.abs().max()) > 0


@settings(max_examples=40)
@given(factor=powers_of_ten, seed=st.integers(0, 99))
def test_auto_is_the_same_for_any_size_of_the_gradient(factor, seed):
    gradients = draw_gradients(seed)
    expected = follow("auto", 2.0, gradients)
    found = follow("auto", 2.0, [factor * g for g in gradients])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [1e-36, 1e-25, 1e25, 1e36])
def test_auto_knows_gradients_whose_squares_no_float_holds(factor):
    gradients = draw_gradients(0)
    expected = follow("auto", 2.0, gradients)
    found = follow("auto", 2.0, [factor * g for g in gradients])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=20)
@given(seed=st.integers(0, 99), n_updates=st.integers(1, 8))
def test_auto_divides_by_the_unbiased_running_root_mean_square(seed, n_updates):
    gradients = draw_gradients(seed, n_updates)
    images, velocity, rms = torch.zeros(SHAPE, dtype=torch.float64), 0.0, 0.0
    for i, gradient in enumerate(gradients, start=1):
        gradient = gradient.double()
        rms = AUTO_DECAY * rms + (1 - AUTO_DECAY) * gradient.square().mean().sqrt()
        unbiased = rms / (1 - AUTO_DECAY**i)
        velocity = MOMENTUM * velocity + gradient / unbiased
        images = images - AUTO_STEP * 0.8 * velocity
    found = follow("auto", 0.8, gradients)
    torch.testing.assert_close(found.double(), images, rtol=1e-4, atol=1e-6)


def test_auto_goes_down_the_gradient_by_a_share_of_the_deviation():
    gradient = draw_gradients(0)[0]
    change = follow("auto", 50.0, [gradient])
    assert float((change * gradient).sum()) < 0
    assert 0.001 < float(change.square().mean().sqrt()) / 50.0 < 1


def test_auto_makes_larger_steps_for_larger_gradients_of_one_fit():
    gradient = draw_gradients(0)[0]
    before = follow("auto", 1.0, [gradient] * 5)
    outlier = follow("auto", 1.0, [gradient] * 5 + [3 * gradient]) - before
    usual = follow("auto", 1.0, [gradient] * 6) - before
    assert float(outlier.norm()) > float(usual.norm())


@pytest.mark.parametrize("learning_rate", ["auto", 3.0])
def test_gradient_of_zero_leaves_the_values(learning_rate):
    start = torch.randn(SHAPE)
    found = follow(learning_rate, 1.0, [torch.zeros(SHAPE)] * 3, start)
    assert torch.equal(found, start)


@settings(max_examples=20)
@given(
    rate=st.floats(1e-3, 10),
    factor=st.floats(0.01, 1),
    seed=st.integers(0, 99),
)
def test_number_is_plain_sgd_with_momentum(rate, factor, seed):
    assert MOMENTUM == 0.5
    gradients = draw_gradients(seed)
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    found = follow(rate, 123.0, gradients, start, factor)
    leaf = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([leaf], lr=rate * factor, momentum=0.5)
    for gradient in gradients:
        leaf.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(found, leaf.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("learning_rate", ["auto", 0.3])
def test_factor_scales_the_rate(learning_rate):
    gradients = draw_gradients(2)
    whole = follow(learning_rate, 2.0, gradients)
    half = follow(learning_rate, 2.0, gradients, factor=0.5)
    torch.testing.assert_close(2 * half, whole)
    assert torch.equal(follow(learning_rate, 2.0, gradients, factor=0.0), 0 * whole)


@settings(max_examples=30)
@given(
    learning_rate=learning_rates,
    seed=st.integers(0, 99),
    n_before=st.integers(0, 4),
    n_between=st.integers(1, 4),
)
def test_restored_optimizer_is_bitwise_identical(
    learning_rate, seed, n_before, n_between
):
    gradients = draw_gradients(seed, 12)
    optimizer = SGD(torch.ones(SHAPE), learning_rate, 0.8)
    for gradient in gradients[:n_before]:
        optimizer.step(gradient, 1.0)
    state = optimizer.state()
    copies = {name: tensor.clone() for name, tensor in state.items()}
    for gradient in gradients[8:]:
        optimizer.step(gradient, 0.5)
    expected = optimizer.value
    for gradient in gradients[4 : 4 + n_between]:
        optimizer.step(gradient, 1.0)
    # What was taken stays as it was.
    assert all(torch.equal(state[name], copies[name]) for name in state)
    other = SGD(torch.zeros(SHAPE), learning_rate, 0.8)
    for resumed in (optimizer, other):
        resumed.restore(state)
        for gradient in gradients[8:]:
            resumed.step(gradient, 0.5)
        assert torch.equal(resumed.value, expected)
        assert torch.equal(resumed.average, optimizer.average)


def test_average_is_over_all_steps_the_later_with_more_weight():
    optimizer, values = SGD(torch.ones(SHAPE).double(), 0.3, 1.0), []
    assert torch.equal(optimizer.average, optimizer.value)
    for number, gradient in enumerate(draw_gradients(0, 9), start=1):
        optimizer.step(gradient.double(), 1.0)
        values.append(optimizer.value)
        steps = torch.arange(1, number + 1).double()
        weights = steps * (steps + 1)  # within the power of 2 of the rank
        expected = torch.einsum(
            "t,t...->...", weights / weights.sum(), torch.stack(values)
        )
        torch.testing.assert_close(optimizer.average, expected, rtol=1e-12, atol=1e-12)


def test_average_is_closer_to_the_minimum_than_the_last_step():
    """Of |x|^2 / 2, whose gradients are seen through noise."""
    generator = torch.Generator().manual_seed(0)
    optimizer = SGD(torch.full((1000,), 3.0), 0.1, 1.0)
    for _ in range(200):
        noise = 5.0 * torch.randn(1000, generator=generator)
        optimizer.step(optimizer.value + noise, 1.0)
    # Of 1000 values: the ratio is known to some percent.
    assert optimizer.average.square().mean() < 0.3 * optimizer.value.square().mean()


@pytest.mark.parametrize("learning_rate", ["auto", 0.3])
def test_no_tensor_is_changed_in_place(learning_rate):
    start, gradient = torch.randn(SHAPE), torch.randn(SHAPE)
    before = start.clone(), gradient.clone()
    optimizer = SGD(start, learning_rate, 1.0)
    optimizer.step(gradient, 1.0)
    first = optimizer.value
    copy = first.clone()
    optimizer.step(gradient, 1.0)
    assert torch.equal(start, before[0])
    assert torch.equal(gradient, before[1])
    assert torch.equal(first, copy)


# Adam


@settings(max_examples=20)
@given(
    rate=st.floats(1e-3, 1),
    factor=st.sampled_from([1.0, 0.5, 0.25]),
    betas=st.tuples(st.floats(0, 0.95), st.floats(0.5, 0.999)),
    seed=st.integers(0, 99),
)
def test_adam_is_that_of_torch(rate, factor, betas, seed):
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)).double()
    optimizer = Adam(start, rate, 123.0, betas=betas)
    leaf = start.clone().requires_grad_()
    reference = torch.optim.Adam([leaf], lr=rate * factor, betas=betas)
    for place, gradient in enumerate(draw_gradients(seed)):
        if place == 3:
            # The average begins again, the moments do not.
            optimizer.restart_average()
        optimizer.step(gradient.double(), factor)
        leaf.grad = gradient.double()
        reference.step()
    torch.testing.assert_close(optimizer.value, leaf.detach(), rtol=1e-12, atol=1e-12)


@settings(max_examples=20)
@given(unit=powers_of_ten, seed=st.integers(0, 99))
def test_adam_is_the_same_in_any_unit_of_the_values(unit, seed):
    """But for its epsilon: gradients are of 64 bits, and none is near to it."""
    gradients = [1e30 * gradient.double() for gradient in draw_gradients(seed)]
    found = []
    for size in (1.0, unit):
        optimizer = Adam(torch.zeros(SHAPE).double(), "auto", 0.8 * size)
        for gradient in gradients:
            optimizer.step(gradient / size, 1.0)
        found.append(optimizer.value / size)
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-12)
    assert Adam(torch.zeros(1), "auto", 50.0).learning_rate == AUTO_STEP * 50


@given(seed=st.integers(0, 99), n_before=st.integers(0, 4))
@settings(max_examples=20)
def test_restored_adam_is_bitwise_identical(seed, n_before):
    gradients = draw_gradients(seed, 8)
    optimizer, other = (
        Adam(torch.ones(SHAPE), 0.1, 1.0),
        Adam(torch.zeros(SHAPE), 0.1, 1),
    )
    for gradient in gradients[:n_before]:
        optimizer.step(gradient, 1.0)
    state = optimizer.state()
    copies = {name: tensor.clone() for name, tensor in state.items()}
    for gradient in gradients[4:]:
        optimizer.step(gradient, 0.5)
    assert all(torch.equal(state[name], copies[name]) for name in state)
    other.restore(state)
    for gradient in gradients[4:]:
        other.step(gradient, 0.5)
    assert torch.equal(other.value, optimizer.value)
    assert torch.equal(other.average, optimizer.average)
