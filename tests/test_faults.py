"""What can go wrong around a run of days: nothing is lost, and it goes on to the bits.

Processes that are killed at random moments are in ``soak.py``, of which a short form
runs here; other tests of kills are beside the modules that they are of.
"""

import errno
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch

import skdistill.distillation._engine._checkpoint as checkpoint_module
import skdistill.distillation._engine._state as run_module
import skdistill.distillation._objectives._trajectory as matcher_module
import skdistill.trajectory._jobs as jobs_module
from skdistill import ImageReader, STMDistiller, SyntheticSet, TrajectoryBuffer
from skdistill.distillation._objectives._trajectory_distance import match_gradient
from skdistill.utils._files import claim

STATE = "state.safetensors"


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """As in processes that were forked: with two the last bits may be others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bars():
    """Images (18, 8, 8, 1) of lying bars, standing bars and noise, and labels."""
    rng = np.random.default_rng(0)
    X = rng.normal(0, 0.3, (18, 8, 8, 1)).astype(np.float32)
    y = np.arange(18) % 3
    X[y == 0, 3] += 2
    X[y == 1, :, 3] += 2
    X.flags.writeable = False
    return X, y


def make_teachers(**changes):
    settings = {
        "n_teachers": 2,
        "n_epochs": 3,
        "width": 4,
        "depth": 1,
        "learning_rate": 0.05,
        "momentum": 0.5,
        "random_state": 0,
        "device": "cpu",
    }
    return TrajectoryBuffer(**(settings | changes))


@pytest.fixture(scope="module")
def teachers(bars):
    return make_teachers().fit(*bars)


@pytest.fixture
def make(teachers, tmp_path):
    """Make a distiller of eight iterations, with a checkpoint in tmp_path."""

    def make(**changes):
        settings = {
            "buffer": teachers,
            "n_steps": 2,
            "step_size": 0.05,
            "max_total_iter": 8,
            "checkpoint": tmp_path / "run",
            "random_state": 0,
            "device": "cpu",
        }
        return STMDistiller(**(settings | changes))

    return make


@pytest.fixture(scope="module")
def expected(teachers, bars):
    """The distillation that nothing has happened to."""
    return STMDistiller(
        buffer=teachers,
        n_steps=2,
        step_size=0.05,
        max_total_iter=8,
        random_state=0,
        device="cpu",
    ).fit(*bars)


def assert_same(found, expected):
    """Compare two distillations, to the bits."""
    assert found.n_iter_ == expected.n_iter_
    assert found.stop_reason_ == expected.stop_reason_
    assert found.history_.equals(expected.history_)
    assert np.array_equal(found.synthetic_.X, expected.synthetic_.X)
    assert np.array_equal(found.best_synthetic_.X, expected.best_synthetic_.X)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


@pytest.fixture
def before_match(monkeypatch):
    """Return a function that has something done before the match of a number."""

    def do(number, work):
        counter = itertools.count()

        def match(*args, **kwargs):
            if next(counter) == number:
                work()
            return match_gradient(*args, **kwargs)

        monkeypatch.setattr(matcher_module, "match_gradient", match)

    return do


@pytest.fixture
def stored_always(monkeypatch):
    monkeypatch.setattr(checkpoint_module, "_SECONDS", -1.0)
    monkeypatch.setattr(jobs_module, "_STORE_SECONDS", -1.0)


def fail_with(error):
    def work():
        raise error

    return work


@pytest.fixture
def read_only():
    """Return a function that makes a folder read-only, for root too."""
    made = []

    def protect(folder):
        if os.geteuid():
            folder.chmod(0o555)
            made.append(lambda: folder.chmod(0o755))
            return
        command = f"mount --bind '{folder}' '{folder}'"
        command += f" && mount -o remount,bind,ro '{folder}'"
        if subprocess.run(command, shell=True, capture_output=True).returncode:
            pytest.skip("root writes everywhere, and nothing can be mounted here")
        made.append(lambda: subprocess.run(["umount", folder], check=True))

    yield protect
    for undo in made:
        undo()


@pytest.fixture
def small_disk(tmp_path):
    """Yield a folder on a disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


