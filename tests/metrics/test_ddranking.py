from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skdistill import SyntheticSet
from skdistill.metrics import export_ddranking, load_ddranking


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(6, 4, 5, 3)).astype(np.float32)


def read(folder, name):
    return torch.load(folder / name, weights_only=True)


def test_layout(images, tmp_path):
    y = ["b", "a", "c", "a", "c", "b"]
    export_ddranking(SyntheticSet(images, y, 0.03), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "images.pt",
        "labels.pt",
        "lr.pt",
    ]
    stored, labels = read(tmp_path, "images.pt"), read(tmp_path, "labels.pt")
    assert stored.dtype == torch.float32
    assert stored.shape == (6, 3, 4, 5)
    order = [1, 3, 0, 5, 2, 4]
    np.testing.assert_array_equal(stored.numpy(), images[order].transpose(0, 3, 1, 2))
    assert labels.dtype == torch.int64
    # What the evaluators assume where they are given no labels.
    assert labels.tolist() == np.arange(3).repeat(2).tolist()
    rate = read(tmp_path, "lr.pt")
    assert rate.ndim == 0
    assert rate.item() == pytest.approx(0.03)


@given(
    ipc=st.integers(1, 3),
    n_classes=st.integers(2, 4),
    soft=st.booleans(),
    step_size=st.none() | st.floats(1e-4, 10),
)
def test_round_trip(tmp_path_factory, ipc, n_classes, soft, step_size):
    rng = np.random.default_rng(ipc)
    y = np.arange(n_classes).repeat(ipc)
    probabilities = rng.dirichlet(np.ones(n_classes), size=len(y)) if soft else None
    if soft:
        probabilities[0] = np.eye(n_classes)[0]  # with zeros
    distilled = SyntheticSet(
        rng.normal(size=(len(y), 3, 4, 2)),
        y,
        step_size,
        probabilities=probabilities,
    )
    folder = tmp_path_factory.mktemp("set")
    export_ddranking(distilled, folder)
    back = load_ddranking(folder)
    np.testing.assert_array_equal(back.X, distilled.X)
    np.testing.assert_array_equal(back.y, y)
    assert (back.step_size is None) == (step_size is None)
    if step_size is not None:
        assert back.step_size == pytest.approx(step_size, rel=1e-6)
    if soft:
        # Their loss takes the softmax of the labels.
        labels = read(folder, "labels.pt")
        assert torch.isfinite(labels).all()
        np.testing.assert_allclose(
            labels.softmax(dim=1).numpy(), distilled.probabilities, atol=1e-6
        )
        np.testing.assert_allclose(
            back.probabilities, distilled.probabilities, atol=1e-6
        )
    else:
        assert back.probabilities is None


def test_names_of_classes_come_back(images, tmp_path):
    y = np.array(["smooth", "spiral", "edge-on"]).repeat(2)
    export_ddranking((images, y), tmp_path)
    assert load_ddranking(tmp_path).y.tolist() == [0, 0, 1, 1, 2, 2]
    names = np.unique(y)
    back = load_ddranking(tmp_path, classes=names)
    assert back.y.tolist() == sorted(y)
    with pytest.raises(ValueError, match=r"must name the 3 classes of .*; got 2"):
        load_ddranking(tmp_path, classes=names[:2])


def test_no_rate_of_another_set_is_left(images, tmp_path):
    y = np.arange(6) % 2
    export_ddranking(SyntheticSet(images, y, 0.5), tmp_path)
    export_ddranking(SyntheticSet(images, y), tmp_path)
    assert load_ddranking(tmp_path).step_size is None


