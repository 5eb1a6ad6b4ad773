"""What a notebook has set in PyTorch changes no result, and stays set."""

import importlib
import inspect
import math
import pkgutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from joblib import parallel_config
from torch import nn

import skdistill
from skdistill import (
    BPTTDistiller,
    CAFEDistiller,
    ChannelScaler,
    ConvNetClassifier,
    DCDistiller,
    DistilledClassifier,
    DMDistiller,
    DSADistiller,
    FRePoDistiller,
    Herding,
    MTTDistiller,
    NCFMDistiller,
    NetworkClassifier,
    NeuralKernelClassifier,
    RandomSubset,
    RFADDistiller,
    STMDistiller,
    TrajectoryBuffer,
    ZCAWhitener,
    evaluate_synthetic,
)
from skdistill.inspection import (
    MeasuresDisplay,
    NeighborsDisplay,
    OcclusionDisplay,
    TreeConfusionDisplay,
    compare_classes,
    occlusion_maps,
)
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


def pixels(folder):
    whitened = ZCAWhitener().fit(X).transform(1e-30 * X + X)
    return ChannelScaler().fit(whitened).transform(whitened)


def figure(display, values):
    import matplotlib.pyplot as plt

    plt.close(display.figure_)
    return np.asarray(values(display))


TREE = {"form": {"round": "smooth", "not": "edge-on"}}
DISTILLED = DistilledClassifier(RandomSubset(random_state=0), NETWORK).fit(X, Y)
FITTED = DISTILLED.estimator_

DO = {
    "ConvNetClassifier": lambda _: NETWORK.fit(X, Y).predict_proba(X),
    "features": lambda _: NETWORK.fit(X, Y).extract_features(X),
    "soft labels": lambda _: NETWORK.fit_probabilities(
        X, np.full((12, 2), 0.5), [0, 1]
    ).predict_proba(X),
    "regression targets": lambda _: NETWORK.fit_targets(
        X, np.full((12, 2), -0.5), [0, 1]
    ).predict_proba(X),
    "NetworkClassifier": lambda _: (
        NetworkClassifier("mlp", width_multiplier=0.02, max_iter=2, **COMMON)
        .fit(X, Y)
        .predict_proba(X)
    ),
    "NeuralKernelClassifier": lambda _: (
        NeuralKernelClassifier(device="cpu").fit(X, Y).decision_function(X)
    ),
    "TrajectoryBuffer": lambda _: TEACHERS.fit(X, Y).snapshot(1, 2),
    "STMDistiller": lambda _: STM.fit(X, Y).synthetic_.X,
    "score": lambda _: STM.fit(X, Y).score(X, Y),
    "MTTDistiller": lambda _: (
        MTTDistiller(max_iter=2, max_start_epoch=1, n_target_epochs=1, **SHORT)
        .fit(X, Y)
        .synthetic_.X
    ),
    "DCDistiller": lambda _: (
        DCDistiller(2, max_iter=2, n_network_epochs=1, width=2, depth=1, **COMMON)
        .fit(X, Y)
        .synthetic_.X
    ),
    "DSADistiller": lambda _: (
        DSADistiller(max_iter=2, width=2, depth=1, **COMMON).fit(X, Y).synthetic_.X
    ),
    "BPTTDistiller": lambda _: (
        BPTTDistiller(n_steps=3, window=2, width=2, depth=1, max_iter=2, **COMMON)
        .fit(X, Y)
        .synthetic_.X
    ),
    "DMDistiller": lambda _: (
        DMDistiller(max_iter=2, width=2, depth=1, **COMMON).fit(X, Y).synthetic_.X
    ),
    "FRePoDistiller": lambda _: (
        FRePoDistiller(max_iter=2, n_networks=2, width=2, depth=1, **COMMON)
        .fit(X, Y)
        .synthetic_.X
    ),
    "RFADDistiller": lambda _: (
        RFADDistiller(max_iter=2, n_networks=2, width=2, depth=1, **COMMON)
        .fit(X, Y)
        .synthetic_.X
    ),
    "CAFEDistiller": lambda _: (
        CAFEDistiller(max_iter=2, max_network_epochs=2, width=2, depth=1, **COMMON)
        .fit(X, Y)
        .synthetic_.X
    ),
    "NCFMDistiller": lambda _: (
        NCFMDistiller(buffer=TEACHERS, max_iter=2, n_frequencies=4, **COMMON)
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
    "pixels": pixels,
    "predict and score": lambda _: [*DISTILLED.predict(X), DISTILLED.score(X, Y)],
    "teacher as a classifier": lambda _: (
        TEACHERS.fit(X, Y).classifier(0).predict_proba(X)
    ),
    "OcclusionDisplay": lambda _: figure(
        OcclusionDisplay.from_estimator(FITTED, X[:2], value_range=(-3, 3)),
        lambda display: display.maps,
    ),
    "NeighborsDisplay": lambda _: figure(
        NeighborsDisplay.from_set(
            DISTILLED.distiller_.synthetic_, X, Y, estimator=FITTED, value_range=(-3, 3)
        ),
        lambda display: display.table["distance"],
    ),
    "TreeConfusionDisplay": lambda _: figure(
        TreeConfusionDisplay.from_estimator(FITTED, X, Y, tree=TREE),
        lambda display: display.confusion_matrix,
    ),
    "MeasuresDisplay": lambda _: figure(
        MeasuresDisplay.from_estimator(DISTILLED, X, Y, random_state=0),
        lambda display: display.table["percentile"],
    ),
    "compare_classes": lambda _: compare_classes(
        X[:, 0, 0, 0] * 1e-200, Y, 0, 1, random_state=0
    ),
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
            np.testing.assert_array_equal(found, expected[name], err_msg=name)
            assert everything() == before, name


def test_longer_floats_are_the_choice_of_the_user():
    with default(torch.set_default_dtype, torch.float64, torch.float32):
        assert NETWORK.fit(X, Y).parameters_.dtype == np.float64
        assert STM.fit(X, Y).synthetic_.X.dtype == np.float32
        assert torch.get_default_dtype() == torch.float64


def linear(image_shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), n_classes))


