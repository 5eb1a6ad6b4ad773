"""Looking into folders of teachers, and changing them."""

import pickle

import numpy as np
import pytest

from skdistill.trajectory import (
    TrajectoryBuffer,
    drop_teachers,
    list_teachers,
    merge_buffers,
)
from skdistill.trajectory._signature import teachers_signature
from skdistill.trajectory._store import teacher_path
from skdistill.utils._files import SharedFolder


def last(buffer):
    return [buffer.snapshot(k, buffer.n_epochs_) for k in range(buffer.n_teachers_)]


def same(found, expected):
    return len(found) == len(expected) and all(
        np.array_equal(one, other) for one, other in zip(found, expected, strict=True)
    )


@pytest.fixture
def stored(tmp_path, make_buffer, bars):
    """A folder of three teachers."""
    folder = tmp_path / "stored"
    make_buffer(n_teachers=3, path=folder).fit(*bars)
    return folder


class TestList:
    def test_of_a_complete_buffer(self, stored):
        found = list_teachers(stored)
        history = TrajectoryBuffer.load(stored).history_.query("epoch == 3")
        assert found.index.tolist() == [0, 1, 2]
        assert found["n_epochs"].tolist() == [3] * 3
        assert found["n_snapshots"].tolist() == [4] * 3
        assert found["loss"].tolist() == history["loss"].tolist()
        assert found["accuracy"].tolist() == history["accuracy"].tolist()
        sizes = [teacher_path(stored, number).stat().st_size for number in range(3)]
        assert found["bytes"].tolist() == sizes
        assert found["complete"].all()
        assert found["problem"].eq("").all()

    def test_of_one_that_is_not(self, stored):
        path = teacher_path(stored, 1)
        path.write_bytes(path.read_bytes()[:-9])
        teacher_path(stored, 2).unlink()
        found = list_teachers(stored)
        assert found.index.tolist() == [0, 1]
        assert found["complete"].tolist() == [True, False]
        assert "teacher-00001" in found["problem"][1]

    def test_without_teachers(self, stored):
        for number in range(3):
            teacher_path(stored, number).unlink()
        assert list_teachers(stored).shape == (0, 7)

    def test_without_buffer(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"holds no trajectory buffer"):
            list_teachers(tmp_path)


class TestDrop:
    def test_for_good(self, stored, make_buffer, bars):
        before = last(TrajectoryBuffer.load(stored))
        drop_teachers(stored, [1])
        assert list_teachers(stored).index.tolist() == [0, 2]
        loaded = TrajectoryBuffer.load(stored)
        assert loaded.n_teachers == 2
        assert same(last(loaded), [before[0], before[2]])
        # As many again: another one, not the one that was dropped.
        more = make_buffer(n_teachers=3, path=stored).fit(*bars)
        assert list_teachers(stored).index.tolist() == [0, 2, 3]
        whole = make_buffer(n_teachers=4).fit(*bars)
        assert same(last(more), [last(whole)[number] for number in (0, 2, 3)])
        assert same(last(TrajectoryBuffer.load(stored)), last(more))
        drop_teachers(stored, 3)
        assert TrajectoryBuffer.load(stored).n_teachers_ == 2

    def test_unknown_ones(self, stored):
        with pytest.raises(ValueError, match=r"`teachers` must be.*got \[7, 9\]"):
            drop_teachers(stored, [0, 9, 7])
        assert list_teachers(stored).index.tolist() == [0, 1, 2]

    @pytest.mark.parametrize(
        "teachers", ["12", [1.0], [True, False, True], np.array([False, True]), True]
    )
    def test_what_is_no_number(self, stored, teachers):
        # Masks and the digits of a string are not read as numbers.
        with pytest.raises(TypeError, match=r"`teachers` must be the number.*got"):
            drop_teachers(stored, teachers)
        assert list_teachers(stored).index.tolist() == [0, 1, 2]

    def test_numbers_of_numpy(self, stored):
        table = list_teachers(stored)
        drop_teachers(stored, table.index[table["loss"] > 0][:2])
        assert list_teachers(stored).index.tolist() == [2]


