"""Who called a fit, and what Ctrl-C ends."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from joblib import parallel_config
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

import skdistill.distillation._objectives._trajectory as matcher_module
from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    ImageReader,
    MTTDistiller,
    STMDistiller,
    TrajectoryBuffer,
    evaluate_synthetic,
)
from skdistill.distillation._objectives._trajectory_distance import match_gradient
from skdistill.utils._callers import interrupt_ends_all, is_repeated

NETWORK = ConvNetClassifier(width=4, depth=1, max_iter=2, device="cpu", random_state=0)
TEACHERS = TrajectoryBuffer(
    n_teachers=1, n_epochs=2, width=4, depth=1, device="cpu", random_state=0
)
SHORT = {
    "buffer": TEACHERS,
    "n_steps": 2,
    "estimator": NETWORK,
    "device": "cpu",
    "random_state": 0,
}
STM = STMDistiller(max_total_iter=3, **SHORT)
MTT = MTTDistiller(max_iter=3, max_start_epoch=1, n_target_epochs=1, **SHORT)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(16, 6, 6, 1)).astype(np.float32)
    y = np.arange(16) % 2
    X[y == 1, 2:4] += 2
    return X, y


@pytest.fixture
def matches(monkeypatch):
    """Press the keys in the second match; return the list of all that began."""
    begun = []

    def spoiled(*args, **kwargs):
        begun.append(len(begun))
        if len(begun) == 2:
            raise KeyboardInterrupt
        return match_gradient(*args, **kwargs)

    monkeypatch.setattr(matcher_module, "match_gradient", spoiled)
    return begun


class Asking(ClassifierMixin, BaseEstimator):
    """Note who calls, as a fit learns it."""

    found: list = []

    def __init__(self, number=0):
        self.number = number

    def fit(self, X, y):
        self.found.append((is_repeated(), interrupt_ends_all()))
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.zeros(len(X), int)


class Wrapping(Asking):
    """Code of the user's own between a search and a fit."""

    def fit(self, X, y):
        Asking().fit(X, y)
        self.classes_ = np.unique(y)
        return self


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda one, X, y: one.fit(X, y), False),
        (lambda one, X, y: make_pipeline(one).fit(X, y), False),
        (lambda one, X, y: [clone(one).fit(X, y) for _ in range(2)], False),
        (lambda one, X, y: cross_val_score(one, X, y, cv=2), True),
        (lambda one, X, y: cross_val_score(make_pipeline(one), X, y, cv=2), True),
        (lambda one, X, y: GridSearchCV(one, {"number": [1]}, cv=2).fit(X, y), True),
        (lambda one, X, y: evaluate_synthetic((X, y), X, y, estimator=one), True),
    ],
    ids=["fit", "pipeline", "loop", "scores", "pipelines", "search", "evaluation"],
)
@pytest.mark.parametrize("estimator", [Asking(), Wrapping()], ids=["own", "inside"])
def test_callers(call, expected, estimator, data, monkeypatch):
    monkeypatch.setattr(Asking, "found", [])
    call(estimator, *data)
    assert set(Asking.found) == {(expected, expected)}


@pytest.mark.parametrize("distiller", [STM, MTT], ids=["STM", "MTT"])
@pytest.mark.parametrize(
    "make",
    [
        lambda one: one,
        lambda one: make_pipeline(ChannelScaler(), one),
        lambda one: DistilledClassifier(one, NETWORK),
        lambda one: make_pipeline(ChannelScaler(), DistilledClassifier(one, NETWORK)),
    ],
    ids=["distiller", "pipeline", "classifier", "classifier in a pipeline"],
)
@pytest.mark.filterwarnings("ignore:the distillation was interrupted")
def test_interrupt_ends_a_search(make, distiller, data, matches):
    with pytest.raises(KeyboardInterrupt):
        cross_val_score(make(distiller), *data, cv=2)
    assert len(matches) == 2
    search = GridSearchCV(make(clone(distiller)), {}, cv=2, error_score=0.0)
    del matches[:]
    with pytest.raises(KeyboardInterrupt):
        search.fit(*data)
    assert len(matches) == 2


