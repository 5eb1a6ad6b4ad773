"""What makes simulated galaxies a survey: bands, seeing, distance, class ratios."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skdistill import GalaxyZooCurator
from skdistill.datasets import make_galaxies
from skdistill.datasets._population import GZ2_COUNTS, NEAREST, _angular_distance
from skdistill.datasets._rendering import (
    TEXTURE_SHAPE,
    _field,
    _getter,
    _opacity,
    _spectrum,
    band_wavelengths,
    blur,
    observe,
    psf_fwhm,
)

PSFS = ["double-gaussian", "gaussian", "moffat"]
# Nothing but galaxies.
BARE = {"noise": 0, "neighbors": 0, "random_state": 0}

# Of the first version, to the last bit then; machines differ in the last ones.
PINNED_CLASSES = [5, 4, 6, 7, 1, 2, 3, 0, 8]
PINNED_MEANS = [
    [0.0876, 0.086, 0.0796],
    [0.0621, 0.0636, 0.0602],
    [0.1214, 0.1102, 0.0975],
    [0.0758, 0.0732, 0.0707],
    [0.0766, 0.0712, 0.0607],
    [0.076, 0.0688, 0.0631],
    [0.0806, 0.0745, 0.0681],
    [0.1007, 0.0885, 0.0694],
    [0.1157, 0.1055, 0.094],
]


def column(value, n=1):
    return np.full((n, 1, 1), value, dtype=np.float32)


def half_light_radii(X):
    """Radius of half the light around the center, in half frames."""
    grid = (2 * np.arange(X.shape[1]) + 1) / X.shape[1] - 1
    r = np.hypot(*np.meshgrid(grid, grid)).ravel()
    order = r.argsort()
    light = X.mean(axis=-1).reshape(len(X), -1)[:, order].cumsum(axis=1)
    return r[order][(light > light[:, -1:] / 2).argmax(axis=1)]


def sharpness(X):
    """Power of the second differences between neighbors, as a share of all."""
    light = X.mean(axis=-1)
    rough = np.square(np.diff(light, 2, axis=1)).sum(axis=(1, 2))
    return rough / np.square(light).sum(axis=(1, 2))


def test_textbook_galaxies_stay_what_they_were():
    X, y = make_galaxies(9, size=32, random_state=0)
    assert y.tolist() == PINNED_CLASSES
    np.testing.assert_allclose(X.mean(axis=(1, 2)), PINNED_MEANS, atol=2e-4)


@pytest.mark.parametrize(
    ("n_bands", "wavelengths"),
    [
        (1, [617]),
        (2, [617, 469]),
        (3, [748, 617, 469]),
        (4, [893, 748, 617, 469]),
        (5, [893, 748, 617, 469, 355]),
        (6, [893, 785.4, 677.8, 570.2, 462.6, 355]),
    ],
)
def test_bands_run_from_red_to_blue(n_bands, wavelengths):
    np.testing.assert_allclose(band_wavelengths(n_bands), wavelengths)


@pytest.mark.parametrize("style", ["textbook", "survey"])
@pytest.mark.parametrize("n_bands", [1, 2, 4, 7])
def test_any_number_of_bands(style, n_bands):
    X, _ = make_galaxies(
        18, size=16, n_bands=n_bands, style=style, redshift=0.2, random_state=0
    )
    assert X.shape == (18, 16, 16, n_bands)
    assert np.isfinite(X).all()
    assert X.min() >= 0
    assert 0.2 < X.max() <= 1


def test_colors_of_early_and_late_types():
    """Differences in color between E and Im galaxies (Fukugita et al. 1995)."""
    early, late = (
        -2.5 * np.log10(_spectrum(column(slope), column(NEAREST), 5)).ravel()
        for slope in [0.42, -0.15]
    )
    z, i, r, g, u = early - late
    for difference, published in zip(
        [u - g, g - r, r - i, i - z], [0.9, 0.6, 0.35, 0.2], strict=True
    ):
        assert abs(difference - published) < 0.25
    assert u - g > g - r > r - i > i - z > 0


def test_dust_is_opaquest_in_the_blue():
    opacity = _opacity(column(NEAREST), 5).ravel()
    assert (np.diff(opacity) > 0).all()
    # Far away a band shows shorter wavelengths.
    assert (_opacity(column(0.3), 5).ravel() > opacity).all()


def test_bulges_are_redder_in_every_pair_of_bands():
    X, y = make_galaxies(90, size=32, n_bands=5, **BARE)
    center = np.s_[:, 14:18, 14:18]
    spirals = np.isin(y, [5, 7])
    smooth = X[y <= 2][center].mean(axis=(1, 2))
    whole = X[spirals].mean(axis=(1, 2))
    ratio = np.median(smooth[:, :-1] / smooth[:, 1:], axis=0)
    assert (ratio > np.median(whole[:, :-1] / whole[:, 1:], axis=0)).all()


@pytest.mark.parametrize("psf", PSFS)
@pytest.mark.parametrize("fwhm", [5.0, 9.0])
def test_width_and_light_of_the_psf(psf, fwhm):
    size = 101
    point = np.zeros((1, 1, size, size), dtype=np.float32)
    point[..., 50, 50] = 1
    width = np.array([2 * fwhm / size / psf_fwhm(psf)], dtype=np.float32)
    star = blur(point, width, psf)[0, 0]
    # The wings of a Moffat profile reach beyond the frame.
    assert star.sum() == pytest.approx(1, abs=0.005)
    r = np.arange(51)
    profile = star[50, 50:]
    below = (profile < profile[0] / 2).argmax()
    half = np.interp(-profile[0] / 2, -profile[: below + 1], r[: below + 1])
    assert 2 * half == pytest.approx(fwhm, rel=0.02)


def test_moffat_profile():
    size, fwhm = 101, 10.0
    point = np.zeros((1, 1, size, size), dtype=np.float32)
    point[..., 50, 50] = 1
    width = np.array([2 * fwhm / size / psf_fwhm("moffat")], dtype=np.float32)
    star = blur(point, width, "moffat")[0, 0, 50, 50:]
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / 3) - 1)
    r = np.arange(51)
    exact = 2 / (np.pi * alpha**2) * (1 + (r / alpha) ** 2) ** -3.0
    assert np.abs(star - exact).max() < 0.005 * exact[0]
    # Out to where it has fallen to a thousandth.
    seen = exact > 0.001 * exact[0]
    np.testing.assert_allclose(star[seen], exact[seen], rtol=0.015)


@pytest.mark.parametrize("psf", PSFS)
def test_seeing_takes_detail(psf):
    detail = [
        np.median(sharpness(make_galaxies(36, seeing=fwhm, psf=psf, **BARE)[0]))
        for fwhm in [1.5, 3, 6]
    ]
    assert detail[0] > 1.1 * detail[1] > 1.3 * detail[2]


def test_seeing_is_in_pixels():
    small, large = (
        make_galaxies(18, size=size, seeing=seeing, **BARE)[0]
        for size, seeing in [(32, 3), (64, 6)]
    )
    binned = large.reshape(18, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(binned, small, atol=0.1)  # most in cusps
    assert np.abs(binned - small).mean() < 0.002


def test_seeing_and_redshift_are_drawn_from_their_ranges():
    truth = make_galaxies(
        400,
        size=8,
        seeing=(1.0, 3.0),
        redshift=[0.05, 0.15],
        random_state=0,
        return_truth=True,
    )[2]
    for name, low, high in [("seeing", 1, 3), ("redshift", 0.05, 0.15)]:
        values = truth[name]
        assert values.between(low, high).all()
        assert values.max() - values.min() > 0.95 * (high - low)
    # Two uniform draws, independent: the correlation of 400 has a spread of .05.
    assert abs(np.corrcoef(truth["seeing"], truth["redshift"])[0, 1]) < 0.25


def test_galaxies_do_not_depend_on_the_sky():
    truths = [
        make_galaxies(50, size=8, return_truth=True, random_state=0, **sky)[2]
        for sky in [{}, {"seeing": 2.0}, {"redshift": 0.1, "scale_cutouts": True}]
    ]
    for other in truths[1:]:
        pd.testing.assert_frame_equal(
            other[["class", "radius", "axis_ratio"]],
            truths[0][["class", "radius", "axis_ratio"]],
        )


def test_angular_diameter_distance():
    cosmology = pytest.importorskip("astropy.cosmology").FlatLambdaCDM(70, 0.3)
    z = np.array([0.03, 0.1, 0.3, 1.0])
    expected = cosmology.angular_diameter_distance(z).value * 70 / 299_792.458
    np.testing.assert_allclose(_angular_distance(z), expected, rtol=1e-5)


def test_nearest_redshift_changes_nothing():
    near, _ = make_galaxies(18, redshift=NEAREST, random_state=0)
    np.testing.assert_allclose(near, make_galaxies(18, random_state=0)[0], atol=1e-6)


def test_far_galaxies_are_smaller_and_dimmer():
    far, near = (
        make_galaxies(60, size=128, seeing=1, redshift=z, **BARE)[0]
        for z in [0.09, 0.03]
    )
    shrink = np.median(half_light_radii(far) / half_light_radii(near))
    expected = _angular_distance(0.03) / _angular_distance(0.09)
    assert shrink == pytest.approx(expected, rel=0.1)
    # The middle of a textbook picture is burnt out: look where most is below that.
    faint = [
        make_galaxies(
            60,
            size=64,
            seeing=1,
            redshift=z,
            scale_cutouts=True,
            style="survey",
            **BARE,
        )[0]
        for z in [0.3, 0.03]
    ]
    ratio = [np.median(X.mean(axis=(1, 2, 3))) for X in faint]
    assert ratio[0] < 0.75 * ratio[1]


def test_scaled_cutouts_keep_the_size_and_lose_the_detail():
    settings = {"size": 96, "style": "survey", "scale_cutouts": True, **BARE}
    far, near = (make_galaxies(60, redshift=z, **settings)[0] for z in [0.09, 0.03])
    growth = np.median(half_light_radii(far) / half_light_radii(near))
    assert 1 <= growth < 1.25
    assert np.median(sharpness(far) / sharpness(near)) < 0.6


def test_far_red_galaxies_look_redder():
    ratio = []
    for z in [0.03, 0.2]:
        X, y = make_galaxies(45, redshift=z, scale_cutouts=True, **BARE)
        smooth = X[y <= 2].sum(axis=(1, 2))
        ratio.append(np.median(smooth[:, 0] / smooth[:, 2]))
    assert ratio[1] > 1.05 * ratio[0]


def test_noise_comes_in_grains():
    sky = np.zeros((20, 3, 64, 64), dtype=np.float32)
    grain = np.full(20, 1.5 * 2 / 64, dtype=np.float32)
    rng = np.random.default_rng(0)
    for width, lag_one, lag_six in [(None, 0, 0), (grain, np.exp(-1 / 9), np.exp(-4))]:
        noise = observe(sky, 0.01, rng, width)
        assert noise.std() == pytest.approx(0.01, rel=0.03)
        noise /= noise.std()
        for lag, expected in [(1, lag_one), (6, lag_six)]:
            correlation = (noise[..., lag:] * noise[..., :-lag]).mean()
            assert correlation == pytest.approx(expected, abs=0.03)


def test_texture_moves_and_shrinks_with_its_galaxy():
    texture = np.random.default_rng(0).standard_normal((200, *TEXTURE_SHAPE))
    texture = texture.astype(np.float32)

    def field(radius, x):
        frame = pd.DataFrame(
            {"radius": radius, "x": x, "y": 0.0}, index=range(len(texture))
        )
        return _field(_getter(frame), texture, 64)

    whole = field(1.0, 0.0)
    # 200 fields of some hundred independent patches.
    assert whole[:, 8:-8, 8:-8].std() == pytest.approx(1, abs=0.05)
    small, large = field(0.3, 0.0), field(0.9, 0.0)
    np.testing.assert_allclose(small[:, 21:43, 21:43], large[:, ::3, ::3], atol=1e-3)
    np.testing.assert_allclose(
        field(1.0, 8 / 32)[..., 16:56], whole[..., 8:48], atol=1e-3
    )


def test_survey_galaxies_are_irregular():
    """Half a turn leaves two-armed textbook spirals what they are, others less so."""
    asymmetry = []
    for style in ["textbook", "survey"]:
        X, y = make_galaxies(180, size=48, style=style, **BARE)
        light = X[np.isin(y, [5, 7])].mean(axis=-1)
        turned = light[:, ::-1, ::-1]
        asymmetry.append(
            np.median(np.abs(light - turned).sum(axis=(1, 2)) / light.sum(axis=(1, 2)))
        )
    assert asymmetry[1] > 1.15 * asymmetry[0]


def test_survey_middles_are_not_burnt_out():
    burnt = [
        (make_galaxies(90, size=48, style=style, **BARE)[0].max(axis=-1) > 0.999).mean()
        for style in ["textbook", "survey"]
    ]
    assert burnt[1] < 0.6 * burnt[0]


def test_survey_is_independent_of_chunks(monkeypatch):
    settings = {"size": 16, "style": "survey", "redshift": (0.03, 0.1)}
    X, _ = make_galaxies(30, random_state=0, **settings)
    monkeypatch.setattr("skdistill.datasets._galaxies._CHUNK_PIXELS", 3 * 16**2)
    chunked, _ = make_galaxies(30, random_state=0, **settings)
    np.testing.assert_allclose(chunked, X, rtol=0, atol=1e-5)


def test_weights_of_galaxy_zoo():
    n = sum(GZ2_COUNTS)
    _, y = make_galaxies(1000, size=8, weights="gz2", random_state=0)
    counts = np.bincount(y, minlength=9)
    np.testing.assert_allclose(counts, 1000 * np.array(GZ2_COUNTS) / n, atol=1)


def test_weights_of_galaxy_zoo_are_as_measured(shared_data):
    table = pd.read_csv(shared_data / "gz2-stripe82" / "table5.csv.gz")
    curator = GalaxyZooCurator(n_train=1, n_test=1, votes="debiased").fit(table)
    assert tuple(curator.summary_["available"]) == GZ2_COUNTS


def test_last_weight_is_what_remains():
    weights = [0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    y = make_galaxies(100, size=8, weights=weights, random_state=0)[1]
    assert np.bincount(y).tolist() == [20] + [10] * 8


@given(
    size=st.integers(8, 20),
    n_bands=st.integers(1, 7),
    style=st.sampled_from(["textbook", "survey"]),
    noise=st.floats(0, 1),
    neighbors=st.floats(0, 5),
    seeing=st.none() | st.floats(0.01, 50),
    psf=st.sampled_from(PSFS),
    redshift=st.none() | st.floats(NEAREST, 1),
    scale_cutouts=st.booleans(),
    random_state=st.integers(0, 2**31 - 1),
)
@settings(max_examples=30)
def test_images_and_probabilities_are_in_range(**parameters):
    X, y, votes, truth = make_galaxies(
        9, return_votes=True, return_truth=True, **parameters
    )
    assert np.isfinite(X).all()
    assert X.min() >= 0
    assert X.max() <= 1
    assert sorted(y) == list(range(9))
    for table in votes, truth:
        assert np.isfinite(table).all(axis=None)
        assert table.filter(regex="_(fraction|debiased)$").stack().between(0, 1).all()


@pytest.mark.parametrize(
    "parameters",
    [
        {"style": "painting"},
        {"psf": "airy"},
        {"seeing": 0},
        {"seeing": (2.0, 1.0)},
        {"seeing": (1.0, np.inf)},
        {"seeing": (1.0, np.nan)},
        {"seeing": (1.0, 2.0, 3.0)},
        {"seeing": ("a", "b")},
        {"redshift": 0.0},
        {"redshift": (0.01, 0.1)},
        {"redshift": (0.1, 1.5)},
        {"scale_cutouts": "yes"},
        {"weights": "gz3"},
        {"weights": [0.2] * 8},
        {"return_truth": "yes"},
    ],
)
def test_invalid_parameters(parameters):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        make_galaxies(9, size=8, **parameters)
