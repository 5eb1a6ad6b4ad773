"""What holds for every estimator that takes images, in whatever form they come."""

import random

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone

from skdistill import (
    CAFEDistiller,
    ChannelScaler,
    ConvNetClassifier,
    DCDistiller,
    DistilledClassifier,
    DMDistiller,
    DSADistiller,
    FRePoDistiller,
    MTTDistiller,
    NCFMDistiller,
    RFADDistiller,
    STMDistiller,
    TrajectoryBuffer,
    ZCAWhitener,
)

SHAPE = (6, 5, 2)
NETWORK = ConvNetClassifier(
    width=4, depth=1, max_iter=3, learning_rate=0.05, device="cpu", random_state=0
)
TEACHERS = TrajectoryBuffer(
    n_teachers=2, n_epochs=2, width=4, depth=1, device="cpu", random_state=0
)
SHORT = {
    "buffer": TEACHERS,
    "n_steps": 2,
    "step_size": 0.05,
    "estimator": NETWORK,
    "device": "cpu",
    "random_state": 0,
}
STM = STMDistiller(max_total_iter=2, **SHORT)
MTT = MTTDistiller(max_iter=2, max_start_epoch=1, n_target_epochs=1, **SHORT)
MATCHING = {"max_iter": 2, "width": 4, "depth": 1, "estimator": NETWORK}
DC = DCDistiller(ipc=2, **MATCHING, device="cpu", random_state=0)
DSA = DSADistiller(**MATCHING, device="cpu", random_state=0)
DM = DMDistiller(**MATCHING, device="cpu", random_state=0)
FREPO = FRePoDistiller(**MATCHING, n_networks=2, device="cpu", random_state=0)
RFAD = RFADDistiller(**MATCHING, n_networks=2, device="cpu", random_state=0)
CAFE = CAFEDistiller(**MATCHING, max_network_epochs=2, device="cpu", random_state=0)
NCFM = NCFMDistiller(buffer=TEACHERS, max_iter=2, device="cpu", random_state=0)
TRANSFORMERS = [ChannelScaler(), ZCAWhitener()]
CLASSIFIERS = [NETWORK, DistilledClassifier(STM, NETWORK)]
LEARNERS = [*CLASSIFIERS, TEACHERS, STM, MTT, DC, DSA, DM, NCFM, CAFE, FREPO, RFAD]
ALL = [*TRANSFORMERS, *LEARNERS]


def each(estimators):
    return pytest.mark.parametrize(
        "estimator", estimators, ids=lambda estimator: type(estimator).__name__
    )


