"""Teachers of other networks than the ConvNet."""

import json
import os
import re
import signal

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skdistill.trajectory import TrajectoryBuffer, list_teachers, merge_buffers
from skdistill.trajectory import _jobs as jobs
from skdistill.trajectory._store import manifest_path, read_manifest


class Small(nn.Module):
    """A convolution with a table, dropout and a parameter of its own."""

    def __init__(self, image_shape, n_classes, rate=0.3, act=torch.relu):
        super().__init__()
        self.register_buffer("gains", torch.linspace(1, 2, image_shape[2]))
        self.convolution = nn.Conv2d(image_shape[2], 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.drop = nn.Dropout(rate)
        self.head = nn.Linear(4, n_classes)
        self.act = act

    def forward(self, images):
        maps = self.convolution(images * self.gains[:, None, None])
        maps = self.act(self.norm(maps)).amax((2, 3))
        return self.head(self.drop(maps))


def small(image_shape, n_classes):
    return Small(image_shape, n_classes)


def same_parameters_other_function(image_shape, n_classes):
    return Small(image_shape, n_classes, act=torch.tanh)


def other_dropout(image_shape, n_classes):
    return Small(image_shape, n_classes, rate=0.1)


def wider(image_shape, n_classes):
    module = Small(image_shape, n_classes)
    module.head = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, n_classes))
    return module


def instance():
    torch.manual_seed(3)
    return Small((8, 8, 2), 2)


@pytest.fixture
def make(make_buffer):
    def make(architecture=small, **changes):
        settings = {"width": 128, "depth": 3, "architecture": architecture}
        return make_buffer(**(settings | changes))

    return make


def snapshots(buffer):
    return np.stack(
        [
            [buffer.snapshot(teacher, epoch) for epoch in buffer.snapshot_epochs_]
            for teacher in range(buffer.n_teachers_)
        ]
    )


def same(one, other):
    assert np.array_equal(snapshots(one), snapshots(other))
    assert one.history_.equals(other.history_)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_training_is_plain_gradient_descent(make, bars, momentum):
    X, y = bars
    buffer = make(
        lambda shape, n_classes: Small(shape, n_classes, rate=0.0),
        n_teachers=1,
        n_epochs=2,
        batch_size=30,
        augmentation=None,
        average=False,
        momentum=momentum,
        weight_decay=0.01,
    ).fit(X, y)
    module = Small((8, 8, 2), 2, rate=0.0)
    start = torch.from_numpy(buffer.snapshot(0, 0))
    nn.utils.vector_to_parameters(start, module.parameters())
    optimizer = torch.optim.SGD(
        module.parameters(), lr=0.05, momentum=momentum, weight_decay=0.01
    )
    images = torch.from_numpy(X.transpose(0, 3, 1, 2).copy())
    codes = torch.from_numpy((y == "standing").astype(int))
    weight = torch.where(codes == 1, 1.5, 0.75)
    for epoch in (1, 2):
        optimizer.zero_grad()
        losses = nn.functional.cross_entropy(module(images), codes, reduction="none")
        (losses * weight).mean().backward()
        optimizer.step()
        found = buffer.snapshot(0, epoch)
        expected = nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    # No two teachers start alike.
    two = make(n_epochs=1).fit(X, y)
    assert not np.array_equal(two.snapshot(0, 0), two.snapshot(1, 0))


@pytest.mark.parametrize(
    ("architecture", "normalization"),
    [("mlp", "instance"), ("alexnet", "group"), (small, "none"), (instance(), "none")],
)
def test_stored_teachers_are_those_in_memory(
    tmp_path, make, bars, architecture, normalization
):
    settings = {"normalization": normalization, "n_epochs": 2}
    n_jobs = 2 if architecture is small else None
    if architecture == "alexnet":
        settings.update(n_teachers=1, batch_size=30)
    in_memory = make(architecture, **settings).fit(*bars)
    stored = make(architecture, path=tmp_path, n_jobs=n_jobs, **settings).fit(*bars)
    same(stored, in_memory)
    own = None if isinstance(architecture, str) else architecture
    loaded = TrajectoryBuffer.load(tmp_path, architecture=own)
    same(loaded, in_memory)
    assert loaded.architecture == architecture
    assert loaded.settings_ == in_memory.settings_
    assert list_teachers(tmp_path)["problem"].tolist() == [""] * stored.n_teachers_
    assert json.loads(manifest_path(tmp_path).read_text())["version"] == 4
    one, other = (
        each.classifier(0).predict_proba(bars[0]) for each in (loaded, stored)
    )
    np.testing.assert_array_equal(one, other)
    # Of the same parameters, what is there is taken.
    again = clone(loaded).set_params(path=tmp_path, random_state=None).fit(*bars)
    same(again, in_memory)


