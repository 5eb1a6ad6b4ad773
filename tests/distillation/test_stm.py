import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import skdistill.distillation._engine._history as history_module
import skdistill.distillation._objectives._trajectory as matcher_module
from skdistill.distillation import STMDistiller
from skdistill.distillation._stages import strongest_trend
from skdistill.inspection import MatchingDisplay
from skdistill.neural_network import ConvNetClassifier
from skdistill.synthetic import SyntheticSet

HISTORY = [
    "n_epochs_matched",
    "teacher",
    "start_epoch",
    "loss",
    "misalignment",
    "validation_loss",
    "validation_misalignment",
    "step_size",
    "event",
]
STAGES = [
    "n_epochs_matched",
    "first_iteration",
    "n_iter",
    "correlation",
    "deviation",
    "reason",
]


@pytest.fixture(scope="module")
def distilled(teachers, bars):
    """A longer fit from noise, not to be changed."""
    return STMDistiller(
        buffer=teachers,
        n_steps=5,
        step_size=0.05,
        max_total_iter=100,
        init="noise",
        random_state=0,
        device="cpu",
    ).fit(*bars)


def tiny_network(**changes):
    return ConvNetClassifier(
        **({"width": 8, "depth": 2, "max_iter": 5, "random_state": 0} | changes)
    )


# What a fit leaves behind


def test_attributes(make_distiller, teachers, bars):
    X, y = bars
    names = np.array(["lying", "standing", "round"])[y]
    teachers = clone(teachers).fit(X, names)
    distiller = make_distiller(buffer=teachers, ipc=2, max_total_iter=5).fit(X, names)
    found = distiller.synthetic_
    assert isinstance(found, SyntheticSet)
    assert found.X.shape == (6, 16, 16, 3)
    assert found.X.dtype == np.float32
    # In the order of the classes, all images of a class together.
    assert found.y.tolist() == ["lying"] * 2 + ["round"] * 2 + ["standing"] * 2
    assert distiller.classes_.tolist() == ["lying", "round", "standing"]
    assert found.step_size > 0
    assert distiller.image_shape_ == (16, 16, 3)
    assert distiller.n_features_in_ == 768
    assert distiller.n_iter_ == 5
    assert distiller.stop_reason_ == "max_total_iter"
    assert distiller.n_epochs_matched_ == 1
    assert distiller.buffer_ is teachers


def test_history(make_distiller, bars):
    history = make_distiller(max_total_iter=5).fit(*bars).history_
    assert isinstance(history, pd.DataFrame)
    assert history.columns.tolist() == HISTORY
    assert len(history) == 5
    numbers = history.drop(columns="event").to_numpy(dtype=float)
    assert np.isfinite(numbers).all()
    assert (history["event"] == "").all()
    assert history["teacher"].isin([0, 1]).all()
    assert history["step_size"][0] == pytest.approx(0.05)
    for kind in ("", "validation_"):
        misalignment = history[f"{kind}misalignment"]
        assert misalignment.between(0, 1).all()
        assert (misalignment <= history[f"{kind}loss"] + 1e-5).all()


def test_history_is_what_happens(make_distiller, bars):
    """With steps of no size nothing moves, and no loss but that of the way is left."""
    distiller = make_distiller(step_size=1e-20, pixel_lr=1e-20, step_size_lr=0.0)
    distiller.fit(*bars)
    history = distiller.history_
    assert history["loss"].to_numpy() == pytest.approx(1)
    assert history["validation_loss"].to_numpy() == pytest.approx(1)
    assert history["step_size"].to_numpy() == pytest.approx(1e-20)


def test_stages(make_distiller, bars):
    distiller = make_distiller(max_total_iter=5, trend_on="loss")
    stages = distiller.fit(*bars).stages_
    assert stages.columns.tolist() == STAGES
    assert len(stages) == 1
    only = stages.iloc[0]
    assert only["n_epochs_matched"] == 1
    assert only["first_iteration"] == 0
    assert only["n_iter"] == 5
    assert only["reason"] == "max_total_iter"
    assert -1 <= only["correlation"] <= 1
    assert only["deviation"] == pytest.approx(1 / np.sqrt(3))


