import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skdistill.utils._random import (
    child_seed,
    isolated_torch_seed,
    root_seed,
    torch_generator,
)

seeds = st.integers(0, 2**32 - 1)


def test_root_seed():
    assert root_seed(42) == root_seed(np.int64(42)) == 42
    first, second = (root_seed(np.random.RandomState(3)) for _ in range(2))
    assert first == second >= 0
    state = np.random.RandomState(3)
    assert root_seed(state) != root_seed(state)
    assert isinstance(root_seed(None), int)
    with pytest.raises(ValueError, match="cannot be used to seed"):
        root_seed("nonsense")


@given(seeds, st.lists(st.integers(0, 2**20), max_size=3))
def test_child_seed_is_a_function_of_seed_and_key(seed, key):
    child = child_seed(seed, *key)
    assert child == child_seed(seed, *key)
    assert 0 <= child < 2**63
    assert torch_generator(child).initial_seed() == child


def test_children_differ():
    keys = [(), *((i,) for i in range(40)), *((i, j) for i in range(9) for j in (0, 1))]
    children = {child_seed(seed, *key) for seed in range(20) for key in keys}
    assert len(children) == 20 * len(keys)


def test_streams_of_children_are_independent():
    first, second = (
        torch.rand(4000, generator=torch_generator(child_seed(0, key)))
        for key in range(2)
    )
    # 5 standard deviations of the correlation of independent numbers
    correlation = np.corrcoef(first.numpy(), second.numpy())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(4000)


def test_isolated_torch_seed_restores():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with isolated_torch_seed(7):
        inside = torch.rand(3)
    np.testing.assert_array_equal(torch.rand(3), expected)
    with isolated_torch_seed(7):
        np.testing.assert_array_equal(torch.rand(3), inside)
    assert not torch.equal(inside, expected)


def test_isolated_torch_seed_restores_after_an_error():
    before = torch.get_rng_state()

    def fail():
        with isolated_torch_seed(7):
            torch.rand(3)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.get_rng_state(), before)