# Processes: forked off one that has imported everything, which saves seconds each.


@pytest.fixture(scope="module")
def start():
    """Return a function that runs code in a process of its own."""
    if sys.platform == "win32":
        pytest.skip("needs forkserver")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["skdistill.distillation", "skdistill.curation"])
    started = []

    def start(code):
        code = "import torch\ntorch.set_num_threads(1)\n" + textwrap.dedent(code)
        process = context.Process(target=exec, args=(code, {"__name__": "program"}))
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.exitcode is None:
            process.kill()


SETTING = """
import os, signal, sys, time
import numpy as np
import skdistill.distillation._engine._checkpoint as checkpoint_module
import skdistill.distillation._trajectory_matching as trajectory_module
import skdistill.distillation._objectives._trajectory as matcher_module
import skdistill.trajectory._jobs as jobs_module
from skdistill import STMDistiller, TrajectoryBuffer

rng = np.random.default_rng(0)
X = rng.normal(0, 0.3, (18, 8, 8, 1)).astype(np.float32)
y = np.arange(18) % 3
X[y == 0, 3] += 2
X[y == 1, :, 3] += 2
settings = dict(n_teachers=2, n_epochs=3, width=4, depth=1, learning_rate=0.05,
                momentum=0.5, random_state=0, device="cpu")
numbers = iter(range(1000))
real = matcher_module.match_gradient

def at(number, *signals):
    def match(*args, **kwargs):
        if next(numbers) == number:
            for each in signals:
                os.kill(os.getpid(), each)
        return real(*args, **kwargs)
    matcher_module.match_gradient = match

def make(folder):
    return STMDistiller(
        buffer=TrajectoryBuffer(**settings), n_steps=2, step_size=0.05,
        max_total_iter=8, checkpoint=folder, random_state=0, device="cpu")
"""


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_stopped(process):
    """Tell whether a process is stopped, as all are on a laptop that sleeps."""
    text = Path(f"/proc/{process.pid}/stat").read_text()
    return text.rpartition(")")[2].split()[0] == "T"


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


class TestTermination:
    def test_a_distillation_is_stored(self, start, make, bars, expected, tmp_path):
        process = start(
            SETTING
            + f"""
at(5, signal.SIGTERM)
make({str(tmp_path / "run")!r}).fit(X, y)
open({str(tmp_path / "went on")!r}, "w")
"""
        )
        process.join(120)
        # Of the signal, as whoever sent it expects.
        assert process.exitcode == -signal.SIGTERM
        assert not (tmp_path / "went on").exists()
        content = checkpoint_module.load_checkpoint(tmp_path / "run" / STATE)[1]
        assert content["progress"]["stop_reason"] == "interrupted"
        buffer = TrajectoryBuffer.load(tmp_path / "run" / "teachers")
        found = make(buffer=buffer).fit(*bars)
        assert_same(found, expected)

    def test_while_a_state_is_written(self, start, make, bars, expected, tmp_path):
        process = start(
            SETTING
            + f"""
checkpoint_module._SECONDS = -1.0
fsync = os.fsync
calls = iter(range(1000))

def slow(handle):
    if next(calls) == 4:
        os.kill(os.getpid(), signal.SIGTERM)
    fsync(handle)

fit_teachers = trajectory_module.fit_teachers

def fitted(*args, **settings):
    buffer = fit_teachers(*args, **settings)
    os.fsync = slow
    return buffer

trajectory_module.fit_teachers = fitted
make({str(tmp_path / "run")!r}).fit(X, y)
"""
        )
        process.join(120)
        assert process.exitcode == -signal.SIGTERM
        assert not list((tmp_path / "run").glob(".*.part"))
        buffer = TrajectoryBuffer.load(tmp_path / "run" / "teachers")
        assert_same(make(buffer=buffer).fit(*bars), expected)

    @pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGKILL])
    def test_workers_end_too(self, start, tmp_path, ended_by):
        """They would go on for hours with a teacher whose process is no more."""
        psutil = pytest.importorskip("psutil")
        process = start(
            SETTING
            + f"""
settings |= dict(n_epochs=10**6, n_teachers=2, path={str(tmp_path)!r}, n_jobs=2)
TrajectoryBuffer(**settings).fit(X, y)
"""
        )
        running = psutil.Process(process.pid)

        def is_worker(process):
            try:
                return "tracker" not in " ".join(process.cmdline())
            except psutil.NoSuchProcess:
                return False

        def workers():
            return list(filter(is_worker, running.children(recursive=True)))

        wait_until(lambda: len(workers()) >= 2)
        found = workers()
        # A worker that is still starting does not watch yet.
        wait_until(lambda: len(list(tmp_path.rglob("*.lock"))) >= 2)
        os.kill(process.pid, ended_by)
        process.join(60)
        assert process.exitcode == -ended_by
        _, alive = psutil.wait_procs(found, timeout=20)
        # A tracker that was just being started looked like a worker.
        assert list(filter(is_worker, alive)) == []


