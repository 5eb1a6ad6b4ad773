"""Every public parameter that takes a path takes one of the home folder.

The parameters are found by introspection: a new one fails until it is listed here, and
what is listed has to pass.
"""

import importlib
import inspect
import os
import pkgutil
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone

import skdistill
from skdistill import (
    BPTTDistiller,
    CAFEDistiller,
    ChannelScaler,
    ConvNetClassifier,
    DCDistiller,
    DMDistiller,
    DSADistiller,
    FRePoDistiller,
    ImageReader,
    KIPDistiller,
    MTTDistiller,
    NCFMDistiller,
    RandomSubset,
    RFADDistiller,
    STMDistiller,
    SyntheticSet,
    TrajectoryBuffer,
    ZCAWhitener,
    from_huggingface,
    from_pil_images,
    from_torch_dataset,
    load_cifar10,
    load_cifar100,
    load_galaxy_zoo2,
    load_image_folder,
)
from skdistill.datasets import fetch_galaxy_zoo2
from skdistill.inspection import EvolutionDisplay, find_label_errors, report
from skdistill.metrics import compare_distillers, export_ddranking, load_ddranking
from skdistill.trajectory import drop_teachers, list_teachers, merge_buffers
from skdistill.utils._files import as_path

# What parameters that take paths are called, or might be.
NAMES = re.compile(
    r"(.*_)?(path|paths|file|files|filename|folder|folders|dir|directory|out|output|"
    r"checkpoint|root|home|cache|buffer|mapping|archive)|votes"
)
NO_PATHS = {
    ("GalaxyZooCurator", "votes"): "the suffix of a name of columns",
    ("fetch_galaxy_zoo2", "votes"): "the suffix of a name of columns",
    ("make_galaxies", "return_votes"): "a switch",
}
NETWORK = {"width": 2, "depth": 1, "device": "cpu", "random_state": 0}
X = np.random.default_rng(0).uniform(size=(8, 8, 8, 3)).astype(np.float32)
Y = np.arange(8) % 2
PICTURES = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(8)]
SET = SyntheticSet(X[:2], Y[:2], 0.02)
TEACHERS = TrajectoryBuffer(n_teachers=1, n_epochs=2, **NETWORK)
CLASSIFIER = ConvNetClassifier(max_iter=1, **NETWORK)


def is_error(thing):
    return inspect.isclass(thing) and issubclass(thing, BaseException)


def parameters():
    """Return public functions and methods, each with its parameters."""
    homes = [
        importlib.import_module(f"skdistill.{module.name}")
        for module in pkgutil.iter_modules(skdistill.__path__)
        if not module.name.startswith("_")
    ]
    found = {}
    for home in [skdistill, *homes]:
        for name in getattr(home, "__all__", []):
            thing = getattr(home, name)
            parts = {name: thing}
            if inspect.isclass(thing):
                parts |= {
                    f"{name}.{part}": method
                    for part, method in inspect.getmembers(thing, callable)
                    if not part.startswith("_")
                    and str(getattr(method, "__module__", "")).startswith("skdistill")
                }
            for part, function in parts.items():
                if callable(function) and not is_error(function):
                    found[part] = inspect.signature(function).parameters.values()
    return found


def doors():
    return {
        (name, about.name)
        for name, several in parameters().items()
        for about in several
        if (NAMES.fullmatch(about.name) or "PathLike" in str(about.annotation))
        and (name, about.name) not in NO_PATHS
    }


def is_place(path):
    return str(path) == os.path.join("~", "place")


def teachers(path):
    """Return a folder with teachers."""
    if not path.exists():
        clone(TEACHERS).set_params(path=path).fit(X, Y)
    return path


def image(path):
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(path)


def table(path, column):
    pd.DataFrame({"objid": [3], column: [5]}).to_csv(path, index=False)


def fit_mtt(**more):
    more = {"buffer": TEACHERS, "max_start_epoch": 1, "n_target_epochs": 1, **more}
    MTTDistiller(max_iter=1, n_steps=1, device="cpu", **more).fit(X, Y)


def fit_dc(made=DCDistiller, **more):
    made(max_iter=1, width=2, depth=1, device="cpu", **more).fit(X, Y)


def fit_ncfm(**more):
    NCFMDistiller(max_iter=1, n_frequencies=4, device="cpu", **more).fit(X, Y)


