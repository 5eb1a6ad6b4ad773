import pickle
import random

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import skdistill.neural_network._base as network_module
from skdistill import ConvNetClassifier
from skdistill.neural_network import ConvNet


@pytest.fixture
def network():
    return ConvNetClassifier(
        width=4, depth=2, max_iter=6, learning_rate=0.05, device="cpu", random_state=0
    )


@pytest.fixture(scope="module")
def stripes():
    """Noisy images with horizontal and with vertical stripes."""
    rng = np.random.default_rng(0)
    y = np.arange(70) % 2
    X = rng.normal(0, 0.3, size=(70, 6, 8, 3))
    X[y == 0, ::2] += 1
    X[y == 1, :, ::2] += 1
    return X, np.array(["level", "upright"])[y]


@pytest.mark.parametrize("normalization", ["instance", "layer", "none"])
def test_learns(network, stripes, normalization):
    X, y = stripes
    network.set_params(normalization=normalization, max_iter=30, batch_size=20)
    network.fit(X[:40], y[:40])
    assert network.score(X[40:], y[40:]) > 0.9
    assert network.classes_.tolist() == ["level", "upright"]
    assert set(network.predict(X)) == {"level", "upright"}
    assert network.n_iter_ == len(network.loss_curve_) == 30
    assert network.image_shape_ == (6, 8, 3)
    assert network.n_features_in_ == 144


