import numpy as np
import pytest

from skdistill.utils._images import Rows, batches, select, take, weighted_mean
from skdistill.utils._validation import check_finite_images, fingerprint_images


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 4, 3, 2), dtype=np.uint8)


def test_rows_are_those_of_the_array(images):
    chosen = np.array([5, 3, 19, 0])
    rows = select(images, chosen)
    assert isinstance(rows, Rows)
    assert rows.shape == (4, 4, 3, 2)
    assert rows.ndim == 4
    assert rows.dtype == np.uint8
    right = images[chosen]
    for key in (slice(1, 3), np.array([2, 2, 0]), -1, (slice(None), 1, slice(None), 0)):
        np.testing.assert_array_equal(rows[key], right[key])
    np.testing.assert_array_equal(np.asarray(rows), right)
    np.testing.assert_array_equal(select(rows, np.array([1, 3]))[:], right[[1, 3]])
    mask = np.arange(20) % 3 == 0
    np.testing.assert_array_equal(np.asarray(select(images, mask)), images[mask])


def test_batches_cover_everything_once(images):
    for n_values in (1, 24, 50, 10**9):
        parts = list(batches(images, n_values))
        np.testing.assert_array_equal(
            np.concatenate([images[p] for p in parts]), images
        )
        assert all((p.stop - p.start) * 24 <= max(n_values, 24) for p in parts)


def test_a_batch_is_a_copy(images):
    given = images.astype(np.float64)
    take(given, slice(0, 3), np.float64)[...] = -1
    assert given.min() >= 0


def test_weighted_mean(images, monkeypatch):
    weight = np.random.default_rng(1).random(20)
    right = np.average(images, axis=0, weights=weight)
    monkeypatch.setattr("skdistill.utils._images._BATCH_VALUES", 50)
    np.testing.assert_allclose(weighted_mean(images, weight), right, rtol=1e-12)


def test_checks_in_batches_are_those_of_the_whole(images, monkeypatch):
    X = images.astype(np.float32)
    whole = fingerprint_images(X, np.arange(20))
    monkeypatch.setattr("skdistill.utils._images._BATCH_VALUES", 50)
    assert fingerprint_images(images, np.arange(20)) == whole
    X[[3, 17], 1, 1, 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"NaN: in 2 of 20 .*\(positions 3, 17\)"):
        check_finite_images(X)
    check_finite_images(images)
    with pytest.raises(ValueError, match=r"too large for float32.* 1 of 20"):
        check_finite_images(
            np.where(np.arange(20)[:, None] == 4, 1e39, np.ones((20, 2)))
        )
