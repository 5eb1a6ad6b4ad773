"""What all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "agg")
# Without it scikit-learn skips its checks of arrays of other libraries.  SciPy reads it
# when it is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# A shared machine is slow at times: no deadline, but a way to repeat what failed.  New
# cases are looked for at the developers', where a find is no riddle about a change.
settings.register_profile(
    "skdistill", deadline=None, print_blob=True, derandomize="CI" in os.environ
)
settings.load_profile("skdistill")


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.accelerator.is_available():
            pytest.skip("torch finds no GPU")


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real galaxies and images next to the repository."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there")
    return folder
