import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skdistill import ConvNetClassifier, NetworkClassifier
from skdistill.neural_network._batched import can_fit_together, fit_together


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(22) % 3
    X = rng.normal(size=(22, 8, 8, 2))
    X[np.arange(22), y] += 1
    return X, np.array(["a", "b", "c"])[y]


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network(**parameters):
    defaults = {
        "width": 4,
        "depth": 2,
        "max_iter": 5,
        "learning_rate": 0.05,
        "device": "cpu",
    }
    return ConvNetClassifier(**(defaults | parameters))


def many(one, n_networks=3):
    return [clone(one).set_params(random_state=seed) for seed in range(n_networks)]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"batch_size": 5},
        {"augmentation": None, "momentum": 0.0, "weight_decay": 0.0},
        {"augmentation": ["flip"], "class_weight": {"a": 1, "b": 2, "c": 3}},
        {"normalization": "layer", "pooling": "max"},
        {"normalization": "group", "pooling": "none"},
        {"normalization": "none", "max_iter": 4},
        {"loss": "squared", "batch_size": 5},
        {"loss": "squared", "pooling": "max", "optimizer": "adam"},
        {"optimizer": "adam", "batch_size": 5, "momentum": 0.5, "weight_decay": 0.1},
    ],
)
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.filterwarnings("ignore:`class_weight` is left out")
def test_the_same_as_one_after_the_other(data, parameters, soft, double):
    X, y = data
    probabilities = None
    if soft:
        probabilities = np.random.default_rng(1).dirichlet([1, 1, 1], size=len(y))
    together = many(network(**parameters))
    assert fit_together(together, X, y, probabilities).all()
    for fitted in together:
        alone = clone(fitted)
        if soft:
            alone.fit_probabilities(X, probabilities, np.unique(y))
        else:
            alone.fit(X, y)
        np.testing.assert_allclose(fitted.parameters_, alone.parameters_, atol=1e-9)
        # Sums of losses are float32 in one of them.
        np.testing.assert_allclose(fitted.loss_curve_, alone.loss_curve_, rtol=1e-5)
        np.testing.assert_allclose(
            fitted.predict_proba(X), alone.predict_proba(X), atol=1e-8
        )
        assert fitted.predict(X).tolist() == alone.predict(X).tolist()
        assert (fitted.n_iter_, fitted.n_features_in_) == (alone.n_iter_, 128)
    assert (together[0].parameters_ != together[1].parameters_).any()


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_the_same_on_targets(data, double, pooling):
    X, y = data
    targets = np.random.default_rng(1).normal(size=(len(y), 3))
    together = many(network(pooling=pooling, optimizer="adam", learning_rate=0.01))
    assert fit_together(together, X, y, targets=targets).all()
    for fitted in together:
        alone = clone(fitted).fit_targets(X, targets, np.unique(y))
        np.testing.assert_allclose(fitted.parameters_, alone.parameters_, atol=1e-9)
        np.testing.assert_allclose(
            fitted.predict_proba(X), alone.predict_proba(X), atol=1e-8
        )


def test_weights_of_classes_in_the_squared_loss_are_for_one_network(data):
    weighted = network(class_weight="balanced")
    assert can_fit_together(weighted)
    assert not can_fit_together(weighted.set_params(loss="squared"))


@pytest.mark.filterwarnings("ignore:(overflow|invalid value):RuntimeWarning")
def test_who_diverges_does_not_harm_the_others(data):
    X, y = data
    # So high a rate is the end of some, whose start decides.
    rates = [0.05, 1e30]
    for rate in rates:
        finite = fit_together(many(network(learning_rate=rate)), X, y)
        assert finite.all() == (rate < 1)


def test_what_can_be_trained_at_once():
    assert can_fit_together(ConvNetClassifier())
    assert not can_fit_together(ConvNetClassifier(normalization="batch"))
    assert not can_fit_together(NetworkClassifier("mlp"))


def test_parameters_are_validated(data):
    with pytest.raises(ValueError, match="'width' parameter"):
        fit_together(many(network(width=0)), *data)


def test_nobodys_generator_is_moved(data):
    state = torch.get_rng_state()
    fit_together(many(network(max_iter=1)), *data)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
def test_on_a_gpu(data):
    X, y = data
    one = network(width=8, max_iter=30, augmentation=None, device="cuda")
    together = many(one, 5)
    assert fit_together(together, X, y).all()
    for fitted in together:
        alone = clone(fitted).fit(X, y)
        assert (fitted.predict(X) == alone.predict(X)).mean() > 0.9


@pytest.mark.filterwarnings("ignore:(overflow|invalid value):RuntimeWarning")
def test_large_weights_after_the_last_step_are_a_divergence(data):
    X, y = data
    far = network(learning_rate=1e12, max_iter=1, batch_size=len(X))
    assert not fit_together(many(far), X, y).any()
    with pytest.raises(ValueError, match=r"diverged in epoch 1 \(outputs that are not"):
        far.fit(X, y)
    with pytest.raises(NotFittedError):
        far.predict(X)
