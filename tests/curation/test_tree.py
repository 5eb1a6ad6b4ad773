import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skdistill.curation._questions import GALAXY_DATASETS_NAMES
from skdistill.curation._tree import (
    ANSWERS,
    CLASS_NAMES,
    LEAVES,
    leaf_labels,
    leaf_scores,
)

votes_tables = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.just(len(ANSWERS))),
    elements=st.one_of(st.just(np.nan), st.floats(0, 1)),
)


def loop_scores(votes, confidence):
    """The scores as one would write them down, number by number."""
    table = []
    for row in votes:
        answers = dict(zip(ANSWERS, row, strict=True))
        if all(np.isnan(vote) for vote in row):
            table.append([np.nan] * len(LEAVES))
            continue
        scores = []
        for path in LEAVES.values():
            steps = []
            for step in path:
                steps.append(
                    sum(0 if np.isnan(answers[a]) else answers[a] for a in step)
                )
            if confidence == "product":
                score = 1.0
                for vote in steps:
                    score *= vote
            elif confidence == "mean":
                score = sum(steps) / len(steps)
            else:
                score = min(steps)
            scores.append(score)
        table.append(scores)
    return np.array(table)


def test_tree():
    assert CLASS_NAMES == (
        "smooth rounded",
        "smooth in-between",
        "smooth cigar-shaped",
        "edge-on with bulge",
        "edge-on without bulge",
        "barred spiral",
        "barred without arms",
        "unbarred spiral",
        "unbarred without arms",
    )
    assert len(ANSWERS) == 14
    assert set(ANSWERS) <= set(GALAXY_DATASETS_NAMES)
    assert len(set(GALAXY_DATASETS_NAMES.values())) == len(GALAXY_DATASETS_NAMES) == 30


@pytest.mark.parametrize("leaf", range(9))
def test_votes_down_one_path_reach_its_leaf(leaf):
    path = list(LEAVES.values())[leaf]
    votes = np.zeros((1, len(ANSWERS)))
    for step in path:
        votes[0, ANSWERS.index(step[-1])] = 1.0
    for confidence in ("product", "mean", "min"):
        codes, best = leaf_labels(leaf_scores(votes, confidence))
        assert codes.tolist() == [leaf]
        assert best.tolist() == [1.0]


@pytest.mark.parametrize("confidence", ["product", "mean", "min"])
@given(votes=votes_tables)
def test_scores_are_those_of_a_plain_loop(confidence, votes):
    np.testing.assert_allclose(
        leaf_scores(votes, confidence),
        loop_scores(votes, confidence),
        rtol=1e-12,
        atol=1e-300,
    )


def test_two_answers_of_one_step_are_added():
    votes = np.zeros((1, len(ANSWERS)))
    for answer, vote in {
        "t01_smooth_or_features_a02_features_or_disk": 0.8,
        "t02_edgeon_a04_yes": 0.5,
        "t09_bulge_shape_a25_rounded": 0.3,
        "t09_bulge_shape_a26_boxy": 0.2,
    }.items():
        votes[0, ANSWERS.index(answer)] = vote
    assert leaf_scores(votes)[0, 3] == pytest.approx(0.8 * 0.5 * 0.5)
    assert leaf_scores(votes, "min")[0, 3] == pytest.approx(0.5)
    assert leaf_scores(votes, "mean")[0, 3] == pytest.approx(0.6)


@given(votes=votes_tables, data=st.data())
def test_a_galaxy_does_not_depend_on_the_others(votes, data):
    order = data.draw(st.permutations(range(len(votes))))
    scores = leaf_scores(votes)
    np.testing.assert_array_equal(leaf_scores(votes[order]), scores[order])
    codes, confidence = leaf_labels(scores)
    shuffled_codes, shuffled_confidence = leaf_labels(scores[order])
    np.testing.assert_array_equal(shuffled_codes, codes[order])
    np.testing.assert_array_equal(shuffled_confidence, confidence[order])


def test_labels_of_special_rows():
    scores = np.zeros((4, 9))
    scores[0, [2, 5]] = 0.4
    scores[1] = np.nan
    scores[3, 8] = 1e-300
    codes, confidence = leaf_labels(scores)
    assert codes.tolist() == [2, -1, -1, 8]
    np.testing.assert_array_equal(confidence, [0.4, np.nan, np.nan, 1e-300])


def test_nan_closes_only_the_paths_through_it():
    votes = np.full((2, len(ANSWERS)), 0.5)
    votes[0, ANSWERS.index("t03_bar_a06_bar")] = np.nan
    votes[1] = np.nan
    scores = leaf_scores(votes)
    assert np.flatnonzero(scores[0] == 0).tolist() == [5, 6]
    assert np.isnan(scores[1]).all()
