"""Training new networks on a distilled set and scoring them on real images."""

import inspect
from collections.abc import Collection
from numbers import Integral
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_parameter_constraints,
    validate_params,
)

from skdistill.metrics._baseline import (
    baseline_sets,
    check_baseline,
    default_of_baseline,
)
from skdistill.metrics._compare import compare_scores
from skdistill.metrics._protocol import SyntheticScore, check_evaluation, score_sets
from skdistill.neural_network._default import warn_of_unused_labels
from skdistill.synthetic import SyntheticSet
from skdistill.utils._random import root_seed
from skdistill.utils._torch_state import with_own_torch_state


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
        "baseline": [
            StrOptions({"random"}),
            HasMethods(["fit_resample"]),
            SyntheticSet,
            None,
        ],
        "X_train": ["array-like", None],
        "y_train": ["array-like", None],
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
    baseline: Any = None,
    X_train: Any = None,
    y_train: Any = None,
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
    :class:`~skdistill.neural_network.ConvNetClassifier` has both.  Others are trained
    on the classes, with a warning.  Classifiers of tables, such as those of
    scikit-learn, get each image as one row of pixels.

    Parameters
    ----------
    synthetic : SyntheticSet or pair (X, y)
        The images to train on, in the pixel space of ``X_test``.  In a pair X may be
        flattened; an estimator of images then needs its ``image_shape``.
    X_test : array-like of shape (n_samples, height, width, channels) or \
            (n_samples, height * width * channels)
        Real images that were not used in the distillation.
    y_test : array-like of shape (n_samples,)
        Their labels.  A warning is raised for classes that are not in the set, and an
        error if none is.
    estimator : classifier, default=None
        The classifier to train.  None uses the one in the set's metadata or otherwise
        the network of [1]_: a :class:`~skdistill.neural_network.ConvNetClassifier`
        trained for 1000 epochs, with Adam if the set has regression targets and no step
        size.
    protocol : {"paper", "honest"}, default="paper"
        How the learning rate is chosen.  "paper" uses that of the estimator and, for
        the default network, the set's step size if there is one, as in [1]_; this
        favors sets with a step size.  "honest" treats all sets equally: for each set
        the best learning rate of the same grid on the validation images is used for new
        networks; without ``estimator`` all sets use the network of [1]_.  Neither
        protocol uses test images for a choice.
    X_validation : array-like of shape (n_samples, height, width, channels), \
            default=None
        Real images for the choice of "honest": a part of the training images,
        preferably one that is not used in the distillation.
    y_validation : array-like of shape (n_samples,), default=None
        Their labels.
    param_grid : dict of str to list, default=None
        The grid of "honest": values of parameters of the estimator, in all
        combinations.  None uses 0.001, 0.005, 0.01, 0.05 and 0.1 for each parameter
        ``learning_rate`` that is a number; an estimator without one is trained as it
        is.
    baseline : "random", distiller or SyntheticSet, default=None
        The baseline of the set, evaluated in the same way.  "random" draws the same
        number of real images of each class for each network; a distiller is cloned and
        fitted with a different random state for each network, and a set is used as it
        is.  With "honest" the learning rate is also chosen for the baseline; with
        "paper" that of the estimator is used, since a step size belongs to its set.
    X_train : array-like of shape (n_samples, height, width, channels), default=None
        The real images that were distilled; needed if ``baseline`` is "random" or a
        distiller.
    y_train : array-like of shape (n_samples,), default=None
        Their labels: the classes of the set.
    n_validation_repeats : int, default=1
        Number of networks for the mean accuracy on the validation images.
    scoring : str, callable or None, default=None
        The metric on the test images: a scorer of scikit-learn or its name, such as
        "balanced_accuracy" for classes that differ in size.  None is the accuracy.
        "honest" chooses the learning rate by the same metric if its name is given, and
        by the accuracy if it is a callable.  A metric of scikit-learn is tested on the
        labels before the training.
    n_repeats : int, default=5
        Number of networks, each with a different random state.
    at_once : bool or "auto", default="auto"
        Whether all networks of one setting are trained together in one batched
        computation, which is faster on a GPU, instead of one after the other.  Scores
        agree up to rounding.  On a CPU True uses hand-written derivatives instead of
        automatic differentiation, which saves a fifth of the time or more.  "auto" does
        so on a GPU unless ``n_jobs`` is given; only a
        :class:`~skdistill.neural_network.ConvNetClassifier` without batch normalization
        and callbacks can be trained in this way.
    n_jobs : int, default=None
        Number of networks trained at once, in processes of one thread each.  The
        scores are the same for any number.
    random_state : int, RandomState instance or None, default=None
        Controls the random states of the networks.
    verbose : int, default=0
        Shows a progress bar over the networks if positive.

    Returns
    -------
    score : SyntheticScore
        A named tuple ``(mean, std, scores)`` with the attributes ``parameters`` and
        ``validation``.  ``std`` is the standard deviation of the scores, with
        the number of scores as the divisor, as by :func:`numpy.std`.

    Raises
    ------
    ValueError
        Before the first training, if images, labels, metric, estimator or one of its
        settings cannot be used.

    Warns
    -----
    UserWarning
        If test or validation images are in a different pixel space from the distilled
        images, or labels are unknown.

    See Also
    --------
    skdistill.metrics.cross_architecture : The same for many networks.
    skdistill.metrics.compare_scores : Whether two sets differ.
    skdistill.distillation.RandomSubset : The random baseline.

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
    checked = check_evaluation(
        synthetic,
        X_test,
        y_test,
        estimator=estimator,
        protocol=protocol,
        X_validation=X_validation,
        y_validation=y_validation,
        param_grid=param_grid,
        scoring=scoring,
        at_once=at_once,
        n_jobs=n_jobs,
    )
    real = check_baseline(baseline, X_train, y_train, checked.data, checked.test[0])
    warn_of_unused_labels(checked.estimator, checked.data.synthetic)
    seed = root_seed(random_state)
    how: dict[str, Any] = {
        "n_repeats": n_repeats,
        "n_validation_repeats": n_validation_repeats,
        "n_jobs": n_jobs,
        "verbose": verbose,
    }
    network = [checked.estimator]
    score = score_sets([checked.data], network, checked, seed, "evaluation", **how)
    if baseline is None:
        return score
    sets = baseline_sets(baseline, real, checked.data, n_repeats, seed)
    network = network * len(sets)
    if estimator is None and protocol == "paper":
        network = [default_of_baseline(one, checked.data) for one in sets]
    score.baseline = score_sets(sets, network, checked, seed, "baseline", **how)
    score.difference = compare_scores(score, score.baseline, paired=True)
    if isinstance(baseline, SyntheticSet):
        score.baseline_name = str(baseline.metadata.get("distiller", "another set"))
    elif not isinstance(baseline, str):
        score.baseline_name = type(baseline).__name__
    return score


def check_options(
    options: dict[str, Any], accepted: Collection[str], caller: str
) -> dict[str, Any]:
    """Check options that are passed on to :func:`evaluate_synthetic`.

    Parameters
    ----------
    options : dict of str to object
    accepted : collection of str
        The names that the caller accepts.
    caller : str
        Name of the caller, for messages.

    Returns
    -------
    options : dict of str to object
        With the defaults of those that are not given.
    """
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise TypeError(
            f"{caller} got unknown options {unknown}; the options of "
            f"evaluate_synthetic that it accepts are {sorted(accepted)}"
        )
    defaults = inspect.signature(evaluate_synthetic).parameters
    options = {name: defaults[name].default for name in sorted(accepted)} | options
    constraints = evaluate_synthetic._skl_parameter_constraints
    validate_parameter_constraints(
        {name: constraints[name] for name in options}, options, caller_name=caller
    )
    return options
