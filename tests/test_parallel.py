"""Fits side by side: the bits of one after the other, and no deadlock.

In programs of their own: what a fork finds depends on what the process did before.
"""

import os
import subprocess
import sys
import textwrap

import pytest

# Large enough that OpenMP splits the work over its threads.
SETTING = """
    import multiprocessing, random, sys, threading, time
    import joblib
    import numpy as np
    import torch
    from sklearn.base import clone
    from sklearn.frozen import FrozenEstimator
    from sklearn.model_selection import GridSearchCV
    from skdistill import (
        ConvNetClassifier, KMeansPrototypes, STMDistiller, TrajectoryBuffer,
        evaluate_synthetic)

    rng = np.random.default_rng(0)
    X = rng.normal(size=(32, 24, 24, 3)).astype(np.float32)
    y = np.arange(32) % 2
    NETWORK = ConvNetClassifier(
        width=32, depth=2, max_iter=2, device="cpu", random_state=0)
    TEACHERS = TrajectoryBuffer(
        n_teachers=2, n_epochs=2, width=16, depth=2, batch_size=16, device="cpu",
        random_state=0)
    STM = STMDistiller(
        ipc=2, buffer=TEACHERS, n_steps=2, max_total_iter=2, estimator=NETWORK,
        device="cpu", random_state=0)

    def network():
        return clone(NETWORK).fit(X, y).predict_proba(X)

    def teachers():
        return clone(TEACHERS).fit(X, y).snapshot(1, 2)

    def stm():
        return clone(STM).fit(X, y).synthetic_.X

    def scores():
        return evaluate_synthetic(
            (X, y), X, y, estimator=NETWORK, n_repeats=2, random_state=0).scores

    def prototypes():
        return KMeansPrototypes(ipc=2, random_state=0).fit(X, y).synthetic_.X

    WORK = [network, teachers, stm, scores, prototypes]
"""

THREADS = """
    assert torch.get_num_threads() == 2
    expected = [work() for work in WORK]
    found = []

    def run(place, wait):
        time.sleep(wait)
        found.append((place, WORK[place](), torch.get_num_threads()))

    for turn in range(6):
        threads = [
            threading.Thread(target=run, args=(place, random.uniform(0, 0.1)))
            for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 24
    for place, result, n_threads in found:
        assert np.array_equal(result, expected[place]), WORK[place].__name__
        assert n_threads == 2
"""

PROCESSES = """
    def send(places, results):
        for place in places:
            results.put((place, WORK[place]()))

    def collect(method, shares):
        context = multiprocessing.get_context(method)
        results = context.Queue()
        processes = [
            context.Process(target=send, args=(share, results), daemon=True)
            for share in shares]
        for process in processes:
            process.start()
        return lambda: dict(results.get(timeout=60) for _ in WORK)

    if __name__ == "__main__":
        assert torch.get_num_threads() == 2
        places = range(len(WORK))
        # A process that is spawned takes seconds to import everything: one alone.
        spawned = collect("spawn", [places])
        expected = [work() for work in WORK]
        # Now OpenMP's threads are there, and a fork finds locks held by other threads.
        from skdistill.utils import _memory, _random, _threads
        locks = _memory._lock, _random._global_generator, _threads._lock
        for lock in locks:
            lock.acquire()
        forked = collect("fork", [[place] for place in places])
        for lock in locks:
            lock.release()
        # A forked process has one thread, on which only scikit-learn's bits depend.
        for found in (spawned(), forked()):
            for place, result in found.items():
                if WORK[place] is prototypes:
                    assert np.allclose(result, expected[place])
                else:
                    assert np.array_equal(result, expected[place]), WORK[place].__name__
"""

JOBLIB = """
    if __name__ == "__main__":
        torch.set_num_threads(1)
        search = GridSearchCV(STM, {"ipc": [1, 2]}, cv=2, error_score="raise")
        nested = clone(search).set_params(n_jobs=2, estimator__buffer__n_jobs=2)
        expected = [work() for work in WORK]
        alone = search.fit(X, y).cv_results_
        torch.set_num_threads(2)
        # Not "multiprocessing": once in five runs this program did not end with it.
        for backend in ("loky", "threading"):
            options = {"inner_max_num_threads": 1} if backend == "loky" else {}
            with joblib.parallel_config(backend=backend, n_jobs=2, **options):
                table = nested.fit(X, y).cv_results_
                found = joblib.Parallel()(joblib.delayed(work)() for work in WORK)
            for name in ("split0_test_score", "split1_test_score"):
                assert table[name].tolist() == alone[name].tolist(), backend
            for work, result, wanted in zip(WORK, found, expected, strict=True):
                # Threads of this process compute with two threads each, on which
                # scikit-learn's bits depend.
                if backend != "threading" or work is not prototypes:
                    assert np.array_equal(result, wanted), (backend, work.__name__)
"""


@pytest.mark.parametrize(
    "program",
    [
        THREADS,
        pytest.param(
            PROCESSES,
            marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
        ),
        JOBLIB,
    ],
    ids=["threads", "processes", "joblib"],
)
def test_side_by_side(program, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(SETTING) + textwrap.dedent(program))
    # Other tests, of clusters, may have left other numbers of threads behind.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith("_NUM_THREADS")
    }
    # Two threads on a busy machine would wait for each other at full speed.
    environment |= {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, path],
        env=environment,
        timeout=240,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
