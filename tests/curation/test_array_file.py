"""Images for which memory is too small: a file that is whole or not there."""

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skdistill.curation import ImageReader
from skdistill.curation import _job as job_module
from skdistill.curation._array_file import ArrayFile
from skdistill.datasets import load_image_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for number in range(200):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def rows():
    return pd.DataFrame({"asset_id": np.arange(200), "rotation": 90.0})


def reader_of(folder, **params):
    return ImageReader(images_dir=folder, size=6, **params)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_the_file_has_the_same_images(folder, rows, tmp_path, n_jobs):
    expected = reader_of(folder).transform(rows)
    out = tmp_path / "new" / "X.npy"
    reader = reader_of(folder, out=out, n_jobs=n_jobs)
    X = reader.fit_transform(rows)
    assert isinstance(X, np.memmap)
    assert not X.flags.writeable
    np.testing.assert_array_equal(X, expected)
    np.testing.assert_array_equal(np.load(out), expected)
    assert os.listdir(out.parent) == ["X.npy"]
    # Another call replaces the file, and not what was mapped before.
    again = reader.transform(rows.iloc[:70])
    np.testing.assert_array_equal(again, expected[:70])
    np.testing.assert_array_equal(X, expected)


def test_images_that_are_left_out(folder, rows, tmp_path):
    rows.loc[[0, 63, 64, 65, 130, 199], "asset_id"] = 1000
    reader = reader_of(folder, out=str(tmp_path / "X.npy"), on_error="skip")
    with pytest.warns(UserWarning, match="6 of 200"):
        X = reader.transform(rows)
    keep = np.setdiff1d(np.arange(200), [0, 63, 64, 65, 130, 199])
    assert reader.sample_indices_.tolist() == keep.tolist()
    np.testing.assert_array_equal(X, reader_of(folder).transform(rows.iloc[keep]))
    assert os.listdir(tmp_path) == ["X.npy"]


class Interruption:
    """Let some batches pass, then interrupt; count the files that are read."""

    def __init__(self, monkeypatch, after):
        self.n_read = 0
        decode = job_module.decode

        def counted(content, *others):
            self.n_read += 1
            if self.n_read > after:
                raise KeyboardInterrupt
            return decode(content, *others)

        monkeypatch.setattr(job_module, "decode", counted)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_goes_on_after_an_interrupt(folder, rows, tmp_path, monkeypatch, on_error):
    out = tmp_path / "X.npy"
    np.save(out, np.zeros(3))
    reader = reader_of(folder, out=out, on_error=on_error)
    if on_error == "skip":
        rows.loc[5, "asset_id"] = -1
    with monkeypatch.context() as patch:
        Interruption(patch, after=150)
        with pytest.raises(KeyboardInterrupt):
            reader.transform(rows)
    # What was there before is untouched.
    assert np.load(out).shape == (3,)
    with monkeypatch.context() as patch:
        second = Interruption(patch, after=1000)
        if on_error == "skip":
            with pytest.warns(UserWarning, match="1 of 200"):
                X = reader.transform(rows)
            assert reader.sample_indices_.tolist() == [*range(5), *range(6, 200)]
        else:
            X = reader.transform(rows)
    # Two batches of 64 were whole; one image is read to learn of the form.
    assert second.n_read == 200 - 128 + 1
    expected = reader_of(folder).transform(rows[rows["asset_id"] >= 0])
    np.testing.assert_array_equal(X, expected)
    assert os.listdir(tmp_path) == ["X.npy"]


def test_goes_on_after_a_damaged_file_was_mended(folder, rows, tmp_path, monkeypatch):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    paths = [str(folder / f"{i}.png") for i in range(200)]
    paths[190] = str(bad)
    reader = ImageReader(size=6, out=tmp_path / "X.npy")
    with pytest.raises(ValueError, match=r"Row 190: cannot read .*bad.png"):
        reader.transform(paths)
    assert not (tmp_path / "X.npy").exists()
    bad.write_bytes((folder / "190.png").read_bytes())
    counted = Interruption(monkeypatch, after=1000)
    X = reader.transform(paths)
    assert counted.n_read == 200 - 2 * 64 + 1
    np.testing.assert_array_equal(X, ImageReader(size=6).transform(paths))


