"""Every distiller and every baseline on one protocol, at equal cost.

A cell is one method, one data set, one number of images per class and one seed.  Each
iterative method runs until it has used as many core-seconds as all others: the CPU time
of this process, which other work on the machine changes little, in one thread.  It
stops after the iteration that ends nearest to the budget, and what it has then is
scored.  All parameters but the width of the networks are the defaults.

Teachers are trained for as many epochs as half the budget allows, on all training
images.  Their time is counted: such a method iterates for the rest of the budget.
"teachers given" is the same method with the same teachers and the whole budget for its
iterations, as if teachers are used for many distillations.

All sets are scored by networks of the same architecture and the same number of steps.
Their learning rate is that of a grid which is best on validation images, which no
distillation sees; nothing is chosen on test images.  If the classes of the test images
differ in size, accuracies are means over classes.  Kernel regression has a column of
its own, and sets with soft labels are marked.

    python benchmarks/methods.py --data digits ../shared/data/cifar10

Each cell is stored as soon as it is done: a run that was killed is resumed by the same
command.  Other methods, data, budgets and ways of scoring may share a folder of
results, but not other images of the same name.

``--transfer`` also scores the sets by an MLP, ResNet18, logistic regression and a
random forest, and by a ConvNet without augmentation and with hard labels, from which
DD-Ranking's robust scores follow.  ``--report`` only writes the tables of the cells
that are there: a page of everything, and CSV files that the documentation reads.
"""

import argparse
import inspect
import shlex
import shutil
import sys
import time
import traceback
import warnings
import zlib
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from _budget import Budget, need_callbacks
from _data import NoImages, any_images, scoring_of
from _methods_report import (
    FULL,
    GIVEN,
    INSIDE,
    NEED_TEACHERS,
    NONE,
    report,
    seconds_of,
)
from _methods_scores import OTHERS, other_scores, scores
from _report import environment, write_text
from _runs import own_folder, positive, read_rows, store_settings, whole, write_rows
from threadpoolctl import threadpool_limits

from skdistill import SyntheticSet, TrajectoryBuffer, distillation
from skdistill.metrics._cells import count_bytes
from skdistill.utils._threads import single_threaded_torch

NOT_METHODS = ("DistilledClassifier",)
# Beside the defaults of each method: its name in the table, class and parameters.
VARIANTS = {
    "KIPDistiller, labels learned": ("KIPDistiller", {"labels": "learned"}),
    "KIPDistiller, labels solved": (
        "KIPDistiller",
        {"images": "fixed", "labels": "solved"},
    ),
}
# More than any budget allows; the callback ends the fit.
ENDLESS = 10**7
MAX_TEACHERS, MAX_EPOCHS = 10, 30
CELL = ["data", "ipc", "seed", "method", "teachers", "protocol"]


# Data of which --size changes nothing.
AS_THEY_ARE = ("digits", "FashionMNIST")
# What the names of the data stand for in a folder of results.
SPLITS = "splits.json"


class Sizes(NamedTuple):
    """What any_images asks for; CIFAR-10 as in table2.py."""

    size: int = 32
    n_train: int | None = 6000
    n_test: int | None = 2000
    validation: float = 0.25


def all_methods():
    """Return the names of baselines and distillers, and what they stand for."""
    names = [name for name in distillation.__all__ if name not in NOT_METHODS]
    # Baselines first, all images last.
    names.sort(key=lambda name: (name == FULL, "Distiller" in name))
    return {name: (name, {}) for name in names} | VARIANTS


def parameters_of(kind):
    return inspect.signature(getattr(distillation, kind)).parameters


