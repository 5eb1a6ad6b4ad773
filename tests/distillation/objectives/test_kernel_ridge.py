"""The loss of a kernel ridge regression: its derivatives, and its solved labels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdistill.distillation._objectives._kernel_ridge import (
    RealPart,
    centered,
    part_size,
    ridge_loss,
    solve_labels,
)
from skdistill.neural_network._kernels import CallableKernel, resolve_kernel


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def kernel_of(name, depth=1, bias_variance=0.01):
    return resolve_kernel(
        name, depth=depth, weight_variance=2.0, bias_variance=bias_variance
    )


def real_images(m, n_features, n_classes, seed=0, size=None):
    """Real images in parts of a size, of unequal weights."""
    x = draw(m, n_features, seed=seed + 10)
    codes = torch.arange(m) % n_classes
    targets = centered(torch.nn.functional.one_hot(codes, n_classes).double())
    weight = draw(m, seed=seed + 20).abs() + 0.1
    weight /= weight.sum()
    whole = RealPart(x, targets, weight)
    split = (one.split(size or m) for one in whole)
    parts = [RealPart(*part) for part in zip(*split, strict=True)]
    return whole, parts


def plain_loss(kernel, x, targets, real, reg):
    """The loss as its equations say it, by kernels that autograd can follow."""
    n = len(x)
    values = kernel(x, x)
    ridge = reg * values.trace() / n
    found = torch.linalg.solve(values + ridge * torch.eye(n).double(), targets)
    error = (kernel(real.x, x) @ found - real.targets).square().mean(1) / 2
    return (real.weight * error).sum()


class Smooth:
    """A kernel that autograd can follow on its diagonal too."""

    @staticmethod
    def gaussian(a, b):
        squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
        return (-squares / 4).exp()

    @staticmethod
    def cubic(a, b):
        return (1 + a @ b.T / a.shape[1]) ** 3


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(["gaussian", "cubic"]),
    n=st.integers(1, 6),
    m=st.integers(1, 12),
    n_classes=st.integers(2, 4),
    reg=st.sampled_from([1e-3, 0.3]),
    size=st.integers(1, 12),
    seed=st.integers(0, 50),
)
def test_derivatives_against_autograd(name, n, m, n_classes, reg, size, seed):
    function = getattr(Smooth, name)
    x, targets = draw(n, 4, seed=seed), draw(n, n_classes, seed=seed + 1)
    whole, parts = real_images(m, 4, n_classes, seed, size)
    leaves = [x.clone().requires_grad_(), targets.clone().requires_grad_()]
    wanted = plain_loss(function, *leaves, whole, reg)
    by_x, by_targets = torch.autograd.grad(wanted, leaves)
    found = ridge_loss(CallableKernel(function), x, targets, parts, reg)
    assert torch.allclose(found.loss, wanted)
    assert torch.allclose(found.x, by_x, rtol=1e-6, atol=1e-9)
    assert torch.allclose(found.targets, by_targets, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["nngp", "ntk", "linear"])
@pytest.mark.parametrize("depth", [1, 3])
def test_derivatives_against_differences(name, depth):
    """On the diagonal too, and where a real image is one of the synthetic ones."""
    kernel = kernel_of(name, depth)
    x, targets = draw(4, 5), draw(4, 3, seed=1)
    _, parts = real_images(9, 5, 3, size=4)
    found = ridge_loss(kernel, x, targets, parts, 1e-2)
    for place, (value, derivative) in enumerate(
        [(x, found.x), (targets, found.targets)]
    ):
        direction = draw(*value.shape, seed=7)
        losses = []
        for sign in (1, -1):
            moved = [x, targets]
            moved[place] = value + sign * 1e-6 * direction
            losses.append(float(ridge_loss(kernel, *moved, parts, 1e-2).loss))
        slope = (losses[0] - losses[1]) / 2e-6
        assert float((derivative * direction).sum()) == pytest.approx(slope, rel=1e-5)


def test_equal_images_everywhere():
    kernel = kernel_of("ntk", 2)
    whole, _ = real_images(6, 5, 2)
    x = whole.x[[0, 0, 1]].clone()
    found = ridge_loss(kernel, x, draw(3, 2), [whole], 1e-6)
    assert all(bool(part.isfinite().all()) for part in found)
    only = ridge_loss(kernel, x, draw(3, 2), [whole], 1e-6, by_images=False)
    assert torch.equal(only.targets, found.targets)
    assert not only.x.any()


@pytest.mark.parametrize("name", ["nngp", "ntk", "linear"])
@pytest.mark.parametrize("n", [2, 5, 20])
def test_solved_labels_have_no_derivative(name, n):
    """Also of more images than there are real ones."""
    kernel = kernel_of(name)
    x = draw(n, 6)
    _, parts = real_images(12, 6, 3, size=5)
    targets = solve_labels(kernel, x, parts, 1e-6)
    found = ridge_loss(kernel, x, targets, parts, 1e-6)
    start = ridge_loss(kernel, x, torch.zeros_like(targets), parts, 1e-6)
    assert float(found.targets.abs().max()) < 1e-8 * float(start.targets.abs().max())
    # Whatever else the labels are, the loss is no less.
    for seed in range(3):
        others = targets + 0.1 * draw(*targets.shape, seed=seed)
        assert ridge_loss(kernel, x, others, parts, 1e-6).loss >= found.loss


def test_the_gradient_of_solved_labels_is_that_of_the_images_alone():
    """Labels that are solved again move with the images: to first order for nothing."""
    kernel = kernel_of("ntk")
    x, direction = draw(3, 5), draw(3, 5, seed=5)
    _, parts = real_images(15, 5, 3, size=4)

    def least(x):
        targets = solve_labels(kernel, x, parts, 1e-4)
        return ridge_loss(kernel, x, targets, parts, 1e-4)

    slope = least(x + 1e-6 * direction).loss - least(x - 1e-6 * direction).loss
    assert float((least(x).x * direction).sum()) == pytest.approx(
        float(slope) / 2e-6, rel=1e-5
    )


def test_learned_labels_reach_least_squares():
    """As many images as classes are enough for the linear kernel: X = W^T, Y = X W."""
    n_classes, n_features = 3, 5
    whole, _ = real_images(40, n_features, n_classes)
    # One-hot: centered targets have one dimension less, and the kernel no inverse.
    whole = whole._replace(targets=whole.targets + 1 / n_classes)
    root = whole.weight.sqrt()[:, None]
    matrix, values = root * whole.x, root * whole.targets
    best = torch.linalg.lstsq(matrix, values).solution
    wanted = (matrix @ best - values).square().sum() / n_classes / 2
    kernel = kernel_of("linear", bias_variance=0.0)
    x = best.T.contiguous()
    found = ridge_loss(kernel, x, x @ best, [whole], 1e-14)
    assert float(found.loss) == pytest.approx(float(wanted), rel=1e-10)
    for derivative in (found.x, found.targets):
        assert float(derivative.abs().max()) < 1e-8
    # And descent gets there from elsewhere, its labels solved.
    x = draw(n_classes, n_features, seed=3)
    optimizer = torch.optim.Adam([x], lr=0.02)
    for _ in range(600):
        targets = solve_labels(kernel, x, [whole], 1e-12)
        x.grad = ridge_loss(kernel, x, targets, [whole], 1e-12).x
        optimizer.step()
    targets = solve_labels(kernel, x, [whole], 1e-12)
    loss = ridge_loss(kernel, x, targets, [whole], 1e-12).loss
    assert float(loss) == pytest.approx(float(wanted), rel=1e-4)


def test_real_images_are_interpolated_by_themselves():
    whole, _ = real_images(8, 5, 2)
    found = ridge_loss(kernel_of("ntk"), whole.x, whole.targets, [whole], 1e-12)
    assert float(found.loss) < 1e-18


def test_part_size():
    assert part_size(1) * 1 == part_size(100) * 100 + 4 == 2**22
    assert part_size(10**9) == 16
