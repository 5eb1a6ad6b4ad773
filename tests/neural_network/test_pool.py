"""Pools of networks: drawn, trained, renewed, and resumed bitwise identically."""

import io
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from skdistill.distillation._objectives._inner_optimizers import InnerAdam, InnerSGD
from skdistill.neural_network._augment import FAMILIES
from skdistill.neural_network._convnet import ConvNet, flatten_parameters
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.neural_network._module_derivatives import ModuleDerivatives
from skdistill.neural_network._pool import NetworkPool, TrainedNetwork, train_network
from skdistill.utils._random import isolated_torch_seed
from skdistill.utils._workers import worker_threads

CPU = torch.device("cpu")
build = partial(ConvNet, (4, 4, 1), 3, width=2, depth=1)
SQUARED = ConvNetDerivatives(build(), loss="squared").gradient


def make_pool(optimizer=None, *, gradient=SQUARED, **options):
    options = {
        "n_networks": 3,
        "max_steps": 4,
        "learning_rate": 0.05,
        "seed": 7,
        "device": CPU,
        "dtype": torch.float64,
    } | options
    return NetworkPool(build, gradient, optimizer or InnerAdam(), **options)


def data(n_images=5, seed=0):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.normal(size=(n_images, 1, 4, 4)))
    return images, torch.from_numpy(rng.normal(size=(n_images, 3)))


def everything(pool):
    state = pool.state()
    networks = [part for one in map(pool.__getitem__, range(len(pool))) for part in one]
    return state, networks


def same(one, other):
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])
    for a, b in zip(one[1], other[1], strict=True):
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b)
        elif isinstance(a, tuple):
            assert len(a) == len(b)
            assert all(map(torch.equal, a, b))
        else:
            assert a == b
    return True


RULES = {
    "sgd": (InnerSGD(), partial(torch.optim.SGD, lr=0.05)),
    "momentum": (
        InnerSGD(0.9, 0.01),
        partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01),
    ),
    "adam": (InnerAdam(), partial(torch.optim.Adam, lr=0.05)),
}


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_training_is_that_of_torch(rule, loss, is_weighted):
    ours, theirs = RULES[rule]
    images, targets = data()
    weights = torch.linspace(0.2, 2.0, 5, dtype=torch.float64) if is_weighted else None
    if loss == "cross_entropy":
        targets = targets.softmax(1)
    with isolated_torch_seed(3):
        module = build().double()
    network = TrainedNetwork(flatten_parameters(module))
    gradient = ConvNetDerivatives(module, loss=loss).gradient
    options = {"learning_rate": 0.05, "weights": weights}
    # In two calls: what the optimizer remembers goes on.
    network = train_network(
        network, gradient, ours, images, targets, n_steps=4, **options
    )
    network = train_network(
        network, gradient, ours, images, targets, n_steps=3, **options
    )
    assert network.n_steps == 7
    optimizer = theirs(module.parameters())
    for _ in range(7):
        optimizer.zero_grad()
        logits = module(images)
        if loss == "squared":
            losses = (logits - targets).square().sum(1) / 2
        else:
            losses = F.cross_entropy(logits, targets, reduction="none")
        (losses if weights is None else losses * weights).mean().backward()
        optimizer.step()
    torch.testing.assert_close(
        network.parameters, flatten_parameters(module), rtol=1e-9, atol=1e-9
    )


def test_batches_are_passes_over_all_images():
    seen = []

    def gradient(parameters, images, targets):
        assert torch.equal(images[:, 0, 0, 0], targets[:, 0])
        seen.append(targets[:, 0].tolist())
        return torch.zeros_like(parameters)

    images = torch.arange(7.0)[:, None, None, None].expand(-1, 1, 4, 4)
    train_network(
        TrainedNetwork(torch.zeros(2)),
        gradient,
        InnerSGD(),
        images,
        images[:, 0, 0, :3],
        learning_rate=1.0,
        n_steps=6,
        batch_size=3,
        generator=torch.Generator().manual_seed(0),
    )
    assert [len(batch) for batch in seen] == [3, 3, 1] * 2
    passes = [[*a, *b, *c] for a, b, c in (seen[:3], seen[3:])]
    assert [sorted(one) for one in passes] == [list(range(7))] * 2
    assert passes[0] != passes[1]


