import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, Perceptron
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from torch import nn

from skdistill.distillation import (
    DistilledClassifier,
    KIPDistiller,
    RandomSubset,
    STMDistiller,
)
from skdistill.neural_network import ConvNetClassifier, NetworkClassifier
from skdistill.preprocessing import ChannelScaler


@pytest.fixture
def make_model(make_teachers):
    """Make a small distiller with a small network; teachers are trained in fit."""

    def make(buffer=None, **changes):
        distiller = STMDistiller(
            buffer=make_teachers(n_teachers=1, n_epochs=2)
            if buffer is None
            else buffer,
            n_steps=2,
            step_size=0.05,
            max_total_iter=2,
            random_state=0,
            device="cpu",
            **changes,
        )
        network = ConvNetClassifier(
            width=8, depth=2, max_iter=10, random_state=0, device="cpu", **changes
        )
        return DistilledClassifier(distiller, network)

    return make


def test_classifier_sees_the_synthetic_images_alone(make_model, bars):
    X, y = bars
    model = make_model().fit(X, y)
    expected = clone(model.estimator).fit(*model.distiller_.synthetic_)
    assert np.array_equal(model.predict(X), expected.predict(X))
    assert np.array_equal(model.predict_proba(X), expected.predict_proba(X))
    assert model.score(X, y) == expected.score(X, y)


def test_attributes(make_model, bars):
    X, y = bars
    names = np.array(["c", "a", "b"])[y]
    model = make_model()
    given = model.distiller, model.estimator
    model.fit(X, names)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.n_features_in_ == 768
    assert set(model.predict(X)) <= {"a", "b", "c"}
    assert len(model.distiller_.synthetic_) == 3
    # The parameters are left as they were: clones were fitted.
    assert (model.distiller, model.estimator) == given
    assert not hasattr(model.distiller, "synthetic_")
    assert not hasattr(model.estimator, "classes_")
    assert not hasattr(model.distiller.buffer, "history_")


def test_flat_images(make_model, bars):
    X, y = bars
    flat = X.reshape(len(X), -1)
    model = make_model(image_shape=(16, 16, 3)).fit(flat, y)
    expected = make_model().fit(X, y)
    assert model.n_features_in_ == 768
    assert np.array_equal(model.predict(flat), expected.predict(X))


def test_names_of_columns_are_kept(make_model, bars):
    X, y = bars
    frame = pd.DataFrame(X.reshape(len(X), -1)).add_prefix("pixel_")
    model = make_model(image_shape=(16, 16, 3)).fit(frame, y)
    assert model.feature_names_in_.tolist() == frame.columns.tolist()


def test_any_classifier_of_flat_images_will_do(make_model, bars):
    X, y = bars
    flat = X.reshape(len(X), -1)
    distiller = make_model(image_shape=(16, 16, 3)).distiller
    model = DistilledClassifier(distiller, Perceptron()).fit(flat, y)
    assert model.predict(flat).shape == (len(X),)
    # As scikit-learn has it: there only where the classifier has it.
    assert not hasattr(model, "predict_proba")
    assert hasattr(make_model(), "predict_proba")


def test_methods_are_those_of_the_classifier_that_will_be_trained(bars):
    """Before the fit, too: scikit-learn asks, and takes the first that is there."""
    X, y = bars
    model = DistilledClassifier(KIPDistiller(max_iter=1, random_state=0))
    assert not hasattr(model, "predict_proba")
    assert hasattr(model, "decision_function")
    calibrated = CalibratedClassifierCV(model, cv=2, ensemble=False).fit(X, y)
    assert calibrated.predict_proba(X).shape == (len(X), 3)
    own = DistilledClassifier(RandomSubset(estimator=Perceptron()))
    assert not hasattr(own, "predict_proba")
    assert hasattr(own, "decision_function")
    assert hasattr(DistilledClassifier(RandomSubset()), "predict_proba")
    assert hasattr(DistilledClassifier(), "predict_proba")


def test_parameters_of_nothing():
    model = DistilledClassifier()
    with pytest.raises(ValueError, match=r"`distiller` must be .* 'ipc' .* it is None"):
        model.set_params(distiller__ipc=2)
    with pytest.raises(ValueError, match=r"`buffer` must be .* it is 'teachers'"):
        STMDistiller(buffer="teachers").set_params(buffer__n_epochs=2)
    with pytest.raises(ValueError, match="Invalid parameter 'ipcs'"):
        model.set_params(ipcs=2)
    model.set_params(distiller=KIPDistiller(), distiller__ipc=2)
    assert model.distiller.ipc == 2


