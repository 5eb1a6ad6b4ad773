"""Runs that survive an interrupt and a kill, and go on to the same bits."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

import skdistill.distillation._engine._checkpoint as checkpoint_module
import skdistill.distillation._engine._state as run_module
import skdistill.distillation._objectives._trajectory as matcher_module
from skdistill.distillation import MTTDistiller, STMDistiller
from skdistill.synthetic import SyntheticSet
from skdistill.trajectory import TrajectoryBuffer

FILE = "state.safetensors"


@pytest.fixture
def make_tiny(tiny_teachers, tmp_path):
    """Make a distiller of few iterations, with a checkpoint in tmp_path."""

    def make(**changes):
        parameters = {
            "buffer": tiny_teachers,
            "n_steps": 2,
            "step_size": 0.05,
            "max_total_iter": 8,
            "checkpoint": tmp_path / "run",
            "random_state": 0,
            "device": "cpu",
        }
        return STMDistiller(**(parameters | changes))

    return make


@pytest.fixture
def forbid_matching(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the fit went on")

    monkeypatch.setattr(matcher_module, "match_gradient", refuse)


def assert_same_run(found, expected):
    """Compare everything that a fit leaves behind, to the bits."""
    assert found.stop_reason_ == expected.stop_reason_
    assert found.n_iter_ == expected.n_iter_
    assert found.history_.equals(expected.history_)
    assert found.step_sizes_.tolist() == expected.step_sizes_.tolist()
    assert found.best_iteration_ == expected.best_iteration_
    for name in ("synthetic_", "best_synthetic_"):
        one, other = getattr(found, name), getattr(expected, name)
        assert np.array_equal(one.X, other.X)
        assert one.y.tolist() == other.y.tolist()
        assert one.step_size == other.step_size
        assert np.array_equal(one.probabilities, other.probabilities)
    if isinstance(expected, STMDistiller):
        assert found.stages_.equals(expected.stages_)
        assert found.n_epochs_matched_ == expected.n_epochs_matched_


def interrupt_at(spoil_matches, n_done):
    """Press the keys once, in the midst of an iteration."""

    def change(iteration, result):
        if iteration == n_done:
            raise KeyboardInterrupt
        return result

    spoil_matches(change)


# A fit whose every iteration takes some time and is stored.
SCRIPT = textwrap.dedent(
    """
    import sys, time
    import skdistill.distillation._engine._checkpoint as checkpoint_module
    import skdistill.distillation._objectives._trajectory as matcher_module
    from skdistill import STMDistiller, TrajectoryBuffer, make_galaxies

    def match_gradient(*args, real=matcher_module.match_gradient, **kwargs):
        time.sleep(0.01)
        return real(*args, **kwargs)

    matcher_module.match_gradient = match_gradient
    checkpoint_module._SECONDS = 0
    X, y = make_galaxies(36, size=8, random_state=0)
    buffer = TrajectoryBuffer(
        n_teachers=2, n_epochs=3, width=4, depth=1, learning_rate=0.05, device="cpu")
    distiller = STMDistiller(
        buffer=buffer, n_steps=2, max_iter=100, max_total_iter=400, labels="learned",
        step_size_per_epoch=True, threshold=0.5, random_state=0, device="cpu",
        checkpoint=sys.argv[1]).fit(X, y)
    distiller.synthetic_.save(sys.argv[2])
    distiller.best_synthetic_.save(sys.argv[2] + ".best")
    distiller.history_.to_csv(sys.argv[2] + ".history")
    distiller.stages_.to_csv(sys.argv[2] + ".stages")
    """
)


def test_killed_three_times(tmp_path):
    """Also while a file is being written, since every iteration writes one."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(folder, output):
        command = [sys.executable, "-c", SCRIPT, folder, tmp_path / output]
        return subprocess.Popen([str(part) for part in command], env=environment)

    uninterrupted = start(tmp_path / "a", "expected")
    state = tmp_path / "b" / FILE
    rng = np.random.default_rng()
    for _ in range(3):
        before = state.stat().st_mtime_ns if state.exists() else None
        process = start(tmp_path / "b", "found")
        deadline = time.monotonic() + 120
        while not state.exists() or state.stat().st_mtime_ns == before:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        # It had not come to its end by itself.
        assert process.wait() == -signal.SIGKILL
    assert start(tmp_path / "b", "found").wait() == 0
    assert uninterrupted.wait() == 0
    for ending in ("", ".best"):
        found = SyntheticSet.load(tmp_path / f"found{ending}")
        expected = SyntheticSet.load(tmp_path / f"expected{ending}")
        assert np.array_equal(found.X, expected.X)
        assert np.array_equal(found.probabilities, expected.probabilities)
        assert found.step_size == expected.step_size
    for ending in (".history", ".stages"):
        found = (tmp_path / f"found{ending}").read_bytes()
        assert found == (tmp_path / f"expected{ending}").read_bytes()
    # Nothing half written is left.
    assert {path.name for path in (tmp_path / "b").iterdir()} >= {FILE, "teachers"}


