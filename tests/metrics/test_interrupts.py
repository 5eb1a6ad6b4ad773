"""Ctrl-C ends an evaluation in several processes soon, and the processes with it."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress

import pytest

PROGRAM = """
    import os
    import signal
    import sys
    from pathlib import Path

    import numpy as np
    from skdistill import ConvNetClassifier, evaluate_synthetic
    from skdistill.metrics import cross_architecture

    class Slow(ConvNetClassifier):
        def fit(self, X, y, sample_weight=None):
            Path(sys.argv[2], str(os.getpid())).touch()
            return super().fit(X, y, sample_weight)

    if __name__ == "__main__":
        # What a shell starts in the background ignores it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        X = np.random.default_rng(0).normal(size=(20, 16, 16, 3)).astype(np.float32)
        data = (X, np.arange(20) % 2), X, np.arange(20) % 2
        slow = Slow(width=16, depth=1, max_iter=10**6, device="cpu", random_state=0)
        how = {"n_repeats": 2, "n_jobs": 2, "random_state": 0}
        try:
            if sys.argv[1] == "evaluate_synthetic":
                evaluate_synthetic(*data, estimator=slow, **how)
            else:
                cross_architecture(*data, estimators={"a": slow, "b": slow}, **how)
        except KeyboardInterrupt:
            print("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups")
@pytest.mark.parametrize(
    ("function", "signal_all"),
    # A terminal sends it to all processes, a notebook to the kernel alone.
    [("evaluate_synthetic", False), ("cross_architecture", True)],
    ids=["evaluate_synthetic in a notebook", "cross_architecture in a terminal"],
)
def test_interrupt_ends_processes_too(function, signal_all, tmp_path):
    script, trained = tmp_path / "program.py", tmp_path / "trained"
    script.write_text(textwrap.dedent(PROGRAM))
    trained.mkdir()
    with subprocess.Popen(
        [sys.executable, str(script), function, str(trained)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            begun = time.monotonic()
            while len(list(trained.iterdir())) < 2:
                assert process.poll() is None
                assert time.monotonic() < begun + 120
                time.sleep(0.05)
            workers = {int(file.name) for file in trained.iterdir()}
            assert process.pid not in workers
            (os.killpg if signal_all else os.kill)(process.pid, signal.SIGINT)
            # Trained to its end it would take hours.
            found, _ = process.communicate(timeout=30)
            assert found.split() == ["interrupted"]
            assert process.returncode == 0
            end = time.monotonic() + 15
            while any(runs(worker) for worker in workers):
                assert time.monotonic() < end
                time.sleep(0.05)
        finally:
            end_all(process.pid)


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Nobody may wait for one whose parent has ended, as in a container.
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not os.path.exists("/proc/self/stat")


def end_all(group):
    """End whatever a failed test has left."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
