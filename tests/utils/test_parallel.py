import os
import pickle
import subprocess
import sys
import threading
import warnings

import joblib
import numpy as np
import pytest

from skdistill.utils._files import SharedFolder
from skdistill.utils._parallel import WorkerLostError, run_parallel

# Ends its process where the file is not there yet, and then leaves it there.
DIE_ONCE = """
import os, pathlib
path = pathlib.Path({path!r})
if {number} == 1 and not path.exists():
    path.touch()
    os._exit(1)
"""
BACKENDS = ["loky", "threading"]
FORKED = """
import warnings
import joblib
from skdistill.utils._parallel import run_parallel

def run(numbers, n_jobs):
    tasks = {n: (n,) for n in numbers}
    return dict(run_parallel(divmod, (100,), tasks, n_jobs=n_jobs, what="pieces"))

warnings.simplefilter("error")
with joblib.parallel_config(backend="multiprocessing"):
    for n_jobs in (None, 1, 2, -1):
        assert run(range(1, 8), n_jobs) == {n: divmod(100, n) for n in range(1, 8)}
    try:
        run(range(4), 2)
    except ZeroDivisionError as error:
        assert error.__notes__
    else:
        raise AssertionError("no error")
"""


def run(function, shared, tasks, n_jobs=2):
    return dict(run_parallel(function, shared, tasks, n_jobs=n_jobs, what="pieces"))


@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1])
@pytest.mark.parametrize("backend", BACKENDS)
def test_all_tasks_are_done(backend, n_jobs):
    with joblib.parallel_config(backend=backend):
        found = run(divmod, (100,), {n: (n,) for n in range(1, 8)}, n_jobs)
    assert found == {n: divmod(100, n) for n in range(1, 8)}


def test_all_tasks_are_done_by_forked_processes():
    """In a program of its own that can be ended.

    A fork finds the locks of this process as they are, and those of libraries that a
    thread of an earlier test holds are never released in it.
    """
    command = [sys.executable, "-c", FORKED]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_nothing_to_do():
    assert run(divmod, (1,), {}) == {}


@pytest.mark.parametrize("backend", BACKENDS)
def test_error_of_a_task_is_raised_as_it_is(backend):
    with joblib.parallel_config(backend=backend), warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZeroDivisionError) as caught:
            run(divmod, (100,), {n: (n,) for n in range(4)})
    notes = getattr(caught.value, "__notes__", [])
    # Where it was raised is not lost on the way.
    assert bool(notes) == (backend != "threading")


def test_arrays_are_mapped_into_the_memory_of_processes():
    big = np.zeros(2**20)
    assert run(type, (big,), {0: (), 1: ()}) == {0: np.memmap, 1: np.memmap}


def test_work_of_a_process_that_died_is_done_again(tmp_path):
    path = tmp_path / "died"
    tasks = {
        number: (DIE_ONCE.format(path=str(path), number=number),) for number in range(3)
    }
    with pytest.warns(UserWarning, match="working on pieces was lost.*of 3 pieces"):
        assert run(exec, (), tasks) == dict.fromkeys(range(3))
    assert path.exists()


def test_processes_that_always_die_are_given_up():
    with (
        pytest.warns(UserWarning, match="was lost") as told,
        pytest.raises(WorkerLostError, match=r"3 times in a row.*1 of 1 pieces"),
    ):
        run(os._exit, (), {0: (1,)})
    assert len(told) == 2


def test_what_cannot_be_sent_is_not_tried_again():
    unpicklable = (TypeError, pickle.PicklingError)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(unpicklable, match="pickle"):
            run(id, (threading.Lock(),), {0: (), 1: ()})


def test_folder_is_known_by_a_file_in_it(tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    mark.write_text("mark")
    monkeypatch.chdir(tmp_path)
    folder = SharedFolder(mark.relative_to(tmp_path))
    assert folder.is_here()
    monkeypatch.chdir("/")
    assert folder.is_here()
    assert folder.path == tmp_path
    # A copy under the same name is not the folder.
    found = mark.stat()
    other = tmp_path / "other"
    other.write_text("mark")
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(mark)
    assert not folder.is_here()
    mark.unlink()
    assert not folder.is_here()
    assert not SharedFolder(mark).is_here()
