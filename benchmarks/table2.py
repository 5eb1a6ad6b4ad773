"""Table 2 of the paper: STM and MTT on CIFAR-10 and CIFAR-100.

Against random real images and all images.  The folder holds train.parquet and
test.parquet of CIFAR-10, or what torchvision stores; a data set that is not there is
left out, which the report states.

    python benchmarks/table2.py --data folder --scale cpu

"cpu" takes a part of the images, small networks and as many iterations for both
methods, in about half an hour on two cores; "paper" is for a GPU.
"""

from dataclasses import replace
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
from _data import DIGITS, cifar, digits, has_cifar, readable, scaled
from _report import differences, summarize, write_report
from _tables import Results, Scale, arguments, scale_settings

SCALES = {
    "paper": Scale(
        size=32,
        n_train=None,
        n_test=None,
        n_rotations=1,
        validation=0.1,
        width=128,
        n_teachers=100,
        n_epochs=50,
        teacher_learning_rate=0.01,
        n_steps={"1": 50, "10": 30, "50": 30},
        n_iterations={"1": None, "10": None, "50": None},
        mtt_pools={"1": 2, "10": 20, "50": 40},
        mtt_iterations=5000,
        score_steps=1000,
        full_epochs=50,
        n_networks=5,
        n_seeds=3,
    ),
    "cpu": Scale(
        size=32,
        n_train=6000,
        n_test=2000,
        n_rotations=1,
        validation=0.25,
        width=32,
        n_teachers=4,
        n_epochs=8,
        teacher_learning_rate=0.01,
        n_steps={"1": 20, "10": 20, "50": 20},
        n_iterations={"1": 150, "10": 80, "50": 50},
        mtt_pools={"1": 2, "10": 20, "50": 40},
        mtt_iterations=200,
        score_steps=120,
        full_epochs=10,
        n_networks=5,
        n_seeds=3,
    ),
    "smoke": Scale(
        size=8,
        n_train=200,
        n_test=100,
        n_rotations=1,
        validation=0.2,
        width=4,
        n_teachers=1,
        n_epochs=4,
        teacher_learning_rate=0.03,
        n_steps={"1": 3, "2": 3},
        n_iterations={"1": 3, "2": 3},
        mtt_pools={"1": 2, "2": 20},
        mtt_iterations=3,
        score_steps=6,
        full_epochs=2,
        n_networks=2,
        n_seeds=2,
    ),
}

# Of the paper, in percent: data, method, images per class.
PUBLISHED = {
    ("CIFAR-10", "random", 1): "14.4 ± 2.0",
    ("CIFAR-10", "random", 10): "26.0 ± 1.2",
    ("CIFAR-10", "random", 50): "43.4 ± 1.0",
    ("CIFAR-10", "MTT", 1): "46.3 ± 0.8",
    ("CIFAR-10", "MTT", 10): "65.3 ± 0.7",
    ("CIFAR-10", "MTT", 50): "71.6 ± 0.2",
    ("CIFAR-10", "STM", 1): "47.7 ± 0.1",
    ("CIFAR-10", "STM", 10): "65.7 ± 0.2",
    ("CIFAR-10", "STM", 50): "72.7 ± 0.2",
    ("CIFAR-10", "full", None): "84.8 ± 0.1",
    ("CIFAR-100", "random", 1): "4.2 ± 0.3",
    ("CIFAR-100", "random", 10): "14.6 ± 0.5",
    ("CIFAR-100", "MTT", 1): "24.3 ± 0.3",
    ("CIFAR-100", "MTT", 10): "40.1 ± 0.4",
    ("CIFAR-100", "STM", 1): "24.4 ± 0.4",
    ("CIFAR-100", "STM", 10): "41.6 ± 0.3",
    ("CIFAR-100", "full", None): "56.2 ± 0.3",
}
ARMS = ["data", "method", "ipc"]


