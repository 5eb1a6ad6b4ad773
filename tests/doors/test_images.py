"""Every public function that takes images refuses what it would misread.

The list of them is found in the public names: a new one has to be added here, and to
pass, before its test runs again.
"""

import importlib
import inspect
import pkgutil

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image

import skdistill
from skdistill import (
    BPTTDistiller,
    CAFEDistiller,
    ChannelScaler,
    ClassMeans,
    ConvNetClassifier,
    DCDistiller,
    DistilledClassifier,
    DMDistiller,
    DSADistiller,
    FRePoDistiller,
    FullData,
    Herding,
    KIPDistiller,
    KMeansPrototypes,
    MTTDistiller,
    NCFMDistiller,
    NetworkClassifier,
    NeuralKernelClassifier,
    RandomSubset,
    RFADDistiller,
    STMDistiller,
    SyntheticSet,
    TrajectoryBuffer,
    ZCAWhitener,
    metrics,
)
from skdistill.inspection import (
    DifferenceDisplay,
    EvolutionDisplay,
    MeasuresDisplay,
    MorphologyMeasures,
    NeighborsDisplay,
    OcclusionDisplay,
    ProfileDisplay,
    SyntheticSetDisplay,
    TreeConfusionDisplay,
    TreeDisplay,
    find_label_errors,
    occlusion_maps,
    report,
)

# What parameters that take images are called.
IMAGES = {"X", "X_test", "X_validation", "X_distilled", "images", "frames"}
# Displays keep what was drawn; these take no images but what one of the doors made.
MADE_ELSEWHERE = {
    "DifferenceDisplay",
    "EvolutionDisplay",
    "MeasuresDisplay",
    "NeighborsDisplay",
    "OcclusionDisplay",
    "ProfileDisplay",
    "SyntheticSetDisplay",
    "TreeDisplay",
}

SHAPE = (8, 8, 3)
X = np.random.default_rng(0).uniform(size=(24, *SHAPE)).astype(np.float32)
Y = np.array(["edge-on", "smooth"])[np.arange(24) % 2]
NETWORK = ConvNetClassifier(width=2, depth=1, max_iter=1, device="cpu", random_state=0)
TEACHERS = TrajectoryBuffer(
    n_teachers=1, n_epochs=2, width=2, depth=1, device="cpu", random_state=0
)
SHORT = {"buffer": TEACHERS, "n_steps": 1, "estimator": NETWORK, "device": "cpu"}
STM = STMDistiller(max_total_iter=1, **SHORT)
MTT = MTTDistiller(max_iter=1, max_start_epoch=1, n_target_epochs=1, **SHORT)
DC = DCDistiller(max_iter=1, width=2, depth=1, estimator=NETWORK, device="cpu")
DSA = DSADistiller(max_iter=1, width=2, depth=1, estimator=NETWORK, device="cpu")
BPTT = BPTTDistiller(
    n_steps=1, width=2, depth=1, max_iter=1, estimator=NETWORK, device="cpu"
)
DM = DMDistiller(max_iter=1, width=2, depth=1, estimator=NETWORK, device="cpu")
CAFE = CAFEDistiller(
    max_iter=1, max_network_epochs=1, width=2, depth=1, estimator=NETWORK, device="cpu"
)
NCFM = NCFMDistiller(max_iter=1, buffer=TEACHERS, estimator=NETWORK, device="cpu")
SUBSET = RandomSubset(random_state=0, estimator=NETWORK)
DISTILLERS = [
    STM,
    MTT,
    DC,
    DSA,
    BPTT,
    DM,
    NCFM,
    CAFE,
    KIPDistiller(max_iter=1, estimator=NETWORK, device="cpu"),
    FRePoDistiller(
        max_iter=1, n_networks=2, width=2, depth=1, estimator=NETWORK, device="cpu"
    ),
    RFADDistiller(
        max_iter=1, n_networks=2, width=2, depth=1, estimator=NETWORK, device="cpu"
    ),
    SUBSET,
    ClassMeans(estimator=NETWORK),
    KMeansPrototypes(estimator=NETWORK),
    Herding(estimator=NETWORK),
    FullData(estimator=NETWORK),
]
OTHER = NetworkClassifier("mlp", width_multiplier=0.02, max_iter=1, device="cpu")
KERNELS = NeuralKernelClassifier(device="cpu")
# The second one adds what its classifier has.
MODELS = [DistilledClassifier(SUBSET, model) for model in (NETWORK, KERNELS)]


