import pickle
from collections import Counter

import numpy as np
import pandas as pd
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skdistill.curation import GalaxyZooCurator, ImageReader, RotationAugmenter
from skdistill.curation._questions import GALAXY_DATASETS_NAMES
from skdistill.curation._tree import ANSWERS, CLASS_NAMES, LEAVES

VOTES = [f"{answer}_fraction" for answer in ANSWERS]


def select(catalog, **params):
    """The selected (id, label, confidence, split), in the order of the selection."""
    params = {"n_train": 5, "n_test": 2, "random_state": 0} | params
    rows, labels = GalaxyZooCurator(**params).fit_resample(catalog)
    return list(zip(rows["objid"], labels, rows["split"], strict=True))


def test_selects_the_same_number_of_each_class(make_catalog):
    catalog = make_catalog()
    curator = GalaxyZooCurator(n_train=7, n_test=3, random_state=0).fit(catalog)
    counts = curator.selected_.groupby(["label", "split"]).size()
    assert (counts.xs("train", level="split") == 7).all()
    assert (counts.xs("test", level="split") == 3).all()
    assert sorted(counts.index.levels[0]) == sorted(CLASS_NAMES)


def test_rows_and_labels(make_catalog):
    catalog = make_catalog()
    catalog.index = [f"galaxy {i}" for i in range(len(catalog))]
    before = catalog.copy()
    curator = GalaxyZooCurator(n_train=7, n_test=3, random_state=0)
    rows, labels = curator.fit_resample(catalog)

    pd.testing.assert_frame_equal(catalog, before)
    assert rows.columns.tolist() == [*catalog.columns, "split"]
    pd.testing.assert_frame_equal(
        rows.drop(columns="split"), catalog.iloc[curator.sample_indices_]
    )
    assert labels.dtype.kind == "U"
    assert labels.tolist() == curator.selected_["label"].tolist()
    assert rows.index.equals(curator.selected_.index)
    assert rows["split"].tolist() == curator.selected_["split"].tolist()
    np.testing.assert_array_equal(
        curator.selected_["confidence"], curator.confidence_[curator.sample_indices_]
    )


def test_a_class_gives_its_most_confident_galaxies(make_catalog):
    catalog = make_catalog()
    curator = GalaxyZooCurator(n_train=6, n_test=2, random_state=0).fit(catalog)
    np.testing.assert_array_equal(curator.scores_, curator.transform(catalog))
    np.testing.assert_array_equal(
        curator.labels_, curator.classes_[curator.scores_.argmax(axis=1)]
    )
    for name in CLASS_NAMES:
        of_class = np.sort(curator.confidence_[curator.labels_ == name])[::-1]
        chosen = curator.selected_.query("label == @name")["confidence"]
        np.testing.assert_array_equal(chosen, of_class[:8])


def test_summary(make_catalog):
    catalog = make_catalog()
    curator = GalaxyZooCurator(n_train=6, n_test=2, random_state=0).fit(catalog)
    summary = curator.summary_
    assert summary.index.tolist() == list(CLASS_NAMES)
    assert summary["available"].tolist() == [12] * 9
    assert summary["selected"].tolist() == [8] * 9
    chosen = curator.selected_.groupby("label")["confidence"]
    pd.testing.assert_series_equal(
        summary["mean_confidence"],
        chosen.mean()[list(CLASS_NAMES)],
        check_names=False,
    )
    assert (summary["lowest_confidence"] == chosen.min()[list(CLASS_NAMES)]).all()
    for name in CLASS_NAMES:
        everyone = curator.confidence_[curator.labels_ == name]
        assert summary.loc[name, "mean_confidence_available"] == pytest.approx(
            everyone.mean()
        )


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), decimals=st.sampled_from([1, 3]))
def test_order_of_the_rows_does_not_matter(make_catalog, seed, decimals):
    # One decimal makes many galaxies of equal confidence.
    catalog = make_catalog(seed=seed % 7, decimals=decimals)
    shuffled = catalog.sample(frac=1, random_state=seed)
    params = {"n_train": None, "n_test": 0.3} if decimals == 1 else {}
    assert select(shuffled, **params) == select(catalog, **params)


