"""Callbacks by scikit-learn's protocol."""

import itertools

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    Herding,
    MTTDistiller,
    RandomSubset,
    STMDistiller,
    TrajectoryBuffer,
    ZCAWhitener,
)
from skdistill.utils._callbacks import FitTasks

callback = pytest.importorskip(
    "sklearn.callback", reason="this version of scikit-learn has no callbacks"
)


class Recorder:
    """Write down what happens, and stop at the end of a step if it is told to."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.events = []
        self.scores = []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(f"begin {context.task_name} {context.task_id}")

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, fitted_estimator=None
    ):
        self.events.append(f"end {context.task_name} {context.task_id}")
        if hasattr(fitted_estimator, "score"):
            self.scores.append(fitted_estimator.score(X, y))
        return context.task_name != "fit" and context.task_id == self.stop_after


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 6, 6, 1)).astype(np.float32)
    y = np.arange(12) % 2
    X[y == 1, 2:4] += 2
    return X, y


NETWORK = ConvNetClassifier(width=4, depth=1, max_iter=4, device="cpu", random_state=0)
TEACHERS = TrajectoryBuffer(
    n_teachers=3, n_epochs=2, width=4, depth=1, device="cpu", random_state=0
)
SHORT = {
    "buffer": TEACHERS,
    "n_steps": 2,
    "estimator": NETWORK,
    "device": "cpu",
    "random_state": 0,
}
STM = STMDistiller(max_total_iter=4, **SHORT)
MTT = MTTDistiller(max_iter=4, max_start_epoch=1, n_target_epochs=1, **SHORT)


def steps(name, n_steps):
    return [
        f"{what} {name} {number}"
        for number in range(n_steps)
        for what in ("begin", "end")
    ]


@pytest.mark.parametrize(
    ("estimator", "name", "n_steps"),
    [(NETWORK, "epoch", 4), (STM, "iteration", 4), (MTT, "iteration", 4)],
    ids=lambda value: type(value).__name__,
)
def test_all_that_happens_is_told(estimator, name, n_steps, data):
    recorder = Recorder()
    estimator = clone(estimator).set_callbacks(recorder).fit(*data)
    expected = ["begin fit 0", *steps(name, n_steps), "end fit 0"]
    assert recorder.events == ["setup", *expected, "teardown"]
    # A second fit is told of as the first.
    estimator.fit(*data)
    assert recorder.events == 2 * ["setup", *expected, "teardown"]


@pytest.mark.parametrize("estimator", [NETWORK, STM, MTT])
def test_scores_are_those_of_a_fit_that_ends_there(estimator, data):
    recorder = Recorder()
    clone(estimator).set_callbacks(recorder).fit(*data)
    # After each step, and after all.
    assert len(recorder.scores) == 5
    name = {"ConvNetClassifier": "max_iter", "STMDistiller": "max_total_iter"}
    limit = name.get(type(estimator).__name__, "max_iter")
    assert (
        recorder.scores[3]
        == recorder.scores[4]
        == clone(estimator).fit(*data).score(*data)
    )
    if estimator is not NETWORK:  # whose rate depends on the number of epochs
        shorter = clone(estimator).set_params(**{limit: 2}).fit(*data)
        assert recorder.scores[1] == shorter.score(*data)


@pytest.mark.parametrize("estimator", [STM, MTT], ids=["STM", "MTT"])
def test_callback_stops_a_distillation(estimator, data, tmp_path):
    stopped = clone(estimator).set_params(checkpoint=tmp_path)
    stopped.set_callbacks(Recorder(stop_after=1)).fit(*data)
    assert stopped.stop_reason_ == "callback"
    assert stopped.n_iter_ == 2
    # The same fit without the callback goes on from there.
    found = clone(estimator).set_params(checkpoint=tmp_path).fit(*data)
    expected = clone(estimator).fit(*data)
    assert found.n_iter_ == 4
    assert np.array_equal(found.synthetic_.X, expected.synthetic_.X)


def test_callback_stops_a_training(data):
    network = clone(NETWORK).set_callbacks(Recorder(stop_after=1)).fit(*data)
    assert network.n_iter_ == 2
    assert network.predict(data[0]).shape == (12,)


def test_results_are_the_same_with_and_without(data):
    for estimator in (NETWORK, STM):
        one = clone(estimator).fit(*data)
        other = clone(estimator).set_callbacks(Recorder()).fit(*data)
        assert one.score(*data) == other.score(*data)


def test_scoring_monitor(data):
    monitor = callback.ScoringMonitor(scoring="accuracy")
    clone(NETWORK).set_callbacks(monitor).fit(*data)
    logs = monitor.get_logs().data_as_pandas
    assert len(logs) >= 4
    assert logs["accuracy"].between(0, 1).all()


def test_callbacks_of_what_is_nested(data):
    """Clones keep them: each tells of its own fits."""
    recorder = Recorder()
    network = clone(NETWORK).set_callbacks(recorder)
    DistilledClassifier(STM, network).fit(*data)
    assert recorder.events.count("end fit 0") == 1


class Propagated(Recorder):
    """Go with all that is fitted inside."""

    max_propagation_depth = None

    def setup(self, estimator, context):
        self.names = []

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "fit":
            self.names.append(type(estimator).__name__)


@pytest.mark.filterwarnings("error:.*does not support callbacks")
def test_callbacks_of_a_pipeline_reach_all_that_is_in_it(data):
    recorder = Propagated()
    steps = [ChannelScaler(), ZCAWhitener(), DistilledClassifier(STM, NETWORK)]
    pipeline = make_pipeline(*map(clone, steps)).set_callbacks(recorder)
    pipeline.fit(*data)
    expected = [type(step).__name__ for step in steps]
    inside = ["STMDistiller", "ConvNetClassifier"]
    # The pipeline's steps are told of under names of their own.
    found = [name for name in recorder.names if name != "Pipeline"]
    assert found == [*expected, *inside]
    one = pipeline.predict_proba(data[0])
    other = clone(pipeline).set_callbacks().fit(*data).predict_proba(data[0])
    assert np.array_equal(one, other)


def test_no_callbacks_cost_nothing(data):
    tasks = FitTasks(clone(NETWORK), "epoch", 3, *data)
    tasks.begin_step()
    assert tasks.end_step(pytest.fail) is False
    with tasks.hand_on(clone(NETWORK)):
        pass
    tasks.end()


class Numbers(Recorder):
    """Keep the metadata of each task that has any."""

    def __init__(self):
        self.rows = {}
        self.fitted = []

    def setup(self, estimator, context):
        pass

    teardown = setup

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(
        self, estimator, context, *, metadata=None, fitted_estimator=None
    ):
        if metadata is not None:
            self.rows.setdefault(context.task_name, []).append(metadata)
        if context.task_name == "iteration":
            self.fitted.append(fitted_estimator)


@pytest.mark.parametrize("estimator", [STM, MTT], ids=["STM", "MTT"])
def test_numbers_of_each_iteration(estimator, data):
    numbers = Numbers()
    distiller = clone(estimator).set_callbacks(numbers).fit(*data)
    rows = numbers.rows["iteration"]
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4]
    names = ["loss", "step_size", "teacher"]
    if isinstance(distiller, STMDistiller):
        names.append("n_epochs_matched")
    for name in names:
        assert [row[name] for row in rows] == distiller.history_[name].tolist()
    assert all(row["pixel_lr"] > 0 for row in rows)
    assert {type(value) for row in rows for value in row.values()} <= {int, float}
    # The set so far, and its history.
    last = numbers.fitted[-1]
    assert np.array_equal(last.synthetic_.X, distiller.synthetic_.X)
    assert last.history_.equals(distiller.history_)
    assert [len(one.history_) for one in numbers.fitted] == [1, 2, 3, 4]


def test_learned_labels_have_a_learning_rate(data):
    numbers = Numbers()
    learned = clone(STM).set_params(labels="learned", label_lr=0.25, pixel_lr=2.0)
    learned.set_callbacks(numbers).fit(*data)
    row = numbers.rows["iteration"][0]
    assert (row["label_lr"], row["pixel_lr"]) == (0.25, 2.0)


def test_numbers_of_each_epoch(data):
    numbers = Numbers()
    network = clone(NETWORK).set_callbacks(numbers).fit(*data)
    rows = numbers.rows["epoch"]
    assert [row["loss"] for row in rows] == network.loss_curve_
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["learning_rate"] for row in rows] == [0.01, 0.01, 0.001, 0.001]


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("path", [False, True])
def test_numbers_of_teachers_epochs(n_jobs, path, data, tmp_path):
    numbers = Numbers()
    buffer = clone(TEACHERS).set_params(path=tmp_path if path else None)
    buffer.set_callbacks(numbers)
    with parallel_config(backend="threading"):
        buffer.set_params(n_jobs=n_jobs).fit(*data)
    told = pd.DataFrame(numbers.rows["epoch"]).sort_values(["teacher", "epoch"])
    history = buffer.history_
    assert told["teacher"].tolist() == history["teacher"].tolist()
    assert told["epoch"].tolist() == history["epoch"].tolist()
    assert told["loss"].tolist() == history["loss"].tolist()
    assert sorted(row["teacher"] for row in numbers.rows["teacher"]) == [0, 1, 2]


def test_epochs_of_teachers_are_told_of_as_they_end(data):
    recorder = Recorder()
    clone(TEACHERS).set_callbacks(recorder).fit(*data)
    teacher = [
        [f"begin teacher {number}", *steps("epoch", 2), f"end teacher {number}"]
        for number in range(3)
    ]
    expected = ["begin fit 0", *itertools.chain(*teacher), "end fit 0"]
    assert recorder.events == ["setup", *expected, "teardown"]


BASELINES = [
    RandomSubset(estimator=NETWORK, random_state=0),
    Herding(estimator=NETWORK),
]


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss"])
@pytest.mark.parametrize(
    ("estimator", "n_scores"),
    [(STM, 5), (MTT, 5), *[(one, 1) for one in BASELINES]],
    ids=lambda value: type(value).__name__,
)
def test_scoring_monitor_of_a_distiller(estimator, n_scores, scoring, data):
    """Beside a logger, whose numbers are no arguments of a scorer."""
    monitor, numbers = callback.ScoringMonitor(scoring=scoring), Numbers()
    distiller = clone(estimator).set_callbacks(monitor, numbers).fit(*data)
    scores = monitor.get_logs().data_as_pandas[scoring]
    assert len(scores) == n_scores
    if scoring == "neg_log_loss":
        assert (scores < 0).all()
    else:
        assert distiller.score(*data) in scores.tolist()
    # What callbacks are given can predict; a distiller cannot.
    assert not hasattr(distiller, "predict")


def test_scoring_monitor_of_a_distilled_classifier(data):
    monitor = callback.ScoringMonitor(scoring=["accuracy", "balanced_accuracy"])
    model = DistilledClassifier(clone(STM), clone(NETWORK)).set_callbacks(monitor)
    model.fit(*data)
    logs = monitor.get_logs().data_as_pandas
    assert logs["accuracy"].tolist() == [model.score(*data)]
    pipeline = make_pipeline(ChannelScaler(), clone(model)).fit(*data)
    assert len(monitor.get_logs().data_as_pandas) == 1
    assert pipeline.predict(data[0]).shape == (12,)


@pytest.mark.parametrize("estimator", [TEACHERS, ChannelScaler(), ZCAWhitener()])
def test_scoring_monitor_of_what_predicts_nothing(estimator, data):
    one = clone(estimator).set_callbacks(callback.ScoringMonitor(scoring="accuracy"))
    with pytest.raises(TypeError, match="set it on the distiller or the classifier"):
        one.fit(*data)
    assert not hasattr(one, "history_")


class Failing(Recorder):
    """Raise an error at the end of a task."""

    def __init__(self, name, number):
        super().__init__()
        self.name, self.number = name, number

    def on_fit_task_end(self, estimator, context):
        if (context.task_name, context.task_id) == (self.name, self.number):
            raise OSError("no room for a log")


def fails(estimator, data, name, number):
    """Fit with a callback that fails, and return what the error says."""
    estimator.set_callbacks(Failing(name, number))
    with pytest.raises(OSError, match="no room") as caught:
        estimator.fit(*data)
    estimator.set_callbacks()
    return " ".join(caught.value.__notes__)


@pytest.mark.parametrize("estimator", [STM, MTT], ids=["STM", "MTT"])
def test_a_callback_that_fails_costs_no_work(estimator, data, tmp_path):
    expected = clone(estimator).fit(*data)
    distiller = clone(estimator).set_params(checkpoint=tmp_path)
    said = fails(distiller, data, "iteration", 2)
    assert "Raised by a callback at the end of iteration 2" in said
    assert f"The 2 iterations before this are stored in {tmp_path}" in said
    assert "`synthetic_` holds the images after 2 iterations" in said
    assert distiller.n_iter_ == len(distiller.history_) == 2
    assert np.array_equal(distiller.fit(*data).synthetic_.X, expected.synthetic_.X)
    assert distiller.n_iter_ == 4
    # The same without a checkpoint, and where all is done.
    plain = clone(estimator)
    fails(plain, data, "iteration", 3)
    assert len(plain.synthetic_.X) == 2
    fails(plain, data, "fit", 0)
    assert np.array_equal(plain.synthetic_.X, expected.synthetic_.X)


def test_a_callback_that_fails_keeps_a_network(data):
    network = clone(NETWORK)
    fails(network, data, "epoch", 1)
    assert network.n_iter_ == 2
    assert network.predict(data[0]).shape == (12,)


def test_a_callback_that_fails_keeps_teachers(data, tmp_path):
    buffer = clone(TEACHERS).set_params(path=tmp_path)
    fails(buffer, data, "teacher", 1)
    done = list(tmp_path.glob("teacher*"))
    assert len(done) >= 2
    buffer.fit(*data)
    expected = clone(TEACHERS).fit(*data)
    assert buffer.history_.equals(expected.history_)


def test_what_a_callback_does_not_like_shows_before_the_work(data, monkeypatch):
    class Picky(Recorder):
        def setup(self, estimator, context):
            raise ValueError("not this one")

    monkeypatch.setattr(TrajectoryBuffer, "fit", pytest.fail)
    with pytest.raises(ValueError, match="not this one"):
        clone(STM).set_callbacks(Picky()).fit(*data)
