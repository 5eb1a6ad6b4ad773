import math

import numpy as np
import pytest
import torch
from torch.func import functional_call

from skdistill.distillation._engine._objective import Draw
from skdistill.distillation._engine._optimizers import SGD
from skdistill.distillation._engine._parameters import (
    HardLabels,
    Probabilities,
    SyntheticParameters,
    one_hot,
)
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._objectives._inner_optimizers import InnerAdam, InnerSGD
from skdistill.distillation._objectives._meta_loss import MetaLoss, real_loss
from skdistill.distillation._objectives._networks import RandomNetworks
from skdistill.distillation._objectives._student_lr import (
    MAX_LOG_CHANGE,
    LearnedStepSize,
)
from skdistill.distillation._objectives._unrolled import plan_steps
from skdistill.neural_network._augment import FAMILIES, augment
from skdistill.neural_network._convnet import ConvNet
from skdistill.neural_network._derivatives import ConvNetDerivatives

SHAPE = (8, 9, 2)
# What each makes of a parameter, a gradient and its memory; with a step size.
OPTIMIZERS = {
    "sgd": (InnerSGD(), 0.3),
    "momentum": (InnerSGD(momentum=0.9, weight_decay=0.05), 0.1),
    "adam": (InnerAdam(), 0.01),
}


def build():
    return ConvNet(SHAPE, 3, width=3, depth=2)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], [5, 9, 4])
    images = rng.normal(size=(18, *SHAPE)).astype(np.float32)
    images += codes[:, None, None, None]
    weight = rng.uniform(0.5, 2, 18)
    return RealData(
        images,
        codes,
        weight,
        np.arange(3),
        device=torch.device("cpu"),
        fingerprint="",
        given=(images, codes, weight),
    )


def parameters(learned=True, ipc=2, rate=0.1):
    generator = torch.Generator().manual_seed(0)
    codes = torch.arange(3).repeat_interleave(ipc)
    images = torch.randn(3 * ipc, 2, 8, 9, generator=generator, dtype=torch.float64)
    logits = torch.randn(3 * ipc, 3, generator=generator, dtype=torch.float64)
    labels = (
        Probabilities(SGD(logits, rate, 1.0))
        if learned
        else HardLabels(one_hot(codes, 3, torch.float64))
    )
    return SyntheticParameters(SGD(images, rate, 1.0), labels, codes, {})


def make(data, optimizer="sgd", **changes):
    inner, step_size = OPTIMIZERS[optimizer]
    settings = {
        "optimizer": inner,
        "step_size": LearnedStepSize(step_size, 0.1),
        "n_steps": 6,
        "window": 6,
        "position": "last",
        "batch_size": None,
        "n_real": None,
        "families": (),
        "clip": None,
    } | changes
    device = torch.device("cpu")
    return MetaLoss(
        data,
        ConvNetDerivatives(build()),
        RandomNetworks(build, device),
        **settings,
    )


def logits(theta, images):
    module = build()
    named = dict(module.named_parameters())
    parts = theta.split([part.numel() for part in named.values()])
    views = {
        name: part.view(named[name].shape)
        for name, part in zip(named, parts, strict=True)
    }
    return functional_call(module, views, (images,))


