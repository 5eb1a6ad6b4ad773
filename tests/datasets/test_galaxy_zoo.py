import sys
import warnings
import zipfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skdistill import GalaxyZooCurator, ImageReader, RotationAugmenter, make_galaxies
from skdistill.datasets import load_galaxy_zoo2

# Neighbors that are one and the same number as float64.
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
    for name in ["10.png", "20.jpg", "30.jpeg", "40.jpg", "notes.jpg"]:
        (folder / name).touch()
    return folder


def write(frame, path):
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    elif ".fit" in path.name.lower():
        Table = pytest.importorskip("astropy.table").Table
        Table.from_pandas(frame).write(path, format="fits")
    else:
        frame.to_csv(path, index=False)
    return path


FORMATS = ["csv", "csv.gz", "parquet", "fits", "fit", "fits.gz", "fit.gz", "FITS"]


@pytest.mark.parametrize("name", [f"votes.{ending}" for ending in FORMATS])
def test_reads_files_with_exact_ids(table, tmp_path, name):
    path = write(table, tmp_path / name)
    for source in [path, str(path)]:
        galaxies = load_galaxy_zoo2(source)
        pd.testing.assert_frame_equal(galaxies, table)
        assert galaxies["dr7objid"].dtype == np.int64
        assert galaxies["dr7objid"].dtype.isnative
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


@pytest.mark.parametrize("name", ["votes.csv", "votes.parquet", "votes.fits"])
def test_missing_file(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"`votes` must .*{name}"):
        load_galaxy_zoo2(tmp_path / name)