@pytest.mark.parametrize("architecture", [small, instance()])
def test_longer_training_resumes(tmp_path, make, bars, architecture):
    make(architecture, path=tmp_path, n_epochs=1, momentum=0.5).fit(*bars)
    longer = make(architecture, path=tmp_path, n_epochs=3, momentum=0.5).fit(*bars)
    same(longer, make(architecture, n_epochs=3, momentum=0.5).fit(*bars))


def test_interrupted_training_resumes(tmp_path, make, bars, monkeypatch):
    monkeypatch.setattr(jobs, "_STORE_SECONDS", -1.0)
    write, written = jobs.write_teacher, []

    def interrupt(*args):
        write(*args)
        written.append(args)
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(jobs, "write_teacher", interrupt)
    # In the background of a shell it is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            make(path=tmp_path).fit(*bars)
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert list_teachers(tmp_path)["n_epochs"].tolist() == [2]
    same(make(path=tmp_path).fit(*bars), make().fit(*bars))


def test_draws_of_dropout_follow_from_the_seed(make, bars):
    one, other = make().fit(*bars), make().fit(*bars)
    same(one, other)
    without = make(lambda *shape: Small(*shape, rate=0.0)).fit(*bars)
    assert np.array_equal(without.snapshot(0, 0), one.snapshot(0, 0))
    assert not np.array_equal(without.snapshot(0, 3), one.snapshot(0, 3))


def test_modules_are_copied_and_initialized_anew(make, bars):
    module = instance()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    buffer = make(module).fit(*bars)
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    given = nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
    starts = [buffer.snapshot(teacher, 0) for teacher in (0, 1)]
    assert not np.array_equal(*starts)
    assert all((start != given).mean() > 0.8 for start in starts)  # but for the norm


def test_parameters_that_are_not_trained_stay(make, bars):
    module = instance()
    module.convolution.requires_grad_(False)
    buffer = make(module, weight_decay=0.1).fit(*bars)
    kept = [part.numel() for part in module.convolution.parameters()]
    given = nn.utils.parameters_to_vector(module.convolution.parameters()).numpy()
    for epoch in (0, 3):
        assert np.array_equal(buffer.snapshot(1, epoch)[: sum(kept)], given)
    assert not np.array_equal(buffer.snapshot(1, 0), buffer.snapshot(1, 3))


def test_teachers_of_two_seeds_are_merged(tmp_path, make, bars):
    for seed in (1, 2):
        make(path=tmp_path / str(seed), random_state=seed, n_teachers=1).fit(*bars)
    merge_buffers([tmp_path / "1", tmp_path / "2"], tmp_path / "both")
    both = TrajectoryBuffer.load(tmp_path / "both", architecture=small)
    assert both.n_teachers_ == 2
    with pytest.raises(ValueError, match="cannot be stored in files"):
        TrajectoryBuffer.load(tmp_path / "both")


