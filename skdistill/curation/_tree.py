"""The Galaxy Zoo 2 decision tree as data, and the scores of its nine leaves."""

from collections.abc import Callable

import numpy as np

SMOOTH = "t01_smooth_or_features_a01_smooth"
FEATURES = "t01_smooth_or_features_a02_features_or_disk"
EDGE_ON = "t02_edgeon_a04_yes"
NOT_EDGE_ON = "t02_edgeon_a05_no"
BAR = "t03_bar_a06_bar"
NO_BAR = "t03_bar_a07_no_bar"
SPIRAL = "t04_spiral_a08_spiral"
NO_SPIRAL = "t04_spiral_a09_no_spiral"
ROUND = "t07_rounded_a16_completely_round"
IN_BETWEEN = "t07_rounded_a17_in_between"
CIGAR = "t07_rounded_a18_cigar_shaped"
ROUNDED_BULGE = "t09_bulge_shape_a25_rounded"
BOXY_BULGE = "t09_bulge_shape_a26_boxy"
NO_BULGE = "t09_bulge_shape_a27_no_bulge"

# A path is a tuple of steps; the votes of a step's answers are summed.
LEAVES = {
    "smooth rounded": ((SMOOTH,), (ROUND,)),
    "smooth in-between": ((SMOOTH,), (IN_BETWEEN,)),
    "smooth cigar-shaped": ((SMOOTH,), (CIGAR,)),
    "edge-on with bulge": ((FEATURES,), (EDGE_ON,), (ROUNDED_BULGE, BOXY_BULGE)),
    "edge-on without bulge": ((FEATURES,), (EDGE_ON,), (NO_BULGE,)),
    "barred spiral": ((FEATURES,), (NOT_EDGE_ON,), (BAR,), (SPIRAL,)),
    "barred without arms": ((FEATURES,), (NOT_EDGE_ON,), (BAR,), (NO_SPIRAL,)),
    "unbarred spiral": ((FEATURES,), (NOT_EDGE_ON,), (NO_BAR,), (SPIRAL,)),
    "unbarred without arms": ((FEATURES,), (NOT_EDGE_ON,), (NO_BAR,), (NO_SPIRAL,)),
}

CLASS_NAMES = tuple(LEAVES)

# Every answer on the way to a leaf, once, in the order of the tasks.
ANSWERS = tuple(
    sorted({answer for path in LEAVES.values() for step in path for answer in step})
)

# What the galaxy-datasets package calls the same answers.
GALAXY_DATASETS_NAMES = {
    SMOOTH: "smooth-or-featured-gz2_smooth",
    FEATURES: "smooth-or-featured-gz2_featured-or-disk",
    EDGE_ON: "disk-edge-on-gz2_yes",
    NOT_EDGE_ON: "disk-edge-on-gz2_no",
    BAR: "bar-gz2_yes",
    NO_BAR: "bar-gz2_no",
    SPIRAL: "has-spiral-arms-gz2_yes",
    NO_SPIRAL: "has-spiral-arms-gz2_no",
    ROUND: "how-rounded-gz2_round",
    IN_BETWEEN: "how-rounded-gz2_in-between",
    CIGAR: "how-rounded-gz2_cigar",
    ROUNDED_BULGE: "bulge-shape-gz2_round",
    BOXY_BULGE: "bulge-shape-gz2_boxy",
    NO_BULGE: "bulge-shape-gz2_no-bulge",
}

_COMBINE: dict[str, Callable[..., np.ndarray]] = {
    "product": np.prod,
    "mean": np.mean,
    "min": np.min,
}


def leaf_scores(votes: np.ndarray, confidence: str = "product") -> np.ndarray:
    """Score of every leaf for every galaxy.

    Parameters
    ----------
    votes : ndarray of shape (n_galaxies, 14)
        Vote fractions in [0, 1], columns in the order of `ANSWERS`. NaN (nobody was
        asked, or the debiasing failed) counts as no vote for that answer.

    confidence : {"product", "mean", "min"}, default="product"
        How the votes of the steps on the way to a leaf become one score.

    Returns
    -------
    scores : ndarray of shape (n_galaxies, 9)
        Columns in the order of `CLASS_NAMES`; NaN throughout in the row of a galaxy
        without a single finite vote.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.curation._tree import ANSWERS, CIGAR, SMOOTH, leaf_scores
    >>> votes = np.zeros((1, len(ANSWERS)))
    >>> votes[0, ANSWERS.index(SMOOTH)] = 0.75
    >>> votes[0, ANSWERS.index(CIGAR)] = 0.5
    >>> leaf_scores(votes)[0, :3].tolist()
    [0.0, 0.0, 0.375]
    >>> leaf_scores(votes, "min")[0, :3].tolist()
    [0.0, 0.0, 0.5]
    """
    column = {answer: i for i, answer in enumerate(ANSWERS)}
    combine = _COMBINE[confidence]
    filled = np.nan_to_num(votes, nan=0.0)
    scores = np.empty((len(votes), len(LEAVES)))
    for leaf, path in enumerate(LEAVES.values()):
        steps = [sum(filled[:, column[answer]] for answer in step) for step in path]
        scores[:, leaf] = combine(steps, axis=0)
    scores[np.isnan(votes).all(axis=1)] = np.nan
    return scores


def leaf_labels(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest leaf of every galaxy and its score.

    Parameters
    ----------
    scores : ndarray of shape (n_galaxies, 9)
        What `leaf_scores` returns.

    Returns
    -------
    codes : ndarray of shape (n_galaxies,), dtype int64
        Index into `CLASS_NAMES`; of equal scores the first leaf wins. -1 for a galaxy
        without a label: no finite vote, or no vote for any leaf (all scores are 0, as
        when everybody saw a star).

    confidence : ndarray of shape (n_galaxies,)
        The highest score; NaN where there is no label.
    """
    # argmax takes the first of equal values, whatever the order of the rows.
    codes = np.where(np.isnan(scores), -1.0, scores).argmax(axis=1)
    confidence = np.take_along_axis(scores, codes[:, None], axis=1)[:, 0]
    labelled = confidence > 0
    return np.where(labelled, codes, -1), np.where(labelled, confidence, np.nan)
