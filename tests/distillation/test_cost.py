"""Estimates of what a fit takes: what they count, and that they leave no trace."""

import warnings

import numpy as np
import pytest
import torch
from joblib import parallel_config

from skdistill import (
    BPTTDistiller,
    CAFEDistiller,
    DCDistiller,
    DMDistiller,
    FRePoDistiller,
    KIPDistiller,
    MTTDistiller,
    NCFMDistiller,
    STMDistiller,
    TrajectoryBuffer,
)
from skdistill.trajectory import CostEstimate
from skdistill.utils._cost import PeakMemory, Stopwatch

X = np.random.default_rng(0).normal(size=(40, 8, 8, 1)).astype(np.float32)
Y = np.array(["edge-on", "smooth"])[np.arange(40) % 2]
SMALL = {"width": 2, "depth": 1, "device": "cpu"}


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(Stopwatch, "_ENOUGH_SECONDS", 0.01)


def teachers(**parameters):
    settings = {"n_teachers": 3, "n_epochs": 4, "random_state": 0, **SMALL}
    return TrajectoryBuffer(**(settings | parameters))


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def learned(estimator):
    return [name for name in vars(estimator) if name.endswith("_")]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"average": False, "momentum": 0.9},
        {"storage": "float16", "snapshots_per_epoch": (3, 2)},
        {"architecture": "mlp", "width": 128, "depth": 3},
    ],
)
def test_teachers_take_the_place_that_is_said(tmp_path, parameters):
    buffer = teachers(path=tmp_path / "teachers", **parameters)
    cost = buffer.estimate_cost(X, Y)
    assert not buffer.path.exists()
    assert not learned(buffer)
    assert cost.n_iter == 12
    assert cost.unit == "epoch"
    assert 12 * cost.seconds_per_iteration <= cost.seconds
    assert cost.seconds_per_iteration > 0
    assert cost.memory is None or cost.memory >= 0
    buffer.fit(X, Y)
    assert cost.disk == pytest.approx(size(buffer.path), rel=0.1, abs=3000)


def test_teachers_without_a_path_are_in_memory():
    few, many = (
        teachers(n_teachers=number).estimate_cost(X, Y) for number in (1, 1_001)
    )
    assert few.disk == many.disk == 0
    if few.memory is not None:
        fitted = teachers().fit(X, Y)
        snapshots = 1_000 * 5 * 4 * fitted.n_parameters_
        assert many.memory - few.memory == pytest.approx(snapshots, rel=0.5)
    assert many.seconds > 100 * few.seconds_per_iteration


def test_teachers_side_by_side():
    with parallel_config("threading"):
        cost = teachers(n_teachers=4, n_jobs=2).estimate_cost(X, Y)
    assert cost.n_iter == 16
    # Each takes the time of two, and four run in two rounds.
    assert cost.seconds >= 16 * cost.seconds_per_iteration


def test_an_estimate_changes_nothing():
    drawn = np.random.RandomState(0)
    before = drawn.get_state()[1].copy()
    buffer = teachers(random_state=drawn)
    distiller = DMDistiller(max_iter=3, random_state=drawn, **SMALL)
    for estimator in (buffer, distiller):
        estimator.estimate_cost(X, Y)
        assert estimator.random_state is drawn
        assert not learned(estimator)
    np.testing.assert_array_equal(drawn.get_state()[1], before)
    fitted = teachers().fit(X, Y)
    stm = STMDistiller(buffer=fitted, n_steps=1, max_total_iter=3, random_state=0)
    expected = stm.fit(X, Y).synthetic_.X
    first = fitted.snapshot(0, 2)
    assert stm.estimate_cost(X, Y).teachers is None
    assert stm.buffer is fitted
    np.testing.assert_array_equal(fitted.snapshot(0, 2), first)
    np.testing.assert_array_equal(stm.synthetic_.X, expected)
    np.testing.assert_array_equal(stm.fit(X, Y).synthetic_.X, expected)


