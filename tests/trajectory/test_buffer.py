import os
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from skdistill.neural_network._convnet import ConvNet, n_parameters
from skdistill.trajectory import TrajectoryBuffer
from skdistill.trajectory._settings import resolve_batch_size
from skdistill.trajectory._store import teacher_path
from skdistill.trajectory._teacher import Teachers
from skdistill.utils._random import child_seed, torch_generator


def snapshots(buffer):
    """All snapshots, as one array (n_teachers, n_epochs + 1, n_parameters)."""
    n_teachers = buffer.history_["teacher"].max() + 1
    n_epochs = buffer.history_["epoch"].max()
    return np.array(
        [
            [buffer.snapshot(teacher, epoch) for epoch in range(n_epochs + 1)]
            for teacher in range(n_teachers)
        ]
    )


def named(buffer, parameters):
    """The parts of a flat vector by the names that they have in the network."""
    parts = dict(buffer.settings_.build_structure().named_parameters())
    split = torch.as_tensor(parameters).split([part.numel() for part in parts.values()])
    return {
        name: part.view(parts[name].shape)
        for name, part in zip(parts, split, strict=True)
    }


def logits(buffer, parameters, images):
    return functional_call(
        buffer.settings_.build_structure(), named(buffer, parameters), (images,)
    )


def to_images(X):
    return torch.from_numpy(X.transpose(0, 3, 1, 2).copy())


def visible(folder):
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def forbid_training(monkeypatch):
    def train(*args):
        raise AssertionError("a teacher was trained")

    monkeypatch.setattr("skdistill.trajectory._jobs.Teachers", train)


def test_attributes(in_memory, bars):
    buffer = in_memory
    assert buffer.classes_.tolist() == ["lying", "standing"]
    assert buffer.image_shape_ == (8, 8, 2)
    assert buffer.n_features_in_ == 128
    module = ConvNet((8, 8, 2), 2, width=4, depth=2)
    assert buffer.n_parameters_ == sum(p.numel() for p in module.parameters())
    assert buffer.pixel_scale_ == pytest.approx(bars[0].std(), rel=1e-5)
    assert buffer.batch_size_ == 8
    assert (buffer.n_teachers_, buffer.n_epochs_) == (2, 3)
    history = buffer.history_
    assert history.columns.tolist() == ["teacher", "epoch", "loss", "accuracy"]
    assert history["teacher"].tolist() == [0, 0, 0, 1, 1, 1]
    assert history["epoch"].tolist() == [1, 2, 3] * 2
    assert np.isfinite(history["loss"]).all()
    assert history["accuracy"].between(0, 1).all()


@pytest.mark.parametrize(
    ("n_samples", "expected"),
    [(30, 8), (1799, 8), (2000, 10), (10_399, 51), (51_200, 256), (10**6, 256)],
)
def test_auto_batch_size_leaves_two_hundred_steps_per_epoch(n_samples, expected):
    assert resolve_batch_size("auto", n_samples) == expected
    assert resolve_batch_size(77, n_samples) == 77


@pytest.mark.parametrize("loaded", [False, True])
def test_what_was_trained_counts_not_what_the_parameters_say_now(
    make_buffer, bars, tmp_path, loaded
):
    buffer = make_buffer(path=tmp_path).fit(*bars)
    if loaded:
        buffer = TrajectoryBuffer.load(tmp_path)
    buffer.set_params(n_teachers=7, n_epochs=9, width=1, depth=1, normalization="none")
    kinds = [type(layer) for layer in buffer.settings_.build_structure().features]
    assert kinds == [nn.Conv2d, nn.GroupNorm, nn.ReLU, nn.AvgPool2d] * 2
    assert n_parameters(buffer.settings_.build_structure()) == buffer.n_parameters_
    assert all(part.is_meta for part in buffer.settings_.build_structure().parameters())
    assert (buffer.n_teachers_, buffer.n_epochs_) == (2, 3)
    assert len(buffer.snapshot(1, 3)) == buffer.n_parameters_
    with pytest.raises(ValueError, match=r"`teacher` must be from 0 to 1; got 2"):
        buffer.snapshot(2, 0)
    with pytest.raises(ValueError, match=r"`epoch` must be from 0 to 3; got 4"):
        buffer.snapshot(0, 4)


