import io
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from skdistill.curation import GalaxyZooCurator, ImageReader, RotationAugmenter
from skdistill.curation._cutout import cut_out

BOX, BILINEAR = Image.Resampling.BOX, Image.Resampling.BILINEAR


def make_image(width=106, height=106, seed=0):
    """Smooth blobs without any symmetry, so that every turn shows."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    pixels = np.zeros((height, width, 3))
    for _ in range(8):
        cx, cy = rng.uniform(0, width), rng.uniform(0, height)
        blob = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / rng.uniform(300, 3000))
        pixels += blob[..., None] * rng.uniform(5, 60, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def plain(image, size, crop, angle=0):
    """Rotate the whole image, crop it, resample: step by step, as one would say it."""
    if angle:
        image = image.rotate(angle, resample=BILINEAR)
    side = round(crop * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return np.asarray(image.resize((size, size), BOX))


def difference(a, b):
    return np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images `{asset_id}.jpg` and a few in other forms."""
    folder = tmp_path_factory.mktemp("images")
    for asset_id in range(12):
        make_image(seed=asset_id).save(folder / f"{asset_id}.jpg", quality=95)
    return folder


@pytest.fixture
def rows():
    return pd.DataFrame({"asset_id": [3, 0, 11, 7]}, index=list("dabc"))


@pytest.mark.parametrize(("size", "crop"), [(32, 0.5), (53, 0.5), (20, 1.0), (64, 0.3)])
def test_unrotated_images_are_exactly_crop_and_area_mean(folder, rows, size, crop):
    X = ImageReader(images_dir=folder, size=size, crop=crop).fit_transform(rows)
    assert X.shape == (4, size, size, 3)
    assert X.dtype == np.uint8
    assert X.flags.c_contiguous
    for image, asset_id in zip(X, rows["asset_id"], strict=True):
        expected = plain(Image.open(folder / f"{asset_id}.jpg"), size, crop)
        np.testing.assert_array_equal(image, expected)


@settings(max_examples=30)
@given(
    angle=st.floats(-400, 400),
    size=st.sampled_from([16, 32, 48]),
    crop=st.sampled_from([0.3, 0.5, 0.7]),
    width=st.sampled_from([100, 120]),
    height=st.sampled_from([100, 120]),
)
def test_rotated_images_are_close_to_the_plain_way(angle, size, crop, width, height):
    image = make_image(width, height)
    got = np.asarray(cut_out(image, size=size, crop=crop, angle=angle), dtype=float)
    expected = plain(image, size, crop, angle)
    assert difference(got, expected) < 1


def test_rotated_pixels_are_means_over_tilted_squares():
    image = make_image(80, 80)
    pixels = np.asarray(image, dtype=float)
    size, side, angle, n = 20, 40, np.radians(25), 40
    # The color under each of n * n points in each pixel of the result.
    steps = ((np.arange(size * n) + 0.5) / n - size / 2) * side / size
    x, y = np.meshgrid(steps, steps)
    column = np.floor(40 + x * np.cos(angle) - y * np.sin(angle)).astype(int)
    row = np.floor(40 + x * np.sin(angle) + y * np.cos(angle)).astype(int)
    expected = pixels[row, column].reshape(size, n, size, n, 3).mean(axis=(1, 3))
    got = np.asarray(cut_out(image, size=size, crop=0.5, angle=25), dtype=float)
    assert difference(got, expected) < 0.6
    assert abs((got - expected).mean()) < 0.05


@pytest.mark.parametrize("side", [100, 101])
@pytest.mark.parametrize("crop", [0.5, 1.0])
@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 4, 7])
def test_quarter_turns(side, crop, turns):
    image = make_image(side, side)
    upright = np.asarray(cut_out(image, size=32, crop=crop))
    turned = np.asarray(cut_out(image, size=32, crop=crop, angle=90.0 * turns))
    np.testing.assert_array_equal(turned, np.rot90(upright, turns))
    # As if the file were turned (where the crop can be central), and as the angles
    # next to it.
    if (side - round(crop * side)) % 2 == 0:
        turned_file = Image.fromarray(np.rot90(np.asarray(image), turns).copy())
        assert difference(cut_out(turned_file, size=32, crop=crop), turned) < 1
    nearly = cut_out(image, size=32, crop=crop, angle=90.0 * turns + 1e-4)
    assert difference(nearly, turned) < 1


