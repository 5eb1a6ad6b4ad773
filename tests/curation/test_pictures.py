"""What a file says of its pixels against what Pillow and astropy make of it."""

import io
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skdistill.curation import ImageReader, RotationAugmenter
from skdistill.curation._planes import check_axes

fits = pytest.importorskip("astropy.io.fits")

FAINT = np.linspace(0, 255, 32 * 32).astype(np.uint16).reshape(32, 32, 1)


def read(*contents, **params):
    return ImageReader(**({"size": 8, "crop": 1.0} | params)).transform([*contents])


def png(pixels, bits=16):
    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in pixels)

    def chunk(name, data):
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(pixels, extra=None, number=1, kind=0):
    """A file of one strip, as scientific programs write it."""
    height, width, channels = pixels.shape
    bits = 8 * pixels.itemsize
    entries = [(254, 4, [kind]), (256, 3, [width]), (257, 3, [height])]
    entries += [(258, 3, [bits] * channels), (259, 3, [1])]
    entries += [(262, 3, [2 if channels > 2 else 1]), (273, 4, [8])]
    entries += [(277, 3, [channels]), (278, 3, [height]), (279, 4, [pixels.nbytes])]
    entries += [] if extra is None else [(338, 3, [extra] * (channels - 3))]
    entries += [(339, 3, [number] * channels)]
    data = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    more = 8 + len(data) + 2 + 12 * len(entries) + 4
    directory, outside = struct.pack("<H", len(entries)), b""
    for tag, code, values in entries:
        packed = struct.pack(f"<{len(values)}{'HI'[code - 3]}", *values)
        if len(packed) > 4:
            place = struct.pack("<I", more + len(outside))
            outside, packed = outside + packed + b"\0" * (len(packed) % 2), place
        directory += struct.pack("<HHI", tag, code, len(values)) + packed.ljust(
            4, b"\0"
        )
    start = b"II*\0" + struct.pack("<I", 8 + len(data))
    return start + data + directory + bytes(4) + outside


def saved(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def ppm(magic, maximum, pixels):
    header = f"{magic}\n# a comment\n32 32 #another\n{maximum}\n"
    return header.encode() + pixels.tobytes()


def jpeg2000(dtype):
    if dtype == np.uint8:
        image = Image.fromarray(FAINT.astype(np.uint8).repeat(3, axis=2))
        return saved(image, "JPEG2000")
    # The depth alone is changed: what follows is never decoded.
    content = bytearray(jpeg2000(np.uint8))
    place = content.index(b"\xff\x4f\xff\x51") + 42
    content[place : place + 9 : 3] = b"\x0f" * 3
    return bytes(content)


DEEP = {
    **{f"PNG, {c} channels": png(FAINT.repeat(c, axis=2)) for c in (1, 2, 3, 4)},
    "PPM": ppm("P6", 65535, FAINT.repeat(3, axis=2).astype(">u2")),
    "PPM of 12 bits": ppm("P6", 4095, FAINT.repeat(3, axis=2).astype(">u2")),
    "PGM": ppm("P5", 65535, FAINT.astype(">u2")),
    **{f"TIFF, {c} channels": tiff(FAINT.repeat(c, axis=2)) for c in (1, 3, 4)},
    "TIFF of 32 bits": tiff(FAINT.astype(np.uint32)),
    "TIFF of floats": tiff(FAINT.astype(np.float32), number=3),
    "TIFF of three bands of floats": tiff(
        FAINT.repeat(3, axis=2).astype(np.float32), number=3
    ),
    "JPEG 2000": jpeg2000(np.uint16),
}


@pytest.mark.parametrize("name", DEEP)
def test_no_bit_is_dropped(name):
    with pytest.raises(
        ValueError, match=r"more than (the )?8|kind that Pillow does not"
    ):
        read(DEEP[name])


def test_eight_bits_are_read():
    pixels = (np.arange(32 * 32) % 256).astype(np.uint8).reshape(32, 32, 1)
    color = pixels.repeat(3, axis=2)
    expected = read(saved(Image.fromarray(color), "BMP"))
    for content in (
        *(png(pixels.repeat(c, axis=2), bits=8) for c in (1, 3)),
        *(tiff(pixels.repeat(c, axis=2)) for c in (1, 3)),
        ppm("P6", 255, color),
        ppm("P5", 255, pixels),
    ):
        np.testing.assert_array_equal(read(content), expected)
    assert read(jpeg2000(np.uint8)).shape == (1, 8, 8, 3)
    assert read(saved(Image.fromarray(pixels[..., 0] > 99), "TIFF")).max() > 200
    palette = Image.fromarray(color).quantize(7)
    assert read(saved(palette, "GIF")).shape == (1, 8, 8, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(np.zeros((8, 8, 4), np.uint8), extra=0), "it has 4 bands"),
        (tiff(np.zeros((8, 8, 5), np.uint8), extra=0), "5 bands|does not read"),
        (tiff(np.zeros((8, 8, 1), np.int8), number=2), "signed|does not read"),
    ],
)
def test_bands_and_numbers_that_pillow_would_change(content, reason):
    with pytest.raises(ValueError, match=reason):
        read(content)


