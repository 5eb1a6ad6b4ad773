"""Memory of each step on images in a file, above the file's own pages.

Images of 8 bits are written to files of two sizes, and each step is run on their memory
map in a process of its own that has run it on a few images before.  The result is the
peak of the private memory of the process and its workers (RssAnon): the system can drop
pages of a map at any time.

    python benchmarks/memory.py
    python benchmarks/memory.py --against /path/to/another/checkout

With --against the same steps are also run by the code of another checkout, which may
need to keep everything in memory: only with the smaller size, unless --against-images
says otherwise.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
N_CLASSES = 10
_FEW = 60


def write_images(path, n_images, size):
    """Write images of several colors and much noise, of which a class has one."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 200, (64, size, size, 3), dtype=np.uint8)
    shape = (n_images, size, size, 3)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    for start in range(0, n_images, 64):
        part = noise[: n_images - start]
        colors = np.arange(start, start + len(part)) % N_CLASSES * 5
        images[start : start + 64] = part + colors.astype(np.uint8)[:, None, None, None]
    images.flush()


def steps(folder):
    """Return the steps: functions of images and labels."""
    from skdistill import (
        ChannelScaler,
        ClassMeans,
        ConvNetClassifier,
        FullData,
        Herding,
        KMeansPrototypes,
        RandomSubset,
        STMDistiller,
        TrajectoryBuffer,
        evaluate_synthetic,
    )

    scaler = ChannelScaler()

    def teachers(**changes):
        settings = {"n_teachers": 1, "n_epochs": 1, "width": 4, "depth": 2}
        settings |= {"batch_size": 64, "random_state": 0, "device": "cpu"}
        return TrajectoryBuffer(**(settings | changes))

    def transform(X, y):
        scaler.fit(X[:_FEW])
        options = {}
        if "out" in inspect.signature(scaler.transform).parameters:
            options["out"] = folder / "scaled.npy"
        scaler.transform(X, **options)

    def network():
        return ConvNetClassifier(
            width=4, depth=2, max_iter=1, batch_size=64, device="cpu"
        )

    def distill(X, y):
        few = teachers(n_epochs=2).fit(X[:_FEW], y[:_FEW])
        STMDistiller(
            buffer=few, n_steps=1, max_total_iter=1, device="cpu", random_state=0
        ).fit(X, y)

    def evaluate(X, y):
        evaluate_synthetic(
            (X[:_FEW], y[:_FEW]), X, y, estimator=network(), n_repeats=1, random_state=0
        )

    return {
        "ChannelScaler.fit": lambda X, y: scaler.fit(X),
        "ChannelScaler.transform": transform,
        "teachers": lambda X, y: teachers().fit(X, y),
        "teachers, two processes": lambda X, y: teachers(n_teachers=2, n_jobs=2).fit(
            X, y
        ),
        "STMDistiller, given teachers": distill,
        "RandomSubset": lambda X, y: RandomSubset(random_state=0).fit(X, y),
        "ClassMeans": lambda X, y: ClassMeans().fit(X, y),
        "KMeansPrototypes": lambda X, y: KMeansPrototypes(2, random_state=0).fit(X, y),
        "Herding": lambda X, y: Herding(2).fit(X, y),
        "FullData": lambda X, y: FullData().fit(X, y),
        "ConvNetClassifier.fit": lambda X, y: network().fit(X, y),
        "evaluate_synthetic": evaluate,
    }


def work(path, names):
    """Do steps in this process; tell on standard output when each begins and ends."""
    warnings.simplefilter("ignore")
    X = np.load(path, mmap_mode="r")
    y = np.arange(len(X)) % N_CLASSES
    with tempfile.TemporaryDirectory(dir=Path(path).parent) as folder:
        found = steps(Path(folder))
        for name in names:
            found[name](X[:_FEW], y[:_FEW])
            print(json.dumps({"begin": name}), flush=True)
            sys.stdin.readline()
            begin = time.perf_counter()
            found[name](X, y)
            seconds = time.perf_counter() - begin
            print(json.dumps({"end": name, "seconds": seconds}), flush=True)
            sys.stdin.readline()


def own_memory(process):
    """Return the bytes that belong to a process and its children alone."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            with open(f"/proc/{one.pid}/status") as file:
                for line in file:
                    if line.startswith("RssAnon"):
                        total += 1024 * int(line.split()[1])
    except (OSError, psutil.Error):
        pass  # it has just ended
    return total


def measure(path, names, root=ROOT):
    """Return the peak of each step in MiB, and its seconds.

    Parameters
    ----------
    path : path-like
        The images.
    names : list of str
        Steps, which one process does one after the other.
    root : path-like
        The checkout whose code does them.
    """
    process = subprocess.Popen(
        [sys.executable, __file__, "--work", os.fspath(path), *names],
        env={**os.environ, "PYTHONPATH": os.fspath(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.set_blocking(process.stdout.fileno(), False)
    watched = psutil.Process(process.pid)
    peaks, seconds = {}, {}
    before = peak = 0
    while process.poll() is None:
        peak = max(peak, own_memory(watched))
        line = process.stdout.readline()
        if not line:
            time.sleep(0.005)
            continue
        told = json.loads(line)
        if "begin" in told:
            before = peak = own_memory(watched)
        else:
            peaks[told["end"]] = (peak - before) / 2**20
            seconds[told["end"]] = told["seconds"]
        process.stdin.write("\n")
        process.stdin.flush()
    if process.returncode or set(peaks) != set(names):
        raise RuntimeError(f"{names} failed with code {process.returncode}")
    return peaks, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[2_000, 10_000])
    parser.add_argument("--size", type=int, default=128, help="pixels on a side")
    parser.add_argument("--steps", nargs="+", help="names of steps; all by default")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--against-images", type=int, nargs="+")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).with_suffix(".csv"), help="table"
    )
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work[0], options.work[1:])
        return

    import pandas as pd

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        names = options.steps or list(steps(Path(folder)))
        for n_images in options.images:
            path = Path(folder) / "X.npy"
            write_images(path, n_images, options.size)
            codes = {"after" if options.against else "here": ROOT}
            if options.against and n_images in (
                options.against_images or options.images[:1]
            ):
                codes = {"before": options.against.resolve(), **codes}
            for name in names:
                for code, root in codes.items():
                    peaks, seconds = measure(path, [name], root)
                    row = {
                        "step": name,
                        "images": n_images,
                        "of MiB": path.stat().st_size / 2**20,
                        "code": code,
                        "peak MiB": peaks[name],
                        "seconds": seconds[name],
                    }
                    rows.append(row)
                    print(row, flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(options.out, index=False)
    wide = table.pivot(
        index="step", columns=["images", "code"], values=["peak MiB", "seconds"]
    )
    print(wide.reindex(names).to_string(float_format="%.0f"))


if __name__ == "__main__":
    main()
