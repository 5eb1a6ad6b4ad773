"""Confidence intervals that hold what they say for a handful of values too.

Samples are along the last axis; all others are batches.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats

# Relative to the largest value, a difference that rounding may have left.
_ROUNDING = 1e-12
_HALVINGS = 50  # of an interval within [0, 1]
# Weight of Newcombe's variance, as a number of values, against the empirical one.
_PRIOR_VALUES = 6


def students_half_width(
    *samples: np.ndarray, confidence: float, unequal_sizes: bool = False
) -> np.ndarray:
    """Return half of Student's interval of a mean, or of a difference of means.

    The degrees of freedom of a difference are Welch's: variances may differ.

    Parameters
    ----------
    *samples : one or two ndarrays of shape (..., n_values)
        Two values or more each.
    confidence : float
    unequal_sizes : bool, default=False
        Whether there are at most as many degrees of freedom as with equal variances.
        Of a sample of two or three against many more, Welch's number depends on chance:
        his interval holds the truth in 88 % instead of 95.  With equal sizes it is the
        same.

    Returns
    -------
    half : ndarray of shape (...)
        0, or no more than rounding, where the values of each sample are all the same.
    """
    variances = [sample.var(axis=-1, ddof=1) / sample.shape[-1] for sample in samples]
    total = np.sum(variances, axis=0)
    safe = np.where(total > 0, total, 1.0)
    inverse = np.sum(
        [
            (variance / safe) ** 2 / (sample.shape[-1] - 1)
            for variance, sample in zip(variances, samples, strict=True)
        ],
        axis=0,
    )
    freedom = 1 / np.where(total > 0, inverse, 1.0)
    if unequal_sizes:
        sizes = np.array([sample.shape[-1] for sample in samples])
        shares = (1 / sizes) / (1 / sizes).sum()
        freedom = np.minimum(freedom, 1 / (shares**2 / (sizes - 1)).sum())
    # Means of equal values may differ from them in their last bits.
    largest = np.max([np.abs(sample).max(axis=-1) for sample in samples], axis=0)
    half = stats.t.ppf((1 + confidence) / 2, freedom) * np.sqrt(total)
    return half + np.where(total > 0, _ROUNDING * largest, 0.0)


def deviation(values: np.ndarray) -> float:
    """Return the standard deviation of a sample.

    Parameters
    ----------
    values : ndarray of shape (n_values,)

    Returns
    -------
    deviation : float
        NaN for less than two values, and 0 where they differ by no more than rounding.
    """
    if len(values) < 2:
        return np.nan
    found = float(values.std(ddof=1))
    return found if found > _ROUNDING * float(np.abs(values).max()) else 0.0


def superiority(
    one: np.ndarray, two: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate the probability that a value of one is larger than one of another.

    The interval is Newcombe's fifth [1]_, the probabilities from which what was found
    is no further than it should be, with three changes.  The quantile is Student's; the
    variance is larger where the values' own placements say so, as where one group
    scatters more than the other; and how much these are believed grows with their
    number.  It is never empty, not even where all values of one are larger.

    Parameters
    ----------
    one : ndarray of shape (..., n_one)
        Two values or more.
    two : ndarray of shape (..., n_two)
        Two values or more.
    confidence : float

    Returns
    -------
    probability, low, high : ndarray of shape (...)
        Ties count by half.

    References
    ----------
    .. [1] Newcombe, R. G. (2006). Confidence intervals for an effect size measure based
       on the Mann-Whitney statistic. Part 2. Statistics in Medicine 25, 559.
    """
    n_one, n_two = one.shape[-1], two.shape[-1]
    both = stats.rankdata(np.concatenate([one, two], axis=-1), axis=-1)
    # Of each value the share of the other group below it.
    of_one = (both[..., :n_one] - stats.rankdata(one, axis=-1)) / n_two
    of_two = (both[..., n_one:] - stats.rankdata(two, axis=-1)) / n_one
    found = of_one.mean(axis=-1)

    mean_size = (n_one + n_two) / 2 - 1

    def variance(p: np.ndarray) -> np.ndarray:
        overlap = 1 + mean_size * ((1 - p) / (2 - p) + p / (1 + p))
        return p * (1 - p) * overlap / (n_one * n_two)

    own = of_one.var(axis=-1, ddof=1) / n_one + of_two.var(axis=-1, ddof=1) / n_two
    expected = variance(found)
    ratio = np.where(expected > 0, own / np.where(expected > 0, expected, 1), 1.0)
    smaller = min(n_one, n_two)
    weight = (smaller - 1) / (smaller - 1 + _PRIOR_VALUES)
    ratio = np.maximum(1.0, weight * ratio + 1 - weight)
    quantile = stats.t.ppf((1 + confidence) / 2, 4 * smaller)

    def is_near(p: np.ndarray) -> np.ndarray:
        return (found - p) ** 2 <= quantile**2 * ratio * variance(p)

    low = _edge(is_near, found, np.zeros_like(found))
    high = _edge(is_near, found, np.ones_like(found))
    return found, low, high


def share_interval(
    n_below: np.ndarray, n_values: int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of a probability, by how often something was so.

    Clopper's and Pearson's: it holds the truth at least as often as it says, for some
    probabilities more often.

    Parameters
    ----------
    n_below : ndarray
        How often; halves for ties.
    n_values : int
        Of how many.
    confidence : float

    Returns
    -------
    low, high : ndarray
    """
    tail = (1 - confidence) / 2
    n_below = np.asarray(n_below, dtype=np.float64)
    n_above = n_values - n_below
    # Quantiles of a beta distribution, which has none where there are no counts.
    low = stats.beta.ppf(tail, np.maximum(n_below, 0.5), n_above + 1)
    high = stats.beta.ppf(1 - tail, n_below + 1, np.maximum(n_above, 0.5))
    return np.where(n_below > 0, low, 0.0), np.where(n_above > 0, high, 1.0)


def deviations_half_width(
    sample: np.ndarray, z: np.ndarray, confidence: float
) -> np.ndarray:
    """Return half of the interval of how many deviations something is from a mean.

    Mean and deviation are those of the sample.  The variance is that of a normal
    distribution or, where it is larger, that of the sample's own third and fourth
    moments.

    Parameters
    ----------
    sample : ndarray of shape (..., n_values)
        Two values or more, not all the same.
    z : ndarray of shape (...)
        Deviations above the mean.
    confidence : float

    Returns
    -------
    half : ndarray of shape (...)
    """
    n_values = sample.shape[-1]
    scaled = sample - sample.mean(axis=-1, keepdims=True)
    scaled = scaled / scaled.std(axis=-1, keepdims=True)
    third, fourth = (scaled**3).mean(axis=-1), (scaled**4).mean(axis=-1)
    own = 1 + z * third + z**2 * (fourth - 1) / 4
    variance = np.maximum(own, 1 + z**2 / 2) / n_values
    return stats.t.ppf((1 + confidence) / 2, n_values - 1) * np.sqrt(variance)


def _edge(
    is_inside: Callable[[np.ndarray], np.ndarray],
    inside: np.ndarray,
    outside: np.ndarray,
) -> np.ndarray:
    """Return where something stops to be so, between two places."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        found = is_inside(middle)
        inside, outside = (
            np.where(found, middle, inside),
            np.where(found, outside, middle),
        )
    return inside
