"""CAFEDistiller: what it has beside what all distillers have."""

import numpy as np
import pytest

from skdistill import CAFEDistiller


def make(**changes):
    settings = {
        "width": 4,
        "depth": 2,
        "max_iter": 5,
        "max_rounds": 2,
        "max_network_epochs": 2,
        "device": "cpu",
        "random_state": 0,
    }
    return CAFEDistiller(**(settings | changes))


def test_loss_falls_and_networks_take_turns(bars):
    fitted = make(max_iter=60, width=8, max_rounds=3, discrimination=0.0).fit(*bars)
    history = fitted.history_
    assert list(history) == ["round", "loss", "network_accuracy", "event"]
    assert history["round"].tolist() == [0, 1, 2] * 20
    first = history["loss"][history["round"] == 0]
    assert first[-7:].mean() < 0.8 * first[:7].mean()
    assert history["network_accuracy"].between(0, 1).all()


def test_networks_learn_from_the_images(bars):
    """From its first to its last round a network becomes more accurate."""
    fitted = make(
        init="real",
        width=8,
        max_iter=24,
        max_rounds=6,
        max_network_epochs=20,
        network_lr=0.1,
        n_watched=36,
        inner_tolerance=1.0,
    ).fit(*bars)
    history = fitted.history_
    accuracy = history.groupby("round")["network_accuracy"].mean()
    assert accuracy[5] > accuracy[0] + 0.2


def test_a_settled_network_is_replaced_before_its_last_round(tiny_bars):
    """An accuracy that stands still ends a network's service after ten rounds."""
    fitted = make(
        max_iter=12, max_rounds=50, network_lr=1e-12, max_network_epochs=1
    ).fit(*tiny_bars)
    assert fitted.history_["round"].tolist() == [*range(10), 0, 1]


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(1, [1.0, 2.0]), (2, [0.1, 1.0, 2.0]), (3, [0.1, 0.1, 1.0, 2.0])],
)
def test_automatic_weights_of_layers(tiny_bars, depth, expected):
    given = make(depth=depth, layer_weights=expected).fit(*tiny_bars)
    found = make(depth=depth).fit(*tiny_bars)
    assert np.array_equal(found.synthetic_.X, given.synthetic_.X)


@pytest.mark.parametrize(
    "weights",
    [
        [1.0],
        [1.0, 1.0, -1.0],
        [1.0, 1.0, np.nan],
        ["a", "b", "c"],
        [[1.0] * 3],
        [1] * 4,
    ],
)
def test_bad_weights_of_layers_are_refused(tiny_bars, weights):
    with pytest.raises(ValueError, match="`layer_weights` must be 'auto' or 3 non"):
        make(layer_weights=weights).fit(*tiny_bars)


def test_nothing_to_match_is_refused(tiny_bars):
    with pytest.raises(ValueError, match="nothing to match"):
        make(layer_weights=(0, 0, 0), discrimination=0).fit(*tiny_bars)
    # One of both is enough.
    found = make(layer_weights=(0, 0, 0)).fit(*tiny_bars)
    assert (found.history_["loss"] > 0).all()


def test_batch_normalization_is_refused_by_name(tiny_bars):
    with pytest.raises(ValueError, match="`normalization`='batch' makes"):
        make(normalization="batch").fit(*tiny_bars)


def test_networks_that_diverge_are_replaced(tiny_bars):
    """Their numbers are rolled back, and the fit goes on with others."""
    fitted = make(max_iter=6, network_lr=1e30, normalization="none").fit(*tiny_bars)
    assert "rolled back" in set(fitted.history_["event"])
    assert np.isfinite(fitted.synthetic_.X).all()
