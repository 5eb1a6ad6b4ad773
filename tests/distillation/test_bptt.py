import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

import skdistill.distillation._objectives._meta_loss as meta_module
from skdistill import BPTTDistiller, ConvNetClassifier, RandomSubset
from skdistill.distillation._objectives._inner_optimizers import InnerAdam, InnerSGD
from skdistill.synthetic import SyntheticSet


@pytest.fixture
def make_distiller():
    """Make a distiller of a few iterations of small networks."""

    def make(**changes):
        settings = {
            "n_steps": 4,
            "window": 2,
            "width": 4,
            "depth": 1,
            "max_iter": 4,
            "random_state": 0,
            "device": "cpu",
        }
        return BPTTDistiller(**(settings | changes))

    return make


@pytest.fixture
def unrolled(monkeypatch):
    """Note the arguments of each training."""
    noted = []
    real = meta_module.unroll

    def spy(network, start, images, targets, log_step_size, steps, **options):
        noted.append(
            {"start": start, "steps": steps, "step_size": float(log_step_size.exp())}
            | options
        )
        return real(network, start, images, targets, log_step_size, steps, **options)

    monkeypatch.setattr(meta_module, "unroll", spy)
    return noted


@pytest.mark.filterwarnings("ignore:networks that were trained")
def test_attributes(make_distiller, tiny_bars):
    distiller = make_distiller(ipc=2, max_iter=12).fit(*tiny_bars)
    assert isinstance(distiller.synthetic_, SyntheticSet)
    assert isinstance(distiller.best_synthetic_, SyntheticSet)
    assert distiller.synthetic_.X.shape == (6, 8, 8, 1)
    assert distiller.synthetic_.metadata["distiller"] == "BPTTDistiller"
    assert distiller.n_iter_ == 12
    assert distiller.n_networks_ == 1
    assert distiller.stop_reason_ == "max_iter"
    columns = ["window_start", "loss", "network_accuracy", "step_size", "event"]
    assert distiller.history_.columns.tolist() == columns
    assert distiller.history_.notna().all(axis=None)
    assert distiller.history_["window_start"].isin([0, 1, 2]).all()
    assert distiller.history_["network_accuracy"].between(0, 1).all()
    assert 0 <= distiller.score(*tiny_bars) <= 1


def test_step_size_of_adam_is_not_that_of_other_networks(make_distiller, tiny_bars):
    adam = make_distiller().fit(*tiny_bars)
    assert adam.step_size_ == pytest.approx(0.001)
    assert adam.synthetic_.step_size is None
    sgd = make_distiller(optimizer="sgd", momentum=0.5).fit(*tiny_bars)
    assert sgd.step_size_ == sgd.synthetic_.step_size == pytest.approx(0.01)
    network = sgd._default_estimator()
    assert network.learning_rate == sgd.step_size_
    assert (network.momentum, network.width, network.depth) == (0.5, 4, 1)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_step_size_is_learned_on_demand(make_distiller, tiny_bars, optimizer):
    parameters = {"optimizer": optimizer, "step_size": 0.02}
    fixed = make_distiller(**parameters).fit(*tiny_bars)
    assert fixed.history_["step_size"].nunique() == 1
    learned = make_distiller(step_size_lr=0.1, **parameters).fit(*tiny_bars)
    assert learned.history_["step_size"].nunique() == 4
    assert learned.step_size_ != pytest.approx(0.02)


def test_each_network_is_another(make_distiller, tiny_bars, unrolled):
    make_distiller(n_networks=2).fit(*tiny_bars)
    starts = [tuple(one["start"].tolist()) for one in unrolled]
    assert len(set(starts)) == 8


def test_default_window_and_step_size(make_distiller, tiny_bars, unrolled):
    make_distiller(n_steps=3, window="auto", max_iter=1).fit(*tiny_bars)
    make_distiller(n_steps=62, window="auto", position="last", max_iter=1).fit(
        *tiny_bars
    )
    make_distiller(optimizer="sgd", weight_decay=0.1, max_iter=1).fit(*tiny_bars)
    assert [one["window"] for one in unrolled] == [3, 60, 2]
    assert [len(one["steps"]) for one in unrolled[:2]] == [3, 62]
    assert [type(one["optimizer"]) for one in unrolled] == [InnerAdam] * 2 + [InnerSGD]
    assert unrolled[2]["optimizer"].momentum == 0.9
    assert unrolled[2]["optimizer"].weight_decay == 0.1


