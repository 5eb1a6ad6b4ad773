"""What a report measures: networks on the distilled images, and on random real ones."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import accuracy_score

from skdistill.synthetic import SyntheticSet
from skdistill.utils._labels import check_known_labels
from skdistill.utils._validation import image_array
from skdistill.utils._warnings import without_names


class Networks(NamedTuple):
    """Networks that were trained on the distilled images.

    Attributes
    ----------
    predictions : list of ndarray of shape (n_test,)
        Of each network for the test images.
    accuracies : ndarray of shape (n_networks,)
    first : classifier
        The first of them.
    X_test : ndarray of shape (n_test, height, width, channels)
        The test images as networks take them.
    """

    predictions: list[np.ndarray]
    accuracies: np.ndarray
    first: Any
    X_test: np.ndarray


class Baseline(NamedTuple):
    """Networks that were trained on random real images.

    Attributes
    ----------
    accuracies : ndarray of shape (n_networks,) or None
    said : str
        Where the images are from, or why there is none.
    """

    accuracies: np.ndarray | None
    said: str


def innermost(distiller: Any) -> Any:
    """Return the distiller at the end of a pipeline and inside a classifier."""
    last = getattr(distiller, "steps", [(None, distiller)])[-1][1]
    return getattr(last, "distiller_", last)


def train_networks(
    distiller: Any,
    synthetic: SyntheticSet,
    X_test: Any,
    y_test: np.ndarray,
    estimator: Any,
    **settings: Any,
) -> Networks:
    """Train networks on the distilled images, and let them classify the real ones.

    Parameters
    ----------
    distiller : estimator instance
        As of :func:`report`.
    synthetic : SyntheticSet
    X_test : array-like
    y_test : ndarray of shape (n_test,)
    estimator : classifier or None
    **settings : dict
        ``n_repeats``, ``random_state`` and ``verbose`` of ``evaluate_synthetic``.
    """
    # Networks and torch are only loaded where they are needed.
    from skdistill.metrics import evaluate_synthetic

    inner = innermost(distiller)
    if estimator is None:
        estimator = getattr(inner, "estimator", None)
    if estimator is None and hasattr(inner, "_default_estimator"):
        estimator = inner._default_estimator()
    X = _for_networks(distiller, synthetic, X_test, "X_test")
    found: list[tuple[Any, np.ndarray]] = []

    def score(network: Any, images: Any, labels: Any) -> float:
        # Several are scored at once, and finish in any order.
        predicted = network.predict(images)
        found.append((network, predicted))
        return float(accuracy_score(labels, predicted))

    result = evaluate_synthetic(
        synthetic, X, y_test, estimator=estimator, scoring=score, **settings
    )
    found.sort(key=lambda one: _seeds(one[0]))
    predictions = [predicted for _, predicted in found]
    return Networks(predictions, np.asarray(result.scores), found[0][0], X)


def _seeds(network: Any) -> list[Any]:
    """Return the random states of a network, in which those of a report differ."""
    return [
        value
        for name, value in sorted(network.get_params().items())
        if name.rpartition("__")[2] == "random_state"
    ]


def _for_networks(
    distiller: Any, synthetic: SyntheticSet, X: Any, name: str
) -> np.ndarray:
    """Return images as the networks take them: those of a pipeline transformed."""
    X = image_array(X, name, shape=synthetic.X.shape[1:])
    steps = getattr(distiller, "steps", None)
    if steps is not None and len(steps) > 1:
        with without_names():
            X = np.asarray(distiller[:-1].transform(X))
    return X.reshape(len(X), *synthetic.X.shape[1:])


def check_training_images(
    X_train: Any, y_train: Any, synthetic: SyntheticSet
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the images that random ones are drawn from, and their labels.

    Raises
    ------
    ValueError
        If only one of both is given, or they do not fit the set.
    """
    if (X_train is None) != (y_train is None):
        raise ValueError("`X_train` and `y_train` must be given together")
    if X_train is None:
        return None
    classes, wanted = np.unique(synthetic.y, return_counts=True)
    labels = check_known_labels(y_train, classes, name="y_train", every=True)
    images = image_array(X_train, "X_train", shape=synthetic.X.shape[1:])
    if len(labels) != len(images):
        raise ValueError(
            f"`X_train` and `y_train` must have the same length; got {len(images)} "
            f"images and {len(labels)} labels"
        )
    for label, number in zip(classes.tolist(), wanted, strict=True):
        found = int((labels == label).sum())
        if found < number:
            raise ValueError(
                "`X_train` must have at least as many images of each class as the "
                f"set: {number} of class {label!r}; got {found}"
            )
    return images, labels


def compare_with_random(
    distiller: Any,
    synthetic: SyntheticSet,
    networks: Networks,
    y_test: np.ndarray,
    train: tuple[np.ndarray, np.ndarray] | None,
    estimator: Any,
    *,
    n_repeats: int,
    random_state: Any,
) -> Baseline:
    """Train networks on random real images, as many of each class as the set has.

    Parameters
    ----------
    distiller : estimator instance
    synthetic : SyntheticSet
    networks : Networks
    y_test : ndarray of shape (n_test,)
    train : tuple (X, y) or None
        What they are drawn from; None draws from the test images, and tests on the
        others.
    estimator : classifier or None
        As of :func:`report`.
    n_repeats : int
        Number of draws, each for one network.
    random_state : int, RandomState instance or None
    """
    from skdistill.metrics import evaluate_synthetic
    from skdistill.neural_network._default import ENTRY
    from skdistill.utils._pixel_space import pixel_space
    from skdistill.utils._random import child_seed, root_seed

    classes, wanted = np.unique(synthetic.y, return_counts=True)
    X_test = networks.X_test
    if train is None:
        X, y = X_test, y_test
        left = [int((y == label).sum()) for label in classes]
        if any(found <= number for found, number in zip(left, wanted, strict=True)):
            return Baseline(
                None,
                "A comparison with random real images requires `X_train` and "
                "`y_train`: there are too few test images to draw them from",
            )
        said = "drawn from the test images and tested on the others"
    else:
        X, y = _for_networks(distiller, synthetic, train[0], "X_train"), train[1]
        said = "drawn from the training images"
    inner = innermost(distiller)
    if estimator is None:
        estimator = getattr(inner, "estimator", None)
    entry = synthetic.metadata.get(ENTRY)
    if estimator is None and entry is None and hasattr(inner, "_default_estimator"):
        estimator = inner._default_estimator()
    space = pixel_space(X)
    seed = root_seed(random_state)
    accuracies = []
    for number in range(n_repeats):
        rng = np.random.default_rng([seed, number])
        rows = np.concatenate(
            [
                rng.choice(np.flatnonzero(y == label), count, replace=False)
                for label, count in zip(classes, wanted, strict=True)
            ]
        )
        # The network of the set, but not the step size that was learned for it.
        drawn = SyntheticSet(
            X[rows],
            y[rows],
            metadata={} if entry is None else {ENTRY: entry},
            # Of a few small images it would be a guess; that of the set is told before.
            pixel_space=space,
        )
        others = np.arange(len(y_test))
        if train is None:
            others = np.setdiff1d(others, rows)
        score = evaluate_synthetic(
            drawn,
            X_test[others],
            y_test[others],
            estimator=estimator,
            n_repeats=1,
            random_state=child_seed(seed, number) % 2**31,
        )
        accuracies.append(score.mean)
    return Baseline(np.asarray(accuracies), said)
