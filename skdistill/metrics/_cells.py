"""The cells of a comparison: each a distiller with a seed, its set and its scores."""

import inspect
import time
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from skdistill._training_set import TrainingSet
from skdistill.metrics._distillers import with_seed
from skdistill.metrics._evaluate import evaluate_synthetic
from skdistill.neural_network._default import warn_of_unused_labels
from skdistill.synthetic import SyntheticSet
from skdistill.utils._labels import already_checked
from skdistill.utils._plain import as_plain
from skdistill.utils._random import child_seed

LABELS = ("hard", "probabilities", "targets")

# What of a network follows from the set that it is trained on.
_OF_SETS = ("learning_rate", "loss", "optimizer")


class Cell(NamedTuple):
    """What is known of a set: its scores, and what it has cost.

    Attributes
    ----------
    scores : list of float
        One for each network.
    seconds : float
        Wall-clock time of the fit.
    n_bytes : int
        What the set takes in a file.
    n_images : int
    labels : {"hard", "probabilities", "targets"}
        What networks learn from.
    parameters : dict
        What was chosen on validation images.
    classifier : str
        What was trained, but for what follows from the set.
    """

    scores: list[float]
    seconds: float
    n_bytes: int
    n_images: int
    labels: str
    parameters: dict[str, Any]
    classifier: str


def kind_of_labels(synthetic: SyntheticSet) -> str:
    """Return what networks learn from beside the class of each image, if anything."""
    kinds = [kind for kind in LABELS[1:] if getattr(synthetic, kind) is not None]
    return kinds[0] if kinds else LABELS[0]


def count_bytes(synthetic: SyntheticSet) -> int:
    """Return how many bytes of numbers a file of a set holds."""
    small = synthetic.X[:, :: synthetic.pixel_size, :: synthetic.pixel_size]
    parts = [small, synthetic.probabilities, synthetic.targets]
    labels = 8 * len(synthetic)
    return labels + sum(part.nbytes for part in parts if part is not None)


class Failure(NamedTuple):
    """What became of a cell that has no scores."""

    error: str


def compute_cell(
    images: np.ndarray,
    labels: np.ndarray,
    test: tuple[np.ndarray, np.ndarray],
    distillers: dict[str, Any],
    options: dict[str, Any],
    error_score: float | str,
    name: str,
    seed: int,
) -> tuple[Cell | Failure, SyntheticSet | None]:
    """Make the set of a distiller with a seed, and score it."""
    synthetic = None
    try:
        begin = time.perf_counter()
        distiller = with_seed(distillers[name], seed)
        synthetic = distiller.fit(images, labels).synthetic_
        seconds = time.perf_counter() - begin
        estimator = options["estimator"]
        if estimator is None and options["protocol"] == "paper":
            estimator = TrainingSet(synthetic, False).default_estimator()
        elif estimator is not None:
            warn_of_unused_labels(estimator, synthetic)
        # Apart from the seeds of what is inside of distillers.
        network_seed = child_seed(seed, *b"evaluation") % 2**31
        with already_checked():
            score = evaluate_synthetic(
                synthetic, *test, random_state=network_seed, **options
            )
    except Exception as error:
        if error_score == "raise":
            error.add_note(f"In `distillers`[{name!r}] with seed {seed}.")
            raise
        return Failure(f"{type(error).__name__}: {error}"), _worth(synthetic, images)
    cell = Cell(
        score.scores.tolist(),
        seconds,
        count_bytes(synthetic),
        len(synthetic),
        kind_of_labels(synthetic),
        as_plain(score.parameters),
        "" if estimator is None else _without_rates(estimator),
    )
    return cell, _worth(synthetic, images)


def _worth(synthetic: SyntheticSet | None, images: np.ndarray) -> SyntheticSet | None:
    """Return a set, unless it holds all images: it need not travel, nor be stored."""
    return None if synthetic is None or len(synthetic) >= len(images) else synthetic


def _without_rates(estimator: Any) -> str:
    """Return what a classifier is, but for what follows from the set."""
    defaults = inspect.signature(type(estimator)).parameters
    known = estimator.get_params(deep=False)
    own = {name: defaults[name].default for name in _OF_SETS if name in known}
    return " ".join(repr(clone(estimator).set_params(**own)).split())
