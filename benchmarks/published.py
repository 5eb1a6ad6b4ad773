"""Distilled sets of others, read as published and scored under their protocol.

Each set is read by ``SyntheticSet.from_published``.  Networks train on it as in the
code of DC: three blocks of width 128 with instance normalization, SGD of learning rate
.01 with momentum .9 and weight decay 5e-4, a tenth of the rate in the second half, 300
epochs without augmentation, or 1000 with DSA's.  Test images are those of CIFAR-10,
brought into the pixel space that the makers say: DC's by their mean and deviation of
each channel, RFAD's whitened.  Beside our mean stands that which the file tells, of the
makers' own networks.

A set with regression targets is also scored by kernel regression, and networks fit its
targets.  That is of a kernel of fully connected networks, not of RFAD's own, which is
of convolutional ones.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    NeuralKernelClassifier,
    SyntheticSet,
    ZCAWhitener,
    evaluate_synthetic,
    load_cifar10,
)

# As the code of DC has them.
MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)
DEVIATION = np.array([0.2023, 0.1994, 0.2010], np.float32)
N_EPOCHS = {"none": 300, "dsa": 1000}


def standardized(images):
    return (images.astype(np.float32) / 255 - MEAN) / DEVIATION


def whitened(data):
    """Return the test images of CIFAR-10 as kernel methods whiten them."""
    X, _ = load_cifar10(data, subset="train", return_X_y=True)
    X_test, y_test = load_cifar10(data, subset="test", return_X_y=True)
    scaler, whitener = ChannelScaler(), ZCAWhitener()
    whitener.fit(scaler.fit_transform(X))
    return whitener.transform(scaler.transform(X_test)), y_test


def score(rows, name, synthetic, test, estimator, how, options):
    start = time.perf_counter()
    found = evaluate_synthetic(
        synthetic,
        *test,
        estimator=estimator,
        n_repeats=1 if how == "kernel regression" else options.n_networks,
        at_once=options.at_once,
        random_state=options.seed,
    )
    theirs = synthetic.metadata.get("published_accuracy", {}).get("ConvNet", np.nan)
    rows.append(
        {
            "set": name,
            "how": how,
            "mean": 100 * found.mean,
            "std": 100 * found.std,
            "networks": len(found.scores),
            # Measured without augmentation.
            "makers": 100 * theirs if how == "none" else np.nan,
            "seconds": time.perf_counter() - start,
        }
    )
    print(rows[-1], flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=Path, nargs="+", required=True, help="files")
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument("--augmentation", nargs="*", default=["none", "dsa"])
    parser.add_argument("--n-networks", type=int, default=3)
    parser.add_argument("--n-test", type=int, default=10_000)
    parser.add_argument("--at-once", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    options = parser.parse_args()
    rows, tests = [], {}
    for path in options.sets:
        synthetic = SyntheticSet.from_published(path)
        print(path.name, synthetic, synthetic.metadata, flush=True)
        on_targets = synthetic.targets is not None
        if on_targets not in tests:
            if on_targets:
                tests[on_targets] = whitened(options.data)
            else:
                X, y = load_cifar10(options.data, subset="test", return_X_y=True)
                tests[on_targets] = standardized(X), y
        test = [part[: options.n_test] for part in tests[on_targets]]
        if on_targets:
            estimator = NeuralKernelClassifier(reg=1e-3)
            how = "kernel regression"
            score(rows, path.stem, synthetic, test, estimator, how, options)
        for augmentation in options.augmentation:
            estimator = ConvNetClassifier(
                width=128,
                depth=3,
                learning_rate=3e-4 if on_targets else 0.01,
                optimizer="adam" if on_targets else "sgd",
                max_iter=N_EPOCHS[augmentation],
                augmentation=None if augmentation == "none" else "dsa",
            )
            score(rows, path.stem, synthetic, test, estimator, augmentation, options)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.2f"))
    table.to_csv(options.out / "published.csv", index=False)


if __name__ == "__main__":
    main()
