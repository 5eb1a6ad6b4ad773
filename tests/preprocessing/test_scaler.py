import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skdistill import ChannelScaler, ZCAWhitener


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.normal([10, -2, 0.1], [3, 0.5, 1e-3], size=(6, 5, 4, 3))


def test_statistics_are_those_of_numpy(images):
    images = images.astype(np.float32)
    scaler = ChannelScaler().fit(images)
    exact = images.astype(np.float64)
    np.testing.assert_allclose(scaler.mean_, exact.mean(axis=(0, 1, 2)), rtol=1e-9)
    np.testing.assert_array_equal(scaler.data_min_, images.min(axis=(0, 1, 2)))
    np.testing.assert_array_equal(scaler.data_max_, images.max(axis=(0, 1, 2)))
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
@pytest.mark.filterwarnings("ignore:X of shape")
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


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6, 1e8])
def test_a_large_offset_takes_no_contrast(offset):
    X = np.random.default_rng(0).normal([1, 2, 3], [0.1, 1, 10], (50, 6, 5, 3))
    images = X + offset
    mean, deviation = images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2))
    scaler = ChannelScaler().fit(images)
    np.testing.assert_allclose(scaler.scale_, deviation, rtol=1e-6)
    scaled = scaler.transform(images)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, (images - mean) / deviation, atol=1e-5)
    back = scaler.inverse_transform(scaled)
    np.testing.assert_allclose(back - offset, X, atol=1e-3)
    assert back.dtype == (np.float64 if abs(offset) > 1e5 else np.float32)


@pytest.mark.parametrize("form", ["int32", "uint16", "int64"])
def test_integers_with_an_offset(form):
    rng = np.random.default_rng(0)
    offset = 60_000 if form == "uint16" else 2_000_000_000
    X = rng.integers(0, 100, (40, 5, 5, 2)) + offset
    scaled = ChannelScaler().fit_transform(X.astype(form))
    right = (X - X.mean(axis=(0, 1, 2))) / X.std(axis=(0, 1, 2))
    np.testing.assert_allclose(scaled, right, atol=1e-5)


@pytest.mark.parametrize("form", ["uint8", "float32", "float64"])
def test_parts_are_as_good_as_the_whole(form, monkeypatch):
    X = np.random.default_rng(0).integers(0, 256, (37, 6, 5, 3)).astype(form)
    whole = ChannelScaler().fit(X)
    exact = X.astype(np.float64)
    np.testing.assert_allclose(whole.mean_, exact.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(whole.scale_, exact.std(axis=(0, 1, 2)), rtol=1e-12)
    parts = ChannelScaler()
    for start in (0, 1, 20):
        stop = {0: 1, 1: 20, 20: 37}[start]
        assert parts.partial_fit(X[start:stop]) is parts
    assert parts.n_samples_seen_ == whole.n_samples_seen_ == 37
    np.testing.assert_allclose(parts.mean_, whole.mean_, rtol=1e-12)
    np.testing.assert_allclose(parts.scale_, whole.scale_, rtol=1e-12)
    with pytest.raises(ValueError, match=r"= \(6, 5, 3\); got \(5, 6, 3\)"):
        parts.partial_fit(X.swapaxes(1, 2))
    # A fit forgets.
    np.testing.assert_array_equal(
        parts.fit(X[:5]).mean_, ChannelScaler().fit(X[:5]).mean_
    )
    # As many small batches as images.
    monkeypatch.setattr("skdistill.utils._images._BATCH_VALUES", 1)
    small = ChannelScaler().fit(X)
    np.testing.assert_allclose(small.scale_, whole.scale_, rtol=1e-12)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("make", [ChannelScaler, ZCAWhitener])
def test_results_in_a_file(make, flat, tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (30, 6, 5, 3), dtype=np.uint8)
    if flat:
        X = X.reshape(30, -1)
    np.save(tmp_path / "X.npy", X)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    transformer = make(image_shape=(6, 5, 3))
    expected = transformer.fit_transform(X)
    scaled = transformer.fit_transform(X, out=tmp_path / "scaled.npy")
    assert isinstance(scaled, np.memmap)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, expected)
    back = transformer.inverse_transform(scaled, out=tmp_path / "back.npy")
    np.testing.assert_array_equal(back, transformer.inverse_transform(expected))
    # In place of the file that is read.
    other = transformer.transform(X, out=str(tmp_path / "X.npy"))
    np.testing.assert_array_equal(other, expected)
    assert {path.name for path in tmp_path.iterdir()} == {
        "X.npy", "scaled.npy", "back.npy"
    }  # fmt: skip


def test_files_that_cannot_be_written(tmp_path, monkeypatch):
    X = np.zeros((4, 2, 2, 1))
    scaler = ChannelScaler().fit(X)
    with pytest.raises(ValueError, match=r"`out` must end in '\.npy'; got .*X\.dat"):
        scaler.transform(X, out=tmp_path / "X.dat")
    for wrong in (True, np.empty(X.shape)):
        with pytest.raises(TypeError, match=r"`out` must be a path"):
            scaler.transform(X, out=wrong)
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(ValueError, match=r"`out` must be a file; .* is a folder"):
        ChannelScaler().fit_transform(X, out=tmp_path / "folder.npy")
    np.save(tmp_path / "X.npy", X)
    with pytest.raises(ValueError, match="NaN"):
        scaler.transform(X + np.nan, out=tmp_path / "X.npy")
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"`out`.*needs 0\.0 GB on its disk"):
        scaler.transform(X, out=tmp_path / "X.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "X.npy"), X)
