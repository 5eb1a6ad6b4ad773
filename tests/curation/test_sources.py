"""Images in folders, in archives, and in the table."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pandas as pd
import polars
import pytest
from PIL import Image

from skdistill.curation import ImageReader, RotationAugmenter
from skdistill.curation import _decode as decoding


def make_png(seed=0, size=20):
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six images as files, and the same in an archive as the published one is."""
    folder = tmp_path_factory.mktemp("sources")
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for number in range(6):
            (folder / f"{number}.png").write_bytes(make_png(number))
            compression = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            archive.writestr(f"images/{number}.png", make_png(number), compression)
        archive.writestr("images/notes.txt", "no image")
    return folder


@pytest.fixture
def rows():
    return pd.DataFrame({"asset_id": [4, 0, 5]}, index=list("abc"))


@pytest.fixture
def expected(folder, rows):
    return ImageReader(images_dir=folder, size=8).transform(rows)


def test_archives(folder, rows, expected, monkeypatch):
    archive = folder / "images.zip"
    members = [f"images/{i}.png" for i in rows["asset_id"]]
    base = [f"{i}.png" for i in rows["asset_id"]]
    full = [f"{archive}!/{member}" for member in members]
    for images_dir, table in [
        (archive, rows),
        (f"{archive}!/images", rows),
        (f"{archive}!/images/", rows),
        (archive, members),
        (f"{archive}!/images", base),
        (None, full),
        (folder, full),
        (folder, [f"images.zip!/{member}" for member in members]),
        # Paths of files remain what they are.
        (archive, [folder / name for name in base]),
        (archive, pd.DataFrame({"path": members})),
    ]:
        X = ImageReader(images_dir=images_dir, size=8, n_jobs=2).transform(table)
        np.testing.assert_array_equal(X, expected)
    monkeypatch.chdir(folder)
    X = ImageReader(images_dir="images.zip", size=8).transform(rows)
    np.testing.assert_array_equal(X, expected)


def test_a_folder_with_the_border_in_its_name(tmp_path):
    folder = tmp_path / "wow!"
    folder.mkdir()
    (folder / "1.png").write_bytes(make_png())
    assert ImageReader(images_dir=folder, size=8).transform(["1.png"]).shape[0] == 1
    assert ImageReader(size=8).transform([folder / "1.png"]).shape[0] == 1


def test_what_an_archive_has_not(folder, rows):
    archive = folder / "images.zip"
    with pytest.raises(
        FileNotFoundError, match=r"Row 'a': '77\.jpg' does not exist in .*images.zip"
    ):
        ImageReader(images_dir=archive).transform(rows.assign(asset_id=[77, 0, 5]))
    with pytest.raises(FileNotFoundError, match=r"Row 1: .*'7\.png'.*2 of 2|1 of 2"):
        ImageReader(images_dir=archive).transform(["images/1.png", "7.png"])
    with pytest.raises(FileNotFoundError, match=r"has no file 'images/7\.png'"):
        ImageReader().transform([f"{archive}!/images/7.png"])
    with pytest.raises(ValueError, match=r"images\.zip!/images/notes\.txt': its"):
        ImageReader(images_dir=archive).transform(["images/notes.txt"])
    # Never outside of it.
    with pytest.raises(FileNotFoundError, match="has no file"):
        ImageReader(images_dir=f"{archive}!/images").transform(["../../0.png"])


def test_the_same_name_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a/1.png", make_png())
        archive.writestr("b/1.jpg", make_png())
    rows = pd.DataFrame({"asset_id": [1]})
    with pytest.raises(ValueError, match=r"several files of '1': \['a/1.png', 'b/1"):
        ImageReader(images_dir=tmp_path / "two.zip").transform(rows)
    X = ImageReader(images_dir=f"{tmp_path / 'two.zip'}!/a").transform(rows)
    assert len(X) == 1


def test_archives_of_other_names_and_kinds(folder, rows, expected, tmp_path):
    archive = tmp_path / "IMAGES.ZIP"
    archive.write_bytes((folder / "images.zip").read_bytes())
    X = ImageReader(images_dir=archive, size=8).transform(rows)
    np.testing.assert_array_equal(X, expected)
    other = tmp_path / "images.tar.gz"
    other.write_bytes(gzip.compress(b"0" * 2000))
    for table in (rows, ["images/4.png"]):
        with pytest.raises(ValueError, match=r"tar.gz' is not a zip archive"):
            ImageReader(images_dir=other).transform(table)


