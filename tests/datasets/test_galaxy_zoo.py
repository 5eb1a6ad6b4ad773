import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skdistill import GalaxyZooCurator, RotationAugmenter, make_galaxies
from skdistill.datasets import load_galaxy_zoo2

# Neighbours that are one and the same number as float64.
OBJIDS = [587722981736120347, 587722981736120346, 587722981736120345]


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "dr7objid": OBJIDS,
            "sample": ["original", "extra", "original"],
            "t01_smooth_or_features_a01_smooth_fraction": [0.1, 0.5, 0.9],
        }
    )


@pytest.fixture
def mapping():
    return pd.DataFrame(
        {
            "objid": [*OBJIDS[::-1], 587722981736579107],
            "sample": ["mapped"] * 4,
            "asset_id": [30, 20, 10, 40],
        }
    )


@pytest.fixture
def images_dir(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ["10.png", "20.jpg", "20.png", "30.jpeg", "40.jpg", "notes.jpg"]:
        (folder / name).touch()
    return folder


def write(frame, path):
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["v.csv", "v.csv.gz", "v.parquet"])
def test_reads_files_with_exact_ids(table, tmp_path, name):
    path = write(table, tmp_path / name)
    for source in [path, str(path)]:
        galaxies = load_galaxy_zoo2(source)
        pd.testing.assert_frame_equal(galaxies, table)
        assert galaxies["dr7objid"].dtype == np.int64
        assert galaxies["dr7objid"].tolist() == OBJIDS


def test_joins_mapping_by_exact_id(table, mapping, tmp_path):
    path = write(mapping, tmp_path / "mapping.csv")
    for source in [mapping, path]:
        galaxies = load_galaxy_zoo2(table, mapping=source)
        assert galaxies["asset_id"].tolist() == [10, 20, 30]
        assert galaxies["asset_id"].dtype == np.int64
        assert galaxies["sample"].tolist() == ["original", "extra", "original"]
        assert "objid" not in galaxies
    assert "asset_id" not in table


def test_joins_on_objid_without_dr7objid(table, mapping):
    renamed = table.rename(columns={"dr7objid": "objid"})
    galaxies = load_galaxy_zoo2(renamed, mapping=mapping)
    assert galaxies["asset_id"].tolist() == [10, 20, 30]


def test_own_asset_ids_win_over_mapping(table, mapping):
    galaxies = load_galaxy_zoo2(table.assign(asset_id=[7, 8, 9]), mapping=mapping)
    assert galaxies["asset_id"].tolist() == [7, 8, 9]


def test_unmapped_rows_stay_without_images(table, mapping):
    galaxies = load_galaxy_zoo2(table, mapping=mapping[1:])
    assert galaxies["asset_id"].dtype == "Int64"
    assert galaxies["asset_id"].isna().tolist() == [False, False, True]


def test_paths(table, mapping, images_dir):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        galaxies = load_galaxy_zoo2(table, images_dir, mapping)
    names = [Path(path).name for path in galaxies["path"]]
    assert names == ["10.png", "20.jpg", "30.jpeg"]
    assert all(Path(path).is_file() for path in galaxies["path"])


def test_rows_without_image_are_dropped(table, mapping, images_dir, tmp_path):
    (images_dir / "10.png").unlink()
    table.index = ["a", "b", "c"]
    with pytest.warns(UserWarning, match="Dropped 1 of 3 galaxies") as record:
        galaxies = load_galaxy_zoo2(table, images_dir, mapping)
    assert len(record) == 1
    assert record[0].filename == __file__
    assert galaxies.index.tolist() == ["b", "c"]
    assert galaxies["asset_id"].dtype == np.int64
    # Unmapped galaxies have no image either.
    with pytest.warns(UserWarning, match="Dropped 2 of 3 galaxies"):
        galaxies = load_galaxy_zoo2(table, images_dir, mapping[1:])
    assert galaxies["asset_id"].tolist() == [20]
    assert galaxies["asset_id"].dtype == np.int64
    path = write(table, tmp_path / "votes.csv")
    with pytest.warns(UserWarning, match="Dropped 1"):
        galaxies = load_galaxy_zoo2(path, images_dir, mapping)
    assert galaxies.index.tolist() == [0, 1]


