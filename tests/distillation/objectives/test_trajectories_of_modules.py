"""Trajectory gradients of any module, against one graph over all of its steps."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from skdistill.distillation._objectives._trajectory_distance import (
    match,
    match_gradient,
    plan_steps,
)
from skdistill.neural_network import ConvNet
from skdistill.neural_network._architectures import build_network
from skdistill.neural_network._augment import augment
from skdistill.neural_network._convnet import flatten_learned
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.neural_network._module_derivatives import ModuleDerivatives

SHAPE = (8, 8, 2)
N_CLASSES, N_IMAGES, SCALE = 3, 6, 0.8


class Separable(nn.Module):
    """Depthwise and pointwise convolutions, with a table that is not trained."""

    def __init__(self):
        super().__init__()
        self.register_buffer("gains", torch.tensor([1.0, 0.5]).view(2, 1, 1))
        self.depthwise = nn.Conv2d(2, 4, 3, padding=1, groups=2)
        self.pointwise = nn.Conv2d(4, 6, 1)
        self.norm = nn.GroupNorm(2, 6)
        self.head = nn.Linear(6, N_CLASSES)

    def forward(self, images):
        maps = self.pointwise(self.depthwise(self.gains * images))
        return self.head(nn.functional.silu(self.norm(maps)).mean((2, 3)))


class Transformer(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.patches = nn.Conv2d(2, 8, 4, stride=4)
        self.places = nn.Parameter(0.1 * torch.randn(1, 4, 8))
        layer = nn.TransformerEncoderLayer(
            8, 2, 16, dropout=dropout, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, N_CLASSES)

    def forward(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2) + self.places
        return self.head(self.encoder(patches).mean(1))


def named(name, **settings):
    def build():
        return build_network(name, SHAPE, N_CLASSES, width_multiplier=0.06, **settings)

    return build


def dropped():
    return nn.Sequential(
        *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, 9), nn.Tanh()),
        *(nn.Dropout(0.5), nn.Linear(9, N_CLASSES)),
    )


NETWORKS = {
    "mlp": named("mlp"),
    "resnet18 group": named("resnet18", normalization="group"),
    "resnet18 instance": named("resnet18", normalization="instance"),
    "resnet18 layer": named("resnet18", normalization="layer"),
    "vgg11": named("vgg11", normalization="group"),
    "alexnet": named("alexnet", normalization="instance"),
    "separable": Separable,
    "transformer": Transformer,
    "dropout": dropped,
    "transformer with dropout": lambda: Transformer(0.2),
}


class Problem:
    """A match of three steps with batches, augmentation and soft labels."""

    def __init__(self, module, is_random, seed=0):
        torch.manual_seed(seed)
        self.module = module.double().train()
        self.images = torch.randn(N_IMAGES, 2, 8, 8, dtype=torch.float64)
        self.targets = torch.randn(N_IMAGES, N_CLASSES).double().softmax(1)
        self.start = flatten_learned(self.module)
        self.target = self.start + 0.1 * torch.randn_like(self.start)
        self.log_step_size = torch.tensor(-1.5, dtype=torch.float64)
        self.steps = plan_steps(
            3,
            N_IMAGES,
            batch_size=4,
            families=("flip", "color", "rotate"),
            generator=torch.Generator().manual_seed(seed),
            is_random=is_random,
        )

    @property
    def arguments(self):
        return (
            self.start,
            self.target,
            self.images,
            self.targets,
            self.log_step_size,
            self.steps,
        )

    def unrolled(self):
        """The loss and its derivatives by one graph."""
        leaves = [self.images, self.targets, self.log_step_size]
        leaves = [leaf.clone().requires_grad_() for leaf in leaves]
        images, targets, log_step_size = leaves
        parts = dict(self.module.named_parameters())
        theta = self.start.clone().requires_grad_()
        for step in self.steps:
            views = {
                name: part.view(parts[name].shape)
                for name, part in zip(
                    parts,
                    theta.split([part.numel() for part in parts.values()]),
                    strict=True,
                )
            }
            seen, wanted = images, targets
            if step.batch is not None:
                seen, wanted = images[step.batch], targets[step.batch]
            with torch.random.fork_rng(), sdpa_kernel(SDPBackend.MATH):
                torch.manual_seed(step.seed)
                logits = functional_call(
                    self.module, views, (augment(seen, step.draw, SCALE),)
                )
            loss = -(wanted * logits.log_softmax(1)).sum(1).mean()
            (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
            theta = theta - log_step_size.exp() * gradient
        loss = (theta - self.target).square().sum()
        loss = loss / (self.start - self.target).square().sum()
        return loss.detach(), torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_one_graph_over_all_steps(name, keep):
    torch.manual_seed(0)
    module = NETWORKS[name]()
    is_random = "dropout" in name
    problem = Problem(module, is_random)
    network = ModuleDerivatives(problem.module, problem.images)
    assert network.is_random == is_random
    loss, expected = problem.unrolled()
    found = match_gradient(network, *problem.arguments, scale=SCALE, keep=keep)
    torch.testing.assert_close(found.match.loss, loss, rtol=1e-11, atol=0)
    for one, other in zip(found[1:], expected, strict=True):
        scale = float(other.abs().max())
        assert scale > 0
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * scale)
    again = match(network, *problem.arguments, scale=SCALE)
    torch.testing.assert_close(again.loss, loss, rtol=1e-11, atol=0)


def test_convnet_is_as_written_out():
    torch.manual_seed(0)
    module = ConvNet(SHAPE, N_CLASSES, width=4, depth=2)
    problem = Problem(module, is_random=False)
    found, expected = (
        match_gradient(network, *problem.arguments, scale=SCALE)
        for network in (
            ModuleDerivatives(problem.module, problem.images),
            ConvNetDerivatives(problem.module),
        )
    )
    torch.testing.assert_close(found.match.loss, expected.match.loss)
    for one, other in zip(found[1:], expected[1:], strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * scale)


def test_only_networks_that_draw_take_from_the_generator():
    def plan(is_random):
        generator = torch.Generator().manual_seed(1)
        steps = plan_steps(
            4,
            N_IMAGES,
            batch_size=4,
            families=("flip",),
            generator=generator,
            is_random=is_random,
        )
        return steps, generator.get_state()

    steps, state = plan(False)
    assert [step.seed for step in steps] == [0] * 4
    others, other_state = plan(True)
    assert len({step.seed for step in others}) == 4
    assert not torch.equal(state, other_state)
    # The first step draws its seed last.
    assert torch.equal(steps[0].draw.uniforms, others[0].draw.uniforms)
