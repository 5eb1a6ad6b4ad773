import mmap

import numpy as np
import pytest
from joblib import Parallel, delayed

from skdistill.utils import _maps
from skdistill.utils._maps import scratch_array, write_map


def test_an_error_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "X.npy"
    old = write_map(path, (3, 2), np.float32, [np.ones((3, 2))])

    def parts():
        yield np.zeros((1, 2))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_map(path, (3, 2), np.float32, parts())
    np.testing.assert_array_equal(np.load(path), old)
    assert [entry.name for entry in tmp_path.iterdir()] == ["X.npy"]


def test_large_scratch_space_is_a_file(monkeypatch, tmp_path):
    def is_in_a_file(array):
        while isinstance(array, np.ndarray):
            array = array.base
        return isinstance(getattr(array, "obj", array), mmap.mmap)

    assert not is_in_a_file(scratch_array((3, 2), np.float32))
    monkeypatch.setattr(_maps, "_SCRATCH_BYTES", 10)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch = scratch_array((3, 2), np.float32)
    assert is_in_a_file(scratch)
    scratch[:] = 7
    assert scratch.sum() == 42
    # Workers get it too, which cannot open a file without a name.
    scratch = scratch_array((300, 1000), np.float64)
    scratch[:] = 1
    sums = Parallel(n_jobs=2)(delayed(np.sum)(scratch) for _ in range(2))
    assert sums == [300_000] * 2
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match=r"intermediate result of .* GB.*TMPDIR"):
        scratch_array((2**50,), np.float64)
