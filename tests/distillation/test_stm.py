import itertools
import pickle
import warnings
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV

import skdistill.distillation._iterative as iterative_module
import skdistill.distillation._objectives._trajectory as matcher_module
import skdistill.distillation._stages as module
import skdistill.distillation._student as student_module
import skdistill.distillation._trajectory_matching as trajectory_module
from skdistill.distillation import STMDistiller
from skdistill.distillation._engine._parameters import SyntheticParameters
from skdistill.distillation._stages import strongest_trend
from skdistill.neural_network import ConvNetClassifier
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.synthetic import SyntheticSet
from skdistill.trajectory import TrajectoryBuffer

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


@pytest.fixture
def make_distiller(teachers):
    """Make a distiller of a few iterations, with the fitted teachers."""

    def make(**changes):
        settings = {
            # Most tests are about what happens from the first epoch on.
            "n_initial_epochs": 1,
            "buffer": teachers,
            "n_steps": 3,
            "step_size": 0.05,
            "max_total_iter": 4,
            "random_state": 0,
            "device": "cpu",
        }
        return STMDistiller(**(settings | changes))

    return make


@pytest.fixture
def make_tiny(tiny_teachers):
    """Make a distiller of tiny images, for fits of many iterations."""

    def make(**changes):
        settings = {
            "buffer": tiny_teachers,
            "n_steps": 2,
            "step_size": 0.05,
            "max_total_iter": 4,
            "random_state": 0,
            "device": "cpu",
        }
        return STMDistiller(**(settings | changes))

    return make


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


@pytest.fixture
def forbid_training(monkeypatch):
    """Fail where teachers are trained or an image is matched."""

    def train(*args, **kwargs):
        raise AssertionError("the fit went on")

    monkeypatch.setattr(TrajectoryBuffer, "fit", train)
    monkeypatch.setattr(matcher_module, "match", train)
    monkeypatch.setattr(matcher_module, "match_gradient", train)


def tiny_network(**changes):
    return ConvNetClassifier(
        **({"width": 8, "depth": 2, "max_iter": 5, "random_state": 0} | changes)
    )


def break_gradients(spoil_matches, is_broken):
    """Make the gradients of those iterations NaN of which `is_broken` is true."""

    def change(iteration, result):
        if is_broken(iteration):
            return result._replace(images=torch.full_like(result.images, np.nan))
        return result

    spoil_matches(change)


def pretend_losses(spoil_matches, losses):
    """Make the losses of matches others than they are; the gradients stay."""

    def change(iteration, result):
        return result._replace(
            match=result.match._replace(loss=torch.tensor(losses[iteration]))
        )

    spoil_matches(change)


def decide_by(monkeypatch, *decisions):
    """Decide as given, and then nothing more."""
    waiting = iter(decisions)
    monkeypatch.setattr(module, "decide", lambda *args, **kwargs: next(waiting, None))


def level_up_after(monkeypatch, n_values):
    def decide(values, groups, **kwargs):
        return "expanded" if len(values) == n_values else None

    monkeypatch.setattr(module, "decide", decide)


def spy_on_factors(monkeypatch):
    """Collect what the rates of each iteration are multiplied by."""
    factors = []
    real = SyntheticParameters.step

    def step(self, gradients, metrics):
        factors.append(self.learning_rate_factor)
        return real(self, gradients, metrics)

    monkeypatch.setattr(SyntheticParameters, "step", step)
    return factors


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


