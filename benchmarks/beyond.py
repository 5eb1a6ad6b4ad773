"""What skdistill adds to the paper's method, against the method as written.

"paper" is algorithm 1: all images in each step of the student, the last images, a
trend test on the loss.  Its fixed rates alone are not there, which leave the images of
small networks almost as they were: all settings have the adaptive ones.  "default" is
STMDistiller as it is; the others change one or two of its parameters.

All settings cost the same: as many gradients of single images that students follow,
the number of iterations times that of steps times that of images per step.  They have
the same teachers, the same first images, and scores by the same protocol.  The folder
holds CIFAR-10 as for table2.py, or galaxies as for table1.py.

    python benchmarks/beyond.py --data folder --scale cpu
"""

from dataclasses import replace
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
from _data import any_images
from _tables import (
    Results,
    arguments,
    differences,
    scale_settings,
    summarise,
    write_report,
)
from table2 import SCALES

from skdistill import STMDistiller

PAPER = "paper"
# The number of steps is in units of the scale's.
SETTINGS = {
    PAPER: {"batch_size": None, "average": False, "trend_on": "loss"},
    "default": {},
    "half the steps": {"n_steps": 0.5},
    "learned labels": {"labels": "learned"},
    "learned labels, half the steps": {"labels": "learned", "n_steps": 0.5},
}
# Gradients that the students of a distillation follow, by images per class.
COSTS = {
    "paper": {"1": 2_500_000, "10": 15_000_000},
    "cpu": {"1": 60_000, "10": 160_000},
    "smoke": {"1": 120, "2": 240},
}
ARMS = ["data", "ipc", "setting"]


def cells(name, split, scale, costs, seeds):
    """Return the cells, the seeds after one another: a part of a run is a table."""
    found = []
    for seed, ipc, setting in product(range(seeds), costs, SETTINGS):
        parameters = dict(SETTINGS[setting])
        share = parameters.pop("n_steps", 1)
        parameters["n_steps"] = max(1, round(share * scale.n_steps[ipc]))
        n_seen = parameters["n_steps"] * images_per_step(int(ipc), parameters, split)
        found.append(
            {
                "data": name,
                "method": "STM",
                "setting": setting,
                "ipc": int(ipc),
                "seed": seed,
                "iterations": costs[ipc] // n_seen,
                "parameters": parameters,
            }
        )
    return found


def images_per_step(ipc, parameters, split):
    """Return the number of images that a distiller would take in each step."""
    distiller = STMDistiller(ipc, **parameters)
    distiller.classes_ = np.unique(split.y)
    distiller.image_shape_ = split.X.shape[1:]
    return distiller._images_per_step(ipc * len(distiller.classes_))


def plot(summary):
    ipcs = summary["ipc"].unique()
    fig, axes = plt.subplots(
        1, len(ipcs), figsize=(5 * len(ipcs), 3), squeeze=False, layout="constrained"
    )
    for ax, ipc in zip(axes[0], ipcs, strict=True):
        part = summary[summary["ipc"] == ipc]
        ax.barh(
            part["setting"],
            100 * part["mean"],
            xerr=100 * part["std_seeds"].fillna(0),
            capsize=3,
        )
        ax.invert_yaxis()
        ax.set(title=f"{ipc} images per class", xlabel="test accuracy in %")
    return fig


def main():
    options = arguments(__doc__, "beyond").parse_args()
    scale, costs = SCALES[options.scale], COSTS[options.scale]
    scale = replace(scale, n_seeds=options.seeds or scale.n_seeds)
    results = Results(
        options.out,
        scale_settings(scale, options) | {"costs": costs, "settings": SETTINGS},
    )
    name, split = any_images(options.data, scale, options.jobs)
    rows = results.run(
        cells(name, split, scale, costs, scale.n_seeds),
        {name: split},
        scale,
        options.device,
        options.jobs,
    )
    pairs = [
        (
            f"{ipc} per class: {setting} against the {PAPER}'s",
            {"ipc": int(ipc), "setting": setting},
            {"ipc": int(ipc), "setting": PAPER},
            True,
        )
        for ipc, setting in product(costs, SETTINGS)
        if setting != PAPER
    ]
    notes = [
        f"images for training, for the choice of rates and for testing: "
        f"{len(split.y)}, {len(split.y_validation)}, {len(split.y_test)}",
        "all settings share their teachers; a seed has the same first images",
        f"gradients of an image that students follow, by images per class: {costs}",
    ]
    write_report(
        options.out,
        f"Settings beyond the paper's, {name}",
        rows,
        summarise(rows, ARMS),
        differences(rows, pairs),
        notes,
        plot(summarise(rows, ARMS)),
        options,
    )


if __name__ == "__main__":
    main()
