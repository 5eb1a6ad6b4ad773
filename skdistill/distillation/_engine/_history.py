"""What the iterations of a run measured, in a bounded amount of memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

# A run of days takes no more memory, and its checkpoint no more space, than one of an
# hour: at this number of rows, pairs of them are merged.
MAX_ROWS = 10_000


class History:
    """A row per iteration, or per 2, 4, 8, ... iterations of a long run.

    Only :meth:`condense` merges rows: what was added since it was called last can be
    taken back.

    Parameters
    ----------
    columns : sequence of str
        What is averaged where rows are merged.
    notes : sequence of str
        Integers of which merged rows keep the first; they stand before the columns.
    last_columns : sequence of str
        Floats of which merged rows keep the first; they stand behind them.
    """

    def __init__(
        self,
        columns: Sequence[str],
        notes: Sequence[str] = (),
        last_columns: Sequence[str] = (),
    ) -> None:
        self._names = (*notes, *columns, *last_columns, "event")
        self._integers = tuple(notes)
        self._means = [self._names.index(name) for name in columns]
        self._event = len(self._names) - 1
        # Behind the columns: of how many iterations each of the means is.
        self._counts = [len(self._names) + place for place in range(len(self._means))]
        self._n_numbers = len(self._names) + len(self._counts)
        # Numbers alone: the event is 0 or 1.  Filled, so that the memory is there from
        # the start, or is not.
        self._rows = np.full((MAX_ROWS, self._n_numbers), np.nan)
        self._n_rows = 0
        # How many iterations each of these is of.
        self._stride = 1
        # Those of the last iterations that make no whole row yet.
        self._pending: list[np.ndarray] = []

    def __len__(self) -> int:
        """Return the number of iterations."""
        return self._n_rows * self._stride + len(self._pending)

    def append(self, numbers: Mapping[str, float]) -> None:
        """Add an iteration: all that it measured, but for the event."""
        row = np.zeros(self._n_numbers)
        row[: len(self._names)] = [numbers.get(name, np.nan) for name in self._names]
        row[self._event] = 0.0
        row[self._counts] = np.isfinite(row[self._means])
        self._pending.append(row)

    def mark_rolled_back(self) -> None:
        """Note that the last iteration was undone."""
        last = self._pending[-1] if self._pending else self._rows[self._n_rows - 1]
        last[self._event] = 1.0

    def truncate(self, n_iter: int) -> None:
        """Take back all iterations after the first ``n_iter``."""
        del self._pending[len(self._pending) - (len(self) - n_iter) :]

    def condense(self) -> None:
        """Merge what can be merged."""
        if len(self._pending) == self._stride:
            self._rows[self._n_rows] = self._merged(np.stack(self._pending)[None])
            self._n_rows += 1
            self._pending = []
        if self._n_rows == MAX_ROWS:
            pairs = self._rows.reshape(-1, 2, self._n_numbers)
            # An interrupt comes before all of it is done, or after.
            merged, n_rows = self._merged(pairs), len(pairs)
            self._rows[:n_rows] = merged
            self._n_rows, self._stride = n_rows, 2 * self._stride

    def table(self) -> pd.DataFrame:
        """Return the rows; their index is the first iteration of each."""
        rows = self._rows[: self._n_rows]
        if self._pending:
            rows = np.concatenate([rows, self._merged(np.stack(self._pending)[None])])
        columns: dict[str, Any] = dict(zip(self._names, rows.T.copy(), strict=False))
        for name in self._integers:
            columns[name] = columns[name].astype(np.int64)
        columns["event"] = ["rolled back" if e else "" for e in columns["event"]]
        index = pd.RangeIndex(0, len(self), self._stride)
        return pd.DataFrame(columns, index=index)

    def state(self) -> tuple[np.ndarray, dict[str, int]]:
        """Return all that there is: an array of rows, and how to read it."""
        pending = np.reshape(self._pending, (-1, self._n_numbers))
        rows = np.concatenate([self._rows[: self._n_rows], pending])
        return rows, {"stride": self._stride, "n_pending": len(pending)}

    def restore(self, rows: np.ndarray, reading: dict[str, int]) -> None:
        """Take on what :meth:`state` returned, or raise a ValueError."""
        stride, n_pending = reading["stride"], reading["n_pending"]
        # Numbers of a file, which may be anything.
        integers = [self._names.index(name) for name in self._integers]
        if (
            type(stride) is not int
            or type(n_pending) is not int
            or rows.dtype != np.float64
            or rows.shape[1:] != (self._n_numbers,)
            or not 1 <= stride < 2**40
            or stride & (stride - 1)
            or not 0 <= n_pending <= stride
            or not 0 <= len(rows) - n_pending < MAX_ROWS
            or not (np.abs(rows[:, [*integers, *self._counts]]) < 2**53).all()
        ):
            raise ValueError("its history is invalid")
        self._stride = stride
        self._n_rows = len(rows) - n_pending
        self._rows[: self._n_rows] = rows[: self._n_rows]
        self._pending = list(rows[self._n_rows :].copy())

    def _merged(self, groups: np.ndarray) -> np.ndarray:
        """Merge rows: means of what was measured and is finite, the first of the rest.

        Parameters
        ----------
        groups : ndarray of shape (n_groups, n_rows, n_numbers)

        Returns
        -------
        rows : ndarray of shape (n_groups, n_numbers)
        """
        rows = groups[:, 0].copy()
        means, counts = groups[:, :, self._means], groups[:, :, self._counts]
        sums = (np.where(counts > 0, means, 0.0) * counts).sum(axis=1)
        rows[:, self._counts] = n_finite = counts.sum(axis=1)
        rows[:, self._means] = np.divide(
            sums, n_finite, out=rows[:, self._means].copy(), where=n_finite > 0
        )
        rows[:, self._event] = groups[:, :, self._event].max(axis=1)
        return rows
