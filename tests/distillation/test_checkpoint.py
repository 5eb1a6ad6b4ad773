"""Checkpoints of trajectory methods: their teachers, stages and step sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import skdistill.distillation._objectives._trajectory as matcher_module
from skdistill.distillation import STMDistiller
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
    """Through expansions, setbacks and the fine-tuning."""
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


def test_parameters_that_say_the_same_resume(make_tiny, tiny_bars, tmp_path):
    expected = make_tiny(checkpoint=None).fit(*tiny_bars)
    make_tiny(max_total_iter=3).fit(*tiny_bars)
    found = make_tiny(
        n_matches=1,
        keep_activations=False,
        augmentation=["color", "crop", "cutout", "flip", "scale", "rotate"],
    ).fit(*tiny_bars)
    assert_same_run(found, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_target_epochs": 2}, r"`n_target_epochs`: found 1, expected 2"),
        ({"n_steps": 3}, r"`n_steps`: found 2, expected 3"),
        ({"augmentation": None}, r"`augmentation`: found \["),
        ({"labels": "learned"}, r"`labels`: found 'hard'"),
        ({"n_matches": 2}, r"`n_matches`: found 1, expected 2"),
        ({"max_iter": 999}, r"`max_iter`: found 1000, expected 999"),
        ({"max_total_iter": 2}, r"holds 3 iterations, more than `max_total_iter`=2"),
    ],
)
def test_other_parameters_are_refused(make_tiny, tiny_bars, changes, message):
    make_tiny(max_total_iter=3).fit(*tiny_bars)
    with pytest.raises(ValueError, match=rf"`checkpoint`: .*run.*{message}"):
        make_tiny(**({"max_total_iter": 3} | changes)).fit(*tiny_bars)


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
    with pytest.raises(ValueError, match=r"class labels: found \[0, 1, 2\]"):
        make_tiny(buffer=make_tiny_teachers()).fit(X, y + 1)


def test_other_teachers_are_refused(make_tiny, make_tiny_teachers, tiny_bars):
    make_tiny().fit(*tiny_bars)
    for changes, message in [
        ({"random_state": 1}, r"teachers' seed: found 0, expected 1"),
        ({"learning_rate": 0.04}, r"teachers' settings"),
        ({"n_teachers": 1}, r"number of teachers: found 2, expected 1"),
    ]:
        buffer = make_tiny_teachers(**changes).fit(*tiny_bars)
        with pytest.raises(ValueError, match=message):
            make_tiny(buffer=buffer).fit(*tiny_bars)


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


def test_teachers_that_a_killed_fit_of_another_seed_left_are_not_used(
    make_tiny, make_tiny_teachers, tiny_bars, tmp_path, monkeypatch
):
    """There is no state yet that would say so: it was killed before."""
    with monkeypatch.context() as patch:
        patch.setattr(STMDistiller, "_make_matching", kill)
        with pytest.raises(KeyboardInterrupt):
            make_tiny(buffer=make_tiny_teachers(random_state=None)).fit(*tiny_bars)
    assert not (tmp_path / "run" / FILE).exists()
    found = {"buffer": make_tiny_teachers(random_state=None)}
    with pytest.raises(ValueError, match=r"teachers holds teachers .*seed of random"):
        make_tiny(**found, random_state=1).fit(*tiny_bars)
    # The same seed resumes, and so does who wants no seed of his own.
    expected = make_tiny(**found, checkpoint=None).fit(*tiny_bars)
    assert_same_run(make_tiny(**found).fit(*tiny_bars), expected)
    (tmp_path / "run" / FILE).unlink()
    last = make_tiny(**found, random_state=None).fit(*tiny_bars)
    assert last.buffer_.seed_ == expected.buffer_.seed_


def kill(*_, **__):
    raise KeyboardInterrupt
