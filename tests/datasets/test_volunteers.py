"""The votes of simulated volunteers are what is claimed of them."""

import numpy as np
import pandas as pd
import pytest

from skdistill import GalaxyZooCurator
from skdistill.datasets import make_galaxies
from skdistill.datasets._volunteers import TASKS

FEATURES = "t01_smooth_or_features_a02_features_or_disk"
SURVEY = {"size": 8, "style": "survey", "return_votes": True, "return_truth": True}
ANSWERS = [f"{task}_{answer}" for task, answers in TASKS.items() for answer in answers]


@pytest.fixture(scope="module")
def survey():
    """Classes, votes and truth of galaxies from near to far."""
    return make_galaxies(
        3600, redshift=(0.03, 0.10), scale_cutouts=True, random_state=0, **SURVEY
    )[1:]


def asked(votes):
    """How many were asked the question of each answer, (n, 37)."""
    return np.concatenate(
        [
            np.repeat(
                votes.filter(regex=f"^{task}_.*_count$")
                .sum(axis=1)
                .to_numpy()[:, None],
                len(answers),
                axis=1,
            )
            for task, answers in TASKS.items()
        ],
        axis=1,
    )


def columns(table, suffix):
    return table[[f"{answer}_{suffix}" for answer in ANSWERS]].to_numpy()


def residuals(votes, truth):
    """Counts less what the probabilities promise, and their variance, (n, 37)."""
    n, p = asked(votes), columns(truth, "fraction")
    return columns(votes, "count") - n * p, n * p * (1 - p)


def labels(curator):
    """Number of each galaxy's class."""
    return pd.Index(curator.classes_).get_indexer(curator.labels_)


def test_truth_layout(survey):
    y, votes, truth = survey
    assert truth.shape == (len(y), 8 + 2 * 37)
    np.testing.assert_array_equal(truth["class"], y)
    for name in ["dr7objid", "asset_id"]:
        np.testing.assert_array_equal(truth[name], votes[name])
    assert truth["visibility"].between(0, 1, inclusive="neither").all()
    assert truth.notna().all(axis=None)
    for suffix in ["fraction", "debiased"]:
        assert columns(truth, suffix).min() > 0
        for task in TASKS:
            total = truth.filter(regex=f"^{task}_.*_{suffix}$").sum(axis=1)
            np.testing.assert_allclose(total, 1)


def test_truth_alone_is_the_same(survey):
    alone = make_galaxies(
        3600,
        redshift=(0.03, 0.10),
        scale_cutouts=True,
        random_state=0,
        **SURVEY | {"return_votes": False},
    )
    assert len(alone) == 3
    pd.testing.assert_frame_equal(alone[2], survey[2])


def test_volunteers_answer_with_the_probabilities_of_the_truth(survey):
    _, votes, truth = survey
    error, variance = residuals(votes, truth)
    # Sums of thousands of draws are normal: of 37 one beyond 4.5 is a chance of 1:4000.
    z = error.sum(axis=0) / np.sqrt(variance.sum(axis=0))
    assert np.abs(z).max() < 4.5
    # No more and no less scatter than that of independent volunteers, whose squared
    # errors vary as the fourth moment of a binomial distribution says.
    p = columns(truth, "fraction")
    spread = 2 * variance**2 + variance * (1 - 6 * p * (1 - p))
    z = (np.square(error) - variance).sum(axis=0) / np.sqrt(spread.sum(axis=0))
    assert np.abs(z).max() < 5


def test_votes_are_calibrated_at_every_probability(survey):
    _, votes, truth = survey
    error, variance = residuals(votes, truth)
    level = np.digitize(columns(truth, "fraction"), np.linspace(0, 1, 11)[1:-1])
    for step in range(10):
        chosen = level == step
        z = error[chosen].sum() / np.sqrt(variance[chosen].sum())
        assert abs(z) < 4.5, step


def test_miscalibrated_votes_would_be_found(survey):
    """The two tests above can fail: at a tenth of the log odds, say."""
    _, votes, truth = survey
    p = truth[f"{FEATURES}_fraction"]
    wrong = truth.assign(
        **{f"{FEATURES}_fraction": 1 / (1 + ((1 - p) / p) * np.exp(-0.1))}
    )
    error, variance = residuals(votes, wrong)
    z = error.sum(axis=0) / np.sqrt(variance.sum(axis=0))
    assert np.abs(z).max() > 4.5


