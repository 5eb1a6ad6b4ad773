import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skdistill.distillation._stages import (
    CHECK_EVERY,
    OVERFIT_THRESHOLD,
    Validations,
    decide,
    strongest_trend,
    trend,
)


def series_of_correlation(n, r):
    """A series of n values whose correlation with time is r, to rounding."""
    time = np.arange(n) - (n - 1) / 2
    time /= np.linalg.norm(time)
    noise = np.random.default_rng(n).normal(size=n)
    noise -= noise.mean()
    noise -= (noise @ time) * time
    noise /= np.linalg.norm(noise)
    return (5 + r * time + math.sqrt(1 - r**2) * noise).tolist()


def residuals(numbers, groups):
    """What least squares on a dummy variable for each group leave of the numbers."""
    dummies = (np.asarray(groups)[:, None] == np.unique(groups)).astype(np.float64)
    coefficients, *_ = np.linalg.lstsq(dummies, numbers, rcond=None)
    return numbers - dummies @ coefficients


def teachers_with_levels(n, n_groups, seed, spread=10.0):
    """Return a teacher for each of n validations, equally often, and their levels."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.arange(n) % n_groups)
    return groups.tolist(), (spread * rng.normal(size=n_groups))[groups]


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=60))
def test_trend_is_the_correlation_with_time(values):
    found = trend(values)
    assert found.deviation == pytest.approx(math.sqrt(1 / (len(values) - 2)))
    spread = np.ptp(values)
    if spread < 1e-6 * (1 + np.abs(values).max()):
        return  # nearly constant: rounding decides in either computation
    expected = stats.pearsonr(np.arange(len(values)), values).statistic
    assert found.correlation == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -7e8])
def test_constant_series_has_no_trend(value):
    assert trend([value] * 50).correlation == 0
    # The last bit is noise, even where it happens to fall with time.
    flickering = [value] * 25 + [np.nextafter(value, value - 1)] * 25
    if value:
        assert trend(flickering).correlation == 0


def test_small_but_real_trend_is_seen_beside_a_large_mean():
    values = 1e6 + 1e-3 * np.arange(50)
    assert trend(values).correlation == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([], None),
        ([2.0], None),
        ([2.0, 1.0], None),
        ([], []),
        ([2.0, 1.0], [0, 0]),
        ([3.0, 2.0, 1.0], [0, 1, 1]),
        ([9.0, 7.0, 5.0, 3.0], [4, 2, 4, 8]),
        (np.arange(20.0), range(20)),
    ],
)
def test_too_few_values_tell_nothing(values, groups):
    found = trend(values, groups)
    assert found == (0.0, math.inf)
    assert found.significance == 0


@given(
    pairs=st.lists(
        st.tuples(st.floats(-1e3, 1e3), st.integers(-3, 3)), min_size=3, max_size=60
    )
)
def test_trend_within_groups_is_the_partial_correlation(pairs):
    values, groups = (list(column) for column in zip(*pairs, strict=True))
    found = trend(values, groups)
    freedom = len(values) - 1 - len(set(groups))
    if freedom < 1:
        assert found == (0.0, math.inf)
        return
    assert found.deviation == pytest.approx(math.sqrt(1 / freedom), rel=1e-14)
    rest = residuals(np.asarray(values), groups)
    time = residuals(np.arange(len(values), dtype=np.float64), groups)
    if np.linalg.norm(rest) < 1e-6 * (1 + np.abs(values).max()):
        return  # nearly constant: rounding decides in either computation
    expected = rest @ time / np.linalg.norm(rest) / np.linalg.norm(time)
    assert found.correlation == pytest.approx(expected, abs=1e-8)
    assert found.significance == found.correlation / found.deviation


@given(
    values=st.lists(st.integers(-1000, 1000), min_size=12, max_size=60),
    n_groups=st.integers(1, 6),
    unit=st.sampled_from([1e-250, 1e-3, 1.0, 1e250]),
    seed=st.integers(0, 99),
)
def test_trend_within_groups_knows_no_levels_units_or_names(
    values, n_groups, unit, seed
):
    groups, levels = teachers_with_levels(len(values), n_groups, seed, spread=1e3)
    values = np.asarray(values, dtype=np.float64)
    expected = trend(values, groups)
    # Levels of whole numbers: no bit of the values is lost.
    found = trend(unit * (values + np.round(levels)), [7 - 3 * g for g in groups])
    assert found.deviation == expected.deviation
    assert found.correlation == pytest.approx(expected.correlation, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_one_group_is_no_group(seed):
    values = np.random.default_rng(seed).normal(size=30)
    assert trend(values, [5] * 30) == trend(values)


@pytest.mark.parametrize("n_groups", [2, 5, 10])
def test_constant_groups_have_no_trend(n_groups):
    groups, levels = teachers_with_levels(50, n_groups, seed=n_groups)
    assert trend(levels, groups).correlation == 0
    assert trend(levels / 3, groups).correlation == 0


@pytest.mark.parametrize("seed", range(10))
def test_fall_that_levels_hide_is_found_within_groups(seed):
    n = 100
    groups, levels = teachers_with_levels(n, 10, seed)
    noise = 0.3 * np.random.default_rng(seed).normal(size=n)
    fall = np.linspace(2, 0, n)
    arguments = {"threshold": 5.0, "max_iter": 999}
    for sign, decision in [(1, "expanded"), (-1, "overfit")]:
        values = levels + sign * fall + noise
        # Beside levels of deviation 10 a fall by 2 lowers r by 0.06, or 0.6
        # deviations; beside the noise of deviation 0.3 it is -0.9, or -8 of them.
        assert abs(trend(values).significance) < OVERFIT_THRESHOLD
        assert sign * trend(values, groups).significance < -5
        assert decide(values, **arguments) is None
        assert decide(values, groups, **arguments) == decision


def test_strongest_trend_is_the_clearer_of_the_two():
    n = 40
    falling = np.linspace(1, 0, n)
    noise = np.random.default_rng(0).normal(size=n)
    groups, levels = teachers_with_levels(n, 4, seed=0)
    hidden = levels + falling + 0.01 * noise
    assert strongest_trend(hidden) == trend(hidden) != trend(hidden, groups)
    assert strongest_trend(hidden, groups) == trend(hidden, groups)
    assert strongest_trend(-hidden, groups) == trend(-hidden, groups)
    # Teachers one after the other, each without a trend: only all of them fall.
    periods = np.arange(n) // 10
    steps = -3.0 * periods + 0.5 * noise
    assert strongest_trend(steps, periods) == trend(steps) != trend(steps, periods)
    assert strongest_trend(-steps, periods) == trend(-steps)
    # Where groups tell nothing the trend of all values counts.
    assert strongest_trend(falling, range(n)) == trend(falling)


@given(
    n=st.integers(3, 8).map(lambda k: k * CHECK_EVERY),
    threshold=st.floats(0.5, 6),
    side=st.sampled_from([0.999, 1.001]),
)
def test_level_up_below_minus_threshold_deviations(n, threshold, side):
    limit = threshold / math.sqrt(n - 2)
    r = -limit * side
    if r <= -1:
        return
    decision = decide(series_of_correlation(n, r), threshold=threshold, max_iter=999)
    assert decision == ("expanded" if side > 1 else None)


@pytest.mark.parametrize("unit", [1e-250, 1e-30, 1e30, 1e250])
def test_trend_depends_on_no_unit(unit):
    series = np.asarray(series_of_correlation(50, -0.75))
    assert trend(unit * series).correlation == pytest.approx(-0.75, abs=1e-9)


@pytest.mark.parametrize("n", [30, 50])
def test_overfit_above_three_deviations(n):
    assert OVERFIT_THRESHOLD == 3
    limit = 3 / math.sqrt(n - 2)
    arguments = {"threshold": 5.0, "max_iter": 999}
    assert decide(series_of_correlation(n, limit * 1.001), **arguments) == "overfit"
    assert decide(series_of_correlation(n, limit * 0.999), **arguments) is None


def test_five_sigma_is_first_possible_at_thirty_probes():
    falling = np.linspace(3, 1, 60).tolist()
    decisions = {
        n: decide(falling[:n], threshold=5.0, max_iter=999) for n in range(1, 61)
    }
    assert [n for n, found in decisions.items() if found] == [30, 40, 50, 60]
    assert set(decisions.values()) == {None, "expanded"}
    # 5 / sqrt(28) = 0.9449
    for r, expected in [(-0.944, None), (-0.946, "expanded")]:
        series = series_of_correlation(30, r)
        assert decide(series, threshold=5.0, max_iter=999) == expected


def test_overfit_is_first_possible_at_twenty_probes():
    rising = np.linspace(1, 3, 30).tolist()
    found = {n: decide(rising[:n], threshold=5.0, max_iter=999) for n in range(1, 31)}
    assert [n for n, decision in found.items() if decision] == [20, 30]


@given(
    values=st.lists(st.floats(0, 10), min_size=0, max_size=80),
    max_iter=st.integers(1, 80),
    threshold=st.floats(0.1, 10),
)
def test_decisions_come_only_when_they_may(values, max_iter, threshold):
    decision = decide(values, threshold=threshold, max_iter=max_iter)
    if decision in ("expanded", "overfit"):
        assert len(values) >= CHECK_EVERY
        assert len(values) % CHECK_EVERY == 0
    else:
        # Without a trend the stop always comes, at once and not only at a check.
        assert (decision == "stop") == (len(values) >= max_iter)


def test_trend_goes_before_the_stop():
    falling = np.linspace(3, 1, 30).tolist()
    assert decide(falling, threshold=5.0, max_iter=30) == "expanded"
    assert decide(falling[:29], threshold=5.0, max_iter=29) == "stop"
    assert decide([1.0] * 30, threshold=5.0, max_iter=30) == "stop"


def test_rate_of_false_level_ups_is_the_normal_tail():
    n, n_series = 50, 20_000
    noise = np.random.default_rng(0).normal(size=(n_series, n))
    found = [decide(series, threshold=2.0, max_iter=999) for series in noise]
    rate = np.mean([decision == "expanded" for decision in found])
    # r is not normal at n = 50: exactly, its tail is that of Student's t, .0210
    # against .0228.  Add three standard errors of the count.
    t = 2 / math.sqrt(1 - 4 / (n - 2))
    exact = stats.t.sf(t, n - 2)
    error = 3 * math.sqrt(exact / n_series)
    assert rate == pytest.approx(exact, abs=error)
    assert rate == pytest.approx(stats.norm.sf(2), abs=error + 0.002)


def end_of_stage(series):
    """Look at a stage as it grows, as a fit does, until something is decided."""
    for n in range(10, len(series) + 1, 10):
        decision = decide(series[:n], threshold=5.0, max_iter=len(series))
        if decision is not None:
            return decision
    return None


def test_whole_stages_of_noise_and_of_random_walks():
    """How often a stage of 400 validations that learn nothing ends, after 40 looks.

    White noise is never taken for a fall at five deviations, and for a rise at three
    in some percent.  A random walk is a trend to a test whose null hypothesis is white
    noise: all stages end, more by a rise than by a fall, since three deviations are
    fewer than five.
    """
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(400, 400))
    decisions = [end_of_stage(series) for series in noise]
    assert decisions.count("expanded") == 0
    # .016 in 20,000 simulated stages.
    assert decisions.count("overfit") < 0.04 * 400
    decisions = [end_of_stage(series) for series in noise.cumsum(axis=1)]
    # .372 and .628 of 20,000; three standard errors.
    assert decisions.count("expanded") / 400 == pytest.approx(0.372, abs=0.073)
    assert decisions.count("overfit") / 400 == pytest.approx(0.628, abs=0.073)


def test_level_up_depends_on_no_unit():
    series = np.asarray(series_of_correlation(50, -0.75))
    for scale, shift in [(1, 0), (1e-6, 0), (1e3, 1e4)]:
        values = scale * series + shift
        assert decide(values, threshold=5.0, max_iter=999) == "expanded"


def test_rate_of_false_trends_within_groups_is_the_tail_of_students_t():
    n, n_groups, n_series, threshold = 50, 8, 10_000, 2.0
    rng = np.random.default_rng(0)
    significances, found = [], []
    for seed in range(n_series):
        groups, levels = teachers_with_levels(n, n_groups, seed)
        values = levels + rng.normal(size=n)
        significances.append(trend(values, groups).significance)
        found.append(decide(values, groups, threshold=threshold, max_iter=999))
    significances = np.asarray(significances)
    freedom = n - 1 - n_groups
    exact = stats.t.sf(threshold / math.sqrt(1 - threshold**2 / freedom), freedom)
    # Three standard errors of the count.
    error = 3 * math.sqrt(exact / n_series)
    assert np.mean(significances < -threshold) == pytest.approx(exact, abs=error)
    assert np.mean(significances > threshold) == pytest.approx(exact, abs=error)
    # And the whole distribution, not only its tail.
    r = significances / math.sqrt(freedom)
    t = r * math.sqrt(freedom) / np.sqrt(1 - r**2)
    assert stats.kstest(t, stats.t(freedom).cdf).pvalue > 0.01
    # Two looks at the same series: more false expansions than one, at most twice as
    # many.
    plain = stats.t.sf(threshold / math.sqrt(1 - threshold**2 / (n - 2)), n - 2)
    rate = np.mean([decision == "expanded" for decision in found])
    assert exact + error < rate < exact + plain + error


def test_validations_are_taken_back():
    numbers = {"validation_loss": 1.0, "validation_misalignment": 0.5}
    found = Validations()
    for place in range(3):
        found.append(numbers | {"teacher": place})
    # Whoever looks at them still does.
    view = np.asarray(found.loss)
    found = Validations.from_table(found.table()[:, :2])
    assert len(view) == 3
    assert found.teacher.tolist() == [0, 1]
    assert found.misalignment.tolist() == [0.5, 0.5]
