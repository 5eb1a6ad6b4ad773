import math
import re
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from skdistill.utils._checkpoint import load_checkpoint, save_checkpoint

DTYPES = [torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8]

tensors = st.builds(
    lambda seed, dtype, shape: (
        (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 50)
        .abs()
        .to(dtype)
    ),
    st.integers(0, 99),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3),
)
floats = st.floats(allow_nan=True, allow_infinity=True)
contents = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


def same(found, expected):
    """Whether two contents are the same, floats to their bits."""
    if isinstance(expected, float):
        if math.isnan(expected):
            return math.isnan(found)
        return struct.pack("d", found) == struct.pack("d", expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(
            same(found[key], expected[key]) for key in expected
        )
    return found == expected and type(found) is type(expected)


@given(
    st.dictionaries(st.text("abc/._", min_size=1, max_size=5), tensors, max_size=4),
    st.dictionaries(st.text(max_size=5), contents, max_size=4),
)
def test_round_trip(tmp_path_factory, tensors, content):
    path = tmp_path_factory.getbasetemp() / "round_trip.safetensors"
    save_checkpoint(path, tensors, content)
    found_tensors, found = load_checkpoint(str(path))
    assert set(found_tensors) == set(tensors)
    for name, tensor in tensors.items():
        assert found_tensors[name].dtype == tensor.dtype
        assert found_tensors[name].shape == tensor.shape
        assert torch.equal(found_tensors[name], tensor)
    assert same(found, content)


def test_values_that_are_no_numbers_are_kept_to_the_bit(path):
    tensor = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-45])
    save_checkpoint(path, {"a": tensor}, {"b": [math.nan, math.inf, -math.inf, -0.0]})
    tensors, content = load_checkpoint(path)
    assert torch.equal(tensors["a"].view(torch.int32), tensor.view(torch.int32))
    assert same(content["b"], [math.nan, math.inf, -math.inf, -0.0])


def test_tensors_that_share_memory_or_have_gaps(path):
    whole = torch.arange(24.0).reshape(4, 6)
    views = {
        "whole": whole,
        "again": whole,
        "turned": whole.T,
        "gaps": whole[::2, 1::3],
        "repeated": whole[:1].expand(3, 6),
        "number": whole[2, 3],
        "learned": whole.clone().requires_grad_(),
    }
    save_checkpoint(path, views, {})
    tensors, _ = load_checkpoint(path)
    for name, tensor in views.items():
        assert torch.equal(tensors[name], tensor)
    # Nothing of what was saved follows what was loaded.
    tensors["whole"].zero_()
    assert torch.equal(tensors["again"], whole)


def test_a_failed_save_keeps_the_old_file(path, monkeypatch):
    save_checkpoint(path, {"a": torch.ones(2)}, {"n": 1})

    def fail(tensors, file, metadata):
        file.write_bytes(b"half of")
        raise KeyboardInterrupt

    monkeypatch.setattr("skdistill.utils._checkpoint.save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"a": torch.zeros(2)}, {"n": 2})
    tensors, content = load_checkpoint(path)
    assert tensors["a"].tolist() == [1, 1]
    assert content == {"n": 1}
    assert list(path.parent.iterdir()) == [path]


def test_what_json_cannot_hold_keeps_the_old_file(path):
    save_checkpoint(path, {}, {"n": 1})
    with pytest.raises(TypeError):
        save_checkpoint(path, {}, {"n": object()})
    assert load_checkpoint(path)[1] == {"n": 1}


def test_save_makes_no_folder(tmp_path):
    """One that is gone may be that of a disk that is."""
    path = tmp_path / "a" / "state"
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        save_checkpoint(path, {}, {})
    assert not path.parent.exists()


def refused(path, message):
    return pytest.raises(
        ValueError,
        match=rf"{re.escape(str(path))} cannot be read: .*{message}.*delete it",
    )


def test_truncated_files_are_named(path):
    save_checkpoint(path, {"a": torch.ones(50)}, {"n": 1})
    whole = path.read_bytes()
    for length in (0, 1, 8, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with refused(path, ""):
            load_checkpoint(path)


GOOD = {"format": "skdistill-checkpoint", "version": "3", "content": "{}"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": None}, "not a checkpoint"),
        ({"format": "skdistill-synthetic-set"}, "not a checkpoint"),
        ({"version": "4"}, "format version is '4', this version .* reads '3'"),
        ({"version": None}, "format version is None"),
        ({"content": None}, "content"),
        ({"content": "{"}, ""),
    ],
)
def test_foreign_and_damaged_files_are_named(path, changes, message):
    metadata = {k: v for k, v in (GOOD | changes).items() if v is not None}
    save_file({"a": torch.ones(1)}, path, metadata=metadata)
    with refused(path, message):
        load_checkpoint(path)


def test_the_unchanged_file_is_good(path):
    save_file({"a": torch.ones(1)}, path, metadata=GOOD)
    assert load_checkpoint(path)[1] == {}
    save_file({"a": torch.ones(1)}, path)
    with refused(path, "not a checkpoint"):
        load_checkpoint(path)


def test_no_file_and_no_file_at_all(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with refused(path, ""):
            load_checkpoint(path)
