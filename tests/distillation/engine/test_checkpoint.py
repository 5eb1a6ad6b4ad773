"""Runs that are stored: resumed to the bit, never mixed with others, never believed."""

import os
import re
import shutil
import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratic import (
    QuadraticDistiller,
    at,
    broken,
    losses,
    make_squares,
    what_is_left,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score

import skdistill.distillation._engine._checkpoint as checkpoint_module
import skdistill.distillation._engine._history as history_module
from skdistill.utils._checkpoint import load_checkpoint, save_checkpoint

FILE = "state.safetensors"
NOT_AS_ROOT = pytest.mark.skipif(
    getattr(os, "geteuid", int)() == 0, reason="root writes anywhere"
)
RICH = {
    "labels": "probabilities",
    "stage_length": 6,
    "n_draws": 2,
    "average": True,
    "max_iter": 25,
}


class OtherDistiller(QuadraticDistiller):
    """The same by another name."""


def forbid(draw, evaluation):
    raise AssertionError("the fit went on")


def interrupted(squares, n_done, **parameters):
    events = at(n_done, KeyboardInterrupt())
    with pytest.warns(UserWarning, match=rf"after {n_done} iterations.*resumes from"):
        return QuadraticDistiller(events=events, **parameters).fit(*squares)


def fit(squares, **parameters):
    return QuadraticDistiller(**parameters).fit(*squares)


# Resumed


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["interrupted", "prolonged", "failed"])
def test_resumed_at_any_iteration(squares, tmp_path, optimizer, kind):
    """Through stages, roll-backs and what is random."""
    parameters = RICH | {"optimizer": optimizer}
    spoil = at((8, 17), broken)
    expected = what_is_left(fit(squares, events=spoil, **parameters))
    assert expected["history"].count("rolled back") == 2
    for n_done in range(0 if kind != "prolonged" else 1, 25):
        folder = tmp_path / str(n_done)
        if kind == "prolonged":
            short = parameters | {"max_iter": n_done, "checkpoint": folder}
            assert fit(squares, events=spoil, **short).stop_reason_ == "max_iter"
        else:
            error = KeyboardInterrupt() if kind == "interrupted" else OSError()
            end = at(n_done, error)
            distiller = QuadraticDistiller(
                events=lambda draw, found, end=end: spoil(draw, end(draw, found)),
                checkpoint=folder,
                **parameters,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    distiller.fit(*squares)
                except OSError:
                    assert kind == "failed"
            assert distiller.n_iter_ == n_done
        found = fit(squares, events=spoil, checkpoint=folder, **parameters)
        assert what_is_left(found) == expected, n_done


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"labels": "targets"},
        {"init": "real", "ipc": 2, "pixel_size": 2, "average": False},
        {"pixel_lr": "auto", "stage_length": 3},
        {"note": (1.5, ("a", None), np.float32(2), np.arange(2), {"b": (True,)})},
    ],
)
def test_interrupted_and_resumed(squares, tmp_path, parameters):
    expected = fit(squares, **parameters)
    for n_done in (2, 11):
        interrupted(squares, n_done, checkpoint=tmp_path, **parameters)
    found = fit(squares, checkpoint=tmp_path, **parameters)
    assert what_is_left(found) == what_is_left(expected)


def test_best_and_good_set_are_stored_apart(squares, tmp_path):
    """One of the tenth iteration, one of the twentieth, and the last of all."""
    events = losses(np.repeat([0.3, 0.5, 0.5], 10))
    parameters = {"events": events, "checkpoint": tmp_path}
    fit(squares, max_iter=23, **parameters)
    found = fit(squares, max_iter=29, **parameters)
    expected = fit(squares, events=events, max_iter=29)
    assert found.best_iteration_ == 10
    assert what_is_left(found) == what_is_left(expected)
    # Back to the twentieth, which a file told of.
    spoil = at(29, broken)
    parameters["events"] = lambda draw, evaluation: spoil(
        draw, events(draw, evaluation)
    )
    found = fit(squares, max_iter=30, **parameters)
    twenty = fit(squares, events=events, max_iter=20)
    assert np.array_equal(found.synthetic_.X, twenty.synthetic_.X)
    assert not np.array_equal(found.best_synthetic_.X, twenty.synthetic_.X)


