"""Folders of classes, and tables of files and classes, as people have them."""

import io
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest
from PIL import Image

from skdistill import ImageReader, RandomSubset, load_image_folder
from skdistill.datasets import from_pil_images

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (8, 6, 8, 3), dtype=np.uint8)
CLASSES = ["spiral", "smooth"] * 4


def picture(i, mode="RGB"):
    return Image.fromarray(PIXELS[i]).convert(mode)


@pytest.fixture
def folders(tmp_path):
    """Four images of 8 x 6 pixels in each of two folders."""
    for i, name in enumerate(CLASSES):
        (tmp_path / name).mkdir(exist_ok=True)
        picture(i).save(tmp_path / name / f"{i}.png")
    return tmp_path


@pytest.fixture
def table(tmp_path):
    """Images in a folder, and a table beside it."""
    (tmp_path / "images").mkdir()
    for i in range(8):
        picture(i).save(tmp_path / "images" / f"{i}.png")
    frame = pd.DataFrame(
        {"file": [f"images/{i}.png" for i in range(8)], "class": CLASSES}
    )
    frame.to_csv(tmp_path / "classes.csv", index=False)
    return tmp_path / "classes.csv"


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


SORTED = [1, 3, 5, 7, 0, 2, 4, 6]


def test_folders(folders):
    found = load_image_folder(folders, verbose=0)
    np.testing.assert_array_equal(found.data, PIXELS[SORTED])
    assert found.images is found.data
    assert found.target.tolist() == ["smooth"] * 4 + ["spiral"] * 4
    assert found.target_names == ["smooth", "spiral"]
    assert found.filenames[0] == str(folders / "smooth" / "1.png")
    assert found.frame["class"].tolist() == found.target.tolist()
    X, y = load_image_folder(folders, return_X_y=True, verbose=0)
    distilled = RandomSubset(random_state=0).fit(X, y).synthetic_
    assert distilled.y.tolist() == ["smooth", "spiral"]


def test_table(table):
    found = load_image_folder(table, verbose=0)
    np.testing.assert_array_equal(found.data, PIXELS)
    assert found.target.tolist() == CLASSES
    assert list(found.frame) == ["file", "class"]


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_map(folders, tmp_path, n_jobs):
    out = tmp_path / "X.npy"
    X, _ = load_image_folder(
        folders, out=out, return_X_y=True, verbose=0, n_jobs=n_jobs
    )
    assert isinstance(X, np.memmap)
    np.testing.assert_array_equal(np.load(out), PIXELS[SORTED])
    assert not list(tmp_path.glob("*.part*"))


def test_progress(folders, capsys, monkeypatch):
    monkeypatch.setattr("skdistill.datasets._collect._BAR_DELAY", 0)
    load_image_folder(folders)
    assert "images: 100%" in capsys.readouterr().err


# What lies in folders beside the images.


def test_capitals_hidden_files_and_deeper_folders(folders):
    os.rename(folders / "spiral" / "0.png", folders / "spiral" / "0.PNG")
    (folders / "smooth" / "more" / "still").mkdir(parents=True)
    os.rename(folders / "smooth" / "7.png", folders / "smooth" / "more/still/7.png")
    for name in (".DS_Store", "smooth/._1.png", "smooth/Thumbs.db", "spiral/.x.jpg"):
        (folders / name).write_bytes(b"x")
    (folders / "__MACOSX").mkdir()
    (folders / ".ipynb_checkpoints").mkdir()
    (folders / "smooth" / ".ipynb_checkpoints").mkdir()
    picture(0).save(folders / "smooth" / ".ipynb_checkpoints" / "0.png")
    found = load_image_folder(folders, verbose=0)
    np.testing.assert_array_equal(found.data, PIXELS[SORTED])


