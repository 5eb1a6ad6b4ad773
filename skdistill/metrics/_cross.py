"""Evaluation of a distilled set with networks other than its own."""

import inspect
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skdistill._training_set import training_set
from skdistill.metrics._evaluate import check_options, evaluate_synthetic
from skdistill.metrics._protocol import check_evaluation, short_names
from skdistill.metrics._scorers import check_scorer
from skdistill.neural_network import ConvNetClassifier, NetworkClassifier
from skdistill.neural_network._any_classifier import of_images
from skdistill.neural_network._default import warn_of_unused_labels
from skdistill.synthetic import SyntheticSet
from skdistill.utils._labels import already_checked
from skdistill.utils._random import child_seed, root_seed
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._warnings import warn

# Of the parameters of evaluate_synthetic, those that make sense for several networks.
_PASSED_ON = {
    "protocol",
    "X_validation",
    "y_validation",
    "n_validation_repeats",
    "scoring",
    "n_repeats",
    "n_jobs",
    "verbose",
}


@validate_params(
    {
        "width": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def standard_estimators(
    *, width: int = 128, max_iter: int = 1000, **parameters: Any
) -> dict[str, Any]:
    """Return the classifiers that are commonly used to evaluate a distilled set.

    Parameters
    ----------
    width : int, default=128
        Width of the ConvNet that the set was distilled with; those of the other
        networks are proportional.
    max_iter : int, default=1000
        Number of epochs of the networks.
    **parameters : dict
        Other parameters of all networks, such as ``augmentation`` and ``device``.

    Returns
    -------
    estimators : dict of str to classifier
        The ConvNet; ConvNets of half and twice the width, of depth 2 and 4, with other
        normalization and pooling; AlexNet, VGG11, ResNet18 and an MLP; and of
        scikit-learn logistic regression, a support vector machine and a random forest,
        on flattened images.

    Examples
    --------
    >>> from skdistill.metrics import standard_estimators
    >>> list(standard_estimators())[:3]
    ['ConvNet', 'ConvNet, half as wide', 'ConvNet, twice as wide']
    """

    def convnet(**changes: Any) -> ConvNetClassifier:
        shared = {"width": width, "max_iter": max_iter, **parameters}
        return ConvNetClassifier(**{**shared, **changes})

    def network(architecture: str) -> NetworkClassifier:
        return NetworkClassifier(
            architecture, width_multiplier=width / 128, max_iter=max_iter, **parameters
        )

    return {
        "ConvNet": convnet(),
        "ConvNet, half as wide": convnet(width=max(1, width // 2)),
        "ConvNet, twice as wide": convnet(width=2 * width),
        "ConvNet, depth 2": convnet(depth=2),
        "ConvNet, depth 4": convnet(depth=4),
        "ConvNet, layer norm": convnet(normalization="layer"),
        "ConvNet, batch norm": convnet(normalization="batch"),
        "ConvNet, no norm": convnet(normalization="none"),
        "ConvNet, max pooling": convnet(pooling="max"),
        "AlexNet": network("alexnet"),
        "VGG11": network("vgg11"),
        "ResNet18": network("resnet18"),
        "MLP": network("mlp"),
        "logistic regression": of_images(LogisticRegression(max_iter=1000)),
        "support vector machine": of_images(SVC()),
        "random forest": of_images(RandomForestClassifier()),
    }


@validate_params(
    {
        "synthetic": [SyntheticSet, tuple, list],
        "X_test": ["array-like"],
        "y_test": ["array-like"],
        "estimators": [Mapping, None],
        "error_score": [StrOptions({"raise"}), Real],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def cross_architecture(
    synthetic: Any,
    X_test: Any,
    y_test: Any,
    *,
    estimators: Any = None,
    error_score: float | str = np.nan,
    random_state: Any = None,
    **options: Any,
) -> pd.DataFrame:
    """Score a distilled set by several classifiers.

    A set is distilled with one network.  The scores of other networks show whether it
    represents the data or is specific to that network.

    Parameters
    ----------
    synthetic : SyntheticSet or pair (X, y)
        The images to train on, in the pixel space of ``X_test``.
    X_test : array-like of shape (n_samples, height, width, channels)
        Real images that were not used in the distillation.
    y_test : array-like of shape (n_samples,)
        Their labels.
    estimators : dict of str to classifier, default=None
        The classifiers and their names; classifiers of tables, such as scikit-learn's,
        get each image as one row of pixels.  None uses
        :func:`~skdistill.metrics.standard_estimators`.
    error_score : "raise" or float, default=np.nan
        The scores of a classifier whose training or evaluation fails, such as a network
        that diverges.  With a number, a warning is raised and the others are evaluated;
        with "raise" the error is raised.
    random_state : int, RandomState instance or None, default=None
        Controls the random states of the classifiers; pass an int for reproducible
        results.  The score of a classifier depends on its name, not on the others.
    **options : dict
        Parameters of :func:`~skdistill.metrics.evaluate_synthetic`, such as
        ``n_repeats``, ``n_jobs`` and ``protocol``: with "honest" the learning rate is
        chosen for each classifier, while "paper" uses its own.  The set's step size
        belongs to the network it was distilled with and is not used.

    Returns
    -------
    table : DataFrame of n_estimators * n_repeats rows
        ``estimator``, ``repeat``, ``score``, and a column for each parameter that was
        chosen on validation images.

    Raises
    ------
    ValueError
        Before the first training, if images, labels, classifiers or settings cannot be
        used; and if all classifiers fail.

    Warns
    -----
    FitFailedWarning
        If some classifiers fail.

    See Also
    --------
    skdistill.metrics.evaluate_synthetic : The same for one classifier.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from skdistill import NetworkClassifier, make_galaxies
    >>> from skdistill.metrics import cross_architecture
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> table = cross_architecture(
    ...     (X[:45], y[:45]), X[45:], y[45:], n_repeats=2, random_state=0,
    ...     estimators={"MLP": NetworkClassifier("mlp", max_iter=5),
    ...                 "constant": DummyClassifier()})
    >>> table.groupby("estimator", sort=False)["score"].count().to_dict()
    {'MLP': 2, 'constant': 2}
    """
    options = check_options(options, _PASSED_ON, "cross_architecture")
    if estimators is None:
        estimators = standard_estimators()
    if not estimators:
        raise ValueError("`estimators` must hold at least one classifier")
    _check_all(synthetic, X_test, y_test, estimators, options)
    seed = root_seed(random_state)
    rows = []
    failed: dict[str, Exception] = {}
    for name, estimator in estimators.items():
        row = {"estimator": name}
        try:
            with already_checked():
                found = evaluate_synthetic(
                    synthetic,
                    X_test,
                    y_test,
                    estimator=estimator,
                    random_state=child_seed(seed, *str(name).encode()) % 2**31,
                    **options,
                )
        except Exception as error:
            error.add_note(f"In `estimators`[{name!r}].")
            if error_score == "raise":
                raise
            failed[name] = error
            rows += [
                {**row, "repeat": repeat, "score": error_score}
                for repeat in range(options["n_repeats"])
            ]
            continue
        chosen = short_names(found.parameters, ("estimator", "repeat", "score"))
        rows += [
            {**row, "repeat": repeat, "score": score, **chosen}
            for repeat, score in enumerate(found.scores)
        ]
    _report_failures(failed, len(estimators), error_score)
    return pd.DataFrame(rows)


def _check_all(
    synthetic: Any,
    X_test: Any,
    y_test: Any,
    estimators: Mapping[str, Any],
    options: dict[str, Any],
) -> None:
    """Find out before the first training what the last could stumble over."""
    data = training_set(synthetic)
    for name, estimator in estimators.items():
        data.check(estimator, name=f"estimators[{name!r}]")
    known = inspect.signature(check_evaluation).parameters
    given = {name: value for name, value in options.items() if name in known}
    first = next(iter(estimators.values()))
    checked = check_evaluation(synthetic, X_test, y_test, estimator=first, **given)
    classes = np.unique(data.synthetic.y)
    for estimator in estimators.values():
        check_scorer(
            estimator,
            options["scoring"],
            classes,
            checked.test[1],
            ("scoring", "y_test"),
        )
        warn_of_unused_labels(estimator, data.synthetic)


def _report_failures(
    failed: dict[str, Exception], n_estimators: int, error_score: float | str
) -> None:
    """Warn of classifiers that failed, as scikit-learn does of fits."""
    if not failed:
        return
    reasons = "\n".join(
        f"- {name!r}: {type(error).__name__}: {error}" for name, error in failed.items()
    )
    if len(failed) == n_estimators:
        raise ValueError(
            f"all {n_estimators} classifiers failed; use error_score='raise' for the "
            f"whole traceback:\n{reasons}"
        ) from next(iter(failed.values()))
    warn(
        f"{len(failed)} of {n_estimators} classifiers failed, and their scores are set "
        f"to {error_score}:\n{reasons}",
        FitFailedWarning,
    )
