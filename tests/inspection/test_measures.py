"""Measures of morphology, against closed forms, other packages and known galaxies."""

import logging
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, ndimage, optimize, special
from sklearn.metrics import roc_auc_score

from skdistill import make_galaxies
from skdistill.inspection import MorphologyMeasures
from skdistill.inspection import _morphology as morphology
from skdistill.inspection._measure_labels import label_of


def profile(light, size=64, center=None, ratio=1.0, angle=0.0, channels=1):
    """Draw what a function of the elliptical radius gives, averaged over sub-pixels."""
    fine = 7
    center = ((size - 1) / 2,) * 2 if center is None else center
    place = (np.arange(size * fine) + 0.5) / fine - 0.5
    dy, dx = place[:, None] - center[0], place - center[1]
    along = np.cos(angle) * dx + np.sin(angle) * dy
    across = np.cos(angle) * dy - np.sin(angle) * dx
    image = light(np.hypot(along, across / ratio))
    image = image.reshape(size, fine, size, fine).mean(axis=(1, 3))
    return image[None, ..., None].repeat(channels, axis=-1)


def measure(images, **parameters):
    transformer = MorphologyMeasures(**parameters)
    values = transformer.fit_transform(images)
    return dict(zip(transformer.get_feature_names_out(), values.T, strict=True))


def exact(light, furthest):
    """Petrosian radius and concentration of a round profile, by integration."""

    def within(radius):
        return integrate.quad(lambda r: 2 * np.pi * r * light(r), 0, radius)[0]

    def excess(radius):
        return light(radius) - 0.2 * within(radius) / (np.pi * radius**2)

    petrosian = optimize.brentq(excess, 0.1, furthest)
    total = within(1.5 * petrosian)
    r20, r80 = (
        optimize.brentq(lambda r, s=share: within(r) - s * total, 1e-3, 2 * petrosian)
        for share in (0.2, 0.8)
    )
    return petrosian, 5 * np.log10(r80 / r20)


def sersic(index, radius):
    b = special.gammaincinv(2 * index, 0.5)
    return lambda r: np.exp(-b * ((r / radius) ** (1 / index) - 1))


@pytest.mark.parametrize("index", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("size", "radius"), [(128, 12.0), (64, 6.0)])
def test_radius_and_concentration_of_sersic_profiles(index, size, radius):
    light = sersic(index, radius)
    petrosian, concentration = exact(light, 8 * radius)
    found = measure(profile(light, size=size))
    assert found["petrosian_radius"][0] == pytest.approx(petrosian, rel=0.04)
    assert found["concentration"][0] == pytest.approx(concentration, abs=0.1)
    # A smooth round galaxy on no background is symmetric.
    assert found["asymmetry"][0] == pytest.approx(0, abs=0.01)
    assert found["ellipticity"][0] == pytest.approx(0, abs=0.01)
    assert found["bar_strength"][0] == pytest.approx(0, abs=0.01)


@given(
    ratio=st.floats(0.3, 1.0),
    angle=st.floats(0, np.pi),
    row=st.floats(-3, 3),
    column=st.floats(-3, 3),
)
def test_ellipticity_and_center_whatever_the_orientation(ratio, angle, row, column):
    center = (31.5 + row, 31.5 + column)
    # The pixels that are brighter than a level are an ellipse of the same axes.
    image = profile(lambda r: np.exp(-0.5 * (r / 6) ** 2), 64, center, ratio, angle)
    found = measure(image)
    assert found["ellipticity"][0] == pytest.approx(1 - ratio, abs=0.07)
    flux = morphology.subtract_sky(image)[..., 0]
    (middle,) = morphology.find_centers(flux)
    assert np.abs(middle - center).max() <= 0.51


def reference_gini(values):
    """The definition by mean absolute differences."""
    values = np.abs(values)
    number = len(values)
    apart = np.abs(values[:, None] - values).sum()
    return apart / (2 * values.mean() * number * (number - 1))


