"""Whether probabilities mean what they say."""

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._param_validation import Interval, validate_params

from skdistill.utils._class_rows import check_column_order
from skdistill.utils._image_input import unmasked, without_torch
from skdistill.utils._labels import check_known_labels, one_label_each
from skdistill.utils._torch_state import with_own_torch_state


@validate_params(
    {
        "y_true": ["array-like"],
        "y_proba": ["array-like"],
        "labels": ["array-like", None],
        "n_bins": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def expected_calibration_error(
    y_true: Any, y_proba: Any, *, labels: Any = None, n_bins: int = 15
) -> float:
    """Return how far confidence is from accuracy, on average over images.

    Images are put into bins of equal width by the probability of their most probable
    class.  In each bin the mean of that probability is compared with the share of
    images whose class it is [1]_.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True class labels.
    y_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
        The probability of each class, in sorted order; with one axis that of the
        second of two classes.
    labels : array-like of shape (n_classes,), default=None
        The classes, in sorted order.  None takes those in `y_true`, which must then
        hold each of them.  Labels in `y_true` that are none of them are warned about,
        and are an error where there are no others.
    n_bins : int, default=15
        Number of bins.

    Returns
    -------
    error : float
        In [0, 1]; 0 if confidence and accuracy agree in each bin.

    See Also
    --------
    sklearn.metrics.brier_score_loss : Mean squared error of the probabilities.

    References
    ----------
    .. [1] Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Examples
    --------
    Of networks trained on a distilled set:

    >>> from sklearn.metrics import make_scorer
    >>> from skdistill import ConvNetClassifier, evaluate_synthetic, make_galaxies
    >>> from skdistill.metrics import expected_calibration_error
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> scorer = make_scorer(
    ...     expected_calibration_error, response_method="predict_proba")
    >>> error = evaluate_synthetic(
    ...     (X[:45], y[:45]), X[45:], y[45:], scoring=scorer, n_repeats=2,
    ...     estimator=ConvNetClassifier(width=8, max_iter=5), random_state=0)
    >>> bool(0 <= error.mean <= 1)
    True
    """
    y_true = one_label_each(y_true, "y_true")
    table = y_proba
    y_proba = check_array(
        unmasked(without_torch(y_proba, "y_proba"), "y_proba"),
        ensure_2d=False,
        input_name="y_proba",
    )
    check_consistent_length(y_true, y_proba)
    classes = np.unique(y_true) if labels is None else np.asarray(labels)
    if len(np.unique(classes)) < len(classes) or (classes[1:] < classes[:-1]).any():
        raise ValueError(
            "`labels` must hold each class once, in sorted order; got "
            f"{classes.tolist()}"
        )
    check_column_order(table, "y_proba", classes)
    if y_proba.ndim == 1:
        y_proba = np.column_stack([1 - y_proba, y_proba])
    if y_proba.shape[1] != len(classes):
        raise ValueError(
            f"`y_proba` has {y_proba.shape[1]} classes, "
            + (
                f"`y_true` has {len(classes)}: pass all classes as `labels`"
                if labels is None
                else f"`labels` {len(classes)}"
            )
        )
    if labels is not None:
        y_true = check_known_labels(y_true, classes, name="y_true", of="`labels`")
    if (y_proba < 0).any() or not np.allclose(y_proba.sum(axis=1), 1, atol=1e-3):
        raise ValueError("`y_proba` must hold probabilities that sum to 1")
    confidence = y_proba.max(axis=1)
    right = classes[y_proba.argmax(axis=1)] == y_true
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    # Of a bin of n images |mean of confidence - mean of right| counts n times.
    gaps = np.bincount(bins, weights=confidence - right, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(y_true))
