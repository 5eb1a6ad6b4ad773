"""CIFAR-10 and CIFAR-100, as published or as tables of encoded images."""

import hashlib
import io
import os
from collections.abc import Callable
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skdistill.datasets._download import download
from skdistill.datasets._tables import column_names, read_table
from skdistill.utils._files import as_path
from skdistill.utils._pictures import check_picture
from skdistill.utils._plain import told

_FOLDER = "cifar"
# Of Pillow's other formats some start programs.
_FORMATS = ("JPEG", "PNG", "WEBP")
_SIDE = 32
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "fine_label")

_CIFAR10_NAMES = [
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
]
# The coarse classes in their order, each with its fine ones; those are numbered in the
# order of the alphabet.
_CIFAR100_TREE = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
_COARSE_OF = {
    fine: coarse
    for coarse, names in enumerate(_CIFAR100_TREE.values())
    for fine in names.split()
}
_CIFAR100_NAMES = sorted(_COARSE_OF)

_DESCR = """\
{name}: small photographs of {n_classes} classes
============================================

60,000 color images of 32 x 32 pixels, 50,000 to train and 10,000 to test, with equally
many images of each class.

Source   Krizhevsky, A. (2009). Learning multiple layers of features from tiny images.
         https://www.cs.toronto.edu/~kriz/cifar.html

Cite it if you use the data.
"""

_CONSTRAINTS: dict[str, list] = {
    "path": [str, os.PathLike, None],
    "subset": [StrOptions({"train", "test", "all"})],
    "download_if_missing": ["boolean"],
    "n_retries": [Interval(Integral, 0, None, closed="left")],
    "delay": [Interval(Real, 0, None, closed="left")],
    "return_X_y": ["boolean"],
    "verbose": ["verbose"],
}


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def load_cifar10(
    path: str | os.PathLike[str] | None = None,
    *,
    subset: str = "train",
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    return_X_y: bool = False,
    verbose: int = 1,
) -> Any:
    """Load CIFAR-10; download it if necessary.

    Parameters
    ----------
    path : str or path-like, default=None
        Folder with the data in one of two forms: as stored by torchvision (its `root`),
        or as tables `train*.parquet` and `test*.parquet` with a column `image` or `img`
        of images as JPEG, PNG or WebP, and a column `label`.  None uses the sub-folder
        `cifar` of :func:`sklearn.datasets.get_data_home`.
    subset : {"train", "test", "all"}, default="train"
        Subset to load; "all" returns the training images followed by the test images.
    download_if_missing : bool, default=True
        If False, raise an OSError if the data is missing instead of downloading it.
    n_retries : int, default=3
        Number of retries after an attempt without progress.
    delay : float, default=1.0
        Seconds between the first two attempts, doubled each time.
    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.
    verbose : int, default=1
        Whether to show the progress of a download; 0 is silent.

    Returns
    -------
    cifar : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the following attributes.

        data : ndarray of shape (n_samples, 32, 32, 3), dtype uint8
            RGB images.
        images : ndarray of shape (n_samples, 32, 32, 3), dtype uint8
            The same array.
        target : ndarray of shape (n_samples,), dtype int64
            Classes 0 to 9.
        target_names : list of str
            Names of the classes.
        DESCR : str
            Description of the data, with references.
    (data, target) : tuple if `return_X_y=True`
        Both as above.

    Raises
    ------
    OSError
        If the data is missing and may not or cannot be downloaded.
    ImportError
        If a package is not installed: torchvision (``pip install skdistill[vision]``),
        or pyarrow (``pip install skdistill[parquet]``) for tables.
    ValueError
        If a table lacks a column, or an image or a label in it is not one of CIFAR-10.

    See Also
    --------
    load_cifar100 : The same number of images of more classes.

    Notes
    -----
    The published files are read by torchvision, which checks their MD5 sums first:
    they are pickles, which are safe only if they are the published ones.

    References
    ----------
    .. [1] Krizhevsky, A. (2009). Learning multiple layers of features from tiny
       images. https://www.cs.toronto.edu/~kriz/cifar.html

    Examples
    --------
    >>> from skdistill.datasets import load_cifar10
    >>> X, y = load_cifar10(return_X_y=True)  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (50000, 32, 32, 3)
    """
    images, labels = _load(
        "CIFAR10", 10, path, subset, download_if_missing, n_retries, delay, verbose
    )
    if return_X_y:
        return images, labels
    return Bunch(
        data=images,
        images=images,
        target=labels,
        target_names=list(_CIFAR10_NAMES),
        DESCR=_DESCR.format(name="CIFAR-10", n_classes=10),
    )