@pytest.mark.parametrize("n_done", [0, 1, 5])
def test_interrupt_and_go_on(make_tiny, tiny_bars, spoil_matches, n_done):
    expected = make_tiny(checkpoint=None).fit(*tiny_bars)
    interrupt_at(spoil_matches, n_done)
    with pytest.warns(UserWarning, match=rf"after {n_done} iterations.*resumes"):
        interrupted = make_tiny().fit(*tiny_bars)
    assert interrupted.stop_reason_ == "interrupted"
    found = make_tiny().fit(*tiny_bars)
    losses = interrupted.history_["loss"].tolist()
    assert found.history_["loss"][:n_done].tolist() == losses
    assert_same_run(found, expected)


@settings(max_examples=12)
@given(
    seed=st.integers(0, 99),
    stops=st.lists(st.integers(1, 39), max_size=3),
    broken=st.sets(st.integers(0, 39), max_size=3),
    parameters=st.fixed_dictionaries(
        {
            "labels": st.sampled_from(["hard", "learned"]),
            "pixel_size": st.sampled_from([1, 2]),
            "step_size_per_epoch": st.booleans(),
            "n_initial_epochs": st.sampled_from([1, 2]),
            "step_size_lr": st.sampled_from(["auto", 0.01]),
            "pixel_lr": st.sampled_from(["auto", 10.0]),
            "gradient": st.sampled_from(["exact", "detached"]),
            "batch_size": st.sampled_from([None, 4]),
            "init": st.sampled_from(["real", "noise"]),
            "trend_on": st.sampled_from(["misalignment", "loss"]),
        }
    ),
)
def test_parts_are_the_same_as_the_whole(
    tiny_bars, tiny_teachers, tmp_path_factory, seed, stops, broken, parameters
):
    """Through level-ups, setbacks and the fine-tuning."""
    folder = tmp_path_factory.mktemp("parts")

    def fit(n_iter, done, checkpoint):
        real = matcher_module.match_gradient
        counter = iter(range(done, 1000))

        def spoiled(*args, **kwargs):
            result = real(*args, **kwargs)
            if next(counter) in broken:
                return result._replace(images=torch.full_like(result.images, np.nan))
            return result

        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(matcher_module, "match_gradient", spoiled)
            return STMDistiller(
                ipc=2,
                buffer=tiny_teachers,
                n_steps=2,
                threshold=1.0,
                max_iter=10,
                max_total_iter=n_iter,
                random_state=seed,
                device="cpu",
                checkpoint=checkpoint,
                **parameters,
            ).fit(*tiny_bars)

    expected = fit(40, 0, None)
    done = 0
    for n_iter in [*sorted(stops), 40]:
        found = fit(n_iter, done, folder)
        done = found.n_iter_
    assert_same_run(found, expected)


def test_finished_fit_is_read_again(make_tiny, tiny_bars, request):
    expected = make_tiny().fit(*tiny_bars)
    request.getfixturevalue("forbid_matching")
    assert_same_run(make_tiny().fit(*tiny_bars), expected)


def test_fit_that_came_to_its_own_end_does_not_go_on(make_tiny, tiny_bars, request):
    expected = make_tiny(max_iter=4, max_total_iter=100).fit(*tiny_bars)
    assert expected.stop_reason_ == "no trend"
    request.getfixturevalue("forbid_matching")
    for most in (200, None):
        found = make_tiny(max_iter=4, max_total_iter=most).fit(*tiny_bars)
        assert_same_run(found, expected)


