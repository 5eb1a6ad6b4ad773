"""What every distiller does in the same way, whatever its method.

``TINY`` has one of each; what only some can is asked of those whose parameters say so.
"""

import json
import pickle
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

import skdistill
import skdistill.distillation as package
import skdistill.distillation._engine._loop as loop_module
from skdistill import (
    BPTTDistiller,
    CAFEDistiller,
    ClassMeans,
    ConvNetClassifier,
    DCDistiller,
    DMDistiller,
    DSADistiller,
    FRePoDistiller,
    FullData,
    Herding,
    KIPDistiller,
    KMeansPrototypes,
    MTTDistiller,
    NCFMDistiller,
    RandomSubset,
    RFADDistiller,
    STMDistiller,
    SyntheticSet,
    TrajectoryBuffer,
)
from skdistill._training_set import TrainingSet
from skdistill.base import BaseDistiller
from skdistill.distillation._iterative import IterativeDistiller
from skdistill.utils._pixel_space import pixel_space

NETWORK = ConvNetClassifier(
    width=4, depth=1, max_iter=3, batch_size=64, device="cpu", random_state=0
)
TEACHERS = TrajectoryBuffer(
    n_teachers=2,
    n_epochs=3,
    width=4,
    depth=1,
    learning_rate=0.05,
    random_state=0,
    device="cpu",
)
ANY = {"device": "cpu", "random_state": 0, "estimator": NETWORK}
STUDENTS = {"buffer": TEACHERS, "n_steps": 2, "step_size": 0.05}
MATCHING = {"width": 4, "depth": 1, "max_iter": 4}


def own_network(image_shape, n_classes):
    """A network of a user's, that draws in training."""
    return nn.Sequential(
        nn.Conv2d(image_shape[2], 2, 3, stride=2),
        nn.GroupNorm(1, 2),
        nn.GELU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.LazyLinear(n_classes),
    )


OWN = {"architecture": own_network, "max_iter": 4}
# A distiller of each kind, made to end after four iterations.
TINY = [
    STMDistiller(**ANY, **STUDENTS, max_total_iter=4),
    MTTDistiller(**ANY, **STUDENTS, max_start_epoch=2, n_target_epochs=1, max_iter=4),
    DCDistiller(**ANY, **MATCHING, n_rounds=3, n_network_epochs=2),
    DSADistiller(**ANY, **MATCHING, n_rounds=3, n_network_epochs=2),
    BPTTDistiller(
        **ANY,
        n_steps=4,
        window=2,
        optimizer="sgd",
        step_size=0.05,
        step_size_lr=0.01,
        width=4,
        depth=1,
        max_iter=4,
    ),
    DMDistiller(**ANY, **MATCHING, batch_size=2, n_steps_per_network=2),
    NCFMDistiller(**ANY, buffer=TEACHERS, n_frequencies=8, batch_size=2, max_iter=4),
    CAFEDistiller(**ANY, **MATCHING, batch_size=2, max_rounds=2, max_network_epochs=2),
    KIPDistiller(**ANY, max_iter=4),
    FRePoDistiller(**ANY, **MATCHING, n_networks=3, max_network_steps=2, n_real=9),
    RFADDistiller(**ANY, **MATCHING, n_networks=2, n_real=9),
    RandomSubset(**ANY),
    ClassMeans(**ANY),
    KMeansPrototypes(**ANY),
    Herding(**ANY, features=NETWORK),
    FullData(**ANY),
]
# Those that draw networks, with networks of another kind.
OF_ANY_NETWORK = [
    DCDistiller(**ANY, **OWN, n_rounds=3, n_network_epochs=2),
    DSADistiller(**ANY, **OWN | {"architecture": "mlp"}),
    BPTTDistiller(**ANY, **OWN, n_steps=3, window=2),
    DMDistiller(**ANY, **OWN, batch_size=2),
    CAFEDistiller(**ANY, **OWN, batch_size=2, max_rounds=2, max_network_epochs=2),
    FRePoDistiller(**ANY, **OWN, n_networks=2, max_network_steps=2, n_real=9),
]
ITERATIVE = [one for one in TINY if isinstance(one, IterativeDistiller)]
LEARN_LABELS = [one for one in ITERATIVE if "labels" in one.get_params(deep=False)]