def test_broken_folders(images, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"images\.pt"):
        load_ddranking(tmp_path)
    export_ddranking((images, np.arange(6) % 2), tmp_path)
    whole = (tmp_path / "images.pt").read_bytes()
    (tmp_path / "images.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"images\.pt cannot be read"):
        load_ddranking(tmp_path)
    (tmp_path / "images.pt").write_bytes(whole)
    torch.save(torch.zeros(5, dtype=torch.int64), tmp_path / "labels.pt")
    with pytest.raises(ValueError, match="got 6 images and 5 labels"):
        load_ddranking(tmp_path)
    torch.save(torch.zeros(6), tmp_path / "labels.pt")
    with pytest.raises(ValueError, match=r"labels\.pt must hold class codes"):
        load_ddranking(tmp_path)
    torch.save({"labels": 3}, tmp_path / "labels.pt")
    with pytest.raises(ValueError, match=r"labels\.pt must hold a tensor; got dict"):
        load_ddranking(tmp_path)
    # Code in a pickle is not run.
    torch.save(SyntheticSet, tmp_path / "labels.pt")
    with pytest.raises(ValueError, match=r"labels\.pt cannot be read"):
        load_ddranking(tmp_path)


# Labels of several kinds


def written(folder, labels, images=None):
    if images is None:
        images = torch.zeros(len(labels), 3, 8, 8)
    torch.save(images, folder / "images.pt")
    torch.save(torch.as_tensor(labels), folder / "labels.pt")
    return folder


CODES = torch.arange(5).repeat_interleave(2)
ONE_HOT = torch.nn.functional.one_hot(CODES, 5)


def test_codes_in_a_column(tmp_path):
    for column in (CODES[:, None], CODES[:, None].float()):
        found = load_ddranking(written(tmp_path, column))
        assert found.y.tolist() == CODES.tolist()
        assert found.probabilities is None
    with pytest.raises(ValueError, match=r"class codes .*, whole numbers, or"):
        load_ddranking(written(tmp_path, CODES[:, None] + 0.5))


def test_probabilities_are_told_from_logits(tmp_path):
    folder = written(tmp_path, ONE_HOT)
    with pytest.warns(UserWarning, match="treated as probabilities.*`soft_labels`"):
        found = load_ddranking(folder)
    np.testing.assert_array_equal(found.probabilities, ONE_HOT)
    found = load_ddranking(folder, soft_labels="probabilities")
    np.testing.assert_array_equal(found.probabilities, ONE_HOT)
    found = load_ddranking(folder, soft_labels="logits")
    assert found.probabilities.max() == pytest.approx(np.e / (np.e + 4))
    found = load_ddranking(written(tmp_path, 9.0 * ONE_HOT))
    assert found.probabilities.max() > 0.99
    with pytest.raises(ValueError, match="sum to 1 with `soft_labels`='probabil"):
        load_ddranking(tmp_path, soft_labels="probabilities")
    with pytest.raises(ValueError, match="'soft_labels' parameter"):
        load_ddranking(tmp_path, soft_labels="codes")


def test_labels_that_are_not_in_the_order_of_classes_are_told(tmp_path):
    with pytest.warns(
        UserWarning, match="10 of 10 have a different most probable class"
    ):
        found = load_ddranking(written(tmp_path, 9.0 * ONE_HOT.roll(3, 0)))
    assert found.y.tolist() == CODES.tolist()


def test_soft_labels_of_uneven_classes(tmp_path):
    y = np.array([0, 0, 1, 1, 1])
    soft = SyntheticSet(
        np.zeros((5, 8, 8, 3)), y, probabilities=np.eye(2)[y] * 0.8 + 0.1
    )
    export_ddranking(soft, tmp_path)
    with pytest.warns(UserWarning) as caught:  # noqa: PT030
        found = load_ddranking(tmp_path)
    assert any("most probable class" in str(one.message) for one in caught)
    assert found.y.tolist() == y.tolist()
    np.testing.assert_allclose(found.probabilities, soft.probabilities, atol=1e-6)


def test_images_with_channels_last(tmp_path):
    images = torch.zeros(10, 8, 8, 3)
    with pytest.raises(ValueError, match=r"images.permute\(0, 3, 1, 2\)"):
        load_ddranking(written(tmp_path, CODES, images))


def test_a_failed_export_leaves_all_files_as_they_were(tmp_path, monkeypatch):
    y = np.array([0, 1])
    export_ddranking(SyntheticSet(np.zeros((2, 8, 8, 3)), y, 0.1), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write = Path.write_bytes

    def fail(path, content):
        if "labels" in path.name:
            raise OSError(28, "No space left on device")
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(OSError, match="No space"):
            export_ddranking(SyntheticSet(np.ones((2, 8, 8, 3)), y), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_regression_targets_are_no_logits(images, tmp_path):
    """Their softmax would be nearly even: the classes are written, and it is told."""
    y = np.arange(3).repeat(2)
    distilled = SyntheticSet(images, y, targets=np.eye(3)[y] - 1 / 3)
    with pytest.warns(UserWarning, match="cannot regress on `targets`") as told:
        export_ddranking(distilled, tmp_path)
    assert [warning.filename for warning in told] == [__file__]
    assert read(tmp_path, "labels.pt").tolist() == y.tolist()
    back = load_ddranking(tmp_path)
    assert back.targets is None
    assert back.y.tolist() == y.tolist()


def test_columns_of_soft_labels_follow_the_names_of_classes(images, tmp_path):
    y = np.arange(3).repeat(2)
    soft = np.eye(3, dtype=np.float32)[y] * 0.7 + 0.1
    export_ddranking(SyntheticSet(images, y, probabilities=soft), tmp_path)
    back = load_ddranking(tmp_path, classes=["z", "a", "m"])
    assert back.y.tolist() == list("zzaamm")
    np.testing.assert_allclose(back.probabilities, soft[:, [1, 2, 0]], atol=1e-6)
