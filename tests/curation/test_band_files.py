"""A FITS file for each band, in a column for each."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skdistill import ImageReader

fits = pytest.importorskip("astropy.io.fits")

BANDS = ["u", "g", "r", "i", "z"]
FLUX = np.random.default_rng(0).normal(size=(4, 5, 8, 8)).astype(np.float32)


@pytest.fixture
def survey(tmp_path):
    """Files `{galaxy}-{band}.fits`, each with its errors, and their table."""
    table = pd.DataFrame({"galaxy": [f"J{i}" for i in range(4)]})
    for b, band in enumerate(BANDS):
        table[f"file_{band}"] = [f"J{i}-{band}.fits" for i in range(4)]
        for i in range(4):
            fits.HDUList(
                [
                    fits.PrimaryHDU(),
                    fits.ImageHDU(FLUX[i, b], name="SCI"),
                    fits.ImageHDU(np.ones((8, 8), np.float32), name="UNC"),
                ]
            ).writeto(tmp_path / f"J{i}-{band}.fits")
    return tmp_path, table


def reader(folder, bands=BANDS, **parameters):
    return ImageReader(
        images_dir=folder,
        path_column=[f"file_{band}" for band in bands],
        **{"bands": ["SCI"], "size": 8, **parameters},
    )


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_bands_of_files(survey, n_jobs, tmp_path):
    folder, table = survey
    X = reader(folder, n_jobs=n_jobs).transform(table)
    np.testing.assert_array_equal(X, np.moveaxis(FLUX, 1, -1)[:, ::-1])
    X = reader(folder, ["i", "r", "g"], stretch=1.0).transform(table)
    assert (X.shape, X.dtype) == ((4, 8, 8, 3), np.uint8)
    X = reader(folder, out=tmp_path / "X.npy").transform(table)
    np.testing.assert_array_equal(X, np.moveaxis(FLUX, 1, -1)[:, ::-1])


def test_errors_are_left_out_with_a_warning(survey):
    folder, table = survey
    with pytest.warns(UserWarning, match=r"4 of 4 images .*\['UNC'\] are left out"):
        X = reader(folder, bands=["g", "r"]).set_params(bands=None).transform(table)
    np.testing.assert_array_equal(X, np.moveaxis(FLUX[:, 1:3], 1, -1)[:, ::-1])


def test_a_band_that_is_missing(survey):
    folder, table = survey
    (folder / "J2-r.fits").unlink()
    with pytest.raises(FileNotFoundError, match=r"Row 2: .*J2-r.fits"):
        reader(folder).transform(table)
    with pytest.warns(UserWarning, match="1 of 4 images could not be read"):
        X = reader(folder, on_error="skip").transform(table)
    assert len(X) == 3
    table.loc[1, "file_g"] = np.nan
    with pytest.raises(ValueError, match="Row 1: nan is not a path"):
        reader(folder).transform(table)


def test_bands_that_do_not_fit(survey):
    folder, table = survey
    fits.PrimaryHDU(np.ones((6, 8))).writeto(folder / "J1-g.fits", overwrite=True)
    match = r"Row 1: .*J1-g.fits' has 8 x 6 pixels, '.*J1-u.fits' 8 x 8"
    with pytest.raises(ValueError, match=match):
        reader(folder, bands=BANDS).set_params(bands=[0]).transform(table)
    fits.PrimaryHDU(np.ones((2, 8, 8))).writeto(folder / "J1-g.fits", overwrite=True)
    with pytest.raises(ValueError, match=r"J1-g.fits' has 2 bands"):
        reader(folder).set_params(bands=[0, 1]).transform(
            table[1:2].assign(**{f"file_{band}": "J1-g.fits" for band in BANDS})
        )
    Image.new("L", (8, 8)).save(folder / "J1-g.fits", "PNG")
    with pytest.raises(ValueError, match=r"J1-g.fits' is not a FITS file"):
        reader(folder).transform(table)


def test_columns_that_are_not_there(survey):
    folder, table = survey
    with pytest.raises(ValueError, match=r"\['file_y'\] are not among"):
        reader(folder, ["g", "y"]).transform(table)
    with pytest.raises(ValueError, match="must not contain a column twice"):
        reader(folder, ["g", "g"]).transform(table)
    with pytest.raises(TypeError, match="requires a DataFrame"):
        reader(folder).transform(["J0-g.fits"])
