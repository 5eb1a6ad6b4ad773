"""Which values are shown as black and white."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skdistill import ChannelScaler, ZCAWhitener, make_galaxies
from skdistill.utils._stretch import find_stretch


def uniform(low, high, size=(30, 6, 6, 3), seed=0):
    return np.random.default_rng(seed).uniform(low, high, size).astype(np.float32)


@pytest.mark.parametrize(
    ("images", "expected", "said"),
    [
        (uniform(0, 255), (0, 255), "8 bits"),
        (uniform(0, 70).astype(np.uint8), (0, 255), "8 bits"),
        (uniform(0, 1), (0, 1), "0 to 1"),
        (uniform(0, 2).astype(np.uint8), (0, 1), "0 to 1"),  # a mask
        (uniform(-1, 1), (-1, 1), "-1 to 1"),
        # Distilled images: as above, with noise.
        (uniform(-40, 290), (0, 255), "8 bits"),
        (uniform(-0.1, 1.1), (0, 1), "0 to 1"),
    ],
)
def test_kinds_of_images_are_known(images, expected, said):
    stretch = find_stretch(images)
    assert stretch.value_range == expected
    assert said in stretch.note
    assert "set `value_range` to change it" in stretch.note


@pytest.mark.parametrize(
    "images",
    [
        uniform(0, 16),  # digits
        uniform(0, 16).astype(np.uint8),
        np.random.default_rng(0).normal(size=(20, 6, 6, 3)),  # scaled
        uniform(900, 1200),  # counts
        uniform(150, 240),  # counts in the range of 8 bits
        uniform(0, 60000).astype(np.uint16),
        uniform(-0.01, 0.2),  # faint flux
    ],
)
def test_other_images_are_shown_in_their_own_range(images):
    low, high = np.quantile(images, [0.005, 0.999])
    stretch = find_stretch(images)
    assert stretch.value_range == pytest.approx((low, high), rel=1e-6)
    assert "of the images" in stretch.note


def test_a_scaler_knows_what_the_real_images_were():
    real = uniform(0, 255).round()
    odd = uniform(80, 90)  # distilled images without contrast
    scaler = ChannelScaler().fit(real)
    steps = make_pipeline(ChannelScaler(), ZCAWhitener()).fit(real)
    table = MinMaxScaler().fit(real.reshape(len(real), -1))
    for preprocessing in (scaler, steps, table):
        stretch = find_stretch(odd, preprocessing)
        assert stretch.value_range == (0, 255)
        assert "real images" in stretch.note
    # Of another unit, the range of most real pixels: the sky is black.
    X, _ = make_galaxies(60, size=16, random_state=0)
    flux = 37 * X - 2
    low, high = find_stretch(odd, ChannelScaler().fit(flux)).value_range
    assert low == pytest.approx(flux.min())
    assert np.quantile(flux, 0.99) < high <= flux.max()
    # What is fitted to the images after something else knows nothing of them.
    unknown = make_pipeline(ZCAWhitener(), ChannelScaler()).fit(real)
    assert "8 bits" not in find_stretch(odd, unknown).note


def test_the_user_decides():
    assert find_stretch(uniform(0, 1), value_range=(-2, 5)).value_range == (-2, 5)
    for wrong in [(1, 0), (0, np.nan), 3, "black", (0, 1, 2)]:
        with pytest.raises(ValueError, match=r"`value_range` must be \(low, high\)"):
            find_stretch(uniform(0, 1), value_range=wrong)
    # Weights that do not add up to one leave the unit.
    images = uniform(0, 1)
    stretch = find_stretch(images, composite=100 * np.eye(3))
    assert stretch.value_range[1] > 50
    assert "weights" in stretch.note
    stretch = find_stretch(uniform(0, 1, (9, 4, 4, 5)))
    assert "red: 0, 1; green: 2; blue: 3, 4" in stretch.note


def test_masks_are_shown_too():
    for mask in (np.zeros((2, 4, 4, 1), bool), np.ones((2, 4, 4, 1), bool)):
        assert find_stretch(mask)(mask).dtype == np.uint8