def plain(
    data, synthetic, draw, optimizer, *, n_before=0, window, batch_size, families
):
    """Loss and gradients from the equations, with one graph over the window."""
    inner, step_size = OPTIMIZERS[optimizer]
    images = synthetic.images.clone().requires_grad_()
    labels = synthetic.labels.clone().requires_grad_()
    logarithm = torch.tensor(math.log(step_size), dtype=torch.float64)
    logarithm.requires_grad_()
    theta, _ = RandomNetworks(build, data.device)(draw)
    theta = theta.double().requires_grad_()
    first = second = torch.zeros_like(theta)
    steps = plan_steps(
        n_before + window,
        len(images),
        batch_size=batch_size,
        families=families,
        generator=draw.generator(),
    )
    for place, step in enumerate(steps):
        if place == n_before:
            theta = theta.detach().requires_grad_()
            first, second = first.detach(), second.detach()
        chosen = slice(None) if step.batch is None else step.batch
        seen = augment(images[chosen], step.draw, data.pixel_scale)
        loss = -(labels[chosen] * logits(theta, seen).log_softmax(1)).sum(1).mean()
        gradient = torch.autograd.grad(loss, theta, create_graph=True)[0]
        gradient = gradient + inner.weight_decay * theta
        if isinstance(inner, InnerSGD):
            update = first = inner.momentum * first + gradient
        else:
            one, two = inner.betas
            first = one * first + (1 - one) * gradient
            second = two * second + (1 - two) * gradient**2
            root = (second / (1 - two ** (place + 1))).sqrt()
            update = first / (1 - one ** (place + 1)) / (root + inner.epsilon)
        theta = theta - logarithm.exp() * update
    # Weighted means of the classes, and their mean.
    real = torch.from_numpy(data.images).permute(0, 3, 1, 2).double()
    codes, weight = torch.from_numpy(data.codes), torch.from_numpy(data.weight)
    losses = torch.nn.functional.cross_entropy(
        logits(theta, real), codes, reduction="none"
    )
    means = [
        (weight * losses)[codes == code].sum() / weight[codes == code].sum()
        for code in range(3)
    ]
    loss = sum(means) / 3
    return loss.detach(), torch.autograd.grad(loss, [images, labels, logarithm])