def fit_stm(**more):
    more = {"buffer": TEACHERS, "max_total_iter": 1, **more}
    STMDistiller(n_steps=1, device="cpu", **more).fit(X, Y)


def cifar(load):
    """Read a table of one image of CIFAR."""

    def door(path, home):
        image(home / "image.png")
        content = (home / "image.png").read_bytes()
        (home / "place").mkdir()
        table = pd.DataFrame({"image": [content], "label": [1]})
        table.to_parquet(home / "place" / "test.parquet")
        # Its image is too small: a message that says where it was found.
        if not is_place(path):
            load(path, subset="test")
        with pytest.raises(ValueError, match=re.escape(str(home / "place"))):
            load(path, subset="test")

    return door


def fetched(path, home):
    if not is_place(path):
        fetch_galaxy_zoo2(data_home=path, download_if_missing=False, images=False)
    with pytest.raises(OSError, match=re.escape(str(home / "place"))):
        fetch_galaxy_zoo2(data_home=path, download_if_missing=False, images=False)


def images_of(path, home):
    (home / "place").mkdir()
    image(home / "place" / "3.png")
    galaxies = load_galaxy_zoo2(pd.DataFrame({"objid": [3]}), path)
    assert galaxies["path"].tolist() == [str(home / "place" / "3.png")]


def folder_of_classes(path, home):
    (home / "place" / "a").mkdir(parents=True)
    image(home / "place" / "a" / "3.png")
    found = load_image_folder(path, verbose=0)
    assert found.filenames.tolist() == [str(home / "place" / "a" / "3.png")]


def table_of_classes(path, home):
    (home / "place").mkdir()
    image(home / "place" / "3.png")
    table = pd.DataFrame({"file": ["3.png"], "class": ["a"]})
    load_image_folder(table, images_dir=path, verbose=0)


def out_of_folder(path, home):
    (home / "b").mkdir()
    image(home / "b" / "3.png")
    table = pd.DataFrame({"file": ["b/3.png"], "class": ["a"]})
    load_image_folder(table, images_dir=home, out=path, verbose=0)


class Hub:
    """What of a data set of Hugging Face is used."""

    features = {"image": type("Image", (), {})(), "label": None}
    column_names = ("image", "label")

    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, i):
        return {"image": PICTURES[i], "label": Y[i]}


def images_dir(path, home):
    (home / "place").mkdir()
    image(home / "place" / "3.png")
    read = ImageReader(images_dir=path, size=8).transform(["3.png"])
    assert read.shape == (1, 8, 8, 3)


def dropped(path, home):
    teachers(home / "place")
    drop_teachers(path, [0])


def animated(path, home):
    frames = np.stack([X[:1], X[:1]])
    EvolutionDisplay.from_data(frames, [0, 1], [0], value_range=(0, 1)).save(path)


def out_of_reader(path, home):
    image(home / "3.png")
    ImageReader(images_dir=home, size=8, out=path).transform(["3.png"])


def scaled(method, scaler):
    def door(path, home):
        getattr(scaler().fit(X), method)(X, out=path)

    return door


def pages(path, home):
    report(
        RandomSubset(estimator=CLASSIFIER, random_state=0).fit(X, Y),
        X,
        Y,
        path,
        n_repeats=1,
        random_state=0,
    )


