"""Everything that the documentation lacks about a GPU, in less than nine minutes.

    python benchmarks/gpu.py --data ../cifar10

The parts come in the order in which they matter, and each result is written at once, to
the screen and to a CSV file: nothing is lost if the run is cut off.  No part begins
when the time is over.

1. Do gradients on the GPU agree with those of the CPU, and both with float64?
2. How long is an iteration of trajectory, gradient and feature matching, how much
   memory does it take, and which share of the GPU's matrix multiplication rate does it
   reach?  TF32 is as PyTorch has it for convolutions by default, for both.
3. How long would a hundred teachers take: some, trained at once, extrapolated.
4. What do TF32 and bfloat16 cost in accuracy of the gradient, and gain in time?
5. What does compiling gain, and after how many iterations does it pay?
6. CIFAR-10, one image per class, by STM, as far as the rest of the time allows; on
   simulated galaxies where there is no folder of CIFAR-10.

``--tiny`` does all of it at a size for any CPU, so that it works the first time.
"""

import argparse
import math
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from _budget import Budget
from _data import has_cifar, whole_cifar10
from _measure import PeakMemory, is_gpu, wait
from _report import environment
from _runs import positive, write_rows
from matching import matrix_rate, operations
from sklearn.pipeline import make_pipeline
from torch.nn import functional as F

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DCDistiller,
    DMDistiller,
    RandomSubset,
    STMDistiller,
    TrajectoryBuffer,
    ZCAWhitener,
    evaluate_synthetic,
    make_galaxies,
)
from skdistill.distillation._objectives._trajectory_distance import (
    match,
    match_gradient,
    plan_steps,
)
from skdistill.distillation._student import resolve_keep
from skdistill.neural_network import ConvNet
from skdistill.neural_network._augment import FAMILIES
from skdistill.neural_network._convnet import flatten_parameters
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.trajectory._settings import TeacherSettings
from skdistill.trajectory._teacher import Teachers
from skdistill.utils._memory import reused_memory


class Clock:
    """The time that is left, and the results so far."""

    def __init__(self, options):
        self.begin = time.perf_counter()
        self.limit = 60 * options.minutes
        self.out = options.out
        self.said = environment(options.device)
        self.rows = []
        # Images per second in the training of teachers, when that is known.
        self.teacher_rate = math.inf

    @property
    def left(self):
        return self.limit - (time.perf_counter() - self.begin)

    def write(self, part, what, value, unit=""):
        seconds = time.perf_counter() - self.begin
        row = {"part": part, "what": what, "value": value, "unit": unit}
        self.rows.append(row | {"at_s": seconds} | self.said)
        print(f"{seconds:5.0f} s  {part}: {what}: {value:.5g} {unit}", flush=True)
        write_rows(self.out, self.rows)


