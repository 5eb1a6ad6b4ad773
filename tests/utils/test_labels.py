"""Labels, weights and values as they come: masks, missing ones, doubtful classes."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from skdistill import (
    ConvNetClassifier,
    DistilledClassifier,
    RandomSubset,
    STMDistiller,
    SyntheticSet,
    TrajectoryBuffer,
)
from skdistill.inspection import compare_classes, place_distilled
from skdistill.metrics import expected_calibration_error

X = np.random.default_rng(0).normal(size=(20, 8, 8, 1)).astype(np.float32)
Y = np.arange(20) % 2
NAMES = np.array(["spiral", "smooth"])[Y]
MASK = np.arange(20) < 3
NETWORK = ConvNetClassifier(width=2, depth=1, max_iter=1, device="cpu")


def masked(values, mask=MASK):
    return np.ma.masked_array(values, mask=mask)


def teachers():
    return TrajectoryBuffer(n_teachers=1, n_epochs=2, width=2, depth=1)


def stm():
    return STMDistiller(buffer=teachers(), n_steps=2, max_total_iter=1)


WEIGHTS = masked(np.ones(20))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: SyntheticSet(X, masked(Y)), "y"),
        (
            lambda: SyntheticSet(
                X, Y, probabilities=masked(np.eye(2)[Y], np.eye(2)[Y] > 0)
            ),
            "probabilities",
        ),
        (lambda: NETWORK.fit(X, Y, sample_weight=WEIGHTS), "sample_weight"),
        (lambda: NETWORK.fit(X, Y).score(X, Y, WEIGHTS), "sample_weight"),
        (lambda: RandomSubset().fit(X, Y, sample_weight=WEIGHTS), "sample_weight"),
        (lambda: teachers().fit(X, Y, sample_weight=WEIGHTS), "sample_weight"),
        (lambda: stm().fit(X, Y, sample_weight=WEIGHTS), "sample_weight"),
        (
            lambda: (
                DistilledClassifier(RandomSubset(), NETWORK)
                .fit(X, Y)
                .score(X, Y, WEIGHTS)
            ),
            "sample_weight",
        ),
        (
            lambda: expected_calibration_error(
                Y, masked(np.full((20, 2), 0.5), np.eye(2)[Y] > 0)
            ),
            "y_proba",
        ),
        (lambda: compare_classes(masked(X[:, 0, 0, 0]), Y, 0, 1), "values"),
        (lambda: compare_classes(X[:, 0, 0, 0], masked(Y), 0, 1), "y"),
        (
            lambda: compare_classes(X[:, 0, 0, 0], Y, 0, 1, groups=masked(Y)),
            "groups",
        ),
        (
            lambda: place_distilled(
                np.ma.masked_array(X[:, 0, 0], mask=X[:, 0, 0] > 0), Y, X[:, 0, 0], Y
            ),
            "measures",
        ),
    ],
)
def test_masks_are_refused_wherever_values_or_labels_come(call, name):
    with pytest.raises(ValueError, match=f"{name} is masked"):
        call()


@pytest.mark.parametrize(
    "labels",
    [
        [np.nan, *NAMES[1:].tolist()],
        [None, *NAMES[1:].tolist()],
        [pd.NA, *NAMES[1:].tolist()],
        [3, *NAMES[1:].tolist()],
    ],
)
def test_a_list_of_names_with_something_else_is_refused(labels):
    # np.asarray makes the class "nan" of what is missing.
    for call in (
        lambda: RandomSubset().fit(X, labels),
        lambda: NETWORK.fit(X, labels),
        lambda: SyntheticSet(X, labels),
        lambda: NETWORK.fit(X, NAMES).score(X, labels),
    ):
        with pytest.raises(ValueError, match="labels of the same type"):
            call()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.where(MASK, "nan", NAMES), "'nan', which often marks a missing"),
        (np.where(MASK, "", NAMES), "'', which often marks a missing"),
        (
            np.where(MASK, "spiral ", NAMES),
            "'spiral', 'spiral '.* capitalization, whitespace or",
        ),
        (
            np.where(MASK, "Spiral", NAMES),
            "'Spiral', 'spiral'.* capitalization, whitespace or",
        ),
        (
            np.where(MASK, "gal\u00e1xia", np.where(Y == 0, "gala\u0301xia", NAMES)),
            "'gal.*xia', 'gal.*xia'.* the encoding of accents",
        ),
    ],
)
def test_doubtful_classes_are_told_once(labels, message):
    for fit in (RandomSubset().fit, NETWORK.fit, teachers().fit, stm().fit):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(X, labels)
        told = [one for one in caught if re.search(message, str(one.message))]
        assert [one.filename for one in told] == [__file__]


def test_letters_and_plain_names_are_not_doubtful():
    for labels in (NAMES, Y, Y > 0, np.array(["a", "A"])[Y], np.array(["b ", "c"])[Y]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            RandomSubset().fit(X, labels)


def test_booleans_are_no_numbers_of_classes():
    # True is 1 to Python: such a score would say nothing.
    numbered = NETWORK.fit(X, np.arange(20) % 4)
    with pytest.raises(ValueError, match="booleans"):
        numbered.score(X, Y > 0)
    boolean = NETWORK.fit(X, Y > 0)
    with pytest.raises(ValueError, match="booleans"):
        boolean.score(X, np.arange(20) % 4)
    assert boolean.score(X, Y) == boolean.score(X, Y > 0)


def test_pictures_in_other_spaces_of_color_are_refused():
    colors = [Image.fromarray(np.full((8, 8, 3), 10 * k, np.uint8)) for k in range(20)]
    for mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        pictures = [
            Image.new("LAB", (8, 8)) if mode == "LAB" else one.convert(mode)
            for one in colors
        ]
        with pytest.raises(ValueError, match="convert\\('RGB'\\)"):
            RandomSubset().fit(pictures, Y)
    with pytest.warns(UserWarning, match="transparency is treated as a channel"):
        RandomSubset().fit([one.convert("RGBA") for one in colors], Y)
    with pytest.raises(ValueError, match="ImageReader"):
        RandomSubset().fit([b"\x89PNG"] * 20, Y)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("Int64", "i"), ("UInt8", "u"), ("boolean", "b"), ("int64[pyarrow]", "i")],
)
def test_nullable_labels_keep_their_kind(dtype, kind):
    y = pd.Series(Y, dtype=dtype)
    model = DistilledClassifier(RandomSubset(random_state=0), NETWORK).fit(X, y)
    assert model.classes_.dtype.kind == kind
    assert model.distiller_.synthetic_.y.dtype.kind == kind
    assert 0 <= model.score(X, y) <= 1
    assert RandomSubset().fit_resample(X, y)[1].dtype == y.dtype
    assert SyntheticSet(X, y).y.dtype.kind == kind
    with pytest.raises(ValueError, match=r"NaN|<NA>"):
        RandomSubset().fit(X, y.mask(y.index == 0))


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy before 2")
def test_strings_of_variable_length():
    y = NAMES.astype(np.dtypes.StringDType())
    model = DistilledClassifier(RandomSubset(random_state=0), NETWORK).fit(X, y)
    assert model.classes_.tolist() == ["smooth", "spiral"]
    assert 0 <= model.score(X, y) <= 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (dict(enumerate(NAMES)), r"got a dict: pass list\(.*\.values\(\)\)"),
        (iter(NAMES), r"got a .*iterator: pass list\("),
        (set(NAMES), "got a set: pass a list or an array"),
    ],
)
def test_labels_without_an_order_are_refused(labels, message):
    for call in (
        lambda: RandomSubset().fit(X, labels),
        lambda: NETWORK.fit(X, labels),
        lambda: SyntheticSet(X, labels),
        lambda: NETWORK.fit(X, NAMES).score(X, labels),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_labels_of_fits_tables():
    numbers = Y.astype(">i2")
    for labels in (numbers, pd.Series(numbers), numbers.astype(">i8")):
        distilled = RandomSubset(ipc=1, random_state=0).fit(X, labels).synthetic_
        assert distilled.y.dtype.isnative
        assert distilled.y.tolist() == [0, 1]
    assert SyntheticSet(X[:2], numbers[:2]).y.dtype.isnative
    found = compare_classes(pd.Series(X[:, 0, 0, 0].astype(">f4")), numbers, 0, 1)
    assert found.equals(compare_classes(X[:, 0, 0, 0], Y, 0, 1))
    packed = np.char.encode(NAMES)
    for labels in (packed, packed.astype(object), packed.tolist()):
        with pytest.raises(ValueError, match=r"got bytes, such as b's.*np.char.decode"):
            RandomSubset(ipc=1).fit(X, labels)
        with pytest.raises(ValueError, match="got bytes, such as b's"):
            expected_calibration_error(labels, np.full((20, 2), 0.5))
    decoded = np.char.decode(np.asarray(packed.astype(object), dtype="S"))
    np.testing.assert_array_equal(decoded, NAMES)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda wrong: RandomSubset().fit(X, wrong), "y"),
        (lambda wrong: NETWORK.fit(X, Y).score(X, wrong), "y"),
        (lambda wrong: RandomSubset().fit(X, Y, sample_weight=wrong), "sample_weight"),
        (lambda wrong: expected_calibration_error(Y, wrong), "y_proba"),
    ],
)
def test_tensors_that_numpy_cannot_read_are_named(call, name):
    tensor = torch.ones(20, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=rf"{name}`? must be .*tensor.*\.float\(\)"):
        call(tensor)
