"""How the pool of epochs grows, and when a fit ends."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import skdistill.distillation._objectives._trajectory as matcher_module
import skdistill.distillation._stages as module
from skdistill.distillation import STMDistiller
from skdistill.distillation._engine._parameters import SyntheticParameters
from skdistill.trajectory import TrajectoryBuffer


def spy_on_factors(monkeypatch):
    """Collect what the rates of each iteration are multiplied by."""
    factors = []
    real = SyntheticParameters.step

    def step(self, gradients, metrics):
        factors.append(self.learning_rate_factor)
        return real(self, gradients, metrics)

    monkeypatch.setattr(SyntheticParameters, "step", step)
    return factors


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
    make_tiny, tiny_bars, monkeypatch, decide_by
):
    factors = spy_on_factors(monkeypatch)
    validations = []
    real = matcher_module.match

    def recording(*args, **kwargs):
        validations.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(matcher_module, "match", recording)
    decide_by(None, None, "stop")
    distiller = make_tiny(max_iter=40, max_total_iter=None).fit(*tiny_bars)
    # Every 40 / 20 iterations.
    decayed = [0.8**period for period in range(14) for _ in range(2)]
    assert factors == pytest.approx([1] * 3 + decayed)
    assert len(validations) == 3
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
        waiting = iter(decisions)
        monkeypatch.setattr(module, "decide", lambda *_, **__: next(waiting, None))
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
        # Without a validation once there was no trend.
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
    make_distiller, bars, monkeypatch, break_gradients
):
    asked = []

    def decide(values, groups, **kwargs):
        asked.append(list(groups))
        assert len(groups) == len(values)
        return "expanded" if len(values) == 3 else None

    break_gradients(lambda iteration: iteration in (1, 6))
    monkeypatch.setattr(module, "decide", decide)
    history = make_distiller(max_total_iter=10).fit(*bars).history_
    teacher = history["teacher"].to_numpy()
    # What was rolled back has no part in the trend.
    assert asked[2] == teacher[[0, 2, 3]].tolist()
    assert asked[5] == teacher[[4, 5, 7]].tolist()
    assert asked[7] == teacher[[8, 9]].tolist()


def test_level_up_takes_in_one_more_epoch(make_distiller, bars, level_up_after):
    level_up_after(3)
    distiller = make_distiller(max_total_iter=14).fit(*bars)
    history = distiller.history_
    # Teachers of 4 epochs: the validation needs the one after the last that is matched.
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
    make_distiller, bars, n_target_epochs, last, level_up_after
):
    level_up_after(3)
    distiller = make_distiller(
        max_total_iter=12,
        n_initial_epochs="auto",
        ipc=3,
        n_target_epochs=n_target_epochs,
    ).fit(*bars)
    # Half of four epochs, where the validation does not need more of them.
    assert (distiller.history_["n_epochs_matched"] == last).all()
    assert distiller.n_epochs_matched_ == last
    assert distiller.stages_["reason"].tolist()[:3] == ["expanded"] * 3


def test_overfit_takes_in_one_more_epoch(make_distiller, bars, decide_by):
    decide_by(None, "overfit", None, "stop")
    distiller = make_distiller(max_total_iter=5).fit(*bars)
    assert distiller.history_["n_epochs_matched"].tolist() == [1, 1, 2, 2, 2]
    reasons = ["overfit", "no trend", "max_total_iter"]
    assert distiller.stages_["reason"].tolist() == reasons


@pytest.mark.parametrize("n_target_epochs", [1, 2])
def test_probe_and_update_are_the_epochs_of_algorithm_1(
    make_distiller, teachers, bars, monkeypatch, n_target_epochs, decide_by
):
    pairs = {"match": [], "match_gradient": []}
    for name, seen in pairs.items():
        real = getattr(matcher_module, name)

        def spy(network, start, target, *args, real=real, seen=seen, **kwargs):
            seen.append((start.numpy().copy(), target.numpy().copy()))
            return real(network, start, target, *args, **kwargs)

        monkeypatch.setattr(matcher_module, name, spy)
    decide_by(None, "expanded")
    distiller = make_distiller(max_total_iter=5, n_target_epochs=n_target_epochs)
    history = distiller.fit(*bars).history_
    assert history["n_epochs_matched"].tolist() == [1, 1, 2, 2, 2]
    for row, validation, update in zip(
        history.itertuples(), *pairs.values(), strict=True
    ):
        for epoch, (start, target) in [
            (row.n_epochs_matched, validation),
            (row.start_epoch, update),
        ]:
            assert np.array_equal(start, teachers.snapshot(row.teacher, epoch))
            end = teachers.snapshot(row.teacher, epoch + n_target_epochs)
            assert np.array_equal(target, end)


def test_epochs_end_where_those_that_were_trained_do(
    make_distiller, make_teachers, bars, monkeypatch
):
    buffer = make_teachers(n_epochs=2).fit(*bars)
    monkeypatch.setattr(module, "decide", lambda *args, **kwargs: "expanded")
    for n_epochs in (1, 50):
        buffer.set_params(n_epochs=n_epochs)
        distiller = make_distiller(buffer=buffer, max_total_iter=4).fit(*bars)
        assert (distiller.history_["n_epochs_matched"] == 1).all()


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
    # A validation of the second interval, then a match of the first.
    assert seen == [0.5, 1.0, 0.0, 0.5]
    assert distiller.n_epochs_matched_ == 1
    coarse = TrajectoryBuffer(n_teachers=1, n_epochs=1, width=4, device="cpu")
    with pytest.raises(ValueError, match=r"at least 2"):
        STMDistiller(buffer=coarse, device="cpu").fit(X, y)
    finer = coarse.set_params(snapshots_per_epoch=2)
    STMDistiller(buffer=finer, n_steps=2, max_total_iter=1, device="cpu").fit(X, y)


# Step sizes of epochs, the first pool


def test_each_epoch_has_its_own_step_size(make_tiny, tiny_bars, monkeypatch, decide_by):
    recorded = []
    real = matcher_module.match

    def recording(network, start, end, images, targets, log_step_size, *args, **kwargs):
        recorded.append(float(log_step_size.exp()))
        return real(
            network, start, end, images, targets, log_step_size, *args, **kwargs
        )

    monkeypatch.setattr(matcher_module, "match", recording)
    decide_by(None, None, "expanded")
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
    # Validation losses use the last.
    assert recorded[:3] == used[:3].tolist()
    assert recorded[3] == used[3]
    assert recorded[4] == recorded[5] == used[5]
    assert recorded[6] == recorded[7] == used[7]
    assert distiller.synthetic_.step_size == second
    common = make_tiny(step_size_lr=0.1, max_total_iter=8).fit(*tiny_bars)
    assert common.step_sizes_.tolist() == [common.synthetic_.step_size]


@pytest.mark.parametrize("per_epoch", [False, True])
def test_a_run_may_start_with_several_epochs(
    make_distiller, make_teachers, bars, monkeypatch, per_epoch, level_up_after
):
    teachers = make_teachers(n_epochs=4).fit(*bars)
    recorded = []
    real = matcher_module.match

    def recording(network, start, end, *args, **kwargs):
        recorded.append(start.numpy())
        return real(network, start, end, *args, **kwargs)

    monkeypatch.setattr(matcher_module, "match", recording)
    level_up_after(4)
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
    for start, row in zip(recorded, history.itertuples(), strict=True):
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
    make_tiny, tiny_bars, decide_by, break_gradients
):
    """The last good state may be older than the expansion."""
    decide_by(None, None, "expanded")
    break_gradients(lambda iteration: iteration == 4)
    distiller = make_tiny(
        step_size_per_epoch=True, step_size_lr=0.1, max_total_iter=8
    ).fit(*tiny_bars)
    assert distiller.n_epochs_matched_ == 2
    assert distiller.step_sizes_.shape == (2,)
