"""Distilled sets in files of other implementations, detected by their contents."""

import io
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skdistill.utils._torch_files import read_torch
from skdistill.utils._untrusted import errors_as_value_errors, max_unpacked
from skdistill.utils._warnings import warn

LABEL_KINDS = ("auto", "hard", "probabilities", "logits", "targets")
# What float64, in which files may have codes, holds exactly.
MAX_CODE = 2**53
_SUFFIXES = (".pt", ".pth", ".npz", ".npy")
_MAX_MEMBERS = 1000
_STEP_SIZE = re.compile(r"(syn_?|distill_?)?(lr|step_?size|learning_?rate)(_best)?")
_LABELS = re.compile(r"labels?|targets?|y|.*(label|target)s?(_syn)?|y_.*")
# By so much a row of probabilities may miss 1 by rounding, and one of targets 0.
_ROUNDING = 1e-3


class Parts(NamedTuple):
    """What files hold, before it is known what the labels are.

    Attributes
    ----------
    images : ndarray of 3 or 4 axes
    labels : ndarray of 1 or 2 axes
    step_sizes : ndarray or None
    layout : str
        The detected kind.
    from_torch : bool
        Whether PyTorch's order of axes, its logits rather than targets are likely.
    numbers : dict
        What else there is, as far as JSON can hold it.
    """

    images: np.ndarray
    labels: np.ndarray
    step_sizes: np.ndarray | None
    layout: str
    from_torch: bool
    numbers: dict[str, Any]


class Labels(NamedTuple):
    """Labels, and what they were.

    Attributes
    ----------
    codes : ndarray of shape (n_images,), int64
    n_classes : int
        1 more than the largest possible code.
    rows : ndarray of shape (n_images, n_classes) or None
        Probabilities or targets.
    kind : str
        "hard", "one-hot", "probabilities", "logits" or "targets".
    """

    codes: np.ndarray
    n_classes: int
    rows: np.ndarray | None
    kind: str


def find_parts(path: Path, experiment: int | None) -> Parts:
    """Read the images, labels and step size that a file or folder has.

    Parameters
    ----------
    path : Path
    experiment : int or None
        Which of several sets in one file; None takes the first, and warns.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or none with images.
    ValueError
        If something is damaged or is no distilled set; the message names it.
    """
    path = _images_file(path) if path.is_dir() else path
    value, from_torch = _read(path)
    if not isinstance(value, np.ndarray):
        return _parts_of(value, path, from_torch, experiment)
    if value.ndim < 3:
        raise ValueError(
            f"{path} must hold images, an array of 3 or 4 axes; got one of shape "
            f"{value.shape}.  If images and labels are in separate files, pass the "
            "file of the images, or the folder"
        )
    if experiment not in (None, 0):
        raise ValueError(f"{path} holds one set; got `experiment`={experiment}")
    labels = _beside(path, ("labels", "label", "targets", "target", "y"))
    if labels is None:
        raise FileNotFoundError(
            f"{path} holds images of shape {value.shape} without labels, and no file "
            "of labels, such as labels.pt, was found in its folder; use "
            "SyntheticSet(X, y) to set labels"
        )
    rate = _beside(path, ("lr", "syn_lr", "step_size"))
    return Parts(
        value,
        _array(_read(labels)[0], labels, "labels"),
        None if rate is None else _array(_read(rate)[0], rate, "step size"),
        "images, labels and step size in separate files, as of MTT",
        from_torch,
        {},
    )


def _images_file(folder: Path) -> Path:
    """Return the file in a folder that has the images."""
    files = sorted(
        file
        for file in folder.iterdir()
        if file.suffix in _SUFFIXES and not file.name.startswith(".")
    )
    named = [file for file in files if "image" in file.stem and "zca" not in file.stem]
    best = [file for file in named if "best" in file.stem]
    exact = [file for file in named if file.stem == "images"]
    for some in (best, exact, named, files):
        if len(some) == 1:
            return some[0]
    if not files:
        raise FileNotFoundError(
            f"{folder} has no file of a distilled set ({', '.join(_SUFFIXES)})"
        )
    names = [file.name for file in named or files]
    raise ValueError(
        f"{folder} has several files that may hold the images; pass the path of one "
        f"of {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
    )


def _beside(path: Path, names: tuple[str, ...]) -> Path | None:
    """Return a file that has the name of that of the images, but for one word."""
    stems = [re.sub("images?|data", name, path.stem, count=1) for name in names]
    for stem in (*stems, *names):
        for suffix in dict.fromkeys((path.suffix, *_SUFFIXES)):
            file = path.with_name(stem + suffix)
            if file.is_file() and file != path:
                return file
    return None