def test_large_images_are_still_area_means():
    image = make_image(1200, 1000)
    for angle in (0, 30, 45.5):
        got = cut_out(image, size=32, crop=0.5, angle=angle)
        assert difference(got, plain(image, 32, 0.5, angle)) < 1


def test_noise_is_averaged_not_picked():
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    for angle in (0, 10, 45):
        cutout = np.asarray(
            cut_out(Image.fromarray(noise), size=20, crop=0.5, angle=angle)
        )
        # A pixel is the mean of 100 pixels: a tenth of their spread.
        assert cutout.std() == pytest.approx(noise.std() / 10, rel=0.2)
        assert cutout.mean() == pytest.approx(noise.mean(), abs=1)


def test_corners_beyond_the_image_are_black():
    white = Image.new("RGB", (64, 64), "white")
    cutout = np.asarray(cut_out(white, size=32, crop=1.0, angle=45))
    assert (cutout[[0, 0, -1, -1], [0, -1, 0, -1]] == 0).all()
    assert (cutout[8:24, 8:24] == 255).all()
    inside = np.asarray(cut_out(white, size=32, crop=0.7, angle=45))
    assert (inside == 255).all()


def test_small_images_are_enlarged():
    image = make_image(10, 10)
    assert cut_out(image, size=64, crop=0.5).size == (64, 64)
    enlarged = cut_out(image, size=60, crop=1.0, angle=1e-5)
    assert difference(enlarged, plain(image, 60, 1.0)) < 1
    assert cut_out(Image.new("RGB", (1, 1)), size=4, crop=0.1, angle=3).size == (4, 4)


def test_central_square_of_an_oblong(tmp_path):
    image = make_image(140, 100)
    image.save(tmp_path / "oblong.png")
    image.crop((20, 0, 120, 100)).save(tmp_path / "square.png")
    for angle in (0, 90, 33):
        rows = pd.DataFrame({"path": ["oblong.png", "square.png"], "rotation": angle})
        X = ImageReader(images_dir=tmp_path, size=25, crop=0.5).transform(rows)
        np.testing.assert_array_equal(X[0], X[1])
    paths = [tmp_path / "oblong.png", tmp_path / "square.png"]
    with pytest.warns(
        UserWarning, match="1 of 2 images are not square, and only the square .* row 0"
    ):
        X = ImageReader(size=25).transform(paths)
    np.testing.assert_array_equal(X[0], X[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(ImageReader(size=25, crop=1).transform(paths), X)
        image.crop((0, 0, 104, 100)).save(tmp_path / "nearly.png")
        ImageReader(size=25).transform([tmp_path / "nearly.png"])


def test_rotation_column(folder, rows):
    augmented, _ = RotationAugmenter(5).fit_resample(rows)
    reader = ImageReader(images_dir=folder, size=24, crop=0.5)
    X = reader.transform(augmented)
    for image, (_, row) in zip(X, augmented.iterrows(), strict=True):
        file = Image.open(folder / f"{row['asset_id']:.0f}.jpg")
        expected = cut_out(file, size=24, crop=0.5, angle=row["rotation"])
        np.testing.assert_array_equal(image, expected)
    # Adjacent rows share a decoded file; that must not show.
    order = np.random.default_rng(0).permutation(len(augmented))
    np.testing.assert_array_equal(reader.transform(augmented.iloc[order]), X[order])


def test_many_rows_in_threads_keep_their_order(folder):
    ids = np.random.default_rng(0).integers(0, 12, 300)
    rows = pd.DataFrame({"asset_id": ids, "rotation": ids * 7.5})
    one = ImageReader(images_dir=folder, size=8).transform(rows)
    two = ImageReader(images_dir=folder, size=8, n_jobs=2).transform(rows)
    np.testing.assert_array_equal(one, two)
    first = {asset_id: one[np.argmax(ids == asset_id)] for asset_id in set(ids)}
    for image, asset_id in zip(one, ids, strict=True):
        np.testing.assert_array_equal(image, first[asset_id])


def test_ways_to_name_the_files(folder, rows, monkeypatch):
    reader = ImageReader(images_dir=folder, size=16)
    expected = reader.transform(rows)
    names = [f"{i}.jpg" for i in rows["asset_id"]]
    absolute = [folder / name for name in names]

    for table in (
        rows.assign(path=names, asset_id=-1),
        rows.assign(file_loc=absolute, asset_id=-1),
        rows.astype(float),
        rows.astype(str),
        names,
        absolute,
        np.array(names),
        pd.Series(names, index=list("xyzw")),
    ):
        np.testing.assert_array_equal(reader.transform(table), expected)
    elsewhere = rows.assign(path="none.jpg", picture=names)
    reader = ImageReader(images_dir=folder, path_column="picture", size=16)
    np.testing.assert_array_equal(reader.transform(elsewhere), expected)
    monkeypatch.chdir(folder)
    np.testing.assert_array_equal(ImageReader(size=16).transform(names), expected)


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "png"])
def test_extensions_of_assets(tmp_path, extension):
    make_image().save(tmp_path / f"5.{extension}")
    X = ImageReader(images_dir=tmp_path).transform(pd.DataFrame({"asset_id": [5]}))
    assert X.shape == (1, 128, 128, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_modes_become_rgb(tmp_path, mode):
    image = make_image().convert(mode)
    name = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    image.save(name)
    for angle in (0, 20):
        rows = pd.DataFrame({"path": [name], "rotation": angle})
        X = ImageReader(size=30, crop=0.5).transform(rows)
        expected = cut_out(image.convert("RGB"), size=30, crop=0.5, angle=angle)
        np.testing.assert_array_equal(X[0], expected)


@pytest.mark.parametrize("mode", ["I", "I;16", "F"])
def test_more_than_eight_bits_are_refused(tmp_path, mode):
    name = tmp_path / "deep.tif"
    Image.new(mode, (20, 20)).save(name)
    with pytest.raises(ValueError, match=r"deep.tif.*more than 8 bits.* as FITS"):
        ImageReader().transform([name])


@pytest.mark.parametrize("form", ["JPEG", "progressive", "PNG"])
def test_files_cut_short_are_never_read(tmp_path, form):
    file = io.BytesIO()
    if form == "PNG":
        make_image().save(file, "PNG")
    else:
        make_image().save(file, "JPEG", quality=90, progressive=form == "progressive")
    content = file.getvalue()
    name = tmp_path / "image"
    name.write_bytes(content)
    reader = ImageReader(size=106, crop=1.0)
    whole = reader.transform([name])
    n_refused = 0
    lengths = [*range(0, len(content), 41), *range(len(content) - 40, len(content))]
    for length in lengths:
        name.write_bytes(content[:length])
        try:
            X = reader.transform([name])
        except ValueError as error:
            assert str(name) in str(error)  # noqa: PT017
            n_refused += 1
        else:
            # Only bytes behind the last pixel may be missing.
            assert length >= len(content) - 40
            np.testing.assert_array_equal(X, whole)
    assert n_refused >= len(lengths) - 40


def test_lenient_pillow_is_refused(folder, rows, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ValueError, match="LOAD_TRUNCATED_IMAGES"):
        ImageReader(images_dir=folder).transform(rows)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [100 * 100, 50 * 50])
