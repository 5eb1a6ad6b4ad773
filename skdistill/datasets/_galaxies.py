"""Simulated galaxies of the nine Galaxy Zoo 2 classes."""

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Literal, TypedDict, Unpack, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skdistill.datasets._population import (
    N_CLASSES,
    NEAREST,
    class_counts,
    draw_galaxies,
    draw_neighbors,
    move_away,
)
from skdistill.datasets._rendering import (
    TEXTURE_SHAPE,
    blur,
    observe,
    psf_fwhm,
    render_edge_on,
    render_face_on,
    render_neighbors,
    render_smooth,
    stretch,
)
from skdistill.datasets._volunteers import simulate_votes

_CHUNK_PIXELS = 2**18  # images are rendered in chunks of about a megabyte a map
_DEFAULT_PSF: Literal["double-gaussian"] = "double-gaussian"

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


class _Parameters(TypedDict, total=False):
    size: int
    n_bands: int
    style: Literal["textbook", "survey"]
    noise: float
    neighbors: float
    seeing: float | tuple[float, float] | None
    psf: Literal["double-gaussian", "gaussian", "moffat"]
    redshift: float | tuple[float, float] | None
    scale_cutouts: bool
    weights: ArrayLike | Literal["gz2"] | None
    random_state: int | np.random.RandomState | None


@overload
def make_galaxies(
    n_samples: int = ...,
    *,
    return_votes: Literal[False] = ...,
    return_truth: Literal[False] = ...,
    **parameters: Unpack[_Parameters],
) -> tuple[Images, Labels]: ...


@overload
def make_galaxies(
    n_samples: int = ...,
    *,
    return_votes: Literal[True],
    return_truth: Literal[False] = ...,
    **parameters: Unpack[_Parameters],
) -> tuple[Images, Labels, pd.DataFrame]: ...


@overload
def make_galaxies(
    n_samples: int = ...,
    *,
    return_votes: Literal[False] = ...,
    return_truth: Literal[True],
    **parameters: Unpack[_Parameters],
) -> tuple[Images, Labels, pd.DataFrame]: ...


