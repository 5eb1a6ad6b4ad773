import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import BaseEstimator

from skdistill.utils._validation import (
    check_class_sizes,
    check_finite_images,
    check_given_images,
    check_image_shape,
    check_images,
    check_weights,
    fingerprint_images,
    is_flattened,
)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(5, 4, 3, 2))


def _check(X, y=None, *, estimator=None, **options):
    estimator = BaseEstimator() if estimator is None else estimator
    return check_images(estimator, X, y, **{"reset": True, **options})


@pytest.mark.parametrize("shape", [(4, 3, 2), [4, 3, 2], np.array([4, 3, 2])])
def test_image_shape(shape):
    assert check_image_shape(shape) == (4, 3, 2)
    assert all(type(side) is int for side in check_image_shape(shape))


@pytest.mark.parametrize("shape", [(), (4, 3), (4, 3, 2, 1), (4, 0, 2), (4.0, 3, 2)])
def test_wrong_image_shape(shape):
    with pytest.raises(ValueError, match=r"`image_shape` must be \(height.*got \(.*\)"):
        check_image_shape(shape)


def test_four_and_two_axes_are_the_same_images(images):
    estimators = BaseEstimator(), BaseEstimator()
    checked, _ = _check(images, estimator=estimators[0])
    flat, _ = _check(
        images.reshape(5, -1), estimator=estimators[1], image_shape=[4, 3, 2]
    )
    assert checked.dtype == flat.dtype == images.dtype
    np.testing.assert_array_equal(checked, images)
    np.testing.assert_array_equal(flat, checked)
    for estimator in estimators:
        assert estimator.image_shape_ == (4, 3, 2)
        assert estimator.n_features_in_ == 24


def test_rows_without_a_shape_are_one_row_of_pixels():
    estimator = BaseEstimator()
    checked, _ = _check([[1, 2, 3], [4, 5, 6]], estimator=estimator)
    assert checked.shape == (2, 1, 3, 1)
    assert estimator.image_shape_ == (1, 3, 1)


def test_lists_and_frames(images):
    checked, _ = _check(images.tolist())
    np.testing.assert_array_equal(checked, images)
    estimator = BaseEstimator()
    frame = pd.DataFrame(images.reshape(5, -1)).add_prefix("pixel")
    _check(frame, estimator=estimator)
    assert estimator.feature_names_in_[0] == "pixel0"
    # Images have no names: those of the last fit must go.
    _check(images, estimator=estimator)
    assert not hasattr(estimator, "feature_names_in_")


def test_labels_are_checked(images):
    _, y = _check(images, ["a", "b", "a", "b", "a"], with_labels=True)
    assert y.tolist() == ["a", "b", "a", "b", "a"]
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[5, 4\]"):
        _check(images, [0, 1, 0, 1], with_labels=True)
    with pytest.raises(ValueError, match="Unknown label type"):
        _check(images, [0.1, 0.2, 0.3, 0.4, 0.5], with_labels=True)


def test_wrong_number_of_axes(images):
    with pytest.raises(ValueError, match=r"got 3-D \(4, 3, 2\).*np\.newaxis"):
        _check(images[0])
    with pytest.raises(ValueError, match=r"must be 4-D.*got 5-D \(1, 5, 4, 3, 2\)"):
        _check(images[None])
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        _check(images[0, 0, 0])


@pytest.mark.parametrize("shape", [(0, 4, 3, 2), (0, 24)])
def test_no_images(shape):
    with pytest.raises(ValueError, match=r"0 sample\(s\).*minimum of 1 is required"):
        _check(np.empty(shape))


def test_images_without_pixels():
    with pytest.raises(ValueError, match=r"with pixels; got shape \(2, 4, 0, 3\)"):
        _check(np.empty((2, 4, 0, 3)))


def test_ragged_lists(images):
    two_sizes = [images[0].tolist(), images[0, :, :2].tolist()]
    with pytest.raises(
        ValueError, match=r"the same size.*\[\(4, 2, 2\), \(4, 3, 2\)\]"
    ):
        _check(two_sizes)
    with pytest.raises(ValueError, match=r"the same size.*rows of different lengths"):
        _check([[[1.0, 2.0], [3.0]]])


def test_image_shape_that_does_not_fit(images):
    with pytest.raises(ValueError, match=r"24 features, but `image_shape`=\(4, 4, 2\)"):
        _check(images.reshape(5, -1), image_shape=(4, 4, 2))
    message = r"= \(3, 4, 2\); got \(4, 3, 2\)"
    with pytest.raises(ValueError, match=message):
        _check(images, image_shape=(3, 4, 2))