def test_probabilities(network, stripes):
    X, y = stripes
    probabilities = network.fit(X, y).predict_proba(X)
    assert probabilities.shape == (70, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    predicted = network.classes_[probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(network.predict(X), predicted)


def test_flattened_images_are_the_same(network, stripes):
    X, y = stripes
    flat = X.reshape(len(X), -1)
    expected = network.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(network.predict_proba(flat), expected)
    network = clone(network).set_params(image_shape=(6, 8, 3)).fit(flat, y)
    np.testing.assert_array_equal(network.predict_proba(flat), expected)
    np.testing.assert_array_equal(network.predict_proba(X), expected)


def test_predictions_do_not_depend_on_their_neighbors(network, stripes):
    X, y = stripes
    network.fit(X, y)
    expected = network.predict_proba(X)  # more than a batch of inference
    alone = np.concatenate([network.predict_proba(X[i : i + 1]) for i in range(70)])
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-6)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(
        network.predict_proba(X[order]), expected[order], rtol=0, atol=1e-6
    )


def test_inference_batches_are_all_of_one_size(network, stripes, monkeypatch):
    X, y = stripes
    network.fit(X, y)
    sizes = []
    forward = ConvNet.forward

    def record(self, images):
        sizes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(ConvNet, "forward", record)
    network.predict_proba(X)
    network.predict_proba(X[:1])
    assert len(sizes) == 3
    assert len(set(sizes)) == 1


def test_memory_and_type_of_the_images_do_not_matter(network, stripes, tmp_path):
    X, y = stripes
    X = np.clip(100 + 50 * X, 0, 255).astype(np.uint8)
    expected = network.fit(X, y).predict_proba(X)
    mapped = np.memmap(tmp_path / "X", dtype=np.float32, mode="w+", shape=X.shape)
    mapped[:] = X
    mapped.flush()
    read_only = np.memmap(tmp_path / "X", dtype=np.float32, mode="r", shape=X.shape)
    locked = X.astype(np.float32)
    locked.flags.writeable = False
    for other in (
        X.astype(np.float64),
        X.astype(np.float32),
        X.astype(">i4"),
        np.asfortranarray(X),
        np.repeat(X, 2, axis=0)[::2],
        read_only,
        locked,
        X.tolist(),
    ):
        before = np.array(other)
        fitted = clone(network).fit(other, y)
        np.testing.assert_array_equal(fitted.parameters_, network.parameters_)
        np.testing.assert_array_equal(fitted.predict_proba(other), expected)
        np.testing.assert_array_equal(np.array(other), before)


def test_labels_of_any_kind(network, stripes):
    X, y = stripes
    codes = (y == "upright").astype(int)
    probabilities = network.fit(X, y).predict_proba(X)
    for labels in (
        codes - 5,
        codes == 1,
        codes * 1.0,
        y.astype(object),
        pd.Series(y).astype("category"),
        y.tolist(),
    ):
        fitted = clone(network).fit(X, labels)
        np.testing.assert_array_equal(fitted.classes_, np.unique(np.asarray(labels)))
        np.testing.assert_array_equal(fitted.predict_proba(X), probabilities)


@pytest.mark.parametrize("shape", [(7, 8, 3), (6, 9, 3), (6, 8, 1), (8, 6, 3)])
def test_images_of_another_shape(network, stripes, shape):
    network.fit(*stripes)
    for method in (network.predict, network.predict_proba):
        with pytest.raises(ValueError, match=r"= \(6, 8, 3\); got \("):
            method(np.zeros((2, *shape)))


def test_the_error_names_the_bad_image(network, stripes):
    X, y = stripes
    network.fit(X, y)
    X = X.copy()
    X[13, 2, 1, 0] = np.nan
    for call in (network.predict, lambda X: network.fit(X, y)):
        with pytest.raises(
            ValueError, match=r"NaN: in 1 of 70 images \(positions 13\)"
        ):
            call(X)


def test_one_class(network, stripes):
    X, _ = stripes
    with pytest.raises(ValueError, match="two classes; got one class, 'only'"):
        network.fit(X, ["only"] * len(X))


def test_not_fitted(network, stripes):
    for method in (network.predict, network.predict_proba):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            method(stripes[0])


def test_unknown_family_and_device(network, stripes):
    with pytest.raises(ValueError, match=r"`augmentation` must be .* got 'fold'"):
        network.set_params(augmentation=["flip", "fold"]).fit(*stripes)
    with pytest.raises(ValueError, match=r"`device` must be .* got 'abacus'"):
        network.set_params(augmentation="dsa", device="abacus").fit(*stripes)


@pytest.mark.parametrize("max_iter", [1, 20])
def test_divergence_is_an_error(network, stripes, max_iter):
    network.set_params(
        learning_rate=1e38, momentum=0, max_iter=max_iter, normalization="none"
    )
    X, y = stripes
    with pytest.raises(
        ValueError, match=r"diverged in epoch \d.*`learning_rate`=1e\+38"
    ):
        network.fit(100 * X, y)


def test_networks_that_diverged_are_not_fitted(network, stripes):
    X, y = stripes
    network.set_params(learning_rate=1e38, momentum=0, max_iter=1, normalization="none")
    with pytest.raises(ValueError, match="diverged"):
        network.fit(100 * X, y)
    with pytest.raises(NotFittedError):
        network.predict(X)


def test_an_interrupt_keeps_the_weights(network, stripes, monkeypatch):
    train = network_module.train_epochs

    def interrupted(*args, **kwargs):
        for n_done, summary in enumerate(train(*args, **kwargs)):
            if n_done == 2:
                raise KeyboardInterrupt
            yield summary

    expected = clone(network).set_params(max_iter=4).fit(*stripes)
    with monkeypatch.context() as patch:
        patch.setattr(network_module, "train_epochs", interrupted)
        network.set_params(max_iter=4)
        with pytest.raises(KeyboardInterrupt) as caught:
            network.fit(*stripes)
    assert "after 2 of 4 epochs" in caught.value.__notes__[0]
    assert network.n_iter_ == 2
    assert network.loss_curve_ == expected.loss_curve_[:2]
    assert set(network.predict(stripes[0])) <= {"level", "upright"}


def test_no_global_state_is_moved(network, stripes):
    X, y = stripes
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    torch.manual_seed(0)
    before = np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
    torch_state, n_threads = torch.get_rng_state(), torch.get_num_threads()
    network.fit(X, y, sample_weight=np.ones(len(y))).predict_proba(X)
    after = np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
    assert after == before
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.get_num_threads() == n_threads
    assert torch.is_grad_enabled()


def test_random_state(network, stripes):
    network.set_params(batch_size=20)
    first = network.fit(*stripes)
    torch.manual_seed(12)
    second = clone(network).fit(*stripes)
    np.testing.assert_array_equal(first.parameters_, second.parameters_)
    assert first.loss_curve_ == second.loss_curve_
    other = clone(network).set_params(random_state=1).fit(*stripes)
    assert not np.array_equal(first.parameters_, other.parameters_)
    states = [
        clone(network).set_params(random_state=np.random.RandomState(2)).fit(*stripes)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(states[0].parameters_, states[1].parameters_)


def test_pickle(network, stripes):
    X, y = stripes
    network.set_params(device=torch.device("cpu")).fit(X, y)
    copy = pickle.loads(pickle.dumps(network))
    np.testing.assert_array_equal(copy.predict_proba(X), network.predict_proba(X))
    assert copy.get_params() == network.get_params() == clone(network).get_params()
    # No tensor, so that the file can be read where there is no such device.
    assert not any(isinstance(value, torch.Tensor) for value in vars(network).values())
    assert network.parameters_.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 5), ("depth", 1), ("normalization", "layer"), ("pooling", "max")],
)
def test_another_network_has_no_weights_of_this_one(network, stripes, name, value):
    X, y = stripes
    before = network.set_params(max_iter=1).fit(X, y).predict_proba(X)
    fitted = network.get_params()[name]
    network.set_params(**{name: value})
    with pytest.raises(ValueError, match=f"`{name}`={value!r} must be that of fit"):
        network.predict(X)
    network.set_params(**{name: fitted}, learning_rate=0.5)
    np.testing.assert_array_equal(network.predict_proba(X), before)
    network.set_params(**{name: value}).fit(X, y).predict(X)


