"""What skdistill adds to the paper's method, against the method as written.

"paper" is algorithm 1: teachers as they are after each epoch, all images in each step
of the student, the last images, a trend test on the loss.  Only its fixed learning
rates are replaced by the adaptive ones of all settings, since with small networks they
hardly change the images.  "default" is STMDistiller with TrajectoryBuffer and their
default parameters; the others change one parameter.  "larger pixels" are of 2x2: four
such images have the storage budget of one, and are counted as one.

All settings have the same cost: the same number of gradients of single images in the
student's steps (iterations times steps times images per step), and the same number of
epochs of teachers.  Scores follow the same protocol.  The folder holds CIFAR-10 as for
table2.py, or galaxies as for table1.py.

    python benchmarks/beyond.py --data folder --scale cpu
"""

from dataclasses import replace
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
from _data import any_images
from _report import differences, summarize, write_report
from _tables import Results, arguments, images_in_budget, scale_settings
from table2 import SCALES

from skdistill import STMDistiller
from skdistill.distillation._student import resolve_batch_size

PAPER, DEFAULT = "paper", "default"
SHARED = [PAPER, DEFAULT, "teachers not averaged", "two epochs ahead"]
LARGER, BOTH = "larger pixels", "larger pixels, learned labels"
ONE_IMAGE = [*SHARED, "half the epochs at first", "more teachers", LARGER]
TEN_IMAGES = [*SHARED, "one epoch at first", "learned labels", LARGER, BOTH]
# By images per class: gradients that the students of a distillation follow, and the
# settings, None for all.
PLANS = {
    "paper": {
        "1": (2_500_000, [*ONE_IMAGE, "learned labels", BOTH]),
        "10": (15_000_000, None),
    },
    "cpu": {
        "1": (60_000, ONE_IMAGE),
        "10": (100_000, TEN_IMAGES),
    },
    "smoke": {"1": (120, None), "2": (240, [PAPER, DEFAULT, "learned labels"])},
}
ARMS = ["data", "ipc", "setting"]


def all_settings(scale):
    """Return the parameters of the distiller, and what else differs in the cells."""
    half = scale.n_epochs // 2
    # Teachers are the paper's where nothing else is asked for.
    averaged = {"teachers": (scale.n_teachers, scale.n_epochs, True)}
    return {
        PAPER: (
            {
                "n_initial_epochs": 1,
                "batch_size": None,
                "average": False,
                "trend_on": "loss",
            },
            {},
        ),
        DEFAULT: ({}, averaged),
        "teachers not averaged": ({}, {}),
        "one epoch at first": ({"n_initial_epochs": 1}, averaged),
        "half the epochs at first": ({"n_initial_epochs": half}, averaged),
        "learned labels": ({"labels": "learned"}, averaged),
        "two epochs ahead": ({"n_target_epochs": 2}, averaged),
        LARGER: ({"pixel_size": 2}, averaged),
        BOTH: ({"pixel_size": 2, "labels": "learned"}, averaged),
        # Twice as many teachers of half as many epochs cost as much.
        "more teachers": ({}, {"teachers": (2 * scale.n_teachers, half, True)}),
    }


def cells(name, split, scale, plan, seeds):
    """Return the cells, the seeds after one another: a part of a run is a table."""
    settings = all_settings(scale)
    found = []
    for seed, (ipc, (cost, names)) in product(range(seeds), plan.items()):
        for setting in names or settings:
            parameters, others = settings[setting]
            per_step = images_per_step(int(ipc), parameters, split)
            found.append(
                {
                    "data": name,
                    "method": "STM",
                    "setting": setting,
                    "ipc": int(ipc),
                    "seed": seed,
                    "iterations": cost // (scale.n_steps[ipc] * per_step),
                    "parameters": parameters,
                    **others,
                }
            )
    return found


def images_per_step(ipc, parameters, split):
    """Return the number of images that a distiller would take in each step."""
    n_images, n_classes = images_in_budget(ipc, parameters), len(np.unique(split.y))
    return resolve_batch_size(
        STMDistiller(**parameters).batch_size,
        n_images * n_classes,
        n_classes,
        split.X.shape[1:],
    )


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
        ax.set(title=f"images per class: {ipc}", xlabel="test accuracy in %")
    return fig


def main():
    options = arguments(__doc__, "beyond", SCALES).parse_args()
    scale, plan = SCALES[options.scale], PLANS[options.scale]
    scale = replace(scale, n_seeds=options.seeds or scale.n_seeds)
    results = Results(
        options.out,
        scale_settings(scale, options)
        | {"plan": plan, "settings": all_settings(scale)},
    )
    name, split = any_images(options.data, scale, options.jobs)
    rows = results.run(
        cells(name, split, scale, plan, scale.n_seeds),
        {name: split},
        scale,
        options.device,
        options.jobs,
    )
    summary = summarize(rows, ARMS)
    pairs = [
        (
            f"{arm.ipc} per class: {arm.setting} against {other}",
            {"ipc": arm.ipc, "setting": arm.setting},
            {"ipc": arm.ipc, "setting": other},
            True,
        )
        for arm in summary.itertuples()
        for other in (PAPER, DEFAULT)
        if arm.setting not in (PAPER, other)
    ]
    notes = [
        f"images for training, for the choice of rates and for testing: "
        f"{len(split.y)}, {len(split.y_validation)}, {len(split.y_test)}",
        "all seeds share their teachers; a seed has the same first images",
        "gradients of an image that students follow, by images per class: "
        + ", ".join(f"{ipc}: {cost:,}" for ipc, (cost, _) in plan.items()),
        f"{scale.n_teachers} teachers of {scale.n_epochs} epochs; more teachers are "
        f"{2 * scale.n_teachers} of {scale.n_epochs // 2}; half the epochs are "
        f"the first {scale.n_epochs // 2}",
    ]
    write_report(
        options.out,
        f"Settings beyond the paper's, {name}",
        rows,
        summary,
        differences(rows, pairs),
        notes,
        plot(summary),
        options,
    )


if __name__ == "__main__":
    main()
