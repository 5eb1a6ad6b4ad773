"""The way back to pixels, through steps for images and for tables."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    Normalizer,
    StandardScaler,
)

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    RandomSubset,
    ZCAWhitener,
)
from skdistill.inspection import DifferenceDisplay, SyntheticSetDisplay
from skdistill.utils._inverse import to_original_pixels

SHAPE = (6, 5, 3)
X = np.random.default_rng(0).uniform(1, 9, size=(12, *SHAPE)).astype(np.float32)
Y = np.arange(12) % 2
FLAT = X.reshape(12, -1)
NETWORK = ConvNetClassifier(width=2, depth=1, max_iter=1, device="cpu", random_state=0)


def flatten(images):
    return images.reshape(len(images), -1)


@pytest.mark.parametrize(
    ("steps", "flat"),
    [
        ([StandardScaler()], True),
        ([MinMaxScaler()], True),
        ([StandardScaler(), MinMaxScaler()], True),
        ([ChannelScaler(image_shape=SHAPE), StandardScaler()], True),
        ([StandardScaler(), ZCAWhitener(image_shape=SHAPE)], True),
        ([make_pipeline(StandardScaler()), MinMaxScaler()], True),
        (["passthrough", StandardScaler()], True),
        ([ChannelScaler(), FunctionTransformer(flatten), StandardScaler()], False),
        ([ChannelScaler(), ZCAWhitener()], False),
        ([], False),
    ],
)
def test_the_way_back(steps, flat):
    preprocessing = Pipeline([(str(n), step) for n, step in enumerate(steps)])
    given = FLAT if flat else X
    there = preprocessing.fit_transform(given) if steps else given
    back = to_original_pixels(preprocessing, np.reshape(there, X.shape))
    np.testing.assert_allclose(back, X, rtol=1e-4)


def test_steps_of_all_forms():
    scaler = MinMaxScaler().fit(FLAT)
    there = scaler.transform(FLAT).reshape(X.shape)
    for form in (
        [scaler],
        [("scale", scaler)],
        ("scale", scaler),
        ["passthrough", scaler],
    ):
        np.testing.assert_allclose(to_original_pixels(form, there), X, rtol=1e-4)
    for form in (None, "passthrough", [], [("scale", "passthrough")]):
        assert to_original_pixels(form, X) is X
    assert to_original_pixels(scaler, X[:0]).shape == (0, *SHAPE)
    for form in ("scaler.pkl", ["scaler.pkl"]):
        with pytest.raises(TypeError, match=r"`preprocessing` must be a fitted .*got"):
            to_original_pixels(form, X)


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler()])
def test_pictures_behind_scalers_of_tables(scaler):
    model = make_pipeline(
        scaler,
        DistilledClassifier(RandomSubset(random_state=0), NETWORK, image_shape=SHAPE),
    )
    model.fit(FLAT, Y)
    synthetic = model[-1].distiller_.synthetic_
    pixels = synthetic.to_images(model[:-1], value_range=(0, 10))
    # The subset is of real images: these pixels are theirs.
    real = (X[:, None] * 25.5).round()
    distance = np.abs(real - pixels[None].astype(float)).max(axis=(2, 3, 4)).min(axis=0)
    assert (distance <= 1).all()
    SyntheticSetDisplay.from_estimator(model)
    DifferenceDisplay.from_estimator(model, FLAT, Y)


def test_pipelines_that_were_fitted_to_tables():
    X = np.random.default_rng(0).uniform(size=(12, 4, 4, 1))
    y = np.arange(12) % 2
    table = pd.DataFrame(X.reshape(12, -1)).add_prefix("p")
    shape = (4, 4, 1)
    subset = RandomSubset(image_shape=shape, random_state=0)
    for scaler in (ChannelScaler(image_shape=shape), StandardScaler()):
        pipeline = make_pipeline(scaler, subset).fit(table, y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pixels = to_original_pixels(scaler, pipeline[-1].synthetic_.X)
            display = SyntheticSetDisplay.from_estimator(pipeline)
        plt.close(display.figure_)
        distances = np.abs(pixels[:, None] - X).max(axis=(2, 3, 4)).min(axis=1)
        assert distances.max() < 1e-6


def test_no_way_back():
    class OneWay:
        n_features_in_ = 90

    with pytest.raises(ValueError, match=r"`inverse_transform`.*OneWay has none"):
        to_original_pixels(OneWay(), X)
    fewer = StandardScaler().fit(FLAT[:, :60])
    with pytest.raises(ValueError, match=r"60 features|dim|return images of the shape"):
        to_original_pixels(fewer, X)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (make_pipeline(ChannelScaler(), Normalizer()), "Normalizer has none"),
        (Normalizer(), "Normalizer has none"),
        (ChannelScaler, "got the class ChannelScaler"),
        ("scaler", "'preprocessing' parameter"),
    ],
    ids=["pipeline", "no way back", "class", "name"],
)
def test_what_has_no_way_back_is_named(wrong, message):
    # scikit-learn's own error, which is both, or where it has none a TypeError.
    with pytest.raises((TypeError, ValueError), match=message):
        SyntheticSetDisplay.from_data(X, Y, preprocessing=wrong)
