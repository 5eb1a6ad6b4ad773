"""Objectives with networks of a user's own, against autograd through everything."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from skdistill.distillation._engine._objective import Draw
from skdistill.distillation._engine._optimizers import SGD
from skdistill.distillation._engine._parameters import (
    HardLabels,
    SyntheticParameters,
    one_hot,
)
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._objectives import _gradient_matching as gradient_matching
from skdistill.distillation._objectives._alignment import LayerAlignment, Rounds
from skdistill.distillation._objectives._feature_matching import FeatureMeans
from skdistill.distillation._objectives._gradient_matching import GradientMatching
from skdistill.distillation._objectives._inner_optimizers import InnerAdam, InnerSGD
from skdistill.distillation._objectives._meta_loss import MetaLoss
from skdistill.distillation._objectives._networks import Networks
from skdistill.distillation._objectives._student_lr import LearnedStepSize
from skdistill.distillation._objectives._unrolled import plan_steps
from skdistill.neural_network._convnet import flatten_learned
from skdistill.neural_network._module_derivatives import ModuleDerivatives

SHAPE = (6, 6, 2)
N_CLASSES = 3
DOUBLE = torch.float64


class Net(nn.Module):
    """Layers in a row, with names of what they see; the head was made first."""

    def __init__(self, layers, n_features):
        super().__init__()
        self.head = nn.Linear(n_features, N_CLASSES)
        self.layers = nn.ModuleList(layers)

    def forward(self, images, seen=None):
        for layer in self.layers:
            if seen is not None and isinstance(layer, (nn.Conv2d, nn.Linear)):
                seen.append(images)
            images = layer(images)
        if seen is not None:
            seen.append(images)
        return self.head(images)


NETWORKS = {
    "mlp": lambda: Net(
        [nn.Flatten(), nn.Linear(72, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh()], 5
    ),
    "group norm": lambda: Net(
        [
            nn.Conv2d(2, 4, 3, padding=1),
            nn.GroupNorm(2, 4),
            nn.GELU(),
            nn.AvgPool2d(2),
            nn.Conv2d(4, 4, 3),
            nn.SiLU(),
            nn.Flatten(),
        ],
        4,
    ),
    "dropout": lambda: Net(
        [
            nn.Conv2d(2, 3, 3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Dropout(0.4),
            nn.Linear(48, 6),
            nn.Tanh(),
            nn.Dropout(0.2),
        ],
        6,
    ),
    "frozen": lambda: frozen(NETWORKS["group norm"]()),
}


def frozen(module):
    """Its first layer is not trained, and what weight decay does it does not see."""
    module.layers[0].requires_grad_(False)
    return module


class OneNetwork(Networks):
    """Always the same parameters."""

    def __init__(self, parameters):
        self.parameters = parameters

    def __call__(self, draw):
        return self.parameters, {}


class Problem:
    """Real and synthetic images in float64, and a network."""

    def __init__(self, name):
        rng = np.random.default_rng(0)
        y = np.repeat(np.arange(N_CLASSES), [4, 3, 5])
        X = rng.normal(size=(12, *SHAPE)).astype(np.float32)
        self.data = RealData(
            X,
            y,
            rng.uniform(0.5, 1, 12),
            np.arange(N_CLASSES),
            device=torch.device("cpu"),
            fingerprint="",
            given=(),
        )
        torch.manual_seed(1)
        self.module = NETWORKS[name]().double()
        self.images = torch.randn(6, 2, 6, 6, dtype=DOUBLE)
        self.network = ModuleDerivatives(self.module, self.images)
        self.networks = OneNetwork(flatten_learned(self.module))
        self.draw = Draw(5, 3)
        codes = torch.arange(N_CLASSES).repeat_interleave(2)
        self.labels = one_hot(codes, N_CLASSES, DOUBLE)
        labels = HardLabels(self.labels)
        images = SGD(self.images.clone(), 1.0, 1.0)
        self.synthetic = SyntheticParameters(images, labels, codes, {})

    def call(self, parameters, images, *args, training=True, seed=0):
        self.module.train(training)
        named = dict(self.module.named_parameters())
        parts = parameters.split([part.numel() for part in named.values()])
        views = {
            name: part.view_as(own)
            for (name, own), part in zip(named.items(), parts, strict=True)
        }
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return functional_call(self.module, views, (images, *args))

    def loss(self, parameters, images, targets, **options):
        logits = self.call(parameters, images, **options)
        return -(targets * logits.log_softmax(1)).sum(1).mean()

    def gradient(self, *arguments, **options):
        """The gradient in a graph, 0 where nothing is trained."""
        parameters = arguments[0]
        loss = self.loss(*arguments, **options)
        (found,) = torch.autograd.grad(loss, parameters, create_graph=True)
        return found * self.network.is_trained

    def start(self):
        return self.networks.parameters.clone().requires_grad_()

    def agree(self, objective, loss_of, tolerance):
        leaf = self.images.clone().requires_grad_()
        loss = loss_of(leaf)
        (expected,) = torch.autograd.grad(loss, leaf)
        found = objective.evaluate(self.synthetic, self.draw)
        torch.testing.assert_close(
            found.metrics["loss"], loss.detach(), rtol=1e-10, atol=1e-12
        )
        scale = float(expected.abs().max())
        assert scale > 0
        torch.testing.assert_close(
            found.gradients["images"], expected, rtol=0, atol=tolerance * scale
        )


every = pytest.mark.parametrize("name", NETWORKS)


@every
@pytest.mark.parametrize(
    ("distance", "matched"), [("cosine", "weights"), ("squared", "all")]
)
def test_gradient_matching(name, distance, matched):
    problem = Problem(name)
    objective = GradientMatching(
        problem.data,
        problem.module,
        problem.networks,
        training=None,
        distance=distance,
        matched=matched,
        batch_size=None,
        families=(),
        derivatives=problem.network,
    )
    sizes = [part.numel() for part in problem.module.parameters()]
    trained = [part.requires_grad for part in problem.module.parameters()]
    shapes = [part.shape for part in problem.module.parameters()]

    def compare(one, other):
        total = 0.0
        for a, b, shape, is_trained in zip(
            one.split(sizes), other.split(sizes), shapes, trained, strict=True
        ):
            if distance == "squared":
                total = total + (a - b).square().sum()
            elif len(shape) > 1 and is_trained:
                a, b = a.view(len(a) // shape[1:].numel(), -1), b.view(shape[0], -1)
                total = total + (1 - torch.cosine_similarity(a, b, 1)).sum()
        return total

    def loss_of(leaf):
        total = 0.0
        start = problem.start()
        for code in range(N_CLASSES):
            seed = problem.draw.child_seed(gradient_matching._DRAWN, code)
            batch = problem.data.batch(problem.draw, None, [code], dtype=DOUBLE)
            targets = one_hot(batch.codes, N_CLASSES, DOUBLE) * batch.weights[:, None]
            real = problem.gradient(
                start, batch.images, targets * len(targets), seed=seed
            )
            own = slice(2 * code, 2 * code + 2)
            made = problem.gradient(start, leaf[own], problem.labels[own], seed=seed)
            total = total + compare(made, real.detach())
        return total

    problem.agree(objective, loss_of, 1e-9)


def class_means(problem, rows, batch):
    """Means of real images' features, and of synthetic ones'."""
    real, own = rows
    codes = problem.synthetic.codes
    for code in range(N_CLASSES):
        here = batch.codes == code
        weights = batch.weights[here].view(-1, *[1] * (real.ndim - 1))
        yield (real[here] * weights).sum(0), own[codes == code].mean(0)


@every
def test_feature_means(name):
    problem = Problem(name)
    objective = FeatureMeans(
        problem.data, problem.network, problem.networks, batch_size=None, families=()
    )

    def embedding(images):
        seen = []
        problem.call(problem.networks.parameters, images, seen, training=False)
        return seen[-1]

    def loss_of(leaf):
        batch = problem.data.batch(problem.draw, None, dtype=DOUBLE)
        rows = embedding(batch.images), embedding(leaf)
        return sum(
            (one - other).square().sum()
            for one, other in class_means(problem, rows, batch)
        )

    problem.agree(objective, loss_of, 1e-12)


@every
def test_layer_alignment(name):
    problem = Problem(name)
    n_layers = len(problem.network.activation_sizes)
    assert n_layers == 1
    objective = LayerAlignment(
        problem.data,
        problem.network,
        problem.module,
        problem.networks,
        batch_size=None,
        families=(),
        layer_weights=[0.3, 2.0],
        discrimination=0.01,
        rounds=Rounds(0.04, 0.03, 5, 3, 4, 0.1, 3),
    )

    def loss_of(leaf):
        batch = problem.data.batch(problem.draw, None, dtype=DOUBLE)
        real, own = [], []
        problem.call(problem.networks.parameters, batch.images, real, training=False)
        problem.call(problem.networks.parameters, leaf, own, training=False)
        total = 0.0
        # The first layer sees the image itself.
        for weight, place in ((0.3, -2), (2.0, -1)):
            rows = real[place], own[place]
            for one, other in class_means(problem, rows, batch):
                total = total + weight * (one - other).square().sum()
        means = torch.stack(
            [other for _, other in class_means(problem, (real[-1], own[-1]), batch)]
        )
        scores = (real[-1] @ means.T).log_softmax(1)
        losses = -scores[torch.arange(len(scores)), batch.codes]
        return total + 256 * 0.01 * (batch.weights * losses).sum()

    problem.agree(objective, loss_of, 1e-12)


@every
@pytest.mark.parametrize(
    "optimizer",
    [InnerSGD(0.5, 0.05), InnerAdam(weight_decay=0.05)],
    ids=["sgd", "adam"],
)
def test_loss_after_training(name, optimizer):
    problem = Problem(name)
    is_trained = problem.network.is_trained
    optimizer.is_trained = None if is_trained.all() else is_trained
    rate = 0.02
    objective = MetaLoss(
        problem.data,
        problem.network,
        problem.networks,
        optimizer=optimizer,
        step_size=LearnedStepSize(rate, 0.0),
        n_steps=4,
        window=4,
        position="last",
        batch_size=None,
        n_real=None,
        families=(),
        clip=None,
    )

    def loss_of(leaf):
        steps = plan_steps(
            4,
            6,
            batch_size=None,
            families=(),
            generator=problem.draw.generator(),
            is_random=problem.network.is_random,
        )
        theta, memory = problem.start(), ()
        for number, step in enumerate(steps, start=1):
            gradient = problem.gradient(theta, leaf, problem.labels, seed=step.seed)
            gradient = gradient + 0.05 * theta * is_trained
            if isinstance(optimizer, InnerSGD):
                memory = gradient + 0.5 * memory if number > 1 else gradient
                theta = theta - rate * memory
                continue
            first, second = memory or (0.0, 0.0)
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient.square()
            memory = first, second
            root = (second / (1 - 0.999**number)).clamp_min(1e-300).sqrt()
            theta = theta - rate * first / (1 - 0.9**number) / (root + 1e-8)
        # What is not trained has not moved.
        assert torch.equal(theta[~is_trained], problem.start()[~is_trained])
        batch = problem.data.batch(problem.draw, None, dtype=DOUBLE)
        targets = one_hot(batch.codes, N_CLASSES, DOUBLE) * batch.weights[:, None]
        scores = problem.call(theta, batch.images, training=False).log_softmax(1)
        return -(targets / N_CLASSES * scores).sum()

    problem.agree(objective, loss_of, 1e-9)


def test_images_pass_in_parts(monkeypatch):
    """However many images go through a network at once, the derivatives are those."""
    problem = Problem("group norm")
    theta, images, targets = problem.networks.parameters, problem.images, problem.labels
    direction = torch.randn_like(theta)
    places = range(len(problem.network.activation_sizes))

    def everything():
        tapes, feature_tapes = [], []
        network = problem.network
        gradient = network.gradient(theta, images, targets, tapes=tapes)
        kept = network.curvature(theta, direction, images, targets, tapes=tapes)
        again = network.curvature(theta, direction, images, targets)
        features = network.features(
            theta, images, activations=places, tapes=feature_tapes
        )
        by_images = network.pull_back(theta, images, features, tapes=feature_tapes)
        alone = network.pull_back(theta, images, features)
        return [gradient, *kept, *again, *features.tensors(), by_images, alone]

    expected = everything()
    monkeypatch.setattr(
        "skdistill.neural_network._module_features._BATCH",
        4,
    )
    for one, other in zip(everything(), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
