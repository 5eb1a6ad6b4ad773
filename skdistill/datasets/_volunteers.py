"""Votes that volunteers of Galaxy Zoo 2 might give to simulated galaxies."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

TASKS: dict[str, tuple[str, ...]] = {
    "t01_smooth_or_features": (
        *("a01_smooth", "a02_features_or_disk", "a03_star_or_artifact"),
    ),
    "t02_edgeon": ("a04_yes", "a05_no"),
    "t03_bar": ("a06_bar", "a07_no_bar"),
    "t04_spiral": ("a08_spiral", "a09_no_spiral"),
    "t05_bulge_prominence": (
        *("a10_no_bulge", "a11_just_noticeable", "a12_obvious", "a13_dominant"),
    ),
    "t06_odd": ("a14_yes", "a15_no"),
    "t07_rounded": ("a16_completely_round", "a17_in_between", "a18_cigar_shaped"),
    "t08_odd_feature": (
        *("a19_ring", "a20_lens_or_arc", "a21_disturbed", "a22_irregular"),
        *("a23_other", "a24_merger", "a38_dust_lane"),
    ),
    "t09_bulge_shape": ("a25_rounded", "a26_boxy", "a27_no_bulge"),
    "t10_arms_winding": ("a28_tight", "a29_medium", "a30_loose"),
    "t11_arms_number": (
        *("a31_1", "a32_2", "a33_3", "a34_4", "a36_more_than_4", "a37_cant_tell"),
    ),
}
FIRST_OBJID = 587_722_981_736_120_320


def simulate_votes(
    y: NDArray[np.int64],
    galaxies: pd.DataFrame,
    noise: float,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ask about 40 volunteers a galaxy along the tree of Galaxy Zoo 2.

    Parameters
    ----------
    y : ndarray of shape (n_galaxies,)
        Classes 0 to 8.
    galaxies : DataFrame of shape (n_galaxies, n_parameters)
        Shape, brightness and colors of the galaxies as drawn.
    noise : float
        Standard deviation of the sky noise.
    rng : Generator
        Draws the answers.

    Returns
    -------
    votes : DataFrame of shape (n_galaxies, 115)
        Identifiers, numbers of classifications and votes, and for each answer its
        `_count`, `_fraction` and `_debiased`.
    truth : DataFrame of shape (n_galaxies, 82)
        Identifiers, what is true of the galaxies, and for each answer its probability
        as seen, `_fraction`, and at a clear view, `_debiased`.
    """
    n = len(y)
    view = visibility(galaxies, noise)
    luck = rng.standard_normal((5, n))
    blurring = galaxies["blurring"].to_numpy()
    seen = answer_probabilities(y, galaxies, view, blurring, luck)
    clear = answer_probabilities(y, galaxies, np.ones(n), np.ones(n), luck)
    volunteers = rng.poisson(41, n).clip(20, 80)
    counts = _ask(volunteers, seen, rng)

    # Steps are smaller than the spacing of floats there: such ids only survive as
    # integers, as the real ones do.
    ids: dict[str, NDArray] = {
        "dr7objid": FIRST_OBJID + np.cumsum(rng.integers(1, 40, n)),
        "asset_id": np.arange(1, n + 1),
    }
    votes = ids | {
        "total_classifications": volunteers,
        "total_votes": sum(count.sum(axis=1) for count in counts.values()),
    }
    truth = ids | {"class": y}
    for name in ["redshift", "radius", "axis_ratio", "seeing"]:
        truth[name] = galaxies[name].to_numpy()
    truth["visibility"] = view
    for task, answers in TASKS.items():
        count = counts[task]
        fraction = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
        debiased = fraction * clear[task] / seen[task]
        total = debiased.sum(axis=1, keepdims=True)
        debiased = np.divide(debiased, total, out=debiased, where=total > 0)
        for k, answer in enumerate(answers):
            votes[f"{task}_{answer}_count"] = count[:, k]
            votes[f"{task}_{answer}_fraction"] = fraction[:, k]
            votes[f"{task}_{answer}_debiased"] = debiased[:, k]
            truth[f"{task}_{answer}_fraction"] = seen[task][:, k]
            truth[f"{task}_{answer}_debiased"] = clear[task][:, k]
    return pd.DataFrame(votes), pd.DataFrame(truth)


def visibility(galaxies: pd.DataFrame, noise: float) -> NDArray[np.float64]:
    """How clearly a galaxy is seen, in (0, 1): bright and large ones are clear."""
    contrast = np.log10(galaxies["brightness"] / (12 * noise + 0.01))
    size = (galaxies["radius"] - 0.4) / 0.2
    detail = -2 * np.log10(galaxies["blurring"])
    return _sigmoid((1.3 + 1.8 * contrast + size + detail).to_numpy())