def test_snapshots_are_distinct(in_memory):
    found = snapshots(in_memory)
    assert found.shape == (2, 4, in_memory.n_parameters_)
    assert found.dtype == np.float32
    rows = found.reshape(8, -1)
    assert len({row.tobytes() for row in rows}) == 8


def test_snapshot_is_a_copy(in_memory):
    taken = in_memory.snapshot(0, 1)
    taken[:] = 0
    assert in_memory.snapshot(0, 1).any()


def test_epoch_zero_is_the_initialization(in_memory, make_buffer, bars):
    # Another rate changes all but the weights that training starts from.
    other = make_buffer(learning_rate=0.01).fit(*bars)
    assert np.array_equal(in_memory.snapshot(0, 0), other.snapshot(0, 0))
    assert not np.array_equal(in_memory.snapshot(0, 1), other.snapshot(0, 1))
    weights = named(in_memory, in_memory.snapshot(0, 0))
    # torch's default: uniform up to 1 / sqrt(fan in); scale 1 and shift 0 of a norm.
    limit = 1 / np.sqrt(2 * 9)
    assert 0.8 * limit < float(weights["features.0.weight"].abs().max()) <= limit
    assert weights["features.1.weight"].eq(1).all()
    assert weights["features.1.bias"].eq(0).all()


def test_epochs_are_plain_descent_on_the_balanced_loss(make_buffer, bars):
    X, y = bars
    buffer = make_buffer(
        augmentation=None, batch_size=7, n_teachers=1, average=False
    ).fit(X, y)
    images = to_images(X)
    codes = torch.from_numpy((y == "standing").astype(np.int64))
    # 20 and 10 images: weights 1/20 and 1/10, scaled to mean 1 over the images.
    weight = torch.where(codes == 0, 0.75, 1.5)
    for epoch in range(buffer.n_epochs):
        seed = child_seed(child_seed(buffer.seed_, 0), 1, epoch)
        generator = torch_generator(seed)
        theta = torch.from_numpy(buffer.snapshot(0, epoch)).requires_grad_()
        for batch in torch.randperm(30, generator=generator).split(7):
            losses = F.cross_entropy(
                logits(buffer, theta, images[batch]), codes[batch], reduction="none"
            )
            gradient = torch.autograd.grad((losses * weight[batch]).mean(), theta)[0]
            theta = (theta - 0.05 * gradient).detach().requires_grad_()
        np.testing.assert_allclose(
            theta.detach(), buffer.snapshot(0, epoch + 1), rtol=1e-4, atol=1e-6
        )


def test_teachers_learn(make_buffer, bars):
    X, y = bars
    buffer = make_buffer(n_epochs=12, learning_rate=0.3).fit(X, y)
    history = buffer.history_.set_index(["teacher", "epoch"])
    for teacher in range(2):
        loss = history.loc[teacher, "loss"]
        assert loss[12] < 0.7 * loss[1]
        found = logits(buffer, buffer.snapshot(teacher, 12), to_images(X))
        predicted = found.argmax(1)
        assert (buffer.classes_[predicted.numpy()] == y).mean() > 0.9


def test_classes_weigh_the_same(bars, make_buffer):
    """Labels at random of which nine in ten are one class: no class is preferred."""
    X = bars[0]
    y = np.repeat([0, 1], [27, 3])
    buffer = make_buffer(n_epochs=4, learning_rate=0.02, augmentation=None).fit(X, y)
    end = logits(buffer, buffer.snapshot(0, 4), to_images(X)).softmax(1)[:, 0]
    assert 0.3 < float(end.mean()) < 0.7


