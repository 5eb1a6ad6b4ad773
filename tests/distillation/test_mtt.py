import pickle

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from sklearn.base import clone

import skdistill.distillation._objectives._trajectory as matcher_module
from skdistill.distillation import MTTDistiller
from skdistill.synthetic import SyntheticSet


@pytest.fixture
def make_distiller(tiny_teachers):
    """Make a distiller of a few iterations, with fitted teachers of 3 epochs."""

    def make(**changes):
        settings = {
            "buffer": tiny_teachers,
            "max_start_epoch": 2,
            "n_target_epochs": 1,
            "n_steps": 2,
            "step_size": 0.05,
            "max_iter": 4,
            "random_state": 0,
            "device": "cpu",
        }
        return MTTDistiller(**(settings | changes))

    return make


def test_attributes(make_distiller, tiny_bars):
    distiller = make_distiller(ipc=2, max_iter=12).fit(*tiny_bars)
    assert isinstance(distiller.synthetic_, SyntheticSet)
    assert isinstance(distiller.best_synthetic_, SyntheticSet)
    assert distiller.synthetic_.X.shape == (6, 8, 8, 1)
    assert distiller.synthetic_.metadata["distiller"] == "MTTDistiller"
    assert distiller.n_iter_ == 12
    assert distiller.best_iteration_ == 10
    assert distiller.stop_reason_ == "max_iter"
    assert distiller.step_sizes_.tolist() == [distiller.synthetic_.step_size]
    assert not hasattr(distiller, "stages_")
    columns = ["teacher", "start_epoch", "loss", "misalignment"]
    columns += ["step_size", "event"]
    assert distiller.history_.columns.tolist() == columns
    assert distiller.history_.notna().all(axis=None)
    assert 0 <= distiller.score(*tiny_bars) <= 1


def test_larger_pixels(make_distiller, tiny_bars):
    distiller = make_distiller(ipc=4, pixel_size=4).fit(*tiny_bars)
    X = distiller.synthetic_.X
    assert X.shape == (12, 8, 8, 1)
    assert np.array_equal(X, np.kron(X[:, ::4, ::4], np.ones((1, 4, 4, 1))))
    assert distiller.synthetic_.pixel_size == 4
    assert 0 <= distiller.score(*tiny_bars) <= 1


def test_start_epochs_are_drawn_from_the_pool(make_distiller, tiny_bars):
    """All alike, and for each teacher alike."""
    history = make_distiller(max_iter=400, n_steps=1).fit(*tiny_bars).history_
    counts = history.groupby(["teacher", "start_epoch"]).size()
    assert counts.index.tolist() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    # One in 10,000 runs of a right program would be below that; the seed is fixed.
    assert chisquare(counts).pvalue > 1e-4
    # Not in cycles.
    assert 0.35 < (history["start_epoch"].diff().iloc[1:] != 0).mean() < 0.65


@pytest.mark.parametrize(("pool", "n_target_epochs"), [(1, 3), (2, 2), (3, 1)])
def test_target_is_so_many_epochs_later(
    make_distiller, tiny_teachers, tiny_bars, monkeypatch, pool, n_target_epochs
):
    seen = []
    real = matcher_module.match_gradient

    def spy(network, start, end, *args, **kwargs):
        seen.append((start.numpy().copy(), end.numpy().copy()))
        return real(network, start, end, *args, **kwargs)

    def unwanted(*args, **kwargs):
        raise AssertionError("there is nothing to validate")

    monkeypatch.setattr(matcher_module, "match_gradient", spy)
    monkeypatch.setattr(matcher_module, "match", unwanted)
    distiller = make_distiller(
        max_start_epoch=pool, n_target_epochs=n_target_epochs, max_iter=9
    ).fit(*tiny_bars)
    for row, (start, end) in zip(distiller.history_.itertuples(), seen, strict=True):
        assert row.start_epoch < pool
        first = tiny_teachers.snapshot(row.teacher, row.start_epoch)
        last = tiny_teachers.snapshot(row.teacher, row.start_epoch + n_target_epochs)
        assert np.array_equal(start, first)
        assert np.array_equal(end, last)


def test_loss_falls(make_distiller, tiny_bars):
    history = make_distiller(max_iter=80, n_steps=5, init="noise").fit(*tiny_bars)
    misalignment = history.history_["misalignment"]
    assert misalignment[-15:].mean() < 0.9 * misalignment[:15].mean()


def test_too_few_epochs(make_distiller, make_tiny_teachers, tiny_bars):
    message = r"`max_start_epoch`=3 and `n_target_epochs`=2 need .* at least 4 epochs"
    for buffer in (make_tiny_teachers(), make_tiny_teachers().fit(*tiny_bars)):
        distiller = make_distiller(buffer=buffer, max_start_epoch=3, n_target_epochs=2)
        with pytest.raises(ValueError, match=message + ".*n_epochs=3"):
            distiller.fit(*tiny_bars)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_start_epoch": 0}, r"'max_start_epoch' parameter"),
        ({"n_target_epochs": 0}, r"'n_target_epochs' parameter"),
        ({"max_iter": None}, r"'max_iter' parameter"),
        ({"ipc": 0}, r"'ipc' parameter"),
        ({"label_lr": -1}, r"'label_lr' parameter"),
    ],
)
def test_bad_parameters(make_distiller, tiny_bars, changes, message):
    with pytest.raises(ValueError, match=message):
        make_distiller(**changes).fit(*tiny_bars)


def test_same_random_state_same_bits(make_distiller, tiny_bars):
    first, again = (make_distiller().fit(*tiny_bars) for _ in range(2))
    assert np.array_equal(first.synthetic_.X, again.synthetic_.X)
    assert first.history_.equals(again.history_)
    other = make_distiller(random_state=1).fit(*tiny_bars)
    assert not np.array_equal(first.synthetic_.X, other.synthetic_.X)


def test_a_longer_run_goes_on_from_the_checkpoint(make_distiller, tiny_bars, tmp_path):
    expected = make_distiller(max_iter=9, labels="learned").fit(*tiny_bars)
    for max_iter in (4, 9):
        found = make_distiller(
            max_iter=max_iter, labels="learned", checkpoint=tmp_path
        ).fit(*tiny_bars)
    assert np.array_equal(found.synthetic_.X, expected.synthetic_.X)
    assert np.array_equal(
        found.synthetic_.probabilities, expected.synthetic_.probabilities
    )
    assert found.history_.equals(expected.history_)
    with pytest.raises(ValueError, match="holds 9 iterations, more than `max_iter`=5"):
        make_distiller(max_iter=5, labels="learned", checkpoint=tmp_path).fit(
            *tiny_bars
        )


def test_setback(make_distiller, tiny_bars, spoil_matches):
    def change(iteration, result):
        if iteration != 2:
            return result
        return result._replace(images=torch.full_like(result.images, np.nan))

    spoil_matches(change)
    distiller = make_distiller().fit(*tiny_bars)
    assert distiller.history_["event"].tolist() == ["", "", "rolled back", ""]
    assert np.isfinite(distiller.synthetic_.X).all()


def test_clone_and_pickle(make_distiller, tiny_bars):
    distiller = make_distiller().fit(*tiny_bars)
    assert not hasattr(clone(distiller), "synthetic_")
    found = pickle.loads(pickle.dumps(distiller))
    assert np.array_equal(found.synthetic_.X, distiller.synthetic_.X)
