"""The image sets of the benchmarks, split for training, choosing and testing."""

import gzip
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    GalaxyZooCurator,
    ImageReader,
    RotationAugmenter,
    ZCAWhitener,
    load_cifar10,
    load_cifar100,
    load_galaxy_zoo2,
    make_galaxies,
)

SIMULATED, DIGITS = "simulated", "digits"


class Split(NamedTuple):
    """Images and labels; of the validation part only rates are chosen."""

    X: np.ndarray
    y: np.ndarray
    X_validation: np.ndarray
    y_validation: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


class NoImages(SystemExit):
    """There are none of a kind that the scripts read."""


@contextmanager
def readable(folder):
    """Name the folder, and no line of a program, where its images cannot be read."""
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, ImportError) as error:
        raise SystemExit(
            f"--data: {folder} cannot be read: {type(error).__name__}: {error}"
        ) from error


def scaled(parts, whiten=False):
    """Bring all parts into the pixel space of the training images."""
    if len(np.unique(parts[1])) < 2:
        raise ValueError(f"expected images of several classes; got {parts[1][:1]} only")
    steps = [ChannelScaler()] + ([ZCAWhitener()] if whiten else [])
    scaler = make_pipeline(*steps)
    X, y, X_validation, y_validation, X_test, y_test = parts
    X = scaler.fit_transform(X)
    return Split(
        X,
        np.asarray(y),
        scaler.transform(X_validation),
        np.asarray(y_validation),
        scaler.transform(X_test),
        np.asarray(y_test),
    )


def stratified(X, y, n_images, seed=0):
    """Return so many images with all classes in their shares, None all of them."""
    if n_images is None or n_images >= len(y):
        return X, y
    chosen, _ = train_test_split(
        np.arange(len(y)), train_size=n_images, stratify=y, random_state=seed
    )
    return X[chosen], y[chosen]


def held_out(X, y, share, seed=0):
    """Split into training and validation images."""
    train, validation = train_test_split(
        np.arange(len(y)), test_size=share, stratify=y, random_state=seed
    )
    return X[train], y[train], X[validation], y[validation]


def digits(n_train=None, n_test=None, share=0.1):
    """Scikit-learn's digits, 8 x 8 pixels: for trying things out."""
    found = load_digits()
    X, X_test, y, y_test = train_test_split(
        found.images[..., None].astype(np.float32),
        found.target,
        test_size=0.3,
        stratify=found.target,
        random_state=0,
    )
    return (
        *held_out(*stratified(X, y, n_train), share),
        *stratified(X_test, y_test, n_test),
    )


def simulated_galaxies(size, n_train, n_test, share=0.1, n_rotations=1):
    """Galaxies of make_galaxies; rotated, by quarter turns, which are exact."""
    n_test = n_test or n_train // 2
    X, y = make_galaxies(n_train + n_test, size=size, random_state=0)
    train = held_out(X[:n_train], y[:n_train], share)
    n_turns = min(n_rotations, 4)
    turned = [np.rot90(train[0], turn, axes=(1, 2)) for turn in range(n_turns)]
    return (
        np.concatenate(turned),
        np.tile(train[1], n_turns),
        *train[2:],
        X[n_train:],
        y[n_train:],
    )


def real_galaxies(
    folder, size, n_train=None, n_test=None, share=0.1, n_rotations=1, n_jobs=None
):
    """Galaxy Zoo 2 from a folder with ``votes.csv`` and ``images/``.

    The numbers are those of a class, that for testing may be a part of it; None takes
    all for training, a fifth for testing.
    The training images are rotated, not the others.
    """
    folder = Path(folder)
    catalog = load_galaxy_zoo2(folder / "votes.csv", folder / "images")
    has_fractions = "t02_edgeon_a04_yes_fraction" in catalog.columns
    curator = GalaxyZooCurator(
        n_train=n_train,
        n_test=n_test or 0.2,
        votes="fraction" if has_fractions else "debiased",
        random_state=0,
    )
    rows, labels = curator.fit_resample(catalog)
    is_test = (rows["split"] == "test").to_numpy()
    training, validation = train_test_split(
        np.flatnonzero(~is_test),
        test_size=share,
        stratify=labels[~is_test],
        random_state=0,
    )
    turned, y = RotationAugmenter(n_rotations=n_rotations).fit_resample(
        rows.iloc[training], labels[training]
    )
    reader = ImageReader(size=size, crop=0.5, n_jobs=n_jobs)
    return (
        reader.transform(turned),
        y,
        reader.transform(rows.iloc[validation]),
        labels[validation],
        reader.transform(rows[is_test]),
        labels[is_test],
    )


def labeled_galaxies(folder, size, share=0.1, n_rotations=1, n_jobs=None):
    """Galaxies of a folder with ``labels.csv`` and ``images/``.

    Three tenths of each class are for testing.  The training images are rotated, not
    the others.
    """
    folder = Path(folder)
    table = pd.read_csv(folder / "labels.csv")
    if missing := {"galaxy_id", "label"} - set(table.columns):
        raise ValueError(f"labels.csv has no column {' and '.join(sorted(missing))}")
    paths = [str(folder / "images" / f"{galaxy}.jpg") for galaxy in table["galaxy_id"]]
    labels = table["label"].to_numpy()
    rest, y, test, y_test = held_out(np.arange(len(labels)), labels, 0.3)
    train, y, validation, y_validation = held_out(rest, y, share)
    rows = pd.DataFrame({"path": paths})
    turned, y = RotationAugmenter(n_rotations=n_rotations).fit_resample(
        rows.iloc[train], y
    )
    reader = ImageReader(size=size, crop=0.5, n_jobs=n_jobs)
    return (
        reader.transform(turned),
        y,
        reader.transform(rows.iloc[validation]),
        y_validation,
        reader.transform(rows.iloc[test]),
        y_test,
    )


