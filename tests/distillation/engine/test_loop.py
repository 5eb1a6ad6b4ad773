"""The iterations of a fit: what is random, averages, stages, interrupts, errors."""

import json
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratic import QuadraticDistiller, at, losses, make_squares, what_is_left
from sklearn.base import clone

import skdistill.distillation._engine._state as state_module
import skdistill.distillation._iterative as iterative_module

PROGRAM = Path(__file__).with_name("program.py")


def fit(squares, **changes):
    return QuadraticDistiller(**changes).fit(*squares)


# What is random


@pytest.mark.parametrize("labels", ["hard", "probabilities", "targets"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_same_random_state_same_result(squares, labels, optimizer):
    parameters = {"labels": labels, "optimizer": optimizer, "n_draws": 2, "ipc": 2}
    first = fit(squares, **parameters)
    again = what_is_left(first)
    assert what_is_left(fit(squares, **parameters)) == again
    # Also of the same object.
    assert what_is_left(first.fit(*squares)) == again
    other = fit(squares, random_state=1, **parameters)
    assert not np.array_equal(first.synthetic_.X, other.synthetic_.X)
    assert not first.history_["loss"].equals(other.history_["loss"])


def test_each_draw_is_another(squares):
    """Of an iteration, and of each iteration; all averaged."""
    seen = {}

    def events(draw, evaluation):
        seen[draw.iteration, draw.place] = float(evaluation.metrics["loss"])
        return evaluation

    history = fit(squares, events=events, n_draws=3, max_iter=5).history_
    assert len(set(seen.values())) == 15
    losses = np.reshape([seen[key] for key in sorted(seen)], (5, 3))
    assert history["loss"].tolist() == pytest.approx(losses.mean(axis=1), rel=1e-6)


def test_gradients_of_draws_are_averaged(squares):
    one, two, both = (
        fit(
            squares,
            n_draws=2,
            max_iter=1,
            events=lambda draw, found, place=place: (
                found if place in (None, draw.place) else silent(found)
            ),
        )
        for place in (0, 1, None)
    )
    start = fit(squares, pixel_lr=1e-30, max_iter=1).synthetic_.X
    expected = start + (one.synthetic_.X - start) + (two.synthetic_.X - start)
    np.testing.assert_allclose(both.synthetic_.X, expected, rtol=1e-5, atol=1e-6)


def silent(evaluation):
    gradients = evaluation.gradients
    gradients["images"] = torch.zeros_like(gradients["images"])
    return evaluation


def test_fit_moves_nothing_but_the_distiller(squares):
    X, y = (array.copy() for array in squares)
    distiller = QuadraticDistiller(n_draws=3)
    parameters = distiller.get_params()
    n_threads = torch.get_num_threads()
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    distiller.fit(X, y)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.get_num_threads() == n_threads
    after = distiller.get_params()
    assert all(after[name] is value for name, value in parameters.items())
    assert np.array_equal(X, squares[0])
    assert np.array_equal(y, squares[1])


# What is left


def test_images_fall_to_what_they_are_measured_by(squares):
    X, y = squares
    distiller = fit(squares, ipc=2, labels="probabilities", max_iter=200, noise=0.1)
    means = np.stack([X[y == code].mean(axis=0) for code in range(3)])
    np.testing.assert_allclose(distiller.synthetic_.X, means.repeat(2, 0), atol=0.05)
    assert distiller.synthetic_.y.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(distiller.synthetic_.probabilities, 1 / 3, atol=0.02)
    metadata = distiller.synthetic_.metadata
    assert metadata["distiller"] == "QuadraticDistiller"
    assert metadata["n_iter"] == distiller.n_iter_
    best = distiller.best_synthetic_.metadata
    assert best == {**metadata, "n_iter": distiller.best_iteration_}
    assert distiller.stop_reason_ == "max_iter"
    losses = distiller.history_["distance"]
    assert losses.iloc[-10:].mean() < 0.1 * losses.iloc[:10].mean()


def test_learned_targets_fall_too(squares):
    distiller = fit(squares, labels="targets", max_iter=300, average=False)
    np.testing.assert_allclose(distiller.learned_labels_, 1 / 3, atol=0.05)
    assert distiller.synthetic_.probabilities is None
    assert np.array_equal(distiller.synthetic_.targets, distiller.learned_labels_)
    assert distiller.synthetic_.targets.dtype == np.float32


@pytest.mark.parametrize("average", [False, True])
def test_targets_may_follow_from_the_images(squares, average):
    """From those of the set, averaged or not, and of the best set from its own."""
    distiller = fit(squares, labels="sums", average=average, random_state=3)
    sets = [distiller.synthetic_, distiller.best_synthetic_]
    for synthetic in sets:
        sums = synthetic.X.sum(axis=(1, 2, 3))
        expected = np.repeat(sums[:, None], 3, axis=1)
        np.testing.assert_allclose(synthetic.targets, expected, rtol=1e-5)
    assert not np.array_equal(sets[0].targets, sets[1].targets)
    assert fit(squares).synthetic_.targets is None


def test_history(squares):
    """Notes, columns, last columns, and what happened; numbers before the update."""
    distiller = fit(squares, max_iter=5, stage_length=2)
    history = distiller.history_
    assert isinstance(history, pd.DataFrame)
    columns = ["stage", "loss", "distance", "offset", "event"]
    assert history.columns.tolist() == columns
    assert history["stage"].tolist() == [0, 0, 1, 1, 2]
    offsets = [0, *(0.1 * history["loss"].cumsum())]
    assert history["offset"].tolist() == pytest.approx(offsets[:-1])
    assert distiller.offset_ == pytest.approx(offsets[-1])
    assert distiller.synthetic_.step_size == pytest.approx(1 + offsets[-1])
    assert (history["event"] == "").all()
    assert distiller.n_iter_ == 5


def test_images_are_averaged_over_the_iterations(squares):
    def images(n_iter, average):
        return fit(squares, max_iter=n_iter, average=average).synthetic_.X

    one, two, three = (images(n, False) for n in (1, 2, 3))
    assert np.array_equal(images(1, True), one)
    expected = (2 * one + 6 * two + 12 * three) / 20
    np.testing.assert_allclose(images(3, True), expected, rtol=1e-5, atol=1e-6)
    assert np.abs(three - expected).max() > 1e-3


def test_labels_are_averaged_too(squares):
    last, mean = (
        fit(squares, labels="targets", average=average, max_iter=9).learned_labels_
        for average in (False, True)
    )
    assert np.abs(last - mean).max() > 1e-3


def test_average_starts_anew_with_a_stage(squares):
    def images(n_iter, average):
        parameters = {"stage_length": 2, "average": average}
        return fit(squares, max_iter=n_iter, **parameters).synthetic_.X

    two, three, four = (images(n, False) for n in (2, 3, 4))
    # What a stage ends with is what all of it found.
    one = fit(squares, max_iter=1, average=False).synthetic_.X
    np.testing.assert_allclose(images(2, True), (2 * one + 6 * two) / 8, rtol=1e-5)
    assert np.array_equal(images(3, True), three)
    expected = (2 * three + 6 * four) / 8
    np.testing.assert_allclose(images(4, True), expected, rtol=1e-5, atol=1e-6)


def test_objective_ends_the_fit(squares):
    distiller = fit(squares, n_accepted=4)
    assert distiller.stop_reason_ == "accepted enough"
    assert distiller.n_iter_ == 4
    # Where both end, it is the objective.
    assert fit(squares, n_accepted=4, max_iter=4).stop_reason_ == "accepted enough"


def test_progress_shows_when_asked_for(squares, capsys):
    fit(squares)
    assert capsys.readouterr() == ("", "")
    fit(squares, verbose=1)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "distillation: 100%" in printed.err
    assert "loss=" in printed.err


def test_memory_is_reused_while_images_are_learned(squares, monkeypatch):
    happened = []

    @contextmanager
    def block():
        happened.append("begin")
        yield
        happened.append("end")

    def events(draw, evaluation):
        happened.append("step")
        return evaluation

    monkeypatch.setattr(iterative_module, "reused_memory", block)
    fit(squares, events=events, max_iter=2)
    assert happened == ["begin", "step", "step", "end"]


# Interrupts


@pytest.mark.parametrize("n_done", [0, 1, 12])
@pytest.mark.parametrize("n_draws", [1, 2])
def test_interrupt_keeps_the_images(squares, n_done, n_draws):
    parameters = {"stage_length": 5, "n_draws": n_draws}
    events = at(n_done, KeyboardInterrupt())
    with pytest.warns(UserWarning, match=rf"interrupted after {n_done} iterations"):
        distiller = fit(squares, events=events, **parameters)
    assert distiller.stop_reason_ == "interrupted"
    assert distiller.n_iter_ == len(distiller.history_) == n_done
    if n_done:
        shorter = fit(squares, max_iter=n_done, **parameters)
        assert what_is_left(distiller) == what_is_left(shorter) | {
            "stop_reason": "interrupted"
        }
    else:
        start = fit(squares, pixel_lr=1e-30, max_iter=1, average=False)
        assert np.array_equal(distiller.synthetic_.X, start.synthetic_.X)


def test_interrupt_while_callbacks_are_told(squares, tmp_path):
    callback = pytest.importorskip("sklearn.callback")
    assert callback

    class Impatient:
        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            if (context.task_name, context.task_id) == ("iteration", 3):
                raise KeyboardInterrupt

    # The iteration began a stage, and is undone with it.
    parameters = {"stage_length": 4, "n_accepted": 11, "checkpoint": tmp_path}
    distiller = QuadraticDistiller(**parameters).set_callbacks(Impatient())
    with pytest.warns(UserWarning, match="interrupted after 3 iterations"):
        distiller.fit(*squares)
    assert np.array_equal(distiller.synthetic_.X, fit(squares, max_iter=3).synthetic_.X)
    parameters["checkpoint"] = None
    expected = what_is_left(fit(squares, **parameters))
    distiller.set_callbacks()
    assert what_is_left(distiller.fit(*squares)) == expected


def start_slow(folder):
    command = [sys.executable, str(PROGRAM), "slow", str(folder), "0", "1"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for_iterations(folder, process):
    """Wait until more iterations were made than when this was called."""
    path = folder / "iteration"
    before = path.stat().st_mtime_ns if path.exists() else None
    deadline = time.monotonic() + 120
    while not path.exists() or path.stat().st_mtime_ns == before:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(np.random.default_rng().uniform(0, 0.1))


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_killed_and_terminated(tmp_path):
    """Also while a file is being written, since every iteration writes one."""
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = start_slow(tmp_path)
        wait_for_iterations(tmp_path, process)
        process.send_signal(number)
        _, words = process.communicate(timeout=60)
        # It had not come to its end by itself.
        assert process.returncode == -number, words
        # And nothing that comes after the fit was done.
        assert not list(tmp_path.glob("*.json"))
    # A SIGTERM stores what there is.
    assert "the same fit resumes from it" in words
    process = start_slow(tmp_path)
    _, words = process.communicate(timeout=120)
    assert process.returncode == 0, words
    found = json.loads((tmp_path / "slow-1-0.json").read_text())
    expected = QuadraticDistiller(
        n_draws=2, stage_length=7, labels="probabilities", max_iter=200
    ).fit(*make_squares())
    assert found == json.loads(json.dumps(what_is_left(expected)))
    # Nothing half written is left.
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["state.safetensors"]


# Errors


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
def test_error_keeps_what_there_is(squares, tmp_path, kind):
    error = kind("a disk is gone")
    distiller = QuadraticDistiller(events=at(7, error), checkpoint=tmp_path)
    with pytest.raises(kind, match="a disk is gone") as caught:
        distiller.fit(*squares)
    said = " ".join(caught.value.__notes__)
    assert f"The 7 iterations before this are stored in {tmp_path}" in said
    assert "`synthetic_` holds the images after 7 iterations." in said
    assert "less memory" not in said
    shorter = fit(squares, max_iter=7)
    assert what_is_left(distiller) == what_is_left(shorter) | {"stop_reason": ""}
    resumed = fit(squares, checkpoint=tmp_path)
    assert what_is_left(resumed) == what_is_left(fit(squares))


def test_error_without_a_checkpoint(squares):
    distiller = QuadraticDistiller(events=at(2, MemoryError("too little")), n_draws=2)
    with pytest.raises(MemoryError) as caught:
        distiller.fit(*squares)
    assert caught.value.__notes__ == [
        "Fewer images need less memory.",
        "`synthetic_` holds the images after 2 iterations.",
    ]
    assert distiller.n_iter_ == 2


def test_error_in_the_first_iteration(squares):
    distiller = QuadraticDistiller(events=at(0, ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        distiller.fit(*squares)
    assert distiller.n_iter_ == 0
    assert len(distiller.synthetic_) == 3


@pytest.mark.parametrize("what", ["interrupt", "divergence"])
def test_warnings_that_are_errors_cost_no_images(squares, tmp_path, what):
    events = at(7, KeyboardInterrupt())
    if what == "divergence":
        events = losses([1.0] * 7 + [np.nan] * 50)
    distiller = QuadraticDistiller(max_iter=40, events=events, checkpoint=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=r"interrupted after 7|diverged"):
            distiller.fit(*squares)
    ends = {"interrupt": "interrupted", "divergence": "diverged"}
    assert distiller.stop_reason_ == ends[what]
    assert distiller.n_iter_ == len(distiller.history_) >= 7
    assert (tmp_path / "state.safetensors").exists()


@pytest.mark.parametrize(
    "error", [OSError("no disk"), MemoryError("full"), KeyboardInterrupt()]
)
def test_storing_at_the_end_costs_no_images(squares, tmp_path, monkeypatch, error):
    def save(*_):
        raise error

    monkeypatch.setattr(state_module, "save_checkpoint", save)
    distiller = QuadraticDistiller(max_iter=4, checkpoint=tmp_path)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            distiller.fit(*squares)
    else:
        with pytest.warns(UserWarning, match="after 4 .* stored: .*in memory only"):
            distiller.fit(*squares)
    expected = fit(squares, max_iter=4)
    assert what_is_left(distiller) == what_is_left(expected)
    # Nobody is told that it resumes from what is not there.
    if isinstance(error, OSError):
        distiller.set_params(events=at(2, KeyboardInterrupt()))
        with pytest.warns(UserWarning, match="interrupted after 2") as caught:
            distiller.fit(*squares)
        said = [str(one.message) for one in caught]
        assert len(said) == 2
        assert "the images so far are kept" in said[1]
        assert "resumes" not in said[1]


def test_an_error_is_not_hidden_by_one_in_storing(squares, tmp_path, monkeypatch):
    def save(*_):
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(state_module, "save_checkpoint", save)
    events = at(3, ZeroDivisionError())
    distiller = QuadraticDistiller(events=events, checkpoint=tmp_path)
    with pytest.raises(ZeroDivisionError) as caught:
        distiller.fit(*squares)
    assert caught.value.__notes__ == [
        "`synthetic_` holds the images after 3 iterations."
    ]


@settings(max_examples=25)
@given(
    interrupts=st.sets(st.integers(0, 19), max_size=3),
    errors=st.sets(st.integers(0, 19), max_size=2),
    bad=st.sets(st.integers(0, 19), max_size=4),
    parameters=st.fixed_dictionaries(
        {
            "labels": st.sampled_from(["hard", "probabilities", "targets"]),
            "optimizer": st.sampled_from(["sgd", "adam"]),
            "pixel_lr": st.sampled_from(["auto", 0.1, 1e6, 1e30]),
            "pixel_size": st.sampled_from([1, 2]),
            "stage_length": st.sampled_from([None, 4, 11]),
            "n_draws": st.sampled_from([1, 2]),
            "random_state": st.integers(0, 99),
        }
    ),
)
def test_whatever_happens_the_end_is_the_same(
    squares, tmp_path_factory, interrupts, errors, bad, parameters
):
    """Interrupted, failed and resumed, through stages, roll-backs and divergence."""
    folder = tmp_path_factory.mktemp("run")
    waiting = {place: KeyboardInterrupt() for place in interrupts}
    waiting |= {place: OSError("failed") for place in errors}

    def spoil(draw, evaluation):
        if draw.iteration in bad:
            evaluation.gradients["images"] = evaluation.gradients["images"] * torch.inf
        return evaluation

    def events(draw, evaluation):
        if draw.iteration in waiting:
            raise waiting.pop(draw.iteration)
        return spoil(draw, evaluation)

    distiller = QuadraticDistiller(max_iter=20, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = clone(distiller).set_params(events=spoil).fit(*squares)
        distiller.set_params(events=events, checkpoint=folder)
        for _ in range(len(waiting) + 1):
            try:
                distiller.fit(*squares)
            except OSError:
                assert distiller.stop_reason_ == ""
                continue
            if distiller.stop_reason_ != "interrupted":
                break
    assert np.isfinite(expected.synthetic_.X).all()
    assert np.isfinite(expected.best_synthetic_.X).all()
    assert what_is_left(distiller) == what_is_left(expected)