def name_of(distiller):
    return type(distiller).__name__


def id_of(distiller):
    network = getattr(distiller, "architecture", "convnet")
    return name_of(distiller) + ("" if network == "convnet" else ", other network")


def of_each(distillers):
    return pytest.mark.parametrize("distiller", distillers, ids=id_of)


every, iterative = of_each(TINY), of_each(ITERATIVE)
# What may depend on the network is asked of other networks, too.
every_network = of_each([*TINY, *OF_ANY_NETWORK])
iterative_network = of_each([*ITERATIVE, *OF_ANY_NETWORK])


def test_no_distiller_is_left_out():
    public = {getattr(package, name) for name in package.__all__}
    public = {one for one in public if issubclass(one, BaseDistiller)}
    assert {type(one) for one in TINY} == public
    takes = {one for one in public if "architecture" in one().get_params(deep=False)}
    # One is the other with other defaults.
    assert {type(one) for one in OF_ANY_NETWORK} == takes - {RFADDistiller}


@pytest.fixture(scope="module")
def data():
    """Images (25, 8, 8, 2) of three classes of unequal size, with names."""
    rng = np.random.default_rng(0)
    y = np.array(["bar", "blob", "bar", "disc", "bar"] * 5)
    X = rng.normal(size=(25, 8, 8, 2)).astype(np.float32)
    X[y == "bar", 3] += 2
    X[y == "disc", :, 4] += 2
    X.flags.writeable = False
    return X, y


@pytest.fixture(scope="module")
def buffer(data):
    """Teachers that all fits on the same images share."""
    return clone(TEACHERS).fit(*data)


def variant(distiller, buffer=None, **changes):
    """Return a copy with other parameters."""
    if buffer is not None and getattr(distiller, "buffer", None) is not None:
        changes = {"buffer": buffer, **changes}
    return clone(distiller).set_params(**changes)


def ended_after(distiller, n_iter, buffer=None, **changes):
    return variant(distiller, buffer, **{distiller._limit_name: n_iter}, **changes)


def lasting(metadata):
    """Return what sets of equal fits say alike: all but when and how they ran."""
    return {name: value for name, value in metadata.items() if name != "run"}


def assert_same_set(found, expected):
    assert np.array_equal(found.X, expected.X)
    assert found.y.tolist() == expected.y.tolist()
    assert found.step_size == expected.step_size
    for name in ("probabilities", "targets"):
        one, other = (getattr(each, name, None) for each in (found, expected))
        assert np.array_equal(one, other) or (one is None and other is None)


def assert_same_run(found, expected):
    assert_same_set(found.synthetic_, expected.synthetic_)
    assert_same_set(found.best_synthetic_, expected.best_synthetic_)
    assert found.history_.equals(expected.history_)
    assert found.n_iter_ == expected.n_iter_
    assert found.stop_reason_ == expected.stop_reason_


@every
def test_fit_gives_a_set_of_all_classes(distiller, data, buffer):
    X, y = data
    found = variant(distiller, buffer).fit(X, y).synthetic_
    assert isinstance(found, SyntheticSet)
    assert sorted(set(found.y.tolist())) == ["bar", "blob", "disc"]
    assert found.y.tolist() == sorted(found.y.tolist())
    assert found.X.shape[1:] == X.shape[1:]
    assert found.X.dtype == np.float32
    assert np.isfinite(found.X).all()
    check_metadata(found.metadata, distiller, y)
    np.testing.assert_allclose(found.pixel_space.mean, X.mean((0, 1, 2)), atol=1e-5)