@pytest.mark.parametrize("seed", range(3))
def test_trend_is_that_of_the_probe(make_distiller, bars, seed):
    settings = {"max_total_iter": 8, "random_state": seed}
    distiller = make_distiller(**settings, trend_on="loss").fit(*bars)
    expected = np.corrcoef(distiller.history_["validation_loss"], np.arange(8))[0, 1]
    stage = distiller.stages_.iloc[0]
    assert stage["correlation"] == pytest.approx(expected, abs=1e-9)
    assert stage["deviation"] == pytest.approx(1 / np.sqrt(6))
    distiller = make_distiller(**settings, trend_on="misalignment").fit(*bars)
    history, stage = distiller.history_, distiller.stages_.iloc[0]
    expected = strongest_trend(history["validation_misalignment"], history["teacher"])
    assert (stage["correlation"], stage["deviation"]) == expected


@pytest.mark.parametrize("trend_on", ["misalignment", "loss"])
def test_trend_of_a_stage_too_short_for_one(make_distiller, bars, trend_on):
    stages = make_distiller(max_total_iter=2, trend_on=trend_on).fit(*bars).stages_
    assert stages["correlation"].tolist() == [0]
    assert stages["deviation"].tolist() == [np.inf]


def test_average_starts_anew_with_a_level_up(make_distiller, bars, decide_by):
    def images(n_iterations, average):
        decide_by(None, "expanded")
        distiller = make_distiller(max_total_iter=n_iterations, average=average)
        return distiller.fit(*bars).synthetic_.X

    three, four = images(3, False), images(4, False)
    assert np.array_equal(images(3, True), three)
    expected = (2 * three + 6 * four) / 8
    np.testing.assert_allclose(images(4, True), expected, rtol=1e-4, atol=1e-5)


def test_loss_falls(distilled):
    history = distilled.history_
    for name in ("loss", "misalignment"):
        start, end = history[name][:15].mean(), history[name][-15:].mean()
        assert end < 0.7 * start


def test_images_are_better_than_those_they_started_from(distilled, make_bars, bars):
    start = clone(distilled).set_params(max_total_iter=1, pixel_lr=1e-9)
    start.set_params(buffer=distilled.buffer_).fit(*bars)
    X_test, y_test = make_bars(n_per_class=40, seed=9)

    def accuracy(synthetic):
        return np.mean(
            [
                tiny_network(max_iter=60, random_state=seed)
                .fit(*synthetic)
                .score(X_test, y_test)
                for seed in range(4)
            ]
        )

    # Measured: .50 after, .31 (chance) before; a class more than chance would show.
    assert accuracy(distilled.synthetic_) > accuracy(start.synthetic_) + 0.08


# When numbers go wrong


def test_probe_that_is_not_finite_is_a_setback(make_tiny, tiny_bars, monkeypatch):
    counter = itertools.count()
    real = matcher_module.match

    def unwanted(*args, **kwargs):
        found = real(*args, **kwargs)
        return found._replace(loss=found.loss * (np.nan if next(counter) == 1 else 1))

    monkeypatch.setattr(matcher_module, "match", unwanted)
    distiller = make_tiny(max_total_iter=3).fit(*tiny_bars)
    assert distiller.history_["event"].tolist() == ["", "rolled back", ""]


def test_stages_count_the_iterations_that_were_rolled_back(
    make_distiller, bars, break_gradients
):
    break_gradients(lambda iteration: iteration in (1, 2))
    stages = make_distiller(max_total_iter=6).fit(*bars).stages_
    assert stages["first_iteration"].tolist() == [0]
    assert stages["n_iter"].tolist() == [6]


