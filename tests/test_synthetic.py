import base64
import io
import json
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from skdistill import ChannelScaler, SyntheticSet
from skdistill.synthetic import _as_set, to_displayable
from skdistill.utils._figures import some_of_each


@pytest.fixture
def distilled():
    X = np.random.default_rng(0).normal(size=(4, 3, 5, 2))
    return SyntheticSet(X, ["b", "a", "b", "c"], 0.02, {"ipc": "1"})


def test_unpacks(distilled):
    X, y = distilled
    assert X is distilled.X
    assert y is distilled.y
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    assert y.tolist() == ["b", "a", "b", "c"]
    assert len(distilled) == 4
    assert distilled.step_size == 0.02
    assert SyntheticSet(X, y).step_size is None
    assert SyntheticSet(X, y).metadata == {}


def test_repr(distilled):
    assert repr(distilled) == (
        "<SyntheticSet: 4 images of 3x5x2, 3 classes, step size 0.02>"
    )
    assert "step size" not in repr(SyntheticSet(distilled.X, distilled.y))


@pytest.mark.parametrize(
    ("X", "y", "step_size", "message"),
    [
        (np.zeros((2, 3, 3)), [0, 1], None, r"4-D .*got 3-D \(2, 3, 3\)"),
        (np.zeros((2, 3, 3, 1)), [0], None, r"each of the 2 images; got shape \(1,\)"),
        (np.zeros((2, 3, 3, 1)), [[0, 1]], None, r"got shape \(1, 2\)"),
        (np.full((2, 3, 3, 1), np.nan), [0, 1], None, r"contains NaN"),
        (np.full((2, 3, 3, 1), -np.inf), [0, 1], None, r"contains infinity"),
        *(
            (np.zeros((2, 3, 3, 1)), [0, 1], bad, r"`step_size` must be positive")
            for bad in (0, -0.1, np.inf, np.nan)
        ),
    ],
)
def test_bad_sets(X, y, step_size, message):
    with pytest.raises(ValueError, match=message):
        SyntheticSet(X, y, step_size)


labels = st.one_of(
    hnp.arrays(np.int64, 4),
    hnp.arrays(np.uint8, 4),
    hnp.arrays(np.bool_, 4),
    hnp.arrays(np.float64, 4, elements=st.floats(allow_nan=False)),
    st.lists(st.text(max_size=5), min_size=4, max_size=4).map(np.array),
)


@given(
    labels,
    hnp.arrays(
        np.float32, (4, 2, 1, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32)
    ),
    st.none() | st.floats(1e-300, 1e300),
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
)
def test_round_trip(tmp_path_factory, y, X, step_size, metadata):
    path = tmp_path_factory.getbasetemp() / "round_trip.safetensors"
    SyntheticSet(X, y, step_size, metadata).save(path)
    loaded = SyntheticSet.load(str(path))
    np.testing.assert_array_equal(loaded.X, X)
    np.testing.assert_array_equal(loaded.y, y)
    assert loaded.y.dtype.kind == y.dtype.kind.replace("u", "i")
    assert loaded.step_size == step_size
    assert loaded.metadata == metadata


@given(
    hnp.arrays(
        np.float32, (3, 2, 1, 2), elements=st.floats(-(2.0**99), 2.0**99, width=32)
    ),
    st.integers(2, 4),
)
def test_a_file_holds_larger_pixels_once(tmp_path_factory, small, pixel_size):
    X = np.kron(small, np.ones((1, pixel_size, pixel_size, 1), np.float32))
    path = tmp_path_factory.getbasetemp() / "larger.safetensors"
    synthetic = SyntheticSet(X, [0, 1, 0], pixel_size=pixel_size)
    synthetic.save(path)
    loaded = SyntheticSet.load(path)
    np.testing.assert_array_equal(loaded.X, X)
    assert loaded.pixel_size == pixel_size
    with safe_open(path, framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("X"), small)
    size = f"{pixel_size}x{pixel_size}"
    assert f"images of {2 * pixel_size}x{pixel_size}x2 in pixels of {size}, " in repr(
        loaded
    )