@validate_params(
    {**_CONSTRAINTS, "labels": [StrOptions({"fine", "coarse"})]},
    prefer_skip_nested_validation=True,
)
def load_cifar100(
    path: str | os.PathLike[str] | None = None,
    *,
    subset: str = "train",
    labels: str = "fine",
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    return_X_y: bool = False,
    verbose: int = 1,
) -> Any:
    """Load CIFAR-100; download it if necessary.

    Parameters
    ----------
    path : str or path-like, default=None
        Folder with the data in one of two forms: as stored by torchvision (its `root`),
        or as tables `train*.parquet` and `test*.parquet` with a column `image` or `img`
        of images as JPEG, PNG or WebP, and a column `label` or `fine_label`.  None uses
        the sub-folder `cifar` of
        :func:`sklearn.datasets.get_data_home`.
    subset : {"train", "test", "all"}, default="train"
        Subset to load; "all" returns the training images followed by the test images.
    labels : {"fine", "coarse"}, default="fine"
        Whether `target` is one of the 100 classes or one of their 20 superclasses, each
        of which contains five classes.
    download_if_missing : bool, default=True
        If False, raise an OSError if the data is missing instead of downloading it.
    n_retries : int, default=3
        Number of retries after an attempt without progress.
    delay : float, default=1.0
        Seconds between the first two attempts, doubled each time.
    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.
    verbose : int, default=1
        Whether to show the progress of a download; 0 is silent.

    Returns
    -------
    cifar : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the following attributes.

        data : ndarray of shape (n_samples, 32, 32, 3), dtype uint8
            RGB images.
        images : ndarray of shape (n_samples, 32, 32, 3), dtype uint8
            The same array.
        target : ndarray of shape (n_samples,), dtype int64
            Classes 0 to 99, or 0 to 19.
        target_names : list of str
            Names of the classes.
        fine_target, coarse_target : ndarray of shape (n_samples,), dtype int64
            Both kinds of classes.
        fine_names, coarse_names : list of str
            Their names.
        DESCR : str
            Description of the data, with references.
    (data, target) : tuple if `return_X_y=True`
        Both as above.

    Raises
    ------
    OSError
        If the data is missing and may not or cannot be downloaded.
    ImportError
        If a package is not installed: torchvision (``pip install skdistill[vision]``),
        or pyarrow (``pip install skdistill[parquet]``) for tables.
    ValueError
        If a table lacks a column, or an image or a label in it is not one of CIFAR-100.

    See Also
    --------
    load_cifar10 : The same number of images of fewer classes.

    Notes
    -----
    The published files are read by torchvision, which checks their MD5 sums first:
    they are pickles, which are safe only if they are the published ones.

    References
    ----------
    .. [1] Krizhevsky, A. (2009). Learning multiple layers of features from tiny
       images. https://www.cs.toronto.edu/~kriz/cifar.html

    Examples
    --------
    >>> from skdistill.datasets import load_cifar100
    >>> cifar = load_cifar100(labels="coarse")  # doctest: +SKIP
    >>> cifar.target_names[:2]  # doctest: +SKIP
    ['aquatic_mammals', 'fish']
    """
    images, fine = _load(
        "CIFAR100", 100, path, subset, download_if_missing, n_retries, delay, verbose
    )
    coarse = np.array([_COARSE_OF[name] for name in _CIFAR100_NAMES])[fine]
    target = {"fine": fine, "coarse": coarse}[labels]
    if return_X_y:
        return images, target
    names = {"fine": list(_CIFAR100_NAMES), "coarse": list(_CIFAR100_TREE)}
    return Bunch(
        data=images,
        images=images,
        target=target,
        target_names=names[labels],
        fine_target=fine,
        coarse_target=coarse,
        fine_names=names["fine"],
        coarse_names=names["coarse"],
        DESCR=_DESCR.format(name="CIFAR-100", n_classes=100),
    )