def test_history_that_was_merged_is_resumed(squares, tmp_path, monkeypatch):
    monkeypatch.setattr(history_module, "MAX_ROWS", 8)
    expected = fit(squares, **RICH)
    assert len(expected.history_) <= 8
    for n_done in range(1, 25):
        fit(squares, checkpoint=tmp_path, **(RICH | {"max_iter": n_done}))
    found = fit(squares, checkpoint=tmp_path, **RICH)
    assert what_is_left(found) == what_is_left(expected)


def test_file_of_a_longer_run_is_no_larger(squares, tmp_path, monkeypatch):
    monkeypatch.setattr(history_module, "MAX_ROWS", 8)
    sizes = []
    for max_iter in (16, 64, 256):
        fit(squares, checkpoint=tmp_path, max_iter=max_iter)
        sizes.append((tmp_path / FILE).stat().st_size)
    # Rows of the last stride are not merged yet.
    assert max(sizes) - min(sizes) <= 64 * 7 * 8 + 128


@pytest.mark.parametrize(
    "parameters",
    [{}, {"n_accepted": 6}],
    ids=["max_iter", "its own end"],
)
def test_finished_fit_is_read_again(squares, tmp_path, parameters):
    expected = what_is_left(fit(squares, checkpoint=tmp_path, **parameters))
    before = (tmp_path / FILE).stat().st_mtime_ns
    found = fit(squares, checkpoint=tmp_path, events=forbid, **parameters)
    assert what_is_left(found) == expected
    assert (tmp_path / FILE).stat().st_mtime_ns == before
    if parameters:
        # And does not go on where more iterations are asked for.
        longer = {"max_iter": 99, "events": forbid, **parameters}
        found = fit(squares, checkpoint=tmp_path, **longer)
        assert what_is_left(found) == expected


def test_fit_that_diverged_does_not_go_on(squares, tmp_path):
    events = at(range(99), broken)
    for each, max_iter in ((events, 50), (forbid, 50), (forbid, 500)):
        with pytest.warns(ConvergenceWarning, match="diverged"):
            found = fit(squares, events=each, checkpoint=tmp_path, max_iter=max_iter)
        assert (found.stop_reason_, found.n_iter_) == ("diverged", 10)


def test_last_update_that_was_too_much_is_no_hindrance(squares, tmp_path):
    """Not even in the last iteration, after which none looks at it."""

    def change(evaluation):
        evaluation.gradients["images"] = evaluation.gradients["images"] * 1e30
        return evaluation

    parameters = {"events": at(11, change), "pixel_lr": 1e9, "noise": 0.0}
    parameters["stage_length"] = 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = fit(squares, max_iter=15, **parameters)
        for max_iter in (12, 12, 15):
            found = fit(squares, checkpoint=tmp_path, max_iter=max_iter, **parameters)
    assert what_is_left(found) == what_is_left(expected)


def test_random_state_of_none_resumes_with_its_seed(squares, tmp_path):
    first = interrupted(squares, 4, checkpoint=tmp_path, random_state=None)
    found = fit(squares, checkpoint=tmp_path, random_state=None)
    assert found.n_iter_ == 25
    assert found.history_.iloc[:4].equals(first.history_)
    again = fit(squares, checkpoint=tmp_path, random_state=None, events=forbid)
    assert what_is_left(again) == what_is_left(found)


def test_parameters_that_decide_on_nothing_may_change(squares, tmp_path, capsys):
    expected = fit(squares)
    interrupted(squares, 3, checkpoint=tmp_path)
    found = fit(
        squares,
        checkpoint=os.fspath(tmp_path),
        device=torch.device("cpu"),
        verbose=1,
        ipc=np.int64(1),
        max_iter=np.int64(25),
        note=[1, "two"],
        pixel_lr=np.float64(0.1),
    )
    assert "25/25" in capsys.readouterr().err
    assert what_is_left(found) == what_is_left(expected)


def test_flat_images_are_the_same_run(squares, tmp_path):
    X, y = squares
    expected = fit(squares, checkpoint=tmp_path)
    flat = X.reshape(len(X), -1)
    found = fit((flat, y), checkpoint=tmp_path, image_shape=(4, 4, 2), events=forbid)
    assert np.array_equal(found.synthetic_.X, expected.synthetic_.X)


