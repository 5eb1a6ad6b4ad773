"""Teachers and evaluations on clusters of processes of their own: dask and Ray."""

import os
import signal
import threading
import time
import warnings

import joblib
import numpy as np
import psutil
import pytest

import skdistill.trajectory._jobs as jobs_module
from skdistill import (
    ConvNetClassifier,
    TrajectoryBuffer,
    evaluate_synthetic,
    make_galaxies,
)
from skdistill.utils._parallel import WorkerLostError, run_parallel

N_TEACHERS = 4
HIDE_FOLDERS = "import skdistill.utils._files as m; m._identity = lambda path: None"
SHOW_FOLDERS = "import importlib, skdistill.utils._files as m; importlib.reload(m)"


@pytest.fixture(scope="module")
def galaxies():
    return make_galaxies(90, size=16, random_state=0)


@pytest.fixture(scope="module")
def make_buffer():
    def make(**changes):
        settings = {
            "n_teachers": N_TEACHERS,
            "n_epochs": 15,
            "width": 8,
            "device": "cpu",
            "random_state": 0,
        }
        return TrajectoryBuffer(**(settings | changes))

    return make


@pytest.fixture(scope="module")
def alone(make_buffer, galaxies):
    """The teachers that one process trains, one after another."""
    return make_buffer(n_jobs=1).fit(*galaxies)


def assert_same_teachers(found, expected):
    assert found.history_.equals(expected.history_)
    for teacher in range(expected.n_teachers_):
        for epoch in range(expected.n_epochs_ + 1):
            one, other = (b.snapshot(teacher, epoch) for b in (found, expected))
            assert np.array_equal(one, other)


@pytest.fixture
def not_here(monkeypatch):
    """Let the work fail in this process, in which it shall not be done."""

    def refuse(*args, **kwargs):
        raise AssertionError("trained in the process of the user")

    monkeypatch.setattr(jobs_module, "Teachers", refuse)


@pytest.fixture
def kill_when():
    """Kill the process that a function names, as soon as another says so."""
    threads, killed = [], []

    def watch(is_time, find_process):
        def wait():
            deadline = time.monotonic() + 300  # Ray takes its time to start
            while not is_time():
                if time.monotonic() > deadline:
                    return
                time.sleep(0.005)
            killed.append(find_process())
            os.kill(killed[-1], signal.SIGKILL)

        threads.append(threading.Thread(target=wait))
        threads[-1].start()
        return killed

    yield watch
    for thread in threads:
        thread.join()