def test_images_are_averaged_over_the_iterations(make_distiller, bars):
    def images(n_iterations, average):
        distiller = make_distiller(max_total_iter=n_iterations, average=average)
        return distiller.fit(*bars).synthetic_.X

    one, two, three = (images(n, False) for n in (1, 2, 3))
    assert np.array_equal(images(1, True), one)
    expected = (2 * one + 6 * two + 12 * three) / 20
    np.testing.assert_allclose(images(3, True), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(three - expected).max() > 1e-3


def test_average_starts_anew_with_a_level_up(make_distiller, bars, monkeypatch):
    def images(n_iterations, average):
        decide_by(monkeypatch, None, "expanded")
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


# When it ends, and how it goes on


def test_max_iter_ends_a_stage_without_trend(make_tiny, tiny_bars):
    distiller = make_tiny(max_iter=6, max_total_iter=None).fit(*tiny_bars)
    # Then come the 14 iterations of the fine-tuning.
    assert distiller.n_iter_ == 20
    assert distiller.stop_reason_ == "no trend"
    stages = distiller.stages_
    assert stages["reason"].tolist() == ["no trend", "fine-tuned"]
    assert stages["n_iter"].tolist() == [6, 14]


def test_max_total_iter_ends_in_any_case(make_tiny, tiny_bars):
    for max_iter, reasons in [
        (1000, ["max_total_iter"]),
        (3, ["no trend"]),
        (2, ["no trend", "max_total_iter"]),
    ]:
        distiller = make_tiny(max_iter=max_iter, max_total_iter=3).fit(*tiny_bars)
        assert distiller.n_iter_ == 3
        assert distiller.stop_reason_ == "max_total_iter"
        assert distiller.stages_["reason"].tolist() == reasons


def test_fine_tuning_lowers_the_rates_and_probes_no_more(
    make_tiny, tiny_bars, monkeypatch
):
    factors = spy_on_factors(monkeypatch)
    probes = []
    real = matcher_module.match

    def probe(*args, **kwargs):
        probes.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(matcher_module, "match", probe)
    decide_by(monkeypatch, None, None, "stop")
    distiller = make_tiny(max_iter=40, max_total_iter=None).fit(*tiny_bars)
    # Every 40 / 20 iterations.
    decayed = [0.8**period for period in range(14) for _ in range(2)]
    assert factors == pytest.approx([1] * 3 + decayed)
    assert len(probes) == 3
    assert distiller.stop_reason_ == "no trend"
    history = distiller.history_
    for name in ("validation_loss", "validation_misalignment"):
        assert history[name].isna().tolist() == [False] * 3 + [True] * 28
    assert history[["loss", "misalignment"]].notna().all(axis=None)
    last = distiller.stages_.iloc[-1]
    assert (last["first_iteration"], last["n_iter"]) == (3, 28)
    assert last[["correlation", "deviation"]].isna().all()


def test_a_trend_at_the_last_epoch_does_not_go_on_for_ever(
    make_tiny, tiny_bars, monkeypatch
):
    monkeypatch.setattr(module, "decide", lambda *args, **kwargs: "expanded")
    distiller = make_tiny(max_iter=20, max_total_iter=None).fit(*tiny_bars)
    stages = distiller.stages_
    # To the second of two epochs to start from, ten times on, and to the end.
    reasons = ["expanded"] * 11 + ["no trend", "fine-tuned"]
    assert stages["reason"].tolist() == reasons
    assert stages["n_epochs_matched"].tolist() == [1] + [2] * 12
    assert stages["n_iter"].tolist() == [1] * 12 + [14]
    assert distiller.stop_reason_ == "no trend"


@settings(max_examples=15)
@given(
    decisions=st.lists(
        st.sampled_from([None, None, None, "expanded", "overfit", "stop"]),
        min_size=20,
        max_size=20,
    ),
    broken=st.sets(st.integers(0, 19), max_size=4),
    per_epoch=st.booleans(),
)
def test_history_and_stages_tell_the_whole_story(
    tiny_bars, tiny_teachers, decisions, broken, per_epoch
):
    with pytest.MonkeyPatch.context() as monkeypatch:
        decide_by(monkeypatch, *decisions)
        counter = itertools.count()
        real = matcher_module.match_gradient

        def spoiled(*args, **kwargs):
            result = real(*args, **kwargs)
            if next(counter) in broken:
                return result._replace(log_step_size=torch.tensor(np.nan))
            return result

        monkeypatch.setattr(matcher_module, "match_gradient", spoiled)
        distiller = STMDistiller(
            buffer=tiny_teachers,
            n_steps=1,
            max_total_iter=20,
            random_state=0,
            device="cpu",
            step_size_per_epoch=per_epoch,
        ).fit(*tiny_bars)
    history, stages = distiller.history_, distiller.stages_
    assert len(history) == distiller.n_iter_ == 20
    assert stages["first_iteration"].tolist() == [
        0,
        *stages["n_iter"].cumsum().tolist()[:-1],
    ]
    assert stages["n_iter"].sum() == 20
    assert (stages["reason"] == "no trend").sum() <= 1
    for stage in stages.itertuples():
        rows = history.iloc[stage.first_iteration :][: stage.n_iter]
        assert (rows["n_epochs_matched"] == stage.n_epochs_matched).all()
        assert (rows["start_epoch"] == rows.index % stage.n_epochs_matched).all()
        # Without a probe once there was no trend.
        fine_tuning = "no trend" in stages["reason"].tolist()[: stage.Index]
        assert (rows["validation_loss"].isna() == fine_tuning).all()
    assert set(history.index[history["event"] == "rolled back"]) == broken
    assert stages["n_epochs_matched"].isin([1, 2]).all()
    assert distiller.n_epochs_matched_ == history["n_epochs_matched"].iloc[-1] or (
        stages["reason"].iloc[-1] in ("expanded", "overfit")
    )
    n_step_sizes = distiller.n_epochs_matched_ if per_epoch else 1
    assert distiller.step_sizes_.shape == (n_step_sizes,)
    assert distiller.step_sizes_[-1] == distiller.synthetic_.step_size


@pytest.mark.parametrize("trend_on", ["misalignment", "loss"])
def test_decisions_are_asked_for_with_the_parameters(
    make_distiller, bars, monkeypatch, trend_on
):
    asked = []

    def decide(values, groups, *, threshold, max_iter):
        groups = groups if groups is None else list(groups)
        asked.append((list(values), groups, threshold, max_iter))

    monkeypatch.setattr(module, "decide", decide)
    distiller = make_distiller(
        threshold=3.5, max_iter=77, max_total_iter=6, trend_on=trend_on
    )
    history = distiller.fit(*bars).history_
    assert [len(values) for values, *_ in asked] == [1, 2, 3, 4, 5, 6]
    assert all(rest == [3.5, 77] for _, _, *rest in asked)
    assert asked[-1][0] == history[f"validation_{trend_on}"].tolist()
    # The rule of the paper knows nothing of teachers.
    expected = None if trend_on == "loss" else history["teacher"].tolist()
    assert asked[-1][1] == expected


def test_teachers_of_the_probes_are_those_of_the_stage(
    make_distiller, bars, monkeypatch, spoil_matches
):
    asked = []

    def decide(values, groups, **kwargs):
        asked.append(list(groups))
        assert len(groups) == len(values)
        return "expanded" if len(values) == 3 else None

    break_gradients(spoil_matches, lambda iteration: iteration in (1, 6))
    monkeypatch.setattr(module, "decide", decide)
    history = make_distiller(max_total_iter=10).fit(*bars).history_
    teacher = history["teacher"].to_numpy()
    # What was rolled back has no part in the trend.
    assert asked[2] == teacher[[0, 2, 3]].tolist()
    assert asked[5] == teacher[[4, 5, 7]].tolist()
    assert asked[7] == teacher[[8, 9]].tolist()


def test_level_up_takes_in_one_more_epoch(make_distiller, bars, monkeypatch):
    level_up_after(monkeypatch, 3)
    distiller = make_distiller(max_total_iter=14).fit(*bars)
    history = distiller.history_
    # Teachers of 4 epochs: the probe needs the one after the last that is matched.
    expected = [1] * 3 + [2] * 3 + [3] * 8
    assert history["n_epochs_matched"].tolist() == expected
    assert distiller.n_epochs_matched_ == 3
    start = history["start_epoch"]
    assert start.tolist() == [i % t for i, t in enumerate(expected)]
    stages = distiller.stages_
    assert stages["n_epochs_matched"].tolist() == [1, 2, 3, 3, 3]
    assert stages["first_iteration"].tolist() == [0, 3, 6, 9, 12]
    assert stages["n_iter"].tolist() == [3, 3, 3, 3, 2]
    assert stages["reason"].tolist() == ["expanded"] * 4 + ["max_total_iter"]


@pytest.mark.parametrize(("n_target_epochs", "last"), [(2, 2), (3, 1)])
def test_the_last_probe_aims_at_the_last_epoch(
    make_distiller, bars, monkeypatch, n_target_epochs, last
):
    level_up_after(monkeypatch, 3)
    distiller = make_distiller(
        max_total_iter=12,
        n_initial_epochs="auto",
        ipc=3,
        n_target_epochs=n_target_epochs,
    ).fit(*bars)
    # Half of four epochs, where the probe does not need more of them.
    assert (distiller.history_["n_epochs_matched"] == last).all()
    assert distiller.n_epochs_matched_ == last
    assert distiller.stages_["reason"].tolist()[:3] == ["expanded"] * 3


def test_overfit_takes_in_one_more_epoch(make_distiller, bars, monkeypatch):
    decide_by(monkeypatch, None, "overfit", None, "stop")
    distiller = make_distiller(max_total_iter=5).fit(*bars)
    assert distiller.history_["n_epochs_matched"].tolist() == [1, 1, 2, 2, 2]
    reasons = ["overfit", "no trend", "max_total_iter"]
    assert distiller.stages_["reason"].tolist() == reasons


@pytest.mark.parametrize("n_target_epochs", [1, 2])
def test_probe_and_update_are_the_epochs_of_algorithm_1(
    make_distiller, teachers, bars, monkeypatch, n_target_epochs
):
    pairs = {"match": [], "match_gradient": []}
    for name, seen in pairs.items():
        real = getattr(matcher_module, name)

        def spy(network, start, target, *args, real=real, seen=seen, **kwargs):
            seen.append((start.numpy().copy(), target.numpy().copy()))
            return real(network, start, target, *args, **kwargs)

        monkeypatch.setattr(matcher_module, name, spy)
    decide_by(monkeypatch, None, "expanded")
    distiller = make_distiller(max_total_iter=5, n_target_epochs=n_target_epochs)
    history = distiller.fit(*bars).history_
    assert history["n_epochs_matched"].tolist() == [1, 1, 2, 2, 2]
    for row, probe, update in zip(history.itertuples(), *pairs.values(), strict=True):
        for epoch, (start, target) in [
            (row.n_epochs_matched, probe),
            (row.start_epoch, update),
        ]:
            assert np.array_equal(start, teachers.snapshot(row.teacher, epoch))
            end = teachers.snapshot(row.teacher, epoch + n_target_epochs)
            assert np.array_equal(target, end)


@pytest.mark.parametrize("n_done", [0, 3])
def test_interrupt_keeps_the_images(make_distiller, bars, spoil_matches, n_done):
    uninterrupted = make_distiller(max_total_iter=max(n_done, 1)).fit(*bars)

    def interrupt(iteration, result):
        if iteration == n_done:
            raise KeyboardInterrupt
        return result

    spoil_matches(interrupt)
    with pytest.warns(UserWarning, match=rf"interrupted after {n_done} iterations"):
        distiller = make_distiller(max_total_iter=9).fit(*bars)
    assert distiller.stop_reason_ == "interrupted"
    assert distiller.n_iter_ == len(distiller.history_) == n_done
    assert distiller.n_epochs_matched_ == 1
    assert distiller.stages_["reason"].tolist() == ["interrupted"]
    if n_done:
        assert np.array_equal(distiller.synthetic_.X, uninterrupted.synthetic_.X)
        assert distiller.history_.equals(uninterrupted.history_)


# When numbers go wrong


def test_setback_goes_back_to_the_last_good_images(
    make_tiny, tiny_bars, monkeypatch, spoil_matches
):
    good = make_tiny(max_total_iter=10).fit(*tiny_bars)
    factors = spy_on_factors(monkeypatch)
    break_gradients(spoil_matches, lambda iteration: iteration in (12, 13))
    distiller = make_tiny(max_total_iter=14).fit(*tiny_bars)
    events = [""] * 12 + ["rolled back"] * 2
    assert distiller.history_["event"].tolist() == events
    # The state after ten iterations whose losses were good.
    assert np.array_equal(distiller.synthetic_.X, good.synthetic_.X)
    size = good.synthetic_.step_size
    assert distiller.synthetic_.step_size == pytest.approx(size / 4, rel=1e-12)

    break_gradients(spoil_matches, lambda iteration: iteration in (12, 13))
    factors.clear()
    distiller = make_tiny(max_total_iter=16).fit(*tiny_bars)
    assert factors == [1.0] * 12 + [0.25] * 2
    assert distiller.history_["step_size"][13] == pytest.approx(size / 2, rel=1e-6)
    assert distiller.history_["step_size"][14] == pytest.approx(size / 4, rel=1e-6)
    assert distiller.stop_reason_ == "max_total_iter"
    assert not np.array_equal(distiller.synthetic_.X, good.synthetic_.X)


@pytest.mark.parametrize("where", ["loss", "images", "targets", "log_step_size"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_any_number_that_is_not_finite_is_a_setback(
    make_tiny, tiny_bars, spoil_matches, where, value
):
    def change(iteration, result):
        if iteration != 1:
            return result
        if where == "loss":
            return result._replace(
                match=result.match._replace(loss=torch.tensor(value))
            )
        broken = getattr(result, where).clone()
        broken.view(-1)[-1] = value
        return result._replace(**{where: broken})

    spoil_matches(change)
    distiller = make_tiny(labels="learned", max_total_iter=3).fit(*tiny_bars)
    assert distiller.history_["event"].tolist() == ["", "rolled back", ""]
    assert np.isfinite(distiller.synthetic_.X).all()
    assert np.isfinite(distiller.synthetic_.probabilities).all()


def test_probe_that_is_not_finite_is_a_setback(make_tiny, tiny_bars, monkeypatch):
    counter = itertools.count()
    real = matcher_module.match

    def probe(*args, **kwargs):
        found = real(*args, **kwargs)
        return found._replace(loss=found.loss * (np.nan if next(counter) == 1 else 1))

    monkeypatch.setattr(matcher_module, "match", probe)
    distiller = make_tiny(max_total_iter=3).fit(*tiny_bars)
    assert distiller.history_["event"].tolist() == ["", "rolled back", ""]


def test_ten_setbacks_in_a_row_end_with_the_last_good_images(
    make_tiny, tiny_bars, spoil_matches
):
    good = make_tiny(max_total_iter=10).fit(*tiny_bars)
    # One now and then is no reason to end, and ten good iterations are a new start.
    break_gradients(spoil_matches, lambda iteration: iteration >= 12)
    with pytest.warns(ConvergenceWarning, match=r"diverged.*`step_size`"):
        distiller = make_tiny(max_total_iter=500).fit(*tiny_bars)
    assert distiller.stop_reason_ == "diverged"
    assert distiller.stages_["reason"].tolist() == ["diverged"]
    assert distiller.n_iter_ == 22
    assert np.array_equal(distiller.synthetic_.X, good.synthetic_.X)
    size = good.synthetic_.step_size
    assert distiller.synthetic_.step_size == pytest.approx(size / 2**10, rel=1e-12)


def test_setbacks_far_from_each_other_do_not_add_up(
    make_tiny, tiny_bars, monkeypatch, spoil_matches
):
    factors = spy_on_factors(monkeypatch)
    break_gradients(spoil_matches, lambda iteration: iteration % 11 == 10)
    distiller = make_tiny(max_total_iter=11 * 12).fit(*tiny_bars)
    assert distiller.stop_reason_ == "max_total_iter"
    assert (distiller.history_["event"] == "rolled back").sum() == 12
    # The rates do not grow again.
    assert factors == [0.5**i for i in range(12) for _ in range(10)]


@pytest.mark.parametrize("max_total_iter", [1, 2, 11, 100])
def test_images_are_finite_whatever_the_rate(
    make_tiny, tiny_bars, spoil_matches, max_total_iter
):
    """An update alone may leave what a float32 can hold, and after it no more come."""

    def change(iteration, result):
        large = torch.full_like(result.images, 1e30)
        return result._replace(images=large) if iteration % 10 in (0, 9) else result

    spoil_matches(change)
    distiller = make_tiny(pixel_lr=1e10, max_total_iter=max_total_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        distiller.fit(*tiny_bars)
    for found in (distiller.synthetic_, distiller.best_synthetic_):
        assert np.isfinite(found.X).all()


@pytest.mark.parametrize(
    ("windows", "n_good"),
    [
        ([0.5, 1.1], 10),
        ([0.5, 0.6, 1.1], 20),
        # Rising, but not far above the first ones.
        ([0.5, 0.9], None),
        ([50.0, 90.0], None),
        ([5.0, 4.0, 11.0], 20),
        ([-1.0, -0.5, 0.1], 20),
    ],
)
def test_losses_far_above_the_first_that_rise_are_rolled_back(
    make_tiny, tiny_bars, spoil_matches, windows, n_good
):
    n_iter = 10 * len(windows)
    good = make_tiny(pixel_lr=1e-30, step_size_lr=0.0, max_total_iter=1)
    if n_good != 0:
        good = make_tiny(max_total_iter=n_good or n_iter)
    good.fit(*tiny_bars)
    pretend_losses(spoil_matches, np.repeat(windows, 10))
    distiller = make_tiny(max_total_iter=n_iter).fit(*tiny_bars)
    event = "" if n_good is None else "rolled back"
    assert distiller.history_["event"].tolist() == [""] * (n_iter - 1) + [event]
    assert np.array_equal(distiller.synthetic_.X, good.synthetic_.X)
    expected = good.synthetic_.step_size * (1 if n_good is None else 0.5)
    assert distiller.synthetic_.step_size == pytest.approx(expected)


# The best set


def test_best_set_is_that_of_the_least_mean_loss(make_tiny, tiny_bars, spoil_matches):
    expected = make_tiny(max_total_iter=20).fit(*tiny_bars).synthetic_
    losses = np.repeat([0.9, 0.3, 0.6], 10)
    # One lucky match is no sign of good images.
    losses[25] = 0.0
    pretend_losses(spoil_matches, losses)
    distiller = make_tiny(max_total_iter=30).fit(*tiny_bars)
    assert distiller.best_iteration_ == 20
    assert np.array_equal(distiller.best_synthetic_.X, expected.X)
    assert distiller.best_synthetic_.step_size == expected.step_size
    assert not np.array_equal(distiller.synthetic_.X, expected.X)


def test_best_set_is_of_the_last_stage(
    make_tiny, tiny_bars, monkeypatch, spoil_matches
):
    """Losses of other epochs are not comparable."""
    level_up_after(monkeypatch, 20)
    pretend_losses(spoil_matches, np.repeat([0.3, 0.1, 0.5, 0.7], 10))
    distiller = make_tiny(max_total_iter=39).fit(*tiny_bars)
    assert distiller.n_epochs_matched_ == 2
    assert distiller.best_iteration_ == 30


def test_score_does_not_depend_on_the_images_it_is_for(make_tiny, tiny_bars):
    """The best set is chosen by what the fit saw."""
    X, y = tiny_bars
    distiller = make_tiny(max_total_iter=20, estimator=tiny_network()).fit(X, y)
    before = distiller.best_synthetic_.X.copy()
    distiller.score(X[:5], y[:5])
    assert np.array_equal(distiller.best_synthetic_.X, before)


# What it starts from


def test_real_images_are_of_their_class(make_distiller, bars):
    X, y = bars
    distiller = make_distiller(ipc=3, pixel_lr=1e-30, max_total_iter=1).fit(X, y)
    images, labels = distiller.synthetic_
    found = [np.flatnonzero((image == X).all(axis=(1, 2, 3))) for image in images]
    assert all(len(which) == 1 for which in found)
    chosen = np.concatenate(found)
    assert y[chosen].tolist() == labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len(set(chosen.tolist())) == 9


def blocks(images, size):
    """Return the pixels of each block of images, beside one another."""
    n_images, height, width, n_channels = images.shape
    shape = n_images, height // size, size, width // size, size, n_channels
    found = images.reshape(shape).transpose(0, 1, 3, 5, 2, 4)
    return found.reshape(*found.shape[:4], size * size)


@pytest.mark.parametrize("init", ["real", "noise", "given"])
@pytest.mark.parametrize("size", [2, 4])
def test_larger_pixels_start_from_means(make_distiller, bars, init, size):
    X, y = bars
    given = np.random.default_rng(0).normal(size=(6, 16, 16, 3)).astype(np.float32)
    parameters = {"ipc": 2, "pixel_lr": 1e-30, "max_total_iter": 1}
    parameters["init"] = given if init == "given" else init
    synthetic = make_distiller(pixel_size=size, **parameters).fit(X, y).synthetic_
    assert synthetic.X.shape == (6, 16, 16, 3)
    assert synthetic.pixel_size == size
    found = blocks(synthetic.X, size)
    assert (found == found[..., :1]).all()
    if init == "noise":
        # Not fainter than that of small pixels: means over them would be, by the size.
        # Of 96 values or more the deviation is known to 7 %.
        ratio = synthetic.X.std(axis=(0, 1, 2)) / X.std(axis=(0, 1, 2))
        np.testing.assert_allclose(ratio, 1, atol=0.3)
    else:
        smaller = make_distiller(**parameters).fit(X, y).synthetic_.X
        np.testing.assert_allclose(
            found[..., 0], blocks(smaller, size).mean(-1), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("average", [False, True])
def test_larger_pixels_learn(make_distiller, bars, tmp_path, average):
    distiller = make_distiller(
        ipc=4, pixel_size=2, average=average, max_total_iter=40, n_steps=5
    )
    start = clone(distiller).set_params(max_total_iter=1, pixel_lr=1e-30).fit(*bars)
    history = distiller.fit(*bars).history_
    first = history["start_epoch"] == 0
    losses = history.loc[first, "loss"]
    assert losses.iloc[-5:].mean() < 0.9 * losses.iloc[:5].mean()
    synthetic = distiller.synthetic_
    found = blocks(synthetic.X, 2)
    assert (found == found[..., :1]).all()
    assert (synthetic.X != start.synthetic_.X).mean() > 0.9
    assert distiller.best_synthetic_.pixel_size == 2
    synthetic.save(tmp_path / "set")
    assert np.array_equal(SyntheticSet.load(tmp_path / "set").X, synthetic.X)


@pytest.mark.usefixtures("forbid_training")
@pytest.mark.parametrize("size", [3, 32])
def test_pixels_must_fill_the_images(make_distiller, bars, size):
    message = rf"`pixel_size`={size} must divide .*, 16 and 16"
    with pytest.raises(ValueError, match=message):
        make_distiller(pixel_size=size).fit(*bars)


def test_noise_has_the_mean_and_deviation_of_each_channel(make_distiller, bars):
    X, y = bars
    X = X * np.array([1, 10, 100], dtype=np.float32) + np.array([0, 50, -9])
    X = X.astype(np.float32)
    distiller = make_distiller(ipc=4, init="noise", pixel_lr=1e-30, max_total_iter=1)
    with pytest.warns(UserWarning, match=r"other images, labels or weights"):
        distiller.fit(X, y)
    noise = distiller.synthetic_.X
    scale = X.std(axis=(0, 1, 2))
    mean = X.mean(axis=(0, 1, 2))
    # 12 images of 256 pixels: the standard error of the mean is scale / 55.
    np.testing.assert_allclose(noise.std(axis=(0, 1, 2)), scale, rtol=0.06)
    np.testing.assert_allclose(
        (noise.mean(axis=(0, 1, 2)) - mean) / scale, 0, atol=0.08
    )
    assert len(np.unique(noise)) > 0.9 * noise.size


def test_given_images_are_the_start(make_distiller, bars):
    start = np.random.default_rng(0).normal(size=(3, 16, 16, 3)).astype(np.float32)
    before = start.copy()
    distiller = make_distiller(init=start, pixel_lr=1e-30, max_total_iter=2)
    distiller.fit(*bars)
    assert np.array_equal(distiller.synthetic_.X, before)
    moved = make_distiller(init=start.tolist(), max_total_iter=2).fit(*bars)
    assert not np.array_equal(moved.synthetic_.X, before)
    assert np.array_equal(start, before)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (np.zeros((2, 16, 16, 3)), r"`init` .*\(3, 16, 16, 3\); got \(2, 16, 16, 3\)"),
        (np.zeros((3, 16, 3, 16)), r"`init` .*\(3, 16, 16, 3\); got \(3, 16, 3, 16\)"),
        (np.full((3, 16, 16, 3), np.nan), r"init contains NaN"),
        ("random", r"'init' parameter"),
    ],
)
@pytest.mark.usefixtures("forbid_training")
def test_bad_starts_are_refused(make_distiller, make_teachers, bars, init, message):
    with pytest.raises(ValueError, match=message):
        make_distiller(init=init, buffer=make_teachers()).fit(*bars)


# The same again


def test_same_random_state_same_bits(make_distiller, bars):
    settings = {"ipc": 2, "batch_size": 4}
    first = make_distiller(**settings).fit(*bars)
    again = make_distiller(**settings).fit(*bars)
    assert np.array_equal(first.synthetic_.X, again.synthetic_.X)
    assert first.synthetic_.step_size == again.synthetic_.step_size
    assert first.history_.equals(again.history_)
    other = make_distiller(**settings, random_state=1).fit(*bars)
    assert not np.array_equal(first.synthetic_.X, other.synthetic_.X)


def test_refit_is_the_same_as_fit(make_distiller, bars):
    distiller = make_distiller()
    first = distiller.fit(*bars).synthetic_.X
    assert np.array_equal(distiller.fit(*bars).synthetic_.X, first)


def test_teachers_follow_the_random_state_too(make_distiller, make_teachers, bars):
    distiller = make_distiller(buffer=make_teachers(random_state=None, n_epochs=2))
    first, again = (distiller.fit(*bars).buffer_.snapshot(0, 1) for _ in range(2))
    assert np.array_equal(first, again)
    distiller.set_params(random_state=1)
    assert not np.array_equal(distiller.fit(*bars).buffer_.snapshot(0, 1), first)


@pytest.mark.parametrize("trained", [False, True])
def test_fit_moves_nothing_but_the_distiller(
    make_distiller, make_teachers, bars, trained
):
    X, y = (array.copy() for array in bars)
    buffer = make_teachers(n_epochs=2)
    if trained:
        buffer.fit(X, y)
    distiller = make_distiller(buffer=buffer, batch_size=2)
    parameters = distiller.get_params()
    attributes = set(vars(buffer))
    n_threads = torch.get_num_threads()
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    distiller.fit(X, y)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.get_num_threads() == n_threads
    after = distiller.get_params()
    assert all(after[name] is value for name, value in parameters.items())
    assert set(vars(buffer)) == attributes
    assert np.array_equal(X, bars[0])
    assert np.array_equal(y, bars[1])


def test_unit_of_the_pixels_does_not_matter(make_distiller, make_teachers, bars):
    X, y = bars
    found = []
    # The epsilon of the normalisation, 1e-5, knows the unit; beside it the variance of
    # these pixels is large in either.
    for unit in (10, 10_000):
        unit = np.float32(unit)
        distiller = make_distiller(buffer=make_teachers(n_epochs=2), max_total_iter=6)
        found.append(distiller.fit(unit * X, y).synthetic_.X / unit)
    start = make_distiller(pixel_lr=1e-30).fit(X, y).synthetic_.X
    moved = np.abs(found[0] - start).mean()
    assert moved > 0.01
    assert np.abs(found[0] - found[1]).mean() < 1e-3 * moved


# Its teachers


def test_fitted_buffer_is_used_as_it_is(make_distiller, teachers, bars):
    distiller = make_distiller().fit(*bars)
    assert distiller.buffer_ is teachers


def test_unfitted_buffer_is_cloned_and_trained(make_distiller, make_teachers, bars):
    buffer = make_teachers(n_epochs=2)
    distiller = make_distiller(buffer=buffer).fit(*bars)
    assert not hasattr(buffer, "history_")
    assert distiller.buffer_.get_params() == buffer.get_params()
    expected = make_teachers(n_epochs=2).fit(*bars)
    assert np.array_equal(distiller.buffer_.snapshot(1, 2), expected.snapshot(1, 2))


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_path_is_loaded(
    make_distiller, make_teachers, bars, tmp_path, kind, monkeypatch
):
    make_teachers(path=tmp_path).fit(*bars)
    in_memory = make_distiller().fit(*bars)

    def train(*args):
        raise AssertionError("teachers were trained")

    monkeypatch.setattr(TrajectoryBuffer, "fit", train)
    distiller = make_distiller(buffer=kind(tmp_path)).fit(*bars)
    assert distiller.buffer_.n_teachers == 2
    assert np.array_equal(distiller.synthetic_.X, in_memory.synthetic_.X)


def test_path_without_buffer(make_distiller, bars, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no trajectory buffer"):
        make_distiller(buffer=tmp_path).fit(*bars)


def test_no_buffer_trains_a_default_one(make_distiller, bars, monkeypatch):
    given = {}

    def small(**parameters):
        given.update(parameters)
        return TrajectoryBuffer(
            n_teachers=1,
            n_epochs=2,
            width=4,
            depth=1,
            augmentation=parameters.get("augmentation", "dsa"),
        )

    monkeypatch.setattr(trajectory_module, "TrajectoryBuffer", small)
    distiller = make_distiller(buffer=None, augmentation=["flip"]).fit(*bars)
    assert distiller.buffer is None
    assert len(distiller.buffer_.history_) == 2
    assert given["augmentation"] == ["flip"]
    assert given["device"] == "cpu"


@pytest.mark.usefixtures("forbid_training")
class TestErrorsBeforeTraining:
    def test_buffer_of_other_images(self, make_distiller, bars):
        X, y = bars
        with pytest.raises(
            ValueError, match=r"`buffer` .*shape \(16, 16, 3\).*\(15, 16, 3\)"
        ):
            make_distiller().fit(X[:, :15], y)

    def test_buffer_of_other_classes(self, make_distiller, bars):
        X, y = bars
        with pytest.raises(
            ValueError, match=r"`buffer` .*classes \[0, 1, 2\].*\[1, 2, 3\]"
        ):
            make_distiller().fit(X, y + 1)
        keep = y < 2
        with pytest.raises(
            ValueError, match=r"`buffer` .*classes \[0, 1, 2\].*\[0, 1\]"
        ):
            make_distiller().fit(X[keep], y[keep])

    def test_teachers_of_one_epoch(self, make_distiller, make_teachers, bars):
        with pytest.raises(ValueError, match=r"at least 2 epochs.*n_epochs=1"):
            make_distiller(buffer=make_teachers(n_epochs=1)).fit(*bars)

    def test_too_few_epochs_to_start_with(self, make_tiny, tiny_bars):
        message = r"at least 4 epochs: .* after 3 \(`n_initial_epochs`=3\) .*n_epochs=3"
        with pytest.raises(ValueError, match=message):
            make_tiny(n_initial_epochs=3).fit(*tiny_bars)
        message = r"at least 4 epochs: .* aims 3 further \(`n_target_epochs`\); .*=3"
        with pytest.raises(ValueError, match=message):
            make_tiny(n_target_epochs=3).fit(*tiny_bars)

    def test_more_images_than_a_class_has(self, make_distiller, make_teachers, bars):
        X, y = bars
        few = np.r_[0:30, 31]  # class 0 has 10 images, 1 has 11, 2 has 10
        with pytest.raises(
            ValueError,
            match=r"`ipc`=11 .*must have 11 images or more; class 0 has 10, 2 has 10",
        ):
            make_distiller(ipc=11, buffer=make_teachers()).fit(X[few], y[few])

    def test_class_of_one_image(self, make_distiller, make_teachers, bars):
        X, y = bars
        for init in ("real", "noise"):
            with pytest.raises(
                ValueError, match=r"must have 2 images or more; class 2 has 1"
            ):
                make_distiller(init=init, buffer=make_teachers()).fit(
                    X[[0, 1, 2, 3, 4]], y[[0, 1, 2, 3, 4]]
                )

    def test_one_class(self, make_distiller, bars):
        X, y = bars
        with pytest.raises(ValueError, match=r"at least two classes"):
            make_distiller().fit(X[y == 1], y[y == 1])

    def test_bad_images(self, make_distiller, make_teachers, bars):
        X, y = bars
        distiller = make_distiller(buffer=make_teachers())
        bad = X.copy()
        bad[[3, 8], 0, 0, 0] = np.nan
        with pytest.raises(ValueError, match=r"NaN.*positions 3, 8"):
            distiller.fit(bad, y)
        with pytest.raises(ValueError, match=r"one size"):
            distiller.fit([*X[:5], X[5][:9]], y[:6])
        with pytest.raises(ValueError, match=r"inconsistent numbers of samples"):
            distiller.fit(X, y[1:])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"ipc": 0}, r"'ipc' parameter"),
            ({"n_steps": 0}, r"'n_steps' parameter"),
            ({"step_size": 0.0}, r"'step_size' parameter"),
            ({"n_initial_epochs": 0}, r"'n_initial_epochs' parameter"),
            ({"threshold": 0.0}, r"'threshold' parameter"),
            ({"max_iter": 0}, r"'max_iter' parameter"),
            ({"max_total_iter": 0}, r"'max_total_iter' parameter"),
            ({"pixel_lr": "adam"}, r"'pixel_lr' parameter"),
            ({"gradient": "rough"}, r"'gradient' parameter"),
            ({"trend_on": "accuracy"}, r"'trend_on' parameter"),
            ({"labels": "soft"}, r"'labels' parameter"),
            ({"label_lr": 0.0}, r"'label_lr' parameter"),
            ({"step_size_per_epoch": 2}, r"'step_size_per_epoch' parameter"),
            ({"keep_activations": "no"}, r"'keep_activations' parameter"),
            ({"checkpoint": 3}, r"'checkpoint' parameter"),
            ({"buffer": 3}, r"'buffer' parameter"),
            ({"augmentation": "mixup"}, r"`augmentation` must be .*'mixup'"),
            ({"augmentation": ["flip", "mixup"]}, r"`augmentation` must .*'mixup'"),
            ({"device": "abacus"}, r"`device` must be .*'abacus'"),
        ],
    )
    def test_bad_parameters(self, make_distiller, bars, changes, message):
        with pytest.raises(ValueError, match=message):
            make_distiller(**changes).fit(*bars)