@pytest.fixture
def data():
    """Images (24, 6, 5, 2) of whole numbers from 0 to 255, as float32, and labels."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 200, (24, *SHAPE))
    y = np.array(["lying", "standing"])[np.arange(24) % 2]
    X[y == "lying", 2:4] += 55
    return X.astype(np.float32), y


def outcome(estimator, X):
    """Return everything that a fit comes to, in images or parameters."""
    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba(X)
    if hasattr(estimator, "transform"):
        return estimator.transform(X)
    if hasattr(estimator, "synthetic_"):
        return estimator.synthetic_.X
    return estimator.snapshot(1, 2)


def with_shape(estimator):
    """Return a clone that is told the shape of flattened images, at every level."""
    names = [
        name
        for name in estimator.get_params()
        if name == "image_shape" or name.endswith("__image_shape")
    ]
    return clone(estimator).set_params(**dict.fromkeys(names, SHAPE))


@each(ALL)
def test_flattened_images_are_the_same_images(estimator, data):
    X, y = data
    expected = outcome(clone(estimator).fit(X, y), X)
    flat = X.reshape(len(X), -1)
    fitted = with_shape(estimator).fit(flat, y)
    found = outcome(fitted, flat)
    assert np.array_equal(found.ravel(), expected.ravel())
    assert fitted.n_features_in_ == 60
    # Once fitted, the one form is as good as the other.
    assert np.array_equal(outcome(fitted, X).ravel(), expected.ravel())


@each(ALL)
@pytest.mark.parametrize("form", ["float64", "uint8", "int64", "float16"])
def test_any_type_of_number(estimator, form, data):
    X, y = data
    expected = outcome(clone(estimator).fit(X, y), X)
    other = X.astype(form)
    found = outcome(clone(estimator).fit(other, y), other)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@each(ALL)
@pytest.mark.parametrize("layout", ["Fortran", "reversed", "read-only", "memmap"])
def test_any_layout_in_memory(estimator, layout, data, tmp_path):
    X, y = data
    expected = outcome(clone(estimator).fit(X, y), X)
    if layout == "Fortran":
        other = np.asfortranarray(X)
    elif layout == "reversed":
        other = X[::-1, ::-1].copy()[::-1, ::-1]
    elif layout == "read-only":
        other = X.copy()
        other.flags.writeable = False
    else:
        joblib.dump(X, tmp_path / "X")
        other = joblib.load(tmp_path / "X", mmap_mode="r")
        assert isinstance(other, np.memmap)
    found = outcome(clone(estimator).fit(other, y), other)
    assert np.array_equal(found, expected)


@each([*TRANSFORMERS, *CLASSIFIERS])
def test_an_image_does_not_depend_on_its_neighbors(estimator, data):
    X, y = data
    many = np.concatenate([X, X[:, ::-1], X[:, :, ::-1], X[::-1]])
    fitted = clone(estimator).fit(X, y)
    expected = outcome(fitted, many)
    order = np.random.default_rng(1).permutation(len(many))
    np.testing.assert_allclose(outcome(fitted, many[order]), expected[order], atol=1e-6)
    for part in (slice(0, 1), slice(50, 53), slice(3, 90)):
        found = outcome(fitted, many[part])
        np.testing.assert_allclose(found, expected[part], atol=1e-6)


@each([estimator for estimator in ALL if estimator is not TEACHERS])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X.swapaxes(1, 2), r"= \(6, 5, 2\); got \(5, 6, 2\)"),
        (lambda X: X[:, :, :4], r"= \(6, 5, 2\); got \(6, 4, 2\)"),
        (lambda X: X[..., :1], r"= \(6, 5, 2\); got \(6, 5, 1\)"),
        (lambda X: X[0], r"got 3-D \(6, 5, 2\)"),
        (lambda X: X[None], r"got 5-D \(1, 24, 6, 5, 2\)"),
        (
            lambda X: np.where(np.arange(24)[:, None, None, None] == 7, np.nan, X),
            "NaN.*7",
        ),
        (lambda X: X.reshape(24, -1)[:, 1:], "59 features"),
    ],
    ids=["turned", "width", "channels", "3-D", "5-D", "NaN", "flattened"],
)
def test_other_images_than_those_of_fit(estimator, change, message, data):
    X, y = data
    fitted = clone(estimator).fit(X, y)
    use = getattr(fitted, "transform", None) or (lambda images: fitted.score(images, y))
    with pytest.raises(ValueError, match=message):
        use(change(X))


@each(ALL)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X[..., 0], r"got 3-D \(24, 6, 5\)"),
        (lambda X: np.where(X[3, 1, 1, 1] == X, np.inf, X), "infinity"),
        (lambda X: np.where(X[3, 1, 1, 1] == X, np.nan, X), "NaN"),
        (lambda X: X[:0], "0 sample"),
        (lambda X: X[:, :0], "pixels"),
        (lambda X: [*X[:, :, :, :1].tolist()[:23], [[[0]]]], "of the same size"),
        (lambda X: X + 1j, "Complex data"),
    ],
    ids=["3-D", "infinity", "NaN", "none", "no pixels", "ragged", "complex"],
)
def test_images_that_are_none(estimator, change, message, data):
    X, y = data
    X = change(X)
    with pytest.raises(ValueError, match=message):
        clone(estimator).fit(X, y[: len(X)])


@each(LEARNERS)
def test_one_class(estimator, data):
    X, _ = data
    with pytest.raises(ValueError, match="at least two classes; got one class, 'a'"):
        clone(estimator).fit(X, ["a"] * 24)


@each(LEARNERS)
def test_labels_of_any_kind(estimator, data):
    X, y = data
    expected = outcome(clone(estimator).fit(X, y), X)
    codes = np.unique(y, return_inverse=True)[1]
    for labels in ([-7, 12], [False, True], [0.0, 1.0], ["a", "bc"]):
        fitted = clone(estimator).fit(X, np.array(labels)[codes])
        assert fitted.classes_.tolist() == labels
        assert np.array_equal(outcome(fitted, X), expected)
    fitted = clone(estimator).fit(X, y.astype(object))
    assert np.array_equal(outcome(fitted, X), expected)


# Randomness, and what a fit must leave alone


def states():
    return (
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        np.random.get_state()[2],  # noqa: NPY002
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.is_grad_enabled(),
        torch.get_float32_matmul_precision(),
    )


@each(ALL)
def test_fit_moves_no_global_state_and_no_input(estimator, data):
    X, y = data
    estimator = clone(estimator)
    before = states()
    copies = X.copy(), y.copy()
    parameters = {name: repr(value) for name, value in estimator.get_params().items()}
    outcome(estimator.fit(X, y), X)
    if hasattr(estimator, "score"):
        estimator.score(X, y)
    assert states() == before
    assert np.array_equal(X, copies[0])
    assert np.array_equal(y, copies[1])
    found = {name: repr(value) for name, value in estimator.get_params().items()}
    assert found == parameters


@each(LEARNERS)
def test_global_state_decides_on_nothing(estimator, data):
    X, y = data
    found = []
    for seed in (0, 1):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        found.append(outcome(clone(estimator).fit(X, y), X))
    assert np.array_equal(*found)


@each(LEARNERS)
def test_random_state_decides_on_everything(estimator, data):
    X, y = data
    names = [n for n in estimator.get_params() if n.split("__")[-1] == "random_state"]

    def fitted(seed):
        return outcome(
            clone(estimator).set_params(**dict.fromkeys(names, seed)).fit(X, y), X
        )

    assert np.array_equal(fitted(3), fitted(3))
    assert not np.array_equal(fitted(3), fitted(4))
    # An instance is drawn from, as scikit-learn does.
    instance = fitted(np.random.RandomState(5))
    assert np.array_equal(instance, fitted(np.random.RandomState(5)))


@each([TEACHERS, STM, MTT, DistilledClassifier(STM, NETWORK)])
def test_same_bits_whatever_n_jobs(estimator, data):
    X, y = data
    expected = outcome(clone(estimator).fit(X, y), X)
    names = [n for n in estimator.get_params() if n.split("__")[-1] == "n_jobs"]
    assert names
    two = clone(estimator).set_params(**dict.fromkeys(names, 2)).fit(X, y)
    assert np.array_equal(outcome(two, X), expected)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        threads = outcome(clone(estimator).fit(X, y), X)
    assert np.array_equal(threads, expected)