def test_images_of_weight_zero_are_left_out(network, stripes):
    X, y = stripes
    weight = np.ones(len(y))
    weight[:20] = 0
    weighted = clone(network).fit(X, y, sample_weight=weight)
    network.fit(X[20:], y[20:])
    np.testing.assert_array_equal(weighted.parameters_, network.parameters_)
    with pytest.warns(UserWarning, match="'ghost'"):
        weighted.fit(X, np.r_[["ghost"] * 20, y[20:]], sample_weight=weight)
    assert "ghost" not in weighted.classes_


def test_weights_are_relative(network, stripes):
    X, y = stripes
    network.fit(X, y)
    for weight in (8.0, np.full(len(y), 0.25)):
        weighted = clone(network).fit(X, y, sample_weight=weight)
        np.testing.assert_array_equal(weighted.parameters_, network.parameters_)


def test_weight_of_two_is_the_image_twice(network, stripes):
    X, y = stripes
    network.set_params(augmentation=None, batch_size=1000)
    counts = np.random.default_rng(0).integers(1, 4, len(y))
    weighted = clone(network).fit(X, y, sample_weight=counts)
    repeated = clone(network).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    plain = network.fit(X, y)
    expected = repeated.predict_proba(X)
    np.testing.assert_allclose(weighted.predict_proba(X), expected, atol=1e-4)
    assert np.abs(plain.predict_proba(X) - expected).max() > 1e-3


def test_wrong_weights(network, stripes):
    X, y = stripes
    # Newer versions of scikit-learn find it first.
    message = r"must not be 0|at least one non-zero|whose `sample_weight` is above 0"
    with pytest.raises(ValueError, match=message):
        network.fit(X, y, sample_weight=np.zeros(len(y)))
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        network.fit(X, y, sample_weight=-np.ones(len(y)))
    with pytest.raises(ValueError, match=r"sample_weight\.shape == \(3,\)"):
        network.fit(X, y, sample_weight=[1, 1, 1])
    with pytest.raises(ValueError, match="`class_weight` must not be 0 for every"):
        network.set_params(class_weight={"level": 0, "upright": 0}).fit(X, y)


