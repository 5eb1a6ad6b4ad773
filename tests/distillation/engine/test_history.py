"""The history of a long run: bounded, and still the story of all of it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skdistill.distillation._engine._history as module
from skdistill.distillation._engine._history import History

MEANS = ["loss", "misalignment", "validation_loss", "validation_misalignment"]
FIRST = ["n_epochs_matched", "teacher", "start_epoch", "step_size"]
NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf])


def expected_table(iterations, events, stride):
    """Merge the plain way, from all iterations."""
    rows = pd.DataFrame(iterations)
    groups = rows.groupby(np.arange(len(rows)) // stride)
    finite = rows[MEANS].where(np.isfinite(rows[MEANS]))
    means = finite.groupby(np.arange(len(rows)) // stride).mean()
    table = groups[FIRST].first()
    table[MEANS] = means.where(means.notna(), groups[MEANS].nth(0).to_numpy())
    rolled = groups["loss"].apply(lambda part: bool(events & set(part.index)))
    table["event"] = ["rolled back" if event else "" for event in rolled]
    table.index = pd.RangeIndex(0, len(rows), stride)
    return table


def make_history():
    notes = ["n_epochs_matched", "teacher", "start_epoch"]
    return History(MEANS, notes, ["step_size"])


@settings(max_examples=60)
@given(data=st.data(), n_iter=st.integers(1, 60))
def test_rows_are_merged_and_bounded(data, n_iter):
    losses = data.draw(st.lists(NUMBERS, min_size=n_iter, max_size=n_iter))
    events = data.draw(st.sets(st.integers(0, n_iter - 1)))
    cut = data.draw(st.integers(0, n_iter))
    iterations = [
        {
            "n_epochs_matched": 1 + place // 7,
            "teacher": place % 3,
            "start_epoch": place % 2,
            "loss": loss,
            "misalignment": loss / 2,
            "validation_loss": np.nan if place % 5 else loss,
            "validation_misalignment": place / 3,
            "step_size": 0.1 + place,
        }
        for place, loss in enumerate(losses)
    ]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(module, "MAX_ROWS", 8)
        history = make_history()
        for place, numbers in enumerate(iterations):
            if place == cut:
                rows, reading = history.state()
                history = make_history()
                history.restore(rows, reading)
                assert len(history) == place
            history.condense()
            # An iteration that is taken back, as after an interrupt, leaves no trace.
            history.append(numbers | {"loss": 7.0})
            history.truncate(place)
            history.append(numbers)
            if place in events:
                history.mark_rolled_back()
            assert len(history.state()[0]) <= 8 + history.table().index.step
    table = history.table()
    assert len(history) == n_iter
    assert len(table) <= 8
    stride = table.index.step
    assert stride == 1 if n_iter <= 8 else stride & (stride - 1) == 0
    found = table[[*FIRST, *MEANS, "event"]]
    expected = expected_table(iterations, events, stride)[found.columns]
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9, check_dtype=False)
    whole = ["n_epochs_matched", "teacher", "start_epoch"]
    assert (table[whole].dtypes == np.int64).all()
