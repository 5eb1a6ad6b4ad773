"""Comparing distillers: scores, resuming, what fails, and what is refused."""

import errno
import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer
from torch import nn

import skdistill.metrics._cells as cells_module
from skdistill import (
    ConvNetClassifier,
    DistilledClassifier,
    DMDistiller,
    FRePoDistiller,
    FullData,
    Herding,
    KMeansPrototypes,
    NCFMDistiller,
    NetworkClassifier,
    RandomSubset,
    SyntheticSet,
    TrajectoryBuffer,
    evaluate_synthetic,
)
from skdistill.metrics import (
    DistillerComparison,
    compare_distillers,
    compare_scores,
)
from skdistill.metrics._cell_files import CellFiles
from skdistill.metrics._cell_files import _metric as protocol_metric
from skdistill.metrics._distillers import with_seed
from skdistill.utils._plain import as_plain
from skdistill.utils._random import child_seed

CPU = {"device": "cpu"}
TINY = {"width": 4, "depth": 1, **CPU}
NETWORK = ConvNetClassifier(max_iter=3, **TINY)
BASELINES = {"k-means": KMeansPrototypes(), "random": RandomSubset(), "H": Herding()}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.array(["round", "edge", "spiral"])[np.arange(90) % 3]
    X = rng.normal(size=(90, 8, 8, 1)).astype(np.float32)
    X = (X + np.roll(X, 1, axis=2)) / 2
    X[..., 0] += np.eye(8)[np.arange(90) % 3][:, :, None]
    return X[:45], y[:45], X[45:], y[45:]


def compare(distillers, data, **more):
    options = {"estimator": NETWORK, "n_repeats": 2, "seeds": 2, **more}
    return compare_distillers(distillers, *data, **options)


@pytest.fixture
def computed(monkeypatch):
    """A list that gets the name and the seed of each cell that is computed."""
    found = []
    fit = cells_module.with_seed

    def noted(distiller, seed):
        found.append((type(distiller).__name__, seed))
        return fit(distiller, seed)

    monkeypatch.setattr(cells_module, "with_seed", noted)
    return found


def same(one, two):
    pd.testing.assert_frame_equal(
        one.scores.drop(columns="seconds"), two.scores.drop(columns="seconds")
    )


# Scores


def test_scores_are_those_of_the_sets(data):
    iterative = DMDistiller(max_iter=2, **TINY)
    found = compare({"DM": iterative, "random": RandomSubset(ipc=2)}, data, seeds=[4])
    assert found.scores["network"].tolist() == [0, 1, 0, 1]
    assert found.scores["seed"].unique().tolist() == [4]
    X, y, X_test, y_test = data
    for name, one in (("DM", iterative), ("random", RandomSubset(ipc=2))):
        alone = clone(one).set_params(random_state=4).fit(X, y).synthetic_
        expected = evaluate_synthetic(
            alone,
            X_test,
            y_test,
            estimator=NETWORK,
            n_repeats=2,
            random_state=child_seed(4, *b"evaluation") % 2**31,
        )
        rows = found.scores[found.scores["distiller"] == name]
        np.testing.assert_array_equal(rows["score"], expected.scores)
        assert rows["images"].unique() == len(alone)
        # Pixels in float32, and a label of eight bytes.
        assert rows["bytes"].unique() == len(alone) * (8 * 8 * 4 + 8)


def test_scores_do_not_depend_on_processes_or_on_the_others(data):
    both = compare(BASELINES, data)
    same(compare(BASELINES, data, n_jobs=2), both)
    alone = compare({"H": Herding()}, data, seeds=[1, 0]).scores
    rows = both.scores[both.scores["distiller"] == "H"]
    for seed in (0, 1):
        np.testing.assert_array_equal(
            alone.loc[alone["seed"] == seed, "score"],
            rows.loc[rows["seed"] == seed, "score"],
        )


