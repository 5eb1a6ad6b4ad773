"""STM at its paper's scale: all of CIFAR-10, networks of width 128, 50 student steps.

Images are whitened as the paper's are.  A run lasts for hours: teachers and iterations
are kept in ``--path``, it may be stopped at any moment, and the same command resumes
it, with the same ``OMP_NUM_THREADS``: the last bits of whitened images depend on it.
After some iterations the set as it is then is scored: networks that train on it for
1000 epochs with DSA, a learning rate of 0.01 and hard labels, on all test images.
Each score is written at once to ``scores.csv``, the epoch pool and the validation
losses over the iterations to ``history.csv``.

Parameters that the paper does not fix are our defaults; ``--paper`` takes the rules of
the paper for all of them.  ``--averaged-teachers`` takes averages over an epoch as
snapshots, in place of the weights at its end, which the paper takes.
``--mtt`` distills by MTT from the same teachers, with the start and target epochs of
its authors.  ``--start`` continues with the images of an
earlier run, from more teachers than it had; its iterations count from there.

    python benchmarks/published_stm.py --data folder --path folder --seconds 3600
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _budget import Budget, Spent, need_callbacks
from _data import whole_cifar10
from _report import write_text
from _runs import own_folder, positive, read_rows, store_settings, whole, write_rows

from skdistill import (
    ConvNetClassifier,
    MTTDistiller,
    STMDistiller,
    SyntheticSet,
    TrajectoryBuffer,
    ZCAWhitener,
    evaluate_synthetic,
)

MILESTONES = (100, 300, 600, 1000, 1500, 2000, 3000, 4000, 5000)
# What the authors' code sets; the other defaults are the paper's.
PAPER = {"pixel_lr": 1000.0, "step_size_lr": 0.01, "average": False}
STM_PAPER = {"trend_on": "loss", "n_initial_epochs": 1}
# Of the authors of MTT, by the images per class.
MTT_EPOCHS = {
    1: {"max_start_epoch": 2, "n_target_epochs": 2},
    10: {"max_start_epoch": 20, "n_target_epochs": 2},
}
OF_TEACHERS = ("teachers", "epochs", "width", "seed", "averaged_teachers")
# Accuracies in table 2 of the paper, by the images per class.
PUBLISHED = {"STM": {1: 47.7, 10: 65.7}, "MTT": {1: 46.3, 10: 65.3}}


def whitened(data):
    """Return the images as the paper whitens them: from [0, 1], no other scaling."""
    X, y, X_test, y_test = whole_cifar10(data)
    whitener = ZCAWhitener(eps=0.1)
    X = whitener.fit_transform(X.astype(np.float32) / 255)
    return X, y, whitener.transform(X_test.astype(np.float32) / 255), y_test


def make_distiller(options, buffer, checkpoint, n_iter, start=None):
    """Return the distiller that ends after some iterations from a set, if given."""
    rules = PAPER if options.paper else {}
    shared = {
        "buffer": buffer,
        "n_steps": options.steps,
        "batch_size": None,
        "checkpoint": checkpoint,
        "random_state": options.seed,
        "verbose": 1,
    }
    if start is not None:
        shared |= {"init": start, "step_size": start.step_size}
    if options.mtt:
        epochs = MTT_EPOCHS[options.ipc]
        return MTTDistiller(options.ipc, max_iter=n_iter, **shared, **epochs, **rules)
    if options.paper:
        rules = rules | STM_PAPER
    if start is not None:
        # All epochs: that is where the earlier run was.
        rules = rules | {"n_initial_epochs": options.epochs - 1}
    return STMDistiller(options.ipc, max_total_iter=n_iter, **shared, **rules)


def scored(synthetic, test, options):
    """Score by new networks under the protocol of the paper."""
    return evaluate_synthetic(
        synthetic,
        *test,
        estimator=ConvNetClassifier(width=options.width, depth=3, max_iter=1000),
        protocol="paper",
        n_repeats=options.n_networks,
        random_state=options.seed,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument("--path", type=Path, required=True, help="folder of the run")
    parser.add_argument("--ipc", type=int, default=1, choices=(1, 10))
    parser.add_argument("--seconds", type=positive, default=np.inf, help="of this call")
    parser.add_argument("--teachers", type=whole(), default=10)
    parser.add_argument("--epochs", type=whole(), default=10)
    parser.add_argument("--steps", type=whole(), default=50)
    parser.add_argument("--width", type=whole(), default=128)
    parser.add_argument("--paper", action="store_true", help="rules of the paper only")
    parser.add_argument(
        "--averaged-teachers", action="store_true", help="snapshots are averages"
    )
    parser.add_argument("--mtt", action="store_true", help="MTT instead of STM")
    parser.add_argument("--start", type=Path, help="set of an earlier run")
    parser.add_argument("--n-networks", type=whole(), default=5)
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

    def left():
        return Budget(end - time.perf_counter(), time.perf_counter)

    method = "MTT" if options.mtt else "STM"
    settings = "paper" if options.paper else "defaults"
    run = options.path / (f"mtt-{settings}" if options.mtt else settings)
    of_teachers = {name: getattr(options, name) for name in OF_TEACHERS}
    of_run = {"ipc": options.ipc, "steps": options.steps}
    start = None
    if options.start is not None:
        try:
            start = SyntheticSet.load(options.start)
        except (OSError, ValueError) as error:
            raise SystemExit(f"--start: {error}") from error
        of_run["start"] = str(options.start)
    X, y, *test = whitened(options.data)
    store_settings(options.path, of_teachers, "--path")
    store_settings(run, of_run, "--path")
    spent = Spent(options.path / "core_seconds.json")
    table = run / "scores.csv"
    rows = read_rows(table)
    so_far = max((row["iteration"] for row in rows), default=0)
    spent.start("teachers")
    buffer = TrajectoryBuffer(
        n_teachers=options.teachers,
        n_epochs=options.epochs,
        width=options.width,
        average=options.averaged_teachers,
        random_state=options.seed,
        path=options.path / "teachers",
        verbose=1,
    ).set_callbacks(left(), spent)
    buffer.fit(X, y)
    spent.add()
    if buffer.n_teachers_ < options.teachers or time.perf_counter() > end:
        return
    done = {row["iteration"] for row in rows}
    for n_iter in sorted(options.milestones):
        if n_iter in done or time.perf_counter() > end:
            continue
        if n_iter < so_far:
            print(f"left out: {n_iter} iterations, the run has {so_far} already")
            continue
        distiller = make_distiller(options, buffer, run / "checkpoint", n_iter, start)
        distiller.set_callbacks(left(), spent)
        spent.start(run.name)
        synthetic = distiller.fit(X, y).synthetic_
        spent.add()
        write_text(run / "history.csv", pd.DataFrame(distiller.history_).to_csv())
        has_ended = distiller.stop_reason_ == "no trend"
        if distiller.n_iter_ < n_iter and not has_ended:
            # Out of time; the next call resumes here.
            break
        if distiller.n_iter_ not in done:
            synthetic.save(run / f"set-{distiller.n_iter_}.safetensors")
            spent.start("scores")
            found = scored(synthetic, test, options)
            spent.add()
            rows.append(
                {
                    "method": method,
                    "ipc": options.ipc,
                    "teachers": f"{options.teachers} x {options.epochs}",
                    "settings": settings,
                    "iteration": distiller.n_iter_,
                    "epochs matched": getattr(distiller, "n_epochs_matched_", np.nan),
                    "accuracy": 100 * found.mean,
                    "std": 100 * found.std,
                    "networks": options.n_networks,
                    "published": PUBLISHED[method][options.ipc],
                    "teachers_core_hours": spent.hours("teachers"),
                    "core_hours": spent.hours(run.name),
                }
            )
            done.add(distiller.n_iter_)
            print(rows[-1], flush=True)
            write_rows(table, rows)
        if has_ended:
            break


if __name__ == "__main__":
    main()
