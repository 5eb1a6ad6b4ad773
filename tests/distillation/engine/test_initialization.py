"""What synthetic images start from, and errors before work starts."""

import numpy as np
import pytest
from quadratic import QuadraticDistiller


@pytest.fixture
def images():
    """Images (36, 16, 16, 3) of three classes."""
    rng = np.random.default_rng(0)
    scale, mean = np.array([1, 10, 100]), np.array([0, 50, -9])
    X = rng.normal(size=(36, 16, 16, 3)) * scale + mean
    return X.astype(np.float32), np.arange(36) % 3


def start(data, **changes):
    """Return the images that a fit starts from."""
    parameters = {"pixel_lr": 1e-30, "max_iter": 1, "noise": 0.0}
    return QuadraticDistiller(**(parameters | changes)).fit(*data).synthetic_


class BeforeWork(QuadraticDistiller):
    """For errors that come before a network or a teacher is trained."""

    def _make_objective(self, data, seed):
        raise AssertionError("the work began")


def refused(data, **changes):
    BeforeWork(**changes).fit(*data)


def blocks(images, size):
    """Return the pixels of each block of images, beside one another."""
    n_images, height, width, n_channels = images.shape
    shape = n_images, height // size, size, width // size, size, n_channels
    found = images.reshape(shape).transpose(0, 1, 3, 5, 2, 4)
    return found.reshape(*found.shape[:4], size * size)


def test_real_images_are_of_their_class(images):
    X, y = images
    found, labels = start(images, ipc=3, init="real")
    matches = [np.flatnonzero((image == X).all(axis=(1, 2, 3))) for image in found]
    assert all(len(which) == 1 for which in matches)
    chosen = np.concatenate(matches)
    assert y[chosen].tolist() == labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len(set(chosen.tolist())) == 9
    # All that there are, where as many are asked for.
    found, _ = start(images, ipc=12, init="real")
    assert np.array_equal(np.sort(found, axis=None), np.sort(X, axis=None))


@pytest.mark.parametrize("init", ["real", "noise", "given"])
@pytest.mark.parametrize("size", [2, 4])
def test_larger_pixels_start_from_means(images, init, size):
    X, _ = images
    given = np.random.default_rng(1).permutation(X)[:6]
    parameters = {"ipc": 2, "init": given if init == "given" else init}
    synthetic = start(images, pixel_size=size, **parameters)
    assert synthetic.X.shape == (6, 16, 16, 3)
    assert synthetic.pixel_size == size
    found = blocks(synthetic.X, size)
    assert (found == found[..., :1]).all()
    if init == "noise":
        # Not fainter than that of small pixels: means over them would be, by the size.
        # Of 96 values or more the deviation is known to 7 %.
        ratio = synthetic.X.std(axis=(0, 1, 2)) / X.std(axis=(0, 1, 2))
        np.testing.assert_allclose(ratio, 1, atol=0.3)
    else:
        smaller = start(images, **parameters).X
        np.testing.assert_allclose(
            found[..., 0], blocks(smaller, size).mean(-1), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("average", [False, True])
def test_larger_pixels_are_learned(images, average, tmp_path):
    distiller = QuadraticDistiller(ipc=2, pixel_size=2, average=average)
    synthetic = distiller.set_params(max_iter=40).fit(*images).synthetic_
    found = blocks(synthetic.X, 2)
    assert (found == found[..., :1]).all()
    assert (synthetic.X != start(images, ipc=2, pixel_size=2).X).mean() > 0.9
    assert distiller.best_synthetic_.pixel_size == 2
    distance = distiller.history_["distance"]
    assert distance.iloc[-1] < 0.9 * distance.iloc[0]


@pytest.mark.parametrize("size", [3, 32])
def test_pixels_must_fill_the_images(images, size):
    with pytest.raises(ValueError, match=rf"`pixel_size`={size} must .*, 16 and 16"):
        refused(images, pixel_size=size)


@pytest.mark.parametrize("ipc", [10**9, 10**20])
def test_more_images_than_memory_holds(images, ipc):
    with pytest.raises(ValueError, match=rf"`ipc`={ipc} images .* GB of memory, but"):
        refused(images, ipc=ipc, init="noise")


def test_noise_has_the_mean_and_deviation_of_each_channel(images):
    X, _ = images
    noise = start(images, ipc=4).X
    scale, mean = X.std(axis=(0, 1, 2)), X.mean(axis=(0, 1, 2))
    # 12 images of 256 pixels: the standard error of the mean is scale / 55.
    np.testing.assert_allclose(noise.std(axis=(0, 1, 2)), scale, rtol=0.06)
    np.testing.assert_allclose(
        (noise.mean(axis=(0, 1, 2)) - mean) / scale, 0, atol=0.08
    )
    assert len(np.unique(noise)) > 0.9 * noise.size


def test_given_images_are_the_start(images):
    given = images[0][:3].copy()
    before = given.copy()
    assert np.array_equal(start(images, init=given).X, before)
    moved = start(images, init=given.tolist(), pixel_lr=0.1).X
    assert not np.array_equal(moved, before)
    assert np.array_equal(given, before)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (np.zeros((2, 16, 16, 3)), r"`init` .*\(3, 16, 16, 3\); got \(2, 16, 16, 3\)"),
        (np.zeros((3, 16, 3, 16)), r"`init` .*\(3, 16, 16, 3\); got \(3, 16, 3, 16\)"),
        (np.full((3, 16, 16, 3), np.nan), r"init contains NaN"),
        ("random", r"'init' parameter"),
    ],
)
def test_bad_starts_are_refused(images, init, message):
    with pytest.raises(ValueError, match=message):
        refused(images, init=init)


