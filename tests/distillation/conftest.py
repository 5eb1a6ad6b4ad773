"""An easy problem in small images, and small teachers for it."""

import itertools

import numpy as np
import pytest
import torch

import skdistill.distillation._objectives._trajectory as matcher_module
import skdistill.distillation._stages as stages_module
from skdistill.distillation import STMDistiller
from skdistill.distillation._objectives._trajectory_distance import match_gradient
from skdistill.trajectory import TrajectoryBuffer

# A program, no module with doctests.
collect_ignore = ["rank_program.py"]


@pytest.fixture(scope="session")
def make_bars():
    """Make images of three classes: lying bars, standing bars and round blobs.

    Place and color are random, so that a class shows in the shape alone.
    """

    def make(n_per_class=12, size=16, channels=3, seed=0):
        rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[:size, :size]
        images, labels = [], []
        for _ in range(n_per_class):
            for label, (height, width) in enumerate([(1, 6), (6, 1), (2.5, 2.5)]):
                row, column = rng.uniform(0.35, 0.65, 2) * size
                shape = np.exp(
                    -(((rows - row) / height) ** 2) - ((columns - column) / width) ** 2
                )
                images.append(shape[..., None] * rng.uniform(1.5, 3, channels))
                labels.append(label)
        images = np.asarray(images) + rng.normal(
            0, 0.2, (len(images), *images[0].shape)
        )
        return images.astype(np.float32), np.asarray(labels)

    return make


@pytest.fixture(scope="session")
def bars(make_bars):
    """Images (36, 16, 16, 3), not to be changed, and labels."""
    X, y = make_bars()
    X.flags.writeable = False
    return X, y


@pytest.fixture(scope="session")
def make_teachers():
    """Make an unfitted buffer of teachers that take under a second."""

    def make(**changes):
        settings = {
            "n_teachers": 2,
            "n_epochs": 4,
            "width": 8,
            "depth": 2,
            "learning_rate": 0.05,
            "random_state": 0,
            "device": "cpu",
        }
        return TrajectoryBuffer(**(settings | changes))

    return make


@pytest.fixture(scope="session")
def teachers(make_teachers, bars):
    """Fitted teachers, not to be changed."""
    return make_teachers().fit(*bars)


@pytest.fixture(scope="session")
def tiny_bars(make_bars):
    """Images (18, 8, 8, 1), not to be changed, and labels: a fit takes little time."""
    X, y = make_bars(n_per_class=6, size=8, channels=1)
    X.flags.writeable = False
    return X, y


@pytest.fixture(scope="session")
def make_tiny_teachers(make_teachers):
    """Make an unfitted buffer of teachers for tiny images."""

    def make(**changes):
        return make_teachers(**({"n_epochs": 3, "width": 4, "depth": 1} | changes))

    return make


@pytest.fixture(scope="session")
def tiny_teachers(make_tiny_teachers, tiny_bars):
    """Fitted teachers for tiny images, not to be changed."""
    return make_tiny_teachers().fit(*tiny_bars)


@pytest.fixture
def spoil_matches(monkeypatch):
    """Return a function that makes a match something else.

    It is given a function of the number of the match, from 0, and of its result.
    """

    def spoil(change):
        counter = itertools.count()

        def spoiled(*args, **kwargs):
            return change(next(counter), match_gradient(*args, **kwargs))

        monkeypatch.setattr(matcher_module, "match_gradient", spoiled)

    return spoil


@pytest.fixture
def break_gradients(spoil_matches):
    """Return a function that makes gradients NaN.

    It is given a function that is true of the iterations whose gradients break.
    """

    def break_them(is_broken):
        def change(iteration, result):
            if is_broken(iteration):
                return result._replace(images=torch.full_like(result.images, np.nan))
            return result

        spoil_matches(change)

    return break_them


@pytest.fixture
def decide_by(monkeypatch):
    """Return a function that has STM decide as given, and then nothing more."""

    def decide_so(*decisions):
        waiting = iter(decisions)
        monkeypatch.setattr(
            stages_module, "decide", lambda *args, **kwargs: next(waiting, None)
        )

    return decide_so


@pytest.fixture
def level_up_after(monkeypatch):
    """Return a function that has the pool expand after a number of iterations."""

    def expand_after(n_values):
        def decide(values, groups, **kwargs):
            return "expanded" if len(values) == n_values else None

        monkeypatch.setattr(stages_module, "decide", decide)

    return expand_after


@pytest.fixture
def make_distiller(teachers):
    """Make a distiller of a few iterations, with the fitted teachers."""

    def make(**changes):
        settings = {
            # Most tests are about what happens from the first epoch on.
            "n_initial_epochs": 1,
            "buffer": teachers,
            "n_steps": 3,
            "step_size": 0.05,
            "max_total_iter": 4,
            "random_state": 0,
            "device": "cpu",
        }
        return STMDistiller(**(settings | changes))

    return make


@pytest.fixture
def make_tiny(tiny_teachers):
    """Make a distiller of tiny images, for fits of many iterations."""

    def make(**changes):
        settings = {
            "buffer": tiny_teachers,
            "n_steps": 2,
            "step_size": 0.05,
            "max_total_iter": 4,
            "random_state": 0,
            "device": "cpu",
        }
        return STMDistiller(**(settings | changes))

    return make


@pytest.fixture
def forbid_training(monkeypatch):
    """Fail where teachers are trained or an image is matched."""

    def train(*args, **kwargs):
        raise AssertionError("the fit went on")

    monkeypatch.setattr(TrajectoryBuffer, "fit", train)
    monkeypatch.setattr(matcher_module, "match", train)
    monkeypatch.setattr(matcher_module, "match_gradient", train)