def test_too_many_pixels_are_refused(folder, rows, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=r"Row 'd': cannot read .*3\.jpg.*pixels"):
        ImageReader(images_dir=folder).transform(rows)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    ImageReader(images_dir=folder).transform(rows)


def test_missing_files_are_found_before_any_is_read(folder, rows, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("a file was opened")

    monkeypatch.setattr(Image, "open", never)
    reader = ImageReader(images_dir=folder)
    rows.loc["b", "asset_id"] = 99
    with pytest.raises(
        FileNotFoundError, match=r"Row 'b': .*99\.jpg' does not exist\. 1 of 4 rows"
    ):
        reader.transform(rows)
    for ids in (["1237", "1238"], [1237, 1238]):
        table = pd.DataFrame({"objid": ids})
        named = ImageReader(images_dir=folder, path_column="objid", size=4)
        with pytest.raises(
            (FileNotFoundError, ValueError),
            match=r"2 of 2 rows .*`id_column='objid'` .*instead of `path_column`",
        ):
            named.transform(table)
    with pytest.raises(TypeError, match=r"sorted\(Path\(folder\)\.glob"):
        ImageReader(size=4).transform(folder)
    with pytest.raises(FileNotFoundError, match=r"Row 1: .* does not exist"):
        reader.transform(["0.jpg", "zero.jpg"])
    with pytest.raises(FileNotFoundError, match=r"Row 0: .* is a folder, not a file"):
        reader.transform([folder])
    with pytest.raises(ValueError, match="Row 'a': nan is not an id"):
        reader.transform(rows.assign(asset_id=[1, None, 2, 3]))
    with pytest.raises(
        ValueError, match=r"Row 'd': 3 is not a path.*`id_column='asset_id'`.* instead"
    ):
        ImageReader(images_dir=folder, path_column="asset_id").transform(rows)


def damage(folder, tmp_path):
    """Rows of which the second, third and fifth cannot be read."""
    (tmp_path / "text.jpg").write_text("its image")
    (tmp_path / "half.jpg").write_bytes((folder / "1.jpg").read_bytes()[:1000])
    names = ["0.jpg", tmp_path / "text.jpg", "gone.jpg", "4.jpg", tmp_path / "half.jpg"]
    return pd.DataFrame({"path": names}, index=list("vwxyz"))


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_skip(folder, tmp_path, n_jobs):
    rows = damage(folder, tmp_path)
    reader = ImageReader(images_dir=folder, size=16, on_error="skip", n_jobs=n_jobs)
    message = r"3 of 5 images .* row 'w': cannot .*text"
    with pytest.warns(UserWarning, match=message) as warned:
        X = reader.transform(rows)
    assert warned[0].filename == __file__
    assert reader.sample_indices_.tolist() == [0, 3]
    assert reader.skipped_.index.tolist() == ["w", "x", "z"]
    assert [os.path.basename(p) for p in reader.skipped_["path"]] == [
        "text.jpg",
        "gone.jpg",
        "half.jpg",
    ]
    assert "truncated" in reader.skipped_.loc["z", "error"]
    assert "does not exist" in reader.skipped_.loc["x", "error"]
    np.testing.assert_array_equal(X, reader.transform(rows.iloc[[0, 3]]))
    # Nothing was skipped the second time.
    assert reader.sample_indices_.tolist() == [0, 1]
    assert len(reader.skipped_) == 0
    with pytest.raises(ValueError, match="2 of 2 images could not be read"):
        reader.transform(rows.iloc[[1, 2]])


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize(
    ("row", "reason"), [("w", "image format is unknown"), ("z", "truncated")]
)
def test_raise(folder, tmp_path, n_jobs, row, reason):
    rows = damage(folder, tmp_path).loc[["v", row, "y"]]
    with pytest.raises(ValueError, match=f"Row '{row}': cannot read .*jpg.*{reason}"):
        ImageReader(images_dir=folder, n_jobs=n_jobs).transform(rows)


def test_lack_of_memory_is_no_damaged_file(folder, rows, monkeypatch):
    def too_large(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(Image, "open", too_large)
    with pytest.raises(MemoryError):
        ImageReader(images_dir=folder, on_error="skip").transform(rows)


def test_wrong_rows(folder, rows):
    reader = ImageReader(images_dir=folder)
    for wrong in ("0.jpg", Path("0.jpg"), b"0.jpg", 5, iter(["0.jpg"])):
        with pytest.raises(TypeError, match="DataFrame or a sequence of paths; got"):
            reader.transform(wrong)
    with pytest.raises(TypeError, match=r"Read the table .*load_image_folder"):
        reader.transform("rows.parquet")
    with pytest.raises(TypeError, match="element 1 is a int"):
        reader.transform(["0.jpg", 1])
    with pytest.raises(TypeError, match="element 0 is a ndarray"):
        reader.transform(np.zeros((2, 3)))
    for empty in (rows.iloc[:0], []):
        with pytest.raises(ValueError, match="at least one row"):
            reader.transform(empty)
    with pytest.raises(ValueError, match=r"'image', 'asset_id'\].*\['objid'\]"):
        reader.transform(pd.DataFrame({"objid": [1]}))
    with pytest.raises(ValueError, match=r"`path_column='file'` requires .*\['file'\]"):
        ImageReader(path_column="file").transform(rows)
    with pytest.raises(ValueError, match="`images_dir` must be the folder"):
        ImageReader().transform(rows)
    with pytest.raises(ValueError, match="got inf in row 'd'"):
        reader.transform(rows.assign(rotation=np.inf))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images_dir", 5),
        ("path_column", 5),
        ("size", 0),
        ("size", 12.5),
        ("crop", 0.0),
        ("crop", 1.01),
        ("n_jobs", 1.5),
        ("on_error", "ignore"),
    ],
)
def test_wrong_parameters(rows, name, value):
    for method in ("fit", "transform"):
        with pytest.raises(ValueError, match=f"The '{name}' parameter"):
            getattr(ImageReader(**{name: value}), method)(rows)


