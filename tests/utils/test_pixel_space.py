import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    ClassMeans,
    ConvNetClassifier,
    RandomSubset,
    STMDistiller,
    SyntheticSet,
    TrajectoryBuffer,
    ZCAWhitener,
    evaluate_synthetic,
    make_galaxies,
)
from skdistill.utils._pixel_space import ChannelMoments, pixel_space
from skdistill.utils._pixel_space_checks import differences, warn_of_other_space


@pytest.fixture(scope="module")
def galaxies():
    X, y = make_galaxies(180, size=16, random_state=0)
    return X, y


@settings(max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 5), *[st.integers(2, 6)] * 2, st.integers(1, 4)),
    offset=st.floats(-100, 100),
    seed=st.integers(0, 999),
)
def test_statistics_are_those_of_numpy(shape, offset, seed):
    images = np.random.default_rng(seed).normal(offset, 2, shape).astype(np.float32)
    found = pixel_space(images)
    exact = images.astype(np.float64)
    np.testing.assert_allclose(found.mean, exact.mean(axis=(0, 1, 2)), rtol=1e-6)
    deviation = exact.std(axis=(0, 1, 2))
    np.testing.assert_allclose(found.deviation, deviation, rtol=1e-4)
    exact -= exact.mean(axis=(0, 1, 2))
    neighbors = np.concatenate(
        [
            (exact[:, 1:] * exact[:, :-1]).reshape(-1, shape[3]),
            (exact[:, :, 1:] * exact[:, :, :-1]).reshape(-1, shape[3]),
        ]
    )
    expected = neighbors.mean(axis=0) / deviation**2
    np.testing.assert_allclose(found.correlation, expected, rtol=1e-3, atol=1e-4)


def test_one_pixel_and_constant_images():
    for images in (np.ones((3, 1, 1, 2)), np.full((2, 4, 4, 1), 7)):
        found = pixel_space(images)
        assert not found.deviation.any()
        assert not found.correlation.any()
        assert differences(found, found) == []


def test_images_of_one_kind_are_in_one_space(galaxies):
    X = ChannelScaler().fit_transform(galaxies[0])
    space = pixel_space(X[:100])
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert differences(space, pixel_space(X[rng.choice(len(X), 20)])) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda scaled, raw: raw, "standard deviation"),
        (lambda scaled, raw: 255 * raw, "standard deviation"),
        (lambda scaled, raw: scaled + 1.5, "mean"),
        (lambda scaled, raw: ZCAWhitener().fit_transform(scaled), "correlation"),
    ],
    ids=["not scaled", "of 8 bits", "shifted", "whitened"],
)
def test_other_spaces_are_told_apart(change, what, galaxies):
    raw = galaxies[0]
    scaled = ChannelScaler().fit_transform(raw)
    other = change(scaled, raw)
    space = pixel_space(scaled)
    with pytest.warns(UserWarning, match=f"in a different pixel space.*{what}"):
        warn_of_other_space(space, other)
    # Whichever of the two was distilled.
    assert any(what in text for text in differences(pixel_space(other), space))


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_told_is_not_warned_about(galaxies):
    raw, _ = galaxies
    space = pixel_space(ChannelScaler().fit_transform(raw))
    warn_of_other_space(None, raw)
    warn_of_other_space(space, raw[:1])
    warn_of_other_space(space, raw.reshape(len(raw), -1))
    warn_of_other_space(space, raw[..., :1])
    # A few tiny images, whose neighboring pixels are alike or not by chance.
    rng = np.random.default_rng(0)
    many = rng.normal(size=(400, 1, 1, 1)) + 0.6 * rng.normal(size=(400, 3, 3, 1))
    for few in many.reshape(-1, 2, 3, 3, 1):
        warn_of_other_space(None, many, own=few)


@pytest.fixture(scope="module")
def distilled(galaxies):
    raw, y = galaxies
    preprocessing = make_pipeline(ChannelScaler(), ZCAWhitener()).fit(raw)
    teachers = TrajectoryBuffer(
        n_teachers=1, n_epochs=2, width=4, depth=1, device="cpu", random_state=0
    )
    distiller = STMDistiller(
        buffer=teachers,
        n_steps=2,
        max_total_iter=2,
        estimator=ConvNetClassifier(width=4, depth=1, max_iter=2, device="cpu"),
        device="cpu",
        random_state=0,
    )
    return distiller.fit(preprocessing.transform(raw), y), preprocessing


@pytest.mark.filterwarnings("error")
def test_scores_on_images_of_the_right_space(distilled, galaxies):
    distiller, preprocessing = distilled
    X, y = preprocessing.transform(galaxies[0]), galaxies[1]
    distiller.score(X, y)
    network = distiller.estimator
    evaluate_synthetic(distiller.synthetic_, X, y, estimator=network, n_repeats=1)


def test_scores_on_images_of_the_wrong_space_are_warned_about(
    distilled, galaxies, tmp_path
):
    distiller, preprocessing = distilled
    raw, y = galaxies
    with pytest.warns(UserWarning, match="a different pixel space") as record:
        distiller.score(raw, y)
    assert record[0].filename == __file__
    distiller.synthetic_.save(tmp_path / "set")
    loaded = SyntheticSet.load(tmp_path / "set")
    half = preprocessing[:1].transform(raw)
    with pytest.warns(UserWarning, match="a different pixel space") as record:
        evaluate_synthetic(loaded, half, y, estimator=distiller.estimator, n_repeats=1)
    assert record[0].filename == __file__