class TestOtherNetworks:
    @pytest.fixture
    def stored(self, tmp_path, make, bars):
        make(path=tmp_path, n_teachers=1, n_epochs=1).fit(*bars)
        return tmp_path

    def test_nothing_is_imported_from_a_file(self, stored):
        name = re.escape(f"{__name__}.small")
        with pytest.raises(ValueError, match=rf"custom network, {name}, which.*a"):
            TrajectoryBuffer.load(stored)
        with pytest.raises(ValueError, match="got 'resnet18'"):
            TrajectoryBuffer.load(stored, architecture="resnet18")

    @pytest.mark.parametrize(
        ("architecture", "message"),
        [
            (wider, r"'head\.weight': found shape \(2, 4\), expected none"),
            (same_parameters_other_function, "same parameters, but other layers"),
            (other_dropout, "same parameters, but other layers"),
            (lambda shape, n: Small((8, 8, 3), n), "must accept images"),
        ],
    )
    def test_another_one_is_refused(self, stored, make, bars, architecture, message):
        with pytest.raises(ValueError, match=message):
            TrajectoryBuffer.load(stored, architecture=architecture)
        with pytest.raises(ValueError, match=message):
            make(architecture, path=stored, n_teachers=1).fit(*bars)

    def test_the_same_under_another_name_is_taken(self, stored):
        loaded = TrajectoryBuffer.load(stored, architecture=Small)
        assert loaded.n_teachers_ == 1

    @pytest.mark.parametrize("architecture", ["convnet", "mlp"])
    def test_networks_of_the_library(self, stored, make_buffer, bars, architecture):
        message = f"architecture: found a custom network, expected '{architecture}'"
        with pytest.raises(ValueError, match=message):
            make_buffer(architecture=architecture, width=128, depth=3, path=stored).fit(
                *bars
            )

    def test_convnet_has_no_other(self, tmp_path, make_buffer, bars):
        make_buffer(path=tmp_path, n_teachers=1, n_epochs=1).fit(*bars)
        manifest = read_manifest(tmp_path)
        assert "architecture" not in manifest["settings"] | manifest["parameters"]
        assert json.loads(manifest_path(tmp_path).read_text())["version"] == 3
        assert TrajectoryBuffer.load(tmp_path, architecture="convnet").n_teachers_ == 1
        for wrong in ("mlp", small):
            with pytest.raises(ValueError, match="have the network 'convnet'; got"):
                TrajectoryBuffer.load(tmp_path, architecture=wrong)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            lambda shape, n: nn.Sequential(
                nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(128, n)
            ),
            r"batch normalization \(BatchNorm2d '0'\).*use group, layer or instance",
        ),
        (
            lambda shape, n: nn.Sequential(nn.Flatten(), nn.Linear(128, n + 1)),
            r"logits of shape \(n_images, n_classes\) = \(2, 2\); got \(2, 3\)",
        ),
        (lambda shape: nn.Flatten(), "a callable that takes"),
        (lambda shape, n: "net", "must return a torch.nn.Module; got str"),
        (nn.Sequential(nn.Flatten(), nn.Linear(99, 2)), "must accept images"),
        (nn.Sequential(nn.Flatten(), nn.Softmax(1)), "cannot|must"),
    ],
)
def test_what_cannot_teach_is_an_error(tmp_path, make, bars, architecture, message):
    with pytest.raises(ValueError, match=message):
        make(architecture, path=tmp_path).fit(*bars)
    assert not list(tmp_path.iterdir())


def test_batch_normalization_is_an_error_by_name(make, make_buffer, bars):
    for buffer in (
        make("resnet18", normalization="batch"),
        make_buffer(normalization="batch"),
    ):
        with pytest.raises(ValueError, match="`normalization`='batch' makes"):
            buffer.fit(*bars)


def test_parameters_that_no_layer_draws_are_named(make, bars):
    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.places = nn.Parameter(torch.zeros(128))
            self.head = nn.Linear(128, 2)

        def forward(self, images):
            return self.head(images.flatten(1) + self.places)

    with pytest.raises(ValueError, match="initializes the parameter 'places'; give"):
        make(Placed()).fit(*bars)
    parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(128, 2))
    module = nn.Sequential(nn.Flatten(), parametrized)
    with pytest.raises(ValueError, match=r"initializes the parameter '.*original0'"):
        make(module).fit(*bars)

    class Reset(Placed):
        def reset_parameters(self):
            nn.init.normal_(self.places)

    buffer = make(Reset(), n_epochs=1).fit(*bars)
    assert buffer.snapshot(0, 0)[:128].std() > 0.5


def test_attention_and_lazy_layers_are_initialized(make, bars):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.LazyConv2d(4, 4, stride=4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.head = nn.Linear(4, 2)

        def forward(self, images):
            tokens = self.patches(images).flatten(2).transpose(1, 2)
            tokens = self.attention(tokens, tokens, tokens, need_weights=False)[0]
            return self.head(tokens.mean(1))

    buffer = make(Attention(), n_epochs=1).fit(*bars)
    assert np.isfinite(snapshots(buffer)).all()
    assert buffer.n_parameters_ == 4 * 32 + 4 + 4 * (16 + 4) + 10


def test_width_and_depth_of_others_are_told_to_have_no_meaning(make, bars):
    with pytest.warns(UserWarning, match="`width`=16 is ignored"):
        make(width=16, n_epochs=1, n_teachers=1).fit(*bars)


def test_numbers_that_a_storage_cannot_hold_are_an_error(make, bars):
    def scaled(image_shape, n_classes):
        module = Small(image_shape, n_classes)
        module.unit = nn.Parameter(torch.tensor(1e5), requires_grad=False)
        return module

    message = r"`storage`='float16' holds numbers up to 65504, .* parameters of 1e\+05"
    with pytest.raises(ValueError, match=message):
        make(scaled, storage="float16", n_teachers=1, n_epochs=1).fit(*bars)
    stored = make(scaled, storage="bfloat16", n_teachers=1, n_epochs=1).fit(*bars)
    assert np.isfinite(snapshots(stored)).all()