# Each is called with a path, and what it is without `~`, of which it makes or finds
# something under the name "place" in the home folder.
DOORS = {
    ("ImageReader", "images_dir"): images_dir,
    ("ImageReader", "out"): out_of_reader,
    ("load_cifar10", "path"): cifar(load_cifar10),
    ("load_cifar100", "path"): cifar(load_cifar100),
    ("fetch_galaxy_zoo2", "data_home"): fetched,
    ("load_image_folder", "path"): folder_of_classes,
    ("load_image_folder", "images_dir"): table_of_classes,
    ("load_image_folder", "out"): out_of_folder,
    ("from_torch_dataset", "out"): lambda path, home: (
        from_torch_dataset(list(zip(PICTURES, Y, strict=True)), out=path, verbose=0),
    ),
    ("from_huggingface", "out"): lambda path, home: (
        from_huggingface(Hub(), label_column="label", out=path, verbose=0),
    ),
    ("from_pil_images", "out"): lambda path, home: (
        from_pil_images(PICTURES, out=path, verbose=0),
    ),
    ("load_galaxy_zoo2", "images_dir"): images_of,
    ("load_galaxy_zoo2", "votes"): lambda path, home: (
        table(home / "place.csv", "asset_id"),
        load_galaxy_zoo2(path),
    ),
    ("load_galaxy_zoo2", "mapping"): lambda path, home: (
        table(home / "place.csv", "asset_id"),
        load_galaxy_zoo2(pd.DataFrame({"objid": [3]}), mapping=path),
    ),
    ("compare_distillers", "path"): lambda path, home: compare_distillers(
        {"random": RandomSubset()},
        *(X, Y, X + 1e-3, Y),
        seeds=1,
        n_repeats=1,
        estimator=CLASSIFIER,
        path=path,
    ),
    ("DCDistiller", "buffer"): lambda path, home: (
        teachers(home / "place"),
        fit_dc(buffer=path),
    ),
    ("DCDistiller", "checkpoint"): lambda path, home: fit_dc(checkpoint=path),
    ("DSADistiller", "buffer"): lambda path, home: (
        teachers(home / "place"),
        fit_dc(DSADistiller, buffer=path),
    ),
    ("DSADistiller", "checkpoint"): lambda path, home: fit_dc(
        DSADistiller, checkpoint=path
    ),
    ("BPTTDistiller", "checkpoint"): lambda path, home: BPTTDistiller(
        n_steps=1, width=2, depth=1, max_iter=1, device="cpu", checkpoint=path
    ).fit(X, Y),
    ("DMDistiller", "checkpoint"): lambda path, home: fit_dc(
        DMDistiller, checkpoint=path
    ),
    ("FRePoDistiller", "checkpoint"): lambda path, home: fit_dc(
        FRePoDistiller, checkpoint=path
    ),
    ("RFADDistiller", "checkpoint"): lambda path, home: fit_dc(
        RFADDistiller, checkpoint=path
    ),
    ("KIPDistiller", "checkpoint"): lambda path, home: KIPDistiller(
        max_iter=1, device="cpu", checkpoint=path
    ).fit(X, Y),
    ("CAFEDistiller", "checkpoint"): lambda path, home: fit_dc(
        CAFEDistiller, checkpoint=path
    ),
    ("NCFMDistiller", "buffer"): lambda path, home: (
        teachers(home / "place"),
        fit_ncfm(buffer=path),
    ),
    ("NCFMDistiller", "checkpoint"): lambda path, home: fit_ncfm(
        buffer=TEACHERS, checkpoint=path
    ),
    ("MTTDistiller", "buffer"): lambda path, home: (
        teachers(home / "place"),
        fit_mtt(buffer=path),
    ),
    ("MTTDistiller", "checkpoint"): lambda path, home: fit_mtt(checkpoint=path),
    ("STMDistiller", "buffer"): lambda path, home: (
        teachers(home / "place"),
        fit_stm(buffer=path),
    ),
    ("STMDistiller", "checkpoint"): lambda path, home: fit_stm(checkpoint=path),
    ("find_label_errors", "buffer"): lambda path, home: (
        teachers(home / "place"),
        find_label_errors(path, X, Y),
    ),
    ("TrajectoryBuffer", "path"): lambda path, home: teachers_at(path),
    ("TrajectoryBuffer.load", "path"): lambda path, home: (
        teachers(home / "place"),
        TrajectoryBuffer.load(path),
    ),
    ("list_teachers", "path"): lambda path, home: (
        teachers(home / "place"),
        list_teachers(path),
    ),
    ("drop_teachers", "path"): dropped,
    ("merge_buffers", "paths"): lambda path, home: merge_buffers(
        [path, teachers(home / "place")], home / "merged"
    ),
    ("merge_buffers", "path"): lambda path, home: merge_buffers(
        [teachers(home / "one")] * 2, path
    ),
    ("EvolutionDisplay.save", "path"): animated,
    ("report", "path"): pages,
    ("SyntheticSet.save", "path"): lambda path, home: SET.save(path),
    ("SyntheticSet.transform", "out"): lambda path, home: SET.with_preprocessing(
        ChannelScaler().fit(X)
    ).transform(X, out=path),
    ("SyntheticSet.load", "path"): lambda path, home: (
        SET.save(home / "place"),
        SyntheticSet.load(path),
    ),
    ("SyntheticSet.to_image_folder", "path"): lambda path, home: SET.to_image_folder(
        path
    ),
    ("SyntheticSet.card", "path"): lambda path, home: SET.card(path),
    ("SyntheticSet.export", "path"): lambda path, home: SET.export(path, "mtt"),
    ("SyntheticSet.from_published", "path"): lambda path, home: (
        SET.export(home / "place", "mtt"),
        SyntheticSet.from_published(path),
    ),
    ("export_ddranking", "folder"): lambda path, home: export_ddranking(SET, path),
    ("load_ddranking", "folder"): lambda path, home: (
        export_ddranking(SET, home / "place"),
        load_ddranking(path),
    ),
    **{
        (f"{scaler.__name__}.{method}", "out"): scaled(method, scaler)
        for scaler in (ChannelScaler, ZCAWhitener)
        for method in ("transform", "fit_transform", "inverse_transform")
    },
}
ENDINGS = {"out": ".npy", "votes": ".csv", "mapping": ".csv"}


