"""What is certain about the order of axes is refused, what is likely told, and once."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    RandomSubset,
    STMDistiller,
    SyntheticSet,
    TrajectoryBuffer,
)
from skdistill.utils._axes import check_axis_order, square_shape
from skdistill.utils._validation import check_image_shape


def warnings_of(do):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        do()
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    "shape",
    [
        (9, 3, 16, 16),
        (9, 1, 28, 28),
        (9, 4, 8, 8),
        (9, 3, 24, 32),
        (9, 4, 64, 48),
        (1, 3, 224, 224),
    ],
)
def test_channels_first_is_refused(shape):
    with pytest.raises(ValueError, match=r"pass X\.transpose\(0, 2, 3, 1\)"):
        check_axis_order(shape, "X")


@pytest.mark.parametrize(
    "shape",
    [
        (9, 4, 4, 3),
        (9, 3, 3, 3),
        (9, 1, 64, 1),
        (9, 1, 784, 1),
        (9, 1, 128, 9),  # a signal of nine channels
        (9, 1, 1, 512),  # features
        (9, 3, 3, 200),  # patches of many bands
        (9, 16, 16, 5),
        (9, 5, 5, 5),
        (9, 8, 8, 3),
        (9, 32, 32, 32),
        (9, 3, 32, 1),
        (9, 4, 32, 3),
        (9, 1, 5, 4),
        (64, 64, 1, 16),  # as many signals as each is long
        (8, 8, 3, 5),
        (100, 32, 3, 32),
    ],
)
def test_what_is_legitimate_is_taken_without_a_word(shape):
    assert warnings_of(lambda: check_axis_order(shape, "X")) == []


@pytest.mark.parametrize(
    "shape", [(9, 5, 32, 32), (9, 2, 64, 64), (9, 1, 28, 20), (9, 3, 6, 6)]
)
def test_what_is_likely_is_told(shape):
    (message,) = warnings_of(lambda: check_axis_order(shape, "X"))
    assert f"{shape[1]} pixels high and {shape[2]} wide" in message
    assert "X.transpose(0, 2, 3, 1)" in message


def test_samples_last_is_refused():
    with pytest.raises(ValueError, match=r"X\.transpose\(3, 0, 1, 2\)"):
        check_axis_order((32, 32, 3, 1000), "X")


def test_the_order_that_a_fit_has_seen():
    check_axis_order((9, 3, 16, 16), "X", (3, 16, 16))
    with pytest.raises(ValueError, match=r"\(5, 8, 6\).*X\.transpose\(0, 2, 3, 1\)"):
        check_axis_order((9, 5, 8, 6), "X", (8, 6, 5))


def test_image_shape_in_the_order_of_pytorch():
    with pytest.raises(ValueError, match=r"X\.reshape\(-1, 3, 32, 32\)\.transpose"):
        check_image_shape((3, 32, 32))
    X = np.zeros((9, 3072))
    with pytest.raises(ValueError, match="`image_shape` must be"):
        ChannelScaler(image_shape=(3, 32, 32)).fit(X)


def test_initial_images_in_the_order_of_pytorch():
    X = np.random.default_rng(0).normal(size=(8, 6, 5, 3)).astype(np.float32)
    teachers = TrajectoryBuffer(n_teachers=1, n_epochs=1, width=2)
    distiller = STMDistiller(buffer=teachers, init=X[:2].transpose(0, 3, 1, 2))
    message = r"init must hold .*\(6, 5, 3\).*init\.transpose\(0, 2, 3, 1\)"
    with pytest.raises(ValueError, match=message):
        distiller.fit(X, np.arange(8) % 2)


# Flattened squares


@pytest.mark.parametrize(
    ("n_features", "shape"),
    [
        (64, (8, 8, 1)),
        (784, (28, 28, 1)),
        (3072, (32, 32, 3)),
        (4, None),
        (49, None),
        (63, None),
        (100, (10, 10, 1)),
        (48, None),
    ],
)
def test_squares(n_features, shape):
    assert square_shape(n_features) == shape


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True, as_frame=True)
    return X[:60], y[:60]


NETWORK = ConvNetClassifier(width=2, depth=1, max_iter=1)
TEACHERS = TrajectoryBuffer(n_teachers=1, n_epochs=2, width=2, depth=1)


@pytest.mark.parametrize(
    "estimator",
    [
        ChannelScaler(),
        NETWORK,
        TEACHERS,
        RandomSubset(),
        STMDistiller(buffer=TEACHERS, n_steps=1, max_total_iter=1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_flattened_squares_are_told_of_once(estimator, digits):
    X, y = digits
    for given in (X, X.to_numpy(), X.to_numpy().tolist()):
        (message,) = warnings_of(lambda given=given: estimator.fit(given, y))
        assert "`image_shape`=(8, 8, 1)" in message
        assert "`image_shape`=(1, 64, 1)" in message
    for shape in ((8, 8, 1), (1, 64, 1)):
        names = [n for n in estimator.get_params() if n.endswith("image_shape")]
        told = estimator.__sklearn_clone__().set_params(**dict.fromkeys(names, shape))
        assert warnings_of(lambda told=told: told.fit(X, y)) == []


def test_tables_and_images_are_not_told_of(digits):
    X, y = digits
    of_names = X.set_axis(
        [f"{'abcdefgh'[i % 8]}{'klmnopqr'[i // 8]}" for i in range(64)], axis=1
    )
    assert warnings_of(lambda: NETWORK.fit(of_names, y)) == []
    assert warnings_of(lambda: NETWORK.fit(X.iloc[:, :30], y)) == []
    images = X.to_numpy().reshape(-1, 8, 8, 1)
    assert warnings_of(lambda: NETWORK.fit(images, y).predict(images)) == []
    rows = pd.DataFrame(np.zeros((9, 65)))
    assert warnings_of(lambda: ChannelScaler().fit(rows)) == []


def test_likely_orders_are_told_of_once_in_a_fit():
    X = np.random.default_rng(0).normal(size=(9, 5, 16, 16)).astype(np.float32)
    y = np.arange(9) % 3
    # Not those of another test, which are fitted.
    teachers = TrajectoryBuffer(n_teachers=1, n_epochs=2, width=2, depth=1)
    distiller = STMDistiller(buffer=teachers, n_steps=1, max_total_iter=1)
    assert len(warnings_of(lambda: distiller.fit(X, y))) == 1
    model = DistilledClassifier(RandomSubset(), NETWORK)
    assert len(warnings_of(lambda: model.fit(X, y))) == 1
    assert warnings_of(lambda: model.predict(X)) == []


def test_flattened_images_of_a_distilled_classifier(digits):
    X, y = digits
    model = DistilledClassifier(RandomSubset(), NETWORK)
    assert len(warnings_of(lambda: model.fit(X.to_numpy(), y))) == 1
    assert warnings_of(lambda: model.predict(X.to_numpy())) == []
    shaped = make_pipeline(
        ChannelScaler(image_shape=(8, 8, 1)),
        DistilledClassifier(RandomSubset(image_shape=(8, 8, 1)), NETWORK),
    )
    assert warnings_of(lambda: shaped.fit(X.to_numpy(), y)) == []
    assert shaped[-1].estimator_.image_shape_ == (8, 8, 1)
    assert SyntheticSet(*shaped[-1].distiller_.synthetic_).X.shape == (10, 8, 8, 1)