@settings(max_examples=25)
@given(
    n_train=st.integers(1, 6),
    n_test=st.one_of(st.integers(0, 5), st.floats(0.05, 0.45)),
    confidence=st.sampled_from(["product", "mean", "min"]),
    seed=st.integers(0, 999),
)
def test_selections_are_balanced_and_disjoint(
    make_catalog, n_train, n_test, confidence, seed
):
    catalog = make_catalog(seed=seed % 7)
    params = {"n_train": n_train, "n_test": n_test, "confidence": confidence}
    chosen = select(catalog, **params, random_state=seed)
    ids = {split: set() for split in ("train", "test")}
    counts = Counter()
    for objid, label, split in chosen:
        ids[split].add(objid)
        counts[label, split] += 1
    assert not ids["train"] & ids["test"]
    assert len(ids["train"]) + len(ids["test"]) == len(chosen)
    assert {counts[name, "train"] for name in CLASS_NAMES} == {n_train}
    assert len({counts[name, "test"] for name in CLASS_NAMES}) == 1


@settings(max_examples=15)
@given(rows=st.lists(st.integers(0, 107), max_size=60), seed=st.integers(0, 1000))
def test_repeated_rows_do_not_matter(make_catalog, rows, seed):
    catalog = make_catalog()
    repeated = pd.concat([catalog, catalog.iloc[rows]]).sample(
        frac=1, random_state=seed
    )
    selection = select(repeated)
    assert selection == select(catalog)
    assert len({objid for objid, *_ in selection}) == len(selection)


@pytest.mark.parametrize("id_column", ["objid", "dr7objid", "asset_id", "id_str", None])
def test_ties_are_broken_by_the_id(make_catalog, id_column):
    catalog = make_catalog().drop(columns="objid")
    # All galaxies of a class are equally clear.
    catalog[VOTES] = catalog[VOTES] > 0.5
    ids = np.random.default_rng(1).permutation(len(catalog))
    if id_column is None:
        catalog.index = pd.Index(ids, name="galaxy")
    else:
        catalog[id_column] = [f"J{i:04}" for i in ids] if id_column == "id_str" else ids
    curator = GalaxyZooCurator(n_train=4, n_test=1, random_state=0).fit(catalog)
    for leaf, name in enumerate(CLASS_NAMES):
        chosen = ids[curator.sample_indices_[curator.selected_["label"] == name]]
        assert chosen.tolist() == sorted(ids[leaf::9])[:5]


def test_rows_without_an_id_are_galaxies_of_their_own(make_catalog):
    catalog = make_catalog().drop(columns="objid")
    catalog.index = np.zeros(len(catalog), dtype=int)
    curator = GalaxyZooCurator(n_train=None, n_test=2)
    with pytest.warns(UserWarning, match="No column .* `id_column`") as warned:
        curator.fit(catalog)
    assert [w.filename for w in warned] == [__file__]
    assert len(curator.selected_) == len(catalog)
    catalog["id_str"] = [None, "a", "b", "b"] + [None] * (len(catalog) - 4)
    curator.fit(catalog)
    assert len(curator.selected_) == len(catalog) - 1
    catalog["id_str"] = [1, "a", ("b", 2), 1.5] + [None] * (len(catalog) - 4)
    curator.fit(catalog)
    assert len(curator.selected_) == len(catalog)


def test_an_object_with_two_rows_is_selected_once_by_the_clearer(make_catalog):
    catalog = make_catalog()
    # The second observation of each of these has another label.
    catalog.loc[1, "objid"] = catalog.loc[0, "objid"]
    confidence = GalaxyZooCurator(n_train=9, n_test=2).fit(catalog).confidence_
    curator = GalaxyZooCurator(n_train=None, n_test=2).fit(catalog)
    dropped = set(range(len(catalog))) - set(curator.sample_indices_)
    assert dropped == {int(np.argmin(confidence[:2]))}


