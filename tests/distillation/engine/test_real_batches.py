"""Mini-batches of real images: by class, by weight, by what a draw is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratic import QuadraticDistiller

from skdistill.distillation._engine._objective import Draw
from skdistill.distillation._engine._real_batches import RealData

SIZES = (4, 9, 6)


def make_data(images=None, weight=None, sizes=SIZES):
    """Images whose pixels say which they are, in an order of no classes."""
    codes = np.random.default_rng(0).permutation(
        np.repeat(np.arange(len(sizes)), sizes)
    )
    if images is None:
        images = np.arange(len(codes) * 6, dtype=np.float32).reshape(-1, 2, 3, 1)
    return RealData(
        images,
        codes,
        weight,
        np.arange(len(sizes)),
        device=torch.device("cpu"),
        fingerprint="",
        given=(images, codes, weight),
    )


def positions(batch):
    """Return which images a batch holds."""
    return (batch.images[:, 0, 0, 0] / 6).long().numpy()


@settings(max_examples=60)
@given(
    n_per_class=st.integers(1, 12) | st.none(),
    classes=st.none() | st.lists(st.integers(0, 2), min_size=1, unique=True),
    seed=st.integers(0, 99),
)
def test_as_many_of_each_class_and_none_twice(n_per_class, classes, seed):
    data = make_data()
    batch = data.batch(Draw(seed, 3), n_per_class, classes)
    wanted = range(3) if classes is None else classes
    sizes = [min(n_per_class or 99, SIZES[code]) for code in wanted]
    assert batch.sizes == tuple(sizes)
    assert batch.codes.tolist() == np.repeat(list(wanted), sizes).tolist()
    chosen = positions(batch)
    assert len(set(chosen.tolist())) == len(chosen)
    assert data.codes[chosen].tolist() == batch.codes.tolist()
    expected = data.images[chosen].transpose(0, 3, 1, 2)
    assert np.array_equal(batch.images.numpy(), expected)
    assert batch.images.dtype == batch.weights.dtype == torch.float32
    by_class = batch.weights.split(sizes)
    for share, size in zip(by_class, sizes, strict=True):
        assert share.tolist() == pytest.approx([1 / size] * size)


def test_all_of_a_class_are_in_their_own_order():
    data = make_data()
    for n_per_class in (None, 9, 100):
        batch = data.batch(Draw(0, 0), n_per_class)
        assert positions(batch).tolist() == np.concatenate(data.rows).tolist()


def test_what_a_batch_depends_on():
    data = make_data(sizes=(60, 60, 60))

    def of(seed=0, iteration=0, place=0, key=0, classes=None):
        draw = Draw(seed, iteration, place)
        return positions(data.batch(draw, 5, classes, key=key)).tolist()

    assert of() == of()
    # Of a class it does not matter which others there are.
    assert of()[5:10] == of(classes=[1])
    assert of(classes=[2, 0]) == of()[10:] + of()[:5]
    others = [of(seed=1), of(iteration=1), of(place=1), of(key=1), of(iteration=256)]
    found = [of(), *others]
    assert len({tuple(each) for each in found}) == len(found)
    # Nor are classes drawn alike.
    inside = [np.searchsorted(data.rows[code], of(classes=[code])) for code in range(3)]
    assert not np.array_equal(inside[0], inside[1])


def test_all_images_are_drawn_alike():
    data = make_data()
    counts = np.zeros(sum(SIZES))
    for iteration in range(600):
        counts[positions(data.batch(Draw(0, iteration), 2))] += 1
    expected = 600 * 2 / np.asarray(SIZES)[data.codes]
    # Five standard deviations of a binomial number.
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_weights_are_probabilities_of_draws():
    weight = np.random.default_rng(1).uniform(0.1, 5, sum(SIZES))
    data = make_data(weight=weight)
    shares = np.zeros(sum(SIZES))
    n_iter = 1500
    for iteration in range(n_iter):
        batch = data.batch(Draw(0, iteration), 3)
        assert batch.sizes == (3, 3, 3)
        np.add.at(shares, positions(batch), batch.weights.numpy())
    sums = np.bincount(data.codes, weight)[data.codes]
    expected = weight / sums
    error = np.sqrt(expected * (1 - expected) / (3 * n_iter))
    assert (np.abs(shares / n_iter - expected) < 5 * error).all()


def test_equal_weights_of_a_class_are_none():
    plain = make_data()
    weight = np.array([0.1, 3.0, 1.0])[plain.codes]
    weight[plain.rows[2][0]] = 2.0
    data = make_data(weight=weight)
    for n_per_class in (3, None):
        draw = Draw(0, 0)
        found, expected = (
            one.batch(draw, n_per_class, (0, 1)) for one in (data, plain)
        )
        assert torch.equal(found.images, expected.images)
        assert torch.equal(found.weights, expected.weights)
    # Weights of the last class differ: its images may come twice.
    taken = [positions(data.batch(Draw(0, k), 3, (2,))).tolist() for k in range(40)]
    assert any(len(set(rows)) < 3 for rows in taken)


def test_weights_of_all_are_those_of_their_class():
    weight = np.arange(1.0, 20.0)
    data = make_data(weight=weight)
    batch = data.batch(Draw(0, 0), None, dtype=torch.float64)
    assert batch.images.dtype == batch.weights.dtype == torch.float64
    chosen = positions(batch)
    expected = weight[chosen] / np.bincount(data.codes, weight)[data.codes[chosen]]
    np.testing.assert_allclose(batch.weights.numpy(), expected, rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_maps_of_files_stay_maps(tmp_path, dtype):
    """No more is read of them than a batch needs, and then as float32."""
    images = (np.random.default_rng(0).random((19, 2, 3, 1)) * 200).astype(dtype)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    data = make_data(mapped)
    batch = data.batch(Draw(0, 0), None)
    assert isinstance(data.images, np.memmap)
    order = np.concatenate(data.rows)
    expected = images[order].astype(np.float32).transpose(0, 3, 1, 2)
    assert np.array_equal(batch.images.numpy(), expected)
    assert data.image_shape == (2, 3, 1)
    assert data.pixel_scale == pytest.approx(images.std(), rel=1e-5)


def test_a_fit_leaves_maps_where_they_are(squares, tmp_path):
    """And is the same to the bit."""
    X, y = squares
    np.save(tmp_path / "images.npy", X)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    seen = []

    class Mapped(QuadraticDistiller):
        def _make_objective(self, data, seed):
            seen.append(data.images)
            return super()._make_objective(data, seed)

    found = Mapped(init="real").fit(mapped, y)
    assert np.shares_memory(seen[0], mapped)
    expected = QuadraticDistiller(init="real").fit(X, y)
    assert np.array_equal(found.synthetic_.X, expected.synthetic_.X)


def test_images_of_weight_zero_are_not_there(squares):
    X, y = squares
    weight = np.where(np.arange(18) < 9, 0.0, np.arange(18.0))
    seen = []

    class Weighted(QuadraticDistiller):
        def _make_objective(self, data, seed):
            seen.append(data)
            return super()._make_objective(data, seed)

    Weighted().fit(X, y, sample_weight=weight)
    (data,) = seen
    assert np.array_equal(data.images, X[9:])
    assert data.weight.tolist() == list(range(9, 18))
    assert len(data.given[0]) == 18
    assert [len(rows) for rows in data.rows] == [3, 3, 3]
