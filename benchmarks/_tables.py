"""What the scripts of the paper's tables and figures share.

A table consists of cells: one distillation, or one baseline, with one seed, scored by
several new networks.  Cells are computed side by side, each is stored as soon as it is
done, and a distillation has a checkpoint: a run that was killed is resumed.

All arms are treated alike.  Teachers' snapshots are those of the paper, not averages,
unless a cell asks for averages.  Networks have the same architecture, augmentation and
number of steps; their learning rate is the best of one grid on validation images, which
no distillation sees; nothing is selected on the test images.
"""

import argparse
import json
import os
import shutil
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _data import scoring_of
from _report import write_text
from _runs import check_settings, own_folder, store_settings, whole
from joblib import Parallel, delayed

from skdistill import (
    ConvNetClassifier,
    FullData,
    MTTDistiller,
    RandomSubset,
    STMDistiller,
    TrajectoryBuffer,
    evaluate_synthetic,
)
from skdistill.utils._termination import orderly_end
from skdistill.utils._threads import single_threaded_torch


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    ``n_steps`` and ``n_iterations`` are dictionaries by the number of images per class
    (as text, for JSON).  None iterations leave the end to the method's own rule; MTT,
    which has none, runs ``mtt_iterations``, with the published pools of start epochs.
    ``score_steps`` is the number of steps of a network that is trained on a small set,
    ``full_epochs`` the number of epochs on all images.
    """

    size: int
    n_train: int | None
    n_test: float | None
    n_rotations: int
    validation: float
    width: int
    n_teachers: int
    n_epochs: int
    teacher_learning_rate: float
    n_steps: dict[str, int]
    n_iterations: dict[str, int | None]
    mtt_pools: dict[str, int]
    mtt_iterations: int
    score_steps: int
    full_epochs: int
    n_networks: int
    n_seeds: int
    step_size: float = 0.01
    # The learning rate is chosen by the mean of so many networks on the validation
    # images: that of a single one may choose one that costs several points.
    n_validation_networks: int = 2


def arguments(description, default_out, scales):
    """Return the parser of options that all scripts have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        required=True,
        help="folder of the images, or 'simulated' or 'digits' to try it out",
    )
    parser.add_argument("--scale", choices=scales, default="cpu")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results" / default_out,
        help="folder of the results; a run that is there is resumed",
    )
    parser.add_argument(
        "--seeds", type=whole(), help="number of seeds of the distillation"
    )
    parser.add_argument(
        "--jobs",
        type=whole(),
        # Processes would only share a GPU.
        default=1 if torch.cuda.is_available() else os.cpu_count(),
        help="cells to compute side by side",
    )
    parser.add_argument("--device", default="auto")
    return parser


class Results:
    """The folder of a run: its settings, its cells and its tables."""

    def __init__(self, folder, settings):
        self.folder = Path(folder)
        self.cells = self.folder / "cells"
        self.work = self.folder / "work"
        self.settings = settings
        check_settings(self.folder, settings)

    def run(self, cells, data, scale, device, jobs):
        """Compute the cells that are missing, and return a row per network."""
        with own_folder(self.folder, "--out"):
            store_settings(self.folder, self.settings)
            return self._run(cells, data, scale, device, jobs)

    def _run(self, cells, data, scale, device, jobs):
        missing = [cell for cell in cells if not self._path(cell).exists()]
        print(f"{len(cells) - len(missing)} of {len(cells)} cells are there")
        begin = time.perf_counter()
        teachers = {
            key: self._teachers(*key, data[key[0]], scale, device, jobs)
            for key in sorted({_taught(cell, scale) for cell in missing})
        }
        groups: dict[str, list] = {}
        for cell in missing:
            # Stages of one distillation, as of a curve, come one after the other.
            rest = {k: v for k, v in cell.items() if k != "iterations"}
            groups.setdefault(_name(rest), []).append(cell)
        # Networks on all images take longest: at the end others would wait for them.
        ordered = sorted(
            groups.items(), key=lambda item: item[1][0]["method"] != "full"
        )
        tasks = (
            delayed(_compute_all)(
                sorted(group, key=lambda cell: cell.get("iterations", 0)),
                data[group[0]["data"]],
                teachers[_taught(group[0], scale)],
                scale,
                device,
                self.work / name,
                self.cells,
            )
            for name, group in ordered
        )
        # A SIGTERM ends the workers too: they would continue what they are at, and a
        # new run would find their cells taken.
        with (
            orderly_end(),
            closing(
                Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)
            ) as done,
        ):
            for count, (name, means) in enumerate(done, start=1):
                minutes = (time.perf_counter() - begin) / 60
                means = ", ".join(f"{mean:.3f}" for mean in means)
                print(
                    f"{count}/{len(groups)} {name}: {means} ({minutes:.1f} min)",
                    flush=True,
                )
        return self.rows(cells)

    def rows(self, cells):
        """Return a row per network of all cells."""
        rows = []
        for cell in cells:
            found = json.loads(self._path(cell).read_text())
            scores = found.pop("scores")
            rows += [
                {**_named(cell), "network": network, "accuracy": score, **found}
                for network, score in enumerate(scores)
            ]
        return pd.DataFrame(rows)

    def _path(self, cell):
        return self.cells / f"{_name(cell)}.json"

    def _teachers(
        self, name, n_teachers, n_epochs, average, split, scale, device, jobs
    ):
        kind = "-averaged" if average else ""
        folder = self.work / f"teachers-{name}-{n_teachers}-of-{n_epochs}{kind}"
        TrajectoryBuffer(
            n_teachers=n_teachers,
            n_epochs=n_epochs,
            average=average,
            learning_rate=scale.teacher_learning_rate,
            width=scale.width,
            path=folder,
            n_jobs=jobs,
            device=device,
            random_state=0,
        ).fit(split.X, split.y)
        return folder