def check_metadata(metadata, distiller, y):
    """See that a set says all that its distiller knows, and nobody's folders."""
    assert metadata["distiller"] == name_of(distiller)
    parameters = variant(distiller).get_params(deep=False)
    hidden = {"buffer", "checkpoint", "device", "n_jobs", "random_state", "verbose"}
    assert set(metadata["parameters"]) == set(parameters) - hidden
    assert metadata["parameters"].get("ipc") == parameters.get("ipc")
    assert metadata["seed"] == parameters["random_state"]
    labels, counts = np.unique(y, return_counts=True)
    expected = dict(zip(labels.tolist(), counts.tolist(), strict=True))
    assert metadata["n_real_images"] == expected
    assert ("n_iter" in metadata) == hasattr(distiller, "max_iter")
    if parameters.get("buffer") is not None:
        assert metadata["teachers"]["n_teachers"] >= 1
    run = metadata["run"]
    assert abs(datetime.fromisoformat(run["date"]) - datetime.now(UTC)) < (
        timedelta(minutes=10)
    )
    assert run["versions"]["skdistill"] == skdistill.__version__
    text = json.dumps(metadata, allow_nan=False)
    assert len(text) < 6000
    assert str(Path.cwd()) not in text
    assert str(Path.home()) not in text


def legacy_state():
    """Return the state of NumPy's global generator."""
    return np.random.mtrand._rand.get_state()[1].copy()


@every_network
def test_one_seed_gives_one_set(distiller, data, buffer):
    state = torch.get_rng_state(), legacy_state()
    found = variant(distiller, buffer).fit(*data)
    again = variant(distiller, buffer).fit(*data)
    assert_same_set(found.synthetic_, again.synthetic_)
    assert lasting(found.synthetic_.metadata) == lasting(again.synthetic_.metadata)
    # Nobody else's random numbers are drawn.
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(legacy_state(), state[1])


@iterative
def test_other_seeds_give_other_sets(distiller, data, buffer):
    found = [
        variant(distiller, buffer, random_state=seed).fit(*data).synthetic_.X
        for seed in (0, 1)
    ]
    assert not np.array_equal(*found)


@every
def test_images_of_weight_zero_are_as_if_they_were_not_there(distiller, data):
    X, y = data
    rng = np.random.default_rng(1)
    more = np.concatenate([X, 9 * rng.normal(size=X.shape).astype(np.float32)])
    weight = np.concatenate([np.ones(len(X)), np.zeros(len(X))])
    expected = variant(distiller).fit(X, y)
    found = variant(distiller).fit(more, np.concatenate([y, y]), weight)
    assert_same_set(found.synthetic_, expected.synthetic_)
    assert lasting(found.synthetic_.metadata) == lasting(expected.synthetic_.metadata)


@every
def test_a_class_without_weight_is_named(distiller, data):
    X, y = data
    weight = np.where(y == "blob", 0.0, 1.0)
    with pytest.warns(UserWarning, match=r"\['blob'\] have a `sample_weight` of 0"):
        found = variant(distiller).fit(X, y, weight).synthetic_
    assert set(found.y.tolist()) == {"bar", "disc"}


@every
def test_weights_decide_what_comes_out(distiller, data):
    if isinstance(distiller, FullData):
        pytest.skip("it keeps all images, whatever they weigh")
    X, y = data
    # Whatever is drawn and matched, it is of a few images alone.
    weight = np.where(np.arange(len(X)) < 10, 1.0, 1e-12)
    found = variant(distiller).fit(X, y, weight).synthetic_
    assert not np.array_equal(found.X, variant(distiller).fit(X, y).synthetic_.X)


@every
def test_rows_of_pixels_are_images(distiller, data, buffer):
    X, y = data
    expected = variant(distiller, buffer).fit(X, y).synthetic_
    rows = X.reshape(len(X), -1)
    flat = variant(distiller, buffer, image_shape=(8, 8, 2))
    found, labels = flat.fit_resample(rows, y)
    assert np.array_equal(found, expected.X.reshape(len(expected.X), -1))
    assert labels.tolist() == expected.y.tolist()
    assert 0 <= flat.score(rows, y) <= 1


