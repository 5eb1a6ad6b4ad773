"""What cannot be scored is refused before the first training."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, balanced_accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    NetworkClassifier,
    NeuralKernelClassifier,
    RandomSubset,
    SyntheticSet,
    evaluate_synthetic,
)
from skdistill.metrics import (
    cross_architecture,
    expected_calibration_error,
    export_ddranking,
    load_ddranking,
)
from skdistill.neural_network._any_classifier import takes_tables

NAMES = np.array(["round", "edge", "spiral"])


@pytest.fixture(scope="module")
def data():
    """Images of three classes that are easily told apart, in a unit of about 1."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = rng.normal(size=(90, 4, 4, 2)).astype(np.float32)
    X = (X + np.roll(X, 1, axis=2)) / 2
    X[..., 0] += 3 * np.eye(3)[y][:, :, None].repeat(4, axis=2)[:, [0, 1, 2, 0]]
    return X, y


@pytest.fixture
def trained(monkeypatch):
    """A list that gets an entry for each network that is trained."""
    found = []
    train = ConvNetClassifier._train
    monkeypatch.setattr(
        ConvNetClassifier,
        "_train",
        lambda self, data: found.append(1) or train(self, data),
    )
    return found


def network(**parameters):
    defaults = {"width": 4, "depth": 1, "max_iter": 2, "device": "cpu"}
    return ConvNetClassifier(**defaults | parameters)


# Labels


def ways_to_score(X, y):
    """Return a function of test images and labels for each way to score a set."""
    subset = RandomSubset(ipc=3, random_state=0, estimator=network()).fit(X, y)
    distilled = subset.synthetic_
    options = {"n_repeats": 1, "random_state": 0}
    model = DistilledClassifier(RandomSubset(ipc=3), network()).fit(X, y)
    fitted = network().fit(X, y)

    def honest(images, labels):
        evaluate_synthetic(
            distilled,
            # Other images than those of validation, of the same kind.
            X[:, ::-1],
            y,
            estimator=network(),
            protocol="honest",
            X_validation=images,
            y_validation=labels,
            param_grid={"learning_rate": [0.01]},
            **options,
        )

    return {
        "evaluate_synthetic": lambda images, labels: evaluate_synthetic(
            distilled, images, labels, estimator=network(), **options
        ),
        "a pair": lambda images, labels: evaluate_synthetic(
            tuple(distilled), images, labels, estimator=network(), **options
        ),
        "validation images": honest,
        "cross_architecture": lambda images, labels: cross_architecture(
            distilled, images, labels, estimators={"net": network()}, **options
        ),
        "distiller": subset.score,
        "distiller, flattened": lambda images, labels: (
            RandomSubset(
                ipc=3, image_shape=(4, 4, 2), estimator=network(image_shape=(4, 4, 2))
            )
            .fit(X.reshape(len(X), -1), y)
            .score(images.reshape(len(images), -1), labels)
        ),
        "DistilledClassifier": model.score,
        "ConvNetClassifier": fitted.score,
        "NetworkClassifier": NetworkClassifier("mlp", max_iter=1).fit(X, y).score,
        "NeuralKernelClassifier": NeuralKernelClassifier().fit(X, y).score,
    }


WAYS = [
    "evaluate_synthetic",
    "a pair",
    "validation images",
    "cross_architecture",
    "distiller",
    "distiller, flattened",
    "DistilledClassifier",
    "ConvNetClassifier",
    "NetworkClassifier",
    "NeuralKernelClassifier",
]
OF_SETS = WAYS[:-3]


@pytest.fixture(scope="module")
def ways(data):
    X, y = data
    found = ways_to_score(X, NAMES[y])
    assert list(found) == WAYS
    return found