def test_class_weight(network, stripes):
    X, y = stripes
    keep = (y == "level") | (np.arange(len(y)) < 20)
    X, y = X[keep], y[keep]
    counts = {label: (y == label).sum() for label in ("level", "upright")}
    assert counts["level"] > 3 * counts["upright"]
    balanced = clone(network).set_params(class_weight="balanced").fit(X, y)
    by_hand = clone(network).fit(X, y, sample_weight=[1 / counts[label] for label in y])
    np.testing.assert_allclose(
        balanced.predict_proba(X), by_hand.predict_proba(X), atol=1e-4
    )
    both = clone(network).set_params(class_weight={"upright": 0.5})
    both.fit(X, y, sample_weight=np.where(y == "upright", 2, 1))
    plain = clone(network).fit(X, y)
    np.testing.assert_array_equal(both.parameters_, plain.parameters_)
    assert np.abs(balanced.predict_proba(X) - plain.predict_proba(X)).max() > 1e-3


@pytest.mark.parametrize("max_iter", [1, 4, 5])
def test_the_rate_falls_after_half_of_the_epochs(
    network, stripes, monkeypatch, max_iter
):
    rates = []

    def record(*args, learning_rate, n_epochs, **options):
        rates.extend(learning_rate(epoch) for epoch in range(n_epochs))
        return iter(())

    monkeypatch.setattr("skdistill.neural_network._base.train_epochs", record)
    network.set_params(max_iter=max_iter, learning_rate=1.0).fit(*stripes)
    n_low = max_iter // 2
    assert rates == pytest.approx([1.0] * (max_iter - n_low) + [0.1] * n_low)


def test_computes_in_the_default_type_of_torch(network, stripes):
    X, y = stripes
    torch.set_default_dtype(torch.float64)
    try:
        network.fit(X, y)
    finally:
        torch.set_default_dtype(torch.float32)
    assert network.parameters_.dtype == np.float64
    probabilities = network.predict_proba(X)
    network.parameters_ = network.parameters_.astype(np.float32)
    rounded = network.predict_proba(X)
    np.testing.assert_allclose(probabilities, rounded, atol=1e-5)
    assert not np.array_equal(probabilities, rounded)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 2), (3, 1, 1)])
def test_tiny_images_with_augmentation(network, shape):
    X = np.random.default_rng(0).normal(size=(12, *shape))
    network.set_params(max_iter=20).fit(X, np.arange(12) % 3)
    assert np.isfinite(network.predict_proba(X)).all()


def test_verbose_shows_a_bar(network, stripes, capsys):
    network.fit(*stripes)
    assert capsys.readouterr().err == ""
    network.set_params(verbose=1).fit(*stripes)
    assert "training" in capsys.readouterr().err


@pytest.mark.gpu
def test_gpu(network, stripes):
    X, y = stripes
    network.set_params(device="auto", max_iter=30).fit(X, y)
    assert network.score(X, y) > 0.9
    copy = pickle.loads(pickle.dumps(network)).set_params(device="cpu")
    np.testing.assert_allclose(
        copy.predict_proba(X), network.predict_proba(X), atol=1e-3
    )


# Soft labels


def test_certain_labels_are_as_good_as_classes(network, stripes):
    X, y = stripes
    expected = network.fit(X, y).predict_proba(X)
    certain = (y[:, None] == np.unique(y)).astype(float)
    found = clone(network).fit_probabilities(X, certain, np.unique(y))
    np.testing.assert_allclose(found.predict_proba(X), expected, atol=1e-4)
    assert found.classes_.tolist() == ["level", "upright"]
    assert found.n_features_in_ == 144
    assert found.image_shape_ == (6, 8, 3)


