"""Callbacks by scikit-learn's protocol."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    MTTDistiller,
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
    [(NETWORK, "epoch", 4), (TEACHERS, "teacher", 3), (STM, "iteration", 4)],
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