@overload
def make_galaxies(
    n_samples: int = ...,
    *,
    return_votes: Literal[True],
    return_truth: Literal[True],
    **parameters: Unpack[_Parameters],
) -> tuple[Images, Labels, pd.DataFrame, pd.DataFrame]: ...


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "size": [Interval(Integral, 8, None, closed="left")],
        "n_bands": [Interval(Integral, 1, None, closed="left")],
        "style": [StrOptions({"textbook", "survey"})],
        "noise": [Interval(Real, 0, None, closed="left")],
        "neighbors": [Interval(Real, 0, 100, closed="both")],
        "seeing": [Interval(Real, 0, None, closed="neither"), tuple, list, None],
        "psf": [StrOptions({"double-gaussian", "gaussian", "moffat"})],
        "redshift": [Interval(Real, NEAREST, 1, closed="both"), tuple, list, None],
        "scale_cutouts": ["boolean"],
        "weights": ["array-like", StrOptions({"gz2"}), None],
        "random_state": ["random_state"],
        "return_votes": ["boolean"],
        "return_truth": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_galaxies(
    n_samples=100,
    *,
    size=64,
    n_bands=3,
    style="textbook",
    noise=0.008,
    neighbors=1.5,
    seeing=None,
    psf=_DEFAULT_PSF,
    redshift=None,
    scale_cutouts=False,
    weights=None,
    random_state=None,
    return_votes=False,
    return_truth=False,
):
    """Simulate images of galaxies of the nine Galaxy Zoo 2 classes.

    The images look like the color cutouts of the Sloan Digital Sky Survey (SDSS)
    and replace them in examples and tests.  The classes are

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
        Number of bands, in order from red to blue. Those of the SDSS filters: 1 is r,
        2 are r, g; 3 are i, r, g, shown as R, G, B; 4 are z, i, r, g and 5 are z, i, r,
        g, u. More are spread evenly in wavelength from z to u.
    style : {"textbook", "survey"}, default="textbook"
        Textbook galaxies are regular and easy to distinguish. Survey galaxies are as
        irregular as real ones: with uneven arms, clumps of young stars, dust at the
        inner edges of the arms, weak bars, a wide range of colors, correlated noise as
        in cutouts of enlarged pixels, and a stretch that does not saturate their
        centers.
    noise : float, default=0.008
        Standard deviation of the sky noise in a pixel, as a share of the brightness
        that is white in textbook style.  Brighter pixels have more noise, like photon
        counts.
    neighbors : float, default=1.5
        Mean number of foreground stars and background galaxies drawn in a frame.
    seeing : float or pair of floats, default=None
        Full width at half maximum of the point-spread function in pixels of the image,
        or the range in which it is drawn uniformly. A value in arcseconds has to be
        divided by the pixel scale. None draws it between 2.5 % and 4 % of the frame, in
        survey style between 1.5 % and 2.4 %.
    psf : {"double-gaussian", "gaussian", "moffat"}, default="double-gaussian"
        Shape of the point-spread function. The Moffat profile has the exponent 3.
    redshift : float or pair of floats, default=None
        Redshift of the galaxies, from 0.03 to 1, or the range in which it is drawn
        uniformly. None is 0.03, which leaves the galaxies unchanged. Galaxies at higher
        redshift are smaller and have a lower surface brightness, with the same seeing
        and noise; their light is redshifted. They lose detail, and volunteers' votes
        shift towards "smooth".
    scale_cutouts : bool, default=False
        Whether the field of view is proportional to the apparent size, as in the
        cutouts of Galaxy Zoo 2. A distant galaxy then fills as much of the frame as a
        near one, and the seeing and the correlation length of the noise increase
        instead.
    weights : array-like of shape (9,) or (8,), or "gz2", default=None
        Relative frequencies of the classes; if there are eight, the last is the
        remainder to 1. With None the classes are balanced. "gz2" uses the frequencies
        of Galaxy Zoo 2, of the galaxies of Stripe 82 labeled by their debiased votes:
        25.2 %, 30.5 %, 6.0 %, 5.1 %, 1.4 %, 5.9 %, 2.3 %, 13.5 % and 10.0 %.
    random_state : int, RandomState instance or None, default=None
        Controls all randomness; pass an int for reproducible results. The same int
        gives the same galaxies for any `size`, `n_bands`, `noise`, `neighbors`,
        `seeing`, `psf` and `redshift`.
    return_votes : bool, default=False
        Whether to also return the votes of simulated volunteers.
    return_truth : bool, default=False
        Whether to also return the probabilities from which the votes are drawn.

    Returns
    -------
    X : ndarray of shape (n_samples, size, size, n_bands), dtype float32
        Images in [0, 1].  Galaxies are inside the central 70 % of the frame, apart from
        the effect of the seeing, so that images may be rotated and cropped; stars and
        neighbors are anywhere.
    y : ndarray of shape (n_samples,), dtype int64
        Classes 0 to 8.  The class counts differ by no more than 1 if `weights` is
        None.
    votes : DataFrame of shape (n_samples, 115)
        Only if `return_votes=True`: the columns `dr7objid`, `asset_id`,
        `total_classifications` and `total_votes`, then `_count`, `_fraction` and
        `_debiased` for each of the 37 answers, as in the table of Galaxy Zoo 2.
        Each galaxy is seen by about 40 volunteers, who disagree more about
        galaxies that are faint, small or between two classes.
    truth : DataFrame of shape (n_samples, 82)
        Only if `return_truth=True`: `dr7objid` and `asset_id` as in `votes`; `class`,
        the same as `y`; `redshift`; `radius` in half frames; `axis_ratio`; `seeing`,
        the full width at half maximum in pixels; `visibility`, from 0 to 1. Then for
        each of the 37 answers `_fraction`, the probability that a volunteer who is
        asked the question gives this answer, and `_debiased`, the same for ideal
        observing conditions.

    Raises
    ------
    ValueError
        If `weights` are not nine finite numbers of at least 0 with a positive sum, or
        eight whose sum is at most 1, or if `seeing` or `redshift` is not a pair of
        numbers in order and in range.

    See Also
    --------
    skdistill.datasets.load_galaxy_zoo2 : Read real votes and images.

    Notes
    -----
    Bulges and smooth galaxies have Sersic profiles, discs are exponential and seen
    at a random angle, arms are logarithmic spirals, and the light of edge-on discs
    falls as sech² above the plane [1]_.  By default the point-spread function is the
    sum of two Gaussians.  A stretch by arcsinh that keeps the colors [2]_ turns
    brightness into the values of `X`.

    The galaxies are moved to another redshift as in [4]_: apparent sizes follow the
    angular diameter distance (flat, matter density 0.3), surface brightness falls as
    (1 + z)⁻⁴ and a band shows the light of a shorter wavelength.  They do not evolve.

    Volunteers' questions follow the tree of [3]_; a question that nobody was asked has
    fractions of 0.  The counts of a question are a multinomial draw from the
    probabilities in `truth`: its answers are calibrated by construction.  The debiased
    votes are the fractions corrected to ideal observing conditions, with factors that
    are known here and have to be estimated in Galaxy Zoo 2.

    References
    ----------
    .. [1] van der Kruit, P. C., Searle, L. (1981). Surface photometry of edge-on
       spiral galaxies. Astronomy and Astrophysics 95, 105.
    .. [2] Lupton, R. et al. (2004). Preparing red-green-blue images from CCD data.
       Publications of the Astronomical Society of the Pacific 116, 133.
    .. [3] Willett, K. W. et al. (2013). Galaxy Zoo 2. Monthly Notices of the Royal
       Astronomical Society 435, 2835.
    .. [4] Barden, M., Jahnke, K., Haeussler, B. (2008). FERENGI: redshifting galaxies
       from SDSS to GEMS, STAGES, and COSMOS. Astrophysical Journal Supplement Series
       175, 105.

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

    A simulated replacement of Galaxy Zoo 2, with a range of redshifts:

    >>> X, y = make_galaxies(
    ...     100,
    ...     style="survey",
    ...     redshift=(0.03, 0.12),
    ...     scale_cutouts=True,
    ...     weights="gz2",
    ...     random_state=0,
    ... )
    >>> np.bincount(y)
    array([25, 31,  6,  5,  1,  6,  2, 14, 10])
    """
    # Independent streams, so that the galaxies do not depend on what else is asked
    # for; and a Generator, as it draws the noise several times faster in float32.
    seed = check_random_state(random_state).randint(2**31 - 1, size=4)
    draw, draw_spots, draw_noise, draw_votes, draw_sky, draw_texture = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed.tolist()).spawn(6)
    )
    survey = style == "survey"
    y = np.repeat(np.arange(N_CLASSES), class_counts(n_samples, weights))
    draw.shuffle(y)
    galaxies = draw_galaxies(y, survey, draw)
    spots = draw_neighbors(len(y), neighbors, survey, draw_spots)
    galaxies = _put_in_sky(
        galaxies, size, seeing, redshift, scale_cutouts, draw_sky.random((2, n_samples))
    )

    X = np.empty((n_samples, size, size, n_bands), dtype=np.float32)
    # Pictures of surveys show a wide range of brightness.
    black, softening, white = (-0.6, 0.06, 6.0) if survey else (-1.0, 0.05, 1.0)
    for rows, render in _chunks(y, size):
        some, texture, grain = galaxies.iloc[rows], None, None
        fwhm = some["seeing"].to_numpy()
        if survey:
            shape = (len(rows), *TEXTURE_SHAPE)
            texture = draw_texture.standard_normal(shape, dtype=np.float32)
            grain = np.float32(0.2) * fwhm.astype(np.float32)
        image = render(some, size, n_bands, texture)
        image += render_neighbors(spots[rows], size, n_bands)
        image = blur(image, (fwhm / psf_fwhm(psf)).astype(np.float32), psf)
        image = observe(image, noise, draw_noise, grain)
        X[rows] = np.moveaxis(stretch(image, black * noise, softening, white), 1, -1)

    result: tuple = (X, y)
    if return_votes or return_truth:
        votes, truth = simulate_votes(y, galaxies, noise, draw_votes)
        truth["seeing"] *= size / 2
        result += (votes,) * return_votes + (truth,) * return_truth
    return result


