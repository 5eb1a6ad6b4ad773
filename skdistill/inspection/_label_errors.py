"""Labels that teachers doubt: the area under their margins."""

import os
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_is_fitted

from skdistill.utils._files import as_path
from skdistill.utils._images import batches
from skdistill.utils._labels import check_known_labels, labels_of_images
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import check_same_columns, image_array
from skdistill.utils._warnings import warn

_BATCH_VALUES = 2**22
# By this factor the pixels' deviation may differ from that of the teachers' images.
_DEVIATION_FACTOR = 2.0


@validate_params(
    {
        "buffer": "no_validation",
        "X": "no_validation",
        "y": "no_validation",
        "names": ["array-like", None],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), None],
    },
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def find_label_errors(
    buffer: Any,
    X: Any,
    y: Any,
    *,
    names: Any = None,
    max_epochs: int | None = 20,
) -> pd.DataFrame:
    """Rank images by how much teachers doubt their labels.

    Networks learn the common features of a class before they memorize single images.  A
    wrong label contradicts those of similar images, so that the network predicts
    another class for many epochs.  The margin of an image is the logit of its label
    minus the largest logit of another class; images are ranked by its mean over the
    epochs of all teachers, the area under the margin [1]_.

    Read more in the :ref:`User Guide <label_errors>`.

    Parameters
    ----------
    buffer : TrajectoryBuffer or path-like
        Fitted teachers, or their folder, preferably fitted on these images and labels:
        the method uses their training dynamics.  Teachers of other images are only used
        as classifiers.
    X : array-like of shape (n_samples, height, width, channels) or \
            (n_samples, height * width * channels)
        Images, transformed like the training images of the teachers.
    y : array-like of shape (n_samples,)
        The labels to check.
    names : array-like of shape (n_samples,), default=None
        Names of the images, such as the ids of a catalog; None uses their positions, or
        the index of y if y is a Series.
    max_epochs : int or None, default=20
        Maximum number of snapshots of each teacher, evenly spaced from the first epoch
        to the last; None uses all.  Each requires a forward pass of all images.

    Returns
    -------
    table : DataFrame of n_samples rows
        The most doubtful label first: ``row``, the position in X; ``name``;
        ``label``, the label that was given; ``suggested``, the class with the highest
        mean probability, which may be the label; ``margin``, the area under
        the margin, in logits: if it is negative, teachers prefer another class on
        average; ``confidence`` and ``suggested_confidence``, the mean probabilities of
        the two classes.

    Raises
    ------
    ValueError
        If images, labels and names are inconsistent with each other or with the
        teachers.

    See Also
    --------
    NeighborsDisplay : The nearest real images of distilled ones.

    Notes
    -----
    The rank is a suggestion of where to look first.  Rare and untypical images with the
    right label also have small margins, as do classes that the teachers confuse.  Few
    and early epochs are sufficient, since teachers that have memorized all labels do
    not question any.

    References
    ----------
    .. [1] Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin
       Ranking", NeurIPS 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill import TrajectoryBuffer
    >>> from skdistill.inspection import find_label_errors
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 40)
    >>> X = rng.normal(0, 0.5, (80, 8, 8, 1)) + y[:, None, None, None]
    >>> y[3] = 1  # a slip
    >>> buffer = TrajectoryBuffer(n_teachers=2, n_epochs=3, width=4, depth=1,
    ...     normalization="none", learning_rate=0.1, random_state=0).fit(X, y)
    >>> table = find_label_errors(buffer, X, y)
    >>> table.loc[0, ["row", "label", "suggested"]].tolist()
    [3, 1, 0]
    """
    buffer = _fitted(buffer)
    columns = getattr(buffer, "feature_names_in_", None)
    check_same_columns(columns, X, "X", "those of the teachers")
    images = image_array(X, shape=buffer.image_shape_)
    n_samples = len(images)
    labels = check_known_labels(
        labels_of_images(y, n_samples),
        buffer.classes_,
        of="the teachers",
        every=True,
    )
    names = _names(names, y, n_samples)
    _warn_of_other_pixels(images, buffer)
    codes = np.searchsorted(buffer.classes_, labels)
    epochs = buffer.snapshot_epochs_[1:]
    if max_epochs is not None and len(epochs) > max_epochs:
        chosen = np.linspace(0, len(epochs) - 1, max_epochs).round().astype(np.int64)
        epochs = epochs[chosen]
    margins = np.zeros(n_samples)
    probabilities = np.zeros((n_samples, len(buffer.classes_)))
    for teacher in range(buffer.n_teachers_):
        for epoch in epochs:
            network = buffer.classifier(teacher, epoch)
            for part in batches(images, _BATCH_VALUES):
                logits = network._computed(images[part], features=False)
                logits = logits.astype(np.float64)
                margins[part] += _margins(logits, codes[part])
                probabilities[part] += softmax(logits, axis=1)
    n_asked = buffer.n_teachers_ * len(epochs)
    probabilities /= n_asked
    suggested = probabilities.argmax(axis=1)
    rows = np.arange(n_samples)
    table = pd.DataFrame(
        {
            "row": rows,
            "name": names,
            "label": labels,
            "suggested": buffer.classes_[suggested],
            "margin": margins / n_asked,
            "confidence": probabilities[rows, codes],
            "suggested_confidence": probabilities[rows, suggested],
        }
    )
    return table.sort_values("margin", kind="stable", ignore_index=True)


def _margins(logits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return by how much the logit of the label is above the largest of the others."""
    rows = np.arange(len(logits))
    own = logits[rows, codes]
    others = logits.copy()
    others[rows, codes] = -np.inf
    return own - others.max(axis=1)


def _fitted(buffer: Any) -> Any:
    if isinstance(buffer, FrozenEstimator):
        buffer = buffer.estimator
    if isinstance(buffer, (str, os.PathLike)):
        from skdistill.trajectory import TrajectoryBuffer

        return TrajectoryBuffer.load(as_path(buffer, "buffer"))
    if not hasattr(buffer, "snapshot") or isinstance(buffer, type):
        where = ": pass its `buffer_`" if hasattr(buffer, "buffer_") else ""
        raise TypeError(
            f"`buffer` must be a fitted TrajectoryBuffer; got {type(buffer).__name__}"
            f"{where}"
        )
    check_is_fitted(buffer)
    return buffer


def _names(names: Any, y: Any, n_samples: int) -> np.ndarray:
    if names is None:
        names = y.index if isinstance(y, pd.Series) else np.arange(n_samples)
    names = np.asarray(names)
    if names.shape != (n_samples,):
        raise ValueError(
            f"`names` must hold one name for each of the {n_samples} images of X; got "
            f"shape {names.shape}"
        )
    return names


def _warn_of_other_pixels(images: np.ndarray, buffer: Any) -> None:
    """Warn if images are in another unit than the teachers'."""
    step = max(1, len(images) // 1000)
    deviation = float(np.std(np.asarray(images[::step], dtype=np.float64)))
    ratio = deviation / buffer.pixel_scale_
    if not 1 / _DEVIATION_FACTOR <= ratio <= _DEVIATION_FACTOR:
        warn(
            f"X has pixels with a standard deviation of {deviation:.3g}, but the "
            f"images of the teachers have {buffer.pixel_scale_:.3g}: X must be "
            "transformed like the training images of the teachers"
        )
