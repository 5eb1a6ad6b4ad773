"""Cutouts with any number of bands, and the arcsinh stretch."""

import gzip
import io
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from skdistill.curation import ImageReader
from skdistill.curation._cutout import cut_out_bands
from skdistill.curation._stretch import asinh_stretch

fits = pytest.importorskip("astropy.io.fits")
pytestmark = pytest.mark.filterwarnings(
    "ignore::astropy.utils.exceptions.AstropyWarning"
)


def make_cube(n_bands=5, size=24, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    blob = np.exp(-((x - 15) ** 2 + (y - 9) ** 2) / 20)
    scale = rng.uniform(1, 30, (n_bands, 1, 1))
    return (blob * scale + rng.normal(0, 0.1, (n_bands, size, size))).astype("f4")


def to_fits(*hdus, **options):
    file = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(file, **options)
    return file.getvalue()


def cube_file(cube, **options):
    return to_fits(fits.PrimaryHDU(cube), **options)


def read(content, **params):
    return ImageReader(**({"size": 12, "crop": 1.0} | params)).transform([content])[0]


def block_means(cube):
    """Of 2 x 2 pixels, the last row on top, bands behind."""
    n_bands, height, width = cube.shape
    means = cube.reshape(n_bands, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    return means[:, ::-1].transpose(1, 2, 0)


@pytest.mark.parametrize("n_bands", [1, 2, 3, 5])
def test_fluxes_of_any_number_of_bands(n_bands):
    cube = make_cube(n_bands)
    X = read(cube_file(cube))
    assert X.dtype == np.float32
    np.testing.assert_allclose(X, block_means(cube), rtol=1e-5, atol=1e-6)
    images = [fits.ImageHDU(plane, name=f"b{i}") for i, plane in enumerate(cube)]
    np.testing.assert_array_equal(read(to_fits(fits.PrimaryHDU(), *images)), X)
    if n_bands == 1:
        np.testing.assert_array_equal(read(cube_file(cube[0])), X)


def test_files_of_all_kinds(tmp_path):
    cube = make_cube(3)
    expected = read(cube_file(cube))
    (tmp_path / "7.fits.gz").write_bytes(gzip.compress(cube_file(cube)))
    X = ImageReader(images_dir=tmp_path, size=12, crop=1.0).transform(["7.fits.gz"])
    np.testing.assert_array_equal(X[0], expected)
    packed = fits.CompImageHDU(cube, compression_type="GZIP_2", quantize_level=0)
    np.testing.assert_array_equal(read(to_fits(fits.PrimaryHDU(), packed)), expected)
    np.testing.assert_array_equal(read(cube_file(cube[None])), expected)
    np.testing.assert_allclose(read(cube_file(cube.astype(">f8"))), expected, rtol=1e-6)
    # What integers stand for is in the header.
    whole = (1000 * cube).astype(np.int16)
    hdu = fits.PrimaryHDU(whole)
    hdu.header["BSCALE"], hdu.header["BZERO"] = 0.5, 10.0
    np.testing.assert_allclose(
        read(to_fits(hdu)), block_means(whole * 0.5 + 10), rtol=1e-5
    )


def test_rotation_turns_what_viewers_show():
    cube = make_cube(2)
    X = cut_out_bands(cube[:, ::-1].transpose(1, 2, 0), size=12, crop=0.5, angle=90)
    upright = cut_out_bands(cube[:, ::-1].transpose(1, 2, 0), size=12, crop=0.5)
    np.testing.assert_array_equal(X, np.rot90(upright))


def test_choice_of_bands():
    cube = make_cube(5)
    content = cube_file(cube)
    np.testing.assert_array_equal(
        read(content, bands=[3, 1]), read(content)[..., [3, 1]]
    )
    images = [
        fits.ImageHDU(plane, name=n) for n, plane in zip("gri", cube, strict=False)
    ]
    mask = fits.ImageHDU(np.zeros((3, 3)), name="mask")
    content = to_fits(fits.PrimaryHDU(), *images, mask)
    np.testing.assert_array_equal(
        read(content, bands=["i", "r", 0]), read(cube_file(cube))[..., [2, 1, 0]]
    )
    with pytest.raises(ValueError, match=r"asks for 'z'; .* \['G', 'R', 'I', 'MASK'\]"):
        read(content, bands=["z"])
    with pytest.raises(ValueError, match="asks for number 5; the file has 5 bands"):
        read(cube_file(cube), bands=[5])
    with pytest.raises(ValueError, match=r"differ in shape: \(24, 24\) and \(3, 3\)"):
        read(content, bands=["g", "mask"])
    with pytest.warns(UserWarning, match=r"of which \['MASK'\] are left out"):
        np.testing.assert_array_equal(read(content), read(cube_file(cube[:3])))


def test_images_of_other_axes_than_the_first():
    cube = make_cube(3)
    plane, spectrum = fits.ImageHDU(cube[0]), fits.ImageHDU(cube[0, 0], name="WAVE")
    expected = block_means(cube)[..., :1]
    # A spectrum is no picture, wherever it is.
    for images in ([spectrum, plane], [plane, spectrum]):
        X = read(to_fits(fits.PrimaryHDU(), *images))
        np.testing.assert_allclose(X, expected, rtol=1e-5, atol=1e-6)
    content = to_fits(fits.PrimaryHDU(), spectrum, fits.ImageHDU(cube))
    assert read(content).shape == (12, 12, 3)
    content = to_fits(fits.PrimaryHDU(), plane, fits.ImageHDU(cube, name="CUBE"))
    with pytest.warns(UserWarning, match="2 images, of which 1 are cubes: only those"):
        X = read(content)
    np.testing.assert_allclose(X, expected, rtol=1e-5, atol=1e-6)
    assert read(content, bands=[0]).shape == (12, 12, 1)
    with pytest.raises(ValueError, match=r"planes of a cube have no names: .* 0 to 2"):
        read(cube_file(cube), bands=["g", "r"])


def test_numbers_of_bands_count_what_is_told():
    cube = make_cube(3)
    expected = read(cube_file(cube))
    names = ["SCI", "ERR", "DQ"]
    images = [
        fits.ImageHDU(plane, name=n) for n, plane in zip(names, cube, strict=True)
    ]
    content = to_fits(fits.PrimaryHDU(), *images)
    with pytest.warns(UserWarning, match=r"selects \['ERR', 'DQ'\] by their numbers"):
        np.testing.assert_array_equal(read(content, bands=[0, 1, 2]), expected)
    # These were asked for.
    for bands in (["sci", "err", "dq"], [0, "err", "dq"]):
        np.testing.assert_array_equal(read(content, bands=bands), expected)
    np.testing.assert_array_equal(read(content, bands=[1]), expected[..., [1]])
    # Of a cube numbers are those of the planes that are read without them.
    weights = fits.ImageHDU(1 / (1 + cube**2), name="IVAR")
    flux = fits.ImageHDU(cube, name="FLUX")
    content = to_fits(fits.PrimaryHDU(), weights, flux, images[1])
    np.testing.assert_array_equal(read(content, bands=[2, 0]), expected[..., [2, 0]])
    # A name is that of an image beside it.
    np.testing.assert_array_equal(read(content, bands=["err"]), expected[..., [1]])
    with pytest.raises(ValueError, match=r"asks for 'g'; the names .* \['ERR'\]"):
        read(content, bands=["g"])


@pytest.mark.parametrize("angle", [0.0, 90.0, 33.0])
def test_missing_pixels_are_left_out_of_means(angle):
    flat = np.full((40, 40, 2), 3.0, dtype=np.float32)
    flat[10, :, 0] = np.nan
    flat[20, 20, 1] = np.inf
    got = cut_out_bands(flat, size=10, crop=0.6, angle=angle)
    np.testing.assert_allclose(got, 3.0, rtol=1e-5)
    # Where nothing is there.
    flat[:, 18:30, 0] = np.nan
    got = cut_out_bands(flat, size=10, crop=0.6, angle=angle)
    values = np.unique(got[..., 0].round(4))
    assert values.tolist() == [0.0, 3.0]
    assert (got[..., 1].round(4) == 3).all()


def test_beyond_the_image_nothing_is_there():
    flat = np.full((40, 40, 1), 3.0, dtype=np.float32)
    got = cut_out_bands(flat, size=20, crop=1.0, angle=45.0)
    assert np.unique(got.round(4)).tolist() == [0.0, 3.0]


def test_an_image_without_a_value_is_refused():
    cube = make_cube(2)
    cube[1] = np.nan
    assert np.isfinite(read(cube_file(cube))).all()
    cube[0] = np.nan
    with pytest.raises(ValueError, match=r"no pixel .* has a value"):
        read(cube_file(cube))
    blank = fits.PrimaryHDU(np.full((24, 24), -1, dtype=np.int16))
    blank.header["BLANK"] = -1
    with pytest.raises(ValueError, match=r"no pixel .* has a value"):
        read(to_fits(blank))


def test_values_that_float32_cannot_hold_are_told():
    cube = make_cube(2).astype(np.float64)
    cube[0, 3, 4] = 1e39
    with pytest.warns(UserWarning, match=r"up to 1e\+39, too large .* as\s+missing"):
        assert np.isfinite(read(cube_file(cube))).all()
    for factor, size in ((1e300, "large"), (1e-60, "small")):
        with pytest.raises(ValueError, match=f"of up to .*, are too {size} for"):
            read(cube_file(make_cube(2).astype(np.float64) * factor))
    zeros = np.zeros((24, 24))
    assert (read(cube_file(zeros)) == 0).all()


def test_stretch_of_three_bands_is_that_of_astropy():
    visualization = pytest.importorskip("astropy.visualization")
    flux = make_cube(3, size=40).transpose(1, 2, 0).astype(float)
    for stretch, softening, minimum in [(5, 8, 0), (0.5, 20, -0.1), (2, 0.5, 0.2)]:
        ours = 255 * asinh_stretch(
            flux, stretch=stretch, softening=softening, minimum=minimum
        )
        theirs = visualization.make_lupton_rgb(
            *np.moveaxis(flux, -1, 0), minimum=minimum, stretch=stretch, Q=softening
        )
        # Theirs is cut to whole numbers.
        assert np.abs(ours - 0.5 - theirs).max() <= 0.51


fluxes = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 6)),
    elements=st.floats(-100, 1e6, allow_subnormal=False),
)


