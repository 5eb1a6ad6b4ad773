"""What distillers by trajectory matching share: teachers, students, soft labels."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

import skdistill.distillation._objectives._trajectory as matcher_module
import skdistill.distillation._student as student_module
import skdistill.distillation._teachers as teachers_module
from skdistill.neural_network import ConvNetClassifier
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.trajectory import TrajectoryBuffer


def tiny_network(**changes):
    return ConvNetClassifier(
        **({"width": 8, "depth": 2, "max_iter": 5, "random_state": 0} | changes)
    )


# Its teachers


def test_fitted_buffer_is_used_as_it_is(make_distiller, teachers, bars):
    distiller = make_distiller().fit(*bars)
    assert distiller.buffer_ is teachers


def test_unfitted_buffer_is_cloned_and_trained(make_distiller, make_teachers, bars):
    buffer = make_teachers(n_epochs=2)
    distiller = make_distiller(buffer=buffer).fit(*bars)
    assert not hasattr(buffer, "history_")
    assert distiller.buffer_.get_params() == buffer.get_params()
    expected = make_teachers(n_epochs=2).fit(*bars)
    assert np.array_equal(distiller.buffer_.snapshot(1, 2), expected.snapshot(1, 2))


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_path_is_loaded(
    make_distiller, make_teachers, bars, tmp_path, kind, monkeypatch
):
    make_teachers(path=tmp_path).fit(*bars)
    in_memory = make_distiller().fit(*bars)

    def train(*args):
        raise AssertionError("teachers were trained")

    monkeypatch.setattr(TrajectoryBuffer, "fit", train)
    distiller = make_distiller(buffer=kind(tmp_path)).fit(*bars)
    assert distiller.buffer_.n_teachers == 2
    assert np.array_equal(distiller.synthetic_.X, in_memory.synthetic_.X)


def test_path_without_buffer(make_distiller, bars, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no trajectory buffer"):
        make_distiller(buffer=tmp_path).fit(*bars)


def test_no_buffer_trains_a_default_one(make_distiller, bars, monkeypatch):
    given = {}

    def small(**parameters):
        given.update(parameters)
        return TrajectoryBuffer(
            n_teachers=1,
            n_epochs=2,
            width=4,
            depth=1,
            augmentation=parameters.get("augmentation", "dsa"),
        )

    monkeypatch.setattr(teachers_module, "TrajectoryBuffer", small)
    distiller = make_distiller(buffer=None, augmentation=["flip"]).fit(*bars)
    assert distiller.buffer is None
    assert len(distiller.buffer_.history_) == 2
    assert given["augmentation"] == ["flip"]
    assert given["device"] == "cpu"


def test_teachers_follow_the_random_state_too(make_distiller, make_teachers, bars):
    distiller = make_distiller(buffer=make_teachers(random_state=None, n_epochs=2))
    first, again = (distiller.fit(*bars).buffer_.snapshot(0, 1) for _ in range(2))
    assert np.array_equal(first, again)
    distiller.set_params(random_state=1)
    assert not np.array_equal(distiller.fit(*bars).buffer_.snapshot(0, 1), first)


def test_unfitted_buffer_with_a_path_resumes(
    make_distiller, make_teachers, bars, tmp_path
):
    """Whatever the distiller's seed, teachers that are on disk are taken on."""
    buffer = make_teachers(path=tmp_path, random_state=None, n_epochs=2)
    first = make_distiller(buffer=buffer).fit(*bars)
    again = make_distiller(buffer=buffer, random_state=1).fit(*bars)
    assert np.array_equal(first.buffer_.snapshot(0, 2), again.buffer_.snapshot(0, 2))


def test_buffer_with_other_parameters_than_it_was_fitted_with(
    make_distiller, make_teachers, bars
):
    """Only what was trained is drawn from."""
    buffer = make_teachers(n_epochs=2).fit(*bars)
    buffer.set_params(n_teachers=50)
    distiller = make_distiller(buffer=buffer, max_total_iter=10).fit(*bars)
    assert distiller.history_["teacher"].isin([0, 1]).all()


