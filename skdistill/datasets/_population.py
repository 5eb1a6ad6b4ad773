"""Draw simulated galaxies and their neighbors: shapes, colors, distances."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

N_CLASSES = 9

# Galaxies per class among the 19,759 of Galaxy Zoo 2's table for Stripe 82 (coadded
# images; Willett et al. 2013, table 5) that have a leaf: GalaxyZooCurator's `available`
# with votes="debiased", which says what would be seen nearby. By raw fractions they are
# 5911, 8121, 1972, 485, 105, 840, 109, 1932 and 284: features vanish with distance.
GZ2_COUNTS = (4987, 6027, 1187, 1001, 269, 1166, 461, 2676, 1985)

# Galaxies look as they are drawn when they are at this redshift.
NEAREST = 0.03

# Lengths are in half frames: the frame reaches from -1 to 1 and a galaxy may fill
# the circle of radius 0.7, which is what is left after rotating and cropping.
# One (low, high) range per class, drawn uniformly.
#          smooth:     rounded,     in-between,    cigar,
#        edge-on:     with bulge,   without bulge,
#       face-on:     barred spiral, barred, unbarred spiral, neither
_TEXTBOOK: dict[str, list[tuple[float, float]]] = {
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
    # Colors are slopes of log flux from blue to red; arms are bluer than discs.
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

# What is different in a survey: galaxies are less bright in their middles, less regular
# and less colorful than in a textbook. Quantities beyond those above are 0 there.
_SURVEY: dict[str, list[tuple[float, float]]] = {
    "radius": [
        *[(0.42, 0.64), (0.44, 0.64), (0.44, 0.64)],
        *[(0.44, 0.64), (0.42, 0.64)],
        *[(0.40, 0.62)] * 4,
    ],
    "axis_ratio": [
        *[(0.80, 1.00), (0.42, 0.75), (0.22, 0.40)],
        *[(0.10, 0.24), (0.08, 0.22)],
        *[(0.45, 1.00)] * 4,
    ],
    "sersic_index": [
        *[(1.5, 5.0), (1.5, 4.5), (1.0, 3.0)],
        *[(1.5, 3.0), (1.0, 1.0)],
        *[(1.0, 2.5), (1.0, 3.0), (1.0, 3.0), (1.0, 3.5)],
    ],
    "bulge": [
        *[(1.0, 1.0)] * 3,
        *[(1.00, 2.60), (0.00, 0.15)],
        *[(0.40, 1.20), (0.60, 1.60), (0.20, 1.50), (0.60, 1.80)],
    ],
    "bulge_size": [
        *[(0.33, 0.33)] * 3,
        *[(0.12, 0.24), (0.05, 0.10)],
        *[(0.06, 0.14), (0.08, 0.18), (0.05, 0.16), (0.08, 0.22)],
    ],
    "bar": [*[(0.0, 0.0)] * 5, (0.25, 0.9), (0.25, 0.8), (0.0, 0.1), (0.0, 0.1)],
    "arms": [*[(0.0, 0.0)] * 5, (0.2, 0.7), (0.0, 0.08), (0.2, 0.7), (0.0, 0.08)],
    "ring": [*[(0.0, 0.0)] * 5, (0.0, 0.2), (0.0, 0.3), (0.0, 0.2), (0.0, 0.3)],
    "dust": [*[(0.0, 0.0)] * 3, *[(0.0, 1.5)] * 2, *[(0.0, 0.5), (0.0, 0.1)] * 2],
    "bulge_color": [
        *[(0.16, 0.42), (0.16, 0.44), (0.12, 0.42)],
        *[(0.24, 0.42), (0.12, 0.35)],
        *[(0.22, 0.42), (0.26, 0.46), (0.22, 0.42), (0.24, 0.44)],
    ],
    "disc_color": [
        *[(0.0, 0.0)] * 3,
        *[(0.10, 0.34), (0.00, 0.36)],
        *[(0.05, 0.26), (0.18, 0.38), (0.05, 0.26), (0.16, 0.38)],
    ],
    "arm_color": [*[(0.0, 0.0)] * 5, *[(-0.22, 0.06)] * 4],
    # Clumps of young stars, and arms that wander, by this much in the logarithm.
    "clumps": [*[(0.0, 0.0)] * 3, *[(0.0, 0.3)] * 2, *[(0.1, 0.4), (0.0, 0.1)] * 2],
    "lopsided": [*[(0.0, 0.0)] * 5, *[(-0.5, 0.5)] * 4],
}


def class_counts(n_samples: int, weights: ArrayLike | str | None) -> NDArray[np.int64]:
    """Share `n_samples` out by largest remainder: counts sum exactly."""
    if weights is None:
        share = np.ones(N_CLASSES)
    elif isinstance(weights, str):
        share = np.array(GZ2_COUNTS, dtype=float)
    else:
        share = np.asarray(weights, dtype=float)
    if share.shape == (N_CLASSES - 1,):
        rest = 1 - share.sum()
        if rest < -1e-9:  # no mere rounding
            raise ValueError(
                f"`weights` of all but the last of the {N_CLASSES} classes must have a "
                f"sum of at most 1, since the last one gets the rest; got {weights!r}"
            )
        share = np.append(share, max(rest, 0.0))
    if share.shape != (N_CLASSES,):
        raise ValueError(
            f"`weights` must have one entry for each of the {N_CLASSES} classes, or "
            f"for all but the last; got shape {share.shape}"
        )
    if not np.isfinite(share).all() or (share < 0).any() or share.sum() == 0:
        raise ValueError(
            "`weights` must be finite numbers of at least 0 with a positive sum; got "
            f"{weights!r}"
        )
    exact = n_samples * share / share.sum()
    counts = np.floor(exact).astype(np.int64)
    remainder = np.argsort(counts - exact, kind="stable")
    counts[remainder[: n_samples - counts.sum()]] += 1
    return counts


def draw_galaxies(
    y: NDArray[np.int64], survey: bool, rng: np.random.Generator
) -> pd.DataFrame:
    """Draw the shape, brightness and colors of each galaxy, one row each."""
    n = len(y)
    galaxies = pd.DataFrame(index=range(n))
    ranges = _TEXTBOOK | _SURVEY if survey else _TEXTBOOK
    for name in _TEXTBOOK:
        low, high = np.asarray(ranges[name]).T[:, y]
        galaxies[name] = low + (high - low) * rng.random(n)
    scatter = rng.standard_normal(n).clip(-2, 2)
    typical, spread = (0.26, 0.45) if survey else (0.13, 0.35)
    galaxies["brightness"] = typical * np.exp(spread * scatter)
    # The width of the point-spread function's core.
    galaxies["seeing"] = rng.uniform(0.020, 0.032, n) * (0.6 if survey else 1.0)
    galaxies["x"], galaxies["y"] = 0.012 * rng.standard_normal((2, n)).clip(-2.5, 2.5)
    galaxies["angle"] = rng.uniform(0, 2 * np.pi, n)
    galaxies["phase"] = rng.uniform(0, 2 * np.pi, n)
    galaxies["handedness"] = rng.choice([-1, 1], n)
    galaxies["pitch"] = np.deg2rad(rng.uniform(14, 30, n))
    # Arms of barred galaxies start at the two ends of the bar.
    arms = rng.choice([2, 3, 4], n, p=[0.7, 0.15, 0.15])
    galaxies["n_arms"] = np.where(galaxies["bar"] > 0.2, 2, arms)
    for name in ["clumps", "lopsided"]:
        low, high = np.asarray(_SURVEY[name]).T[:, y]
        galaxies[name] = low + (high - low) * rng.random(n) if survey else 0.0
    galaxies["redshift"] = NEAREST
    return galaxies


def move_away(
    galaxies: pd.DataFrame, redshift: NDArray[np.float64], scale_cutouts: bool
) -> pd.DataFrame:
    """Show galaxies at other redshifts, smaller and dimmer, behind the same seeing."""
    shrink = _angular_distance(NEAREST) / _angular_distance(redshift)
    dimming = ((1 + NEAREST) / (1 + redshift)) ** 4
    moved = galaxies.assign(
        redshift=redshift, brightness=galaxies["brightness"] * dimming
    )
    # The seeing is the same angle: it grows where the field of view shrinks with the
    # galaxy.
    if scale_cutouts:
        return moved.assign(seeing=galaxies["seeing"] / shrink)
    return moved.assign(radius=galaxies["radius"] * shrink)


def _angular_distance(redshift):
    """Angular diameter distance in units of c/H0; flat, matter density 0.3."""
    z = np.asarray(redshift)[..., None]
    node, weight = np.polynomial.legendre.leggauss(8)
    expansion = np.sqrt(0.3 * (1 + z * (node + 1) / 2) ** 3 + 0.7)
    comoving = (weight / expansion).sum(axis=-1) * redshift / 2
    return comoving / (1 + redshift)


def draw_neighbors(
    n: int, mean: float, survey: bool, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw round spots of light: position, width, flux and color of each.

    A star is one narrow spot; a background galaxy is three in a row, so that it is
    elongated and yet separable in x and y, which makes it cheap to render.
    """
    count = rng.poisson(mean, n)
    shape = (n, count.max(initial=0))
    star = rng.random(shape) < 0.6
    position = rng.uniform(-1, 1, (2, *shape))
    brightness, spread = ((1.5, 0.30), 1.3) if survey else ((0.7, 0.12), 0.9)
    flux = np.where(star, *brightness) * np.exp(spread * rng.standard_normal(shape))
    color = rng.normal(
        np.where(star, 0.1, 0.25), np.where(star, 0.4 if survey else 0.2, 0.12)
    )
    # No neighbor hides the galaxy's own center.
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
