from itertools import chain

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skdistill.neural_network._augment import FAMILIES
from skdistill.neural_network._convnet import ConvNet, flatten_parameters
from skdistill.neural_network._training import balanced_weights, train_epochs
from skdistill.utils._pixel_space import pixel_scale
from skdistill.utils._random import isolated_torch_seed, torch_generator
from skdistill.utils._tensors import to_images, to_tensor

N_SAMPLES, N_CLASSES = 7, 3


@pytest.fixture
def module():
    with isolated_torch_seed(0):
        return ConvNet((4, 4, 2), N_CLASSES, width=3, depth=1).double()


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(N_SAMPLES, 2, 4, 4)))
    return images, torch.from_numpy(rng.integers(N_CLASSES, size=N_SAMPLES))


def _train(module, images, targets, **options):
    settings = {
        "n_epochs": 1,
        "batch_size": N_SAMPLES,
        "learning_rate": lambda epoch: 0.1,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "families": (),
        "scale": 1.0,
        "generator": torch_generator(0),
    }
    epochs = list(train_epochs(module, images, targets, **settings | options))
    return epochs, flatten_parameters(module)


def _by_hand(
    module, images, probabilities, *, rates, momentum=0.0, weight_decay=0.0, weight=1.0
):
    """Full-batch gradient descent with momentum, formula by formula."""
    velocity = None
    losses = []
    for rate in rates:
        logits = module(images)
        log_sum = logits.exp().sum(dim=1).log()
        loss = (weight * (log_sum - (probabilities * logits).sum(dim=1))).mean()
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        losses.append(loss.item())
        with torch.no_grad():
            steps = [
                gradient + weight_decay * parameter
                for gradient, parameter in zip(
                    gradients, module.parameters(), strict=True
                )
            ]
            velocity = (
                steps
                if velocity is None
                else [momentum * v + s for v, s in zip(velocity, steps, strict=True)]
            )
            for parameter, v in zip(module.parameters(), velocity, strict=True):
                parameter -= rate * v
    return losses, flatten_parameters(module)


def _copy(module):
    copy = ConvNet((4, 4, 2), N_CLASSES, width=3, depth=1).double()
    copy.load_state_dict(module.state_dict())
    return copy


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0, 0), (0.9, 0), (0.5, 0.2)])
def test_full_batches_by_hand(module, data, momentum, weight_decay, weighted, soft):
    images, codes = data
    rng = np.random.default_rng(1)
    if soft:
        targets = torch.from_numpy(rng.dirichlet(np.ones(N_CLASSES), size=N_SAMPLES))
    else:
        targets = codes
    weight = torch.from_numpy(rng.uniform(0.2, 2, N_SAMPLES)) if weighted else None
    with isolated_torch_seed(0):
        by_hand = _copy(module)
    rates = [0.3, 0.2, 0.1]
    epochs, parameters = _train(
        module,
        images,
        targets,
        n_epochs=3,
        learning_rate=lambda epoch: rates[epoch],
        momentum=momentum,
        weight_decay=weight_decay,
        sample_weight=weight,
    )
    losses, expected = _by_hand(
        by_hand,
        images,
        targets if soft else F.one_hot(codes, N_CLASSES),
        rates=rates,
        momentum=momentum,
        weight_decay=weight_decay,
        weight=1.0 if weight is None else weight,
    )
    torch.testing.assert_close(parameters, expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose([epoch.loss for epoch in epochs], losses, rtol=1e-6)


def test_weight_of_two_is_the_image_twice(module, data):
    images, codes = data
    with isolated_torch_seed(0):
        other = _copy(module)
    counts = torch.tensor([2, 1, 1, 3, 1, 1, 1])
    weight = counts / counts.double().mean()
    options = {"n_epochs": 3, "momentum": 0.9, "weight_decay": 0.01}
    weighted, first = _train(module, images, codes, sample_weight=weight, **options)
    repeated, second = _train(
        other,
        images.repeat_interleave(counts, dim=0),
        codes.repeat_interleave(counts),
        batch_size=100,
        **options,
    )
    torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-12)
    assert weighted[-1].loss == pytest.approx(repeated[-1].loss, rel=1e-6)


