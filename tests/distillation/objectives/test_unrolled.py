import gc
import itertools
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from skdistill.distillation._objectives._inner_optimizers import InnerAdam, InnerSGD
from skdistill.distillation._objectives._trajectory_distance import match_gradient
from skdistill.distillation._objectives._unrolled import (
    backpropagate,
    plan_steps,
    unroll,
)
from skdistill.neural_network._augment import FAMILIES, augment
from skdistill.neural_network._convnet import NORMALIZATIONS, ConvNet, n_parameters
from skdistill.neural_network._derivatives import ConvNetDerivatives

SCALE = 0.7
# With the step sizes that they are tried at.
OPTIMIZERS = {
    "sgd": (InnerSGD(), 0.3),
    "decay": (InnerSGD(weight_decay=0.05), 0.3),
    "momentum": (InnerSGD(momentum=0.9, weight_decay=0.05), 0.1),
    "adam": (InnerAdam(), 0.01),
    "adam with decay": (InnerAdam(betas=(0.8, 0.95), weight_decay=0.05), 0.01),
}


class Plain:
    """A student as the equations say it, with one graph over the window.

    The loss is <terminal, theta_N>, which has the gradient ``terminal`` there.
    """

    def __init__(self, seed=0, size=8, n_images=5, width=3, depth=2, **changes):
        settings = {
            "n_steps": 6,
            "window": 6,
            "optimizer": "sgd",
            "batch_size": None,
            "families": (),
            "normalization": "instance",
        } | changes
        self.generator = torch.Generator().manual_seed(seed)
        with torch.device("meta"):
            self.module = ConvNet(
                (size, size + 1, 2),
                3,
                width=width,
                depth=depth,
                normalization=settings["normalization"],
            )
        self.start = 0.4 * self.normal(n_parameters(self.module))
        self.images = self.normal(n_images, 2, size, size + 1)
        self.targets = self.normal(n_images, 3).softmax(1)
        self.optimizer, step_size = OPTIMIZERS[settings["optimizer"]]
        self.log_step_size = torch.tensor(math.log(step_size), dtype=torch.float64)
        self.window = settings["window"]
        self.steps = plan_steps(
            settings["n_steps"],
            n_images,
            batch_size=settings["batch_size"],
            families=settings["families"],
            generator=self.generator,
        )
        self.terminal = self.normal(len(self.start)) / len(self.start) ** 0.5
        if settings["normalization"] == "instance":
            # No loss depends on biases that are averaged away at once.  Their
            # gradients are rounding errors, which Adam makes steps of.
            parts = self.terminal.split([p.numel() for p in self.module.parameters()])
            for part, (name, _) in zip(
                parts, self.module.named_parameters(), strict=True
            ):
                module = self.module.get_submodule(name.rpartition(".")[0])
                if isinstance(module, torch.nn.Conv2d) and name.endswith("bias"):
                    part.zero_()

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def gradient(self, theta, images, targets, step):
        if step.batch is not None:
            images, targets = images[step.batch], targets[step.batch]
        named = dict(self.module.named_parameters())
        parts = theta.split([part.numel() for part in named.values()])
        views = {
            name: part.view(named[name].shape)
            for name, part in zip(named, parts, strict=True)
        }
        seen = augment(images, step.draw, SCALE)
        logits = functional_call(self.module, views, (seen,))
        loss = -(targets * logits.log_softmax(1)).sum(1).mean()
        return torch.autograd.grad(loss, theta, create_graph=True)[0]

    def train(self, images, targets, log_step_size):
        """Return theta after each step; the graph begins with the window."""
        optimizer, alpha = self.optimizer, log_step_size.exp()
        theta = self.start.clone().requires_grad_()
        first = second = torch.zeros_like(theta)
        visited = [theta]
        n_before = len(self.steps) - self.window
        for place, step in enumerate(self.steps):
            if place == n_before:
                theta = theta.detach().requires_grad_()
                first, second = first.detach(), second.detach()
            gradient = self.gradient(theta, images, targets, step)
            gradient = gradient + optimizer.weight_decay * theta
            if isinstance(optimizer, InnerSGD):
                update = first = optimizer.momentum * first + gradient
            else:
                one, two = optimizer.betas
                first = one * first + (1 - one) * gradient
                second = two * second + (1 - two) * gradient**2
                unbiased = second / (1 - two ** (place + 1))
                positive = unbiased > 0
                root = torch.where(positive, unbiased, torch.ones_like(unbiased)).sqrt()
                root = torch.where(positive, root, torch.zeros_like(root))
                update = first / (1 - one ** (place + 1)) / (root + optimizer.epsilon)
            theta = theta - alpha * update
            visited.append(theta)
        return visited

    def expected(self):
        leaves = [self.images, self.targets, self.log_step_size]
        leaves = [leaf.clone().requires_grad_() for leaf in leaves]
        final = self.train(*leaves)[-1]
        return final.detach(), torch.autograd.grad(self.terminal @ final, leaves)

    def unroll(self, network=None, **changes):
        options = {
            "window": self.window,
            "optimizer": self.optimizer,
            "scale": SCALE,
        } | changes
        return unroll(
            network or ConvNetDerivatives(self.module),
            self.start,
            self.images,
            self.targets,
            self.log_step_size,
            self.steps,
            **options,
        )


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm().clamp_min(1e-3))