@every
def test_score_is_that_of_its_estimator_on_its_set(distiller, data, buffer):
    X, y = data
    fitted = variant(distiller, buffer).fit(X, y)
    X_synthetic, y_synthetic = fitted.synthetic_
    expected = clone(NETWORK).fit(X_synthetic, y_synthetic).score(X, y)
    assert fitted.score(X, y) == pytest.approx(expected)


@every_network
def test_own_default_estimator_scores(distiller, data, buffer):
    fitted = variant(distiller, buffer, estimator=None).fit(*data)
    model = fitted._default_estimator()
    quick = {"max_iter": 2} if "max_iter" in model.get_params() else {}
    assert hasattr(model.set_params(**quick), "fit")
    fitted._default_estimator = lambda: model
    assert 0 <= fitted.score(*data) <= 1


@every_network
def test_sets_name_the_default_estimator(distiller, data, buffer):
    """Whoever has the set alone scores it by the same one as its distiller."""
    fitted = variant(distiller, buffer, estimator=None).fit(*data)
    own = fitted._default_estimator().get_params()
    if callable(own.get("architecture")):
        # No file can hold it.
        with pytest.warns(
            UserWarning, match=r"a custom network, .*\.own_network, which"
        ):
            TrainingSet(fitted.synthetic_, False).default_estimator()
        return
    of_set = TrainingSet(fitted.synthetic_, False).default_estimator().get_params()
    where_and_how = {"device", "random_state", "image_shape"}
    assert {name: own[name] for name in own.keys() - where_and_how} == {
        name: of_set[name] for name in of_set.keys() - where_and_how
    }


@every_network
def test_pickles_and_clones_are_the_same(distiller, data, buffer):
    fitted = variant(distiller, buffer).fit(*data)
    copy = pickle.loads(pickle.dumps(fitted))
    assert_same_set(copy.synthetic_, fitted.synthetic_)
    assert copy.score(*data) == fitted.score(*data)
    again = clone(fitted)
    assert not hasattr(again, "synthetic_")
    assert_same_set(again.fit(*data).synthetic_, fitted.synthetic_)


@every
def test_search(distiller, data):
    grid = {"ipc": [1, 2]}
    if "ipc" not in distiller.get_params():
        grid = {"random_state": [0, 1]}
    with warnings.catch_warnings():
        # A class has five images.
        warnings.simplefilter("ignore", UserWarning)
        search = GridSearchCV(variant(distiller), grid, cv=2).fit(*data)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.best_estimator_.synthetic_.X) > 0


@pytest.mark.parametrize(("channels", "size"), [(1, (8, 8)), (5, (12, 8))])
@every_network
def test_any_channels_and_heights(distiller, channels, size):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, *size, channels))
    y = np.arange(12) % 2
    found = variant(distiller).fit(X, y).synthetic_
    assert found.X.shape[1:] == (*size, channels)
    assert np.isfinite(found.X).all()


@every
def test_bad_input_is_refused_before_the_work(distiller, data):
    X, y = data
    with pytest.raises(ValueError, match="NaN"):
        variant(distiller).fit(np.where(X > 3, np.nan, X), y)
    with pytest.raises(ValueError, match=r"[Ii]nconsistent|same|rows|length"):
        variant(distiller).fit(X, y[:-1])
    if isinstance(distiller, IterativeDistiller):
        with pytest.raises(ValueError, match="class"):
            variant(distiller).fit(X, np.zeros(len(X)))
        with pytest.raises(ValueError, match=r"`ipc`=6 .*'blob'|'blob'.*5"):
            variant(distiller, ipc=6, init="real").fit(X, y)
        with pytest.raises(ValueError, match="`pixel_size`=3 must divide"):
            variant(distiller, pixel_size=3).fit(X, y)
        with pytest.raises(ValueError, match=r"init"):
            variant(distiller, init=np.zeros((2, 8, 8, 2))).fit(X, y)


# Distillers that iterate


