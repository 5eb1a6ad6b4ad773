"""Simulated galaxies of the nine Galaxy Zoo 2 classes."""

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Literal, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from skdistill.datasets._volunteers import simulate_votes

N_CLASSES = 9

# Lengths are in half frames: the frame reaches from -1 to 1 and a galaxy may fill
# the circle of radius 0.7, which is what is left after rotating and cropping.
# One (low, high) range per class, drawn uniformly.
#          smooth:     rounded,     in-between,    cigar,
#        edge-on:     with bulge,   without bulge,
#       face-on:     barred spiral, barred, unbarred spiral, neither
_RANGES: dict[str, list[tuple[float, float]]] = {
    "radius": [
        *[(0.36, 0.56), (0.40, 0.60), (0.44, 0.60)],
        *[(0.44, 0.60), (0.42, 0.60)],
        *[(0.42, 0.60), (0.40, 0.58), (0.42, 0.60), (0.38, 0.58)],
    ],
    # Apparent axis ratio; of the face-on discs, the cosine of the inclination.
    "axis_ratio": [
        *[(0.80, 1.00), (0.42, 0.75), (0.22, 0.38)],
        *[(0.10, 0.20), (0.08, 0.18)],
        *[(0.50, 1.00), (0.55, 1.00), (0.45, 1.00), (0.55, 1.00)],
    ],
    "sersic_index": [
        *[(2.5, 4.5), (2.0, 4.5), (1.3, 3.0)],
        *[(1.5, 3.0), (1.0, 1.0)],
        *[(1.0, 2.0), (1.0, 2.5), (1.0, 2.5), (1.0, 2.5)],
    ],
    # Bulge: brightness at its effective radius in units of the disc's scale.
    "bulge": [
        *[(1.0, 1.0)] * 3,
        *[(0.45, 1.30), (0.00, 0.10)],
        *[(0.50, 1.20), (0.50, 1.10), (0.30, 1.50), (0.50, 1.50)],
    ],
    "bulge_size": [
        *[(0.33, 0.33)] * 3,
        *[(0.17, 0.28), (0.05, 0.10)],
        *[(0.08, 0.14), (0.08, 0.15), (0.07, 0.17), (0.09, 0.18)],
    ],
    "bar": [*[(0.0, 0.0)] * 5, (0.4, 1.0), (0.5, 1.0), (0.0, 0.1), (0.0, 0.1)],
    "bar_length": [*[(0.1, 0.1)] * 5, *[(0.38, 0.58)] * 2, *[(0.14, 0.24)] * 2],
    "arms": [*[(0.0, 0.0)] * 5, (0.35, 1.0), (0.0, 0.1), (0.35, 1.0), (0.0, 0.1)],
    "ring": [*[(0.0, 0.0)] * 5, (0.0, 0.2), (0.0, 0.6), (0.0, 0.2), (0.1, 0.7)],
    "dust": [*[(0.0, 0.0)] * 3, *[(0.0, 1.2)] * 2, *[(0.0, 0.0)] * 4],
    # Colours are slopes of log flux from blue to red; arms are bluer than discs.
    "bulge_color": [
        *[(0.34, 0.48)] * 3,
        *[(0.30, 0.48), (0.15, 0.35)],
        *[(0.28, 0.46), (0.32, 0.48), (0.28, 0.46), (0.30, 0.48)],
    ],
    "disc_color": [
        *[(0.0, 0.0)] * 3,
        *[(0.12, 0.36), (-0.02, 0.26)],
        *[(0.08, 0.24), (0.18, 0.36), (0.05, 0.22), (0.14, 0.34)],
    ],
    "arm_color": [*[(0.0, 0.0)] * 5, *[(-0.34, -0.10)] * 4],
}

_SOFTENING = 0.05  # of the arcsinh stretch: linear below, logarithmic above
_SKY = 0.15  # brightness of the sky, in units of white: sets the photon noise
_CHUNK_PIXELS = 2**18  # images are rendered in chunks of about a megabyte a map


