"""Images of one value, and classes of one image, are told before the fit."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skdistill import ClassMeans, ConvNetClassifier, RandomSubset, make_galaxies
from skdistill.utils._blank_images import blank_images

RNG = np.random.default_rng(0)


def some_images(dtype=np.uint8, channels=3):
    X = RNG.integers(0, 255, (12, 6, 5, channels)).astype(dtype)
    return X, np.repeat(["a", "b"], 6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 5])
def test_blank_images_are_found(dtype, channels):
    X, y = some_images(dtype, channels)
    # A color of one's own for each channel is blank, one pixel is not.
    X[3] = np.arange(channels)
    X[7] = 0
    X[8] = 0
    X[8, 2, 3, 0] = 1
    assert blank_images(X) == [3, 7]
    assert blank_images(np.moveaxis(np.moveaxis(X, 3, 1).copy(), 1, 3)) == [3, 7]
    match = r"2 of 12 images in X have the same value .*positions 3, 7"
    with pytest.warns(UserWarning, match=match):
        RandomSubset(ipc=1).fit(X, y)
    with pytest.warns(UserWarning, match=match):
        RandomSubset(ipc=1, image_shape=X.shape[1:]).fit(X.reshape(12, -1), y)


def test_a_class_of_one_image():
    X, y = some_images()
    X[6:] = X[6]
    with pytest.warns(UserWarning, match="All 6 images of the class 'b' in X are"):
        ClassMeans().fit(X, y)
    with pytest.warns(UserWarning, match="class 'b'"):
        ConvNetClassifier(width=2, depth=1, max_iter=1).fit(X, y)


def test_no_false_alarm():
    galaxies, classes = make_galaxies(9, size=16, random_state=0)
    padded = np.pad(galaxies, ((0, 0), (20, 20), (20, 20), (0, 0)))
    digits, numbers = load_digits(return_X_y=True)
    table = np.zeros((8, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RandomSubset().fit(galaxies, classes)
        RandomSubset().fit(padded, classes)
        RandomSubset().fit(digits.reshape(-1, 8, 8, 1), numbers)
        # One image a class, and rows of a table.
        RandomSubset().fit(galaxies[:2], ["a", "b"])
        RandomSubset().fit(table, [0, 1] * 4)