@pytest.mark.parametrize("pixel_size", [2, 3])
def test_pixels_that_differ_are_no_larger_one(pixel_size):
    X = np.zeros((1, 4, 6, 1))
    X[0, 3, 5] = 1
    with pytest.raises(ValueError, match=rf"blocks of {pixel_size}x{pixel_size} equal"):
        SyntheticSet(X, [0], pixel_size=pixel_size)


@pytest.mark.parametrize("pixel_size", [0, -1, 1.5, "2", None])
def test_bad_pixel_sizes(pixel_size):
    with pytest.raises(ValueError, match="`pixel_size` must be an integer of at least"):
        SyntheticSet(np.zeros((1, 4, 4, 1)), [0], pixel_size=pixel_size)


def test_round_trip_without_images(tmp_path):
    SyntheticSet(np.empty((0, 2, 2, 3)), []).save(tmp_path / "empty")
    assert len(SyntheticSet.load(tmp_path / "empty")) == 0


def test_save_replaces_and_makes_folders(distilled, tmp_path):
    path = tmp_path / "new" / "set.safetensors"
    distilled.save(path)
    SyntheticSet(distilled.X + 1, distilled.y).save(path)
    np.testing.assert_array_equal(SyntheticSet.load(path).X, distilled.X + 1)
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_save_keeps_the_old_file(distilled, tmp_path, monkeypatch):
    path = tmp_path / "set.safetensors"
    distilled.save(path)

    def fail(tensors, file, metadata):
        file.write_bytes(b"half of")
        raise OSError("disk full")

    monkeypatch.setattr("skdistill._set_files.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        distilled.save(path)
    np.testing.assert_array_equal(SyntheticSet.load(path).X, distilled.X)
    assert list(tmp_path.iterdir()) == [path]


def test_missing_file(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(FileNotFoundError, match="does not exist"):
            SyntheticSet.load(path)


def test_truncated_file(distilled, tmp_path):
    path = tmp_path / "set.safetensors"
    distilled.save(path)
    whole = path.read_bytes()
    for length in (0, 1, 8, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"set\.safetensors cannot be read"):
            SyntheticSet.load(path)


GOOD = {
    "format": "skdistill-synthetic-set",
    "version": "1",
    "classes": '["a", "b"]',
    "step_size": "null",
    "metadata": "{}",
}
TENSORS = {"X": np.zeros((2, 3, 3, 1), np.float32), "y": np.array([0, 1])}
V3 = {"version": "3", "pixel_size": "1"}
ROWS = np.ones((2, 2), np.float32)


@pytest.mark.parametrize(
    ("changes", "tensors", "message"),
    [
        ({"format": None}, {}, "it is not a synthetic set"),
        ({"format": "other"}, {}, "it is not a synthetic set"),
        ({"version": "5"}, {}, "version is '5', this version .* reads 1, 2, 3, 4"),
        ({"version": "4", "pixel_size": "1"}, {}, "it lacks .'preprocessing'"),
        (V3 | {"version": "4", "preprocessing": "[]"}, {}, "preprocessing has no step"),
        ({"version": "3", "pixel_size": "1"}, {}, "it lacks .'targets'"),
        (V3 | {"pixel_size": None}, {"targets": ROWS}, "it lacks .'pixel_size'"),
        (V3, {"targets": ROWS[:1]}, "`targets` must hold a number of each class"),
        (V3, {"targets": ROWS * np.inf}, "`targets` must be finite"),
        (V3, {"targets": ROWS.astype("f8")}, "'targets' is of float64"),
        (V3, {"targets": ROWS, "probabilities": ROWS}, "not both"),
        ({}, {"targets": ROWS}, "unknown part 'targets'"),
        ({"version": "2", "pixel_size": "1"}, {"targets": ROWS}, "unknown part"),
        ({"version": "2"}, {}, "it lacks .'pixel_size'"),
        *(
            ({"version": "2", "pixel_size": bad}, {}, "its pixel size is not a number")
            for bad in ("0", "-2", "1.5", "true", "null")
        ),
        ({"version": "2", "pixel_size": "2000"}, {}, "images are too large"),
        ({"classes": None}, {}, "classes"),
        ({"classes": "[["}, {}, ""),
        ({"classes": '["a"]'}, {}, "labels that are not in its classes"),
        ({"classes": "[[1], [2, 3]]"}, {}, ""),
        ({"step_size": "-1"}, {}, "must be positive"),
        ({"step_size": "[]"}, {}, ""),
        ({}, {"X": None}, "X"),
        ({}, {"y": np.array([0, -1])}, "labels that are not in its classes"),
        ({}, {"y": np.array([0.0, 1.0])}, ""),
        ({}, {"y": np.array([0])}, "one label for each"),
        ({}, {"X": np.full((2, 3, 3, 1), np.nan, np.float32)}, "must be finite"),
    ],
)
def test_foreign_and_damaged_files(tmp_path, changes, tensors, message):
    metadata = {k: v for k, v in (GOOD | changes).items() if v is not None}
    tensors = {k: v for k, v in (TENSORS | tensors).items() if v is not None}
    save_file(tensors, tmp_path / "file", metadata=metadata)
    message = re.escape(str(tmp_path / "file")) + " cannot be read: .*" + message
    with pytest.raises(ValueError, match=message):
        SyntheticSet.load(tmp_path / "file")


def test_the_unchanged_file_is_good(tmp_path):
    save_file(TENSORS, tmp_path / "file", metadata=GOOD)
    assert SyntheticSet.load(tmp_path / "file").y.tolist() == ["a", "b"]
    save_file(TENSORS, tmp_path / "file")
    with pytest.raises(ValueError, match="file cannot be read: it is not a synthetic"):
        SyntheticSet.load(tmp_path / "file")
    np.savez(tmp_path / "set.npz", X=np.zeros(3))
    with pytest.raises(ValueError, match=r"use `SyntheticSet\.from_published`"):
        SyntheticSet.load(tmp_path / "set.npz")


def test_to_frame(distilled):
    frame = distilled.to_frame()
    assert frame.shape == (4, 1 + 30)
    assert frame["label"].tolist() == ["b", "a", "b", "c"]
    assert frame.columns[:4].tolist() == [
        "label",
        "pixel_0_0_0",
        "pixel_0_0_1",
        "pixel_0_1_0",
    ]
    np.testing.assert_array_equal(frame["pixel_2_3_1"], distilled.X[:, 2, 3, 1])
    frame.iloc[:, 1:] = 0
    assert distilled.X.all()


def test_html_has_every_image_and_no_markup_of_labels(distilled):
    names = ["<b>&'\"", "plain", "plain", "x"]
    page = SyntheticSet(distilled.X, names)._repr_html_()
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    assert page.count("<img") == len(pictures) == 4
    assert "<b>" not in page
    assert page.count("&lt;b&gt;&amp;&#x27;&quot;") == 2
    expected = to_displayable(distilled.X)
    for picture, pixels in zip(pictures, expected, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_displayable_is_rgb(channels):
    images = np.random.default_rng(0).normal(size=(3, 4, 5, channels))
    pixels = to_displayable(images)
    assert pixels.shape == (3, 4, 5, 3)
    assert pixels.dtype == np.uint8
    assert pixels.min() == 0
    assert pixels.max() == 255
    if channels == 1:
        assert (pixels == pixels[..., :1]).all()
    # what is shown as blue
    shown = (
        images[..., [3, 4]] if channels == 5 else images[..., [min(channels, 3) - 1]]
    )
    shown = shown.mean(axis=-1)
    order = np.argsort(shown, axis=None)
    assert (np.diff(pixels[..., 2].flat[order].astype(int)) >= 0).all()


def test_displayable_composites():
    images = np.random.default_rng(0).random((2, 4, 4, 5))
    chosen = to_displayable(images, (0, 1), (4, 2, 0))
    np.testing.assert_array_equal(
        chosen, to_displayable(images[..., [4, 2, 0]], (0, 1))
    )
    np.testing.assert_array_equal(
        chosen, to_displayable(images, (0, 1), np.eye(5)[[4, 2, 0]])
    )
    for wrong in [(0, 1), (0, 1, 5), np.ones((3, 4)), np.full((3, 5), np.nan)]:
        with pytest.raises(ValueError, match="`composite` must be the positions"):
            to_displayable(images, (0, 1), wrong)


def test_displayable_stretches_all_images_alike():
    images = np.zeros((2, 10, 10, 1), dtype=np.float32)
    images[0] = np.linspace(0, 1, 100).reshape(10, 10, 1)
    images[1] = images[0] / 2 + 0.25
    images *= 7  # of no kind whose black and white are known
    pixels = to_displayable(images).astype(int)
    inside = (pixels[0] > 0) & (pixels[0] < 255)
    low, high = np.quantile(images, [0.005, 0.999])
    expected = (images - low) / (high - low) * 255
    assert np.abs(pixels - expected.clip(0, 255)).max() <= 0.51
    assert pixels[1].min() > 50
    assert inside.any()
    # the unit of the pixels does not matter
    np.testing.assert_allclose(to_displayable(images * 1e4 - 7), pixels, atol=1)


@pytest.mark.parametrize("names", ["ugriz", ("SDSS_u", "SDSS_g", "r", "i band", "Z")])
def test_images_of_named_bands_are_red_where_the_reddest_band_is(names):
    images = np.zeros((3, 4, 4, 5), dtype=np.float32)
    for number, band in enumerate([4, 2, 0]):  # z, r and u
        images[number, ..., band] = 1.0
    distilled = SyntheticSet(images, [0, 1, 2])
    pixels = distilled.to_images(value_range=(0, 1), band_names=names)
    assert pixels[:, 0, 0].argmax(axis=-1).tolist() == [0, 1, 2]
    # Without names the first band is taken for the reddest.
    plain = distilled.to_images(value_range=(0, 1))
    assert plain[:, 0, 0].argmax(axis=-1).tolist() == [2, 1, 0]
    chosen = distilled.to_images(
        value_range=(0, 1), band_names=names, composite=(names[0], names[2], names[4])
    )
    assert chosen[:, 0, 0].argmax(axis=-1).tolist() == [2, 1, 0]


def test_images_after_a_scaler_have_the_black_and_white_of_the_real_ones():
    X = np.random.default_rng(0).integers(0, 256, size=(40, 6, 6, 3))
    scaler = ChannelScaler().fit(X)
    noisy = np.full((2, 6, 6, 3), -30.0)
    noisy[1] = 300.0
    noisy[1, 0, 0] = 128.0
    distilled = SyntheticSet(scaler.transform(noisy), [0, 1])
    pixels = distilled.to_images(scaler)
    assert pixels[0].max() == 0
    assert pixels[1, 0, 0].tolist() == [128] * 3


@pytest.mark.parametrize("value", [-3.0, 0.0, 1e30])
def test_displayable_constant_images(value):
    images = np.full((2, 16, 16, 3), value, dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not to_displayable(images).any()
        images[0, 0, 0] = value + 1 if abs(value) < 1e9 else 2 * value
        pixels = to_displayable(images)
    assert (pixels[0, 0, 0] == 255).all()
    assert pixels.sum() == 3 * 255
    assert to_displayable(images[:0]).shape == (0, 16, 16, 3)


def test_as_set(distilled):
    assert _as_set(distilled) is distilled
    pair = _as_set((distilled.X, distilled.y))
    assert isinstance(pair, SyntheticSet)
    np.testing.assert_array_equal(pair.y, distilled.y)
    with pytest.raises(ValueError, match=r"a pair \(X, y\); got a tuple of 3"):
        _as_set((distilled.X, distilled.y, distilled.y))


# Soft labels


@pytest.fixture
def soft():
    probabilities = [[0.5, 0.25, 0.25], [1, 0, 0], [0.1, 0.8, 0.1], [0, 0, 1]]
    return SyntheticSet(
        np.zeros((4, 3, 5, 2)), ["b", "a", "b", "c"], probabilities=probabilities
    )


def test_probabilities_come_back(soft, distilled, tmp_path):
    assert soft.probabilities.dtype == np.float32
    assert soft.probabilities.shape == (4, 3)
    soft.save(tmp_path / "soft")
    loaded = SyntheticSet.load(tmp_path / "soft")
    assert np.array_equal(loaded.probabilities, soft.probabilities)
    # They change nothing of how a set unpacks.
    _, y = loaded
    assert y.tolist() == ["b", "a", "b", "c"]
    assert distilled.probabilities is None
    distilled.save(tmp_path / "hard")
    assert SyntheticSet.load(tmp_path / "hard").probabilities is None


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.ones((4, 2)), r"`probabilities` .*shape \(4, 3\); got shape \(4, 2\)"),
        (np.ones((3, 3)), r"`probabilities` .*shape \(4, 3\); got shape \(3, 3\)"),
        (np.ones(4), r"`probabilities` .*shape \(4, 3\); got shape \(4,\)"),
        (np.full((4, 3), np.nan), r"`probabilities` must be finite"),
        (np.full((4, 3), -0.1), "`probabilities` must be .*non-negative.*`targets`"),
        (np.full((4, 3), "1"), r"`probabilities` must hold .*got <U1"),
        (pd.DataFrame(np.ones((4, 3)), columns=["c", "b", "a"]), "columns .*order"),
    ],
)
def test_wrong_probabilities(soft, probabilities, message):
    with pytest.raises(ValueError, match=message):
        SyntheticSet(soft.X, soft.y, probabilities=probabilities)


# Regression targets


@pytest.fixture
def regressed(soft):
    targets = [[-0.5, 2.25, 0.25], [1, 0, 0], [0, 1e30, -1e-30], [-4, -3, -2]]
    return SyntheticSet(soft.X, soft.y, 0.02, targets=targets)


def test_targets_come_back(regressed, tmp_path):
    assert regressed.targets.dtype == np.float32
    for path in (tmp_path / "once", tmp_path / "twice"):
        regressed.save(path)
        loaded = SyntheticSet.load(path)
        assert np.array_equal(loaded.targets, regressed.targets)
        assert loaded.probabilities is None
        assert loaded.step_size == 0.02
        regressed = loaded
    assert repr(loaded) == (
        "<SyntheticSet: 4 images of 3x5x2, 3 classes, regression targets, step size "
        "0.02>"
    )
    assert "regression targets" in loaded._repr_html_()
    copy = pickle.loads(pickle.dumps(loaded))
    assert np.array_equal(copy.targets, regressed.targets)


def test_sets_that_were_pickled_before_there_were_targets(distilled):
    state = distilled.__dict__
    del state["targets"]
    old = SyntheticSet.__new__(SyntheticSet)
    old.__dict__.update(state)
    assert pickle.loads(pickle.dumps(old)).targets is None


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.ones((4, 2)), r"`targets` .*shape \(4, 3\); got shape \(4, 2\)"),
        (np.ones((1, 3)), r"`targets` .*shape \(4, 3\); got shape \(1, 3\)"),
        (np.ones(4), r"`targets` .*shape \(4, 3\); got .*class of each image is `y`"),
        (np.ones((4, 1)), r"`targets` .*shape \(4, 3\); got .*`y`"),
        ([[0, 1, 2], [0, np.nan, 0], *[[0, 0, 0]] * 2], "finite .* in row 1"),
        (np.full((4, 3), 1e39), r"`targets` must be finite as float32; got \[1e\+39"),
        (np.full((4, 3), 1j), r"`targets` must hold .*got complex128"),
        (np.full((4, 3), "a"), r"`targets` must hold .*got <U1"),
        (np.full((4, 3), None), r"`targets` must"),
        (np.full((4, 3), "a", dtype=object), r"`targets` must hold numbers"),
        (np.ma.masked_less(np.eye(4, 3), 0.5), r"targets is masked"),
        (torch.ones(4, 3, requires_grad=True), r"targets must be .*\.detach\(\)"),
        (pd.DataFrame(np.ones((4, 3)), columns=["c", "b", "a"]), "columns .*order"),
        (scipy.sparse.eye(4, 3), r"`targets` must hold"),
    ],
)
def test_wrong_targets(soft, targets, message):
    with pytest.raises(ValueError, match=message):
        SyntheticSet(soft.X, soft.y, targets=targets)