def test_other_weights_of_classes(bars, make_buffer):
    """None is a weight of 1 each; what "balanced" is, a dict can say too."""
    X = bars[0]
    y = np.repeat([0, 1], [27, 3])

    def end(**changes):
        buffer = make_buffer(
            n_epochs=12, learning_rate=0.02, augmentation=None, **changes
        ).fit(X, y)
        parameters = buffer.snapshot(0, 12)
        return parameters, logits(buffer, parameters, to_images(X)).softmax(1)[:, 0]

    plain, share = end(class_weight=None)
    assert float(share.mean()) > 0.75
    one_each, _ = end(class_weight={0: 1, 1: 1})
    np.testing.assert_array_equal(plain, one_each)
    balanced, _ = end()
    ninefold, _ = end(class_weight={1: 9})
    np.testing.assert_allclose(balanced, ninefold, rtol=1e-5, atol=1e-6)


def test_weights_of_classes_come_back(tmp_path, make_buffer, bars):
    X, y = bars
    y = np.where(y == "lying", 3, 7)
    class_weight = {3: 2, 7: 0.5}
    buffer = make_buffer(class_weight=class_weight, path=tmp_path).fit(X, y)
    loaded = TrajectoryBuffer.load(tmp_path)
    assert loaded.class_weight == class_weight
    assert loaded.settings_ == buffer.settings_


def test_snapshots_within_epochs(make_buffer, bars):
    """With batches of 8 of 30 images an epoch has four steps."""
    make_buffer = partial(make_buffer, average=False)
    usual = make_buffer().fit(*bars)
    buffer = make_buffer(snapshots_per_epoch=(4, 2)).fit(*bars)
    times = [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3]
    assert buffer.planned_snapshot_epochs().tolist() == times
    assert buffer.snapshot_epochs_.tolist() == times
    for epoch in range(4):
        assert np.array_equal(buffer.snapshot(1, epoch), usual.snapshot(1, epoch))
    within = [buffer.snapshot(1, time) for time in times[:5]]
    assert len({snapshot.tobytes() for snapshot in within}) == 5
    finer = make_buffer(snapshots_per_epoch=4).fit(*bars)
    assert len(finer.snapshot_epochs_) == 13
    for time in times:
        assert np.array_equal(buffer.snapshot(0, time), finer.snapshot(0, time))
    thirds = make_buffer(snapshots_per_epoch=3).fit(*bars)
    # The first third of four steps ends with the second of them.
    assert np.array_equal(thirds.snapshot(0, 1 / 3), finer.snapshot(0, 0.5))
    with pytest.raises(ValueError, match=r"one of `snapshot_epochs_`; got 1\.25"):
        buffer.snapshot(0, 1.25)


@pytest.mark.parametrize(
    ("average", "batch_size", "expected"),
    [("auto", 30, True), ("auto", 250, False), (True, 250, True), (False, 30, False)],
)
def test_snapshots_of_small_batches_are_averages(
    make_buffer, bars, average, batch_size, expected
):
    X, y = (np.tile(part, (10, *[1] * (part.ndim - 1)))[:300] for part in bars)
    buffer = make_buffer(
        n_teachers=1, n_epochs=1, average=average, batch_size=batch_size
    ).fit(X, y)
    assert buffer.settings_.average is expected
    assert buffer.average == average