class TestMerge:
    def test_teachers_of_two_seeds(self, stored, tmp_path, make_buffer, bars):
        other = make_buffer(n_epochs=4, random_state=1, path=tmp_path / "b").fit(*bars)
        merge_buffers([stored, tmp_path / "b"], tmp_path / "all")
        merged = TrajectoryBuffer.load(tmp_path / "all")
        assert (merged.n_teachers_, merged.n_epochs_) == (5, 3)
        first = last(TrajectoryBuffer.load(stored))
        assert same(last(merged), first + [other.snapshot(k, 3) for k in range(2)])
        # Each goes on with its own seed.
        longer = make_buffer(n_teachers=5, n_epochs=4, path=tmp_path / "all").fit(*bars)
        expected = make_buffer(n_teachers=3, n_epochs=4).fit(*bars)
        assert same(last(longer), last(expected) + last(other))

    def test_workers_that_do_not_see_the_folder(
        self, stored, tmp_path, make_buffer, bars, monkeypatch
    ):
        make_buffer(n_epochs=4, random_state=1, path=tmp_path / "b").fit(*bars)
        merge_buffers([stored, tmp_path / "b"], tmp_path / "all")
        monkeypatch.setattr(SharedFolder, "is_here", lambda self: False)
        longer = make_buffer(n_teachers=5, n_epochs=5, path=tmp_path / "all").fit(*bars)
        again = make_buffer(n_teachers=5, n_epochs=5, path=tmp_path / "all").fit(*bars)
        first = make_buffer(n_teachers=3, n_epochs=5).fit(*bars)
        expected = make_buffer(n_epochs=5, random_state=1).fit(*bars)
        assert same(last(longer), last(first) + last(expected))
        assert same(last(again), last(longer))

    def test_teachers_of_one_seed_are_taken_once(
        self, stored, tmp_path, make_buffer, bars
    ):
        make_buffer(n_teachers=4, path=tmp_path / "b").fit(*bars)
        drop_teachers(tmp_path / "b", 0)
        merge_buffers([stored, str(tmp_path / "b")], tmp_path / "all")
        whole = make_buffer(n_teachers=4).fit(*bars)
        assert same(last(TrajectoryBuffer.load(tmp_path / "all")), last(whole))

    def test_half_precision_loses_nothing_more(self, tmp_path, make_buffer, bars):
        for seed in range(2):
            make_buffer(
                random_state=seed, storage="bfloat16", path=tmp_path / str(seed)
            ).fit(*bars)
        merge_buffers([tmp_path / "0", tmp_path / "1"], tmp_path / "all")
        parts = [TrajectoryBuffer.load(tmp_path / str(seed)) for seed in range(2)]
        merged = TrajectoryBuffer.load(tmp_path / "all")
        assert same(last(merged), last(parts[0]) + last(parts[1]))
        assert merged.storage == "bfloat16"

    def test_what_cannot_be_merged(self, stored, tmp_path, make_buffer, bars):
        make_buffer(learning_rate=0.1, path=tmp_path / "b").fit(*bars)
        target = tmp_path / "all"
        with pytest.raises(ValueError, match=r"rate: found 0\.05, expected 0\.1"):
            merge_buffers([stored, tmp_path / "b"], target)
        with pytest.raises(ValueError, match="at least two folders; got 1"):
            merge_buffers([stored], target)
        with pytest.raises(ValueError, match="`path` must be a new or empty"):
            merge_buffers([stored, stored], tmp_path / "b")
        with pytest.raises(FileNotFoundError, match=r"nowhere"):
            merge_buffers([stored, tmp_path / "nowhere"], target)
        make_buffer(random_state=1, path=tmp_path / "c").fit(*bars)
        path = teacher_path(tmp_path / "c", 1)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"teacher-00001.*checksum"):
            merge_buffers([stored, tmp_path / "c"], target)
        assert not (target / "manifest.json").exists()


def test_other_teachers_have_another_signature(tmp_path, make_buffer, bars):
    """As many of the same seed and settings, after some were dropped or merged."""
    one = make_buffer(n_epochs=1, path=tmp_path / "one")
    first = teachers_signature(one.fit(*bars))
    assert first == teachers_signature(make_buffer(n_epochs=1).fit(*bars))
    assert first["teachers' seed"] == 0
    merged = []
    for seed in (1, 2):
        other = {"n_epochs": 1, "n_teachers": 1, "random_state": seed}
        make_buffer(path=tmp_path / f"{seed}", **other).fit(*bars)
        merge_buffers([tmp_path / "one", tmp_path / f"{seed}"], tmp_path / f"+{seed}")
        merged.append(teachers_signature(TrajectoryBuffer.load(tmp_path / f"+{seed}")))
    assert merged[0]["number of teachers"] == merged[1]["number of teachers"] == 3
    assert merged[0] != merged[1]
    drop_teachers(tmp_path / "one", 0)
    assert teachers_signature(one.fit(*bars)) != first


def test_a_relative_path_after_the_working_directory_has_changed(
    tmp_path, make_buffer, bars, monkeypatch
):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    buffer = make_buffer(n_epochs=1, path="teachers").fit(*bars)
    expected = last(buffer)
    monkeypatch.chdir(tmp_path / "other")
    assert same(last(buffer), expected)
    assert same(last(pickle.loads(pickle.dumps(buffer))), expected)
    # The folder of a pickle may have moved with the work around it.
    monkeypatch.chdir(tmp_path)
    stored = pickle.dumps(buffer)
    (tmp_path / "teachers").rename(tmp_path / "other" / "teachers")
    monkeypatch.chdir(tmp_path / "other")
    assert same(last(pickle.loads(stored)), expected)


def test_a_file_is_no_folder(tmp_path, make_buffer, bars):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ValueError, match=r"`path` must be a folder; .*file is a file"):
        make_buffer(path=tmp_path / "file").fit(*bars)