@pytest.mark.parametrize("form", ["TIFF", "GIF", "PNG", "WEBP"])
def test_several_frames(form):
    frames = [Image.new("RGB", (8, 8), (60 * i,) * 3) for i in range(3)]
    several = saved(frames[0], form, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="several frames or pages; save the right one"):
        read(several)
    assert read(saved(frames[0], form, save_all=True)).shape == (1, 8, 8, 3)


def test_what_is_lost_is_told():
    opaque = Image.new("RGBA", (8, 8), (9, 9, 9, 255))
    clear = Image.new("RGBA", (8, 8), (9, 9, 9, 255))
    clear.putpixel((0, 0), (200, 0, 0, 0))
    exif = Image.Exif()
    exif[274] = 6
    turned = saved(opaque.convert("RGB"), "JPEG", exif=exif)
    upright = saved(opaque.convert("RGB"), "JPEG", exif=Image.Exif())
    read(saved(opaque, "PNG"), saved(opaque.convert("LA"), "PNG"), upright)
    rows = [upright, saved(clear, "PNG"), saved(clear, "WEBP", lossless=True), turned]
    with pytest.warns(UserWarning, match="of 4 images") as warned:
        read(*rows, n_jobs=2)
    assert {w.filename for w in warned} == {__file__}
    messages = sorted(str(w.message) for w in warned)
    assert "1 of 4 images have an EXIF orientation" in messages[0]
    assert "the first is in row 3" in messages[0]
    assert "2 of 4 images have transparent pixels" in messages[1]
    assert len(messages) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!DOCTYPE html><p>no such image", "it is a web page, .*no such image"),
        (b' {"error": 404}', "it is JSON, .*404"),
        (b"\x93NUMPY\x01\x00v\x00{'descr'", r"it is a NumPy array .*np\.load\(path\)"),
        (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file"),
        (b"PK\x03\x04", r"it is a zip archive \(\.zip, \.npz"),
        (b"II*\0 nothing", "it is a TIFF file that is damaged or of a kind"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer: run"),
        (b"galaxies", "image format is unknown"),
    ],
)
def test_what_is_no_image(content, reason):
    with pytest.raises(ValueError, match=reason):
        read(content)


def test_arrays_beside_images_are_named(tmp_path):
    np.save(tmp_path / "7.npy", np.zeros((8, 8)))
    with pytest.raises(FileNotFoundError, match=r"does not exist; found \['7\.npy'\]"):
        ImageReader(images_dir=tmp_path).transform(pd.DataFrame({"asset_id": [7]}))
    with pytest.raises(ValueError, match="it is a NumPy array"):
        ImageReader(images_dir=tmp_path).transform(["7.npy"])


def fits_bytes(*hdus):
    file = io.BytesIO()
    fits.HDUList([*hdus]).writeto(file, output_verify="silentfix")
    return file.getvalue()


def planes(**named):
    images = [fits.ImageHDU(plane, name=name) for name, plane in named.items()]
    return fits_bytes(fits.PrimaryHDU(), *images)


SCIENCE = np.arange(64, dtype=np.float32).reshape(8, 8)


@pytest.mark.parametrize(
    "others",
    [("ERR", "DQ"), ("WHT", "CTX"), ("ivar", "Mask"), ("SCI_ERR", "PSF1"), ("VAR_X",)],
)
@pytest.mark.parametrize("stretch", [None, 1.0])
def test_errors_and_flags_are_no_bands(others, stretch):
    planes_of = {"SCI": SCIENCE} | {name: 4096 - SCIENCE for name in others}
    content = planes(**planes_of)
    with pytest.warns(UserWarning, match="are left out .*`bands` to select") as warned:
        X = read(content, stretch=stretch)
    assert warned[0].filename == __file__
    np.testing.assert_array_equal(
        X, read(fits_bytes(fits.PrimaryHDU(SCIENCE)), stretch=stretch)
    )
    assert read(content, bands=list(planes_of)).shape[-1] == len(planes_of)
    del planes_of["SCI"]
    with pytest.raises(ValueError, match="flags or the like; use `bands`"):
        read(planes(**planes_of))