def test_table_and_differences(data):
    found = compare(BASELINES, data, seeds=3)
    scores = {
        name: own["score"].to_numpy().reshape(3, 2)
        for name, own in found.scores.groupby("distiller")
    }
    assert list(found.table.index) == list(BASELINES)
    for name, row in found.table.iterrows():
        own = scores[name]
        assert row["mean"] == pytest.approx(own.mean())
        assert row["std_sets"] == pytest.approx(own.mean(axis=1).std(ddof=1))
        within = own.var(axis=1, ddof=1).mean() ** 0.5
        assert row["std_networks"] == pytest.approx(within)
        assert (row["n_sets"], row["n_networks"], row["images"]) == (3, 2, 3)
        assert row["labels"] == "hard"
        assert row["seconds"] > 0
    for paired in (True, False):
        against = found.differences("random", paired=paired, confidence=0.9)
        assert list(against.index) == ["k-means", "H"]
        for name, row in against.iterrows():
            expected = compare_scores(
                scores[name], scores["random"], paired=paired, confidence=0.9
            )
            assert row["difference"] == pytest.approx(expected.difference)
            assert row["low"] == pytest.approx(expected.low)
            assert row["high"] == pytest.approx(expected.high)
            assert bool(row["differs"]) == expected.differs
    assert "k-means" not in found.differences().index
    with pytest.raises(ValueError, match=r"one of the distillers, \['k-means'"):
        found.differences("STM")


def test_rates_are_chosen_on_validation_images(data):
    X, y, _, _ = data
    found = compare(
        {"random": RandomSubset(), "all": FullData()},
        data,
        seeds=1,
        protocol="honest",
        X_validation=X[:15],
        y_validation=y[:15],
        param_grid={"learning_rate": [1e-3, 1e-2]},
    )
    assert found.scores["learning_rate"].isin([1e-3, 1e-2]).all()
    assert found.table.loc["all", "images"] == len(X)


def test_learned_labels_are_marked(data):
    few = FRePoDistiller(max_iter=1, n_networks=1, **TINY)
    with pytest.warns(UserWarning, match="trained only on the class of each image"):
        found = compare({"F": few}, data, seeds=1, estimator=LogisticRegression())
    assert found.table.loc["F", "labels"] == "targets"
    assert "targets" in found.to_markdown()


def test_other_classifiers_are_told(data):
    """A set of a kernel method names a kernel regression, a random one a network."""
    teachers = TrajectoryBuffer(n_teachers=1, n_epochs=2, random_state=0, **TINY)
    narrow = NCFMDistiller(max_iter=1, n_frequencies=4, buffer=teachers, **CPU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            cells_module,
            "evaluate_synthetic",
            lambda *args, **more: evaluate_synthetic(
                *args, **{**more, "estimator": NETWORK}
            ),
        )
        with pytest.warns(UserWarning, match="NCFM: .*width=4.*Use `estimator`"):
            compare(
                {"NCFM": narrow, "random": RandomSubset()},
                data,
                estimator=None,
                seeds=1,
            )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compare({"NCFM": narrow}, data, estimator=None, seeds=1)


# Seeds


def test_teachers_are_shared_where_they_are_fitted(data, tmp_path):
    X, y, _, _ = data
    buffer = TrajectoryBuffer(n_teachers=1, n_epochs=2, random_state=0, **TINY)
    new = [
        with_seed(NCFMDistiller(buffer=buffer), seed).buffer.random_state
        for seed in (0, 1, 0)
    ]
    assert new[0] == new[2] != new[1]
    # The same teachers for distillers of one seed, so that they are pairs.
    other = with_seed(KMeansPrototypes(features=NETWORK), 0)
    assert other.features.random_state != NETWORK.random_state
    fitted = clone(buffer).set_params(path=tmp_path / "teachers").fit(X, y)
    distiller = NCFMDistiller(buffer=fitted, max_iter=1, n_frequencies=4, **CPU)
    assert with_seed(distiller, 3).buffer is fitted
    assert fitted.random_state == 0
    given = {
        "fitted": distiller,
        "frozen": clone(distiller).set_params(buffer=FrozenEstimator(fitted)),
        "folder": clone(distiller).set_params(buffer=tmp_path / "teachers"),
    }
    # None trains teachers of its own.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            TrajectoryBuffer, "fit", lambda *_: pytest.fail("teachers are trained")
        )
        found = compare(given, data, seeds=1)
    scores = found.scores.pivot(index="network", columns="distiller", values="score")
    assert scores.nunique(axis=1).eq(1).all()
    assert not found.failures.size