@iterative_network
def test_history_and_ends(distiller, data, buffer):
    fitted = variant(distiller, buffer).fit(*data)
    history = fitted.history_
    assert len(history) == fitted.n_iter_ == 4
    assert {"loss", "event"} <= set(history.columns)
    assert np.isfinite(history["loss"]).all()
    assert set(history["event"]) == {""}
    assert fitted.stop_reason_ == distiller._limit_name
    numbers = history.drop(columns="event")
    assert all(dtype.kind in "if" for dtype in numbers.dtypes)


@iterative_network
@pytest.mark.parametrize("n_first", [1, 3])
def test_prolonged_runs_are_bitwise_identical(
    distiller, data, buffer, tmp_path, n_first
):
    expected = ended_after(distiller, 4, buffer).fit(*data)
    first = ended_after(distiller, n_first, buffer, checkpoint=tmp_path).fit(*data)
    assert first.n_iter_ == n_first
    found = ended_after(distiller, 4, buffer, checkpoint=tmp_path).fit(*data)
    assert_same_run(found, expected)
    with pytest.raises(ValueError, match="parameters"):
        ended_after(distiller, 4, buffer, checkpoint=tmp_path, ipc=2).fit(*data)


@iterative
def test_interrupted_runs_resume_bitwise(
    distiller, data, buffer, tmp_path, monkeypatch
):
    expected = variant(distiller, buffer).fit(*data)
    real, calls = loop_module.evaluate_draws, iter(range(100))

    def press_keys(*args):
        found = real(*args)
        if next(calls) == 2:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(loop_module, "evaluate_draws", press_keys)
    with pytest.warns(UserWarning, match="interrupted after 2 iterations"):
        first = variant(distiller, buffer, checkpoint=tmp_path).fit(*data)
    assert first.n_iter_ == 2
    assert first.stop_reason_ == "interrupted"
    assert np.isfinite(first.synthetic_.X).all()
    found = variant(distiller, buffer, checkpoint=tmp_path).fit(*data)
    assert_same_run(found, expected)


@iterative
def test_numbers_that_are_none_are_rolled_back(distiller, data, buffer, monkeypatch):
    real, calls = loop_module.evaluate_draws, iter(range(100))

    def spoil(*args):
        metrics, notes, gradients = real(*args)
        if next(calls) == 1:
            metrics = metrics | {"loss": float("nan")}
        return metrics, notes, gradients

    monkeypatch.setattr(loop_module, "evaluate_draws", spoil)
    fitted = variant(distiller, buffer).fit(*data)
    assert fitted.history_["event"].tolist() == ["", "rolled back", "", ""]
    assert np.isfinite(fitted.synthetic_.X).all()


@iterative
def test_callbacks_see_each_iteration_and_can_end_the_fit(distiller, data, buffer):
    if not hasattr(distiller, "set_callbacks"):
        pytest.skip("this version of scikit-learn has no callbacks")
    seen = []

    class Watch:
        def setup(self, estimator, context):
            """Nothing to prepare."""

        teardown = on_fit_task_begin = setup

        def on_fit_task_end(self, estimator, context, *, metadata=None):
            if context.task_name == "iteration":
                seen.append(metadata)
            return len(seen) == 2

    fitted = variant(distiller, buffer)
    fitted.set_callbacks(Watch())
    fitted.fit(*data)
    assert fitted.stop_reason_ == "callback"
    assert [said["iteration"] for said in seen] == [1, 2]
    assert all({"loss", "pixel_lr"} <= set(said) for said in seen)


@iterative
def test_first_images(distiller, data, buffer):
    X, y = data
    given = np.stack([X[y == name][0] for name in ("bar", "blob", "disc")])
    still = {"pixel_lr": 1e-30, "buffer": buffer}
    if "buffer" not in distiller.get_params(deep=False):
        del still["buffer"]
    found = variant(distiller, **still, init=given).fit(X, y).synthetic_
    np.testing.assert_allclose(found.X, given, atol=1e-6)
    real = variant(distiller, **still, init="real").fit(X, y).synthetic_
    for image, label in zip(real.X, real.y, strict=True):
        distances = np.abs(X[y == label] - image).max(axis=(1, 2, 3))
        assert distances.min() < 1e-6
    noise = variant(distiller, **still, init="noise").fit(X, y).synthetic_
    assert np.abs(noise.X.std() / X.std() - 1) < 0.5


