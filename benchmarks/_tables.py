"""What the scripts of the paper's tables and figures share.

A table consists of cells: one distillation, or one baseline, with one seed, scored by
several new networks.  Cells are computed side by side, each is stored as soon as it is
done, and a distillation stores where it is: a run that was killed goes on.

All arms are treated alike.  Teachers' snapshots are the paper's, not averages, unless
a cell asks for these.  Networks have the same architecture, augmentation and number of
steps; their rate is the best of one grid on validation images, which no distillation
sees; the test images have no part in any choice.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from joblib import Parallel, delayed

import skdistill
from skdistill import (
    ConvNetClassifier,
    FullData,
    MTTDistiller,
    RandomSubset,
    STMDistiller,
    TrajectoryBuffer,
    evaluate_synthetic,
)
from skdistill.metrics import compare_scores
from skdistill.utils._files import atomic_path
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
    teacher_rate: float
    n_steps: dict[str, int]
    n_iterations: dict[str, int | None]
    mtt_pools: dict[str, int]
    mtt_iterations: int
    score_steps: int
    full_epochs: int
    n_networks: int
    n_seeds: int
    step_size: float = 0.01
    # A rate is chosen by the mean of so many networks on the validation images: by
    # that of a single one a rate may be chosen that costs several points.
    n_validation_networks: int = 2


def arguments(description, default_out):
    """Return the parser of options that all scripts have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        required=True,
        help="folder of the images, or 'simulated' or 'digits' to try it out",
    )
    parser.add_argument("--scale", choices=["paper", "cpu", "smoke"], default="cpu")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results" / default_out,
        help="folder of the results; a run that is there goes on",
    )
    parser.add_argument("--seeds", type=int, help="number of seeds of the distillation")
    parser.add_argument(
        "--jobs",
        type=int,
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
        # As JSON has it, for the comparison.
        self.settings = settings = json.loads(json.dumps(settings))
        self.stored = self.folder / "settings.json"
        if self.stored.exists():
            stored = json.loads(self.stored.read_text())
            names = sorted(stored.keys() | settings.keys())
            differences = [
                f"{name}: {stored.get(name)!r} there, {settings.get(name)!r} asked for"
                for name in names
                if stored.get(name) != settings.get(name)
            ]
            if differences:
                raise SystemExit(
                    f"{self.folder} holds a run with other settings ("
                    + "; ".join(differences)
                    + "); give another folder as --out, or delete this one"
                )

    def run(self, cells, data, scale, device, jobs):
        """Compute the cells that are missing, and return a row per network."""
        _write(self.stored, json.dumps(self.settings, indent=1))
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
            whole = {k: v for k, v in cell.items() if k != "iterations"}
            groups.setdefault(_name(whole), []).append(cell)
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
        # A SIGTERM ends the workers too: they would go on with what they are at, and a
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
            learning_rate=scale.teacher_rate,
            width=scale.width,
            path=folder,
            n_jobs=jobs,
            device=device,
            random_state=0,
        ).fit(split.X, split.y)
        return folder


def _compute_all(cells, split, teachers, scale, device, checkpoint, folder):
    """Distil, score and store the stages of one distillation."""
    means = []
    for cell in cells:
        path = folder / f"{_name(cell)}.json"
        with single_threaded_torch():
            found, synthetic = _compute(
                cell, split, teachers, scale, device, checkpoint
            )
        if cell["method"] != "full":
            synthetic.save(path.with_suffix(".safetensors"))
        _write(path, json.dumps(found))
        means.append(np.mean(found["scores"]))
    # What a distillation goes on from is needed no more.
    shutil.rmtree(checkpoint, ignore_errors=True)
    return checkpoint.name, means


def _compute(cell, split, teachers, scale, device, checkpoint):
    """Distil and score one cell."""
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
    n_images = images_in_room(ipc, parameters)
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


def images_in_room(ipc, parameters):
    """Return how many images per class take the room of ``ipc`` plain ones."""
    return ipc * parameters.get("pixel_size", 1) ** 2


def summarise(rows, arms):
    """Return mean and deviations of each arm, with the number of runs.

    ``std_networks`` is that of networks that learned from one set, pooled over sets;
    ``std_seeds`` that of the means of sets, NaN for a single one.
    """
    found = []
    for names, part in rows.groupby(arms, sort=False, dropna=False):
        by_seed = part.groupby("seed")["accuracy"]
        found.append(
            {
                **dict(zip(arms, names, strict=True)),
                "mean": by_seed.mean().mean(),
                "std_networks": np.sqrt(by_seed.var(ddof=1).mean()),
                "std_seeds": by_seed.mean().std(ddof=1),
                "n_seeds": part["seed"].nunique(),
                "n_networks": len(part),
                "minutes": part.drop_duplicates("seed")[["distillation_s", "scoring_s"]]
                .sum()
                .sum()
                / 60,
            }
        )
    return pd.DataFrame(found)


