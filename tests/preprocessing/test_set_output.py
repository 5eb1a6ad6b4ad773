"""Data frames hold tables: images stay arrays, whatever containers are configured."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from PIL import Image
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    Herding,
    ImageReader,
    RandomSubset,
    ZCAWhitener,
    evaluate_synthetic,
)
from skdistill.inspection import MeasuresDisplay, MorphologyMeasures
from skdistill.metrics import standard_estimators

SHAPE = (6, 5, 2)
X = np.random.default_rng(0).uniform(size=(12, *SHAPE)).astype(np.float32)
Y = np.arange(12) % 2
FLAT = X.reshape(12, -1)
NETWORK = ConvNetClassifier(width=2, depth=1, max_iter=1, device="cpu", random_state=0)
FRAMES = {"pandas": pd.DataFrame, "polars": pl.DataFrame}


def transformers():
    return [ChannelScaler(image_shape=SHAPE), ZCAWhitener(image_shape=SHAPE)]


@pytest.mark.parametrize("output", FRAMES)
@pytest.mark.parametrize("transformer", transformers())
def test_images_stay_arrays_and_tables_become_frames(transformer, output):
    expected = transformer.fit_transform(X)
    for configured in ("globally", "by set_output"):
        with sklearn.config_context(
            transform_output=output if configured == "globally" else "default"
        ):
            one = sklearn.base.clone(transformer)
            if configured == "by set_output":
                one.set_output(transform=output)
            for images in (one.fit_transform(X), one.fit(X).transform(X)):
                assert type(images) is np.ndarray
                assert np.array_equal(images, expected)
            for table in (one.fit_transform(FLAT), one.fit(FLAT).transform(FLAT)):
                assert isinstance(table, FRAMES[output])
                assert np.array_equal(table.to_numpy(), expected.reshape(12, -1))
            back = one.inverse_transform(expected)
            assert back.shape == X.shape


@pytest.mark.parametrize("output", FRAMES)
def test_everything_works_with_frames_configured(output):
    with sklearn.config_context(transform_output=output):
        model = make_pipeline(
            ChannelScaler(image_shape=SHAPE),
            ZCAWhitener(image_shape=SHAPE),
            DistilledClassifier(RandomSubset(random_state=0), NETWORK),
        )
        for images in (X, FLAT):
            assert model.fit(images, Y).predict(images).shape == (12,)
        model.fit(X, Y)
        assert model[-1].distiller_.synthetic_.to_images(model[:-1]).shape[1:3] == (
            6,
            5,
        )
        herding = Herding(features=NETWORK, random_state=0).fit(X, Y)
        evaluate_synthetic(
            herding.synthetic_, X, Y, estimator=NETWORK, n_repeats=1, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            forest = standard_estimators()["random forest"]
            assert forest.fit(X, Y).predict(X).shape == (12,)
        # Numbers are a table, of images too.
        table = MorphologyMeasures().fit_transform(X)
        assert isinstance(table, FRAMES[output])
        MeasuresDisplay.from_data(X, Y, X, Y)


def test_a_pipeline_that_reads_images(tmp_path):
    paths = []
    for place in range(12):
        pixels = (255 * X[place, ..., :1]).astype(np.uint8).repeat(3, axis=2)
        Image.fromarray(pixels).resize((8, 8)).save(tmp_path / f"{place}.png")
        paths.append(tmp_path / f"{place}.png")
    model = make_pipeline(ImageReader(crop=1, size=8), ChannelScaler(), NETWORK)
    model.set_output(transform="pandas").fit(paths, Y)
    assert type(model[:-1].transform(paths)) is np.ndarray