def test_other_data_than_the_teachers_saw_are_warned_of(make_distiller, bars):
    X, y = bars
    with pytest.warns(UserWarning, match="`buffer` was fitted on different images"):
        make_distiller(max_total_iter=1).fit(X[:30], y[:30])


@pytest.mark.parametrize("trained", [False, True])
def test_fit_moves_nothing_but_the_distiller(
    make_distiller, make_teachers, bars, trained
):
    X, y = (array.copy() for array in bars)
    buffer = make_teachers(n_epochs=2)
    if trained:
        buffer.fit(X, y)
    distiller = make_distiller(buffer=buffer, batch_size=2)
    parameters = distiller.get_params()
    attributes = set(vars(buffer))
    n_threads = torch.get_num_threads()
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    distiller.fit(X, y)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.get_num_threads() == n_threads
    after = distiller.get_params()
    assert all(after[name] is value for name, value in parameters.items())
    assert set(vars(buffer)) == attributes
    assert np.array_equal(X, bars[0])
    assert np.array_equal(y, bars[1])


def test_unit_of_the_pixels_does_not_matter(make_distiller, make_teachers, bars):
    X, y = bars
    found = []
    # The epsilon of the normalization, 1e-5, knows the unit; beside it the variance of
    # these pixels is large in either.
    for unit in (10, 10_000):
        unit = np.float32(unit)
        distiller = make_distiller(buffer=make_teachers(n_epochs=2), max_total_iter=6)
        found.append(distiller.fit(unit * X, y).synthetic_.X / unit)
    start = make_distiller(pixel_lr=1e-30).fit(X, y).synthetic_.X
    moved = np.abs(found[0] - start).mean()
    assert moved > 0.01
    assert np.abs(found[0] - found[1]).mean() < 1e-3 * moved


@pytest.mark.usefixtures("forbid_training")
class TestErrorsBeforeTraining:
    def test_buffer_of_other_images(self, make_distiller, bars):
        X, y = bars
        with pytest.raises(
            ValueError, match=r"`buffer` .*shape \(16, 16, 3\).*\(15, 16, 3\)"
        ):
            make_distiller().fit(X[:, :15], y)

    def test_buffer_of_other_classes(self, make_distiller, bars):
        X, y = bars
        with pytest.raises(
            ValueError, match=r"`buffer` .*classes \[0, 1, 2\].*\[1, 2, 3\]"
        ):
            make_distiller().fit(X, y + 1)
        keep = y < 2
        with pytest.raises(
            ValueError, match=r"`buffer` .*classes \[0, 1, 2\].*\[0, 1\]"
        ):
            make_distiller().fit(X[keep], y[keep])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"n_steps": 0}, r"'n_steps' parameter"),
            ({"step_size": 0.0}, r"'step_size' parameter"),
            ({"gradient": "rough"}, r"'gradient' parameter"),
            ({"labels": "soft"}, r"'labels' parameter"),
            ({"label_lr": 0.0}, r"'label_lr' parameter"),
            ({"keep_activations": "no"}, r"'keep_activations' parameter"),
            ({"buffer": 3}, r"'buffer' parameter"),
            ({"augmentation": "mixup"}, r"`augmentation` must be .*'mixup'"),
            ({"augmentation": ["flip", "mixup"]}, r"`augmentation` must .*'mixup'"),
        ],
    )
    def test_bad_parameters(self, make_distiller, bars, changes, message):
        with pytest.raises(ValueError, match=message):
            make_distiller(**changes).fit(*bars)


# Step sizes, when numbers go wrong


