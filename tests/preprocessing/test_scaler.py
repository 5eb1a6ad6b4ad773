import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skdistill import ChannelScaler


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.normal([10, -2, 0.1], [3, 0.5, 1e-3], size=(6, 5, 4, 3))


def test_statistics_are_those_of_numpy(images):
    images = images.astype(np.float32)
    scaler = ChannelScaler().fit(images)
    exact = images.astype(np.float64)
    np.testing.assert_allclose(scaler.mean_, exact.mean(axis=(0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(scaler.scale_, exact.std(axis=(0, 1, 2)), rtol=1e-6)
    scaled = scaler.transform(images)
    assert scaled.dtype == np.float32
    assert scaled.shape == images.shape
    np.testing.assert_allclose(scaled.mean(axis=(0, 1, 2), dtype=float), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=(0, 1, 2), dtype=float), 1, atol=1e-5)


@given(
    offset=st.floats(-1e6, 1e6),
    unit=st.floats(-3, 6).map(lambda power: 10.0**power),
    seed=st.integers(0, 1000),
)
def test_deviation_about_a_large_mean(offset, unit, seed):
    X = offset + unit * np.random.default_rng(seed).normal(size=(3, 4, 4, 1))
    X = X.astype(np.float32)
    scaler = ChannelScaler().fit(X)
    exact = X.astype(np.float64)
    np.testing.assert_allclose(
        scaler.mean_, [exact.mean()], rtol=1e-9, atol=1e-9 * unit
    )
    if exact.std() > 1e-6 * abs(offset):
        np.testing.assert_allclose(scaler.scale_, [exact.std()], rtol=1e-5)


@given(
    shape=st.tuples(*[st.integers(1, 5)] * 4),
    offset=st.floats(-100, 100),
    unit=st.floats(-6, 6).map(lambda power: 10.0**power),
    seed=st.integers(0, 1000),
    flat=st.booleans(),
)
def test_inverse_round_trip(shape, offset, unit, seed, flat):
    rng = np.random.default_rng(seed)
    X = (unit * (offset + rng.normal(size=shape))).astype(np.float32)
    scaler = ChannelScaler(image_shape=shape[1:])
    X = X.reshape(len(X), -1) if flat else X
    scaled = scaler.fit_transform(X)
    back = scaler.inverse_transform(scaled)
    assert scaled.shape == back.shape == X.shape
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, X, rtol=1e-6, atol=1e-6 * np.abs(X).max())


@pytest.mark.parametrize("value", [0, 0.1, 255, -1e6])
def test_constant_channel(images, value):
    images[..., 1] = value
    scaler = ChannelScaler().fit(images)
    assert scaler.scale_[1] == 1
    scaled = scaler.transform(images)
    np.testing.assert_allclose(scaled[..., 1], 0, atol=1e-6)
    np.testing.assert_allclose(scaler.inverse_transform(scaled), images, rtol=1e-5)


def test_flattened_images(images):
    flat = images.reshape(6, -1)
    scaler = ChannelScaler().fit(images)
    expected = scaler.transform(images)
    np.testing.assert_array_equal(scaler.transform(flat), expected.reshape(6, -1))
    fitted = ChannelScaler(image_shape=(5, 4, 3)).fit(flat)
    np.testing.assert_array_equal(fitted.mean_, scaler.mean_)
    np.testing.assert_array_equal(fitted.transform(images), expected)
    np.testing.assert_array_equal(fitted.transform(flat.tolist()).shape, flat.shape)
    # without a shape one row of pixels of one channel
    assert ChannelScaler().fit(flat).mean_ == pytest.approx([images.mean()])


def test_frame_of_pixels(images):
    frame = pd.DataFrame(images.reshape(6, -1)).add_prefix("pixel")
    scaler = ChannelScaler(image_shape=(5, 4, 3)).set_output(transform="pandas")
    scaled = scaler.fit_transform(frame)
    assert scaled.columns.tolist() == frame.columns.tolist()
    np.testing.assert_array_equal(scaled, scaler.transform(frame.copy()))


def test_integers_and_memory(images):
    X = images.clip(0, 255).astype(np.uint8)
    scaler = ChannelScaler().fit(X)
    before = X.copy()
    expected = scaler.transform(X)
    for other in (X.astype(float), np.asfortranarray(X), X.tolist()):
        np.testing.assert_array_equal(scaler.transform(other), expected)
    np.testing.assert_array_equal(X, before)
    scaler.inverse_transform(expected)
    np.testing.assert_array_equal(expected, scaler.transform(X))


def test_errors(images):
    scaler = ChannelScaler()
    for method in (scaler.transform, scaler.inverse_transform):
        with pytest.raises(NotFittedError):
            method(images)
    scaler.fit(images)
    for method in (scaler.transform, scaler.inverse_transform):
        with pytest.raises(ValueError, match=r"= \(5, 4, 3\); got \(4, 5, 3\)"):
            method(images.swapaxes(1, 2))
    images[2, 0] = np.inf
    with pytest.raises(ValueError, match=r"infinity.*\(positions 2\)"):
        scaler.transform(images)


def test_pickle_and_clone(images):
    scaler = ChannelScaler(image_shape=(5, 4, 3)).fit(images)
    copy = pickle.loads(pickle.dumps(scaler))
    np.testing.assert_array_equal(copy.transform(images), scaler.transform(images))
    assert clone(scaler).image_shape == (5, 4, 3)
