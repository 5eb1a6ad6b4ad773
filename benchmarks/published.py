"""Distilled sets of others, read as published and scored under their protocol.

Each set is read by ``SyntheticSet.from_published``.  Networks train on it as in the
code of DC: three blocks of width 128 with instance normalization, SGD of learning rate
.01 with momentum .9 and weight decay 5e-4, a tenth of the rate in the second half, 300
epochs without augmentation, or 1000 with DSA's.  Test images are those of CIFAR-10,
transformed to the pixel space of the authors: standardized channels for DC, whitened
images for RFAD.  The table also has the accuracies that a file contains, those of the
authors' networks.

A set with regression targets is also scored by kernel regression, and networks are
trained on its targets.  One kernel is that of fully connected networks; the other is
RFAD's own, the mean over random convolutional networks: three blocks of width 256
without normalization, weights of variance 2 / fan-in, biases of .01, and a ridge of
.005 of the mean of the kernel's diagonal.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _data import whole_cifar10
from torch.nn import functional as F

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    NeuralKernelClassifier,
    SyntheticSet,
    ZCAWhitener,
    evaluate_synthetic,
)

# As the code of DC has them.
MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)
DEVIATION = np.array([0.2023, 0.1994, 0.2010], np.float32)
N_EPOCHS = {"none": 300, "dsa": 1000}


def standardized(images):
    return (images.astype(np.float32) / 255 - MEAN) / DEVIATION


def whitened(data):
    """Return the test images of CIFAR-10 as kernel methods whiten them."""
    X, _, X_test, y_test = whole_cifar10(data)
    scaler, whitener = ChannelScaler(), ZCAWhitener()
    whitener.fit(scaler.fit_transform(X))
    return whitener.transform(scaler.transform(X_test)), y_test


class RandomConvolutions:
    """Features of a random network, as RFAD's: what its kernel is the mean of."""

    def __init__(self, seed, width=256, depth=3, channels=3):
        generator = torch.Generator().manual_seed(seed)
        self._layers = []
        for _ in range(depth):
            scale = (2 / (9 * channels)) ** 0.5
            weight = torch.randn(width, channels, 3, 3, generator=generator) * scale
            bias = torch.randn(width, generator=generator) * 0.1
            self._layers.append((weight, bias))
            channels = width

    @torch.no_grad()
    def __call__(self, images):
        X = torch.as_tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        for weight, bias in self._layers:
            X = F.avg_pool2d(F.conv2d(X, weight, bias, padding=1).relu(), 2)
        return X.flatten(1).double().numpy()


def by_random_convolutions(synthetic, X_test, y_test, n_networks, reg=5e-3):
    """Return the accuracy of the regression with RFAD's kernel."""
    kernel, to_test, n_features = 0.0, 0.0, 0
    for seed in range(n_networks):
        features = RandomConvolutions(seed)
        of_set = features(synthetic.X)
        n_features += of_set.shape[1]
        kernel = kernel + of_set @ of_set.T
        parts = [features(part) @ of_set.T for part in np.array_split(X_test, 40)]
        to_test = to_test + np.concatenate(parts)
    kernel = 2 * kernel / n_features + 0.01
    to_test = 2 * to_test / n_features + 0.01
    ridge = reg * np.trace(kernel) / len(kernel) * np.eye(len(kernel))
    said = to_test @ np.linalg.solve(kernel + ridge, synthetic.targets)
    return np.mean(np.unique(synthetic.y)[said.argmax(axis=1)] == y_test)


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
    parser.add_argument("--normalization", default="instance", help="of the networks")
    parser.add_argument("--n-networks", type=int, default=3)
    parser.add_argument("--n-random", type=int, default=16, help="of RFAD's kernel")
    parser.add_argument("--n-test", type=int, default=10_000)
    parser.add_argument("--at-once", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
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
                *_, X, y = whole_cifar10(options.data)
                tests[on_targets] = standardized(X), y
        test = [part[: options.n_test] for part in tests[on_targets]]
        if on_targets:
            estimator = NeuralKernelClassifier(reg=1e-3)
            how = "kernel regression"
            score(rows, path.stem, synthetic, test, estimator, how, options)
            begin = time.perf_counter()
            found = by_random_convolutions(synthetic, *test, options.n_random)
            rows.append(
                {
                    "set": path.stem,
                    "how": f"regression on {options.n_random} random networks",
                    "mean": 100 * found,
                    "seconds": time.perf_counter() - begin,
                }
            )
            print(rows[-1], flush=True)
        for augmentation in options.augmentation:
            estimator = ConvNetClassifier(
                width=128,
                depth=3,
                normalization=options.normalization,
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