def fitted(estimator, cache={}):  # noqa: B006
    """Return one fitted estimator of a kind, fitted once."""
    key = repr(estimator)
    if key not in cache:
        cache[key] = estimator.fit(X, Y)
    return cache[key]


METHODS = ("predict", "predict_proba", "decision_function", "extract_features")


def of_estimators():
    """Return the doors of all estimators, by name."""
    doors = {}
    for transformer in (ChannelScaler(), ZCAWhitener(), MorphologyMeasures()):
        name = type(transformer).__name__
        doors[f"{name}.fit"] = lambda Z, t=transformer: type(t)().fit(Z)
        if hasattr(transformer, "partial_fit"):
            doors[f"{name}.partial_fit"] = lambda Z, t=transformer: type(
                t
            )().partial_fit(Z)
        doors[f"{name}.transform"] = lambda Z, t=transformer: fitted(t).transform(Z)
        if hasattr(transformer, "inverse_transform"):
            doors[f"{name}.inverse_transform"] = lambda Z, t=transformer: fitted(
                t
            ).inverse_transform(Z)
    for network in (NETWORK, OTHER, KERNELS, *MODELS):
        name = type(network).__name__
        doors[f"{name}.fit"] = lambda Z, n=network: n.fit(Z, Y)
        for method in METHODS:
            if hasattr(network, method):
                doors[f"{name}.{method}"] = lambda Z, n=network, m=method: getattr(
                    fitted(n), m
                )(Z)
        for method in ("fit_probabilities", "fit_targets"):
            if hasattr(network, method):
                doors[f"{name}.{method}"] = lambda Z, n=network, m=method: getattr(
                    n, m
                )(Z, np.full((24, 2), 0.5), ["a", "b"])
    doors["TrajectoryBuffer.fit"] = lambda Z: TEACHERS.fit(Z, Y)
    doors["TrajectoryBuffer.estimate_cost"] = lambda Z: TEACHERS.estimate_cost(Z, Y)
    for distiller in DISTILLERS:
        name = type(distiller).__name__
        doors[f"{name}.fit"] = lambda Z, d=distiller: d.fit(Z, Y)
        doors[f"{name}.fit_resample"] = lambda Z, d=distiller: d.fit_resample(Z, Y)
        doors[f"{name}.score"] = lambda Z, d=distiller: fitted(d).score(Z, Y)
        if hasattr(distiller, "estimate_cost"):
            doors[f"{name}.estimate_cost"] = lambda Z, d=distiller: d.estimate_cost(
                Z, Y
            )
    return doors