def test_networks_follow_the_seed_and_their_place():
    before = torch.get_rng_state()
    pool, again, other = make_pool(), make_pool(), make_pool(seed=8)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(everything(pool), everything(again))
    drawn = [pool[place].parameters for place in range(3)]
    pool.renew(1)
    drawn += [pool[1].parameters, other[0].parameters]
    assert len({tuple(one.tolist()) for one in drawn}) == 5
    again.renew(1)
    assert same(everything(pool), everything(again))


def test_networks_are_renewed_one_after_the_other():
    images, targets = data()
    pool = make_pool(n_networks=5, max_steps=9)
    ages = []
    for _ in range(40):
        ages.append([pool[place].n_steps for place in range(5)])
        pool.train(range(5), images, targets)
    ages = np.array(ages)
    # The first of each place makes fewer steps, later ones all of 0 to 9.
    assert ages[10:20].sum(axis=0).tolist() == [45] * 5
    assert ages.max() == 9
    renewed = (ages[1:] == 0).sum(axis=1)
    assert renewed.max() == 1
    assert len(np.unique(ages[-1])) == 5


def test_networks_without_training_are_new_each_time():
    images, targets = data()
    pool = make_pool(max_steps=0)
    drawn = []
    for _ in range(4):
        drawn += [tuple(pool[place].parameters.tolist()) for place in range(3)]
        pool.train(range(3), images, targets)
    assert len(set(drawn)) == 12
    assert all(pool[place].n_steps == 0 for place in range(3))


def test_random_lifetimes():
    pool = make_pool(max_steps=4, lifetime="random", n_networks=2)
    lifetimes = []
    for _ in range(300):
        lifetimes += [pool.max_steps_of(place) for place in range(2)]
        for place in range(2):
            pool.renew(place)
    counts = np.bincount(lifetimes, minlength=5)
    assert len(counts) == 5
    assert counts.min() > 80
    with pytest.raises(ValueError, match=r"`lifetime` must be one of .* got 'long'"):
        make_pool(lifetime="long")


def test_a_network_that_makes_several_steps_at_once():
    images, targets = data()
    pool = make_pool(n_networks=1, max_steps=5)
    ages = []
    for _ in range(4):
        pool.train([0], images, targets, n_steps=2)
        ages.append(pool[0].n_steps)
    # Six would be more than it may.
    assert ages == [2, 4, 0, 2]


def test_training_that_diverges_is_begun_anew():
    images, targets = data()
    pool = make_pool(InnerSGD(), learning_rate=1e300)
    first = pool[0].parameters
    pool.train([0], images, targets, n_steps=3)
    assert pool[0].n_steps == 0
    assert pool[0].parameters.isfinite().all()
    assert not torch.equal(pool[0].parameters, first)
    # Parameters that stand still for ever, since their second moment overflowed.
    pool = make_pool(InnerAdam())
    pool.train([0], images, targets * 1e160)
    assert pool[0].n_steps == 0


def iterate(pool, first, last):
    for iteration in range(first, last):
        images, targets = data(seed=iteration)
        chosen = [pool.choose(iteration, place) for place in range(2)]
        pool.train(chosen, images, targets)


@settings(max_examples=25)
@given(
    stop=st.integers(0, 14),
    rule=st.sampled_from(sorted(RULES)),
    lifetime=st.sampled_from(["fixed", "random"]),
    is_cut=st.booleans(),
)
def test_resumed_to_the_same_bits(stop, rule, lifetime, is_cut):
    options = {"lifetime": lifetime, "max_steps": 3}
    if is_cut:
        options |= {"batch_size": 2, "families": FAMILIES}
    whole, begun, resumed = (make_pool(RULES[rule][0], **options) for _ in range(3))
    iterate(whole, 0, 15)
    iterate(begun, 0, stop)
    file = io.BytesIO()
    torch.save(begun.state(), file)
    file.seek(0)
    resumed.restore(torch.load(file, weights_only=True))
    assert same(everything(resumed), everything(begun))
    iterate(resumed, stop, 15)
    assert same(everything(resumed), everything(whole))


