"""What distillers share whose students are trained on the synthetic images."""

import torch
from torch import Tensor

from skdistill.distillation._engine._optimizers import SGD
from skdistill.distillation._engine._parameters import (
    HardLabels,
    Labels,
    Probabilities,
    first_logits,
    one_hot,
)
from skdistill.neural_network._module_derivatives import Derivatives

# While the activations of all steps take no more, they are kept, which is faster.
_MAX_KEPT_BYTES = 2**30

# Maximum batch size of "auto", but at least one image per class.
# Smaller images than 32x32 it takes more of: their steps are short anyway.
_AUTO_BATCH = 32
_AUTO_PIXELS = 32 * 32 * 32


def resolve_batch_size(
    batch_size: int | str | None,
    n_images: int,
    n_classes: int,
    image_shape: tuple[int, int, int],
) -> int:
    """Return the number of synthetic images in a step of a student.

    Parameters
    ----------
    batch_size : int, "auto" or None
        As the user gave it.
    n_images, n_classes : int
    image_shape : tuple (height, width, channels)

    Returns
    -------
    n_batch : int
    """
    size = batch_size
    if isinstance(size, str):
        height, width, _ = image_shape
        most = max(_AUTO_BATCH, n_classes, _AUTO_PIXELS // (height * width))
        size = -(-n_images // -(-n_images // most))
    return min(int(size or n_images), n_images)


def resolve_keep(
    keep: bool | str,
    network: Derivatives,
    batch_size: int,
    n_steps: int,
    n_at_once: int,
) -> bool:
    """Decide whether the activations of a student's steps are kept.

    Parameters
    ----------
    keep : bool or "auto"
        As the user gave it.
    network : ConvNetDerivatives or ModuleDerivatives
    batch_size : int
        Images of a step.
    n_steps : int
        Steps that are differentiated.
    n_at_once : int
        Students that are trained at the same time.

    Returns
    -------
    keep : bool
    """
    if isinstance(keep, str):
        of_student = n_steps * network.tape_bytes(batch_size)
        return n_at_once * of_student <= _MAX_KEPT_BYTES
    return bool(keep)


def make_labels(
    labels: str, codes: Tensor, n_classes: int, learning_rate: float | str
) -> Labels:
    """Return labels that stay the classes, or probabilities that are learned.

    Parameters
    ----------
    labels : {"learned", "hard", "teacher"}
        As the user gave it; a teacher's are made again in each iteration.
    codes : Tensor of shape (n_images,), int64
    n_classes : int
    learning_rate : float or "auto"
        Of learned labels' logits.

    Returns
    -------
    labels : Labels
    """
    if labels != "learned":
        return HardLabels(one_hot(codes, n_classes, torch.float32))
    logits = first_logits(codes, n_classes, torch.float32)
    return Probabilities(SGD(logits, learning_rate, 1.0))