@pytest.mark.parametrize("way", WAYS)
def test_unknown_labels_at_every_way_to_score(way, ways, data):
    X, names = data[0], NAMES[data[1]]
    score = ways[way]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(X, names)
    for wrong, message in [
        (np.char.capitalize(names), r"got \['Edge', .*differ only in capitalization"),
        (np.char.add(names, " "), "differ only in capitalization"),
        (np.full(90, "merger"), r"\['edge', 'round', 'spiral'\]; got \['merger'\]$"),
        (data[1], "holds numbers, .*0, 1, 2.*are strings, .*'edge'"),
        (np.eye(3)[data[1]], r"got shape \(90, 3\); convert one-hot rows or prob"),
        (np.where(data[1] == 2, np.nan, data[1]), "NaN at position 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            score(X, wrong)
    some = np.where(np.arange(90) < 20, "merger", names)
    with pytest.warns(UserWarning, match=r"wrong: \['merger'\] \(20 of 90") as caught:
        score(X, some)
    assert [warning.filename for warning in caught] == [__file__]


def test_classes_counted_from_one_are_told(data):
    X, y = data
    with pytest.warns(
        UserWarning, match=r"wrong: \[3\] \(30 .*the classes \+1: counting"
    ):
        evaluate_synthetic((X, y), X, y + 1, estimator=SVC(), n_repeats=1)


def test_labels_of_a_calibration_error():
    y_proba = [[0.9, 0.1], [0.2, 0.8]]
    with pytest.raises(ValueError, match=r"classes of `labels`, \['a', 'b'\]; got"):
        expected_calibration_error(["A", "B"], y_proba, labels=["a", "b"])
    with pytest.warns(
        UserWarning, match=r"not among those of `labels`.*\['c'\] \(1 of 2"
    ):
        expected_calibration_error(["a", "c"], y_proba, labels=["a", "b"])
    with pytest.raises(ValueError, match="`labels` must hold each class once, in sort"):
        expected_calibration_error(["a", "b"], y_proba, labels=["b", "a"])
    with pytest.raises(ValueError, match="`y_true` must hold one label for each"):
        expected_calibration_error(np.eye(2), y_proba)


# Pixel spaces


@pytest.mark.parametrize("way", OF_SETS)
@pytest.mark.parametrize("n_images", [90, 19, 5])
def test_pixel_space_at_every_way_to_score(way, n_images, ways, data):
    X, names = data[0][:n_images], NAMES[data[1]][:n_images]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ways[way](X, names)
    with pytest.warns(UserWarning, match="a different pixel space") as caught:
        ways[way](255 * X, names)
    assert [warning.filename for warning in caught] == [__file__]


def test_pixel_space_of_predictions_and_files(data, tmp_path):
    X, y = data
    model = DistilledClassifier(RandomSubset(ipc=3), network()).fit(X, y)
    for method in (model.predict, model.predict_proba):
        with pytest.warns(UserWarning, match="`X` is in a different pixel space"):
            method(255 * X)
    export_ddranking(RandomSubset(ipc=3).fit(X, y).synthetic_, tmp_path)
    loaded = load_ddranking(tmp_path)
    with pytest.warns(UserWarning, match="`X_test` is in a different pixel space"):
        evaluate_synthetic(loaded, 255 * X, y, estimator=SVC(), n_repeats=1)


def test_differences_of_pixel_spaces_are_told_in_readable_numbers(data):
    X = ChannelScaler().fit_transform(data[0])
    distilled = RandomSubset(ipc=3).fit(X, data[1]).synthetic_
    with pytest.warns(UserWarning, match="a different pixel space") as caught:
        evaluate_synthetic(distilled, X + 2.13, data[1], estimator=SVC(), n_repeats=1)
    [warning] = caught
    assert "the mean of channel 0 is 0.00 there, 2.13 here" in str(warning.message)


# Test data, metrics, classifiers


@pytest.mark.parametrize("protocol", ["paper", "honest"])
@pytest.mark.parametrize("function", [evaluate_synthetic, cross_architecture])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, y[:-1]), "same length.*90 images and 89 labels"),
        (lambda X, y: (X[:0], y[:0]), "at least 1"),
        (lambda X, y: (np.where(X.max() == X, np.nan, X), y), "NaN: in 1 of 90"),
        (lambda X, y: (X.transpose(0, 3, 1, 2), y), r"transpose\(0, 2, 3, 1"),
        (lambda X, y: (X[0], y[:1]), "must"),
        (lambda X, y: (X[:, :3], y), r"\(4, 4, 2\); got \(3, 4, 2\)"),
        (lambda X, y: (X.reshape(90, -1)[:, :5], y), "5"),
        (lambda X, y: (np.ma.masked_greater(X, 0), y), "mask"),
        (lambda X, y: (X, list("abc") * 30), "holds strings"),
    ],
)
def test_test_data_are_checked_before_the_training(
    change, message, function, protocol, data, trained
):
    X, y = data
    name = "estimators" if function is cross_architecture else "estimator"
    given = {"net": network()} if function is cross_architecture else network()
    for good, bad in [("test", "validation")] * (protocol == "honest") + [
        ("validation", "test")
    ]:
        images = {f"X_{good}": X, f"y_{good}": y}
        images |= dict(zip((f"X_{bad}", f"y_{bad}"), change(X, y), strict=True))
        if protocol == "paper":
            images = {k: v for k, v in images.items() if "test" in k}
        with pytest.raises(ValueError, match=f"(?s)(X|y)_{bad}.*{message}"):
            function((X[:9], y[:9]), protocol=protocol, **images, **{name: given})
    assert not trained