@given(fluxes, st.floats(0.01, 100), st.floats(0.1, 100))
def test_stretch_keeps_color_and_order(flux, stretch, softening):
    bright = asinh_stretch(flux, stretch=stretch, softening=softening)
    assert ((bright >= 0) & (bright <= 1)).all()
    # All bands of a pixel share one factor.
    positive = np.maximum(flux, 0)
    largest = positive.max(axis=1, keepdims=True)
    lit = flux.mean(axis=1) > 1e-6
    ratio = bright[lit] * largest[lit]
    np.testing.assert_allclose(
        ratio,
        positive[lit] * bright[lit].max(axis=1, keepdims=True),
        rtol=1e-9,
        atol=1e-300,
    )
    assert (bright[flux.mean(axis=1) <= 0] == 0).all()
    brighter = asinh_stretch(2 * positive, stretch=stretch, softening=softening)
    faint = asinh_stretch(positive, stretch=stretch, softening=softening)
    assert (brighter.max(axis=1) >= faint.max(axis=1) - 1e-12).all()


def test_stretched_images_are_of_eight_bits():
    cube = make_cube(5)
    content = cube_file(cube)
    X = read(content, stretch=2.0, softening=10.0, minimum=0.1)
    assert X.dtype == np.uint8
    assert X.shape == (12, 12, 5)
    expected = asinh_stretch(read(content), stretch=2.0, softening=10.0, minimum=0.1)
    np.testing.assert_array_equal(X, np.rint(255 * expected))
    # Files of 8 bits stay as they are, and go with stretched ones.
    png = io.BytesIO()
    pixels = np.arange(432, dtype=np.uint32).reshape(12, 12, 3).astype(np.uint8)
    Image.fromarray(pixels).save(png, "PNG")
    reader = ImageReader(size=12, crop=1.0, stretch=2.0, bands=[0, 1, 2])
    mixed = reader.transform([content, png.getvalue()])
    np.testing.assert_array_equal(mixed[1], pixels)
    reader.set_params(stretch=None)
    message = "Row 1: .* has an image of 3 bands of uint8, .* 3 bands of float32"
    with pytest.raises(ValueError, match=message):
        reader.transform([content, png.getvalue()])


