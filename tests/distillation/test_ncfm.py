"""NCFMDistiller: what it has beside what all distillers have."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator

from skdistill import NCFMDistiller
from skdistill.distillation._engine._objective import Draw
from skdistill.distillation._objectives._feature_distributions import (
    DISTANCES,
    Encoders,
    FeatureDistributions,
)


@pytest.fixture
def make(tiny_teachers):
    def make(**changes):
        settings = {"buffer": tiny_teachers, "max_iter": 4, "n_frequencies": 16}
        return NCFMDistiller(
            **(settings | {"device": "cpu", "random_state": 0} | changes)
        )

    return make


@pytest.mark.parametrize("distance", DISTANCES)
def test_loss_falls(make, tiny_bars, distance):
    fitted = make(max_iter=80, distance=distance).fit(*tiny_bars)
    loss = fitted.history_["loss"]
    assert loss[-20:].mean() < loss[:20].mean()
    parts = fitted.history_["distance"] + fitted.history_["calibration"]
    np.testing.assert_allclose(loss, parts, rtol=1e-5)


def test_without_calibration_there_is_one_part(make, tiny_bars):
    fitted = make(calibration=0).fit(*tiny_bars)
    assert list(fitted.history_) == ["teacher", "loss", "event"]


def test_encoders_lie_between_the_ends_of_a_teacher(tiny_teachers):
    encoders = Encoders(tiny_teachers, torch.device("cpu"))
    teachers, shares = set(), []
    for iteration in range(30):
        teacher, between, end = encoders(Draw(0, iteration), torch.float64)
        start, last = (
            torch.from_numpy(tiny_teachers.snapshot(teacher, epoch)).double()
            for epoch in (0, tiny_teachers.n_epochs_)
        )
        assert torch.equal(end, last)
        way = last - start
        share = float((between - start) @ way / (way @ way))
        torch.testing.assert_close(between, start + share * way)
        teachers.add(teacher)
        shares.append(share)
    assert teachers == set(range(tiny_teachers.n_teachers_))
    assert min(shares) >= 0
    assert max(shares) <= 1
    assert np.std(shares) > 0.2
    again = encoders(Draw(0, 29), torch.float64)
    assert torch.equal(again[1], between)


@pytest.mark.parametrize("distance", ["characteristic", "gaussian"])
def test_memory_that_is_not_there(make, tiny_bars, monkeypatch, distance):
    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(FeatureDistributions, "_compare", fail)
    with pytest.raises(MemoryError) as caught:
        make(distance=distance).fit(*tiny_bars)
    said = " ".join(caught.value.__notes__)
    assert "A smaller `batch_size`" in said
    assert ("fewer `n_frequencies`" in said) == (distance == "characteristic")


def test_history_says_which_teacher(make, tiny_bars, tiny_teachers):
    history = make(max_iter=12).fit(*tiny_bars).history_
    assert set(history["teacher"]) == set(range(tiny_teachers.n_teachers_))
    assert history["teacher"].dtype.kind == "i"


def test_teachers_are_given_in_any_form(make, tiny_bars, make_tiny_teachers, tmp_path):
    stored = make_tiny_teachers(path=tmp_path / "teachers").fit(*tiny_bars)
    expected = make(buffer=stored).fit(*tiny_bars)
    for buffer in (tmp_path / "teachers", FrozenEstimator(stored)):
        found = make(buffer=buffer).fit(*tiny_bars)
        assert np.array_equal(found.synthetic_.X, expected.synthetic_.X)
    trained = make(buffer=make_tiny_teachers()).fit(*tiny_bars)
    assert np.array_equal(trained.synthetic_.X, expected.synthetic_.X)
    # A network like theirs scores.
    assert trained._default_estimator().width == 4


def test_teachers_of_other_images_are_refused(make, bars, tiny_bars):
    with pytest.raises(ValueError, match="`buffer` was made for images of shape"):
        make().fit(*bars)
    X, y = tiny_bars
    with pytest.raises(ValueError, match="`buffer` was made for the classes"):
        make().fit(X, y + 1)


def test_a_checkpoint_belongs_to_its_teachers(
    make, tiny_bars, make_tiny_teachers, tmp_path
):
    make(checkpoint=tmp_path).fit(*tiny_bars)
    others = make_tiny_teachers(random_state=7).fit(*tiny_bars)
    with pytest.raises(ValueError, match="teachers' seed"):
        make(checkpoint=tmp_path, buffer=others).fit(*tiny_bars)
