import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skdistill.distillation._stages import (
    CHECK_EVERY,
    OVERFIT_THRESHOLD,
    decide,
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
    assert decision == ("level-up" if side > 1 else None)


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
    assert set(decisions.values()) == {None, "level-up"}
    # 5 / sqrt(28) = 0.9449
    for r, expected in [(-0.944, None), (-0.946, "level-up")]:
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
    if decision in ("level-up", "overfit"):
        assert len(values) >= CHECK_EVERY
        assert len(values) % CHECK_EVERY == 0
    else:
        # Without a trend the stop always comes, at once and not only at a check.
        assert (decision == "stop") == (len(values) >= max_iter)


def test_trend_goes_before_the_stop():
    falling = np.linspace(3, 1, 30).tolist()
    assert decide(falling, threshold=5.0, max_iter=30) == "level-up"
    assert decide(falling[:29], threshold=5.0, max_iter=29) == "stop"
    assert decide([1.0] * 30, threshold=5.0, max_iter=30) == "stop"


def test_rate_of_false_level_ups_is_the_normal_tail():
    n, n_series = 50, 20_000
    noise = np.random.default_rng(0).normal(size=(n_series, n))
    found = [decide(series, threshold=2.0, max_iter=999) for series in noise]
    rate = np.mean([decision == "level-up" for decision in found])
    # r is not normal at n = 50: exactly, its tail is that of Student's t, .0210
    # against .0228.  Add three standard errors of the count.
    t = 2 / math.sqrt(1 - 4 / (n - 2))
    exact = stats.t.sf(t, n - 2)
    error = 3 * math.sqrt(exact / n_series)
    assert rate == pytest.approx(exact, abs=error)
    assert rate == pytest.approx(stats.norm.sf(2), abs=error + 0.002)


def test_level_up_depends_on_no_unit():
    series = np.asarray(series_of_correlation(50, -0.75))
    for scale, shift in [(1, 0), (1e-6, 0), (1e3, 1e4)]:
        values = scale * series + shift
        assert decide(values, threshold=5.0, max_iter=999) == "level-up"
