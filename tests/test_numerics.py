"""Extreme but legal data: the whole way works, or the error says why it does not."""

import contextlib
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from skdistill import (
    ChannelScaler,
    ClassMeans,
    ConvNetClassifier,
    DistilledClassifier,
    FullData,
    Herding,
    KMeansPrototypes,
    MTTDistiller,
    RandomSubset,
    RotationAugmenter,
    STMDistiller,
    SyntheticSet,
    TrajectoryBuffer,
    ZCAWhitener,
    evaluate_synthetic,
)
from skdistill.inspection import MatchingDisplay, ProfileDisplay, SyntheticSetDisplay
from skdistill.utils._axes import is_channels_first
from skdistill.utils._pixel_space import pixel_scale, pixel_space

NETWORK = ConvNetClassifier(width=4, depth=1, max_iter=2, device="cpu", random_state=0)
TEACHERS = TrajectoryBuffer(
    n_teachers=1, n_epochs=2, width=4, depth=1, device="cpu", random_state=0
)
SHORT = {
    "buffer": TEACHERS,
    "n_steps": 2,
    "estimator": NETWORK,
    "device": "cpu",
    "random_state": 0,
}
STM = STMDistiller(max_total_iter=2, **SHORT)
MTT = MTTDistiller(max_iter=2, max_start_epoch=1, n_target_epochs=1, **SHORT)
BASELINES = [
    made(estimator=NETWORK, random_state=0)
    for made in (RandomSubset, ClassMeans, FullData, KMeansPrototypes, Herding)
]
NETWORKS = [NETWORK, TEACHERS, STM, MTT]
FAINT = ".*standard deviation of .* learns next to nothing .* ChannelScaler"


def each(estimators):
    return pytest.mark.parametrize(
        "estimator", estimators, ids=lambda estimator: type(estimator).__name__
    )


