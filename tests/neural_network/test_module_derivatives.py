"""Derivatives of any module, against automatic differentiation of the whole."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from skdistill.neural_network import ConvNet
from skdistill.neural_network._architectures import build_network
from skdistill.neural_network._convnet import flatten_parameters
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.neural_network._feature_derivatives import Features
from skdistill.neural_network._module_derivatives import ModuleDerivatives

SHAPE = (8, 8, 2)
N_CLASSES = 3


class Separable(nn.Module):
    """A depthwise convolution and a pointwise one."""

    def __init__(self):
        super().__init__()
        self.depthwise = nn.Conv2d(2, 4, 3, padding=1, groups=2)
        self.pointwise = nn.Conv2d(4, 6, 1)
        self.head = nn.Linear(6, N_CLASSES)

    def forward(self, images):
        maps = nn.functional.gelu(self.pointwise(self.depthwise(images)))
        return self.head(maps.mean((2, 3)))


class Transformer(nn.Module):
    """Patches of 4x4 pixels, attention, and the mean over patches."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.patches = nn.Conv2d(2, 8, 4, stride=4)
        self.places = nn.Parameter(0.1 * torch.randn(1, 4, 8))
        self.layer = nn.TransformerEncoderLayer(
            8, 2, 16, dropout=dropout, batch_first=True, norm_first=True
        )
        self.head = nn.Linear(8, N_CLASSES)

    def forward(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2) + self.places
        return self.head(self.layer(patches).mean(1))


class Dropped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(128, 16)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(16, N_CLASSES)

    def forward(self, images):
        return self.last(self.drop(torch.tanh(self.first(images.flatten(1)))))


def named(name, **settings):
    def build():
        return build_network(name, SHAPE, N_CLASSES, width_multiplier=0.07, **settings)

    return build


NETWORKS = {
    "mlp": named("mlp"),
    "resnet18 group": named("resnet18", normalization="group"),
    "resnet18 instance": named("resnet18", normalization="instance"),
    "resnet18 layer": named("resnet18", normalization="layer"),
    "vgg11": named("vgg11", normalization="group"),
    "alexnet": named("alexnet", normalization="none"),
    "separable": Separable,
    "transformer": Transformer,
    "dropout": Dropped,
    "transformer with dropout": lambda: Transformer(0.2),
}


def problem(name, n_images=4):
    torch.manual_seed(0)
    module = NETWORKS[name]().double()
    images = torch.randn(n_images, 2, 8, 8, dtype=torch.float64)
    targets = torch.rand(n_images, N_CLASSES, dtype=torch.float64).softmax(1)
    return module, images, targets