def task_of(module, ipc, n_classes, size):
    """Return what a match is about, as in benchmarks/matching.py, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    start = flatten_parameters(module)
    targets = torch.arange(n_classes).repeat_interleave(ipc)
    away = 0.01 * torch.randn(start.shape, generator=generator)
    images = torch.randn(len(targets), 3, size, size, generator=generator)
    return start, start + away, images, targets, torch.tensor(0.01).log()


def network(options, dtype=torch.float32):
    torch.manual_seed(0)
    return ConvNet((options.size, options.size, 3), 10, width=options.width).to(dtype)


def iterate(options, module, task, n_steps, device, dtype, *, compiled=False):
    """Return a function that makes an iteration on a device."""
    # Of the module it takes the structure alone: that may stay on the CPU.
    derivatives = ConvNetDerivatives(module, compile=compiled)
    wanted = F.one_hot(task[3], 10)
    task = (*task[:3], wanted, task[4])
    task = tuple(tensor.to(device, dtype) for tensor in task)
    keep = resolve_keep("auto", derivatives, len(task[2]), n_steps, 1)
    plans = []
    for seed in (0, 1):
        plan = plan_steps(
            n_steps,
            len(task[2]),
            batch_size=None,
            families=FAMILIES,
            generator=torch.Generator().manual_seed(seed),
            device=torch.device(device),
        )
        plans.append(plan)

    def once():
        match(derivatives, *task, plans[0])
        found = match_gradient(derivatives, *task, plans[1], keep=keep)
        wait(device)
        return found.images.to("cpu", torch.float64)

    return once


def relative(found, reference):
    return float((found - reference).norm() / reference.norm())


def timed(function, n_times):
    seconds = []
    for _ in range(n_times):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


@contextmanager
def tf32(allowed):
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def agreement(options, clock):
    n_steps = 3 if options.tiny else 20
    single, double = network(options), network(options, torch.float64)
    task = task_of(single, 1, 10, options.size)
    arguments = (options, double, task, n_steps, "cpu", torch.float64)
    reference = iterate(*arguments)()
    found = {}
    for device in dict.fromkeys(["cpu", options.device]):
        with tf32(False):
            once = iterate(options, single, task, n_steps, device, torch.float32)
            found[device] = once()
        error = relative(found[device], reference)
        clock.write("agreement", f"{device} float32 against float64", error)
    between = relative(found[options.device], found["cpu"])
    clock.write("agreement", f"{options.device} against cpu, float32", between)


def matches(options):
    """Return the matches to be timed: images per class and steps."""
    return [(1, 3), (2, 2)] if options.tiny else [(1, 50), (10, 30), (50, 30)]


def iterations(options, clock):
    device = options.device
    with tf32(torch.backends.cudnn.allow_tf32):
        rate = matrix_rate(device)
    clock.write("iteration", "large products of matrices", rate / 1e12, "TFLOP/s")
    module = network(options)
    for ipc, n_steps in matches(options):
        name = f"STM, ipc {ipc}, {n_steps} steps"
        task = task_of(module, ipc, 10, options.size)
        try:
            once = iterate(options, module, task, n_steps, device, torch.float32)
            once()
            with reused_memory(), PeakMemory(device) as memory:
                seconds = timed(once, 3)
        except torch.OutOfMemoryError:
            clock.write("iteration", f"{name}: out of memory", math.nan)
            continue
        clock.write("iteration", name, 1 / seconds, "1/s")
        clock.write("iteration", f"{name}: memory", memory.mebibytes, "MiB")
        share = operations(module, 10 * ipc, n_steps) / seconds / rate
        clock.write("iteration", f"{name}: share of that rate", share)
    X, y = images_of_noise(options, 400)
    for distiller in (DCDistiller, DMDistiller):
        for ipc in (1, 2) if options.tiny else (1, 10):
            name = f"{distiller.__name__}, ipc {ipc}"
            seconds = seconds_of_iteration(distiller, ipc, X, y, options)
            clock.write("iteration", name, 1 / seconds, "1/s")


def images_of_noise(options, n_per_class):
    n_per_class = 8 if options.tiny else n_per_class
    rng = np.random.default_rng(0)
    shape = (10 * n_per_class, options.size, options.size, 3)
    return rng.standard_normal(shape, np.float32), np.arange(shape[0]) % 10


def seconds_of_iteration(distiller, ipc, X, y, options):
    """Time a short and a longer fit: their difference has no start in it."""
    seconds = []
    short, long = (1, 3) if options.tiny else (3, 13)
    for n_iter in (short, long):
        if seconds and not options.tiny:
            # Some ten seconds have to do, however long an iteration is.
            n_iter = short + int(min(max(10 * short / seconds[0], 1), long - short))
        made = distiller(
            ipc,
            max_iter=n_iter,
            width=options.width,
            device=options.device,
            random_state=0,
        )
        begin = time.perf_counter()
        made.fit(X, y)
        seconds.append(time.perf_counter() - begin)
    # Of short runs on a busy machine the longer need not take longer.
    return max(seconds[1] - seconds[0], 1e-6) / (n_iter - short)


def teachers(options, clock):
    X, y = images_of_noise(options, 512)
    images = torch.from_numpy(X).permute(0, 3, 1, 2).contiguous().to(options.device)
    settings = TeacherSettings(
        image_shape=(options.size, options.size, 3),
        n_classes=10,
        width=options.width,
        depth=3,
        normalization="instance",
        learning_rate=0.01,
        momentum=0.0,
        weight_decay=0.0,
        batch_size=256,
        average=False,
        class_weight="balanced",
        families=FAMILIES,
        scale=1.0,
        snapshots_per_epoch=1,
        storage="float32",
    )
    codes = torch.from_numpy(y).to(options.device)
    for n_teachers in (1, 2) if options.tiny else (1, 5, 20):
        epochs = Teachers(settings, images, codes, None, range(n_teachers), 3).train()
        try:
            with reused_memory():
                next(epochs)
                wait(options.device)
                begin = time.perf_counter()
                next(epochs)
                wait(options.device)
        except torch.OutOfMemoryError:
            clock.write("teachers", f"{n_teachers} at once: out of memory", math.nan)
            break
        finally:
            # Its tensors, before there are those of the next.
            epochs.close()
            del epochs
        rate = n_teachers * len(images) / (time.perf_counter() - begin)
        clock.teacher_rate = rate
        clock.write("teachers", f"{n_teachers} at once", rate, "images/s")
        hours = 100 * 50 * 50_000 / rate / 3600
        what = f"100 teachers of 50 epochs of 50,000 images, {n_teachers} at once"
        clock.write("teachers", what, hours, "hours (extrapolated)")


def precisions(options, clock):
    n_steps = 3 if options.tiny else 20
    ipc = 1 if options.tiny else 10
    module = network(options)
    task = task_of(module, ipc, 10, options.size)
    with tf32(False):
        once = iterate(options, module, task, n_steps, options.device, torch.float32)
        reference, usual = once(), timed(once, 2)
    with tf32(True):
        once = iterate(options, module, task, n_steps, options.device, torch.float32)
        found, seconds = once(), timed(once, 2)
    clock.write("precision", "TF32: error of the gradient", relative(found, reference))
    clock.write("precision", "TF32: time saved", usual / seconds, "times as fast")
    half = network(options, torch.bfloat16)
    try:
        once = iterate(options, half, task, n_steps, options.device, torch.bfloat16)
        found, seconds = once(), timed(once, 2)
    except (RuntimeError, TypeError) as error:
        print(f"bfloat16: {error}", flush=True)
        clock.write("precision", "bfloat16: not computed", math.nan)
        return
    error = relative(found, reference)
    clock.write("precision", "bfloat16: error of the gradient", error)
    clock.write("precision", "bfloat16: time saved", usual / seconds, "times as fast")


def compiling(options, clock):
    ipc, n_steps = matches(options)[0 if options.tiny else 1]
    module = network(options)
    task = task_of(module, ipc, 10, options.size)
    arguments = (options, module, task, n_steps, options.device, torch.float32)
    eager = iterate(*arguments)
    reference = eager()
    usual = timed(eager, 3)
    begin = time.perf_counter()
    compiled = iterate(*arguments, compiled=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = compiled()
    for warning in caught:
        if "torch.compile failed" in str(warning.message):
            print(warning.message, flush=True)
            clock.write("compiling", "not compiled", math.nan)
            return
    took = time.perf_counter() - begin - usual
    seconds = timed(compiled, 3)
    error = relative(found, reference)
    clock.write("compiling", "error of the gradient", error)
    clock.write("compiling", "speed", usual / seconds, "times as fast")
    clock.write("compiling", "compiling takes", took, "s")
    gain = usual - seconds
    pays = took / gain if gain > 0 else math.inf
    clock.write("compiling", "pays after", pays, "iterations")


def data(options):
    """Return training and test images in the pixel space of the former."""
    if options.data is not None:
        X, y, X_test, y_test = whole_cifar10(options.data)
    else:
        n_images = 90 if options.tiny else 3600
        X, y = make_galaxies(2 * n_images, size=options.size, random_state=0)
        X, X_test, y, y_test = X[:n_images], X[n_images:], y[:n_images], y[n_images:]
    # So few galaxies say too little of what whitening has to know.
    steps = [ChannelScaler()] + ([ZCAWhitener()] if options.data is not None else [])
    scaler = make_pipeline(*steps)
    return scaler.fit_transform(X), y, scaler.transform(X_test), y_test


def published(options, clock):
    """Distill by STM until the time is nearly over, and score the result."""
    X, y, X_test, y_test = data(options)
    n_teachers, n_epochs = (2, 3) if options.tiny else (10, 10)
    # They have at most a third of the time.
    affordable = clock.left / 3 * clock.teacher_rate / (n_teachers * len(X))
    n_epochs = int(min(max(affordable, 3), n_epochs))
    begin = time.perf_counter()
    buffer = TrajectoryBuffer(
        n_teachers=n_teachers,
        n_epochs=n_epochs,
        width=options.width,
        device=options.device,
        random_state=0,
    ).fit(X, y)
    took = time.perf_counter() - begin
    what = f"{n_teachers} teachers of {n_epochs} epochs"
    clock.write("distillation", what, took, "s")

    def distiller(n_iter):
        made = STMDistiller(
            buffer=buffer,
            n_steps=2 if options.tiny else 50,
            max_total_iter=n_iter,
            device=options.device,
            random_state=0,
        )
        if hasattr(made, "set_callbacks"):
            # A long fit is compiled first, which the short one did not say.
            made.set_callbacks(Budget(0.75 * clock.left, time.perf_counter))
        return made

    few = 2 if options.tiny else 10
    begin = time.perf_counter()
    distiller(few).fit(X, y)
    per_iteration = (time.perf_counter() - begin) / few
    # A quarter of the rest is for networks to learn, and for what was not foreseen.
    n_iter = few if options.tiny else int(max(0.75 * clock.left / per_iteration, few))
    begin = time.perf_counter()
    distilled = distiller(n_iter).fit(X, y)
    seconds = time.perf_counter() - begin
    clock.write("distillation", "iterations", distilled.n_iter_)
    clock.write("distillation", "speed", distilled.n_iter_ / seconds, "1/s")
    for name, synthetic in (
        ("random", RandomSubset(random_state=0).fit(X, y).synthetic_),
        ("distilled", distilled.synthetic_),
    ):
        estimator = ConvNetClassifier(
            width=options.width,
            learning_rate=0.01,
            max_iter=3 if options.tiny else 1000,
            augmentation="dsa",
            device=options.device,
        )
        found = evaluate_synthetic(
            synthetic,
            X_test,
            y_test,
            estimator=estimator,
            n_repeats=2 if options.tiny else 5,
            random_state=0,
        )
        clock.write("distillation", f"accuracy, {name}", 100 * found.mean, "%")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10")
    parser.add_argument("--device", help="cuda if there is one")
    parser.add_argument("--minutes", type=positive, default=8.5)
    parser.add_argument("--tiny", action="store_true", help="to try it out on any CPU")
    parser.add_argument("--out", type=Path, help="default gpu.csv, or gpu_tiny.csv")
    options = parser.parse_args()
    if options.data is not None and not has_cifar(options.data, "CIFAR-10"):
        raise SystemExit(f"--data: {options.data} holds no CIFAR-10")
    has_gpu = torch.cuda.is_available()
    if not has_gpu and not options.tiny and options.device is None:
        raise SystemExit("there is no GPU; --tiny shows on a CPU that the script works")
    options.device = options.device or ("cuda" if has_gpu else "cpu")
    if is_gpu(options.device) and not has_gpu:
        raise SystemExit(f"--device: there is no GPU for {options.device!r}")
    name = "gpu_tiny.csv" if options.tiny else "gpu.csv"
    options.out = options.out or Path(__file__).with_name(name)
    options.size, options.width = (8, 8) if options.tiny else (32, 128)
    if options.tiny and options.device == "cpu":
        # The path is the same; the compiler itself would take minutes.
        torch.compiler.set_stance("force_eager")
    clock = Clock(options)
    print(f"{clock.said['machine']}\n{clock.said['versions']}", flush=True)
    parts = [agreement, iterations, teachers, precisions, compiling, published]
    for part in parts:
        if clock.left <= 0:
            clock.write(part.__name__, "left out: the time is over", math.nan)
            continue
        # A part that fails, for memory or a driver, must not take the others along.
        try:
            part(options, clock)
        except Exception as error:
            if options.tiny:
                raise
            print(f"{part.__name__}: {type(error).__name__}: {error}", flush=True)
            clock.write(part.__name__, "failed", math.nan)


if __name__ == "__main__":
    main()