@pytest.mark.skipif(os.name != "posix", reason="names of files are of bytes")
def test_names_that_are_not_of_unicode(folders):
    expected = load_image_folder(folders, verbose=0)
    name = os.fsdecode(b"gr\xfcn.png")
    try:
        os.rename(folders / "smooth" / "7.png", folders / "smooth" / name)
    except OSError:
        pytest.skip("the file system takes Unicode alone")
    for out in (None, folders / "X.npy"):
        found = load_image_folder(folders, out=out, verbose=0)
        np.testing.assert_array_equal(found.data, expected.data)
        assert found.filenames[3].endswith(name)
    os.rename(folders / "smooth", os.fsdecode(bytes(folders) + b"/sm\xfcth"))
    with pytest.raises(ValueError, match=r"names in UTF-8.*rename b'sm\\xfcth'"):
        load_image_folder(folders, verbose=0)


def test_same_name_in_two_folders(folders):
    picture(7).save(folders / "spiral" / "1.png")
    assert len(load_image_folder(folders, verbose=0).data) == 9


def test_what_is_passed_over_is_told(folders):
    (folders / "irregular").mkdir()
    with pytest.warns(
        UserWarning, match=r"1 folders .* not treated as classes: \['irregular'\]"
    ):
        found = load_image_folder(folders, verbose=0)
    assert found.target_names == ["smooth", "spiral"]
    (folders / "irregular").rmdir()
    (folders / "smooth" / "notes.txt").write_text("x")
    with pytest.warns(UserWarning, match=r"1 files .*notes.txt'"):
        load_image_folder(folders, verbose=0)
    (folders / "smooth" / "notes.txt").unlink()
    picture(0).save(folders / "loose.png")
    with pytest.warns(
        UserWarning, match="1 images .*not in a class folder.* 'loose.png'"
    ):
        load_image_folder(folders, verbose=0)


def test_link_to_itself_ends(folders):
    os.symlink(folders / "smooth", folders / "smooth" / "again")
    assert len(load_image_folder(folders, verbose=0).data) == 8
    os.symlink(folders / "gone.png", folders / "smooth" / "gone.png")
    with pytest.raises(FileNotFoundError, match=r"gone.png"):
        load_image_folder(folders, verbose=0)


def test_no_folder_of_classes(folders, tmp_path):
    with pytest.raises(ValueError, match=r"4 images, the first '1\.png', but no class"):
        load_image_folder(folders / "smooth", verbose=0)
    (tmp_path / "empty" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="no images in class folders"):
        load_image_folder(tmp_path / "empty", verbose=0)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_image_folder(tmp_path / "nothing", verbose=0)


def test_parts_of_a_data_set_are_no_classes(folders, tmp_path):
    for part in ("train", "Val"):
        (tmp_path / "whole" / part / "cat").mkdir(parents=True)
        picture(0).save(tmp_path / "whole" / part / "cat" / "0.png")
    with pytest.raises(ValueError, match=r"parts of a data set, \['Val', 'train'\]"):
        load_image_folder(tmp_path / "whole", verbose=0)


def test_classes_that_are_in_each_folder_are_told(folders, tmp_path):
    for year in ("2019", "2020"):
        for name in ("smooth", "spiral"):
            (tmp_path / "years" / year / name).mkdir(parents=True)
            picture(0).save(tmp_path / "years" / year / name / "0.png")
    with pytest.warns(UserWarning, match=r"\['2019', '2020'\], each of which has the"):
        load_image_folder(tmp_path / "years", verbose=0)
    # Some in the folder itself, or other folders: kinds of a class.
    picture(0).save(tmp_path / "years" / "2019" / "0.png")
    load_image_folder(tmp_path / "years", verbose=0)


def test_column_of_parts_is_told(table):
    frame = pd.read_csv(table)
    frame["kind"] = ["train", "Test"] * 4
    frame["survey"] = ["SDSS", "test"] * 4
    with pytest.warns(UserWarning, match=r"column 'kind' of .* \['Test', 'train'\]"):
        found = load_image_folder(frame, images_dir=table.parent, verbose=0)
    assert len(found.data) == 8
    part = frame[frame["kind"] == "train"]
    assert len(load_image_folder(part, images_dir=table.parent, verbose=0).data) == 4