def test_files_that_cannot_be_read(monkeypatch):
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0, 2.0])])
    for content, message in [
        (to_fits(fits.PrimaryHDU()), "the FITS file has no image"),
        (to_fits(fits.PrimaryHDU(), table), "the FITS file has no image"),
        (cube_file(np.zeros(9)), r"must have 2 or 3 axes; its shape is \(9,\)"),
        (cube_file(np.zeros((2, 2, 2, 2))), "must have 2 or 3 axes"),
    ]:
        with pytest.raises(ValueError, match=f"cannot read an image .*{message}"):
            read(content)
    content = cube_file(make_cube(3))
    claim = content.replace(b"       24", b"100000000")
    assert len(claim) == len(content)
    with pytest.raises(ValueError, match="more pixels than `PIL"):
        read(claim)
    claim = content.replace(b"NAXIS3  =" + 20 * b" ", b"NAXIS3  =" + b"9999".rjust(20))
    assert len(claim) == len(content)
    assert claim != content
    with pytest.raises(ValueError, match="truncated"):
        read(claim)


def test_every_block_that_is_missing_or_changed():
    cube = make_cube(3)
    content = cube_file(cube, checksum=True)
    n_data = cube.nbytes
    for length in range(0, len(content), 307):
        with pytest.raises(ValueError, match="cannot read"):
            read(content[:length])
    for position in range(2880, 2880 + n_data, 531):
        changed = bytearray(content)
        changed[position] ^= 16
        with pytest.raises(ValueError, match="a checksum does not match"):
            read(bytes(changed))
    for position in range(0, 2880, 7):
        changed = bytearray(content)
        changed[position] ^= 1
        try:
            X = read(bytes(changed))
        except ValueError:
            continue
        assert X.shape[:2] == (12, 12)


def test_without_astropy(monkeypatch):
    content = cube_file(make_cube(3))
    monkeypatch.setitem(__import__("sys").modules, "astropy.io", None)
    for on_error in ("raise", "skip"):
        with pytest.raises(ImportError, match=r"pip install skdistill\[fits\]"):
            read(content, on_error=on_error)


@pytest.mark.parametrize("placeholder", [-99.0, -9999.0, -32768.0])
def test_numbers_for_missing_pixels_are_told(placeholder):
    pixels = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)

    def read(pixels):
        file = io.BytesIO()
        fits.PrimaryHDU(pixels).writeto(file)
        return ImageReader(size=8, crop=1.0).transform([file.getvalue()])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(pixels)
        read(pixels * 40)
    pixels[:3] = placeholder
    with pytest.warns(UserWarning, match=f"pixels of {placeholder:g}, which often"):
        read(pixels)