EVALUATION = {"estimator": NETWORK, "n_repeats": 1}
HONEST = {**EVALUATION, "protocol": "honest", "y_validation": Y}
SET = SyntheticSet(X[:2], Y[:2])
DOORS = {
    **of_estimators(),
    "SyntheticSet": lambda Z: SyntheticSet(Z, Y),
    "SyntheticSet.transform": lambda Z: SET.with_preprocessing(
        fitted(ChannelScaler())
    ).transform(Z),
    "evaluate_synthetic": lambda Z: metrics.evaluate_synthetic(SET, Z, Y, **EVALUATION),
    "evaluate_synthetic, X_validation": lambda Z: metrics.evaluate_synthetic(
        SET, X, Y, X_validation=Z, **HONEST
    ),
    "evaluate_synthetic, synthetic": lambda Z: metrics.evaluate_synthetic(
        (Z, Y), X, Y, **EVALUATION
    ),
    "cross_architecture": lambda Z: metrics.cross_architecture(
        SET, Z, Y, estimators={"a": NETWORK}, n_repeats=1
    ),
    "compare_distillers": lambda Z: metrics.compare_distillers(
        {"random": SUBSET}, Z, Y, X, Y, seeds=1, **EVALUATION
    ),
    "compare_distillers, X_test": lambda Z: metrics.compare_distillers(
        {"random": SUBSET}, X, Y, Z, Y, seeds=1, **EVALUATION
    ),
    "compare_distillers, X_validation": lambda Z: metrics.compare_distillers(
        {"random": SUBSET}, X, Y, X, Y, seeds=1, X_validation=Z, **HONEST
    ),
    "evaluate_synthetic, X_train": lambda Z: metrics.evaluate_synthetic(
        SET, X, Y, baseline="random", X_train=Z, y_train=Y, **EVALUATION
    ),
    "DifferenceDisplay.from_data": lambda Z: DifferenceDisplay.from_data(
        Z, Y, pairs=[("edge-on", "smooth")]
    ),
    "DifferenceDisplay.from_estimator": lambda Z: DifferenceDisplay.from_estimator(
        fitted(SUBSET), Z, Y
    ),
    "EvolutionDisplay.from_data": lambda Z: EvolutionDisplay.from_data(
        Z[np.newaxis], [1], Y
    ),
    "MeasuresDisplay.from_data": lambda Z: MeasuresDisplay.from_data(Z, Y, X, Y),
    "MeasuresDisplay.from_data, X_distilled": lambda Z: MeasuresDisplay.from_data(
        X, Y, Z, Y
    ),
    "MeasuresDisplay.from_estimator": lambda Z: MeasuresDisplay.from_estimator(
        fitted(SUBSET), Z, Y
    ),
    "NeighborsDisplay.from_set": lambda Z: NeighborsDisplay.from_set(
        SET, Z, Y, estimator=fitted(NETWORK)
    ),
    "NeighborsDisplay.from_set, synthetic": lambda Z: NeighborsDisplay.from_set(
        (Z, Y), X, Y, estimator=fitted(NETWORK)
    ),
    "OcclusionDisplay.from_estimator": lambda Z: OcclusionDisplay.from_estimator(
        fitted(NETWORK), Z
    ),
    "find_label_errors": lambda Z: find_label_errors(fitted(TEACHERS), Z, Y),
    "occlusion_maps": lambda Z: occlusion_maps(fitted(NETWORK), Z),
    "ProfileDisplay.from_data": lambda Z: ProfileDisplay.from_data(Z, Y),
    "ProfileDisplay.from_estimator": lambda Z: ProfileDisplay.from_estimator(
        fitted(SUBSET), Z, Y
    ),
    "SyntheticSetDisplay.from_data": lambda Z: SyntheticSetDisplay.from_data(Z, Y),
    "TreeConfusionDisplay.from_estimator": lambda Z: (
        TreeConfusionDisplay.from_estimator(fitted(NETWORK), Z, Y)
    ),
    "TreeDisplay.from_data": lambda Z: TreeDisplay.from_data(Z, Y),
    "TreeDisplay.from_estimator": lambda Z: TreeDisplay.from_estimator(
        fitted(SUBSET), Z, Y
    ),
    "report": lambda Z: report(fitted(SUBSET), Z, Y, "/nowhere/report.html"),
}
# Inherited from scikit-learn, and made of the others.
INHERITED = {"score", "fit_transform"}
# The module of PyTorch takes tensors in its order; where images are fetched to; whether
# images are learned.
OTHER_MEANING = {"ConvNet.forward", "fetch_galaxy_zoo2", "KIPDistiller"}


def masked():
    return np.ma.masked_array(X, mask=np.arange(24)[:, None, None, None] == 7 + 0 * X)


def objects():
    array = np.empty(24, dtype=object)
    array[:] = list(X)
    return array


def with_nan():
    return np.where(np.arange(24)[:, None, None, None] == 7, np.nan, X)


