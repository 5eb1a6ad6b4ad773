"""Kernel ridge regression: coefficients, retries, and least squares in parts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge

from skdistill.neural_network._ridge import RidgeRegression, least_squares


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_coefficients_are_those_of_kernel_ridge():
    features, targets = draw(8, 5), draw(8, 3, seed=1)
    kernel = features @ features.T
    weight = draw(8, seed=2).abs()
    for weights in (None, weight):
        regression = RidgeRegression(kernel, 0.1, weights)
        wanted = KernelRidge(alpha=float(regression.ridge), kernel="precomputed")
        wanted.fit(kernel.numpy(), targets.numpy(), weights)
        assert np.allclose(regression.solve(targets), wanted.dual_coef_)
    assert float(RidgeRegression(kernel, 0.1).ridge) == pytest.approx(
        0.1 * float(kernel.trace()) / 8
    )


def test_weights_count_images():
    features, targets = draw(4, 3), draw(4, 2, seed=1)
    twice = torch.tensor([0, 1, 1, 2, 3, 3, 3])
    weighted = RidgeRegression(
        features @ features.T, 1e-2, torch.tensor([1.0, 2, 1, 3]).double()
    )
    repeated = RidgeRegression(features[twice] @ features[twice].T, 1e-2)
    assert float(weighted.ridge) == pytest.approx(float(repeated.ridge))
    one = features.T @ weighted.solve(targets)
    other = features[twice].T @ repeated.solve(targets[twice])
    assert torch.allclose(one, other)


@pytest.mark.parametrize("reg", [1e-6, 0.3])
def test_pull_back(reg):
    """Against autograd through the dense solve, the ridge's trace included."""
    features, targets, gradient = draw(6, 8), draw(6, 3, seed=1), draw(6, 3, seed=2)
    kernel = (features @ features.T).requires_grad_()
    leaf = targets.clone().requires_grad_()
    ridge = reg * kernel.trace() / 6
    found = torch.linalg.solve(kernel + ridge * torch.eye(6).double(), leaf)
    by_targets, by_kernel = torch.autograd.grad(found, (leaf, kernel), gradient)
    regression = RidgeRegression(kernel.detach(), reg)
    ours = regression.pull_back(regression.solve(targets), gradient)
    assert torch.allclose(ours[0], by_targets, rtol=1e-9)
    # Autograd knows nothing of the symmetry.
    assert torch.allclose(ours[1], (by_kernel + by_kernel.T) / 2, rtol=1e-9, atol=1e-10)


def test_retry_and_failure():
    """A matrix that is nearly a kernel gets one more chance."""
    kernel = torch.ones(3, 3).double()
    assert RidgeRegression(kernel, 1e-6).reg == 1e-6
    nearly = kernel - torch.diag(torch.full((3,), 5e-6).double())
    with pytest.warns(UserWarning, match="`reg`=1e-05 was used"):
        retried = RidgeRegression(nearly, 1e-6)
    assert retried.reg == pytest.approx(1e-5)
    assert float(retried.ridge) == pytest.approx(1e-5, rel=1e-4)
    with pytest.raises(ValueError, match=r"`reg`=1e-05 .* images are identical or"):
        RidgeRegression(kernel - torch.diag(torch.full((3,), 1e-2).double()), 1e-6)
    with pytest.raises(ValueError, match="values that are NaN or infinite"):
        RidgeRegression(kernel * np.inf, 1e-6)
    with pytest.raises(ValueError, match=r"not positive definite.* images are black"):
        RidgeRegression(torch.zeros(2, 2).double(), 1e-6)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    n=st.integers(1, 6),
    n_classes=st.integers(1, 3),
    rank=st.integers(1, 6),
    seed=st.integers(0, 100),
)
def test_least_squares_in_parts(sizes, n, n_classes, rank, seed):
    """The solution of least norm, whatever the parts and the rank."""
    matrix = draw(sum(sizes), rank, seed=seed) @ draw(rank, n, seed=seed + 1000)
    values = draw(sum(sizes), n_classes, seed=seed + 2000)
    parts = zip(matrix.split(sizes), values.split(sizes), strict=True)
    found = least_squares(iter(parts), n)
    wanted = torch.linalg.pinv(matrix, rtol=1e-12) @ values
    scale = float(wanted.abs().max())
    assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-8 * scale + 1e-12)


def test_least_squares_of_nothing():
    with pytest.raises(ValueError, match="no rows"):
        least_squares(iter(()), 3)