def test_fit_that_diverged_does_not_go_on(make_tiny, tiny_bars, spoil_matches, request):
    def change(iteration, result):
        return result._replace(images=torch.full_like(result.images, np.nan))

    spoil_matches(change)
    with pytest.warns(ConvergenceWarning, match="diverged"):
        expected = make_tiny(max_total_iter=50).fit(*tiny_bars)
    request.getfixturevalue("forbid_matching")
    with pytest.warns(ConvergenceWarning, match="diverged"):
        assert_same_run(make_tiny(max_total_iter=50).fit(*tiny_bars), expected)


def test_state_is_stored_at_intervals(make_tiny, tiny_bars, monkeypatch, tmp_path):
    stored = []
    real = run_module.save_checkpoint

    def spy(path, tensors, content):
        stored.append(len(tensors["history"]))
        real(path, tensors, content)

    monkeypatch.setattr(run_module, "save_checkpoint", spy)
    now = iter(np.arange(0.0, 1000.0, 13.0))
    monkeypatch.setattr(checkpoint_module.time, "monotonic", lambda: next(now))
    make_tiny(max_total_iter=7).fit(*tiny_bars)
    # The clock goes on by 13 seconds whenever it is read; a save reads it too.
    assert stored[-1] == 7
    assert stored[:-1] == [3, 6]
    stored.clear()
    make_tiny(checkpoint=None).fit(*tiny_bars)
    assert not stored


def test_random_state_of_none_goes_on_with_its_seed(
    make_tiny, tiny_bars, spoil_matches
):
    interrupt_at(spoil_matches, 4)
    with pytest.warns(UserWarning, match="interrupted"):
        first = make_tiny(random_state=None).fit(*tiny_bars)
    found = make_tiny(random_state=None).fit(*tiny_bars)
    assert found.n_iter_ == 8
    assert found.history_.iloc[:4].equals(first.history_)
    # Each iteration's draws follow from the seed: with it the whole is the same.
    again = make_tiny(random_state=None, max_total_iter=8).fit(*tiny_bars)
    assert_same_run(again, found)


def test_parameters_that_do_not_decide_on_the_result_may_change(
    make_tiny, tiny_bars, spoil_matches, capsys
):
    expected = make_tiny(checkpoint=None).fit(*tiny_bars)
    interrupt_at(spoil_matches, 3)
    with pytest.warns(UserWarning, match="interrupted"):
        make_tiny().fit(*tiny_bars)
    found = make_tiny(
        device=torch.device("cpu"),
        verbose=1,
        ipc=np.int64(1),
        augmentation=["color", "crop", "cutout", "flip", "scale", "rotate"],
        max_total_iter=np.int64(8),
    ).fit(*tiny_bars)
    assert "8/8" in capsys.readouterr().err
    assert_same_run(found, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ipc": 2}, r"`ipc`: 1 there, 2 asked for"),
        ({"n_target_epochs": 2}, r"`n_target_epochs`: 1 there, 2 asked for"),
        ({"n_steps": 3}, r"`n_steps`: 2 there, 3 asked for"),
        ({"pixel_lr": 1.0}, r"`pixel_lr`: 'auto' there, 1\.0 asked for"),
        ({"augmentation": None}, r"`augmentation`: \["),
        ({"random_state": 1}, r"seed of random_state"),
        ({"labels": "learned"}, r"`labels`: 'hard' there"),
        ({"pixel_size": 2}, r"`pixel_size`: 1 there, 2 asked for"),
        ({"max_iter": 999}, r"`max_iter`: 1000 there, 999 asked for"),
        ({"init": "noise"}, r"`init`: 'real' there, 'noise' asked for"),
        ({"init": np.zeros((3, 8, 8, 1))}, r"`init`: 'real' there, 'images with"),
        ({"max_total_iter": 7}, r"holds 8 iterations; at most 7"),
    ],
)
@pytest.mark.usefixtures("tmp_path")
def test_other_parameters_are_refused(make_tiny, tiny_bars, tmp_path, changes, message):
    make_tiny().fit(*tiny_bars)
    before = (tmp_path / "run" / FILE).read_bytes()
    with pytest.raises(ValueError, match=rf"`checkpoint`: .*run.*{message}"):
        make_tiny(**changes).fit(*tiny_bars)
    assert (tmp_path / "run" / FILE).read_bytes() == before
    assert make_tiny().fit(*tiny_bars).n_iter_ == 8