def test_other_data_than_the_teachers_saw_are_warned_of(make_distiller, bars):
    X, y = bars
    with pytest.warns(UserWarning, match=r"`buffer` was fitted on other images"):
        make_distiller(max_total_iter=1).fit(X[:30], y[:30])


# Step sizes of epochs, and soft labels


def test_each_epoch_has_its_own_step_size(make_tiny, tiny_bars, monkeypatch):
    probed = []
    real = matcher_module.match

    def probe(network, start, end, images, targets, log_step_size, *args, **kwargs):
        probed.append(float(log_step_size.exp()))
        return real(
            network, start, end, images, targets, log_step_size, *args, **kwargs
        )

    monkeypatch.setattr(matcher_module, "match", probe)
    decide_by(monkeypatch, None, None, "expanded")
    distiller = make_tiny(
        step_size_per_epoch=True, step_size_lr=0.1, max_total_iter=8
    ).fit(*tiny_bars)
    history = distiller.history_
    assert history["start_epoch"].tolist() == [0, 0, 0, 1, 0, 1, 0, 1]
    used = history["step_size"]
    # The new one starts from the last, and after that each moves by itself.
    assert used[3] == used[4]
    assert used[3] != used[2]
    assert used[5] != used[3]
    assert used[6] != used[4]
    first, second = distiller.step_sizes_
    assert first != second
    # Probes have the last.
    assert probed[:3] == used[:3].tolist()
    assert probed[3] == used[3]
    assert probed[4] == probed[5] == used[5]
    assert probed[6] == probed[7] == used[7]
    assert distiller.synthetic_.step_size == second
    common = make_tiny(step_size_lr=0.1, max_total_iter=8).fit(*tiny_bars)
    assert common.step_sizes_.tolist() == [common.synthetic_.step_size]


