"""Names of vote columns, cumulative votes, and votes that are no fractions."""

import numpy as np
import pandas as pd
import polars
import pytest

from skdistill import GalaxyZooCurator, make_galaxies

TREE = {
    "Class1": {
        "1": {"Class7": {"1": "round", "2": "between", "3": "cigar"}},
        "2": {"Class2": {"1": "edge-on", "2": "face-on"}},
        "3": None,
    }
}
LEAVES = ["round", "between", "cigar", "edge-on", "face-on"]


@pytest.fixture
def challenge():
    """A table with votes multiplied along the way, and the labels that they mean."""
    rng = np.random.default_rng(0)
    first = rng.dirichlet([1, 1, 0.1], 200)
    edge = rng.random((200, 1)) * [1, -1] + [0, 1]
    table = pd.DataFrame({"GalaxyID": np.arange(200) + 100008})
    table[["Class1.1", "Class1.2", "Class1.3"]] = first
    shape = rng.dirichlet([1, 1, 1], 200) * first[:, :1]
    table[["Class7.1", "Class7.2", "Class7.3"]] = shape
    table[["Class2.1", "Class2.2"]] = disc = edge * first[:, 1:2]
    return table, np.array(LEAVES)[np.hstack([shape, disc]).argmax(axis=1)]


def curator(**params):
    params = {"tree": TREE, "votes": None, "n_train": 2, "n_test": 1} | params
    return GalaxyZooCurator(**params)


@pytest.mark.parametrize("confidence", ["product", "min"])
@pytest.mark.parametrize("separator", [".", "_", "-", ""])
def test_cumulative_votes(challenge, confidence, separator):
    table, truth = challenge
    table = table.rename(columns=lambda name: name.replace(".", separator))
    guessed = curator(confidence=confidence)
    with pytest.warns(
        UserWarning, match="taken for cumulative.*`cumulative=True`"
    ) as w:
        guessed.fit(table)
    assert w[0].filename == __file__
    assert guessed.labels_.tolist() == truth.tolist()
    told = curator(confidence=confidence, cumulative=True).fit(table)
    assert told.labels_.tolist() == truth.tolist()
    assert told.cumulative_
    np.testing.assert_array_equal(told.transform(table), told.scores_)


def test_fractions_are_not_cumulative(challenge):
    table, truth = challenge
    for answer, above in (("Class7", "Class1.1"), ("Class2", "Class1.2")):
        columns = [c for c in table if c.startswith(answer)]
        table[columns] = table[columns].div(table[above], axis=0)
    fractions = curator().fit(table.round(3))
    assert not fractions.cumulative_
    assert (fractions.labels_ == truth).mean() > 0.99
    _, _, votes = make_galaxies(180, size=8, random_state=0, return_votes=True)
    for suffix in ("fraction", "debiased"):
        for tree in ("nine", "gz2"):
            params = {"tree": tree, "votes": suffix, "rare_classes": "drop"}
            fractions = GalaxyZooCurator(n_train=1, n_test=1, **params).fit(votes)
            assert not fractions.cumulative_


def test_names_of_columns(challenge):
    table, truth = challenge
    mapping = {name.replace(".", "_"): f"share of {name}" for name in table.columns}
    renamed = table.rename(columns=lambda name: f"share of {name}")
    for columns in (mapping, "share of {question}.{answer}"):
        named = curator(columns=columns, cumulative=True, id_column="share of GalaxyID")
        assert named.fit(renamed).labels_.tolist() == truth.tolist()
        frame = polars.DataFrame({c: renamed[c].to_list() for c in renamed})
        assert named.fit(frame).labels_.tolist() == truth.tolist()
    with pytest.raises(ValueError, match=r"not in the catalog: \['share of Class1.1'"):
        curator(columns=mapping).fit(table)
    with pytest.raises(ValueError, match=r"it has none for \['Class1_1', 'Class1_2', "):
        curator(columns={"Class1_3": "Class1.3"}).fit(table)
    with pytest.raises(ValueError, match=r"'{question}' and '{answer}'"):
        curator(columns="{answer}").fit(table)
    with pytest.raises(ValueError, match="`columns` gives other names"):
        curator().fit(renamed)


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        (lambda v: 100 * v, "look like percent: divide them by 100"),
        (
            lambda v: (40 * v).round(),
            "look like numbers of votes: divide them by the n",
        ),
        (lambda v: v.mask(v < 0.01, -99), "-99 often stands for a missing vote"),
        (lambda v: v.mask(v < 0.01, -9999), "-9999 often stands for a missing vote"),
    ],
)
def test_votes_that_are_no_fractions(challenge, change, cure):
    table, _ = challenge
    votes = table.columns[1:]
    table[votes] = change(table[votes])
    with pytest.raises(ValueError, match=rf"must lie in \[0, 1\].*{cure}"):
        curator().fit(table)


def test_votes_as_text_are_shown(challenge):
    table, _ = challenge
    table["Class1.1"] = "0,5"
    with pytest.raises(ValueError, match=r"'Class1.1' .*, its first value is '0,5'"):
        curator().fit(table)


def test_no_thresholds_for_cumulative_votes():
    _, _, votes = make_galaxies(90, size=8, random_state=0, return_votes=True)
    with pytest.raises(ValueError, match="the votes are cumulative"):
        GalaxyZooCurator(n_train=1, clean=10, cumulative=True).fit(votes)