def test_decision_function_is_that_of_the_classifier(make_model, bars):
    X, y = bars
    assert not hasattr(make_model(), "decision_function")
    model = DistilledClassifier(KIPDistiller(max_iter=1, random_state=0)).fit(X, y)
    expected = model.estimator_.decision_function(X)
    assert np.array_equal(model.decision_function(X), expected)
    flat = X.reshape(len(X), -1)
    model = DistilledClassifier(
        KIPDistiller(max_iter=1, random_state=0), SVC(), image_shape=X.shape[1:]
    )
    is_first = y == y[0]
    scores = cross_val_score(model, flat, is_first, cv=2, scoring="roc_auc")
    assert np.isfinite(scores).all()


def test_pipeline(make_model, bars):
    X, y = bars
    model = make_pipeline(ChannelScaler(), make_model()).fit(X, y)
    assert 0 <= model.score(X, y) <= 1
    scaled = ChannelScaler().fit_transform(X)
    assert np.array_equal(model.predict(X), make_model().fit(scaled, y).predict(scaled))


def test_cross_validation(make_model, bars):
    X, y = bars
    model = make_pipeline(ChannelScaler(), make_model())
    scores = cross_val_score(model, X, y, cv=2, error_score="raise")
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()


def test_parameters_can_be_searched(make_model, bars):
    search = GridSearchCV(
        make_model(), {"distiller__ipc": [1, 2]}, cv=2, error_score="raise"
    ).fit(*bars)
    best = search.best_estimator_
    n_images = len(best.distiller_.synthetic_)
    assert n_images == 3 * search.best_params_["distiller__ipc"]


def test_clone_and_pickle(make_model, bars):
    model = make_model().fit(*bars)
    with pytest.raises(NotFittedError):
        clone(model).predict(bars[0])
    found = pickle.loads(pickle.dumps(model))
    assert np.array_equal(found.predict(bars[0]), model.predict(bars[0]))


def test_teachers_of_a_fold_never_see_the_other(make_model, teachers, bars):
    """A fitted buffer is cloned with the distiller: trained anew on what fit gets."""
    X, y = bars
    model = make_model(buffer=teachers).fit(X[:18], y[:18])
    assert model.distiller_.buffer_ is not teachers
    assert model.distiller_.buffer_.fingerprint_ != teachers.fingerprint_


def test_unfitted_and_wrong_parameters(make_model, bars):
    with pytest.raises(NotFittedError):
        make_model().predict(bars[0])
    with pytest.raises(ValueError, match=r"'distiller' parameter"):
        DistilledClassifier(DummyClassifier(), DummyClassifier()).fit(*bars)
    with pytest.raises(ValueError, match=r"'estimator' parameter"):
        DistilledClassifier(make_model().distiller, ChannelScaler()).fit(*bars)


def test_learned_labels_are_what_the_network_is_trained_on(make_model, bars):
    X, y = bars
    model = make_model()
    model.set_params(distiller__labels="learned", distiller__label_lr=1.0)
    model.fit(X, y)
    synthetic = model.distiller_.synthetic_
    expected = clone(model.estimator).fit_probabilities(
        synthetic.X, synthetic.probabilities, model.classes_
    )
    assert np.array_equal(model.predict_proba(X), expected.predict_proba(X))
    # Other classifiers are given the classes.
    model = make_pipeline(DistilledClassifier(model.distiller, DummyClassifier()))
    assert model.fit(X, y).predict(X).shape == y.shape


def test_without_arguments(bars):
    """What is not given is the distiller's: its own network, or that of its score."""
    X, y = bars
    assert isinstance(DistilledClassifier()._chosen_distiller(), STMDistiller)
    assert hasattr(DistilledClassifier(), "predict_proba")
    network = ConvNetClassifier(width=4, depth=1, max_iter=1, random_state=0)
    model = DistilledClassifier(RandomSubset(estimator=network, random_state=0))
    model.fit(X, y)
    assert isinstance(model.estimator_, ConvNetClassifier)
    assert model.estimator_.width == 4
    assert model.score(X, y) == model.distiller_.score(X, y)