def test_a_state_stays_what_it_was():
    pool = make_pool(InnerSGD(0.9))
    iterate(pool, 0, 5)
    state = pool.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    iterate(pool, 5, 20)
    assert all(torch.equal(state[name], before[name]) for name in before)
    assert any(name.endswith("memory.0") for name in before)
    pool.restore(state)
    iterate(pool, 5, 8)
    fresh = make_pool(InnerSGD(0.9))
    iterate(fresh, 0, 8)
    assert same(everything(pool), everything(fresh))


def test_what_is_no_state_of_the_pool():
    pool = make_pool()
    iterate(pool, 0, 3)
    state, before = pool.state(), everything(pool)
    name = next(name for name in state if name.endswith("parameters"))
    with pytest.raises(ValueError, match="pool of 4 networks"):
        make_pool(n_networks=4).restore(state)
    with pytest.raises(ValueError, match="pool of 3 networks"):
        pool.restore({})
    with pytest.raises(ValueError, match="networks with a different architecture"):
        pool.restore(state | {name: torch.zeros(3)})
    with pytest.raises(ValueError, match="networks with a different architecture"):
        pool.restore({key: state[key] for key in state if key != name})
    assert same(everything(pool), before)


def test_each_draw_of_an_iteration_gets_another_network():
    pool = make_pool(n_networks=4)
    chosen = [[pool.choose(i, place) for place in range(4)] for i in range(200)]
    assert all(sorted(one) == [0, 1, 2, 3] for one in chosen)
    assert np.bincount([one[0] for one in chosen]).min() > 30
    assert chosen == [[pool.choose(i, place) for place in range(4)] for i in range(200)]
    assert pool.choose(3, 5) == pool.choose(3, 1)


def test_same_bits_for_any_number_of_threads():
    one, other = make_pool(n_networks=4), make_pool(n_networks=4)
    images, targets = data()
    one.train(range(4), images, targets)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with worker_threads():
            other.train(range(4), images, targets)
    finally:
        torch.set_num_threads(before)
    assert same(everything(one), everything(other))


def test_loss_falls_from_step_to_step():
    images, targets = data(20)
    derivatives = ConvNetDerivatives(build(), loss="squared")
    pool = make_pool(max_steps=200, n_networks=1, learning_rate=0.01)

    def loss():
        logits = derivatives.features(pool[0].parameters, images).logits
        return float((logits - targets).square().sum(1).mean())

    first = loss()
    pool.train([0], images, targets, n_steps=150)
    assert loss() < 0.6 * first


class Dropped(torch.nn.Module):
    """What its dropout leaves decides on the gradient."""

    def __init__(self):
        super().__init__()
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(16, 3)

    def forward(self, images):
        return self.head(self.drop(images.flatten(1)))


def test_networks_drop_out_something_else_in_each_step():
    images, targets = data()
    network = ModuleDerivatives(Dropped().double(), images, loss="squared")
    seeds = []

    def gradient(*given, seed, **options):
        seeds.append(seed)
        return network.gradient(*given, seed=seed, **options)

    def make():
        return NetworkPool(
            Dropped,
            gradient,
            InnerAdam(),
            n_networks=2,
            max_steps=50,
            learning_rate=0.05,
            is_random=network.is_random,
            seed=7,
            device=CPU,
            dtype=torch.float64,
        )

    pool = make()
    pool.train([0, 1], images, targets, n_steps=2)
    state = pool.state()
    pool.train([0, 1], images, targets)
    assert len(set(seeds)) == len(seeds) == 6
    # Replayed where a stored pool goes on.
    again = make()
    again.restore(state)
    again.train([0, 1], images, targets)
    assert seeds[6:] == seeds[4:6]
    assert same(everything(again), everything(pool))
    pool.renew(0)
    pool.train([0], images, targets)
    assert len(set(seeds[:6] + seeds[-1:])) == 7