def test_what_is_learned_follows_the_soft_labels(network, stripes):
    """A label of 0.8 is what the network comes to say, of one class or the other."""
    X, y = stripes
    network.set_params(max_iter=100, learning_rate=0.05, augmentation=None)
    for sure in (0.2, 0.8):
        level = np.where(y == "level", sure, 1 - sure)
        network.fit_probabilities(X, np.c_[level, 1 - level], ["level", "upright"])
        said = network.predict_proba(X)[:, 0]
        assert np.median(said[y == "level"]) == pytest.approx(sure, abs=0.1)
        assert np.median(said[y == "upright"]) == pytest.approx(1 - sure, abs=0.1)


def test_soft_labels_of_flattened_images(network, stripes):
    X, y = stripes
    soft = np.where(y[:, None] == np.unique(y), 0.7, 0.3)
    expected = network.fit_probabilities(X, soft, np.unique(y)).predict_proba(X)
    flat = X.reshape(len(X), -1)
    network = clone(network).set_params(image_shape=(6, 8, 3))
    network.fit_probabilities(flat, soft.tolist(), np.unique(y).tolist())
    np.testing.assert_array_equal(network.predict_proba(X), expected)


@pytest.mark.parametrize(
    ("probabilities", "classes", "message"),
    [
        (
            np.ones((70, 3)),
            ["a", "b"],
            r"`probabilities` .*\(70, 2\).*shape \(70, 3\)",
        ),
        (
            np.ones((69, 2)),
            ["a", "b"],
            r"`probabilities` .*\(70, 2\).*shape \(69, 2\)",
        ),
        (np.ones(70), ["a", "b"], r"`probabilities` .*\(70, 2\); got shape \(70,\)"),
        (-np.ones((70, 2)), ["a", "b"], "`probabilities` must be .*non-negative"),
        (np.full((70, 2), np.nan), ["a", "b"], r"`probabilities` must be finite"),
        (np.ones((70, 2)), ["b", "a"], r"`classes` must be in sorted order"),
        (np.ones((70, 2)), ["a", "a"], r"`classes` must hold .*different"),
        (np.ones((70, 1)), ["a"], r"`classes` must hold at least two"),
    ],
)
def test_wrong_soft_labels(network, stripes, probabilities, classes, message):
    with pytest.raises(ValueError, match=message):
        network.fit_probabilities(stripes[0], probabilities, classes)


# Regression targets, the squared loss and Adam


def test_outputs_follow_the_targets(network, stripes):
    """Of any sign and scale, as nothing but a squared loss can fit them."""
    X, y = stripes
    network.set_params(max_iter=150, learning_rate=0.02, augmentation=None)
    targets = np.where((y == "level")[:, None], [-3.0, -1.0], [0.5, -2.0])
    network.fit_targets(X, targets, ["level", "upright"])
    found = network._logits(X)
    for level in (True, False):
        rows = (y == "level") == level
        expected = targets[rows][0]
        np.testing.assert_allclose(np.median(found[rows], 0), expected, atol=0.2)
    assert set(network.predict(X[y == "level"])) == {"upright"}
    assert network.loss_curve_[-1] < 0.02 * network.loss_curve_[0]


def test_hard_labels_are_targets_of_0_and_1(network, stripes):
    X, y = stripes
    network.set_params(loss="squared")
    expected = network.fit(X, y).parameters_
    one_hot = (y[:, None] == np.unique(y)).astype(int)
    for method in ("fit_probabilities", "fit_targets"):
        other = clone(network)
        getattr(other, method)(X, one_hot, np.unique(y))
        np.testing.assert_array_equal(other.parameters_, expected)
    # Whatever the loss of labels is, targets have the squared one.
    other = clone(network).set_params(loss="cross_entropy")
    np.testing.assert_array_equal(
        other.fit_targets(X, one_hot, np.unique(y)).parameters_, expected
    )
    assert (other.fit(X, y).parameters_ != expected).any()