@pytest.mark.parametrize("on_disk", [False, True])
def test_average_snapshots(tmp_path, make_buffer, bars, on_disk):
    """Means of the steps since the last one, of the same training."""

    def rows(buffer, teacher):
        times = buffer.snapshot_epochs_
        return np.stack([buffer.snapshot(teacher, time) for time in times])

    finest = make_buffer(average=False, snapshots_per_epoch=4).fit(*bars)
    path = tmp_path if on_disk else None
    buffer = make_buffer(snapshots_per_epoch=(2, 1), path=path)
    buffer.fit(*bars)
    assert buffer.history_.equals(finest.history_)
    for teacher in range(buffer.n_teachers_):
        steps = rows(finest, teacher)
        parts = [steps[:1], steps[1:3], steps[3:5], steps[5:9], steps[9:13]]
        expected = [part.mean(axis=0, dtype=np.float64) for part in parts]
        found = rows(buffer, teacher)
        assert np.array_equal(found[0], steps[0])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert not np.allclose(found[1:], steps[[2, 4, 8, 12]], rtol=1e-4)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize(("storage", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_half_precision(tmp_path, make_buffer, bars, in_memory, storage, bits, on_disk):
    path = tmp_path if on_disk else None
    buffer = make_buffer(storage=storage, path=path).fit(*bars)
    exact, rounded = snapshots(in_memory), snapshots(buffer)
    assert rounded.dtype == np.float32
    assert buffer.history_.equals(in_memory.history_)
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 2.0 ** -(bits + 3) < error < 2.0**-bits


def test_same_bits_for_any_number_of_processes(in_memory, make_buffer, bars):
    parallel = make_buffer(n_jobs=2).fit(*bars)
    assert np.array_equal(snapshots(parallel), snapshots(in_memory))
    assert parallel.history_.equals(in_memory.history_)


def test_same_random_state_same_bits(in_memory, make_buffer, bars):
    assert np.array_equal(snapshots(make_buffer().fit(*bars)), snapshots(in_memory))
    other = make_buffer(random_state=1).fit(*bars)
    assert not np.array_equal(snapshots(other), snapshots(in_memory))
    instance = make_buffer(random_state=np.random.RandomState(0)).fit(*bars)
    again = make_buffer(random_state=np.random.RandomState(0)).fit(*bars)
    assert np.array_equal(snapshots(instance), snapshots(again))


def test_first_teachers_do_not_depend_on_their_number(in_memory, make_buffer, bars):
    one = make_buffer(n_teachers=1).fit(*bars)
    assert np.array_equal(snapshots(one)[0], snapshots(in_memory)[0])


def test_fit_moves_no_global_state(make_buffer, bars):
    X, y = (array.copy() for array in bars)
    buffer = make_buffer()
    parameters = buffer.get_params()
    n_threads = torch.get_num_threads()
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    buffer.fit(X, y)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.get_num_threads() == n_threads
    assert buffer.get_params() == parameters
    assert np.array_equal(X, bars[0])
    assert np.array_equal(y, bars[1])


def test_flat_images_are_the_same_as_images(in_memory, make_buffer, bars):
    X, y = bars
    flat = make_buffer(image_shape=(8, 8, 2)).fit(X.reshape(30, -1), y)
    assert np.array_equal(snapshots(flat), snapshots(in_memory))


class TestPath:
    def test_snapshots_are_those_of_memory(
        self, tmp_path, in_memory, make_buffer, bars
    ):
        folder = tmp_path / "new" / "buffer"
        stored = make_buffer(path=folder).fit(*bars)
        assert sorted(os.listdir(folder)) == [
            "manifest.json",
            "teacher-00000.safetensors",
            "teacher-00001.safetensors",
        ]
        assert np.array_equal(snapshots(stored), snapshots(in_memory))
        assert stored.snapshot(0, 1).flags.writeable
        assert stored.history_.equals(in_memory.history_)

    def test_load_restores_all(self, tmp_path, in_memory, make_buffer, bars):
        settings = {"augmentation": ["flip", "color"], "normalization": "layer"}
        fitted = make_buffer(path=tmp_path, **settings).fit(*bars)
        loaded = TrajectoryBuffer.load(str(tmp_path))
        assert np.array_equal(snapshots(loaded), snapshots(fitted))
        assert loaded.history_.equals(fitted.history_)
        assert loaded.classes_.tolist() == ["lying", "standing"]
        for name in vars(fitted):
            if name.endswith("_") and name != "history_":
                same = np.array_equal(getattr(loaded, name), getattr(fitted, name))
                assert same, name
        assert loaded.settings_ == fitted.settings_
        not_kept = ("path", "n_jobs", "device", "random_state", "verbose")
        for name, value in fitted.get_params().items():
            if name not in not_kept:
                assert getattr(loaded, name) == value, name

    @pytest.mark.parametrize(
        "labels", [[3, 7], [False, True], [1.0, 2.0], ["b c", "ä"]]
    )
    def test_labels_come_back(self, tmp_path, make_buffer, bars, labels):
        X, y = bars
        y = np.asarray(labels)[(y == "standing").astype(int)]
        buffer = make_buffer(path=tmp_path, n_teachers=1, n_epochs=1).fit(X, y)
        loaded = TrajectoryBuffer.load(tmp_path)
        assert loaded.classes_.dtype.kind == buffer.classes_.dtype.kind
        assert loaded.classes_.tolist() == labels

    def test_complete_buffer_is_not_trained_again(
        self, tmp_path, make_buffer, bars, contents, monkeypatch
    ):
        make_buffer(path=tmp_path).fit(*bars)
        before = contents(tmp_path)
        forbid_training(monkeypatch)
        again = make_buffer(path=tmp_path, n_jobs=1, verbose=0).fit(*bars)
        assert contents(tmp_path) == before
        assert snapshots(again).shape[:2] == (2, 4)

    def test_interrupted_fit_resumes_with_the_missing_teachers(
        self, tmp_path, in_memory, make_buffer, bars, monkeypatch
    ):
        trained = []

        class Interrupted(Teachers):
            def train(self):
                trained.append(self)
                for epoch in super().train():
                    if len(trained) == 2:
                        raise KeyboardInterrupt
                    yield epoch

        monkeypatch.setattr("skdistill.trajectory._jobs.Teachers", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_buffer(path=tmp_path).fit(*bars)
        assert visible(tmp_path) == ["manifest.json", "teacher-00000.safetensors"]
        resumed = make_buffer(path=tmp_path).fit(*bars)
        assert len(trained) == 3
        assert np.array_equal(snapshots(resumed), snapshots(in_memory))
        assert resumed.history_.equals(in_memory.history_)

    def test_more_teachers_keep_the_old_ones(
        self, tmp_path, make_buffer, bars, contents
    ):
        make_buffer(path=tmp_path).fit(*bars)
        before = contents(tmp_path)
        more = make_buffer(path=tmp_path, n_teachers=3).fit(*bars)
        after = contents(tmp_path)
        old = [name for name in before if name.suffix == ".safetensors"]
        assert all(after[name] == before[name] for name in old)
        assert len(after) == len(before) + 1
        assert TrajectoryBuffer.load(tmp_path).n_teachers == 3
        in_one_go = make_buffer(n_teachers=3).fit(*bars)
        assert np.array_equal(snapshots(more), snapshots(in_one_go))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"learning_rate": 0.06}, r"learning_rate: found 0\.05, expected 0\.06"),
            ({"momentum": 0.5}, r"momentum: found 0\.0, expected 0\.5"),
            ({"weight_decay": 0.1}, r"weight_decay: found 0\.0, expected 0\.1"),
            ({"batch_size": 5}, r"batch_size: found 8, expected 5"),
            ({"width": 5}, r"width: found 4, expected 5"),
            ({"depth": 1}, r"depth: found 2, expected 1"),
            (
                {"normalization": "none"},
                r"normalization: found 'instance', expected 'none'",
            ),
            ({"augmentation": None}, r"families: found \['color', .*\], expected \[\]"),
            ({"class_weight": None}, r"class_weight: found 'balanced', expected None"),
            (
                {"class_weight": {"lying": 1, "standing": 3}},
                r"class_weight: found 'balanced', expected \[1\.0, 3\.0\]",
            ),
            ({"snapshots_per_epoch": 2}, r"snapshots_per_epoch: found 1, expected 2"),
            ({"storage": "float16"}, r"storage: found 'float32', expected 'float16'"),
            ({"average": False}, r"average: found True, expected False"),
            ({"random_state": 1}, r"seed of random_state: found 0, expected 1"),
        ],
    )
    def test_other_settings_are_refused(
        self, tmp_path, make_buffer, bars, contents, changes, message
    ):
        make_buffer(path=tmp_path, n_teachers=1).fit(*bars)
        before = contents(tmp_path)
        with pytest.raises(ValueError, match=message):
            make_buffer(path=tmp_path, n_teachers=3, **changes).fit(*bars)
        assert contents(tmp_path) == before

    def test_other_data_are_refused(self, tmp_path, make_buffer, bars, contents):
        X, y = bars
        make_buffer(path=tmp_path, n_teachers=1).fit(X, y)
        before = contents(tmp_path)
        other = X.copy()
        other[17, 3, 3, 1] += 0.01
        swapped = y.copy()
        swapped[[0, -1]] = swapped[[-1, 0]]
        if (swapped == y).all():
            swapped = y[::-1]
        renamed = np.where(y == "lying", "flat", "upright")
        for images, labels, message in [
            (other, y, r"images or labels \(fingerprint\): .*bitwise identical"),
            (X, swapped, r"images or labels \(fingerprint\): .*bitwise identical"),
            (X[:25], y[:25], r"images or labels \(fingerprint\): .*bitwise identical"),
            (
                X,
                renamed,
                r"class labels: found \['lying', 'standing'\], expected \['flat'",
            ),
            (X[:, :7], y, r"image_shape: found \[8, 8, 2\], expected \[7, 8, 2\]"),
        ]:
            with pytest.raises(ValueError, match=message):
                make_buffer(path=tmp_path, n_teachers=2).fit(images, labels)
            assert contents(tmp_path) == before

    def test_no_random_state_takes_on_the_stored_seed(
        self, tmp_path, make_buffer, bars, in_memory
    ):
        make_buffer(path=tmp_path, n_teachers=1).fit(*bars)
        resumed = make_buffer(path=tmp_path, random_state=None).fit(*bars)
        assert resumed.seed_ == 0
        assert np.array_equal(snapshots(resumed), snapshots(in_memory))

    def test_teachers_without_manifest_are_refused(self, tmp_path, make_buffer, bars):
        make_buffer(path=tmp_path).fit(*bars)
        (tmp_path / "manifest.json").unlink()
        with pytest.raises(ValueError, match=r"holds teachers but no manifest"):
            make_buffer(path=tmp_path).fit(*bars)

    def test_folder_of_a_failed_first_fit_is_free(self, tmp_path, make_buffer, bars):
        with pytest.raises(ValueError, match=r"diverged"):
            make_buffer(path=tmp_path, learning_rate=1e20).fit(*bars)
        # What the error advises must work.
        make_buffer(path=tmp_path, learning_rate=0.05).fit(*bars)
        assert TrajectoryBuffer.load(tmp_path).learning_rate == 0.05

    def test_path_that_is_a_file(self, tmp_path, make_buffer, bars, monkeypatch):
        forbid_training(monkeypatch)
        file = tmp_path / "a-file"
        file.write_text("something")
        with pytest.raises(ValueError, match=r"`path` must be a folder; .*a-file is a"):
            make_buffer(path=file).fit(*bars)
        assert file.read_text() == "something"

    def test_snapshot_of_a_deleted_file_names_it(self, tmp_path, make_buffer, bars):
        buffer = make_buffer(path=tmp_path).fit(*bars)
        teacher_path(tmp_path, 1).unlink()
        with pytest.raises(FileNotFoundError, match=r"teacher-00001"):
            buffer.snapshot(1, 0)

    def test_settings_of_numpy_types_can_be_stored(self, tmp_path, make_buffer, bars):
        buffer = make_buffer(
            path=tmp_path,
            n_teachers=np.int64(1),
            n_epochs=np.int32(1),
            learning_rate=np.float32(0.5),
            augmentation=np.array(["flip"]),
            image_shape=tuple(np.array([8, 8, 2])),
        ).fit(*bars)
        loaded = TrajectoryBuffer.load(tmp_path)
        assert np.array_equal(snapshots(loaded), snapshots(buffer))
        loaded.fit(*bars)


