"""Labels that teachers doubt, where some are known to be wrong."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

from skdistill import STMDistiller, TrajectoryBuffer
from skdistill.inspection import find_label_errors

NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven"])


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(n_class=8, return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(y))[:400]
    return (X[rows] / 16).reshape(-1, 8, 8, 1).astype(np.float32), NAMES[y[rows]]


def teachers(seed=0, **parameters):
    settings = {"n_teachers": 1, "n_epochs": 6, "width": 8, "depth": 2}
    settings |= {"learning_rate": 0.05, "device": "cpu", "random_state": seed}
    return TrajectoryBuffer(**(settings | parameters))


@pytest.fixture(scope="module")
def fitted(digits):
    return teachers(n_teachers=2, n_epochs=2).fit(*digits)


def test_planted_errors_are_at_the_top(digits):
    X, y = digits
    precisions, suggested = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        rows = rng.choice(len(y), 20, replace=False)
        planted = y.copy()
        for row in rows:
            planted[row] = rng.choice(NAMES[y[row] != NAMES])
        table = find_label_errors(teachers(seed).fit(X, planted), X, planted)
        top = table.head(20)
        is_planted = top["row"].isin(rows).to_numpy()
        precisions.append(is_planted.mean())
        suggested += (top["suggested"].to_numpy() == y[top["row"]])[is_planted].tolist()
    # By chance it is 0.05; six seeds had 0.85 to 1 when this was written.
    assert np.mean(precisions) > 0.6
    assert min(precisions) > 0.4
    assert np.mean(suggested) > 0.6


def test_the_table_is_what_the_definition_says(digits, fitted):
    X, y = digits
    some = slice(3, 60)
    table = find_label_errors(fitted, X[some].reshape(57, -1), y[some])
    margins, probabilities = [], []
    for teacher in (0, 1):
        for epoch in (1, 2):
            network = fitted.classifier(teacher, epoch)
            module = network.module_
            images = np.ascontiguousarray(X[some].transpose(0, 3, 1, 2))
            logits = module(torch.from_numpy(images)).detach().numpy()
            codes = np.searchsorted(fitted.classes_, y[some])
            for_label = logits[np.arange(57), codes]
            is_other = np.arange(8) != codes[:, None]
            others = logits[is_other].reshape(57, 7)
            margins.append(for_label - others.max(axis=1))
            probabilities.append(network.predict_proba(X[some]))
    expected = np.mean(margins, axis=0)
    np.testing.assert_array_equal(table["row"], np.argsort(expected, kind="stable"))
    np.testing.assert_allclose(table["margin"], np.sort(expected), atol=1e-5)
    mean = np.mean(probabilities, axis=0)[table["row"]]
    np.testing.assert_array_equal(
        table["suggested"], fitted.classes_[mean.argmax(axis=1)]
    )
    np.testing.assert_allclose(table["suggested_confidence"], mean.max(axis=1), 1e-5)
    of_label = mean[np.arange(57), np.searchsorted(fitted.classes_, table["label"])]
    np.testing.assert_allclose(table["confidence"], of_label, 1e-4)
    np.testing.assert_array_equal(table["label"], y[some][table["row"]])


def test_batches_epochs_and_names(digits, fitted, monkeypatch):
    X, y = digits
    expected = find_label_errors(fitted, X, y)
    ids = np.arange(len(y)) + 7000
    monkeypatch.setattr("skdistill.inspection._label_errors._BATCH_VALUES", 64 * 50)
    series = pd.Series(y, index=ids)
    table = find_label_errors(FrozenEstimator(fitted), X, series)
    np.testing.assert_array_equal(table["name"], ids[table["row"]])
    pd.testing.assert_frame_equal(
        table.drop(columns="name"), expected.drop(columns="name")
    )
    named = find_label_errors(fitted, X, y, names=[f"J{number}" for number in ids])
    assert named.loc[0, "name"] == f"J{ids[named.loc[0, 'row']]}"
    last = find_label_errors(fitted, X, y, max_epochs=1)
    assert not np.allclose(last["margin"], expected["margin"])


def test_what_does_not_fit_is_named(digits, fitted):
    X, y = digits
    stm = STMDistiller()
    stm.buffer_ = fitted
    for wrong, message in (
        (stm, "got STMDistiller: pass its `buffer_`"),
        (TrajectoryBuffer, "must be a fitted TrajectoryBuffer"),
        (None, "got NoneType"),
    ):
        with pytest.raises(TypeError, match=message):
            find_label_errors(wrong, X, y)
    with pytest.raises(NotFittedError):
        find_label_errors(teachers(), X, y)
    with pytest.raises(ValueError, match="`y` must hold classes of the teachers"):
        find_label_errors(fitted, X, np.where(y == "one", "eins", y))
    with pytest.raises(ValueError, match="`y` holds numbers"):
        find_label_errors(fitted, X, np.arange(len(y)))
    with pytest.raises(ValueError, match=r"each of the 400 images, .* got 399 labels"):
        find_label_errors(fitted, X, y[1:])
    with pytest.raises(ValueError, match="`names` must hold one"):
        find_label_errors(fitted, X, y, names=["one"])
    with pytest.raises(ValueError, match="height, width, channels"):
        find_label_errors(fitted, X[:, :7], y)
    with pytest.raises(ValueError, match="'max_epochs' parameter"):
        find_label_errors(fitted, X, y, max_epochs=0)
    with pytest.warns(UserWarning, match="transformed like the training images"):
        find_label_errors(fitted, 255 * X, y)
