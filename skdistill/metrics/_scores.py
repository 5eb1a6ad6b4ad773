"""Scores in any form: of networks, sets and tables."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from skdistill.utils._frames import as_pandas

_SHAPES = "shape (n_runs,) or (n_sets, n_networks)"


class Summary(NamedTuple):
    """Mean, standard deviation and scores of networks that learned from one set."""

    mean: float
    std: float
    scores: np.ndarray


def as_runs(scores: Any, name: str) -> np.ndarray:
    """Return the score of each independent run of an arm.

    Parameters
    ----------
    scores : array-like, SyntheticScore, DataFrame or dict
        As for :func:`~skdistill.metrics.compare_scores`.
    name : str
        Of the parameter, for messages.

    Returns
    -------
    runs : ndarray of shape (n_runs,), float64

    Raises
    ------
    ValueError
        If there is no score, one is not finite, or it is not clear which values are
        the scores.
    """
    scores = as_pandas(scores)
    if isinstance(scores, Mapping):
        scores = _values(scores, name)
    if isinstance(scores, Summary):
        return _numbers(scores.scores, name)
    if isinstance(scores, pd.DataFrame):
        return _table(scores, name)
    if np.ma.is_masked(scores):
        raise ValueError(f"`{name}` must have no masked values")
    if isinstance(scores, (list, tuple)):
        parts = [as_pandas(part) for part in scores]
        if _is_unpacked(parts):
            raise ValueError(
                f"`{name}` holds a mean, a standard deviation and scores: pass only "
                "the scores, or the SyntheticScore itself"
            )
        # Each a set of its own, with as many networks as it has.
        if any(isinstance(part, (Summary, pd.DataFrame)) for part in parts) or (
            len(parts) and all(np.ndim(part) == 1 for part in parts)
        ):
            return np.array(
                [
                    as_runs(part, f"{name}[{place}]").mean()
                    for place, part in enumerate(parts)
                ]
            )
    return _numbers(scores, name)


def _is_unpacked(parts: list[Any]) -> bool:
    """Tell whether a tuple is a SyntheticScore that lost its type."""
    return len(parts) == 3 and [
        0 if isinstance(part, (int, float, np.number)) else getattr(part, "ndim", None)
        for part in parts
    ] == [0, 0, 1]


def _values(scores: Mapping[Any, Any], name: str) -> list[Any]:
    """Return the values of a dict, each a run or a set."""
    if "test_score" in scores or "fit_time" in scores:
        raise ValueError(
            f"`{name}` has entries of cross_validate other than the scores: pass only "
            "'test_score'.  Folds share training images and are not independent runs"
        )
    return list(scores.values())


def _table(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return the runs of a table with a column of scores, or of one row per set."""
    if "score" not in table:
        other = [
            str(column)
            for column in table
            if not pd.api.types.is_numeric_dtype(table[column])
        ]
        if other:
            raise ValueError(
                f"`{name}` as a table must have a column 'score', or a row of numbers "
                f"for each set; its columns {other} hold no numbers"
            )
        return _numbers(table.to_numpy(), name)
    if not pd.api.types.is_numeric_dtype(table["score"]):
        raise ValueError(f"`{name}` must hold numbers in its column 'score'")
    if "estimator" not in table or table["estimator"].nunique(dropna=False) < 2:
        return _numbers(table["score"].to_numpy(), name)
    if "repeat" not in table or table.duplicated(["estimator", "repeat"]).any():
        raise ValueError(
            f"`{name}` must have one score for each estimator and `repeat`: for "
            "several sets, pass a list with one table per set"
        )
    wide = table.pivot(index="repeat", columns="estimator", values="score")
    if wide.isna().to_numpy().any():
        raise ValueError(
            f"`{name}` must have the same number of scores for each estimator, all "
            f"finite; got {table['estimator'].value_counts().to_dict()}"
        )
    return _numbers(wide.to_numpy(), name)


def check_same_estimators(scores: Any, other: Any) -> None:
    """Raise a ValueError if two tables hold scores of other estimators.

    Their means would differ by the estimators, not by the sets.
    """
    one, two = _estimators(scores), _estimators(other)
    if one and two and one != two:
        raise ValueError(
            "`scores` and `other` must hold scores of the same estimators; only one "
            f"of them has {sorted(map(str, one ^ two))}"
        )


def _estimators(scores: Any) -> set[Any]:
    scores = as_pandas(scores)
    if isinstance(scores, Mapping):
        scores = list(scores.values())
    if isinstance(scores, (list, tuple)) and not isinstance(scores, Summary):
        return set().union(*map(_estimators, scores))
    if isinstance(scores, pd.DataFrame) and {"score", "estimator"} <= set(scores):
        return set(scores["estimator"])
    return set()


def in_order_of(scores: Any, other: Any) -> Any:
    """Return the dict ``other`` in the order of the dict ``scores``, for pairs.

    Anything else is returned as it is.
    """
    if not (isinstance(scores, Mapping) and isinstance(other, Mapping)):
        return other
    unmatched = sorted(map(str, set(scores) ^ set(other)))
    if unmatched:
        raise ValueError(
            "`scores` and `other` must have the same keys to be paired; only one of "
            f"them has {unmatched}"
        )
    return {key: other[key] for key in scores}


def _numbers(scores: Any, name: str) -> np.ndarray:
    try:
        values = np.asarray(scores)
        if values.dtype.kind not in "biufO":
            raise ValueError(f"they are of type {values.dtype}")
        values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be numbers of {_SHAPES}, a SyntheticScore, a table of "
            f"cross_architecture, or a list or dict of these: {error}"
        ) from error
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"`{name}` must have {_SHAPES}; got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"`{name}` must be finite")
    return values if values.ndim == 1 else values.mean(axis=1)