@given(seed=st.integers(0, 1000), n_pixels=st.integers(2, 40))
def test_gini_is_its_definition(seed, n_pixels):
    rng = np.random.default_rng(seed)
    flux = rng.normal(1, 1, (2, 7, 8))
    galaxy = np.zeros((2, 56), dtype=bool)
    for row in galaxy:
        row[rng.choice(56, n_pixels, replace=False)] = True
    galaxy = galaxy.reshape(2, 7, 8)
    found = morphology.gini(flux, galaxy)
    expected = [reference_gini(f[g]) for f, g in zip(flux, galaxy, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    even = morphology.gini(np.ones_like(flux), galaxy)
    np.testing.assert_allclose(even, 0, atol=1e-12)


@given(seed=st.integers(0, 1000))
def test_m20_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    flux = rng.exponential(size=(1, 9, 7))
    galaxy = rng.random((1, 9, 7)) < 0.7
    rows, columns = np.nonzero(galaxy[0])
    light = flux[galaxy]
    middle = [(light * rows).sum(), (light * columns).sum()] / light.sum()
    moment = light * ((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2)
    taken, total = 0.0, 0.0
    for place in np.argsort(-light):
        if taken >= 0.2 * light.sum():
            break
        taken += light[place]
        total += moment[place]
    expected = np.log10(total / moment.sum())
    assert morphology.m20(flux, galaxy)[0] == pytest.approx(expected, rel=1e-9)


def test_asymmetry_of_what_has_no_counterpart():
    """Half of the light in a spot on one side: the mean difference is known."""
    image = profile(sersic(1.0, 6.0), 96)
    spot = profile(lambda r: np.exp(-0.5 * (r / 1.2) ** 2), 96, (47.5, 57.5))
    spot *= 0.1 * image.sum() / spot.sum()
    center = np.array([[47.5, 47.5]])
    flux = (image + spot)[..., 0]
    distance = morphology.distances(center, 96, 96)
    aperture = morphology.Aperture(center, np.array([20.0]), distance)
    inside = flux[distance <= 30].sum()
    found = morphology.asymmetry(flux, aperture)[0]
    assert found == pytest.approx(2 * spot.sum() / inside, rel=0.01)


@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_noise_of_the_sky_is_subtracted(noise):
    """Of a smooth round galaxy in noise, on average, nothing is left."""
    rng = np.random.default_rng(0)
    image = profile(sersic(1.0, 5.0), 64)
    images = image + rng.normal(0, noise * image.max(), (200, 64, 64, 1))
    found = measure(images)
    raw = 2 * noise * image.max() / np.sqrt(np.pi) * np.pi * 15**2 / image.sum()
    # The chosen center is that of the least difference: a little below 0.
    assert abs(np.median(found["asymmetry"])) < 0.25 * raw
    assert abs(np.median(found["smoothness"])) < 0.05


def test_clumps_make_galaxies_less_smooth():
    image = profile(sersic(1.0, 8.0), 96)
    clumpy = image.copy()
    rng = np.random.default_rng(0)
    for _ in range(25):
        place = 47.5 + rng.uniform(-15, 15, 2)
        clumpy += 0.5 * profile(lambda r: np.exp(-0.5 * (r / 0.8) ** 2), 96, place)
    found = measure(np.concatenate([image, clumpy]))
    assert found["smoothness"][1] > found["smoothness"][0] + 0.03
    assert found["gini"].shape == (2,)


def test_colors_are_magnitudes():
    image = profile(sersic(1.0, 6.0), 48)
    colored = image * [1, 0.5, 0.1] + [1, 2, 3]
    found = measure(colored, band_names=["i", "r", "g"])
    assert found["color_r_i"][0] == pytest.approx(-2.5 * np.log10(0.5), abs=1e-6)
    assert found["color_g_i"][0] == pytest.approx(2.5, abs=1e-6)


def test_colors_are_the_bluer_band_less_the_redder():
    image = profile(sersic(1.0, 6.0), 48)
    from_blue = image * [0.2, 0.5, 1.0]  # of a red galaxy
    for bands, images in (
        ("ugr", from_blue),
        (["SDSS_r", "SDSS_g", "SDSS_u"], from_blue[..., ::-1]),
    ):
        transformer = MorphologyMeasures(band_names=bands).fit(images)
        colors = dict(
            zip(
                transformer.get_feature_names_out(),
                transformer.transform(images)[0],
                strict=True,
            )
        )
        one, two = bands[0], bands[2]
        if bands != "ugr":
            one, two = two, one
        assert colors[f"color_{one}_{two}"] == pytest.approx(
            2.5 * np.log10(5), abs=1e-6
        )
        table = transformer.describe()
        assert table.loc[f"color_{one}_{two}", "label"] == f"color {one} − {two}"
        assert table.loc[f"color_{one}_{two}", "direction"] == "larger: redder"
        assert list(table.index) == list(colors)
    assert "clumpi" in table.loc["smoothness", "label"]
    assert table.loc["petrosian_radius", "unit"] == "pixels"
    assert (table["direction"] != "").all()
    # Without names the sign is as it was: the first channel is the redder one.
    plain = MorphologyMeasures().fit(from_blue)
    names = plain.get_feature_names_out().tolist()
    assert names[-2:] == ["color_1_0", "color_2_0"]
    found = plain.transform(from_blue)[0]
    assert found[-1] == pytest.approx(-2.5 * np.log10(5), abs=1e-6)
    assert label_of("my_size") == ("my size", "", "")
    assert label_of("color_u_g") == ("color u − g", "mag", "larger: redder")


def test_a_bar_is_neither_an_oval_nor_a_spiral():
    size = 64
    place = np.arange(size) - 31.5
    dy, dx = place[:, None], place
    r = np.hypot(dx, dy) + 0.1
    disc = np.exp(-r / 8) * (r < 24)
    angle = 0.7
    along, across = (
        np.cos(angle) * dx + np.sin(angle) * dy,
        np.cos(angle) * dy - np.sin(angle) * dx,
    )
    bar = disc + 1.5 * np.exp(-((along / 10) ** 4) - (across / 2.5) ** 2)
    oval = disc + 1.5 * np.exp(-((along / 10) ** 2) - (across / 7) ** 2)
    arms = disc + 0.5 * disc * np.cos(2 * (np.arctan2(dy, dx) - 4 * np.log(r / 10)))
    strength = measure(np.stack([disc, bar, oval, arms])[..., None])["bar_strength"]
    assert strength[1] > 0.2
    assert (strength[[0, 2, 3]] < 0.25 * strength[1]).all()


@pytest.mark.parametrize(("size", "least"), [(32, 0.85), (64, 0.9)])
def test_bars_of_simulated_galaxies_are_found(size, least):
    n_frame = round(size / 0.7)
    X, y = make_galaxies(450, size=n_frame, random_state=3)
    margin = (n_frame - size) // 2
    X = X[y >= 5, margin:-margin, margin:-margin]
    strength = measure(X)["bar_strength"]
    assert np.isfinite(strength).all()
    assert roc_auc_score(y[y >= 5] <= 6, strength) > least


def test_simulated_classes_differ_as_they_should():
    X, y = make_galaxies(270, size=48, random_state=0)
    found = measure(X, band_names="rgb")
    medians = {
        name: [np.median(v[y == c]) for c in range(9)] for name, v in found.items()
    }
    assert medians["ellipticity"][2] > medians["ellipticity"][1] > 0.2
    assert medians["ellipticity"][0] < 0.2
    # Spirals are bluer than smooth galaxies, and less symmetric.
    assert max(medians["color_b_r"][5], medians["color_b_r"][7]) < min(
        medians["color_b_r"][:3]
    )
    assert medians["asymmetry"][7] > medians["asymmetry"][8]


def test_measures_do_not_depend_on_unit_orientation_or_company():
    X, _ = make_galaxies(9, size=40, random_state=1)
    plain = MorphologyMeasures().fit(X)
    expected = plain.transform(X)
    units = plain.transform(255 * X.astype(np.float64) + 10)
    np.testing.assert_allclose(units, expected, rtol=1e-3, atol=1e-3)
    turned = plain.transform(np.rot90(X, axes=(1, 2)))
    np.testing.assert_allclose(turned, expected, rtol=0.02, atol=0.02)
    alone = np.concatenate([plain.transform(X[[i]]) for i in range(len(X))])
    np.testing.assert_allclose(alone, expected, rtol=1e-9)


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 5, 1), (3, 9, 2), (2, 2, 1)])
def test_images_without_a_galaxy_are_not_measured(shape):
    X = np.concatenate([np.zeros((1, *shape)), np.full((1, *shape), 7.0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = MorphologyMeasures().fit_transform(X)
        noise = np.random.default_rng(0).normal(size=(20, *shape))
        assert not np.isinf(MorphologyMeasures().fit_transform(noise)).any()
    assert np.isnan(found).all()


def test_names_of_bands_are_checked():
    with pytest.raises(ValueError, match="`band_names` must hold a name for each of"):
        MorphologyMeasures(band_names=["r"]).fit(np.zeros((2, 8, 8, 3)))


def test_agrees_with_statmorph():
    """On galaxies with little noise: the two handle that of the sky differently."""
    statmorph = pytest.importorskip("statmorph")
    # A few classes, so that values spread: 4 is edge-on, 7 is spiral.
    X, y = make_galaxies(60, size=64, random_state=7, neighbors=0, noise=0.0005)
    X = X[np.isin(y, [0, 2, 5, 7])][:20]
    ours = measure(X)
    flux = morphology.subtract_sky(X).mean(axis=-1)
    center = morphology.find_centers(flux)
    distance = morphology.distances(center, 64, 64)
    aperture = morphology.Aperture(center, ours["petrosian_radius"], distance)
    galaxies = morphology.segment(flux, aperture)
    # Largest median difference.  Theirs take elliptical radii for the pixels of gini
    # and m20.
    names = {
        "rpetro_circ": ("petrosian_radius", 0.1),
        "concentration": ("concentration", 0.02),
        "asymmetry": ("asymmetry", 0.02),
        "gini": ("gini", 0.05),
        "m20": ("m20", 0.05),
        "ellipticity_centroid": ("ellipticity", 0.02),
    }
    rows = []
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for image, galaxy in zip(flux, galaxies, strict=True):
                region = ndimage.binary_dilation(galaxy, iterations=2).astype(int)
                theirs = statmorph.SourceMorphology(image, region, 1, gain=1e4)
                rows.append([getattr(theirs, name) for name in names])
    finally:
        logging.disable(logging.NOTSET)
    table = np.asarray(rows, dtype=float)
    for column, (name, most) in zip(table.T, names.values(), strict=True):
        assert np.median(np.abs(column - ours[name])) < most, name
        assert np.corrcoef(column, ours[name])[0, 1] > 0.85, name
