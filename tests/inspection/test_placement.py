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
    ProfileDisplay,
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


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7, 1e-20])
def test_values_that_are_all_the_same_have_no_deviation(value):
    table = place_distilled([[value]] * 3, ["a"] * 3, [[value], [2 * value]], ["a"] * 2)
    assert table["real_std"].tolist() == [0, 0]
    assert table[["z", "z_low", "z_high"]].isna().all(axis=None)
    assert table["percentile"].tolist() == [50, 100]


def test_errors(real):
    measures, y = real
    for place, wrong in enumerate(["measures", "distilled_measures"]):
        tables = [np.ones((120, 2)), np.ones((1, 2))]
        tables[place][0, 1] = np.inf
        with pytest.raises(ValueError, match=f"`{wrong}` must be finite.* image 0"):
            place_distilled(tables[0], y, tables[1], ["a"])
    with pytest.raises(ValueError, match=r"order of the columns.*\['m', 'k'\]"):
        place_distilled(measures, y, [[1, 2]], ["a"], names=["k", "m"])
    with pytest.raises(ValueError, match="no real image of the class 'c'"):
        place_distilled(measures, y, [[1, 2]], ["c"])
    with pytest.raises(ValueError, match="`distilled_measures` must have a column"):
        place_distilled(measures, y, [[1]], ["a"])
    with pytest.raises(ValueError, match="`y` must hold one label"):
        place_distilled(measures, y[1:], [[1, 2]], ["a"])
    X, labels = make_galaxies(18, size=12, random_state=0)
    with pytest.raises(ValueError, match="`measures` must be among"):
        MeasuresDisplay.from_data(X, labels, X, labels, measures=["size"])
    with pytest.raises(ValueError, match=r"`ax` must be .* one for each panel"):
        MeasuresDisplay.from_data(X, labels, X, labels, ax=plt.gca())


def test_columns_are_found_by_their_names(real):
    measures, y = real
    distilled = measures[:2]
    expected = place_distilled(measures, y, distilled, y[:2])
    found = place_distilled(measures, y, distilled[["k", "m"]], y[:2])
    pd.testing.assert_frame_equal(found, expected)
    # Numbers are no names.
    plain = pd.DataFrame(distilled.to_numpy())
    pd.testing.assert_frame_equal(place_distilled(measures, y, plain, y[:2]), expected)
    with pytest.raises(ValueError, match=r"must have the columns of `measures`.*'k'"):
        place_distilled(measures, y, distilled.rename(columns={"m": "n"}), y[:2])


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
    assert [ax.get_xlabel() for ax in display.axes_] == [
        "Gini coefficient G\nlarger: light in fewer pixels",
        "color, channel 2 − 0 (mag)\nlarger: less light in 2 (redder, if 0 is redder)",
    ]
    for ax, name in zip(display.axes_, ["gini", "color_2_0"], strict=True):
        marked = [line for line in ax.lines if line.get_marker() == "D"]
        for line, label in zip(marked, [7, 0], strict=True):
            expected = found.loc[:19, name][y[:20] == label]
            np.testing.assert_allclose(line.get_xdata(), expected)
        # The interval is that of the table, in the unit of the measure.
        (intervals,) = ax.collections
        rows = display.table[display.table["measure"] == name]
        for label in (7, 0):
            row = rows[rows["class"] == label].iloc[0]
            ends = [
                row["real_mean"] + row[z] * row["real_std"] for z in ("z_low", "z_high")
            ]
            found_ends = [path.vertices[:, 0] for path in intervals.get_paths()]
            assert any(np.allclose(ends, some) for some in found_ends)
            assert ends[0] < row["value"] < ends[1]
    legend = display.figure_.legends[0]
    words = " ".join(text.get_text() for text in legend.get_texts())
    assert "whiskers 5th to 95th percentile" in words
    assert "95 % interval" in words
    assert display.axes_[0].get_legend() is None  # nothing lies on the data
    ticks = [text.get_text() for text in display.axes_[0].get_yticklabels()]
    assert ticks == ["spiral", "smooth"]
    figure, axes = plt.subplots(2)
    assert display.plot(ax=axes) is display
    assert display.figure_ is figure


def test_intervals_of_few_real_images_leave_the_boxes_to_be_seen():
    rng = np.random.default_rng(0)
    real = pd.DataFrame({"size": rng.normal(size=6)})
    y = np.repeat([0, 1], 3)
    table = place_distilled(real, y, [[30.0], [0.0]], [0, 1])
    table.loc[0, ["z_low", "z_high"]] = -1e6, 1e6
    display = MeasuresDisplay(
        table, real, y, classes=[0, 1], class_names=["a", "b"], title="Sizes"
    ).plot()
    low, high = display.axes_[0].get_xlim()
    assert low > -40
    assert high < 60
    assert display.axes_[0].get_xlabel() == "size"
    assert display.figure_.get_suptitle() == "Sizes"


def test_displays_of_many_classes_and_measures_are_bounded():
    X, _ = make_galaxies(108, size=8, n_bands=3, random_state=0)
    X = np.concatenate([X] * 8, axis=-1)
    y = np.arange(108) % 54
    display = MeasuresDisplay.from_data(X, y, X[:54], y[:54])
    assert max(display.figure_.get_size_inches()) <= 14
    assert len(display.axes_) == 16
    assert len(display.classes) == 40
    title = display.figure_.get_suptitle()
    assert "16 of 31 measures" in title
    profiles = ProfileDisplay(
        np.arange(4),
        [np.ones((2, 4))] * 54,
        [np.ones((1, 4))] * 54,
        list(map(str, y))[:54],
    ).plot()
    assert max(profiles.figure_.get_size_inches()) <= 14
    assert "25 of 54 classes" in profiles.figure_.get_suptitle()