@pytest.mark.filterwarnings("ignore:the distillation was interrupted")
def test_interrupt_of_a_fit_keeps_what_it_has(data, matches):
    one = clone(STM).fit(*data)
    assert (one.stop_reason_, one.n_iter_) == ("interrupted", 1)
    # A pipeline is no search: its last step ends early, and it is fitted.
    del matches[:]
    pipeline = make_pipeline(ChannelScaler(), clone(STM)).fit(*data)
    assert pipeline[-1].stop_reason_ == "interrupted"
    assert 0 <= pipeline.score(*data) <= 1
    # In a search the images are there all the same.
    frozen = FrozenEstimator(clone(TEACHERS).fit(*data))
    kept = clone(STM).set_params(buffer=frozen)
    del matches[:]
    # As code of a search does it.
    space = {"__name__": "sklearn.model_selection._search", "fit": kept.fit}
    with pytest.raises(KeyboardInterrupt):
        eval("fit(X, y)", space | dict(zip("Xy", data, strict=True)))
    assert kept.n_iter_ == 1
    assert len(kept.synthetic_.X) == 2


def test_second_interrupt_ends_a_script(tmp_path):
    """The loop is the user's own: the first ends a fit, the second the loop."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from skdistill.utils._callers import interrupt_ends_all

            def fit():
                # As a fit asks when it is interrupted.
                print(interrupt_ends_all())

            def run():
                fit()

            for _ in range(3):
                run()
            """
        )
    )
    command = [sys.executable, str(script)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "True", "True"]


# Folders


def count(monkeypatch):
    """Return a list that grows with each match."""
    begun = []

    def counted(*args, **kwargs):
        begun.append(1)
        return match_gradient(*args, **kwargs)

    monkeypatch.setattr(matcher_module, "match_gradient", counted)
    return begun


@pytest.mark.parametrize("distiller", [STM, MTT], ids=["STM", "MTT"])
@pytest.mark.parametrize("name", ["checkpoint", "buffer__path"])
def test_each_fit_of_a_search_has_its_folder(
    distiller, name, data, tmp_path, monkeypatch
):
    grid = {"ipc": [1, 2]}
    settings = {"cv": 2, "error_score": "raise"}
    expected = GridSearchCV(distiller, grid, **settings).fit(*data)
    distiller = clone(distiller).set_params(**{name: tmp_path / "run"})
    begun = count(monkeypatch)
    for n_matches in (15, 0 if name == "checkpoint" else 15):
        found = GridSearchCV(distiller, grid, **settings).fit(*data)
        for split in ("split0_test_score", "split1_test_score"):
            scores = found.cv_results_[split]
            assert scores.tolist() == expected.cv_results_[split].tolist()
        # The second time all is there: 2 folds of 2 settings and the refit.
        n_probes = 2 if isinstance(distiller, STMDistiller) else 1
        assert len(begun) in (n_matches, n_matches * n_probes)
        begun.clear()
    folders = [path for path in (tmp_path / "run").iterdir() if path.name != "teachers"]
    # Teachers are those of the folds and of the refit, whatever the setting.
    assert len(folders) == (5 if name == "checkpoint" else 3)
    if name == "checkpoint":
        assert len(list((tmp_path / "run" / "teachers").iterdir())) == 3
    # The user's own fits have the folder that they name, and refuse that of others.
    distiller.fit(*data)
    with pytest.raises(ValueError, match="holds"):
        clone(distiller).fit(data[0][:8], data[1][:8])


def test_folders_of_a_search_side_by_side(data, tmp_path):
    one = clone(STM).set_params(checkpoint=tmp_path / "run")
    model = make_pipeline(ChannelScaler(), DistilledClassifier(one, NETWORK))
    with parallel_config(backend="threading", n_jobs=2):
        found = cross_val_score(model, *data, cv=2, error_score="raise")
    assert np.isfinite(found).all()


def test_the_file_of_a_reader_is_refused_in_a_search(tmp_path):
    rows = []
    for number in range(8):
        rows.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(rows[-1])
    y = np.arange(8) % 2
    model = make_pipeline(ImageReader(size=4, out=tmp_path / "X.npy"), NETWORK)
    with pytest.raises(ValueError, match=r"Read the images once"):
        cross_val_score(model, rows, y, cv=2)
    assert not (tmp_path / "X.npy").exists()
    assert model.fit(rows, y).predict(rows).shape == (8,)
