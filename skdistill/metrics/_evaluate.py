"""Training new networks on a distilled set and scoring them on real images."""

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import Interval, validate_params
from tqdm.auto import tqdm

from skdistill.neural_network import ConvNetClassifier
from skdistill.synthetic import SyntheticSet, _as_set
from skdistill.utils._pixels import warn_of_other_space
from skdistill.utils._random import child_seed, root_seed
from skdistill.utils._threads import single_threaded_torch


class SyntheticScore(NamedTuple):
    """Test accuracies of networks that saw only a distilled set.

    Attributes
    ----------
    mean : float
        Mean accuracy over the networks, in [0, 1].
    std : float
        Their standard deviation.
    scores : ndarray of shape (n_repeats,)
        The accuracy of each network.
    """

    mean: float
    std: float
    scores: np.ndarray


@validate_params(
    {
        "synthetic": [SyntheticSet, tuple, list],
        "X_test": ["array-like"],
        "y_test": ["array-like"],
        "estimator": [BaseEstimator, None],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def evaluate_synthetic(
    synthetic: Any,
    X_test: Any,
    y_test: Any,
    *,
    estimator: Any = None,
    n_repeats: int = 5,
    n_jobs: int | None = None,
    random_state: Any = None,
    verbose: int = 0,
) -> SyntheticScore:
    """Score a distilled set: train new networks on it, test them on real images.

    Soft labels of a set are used by an estimator with ``fit_probabilities``, as
    :class:`~skdistill.neural_network.ConvNetClassifier`; others are given the classes.

    Parameters
    ----------
    synthetic : SyntheticSet or pair (X, y)
        The images to train on, in the pixel space of ``X_test``.
    X_test : array-like of shape (n_samples, height, width, channels)
        Real images that no part of the distillation has seen.
    y_test : array-like of shape (n_samples,)
        Their labels.
    estimator : classifier, default=None
        What is trained.  None takes the network and the protocol of [1]_: a
        :class:`~skdistill.neural_network.ConvNetClassifier` for 1000 epochs, with the
        set's step size as learning rate where it has one.
    n_repeats : int, default=5
        Number of networks, each with its own random state.
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
        A named tuple ``(mean, std, scores)``.

    See Also
    --------
    skdistill.distillation.STMDistiller : Makes distilled sets.

    References
    ----------
    .. [1] Guan et al., "Discovering Galaxy Features via Dataset Distillation", 2023,
       section 3.

    Examples
    --------
    >>> from skdistill import ConvNetClassifier, evaluate_synthetic, make_galaxies
    >>> X, y = make_galaxies(90, size=16, random_state=0)
    >>> network = ConvNetClassifier(width=8, max_iter=5)
    >>> score = evaluate_synthetic(
    ...     (X[:45], y[:45]), X[45:], y[45:], estimator=network, n_repeats=2,
    ...     random_state=0)
    >>> score.scores.shape
    (2,)
    """
    synthetic = _as_set(synthetic)
    # One further up: scikit-learn's validation of parameters comes between.
    warn_of_other_space(synthetic.pixel_space, X_test, stacklevel=3)
    if estimator is None:
        estimator = default_network(synthetic)
    seed = root_seed(random_state)
    tasks = (
        delayed(_score_one)(
            clone(estimator), synthetic, X_test, y_test, child_seed(seed, repeat)
        )
        for repeat in range(n_repeats)
    )
    results = Parallel(n_jobs=n_jobs, return_as="generator")(tasks)
    scores = np.empty(n_repeats)
    with tqdm(
        results,
        desc="evaluation",
        unit="network",
        total=n_repeats,
        disable=not verbose,
    ) as bar:
        for repeat, score in enumerate(bar):
            scores[repeat] = score
            bar.set_postfix(accuracy=f"{scores[: repeat + 1].mean():.3f}")
    return SyntheticScore(float(scores.mean()), float(scores.std()), scores)


def default_network(synthetic: SyntheticSet, **parameters: Any) -> ConvNetClassifier:
    """Return the network that a set is scored with when the user names none."""
    if synthetic.step_size is not None:
        parameters["learning_rate"] = synthetic.step_size
    return ConvNetClassifier(max_iter=1000, **parameters)


def fit_on(estimator: Any, X: Any, y: Any, probabilities: Any) -> Any:
    """Fit a classifier, to soft labels if there are any and it can use them."""
    if probabilities is None or not hasattr(estimator, "fit_probabilities"):
        return estimator.fit(X, y)
    return estimator.fit_probabilities(X, probabilities, np.unique(y))


def _score_one(
    estimator: Any, synthetic: SyntheticSet, X_test: Any, y_test: Any, seed: int
) -> float:
    # A pipeline has no random state of its own, but its steps have.  A random state of
    # scikit-learn is an unsigned 32-bit integer.
    names = sorted(estimator.get_params())
    estimator.set_params(
        **{
            name: (seed if name == "random_state" else child_seed(seed, place)) % 2**32
            for place, name in enumerate(names)
            if name == "random_state" or name.endswith("__random_state")
        }
    )
    with single_threaded_torch():
        fit_on(estimator, synthetic.X, synthetic.y, synthetic.probabilities)
        return float(estimator.score(X_test, y_test))