def test_damaged_archives(folder, tmp_path):
    archive = tmp_path / "images.zip"
    content = (folder / "images.zip").read_bytes()
    names = ["images/0.png", "images/1.png"]

    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        ValueError, match=r"images.zip' is not a zip archive, or is damaged"
    ):
        ImageReader(images_dir=archive).transform(names)

    # A changed byte of a member does not fit its checksum.
    for offset in (60, 200):
        changed = bytearray(content)
        changed[offset] ^= 4
        archive.write_bytes(changed)
        with pytest.raises(ValueError, match=r"images/0.png': Bad CRC-32"):
            ImageReader(images_dir=archive).transform(names)

    # Bit 0 of the flags, in the central directory.
    encrypted = bytearray(content)
    encrypted[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(encrypted)
    with pytest.raises(ValueError, match=r"0.png': the member .* is encrypted"):
        ImageReader(images_dir=archive).transform(names)

    # A size that is claimed, uncompressed.
    bomb = bytearray(content)
    struct.pack_into("<I", bomb, content.index(b"PK\x01\x02") + 24, 2**31)
    archive.write_bytes(bomb)
    with pytest.raises(ValueError, match=r"0.png': it has 2147483648 bytes, more than"):
        ImageReader(images_dir=archive).transform(names)
    reader = ImageReader(images_dir=archive, on_error="skip", size=8)
    with pytest.warns(UserWarning, match="1 of 2 images could not be read"):
        assert len(reader.transform(names)) == 1
    assert reader.skipped_["path"].tolist() == [f"{archive}!/images/0.png"]


def test_columns_of_bytes(folder, rows, expected):
    contents = [make_png(i) for i in rows["asset_id"]]
    paths = [str(folder / f"{i}.png") for i in rows["asset_id"]]
    as_dicts = [{"bytes": c, "path": "x.png"} for c in contents]
    by_path = [{"bytes": None, "path": p} for p in paths]
    reader = ImageReader(size=8)
    for values in (contents, as_dicts, by_path, [bytearray(c) for c in contents]):
        table = pd.DataFrame({"photo": values})
        X = ImageReader(size=8, path_column="photo").transform(table)
        np.testing.assert_array_equal(X, expected)
    # The usual column of that name needs no word, if it holds images.
    table = rows.assign(image=as_dicts)
    np.testing.assert_array_equal(reader.transform(table), expected)
    table = rows.assign(image=["SDSS", "SDSS", "HST"])
    X = ImageReader(images_dir=folder, size=8).transform(table)
    np.testing.assert_array_equal(X, expected)
    for sequence in (contents, as_dicts):
        np.testing.assert_array_equal(reader.transform(sequence), expected)
    table = polars.DataFrame({"image": contents})
    np.testing.assert_array_equal(reader.transform(table), expected)
    table = polars.DataFrame({"image": as_dicts})
    np.testing.assert_array_equal(reader.transform(table), expected)


def test_parquet(tmp_path, rows, expected):
    pytest.importorskip("pyarrow")
    images = [make_png(i) for i in rows["asset_id"]]
    pd.DataFrame({"image": images}).to_parquet(tmp_path / "images.parquet")
    table = pd.read_parquet(tmp_path / "images.parquet")
    np.testing.assert_array_equal(ImageReader(size=8).transform(table), expected)


def test_bytes_that_are_no_image(rows):
    table = rows.assign(image=[make_png(), b"no image", None])
    with pytest.raises(ValueError, match="Row 'c': None is not a path"):
        ImageReader().transform(table)
    with pytest.raises(ValueError, match="Row 'b': cannot read an image in the table"):
        ImageReader().transform(table.iloc[:2])
    reader = ImageReader(on_error="skip", size=8)
    with pytest.warns(UserWarning, match="2 of 3 images"):
        reader.transform(table)
    assert (
        reader.skipped_["error"]
        .str.contains("image format is unknown|not a path")
        .all()
    )


def test_values_of_strange_types(rows):
    for value in ([1, 2], np.zeros((4, 4)), 5.5, {"path": None}, ("a", [1])):
        table = pd.DataFrame({"path": pd.Series([value], dtype=object)})
        with pytest.raises((ValueError, TypeError), match=r"is not a path|unhashable"):
            ImageReader().transform(table)


def test_rotations_of_bytes_are_those_of_files(folder, rows):
    table = rows.assign(image=[make_png(i) for i in rows["asset_id"]])
    turned, _ = RotationAugmenter(3).fit_resample(table)
    X = ImageReader(size=8).transform(turned)
    turned, _ = RotationAugmenter(3).fit_resample(rows)
    np.testing.assert_array_equal(
        X, ImageReader(images_dir=folder, size=8).transform(turned)
    )


def test_every_byte_of_a_png_counts(tmp_path):
    content = make_png(size=6)
    whole = ImageReader(size=6, crop=1).transform([content])
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1
        for damaged in (bytes(changed), content[:position]):
            try:
                X = ImageReader(size=6, crop=1).transform([damaged])
            except ValueError:
                continue
            np.testing.assert_array_equal(X, whole)


def test_very_large_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("skdistill.curation._sources.MAX_BYTES", 50)
    (tmp_path / "1.png").write_bytes(make_png())
    with pytest.raises(ValueError, match=r"1.png': it has more than 50 bytes"):
        ImageReader(images_dir=tmp_path).transform(["1.png"])


def test_gzip(tmp_path, monkeypatch):
    zipped = gzip.compress(make_png(size=30))
    X = ImageReader(size=8).transform([zipped])
    np.testing.assert_array_equal(X, ImageReader(size=8).transform([make_png(size=30)]))
    with pytest.raises(ValueError, match="its gzip stream has no end"):
        ImageReader().transform([zipped[:-12]])
    with pytest.raises(ValueError, match="cannot read"):
        ImageReader().transform([zipped[:40] + b"123" + zipped[43:]])
    monkeypatch.setattr(decoding, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="it has more than 1000 bytes"):
        ImageReader().transform([zipped])


def test_channels(folder, rows, expected):
    X = ImageReader(images_dir=folder, size=8, bands=[2, 0]).transform(rows)
    np.testing.assert_array_equal(X, expected[..., [2, 0]])
    for wrong in ([3], ["r"]):
        with pytest.raises(ValueError, match="must hold numbers among 0, 1, 2"):
            ImageReader(images_dir=folder, bands=wrong).transform(rows)
    for wrong in ([], [0.5], [None], [True, False, True]):
        with pytest.raises(ValueError, match="`bands` must hold numbers or names"):
            ImageReader(images_dir=folder, bands=wrong).transform(rows)