@pytest.mark.parametrize("on_disk", [False, True])
def test_pickle(tmp_path, make_buffer, bars, on_disk):
    buffer = make_buffer(path=tmp_path if on_disk else None).fit(*bars)
    found = pickle.loads(pickle.dumps(buffer))
    assert np.array_equal(snapshots(found), snapshots(buffer))


def test_clone_is_unfitted(in_memory):
    cloned = clone(in_memory)
    assert cloned.get_params() == in_memory.get_params()
    with pytest.raises(NotFittedError):
        cloned.snapshot(0, 0)


@pytest.mark.parametrize(
    ("teacher", "epoch", "message"),
    [
        (2, 0, r"`teacher` must be from 0 to 1; got 2"),
        (-1, 0, r"`teacher` must be from 0 to 1; got -1"),
        (0, 4, r"`epoch` must be from 0 to 3; got 4"),
        (0, -1, r"`epoch` must be from 0 to 3; got -1"),
    ],
)
def test_snapshots_that_are_not_there(
    tmp_path, in_memory, make_buffer, bars, teacher, epoch, message
):
    stored = make_buffer(path=tmp_path).fit(*bars)
    for buffer in (in_memory, stored):
        with pytest.raises(ValueError, match=message):
            buffer.snapshot(teacher, epoch)
    # Parameters set after fit promise no more snapshots.
    stored.set_params(n_teachers=9, n_epochs=9)
    with pytest.raises(ValueError, match=message):
        stored.snapshot(teacher, epoch)


