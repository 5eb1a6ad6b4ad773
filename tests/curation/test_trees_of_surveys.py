"""Trees as data: those of Galaxy Zoo 2 and one's own; clean samples; rare classes."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from skdistill.curation import GZ2_QUESTIONS, GalaxyZooCurator, vote_tree
from skdistill.curation._questions import CLEAN_VOTES
from skdistill.curation._tree import (
    LEAVES,
    NINE_CLASSES,
    leaf_scores,
    parse_tree,
)

SURVEY = {
    "shape": {
        "smooth": "elliptical",
        ("disc", "edge_on"): {"arms": {"yes": "spiral", "no": "lenticular"}},
        "star": None,
    }
}


def test_all_answers_of_galaxy_zoo_2():
    assert len(GZ2_QUESTIONS) == 11
    assert sum(map(len, GZ2_QUESTIONS.values())) == 37
    assert list(CLEAN_VOTES) == list(GZ2_QUESTIONS)
    tree = parse_tree(vote_tree(GZ2_QUESTIONS))
    assert len(tree.answers) == 37
    # 3 shapes and 3 bulges, odd in 7 ways or not; bars x (bulges, or arms and bulges).
    n_odd = 8
    n_oblique = 2 * (4 * n_odd + 3 * 6 * 4 * n_odd)
    assert len(tree.leaves) == 1 + 3 * n_odd + 3 * n_odd + n_oblique == 1265
    # The paths are those along which one can walk through the questions.
    for path in itertools.islice(tree.leaves.values(), 0, None, 50):
        question = "t01_smooth_or_features"
        for (step,) in path:
            assert step.startswith(question)
            question = GZ2_QUESTIONS[question][step[len(question) + 1 :]]
        assert question is None


def test_nine_classes_are_some_of_the_questions():
    asked = ["t01_smooth_or_features", "t02_edgeon", "t03_bar", "t04_spiral"]
    asked += ["t07_rounded", "t09_bulge_shape"]
    some = parse_tree(vote_tree(GZ2_QUESTIONS, ask=asked))
    # Two bulges are one class, and artifacts are none.
    ways = [way for name, way in some.leaves.items() if "a03" not in name]
    assert {w[:-1] for w in ways} == {w[:-1] for w in LEAVES.values()}
    assert len(some.leaves) == 9 + 1 + 1


def test_trees_made_of_questions():
    questions = {
        "a": {"x": "b", "y": None},
        "b": {"x": "c", "z": "c"},
        "c": {"x": None, "w": None},
    }
    assert vote_tree(questions, ask=["a", "c"]) == {
        "a": {"x": {"c": {"x": "x > x", "w": "x > w"}}, "y": "y"}
    }
    assert vote_tree(questions, ask=["a", "b"])["a"]["x"] == {
        "b": {"x": "x > x", "z": "x > z"}
    }
    for wrong, ask, message in [
        (questions, ["d"], r"`ask` must name questions .*\['d'\]"),
        (questions, ["b", "c"], "`ask` must include 'a': its answers lead to"),
        (questions, [], "`ask` must include 'a'|got none"),
        ({"a": {"x": "b"}}, None, "must contain 'b', since an answer leads to"),
        ({"a": {"x": "a"}}, None, "must not have cycles; 'a' leads back to itself"),
        ({}, None, "got none"),
        ({"a": ["x", "y"]}, None, r"next question or None}, .*\['x', 'y'\] for 'a'"),
        ({"a": {1: None}}, None, "with strings as names; got {1: None} for 'a'"),
        (questions, "d", r"`ask` must name questions .*\['d'\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            vote_tree(wrong, ask=ask)
    assert vote_tree({"abc": {"x": None, "y": None}}, ask="abc") == {
        "abc": {"x": "x", "y": "y"}
    }


def survey(n=60, seed=0):
    rng = np.random.default_rng(seed)
    shape = rng.dirichlet([1, 1, 0.5, 0.2], n)
    arms = rng.uniform(0, 1, n)
    return pd.DataFrame(
        {
            "shape_smooth": shape[:, 0],
            "shape_disc": shape[:, 1],
            "shape_edge_on": shape[:, 2],
            "shape_star": shape[:, 3],
            "arms_yes": arms,
            "arms_no": 1 - arms,
        }
    )


@pytest.mark.parametrize("confidence", ["product", "mean", "min"])
def test_a_survey_of_ones_own(confidence):
    catalog = survey()
    curator = GalaxyZooCurator(
        tree=SURVEY, votes=None, n_train=3, n_test=1, confidence=confidence
    )
    rows, labels = clone(curator).fit_resample(catalog)
    assert sorted(set(labels)) == ["elliptical", "lenticular", "spiral"]
    assert len(rows) == 12
    curator.fit(catalog)
    disc = catalog["shape_disc"] + catalog["shape_edge_on"]
    combine = {"product": np.prod, "mean": np.mean, "min": np.min}[confidence]
    expected = np.column_stack(
        [
            catalog["shape_smooth"],
            combine([disc, catalog["arms_yes"]], axis=0),
            combine([disc, catalog["arms_no"]], axis=0),
        ]
    )
    np.testing.assert_allclose(curator.scores_, expected, rtol=1e-14)
    names = curator.get_feature_names_out()
    assert names.tolist() == ["elliptical", "spiral", "lenticular"]
    # The same with a suffix.
    renamed = catalog.add_suffix("_share")
    other = clone(curator).set_params(votes="share").fit(renamed)
    np.testing.assert_array_equal(other.scores_, curator.scores_)
    with pytest.raises(ValueError, match=r"missing: \['arms_no'"):
        curator.fit(renamed)


def test_nine_classes_given_as_data_are_the_default(make_catalog):
    catalog = make_catalog()
    given = GalaxyZooCurator(tree=NINE_CLASSES, n_train=5, n_test=2, random_state=0)
    default = clone(given).set_params(tree="nine").fit(catalog)
    pd.testing.assert_frame_equal(given.fit(catalog).selected_, default.selected_)


def with_all_answers(n=300, seed=0, suffixes=("fraction",)):
    """Votes of a few volunteers for all answers; debiased ones sum to anything."""
    rng = np.random.default_rng(seed)
    columns = {}
    for question, answers in GZ2_QUESTIONS.items():
        shares = rng.dirichlet(np.full(len(answers), 0.3), n)
        n_votes = rng.integers(0, 60, n)
        for answer, share in zip(answers, shares.T, strict=True):
            name = f"{question}_{answer}"
            columns[f"{name}_fraction"] = share
            columns[f"{name}_count"] = np.rint(share * n_votes)
            columns[f"{name}_debiased"] = np.clip(
                share * rng.uniform(0.8, 1.3, n), 0, 1
            )
    catalog = pd.DataFrame(columns)
    catalog.insert(0, "objid", rng.permutation(n))
    return catalog


def test_the_whole_tree():
    catalog = with_all_answers()
    curator = GalaxyZooCurator(
        tree="gz2", n_train=1, n_test=0, rare_classes="drop"
    ).fit(catalog)
    assert curator.scores_.shape == (300, 1265)
    best = curator.scores_.max(axis=1)
    np.testing.assert_array_equal(curator.confidence_, best)
    assert (curator.summary_["selected"] <= 1).all()
    # Leaves are found one by one as all of them are at once.
    tree = parse_tree(vote_tree(GZ2_QUESTIONS))
    votes = catalog[[f"{a}_fraction" for a in tree.answers]].to_numpy()
    for confidence, combine in (
        ("product", np.prod),
        ("mean", np.mean),
        ("min", np.min),
    ):
        scores = leaf_scores(votes, confidence, tree)
        for leaf in range(0, 1265, 97):
            way = list(tree.leaves.values())[leaf]
            steps = [votes[:, tree.answers.index(step[0])] for step in way]
            np.testing.assert_allclose(
                scores[:, leaf], combine(steps, axis=0), rtol=1e-13
            )


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "must have one question, "),
        ({"a": {"x": "1", "y": "2"}, "b": {}}, "must have one question, "),
        ({"a": {}}, "must have answers to the question 'a'"),
        ({"a": {"x": "1", "y": {"b": "2"}}}, "to the question 'b' below 'y' of 'a'"),
        ({"a": {"x": "1", "y": 5}}, "one question below 'y' of 'a'.*got 5"),
        ({"a": {"x": "1", 2: "2"}}, "as answers to 'a'; got 2"),
        ({5: {"x": "1", "y": "2"}}, "the question 5"),
        ({"a": {"x": "1", ("x", "y"): "2"}}, r"answer to 'a' twice: \('x', 'y'\)"),
        (
            {"a": {"x": "1", "y": "1"}},
            "the class '1' twice; merge answers of one question",
        ),
        ({"a": {"x": "1", "y": {"a": {"x": "2"}}}}, "must not ask 'a' again below 'y'"),
        ({"a": {"x": "1", "y": None}}, r"at least two classes; got \['1'\]"),
    ],
)
def test_what_is_no_tree(tree, message):
    with pytest.raises(ValueError, match=f"`tree` .*{message}"):
        GalaxyZooCurator(tree=tree, votes=None).fit(survey())


def test_answers_that_are_not_in_galaxy_datasets(make_catalog):
    with pytest.raises(ValueError, match=r"each of the 37 answers.*t05_bulge"):
        GalaxyZooCurator(tree="gz2").fit(make_catalog())


def test_rare_classes(make_catalog):
    catalog = make_catalog().iloc[:-18:]
    catalog = catalog.drop(index=range(4, len(catalog), 9))
    curator = GalaxyZooCurator(n_train=6, n_test=2)
    with pytest.raises(ValueError, match=r"bulge' has 0, .*`rare_classes='drop'`"):
        curator.fit(catalog)
    curator.set_params(rare_classes="drop").fit(catalog)
    summary = curator.summary_
    assert summary["selected"].tolist() == [8] * 4 + [0] + [8] * 4
    assert np.isnan(summary.iloc[4, 2:].astype(float)).all()
    assert set(curator.selected_["label"]) == set(curator.classes_) - {
        "edge-on without bulge"
    }
    with pytest.raises(ValueError, match="Too few galaxies"):
        curator.set_params(n_train=50).fit(catalog)


def flags(catalog, n_votes):
    """Clean answers as Willett et al. tell how to find them, one by one."""
    column = n_votes == 20
    clean = {}
    for question, answers in GZ2_QUESTIONS.items():
        names = [f"{question}_{answer}" for answer in answers]
        well = catalog[[f"{name}_count" for name in names]].sum(axis=1) >= n_votes
        for parent, thresholds in CLEAN_VOTES[question].items():
            well &= catalog[f"{parent}_fraction"] >= thresholds[column]
        for name in names:
            clean[name] = well & (catalog[f"{name}_debiased"] >= 0.8)
    return clean


@pytest.mark.parametrize("n_votes", [10, 20])
@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_clean_samples_are_what_the_flags_say(n_votes, seed):
    catalog = with_all_answers(3000, seed=seed)
    # Not both bulges together, which have no flag.
    tree = vote_tree(
        GZ2_QUESTIONS,
        ask=[q for q in GZ2_QUESTIONS if q[:3] in ("t01", "t07", "t02")]
        + ["t09_bulge_shape", "t03_bar", "t04_spiral"],
    )
    curator = GalaxyZooCurator(
        tree=tree, n_train=None, n_test=0, clean=n_votes, rare_classes="drop"
    ).fit(catalog)
    clean = flags(catalog, n_votes)
    parsed = parse_tree(tree)
    expected = set()
    for row, label in enumerate(curator.labels_):
        asked = parsed.questions[label]
        opening = {parent for question in asked for parent in CLEAN_VOTES[question]}
        ends = [step[0] for step in parsed.leaves[label] if step[0] not in opening]
        if all(clean[answer][row] for answer in ends):
            expected.add(row)
    assert len(expected) > 100
    assert set(curator.available_indices_.tolist()) == expected


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("unit", ["fraction", "percent"])
def test_votes_that_are_a_threshold_are_clean(unit, dtype):
    answers = [f"{q}_{answer}" for q, some in GZ2_QUESTIONS.items() for answer in some]
    catalog = {f"{a}_{votes}": 0.0 for a in answers for votes in ("fraction", "count")}
    catalog |= {f"{answer}_count": 30.0 for answer in answers}
    catalog |= {f"{answer}_debiased": 0.0 for answer in answers}
    # 0.227, 0.8 and 0.7 + 0.1 are less than that in float32 or as a sum.
    for answer, fraction, debiased in [
        ("t01_smooth_or_features_a02_features_or_disk", 0.227, 0.2),
        ("t02_edgeon_a04_yes", 0.326, 0.8),
        ("t09_bulge_shape_a25_rounded", 0.6, 0.1),
        ("t09_bulge_shape_a26_boxy", 0.2, 0.7),
    ]:
        catalog[f"{answer}_fraction"] = fraction
        catalog[f"{answer}_debiased"] = debiased
    table = pd.DataFrame(catalog, index=range(3)).astype(dtype)
    # The second has less votes than needed, the third no clear answer.
    table.loc[1, "t01_smooth_or_features_a02_features_or_disk_fraction"] -= 0.001
    table.loc[2, "t09_bulge_shape_a25_rounded_debiased"] -= 0.001
    if unit == "percent":
        votes = [name for name in table if not name.endswith("_count")]
        table[votes] *= 100
    table = table.copy().assign(objid=range(3))
    curator = GalaxyZooCurator(
        n_train=None, n_test=0, clean=10, vote_unit=unit, rare_classes="drop"
    ).fit(table)
    assert curator.labels_.tolist() == ["edge-on with bulge"] * 3
    assert curator.available_indices_.tolist() == [0]


def test_clean_samples_have_the_flags_of_stripe_82(shared_data):
    catalog = pd.read_csv(shared_data / "gz2-stripe82" / "table5.csv.gz")
    curator = GalaxyZooCurator(n_train=None, n_test=0, clean=10).fit(catalog)
    strict = GalaxyZooCurator(
        n_train=None, n_test=0, clean=20, rare_classes="drop"
    ).fit(catalog)
    assert set(strict.available_indices_) < set(curator.available_indices_)
    last = {
        "smooth rounded": "t07_rounded_a16_completely_round",
        "smooth in-between": "t07_rounded_a17_in_between",
        "smooth cigar-shaped": "t07_rounded_a18_cigar_shaped",
        "barred spiral": "t03_bar_a06_bar",
        "unbarred spiral": "t03_bar_a07_no_bar",
    }
    for name, answer in last.items():
        rows = strict.available_indices_
        rows = rows[strict.labels_[rows] == name]
        assert catalog[f"{answer}_flag"].iloc[rows].mean() > 0.99


def test_clean_needs_the_questions_and_the_columns(make_catalog):
    with pytest.raises(
        ValueError, match=r"thresholds for the questions of .*\['shape'"
    ):
        GalaxyZooCurator(tree=SURVEY, votes=None, clean=10).fit(survey())
    with pytest.raises(ValueError, match="`votes='debiased'` requires a column"):
        GalaxyZooCurator(clean=20, n_train=1, n_test=1).fit(make_catalog())
    catalog = with_all_answers(50)
    tree = {"t07_rounded": {"a16_completely_round": "round", "a17_in_between": "oval"}}
    with pytest.raises(
        ValueError, match=r"requires the questions \['t01_.*a01_smooth'\] before"
    ):
        GalaxyZooCurator(tree=tree, clean=20).fit(catalog)
    catalog["t07_rounded_a16_completely_round_count"] = -1.0
    with pytest.raises(ValueError, match=r"Votes must lie in \[0, inf\]"):
        GalaxyZooCurator(clean=20, n_train=1, n_test=1).fit(catalog)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), data=st.data())
def test_debiased_votes_and_single_nan(make_catalog, seed, data):
    """Answers that sum to anything, and holes: labels where there is any vote."""
    rng = np.random.default_rng(seed)
    catalog = make_catalog(suffix="debiased", seed=seed % 7)
    columns = [c for c in catalog.columns if c.endswith("_debiased")]
    votes = (catalog[columns] * rng.uniform(0.5, 1.6, (len(catalog), 1))).clip(0, 1)
    holes = rng.random(votes.shape) < data.draw(st.sampled_from([0.0, 0.02, 0.3]))
    catalog[columns] = votes.mask(holes)
    curator = GalaxyZooCurator(
        votes="debiased", n_train=None, n_test=0.2, rare_classes="drop", random_state=0
    )
    rows, _ = curator.fit_resample(catalog)
    shuffled, _ = curator.fit_resample(catalog.sample(frac=1, random_state=seed))
    assert rows["objid"].tolist() == shuffled["objid"].tolist()
    assert rows["split"].tolist() == shuffled["split"].tolist()
    assert np.isfinite(curator.selected_["confidence"]).all()
