import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from skdistill import (
    ConvNetClassifier,
    NetworkClassifier,
    RandomSubset,
    SyntheticSet,
)
from skdistill.metrics import (
    compare_distillers,
    cross_architecture,
    evaluate_synthetic,
    standard_estimators,
)
from skdistill.metrics._protocol import short_names
from skdistill.neural_network._any_classifier import flatten_images


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(48) % 2
    X = rng.normal(0, 0.3, size=(48, 8, 8, 1)).astype(np.float32)
    X[y == 1, :, ::2] += 1
    return X[:20], y[:20], X[20:], y[20:]


def test_standard_estimators_learn(data):
    X, y, X_test, y_test = data
    estimators = standard_estimators(
        width=8, max_iter=80, learning_rate=0.02, augmentation=None, device="cpu"
    )
    table = cross_architecture(
        SyntheticSet(X, y, step_size=123.0),
        X_test,
        y_test,
        estimators=estimators,
        n_repeats=1,
        random_state=0,
    )
    assert table["estimator"].tolist() == list(estimators)
    assert list(table.columns) == ["estimator", "repeat", "score"]
    scores = table.set_index("estimator")["score"]
    # At one rate for all, of so small networks: most learn, none breaks.
    assert (scores > 0.9).sum() >= 11
    assert scores[["ConvNet", "logistic regression", "random forest"]].min() > 0.9


def test_a_row_per_network_with_the_scores_of_evaluate_synthetic(data):
    X, y, X_test, y_test = data
    tree = make_pipeline(
        FunctionTransformer(flatten_images),
        DecisionTreeClassifier(max_features=1, max_depth=1),
    )
    network = ConvNetClassifier(width=2, depth=1, max_iter=3, device="cpu")
    options = {"n_repeats": 3, "random_state": 0}
    both = cross_architecture(
        (X, y), X_test, y_test, estimators={"tree": tree, "network": network}, **options
    )
    assert both["repeat"].tolist() == [0, 1, 2] * 2
    # One's scores do not depend on the others.
    alone = cross_architecture(
        (X, y), X_test, y_test, estimators={"network": network}, **options
    )
    scores = both[both["estimator"] == "network"]["score"]
    assert scores.tolist() == alone["score"].tolist()
    assert both[both["estimator"] == "tree"]["score"].nunique() > 1
    other = evaluate_synthetic((X, y), X_test, y_test, estimator=network, n_repeats=3)
    assert scores.mean() == pytest.approx(other.mean, abs=0.4)


class Rated(ClassifierMixin, BaseEstimator):
    def __init__(self, learning_rate=0.01):
        self.learning_rate = learning_rate

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def score(self, X, y):
        return self.learning_rate


def test_each_gets_the_rate_that_suits_it(data):
    X, y, X_test, y_test = data
    table = cross_architecture(
        (X, y),
        X_test,
        y_test,
        estimators={
            "alone": Rated(),
            "in a pipeline": make_pipeline("passthrough", Rated()),
            "tree": make_pipeline(
                FunctionTransformer(flatten_images), DecisionTreeClassifier()
            ),
        },
        protocol="honest",
        X_validation=X,
        y_validation=y,
        n_repeats=1,
    )
    assert table["learning_rate"].tolist()[:2] == [0.1, 0.1]
    assert table["learning_rate"].isna().tolist() == [False, False, True]


def test_wrong_options(data):
    X, y, X_test, y_test = data
    with pytest.raises(TypeError, match=r"unknown options \['estimator'\]"):
        cross_architecture((X, y), X_test, y_test, estimator=Rated())
    with pytest.raises(ValueError, match="`estimators` must hold at least one"):
        cross_architecture((X, y), X_test, y_test, estimators={})
    with pytest.raises(ValueError, match="'estimators' parameter"):
        cross_architecture((X, y), X_test, y_test, estimators=[Rated()])


MANY = KNeighborsClassifier(n_neighbors=1000)


def test_the_estimator_that_fails_is_named(data):
    with pytest.raises(ValueError, match="n_neighbors") as caught:
        cross_architecture(
            data[:2],
            *data[2:],
            estimators={"d": DummyClassifier(), "k": MANY},
            error_score="raise",
        )
    assert caught.value.__notes__ == ["In `estimators`['k']."]