@pytest.mark.parametrize("epoch", [None, 0, 2])
def test_teachers_are_classifiers(tmp_path, make_buffer, bars, epoch):
    X, y = bars
    make_buffer(path=tmp_path, n_epochs=8).fit(X, y)
    buffer = TrajectoryBuffer.load(tmp_path)
    buffer.set_params(width=1, normalization="none")  # what was trained counts
    classifier = buffer.classifier(1, epoch)
    after = 8 if epoch is None else epoch
    with torch.no_grad():
        expected = logits(buffer, buffer.snapshot(1, after), to_images(X))
    np.testing.assert_allclose(
        classifier.predict_proba(X), expected.softmax(dim=1), atol=1e-5
    )
    assert classifier.predict(X).dtype == y.dtype
    if epoch is None:
        assert classifier.score(X, y) > 0.7  # two thirds lie
    losses = buffer.history_.query("teacher == 1")["loss"].tolist()
    assert classifier.loss_curve_ == losses[:after]
    assert classifier.n_iter_ == after
    # It can be fitted anew, as a teacher of this buffer is.
    assert clone(classifier).fit(X, y).parameters_.shape == (buffer.n_parameters_,)


def test_classifiers_that_are_not_there(in_memory, make_buffer):
    with pytest.raises(ValueError, match=r"`teacher` must be from 0 to 1; got 2"):
        in_memory.classifier(2)
    with pytest.raises(ValueError, match=r"`epoch` must be from 0 to 3; got 9"):
        in_memory.classifier(0, 9)
    with pytest.raises(NotFittedError):
        make_buffer().classifier(0)


