"""KIP: closed derivatives against autograd, and accuracies at their published scale.

First time and memory of one gradient of the loss of the kernel regression with respect
to images and targets: by the package, and by automatic differentiation through the
kernel written plainly and the dense solve, each in a process of its own.

Then, with ``--data`` (the folder of CIFAR-10), the two figures of the authors'
notebook: 100 learned images with hard labels, and 500 real images with solved labels;
one hidden layer, channels standardized, no whitening.  ``--fashion`` is the folder
of the four files of FashionMNIST (``dataset-fashion-mnist`` of Debian).  On both sets
the regression is compared with scikit-learn's KernelRidge on the same kernel.
Accuracies are those of kernel regression on the test images, never of networks; the
last iteration counts.
"""

import argparse
import json
import math
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _data import load_idx, readable, whole_cifar10
from _measure import PeakMemory, in_a_process
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import accuracy_score

from skdistill import (
    ChannelScaler,
    KIPDistiller,
    NeuralKernelClassifier,
    RandomSubset,
)
from skdistill.distillation._objectives._kernel_ridge import (
    RealPart,
    part_size,
    ridge_loss,
)
from skdistill.neural_network._kernels import resolve_kernel
from skdistill.utils._memory import reused_memory

# Synthetic and real images; autograd's graph of the last has no room in memory.
CASES = [[10, 5000], [100, 5000], [500, 5000]]
CLOSED_CASES = [[1000, 10_000]]
SETTINGS = {"depth": 1, "weight_variance": 2.0, "bias_variance": 0.01}
REG = 1e-6
TINY = 1e-12


def plain_kernel(x, z):
    """The NTK of one hidden layer, as its equations say."""
    w, b, n = SETTINGS["weight_variance"], SETTINGS["bias_variance"], x.shape[1]
    p, q = (w * rows.square().sum(1) / n + b for rows in (x, z))
    k = w * x @ z.T / n + b
    pq = p[:, None] * q
    # Autograd has 0 / 0 where images are equal.
    squared = pq - k.square()
    s = torch.where(squared > TINY * pq, squared, TINY * pq).sqrt()
    d = 0.5 - torch.atan2(s, k) / (2 * math.pi)
    return w * (s / (2 * math.pi) + d * k) + b + w * d * k


def plain_gradient(x, targets, real):
    x, targets = x.clone().requires_grad_(), targets.clone().requires_grad_()
    values = plain_kernel(x, x)
    ridge = REG * values.trace() / len(x)
    matrix = values + ridge * torch.eye(len(x), dtype=x.dtype)
    found = plain_kernel(real.x, x) @ torch.linalg.solve(matrix, targets)
    loss = (real.weight * (found - real.targets).square().mean(1)).sum() / 2
    return loss.detach(), *torch.autograd.grad(loss, (x, targets))


def closed_gradient(x, targets, real):
    split = (part.split(part_size(len(x))) for part in real)
    parts = [RealPart(*part) for part in zip(*split, strict=True)]
    return ridge_loss(resolve_kernel("ntk", **SETTINGS), x, targets, parts, REG)


def measure(form, case, options, connection):
    n, m = case
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def task(n, m):
        weight = torch.full((m,), 1 / m, dtype=torch.float64)
        n_features = options.size**2 * 3
        real = RealPart(draw(m, n_features), draw(m, 10), weight)
        return draw(n, n_features), draw(n, 10), real

    gradient = closed_gradient if form == "closed" else plain_gradient
    # A few images first: what the libraries themselves allocate is not counted.
    gradient(*task(2, 5))
    given = task(n, m)
    seconds = []
    # A fit reuses memory from its first iteration to its last.
    reuse = reused_memory() if form == "closed" else nullcontext()
    with PeakMemory("cpu") as memory, reuse:
        for _ in range(options.repeats):
            begin = time.perf_counter()
            found = gradient(*given)
            seconds.append(time.perf_counter() - begin)
    norms = [float(part.norm()) for part in found[1:]]
    connection.send((min(seconds), memory.mebibytes, float(found[0]), *norms))


def gradients(options):
    rows = []
    for case in [*options.cases, *options.closed_cases]:
        closed = in_a_process(measure, "closed", case, options)
        plain = (np.nan,) * 5
        if case in options.cases:
            plain = in_a_process(measure, "plain", case, options)
        rows.append(
            {
                "synthetic": case[0],
                "real": case[1],
                "autograd s": plain[0],
                "closed s": closed[0],
                "time ratio": plain[0] / closed[0],
                "autograd MiB": plain[1],
                "closed MiB": closed[1],
                "memory ratio": closed[1] / plain[1],
                "loss": closed[2] / plain[2],
                "by images": closed[3] / plain[3],
                "by targets": closed[4] / plain[4],
            }
        )
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def scaled(X, y, X_test, y_test, options):
    scaler = ChannelScaler().fit(X)
    first = slice(options.n_images)
    return scaler.transform(X[first]), y[first], scaler.transform(X_test), y_test


