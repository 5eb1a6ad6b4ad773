"""Distances between features: identities, values by hand, gradients by autograd."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdistill.distillation._objectives._features import (
    CHARACTERISTIC_WEIGHT,
    averages,
    characteristic,
    characteristic_distance,
    cross_entropy,
    discrimination,
    equal_weights,
    gaussian_distance,
    mean_distance,
    through_unit_length,
    to_unit_length,
)

DOUBLE = torch.float64


class Case:
    """Random features of classes of any sizes, the real ones with weights."""

    def __init__(self, seed, real_sizes, sizes, n_features):
        generator = torch.Generator().manual_seed(seed)

        def normal(n):
            return torch.randn(n, n_features, generator=generator, dtype=DOUBLE)

        self.n_classes = len(sizes)
        self.generator = generator
        self.real, self.synthetic = normal(sum(real_sizes)), normal(sum(sizes))
        self.real_codes = torch.arange(self.n_classes).repeat_interleave(
            torch.tensor(real_sizes)
        )
        codes = torch.arange(self.n_classes).repeat_interleave(torch.tensor(sizes))
        order = torch.randperm(len(codes), generator=generator)
        self.codes = codes[order]
        share = torch.rand(len(self.real), generator=generator, dtype=DOUBLE) + 0.1
        total = torch.zeros(self.n_classes, dtype=DOUBLE)
        total.index_add_(0, self.real_codes, share)
        self.weights = share / total[self.real_codes]
        self.real_averages = averages(self.real_codes, self.n_classes, self.weights)
        self.averages = averages(
            self.codes,
            self.n_classes,
            equal_weights(self.codes, self.n_classes, DOUBLE),
        )

    def frequencies(self, n):
        shape = (n, self.real.shape[1])
        return torch.randn(shape, generator=self.generator, dtype=DOUBLE)

    def classes(self):
        """Give real features, their weights and synthetic features of each class."""
        for code in range(self.n_classes):
            real = self.real_codes == code
            yield (
                self.real[real],
                self.weights[real],
                self.synthetic[self.codes == code],
            )


@st.composite
def cases(draw):
    n_classes = draw(st.integers(1, 4))
    sizes = st.lists(st.integers(1, 5), min_size=n_classes, max_size=n_classes)
    return Case(
        draw(st.integers(0, 2**31)), draw(sizes), draw(sizes), draw(st.integers(1, 6))
    )


def agree_with_autograd(found, function, synthetic):
    leaf = synthetic.clone().requires_grad_()
    values = function(leaf)
    (expected,) = torch.autograd.grad(values.sum(), leaf)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found.values, values.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.gradient, expected, rtol=1e-12, atol=1e-12 * scale)


@settings(max_examples=30)
@given(cases())
def test_mean_distance(case):
    means = case.real_averages @ case.real
    found = mean_distance(means, case.synthetic, case.averages)
    agree_with_autograd(
        found,
        lambda synthetic: torch.stack(
            [
                (
                    (weights[:, None] * real).sum(0)
                    - synthetic[case.codes == code].mean(0)
                )
                .square()
                .sum()
                for code, (real, weights, _) in enumerate(case.classes())
            ]
        ),
        case.synthetic,
    )


def test_mean_distance_by_hand():
    case = Case(0, [1, 1], [2, 2], 1)
    case.codes = torch.tensor([0, 0, 1, 1])
    case.averages = averages(case.codes, 2, torch.full((4,), 0.5, dtype=DOUBLE))
    synthetic = torch.tensor([[1.0], [3.0], [0.0], [4.0]], dtype=DOUBLE)
    means = torch.tensor([[5.0], [2.0]], dtype=DOUBLE)
    found = mean_distance(means, synthetic, case.averages)
    assert found.values.tolist() == [9.0, 0.0]
    # (2 / n) (mean of synthetic - mean of real).
    assert found.gradient.tolist() == [[-3.0], [-3.0], [0.0], [0.0]]


@settings(max_examples=30)
@given(cases(), st.integers(1, 7))
def test_characteristic_distance(case, n_frequencies):
    frequencies = case.frequencies(n_frequencies)
    target = characteristic(case.real, case.real_averages, frequencies)

    def naive(synthetic):
        """Sum amplitudes and phases, each with a weight of 1/2, as in the paper."""
        values = []
        for code, (real, weights, _) in enumerate(case.classes()):
            own = synthetic[case.codes == code]
            a = (weights[:, None] * torch.exp(1j * (real @ frequencies.T))).sum(0)
            b = torch.exp(1j * (own @ frequencies.T)).mean(0)
            assert (a.abs() <= 1 + 1e-12).all()
            amplitude = (a.abs() - b.abs()).square()
            phase = 2 * (a.abs() * b.abs() - (a * b.conj()).real)
            torch.testing.assert_close(
                amplitude + phase, (a - b).abs().square(), rtol=0, atol=1e-12
            )
            difference = (0.5 * (a - b).abs().square()).sqrt()
            values.append(CHARACTERISTIC_WEIGHT * difference.mean())
        return torch.stack(values)

    found = characteristic_distance(target, case.synthetic, case.averages, frequencies)
    agree_with_autograd(found, naive, case.synthetic)


@settings(max_examples=30)
@given(cases())
def test_gaussian_distance(case):
    def kernel(a, b):
        return torch.exp(-(a[:, None] - b).square().sum(2) / 2)

    def naive(synthetic):
        values = []
        for code, (real, weights, _) in enumerate(case.classes()):
            own = synthetic[case.codes == code]
            value = weights @ kernel(real, real) @ weights + kernel(own, own).mean()
            value = value - 2 * (weights @ kernel(real, own)).mean()
            values.append(CHARACTERISTIC_WEIGHT * value)
        return torch.stack(values)

    found = gaussian_distance(
        case.real, case.real_averages, case.synthetic, case.averages
    )
    agree_with_autograd(found, naive, case.synthetic)


def test_gaussian_distance_is_that_of_many_frequencies():
    case = Case(1, [20, 9], [3, 2], 8)
    real, synthetic = (
        to_unit_length(part).features for part in (case.real, case.synthetic)
    )
    found = gaussian_distance(real, case.real_averages, synthetic, case.averages)
    errors = []
    for n in (4_000, 400_000):
        squares = []
        for _ in range(n // 4_000):
            t = case.frequencies(4_000)
            a = characteristic(real, case.real_averages, t)
            b = characteristic(synthetic, case.averages, t)
            squares.append(
                (a.real - b.real).square() + (a.imaginary - b.imaginary).square()
            )
        every = torch.cat(squares, 1)
        error = CHARACTERISTIC_WEIGHT * every.mean(1) - found.values
        deviation = CHARACTERISTIC_WEIGHT * every.std(1) / math.sqrt(n)
        assert (error.abs() < 4 * deviation).all()
        errors.append(deviation / found.values)
    # So many that the comparison means something.
    assert (errors[-1] < 2e-3).all()


@settings(max_examples=30)
@given(cases())
def test_features_of_length_one(case):
    leaf = case.synthetic.clone().requires_grad_()
    direction = case.frequencies(len(leaf))
    expected = leaf / leaf.norm(dim=1, keepdim=True)
    (gradient,) = torch.autograd.grad((expected * direction).sum(), leaf)
    unit = to_unit_length(case.synthetic)
    torch.testing.assert_close(unit.features, expected.detach(), rtol=0, atol=1e-12)
    found = through_unit_length(unit, direction)
    torch.testing.assert_close(found, gradient, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_features_without_length(dtype):
    """Neither an image without features nor tiny or huge ones spoil the others."""
    features = torch.tensor([[0.0, 0.0], [3e-30, 4e-30], [3e30, 4e30]], dtype=dtype)
    unit = to_unit_length(features)
    expected = torch.tensor([[0.0, 0.0], [0.6, 0.8], [0.6, 0.8]], dtype=dtype)
    torch.testing.assert_close(unit.features, expected)
    found = through_unit_length(unit, torch.ones(3, 2, dtype=dtype))
    assert found.isfinite().all()
    assert found[0].tolist() == [0.0, 0.0]


def test_equal_sets_have_no_distance():
    case = Case(2, [3, 4], [3, 4], 5)
    rows, codes = case.real, case.real_codes
    own = averages(codes, 2, equal_weights(codes, 2, DOUBLE))
    frequencies = case.frequencies(6)
    found = [
        mean_distance(own @ rows, rows, own),
        characteristic_distance(
            characteristic(rows, own, frequencies), rows, own, frequencies
        ),
        gaussian_distance(rows, own, rows, own),
    ]
    for distance in found:
        torch.testing.assert_close(
            distance.values, torch.zeros(2, dtype=DOUBLE), rtol=0, atol=1e-12
        )
        assert distance.gradient.isfinite().all()
    # Of means and of characteristic functions the difference is 0 to the last bit.
    for distance in found[:2]:
        assert not distance.values.any()
        assert not distance.gradient.any()


def distances(case, frequencies):
    means = case.real_averages @ case.real
    target = characteristic(case.real, case.real_averages, frequencies)
    return [
        mean_distance(means, case.synthetic, case.averages),
        characteristic_distance(target, case.synthetic, case.averages, frequencies),
        gaussian_distance(case.real, case.real_averages, case.synthetic, case.averages),
    ]


@settings(max_examples=15)
@given(cases())
def test_each_class_alone_and_in_another_order(case):
    frequencies = case.frequencies(5)
    together = distances(case, frequencies)
    order = torch.randperm(case.n_classes, generator=case.generator)
    other = Case(0, [1], [1], 1)
    other.__dict__ |= case.__dict__
    # The class that was `code` is now at the place of `code` in the order.
    other.real_averages = case.real_averages[order]
    other.averages = case.averages[order]
    for one, two in zip(together, distances(other, frequencies), strict=True):
        torch.testing.assert_close(one.values[order], two.values, rtol=0, atol=1e-11)
        torch.testing.assert_close(one.gradient, two.gradient, rtol=0, atol=1e-11)
    for code in range(case.n_classes):
        alone = Case(0, [1], [1], 1)
        real, own = case.real_codes == code, case.codes == code
        alone.real, alone.synthetic = case.real[real], case.synthetic[own]
        alone.real_averages = case.real_averages[code : code + 1, real]
        alone.averages = case.averages[code : code + 1, own]
        for one, two in zip(together, distances(alone, frequencies), strict=True):
            torch.testing.assert_close(
                one.values[code : code + 1], two.values, rtol=0, atol=1e-11
            )
            torch.testing.assert_close(
                one.gradient[own], two.gradient, rtol=0, atol=1e-11
            )


@pytest.mark.parametrize("which", [0, 2], ids=["mean", "gaussian"])
def test_batches_give_the_gradient_of_the_class_on_average(which):
    """No bias, and an error that falls as 1 / sqrt(size of the batch)."""
    rng = np.random.default_rng(0)
    case = Case(3, [400], [2], 3)
    case.weights = torch.full((400,), 1 / 400, dtype=DOUBLE)
    case.real_averages = case.weights[None]
    whole = distances(case, torch.ones(1, 3, dtype=DOUBLE))[which].gradient
    errors = []
    for size in (4, 64):
        found = []
        for _ in range(400):
            drawn = rng.choice(400, size, replace=True)
            batch = Case(0, [1], [1], 1)
            batch.__dict__ |= case.__dict__
            batch.real = case.real[drawn]
            batch.real_averages = torch.full((1, size), 1 / size, dtype=DOUBLE)
            found.append(
                distances(batch, torch.ones(1, 3, dtype=DOUBLE))[which].gradient
            )
        error = torch.stack(found) - whole
        assert (error.mean(0).abs() < 4 * error.std(0) / math.sqrt(400)).all()
        errors.append(float(error.square().mean().sqrt()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)


@settings(max_examples=20)
@given(cases())
def test_discrimination(case):
    means = (case.averages @ case.synthetic).requires_grad_()
    logits = case.real @ means.t()
    every = torch.nn.functional.cross_entropy(logits, case.real_codes, reduction="none")
    expected = (case.weights * every).sum()
    (by_means,) = torch.autograd.grad(expected, means)
    loss, gradient = discrimination(
        case.real, case.real_codes, case.weights, means.detach()
    )
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, by_means, rtol=1e-11, atol=1e-12)


def test_discrimination_by_hand():
    """One-hot features: the logits are 1 for the own class and 0 for the others."""
    eye = torch.eye(3, dtype=DOUBLE)
    loss, gradient = discrimination(
        eye, torch.arange(3), torch.ones(3, dtype=DOUBLE), eye
    )
    own = math.e / (math.e + 2)
    assert float(loss) == pytest.approx(-3 * math.log(own))
    expected = torch.full((3, 3), 1 / (math.e + 2), dtype=DOUBLE)
    expected.fill_diagonal_(own - 1)
    torch.testing.assert_close(gradient, expected)


def test_cross_entropy_of_large_logits_is_finite():
    """A hard maximum, as inner products of features make it."""
    logits = torch.tensor([[520.0, 0.0], [0.0, 520.0]])
    loss, gradient = cross_entropy(logits, torch.tensor([0, 0]), torch.ones(2))
    assert float(loss) == 520.0
    assert gradient.tolist() == [[0.0, 0.0], [-1.0, 1.0]]
