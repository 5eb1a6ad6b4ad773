"""Distilled sets in the files that DD-Ranking's evaluators read."""

import os
import pickletools
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skdistill.neural_network._training import to_images, to_tensor
from skdistill.synthetic import SyntheticSet, _as_set
from skdistill.utils._files import atomic_path
from skdistill.utils._strangers import whatever_is_wrong
from skdistill.utils._torch_state import with_own_torch_state

IMAGES, LABELS, RATE = "images.pt", "labels.pt", "lr.pt"

# What torch.save writes of a tensor or a number, and no more.
_MOST_PICKLE_BYTES = 2**16
_OPERATIONS = {
    *("PROTO", "STOP", "MARK", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "NONE"),
    *("NEWTRUE", "NEWFALSE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "GLOBAL", "BINPERSID", "REDUCE", "BUILD"),
}
_GLOBALS = re.compile(
    r"torch\._utils _rebuild_(tensor_v2|parameter)|torch \w+Storage|"
    r"torch\.storage UntypedStorage|collections OrderedDict"
)


@with_own_torch_state
def export_ddranking(synthetic: Any, folder: str | os.PathLike[str]) -> None:
    """Write a distilled set for the evaluators of DD-Ranking [1]_.

    Their ``compute_metrics`` takes ``image_tensor``, ``hard_labels`` or
    ``soft_labels``, and ``syn_lr``: what ``torch.load`` makes of the files.  The
    evaluators scale real images to [0, 1] and, unless they whiten them, to a channel
    mean and deviation of their own, which the images have to be in.

    Parameters
    ----------
    synthetic : SyntheticSet or pair (X, y)
        The distilled set.
    folder : path-like
        The folder; it is made if it is missing.  Files of the three names are
        replaced:

        - ``images.pt``, float32 of shape (n_images, channels, height, width), in the
          order of the classes, as the evaluators take it where they are given no
          labels;
        - ``labels.pt``, class codes, int64 of shape (n_images,); of learned labels
          the logarithm of the probabilities, float32 of shape (n_images, n_classes),
          since the evaluators take the softmax of soft labels;
        - ``lr.pt``, the step size, only if the set has one.

    See Also
    --------
    load_ddranking : Read such a folder.

    References
    ----------
    .. [1] Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation",
       2025; https://github.com/NUS-HPC-AI-Lab/DD-Ranking.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skdistill import SyntheticSet
    >>> from skdistill.metrics import export_ddranking, load_ddranking
    >>> folder = tempfile.mkdtemp()
    >>> export_ddranking(SyntheticSet(np.zeros((2, 8, 8, 3)), [0, 1], 0.02), folder)
    >>> load_ddranking(folder)
    <SyntheticSet: 2 images of 8x8x3, 2 classes, step size 0.02>
    """
    # What was changed in a set since it was made is checked, too.
    synthetic = replace(_as_set(synthetic))
    _, codes = np.unique(synthetic.y, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    labels = torch.from_numpy(codes[order].astype(np.int64))
    if synthetic.probabilities is not None:
        # Finite where a probability is 0: their losses multiply by it.
        least = np.finfo(np.float32).tiny
        labels = torch.from_numpy(
            np.log(np.maximum(synthetic.probabilities[order], least))
        )
    folder = Path(folder)
    _save(to_tensor(synthetic.X[order], torch.device("cpu")), folder / IMAGES)
    _save(labels, folder / LABELS)
    if synthetic.step_size is None:
        # That of another set would be taken for this one's.
        (folder / RATE).unlink(missing_ok=True)
    else:
        _save(torch.tensor(synthetic.step_size), folder / RATE)


@with_own_torch_state
def load_ddranking(
    folder: str | os.PathLike[str], *, classes: Any = None
) -> SyntheticSet:
    """Read a distilled set from files in DD-Ranking's layout.

    Parameters
    ----------
    folder : path-like
        A folder as :func:`export_ddranking` writes it.  ``lr.pt`` may be missing.
        Files are read without running any code that is in them.
    classes : array-like of shape (n_classes,), default=None
        The class labels, in sorted order; None stands for 0, 1, ...

    Returns
    -------
    synthetic : SyntheticSet
        The set.  With soft labels images are taken to be in the order of the classes,
        as the evaluators take them.

    Raises
    ------
    FileNotFoundError
        If ``images.pt`` or ``labels.pt`` is missing.
    ValueError
        If a file is damaged or holds something else; the message names it.
    """
    folder = Path(folder)
    images, labels = _load(folder / IMAGES, 4), _load(folder / LABELS, None)
    rate = _load(folder / RATE, None) if (folder / RATE).exists() else None
    if rate is not None and rate.numel() != 1:
        raise ValueError(f"{folder / RATE} must hold one number; got {rate.shape}")
    probabilities = None
    if labels.ndim == 2 and len(labels) % labels.shape[1] == 0:
        probabilities = labels.float().softmax(dim=1).numpy()
        n_classes = labels.shape[1]
        codes = np.arange(n_classes).repeat(len(labels) // n_classes)
    elif labels.ndim == 1 and not labels.is_floating_point():
        codes = labels.numpy()
        n_classes = 1 + int(codes.max(initial=0))
    else:
        raise ValueError(
            f"{folder / LABELS} must hold class codes (n_images,) or soft labels "
            "(n_images, n_classes), as many images of each class; got "
            f"{labels.dtype} of shape {tuple(labels.shape)}"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{folder} must hold one label for each image; got {len(images)} images "
            f"and {len(labels)} labels"
        )
    names = np.arange(n_classes) if classes is None else np.asarray(classes)
    if len(names) < n_classes or codes.min(initial=0) < 0:
        raise ValueError(
            f"`classes` must name the {n_classes} classes of {folder}; got {len(names)}"
        )
    return SyntheticSet(
        to_images(images.float()),
        names[codes],
        None if rate is None else float(rate),
        {"source": "DD-Ranking's layout"},
        probabilities=probabilities,
    )


def _save(tensor: torch.Tensor, path: Path) -> None:
    with atomic_path(path) as temporary:
        torch.save(tensor, temporary)


def _load(path: Path, n_axes: int | None) -> torch.Tensor:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with whatever_is_wrong(f"{path} cannot be read: {{error}}"):
        _check_file(path)
        # Mapped, so that no tensor can reach beyond the file.
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if isinstance(value, torch.Tensor):
            stored = value.untyped_storage().nbytes()
            if value.layout != torch.strided or value.nbytes > stored:
                raise ValueError("its tensor is larger than what the file holds")
    if isinstance(value, (int, float)):
        value = torch.tensor(value)
    if not isinstance(value, torch.Tensor) or n_axes not in (None, value.ndim):
        found = getattr(value, "shape", type(value).__name__)
        raise ValueError(
            f"{path} must hold a tensor"
            + ("" if n_axes is None else f" of {n_axes} axes")
            + f"; got {found}"
        )
    return value.detach()


def _check_file(path: Path) -> None:
    """Raise an error unless a file holds one tensor or number, as torch.save writes it.

    The unpickler that torch restricts runs no code, but makes what a file claims to be
    of any size.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        packed = [m.filename for m in members if m.compress_type != zipfile.ZIP_STORED]
        pickles = [m for m in members if m.filename.endswith("/data.pkl")]
        if packed or len(pickles) != 1 or pickles[0].file_size > _MOST_PICKLE_BYTES:
            raise ValueError("it is not a tensor as torch.save writes it")
        content = archive.read(pickles[0])
    for operation, argument, _ in pickletools.genops(content):
        if operation.name not in _OPERATIONS or (
            operation.name == "GLOBAL" and not _GLOBALS.fullmatch(str(argument))
        ):
            raise ValueError(f"it has {operation.name} {argument}, which no tensor has")
