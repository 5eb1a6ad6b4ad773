"""The history of a long run: bounded, and still the story of all of it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skdistill.distillation._engine._history as module
from skdistill import MTTDistiller, STMDistiller
from skdistill.distillation._engine._history import History
from skdistill.distillation._stages import Validations
from skdistill.inspection import MatchingDisplay

MEANS = ["loss", "misalignment", "validation_loss", "validation_misalignment"]
FIRST = ["n_epochs_matched", "teacher", "start_epoch", "step_size"]
NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf])


@pytest.fixture
def few_rows(monkeypatch):
    """Let a history have at most 8 rows."""
    monkeypatch.setattr(module, "MAX_ROWS", 8)


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


def distiller(buffer, **changes):
    parameters = {
        "buffer": buffer,
        "n_steps": 2,
        "max_iter": 10,
        "max_total_iter": 40,
        "threshold": 1.0,
        "device": "cpu",
        "random_state": 0,
    }
    return STMDistiller(**(parameters | changes))


def test_merging_decides_on_nothing(tiny_bars, tiny_teachers, monkeypatch):
    whole = distiller(tiny_teachers).fit(*tiny_bars)
    assert len(whole.history_) == whole.n_iter_ > 16
    monkeypatch.setattr(module, "MAX_ROWS", 8)
    thinned = distiller(tiny_teachers).fit(*tiny_bars)
    assert np.array_equal(thinned.synthetic_.X, whole.synthetic_.X)
    assert thinned.stages_.equals(whole.stages_)
    assert thinned.n_iter_ == whole.n_iter_
    assert thinned.best_iteration_ == whole.best_iteration_
    history = thinned.history_
    assert len(history) <= 8
    stride = history.index.step
    losses = whole.history_["loss"].groupby(whole.history_.index // stride).mean()
    np.testing.assert_allclose(history["loss"], losses)


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("n_done", [7, 8, 9, 16, 17, 23, 32, 33])
def test_going_on_with_merged_rows(tiny_bars, tiny_teachers, tmp_path, n_done):
    expected = distiller(tiny_teachers).fit(*tiny_bars)
    for n_iter in (n_done, 40):
        found = distiller(
            tiny_teachers, checkpoint=tmp_path / "run", max_total_iter=n_iter
        ).fit(*tiny_bars)
    assert found.history_.equals(expected.history_)
    assert found.history_.index.equals(expected.history_.index)
    assert found.stages_.equals(expected.stages_)
    assert np.array_equal(found.synthetic_.X, expected.synthetic_.X)


@pytest.mark.usefixtures("few_rows")
def test_checkpoint_is_bounded(tiny_bars, tiny_teachers, tmp_path):
    sizes = []
    for n_iter in (16, 64, 128):
        MTTDistiller(
            buffer=tiny_teachers,
            max_start_epoch=1,
            n_target_epochs=1,
            n_steps=1,
            max_iter=n_iter,
            checkpoint=tmp_path / "run",
            device="cpu",
            random_state=0,
        ).fit(*tiny_bars)
        sizes.append((tmp_path / "run" / "state.safetensors").stat().st_size)
    # The pending rows make the difference: fewer than a stride.
    assert max(sizes) - min(sizes) < 32 * 13 * 8 + 64


@pytest.mark.usefixtures("few_rows")
def test_display_of_merged_rows(tiny_bars, tiny_teachers):
    fitted = distiller(tiny_teachers, threshold=1e9, max_iter=99).fit(*tiny_bars)
    display = MatchingDisplay.from_estimator(fitted, window=8)
    stride = fitted.history_.index.step
    assert stride > 1
    x, smooth = display.lines_["loss"].get_data()
    assert x.tolist() == (fitted.history_.index + 1).tolist()
    rolling = fitted.history_["loss"].rolling(8 // stride, min_periods=1, center=True)
    np.testing.assert_allclose(smooth, rolling.mean())
