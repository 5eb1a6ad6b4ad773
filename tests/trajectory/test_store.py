import json
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from skdistill.trajectory import TrajectoryBuffer
from skdistill.trajectory._store import (
    TeacherRun,
    manifest_path,
    read_manifest,
    read_teacher,
    teacher_path,
    write_manifest,
    write_teacher,
)


def make_run(n_epochs=3, n_parameters=7, seed=0):
    rng = np.random.default_rng(seed)
    return TeacherRun(
        rng.normal(size=(n_epochs + 1, n_parameters)).astype(np.float32),
        rng.uniform(size=n_epochs),
        rng.uniform(size=n_epochs),
    )


@pytest.fixture
def stored(tmp_path, make_buffer, bars):
    """A folder with a complete buffer."""
    make_buffer(path=tmp_path).fit(*bars)
    return tmp_path


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_teacher(tmp_path, 0, (2, 3))


def test_run_comes_back_as_it_was(tmp_path):
    run = make_run()
    write_teacher(tmp_path, 3, run)
    found = read_teacher(tmp_path, 3, (4, 7))
    for name in TeacherRun._fields:
        before, after = getattr(run, name), getattr(found, name)
        assert before.dtype == after.dtype
        assert np.array_equal(before, after)


def test_teachers_are_safetensors_of_one_file_each(tmp_path):
    for teacher in range(2):
        write_teacher(tmp_path, teacher, make_run(seed=teacher))
    names = ["teacher-00000.safetensors", "teacher-00001.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    with safe_open(tmp_path / names[1], framework="numpy") as file:
        assert np.array_equal(
            file.get_tensor("parameters"), make_run(seed=1).parameters
        )
    # A pickle starts like this, and a zip of them as torch writes it like that.
    assert (tmp_path / names[0]).read_bytes()[:2] not in (b"\x80\x04", b"PK")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_write_that_breaks_off_leaves_no_file(tmp_path, monkeypatch, error):
    def half(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise error("no more power")

    monkeypatch.setattr("skdistill.trajectory._store.save_file", half)
    with pytest.raises(error, match="no more power"):
        write_teacher(tmp_path, 0, make_run())
    assert list(tmp_path.iterdir()) == []


def test_write_that_breaks_off_keeps_the_file_before_it(tmp_path, monkeypatch):
    write_teacher(tmp_path, 0, make_run())

    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("skdistill.trajectory._store.save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        write_teacher(tmp_path, 0, make_run(seed=1))
    found = read_teacher(tmp_path, 0, (4, 7))
    assert np.array_equal(found.parameters, make_run().parameters)


def tensors_of(path):
    return dict(load_file(path))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


def empty(path):
    path.write_bytes(b"")


def replace_by_text(path):
    path.write_text("a text that is no teacher, whatever its name says\n" * 20)


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def replace_by_other_tensors(path):
    save_file({"weights": np.zeros(3)}, path)


def remove_checksum(path):
    save_file(tensors_of(path), path)


def replace_by_other_teacher(path):
    shutil.copy(teacher_path(path.parent, 1), path)


def replace_by_teacher_of_more_epochs(path):
    n_parameters = tensors_of(path)["parameters"].shape[1]
    write_teacher(path.parent, 0, make_run(9, n_parameters))


def replace_by_teacher_of_other_network(path):
    write_teacher(path.parent, 0, make_run(3))


DAMAGES = [
    truncate,
    empty,
    replace_by_text,
    flip_last_byte,
    replace_by_other_tensors,
    remove_checksum,
    replace_by_other_teacher,
    replace_by_teacher_of_more_epochs,
    replace_by_teacher_of_other_network,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_teacher_is_named(stored, damage, make_buffer, bars, monkeypatch):
    damage(teacher_path(stored, 0))
    with pytest.raises(ValueError, match=r"teacher-00000\.safetensors"):
        TrajectoryBuffer.load(stored)

    def train(*args):
        raise AssertionError("trained before the damage was found")

    # Three teachers are asked for, of which the third would have to be trained.
    monkeypatch.setattr("skdistill.trajectory._buffer.train_teacher", train)
    with pytest.raises(ValueError, match=r"teacher-00000\.safetensors"):
        make_buffer(path=stored, n_teachers=3).fit(*bars)


def test_damaged_teacher_is_trained_anew_once_deleted(
    stored, make_buffer, bars, in_memory
):
    flip_last_byte(teacher_path(stored, 1))
    teacher_path(stored, 1).unlink()
    buffer = make_buffer(path=stored).fit(*bars)
    for epoch in range(4):
        again, before = buffer.snapshot(1, epoch), in_memory.snapshot(1, epoch)
        assert np.array_equal(again, before)


def test_missing_teacher_is_named(stored):
    teacher_path(stored, 1).unlink()
    with pytest.raises(ValueError, match=r"1 of 2 teachers are missing.*teacher-00001"):
        TrajectoryBuffer.load(stored)


def test_folder_without_buffer_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no trajectory buffer"):
        TrajectoryBuffer.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere"):
        TrajectoryBuffer.load(tmp_path / "nowhere")


def test_manifest_comes_back_as_it_was(stored):
    content = read_manifest(stored) | {"classes": ["é", "b"], "seed": 2**31}
    write_manifest(stored, content)
    assert read_manifest(stored) == content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"manifest\.json is not valid JSON"),
        ("[1, 2]", r"manifest\.json is not the manifest of a trajectory buffer"),
        ('{"format": "other"}', r"manifest\.json is not the manifest"),
        (
            '{"format": "skdistill-trajectories", "version": 99}',
            r"manifest\.json has format version 99",
        ),
        (
            '{"format": "skdistill-trajectories", "version": 1}',
            r"manifest\.json is damaged: it lacks \['parameters', 'settings'",
        ),
    ],
)
def test_bad_manifest_is_named(tmp_path, text, message):
    manifest_path(tmp_path).write_text(text)
    with pytest.raises(ValueError, match=message):
        TrajectoryBuffer.load(tmp_path)


def test_manifest_says_what_the_teachers_are(stored, bars):
    manifest = json.loads(manifest_path(stored).read_text())
    assert manifest["classes"] == ["lying", "standing"]
    assert manifest["settings"]["image_shape"] == [8, 8, 2]
    assert manifest["settings"]["learning_rate"] == 0.05
    assert manifest["seed"] == 0
    with safe_open(teacher_path(stored, 0), framework="numpy") as file:
        assert file.get_slice("parameters").get_shape() == [
            4,
            manifest["n_parameters"],
        ]
