"""The self-adaptive part of STM: when to take in one more teacher epoch, when to stop.

Plain functions of the validation losses of a stage, and the objective that uses them.

References
----------
Guan et al., "Discovering Galaxy Features via Dataset Distillation", 2023, algorithm 1
and appendix A.2.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch

from skdistill.distillation._engine._objective import Draw, State
from skdistill.distillation._engine._parameters import SyntheticParameters
from skdistill.distillation._engine._state import WATCH_EVERY
from skdistill.distillation._objectives._trajectory import (
    VALIDATION_COLUMNS,
    Task,
    TrajectoryMatching,
)

Decision = Literal["expanded", "overfit", "stop"] | None

# A rise of the validation loss as clear as this says that the images overfit the
# earlier epochs; the next one helps against that too.
OVERFIT_THRESHOLD = 3.0
CHECK_EVERY = WATCH_EVERY

# Learning rates in the fine-tuning: times _DECAY, _N_DECAYS times, is a twentieth.
_DECAY, _N_DECAYS = 0.8, 14
_DECAYS_PER_MAX_ITER = 20

# There is no epoch to expand the pool by after the last: a trend then merely renews
# the stage, but not for ever.
_MAX_RENEWALS = 10

# Why a stage ended before the last: a checkpoint has their numbers.
_REASONS = ("expanded", "overfit", "no trend")


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
            # A sort, which takes most of the time for a stage of thousands of values.
            _, codes = np.unique(codes, return_inverse=True)
        counts = np.bincount(codes)
        n_groups = int(np.count_nonzero(counts))
        counts = counts.clip(min=1)
    freedom = len(series) - 1 - n_groups
    if freedom < 1:
        return Trend(0.0, np.inf)

    def center(numbers: np.ndarray) -> np.ndarray:
        if groups is None:
            return numbers - numbers.mean()
        means = np.bincount(codes, numbers) / counts
        return numbers - means[codes]

    time = center(time)
    spread = np.ptp(series)
    if spread <= 1e-12 * np.abs(series).max():
        # Rounding leaves a constant series with a tiny variance, and any correlation.
        correlation = 0.0
    else:
        # Of order 1: the squares neither overflow nor vanish.
        centered = center((series - series.mean()) / spread)
        norm = np.sqrt((centered @ centered) * (time @ time))
        # Within groups, too, a constant series has no correlation.
        negligible = norm <= 1e-12 * np.sqrt(time @ time)
        correlation = 0.0 if negligible else float(centered @ time / norm)
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
    """Decide from the validation losses of a stage how to continue.

    Parameters
    ----------
    values : sequence of float
        What was measured at the validation epoch in each iteration of the stage.
    groups : sequence of int, default=None
        The teacher of each value, whose own level may hide a trend that all share.
    threshold : float
        lambda: the trend must fall below minus this many standard deviations.
    max_iter : int
        Number of iterations of a stage after which to stop.

    Returns
    -------
    decision : {"expanded", "overfit", "stop"} or None
        Expand the pool by one more epoch, because the values fall or because they
        rise; stop; or continue as before.

    Notes
    -----
    The null hypothesis is white noise.  Of 20,000 simulated stages of 400 such values,
    with a look at every ten, none ended by a fall at five deviations and 1.6 % by a
    rise at three.  Of random walks, whose values depend on each other, 37 % and 63 %
    did: the test tells a drift from noise, not why the values drift.
    """
    if len(values) >= CHECK_EVERY and len(values) % CHECK_EVERY == 0:
        significance = strongest_trend(values, groups).significance
        if significance < -threshold:
            return "expanded"
        if significance > OVERFIT_THRESHOLD:
            return "overfit"
    return "stop" if len(values) >= max_iter else None


class Validations:
    """What one stage measured at the validation epoch, as the trend test wants it.

    Attributes
    ----------
    loss, misalignment : array of float
    teacher : array of int
    """

    def __init__(self) -> None:
        self.loss, self.misalignment, self.teacher = array("d"), array("d"), array("q")

    def append(self, numbers: Mapping[str, float]) -> None:
        """Add those of an iteration."""
        loss, misalignment = (numbers[name] for name in VALIDATION_COLUMNS)
        self.loss.append(loss)
        self.misalignment.append(misalignment)
        self.teacher.append(int(numbers["teacher"]))

    def table(self) -> torch.Tensor:
        """Return all as a tensor of shape (3, n_values), float64."""
        columns = [self.loss, self.misalignment, self.teacher]
        return torch.from_numpy(
            np.stack([np.asarray(values, dtype=np.float64) for values in columns])
        )

    @classmethod
    def from_table(cls, table: torch.Tensor) -> "Validations":
        """Return those that :meth:`table` was made of."""
        # New arrays: an interrupted trend test may still look at the others.
        found = cls()
        loss, misalignment, teacher = table.tolist()
        found.loss.extend(loss)
        found.misalignment.extend(misalignment)
        found.teacher.extend(int(value) for value in teacher)
        return found


class SelfAdaptiveMatching(TrajectoryMatching):
    """Trajectory matching that expands its pool of start epochs by itself.

    Parameters
    ----------
    *arguments
        As of :class:`TrajectoryMatching`.
    n_epochs_matched : int
        T at the start.
    n_target_epochs : int
        How many epochs ahead students aim.
    last_epoch : int
        The last snapshot that teachers have.
    threshold : float
        lambda of the trend test.
    max_iter : int
        Number of iterations of a stage after which it has no trend.
    trend_on : {"misalignment", "loss"}
        What the test looks at.
    **settings
        As of :class:`TrajectoryMatching`.
    """

    columns = (*TrajectoryMatching.columns, *VALIDATION_COLUMNS)
    notes = ("n_epochs_matched", *TrajectoryMatching.notes)

    def __init__(
        self,
        *arguments: Any,
        n_epochs_matched: int,
        n_target_epochs: int,
        last_epoch: int,
        threshold: float,
        max_iter: int,
        trend_on: str,
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, **settings)
        self.n_epochs_matched = n_epochs_matched
        self._n_target_epochs = n_target_epochs
        self._last_epoch = last_epoch
        self._threshold = threshold
        self._max_iter = max_iter
        self._trend_on = trend_on
        self._validations = Validations()
        self._is_fine_tuning = False
        self._n_renewals = 0
        # The iteration that the stage started with.
        self._stage_start = 0
        # Accepted iterations of the fine-tuning.
        self._n_fine_tuned = 0
        self._stages: list[dict[str, Any]] = []
        self.step_sizes.extend(n_epochs_matched)
        # A stage for each number of epochs, those of the last one again and again, and
        # the fine-tuning.
        n_stages = last_epoch - n_target_epochs - n_epochs_matched + 1 + _MAX_RENEWALS
        self.max_n_iter = n_stages * max_iter + _N_DECAYS * self._decay_period

    def task(self, iteration: int, rng: np.random.Generator) -> Task:
        start = iteration % self.n_epochs_matched
        return Task(
            teacher=int(rng.integers(self._buffer.n_teachers_)),
            start_epoch=start,
            end_epoch=start + self._n_target_epochs,
            validation_epoch=None if self._is_fine_tuning else self.n_epochs_matched,
        )

    @property
    def last_matched(self) -> int:
        return self.n_epochs_matched - 1 + self._n_target_epochs

    def numbers(self) -> dict[str, float]:
        return {"n_epochs_matched": self.n_epochs_matched}

    def advance(
        self, synthetic: SyntheticParameters, numbers: Mapping[str, float], draw: Draw
    ) -> str:
        n_iter = draw.iteration + 1
        if self._is_fine_tuning:
            return self._fine_tune(synthetic)
        self._validations.append(numbers)
        decision = decide(
            *self._values(), threshold=self._threshold, max_iter=self._max_iter
        )
        if decision is None:
            return ""
        validated = self.n_epochs_matched + self._n_target_epochs
        if decision != "stop" and validated == self._last_epoch:
            if self._n_renewals < _MAX_RENEWALS:
                self._end_stage(decision, n_iter)
                self._n_renewals += 1
                return ""
            decision = "stop"
        self._end_stage("no trend" if decision == "stop" else decision, n_iter)
        if decision == "stop":
            self._is_fine_tuning = True
            return ""
        self.n_epochs_matched += 1
        self.step_sizes.extend(self.n_epochs_matched)
        synthetic.begin_stage()
        return ""

    @property
    def _decay_period(self) -> int:
        return max(1, self._max_iter // _DECAYS_PER_MAX_ITER)

    def _fine_tune(self, synthetic: SyntheticParameters) -> str:
        self._n_fine_tuned += 1
        n_periods, rest = divmod(self._n_fine_tuned, self._decay_period)
        if rest:
            return ""
        synthetic.learning_rate_factor *= _DECAY
        return "no trend" if n_periods == _N_DECAYS else ""

    def _values(self) -> tuple[Sequence[float], Sequence[int] | None]:
        """Return what the trend test looks at, and of which teachers it is."""
        found = self._validations
        # The literal rule knows nothing of teachers; a mean over several has none.
        if self._trend_on == "loss":
            return found.loss, None
        if self.n_draws > 1:
            return found.misalignment, None
        return found.misalignment, found.teacher

    def _stage(self, reason: str, n_iter: int) -> dict[str, Any]:
        correlation, deviation = np.nan, np.nan
        if not self._is_fine_tuning:
            correlation, deviation = strongest_trend(*self._values())
        return {
            "n_epochs_matched": self.n_epochs_matched,
            "first_iteration": self._stage_start,
            "n_iter": n_iter - self._stage_start,
            "correlation": correlation,
            "deviation": deviation,
            "reason": reason,
        }

    def _end_stage(self, reason: str, n_iter: int) -> None:
        self._stages.append(self._stage(reason, n_iter))
        self._validations = Validations()
        self._stage_start = n_iter

    def stages(self, n_iter: int, stop_reason: str) -> pd.DataFrame:
        """Return a row per stage, that which is not at its end included.

        Parameters
        ----------
        n_iter : int
            Number of iterations so far.
        stop_reason : str
            Why they came to an end.
        """
        stages = list(self._stages)
        if self._is_fine_tuning and stop_reason == "no trend":
            stop_reason = "fine-tuned"
        if self._stage_start < n_iter or not stages:
            stages.append(self._stage(stop_reason, n_iter))
        return pd.DataFrame(stages)

    def rolled_back(self, synthetic: SyntheticParameters, n_times: int) -> None:
        # The good state may be older than the last expansion.
        self.step_sizes.extend(self.n_epochs_matched)
        super().rolled_back(synthetic, n_times)

    def progress(self, numbers: Mapping[str, float]) -> dict[str, str]:
        loss = super().progress(numbers)
        return {"loss": loss.pop("loss"), "T": str(self.n_epochs_matched), **loss}

    def state(self) -> State:
        stages = [
            [
                *(float(value) for name, value in stage.items() if name != "reason"),
                float(_REASONS.index(stage["reason"])),
            ]
            for stage in self._stages
        ]
        counts = [
            self.n_epochs_matched,
            self._stage_start,
            self._n_renewals,
            int(self._is_fine_tuning),
            self._n_fine_tuned,
        ]
        return {
            "counts": torch.tensor(counts),
            "validations": self._validations.table(),
            "stages": torch.tensor(stages, dtype=torch.float64).reshape(-1, 6),
        }

    def restore(self, state: State) -> None:
        counts, stages = state["counts"], state["stages"]
        if counts.dtype != torch.int64 or counts.shape != (5,) or counts.min() < 0:
            raise ValueError("its counts are invalid")
        n_epochs, start, n_renewals, fine_tuning, n_fine_tuned = counts.tolist()
        if not 0 < n_epochs <= self._last_epoch:
            raise ValueError("it matched more epochs than teachers have")
        if not state["validations"].isfinite().all():
            raise ValueError("its validation losses are invalid")
        self._validations = Validations.from_table(state["validations"])
        names = ("n_epochs_matched", "first_iteration", "n_iter")
        self._stages = [
            {
                **{name: int(value) for name, value in zip(names, row, strict=False)},
                "correlation": row[3],
                "deviation": row[4],
                "reason": _REASONS[int(row[5])],
            }
            for row in stages.tolist()
        ]
        self.n_epochs_matched, self._stage_start = n_epochs, start
        self._n_renewals, self._n_fine_tuned = n_renewals, n_fine_tuned
        self._is_fine_tuning = bool(fine_tuning)