@pytest.mark.parametrize(
    ("scoring", "message"),
    [
        ("roc_auc_ovr", r"cannot be computed for `y_test`.*no image of \[2\]"),
        ("neg_log_loss", r"cannot be computed for `y_test`.*no image of \[2\]"),
        ("f1", "cannot be computed"),
        (make_scorer(lambda y, p: [0.5]), "must be one finite number"),
        (make_scorer(lambda y, p: y / 0), "cannot be computed|must be one"),
        (lambda y, p: 0.5, r"called as scorer\(classifier, X, y\).*make_scorer"),
        (expected_calibration_error, "called as scorer"),
        (accuracy_score, "make_scorer"),
        ("accuracy_of", "scoring"),
    ],
)
def test_metrics_are_tried_before_the_training(scoring, message, data, trained):
    X, y = data
    some = y != 2
    for function, name in [
        (evaluate_synthetic, {"estimator": network()}),
        (cross_architecture, {"estimators": {"net": network()}}),
    ]:
        with pytest.raises(ValueError, match=f"(?s){message}"):
            function((X[:9], y[:9]), X[some], y[some], scoring=scoring, **name)
    assert not trained


def test_metrics_that_can_be_computed(data):
    X, y = data
    for scoring in ("roc_auc_ovr", "neg_log_loss", "f1_macro", "balanced_accuracy"):
        found = evaluate_synthetic(
            (X[:30], y[:30]),
            X,
            y,
            scoring=scoring,
            estimator=LogisticRegression() if scoring != "f1_macro" else SVC(),
            n_repeats=1,
            random_state=0,
        )
        assert np.isfinite(found.mean)
    with pytest.raises(ValueError, match="SVC has none of the"):
        evaluate_synthetic((X, y), X, y, scoring="roc_auc_ovr", estimator=SVC())


class Answers(ClassifierMixin, BaseEstimator):
    """Recognizes all classes but one, or names the one that is most frequent."""

    def __init__(self, kind="all"):
        self.kind = kind

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        if self.kind == "frequent":
            return np.zeros(len(X), dtype=np.int64)
        found = X[:, 0, 0, 0].astype(np.int64)
        return np.where(found == 0, 1, found)


@pytest.mark.parametrize(
    ("scoring", "kind", "expected"),
    [
        (None, "frequent", 0.8),
        ("balanced_accuracy", "all", 2 / 3),
        # Whether more of it is better nobody knows.
        (make_scorer(balanced_accuracy_score), "frequent", 1 / 3),
    ],
)
def test_metrics_with_a_name_choose(scoring, kind, expected):
    y = np.repeat([0, 1, 2], (40, 5, 5))
    X = y[:, None, None, None] + np.linspace(0, 0.5, 8).reshape(2, 2, 2)
    found = evaluate_synthetic(
        (X[::5], y[::5]), X, y, estimator=Answers(), scoring=scoring, n_repeats=1,
        protocol="honest", X_validation=X + 0.1, y_validation=y,
        param_grid={"kind": ["all", "frequent"]},
    )  # fmt: skip
    assert found.parameters == {"kind": kind}
    assert found.mean == pytest.approx(expected)