def _load(
    name: str,
    n_classes: int,
    path: str | os.PathLike[str] | None,
    subset: str,
    download_if_missing: bool,
    n_retries: int,
    delay: float,
    verbose: int,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images and labels of one or both subsets."""
    folder = Path(get_data_home()) / _FOLDER if path is None else as_path(path)
    subsets = ["train", "test"] if subset == "all" else [subset]
    if any(folder.glob("*.parquet")):
        parts = [_from_tables(folder, s, n_classes) for s in subsets]
    else:
        dataset = _torchvision_dataset(name)

        def fetch() -> None:
            if not download_if_missing:
                raise OSError(
                    f"{name} is not in '{folder}', or differs from the published "
                    "files, and `download_if_missing` is False"
                )
            download(
                dataset.url,
                folder / dataset.filename,
                check=_has_md5(dataset.tgz_md5),
                n_retries=n_retries,
                delay=delay,
                verbose=bool(verbose),
            )

        parts = [_from_torchvision(dataset, folder, s, fetch) for s in subsets]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _torchvision_dataset(name: str) -> Any:
    try:
        # Not with the package, which is free of torch.
        import torchvision.datasets
    except ImportError as error:
        raise ImportError(
            "Reading the published files of CIFAR requires torchvision: pip install "
            "skdistill[vision]"
        ) from error
    return getattr(torchvision.datasets, name)


def _from_torchvision(
    dataset: Any, folder: Path, subset: str, fetch: Callable[[], None]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    train = subset == "train"
    try:
        data = dataset(folder, train=train)
    except RuntimeError:
        # Not there, or with other checksums.
        fetch()
        # The archive is there now and is only extracted.
        data = dataset(folder, train=train, download=True)
    return data.data, np.asarray(data.targets, dtype=np.int64)


def _has_md5(expected: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(
                file, lambda: hashlib.md5(usedforsecurity=False)
            ).hexdigest()
        if digest != expected:
            raise ValueError(f"its MD5 sum must be {expected}; got {digest}")

    return check


def _from_tables(
    folder: Path, subset: str, n_classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    paths = sorted(folder.glob(f"{subset}*.parquet"))
    if not paths:
        raise FileNotFoundError(f"No file '{subset}*.parquet' found in '{folder}'")
    parts = [_from_table(path, n_classes) for path in paths]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _from_table(
    path: Path, n_classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    table = read_table(path, "path")
    columns = [
        next((c for c in names if c in table.columns), None)
        for names in (_IMAGE_COLUMNS, _LABEL_COLUMNS)
    ]
    if None in columns:
        raise ValueError(
            f"'{path}' must have one of the columns {list(_IMAGE_COLUMNS)} and one of "
            f"{list(_LABEL_COLUMNS)}; got {column_names(table)}"
        )
    labels = pd.to_numeric(table[columns[1]], errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~np.isin(labels, np.arange(n_classes)))
    if len(wrong):
        raise ValueError(
            f"Row {wrong[0]} of '{path}': a label must be a whole number from 0 to "
            f"{n_classes - 1}; got {told(table[columns[1]].iloc[wrong[0]])}"
        )
    images = np.empty((len(table), _SIDE, _SIDE, 3), dtype=np.uint8)
    for row, cell in enumerate(table[columns[0]]):
        try:
            # Bytes, or, as in the tables of some hubs, a structure that holds them.
            content = cell["bytes"] if isinstance(cell, dict) else cell
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                if image.size != (_SIDE, _SIDE):
                    raise ValueError(f"its size is {image.size}")
                check_picture(content, image)
                images[row] = np.asarray(image.convert("RGB"))
        # Pillow's decoders raise any kind of error for a damaged file.
        except Exception as error:
            raise ValueError(
                f"Row {row} of '{path}' must have an image of {_SIDE} x {_SIDE} "
                f"pixels: {error}"
            ) from error
    return images, labels.astype(np.int64)