def test_class_that_pandas_takes_for_missing(table):
    frame = pd.read_csv(table)
    frame["class"] = ["None", "spiral"] * 4
    frame.to_csv(table, index=False)
    with pytest.raises(ValueError, match=r"Row 0 has no class, .* keep_default_na="):
        load_image_folder(table, verbose=0)
    kept = pd.read_csv(table, keep_default_na=False)
    found = load_image_folder(kept, images_dir=table.parent, verbose=0)
    assert found.target_names == ["None", "spiral"]


def test_arrays_are_named(tmp_path):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "0.npy", PIXELS[0])
    with pytest.raises(ValueError, match=r"1 files such as .*0.npy'"):
        load_image_folder(tmp_path, verbose=0)


# Modes.


def test_gray_stays_gray(folders):
    for i, name in enumerate(CLASSES):
        picture(i, "LA" if i % 2 else "L").save(folders / name / f"{i}.png")
    X = load_image_folder(folders, verbose=0).data
    assert X.shape == (8, 6, 8, 1)
    np.testing.assert_array_equal(X[0, ..., 0], np.asarray(picture(1, "L")))
    X = load_image_folder(folders, mode="RGB", verbose=0).data
    np.testing.assert_array_equal(X[..., :1].repeat(3, -1), X)


def test_modes_mix(folders):
    picture(0, "L").save(folders / "spiral" / "0.png")
    with pytest.warns(UserWarning, match=r"1 of 8 images are gray, the first .*0.png"):
        X = load_image_folder(folders, verbose=0).data
    np.testing.assert_array_equal(X[4], np.asarray(picture(0, "L").convert("RGB")))
    assert load_image_folder(folders, mode="RGB", verbose=0).data.shape[-1] == 3
    assert load_image_folder(folders, mode="L", verbose=0).data.shape[-1] == 1


def test_palette_is_color(folders):
    palette = picture(0).convert("P", palette=Image.Palette.ADAPTIVE, colors=48)
    palette.save(folders / "spiral" / "0.png")
    X = load_image_folder(folders, verbose=0).data
    np.testing.assert_array_equal(X[4], np.asarray(palette.convert("RGB")))
    X = load_image_folder(folders, mode="L", verbose=0).data
    expected = np.asarray(palette.convert("RGB").convert("L"))
    np.testing.assert_array_equal(X[4, ..., 0], expected)


def test_transparency(folders):
    rgba = picture(0, "RGBA")
    rgba.save(folders / "spiral" / "0.png")
    # All opaque: nothing is lost.
    assert load_image_folder(folders, verbose=0).data.shape[-1] == 3
    rgba.putpixel((0, 0), (1, 2, 3, 0))
    rgba.save(folders / "spiral" / "0.png")
    with pytest.warns(UserWarning, match=r"transparent pixels.*0.png"):
        X = load_image_folder(folders, verbose=0).data
    assert X[4, 0, 0].tolist() == [1, 2, 3]
    X = load_image_folder(folders, mode="RGBA", verbose=0).data
    assert X.shape[-1] == 4
    assert X[4, 0, 0].tolist() == [1, 2, 3, 0]


