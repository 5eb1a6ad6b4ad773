import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

import skdistill.preprocessing._whitener as whitener_module
from skdistill import ChannelScaler, ZCAWhitener
from skdistill.utils._pixel_space import ChannelMoments


@pytest.fixture(scope="module")
def smooth():
    """Images (60, 6, 5, 2) whose pixels are correlated, about a mean that is not 0."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(60, 8, 7, 2))
    images = noise[:, :-2, :-2] + noise[:, 1:-1, 1:-1] + noise[:, 2:, 2:]
    return (images + np.array([3.0, -1.0])).astype(np.float32)


def by_definition(X, images, eps):
    """(C + eps I)^(-1/2) (x - m), by the eigenvalues of C."""
    flat = X.reshape(len(X), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    values, vectors = np.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    root = vectors @ np.diag((values + eps) ** -0.5) @ vectors.T
    white = (images.reshape(len(images), -1) - mean) @ root
    return white.reshape(images.shape)


@pytest.mark.parametrize("eps", [0.1, 1e-3])
@pytest.mark.parametrize("n_samples", [60, 59, 12, 2])
def test_definition(smooth, n_samples, eps):
    """Of more and of fewer images than pixel values, and of images not in fit."""
    X = smooth[:n_samples]
    white = ZCAWhitener(eps=eps).fit(X).transform(smooth)
    assert white.dtype == np.float32
    expected = by_definition(X, smooth, eps)
    np.testing.assert_allclose(white, expected, rtol=1e-4, atol=1e-5 / np.sqrt(eps))


def test_covariance_is_the_identity_without_eps():
    digits = load_digits().images[..., None]
    digits = digits[:, 2:6, 2:6]
    white = ZCAWhitener(eps=1e-9).fit_transform(digits).reshape(len(digits), -1)
    covariance = np.cov(white.T.astype(float), bias=True)
    np.testing.assert_allclose(covariance, np.eye(16), atol=1e-4)
    # Of all whitenings the one that leaves the images most like what they were.
    other = PCA(whiten=True).fit_transform(digits.reshape(len(digits), -1))
    centered = digits.reshape(len(digits), -1) - digits.reshape(len(digits), -1).mean(0)
    assert (white * centered).sum() > 2 * abs((other * centered).sum())


@settings(max_examples=40)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 4),
    offset=st.floats(-100, 100),
    unit=st.floats(-3, 3).map(lambda power: 10.0**power),
    eps=st.floats(-3, 1).map(lambda power: 10.0**power),
    seed=st.integers(0, 1000),
    flat=st.booleans(),
)
def test_inverse_round_trip(shape, offset, unit, eps, seed, flat):
    rng = np.random.default_rng(seed)
    X = (unit * (offset + rng.normal(size=shape))).astype(np.float32)
    X = X.reshape(len(X), -1) if flat else X
    whitener = ZCAWhitener(eps=eps * unit**2, image_shape=shape[1:])
    white = whitener.fit_transform(X)
    back = whitener.inverse_transform(white)
    assert white.shape == back.shape == X.shape
    assert back.dtype == np.float32
    # Rounded to float32 once in the unit of white pixels, once in that of X.
    scale = np.sqrt(whitener.variances_.max() + whitener.eps)
    atol = 1e-6 * (np.abs(X).max() + scale * np.abs(white).max())
    np.testing.assert_allclose(back, X, rtol=0, atol=atol)


@pytest.mark.parametrize("n_samples", [60, 7])
def test_components(smooth, n_samples):
    whitener = ZCAWhitener().fit(smooth[:n_samples])
    n_components = min(n_samples, 60)
    assert whitener.components_.shape == (n_components, 60)
    np.testing.assert_allclose(
        whitener.components_ @ whitener.components_.T, np.eye(n_components), atol=1e-9
    )
    pca = PCA().fit(smooth[:n_samples].reshape(n_samples, -1).astype(float))
    found = whitener.variances_ * n_samples / (n_samples - 1)
    np.testing.assert_allclose(found, pca.explained_variance_, rtol=1e-5, atol=1e-9)


def test_images_that_are_all_the_same(smooth):
    X = np.repeat(smooth[:1], 5, axis=0)
    whitener = ZCAWhitener().fit(X)
    np.testing.assert_allclose(whitener.transform(X), 0, atol=1e-5)
    np.testing.assert_allclose(
        whitener.inverse_transform(whitener.transform(smooth)), smooth, atol=1e-5
    )


def test_flattened_images(smooth):
    flat = smooth.reshape(len(smooth), -1)
    whitener = ZCAWhitener(image_shape=(6, 5, 2)).fit(flat)
    white = whitener.transform(smooth)
    np.testing.assert_array_equal(whitener.transform(flat), white.reshape(flat.shape))
    assert whitener.image_shape_ == (6, 5, 2)


def test_inputs_stay_as_they_are(smooth):
    before = smooth.copy()
    whitener = ZCAWhitener().fit(smooth)
    white = whitener.transform(smooth)
    copy = white.copy()
    whitener.inverse_transform(white)
    np.testing.assert_array_equal(smooth, before)
    np.testing.assert_array_equal(white, copy)


def test_errors(smooth):
    whitener = ZCAWhitener()
    for method in (whitener.transform, whitener.inverse_transform):
        with pytest.raises(NotFittedError):
            method(smooth)
    with pytest.raises(ValueError, match="The 'eps' parameter"):
        ZCAWhitener(eps=0).fit(smooth)
    whitener.fit(smooth)
    with pytest.raises(ValueError, match=r"= \(6, 5, 2\); got \(5, 6, 2\)"):
        whitener.transform(smooth.swapaxes(1, 2))


@pytest.mark.parametrize("cuts", [(70, 80), (1, 2, 3), (10, 100)])
def test_parts_are_as_good_as_the_whole(smooth, cuts):
    X = np.concatenate([smooth, smooth[:, ::-1] + 1])
    whole = ZCAWhitener().fit(X)
    parts = ZCAWhitener()
    for part in np.split(X, cuts):
        parts.partial_fit(part)
    assert parts.n_samples_seen_ == whole.n_samples_seen_ == 120
    np.testing.assert_allclose(parts.mean_, whole.mean_, rtol=1e-9)
    np.testing.assert_allclose(parts.variances_, whole.variances_, atol=1e-9)
    white = whole.transform(smooth)
    np.testing.assert_allclose(parts.transform(smooth), white, atol=1e-5)
    np.testing.assert_allclose(white, by_definition(X, smooth, 0.1), atol=1e-5)


def test_few_images_in_parts_and_small_batches(smooth, monkeypatch):
    """Fewer than pixel values: from products in a fit, from the covariance in parts."""
    X = smooth[:20]
    whole = ZCAWhitener().fit(X)
    parts = ZCAWhitener().partial_fit(X[:11]).partial_fit(X[11:])
    assert parts.components_.shape == whole.components_.shape
    white = whole.transform(smooth)
    np.testing.assert_allclose(parts.transform(smooth), white, atol=1e-5)
    monkeypatch.setattr(ZCAWhitener, "_batch_values", 180)
    small = ZCAWhitener().fit(X)
    np.testing.assert_allclose(small.transform(smooth), white, atol=1e-5)


@pytest.mark.parametrize("n_samples", [60, 20])
def test_a_large_offset_takes_no_contrast(smooth, n_samples):
    X = smooth[:n_samples].astype(np.float64)
    white = ZCAWhitener().fit_transform(X)
    far = ZCAWhitener().fit(X + 1e8)
    np.testing.assert_allclose(far.transform(X + 1e8), white, atol=1e-4)
    back = far.inverse_transform(far.transform(X + 1e8))
    np.testing.assert_allclose(back - 1e8, X, atol=1e-4)


@pytest.mark.parametrize("n_samples", [60, 20])
def test_partial_fit_after_a_fit_learns_on(smooth, n_samples):
    """Of more and of fewer images than pixel values in the first."""
    X = np.concatenate([smooth, smooth[::-1] * 2, smooth**2])
    whitener = ZCAWhitener().fit(X[:n_samples]).partial_fit(X[n_samples:])
    whole = ZCAWhitener().fit(X)
    assert whitener.n_samples_seen_ == len(X)
    np.testing.assert_allclose(whitener.transform(X), whole.transform(X), atol=1e-4)


@pytest.mark.parametrize("n_images", [10, 60])
@pytest.mark.parametrize(
    ("unit", "message"), [(1e-17, "hardly whitened"), (1e15, "rounding errors")]
)
def test_units_that_eps_is_not_meant_for_are_told(n_images, unit, message):
    X = np.random.default_rng(0).normal(size=(n_images, 4, 4, 2))
    with pytest.warns(UserWarning, match=f"{message}.*Apply a ChannelScaler first"):
        ZCAWhitener().fit(unit * X)
    scaled = ChannelScaler().fit_transform(unit * X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ZCAWhitener().fit_transform(scaled)
        ZCAWhitener().fit(0 * X)  # nothing to whiten
        ZCAWhitener().fit(0.1 * X + 0.5)  # 0 to 1
        ZCAWhitener().fit(60 * X + 128)  # 8 bits
        white = ZCAWhitener(eps=0.1 * unit**2).fit_transform(unit * X)
    np.testing.assert_allclose(white / white.std(), found / found.std(), atol=0.1)


@pytest.mark.parametrize("n_before", [0, 20])
def test_interrupted_partial_fits_do_not_count_images_twice(
    smooth, monkeypatch, n_before
):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    for transformer, place, name in (
        (ZCAWhitener(), whitener_module.scipy.linalg, "eigh"),
        (ChannelScaler(), ChannelMoments, "_add_batch"),
    ):
        expected = clone(transformer)
        for one in (transformer, expected):
            if n_before:
                one.partial_fit(smooth[:n_before])
        with monkeypatch.context() as patch:
            work = getattr(place, name)

            def half(self, *args, work=work, place=place, **kwargs):
                if place is ChannelMoments:
                    work(self, *args, **kwargs)
                interrupted()

            patch.setattr(place, name, half)
            with pytest.raises(KeyboardInterrupt):
                transformer.partial_fit(smooth[n_before:])
        for one in (transformer, expected):
            one.partial_fit(smooth[n_before:])
        assert transformer.n_samples_seen_ == len(smooth)
        np.testing.assert_allclose(
            transformer.transform(smooth), expected.transform(smooth), atol=1e-4
        )
