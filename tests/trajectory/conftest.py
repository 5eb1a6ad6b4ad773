"""An easy problem in tiny images, and buffers that take a fraction of a second."""

import numpy as np
import pytest

from skdistill.trajectory import TrajectoryBuffer


@pytest.fixture(scope="session")
def bars():
    """Lying and standing bars, 20 and 10 images (8, 8, 2), labeled by strings."""
    rng = np.random.default_rng(0)
    X = rng.normal(0, 0.3, (30, 8, 8, 2)).astype(np.float32)
    for index in range(30):
        place = rng.integers(1, 7)
        if index < 20:
            X[index, place] += 2
        else:
            X[index, :, place] += 2
    order = rng.permutation(30)
    X, y = X[order], np.repeat(["lying", "standing"], [20, 10])[order]
    X.flags.writeable = False
    return X, y


@pytest.fixture(scope="session")
def make_buffer():
    def make(**changes):
        settings = {
            "n_teachers": 2,
            "n_epochs": 3,
            "width": 4,
            "depth": 2,
            "learning_rate": 0.05,
            "random_state": 0,
            "device": "cpu",
        }
        return TrajectoryBuffer(**(settings | changes))

    return make


@pytest.fixture(scope="session")
def in_memory(make_buffer, bars):
    """A fitted buffer, not to be changed."""
    return make_buffer().fit(*bars)


@pytest.fixture
def contents():
    """Return a function that reads all that a folder holds."""

    def read(folder):
        return {
            path.relative_to(folder): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return read