def test_sixteen_bits(folders):
    deep = RNG.integers(0, 2**16, (8, 6, 8), dtype=np.uint16)
    for i, name in enumerate(CLASSES[:7]):
        Image.fromarray(deep[i]).save(folders / name / f"{i}.png")
    with pytest.raises(ValueError, match=r"7.png' is of 8 bits; 7 of 8 .*16 bits"):
        load_image_folder(folders, verbose=0)
    Image.fromarray(deep[7]).save(folders / "smooth" / "7.png")
    X = load_image_folder(folders, verbose=0).data
    assert X.dtype == np.uint16
    np.testing.assert_array_equal(X[..., 0], deep[SORTED])
    X = load_image_folder(folders, size=(3, 4), verbose=0).data
    means = deep[SORTED].reshape(8, 3, 2, 4, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(X[..., 0], means, atol=0.51)
    with pytest.raises(ValueError, match=r"`mode='L'` is for images of 8 bits"):
        load_image_folder(folders, mode="L", verbose=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_not_finite_are_told(folders, value):
    pixels = RNG.normal(size=(8, 6, 8)).astype(np.float32)
    pixels[3, 0] = value
    for i, name in enumerate(CLASSES):
        (folders / name / f"{i}.png").unlink()
        Image.fromarray(pixels[i]).save(folders / name / f"{i}.tif")
    with pytest.warns(UserWarning, match=r"1 of 8 images .* NaN or infinite.*3\.tif"):
        X = load_image_folder(folders, verbose=0).data
    np.testing.assert_array_equal(X[..., 0], pixels[SORTED])
    images = [Image.fromarray(image) for image in pixels]
    with pytest.warns(UserWarning, match="1 of 8 images .* NaN or infinite"):
        from_pil_images(images, CLASSES)


def test_fits(folders):
    fits = pytest.importorskip("astropy.io.fits")
    cube = RNG.normal(size=(8, 5, 6, 8)).astype(np.float32)
    cube[3, 0, 0, 0] = np.nan
    for i, name in enumerate(CLASSES):
        (folders / name / f"{i}.png").unlink()
        fits.PrimaryHDU(cube[i]).writeto(folders / name / f"{i}.FITS")
    with pytest.warns(UserWarning, match="1 of 8 images have missing pixels"):
        X = load_image_folder(folders, verbose=0).data
    assert X.shape == (8, 6, 8, 5)
    expected = np.moveaxis(np.nan_to_num(cube[SORTED]), 1, -1)[:, ::-1]
    np.testing.assert_array_equal(X, expected)


# Images that are wrong.


def _cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def _animate(path):
    path.unlink()
    picture(0).save(path.with_suffix(".gif"), save_all=True, append_images=[picture(1)])


WRONG = {
    "another size": (lambda p: picture(0).resize((5, 6)).save(p), "5 x 6 pixels"),
    "empty": (lambda p: p.write_bytes(b""), "it is empty"),
    "no image": (lambda p: p.write_bytes(b"hello world"), "cannot be read"),
    "truncated": (_cut, "cannot be read"),
    "a page of an error": (lambda p: p.write_text("<!DOCTYPE html><html>"), "web page"),
    "animated": (_animate, "several frames"),
    "color of 16 bits": (
        lambda p: p.write_bytes(_deep_color()),
        "16 bits per channel are more than",
    ),
}


def _deep_color():
    import struct
    import zlib

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    head = struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(8 * 6)) * 6)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    )


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_image_is_named(folders, tmp_path, kind):
    spoil, message = WRONG[kind]
    spoil(folders / "spiral" / "2.png")
    with pytest.raises(ValueError, match=rf"spiral/2\.(png|gif)'.*{message}"):
        load_image_folder(folders, verbose=0)
    for out in (None, tmp_path / "X.npy"):
        with pytest.warns(UserWarning, match="1 of 8 images are left out"):
            found = load_image_folder(folders, on_error="skip", out=out, verbose=0)
        np.testing.assert_array_equal(found.data, PIXELS[[1, 3, 5, 7, 0, 4, 6]])
        assert len(found.target) == len(found.filenames) == len(found.frame) == 7
        assert message in found.skipped["error"].iloc[0]


def test_damaged_jpeg(folders):
    for i, name in enumerate(CLASSES):
        (folders / name / f"{i}.png").unlink()
        Image.fromarray(PIXELS[i].repeat(8, 0).repeat(8, 1)).save(
            folders / name / f"{i}.jpeg"
        )
    _cut(folders / "spiral" / "4.jpeg")
    with pytest.raises(ValueError, match=r"spiral/4.jpeg' cannot be read"):
        load_image_folder(folders, verbose=0)


def test_all_wrong(folders):
    for path in folders.glob("*/*.png"):
        path.write_bytes(b"x")
    with pytest.raises(ValueError, match="8 of 8 images cannot be read"):
        load_image_folder(folders, on_error="skip", verbose=0)


# Sizes.