class TestTwoOnOneCheckpoint:
    def test_the_second_is_refused(self, make, bars, expected, tmp_path):
        folder = tmp_path / "run"
        refused = pytest.raises(
            BlockingIOError, match=r"`checkpoint`: .*run is in use by another fit"
        )
        with claim(folder / STATE), refused:
            make().fit(*bars)
        assert_same(make().fit(*bars), expected)
        assert [path.name for path in folder.iterdir()] == [STATE]

    def test_from_another_thread(self, make, bars, expected, before_match):
        met, leave = threading.Event(), threading.Event()

        def meet():
            met.set()
            assert leave.wait(60)

        before_match(3, meet)
        first = make()
        thread = threading.Thread(target=first.fit, args=bars)
        thread.start()
        assert met.wait(60)
        with pytest.raises(BlockingIOError, match="wait until it has ended"):
            make().fit(*bars)
        leave.set()
        thread.join()
        assert_same(first, expected)

    def test_a_failed_fit_lets_go(self, make, bars, expected, before_match):
        """Also while the error, and with it the frames of the fit, are still there."""
        before_match(3, fail_with(ZeroDivisionError("of a bug")))
        with pytest.raises(ZeroDivisionError) as kept:
            make().fit(*bars)
        assert_same(make().fit(*bars), expected)
        assert "same fit resumes" in kept.value.__notes__[0]

    @on_linux
    def test_a_sleeping_process_keeps_it(self, start, make, bars, expected, tmp_path):
        """And ends in the same bits when it wakes up."""
        process = start(
            SETTING
            + f"""
at(4, signal.SIGSTOP)
make({str(tmp_path / "run")!r}).fit(X, y)
"""
        )
        wait_until(lambda: process.pid is not None and is_stopped(process))
        with pytest.raises(BlockingIOError, match="another fit"):
            make().fit(*bars)
        os.kill(process.pid, signal.SIGCONT)
        process.join(60)
        assert process.exitcode == 0
        buffer = TrajectoryBuffer.load(tmp_path / "run" / "teachers")
        assert_same(make(buffer=buffer).fit(*bars), expected)


@on_linux
def test_two_on_one_buffer_of_which_one_sleeps(start, bars, tmp_path):
    """The other waits for its teacher instead of training it, too."""
    process = start(
        SETTING
        + f"""
class Teachers(jobs_module.Teachers):
    def train(self):
        for epoch in super().train():
            if epoch == 2:
                os.kill(os.getpid(), signal.SIGSTOP)
            yield epoch

jobs_module.Teachers = Teachers
TrajectoryBuffer(path={str(tmp_path / "shared")!r}, **settings).fit(X, y)
"""
    )
    wait_until(lambda: is_stopped(process))
    threading.Timer(1.5, os.kill, (process.pid, signal.SIGCONT)).start()
    # It stops once more, with its second teacher, if that is left to it.
    began = time.monotonic()
    fit = threading.Thread(
        target=make_teachers(path=tmp_path / "shared").fit, args=bars
    )
    fit.start()
    fit.join(60)
    assert not fit.is_alive()
    assert time.monotonic() - began > 1.0
    process.join(60)
    assert process.exitcode == 0
    make_teachers(path=tmp_path / "alone").fit(*bars)
    assert files(tmp_path / "shared") == files(tmp_path / "alone")