def loss_of(module, names, shapes, parameters, images, targets, seed):
    """The mean cross-entropy as one function, in a graph."""
    parts = parameters.split([shape.numel() for shape in shapes])
    values = {
        name: part.view(shape)
        for name, part, shape in zip(names, parts, shapes, strict=True)
    }
    module.train()
    with torch.random.fork_rng(), sdpa_kernel(SDPBackend.MATH):
        torch.manual_seed(seed)
        logits = functional_call(module, values, (images,))
    return -(targets * logits.log_softmax(1)).sum(1).mean()


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_and_curvature_are_those_of_double_differentiation(name, keep):
    module, images, targets = problem(name)
    network = ModuleDerivatives(module, images)
    assert network.is_random == ("dropout" in name)
    names = [each for each, _ in module.named_parameters()]
    shapes = [each.shape for each in module.parameters()]
    parameters = flatten_parameters(module).requires_grad_()
    images.requires_grad_()
    targets.requires_grad_()
    loss = loss_of(module, names, shapes, parameters, images, targets, 7)
    (expected,) = torch.autograd.grad(loss, parameters, create_graph=True)
    direction = torch.randn_like(parameters)
    product = direction @ expected
    second = torch.autograd.grad(product, [images, targets, parameters])

    tapes = [] if keep else None
    found = network.gradient(parameters, images, targets, seed=7, tapes=tapes)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-10, atol=1e-12)
    assert not found.requires_grad
    curvature = network.curvature(
        parameters, direction, images, targets, seed=7, tapes=tapes
    )
    torch.testing.assert_close(curvature.product, product.detach())
    for one, other in zip(curvature[1:], second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
def test_convnet_is_as_written_out(loss):
    torch.manual_seed(0)
    module = ConvNet(SHAPE, N_CLASSES, width=4, depth=2).double()
    images = torch.randn(5, 2, 8, 8, dtype=torch.float64)
    targets = torch.randn(5, N_CLASSES, dtype=torch.float64)
    weights = torch.rand(5, dtype=torch.float64)
    one = ConvNetDerivatives(module, loss=loss)
    other = ModuleDerivatives(module, images, loss=loss)
    parameters = flatten_parameters(module).detach()
    direction = torch.randn_like(parameters)
    torch.testing.assert_close(
        other.gradient(parameters, images, targets, weights=weights),
        one.gradient(parameters, images, targets, weights=weights),
    )
    arguments = (parameters, direction, images, targets)
    for found, expected in zip(
        other.curvature(*arguments, weights=weights),
        one.curvature(*arguments, weights=weights),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    found, expected = (each.features(parameters, images) for each in (other, one))
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.embedding, expected.embedding)
    adjoints = Features(
        embedding=torch.randn_like(found.embedding),
        logits=torch.randn_like(found.logits),
    )
    torch.testing.assert_close(
        other.pull_back(parameters, images, adjoints),
        one.pull_back(parameters, images, adjoints),
    )
    codes = torch.tensor([0, 0, 2, 2, 2])
    sums = [
        each.mean_features(parameters, images, codes, weights) for each in (other, one)
    ]
    for found, expected in zip(*(each.tensors() for each in sums), strict=True):
        torch.testing.assert_close(found, expected)
    assert (other.n_features, other.n_classes) == (one.n_features, one.n_classes)
    assert other.n_parameters == one.n_parameters


def test_draws_of_dropout_are_those_of_the_seed():
    module, images, targets = problem("dropout")
    network = ModuleDerivatives(module, images)
    parameters = flatten_parameters(module).detach()
    before = torch.get_rng_state()
    found = [network.gradient(parameters, images, targets, seed=n) for n in (1, 1, 2)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(torch.get_rng_state(), before)
    # What a network makes of images is not random.
    assert torch.equal(
        network.features(parameters, images).logits,
        network.features(parameters, images).logits,
    )


def test_frozen_parameters_have_no_gradient():
    module, images, targets = problem("separable")
    module.depthwise.requires_grad_(False)
    network = ModuleDerivatives(module, images)
    parameters = flatten_parameters(module).detach()
    n_frozen = sum(each.numel() for each in module.depthwise.parameters())
    found = network.gradient(parameters, images, targets)
    assert (found[:n_frozen] == 0).all()
    assert (found[n_frozen:] != 0).any()
    by_parameters = network.curvature(
        parameters, torch.ones_like(parameters), images, targets
    ).parameters
    assert (by_parameters[:n_frozen] == 0).all()


def test_nothing_of_the_module_is_changed():
    module, images, targets = problem("transformer")
    module.eval()
    before = {name: each.clone() for name, each in module.state_dict().items()}
    network = ModuleDerivatives(module, images)
    network.gradient(torch.zeros(network.n_parameters).double(), images, targets)
    assert not module.training
    after = module.state_dict()
    assert all(torch.equal(after[name], each) for name, each in before.items())
    assert all(each.grad is None for each in module.parameters())


def test_batch_normalization_is_refused_by_name():
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    with pytest.raises(ValueError, match=r"BatchNorm2d '1'.*group, layer or instance"):
        ModuleDerivatives(module, torch.zeros(2, 2, 8, 8))


class Over(nn.Module):
    """A network of what a function makes of the features of all images."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.first = nn.Linear(128, 5)
        self.last = nn.Linear(5, N_CLASSES)

    def forward(self, images):
        return self.last(self.function(self.first(images.flatten(1))))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.batch_norm(x, None, None, training=True),
        lambda x: (x - x.mean(0)) / (x.std(0) + 0.1),
        lambda x: x + 0.1 * (x @ x.T).softmax(1) @ x,
        lambda x: F.dropout(x - x.mean(0), 0.2),
    ],
)
def test_logits_that_depend_on_other_images_are_refused(function):
    torch.manual_seed(0)
    for images in (torch.randn(2, 2, 8, 8), torch.zeros(2, 2, 8, 8)):
        with pytest.raises(ValueError, match=r"depend on the other images.*group, lay"):
            ModuleDerivatives(Over(function), images)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.layer_norm(x, (5,)),
        lambda x: F.dropout(x, 0.5),
        lambda x: x / x.norm(dim=1, keepdim=True),
        lambda x: 0 * x,
    ],
)
def test_logits_of_each_image_alone_are_not_refused(function):
    torch.manual_seed(0)
    ModuleDerivatives(Over(function), 1e3 * torch.randn(2, 2, 8, 8))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.detach(),
        lambda x: x.int().float(),
        lambda x: torch.from_numpy(np.tanh(x.numpy())),
        lambda x: torch.zeros(len(x), 5),
    ],
)
def test_logits_without_a_derivative_by_the_pixels_are_refused(function):
    with pytest.raises(ValueError, match=r"no gradient with respect to the pixels"):
        ModuleDerivatives(Over(function), torch.randn(2, 2, 8, 8))


def test_other_generators_than_that_of_pytorch_are_refused():
    rng = np.random.default_rng(0)
    module = Over(lambda x: x * float(rng.random()))
    with pytest.raises(
        ValueError, match="a random generator other than that of PyTorch"
    ):
        ModuleDerivatives(module, torch.randn(2, 2, 8, 8))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_recomputation_is_refused(use_reentrant, dropout):
    """It takes the parameters of the module, not those that it is called with."""

    class Recomputed(Over):
        def forward(self, images):
            first = nn.Sequential(nn.Flatten(), self.first, nn.Dropout(dropout))
            seen = checkpoint(first, images, use_reentrant=use_reentrant)
            return self.last(seen.tanh())

    with pytest.raises(ValueError, match=r"torch\.utils\.checkpoint"):
        ModuleDerivatives(Recomputed(None), torch.randn(2, 2, 8, 8))


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return values.sin()

    @staticmethod
    @once_differentiable
    def backward(ctx, adjoint):
        return adjoint * ctx.saved_tensors[0].cos()


@pytest.mark.parametrize(
    "function", [Once.apply, torch.compile(torch.tanh, backend="aot_eager")]
)
def test_functions_without_a_second_derivative_are_found(function):
    """PyTorch takes it for 0 if it differentiates by some tensors only."""
    network = ModuleDerivatives(Over(function), torch.randn(2, 2, 8, 8))
    with pytest.raises(ValueError, match="must be twice differentiable"):
        network.check_second()


@pytest.mark.parametrize("name", ["separable", "transformer with dropout"])
def test_second_derivatives_are_not_refused(name):
    module, images, _ = problem(name)
    ModuleDerivatives(module, images).check_second()
    assert all(each.grad is None for each in module.parameters())


@pytest.mark.parametrize("p", [0.0, 1e-4])
def test_draws_that_are_rare_are_draws(p):
    module = Over(nn.Dropout(p))
    assert ModuleDerivatives(module, torch.randn(2, 2, 8, 8)).is_random == (p > 0)


def test_draws_out_of_training_are_always_the_same():
    network = ModuleDerivatives(Over(lambda x: F.dropout(x, 0.5)), torch.randn(2, 128))
    images = torch.randn(3, 128)
    parameters = torch.randn(network.n_parameters)
    tapes = []
    before = torch.get_rng_state()
    found = network.features(parameters, images, tapes=tapes)
    adjoints = Features(found.embedding.cos(), found.logits.sin(), {}, {})
    again = network.features(parameters, images)
    assert torch.equal(again.logits, found.logits)
    kept = network.pull_back(parameters, images, adjoints, tapes=tapes)
    assert torch.equal(network.pull_back(parameters, images, adjoints), kept)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore:`?torch.nn.utils.weight_norm:FutureWarning")
def test_computed_weights_are_copied():
    module = Over(torch.tanh)
    nn.utils.weight_norm(module.first)
    images = torch.randn(2, 2, 8, 8)
    network = ModuleDerivatives(module, images)
    parameters = flatten_parameters(module)
    found = network.features(parameters, images).logits
    torch.testing.assert_close(found, module(images).detach())


@pytest.mark.filterwarnings("ignore:`?torch.nn.utils.weight_norm:FutureWarning")
@pytest.mark.parametrize(
    "normalize", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm]
)
@pytest.mark.parametrize("dim", [0, 1, None])
def test_second_derivatives_of_weight_normalization(normalize, dim):
    # Those of PyTorch are wrong: differences of gradients tell.
    torch.manual_seed(0)
    module = Over(torch.tanh).double()
    normalize(module.first, dim=dim)
    images = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    targets = torch.eye(3, dtype=torch.float64)
    network = ModuleDerivatives(module, images)
    parameters = flatten_parameters(module)
    direction, step = torch.randn_like(parameters), torch.randn_like(parameters)
    found = network.curvature(parameters, direction, images, targets).parameters
    before, after = (
        network.gradient(parameters + sign * 1e-5 * step, images, targets)
        for sign in (-1, 1)
    )
    expected = direction @ (after - before) / 2e-5
    torch.testing.assert_close(found @ step, expected, rtol=1e-5, atol=1e-8)


def test_layers_may_be_called_by_name():
    class Named(Over):
        def forward(self, images):
            return self.last(input=self.first(input=images.flatten(1)).tanh())

    images = torch.randn(2, 2, 8, 8)
    assert ModuleDerivatives(Named(None), images).n_features == 5


def test_modules_of_torchscript_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.trace(Over(torch.tanh), torch.randn(2, 2, 8, 8))
    with pytest.raises(ValueError, match="which those of TorchScript cannot"):
        ModuleDerivatives(module, torch.randn(2, 2, 8, 8))


def test_modules_that_change_their_inputs_are_refused():
    class InPlace(Over):
        def forward(self, images):
            return super().forward(images.sub_(0.5))

    with pytest.raises(ValueError, match=r"change its inputs in place.* raised Runt"):
        ModuleDerivatives(InPlace(torch.tanh), torch.randn(2, 2, 8, 8))


def test_statistics_that_training_gathers_are_refused_by_name():
    module = nn.Sequential(
        nn.InstanceNorm2d(2, track_running_stats=True),
        nn.Flatten(),
        nn.Linear(128, N_CLASSES),
    )
    with pytest.raises(ValueError, match=r"buffer '0\.running_mean' during training"):
        ModuleDerivatives(module, torch.randn(2, 2, 8, 8))


def test_module_without_a_linear_layer_has_no_embedding():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, N_CLASSES, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    images = torch.randn(2, 2, 8, 8)
    network = ModuleDerivatives(module, images)
    found = network.features(flatten_parameters(module), images)
    assert found.embedding is None
    torch.testing.assert_close(found.logits, module(images).detach())
    assert network.n_features == 0


def test_buffers_of_the_module_are_used():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(128, N_CLASSES)
            self.register_buffer("scale", torch.full((), 3.0))

        def forward(self, images):
            return self.scale * self.head(images.flatten(1))

    module, images = Scaled(), torch.randn(2, 2, 8, 8)
    network = ModuleDerivatives(module, images)
    parameters = torch.cat([part.detach().flatten() for part in module.parameters()])
    assert network.n_parameters == len(parameters)
    found = network.features(parameters, images).logits
    torch.testing.assert_close(found, module(images).detach())