def scoring_of(y_test):
    """Return how predictions are scored: with classes of unlike sizes by their mean.

    All sets have as many images of each class.  The plain accuracy would be that of the
    most frequent classes.
    """
    counts = np.unique(y_test, return_counts=True)[1]
    return "balanced_accuracy" if counts.max() > 2 * counts.min() else None


def without_rare(parts, least):
    """Leave out the classes that have fewer training images, from all parts."""
    names, counts = np.unique(parts[1], return_counts=True)
    kept = names[counts >= least]
    found = []
    for X, y in zip(parts[::2], parts[1::2], strict=True):
        chosen = np.isin(y, kept)
        found += [X[chosen], y[chosen]]
    return tuple(found)


def shrunk(X, size):
    """Return images of fewer pixels, each the mean of a square of the original's."""
    side, rest = divmod(X.shape[1], size)
    if side < 1 or rest:
        raise SystemExit(f"--size: {size} does not divide {X.shape[1]} pixels")
    blocks = X.reshape(len(X), size, side, size, side, X.shape[-1])
    return blocks.mean(axis=(2, 4)) if side > 1 else X


def cifar(folder, name="CIFAR-10", n_train=None, n_test=None, share=0.1, size=32):
    """CIFAR-10 or CIFAR-100, from a folder as load_cifar10 reads it."""
    load = load_cifar100 if name == "CIFAR-100" else load_cifar10
    parts = []
    for subset, n_images in (("train", n_train), ("test", n_test)):
        X, y = load(folder, subset=subset, download_if_missing=False, return_X_y=True)
        X, y = stratified(X, y, n_images)
        parts.append((shrunk(X.astype(np.float32), size), y))
    return (*held_out(*parts[0], share), *parts[1])


def whole_cifar10(folder):
    """CIFAR-10 as it is: images and labels for training, and those for testing."""
    parts = []
    with readable(folder):
        for subset in ("train", "test"):
            parts += load_cifar10(
                folder, subset=subset, download_if_missing=False, return_X_y=True
            )
    return parts


def has_cifar(folder, name):
    """Tell whether a folder holds CIFAR-10 or CIFAR-100."""
    python = "cifar-100-python" if name == "CIFAR-100" else "cifar-10-batches-py"
    return (Path(folder) / python).is_dir() or (
        name == "CIFAR-10" and any(Path(folder).glob("train*.parquet"))
    )


def read_idx(path):
    """Read one of the files of MNIST and its likes."""
    with gzip.open(path) as file:
        content = file.read()
    n_axes = content[3]
    shape = np.frombuffer(content, ">i4", n_axes, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape)


def load_idx(folder):
    """Read images and labels, for training and for testing, of FashionMNIST."""
    found = []
    for subset in ("train", "t10k"):
        images = read_idx(Path(folder) / f"{subset}-images-idx3-ubyte.gz")
        labels = read_idx(Path(folder) / f"{subset}-labels-idx1-ubyte.gz")
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{subset}: images of shape {images.shape} and labels of shape "
                f"{labels.shape} do not belong together"
            )
        found += [images[..., None], labels]
    return found


def fashion(folder, n_train=None, n_test=None, share=0.1):
    """FashionMNIST, from a folder of its four files."""
    X, y, X_test, y_test = load_idx(folder)
    X, y = stratified(X.astype(np.float32), y, n_train)
    test = stratified(X_test.astype(np.float32), y_test, n_test)
    return (*held_out(X, y, share), *test)


def any_images(folder, scale, n_jobs=None):
    """Return a name and a split of what a folder, or a name, stands for."""
    with readable(folder):
        return _any_images(folder, scale, n_jobs)


def _any_images(folder, scale, n_jobs):
    shared = {"share": scale.validation}
    if folder == DIGITS:
        return "digits", scaled(digits(scale.n_train, scale.n_test, **shared))
    if folder == SIMULATED:
        n_train = min(scale.n_train or 900, 900)
        n_test = min(scale.n_test or 900, 900)
        return "simulated galaxies", scaled(
            simulated_galaxies(scale.size, n_train, n_test, **shared)
        )
    if has_cifar(folder, "CIFAR-10"):
        return "CIFAR-10", scaled(
            cifar(
                folder,
                "CIFAR-10",
                scale.n_train,
                scale.n_test,
                size=min(scale.size, 32),
                **shared,
            ),
            whiten=True,
        )
    if (Path(folder) / "train-images-idx3-ubyte.gz").is_file():
        return "FashionMNIST", scaled(
            fashion(folder, scale.n_train, scale.n_test, **shared)
        )
    if (Path(folder) / "votes.csv").is_file():
        return "galaxies", scaled(
            real_galaxies(folder, scale.size, n_rotations=4, n_jobs=n_jobs, **shared)
        )
    if (Path(folder) / "labels.csv").is_file():
        return "labeled galaxies", scaled(
            labeled_galaxies(folder, scale.size, n_jobs=n_jobs, **shared)
        )
    if not Path(folder).is_dir():
        raise NoImages(f"--data: no such folder: {folder}")
    raise NoImages(
        f"--data: {folder} holds neither CIFAR-10, FashionMNIST nor votes.csv or "
        f"labels.csv and images/, and is not '{SIMULATED}' or '{DIGITS}'"
    )
