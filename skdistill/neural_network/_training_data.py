"""What a network is trained on, validated: images and labels of any kind."""

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import compute_class_weight
from torch.nn import functional as F

from skdistill.neural_network._training import check_pixel_unit
from skdistill.utils._class_rows import check_class_rows
from skdistill.utils._images import Images
from skdistill.utils._validation import check_images, check_weights
from skdistill.utils._warnings import warn_once


class TrainingData(NamedTuple):
    """Validated images and labels.

    Attributes
    ----------
    images : ndarray or Rows of shape (n_samples, height, width, channels)
    labels : ndarray of shape (n_samples,) or None
        Class labels, as given.
    targets : Tensor of shape (n_samples,), int64, or (n_samples, n_classes), float
        Class codes, the probability of each class, or regression targets.
    weight : ndarray of shape (n_samples,) or None
    """

    images: Images
    labels: np.ndarray | None
    targets: torch.Tensor
    weight: np.ndarray | None


def labeled_data(
    classifier: Any, X: Any, y: Any, sample_weight: Any = None
) -> TrainingData:
    """Validate images and labels; the classifier learns of their shape and classes.

    Parameters
    ----------
    classifier : BaseNetworkClassifier
    X, y, sample_weight
        As of its ``fit``.
    """
    X, y = check_images(
        classifier,
        X,
        y,
        reset=True,
        with_labels=True,
        image_shape=classifier.image_shape,
    )
    X, y, weight = check_weights(sample_weight, X, y)
    check_pixel_unit(X, getattr(classifier, "normalization", "instance"))
    classifier.classes_, codes = np.unique(y, return_inverse=True)
    if len(classifier.classes_) < 2:
        raise ValueError(
            "y must hold at least two classes; got one class, "
            f"{classifier.classes_.tolist()[0]!r}"
        )
    if classifier.class_weight is not None:
        per_class = compute_class_weight(
            classifier.class_weight, classes=classifier.classes_, y=y
        )
        weight = per_class[codes] * (1.0 if weight is None else weight)
        if not weight.any():
            raise ValueError("`class_weight` must not be 0 for every class in y")
    targets = torch.from_numpy(codes.astype(np.int64))
    if classifier.loss == "squared":
        targets = F.one_hot(targets).to(torch.get_default_dtype())
    classifier._fitted_loss = classifier.loss
    return TrainingData(X, y, targets, weight)


def class_row_data(
    classifier: Any, X: Any, name: str, rows: Any, classes: Any
) -> TrainingData:
    """Validate images with soft labels or regression targets.

    The classifier learns of their shape and classes.

    Parameters
    ----------
    classifier : BaseNetworkClassifier
    X : array-like of shape (n_samples, height, width, channels)
        Images.
    name : {"probabilities", "targets"}
        What the rows are.
    rows : array-like of shape (n_samples, n_classes)
    classes : array-like of shape (n_classes,)
        The class labels, in sorted order.
    """
    X, _ = check_images(classifier, X, reset=True, image_shape=classifier.image_shape)
    check_pixel_unit(X, getattr(classifier, "normalization", "instance"))
    rows, labels = check_class_rows(rows, name, len(X), classes)
    if classifier.class_weight is not None:
        warn_once(
            ("class_weight", name),
            "`class_weight` is ignored: it requires one class per image, but "
            f"`{name}` have a value for each class",
        )
    classifier.classes_ = labels
    # A copy: PyTorch takes no negative strides, and warns of read-only arrays.
    targets = torch.from_numpy(rows.copy()).to(torch.get_default_dtype())
    if not torch.isfinite(targets).all():
        raise ValueError(f"`{name}` must be finite as {targets.dtype}")
    classifier._fitted_loss = "squared" if name == "targets" else classifier.loss
    return TrainingData(X, None, targets, None)