def test_longer_floats_with_own_networks():
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(len(np.unique(Y))))
    with default(torch.set_default_dtype, torch.float64, torch.float32):
        for architecture in (linear, lazy):
            network = NetworkClassifier(architecture, max_iter=1).fit(X, Y)
            assert network.parameters_.dtype == np.float64
            distiller = DMDistiller(architecture=architecture, max_iter=1).fit(X, Y)
            assert distiller.synthetic_.X.dtype == np.float32
            teachers = TrajectoryBuffer(
                architecture=architecture, n_teachers=1, n_epochs=1
            )
            assert teachers.fit(X, Y).snapshot(0, 1).dtype == np.float32


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


# What computes nothing, or only in what a network of the user's own computes.
NO_COMPUTING = {
    "ConvNet.forward",
    "DistilledClassifier.get_metadata_routing",
    "ImageRecorder.on_fit_task_begin",
    "ImageRecorder.on_fit_task_end",
    "ImageRecorder.setup",
    "ImageRecorder.teardown",
    "MorphologyMeasures.describe",
    "MorphologyMeasures.get_feature_names_out",
    "TrajectoryBuffer.planned_snapshot_epochs",
    "standard_estimators",
}
# Rooms without networks, which read and choose.
NO_NETWORKS = {"curation", "datasets"}


def test_every_function_that_computes_has_its_own_state():
    without = set()
    for module in pkgutil.iter_modules(skdistill.__path__):
        if module.name.startswith("_") or module.name in NO_NETWORKS:
            continue
        home = importlib.import_module(f"skdistill.{module.name}")
        for name in getattr(home, "__all__", []):
            thing = getattr(home, name)
            parts = {name: thing}
            if inspect.isclass(thing):
                parts = {
                    f"{name}.{part}": method
                    for part, method in inspect.getmembers(thing, callable)
                    # Those that set parameters compute nothing, in any estimator.
                    if not part.startswith("_")
                    and part != "set_params"
                    and str(getattr(method, "__module__", "")).startswith("skdistill")
                }
            without |= {
                part
                for part, function in parts.items()
                if not getattr(function, "_has_own_torch_state", False)
            }
    assert without == NO_COMPUTING


def test_torch_is_not_imported_for_it():
    """Who has not imported PyTorch has set nothing in it, and need not wait for it."""
    program = (
        "import sys, numpy as np\n"
        "from skdistill import ChannelScaler\n"
        "with np.errstate(all='raise'):\n"
        "    ChannelScaler().fit(np.ones((2, 2, 2, 1)) * [[[[1]]], [[[2]]]])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
