"""Distillers with teachers and networks of a user's own architecture."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skdistill import (
    BPTTDistiller,
    CAFEDistiller,
    DCDistiller,
    DMDistiller,
    DSADistiller,
    FRePoDistiller,
    MTTDistiller,
    NCFMDistiller,
    NetworkClassifier,
    RFADDistiller,
    STMDistiller,
    TrajectoryBuffer,
    make_galaxies,
)
from skdistill._training_set import TrainingSet
from skdistill.metrics import evaluate_synthetic


def small(image_shape, n_classes):
    """A network that draws in training."""
    height, width, channels = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(height * width // 4, n_classes),
    )


def other_dropout(image_shape, n_classes):
    """The same parameters; another share of what is dropped."""
    module = small(image_shape, n_classes)
    module[5].p = 0.4
    return module


def without_head(image_shape, n_classes):
    return nn.Sequential(
        nn.Conv2d(image_shape[2], n_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


@pytest.fixture(scope="module")
def images():
    return make_galaxies(36, size=8, random_state=0)


@pytest.fixture(scope="module")
def buffer(images):
    return TrajectoryBuffer(
        architecture=small,
        n_teachers=2,
        n_epochs=3,
        learning_rate=0.1,
        random_state=0,
        device="cpu",
    ).fit(*images)


DISTILLERS = {
    "STM": (STMDistiller, {"n_steps": 3}),
    "STM, kept": (STMDistiller, {"n_steps": 3, "keep_activations": True}),
    "STM, learned": (STMDistiller, {"n_steps": 3, "labels": "learned"}),
    "MTT": (MTTDistiller, {"n_steps": 3, "max_start_epoch": 1}),
    "MTT, teacher": (
        MTTDistiller,
        {"n_steps": 3, "max_start_epoch": 1, "labels": "teacher"},
    ),
    "DC": (DCDistiller, {"batch_size": 3}),
    "NCFM": (NCFMDistiller, {"batch_size": 3}),
}


@pytest.mark.parametrize("name", DISTILLERS)
def test_distillers_follow_teachers_of_any_network(images, buffer, name):
    kind, settings = DISTILLERS[name]

    def fit(**changes):
        distiller = kind(
            buffer=buffer, max_iter=4, random_state=0, device="cpu", **settings
        )
        return distiller.set_params(**changes).fit(*images)

    found = fit()
    assert np.isfinite(found.history_["loss"]).all()
    assert found.stop_reason_ in ("max_iter", "no trend")
    # What networks draw is the same in every fit.
    assert np.array_equal(fit().synthetic_.X, found.synthetic_.X)
    assert not np.array_equal(fit(random_state=1).synthetic_.X, found.synthetic_.X)
    network = found._default_estimator()
    assert isinstance(network, NetworkClassifier)
    assert network.architecture is small
    assert network.image_shape == (8, 8, 3)


def test_checkpoints_resume_and_know_the_network(images, buffer, tmp_path):
    def fit(max_iter, buffer, **changes):
        return MTTDistiller(
            buffer=buffer,
            n_steps=3,
            max_start_epoch=1,
            max_iter=max_iter,
            random_state=0,
            device="cpu",
            **changes,
        ).fit(*images)

    fit(2, buffer, checkpoint=tmp_path)
    resumed = fit(4, buffer, checkpoint=tmp_path)
    assert np.array_equal(resumed.synthetic_.X, fit(4, buffer).synthetic_.X)
    assert resumed.synthetic_.metadata["architecture"].endswith(".small")
    other = TrajectoryBuffer(
        architecture="mlp", n_teachers=2, n_epochs=3, random_state=0, device="cpu"
    ).fit(*images)
    with pytest.raises(ValueError, match="teachers' settings"):
        fit(4, other, checkpoint=tmp_path)


def test_score_trains_the_teachers_network(images, buffer):
    distiller = MTTDistiller(
        buffer=buffer,
        n_steps=2,
        max_start_epoch=1,
        max_iter=2,
        random_state=0,
        device="cpu",
    ).fit(*images)
    network = distiller._default_estimator()
    assert network.learning_rate == pytest.approx(distiller.synthetic_.step_size)
    assert network.max_iter == 1000
    distiller.set_params(estimator=network.set_params(max_iter=2))
    assert 0 <= distiller.score(*images) <= 1


def test_features_need_a_linear_layer(images):
    buffer = TrajectoryBuffer(
        architecture=without_head, n_teachers=1, n_epochs=2, device="cpu"
    )
    distiller = NCFMDistiller(buffer=buffer, max_iter=2, device="cpu")
    with pytest.raises(ValueError, match=r"must end with a torch\.nn\.Linear layer"):
        distiller.fit(*images)
    fitted = DCDistiller(buffer=buffer, max_iter=2, device="cpu").fit(*images)
    assert np.isfinite(fitted.history_["loss"]).all()


def test_folder_of_such_teachers_says_how_to_load_it(images, tmp_path):
    TrajectoryBuffer(
        architecture=small, n_teachers=1, n_epochs=2, path=tmp_path, device="cpu"
    ).fit(*images)
    with pytest.raises(ValueError, match=r"TrajectoryBuffer\.load\(path, architecture"):
        STMDistiller(buffer=tmp_path, max_iter=1, device="cpu").fit(*images)
    torch.manual_seed(0)
    teachers = TrajectoryBuffer.load(tmp_path, architecture=small((8, 8, 3), 9))
    fitted = STMDistiller(buffer=teachers, max_iter=1, n_steps=2, device="cpu")
    assert np.isfinite(fitted.fit(*images).history_["loss"]).all()


def test_sets_name_a_network_of_the_library(images):
    buffer = TrajectoryBuffer(
        architecture="alexnet",
        normalization="group",
        n_teachers=1,
        n_epochs=2,
        batch_size=36,
        device="cpu",
    )
    distiller = NCFMDistiller(buffer=buffer, max_iter=1, batch_size=3, device="cpu")
    network = distiller.fit(*images)._default_estimator()
    assert distiller.synthetic_.metadata["default_estimator"] == {
        "name": "NetworkClassifier",
        "architecture": "alexnet",
        "normalization": "group",
    }
    assert (network.architecture, network.normalization) == ("alexnet", "group")


# Distillers that draw networks themselves

DRAWING = {
    "DC": (DCDistiller, {"ipc": 2, "n_network_epochs": 2}),
    "DSA": (DSADistiller, {}),
    "DM": (DMDistiller, {"batch_size": 3}),
    "CAFE": (CAFEDistiller, {"batch_size": 3, "max_rounds": 2}),
    "BPTT": (BPTTDistiller, {"n_steps": 3}),
    "FRePo": (FRePoDistiller, {"n_networks": 2, "n_real": 9}),
    "RFAD": (RFADDistiller, {"n_networks": 2, "n_real": 9}),
}
drawing = pytest.mark.parametrize("name", DRAWING)


def make_drawing(name, **changes):
    kind, settings = DRAWING[name]
    ends = {"max_iter": 2, "random_state": 0, "device": "cpu"}
    return kind(**settings | ends | changes)


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, partial(torch.compile, backend="eager")]
)
def test_wrapped_modules_are_what_they_wrap(images, wrap):
    for name in ("BPTT", "FRePo"):
        module = small((8, 8, 3), 9)
        expected = make_drawing(name, architecture=module).fit(*images)
        found = make_drawing(name, architecture=wrap(module)).fit(*images)
        assert np.array_equal(found.synthetic_.X, expected.synthetic_.X)


@drawing
def test_a_module_is_as_what_makes_it(images, name):
    torch.manual_seed(3)
    module = small((8, 8, 3), 9)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.random.fork_rng():
        found = make_drawing(name, architecture=module).fit(*images)
    # Its layers draw new weights, as those of a new one do.
    expected = make_drawing(name, architecture=small).fit(*images)
    assert found.history_["loss"].notna().all()
    assert found.synthetic_.metadata["architecture"] == "torch.nn.modules.container" + (
        ".Sequential"
    )
    assert expected.synthetic_.metadata["architecture"].endswith(".small")
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    network = found._default_estimator()
    assert network.architecture is module
    assert network.image_shape == (8, 8, 3)


REFUSED = {
    "batch norm": (
        lambda shape, n: nn.Sequential(
            nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(192, n)
        ),
        r"batch normalization \(BatchNorm2d '0'\).*use group, layer or instance",
    ),
    "other outputs": (
        lambda shape, n: nn.Sequential(nn.Flatten(), nn.Linear(192, n + 1)),
        r"logits of shape \(n_images, n_classes\) = \(4, 9\); got \(4, 10\)",
    ),
    "other images": (
        nn.Sequential(nn.Flatten(), nn.Linear(9, 9)),
        "must accept images",
    ),
    "no module": (lambda shape, n: None, "must return a torch.nn.Module; got NoneType"),
    "a class": (nn.Linear, "is not a network|a callable that takes|must accept images"),
    "nothing trained": (
        lambda shape, n: small(shape, n).requires_grad_(False),
        "trainable parameters; it has none",
    ),
    "statistics": (
        lambda shape, n: nn.Sequential(
            nn.InstanceNorm2d(3, track_running_stats=True),
            nn.Flatten(),
            nn.Linear(192, n),
        ),
        r"changes its buffer '0\.running_mean' during training",
    ),
    "normalized over the batch": (
        lambda shape, n: with_function(lambda x: x - x.mean(0), n),
        "depend on the other images of its batch",
    ),
    "cut off": (
        lambda shape, n: with_function(torch.detach, n),
        "no gradient with respect to the pixels",
    ),
}


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def with_function(function, n):
    return nn.Sequential(nn.Flatten(), Function(function), nn.Linear(192, n))


@pytest.mark.parametrize("case", REFUSED)
@drawing
def test_networks_that_cannot_be_are_refused_before_the_work(
    images, tmp_path, name, case
):
    architecture, message = REFUSED[case]
    distiller = make_drawing(name, architecture=architecture, checkpoint=tmp_path / "a")
    with pytest.raises(ValueError, match=message):
        distiller.fit(*images)
    assert not (tmp_path / "a").exists()
    with pytest.raises(ValueError, match="'architecture' parameter of"):
        make_drawing(name, architecture="resnet50").fit(*images)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return values.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, adjoint):
        return adjoint * ctx.saved_tensors[0].cos()


def once(image_shape, n_classes):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(192, 4), Function(Once.apply), nn.Linear(4, n_classes)
    )


def test_second_derivatives_are_checked_where_they_are_needed(images):
    # Teachers that would take hours.
    teachers = TrajectoryBuffer(architecture=once, n_teachers=10**6)
    settings = {"buffer": teachers, "n_steps": 2, "device": "cpu"}
    for distiller in (
        STMDistiller(**settings),
        MTTDistiller(**settings),
        DCDistiller(buffer=teachers, device="cpu"),
        make_drawing("DC", architecture=once),
        make_drawing("BPTT", architecture=once),
    ):
        with pytest.raises(ValueError, match="must be twice differentiable"):
            distiller.fit(*images)
    for name in ("DM", "FRePo"):
        make_drawing(name, architecture=once).fit(*images)
    fitted = clone(teachers).set_params(n_teachers=1, n_epochs=2, device="cpu")
    with pytest.raises(ValueError, match="must be twice differentiable"):
        STMDistiller(**settings | {"buffer": fitted.fit(*images)}).fit(*images)


def seeded(image_shape, n_classes):
    torch.manual_seed(0)
    return small(image_shape, n_classes)


def test_networks_that_all_start_alike_are_told(images):
    given = small((8, 8, 3), 9)
    before = given[0].weight.clone()
    for architecture in (seeded, lambda image_shape, n_classes: given):
        with pytest.warns(UserWarning, match="modules of the same weights, so that"):
            make_drawing("DM", architecture=architecture).fit(*images)
        buffer = TrajectoryBuffer(
            architecture=architecture, n_teachers=2, n_epochs=1, device="cpu"
        )
        with pytest.warns(UserWarning, match="modules of the same weights, so that"):
            buffer.fit(*images)
    # It is the user's.
    assert torch.equal(given[0].weight, before)


@drawing
def test_batch_normalization_is_refused_of_networks_by_name(images, name):
    distiller = make_drawing(name, architecture="vgg11", normalization="batch")
    with pytest.raises(ValueError, match="`normalization`='batch' makes"):
        distiller.fit(*images)


@pytest.mark.parametrize("name", ["DM", "CAFE", "FRePo"])
def test_features_that_are_not_there_are_named(images, name):
    with pytest.raises(ValueError, match=r"must end with a torch\.nn\.Linear layer"):
        make_drawing(name, architecture=without_head).fit(*images)


def test_what_is_matched_must_be_there(images):
    for changes in (
        {"architecture": "mlp"},
        {"buffer": TrajectoryBuffer(architecture="mlp", n_teachers=10**6)},
    ):
        with pytest.raises(
            ValueError, match="`matched`='kernels' selects no parameters"
        ):
            make_drawing("DC", matched="kernels", **changes).fit(*images)
    make_drawing("DC", architecture="mlp", matched="all").fit(*images)


def test_weights_of_layers_of_any_network(images):
    def weights(**changes):
        return make_drawing("CAFE", **changes).fit(*images)._weights

    # Three layers: the first sees the image, the last one the embedding.
    assert weights(architecture="mlp") == [1.0, 2.0]
    assert weights(architecture=small) == [2.0]
    alexnet = {"architecture": "alexnet", "max_iter": 1}
    assert weights(**alexnet) == [0.1, 0.1, 0.1, 1.0, 2.0]
    assert weights(architecture="mlp", layer_weights=[0, 3]) == [0, 3]
    with pytest.raises(
        ValueError, match=r"2 non-negative numbers.*inputs of 1 layers of mlp"
    ):
        weights(architecture="mlp", layer_weights=[1, 1, 1])


@pytest.mark.parametrize("name", ["DM", "DC"])
def test_checkpoints_know_the_network_they_are_of(images, tmp_path, name):
    def fit(architecture, **changes):
        return make_drawing(name, architecture=architecture, **changes).fit(*images)

    fit(small, max_iter=1, checkpoint=tmp_path)
    expected = fit(small, max_iter=3)
    # The same under another name.
    found = fit(
        lambda *given: small(*given), max_iter=3, checkpoint=tmp_path
    ).synthetic_
    assert np.array_equal(found.X, expected.synthetic_.X)
    for other in ("convnet", "mlp", other_dropout):
        with pytest.raises(ValueError, match="`architecture`: found"):
            fit(other, max_iter=3, checkpoint=tmp_path)


def test_parameters_without_effect_are_told(images, buffer):
    message = "`width`=16 and `depth`=2 are ignored"
    with pytest.warns(UserWarning, match=message):
        make_drawing("DM", architecture=small, width=16, depth=2).fit(*images)
    with pytest.warns(UserWarning, match="`architecture` has no effect"):
        make_drawing("DC", architecture="mlp", buffer=buffer).fit(*images)


def test_sets_of_such_networks_ask_for_an_estimator(images):
    fitted = make_drawing("DM", architecture=small).fit(*images)
    X, y = images
    network = fitted._default_estimator().set_params(max_iter=2)
    assert network.get_params()["learning_rate"] == NetworkClassifier().learning_rate
    options = {"n_repeats": 1, "random_state": 0}
    with pytest.warns(UserWarning, match=r"`estimator`=NetworkClassifier\(\.\.\.\)"):
        TrainingSet(fitted.synthetic_, False).default_estimator()
    evaluate_synthetic(fitted.synthetic_, X, y, estimator=network, **options)
    fitted.set_params(estimator=network)
    assert 0 <= fitted.score(X, y) <= 1


def test_a_search_over_networks(images):
    search = GridSearchCV(
        make_drawing("DM", estimator=NetworkClassifier("mlp", max_iter=2)),
        {"architecture": ["convnet", "mlp", small]},
        cv=2,
    )
    X, y = images
    search.fit(np.concatenate([X, X]), np.concatenate([y, y]))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