def test_size(folders):
    picture(0).resize((16, 12), Image.Resampling.NEAREST).save(
        folders / "spiral" / "0.png"
    )
    X = load_image_folder(folders, size=(6, 8), verbose=0).data
    np.testing.assert_array_equal(X, PIXELS[SORTED])
    with pytest.warns(UserWarning, match=r"8 of 8 .*aspect ratio.*size=\(4, 4\)"):
        assert load_image_folder(folders, size=4, verbose=0).data.shape[1:3] == (4, 4)
    for size in (0, -1, (2, 3, 4), (2.5, 2), True):
        with pytest.raises(ValueError, match="`size` must be a number of pixels"):
            load_image_folder(folders, size=size, verbose=0)


def test_size_agrees_with_image_reader(folders):
    for i, name in enumerate(CLASSES):
        Image.fromarray(PIXELS[i].repeat(4, 0).repeat(3, 1)).save(
            folders / name / f"{i}.png"
        )
    found = load_image_folder(folders, size=5, verbose=0)
    read = ImageReader(size=5, crop=1).transform(list(found.filenames))
    np.testing.assert_array_equal(found.data, read)


# Tables.


def test_columns_are_guessed_and_told(table):
    frame = pd.read_csv(table)
    strange = frame.rename(columns={"file": "Bild", "class": "Art"}).assign(z=0.5)
    strange.to_csv(table, index=False)
    with pytest.raises(ValueError, match=r"`class_column` must name .*'Bild', 'Art'"):
        load_image_folder(table, verbose=0)
    with pytest.warns(UserWarning, match="'Bild' is used as the files; `file_col"):
        load_image_folder(table, class_column="Art", verbose=0)
    found = load_image_folder(table, file_column="Bild", class_column="Art", verbose=0)
    assert found.target.tolist() == CLASSES
    with pytest.raises(ValueError, match=r"`file_column='x'` must be a column"):
        load_image_folder(table, file_column="x", verbose=0)


def test_two_columns_of_classes(table):
    frame = pd.read_csv(table)
    frame.insert(1, "label", [0, 1] * 4)
    frame.to_csv(table, index=False)
    with pytest.warns(UserWarning, match="'class' is used as the classes"):
        assert load_image_folder(table, verbose=0).target.tolist() == CLASSES
    frame["label"] = range(8)
    frame.to_csv(table, index=False)
    with pytest.raises(ValueError, match=r"\['label', 'class'\], which differ"):
        load_image_folder(table, verbose=0)
    found = load_image_folder(table, class_column="label", verbose=0)
    assert found.target.tolist() == list(range(8))


@pytest.mark.parametrize("kind", ["pandas", "polars", "parquet"])
def test_tables_of_all_kinds(table, kind):
    frame = pd.read_csv(table)
    given = frame
    if kind == "polars":
        given = polars.DataFrame({c: frame[c].tolist() for c in frame})
    elif kind == "parquet":
        given = table.with_suffix(".parquet")
        frame.to_parquet(given)
    found = load_image_folder(given, images_dir=table.parent, verbose=0)
    np.testing.assert_array_equal(found.data, PIXELS)


def test_paths_from_the_working_directory(table, monkeypatch):
    monkeypatch.chdir(table.parent.parent)
    frame = pd.read_csv(table)
    frame["file"] = table.parent.name + "/" + frame["file"]
    frame.to_csv(table, index=False)
    assert len(load_image_folder(table, verbose=0).data) == 8


def test_windows_paths_other_capitals_and_names_alone(table):
    frame = pd.read_csv(table)
    for change in (
        lambda f: f.replace("/", "\\"),
        lambda f: f.upper(),
        lambda f: f.removeprefix("images/"),
    ):
        frame.assign(file=frame["file"].map(change)).to_csv(table, index=False)
        with pytest.warns(UserWarning, match="8 of 8 files were found in a sub-folder"):
            found = load_image_folder(table, verbose=0)
        np.testing.assert_array_equal(found.data, PIXELS)


