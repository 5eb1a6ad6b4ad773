"""What is trained on a set where nobody names a classifier."""

import json

import numpy as np
import pytest

from skdistill import (
    ConvNetClassifier,
    NetworkClassifier,
    NeuralKernelClassifier,
    SyntheticSet,
)
from skdistill.neural_network._default import (
    ENTRY,
    default_estimator,
    describe_estimator,
    fit_on,
)


def made(entry=None, *args, **how):
    return default_estimator({} if entry is None else {ENTRY: entry}, *args, **how)


def settings(estimator):
    return type(estimator), {k: repr(v) for k, v in estimator.get_params().items()}


def test_without_an_entry_it_is_the_network_of_the_benchmarks():
    assert settings(made()) == settings(ConvNetClassifier(max_iter=1000))
    assert settings(made(None, 0.03, device="cpu", random_state=4)) == settings(
        ConvNetClassifier(
            max_iter=1000, learning_rate=0.03, device="cpu", random_state=4
        )
    )
    adam = {"max_iter": 1000, "loss": "squared", "optimizer": "adam"}
    assert settings(made(on_targets=True)) == settings(
        ConvNetClassifier(**adam, learning_rate=3e-4)
    )
    assert settings(made(None, 0.03, on_targets=True)) == settings(
        ConvNetClassifier(max_iter=1000, learning_rate=0.03, loss="squared")
    )


@pytest.mark.parametrize(
    "estimator",
    [
        ConvNetClassifier(width=np.int64(8), augmentation=("flip", "crop"), max_iter=7),
        ConvNetClassifier(optimizer="adam", learning_rate=np.float32(0.5)),
        ConvNetClassifier(),
        NetworkClassifier("mlp", width_multiplier=0.5, augmentation=None),
        NeuralKernelClassifier(kernel="nngp", depth=2, reg=1e-3),
    ],
)
@pytest.mark.parametrize("on_targets", [False, True])
def test_what_is_described_is_made_again(estimator, on_targets, tmp_path):
    rows = {"targets": np.eye(2)} if on_targets else {}
    entry = describe_estimator(estimator)
    SyntheticSet(np.zeros((2, 4, 4, 1)), [0, 1], 0.2, {ENTRY: entry}, **rows).save(
        tmp_path / "set"
    )
    found = SyntheticSet.load(tmp_path / "set")
    again = default_estimator(
        found.metadata, found.step_size, on_targets=on_targets, random_state=3
    )
    assert type(again) is type(estimator)
    assert json.dumps(describe_estimator(again)) == json.dumps(entry)
    assert getattr(again, "random_state", 3) == 3


def test_what_an_entry_leaves_out_follows_from_the_set():
    entry = {"name": "ConvNetClassifier", "width": 64}
    assert settings(made(entry, 0.2)) == settings(
        ConvNetClassifier(width=64, max_iter=1000, learning_rate=0.2)
    )
    assert made(entry, on_targets=True).optimizer == "adam"
    entry = {"name": "NetworkClassifier", "optimizer": "sgd"}
    found = made(entry, on_targets=True)
    assert (found.optimizer, found.learning_rate, found.loss) == (
        "sgd",
        0.01,
        "squared",
    )
    assert settings(made({"name": "NeuralKernelClassifier"}, 0.2)) == settings(
        NeuralKernelClassifier()
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("ConvNetClassifier", "got 'ConvNetClassifier'"),
        ([], r"got \[\]"),
        ({}, r"got \{\}"),
        ({"name": 3}, "got {'name': 3}"),
        ({"name": "SVC"}, r"must be one of \['ConvNetClassifier'.*got 'SVC'"),
        ({"name": "DistilledClassifier"}, "must be one of"),
        ({"name": "ConvNetClassifier", "wide": 8}, r"must be among .*got \['wide'\]"),
        ({"name": "ConvNetClassifier", "device": "cpu"}, r"got \['device'\]"),
        ({"name": "ConvNetClassifier", "width": "8"}, "'width' parameter"),
        ({"name": "ConvNetClassifier", "width": 10**9}, "'width' must be at most 1024"),
        ({"name": "ConvNetClassifier", "max_iter": 1e12}, "'max_iter' must be at most"),
        ({"name": "NetworkClassifier", "architecture": "x"}, "'architecture'"),
        ({"name": "NeuralKernelClassifier", "kernel": "os.system"}, "'kernel'"),
        ({"name": "ConvNetClassifier", "augmentation": {"a": 1}}, "augmentation"),
        ({"name": "ConvNetClassifier", "augmentation": ["twirl"]}, "augmentation"),
    ],
)
def test_entries_that_name_nothing(entry, message):
    with pytest.raises(ValueError, match=r"`metadata`\['default_estimator'\]") as error:
        made(entry)
    with pytest.raises(ValueError, match=message):
        raise error.value
    assert "the parameter `estimator` to train" in str(error.value)


class Takes:
    """A classifier that says what it was fitted to."""

    def __init__(self, *methods):
        for method in methods:
            setattr(self, f"fit_{method}", lambda X, rows, classes: rows)

    def fit(self, X, y):
        return y


def test_the_labels_that_a_classifier_can_use():
    assert fit_on(Takes(), "X", "y", "p", "t") == "y"
    assert fit_on(Takes("probabilities"), "X", "y", None, "t") == "y"
    assert fit_on(Takes("probabilities"), "X", "y", "p") == "p"
    assert fit_on(Takes("probabilities", "targets"), "X", "y", None, "t") == "t"
    assert fit_on(Takes("probabilities", "targets"), "X", "y") == "y"