def _compute_all(cells, split, teachers, scale, device, checkpoint, folder):
    """Distill, score and store the stages of one distillation."""
    means = []
    for cell in cells:
        path = folder / f"{_name(cell)}.json"
        with single_threaded_torch():
            found, synthetic = _compute(
                cell, split, teachers, scale, device, checkpoint
            )
        if cell["method"] != "full":
            synthetic.save(path.with_suffix(".safetensors"))
        write_text(path, json.dumps(found))
        means.append(np.mean(found["scores"]))
    # A checkpoint of what is done is needed no more.
    shutil.rmtree(checkpoint, ignore_errors=True)
    return checkpoint.name, means


def _compute(cell, split, teachers, scale, device, checkpoint):
    """Distill and score one cell."""
    begin = time.perf_counter()
    distiller = make_distiller(cell, teachers, scale, device, checkpoint)
    synthetic = distiller.fit(split.X, split.y).synthetic_
    distilled_at = time.perf_counter()
    is_full = cell["method"] == "full"
    batch_size = 64 if is_full else 256
    n_epochs = scale.score_steps // -(-len(synthetic) // batch_size)
    score = evaluate_synthetic(
        synthetic,
        split.X_test,
        split.y_test,
        estimator=ConvNetClassifier(
            width=scale.width,
            max_iter=scale.full_epochs if is_full else max(1, n_epochs),
            batch_size=batch_size,
            device=device,
        ),
        protocol="honest",
        scoring=scoring_of(split.y_test),
        X_validation=split.X_validation,
        y_validation=split.y_validation,
        n_validation_repeats=scale.n_validation_networks,
        n_repeats=scale.n_networks,
        random_state=cell["seed"],
    )
    found = {
        "scores": score.scores.tolist(),
        "learning_rate": score.parameters["learning_rate"],
        "n_images": len(synthetic),
        "n_epochs_matched": getattr(distiller, "n_epochs_matched_", None),
        "n_iter": getattr(distiller, "n_iter_", None),
        "stop_reason": getattr(distiller, "stop_reason_", None),
        "distillation_s": round(distilled_at - begin, 2),
        "scoring_s": round(time.perf_counter() - distilled_at, 2),
    }
    return found, synthetic


def make_distiller(cell, teachers, scale, device, checkpoint):
    """Return the distiller that a cell asks for."""
    ipc, method = cell.get("ipc"), cell["method"]
    parameters = cell.get("parameters", {})
    if method == "full":
        return FullData(device=device, random_state=cell["seed"])
    if method == "random":
        return RandomSubset(ipc, device=device, random_state=cell["seed"])
    shared = {
        "buffer": teachers,
        "n_steps": scale.n_steps[str(ipc)],
        "step_size": scale.step_size,
        "init": cell.get("init", "real"),
        "checkpoint": checkpoint,
        "device": device,
        "random_state": cell["seed"],
        **parameters,
    }
    n_images = images_in_budget(ipc, parameters)
    n_iterations = cell.get("iterations", scale.n_iterations[str(ipc)])
    if method == "STM":
        return STMDistiller(
            n_images,
            threshold=cell.get("threshold", 5.0),
            max_total_iter=n_iterations,
            **shared,
        )
    pool = cell.get("pool", min(scale.mtt_pools[str(ipc)], scale.n_epochs - 1))
    return MTTDistiller(
        n_images,
        max_start_epoch=pool,
        n_target_epochs=min(2, scale.n_epochs - pool + 1),
        max_iter=n_iterations or scale.mtt_iterations,
        **shared,
    )


def images_in_budget(ipc, parameters):
    """Return how many images per class fit the storage budget of ``ipc`` plain ones."""
    return ipc * parameters.get("pixel_size", 1) ** 2


def scale_settings(scale, options):
    """Return everything that decides on the cells."""
    return {
        **asdict(scale),
        "script": Path(sys.argv[0]).stem,
        "scale": options.scale,
        "data": Path(options.data).name,
    }


def _named(cell):
    """Return a cell without what follows from the name of its setting."""
    return {k: v for k, v in cell.items() if k not in ("parameters", "teachers")}


def _taught(cell, scale):
    """Return whose images a cell's teachers see, their number, epochs and kind."""
    usual = (scale.n_teachers, scale.n_epochs, False)
    return cell["data"], *cell.get("teachers", usual)


def _name(cell):
    text = "-".join(f"{key}_{value}" for key, value in _named(cell).items())
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)