def test_same_name_in_two_sub_folders(table):
    (table.parent / "other").mkdir()
    picture(1).save(table.parent / "other" / "0.png")
    frame = pd.read_csv(table)
    frame["file"] = frame["file"].str.removeprefix("images/")
    frame.to_csv(table, index=False)
    with pytest.raises(ValueError, match=r"Row 0: .*several files of '0.png'"):
        load_image_folder(table, verbose=0)


def test_ids_of_any_name(table):
    frame = pd.DataFrame({"galaxy_id": range(8), "Morph": CLASSES})
    frame.to_csv(table, index=False)
    with pytest.warns(UserWarning, match="'galaxy_id' is used as the files and"):
        found = load_image_folder(table, verbose=0)
    np.testing.assert_array_equal(found.data, PIXELS)
    # The folder is as good as the table in it.
    with (
        pytest.warns(UserWarning, match="'galaxy_id' is used as the files"),
        pytest.warns(UserWarning, match="fewer than two class folders"),
    ):
        found = load_image_folder(table.parent, verbose=0)
    np.testing.assert_array_equal(found.data, PIXELS)
    found = load_image_folder(
        table.parent, file_column="galaxy_id", class_column="Morph", verbose=0
    )
    np.testing.assert_array_equal(found.data, PIXELS)


@pytest.mark.parametrize("column", ["objid", "file"])
def test_text_that_came_as_bytes(table, column):
    """As in a FITS table that astropy made a DataFrame."""
    names = [f"{i}" if column == "objid" else f"images/{i}.png" for i in range(8)]
    frame = pd.DataFrame({column: names, "class": CLASSES})
    frame = frame.map(lambda text: f"{text:12}".encode())
    place = table.parent / "images" if column == "objid" else table.parent
    found = load_image_folder(
        frame, images_dir=place, file_column=column, class_column="class", verbose=0
    )
    np.testing.assert_array_equal(found.data, PIXELS)
    assert found.target.tolist() == CLASSES
    assert found.frame["class"].tolist() == CLASSES
    if column == "file":  # the classes are no images
        found = load_image_folder(frame, images_dir=place, verbose=0)
        assert found.target.tolist() == CLASSES


def test_ids_that_are_text(table):
    frame = pd.DataFrame({"objid": [f"J{i}" for i in range(8)], "class": CLASSES})
    for i in range(8):
        os.rename(table.parent / f"images/{i}.png", table.parent / f"images/J{i}.png")
    options = {"images_dir": table.parent / "images", "file_column": "objid"}
    for names in (frame["objid"], frame["objid"] + ".png"):
        found = load_image_folder(frame.assign(objid=names), **options, verbose=0)
        np.testing.assert_array_equal(found.data, PIXELS)
    for lossy in (["5.87E+17"] * 8, [5.87e17] * 8):
        with pytest.raises(ValueError, match="must have integers in column 'objid'"):
            load_image_folder(frame.assign(objid=lossy), **options, verbose=0)


@pytest.mark.parametrize("column", ["file", "class"])
def test_columns_of_one_name(table, column):
    frame = pd.read_csv(table)[["file", "class", column]]
    for options in ({}, {"file_column": "file"}, {"class_column": "class"}):
        with pytest.raises(ValueError, match=r"has the column .* more than once"):
            load_image_folder(frame, images_dir=table.parent, **options, verbose=0)


def test_other_kinds_of_tables_are_told_how_to_be_passed(table):
    arrow = pyarrow.Table.from_pandas(pd.read_csv(table))
    with pytest.raises(TypeError, match=r"got a Table: pass its \.to_pandas\(\)"):
        load_image_folder(arrow, images_dir=table.parent, verbose=0)


def test_archive(table):
    archive = table.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as file:
        for i in range(8):
            file.write(table.parent / "images" / f"{i}.png", f"images/{i}.png")
    found = load_image_folder(table, images_dir=archive, verbose=0)
    np.testing.assert_array_equal(found.data, PIXELS)
    with pytest.raises(ValueError, match="got the archive"):
        load_image_folder(archive, verbose=0)