def learned(data, seed, options, **settings):
    """Distill 100 images, and score them and those that they start from."""
    X, y, X_test, y_test = data
    begin = time.perf_counter()
    distiller = KIPDistiller(
        ipc=10, average=False, random_state=seed, **SETTINGS, **settings
    )
    start = distiller.set_params(max_iter=1, pixel_lr=1e-12).fit(X, y)
    start = start.score(X_test, y_test)
    distiller.set_params(max_iter=options.n_iterations, pixel_lr=0.04)
    score = distiller.fit(X, y).score(X_test, y_test)
    return distiller, start, score, time.perf_counter() - begin


def solved(data, seed):
    """Solve for the labels of 500 real images."""
    X, y, X_test, y_test = data
    begin = time.perf_counter()
    real = RandomSubset(ipc=50, random_state=seed).fit(X, y).synthetic_
    classifier = NeuralKernelClassifier(**SETTINGS)
    start = classifier.fit(*real).score(X_test, y_test)
    distiller = KIPDistiller(
        ipc=50, images="fixed", labels="solved", init=real, **SETTINGS
    )
    score = distiller.fit(X, y).score(X_test, y_test)
    return start, score, time.perf_counter() - begin


def against_scikit_learn(distiller, data):
    """Return the largest difference of decisions, and the two accuracies."""
    _, _, X_test, y_test = data
    X, y = distiller.synthetic_
    ours = NeuralKernelClassifier(**SETTINGS).fit(X, y)
    kernel = resolve_kernel("ntk", **SETTINGS)
    rows, test = (
        torch.from_numpy(images.reshape(len(images), -1).astype(np.float64))
        for images in (X, X_test)
    )
    values = kernel(rows).numpy()
    theirs = KernelRidge(alpha=REG * values.trace() / len(X), kernel="precomputed")
    targets = np.eye(10)[y] - 0.1
    found = theirs.fit(values, targets).predict(kernel(test, rows).numpy())
    decisions = ours.decision_function(X_test)
    return (
        float(np.abs(decisions - found).max()),
        ours.score(X_test, y_test),
        float(accuracy_score(y_test, found.argmax(axis=1))),
    )


def accuracies(options):
    rows = []

    def add(name, what, seed, start, score, seconds, published=(np.nan, np.nan)):
        rows.append(
            {
                "data": name,
                "what": what,
                "seed": seed,
                "real images": 100 * start,
                "score": 100 * score,
                "published real": published[0],
                "published": published[1],
                "seconds": seconds,
            }
        )
        print(rows[-1], flush=True)

    sets = {}
    if options.data:
        sets["CIFAR-10"] = whole_cifar10(options.data)
    if options.fashion:
        with readable(options.fashion):
            sets["FashionMNIST"] = load_idx(options.fashion)
    published = {"CIFAR-10": [(24.3, 46.7), (32.1, 47.0)]}
    for name, given in sets.items():
        data = scaled(*given, options)
        about = published.get(name, [(np.nan, np.nan)] * 2)
        for seed in range(options.n_seeds):
            distiller, *found = learned(data, seed, options)
            add(name, "100 learned images", seed, *found, about[0])
            add(name, "500 solved labels", seed, *solved(data, seed), about[1])
        difference, ours, theirs = against_scikit_learn(distiller, data)
        print(
            f"{name}: {100 * ours:.2f} here, {100 * theirs:.2f} by scikit-learn's "
            f"KernelRidge; decisions differ by {difference:.1e} at most"
        )
    return pd.DataFrame(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10")
    parser.add_argument("--fashion", type=Path, help="folder of FashionMNIST")
    parser.add_argument("--n-images", type=int, help="of the training images; else all")
    parser.add_argument("--n-iterations", type=int, default=300)
    parser.add_argument("--n-seeds", type=int, default=1)
    parser.add_argument("--size", type=int, default=32, help="of images, for gradients")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", type=json.loads, default=CASES)
    parser.add_argument("--closed-cases", type=json.loads, default=CLOSED_CASES)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    for name, table in (
        ("kip_gradients", gradients(options)),
        ("kip_accuracies", accuracies(options)),
    ):
        if len(table):
            print(table.to_string(index=False, float_format="%.4g"))
            table.to_csv(options.out / f"{name}.csv", index=False)
    print(f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