def make_images(n_classes=2, per_class=2, shape=(6, 5, 2), seed=0):
    """Make images whose class shows in their mean, and class codes."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n_classes * per_class) % n_classes
    return rng.normal(size=(len(codes), *shape)) + codes[:, None, None, None], codes


@st.composite
def image_sets(draw):
    """Draw images, labels, and the labels that there are."""
    shape = draw(
        st.tuples(
            st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 3, 64])
        ).filter(lambda shape: not is_channels_first(*shape))
    )
    X, codes = make_images(
        draw(st.integers(2, 5)), draw(st.integers(2, 3)), shape, draw(st.integers(0, 9))
    )
    kind = draw(st.sampled_from(["random", "flat", "same", "constant", "zero"]))
    if kind == "flat":
        X = np.broadcast_to(X.mean(axis=(1, 2, 3), keepdims=True), X.shape)
    elif kind != "random":
        X = np.broadcast_to({"same": X[:1], "constant": 0.1, "zero": 0}[kind], X.shape)
    # Times a float64, for then the product is of that type too.
    X = X * np.float64(10.0) ** draw(st.integers(-12, 12))
    form = draw(
        st.sampled_from(["f2", "f4", "f8", "u1", "i8", "?"])
        if np.abs(X).max() < 6e4
        else st.sampled_from(["f4", "f8"])
    )
    X = (X > 0 if form == "?" else X.clip(0, 255) if form == "u1" else X).astype(form)
    names = draw(
        st.sampled_from(
            [
                np.array([-7, -3, 0, 5, 9]),
                np.array(["", "b", "cd", "smooth disk", "ö"]),
                np.array([-2.0, 0.0, 1.0, 3.0, 1e6]),
                np.array([2**63, 1, 5, 7, 2**64 - 1], dtype=np.uint64),
                np.array(["a", "b", "c", "d", "e"], dtype=object),
                np.array([False, True]),
            ]
        )
    )
    codes = codes % len(names)
    return X, names[codes], {label for label in names[codes].tolist()}


@settings(max_examples=40, deadline=None)
@given(
    data=image_sets(),
    distiller=st.sampled_from([STM, MTT, *BASELINES]),
    whitened=st.booleans(),
    learned=st.booleans(),
)
def test_the_whole_way(data, distiller, whitened, learned, tmp_path_factory):
    X, y, labels = data
    scaler = ChannelScaler().fit(X)
    scaled = scaler.transform(X)
    assert np.isfinite(scaled).all()
    tolerance = 1e-5 * max(np.abs(X.astype(np.float64)).max(), 1e-30)
    np.testing.assert_allclose(scaler.inverse_transform(scaled), X, atol=tolerance)
    if whitened:
        whitener = ZCAWhitener().fit(scaled)
        white = whitener.transform(scaled)
        back = whitener.inverse_transform(white)
        np.testing.assert_allclose(back, scaled, atol=1e-4 * np.abs(scaled).max())
        scaled = white
    distiller = clone(distiller)
    if learned and "labels" in distiller.get_params():
        distiller.set_params(labels="learned", init="noise")
    synthetic = distiller.fit(scaled, y).synthetic_
    assert np.isfinite(synthetic.X).all()
    assert set(synthetic.y.tolist()) == labels
    assert len(synthetic) == len(y) or len(synthetic) == len(labels)
    if hasattr(distiller, "history_"):
        assert (distiller.history_["event"] == "").all()
        assert np.isfinite(distiller.history_[["loss", "misalignment"]]).all(axis=None)
    path = tmp_path_factory.mktemp("sets") / "set"
    synthetic.save(path)
    loaded = SyntheticSet.load(path)
    assert np.array_equal(loaded.X, synthetic.X)
    assert loaded.y.tolist() == synthetic.y.tolist()
    classifier = clone(NETWORK).fit(loaded.X, loaded.y)
    assert np.isfinite(classifier.predict_proba(scaled)).all()
    assert set(classifier.predict(scaled).tolist()) <= labels
    found = evaluate_synthetic(
        loaded, scaled, y, estimator=NETWORK, n_repeats=1, random_state=0
    )
    assert 0 <= found.mean <= 1
    assert 0 <= distiller.score(scaled, y) <= 1
    # What is shown has the unit of the catalog.
    pixels = synthetic.to_images(None if whitened else scaler)
    assert pixels.shape == (*synthetic.X.shape[:3], 3)
    assert synthetic._repr_html_().count("<img") == len(synthetic)


@settings(max_examples=15, deadline=None)
@given(data=image_sets(), estimator=st.sampled_from([NETWORK, STM, MTT]))
def test_pixels_as_they_are(data, estimator):
    """In whatever unit, there are finite numbers, and a warning where it is faint."""
    X, y, labels = data
    scale = pixel_scale(X.astype(np.float32))
    expected = (
        pytest.warns(UserWarning, match=FAINT)
        if scale < 0.01
        else contextlib.nullcontext()
    )
    with expected:
        fitted = clone(estimator).fit(X, y)
    if estimator is NETWORK:
        assert np.isfinite(fitted.predict_proba(X)).all()
        assert set(fitted.predict(X).tolist()) <= labels
    else:
        assert np.isfinite(fitted.synthetic_.X).all()
        assert set(fitted.synthetic_.y.tolist()) == labels


# The unit of the pixels


@pytest.mark.parametrize("exponent", [-40, -10, 10, 40])
def test_scaled_images_have_no_unit(exponent):
    X, y = make_images(per_class=6)
    X = X.astype(np.float32)
    results = []
    for unit in (1.0, 2.0**exponent):
        scaled = ChannelScaler().fit_transform(X * unit)
        distiller = clone(STM).fit(scaled, y)
        proba = clone(NETWORK).fit(scaled, y).predict_proba(scaled)
        results.append((scaled, distiller.synthetic_.X, proba))
    # Times a power of 2 nothing is rounded.
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)


def test_a_normalized_network_knows_no_large_unit():
    """Beside variances above 1 the epsilon of a normalization is nothing."""
    X, y = make_images(per_class=6)
    reference = None
    for unit in (1e3, 1e6, 1e12):
        fitted = clone(STM).fit(X * unit, y)
        proba = clone(NETWORK).fit(X * unit, y).predict_proba(X * unit)
        found = fitted.synthetic_.X / unit, proba, fitted.buffer_.snapshot(0, 2)
        reference = reference or found
        for one, other in zip(found, reference, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)


@each(NETWORKS)
def test_faint_images(estimator):
    X, y = make_images(per_class=4)
    with pytest.warns(UserWarning, match=FAINT):
        clone(estimator).fit(X * 1e-9, y)
    # Where all are the same, no unit would help.
    clone(estimator).fit(np.full_like(X, 1e-9), y)
    clone(estimator).fit(X, y)


def test_large_images_without_normalization():
    X, y = make_images(per_class=4)
    network = clone(NETWORK).set_params(normalization="none", learning_rate=1e-9)
    with pytest.warns(UserWarning, match="without normalization .* may diverge"):
        network.fit(X * 1e3, y)


@each(NETWORKS)
def test_images_beyond_arithmetic(estimator, tmp_path):
    X, y = make_images(per_class=4)
    X[3, 2, 1] = -1e19
    message = r"the pixels of X must be at most 1e\+18 .* got 1e\+19.* ChannelScaler"
    estimator = clone(estimator)
    if "path" in estimator.get_params():
        estimator.set_params(path=tmp_path / "teachers")
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, y)
    assert not (tmp_path / "teachers").exists()
    # What only moves pixels about does not mind.
    assert np.isfinite(ChannelScaler().fit_transform(X)).all()
    clone(BASELINES[0]).fit(X, y)


@each([ChannelScaler(), NETWORK, STM, BASELINES[1]])
def test_images_beyond_float32(estimator):
    X, y = make_images(per_class=4)
    X[3, 2, 1] = 1e200
    with pytest.raises(ValueError, match=r"too large for float32: in 1 of 8 .* 3\)"):
        clone(estimator).fit(X, y)


@pytest.mark.parametrize("value", [0.1, 1e-12, 1e12, -0.7])
def test_scale_of_a_constant_set(value):
    # The mean of many is rounded.
    images = np.full((1001, 7, 3, 1), value, dtype=np.float32)
    assert pixel_scale(images) == 1.0


@pytest.mark.parametrize("unit", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_space_of_any_unit(unit):
    X, _ = make_images(per_class=10)
    expected = pixel_space(X.astype(np.float32))
    found = pixel_space((X * unit).astype(np.float32))
    np.testing.assert_allclose(found.mean, expected.mean * unit, rtol=1e-4)
    np.testing.assert_allclose(found.deviation, expected.deviation * unit, rtol=1e-4)
    np.testing.assert_allclose(found.correlation, expected.correlation, atol=1e-4)


@pytest.mark.parametrize("n_images", [8, 300])
@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e6, 1e12])
def test_whitening_of_any_unit(unit, n_images):
    """Also of fewer images than pixels, where some directions do not vary at all."""
    X, _ = make_images(per_class=n_images // 2, shape=(8, 8, 1))
    X *= unit
    whitener = ZCAWhitener().fit(X)
    white = whitener.transform(X)
    assert np.isfinite(white).all()
    back = whitener.inverse_transform(white)
    np.testing.assert_allclose(back, X, atol=1e-5 * np.abs(X).max())
    # The formula, by an eigendecomposition of the whole covariance.
    flat = X.astype(np.float32).astype(np.float64).reshape(len(X), -1)
    centered = flat - flat.mean(axis=0)
    _, widths, directions = np.linalg.svd(centered, full_matrices=True)
    variances = np.zeros(64)
    variances[: len(widths)] = widths**2 / len(X)
    expected = centered @ directions.T / np.sqrt(variances + 0.1) @ directions
    # What does not vary, float64 holds to its rounding of what does.
    atol = 1e-4 * max(1, np.abs(expected).max()) + 1e-14 * np.abs(X).max()
    np.testing.assert_allclose(white.reshape(len(X), -1), expected, atol=atol)


# Labels


@each([NETWORK, TEACHERS, STM, DistilledClassifier(STM, NETWORK), *BASELINES])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", 3], r"same type: .* got 3 at position 1\. .* y.astype\(int\)"),
        ([7, -2], "got 7 at position 0"),
        ([True, False], "got True at position 0"),
        (["a", None], "got None at position 1"),
        (["a", np.nan], "got nan at position 1"),
        ([(1, 2), (3, 4)], r"got \(1, 2\) at position 0"),
        (pd.to_datetime(["2020", "2021"]), "got datetime64"),
    ],
    ids=["mixed", "integers", "booleans", "None", "NaN", "tuples", "dates"],
)
def test_labels_that_are_none(estimator, labels, message):
    X, codes = make_images(per_class=4)
    if isinstance(labels, list):
        y = np.empty(len(codes), dtype=object)
        y[:] = [labels[code] for code in codes]
    else:
        y = labels.to_numpy()[codes]
    with pytest.raises(ValueError, match=f"y must hold labels of .*{message}"):
        clone(estimator).fit(X, y)


@pytest.mark.parametrize(
    "y", [[None, "a"], np.array(["2020", "2021"], "M8[Y]"), [1j, 2], [b"a", b"b"]]
)
def test_set_with_labels_that_cannot_be_stored(y):
    with pytest.raises(ValueError, match="y must hold labels of the same type"):
        SyntheticSet(np.zeros((2, 3, 3, 1)), np.asarray(y))


@pytest.mark.parametrize(
    "kind", ["category", "string", "Int64", "boolean", "Float64", "int8", "uint8"]
)
def test_labels_of_a_data_frame(kind):
    X, codes = make_images(per_class=4)
    y = pd.Series(codes, index=range(10, 18)).astype(kind)
    fitted = clone(STM).fit(X, y)
    assert fitted.synthetic_.y.tolist() == np.unique(np.asarray(y)).tolist()


def test_rotated_rows_keep_their_labels():
    rows = pd.DataFrame({"path": ["a", "a", "b"]}, index=[3, 3, -1])
    for labels in ([-3, -3, 5], ["x", "x", ""], [True, True, False]):
        _, y = RotationAugmenter(n_rotations=2).fit_resample(rows, labels)
        assert sorted(y) == sorted(labels * 2)


# Many classes, small classes, large images


# scikit-learn takes so many for a regression.
@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_a_thousand_classes():
    X, y = make_images(1000, 2, shape=(4, 4, 1))
    fitted = clone(STM).fit(X, y)
    assert np.array_equal(fitted.synthetic_.y, np.arange(1000))
    network = clone(NETWORK).fit(*fitted.synthetic_)
    proba = network.predict_proba(X[:50])
    assert proba.shape == (50, 1000)
    np.testing.assert_allclose(proba.sum(axis=1), 1)


@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_classes_of_one_image():
    X, y = make_images(1000, 1, shape=(4, 4, 1))
    for estimator in (TEACHERS, STM, MTT):
        with pytest.raises(ValueError, match="at least 2 images; class 0 has") as error:
            clone(estimator).fit(X, y)
        assert "and 990 others" in str(error.value)
        assert len(str(error.value)) < 300
    # One image is enough for all that learns nothing of what a class varies by.
    for estimator in BASELINES:
        synthetic = clone(estimator).fit(X[:40], y[:40]).synthetic_
        assert np.array_equal(synthetic.X, X[:40].astype(np.float32))
    assert len(clone(NETWORK).fit(X, y).classes_) == 1000


def test_images_of_512_pixels():
    X, y = make_images(shape=(512, 512, 1))
    X = ChannelScaler().fit_transform(X)
    distiller = clone(STM).set_params(n_steps=1, max_total_iter=1).fit(X, y)
    assert np.isfinite(distiller.synthetic_.X).all()
    assert distiller.history_["loss"].between(0, 2).all()


# Displays


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (2, 2, 64)])
@pytest.mark.parametrize("unit", [0.0, 1e-12, 1e12])
def test_displays(shape, unit):
    X, y = make_images(per_class=4, shape=shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=FAINT)
        fitted = clone(STM).fit(X * unit, y)
    MatchingDisplay.from_estimator(fitted)
    SyntheticSetDisplay.from_estimator(fitted)
    if min(shape[:2]) > 1:
        ProfileDisplay.from_estimator(fitted, X * unit, y)
    else:
        with pytest.raises(ValueError, match="at least 2x2 pixels"):
            ProfileDisplay.from_estimator(fitted, X * unit, y)
    plt.close("all")
