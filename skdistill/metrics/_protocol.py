"""How a set is scored: what is checked, chosen and trained for it."""

from collections.abc import Collection, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid

from skdistill._training_set import TrainingSet, check_test_images, training_set
from skdistill.metrics._checks import warn_of_shared_images
from skdistill.metrics._compare import Comparison
from skdistill.metrics._scorers import check_scorer
from skdistill.metrics._scores import Summary
from skdistill.metrics._training import Task, train_all, trains_at_once
from skdistill.neural_network import ConvNetClassifier, TrainingDivergedError
from skdistill.utils._random import child_seed

# The rates that DD-Ranking chooses from, for distilled and for random images alike.
LEARNING_RATES = (0.001, 0.005, 0.01, 0.05, 0.1)


class SyntheticScore(Summary):
    """Scores, on real images, of networks that saw only a distilled set.

    Unpacks as ``mean, std, scores``.

    Attributes
    ----------
    mean : float
        Mean over the networks; of accuracies in [0, 1].
    std : float
        Their standard deviation.
    scores : ndarray of shape (n_repeats,)
        The score of each network.
    parameters : dict
        What was chosen on the validation images; empty if nothing was.
    validation : DataFrame
        A row per setting that was tried: its parameters, and ``mean_score`` of the
        validation images, -inf where the training diverged.
    baseline : SyntheticScore or None
        The score of the baseline; None if there is none.
    difference : Comparison or None
        The score minus that of the baseline, with its interval of 95 %.  Networks with
        the same random state are pairs.
    baseline_name : str
        What the baseline is, in words: "random real images", or the name of a
        distiller.
    """

    parameters: dict[str, Any]
    validation: pd.DataFrame
    baseline: "SyntheticScore | None" = None
    difference: Comparison | None = None
    baseline_name: str = "random real images"

    def __new__(
        cls,
        mean: float,
        std: float,
        scores: np.ndarray,
        parameters: dict[str, Any] | None = None,
        validation: pd.DataFrame | None = None,
    ) -> "SyntheticScore":
        self = super().__new__(cls, mean, std, scores)
        self.parameters = dict(parameters or {})
        self.validation = pd.DataFrame() if validation is None else validation
        return self

    def __repr__(self) -> str:
        """Return what a plain score shows, and how it compares to the baseline."""
        shown = f"mean={self.mean}, std={self.std}, scores={self.scores!r}"
        if self.baseline is not None and self.difference is not None:
            gain, low, high = self.difference[:3]
            shown += (
                f", baseline={self.baseline.mean}, "
                f"difference={gain:.4g} ({low:.4g} to {high:.4g})"
            )
        return f"{type(self).__name__}({shown})"


class Evaluation(NamedTuple):
    """How sets are scored, as far as that is found out before the first training.

    Attributes
    ----------
    data : TrainingSet
    estimator : classifier
    settings : list of dict
        What is chosen from; one that is empty where nothing is.
    test, validation : tuple (X, y)
        ``validation`` is ``test`` where nothing is chosen.
    scorer, chooser : callable
        Of predictions for the test images, and of those for the validation images.
    scoring : str, callable or None
        As it was given.
    at_once : bool
    """

    data: TrainingSet
    estimator: Any
    settings: list[dict[str, Any]]
    test: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    scorer: Any
    chooser: Any
    scoring: Any
    at_once: bool


def check_evaluation(
    synthetic: Any,
    X_test: Any,
    y_test: Any,
    *,
    estimator: Any = None,
    protocol: str = "paper",
    X_validation: Any = None,
    y_validation: Any = None,
    param_grid: dict[str, Any] | None = None,
    scoring: Any = None,
    at_once: bool | str = "auto",
    n_jobs: int | None = None,
) -> Evaluation:
    """Find out before the first training what is wrong with any of these.

    Parameters are those of :func:`evaluate_synthetic`.

    Returns
    -------
    checked : Evaluation
    """
    data = training_set(synthetic)
    honest = protocol == "honest"
    given = [X_validation is not None, y_validation is not None]
    if not honest and (any(given) or param_grid is not None):
        raise ValueError(
            "`X_validation`, `y_validation` and `param_grid` require "
            "`protocol`='honest'; got 'paper'"
        )
    if honest and not all(given):
        raise ValueError(
            "`protocol`='honest' requires `X_validation` and `y_validation`, a part "
            "of the real training images on which settings are chosen"
        )
    if estimator is None:
        estimator = (
            ConvNetClassifier(max_iter=1000) if honest else data.default_estimator()
        )
    settings = list(ParameterGrid(_grid(estimator, param_grid))) if honest else [{}]
    data.check(estimator, settings)
    together = trains_at_once(at_once, estimator, n_jobs)
    test = check_test_images(
        data.synthetic,
        X_test,
        y_test,
        names=("X_test", "y_test"),
        columns=data.columns,
    )
    validation = test
    if honest:
        validation = check_test_images(
            data.synthetic,
            X_validation,
            y_validation,
            names=("X_validation", "y_validation"),
            columns=data.columns,
        )
        warn_of_shared_images(validation[0], test[0])
    classes = np.unique(data.synthetic.y)
    scorer = check_scorer(estimator, scoring, classes, test[1], ("scoring", "y_test"))
    # More is better with all metrics that have a name; of others nobody knows.
    by_name = scoring if isinstance(scoring, str) else None
    chooser = check_scorer(
        estimator, by_name, classes, validation[1], ("scoring", "y_validation")
    )
    return Evaluation(
        data, estimator, settings, test, validation, scorer, chooser, scoring, together
    )


