import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from skdistill.trajectory import TrajectoryBuffer
from skdistill.trajectory._store import (
    Identity,
    TeacherFile,
    TeacherRun,
    manifest_path,
    read_manifest,
    teacher_path,
    write_manifest,
    write_teacher,
)


def make_run(n_epochs=3, n_parameters=7, seed=0, velocity=False, average=False):
    generator = torch.Generator().manual_seed(seed)
    parameters = torch.randn(n_epochs + 1, n_parameters, generator=generator)
    return TeacherRun(
        parameters,
        torch.rand(n_epochs, generator=generator, dtype=torch.float64),
        torch.rand(n_epochs, generator=generator, dtype=torch.float64),
        torch.randn(n_parameters if velocity else 0, generator=generator),
        parameters[-1] + 1 if average else parameters[-1].clone(),
    )


def write(folder, teacher=0, run=None, storage="float32", buffer="b"):
    run = make_run() if run is None else run
    write_teacher(folder, run, Identity(teacher, buffer, 5), storage)
    return run


def read(folder, teacher=0, buffer="b"):
    with TeacherFile(folder, teacher, buffer) as file:
        return file.run()


@pytest.fixture
def stored(tmp_path, make_buffer, bars):
    """A folder with a complete buffer."""
    make_buffer(path=tmp_path).fit(*bars)
    return tmp_path


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        TeacherFile(tmp_path, 0, "b")


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("velocity", [False, True])
def test_run_comes_back_as_it_was(tmp_path, velocity, average):
    run = write(tmp_path, 3, make_run(velocity=velocity, average=average))
    for before, after in zip(run, read(tmp_path, 3), strict=True):
        assert before.dtype == after.dtype
        assert torch.equal(before, after)
    with TeacherFile(tmp_path, 3, "b") as file:
        assert file.seed == 5
        assert file.n_snapshots == 4
        assert torch.equal(file.history().loss, run.loss)
        for place in range(4):
            assert torch.equal(file.snapshot(place), run.parameters[place])


@pytest.mark.parametrize(
    ("storage", "precision"), [("float16", 2**-11), ("bfloat16", 2**-8)]
)
def test_half_precision_rounds_all_but_what_training_goes_on_with(
    tmp_path, storage, precision
):
    run = write(tmp_path, run=make_run(n_parameters=1000), storage=storage)
    again = read(tmp_path)
    assert torch.equal(again.last, run.last)
    with TeacherFile(tmp_path, 0, "b") as file:
        rows = torch.stack([file.snapshot(place) for place in range(4)])
    assert rows.dtype == torch.float32
    error = (rows - run.parameters).abs() / run.parameters.abs()
    # Below 2^-14 float16 has fewer bits.
    error = error[run.parameters.abs() > 2**-14]
    assert precision / 2 < error.max() <= precision
    assert torch.equal(rows, again.parameters)
    # Rounding twice is rounding once, and the same content is the same file.
    before = teacher_path(tmp_path, 0).read_bytes()
    write(tmp_path, run=again, storage=storage)
    assert teacher_path(tmp_path, 0).read_bytes() == before


@pytest.mark.parametrize(
    ("storage", "velocity", "average", "expected"),
    [
        ("float32", False, False, 4 * 51),
        ("float32", False, True, 4 * 51 + 4),
        ("float16", False, False, 2 * 51 + 4),
        ("bfloat16", True, True, 2 * 51 + 4 + 4),
    ],
)
def test_bytes_per_parameter(tmp_path, storage, velocity, average, expected):
    n = 20_000
    run = make_run(50, n, velocity=velocity, average=average)
    write(tmp_path, run=run, storage=storage)
    size = teacher_path(tmp_path, 0).stat().st_size
    assert expected * n < size < expected * n + 8000


