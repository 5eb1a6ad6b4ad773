import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdistill.distillation._updates import (
    AUTO_DECAY,
    AUTO_PIXEL_STEP,
    MOMENTUM,
    MOST_LOG_CHANGE,
    PixelUpdate,
    StepSizeUpdate,
)

SHAPE = (3, 2, 5, 4)

powers_of_ten = st.floats(-6, 6).map(lambda exponent: 10.0**exponent)


def draw_gradients(seed, n_updates=6):
    """Gradients whose size goes up and down, as those of different epochs do."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.rand(n_updates, generator=generator) + 0.1
    return [size * torch.randn(SHAPE, generator=generator) for size in sizes]


def follow(update, gradients, images=None):
    images = torch.zeros(SHAPE) if images is None else images
    for gradient in gradients:
        images = update(images, gradient)
    return images


@settings(max_examples=40)
@given(unit=powers_of_ten, seed=st.integers(0, 99))
def test_auto_is_the_same_in_any_unit_of_the_pixels(unit, seed):
    gradients = draw_gradients(seed)
    expected = follow(PixelUpdate("auto", 0.8), gradients)
    # Pixels that are larger by a factor have gradients that are smaller by it.
    smaller = [gradient / unit for gradient in gradients]
    found = follow(PixelUpdate("auto", 0.8 * unit), smaller)
    torch.testing.assert_close(found / unit, expected, rtol=1e-4, atol=1e-5)
    assert float(expected.abs().max()) > 0


@settings(max_examples=40)
@given(factor=powers_of_ten, seed=st.integers(0, 99))
def test_auto_is_the_same_for_any_size_of_the_gradient(factor, seed):
    gradients = draw_gradients(seed)
    expected = follow(PixelUpdate("auto", 2.0), gradients)
    found = follow(PixelUpdate("auto", 2.0), [factor * g for g in gradients])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [1e-36, 1e-25, 1e25, 1e36])
def test_auto_knows_gradients_whose_squares_no_float_holds(factor):
    gradients = draw_gradients(0)
    expected = follow(PixelUpdate("auto", 2.0), gradients)
    found = follow(PixelUpdate("auto", 2.0), [factor * g for g in gradients])
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
        images = images - AUTO_PIXEL_STEP * 0.8 * velocity
    found = follow(PixelUpdate("auto", 0.8), gradients)
    torch.testing.assert_close(found.double(), images, rtol=1e-4, atol=1e-6)


def test_auto_goes_down_the_gradient_by_a_share_of_the_deviation():
    gradient = draw_gradients(0)[0]
    change = PixelUpdate("auto", 50.0)(torch.zeros(SHAPE), gradient)
    assert float((change * gradient).sum()) < 0
    assert 0.001 < float(change.square().mean().sqrt()) / 50.0 < 1


def test_auto_makes_larger_steps_for_larger_gradients_of_one_fit():
    update = PixelUpdate("auto", 1.0)
    gradient = draw_gradients(0)[0]
    images = follow(update, [gradient] * 5)
    outlier = update(images, 3 * gradient) - images
    usual = PixelUpdate("auto", 1.0)
    images = follow(usual, [gradient] * 5)
    step = usual(images, gradient) - images
    assert float(outlier.norm()) > float(step.norm())


@pytest.mark.parametrize("learning_rate", ["auto", 3.0])
def test_gradient_of_zero_leaves_the_images(learning_rate):
    images = torch.randn(SHAPE)
    update = PixelUpdate(learning_rate, 1.0)
    assert torch.equal(follow(update, [torch.zeros(SHAPE)] * 3, images), images)


@pytest.mark.parametrize("learning_rate", ["auto", 0.3])
def test_images_that_were_given_are_not_changed(learning_rate):
    images, gradient = torch.randn(SHAPE), torch.randn(SHAPE)
    before = images.clone(), gradient.clone()
    update = PixelUpdate(learning_rate, 1.0)
    update(update(images, gradient), gradient)
    assert torch.equal(images, before[0])
    assert torch.equal(gradient, before[1])


def test_number_is_plain_descent_with_momentum():
    assert MOMENTUM == 0.5
    gradients = draw_gradients(1)
    start = torch.randn(SHAPE)
    found = follow(PixelUpdate(0.3, 123.0), gradients, start)
    leaf = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([leaf], lr=0.3, momentum=0.5)
    for gradient in gradients:
        leaf.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(found, leaf.detach(), rtol=1e-5, atol=1e-6)


@given(
    value=st.floats(1e-6, 1),
    learning_rate=st.floats(0, 1),
    gradients=st.lists(st.floats(-1e8, 1e8), min_size=1, max_size=10),
)
def test_step_size_changes_by_a_bounded_factor_and_stays_positive(
    value, learning_rate, gradients
):
    update = StepSizeUpdate(value, learning_rate)
    assert update.value == pytest.approx(value, rel=1e-5)
    for gradient in gradients:
        before = update.value
        update(torch.tensor(gradient))
        assert abs(math.log(update.value / before)) <= MOST_LOG_CHANGE + 1e-4


def test_small_gradients_move_the_step_size_as_plain_descent_does():
    update = StepSizeUpdate(0.02, 0.1)
    logarithm = torch.tensor(math.log(0.02), requires_grad=True)
    optimizer = torch.optim.SGD([logarithm], lr=0.1, momentum=MOMENTUM)
    for gradient in (0.3, -0.1, 0.2, 0.5):
        update(torch.tensor(gradient))
        logarithm.grad = torch.tensor(gradient)
        optimizer.step()
    assert update.value == pytest.approx(float(logarithm.detach().exp()), rel=1e-5)


def test_step_size_of_rate_zero_stays():
    update = StepSizeUpdate(0.02, 0.0)
    update(torch.tensor(1e6))
    assert update.value == pytest.approx(0.02, rel=1e-6)


def test_shrink_lowers_the_step_size_and_forgets_the_momentum():
    update = StepSizeUpdate(0.02, 0.1)
    update(torch.tensor(-1e3))
    before = update.value
    update.shrink()
    assert 0 < update.value < before
    after = update.value
    update(torch.tensor(0.0))
    assert update.value == pytest.approx(after, rel=1e-6)