def teachers_at(path):
    buffer = clone(TEACHERS).set_params(path=path).fit(X, Y)
    # Parameters stay as they were given.
    assert buffer.path is path
    assert len(list_teachers(buffer.path)) == 1


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return a home folder of its own, and work in another one."""
    home, work = tmp_path / "home", tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(work)
    return home


def ending(door):
    if door == ("EvolutionDisplay.save", "path"):
        return ".gif"
    return ENDINGS.get(door[1], "")


def test_every_parameter_with_a_path_is_tried():
    assert doors() == set(DOORS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("door", DOORS, ids=".".join)
def test_the_home_folder(door, kind, home):
    name = f"place{ending(door)}"
    DOORS[door](kind(f"~/{name}"), home)
    if door != ("fetch_galaxy_zoo2", "data_home"):
        assert (home / name).exists()
    assert not list(Path.cwd().iterdir())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrong", ["", "~nobody-of-this-name/x", b"~/x", 3])
@pytest.mark.parametrize("door", DOORS, ids=".".join)
def test_what_is_no_path(door, wrong, home):
    if isinstance(wrong, str) and wrong:
        wrong += ending(door)
    with pytest.raises((TypeError, ValueError), match=door[1]) as caught:
        DOORS[door](wrong, home)
    if wrong == "":
        assert "empty" in str(caught.value)
    elif isinstance(wrong, str):
        assert "this home folder does not exist" in str(caught.value)
    assert not list(Path.cwd().iterdir())


def test_paths_in_tables(home):
    """In rows, too, of files and of members of archives."""
    image(home / "3.png")
    with zipfile.ZipFile(home / "images.zip", "w") as archive:
        archive.write(home / "3.png", "inner/3.png")
    read = ImageReader(size=8).transform(["~/3.png", Path("~/3.png")])
    assert (read == 7).all()
    rows = pd.DataFrame({"path": ["~/images.zip!/inner/3.png"]})
    assert (ImageReader(size=8).transform(rows) == 7).all()
    for place in ("~/images.zip!/", "~/images.zip!/inner", "~/images.zip"):
        name = "3.png" if place.endswith("inner") else "inner/3.png"
        assert (ImageReader(images_dir=place, size=8).transform([name]) == 7).all()
    with pytest.raises(FileNotFoundError, match=re.escape(str(home / "4.png"))):
        ImageReader(size=8).transform(["~/4.png"])


def test_one_path_is_not_several(home):
    with pytest.raises(TypeError, match="sequence of folders"):
        merge_buffers("~/teachers", "~/merged")


def test_files_whose_name_starts_so(home):
    """As those of editors, or of people who met a version that made them."""
    Path("~set").touch()
    for path in ("./~", "./~other", "~set"):
        SET.save(path)
        assert len(SyntheticSet.load(path)) == 2
        assert as_path(as_path(path)) == as_path(path)
    assert {path.name for path in Path.cwd().iterdir()} == {"~", "~other", "~set"}
    # A folder has two doors, one after the other.
    teachers_at("./~teachers")
    fit_stm(buffer="./~teachers")
    assert not list(home.iterdir())
