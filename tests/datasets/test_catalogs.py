"""A catalog as an astronomer has it: ids, votes and files under any names."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skdistill import GalaxyZooCurator, ImageReader, load_image_folder
from skdistill.datasets import load_galaxy_zoo2

# Neighbors that are one and the same number as float64.
IDS = [587722981736120347, 587722981736120346, 587722981736120345]
GRAYS = [10, 20, 30]


@pytest.fixture
def folder(tmp_path):
    """Images named after ids."""
    place = tmp_path / "cutouts"
    place.mkdir()
    for name, gray in zip(IDS, GRAYS, strict=True):
        pixels = np.full((8, 8, 3), gray, dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{name}.png")
    return place


@pytest.fixture
def catalog():
    return pd.DataFrame({"Nr. ": IDS, "type": ["a", "b", "a"]})


def write(frame, path):
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    elif path.suffix == ".fits":
        Table = pytest.importorskip("astropy.table").Table
        Table.from_pandas(frame).write(path, format="fits")
    else:
        frame.to_csv(path, index=False)
    return path


def grays(X):
    return X[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet", "fits"])
def test_ids_of_a_file_are_exact(folder, catalog, tmp_path, ending):
    catalog = catalog.rename(columns={"Nr. ": "Nr."})
    lacking = pd.DataFrame({"Nr.": [pd.NA], "type": ["b"]})
    table = pd.concat([catalog, lacking]).astype({"Nr.": "Int64"})
    path = write(table, tmp_path / f"catalog.{ending}")
    with pytest.warns(UserWarning, match="Dropped 1 of 4 galaxies"):
        rows = load_galaxy_zoo2(path, folder, id_column="Nr.")
    assert grays(ImageReader(size=8).transform(rows)) == GRAYS
    assert rows["Nr."].tolist() == IDS
    with pytest.warns(UserWarning, match="1 of 4 images are left out"):
        own = load_image_folder(
            path,
            images_dir=folder,
            file_column="Nr.",
            class_column="type",
            on_error="skip",
        )
    assert grays(own.data) == GRAYS


def test_ids_of_any_kind(folder, catalog):
    reader = ImageReader(images_dir=folder, id_column="Nr. ", size=8)
    assert grays(reader.transform(catalog)) == GRAYS
    texts = catalog.assign(**{"Nr. ": [f" 0{i} " for i in IDS]})
    assert grays(reader.transform(texts)) == GRAYS
    assert len(load_galaxy_zoo2(texts, folder, id_column="Nr. ")) == 3
    by_index = catalog.set_index("Nr. ")
    for column in ("index", "Nr. "):
        named = ImageReader(images_dir=folder, id_column=column, size=8)
        assert grays(named.transform(by_index)) == GRAYS
        assert len(load_galaxy_zoo2(by_index, folder, id_column=column)) == 3
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"Nr. ": IDS})
    assert grays(reader.transform(frame)) == GRAYS
    assert len(load_galaxy_zoo2(frame, folder, id_column="Nr. ")) == 3


def test_the_named_column_wins(folder, catalog):
    """Over columns that are called like an id, of another survey perhaps."""
    table = catalog.assign(objid=[1, 2, 3], asset_id=[4, 5, 6], path="nowhere.png")
    rows = load_galaxy_zoo2(table, folder, id_column="Nr. ")
    assert [path[-7:-4] for path in rows["path"]] == ["347", "346", "345"]
    reader = ImageReader(images_dir=folder, id_column="Nr. ", size=8)
    assert grays(reader.transform(table)) == GRAYS


def test_mapping_by_a_column_of_any_name(catalog, tmp_path):
    for name in ("Nr. ", "objid"):
        mapping = pd.DataFrame({name: IDS[::-1], "asset_id": [30, 20, 10]})
        rows = load_galaxy_zoo2(catalog, mapping=mapping, id_column="Nr. ")
        assert rows["asset_id"].tolist() == [10, 20, 30]
    for asset in (10, 20, 30):
        Image.new("L", (4, 4)).save(tmp_path / f"{asset}.png")
    rows = load_galaxy_zoo2(catalog, tmp_path, mapping, id_column="Nr. ")
    assert [path[-6:] for path in rows["path"]] == ["10.png", "20.png", "30.png"]


def test_ids_that_are_none(folder, catalog):
    with pytest.raises(
        ValueError, match=r"`id_column='Nr'` must name columns.*'Nr\. '"
    ):
        load_galaxy_zoo2(catalog, id_column="Nr")
    with pytest.raises(
        ValueError, match=r"`id_column='Nr'` must name columns.*'Nr\. '"
    ):
        ImageReader(images_dir=folder, id_column="Nr").transform(catalog)
    floats = catalog.astype({"Nr. ": float})
    reader = ImageReader(images_dir=folder, id_column="Nr. ", size=8)
    for read in (
        reader.transform,
        lambda table: load_galaxy_zoo2(table, folder, id_column="Nr. "),
    ):
        with pytest.raises(ValueError, match=r"'Nr\. ' has dtype float64"):
            read(floats)
    files = catalog.assign(**{"Nr. ": [f"{i}.png" for i in IDS]})
    with pytest.raises(
        ValueError, match=r"the name of a file: use `path_column='Nr\. '`"
    ):
        reader.transform(files)
    with pytest.raises(ValueError, match="Row 1: None is not an id"):
        reader.transform(catalog.assign(**{"Nr. ": [IDS[0], None, "x"]}))
    with pytest.raises(ValueError, match="has no id in any of 3 rows"):
        reader.transform(catalog.assign(**{"Nr. ": None}))
    with pytest.raises(FileNotFoundError, match=r"Row 2: .*5\.jpg' does not exist"):
        reader.transform(catalog.assign(**{"Nr. ": [*IDS[:2], 5]}))
    with pytest.raises(ValueError, match="cannot be used together"):
        reader.set_params(path_column="type").transform(catalog)
    reader.set_params(path_column=None)
    with pytest.raises(TypeError, match="requires a DataFrame; got list"):
        reader.transform(["1.png"])
    with pytest.raises(ValueError, match="`images_dir` must be the folder"):
        reader.set_params(images_dir=None).transform(catalog)


TREE = {"shape": {"round": "elliptical", "disk": "spiral"}}
VOTES = pd.DataFrame({"N": [40, 40, 3, 40], "R": [35, 4, 3, 30], "D": [5, 36, 0, 10]})
COLUMNS = {"shape_round": "R", "shape_disk": "D"}


def test_numbers_of_votes_under_any_name():
    curator = GalaxyZooCurator(
        tree=TREE,
        columns=COLUMNS,
        vote_unit="count",
        n_train=1,
        n_test=0,
        min_votes=20,
        id_column="index",
    )
    # Volunteers are counted by their votes, or by the column that says how many.
    for columns in (COLUMNS, COLUMNS | {"total_votes": "N"}):
        curator.set_params(columns=columns).fit(VOTES)
        assert curator.sample_indices_.tolist() == [0, 1]
    counted = VOTES.assign(N=[3, 40, 40, 40])
    assert curator.fit(counted).sample_indices_.tolist() == [2, 1]
    few = GalaxyZooCurator(tree=TREE, columns=COLUMNS, min_votes=20)
    with pytest.raises(ValueError, match=r"`columns={'total_votes': ...}` to name"):
        few.fit(VOTES.assign(R=0.5, D=0.5))


def test_columns_the_other_way_round():
    reversed_ = {column: answer for answer, column in COLUMNS.items()}
    curator = GalaxyZooCurator(tree=TREE, columns=reversed_, vote_unit="count")
    with pytest.raises(ValueError, match="not the reverse"):
        curator.fit(VOTES)