def test_a_clock_that_jumps(make, bars, expected, tmp_path, monkeypatch, stored_always):
    """By years, back and forth: nothing waits, ends or is taken for old by it."""
    real = time.time()
    jumps = itertools.cycle([0.0, 1e8, -1e8, 3e8, -4e8])
    monkeypatch.setattr(time, "time", lambda: real + next(jumps))
    monkeypatch.setattr(time, "time_ns", lambda: int((real + next(jumps)) * 1e9))
    buffer = make_teachers(path=tmp_path / "teachers").fit(*bars)
    found = make(buffer=buffer, verbose=1).fit(*bars)
    assert_same(found, expected)
    assert_same(make(buffer=buffer).fit(*bars), expected)


class TestDistillation:
    """Of which a state is stored, or not."""

    def test_a_full_disk_ends_no_fit(
        self, make, bars, expected, monkeypatch, tmp_path, stored_always
    ):
        save, calls = run_module.save_checkpoint, itertools.count()

        def full_for_a_while(path, *content):
            if next(calls) in (2, 3, 4):
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            save(path, *content)

        monkeypatch.setattr(run_module, "save_checkpoint", full_for_a_while)
        # Once, not with every attempt.
        with pytest.warns(UserWarning, match=r"after 3 .*No space .*run") as told:
            found = make().fit(*bars)
        assert len(told) == 1
        assert_same(found, expected)
        # When there was room again it was used.
        monkeypatch.setattr(
            matcher_module, "match_gradient", fail_with(AssertionError())
        )
        assert_same(make().fit(*bars), expected)

    def test_what_cannot_be_stored_at_the_end_is_in_memory(
        self, make, bars, expected, monkeypatch
    ):
        def full(path, *content):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        with monkeypatch.context() as patch:
            patch.setattr(run_module, "save_checkpoint", full)
            with pytest.warns(UserWarning, match="could not be stored: .*No space"):
                assert_same(make().fit(*bars), expected)
        assert_same(make().fit(*bars), expected)

    def test_a_disk_that_is_really_full(
        self, make, bars, expected, small_disk, stored_always, before_match
    ):
        folder = small_disk / "run"
        filler = small_disk / "filler"

        def fill():
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))

        before_match(4, fill)
        with pytest.warns(UserWarning, match=r"No space left .*state\.safetensors"):
            assert_same(make(checkpoint=folder).fit(*bars), expected)
        # The last state before that is whole.
        content = checkpoint_module.load_checkpoint(folder / STATE)[1]
        assert content["progress"]["stop_reason"] == ""
        assert [path.name for path in folder.iterdir()] == [STATE]
        filler.unlink()
        assert_same(make(checkpoint=folder).fit(*bars), expected)

    @pytest.mark.parametrize("way", ["renamed", "removed"])
    def test_a_folder_that_is_gone(
        self, make, bars, expected, tmp_path, before_match, stored_always, way
    ):
        folder, other = tmp_path / "run", tmp_path / "other"

        def lose():
            folder.rename(other)
            if way == "removed":
                (other / STATE).unlink()

        before_match(4, lose)
        with pytest.warns(UserWarning, match=r"No such file .*run/state"):
            assert_same(make().fit(*bars), expected)
        # Nothing is written where perhaps a disk should be.
        assert not folder.exists()
        if way == "renamed":
            tensors, _ = checkpoint_module.load_checkpoint(other / STATE)
            assert len(tensors["history"]) == 4
        assert_same(make(checkpoint=other).fit(*bars), expected)

    @pytest.mark.parametrize(
        ("error", "advice"),
        [
            (torch.OutOfMemoryError("CUDA out of memory"), "`keep_activations=False`"),
            (MemoryError(), "`keep_activations=False`"),
            (RuntimeError("[enforce fail] can't allocate memory: x"), "needs less"),
            (OSError(errno.EIO, "Input/output error"), "stored in"),
            (RuntimeError("CUDA error: unspecified launch failure"), "stored in"),
        ],
    )
    def test_an_error_in_the_midst(
        self, make, bars, expected, before_match, tmp_path, error, advice
    ):
        before_match(5, fail_with(error))
        with pytest.raises(type(error)) as found:
            make().fit(*bars)
        assert found.value is error
        notes = " ".join(error.__notes__)
        assert advice in notes
        assert f"The 5 iterations before this are stored in {tmp_path / 'run'}" in notes
        # Other memory, the same bits.
        again = make(keep_activations=False) if "keep" in advice else make()
        assert_same(again.fit(*bars), expected)

    def test_teachers_that_are_gone_for_a_while(
        self, make, bars, expected, tmp_path, before_match
    ):
        folder, other = tmp_path / "teachers", tmp_path / "other"
        buffer = make_teachers(path=folder).fit(*bars)
        before_match(3, lambda: folder.rename(other))
        with pytest.raises(FileNotFoundError, match=r"teachers.teacher-0000") as found:
            make(buffer=buffer).fit(*bars)
        assert "iterations before this are stored" in found.value.__notes__[0]
        other.rename(folder)
        assert_same(make(buffer=buffer).fit(*bars), expected)

    @pytest.mark.parametrize("after", [1, 4])
    def test_keys_between_two_iterations(
        self, make, bars, expected, monkeypatch, after, stored_always
    ):
        """As while a state is written: the fit ends early, with its images."""
        save, calls = run_module.save_checkpoint, itertools.count()

        def pressed(*content):
            save(*content)
            if next(calls) == after:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(run_module, "save_checkpoint", pressed)
            with pytest.warns(UserWarning, match="interrupted after"):
                found = make().fit(*bars)
        assert found.stop_reason_ == "interrupted"
        assert found.n_iter_ == after
        assert_same(make().fit(*bars), expected)


