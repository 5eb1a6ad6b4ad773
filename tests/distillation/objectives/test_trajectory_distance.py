import gc
import itertools
import math
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from skdistill.distillation._objectives._trajectory_distance import (
    compare,
    match,
    match_gradient,
    plan_steps,
)
from skdistill.neural_network import _micro_batches
from skdistill.neural_network._augment import FAMILIES, augment
from skdistill.neural_network._convnet import NORMALIZATIONS, ConvNet, n_parameters
from skdistill.neural_network._derivatives import ConvNetDerivatives

SCALE = 0.7


@dataclass
class Problem:
    """All that a match takes, and its equations written out plainly."""

    module: ConvNet
    start: torch.Tensor
    target: torch.Tensor
    images: torch.Tensor
    targets: torch.Tensor
    log_step_size: torch.Tensor
    steps: list

    @property
    def arguments(self):
        return (
            ConvNetDerivatives(self.module),
            self.start,
            self.target,
            self.images,
            self.targets,
            self.log_step_size,
            self.steps,
        )

    def to(self, dtype):
        names = ["start", "target", "images", "targets", "log_step_size"]
        return replace(self, **{name: getattr(self, name).to(dtype) for name in names})

    def logits(self, theta, images):
        named = dict(self.module.named_parameters())
        parts = theta.split([part.numel() for part in named.values()])
        views = {
            name: part.view(named[name].shape)
            for name, part in zip(named, parts, strict=True)
        }
        return functional_call(self.module, views, (images,))

    def gradient(self, theta, images, targets, step):
        """The gradient of a step's cross-entropy, with a graph."""
        if step.batch is not None:
            images = torch.stack([images[i] for i in step.batch.tolist()])
            targets = torch.stack([targets[i] for i in step.batch.tolist()])
        logits = self.logits(theta, augment(images, step.draw, SCALE))
        loss = -(targets * logits.log_softmax(1)).sum(1).mean()
        return torch.autograd.grad(loss, theta, create_graph=True)[0]

    def leaves(self):
        leaves = [self.images, self.targets, self.log_step_size]
        return [leaf.clone().requires_grad_() for leaf in leaves]

    def way(self, images, targets, log_step_size):
        """theta_0, ..., theta_N with one graph over all of them."""
        visited = [self.start.clone().requires_grad_()]
        for step in self.steps:
            gradient = self.gradient(visited[-1], images, targets, step)
            visited.append(visited[-1] - log_step_size.exp() * gradient)
        return visited

    def unrolled(self):
        """Loss and gradients by automatic differentiation through all steps."""
        leaves = self.leaves()
        final = self.way(*leaves)[-1]
        loss = ((final - self.target) ** 2).sum()
        loss = loss / ((self.start - self.target) ** 2).sum()
        return loss.detach(), torch.autograd.grad(loss, leaves)

    def tesla(self):
        """The gradients if each theta_i were given: -alpha sum_i <v_N, g_i>."""
        leaves = self.leaves()
        images, targets, log_step_size = leaves
        visited = [theta.detach() for theta in self.way(*leaves)]
        aim_squared = ((self.start - self.target) ** 2).sum()
        adjoint = 2 * (visited[-1] - self.target) / aim_squared
        total = 0
        for theta, step in zip(visited, self.steps, strict=False):
            gradient = self.gradient(theta.requires_grad_(), images, targets, step)
            total = total - log_step_size.exp() * (adjoint @ gradient)
        return torch.autograd.grad(total, leaves)


def make_problem(
    seed=0,
    n_steps=4,
    n_images=4,
    channels=2,
    size=8,
    width=3,
    depth=2,
    batch_size=None,
    families=(),
    soft=False,
    normalization="instance",
    step_size=0.3,
):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n_classes = 3
    with torch.device("meta"):
        module = ConvNet(
            (size, size + 1, channels),
            n_classes,
            width=width,
            depth=depth,
            normalization=normalization,
        )
    start = 0.4 * normal(n_parameters(module))
    if soft:
        targets = normal(n_images, n_classes).softmax(1)
    else:
        targets = torch.eye(n_classes, dtype=torch.float64)[
            torch.arange(n_images) % n_classes
        ]
    return Problem(
        module,
        start,
        start + 0.05 * normal(*start.shape),
        normal(n_images, channels, size, size + 1),
        targets,
        torch.tensor(math.log(step_size), dtype=torch.float64),
        plan_steps(
            n_steps,
            n_images,
            batch_size=batch_size,
            families=families,
            generator=generator,
        ),
    )