def both_sets(curator, catalog, n):
    """Galaxies in both sets of a catalog that has `n` of them, again and again."""
    galaxy = curator.sample_indices_ % n
    test = (curator.selected_["split"] == "test").to_numpy()
    assert test.any()
    return set(galaxy[test]) & set(galaxy[~test])


@pytest.mark.parametrize(
    "name",
    ["OBJID", "objID", "dr8objid", "iauname", "GalaxyID", "subject_id", "asset_id"],
)
@pytest.mark.parametrize(
    "form", [int, str, " 00{} ".format, "{}.0".format, lambda i: f"{i}".encode()]
)
def test_no_galaxy_is_in_both_sets(make_catalog, name, form):
    catalog = make_catalog(30).rename(columns={"objid": name})
    again = catalog.copy()
    again[name] = pd.Series([form(i) for i in again[name]], dtype=object)
    # Another observer's votes: only the id tells.
    again[VOTES[2]] *= 0.99
    twice = pd.concat([catalog, again], ignore_index=True)
    curator = GalaxyZooCurator(n_train=16, n_test=12, random_state=0).fit(twice)
    assert not both_sets(curator, twice, len(catalog))
    # The same with the id in the index.
    curator.fit(twice.set_index(name))
    assert not both_sets(curator, twice, len(catalog))


def test_galaxies_without_an_id_are_known_by_their_votes(make_catalog):
    catalog = make_catalog(30).drop(columns="objid")
    twice = pd.concat([catalog, catalog], ignore_index=True)
    curator = GalaxyZooCurator(n_train=16, n_test=12, random_state=0)
    with pytest.warns(UserWarning, match="270 rows without an id have the same val"):
        curator.fit(twice)
    assert not both_sets(curator, twice, len(catalog))
    # A placeholder is no id; rows are as different as their votes.
    twice["objid"] = -9999
    with pytest.warns(UserWarning, match="540 rows have -9999 as 'objid'"):
        curator.fit(twice)
    assert not both_sets(curator, twice, len(catalog))
    assert len(curator.selected_) == 9 * 28


def test_ids_that_differ_where_all_numbers_are_equal(make_catalog):
    catalog = make_catalog(30)
    twice = pd.concat([catalog, catalog], ignore_index=True)
    twice["objid"] = np.arange(len(twice))
    twice["iauname"] = [f"J{i % len(catalog)}" for i in twice["objid"]]
    curator = GalaxyZooCurator(n_train=16, n_test=12, random_state=0)
    with pytest.warns(UserWarning, match="are in more than one set") as warned:
        curator.fit(twice)
    assert any("share 'iauname', the first 'J" in str(w.message) for w in warned)
    assert any("share all of their numbers" in str(w.message) for w in warned)
    curator.set_params(id_column="iauname").fit(twice)
    assert not both_sets(curator, twice, len(catalog))
    curator.set_params(id_column=["iauname", "total_votes"]).fit(twice)
    assert not both_sets(curator, twice, len(catalog))
    with pytest.raises(ValueError, match="`id_column='name'` must name columns"):
        curator.set_params(id_column="name").fit(twice)


def test_numbers_of_objects_in_bricks(make_catalog):
    """In the Legacy Surveys an objid is that of a galaxy only with its brick."""
    catalog = make_catalog(30)
    catalog["brickid"], catalog["objid"] = divmod(np.arange(len(catalog)), 10)
    curator = GalaxyZooCurator(n_train=20, n_test=10, random_state=0).fit(catalog)
    assert len(curator.selected_) == len(catalog)


def test_ids_that_a_spreadsheet_rounded(make_catalog):
    catalog = make_catalog().rename(columns={"objid": "GalaxyID"})
    catalog["GalaxyID"] = "5.87723E+17"
    with pytest.raises(ValueError, match=r"'GalaxyID' has the id .*spreadsheet"):
        GalaxyZooCurator().fit(catalog)


def test_ids_that_count_from_zero(make_catalog):
    catalog = make_catalog(12)
    catalog["objid"] = np.arange(len(catalog))
    twice = pd.concat([catalog, catalog], ignore_index=True)
    assert select(twice) == select(catalog)


