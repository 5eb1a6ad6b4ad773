import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax

from skdistill.neural_network._losses import image_losses, probabilities_of

ROWS = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-1e6, 1e6),
)


@given(ROWS)
def test_the_nearest_probabilities(rows):
    found = probabilities_of(rows, "squared")
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)
    # The best class stays the best.
    best = rows.argmax(axis=1)
    assert (found[np.arange(len(rows)), best] == found.max(axis=1)).all()
    # No vertex of the simplex is in a direction that would come closer: the variational
    # inequality, which only the projection satisfies.
    scale = np.maximum(1, np.abs(rows).max(axis=1))
    for vertex in np.eye(rows.shape[1]):
        slope = ((rows - found) * (vertex - found)).sum(axis=1)
        assert (slope <= 1e-9 * scale).all()


@given(ROWS, st.floats(-100, 100))
def test_what_is_added_to_all_outputs_changes_nothing(rows, constant):
    for loss in ("squared", "cross_entropy"):
        np.testing.assert_allclose(
            probabilities_of(rows + constant, loss),
            probabilities_of(rows, loss),
            atol=1e-7,
        )


def test_outputs_that_are_probabilities_stay():
    rows = np.random.default_rng(0).dirichlet(np.ones(4), size=20)
    np.testing.assert_allclose(probabilities_of(rows, "squared"), rows, atol=1e-15)
    np.testing.assert_allclose(
        probabilities_of(rows.astype(np.float32), "cross_entropy"),
        softmax(rows, 1),
        atol=1e-6,
    )


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_losses(loss):
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(5, 3)), rng.dirichlet(np.ones(3), size=5)
    found = image_losses(torch.tensor(outputs), torch.tensor(targets), loss)
    if loss == "squared":
        expected = [
            sum((o - t) ** 2 for o, t in zip(*row, strict=True)) / 2
            for row in zip(outputs, targets, strict=True)
        ]
    else:
        expected = -(targets * np.log(softmax(outputs, 1))).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
