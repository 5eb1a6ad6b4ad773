"""The self-adaptive part of STM: when to take in one more teacher epoch, when to stop.

Plain functions of the numbers that the probe has collected.

References
----------
Guan et al., "Discovering Galaxy Features via Dataset Distillation", 2023, algorithm 1
and appendix A.2.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

Decision = Literal["level-up", "overfit", "stop"] | None

# A rise of the probe's loss as clear as this says that the images overfit the earlier
# epochs; the next one helps against that too.
OVERFIT_THRESHOLD = 3.0
CHECK_EVERY = 10


class Trend(NamedTuple):
    """The correlation of a series with time.

    Attributes
    ----------
    correlation : float
        Pearson's r, 0 for a constant series.
    deviation : float
        The standard deviation of r for a series without trend, sqrt(1 / (n - 2)), or
        infinity where there are too few values to tell.
    """

    correlation: float
    deviation: float

    @property
    def significance(self) -> float:
        """The correlation in units of its deviation."""
        return self.correlation / self.deviation


def trend(values: Sequence[float], groups: Sequence[int] | None = None) -> Trend:
    """Correlate a series with time.

    Parameters
    ----------
    values : sequence of float
        The series (appendix A.2).
    groups : sequence of int, default=None
        A group for each value.  Groups may have different levels: with k of them the
        correlation is that of the deviations of values and times from the means of
        their groups, and the standard deviation sqrt(1 / (n - 1 - k)).

    Returns
    -------
    trend : Trend
    """
    series = np.asarray(values, dtype=np.float64)
    time = np.arange(len(series), dtype=np.float64)
    n_groups = 1
    if groups is not None:
        codes = np.asarray(groups)
        small = codes.dtype.kind == "i" and codes.min(initial=0) >= 0
        if not small or codes.max(initial=0) > len(codes):
            # A sort, which takes most of the time for a stage of thousands of probes.
            _, codes = np.unique(codes, return_inverse=True)
        counts = np.bincount(codes)
        n_groups = int(np.count_nonzero(counts))
        counts = counts.clip(min=1)
    freedom = len(series) - 1 - n_groups
    if freedom < 1:
        return Trend(0.0, np.inf)

    def centre(numbers: np.ndarray) -> np.ndarray:
        if groups is None:
            return numbers - numbers.mean()
        means = np.bincount(codes, numbers) / counts
        return numbers - means[codes]

    time = centre(time)
    spread = np.ptp(series)
    if spread <= 1e-12 * np.abs(series).max():
        # Rounding leaves a constant series with a tiny variance, and any correlation.
        correlation = 0.0
    else:
        # Of order 1: the squares neither overflow nor vanish.
        centred = centre((series - series.mean()) / spread)
        norm = np.sqrt((centred @ centred) * (time @ time))
        # Within groups, too, a constant series has no correlation.
        negligible = norm <= 1e-12 * np.sqrt(time @ time)
        correlation = 0.0 if negligible else float(centred @ time / norm)
    return Trend(correlation, float(np.sqrt(1.0 / freedom)))


def strongest_trend(
    values: Sequence[float], groups: Sequence[int] | None = None
) -> Trend:
    """Return the clearer of the trends of all values and within groups."""
    trends = [trend(values)]
    if groups is not None:
        trends.append(trend(values, groups))
    return max(trends, key=lambda found: abs(found.significance))


def decide(
    values: Sequence[float],
    groups: Sequence[int] | None = None,
    *,
    threshold: float,
    max_iter: int,
) -> Decision:
    """Decide, from the probes since the last level-up, how to go on.

    Parameters
    ----------
    values : sequence of float
        What the probe measured in each iteration of the stage.
    groups : sequence of int, default=None
        The teacher of each probe, whose own level may hide a trend that all share.
    threshold : float
        lambda: the trend must fall below minus this many standard deviations.
    max_iter : int
        Number of iterations of a stage after which to stop.

    Returns
    -------
    decision : {"level-up", "overfit", "stop"} or None
        Take in one more epoch, because the probe's values fall or because they rise;
        stop; or go on as before.

    Notes
    -----
    The null hypothesis is white noise.  Of 20,000 simulated stages of 400 such probes,
    with a look at every ten, none ended by a fall at five deviations and 1.6 % by a
    rise at three.  Of random walks, whose values depend on each other, 37 % and 63 %
    did: the test tells a drift from noise, not why the probe drifts.
    """
    if len(values) >= CHECK_EVERY and len(values) % CHECK_EVERY == 0:
        significance = strongest_trend(values, groups).significance
        if significance < -threshold:
            return "level-up"
        if significance > OVERFIT_THRESHOLD:
            return "overfit"
    return "stop" if len(values) >= max_iter else None