def score_sets(
    sets: Sequence[TrainingSet],
    estimators: Sequence[Any],
    checked: Evaluation,
    seed: int,
    name: str,
    *,
    n_repeats: int,
    n_validation_repeats: int,
    n_jobs: int | None,
    verbose: int,
) -> SyntheticScore:
    """Choose a setting, train networks on the sets in turn, and score them.

    Parameters
    ----------
    sets : sequence of TrainingSet
        One for all networks, or one after the other for each.
    estimators : sequence of classifier
        One for each set.
    checked : Evaluation
    seed : int
    name : str
        Of the progress bar.
    n_repeats, n_validation_repeats, n_jobs, verbose : int
        As of :func:`evaluate_synthetic`.

    Returns
    -------
    score : SyntheticScore
    """
    settings = checked.settings

    def trained(
        tasks: list[tuple[dict[str, Any], int, int]],
        test: tuple[Any, Any],
        scorer: Any,
        name: str,
    ) -> np.ndarray:
        scores = train_all(
            [
                Task(
                    place % len(sets),
                    clone(estimators[place % len(sets)]).set_params(**setting),
                    child,
                )
                for setting, place, child in tasks
            ],
            sets,
            test,
            scorer,
            at_once=checked.at_once,
            n_jobs=n_jobs,
            verbose=verbose,
            name=name,
        )
        if np.isnan(scores).any() or np.isposinf(scores).any():
            raise ValueError(
                f"`scoring`={checked.scoring!r} must be finite; for the predictions of "
                f"the networks it is {scores.tolist()}"
            )
        return scores

    chosen, table = settings[0], None
    if len(settings) > 1:
        places = range(n_validation_repeats)
        found = trained(
            [
                (setting, place, child_seed(seed, 0, place))
                for setting in settings
                for place in places
            ],
            checked.validation,
            checked.chooser,
            "validation",
        )
        means = found.reshape(len(settings), -1).mean(axis=1)
        if not np.isfinite(means).any():
            raise ValueError(
                "the training diverged with each setting of the grid; choose smaller "
                "learning rates as `param_grid`"
            )
        table = pd.DataFrame(settings).assign(mean_score=means)
        chosen = settings[int(means.argmax())]
    scores = trained(
        [(chosen, repeat, child_seed(seed, repeat)) for repeat in range(n_repeats)],
        checked.test,
        checked.scorer,
        name,
    )
    if not np.isfinite(scores).all():
        raise TrainingDivergedError(
            f"{(~np.isfinite(scores)).sum()} of {n_repeats} networks diverged during "
            "training; their `learning_rate` is too high for these images"
        )
    return SyntheticScore(
        float(scores.mean()), float(scores.std()), scores, chosen, table
    )


def short_names(parameters: dict[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """Return what was chosen by the names of columns of a table.

    Those of the steps of pipelines are in the column of all others of the name, unless
    steps have different values.  Names of columns that the table has are preceded by
    "parameter".
    """
    values: dict[str, list[Any]] = {}
    for name, value in parameters.items():
        values.setdefault(name.rpartition("__")[2], []).append(value)
    named = {
        last if all(one == values[last][0] for one in values[last]) else name: value
        for name, value in parameters.items()
        for last in [name.rpartition("__")[2]]
    }
    return {
        f"parameter {name}" if name in taken else name: value
        for name, value in named.items()
    }


def _grid(estimator: Any, param_grid: dict[str, Any] | None) -> list[dict[str, list]]:
    """Return a grid of settings, one that gives all rates of a pipeline one value."""
    if param_grid is not None:
        return [param_grid]
    rates = [
        name
        for name, value in estimator.get_params().items()
        if name.rpartition("__")[2] == "learning_rate"
        and isinstance(value, Real)
        and not isinstance(value, bool)
    ]
    if not rates:
        return [{}]
    return [{name: [rate] for name in rates} for rate in LEARNING_RATES]
