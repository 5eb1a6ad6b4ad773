"""Time and memory of an STM iteration, against the plain unrolled form.

An iteration is a validation loss and the gradient of a match with respect to images
and step size, DSA on.  The plain form is written from the equations: automatic
differentiation through a graph over all of the student's steps.  Each form runs in a
process of its own, one after the other, on the same task.

The share is that of the rate at which this machine multiplies large matrices in the
same run; it counts the operations of the convolutions that the form has to compute.
"""

import argparse
import json
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _measure import PeakMemory, in_a_process, is_gpu, wait
from torch.func import functional_call
from torch.nn import functional as F

from skdistill.distillation._objectives._trajectory_distance import (
    match,
    match_gradient,
    plan_steps,
)
from skdistill.distillation._student import resolve_keep
from skdistill.neural_network import ConvNet
from skdistill.neural_network._augment import FAMILIES, augment
from skdistill.neural_network._convnet import flatten_parameters
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.utils._memory import reused_memory

# The cases that the project promises something about: classes, images per class, steps.
CPU_CASES = [[10, 1, 10], [10, 1, 50], [10, 10, 10], [10, 10, 20], [10, 10, 30]]
CPU_EXACT_CASES = [[10, 10, 50]]
GPU_CASES = [[10, 1, 50], [10, 10, 30]]
GPU_EXACT_CASES = [[10, 50, 30], [100, 10, 30]]