def test_missing_mapping_and_folder(table, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`mapping` must .*nothing\.csv"):
        load_galaxy_zoo2(table, mapping=tmp_path / "nothing.csv")
    with pytest.raises(FileNotFoundError, match=r"`images_dir` must .*nowhere"):
        load_galaxy_zoo2(table.assign(asset_id=1), tmp_path / "nowhere")


def test_unknown_suffix(tmp_path):
    path = tmp_path / "votes.txt"
    path.touch()
    with pytest.raises(ValueError, match=r"`votes` must end in .*votes\.txt"):
        load_galaxy_zoo2(path)


def test_no_way_to_asset_ids(table, images_dir):
    with pytest.raises(ValueError, match=r"named '{dr7objid}\.jpg'.*pass `mapping`"):
        load_galaxy_zoo2(table, images_dir)
    with pytest.raises(ValueError, match=r"'asset_id'.*'dr7objid'.*'sample'"):
        load_galaxy_zoo2(table.drop(columns="dr7objid"), images_dir)


def test_missing_columns(table, mapping):
    with pytest.raises(ValueError, match=r"`mapping`.*missing \['objid'\].*'sample'"):
        load_galaxy_zoo2(table, mapping=mapping.drop(columns="objid"))
    with pytest.raises(ValueError, match=r"\['dr7objid', 'objid', .*'sample'"):
        load_galaxy_zoo2(table.drop(columns="dr7objid"), mapping=mapping)


def test_float_identifiers_are_refused(table):
    with pytest.raises(ValueError, match=r"`votes`.*'dr7objid'; got float64"):
        load_galaxy_zoo2(table.astype({"dr7objid": float}))


@pytest.mark.parametrize("wrong", ["", "5.877e17", "abc", "12.5"])
def test_wrong_identifiers_in_a_file(table, tmp_path, wrong):
    table["dr7objid"] = table["dr7objid"].astype(object)
    table.loc[1, "dr7objid"] = wrong
    path = write(table, tmp_path / "votes.csv")
    with pytest.raises(ValueError, match=r"votes\.csv.*integers.*'dr7objid'"):
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


def test_real_catalog_without_images(shared_data):
    galaxies = load_galaxy_zoo2(shared_data / "gz2-stripe82" / "table5.csv.gz")
    assert galaxies.shape == (19761, 228)
    assert galaxies["objid"].dtype == np.int64
    assert galaxies["objid"].iloc[0] == 8647474690312307154


@pytest.mark.parametrize("name", ["table5.parquet", "table5.fits.gz"])
def test_real_catalog_is_the_same_in_each_format(shared_data, tmp_path, name):
    """The columns of Willett et al., to the last digit."""
    table = load_galaxy_zoo2(shared_data / "gz2-stripe82" / "table5.csv.gz")[::20]
    path = write(table, tmp_path / name)
    pd.testing.assert_frame_equal(
        load_galaxy_zoo2(path), table.reset_index(drop=True), check_exact=True
    )


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


@pytest.mark.filterwarnings("error")
def test_fits_columns_of_all_kinds(tmp_path):
    """Big-endian numbers, padded bytes, missing values, vectors, odd units."""
    fits = pytest.importorskip("astropy.io.fits")
    columns = [
        fits.Column("dr7objid", "K", array=OBJIDS),
        fits.Column("asset_id", "J", array=[1, -1, 3], null=-1),
        fits.Column("gz2_class", "6A", array=["Sc?t", "", "Er"]),
        fits.Column("votes", "I", array=[1, 2, 3], unit="bananas"),
        fits.Column("t01_smooth_or_features_a01_smooth_debiased", "E", array=[0.5] * 3),
        fits.Column("ra", "D", array=[1.0, np.nan, 3.0]),
        fits.Column("flag", "L", array=[True, False, True]),
        fits.Column("mags", "2E", array=np.arange(6).reshape(3, 2)),
        fits.Column("specobjid", "20A", array=["18446744073709551615"] * 3),
    ]
    image = fits.ImageHDU(np.zeros((2, 2)))
    table = fits.BinTableHDU.from_columns(columns)
    fits.HDUList([fits.PrimaryHDU(), image, table, table.copy()]).writeto(
        tmp_path / "votes.fits"
    )
    with pytest.warns(UserWarning, match="2 tables, .*; the first is read"):
        galaxies = load_galaxy_zoo2(tmp_path / "votes.fits")
    assert galaxies["dr7objid"].tolist() == OBJIDS
    assert galaxies["asset_id"].dtype == "Int64"
    assert galaxies["asset_id"].isna().tolist() == [False, True, False]
    assert galaxies["gz2_class"].fillna("").tolist() == ["Sc?t", "", "Er"]
    assert galaxies["votes"].tolist() == [1, 2, 3]
    assert galaxies["ra"].isna().tolist() == [False, True, False]
    assert galaxies["flag"].tolist() == [True, False, True]
    assert galaxies["mags_1"].tolist() == [1, 3, 5]
    # Beyond int64, and not joined by: as it is.
    assert galaxies["specobjid"].tolist() == ["18446744073709551615"] * 3
    kinds = [d for d in galaxies.dtypes if isinstance(d, np.dtype) and d.kind != "O"]
    assert all(d.isnative for d in kinds)
    # Arithmetic of pandas refuses what is not native.
    assert galaxies.groupby("votes")["ra"].mean().shape == (3,)


def test_identifiers_of_other_releases(table, tmp_path):
    """The tables of Willett et al. in the SDSS database have several, with gaps."""
    others = ["1237648721210769659", "", "1237648721210769660"]
    spectra = ["320933083365079040", "18446744073709551615", ""]
    path = tmp_path / "zoo2MainSpecz.csv"
    table.assign(dr8objid=others, specobjid=spectra).to_csv(path, index=False)
    galaxies = load_galaxy_zoo2(path)
    assert galaxies["dr8objid"].dtype == "Int64"
    assert galaxies["dr8objid"].dropna().tolist() == [int(i) for i in others if i]
    # One is beyond int64: left as text, digits and all.
    assert galaxies["specobjid"].fillna("").tolist() == spectra
    assert galaxies["dr7objid"].tolist() == OBJIDS


def test_fits_identifiers_as_text(table, tmp_path):
    path = write(table.astype({"dr7objid": str}), tmp_path / "votes.fits")
    assert load_galaxy_zoo2(path)["dr7objid"].tolist() == OBJIDS


def test_fits_without_a_table(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(tmp_path / "image.fits")
    with pytest.raises(ValueError, match=r"image\.fits.*it has no table"):
        load_galaxy_zoo2(tmp_path / "image.fits")


@pytest.mark.parametrize("name", [f"votes.{ending}" for ending in FORMATS])
@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")
def test_damaged_files(table, tmp_path, name):
    whole = write(table, tmp_path / name).read_bytes()
    for damaged in [b"", b"\0" * 5000, whole[: len(whole) // 2]]:
        if name == "votes.csv":
            damaged = b"dr7objid,b\n1,2,3\n1,2,3,4\n"
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"`votes` \('.*{name}'\)"):
            load_galaxy_zoo2(tmp_path / name)


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [("pyarrow.parquet", "v.parquet", "parquet"), ("astropy.io", "v.fits", "fits")],
)
def test_missing_packages_are_named(tmp_path, monkeypatch, module, name, extra):
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install skdistill\[{extra}\]"):
        load_galaxy_zoo2(tmp_path / name)


def test_columns_whose_type_changes_on_the_way(tmp_path):
    """pandas reads in chunks of some thousand rows."""
    n = 300_000
    note = ["1"] * (n - 1) + ["unclear"]
    frame = pd.DataFrame({"dr7objid": OBJIDS[0] + np.arange(n), "note": note})
    frame.to_csv(tmp_path / "votes.csv", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        galaxies = load_galaxy_zoo2(tmp_path / "votes.csv")
    assert galaxies["note"].map(type).unique().tolist() == [str]
    assert galaxies["dr7objid"].tolist() == frame["dr7objid"].tolist()


def test_missing_asset_ids_survive_a_file(table, mapping, tmp_path):
    galaxies = load_galaxy_zoo2(table, mapping=mapping[1:])
    for ending in FORMATS:
        path = write(galaxies, tmp_path / f"again.{ending}")
        again = load_galaxy_zoo2(path)
        assert again["asset_id"].dtype == "Int64"
        assert again["asset_id"].isna().tolist() == [False, False, True]
        assert again["dr7objid"].tolist() == OBJIDS
    # What pandas makes of such a column is exact, too.
    floats = pd.read_csv(tmp_path / "again.csv")
    assert floats["asset_id"].dtype == np.float64
    assert load_galaxy_zoo2(floats)["asset_id"].dtype == "Int64"


@pytest.mark.parametrize(
    "ids",
    [
        np.array([2**63, 1, 2], dtype=np.uint64),
        [Decimal("1.5"), Decimal(1), Decimal(2)],
        [1.5, 1, 2],
        [np.inf, 1, 2],
        [None, 1, 2],
        ["", "1", "2"],
    ],
)
def test_identifiers_that_would_be_cut(table, ids):
    table["dr7objid"] = pd.Series(ids)
    with pytest.raises(ValueError, match=r"`votes` .*integers.*'dr7objid'"):
        load_galaxy_zoo2(table)


def test_identifiers_of_other_kinds(table):
    for ids in [
        [Decimal(i) for i in OBJIDS],
        pd.array(OBJIDS, dtype="Int64"),
        np.array(OBJIDS, dtype=np.uint64),
        np.array(OBJIDS, dtype=">i8"),
        [str(i).encode() for i in OBJIDS],
    ]:
        galaxies = load_galaxy_zoo2(table.assign(dr7objid=ids))
        assert galaxies["dr7objid"].dtype == "int64"
        assert galaxies["dr7objid"].tolist() == OBJIDS


def test_tables_of_polars(table, mapping):
    polars = pytest.importorskip("polars")
    votes = {name: column.tolist() for name, column in table.items()}
    objects = {name: column.tolist() for name, column in mapping.items()}
    galaxies = load_galaxy_zoo2(
        polars.DataFrame(votes), mapping=polars.DataFrame(objects)
    )
    assert galaxies["dr7objid"].tolist() == OBJIDS
    assert galaxies["asset_id"].tolist() == [10, 20, 30]


def test_the_users_table_is_not_changed(table, mapping, images_dir):
    before = table.copy()
    galaxies = load_galaxy_zoo2(table, images_dir, mapping)
    galaxies["sample"] = "changed"
    galaxies.iloc[0, 0] = 1
    pd.testing.assert_frame_equal(table, before)


def test_images_in_an_archive(table, mapping, images_dir, tmp_path):
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for image in images_dir.iterdir():
            archive.writestr(f"deep/inside/{image.name}", b"")
    galaxies = load_galaxy_zoo2(table, path, mapping)
    assert galaxies["path"].tolist() == [
        f"{path}!/deep/inside/{name}" for name in ["10.png", "20.jpg", "30.jpeg"]
    ]


@pytest.fixture
def galaxy_datasets(tmp_path):
    """A catalog and images as the galaxy-datasets package leaves them."""
    catalog = pd.DataFrame(
        {
            "id_str": [str(i) for i in OBJIDS],
            "file_loc": [f"/elsewhere/{i}.jpg" for i in OBJIDS],
            "smooth-or-featured-gz2_smooth": [10, 20, 30],
            "smooth-or-featured-gz2_smooth_fraction": [0.1, 0.2, 0.3],
            "smooth-or-featured-gz2_total-votes": [100, 100, 100],
            "summary": ["smooth"] * 3,
        }
    )
    for i in OBJIDS[1:]:
        folder = tmp_path / "images" / str(i)[:6]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.jpg").touch()
    return catalog, tmp_path / "images"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_catalogs_of_galaxy_datasets(galaxy_datasets, tmp_path, ending):
    catalog, images_dir = galaxy_datasets
    path = write(catalog, tmp_path / f"catalog.{ending}")
    # As it is without `images_dir`: ImageReader knows `file_loc`.
    pd.testing.assert_frame_equal(load_galaxy_zoo2(path), catalog)
    with pytest.warns(UserWarning, match="Dropped 1 of 3"):
        galaxies = load_galaxy_zoo2(path, images_dir)
    assert galaxies["id_str"].tolist() == [str(i) for i in OBJIDS[1:]]
    assert [Path(p).name for p in galaxies["path"]] == [f"{i}.jpg" for i in OBJIDS[1:]]
    mapping = pd.DataFrame({"objid": OBJIDS, "asset_id": [1, 2, 3]})
    assert load_galaxy_zoo2(path, mapping=mapping)["asset_id"].tolist() == [1, 2, 3]


def test_names_that_are_not_numbers_have_no_image(galaxy_datasets):
    catalog, images_dir = galaxy_datasets
    catalog["id_str"] = ["J123.45+6", catalog["id_str"][1], "9" * 30]
    with pytest.warns(UserWarning, match="Dropped 2 of 3"):
        galaxies = load_galaxy_zoo2(catalog, images_dir)
    assert galaxies["id_str"].tolist() == [str(OBJIDS[1])]


GALAXY_DATASETS_NAMES = {
    "smooth-or-featured-gz2_smooth": "t01_smooth_or_features_a01_smooth",
    "smooth-or-featured-gz2_featured-or-disk": (
        "t01_smooth_or_features_a02_features_or_disk"
    ),
    "disk-edge-on-gz2_yes": "t02_edgeon_a04_yes",
    "disk-edge-on-gz2_no": "t02_edgeon_a05_no",
    "bar-gz2_yes": "t03_bar_a06_bar",
    "bar-gz2_no": "t03_bar_a07_no_bar",
    "has-spiral-arms-gz2_yes": "t04_spiral_a08_spiral",
    "has-spiral-arms-gz2_no": "t04_spiral_a09_no_spiral",
    "how-rounded-gz2_round": "t07_rounded_a16_completely_round",
    "how-rounded-gz2_in-between": "t07_rounded_a17_in_between",
    "how-rounded-gz2_cigar": "t07_rounded_a18_cigar_shaped",
    "bulge-shape-gz2_round": "t09_bulge_shape_a25_rounded",
    "bulge-shape-gz2_boxy": "t09_bulge_shape_a26_boxy",
    "bulge-shape-gz2_no-bulge": "t09_bulge_shape_a27_no_bulge",
}


def test_catalog_of_galaxy_datasets_is_curated():
    """The votes of simulated galaxies under the names of that package."""
    _, _, votes = make_galaxies(90, size=8, random_state=0, return_votes=True)
    fractions = {
        f"{other}_fraction": votes[f"{answer}_fraction"]
        for other, answer in GALAXY_DATASETS_NAMES.items()
    }
    catalog = pd.DataFrame({"id_str": votes["dr7objid"].astype(str)} | fractions)
    expected, labels = GalaxyZooCurator(n_train=2, n_test=1).fit_resample(votes)
    rows, same = GalaxyZooCurator(n_train=2, n_test=1).fit_resample(
        load_galaxy_zoo2(catalog)
    )
    assert rows["id_str"].tolist() == expected["dr7objid"].astype(str).tolist()
    assert same.tolist() == labels.tolist()


def test_two_images_of_one_name(tmp_path):
    table = pd.DataFrame({"asset_id": [1, 2]})
    for name in ("images/train/1.jpg", "images/test/1.jpg", "images/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for part in ("train", "test"):
            archive.write(tmp_path / "images/train/1.jpg", f"{part}/1.jpg")
        archive.write(tmp_path / "images/2.jpg", "2.jpg")
    for place in (tmp_path / "images", tmp_path / "images.zip"):
        for call in (
            lambda place=place: load_galaxy_zoo2(table, place),
            lambda place=place: ImageReader(images_dir=place).transform(table),
        ):
            with pytest.raises(ValueError, match=r"has several files of '1': .*test/1"):
                call()
        # Those that nobody asks for do not matter.
        assert len(load_galaxy_zoo2(table[1:], place)) == 1
        assert len(ImageReader(images_dir=place).transform(table[1:])) == 1


@pytest.mark.parametrize("zipped", [False, True])
def test_one_number_in_two_ways_and_two_endings(tmp_path, zipped):
    for name, gray in (("0001.png", 0), ("2.png", 0), ("2.jpg", 200), ("03.JPG", 200)):
        Image.new("RGB", (8, 8), (gray,) * 3).save(tmp_path / name)
    place = tmp_path
    if zipped:
        place = tmp_path / "images.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for path in sorted(tmp_path.glob("*.[pjJ]*")):
                archive.write(path, path.name)
    table = pd.DataFrame({"asset_id": [1, 3]})
    paths = load_galaxy_zoo2(table, place)["path"]
    assert [Path(path).name for path in paths] == ["0001.png", "03.JPG"]
    X = ImageReader(images_dir=place).transform(table)
    assert X.mean(axis=(1, 2, 3)).tolist() == [0, 200]
    table["asset_id"] = [2, 3]
    message = "1 images exist with several extensions .*2.jpg'"
    with pytest.warns(UserWarning, match=message) as warned:
        assert load_galaxy_zoo2(table, place)["path"][0].endswith("2.jpg")
    with pytest.warns(UserWarning, match=message) as warned_too:
        X = ImageReader(images_dir=place).transform(table)
    assert {w.filename for w in [*warned, *warned_too]} == {__file__}
    assert X.mean(axis=(1, 2, 3)).tolist() == [200, 200]
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"several files of '1': .*0001.png.*1.png"):
        load_galaxy_zoo2(table.assign(asset_id=1), tmp_path)


def test_mappings_that_are_not_one_to_one(table, mapping):
    twice = pd.concat([mapping, mapping.iloc[:1].assign(asset_id=31)])
    with pytest.warns(UserWarning, match="more than one asset") as warned:
        galaxies = load_galaxy_zoo2(table, mapping=twice)
    assert warned[0].filename == __file__
    assert galaxies["asset_id"].tolist() == [10, 20, 30]
    # The same row twice says nothing new; nor do objects of other tables.
    load_galaxy_zoo2(table, mapping=pd.concat([mapping, mapping]))
    load_galaxy_zoo2(table[:1], mapping=twice)
    with pytest.warns(UserWarning, match="more than one object"):
        load_galaxy_zoo2(table, mapping=mapping.assign(asset_id=7))


def test_a_mapping_of_other_objects(table, mapping, images_dir):
    other = mapping.assign(objid=mapping["objid"] + 10**15)
    for folder in (None, images_dir):
        with pytest.raises(
            ValueError,
            match=r"`mapping` .* none of its 4 objects, 'objid', such as",
        ):
            load_galaxy_zoo2(table, folder, other)


@pytest.mark.parametrize("name", ["OBJID", "objID", "dr8objid", "iauname", "galaxy id"])
def test_ids_of_other_names(table, mapping, images_dir, name):
    renamed = table.rename(columns={"dr7objid": name})
    galaxies = load_galaxy_zoo2(renamed, images_dir, mapping)
    assert galaxies["asset_id"].tolist() == [10, 20, 30]
    capitals = mapping.rename(columns=str.upper)
    texts = renamed.assign(**{name: [f" 0{i} " for i in OBJIDS]})
    assert load_galaxy_zoo2(texts, mapping=capitals)["asset_id"].tolist() == [
        10,
        20,
        30,
    ]
    by_index = load_galaxy_zoo2(renamed.set_index(name), mapping=mapping)
    assert by_index["asset_id"].tolist() == [10, 20, 30]


def test_missing_asset_ids_where_images_are_named_otherwise(tmp_path):
    for objid in (7, 8):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{objid}.PNG")
    votes = pd.DataFrame({"objid": [8, 7, 9], "asset_id": [5.0, np.nan, 6.0]})
    with pytest.warns(UserWarning, match="Dropped 1 of 3 galaxies"):
        galaxies = load_galaxy_zoo2(votes, tmp_path, id_column="objid")
    assert [Path(path).name for path in galaxies["path"]] == ["8.PNG", "7.PNG"]
    assert galaxies["asset_id"].tolist() == [5, pd.NA]


def test_a_split_with_a_galaxy_in_both_sets(table, images_dir):
    table = table.assign(asset_id=[10, 20, 10], split=["train", "train", "test"])
    with pytest.warns(UserWarning, match="share 'asset_id', the first '10'") as warned:
        load_galaxy_zoo2(table, images_dir)
    assert {w.filename for w in warned} == {__file__}
    for path in images_dir.iterdir():
        Image.new("RGB", (8, 8)).save(path)
    with pytest.warns(UserWarning, match="share the file of the image, the first"):
        ImageReader(images_dir=images_dir, size=4).transform(table)
