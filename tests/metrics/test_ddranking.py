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
