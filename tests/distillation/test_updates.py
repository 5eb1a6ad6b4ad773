import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdistill.distillation._objectives._trajectory_distance import Match, MatchGradient
from skdistill.distillation._updates import (
    AUTO_DECAY,
    AUTO_STEP,
    AUTO_STEP_SIZE_PART,
    FIRST_CONFIDENCE,
    MOMENTUM,
    MOST_LOG_CHANGE,
    MOST_LOG_STRETCH,
    Descent,
    Learned,
    StepSizes,
    block_sums,
    enlarge,
)

SHAPE = (3, 2, 5, 4)

powers_of_ten = st.floats(-20, 20).map(lambda exponent: 10.0**exponent)
rates = st.sampled_from(["auto", 0.3])


def draw_gradients(seed, n_updates=6):
    """Gradients whose size goes up and down, as those of different epochs do."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.rand(n_updates, generator=generator) + 0.1
    return [size * torch.randn(SHAPE, generator=generator) for size in sizes]


def follow(learning_rate, unit, gradients, start=None, factor=1.0):
    start = torch.zeros(SHAPE) if start is None else start
    descent = Descent(start, learning_rate, unit)
    for gradient in gradients:
        descent.step(gradient, factor)
    return descent.value


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
def test_number_is_plain_descent_with_momentum(rate, factor, seed):
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
    learning_rate=rates,
    seed=st.integers(0, 99),
    n_before=st.integers(0, 4),
    n_between=st.integers(1, 4),
)
def test_restored_descent_goes_on_to_the_same_bits(
    learning_rate, seed, n_before, n_between
):
    gradients = draw_gradients(seed, 12)
    descent = Descent(torch.ones(SHAPE), learning_rate, 0.8)
    for gradient in gradients[:n_before]:
        descent.step(gradient, 1.0)
    state = descent.state()
    copies = {name: tensor.clone() for name, tensor in state.items()}
    for gradient in gradients[8:]:
        descent.step(gradient, 0.5)
    expected = descent.value
    for gradient in gradients[4 : 4 + n_between]:
        descent.step(gradient, 1.0)
    # What was taken stays as it was.
    assert all(torch.equal(state[name], copies[name]) for name in state)
    other = Descent(torch.zeros(SHAPE), learning_rate, 0.8)
    for resumed in (descent, other):
        resumed.restore(state)
        for gradient in gradients[8:]:
            resumed.step(gradient, 0.5)
        assert torch.equal(resumed.value, expected)
        assert torch.equal(resumed.average, descent.average)


def test_average_is_over_all_steps_the_later_with_more_weight():
    descent, values = Descent(torch.ones(SHAPE).double(), 0.3, 1.0), []
    assert torch.equal(descent.average, descent.value)
    for number, gradient in enumerate(draw_gradients(0, 9), start=1):
        descent.step(gradient.double(), 1.0)
        values.append(descent.value)
        steps = torch.arange(1, number + 1).double()
        weights = steps * (steps + 1)  # within the power of 2 of the rank
        expected = torch.einsum(
            "t,t...->...", weights / weights.sum(), torch.stack(values)
        )
        torch.testing.assert_close(descent.average, expected, rtol=1e-12, atol=1e-12)


def test_average_is_closer_to_the_minimum_than_the_last_step():
    """Of |x|^2 / 2, whose gradients are seen through noise."""
    generator = torch.Generator().manual_seed(0)
    descent = Descent(torch.full((1000,), 3.0), 0.1, 1.0)
    for _ in range(200):
        noise = 5.0 * torch.randn(1000, generator=generator)
        descent.step(descent.value + noise, 1.0)
    # Of 1000 values: the ratio is known to some percent.
    assert descent.average.square().mean() < 0.3 * descent.value.square().mean()


@pytest.mark.parametrize("learning_rate", ["auto", 0.3])
def test_no_tensor_is_changed_in_place(learning_rate):
    start, gradient = torch.randn(SHAPE), torch.randn(SHAPE)
    before = start.clone(), gradient.clone()
    descent = Descent(start, learning_rate, 1.0)
    descent.step(gradient, 1.0)
    first = descent.value
    copy = first.clone()
    descent.step(gradient, 1.0)
    assert torch.equal(start, before[0])
    assert torch.equal(gradient, before[1])
    assert torch.equal(first, copy)


# Step sizes


@given(
    value=st.floats(1e-6, 1),
    learning_rate=st.floats(0, 1) | st.just("auto"),
    factor=st.floats(0.01, 1),
    per_epoch=st.booleans(),
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.floats(-1e8, 1e8), st.floats(-1e18, 1e18)),
        min_size=1,
        max_size=10,
    ),
)
def test_step_size_changes_by_a_bounded_factor_and_stays_positive(
    value, learning_rate, factor, per_epoch, steps
):
    sizes = StepSizes(value, learning_rate, per_epoch)
    assert sizes.values() == pytest.approx([value])
    for n_epochs, (epoch, gradient, stretch) in enumerate(steps, start=2):
        before = float(sizes.logarithm(epoch))
        sizes.step(epoch, gradient, stretch, factor)
        change = abs(float(sizes.logarithm(epoch)) - before)
        assert change <= MOST_LOG_CHANGE + 1e-5
        assert all(size > 0 for size in sizes.values())
        sizes.extend(n_epochs)


def test_small_gradients_move_the_step_size_as_plain_descent_does():
    sizes = StepSizes(0.02, 0.1, per_epoch=False)
    logarithm = torch.tensor(math.log(0.02), requires_grad=True)
    optimizer = torch.optim.SGD([logarithm], lr=0.1, momentum=MOMENTUM)
    for gradient in (0.3, -0.1, 0.2, 0.5):
        sizes.step(0, gradient, 99.0, 1.0)
        logarithm.grad = torch.tensor(gradient)
        optimizer.step()
    assert sizes.values() == pytest.approx([float(logarithm.detach().exp())], rel=1e-5)


@given(
    stretch=st.floats(-1e18, 1e18),
    gradient=st.floats(-1e8, 1e8),
    factor=st.floats(0, 1),
)
def test_auto_goes_a_part_of_the_way_to_the_best_step_size(stretch, gradient, factor):
    sizes = StepSizes(0.02, "auto", per_epoch=False)
    sizes.step(0, gradient, stretch, factor)
    believed = -MOST_LOG_STRETCH
    if stretch > 0:
        believed = np.clip(math.log(stretch), -MOST_LOG_STRETCH, MOST_LOG_STRETCH)
    expected = math.log(0.02) + AUTO_STEP_SIZE_PART * factor * believed
    assert math.log(sizes.values()[0]) == pytest.approx(expected, rel=1e-9)


@given(best=st.floats(1e-3, 1e3))
def test_auto_ends_at_the_best_step_size(best):
    sizes = StepSizes(1.0, "auto", per_epoch=False)
    for _ in range(250):
        sizes.step(0, 0.0, best / sizes.values()[0], 1.0)
    assert sizes.values() == pytest.approx([best], rel=1e-3)


def test_step_size_of_rate_zero_stays():
    sizes = StepSizes(0.02, 0.0, per_epoch=False)
    sizes.step(0, 1e6, 9.0, 1.0)
    assert sizes.values() == pytest.approx([0.02], rel=1e-12)


def test_common_step_size_is_that_of_all_epochs():
    sizes = StepSizes(0.02, 0.1, per_epoch=False)
    sizes.extend(2)
    sizes.step(5, -0.1, 1.0, 1.0)
    assert len(sizes.values()) == 1
    assert float(sizes.logarithm(0)) == float(sizes.logarithm(7))
    assert sizes.values()[0] > 0.02


@pytest.mark.parametrize("learning_rate", ["auto", 0.1])
def test_each_epoch_moves_its_own_step_size(learning_rate):
    sizes = StepSizes(0.02, learning_rate, per_epoch=True)
    sizes.step(0, -0.1, 1.5, 1.0)
    sizes.extend(2)
    first, last = sizes.values()
    # It starts from the last.
    assert first == last > 0.02
    sizes.extend(2)
    assert sizes.values() == [first, last]
    sizes.step(1, -0.1, 1.5, 1.0)
    assert sizes.values()[0] == first
    assert sizes.values()[1] > last
    before = sizes.values()
    sizes.step(0, 0.1, 0.5, 1.0)
    assert sizes.values()[0] < before[0]
    assert sizes.values()[1] == before[1]
    # Epochs beyond the last have the last, as probes do.
    assert float(sizes.logarithm(9)) == float(sizes.logarithm(1))


def test_rate_grows_with_the_number_of_step_sizes():
    """Each of them is seen the less often, the more there are."""
    changes = []
    for n_sizes in (1, 2, 3):
        sizes = StepSizes(0.02, 0.1, per_epoch=True)
        sizes.extend(n_sizes)
        sizes.step(0, 0.1, 1.0, 1.0)
        changes.append(math.log(0.02 / sizes.values()[0]))
    assert changes == pytest.approx([0.01, 0.02, 0.03])


@pytest.mark.parametrize("learning_rate", ["auto", 0.1])
def test_shrink_halves_the_step_sizes_and_forgets_the_momentum(learning_rate):
    sizes = StepSizes(0.02, learning_rate, per_epoch=True)
    sizes.extend(2)
    sizes.step(0, -1e3, 3.0, 1.0)
    before = sizes.values()
    sizes.shrink()
    after = sizes.values()
    assert after == pytest.approx([size / 2 for size in before])
    sizes.step(0, 0.0, 1.0, 1.0)
    assert sizes.values() == pytest.approx(after)


@pytest.mark.parametrize("learning_rate", ["auto", 0.1])
def test_restored_step_sizes_go_on_to_the_same_bits(learning_rate):
    sizes = StepSizes(0.02, learning_rate, per_epoch=True)
    sizes.step(0, 0.3, 1.4, 1.0)
    sizes.extend(2)
    state = sizes.state()

    def go_on(sizes):
        sizes.step(1, -0.2, 0.9, 0.5)
        sizes.step(0, 0.1, 1.1, 1.0)
        return sizes.values()

    expected = go_on(sizes)
    sizes.shrink()
    sizes.extend(3)
    for resumed in (sizes, StepSizes(0.5, learning_rate, per_epoch=True)):
        resumed.restore(state)
        assert go_on(resumed) == expected


# All together


def make_learned(label_lr, learning_rate=1.0, n_classes=3):
    return Learned(
        Descent(torch.zeros(4, 1, 2, 2), learning_rate, 1.0),
        torch.tensor([0, 1, 2, 1]),
        n_classes,
        StepSizes(0.02, 0.1, per_epoch=False),
        label_lr,
    )


def draw_match(seed, n_classes=3):
    generator = torch.Generator().manual_seed(seed)
    number = torch.tensor(0.5)
    return MatchGradient(
        Match(number, number, number),
        torch.randn(4, 1, 2, 2, generator=generator),
        torch.randn(4, n_classes, generator=generator),
        number,
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 999), n_classes=st.integers(3, 6), rate=st.floats(0.01, 5))
def test_labels_follow_the_gradient_of_their_logits(seed, n_classes, rate):
    """As autograd finds it through the softmax."""
    learned = make_learned(rate, n_classes=n_classes)
    logits = learned.state()["logits.value"].clone().requires_grad_()
    optimizer = torch.optim.SGD([logits], lr=rate, momentum=MOMENTUM)
    for i in range(3):
        gradient = draw_match(seed + i, n_classes)
        targets = learned.targets
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
        optimizer.zero_grad()
        (logits.softmax(1) * gradient.targets).sum().backward()
        optimizer.step()
        learned.step(0, gradient, 0.0, 1.0, 1.0)
        torch.testing.assert_close(
            learned.targets, logits.detach().softmax(1), rtol=1e-4, atol=1e-5
        )
        assert not torch.equal(learned.targets, targets)


@pytest.mark.parametrize("n_classes", [3, 7])
def test_learned_labels_start_nearly_certain(n_classes):
    others = (1 - FIRST_CONFIDENCE) / (n_classes - 1)
    expected = torch.full((4, n_classes), others)
    expected[torch.arange(4), torch.tensor([0, 1, 2, 1])] = FIRST_CONFIDENCE
    torch.testing.assert_close(make_learned(1.0, n_classes=n_classes).targets, expected)


def test_hard_labels_stay():
    learned = make_learned(None)
    expected = torch.eye(3)[[0, 1, 2, 1]]
    assert torch.equal(learned.targets, expected)
    learned.step(0, draw_match(0), 0.1, 1.0, 1.0)
    assert torch.equal(learned.targets, expected)
    assert not any(name.startswith("logits") for name in learned.state())


@pytest.mark.parametrize("label_lr", [None, 0.5, "auto"])
@pytest.mark.parametrize("learning_rate", ["auto", 0.3])
def test_restored_state_goes_on_to_the_same_bits(label_lr, learning_rate):
    learned = make_learned(label_lr, learning_rate)
    learned.step(0, draw_match(0), 0.1, 1.2, 1.0)
    state = learned.state()
    copies = {name: tensor.clone() for name, tensor in state.items()}

    def go_on(learned):
        learned.step(0, draw_match(1), -0.2, 0.9, 0.5)
        return [
            learned.images,
            learned.targets,
            torch.tensor(learned.step_sizes.values()),
        ]

    expected = go_on(learned)
    assert all(torch.equal(state[name], copies[name]) for name in state)
    for resumed in (learned, make_learned(label_lr, learning_rate)):
        resumed.restore(state)
        assert all(map(torch.equal, go_on(resumed), expected))
        assert all(torch.equal(state[name], copies[name]) for name in state)


@pytest.mark.parametrize("label_lr", [None, 0.5])
def test_result_is_that_of_the_last_step_or_the_average(label_lr):
    learned = make_learned(label_lr)
    for seed in range(3):
        learned.step(0, draw_match(seed), 0.1, 1.2, 1.0)
    images, targets = learned.result(average=False)
    assert torch.equal(images, learned.images)
    assert torch.equal(targets, learned.targets)
    images, targets = learned.result(average=True)
    state = learned.state()
    assert torch.equal(images, state["images.average"])
    if label_lr is None:
        assert torch.equal(targets, learned.targets)
    else:
        torch.testing.assert_close(targets, state["logits.average"].softmax(1))
        assert not torch.equal(targets, learned.targets)


@settings(max_examples=30)
@given(
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    size=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_block_sums_are_the_derivative_of_larger_pixels(height, width, size, seed):
    """As autograd finds it through an interpolation that repeats pixels."""
    generator = torch.Generator().manual_seed(seed)
    shape = 2, 3, height, width
    small = torch.randn(shape, generator=generator, dtype=torch.float64)
    small.requires_grad_()
    expected = torch.nn.functional.interpolate(small, scale_factor=size)
    assert torch.equal(enlarge(small, size), expected)
    gradient = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    expected.backward(gradient)
    torch.testing.assert_close(
        block_sums(gradient, size), small.grad, rtol=1e-12, atol=1e-12
    )


def test_larger_pixels_follow_the_sum_of_their_gradients():
    learned = Learned(
        Descent(torch.zeros(4, 1, 1, 1), 1.0, 1.0),
        torch.tensor([0, 1, 2, 1]),
        3,
        StepSizes(0.02, 0.1, per_epoch=False),
        None,
        pixel_size=2,
    )
    gradient = draw_match(0)
    learned.step(0, gradient, 0.1, 1.2, 1.0)
    expected = -gradient.images.sum((2, 3), keepdim=True)
    torch.testing.assert_close(learned.state()["images.value"], expected)
    assert learned.images.shape == gradient.images.shape
    torch.testing.assert_close(learned.images, expected.expand(4, 1, 2, 2))
    for average in (False, True):
        torch.testing.assert_close(learned.result(average)[0], learned.images)


def test_factor_is_that_of_everything():
    learned = make_learned(0.5)
    before = learned.state()
    learned.step(0, draw_match(0), 0.1, 1.2, 0.0)
    after = learned.state()
    for name in ("images.value", "logits.value", "step_sizes.logarithms"):
        assert torch.equal(after[name], before[name])
