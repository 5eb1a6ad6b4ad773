"""Gradient signal per second of feature matching, against the plain form.

The plain form is that of the released code of DM: for each class a batch of real and
one of synthetic images pass through a network, and automatic differentiation finds the
gradient of the distance between both means.

The signal is the expected gradient, over networks and augmentations, with all real
images of each class.  The gradient of a single draw has noise of its network and
augmentation, and of its batch.  With cos the cosine between both gradients, n draws
have a signal to noise ratio of n cos^2 / (1 - cos^2); the forms are compared by this
ratio per second.

The best batch size follows from both variances and the costs of real and of synthetic
images; the table shows it beside the one that the package chooses by default.
"""

import argparse
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _measure import PeakMemory, wait

from skdistill import ChannelScaler, ImageReader, load_cifar10
from skdistill.distillation._engine._objective import Draw
from skdistill.distillation._engine._optimizers import SGD
from skdistill.distillation._engine._parameters import (
    HardLabels,
    SyntheticParameters,
    one_hot,
)
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._objectives._feature_distributions import (
    FeatureDistributions,
)
from skdistill.distillation._objectives._feature_matching import FeatureMeans
from skdistill.distillation._objectives._features import mean_distance
from skdistill.distillation._objectives._networks import RandomNetworks
from skdistill.neural_network import ConvNet
from skdistill.neural_network._augment import FAMILIES
from skdistill.neural_network._convnet import flatten_parameters
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.neural_network._feature_derivatives import Features
from skdistill.utils._memory import reused_memory
from skdistill.utils._workers import worker_threads

PLAIN_BATCH = 256
SIZES = [8, 16, 32, 64, 128, 256]


def images_of(name, folder, n_per_class, size):
    """Return scaled images of at most so many per class, and their classes."""
    if name == "CIFAR-10":
        X, y = load_cifar10(
            folder / "cifar10", download_if_missing=False, return_X_y=True
        )
        X = X.astype(np.float32)
        paths = None
    else:
        table = pd.read_csv(folder / "galaxies-5class" / "labels.csv")
        paths = [
            str(folder / "galaxies-5class" / "images" / f"{galaxy}.jpg")
            for galaxy in table["galaxy_id"]
        ]
        y = table["label"].to_numpy()
    rng = np.random.default_rng(0)
    chosen = np.concatenate(
        [
            rng.permutation(np.flatnonzero(y == label))[:n_per_class]
            for label in np.unique(y)
        ]
    )
    if paths is not None:
        reader = ImageReader(size=size, crop=0.5)
        X = reader.transform([paths[row] for row in chosen])
        y = y[chosen]
    else:
        X, y = X[chosen], y[chosen]
    return ChannelScaler().fit_transform(X), np.unique(y, return_inverse=True)[1]


def real_data(X, codes, device):
    return RealData(
        X,
        codes,
        None,
        np.unique(codes),
        device=torch.device(device),
        fingerprint="",
        given=(),
    )


def synthetic_images(data, ipc):
    """Start from real images, as DM does."""
    rng = np.random.default_rng(1)
    rows = np.concatenate([rng.choice(own, ipc, replace=False) for own in data.rows])
    codes = torch.from_numpy(data.codes[rows]).to(data.device)
    labels = HardLabels(one_hot(codes, data.n_classes, torch.float32))
    return SyntheticParameters(
        SGD(data.read(rows), "auto", data.pixel_scale), labels, codes, {}
    )


class Plain:
    """An iteration as the equations say it, by automatic differentiation."""

    def __init__(self, data, build, batch_size):
        self.data, self.build, self.batch_size = data, build, batch_size

    def __call__(self, synthetic, draw):
        torch.manual_seed(draw.iteration)
        module = self.build().to(self.data.device)
        for parameter in module.parameters():
            parameter.requires_grad_(False)

        def embed(images):
            return module.features(images).flatten(1)

        leaf = synthetic.images.detach().clone().requires_grad_()
        loss = 0.0
        for code in range(self.data.n_classes):
            real = self.data.batch(draw, self.batch_size, [code]).images
            own = leaf[synthetic.codes == code]
            drawn = FeatureMeans._augmentations(_Drawing(self.data), draw)
            scale = self.data.pixel_scale
            codes = synthetic.codes.new_full((len(real),), code)
            with torch.no_grad():
                target = embed(drawn(real, codes, scale)).mean(0)
            seen = embed(drawn(own, codes[: len(own)], scale)).mean(0)
            loss = loss + (target - seen).square().sum()
        return torch.autograd.grad(loss, leaf)[0]


class _Drawing:
    """What drawing augmentations needs of an objective."""

    _families = FAMILIES

    def __init__(self, data):
        self._data = data


def seconds_of(forms, synthetic, device, repeats):
    """Return the least time of an iteration of each form, in turn with the others."""
    found = {name: [] for name in forms}
    for iteration in range(repeats):
        for name, iterate in forms.items():
            # The package's threads are its own; the plain form has those of PyTorch.
            with nullcontext() if name == "plain" else worker_threads(device):
                wait(device.type)
                begin = time.perf_counter()
                iterate(synthetic, Draw(0, iteration))
                wait(device.type)
                found[name].append(time.perf_counter() - begin)
    return {name: min(seconds) for name, seconds in found.items()}


