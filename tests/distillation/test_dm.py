"""DMDistiller: what it has beside what all distillers have."""

import numpy as np
import pytest

from skdistill import DMDistiller
from skdistill.distillation._objectives._feature_matching import resolve_batch_size


def make(**changes):
    settings = {"width": 4, "depth": 1, "max_iter": 4, "device": "cpu"}
    return DMDistiller(**(settings | {"random_state": 0} | changes))


def test_loss_falls(bars):
    history = make(max_iter=60, width=8, depth=2).fit(*bars).history_
    assert history["loss"][-10:].mean() < 0.7 * history["loss"][:10].mean()
    assert list(history) == ["loss", "event"]


def test_batch_normalization_is_refused_by_name(tiny_bars):
    with pytest.raises(ValueError, match="`normalization`='batch' makes"):
        make(normalization="batch").fit(*tiny_bars)


@pytest.mark.parametrize("normalization", ["instance", "layer", "group", "none"])
def test_other_normalizations(tiny_bars, normalization):
    found = make(normalization=normalization).fit(*tiny_bars)
    assert np.isfinite(found.synthetic_.X).all()


@pytest.mark.parametrize(("ipc", "expected"), [(1, 16), (10, 51), (50, 113)])
def test_automatic_batches_grow_with_the_root_of_the_images(ipc, expected):
    assert resolve_batch_size("auto", ipc) == expected
    assert resolve_batch_size(None, ipc) is None
    assert resolve_batch_size(np.int64(7), ipc) == 7


def test_batches_of_whole_classes_are_all_images(tiny_bars):
    """Six images of each class: whatever else is asked for, they are all there is."""
    found = [
        make(batch_size=size).fit(*tiny_bars).synthetic_.X
        for size in (None, 6, 1000, "auto")
    ]
    assert all(np.array_equal(found[0], other) for other in found[1:])
    smaller = make(batch_size=3).fit(*tiny_bars).synthetic_.X
    assert not np.array_equal(found[0], smaller)


def test_iterations_average_networks(tiny_bars):
    """Images that stand still have the mean of the losses of the same networks."""
    still = {"max_iter": 1, "pixel_lr": 1e-30, "batch_size": None}
    losses = [
        make(n_networks=n, **still).fit(*tiny_bars).history_["loss"][0]
        for n in (1, 2, 3)
    ]
    # The first network is that of a run with one.
    second = 2 * losses[1] - losses[0]
    third = 3 * losses[2] - 2 * losses[1]
    assert min(second, third) > 0
    assert len({round(loss, 6) for loss in (losses[0], second, third)}) == 3
    assert make(n_networks=3, **still).fit(*tiny_bars).n_networks_ == 3


def test_networks_can_serve_for_several_updates(tiny_bars):
    fitted = make(n_steps_per_network=2, augmentation=None, pixel_lr=1e-30)
    losses = fitted.fit(*tiny_bars).history_["loss"].to_numpy()
    # Images that stand still have one loss as long as the network is the same.
    assert losses[0] == losses[1]
    assert losses[1] != losses[2]
    assert losses[2] == losses[3]