class TestReadOnly:
    def test_a_checkpoint_before_teachers_are_trained(
        self, make, bars, tmp_path, read_only, monkeypatch
    ):
        monkeypatch.setattr(TrajectoryBuffer, "fit", fail_with(AssertionError()))
        folder = tmp_path / "run"
        folder.mkdir()
        read_only(folder)
        with pytest.raises(OSError, match=r"`checkpoint` must be in a folder .*run"):
            make(buffer=make_teachers()).fit(*bars)

    def test_a_checkpoint_that_is_complete(
        self, make, bars, expected, tmp_path, read_only
    ):
        make(max_total_iter=6).fit(*bars)
        whole = tmp_path / "whole"
        make(checkpoint=whole).fit(*bars)
        for folder in (tmp_path / "run", whole):
            read_only(folder)
        assert_same(make(checkpoint=whole).fit(*bars), expected)
        with pytest.raises(OSError, match=r"`checkpoint` must be in a folder .*run"):
            make().fit(*bars)

    def test_teachers(self, bars, teachers, tmp_path, read_only, monkeypatch):
        make_teachers(path=tmp_path).fit(*bars)
        before = files(tmp_path)
        read_only(tmp_path)
        for buffer in (
            TrajectoryBuffer.load(tmp_path),
            make_teachers(path=tmp_path).fit(*bars),
        ):
            assert np.array_equal(buffer.snapshot(1, 3), teachers.snapshot(1, 3))
        monkeypatch.setattr(jobs_module, "Teachers", fail_with(AssertionError()))
        with pytest.raises(OSError, match=r"`path` needs a folder|manifest"):
            make_teachers(path=tmp_path, n_teachers=3).fit(*bars)
        with pytest.raises(OSError, match="`path` must be in a folder"):
            make_teachers(path=tmp_path / "new").fit(*bars)
        assert files(tmp_path) == before

    def test_a_reader_and_a_set(self, tmp_path, read_only, expected):
        from PIL import Image

        source = tmp_path / "1.png"
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(source)
        folder = tmp_path / "folder"
        folder.mkdir()
        expected.synthetic_.save(folder / "set")
        read_only(folder)
        with pytest.raises(OSError, match=r"`out` must be in a folder .*folder"):
            ImageReader(size=6, out=folder / "X.npy").transform([str(source)])
        with pytest.raises(OSError, match="folder"):
            expected.synthetic_.save(folder / "set")
        found = SyntheticSet.load(folder / "set")
        assert np.array_equal(found.X, expected.synthetic_.X)


