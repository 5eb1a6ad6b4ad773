"""Both ways of convolving, against the library's own gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from skdistill.neural_network._convolution import Direct, Winograd

WAYS = ["direct", "winograd"]


def normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def make_way(way, height, width):
    return Direct() if way == "direct" else Winograd(height, width)


def by_autograd(inputs, outputs, kernel):
    """The convolution, and its gradients along outputs."""
    inputs, kernel = inputs.clone().requires_grad_(), kernel.clone().requires_grad_()
    maps = F.conv2d(inputs.permute(0, 3, 1, 2), kernel, padding=1).permute(0, 2, 3, 1)
    by_inputs, by_kernel = torch.autograd.grad(maps, (inputs, kernel), outputs)
    return maps.detach(), by_inputs, by_kernel


shapes = st.tuples(
    st.integers(1, 3),
    st.integers(1, 11),
    st.integers(1, 11),
    st.integers(1, 4),
    st.integers(1, 4),
)


@pytest.mark.parametrize("way", WAYS)
@given(shape=shapes, n_pairs=st.integers(1, 3), seed=st.integers(0, 999))
def test_sums_of_convolutions_and_of_their_gradients(way, shape, n_pairs, seed):
    n_samples, height, width, n_in, n_out = shape
    convolution = make_way(way, height, width)
    inputs, outputs, kernels, expected = [], [], [], []
    for place in range(n_pairs):
        found = (
            normal(seed + place, n_samples, height, width, n_in),
            normal(seed + place + 1000, n_samples, height, width, n_out),
            normal(seed + place + 2000, n_out, n_in, 3, 3),
        )
        expected.append(by_autograd(*found))
        inputs.append(convolution.inputs(found[0]))
        outputs.append(convolution.outputs(found[1]))
        kernels.append(convolution.kernel(found[2]))
    maps, by_inputs, by_kernel = (sum(parts) for parts in zip(*expected, strict=True))
    for one, other in [
        (convolution.convolve(*zip(inputs, kernels, strict=True)), maps),
        (convolution.input_gradient(*zip(outputs, kernels, strict=True)), by_inputs),
        (convolution.kernel_gradient(*zip(inputs, outputs, strict=True)), by_kernel),
    ]:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("way", WAYS)
def test_memory_layout_does_not_matter_and_nothing_is_changed(way):
    maps = normal(0, 2, 8, 6, 5).permute(0, 2, 1, 3)
    kernel = normal(1, 5, 4, 3, 3).transpose(0, 1)
    before = maps.clone(), kernel.clone()
    convolution = make_way(way, 6, 8)
    pair = convolution.inputs(maps), convolution.kernel(kernel)
    expected = by_autograd(maps, normal(2, 2, 6, 8, 4), kernel)[0]
    for _ in range(2):
        torch.testing.assert_close(convolution.convolve(pair, pair), 2 * expected)
    assert torch.equal(maps, before[0])
    assert torch.equal(kernel, before[1])


def test_error_in_single_precision():
    """Winograd's way adds and subtracts multiples: some digits are lost, not many."""
    maps, kernel = normal(0, 10, 16, 16, 64), normal(1, 64, 64, 3, 3)
    maps = maps.relu()
    outputs = normal(2, 10, 16, 16, 64)
    expected = by_autograd(maps, outputs, kernel)
    errors = {}
    for way in WAYS:
        convolution = make_way(way, 16, 16)
        inputs = convolution.inputs(maps.float())
        gradients = convolution.outputs(outputs.float())
        kernels = convolution.kernel(kernel.float())
        found = (
            convolution.convolve((inputs, kernels)),
            convolution.input_gradient((gradients, kernels)),
            convolution.kernel_gradient((inputs, gradients)),
        )
        errors[way] = [
            float((one.double() - other).norm() / other.norm())
            for one, other in zip(found, expected, strict=True)
        ]
    # Measured: 2.5e-6 at most, and 6e-7.
    assert max(errors["winograd"]) < 1e-5
    assert max(errors["direct"]) < 2e-6


def test_pays_where_tiles_fit_and_channels_are_many():
    assert Winograd.pays(16, 16, 128, 128)
    assert Winograd.pays(14, 14, 64, 64)
    # The images themselves.
    assert not Winograd.pays(32, 32, 3, 128)
    assert not Winograd.pays(16, 16, 8, 8)
    # Tiles of 16 for maps of 9 and of 25 pixels.
    assert not Winograd.pays(3, 3, 128, 128)
    assert not Winograd.pays(5, 5, 128, 128)
