"""Every public way in for a table with ids, or for image files, has the same checks.

The ways are found by introspection: a new one fails until it is listed here, and what
is listed has to pass.
"""

import inspect
import io
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pandas as pd
import polars
import pytest
from PIL import Image

import skdistill
import skdistill.curation
import skdistill.datasets
import skdistill.inspection
import skdistill.metrics
from skdistill import (
    GalaxyZooCurator,
    ImageReader,
    RotationAugmenter,
    load_cifar10,
    load_cifar100,
    load_galaxy_zoo2,
    load_image_folder,
    make_galaxies,
)

ROOMS = (
    skdistill,
    skdistill.curation,
    skdistill.datasets,
    skdistill.inspection,
    skdistill.metrics,
)
# Parameters that are tables of objects, or places of files of images.
TABLES = {"rows", "catalog", "mapping", "table", "frame", "galaxies"}
PLACES = {"images_dir", "images_path", "file", "files", "archive", "data_home"}

# Why these are none.
NO_TABLES = {
    "GalaxyZooCurator.transform": "scores rows one by one, and divides nothing",
    "ImageReader.fit": "ignores its argument",
    "MeasuresDisplay": "its table is of measures, and has no objects",
    "NeighborsDisplay": "its table is of images, found by their positions",
    "EvolutionDisplay": "its rows are those of a figure",
    "TreeDisplay": "its rows are those of a figure",
}
NO_PLACES = {"fetch_galaxy_zoo2": "hands what it downloads to load_galaxy_zoo2"}