@pytest.mark.parametrize("per_epoch", [False, True])
def test_a_run_may_start_with_several_epochs(
    make_distiller, make_teachers, bars, monkeypatch, per_epoch
):
    teachers = make_teachers(n_epochs=4).fit(*bars)
    probed = []
    real = matcher_module.match

    def probe(network, start, end, *args, **kwargs):
        probed.append(start.numpy())
        return real(network, start, end, *args, **kwargs)

    monkeypatch.setattr(matcher_module, "match", probe)
    level_up_after(monkeypatch, 4)
    distiller = make_distiller(
        buffer=teachers,
        n_initial_epochs=2,
        step_size_per_epoch=per_epoch,
        max_total_iter=7,
    ).fit(*bars)
    history = distiller.history_
    assert history["n_epochs_matched"].tolist() == [2, 2, 2, 2, 3, 3, 3]
    assert history["start_epoch"].tolist() == [0, 1, 0, 1, 1, 2, 0]
    assert distiller.stages_["n_epochs_matched"].tolist() == [2, 3]
    assert distiller.step_sizes_.shape == (3 if per_epoch else 1,)
    for start, row in zip(probed, history.itertuples(), strict=True):
        expected = teachers.snapshot(row.teacher, row.n_epochs_matched)
        np.testing.assert_array_equal(start, expected)
    # Epochs have step sizes of their own from the first iteration on.
    used = history["step_size"]
    assert (used[0] == used[1]) == per_epoch