def test_missing_files_are_named(table):
    frame = pd.read_csv(table)
    frame.loc[[2, 5], "file"] = ["images/none.png", np.nan]
    frame.to_csv(table, index=False)
    match = r"Row 2: '.*none.png' does not exist \(2 of 8 images\)"
    with pytest.raises(FileNotFoundError, match=match):
        load_image_folder(table, verbose=0)
    with pytest.warns(UserWarning, match="2 of 8 images are left out"):
        found = load_image_folder(table, on_error="skip", verbose=0)
    np.testing.assert_array_equal(found.data, PIXELS[[0, 1, 3, 4, 6, 7]])
    assert found.skipped.index.tolist() == [2, 5]


@pytest.mark.parametrize("missing", [np.nan, None, ""])
def test_missing_classes_are_named(table, missing):
    frame = pd.read_csv(table)
    frame["class"] = frame["class"].astype(object)
    frame.loc[3, "class"] = missing
    with pytest.raises(ValueError, match=r"Row 3 has no class"):
        load_image_folder(frame, images_dir=table.parent, verbose=0)
    with pytest.warns(UserWarning, match="1 of 8 images are left out"):
        found = load_image_folder(
            frame, images_dir=table.parent, on_error="skip", verbose=0
        )
    assert found.target_names == ["smooth", "spiral"]
    # Beside a NaN whole numbers became floats.
    numbers = frame.assign(**{"class": [0, 1, 0, np.nan, 0, 1, 0, 1]})
    with pytest.warns(UserWarning, match="left out"):
        found = load_image_folder(
            numbers, images_dir=table.parent, on_error="skip", verbose=0
        )
    assert found.target.dtype == np.int64


def test_classes_that_are_none(table):
    frame = pd.read_csv(table)
    for values, message in (
        (np.linspace(0, 1, 8), r"got 0\.14.* in row 1"),
        (["a", 1] * 4, r"all of the same type; got \['int', 'str'\]"),
        ([None] * 8, "all 8 rows"),
        ([[0, 1]] * 8, r"got \['list'\]"),
        ([1, 2**63] * 4, r"from -2\*\*63 to 2\*\*63 - 1; got .* in row"),
        ([1, np.inf] * 4, "got inf in row 1"),
    ):
        with pytest.raises(ValueError, match=message):
            load_image_folder(
                frame.assign(**{"class": values}), images_dir=table.parent, verbose=0
            )


def test_repeated_files(table):
    frame = pd.read_csv(table)
    frame.loc[2, "file"] = "images/0.png"
    with pytest.warns(
        UserWarning,
        match=r"1 of \d+ images have the same file .*Row 2 \('.*images/0.png'",
    ):
        load_image_folder(frame, images_dir=table.parent, verbose=0)
    frame.loc[2, "class"] = "smooth"
    with pytest.raises(ValueError, match=r"Row 2 .*'smooth', Row 0 .*'spiral'"):
        load_image_folder(frame, images_dir=table.parent, verbose=0)


def test_one_file_under_several_names(table, folders):
    frame = pd.read_csv(table)
    frame.loc[2, "file"] = "./images/../images/0.png"
    with pytest.warns(UserWarning, match=r"1 of \d+ images have the same file"):
        load_image_folder(frame, images_dir=table.parent, verbose=0)
    frame.loc[2, "class"] = "smooth"
    with pytest.raises(ValueError, match="each image must have one class"):
        load_image_folder(frame, images_dir=table.parent, verbose=0)
    table.unlink()
    first, second = sorted(p for p in folders.iterdir() if p.is_dir())[:2]
    image = min(p for p in first.iterdir() if p.suffix == ".png")
    (first / "link.png").symlink_to(image)
    with pytest.warns(UserWarning, match=r"images have the same file as .*link\.png"):
        load_image_folder(folders, verbose=0)
    (second / "link.png").symlink_to(image)
    with pytest.raises(ValueError, match=r"link\.png' has the class .* one class"):
        load_image_folder(folders, verbose=0)


def test_one_hot_columns_are_told(table):
    frame = pd.get_dummies(pd.read_csv(table), columns=["class"])
    with pytest.raises(
        ValueError, match=r"look one-hot encoded: table\[\['class_.*idxmax"
    ):
        load_image_folder(frame, images_dir=table.parent, verbose=0)