@pytest.mark.parametrize(
    "make",
    [
        np.asfortranarray,
        np.ndarray.tolist,
        torch.from_numpy,
        lambda rows: pd.DataFrame(rows, columns=["a", "b", "c"]),
        lambda rows: pd.DataFrame(rows),
        lambda rows: np.ma.masked_invalid(rows),
        lambda rows: rows.astype(int),
    ],
)
def test_whatever_holds_numbers_can_be_targets(soft, make):
    rows = np.arange(12.0).reshape(4, 3) - 5
    found = SyntheticSet(soft.X, soft.y, targets=make(rows)).targets
    assert np.array_equal(found, rows)
    assert found.flags.c_contiguous


def test_targets_or_probabilities(soft):
    with pytest.raises(ValueError, match="`probabilities` or `targets`, not both"):
        SyntheticSet(
            soft.X, soft.y, probabilities=soft.probabilities, targets=np.ones((4, 3))
        )
    soft.targets = np.ones((4, 3))
    with pytest.raises(ValueError, match="not both"):
        soft.save("nowhere")


# Whatever is saved can be loaded


def changed(name, value, **how):
    distilled = SyntheticSet(np.zeros((4, 4, 4, 2)), [0, 1, 2, 3], **how)
    setattr(distilled, name, value)
    return distilled


