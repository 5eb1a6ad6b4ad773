"""Going on with teachers: more of them, more epochs, after kills, side by side."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from sklearn.base import clone

import skdistill.trajectory._buffer as module
from skdistill.trajectory import TrajectoryBuffer, list_teachers
from skdistill.trajectory._store import teacher_path


def snapshots(buffer):
    return np.array(
        [
            [buffer.snapshot(teacher, epoch) for epoch in buffer.snapshot_epochs_]
            for teacher in range(buffer.n_teachers_)
        ]
    )


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


OPTIONS = [
    {},
    {"momentum": 0.9, "weight_decay": 0.01},
    {"momentum": 0.5, "storage": "float16"},
    {"storage": "bfloat16", "snapshots_per_epoch": (3, 2)},
    {"average": False},
    {"average": False, "momentum": 0.5, "storage": "float16"},
    {"average": False, "storage": "bfloat16", "snapshots_per_epoch": (3, 2)},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_more_epochs_are_the_same_bits_as_all_at_once(
    tmp_path, make_buffer, bars, options
):
    whole = make_buffer(n_epochs=5, path=tmp_path / "whole", **options).fit(*bars)
    for n_epochs in (1, 3, 5):
        part = make_buffer(n_epochs=n_epochs, path=tmp_path / "parts", **options)
        part.fit(*bars)
    assert np.array_equal(snapshots(part), snapshots(whole))
    assert part.history_.equals(whole.history_)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_more_teachers_and_more_epochs_at_once(tmp_path, make_buffer, bars):
    make_buffer(n_teachers=1, n_epochs=2, path=tmp_path / "parts").fit(*bars)
    make_buffer(n_teachers=3, n_epochs=3, path=tmp_path / "parts").fit(*bars)
    make_buffer(n_teachers=3, n_epochs=3, path=tmp_path / "whole").fit(*bars)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_fewer_epochs_are_the_first_ones(tmp_path, make_buffer, bars, monkeypatch):
    long = make_buffer(n_epochs=4, path=tmp_path).fit(*bars)
    before = files(tmp_path)

    def train(*args):
        raise AssertionError("a teacher was trained")

    monkeypatch.setattr("skdistill.trajectory._jobs.Teachers", train)
    short = make_buffer(n_teachers=1, n_epochs=2, path=tmp_path).fit(*bars)
    assert np.array_equal(snapshots(short), snapshots(long)[:1, :3])
    expected = long.history_.query("epoch <= 2 and teacher == 0")
    assert short.history_.equals(expected.reset_index(drop=True))
    with pytest.raises(ValueError, match=r"`epoch` must be from 0 to 2; got 3"):
        short.snapshot(0, 3)
    # What is there is not forgotten.
    assert files(tmp_path) == before
    assert TrajectoryBuffer.load(tmp_path).n_epochs_ == 4
    assert TrajectoryBuffer.load(tmp_path, n_epochs=3, n_teachers=1).n_epochs_ == 3
    with pytest.raises(ValueError, match=r"not complete: 2 of 2 teachers.* 5 epochs"):
        TrajectoryBuffer.load(tmp_path, n_epochs=5)
    with pytest.raises(ValueError, match="'n_teachers' parameter"):
        TrajectoryBuffer.load(tmp_path, n_teachers=0)


def test_what_is_done_of_a_teacher_is_stored_now_and_then(
    tmp_path, make_buffer, bars, monkeypatch
):
    monkeypatch.setattr("skdistill.trajectory._jobs._STORE_SECONDS", 0.0)
    import skdistill.trajectory._jobs as module

    class Interrupted(module.Teachers):
        def train(self):
            for epoch in super().train():
                if epoch == 3:
                    raise KeyboardInterrupt
                yield epoch

    settings = {"n_epochs": 5, "momentum": 0.9}
    with monkeypatch.context() as context:
        context.setattr(module, "Teachers", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_buffer(path=tmp_path / "cut", **settings).fit(*bars)
    found = list_teachers(tmp_path / "cut")
    assert found["n_epochs"].tolist() == [2]
    assert found["complete"].tolist() == [False]
    with pytest.raises(ValueError, match=r"not complete: 2 of 2.*teacher-00000"):
        TrajectoryBuffer.load(tmp_path / "cut")
    make_buffer(path=tmp_path / "cut", **settings).fit(*bars)
    make_buffer(path=tmp_path / "whole", **settings).fit(*bars)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


SETTINGS = {
    "n_epochs": 6,
    "width": 4,
    "depth": 2,
    "momentum": 0.9,
    "device": "cpu",
}


def make_data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 8, 8, 1)).astype(np.float32), np.arange(60) % 2


SCRIPT = textwrap.dedent(
    f"""
    import sys
    import numpy as np
    from skdistill.trajectory import TrajectoryBuffer, _jobs
    _jobs._STORE_SECONDS = 0.0
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 8, 8, 1)).astype(np.float32), np.arange(60) % 2
    buffer = TrajectoryBuffer(
        path=sys.argv[1],
        n_teachers=int(sys.argv[2]),
        random_state=None if sys.argv[3] == "none" else int(sys.argv[3]),
        **{SETTINGS},
    )
    print("ready", flush=True)
    buffer.fit(X, y)
    """
)


def start(folder, n_teachers, seed=0):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(n_teachers), str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_kills_lose_nothing_that_was_done(tmp_path):
    """Two processes share a buffer; one after the other is killed as it trains."""
    rng = np.random.default_rng()
    processes = [start(tmp_path / "killed", 8) for _ in range(3)]
    n_epochs = 0
    for process in processes[:2]:
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.0, 0.3))
        process.kill()
        process.wait()
        if (tmp_path / "killed" / "manifest.json").exists():
            now = list_teachers(tmp_path / "killed")
            assert now["problem"].eq("").all()
            assert now["n_epochs"].sum() >= n_epochs
            n_epochs = now["n_epochs"].sum()
    _, errors = processes[2].communicate(timeout=300)
    assert processes[2].returncode == 0, errors
    whole = TrajectoryBuffer(
        n_teachers=8, path=tmp_path / "whole", random_state=0, **SETTINGS
    )
    whole.fit(*make_data())
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    # What a kill left just after the last process had looked goes with the next fit.
    clone(whole).set_params(path=tmp_path / "killed").fit(*make_data())
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert not list((tmp_path / "killed").glob(".teacher*"))
    assert len(files(tmp_path / "whole")) == 8


def test_two_processes_share_the_work(tmp_path):
    """Neither has a seed: the first to come decides for both."""
    processes = [start(tmp_path, 6, "none") for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    found = list_teachers(tmp_path)
    assert found.index.tolist() == list(range(6))
    assert found["complete"].all()
    assert TrajectoryBuffer.load(tmp_path).n_teachers_ == 6
    hidden = [path.name for path in tmp_path.glob(".*") if "teacher" in path.name]
    assert hidden == []
    assert teacher_path(tmp_path, 5).exists()


def test_what_a_kill_left_half_written_is_removed(tmp_path, make_buffer, bars):
    half = tmp_path / ".teacher-00000.safetensors.abc.part"
    half.mkdir()
    (half / ".lock").write_bytes(b"1")
    (half / "teacher-00000.safetensors").write_bytes(b"half of it")
    make_buffer(path=tmp_path).fit(*bars)
    assert not half.exists()
    assert not list(tmp_path.glob(".teacher*"))
    # A kill just after the file has its name: nobody writes this teacher again.
    half.mkdir()
    (half / ".lock").write_bytes(b"1")
    make_buffer(path=tmp_path).fit(*bars)
    assert not half.exists()


@pytest.mark.parametrize("changes", [{"random_state": 1}, {"learning_rate": 0.01}])
def test_two_different_fits_do_not_mix_their_teachers(
    tmp_path, make_buffer, bars, monkeypatch, changes
):
    """The second begins before the first has stored anything: the folder is its own."""
    train = module.train_missing

    def stop(*_):
        raise KeyboardInterrupt

    def begin_another(*args):
        monkeypatch.setattr(module, "train_missing", stop)
        with pytest.raises(KeyboardInterrupt):
            make_buffer(path=tmp_path, **changes).fit(*bars)
        return train(*args)

    monkeypatch.setattr(module, "train_missing", begin_another)
    with pytest.raises(ValueError, match="in use by another fit with different data"):
        make_buffer(path=tmp_path).fit(*bars)
    monkeypatch.undo()
    found = make_buffer(path=tmp_path, **changes).fit(*bars)
    assert np.array_equal(
        snapshots(found), snapshots(make_buffer(**changes).fit(*bars))
    )
