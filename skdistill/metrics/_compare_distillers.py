"""Comparison of distillers, with several seeds each, on the same images."""

import inspect
import os
from collections.abc import Mapping
from contextlib import ExitStack, closing
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_params,
)
from tqdm.auto import tqdm

from skdistill.metrics._cell_files import CellFiles, protocol_signature, signature_of
from skdistill.metrics._cells import Cell, Failure, compute_cell
from skdistill.metrics._checks import warn_of_shared_images
from skdistill.metrics._distiller_comparison import DistillerComparison
from skdistill.metrics._distillers import (
    check_distiller,
    trained_teachers,
)
from skdistill.metrics._evaluate import check_options
from skdistill.metrics._protocol import (
    Evaluation,
    check_evaluation,
    short_names,
)
from skdistill.synthetic import SyntheticSet
from skdistill.utils._files import as_path
from skdistill.utils._parallel import run_parallel
from skdistill.utils._pixel_space import pixel_space
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import (
    check_class_sizes,
    check_images,
    check_same_columns,
    column_names,
)
from skdistill.utils._warnings import warn

# Of the parameters of evaluate_synthetic, those that a comparison hands on.
_PASSED_ON = {
    "at_once",
    "estimator",
    "n_repeats",
    "n_validation_repeats",
    "param_grid",
    "protocol",
    "scoring",
    "X_validation",
    "y_validation",
}