@pytest.mark.parametrize(
    ("distilled", "message"),
    [
        (changed("X", np.full((4, 4, 4, 2), np.nan)), "NaN"),
        (changed("X", np.zeros((4, 4, 4))), "4-D|axes|images"),
        (changed("X", np.zeros((3, 4, 4, 2))), "one label for each of the 3 images"),
        (changed("y", np.array([0, 1, 2])), "one label for each of the 4 images"),
        (
            changed("y", np.eye(4)),
            r"one-hot rows by y = classes\[rows.argmax.*`probabil",
        ),
        (changed("y", np.array([0, 1, np.nan, 2])), "got NaN"),
        (
            changed("y", np.array([None, "a", "b", "c"])),
            "y must hold labels of the same t",
        ),
        (changed("step_size", -1.0), "`step_size` must be positive"),
        (changed("step_size", "fast"), "`step_size` must be a number"),
        (changed("probabilities", np.ones((4, 3))), "`probabilities` must hold"),
        (changed("targets", np.ones((4, 3))), "`targets` must hold"),
        (changed("targets", np.full((4, 4), np.inf)), "`targets` must be finite"),
        (changed("probabilities", -np.ones((4, 4))), "convert logits by softmax"),
        (changed("pixel_space", np.ones((3, 1))), "`pixel_space` must be"),
        (changed("pixel_size", 3), "`pixel_size`"),
        (changed("metadata", "a text"), "`metadata` must be a dict"),
        (changed("metadata", {1: "one"}), "`metadata` must be a dict whose keys are"),
        (
            changed("metadata", {"seed": np.int64(1)}),
            r"`metadata`\['seed'\] must be .* of Python, .*int64.* its .tolist\(\)",
        ),
        (changed("metadata", {"loss": float("nan")}), r"`metadata`\['loss'\] must be"),
        (changed("metadata", {"deep": json.loads("[" * 70 + "]" * 70)}), "levels"),
    ],
)
def test_what_cannot_be_loaded_is_not_saved(distilled, message, tmp_path):
    path = tmp_path / "set.safetensors"
    good = SyntheticSet(np.ones((2, 4, 4, 2)), ["a", "b"])
    good.save(path)
    before = path.read_bytes()
    if distilled.pixel_size == 3:
        distilled.X = np.random.default_rng(0).normal(size=(4, 4, 4, 2))
    with pytest.raises(ValueError, match=message):
        distilled.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_can_be_converted_is_saved(tmp_path):
    path = tmp_path / "set"
    for distilled in (
        SyntheticSet(np.zeros((4, 4, 4, 2)), [0, 1, 2, 3], metadata=None),
        changed("X", np.ones((4, 4, 4, 2)) * np.full(2, 0.5)),
        changed("y", ["a", "b", "a", "c"]),
        changed("metadata", {"seed": 3, "of": ["a", {"b": None}]}),
        changed("pixel_space", [[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]]),
    ):
        distilled.save(path)
        loaded = SyntheticSet.load(path)
        np.testing.assert_array_equal(loaded.X, np.asarray(distilled.X, np.float32))
        assert loaded.y.tolist() == list(distilled.y)
        assert loaded.metadata == distilled.metadata


