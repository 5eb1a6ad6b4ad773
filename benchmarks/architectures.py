"""Teachers of one architecture, networks of another: does a set work for these?

STM distills a set with teachers of each architecture, at CPU scale; networks of each
architecture are trained on every set and, for comparison, on random real images.  Their
learning rate is chosen on validation images.  Rows are teachers, columns students.

    python benchmarks/architectures.py --data ../cifar10
"""

import argparse
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from _data import any_images
from sklearn.base import clone

from skdistill import (
    ConvNetClassifier,
    NetworkClassifier,
    RandomSubset,
    STMDistiller,
    TrajectoryBuffer,
    evaluate_synthetic,
)
from skdistill.neural_network._architectures import build_network


def architectures(options):
    """Return what teachers are built of, and the classifier of students, by name."""
    found = {"ConvNet": ("convnet", ConvNetClassifier(width=options.width))}
    for name, kind in (("ResNet18", "resnet18"), ("MLP", "mlp")):
        shape = {"width_multiplier": options.width_multiplier, "normalization": "group"}
        found[name] = (
            partial(build_network, kind, **shape),
            NetworkClassifier(kind, **shape),
        )
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a folder of images, or digits")
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--n-train", type=int, default=4500)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--width", type=int, default=32, help="of the ConvNet")
    parser.add_argument("--width-multiplier", type=float, default=0.25)
    parser.add_argument("--teachers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--score-epochs", type=int, default=150)
    parser.add_argument("--networks", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("architectures.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = SimpleNamespace(
        n_train=options.n_train, n_test=2000, size=options.size, validation=0.1
    )
    name, split = any_images(options.data, sizes)
    print(f"{name}: {len(split.X)} images, {options.ipc} per class", flush=True)
    kinds = architectures(options)
    rows = []
    for teacher, (architecture, _) in {**kinds, "random images": (None, None)}.items():
        begin = time.process_time()
        if architecture is None:
            distiller = RandomSubset(options.ipc, random_state=options.seed)
        else:
            network = (
                {"width": options.width}
                if architecture == "convnet"
                else {"architecture": architecture}
            )
            distiller = STMDistiller(
                options.ipc,
                buffer=TrajectoryBuffer(
                    n_teachers=options.teachers,
                    n_epochs=options.epochs,
                    device="cpu",
                    random_state=options.seed,
                    **network,
                ),
                n_steps=options.steps,
                max_total_iter=options.iterations,
                device="cpu",
                random_state=options.seed,
            )
        synthetic = distiller.fit(split.X, split.y).synthetic_
        row = {"teachers": teacher, "core_seconds": time.process_time() - begin}
        for student, (_, classifier) in kinds.items():
            found = evaluate_synthetic(
                synthetic,
                split.X_test,
                split.y_test,
                estimator=clone(classifier).set_params(max_iter=options.score_epochs),
                protocol="honest",
                X_validation=split.X_validation,
                y_validation=split.y_validation,
                n_validation_repeats=1,
                n_repeats=options.networks,
                random_state=options.seed,
            )
            row[student] = 100 * found.mean
            row[f"{student} std"] = 100 * found.std
        rows.append(row)
        print(row, flush=True)
        pd.DataFrame(rows).round(2).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