def test_more_images_than_a_class_has(images):
    X, y = images
    few = np.r_[0:30, 31]  # class 0 has 10 images, 1 has 11, 2 has 10
    message = "`ipc`=11 .*must have at least 11 images; class 0 has 10, 2 has 10"
    with pytest.raises(ValueError, match=message):
        refused((X[few], y[few]), ipc=11, init="real")
    assert len(start((X[few], y[few]), ipc=11)) == 33


@pytest.mark.parametrize("init", ["real", "noise"])
def test_class_of_one_image(images, init):
    X, y = images
    with pytest.raises(ValueError, match="must have at least 2 images; class 2 has 1"):
        refused((X[:5], y[:5]), init=init)


def test_bad_data(images):
    X, y = images
    with pytest.raises(ValueError, match=r"at least two classes"):
        refused((X[y == 1], y[y == 1]))
    bad = X.copy()
    bad[[3, 8], 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"NaN.*positions 3, 8"):
        refused((bad, y))
    with pytest.raises(ValueError, match="the same size"):
        refused(([*X[:5], X[5][:9]], y[:6]))
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples"):
        refused((X, y[1:]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ipc": 0}, r"'ipc' parameter"),
        ({"pixel_size": 0}, r"'pixel_size' parameter"),
        ({"max_iter": 0}, r"'max_iter' parameter"),
        ({"pixel_lr": "adam"}, r"'pixel_lr' parameter"),
        ({"pixel_lr": 0.0}, r"'pixel_lr' parameter"),
        ({"average": "no"}, r"'average' parameter"),
        ({"checkpoint": 3}, r"'checkpoint' parameter"),
        ({"estimator": 3}, r"'estimator' parameter"),
        ({"device": "abacus"}, r"`device` must be .*'abacus'"),
    ],
)
def test_bad_parameters(images, changes, message):
    with pytest.raises(ValueError, match=message):
        refused(images, **changes)


def test_labels_and_order_of_the_classes(images):
    X, y = images
    names = np.array(["lying", "standing", "round"])[y]
    distiller = QuadraticDistiller(ipc=2).fit(X, names)
    found = distiller.synthetic_
    assert found.y.tolist() == ["lying"] * 2 + ["round"] * 2 + ["standing"] * 2
    assert distiller.classes_.tolist() == ["lying", "round", "standing"]
    assert found.X.dtype == np.float32
    assert distiller.image_shape_ == (16, 16, 3)
    assert distiller.n_features_in_ == 768


def test_unit_of_the_pixels_does_not_matter_to_auto(images):
    X, y = images
    found = [
        QuadraticDistiller(pixel_lr="auto", noise=0.0).fit(X * unit, y).synthetic_.X
        / unit
        for unit in (np.float32(1), np.float32(1000))
    ]
    moved = np.abs(found[0] - start(images).X).mean()
    assert moved > 0.01
    assert np.abs(found[0] - found[1]).mean() < 1e-3 * moved
