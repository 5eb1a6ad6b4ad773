"""The nearest real images, where it is known which these are."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    RandomSubset,
    SyntheticSet,
    TrajectoryBuffer,
)
from skdistill.inspection import NeighborsDisplay

# Rows of pixels as they are: features that a person can compute.
PIXELS = FunctionTransformer()


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5, 4, 3)).astype(np.float32)
    y = np.repeat(np.array(["disc", "edge-on", "merger", "round"]), 10)
    return X, y


@pytest.fixture(scope="module")
def synthetic():
    X = np.random.default_rng(1).normal(size=(4, 5, 4, 3)).astype(np.float32)
    return SyntheticSet(X, ["round", "disc", "disc", "edge-on"])


@pytest.mark.parametrize("same_class", [False, True])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
def test_neighbors_are_those_of_the_definition(images, synthetic, metric, same_class):
    X, y = images
    names = [f"J{row}" for row in range(len(X))]
    display = NeighborsDisplay.from_set(
        synthetic,
        X.reshape(len(X), -1),
        y,
        estimator=PIXELS,
        n_neighbors=3,
        metric=metric,
        same_class=same_class,
        names=names,
    )
    flat = X.reshape(len(X), -1).astype(np.float64)
    rows = []
    for place, label, number in (
        (1, "disc", 0),
        (2, "disc", 1),
        (3, "edge-on", 0),
        (0, "round", 0),
    ):
        point = synthetic.X[place].ravel().astype(np.float64)
        if metric == "euclidean":
            distance = ((flat - point) ** 2).sum(axis=1) ** 0.5
        elif metric == "manhattan":
            distance = np.abs(flat - point).sum(axis=1)
        else:
            sizes = np.linalg.norm(flat, axis=1) * np.linalg.norm(point)
            distance = 1 - flat @ point / sizes
        if same_class:
            distance[y != label] = np.inf
        for rank, row in enumerate(np.argsort(distance)[:3], 1):
            values = label, number, rank, row, names[row], y[row], distance[row]
            rows.append(dict(zip(display.table.columns, values, strict=True)))
    expected = pd.DataFrame(rows)
    pd.testing.assert_frame_equal(display.table, expected, check_dtype=False)
    assert [len(row) for row in display.images_] == [4] * 4
    shown = [text.get_text() for text in display.ax_.texts if "\n" in text.get_text()]
    colors = [text.get_color() for text in display.ax_.texts]
    wrong = (expected["class"] != expected["neighbor_class"]).sum()
    assert colors.count("tab:red") == wrong
    assert shown[0].startswith(f"{expected['neighbor_class'][0]}\n")


def test_pictures_are_those_of_the_table(images, synthetic):
    X, y = images
    display = NeighborsDisplay.from_set(
        synthetic, X, y, estimator=PIXELS, n_neighbors=2, value_range=(-3, 3)
    )
    scaled = ((X.clip(-3, 3) + 3) / 6 * 255).astype(np.float64)
    flat = display.table["neighbor"].to_numpy().reshape(4, 2)
    for row, drawn in zip(flat, display.images_, strict=True):
        for position, image in zip(row, drawn[1:], strict=True):
            np.testing.assert_allclose(image.get_array(), scaled[position], atol=0.51)


def test_a_real_image_is_its_own_neighbor_in_a_network(images):
    X, y = images
    chosen = RandomSubset(random_state=0).fit(X, y)
    network = ConvNetClassifier(width=4, depth=1, max_iter=1, random_state=0)
    model = DistilledClassifier(chosen, network).fit(X, y)
    for estimator in (model, model.estimator_):
        table = NeighborsDisplay.from_set(
            model.distiller_.synthetic_, X, y, estimator=estimator, n_neighbors=1
        ).table
        assert (table["class"] == table["neighbor_class"]).all()
        # Of batches of different sizes the features differ in the last digits.
        assert table["distance"].max() < 1e-4
    np.testing.assert_array_equal(X[table["neighbor"]], model.distiller_.synthetic_.X)


def test_fewer_images_than_asked_for_are_told(images, synthetic):
    X, y = images
    some = [0, 1, 10, 30, 31, 32]
    display = NeighborsDisplay.from_set(
        synthetic, X[some], y[some], estimator=PIXELS, same_class=True, n_neighbors=2
    )
    assert [len(row) for row in display.neighbors] == [2, 2, 1, 2]
    assert "fewer than 2" in display.note
    display = NeighborsDisplay.from_set(
        synthetic, X[some], y[some], estimator=PIXELS, n_neighbors=9, max_images=2
    )
    assert "there are 6 real images" in display.note
    assert "2 of 4" in display.note or "2 of 3" in display.note


def test_what_does_not_fit_is_named(images, synthetic):
    X, y = images

    def look(synthetic=synthetic, X=X, y=y, estimator=PIXELS, **parameters):
        return NeighborsDisplay.from_set(
            synthetic, X, y, estimator=estimator, **parameters
        )

    buffer = TrajectoryBuffer()
    subset = RandomSubset().fit(X, y)
    network = ConvNetClassifier()
    for wrong, message in (
        (buffer, r"buffer.classifier\(teacher=0\)"),
        (subset, "`estimator` must be a fitted network.*got RandomSubset"),
        (make_pipeline(ChannelScaler(), network), "pass its last step"),
        (ConvNetClassifier, "got the class ConvNetClassifier"),
        (None, "got NoneType"),
    ):
        with pytest.raises(TypeError, match=message):
            look(estimator=wrong)
    with pytest.raises(NotFittedError):
        look(estimator=network)
    with pytest.raises(NotFittedError):
        look(estimator=PCA(2))
    with pytest.raises(TypeError, match="got RandomSubset: pass its `synthetic_`"):
        look(synthetic=subset)
    with pytest.raises(ValueError, match=r"`y` must hold classes of the .*spiral"):
        look(y=np.repeat("spiral", 40))
    with pytest.raises(ValueError, match="`y` holds numbers"):
        look(y=np.arange(40))
    with pytest.raises(ValueError, match=r"each of the 40 images, .* got 39 labels"):
        look(y=y[1:])
    with pytest.raises(
        ValueError, match="`names` must hold one name for each of the 40"
    ):
        look(names=["one"])
    with pytest.raises(ValueError, match=r"no real image of the class 'disc'"):
        look(X=X[10:], y=y[10:], same_class=True)
    with pytest.raises(ValueError, match=r"shape .* = \(5, 4, 3\)"):
        look(X=X[:, :3])
    with pytest.raises(ValueError, match="'metric' parameter"):
        look(metric="hamming")
    broken = FunctionTransformer(lambda rows: rows * np.nan)
    with pytest.raises(ValueError, match="`estimator` must return a row of finite"):
        look(estimator=broken)


def test_images_of_another_pixel_space_are_warned_about(images, synthetic):
    X, y = images
    with pytest.warns(UserWarning, match="a different pixel space"):
        NeighborsDisplay.from_set(synthetic, 200 + 50 * X, y, estimator=PIXELS)