# Resuming


def test_only_what_is_missing_is_computed(data, tmp_path, computed):
    distillers = {**BASELINES, "DM": DMDistiller(max_iter=2, **TINY)}
    whole = compare(distillers, data, path=tmp_path)
    assert len(computed) == 8
    sets = sorted((tmp_path / "sets").iterdir())
    assert len(sets) == 8
    assert len(SyntheticSet.load(sets[0])) == 3
    same(compare(distillers, data, path=tmp_path), whole)
    assert len(computed) == 8
    # A kill leaves cells out, and what was half written.
    [lost] = (tmp_path / "cells").glob("DM-*-1.json")
    lost.unlink()
    computed.clear()
    same(compare(distillers, data, path=tmp_path), whole)
    assert computed == [("DMDistiller", 1)]
    computed.clear()
    more = compare({**distillers, "F": FullData()}, data, path=tmp_path, seeds=[2, 0])
    assert len(computed) == 6
    assert more.table["n_sets"].tolist() == [2] * 5
    # All images again are not kept.
    assert not list((tmp_path / "sets").glob("F-*"))


def test_a_kill_loses_only_what_was_under_way(data, tmp_path, monkeypatch, computed):
    fit = Herding.fit

    def killed(self, X, y):
        if self.random_state == 1:
            raise KeyboardInterrupt
        return fit(self, X, y)

    with monkeypatch.context() as patch:
        patch.setattr(Herding, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            compare(BASELINES, data, path=tmp_path)
    assert len(list((tmp_path / "cells").glob("*.json"))) == 5
    computed.clear()
    found = compare(BASELINES, data, path=tmp_path)
    assert computed == [("Herding", 1)]
    same(found, compare(BASELINES, data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distiller": DMDistiller(max_iter=3, **TINY)}, "`max_iter`: found 2"),
        ({"distiller": RandomSubset()}, r"`class`: found '.*DMDistiller', expected"),
        ({"estimator": clone(NETWORK).set_params(width=5)}, "`evaluation's estimator_"),
        ({"n_repeats": 3}, "`evaluation's n_repeats`: found 2, expected 3"),
        ({"X": 1.2}, r"`X, y \(fingerprint\)`: .*bitwise identical"),
        ({"X_test": 1.2}, r"`X_test, y_test \(fingerprint\)`: .*bitwise identical"),
    ],
)
def test_other_cells_of_a_name_are_refused(change, message, data, tmp_path):
    X, y, X_test, y_test = data
    compare({"D": DMDistiller(max_iter=2, **TINY)}, data, path=tmp_path, seeds=1)
    change = dict(change)
    distiller = change.pop("distiller", DMDistiller(max_iter=2, **TINY))
    factors = [change.pop("X", 1), change.pop("X_test", 1)]
    other = X * factors[0], y, X_test * factors[1], y_test
    with pytest.raises(ValueError, match=message) as caught:
        compare({"D": distiller}, other, path=tmp_path, seeds=1, **change)
    assert "to 'D' with different" in str(caught.value)
    # Where it computes is no difference.
    same_one = DMDistiller(max_iter=2, checkpoint=tmp_path / "c", verbose=1, **TINY)
    compare({"D": same_one}, data, path=tmp_path, seeds=1)
    assert not (tmp_path / "c").exists()


def test_a_network_that_changed_under_its_name_is_another(data, tmp_path):
    def changed(n_maps):
        def network(image_shape, n_classes):
            return nn.Sequential(
                nn.Conv2d(image_shape[2], n_maps, 3),
                nn.Flatten(),
                nn.LazyLinear(n_classes),
            )

        return NetworkClassifier(network, max_iter=1, **CPU)

    one = {"R": RandomSubset()}
    compare(one, data, path=tmp_path, seeds=1, estimator=changed(2))
    compare(one, data, path=tmp_path, seeds=1, estimator=changed(2))
    with pytest.raises(ValueError, match="`evaluation's estimator__architecture`"):
        compare(one, data, path=tmp_path, seeds=1, estimator=changed(3))


def test_other_initial_sets_are_refused(data, tmp_path):
    X, y, *_ = data
    X = X[:, :4, :4]
    small = X, y, X[:5], y[:5]
    one = RandomSubset(random_state=0).fit(X, y).synthetic_
    renamed = SyntheticSet(one.X, one.y[[1, 2, 0]])
    other = RandomSubset(random_state=1).fit(X, y).synthetic_

    def run(start):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* of `X_test` are also in")
            distiller = DMDistiller(max_iter=1, init=start, **TINY)
            compare({"D": distiller}, small, path=tmp_path, seeds=1)

    run(one)
    run(one[[2, 0, 1]][[1, 2, 0]])
    for start in (other, renamed):
        with pytest.raises(ValueError, match="`init`: found 'set of 3 images"):
            run(start)


def test_a_metric_that_changed_under_its_name_is_another(data, tmp_path):
    def own(share):
        def metric(y_true, y_predicted):
            return share * np.mean([one in {"a", "b", "c"} for one in y_true])

        return metric

    def other():
        def metric(y_true, y_predicted):
            return np.mean([one in {"a", "b", "d"} for one in y_true])

        metric.__qualname__ = own(1).__qualname__
        return metric

    def run(metric):
        scoring = make_scorer(metric)
        compare({"R": RandomSubset()}, data, path=tmp_path, seeds=1, scoring=scoring)

    run(own(1))
    run(own(1))
    with pytest.raises(ValueError, match="`evaluation's scoring`"):
        run(other())
    # Those of a library are known by their names, in all its versions.
    for metric in (f1_score, make_scorer(f1_score), "f1_macro", None):
        assert protocol_metric(metric) == as_plain(metric)


def test_a_full_disk_ends_no_comparison(data, tmp_path, monkeypatch):
    write = CellFiles.write

    def full(self, name, seed, *content):
        if seed == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, name, seed, *content)

    monkeypatch.setattr(CellFiles, "write", full)
    with pytest.warns(UserWarning, match="'random' with seed 0 could not.*No space"):
        found = compare({"random": RandomSubset()}, data, path=tmp_path)
    same(found, compare({"random": RandomSubset()}, data))
    assert len(list((tmp_path / "cells").glob("*.json"))) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: "{",
        lambda content: "[]",
        lambda content: json.dumps({**content, "version": 2}),
        lambda content: json.dumps({**content, "signature": 3}),
        lambda content: json.dumps({**content, "cell": {"scores": [1]}}),
        *(
            lambda content, name=name, value=value: json.dumps(
                {**content, "cell": {**content["cell"], name: value}}
            )
            for name, value in {
                "scores": [0.5, None],
                "seconds": "fast",
                "n_bytes": -1,
                "labels": "none",
                "parameters": [],
                "classifier": 0,
            }.items()
        ),
    ],
)
def test_damaged_cells_are_named(damage, data, tmp_path, computed):
    compare({"R": RandomSubset()}, data, path=tmp_path, seeds=1)
    [path] = (tmp_path / "cells").glob("*.json")
    path.write_text(damage(json.loads(path.read_text())))
    computed.clear()
    with pytest.raises(ValueError, match=r"cannot be read.*delete it to") as caught:
        compare({"R": RandomSubset()}, data, path=tmp_path, seeds=1)
    assert str(path) in str(caught.value)
    assert not computed