def test_probabilities_after_the_squared_loss(network, stripes):
    X, y = stripes
    network.set_params(loss="squared", max_iter=30, learning_rate=0.02)
    found = network.fit(X[:40], y[:40]).predict_proba(X)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    assert (found >= 0).all()
    np.testing.assert_array_equal(
        network.classes_[found.argmax(axis=1)], network.predict(X)
    )
    # Outputs that sum to about 1 are what they say.
    outputs = network._logits(X)
    inside = ((outputs > 0.05) & (outputs < 0.95)).all(axis=1)
    assert inside.any()
    shift = np.ptp(found[inside] - outputs[inside], axis=1)
    np.testing.assert_allclose(shift, 0, atol=1e-6)
    assert network.score(X[40:], y[40:]) > 0.9


def test_weights_count_with_the_squared_loss(network, stripes):
    """An image of weight 2 is one that is there twice, in a step of all images."""
    X, y = stripes
    torch.set_default_dtype(torch.float64)
    try:
        network.set_params(loss="squared", batch_size=200, augmentation=None)
        weight = np.where(np.arange(70) < 30, 2, 1)
        one = clone(network).fit(X, y, weight)
        two = clone(network).fit(np.r_[X, X[:30]], np.r_[y, y[:30]])
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(one.parameters_, two.parameters_, atol=1e-9)


def test_adam_learns(network, stripes):
    X, y = stripes
    network.set_params(optimizer="adam", learning_rate=0.01, max_iter=30, batch_size=20)
    network.fit(X[:40], y[:40])
    assert network.score(X[40:], y[40:]) > 0.9
    copy = pickle.loads(pickle.dumps(network))
    np.testing.assert_array_equal(copy.predict_proba(X), network.predict_proba(X))


@pytest.mark.parametrize(("n_epochs", "n_warm"), [(2000, 500), (600, 300), (1, 0)])
def test_learning_rate_of_adam(n_epochs, n_warm):
    network = ConvNetClassifier(optimizer="adam", learning_rate=2, max_iter=n_epochs)
    rates = np.array([network._rate(epoch) for epoch in range(n_epochs)])
    warm = 2 * np.arange(1, n_warm + 1) / max(n_warm, 1)
    np.testing.assert_allclose(rates[:n_warm], warm)
    assert rates[n_warm] == 2
    assert (np.diff(rates[n_warm:]) < 0).all()
    if n_epochs > 1:
        assert rates[-1] == pytest.approx(0.02)
        middle = rates[n_warm + (n_epochs - n_warm - 1) // 2]
        assert middle == pytest.approx(1.01, abs=0.01)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.ones((70, 3)), r"`targets` must hold .*\(70, 2\); got shape \(70, 3\)"),
        (np.ones(70), r"`targets` must hold .*class of each image is `y`"),
        (np.r_[np.ones((69, 2)), [[0, np.inf]]], r"finite .* in row 69"),
        (np.full((70, 2), 1e39), r"`targets` must be finite"),
        (np.full((70, 2), "a"), r"`targets` must hold"),
    ],
)
def test_wrong_regression_targets(network, stripes, targets, message):
    with pytest.raises(ValueError, match=message):
        network.fit_targets(stripes[0], targets, ["a", "b"])


def test_weights_of_classes_that_cannot_count_are_told(network, stripes):
    X, y = stripes
    network.set_params(class_weight={"level": 1, "upright": 9}, max_iter=1)
    with pytest.warns(UserWarning, match="`class_weight` is ignored.*`targets`"):
        network.fit_targets(X, np.zeros((70, 2)), np.unique(y))


def test_wrong_losses_and_optimizers(network, stripes):
    for name in ("loss", "optimizer"):
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            clone(network).set_params(**{name: "huber"}).fit(*stripes)
