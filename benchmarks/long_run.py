"""Memory and time of a distillation over 50,000 iterations.

Memory must not grow with the length of a run.  Small images and a small network make
the iterations short, so that the cost of everything else is visible: the history, the
trend test, the checkpoint.  The first and the last tenth of the run are compared:
resident memory, the size of the checkpoint, and the time of an iteration, as CPU time
of the process and in units of a fixed computation between iterations, since other
programs may slow both.

Two runs: one with an expanded epoch pool or a new stage now and then, and one of a
single stage, whose trend test looks at ever more validation losses.  A third compares
the first and the last tenth of the epochs of a long training of teachers; all its
snapshots are the result, and stay in memory.
"""

import argparse
import gc
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import skdistill.distillation._engine._checkpoint as checkpoint_module
from skdistill import STMDistiller, TrajectoryBuffer, make_galaxies
from skdistill.trajectory._teacher import Teachers
from skdistill.utils._memory import reused_memory
from skdistill.utils._tensors import to_tensor

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MATRIX = torch.ones(128, 128)


def resident():
    """Return the resident memory of this process in MiB (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * _PAGE / 2**20


class Samples:
    """Time and memory after each step, in arrays that are there from the start."""

    def __init__(self, n_steps):
        self.seconds = np.zeros(n_steps)
        self.units = np.zeros(n_steps)
        self.memory = np.zeros(n_steps)
        self.n_steps = 0
        self._end = time.process_time()

    def take(self):
        begin = time.process_time()
        # From the end of the last sample to now.
        self.seconds[self.n_steps] = begin - self._end
        self.memory[self.n_steps] = resident()
        if self.n_steps % 10 == 0:
            for _ in range(10):
                _MATRIX @ torch.relu(_MATRIX)
            self.units[self.n_steps] = time.process_time() - begin
        self.n_steps += 1
        self._end = time.process_time()

    def row(self, name):
        """Compare the first and the last tenth."""
        memory = self.memory[: self.n_steps]
        tenth = max(1, self.n_steps // 10)
        seconds, units = self.seconds[: self.n_steps], self.units[: self.n_steps]
        # The first step has the start of the fit in it.
        first, last = seconds[1 : tenth + 1].mean(), seconds[-tenth:].mean()
        slower = units[-tenth:].mean() / units[1 : tenth + 1].mean()
        before, after = memory[:tenth].mean(), memory[-tenth:].mean()
        return {
            "run": name,
            "steps": self.n_steps,
            "ms a step, first tenth": first * 1e3,
            "last tenth": last * 1e3,
            "fixed work, last / first": slower,
            "time, last / first": last / first / slower,
            "MiB, first tenth": before,
            "MiB, last tenth": after,
            "memory, last / first": after / before,
        }


class Watched(STMDistiller):
    """An STMDistiller that is measured after each iteration."""

    def _review(self, run):
        super()._review(run)
        self.samples_.take()


def distill(name, X, y, buffer, options, **parameters):
    samples = Samples(options.iterations)
    with tempfile.TemporaryDirectory() as folder:
        distiller = Watched(
            buffer=buffer,
            n_steps=2,
            max_total_iter=options.iterations,
            checkpoint=folder,
            device="cpu",
            random_state=0,
            **parameters,
        )
        distiller.samples_ = samples
        gc.collect()
        distiller.fit(X, y)
        size = (Path(folder) / "state.safetensors").stat().st_size
    return samples.row(name) | {
        "rows of history_": len(distiller.history_),
        "stages": len(distiller.stages_),
        "checkpoint, KiB": size / 2**10,
    }


def teach(X, y, buffer, options):
    buffer.fit(X, y)
    n_epochs = options.epochs
    teachers = Teachers(
        buffer.settings_,
        to_tensor(X, torch.device("cpu")),
        torch.from_numpy(np.unique(y, return_inverse=True)[1]),
        None,
        [0],
        n_epochs,
    )
    samples = Samples(n_epochs)
    with reused_memory():
        for _ in teachers.train():
            samples.take()
    return samples.row("teacher, epochs")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=10_000)
    parser.add_argument("--out", type=Path, help="a CSV file for the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # As often as in a run of days, for its length.
    checkpoint_module._SECONDS = 1.0
    X, y = make_galaxies(18, size=8, random_state=0)
    X, y = X[y < np.unique(y)[2]].mean(axis=3, keepdims=True), y[y < np.unique(y)[2]]
    buffer = TrajectoryBuffer(
        n_teachers=2,
        n_epochs=60,
        width=4,
        depth=1,
        learning_rate=0.02,
        device="cpu",
        random_state=0,
    ).fit(X, y)
    rows = [
        # Without an end: nearly every stage ends by a trend, or by "no trend".
        distill("stages", X, y, buffer, options, threshold=3.0, max_iter=10**6),
        distill("one stage", X, y, buffer, options, threshold=1e9, max_iter=10**6),
        teach(X, y, buffer, options),
    ]
    table = pd.DataFrame(rows)
    print(table.set_index("run").T.to_string(float_format=lambda value: f"{value:.3f}"))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