def test_stages_after_one_that_ended_with_a_setback(
    make_distiller, bars, level_up_after, break_gradients
):
    level_up_after(2)
    break_gradients(lambda iteration: iteration in (0, 3, 4))
    stages = make_distiller(max_total_iter=9).fit(*bars).stages_
    assert stages["first_iteration"].tolist() == [0, 3, 7]
    assert stages["n_iter"].tolist() == [3, 4, 2]
    assert stages["reason"].tolist() == ["expanded"] * 3


@pytest.mark.parametrize("reason", ["interrupted", "diverged"])
def test_stages_end_as_the_fit_does(
    make_tiny, tiny_bars, spoil_matches, reason, break_gradients
):
    if reason == "diverged":
        break_gradients(lambda iteration: True)
    else:

        def interrupt(iteration, result):
            if iteration == 10:
                raise KeyboardInterrupt
            return result

        spoil_matches(interrupt)
    with pytest.warns(UserWarning, match=reason):
        distiller = make_tiny(max_total_iter=50).fit(*tiny_bars)
    assert distiller.stop_reason_ == reason
    assert distiller.stages_["reason"].tolist() == [reason]
    assert distiller.stages_["n_iter"].tolist() == [10]


# Errors


@pytest.mark.usefixtures("forbid_training")
class TestErrorsBeforeTraining:
    def test_teachers_of_one_epoch(self, make_distiller, make_teachers, bars):
        with pytest.raises(ValueError, match=r"at least 2 epochs.*n_epochs=1"):
            make_distiller(buffer=make_teachers(n_epochs=1)).fit(*bars)

    def test_too_few_epochs_to_start_with(self, make_tiny, tiny_bars):
        message = r"at least 4 epochs: .* after 3 \(`n_initial_epochs`=3\) .*n_epochs=3"
        with pytest.raises(ValueError, match=message):
            make_tiny(n_initial_epochs=3).fit(*tiny_bars)
        message = r"at least 4 epochs: .* 3 epochs later \(`n_target_epochs`\); .*=3"
        with pytest.raises(ValueError, match=message):
            make_tiny(n_target_epochs=3).fit(*tiny_bars)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"n_initial_epochs": 0}, r"'n_initial_epochs' parameter"),
            ({"threshold": 0.0}, r"'threshold' parameter"),
            ({"max_iter": 0}, r"'max_iter' parameter"),
            ({"max_total_iter": 0}, r"'max_total_iter' parameter"),
            ({"trend_on": "accuracy"}, r"'trend_on' parameter"),
            ({"step_size_per_epoch": 2}, r"'step_size_per_epoch' parameter"),
        ],
    )
    def test_bad_parameters(self, make_distiller, bars, changes, message):
        with pytest.raises(ValueError, match=message):
            make_distiller(**changes).fit(*bars)


# Long runs, of whose history rows are merged


@pytest.fixture
def few_rows(monkeypatch):
    """Let a history have at most 8 rows."""
    monkeypatch.setattr(history_module, "MAX_ROWS", 8)


def make_long(buffer, **changes):
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
    whole = make_long(tiny_teachers).fit(*tiny_bars)
    assert len(whole.history_) == whole.n_iter_ > 16
    monkeypatch.setattr(history_module, "MAX_ROWS", 8)
    thinned = make_long(tiny_teachers).fit(*tiny_bars)
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
def test_display_of_merged_rows(tiny_bars, tiny_teachers):
    fitted = make_long(tiny_teachers, threshold=1e9, max_iter=99).fit(*tiny_bars)
    display = MatchingDisplay.from_estimator(fitted, window=8)
    stride = fitted.history_.index.step
    assert stride > 1
    x, smooth = display.lines_["loss"].get_data()
    assert x.tolist() == (fitted.history_.index + 1).tolist()
    rolling = fitted.history_["loss"].rolling(8 // stride, min_periods=1, center=True)
    np.testing.assert_allclose(smooth, rolling.mean())
