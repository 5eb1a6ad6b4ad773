"""What the iterations of a run measured, in a bounded amount of memory."""

from array import array
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

# A run of days takes no more memory, and its checkpoint no more space, than one of an
# hour: when there are so many rows, pairs of them are merged.
MOST_ROWS = 10_000

MATCH_COLUMNS = ("loss", "misalignment")
PROBE_COLUMNS = ("probe_loss", "probe_misalignment")
_WHOLE_COLUMNS = ("n_epochs_matched", "teacher", "start_epoch")
_COLUMNS = (*_WHOLE_COLUMNS, *MATCH_COLUMNS, *PROBE_COLUMNS, "step_size", "event")
_MEANS = [_COLUMNS.index(name) for name in (*MATCH_COLUMNS, *PROBE_COLUMNS)]
_EVENT = _COLUMNS.index("event")
# Behind the columns: of how many iterations each of the means is.
_COUNTS = [len(_COLUMNS) + place for place in range(len(_MEANS))]
_N_NUMBERS = len(_COLUMNS) + len(_COUNTS)


class History:
    """A row per iteration, or per 2, 4, 8, ... iterations of a long run.

    Only :meth:`condense` merges rows: what was added since it was called last can be
    taken back.
    """

    def __init__(self) -> None:
        # Numbers alone: the event is 0 or 1.  Filled, so that the memory is there from
        # the start, or is not.
        self._rows = np.full((MOST_ROWS, _N_NUMBERS), np.nan)
        self._n_rows = 0
        # How many iterations each of these stands for.
        self._stride = 1
        # Those of the last iterations that make no whole row yet.
        self._pending: list[np.ndarray] = []

    def __len__(self) -> int:
        """Return the number of iterations."""
        return self._n_rows * self._stride + len(self._pending)

    def append(self, numbers: dict[str, float]) -> None:
        """Add an iteration: all that it measured, but for the event."""
        row = np.zeros(_N_NUMBERS)
        row[: len(_COLUMNS)] = [numbers.get(name, np.nan) for name in _COLUMNS]
        row[_EVENT] = 0.0
        row[_COUNTS] = np.isfinite(row[_MEANS])
        self._pending.append(row)

    def mark_rolled_back(self) -> None:
        """Note that the last iteration was undone."""
        last = self._pending[-1] if self._pending else self._rows[self._n_rows - 1]
        last[_EVENT] = 1.0

    def truncate(self, n_iter: int) -> None:
        """Take back all iterations after the first ``n_iter``."""
        del self._pending[len(self._pending) - (len(self) - n_iter) :]

    def condense(self) -> None:
        """Merge what can be merged."""
        if len(self._pending) == self._stride:
            self._rows[self._n_rows] = _merged(np.stack(self._pending)[None])
            self._n_rows += 1
            self._pending = []
        if self._n_rows == MOST_ROWS:
            pairs = self._rows.reshape(-1, 2, _N_NUMBERS)
            self._n_rows = len(pairs)
            self._rows[: self._n_rows] = _merged(pairs)
            self._stride *= 2

    def table(self) -> pd.DataFrame:
        """Return the rows; their index is the first iteration of each."""
        rows = self._rows[: self._n_rows]
        if self._pending:
            rows = np.concatenate([rows, _merged(np.stack(self._pending)[None])])
        columns: dict[str, Any] = dict(zip(_COLUMNS, rows.T.copy(), strict=False))
        for name in _WHOLE_COLUMNS:
            columns[name] = columns[name].astype(np.int64)
        columns["event"] = ["rolled back" if e else "" for e in columns["event"]]
        index = pd.RangeIndex(0, len(self), self._stride)
        return pd.DataFrame(columns, index=index)

    def state(self) -> tuple[np.ndarray, dict[str, int]]:
        """Return all that there is: an array of rows, and how to read it."""
        pending = np.reshape(self._pending, (-1, _N_NUMBERS))
        rows = np.concatenate([self._rows[: self._n_rows], pending])
        return rows, {"stride": self._stride, "n_pending": len(pending)}

    def restore(self, rows: np.ndarray, reading: dict[str, int]) -> None:
        """Take on what :meth:`state` returned, or raise a ValueError."""
        stride, n_pending = reading["stride"], reading["n_pending"]
        # Numbers of a file, which may be anything.
        if (
            rows.shape[1:] != (_N_NUMBERS,)
            or not 0 <= n_pending <= stride < 2**40
            or not 0 <= len(rows) - n_pending <= MOST_ROWS
        ):
            raise ValueError("its history makes no sense")
        self._stride = stride
        self._n_rows = len(rows) - n_pending
        self._rows[: self._n_rows] = rows[: self._n_rows]
        self._pending = list(rows[self._n_rows :].copy())


def _merged(groups: np.ndarray) -> np.ndarray:
    """Merge rows: means of what was measured and is finite, the first of the rest.

    Parameters
    ----------
    groups : ndarray of shape (n_groups, n_rows, n_numbers)

    Returns
    -------
    rows : ndarray of shape (n_groups, n_numbers)
    """
    rows = groups[:, 0].copy()
    means, counts = groups[:, :, _MEANS], groups[:, :, _COUNTS]
    sums = (np.where(counts > 0, means, 0.0) * counts).sum(axis=1)
    rows[:, _COUNTS] = n_finite = counts.sum(axis=1)
    rows[:, _MEANS] = np.divide(
        sums, n_finite, out=rows[:, _MEANS].copy(), where=n_finite > 0
    )
    rows[:, _EVENT] = groups[:, :, _EVENT].max(axis=1)
    return rows


class Probes(NamedTuple):
    """What the probes of one stage measured, as the trend test wants it.

    Attributes
    ----------
    probe_loss, probe_misalignment : array of float
    teacher : array of int
    """

    probe_loss: array
    probe_misalignment: array
    teacher: array

    @classmethod
    def none(cls) -> "Probes":
        """Return those of a stage that has not begun."""
        return cls(array("d"), array("d"), array("q"))

    def append(self, numbers: dict[str, Any]) -> None:
        """Add those of an iteration."""
        for name, values in zip(self._fields, self, strict=True):
            values.append(numbers[name])

    def table(self) -> np.ndarray:
        """Return all as an array of shape (3, n_probes), float64."""
        return np.stack([np.asarray(values, dtype=np.float64) for values in self])

    def first(self, n_probes: int) -> "Probes":
        """Return a copy of the first ``n_probes``."""
        # These cannot be cut: an interrupted trend test may still look at them.
        return Probes(*(values[:n_probes] for values in self))