def test_bad_data_are_refused_before_training(make_buffer, bars, monkeypatch):
    forbid_training(monkeypatch)
    X, y = bars
    lonely = y.copy()
    lonely[4] = "alone"
    with pytest.raises(
        ValueError, match="must have at least 2 images; class 'alone' has 1"
    ):
        make_buffer().fit(X, lonely)
    with pytest.raises(ValueError, match=r"at least two classes; got one class, 'a'"):
        make_buffer().fit(X, np.full(30, "a"))
    bad = X.copy()
    bad[11, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"NaN.*1 of 30 images \(positions 11\)"):
        make_buffer().fit(bad, y)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples"):
        make_buffer().fit(X, y[:-1])
    with pytest.raises(ValueError, match=r"3-D"):
        make_buffer().fit(X[..., 0], y)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_teachers": 0}, r"'n_teachers' parameter"),
        ({"n_epochs": 0}, r"'n_epochs' parameter"),
        ({"learning_rate": 0.0}, r"'learning_rate' parameter"),
        ({"momentum": 1.0}, r"'momentum' parameter"),
        ({"batch_size": "all"}, r"'batch_size' parameter"),
        ({"normalization": "batch"}, r"`normalization`='batch' makes"),
        ({"augmentation": "mixup"}, r"`augmentation` must be .*'mixup'"),
        ({"device": "abacus"}, r"`device` must be .*'abacus'"),
        ({"path": 3}, r"'path' parameter"),
        ({"storage": "float8"}, r"'storage' parameter"),
        ({"class_weight": "even"}, r"'class_weight' parameter"),
        ({"class_weight": {"lying": 0}}, "`class_weight` must be positive"),
        ({"snapshots_per_epoch": 0}, r"'snapshots_per_epoch' parameter"),
        (
            {"snapshots_per_epoch": (2, 0)},
            "`snapshots_per_epoch` must be a positive int",
        ),
        ({"snapshots_per_epoch": []}, "`snapshots_per_epoch` must be a positive int"),
        ({"snapshots_per_epoch": (1, 9)}, r"at most the number of steps.*4 with"),
    ],
)
def test_bad_parameters_are_refused_before_training(
    make_buffer, bars, changes, message, monkeypatch
):
    forbid_training(monkeypatch)
    with pytest.raises(ValueError, match=message):
        make_buffer(**changes).fit(*bars)