def test_accuracy_is_that_of_the_images_seen(module, data):
    images, codes = data
    with torch.no_grad():
        predicted = module(images).argmax(dim=1)
    epochs, _ = _train(module, images, codes, learning_rate=lambda epoch: 0.0)
    assert epochs[0].accuracy == pytest.approx((predicted == codes).double().mean())
    soft = F.one_hot(predicted, N_CLASSES).double() * 0.8 + 0.2 / N_CLASSES
    epochs, _ = _train(module, images, soft, learning_rate=lambda epoch: 0.0)
    assert epochs[0].accuracy == 1


def test_each_epoch_sees_every_image_once(data, monkeypatch):
    images, codes = data
    images = torch.arange(float(N_SAMPLES)).double()[:, None, None, None] + 0 * images
    seen = []

    class Watcher(torch.nn.Linear):
        def forward(self, batch):
            seen.append(batch[:, 0, 0, 0].int().tolist())
            return super().forward(batch[:, :, 0, 0])

    with isolated_torch_seed(0):
        watcher = Watcher(2, N_CLASSES).double()
    _train(watcher, images, codes, n_epochs=2, batch_size=3)
    assert [len(batch) for batch in seen] == [3, 3, 1] * 2
    first, second = list(chain(*seen[:3])), list(chain(*seen[3:]))
    assert sorted(first) == sorted(second) == list(range(N_SAMPLES))
    assert first != second


@pytest.mark.parametrize("families", [(), FAMILIES])
def test_the_generator_decides(module, data, families):
    with isolated_torch_seed(0):
        modules = [_copy(module) for _ in range(3)]
    options = {"n_epochs": 4, "batch_size": 3, "families": families}
    before = torch.get_rng_state()
    first, second, other = (
        _train(copy, *data, generator=torch_generator(seed), **options)
        for copy, seed in zip(modules, [0, 0, 1], strict=True)
    )
    assert first[0] == second[0]
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], other[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_augmentation_is_used(module, data):
    with isolated_torch_seed(0):
        other = _copy(module)
    _, plain = _train(module, *data)
    _, augmented = _train(other, *data, families=("color",))
    assert not torch.allclose(plain, augmented)


def test_tensors_and_images_round_trip():
    images = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    tensor = to_tensor(images, torch.device("cpu"))
    assert tensor.shape == (1, 4, 2, 3)
    assert tensor[0, 3, 1, 2] == images[0, 1, 2, 3]
    back = to_images(tensor)
    np.testing.assert_array_equal(back, images)
    tensor.zero_()
    assert back.any()
    # one channel: the transposed array is contiguous, and may not be written to
    gray = np.ones((2, 3, 3, 1), dtype=np.float32)
    gray.flags.writeable = False
    to_tensor(gray, torch.device("cpu")).zero_()
    assert gray.all()


def test_pixel_scale():
    images = np.random.default_rng(0).normal(5, 3, size=(4, 5, 5, 2)).astype(np.float32)
    assert pixel_scale(images) == pytest.approx(images.astype(np.float64).std())
    assert pixel_scale(np.full((2, 2, 2, 1), 7.0)) == 1.0


def test_balanced_weights():
    codes = np.array([0, 0, 0, 1, 2, 2])
    weights = balanced_weights(codes, 3)
    np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2, 1, 1])
    weights = balanced_weights(codes, 3, np.array([1, 2, 3, 7, 0.1, 0.3]))
    np.testing.assert_allclose(weights, [1 / 3, 2 / 3, 1, 2, 0.5, 1.5])


def test_images_of_one_channel_are_laid_out_as_all_others():
    """Else the same images, read from a file, give other last bits."""
    images = np.zeros((3, 4, 5, 1), dtype=np.float32)
    tensor = to_tensor(images, torch.device("cpu"))
    assert tensor.stride() == torch.zeros(3, 1, 4, 5).stride()
