"""The learned step size of a student."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skdistill.distillation._engine._optimizers import MOMENTUM
from skdistill.distillation._objectives._student_lr import (
    AUTO_STEP_SIZE_PART,
    MAX_LOG_CHANGE,
    MAX_LOG_STRETCH,
    StepSizes,
)


def step(sizes, epoch, gradient, stretch, factor):
    numbers = {"start_epoch": epoch, "by_step_size": gradient, "stretch": stretch}
    sizes.step(numbers, factor)


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
        step(sizes, epoch, gradient, stretch, factor)
        change = abs(float(sizes.logarithm(epoch)) - before)
        assert change <= MAX_LOG_CHANGE + 1e-5
        assert all(size > 0 for size in sizes.values())
        sizes.extend(n_epochs)


def test_small_gradients_move_the_step_size_as_plain_descent_does():
    sizes = StepSizes(0.02, 0.1, per_epoch=False)
    logarithm = torch.tensor(math.log(0.02), requires_grad=True)
    optimizer = torch.optim.SGD([logarithm], lr=0.1, momentum=MOMENTUM)
    for gradient in (0.3, -0.1, 0.2, 0.5):
        step(sizes, 0, gradient, 99.0, 1.0)
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
    step(sizes, 0, gradient, stretch, factor)
    believed = -MAX_LOG_STRETCH
    if stretch > 0:
        believed = np.clip(math.log(stretch), -MAX_LOG_STRETCH, MAX_LOG_STRETCH)
    expected = math.log(0.02) + AUTO_STEP_SIZE_PART * factor * believed
    assert math.log(sizes.values()[0]) == pytest.approx(expected, rel=1e-9)


@given(best=st.floats(1e-3, 1e3))
def test_auto_ends_at_the_best_step_size(best):
    sizes = StepSizes(1.0, "auto", per_epoch=False)
    for _ in range(250):
        step(sizes, 0, 0.0, best / sizes.values()[0], 1.0)
    assert sizes.values() == pytest.approx([best], rel=1e-3)


def test_step_size_of_rate_zero_stays():
    sizes = StepSizes(0.02, 0.0, per_epoch=False)
    step(sizes, 0, 1e6, 9.0, 1.0)
    assert sizes.values() == pytest.approx([0.02], rel=1e-12)


def test_common_step_size_is_that_of_all_epochs():
    sizes = StepSizes(0.02, 0.1, per_epoch=False)
    sizes.extend(2)
    step(sizes, 5, -0.1, 1.0, 1.0)
    assert len(sizes.values()) == 1
    assert float(sizes.logarithm(0)) == float(sizes.logarithm(7))
    assert sizes.values()[0] > 0.02


@pytest.mark.parametrize("learning_rate", ["auto", 0.1])
def test_each_epoch_moves_its_own_step_size(learning_rate):
    sizes = StepSizes(0.02, learning_rate, per_epoch=True)
    step(sizes, 0, -0.1, 1.5, 1.0)
    sizes.extend(2)
    first, last = sizes.values()
    # It starts from the last.
    assert first == last > 0.02
    sizes.extend(2)
    assert sizes.values() == [first, last]
    step(sizes, 1, -0.1, 1.5, 1.0)
    assert sizes.values()[0] == first
    assert sizes.values()[1] > last
    before = sizes.values()
    step(sizes, 0, 0.1, 0.5, 1.0)
    assert sizes.values()[0] < before[0]
    assert sizes.values()[1] == before[1]
    # Epochs beyond the last have the last, as validations do.
    assert float(sizes.logarithm(9)) == float(sizes.logarithm(1))


def test_rate_grows_with_the_number_of_step_sizes():
    """Each of them is seen the less often, the more there are."""
    changes = []
    for n_sizes in (1, 2, 3):
        sizes = StepSizes(0.02, 0.1, per_epoch=True)
        sizes.extend(n_sizes)
        step(sizes, 0, 0.1, 1.0, 1.0)
        changes.append(math.log(0.02 / sizes.values()[0]))
    assert changes == pytest.approx([0.01, 0.02, 0.03])


@pytest.mark.parametrize("learning_rate", ["auto", 0.1])
def test_shrink_halves_the_step_sizes_and_forgets_the_momentum(learning_rate):
    sizes = StepSizes(0.02, learning_rate, per_epoch=True)
    sizes.extend(2)
    step(sizes, 0, -1e3, 3.0, 1.0)
    before = sizes.values()
    sizes.shrink()
    after = sizes.values()
    assert after == pytest.approx([size / 2 for size in before])
    step(sizes, 0, 0.0, 1.0, 1.0)
    assert sizes.values() == pytest.approx(after)


@pytest.mark.parametrize("learning_rate", ["auto", 0.1])
def test_restored_step_sizes_are_bitwise_identical(learning_rate):
    sizes = StepSizes(0.02, learning_rate, per_epoch=True)
    step(sizes, 0, 0.3, 1.4, 1.0)
    sizes.extend(2)
    state = sizes.state()

    def go_on(sizes):
        step(sizes, 1, -0.2, 0.9, 0.5)
        step(sizes, 0, 0.1, 1.1, 1.0)
        return sizes.values()

    expected = go_on(sizes)
    sizes.shrink()
    sizes.extend(3)
    for resumed in (sizes, StepSizes(0.5, learning_rate, per_epoch=True)):
        resumed.restore(state)
        assert go_on(resumed) == expected