def test_classifiers_of_tables_accept_both_forms_of_images(bars):
    X, y = bars
    flat = X.reshape(len(X), -1)
    subset = RandomSubset(random_state=0, image_shape=X.shape[1:])
    found = [DistilledClassifier(subset, SVC()).fit(given, y) for given in (X, flat)]
    for model in found:
        for images in (X, flat):
            assert np.array_equal(model.predict(images), found[0].predict(X))
        assert model.score(X, y) == model.score(flat, y)
        assert model.decision_function(X).shape == (len(X), len(model.classes_))


def test_the_shape_of_images_is_handed_on(bars):
    X, y = bars
    flat = X.reshape(len(X), -1)
    shape = X.shape[1:]
    network = ConvNetClassifier(width=4, depth=1, max_iter=2, random_state=0)
    expected = DistilledClassifier(RandomSubset(random_state=0), network).fit(X, y)
    for model in (
        DistilledClassifier(RandomSubset(random_state=0), network, image_shape=shape),
        DistilledClassifier(
            RandomSubset(random_state=0, image_shape=shape),
            make_pipeline(ChannelScaler(), network),
        ),
        DistilledClassifier(
            RandomSubset(random_state=0), network, image_shape=list(shape)
        ),
    ):
        given = repr(model)
        model.fit(flat, y)
        assert model.distiller_.image_shape_ == shape
        last = model.estimator_
        last = last[-1] if hasattr(last, "steps") else last
        assert last.image_shape_ == shape
        assert repr(model) == given
        if last is model.estimator_:
            assert np.array_equal(model.predict_proba(flat), expected.predict_proba(X))
    other = RandomSubset(image_shape=(1, shape[0] * shape[1], shape[2]))
    wrong = DistilledClassifier(other, network, image_shape=shape)
    with pytest.raises(ValueError, match=r"`image_shape`=.* must be that of `distil"):
        wrong.fit(flat, y)
    wrong = DistilledClassifier(RandomSubset(), network, image_shape=(3, 16, 16))
    with pytest.raises(ValueError, match="PyTorch's order"):
        wrong.fit(flat, y)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": LinearRegression()}, "must be a classifier"),
        ({"estimator": ConvNetClassifier(learning_rate=-1)}, "learning_rate"),
        ({"estimator": ConvNetClassifier(image_shape=(8, 8, 3))}, "image_shape"),
        ({"estimator": NetworkClassifier(lambda shape, n: nn.Linear(3, n))}, "accept"),
        ({"estimator": SVC}, "a class"),
        ({"distiller__estimator": LinearRegression()}, "must be a classifier"),
        ({"distiller__estimator": ConvNetClassifier(width=0)}, "width"),
    ],
)
@pytest.mark.parametrize("kind", ["images", "rows", "list"])
def test_classifiers_are_checked_before_the_distillation(bars, changes, message, kind):
    X, y = bars
    model = DistilledClassifier(KIPDistiller(max_iter=1), image_shape=X.shape[1:])
    model.set_params(**changes)
    given = {"images": X, "rows": X.reshape(len(X), -1), "list": list(X)}[kind]
    with pytest.raises(ValueError, match=message):
        model.fit(given, y)
    assert not hasattr(getattr(model, "distiller_", None), "synthetic_")


@pytest.mark.parametrize("distiller", [RandomSubset(), KIPDistiller(max_iter=1)])
def test_distillers_check_what_scores_them_before_the_work(bars, distiller):
    with pytest.raises(ValueError, match="must be a classifier"):
        clone(distiller).set_params(estimator=LinearRegression()).fit(*bars)


def test_weights_of_a_score_are_routed_through_a_pipeline(bars):
    X, y = bars
    with config_context(enable_metadata_routing=True):
        distiller = RandomSubset(random_state=0).set_fit_request(sample_weight=True)
        network = ConvNetClassifier(width=4, depth=1, max_iter=1, random_state=0)
        model = DistilledClassifier(distiller, network)
        model.set_score_request(sample_weight=True)
        pipeline = make_pipeline(ChannelScaler(), model)
        weight = np.where(y == 0, 2.0, 1.0)
        pipeline.fit(X, y, sample_weight=weight)
        found = pipeline.score(X, y, sample_weight=weight)
        right = pipeline.predict(X) == y
        assert found == pytest.approx(np.average(right, weights=weight))
