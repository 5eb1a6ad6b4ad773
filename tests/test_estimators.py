"""What scikit-learn asks of every estimator, and its image form."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.utils.estimator_checks import (
    check_array_api_input_and_values,
    check_class_weight_balanced_classifiers,
    check_dataframe_column_names_consistency,
    check_get_feature_names_out_error,
    check_global_output_transform_pandas,
    check_global_set_output_transform_polars,
    check_inplace_ensure_writeable,
    check_param_validation,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_set_output_transform_polars,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
    parametrize_with_checks,
)
from sklearn.utils.validation import check_is_fitted, validate_data

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
    GalaxyZooCurator,
    Herding,
    ImageReader,
    KIPDistiller,
    KMeansPrototypes,
    MTTDistiller,
    NCFMDistiller,
    NetworkClassifier,
    NeuralKernelClassifier,
    RandomSubset,
    RFADDistiller,
    RotationAugmenter,
    STMDistiller,
    TrajectoryBuffer,
    ZCAWhitener,
    inspection,
)
from skdistill.curation._tree import ANSWERS, LEAVES
from skdistill.inspection import MorphologyMeasures

# Instance normalization over the two pixels of some checks would leave their signs.
NETWORK = ConvNetClassifier(
    width=8,
    depth=1,
    normalization="none",
    learning_rate=0.1,
    max_iter=50,
    batch_size=1000,
    augmentation=None,
    device="cpu",
    random_state=0,
)
OTHER = NetworkClassifier(
    "mlp",
    width_multiplier=0.125,
    learning_rate=0.1,
    max_iter=50,
    batch_size=1000,
    augmentation=None,
    device="cpu",
    random_state=0,
)
TEACHERS = TrajectoryBuffer(
    n_teachers=1,
    n_epochs=3,
    learning_rate=0.1,
    augmentation=None,
    width=8,
    depth=1,
    normalization="none",
    device="cpu",
    random_state=0,
)
SHORT = {
    "buffer": TEACHERS,
    "n_steps": 3,
    "step_size": 0.1,
    "augmentation": None,
    "estimator": NETWORK,
    "device": "cpu",
    "random_state": 0,
}
STM = STMDistiller(max_total_iter=3, **SHORT)
MTT = MTTDistiller(max_iter=3, max_start_epoch=1, n_target_epochs=2, **SHORT)
MATCHING = {
    "max_iter": 3,
    "n_network_epochs": 2,
    "width": 8,
    "depth": 1,
    "normalization": "none",
    "estimator": NETWORK,
    "device": "cpu",
    "random_state": 0,
}
DC = DCDistiller(ipc=2, **MATCHING)
DSA = DSADistiller(n_rounds=2, **MATCHING)
BPTT = BPTTDistiller(
    n_steps=3,
    window=2,
    width=8,
    depth=1,
    normalization="none",
    augmentation=None,
    max_iter=3,
    estimator=NETWORK,
    device="cpu",
    random_state=0,
)
FEATURES = {name: MATCHING[name] for name in MATCHING if name != "n_network_epochs"}
DM = DMDistiller(**FEATURES)
FREPO = FRePoDistiller(n_networks=2, max_network_steps=1, **FEATURES)
RFAD = RFADDistiller(n_networks=2, **FEATURES)
CAFE = CAFEDistiller(max_rounds=2, max_network_epochs=2, **FEATURES)
NCFM = NCFMDistiller(
    buffer=TEACHERS, max_iter=3, estimator=NETWORK, device="cpu", random_state=0
)
KIP = KIPDistiller(max_iter=3, estimator=NETWORK, device="cpu", random_state=0)
DISTILLED = DistilledClassifier(STMDistiller(ipc=3, max_total_iter=3, **SHORT), NETWORK)

REAL = {"estimator": NETWORK, "device": "cpu", "random_state": 0}
BASELINES = [
    RandomSubset(**REAL),
    ClassMeans(**REAL),
    KMeansPrototypes(**REAL),
    Herding(features=NETWORK, **REAL),
    FullData(**REAL),
]

KERNELS = NeuralKernelClassifier(device="cpu")

TRANSFORMERS = [ChannelScaler(), ZCAWhitener(), MorphologyMeasures()]
ESTIMATORS = [
    *TRANSFORMERS,
    NETWORK,
    OTHER,
    KERNELS,
    TEACHERS,
    STM,
    MTT,
    DC,
    DSA,
    BPTT,
    DM,
    NCFM,
    CAFE,
    FREPO,
    RFAD,
    KIP,
    DISTILLED,
    *BASELINES,
    RotationAugmenter(),
]


def of_type(estimator):
    return type(estimator).__name__


def test_no_estimator_is_left_out():
    """Two take tables of other things than numbers: see below."""
    public = {getattr(skdistill, name) for name in skdistill.__all__}
    public |= {getattr(inspection, name) for name in inspection.__all__}
    public = {thing for thing in public if hasattr(thing, "get_params")}
    checked = {type(estimator) for estimator in ESTIMATORS}
    assert public == checked | {GalaxyZooCurator, ImageReader}


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    before = torch.get_default_dtype()
    if "sample_weight_equivalence" in str(check):
        # It asks for seven equal digits after training: more than float32 has.
        torch.set_default_dtype(torch.float64)
    try:
        check(estimator)
    finally:
        torch.set_default_dtype(before)


# Checks that scikit-learn defines but does not yield


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=of_type)
@pytest.mark.parametrize(
    "check",
    [
        check_dataframe_column_names_consistency,
        check_param_validation,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")
def test_more_scikit_learn_checks(estimator, check):
    check(type(estimator).__name__, clone(estimator))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=of_type)
def test_values_of_arrays_of_any_library(estimator):
    check_array_api_input_and_values(
        type(estimator).__name__, clone(estimator), array_namespace="numpy"
    )


def test_balanced_class_weights():
    """Of two classes that overlap the rare one is found more often."""
    rng = np.random.default_rng(0)
    y = (np.arange(400) % 10 == 0).astype(int)
    X = rng.normal(size=(400, 4)) + 1.2 * y[:, None]
    # Tested where both are as frequent.
    y_test = np.arange(400) % 2
    X_test = rng.normal(size=(400, 4)) + 1.2 * y_test[:, None]
    network = clone(NETWORK).set_params(learning_rate=0.02)
    check_class_weight_balanced_classifiers(
        "ConvNetClassifier", network, X, y, X_test, y_test, None
    )


@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=of_type)
@pytest.mark.parametrize(
    "check",
    [
        check_get_feature_names_out_error,
        check_global_output_transform_pandas,
        check_global_set_output_transform_polars,
        check_inplace_ensure_writeable,
        check_set_output_transform,
        check_set_output_transform_pandas,
        check_set_output_transform_polars,
        check_transformer_get_feature_names_out,
        check_transformer_get_feature_names_out_pandas,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")
def test_more_checks_of_transformers(estimator, check):
    check(type(estimator).__name__, clone(estimator))


# Tables of other things than numbers.  These two take no array of numbers, which is all
# that scikit-learn's checks have: subclasses make what they need out of one.


class CuratorOfNumbers(GalaxyZooCurator):
    """Take numbers for logits of votes, over and over for as many as are needed."""

    def fit(self, X, y=None):
        votes = self._votes(X, reset=True)
        # Three clear galaxies of each class: there may be none among random points.
        clear = pd.DataFrame(0.0, index=range(3 * len(LEAVES)), columns=votes.columns)
        for leaf, path in enumerate(LEAVES.values()):
            for step in path:
                clear.loc[leaf :: len(LEAVES), f"{step[0]}_fraction"] = 1.0
        return super().fit(pd.concat([votes, clear], ignore_index=True))

    def transform(self, X):
        check_is_fitted(self)
        return super().transform(self._votes(X, reset=False))

    def _votes(self, X, reset):
        # Votes are what their columns say, whatever the order of these; here it counts.
        X = validate_data(self, X, reset=reset, dtype=float, ensure_min_samples=1)
        logits = np.resize(X.T, (len(ANSWERS), len(X))).T
        names = [f"{answer}_fraction" for answer in ANSWERS]
        return pd.DataFrame(1 / (1 + np.exp(-logits)), columns=names)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.allow_nan = False
        return tags


class ReaderOfNumbers(ImageReader):
    """Take rows of numbers for one of eight files."""

    def fit(self, X, y=None):
        validate_data(self, X)
        return super().fit(X)

    def transform(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=float)
        files = sorted(Path(FOLDER.name).iterdir())
        return super().transform([files[int(10 * row.sum()) % 8] for row in X])

    def __sklearn_is_fitted__(self):
        return hasattr(self, "n_features_in_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.string = False
        tags.requires_fit = True
        return tags


FOLDER = tempfile.TemporaryDirectory()


@pytest.fixture(scope="module", autouse=True)
def files():
    for number in range(8):
        pixels = np.full((8, 8, 3), 30 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(f"{FOLDER.name}/{number}.png")
    yield
    FOLDER.cleanup()


OF_NUMBERS = [
    CuratorOfNumbers(n_train=2, n_test=1, random_state=0),
    ReaderOfNumbers(size=4),
]


@parametrize_with_checks(OF_NUMBERS)
def test_checks_of_tables(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "estimator",
    [CuratorOfNumbers(n_train=2, n_test=1, random_state=0), ReaderOfNumbers(size=4)],
    ids=of_type,
)
def test_parameters_of_what_takes_tables(estimator):
    check_param_validation(type(estimator).__name__, estimator)