class TestTeachers:
    def interrupted(self, monkeypatch, at_epoch, work):
        """Have something done in the training of the first teacher."""
        done = []

        class Teachers(jobs_module.Teachers):
            def train(self):
                for epoch in super().train():
                    if epoch == at_epoch and not done:
                        done.append(epoch)
                        work()
                    yield epoch

        monkeypatch.setattr(jobs_module, "Teachers", Teachers)

    def test_a_disk_that_is_full_for_a_while(
        self, bars, tmp_path, monkeypatch, stored_always
    ):
        write, calls = jobs_module.write_teacher, itertools.count()

        def full_once(folder, *rest):
            if next(calls) == 1:
                raise OSError(errno.ENOSPC, "No space left on device", str(folder))
            write(folder, *rest)

        monkeypatch.setattr(jobs_module, "write_teacher", full_once)
        with pytest.warns(UserWarning, match=r"2 of 3 epochs of teachers \[0\] .*No"):
            make_teachers(path=tmp_path / "found").fit(*bars)
        monkeypatch.undo()
        make_teachers(path=tmp_path / "whole").fit(*bars)
        assert files(tmp_path / "found") == files(tmp_path / "whole")

    @pytest.mark.parametrize(
        "error",
        [
            OSError(errno.ENOSPC, "No space left on device"),
            OSError(errno.ESTALE, "Stale file handle"),
            MemoryError(),
            torch.OutOfMemoryError("CUDA out of memory"),
        ],
    )
    def test_complete_teachers_are_kept(self, bars, tmp_path, monkeypatch, error):
        write = jobs_module.write_teacher

        def fail(folder, run, identity, storage):
            if identity.teacher == 1:
                raise error
            write(folder, run, identity, storage)

        with monkeypatch.context() as patch:
            patch.setattr(jobs_module, "write_teacher", fail)
            with pytest.raises(type(error)) as found:
                make_teachers(path=tmp_path / "found").fit(*bars)
        assert "Complete teachers are kept in" in found.value.__notes__[-1]
        assert list(files(tmp_path / "found")) == ["teacher-00000.safetensors"]
        make_teachers(path=tmp_path / "found").fit(*bars)
        make_teachers(path=tmp_path / "whole").fit(*bars)
        assert files(tmp_path / "found") == files(tmp_path / "whole")

    @pytest.mark.parametrize("comes_back", [False, True])
    def test_a_folder_that_is_gone(
        self, bars, tmp_path, monkeypatch, stored_always, comes_back
    ):
        folder, other = tmp_path / "found", tmp_path / "other"
        with monkeypatch.context() as patch:
            self.interrupted(patch, 2, lambda: folder.rename(other))
            if comes_back:
                warn = jobs_module.warnings.warn

                def back(*args, **kwargs):
                    other.rename(folder)
                    warn(*args, **kwargs)

                patch.setattr(jobs_module.warnings, "warn", back)
                with pytest.warns(UserWarning, match="No such file .*teacher-00000"):
                    make_teachers(path=folder).fit(*bars)
            else:
                with (
                    pytest.warns(UserWarning, match="No such file .*teacher-00000"),
                    pytest.raises(FileNotFoundError, match=r"found.teacher-00000"),
                ):
                    make_teachers(path=folder).fit(*bars)
                assert not folder.exists()
                other.rename(folder)
        make_teachers(path=folder).fit(*bars)
        make_teachers(path=tmp_path / "whole").fit(*bars)
        assert files(folder) == files(tmp_path / "whole")


