"""The files that are kept: their layouts, and that a layout has one version.

A test that fails here means that files that users have are read otherwise, or that new
ones are not what the documentation says: a new layout needs a new version, and a
published synthetic set must be readable for ever.
"""

import json
import re
import struct
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from skdistill import (
    ChannelScaler,
    STMDistiller,
    SyntheticSet,
    TrajectoryBuffer,
    _set_files,
    make_galaxies,
)
from skdistill.trajectory import _store
from skdistill.utils import _checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a buffer, a checkpoint and a set of the smallest distillation."""
    folder = tmp_path_factory.mktemp("run")
    X, y = make_galaxies(18, size=8, random_state=0)
    teachers = TrajectoryBuffer(
        n_teachers=1, n_epochs=2, width=4, depth=1, path=folder / "buffer"
    )
    distiller = STMDistiller(
        buffer=teachers,
        n_steps=1,
        max_total_iter=1,
        checkpoint=folder / "checkpoint",
        random_state=0,
    ).fit(X, y)
    distiller.synthetic_.save(folder / "set.safetensors")
    return folder


def contents(path):
    """Return the tensors of a file as "type shape", and its header's entries."""
    with safe_open(path, framework="pt") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        tensors = {
            name: f"{part.get_dtype()} {part.get_shape()}"
            for name, part in parts.items()
        }
        return tensors, file.metadata()


def raw_safetensors(tensors, metadata):
    """Return the bytes of a file as the format is specified."""
    header, data = {"__metadata__": metadata}, b""
    for name, (kind, array) in tensors.items():
        end = len(data) + array.nbytes
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [len(data), end],
        }
        data += array.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize("more", [False, True])
def test_published_sets_of_version_1_are_read(tmp_path, more):
    X = np.arange(24, dtype="<f4").reshape(2, 2, 2, 3)
    probabilities = np.array([[0.25, 0.75], [1, 0]], dtype="<f4")
    space = np.array([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]], dtype="<f8")
    tensors = {"X": ("F32", X), "y": ("I64", np.array([1, 0], dtype="<i8"))}
    if more:
        tensors["probabilities"] = ("F32", probabilities)
        tensors["pixel_space"] = ("F64", space)
    path = tmp_path / "published.safetensors"
    path.write_bytes(
        raw_safetensors(
            tensors,
            {
                "format": "skdistill-synthetic-set",
                "version": "1",
                "classes": '["edge-on", "smooth"]',
                "step_size": "0.02" if more else "null",
                "metadata": '{"ipc": "1"}',
            },
        )
    )
    found = SyntheticSet.load(path)
    assert np.array_equal(found.X, X)
    assert found.y.tolist() == ["smooth", "edge-on"]
    assert found.step_size == (0.02 if more else None)
    assert found.metadata == {"ipc": "1"}
    assert (found.probabilities is not None) == more
    assert (found.pixel_space is not None) == more
    if more:
        assert np.array_equal(found.probabilities, probabilities)
        assert np.array_equal(np.asarray(found.pixel_space), space)


def test_published_sets_of_version_2_are_read(tmp_path):
    small = np.arange(12, dtype="<f4").reshape(2, 2, 1, 3)
    path = tmp_path / "published.safetensors"
    path.write_bytes(
        raw_safetensors(
            {"X": ("F32", small), "y": ("I64", np.array([1, 0], dtype="<i8"))},
            {
                "format": "skdistill-synthetic-set",
                "version": "2",
                "classes": "[3, 5]",
                "step_size": "0.02",
                "metadata": "{}",
                "pixel_size": "2",
            },
        )
    )
    found = SyntheticSet.load(path)
    assert found.X.shape == (2, 4, 2, 3)
    for down, across in product((0, 1), repeat=2):
        assert np.array_equal(found.X[:, down::2, across::2], small)
    assert found.y.tolist() == [5, 3]
    assert found.pixel_size == 2