# What fails


def failing(self, X, y):
    raise RuntimeError("no disk")


def test_failures_leave_the_others(data, tmp_path, monkeypatch):
    distillers = {"bad": KMeansPrototypes(), "good": RandomSubset()}
    with monkeypatch.context() as patch:
        patch.setattr(KMeansPrototypes, "fit", failing)
        with pytest.warns(FitFailedWarning, match="'bad' with seed 1:\n.*no disk"):
            found = compare(distillers, data, path=tmp_path)
        assert found.failures["error"].tolist() == ["RuntimeError: no disk"] * 2
        assert found.table.loc["bad", "n_sets"] == 0
        assert found.table.loc["good", "n_sets"] == 2
        row = found.differences("good").loc["bad"]
        assert (row["low"], row["high"]) == (-np.inf, np.inf)
        row = r"\| bad \| - \| - \| - \| 0 \| - \| - \| - \| - \|\n"
        assert re.search(row, found.to_markdown("good"))
        with pytest.warns(FitFailedWarning, match="set to 0"):
            assert compare(distillers, data, error_score=0).table["mean"]["bad"] == 0
        with pytest.raises(RuntimeError, match="no disk") as caught:
            compare(distillers, data, error_score="raise")
        assert "['bad'] with seed 0" in caught.value.__notes__[0]
        with pytest.raises(ValueError, match=r"all 2 cells failed.*\n.*no disk"):
            compare({"bad": KMeansPrototypes()}, data)
    # It is tried again.
    assert compare(distillers, data, path=tmp_path).table["n_sets"].tolist() == [2, 2]


