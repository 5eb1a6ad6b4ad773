"""Morphology of galaxies in images: arrays in, arrays out, many images at a time."""

from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

# Mean of |x| and of max(x, 0) of Gaussian noise, in medians of |x|.
_MEAN_ABSOLUTE = 1.1829
_MEAN_POSITIVE = 0.5915

_PETROSIAN = 0.2  # surface brightness at the radius, in that of all within
_APERTURE = 1.5  # in Petrosian radii
_MIN_SKY_PIXELS = 16
_FINEST = 160  # sub-pixels on a side in which small images are integrated

_N_ANGLES = 64
# Rings in which a bar is looked for, in radii of the disc, and how many at a time.
_BAR_RINGS = (0.15, 0.5, 8)
_BAR_WINDOW = 6


class Aperture(NamedTuple):
    """Where the galaxy of each image is, and how large.

    Attributes
    ----------
    center : ndarray of shape (n_images, 2)
        Row and column, in pixels.
    radius : ndarray of shape (n_images,)
        Petrosian radius, in pixels.
    distance : ndarray of shape (n_images, height, width)
        Of each pixel from the center.
    """

    center: np.ndarray
    radius: np.ndarray
    distance: np.ndarray


def subtract_sky(images: np.ndarray) -> np.ndarray:
    """Subtract from each channel of each image the median of its outermost pixels.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels)

    Returns
    -------
    flux : ndarray of the same shape, float64
    """
    border = np.ones(images.shape[1:3], dtype=bool)
    border[1:-1, 1:-1] = False
    sky = np.median(images[:, border], axis=1).astype(np.float64)
    return images - sky[:, None, None, :]


def find_centers(flux: np.ndarray) -> np.ndarray:
    """Find the galaxy in the middle: its centroid, then where it is most symmetric.

    Parameters
    ----------
    flux : ndarray of shape (n_images, height, width)

    Returns
    -------
    center : ndarray of shape (n_images, 2)
        Row and column, in pixels: the point about which a turn by 180 degrees leaves
        the least squared difference.
    """
    n, height, width = flux.shape
    center = np.tile([(height - 1) / 2, (width - 1) / 2], (n, 1))
    positive = flux.clip(0)
    window = max(min(height, width) / 8, 1.0)
    rows, columns = np.arange(height), np.arange(width)
    for _ in range(5):
        weight = positive * _gaussian(rows, center[:, 0], window)[:, :, None]
        weight *= _gaussian(columns, center[:, 1], window)[:, None, :]
        total = weight.sum(axis=(1, 2))
        safe = np.where(total > 0, total, 1.0)
        found = np.stack(
            [weight.sum(axis=2) @ rows / safe, weight.sum(axis=1) @ columns / safe],
            axis=1,
        )
        center = np.where(total[:, None] > 0, found, center)

    # The squared difference is least where the image convolved with itself peaks; its
    # index is the sum of two places, twice the center.
    near = np.where(distances(center, height, width) <= 2.5 * window, flux, 0.0)
    shape = (2 * height - 1, 2 * width - 1)
    convolved = fft.irfft2(fft.rfft2(near, shape) ** 2, shape)
    doubled = np.rint(2 * center).astype(np.int64)
    for _ in range(4):
        # Uphill to the peak, which is a few half pixels away at most.
        around = _around(convolved, doubled)
        steps = np.stack(np.unravel_index(around.argmax(axis=1), (3, 3)), axis=1) - 1
        # Where all is equal, as in an empty image, the middle.
        steps[around.max(axis=1) <= around[:, 4]] = 0
        doubled = doubled + steps
    return (doubled + _vertex(_around(convolved, doubled))) / 2


