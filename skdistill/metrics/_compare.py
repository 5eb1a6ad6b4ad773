"""Comparison of two arms: the difference and its confidence interval."""

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils._param_validation import Interval, validate_params

from skdistill.metrics._scores import as_runs, check_same_estimators, in_order_of
from skdistill.utils._intervals import students_half_width
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._warnings import warn


class Comparison(NamedTuple):
    """The difference of two arms and its confidence interval.

    Attributes
    ----------
    difference : float
        Mean of the first arm minus mean of the second.
    low, high : float
        The interval; infinite if there are too few runs.
    differs : bool
        Whether the interval excludes zero.
    n_runs : tuple (first, second)
        Number of independent runs of each arm.
    """

    difference: float
    low: float
    high: float
    differs: bool
    n_runs: tuple[int, int]


@validate_params(
    {
        "scores": ["array-like"],
        "other": ["array-like"],
        "paired": ["boolean"],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def compare_scores(
    scores: Any, other: Any, *, paired: bool = False, confidence: float = 0.95
) -> Comparison:
    """Compute the difference of two arms and whether it is significant.

    The interval is Student's: for unpaired runs with Welch's degrees of freedom.

    Parameters
    ----------
    scores, other : array-like of shape (n_runs,) or (n_sets, n_networks), \
            SyntheticScore, DataFrame, or list or dict of these
        The scores of either arm.  Networks that learned from the same distilled set are
        no independent runs of the method that made it: of a row for each set, the mean
        counts as one run.  With one axis each score is a run, and what is said holds
        for these sets alone.  What :func:`~skdistill.metrics.evaluate_synthetic` and
        :func:`~skdistill.metrics.cross_architecture` return is taken as it is:

        - one result is the scores of one set, each a run; in a table of several
          estimators the mean of all estimators of one ``repeat`` is a run;
        - a list or a dict of results holds a result for each set, whose mean is a
          run.  Rows may have different lengths.  Where runs are ``paired``, those of
          two dicts are paired by their keys.
    paired : bool, default=False
        Whether the runs are pairs, such as those with the same teachers and the same
        initial images.
    confidence : float, default=0.95
        The confidence level of the interval.

    Returns
    -------
    comparison : Comparison
        A named tuple ``(difference, low, high, differs, n_runs)``.

    Notes
    -----
    If all runs of both arms are equal, as for a classifier without randomness, the
    interval is the difference itself.

    In simulations of normal scores 95 % intervals contained the true difference in 95
    to 98 % of 20,000 comparisons of 2 to 50 runs on both sides, with standard
    deviations that were equal or differed by a factor of 3, and paired intervals in 95
    %.  Use the same number of runs for both arms: the coverage was 89 to 96 % with 2
    against 5 runs, and 88 to 91 % with 2 against 50.

    Examples
    --------
    >>> from skdistill.metrics import compare_scores
    >>> found = compare_scores([0.47, 0.48, 0.47], [0.42, 0.46, 0.41])
    >>> print(f"{found.difference:.3f} ({found.low:.3f} to {found.high:.3f})")
    0.043 (-0.019 to 0.105)
    >>> found.differs
    False
    """
    check_same_estimators(scores, other)
    if paired:
        other = in_order_of(scores, other)
    one, two = as_runs(scores, "scores"), as_runs(other, "other")
    if paired and len(one) != len(two):
        raise ValueError(
            "`scores` and `other` must have the same number of runs to be paired; got "
            f"{len(one)} and {len(two)}"
        )
    for name, arm, against in (("scores", one, two), ("other", two, one)):
        if (
            (arm > 1).all()
            and ((against >= 0) & (against <= 1)).all()
            and against.any()
        ):
            warn(
                f"`{name}` has values from {arm.min():g} to {arm.max():g}, the others "
                f"from {against.min():g} to {against.max():g}: if the former are "
                "percentages and the others fractions, divide the former by 100"
            )
    difference = float(one.mean() - two.mean())
    if min(len(one), len(two)) < 2:
        half = np.inf
    elif paired:
        half = float(students_half_width(one - two, confidence=confidence))
    else:
        half = float(students_half_width(one, two, confidence=confidence))
    low, high = float(difference - half), float(difference + half)
    return Comparison(
        difference, low, high, bool(low > 0 or high < 0), (len(one), len(two))
    )