@pytest.mark.parametrize(
    "use",
    [
        lambda distilled: distilled[0],
        lambda distilled: distilled.of_class(0),
        lambda distilled: SyntheticSet.concat([distilled, distilled]),
        SyntheticSet.to_frame,
        SyntheticSet.to_torch,
        SyntheticSet.to_images,
    ],
)
def test_what_was_changed_is_checked_wherever_it_is_used(use, tmp_path):
    rows = np.eye(4).tolist()
    for name, value in (
        ("X", np.ones((4, 4, 4, 2)).tolist()),
        ("X", torch.ones(4, 4, 4, 2)),
        ("y", [0, 1, 2, 3]),
        ("y", pd.Series([0, 1, 2, 3], index=[9, 8, 7, 6])),
        ("probabilities", rows),
        ("targets", rows),
        ("metadata", None),
    ):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* are dropped")
            use(changed(name, value))
    for name, value, message in (
        ("X", np.full((4, 4, 4, 2), np.nan), "NaN"),
        ("X", np.ones((3, 4, 4, 2)), "one label for each of the 3 images"),
        ("y", np.array([0, 1, 2]), "one label for each of the 4 images"),
        ("probabilities", np.ones((4, 3)), "`probabilities` must hold"),
    ):
        with pytest.raises(ValueError, match=message):
            use(changed(name, value))
        folder = tmp_path / "pictures"
        with pytest.raises(ValueError, match=message):
            changed(name, value).to_image_folder(folder)
        assert not folder.exists()