@pytest.mark.parametrize(
    ("ipc", "n_epochs", "expected"),
    [(1, 6, 1), (2, 6, 2), (3, 6, 3), (4, 6, 3), (4, 7, 3), (4, 2, 1), (4, 3, 1)],
)
def test_epochs_at_first_by_the_number_of_images(
    make_distiller, make_teachers, bars, ipc, n_epochs, expected
):
    distiller = make_distiller(
        ipc=ipc,
        n_initial_epochs="auto",
        buffer=make_teachers(n_teachers=1, n_epochs=n_epochs).fit(*bars),
        max_total_iter=1,
    ).fit(*bars)
    assert distiller.history_["n_epochs_matched"].tolist() == [expected]


def test_setback_after_a_level_up_keeps_a_step_size_for_each_epoch(
    make_tiny, tiny_bars, monkeypatch, spoil_matches
):
    """The last good state may be older than the level-up."""
    decide_by(monkeypatch, None, None, "expanded")
    break_gradients(spoil_matches, lambda iteration: iteration == 4)
    distiller = make_tiny(
        step_size_per_epoch=True, step_size_lr=0.1, max_total_iter=8
    ).fit(*tiny_bars)
    assert distiller.n_epochs_matched_ == 2
    assert distiller.step_sizes_.shape == (2,)