@pytest.mark.filterwarnings("ignore:networks that were trained")
@pytest.mark.parametrize(
    ("position", "n_steps"), [("first", {2}), ("last", {4}), ("random", {2, 3, 4})]
)
def test_window_is_at_its_position(
    make_distiller, tiny_bars, unrolled, position, n_steps
):
    make_distiller(position=position, max_iter=12).fit(*tiny_bars)
    assert {len(one["steps"]) for one in unrolled} == n_steps
    assert {one["window"] for one in unrolled} == {2}


@pytest.mark.parametrize(("n_real", "expected"), [(None, 18), (1, 3), (7, 9), (99, 18)])
def test_real_images_are_as_many_of_each_class(
    make_distiller, tiny_bars, monkeypatch, n_real, expected
):
    seen = []
    real = meta_module.real_loss

    def spy(network, parameters, batch, n_classes):
        seen.append(batch.codes.bincount().tolist())
        return real(network, parameters, batch, n_classes)

    monkeypatch.setattr(meta_module, "real_loss", spy)
    make_distiller(n_real=n_real, max_iter=2).fit(*tiny_bars)
    assert seen == [[expected // 3] * 3] * 2


def test_learned_labels(make_distiller, tiny_bars):
    synthetic = make_distiller(labels="learned", max_iter=6).fit(*tiny_bars).synthetic_
    assert synthetic.probabilities.shape == (3, 3)
    np.testing.assert_allclose(synthetic.probabilities.sum(1), 1, rtol=1e-6)
    assert not np.allclose(np.diag(synthetic.probabilities), 0.9, atol=1e-4)
    assert make_distiller().fit(*tiny_bars).synthetic_.probabilities is None


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_same_seed_same_images(make_distiller, tiny_bars, optimizer):
    parameters = {"optimizer": optimizer, "batch_size": 2, "step_size_lr": 0.01}
    one, again = (make_distiller(**parameters).fit(*tiny_bars) for _ in range(2))
    assert np.array_equal(one.synthetic_.X, again.synthetic_.X)
    assert one.history_.equals(again.history_)
    other = make_distiller(**parameters, random_state=1).fit(*tiny_bars)
    assert not np.array_equal(one.synthetic_.X, other.synthetic_.X)


@pytest.mark.parametrize("n_first", [1, 3])
def test_resumed_fit_gives_identical_images(
    make_distiller, tiny_bars, tmp_path, n_first
):
    parameters = {"labels": "learned", "step_size_lr": 0.01, "clip": 1.01}
    whole = make_distiller(max_iter=6, **parameters).fit(*tiny_bars)
    for max_iter in (n_first, 6):
        part = make_distiller(
            max_iter=max_iter, checkpoint=tmp_path / "run", **parameters
        ).fit(*tiny_bars)
    assert np.array_equal(part.synthetic_.X, whole.synthetic_.X)
    assert np.array_equal(part.synthetic_.probabilities, whole.synthetic_.probabilities)
    assert part.history_.drop(columns="event").equals(
        whole.history_.drop(columns="event")
    )


@pytest.mark.parametrize(
    "changes",
    [{"window": 3}, {"optimizer": "sgd"}, {"n_real": 3}, {"augmentation": None}],
    ids=str,
)
def test_checkpoint_of_another_run_is_refused(
    make_distiller, tiny_bars, tmp_path, changes
):
    make_distiller(checkpoint=tmp_path).fit(*tiny_bars)
    with pytest.raises(ValueError, match=f"`{next(iter(changes))}`"):
        make_distiller(checkpoint=tmp_path, **changes).fit(*tiny_bars)


def test_kept_activations_change_nothing(make_distiller, tiny_bars, unrolled):
    fits = [
        make_distiller(keep_activations=keep).fit(*tiny_bars).synthetic_.X
        for keep in (False, True, "auto")
    ]
    assert [one["keep"] for one in unrolled[::4]] == [False, True, True]
    np.testing.assert_allclose(fits[0], fits[1], rtol=1e-5, atol=1e-5)
    assert np.array_equal(fits[1], fits[2])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"window": 5}, "`window`=5 .*`n_steps`=4"),
        ({"window": 0}, "'window'"),
        ({"n_steps": 0}, "'n_steps'"),
        ({"position": "middle"}, "'position'"),
        ({"optimizer": "lamb"}, "'optimizer'"),
        ({"step_size": 0}, "'step_size'"),
        ({"momentum": 1}, "'momentum'"),
        ({"labels": "soft"}, "'labels'"),
        ({"n_real": 0}, "'n_real'"),
        ({"clip": 0}, "'clip'"),
        ({"normalization": "batch"}, "`normalization`='batch'"),
        ({"augmentation": "mixup"}, "`augmentation`"),
        ({"n_networks": 0}, "'n_networks'"),
    ],
)
def test_bad_parameters_are_named(make_distiller, tiny_bars, parameters, message):
    with pytest.raises(ValueError, match=message):
        make_distiller(**parameters).fit(*tiny_bars)