def test_step_size_is_halved_with_each_roll_back(make_tiny, tiny_bars, spoil_matches):
    """Also where one follows another, from the one good state."""
    good = make_tiny(max_total_iter=10).fit(*tiny_bars)

    def change(iteration, result):
        if iteration in (12, 13):
            return result._replace(images=torch.full_like(result.images, np.nan))
        return result

    spoil_matches(change)
    distiller = make_tiny(max_total_iter=15).fit(*tiny_bars)
    events = [""] * 12 + ["rolled back"] * 2 + [""]
    assert distiller.history_["event"].tolist() == events
    size = good.synthetic_.step_size
    used = distiller.history_["step_size"]
    assert used[13] == pytest.approx(size / 2, rel=1e-6)
    assert used[14] == pytest.approx(size / 4, rel=1e-6)


@pytest.mark.parametrize("where", ["targets", "log_step_size"])
def test_derivative_that_is_not_finite_is_rolled_back(
    make_tiny, tiny_bars, spoil_matches, where
):
    def change(iteration, result):
        if iteration != 1:
            return result
        broken = getattr(result, where).clone()
        broken.view(-1)[-1] = np.nan
        return result._replace(**{where: broken})

    spoil_matches(change)
    distiller = make_tiny(labels="learned", max_total_iter=3).fit(*tiny_bars)
    assert distiller.history_["event"].tolist() == ["", "rolled back", ""]
    assert np.isfinite(distiller.synthetic_.X).all()
    assert np.isfinite(distiller.synthetic_.probabilities).all()
    assert np.isfinite(distiller.step_sizes_).all()


# Soft labels