@pytest.mark.parametrize("shape", [(3, 4, 2), (4, 2, 2), (4, 3, 3)])
def test_other_images_than_in_fit(images, shape):
    estimator = BaseEstimator()
    _check(images, estimator=estimator)
    message = re.escape(f"= (4, 3, 2); got {shape}")
    with pytest.raises(ValueError, match=message):
        _check(np.zeros((2, *shape)), estimator=estimator, reset=False)
    with pytest.raises(ValueError, match="25 features, but BaseEstimator is expecting"):
        _check(np.zeros((2, 25)), estimator=estimator, reset=False)
    assert estimator.image_shape_ == (4, 3, 2)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.full((2, 2, 2, 1), 1j), "Complex data not supported"),
        (np.full((2, 2, 2, 1), "a"), "must hold pixels; got text"),
    ],
)
def test_images_that_are_no_numbers(X, message):
    with pytest.raises(ValueError, match=message):
        _check(X)


def test_sparse_images():
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        _check(sparse.csr_array(np.eye(3)))


@pytest.mark.parametrize(
    ("value", "kind"), [(np.nan, "NaN:"), (np.inf, "infinity"), (-np.inf, "infinity")]
)
@pytest.mark.parametrize("flat", [True, False])
def test_the_error_names_the_images_that_are_not_finite(images, value, kind, flat):
    images[1, 0, 0, 0] = images[3, 3, 2, 1] = value
    X = images.reshape(5, -1) if flat else images
    message = rf"Input X contains {kind}.*in 2 of 5 images \(positions 1, 3\)"
    with pytest.raises(ValueError, match=message):
        _check(X, image_shape=(4, 3, 2))


def test_both_infinities_raise_the_error_and_no_warning():
    X = np.array([[np.inf, -np.inf], [0, 0]], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"infinity.*1 of 2 images \(.* 0\)"):
            check_finite_images(X)


def test_long_list_of_positions_is_cut():
    with pytest.raises(ValueError, match=r"9 of 9 images \(.* 3, 4, \.\.\.\)"):
        check_finite_images(np.full((9, 2), np.nan, dtype=np.float32))


def test_finite_pixels_whose_sum_is_large_pass():
    largest = np.finfo(np.float32).max
    check_finite_images(np.full((50, 2), largest, dtype=np.float32))


def test_is_flattened(images):
    class ArrayLike:
        def __array__(self, dtype=None, copy=None):
            return np.zeros((2, 3))

    assert not is_flattened(images)
    assert not is_flattened(images.tolist())
    for flat in (images[0, 0], images[0, 0].tolist(), pd.DataFrame([[1]]), ArrayLike()):
        assert is_flattened(flat)


@pytest.mark.parametrize(
    "weight",
    ["balanced", ["a", "b"], [1.0, None], [{}, 1], [[1.0, 2.0]], [1.0], [-1, 1]],
)
def test_weights_that_are_none_are_named(weight):
    with pytest.raises(ValueError, match="sample_weight"):
        check_weights(weight, np.zeros((2, 1, 1, 1)), np.arange(2))


def test_class_sizes():
    y = np.array(["a"] * 3 + ["b"] * 2 + ["c"])
    check_class_sizes(y, 1, "why")
    message = "^why: .* must have at least 3 images; class 'b' has 2, 'c' has 1$"
    with pytest.raises(ValueError, match=message):
        check_class_sizes(y, 3, "why")
    with pytest.raises(ValueError, match="at least two classes; got one class, 7"):
        check_class_sizes(np.array([7, 7]), 1, "why")


@given(st.integers(0, 23), st.integers(0, 1))
def test_fingerprint_changes_with_any_pixel_or_label(pixel, image):
    X = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2)
    y = np.array([0, 1])
    digest = fingerprint_images(X, y)
    assert re.fullmatch("[0-9a-f]{32}", digest)
    other = X.copy()
    other.flat[pixel] = np.nextafter(other.flat[pixel], np.float32(100))
    assert fingerprint_images(other, y) != digest
    labels = y.copy()
    labels[image] = 2
    assert fingerprint_images(X, labels) != digest


def test_fingerprint_depends_on_values_and_shape_not_on_memory():
    X = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2)
    y = np.array([0, 1])
    digest = fingerprint_images(X, y)
    assert fingerprint_images(np.asfortranarray(X), y.astype(np.int32)) == digest
    assert fingerprint_images(X.astype(">f4"), y) == digest
    for shape in [(2, 3, 2, 2), (2, 2, 2, 3), (2, 12, 1, 1)]:
        assert fingerprint_images(X.reshape(shape), y) != digest
    assert fingerprint_images(X[::-1], y) != digest
    assert fingerprint_images(X, y[::-1]) != digest


def test_given_images():
    images = check_given_images([[[[1]]]], "init", (1, 1, 1, 1))
    assert images.dtype == np.float32
    with pytest.raises(ValueError, match=r"`init`.*\(1, 1, 1, 1\); got \(1, 1, 2, 1\)"):
        check_given_images([[[[1], [2]]]], "init", (1, 1, 1, 1))
    with pytest.raises(ValueError, match="Input init contains NaN"):
        check_given_images([[[[np.nan]]]], "init", (1, 1, 1, 1))
