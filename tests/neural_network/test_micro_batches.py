from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skdistill.neural_network import ConvNet
from skdistill.neural_network._architectures import build_network
from skdistill.neural_network._micro_batches import largest_map, micro_batches

CPU = torch.device("cpu")


@given(n_images=st.integers(1, 2000), n_bytes=st.integers(1, 2**24))
def test_parts_hold_each_image_once_and_are_nearly_equal(n_images, n_bytes):
    parts = micro_batches(n_images, n_bytes, CPU)
    images = range(n_images)
    assert list(chain(*(images[part] for part in parts))) == list(images)
    sizes = {len(images[part]) for part in parts}
    assert max(sizes) - min(sizes) <= 1


@given(n_images=st.integers(2, 2000), n_bytes=st.integers(1, 5 * 2**20))
def test_parts_are_an_even_number_and_bounded(n_images, n_bytes):
    parts = micro_batches(n_images, n_bytes, CPU)
    if n_images * n_bytes < 3 * 2**19:
        assert len(parts) == 1
        return
    assert len(parts) % 2 == 0 or len(parts) == n_images
    # An image more than an equal share, where they cannot be equal.
    largest = max(part.stop - part.start for part in parts)
    assert (largest - 1) * n_bytes < 5 * 2**20


def test_a_gpu_gets_the_whole_batch():
    assert micro_batches(500, 2**20, torch.device("meta")) == [slice(0, 500)]


def test_largest_map_is_that_of_a_real_image():
    shape = (24, 20, 3)
    for build in (
        lambda: ConvNet(shape, 5, width=7),
        lambda: build_network("resnet18", shape, 5, width_multiplier=0.1),
        lambda: build_network("vgg11", shape, 5, width_multiplier=0.1),
        lambda: build_network("mlp", shape, 5),
    ):
        module = build()
        sizes = []

        def note(_, __, found, sizes=sizes):
            sizes.append(found.numel())

        for part in module.modules():
            part.register_forward_hook(note)
        module(torch.zeros(1, 3, 24, 20))
        with torch.device("meta"):
            without_data = build()
        assert largest_map(without_data, shape) == max(sizes)


@pytest.mark.parametrize("n_images", [9, 10, 25, 90, 100])
def test_the_cut_is_that_of_the_benchmarks(n_images):
    """Where a change of constants would change results, somebody shall notice."""
    of_width = {32: [1, 1, 2, 4, 4], 128: [2, 2, 4, 10, 10]}
    place = [9, 10, 25, 90, 100].index(n_images)
    for width, expected in of_width.items():
        parts = micro_batches(n_images, 4 * 32 * 32 * width, CPU)
        assert len(parts) == expected[place]