@torch.no_grad()
def gradients(data, build, synthetic, n_networks, sizes):
    """Return gradients, (sizes and the whole class, networks, pixels).

    All batches of a network come from embeddings of all real images, computed once.
    """
    network = ConvNetDerivatives(build())
    networks = RandomNetworks(build, data.device)
    objective = FeatureMeans(
        data, network, networks, batch_size=None, families=FAMILIES
    )
    found = torch.empty(len(sizes) + 1, n_networks, synthetic.images.numel())
    for iteration in range(n_networks):
        draw = Draw(0, iteration)
        augmentations = objective._augmentations(draw)
        parameters = networks(draw)[0]
        embeddings = [
            torch.cat(
                [
                    network.features(parameters, part).embedding
                    for part in batch.images.split(1024)
                ]
            )
            for _, batch in objective._real(draw, augmentations, torch.float32)
        ]
        embeddings = torch.cat(embeddings).split([len(own) for own in data.rows])
        seen = objective._see(synthetic, augmentations)
        tapes = []
        own = network.features(parameters, seen.images, tapes=tapes).embedding
        for place, size in enumerate([*sizes, None]):
            rng = draw.rng(7, place)
            means = torch.stack(
                [
                    rows.mean(0)
                    if size is None or size >= len(rows)
                    else rows[
                        torch.from_numpy(rng.choice(len(rows), size, replace=False))
                    ].mean(0)
                    for rows in embeddings
                ]
            )
            distance = mean_distance(means, own, seen.averages)
            by_seen = network.pull_back(
                parameters, seen.images, Features(distance.gradient), tapes=tapes
            )
            with torch.enable_grad():
                seen_again = objective._see(synthetic, augmentations)
            found[place, iteration] = seen_again.back(by_seen).flatten()
    return found


def signal_shares(found):
    """Return cos^2 of each size: products with the gradients of other networks."""
    found = found.double()
    others = (found[-1].sum(0) - found[-1]) / (found.shape[1] - 1)
    signal = (found * others).sum(2).mean(1)
    return (signal / found.square().sum(2).mean(1)).tolist()


def compare(name, data, options):
    """Print what draws of several sizes are worth, and the plain form."""
    shape = data.image_shape

    def build():
        return ConvNet(shape, data.n_classes, width=options.width)

    rows = []
    for ipc in options.ipc:
        synthetic = synthetic_images(data, ipc)
        with worker_threads(data.device):
            advance(data, build, synthetic, options.iterations)
            shares = signal_shares(
                gradients(data, build, synthetic, options.networks, SIZES)
            )
        forms = {"plain": Plain(data, build, PLAIN_BATCH)}
        for size in SIZES:
            forms[size] = FeatureMeans(
                data,
                ConvNetDerivatives(build()),
                RandomNetworks(build, data.device),
                batch_size=size,
                families=FAMILIES,
            ).evaluate
        seconds = seconds_of(forms, synthetic, data.device, options.repeats)
        worths = {}
        for form in forms:
            share = shares[SIZES.index(PLAIN_BATCH if form == "plain" else form)]
            worths[form] = share / (1 - share) / seconds[form]
            rows.append(
                {
                    "data": name,
                    "ipc": ipc,
                    "form": "plain" if form == "plain" else "ours",
                    "real images": PLAIN_BATCH if form == "plain" else form,
                    "s": seconds[form],
                    "cosine": max(share, 0.0) ** 0.5,
                    "cosine, whole class": max(shares[-1], 0.0) ** 0.5,
                    "signal/s": worths[form],
                    "times plain": worths[form] / worths["plain"],
                }
            )
        table = pd.DataFrame(rows[-len(forms) :])
        print(table.to_string(index=False, float_format="%.3g"), flush=True)
    return rows


def advance(data, build, synthetic, n_iterations):
    """Distill for some iterations: what is left to learn is smaller then."""
    objective = FeatureMeans(
        data,
        ConvNetDerivatives(build()),
        RandomNetworks(build, data.device),
        batch_size=32,
        families=FAMILIES,
    )
    for iteration in range(n_iterations):
        found = objective.evaluate(synthetic, Draw(99, iteration))
        synthetic.step(found.gradients, {"loss": float(found.metrics["loss"])})


def memory_of_frequencies(options):
    """Print time and memory of both forms of NCFM's distance at 128 pixels."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, 128, 128, 3)).astype(np.float32)
    data = real_data(X, np.arange(64) % 2, options.device)
    synthetic = synthetic_images(data, 10)

    def build():
        return ConvNet((128, 128, 3), 2, width=options.width)

    torch.manual_seed(0)
    parameters = flatten_parameters(build()).to(options.device)
    rows = []
    for distance, n_frequencies in (
        ("gaussian", 1),
        ("characteristic", 1024),
        ("characteristic", 4096),
    ):
        objective = FeatureDistributions(
            data,
            ConvNetDerivatives(build()),
            lambda draw, dtype: (0, parameters, parameters),
            batch_size=32,
            families=(),
            distance=distance,
            n_frequencies=n_frequencies,
            calibration=0.0,
        )
        with PeakMemory(options.device) as memory, reused_memory():
            seconds = seconds_of(
                {distance: objective.evaluate}, synthetic, data.device, 2
            )[distance]
        rows.append(
            {
                "distance": distance,
                "frequencies": "all" if distance == "gaussian" else n_frequencies,
                "s": seconds,
                "MiB": memory.mebibytes,
            }
        )
    print(pd.DataFrame(rows).to_string(index=False, float_format="%.3g"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="*", default=["CIFAR-10", "galaxies"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--ipc", nargs="*", type=int, default=[1, 10])
    parser.add_argument("--images", type=int, default=300, help="of a class, at most")
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--iterations", type=int, default=0, help="before measuring")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.sets:
        X, codes = images_of(name, options.data, options.images, options.size)
        rows += compare(name, real_data(X, codes, options.device), options)
    memory_of_frequencies(options)
    if options.output is not None:
        pd.DataFrame(rows).to_csv(options.output, index=False)


if __name__ == "__main__":
    main()
