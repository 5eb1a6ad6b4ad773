"""Accuracies of papers at their scale: all of CIFAR-10, networks of width 128.

One method in a call.  Settings are those of the method's authors; the table states
where they differ.  A run lasts for hours: it keeps a checkpoint, may be stopped at any
moment, and is resumed by the same command.  At some iterations, and at the end of
``--seconds``, the set is scored under the published protocol: networks with hard
labels (``--networks-between``, at the last iteration ``--n-networks``), SGD of learning
rate .01 and momentum .9, 300 epochs without augmentation and 1000 with that of DSA, on
all 10,000 test images.  Each score is written at once, to ``scores.csv`` in the run's
folder.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from published import N_EPOCHS, standardized

from skdistill import (
    ConvNetClassifier,
    DCDistiller,
    DMDistiller,
    DSADistiller,
    evaluate_synthetic,
    load_cifar10,
)

WIDTH, DEPTH = 128, 3
# What the authors' code sets, and the accuracies that the papers have for 1 and 10
# images per class, the first without and the others with augmentation.
METHODS = {
    "dc": (DCDistiller, {"pixel_lr": 0.1, "init": "noise"}, 1000, "none"),
    "dsa": (DSADistiller, {"pixel_lr": 0.1, "init": "real"}, 1000, "dsa"),
    "dm": (DMDistiller, {"pixel_lr": 1.0, "init": "real"}, 20_000, "dsa"),
}
PUBLISHED = {
    ("dc", 1): 28.3,
    ("dc", 10): 44.9,
    ("dsa", 1): 28.8,
    ("dsa", 10): 52.1,
    ("dm", 1): 26.0,
    ("dm", 10): 48.9,
}
MILESTONES = (30, 100, 200, 300, 500, 1000, 2000, 3000, 5000, 10_000, 20_000)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument("--path", type=Path, required=True, help="folder of the run")
    parser.add_argument("--seconds", type=float, default=np.inf, help="of this call")
    parser.add_argument("--batch-size", default="256", help='or "auto"')
    parser.add_argument("--n-networks", type=int, default=5, help="at the end")
    parser.add_argument("--networks-between", type=int, default=2)
    parser.add_argument("--augmentation", nargs="*", default=None)
    parser.add_argument("--milestones", type=int, nargs="+", default=MILESTONES)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    start = time.perf_counter()
    distiller, settings, last, protocol = METHODS[options.method]
    protocols = options.augmentation or [protocol]
    batch_size = options.batch_size
    X, y = load_cifar10(options.data, subset="train", return_X_y=True)
    X_test, y_test = load_cifar10(options.data, subset="test", return_X_y=True)
    X, X_test = standardized(X), standardized(X_test)
    options.path.mkdir(parents=True, exist_ok=True)
    table, spent = options.path / "scores.csv", options.path / "seconds.json"
    rows = pd.read_csv(table).to_dict("records") if table.exists() else []
    milestones = [n for n in options.milestones if n < last * options.ipc]
    for n_iter in [1, *milestones, last * options.ipc]:
        done = {row["augmentation"] for row in rows if row["iteration"] == n_iter}
        if done.issuperset(protocols):
            continue
        remaining = options.seconds - (time.perf_counter() - start)
        if remaining <= 0:
            break
        fitted = distiller(
            options.ipc,
            max_iter=n_iter,
            batch_size=batch_size if batch_size == "auto" else int(batch_size),
            average=False,
            width=WIDTH,
            depth=DEPTH,
            checkpoint=options.path / "checkpoint",
            random_state=options.seed,
            verbose=1,
            **settings,
        )
        began = time.process_time()
        synthetic = fitted.fit(X, y).synthetic_
        core_seconds = json.loads(spent.read_text()) if spent.exists() else 0.0
        core_seconds += time.process_time() - began
        spent.write_text(json.dumps(core_seconds))
        synthetic.save(options.path / f"set-{n_iter}.safetensors")
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
                n_repeats=(
                    options.n_networks
                    if n_iter == last * options.ipc
                    else options.networks_between
                ),
                random_state=options.seed,
            )
            published = PUBLISHED.get((options.method, options.ipc))
            rows.append(
                {
                    "method": options.method,
                    "ipc": options.ipc,
                    "batch_size": batch_size,
                    "iteration": n_iter,
                    "augmentation": augmentation,
                    "accuracy": 100 * found.mean,
                    "std": 100 * found.std,
                    "published": published if augmentation == protocol else np.nan,
                    "core_hours": core_seconds / 3600,
                }
            )
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(table, index=False)


if __name__ == "__main__":
    main()
