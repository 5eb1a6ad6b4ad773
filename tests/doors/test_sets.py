"""Every public door through which test labels, sets or scores come has its check.

Doors are found by the names of their parameters: a new function that takes such a
thing fails here until it is listed with a call, and the call then has to pass.
"""

import importlib
import inspect
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest

import skdistill
from skdistill import (
    ConvNetClassifier,
    DistilledClassifier,
    NeuralKernelClassifier,
    RandomSubset,
    evaluate_synthetic,
)
from skdistill.inspection import (
    MeasuresDisplay,
    NeighborsDisplay,
    OcclusionDisplay,
    TreeConfusionDisplay,
    occlusion_maps,
    report,
)
from skdistill.metrics import (
    SyntheticScore,
    augmentation_robust_score,
    compare_distillers,
    compare_scores,
    cross_architecture,
    expected_calibration_error,
    export_ddranking,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)

HOMES = [
    "skdistill",
    *(
        f"skdistill.{name}"
        for name in (
            *("datasets", "curation", "preprocessing", "neural_network", "trajectory"),
            *("distillation", "metrics", "inspection"),
        )
    ),
]


def routines():
    """Yield (name, function) of all public functions and methods, each once."""
    found = {}
    for home in HOMES:
        module = importlib.import_module(home)
        for name in module.__all__:
            thing = getattr(module, name)
            parts = [thing]
            if inspect.isclass(thing):
                parts = [
                    getattr(member, "__func__", member)
                    for label, member in inspect.getmembers(thing, inspect.isroutine)
                    if not label.startswith("_")
                ]
            for part in parts:
                if inspect.isroutine(part):
                    # available_if of scikit-learn hides the function.
                    part = inspect.unwrap(part)
                    found.setdefault(part.__qualname__, part)
    return found


def doors(is_door):
    """Return the names of the routines whose parameters make them a door."""
    found = set()
    for name, function in routines().items():
        try:
            parameters = set(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            continue
        if is_door(name, parameters):
            found.add(name)
    return found


def test_routines_are_found():
    assert len(routines()) > 60
    assert set(skdistill.__all__) & {name.split(".")[0] for name in routines()}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 8, 8, 1)).astype(np.float32)
    X = (X + np.roll(X, 1, axis=2)) / 2
    return X, np.array(["round", "edge", "spiral"])[np.arange(60) % 3]


@pytest.fixture(scope="module")
def fitted(data):
    network = ConvNetClassifier(width=2, depth=1, max_iter=1, device="cpu")
    distiller = RandomSubset(ipc=3, random_state=0, estimator=network).fit(*data)
    model = DistilledClassifier(RandomSubset(ipc=3), network).fit(*data)
    return distiller, model, network.fit(*data)


# Labels of real images

COMPARISON = {
    "estimator": ConvNetClassifier(width=2, depth=1, max_iter=1, device="cpu"),
    "seeds": 1,
    "n_repeats": 1,
}
TREE = {"shape": {"r": "round", "e": "edge", "s": "spiral"}}


def label_doors(data, fitted, folder):
    X, _ = data
    distiller, model, network = fitted
    distilled = distiller.synthetic_
    options = {"n_repeats": 1, "random_state": 0}
    return {
        "evaluate_synthetic": lambda y: evaluate_synthetic(
            distilled, X, y, estimator=network, **options
        ),
        "cross_architecture": lambda y: cross_architecture(
            distilled, X, y, estimators={"it": network}, **options
        ),
        "compare_distillers": lambda y: compare_distillers(
            {"it": RandomSubset()}, X, data[1], X + 1e-3, y, **COMPARISON
        ),
        "expected_calibration_error": lambda y: expected_calibration_error(
            y, np.full((60, 3), 1 / 3), labels=np.unique(data[1])
        ),
        "BaseDistiller.score": lambda y: distiller.score(X, y),
        "DistilledClassifier.score": lambda y: model.score(X, y),
        "BaseNetworkClassifier.score": lambda y: network.score(X, y),
        "NeuralKernelClassifier.score": lambda y: (
            NeuralKernelClassifier().fit(X, data[1]).score(X, y)
        ),
        "report": lambda y: report(distiller, X, y, folder / "page.html", n_repeats=1),
        "TreeConfusionDisplay.from_estimator": lambda y: (
            TreeConfusionDisplay.from_estimator(network, X, y, tree=TREE)
        ),
        "TreeConfusionDisplay.from_predictions": lambda y: (
            TreeConfusionDisplay.from_predictions(y, data[1], tree=TREE)
        ),
        "occlusion_maps": lambda y: occlusion_maps(network, X, y, window=8),
        "OcclusionDisplay.from_estimator": lambda y: OcclusionDisplay.from_estimator(
            network, X, y, window=8
        ),
    }


def takes_test_labels(name, parameters):
    return (
        bool({"y_test", "y_validation", "y_true"} & parameters)
        or name.endswith(".score")
        or (
            {"estimator", "X", "y"} <= parameters
            # Pictures of real images beside distilled ones score nothing.
            and not name.startswith(PICTURES)
        )
        or name == "occlusion_maps"
    )


PICTURES = (
    "DifferenceDisplay",
    "MeasuresDisplay",
    "NeighborsDisplay",
    "ProfileDisplay",
    "TreeDisplay",
)


def test_doors_for_labels_are_listed(data, fitted, tmp_path):
    assert doors(takes_test_labels) == set(label_doors(data, fitted, tmp_path))