def scores_of(rows, **arm):
    """Return the scores of an arm, a row per seed."""
    for name, value in arm.items():
        rows = rows[rows[name].isna() if value is None else rows[name] == value]
    return np.stack(
        [part["accuracy"].to_numpy() for _, part in rows.groupby("seed", sort=True)]
    )


def differences(rows, pairs):
    """Compare pairs of arms, given as (text, arm, other arm, whether paired).

    Distillations with the same seed start from the same real images and follow the
    same teachers: they are pairs.
    """
    found = []
    for text, arm, other, paired in pairs:
        one, two = scores_of(rows, **arm), scores_of(rows, **other)
        result = compare_scores(one, two, paired=paired)
        found.append({"comparison": text, **result._asdict()})
    return pd.DataFrame(found)


def write_report(folder, title, rows, summary, compared, notes, figure, options):
    """Write CSV files, a plot and a Markdown page of everything."""
    folder = Path(folder)
    _write(folder / "networks.csv", rows.to_csv(index=False))
    _write(folder / "summary.csv", summary.to_csv(index=False))
    _write(folder / "differences.csv", compared.to_csv(index=False))
    with atomic_path(folder / "figure.png") as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    shown = summary.copy()
    # Whole numbers beside gaps are floats otherwise.
    whole = shown.select_dtypes("float").columns.difference(["threshold"])
    for name in whole:
        if (shown[name].dropna() % 1 == 0).all():
            shown[name] = shown[name].astype("Int64").astype(object)
    for name in ("mean", "std_networks", "std_seeds"):
        shown[name] = [_percent(value) for value in summary[name]]
    shown["minutes"] = [f"{value:.1f}" for value in summary["minutes"]]
    lines = [
        f"# {title}",
        "",
        "Test accuracy in %. Deviations are those of networks that learned from one "
        "set, and of the means of sets made with different seeds.",
        "",
        _markdown(shown),
        "",
        "![accuracies](figure.png)",
        "",
        "## Differences",
        "",
        "In points, with 95 % intervals of Student's t, sets as runs. A difference "
        "counts only where its interval excludes zero.",
        "",
        _markdown(
            pd.DataFrame(
                {
                    "comparison": compared["comparison"],
                    "difference": [_signed(v) for v in compared["difference"]],
                    "interval": [
                        f"{_signed(row.low)} to {_signed(row.high)}"
                        if np.isfinite(row.low)
                        else "too few sets"
                        for row in compared.itertuples()
                    ],
                    "differs": ["yes" if v else "no" for v in compared["differs"]],
                    "sets": [f"{one}, {two}" for one, two in compared["n_runs"]],
                }
            )
        ),
        "",
        "## How it was made",
        "",
        f"- command: `python {shlex.join(sys.argv)}`",
        *(f"- {note}" for note in notes),
        f"- seeds: {', '.join(map(str, sorted(rows['seed'].unique())))}",
        f"- rates chosen on validation images: {_counts(rows['learning_rate'])}",
        f"- time of all cells: {summary['minutes'].sum():.1f} min of one "
        f"{'GPU' if torch.cuda.is_available() else 'core'}",
        *(f"- {name}: {value}" for name, value in environment(options).items()),
        "",
    ]
    _write(folder / "table.md", "\n".join(lines))
    print("\n".join(lines))


def environment(options) -> dict[str, Any]:
    """Say where and with what something was run."""
    device = "CPU"
    if torch.cuda.is_available() and options.device != "cpu":
        device = torch.cuda.get_device_name()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {device}",
        "versions": (
            f"skdistill {skdistill.__version__}, Python {platform.python_version()}, "
            f"PyTorch {torch.__version__}, NumPy {np.__version__}, "
            f"scikit-learn {sklearn.__version__}"
        ),
    }


def scale_settings(scale, options):
    """Return everything that decides on the cells."""
    return {
        **asdict(scale),
        "script": Path(sys.argv[0]).stem,
        "scale": options.scale,
        "data": Path(options.data).name,
    }


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if "model name" in line).split(": ")[1]
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


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


def _counts(values):
    counts = values.value_counts(sort=False).sort_index()
    return ", ".join(f"{value:g} ({count} networks)" for value, count in counts.items())


def _percent(value):
    return "-" if pd.isna(value) else f"{100 * value:.1f}"


def _signed(value):
    return f"{100 * value:+.1f}"


def _markdown(table):
    def row(cells):
        return "| " + " | ".join(cells) + " |"

    body = [
        ["-" if pd.isna(value) else str(value) for value in values]
        for values in table.itertuples(index=False)
    ]
    head = [str(name).replace("_", " ") for name in table.columns]
    return "\n".join([row(head), row(["---"] * len(head)), *map(row, body)])


def _write(path, text):
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
