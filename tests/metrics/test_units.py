"""Test images that were chosen on, two units in one comparison, a full disk."""

import warnings

import numpy as np
import pytest

from skdistill import ChannelScaler, ConvNetClassifier, SyntheticSet, evaluate_synthetic
from skdistill.inspection import compare_classes
from skdistill.metrics import compare_scores, cross_architecture, export_ddranking

X = np.random.default_rng(0).normal(size=(24, 8, 8, 1)).astype(np.float32)
Y = np.arange(24) % 2
SET = SyntheticSet(X[:2], Y[:2])
NETWORK = ConvNetClassifier(width=2, depth=1, max_iter=1, device="cpu")


def honest(X_validation, y_validation):
    return evaluate_synthetic(
        *(SET, X[12:], Y[12:]),
        protocol="honest",
        X_validation=X_validation,
        y_validation=y_validation,
        param_grid={"learning_rate": [0.01]},
        estimator=NETWORK,
        n_repeats=1,
        random_state=0,
    )


def test_test_images_that_settings_are_chosen_on_are_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        honest(X[2:12], Y[2:12])
    with pytest.warns(UserWarning, match="12 of 12 images of `X_test` are also in"):
        honest(X[12:], Y[12:])
    with pytest.warns(UserWarning, match="3 of 12 images of `X_test` are also in"):
        honest(X[5:15].astype(np.float64), Y[5:15])


def test_percent_against_shares_is_told():
    with pytest.warns(
        UserWarning, match="`scores` has values from 50 to 51, the others from 0.6"
    ):
        compare_scores([50, 51], [0.6, 0.7])
    with pytest.warns(UserWarning, match="`other` has values"):
        compare_scores([0.6, 0.7], [50, 51])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare_scores([50, 51], [60, 70])
        compare_scores([-1.2, -0.7], [-0.5, -0.4])
        compare_scores([1.2, 0.7], [0.5, 0.4])
        found = compare_scores([0.5, 0.6], [0.6, 0.7])
    assert "np.float64" not in repr(found)


def test_soft_labels_in_another_order_of_classes_are_told_once():
    y = np.array(["spiral", "smooth"])[Y]
    rows = np.eye(2)[(y == "spiral").astype(int)]
    soft = (rows + 0.5) / 2
    network = {"estimator": NETWORK, "n_repeats": 1, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for right in (soft, np.full((24, 2), 0.5)):
            evaluate_synthetic(SyntheticSet(X, y, probabilities=right), X, y, **network)
    swapped = SyntheticSet(X, y, probabilities=soft[:, ::-1])
    for score in (
        lambda: evaluate_synthetic(swapped, X, y, **network),
        lambda: cross_architecture(
            swapped, X, y, estimators={"it": NETWORK, "too": NETWORK}, n_repeats=1
        ),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            score()
        told = [one for one in caught if "24 of 24 distilled" in str(one.message)]
        assert [one.filename for one in told] == [__file__]


def test_infinite_values_are_refused():
    with pytest.raises(ValueError, match="value of image 1 is infinite"):
        compare_classes([1, np.inf, 2, 3], [0, 0, 1, 1], 0, 1)


def test_the_class_of_a_scaler_is_no_preprocessing():
    with pytest.raises(TypeError, match="must be a fitted transformer; got the class"):
        SET.to_images(ChannelScaler)


def test_a_full_disk_is_said_when_a_set_is_exported(tmp_path):
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    export_ddranking(SET, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limit[1]))
    try:
        with pytest.raises(OSError, match="cannot be written"):
            export_ddranking(SET, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