def cells(options, names, split):
    """Return the cells in the order in which they tell most."""
    smallest = {
        name: np.unique(split[name].y, return_counts=True)[1].min() for name in names
    }
    protocol = (
        f"core-seconds, width {options.width}, "
        f"{options.networks} networks of {options.score_steps} steps, "
        f"rates {' '.join(f'{rate:g}' for rate in options.rates)} by "
        f"{options.validation_networks} networks"
    )
    protocols = [f"{seconds:g} {protocol}" for seconds in options.seconds]
    for name, ipc in product(names, options.ipc):
        if ipc > smallest[name]:
            print(f"{name}, {ipc} per class: left out, a class is smaller")
    found = []
    for seed, protocol, ipc in product(range(options.seeds), protocols, options.ipc):
        for name in names:
            if ipc > smallest[name]:
                continue
            for method in options.methods:
                kind = all_methods()[method][0]
                if "ipc" not in parameters_of(kind) and (ipc > 1 or kind == FULL):
                    continue
                kinds = options.teachers if kind in NEED_TEACHERS else [NONE]
                found += [
                    (name, ipc, seed, method, teachers, protocol) for teachers in kinds
                ]
    if FULL in options.methods:
        # They take longest, and depend on no seed of a distillation.
        found += [(name, 0, 0, FULL, NONE, protocols[0]) for name in names]
    # Once, also of what was asked for twice.
    return [dict(zip(CELL, cell, strict=True)) for cell in dict.fromkeys(found)]


def described(split, options):
    """Return what tells the images of a name from others."""
    labels = np.concatenate([split.y, split.y_validation, split.y_test])
    text = " ".join(map(str, labels.tolist()))
    shape = "x".join(map(str, split.X.shape[1:]))
    scoring = scoring_of(split.y_test)
    return (
        f"{len(split.y)} + {len(split.y_validation)} + {len(split.y_test)} of {shape}, "
        f"labels {zlib.crc32(text.encode()):08x}, "
        f"{options.full_epochs} epochs of FullData"
        + (f", {scoring}" if scoring else "")
    )


