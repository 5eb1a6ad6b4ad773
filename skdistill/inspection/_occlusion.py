"""What a classifier looks at: how its answer changes when a part is hidden."""

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from scipy.special import logsumexp
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_params,
)
from sklearn.utils.validation import check_is_fitted

from skdistill.utils._labels import check_known_labels, labels_of_images, places_of
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import image_array

# Number of pixels of covered images that are classified at a time.
_BATCH_PIXELS = 2**20
# Maximum replacement of a probability of 0: 1 of 200 votes of a forest.
_MAX_FLOOR = 0.005


@validate_params(
    {
        "estimator": [HasMethods(["predict_proba"])],
        "X": ["array-like"],
        "y": ["array-like", None],
        "window": [Interval(Integral, 1, None, closed="left"), None],
        "stride": [Interval(Integral, 1, None, closed="left"), None],
        "fill": [StrOptions({"sky", "mean"}), "array-like"],
        "scale": [StrOptions({"log-odds", "probability"})],
    },
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def occlusion_maps(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    window: int | None = None,
    stride: int | None = None,
    fill: Any = "sky",
    scale: str = "log-odds",
) -> np.ndarray:
    """Measure the contribution of each part of an image to a class.

    A square is moved over the image and hides the part below it, as in [1]_.  If the
    log-odds of the class decrease, the hidden part was evidence for it.  Only
    ``predict_proba`` is required, and ``classes_`` if classes are given, so that any
    classifier or pipeline can be used.

    Parameters
    ----------
    estimator : classifier
        A fitted classifier with ``predict_proba``.  If it also has
        ``predict_log_proba``, log-odds are computed from it.
    X : array-like of shape (n_samples, height, width, channels)
        Images.
    y : array-like of shape (n_samples,), default=None
        The class of each image to explain; None uses the predicted class.
    window : int, default=None
        Side of the square in pixels; None uses a sixth of the shorter side.
    stride : int, default=None
        Step of the square in pixels; None uses half of the window.
    fill : {"sky", "mean"} or array-like of shape (channels,), default="sky"
        The value of hidden pixels: for each image the median of its outermost pixels or
        the mean of all, by channel, or given values.  Images of integers that cannot
        hold it are converted to floats.
    scale : {"log-odds", "probability"}, default="log-odds"
        The measured quantity: the natural logarithm of the odds, log p - log(1 - p), or
        the probability p itself.  A probability near 1 cannot increase and hardly
        decreases, so that nothing is visible if the classifier is certain; log-odds are
        unbounded.

    Returns
    -------
    maps : ndarray of shape (n_samples, height, width), float64
        Mean decrease of the log-odds, or of the probability, of the class over all
        squares that cover a pixel: positive if the pixel is evidence for the class,
        negative if it is evidence against it, 0 if it is not covered because the stride
        is larger than the window.

    Warns
    -----
    UserWarning
        If probabilities are 0, as from a random forest, so that log-odds would be
        infinite.  They are replaced by half of the smallest nonzero probability, at
        most 0.005; the message states the value.

    See Also
    --------
    OcclusionDisplay : The maps below the images.

    Notes
    -----
    A map shows what this classifier uses, in this image, at the scale of the window:
    not what could be used, nor what is sufficient.  Redundant features, such as one of
    two equal arms, may have no effect.

    The odds are those of the class against the sum of the others, which are still known
    if the probability of the class is rounded to 1.

    References
    ----------
    .. [1] Zeiler, M. D. and Fergus, R. "Visualizing and understanding convolutional
       networks", ECCV 2014.

    Examples
    --------
    >>> from skdistill import ConvNetClassifier, make_galaxies
    >>> from skdistill.inspection import occlusion_maps
    >>> X, y = make_galaxies(27, size=16, random_state=0)
    >>> network = ConvNetClassifier(width=8, max_iter=5, random_state=0).fit(X, y)
    >>> occlusion_maps(network, X[:2], window=4).shape
    (2, 16, 16)
    """
    check_classifier(estimator)
    X = image_array(X)
    n, height, width, channels = X.shape
    window, stride = window_and_stride(X.shape, window, stride)
    filling = _filling(X, fill)
    if X.dtype.kind in "biu" and not _holds(X.dtype, filling):
        # Cut to integers it would be another value, or go around: -1 is 255.
        X = X.astype(np.result_type(X.dtype, np.float32))
    whole = log_probabilities(estimator, X)
    columns = _columns(estimator, y, whole)
    # The last square touches the far edge.
    rows = np.unique(np.append(np.arange(0, height - window, stride), height - window))
    places = np.unique(np.append(np.arange(0, width - window, stride), width - window))
    squares = [(row, place) for row in rows for place in places]
    per_batch = max(1, _BATCH_PIXELS // max(1, n * height * width))
    answers = [_for_and_against(whole, columns)]
    for start in range(0, len(squares), per_batch):
        some = squares[start : start + per_batch]
        hidden = np.repeat(X[None], len(some), axis=0)
        for copy, (row, place) in zip(hidden, some, strict=True):
            copy[:, row : row + window, place : place + window] = filling
        found = log_probabilities(
            estimator, hidden.reshape(-1, height, width, channels)
        )
        answers.append(_for_and_against(found, np.tile(columns, len(some))))
    pairs = np.concatenate(answers)
    if scale == "log-odds":
        pairs = _finite(pairs)
        watched = pairs[:, 0] - pairs[:, 1]
    else:
        watched = np.exp(pairs[:, 0])
    watched = watched.reshape(1 + len(squares), n)
    total = np.zeros((n, height, width))
    covered = np.zeros((height, width))
    for (row, place), left in zip(squares, watched[1:], strict=True):
        square = np.s_[..., row : row + window, place : place + window]
        total[square] += (watched[0] - left)[:, None, None]
        covered[square] += 1
    return total / np.maximum(covered, 1)


def window_and_stride(
    shape: tuple[int, ...], window: int | None, stride: int | None
) -> tuple[int, int]:
    """Return the side of the square and its steps for images of a shape, in pixels."""
    shorter = min(shape[1:3])
    window = max(1, shorter // 6) if window is None else window
    if window > shorter:
        raise ValueError(
            f"`window` must be at most the shorter side, {shorter} pixels; got {window}"
        )
    return window, max(1, window // 2) if stride is None else stride


def log_probabilities(estimator: Any, X: np.ndarray) -> np.ndarray:
    """Return logarithms of the probabilities, (n_samples, n_classes), float64."""
    with np.errstate(divide="ignore"):
        if hasattr(estimator, "predict_log_proba"):
            found = np.asarray(estimator.predict_log_proba(X), dtype=np.float64)
        else:
            found = np.log(np.asarray(estimator.predict_proba(X), dtype=np.float64))
    if found.ndim != 2 or found.shape[0] != len(X) or found.shape[1] < 2:
        raise ValueError(
            "`estimator` must predict the probabilities of at least two classes for "
            f"each of the {len(X)} images; got shape {found.shape}"
        )
    if np.isnan(found).any():
        raise ValueError(
            "`estimator` must predict probabilities from 0 to 1; some are "
            "negative or NaN"
        )
    return found


def _for_and_against(found: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return log p of a class and of all the others, (n_samples, 2)."""
    rows = np.arange(len(found))
    others = found.copy()
    others[rows, columns] = -np.inf
    return np.column_stack([found[rows, columns], logsumexp(others, axis=1)])


def _finite(pairs: np.ndarray) -> np.ndarray:
    """Take probabilities of 0 for small ones, and warn of it."""
    known = np.isfinite(pairs)
    if known.all():
        return pairs
    floor = np.log(_MAX_FLOOR)
    if known.any():
        floor = min(floor, float(pairs[known].min()) - np.log(2))
    warnings.warn(
        f"in {(~known).any(axis=1).sum()} of {len(pairs)} predictions the probability "
        "of the class is 0 or 1, so that the log-odds would be infinite: "
        f"probabilities of 0 are replaced by {np.exp(floor):.2g}. Use "
        '`scale="probability"` to avoid this',
        stacklevel=4,
    )
    return np.where(known, pairs, floor)


def _filling(X: np.ndarray, fill: Any) -> np.ndarray:
    """Return what hides, to broadcast against (n_samples, rows, columns, channels)."""
    if isinstance(fill, str):
        if fill == "mean":
            return X.mean(axis=(1, 2), keepdims=True)
        border = np.ones(X.shape[1:3], dtype=bool)
        border[1:-1, 1:-1] = False
        return np.median(X[:, border], axis=1)[:, None, None, :]
    values = np.asarray(fill, dtype=np.float64)
    if values.shape != X.shape[3:] or not np.isfinite(values).all():
        raise ValueError(
            f"`fill` must be 'sky', 'mean' or {X.shape[3]} finite values, one for each "
            f"channel; got {fill!r}"
        )
    return values


def _holds(dtype: np.dtype, values: np.ndarray) -> bool:
    """Tell whether integers of a type, or booleans, hold some values exactly."""
    low, high = (
        (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    )
    inside = (values >= low) & (values <= high)
    return bool((inside & (values == np.rint(values))).all())


def check_classifier(estimator: Any) -> None:
    """Raise an error if a classifier is a class or is not fitted."""
    # Those that are not of scikit-learn cannot tell.
    if isinstance(estimator, type) or hasattr(estimator, "__sklearn_tags__"):
        check_is_fitted(estimator)


def classes_of(estimator: Any) -> np.ndarray:
    """Return which class each column of the probabilities is of."""
    if not hasattr(estimator, "classes_"):
        raise TypeError(
            "`estimator` must have an attribute `classes_`, the class of each column "
            f"of `predict_proba`; {type(estimator).__name__} has none"
        )
    return np.asarray(estimator.classes_)


def _columns(estimator: Any, y: Any, probabilities: np.ndarray) -> np.ndarray:
    """Return which column of the probabilities each image is asked about."""
    if y is None:
        return probabilities.argmax(axis=1)
    y = labels_of_images(y, len(probabilities))
    classes = classes_of(estimator)
    y = check_known_labels(y, classes, of="the classifier", every=True)
    return places_of(y, classes)
