"""Time of an iteration of STM on a busy machine.

A fit alone; two and three side by side, each in a process of its own; and one beside
another program that keeps two OpenMP threads busy.  With fair shares of two cores, two
fits side by side take twice as long as one, three fits three times as long.

    python benchmarks/load.py
    python benchmarks/load.py --against /path/to/another/checkout

With --against the fits of another checkout take turns with this one's, so that a busy
minute hits both.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
# Images per class and width of the network; ten classes of 32 pixels, N = 20.
CASES = [(1, 32), (10, 32), (1, 128), (10, 128)]
N_CLASSES, N_STEPS = 10, 20
# Fits side by side, and whether another program keeps two OpenMP threads busy.
LOADS = {
    "alone": (1, False),
    "two": (2, False),
    "three": (3, False),
    "beside OpenMP": (1, True),
}
# Iterations of a fit, which starts and ends its threads too.
_PER_FIT = 3


def fit(ipc, width, seconds):
    """Fit again and again, from a line on the standard input on; print the result."""
    import torch

    from skdistill import STMDistiller, TrajectoryBuffer

    rng = np.random.default_rng(0)
    y = np.arange(12 * N_CLASSES) % N_CLASSES
    X = rng.normal(size=(len(y), 32, 32, 3)) + y[:, None, None, None] / N_CLASSES
    X = X.astype(np.float32)
    common = {"device": "cpu", "random_state": 0}
    teachers = TrajectoryBuffer(
        n_teachers=1, n_epochs=2, width=width, batch_size=30, **common
    ).fit(X, y)
    distiller = STMDistiller(
        ipc=ipc, buffer=teachers, n_steps=N_STEPS, max_total_iter=_PER_FIT, **common
    )
    distiller.set_params(max_total_iter=1).fit(X, y)
    distiller.set_params(max_total_iter=_PER_FIT)
    print("ready", flush=True)
    sys.stdin.readline()
    begin, of_cores = time.perf_counter(), time.process_time()
    n_fits = 0
    while time.perf_counter() - begin < seconds:
        distiller.fit(X, y)
        n_fits += 1
    n_iterations = _PER_FIT * n_fits
    found = {
        "seconds": (time.perf_counter() - begin) / n_iterations,
        "core seconds": (time.process_time() - of_cores) / n_iterations,
        "threads": torch.get_num_threads(),
        "bits": distiller.synthetic_.X.tobytes().hex()[:4000],
    }
    print(json.dumps(found), flush=True)
    # The others measure still: continue until they are stopped.
    sys.stdin.readline()


def keep_busy():
    """Compute with two OpenMP threads, in many short regions, for ever."""
    import torch

    torch.set_num_threads(2)
    numbers = torch.randn(64, 64, 64)
    print("ready", flush=True)
    while True:
        numbers = (numbers * 1.0001).sin()


def start(checkout, *arguments):
    environment = dict(os.environ, PYTHONPATH=str(checkout))
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=checkout,
    )


def line(process, expected=None):
    found = process.stdout.readline().strip()
    if not found or (expected and found != expected):
        raise SystemExit(f"a process ended early: {found!r}")
    return found


def measure(checkout, case, n_fits, busy, options):
    """Return what each of some fits side by side measured."""
    others = [start(checkout, "--busy")] if busy else []
    fits = [start(checkout, "--fit", *case, options.seconds) for _ in range(n_fits)]
    try:
        for process in [*others, *fits]:
            line(process, "ready")
        for process in fits:
            process.stdin.write("\n")
            process.stdin.flush()
        return [json.loads(line(process)) for process in fits]
    finally:
        for process in [*others, *fits]:
            process.kill()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each fit")
    parser.add_argument("--cases", type=json.loads, default=CASES)
    parser.add_argument("--loads", nargs="+", choices=list(LOADS), default=list(LOADS))
    parser.add_argument("--fit", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--busy", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.busy:
        keep_busy()
    if options.fit:
        ipc, width, seconds = options.fit
        fit(int(ipc), int(width), float(seconds))
        return
    versions = {"this": ROOT}
    if options.against:
        versions["other"] = options.against.resolve()
    rows = []
    for case in options.cases:
        for load in options.loads:
            n_fits, busy = LOADS[load]
            for version, checkout in versions.items():
                found = measure(checkout, case, n_fits, busy, options)
                seconds = float(np.mean([one["seconds"] for one in found]))
                rows.append(
                    {
                        "ipc": case[0],
                        "width": case[1],
                        "load": load,
                        "version": version,
                        "seconds": seconds,
                        "core seconds": np.mean([one["core seconds"] for one in found]),
                        "same images": len({one["bits"] for one in found}) == 1,
                    }
                )
                print(
                    f"ipc {case[0]}, width {case[1]}, {load}, {version}: "
                    f"{seconds:.3f} s an iteration",
                    flush=True,
                )
    table = pd.DataFrame(rows)
    keys = ["ipc", "width", "version"]
    wide = table.pivot_table("seconds", keys, "load", sort=False)
    wide = wide[options.loads]
    if options.loads[0] == "alone":
        for load in options.loads[1:]:
            wide[load] /= wide["alone"]
    print(f"\n{os.cpu_count()} cores; s alone, and how many times it under load:")
    print(wide.to_string(float_format="%.2f"))
    table.to_csv(Path(__file__).with_name("load.csv"), index=False)


if __name__ == "__main__":
    main()
