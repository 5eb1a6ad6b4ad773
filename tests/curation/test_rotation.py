import pickle

import numpy as np
import pandas as pd
import polars
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    StratifiedGroupKFold,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsClassifier

from skdistill.curation import GalaxyZooCurator, RotationAugmenter


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
    with pytest.raises(ValueError, match="got nan in row 1"):
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
    with pytest.raises(ValueError, match="got nan in row 'b'"):
        augmenter.fit_resample(rows.assign(rotation=[0, np.nan, 0]))
    for n_rotations in (0, 2.5):
        with pytest.raises(ValueError, match="The 'n_rotations' parameter"):
            RotationAugmenter(n_rotations).fit_resample(rows)


def test_cross_validation_with_groups():
    """Copies on both sides of a split would be recognized, and the score a fake."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"brightness": rng.uniform(size=40)})
    y = rng.integers(0, 2, 40)
    augmenter = RotationAugmenter(5)
    rotated, labels = augmenter.fit_resample(rows, y)
    X = rotated[["brightness"]]
    groups = augmenter.sample_indices_
    knows_by_heart = KNeighborsClassifier(1)

    for splitter in (GroupKFold(5), StratifiedGroupKFold(5)):
        for train, test in splitter.split(X, labels, groups):
            assert not set(X["brightness"].iloc[train]) & set(
                X["brightness"].iloc[test]
            )
            assert len(test) % 5 == 0
        # The labels are drawn: nothing can be learned of them.
        fair = cross_val_score(knows_by_heart, X, labels, cv=splitter, groups=groups)
        assert fair.mean() < 0.8
        # With metadata routing splitters ask for groups by themselves.
        with config_context(enable_metadata_routing=True):
            routed = cross_val_score(
                knows_by_heart, X, labels, cv=splitter, params={"groups": groups}
            )
        np.testing.assert_array_equal(routed, fair)
    fake = cross_val_score(
        knows_by_heart, X, labels, cv=KFold(5, shuffle=True, random_state=0)
    )
    assert fake.mean() > 0.95


def test_groups_in_a_search():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"brightness": rng.uniform(size=30)})
    augmenter = RotationAugmenter(4)
    rotated, labels = augmenter.fit_resample(rows, np.arange(30) % 3)
    search = GridSearchCV(
        KNeighborsClassifier(), {"n_neighbors": [1, 5]}, cv=GroupKFold(3)
    )
    search.fit(rotated, labels, groups=augmenter.sample_indices_)
    for i in range(3):
        # Chance is a third; copies on both sides would give 1.
        assert (search.cv_results_[f"split{i}_test_score"] < 0.9).all()


def test_groups_stay_with_shuffled_and_repeated_rows():
    """Any further selection takes the groups with it, by the same positions."""
    rows = pd.DataFrame({"asset_id": np.arange(20)})
    augmenter = RotationAugmenter()
    rotated, _ = augmenter.fit_resample(rows)
    order = np.random.default_rng(0).permutation(len(rotated))
    shuffled = rotated.iloc[order]
    groups = augmenter.sample_indices_[order]
    np.testing.assert_array_equal(shuffled["asset_id"], groups)
    split = GroupShuffleSplit(3, random_state=0).split(shuffled, groups=groups)
    for train, test in split:
        assert not set(groups[train]) & set(groups[test])
        # All ten angles of a galaxy are on its side.
        assert (shuffled.iloc[test].groupby("asset_id").size() == 10).all()


def test_rotated_training_set_of_a_curator(make_catalog):
    """As in the paper: rotations of training galaxies, test galaxies as they are."""
    curator = GalaxyZooCurator(n_train=5, n_test=2, random_state=0)
    rows, labels = curator.fit_resample(make_catalog())
    train = (rows["split"] == "train").to_numpy()
    augmenter = RotationAugmenter()
    rotated, rotated_labels = augmenter.fit_resample(rows[train], labels[train])
    assert len(rotated) == 9 * 5 * 10
    assert not set(rotated["objid"]) & set(rows["objid"][~train])
    of_one = pd.Series(rotated_labels).groupby(rotated["objid"].to_numpy()).nunique()
    assert (of_one == 1).all()
    groups = rows.index[train][augmenter.sample_indices_]
    np.testing.assert_array_equal(groups, rotated.index)


def test_groups_are_galaxies():
    rows = pd.DataFrame({"GalaxyID": ["7", "8", " 07"], "asset_id": [1, 2, 3]})
    augmenter = RotationAugmenter(n_rotations=2)
    with pytest.warns(UserWarning, match="1 of 3 rows share their id, 'GalaxyID'"):
        augmenter.fit_resample(rows)
    assert augmenter.groups_.tolist() == [0, 0, 1, 1, 0, 0]
    augmenter.set_params(id_column="asset_id").fit(rows)
    assert augmenter.groups_.tolist() == augmenter.sample_indices_.tolist()
    augmenter.set_params(id_column=None).fit(rows[["asset_id"]].to_numpy())
    assert augmenter.groups_.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.warns(UserWarning, match="in more than one set") as warned:
        augmenter.fit(rows.assign(split=["train", "train", "test"]))
    assert {w.filename for w in warned} == {__file__}
