import pickle

import numpy as np
import pandas as pd
import polars
import pytest
from sklearn.base import clone
from sklearn.model_selection import GroupKFold

from skdistill.curation import RotationAugmenter


@pytest.fixture
def rows():
    return pd.DataFrame({"asset_id": [5, 3, 9]}, index=["a", "b", "c"])


def test_default_is_ten_steps_of_36_degrees(rows):
    before = rows.copy()
    rotated, labels = RotationAugmenter().fit_resample(rows, ["x", "y", "x"])
    pd.testing.assert_frame_equal(rows, before)
    assert len(rotated) == 30
    np.testing.assert_allclose(rotated["rotation"], np.tile(np.arange(10) * 36, 3))
    assert rotated["asset_id"].tolist() == np.repeat([5, 3, 9], 10).tolist()
    assert rotated.index.tolist() == list("a" * 10 + "b" * 10 + "c" * 10)
    assert labels == ["x"] * 10 + ["y"] * 10 + ["x"] * 10


def test_angles_add_to_those_that_are_there(rows):
    rows["rotation"] = [0, 90, -20]
    rotated, _ = RotationAugmenter(2).fit_resample(rows)
    assert rotated["rotation"].tolist() == [0, 180, 90, 270, 340, 160]
    assert rotated.columns.tolist() == ["asset_id", "rotation"]


@pytest.mark.parametrize("kind", [list, np.array, pd.Series])
def test_labels_keep_their_type(rows, kind):
    labels = kind([4, 5, 6])
    rotated, repeated = RotationAugmenter(2).fit_resample(rows, labels)
    assert type(repeated) is type(labels)
    assert list(repeated) == [4, 4, 5, 5, 6, 6]
    assert len(rotated) == 6


def test_without_labels(rows):
    rotated, labels = RotationAugmenter(1).fit_resample(rows)
    assert labels is None
    assert rotated["rotation"].tolist() == [0, 0, 0]


def test_sample_indices_keep_a_galaxy_on_one_side(rows):
    augmenter = RotationAugmenter(4)
    rotated, _ = augmenter.fit_resample(rows)
    groups = augmenter.sample_indices_
    assert rotated["asset_id"].tolist() == rows["asset_id"].iloc[groups].tolist()
    for train, test in GroupKFold(n_splits=3).split(rotated, groups=groups):
        galaxies = rotated["asset_id"].to_numpy()
        assert not set(galaxies[train]) & set(galaxies[test])


def test_clone_and_pickle(rows):
    augmenter = RotationAugmenter(3)
    assert clone(augmenter).n_rotations == 3
    copy = pickle.loads(pickle.dumps(augmenter.fit(rows)))
    np.testing.assert_array_equal(copy.sample_indices_, augmenter.sample_indices_)


def test_array_of_columns_gets_one_more():
    rows = np.array([[1.5, np.nan], [2.5, 4.0]])
    rotated, labels = RotationAugmenter(2).fit_resample(rows, ["a", "b"])
    np.testing.assert_array_equal(
        rotated,
        [[1.5, np.nan, 0], [1.5, np.nan, 180], [2.5, 4.0, 0], [2.5, 4.0, 180]],
    )
    assert labels == ["a", "a", "b", "b"]
    texts, _ = RotationAugmenter(2).fit_resample([["a.jpg"], ["b.jpg"]])
    assert texts.tolist()[1] == ["a.jpg", 180.0]


def test_polars_in_polars_out(rows):
    rows["rotation"] = [0.0, 90.0, -20.0]
    table = polars.DataFrame(rows.to_dict("list"))
    rotated, _ = RotationAugmenter(2).fit_resample(table)
    expected, _ = RotationAugmenter(2).fit_resample(rows)
    assert isinstance(rotated, polars.DataFrame)
    assert rotated.to_dict(as_series=False) == expected.to_dict("list")
    with pytest.raises(ValueError, match="row 1 is nan"):
        RotationAugmenter().fit_resample(
            table.with_columns(rotation=polars.Series([0.0, None, 0.0]))
        )


def test_errors(rows):
    augmenter = RotationAugmenter()
    with pytest.raises(ValueError, match=r"Expected 2D array"):
        augmenter.fit_resample([1, 2], [1, 2])
    with pytest.raises(ValueError, match="at least one row"):
        augmenter.fit_resample(rows.iloc[:0])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        augmenter.fit_resample(rows, [1, 2])
    with pytest.raises(ValueError, match="'rotation' must hold degrees"):
        augmenter.fit_resample(rows.assign(rotation="left"))
    with pytest.raises(ValueError, match="row 'b' is nan"):
        augmenter.fit_resample(rows.assign(rotation=[0, np.nan, 0]))
    for n_rotations in (0, 2.5):
        with pytest.raises(ValueError, match="The 'n_rotations' parameter"):
            RotationAugmenter(n_rotations).fit_resample(rows)
