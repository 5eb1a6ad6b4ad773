"""Figure 4 of the paper: how much STM depends on its threshold, MTT on its pool.

STM with several thresholds, and MTT with several sizes of its pool of start epochs,
which STM does not need, with the same teachers and number of iterations; three trials
of each with one image per class.  Teachers are averaged, as by default, and the target
of both methods is two epochs ahead, as in MTT.  The folder holds CIFAR-10
as for table2.py, or galaxies as for table1.py.  "cpu" takes 70 minutes on two cores.

    python benchmarks/figure4.py --data folder --scale cpu
"""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from _data import any_images
from _report import differences, summarize, write_report
from _tables import Results, arguments, scale_settings
from table2 import SCALES

DEFAULT = 5.0
THRESHOLDS = {
    "paper": (1.0, 2.0, 3.0, DEFAULT, 7.0),
    "cpu": (1.0, 2.0, 3.0, DEFAULT, 8.0),
    "smoke": (2.0, DEFAULT),
}
# In 300 a threshold of 8 takes in three or four epochs of six, in 1,000 all of them.
ITERATIONS = {"paper": None, "cpu": 1000, "smoke": 3}
POOLS = {"paper": (1, 2, 5, 10, 20), "cpu": (1, 3, 6), "smoke": (1, 2)}
ARMS = ["data", "method", "threshold", "pool"]


def cells(name, scale, thresholds, pools, iterations):
    found = []
    for seed in range(scale.n_seeds):
        shared = {
            "data": name,
            "ipc": 1,
            "seed": seed,
            "iterations": iterations,
            "teachers": (scale.n_teachers, scale.n_epochs, True),
        }
        stm = shared | {"method": "STM", "parameters": {"n_target_epochs": 2}}
        found += [stm | {"threshold": threshold} for threshold in thresholds]
        found += [shared | {"method": "MTT", "pool": pool} for pool in pools]
    return found


def plot(rows, name):
    fig, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for ax, method, value, label in (
        (axes[0], "STM", "threshold", "threshold λ of STM"),
        (axes[1], "MTT", "pool", "start epochs of MTT"),
    ):
        part = rows[rows["method"] == method]
        by_trial = part.groupby([value, "seed"])["accuracy"].mean().unstack()
        ax.plot(by_trial.index, 100 * by_trial, "o", color="C0", alpha=0.3)
        ax.plot(by_trial.index, 100 * by_trial.mean(axis=1), color="C0")
        ax.set(xlabel=label)
    axes[0].set(ylabel="test accuracy in %")
    fig.suptitle(name)
    return fig


def main():
    options = arguments(__doc__, "figure4", SCALES).parse_args()
    scale = SCALES[options.scale]
    scale = replace(scale, n_seeds=options.seeds or scale.n_seeds)
    thresholds, pools = THRESHOLDS[options.scale], POOLS[options.scale]
    iterations = ITERATIONS[options.scale]
    results = Results(
        options.out,
        scale_settings(scale, options)
        | {"thresholds": thresholds, "pools": pools, "iterations": iterations},
    )
    name, split = any_images(options.data, scale, options.jobs)
    rows = results.run(
        cells(name, scale, thresholds, pools, iterations),
        {name: split},
        scale,
        options.device,
        options.jobs,
    )
    chosen = {"method": "STM", "threshold": DEFAULT}
    pairs = [
        (
            f"threshold {DEFAULT:g} against {threshold:g}",
            chosen,
            {"method": "STM", "threshold": threshold},
            True,
        )
        for threshold in thresholds
        if threshold != DEFAULT
    ]
    pairs += [
        (
            f"STM against MTT with {pool} start epochs",
            chosen,
            {"method": "MTT", "pool": pool},
            True,
        )
        for pool in pools
    ]
    means = rows[rows["method"] == "STM"].groupby("threshold")["accuracy"].mean()
    matched = rows.groupby("threshold")["n_epochs_matched"].mean().round(1).to_dict()
    notes = [
        f"images for training, for the choice of rates and for testing: "
        f"{len(split.y)}, {len(split.y_validation)}, {len(split.y_test)}",
        "all trials share their teachers; a seed has the same first images",
        f"means over thresholds differ by {100 * np.ptp(means):.1f} points at most",
        f"epochs that STM matched in the end, by threshold: {matched}",
    ]
    write_report(
        options.out,
        f"Thresholds of STM and pools of MTT, {name} (figure 4 of the paper)",
        rows,
        summarize(rows, ARMS),
        differences(rows, pairs),
        notes,
        plot(rows, name),
        options,
    )


if __name__ == "__main__":
    main()
