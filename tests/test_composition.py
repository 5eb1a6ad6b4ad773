"""How the estimators work together with scikit-learn's and imbalanced-learn's."""

import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import skops.io
import torch
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    MTTDistiller,
    STMDistiller,
    TrajectoryBuffer,
    ZCAWhitener,
)


@pytest.fixture(scope="module")
def data():
    """Images (36, 8, 8, 2): a bright row, a bright column or a bright corner."""
    rng = np.random.default_rng(0)
    X = rng.normal(0, 0.3, (36, 8, 8, 2))
    y = np.array(["column", "corner", "row"])[np.arange(36) % 3]
    for image, label in zip(X, y, strict=True):
        place = rng.integers(2, 6)
        if label == "row":
            image[place] += 2
        elif label == "column":
            image[:, place] += 2
        else:
            image[place - 2 : place + 1, place - 2 : place + 1] += 2
    X = X.astype(np.float32)
    X.flags.writeable = False
    return X, y


@pytest.fixture(scope="module")
def teachers():
    """Unfitted teachers that take a tenth of a second."""
    return TrajectoryBuffer(
        n_teachers=2,
        n_epochs=3,
        learning_rate=0.05,
        width=8,
        depth=2,
        device="cpu",
        random_state=0,
    )


@pytest.fixture(scope="module")
def network():
    return ConvNetClassifier(
        width=8, depth=2, max_iter=30, learning_rate=0.05, device="cpu", random_state=0
    )


@pytest.fixture(scope="module")
def stm(teachers, network):
    return STMDistiller(
        buffer=teachers,
        n_steps=3,
        step_size=0.05,
        max_total_iter=3,
        estimator=network,
        device="cpu",
        random_state=0,
    )


@pytest.fixture(scope="module")
def mtt(teachers, network):
    return MTTDistiller(
        buffer=teachers,
        n_steps=3,
        step_size=0.05,
        max_iter=3,
        max_start_epoch=1,
        n_target_epochs=2,
        estimator=network,
        device="cpu",
        random_state=0,
    )


@pytest.fixture
def model(stm, network):
    return make_pipeline(ChannelScaler(), DistilledClassifier(stm, network))


CV = StratifiedKFold(2)


def test_cross_val_score(model, data):
    scores = cross_val_score(model, *data, cv=CV, error_score="raise")
    assert scores.shape == (2,)
    # Of three classes; the least that is worth calling a classifier.
    assert scores.mean() > 0.5


def test_search_over_the_number_of_images(stm, data):
    search = GridSearchCV(stm, {"ipc": [1, 2]}, cv=CV, error_score="raise").fit(*data)
    best = search.best_params_["ipc"]
    assert len(search.best_estimator_.synthetic_) == 3 * best
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_search_over_parameters_of_a_nested_estimator(model, data):
    grid = {
        "distilledclassifier__distiller__buffer__learning_rate": [0.02, 0.05],
        "distilledclassifier__estimator__max_iter": [5, 30],
    }
    search = GridSearchCV(model, grid, cv=CV, error_score="raise").fit(*data)
    distilled = search.best_estimator_[-1]
    assert (
        distilled.distiller_.buffer_.learning_rate
        == search.best_params_["distilledclassifier__distiller__buffer__learning_rate"]
    )
    assert len(search.cv_results_["params"]) == 4


def test_same_results_whatever_n_jobs(model, data):
    grid = {"distilledclassifier__distiller__ipc": [1, 2]}
    one, two = (
        GridSearchCV(model, grid, cv=CV, n_jobs=n_jobs).fit(*data) for n_jobs in (1, 2)
    )
    for key in ("split0_test_score", "split1_test_score"):
        assert np.array_equal(one.cv_results_[key], two.cv_results_[key])
    assert np.array_equal(one.predict_proba(data[0]), two.predict_proba(data[0]))


def test_learning_curve(model, data):
    sizes, train, test = learning_curve(
        model, *data, train_sizes=[0.5, 1.0], cv=CV, error_score="raise"
    )
    assert sizes.tolist() == [9, 18]
    assert np.isfinite(train).all()
    assert np.isfinite(test).all()


def test_calibration(model, data):
    X, y = data
    calibrated = CalibratedClassifierCV(model, cv=CV).fit(X, y)
    probabilities = calibrated.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert calibrated.classes_.tolist() == ["column", "corner", "row"]


def test_voting(model, network, data):
    vote = VotingClassifier([("distilled", model), ("all", network)], voting="soft")
    assert vote.fit(*data).score(*data) > 0.5


@pytest.mark.parametrize("name", ["stm", "mtt"])
def test_distiller_is_a_sampler_of_imbalanced_learn(name, network, data, request):
    distiller = request.getfixturevalue(name)
    pipeline = make_imblearn_pipeline(ChannelScaler(), distiller, network)
    scores = cross_val_score(pipeline, *data, cv=CV, error_score="raise")
    assert np.isfinite(scores).all()
    X, y = data
    pipeline.fit(X, y)
    scaled = ChannelScaler().fit_transform(X)
    expected = clone(network).fit(*clone(distiller).fit_resample(scaled, y))
    assert np.array_equal(pipeline.predict(X), expected.predict(scaled))
    search = GridSearchCV(pipeline, {f"{name}distiller__ipc": [1, 2]}, cv=CV)
    assert search.fit(X, y).best_params_