def assert_same(problem, tolerance=1e-9, **options):
    final, expected = problem.expected()
    student = problem.unroll(**options)
    ends = problem.terminal * student.parameters, problem.terminal * final
    assert relative_error(*ends) <= tolerance
    result = backpropagate(student, problem.terminal)
    for found, wanted in zip(result, expected, strict=True):
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        assert not found.requires_grad
        assert relative_error(found, wanted) <= tolerance


@pytest.mark.parametrize("n_before", [0, 3])
@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("families", [(), FAMILIES], ids=["plain", "dsa"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("window", [1, 6])
def test_derivatives_are_those_of_the_unrolled_loop(
    window, optimizer, families, batch_size, n_before
):
    problem = Plain(
        seed=1,
        n_steps=n_before + window,
        window=window,
        optimizer=optimizer,
        families=families,
        batch_size=batch_size,
    )
    assert_same(problem)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_derivatives_with_every_normalization(normalization, optimizer):
    problem = Plain(seed=2, window=4, optimizer=optimizer, normalization=normalization)
    assert_same(problem, keep=True)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    size=st.integers(2, 9),
    n_images=st.integers(1, 6),
    width=st.integers(1, 4),
    depth=st.integers(1, 3),
    n_steps=st.integers(1, 6),
    part=st.floats(0, 1),
    batch_size=st.none() | st.integers(1, 6),
    optimizer=st.sampled_from(list(OPTIMIZERS)),
    families=st.sampled_from([(), FAMILIES]),
    keep=st.booleans(),
)
def test_derivatives_of_any_student(seed, n_steps, part, keep, **changes):
    problem = Plain(
        seed, n_steps=n_steps, window=max(1, round(part * n_steps)), **changes
    )
    # Two right ways to compute differ where training multiplies rounding errors.
    expected = problem.expected()[1]
    noise = problem.normal(len(problem.start))
    problem.start = problem.start * (1 + 1e-12 * noise)
    moved = problem.expected()[1]
    errors = [relative_error(a, b) for a, b in zip(moved, expected, strict=True)]
    assume(max(errors) < 1e-8)
    assert_same(problem, 1e-7, keep=keep)


@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [
        (
            "momentum",
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.05),
        ),
        ("adam", lambda p: torch.optim.Adam(p, 0.01)),
        (
            "adam with decay",
            lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.95), weight_decay=0.05),
        ),
    ],
)
def test_steps_are_those_of_pytorch(optimizer, reference):
    problem = Plain(optimizer=optimizer, normalization="layer")
    theta = problem.start.clone().requires_grad_()
    reference = reference([theta])
    for step in problem.steps:
        theta.grad = problem.gradient(theta, problem.images, problem.targets, step)
        theta.grad = theta.grad.detach()
        reference.step()
    final = problem.unroll().parameters
    torch.testing.assert_close(final, theta.detach(), rtol=1e-12, atol=1e-12)


