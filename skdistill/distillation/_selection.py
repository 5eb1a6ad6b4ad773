"""Selecting rows by their features, which may be in a file."""

from collections.abc import Iterator

import numpy as np
from sklearn import config_context
from sklearn.cluster import KMeans, MiniBatchKMeans

from skdistill.utils._images import Images, batches, take, weighted_mean

# Maximum number of float64 values that are centered once and kept; of more a batch at a
# time.
_KEPT_VALUES = 2**23
# Of more values of float32 k-means runs in mini-batches, so often over all of them.
_KMEANS_VALUES = 2**24
_N_PASSES = 10
# Powers of 2 that the largest value may have: k-means squares values in float32.
_MAX_POWER = 40


def herd(features: Images, n_taken: int, weight: np.ndarray) -> list[int]:
    """Choose rows, one after the other, whose mean stays close to that of all.

    Parameters
    ----------
    features : ndarray or Rows of shape (n_samples, ...)
    n_taken : int
        At most ``n_samples``.
    weight : ndarray of shape (n_samples,)
        Weights of the rows in their mean.

    Returns
    -------
    taken : list of int
        Different rows, in the order of their choice.
    """
    mean = weighted_mean(features, weight)

    def centered() -> Iterator[np.ndarray]:
        for part in batches(features):
            yield (take(features, part, np.float64) - mean).reshape(-1, mean.size)

    is_small = len(features) * mean.size <= _KEPT_VALUES
    kept = list(centered()) if is_small else None

    def parts() -> Iterator[np.ndarray]:
        return centered() if kept is None else iter(kept)

    squares = np.concatenate([np.square(part).sum(axis=1) for part in parts()])
    total = np.zeros(mean.size)
    taken: list[int] = []
    for _ in range(n_taken):
        # |total + row|^2, without what is the same for all rows.
        distances = squares + 2 * np.concatenate([part @ total for part in parts()])
        distances[taken] = np.inf
        taken.append(int(distances.argmin()))
        row = taken[-1]
        chosen = take(features, slice(row, row + 1), np.float64)
        total += (chosen - mean).ravel()
    return taken


def medoid(features: Images, weight: np.ndarray) -> int:
    """Return the row that is closest to the mean of all.

    Parameters
    ----------
    features : ndarray or Rows of shape (n_samples, ...)
    weight : ndarray of shape (n_samples,)
    """
    mean = weighted_mean(features, weight)
    distances = [
        np.square(take(features, part, np.float64) - mean)
        .reshape(part.stop - part.start, -1)
        .sum(axis=1)
        for part in batches(features)
    ]
    return int(np.concatenate(distances).argmin())


def find_clusters(
    features: Images, weight: np.ndarray, n_clusters: int, n_init: int, seed: int
) -> list[np.ndarray]:
    """Return the rows of each cluster, none of them empty.

    Parameters
    ----------
    features : ndarray or Rows of shape (n_samples, ...)
    weight : ndarray of shape (n_samples,)
    n_clusters, n_init, seed : int
    """
    unit = _unit(features)
    # k-means has them in float32, where inverse variances of 1e40 are infinite; times
    # a power of 2 they say the same.
    weight = np.ldexp(weight, -int(np.frexp(weight.max())[1]))
    # NumPy's arrays, which scikit-learn 1.7 fails on where it dispatches on others.
    with config_context(array_api_dispatch=False):
        if np.prod(features.shape) <= _KMEANS_VALUES:
            found = KMeans(n_clusters, n_init=n_init, random_state=seed).fit(
                _flat(features, slice(None), unit), sample_weight=weight
            )
            labels = found.labels_
        else:
            labels = _in_batches(features, weight, n_clusters, n_init, seed, unit)
    clusters = [np.flatnonzero(labels == k) for k in range(n_clusters)]
    # Of fewer different images than clusters some are left empty: they take one of the
    # largest cluster each.
    for place, cluster in enumerate(clusters):
        if not len(cluster):
            largest = int(np.argmax([len(other) for other in clusters]))
            clusters[place], clusters[largest] = (
                clusters[largest][-1:],
                clusters[largest][:-1],
            )
    return clusters


def _unit(features: Images) -> float:
    """Return by what to divide features, a power of 2: 1 unless squares need another.

    Squares of fluxes of 1e-26 would vanish.
    """
    largest = max(
        float(np.abs(take(features, part, np.float64)).max())
        for part in batches(features)
    )
    power = int(np.frexp(largest)[1])
    return 1.0 if abs(power) <= _MAX_POWER or not largest else 2.0**power


def _in_batches(
    features: Images,
    weight: np.ndarray,
    n_clusters: int,
    n_init: int,
    seed: int,
    unit: float,
) -> np.ndarray:
    """Return the cluster of each row, by the best of some runs in mini-batches."""
    # As many at least as clusters, which the first batch starts.
    size = max(n_clusters, _KMEANS_VALUES // 4 // int(np.prod(features.shape[1:])))
    rng = np.random.default_rng(seed)
    best, labels = np.inf, np.zeros(len(features), dtype=np.int64)
    for run in range(n_init):
        model = MiniBatchKMeans(
            n_clusters, n_init=1, random_state=(seed + run) % 2**31, batch_size=size
        )
        for _ in range(_N_PASSES):
            order = rng.permutation(len(features))
            for start in range(0, len(order) - size + 1, size):
                # In the order of the file, which is read faster so.
                rows = np.sort(order[start : start + size])
                model.partial_fit(
                    _flat(features, rows, unit), sample_weight=weight[rows]
                )
        found, inertia = [], 0.0
        for start in range(0, len(features), size):
            part = slice(start, start + size)
            distances = model.transform(_flat(features, part, unit))
            found.append(distances.argmin(axis=1))
            inertia += float(weight[part] @ np.square(distances.min(axis=1)))
        if inertia < best:
            best, labels = inertia, np.concatenate(found)
    return labels


def _flat(features: Images, key: slice | np.ndarray, unit: float) -> np.ndarray:
    rows = np.asarray(features[key])
    # k-means keeps these types and turns others to float64.
    dtype = np.float64 if rows.dtype == np.float64 and rows.ndim == 2 else np.float32
    if unit != 1.0:
        rows = (rows.astype(np.float64) / unit).astype(dtype)
    return np.ascontiguousarray(rows.reshape(len(rows), -1), dtype=dtype)