# Teachers that have seen more than the fold


def test_fitted_teachers_are_trained_anew_for_each_fold(stm, teachers, data):
    X, y = data
    fitted = clone(teachers).fit(X, y)
    distiller = clone(stm).set_params(buffer=fitted)
    scores = cross_validate(distiller, X, y, cv=CV, return_estimator=True)
    for one in scores["estimator"]:
        assert one.buffer_.fingerprint_ != fitted.fingerprint_


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["stm", "mtt"])
def test_frozen_teachers_are_used_as_they_are(name, teachers, data, request):
    X, y = data
    fitted = clone(teachers).fit(X, y)
    distiller = clone(request.getfixturevalue(name)).set_params(buffer=fitted)
    expected = distiller.fit(X, y).synthetic_
    frozen = clone(distiller.set_params(buffer=FrozenEstimator(fitted))).fit(X, y)
    assert frozen.buffer_ is fitted
    assert np.array_equal(frozen.synthetic_.X, expected.X)


@pytest.mark.parametrize("how", ["a FrozenEstimator", "folder"])
def test_teachers_that_have_seen_the_test_images_are_warned_about(
    how, stm, teachers, data, tmp_path
):
    X, y = data
    fitted = clone(teachers).set_params(path=tmp_path).fit(X, y)
    buffer = FrozenEstimator(fitted) if how == "a FrozenEstimator" else tmp_path
    distiller = clone(stm).set_params(buffer=buffer)
    with pytest.warns(UserWarning, match="the test score is biased"):
        cross_val_score(distiller, X, y, cv=CV, error_score="raise")


def test_teachers_that_are_frozen_before_they_are_fitted(stm, teachers, data):
    with pytest.raises(
        ValueError, match="`buffer` must be fitted if it is a FrozenEstimator"
    ):
        clone(stm).set_params(buffer=FrozenEstimator(teachers)).fit(*data)


# Weights


def test_images_of_weight_0_are_as_good_as_left_out(stm, mtt, teachers, data):
    X, y = data
    weight = (np.arange(36) % 4 != 3).astype(float)
    used = weight > 0
    buffer = clone(teachers).fit(X, y, sample_weight=weight)
    expected = clone(teachers).fit(X[used], y[used], sample_weight=weight[used])
    assert np.array_equal(buffer.snapshot(1, 3), expected.snapshot(1, 3))
    assert buffer.fingerprint_ == expected.fingerprint_
    for distiller in (stm, mtt):
        found = clone(distiller).fit(X, y, sample_weight=weight).synthetic_
        others = clone(distiller).fit(X[used], y[used]).synthetic_
        np.testing.assert_allclose(found.X, others.X, atol=1e-5)


def test_weights_count_within_classes(teachers, data):
    """An image three times is one of weight 3; and all classes weigh the same."""
    X, y = data
    # All images in one step: the order does not matter.
    teachers = clone(teachers).set_params(batch_size=200, augmentation=None)
    repeats = 1 + np.arange(36) % 3
    weighted = clone(teachers).fit(X, y, sample_weight=repeats)
    repeated = clone(teachers).fit(X.repeat(repeats, axis=0), y.repeat(repeats))
    difference = weighted.snapshot(0, 3) - repeated.snapshot(0, 3)
    moved = weighted.snapshot(0, 3) - weighted.snapshot(0, 0)
    assert np.abs(difference).max() < 1e-3 * np.abs(moved).max()
    # Each class holds one of the three weights: without balance it would count more.
    plain = clone(teachers).fit(X, y)
    np.testing.assert_allclose(plain.snapshot(0, 3), weighted.snapshot(0, 3), atol=1e-6)
    weight = np.where(np.arange(36) < 18, 1.0, 5.0)
    other = clone(teachers).fit(X, y, sample_weight=weight)
    assert np.abs(other.snapshot(0, 3) - plain.snapshot(0, 3)).max() > 1e-4
    assert other.fingerprint_ != plain.fingerprint_


def test_other_weights_than_those_of_the_teachers_are_warned_about(stm, teachers, data):
    X, y = data
    distiller = clone(stm).set_params(buffer=clone(teachers).fit(X, y))
    with pytest.warns(UserWarning, match="different images, labels or weights"):
        distiller.fit(X, y, sample_weight=np.arange(1, 37))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-np.ones(36), "Negative values in data passed to `sample_weight`"),
        (
            np.zeros(36),
            "two classes of images whose `sample_weight`|one non-zero number",
        ),
        (
            np.arange(36) % 3 == 0,
            "two classes of images whose `sample_weight`",
        ),
        (np.ones(35), r"sample_weight.shape == \(35,\)"),
        (np.full(36, np.nan), "sample_weight contains NaN"),
    ],
)
def test_wrong_weights(weight, message, stm, teachers, network, data):
    for estimator in (stm, teachers, network):
        with pytest.raises(ValueError, match=message):
            clone(estimator).fit(*data, sample_weight=weight)


