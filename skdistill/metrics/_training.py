"""Training the networks that score sets, and scoring them on real images."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from skdistill._training_set import TrainingSet
from skdistill.neural_network import TrainingDivergedError
from skdistill.neural_network._any_classifier import of_images
from skdistill.neural_network._batched import (
    can_fit_in_threads,
    can_fit_together,
    fit_together,
)
from skdistill.neural_network._in_batches import in_batches
from skdistill.utils._device import resolve_device
from skdistill.utils._labels import already_checked
from skdistill.utils._parallel import is_serial, run_parallel
from skdistill.utils._plain import told
from skdistill.utils._random import child_seed
from skdistill.utils._workers import map_pieces, n_threads, worker_threads


class Task(NamedTuple):
    """A classifier to train.

    Attributes
    ----------
    place : int
        Which of the sets it learns from.
    estimator : classifier
        A clone of its own.
    seed : int
    """

    place: int
    estimator: Any
    seed: int


def train_all(
    tasks: Sequence[Task],
    sets: Sequence[TrainingSet],
    test: tuple[Any, Any],
    scorer: Any,
    *,
    at_once: bool,
    n_jobs: int | None,
    verbose: int,
    name: str,
) -> np.ndarray:
    """Return the score of each classifier after training, -inf where it diverged.

    Parameters
    ----------
    tasks : sequence of Task
    sets : sequence of TrainingSet
    test : tuple (X, y)
        What they are scored on.
    scorer : callable
    at_once : bool
        Whether those with the same settings and set are trained together.
    n_jobs, verbose : int or None
    name : str
        Of the progress bar.

    Returns
    -------
    scores : ndarray of shape (n_tasks,)
    """
    if at_once:
        results = _score_together(tasks, sets, test, scorer)
    elif is_serial(n_jobs) and can_fit_in_threads(tasks[0].estimator):
        results = _score_in_threads(tasks, sets, test, scorer)
    else:
        # The preprocessing may be larger than the set, and workers need none.
        sets = [
            one._replace(synthetic=one.synthetic.with_preprocessing(None))
            for one in sets
        ]
        results = run_parallel(
            _score_one,
            (sets, *test, scorer),
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


def trains_at_once(at_once: bool | str, estimator: Any, n_jobs: int | None) -> bool:
    """Resolve ``at_once``; a ValueError says why that is not possible."""
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
    tasks: Sequence[Task],
    sets: Sequence[TrainingSet],
    test: tuple[Any, Any],
    scorer: Any,
) -> Iterator[tuple[int, float]]:
    """Train those of each setting and set at once; yield places and scores."""
    groups: dict[tuple[int, str], list[int]] = {}
    for place, task in enumerate(tasks):
        settings = repr(sorted(_settings(task.estimator)))
        groups.setdefault((task.place, settings), []).append(place)
    for (which, _), places in groups.items():
        data = sets[which]
        classifiers = [_seeded(*tasks[place][1:]) for place in places]
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
    tasks: Sequence[Task],
    sets: Sequence[TrainingSet],
    test: tuple[Any, Any],
    scorer: Any,
) -> Iterator[tuple[int, float]]:
    """Train as many classifiers at once as there are threads; yield as they come."""
    with worker_threads():
        for first in range(0, len(tasks), n_threads()):
            places = range(len(tasks))[first : first + n_threads()]
            yield from map_pieces(
                lambda place: (place, _score_one(sets, *test, scorer, *tasks[place])),
                places,
            )


def _settings(classifier: Any) -> list[tuple[str, str]]:
    return [(name, repr(value)) for name, value in classifier.get_params().items()]


def _score_one(
    sets: Sequence[TrainingSet],
    X_test: Any,
    y_test: Any,
    scorer: Any,
    place: int,
    estimator: Any,
    seed: int,
) -> float:
    data = sets[place]
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
        raise ValueError(f"`scoring` must return one number; got {told(value)}")
    return float(value)


def _seeded(estimator: Any, seed: int) -> Any:
    """Give a classifier, or each step of a pipeline, a random state of its own."""
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