@pytest.mark.parametrize("read", ["reader", "folder"])
def test_warnings_of_an_interrupted_call_are_told_by_the_next(
    tmp_path, monkeypatch, read
):
    module = importlib.import_module(
        "skdistill.curation._job"
        if read == "reader"
        else "skdistill.datasets._image_folder"
    )
    name = "decode" if read == "reader" else "decode_picture"
    images = tmp_path / "class"
    images.mkdir()
    for i in range(70):
        alpha = 100 if i in (3, 68) else 255
        Image.new("RGBA", (8, 8), (i, i, i, alpha)).save(images / f"{i:02}.png")
    paths = sorted(images.iterdir())
    # Each image at two angles, which are decoded once.
    rows = pd.DataFrame({"path": np.repeat(paths, 2), "rotation": [0, 90] * 70})
    out = tmp_path / "X.npy"

    def load():
        if read == "reader":
            return ImageReader(size=6, out=out).transform(rows)
        table = pd.DataFrame({"path": paths, "class": [0, 1] * 35})
        return load_image_folder(table, out=out, return_X_y=True, verbose=0)[0]

    decode, done = getattr(module, name), []

    def interrupted(*args, **kwargs):
        done.append(1)
        # One is read to learn of the form.
        if len(done) > 66:
            raise KeyboardInterrupt
        return decode(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            load()
    expected = "4 of 140" if read == "reader" else "2 of 70"
    with pytest.warns(UserWarning, match=f"{expected} images have transparent") as told:
        load()
    assert len(told) == 1
    assert len(done) == 67


@pytest.mark.parametrize("change", ["crop", "rotation", "file", "notes", "size"])
def test_what_has_changed_is_read_again(folder, rows, tmp_path, monkeypatch, change):
    out = tmp_path / "X.npy"
    source = tmp_path / "5.png"
    source.write_bytes((folder / "5.png").read_bytes())
    rows["path"] = [str(folder / f"{i}.png") for i in rows["asset_id"]]
    rows.loc[5, "path"] = str(source)
    with monkeypatch.context() as patch:
        Interruption(patch, after=150)
        with pytest.raises(KeyboardInterrupt):
            reader_of(folder, out=out).transform(rows)
    params = {}
    if change == "crop":
        params = {"crop": 0.9}
    elif change == "rotation":
        rows.loc[3, "rotation"] = 180.0
    elif change == "file":
        source.write_bytes((folder / "9.png").read_bytes())
        os.utime(source, ns=(1, 1))
    elif change == "notes":
        (tmp_path / "X.npy.part.json").write_text('{"header": 5')
    else:
        params = {"size": 7}
    X = ImageReader(**({"size": 6} | params), out=out).transform(rows)
    expected = ImageReader(**({"size": 6} | params)).transform(rows)
    np.testing.assert_array_equal(X, expected)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_stays_and_the_file_is_on_its_disk(folder, rows, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    link = tmp_path / "X.npy"
    link.symlink_to(disk / "large.npy")
    X = reader_of(folder, out=link).transform(rows[:20])
    assert link.is_symlink()
    assert os.listdir(disk) == ["large.npy"]
    np.testing.assert_array_equal(np.load(link), X)


def test_two_at_once(folder, rows, tmp_path):
    pytest.importorskip("fcntl")
    with (
        ArrayFile(tmp_path / "X.npy", (5, 2), np.uint8, ["a"]),
        pytest.raises(BlockingIOError, match="written by another process"),
    ):
        reader_of(folder, out=tmp_path / "X.npy").transform(rows)


def test_wrong_out(folder, rows, tmp_path):
    with pytest.raises(ValueError, match=r"`out` must end in '\.npy'; got 'X'"):
        reader_of(folder, out="X").transform(rows)
    with pytest.raises(ValueError, match="The 'out' parameter"):
        reader_of(folder, out=5).transform(rows)


def test_a_disk_that_is_too_small(folder, rows, tmp_path, monkeypatch):
    usage = (10**9, 10**9 - 1000, 1000)
    named = type("usage", (), dict(zip(("total", "used", "free"), usage, strict=True)))
    monkeypatch.setattr("shutil.disk_usage", lambda path: named)
    with pytest.raises(OSError, match=r"X.npy'` needs 0.0 GB more on its disk"):
        reader_of(folder, out=tmp_path / "X.npy").transform(rows)
    assert not (tmp_path / "X.npy").exists()


def test_a_killed_process(folder, tmp_path):
    """No finaliser runs; the notes of every few seconds are all there is."""
    out = tmp_path / "X.npy"
    code = f"""
        import pandas as pd, time
        from skdistill.curation import ImageReader, _array_file, _job
        _array_file._SECONDS_BETWEEN_NOTES = 0.0
        decode = _job.decode
        def slow(*arguments):
            time.sleep(0.01)
            return decode(*arguments)
        _job.decode = slow
        rows = pd.DataFrame({{"asset_id": range(200)}})
        reader = ImageReader(images_dir={str(folder)!r}, size=6, out={str(out)!r})
        reader.transform(rows)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    notes = tmp_path / "X.npy.part.json"
    deadline = time.monotonic() + 60
    while not notes.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert notes.exists()
    assert not out.exists()
    rows = pd.DataFrame({"asset_id": range(200)})
    X = reader_of(folder, out=out).transform(rows)
    np.testing.assert_array_equal(X, reader_of(folder).transform(rows))
    assert os.listdir(tmp_path) == ["X.npy"]


def test_progress(folder, rows, capsys):
    reader_of(folder, verbose=1).transform(rows)
    assert "200/200" in capsys.readouterr().err


def test_notes_of_an_attempt_between(folder, rows, tmp_path, monkeypatch):
    """What another call wrote over before it was killed is not taken for one's own."""
    out = tmp_path / "X.npy"
    with monkeypatch.context() as patch:
        Interruption(patch, after=150)
        with pytest.raises(KeyboardInterrupt):
            reader_of(folder, out=out).transform(rows)
    with monkeypatch.context() as patch:
        Interruption(patch, after=150)
        # A kill: no notes at the end.
        patch.setattr(ArrayFile, "__exit__", lambda self, *rest: self._file.close())
        with pytest.raises(KeyboardInterrupt):
            reader_of(folder, out=out, crop=0.9).transform(rows)
    X = reader_of(folder, out=out).transform(rows)
    np.testing.assert_array_equal(X, reader_of(folder).transform(rows))


def test_an_interrupt_while_rows_are_moved(folder, rows, tmp_path, monkeypatch):
    rows.loc[[3, 70], "asset_id"] = 1000
    reader = reader_of(folder, out=tmp_path / "X.npy", on_error="skip")
    compact = ArrayFile._compact

    def interrupted(self, keep):
        compact(self, keep)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ArrayFile, "_compact", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reader.transform(rows)
    assert not (tmp_path / "X.npy").exists()
    with pytest.warns(UserWarning, match="2 of 200"):
        X = reader.transform(rows)
    expected = reader_of(folder).transform(rows[rows["asset_id"] < 1000])
    np.testing.assert_array_equal(X, expected)
