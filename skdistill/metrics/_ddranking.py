"""Distilled sets in the files that DD-Ranking's evaluators read."""

import io
import os
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions, validate_params

from skdistill.synthetic import SyntheticSet, _as_set
from skdistill.utils._class_rows import name_classes
from skdistill.utils._files import as_path, atomic_path
from skdistill.utils._tensors import to_images, to_tensor
from skdistill.utils._torch_files import read_torch
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._warnings import warn

IMAGES, LABELS, RATE = "images.pt", "labels.pt", "lr.pt"


@validate_params(
    {"synthetic": [SyntheticSet, tuple, list], "folder": [str, os.PathLike]},
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def export_ddranking(synthetic: Any, folder: str | os.PathLike[str]) -> None:
    """Write a distilled set for the evaluators of DD-Ranking [1]_.

    Load the files by ``torch.load`` and pass them to ``compute_metrics`` as
    ``image_tensor``, ``hard_labels`` or ``soft_labels``, and ``syn_lr``.  The
    evaluators scale real images to [0, 1] and, unless they whiten them, normalize them
    by their own channel means and deviations; the distilled images must be in the same
    pixel space.

    Parameters
    ----------
    synthetic : SyntheticSet or pair (X, y)
        The distilled set.
    folder : path-like
        The folder; it is created if it does not exist.  Existing files of these names
        are replaced:

        - ``images.pt``, float32 of shape (n_images, channels, height, width), in the
          order of the classes, which the evaluators assume if no labels are given;
        - ``labels.pt``, class codes, int64 of shape (n_images,); for learned labels,
          the logarithm of the probabilities, float32 of shape (n_images, n_classes),
          since the evaluators apply softmax to soft labels.  Regression targets, whose
          softmax would be a different label, are replaced by class codes, with a
          warning;
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
    folder = as_path(folder, "folder")
    # What was changed in a set since it was made is checked, too.
    synthetic = replace(_as_set(synthetic))
    if synthetic.targets is not None:
        warn(
            "DD-Ranking's evaluators train by cross-entropy on the softmax of soft "
            "labels and cannot regress on `targets`: these are left out, and "
            f"{LABELS} holds the class of each image"
        )
    _, codes = np.unique(synthetic.y, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    labels = torch.from_numpy(codes[order].astype(np.int64))
    if synthetic.probabilities is not None:
        # Finite where a probability is 0: their losses multiply by it.
        least = np.finfo(np.float32).tiny
        labels = torch.from_numpy(
            np.log(np.maximum(synthetic.probabilities[order], least))
        )
    tensors = {
        IMAGES: to_tensor(synthetic.X[order], torch.device("cpu")),
        LABELS: labels,
    }
    if synthetic.step_size is not None:
        tensors[RATE] = torch.tensor(synthetic.step_size)
    # All are written and read back before the first takes the place of an old one.
    with ExitStack() as finished:
        written = {}
        for name, tensor in tensors.items():
            written[name] = finished.enter_context(atomic_path(folder / name))
            # torch says of a full disk only that positions differ.
            content = io.BytesIO()
            torch.save(tensor, content)
            written[name].write_bytes(content.getvalue())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _read(written, folder, None, "auto")
    if synthetic.step_size is None:
        # A file of another set would be read as that of this one.
        (folder / RATE).unlink(missing_ok=True)


@validate_params(
    {
        "folder": [str, os.PathLike],
        "classes": ["array-like", None],
        "soft_labels": [StrOptions({"auto", "logits", "probabilities"})],
    },
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def load_ddranking(
    folder: str | os.PathLike[str], *, classes: Any = None, soft_labels: str = "auto"
) -> SyntheticSet:
    """Read a distilled set from files in DD-Ranking's layout.

    Parameters
    ----------
    folder : path-like
        A folder as :func:`export_ddranking` writes it.  ``lr.pt`` may be missing.
        No code in the files is run.
    classes : array-like of shape (n_classes,), default=None
        The class labels, in the order of the codes in the files; None uses 0, 1, ...
    soft_labels : {"auto", "logits", "probabilities"}, default="auto"
        The kind of the rows of labels.  The evaluators use logits; "auto" treats
        non-negative rows that sum to 1 as probabilities, with a warning.

    Returns
    -------
    synthetic : SyntheticSet
        The set.  With soft labels, images are assumed to be in the order of the
        classes, as by the evaluators, with a warning if a different class is the most
        probable one.  If their number is not a multiple of that of the classes, the
        labels are the most probable classes, with a warning.

    Raises
    ------
    FileNotFoundError
        If ``images.pt`` or ``labels.pt`` is missing.
    ValueError
        If a file is damaged or holds something else; the message names it.
    """
    folder = as_path(folder, "folder")
    paths = {name: folder / name for name in (IMAGES, LABELS, RATE)}
    if not paths[RATE].exists():
        del paths[RATE]
    return _read(paths, folder, classes, soft_labels)


def _read(
    paths: dict[str, Path], folder: Path, classes: Any, soft_labels: str
) -> SyntheticSet:
    """Read a set from files that may have other names than their folder gives them."""
    images, labels = _load(paths[IMAGES], 4), _load(paths[LABELS], None)
    rate = _load(paths[RATE], None) if RATE in paths else None
    if rate is not None and rate.numel() != 1:
        raise ValueError(f"{folder / RATE} must hold one number; got {rate.shape}")
    _, rows, columns, channels = images.shape
    if rows == columns and channels in (1, 3, 4) and rows not in (1, 3, 4):
        raise ValueError(
            f"{folder / IMAGES} must hold images (n_images, channels, height, width); "
            f"got {tuple(images.shape)}, whose channels come last: "
            "images.permute(0, 3, 1, 2)"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{folder} must hold one label for each image; got {len(images)} images "
            f"and {len(labels)} labels"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
        if labels.is_floating_point() and bool((labels == labels.round()).all()):
            labels = labels.long()
    probabilities = None
    if labels.ndim == 2:
        probabilities = _probabilities(labels, folder / LABELS, soft_labels)
        n_classes = probabilities.shape[1]
        codes = _codes_of(probabilities, folder / LABELS)
    elif labels.ndim == 1 and not labels.is_floating_point():
        codes = labels.numpy()
        n_classes = 1 + int(codes.max(initial=0))
    else:
        raise ValueError(
            f"{folder / LABELS} must hold class codes (n_images,), whole numbers, or "
            "soft labels (n_images, n_classes); got "
            f"{labels.dtype} of shape {tuple(labels.shape)}"
        )
    names = np.arange(n_classes) if classes is None else classes
    y, soft = name_classes(names, codes, probabilities, n_classes, folder)
    return SyntheticSet(
        to_images(images.float()),
        y,
        None if rate is None else float(rate),
        {"source": "DD-Ranking's layout"},
        probabilities=soft,
    )


def _probabilities(labels: torch.Tensor, path: Path, soft_labels: str) -> np.ndarray:
    """Return the probabilities that soft labels are or stand for."""
    labels = labels.float()
    sums = labels.sum(dim=1)
    are_probabilities = bool(
        (labels >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
    )
    if soft_labels == "auto" and are_probabilities:
        warn(
            f"{path} holds non-negative rows that sum to 1: they are treated as "
            "probabilities, not as logits, which are the convention of DD-Ranking.  "
            "Use `soft_labels` to change this"
        )
    if soft_labels == "probabilities" and not are_probabilities:
        raise ValueError(
            f"{path} must hold non-negative rows that sum to 1 with "
            "`soft_labels`='probabilities'"
        )
    if soft_labels == "probabilities" or (soft_labels == "auto" and are_probabilities):
        return labels.numpy()
    return labels.softmax(dim=1).numpy()


def _codes_of(probabilities: np.ndarray, path: Path) -> np.ndarray:
    """Return the class of each image, which files with soft labels do not tell."""
    n_images, n_classes = probabilities.shape
    best = probabilities.argmax(axis=1)
    if n_images % n_classes:
        warn(
            f"{path} has {n_images} images of {n_classes} classes, which is not the "
            "same number for each class: the label of each image is its most probable "
            "class"
        )
        return best
    codes = np.arange(n_classes).repeat(n_images // n_classes)
    n_other = int((best != codes).sum())
    if n_other:
        warn(
            f"{path}: images are assumed to be in the order of the classes, as in "
            f"DD-Ranking, but {n_other} of {n_images} have a different most probable "
            "class.  To use the most probable classes as labels, create "
            "SyntheticSet(X, classes[probabilities.argmax(axis=1)], "
            "probabilities=probabilities)"
        )
    return codes


def _load(path: Path, n_axes: int | None) -> torch.Tensor:
    value = read_torch(path)
    if isinstance(value, (int, float)):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or n_axes not in (None, value.ndim):
        found = getattr(value, "shape", type(value).__name__)
        raise ValueError(
            f"{path} must hold a tensor"
            + ("" if n_axes is None else f" with {n_axes} dimensions")
            + f"; got {found}"
        )
    return torch.from_numpy(value.copy())