def _read(path: Path) -> tuple[Any, bool]:
    """Return what a file holds, and whether PyTorch wrote it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"\x93NUMPY"):
        with errors_as_value_errors(f"{path} cannot be read: {{error}}"):
            return _npy(path.read_bytes()), False
    with errors_as_value_errors(f"{path} cannot be read: {{error}}"):
        if zipfile.is_zipfile(path):
            arrays = _npz(path)
            if arrays:
                return arrays, False
        elif start[8:10] == b'{"':
            raise ValueError(
                "it is a safetensors file; SyntheticSet.load reads those that "
                "SyntheticSet.save wrote, and SyntheticSet(X, y) takes the arrays of "
                "others"
            )
    return read_torch(path), True


def _npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file; of another archive none."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
        n_bytes = sum(member.file_size for member in members)
        limit = max_unpacked(path.stat().st_size)
        if len(members) > _MAX_MEMBERS or n_bytes > limit:
            raise ValueError(f"it would have {n_bytes} bytes when decompressed")
        for member in members:
            with archive.open(member) as file:
                content = file.read(member.file_size + 1)
            arrays[member.filename.removesuffix(".npy")] = _npy(content)
    return arrays


def _npy(content: bytes) -> np.ndarray:
    """Read an array whose claims about itself are no larger than its file."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"its NumPy format version is {version}")
    reader = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    shape, is_fortran, dtype = reader(file)
    if dtype.kind not in "biuf":
        raise ValueError(f"it has values of type {dtype}, not numbers")
    values = np.frombuffer(content, dtype, offset=file.tell())
    if any(size < 0 for size in shape) or len(shape) > 16:
        raise ValueError("it has an array with an invalid shape")
    # A product of Python's integers, which has no end where NumPy's begins again.
    n_values = 1
    for size in shape:
        n_values *= size
    if n_values != len(values):
        raise ValueError("it has an array whose size differs from its content")
    found = values.reshape(shape, order="F" if is_fortran else "C")
    return found.astype(dtype.newbyteorder("="))


def _array(value: Any, path: Path, name: str) -> np.ndarray:
    """Take an array, a number, or a list of these for an array."""
    found = value if isinstance(value, np.ndarray) else _numbers(value)
    if found is None:
        raise ValueError(f"{path} must hold the {name}; got {_shown(value)}")
    return found


def _numbers(value: Any) -> np.ndarray | None:
    """Return a number or a flat list of numbers as an array, None if it is neither.

    Lists in lists could be the same one many times.
    """
    for part in value if isinstance(value, (list, tuple)) else [value]:
        is_scalar = isinstance(part, np.ndarray) and part.ndim == 0
        if not isinstance(part, (int, float)) and not is_scalar:
            return None
    found = np.asarray(value)
    return found if found.dtype.kind in "biuf" else None


