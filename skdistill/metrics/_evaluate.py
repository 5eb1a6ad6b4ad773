"""Training new networks on a distilled set and scoring them on real images."""

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import ParameterGrid
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from tqdm.auto import tqdm

from skdistill._training_set import (
    TrainingSet,
    check_test_images,
    training_set,
)
from skdistill.metrics._checks import warn_of_shared_images
from skdistill.metrics._scorers import check_scorer
from skdistill.metrics._scores import Summary
from skdistill.neural_network import ConvNetClassifier, TrainingDivergedError
from skdistill.neural_network._any_classifier import of_images
from skdistill.neural_network._batched import (
    can_fit_in_threads,
    can_fit_together,
    fit_together,
)
from skdistill.neural_network._default import warn_of_unused_labels
from skdistill.neural_network._in_batches import in_batches
from skdistill.synthetic import SyntheticSet
from skdistill.utils._device import resolve_device
from skdistill.utils._labels import already_checked
from skdistill.utils._parallel import is_serial, run_parallel
from skdistill.utils._random import child_seed, root_seed
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._workers import map_pieces, n_threads, worker_threads

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
    """

    parameters: dict[str, Any]
    validation: pd.DataFrame

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


@validate_params(
    {
        "synthetic": [SyntheticSet, tuple, list],
        "X_test": ["array-like"],
        "y_test": ["array-like"],
        "estimator": [BaseEstimator, None],
        "protocol": [StrOptions({"paper", "honest"})],
        "X_validation": ["array-like", None],
        "y_validation": ["array-like", None],
        "param_grid": [dict, None],
        "n_validation_repeats": [Interval(Integral, 1, None, closed="left")],
        "scoring": [str, callable, None],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "at_once": [StrOptions({"auto"}), "boolean"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def evaluate_synthetic(
    synthetic: Any,
    X_test: Any,
    y_test: Any,
    *,
    estimator: Any = None,
    protocol: str = "paper",
    X_validation: Any = None,
    y_validation: Any = None,
    param_grid: dict[str, Any] | None = None,
    n_validation_repeats: int = 1,
    scoring: Any = None,
    n_repeats: int = 5,
    at_once: bool | str = "auto",
    n_jobs: int | None = None,
    random_state: Any = None,
    verbose: int = 0,
) -> SyntheticScore:
    """Score a distilled set: train new networks on it, test them on real images.

    Soft labels of a set are used by an estimator with ``fit_probabilities``, its
    regression targets by one with ``fit_targets``:
    :class:`~skdistill.neural_network.ConvNetClassifier` has both.  Others are given
    the classes, with a warning.  Classifiers of tables, as those of scikit-learn, are
    given each image as one row of pixels.

    Parameters
    ----------
    synthetic : SyntheticSet or pair (X, y)
        The images to train on, in the pixel space of ``X_test``.  Of a pair X may be
        flattened; an estimator of images then needs its own ``image_shape``.
    X_test : array-like of shape (n_samples, height, width, channels) or \
            (n_samples, height * width * channels)
        Real images that no part of the distillation has seen.
    y_test : array-like of shape (n_samples,)
        Their labels.  Classes that the set does not have are warned about, and are
        an error where it has none of them.
    estimator : classifier, default=None
        What is trained.  None takes what the set's metadata say, or else the network
        of [1]_: a :class:`~skdistill.neural_network.ConvNetClassifier` for 1000
        epochs, with Adam where the set has regression targets and no step size.
    protocol : {"paper", "honest"}, default="paper"
        How the learning rate is found.  "paper" takes that of the estimator, and of the
        default network the set's step size where it has one, as [1]_ does: which
        favors sets that have one.  "honest" treats all sets alike: each gets the rate
        of one grid that is best on the validation images, which is then used for new
        networks; without ``estimator`` all take the network of [1]_.  In neither have
        the test images a part in a choice.
    X_validation : array-like of shape (n_samples, height, width, channels), \
            default=None
        Real images for the choice of "honest": a part of the training images, better
        one that the distillation has not seen.
    y_validation : array-like of shape (n_samples,), default=None
        Their labels.
    param_grid : dict of str to list, default=None
        What "honest" chooses from: values of parameters of the estimator, in all
        combinations.  None stands for 0.001, 0.005, 0.01, 0.05 and 0.1 for each of its
        parameters ``learning_rate`` that is a number; an estimator without one is
        trained as it is.
    n_validation_repeats : int, default=1
        Number of networks whose mean accuracy on the validation images counts.
    scoring : str, callable or None, default=None
        What is measured on the test images: a scorer of scikit-learn or the name of
        one, such as "neg_brier_score" for calibration.  None is the accuracy, which is
        what the choice of "honest" looks at in any case.  A metric of scikit-learn is
        tried on the labels before the training.
    n_repeats : int, default=5
        Number of networks, each with its own random state.
    at_once : bool or "auto", default="auto"
        Whether all networks of one setting take each step together, as suits a GPU,
        rather than one network after the other.  Scores are the same but for rounding.
        On a CPU True differentiates the networks by formulas that are written out
        rather than automatically, which saves a fifth of the time or more.
        "auto" does so on a GPU unless there is ``n_jobs``; only a
        :class:`~skdistill.neural_network.ConvNetClassifier` without batch normalization
        and callbacks can be trained so.
    n_jobs : int, default=None
        Number of networks trained at once, in processes of one thread each.  The
        scores are the same whatever the number.
    random_state : int, RandomState instance or None, default=None
        Decides on the random states of the networks.
    verbose : int, default=0
        Shows a progress bar over the networks if positive.

    Returns
    -------
    score : SyntheticScore
        A named tuple ``(mean, std, scores)`` with the attributes ``parameters`` and
        ``validation``.

    Raises
    ------
    ValueError
        Before the first training, if images, labels, metric, estimator or one of its
        settings cannot be used.

    Warns
    -----
    UserWarning
        If test or validation images are in another pixel space than those that were
        distilled, or labels are unknown.

    See Also
    --------
    skdistill.metrics.cross_architecture : The same for many networks.
    skdistill.metrics.compare_scores : Whether two sets differ.
    skdistill.distillation.RandomSubset : What a distilled set has to beat.

    References
    ----------
    .. [1] Guan et al., "Discovering Galaxy Features via Dataset Distillation", 2023,
       section 3.

    Examples
    --------
    >>> from skdistill import ConvNetClassifier, evaluate_synthetic, make_galaxies
    >>> X, y = make_galaxies(135, size=16, random_state=0)
    >>> network = ConvNetClassifier(width=8, max_iter=5)
    >>> score = evaluate_synthetic(
    ...     (X[:45], y[:45]), X[90:], y[90:], estimator=network, protocol="honest",
    ...     X_validation=X[45:90], y_validation=y[45:90], n_repeats=2, random_state=0)
    >>> score.scores.shape
    (2,)
    >>> list(score.parameters)
    ['learning_rate']
    """
    data = training_set(synthetic)
    honest = protocol == "honest"
    given = [X_validation is not None, y_validation is not None]
    if not honest and (any(given) or param_grid is not None):
        raise ValueError(
            "`X_validation`, `y_validation` and `param_grid` are for "
            "`protocol`='honest'; got 'paper'"
        )
    if honest and not all(given):
        raise ValueError(
            "`protocol`='honest' chooses on validation images: `X_validation` and "
            "`y_validation` must be a part of the real training images"
        )
    if estimator is None:
        estimator = (
            ConvNetClassifier(max_iter=1000) if honest else data.default_estimator()
        )
    settings = list(ParameterGrid(_grid(estimator, param_grid))) if honest else [{}]
    data.check(estimator, settings)
    together = _trains_at_once(at_once, estimator, n_jobs)
    test = check_test_images(data.synthetic, X_test, y_test, names=("X_test", "y_test"))
    validation = test
    if honest:
        validation = check_test_images(
            data.synthetic,
            X_validation,
            y_validation,
            names=("X_validation", "y_validation"),
        )
        warn_of_shared_images(validation[0], test[0])
    classes = np.unique(data.synthetic.y)
    scorer = check_scorer(estimator, scoring, classes, test[1], ("scoring", "y_test"))
    warn_of_unused_labels(estimator, data.synthetic)
    seed = root_seed(random_state)

    chosen, table = settings[0], None
    if len(settings) > 1:
        seeds = [child_seed(seed, 0, place) for place in range(n_validation_repeats)]
        found = _train_all(
            [
                (clone(estimator).set_params(**setting), child)
                for setting in settings
                for child in seeds
            ],
            data,
            validation,
            check_scoring(estimator, None),
            together,
            n_jobs,
            verbose,
            "validation",
        )
        means = found.reshape(len(settings), -1).mean(axis=1)
        if not np.isfinite(means).any():
            raise ValueError("the training diverged with each setting of the grid")
        table = pd.DataFrame(settings).assign(mean_score=means)
        chosen = settings[int(means.argmax())]
    scores = _train_all(
        [
            (clone(estimator).set_params(**chosen), child_seed(seed, repeat))
            for repeat in range(n_repeats)
        ],
        data,
        test,
        scorer,
        together,
        n_jobs,
        verbose,
        "evaluation",
    )
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise ValueError(
            f"`scoring`={scoring!r} must be finite; of the networks' answers it is "
            f"{scores.tolist()}"
        )
    if not np.isfinite(scores).all():
        raise TrainingDivergedError(
            f"{(~np.isfinite(scores)).sum()} of {n_repeats} networks diverged in their "
            "training; their `learning_rate` is too high for these images"
        )
    return SyntheticScore(
        float(scores.mean()), float(scores.std()), scores, chosen, table
    )


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


def _train_all(
    tasks: list[tuple[Any, int]],
    data: TrainingSet,
    test: tuple[Any, Any],
    scorer: Any,
    at_once: bool,
    n_jobs: int | None,
    verbose: int,
    name: str,
) -> np.ndarray:
    """Return the score of each classifier after training, -inf where it diverged."""
    if at_once:
        results = _score_together(tasks, data, test, scorer)
    elif is_serial(n_jobs) and can_fit_in_threads(tasks[0][0]):
        results = _score_in_threads(tasks, data, test, scorer)
    else:
        # The preprocessing may be larger than the set, and workers need none.
        data = data._replace(synthetic=data.synthetic.with_preprocessing(None))
        results = run_parallel(
            _score_one,
            (data, *test, scorer),
            dict(enumerate(tasks)),
            n_jobs=n_jobs,
            what="networks",
        )
    scores = np.full(len(tasks), np.nan)
    with tqdm(
        results, desc=name, unit="network", total=len(tasks), disable=not verbose
    ) as bar:
        for place, score in bar:
            scores[place] = score
            bar.set_postfix(score=f"{np.nanmean(scores):.3f}")
    return scores


def _trains_at_once(at_once: bool | str, estimator: Any, n_jobs: int | None) -> bool:
    possible = can_fit_together(estimator)
    if isinstance(at_once, str):
        return (
            possible
            and n_jobs is None
            and resolve_device(estimator.device).type == "cuda"
        )
    if at_once and not possible:
        raise ValueError(
            "`at_once`=True needs a ConvNetClassifier without batch normalization and "
            "callbacks, and without `class_weight` where `loss`='squared', as "
            f"`estimator`; got {estimator!r}"
        )
    return at_once


def _score_together(
    tasks: list[tuple[Any, int]],
    data: TrainingSet,
    test: tuple[Any, Any],
    scorer: Any,
) -> Iterator[tuple[int, float]]:
    """Train the classifiers of each setting at once; yield places and scores."""
    groups: dict[str, list[int]] = {}
    for place, (classifier, _) in enumerate(tasks):
        groups.setdefault(repr(sorted(_settings(classifier))), []).append(place)
    for places in groups.values():
        classifiers = [_seeded(*tasks[place]) for place in places]
        _, labels = data.synthetic
        finite = fit_together(
            classifiers,
            data.images,
            labels,
            data.synthetic.probabilities,
            data.synthetic.targets,
        )
        for place, classifier, good in zip(places, classifiers, finite, strict=True):
            yield place, _measured(scorer, classifier, data, test) if good else -np.inf


def _score_in_threads(
    tasks: list[tuple[Any, int]],
    data: TrainingSet,
    test: tuple[Any, Any],
    scorer: Any,
) -> Iterator[tuple[int, float]]:
    """Train as many classifiers at once as there are threads; yield as they come."""
    with worker_threads():
        for first in range(0, len(tasks), n_threads()):
            places = range(len(tasks))[first : first + n_threads()]
            yield from map_pieces(
                lambda place: (place, _score_one(data, *test, scorer, *tasks[place])),
                places,
            )


def _settings(classifier: Any) -> list[tuple[str, str]]:
    return [(name, repr(value)) for name, value in classifier.get_params().items()]


def _score_one(
    data: TrainingSet,
    X_test: Any,
    y_test: Any,
    scorer: Any,
    estimator: Any,
    seed: int,
) -> float:
    estimator = of_images(_seeded(estimator, seed))
    with worker_threads():
        try:
            data.fit(estimator)
        except TrainingDivergedError:
            return -np.inf
        return _measured(scorer, estimator, data, (X_test, y_test))


def _measured(
    scorer: Any, estimator: Any, data: TrainingSet, test: tuple[Any, Any]
) -> float:
    with already_checked():
        X = data.as_given(test[0])
        value = scorer(in_batches(estimator, X), X, test[1])
    if np.ndim(value) != 0 or isinstance(value, (str, dict)) or value is None:
        raise ValueError(f"`scoring` must return one number; got {value!r}")
    return float(value)


def _seeded(estimator: Any, seed: int) -> Any:
    # A pipeline has no random state of its own, but its steps have.  A random state of
    # scikit-learn is an unsigned 32-bit integer.
    names = sorted(estimator.get_params())
    return estimator.set_params(
        **{
            name: (seed if name == "random_state" else child_seed(seed, place)) % 2**32
            for place, name in enumerate(names)
            if name == "random_state" or name.endswith("__random_state")
        }
    )
