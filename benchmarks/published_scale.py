"""Accuracies of papers at their scale: all of CIFAR-10, networks of width 128.

One method in a call.  Settings are those of the method's authors; the table states
where they differ.  A run lasts for hours: it keeps a checkpoint, may be stopped at any
moment, and is resumed by the same command; ``--seconds`` stops it after an iteration.
At some iterations the set is scored under the published protocol: networks with hard
labels (``--networks-between``, at the last iteration ``--n-networks``), SGD of learning
rate .01 and momentum .9, 300 epochs without augmentation and 1000 with that of DSA, on
all 10,000 test images.  Each score is written at once, to ``scores.csv`` in the run's
folder.

    python benchmarks/published_scale.py --method dm --data folder --path folder
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from _budget import Budget, Spent, need_callbacks
from _data import whole_cifar10
from _runs import own_folder, positive, read_rows, store_settings, whole, write_rows
from published import N_EPOCHS, standardized

from skdistill import (
    ConvNetClassifier,
    DCDistiller,
    DMDistiller,
    DSADistiller,
    evaluate_synthetic,
)

WIDTH, DEPTH = 128, 3
# What the authors' code sets: parameters, networks and augmentation of the evaluation.
# DC and DSA use each network for as many iterations as there are images of a class.
METHODS = {
    "dc": (DCDistiller, {"pixel_lr": 0.1, "init": "noise"}, 1000, "none"),
    "dsa": (DSADistiller, {"pixel_lr": 0.1, "init": "real"}, 1000, "dsa"),
    "dm": (DMDistiller, {"pixel_lr": 1.0, "init": "real"}, 20_000, "dsa"),
}
# The accuracies that the papers have for 1 and 10 images per class.
PUBLISHED = {
    ("dc", 1): 28.3,
    ("dc", 10): 44.9,
    ("dsa", 1): 28.8,
    ("dsa", 10): 52.1,
    ("dm", 1): 26.0,
    ("dm", 10): 48.9,
}
OF_RUN = ("method", "ipc", "batch_size", "seed")
MILESTONES = (30, 100, 200, 300, 500, 1000, 2000, 3000, 5000, 10_000, 20_000)


def batch_size(text):
    """Return a number of images, or "auto"; a type of argparse."""
    return text if text == "auto" else whole()(text)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--ipc", type=whole(), default=1)
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument("--path", type=Path, required=True, help="folder of the run")
    parser.add_argument("--seconds", type=positive, default=np.inf, help="of this call")
    parser.add_argument("--batch-size", type=batch_size, default=256, help='or "auto"')
    parser.add_argument("--n-networks", type=whole(), default=5, help="at the end")
    parser.add_argument("--networks-between", type=whole(), default=2)
    parser.add_argument("--augmentation", nargs="*", choices=N_EPOCHS, default=None)
    parser.add_argument("--milestones", type=whole(), nargs="+", default=MILESTONES)
    parser.add_argument("--threads", type=whole())
    parser.add_argument("--seed", type=whole(0), default=0)
    options = parser.parse_args()
    need_callbacks()
    if options.threads:
        torch.set_num_threads(options.threads)
    end = time.perf_counter() + options.seconds
    with own_folder(options.path, "--path"):
        distill(options, end)


def distill(options, end):
    """Continue the run until it is done, or the time is over."""
    distiller, settings, last, protocol = METHODS[options.method]
    protocols = options.augmentation or [protocol]
    of_run = {name: getattr(options, name) for name in OF_RUN}
    X, y, X_test, y_test = whole_cifar10(options.data)
    X, X_test = standardized(X), standardized(X_test)
    store_settings(options.path, of_run, "--path")
    spent = Spent(options.path / "seconds.json")
    table = options.path / "scores.csv"
    rows = read_rows(table)
    so_far = max((row["iteration"] for row in rows), default=0)
    if distiller is not DMDistiller:
        last *= options.ipc
    for n_iter in sorted({1, *(n for n in options.milestones if n < last), last}):
        done = {row["augmentation"] for row in rows if row["iteration"] == n_iter}
        if done.issuperset(protocols):
            continue
        if time.perf_counter() > end:
            break
        if n_iter < so_far:
            print(f"left out: {n_iter} iterations, the run has {so_far} already")
            continue
        fitted = distiller(
            options.ipc,
            max_iter=n_iter,
            batch_size=options.batch_size,
            average=False,
            width=WIDTH,
            depth=DEPTH,
            checkpoint=options.path / "checkpoint",
            random_state=options.seed,
            verbose=1,
            **settings,
        ).set_callbacks(Budget(end - time.perf_counter(), time.perf_counter), spent)
        spent.start("iterations")
        synthetic = fitted.fit(X, y).synthetic_
        spent.add()
        if fitted.n_iter_ < n_iter:
            # Out of time; the next call resumes here.
            break
        synthetic.save(options.path / f"set-{n_iter}.safetensors")
        n_networks = options.n_networks if n_iter == last else options.networks_between
        for augmentation in protocols:
            if augmentation in done:
                continue
            estimator = ConvNetClassifier(
                width=WIDTH,
                depth=DEPTH,
                learning_rate=0.01,
                max_iter=N_EPOCHS[augmentation],
                augmentation=None if augmentation == "none" else "dsa",
            )
            found = evaluate_synthetic(
                synthetic,
                X_test,
                y_test,
                estimator=estimator,
                n_repeats=n_networks,
                random_state=options.seed,
            )
            published = PUBLISHED.get((options.method, options.ipc))
            rows.append(
                {
                    "method": options.method,
                    "ipc": options.ipc,
                    "batch_size": options.batch_size,
                    "iteration": n_iter,
                    "augmentation": augmentation,
                    "accuracy": 100 * found.mean,
                    "std": 100 * found.std,
                    "networks": n_networks,
                    "published": published if augmentation == protocol else np.nan,
                    "core_hours": spent.hours("iterations"),
                }
            )
            print(rows[-1], flush=True)
            write_rows(table, rows)


if __name__ == "__main__":
    main()
