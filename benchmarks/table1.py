"""Table 1 of the paper: curated Galaxy Zoo 2, with and without rotations.

STM from real images and from noise, random real images, and all images.  The folder
holds votes.csv, or labels.csv with the classes, and images/.

    python benchmarks/table1.py --data folder --scale cpu

"cpu" takes all galaxies of the classes that have enough of them, at 32 pixels, with
small networks and a fixed number of iterations, within half an hour on two cores;
"resolution" has the paper's resolution and width, one image per class and one seed, but
so few iterations that images hardly change: it shows the cost; "paper" is for a GPU.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _data import (
    SIMULATED,
    labeled_galaxies,
    readable,
    real_galaxies,
    scaled,
    simulated_galaxies,
    without_rare,
)
from _report import differences, summarize, write_report
from _tables import Results, Scale, arguments, scale_settings

SCALES = {
    "paper": Scale(
        size=128,
        n_train=500,
        n_test=100,
        n_rotations=10,
        validation=0.1,
        width=128,
        n_teachers=100,
        n_epochs=50,
        teacher_learning_rate=0.001,
        n_steps={"1": 50, "10": 20},
        n_iterations={"1": None, "10": None},
        mtt_pools={"1": 2, "10": 20},
        mtt_iterations=5000,
        score_steps=1000,
        full_epochs=100,
        n_networks=5,
        n_seeds=3,
        step_size=1e-4,
    ),
    "cpu": Scale(
        size=32,
        n_train=None,
        n_test=0.3,
        n_rotations=4,
        validation=0.15,
        width=32,
        n_teachers=4,
        n_epochs=8,
        teacher_learning_rate=0.01,
        n_steps={"1": 20, "10": 20},
        n_iterations={"1": 150, "10": 80},
        mtt_pools={"1": 2, "10": 20},
        mtt_iterations=200,
        score_steps=120,
        full_epochs=15,
        n_networks=5,
        n_seeds=3,
    ),
    # Full resolution and width in some three core-hours: no networks on all images.
    "resolution": Scale(
        size=128,
        n_train=None,
        n_test=0.3,
        n_rotations=4,
        validation=0.15,
        width=128,
        n_teachers=2,
        n_epochs=4,
        teacher_learning_rate=0.01,
        n_steps={"1": 20},
        n_iterations={"1": 60},
        mtt_pools={},
        mtt_iterations=0,
        score_steps=120,
        full_epochs=0,
        n_networks=3,
        n_seeds=1,
        n_validation_networks=1,
    ),
    "smoke": Scale(
        size=16,
        n_train=180,
        n_test=90,
        n_rotations=2,
        validation=0.2,
        width=4,
        n_teachers=1,
        n_epochs=3,
        teacher_learning_rate=0.03,
        n_steps={"1": 3},
        n_iterations={"1": 3},
        mtt_pools={"1": 2},
        mtt_iterations=3,
        score_steps=6,
        full_epochs=2,
        n_networks=2,
        n_seeds=2,
    ),
}

PLAIN, ROTATED = "curated", "rotated"
# Of the paper, in percent: data, method, init, images per class.
PUBLISHED = {
    (PLAIN, "random", None, 1): "27.4 ± 0.5",
    (PLAIN, "random", None, 10): "46.0 ± 0.9",
    (PLAIN, "STM", "real", 1): "53.1 ± 1.7",
    (PLAIN, "STM", "real", 10): "63.9 ± 1.0",
    (PLAIN, "STM", "noise", 1): "54.6 ± 1.1",
    (PLAIN, "STM", "noise", 10): "62.4 ± 0.9",
    (ROTATED, "STM", "real", 1): "54.7 ± 0.7",
    (ROTATED, "STM", "real", 10): "68.4 ± 1.2",
    (ROTATED, "STM", "noise", 1): "54.6 ± 2.0",
    (ROTATED, "STM", "noise", 10): "67.4 ± 1.3",
    (PLAIN, "full", None, None): "84.5 ± 0.6",
    (ROTATED, "full", None, None): "89.0 ± 0.5",
}
ARMS = ["data", "method", "init", "ipc"]


def load(options, scale, n_rotations):
    shared = {"share": scale.validation, "n_rotations": n_rotations}
    if options.data == SIMULATED:
        sizes = (
            (scale.n_train, scale.n_test) if options.scale == "smoke" else (900, 450)
        )
        return scaled(simulated_galaxies(scale.size, *sizes, **shared))
    shared["n_jobs"] = options.jobs
    if (Path(options.data) / "labels.csv").is_file():
        return scaled(labeled_galaxies(options.data, scale.size, **shared))
    parts = real_galaxies(
        options.data, scale.size, scale.n_train, scale.n_test, **shared
    )
    # Random images need as many galaxies of each class.
    least = max(map(int, scale.n_steps)) * n_rotations
    return scaled(without_rare(parts, least))


def cells(scale, seeds):
    """Return the cells, the seeds after one another: a part of a run is a table."""
    found = []
    for seed, ipc in product(range(seeds), map(int, scale.n_steps)):
        # Random images need no distillation, and vary more.
        for draw in (2 * seed, 2 * seed + 1):
            found.append({"data": PLAIN, "method": "random", "ipc": ipc, "seed": draw})
        for data, init in product((PLAIN, ROTATED), ("real", "noise")):
            found.append(
                {"data": data, "method": "STM", "init": init, "ipc": ipc, "seed": seed}
            )
    if scale.full_epochs:
        found += [
            {"data": name, "method": "full", "seed": 0} for name in (PLAIN, ROTATED)
        ]
    return found


def plot(summary):
    fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    names = [
        " ".join(str(v) for v in (row.data, row.method, row.init) if not pd.isna(v))
        + ("" if pd.isna(row.ipc) else f", {row.ipc:.0f} per class")
        for row in summary.itertuples()
    ]
    ax.barh(names, 100 * summary["mean"], xerr=100 * summary["std_networks"], capsize=3)
    ax.invert_yaxis()
    ax.set(xlabel="test accuracy in %, ± standard deviation over networks")
    return fig


def main():
    options = arguments(__doc__, "table1", SCALES).parse_args()
    scale = SCALES[options.scale]
    if options.seeds:
        scale = replace(scale, n_seeds=options.seeds)
    results = Results(options.out, scale_settings(scale, options))
    with readable(options.data):
        data = {
            PLAIN: load(options, scale, 1),
            ROTATED: load(options, scale, scale.n_rotations),
        }
    rows = results.run(
        cells(scale, scale.n_seeds), data, scale, options.device, options.jobs
    )
    summary = summarize(rows, ARMS)
    summary["paper"] = [
        PUBLISHED.get(tuple(None if pd.isna(v) else v for v in row), "-")
        for row in summary[ARMS].itertuples(index=False)
    ]
    pairs = []
    for ipc in map(int, scale.n_steps):
        random = {"data": PLAIN, "method": "random", "ipc": ipc}
        for init in ("real", "noise"):
            plain, turned = (
                {"data": data, "method": "STM", "init": init, "ipc": ipc}
                for data in (PLAIN, ROTATED)
            )
            text = f"STM from {init}, {ipc} per class"
            pairs += [
                (f"{text}, against random", plain, random, False),
                (f"{text}, rotated against not", turned, plain, False),
            ]
    classes = np.unique(data[PLAIN].y)
    sizes = {name: [len(part.y), len(part.y_validation), len(part.y_test)]
             for name, part in data.items()}  # fmt: skip
    notes = [
        f"images for training, for the choice of rates and for testing: {sizes}, of "
        f"{scale.size} pixels",
        f"{len(classes)} classes with galaxies enough: {', '.join(map(str, classes))}",
        "all seeds of a data set share their teachers",
    ]
    if Path(options.data).name == "gz2-sample":
        notes.append(
            "gz2-sample is no random sample of Galaxy Zoo 2: its author took as many "
            "spirals, ellipticals, edge-on galaxies and mergers; it is far smaller "
            "than the paper's selection: accuracies are not comparable with the paper's"
        )
    elif (Path(options.data) / "labels.csv").is_file():
        notes.append("the classes are not the paper's nine: no accuracies to compare")
    elif options.data == SIMULATED:
        notes.append("simulated galaxies, rotated by quarter turns: not the sky")
    write_report(
        options.out,
        "Curated Galaxy Zoo 2 (table 1 of the paper)",
        rows,
        summary,
        differences(rows, pairs),
        notes,
        plot(summary),
        options,
    )


if __name__ == "__main__":
    main()