def test_metrics_are_tried_on_the_validation_labels(data):
    X, y = data
    some = y != 2
    with pytest.raises(ValueError, match=r"for `y_validation`.*no image of \[2\]"):
        evaluate_synthetic(
            (X[:9], y[:9]), X[9:], y[9:], scoring="neg_log_loss", protocol="honest",
            X_validation=X[some] + 1, y_validation=y[some],
            estimator=LogisticRegression(), param_grid={"C": [0.1, 1.0]},
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*probability.*:FutureWarning")
@pytest.mark.parametrize(
    ("estimator", "options", "message"),
    [
        (Ridge(), {}, "must be a classifier .*regressor"),
        (ChannelScaler(), {}, "must be a classifier .*transformer|no classifier"),
        (RandomSubset(), {}, "must be a classifier"),
        (network(batch_size=0), {}, "'batch_size' parameter"),
        (make_pipeline(ChannelScaler(), network(momentum=2)), {}, "'momentum'"),
        (
            network(),
            {"param_grid": {"learning_rate": [0.1, "high"]}},
            "'learning_rate'",
        ),
        (network(), {"param_grid": {"rate": [0.1, 0.2]}}, "Invalid parameter 'rate'"),
        (
            NetworkClassifier(lambda shape, n: nn.Linear(3, n)),
            {},
            "`architecture` must accept images",
        ),
        (
            make_pipeline(
                ChannelScaler(),
                NetworkClassifier(
                    lambda shape, n: nn.Sequential(nn.Flatten(), nn.Linear(32, n + 1))
                ),
            ),
            {},
            r"\(n_images, n_classes\) = \(2, 3\); got \(2, 4\)",
        ),
    ],
)
def test_classifiers_are_checked_before_the_training(
    estimator, options, message, data, trained
):
    X, y = data
    if options:
        options = options | {"protocol": "honest", "X_validation": X, "y_validation": y}
    with pytest.raises(ValueError, match=f"(?s){message}"):
        evaluate_synthetic((X[:9], y[:9]), X, y, estimator=estimator, **options)
    if not options:
        with pytest.raises(ValueError, match=f"(?s){message}"):
            cross_architecture(
                (X[:9], y[:9]), X, y, estimators={"a": network(), "b": estimator}
            )
    assert not trained


def test_a_set_that_was_changed_is_checked_anew(data, trained):
    X, y = data
    distilled = SyntheticSet(X[:9].copy(), y[:9])
    distilled.X[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"X contains NaN|X must be finite"):
        evaluate_synthetic(distilled, X, y, estimator=network())
    assert not trained


def test_a_set_without_images_is_told(data, trained):
    X, y = data
    empty = SyntheticSet(X[:0], y[:0])
    with pytest.raises(ValueError, match="distilled set must hold at least one image"):
        evaluate_synthetic(empty, X, y, estimator=network())
    with pytest.raises(ValueError, match="distilled set must hold at least one image"):
        empty.classifier(network())
    assert not trained


# Classifiers of tables


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(n_estimators=10),
        SVC(),
        LogisticRegression(),
        HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2),
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline("passthrough", SVC()),
        make_pipeline(ChannelScaler(), network()),
        GridSearchCV(SVC(), {"C": [0.1, 1]}, cv=2),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_any_classifier_scores_a_set(estimator, data):
    X, y = data
    distilled = RandomSubset(ipc=8, random_state=0).fit(X[:60], y[:60]).synthetic_
    options = {"n_repeats": 1, "random_state": 0}
    found = evaluate_synthetic(
        distilled, X[60:], y[60:], estimator=estimator, **options
    )
    crossed = cross_architecture(
        distilled, X[60:], y[60:], estimators={"it": estimator}, **options
    )
    if takes_tables(estimator):
        assert found.mean > 0.8
        assert crossed["score"].mean() > 0.8
        flat = evaluate_synthetic(
            (distilled.X.reshape(24, -1), distilled.y),
            pd.DataFrame(X[60:].reshape(30, -1)),
            y[60:],
            estimator=estimator,
            **options,
        )
        np.testing.assert_array_equal(flat.scores, found.scores)
        model = DistilledClassifier(RandomSubset(ipc=8, random_state=0), estimator)
        assert model.fit(X[:60], y[:60]).score(X[60:], y[60:]) > 0.8
        distiller = RandomSubset(ipc=8, random_state=0, estimator=estimator)
        assert distiller.fit(X[:60], y[:60]).score(X[60:], y[60:]) > 0.8