def test_a_split_is_warned_of_at_the_callers_line(make_catalog):
    catalog = make_catalog(12).drop(columns="objid")
    curator = GalaxyZooCurator(n_train=5, n_test=2)
    for call in (curator.fit, curator.fit_resample, curator.fit_transform):
        with pytest.warns(UserWarning, match="No column") as warned:
            call(catalog)
        assert {w.filename for w in warned} == {__file__}
    GalaxyZooCurator(n_train=5, n_test=0).fit(catalog)
    curator.set_params(id_column="index").fit(catalog)


def test_split_follows_random_state(make_catalog):
    catalog = make_catalog()
    assert select(catalog, random_state=1) == select(catalog, random_state=1)
    assert select(catalog, random_state=1) != select(catalog, random_state=2)
    assert {s[:2] for s in select(catalog, random_state=1)} == {
        s[:2] for s in select(catalog, random_state=2)
    }
    generator = np.random.RandomState(3)
    assert select(catalog, random_state=generator) == select(catalog, random_state=3)


def test_test_galaxies_are_as_clear_as_training_galaxies(make_catalog):
    curator = GalaxyZooCurator(n_train=100, n_test=100, random_state=0)
    selected = curator.fit(make_catalog(200)).selected_
    ranks = selected.groupby("label")["confidence"].rank()
    means = ranks.groupby(selected["split"]).mean()
    assert means["test"] == pytest.approx(means["train"], abs=8)


@pytest.mark.parametrize(
    ("n_train", "n_test", "expected"),
    [
        (None, 2, (10, 2)),
        (None, 0, (12, 0)),
        (None, 0.25, (9, 3)),
        (None, 0.01, (11, 1)),
        (6, 0.25, (6, 2)),
        (6, 0.01, (6, 1)),
        (np.int64(6), np.int64(2), (6, 2)),
        (6, 0, (6, 0)),
    ],
)
def test_sizes_of_the_sets(make_catalog, n_train, n_test, expected):
    curator = GalaxyZooCurator(n_train=n_train, n_test=n_test).fit(make_catalog())
    splits = pd.crosstab(curator.selected_["label"], curator.selected_["split"])
    splits = splits.reindex(columns=["train", "test"], fill_value=0)
    np.testing.assert_array_equal(splits, [expected] * 9)


def test_classes_of_different_size(make_catalog):
    catalog = make_catalog().iloc[:-18:]
    # A galaxy like another one, but for its votes.
    another = catalog.iloc[:1].assign(objid=1) * 0.999
    catalog = pd.concat([catalog, another.assign(objid=1)])
    curator = GalaxyZooCurator(n_train=None, n_test=3).fit(catalog)
    assert curator.summary_["selected"].tolist() == [11] + [10] * 8


def test_min_votes(make_catalog):
    catalog = make_catalog()
    looked_at = catalog["total_classifications"]
    params = {"n_train": None, "n_test": 1}
    curator = GalaxyZooCurator(min_votes=30, **params).fit(catalog)
    assert curator.selected_.index.sort_values().equals(
        catalog.index[looked_at >= 30].sort_values()
    )
    assert len(curator.labels_) == len(catalog)
    assert not pd.isna(curator.labels_).any()

    catalog = catalog.drop(columns="total_classifications")
    catalog["total_votes"] = looked_at.where(catalog.index != 0)
    curator.fit(catalog)
    expected = catalog.index[(looked_at >= 30) & (catalog.index != 0)]
    assert curator.selected_.index.sort_values().equals(expected)

    catalog["total_votes"] = "many"
    with pytest.raises(ValueError, match="requires numbers in 'total_votes'"):
        curator.fit(catalog)
    catalog = catalog.drop(columns="total_votes")
    with pytest.raises(ValueError, match=r"total_classifications.*total_votes"):
        curator.fit(catalog)
    GalaxyZooCurator(**params).fit(catalog)