def test_learned_labels_are_probabilities_that_move(make_tiny, tiny_bars):
    start = make_tiny(labels="learned", label_lr=1e-30, max_total_iter=1)
    start = start.fit(*tiny_bars).synthetic_
    # Nearly certain at first, and the rest is the same for all others.
    certain = np.eye(3)[start.y]
    np.testing.assert_allclose(
        start.probabilities, np.where(certain, 0.9, 0.05), rtol=1e-5
    )
    distiller = make_tiny(labels="learned", max_total_iter=30).fit(*tiny_bars)
    found = distiller.synthetic_.probabilities
    assert found.shape == (3, 3)
    assert found.dtype == np.float32
    assert (found > 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert np.abs(found - start.probabilities).max() > 0.01
    assert distiller.best_synthetic_.probabilities.shape == (3, 3)
    assert make_tiny().fit(*tiny_bars).synthetic_.probabilities is None


def test_learned_labels_go_down_the_gradient(make_tiny, tiny_bars, spoil_matches):
    """A gradient that always says the same ends in labels that do."""
    wanted = np.array([1, 2, 0])

    def change(iteration, result):
        towards = torch.zeros(3, 3)
        towards[torch.arange(3), wanted] = -1.0
        return result._replace(targets=towards)

    spoil_matches(change)
    distiller = make_tiny(labels="learned", label_lr=5.0, max_total_iter=40)
    found = distiller.fit(*tiny_bars).synthetic_
    assert found.probabilities.argmax(axis=1).tolist() == wanted.tolist()
    assert found.y.tolist() == [0, 1, 2]


def test_students_see_the_learned_labels(make_tiny, tiny_bars, monkeypatch):
    seen = []
    real = matcher_module.match_gradient

    def spy(network, start, end, images, targets, *args, **kwargs):
        seen.append(targets.numpy().copy())
        return real(network, start, end, images, targets, *args, **kwargs)

    monkeypatch.setattr(matcher_module, "match_gradient", spy)
    make_tiny(labels="learned", max_total_iter=2).fit(*tiny_bars)
    np.testing.assert_allclose(seen[0], np.where(np.eye(3), 0.9, 0.05), rtol=1e-5)
    assert not np.array_equal(seen[0], seen[1])
    seen.clear()
    make_tiny(max_total_iter=2).fit(*tiny_bars)
    assert all(np.array_equal(targets, np.eye(3)) for targets in seen)


def test_score_uses_the_learned_labels(make_tiny, tiny_bars):
    X, y = tiny_bars
    network = tiny_network(max_iter=20)
    distiller = make_tiny(labels="learned", estimator=network).fit(X, y)
    flipped = distiller.synthetic_.probabilities[:, [1, 2, 0]]
    distiller.synthetic_.probabilities = np.ascontiguousarray(flipped)
    expected = clone(network).fit_probabilities(
        distiller.synthetic_.X, flipped, distiller.classes_
    )
    assert distiller.score(X, y) == expected.score(X, y)
    flat = distiller.set_params(
        image_shape=(8, 8, 1), estimator=network.set_params(image_shape=(8, 8, 1))
    )
    assert flat.score(X.reshape(len(X), -1), y) == expected.score(X, y)


# As a part of scikit-learn


def test_flat_images_in_flat_images_out(make_distiller, make_teachers, bars):
    X, y = bars
    images, labels = make_distiller().fit_resample(X, y)
    flat = X.reshape(len(X), -1)
    distiller = make_distiller(image_shape=(16, 16, 3))
    flat_images, flat_labels = distiller.fit_resample(flat, y)
    assert images.shape == (3, 16, 16, 3)
    assert np.array_equal(flat_images, images.reshape(3, -1))
    assert labels.tolist() == flat_labels.tolist() == [0, 1, 2]
    network = tiny_network(image_shape=(16, 16, 3))
    distiller.set_params(estimator=network)
    assert 0 <= distiller.score(flat, y) <= 1


def test_score_is_that_of_the_estimator(make_distiller, bars):
    X, y = bars
    network = tiny_network(max_iter=20)
    distiller = make_distiller(estimator=network).fit(X, y)
    expected = clone(network).fit(*distiller.synthetic_).score(X, y)
    assert distiller.score(X, y) == expected
    assert not hasattr(network, "classes_")


def test_default_network_of_score_is_that_of_the_teachers(make_distiller, bars):
    distiller = make_distiller(augmentation=["flip"]).fit(*bars)
    network = distiller._default_estimator()
    assert (network.width, network.depth) == (8, 2)
    assert network.augmentation == ["flip"]
    assert network.learning_rate == distiller.synthetic_.step_size


def test_score_needs_a_fit(make_distiller, bars):
    with pytest.raises(NotFittedError):
        make_distiller().score(*bars)


def test_grid_search(make_distiller, make_teachers, bars):
    distiller = make_distiller(
        buffer=make_teachers(n_epochs=2),
        max_total_iter=2,
        estimator=tiny_network(),
    )
    search = GridSearchCV(distiller, {"ipc": [1, 2]}, cv=2, error_score="raise")
    search.fit(*bars)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    ipc = search.best_params_["ipc"]
    assert len(search.best_estimator_.synthetic_) == 3 * ipc


def test_clone_and_pickle(make_distiller, bars):
    distiller = make_distiller().fit(*bars)
    copied = clone(distiller)
    assert not hasattr(copied, "synthetic_")
    found = pickle.loads(pickle.dumps(distiller))
    assert np.array_equal(found.synthetic_.X, distiller.synthetic_.X)
    assert found.history_.equals(distiller.history_)


def test_detached_gradient_is_another_way(make_distiller, bars):
    exact = make_distiller().fit(*bars).synthetic_.X
    detached = make_distiller(gradient="detached").fit(*bars).synthetic_.X
    assert np.isfinite(detached).all()
    assert not np.allclose(exact, detached)


def test_progress_shows_when_asked_for(make_distiller, bars, capsys):
    make_distiller().fit(*bars)
    assert capsys.readouterr() == ("", "")
    make_distiller(verbose=1).fit(*bars)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "distillation" in printed.err


def test_unfitted_buffer_with_a_path_resumes(
    make_distiller, make_teachers, bars, tmp_path
):
    """Whatever the distiller's seed, teachers that are on disk are taken on."""
    buffer = make_teachers(path=tmp_path, random_state=None, n_epochs=2)
    first = make_distiller(buffer=buffer).fit(*bars)
    again = make_distiller(buffer=buffer, random_state=1).fit(*bars)
    assert np.array_equal(first.buffer_.snapshot(0, 2), again.buffer_.snapshot(0, 2))


def test_stages_count_the_iterations_that_were_rolled_back(
    make_distiller, bars, spoil_matches
):
    break_gradients(spoil_matches, lambda iteration: iteration in (1, 2))
    stages = make_distiller(max_total_iter=6).fit(*bars).stages_
    assert stages["first_iteration"].tolist() == [0]
    assert stages["n_iter"].tolist() == [6]


def test_buffer_with_other_parameters_than_it_was_fitted_with(
    make_distiller, make_teachers, bars
):
    """Only what was trained is drawn from."""
    buffer = make_teachers(n_epochs=2).fit(*bars)
    buffer.set_params(n_teachers=50)
    distiller = make_distiller(buffer=buffer, max_total_iter=10).fit(*bars)
    assert distiller.history_["teacher"].isin([0, 1]).all()


def test_epochs_end_where_those_that_were_trained_do(
    make_distiller, make_teachers, bars, monkeypatch
):
    buffer = make_teachers(n_epochs=2).fit(*bars)
    monkeypatch.setattr(module, "decide", lambda *args, **kwargs: "expanded")
    for n_epochs in (1, 50):
        buffer.set_params(n_epochs=n_epochs)
        distiller = make_distiller(buffer=buffer, max_total_iter=4).fit(*bars)
        assert (distiller.history_["n_epochs_matched"] == 1).all()


def test_stages_after_one_that_ended_with_a_setback(
    make_distiller, bars, monkeypatch, spoil_matches
):
    level_up_after(monkeypatch, 2)
    break_gradients(spoil_matches, lambda iteration: iteration in (0, 3, 4))
    stages = make_distiller(max_total_iter=9).fit(*bars).stages_
    assert stages["first_iteration"].tolist() == [0, 3, 7]
    assert stages["n_iter"].tolist() == [3, 4, 2]
    assert stages["reason"].tolist() == ["expanded"] * 3


# How it does so


def spy_on_keeping(monkeypatch):
    """Collect whether the maps of the steps were kept, once per iteration."""
    kept = []
    real = matcher_module.match_gradient

    def spy(*args, keep, **kwargs):
        kept.append(keep)
        return real(*args, keep=keep, **kwargs)

    monkeypatch.setattr(matcher_module, "match_gradient", spy)
    return kept


@pytest.mark.parametrize("gradient", ["exact", "detached"])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_activations_that_are_kept_do_not_change_the_images(
    make_distiller, bars, monkeypatch, gradient, batch_size
):
    kept = spy_on_keeping(monkeypatch)
    recomputed, other = (
        make_distiller(
            ipc=2, gradient=gradient, batch_size=batch_size, keep_activations=keep
        ).fit(*bars)
        for keep in (False, True)
    )
    assert kept == [False] * 4 + [True] * 4
    np.testing.assert_allclose(
        other.synthetic_.X, recomputed.synthetic_.X, rtol=1e-5, atol=1e-5
    )
    assert other.synthetic_.step_size == pytest.approx(
        recomputed.synthetic_.step_size, rel=1e-5
    )
    numbers = [
        fit.history_.drop(columns="event").to_numpy(float)
        for fit in (other, recomputed)
    ]
    np.testing.assert_allclose(*numbers, rtol=1e-4)


@pytest.mark.parametrize(("one_step", "expected"), [(100, True), (101, False)])
def test_activations_are_kept_where_those_of_all_steps_fit(
    make_tiny, tiny_bars, monkeypatch, one_step, expected
):
    asked = []

    def tape_bytes(self, n_images):
        asked.append(n_images)
        return one_step

    kept = spy_on_keeping(monkeypatch)
    monkeypatch.setattr(student_module, "_MAX_KEPT_BYTES", 500)
    monkeypatch.setattr(ConvNetDerivatives, "tape_bytes", tape_bytes)
    make_tiny(n_steps=5, max_total_iter=2, ipc=4, batch_size=7).fit(*tiny_bars)
    assert kept == [expected] * 2
    assert set(asked) == {7}


def test_memory_is_reused_while_images_are_distilled(make_distiller, bars, monkeypatch):
    inside = []

    @contextmanager
    def block():
        inside.append("begin")
        yield
        inside.append("end")

    real = matcher_module.match_gradient

    def spy(*args, **kwargs):
        inside.append("step")
        return real(*args, **kwargs)

    monkeypatch.setattr(iterative_module, "reused_memory", block)
    monkeypatch.setattr(matcher_module, "match_gradient", spy)
    make_distiller(max_total_iter=2).fit(*bars)
    assert inside == ["begin", "step", "step", "end"]


def test_float64_as_default_type_is_no_obstacle(make_distiller, make_teachers, bars):
    def distil():
        distiller = make_distiller(buffer=make_teachers(), max_total_iter=3).fit(*bars)
        return distiller.buffer_.snapshot(0, 1), distiller.synthetic_

    snapshot, synthetic = distil()
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        other_snapshot, other = distil()
    finally:
        torch.set_default_dtype(default)
    # The initial weights are drawn in the default type.
    assert other_snapshot.dtype == snapshot.dtype == np.float32
    assert other.X.shape == synthetic.X.shape
    assert np.isfinite(other.X).all()


@pytest.mark.gpu
def test_gpu_distils_as_the_cpu_does(make_distiller, make_teachers, bars):
    buffer = make_teachers(n_epochs=2).fit(*bars)
    losses = [
        make_distiller(buffer=buffer, max_total_iter=3, device=device)
        .fit(*bars)
        .history_["loss"]
        for device in ("cpu", "auto")
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-2)


@pytest.mark.parametrize(
    ("ipc", "batch_size", "expected"),
    [
        # Three classes; at most 32 images at once.
        (1, "auto", {3}),
        (10, "auto", {30}),
        (11, "auto", {17, 16}),
        (22, "auto", {22}),
        (11, None, {33}),
        (11, 30, {30, 3}),
        (3, 30, {9}),
    ],
)
def test_batches_of_synthetic_images(
    make_tiny, tiny_bars, monkeypatch, ipc, batch_size, expected
):
    sizes = set()
    real = matcher_module.match_gradient

    def spy(network, start, target, images, targets, log_step_size, steps, **kwargs):
        sizes.update(len(images if s.batch is None else s.batch) for s in steps)
        return real(
            network, start, target, images, targets, log_step_size, steps, **kwargs
        )

    monkeypatch.setattr(matcher_module, "match_gradient", spy)
    # These images are small; as if they were of 32x32 pixels.
    monkeypatch.setattr(student_module, "_AUTO_PIXELS", 32 * 8 * 8)
    parameters = {} if batch_size == "auto" else {"batch_size": batch_size}
    make_tiny(ipc=ipc, init="noise", n_steps=4, max_total_iter=1, **parameters).fit(
        *tiny_bars
    )
    assert sizes == expected


def test_finer_snapshots_are_matched_one_after_the_other(bars):
    """T counts ways between snapshots, whatever part of an epoch they are."""
    X, y = bars
    teachers = TrajectoryBuffer(
        n_teachers=1,
        n_epochs=2,
        width=4,
        depth=2,
        learning_rate=0.05,
        snapshots_per_epoch=(2,),
        device="cpu",
        random_state=0,
    ).fit(X, y)
    seen = []
    real = teachers.snapshot
    teachers.snapshot = lambda teacher, epoch: (
        seen.append(epoch) or real(teacher, epoch)
    )
    distiller = STMDistiller(
        buffer=teachers, n_steps=2, max_total_iter=1, device="cpu", random_state=0
    ).fit(X, y)
    # A probe of the second way, then a match of the first.
    assert seen == [0.5, 1.0, 0.0, 0.5]
    assert distiller.n_epochs_matched_ == 1
    coarse = TrajectoryBuffer(n_teachers=1, n_epochs=1, width=4, device="cpu")
    with pytest.raises(ValueError, match=r"at least 2"):
        STMDistiller(buffer=coarse, device="cpu").fit(X, y)
    finer = coarse.set_params(snapshots_per_epoch=2)
    STMDistiller(buffer=finer, n_steps=2, max_total_iter=1, device="cpu").fit(X, y)
