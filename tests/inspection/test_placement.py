"""Where distilled images are among real ones."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from skdistill import make_galaxies
from skdistill.inspection import (
    MeasuresDisplay,
    MorphologyMeasures,
    place_distilled,
)


@pytest.fixture
def real():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b"], 60)
    return pd.DataFrame({"m": rng.normal(size=120) + (y == "b"), "k": 3.0}), y


def test_places_are_those_of_scipy(real):
    measures, y = real
    table = place_distilled(
        measures, y, [[0.3, 3], [2.0, 3], [np.nan, 3]], ["b", "a", "a"], random_state=0
    )
    assert len(table) == 6
    for row in table[table["measure"] == "m"].itertuples(index=False):
        some = measures["m"][y == row[0]]
        if np.isnan(row.value):
            assert np.isnan([row.z, row.percentile, row.z_low, row.z_high]).all()
            continue
        assert row.z == pytest.approx((row.value - some.mean()) / some.std())
        expected = stats.percentileofscore(some, row.value, kind="mean")
        assert row.percentile == pytest.approx(expected)
        assert row.percentile_low <= row.percentile <= row.percentile_high
        assert row.z_low < row.z < row.z_high
        assert row.n_real == 60
    constant = table[table["measure"] == "k"]
    assert (constant["percentile"] == 50).all()
    assert constant["z"].isna().all()


@pytest.mark.parametrize("n_real", [2, 5, 60])
def test_intervals_of_places_hold_the_truth(n_real):
    """The place of 0.5 in a normal distribution: 0.5 deviations, percentile 69."""
    rng = np.random.default_rng(n_real)
    hits = np.zeros(2)
    n_trials = 300
    for _ in range(n_trials):
        row = place_distilled(
            rng.normal(size=(n_real, 1)),
            [0] * n_real,
            [[0.5]],
            [0],
            confidence_level=0.9,
        ).iloc[0]
        hits[0] += row["z_low"] <= 0.5 <= row["z_high"]
        truth = 100 * stats.norm.cdf(0.5)
        hits[1] += row["percentile_low"] <= truth <= row["percentile_high"]
    assert (hits / n_trials > 0.9 - 3 * np.sqrt(0.9 * 0.1 / n_trials)).all()
    if n_real == 60:
        assert (hits / n_trials < 0.93 + 3 * np.sqrt(0.9 * 0.1 / n_trials)).all()


def test_a_place_outside_of_all_has_an_interval():
    table = place_distilled([[1.0], [2.0], [4.0]], list("aaa"), [[9.0]], ["a"])
    row = table.iloc[0]
    assert row["percentile"] == row["percentile_high"] == 100
    assert 20 < row["percentile_low"] < 60
    assert np.isfinite([row["z_low"], row["z_high"]]).all()


def test_errors(real):
    measures, y = real
    with pytest.raises(ValueError, match="no real image of the class 'c'"):
        place_distilled(measures, y, [[1, 2]], ["c"])
    with pytest.raises(ValueError, match="`distilled_measures` must have a column"):
        place_distilled(measures, y, [[1]], ["a"])
    with pytest.raises(ValueError, match="`y` must hold one label"):
        place_distilled(measures, y[1:], [[1, 2]], ["a"])
    X, labels = make_galaxies(18, size=12, random_state=0)
    with pytest.raises(ValueError, match="`measures` must be among"):
        MeasuresDisplay.from_data(X, labels, X, labels, measures=["size"])
    with pytest.raises(ValueError, match="`axes` must be one for each"):
        MeasuresDisplay.from_data(X, labels, X, labels, axes=plt.gca())


def test_display_shows_each_distilled_image_where_it_is():
    X, y = make_galaxies(90, size=24, random_state=0)
    display = MeasuresDisplay.from_data(
        X,
        y,
        X[:20],
        y[:20],
        measures=["gini", "color_2_0"],
        classes=[7, 0],
        class_names=["spiral", "smooth"],
        random_state=0,
    )
    found = pd.DataFrame(
        MorphologyMeasures().fit_transform(X),
        columns=MorphologyMeasures().fit(X).get_feature_names_out(),
    )
    assert [ax.get_xlabel() for ax in display.axes_] == ["gini", "color 2 0"]
    for ax, name in zip(display.axes_, ["gini", "color_2_0"], strict=True):
        marked = [line for line in ax.lines if line.get_marker() == "D"]
        for line, label in zip(marked, [7, 0], strict=True):
            expected = found.loc[:19, name][y[:20] == label]
            np.testing.assert_allclose(line.get_xdata(), expected)
    ticks = [text.get_text() for text in display.axes_[0].get_yticklabels()]
    assert ticks == ["spiral", "smooth"]
    figure, axes = plt.subplots(2)
    assert display.plot(axes=axes) is display
    assert display.figure_ is figure