class Plain:
    """The iteration as the equations say it."""

    def __init__(self, module):
        self.module = module
        self.shapes = {name: p.shape for name, p in module.named_parameters()}

    def logits(self, parameters, images):
        parts = parameters.split([shape.numel() for shape in self.shapes.values()])
        views = {
            name: part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
        return functional_call(self.module, views, (images,))

    def loss(self, start, target, images, targets, log_step_size, steps, graph):
        parameters = start.clone().requires_grad_()
        for step in steps:
            logits = self.logits(parameters, augment(images, step.draw))
            gradient = torch.autograd.grad(
                F.cross_entropy(logits, targets), parameters, create_graph=graph
            )[0]
            parameters = parameters - log_step_size.exp() * gradient
            if not graph:
                parameters = parameters.detach().requires_grad_()
        return (parameters - target).square().sum() / (start - target).square().sum()

    def __call__(self, task, probe_steps, steps):
        start, target, images, targets, log_step_size = task
        loss_before = self.loss(*task, probe_steps, graph=False).detach()
        leaves = [images.clone().requires_grad_(), log_step_size.clone()]
        leaves[1].requires_grad_()
        loss = self.loss(start, target, leaves[0], targets, leaves[1], steps, True)
        return loss_before, loss.detach(), *torch.autograd.grad(loss, leaves)


class Exact:
    """The iteration as the package computes it."""

    def __init__(self, module, compile_it, keep):
        self.network = ConvNetDerivatives(module, compile=compile_it)
        self.n_classes = module.classifier.out_features
        self.keep = keep

    def __call__(self, task, probe_steps, steps):
        start, target, images, targets, log_step_size = task
        wanted = F.one_hot(targets, self.n_classes).float()
        task = (start, target, images, wanted, log_step_size)
        validation = match(self.network, *task, probe_steps).loss
        keep = {"yes": True, "no": False}.get(self.keep, "auto")
        keep = resolve_keep(keep, self.network, len(images), len(steps), 1)
        found = match_gradient(self.network, *task, steps, keep=keep)
        return validation, found.match.loss, found.images, found.log_step_size


def operations(module, n_images, n_steps):
    """Count the operations of the convolutions of an iteration that keeps nothing."""
    total = 0
    for place, block in enumerate(module.blocks):
        once = 2 * 9 * block.in_channels * block.out_channels
        once *= block.height * block.width
        # Forward passes: values, gradients of activations and of kernels.  Backward:
        # values and gradients of maps again, then the derivatives of all three along
        # a direction, two terms each.  The first layer's maps have no gradient in
        # the forward passes, and its inputs no derivative.
        total += once * (2 * 3 + 8 if place else 2 * 2 + 5)
    return total * n_images * n_steps


def matrix_rate(device):
    """Return the operations per second of a large product of matrices."""
    size = 8192 if is_gpu(device) else 2048
    matrix = torch.randn(size, size, device=device)
    seconds = []
    for _ in range(5):
        wait(device)
        begin = time.perf_counter()
        matrix @ matrix
        wait(device)
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / min(seconds)


def measure(form, case, options, connection):
    n_classes, ipc, n_steps = case
    device = options.device
    torch.manual_seed(0)
    size = options.size
    module = ConvNet((size, size, 3), n_classes, width=options.width).to(device)
    start = flatten_parameters(module)
    targets = torch.arange(n_classes).repeat_interleave(ipc).to(device)
    task = (
        start,
        start + 0.01 * torch.randn_like(start),
        torch.randn(len(targets), 3, size, size).to(device),
        targets,
        torch.tensor(0.01, device=device).log(),
    )

    def plan(seed, n, n_images=n_classes * ipc):
        return plan_steps(
            n,
            n_images,
            batch_size=None,
            families=FAMILIES,
            generator=torch.Generator().manual_seed(seed),
            device=torch.device(device),
        )

    if form == "plain":
        iterate = Plain(module)
    else:
        iterate = Exact(module, device == "cuda", options.keep)
    # One image first: what the libraries themselves allocate is not counted.
    few = (start, task[1], task[2][:1], targets[:1], task[4])
    with torch.enable_grad():
        iterate(few, plan(0, 1, 1), plan(1, 1, 1))
    seconds, outcome = [], None
    try:
        # A fit reuses memory from its first iteration to its last.
        reuse = reused_memory() if form == "exact" else nullcontext()
        with PeakMemory(device) as memory, reuse:
            for _ in range(options.repeats):
                wait(device)
                begin = time.perf_counter()
                outcome = iterate(task, plan(0, n_steps), plan(1, n_steps))
                wait(device)
                seconds.append(time.perf_counter() - begin)
    except torch.OutOfMemoryError:
        connection.send((np.nan, np.nan, np.nan, np.nan))
        return
    rate = operations(module, len(targets), n_steps) / min(seconds)
    connection.send(
        (
            min(seconds),
            memory.mebibytes,
            float(outcome[2].norm()),
            rate / matrix_rate(device),
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--keep", choices=["auto", "yes", "no"], default="auto", help="activations"
    )
    parser.add_argument(
        "--cases",
        type=json.loads,
        help="classes, images per class and steps of each, as JSON",
    )
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    cases = options.cases or (GPU_CASES if on_gpu else CPU_CASES)
    exact_only = (
        [] if options.cases else (GPU_EXACT_CASES if on_gpu else CPU_EXACT_CASES)
    )
    rows = []
    for case in [*cases, *exact_only]:
        exact = in_a_process(measure, "exact", case, options)
        plain = (np.nan,) * 4
        if case not in exact_only:
            plain = in_a_process(measure, "plain", case, options)
        rows.append(
            {
                **dict(zip(("classes", "ipc", "N"), case, strict=True)),
                "plain s": plain[0],
                "exact s": exact[0],
                "time ratio": plain[0] / exact[0],
                "plain MiB": plain[1],
                "exact MiB": exact[1],
                "memory ratio": exact[1] / plain[1],
                "gradients": exact[2] / plain[2],
                "iterations/s": 1 / exact[0],
                "share of matrix rate": exact[3],
            }
        )
        print(pd.DataFrame(rows[-1:]).to_string(index=False, float_format="%.4g"))
    table = pd.DataFrame(rows)
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    print(f"\n{name}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(table.to_string(index=False, float_format="%.4g"))
    table.to_csv(Path(__file__).with_name("matching.csv"), index=False)


if __name__ == "__main__":
    main()