def test_flattened_pairs_are_read_by_the_network(data):
    X, y = data
    options = {"n_repeats": 1, "random_state": 0}
    expected = evaluate_synthetic((X, y), X, y, estimator=network(), **options)
    found = evaluate_synthetic(
        (X.reshape(90, -1), y),
        X,
        y,
        estimator=network(image_shape=(4, 4, 2)),
        **options,
    )
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_soft_labels_that_cannot_be_used_are_told(data):
    X, y = data
    soft = SyntheticSet(X, y, probabilities=np.full((90, 3), 1 / 3))
    with pytest.warns(UserWarning, match="SVC does not accept soft labels") as caught:
        found = evaluate_synthetic(soft, X, y, estimator=SVC(), n_repeats=2)
    assert [warning.filename for warning in caught] == [__file__]
    assert found.mean > 0.8


# Regression targets

QUICK = {"max_iter": 60, "learning_rate": 0.03, "augmentation": None}


@pytest.fixture(scope="module")
def regressed(data):
    """Targets that give every image another class than its label, and not by little."""
    X, y = data
    codes = np.unique(y, return_inverse=True)[1]
    targets = 3 * np.eye(3)[(codes + 1) % 3] - 1
    return SyntheticSet(X, y, targets=targets)


@pytest.mark.filterwarnings("ignore:90 of 90 distilled images have `targets`")
@pytest.mark.parametrize("at_once", [False, True])
def test_networks_are_fitted_to_targets(data, regressed, at_once):
    """Which shows in that they predict the class that the targets say."""
    X, y = data
    options = {"n_repeats": 2, "at_once": at_once, "random_state": 0}
    names = np.unique(y)
    turned = names[(np.searchsorted(names, y) + 1) % 3]
    found = evaluate_synthetic(
        regressed, X, turned, estimator=network(**QUICK, random_state=0), **options
    )
    assert found.mean > 0.9
    one = network(**QUICK, random_state=0).fit_targets(X, regressed.targets, names)
    assert np.mean(one.predict(X) == turned) > 0.95


@pytest.mark.filterwarnings("ignore:90 of 90 distilled images have `targets`")
def test_every_network_is_fitted_to_targets(data, regressed):
    X, y = data
    names = np.unique(y)
    turned = names[(np.searchsorted(names, y) + 1) % 3]
    estimators = {
        "ConvNet": network(**QUICK),
        "MLP": NetworkClassifier("mlp", width_multiplier=0.1, device="cpu", **QUICK),
        "kernels": NeuralKernelClassifier(device="cpu"),
    }
    table = cross_architecture(
        regressed, X, turned, estimators=estimators, n_repeats=1, random_state=0
    )
    assert (table["score"] > 0.9).all(), table


def test_targets_in_another_order_are_told(data, regressed):
    with pytest.warns(UserWarning, match="90 of 90 .*`targets`.*sorted order"):
        evaluate_synthetic(regressed, *data, estimator=network(), n_repeats=1)


def test_targets_that_cannot_be_used_are_told(data):
    X, y = data
    regressed = SyntheticSet(X, y, targets=np.eye(3)[np.searchsorted(np.unique(y), y)])
    for score in (
        lambda: evaluate_synthetic(regressed, X, y, estimator=SVC(), n_repeats=2).mean,
        lambda: cross_architecture(
            regressed, X, y, estimators={"SVC": SVC()}, n_repeats=1
        )["score"].mean(),
    ):
        with pytest.warns(
            UserWarning, match="SVC does not accept regression targets"
        ) as told:
            assert score() > 0.8
        assert [warning.filename for warning in told] == [__file__]


def test_a_set_says_what_it_is_scored_by(data):
    X, y = data
    entry = {"name": "NeuralKernelClassifier", "kernel": "linear", "reg": 0.1}
    said = SyntheticSet(X, y, 0.02, {"default_estimator": entry})
    expected = NeuralKernelClassifier(kernel="linear", reg=0.1, device="cpu").fit(X, y)
    found = evaluate_synthetic(said, X, y, n_repeats=2)
    np.testing.assert_array_equal(found.scores, [expected.score(X, y)] * 2)
    said.metadata = {"default_estimator": "some network"}
    with pytest.raises(ValueError, match=r"`metadata`\['default_estimator'\].*'some"):
        evaluate_synthetic(said, X, y)
    # Who names an estimator need not care.
    evaluate_synthetic(said, X, y, estimator=SVC(), n_repeats=1)