def test_estimator(folder, rows):
    reader = ImageReader(images_dir=folder, size=16, crop=0.75)
    assert clone(reader).get_params() == reader.get_params()
    check_is_fitted(reader)
    X = reader.transform(rows)
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.transform(rows), X)
    np.testing.assert_array_equal(make_pipeline(reader).fit_transform(rows), X)
    np.testing.assert_array_equal(make_pipeline(reader).transform(rows), X)


def test_real_images(shared_data):
    folder = shared_data / "gz2-sample" / "images"
    names = sorted(os.listdir(folder))[:20]
    rows = pd.DataFrame({"path": names, "rotation": np.arange(20) * 36.0})
    with pytest.warns(UserWarning, match="treated as Galaxy Zoo cutouts"):
        X = ImageReader(images_dir=folder).transform(rows)
    for image, name, angle in zip(X, names, rows["rotation"], strict=True):
        expected = plain(Image.open(folder / name), 128, 0.5, angle)
        assert difference(image, expected) < 1


def test_rows_of_polars(folder, rows):
    rows["rotation"] = [0.0, 36.0, 90.0, -20.0]
    reader = ImageReader(images_dir=folder, size=16)
    table = polars.from_dict(rows.to_dict("list"))
    assert np.array_equal(reader.transform(table), reader.transform(rows))
    turned = polars.Series("rotation", [0.0, None, 0.0, 0.0])
    with pytest.raises(ValueError, match="got nan in row 1"):
        reader.transform(table.with_columns(turned))