class TestDask:
    @pytest.fixture(scope="class")
    @classmethod
    def client(cls):
        dask = pytest.importorskip("dask")
        distributed = pytest.importorskip("distributed")
        # A task that kills its worker is given up at once, to save time.
        with (
            dask.config.set({"distributed.scheduler.allowed-failures": 0}),
            distributed.LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                host="127.0.0.1",
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client

    @pytest.fixture(autouse=True)
    def on_dask(self, client):
        client.wait_for_workers(2)
        with joblib.parallel_config(backend="dask"):
            yield

    @pytest.mark.usefixtures("not_here")
    @pytest.mark.parametrize("folder", [None, "teachers"])
    def test_teachers_are_the_same(
        self, folder, alone, make_buffer, galaxies, tmp_path, monkeypatch
    ):
        # A path that is meant from here, not from where the workers are.
        monkeypatch.chdir(tmp_path)
        found = make_buffer(path=folder).fit(*galaxies)
        assert_same_teachers(found, alone)

    @pytest.mark.usefixtures("not_here")
    def test_workers_that_do_not_see_the_folder(
        self, client, alone, make_buffer, galaxies, tmp_path
    ):
        client.run(exec, HIDE_FOLDERS)
        try:
            make_buffer(path=tmp_path).fit(*galaxies)
        finally:
            client.run(exec, SHOW_FOLDERS)
        assert_same_teachers(TrajectoryBuffer.load(tmp_path), alone)

    def test_scores_are_the_same(self, galaxies):
        X, y = galaxies

        def score(n_jobs):
            return evaluate_synthetic(
                (X[:18], y[:18]),
                X,
                y,
                estimator=ConvNetClassifier(width=4, max_iter=2, device="cpu"),
                n_repeats=3,
                n_jobs=n_jobs,
                random_state=0,
            ).scores.tolist()

        found = score(None)
        with joblib.parallel_config(backend="loky", n_jobs=1):
            assert found == score(1)

    def test_data_are_sent_once(self, client, monkeypatch, make_buffer, galaxies):
        sent = []
        real = type(client).scatter

        def scatter(self, data, *args, **kwargs):
            sent.append(data)
            return real(self, data, *args, **kwargs)

        monkeypatch.setattr(type(client), "scatter", scatter)
        X = galaxies[0]
        make_buffer().fit(*galaxies)
        sizes = [data.nbytes for data in sent if isinstance(data, np.ndarray)]
        assert sizes.count(X.astype(np.float32).nbytes) == 1

    @pytest.mark.usefixtures("not_here")
    def test_worker_killed_in_the_midst(
        self, client, kill_when, alone, make_buffer, galaxies, tmp_path
    ):
        buffer = make_buffer(path=tmp_path)
        processes = client.run(os.getpid)

        def is_time():
            return any(tmp_path.glob("teacher-*.safetensors"))

        finished = {}

        def find_process():
            for path in tmp_path.glob("teacher-*.safetensors"):
                finished[path] = path.stat().st_mtime_ns
            # One that is at work.
            busy = [worker for worker, tasks in client.processing().items() if tasks]
            return processes[busy[0]]

        killed = kill_when(is_time, find_process)
        with warnings.catch_warnings():
            # Whether anybody has to be told depends on where the data were.
            warnings.simplefilter("ignore")
            buffer.fit(*galaxies)
        assert killed
        assert 0 < len(finished) < N_TEACHERS
        for path, time_ns in finished.items():
            assert path.stat().st_mtime_ns == time_ns
        assert_same_teachers(buffer, alone)

    def test_work_that_kills_its_workers_is_given_up(self):
        """Joblib alone would wait for ever."""
        with (
            pytest.warns(UserWarning, match="KilledWorker"),
            pytest.raises(WorkerLostError, match="3 times in a row"),
        ):
            list(run_parallel(os._exit, (), {0: (1,)}, n_jobs=None, what="pieces"))


class TestRay:
    @pytest.fixture(scope="class")
    @classmethod
    def ray(cls):
        ray = pytest.importorskip("ray")
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
            environment.setenv("RAY_AUTH_MODE", "disabled")
            try:
                ray.init(
                    num_cpus=2,
                    include_dashboard=False,
                    log_to_driver=False,
                    object_store_memory=100 * 2**20,
                    _node_ip_address="127.0.0.1",
                )
            except Exception as error:
                pytest.skip(f"Ray cannot start here: {error}")
            from ray.util.joblib import register_ray

            register_ray()
            yield ray
            ray.shutdown()

    @pytest.fixture(autouse=True)
    def on_ray(self, ray):
        with joblib.parallel_config(backend="ray"):
            yield

    @pytest.mark.usefixtures("not_here")
    def test_teachers_are_the_same(self, alone, make_buffer, galaxies):
        assert_same_teachers(make_buffer().fit(*galaxies), alone)

    @pytest.mark.usefixtures("not_here")
    def test_worker_killed_in_the_midst(
        self, kill_when, alone, make_buffer, galaxies, tmp_path
    ):
        def is_time():
            return any(tmp_path.glob("teacher-*.safetensors"))

        def find_process():
            return next(
                process.pid
                for process in psutil.Process().children(recursive=True)
                if "PoolActor" in " ".join(process.cmdline())
            )

        killed = kill_when(is_time, find_process)
        with pytest.warns(UserWarning, match="ActorDiedError"):
            found = make_buffer(path=tmp_path).fit(*galaxies)
        assert killed
        assert_same_teachers(found, alone)