def test_learned_labels_are_probabilities_that_move(make_tiny, tiny_bars):
    start = make_tiny(labels="learned", label_lr=1e-30, max_total_iter=1)
    start = start.fit(*tiny_bars).synthetic_
    # Nearly certain at first, and the rest is the same for all others.
    certain = np.eye(3)[start.y]
    np.testing.assert_allclose(
        start.probabilities, np.where(certain, 0.9, 0.05), rtol=1e-5
    )
    distiller = make_tiny(labels="learned", max_total_iter=30).fit(*tiny_bars)
    found = distiller.synthetic_.probabilities
    assert found.shape == (3, 3)
    assert found.dtype == np.float32
    assert (found > 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert np.abs(found - start.probabilities).max() > 0.01
    assert distiller.best_synthetic_.probabilities.shape == (3, 3)
    assert make_tiny().fit(*tiny_bars).synthetic_.probabilities is None


def test_learned_labels_go_down_the_gradient(make_tiny, tiny_bars, spoil_matches):
    """A gradient that always says the same ends in labels that do."""
    wanted = np.array([1, 2, 0])

    def change(iteration, result):
        towards = torch.zeros(3, 3)
        towards[torch.arange(3), wanted] = -1.0
        return result._replace(targets=towards)

    spoil_matches(change)
    distiller = make_tiny(labels="learned", label_lr=5.0, max_total_iter=40)
    found = distiller.fit(*tiny_bars).synthetic_
    assert found.probabilities.argmax(axis=1).tolist() == wanted.tolist()
    assert found.y.tolist() == [0, 1, 2]


def test_students_see_the_learned_labels(make_tiny, tiny_bars, monkeypatch):
    seen = []
    real = matcher_module.match_gradient

    def spy(network, start, end, images, targets, *args, **kwargs):
        seen.append(targets.numpy().copy())
        return real(network, start, end, images, targets, *args, **kwargs)

    monkeypatch.setattr(matcher_module, "match_gradient", spy)
    make_tiny(labels="learned", max_total_iter=2).fit(*tiny_bars)
    np.testing.assert_allclose(seen[0], np.where(np.eye(3), 0.9, 0.05), rtol=1e-5)
    assert not np.array_equal(seen[0], seen[1])
    seen.clear()
    make_tiny(max_total_iter=2).fit(*tiny_bars)
    assert all(np.array_equal(targets, np.eye(3)) for targets in seen)


def test_score_uses_the_learned_labels(make_tiny, tiny_bars):
    X, y = tiny_bars
    network = tiny_network(max_iter=20)
    distiller = make_tiny(labels="learned", estimator=network).fit(X, y)
    flipped = distiller.synthetic_.probabilities[:, [1, 2, 0]]
    distiller.synthetic_.probabilities = np.ascontiguousarray(flipped)
    expected = clone(network).fit_probabilities(
        distiller.synthetic_.X, flipped, distiller.classes_
    )
    assert distiller.score(X, y) == expected.score(X, y)
    flat = distiller.set_params(
        image_shape=(8, 8, 1), estimator=network.set_params(image_shape=(8, 8, 1))
    )
    assert flat.score(X.reshape(len(X), -1), y) == expected.score(X, y)


# As a part of scikit-learn


def test_flat_images_in_flat_images_out(make_distiller, make_teachers, bars):
    X, y = bars
    images, labels = make_distiller().fit_resample(X, y)
    flat = X.reshape(len(X), -1)
    distiller = make_distiller(image_shape=(16, 16, 3))
    flat_images, flat_labels = distiller.fit_resample(flat, y)
    assert images.shape == (3, 16, 16, 3)
    assert np.array_equal(flat_images, images.reshape(3, -1))
    assert labels.tolist() == flat_labels.tolist() == [0, 1, 2]
    network = tiny_network(image_shape=(16, 16, 3))
    distiller.set_params(estimator=network)
    assert 0 <= distiller.score(flat, y) <= 1


def test_score_is_that_of_the_estimator(make_distiller, bars):
    X, y = bars
    network = tiny_network(max_iter=20)
    distiller = make_distiller(estimator=network).fit(X, y)
    expected = clone(network).fit(*distiller.synthetic_).score(X, y)
    assert distiller.score(X, y) == expected
    assert not hasattr(network, "classes_")


def test_default_network_of_score_is_that_of_the_teachers(make_distiller, bars):
    distiller = make_distiller(augmentation=["flip"]).fit(*bars)
    network = distiller._default_estimator()
    assert (network.width, network.depth) == (8, 2)
    assert network.augmentation == ["flip"]
    assert network.learning_rate == distiller.synthetic_.step_size


def test_score_needs_a_fit(make_distiller, bars):
    with pytest.raises(NotFittedError):
        make_distiller().score(*bars)


def test_score_does_not_depend_on_the_images_it_is_for(make_tiny, tiny_bars):
    """The best set is chosen by what the fit saw."""
    X, y = tiny_bars
    distiller = make_tiny(max_total_iter=20, estimator=tiny_network()).fit(X, y)
    before = distiller.best_synthetic_.X.copy()
    distiller.score(X[:5], y[:5])
    assert np.array_equal(distiller.best_synthetic_.X, before)


def test_grid_search(make_distiller, make_teachers, bars):
    distiller = make_distiller(
        buffer=make_teachers(n_epochs=2),
        max_total_iter=2,
        estimator=tiny_network(),
    )
    search = GridSearchCV(distiller, {"ipc": [1, 2]}, cv=2, error_score="raise")
    search.fit(*bars)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    ipc = search.best_params_["ipc"]
    assert len(search.best_estimator_.synthetic_) == 3 * ipc


# How it does so


def test_detached_gradient_is_another_way(make_distiller, bars):
    exact = make_distiller().fit(*bars).synthetic_.X
    detached = make_distiller(gradient="detached").fit(*bars).synthetic_.X
    assert np.isfinite(detached).all()
    assert not np.allclose(exact, detached)


def spy_on_keeping(monkeypatch):
    """Collect whether the maps of the steps were kept, once per iteration."""
    kept = []
    real = matcher_module.match_gradient

    def spy(*args, keep, **kwargs):
        kept.append(keep)
        return real(*args, keep=keep, **kwargs)

    monkeypatch.setattr(matcher_module, "match_gradient", spy)
    return kept


@pytest.mark.parametrize("gradient", ["exact", "detached"])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_activations_that_are_kept_do_not_change_the_images(
    make_distiller, bars, monkeypatch, gradient, batch_size
):
    kept = spy_on_keeping(monkeypatch)
    recomputed, other = (
        make_distiller(
            ipc=2, gradient=gradient, batch_size=batch_size, keep_activations=keep
        ).fit(*bars)
        for keep in (False, True)
    )
    assert kept == [False] * 4 + [True] * 4
    np.testing.assert_allclose(
        other.synthetic_.X, recomputed.synthetic_.X, rtol=1e-5, atol=1e-5
    )
    assert other.synthetic_.step_size == pytest.approx(
        recomputed.synthetic_.step_size, rel=1e-5
    )
    numbers = [
        fit.history_.drop(columns="event").to_numpy(float)
        for fit in (other, recomputed)
    ]
    np.testing.assert_allclose(*numbers, rtol=1e-4)


@pytest.mark.parametrize(("one_step", "expected"), [(100, True), (101, False)])
def test_activations_are_kept_where_those_of_all_steps_fit(
    make_tiny, tiny_bars, monkeypatch, one_step, expected
):
    asked = []

    def tape_bytes(self, n_images):
        asked.append(n_images)
        return one_step

    kept = spy_on_keeping(monkeypatch)
    monkeypatch.setattr(student_module, "_MAX_KEPT_BYTES", 500)
    monkeypatch.setattr(ConvNetDerivatives, "tape_bytes", tape_bytes)
    make_tiny(n_steps=5, max_total_iter=2, ipc=4, batch_size=7).fit(*tiny_bars)
    assert kept == [expected] * 2
    assert set(asked) == {7}


def test_float64_as_default_type_is_no_obstacle(make_distiller, make_teachers, bars):
    def distil():
        distiller = make_distiller(buffer=make_teachers(), max_total_iter=3).fit(*bars)
        return distiller.buffer_.snapshot(0, 1), distiller.synthetic_

    snapshot, synthetic = distil()
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        other_snapshot, other = distil()
    finally:
        torch.set_default_dtype(default)
    # The initial weights are drawn in the default type.
    assert other_snapshot.dtype == snapshot.dtype == np.float32
    assert other.X.shape == synthetic.X.shape
    assert np.isfinite(other.X).all()


@pytest.mark.gpu
def test_gpu_distills_as_the_cpu_does(make_distiller, make_teachers, bars):
    buffer = make_teachers(n_epochs=2).fit(*bars)
    losses = [
        make_distiller(buffer=buffer, max_total_iter=3, device=device)
        .fit(*bars)
        .history_["loss"]
        for device in ("cpu", "auto")
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-2)


@pytest.mark.parametrize(
    ("ipc", "batch_size", "expected"),
    [
        # Three classes; at most 32 images at once.
        (1, "auto", {3}),
        (10, "auto", {30}),
        (11, "auto", {17, 16}),
        (22, "auto", {22}),
        (11, None, {33}),
        (11, 30, {30, 3}),
        (3, 30, {9}),
    ],
)
def test_batches_of_synthetic_images(
    make_tiny, tiny_bars, monkeypatch, ipc, batch_size, expected
):
    sizes = set()
    real = matcher_module.match_gradient

    def spy(network, start, target, images, targets, log_step_size, steps, **kwargs):
        sizes.update(len(images if s.batch is None else s.batch) for s in steps)
        return real(
            network, start, target, images, targets, log_step_size, steps, **kwargs
        )

    monkeypatch.setattr(matcher_module, "match_gradient", spy)
    # These images are small; as if they were of 32x32 pixels.
    monkeypatch.setattr(student_module, "_AUTO_PIXELS", 32 * 8 * 8)
    parameters = {} if batch_size == "auto" else {"batch_size": batch_size}
    make_tiny(ipc=ipc, init="noise", n_steps=4, max_total_iter=1, **parameters).fit(
        *tiny_bars
    )
    assert sizes == expected