def test_galaxies_without_a_label(make_catalog):
    catalog = make_catalog()
    catalog.loc[0, VOTES] = np.nan
    catalog.loc[9, VOTES] = 0.0
    curator = GalaxyZooCurator(n_train=None, n_test=1).fit(catalog)
    assert [curator.labels_[0], curator.labels_[9]] == [None, None]
    assert np.isnan(curator.confidence_[[0, 9]]).all()
    assert np.isnan(curator.scores_[0]).all()
    assert (curator.scores_[9] == 0).all()
    assert not set(curator.sample_indices_) & {0, 9}
    assert curator.summary_.loc["smooth rounded", "available"] == 10


@pytest.mark.parametrize("dtype", ["float32", "Float64", "float64[pyarrow]"])
def test_types_of_vote_columns(make_catalog, dtype):
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    catalog = make_catalog()
    curator = GalaxyZooCurator(n_train=5, n_test=2, random_state=0).fit(catalog)
    expected = curator.transform(catalog)
    converted = catalog.astype(dict.fromkeys(VOTES, dtype))
    np.testing.assert_allclose(curator.transform(converted), expected, rtol=1e-5)
    converted.loc[3, VOTES] = pd.NA if dtype != "float32" else np.nan
    assert np.isnan(curator.transform(converted)[3]).all()


@pytest.mark.parametrize("suffix", ["weighted_fraction", "debiased", "mine"])
def test_any_suffix(make_catalog, suffix):
    catalog = make_catalog(suffix=suffix)
    assert len(select(catalog, votes=suffix)) == 63


def test_names_of_galaxy_datasets(make_catalog):
    catalog = make_catalog()
    names = {
        f"{answer}_fraction": f"{other}_fraction"
        for answer, other in GALAXY_DATASETS_NAMES.items()
    }
    names["total_classifications"] = "smooth-or-featured-gz2_total-votes"
    renamed = catalog.drop(columns="total_votes").rename(columns=names)
    params = {"n_train": 3, "n_test": 1, "min_votes": 25}
    assert select(renamed, **params) == select(catalog, **params)


def test_scores_as_a_frame(make_catalog):
    catalog = make_catalog().iloc[::-1]
    curator = GalaxyZooCurator(n_train=5, n_test=2).set_output(transform="pandas")
    scores = curator.fit(catalog).transform(catalog)
    assert scores.columns.tolist() == list(CLASS_NAMES)
    assert scores.index.equals(catalog.index)
    assert curator.get_feature_names_out().tolist() == list(CLASS_NAMES)
    assert curator.fit_transform(catalog).equals(scores)
    # Scoring takes any number of galaxies.
    assert curator.transform(catalog.iloc[:1]).equals(scores.iloc[:1])


def test_clone_and_pickle(make_catalog):
    catalog = make_catalog()
    curator = GalaxyZooCurator(n_train=5, n_test=0.2, random_state=0)
    assert clone(curator).get_params() == curator.get_params()
    copy = pickle.loads(pickle.dumps(curator.fit(catalog)))
    pd.testing.assert_frame_equal(copy.selected_, curator.selected_)
    np.testing.assert_array_equal(copy.transform(catalog), curator.scores_)