def test_sets_whose_evaluation_fails_are_kept(data, tmp_path, computed):
    def broken(model, X, y):
        raise RuntimeError("no such metric")

    distillers = {"k": KMeansPrototypes(), "all": FullData()}
    with pytest.raises(ValueError, match="no such metric"):
        compare(distillers, data, path=tmp_path, scoring=broken)
    # All images again are not kept.
    for seed, path in enumerate(sorted((tmp_path / "sets").iterdir())):
        expected = KMeansPrototypes(random_state=seed).fit(*data[:2]).synthetic_
        np.testing.assert_array_equal(SyntheticSet.load(path).X, expected.X)
    assert seed == 1
    computed.clear()
    compare(distillers, data, path=tmp_path)
    assert len(computed) == 4


# What is refused before work starts


@pytest.mark.parametrize(
    ("distillers", "message"),
    [
        ({}, "at least one"),
        ({1: RandomSubset()}, "must have non-empty strings.*got 1"),
        ({" ": RandomSubset()}, "must have non-empty strings"),
        ({"a": RandomSubset(), "a ": Herding()}, "differ only in whitespace"),
        ({"a": RandomSubset}, r"`distillers`\['a'\].*RandomSubset\(\)"),
        ({"R": RandomSubset(), "a": NETWORK}, r"\['a'\] must be a distiller"),
        ({"a": DistilledClassifier(RandomSubset())}, "pass its `distiller`"),
        ({"R": RandomSubset(), "a": Herding(ipc=0)}, r"\['a'\]: .*'ipc'"),
        ({"a": Herding(ipc=16)}, r"`distillers`\['a'\] with `ipc`=16"),
        ({"a": DMDistiller(ipc=16)}, "`ipc`=16"),
        ({"a": NCFMDistiller(buffer="/nowhere")}, r"\['a'\].*/nowhere"),
        (
            {
                "a": RandomSubset(image_shape=(8, 8, 1)),
                "b": Herding(image_shape=(4, 16, 1)),
            },
            "the same `image_shape`",
        ),
    ],
)
def test_distillers_that_cannot_be_compared(distillers, message, data, computed):
    with pytest.raises((ValueError, OSError), match=message):
        compare(distillers, data)
    assert not computed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "'seeds'"),
        ({"seeds": []}, "`seeds`"),
        ({"seeds": True}, "`seeds` must be a number of sets"),
        ({"seeds": [0, 0]}, r"got \[0\] more than once"),
        ({"seeds": [-1]}, "from 0"),
        ({"seeds": [0.5]}, "list of integers"),
        ({"seeds": "three"}, "'seeds'"),
        ({"estimator": RandomSubset()}, "`estimator` must be a classifier"),
        ({"estimator": "mlp"}, "'estimator' parameter of compare_distillers"),
        ({"n_repeats": 0}, "'n_repeats' parameter of compare_distillers"),
        ({"scoring": "accuracies"}, "accuracies"),
        ({"protocol": "honest"}, "`X_validation`"),
        ({"error_score": "nan"}, "'error_score'"),
        ({"path": __file__}, "must be a folder"),
    ],
)
def test_settings_that_cannot_be_used(options, message, data, computed):
    with pytest.raises(ValueError, match=message):
        compare({"R": RandomSubset()}, data, **options)
    assert not computed


def test_unknown_options(data):
    with pytest.raises(TypeError, match=r"'ipc'.*that it accepts"):
        compare({"R": RandomSubset()}, data, ipc=3)
    with pytest.raises(ValueError, match="'distillers'"):
        compare([RandomSubset()], data)


