import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skdistill.metrics import compare_scores

runs = st.lists(st.floats(0, 1), min_size=2, max_size=8)


@given(runs, runs)
def test_unpaired_is_welch(one, two):
    found = compare_scores(one, two, confidence=0.9)
    assert found.difference == pytest.approx(np.mean(one) - np.mean(two), abs=1e-12)
    if np.var(one) + np.var(two) > 1e-6:
        expected = stats.ttest_ind(one, two, equal_var=False).confidence_interval(0.9)
        np.testing.assert_allclose([found.low, found.high], expected, atol=1e-9)
    assert found.differs == (found.low > 0 or found.high < 0)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8))
def test_paired_is_that_of_the_differences(pairs):
    one, two = np.transpose(pairs)
    found = compare_scores(one, two, paired=True)
    if np.var(one - two) > 1e-6:
        expected = stats.ttest_rel(one, two).confidence_interval(0.95)
        np.testing.assert_allclose([found.low, found.high], expected, atol=1e-9)


@given(runs, runs)
def test_the_other_way_round_is_the_negative(one, two):
    there, back = compare_scores(one, two), compare_scores(two, one)
    np.testing.assert_allclose(
        [there.difference, there.low, there.high],
        [-back.difference, -back.high, -back.low],
        atol=1e-12,
    )
    assert there.differs == back.differs


def test_networks_of_one_set_are_no_independent_runs():
    rng = np.random.default_rng(0)
    # Sets differ much more than the networks that learn from them.
    one = rng.normal(0.5, 0.05, size=(3, 1)) + rng.normal(0, 0.001, size=(3, 50))
    two = rng.normal(0.5, 0.05, size=(3, 1)) + rng.normal(0, 0.001, size=(3, 50))
    by_set = compare_scores(one, two)
    assert by_set == compare_scores(one.mean(axis=1), two.mean(axis=1))
    assert by_set.n_runs == (3, 3)
    as_if = compare_scores(one.ravel(), two.ravel())
    assert as_if.high - as_if.low < (by_set.high - by_set.low) / 4


@pytest.mark.parametrize("paired", [False, True])
def test_intervals_hold_the_truth_as_often_as_they_say(paired):
    rng = np.random.default_rng(1)
    n_trials = 1500
    held = 0
    for _ in range(n_trials):
        shared = rng.normal(0, 0.05, size=4)
        one = 0.5 + shared + rng.normal(0, 0.02, size=4)
        two = 0.47 + shared + rng.normal(0, 0.02, size=4)
        if not paired:
            one = rng.permutation(0.5 + rng.normal(0, 0.04, size=5))
        found = compare_scores(one, two, paired=paired, confidence=0.9)
        held += found.low <= 0.03 <= found.high
    # Four standard deviations, and Welch's interval is an approximation.
    assert held / n_trials == pytest.approx(0.9, abs=0.031 + 0.01 * (not paired))


def test_pairs_can_tell_what_their_parts_cannot():
    shared = np.array([0.3, 0.5, 0.7, 0.4])
    one, two = shared + np.array([0.02, 0.03, 0.02, 0.03]), shared
    assert compare_scores(one, two, paired=True).differs
    assert not compare_scores(one, two).differs


def test_one_run_tells_nothing():
    found = compare_scores([0.9], [0.1, 0.2])
    assert found.difference == pytest.approx(0.75)
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert not found.differs
    assert not compare_scores([[0.9, 0.91, 0.9]], [[0.1, 0.11, 0.1]]).differs


def test_runs_without_spread():
    found = compare_scores([0.5, 0.5, 0.5], [0.4, 0.4])
    assert found[:3] == pytest.approx((0.1, 0.1, 0.1))
    assert found.differs
    assert not compare_scores([0.3, 0.3], [0.1 + 0.2, 0.3]).differs


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"`other` must have shape \(n_runs,\)"):
        compare_scores([0.1, 0.2], [])
    with pytest.raises(ValueError, match="as many runs where they are paired; got 2"):
        compare_scores([0.1, 0.2], [0.1], paired=True)
    with pytest.raises(ValueError, match="`scores` must be finite"):
        compare_scores([0.1, np.nan], [0.1, 0.2])
    with pytest.raises(ValueError, match="'confidence' parameter"):
        compare_scores([0.1, 0.2], [0.1, 0.2], confidence=95)