def test_not_fitted(make_catalog):
    with pytest.raises(NotFittedError):
        GalaxyZooCurator().transform(make_catalog())
    with pytest.raises(NotFittedError):
        GalaxyZooCurator().get_feature_names_out()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_train", 0),
        ("n_train", 5.5),
        ("n_test", -1),
        ("n_test", 1.5),
        ("confidence", "average"),
        ("votes", 5),
        ("tree", "ten"),
        ("tree", [1]),
        ("clean", 15),
        ("rare_classes", "ignore"),
        ("min_votes", -1),
        ("random_state", "chance"),
    ],
)
def test_wrong_parameters(make_catalog, name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        GalaxyZooCurator(**{name: value}).fit(make_catalog())


@pytest.mark.parametrize("method", ["fit", "transform", "fit_resample"])
def test_wrong_catalogs(make_catalog, method):
    catalog = make_catalog()
    curator = GalaxyZooCurator(n_train=5, n_test=2, random_state=0).fit(catalog)
    call = getattr(curator, method)
    column = VOTES[3]

    with pytest.raises(TypeError, match=r"must be a DataFrame.*got ndarray"):
        call(catalog.to_numpy())
    with pytest.raises(ValueError, match="at least one row"):
        call(catalog.iloc[:0])
    with pytest.raises(ValueError, match=rf"missing: \['{column}'\]"):
        call(catalog.drop(columns=column))
    with pytest.raises(ValueError, match=rf"more than once: \['{column}'\]"):
        call(pd.concat([catalog, catalog[[column]]], axis=1))
    with pytest.raises(ValueError, match=f"must be numeric; '{column}'"):
        call(catalog.assign(**{column: "0.5"}))
    for value in (1.5, -0.1, np.inf, -np.inf):
        wrong = catalog.set_index("objid", drop=False)
        wrong.loc[wrong.index[7], column] = value
        message = (
            rf"must lie in \[0, 1\]; got .* for '{column}' in row .*{wrong.index[7]}"
        )
        with pytest.raises(ValueError, match=message):
            call(wrong)


def test_missing_suffix_names_those_that_are_there(make_catalog):
    catalog = make_catalog(suffix="weighted_fraction").join(
        make_catalog(suffix="debiased")[[f"{answer}_debiased" for answer in ANSWERS]]
    )
    catalog[f"{ANSWERS[0]}_fraction"] = 0.5
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        GalaxyZooCurator().fit(catalog)
    message = str(raised.value)
    assert message.startswith("`votes='fraction'` requires a column for each of the 14")
    assert f"{ANSWERS[0]}_fraction" not in message
    assert all(f"{answer}_fraction" in message for answer in ANSWERS[1:])
    assert "all columns exist: ['debiased', 'weighted_fraction']." in message


def test_too_few_galaxies(make_catalog):
    catalog = make_catalog().iloc[:-1]
    with pytest.raises(ValueError, match="Too few galaxies") as raised:
        GalaxyZooCurator(n_train=10, n_test=2).fit(catalog)
    message = str(raised.value)
    assert "'unbarred without arms' has 11, 10 + 2 requested" in message
    assert message.count(" has ") == 1
    assert "Use `n_train=None`" in message
    with pytest.raises(ValueError, match="'smooth rounded' has 12, 500 \\+ 100"):
        GalaxyZooCurator().fit(catalog)
    with pytest.raises(ValueError, match=r"has 11, 1 \+ 11 .*a smaller `n_test`, or"):
        GalaxyZooCurator(n_train=None, n_test=11).fit(catalog)
    # One galaxy to train on is asked for, whatever the share of test galaxies.
    with pytest.raises(ValueError, match="has 12, 1 \\+ 12 requested"):
        GalaxyZooCurator(n_train=None, n_test=0.99).fit(catalog)
    none_of_one_class = catalog[np.arange(len(catalog)) % len(LEAVES) != 4]
    with pytest.raises(ValueError, match="'edge-on without bulge' has 0"):
        GalaxyZooCurator(n_train=None, n_test=0.1).fit(none_of_one_class)
    # What is set already is no advice.
    with pytest.raises(ValueError, match=r"has 0, 1 \+ 0 req.*Use `rare_classes="):
        GalaxyZooCurator(n_train=None, n_test=0).fit(none_of_one_class)


def test_ids_that_lost_digits(make_catalog):
    catalog = make_catalog()
    catalog["objid"] = catalog["objid"].astype(float)
    with pytest.raises(ValueError, match="'objid' has dtype float64"):
        GalaxyZooCurator(n_train=5, n_test=2).fit(catalog)


@pytest.fixture(scope="module")
def stripe_82(shared_data):
    return pd.read_csv(shared_data / "gz2-stripe82" / "table5.csv.gz")


def test_confidences_on_stripe_82(stripe_82):
    curator = GalaxyZooCurator(n_train=40, n_test=10, random_state=0).fit(stripe_82)
    means = curator.summary_[["mean_confidence_available", "mean_confidence"]].mean()
    assert means.round(3).tolist() == [0.515, 0.790]
    assert curator.summary_["available"].sum() == len(stripe_82) - 2


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"confidence": "mean"}, [0.796, 0.932]),
        ({"confidence": "min"}, [0.643, 0.851]),
        ({"votes": "debiased"}, [0.537, 0.885]),
    ],
)
def test_other_confidences_on_stripe_82(stripe_82, params, expected):
    curator = GalaxyZooCurator(n_train=50, n_test=0, **params).fit(stripe_82)
    means = curator.summary_[["mean_confidence_available", "mean_confidence"]].mean()
    assert means.round(3).tolist() == expected