def train_teachers(split, seconds, width, seed, folder, n_teachers=None, **settings):
    """Return teachers whose training took about so many core-seconds, and the cost."""
    begin = time.process_time()

    def fitted(n_teachers, n_epochs, path=None):
        return TrajectoryBuffer(
            n_teachers=n_teachers,
            n_epochs=n_epochs,
            width=width,
            device="cpu",
            random_state=seed,
            path=path,
            **settings,
        ).fit(split.X, split.y)

    # The first epoch pays for what all others use.
    fitted(1, 1)
    before = time.process_time()
    fitted(1, 1)
    per_epoch = time.process_time() - before
    left = seconds - (time.process_time() - begin)
    n_epochs = max(int(left / per_epoch), 3)
    n_teachers = n_teachers or int(np.clip(n_epochs // 10, 1, MAX_TEACHERS))
    n_epochs = int(np.clip(n_epochs // n_teachers, 3, MAX_EPOCHS))
    buffer = fitted(n_teachers, n_epochs, folder)
    return buffer, time.process_time() - begin


class Teachers:
    """Those of each data set and seed: trained once, charged to each that uses them."""

    def __init__(self, folder, options):
        self._folder = folder
        self._options = options

    def find(self, cell, split):
        options = self._options
        seconds = seconds_of(cell["protocol"])
        name = f"{cell['data']}-{cell['seed']}-{seconds:g}-{options.width}"
        folder = self._folder / name.replace(" ", "_")
        # Written last: teachers without it were cut off.
        cost = folder / "core_seconds"
        if cost.exists():
            return TrajectoryBuffer.load(folder), float(cost.read_text())
        shutil.rmtree(folder, ignore_errors=True)
        buffer, took = train_teachers(
            split, seconds / 2, options.width, cell["seed"], folder
        )
        write_text(cost, str(took))
        return buffer, took


def make_distiller(cell, buffer, width):
    """Return the distiller of a cell."""
    kind, parameters = all_methods()[cell["method"]]
    shared = {"ipc": cell["ipc"], "width": width, "device": "cpu"}
    shared |= {"random_state": cell["seed"]}
    known = parameters_of(kind)
    # STM decides itself how long it stays with an epoch.
    if "max_iter" in known and "max_total_iter" not in known:
        shared["max_iter"] = ENDLESS
    if buffer is not None:
        shared["buffer"] = buffer
        if "max_start_epoch" in known:
            n_epochs = buffer.n_epochs
            shared["max_start_epoch"] = min(10, n_epochs - 1)
    shared = {name: value for name, value in shared.items() if name in known}
    return getattr(distillation, kind)(**shared, **parameters)


def set_of(cell, folder):
    """Return the path of a cell's set."""
    name = "-".join(str(cell[key]) for key in CELL[:-1])
    # Cells of the same budget may differ in the width of the networks.
    number = zlib.crc32(cell["protocol"].encode())
    name += f"-{seconds_of(cell['protocol']):g}-{number:08x}.safetensors"
    return folder / "sets" / name.replace(" ", "_").replace(",", "")


def compute(cell, split, teachers, options, folder):
    """Distill and score a cell; return what there is to say of it."""
    buffer, teachers_took = None, 0.0
    if cell["teachers"] != NONE:
        buffer, teachers_took = teachers.find(cell, split)
    distiller = make_distiller(cell, buffer, options.width)
    inside = cell["teachers"] == INSIDE
    begin = time.process_time()
    if hasattr(distiller, "max_iter"):
        left = seconds_of(cell["protocol"]) - (teachers_took if inside else 0)
        distiller.set_callbacks(Budget(left))
    synthetic = distiller.fit(split.X, split.y).synthetic_
    took = time.process_time() - begin
    if getattr(distiller, "stop_reason_", None) == "interrupted":
        # The fit kept what it had, which is no cell.
        raise KeyboardInterrupt
    found = {
        "images": len(synthetic),
        "core_seconds": round(took + (teachers_took if inside else 0), 2),
        "teacher_seconds": round(teachers_took, 2) if buffer is not None else np.nan,
        "teacher_epochs": None
        if buffer is None
        else f"{buffer.n_teachers} x {buffer.n_epochs}",
        "iterations": getattr(distiller, "n_iter_", np.nan),
        "stop_reason": getattr(distiller, "stop_reason_", None),
    }
    soft = [name for name in ("targets", "probabilities")
            if getattr(synthetic, name) is not None]  # fmt: skip
    found["labels"] = " ".join(soft) or "hard"
    if cell["method"] != FULL:
        path = set_of(cell, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        synthetic.save(path)
        # Of numbers: what else is in a file grows with the command that made it.
        found["bytes"] = count_bytes(synthetic)
    return found | scores(synthetic, split, cell, options)


def read(path):
    """Return the cells that are stored, as a list of dicts."""
    return read_rows(path, dtype={"accuracies": str})


def run(options, folder, data):
    """Compute the cells that are missing, storing each when it is done."""
    path = folder / "cells.csv"
    rows = read(path)
    wanted = cells(options, list(data), data)
    # What failed is tried again.
    done = {identity(row) for row in rows if not failed(row)}
    missing = [cell for cell in wanted if identity(cell) not in done]
    print(f"{len(wanted) - len(missing)} of {len(wanted)} cells are there", flush=True)
    if not rows and not wanted:
        raise SystemExit("--data, --methods, --ipc: there is no such cell")
    if rows and not missing:
        # One that was killed may have left older tables.
        report(folder, rows)
    teachers = Teachers(folder / "teachers", options)
    said = {"command": f"python {shlex.join(sys.argv)}", **environment("cpu")}
    for count, cell in enumerate(missing, start=1):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = compute(cell, data[cell["data"]], teachers, options, folder)
            except Exception as error:
                # One method that fails must not keep the others from the table.
                traceback.print_exc()
                found = {"error": f"{type(error).__name__}: {error}"}
        told = dict.fromkeys(str(warning.message) for warning in caught)
        found["warnings"] = " | ".join(told) or None
        rows = [row for row in rows if identity(row) != identity(cell)]
        rows.append(cell | found | said)
        write_rows(path, rows)
        report(folder, rows)
        name = ", ".join(str(value) for value in list(cell.values())[:-1])
        outcome = found.get("accuracies", found.get("error"))
        print(f"{count}/{len(missing)} {name}: {outcome}", flush=True)


def transfer(options, folder, data):
    """Score the sets that are there by other learners, where that was not done."""
    path = folder / "cells.csv"
    rows = read(path)
    wanted = {identity(cell) for cell in cells(options, list(data), data)}
    missing = [
        row
        for row in rows
        if identity(row) in wanted
        and row["method"] != FULL
        and not failed(row)
        and any(is_missing(row.get(name)) for name in OTHERS)
    ]
    n_wanted = len(missing)
    missing = [row for row in missing if set_of(row, folder).exists()]
    if len(missing) < n_wanted:
        print(
            f"other learners: {n_wanted - len(missing)} cells are left out, their sets "
            f"are not in {folder / 'sets'}; another folder as --out makes them again",
            flush=True,
        )
    for count, row in enumerate(missing, start=1):
        synthetic = SyntheticSet.load(set_of(row, folder))
        row |= other_scores(synthetic, data[row["data"]], row, options)
        write_rows(path, rows)
        report(folder, rows)
        name = ", ".join(str(row[key]) for key in CELL[:-1])
        found = ", ".join(f"{other} {row[other]:.3f}" for other in OTHERS)
        print(f"other learners, {count}/{len(missing)} {name}: {found}", flush=True)


def is_missing(value):
    return value is None or pd.isna(value)


def identity(row):
    return tuple(row[key] for key in CELL)


def failed(row):
    return isinstance(row.get("error"), str)


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        nargs="+",
        default=["digits", "simulated"],
        help="folders of images, or 'digits' or 'simulated'; one that is not there is "
        "left out",
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "methods"
    )
    methods = list(all_methods())
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--ipc", nargs="+", type=whole(), default=[1, 10, 50])
    parser.add_argument("--seeds", type=whole(), default=3)
    parser.add_argument(
        "--seconds", type=positive, nargs="+", default=[120, 600], help="the budgets"
    )
    parser.add_argument("--width", type=whole(), default=32)
    parser.add_argument("--networks", type=whole(), default=5)
    parser.add_argument("--validation-networks", type=whole(), default=2)
    parser.add_argument(
        "--rates", nargs="+", type=positive, default=[0.001, 0.005, 0.01, 0.05, 0.1]
    )
    parser.add_argument("--score-steps", type=whole(), default=120)
    parser.add_argument("--full-epochs", type=whole(), default=10)
    parser.add_argument("--size", type=whole(), default=Sizes().size)
    parser.add_argument("--train", type=whole(), default=Sizes().n_train)
    parser.add_argument("--test", type=whole(), default=Sizes().n_test)
    parser.add_argument(
        "--teachers",
        nargs="+",
        choices=[INSIDE, GIVEN],
        default=[INSIDE, GIVEN],
        help="how those of the methods that need them are counted",
    )
    parser.add_argument(
        "--transfer",
        action="store_true",
        help="score the sets by other learners, too, when all cells are there",
    )
    parser.add_argument("--report", action="store_true", help="only write the tables")
    return parser


def images(options):
    """Return the sets that are there, by name."""
    sizes = Sizes(options.size, options.train, options.test)
    data = {}
    for place in dict.fromkeys(options.data):
        try:
            name, split = any_images(place, sizes)
        except NoImages as missing:
            print(f"left out: {missing}", flush=True)
            continue
        height, width = split.X.shape[1:3]
        if name not in AS_THEY_ARE and height != Sizes().size:
            name = f"{name}, {height}x{width}"
        if name in data:
            raise SystemExit(f"--data: {place} is a second set of the name {name}")
        data[name] = split
    if not data:
        raise SystemExit("--data: none of the sets is there")
    return data


def main():
    options = arguments().parse_args()
    folder = options.out
    if options.report:
        rows = read(folder / "cells.csv")
        if not rows:
            raise SystemExit(f"--out: {folder} holds no cells.csv of a run")
        report(folder, rows)
        print((folder / "table.md").read_text(encoding="utf-8"))
        return
    need_callbacks()
    with own_folder(folder, "--out"):
        data = images(options)
        store_settings(
            folder,
            {name: described(split, options) for name, split in data.items()},
            name=SPLITS,
        )
        with single_threaded_torch(), threadpool_limits(1):
            run(options, folder, data)
            if options.transfer:
                transfer(options, folder, data)
    print((folder / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