def test_refused_parameters_leave_no_folder(tmp_path, make_buffer, bars):
    folder = tmp_path / "buffer"
    with pytest.raises(ValueError, match=r"`augmentation`"):
        make_buffer(path=folder, augmentation="mixup").fit(*bars)
    assert not folder.exists()


@pytest.mark.parametrize("n_epochs", [1, 3])
def test_diverging_teacher_says_so(make_buffer, bars, n_epochs):
    with pytest.raises(ValueError, match=r"diverged in epoch 1.*`learning_rate`=1e\+2"):
        make_buffer(learning_rate=1e20, n_epochs=n_epochs).fit(*bars)


def test_last_step_that_diverges_is_seen(make_buffer, bars):
    """The loss of the only batch was finite, the weights after it are not."""
    buffer = make_buffer(
        learning_rate=3e38, weight_decay=1e3, n_epochs=1, batch_size=30
    )
    with pytest.raises(ValueError, match=r"diverged in epoch 1"):
        buffer.fit(*bars)


def test_progress_shows_when_asked_for(make_buffer, bars, capsys):
    make_buffer(n_epochs=1).fit(*bars)
    assert capsys.readouterr() == ("", "")
    make_buffer(n_epochs=1, verbose=1).fit(*bars)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "teachers" in printed.err
    assert "2/2" in printed.err


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_map_of_8_bits_teaches_like_floats_in_memory(
    bars, make_buffer, tmp_path, n_jobs
):
    """Also a part of a map, and one of which weights leave images out."""
    X, y = bars
    X = (255 * (X - X.min()) / np.ptp(X)).astype(np.uint8)
    weight = (np.arange(len(X)) % 5 > 0).astype(float)
    np.save(tmp_path / "X.npy", np.concatenate([X[:3], X]))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")[3:]
    for options in ({}, {"sample_weight": weight}):
        floats = make_buffer().fit(X.astype(np.float32), y, **options)
        found = make_buffer(n_jobs=n_jobs).fit(mapped, y, **options)
        assert found.fingerprint_ == floats.fingerprint_
        for teacher in (0, 1):
            np.testing.assert_array_equal(
                found.snapshot(teacher, 3), floats.snapshot(teacher, 3)
            )