def test_real_votes_with_nan(shared_data):
    votes = pd.read_csv(shared_data / "gz2-sample" / "votes.csv")
    with pytest.raises(ValueError, match=r"\['debiased', 'weighted_fraction'\]"):
        GalaxyZooCurator().fit(votes)
    curator = GalaxyZooCurator(n_train=None, n_test=0.2, votes="debiased").fit(votes)
    assert (curator.summary_["available"] >= 10).all()
    assert votes[[f"{answer}_debiased" for answer in ANSWERS]].isna().any(axis=None)


def test_polars_in_polars_out(make_catalog):
    catalog = make_catalog()
    catalog["name"] = [f"galaxy {i}" for i in range(len(catalog))]
    table = polars.from_dict(catalog.to_dict("list"))
    curator = GalaxyZooCurator(n_train=5, n_test=2, random_state=0)
    expected, expected_labels = curator.fit_resample(catalog)
    scores = curator.transform(catalog)
    rows, labels = curator.fit_resample(table)
    assert isinstance(rows, polars.DataFrame)
    assert rows.to_dict(as_series=False) == expected.to_dict("list")
    assert labels.tolist() == expected_labels.tolist()
    assert np.array_equal(curator.transform(table), scores)
    # Large ids beside a missing one keep their digits.
    table = table.with_columns(objid=polars.Series([None, *table["objid"][1:]]))
    assert np.array_equal(curator.fit(table).scores_, scores)
    votes = [0.0] * 3 + [2.0] + [0.0] * (len(table) - 4)
    table = table.with_columns(polars.Series(VOTES[0], votes))
    with pytest.raises(ValueError, match=r"Votes must lie .* in row 3"):
        curator.fit(table)


def test_tables_in_the_byte_order_of_fits(make_catalog, tmp_path):
    catalog = make_catalog()
    catalog.insert(0, "name", [f"J{i}" for i in range(len(catalog))])
    foreign = pd.DataFrame(
        {
            name: values.to_numpy().astype(values.dtype.newbyteorder(">"))
            if name != "name"
            else values
            for name, values in catalog.items()
        }
    )
    assert not any(dtype.isnative for dtype in foreign.dtypes[1:])
    curator = GalaxyZooCurator(n_train=5, n_test=2, min_votes=1, random_state=0)
    expected, labels = curator.fit_resample(catalog)
    rows, found = curator.fit_resample(foreign)
    pd.testing.assert_frame_equal(rows, expected)
    np.testing.assert_array_equal(found, labels)
    # What was given stays as it is.
    assert not any(dtype.isnative for dtype in foreign.dtypes[1:])
    ids = pd.Index(foreign["objid"].to_numpy(), name="objid")
    assert not ids.dtype.isnative
    by_index, _ = curator.fit_resample(foreign.drop(columns="objid").set_axis(ids))
    assert by_index.index.tolist() == expected["objid"].tolist()
    assert by_index.index.dtype.isnative
    augmenter = RotationAugmenter(2)
    rotated, _ = augmenter.fit_resample(foreign)
    pd.testing.assert_frame_equal(rotated, augmenter.fit_resample(catalog)[0])
    for objid in foreign["objid"][:3].tolist():
        Image.new("RGB", (8, 8), (objid % 7,) * 3).save(tmp_path / f"{objid}.PNG")
    reader = ImageReader(images_dir=tmp_path, id_column="objid", size=4)
    X = reader.transform(foreign.head(3).assign(split=["train", "test", "train"]))
    assert X[:, 0, 0, 0].tolist() == [i % 7 for i in catalog["objid"][:3]]
    for take in (curator.fit, augmenter.fit, reader.transform):
        with pytest.raises(TypeError, match=r"got recarray: pass pd.DataFrame\(...\)"):
            take(foreign.to_records())