def test_published_sets_of_version_3_are_read(tmp_path):
    targets = np.array([[-0.5, 2], [1e-3, -7]], dtype="<f4")
    path = tmp_path / "published.safetensors"
    path.write_bytes(
        raw_safetensors(
            {
                "X": ("F32", np.zeros((2, 2, 1, 3), dtype="<f4")),
                "y": ("I64", np.array([1, 0], dtype="<i8")),
                "targets": ("F32", targets),
            },
            {
                "format": "skdistill-synthetic-set",
                "version": "3",
                "classes": "[3, 5]",
                "step_size": "null",
                "metadata": "{}",
                "pixel_size": "1",
            },
        )
    )
    found = SyntheticSet.load(path)
    assert np.array_equal(found.targets, targets)
    assert found.X.shape == (2, 2, 1, 3)
    assert found.y.tolist() == [5, 3]


def scaler_of_file():
    """The entry and the tensors of a scaler, as version 4 has them."""
    entry = {
        "name": "ChannelScaler",
        "image_shape": [2, 1, 3],
        "n_samples_seen": 4,
        "n_pixels": 8,
        "rounding": 0.0,
    }
    values = {
        "mean": [10.0, 20, 30],
        "scale": [1.0, 2, 4],
        "low": [0.0, 0, 0],
        "high": [255.0, 255, 200],
        "center": [10.0, 20, 30],
        "squares": [8.0, 32, 128],
    }
    return entry, {
        f"preprocessing.0.{name}": ("F64", np.array(value, dtype="<f8"))
        for name, value in values.items()
    }


def test_published_sets_of_version_4_are_read(tmp_path):
    scaler, of_scaler = scaler_of_file()
    zca = {
        "name": "ZCAWhitener",
        "image_shape": [2, 1, 3],
        "n_samples_seen": 4,
        "eps": 0.5,
    }
    of_zca = {
        "preprocessing.1.mean": ("F64", np.zeros(6, dtype="<f8")),
        "preprocessing.1.variances": ("F64", np.array([3.5, 1.5], dtype="<f8")),
        "preprocessing.1.components": ("F32", np.eye(2, 6, dtype="<f4")),
    }
    path = tmp_path / "published.safetensors"
    path.write_bytes(
        raw_safetensors(
            {
                "X": ("F32", np.zeros((2, 2, 1, 3), dtype="<f4")),
                "y": ("I64", np.array([1, 0], dtype="<i8")),
                **of_scaler,
                **of_zca,
            },
            {
                "format": "skdistill-synthetic-set",
                "version": "4",
                "classes": "[3, 5]",
                "step_size": "null",
                "metadata": "{}",
                "pixel_size": "1",
                "preprocessing": json.dumps([scaler, zca]),
            },
        )
    )
    found = SyntheticSet.load(path)
    raw = np.array([[[[10.0, 22, 30]], [[11, 20, 30]]]])
    # The scaler makes 0, 1, 0 and 1, 0, 0 of it; the whitener divides by the roots of
    # 3.5 + 0.5, 1.5 + 0.5, and 0.5 along the rest.
    white = np.array([0, 1 / 2**0.5, 0, 1 / 0.5**0.5, 0, 0])
    with pytest.warns(UserWarning, match="deviation"):  # of two pixels
        np.testing.assert_allclose(found.transform(raw).ravel(), white, atol=1e-6)


@pytest.mark.parametrize(
    ("more", "version", "tensors", "entries"),
    [
        ({}, "1", set(), set()),
        (
            {"preprocessing": ChannelScaler().fit(np.ones((2, 4, 4, 1)))},
            "4",
            {*scaler_of_file()[1]},
            {"pixel_size", "preprocessing"},
        ),
        ({"probabilities": np.eye(2)}, "1", {"probabilities"}, set()),
        ({"pixel_size": 2}, "2", set(), {"pixel_size"}),
        ({"targets": -np.eye(2)}, "3", {"targets"}, {"pixel_size"}),
        ({"targets": -np.eye(2), "pixel_size": 2}, "3", {"targets"}, {"pixel_size"}),
    ],
)
def test_sets_are_written_in_the_oldest_version(
    tmp_path, more, version, tensors, entries
):
    SyntheticSet(np.zeros((2, 4, 4, 1)), [0, 1], **more).save(tmp_path / "set")
    found, header = contents(tmp_path / "set")
    assert header["version"] == version
    assert set(found) == {"X", "y"} | tensors
    assert set(header) == {
        *("format", "version", "classes", "step_size", "metadata"),
        *entries,
    }