def test_a_distillation_with_its_teachers_and_files(tmp_path):
    folder = tmp_path / "run"
    distiller = STMDistiller(
        buffer=teachers(), n_steps=2, max_total_iter=50, checkpoint=folder,
        random_state=0, device="cpu",
    )  # fmt: skip
    cost = distiller.estimate_cost(X, Y)
    assert not folder.exists()
    assert not learned(distiller)
    assert cost.n_iter == 50
    assert cost.is_bound  # by the test of a trend
    assert cost.teachers.n_iter == 12
    parts = cost.teachers.seconds + 50 * cost.seconds_per_iteration
    assert cost.seconds >= parts
    distiller.fit(X, Y).synthetic_.save(folder / "set.safetensors")
    assert cost.disk == pytest.approx(size(folder), rel=0.2)
    assert repr(cost).startswith("at most ")


def test_stages_without_a_limit_have_a_bound():
    buffer = teachers(n_epochs=3).fit(X, Y)
    distiller = STMDistiller(buffer=buffer, n_steps=1, max_iter=4, random_state=0)
    cost = distiller.estimate_cost(X, Y)
    # T is 1 or 2, the latter once more ten times; then come 14 decays.
    assert cost.n_iter == (2 + 10) * 4 + 14
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert distiller.fit(X, Y).n_iter_ <= cost.n_iter


@pytest.mark.parametrize(
    "distiller",
    [
        MTTDistiller(
            buffer=teachers(), max_start_epoch=1, n_target_epochs=1, n_steps=1
        ),
        NCFMDistiller(buffer=teachers(), n_frequencies=4),
        DCDistiller(buffer=teachers()),
        DCDistiller(**SMALL),
        DMDistiller(**SMALL),
        CAFEDistiller(max_network_epochs=2, **SMALL),
        BPTTDistiller(n_steps=3, window=2, **SMALL),
        FRePoDistiller(n_networks=1, **SMALL),
        KIPDistiller(),
    ],
    ids=lambda distiller: type(distiller).__name__,
)
def test_every_distiller_has_an_estimate(distiller):
    few, many = (
        distiller.set_params(max_iter=number).estimate_cost(X, Y)
        for number in (1, 10**6)
    )
    assert few.n_iter == 1
    assert many.n_iter == 10**6
    assert not many.is_bound
    assert many.seconds > 100 * few.seconds_per_iteration
    assert many.disk >= X.nbytes // 20
    assert not learned(distiller)


def test_what_is_wrong_is_said_before_the_steps(monkeypatch):
    def work(*args, **kwargs):
        raise AssertionError("the work has begun")

    monkeypatch.setattr("skdistill.trajectory._cost.Teachers", work)
    distiller = STMDistiller(buffer=teachers(n_epochs=1))
    with pytest.raises(ValueError, match="at least 2 epochs"):
        distiller.estimate_cost(X, Y)
    with pytest.raises(ValueError, match="'n_steps' parameter"):
        STMDistiller(n_steps=0).estimate_cost(X, Y)
    with pytest.raises(ValueError, match="'width' parameter"):
        teachers(width=-1).estimate_cost(X, Y)
    with pytest.raises(ValueError, match="'width' parameter"):
        STMDistiller(buffer=teachers(width=-1)).estimate_cost(X, Y)
    with pytest.raises(ValueError, match="inconsistent"):
        distiller.estimate_cost(X, Y[1:])


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (
            CostEstimate(7790, int(1.3 * 2**30), 420 * 2**20, "iteration", 1000, 7.8),
            "about 2 h 10 min, 1.3 GiB memory, 420 MiB on disk",
        ),
        (
            CostEstimate(None, None, 0, "iteration", None, 0.42),
            "about 0.42 s an iteration, unknown memory, nothing on disk",
        ),
        (
            CostEstimate(
                300_000, 2**41, 999, "iteration", 9, 1.0, is_bound=True,
                teachers=CostEstimate(95, 1, 1, "epoch", 1, 95.0),
            ),
            "at most 3 days 11 h (95 s of it for teachers), 2,048 GiB memory, "
            "999 bytes on disk",
        ),
    ],
)  # fmt: skip
def test_it_reads_like_a_sentence(cost, text):
    assert repr(cost) == text


def test_peaks_are_seen():
    with PeakMemory(torch.device("cpu")) as memory:
        np.ones(2**25)
    if memory.n_bytes is not None:
        assert 2**27 < memory.n_bytes < 2**29
