import errno
import os
import signal
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from skdistill.utils import _files as files
from skdistill.utils._files import atomic_path, check_writable, remove_leftovers


def test_makes_the_folder_and_only_the_file(tmp_path):
    target = tmp_path / "a" / "b" / "file.bin"
    with atomic_path(target) as temporary:
        # On the same file system, or it could not be renamed.
        assert temporary.parent.parent == target.parent
        assert not target.exists()
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_replaces_only_at_the_end(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with atomic_path(str(target)) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path, exists):
    target, link = tmp_path / "disk" / "file", tmp_path / "here" / "link"
    for path in (target, link):
        path.parent.mkdir()
    if exists:
        target.write_text("old")
    link.symlink_to(Path("..") / "disk" / "file")
    with atomic_path(link) as temporary:
        # On the disk of the target.
        assert temporary.parent.parent == target.parent
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert list(link.parent.iterdir()) == [link]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_nothing_behind(tmp_path, error):
    target = tmp_path / "file"
    target.write_text("old")

    def write():
        with atomic_path(target) as temporary:
            temporary.write_text("half of")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_of_that_name_is_kept(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(OSError, match="folder"), atomic_path(target):
        pass
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_a_usual_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_path(tmp_path / "file") as temporary:
            temporary.write_text("x")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


def small_disk(n_bytes):
    """Let no file of this process grow beyond a size, as on a disk that fills."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited()


WRITERS = {
    "python": lambda path: path.write_bytes(bytes(100_000)),
    # It writes a file of its own beside the one that it is given.
    "safetensors": lambda path: save_file({"a": np.zeros(100_000)}, path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_disk_that_fills(tmp_path, writer):
    target = tmp_path / "file"
    target.write_text("old")

    def write():
        with atomic_path(target) as temporary:
            WRITERS[writer](temporary)

    with (
        small_disk(50_000),
        pytest.raises(
            OSError, match=r"cannot be written, .*unchanged.*large.*/file'"
        ) as e,
    ):
        write()
    assert e.value.errno == errno.EFBIG
    assert e.value.filename == str(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    write()
    assert target.stat().st_size >= 100_000


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fails_at_the_last_moment(tmp_path, monkeypatch, code):
    """As one of a network does: it tells only when the data must be safe."""
    target = tmp_path / "file"
    target.write_text("old")

    def fail(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="file") as e, atomic_path(target) as temporary:
        temporary.write_text("new")
    assert e.value.errno == code
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_errors_that_are_no_write_stay_what_they_are(tmp_path):
    other = tmp_path / "elsewhere" / "source"
    with (
        pytest.raises(FileNotFoundError) as e,
        atomic_path(tmp_path / "folder" / "file"),
    ):
        other.read_text()
    assert e.value.filename == str(other)


def test_a_folder_that_is_gone(tmp_path):
    target = tmp_path / "gone" / "file"
    with (
        pytest.raises(FileNotFoundError, match=r"cannot be written.*gone/file"),
        atomic_path(target, make_folder=False),
    ):
        pass
    assert not target.parent.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_a_killed_process_left_is_removed(tmp_path):
    """But not what another, living one is writing."""
    target = tmp_path / "file"
    child = os.fork()
    if not child:
        with atomic_path(target) as temporary:
            temporary.write_text("half of")
            (temporary.parent / ".own").write_text("the writer's own")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    with atomic_path(target) as first:
        first.write_text("first")
        assert list(tmp_path.iterdir()) == [first.parent]
        with atomic_path(target) as second:
            second.write_text("second")
        assert target.read_text() == "second"
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("moment", [(Path, "open"), (files.fcntl, "flock")])
def test_what_a_process_killed_at_its_beginning_left_is_removed(tmp_path, moment):
    """Before it made its lock, or before it held it."""
    target = tmp_path / "file"
    child = os.fork()
    if not child:
        setattr(*moment, lambda *args: os.kill(os.getpid(), signal.SIGKILL))
        with atomic_path(target):
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    remove_leftovers(target)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_taken_for_a_leftover_is_made_again(tmp_path, monkeypatch):
    """By a process that looks before its lock is made, or before it is held."""
    target = tmp_path / "file"
    make, wait = tempfile.mkdtemp, files._wait_for_lock
    looks = []

    def look():
        looks.append(len(list(tmp_path.iterdir())))
        remove_leftovers(target)

    def make_slowly(**arguments):
        folder = make(**arguments)
        if not looks:
            look()
        return folder

    def wait_slowly(lock):
        if len(looks) == 1:
            look()
        return wait(lock)

    monkeypatch.setattr(tempfile, "mkdtemp", make_slowly)
    monkeypatch.setattr(files, "_wait_for_lock", wait_slowly)
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        look()
        assert temporary.exists()
    assert target.read_text() == "new"
    assert looks == [1, 1, 1]
    assert list(tmp_path.iterdir()) == [target]


def test_many_writers_of_one_file(tmp_path):
    target = tmp_path / "file"

    def write(number):
        for _ in range(10):
            with atomic_path(target) as temporary:
                temporary.write_text(f"{number}" * 100)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(set(target.read_text())) == 1
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("below", [False, True])
def test_a_folder_that_cannot_be_written_in(tmp_path, below):
    file = tmp_path / "file"
    file.write_text("precious")
    folder = file / "below" if below else file
    with pytest.raises(OSError, match=r"`out` must be in a folder .*file") as e:
        check_writable(folder, "out")
    assert e.value.errno in (errno.EEXIST, errno.ENOTDIR)
    assert file.read_text() == "precious"
    check_writable(tmp_path / "a" / "b", "out")
    assert list((tmp_path / "a" / "b").iterdir()) == []