def test_teachers_are_safetensors_of_one_file_each(tmp_path):
    for teacher in range(2):
        write(tmp_path, teacher, make_run(seed=teacher))
    names = ["teacher-00000.safetensors", "teacher-00001.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    with safe_open(tmp_path / names[1], framework="numpy") as file:
        stored = file.get_tensor("parameters")
    assert np.array_equal(stored, make_run(seed=1).parameters.numpy())
    # A pickle starts like this, and a zip of them as torch writes it like that.
    assert (tmp_path / names[0]).read_bytes()[:2] not in (b"\x80\x04", b"PK")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_write_that_breaks_off_leaves_no_file(tmp_path, monkeypatch, error):
    def half(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise error("no more power")

    monkeypatch.setattr("skdistill.trajectory._store.save_file", half)
    with pytest.raises(error, match="no more power"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_write_that_breaks_off_keeps_the_file_before_it(tmp_path, monkeypatch):
    write(tmp_path)

    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("skdistill.trajectory._store.save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, run=make_run(seed=1))
    assert torch.equal(read(tmp_path).parameters, make_run().parameters)


def test_new_manifest_does_not_take_the_place_of_another(tmp_path, stored):
    content = read_manifest(stored)
    new = tmp_path / "new"
    new.mkdir()
    assert write_manifest(new, content | {"seed": 1}, new=True)
    assert not write_manifest(new, content | {"seed": 2}, new=True)
    assert read_manifest(new)["seed"] == 1
    assert [path.name for path in new.iterdir()] == ["manifest.json"]


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


def flip_a_byte_of_the_header(path):
    content = path.read_bytes()
    place = content.index(b"checksum") + 14
    other = b"0" if content[place : place + 1] != b"0" else b"1"
    path.write_bytes(content[:place] + other + content[place + 1 :])


def replace_by_other_tensors(path):
    save_file({"weights": torch.zeros(3)}, path)


def remove_checksum(path):
    save_file(tensors_of(path), path)


def replace_by_other_teacher(path):
    shutil.copy(teacher_path(path.parent, 1), path)


def replace_by_teacher_of_another_buffer(path):
    write(path.parent)


DAMAGES = [
    truncate,
    empty,
    replace_by_text,
    flip_last_byte,
    flip_a_byte_of_the_header,
    replace_by_other_tensors,
    remove_checksum,
    replace_by_other_teacher,
    replace_by_teacher_of_another_buffer,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_teacher_is_named(stored, damage, make_buffer, bars, monkeypatch):
    damage(teacher_path(stored, 0))

    def train(*args):
        raise AssertionError("trained before the damage was found")

    # Three teachers are asked for, of which the third would have to be trained.
    monkeypatch.setattr("skdistill.trajectory._jobs.Teachers", train)
    with pytest.raises(ValueError, match=r"teacher-00000\.safetensors"):
        make_buffer(path=stored, n_teachers=3).fit(*bars)
    if damage is not flip_last_byte:
        with pytest.raises(ValueError, match=r"teacher-00000\.safetensors"):
            TrajectoryBuffer.load(stored)


def test_altered_snapshot_is_found_when_it_is_used(stored):
    """Loading does not read gigabytes; the sound snapshots can be used."""
    flip_last_byte(teacher_path(stored, 0))
    buffer = TrajectoryBuffer.load(stored)
    with pytest.raises(ValueError, match=r"teacher-00000.*checksum \(snapshot 3\)"):
        buffer.snapshot(0, 3)
    assert np.isfinite(buffer.snapshot(0, 2)).all()


def test_altered_after_it_was_read(stored):
    buffer = TrajectoryBuffer.load(stored)
    before = buffer.snapshot(0, 3)
    assert np.array_equal(buffer.snapshot(0, 3), before)
    flip_last_byte(teacher_path(stored, 0))
    with pytest.raises(ValueError, match=r"teacher-00000.*checksum"):
        buffer.snapshot(0, 3)


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
            r"manifest\.json has format version 1; this version of skdistill reads",
        ),
        (
            '{"format": "skdistill-trajectories", "version": 3}',
            r"manifest\.json is damaged: it lacks \['parameters', 'settings'",
        ),
    ],
)
def test_bad_manifest_is_named(tmp_path, text, message):
    manifest_path(tmp_path).write_text(text)
    with pytest.raises(ValueError, match=message):
        TrajectoryBuffer.load(tmp_path)


def test_altered_manifest_is_found(stored):
    path = manifest_path(stored)
    text = path.read_text()
    path.write_text(text.replace('"learning_rate": 0.05', '"learning_rate": 0.06'))
    with pytest.raises(ValueError, match=r"manifest\.json does not match its checksum"):
        TrajectoryBuffer.load(stored)


def test_teachers_are_bound_to_what_the_manifest_says(stored):
    """Another fit may have replaced the manifest while they were trained."""
    content = read_manifest(stored)
    content["settings"]["learning_rate"] = 0.06
    write_manifest(stored, content)
    with pytest.raises(ValueError, match=r"teacher-00000.*data or settings differ"):
        TrajectoryBuffer.load(stored)


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