def test_images_to_look_at(distilled):
    distiller, preprocessing = distilled
    synthetic = distiller.synthetic_
    original = preprocessing.inverse_transform(synthetic.X)
    pixels = synthetic.to_images(preprocessing, value_range=(0, 1))
    assert pixels.dtype == np.uint8
    expected = (255 * original.clip(0, 1)).round()
    np.testing.assert_allclose(pixels, expected, atol=1)
    # All images alike, by their own range.
    stretched = synthetic.to_images(preprocessing).astype(float)
    assert stretched.min() == 0
    assert stretched.max() == 255
    inside = (stretched > 0) & (stretched < 255)
    assert np.corrcoef(stretched[inside], original[inside])[0, 1] > 0.999
    assert synthetic.to_images().shape == synthetic.X.shape


def test_preprocessing_that_returns_something_else(distilled):
    class Flattening:
        def inverse_transform(self, X):
            return X[:, 1:]

    with pytest.raises(ValueError, match="`preprocessing` must return images of the"):
        distilled[0].synthetic_.to_images(Flattening())


@pytest.mark.parametrize(
    "space",
    [{"mean": 0.0}, [[0.0], [1.0], [0.5, 0.5]], "abc", [[0.0], [1.0], [np.nan]]],
)
def test_what_is_no_space(space):
    with pytest.raises(ValueError, match=r"`pixel_space` must be .*\(3, 1\); got"):
        SyntheticSet(np.zeros((1, 4, 4, 1)), [0], pixel_space=space)


def test_space_of_a_set(tmp_path):
    X, y = np.zeros((2, 4, 4, 2)), [0, 1]
    space = ([0.0, 1.0], [1.0, 2.0], [0.5, 0.25])
    SyntheticSet(X, y, pixel_space=space).save(tmp_path / "set")
    found = SyntheticSet.load(tmp_path / "set").pixel_space
    np.testing.assert_array_equal(found, space)
    assert found.deviation.tolist() == [1.0, 2.0]
    SyntheticSet(X, y).save(tmp_path / "set")
    assert SyntheticSet.load(tmp_path / "set").pixel_space is None
    for wrong in (space[:2], np.ones((3, 3)), np.full((3, 2), np.nan)):
        with pytest.raises(ValueError, match=r"`pixel_space` must .*\(3, 2\)"):
            SyntheticSet(X, y, pixel_space=wrong)


@pytest.mark.parametrize("form", ["float64", "int64"])
def test_contrast_that_float32_would_lose(galaxies, form):
    X, y = galaxies
    X = (255 * X).round().astype(np.int64)
    scale = 1 if form == "int64" else 1e-3
    network = ConvNetClassifier(width=4, depth=1, max_iter=1, device="cpu")
    teachers = TrajectoryBuffer(
        n_teachers=1, n_epochs=2, width=4, depth=1, device="cpu", random_state=0
    )
    fitted = TrajectoryBuffer(**teachers.get_params()).fit(
        ChannelScaler().fit_transform(X), y
    )
    for estimator in (
        network, teachers, RandomSubset(), STMDistiller(buffer=FrozenEstimator(fitted)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"float32.*would be lost.*ChannelScaler"):
            estimator.fit(((X + 2**33) * scale).astype(form), y)
    with pytest.warns(
        UserWarning, match=r"float32.*resolution.*is lost.*ChannelScaler"
    ) as told:
        RandomSubset().fit(((X + 2**28) * scale).astype(form), y)
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match=r"float32.*lost") as told:
        ClassMeans().fit(((X + 2**28) * scale).astype(form), y)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RandomSubset().fit(((X + 2**16) * scale).astype(form), y)
        # Nothing is lost that was there.
        RandomSubset().fit((X + 2**28).astype(np.float32), y)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, 1e8 / 3])
def test_no_contrast_is_none_that_is_lost(value):
    X = np.full((6, 3, 3, 2), value)
    X[..., 1] = np.random.default_rng(0).normal(size=(6, 3, 3))
    RandomSubset().fit(X, [0, 1] * 3)
    assert pixel_space(X).deviation[0] == 0


def test_moments_of_parts_are_those_of_the_whole():
    X = np.random.default_rng(0).normal(1e7, 1, (30, 4, 5, 3))
    found = ChannelMoments(3).add(X[:7]).add(X[7:8]).add(X[8:])
    np.testing.assert_allclose(found.mean, X.mean(axis=(0, 1, 2)), rtol=1e-14)
    np.testing.assert_allclose(found.deviation, X.std(axis=(0, 1, 2)), rtol=1e-7)
    np.testing.assert_allclose(found.total_deviation(), X.std(), rtol=1e-7)
    np.testing.assert_array_equal(found.low, X.min(axis=(0, 1, 2)))
    np.testing.assert_array_equal(found.high, X.max(axis=(0, 1, 2)))
