"""What networks minimize, and the probabilities that their outputs stand for."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

LOSSES = ("cross_entropy", "squared")


def image_losses(outputs: Tensor, targets: Tensor, loss: str) -> Tensor:
    """Return the loss of each image.

    Parameters
    ----------
    outputs : Tensor of shape (n_images, n_classes)
        Of the network.
    targets : Tensor of shape (n_images,), int64, or (n_images, n_classes), float
        Class codes, for the cross-entropy only; the probability of each class; or of
        the squared loss numbers of any sign.
    loss : {"cross_entropy", "squared"}
        "squared" is half the squared distance of outputs and targets.

    Returns
    -------
    losses : Tensor of shape (n_images,)
    """
    if loss == "squared":
        return (outputs - targets).square().sum(dim=1) / 2
    return F.cross_entropy(outputs, targets, reduction="none")


def probabilities_of(outputs: np.ndarray, loss: str) -> np.ndarray:
    """Return the probabilities of classes that a network's outputs stand for.

    Parameters
    ----------
    outputs : ndarray of shape (n_images, n_classes)
        Of a network that was trained by ``loss``.
    loss : {"cross_entropy", "squared"}
        Of "cross_entropy" outputs are logits, whose softmax it is.  Of "squared" they
        are estimates of the probabilities themselves, though they need not lie in
        [0, 1]: it is the nearest point where they do and sum to 1.  A number that is
        added to all outputs of an image changes neither.

    Returns
    -------
    probabilities : ndarray of shape (n_images, n_classes), float64
        The largest where the output is largest.
    """
    if loss == "squared":
        return _nearest_probabilities(outputs.astype(np.float64))
    return F.softmax(torch.from_numpy(outputs).double(), dim=1).numpy()


def _nearest_probabilities(rows: np.ndarray) -> np.ndarray:
    """Project each row onto the simplex of probabilities."""
    # Without their largest the sums of large outputs would lose all that differs.
    rows = rows - rows.max(axis=1, keepdims=True)
    ordered = -np.sort(-rows, axis=1)
    counts = np.arange(1, rows.shape[1] + 1)
    # By how much each of the largest k would be lowered if only they were above 0.
    shifts = (np.cumsum(ordered, axis=1) - 1) / counts
    n_above = (ordered > shifts).sum(axis=1)
    shift = shifts[np.arange(len(rows)), n_above - 1]
    return np.maximum(rows - shift[:, None], 0.0)