def test_images_and_labels_that_cannot_be_used(data, computed):
    X, y, X_test, y_test = data
    one = {"R": RandomSubset()}
    cases = {
        "X_test must hold images of shape": (X, y, X_test[:, :4], y_test),
        "the same length": (X, y, X_test, y_test[:-1]),
        r"`y_test` must hold classes.*'merger'": (X, y, X_test, ["merger"] * 45),
        "inconsistent numbers of samples": (X, y[:-1], X_test, y_test),
        "at least two classes": (X, ["round"] * 45, X_test, ["round"] * 45),
        "y should be a 1d array": (X, np.eye(3)[:1].repeat(45, 0), X_test, y_test),
    }
    for message, wrong in cases.items():
        with pytest.raises(ValueError, match=message):
            compare(one, wrong)
    assert not computed
    with pytest.warns(UserWarning, match="5 of 45 images of `X_test` are also in `X`"):
        compare(one, (X, y, np.r_[X[:5], X_test[5:]], np.r_[y[:5], y_test[5:]]))
    with pytest.warns(UserWarning, match="a different pixel space") as caught:
        compare(one, (X, y, 100 * X_test, y_test))
    assert [one.filename for one in caught] == [__file__]


def test_flattened_images(data):
    X, y, X_test, y_test = data
    distillers = {"R": RandomSubset(image_shape=(8, 8, 1)), "H": Herding()}
    flat = X.reshape(45, -1), y, X_test.reshape(45, -1), y_test
    same(compare(distillers, flat), compare(distillers, data))
    columns = [f"pixel_{i}" for i in range(64)]
    frames = [pd.DataFrame(part, columns=columns) for part in (flat[0], flat[2])]
    tables = frames[0], pd.Series(y), frames[1], pd.Series(y_test)
    same(compare(distillers, tables), compare(distillers, data))


# What is shown


def made(scores, **more):
    rows = [
        {"distiller": name, "seed": seed, "network": network, "score": score}
        for name, sets in scores.items()
        for seed, networks in enumerate(sets)
        for network, score in enumerate(networks)
    ]
    return DistillerComparison(pd.DataFrame(rows), **more)


def test_tables_of_text():
    found = made({"A_1 | b": [[0.5, 0.7], [0.6, 0.8]], "B & C": [[0.5], [0.6]]})
    assert found.to_markdown("B & C").splitlines() == [
        "| distiller | accuracy in % | ± networks | to B & C (95 % interval) | sets |",
        "| --- | --- | --- | --- | --- |",
        "| A_1 \\| b | 65.0 ± 7.1 | 14.1 | +10.0 (+10.0 to +10.0) | 2 |",
        "| B & C | 55.0 ± 7.1 | - | - | 2 |",
    ]
    latex = found.to_latex(confidence=0.9)
    assert r"A\_1 | b & 65.0 $\pm$ 7.1 & 14.1 & - & 2 \\" in latex
    assert r"to A\_1 | b (90 \% interval)" in latex
    assert r"B \& C & 55.0 $\pm$ 7.1 & - & -10.0 (-10.0 to -10.0)" in latex
    other = made({"A": [[-0.51]], "B": [[-0.61]]}, metric="neg_brier_score")
    assert "| B | -0.610 | - | -0.100 (too few sets) | 1 |" in other.to_markdown()
    assert "neg_brier_score" in repr(other)
    with pytest.raises(ValueError, match=r"missing: \['network'\]"):
        DistillerComparison(other.scores.drop(columns="network"))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=9), st.integers(1, 3)),
        min_size=1,
        max_size=4,
        unique_by=lambda pair: pair[0],
    )
)
def test_any_names_make_tables(pairs):
    rng = np.random.default_rng(0)
    found = made({name: rng.uniform(size=(n, 2)) for name, n in pairs})
    lines = found.to_markdown().split("\n")
    assert len(lines) == 2 + len(pairs)
    assert all(line.replace("\\|", "").count("|") == 6 for line in lines)
    assert found.table["n_sets"].tolist() == [n for _, n in pairs]
    assert found.to_latex().count("\\\\\n") == 1 + len(pairs)