def test_paths_that_came_as_bytes(folder):
    names = [f"{i}.jpg" for i in range(3)]
    reader = ImageReader(images_dir=folder, size=8)
    expected = reader.transform(names)
    padded = np.array([f"{name}  ".encode() for name in names])
    for rows in (padded, pd.DataFrame({"path": padded}), pd.Series(padded)):
        assert np.array_equal(reader.transform(rows), expected)
    # Bytes of which not all are text are images.
    with pytest.raises(ValueError, match="Row 0: cannot read an image in the table"):
        reader.transform([b"no image", (folder / "0.jpg").read_bytes()])


def test_columns_of_one_name(folder):
    rows = pd.DataFrame([["0.jpg", "1.jpg"]], columns=["path", "path"])
    for reader in (ImageReader(), ImageReader(path_column="path")):
        with pytest.raises(ValueError, match="`rows` has the column 'path' more than"):
            reader.set_params(images_dir=folder, size=8).transform(rows)


def test_other_kinds_of_tables_are_told_how_to_be_passed(folder):
    arrow = pyarrow.table({"path": ["0.jpg"]})
    with pytest.raises(TypeError, match=r"got Table: pass its \.to_pandas\(\)"):
        ImageReader(images_dir=folder, size=8).transform(arrow)
    with pytest.raises(TypeError, match=r"got Table: pass its \.to_pandas\(\)"):
        GalaxyZooCurator().fit(arrow)
    lazy = polars.LazyFrame({"path": ["0.jpg"]})
    reader = ImageReader(images_dir=folder, size=8)
    for take in (reader.transform, GalaxyZooCurator().fit, RotationAugmenter().fit):
        with pytest.raises(TypeError, match=r"got LazyFrame: pass its \.collect\(\)"):
            take(lazy)


@pytest.mark.parametrize("lost", [b"", b"SIMPLE  =                    T"])
def test_bytes_of_lost_images_are_no_paths(lost):
    with pytest.raises(ValueError, match="cannot read"):
        ImageReader().transform([lost])
    reader = ImageReader(images_dir="nowhere")
    with pytest.raises(FileNotFoundError, match="png"):
        reader.transform(pd.DataFrame({"path": [b"a.png", b""]}))


def test_rows_are_named_as_python_writes_them():
    rows = pd.DataFrame({"path": ["a.png", "b.png"]}, index=np.array([7, 12]))
    with pytest.raises(FileNotFoundError, match="Row 7: "):
        ImageReader(images_dir="nowhere").transform(rows)
    png = io.BytesIO()
    make_image().save(png, format="PNG")
    images = pd.Series([png.getvalue(), b"\xff no image"], index=[7, 12])
    with pytest.raises(ValueError, match="Row 12: cannot read"):
        ImageReader().transform(images)
    reader = ImageReader(on_error="skip")
    with pytest.warns(UserWarning, match="the first: row 12: "):
        reader.transform(images)
