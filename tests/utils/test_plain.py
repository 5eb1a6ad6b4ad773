"""Parameters as text that is the same in every process."""

from functools import partial

import numpy as np
import pytest
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

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


def test_random_states_are_told_without_addresses():
    """A search finds its checkpoints again in another process."""
    one, other = (
        TrajectoryBuffer(random_state=np.random.RandomState(0)) for _ in range(2)
    )
    assert lasting_repr(one) == lasting_repr(other)
    assert lasting_repr(one) == "TrajectoryBuffer(random_state=RandomState(MT19937))"


@pytest.mark.parametrize("changed_only", [True, False])
def test_of_long_estimators_nothing_is_left_out(changed_only):
    steps = [FunctionTransformer(kw_args={"a": "b" * 90}) for _ in range(12)]
    one = make_pipeline(*steps[:6], FunctionTransformer(kw_args={"a": 1}), *steps[6:])
    other = make_pipeline(*steps[:6], FunctionTransformer(kw_args={"a": 2}), *steps[6:])
    assert repr(one) == repr(other)
    expected = lasting_repr(one)
    with config_context(print_changed_only=changed_only):
        assert lasting_repr(other) != lasting_repr(one) == expected
