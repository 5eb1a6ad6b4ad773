"""Images for the engine, whose tests know no network."""

import sys
from pathlib import Path

import pytest

# The distiller that the tests drive; programs of other processes import it, too.
sys.path.insert(0, str(Path(__file__).parent))
collect_ignore = ["quadratic.py", "program.py"]


@pytest.fixture(scope="session")
def squares():
    """Images (18, 4, 4, 2), not to be changed, and labels of three classes."""
    from quadratic import make_squares

    X, y = make_squares()
    X.flags.writeable = False
    return X, y