BAD = {
    "channels first": (
        lambda: np.ascontiguousarray(X.transpose(0, 3, 1, 2)),
        r"transpose\(0, 2, 3, 1\)",
    ),
    "a tensor, channels first": (
        lambda: torch.from_numpy(X).permute(0, 3, 1, 2),
        r"permute\(0, 2, 3, 1\)",
    ),
    "masked": (masked, r"is masked: 192 values in 1 of 24 images \(positions 7\)"),
    "NaN": (with_nan, r"NaN: in 1 of 24 images \(positions 7\)"),
    "objects": (objects, r"np\.stack"),
    "one image": (lambda: X[0], r"\[np\.newaxis\]"),
    "a tensor with a gradient": (
        lambda: torch.from_numpy(X).requires_grad_(),
        r"\.detach\(\)",
    ),
}


def public():
    """Yield the name and the object of each public function and class."""
    for module in pkgutil.iter_modules(skdistill.__path__):
        if not module.name.startswith("_"):
            found = importlib.import_module(f"skdistill.{module.name}")
            for name in getattr(found, "__all__", []):
                yield name, getattr(found, name)
    for name in skdistill.__all__:
        thing = getattr(skdistill, name)
        if not inspect.ismodule(thing):
            yield name, thing


def takes_images(function):
    try:
        return bool(IMAGES & set(inspect.signature(function).parameters))
    except (TypeError, ValueError):
        return False


def found_doors():
    doors = set()
    for name, thing in public():
        if not inspect.isclass(thing):
            if takes_images(thing):
                doors.add(name)
            continue
        if takes_images(thing) and name not in MADE_ELSEWHERE:
            doors.add(name)
        for method, function in inspect.getmembers(thing, callable):
            if method.startswith("_") or method in INHERITED:
                continue
            if takes_images(function):
                doors.add(f"{name}.{method}")
    return doors


def test_no_door_is_left_out():
    listed = {name.partition(",")[0] for name in DOORS}
    listed -= {f"{type(distiller).__name__}.score" for distiller in DISTILLERS}
    assert found_doors() - OTHER_MEANING == listed


@pytest.fixture
def no_work(monkeypatch):
    """Let whatever trains a network fail."""

    def work(*args, **kwargs):
        raise AssertionError("the work has begun")

    for place in (
        "skdistill.neural_network._base.train_epochs",
        "skdistill.neural_network._kernel_classifier.RidgeRegression",
        "skdistill.trajectory._cost.Teachers",
        "skdistill.trajectory._jobs.run_parallel",
        "skdistill.metrics._training.run_parallel",
        "skdistill.metrics._compare_distillers.run_parallel",
    ):
        monkeypatch.setattr(place, work)


@pytest.mark.parametrize("door", DOORS)
def test_images_that_would_be_misread(door, request):
    # What is fitted is fitted before.
    estimators = (NETWORK, OTHER, KERNELS, *MODELS, SUBSET, TEACHERS, *DISTILLERS)
    for estimator in estimators:
        fitted(estimator)
    for transformer in (ChannelScaler(), ZCAWhitener(), MorphologyMeasures()):
        fitted(transformer)
    request.getfixturevalue("no_work")
    for what, (make, message) in BAD.items():
        if door == "EvolutionDisplay.from_data" and what != "channels first":
            continue  # it takes the images of several iterations
        with pytest.raises((ValueError, TypeError), match=message):
            DOORS[door](make())


class ArrowTable:
    """What a table of Arrow, which need not be installed, looks like."""

    column_names = ("p",)
    columns = (object(),)

    def to_pandas(self):
        raise AssertionError


class HuggingFaceDataset(ArrowTable):
    features = None


