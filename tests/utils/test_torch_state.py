"""What a notebook has set in PyTorch changes no result, and stays set."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from joblib import parallel_config

from skdistill import (
    ConvNetClassifier,
    DistilledClassifier,
    Herding,
    MTTDistiller,
    NetworkClassifier,
    RandomSubset,
    STMDistiller,
    TrajectoryBuffer,
    evaluate_synthetic,
)
from skdistill.inspection import occlusion_maps
from skdistill.metrics import export_ddranking, load_ddranking
from skdistill.trajectory import merge_buffers
from skdistill.utils._torch_state import own_torch_state, with_own_torch_state

rng = np.random.default_rng(0)
X = rng.normal(size=(12, 8, 8, 2)).astype(np.float32)
Y = np.arange(12) % 2
COMMON = {"device": "cpu", "random_state": 0}
NETWORK = ConvNetClassifier(width=2, depth=1, max_iter=2, **COMMON)
TEACHERS = TrajectoryBuffer(n_teachers=2, n_epochs=2, width=2, depth=1, **COMMON)
SHORT = {"buffer": TEACHERS, "n_steps": 2, "estimator": NETWORK, **COMMON}
STM = STMDistiller(max_total_iter=2, labels="learned", **SHORT)


def merged(folder):
    buffers = []
    for seed in (1, 2):
        path = folder / f"{seed}-{len(list(folder.iterdir()))}"
        buffer = TrajectoryBuffer(
            n_teachers=1, n_epochs=1, width=2, depth=1, path=path, random_state=seed
        )
        buffers.append(buffer.fit(X, Y).path)
    target = folder / f"merged-{len(list(folder.iterdir()))}"
    merge_buffers(buffers, target)
    return TrajectoryBuffer.load(target).snapshot(1, 1)


def ranking(folder):
    synthetic = RandomSubset(random_state=0).fit(X, Y).synthetic_
    export_ddranking(synthetic, folder)
    return load_ddranking(folder).X


def in_threads(folder):
    with parallel_config("threading"):
        score = evaluate_synthetic(
            (X, Y), X, Y, estimator=NETWORK, n_repeats=2, n_jobs=2, random_state=0
        )
    return score.scores


DO = {
    "ConvNetClassifier": lambda _: NETWORK.fit(X, Y).predict_proba(X),
    "features": lambda _: NETWORK.fit(X, Y).extract_features(X),
    "soft labels": lambda _: NETWORK.fit_probabilities(
        X, np.full((12, 2), 0.5), [0, 1]
    ).predict_proba(X),
    "NetworkClassifier": lambda _: (
        NetworkClassifier("mlp", width_multiplier=0.02, max_iter=2, **COMMON)
        .fit(X, Y)
        .predict_proba(X)
    ),
    "TrajectoryBuffer": lambda _: TEACHERS.fit(X, Y).snapshot(1, 2),
    "STMDistiller": lambda _: STM.fit(X, Y).synthetic_.X,
    "score": lambda _: STM.fit(X, Y).score(X, Y),
    "MTTDistiller": lambda _: (
        MTTDistiller(max_iter=2, max_start_epoch=1, n_target_epochs=1, **SHORT)
        .fit(X, Y)
        .synthetic_.X
    ),
    "Herding": lambda _: Herding(features=NETWORK, **COMMON).fit(X, Y).synthetic_.X,
    "DistilledClassifier": lambda _: (
        DistilledClassifier(RandomSubset(random_state=0), NETWORK)
        .fit(X, Y)
        .predict_proba(X)
    ),
    "evaluate_synthetic": lambda _: (
        evaluate_synthetic(
            (X, Y), X, Y, estimator=NETWORK, n_repeats=2, random_state=0
        ).scores
    ),
    "evaluate_synthetic, threads": in_threads,
    "evaluate_synthetic, at once": lambda _: (
        evaluate_synthetic(
            (X, Y), X, Y, estimator=NETWORK, at_once=True, n_repeats=2, random_state=0
        ).scores
    ),
    "occlusion_maps": lambda _: occlusion_maps(NETWORK.fit(X, Y), X[:2]),
    "merge_buffers": merged,
    "DD-Ranking": ranking,
}


@contextmanager
def default(setter, value, back):
    setter(value)
    try:
        yield
    finally:
        setter(back)


def everything():
    """Return what a user may have set."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device().type,
        torch.are_deterministic_algorithms_enabled(),
        np.geterr(),
    )


STATES = {
    "no_grad": torch.no_grad,
    "set_grad_enabled": lambda: default(torch.set_grad_enabled, False, True),
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "bfloat16": lambda: default(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "float16": lambda: default(torch.set_default_dtype, torch.float16, torch.float32),
    "default device": lambda: default(torch.set_default_device, "meta", None),
    "device context": lambda: torch.device("meta"),
    "deterministic": lambda: default(torch.use_deterministic_algorithms, True, False),
    "errors of NumPy": lambda: np.errstate(all="raise"),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return {name: do(tmp_path_factory.mktemp("expected")) for name, do in DO.items()}


@pytest.mark.parametrize("state", STATES)
def test_results_do_not_depend_on_it(state, expected, tmp_path):
    with STATES[state]():
        before = everything()
        for name, do in DO.items():
            found = do(tmp_path)
            assert np.array_equal(found, expected[name]), name
            assert everything() == before, name


def test_longer_floats_are_the_choice_of_the_user():
    with default(torch.set_default_dtype, torch.float64, torch.float32):
        assert NETWORK.fit(X, Y).parameters_.dtype == np.float64
        assert STM.fit(X, Y).synthetic_.X.dtype == np.float32
        assert torch.get_default_dtype() == torch.float64


def test_errors_and_interrupts_leave_it_as_it_was():
    @with_own_torch_state
    def interrupted():
        assert torch.is_grad_enabled()
        raise KeyboardInterrupt

    with torch.inference_mode(), np.errstate(all="raise"):
        before = everything()
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert everything() == before


def test_threads_end_in_any_order():
    """The default type is that of the process: the last who leaves sets it again."""
    with default(torch.set_default_dtype, torch.bfloat16, torch.float32):
        first, second = own_torch_state(), own_torch_state()
        first.__enter__()
        second.__enter__()
        assert torch.get_default_dtype() == torch.float32
        second.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.float32
        first.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.bfloat16