def test_routing_of_weights(stm, network, data):
    """To the distiller that asks for them, through a pipeline and a search."""
    X, y = data
    weight = np.linspace(0.5, 3, 36)
    with sklearn.config_context(enable_metadata_routing=True):
        asking = clone(stm).set_fit_request(sample_weight=True)
        model = make_pipeline(ChannelScaler(), DistilledClassifier(asking, network))
        model.fit(X, y, sample_weight=weight)
        scaled = ChannelScaler().fit_transform(X)
        expected = clone(stm).fit(scaled, y, sample_weight=weight).synthetic_
        assert np.array_equal(model[-1].distiller_.synthetic_.X, expected.X)
        search = GridSearchCV(
            DistilledClassifier(asking, network).set_score_request(sample_weight=False),
            {"distiller__ipc": [1, 2]},
            cv=CV,
            error_score="raise",
        )
        search.fit(X, y, sample_weight=weight)
        silent = DistilledClassifier(clone(stm), network)
        with pytest.raises(ValueError, match=r"sample_weight.* are passed but are not"):
            silent.fit(X, y, sample_weight=weight)


def test_weights_without_routing(stm, network, data):
    X, y = data
    weight = np.linspace(0.5, 3, 36)
    model = DistilledClassifier(stm, network).fit(X, y, sample_weight=weight)
    expected = clone(stm).fit_resample(X, y, sample_weight=weight)[0]
    assert np.array_equal(model.distiller_.synthetic_.X, expected)


# Stored models


@pytest.mark.parametrize("how", ["pickle", "joblib", "skops"])
def test_stored_models_predict_the_same(how, model, data, tmp_path):
    X, y = data
    model = make_pipeline(ZCAWhitener(), *clone(model).named_steps.values())
    model.fit(X, y)
    if how == "pickle":
        found = pickle.loads(pickle.dumps(model))
    elif how == "joblib":
        joblib.dump(model, tmp_path / "model")
        found = joblib.load(tmp_path / "model")
    else:
        stored = skops.io.dumps(model)
        unknown = skops.io.get_untrusted_types(data=stored)
        # Nothing of PyTorch is in there: it loads where there is none of the GPU.
        assert all(
            name.startswith(("skdistill.", "pandas.", "numpy.")) for name in unknown
        )
        found = skops.io.loads(stored, trusted=unknown)
    assert np.array_equal(found.predict_proba(X), model.predict_proba(X))
    synthetic = model[-1].distiller_.synthetic_
    assert np.array_equal(found[-1].distiller_.synthetic_.X, synthetic.X)
    pd.testing.assert_frame_equal(
        found[-1].distiller_.history_, model[-1].distiller_.history_
    )


@pytest.fixture
def every_warning():
    """Let PyTorch repeat the warnings that it gives once in a process."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


def mapped(fitted, path):
    """Return what the processes of joblib see of large arrays: read-only maps."""
    joblib.dump(fitted, path)
    return joblib.load(path, mmap_mode="r")


@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16"])
def test_read_only_teachers(teachers, data, storage, tmp_path, every_warning):
    fitted = clone(teachers).set_params(storage=storage).fit(*data)
    found = mapped(fitted, tmp_path / "teachers")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        snapshot = found.snapshot(1, 2)
    assert np.array_equal(snapshot, fitted.snapshot(1, 2))
    assert snapshot.flags.writeable


def test_read_only_networks_and_labels(network, data, tmp_path, every_warning):
    X, y = data
    fitted = clone(network).fit(X, y)
    found = mapped(fitted, tmp_path / "network")
    assert not found.parameters_.flags.writeable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probabilities = found.predict_proba(X)
    assert np.array_equal(probabilities, fitted.predict_proba(X))

    # Nor need labels be writable, or in the order of the memory.
    one = clone(network).fit_probabilities(X, probabilities, classes=fitted.classes_)
    turned = probabilities[::-1].copy()[::-1]
    turned.flags.writeable = False
    two = clone(network)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        two.fit_probabilities(X, turned, classes=fitted.classes_)
    assert np.array_equal(one.parameters_, two.parameters_)


def test_fitted_attributes_are_arrays_of_the_cpu(model, data):
    """A model that was fitted on a GPU loads where there is none."""

    def parts(estimator):
        for value in vars(estimator).values():
            yield value
            if hasattr(value, "get_params"):
                yield from parts(value)

    fitted = [part for _, step in model.fit(*data).steps for part in parts(step)]
    assert len(fitted) > 50
    assert not any("torch" in type(part).__module__ for part in fitted)