def test_folder_around_the_folders(folders, tmp_path_factory):
    outer = tmp_path_factory.mktemp("outer")
    (outer / "images").symlink_to(folders)
    with pytest.raises(ValueError, match=r"pass '.*images' if these are the classes"):
        load_image_folder(outer, verbose=0)
    (outer / "images" / "labels.csv").write_text("file,class\na.png,b\n")
    with pytest.warns(UserWarning, match=r"\['labels.csv'\] in .* are not read"):
        load_image_folder(outer / "images", verbose=0)


def test_no_header(table):
    table.write_text("".join(f"images/{i}.png,{CLASSES[i]}\n" for i in range(8)))
    with pytest.raises(ValueError, match="the column names are missing"):
        load_image_folder(table, verbose=0)


@pytest.mark.parametrize("packed", [False, True])
def test_table_of_bytes(tmp_path, packed):
    contents = []
    for i in range(8):
        file = io.BytesIO()
        picture(i).save(file, "WEBP", lossless=True)
        content = file.getvalue()
        contents.append({"bytes": content, "path": None} if packed else content)
    frame = pd.DataFrame({"image": contents, "label": [0, 1] * 4})
    frame.to_parquet(tmp_path / "train.parquet")
    found = load_image_folder(tmp_path / "train.parquet", verbose=0)
    np.testing.assert_array_equal(found.data, PIXELS)
    assert found.target.tolist() == [0, 1] * 4
    assert found.filenames.tolist() == [None] * 8
    broken = b"no image"
    frame.at[5, "image"] = {"bytes": broken, "path": None} if packed else broken
    with pytest.raises(ValueError, match=r"Row 5: an image in the table cannot be re"):
        load_image_folder(frame, verbose=0)
    frame.to_parquet(tmp_path / "test.parquet")
    with pytest.raises(
        ValueError, match=r"Row 5: an image in '.*/test\.parquet' cannot"
    ):
        load_image_folder(tmp_path / "test.parquet", verbose=0)


def test_parameters_of_tables_need_one(folders):
    with pytest.raises(ValueError, match=r"`images_dir` are for a table"):
        load_image_folder(folders, images_dir=folders, verbose=0)
    with pytest.raises(FileNotFoundError, match=r"`images_dir` must be an existing"):
        load_image_folder(
            pd.DataFrame({"file": ["a.png"], "class": [1]}),
            images_dir=folders / "none",
            verbose=0,
        )
    with pytest.raises(TypeError, match="use from_pil_images"):
        load_image_folder([picture(0)], verbose=0)


def test_interrupted_map_resumes(folders, tmp_path, monkeypatch):
    """What was read is not read again, and a changed file is."""
    monkeypatch.setattr("skdistill.datasets._collect._BATCH_SIZE", 2)
    (folders / "spiral" / "6.png").rename(folders / "six")
    picture(6).save(folders / "spiral" / "6.png")
    content = (folders / "spiral" / "6.png").read_bytes()
    (folders / "spiral" / "6.png").write_bytes(content[:-20])
    (folders / "six").unlink()
    out = tmp_path / "X.npy"
    with pytest.raises(ValueError, match=r"6\.png"):
        load_image_folder(folders, out=out, verbose=0)
    assert not out.exists()
    (folders / "spiral" / "6.png").write_bytes(content)
    read = []
    from skdistill.datasets import _image_folder

    whole = _image_folder._Reader.pixels

    def spy(self, i, shape=None, dtype=None):
        read.append(i)
        return whole(self, i, shape, dtype)

    monkeypatch.setattr(_image_folder._Reader, "pixels", spy)
    X = load_image_folder(folders, out=out, verbose=0).data
    np.testing.assert_array_equal(X, PIXELS[SORTED])
    assert set(read) == {0, 6, 7}


def test_home_folder(folders, monkeypatch):
    monkeypatch.setenv("HOME", str(Path(folders).parent))
    assert len(load_image_folder(f"~/{folders.name}", verbose=0).data) == 8