@iterative
def test_a_set_as_initial_images(distiller, data, buffer):
    X, y = data
    names = ["disc", "bar", "blob"]
    given = np.stack([X[y == name][0] for name in names])
    # Distilled images may have far more contrast than real ones.
    given = 8 * (given - X.mean()) + X.mean()
    still = {"pixel_lr": 1e-30, "buffer": buffer}
    if "buffer" not in distiller.get_params(deep=False):
        del still["buffer"]
    space = pixel_space(np.asarray(X))
    start = SyntheticSet(given, names, step_size=3.0, pixel_space=space)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*pixel space")
        found = variant(distiller, **still, init=start).fit(X, y).synthetic_
    assert found.y.tolist() == ["bar", "blob", "disc"]
    np.testing.assert_allclose(found.X, given[[1, 2, 0]], atol=1e-5)
    space = space._replace(mean=space.mean + 255, deviation=255 * space.deviation)
    start = replace(start, pixel_space=space)
    with pytest.warns(UserWarning, match="`init` is in a different pixel space"):
        variant(distiller, **still, init=start).fit(X, y)
    # It was measured on all real images, so that a few initial ones are no excuse.
    space = pixel_space(np.asarray(X))
    for change in ({"deviation": 4 * space.deviation}, {"correlation": -np.ones(2)}):
        start = replace(start, pixel_space=space._replace(**change))
        with pytest.warns(UserWarning, match="`init` is in a different pixel space"):
            variant(distiller, **still, init=start).fit(X, y)
    longer = replace(start)
    longer.X = np.concatenate([given, given])
    for wrong, message in (
        (longer, "y must hold one label for each of the 6 images"),
        (SyntheticSet(given, [0, 1, 2]), "class 0, which is not in y"),
        (start[:2], "it has 0 of class 'blob'"),
        (SyntheticSet(given, ["bar", "bar", "disc"]), "it has 2 of class 'bar'"),
        (
            SyntheticSet(np.concatenate([given, given[:1]]), [*names, "ring"]),
            "it has 1 of class 'ring', which is not in y",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            variant(distiller, **still, init=wrong).fit(X, y)


@iterative
def test_larger_pixels(distiller, data, buffer):
    found = variant(distiller, buffer, pixel_size=2, ipc=2).fit(*data).synthetic_
    assert found.pixel_size == 2
    blocks = found.X.reshape(len(found.X), 4, 2, 4, 2, 2)
    assert np.array_equal(blocks, blocks[:, :, :1, :, :1].repeat(2, 2).repeat(2, 4))


@iterative
def test_averages_are_not_the_last_images(distiller, data, buffer):
    averaged = variant(distiller, buffer, average=True).fit(*data).synthetic_
    last = variant(distiller, buffer, average=False).fit(*data).synthetic_
    assert not np.array_equal(averaged.X, last.X)
    # The path is the same.
    assert np.abs(averaged.X - last.X).max() < np.abs(last.X).max()


@iterative
def test_memory_maps_are_images(distiller, data, tmp_path):
    X, y = data
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    expected = variant(distiller).fit(X, y).synthetic_
    assert_same_set(variant(distiller).fit(mapped, y).synthetic_, expected)


@pytest.mark.parametrize("distiller", LEARN_LABELS, ids=id_of)
def test_learned_labels(distiller, data, buffer, tmp_path):
    fitted = variant(distiller, buffer, labels="learned").fit(*data)
    found = fitted.synthetic_
    soft = found.probabilities
    if soft is None:
        soft = found.targets
    assert soft.shape == (len(found.X), 3)
    assert np.isfinite(soft).all()
    # They start from the class of each image, and move.
    assert soft.argmax(1).tolist() == [0, 1, 2]
    found.save(tmp_path / "set.safetensors")
    assert_same_set(SyntheticSet.load(tmp_path / "set.safetensors"), found)
    assert 0 <= fitted.score(*data) <= 1
