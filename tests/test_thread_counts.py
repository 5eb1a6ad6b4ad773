"""Bitwise identical results whatever the number of threads: a promise of the guide."""

import numpy as np
import pytest
import torch

from skdistill import (
    CAFEDistiller,
    ConvNetClassifier,
    DMDistiller,
    DSADistiller,
    FRePoDistiller,
    MTTDistiller,
    NCFMDistiller,
    NetworkClassifier,
    RFADDistiller,
    STMDistiller,
    TrajectoryBuffer,
    evaluate_synthetic,
)
from skdistill.neural_network import _micro_batches
from skdistill.utils import _workers

rng = np.random.default_rng(0)
X = rng.normal(size=(96, 16, 16, 3)).astype(np.float32)
y = np.arange(96) % 2
X[y == 1, :8] += 1

COMMON = {"device": "cpu", "random_state": 0}
TEACHERS = TrajectoryBuffer(
    n_teachers=3, n_epochs=3, width=32, depth=2, batch_size=48, momentum=0.5, **COMMON
)
NETWORK = ConvNetClassifier(width=32, depth=2, max_iter=3, batch_size=64, **COMMON)
SHARED = {"buffer": TEACHERS, "n_steps": 3, "ipc": 24, "n_matches": 3, **COMMON}


def teachers():
    buffer = TrajectoryBuffer(**TEACHERS.get_params()).fit(X, y)
    return [buffer.snapshot(teacher, 3) for teacher in range(3)]


def stm(**changes):
    settings = SHARED | {"max_total_iter": 4, "labels": "learned"} | changes
    found = STMDistiller(**settings).fit(X, y)
    return [found.synthetic_.X, found.synthetic_.probabilities, found.step_sizes_]


def mtt():
    settings = SHARED | {"n_matches": 1, "max_iter": 3, "max_start_epoch": 2}
    settings |= {"gradient": "detached"}
    return [MTTDistiller(**settings).fit(X, y).synthetic_.X]


def dsa():
    settings = {"ipc": 24, "max_iter": 3, "n_network_epochs": 2, "n_networks": 2}
    settings |= {"width": 32, "depth": 2, "batch_size": 32}
    return [DSADistiller(**settings, **COMMON).fit(X, y).synthetic_.X]


def feature_matching():
    common = COMMON | {"ipc": 24, "max_iter": 3, "n_networks": 2, "batch_size": 32}
    network = {"width": 32, "depth": 2}
    cafe = CAFEDistiller(**common, **network, max_network_epochs=2)
    teachers = TrajectoryBuffer(
        n_teachers=1, n_epochs=1, device="cpu", random_state=0, **network
    )
    ncfm = NCFMDistiller(buffer=teachers, **common)
    return [
        distiller.fit(X, y).synthetic_.X
        for distiller in (DMDistiller(**common, **network), cafe, ncfm)
    ]


def feature_regression():
    common = COMMON | {"ipc": 24, "max_iter": 3, "width": 32, "depth": 2, "n_real": 60}
    found = [
        FRePoDistiller(n_networks=2, max_network_steps=2, **common).fit(X, y),
        RFADDistiller(n_networks=2, **common).fit(X, y),
    ]
    return [
        array for one in found for array in (one.synthetic_.X, one.synthetic_.targets)
    ]


def convnet():
    network = ConvNetClassifier(**NETWORK.get_params()).fit(X, y)
    outcome = network.predict_proba(X), network.extract_features(X)
    return [network.parameters_, *outcome]


def resnet():
    network = NetworkClassifier("resnet18", width_multiplier=0.5, max_iter=1, **COMMON)
    return [network.fit(X, y).parameters_, network.predict_proba(X)]


def scores(**changes):
    options = {"estimator": NETWORK, "n_repeats": 3, "random_state": 0} | changes
    return [evaluate_synthetic((X, y), X, y, **options).scores]


def without_probes_and_kept_activations():
    return stm(n_matches=1, keep_activations=False)


def scores_at_once():
    return scores(at_once=True)


WORK = [
    teachers,
    stm,
    without_probes_and_kept_activations,
    mtt,
    dsa,
    feature_matching,
    feature_regression,
    convnet,
    resnet,
    scores,
    scores_at_once,
]


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
def test_bits_do_not_depend_on_the_number_of_threads(work, monkeypatch):
    # Many micro-batches of few images, and a count of those that threads computed.
    monkeypatch.setattr(_micro_batches, "_MAX_BYTES", 2**18)
    monkeypatch.setattr(_micro_batches, "_MIN_BYTES_TO_CUT", 2**18)
    n_helped = 0
    help_with = _workers._Batch.help

    def count(batch, kept):
        nonlocal n_helped
        n_helped += 1
        help_with(batch, kept)

    monkeypatch.setattr(_workers._Batch, "help", count)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = work()
        assert n_helped == 0
        for n_threads in (2, 5):
            torch.set_num_threads(n_threads)
            found = work()
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
            assert n_helped > 0
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
