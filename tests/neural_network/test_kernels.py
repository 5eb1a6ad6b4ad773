"""Kernels in closed form, against printed values, networks and autograd."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import rbf_kernel

from skdistill.neural_network._kernels import (
    CallableKernel,
    NetworkKernel,
    as_channels_first,
    as_rows,
    resolve_kernel,
)

# NNGP and NTK of (1, 0) with itself, with (0, 1) and with (.6, .8), for 1 to 3 hidden
# layers, weight variance 2 and bias variance .01: computed independently.
TABLE = [
    (1.02, 2.03, 0.3365087431, 0.3415402594, 0.6971455300, 1.1280565444),
    (1.03, 3.06, 0.5207652464, 0.7280865314, 0.7625666268, 1.5968012380),
    (1.04, 4.10, 0.6411171500, 1.1280088878, 0.8140169302, 2.0361176311),
]
NAMES = ["nngp", "ntk", "linear"]


def make(name, depth=1, weight_variance=2.0, bias_variance=0.01):
    return resolve_kernel(
        name,
        depth=depth,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
    )


def plain(kernel, x, z):
    """The kernel as its equations say it, for autograd; not for equal images."""
    w, b, n = kernel.weight_variance, kernel.bias_variance, x.shape[1]
    p, q = (w * (rows * rows).sum(1) / n + b for rows in (x, z))
    k = w * x @ z.T / n + b
    t = k
    for _ in range(kernel.depth):
        pq = p[:, None] * q[None, :]
        s = (pq - k * k).sqrt()
        d = 0.5 - torch.atan2(s, k) / (2 * math.pi)
        k = w * (s / (2 * math.pi) + d * k) + b
        t = k + w * d * t
        p, q = w * p / 2 + b, w * q / 2 + b
    return t if kernel.tangent else k


def points(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_values(depth):
    one = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    others = torch.tensor([[1.0, 0], [0, 1], [0.6, 0.8]], dtype=torch.float64)
    found = [
        float(make(name, depth)(one, others[place : place + 1]))
        for place in range(3)
        for name in ("nngp", "ntk")
    ]
    assert found == pytest.approx(TABLE[depth - 1], abs=1e-9)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_diagonals_of_unit_variance(depth):
    x = points(4, 5)
    x *= math.sqrt(5 / 2) / x.norm(dim=1, keepdim=True)
    nngp = 1 + 0.01 * (depth + 1)
    ntk = (depth + 1) * (1 + 0.01 * (depth + 2) / 2)
    for name, wanted in (("nngp", nngp), ("ntk", ntk)):
        kernel = make(name, depth)
        assert torch.allclose(kernel.diagonal(x), x.new_full((4,), wanted))
        assert torch.allclose(kernel(x).diagonal(), kernel.diagonal(x), rtol=1e-14)


def test_nngp_is_the_covariance_of_random_networks():
    x = points(3, 4)
    generator = torch.Generator().manual_seed(1)
    kernel = make("nngp", 1, 1.5, 0.3)
    errors = []
    for width in (4_000, 400_000):
        weights = torch.randn(4, width, generator=generator, dtype=torch.float64)
        biases = torch.randn(width, generator=generator, dtype=torch.float64)
        hidden = (x @ weights * math.sqrt(1.5 / 4) + biases * math.sqrt(0.3)).relu()
        found = 1.5 * hidden @ hidden.T / width + 0.3
        errors.append(float((found - kernel(x)).abs().max()))
    # Like 1 / sqrt(width), within what chance allows.
    assert errors[1] < 0.01
    assert errors[1] < errors[0] / 2


def test_ntk_is_that_of_a_wide_network():
    """Sum of products of derivatives by all weights, of one wide network."""
    x = points(2, 3)
    width = 100_000
    generator = torch.Generator().manual_seed(0)
    w, b = 2.0, 0.2
    leaves = [
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((3, width), (width,), (width,), (1,))
    ]
    gradients = []
    for row in x:
        hidden = (row @ leaves[0] * math.sqrt(w / 3) + leaves[1] * math.sqrt(b)).relu()
        out = hidden @ leaves[2] * math.sqrt(w / width) + leaves[3][0] * math.sqrt(b)
        parts = torch.autograd.grad(out, leaves)
        gradients.append(torch.cat([part.flatten() for part in parts]))
    found = torch.stack(
        [one.new_tensor([one @ two for two in gradients]) for one in gradients]
    )
    assert torch.allclose(found, make("ntk", 1, w, b)(x), rtol=0.03)


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    depth=st.integers(1, 4),
    n=st.integers(1, 5),
    m=st.integers(1, 5),
    n_features=st.integers(1, 7),
    weight_variance=st.floats(0.1, 5),
    bias_variance=st.sampled_from([0.0, 1e-4, 0.5]),
    seed=st.integers(0, 100),
)
def test_values_and_pull_back(
    name, depth, n, m, n_features, weight_variance, bias_variance, seed
):
    kernel = make(name, depth, weight_variance, bias_variance)
    x, z = points(n, n_features, seed=seed), points(m, n_features, seed=seed + 1000)
    leaf = x.clone().requires_grad_()
    if name != "linear" and n_features == 1 and bias_variance == 0:
        # Numbers of one sign have the angle 0: the equations' autograd ends in NaN.
        return
    wanted = plain(kernel, leaf, z)
    gradient = points(n, m, seed=seed + 2000)
    (by_x,) = torch.autograd.grad(wanted, leaf, gradient)
    values, pull_back = kernel.with_pull_back(x, z)
    # The sine of small angles has half of the digits, in either form.
    assert torch.allclose(values, wanted, rtol=1e-7, atol=1e-9)
    assert torch.equal(values, kernel(x, z))
    assert torch.allclose(pull_back(gradient), by_x, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("depth", [1, 3])
def test_pull_back_of_all_pairs(name, depth):
    """Against differences, the diagonal included, where autograd has 0 / 0."""
    kernel = make(name, depth)
    x, coefficients = points(4, 3), points(4, 4, seed=1)
    coefficients = coefficients + coefficients.T
    _, pull_back = kernel.with_pull_back(x, None)
    found = 2 * pull_back(coefficients)
    for row in range(4):
        for column in range(3):
            step = torch.zeros_like(x)
            step[row, column] = 1e-6
            after, before = (
                float((coefficients * kernel(x + sign * step)).sum())
                for sign in (1, -1)
            )
            assert float(found[row, column]) == pytest.approx(
                (after - before) / 2e-6, rel=1e-5, abs=1e-7
            )


@pytest.mark.parametrize("name", NAMES)
def test_equal_images(name):
    """By symmetry an image is not pushed away from its equal in any direction."""
    kernel = make(name, 2)
    x = points(3, 50)
    x[1] = x[0]
    values, pull_back = kernel.with_pull_back(x, None)
    assert torch.equal(values, values.T)
    assert torch.allclose(values[0], values[1], rtol=1e-14)
    assert float(values[0, 1]) == pytest.approx(float(values[0, 0]), rel=1e-14)
    gradient = 2 * pull_back(torch.ones_like(values))
    assert bool(gradient.isfinite().all())
    assert torch.allclose(gradient[0], gradient[1])
    # As real images too, with rounding of another product of matrices.
    across, pull_back = kernel.with_pull_back(x, x[:2].clone())
    assert torch.allclose(across, values[:, :2], rtol=1e-7)
    assert bool(pull_back(torch.ones_like(across)).isfinite().all())


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e-6, 1e-3])
def test_nearly_equal_images(scale):
    """The derivative stays bounded however near an image comes."""
    kernel = make("ntk", 2)
    x = points(1, 20)
    z = x + scale * points(1, 20, seed=1)
    _, pull_back = kernel.with_pull_back(x, z)
    found = pull_back(torch.ones(1, 1, dtype=torch.float64))
    assert float(found.abs().max()) < 10


@pytest.mark.parametrize("bias_variance", [0.0, 0.01])
def test_black_images(bias_variance):
    kernel = make("ntk", 2, bias_variance=bias_variance)
    x = points(3, 5)
    x[0] = 0
    values, pull_back = kernel.with_pull_back(x, None)
    across, across_back = kernel.with_pull_back(x, torch.zeros(2, 5).double())
    for matrix in (
        values,
        across,
        pull_back(torch.ones_like(values)),
        across_back(torch.ones_like(across)),
    ):
        assert bool(matrix.isfinite().all())


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    depth=st.integers(1, 5),
    n=st.integers(1, 12),
    n_features=st.integers(1, 6),
    seed=st.integers(0, 100),
)
def test_symmetric_and_positive(name, depth, n, n_features, seed):
    values = make(name, depth)(points(n, n_features, seed=seed))
    assert torch.allclose(values, values.T, rtol=1e-13)
    eigenvalues = torch.linalg.eigvalsh(values)
    # Nearly equal images: half of the digits, as of their angle.
    assert float(eigenvalues[0]) > -1e-7 * float(eigenvalues[-1])


def test_linear_kernel():
    x, z = points(3, 4), points(2, 4, seed=1)
    kernel = make("linear", 3, 2.0, 0.5)
    assert torch.allclose(kernel(x, z), x @ z.T / 2 + 0.5)


def test_callables():
    def gaussian(a, b):
        return (-torch.cdist(a, b).square() / 2).exp()

    x, z = points(4, 3), points(2, 3, seed=1)
    kernel = CallableKernel(gaussian)
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(gaussian(leaf, z).sum(), leaf)
    values, pull_back = kernel.with_pull_back(x, z)
    assert not values.requires_grad
    assert torch.equal(pull_back(torch.ones_like(values)), wanted)
    # Of all pairs: both arguments move.
    leaf = x.clone().requires_grad_()
    weights = points(4, 4, seed=2)
    weights = weights + weights.T
    (wanted,) = torch.autograd.grad((weights * gaussian(leaf, leaf)).sum(), leaf)
    values, pull_back = kernel.with_pull_back(x, None)
    assert torch.allclose(2 * pull_back(weights), wanted, atol=1e-12)
    assert torch.allclose(kernel.diagonal(x), torch.ones(4).double())


def test_callables_of_numpy():
    """Values they have, and no derivatives, which is said."""
    x = points(4, 3)
    kernel = CallableKernel(rbf_kernel)
    assert np.allclose(kernel(x), rbf_kernel(x.numpy()))
    with pytest.raises(ValueError, match="differentiable PyTorch operations"):
        kernel.with_pull_back(x, None)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda a, b: a.sum(1), r"shape \(4, 2\); got shape \(4,\)"),
        (lambda a, b: 3.0, r"got shape \(\)"),
        (lambda a, b: (a @ b.T) / 0, "NaN or infinite"),
        (lambda a: a @ a.T, "must be a function of two .* it raised TypeError"),
        (lambda a, b: "high", "`kernel` must .* it raised ValueError: could not conv"),
        (lambda a, b: a @ b, r"of shapes \(4, 3\) and \(2, 3\).* raised RuntimeError"),
    ],
)
def test_callables_that_are_no_kernels(function, message):
    with pytest.raises(ValueError, match=message):
        CallableKernel(function)(points(4, 3), points(2, 3))


def test_rows():
    images = points(2, 3, 4, 5)
    rows = as_rows(images)
    assert torch.equal(rows, images.permute(0, 2, 3, 1).reshape(2, -1))
    assert torch.equal(as_channels_first(rows, (3, 4, 5)), images)


def test_linear_is_the_network_without_hidden_layers():
    assert make("linear", 3) == NetworkKernel(False, 0, 2.0, 0.01)