@pytest.mark.parametrize("error_score", [np.nan, 0.0])
def test_scores_of_others_are_kept_if_one_fails(data, error_score):
    diverging = NetworkClassifier("mlp", learning_rate=1e30, max_iter=3, device="cpu")
    given = {"d": DummyClassifier(), "k": MANY, "m": diverging, "e": DummyClassifier()}
    with pytest.warns(FitFailedWarning, match="2 of 4 classifiers") as caught:
        table = cross_architecture(
            data[:2],
            *data[2:],
            estimators=given,
            error_score=error_score,
            n_repeats=2,
            random_state=0,
        )
    (message,) = [
        str(one.message) for one in caught if one.category is FitFailedWarning
    ]
    assert "- 'k': ValueError: Expected n_neighbors" in message
    assert "- 'm': TrainingDivergedError: 2 of 2 networks diverged" in message
    assert table["estimator"].tolist() == [name for name in given for _ in range(2)]
    assert table["repeat"].tolist() == [0, 1] * 4
    scores = table.set_index("estimator")["score"]
    np.testing.assert_array_equal(scores[["k", "m"]], np.full(4, error_score))
    alone = cross_architecture(
        data[:2],
        *data[2:],
        estimators={"e": DummyClassifier()},
        n_repeats=2,
        random_state=0,
    )
    assert scores["e"].tolist() == alone["score"].tolist()


def test_all_that_fail_are_an_error(data):
    with pytest.raises(ValueError, match=r"(?s)all 1 classifiers.*- .k.: Value"):
        cross_architecture(data[:2], *data[2:], estimators={"k": MANY})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_repeats": 0}, "'n_repeats' parameter of cross_architecture"),
        ({"protocol": "honest"}, "requires `X_validation`"),
        ({"scoring": "accurate"}, "accurate"),
        ({"error_score": "nan"}, "'error_score' parameter"),
    ],
)
def test_wrong_options_are_not_failures_of_classifiers(data, wrong, message):
    estimators = {"d": DummyClassifier(), "k": MANY}
    with pytest.raises(ValueError, match=message) as caught:
        cross_architecture(data[:2], *data[2:], estimators=estimators, **wrong)
    assert "failed" not in str(caught.value)


def test_columns_of_parameters():
    taken = ("estimator", "score")
    rates = {"a__learning_rate": 0.1, "b__learning_rate": 0.1}
    assert short_names(rates, taken) == {"learning_rate": 0.1}
    both = {"a__C": 1, "b__C": 2, "c__k": 3}
    assert short_names(both, taken) == {"a__C": 1, "b__C": 2, "k": 3}
    assert short_names({"estimator": 1}, taken) == {"parameter estimator": 1}


def test_tables_have_the_columns_of_the_training_images():
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 6))).add_prefix("p")
    y = np.arange(40) % 2
    turned = rows[rows.columns[::-1]]
    tree = DecisionTreeClassifier()
    pair = (rows[:20], y[:20])
    validation = {"protocol": "honest", "y_validation": y[:20]}
    training = {"baseline": "random", "y_train": y[:20]}
    evaluate_synthetic(pair, rows[20:], y[20:], estimator=tree, n_repeats=1)
    with pytest.raises(ValueError, match="X_test must have the same columns"):
        evaluate_synthetic(pair, turned[20:], y[20:], estimator=tree)
    with pytest.raises(ValueError, match="X_test must have the same columns"):
        cross_architecture(pair, turned[20:], y[20:], estimators={"tree": tree})
    with pytest.raises(ValueError, match="X_validation must have the same columns"):
        evaluate_synthetic(
            pair, rows[20:], y[20:], X_validation=turned[:20], **validation
        )
    with pytest.raises(ValueError, match="X_train must have the same columns"):
        evaluate_synthetic(pair, rows[20:], y[20:], X_train=turned[:20], **training)
    with pytest.raises(ValueError, match="X_test must have the same columns"):
        compare_distillers({"r": RandomSubset()}, *pair, turned[20:], y[20:])