def test_all_differences_are_named(make_tiny, tiny_bars):
    make_tiny().fit(*tiny_bars)
    with pytest.raises(ValueError, match=r"`n_steps`.*`step_size`.*delete this one"):
        make_tiny(n_steps=1, step_size=0.1).fit(*tiny_bars)


def test_other_data_are_refused_before_teachers_are_trained(
    make_tiny, make_tiny_teachers, tiny_bars, monkeypatch
):
    X, y = tiny_bars
    make_tiny(buffer=make_tiny_teachers()).fit(X, y)

    def train(*args, **kwargs):
        raise AssertionError("teachers were trained")

    monkeypatch.setattr(TrajectoryBuffer, "fit", train)
    other = X.copy()
    other[3, 2, 1, 0] += 1e-3
    with pytest.raises(ValueError, match=r"images or labels \(fingerprint\)"):
        make_tiny(buffer=make_tiny_teachers()).fit(other, y)
    with pytest.raises(ValueError, match=r"class labels: \[0, 1, 2\] there"):
        make_tiny(buffer=make_tiny_teachers()).fit(X, y + 1)


def test_other_teachers_are_refused(make_tiny, make_tiny_teachers, tiny_bars):
    make_tiny().fit(*tiny_bars)
    for changes, message in [
        ({"random_state": 1}, r"teachers' seed: 0 there, 1 asked for"),
        ({"learning_rate": 0.04}, r"teachers' settings"),
        ({"n_teachers": 1}, r"number of teachers: 2 there, 1 asked for"),
    ]:
        buffer = make_tiny_teachers(**changes).fit(*tiny_bars)
        with pytest.raises(ValueError, match=message):
            make_tiny(buffer=buffer).fit(*tiny_bars)


def test_another_distiller_is_refused(make_tiny, tiny_bars, tiny_teachers, tmp_path):
    make_tiny().fit(*tiny_bars)
    mtt = MTTDistiller(
        buffer=tiny_teachers,
        max_start_epoch=1,
        max_iter=3,
        random_state=0,
        checkpoint=tmp_path / "run",
    )
    with pytest.raises(ValueError, match=r"distiller: 'STMDistiller' there"):
        mtt.fit(*tiny_bars)


@pytest.mark.usefixtures("forbid_matching")
def test_damaged_files_are_named(make_tiny, tiny_bars, tmp_path):
    path = tmp_path / "run" / FILE
    path.parent.mkdir()
    for content in (b"", b"something else", bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{FILE} cannot be read.*delete it"):
            make_tiny().fit(*tiny_bars)
        assert path.read_bytes() == content


@pytest.mark.usefixtures("forbid_matching")
def test_checkpoint_is_a_folder(make_tiny, tiny_bars, tmp_path):
    (tmp_path / "run").write_text("precious")
    with pytest.raises(ValueError, match=r"`checkpoint` must be a folder; .*run is"):
        make_tiny().fit(*tiny_bars)
    assert (tmp_path / "run").read_text() == "precious"


def test_teachers_are_kept_in_the_checkpoint(
    make_tiny, make_tiny_teachers, tiny_bars, tmp_path, spoil_matches
):
    expected = make_tiny(buffer=make_tiny_teachers(), checkpoint=None).fit(*tiny_bars)
    interrupt_at(spoil_matches, 2)
    with pytest.warns(UserWarning, match="interrupted"):
        make_tiny(buffer=make_tiny_teachers()).fit(*tiny_bars)
    folder = tmp_path / "run" / "teachers"
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) == 2
    trained = [path.stat().st_mtime_ns for path in files]
    found = make_tiny(buffer=make_tiny_teachers()).fit(*tiny_bars)
    assert [path.stat().st_mtime_ns for path in files] == trained
    assert_same_run(found, expected)


def test_teachers_with_a_path_of_their_own_stay_there(
    make_tiny, make_tiny_teachers, tiny_bars, tmp_path
):
    buffer = make_tiny_teachers(path=tmp_path / "own")
    make_tiny(buffer=buffer).fit(*tiny_bars)
    assert (tmp_path / "own").is_dir()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [FILE]


def test_without_interrupt_nothing_is_warned_of(make_tiny, tiny_bars):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_tiny().fit(*tiny_bars)
        make_tiny().fit(*tiny_bars)