@validate_params(
    {
        "distillers": [Mapping],
        "X": ["array-like"],
        "y": ["array-like"],
        "X_test": ["array-like"],
        "y_test": ["array-like"],
        "seeds": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "error_score": [StrOptions({"raise"}), Real],
        "path": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def compare_distillers(
    distillers: Any,
    X: Any,
    y: Any,
    X_test: Any,
    y_test: Any,
    *,
    seeds: Any = 3,
    error_score: float | str = np.nan,
    path: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    **options: Any,
) -> DistillerComparison:
    """Distill the same images with several distillers and evaluate their sets.

    Each distiller is fitted with each seed; new networks are trained on its set and
    scored on the test images, which are not used for anything else.

    Read more in the :ref:`User Guide <compare_distillers>`.

    Parameters
    ----------
    distillers : dict of str to distiller
        The distillers and their names.  They are cloned, and the seed sets their
        ``random_state`` and that of all nested estimators.  A fitted
        :class:`~skdistill.trajectory.TrajectoryBuffer`, or one in a folder, is shared
        by all seeds, and its training time is not counted; an unfitted one is trained
        for each seed.
    X : array-like of shape (n_samples, height, width, channels) or \
            (n_samples, height * width * channels)
        The real images to distill.
    y : array-like of shape (n_samples,)
        Their labels.
    X_test : array-like of shape (n_samples, height, width, channels) or \
            (n_samples, height * width * channels)
        Real images that are not used in the distillation.
    y_test : array-like of shape (n_samples,)
        Their labels.
    seeds : int or sequence of int, default=3
        Number of sets per distiller, with the seeds 0, 1, ..., or the seeds themselves.
        Distillers with the same seed are pairs.
    error_score : "raise" or float, default=np.nan
        The score of a set whose distillation or evaluation fails.  With a number, a
        warning is raised and the others are run; with "raise" the error is raised.
    path : path-like, default=None
        A folder in which each cell, a distiller with a seed, is stored as soon as it is
        complete: an interrupted comparison is resumed by the same call, and a call with
        more distillers or seeds computes the missing cells.  Stored cells with other
        parameters, images or settings raise an error that names the differences; failed
        cells are computed again.  The sets are in its folder ``sets``, also those whose
        evaluation failed, except those with all images.  None stores nothing.
    n_jobs : int, default=None
        Number of cells computed in parallel, with the current joblib backend: local
        processes, dask or Ray.  The scores are the same for any number.  ``seconds``
        increase if cells share a processor.
    verbose : int, default=0
        Shows a progress bar over the cells if positive.
    **options : dict
        Parameters of :func:`~skdistill.metrics.evaluate_synthetic` for the scoring:
        ``estimator``, ``protocol``, ``X_validation``, ``y_validation``,
        ``param_grid``, ``n_validation_repeats``, ``scoring``, ``n_repeats`` and
        ``at_once``.  With an ``estimator`` all sets are evaluated by the same network;
        without one each set is evaluated by the classifier in its metadata, with a
        warning if these differ.

    Returns
    -------
    comparison : DistillerComparison
        Its ``scores`` are a DataFrame with a row for each network: ``distiller``,
        ``seed``, ``network`` and ``score``, and of its set ``seconds``, the wall-clock
        time of the fit, teachers that it trains included, ``bytes`` in a file,
        ``images``, ``labels``, and a column for each parameter that was chosen on
        validation images.  ``table`` has means and deviations, ``differences`` the
        intervals, ``to_markdown`` and ``to_latex`` both.

    Raises
    ------
    ValueError
        Before the first distillation, if images, labels, distillers or settings cannot
        be used; and if everything fails.

    Warns
    -----
    FitFailedWarning
        If some cells fail.
    UserWarning
        If test images are among the training images, or in another pixel space.

    See Also
    --------
    skdistill.metrics.evaluate_synthetic : The score of one set.
    skdistill.metrics.compare_scores : Compares the scores of two methods.
    skdistill.inspection.DistillerComparisonDisplay : The scores as a plot.

    Examples
    --------
    >>> from skdistill import ConvNetClassifier, KMeansPrototypes, RandomSubset
    >>> from skdistill import make_galaxies
    >>> from skdistill.metrics import compare_distillers
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> comparison = compare_distillers(
    ...     {"k-means": KMeansPrototypes(), "random": RandomSubset()},
    ...     X[:45], y[:45], X[45:], y[45:], seeds=2, n_repeats=2,
    ...     estimator=ConvNetClassifier(width=8, max_iter=5))
    >>> comparison.table[["n_sets", "images", "labels"]]
               n_sets  images labels
    distiller
    k-means         2     9.0   hard
    random          2     9.0   hard
    """
    options = check_options(options, _PASSED_ON, "compare_distillers")
    seeds = _check_seeds(seeds)
    distillers = _check_names(distillers)
    for name, other in (
        ("X_test", X_test),
        ("X_validation", options["X_validation"]),
    ):
        check_same_columns(column_names(X), other, name, "X")
    images, labels, distillers = _check_data(distillers, X, y)
    checked = _check_evaluation(images, labels, X_test, y_test, options)
    warn_of_shared_images(images, checked.test[0], "X")
    n_repeats = options["n_repeats"]
    done: dict[tuple[str, int], Cell | Failure] = {}
    files, signatures = None, {}
    if path is not None:
        files = CellFiles(as_path(path))
        common = protocol_signature(images, labels, checked, options)
        sizes = images.shape[1:], len(np.unique(labels))
        signatures = {
            name: {**signature_of(one, *sizes), **common}
            for name, one in distillers.items()
        }
    cells = [(name, seed) for name in distillers for seed in seeds]
    with ExitStack() as held:
        if files is not None:
            files.claim(held)
            for name, seed in cells:
                cell = files.read(name, seed, signatures[name], n_repeats)
                if cell is not None:
                    done[name, seed] = cell
        shared = (images, labels, checked.test, distillers, options, error_score)
        results = run_parallel(
            compute_cell,
            shared,
            {cell: cell for cell in cells if cell not in done},
            n_jobs=n_jobs,
            what="cells",
        )
        with (
            closing(results),
            tqdm(
                results,
                desc="comparison",
                unit="cell",
                total=len(cells),
                initial=len(done),
                disable=not verbose,
            ) as bar,
        ):
            for (name, seed), (cell, synthetic) in bar:
                done[name, seed] = cell
                if files is None:
                    continue
                try:
                    if synthetic is not None:
                        # Also where its evaluation failed.
                        files.write_set(name, seed, synthetic)
                    if isinstance(cell, Cell):
                        files.write(name, seed, signatures[name], cell)
                except OSError as error:
                    warn(
                        f"the result of {name!r} with seed {seed} could not be stored: "
                        f"{error}; the comparison continues"
                    )
    _tell_failures({key: done[key] for key in cells}, error_score)
    _warn_of_other_classifiers({key: done[key] for key in cells})
    return _comparison({key: done[key] for key in cells}, options, error_score)


# What is found out before the first distillation.


def _check_seeds(seeds: Any) -> list[int]:
    # True is 1 to Python, and no number of sets.
    if isinstance(seeds, Integral) and not isinstance(seeds, (bool, np.bool_)):
        return list(range(int(seeds)))
    found = np.asarray(seeds)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu":
        raise ValueError(
            f"`seeds` must be a number of sets or a list of integers; got {seeds!r}"
        )
    numbers = found.tolist()
    if min(numbers) < 0 or max(numbers) >= 2**32:
        raise ValueError(f"`seeds` must be from 0 to 2**32 - 1; got {numbers}")
    twice = sorted({seed for seed in numbers if numbers.count(seed) > 1})
    if twice:
        raise ValueError(
            f"`seeds` must differ, as the same seed makes the same set; got {twice} "
            "more than once"
        )
    return numbers


def _check_names(distillers: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the distillers by names that a table can tell apart."""
    if not len(distillers):
        raise ValueError("`distillers` must hold at least one distiller")
    seen: dict[str, Any] = {}
    for name in distillers:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(
                f"`distillers` must have non-empty strings as its keys; got {name!r}"
            )
        plain = " ".join(name.split())
        if plain in seen:
            raise ValueError(
                f"`distillers` has the names {seen[plain]!r} and {name!r}, which "
                "differ only in whitespace"
            )
        seen[plain] = name
    return dict(distillers)


def _check_data(
    distillers: dict[str, Any], X: Any, y: Any
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return images, labels, and distillers that are fit for them."""
    shapes: dict[tuple[int, ...], str] = {}
    for name, one in distillers.items():
        shape = getattr(one, "image_shape", None)
        if shape is not None and not isinstance(one, type):
            shapes.setdefault(tuple(shape), name)
    if len(shapes) > 1:
        told = ", ".join(f"{name!r} {shape}" for shape, name in shapes.items())
        raise ValueError(
            f"`distillers` must have the same `image_shape`, or None; got {told}"
        )
    first = next(iter(distillers.values()))
    named = f"`distillers`[{next(iter(distillers))!r}]"
    check_distiller(first, None, named)
    images, labels = check_images(
        clone(first),
        X,
        y,
        reset=True,
        with_labels=True,
        image_shape=next(iter(shapes), None),
    )
    assert labels is not None
    check_class_sizes(labels, 1, "a comparison")
    ready = {}
    for name, one in distillers.items():
        check_distiller(one, labels, f"`distillers`[{name!r}]")
        try:
            teachers = trained_teachers(one)
        except (OSError, ValueError) as error:
            raise type(error)(f"`distillers`[{name!r}]: {error}") from error
        # Clones, with teachers where workers of another folder find them.
        ready[name] = one if teachers is None else _with_teachers(one, teachers)
    return images, labels, ready


def _with_teachers(distiller: Any, teachers: Any) -> Any:
    return clone(distiller).set_params(buffer=teachers)


def _check_evaluation(
    images: np.ndarray,
    labels: np.ndarray,
    X_test: Any,
    y_test: Any,
    options: dict[str, Any],
) -> Evaluation:
    """Try the scoring on an image of each class, as it will be of each set."""
    _, rows = np.unique(labels, return_index=True)
    one_each = SyntheticSet(
        np.asarray(images[rows]), labels[rows], pixel_space=pixel_space(images)
    )
    known = inspect.signature(check_evaluation).parameters
    given = {name: value for name, value in options.items() if name in known}
    return check_evaluation(one_each, X_test, y_test, **given)


# What is made of the cells.


def _tell_failures(
    cells: dict[tuple[str, int], Cell | Failure], error_score: float | str
) -> None:
    """Warn of cells that failed, as scikit-learn does of fits."""
    failed = {key: cell for key, cell in cells.items() if isinstance(cell, Failure)}
    if not failed:
        return
    told = dict.fromkeys(
        f"{name!r}: {cell.error}" for (name, _), cell in failed.items()
    )
    reasons = "\n".join(f"- {line}" for line in told)
    if len(failed) == len(cells):
        raise ValueError(
            f"all {len(cells)} cells failed; use error_score='raise' for the whole "
            f"traceback:\n{reasons}"
        )
    names = [f"{name!r} with seed {seed}" for name, seed in failed]
    warn(
        f"{len(failed)} of {len(cells)} cells failed, and their scores are set to "
        f"{error_score}: {', '.join(names)}:\n{reasons}",
        FitFailedWarning,
    )


def _warn_of_other_classifiers(
    cells: dict[tuple[str, int], Cell | Failure],
) -> None:
    """Warn if the sets were scored by different networks."""
    found: dict[str, list[str]] = {}
    for (name, _), cell in cells.items():
        if isinstance(cell, Cell):
            found.setdefault(cell.classifier, []).append(name)
    if len(found) > 1:
        told = "; ".join(
            f"{', '.join(dict.fromkeys(names))}: {classifier}"
            for classifier, names in found.items()
        )
        warn(
            "sets were scored by different classifiers, each by the one in its "
            f"metadata: {told}.  Use `estimator` to score all sets by the same "
            "classifier"
        )


def _comparison(
    cells: dict[tuple[str, int], Cell | Failure],
    options: dict[str, Any],
    error_score: float | str,
) -> DistillerComparison:
    rows: list[dict[str, Any]] = []
    failures = []
    for (name, seed), cell in cells.items():
        row: dict[str, Any] = {"distiller": name, "seed": seed}
        if isinstance(cell, Failure):
            failures.append({**row, "error": cell.error})
            rows += [
                {**row, "network": network, "score": error_score}
                for network in range(options["n_repeats"])
            ]
            continue
        rest = {
            "seconds": cell.seconds,
            "bytes": cell.n_bytes,
            "images": cell.n_images,
            "labels": cell.labels,
        }
        rest |= short_names(cell.parameters, {*row, *rest, "network", "score"})
        rows += [
            {**row, "network": network, "score": score, **rest}
            for network, score in enumerate(cell.scores)
        ]
    scoring = options["scoring"]
    metric = "accuracy" if scoring is None else "score"
    if isinstance(scoring, str):
        metric = scoring
    return DistillerComparison(
        pd.DataFrame(rows),
        metric=metric,
        failures=pd.DataFrame(failures) if failures else None,
    )
