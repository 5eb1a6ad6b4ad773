"""What a distilled set is compared with: sets of the same real images."""

from typing import Any

import numpy as np

from skdistill._training_set import TrainingSet, check_training_images, training_set
from skdistill.metrics._checks import warn_of_shared_images
from skdistill.metrics._distillers import check_distiller, with_seed
from skdistill.neural_network._default import ENTRY, default_estimator
from skdistill.synthetic import SyntheticSet
from skdistill.utils._random import child_seed

# Of the draws, apart from those of the networks.
_KEY = 2


def check_baseline(
    baseline: Any, X: Any, y: Any, data: TrainingSet, X_test: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Find out what is wrong with a baseline and the images that it is made of.

    Parameters
    ----------
    baseline : "random", distiller, SyntheticSet or None
    X, y : array-like or None
        The parameters ``X_train`` and ``y_train``.
    data : TrainingSet
        What is compared with it.
    X_test : ndarray of shape (n_samples, height, width, channels)

    Returns
    -------
    real : tuple (images, labels) or None
        None if the baseline is made of no images.
    """
    is_made = baseline is not None and not isinstance(baseline, SyntheticSet)
    given = [X is not None, y is not None]
    if not is_made:
        if any(given):
            raise ValueError(
                "`X_train` and `y_train` are only used if `baseline` is 'random' or a "
                f"distiller; got `baseline`={baseline!r}"
            )
        if baseline is not None:
            _check_like(training_set(baseline).synthetic, data.synthetic)
        return None
    if not all(given):
        raise ValueError(
            f"`baseline`={baseline!r} requires `X_train` and `y_train`, the real "
            "images that the set was distilled from, not test images"
        )
    names = ("X_train", "y_train")
    images, labels = check_training_images(
        data.synthetic, X, y, names=names, columns=data.columns
    )
    if isinstance(baseline, str):
        for label, n_wanted in zip(
            *np.unique(data.synthetic.y, return_counts=True), strict=True
        ):
            n_found = int((labels == label).sum())
            if n_found < n_wanted:
                raise ValueError(
                    "`baseline`='random' requires as many images of each class as the "
                    f"set has: {n_wanted} of class {label.item()!r}, but `y_train` "
                    f"has {n_found}"
                )
    else:
        check_distiller(baseline, labels, "`baseline`")
    warn_of_shared_images(images, X_test, "X_train")
    return images, labels


def _check_like(baseline: SyntheticSet, synthetic: SyntheticSet) -> None:
    """Raise a ValueError unless two sets are of the same kind of images."""
    if baseline.X.shape[1:] != synthetic.X.shape[1:]:
        raise ValueError(
            "`baseline` must hold images of the same shape as the set, "
            f"{synthetic.X.shape[1:]}; got {baseline.X.shape[1:]}"
        )
    classes = [np.unique(one.y).tolist() for one in (synthetic, baseline)]
    if classes[0] != classes[1]:
        raise ValueError(
            f"`baseline` must have the classes of the set, {classes[0][:10]}; got "
            f"{classes[1][:10]}"
        )


def baseline_sets(
    baseline: Any,
    real: tuple[np.ndarray, np.ndarray] | None,
    data: TrainingSet,
    n_sets: int,
    seed: int,
) -> list[TrainingSet]:
    """Make what a set is compared with.

    Parameters
    ----------
    baseline, real, data
        As of :func:`check_baseline`.
    n_sets : int
        Number of networks, each of which learns from a set of its own.
    seed : int
        That of the evaluation.

    Returns
    -------
    sets : list of TrainingSet
        One where all would be the same.
    """
    if real is None:
        return [training_set(baseline)]
    images, labels = real
    sets: list[TrainingSet] = []
    for place in range(n_sets):
        child = child_seed(seed, _KEY, place) % 2**31
        if isinstance(baseline, str):
            made = _random_images(images, labels, data.synthetic, child)
        else:
            distiller = with_seed(baseline, child)
            made = distiller.fit(data.as_given(images), labels).synthetic_
        sets.append(TrainingSet(made, data.flattened))
        if len(made) == len(labels):
            break  # all images, again and again
    return sets


def _random_images(
    images: np.ndarray, labels: np.ndarray, synthetic: SyntheticSet, seed: int
) -> SyntheticSet:
    """Draw as many real images of each class as a set has."""
    rng = np.random.default_rng(seed)
    rows = np.empty(len(synthetic), dtype=np.int64)
    for label in np.unique(synthetic.y).tolist():
        places = np.flatnonzero(synthetic.y == label)
        of_class = np.flatnonzero(labels == label)
        rows[places] = rng.choice(of_class, len(places), replace=False)
    return SyntheticSet(images[rows], synthetic.y, pixel_space=synthetic.pixel_space)


def default_of_baseline(baseline: TrainingSet, data: TrainingSet) -> Any:
    """Return what is trained on a baseline where nobody names a classifier.

    Where it does not say that itself it is the network of the set that is compared with
    it, without what follows from that set: its step size and its kind of labels.
    """
    if ENTRY in baseline.synthetic.metadata:
        return baseline.default_estimator()
    return default_estimator(
        data.synthetic.metadata,
        baseline.synthetic.step_size,
        on_targets=baseline.synthetic.targets is not None,
    )