def public_functions():
    """Names of all public functions and methods, with their parameters."""
    found = {}
    for room in ROOMS:
        for name in room.__all__ if hasattr(room, "__all__") else dir(room):
            thing = getattr(room, name)
            if inspect.isclass(thing):
                found[name] = thing.__init__
                for method, function in inspect.getmembers(thing, callable):
                    if not method.startswith(("_", "set_")):
                        found[f"{name}.{method}"] = function
            elif inspect.isroutine(thing):
                found[name] = thing
    parameters = {}
    for name, function in found.items():
        try:
            parameters[name] = set(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            continue
    return parameters


def with_parameters(names, without):
    parameters = public_functions()
    assert set(without) <= set(parameters)
    return {n for n, some in parameters.items() if some & names} - set(without)


# The ways in for a table. Each takes one in which every galaxy has two rows, and the
# name of the column of ids; it returns whether galaxies were told apart by their ids.


def separated(curator, n):
    galaxy = curator.sample_indices_ % n
    test = (curator.selected_["split"] == "test").to_numpy()
    return not set(galaxy[test]) & set(galaxy[~test])


def curator_fit(table, name):
    curator = GalaxyZooCurator(
        n_train=3, n_test=3, rare_classes="drop", random_state=0
    ).fit(table)
    return separated(curator, len(table) // 2)


def curator_fit_transform(table, name):
    curator = GalaxyZooCurator(n_train=3, n_test=3, rare_classes="drop", random_state=0)
    curator.fit_transform(table)
    return separated(curator, len(table) // 2)


def curator_fit_resample(table, name):
    curator = GalaxyZooCurator(n_train=3, n_test=3, rare_classes="drop", random_state=0)
    curator.fit_resample(table)
    return separated(curator, len(table) // 2)


def augmenter_fit(table, name):
    groups = RotationAugmenter(1).fit(table).groups_
    return groups.tolist() == 2 * list(range(len(table) // 2))


def augmenter_fit_resample(table, name):
    augmenter = RotationAugmenter(1)
    augmenter.fit_resample(table)
    return augmenter.groups_.tolist() == 2 * list(range(len(table) // 2))


def reader_transform(table, name):
    n = len(table) // 2
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    split = ["train"] * n + ["test"] * n
    if isinstance(table, pd.DataFrame):
        table = table.assign(image=[buffer.getvalue()] * 2 * n, split=split)
    else:
        images = polars.Series("image", [buffer.getvalue()] * 2 * n)
        table = table.with_columns(images, polars.Series("split", split))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ImageReader(size=2, crop=1).transform(table)
    if not isinstance(table, pd.DataFrame) or name in table:
        return any(
            f"{n} objects" in str(w.message) and name in str(w.message) for w in caught
        )
    return any(f"{n} objects are in more" in str(w.message) for w in caught)


def reader_fit_transform(table, name):
    return reader_transform(table, name)


def load_votes(table, name):
    loaded = load_galaxy_zoo2(table, mapping=MAPPING)
    return loaded["asset_id"].tolist() == 2 * list(range(len(loaded) // 2))


TABLE_DOORS = {
    "GalaxyZooCurator.fit": curator_fit,
    "GalaxyZooCurator.fit_transform": curator_fit_transform,
    "GalaxyZooCurator.fit_resample": curator_fit_resample,
    "RotationAugmenter.fit": augmenter_fit,
    "RotationAugmenter.fit_resample": augmenter_fit_resample,
    "ImageReader.transform": reader_transform,
    "ImageReader.fit_transform": reader_fit_transform,
    "load_galaxy_zoo2": load_votes,
}
# scikit-learn calls the first argument of these X.
INHERITED = {"GalaxyZooCurator.fit_transform", "ImageReader.fit_transform"}

FIRST = 587722981736120347
_, _, VOTES = make_galaxies(108, size=8, random_state=0, return_votes=True)
VOTES = VOTES.drop(columns="asset_id").assign(dr7objid=FIRST + np.arange(108))
MAPPING = pd.DataFrame({"objid": VOTES["dr7objid"], "asset_id": range(108)})

FORMS = {
    "int": int,
    "text": str,
    "blanks": " {} ".format,
    "zeros": "00{}".format,
    "bytes": lambda i: str(i).encode(),
}


def test_every_table_has_a_door():
    assert with_parameters(TABLES, NO_TABLES) | INHERITED == set(TABLE_DOORS)


@pytest.mark.filterwarnings("ignore:.*(in more than one set|share their id)")
@pytest.mark.parametrize("kind", ["pandas", "polars", "index"])
@pytest.mark.parametrize("name", ["dr7objid", "OBJID", "dr8objid", "iauname"])
@pytest.mark.parametrize("door", TABLE_DOORS)
def test_one_galaxy_by_any_name(door, name, kind):
    table = VOTES.rename(columns={"dr7objid": name})
    # Other votes, so that nothing but the id tells.
    again = table.assign(**{table.columns[-1]: 0.123})
    twice = pd.concat([table, again], ignore_index=True)
    if kind == "index":
        twice = twice.set_index(name)
    elif kind == "polars":
        twice = polars.DataFrame({c: twice[c].tolist() for c in twice})
    assert TABLE_DOORS[door](twice, name)


@pytest.mark.filterwarnings("ignore:.*(in more than one set|share their id)")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("door", TABLE_DOORS)
def test_one_galaxy_in_any_form(door, form):
    again = VOTES.assign(**{VOTES.columns[-1]: 0.123})
    again["dr7objid"] = again["dr7objid"].map(FORMS[form]).astype(object)
    twice = pd.concat([VOTES.astype({"dr7objid": object}), again], ignore_index=True)
    assert TABLE_DOORS[door](twice, "dr7objid")


# The ways in for image files by an id.


def read_folder(table, place):
    ImageReader(images_dir=place).transform(table)


def load_folder(table, place):
    load_galaxy_zoo2(table, place)


def load_classes(table, place):
    load_image_folder(
        table.assign(label="a"),
        images_dir=place,
        file_column="asset_id",
        verbose=0,
    )


PLACE_DOORS = {
    "ImageReader": read_folder,
    "load_galaxy_zoo2": load_folder,
    "load_image_folder": load_classes,
}


def test_every_place_has_a_door():
    assert with_parameters(PLACES, NO_PLACES) == set(PLACE_DOORS)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("names", [("a/1.jpg", "b/1.jpg"), ("1.png", "0001.png")])
@pytest.mark.parametrize("door", PLACE_DOORS)
def test_two_images_of_one_name(tmp_path, door, names, zipped):
    place = tmp_path / "images"
    for name in names:
        (place / name).parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (4, 4)).save(place / name)
    if zipped:
        with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
            for name in names:
                archive.write(place / name, name)
        place = tmp_path / "images.zip"
    for asset in (1, "1", "01"):
        table = pd.DataFrame({"asset_id": [asset]})
        with pytest.raises(ValueError, match="has several files of '1'"):
            PLACE_DOORS[door](table, place)


# The ways in for the bytes of an image.


def read_bytes(content, folder):
    ImageReader(size=4, crop=1).transform([content])


def cifar(load):
    def read(content, folder):
        table = pd.DataFrame({"image": [content], "label": [0]})
        table.to_parquet(folder / "train.parquet")
        load(folder)

    return read


def folder_of_classes(content, folder):
    (folder / "a").mkdir()
    (folder / "a" / "1.png").write_bytes(content)
    load_image_folder(folder, verbose=0)


BYTE_DOORS = {
    "ImageReader": read_bytes,
    "load_cifar10": cifar(load_cifar10),
    "load_cifar100": cifar(load_cifar100),
    "load_image_folder": folder_of_classes,
}


def test_every_reader_of_images_has_a_door():
    readers = {
        name
        for name, parameters in public_functions().items()
        if "image" in (getattr(skdistill, name, None).__doc__ or "").lower()
        and parameters & {"images_dir", "path"}
        and name.startswith(("load_", "read_", "fetch_", "Image"))
    }
    # A table of paths: the images are read by ImageReader.
    assert readers - {"load_galaxy_zoo2"} == set(BYTE_DOORS)


def deep_png():
    def chunk(name, data):
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\0\xff" * 96) * 32)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("door", BYTE_DOORS)
def test_no_bit_is_dropped(door, tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(
        ValueError, match="16 bits per channel are more than the 8 bits that"
    ):
        BYTE_DOORS[door](deep_png(), tmp_path)
