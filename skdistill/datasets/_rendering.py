"""Render simulated galaxies: light, point-spread function, noise and stretch.

Maps have the shape (n_galaxies, size, size), images (n_galaxies, n_bands, size, size),
both in float32. Lengths are in half frames.
"""

from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq

from skdistill.datasets._population import NEAREST

_SKY = 0.15  # brightness of the sky, in units of white: sets the photon noise

# Effective wavelengths of the SDSS filters u, g, r, i, z in nanometers (Fukugita et al.
# 1996), and how the logarithm of the flux of a red galaxy changes from one to the next,
# in units of its slope; that of a blue one falls. From u - g to i - z this gives the
# difference in color of early and late types (Strateva et al. 2001).
_WAVELENGTHS = (355.0, 469.0, 617.0, 748.0, 893.0)
_REDNESS = (-2.44, -1.0, 1 - 2 * 0.5**1.6, 1.0, 1.29)
_OPACITY = (1.8, 1.4, 1.0, 0.6, 0.4)  # of dust, in units of that in r
_FILTERS = {1: "r", 2: "rg", 3: "irg", 4: "zirg", 5: "zirgu"}

TEXTURE_SHAPE = (20, 20)  # grid of random numbers across a galaxy


def band_wavelengths(n_bands: int) -> NDArray[np.float64]:
    """Wavelength of each band in nanometers, from red to blue."""
    if n_bands in _FILTERS:
        return np.array([_WAVELENGTHS["ugriz".index(f)] for f in _FILTERS[n_bands]])
    return np.linspace(_WAVELENGTHS[-1], _WAVELENGTHS[0], n_bands)


def render_smooth(galaxies: pd.DataFrame, size: int, n_bands: int, texture=None):
    """Galaxies of stars alone."""
    get = _getter(galaxies)
    x, y, pixel = _axes(get, size)
    r2 = x**2 + (y / get("axis_ratio")) ** 2
    light = _sersic(r2 + pixel**2, 0.33 * get("radius"), get("sersic_index"))
    light *= get("brightness") * _edge(r2, get("radius"), 2)
    return _spectrum(get("bulge_color"), get("redshift"), n_bands) * light[:, None]


def render_edge_on(galaxies: pd.DataFrame, size: int, n_bands: int, texture=None):
    """Discs seen from the side."""
    get = _getter(galaxies)
    x, z, pixel = _axes(get, size)
    radius, brightness, redshift = get("radius"), get("brightness"), get("redshift")
    # A disc is less peaked where its stars are seen through its whole depth.
    core, depth, light = (0.01, 0.6, 3.2) if texture is None else (0.06, 0.7, 4.5)
    height = np.hypot(depth * get("axis_ratio") * radius, pixel)
    r2 = x**2 + np.float32(core) * radius**2
    disc = light * brightness * np.exp(np.sqrt(r2) / (-0.36 * radius))
    disc *= _sech2(z, height) * _edge(r2, radius, 4 if texture is None else 2)
    if texture is not None:
        disc *= np.exp(get("clumps") * _field(get, texture, size))
    bulge = _sersic(
        x**2 + (z / 0.75) ** 2 + pixel**2,
        get("bulge_size") * radius,
        get("sersic_index"),
    )
    bulge *= get("bulge") * brightness * _edge(x**2 + z**2, radius, 4)
    # A thin lane of dust, a little off the middle as the disc is a little tilted.
    dust = get("dust") * _sech2(z - 0.4 * height, 0.5 * height)
    dust *= np.exp(-r2 / (0.5 * radius) ** 2)
    image = _spectrum(get("disc_color"), redshift, n_bands) * disc[:, None]
    image += _spectrum(get("bulge_color"), redshift, n_bands) * bulge[:, None]
    image *= np.exp(-_opacity(redshift, n_bands) * dust[:, None])
    return image


