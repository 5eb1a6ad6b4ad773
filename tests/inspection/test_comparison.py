"""By how much classes differ, and how sure that is."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from skdistill.inspection import compare_classes
from skdistill.utils._intervals import students_half_width, superiority

N_TRIALS = 4000


def labels_of(one, two):
    return ["a"] * len(one) + ["b"] * len(two)


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b"], 60)
    values = rng.normal(size=120) + (y == "b")
    values[0] = np.nan
    return values, y


def test_comparison_is_that_of_means_and_ranks(values):
    values, y = values
    found = compare_classes(values, y, "b", "a")
    good = ~np.isnan(values)
    one, two = (values[good & (y == label)] for label in "ba")
    assert found["difference"] == pytest.approx(one.mean() - two.mean())
    welch = stats.ttest_ind(one, two, equal_var=False).confidence_interval()
    ends = [found["difference_low"], found["difference_high"]]
    np.testing.assert_allclose(ends, [welch.low, welch.high], rtol=1e-3)
    auc = roc_auc_score(y[good] == "b", values[good])
    assert found["superiority"] == pytest.approx(auc)
    assert found["superiority_low"] < auc < found["superiority_high"]
    assert (found["n_first"], found["n_second"]) == (60, 59)
    swapped = compare_classes(values, y, ["a"], ["b"])
    assert swapped["difference"] == pytest.approx(-found["difference"])
    assert swapped["superiority"] == pytest.approx(1 - found["superiority"])
    assert swapped["superiority_low"] == pytest.approx(1 - found["superiority_high"])


def test_entries_are_numbers_of_python(values):
    found = compare_classes(*values, "b", "a")
    assert {type(value) for value in dict(found).values()} == {float, int}
    assert type(found.difference) is float
    assert type(found["n_first"]) is int
    assert "float64(" not in repr(dict(found))
    assert isinstance(found, pd.Series)
    assert "(60" in "({n_first}".format(**found)
    assert len(pd.DataFrame([found, found])) == 2


def test_all_of_one_side_larger_is_not_certain():
    found = compare_classes([1, 2, 3, 4, 5, 6, 7, 8], list("aaaabbbb"), "a", "b")
    assert found["superiority"] == found["superiority_low"] == 0
    # Of 70 orders of equal samples two are like this.
    assert 0.4 < found["superiority_high"] < 0.6
    apart = compare_classes([1] * 3 + [2] * 3, list("aaabbb"), "b", "a")
    assert (apart["difference_low"], apart["difference_high"]) == (1, 1)
    assert 0.3 < apart["superiority_low"] < 0.6


def test_single_images_have_no_interval():
    for groups in (None, [0, 1], [0, 0]):
        found = compare_classes([1.0, 2.0], ["a", "b"], "b", "a", groups=groups)
        assert found["difference"] == found["superiority"] == 1
        assert np.isnan(found[["difference_low", "superiority_high"]]).all()


def test_runs_are_what_counts():
    """Real images against three runs of four images each, which hardly differ."""
    rng = np.random.default_rng(0)
    runs = np.repeat(rng.normal(0.5, 1, size=3), 4) + rng.normal(0, 0.01, size=12)
    real = rng.normal(size=40)
    values = np.concatenate([runs, real])
    y = ["distilled"] * 12 + ["real"] * 40
    groups = [f"seed {k}" for k in np.repeat(range(3), 4)] + list(range(40))
    found = compare_classes(values, y, "distilled", "real", groups=groups)
    assert (found["n_first"], found["n_second"]) == (3, 40)
    means = runs.reshape(3, 4).mean(axis=1)
    assert found["difference"] == pytest.approx(means.mean() - real.mean())
    alone = compare_classes(values, y, "distilled", "real")
    assert alone["n_first"] == 12
    width, narrow = (
        table["difference_high"] - table["difference_low"] for table in (found, alone)
    )
    assert width > 2 * narrow


def test_the_same_runs_are_compared_within():
    one, two = np.array([1.0, 2.0, 4.0]), np.array([0.5, 1.4, 3.6])
    values = np.concatenate([one, two, [np.nan]])
    y = [*labels_of(one, two), "a"]
    found = compare_classes(values, y, "a", "b", groups=[0, 1, 2, 0, 1, 2, 3])
    expected = stats.ttest_rel(one, two).confidence_interval()
    assert found["difference_low"] == pytest.approx(expected.low)
    assert found["difference_high"] == pytest.approx(expected.high)
    exact = stats.binomtest(3, 3).proportion_ci()
    assert found["superiority_low"] == pytest.approx(exact.low)
    assert found["superiority_high"] == 1
    # Several images of a run and class are one value.
    again = compare_classes(
        np.repeat(values, 2),
        np.repeat(y, 2),
        "a",
        "b",
        groups=[0, 0, 1, 1, 2, 2] * 2 + [3, 3],
    )
    assert again["difference_high"] == pytest.approx(found["difference_high"])
    with pytest.warns(
        UserWarning, match=r"the runs \[2, 3\] have images on only one side"
    ):
        part = compare_classes(values[:6], y[:6], "a", "b", groups=[0, 1, 2, 0, 1, 3])
    assert (part["n_first"], part["n_second"]) == (2, 2)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_intervals_hold_the_truth_at_every_size(shift):
    """Of normal samples: 95 % in at least 93 and, from 5 each on, at most 98 %."""
    rng = np.random.default_rng(int(10 * shift))
    sizes = [(n, n) for n in range(2, 51)] + [
        (2, 5),
        (2, 50),
        (3, 10),
        (5, 20),
        (10, 50),
    ]
    truth = stats.norm.cdf(shift / np.sqrt(2))
    noise = 3 * np.sqrt(0.95 * 0.05 / N_TRIALS)
    found = {}
    for n_one, n_two in sizes:
        # Large ones cost more and change less from one size to the next.
        n_trials = N_TRIALS if n_one < 8 else N_TRIALS // 2
        one = rng.normal(shift, 1, size=(n_trials, n_one))
        two = rng.normal(size=(n_trials, n_two))
        half = students_half_width(one, two, confidence=0.95, unequal_sizes=True)
        difference = one.mean(axis=1) - two.mean(axis=1)
        _, low, high = superiority(one, two, 0.95)
        held = (
            (np.abs(difference - shift) <= half).mean(),
            ((low <= truth) & (truth <= high)).mean(),
        )
        noise = 3 * np.sqrt(0.95 * 0.05 / n_trials)
        assert min(held) > 0.93 - noise, (n_one, n_two)
        if min(n_one, n_two) >= 5:
            assert max(held) < 0.98 + noise, (n_one, n_two)
        found[n_one, n_two] = held
    # All sizes together, which leaves less to chance.
    large = np.array([held for pair, held in found.items() if min(pair) >= 5])
    assert (large.mean(axis=0) > 0.945).all()
    assert (large.mean(axis=0) < 0.975).all()


@pytest.mark.parametrize("n", [3, 5, 10, 30])
def test_intervals_where_one_side_scatters_three_times_as_much(n):
    rng = np.random.default_rng(n)
    for shift in (0.0, 2.0):
        one = rng.normal(shift, 3, size=(N_TRIALS, n))
        two = rng.normal(size=(N_TRIALS, n))
        truth = stats.norm.cdf(shift / np.sqrt(10))
        _, low, high = superiority(one, two, 0.95)
        assert ((low <= truth) & (truth <= high)).mean() > 0.93
        half = students_half_width(one, two, confidence=0.95)
        difference = one.mean(axis=1) - two.mean(axis=1)
        assert 0.93 < (np.abs(difference - shift) <= half).mean() < 0.98


def test_the_simulated_intervals_are_those_that_are_returned():
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=4), rng.normal(1, 1, size=7)
    found = compare_classes([*one, *two], labels_of(one, two), "a", "b")
    share, low, high = superiority(one, two, 0.95)
    assert found["superiority"] == share
    assert (found["superiority_low"], found["superiority_high"]) == (low, high)
    half = students_half_width(one, two, confidence=0.95, unequal_sizes=True)
    width = found["difference_high"] - found["difference_low"]
    assert width == pytest.approx(2 * half)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"second": "c"}, "`second`: no image of 'c'"),
        ({"y": ["a"]}, "have the same length"),
        ({"second": ["a", "b"]}, "no class in common"),
        ({"groups": [1, 2]}, r"run of each of the 4 images; got shape \(2,\)"),
        ({"groups": [1, 2, None, 4]}, "the run of image 2 is None"),
        ({"groups": [1, 2, 3, np.nan]}, "the run of image 3 is nan"),
        ({"second": np.str_("c")}, "no image of 'c' has"),
        ({"y": [0, 0, 1, 1], "first": np.int64(7)}, "no image of 7 has"),
        ({"values": ["1", "2", "x", "3"]}, "`values` must be numbers, or NaN"),
    ],
)
def test_errors(changes, message):
    given = {"values": [1.0, 2, 3, 4], "y": list("aabb"), "first": "a", "second": "b"}
    with pytest.raises(ValueError, match=message):
        compare_classes(**(given | changes))


def test_groups_of_classes():
    values, y = [1.0, 2, 3, 4], list("aabb")
    expected = compare_classes(values, y, "a", "b")
    assert compare_classes(values, y, {"a"}, np.array(["b"])).equals(expected)
    with pytest.warns(UserWarning, match="`first` has labels .* in no row.* 'A';"):
        assert compare_classes(values, y, ["a", "A"], "b").equals(expected)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7])
def test_values_that_are_all_the_same_do_not_differ(value):
    for sizes in ((6, 3), (3, 7), (10, 11)):
        y = np.repeat(["a", "b"], sizes)
        found = compare_classes([value] * len(y), y, "a", "b")
        assert found["difference_low"] <= 0 <= found["difference_high"]