def test_layout_of_a_set(run):
    tensors, header = contents(run / "set.safetensors")
    assert tensors == {
        "X": "F32 [9, 8, 8, 3]",
        "y": "I64 [9]",
        "pixel_space": "F64 [3, 3]",
    }
    assert set(header) == {"format", "version", "classes", "step_size", "metadata"}
    assert header["version"] == "1"


def test_layout_of_a_buffer(run):
    folder = run / "buffer"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest) == {
        "format",
        "version",
        "parameters",
        "settings",
        "classes",
        "fingerprint",
        "n_parameters",
        "seed",
        "dropped",
        "checksum",
    }
    assert manifest["version"] == 3
    tensors, header = contents(folder / "teacher-00000.safetensors")
    n_parameters = manifest["n_parameters"]
    assert tensors == {
        "parameters": f"F32 [3, {n_parameters}]",
        "loss": "F64 [2]",
        "accuracy": "F64 [2]",
        "last": f"F32 [{n_parameters}]",
    }
    assert list(header) == ["skdistill"]
    content = json.loads(header["skdistill"])
    assert set(content) == {
        "format",
        "version",
        "teacher",
        "buffer",
        "seed",
        "digests",
        "snapshots",
        "checksum",
    }
    assert content["version"] == 3


def test_layout_of_a_checkpoint(run):
    assert [path.name for path in (run / "checkpoint").glob("*.safetensors")] == [
        "state.safetensors"
    ]
    tensors, header = contents(run / "checkpoint" / "state.safetensors")
    states, others = {}, set()
    for name in tensors:
        state, slash, part = name.partition("/")
        if slash:
            states.setdefault(state, set()).add(part)
        else:
            others.add(name)
    parts = {
        *(f"images.{name}" for name in ("average", "n_steps", "value")),
        *(f"images.{name}" for name in ("bias_correction", "momentum_buffer", "rms")),
        *(f"step_sizes.{name}" for name in ("logarithms", "momentum_buffers")),
    }
    assert states == {
        "best": parts,
        "good": parts,
        "now": parts,
        "objective": {"counts", "stages", "validations"},
    }
    assert others == {"history"}
    assert set(header) == {"format", "version", "content"}
    assert header["version"] == "3"
    assert set(json.loads(header["content"])) == {
        "signature",
        "progress",
        "learning_rate_factor",
        "stage",
        "history",
    }


def test_other_versions_are_refused_by_name(run, tmp_path):
    """A file of the future is not guessed at, and the message says whose it is."""
    X = np.zeros((1, 2, 2, 1), dtype=np.float32)
    path = tmp_path / "set.safetensors"
    header = {"classes": "[0]", "step_size": "null", "metadata": "{}", "version": "5"}
    tensors = {"X": X, "y": np.zeros(1, dtype=np.int64)}
    save_file(tensors, path, metadata={"format": "skdistill-synthetic-set", **header})
    with pytest.raises(ValueError, match=r"set\.safetensors.*version is '5'.*reads 1"):
        SyntheticSet.load(path)

    manifest = json.loads((run / "buffer" / "manifest.json").read_text())
    folder = tmp_path / "buffer"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": 5}))
    with pytest.raises(ValueError, match=r"format version 5; .*reads versions \(3, 4"):
        TrajectoryBuffer.load(folder)

    path = tmp_path / "state.safetensors"
    header = {"format": "skdistill-checkpoint", "version": "99", "content": "{}"}
    save_file({"x": X}, path, metadata=header)
    with pytest.raises(ValueError, match=r"version is '99'.*reads"):
        _checkpoint.load_checkpoint(path)


def test_versions_are_those_of_the_documentation():
    page = Path(__file__).parents[1] / "doc" / "promises.rst"
    table = page.read_text(encoding="utf-8").partition("- Version\n")[2]
    versions = re.findall(r"^     - (\d+)$", table, re.MULTILINE)
    assert versions == [
        _set_files.VERSIONS[-1],
        str(_store.MANIFEST_VERSIONS[-1]),
        _checkpoint._VERSION,
    ]