def test_without_interrupt_nothing_is_warned_of(squares, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(squares, checkpoint=tmp_path)
        fit(squares, checkpoint=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_fits_of_a_cross_validation_have_folders_of_their_own(squares, tmp_path):
    from sklearn.dummy import DummyClassifier

    distiller = QuadraticDistiller(estimator=DummyClassifier(), max_iter=3)
    distiller.set_params(checkpoint=tmp_path)
    X, y = squares
    X = X.reshape(len(X), -1)
    distiller.set_params(image_shape=(4, 4, 2))
    for events in (None, forbid):
        distiller.set_params(events=events)
        if events is None:
            cross_val_score(distiller, X, y, cv=3, error_score="raise")
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert len(folders) == 3
    assert all(name.startswith("fit-") for name in folders)
    assert all((tmp_path / name / FILE).exists() for name in folders)


def test_state_is_stored_at_intervals(squares, tmp_path, monkeypatch):
    """Each half minute: a clock goes on by 13 seconds whenever it is read."""
    seen = []

    def events(draw, evaluation):
        file = tmp_path / FILE
        seen.append(file.stat().st_ino if file.exists() else None)
        return evaluation

    now = iter(np.arange(0.0, 1000.0, 13.0))
    monkeypatch.setattr(checkpoint_module.time, "monotonic", lambda: next(now))
    fit(squares, checkpoint=tmp_path, events=events, max_iter=8)
    # A save reads the clock, too.
    stored = [place for place in range(1, 8) if seen[place] != seen[place - 1]]
    assert stored == [3, 6]
    assert len(load_checkpoint(tmp_path / FILE)[0]["history"]) == 8


# Others are refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ipc": 2}, r"`ipc`: found 1, expected 2"),
        ({"noise": 0.25}, r"`noise`: found 0.5, expected 0.25"),
        ({"noise": 0.25}, r"deviation of the noise: found \[0.5\], expected \[0.25\]"),
        ({"pixel_lr": "auto"}, r"`pixel_lr`: found 0.1, expected 'auto'"),
        ({"random_state": 1}, r"seed of random_state: found 0, expected 1"),
        ({"labels": "targets"}, r"`labels`: found 'hard', expected 'targets'"),
        ({"pixel_size": 2}, r"`pixel_size`: found 1, expected 2"),
        ({"average": False}, r"`average`: found True, expected False"),
        (
            {"note": (1, "three")},
            r"`note`: found \[1, 'two'\], expected \[1, 'three'\]",
        ),
        ({"init": "real"}, r"`init`: found 'noise', expected 'real'"),
        (
            {"init": make_squares(1)[0][:3]},
            r"`init`: found 'noise', expected 'images with",
        ),
        ({"max_iter": 24}, r"holds 25 iterations, more than `max_iter`=24"),
    ],
)
def test_other_parameters_are_refused(squares, tmp_path, changes, message):
    fit(squares, checkpoint=tmp_path)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(ValueError, match=rf"`checkpoint`: {tmp_path}.*") as caught:
        fit(squares, checkpoint=tmp_path, events=forbid, **changes)
    if "deviation of" not in message:
        assert re.search(message, str(caught.value))
    assert (tmp_path / FILE).read_bytes() == before
    assert fit(squares, checkpoint=tmp_path, events=forbid).n_iter_ == 25


def test_objective_of_another_signature_is_refused(squares, tmp_path):
    fit(squares, checkpoint=tmp_path, max_iter=2)
    tensors, content = load_checkpoint(tmp_path / FILE)
    content["signature"]["deviation of the noise"] = [2.0]
    save_checkpoint(tmp_path / FILE, tensors, content)
    with pytest.raises(
        ValueError, match=r"of the noise: found \[2.0\], expected \[0.5\]"
    ):
        fit(squares, checkpoint=tmp_path)


def test_all_differences_are_named(squares, tmp_path):
    fit(squares, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"`ipc`.*`n_draws`.*delete this one"):
        fit(squares, checkpoint=tmp_path, ipc=2, n_draws=3)