def render_face_on(galaxies: pd.DataFrame, size: int, n_bands: int, texture=None):
    """Discs whose face is seen, with bars, arms and rings."""
    get = _getter(galaxies)
    x, y, pixel = _axes(get, size)
    radius, brightness, arms = get("radius"), get("brightness"), get("arms")
    # The bulge is a ball, the rest lies in a plane seen at an angle.
    bulge = _sersic(
        x**2 + y**2 + pixel**2, get("bulge_size") * radius, get("sersic_index")
    )
    bulge *= get("bulge") * brightness
    y = y / get("axis_ratio")
    r2 = x**2 + y**2 + pixel**2
    edge = _edge(r2, radius, 4)
    bulge *= edge

    r = np.sqrt(r2)
    disc = np.exp(r / (-0.34 * radius)) * (1.5 - 0.6 * arms) * brightness * edge

    length = get("bar_length") * radius
    turn = get("phase")
    along = (np.cos(turn) * x + np.sin(turn) * y) / length
    across = (np.cos(turn) * y - np.sin(turn) * x) / (0.27 * length)
    # Boxy isophotes, a flat top and a sharp end tell a bar from an inner disc.
    bar = np.exp(-(along**4) - across**2)
    bar *= 1.8 * get("bar") * brightness

    azimuth = np.arctan2(y, x) - turn
    winding = np.log(r / length) * (get("handedness") / np.tan(get("pitch")))
    if texture is not None:
        clumps = get("clumps") * _field(get, texture, size)
        winding += 0.5 * clumps
    crest = np.cos(get("n_arms") * (azimuth - winding))
    knots = 1 + 0.35 * np.cos(5 * azimuth + 3 * winding)
    blue = np.exp(2.2 * (crest - 1)) * knots * (3.2 * arms)
    # Arms start where the bar or the bulge ends.
    blue *= 1 / (1 + (length / r) ** 6)
    blue *= np.exp(r / (-0.5 * radius))
    blue += get("ring") * np.exp(-(((r - 0.68 * radius) / (0.11 * radius)) ** 2))
    blue *= brightness * edge
    if texture is not None:
        blue *= np.exp(1.5 * clumps) * (1 + get("lopsided") * x / r)
        disc *= np.exp(0.4 * clumps)

    redshift = get("redshift")
    image = _spectrum(get("bulge_color"), redshift, n_bands) * (bulge + bar)[:, None]
    image += _spectrum(get("disc_color"), redshift, n_bands) * disc[:, None]
    image += _spectrum(get("arm_color"), redshift, n_bands) * blue[:, None]
    if texture is not None:
        # Dust is at the inner edges of the arms.
        lane = get("n_arms") * (azimuth - winding) - 0.9 * get("handedness")
        lane = np.exp(2.5 * (np.cos(lane) - 1) + clumps) * get("dust")
        lane /= 1 + (0.5 * length / r) ** 4
        image *= np.exp(-_opacity(redshift, n_bands) * lane[:, None])
    return image


def _getter(galaxies: pd.DataFrame):
    """Return columns by name, shaped to broadcast against maps (n, size, size)."""
    return lambda name: galaxies[name].to_numpy(np.float32)[:, None, None]


def _axes(get, size: int) -> tuple:
    """Coordinates along the major and minor axis of each galaxy; softening length.

    Profiles are sampled at pixel centers, so cusps are softened by 0.4 pixel.
    """
    grid = _grid(size)
    dx, dy = grid - get("x"), grid[:, None] - get("y")
    cos, sin = np.cos(get("angle")), np.sin(get("angle"))
    return cos * dx + sin * dy, cos * dy - sin * dx, np.float32(0.8 / size)


def _grid(size: int) -> NDArray[np.float32]:
    return (2 * np.arange(size, dtype=np.float32) + 1) / np.float32(size) - 1


def _sersic(r2, effective_radius, index):
    """Sersic profile, 1 at the effective radius; b by Ciotti & Bertin (1999)."""
    b = 2 * index - 1 / 3 + 4 / (405 * index)
    power = np.exp(np.log(r2 / effective_radius**2) / (2 * index))
    return np.exp(-b * (power - 1))


def _sech2(z, height):
    e = np.exp(-2 * np.abs(z) / height)
    return 4 * e / (1 + e) ** 2


def _edge(r2, radius, sharpness):
    """Let the light end softly near 1.05 radii: the galaxy stays in its circle."""
    return np.exp(-((r2 / (1.05 * radius) ** 2) ** sharpness))


def _field(get, texture: NDArray[np.float32], size: int):
    """Smooth random map of unit variance that shrinks and moves with its galaxy."""
    node = np.linspace(-1.1, 1.1, TEXTURE_SHAPE[0], dtype=np.float32)
    maps = []
    for center in ["x", "y"]:
        place = (_grid(size)[:, None] - get(center)) / get("radius")
        near = np.exp(-0.5 * ((place - node) / np.float32(0.09)) ** 2)
        maps.append(near / np.sqrt(np.square(near).sum(axis=-1, keepdims=True) + 1e-6))
    columns, rows = maps
    return rows @ texture @ columns.swapaxes(-1, -2)


def _at(knots: tuple[float, ...], redshift, n_bands: int) -> NDArray[np.float32]:
    """Values (n, n_bands, 1, 1) at the wavelengths where the light was sent out."""
    stretch = (1 + np.float32(NEAREST)) / (1 + redshift[:, None])
    emitted = band_wavelengths(n_bands).reshape(-1, 1, 1) * stretch
    # Beyond the ultraviolet filter the last slope continues.
    slope = (knots[1] - knots[0]) / (_WAVELENGTHS[1] - _WAVELENGTHS[0])
    beyond = np.minimum(emitted - _WAVELENGTHS[0], 0) * slope
    return (np.interp(emitted, _WAVELENGTHS, knots) + beyond).astype(np.float32)