def test_one_step_of_gradient_descent_by_hand():
    """dL/dX = -alpha d<a, g>/dX with a the gradient of the loss at the end."""
    problem = Plain(n_steps=1, window=1)
    images = problem.images.clone().requires_grad_()
    theta = problem.start.clone().requires_grad_()
    gradient = problem.gradient(theta, images, problem.targets, problem.steps[0])
    along = torch.autograd.grad(problem.terminal @ gradient, images)[0]
    found = backpropagate(problem.unroll(), problem.terminal)
    expected = -problem.log_step_size.exp() * along
    torch.testing.assert_close(found.images, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("keep", [False, True])
def test_the_distance_to_a_teacher_is_one_terminal(keep):
    problem = Plain(families=FAMILIES, batch_size=3)
    target = problem.start + 0.05 * problem.normal(len(problem.start))
    student = problem.unroll(keep=keep)
    aim_squared = (target - problem.start).square().sum()
    found = backpropagate(student, (student.parameters - target) * (2 / aim_squared))
    expected = match_gradient(
        ConvNetDerivatives(problem.module),
        problem.start,
        target,
        problem.images,
        problem.targets,
        problem.log_step_size,
        problem.steps,
        scale=SCALE,
    )
    for a, b in zip(found, expected[1:], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_a_step_is_kept_for_makes_no_difference(optimizer):
    problem = Plain(optimizer=optimizer, families=FAMILIES, batch_size=3)
    students = [problem.unroll(keep=keep) for keep in (False, True)]
    one, other = (backpropagate(student, problem.terminal) for student in students)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_before_the_window_only_move_the_start(optimizer):
    problem = Plain(optimizer=optimizer, n_steps=7, window=3)
    whole = problem.unroll(window=None)
    part = problem.unroll()
    assert torch.equal(whole.parameters, part.parameters)
    assert (len(whole.visits), len(part.visits)) == (7, 3)
    assert torch.equal(part.visits[0].parameters, whole.visits[4].parameters)


def test_images_that_the_window_does_not_see_have_no_gradient():
    problem = Plain(n_steps=5, window=1, batch_size=1)
    found = backpropagate(problem.unroll(), problem.terminal)
    seen = problem.steps[-1].batch
    others = torch.ones(5, dtype=torch.bool).index_fill_(0, seen, False)
    assert found.images[seen].any()
    assert found.targets[seen].any()
    assert not found.images[others].any()
    assert not found.targets[others].any()


@pytest.mark.parametrize("window", [0, 3])
def test_a_window_without_adjoint_gives_zeros(window):
    problem = Plain(optimizer="momentum", window=window)
    found = backpropagate(problem.unroll(), torch.zeros_like(problem.start))
    assert not any(part.any() for part in found)


def test_parameters_without_gradient_have_finite_derivatives_under_adam():
    # A network without normalization of which most units are dead.
    problem = Plain(optimizer="adam", normalization="none")
    problem.start = problem.start - 3 * problem.start.abs()
    problem.images = problem.images * 0.01
    gradient = ConvNetDerivatives(problem.module).gradient(
        problem.start, problem.images, problem.targets
    )
    assert (gradient == 0).any()
    assert_same(problem)
    assert all(
        part.isfinite().all()
        for part in backpropagate(problem.unroll(), problem.terminal)
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_single_precision_agrees_with_double(optimizer):
    problem = Plain(seed=4, optimizer=optimizer, n_steps=8, window=4)
    double = backpropagate(problem.unroll(), problem.terminal)
    for name in ("start", "images", "targets", "log_step_size", "terminal"):
        setattr(problem, name, getattr(problem, name).float())
    single = backpropagate(problem.unroll(), problem.terminal)
    for a, b in zip(single, double, strict=True):
        assert a.dtype == torch.float32
        assert relative_error(a.double(), b) <= 1e-3


def test_a_second_backward_pass_is_refused():
    problem = Plain()
    student = problem.unroll()
    backpropagate(student, problem.terminal)
    with pytest.raises(ValueError, match="second forward pass"):
        backpropagate(student, problem.terminal)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_nothing_that_was_given_is_changed(optimizer):
    problem = Plain(optimizer=optimizer, families=FAMILIES, batch_size=3)
    given_ = [problem.start, problem.images, problem.targets, problem.terminal]
    before = [tensor.clone() for tensor in given_]
    problem.images.requires_grad_()
    backpropagate(problem.unroll(), problem.terminal)
    assert problem.images.grad is None
    for now, then in zip(given_, before, strict=True):
        assert torch.equal(now.detach(), then)


@pytest.fixture
def _nothing_else():
    """Leave out what lives already: looking through all of it takes seconds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def live_bytes():
    """The bytes of the storages of all new tensors that Python knows."""
    gc.collect()
    storages = {}
    for found in gc.get_objects():
        if type(found) is torch.Tensor and not found.is_meta:
            storage = found.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


class Watched(ConvNetDerivatives):
    """Notes what lives before each step of the forward and the backward pass."""

    def __init__(self, module):
        super().__init__(module)
        self.forward, self.backward = [], []

    def gradient(self, *args, **kwargs):
        self.forward.append(live_bytes())
        return super().gradient(*args, **kwargs)

    def curvature(self, *args, **kwargs):
        self.backward.append(live_bytes())
        return super().curvature(*args, **kwargs)


@pytest.mark.usefixtures("_nothing_else")
@pytest.mark.parametrize(
    ("optimizer", "n_vectors"), [("sgd", 1), ("momentum", 1), ("adam", 4)]
)
def test_memory_grows_by_vectors_of_the_window(optimizer, n_vectors):
    problem = Plain(optimizer=optimizer, n_steps=9, window=5)
    network = Watched(problem.module)
    student = problem.unroll(network)
    backpropagate(student, problem.terminal)
    vector = problem.start.nbytes
    assert len(network.forward) == 9
    grown = [b - a for a, b in itertools.pairwise(network.forward)]
    # Before the window the optimizer's own memory is there from the first step on.
    assert grown[1:4] == [0] * 3
    assert grown[5:] == [n_vectors * vector] * 3
    assert len(network.backward) == 5
    shrunk = [a - b for a, b in itertools.pairwise(network.backward[1:])]
    assert shrunk == [n_vectors * vector] * 3
