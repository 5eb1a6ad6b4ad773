"""The real images that are nearest to distilled ones in a space of features."""

import math
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics.pairwise import paired_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skdistill.synthetic import SyntheticSet
from skdistill.utils._embedding import embed
from skdistill.utils._validation import image_array

COLUMNS = ["class", "image", "rank", "neighbor", "name", "neighbor_class", "distance"]


def check_extractor(estimator: Any) -> Any:
    """Return what makes features: a fitted network or transformer.

    Raises
    ------
    TypeError
        If it is neither; the message says where there is one.
    NotFittedError
        If it is not fitted.
    """
    if hasattr(estimator, "distiller_"):
        # What a DistilledClassifier trained on its set.
        estimator = estimator.estimator_
    where = ""
    if isinstance(estimator, Pipeline):
        where = ": pass its last step, and images transformed by the previous steps"
    elif hasattr(estimator, "snapshot"):
        where = ": pass one of its teachers, `buffer.classifier(teacher=0)`"
    elif hasattr(estimator, "fit_resample"):
        where = ": pass a network that was fitted on `synthetic_` or on real images"
    has_any = hasattr(estimator, "extract_features") or hasattr(estimator, "transform")
    if where or isinstance(estimator, type) or not has_any:
        got = estimator.__name__ if isinstance(estimator, type) else None
        raise TypeError(
            "`estimator` must be a fitted network with `extract_features`, such as a "
            "ConvNetClassifier, or a fitted transformer; got "
            f"{f'the class {got}' if got else type(estimator).__name__}{where}"
        )
    check_is_fitted(estimator)
    return estimator


def find_neighbors(
    prototypes: list[tuple[Any, int, int]],
    synthetic: SyntheticSet,
    X: np.ndarray,
    y: np.ndarray,
    names: np.ndarray | None,
    *,
    estimator: Any,
    n_neighbors: int,
    metric: str,
    same_class: bool,
) -> pd.DataFrame:
    """Find the nearest real images of some distilled ones.

    Parameters
    ----------
    prototypes : list of tuple (label, number, position)
        Of the distilled images: their class, their number in it, their place in the
        set.
    synthetic : SyntheticSet
    X : ndarray of shape (n_samples, height, width, channels)
        Real images.
    y : ndarray of shape (n_samples,)
    names : ndarray of shape (n_samples,) or None
    estimator, n_neighbors, metric, same_class
        As of :meth:`NeighborsDisplay.from_set`.

    Returns
    -------
    table : DataFrame
        As the attribute of :class:`NeighborsDisplay`.
    """
    if same_class:
        # Before all images go through the network.
        without = [label for label, *_ in prototypes if not (y == label).any()]
        if without:
            raise ValueError(
                f"y has no real image of the class {without[0]!r}, but "
                "`same_class`=True requires one; use `classes` to select the classes "
                "to show"
            )
    features = _features(estimator, X)
    places = np.array([position for *_, position in prototypes])
    wanted = _features(estimator, synthetic.X[places])
    rows: list[tuple[Any, ...]] = []
    everything = np.arange(len(y))
    for (label, number, _), point in zip(prototypes, wanted, strict=True):
        among = np.flatnonzero(y == label) if same_class else everything
        found, distances = _nearest(features, among, point, n_neighbors, metric)
        for rank, (row, distance) in enumerate(zip(found, distances, strict=True), 1):
            name = row if names is None else names[row]
            rows.append((label, number, rank, row, name, y[row], distance))
    return pd.DataFrame(rows, columns=COLUMNS).infer_objects()


def _nearest(
    features: np.ndarray, among: np.ndarray, point: np.ndarray, number: int, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and distances of the nearest of some rows, nearest first."""
    search = NearestNeighbors(metric=metric, algorithm="brute")
    search.fit(features if len(among) == len(features) else features[among])
    number = min(number, len(among))
    found = among[search.kneighbors(point[None], number, return_distance=False)[0]]
    # The search rounds: of an image itself the distance shall be 0.
    near = features[found].astype(np.float64)
    points = np.broadcast_to(point.astype(np.float64), near.shape)
    distances = paired_distances(points, near, metric=metric)
    order = np.argsort(distances, kind="stable")
    return found[order], distances[order]


def _features(estimator: Any, X: np.ndarray) -> np.ndarray:
    # Transformers of tables take rows of pixels; ours and networks know images.
    if not hasattr(estimator, "extract_features") and not hasattr(
        estimator, "image_shape_"
    ):
        X = X.reshape(len(X), math.prod(X.shape[1:]))
    return embed(estimator, X, "estimator")


def as_distilled(synthetic: Any) -> SyntheticSet:
    """Take a set or a pair (X, y) of images and labels."""
    if isinstance(synthetic, SyntheticSet):
        return synthetic
    if isinstance(synthetic, (tuple, list)) and len(synthetic) == 2:
        return SyntheticSet(image_array(synthetic[0], "synthetic"), synthetic[1])
    has_set = hasattr(synthetic, "synthetic_") or hasattr(synthetic, "distiller_")
    where = ": pass its `synthetic_`" if has_set else ""
    raise TypeError(
        "`synthetic` must be a SyntheticSet or a pair (X, y) of images and labels; "
        f"got {type(synthetic).__name__}{where}"
    )