@pytest.mark.parametrize(
    "door",
    [
        "BaseDistiller.score",
        "BaseNetworkClassifier.score",
        "DistilledClassifier.score",
        "NeuralKernelClassifier.score",
        "OcclusionDisplay.from_estimator",
        "TreeConfusionDisplay.from_estimator",
        "TreeConfusionDisplay.from_predictions",
        "compare_distillers",
        "cross_architecture",
        "evaluate_synthetic",
        "expected_calibration_error",
        "occlusion_maps",
        "report",
    ],
)
def test_unknown_labels_are_refused_at_every_door(door, data, fitted, tmp_path):
    score = label_doors(data, fitted, tmp_path)[door]
    for wrong in (
        np.char.upper(data[1]),
        np.char.add(data[1], " "),
        np.full(60, "merger"),
        np.arange(60) % 3 + 7,
    ):
        with pytest.raises(ValueError, match=str(wrong[0])):
            score(wrong)
    plt.close("all")


# Pixels of real images


def set_doors(data, fitted, folder):
    _, y = data
    distiller, model, network = fitted
    distilled = distiller.synthetic_
    options = {"n_repeats": 1, "random_state": 0}
    kernels = DistilledClassifier(
        RandomSubset(ipc=3), NeuralKernelClassifier(device="cpu")
    ).fit(*data)
    return {
        "evaluate_synthetic": lambda X: evaluate_synthetic(
            distilled, X, y, estimator=network, **options
        ),
        "cross_architecture": lambda X: cross_architecture(
            distilled, X, y, estimators={"it": network}, **options
        ),
        "compare_distillers": lambda X: compare_distillers(
            {"it": RandomSubset()}, data[0], y, X + 1e-3, y, **COMPARISON
        ),
        "BaseDistiller.score": lambda X: distiller.score(X, y),
        "DistilledClassifier.score": lambda X: model.score(X, y),
        "DistilledClassifier.predict": model.predict,
        "DistilledClassifier.predict_proba": model.predict_proba,
        "DistilledClassifier.decision_function": kernels.decision_function,
        "report": lambda X: report(distiller, X, y, folder / "page.html", n_repeats=1),
        "MeasuresDisplay.from_estimator": lambda X: MeasuresDisplay.from_estimator(
            distiller, X, y
        ),
        "NeighborsDisplay.from_set": lambda X: NeighborsDisplay.from_set(
            distilled, X, y, estimator=network
        ),
    }


def compares_with_a_set(name, parameters):
    return (
        {"synthetic", "X_test"} <= parameters
        or {"distillers", "X_test"} <= parameters
        or {"distiller", "X_test"} <= parameters
        or (
            name.startswith("DistilledClassifier.")
            and "X" in parameters
            and not name.endswith("fit")
        )
        or (name.endswith("Distiller.score"))
    )


def test_doors_for_real_images_are_listed(data, fitted, tmp_path):
    pictures = {"MeasuresDisplay.from_estimator", "NeighborsDisplay.from_set"}
    listed = set(set_doors(data, fitted, tmp_path)) - pictures
    assert doors(compares_with_a_set) == listed


@pytest.mark.parametrize(
    "door",
    [
        "BaseDistiller.score",
        "DistilledClassifier.decision_function",
        "DistilledClassifier.predict",
        "DistilledClassifier.predict_proba",
        "DistilledClassifier.score",
        "MeasuresDisplay.from_estimator",
        "NeighborsDisplay.from_set",
        "compare_distillers",
        "cross_architecture",
        "evaluate_synthetic",
        "report",
    ],
)
def test_other_pixel_spaces_are_told_once_at_every_door(door, data, fitted, tmp_path):
    score = set_doors(data, fitted, tmp_path)[door]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(data[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score(100 * data[0])
    plt.close("all")
    told = [one for one in caught if "a different pixel space" in str(one.message)]
    assert [one.filename for one in told] == [__file__]


# Sets and scores


def test_every_function_of_scores_takes_what_evaluation_returns():
    score = SyntheticScore(0.5, 0.1, np.array([0.4, 0.6]))
    accuracies = {
        "hard_label_recovery",
        "improvement_over_random",
        "label_robust_score",
        "augmentation_robust_score",
    }
    found = doors(
        lambda name, parameters: bool(
            {"scores", "real", "random", "random_plain"} & parameters
        )
    )
    # A card's scores are of several sets, and have tests of their own.
    cards = {name for name in found if name.endswith(".card")}
    assert found - cards == accuracies | {"compare_scores"}
    assert compare_scores(score, score).difference == 0
    for function in (
        hard_label_recovery,
        improvement_over_random,
        label_robust_score,
        augmentation_robust_score,
    ):
        names = [
            name
            for name, parameter in inspect.signature(function).parameters.items()
            if name not in ("weight", "synthetic_hard")
        ]
        expected = function(**dict.fromkeys(names, 0.5))
        assert function(**dict.fromkeys(names, score)) == pytest.approx(expected)


def test_every_function_of_sets_checks_them_anew(data, fitted, tmp_path):
    X, y = data
    _, _, network = fitted
    calls = {
        "evaluate_synthetic": lambda s: evaluate_synthetic(s, X, y, estimator=network),
        "cross_architecture": lambda s: cross_architecture(
            s, X, y, estimators={"it": network}
        ),
        "export_ddranking": lambda s: export_ddranking(s, tmp_path),
        "NeighborsDisplay.from_set": lambda s: NeighborsDisplay.from_set(
            s, X, y, estimator=network
        ),
    }
    of_sets = doors(lambda name, parameters: "synthetic" in parameters) - {
        "hard_label_recovery",
        "improvement_over_random",
        "label_robust_score",
    }
    assert of_sets == set(calls)
    for call in calls.values():
        changed = RandomSubset(ipc=2).fit(X, y).synthetic_
        changed.X = changed.X.astype(float)
        changed.X[1, 2, 3, 0] = np.inf
        with pytest.raises(ValueError, match="finite"):
            call(changed)
    assert not list(tmp_path.iterdir())