def curves_of_growth(
    flux: np.ndarray, center: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum the light within circles, and the area of these inside the frame.

    Parameters
    ----------
    flux : ndarray of shape (n_images, height, width)
    center : ndarray of shape (n_images, 2)

    Returns
    -------
    radii : ndarray of shape (n_radii,)
        Half a pixel apart, from 0.
    light : ndarray of shape (n_images, n_radii)
    area : ndarray of shape (n_images, n_radii)
        In pixels.
    """
    n, height, width = flux.shape
    fine = int(np.clip(_FINEST // max(height, width), 1, 5))
    rows = (np.arange(height * fine) + 0.5) / fine - 0.5
    columns = (np.arange(width * fine) + 0.5) / fine - 0.5
    distance = np.hypot(
        rows[None, :, None] - center[:, 0, None, None],
        columns[None, None, :] - center[:, 1, None, None],
    )
    n_radii = 2 * int(np.ceil(np.hypot(height, width))) + 2
    radii = np.arange(n_radii) / 2
    # A sub-pixel is shared by the two rings whose middles it is between.
    place = np.minimum(2 * distance, n_radii - 2)
    ring = place.astype(np.int64)
    outer = place - ring
    ring += np.arange(n)[:, None, None] * n_radii
    spread = flux.repeat(fine, axis=1).repeat(fine, axis=2) / fine**2
    size = n * n_radii
    sums = []
    for weight in (spread, np.full(spread.shape, 1 / fine**2)):
        rings = np.bincount(ring.ravel(), (weight * (1 - outer)).ravel(), size)
        rings += np.bincount((ring + 1).ravel(), (weight * outer).ravel(), size)[:size]
        rings = rings.reshape(n, n_radii)
        # Half of the ring about a radius is within it.
        sums.append(rings.cumsum(axis=1) - rings / 2)
    light, area = sums
    light[:, 0] = area[:, 0] = 0.0
    return radii, light, area


def petrosian_radius(
    radii: np.ndarray, light: np.ndarray, area: np.ndarray, largest: float
) -> np.ndarray:
    """Find where the surface brightness is a fifth of the mean within.

    Parameters
    ----------
    radii, light, area : ndarray
        What :func:`curves_of_growth` returns.
    largest : float
        The radius of an image that has no such place.

    Returns
    -------
    radius : ndarray of shape (n_images,)
        In pixels; NaN for an image without light.
    """
    n_radii = len(radii)
    inner, outer = light[:, :-4], light[:, 4:]
    ring_area = area[:, 4:] - area[:, :-4]
    # About radii[2:-2], rings of two pixels.
    ring = np.divide(
        outer - inner, ring_area, out=np.zeros_like(inner), where=ring_area > 0
    )
    middle = slice(2, n_radii - 2)
    mean = np.divide(
        light[:, middle],
        area[:, middle],
        out=np.zeros_like(inner),
        where=area[:, middle] > 0,
    )
    ratio = np.divide(ring, mean, out=np.zeros_like(ring), where=mean > 0)
    radius = _first_crossing(-ratio, radii[middle], -_PETROSIAN)
    radius = np.where(np.isnan(radius), largest, np.minimum(radius, largest))
    shining = (mean[:, 0] > 0) & (light[:, np.searchsorted(radii, largest)] > 0)
    return np.where(shining, np.maximum(radius, 1.0), np.nan)


def concentration(
    radii: np.ndarray, light: np.ndarray, radius: np.ndarray
) -> np.ndarray:
    """Return 5 log10(r80 / r20), of the light within 1.5 Petrosian radii.

    Parameters
    ----------
    radii, light : ndarray
        What :func:`curves_of_growth` returns.
    radius : ndarray of shape (n_images,)
        Petrosian radii.

    Returns
    -------
    concentration : ndarray of shape (n_images,)
        C of Conselice (2003).
    """
    total = _at(_APERTURE * radius, radii, light)
    share = light / np.where(total > 0, total, np.nan)[:, None]
    # Light grows as the square of the radius near the center: areas interpolate best.
    r80 = np.sqrt(_first_crossing(share, radii**2, 0.8))
    r20 = np.sqrt(_first_crossing(share, radii**2, 0.2))
    return 5 * np.log10(r80 / r20)


def asymmetry(flux: np.ndarray, aperture: Aperture) -> np.ndarray:
    """Compare each image with itself turned by 180 degrees.

    Parameters
    ----------
    flux : ndarray of shape (n_images, height, width)
    aperture : Aperture

    Returns
    -------
    asymmetry : ndarray of shape (n_images,)
        A of Conselice (2003): the mean absolute difference within 1.5 Petrosian
        radii, less that of the sky, in units of the light.
    """
    turned, seen = _turned(flux, aperture.center)
    difference = np.abs(flux - turned)
    inside = _inside(aperture) & seen
    sky = _sky_median(difference, ~_inside(aperture) & seen) * _MEAN_ABSOLUTE
    light = np.where(inside, np.abs(flux), 0.0).sum(axis=(1, 2))
    total = np.where(inside, difference, 0.0).sum(axis=(1, 2))
    return (total - sky * inside.sum(axis=(1, 2))) / _positive(light)


def smoothness(flux: np.ndarray, aperture: Aperture) -> np.ndarray:
    """Measure the light in small bright structures.

    Parameters
    ----------
    flux : ndarray of shape (n_images, height, width)
    aperture : Aperture

    Returns
    -------
    smoothness : ndarray of shape (n_images,)
        S of Conselice (2003) as in Lotz et al. (2004): what is left above the image
        smoothed by a box of a quarter of the Petrosian radius, between that distance
        and 1.5 radii, less that of the sky.  Large for clumpy galaxies.
    """
    height, width = flux.shape[1:]
    # A box below 3 pixels would compare a pixel with itself.
    side = np.maximum(0.25 * aperture.radius, 3.0)
    smooth = _box(height, side) @ flux @ _box(width, side).swapaxes(1, 2)
    residual = flux - smooth
    inside = _inside(aperture)
    ring = inside & (aperture.distance > 0.25 * aperture.radius[:, None, None])
    sky = _sky_median(np.abs(residual), ~inside) * _MEAN_POSITIVE
    light = np.where(ring, flux, 0.0).sum(axis=(1, 2))
    total = np.where(ring, residual.clip(0), 0.0).sum(axis=(1, 2))
    return (total - sky * ring.sum(axis=(1, 2))) / _positive(light)


def segment(flux: np.ndarray, aperture: Aperture) -> np.ndarray:
    """Find the pixels of the galaxy: brighter than the mean at the Petrosian radius.

    Parameters
    ----------
    flux : ndarray of shape (n_images, height, width)
    aperture : Aperture

    Returns
    -------
    galaxy : ndarray of bool, shape (n_images, height, width)
        As in Lotz et al. (2004), after a smoothing by a fifth of the radius; what is
        not connected with the center is left out.
    """
    _, height, width = flux.shape
    sigma = np.where(np.isnan(aperture.radius), 1.0, aperture.radius) / 5
    smooth = _blur(height, sigma) @ flux @ _blur(width, sigma).swapaxes(1, 2)
    radius = aperture.radius[:, None, None]
    ring = np.abs(aperture.distance - radius) <= 0.75
    number = ring.sum(axis=(1, 2))
    level = np.where(ring, smooth, 0.0).sum(axis=(1, 2)) / np.maximum(number, 1)
    bright = smooth >= np.maximum(level, 0)[:, None, None]
    bright &= aperture.distance <= 2 * radius
    # Images are labeled all at once, and none touches the next.
    cross = np.zeros((3, 3, 3), dtype=bool)
    cross[1] = ndimage.generate_binary_structure(2, 1)
    labels, _ = ndimage.label(bright, cross)
    core = bright & (aperture.distance <= np.maximum(1.0, 0.2 * radius))
    middle = np.where(core, labels, 0).reshape(len(flux), -1).max(axis=1)
    return (labels == middle[:, None, None]) & (middle > 0)[:, None, None]


def gini(flux: np.ndarray, galaxy: np.ndarray) -> np.ndarray:
    """Measure how unequally the light is spread over the pixels of the galaxy.

    Parameters
    ----------
    flux : ndarray of shape (n_images, height, width)
    galaxy : ndarray of bool, shape (n_images, height, width)

    Returns
    -------
    gini : ndarray of shape (n_images,)
        G of Lotz et al. (2004), 0 for equal pixels and 1 for a single bright one; NaN
        for less than two pixels.
    """
    n_images = len(flux)
    values = np.where(galaxy, np.abs(flux), -1.0).reshape(n_images, -1)
    values.sort(axis=1)
    number = galaxy.reshape(n_images, -1).sum(axis=1)[:, None]
    size = values.shape[1]
    rank = np.arange(1, size + 1) - (size - number)
    values[rank < 1] = 0.0
    total = values.sum(axis=1)
    numerator = ((2 * rank - number - 1) * values).sum(axis=1)
    number = number[:, 0]
    return numerator / _positive(total * np.maximum(number - 1, 0))


def m20(flux: np.ndarray, galaxy: np.ndarray) -> np.ndarray:
    """Compare how far out the brightest fifth of the light is with all of it.

    Parameters
    ----------
    flux : ndarray of shape (n_images, height, width)
    galaxy : ndarray of bool, shape (n_images, height, width)

    Returns
    -------
    m20 : ndarray of shape (n_images,)
        M20 of Lotz et al. (2004): the logarithm of the second moment of the brightest
        pixels with 20 % of the light over that of all, about the centroid.
    """
    n_images = len(flux)
    light = np.where(galaxy, flux, 0.0).clip(0)
    center, _ = _moments(light)
    moment = (light * distances(center, *flux.shape[1:]) ** 2).reshape(n_images, -1)
    light = light.reshape(n_images, -1)
    order = np.argsort(-light, axis=1, kind="stable")
    sums = np.take_along_axis(light, order, axis=1).cumsum(axis=1)
    brightest = sums < 0.2 * sums[:, -1:]
    # The pixel that reaches the fifth counts too.
    brightest = np.concatenate(
        [np.ones((n_images, 1), dtype=bool), brightest[:, :-1]], axis=1
    )
    first = np.where(brightest, np.take_along_axis(moment, order, axis=1), 0.0)
    ratio = first.sum(axis=1) / _positive(moment.sum(axis=1))
    return np.log10(np.where(ratio > 0, ratio, np.nan))


def ellipticity(flux: np.ndarray, galaxy: np.ndarray) -> np.ndarray:
    """Return 1 - b/a of the ellipse with the second moments of the light.

    Parameters
    ----------
    flux : ndarray of shape (n_images, height, width)
    galaxy : ndarray of bool, shape (n_images, height, width)

    Returns
    -------
    ellipticity : ndarray of shape (n_images,)
        From 0, round, to 1.
    """
    _, covariance = _moments(np.where(galaxy, flux, 0.0).clip(0))
    small, large = _axes(covariance)
    return 1 - np.sqrt(small / _positive(large))


def bar_strength(
    flux: np.ndarray, aperture: Aperture, galaxy: np.ndarray
) -> np.ndarray:
    """Measure the straight, narrow light across the inner disc.

    The disc is turned to be seen face on, by the axes of the galaxy's outline.  Of the
    light between 0.15 and 0.5 of its radius the second and the fourth Fourier component
    over the angle are compared with the mean, as in Ohta et al. (1990), each summed
    over rings: the phase of a spiral turns with the radius, and its sum is small.
    An oval, such as a disc seen at an angle, has a second component, but hardly a
    fourth in phase with it, which narrow light has.

    Parameters
    ----------
    flux : ndarray of shape (n_images, height, width)
    aperture : Aperture
    galaxy : ndarray of bool, shape (n_images, height, width)

    Returns
    -------
    strength : ndarray of shape (n_images,)
        The smaller of the two amplitudes; that of the fourth is negative where it is
        out of phase.  A thin line across would have 2, no bar has 0 but for noise.
    """
    n = len(flux)
    _, covariance = _moments(galaxy.astype(np.float64))
    small, large = _axes(covariance)
    ratio = np.sqrt(small / _positive(large)).clip(0.3, 1.0)
    angle = 0.5 * np.arctan2(
        2 * covariance[:, 0, 1], covariance[:, 0, 0] - covariance[:, 1, 1]
    )
    # The outline of a disc of even light reaches to twice its standard deviation.
    extent = 2 * np.sqrt(large)
    turn = np.arange(_N_ANGLES) * (2 * np.pi / _N_ANGLES)
    steps = np.linspace(*_BAR_RINGS)
    along = extent[:, None, None] * steps[:, None] * np.cos(turn)
    across = (ratio * extent)[:, None, None] * steps[:, None] * np.sin(turn)
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    rows = aperture.center[:, 0, None, None] + along * cos - across * sin
    columns = aperture.center[:, 1, None, None] + along * sin + across * cos
    known = np.isfinite(rows) & np.isfinite(columns)
    places = [
        np.broadcast_to(np.arange(n)[:, None, None], rows.shape),
        np.where(known, rows, 0),
        np.where(known, columns, 0),
    ]
    rings = ndimage.map_coordinates(flux, places, order=1, mode="nearest")
    # Wider rings have more pixels.
    weighted = rings * steps[:, None]
    parts = np.stack(
        [(weighted * np.exp(1j * order * turn)).sum(axis=2) for order in (0, 2, 4)]
    )
    # Of the inner, the middle and the outer rings, as bars differ in length.
    starts = range(len(steps) - _BAR_WINDOW + 1)
    light, second, fourth = np.stack(
        [parts[:, :, start : start + _BAR_WINDOW].sum(axis=2) for start in starts],
        axis=-1,
    )
    mean = _positive(light.real) / 2
    second, fourth = second / mean, fourth / mean
    amplitude = np.abs(second)
    phase = second / np.where(amplitude > 0, amplitude, 1.0)
    in_phase = (fourth * phase.conj() ** 2).real
    strength = np.minimum(amplitude, in_phase).max(axis=1)
    return np.where(known.all(axis=(1, 2)), strength, np.nan)


def light_of_channels(flux: np.ndarray, galaxy: np.ndarray) -> np.ndarray:
    """Sum the light of each channel over the pixels of the galaxy.

    Parameters
    ----------
    flux : ndarray of shape (n_images, height, width, channels)
    galaxy : ndarray of bool, shape (n_images, height, width)

    Returns
    -------
    light : ndarray of shape (n_images, channels)
        NaN where it is not positive.
    """
    light = np.where(galaxy[..., None], flux, 0.0).sum(axis=(1, 2))
    return _positive(light)


def distances(center: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the distance of each pixel from the center, (n_images, height, width)."""
    rows = np.arange(height)[None, :, None] - center[:, 0, None, None]
    columns = np.arange(width)[None, None, :] - center[:, 1, None, None]
    return np.hypot(rows, columns)


def _around(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the 3 x 3 values about a place in each image, (n_images, 9)."""
    steps = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    rows, columns = (places[:, None, :] + steps).transpose(2, 0, 1)
    return values[
        np.arange(len(values))[:, None],
        rows.clip(0, values.shape[1] - 1),
        columns.clip(0, values.shape[2] - 1),
    ]


def _vertex(around: np.ndarray) -> np.ndarray:
    """Return where a paraboloid through 3 x 3 values peaks, within half a step.

    Parameters
    ----------
    around : ndarray of shape (n_images, 9)

    Returns
    -------
    shift : ndarray of shape (n_images, 2)
    """
    middle = around[:, 4]
    slope = np.stack([around[:, 7] - around[:, 1], around[:, 5] - around[:, 3]]) / 2
    bend = np.stack([around[:, 7] + around[:, 1], around[:, 5] + around[:, 3]])
    bend = 2 * middle - bend
    twist = -(around[:, 8] - around[:, 6] - around[:, 2] + around[:, 0]) / 4
    determinant = bend[0] * bend[1] - twist**2
    # The ridge of thin galaxies is oblique: without the twist the peak is missed.
    peaked = (determinant > 0) & (bend[0] > 0)
    shift = (
        np.stack(
            [
                bend[1] * slope[0] - twist * slope[1],
                bend[0] * slope[1] - twist * slope[0],
            ],
            axis=1,
        )
        / np.where(peaked, determinant, 1.0)[:, None]
    )
    return np.where(peaked[:, None], shift, 0.0).clip(-0.5, 0.5)


def _turned(flux: np.ndarray, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn images by 180 degrees about a center; say which pixels are in frame."""
    _, height, width = flux.shape
    rows, row_seen = _reversal(height, center[:, 0])
    columns, column_seen = _reversal(width, center[:, 1])
    turned = rows @ flux @ columns.swapaxes(1, 2)
    seen = row_seen[:, :, None] & column_seen[:, None, :]
    return np.where(seen, turned, flux), seen


def _reversal(size: int, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return matrices (n, size, size) that reverse rows about a place between pixels.

    By cubic convolution, Keys (1981).
    """
    places = np.arange(size)
    wanted = 2 * center[:, None] - places
    apart = np.abs(wanted[:, :, None] - places)
    inner = (1.5 * apart - 2.5) * apart**2 + 1
    outer = ((-0.5 * apart + 2.5) * apart - 4) * apart + 2
    kernel = np.where(apart <= 1, inner, np.where(apart < 2, outer, 0.0))
    total = kernel.sum(axis=2, keepdims=True)
    kernel /= np.where(total > 0, total, 1.0)
    return kernel, (wanted >= 0) & (wanted <= size - 1)


def _inside(aperture: Aperture) -> np.ndarray:
    return aperture.distance <= _APERTURE * aperture.radius[:, None, None]


def _sky_median(values: np.ndarray, sky: np.ndarray) -> np.ndarray:
    """Return the median over sky pixels, 0 for images that have but a few."""
    flat = np.where(sky, values, np.inf).reshape(len(values), -1)
    flat.sort(axis=1)
    number = sky.reshape(len(values), -1).sum(axis=1)
    middle = np.take_along_axis(flat, np.maximum(number - 1, 0)[:, None] // 2, axis=1)
    return np.where(number >= _MIN_SKY_PIXELS, middle[:, 0], 0.0)


def _first_crossing(curve: np.ndarray, places: np.ndarray, level: float) -> np.ndarray:
    """Return where each curve first rises to a level, NaN where it never does."""
    above = curve >= level
    first = above.argmax(axis=1)
    rows = np.arange(len(curve))
    before = np.maximum(first - 1, 0)
    low, high = curve[rows, before], curve[rows, first]
    rise = np.where(high > low, high - low, 1.0)
    share = np.where(first > 0, (level - low) / rise, 0.0)
    found = places[before] + share * (places[first] - places[before])
    return np.where(above.any(axis=1), found, np.nan)


def _at(radius: np.ndarray, radii: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Return each curve at a radius of its own; radii are evenly spaced from 0."""
    place = np.where(np.isnan(radius), 0.0, radius / radii[1])
    place = place.clip(0, len(radii) - 1.001)
    low = place.astype(np.int64)
    rows = np.arange(len(curve))
    found = curve[rows, low] + (place - low) * (curve[rows, low + 1] - curve[rows, low])
    return np.where(np.isnan(radius), np.nan, found)


def _moments(light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return centroid (n, 2) and covariance (n, 2, 2) of light that is not negative."""
    _, height, width = light.shape
    total = _positive(light.sum(axis=(1, 2)))
    by_row, by_column = light.sum(axis=2), light.sum(axis=1)
    row = by_row @ np.arange(height) / total
    column = by_column @ np.arange(width) / total
    rows, columns = (
        np.arange(height) - row[:, None],
        np.arange(width) - column[:, None],
    )
    cross = np.einsum("nij,ni,nj->n", light, rows, columns)
    # A pixel is a square, not a point.
    covariance = np.stack(
        [
            (by_row * rows**2).sum(axis=1) / total + 1 / 12,
            cross / total,
            cross / total,
            (by_column * columns**2).sum(axis=1) / total + 1 / 12,
        ],
        axis=1,
    )
    return np.stack([row, column], axis=1), covariance.reshape(-1, 2, 2)


def _axes(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smaller and the larger eigenvalue of 2x2 matrices."""
    half = (covariance[:, 0, 0] + covariance[:, 1, 1]) / 2
    apart = np.hypot(
        (covariance[:, 0, 0] - covariance[:, 1, 1]) / 2, covariance[:, 0, 1]
    )
    return np.maximum(half - apart, 0.0), half + apart


def _gaussian(places: np.ndarray, middle: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-0.5 * ((places - middle[:, None]) / width) ** 2)


def _blur(size: int, sigma: np.ndarray) -> np.ndarray:
    """Return matrices (n, size, size) that smooth by a Gaussian of a width each."""
    apart = np.arange(size) - np.arange(size)[:, None]
    kernel = np.exp(-0.5 * (apart / np.maximum(sigma, 1e-3)[:, None, None]) ** 2)
    return kernel / kernel.sum(axis=2, keepdims=True)


def _box(size: int, side: np.ndarray) -> np.ndarray:
    """Return matrices (n, size, size) that smooth by a box, with parts of pixels."""
    apart = np.abs(np.arange(size) - np.arange(size)[:, None])
    side = np.where(np.isnan(side), 3.0, side)
    kernel = (side[:, None, None] / 2 - apart + 0.5).clip(0, 1)
    return kernel / kernel.sum(axis=2, keepdims=True)


def _positive(values: np.ndarray) -> np.ndarray:
    """Return values to divide by: NaN in place of what is not positive."""
    return np.where(values > 0, values, np.nan)
