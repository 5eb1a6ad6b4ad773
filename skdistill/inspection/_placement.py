"""Where distilled images are among real ones, and by how much classes differ."""

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

_FEWEST_REAL = 2
_BATCH_VALUES = 2**20  # of bootstrap samples at a time
_RESAMPLES = {
    "n_resamples": [Interval(Integral, 10, None, closed="left")],
    "confidence_level": [Interval(Real, 0, 1, closed="neither")],
    "random_state": ["random_state"],
}


@validate_params(
    {
        "measures": ["array-like"],
        "y": ["array-like"],
        "distilled_measures": ["array-like"],
        "distilled_y": ["array-like"],
        "names": ["array-like", None],
        **_RESAMPLES,
    },
    prefer_skip_nested_validation=True,
)
def place_distilled(
    measures: Any,
    y: Any,
    distilled_measures: Any,
    distilled_y: Any,
    *,
    names: Sequence[str] | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = None,
) -> pd.DataFrame:
    """Place each distilled image among the real ones of its class.

    Parameters
    ----------
    measures : array-like of shape (n_real, n_measures)
        Measures of real images, as of
        :class:`~skdistill.inspection.MorphologyMeasures`.
    y : array-like of shape (n_real,)
        Their labels.
    distilled_measures : array-like of shape (n_distilled, n_measures)
        The same measures of distilled images.
    distilled_y : array-like of shape (n_distilled,)
        Their labels.
    names : sequence of str, default=None
        Names of the measures; None takes those of the columns of ``measures``, or
        numbers.
    n_resamples : int, default=1000
        Number of bootstrap samples of the real images.
    confidence_level : float, default=0.95
        Of the intervals.
    random_state : int, RandomState instance or None, default=None
        Decides on the bootstrap samples.

    Returns
    -------
    table : DataFrame
        A row for each distilled image and measure: ``class``, ``image`` (its position
        among those of its class), ``measure``, ``value``; ``real_mean`` and
        ``real_std`` of the real images of the class, and ``n_real``, how many of them
        could be measured; ``z``, by how many of these deviations the image is above
        the mean; ``percentile``, the share of real images below, in per cent; and
        ``z_low``, ``z_high``, ``percentile_low`` and ``percentile_high``, percentile
        bootstrap intervals.  These tell what the choice of real images leaves open,
        not how another distillation would come out.  NaN where the image, or all but
        one real one, cannot be measured.

    See Also
    --------
    MeasuresDisplay : The same as a plot.
    compare_classes : By how much two classes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.inspection import place_distilled
    >>> real = np.arange(100.0).reshape(-1, 1)
    >>> table = place_distilled(
    ...     real, ["a"] * 100, [[74.5]], ["a"], names=["size"], random_state=0)
    >>> float(table["percentile"].iloc[0])
    75.0
    """
    found = _names(measures, names)
    measures, y = _checked(measures, y, found, "")
    distilled, distilled_y = _checked(
        distilled_measures, distilled_y, found, "distilled_"
    )
    rng = check_random_state(random_state)
    rows = []
    for label in np.unique(distilled_y).tolist():
        members = np.flatnonzero(distilled_y == label)
        if not (y == label).any():
            raise ValueError(f"`y` holds no real image of the class {label!r}")
        for column, name in enumerate(found):
            real = measures[y == label, column]
            real = np.sort(real[~np.isnan(real)])
            value = distilled[members, column]
            placed = _place(real, value, n_resamples, confidence_level, rng)
            for number in range(len(members)):
                rows.append(
                    {
                        "class": label,
                        "image": number,
                        "measure": name,
                        "value": value[number],
                        "real_mean": real.mean() if len(real) else np.nan,
                        "real_std": _deviation(real),
                        "n_real": len(real),
                        **{key: column[number] for key, column in placed.items()},
                    }
                )
    return pd.DataFrame(rows)


