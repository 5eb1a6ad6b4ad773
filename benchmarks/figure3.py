"""Figure 3 of the paper: STM and MTT over the iterations of the distillation.

Both have the same teachers and the same first images, three trials each with one image
per class.  The folder holds CIFAR-10 as for table2.py, or galaxies as for table1.py.

    python benchmarks/figure3.py --data folder --scale cpu
"""

from dataclasses import replace
from itertools import product

import matplotlib.pyplot as plt
from _data import any_images
from _report import differences, summarize, write_report
from _tables import Results, arguments, scale_settings
from table2 import SCALES

# After how many iterations networks are trained on the images so far.
MARKS = {
    "paper": (100, 250, 500, 1000, 2000, 3000, 4000, 5000),
    "cpu": (10, 25, 50, 100, 150, 200),
    "smoke": (1, 3),
}
ARMS = ["data", "method", "iterations"]


def cells(name, marks, seeds):
    return [
        {
            "data": name,
            "method": method,
            "ipc": 1,
            "seed": seed,
            "iterations": mark,
        }
        for seed, method, mark in product(range(seeds), ("STM", "MTT"), marks)
    ]


def plot(rows, name):
    fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for method, color in (("STM", "C0"), ("MTT", "C1")):
        part = rows[rows["method"] == method]
        by_trial = part.groupby(["iterations", "seed"])["accuracy"].mean().unstack()
        for trial in by_trial:
            ax.plot(by_trial.index, 100 * by_trial[trial], color=color, alpha=0.3)
        ax.plot(by_trial.index, 100 * by_trial.mean(axis=1), color=color, label=method)
    ax.set(title=name, xlabel="iterations", ylabel="test accuracy in %")
    ax.legend()
    return fig


def main():
    options = arguments(__doc__, "figure3", SCALES).parse_args()
    scale, marks = SCALES[options.scale], MARKS[options.scale]
    scale = replace(scale, n_seeds=options.seeds or scale.n_seeds)
    results = Results(options.out, scale_settings(scale, options) | {"marks": marks})
    name, split = any_images(options.data, scale, options.jobs)
    rows = results.run(
        cells(name, marks, scale.n_seeds),
        {name: split},
        scale,
        options.device,
        options.jobs,
    )
    pairs = [
        (
            f"STM against MTT after {mark} iterations",
            {"method": "STM", "iterations": mark},
            {"method": "MTT", "iterations": mark},
            True,
        )
        for mark in marks
    ]
    pool = min(scale.mtt_pools["1"], scale.n_epochs - 1)
    notes = [
        f"images for training, for the choice of rates and for testing: "
        f"{len(split.y)}, {len(split.y_validation)}, {len(split.y_test)}",
        "all trials share their teachers; a pair has the same first images",
        f"MTT draws its start epochs from the first {pool}",
    ]
    write_report(
        options.out,
        f"STM and MTT over the iterations, {name} (figure 3 of the paper)",
        rows,
        summarize(rows, ARMS),
        differences(rows, pairs),
        notes,
        plot(rows, name),
        options,
    )


if __name__ == "__main__":
    main()