def answer_probabilities(
    y: NDArray[np.int64],
    galaxies: pd.DataFrame,
    view: NDArray[np.float64],
    blurring: NDArray[np.float64],
    luck: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """Probabilities of the answers of each task, in the order of `TASKS`.

    Each task weighs a piece of evidence that is 0 at the boundary between two
    answers; the better the view, the fewer volunteers get a clear case wrong.
    Evidence in details, fainter when their light is spread, shrinks with `blurring`.
    What misleads all of them alike is `luck`, standard normal of shape (5, n).
    """
    luck = 0.4 * (1.2 - view) * luck
    g = galaxies
    smooth, edge_on, face_on = y <= 2, (y == 3) | (y == 4), y >= 5
    kept = np.minimum(np.sqrt(2 / (1 + blurring**2)), 1)
    bar, arms, ring = (kept * g[name].to_numpy() for name in ["bar", "arms", "ring"])
    # Seeing makes flat galaxies rounder; at no more than the usual blurring it is part
    # of what volunteers are used to.
    rounder = 0.005 * np.maximum(blurring**2 - 1, 0)
    ratio = g["axis_ratio"].to_numpy()
    ratio = np.where(rounder > 0, np.sqrt((ratio**2 + rounder) / (1 + rounder)), ratio)
    bulge = (g["bulge"] * g["bulge_size"]).to_numpy()
    sharp = 1.4 + 2.4 * view

    # Flattened smooth galaxies pass for discs, discs without details for smooth ones.
    details = np.maximum.reduce([arms, bar, 0.25 + 0.5 * ring])
    features = np.select(
        [smooth, edge_on],
        [-0.9 + 0.5 * (ratio < 0.4), 0.85 - 2.0 * (ratio - 0.08)],
        0.1 + 0.8 * details - 0.5 * (1 - kept),
    )
    features = _sigmoid(sharp * (features + luck[0]))
    artifact = 0.02 + 0.04 * (1 - view)
    edge = np.where(edge_on, 0.9 - 3.0 * ratio, 0.3 - ratio)
    edge = _sigmoid(2 * sharp * (edge + luck[1]))
    # Bars and arms are foreshortened in inclined discs.
    shown = np.where(face_on, 0.6 + 0.4 * ratio, 0.5)
    barred = _sigmoid(1.8 * sharp * (bar * shown - 0.24 + luck[2]))
    spiral = _sigmoid(1.8 * sharp * (arms * shown - 0.22 + luck[3]))
    odd = 0.06 + 0.35 * np.maximum(ring - 0.3, 0) + 0.05 * (1 - view)
    no_bulge = _sigmoid(6 * sharp * (0.06 - bulge + 0.3 * luck[4]))
    boxy = 0.15 * (1 - no_bulge)

    return {
        "t01_smooth_or_features": _stack(
            (1 - artifact) * (1 - features), (1 - artifact) * features, artifact
        ),
        "t02_edgeon": _stack(edge, 1 - edge),
        "t03_bar": _stack(barred, 1 - barred),
        "t04_spiral": _stack(spiral, 1 - spiral),
        "t05_bulge_prominence": _ordered(bulge, [0.03, 0.09, 0.18], 60 * view),
        "t06_odd": _stack(odd, 1 - odd),
        "t07_rounded": _ordered(0.2 * luck[4] - ratio, [-0.78, -0.40], 5 * sharp),
        "t08_odd_feature": _stack(
            0.05 + ring,
            *[np.full(len(y), share) for share in (0.03, 0.12, 0.15, 0.15, 0.12)],
            0.05 + g["dust"].to_numpy() / 3,
        ),
        "t09_bulge_shape": _stack(1 - no_bulge - boxy, boxy, no_bulge),
        "t10_arms_winding": _ordered(
            np.rad2deg(g["pitch"].to_numpy()), [18.0, 25.0], 0.4 * view
        ),
        "t11_arms_number": _arm_numbers(g["n_arms"].to_numpy(), arms * view),
    }


def _ask(
    volunteers: NDArray[np.int64],
    probabilities: dict[str, NDArray[np.float64]],
    rng: np.random.Generator,
) -> dict[str, NDArray[np.int64]]:
    """Walk down the tree; each task is asked of those whose answers lead to it."""
    counts: dict[str, NDArray[np.int64]] = {}

    def ask(task: str, n_asked: NDArray[np.int64]) -> NDArray[np.int64]:
        counts[task] = rng.multinomial(n_asked, probabilities[task])
        return counts[task].T

    smooth, features, _ = ask("t01_smooth_or_features", volunteers)
    edge_on, face_on = ask("t02_edgeon", features)
    ask("t03_bar", face_on)
    spiral, _ = ask("t04_spiral", face_on)
    ask("t10_arms_winding", spiral)
    ask("t11_arms_number", spiral)
    ask("t05_bulge_prominence", face_on)
    ask("t07_rounded", smooth)
    ask("t09_bulge_shape", edge_on)
    odd, _ = ask("t06_odd", smooth + features)
    ask("t08_odd_feature", odd)
    return counts


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def _stack(*shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of probabilities from shares; none is 0, somebody always misclicks."""
    table = np.stack(shares, axis=1) + 1e-3
    return table / table.sum(axis=1, keepdims=True)


def _ordered(
    x: NDArray[np.float64], bounds: list[float], sharpness: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Answers that follow each other along `x`, with a soft step at each bound."""
    beyond = [_sigmoid(sharpness * (x - bound)) for bound in bounds]
    ones = np.ones_like(x)
    return _stack(*-np.diff([ones, *beyond, 0 * ones], axis=0))


def _arm_numbers(n_arms: NDArray, clarity: NDArray) -> NDArray[np.float64]:
    """One to four, more than four, can't tell: neighbors are mistaken, too."""
    distance = np.abs(np.arange(1, 6) - n_arms[:, None])
    counted = np.exp(-distance * (1 + 2 * clarity[:, None]))
    return _stack(*counted.T, 0.8 - 0.7 * clarity)