class TestReader:
    @pytest.fixture
    def paths(self, tmp_path):
        from PIL import Image

        folder = tmp_path / "images"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for number in range(130):
            pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        return [str(folder / f"{number}.png") for number in range(130)]

    @contextmanager
    def limited(self, n_bytes):
        resource = pytest.importorskip("resource")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def test_a_disk_that_fills(self, paths, tmp_path, monkeypatch):
        from skdistill.curation._array_file import ArrayFile

        expected = ImageReader(size=6).transform(paths)
        reader = ImageReader(size=6, out=tmp_path / "out" / "X.npy")
        # The whole has its room from the start, but not on every file system.
        monkeypatch.setattr(ArrayFile, "_check_space", lambda *_: None)
        write = ArrayFile.write

        def full(self, start, rows):
            if start >= 64:
                with self._telling():
                    raise OSError(errno.ENOSPC, "No space left on device")
            write(self, start, rows)

        with monkeypatch.context() as patch:
            patch.setattr(ArrayFile, "write", full)
            with pytest.raises(OSError, match=r"`out` .*No space .*resumes.*X\.npy"):
                reader.transform(paths)
        assert not (tmp_path / "out" / "X.npy").exists()
        with self.limited(1000), pytest.raises(OSError, match=r"`out` .*large.*X\.npy"):
            reader.transform(paths)
        assert np.array_equal(reader.transform(paths), expected)
        assert os.listdir(tmp_path / "out") == ["X.npy"]

    def test_a_folder_that_is_gone(self, paths, tmp_path, monkeypatch):
        import skdistill.curation._array_file as module

        monkeypatch.setattr(module, "_SECONDS_BETWEEN_NOTES", -1.0)
        folder, other = tmp_path / "out", tmp_path / "other"
        finish, calls = module.ArrayFile.finish_part, itertools.count()

        def lose(self, *args):
            if next(calls) == 1:
                folder.rename(other)
            finish(self, *args)

        reader = ImageReader(size=6, out=folder / "X.npy")
        with monkeypatch.context() as patch:
            patch.setattr(module.ArrayFile, "finish_part", lose)
            with pytest.raises(OSError, match=r"`out` cannot be written: No such file"):
                reader.transform(paths)
        assert not folder.exists()
        other.rename(folder)
        expected = ImageReader(size=6).transform(paths)
        assert np.array_equal(reader.transform(paths), expected)


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch has no torch.distributed here"
)
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_of_which_one_was_killed(start, tmp_path, size):
    """All end, and as many new ones go on to the bits of one process alone."""
    program = Path(__file__).parent / "distillation" / "rank_program.py"

    def run(part, size):
        return [
            start(
                f"""
import os, runpy, sys
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
sys.argv = ["", "{rank}", "{size}", {str(tmp_path)!r}, "{part}"]
runpy.run_path({str(program)!r})
"""
            )
            for rank in range(size)
        ]

    *others, last = run("killed", size)
    for process in (last, *others):
        process.join(100)
    assert last.exitcode == -signal.SIGKILL
    assert [process.exitcode for process in others] == [0] * (size - 1)
    words = json.loads((tmp_path / "killed.json").read_text())["error"]
    assert "another process of the torch.distributed group" in words
    tensors, _ = checkpoint_module.load_checkpoint(tmp_path / "killed" / STATE)
    assert len(tensors["history"]) == 5
    for process in [*run("on", size), *run(f"alone {size}", 1)]:
        process.join(100)
        assert process.exitcode == 0
    alone = (tmp_path / f"alone {size}-1-0.json").read_text()
    for rank in range(size):
        assert (tmp_path / f"on-{size}-{rank}.json").read_text() == alone
    assert json.loads(alone)["n_iter"] == 8


def test_a_short_soak():
    """See ``soak.py``; the long form is ``make soak``."""
    if sys.platform == "win32":
        pytest.skip("needs forkserver")
    script = Path(__file__).with_name("soak.py")
    done = subprocess.run(
        [sys.executable, str(script), "--rounds", "1", "--minutes", "0.1"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 differences" in done.stdout
    assert " 0 kills" not in done.stdout