def _put_in_sky(galaxies, size, seeing, redshift, scale_cutouts, share):
    """Give galaxies their redshift and their seeing, and `blurring`.

    That is how much wider the seeing is than without these parameters, in units of the
    size of the galaxy; `share` are uniform numbers of shape (2, n).
    """
    galaxies["seeing"] *= psf_fwhm(_DEFAULT_PSF)
    drawn = galaxies["seeing"] / galaxies["radius"]
    if seeing is not None:
        low, high = _bounds("seeing", seeing, np.finfo(float).tiny, np.inf)
        galaxies["seeing"] = (low + (high - low) * share[0]) * 2 / size
    if redshift is not None:
        low, high = _bounds("redshift", redshift, NEAREST, 1)
        z = low + (high - low) * share[1]
        galaxies = move_away(galaxies, z, scale_cutouts)
    return galaxies.assign(blurring=galaxies["seeing"] / galaxies["radius"] / drawn)


def _bounds(name: str, value, least: float, most: float) -> tuple[float, float]:
    """Lower and upper end of the range that a number or a pair stands for."""
    pair = (value, value) if isinstance(value, Real) else tuple(value)
    if (
        len(pair) != 2
        or not all(isinstance(end, Real) for end in pair)
        or not least <= pair[0] <= pair[1] <= most
        or pair[1] == np.inf
    ):
        limits = f"in [{least}, {most}]" if most < np.inf else "above 0"
        raise ValueError(
            f"`{name}` must be a number or a pair of numbers in increasing order, "
            f"{limits}; got {value!r}"
        )
    return float(pair[0]), float(pair[1])


def _chunks(y: Labels, size: int) -> Iterator[tuple]:
    """Yield the rows of one family of galaxies at a time, and its renderer."""
    n_rows = max(1, _CHUNK_PIXELS // size**2)
    for classes, render in [
        ([0, 1, 2], render_smooth),
        ([3, 4], render_edge_on),
        ([5, 6, 7, 8], render_face_on),
    ]:
        rows = np.flatnonzero(np.isin(y, classes))
        for start in range(0, len(rows), n_rows):
            yield rows[start : start + n_rows], render