def load(options, scale):
    """Return the data sets that are there."""
    sizes = {
        "n_train": scale.n_train,
        "n_test": scale.n_test,
        "share": scale.validation,
    }
    if options.data == DIGITS:
        return {"digits": scaled(digits(**sizes))}
    names = [n for n in ("CIFAR-10", "CIFAR-100") if has_cifar(options.data, n)]
    if not names:
        raise SystemExit(
            f"--data: {options.data} holds neither CIFAR-10 nor CIFAR-100: "
            "train.parquet and test.parquet, cifar-10-batches-py or cifar-100-python"
        )
    with readable(options.data):
        return {
            name: scaled(cifar(options.data, name, **sizes), whiten=True)
            for name in names
        }


def cells(names, scale, seeds):
    """Return the cells, the seeds after one another: a part of a run is a table."""
    found = []
    for seed, name, ipc in product(range(seeds), names, map(int, scale.n_steps)):
        # In the paper CIFAR-100 has no 50 images per class.
        if name == "CIFAR-100" and ipc > 10:
            continue
        found += [
            {"data": name, "method": method, "ipc": ipc, "seed": seed}
            for method in ("random", "MTT", "STM")
        ]
    found += [{"data": name, "method": "full", "seed": 0} for name in names]
    return found


def plot(summary):
    names = summary["data"].unique()
    fig, axes = plt.subplots(
        1, len(names), figsize=(5 * len(names), 4), squeeze=False, layout="constrained"
    )
    for ax, name in zip(axes[0], names, strict=True):
        part = summary[summary["data"] == name]
        for method in ("random", "MTT", "STM"):
            arm = part[part["method"] == method]
            ax.errorbar(
                arm["ipc"],
                100 * arm["mean"],
                100 * arm["std_seeds"].fillna(0),
                marker="o",
                capsize=3,
                label=method,
            )
        full = part[part["method"] == "full"]["mean"]
        ax.axhline(100 * full.item(), color="gray", linestyle="--", label="all images")
        ax.set(
            title=name,
            xscale="log",
            xlabel="images per class",
            ylabel="test accuracy in %",
        )
        ax.legend()
    return fig


def main():
    options = arguments(__doc__, "table2", SCALES).parse_args()
    scale = SCALES[options.scale]
    if options.seeds:
        scale = replace(scale, n_seeds=options.seeds)
    results = Results(options.out, scale_settings(scale, options))
    data = load(options, scale)
    rows = results.run(
        cells(data, scale, scale.n_seeds), data, scale, options.device, options.jobs
    )
    summary = summarize(rows, ARMS)
    summary["paper"] = [
        PUBLISHED.get(
            (row.data, row.method, None if pd.isna(row.ipc) else int(row.ipc)), "-"
        )
        for row in summary.itertuples()
    ]
    pairs = []
    for name, ipc in dict.fromkeys(
        (cell["data"], cell["ipc"]) for cell in cells(data, scale, 1) if "ipc" in cell
    ):
        stm, mtt, random = (
            {"data": name, "method": method, "ipc": ipc}
            for method in ("STM", "MTT", "random")
        )
        text = f"{name}, {ipc} per class: STM against"
        pairs += [
            (f"{text} random", stm, random, False),
            (f"{text} MTT", stm, mtt, True),
        ]
    sizes = {name: [len(part.y), len(part.y_validation), len(part.y_test)]
             for name, part in data.items()}  # fmt: skip
    notes = [
        f"images for training, for the choice of rates and for testing: {sizes}",
        "all seeds share their teachers; STM and MTT have the same, the same first "
        "images and, where iterations are limited, as many",
    ]
    notes += [
        f"{name} was not there"
        for name in ("CIFAR-10", "CIFAR-100")
        if name not in data
    ]
    write_report(
        options.out,
        "CIFAR (table 2 of the paper)",
        rows,
        summary,
        differences(rows, pairs),
        notes,
        plot(summary),
        options,
    )


if __name__ == "__main__":
    main()
