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
        The standard deviation of r for a series without trend, sqrt(1 / (n - 2)).
    """

    correlation: float
    deviation: float


def trend(values: Sequence[float]) -> Trend:
    """Correlate a series of at least three values with time (appendix A.2)."""
    series = np.asarray(values, dtype=np.float64)
    time = np.arange(len(series)) - (len(series) - 1) / 2
    spread = np.ptp(series)
    if spread <= 1e-12 * np.abs(series).max():
        # Rounding leaves a constant series with a tiny variance, and any correlation.
        correlation = 0.0
    else:
        # Of order 1: the squares neither overflow nor vanish.
        centred = (series - series.mean()) / spread
        norm = np.sqrt((centred @ centred) * (time @ time))
        correlation = float(centred @ time / norm)
    return Trend(correlation, float(np.sqrt(1.0 / (len(series) - 2))))


def decide(values: Sequence[float], *, threshold: float, max_iter: int) -> Decision:
    """Decide, from the probes since the last level-up, how to go on.

    Parameters
    ----------
    values : sequence of float
        What the probe measured in each iteration of the stage.
    threshold : float
        lambda: the trend must fall below minus this many standard deviations.
    max_iter : int
        Number of iterations of a stage after which to stop.

    Returns
    -------
    decision : {"level-up", "overfit", "stop"} or None
        Take in one more epoch, because the probe's values fall or because they rise;
        stop; or go on as before.
    """
    if len(values) >= CHECK_EVERY and len(values) % CHECK_EVERY == 0:
        correlation, deviation = trend(values)
        if correlation < -threshold * deviation:
            return "level-up"
        if correlation > OVERFIT_THRESHOLD * deviation:
            return "overfit"
    return "stop" if len(values) >= max_iter else None