def test_a_training_that_explodes_is_rolled_back(make_distiller, tiny_bars):
    """This step size makes infinite losses from the first iteration on."""
    distiller = make_distiller(
        optimizer="sgd",
        step_size=1e30,
        normalization="none",
        n_steps=12,
        window=12,
        max_iter=20,
    )
    with pytest.warns(UserWarning, match="diverge"):
        distiller.fit(*tiny_bars)
    assert np.isfinite(distiller.synthetic_.X).all()
    assert distiller.stop_reason_ == "diverged"


@pytest.mark.filterwarnings("ignore:networks that were trained")
def test_a_learned_step_size_that_explodes_shrinks(make_distiller, tiny_bars):
    distiller = make_distiller(
        optimizer="sgd",
        step_size=1e4,
        step_size_lr=1e-3,
        normalization="none",
        n_steps=12,
        window=12,
        max_iter=40,
    ).fit(*tiny_bars)
    assert "rolled back" in distiller.history_["event"].to_list()
    assert distiller.stop_reason_ == "max_iter"
    assert distiller.step_size_ < 1e4 / 2


@pytest.mark.parametrize(
    ("step_size", "is_told"), [(100.0, True), (0.05, False), (1e-7, True)]
)
def test_networks_that_learn_nothing_are_told_of(
    make_distiller, tiny_bars, recwarn, step_size, is_told
):
    distiller = make_distiller(
        optimizer="sgd", step_size=step_size, max_iter=10, n_steps=20, window=20
    ).fit(*tiny_bars)
    found = [w for w in recwarn if "`step_size`" in str(w.message)]
    assert len(found) == is_told, distiller.history_


def test_weights_of_images_count(make_distiller, tiny_bars):
    X, y = tiny_bars
    weight = np.linspace(1, 3, len(X))
    plain = make_distiller(n_real=None).fit(X, y).synthetic_.X
    weighted = make_distiller(n_real=None).fit(X, y, sample_weight=weight).synthetic_.X
    assert not np.array_equal(plain, weighted)
    ones = make_distiller(n_real=None).fit(X, y, sample_weight=np.ones(len(X)))
    np.testing.assert_allclose(ones.synthetic_.X, plain, rtol=1e-5, atol=1e-6)


def test_clone_and_pickle(make_distiller, tiny_bars):
    distiller = make_distiller()
    with pytest.raises(NotFittedError):
        distiller.score(*tiny_bars)
    distiller.fit(*tiny_bars)
    again = pickle.loads(pickle.dumps(distiller))
    assert np.array_equal(again.synthetic_.X, distiller.synthetic_.X)
    assert not hasattr(clone(distiller), "synthetic_")


def test_larger_pixels(make_distiller, tiny_bars):
    X = make_distiller(ipc=4, pixel_size=4).fit(*tiny_bars).synthetic_.X
    assert np.array_equal(X, np.kron(X[:, ::4, ::4], np.ones((1, 4, 4, 1))))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_digits_are_distilled_better_than_drawn(optimizer):
    X, y = load_digits(return_X_y=True)
    X = (X.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    X_train, y_train, X_valid, y_valid = X[:600], y[:600], X[600:900], y[600:900]
    network = ConvNetClassifier(
        width=8, depth=1, max_iter=150, augmentation=None, device="cpu"
    )
    distiller = BPTTDistiller(
        n_steps=20,
        window=10,
        optimizer=optimizer,
        step_size={"adam": 0.01, "sgd": 0.05}[optimizer],
        n_real=200,
        width=8,
        depth=1,
        augmentation=None,
        max_iter=60,
        device="cpu",
        random_state=0,
    ).fit(X_train, y_train)
    losses = distiller.history_["loss"]
    assert losses[-10:].mean() < 0.8 * losses[:10].mean()

    def scores(synthetic):
        return [
            clone(network)
            .set_params(random_state=seed)
            .fit(synthetic.X, synthetic.y)
            .score(X_valid, y_valid)
            for seed in range(2)
        ]

    drawn = [
        score
        for seed in range(2)
        for score in scores(
            RandomSubset(random_state=seed).fit(X_train, y_train).synthetic_
        )
    ]
    assert min(scores(distiller.synthetic_)) > max(drawn)


def test_memory_of_an_iteration_is_of_vectors_not_of_graphs(make_distiller, tiny_bars):
    """No step of the training leaves a graph."""
    packed = []

    def pack(tensor):
        packed.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        make_distiller(augmentation=None, max_iter=1, n_steps=6, window=6).fit(
            *tiny_bars
        )
    assert packed == []
