"""Kernel ridge regression on synthetic images as a distiller."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    KIPDistiller,
    NeuralKernelClassifier,
    RandomSubset,
    SyntheticSet,
    evaluate_synthetic,
)
from skdistill.distillation import _kip
from skdistill.distillation._engine._objective import Draw
from skdistill.distillation._engine._optimizers import Adam
from skdistill.distillation._engine._parameters import (
    HardLabels,
    SyntheticParameters,
    Targets,
    one_hot,
)
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._objectives._kernel_regression import KernelRegression
from skdistill.neural_network._kernels import as_channels_first, resolve_kernel

KERNEL = resolve_kernel("ntk", depth=1, weight_variance=2.0, bias_variance=0.01)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8, 1).astype(np.float32)
    return X[:1000], y[:1000], X[1000:], y[1000:]


def gaussian(a, b):
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return (-squares / 1000).exp()


def test_beats_the_images_it_starts_from(digits):
    """By kernel regression, and by more than seeds differ."""
    X, y, X_test, y_test = digits
    kernel = NeuralKernelClassifier()
    distilled, real = [], []
    for seed in range(3):
        distiller = KIPDistiller(ipc=1, max_iter=40, random_state=seed).fit(X, y)
        distilled.append(distiller.score(X_test, y_test))
        subset = RandomSubset(ipc=1, estimator=kernel, random_state=seed).fit(X, y)
        real.append(subset.score(X_test, y_test))
    assert min(distilled) > max(real) + 0.1
    history = distiller.history_["loss"]
    assert history.iloc[-10:].mean() < 0.7 * history.iloc[:3].mean()


@pytest.mark.parametrize("kernel", ["nngp", "linear", gaussian])
def test_other_kernels(kernel, digits):
    X, y, X_test, y_test = digits
    distiller = KIPDistiller(kernel=kernel, depth=2, max_iter=30, random_state=0)
    distiller.fit(X, y)
    assert distiller.score(X_test, y_test) > 0.7
    model = distiller._default_estimator()
    assert (model.kernel, model.depth) == (kernel, 2)


def test_all_real_images_are_targets(digits):
    """Then nothing is drawn but the first images."""
    X, y, _, _ = digits
    given = X[[np.flatnonzero(y == digit)[0] for digit in range(10)]]
    found = [
        KIPDistiller(n_targets=n_targets, max_iter=2, init=given, random_state=seed)
        .fit(X, y)
        .history_["loss"]
        for n_targets, seed in ((None, 0), (None, 1), (10_000, 2), (50, 3))
    ]
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])
    assert not found[0].equals(found[3])


def test_nothing_to_learn(digits):
    X, y, _, _ = digits
    with pytest.raises(ValueError, match="'fixed' with `labels`='hard' leaves nothing"):
        KIPDistiller(images="fixed").fit(X, y)
    with pytest.raises(ValueError, match=r"number of classes, 10, .*got 9"):
        KIPDistiller(n_targets=9).fit(X, y)


def test_kernels_that_cannot_be_learned_with(digits, monkeypatch):
    """Said before the first iteration."""

    def work(*arguments, **settings):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(KernelRegression, "evaluate", work)
    X, y, _, _ = digits
    with pytest.raises(ValueError, match="differentiable PyTorch operations"):
        KIPDistiller(kernel=lambda a, b: rbf_kernel(a, b)).fit(X, y)
    with pytest.raises(ValueError, match="a number for each pair"):
        KIPDistiller(kernel=lambda a, b: a.sum()).fit(X, y)
    monkeypatch.setattr(_kip, "check_kernel_memory", work)
    with pytest.raises(AssertionError):
        KIPDistiller().fit(X, y)


def test_pixels_that_a_kernel_or_float32_does_not_see(digits):
    X, y, _, _ = digits
    X = X[:50].astype(np.float64)
    distiller = KIPDistiller(max_iter=1, random_state=0)
    with pytest.warns(UserWarning, match="`bias_variance`=0.01 sees next to nothing"):
        distiller.fit(1e-6 * X, y[:50])
    with pytest.warns(UserWarning, match="much of their contrast is lost"):
        distiller.fit(X + 1e7, y[:50])


def test_images_that_are_equal(digits):
    """Two equal images with different labels, and a black one."""
    X, y, _, _ = digits
    given = X[[np.flatnonzero(y == digit)[0] for digit in range(10)]]
    given[1], given[2] = given[0], 0
    distiller = KIPDistiller(init=given, max_iter=20, random_state=0).fit(X, y)
    assert np.isfinite(distiller.synthetic_.X).all()
    assert set(distiller.history_["event"]) == {""}


def test_rates_that_are_too_high_are_rolled_back(digits):
    X, y, _, _ = digits
    distiller = KIPDistiller(pixel_lr=1e200, max_iter=4, random_state=0)
    distiller.fit(X, y)
    assert "rolled back" in set(distiller.history_["event"])
    assert np.isfinite(distiller.synthetic_.X).all()


def test_units_of_pixels_do_not_matter(digits):
    """Steps are in deviations of the pixels; the bias is in units of their squares."""
    X, y, _, _ = digits
    one = KIPDistiller(max_iter=5, bias_variance=0.01, random_state=0).fit(X, y)
    other = KIPDistiller(max_iter=5, bias_variance=1.0, random_state=0).fit(10 * X, y)
    # But for pixels that hardly have a gradient, beside the constant of Adam.
    np.testing.assert_allclose(one.history_["loss"], other.history_["loss"], rtol=0.01)


def test_in_pipelines(digits):
    X, y, X_test, y_test = digits
    model = make_pipeline(
        ChannelScaler(),
        DistilledClassifier(
            KIPDistiller(max_iter=30, random_state=0), NeuralKernelClassifier()
        ),
    )
    assert model.fit(X, y).score(X_test, y_test) > 0.8


def real_data(X, y, weight=None):
    return RealData(
        X,
        y,
        weight,
        np.arange(10),
        device=torch.device("cpu"),
        fingerprint="",
        given=(X, y, weight),
    )


def parameters(images, labels, codes):
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return SyntheticParameters(Adam(tensor, 0.1, 1.0), labels, codes, {})


@pytest.mark.parametrize("labels", ["hard", "learned", "solved"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_the_objective(labels, weighted, digits):
    """By differences of the loss, for each kind of labels."""
    X, y, _, _ = digits
    X, y = X[:200], y[:200]
    rng = np.random.default_rng(0)
    data = real_data(X, y, rng.uniform(0.1, 1, len(X)) if weighted else None)
    objective = KernelRegression(
        data, KERNEL, 1e-3, n_targets=None, labels=labels, learns_images=True
    )
    codes = torch.arange(10)
    hard = one_hot(codes, 10, torch.float64)
    kinds = {
        "hard": HardLabels(hard),
        "learned": Targets(Adam(hard - 0.1, 0.1, 1.0)),
        "solved": HardLabels(hard),
    }
    images = X[[np.flatnonzero(y == digit)[0] for digit in range(10)]].astype(float)

    def loss(images):
        synthetic = parameters(images, kinds[labels], codes)
        return objective.evaluate(synthetic, Draw(0, 0))

    found = loss(images)
    direction = rng.normal(size=images.shape)
    losses = [
        float(loss(images + sign * 1e-5 * direction).metrics["loss"])
        for sign in (1, -1)
    ]
    gradient = found.gradients["images"].permute(0, 2, 3, 1).numpy()
    assert (gradient * direction).sum() == pytest.approx(
        (losses[0] - losses[1]) / 2e-5, rel=1e-4
    )
    assert found.gradients["labels"].shape == (10, 10)
    if labels == "solved":
        assert float(found.gradients["labels"].abs().max()) < 1e-10


def test_solved_labels_are_the_best(digits):
    """They are those of all real images, read in parts; no other has less loss."""
    X, y, _, _ = digits
    data = real_data(X, y)
    objective = KernelRegression(
        data, KERNEL, 1e-6, n_targets=100, labels="solved", learns_images=False
    )
    images = as_channels_first(torch.from_numpy(X[:20].reshape(20, -1)), (1, 8, 8))
    codes = torch.from_numpy(y[:20])
    solved = objective.targets(images.double(), torch.zeros(20, 10).double())
    assert solved.shape == (20, 10)

    def loss(targets):
        learned = Targets(Adam(targets, 0.1, 1.0))
        other = KernelRegression(
            data, KERNEL, 1e-6, n_targets=None, labels="learned", learns_images=False
        )
        synthetic = SyntheticParameters(
            Adam(images.double(), 0.1, 1.0), learned, codes, {}
        )
        found = other.evaluate(synthetic, Draw(0, 0))
        assert not found.gradients["images"].any()
        return found

    best = loss(solved)
    assert float(best.gradients["labels"].abs().max()) < 1e-9
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(solved.shape, generator=generator, dtype=torch.float64)
        assert loss(solved + 0.01 * noise).metrics["loss"] > best.metrics["loss"]


@pytest.mark.parametrize("labels", ["learned", "solved"])
def test_regression_targets(labels, digits, tmp_path):
    """Stored with the set, and better than hard labels on the same images."""
    X, y, X_test, y_test = digits
    hard = KIPDistiller(max_iter=40, random_state=0).fit(X, y)
    distiller = KIPDistiller(labels=labels, max_iter=40, random_state=0).fit(X, y)
    found = distiller.synthetic_
    assert found.targets.shape == (10, 10)
    assert found.probabilities is None
    assert hard.synthetic_.targets is None
    assert distiller.history_["loss"].iloc[-1] < hard.history_["loss"].iloc[-1]
    assert distiller.score(X_test, y_test) > 0.85
    # The set knows how it is scored, and so does its file.
    found.save(tmp_path / "set.safetensors")
    for synthetic in (found, SyntheticSet.load(tmp_path / "set.safetensors")):
        score = evaluate_synthetic(synthetic, X_test, y_test, n_repeats=1)
        assert score.mean == pytest.approx(distiller.score(X_test, y_test))
    # Networks take them too.
    network = ConvNetClassifier(
        width=4, depth=1, max_iter=3, loss="squared", random_state=0
    )
    evaluate_synthetic(found, X_test, y_test, estimator=network, n_repeats=1)


def test_label_solve_alone(digits):
    """Better labels for the same images, at once."""
    X, y, X_test, y_test = digits
    real = RandomSubset(ipc=2, estimator=NeuralKernelClassifier(), random_state=0)
    start = real.fit(X, y).score(X_test, y_test)
    distiller = KIPDistiller(
        ipc=2, images="fixed", labels="solved", init=real.synthetic_.X, random_state=0
    ).fit(X, y)
    assert np.array_equal(distiller.synthetic_.X, real.synthetic_.X)
    assert distiller.score(X_test, y_test) > start + 0.05
    assert distiller.n_iter_ == 1
    assert distiller.stop_reason_ == "solved"
    # Descent by the labels alone comes near.
    learned = clone(distiller).set_params(labels="learned", n_targets=None)
    learned.fit(X, y)
    assert np.array_equal(learned.synthetic_.X, real.synthetic_.X)
    assert learned.history_["loss"].iloc[-1] > distiller.history_["loss"].iloc[0] * 0.98
    assert learned.history_["loss"].is_monotonic_decreasing or (
        learned.history_["loss"].iloc[-1] < 0.9 * learned.history_["loss"].iloc[0]
    )


class Gaussian:
    def __init__(self, width):
        self.width = width

    def __call__(self, a, b):
        return (-torch.cdist(a, b).square() / self.width).exp()


def of_width(a, b, width):
    return Gaussian(width)(a, b)


@pytest.mark.parametrize(
    "make",
    [
        Gaussian,
        lambda width: lambda a, b: of_width(a, b, width),
        lambda width: partial(of_width, width=width),
    ],
)
def test_a_checkpoint_knows_what_a_callable_computes(digits, tmp_path, make):
    """Not its name or its address, which is another in each process."""
    X, y, _, _ = digits
    X, y = X[:100], y[:100]
    settings = {"checkpoint": tmp_path / "run", "random_state": 0}
    searched = settings | {"checkpoint": tmp_path / "search"}
    KIPDistiller(kernel=make(1000), max_iter=1, **settings).fit(X, y)
    resumed = KIPDistiller(kernel=make(1000), max_iter=2, **settings).fit(X, y)
    assert resumed.n_iter_ == 2
    with pytest.raises(ValueError, match="`kernel`: found 'a function with the digest"):
        KIPDistiller(kernel=make(2000), max_iter=2, **settings).fit(X, y)
    for _ in range(2):
        distiller = KIPDistiller(max_iter=1, **searched)
        search = GridSearchCV(distiller, {"kernel": [make(1000), make(10)]}, cv=2)
        search.fit(X, y)
        assert len(list((tmp_path / "search").iterdir())) == 5


def test_a_callable_is_in_no_file(digits):
    X, y, _, _ = digits
    with_name = KIPDistiller(max_iter=1, random_state=0).fit(X, y).synthetic_
    assert with_name.metadata["default_estimator"] == {
        "name": "NeuralKernelClassifier",
        "kernel": "ntk",
        "depth": 1,
        "weight_variance": 2.0,
        "bias_variance": 0.01,
        "reg": 1e-6,
    }
    without = KIPDistiller(kernel=gaussian, max_iter=1, random_state=0).fit(X, y)
    assert without.synthetic_.metadata["distiller"] == "KIPDistiller"
    assert without.score(X, y) > 0.3
