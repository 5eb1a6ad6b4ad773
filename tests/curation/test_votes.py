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
        UserWarning, match="treated as cumulative.*Pass `cumulative=True`"
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
    with pytest.raises(ValueError, match=r"missing: \['Class1_1', 'Class1_2', "):
        curator(columns={"Class1_3": "Class1.3"}).fit(table)
    with pytest.raises(ValueError, match=r"'{question}' and '{answer}'"):
        curator(columns="{answer}").fit(table)
    with pytest.raises(ValueError, match="Use `columns` if they have other names"):
        curator().fit(renamed)


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        (lambda v: 100 * v, "look like percentages: use `vote_unit='percent'` to"),
        (
            lambda v: (40 * v).round(),
            "look like numbers of votes: use `vote_unit='count'`",
        ),
        (
            lambda v: (100 * v).round(),
            "to divide.* If they are percentages, use `vote_unit='percent'`",
        ),
        (lambda v: v.mask(v < 0.01, -99), "-99 often marks a missing vote"),
        (lambda v: v.mask(v < 0.01, -9999), "-9999 often marks a missing vote"),
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
    text = table["Class1.1"].astype(str)
    for change, told in [
        (lambda v: v.str.replace(".", ","), "and '.,.*' in row 0 is not a number"),
        (lambda v: v.where(v.index != 4, "--"), "and '--' in row 4 is not a number"),
        (lambda v: v, r"and its first value is '0\..*': use pd.to_numeric"),
    ]:
        table["Class1.1"] = change(text)
        with pytest.raises(ValueError, match=rf"'Class1\.1' has dtype .*, {told}"):
            curator().fit(table)


def test_votes_that_are_all_missing_are_named(challenge):
    table, _ = challenge
    table["Class1.1"] = np.nan
    with pytest.raises(
        ValueError, match=r"Too few .* No galaxy has a vote for \['.*'\], only NaN"
    ):
        curator(n_train=1000).fit(table)


def test_a_vote_just_out_of_range_is_not_told_as_1(challenge):
    table, _ = challenge
    table.loc[3, "Class1.1"] = 1.000003
    with pytest.raises(ValueError, match=r"got 1\.000003 for 'Class1\.1' in row 3"):
        curator().fit(table)


def test_no_thresholds_for_cumulative_votes():
    _, _, votes = make_galaxies(90, size=8, random_state=0, return_votes=True)
    with pytest.raises(ValueError, match="the votes are cumulative"):
        GalaxyZooCurator(n_train=1, clean=10, cumulative=True).fit(votes)


SURVEY = {
    "shape": {
        "smooth": "elliptical",
        "disc": {"arms": {"yes": "spiral", "no": "lenticular"}},
        "star": None,
    }
}
# Numbers of votes; nobody was asked for the arms of the last.
COUNTS = pd.DataFrame(
    {
        "Smooth?": [30, 4, 10],
        "Disc?": [8, 36, 0],
        "Star?": [2, 0, 0],
        "Arms": [6, 9, 0],
        "No arms": [2, 27, 0],
        "name": ["M1", "M2", "M3"],
    }
)
ANY_NAMES = {
    "shape_smooth": "Smooth?",
    "shape_disc": "Disc?",
    "shape_star": "Star?",
    "arms_yes": "Arms",
    "arms_no": "No arms",
}
# Of elliptical, spiral, lenticular.
SCORES = [[0.75, 0.2 * 0.75, 0.2 * 0.25], [0.1, 0.9 * 0.25, 0.9 * 0.75], [1, 0, 0]]


@pytest.mark.parametrize("unit", ["count", "percent", "fraction"])
def test_votes_of_any_unit_and_name(unit):
    table = COUNTS.copy()
    columns = list(ANY_NAMES.values())
    if unit != "count":
        for some in (columns[:3], columns[3:]):
            table[some] = table[some].div(table[some].sum(axis=1), axis=0)
    if unit == "percent":
        table[columns] *= 100
    fitted = GalaxyZooCurator(
        tree=SURVEY,
        columns=ANY_NAMES,
        vote_unit=unit,
        n_train=1,
        n_test=0,
        id_column="name",
        rare_classes="drop",
    ).fit(table)
    np.testing.assert_allclose(fitted.scores_, SCORES, atol=1e-12)
    np.testing.assert_allclose(fitted.transform(table), SCORES, atol=1e-12)


def test_units_that_are_wrong():
    def fit(unit, table=COUNTS, columns=ANY_NAMES):
        GalaxyZooCurator(
            tree=SURVEY, columns=columns, vote_unit=unit, n_train=1, n_test=0
        ).fit(table)

    with pytest.raises(ValueError, match="numbers of votes: use `vote_unit='count'`"):
        fit("fraction")
    with pytest.raises(ValueError, match=r"lie in \[0, 100\]"):
        fit("percent", COUNTS.assign(Arms=101))
    names = list(ANY_NAMES.values())
    with pytest.raises(
        ValueError, match=r"largest vote is 0\.36.*`vote_unit='fraction'`"
    ):
        fit("percent", COUNTS.assign(**COUNTS[names] / 100))
    with pytest.raises(ValueError, match="-9 often marks a missing vote"):
        fit("count", COUNTS.assign(Arms=-9))
    # Without the votes for a star the others would be shares of too few.
    fewer = {k: v for k, v in ANY_NAMES.items() if k != "shape_star"}
    with pytest.raises(ValueError, match=r"missing: \['shape_star'\]"):
        fit("count", columns=fewer)
    with pytest.raises(ValueError, match="`cumulative=True` is for shares of all"):
        GalaxyZooCurator(
            tree=SURVEY, columns=ANY_NAMES, vote_unit="count", cumulative=True
        ).fit(COUNTS)
