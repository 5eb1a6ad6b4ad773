"""STM, which finds its epochs by itself, against MTT, which has to be told.

Figures 3 and 4 of the paper in small: on the same teachers and for the same number of
iterations, STM with several thresholds and MTT with several sizes of its pool of start
epochs, three trials of each with other teachers and other first images.  A network's
rate is the best of one grid for each set.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from defaults import DATA, best_score
from joblib import Parallel, delayed

from skdistill import ChannelScaler, MTTDistiller, STMDistiller, TrajectoryBuffer


def distil(kind, value, teachers, X, y, seed, n_iterations):
    shared = {"ipc": 1, "buffer": teachers, "random_state": seed}
    begin = time.perf_counter()
    if kind == "STM":
        distiller = STMDistiller(
            threshold=value, max_total_iter=n_iterations, **shared
        ).fit(X, y)
        T = distiller.n_epochs_matched_
    else:
        distiller = MTTDistiller(
            max_start_epoch=value, n_target_epochs=1, max_iter=n_iterations, **shared
        ).fit(X, y)
        T = value
    return distiller.synthetic_, T, time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the real data sets")
    parser.add_argument("--dataset", choices=DATA, default="simulated galaxies")
    parser.add_argument("--thresholds", nargs="+", type=float, default=[2, 5, 8])
    parser.add_argument("--pools", nargs="+", type=int, default=[1, 3, 6])
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--teachers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--score-epochs", type=int, default=250)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    X, y, X_test, y_test = DATA[options.dataset][1](options.data)
    scaler = ChannelScaler()
    X, X_test = scaler.fit_transform(X), scaler.transform(X_test)
    arms = [("STM", value) for value in options.thresholds]
    arms += [("MTT", value) for value in options.pools]
    rows = []
    for trial in range(options.trials):
        teachers = TrajectoryBuffer(
            n_teachers=options.teachers,
            n_epochs=options.epochs,
            width=options.width,
            n_jobs=options.jobs,
            random_state=trial,
        ).fit(X, y)
        found = Parallel(n_jobs=options.jobs)(
            delayed(distil)(*arm, teachers, X, y, trial, options.iterations)
            for arm in arms
        )
        for (kind, value), (synthetic, T, seconds) in zip(arms, found, strict=True):
            accuracy = best_score(
                [tuple(synthetic)],
                X_test,
                y_test,
                options.width,
                options.score_epochs,
                5,
                options.jobs,
            )
            rows.append(
                {
                    "method": kind,
                    "threshold or pool": value,
                    "trial": trial,
                    "T": T,
                    "accuracy": accuracy,
                    "seconds": seconds,
                }
            )
            print(pd.DataFrame(rows[-1:]).to_string(index=False, float_format="%.3f"))
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    summary = table.groupby(["method", "threshold or pool"])["accuracy"].agg(
        ["mean", "std", "min", "max"]
    )
    print(f"\n{options.dataset}, {options.iterations} iterations each")
    print(summary.to_string(float_format="%.3f"))
    stm = table[table["method"] == "STM"]
    by_threshold = stm.groupby("threshold or pool")["accuracy"].mean()
    print(f"\nmeans over thresholds differ by {np.ptp(by_threshold):.3f}")


if __name__ == "__main__":
    main()