@overload
def make_galaxies(
    n_samples: int = ...,
    *,
    size: int = ...,
    n_bands: int = ...,
    noise: float = ...,
    neighbors: float = ...,
    weights: ArrayLike | None = ...,
    random_state: int | np.random.RandomState | None = ...,
    return_votes: Literal[False] = ...,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...


@overload
def make_galaxies(
    n_samples: int = ...,
    *,
    size: int = ...,
    n_bands: int = ...,
    noise: float = ...,
    neighbors: float = ...,
    weights: ArrayLike | None = ...,
    random_state: int | np.random.RandomState | None = ...,
    return_votes: Literal[True],
) -> tuple[NDArray[np.float32], NDArray[np.int64], pd.DataFrame]: ...


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "size": [Interval(Integral, 8, None, closed="left")],
        "n_bands": [Interval(Integral, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "neighbors": [Interval(Real, 0, 100, closed="both")],
        "weights": ["array-like", None],
        "random_state": ["random_state"],
        "return_votes": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_galaxies(
    n_samples=100,
    *,
    size=64,
    n_bands=3,
    noise=0.008,
    neighbors=1.5,
    weights=None,
    random_state=None,
    return_votes=False,
):
    """Simulate images of galaxies of the nine Galaxy Zoo 2 classes.

    The images look like the colour cutouts of the Sloan Digital Sky Survey (SDSS)
    and stand in for them in examples and tests.  The classes are

    0. smooth, rounded
    1. smooth, in-between
    2. smooth, cigar-shaped
    3. edge-on disc with bulge
    4. edge-on disc without bulge
    5. barred spiral
    6. barred disc without spiral arms
    7. unbarred spiral
    8. unbarred disc without spiral arms

    Parameters
    ----------
    n_samples : int, default=100
        Number of galaxies.

    size : int, default=64
        Height and width of the images in pixels, at least 8.

    n_bands : int, default=3
        Number of bands, in order from red to blue: three bands are R, G, B for
        display.

    noise : float, default=0.008
        Standard deviation of the sky noise in a pixel, as a share of the brightness
        that is shown white.  Brighter pixels have more noise, as photons do.

    neighbors : float, default=1.5
        Mean number of foreground stars and background galaxies drawn in a frame.

    weights : array-like of shape (9,), default=None
        Relative frequencies of the classes.  With None the classes are balanced.

    random_state : int, RandomState instance or None, default=None
        Determines random number generation.  The same integer gives the same
        galaxies, whatever `size`, `n_bands`, `noise` and `neighbors` are.

    return_votes : bool, default=False
        Whether to return the votes of simulated volunteers, too.

    Returns
    -------
    X : ndarray of shape (n_samples, size, size, n_bands), dtype float32
        Images in [0, 1].  Galaxies are inside the central 70 % of the frame, so
        that images may be rotated and cropped; stars and neighbours are anywhere.

    y : ndarray of shape (n_samples,), dtype int64
        Classes 0 to 8.  The class counts differ by no more than 1 if `weights` is
        None.

    votes : DataFrame of shape (n_samples, 115)
        Only if `return_votes=True`: the columns `dr7objid`, `asset_id`,
        `total_classifications` and `total_votes`, then `_count`, `_fraction` and
        `_debiased` for each of the 37 answers, as in the table of Galaxy Zoo 2.
        Each galaxy is seen by about 40 volunteers, who disagree more about
        galaxies that are faint, small or between two classes.

    Raises
    ------
    ValueError
        If `weights` are not nine finite numbers of at least 0 with a positive sum.

    See Also
    --------
    skdistill.datasets.load_galaxy_zoo2 : Read real votes and images.

    Notes
    -----
    Bulges and smooth galaxies have Sersic profiles, discs are exponential and seen
    at a random angle, arms are logarithmic spirals, and the light of edge-on discs
    falls as sech² above the plane [1]_.  The point-spread function is the sum of
    two Gaussians.  A stretch by arcsinh that keeps the colours [2]_ turns brightness
    into the values of `X`.  The debiased votes are the fractions corrected to what a
    clear view would give.  Volunteers' questions follow the tree of [3]_; a question
    nobody was asked has fractions of 0.

    References
    ----------
    .. [1] van der Kruit, P. C., Searle, L. (1981). Surface photometry of edge-on
       spiral galaxies. Astronomy and Astrophysics 95, 105.
    .. [2] Lupton, R. et al. (2004). Preparing red-green-blue images from CCD data.
       Publications of the Astronomical Society of the Pacific 116, 133.
    .. [3] Willett, K. W. et al. (2013). Galaxy Zoo 2. Monthly Notices of the Royal
       Astronomical Society 435, 2835.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.datasets import make_galaxies
    >>> X, y = make_galaxies(n_samples=18, size=32, random_state=0)
    >>> X.shape
    (18, 32, 32, 3)
    >>> np.bincount(y)
    array([2, 2, 2, 2, 2, 2, 2, 2, 2])

    The votes of simulated volunteers are a table like the one of Galaxy Zoo 2:

    >>> X, y, votes = make_galaxies(18, size=32, random_state=0, return_votes=True)
    >>> smooth = votes["t01_smooth_or_features_a01_smooth_fraction"]
    >>> bool(smooth[y <= 2].mean() > smooth[y > 2].mean())
    True
    """
    # Independent streams, so that the galaxies do not depend on what else is asked
    # for; and a Generator, as it draws the noise several times faster in float32.
    seed = check_random_state(random_state).randint(2**31 - 1, size=4)
    draw, draw_neighbors, draw_noise, draw_votes = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed.tolist()).spawn(4)
    )
    y = np.repeat(np.arange(N_CLASSES), _class_counts(n_samples, weights))
    draw.shuffle(y)
    galaxies = _draw_galaxies(y, draw)
    spots = _draw_neighbors(len(y), neighbors, draw_neighbors)

    X = np.empty((n_samples, size, size, n_bands), dtype=np.float32)
    for rows, light in _chunks(y, size):
        image = light(galaxies.iloc[rows], size, n_bands)
        image += _neighbors(spots[rows], size, n_bands)
        image = _blur(image, galaxies["seeing"].to_numpy(np.float32)[rows])
        image = _observe(image, noise, draw_noise)
        X[rows] = np.moveaxis(_stretch(image, black=-noise), 1, -1)
    if not return_votes:
        return X, y
    return X, y, simulate_votes(y, galaxies, noise, draw_votes)


def _class_counts(n_samples: int, weights: ArrayLike | None) -> NDArray[np.int64]:
    """Share `n_samples` out by largest remainder: counts sum exactly."""
    share = np.ones(N_CLASSES) if weights is None else np.asarray(weights, dtype=float)
    if share.shape != (N_CLASSES,):
        raise ValueError(
            f"`weights` must have one entry for each of the {N_CLASSES} classes; got "
            f"shape {share.shape}."
        )
    if not np.isfinite(share).all() or (share < 0).any() or share.sum() == 0:
        raise ValueError(
            "`weights` must be finite numbers of at least 0 with a positive sum; got "
            f"{weights!r}."
        )
    exact = n_samples * share / share.sum()
    counts = np.floor(exact).astype(np.int64)
    remainder = np.argsort(counts - exact, kind="stable")
    counts[remainder[: n_samples - counts.sum()]] += 1
    return counts


def _draw_galaxies(y: NDArray[np.int64], rng: np.random.Generator) -> pd.DataFrame:
    """Draw the shape, brightness and colours of each galaxy, one row each."""
    n = len(y)
    galaxies = pd.DataFrame(index=range(n))
    for name, ranges in _RANGES.items():
        low, high = np.asarray(ranges).T[:, y]
        galaxies[name] = low + (high - low) * rng.random(n)
    galaxies["brightness"] = 0.13 * np.exp(0.35 * rng.standard_normal(n).clip(-2, 2))
    galaxies["seeing"] = rng.uniform(0.020, 0.032, n)
    galaxies["x"], galaxies["y"] = 0.012 * rng.standard_normal((2, n)).clip(-2.5, 2.5)
    galaxies["angle"] = rng.uniform(0, 2 * np.pi, n)
    galaxies["phase"] = rng.uniform(0, 2 * np.pi, n)
    galaxies["handedness"] = rng.choice([-1, 1], n)
    galaxies["pitch"] = np.deg2rad(rng.uniform(14, 30, n))
    # Arms of barred galaxies start at the two ends of the bar.
    arms = rng.choice([2, 3, 4], n, p=[0.7, 0.15, 0.15])
    galaxies["n_arms"] = np.where(galaxies["bar"] > 0.2, 2, arms)
    return galaxies


def _draw_neighbors(
    n: int, mean: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw round spots of light: position, width, flux and colour of each.

    A star is one narrow spot; a background galaxy is three in a row, so that it is
    elongated and yet separable in x and y, which makes it cheap to render.
    """
    count = rng.poisson(mean, n)
    shape = (n, count.max(initial=0))
    star = rng.random(shape) < 0.6
    position = rng.uniform(-1, 1, (2, *shape))
    flux = np.where(star, 0.7, 0.12) * np.exp(0.9 * rng.standard_normal(shape))
    color = rng.normal(np.where(star, 0.1, 0.25), np.where(star, 0.2, 0.12))
    # No neighbour hides the galaxy's own centre.
    shown = (np.arange(shape[1]) < count[:, None]) & (np.hypot(*position) > 0.3)
    width = np.where(star, 0.0, rng.uniform(0.02, 0.04, shape))
    angle = rng.uniform(0, np.pi, shape)
    spots = np.empty((*shape, 3, 5), dtype=np.float32)
    for k, step in enumerate([-1.2, 0.0, 1.2]):
        spots[..., k, 0] = position[0] + step * width * np.cos(angle)
        spots[..., k, 1] = position[1] + step * width * np.sin(angle)
        spots[..., k, 2] = width
        spots[..., k, 3] = shown * flux / 3
        spots[..., k, 4] = color
    return spots.reshape(n, -1, 5)


def _chunks(y: NDArray[np.int64], size: int) -> Iterator[tuple]:
    """Yield the rows of one family of galaxies at a time, and its renderer."""
    n_rows = max(1, _CHUNK_PIXELS // size**2)
    for classes, light in [
        ([0, 1, 2], _smooth),
        ([3, 4], _edge_on),
        ([5, 6, 7, 8], _face_on),
    ]:
        rows = np.flatnonzero(np.isin(y, classes))
        for start in range(0, len(rows), n_rows):
            yield rows[start : start + n_rows], light


def _smooth(galaxies: pd.DataFrame, size: int, n_bands: int) -> NDArray[np.float32]:
    get = _getter(galaxies)
    x, y, pixel = _axes(get, size)
    r2 = x**2 + (y / get("axis_ratio")) ** 2
    light = _sersic(r2 + pixel**2, 0.33 * get("radius"), get("sersic_index"))
    light *= get("brightness") * _edge(r2, get("radius"), 2)
    return _spectrum(get("bulge_color"), n_bands) * light[:, None]


def _edge_on(galaxies: pd.DataFrame, size: int, n_bands: int) -> NDArray[np.float32]:
    get = _getter(galaxies)
    x, z, pixel = _axes(get, size)
    radius, brightness = get("radius"), get("brightness")
    height = np.hypot(0.6 * get("axis_ratio") * radius, pixel)
    r2 = x**2 + 0.01 * radius**2
    disc = 3.2 * brightness * np.exp(np.sqrt(r2) / (-0.36 * radius))
    disc *= _sech2(z, height) * _edge(r2, radius, 4)
    bulge = _sersic(
        x**2 + (z / 0.75) ** 2 + pixel**2,
        get("bulge_size") * radius,
        get("sersic_index"),
    )
    bulge *= get("bulge") * brightness * _edge(x**2 + z**2, radius, 4)
    # A thin lane of dust, a little off the middle as the disc is a little tilted.
    dust = get("dust") * _sech2(z - 0.4 * height, 0.5 * height)
    dust *= np.exp(-r2 / (0.5 * radius) ** 2)
    image = _spectrum(get("disc_color"), n_bands) * disc[:, None]
    image += _spectrum(get("bulge_color"), n_bands) * bulge[:, None]
    opacity = np.linspace(0.6, 1.4, n_bands, dtype=np.float32).reshape(-1, 1, 1)
    image *= np.exp(-opacity * dust[:, None])
    return image


def _face_on(galaxies: pd.DataFrame, size: int, n_bands: int) -> NDArray[np.float32]:
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
    crest = np.cos(get("n_arms") * (azimuth - winding))
    knots = 1 + 0.35 * np.cos(5 * azimuth + 3 * winding)
    blue = np.exp(2.2 * (crest - 1)) * knots * (3.2 * arms)
    # Arms start where the bar or the bulge ends.
    blue *= 1 / (1 + (length / r) ** 6)
    blue *= np.exp(r / (-0.5 * radius))
    blue += get("ring") * np.exp(-(((r - 0.68 * radius) / (0.11 * radius)) ** 2))
    blue *= brightness * edge

    image = _spectrum(get("bulge_color"), n_bands) * (bulge + bar)[:, None]
    image += _spectrum(get("disc_color"), n_bands) * disc[:, None]
    image += _spectrum(get("arm_color"), n_bands) * blue[:, None]
    return image


def _getter(galaxies: pd.DataFrame):
    """Return columns by name, shaped to broadcast against maps (n, size, size)."""
    return lambda name: galaxies[name].to_numpy(np.float32)[:, None, None]


def _axes(get, size: int) -> tuple:
    """Coordinates along the major and minor axis of each galaxy; softening length.

    Profiles are sampled at pixel centres, so cusps are softened by 0.4 pixel.
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


def _spectrum(slope, n_bands: int):
    """Relative flux in each band from red to blue, with mean 1."""
    position = np.linspace(0, 1, n_bands) if n_bands > 1 else np.array([0.5])
    # Spectra of old stars fall faster towards the blue.
    redness = (1 - 2 * position**1.6).astype(np.float32).reshape(-1, 1, 1)
    flux = np.exp(slope[:, None] * redness)
    return flux / flux.mean(axis=1, keepdims=True)


def _neighbors(spots: NDArray[np.float32], size: int, n_bands: int):
    """Render round Gaussian spots as sums of outer products."""
    x, y, width, flux, color = np.moveaxis(spots, -1, 0)[..., None]
    width = np.hypot(width, np.float32(1.2 / size))
    rows = np.exp(-0.5 * ((_grid(size) - y) / width) ** 2)
    columns = np.exp(-0.5 * ((_grid(size) - x) / width) ** 2)
    weight = flux[:, None] * _spectrum(color, n_bands)
    return (rows[:, None] * weight).swapaxes(-1, -2) @ columns[:, None]


def _blur(image: NDArray[np.float32], seeing: NDArray[np.float32]):
    """Convolve with a core and a wing, each Gaussian and hence separable."""
    size = image.shape[-1]
    distance = np.square(_grid(size) - _grid(size)[:, None])
    blurred = np.zeros_like(image)
    for share, factor in [(0.85, 1.0), (0.15, 2.5)]:
        width = np.maximum(factor * seeing, np.float32(0.8 / size))[:, None, None]
        kernel = np.exp(distance / (-2 * width**2))
        kernel *= np.float32(2 / size / np.sqrt(2 * np.pi)) / width
        kernel = kernel[:, None]
        blurred += np.float32(share) * (kernel @ image @ kernel)
    return blurred


def _observe(image: NDArray[np.float32], noise: float, rng: np.random.Generator):
    """Add the noise of sky and photons."""
    scale = np.sqrt(1 + image / np.float32(_SKY))
    scale *= np.float32(noise)
    scale *= rng.standard_normal(image.shape, dtype=np.float32)
    return image + scale


def _stretch(image: NDArray[np.float32], black: float) -> NDArray[np.float32]:
    """Compress brightness by arcsinh, keep colours, as Lupton et al. (2004) do."""
    image = image - np.float32(black)
    x = np.abs(image.mean(axis=1, keepdims=True)) / np.float32(_SOFTENING)
    x += np.float32(1e-6)
    image *= np.arcsinh(x) / (x * np.float32(_SOFTENING * np.arcsinh(1 / _SOFTENING)))
    image /= np.maximum(image.max(axis=1, keepdims=True), 1)
    return np.maximum(image, 0)
