import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skdistill import NetworkClassifier, evaluate_synthetic
from skdistill.metrics import SyntheticScore, compare_scores, cross_architecture

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
    with pytest.raises(ValueError, match="the same number of runs to be paired; got 2"):
        compare_scores([0.1, 0.2], [0.1], paired=True)
    with pytest.raises(ValueError, match="`scores` must be finite"):
        compare_scores([0.1, np.nan], [0.1, 0.2])
    with pytest.raises(ValueError, match="'confidence' parameter"):
        compare_scores([0.1, 0.2], [0.1, 0.2], confidence=95)


# Scores in the form that they come in


def scored(*scores):
    values = np.asarray(scores, dtype=float)
    return SyntheticScore(values.mean(), values.std(), values)


def table(**scores):
    return pd.DataFrame(
        [
            {"estimator": name, "repeat": repeat, "score": value}
            for name, values in scores.items()
            for repeat, value in enumerate(values)
        ]
    )


ONE, TWO = (0.5, 0.6, 0.55), (0.4, 0.45)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (scored(*ONE), scored(*TWO)),
        (scored(*ONE), list(TWO)),
        (table(mlp=ONE), table(mlp=TWO)),
        (pd.Series(ONE, index=[4, 2, 9]), np.array(TWO)),
        ({"a": ONE[0], "b": ONE[1], "c": ONE[2]}, {"a": TWO[0], "c": TWO[1]}),
        (table(mlp=ONE)[["score"]], pd.DataFrame({"score": TWO})),
    ],
)
def test_scores_as_they_come_are_those_in_them(one, two):
    assert compare_scores(one, two) == compare_scores(list(ONE), list(TWO))


def test_what_evaluation_returns_is_compared():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 4, 4, 1)), np.arange(12) % 2
    options = {"n_repeats": 2, "random_state": 0}
    network = NetworkClassifier("mlp", max_iter=1, device="cpu")
    score = evaluate_synthetic((X, y), X, y, estimator=network, **options)
    assert compare_scores(score, score).difference == 0
    crossed = cross_architecture((X, y), X, y, estimators={"MLP": network}, **options)
    expected = crossed["score"].mean() - score.mean
    assert compare_scores(crossed, score).difference == pytest.approx(expected)


def test_a_result_for_each_set_is_a_run():
    rows = [[0.5, 0.6], [0.7, 0.8, 0.9], [0.4]]
    expected = compare_scores([0.55, 0.8, 0.4], [0.3, 0.2])
    for one in (
        rows,
        [scored(*row) for row in rows],
        [table(mlp=row) for row in rows],
        [scored(*rows[0]), rows[1], table(mlp=rows[2])],
        {seed: scored(*row) for seed, row in enumerate(rows)},
    ):
        found = compare_scores(one, [0.3, 0.2])
        assert found.n_runs == (3, 2)
        assert found[:3] == pytest.approx(expected[:3])


def test_the_mean_of_all_estimators_is_a_run():
    one = table(mlp=[0.5, 0.6], forest=[0.9, 0.7])
    found = compare_scores(one, table(forest=[0.1, 0.1], mlp=[0.3, 0.4]))
    expected = compare_scores([0.7, 0.65], [0.2, 0.25])
    assert found[:3] == pytest.approx(expected[:3])
    with pytest.raises(ValueError, match=r"same estimators; only one.*\['forest'\]"):
        compare_scores(one, table(mlp=[0.3, 0.4]))
    with pytest.raises(
        ValueError, match="`scores` must have the same number of scores for"
    ):
        compare_scores(one[:-1], TWO)
    with pytest.raises(ValueError, match="`other` must have one score for each estim"):
        compare_scores(TWO, pd.concat([one, one]))


def test_pairs_of_dicts_are_those_of_their_keys():
    one = {"a": 0.5, "b": 0.7, "c": 0.6}
    found = compare_scores(one, {"c": 0.59, "a": 0.48, "b": 0.67}, paired=True)
    assert found == compare_scores([0.5, 0.7, 0.6], [0.48, 0.67, 0.59], paired=True)
    with pytest.raises(ValueError, match=r"the same keys.*only one of them has \['c'"):
        compare_scores(one, {"a": 0.48, "b": 0.67, "d": 0.5}, paired=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (tuple(scored(*ONE)), "holds a mean, a standard deviation and scores: pass"),
        ({"fit_time": [1, 2], "test_score": [0.1, 0.2]}, "only 'test_score'"),
        (["0.5", "0.6"], "`scores` must be numbers of shape"),
        ([0.5, None], "`scores` must be finite"),
        ([0.5, {}], "`scores` must be numbers"),
        (pd.DataFrame({"arm": ["a"], "value": [0.5]}), r"columns \['arm'\] hold no n"),
        (pd.DataFrame({"score": ["high"]}), "numbers in its column 'score'"),
        (np.ma.masked_invalid([0.5, np.nan]), "no masked values"),
        ([[0.5, 0.6], [np.nan]], r"`scores\[1\]` must be finite"),
        (0.5, "'scores' parameter"),
        ("accuracy", "`scores` must be numbers|'scores' parameter"),
    ],
)
def test_what_holds_no_scores_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        compare_scores(wrong, [0.1, 0.2])