def _shown(value: Any) -> str:
    """Say in a few words what something is."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, dict):
        parts = [
            f"{str(name)!r:.40}: {_brief(value[name])}" for name in list(value)[:8]
        ]
        return f"a dict of {', '.join(parts)}" if parts else "an empty dict"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {', '.join(_brief(v) for v in value[:8])}"
    return f"a {type(value).__name__}"


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array {value.shape}"
    return type(value).__name__


def _parts_of(
    value: Any, path: Path, from_torch: bool, experiment: int | None
) -> Parts:
    """Find a set in containers."""
    layout, numbers = "arrays by name in one file", {}
    shown = _shown(value)
    if isinstance(value, dict) and isinstance(value.get("data"), (list, tuple)):
        sets = value["data"]
        layout = "a dict with 'data', as of DC, DSA and DM"
        if _is_pair(sets):
            sets = [sets]
        place = _choose(len(sets), path, experiment)
        numbers = _accuracies(value.get("accs_all_exps"), place, len(sets))
        value, experiment = sets[place], 0
    elif isinstance(value, (list, tuple)):
        layout = "a pair of images and labels, as of IDC"
    if experiment not in (None, 0):
        raise ValueError(f"{path} holds one set; got `experiment`={experiment}")
    step_sizes = None
    if isinstance(value, (list, tuple)) and len(value) > 1:
        # Labels may be a list of numbers.
        labels = _numbers(value[1]) if isinstance(value[1], (list, tuple)) else None
        value = [value[0], value[1] if labels is None else labels, *value[2:]]
    if _is_pair(value):
        images, labels = value[:2]
        if len(value) > 2:
            step_sizes = _array(value[2], path, "step size")
    elif isinstance(value, dict):
        named = {}
        for name, part in value.items():
            array = part if isinstance(part, np.ndarray) else _numbers(part)
            if array is not None:
                named[str(name)] = array
        images = _one_of(
            {n: a for n, a in named.items() if a.ndim in (3, 4)},
            re.compile(r"images?|x|data|image_syn|x_.*"),
            path,
            "images",
            shown,
        )
        rest = {
            name: array
            for name, array in named.items()
            if array.ndim in (1, 2) and len(array) == len(images)
        }
        labels = _one_of(rest, _LABELS, path, "labels", shown)
        for name, array in named.items():
            if _STEP_SIZE.fullmatch(name.lower()) and array.size == 1:
                step_sizes = array
            elif array.ndim == 0 and np.isfinite(array):
                numbers[name] = array.item()
    else:
        raise ValueError(
            f"{path} does not have a known layout of a distilled set: it holds {shown}"
        )
    return Parts(images, labels, step_sizes, layout, from_torch, numbers)


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and 2 <= len(value) <= 3
        and all(isinstance(part, np.ndarray) for part in value[:2])
        and value[0].ndim in (3, 4)
        and value[1].ndim in (1, 2)
    )


def _choose(n_sets: int, path: Path, experiment: int | None) -> int:
    if not n_sets:
        raise ValueError(f"{path} does not hold a set: its 'data' is empty")
    if experiment is None:
        if n_sets > 1:
            warn(
                f"{path} holds the sets of {n_sets} experiments, and the first is "
                "used; set `experiment` to choose one"
            )
        return 0
    if not 0 <= experiment < n_sets:
        raise ValueError(
            f"`experiment` must be from 0 to {n_sets - 1} for {path}; got {experiment}"
        )
    return experiment


def _accuracies(value: Any, place: int, n_sets: int) -> dict[str, Any]:
    """Return the mean accuracy of each architecture that a file tells."""
    found = {}
    for name, scores in value.items() if isinstance(value, dict) else ():
        scores = scores if isinstance(scores, np.ndarray) else _numbers(scores)
        if scores is not None and scores.dtype.kind == "f":
            scores = scores.ravel()
            if len(scores) % n_sets == 0:
                scores = scores.reshape(n_sets, -1)[place]
            if scores.size and np.isfinite(scores).all():
                found[str(name)[:80]] = round(float(scores.mean()), 6)
    return {"published_accuracy": found} if found else {}


def _one_of(
    arrays: dict[str, np.ndarray], names: re.Pattern, path: Path, what: str, shown: str
) -> np.ndarray:
    likely = [name for name in arrays if names.fullmatch(name.lower())] or list(arrays)
    if len(likely) != 1:
        raise ValueError(
            f"{path} must hold one array of {what}, images of 3 or 4 axes and labels "
            f"of 1 or 2; it holds {shown}"
            + (f", of which {', '.join(likely[:8])} may be {what}" if likely else "")
        )
    return arrays[likely[0]]


def channels_last(
    images: np.ndarray, channels_first: bool | None, from_torch: bool, path: Path
) -> np.ndarray:
    """Return images of shape (n_images, height, width, channels)."""
    if images.ndim == 3:
        return images[..., None]
    if images.ndim != 4:
        raise ValueError(
            f"{path} must hold images of 3 or 4 axes; got shape {images.shape}"
        )
    if channels_first is None:
        _, first, middle, last = images.shape
        if first < min(middle, last) or last < min(first, middle):
            channels_first = first < last
        else:
            channels_first = from_torch
            warn(
                f"{path}: images of shape {images.shape} are ambiguous as to the axis "
                f"of the channels; the {'first' if from_torch else 'last'} is "
                "assumed.  Use `channels_first` to set it"
            )
    return images.transpose(0, 2, 3, 1) if channels_first else images


def understand_labels(
    labels: np.ndarray, n_images: int, kind: str, from_torch: bool, path: Path
) -> Labels:
    """Say what labels are, and which class each image has.

    Parameters
    ----------
    labels : ndarray of 1 or 2 axes
    n_images : int
    kind : str
        One of ``LABEL_KINDS``.
    from_torch : bool
        Whether rows that are nothing else are logits rather than regression targets.
    path : Path
        For messages.
    """
    if len(labels.shape) not in (1, 2) or len(labels) != n_images:
        raise ValueError(
            f"{path} must hold one label, or row of labels, for each of the {n_images} "
            f"images; got shape {labels.shape}"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError(f"{path} must hold finite labels; got NaN or infinity")
    if labels.ndim == 2 and labels.shape[1] == 1 and n_images > 1:
        labels = labels[:, 0]
    if labels.ndim == 1:
        if kind not in ("auto", "hard"):
            raise ValueError(
                f"{path} must hold rows with one number for each class with "
                f"`label_kind`={kind!r}; got shape {labels.shape}"
            )
        wrong = (labels != np.round(labels)) | (np.abs(labels) > MAX_CODE)
        if wrong.any():
            raise ValueError(
                f"{path} must hold integers up to 2**53 as class codes; got "
                f"{labels[wrong][0]}"
            )
        codes = labels.astype(np.int64)
        return Labels(codes, 1 + int(codes.max(initial=-1)), None, "hard")
    rows = labels.astype(np.float32)
    sums, ones = rows.sum(axis=1, dtype=np.float64), (rows == 1).sum(axis=1)
    is_one_hot = bool(((rows == 0) | (rows == 1)).all() and (ones == 1).all())
    is_simplex = bool((rows >= 0).all() and (abs(sums - 1) < _ROUNDING).all())
    if kind == "hard" or (kind == "auto" and is_one_hot):
        return Labels(rows.argmax(axis=1), rows.shape[1], None, "one-hot")
    if kind == "probabilities" and not is_simplex:
        raise ValueError(
            f"{path} must hold non-negative rows that sum to 1 with "
            "`label_kind`='probabilities'"
        )
    if kind == "auto":
        kind = _guess(rows, sums, is_simplex, from_torch, path)
    codes = _codes(rows, path)
    if kind == "logits":
        shifted = rows - rows.max(axis=1, keepdims=True)
        rows = np.exp(shifted)
        rows /= rows.sum(axis=1, keepdims=True)
    return Labels(codes, rows.shape[1], rows, kind)


def _guess(
    rows: np.ndarray, sums: np.ndarray, is_simplex: bool, from_torch: bool, path: Path
) -> str:
    if is_simplex:
        return "probabilities"
    # One-hot rows less their mean, as kernel methods have them.
    n_low = (np.abs(rows - rows.min(axis=1, keepdims=True)) < _ROUNDING).sum(axis=1)
    is_centered = (n_low == rows.shape[1] - 1).all() and (
        np.abs(sums) < _ROUNDING * rows.shape[1]
    ).all()
    kind = "logits" if from_torch and not is_centered else "targets"
    if not is_centered:
        of = "PyTorch" if from_torch else "NumPy"
        other = "targets" if kind == "logits" else "logits"
        warn(
            f"{path} holds rows of labels that are not probabilities: in a file of "
            f"{of} they are treated as {kind}.  Use `label_kind`={other!r} to change "
            "this"
        )
    return kind


def _codes(rows: np.ndarray, path: Path) -> np.ndarray:
    """Return the class of each image, which rows of labels alone do not tell.

    Images are in the order of the classes in most codes, and a learned label may have
    another most probable class than the image began with.
    """
    n_images, n_classes = rows.shape
    best = rows.argmax(axis=1)
    if n_images % n_classes:
        return best
    ordered = np.arange(n_classes).repeat(n_images // n_classes)
    n_other = int((best != ordered).sum())
    if not n_other or (2 * n_other > n_images and len(np.unique(best)) == n_classes):
        return best
    warn(
        f"{path}: images are assumed to be in the order of the classes, but for "
        f"{n_other} of {n_images} a different class has the largest label"
    )
    return ordered


def enlarge_pieces(images: np.ndarray, factor: int) -> np.ndarray:
    """Cut each image into pieces that are enlarged to its size, bilinearly.

    IDC and those after it keep several images of fewer pixels in one.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels)
    factor : int
        Number of pieces a side.

    Returns
    -------
    images : ndarray of shape (n_images * factor**2, height, width, channels), float32
        All pieces of the first image, then those of the next.
    """
    n, height, width, channels = images.shape
    rest = [(-side) % factor for side in (height, width)]
    padded = np.pad(
        images.astype(np.float32),
        ((0, 0), (0, rest[0]), (0, rest[1]), (0, 0)),
        constant_values=0.5,
    )
    rows, columns = padded.shape[1] // factor, padded.shape[2] // factor
    pieces = padded.reshape(n, factor, rows, factor, columns, channels)
    pieces = pieces.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows, columns, channels)
    down, across = _interpolation(rows, height), _interpolation(columns, width)
    return np.einsum("ir,jc,nrck->nijk", down, across, pieces, optimize=True)


def _interpolation(n_from: int, n_to: int) -> np.ndarray:
    """Return the weights of n_from pixels in each of n_to, pixels being areas."""
    place = np.clip((np.arange(n_to) + 0.5) * n_from / n_to - 0.5, 0, n_from - 1)
    before = np.floor(place).astype(np.int64)
    weights = np.zeros((n_to, n_from), np.float32)
    where = np.arange(n_to)
    weights[where, before] += 1 - (place - before)
    weights[where, np.minimum(before + 1, n_from - 1)] += place - before
    return weights
