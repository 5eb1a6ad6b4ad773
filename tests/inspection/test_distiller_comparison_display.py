import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from skdistill.inspection import DistillerComparisonDisplay
from skdistill.metrics import DistillerComparison


def comparison(**more):
    rows = {
        "distiller": ["D$M$"] * 4 + ["one set"] * 2 + ["failed"],
        "seed": [0, 0, 1, 1, 0, 0, 0],
        "network": [0, 1, 0, 1, 0, 1, 0],
        "score": [0.5, 0.54, 0.6, 0.64, 0.3, 0.4, np.nan],
    }
    return DistillerComparison(pd.DataFrame(rows), **more)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def drawn(display):
    """Return means and ends of the error bars, by the place of the row."""
    bars = {}
    for container in display.ax_.containers:
        line, _, errors = container.lines
        mean, place = line.get_xydata()[0]
        ends = errors[0].get_segments()[0][:, 0] if errors else None
        bars[round(place)] = (mean, ends)
    return bars


def test_means_and_their_intervals():
    display = DistillerComparisonDisplay.from_comparison(
        comparison(), confidence=0.9, title="digits"
    )
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert names == ["D$M$", "one set", "failed"]
    bars = drawn(display)
    assert set(bars) == {2, 1}
    mean, ends = bars[2]
    assert mean == pytest.approx(57)
    half = stats.t.ppf(0.95, 1) * np.std([52, 62], ddof=1) / 2**0.5
    np.testing.assert_allclose(ends, [57 - half, 57 + half])
    # Of a single set nobody knows.
    assert bars[1][0] == pytest.approx(35)
    assert bars[1][1] is None
    dots = np.concatenate(
        [line.get_xdata() for line in display.ax_.lines if line.get_marker() == "o"]
    )
    np.testing.assert_allclose(sorted(dots), [30, 40, 50, 54, 60, 64])
    assert "accuracy in %" in display.ax_.get_xlabel()
    assert "90 %" in display.ax_.get_xlabel()
    assert display.ax_.get_title() == "digits"
    display.figure_.canvas.draw()


def test_given_axes_and_other_metrics():
    _, ax = plt.subplots()
    display = DistillerComparisonDisplay.from_comparison(
        comparison(metric="neg_brier_score"), ax=ax
    )
    assert display.ax_ is ax
    assert drawn(display)[2][0] == pytest.approx(0.57)
    assert ax.get_xlabel().startswith("neg_brier_score\n")


def test_what_is_no_comparison():
    with pytest.raises(ValueError, match="'comparison'"):
        DistillerComparisonDisplay.from_comparison(comparison().scores)