def _opacity(redshift, n_bands: int) -> NDArray[np.float32]:
    return _at(_OPACITY, redshift, n_bands)


def _spectrum(slope, redshift, n_bands: int) -> NDArray[np.float32]:
    """Relative flux in each band from red to blue, with mean 1."""
    flux = np.exp(slope[:, None] * _at(_REDNESS, redshift, n_bands))
    return flux / flux.mean(axis=1, keepdims=True)


def render_neighbors(spots: NDArray[np.float32], size: int, n_bands: int):
    """Round Gaussian spots as sums of outer products."""
    x, y, width, flux, color = np.moveaxis(spots, -1, 0)[..., None]
    width = np.hypot(width, np.float32(1.2 / size))
    rows = np.exp(-0.5 * ((_grid(size) - y) / width) ** 2)
    columns = np.exp(-0.5 * ((_grid(size) - x) / width) ** 2)
    weight = flux[:, None] * _spectrum(color, np.full_like(color, NEAREST), n_bands)
    return (rows[:, None] * weight).swapaxes(-1, -2) @ columns[:, None]


@cache
def psf_gaussians(psf: str) -> tuple[tuple[float, float], ...]:
    """Shares of the light, and widths, of the Gaussians that add up to a PSF.

    Widths are in units of that of the core (the only one, or of the Moffat's alpha).
    The Moffat profile (1 + r²)⁻³ is an integral over Gaussians exp(-s r²) of weight
    s² exp(-s). Six steps of log s give it to 1 % down to a thousandth of its peak.
    """
    if psf == "gaussian":
        return ((1.0, 1.0),)
    if psf == "double-gaussian":
        return ((0.85, 1.0), (0.15, 2.5))
    s = np.geomspace(0.08, 5, 6)
    share = s**2 * np.exp(-s)
    return tuple(zip(share / share.sum(), np.sqrt(0.5 / s), strict=True))


@cache
def psf_fwhm(psf: str) -> float:
    """Full width at half maximum, in units of the core's width."""
    share, width = np.array(psf_gaussians(psf)).T
    peak = share / width**2

    def above_half(r):
        return (peak * (np.exp(-(r**2) / (2 * width**2)) - 0.5)).sum()

    return 2 * brentq(above_half, 0, 5 * width.max())


def blur(image: NDArray[np.float32], width: NDArray[np.float32], psf: str):
    """Convolve with the point-spread function, a sum of separable Gaussians."""
    size = image.shape[-1]
    blurred = np.zeros_like(image)
    for share, factor in psf_gaussians(psf):
        kernel = _kernel(np.float32(factor) * width, size, np.float32(0.8 / size))
        blurred += np.float32(share) * (kernel @ image @ kernel)
    return blurred


def _kernel(width: NDArray[np.float32], size: int, narrowest: np.float32):
    distance = np.square(_grid(size) - _grid(size)[:, None])
    width = np.maximum(width, narrowest)[:, None, None]
    kernel = np.exp(distance / (-2 * width**2))
    kernel *= np.float32(2 / size / np.sqrt(2 * np.pi)) / width
    return kernel[:, None]


def observe(
    image: NDArray[np.float32],
    noise: float,
    rng: np.random.Generator,
    grain: NDArray[np.float32] | None = None,
):
    """Add the noise of sky and photons, in grains of a width if one is given."""
    scale = np.sqrt(1 + image / np.float32(_SKY))
    scale *= np.float32(noise)
    random = rng.standard_normal(image.shape, dtype=np.float32)
    if grain is not None:
        # Neighboring pixels share noise; the scatter of each stays what it was.
        kernel = _kernel(grain, image.shape[-1], np.float32(0.3 / image.shape[-1]))
        kernel /= np.sqrt(np.square(kernel).sum(axis=-1, keepdims=True))
        random = kernel @ random @ kernel.swapaxes(-1, -2)
    scale *= random
    return image + scale


def stretch(
    image: NDArray[np.float32], black: float, softening: float, white: float
) -> NDArray[np.float32]:
    """Compress brightness by arcsinh, keep colors, as Lupton et al. (2004) do.

    The stretch is linear below `softening` and logarithmic above, up to `white`.
    """
    image = image - np.float32(black)
    x = np.abs(image.mean(axis=1, keepdims=True)) / np.float32(softening)
    x += np.float32(1e-6)
    image *= np.arcsinh(x) / (x * np.float32(softening * np.arcsinh(white / softening)))
    image /= np.maximum(image.max(axis=1, keepdims=True), 1)
    return np.maximum(image, 0)
