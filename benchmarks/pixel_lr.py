"""The step that ``pixel_lr="auto"`` takes: one number for DC, DSA, DM, NCFM and CAFE.

Each method distills each data set with several steps, in units of the standard
deviation of the pixels, and is scored on validation images after some iterations and
after four times as many, since short and long runs may need different steps.  At the
end the mean and the largest difference from the best step of a cell are printed.
"""

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from _data import any_images, scoring_of
from _runs import read_rows, store_settings, write_rows

from skdistill import (
    CAFEDistiller,
    ConvNetClassifier,
    DCDistiller,
    DMDistiller,
    DSADistiller,
    NCFMDistiller,
    TrajectoryBuffer,
    evaluate_synthetic,
)
from skdistill.distillation._engine._optimizers import SGD

# With so many iterations, and four times as many.
METHODS = {
    "DC": (DCDistiller, 50, {"batch_size": 64}),
    "DSA": (DSADistiller, 50, {"batch_size": 64}),
    "DM": (DMDistiller, 150, {}),
    "NCFM": (NCFMDistiller, 100, {}),
    "CAFE": (CAFEDistiller, 50, {}),
}


def with_step(distiller, step):
    """Return the class of a distiller with another step for "auto"."""

    class Stepped(distiller):
        def _make_optimizer(self, images, data):
            return SGD(images, self.pixel_lr, data.pixel_scale, auto_step=step)

    Stepped.__name__ = distiller.__name__
    return Stepped


OF_ALL_ROWS = ("n_train", "size", "width", "n_networks", "seed")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10])
    parser.add_argument(
        "--steps", type=float, nargs="+", default=[0.01, 0.02, 0.04, 0.08, 0.16]
    )
    parser.add_argument("--n-train", type=int, default=4500)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--n-networks", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("pixel_lr.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    scale = SimpleNamespace(
        n_train=options.n_train, n_test=1000, size=options.size, validation=0.3
    )
    settings = {name: getattr(options, name) for name in OF_ALL_ROWS}
    name = f"{options.out.stem}.settings.json"
    store_settings(options.out.parent, settings, name=name)
    rows = read_rows(options.out)
    done = {(r["data"], r["method"], r["ipc"], r["step"]) for r in rows}
    for folder in options.data:
        name, split = any_images(folder, scale)
        depth = 3 if split.X.shape[1] >= 16 else 2
        shared = {"width": options.width, "depth": depth}
        buffer = None
        for method in options.methods:
            distiller, n_short, settings = METHODS[method]
            if method == "NCFM" and buffer is None:
                buffer = TrajectoryBuffer(
                    n_teachers=3, n_epochs=5, random_state=options.seed, **shared
                ).fit(split.X, split.y)
            for ipc in options.ipc:
                for step in options.steps:
                    if (name, method, ipc, step) in done:
                        continue
                    with tempfile.TemporaryDirectory() as folder_:
                        for n_iter in (n_short, 4 * n_short):
                            start = time.process_time()
                            synthetic = (
                                with_step(distiller, step)(
                                    ipc,
                                    max_iter=n_iter,
                                    checkpoint=folder_,
                                    random_state=options.seed,
                                    **settings,
                                    **(
                                        {"buffer": buffer}
                                        if method == "NCFM"
                                        else shared
                                    ),
                                )
                                .fit(split.X, split.y)
                                .synthetic_
                            )
                            seconds = time.process_time() - start
                            scores = [
                                evaluate_synthetic(
                                    synthetic,
                                    split.X_validation,
                                    split.y_validation,
                                    estimator=ConvNetClassifier(
                                        learning_rate=rate, max_iter=150, **shared
                                    ),
                                    scoring=scoring_of(split.y_validation),
                                    n_repeats=options.n_networks,
                                    random_state=options.seed,
                                ).mean
                                for rate in (0.01, 0.03)
                            ]
                            rows.append(
                                {
                                    "data": name,
                                    "method": method,
                                    "ipc": ipc,
                                    "iterations": n_iter,
                                    "step": step,
                                    "accuracy": max(scores),
                                    "core_seconds": seconds,
                                }
                            )
                            print(rows[-1], flush=True)
                    write_rows(options.out, rows)
    table = pd.DataFrame(rows).pivot_table(
        index=["data", "method", "ipc", "iterations"],
        columns="step",
        values="accuracy",
    )
    print((100 * table).round(1).to_string())
    shortfall = table.max(axis=1).to_numpy()[:, None] - table.to_numpy()
    shortfall = pd.DataFrame(100 * shortfall, columns=table.columns)
    print("points short of the best step")
    print(shortfall.agg(["mean", "max"]).round(1).to_string())


if __name__ == "__main__":
    main()