def test_identifiers_as_text(table):
    galaxies = load_galaxy_zoo2(table.astype({"dr7objid": str}))
    assert galaxies["dr7objid"].tolist() == OBJIDS


@pytest.mark.parametrize("name", ["votes.csv", "votes.parquet"])
def test_missing_file(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"`votes` must .*{name}"):
        load_galaxy_zoo2(tmp_path / name)


def test_missing_mapping_and_folder(table, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`mapping` must .*nothing\.csv"):
        load_galaxy_zoo2(table, mapping=tmp_path / "nothing.csv")
    with pytest.raises(FileNotFoundError, match=r"`images_dir` must .*nowhere"):
        load_galaxy_zoo2(table.assign(asset_id=1), tmp_path / "nowhere")


def test_unknown_suffix(tmp_path):
    path = tmp_path / "votes.fits"
    path.touch()
    with pytest.raises(ValueError, match=r"`votes` must end in .*votes\.fits"):
        load_galaxy_zoo2(path)


def test_no_way_to_asset_ids(table, images_dir):
    with pytest.raises(ValueError, match=r"'asset_id'.*'dr7objid'"):
        load_galaxy_zoo2(table, images_dir)


def test_missing_columns(table, mapping):
    with pytest.raises(ValueError, match=r"`mapping`.*missing \['objid'\].*'sample'"):
        load_galaxy_zoo2(table, mapping=mapping.drop(columns="objid"))
    with pytest.raises(ValueError, match=r"'dr7objid' or 'objid'.*'sample'"):
        load_galaxy_zoo2(table.drop(columns="dr7objid"), mapping=mapping)


def test_float_identifiers_are_refused(table):
    with pytest.raises(ValueError, match=r"`votes`.*'dr7objid'; got float64"):
        load_galaxy_zoo2(table.astype({"dr7objid": float}))


@pytest.mark.parametrize("wrong", ["", "5.877e17", "abc", "12.5"])
def test_wrong_identifiers_in_a_file(table, tmp_path, wrong):
    table["dr7objid"] = table["dr7objid"].astype(object)
    table.loc[1, "dr7objid"] = wrong
    path = write(table, tmp_path / "votes.csv")
    with pytest.raises(ValueError, match=r"votes\.csv.*whole numbers.*'dr7objid'"):
        load_galaxy_zoo2(path)


def test_no_image_at_all(table, tmp_path):
    with pytest.raises(ValueError, match=r"`images_dir` must .* 3 galaxies"):
        load_galaxy_zoo2(table.assign(asset_id=[1, 2, 3]), tmp_path)


def test_real_sample(shared_data):
    folder = shared_data / "gz2-sample"
    galaxies = load_galaxy_zoo2(folder / "votes.csv", folder / "images")
    assert len(galaxies) == 850
    assert galaxies["objid"].dtype == galaxies["asset_id"].dtype == np.int64
    assert galaxies["objid"].is_unique
    assert galaxies.loc[0, "path"] == str(folder / "images" / "130549.jpg")


def test_real_catalogue_without_images(shared_data):
    galaxies = load_galaxy_zoo2(shared_data / "gz2-stripe82" / "table5.csv.gz")
    assert galaxies.shape == (19761, 228)
    assert galaxies["objid"].dtype == np.int64
    assert galaxies["objid"].iloc[0] == 8647474690312307154


@pytest.mark.filterwarnings("error")
def test_wide_tables_pass_without_a_word_about_fragments(tmp_path):
    """pandas reads a table of many columns in as many pieces, and complains later."""
    images, _, votes = make_galaxies(45, size=8, random_state=0, return_votes=True)
    for asset_id, image in zip(votes["asset_id"], images, strict=True):
        pixels = Image.fromarray((image * 255).astype(np.uint8))
        pixels.save(tmp_path / f"{asset_id}.png")
    votes.to_csv(tmp_path / "votes.csv", index=False)
    galaxies = load_galaxy_zoo2(tmp_path / "votes.csv", tmp_path)
    curator = GalaxyZooCurator(n_train=None, n_test=1, votes="debiased")
    rows, labels = curator.fit_resample(pd.read_csv(tmp_path / "votes.csv"))
    assert len(galaxies) == len(rows) == len(labels) == 45
    rotated, _ = RotationAugmenter(n_rotations=2).fit_resample(galaxies)
    assert len(rotated) == 90
