"""Parameters as text that is the same in every process."""

from functools import partial

from skdistill import TrajectoryBuffer
from skdistill.utils._plain import as_plain, lasting_repr


def named(image_shape, n_classes):
    return None


def test_named_functions_are_told_without_addresses():
    assert lasting_repr(named) == "<function named>"
    assert lasting_repr(partial(named, 3)) == "functools.partial(<function named>, 3)"
    buffer = TrajectoryBuffer(architecture=named)
    assert lasting_repr(buffer) == "TrajectoryBuffer(architecture=<function named>)"
    assert "at 0x" not in as_plain(partial(named, n_classes=3))
    assert as_plain(named).endswith("test_plain.named")


def test_what_has_no_name_of_its_own_keeps_its_address():
    """Two of them must not be taken for one."""
    one, other = (lambda shape, n, k=k: k for k in (1, 2))
    assert lasting_repr(one) != lasting_repr(other)
    assert lasting_repr(object()) != lasting_repr(object)