@pytest.mark.parametrize("door", ["ChannelScaler.fit", "SyntheticSet"])
def test_other_things_than_images(door, tmp_path):
    picture = Image.fromarray((255 * X[0]).astype(np.uint8))
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X))

    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return 24

        def __getitem__(self, place):
            return X[place], 0

    for given, message in [
        ("images.npy", r"np\.load\('images\.npy'\)"),
        (tmp_path / "images", "ImageReader"),
        (["a.png", "b.png"], "ImageReader"),
        (np.array(["a.png", "b.png"]), "ImageReader"),
        (np.array([["a.png"], ["b.png"]]), "ImageReader"),
        (dataset, r"dataset\.tensors"),
        (Pairs(), r"from_torch_dataset\(dataset"),
        (torch.utils.data.DataLoader(dataset), r"from_torch_dataset\(loader"),
        (iter(X), r"np\.stack\(list\(X\)\)"),
        ({"images": X}, "'images'"),
        (SET, "its `X`"),
        (fitted(SUBSET), r"its `synthetic_\.X`"),
        (object(), "must be an array of images"),
        (picture, r"np\.asarray\(image\)\[np\.newaxis\]"),
        ([picture.convert("P")] * 24, r"24 images with a palette.*convert\('RGB'\)"),
        ([picture, picture.convert("L")], "of the same mode"),
        ([picture, picture.resize((4, 4))], r"of the same size.*\(4, 4, 3\)"),
        ([(image, 0) for image in X], r"zip\(\*pairs\)"),
        ([*X[:3], None], r"positions 3\) are None|positions 3 are None"),
        (torch.from_numpy(X).bfloat16(), r"\.float\(\)"),
        (torch.from_numpy(X).to_sparse(), r"\.to_dense\(\)"),
        (torch.from_numpy(X).to("meta"), r"\.cpu\(\)"),
        ([torch.from_numpy(X[0]).requires_grad_()], r"X\[0\]\.detach\(\)"),
        ([np.ma.masked_array(X[0], mask=X[0] > 0.9)], r"X\[0\] is masked"),
        (X + 1j, "Complex data not supported"),
        (np.zeros(3, dtype=[("u", "f4"), ("g", "f4")]), r"fields \['u', 'g'\]"),
        (np.zeros((3, 8, 8, 3), dtype="M8[s]"), "dates"),
        (X[None], r"reshape\(-1, \*X\.shape\[-3:\]\)"),
        (np.zeros((16, 16, 3, 20)), r"X\.transpose\(3, 0, 1, 2\)"),
        (pl.LazyFrame({"p": [1.0]}), r"pass X\.collect\(\)"),
        (ArrowTable(), r"columns \['p'\]: pass X\.to_pandas\(\)"),
        (HuggingFaceDataset(), "from_huggingface"),
        (pd.DataFrame({"image": list(X)}), r"np\.stack\(X\['image'\]\)"),
        (pl.DataFrame({"image": [[1.0], [2.0]]}), r"np\.stack\(X\['image'\]\)"),
        (pd.DataFrame({"image": [picture] * 2}), r"list\(X\['image'\]\)"),
        (pd.DataFrame({"image": [{"bytes": b"a"}] * 2}), "load_image_folder"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            DOORS[door](given)


def test_lists_of_images_of_several_types_are_told():
    mixed = [(255 * X[0]).astype(np.uint8), *X[1:]]
    with pytest.warns(UserWarning, match="several types, float32, uint8, which"):
        ChannelScaler().fit(mixed)


def test_what_is_fine():
    """What can be read one way alone is taken."""
    pictures = [Image.fromarray(image) for image in (255 * X).astype(np.uint8)]
    for given, shape in [
        (pictures, SHAPE),
        ([picture.convert("L") for picture in pictures], (8, 8, 1)),
        (torch.from_numpy(X), SHAPE),
        (list(torch.from_numpy(X)), SHAPE),
        (np.ma.masked_array(X), SHAPE),
        (np.ma.masked_array(X, mask=False), SHAPE),
        (X > 0.5, SHAPE),
        (X.astype(object), SHAPE),
        (list(X), SHAPE),
    ]:
        scaler = ChannelScaler().fit(given)
        assert scaler.image_shape_ == shape
        assert scaler.transform(given).shape == (24, *shape)
    assert (
        ChannelScaler().fit(np.ma.masked_array(X)).mean_
        == fitted(ChannelScaler()).mean_
    ).all()