@validate_params(
    {
        "values": ["array-like"],
        "y": ["array-like"],
        "first": "no_validation",
        "second": "no_validation",
        **_RESAMPLES,
    },
    prefer_skip_nested_validation=True,
)
def compare_classes(
    values: Any,
    y: Any,
    first: Any,
    second: Any,
    *,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = None,
) -> pd.Series:
    """Compare a measure of two classes, or groups of classes.

    Parameters
    ----------
    values : array-like of shape (n_images,)
        The measure of each image; images with NaN are left out.
    y : array-like of shape (n_images,)
        Their labels.
    first, second : label or list of labels
        The classes to compare.
    n_resamples : int, default=1000
        Number of bootstrap samples, drawn within both groups.
    confidence_level : float, default=0.95
        Of the intervals.
    random_state : int, RandomState instance or None, default=None
        Decides on the bootstrap samples.

    Returns
    -------
    comparison : Series
        ``difference`` of the means, the first less the second; ``superiority``, the
        probability that an image of the first has a larger value than one of the
        second (0.5 if there is no difference, the area under the ROC curve); for both
        ``_low`` and ``_high`` ends of a percentile bootstrap interval, NaN where a
        group has a single image; and the number of images, ``n_first`` and
        ``n_second``.

    Examples
    --------
    >>> from skdistill.inspection import compare_classes
    >>> result = compare_classes([1, 2, 3, 2, 3, 4], list("aaabbb"), "b", "a",
    ...     random_state=0)
    >>> float(result["difference"])
    1.0
    """
    values = np.asarray(values, dtype=np.float64)
    y = np.asarray(y)
    if values.ndim != 1 or values.shape != y.shape:
        raise ValueError(
            "`values` and `y` must be 1-D and of one length; got shapes "
            f"{values.shape} and {y.shape}"
        )
    groups = []
    for name, labels in (("first", first), ("second", second)):
        group = values[np.isin(y, labels) & ~np.isnan(values)]
        if not len(group):
            raise ValueError(f"`{name}`: no image of {labels!r} has a value")
        groups.append(group)
    rng = check_random_state(random_state)
    one, two = groups
    result = {
        "difference": one.mean() - two.mean(),
        "superiority": _superiority(one, two),
    }
    statistics: dict[str, Callable[..., float]] = {
        "difference": lambda a, b: a.mean() - b.mean(),
        "superiority": _superiority,
    }
    resampled: dict[str, list[float]] = {name: [] for name in statistics}
    if min(len(one), len(two)) > 1:
        for _ in range(n_resamples):
            drawn = [
                group[rng.randint(len(group), size=len(group))] for group in groups
            ]
            for name, statistic in statistics.items():
                resampled[name].append(statistic(*drawn))
    tail = (1 - confidence_level) / 2
    for name, drawn_values in resampled.items():
        ends = (
            np.quantile(drawn_values, [tail, 1 - tail])
            if drawn_values
            else [np.nan] * 2
        )
        result[f"{name}_low"], result[f"{name}_high"] = map(float, ends)
    result["n_first"], result["n_second"] = len(one), len(two)
    return pd.Series(result)


def _place(
    real: np.ndarray,
    values: np.ndarray,
    n_resamples: int,
    confidence_level: float,
    rng: np.random.RandomState,
) -> dict[str, np.ndarray]:
    """Return z and percentile of values among sorted real ones, with intervals."""
    nothing = np.full(len(values), np.nan)
    names = ("z", "z_low", "z_high", "percentile", "percentile_low", "percentile_high")
    if len(real) < _FEWEST_REAL:
        return dict.fromkeys(names, nothing)
    deviation = _deviation(real)
    z = (values - real.mean()) / (deviation if deviation > 0 else np.nan)
    percentile = _percentile(real, values)
    z_drawn = np.empty((n_resamples, len(values)))
    percentile_drawn = np.empty_like(z_drawn)
    step = max(1, _BATCH_VALUES // len(real))
    for start in range(0, n_resamples, step):
        size = (min(step, n_resamples - start), len(real))
        drawn = real[rng.randint(len(real), size=size)]
        some = slice(start, start + len(drawn))
        mean, spread = drawn.mean(axis=1), drawn.std(axis=1, ddof=1)
        spread[spread == 0] = np.nan
        z_drawn[some] = (values - mean[:, None]) / spread[:, None]
        for column, value in enumerate(values):
            below = np.count_nonzero(drawn < value, axis=1)
            up_to = np.count_nonzero(drawn <= value, axis=1)
            percentile_drawn[some, column] = 50.0 * (below + up_to) / len(real)
    tail = (1 - confidence_level) / 2
    unknown = np.isnan(values)
    result = {"z": z, "percentile": percentile}
    for name, drawn in (("z", z_drawn), ("percentile", percentile_drawn)):
        # A resample of equal values has no deviation, and is left out.
        usable = drawn[~np.isnan(drawn[:, ~unknown]).any(axis=1)]
        for end, share in (("low", tail), ("high", 1 - tail)):
            ends = np.quantile(usable, share, axis=0) if len(usable) else nothing
            result[f"{name}_{end}"] = np.where(unknown, np.nan, ends)
    return {name: result[name] for name in names}


def _percentile(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the share of ordered values below each value, ties counted by half."""
    below = np.searchsorted(ordered, values, side="left")
    up_to = np.searchsorted(ordered, values, side="right")
    share = 50.0 * (below + up_to) / len(ordered)
    return np.where(np.isnan(values), np.nan, share)


def _superiority(one: np.ndarray, two: np.ndarray) -> float:
    ordered = np.sort(two)
    return float(_percentile(ordered, one).mean() / 100)


def _deviation(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan


def _names(measures: Any, names: Sequence[str] | None) -> list[str]:
    if names is not None:
        return [str(name) for name in names]
    columns = getattr(measures, "columns", None)
    n_columns = np.shape(measures)[1] if np.ndim(measures) == 2 else 1
    return [str(name) for name in (range(n_columns) if columns is None else columns)]


def _checked(
    measures: Any, y: Any, names: Sequence[str], prefix: str
) -> tuple[np.ndarray, np.ndarray]:
    measures, y = np.asarray(measures, dtype=np.float64), np.asarray(y)
    if measures.ndim != 2 or measures.shape[1] != len(names):
        raise ValueError(
            f"`{prefix}measures` must have a column for each of the {len(names)} "
            f"measures; got shape {measures.shape}"
        )
    if y.shape != measures.shape[:1]:
        raise ValueError(
            f"`{prefix}y` must hold one label for each of the {len(measures)} images; "
            f"got shape {y.shape}"
        )
    return measures, y