def test_bands_that_look_alike():
    with pytest.warns(UserWarning, match="of floats and of integers"):
        read(planes(A=SCIENCE, B=SCIENCE.astype(np.int16)))
    chips = [fits.ImageHDU(SCIENCE, name="SCI") for _ in range(2)]
    content = fits_bytes(fits.PrimaryHDU(), *chips)
    with pytest.warns(UserWarning, match=r"several images of the same name, \['SCI'\]"):
        assert read(content).shape[-1] == 2
    with pytest.raises(ValueError, match="asks for 'sci'; several of the images"):
        read(content, bands=["sci"])
    cube = fits.ImageHDU(np.stack([SCIENCE] * 3))
    with pytest.warns(UserWarning, match="the first is a cube: only its planes"):
        assert read(fits_bytes(fits.PrimaryHDU(), cube, *chips)).shape[-1] == 3
    # Bands by name are no guess.
    assert read(planes(U=SCIENCE, G=SCIENCE, R=SCIENCE)).shape[-1] == 3


@pytest.mark.parametrize(
    "shape", [(64, 64, 3), (48, 48, 5), (40, 60, 4), (64, 64, 1), (40, 3, 40)]
)
@pytest.mark.parametrize("packed", [False, True])
def test_bands_on_another_axis(shape, packed):
    cube = np.random.default_rng(0).random(shape).astype("f4")
    hdus = [fits.PrimaryHDU(cube)]
    if packed:
        hdus = [fits.PrimaryHDU(), fits.CompImageHDU(cube, quantize_level=0)]
    axis = -1 if shape[2] < 10 else 1
    with pytest.raises(ValueError, match=rf"bands on the .*np.moveaxis\(data, {axis}"):
        read(fits_bytes(*hdus))
    content = fits_bytes(fits.PrimaryHDU(np.moveaxis(cube, axis, 0)))
    assert read(content).shape[-1] == shape[axis]


@pytest.mark.parametrize(
    "shape", [(3, 64, 64), (1, 9, 9), (64, 10, 10), (3, 3, 3), (5, 4, 4), (100, 20, 24)]
)
def test_cubes_as_they_should_be(shape):
    check_axes(shape)


@pytest.mark.parametrize("dtype", ["i2", "u2", "u4", "i4", "u1"])
@pytest.mark.parametrize("packed", [False, True])
def test_blank_pixels_are_missing(dtype, packed):
    pixels = np.full((8, 8), 7, dtype=dtype)
    # What stands for missing: the lowest number that is stored.
    lowest = {"u2": -(2**15), "u4": -(2**31)}.get(dtype, np.iinfo(dtype).min)
    pixels[2:5, 2:5] = np.iinfo(dtype).min
    hdu = fits.CompImageHDU(pixels) if packed else fits.ImageHDU(pixels)
    hdu.header["BLANK"] = lowest
    X = read(fits_bytes(fits.PrimaryHDU(), hdu), size=2)
    np.testing.assert_array_equal(X, np.full((1, 2, 2, 1), 7))


def picture(side, value=200):
    """Bright in the central half only."""
    pixels = np.zeros((side, side, 3), dtype=np.uint8)
    pixels[side // 4 : -side // 4, side // 4 : -side // 4] = value
    return saved(Image.fromarray(pixels), "PNG")


def test_the_crop_is_that_of_the_source():
    cutout, own = picture(424), picture(48)
    reader = ImageReader(size=4)
    with pytest.warns(UserWarning, match="treated as Galaxy Zoo cutouts") as warned:
        X = reader.transform([cutout, cutout])
    assert warned[0].filename == __file__
    np.testing.assert_array_equal(X, read(cutout, cutout, size=4, crop=0.5))
    assert X.min() == 200
    # Nothing is lost of others, and nothing is said.
    np.testing.assert_array_equal(reader.transform([own]), read(own, size=4))
    np.testing.assert_array_equal(
        reader.transform([own, cutout]), read(own, cutout, size=4)
    )
    with pytest.raises(ValueError, match=r"48 x 48 pixels; .* 424 x 424, .*`crop`"):
        reader.transform([cutout, own])
    flux = fits_bytes(fits.PrimaryHDU(np.ones((424, 424), dtype=np.float32)))
    assert reader.transform([flux]).shape == (1, 4, 4, 1)


def test_tables_of_galaxy_zoo_say_so():
    votes = {"t01_smooth_or_features_a01_smooth_fraction": [0.5]}
    reader = ImageReader(size=4, path_column="image")
    for more in ({"asset_id": [1]}, {"dr7objid": [1]}, votes):
        X = reader.transform(pd.DataFrame({"image": [picture(424)]} | more))
        assert X.min() == 200
    table = pd.DataFrame({"image": [picture(48)]} | votes)
    with pytest.warns(UserWarning, match="do not have the 424 x 424 .*not cropped"):
        reader.transform(table)
    reader.set_params(crop=1).transform(table)


def test_corners_of_whole_images_that_are_turned():
    table = pd.DataFrame({"image": [picture(48)]})
    turned, _ = RotationAugmenter(3).fit_resample(table)
    with pytest.warns(UserWarning, match=r"have corners of 0.*`crop=0\.7`"):
        ImageReader(size=4).transform(turned)
    ImageReader(size=4, crop=0.7).transform(turned)
    ImageReader(size=4).transform(table.assign(rotation=90.0))