problems = st.builds(
    make_problem,
    seed=st.integers(0, 2**31),
    n_steps=st.integers(1, 7),
    n_images=st.integers(1, 6),
    channels=st.integers(1, 4),
    size=st.integers(2, 11),
    width=st.integers(1, 5),
    depth=st.integers(1, 3),
    batch_size=st.none() | st.integers(1, 6),
    families=st.just(())
    | st.just(FAMILIES)
    | st.sampled_from(FAMILIES).map(lambda f: (f,)),
    soft=st.booleans(),
    normalization=st.sampled_from(NORMALIZATIONS),
    step_size=st.floats(1e-3, 0.5),
)


def amplification(problem):
    """By how much the computation multiplies a relative change of where it starts."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(problem.start.shape, generator=generator, dtype=torch.float64)
    change = 1e-12
    moved = replace(problem, start=problem.start * (1 + change * noise))
    (loss, gradients), (other_loss, others) = problem.unrolled(), moved.unrolled()
    pairs = zip([loss, *gradients], [other_loss, *others], strict=True)
    return max(relative_error(a, b) for a, b in pairs) / change


def assume_that_rounding_stays_small(problem):
    # Instance normalization of a few equal pixels, or steps that are far too long,
    # make of a rounding error anything: two right ways to compute then differ too.
    assume(amplification(problem) < 1e4)


def relative_error(found, expected):
    # A gradient that is 0 but for rounding has no relative error: instance
    # normalization of two pixels, say, leaves nothing of an image but a sign.
    return float((found - expected).norm() / expected.norm().clamp_min(1e-3))


def assert_close(result, expected, tolerance):
    """Compare what was found with the gradients in the order of the leaves."""
    for found, wanted in zip(result[1:], expected, strict=True):
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        assert relative_error(found, wanted) <= tolerance


@settings(max_examples=60)
@given(problem=problems, keep=st.booleans())
def test_gradient_is_that_of_the_unrolled_student(problem, keep):
    assume_that_rounding_stays_small(problem)
    loss, expected = problem.unrolled()
    result = match_gradient(*problem.arguments, scale=SCALE, keep=keep)
    assert relative_error(result.match.loss, loss) <= 1e-9
    assert_close(result, expected, 1e-9)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("family", [None, *FAMILIES])
def test_gradient_under_every_augmentation_and_normalization(family, normalization):
    problem = make_problem(
        seed=2,
        n_images=5,
        batch_size=3,
        families=() if family is None else (family,),
        soft=True,
        normalization=normalization,
    )
    loss, expected = problem.unrolled()
    result = match_gradient(*problem.arguments, scale=SCALE)
    assert relative_error(result.match.loss, loss) <= 1e-9
    assert_close(result, expected, 1e-9)


@settings(max_examples=15)
@given(problem=problems, keep=st.booleans())
def test_detached_gradient_is_the_formula_of_tesla(problem, keep):
    assume_that_rounding_stays_small(problem)
    expected = problem.tesla()
    result = match_gradient(*problem.arguments, scale=SCALE, detached=True, keep=keep)
    assert_close(result, expected, 1e-9)


@settings(max_examples=40)
@given(problem=problems, detached=st.booleans())
def test_kept_maps_give_the_same_gradient(problem, detached):
    # What is kept is what would be computed again: not even rounding differs.
    settings = {"scale": SCALE, "detached": detached}
    recomputed = match_gradient(*problem.arguments, **settings)
    kept = match_gradient(*problem.arguments, **settings, keep=True)
    pairs = [
        *zip(kept.match, recomputed.match, strict=True),
        *zip(kept[1:], recomputed[1:], strict=True),
    ]
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@settings(max_examples=20)
@given(problem=problems, keep=st.booleans())
def test_micro_batches_of_the_images_give_the_same_gradient(problem, keep):
    assume_that_rounding_stays_small(problem)
    expected = match_gradient(*problem.arguments, scale=SCALE)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(_micro_batches, "_MAX_BYTES", 1)
        monkeypatch.setattr(_micro_batches, "_MIN_BYTES_TO_CUT", 1)
        result = match_gradient(*problem.arguments, scale=SCALE, keep=keep)
    assert_close(result, expected[1:], 1e-9)


def test_detached_differs_from_exact_after_more_than_one_step():
    for n_steps, differs in [(1, False), (6, True)]:
        problem = make_problem(n_steps=n_steps, soft=True)
        exact = match_gradient(*problem.arguments)
        detached = match_gradient(*problem.arguments, detached=True)
        assert exact.match == detached.match
        for a, b in zip(exact[1:], detached[1:], strict=True):
            assert (relative_error(b, a) > 1e-3) == differs


@pytest.mark.parametrize("family", [None, *FAMILIES])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_gradient_agrees_with_finite_differences(family, batch_size):
    problem = make_problem(
        seed=5,
        n_steps=5,
        n_images=5,
        channels=3,
        batch_size=batch_size,
        families=() if family is None else (family,),
        soft=True,
    )
    result = match_gradient(*problem.arguments, scale=SCALE)
    network, start, target, *point, steps = problem.arguments
    generator = torch.Generator().manual_seed(1)
    # ReLU is smooth but where an input changes its sign.  Moving every pixel by some
    # 1e-6 takes the few thousand of them past a kink too seldom to matter, and leaves
    # a relative rounding error of about 1e-16 / 1e-6 of the loss, which is near 1.
    step = 1e-6
    gradients = [result.images, result.targets, result.log_step_size]
    for which, gradient in enumerate(gradients):
        direction = torch.randn(
            gradient.shape, generator=generator, dtype=torch.float64
        )
        # Along the gradient too: a random direction is nearly orthogonal to it.
        direction = direction + 3 * gradient / gradient.norm() * direction.norm()
        losses = []
        for sign in (1, -1):
            moved = list(point)
            moved[which] = moved[which] + sign * step * direction
            losses.append(
                match(network, start, target, *moved, steps, scale=SCALE).loss
            )
        slope = (losses[0] - losses[1]) / (2 * step)
        assert float(slope) == pytest.approx(
            float((gradient * direction).sum()), rel=1e-5, abs=1e-8
        )


def smallest_input_of_a_relu(problem):
    """The smallest absolute one in any step of the student."""
    smallest = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, inputs: smallest.append(float(inputs[0].detach().abs().min()))
        )
        for layer in problem.module.features
        if isinstance(layer, torch.nn.ReLU)
    ]
    problem.way(problem.images, problem.targets, problem.log_step_size)
    for hook in hooks:
        hook.remove()
    assert len(smallest) == len(hooks) * len(problem.steps)
    return min(smallest)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("seed", range(4))
def test_single_precision_agrees_with_double(seed, normalization):
    problem = make_problem(
        seed=seed,
        n_steps=6,
        families=FAMILIES,
        soft=True,
        step_size=0.1,
        normalization=normalization,
    )
    # One that is positive in one precision and negative in the other makes the
    # gradient another one: a pixel's share of it is then there or not.
    flips = smallest_input_of_a_relu(problem) < 1e-5
    double = match_gradient(*problem.arguments, scale=SCALE)
    single = match_gradient(*problem.to(torch.float32).arguments, scale=SCALE)
    assert single.match.loss.dtype == torch.float32
    for a, b in zip(single[1:], double[1:], strict=True):
        assert a.dtype == torch.float32
        assert relative_error(a.double(), b) <= (5e-2 if flips else 1e-4)


@settings(max_examples=15)
@given(problem=problems)
def test_match_finds_the_same_loss_as_match_gradient(problem):
    validation = match(*problem.arguments, scale=SCALE)
    update = match_gradient(*problem.arguments, scale=SCALE).match
    assert validation.loss == update.loss
    assert validation.misalignment == update.misalignment


@pytest.mark.parametrize(
    "function", [match, match_gradient, partial(match_gradient, keep=True)]
)
def test_nothing_that_was_given_is_changed_or_part_of_a_graph(function):
    problem = make_problem(soft=True, families=FAMILIES)
    for tensor in (problem.images, problem.targets, problem.log_step_size):
        tensor.requires_grad_()
    _, start, target, images, targets, log_step_size, _ = problem.arguments
    given = [start, target, images, targets, log_step_size]
    before = [tensor.detach().clone() for tensor in given]
    result = function(*problem.arguments, scale=SCALE)
    outputs = result if function is match else [*result.match, *result[1:]]
    assert not any(output.requires_grad for output in outputs)
    assert all(tensor.grad is None for tensor in given)
    assert [tensor.requires_grad for tensor in given] == [False, False, *[True] * 3]
    for now, then in zip(given, before, strict=True):
        assert torch.equal(now.detach(), then)


def test_loss_is_zero_where_the_student_meets_its_teacher():
    problem = make_problem(n_steps=3, families=FAMILIES)
    leaves = problem.images, problem.targets, problem.log_step_size
    problem.target = problem.way(*leaves)[-1].detach()
    result = match_gradient(*problem.arguments, scale=SCALE)
    assert float(result.match.loss) == pytest.approx(0, abs=1e-24)
    assert float(result.match.misalignment) == pytest.approx(0, abs=1e-12)
    assert float(result.images.abs().max()) < 1e-10
    assert float(compare(problem.target, problem.start, problem.target).loss) == 0


def test_loss_is_one_for_a_student_that_does_not_move():
    problem = make_problem()
    problem.log_step_size = torch.tensor(-math.inf, dtype=torch.float64)
    result = match_gradient(*problem.arguments)
    assert float(result.match.loss) == pytest.approx(1, abs=1e-14)
    assert float(result.match.misalignment) == 1
    assert not result.images.any()


vectors = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


@given(aim=vectors, start=st.floats(-10, 10), length=st.floats(1e-3, 1e3))
def test_misalignment_is_of_the_way_not_of_its_length(aim, start, length):
    if aim.abs().max() < 1e-3:
        aim = aim + 1
    begin = torch.full_like(aim, start)
    right = compare(begin + length * aim, begin, begin + aim)
    assert float(right.misalignment) == pytest.approx(0, abs=1e-9)
    opposite = compare(begin - length * aim, begin, begin + aim)
    assert float(opposite.misalignment) == 1
    assert float(opposite.loss) > 1


@given(
    pair=st.integers(2, 6).flatmap(
        lambda n: st.tuples(
            *[st.lists(st.floats(-1e3, 1e3), min_size=n, max_size=n)] * 2
        )
    )
)
def test_misalignment_is_the_least_loss_of_any_length(pair):
    way, aim = (torch.tensor(values, dtype=torch.float64) for values in pair)
    if float(aim.norm()) < 1e-3:
        aim = aim + 1
    zero = torch.zeros_like(aim)
    result = compare(way, zero, aim)
    assert 0 <= float(result.misalignment) <= 1
    assert float(result.misalignment) <= float(result.loss) + 1e-12
    if float(way.norm()) > 1e-3:
        # The length of the projection is the best one, and 0 if that is negative.
        best = max(float(way @ aim / (way @ way)), 0.0)
        least = float(compare(best * way, zero, aim).loss)
        assert float(result.misalignment) == pytest.approx(least, abs=1e-9)


class Live:
    """Counts the tensors that live graphs hold."""

    def __init__(self):
        self.n = self.most = 0

    def pack(self, tensor):
        return _Saved(self, tensor)

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(
            self.pack, lambda saved: saved.tensor
        )
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)


class _Saved:
    def __init__(self, live, tensor):
        self.live, self.tensor = live, tensor
        live.n += 1
        live.most = max(live.most, live.n)

    def __del__(self):
        self.live.n -= 1


def live_graph(function, n_steps):
    """How many tensors graphs hold at most while the function works."""
    if torch.__version__ < "2.12":
        pytest.skip("this torch keeps what hooks return longer than the graph")
    # An augmentation that autograd keeps tensors for.
    problem = make_problem(n_steps=n_steps, families=("color",), batch_size=3)
    with Live() as live:
        function(*problem.arguments)
    assert live.n == 0
    return live.most


def test_a_match_has_no_graph():
    assert live_graph(match, 3) == 0


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("detached", [False, True])
def test_graph_is_of_the_augmentation_of_one_step(detached, keep):
    function = partial(match_gradient, detached=detached, keep=keep)
    one, eight = live_graph(function, 1), live_graph(function, 8)
    assert 0 < one <= eight
    # That of a step may still be there while that of the next is built.
    assert eight <= 2 * one


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
    """Notes what lives while a student goes forth and its sweep goes back."""

    def __init__(self, module):
        super().__init__(module)
        self.forth, self.back = [], []

    def gradient(self, *args, **kwargs):
        self.forth.append(live_bytes())
        return super().gradient(*args, **kwargs)

    def curvature(self, *args, **kwargs):
        self.back.append(live_bytes())
        return super().curvature(*args, **kwargs)


def watched(function, n_steps=5):
    """The bytes before each step, forth and back, and those of one vector."""
    problem = make_problem(n_steps=n_steps)
    network = Watched(problem.module)
    before = live_bytes()
    result = function(network, *problem.arguments[1:])
    forth, back = (
        [found - before for found in noted] for noted in (network.forth, network.back)
    )
    # All but the result is gone.
    assert live_bytes() - before <= sum(
        part.numel() * part.element_size()
        for part in [*getattr(result, "match", result), *result[1:]]
    )
    assert len(forth) == n_steps
    return forth, back, problem.start.nbytes


@pytest.mark.usefixtures("_nothing_else")
def test_match_keeps_one_vector():
    forth, back, vector = watched(match)
    assert not back
    assert forth[1] - forth[0] >= vector
    # The last step's gradient lives until the next one is there.
    assert max(forth) <= forth[0] + 2 * vector


@pytest.mark.usefixtures("_nothing_else")
@pytest.mark.parametrize("detached", [False, True])
def test_memory_is_that_of_the_way_and_of_one_step(detached):
    forth, back, vector = watched(partial(match_gradient, detached=detached))
    assert [b - a for a, b in itertools.pairwise(forth[1:])] == [vector] * 3
    assert len(back) == 5
    # A vector less for each step back, after what the sweep itself has.
    assert [a - b for a, b in itertools.pairwise(back[1:])] == [vector] * 3


@pytest.mark.usefixtures("_nothing_else")
@pytest.mark.parametrize("detached", [False, True])
def test_maps_that_are_kept_are_those_of_all_steps_until_the_end(detached):
    forth, back, vector = watched(partial(match_gradient, keep=True, detached=detached))
    problem = make_problem()
    tapes = []
    before = live_bytes()
    gradient = ConvNetDerivatives(problem.module).gradient(
        problem.start, problem.images, problem.targets, tapes=tapes
    )
    one_step = live_bytes() - before - gradient.nbytes
    # This is what `tape_bytes` foretells, but for the little that it does not count.
    foretold = ConvNetDerivatives(problem.module).tape_bytes(4, torch.float64)
    assert one_step == pytest.approx(foretold, rel=0.1)
    assert [b - a for a, b in itertools.pairwise(forth[1:])] == [vector + one_step] * 3
    # Each step's are let go when the sweep has passed it.
    assert [a - b for a, b in itertools.pairwise(back[1:])] == [vector + one_step] * 3


def plan(seed=0, **changes):
    arguments = {
        "n_steps": 7,
        "n_images": 10,
        "batch_size": 4,
        "families": FAMILIES,
    } | changes
    return plan_steps(**arguments, generator=torch.Generator().manual_seed(seed))


@given(
    n_images=st.integers(1, 12), batch_size=st.integers(1, 12), seed=st.integers(0, 99)
)
def test_batches_are_reshuffled_passes_over_all_images(n_images, batch_size, seed):
    steps = plan(seed, n_steps=30, n_images=n_images, batch_size=batch_size)
    assert len(steps) == 30
    if batch_size >= n_images:
        assert all(step.batch is None for step in steps)
        return
    per_pass = -(-n_images // batch_size)
    for first in range(0, 30 - per_pass + 1, per_pass):
        one_pass = steps[first : first + per_pass]
        seen = torch.cat([step.batch for step in one_pass])
        assert sorted(seen.tolist()) == list(range(n_images))
        assert all(len(step.batch) <= batch_size for step in one_pass)
    assert all(len(step.draw.uniforms) == len(step.batch) for step in steps)


def test_passes_differ_from_each_other():
    steps = plan(n_steps=10, n_images=20, batch_size=10)
    orders = [torch.cat([a.batch, b.batch]) for a, b in itertools.pairwise(steps)][::2]
    assert len({tuple(order.tolist()) for order in orders}) == len(orders)


def test_steps_see_all_images_without_a_batch_size():
    steps = plan(batch_size=None)
    assert all(step.batch is None for step in steps)
    assert all(len(step.draw.uniforms) == 10 for step in steps)
    assert len({step.draw.family for step in plan(n_steps=60)}) == len(FAMILIES)
    assert {step.draw.family for step in plan(families=())} == {"identity"}


def test_plan_follows_its_generator_alone():
    def content(steps):
        return [
            (step.batch.tolist(), step.draw.family, step.draw.uniforms.tolist())
            for step in steps
        ]

    first = content(plan(seed=3))
    torch.rand(5)
    assert content(plan(seed=3)) == first
    assert content(plan(seed=4)) != first
    state = torch.get_rng_state()
    plan(seed=3)
    assert torch.equal(torch.get_rng_state(), state)