def test_fine_features_vanish_with_distance():
    """The votes of one set of galaxies drift as it is moved away."""
    probabilities = []
    for z in [0.03, 0.06, 0.09, 0.12]:
        y, truth = make_galaxies(
            900,
            redshift=z,
            scale_cutouts=True,
            random_state=0,
            **SURVEY | {"return_votes": False},
        )[1:]
        face_on, spirals, barred, edge_on = (
            np.isin(y, classes) for classes in [[5, 6, 7, 8], [5, 7], [5, 6], [3, 4]]
        )
        probabilities.append(
            [
                truth.loc[face_on, f"{FEATURES}_fraction"].mean(),
                truth.loc[spirals, "t04_spiral_a08_spiral_fraction"].mean(),
                truth.loc[barred, "t03_bar_a06_bar_fraction"].mean(),
                truth.loc[edge_on, "t02_edgeon_a04_yes_fraction"].mean(),
                1 - truth["t01_smooth_or_features_a01_smooth_fraction"].mean(),
            ]
        )
    drift = np.diff(probabilities, axis=0)
    assert (drift < 0).all()
    assert (drift.sum(axis=0) < -0.15).all()


def test_debiased_votes_do_not_drift():
    for answer in [FEATURES, "t03_bar_a06_bar", "t04_spiral_a08_spiral"]:
        raw, debiased, clear = [], [], []
        for z in [0.03, 0.09]:
            _, votes, truth = make_galaxies(
                900, redshift=z, scale_cutouts=True, random_state=0, **SURVEY
            )[1:]
            # Nobody is asked about the bar of a galaxy that all took for smooth.
            task = answer.split("_")[0]
            some = votes.filter(regex=f"^{task}_.*_count$").sum(axis=1) >= 5
            raw.append(votes.loc[some, f"{answer}_fraction"].mean())
            debiased.append(votes.loc[some, f"{answer}_debiased"].mean())
            clear.append(truth.loc[some, f"{answer}_debiased"].mean())
        error = np.abs(np.subtract(debiased, clear))
        assert error.max() < 0.04
        assert raw[1] < raw[0] - 0.05


def test_blurring_leaves_the_clear_view():
    near, far = (
        make_galaxies(50, redshift=z, random_state=0, **SURVEY)[3] for z in [0.03, 0.15]
    )
    np.testing.assert_array_equal(columns(near, "debiased"), columns(far, "debiased"))
    assert (far["visibility"] < near["visibility"]).all()


@pytest.mark.parametrize(
    ("votes_used", "least_purity", "least_gain"),
    # Of eight sets like this one: 92.0 +- 0.7 % and 30 % more than of the rest with the
    # fractions, 98.6 +- 0.6 % and 10 % more with debiased votes.
    [("fraction", 0.87, 0.24), ("debiased", 0.95, 0.06)],
)
def test_selected_galaxies_are_purer(survey, votes_used, least_purity, least_gain):
    y, votes, _ = survey
    curator = GalaxyZooCurator(n_train=60, n_test=15, votes=votes_used).fit(votes)
    right = labels(curator) == y
    selected = np.zeros(len(y), dtype=bool)
    selected[curator.sample_indices_] = True
    assert right[selected].mean() > least_purity
    assert right[selected].mean() > right[~selected].mean() + least_gain


def test_confidence_says_how_pure(survey):
    y, votes, _ = survey
    curator = GalaxyZooCurator(n_train=1, n_test=1).fit(votes)
    right = pd.Series(labels(curator) == y)
    quarter = pd.qcut(curator.confidence_, 4, labels=False)
    assert (right.groupby(quarter).mean().diff().dropna() > 0.03).all()


def test_curation_on_the_truth(survey):
    """Chosen for high votes, the chosen had luck: the truth is a little less sure."""
    _, votes, truth = survey
    curator = GalaxyZooCurator(n_train=60, n_test=15).fit(votes)
    expected = curator.transform(truth)
    chosen, names = curator.sample_indices_, labels(curator)
    luck = curator.confidence_[chosen] - expected[chosen, names[chosen]]
    # In eight sets .054 +- .003.
    assert 0.03 < luck.mean() < 0.08