def test_metadata_are_a_dict(distilled):
    with pytest.raises(ValueError, match=r"`metadata` must be a dict.*got 'a note'"):
        SyntheticSet(distilled.X, distilled.y, metadata="a note")


def test_sets_without_images_are_tables_without_rows(distilled):
    assert distilled[[]].to_frame().shape == (0, 31)


@pytest.mark.parametrize("rows", [np.full((4, 3), 30.0), np.eye(4, 3)])
def test_rows_that_do_not_sum_to_one_are_told(distilled, rows):
    with pytest.warns(UserWarning, match="sums are from .*Divide counts"):
        SyntheticSet(distilled.X, distilled.y, probabilities=rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        half = np.full((4, 3), 1 / 3, np.float16)
        SyntheticSet(distilled.X, distilled.y, probabilities=half)
        SyntheticSet(distilled.X, distilled.y, targets=rows)


# HTML of a bounded size


@pytest.mark.parametrize(
    ("n_images", "shape"),
    [(1000, (16, 16, 3)), (24, (64, 64, 3)), (3, (700, 500, 1)), (2, (1, 9000, 5))],
)
def test_html_has_a_bounded_size(n_images, shape):
    X = np.random.default_rng(0).integers(0, 255, (n_images, *shape), dtype=np.uint8)
    y = np.array(["<b>" * 200, *map(str, range(9))])[np.arange(n_images) % 10]
    markup = SyntheticSet(X, y)._repr_html_()
    assert len(markup) < 110_000
    assert markup.count("<img") == min(n_images, 24)
    assert ("and 976 more images" in markup) == (n_images == 1000)
    assert ("shown with sides of at most" in markup) == (shape != (16, 16, 3))
    assert "<b>" not in markup


def test_html_shows_all_classes_alike():
    y = np.repeat(np.arange(12), [100] * 11 + [1])
    shown = some_of_each(y, 24)
    assert np.bincount(y[shown]).tolist() == [3] + [2] * 10 + [1]
    assert some_of_each([], 24).tolist() == []
    markup = SyntheticSet(np.zeros((0, 4, 4, 1)), [])._repr_html_()
    assert "0 images" in markup
