"""Scores in any form that a user has, as the rows of a table."""

from collections.abc import Mapping
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

_THIS = "these images"
_NUMBERS = ["mean", "standard deviation", "networks"]
_WANTED = (
    "`scores` must be a result of `evaluate_synthetic`, a number, a table, or a dict "
    "of these by name, such as {'this set': score, 'random images': other}"
)


def result_rows(scores: Any) -> tuple[list[str], list[list[str]]]:
    """Return scores as the head and the rows of a table of text.

    Parameters
    ----------
    scores : SyntheticScore, number, dict, DataFrame or None

    Returns
    -------
    head : list of str
    rows : list of list of str
        Empty without scores.

    Raises
    ------
    TypeError
        If they are something else.
    ValueError
        If a score is not finite.
    """
    if scores is None:
        return [], []
    if isinstance(scores, pd.DataFrame):
        shown = scores
        if not isinstance(shown.index, pd.RangeIndex):
            shown = shown.reset_index()
        return [str(name) for name in shown.columns], [
            [_text(value) for value in row] for row in shown.itertuples(index=False)
        ]
    if not isinstance(scores, Mapping):
        scores = {_THIS: scores}
    rows = []
    for name, result in scores.items():
        rows.append([str(name), *_numbers(result, name)])
        baseline = getattr(result, "baseline", None)
        if baseline is not None:
            others = getattr(result, "baseline_name", "baseline")
            if len(scores) > 1:
                others += f", for {name}"
            rows.append([others, *_numbers(baseline, others)])
            if difference := _interval(getattr(result, "difference", None)):
                rows.append(["difference", difference, "", ""])
    if all(row[2:] == ["", ""] for row in rows):
        return ["", "score"], [row[:2] for row in rows]
    return ["", *_NUMBERS], rows


def _interval(difference: Any) -> str:
    """Return a difference and its interval as text, "" if there is none."""
    if difference is None or not isfinite(difference.low):
        return ""
    low, high = difference.low, difference.high
    return f"{difference.difference:+.3f} ({low:+.3f} to {high:+.3f})"


def _numbers(result: Any, name: Any) -> list[str]:
    mean, std, n_networks = result, None, ""
    if isinstance(result, tuple) and len(result) in (2, 3):
        # A result, or what is left of one.
        mean, std = result[:2]
        if len(result) == 3 and np.ndim(result[2]) == 1:
            n_networks = str(len(result[2]))
    elif isinstance(result, (list, np.ndarray)) and len(result):
        # The scores alone.
        values = np.asarray(result)
        if values.ndim == 1 and values.dtype.kind in "iuf":
            mean, std = float(values.mean()), float(values.std())
            n_networks = str(len(values))
    for value in (mean, std):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{_WANTED}; for {name!r} got {type(result).__name__}")
        if not isfinite(value):
            raise ValueError(f"`scores` must be finite; for {name!r} got {value}")
    return [_text(mean), "" if std is None else _text(std), n_networks]


def _text(value: Any) -> str:
    if isinstance(value, Real) and not isinstance(value, (int, bool)):
        return f"{float(value):.3f}"
    return str(value)
