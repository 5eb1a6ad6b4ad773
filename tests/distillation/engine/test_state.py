"""Divergence, roll-backs and the best set, judged by a run's own first losses."""

import warnings

import numpy as np
import pytest
import torch
from quadratic import QuadraticDistiller, at, broken, losses, what_is_left
from sklearn.exceptions import ConvergenceWarning

ROLLED_BACK = "rolled back"


def fit(squares, events=None, **changes):
    return QuadraticDistiller(events=events, **changes).fit(*squares)


def images(distiller):
    return distiller.synthetic_.X


def spoiled(iterations, where, value):
    """Return events by which one number is not finite."""

    def change(evaluation):
        if where in evaluation.metrics:
            evaluation.metrics[where] = torch.tensor(value)
        else:
            gradient = evaluation.gradients[where].clone()
            gradient.view(-1)[-1] = value
            evaluation.gradients[where] = gradient
        return evaluation

    return at(iterations, change)


@pytest.mark.parametrize("where", ["loss", "distance", "images", "labels"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_draws", [1, 2])
def test_any_number_that_is_not_finite_is_rolled_back(squares, where, value, n_draws):
    distiller = fit(
        squares,
        spoiled(1, where, value),
        labels="probabilities",
        n_draws=n_draws,
        max_iter=3,
    )
    assert distiller.history_["event"].tolist() == ["", ROLLED_BACK, ""]
    assert np.isfinite(images(distiller)).all()
    assert np.isfinite(distiller.learned_labels_).all()


def test_rolled_back_to_the_last_good_images(squares):
    """Those after ten iterations whose losses were good, with half the rates."""
    good = fit(squares, max_iter=10)
    found = fit(squares, at((12, 13), broken), max_iter=14)
    assert found.history_["event"].tolist() == [""] * 12 + [ROLLED_BACK] * 2
    assert np.array_equal(images(found), images(good))
    assert found.offset_ == good.offset_
    assert found.objective_.n_times == 2
    # The objective's own state goes on.
    assert found.objective_.state()["n_accepted"] == 12
    # What comes next goes half of half as far.
    again = fit(squares, at((12, 13), broken), max_iter=15)
    change = again.offset_ - good.offset_
    assert change == pytest.approx(0.1 * again.history_["loss"].iloc[-1] / 4)
    step = images(fit(squares, at((12, 13), broken), max_iter=15, average=False))
    whole = images(fit(squares, at((12, 13), broken), max_iter=14, average=False))
    assert 0 < np.abs(step - whole).max() < 0.1


def test_before_ten_iterations_the_start_is_good(squares):
    start = fit(squares, pixel_lr=1e-30, max_iter=1)
    found = fit(squares, at(4, broken), max_iter=5)
    assert np.array_equal(images(found), images(start))
    assert found.offset_ == 0


def test_ten_losses_are_counted_from_a_roll_back(squares):
    found = fit(squares, at(4, broken), max_iter=15)
    assert found.best_iteration_ == 15
    assert fit(squares, at(4, broken), max_iter=14).best_iteration_ == 0


def test_ten_in_a_row_end_with_the_last_good_images(squares):
    good = fit(squares, max_iter=10)
    message = r"diverged: 10 times .*`pixel_lr`.*`label_lr`"
    with pytest.warns(ConvergenceWarning, match=message):
        found = fit(squares, at(range(12, 99), broken), max_iter=500)
    assert found.stop_reason_ == "diverged"
    assert found.n_iter_ == 22
    assert np.array_equal(images(found), images(good))
    assert found.objective_.n_times == 10


def test_those_far_from_each_other_do_not_add_up(squares):
    found = fit(squares, at(range(10, 200, 11), broken), max_iter=11 * 12)
    assert found.stop_reason_ == "max_iter"
    assert (found.history_["event"] == ROLLED_BACK).sum() == 12
    assert found.objective_.n_times == 1
    # The rates do not grow again.
    factors = np.diff(found.history_["offset"]) / (0.1 * found.history_["loss"][:-1])
    expected = [0.5**i for i in range(12) for _ in range(10)]
    good = (found.history_["event"] == "").to_numpy()[:-1]
    assert factors[good].tolist() == pytest.approx(expected[: good.sum()], rel=1e-5)


@pytest.mark.parametrize("pixel_size", [1, 2])
@pytest.mark.parametrize("max_iter", [1, 2, 3, 11, 40])
def test_update_that_no_number_holds_is_undone_at_once(squares, max_iter, pixel_size):
    """Also the last one, which no evaluation sees any more."""

    def change(evaluation):
        gradients = evaluation.gradients
        gradients["images"] = torch.full_like(gradients["images"], 1e30)
        return evaluation

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = fit(
            squares,
            at([i for i in range(40) if i % 10 in (0, 9)], change),
            pixel_lr=1e10,
            max_iter=max_iter,
            pixel_size=pixel_size,
        )
    assert found.history_["event"][0] == ROLLED_BACK
    for synthetic in (found.synthetic_, found.best_synthetic_):
        assert np.isfinite(synthetic.X).all()


def test_moments_that_no_number_holds_are_undone_too(squares):
    """Else Adam would never move again."""

    def change(evaluation):
        evaluation.gradients["images"] = evaluation.gradients["images"] * 1e30
        return evaluation

    found = fit(squares, at(3, change), optimizer="adam", max_iter=60)
    assert found.history_["event"].tolist() == [
        ROLLED_BACK if place == 3 else "" for place in range(60)
    ]
    distance = found.history_["distance"]
    assert distance.iloc[-1] < 0.9 * distance.iloc[4]


@pytest.mark.parametrize(
    ("windows", "n_good"),
    [
        ([0.5, 1.1], 10),
        ([0.5, 0.6, 1.1], 20),
        # Rising, but not far above the first ones.
        ([0.5, 0.9], None),
        ([50.0, 90.0], None),
        ([5e-9, 9e-9], None),
        ([5.0, 4.0, 11.0], 20),
        ([5e-9, 4e-9, 11e-9], 20),
        ([-1.0, -0.5, 0.1], 20),
        ([-1.0, -0.5, -0.1], None),
        # Far above, but falling.
        ([1.0, 9.0, 8.0], 10),
    ],
)
def test_losses_far_above_the_first_that_rise(squares, windows, n_good):
    n_iter = 10 * len(windows)
    rising_at = next((i for i, w in enumerate(windows) if w == 9.0), len(windows) - 1)
    good = fit(squares, max_iter=n_good or n_iter)
    found = fit(squares, losses(np.repeat(windows, 10)), max_iter=n_iter)
    events = [""] * n_iter
    if n_good is not None:
        events[10 * rising_at + 9] = ROLLED_BACK
    assert found.history_["event"].tolist() == events
    if rising_at == len(windows) - 1:
        assert np.array_equal(images(found), images(good))


@pytest.mark.parametrize(
    ("first", "second", "event"),
    [
        # Twice the median of the first ten,
        ([1.0] + [3.0] * 9, 5.9, ""),
        ([1.0] + [3.0] * 9, 6.1, ROLLED_BACK),
        ([99.0] + [1.0] * 9, 11.0, ROLLED_BACK),
        # but at most ten times the loss of the first images:
        ([1.0] + [30.0] * 9, 30.0, ROLLED_BACK),
        ([4.0] + [30.0] * 9, 31.0, ""),
        # here the others have diverged already.
        ([1.0] + [99.0] * 9, 100.0, ROLLED_BACK),
    ],
)
def test_reference_is_what_a_run_begins_with(squares, first, second, event):
    found = fit(squares, losses(first + [second] * 10), max_iter=20)
    assert found.history_["event"].tolist() == [""] * 19 + [event]


def test_best_set_is_that_of_the_least_mean_loss(squares):
    expected = fit(squares, max_iter=20, labels="probabilities")
    values = np.repeat([0.9, 0.3, 0.6], 10)
    # One lucky draw is no sign of good images.
    values[25] = 0.0
    found = fit(squares, losses(values), max_iter=30, labels="probabilities")
    assert found.best_iteration_ == 20
    assert np.array_equal(found.best_synthetic_.X, images(expected))
    assert not np.array_equal(images(found), images(expected))
    # With what else was learned until then, the labels and the rest.
    assert found.best_synthetic_.step_size == pytest.approx(1 + 0.1 * values[:20].sum())
    probabilities = expected.synthetic_.probabilities
    assert np.array_equal(found.best_synthetic_.probabilities, probabilities)


def test_best_set_of_a_run_shorter_than_ten(squares):
    found = fit(squares, max_iter=9)
    assert found.best_iteration_ == 0
    start = fit(squares, pixel_lr=1e-30, max_iter=1)
    assert np.array_equal(found.best_synthetic_.X, images(start))


def test_best_set_is_of_the_last_stage(squares):
    """Losses of other stages are not comparable."""
    values = np.repeat([0.3, 0.1, 0.15, 0.18], 10)
    found = fit(squares, losses(values), stage_length=20, max_iter=39)
    assert found.best_iteration_ == 30
    found = fit(squares, losses(values), max_iter=40)
    assert found.best_iteration_ == 20


def test_stages_and_roll_backs_together(squares):
    """The good state may be older than the stage; the stage stays."""
    found = fit(squares, at(13, broken), stage_length=12, max_iter=15)
    assert found.history_["stage"].tolist() == [0] * 12 + [1] * 3
    assert what_is_left(found)["n_iter"] == 15