@pytest.mark.parametrize("families", [(), FAMILIES], ids=["plain", "dsa"])
@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize("n_before", [0, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("window", [1, 6])
def test_gradients_are_those_of_the_unrolled_loop(
    data, window, optimizer, n_before, batch_size, families, monkeypatch
):
    # Real images as they are: the plain form has all of them, in another order.
    monkeypatch.setattr(MetaLoss, "_real_batch", plain_batch)
    synthetic, draw = parameters(), Draw(3, 5)
    options = {"window": window, "batch_size": batch_size, "families": families}
    objective = make(data, optimizer, n_steps=n_before + window, **options)
    found = objective.evaluate(synthetic, draw)
    loss, expected = plain(
        data, synthetic, draw, optimizer, n_before=n_before, **options
    )
    assert float(found.metrics["loss"]) == pytest.approx(float(loss), rel=1e-9)
    assert found.notes == {"window_start": n_before}
    results = [
        found.gradients["images"],
        found.gradients["labels"],
        found.metrics["by_step_size"],
    ]
    for result, wanted in zip(results, expected, strict=True):
        error = (result - wanted).norm() / wanted.norm().clamp_min(1e-3)
        assert error <= 1e-9


def plain_batch(self, draw, dtype):
    return self._data.batch(draw, None, dtype=dtype)


def test_loss_and_accuracy_are_means_of_classes(data):
    network = ConvNetDerivatives(build())
    draw = Draw(0, 0)
    theta = RandomNetworks(build, data.device)(draw)[0].double()
    batch = data.batch(draw, 3, dtype=torch.float64)
    found = real_loss(network, theta, batch, 3)
    scores = logits(theta, batch.images)
    losses = torch.nn.functional.cross_entropy(scores, batch.codes, reduction="none")
    is_right = scores.argmax(1) == batch.codes
    own = [batch.codes == code for code in range(3)]
    expected = [
        np.mean([np.average(values[one], weights=batch.weights[one]) for one in own])
        for values in (losses.numpy(), is_right.numpy())
    ]
    assert float(found.loss) == pytest.approx(expected[0], rel=1e-12)
    assert float(found.accuracy) == pytest.approx(expected[1], rel=1e-12)
    theta.requires_grad_()
    weights = batch.weights / 3
    loss = torch.nn.functional.cross_entropy(
        logits(theta, batch.images), batch.codes, reduction="none"
    )
    (gradient,) = torch.autograd.grad((weights * loss).sum(), theta)
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-9, atol=1e-12)


def test_window_starts_where_its_position_says(data):
    synthetic = parameters(learned=False)

    def starts(position, n=40):
        objective = make(data, n_steps=6, window=4, position=position)
        return [
            objective.evaluate(synthetic, Draw(0, k)).notes["window_start"]
            for k in range(n)
        ]

    assert set(starts("first", 3)) == {0}
    assert set(starts("last", 3)) == {2}
    drawn = starts("random")
    assert set(drawn) == {0, 1, 2}
    assert starts("random") == drawn


def test_draw_alone_decides(data):
    synthetic = parameters()
    objective = make(
        data,
        "momentum",
        window=2,
        position="random",
        n_real=2,
        batch_size=2,
        families=FAMILIES,
    )
    one, again = (objective.evaluate(synthetic, Draw(1, 2)) for _ in range(2))
    assert torch.equal(one.gradients["images"], again.gradients["images"])
    for other in (Draw(2, 2), Draw(1, 3), Draw(1, 2, 1)):
        found = objective.evaluate(synthetic, other)
        assert not torch.equal(one.gradients["images"], found.gradients["images"])


def test_labels_have_a_gradient_only_where_they_are_learned(data):
    objective = make(data)
    assert set(objective.evaluate(parameters(), Draw(0, 0)).gradients) == {
        "images",
        "labels",
    }
    found = objective.evaluate(parameters(learned=False), Draw(0, 0))
    assert set(found.gradients) == {"images"}


def test_outliers_are_clipped_at_a_multiple_of_the_running_norm(data):
    synthetic, draw = parameters(), Draw(0, 0)
    free = make(data).evaluate(synthetic, draw)
    norm = float(free.gradients["images"].norm())
    objective = make(data, clip=2.0)
    # The first gradient is as it is, and so is one of the bound.
    for earlier in (None, norm / 2):
        if earlier is not None:
            objective.advance(synthetic, {"gradient_norm": earlier}, draw)
        found = objective.evaluate(synthetic, draw)
        torch.testing.assert_close(
            found.gradients["images"], free.gradients["images"], rtol=1e-12, atol=0
        )
    objective.restore({"gradient_norm": torch.tensor(norm / 20)})
    found = objective.evaluate(synthetic, draw)
    torch.testing.assert_close(
        found.gradients["images"], free.gradients["images"] / 10, rtol=1e-6, atol=0
    )
    assert float(found.metrics["gradient_norm"]) == pytest.approx(norm / 10)
    # Labels and step size are not clipped.
    assert torch.equal(found.gradients["labels"], free.gradients["labels"])
    # One mad gradient moves the running norm by a tenth at most.
    objective.advance(synthetic, {"gradient_norm": norm / 10}, draw)
    assert float(objective.state()["gradient_norm"]) == pytest.approx(norm / 20 * 1.1)


def test_state_is_restored_and_checked(data):
    objective = make(data, clip=2.0)
    assert objective.state() == {}
    objective.advance(parameters(), {"gradient_norm": 3.0}, Draw(0, 0))
    other = make(data, clip=2.0)
    other.restore(objective.state())
    assert float(other.state()["gradient_norm"]) == 3
    other.restore({})
    assert other.state() == {}
    for wrong in (torch.tensor(-1.0), torch.tensor(math.nan), torch.ones(2)):
        with pytest.raises(ValueError, match="norm"):
            other.restore({"gradient_norm": wrong})


def test_step_size_is_learned_only_with_a_learning_rate(data):
    fixed = LearnedStepSize(0.1, 0.0)
    assert make(data, step_size=fixed).extras() == {}
    fixed.step({"by_step_size": 1.0}, 1.0)
    assert fixed.value == pytest.approx(0.1)
    learned = LearnedStepSize(0.1, 0.05)
    assert make(data, step_size=learned).extras() == {"step_size": learned}
    state = learned.state()
    learned.step({"by_step_size": -1.0}, 0.5)
    assert learned.value == pytest.approx(0.1 * math.exp(0.025))
    learned.step({"by_step_size": -1e9}, 1.0)
    assert learned.value == pytest.approx(0.1 * math.exp(0.025 + MAX_LOG_CHANGE))
    learned.restore(state)
    assert learned.value == pytest.approx(0.1)


def test_following_the_gradients_lowers_the_loss(data):
    synthetic = parameters(rate="auto")
    step_size = LearnedStepSize(0.1, 0.02)
    objective = make(data, "momentum", n_steps=8, window=8, step_size=step_size)
    synthetic.extras = objective.extras()
    losses = []
    for _ in range(20):
        found = objective.evaluate(synthetic, Draw(0, 0))
        numbers = {name: float(value) for name, value in found.metrics.items()}
        losses.append(numbers["loss"])
        synthetic.step(found.gradients, numbers)
    assert losses[-1] < 0.85 * losses[0]
