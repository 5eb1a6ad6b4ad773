"""What a distillation learns: images, labels and extras together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdistill.distillation._engine._optimizers import MOMENTUM, SGD
from skdistill.distillation._engine._parameters import (
    FIRST_CONFIDENCE,
    HardLabels,
    Probabilities,
    SyntheticParameters,
    Targets,
    block_sums,
    enlarge,
    first_logits,
    one_hot,
)


class Counter:
    """Something that is learned by a rule of its own."""

    def __init__(self):
        self.value = torch.zeros(1)

    def step(self, metrics, factor):
        self.value = self.value + factor * metrics["change"]

    def state(self):
        return {"value": self.value}

    def restore(self, state):
        self.value = state["value"]


CODES = torch.tensor([0, 1, 2, 1])


def make_parameters(label_lr, learning_rate=1.0, n_classes=3, size=2, **settings):
    if label_lr is None:
        labels = HardLabels(one_hot(CODES, n_classes, torch.float32))
    else:
        logits = first_logits(CODES, n_classes, torch.float32)
        labels = Probabilities(SGD(logits, label_lr, 1.0))
    images = SGD(torch.zeros(4, 1, size, size), learning_rate, 1.0)
    return SyntheticParameters(images, labels, CODES, {"extra": Counter()}, **settings)


def draw_gradients(seed, n_classes=3):
    generator = torch.Generator().manual_seed(seed)
    return {
        "images": torch.randn(4, 1, 2, 2, generator=generator),
        "labels": torch.randn(4, n_classes, generator=generator),
    }


def follow(parameters, gradients, factor=1.0, change=0.0):
    parameters.learning_rate_factor = factor
    parameters.step(gradients, {"change": change})


@settings(max_examples=30)
@given(seed=st.integers(0, 999), n_classes=st.integers(3, 6), rate=st.floats(0.01, 5))
def test_labels_follow_the_gradient_of_their_logits(seed, n_classes, rate):
    """As autograd finds it through the softmax."""
    learned = make_parameters(rate, n_classes=n_classes)
    logits = learned.state()["labels.value"].clone().requires_grad_()
    optimizer = torch.optim.SGD([logits], lr=rate, momentum=MOMENTUM)
    for i in range(3):
        gradient = draw_gradients(seed + i, n_classes)
        targets = learned.labels
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
        optimizer.zero_grad()
        (logits.softmax(1) * gradient["labels"]).sum().backward()
        optimizer.step()
        follow(learned, gradient, 1.0, 0.0)
        torch.testing.assert_close(
            learned.labels, logits.detach().softmax(1), rtol=1e-4, atol=1e-5
        )
        assert not torch.equal(learned.labels, targets)


@pytest.mark.parametrize("n_classes", [3, 7])
def test_learned_labels_start_nearly_certain(n_classes):
    others = (1 - FIRST_CONFIDENCE) / (n_classes - 1)
    expected = torch.full((4, n_classes), others)
    expected[torch.arange(4), torch.tensor([0, 1, 2, 1])] = FIRST_CONFIDENCE
    torch.testing.assert_close(
        make_parameters(1.0, n_classes=n_classes).labels, expected
    )


def test_hard_labels_stay():
    learned = make_parameters(None)
    expected = torch.eye(3)[[0, 1, 2, 1]]
    assert torch.equal(learned.labels, expected)
    follow(learned, draw_gradients(0), 1.0, 0.1)
    assert torch.equal(learned.labels, expected)
    assert not any(name.startswith("labels") for name in learned.state())


@pytest.mark.parametrize("label_lr", [None, 0.5, "auto"])
@pytest.mark.parametrize("learning_rate", ["auto", 0.3])
def test_restored_state_is_bitwise_identical(label_lr, learning_rate):
    learned = make_parameters(label_lr, learning_rate)
    follow(learned, draw_gradients(0), 1.0, 0.1)
    state = learned.state()
    copies = {name: tensor.clone() for name, tensor in state.items()}

    def go_on(learned):
        follow(learned, draw_gradients(1), 0.5, -0.2)
        return [
            learned.images,
            learned.labels,
            torch.tensor(learned.extras["extra"].value.tolist()),
        ]

    expected = go_on(learned)
    assert all(torch.equal(state[name], copies[name]) for name in state)
    for resumed in (learned, make_parameters(label_lr, learning_rate)):
        resumed.restore(state)
        assert all(map(torch.equal, go_on(resumed), expected))
        assert all(torch.equal(state[name], copies[name]) for name in state)


@pytest.mark.parametrize("label_lr", [None, 0.5])
def test_result_is_that_of_the_last_step_or_the_average(label_lr):
    learned = make_parameters(label_lr)
    for seed in range(3):
        follow(learned, draw_gradients(seed), 1.0, 0.1)
    images, targets = learned.result(average=False)
    assert torch.equal(images, learned.images)
    assert torch.equal(targets, learned.labels)
    images, targets = learned.result(average=True)
    state = learned.state()
    assert torch.equal(images, state["images.average"])
    if label_lr is None:
        assert torch.equal(targets, learned.labels)
    else:
        torch.testing.assert_close(targets, state["labels.average"].softmax(1))
        assert not torch.equal(targets, learned.labels)


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
    learned = make_parameters(None, size=1, pixel_size=2)
    gradient = draw_gradients(0)
    follow(learned, gradient, 1.0, 0.1)
    expected = -gradient["images"].sum((2, 3), keepdim=True)
    torch.testing.assert_close(learned.state()["images.value"], expected)
    assert learned.images.shape == gradient["images"].shape
    torch.testing.assert_close(learned.images, expected.expand(4, 1, 2, 2))
    for average in (False, True):
        torch.testing.assert_close(learned.result(average)[0], learned.images)


def test_factor_is_that_of_everything():
    learned = make_parameters(0.5)
    before = learned.state()
    follow(learned, draw_gradients(0), 0.0, 0.1)
    after = learned.state()
    for name in ("images.value", "labels.value", "extra.value"):
        assert torch.equal(after[name], before[name])


def test_large_numbers_are_finite_where_their_sum_is_not():
    learned = make_parameters(0.5)
    state = learned.state()
    assert learned.is_finite()
    learned.restore(state | {"images.value": torch.full((4, 1, 2, 2), 3e38)})
    assert learned.is_finite()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("label_lr", [None, 0.5])
def test_one_number_that_is_not_finite_is_seen_wherever_it_is(value, label_lr):
    learned = make_parameters(label_lr)
    state = learned.state()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            bad = tensor.clone()
            bad.view(-1)[-1] = value
            learned.restore(state | {name: bad})
            assert not learned.is_finite(), name


def test_targets_follow_their_gradient_as_they_are():
    targets = SGD(one_hot(CODES, 3, torch.float32), 0.5, 1.0, momentum=0.0)
    images = SGD(torch.zeros(4, 1, 2, 2), 1.0, 1.0)
    learned = SyntheticParameters(images, Targets(targets), CODES, {})
    assert learned.learns_labels
    assert not learned.has_probabilities
    expected = torch.eye(3)[CODES]
    assert torch.equal(learned.labels, expected)
    for seed in range(2):
        gradient = draw_gradients(seed)
        learned.step(gradient, {})
        expected = expected - 0.5 * gradient["labels"]
        torch.testing.assert_close(learned.labels, expected)
    # Of any sign, and no probabilities.
    assert learned.labels.min() < 0
    assert learned.learning_rates() == {"pixel_lr": 1.0, "label_lr": 0.5}
    state = learned.state()
    assert torch.equal(learned.result(True)[1], state["labels.average"])
    learned.begin_stage()
    learned.step(draw_gradients(3), {})
    assert torch.equal(learned.result(True)[1], learned.labels)
    assert torch.equal(learned.result(True)[0], learned.images)