def test_other_data_are_refused(squares, tmp_path):
    X, y = squares
    fit(squares, checkpoint=tmp_path)
    other = X.copy()
    other[3, 2, 1, 0] += 1e-3
    turned = y.copy()
    turned[:2] = y[1::-1]
    weight = np.ones(18)
    weight[3] = 2
    for data, message in [
        ((other, y), r"images or labels \(fingerprint\): .*bitwise identical"),
        ((X, turned), r"images or labels \(fingerprint\): .*bitwise identical"),
        ((X, y, weight), r"images or labels \(fingerprint\): .*bitwise identical"),
        ((X, y + 1), r"class labels: found \[0, 1, 2\], expected \[1, 2, 3\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(data, checkpoint=tmp_path, events=forbid)


def test_another_distiller_is_refused(squares, tmp_path):
    fit(squares, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"distiller: found 'QuadraticDistiller'"):
        OtherDistiller(checkpoint=tmp_path).fit(*squares)


def test_checkpoint_is_a_folder(squares, tmp_path):
    (tmp_path / "run").write_text("precious")
    with pytest.raises(ValueError, match=r"`checkpoint` must be a folder; .*run is"):
        fit(squares, checkpoint=tmp_path / "run", events=forbid)
    assert (tmp_path / "run").read_text() == "precious"


@NOT_AS_ROOT
def test_folder_that_cannot_be_written_shows_before_the_work(squares, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match="checkpoint"):
            fit(squares, checkpoint=tmp_path / "run", events=forbid)
    finally:
        tmp_path.chmod(0o700)


def test_two_fits_do_not_share_a_folder(squares, tmp_path):
    """One waits for the other's end, or fails; it harms nothing."""
    said = []

    def events(draw, evaluation):
        if draw.iteration == 5:
            with pytest.raises(BlockingIOError) as caught:
                fit(squares, checkpoint=tmp_path, events=forbid)
            said.append(str(caught.value))
        return evaluation

    found = fit(squares, checkpoint=tmp_path, events=events)
    assert f"`checkpoint`: {tmp_path} is in use by another fit" in said[0]
    assert what_is_left(found) == what_is_left(fit(squares))


@pytest.mark.skipif(os.name == "nt", reason="files in use cannot be removed there")
def test_folder_that_is_gone_fails_no_fit(squares, tmp_path):
    folder = tmp_path / "run"

    def remove(evaluation):
        shutil.rmtree(folder)
        return evaluation

    with pytest.warns(UserWarning, match="after 25 iterations could not be stored"):
        found = fit(squares, checkpoint=folder, events=at(5, remove))
    assert what_is_left(found) == what_is_left(fit(squares))


# Files that may be anybody's


@pytest.mark.parametrize("content", [b"", b"something else", bytes(1000)])
def test_damaged_files_are_named(squares, tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{FILE} cannot be read.*delete it"):
        fit(squares, checkpoint=tmp_path, events=forbid)
    assert (tmp_path / FILE).read_bytes() == content


@pytest.fixture(scope="module")
def stored(squares, tmp_path_factory):
    """A run of 13 iterations, its file's content, and how to resume it."""
    folder = tmp_path_factory.mktemp("stored")
    parameters = RICH | {"checkpoint": folder, "optimizer": "adam"}
    fit(squares, **(parameters | {"max_iter": 13}))
    return Stored((folder / FILE, load_checkpoint(folder / FILE), parameters))


class Stored(tuple):
    """What a test that fails need not show."""

    def __repr__(self):
        return "stored"


NUMBERS = st.sampled_from(
    [0, -1, -3, 1, 2**62, -(2**62), 0.5, float("nan"), float("inf"), 1e308]
)
TYPES = [torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16]


@st.composite
def tensors_like(draw, tensor):
    """Draw what a file could have in place of a tensor."""
    shape = draw(
        st.sampled_from([tuple(tensor.shape), (), (0,), (1,), (3, 2), (14, 7)])
    )
    number, dtype = draw(NUMBERS), draw(st.sampled_from([tensor.dtype, *TYPES]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = np.full(shape, number)
    if dtype in (torch.int64, torch.bool) and not np.isfinite(array).all():
        array = np.ones(shape)
    found = torch.from_numpy(np.asarray(np.clip(array, -(2**62), 2**62))).to(dtype)
    if draw(st.booleans()) and found.shape == tensor.shape and tensor.numel():
        # One number alone.
        mixed = tensor.clone()
        mixed.view(-1)[-1] = found.reshape(-1)[-1].to(tensor.dtype)
        return mixed
    return found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**40) | NUMBERS | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=150)
@given(data=st.data())
def test_hostile_states_are_refused_or_harmless(squares, stored, data):
    """Whatever a file says, the fit refuses it by name or ends with images."""
    path, (tensors, content), parameters = stored
    tensors = dict(tensors)
    content = {
        name: dict(value) if isinstance(value, dict) else value
        for name, value in content.items()
    }
    for _ in range(data.draw(st.integers(1, 2))):
        if data.draw(st.booleans()):
            name = data.draw(st.sampled_from(sorted(tensors)))
            if data.draw(st.integers(0, 9)) == 0 and len(tensors) > 1:
                del tensors[name]
            else:
                tensors[name] = data.draw(tensors_like(tensors[name]))
        else:
            place = data.draw(st.sampled_from(sorted(content)))
            inner = content[place]
            if isinstance(inner, dict) and inner and data.draw(st.booleans()):
                name = data.draw(st.sampled_from(sorted(inner)))
                inner[name] = data.draw(JSON)
            else:
                content[place] = data.draw(JSON)
    save_checkpoint(path, tensors, content)
    with warnings.catch_warnings():
        # Images that make no sense are a reason to warn, numbers of the file are not.
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            found = fit(squares, **parameters)
        except ValueError as error:
            assert str(path.parent) in str(error)  # noqa: PT017
            return
    assert np.isfinite(found.synthetic_.X).all()
    assert np.isfinite(found.best_synthetic_.X).all()
    assert len(found.history_) <= found.n_iter_


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, content: tensors.clear(),
        lambda tensors, content: tensors.pop("good/images.value"),
        lambda tensors, content: tensors["now/images.n_steps"].fill_(-3),
        lambda tensors, content: tensors["now/images.age"].fill_(2**62),
        lambda tensors, content: tensors["best/labels.value"].fill_(torch.nan),
        lambda tensors, content: tensors["now/offset.value"].fill_(torch.inf),
        lambda tensors, content: tensors.update(history=torch.zeros(13, 7)),
        lambda tensors, content: tensors["history"][:, 0].fill_(torch.nan),
        lambda tensors, content: content["history"].update(stride=0, n_pending=0),
        lambda tensors, content: content["history"].update(stride=1.0),
        lambda tensors, content: content["history"].update(stride=3),
        lambda tensors, content: content["history"].update(n_pending=True),
        lambda tensors, content: content.update(stage=-1),
        lambda tensors, content: content.update(learning_rate_factor=float("inf")),
        lambda tensors, content: content.update(learning_rate_factor=0.0),
        lambda tensors, content: content["progress"].update(losses=["1"]),
        lambda tensors, content: content["progress"].update(n_roll_backs=-1),
        lambda tensors, content: content["progress"].update(best_iteration=1.0),
        lambda tensors, content: content["progress"].update(other=1),
        lambda tensors, content: content["progress"].pop("losses"),
        lambda tensors, content: content.pop("signature"),
    ],
)
def test_what_no_run_could_have_stored(squares, stored, change):
    path, (tensors, content), parameters = stored
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    content = deepcopy(content)
    change(tensors, content)
    save_checkpoint(path, tensors, content)
    with pytest.raises(ValueError, match=str(path.parent)):
        fit(squares, events=forbid, **parameters)


def test_the_unchanged_file_is_good(squares, stored):
    path, (tensors, content), parameters = stored
    save_checkpoint(path, tensors, content)
    expected = fit(squares, **(parameters | {"checkpoint": None}))
    assert what_is_left(fit(squares, **parameters)) == what_is_left(expected)


def test_more_roll_backs_than_a_run_can_have_end_it(squares, stored):
    path, (tensors, content), parameters = stored
    progress = content["progress"] | {"n_roll_backs": 10**6}
    save_checkpoint(path, tensors, content | {"progress": progress})
    with pytest.warns(ConvergenceWarning, match="diverged"):
        found = fit(squares, events=losses([np.nan] * 99), **parameters)
    assert found.stop_reason_ == "diverged"
