"""Time and memory of an iteration of BPTT, against automatic differentiation.

An iteration trains a network for the steps of a window on the synthetic images, and
computes its loss on real images and the gradient with respect to the synthetic images
and the step size, with DSA.  The plain form is written from the equations: one graph
over the window.  Each form runs in a process of its own, one after the other, on the
same task.

A graph over a long window may not fit into memory.  Its memory and time grow linearly
with the steps: with --plain-windows the plain form is measured with windows that fit,
and extrapolated.

    python benchmarks/bptt.py --plain-windows 4 8
"""

import argparse
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _measure import PeakMemory, in_a_process, wait
from torch.func import functional_call
from torch.nn import functional as F

from skdistill.distillation._objectives._inner_optimizers import InnerAdam, InnerSGD
from skdistill.distillation._objectives._unrolled import (
    backpropagate,
    plan_steps,
    unroll,
)
from skdistill.distillation._student import resolve_keep
from skdistill.neural_network import ConvNet
from skdistill.neural_network._augment import FAMILIES, augment
from skdistill.neural_network._convnet import flatten_parameters
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.utils._memory import reused_memory
from skdistill.utils._workers import worker_threads

OPTIMIZERS = {
    "sgd": (InnerSGD(), 0.01),
    "momentum": (InnerSGD(momentum=0.9), 0.01),
    "adam": (InnerAdam(), 0.001),
}


class Plain:
    """The iteration as the equations say it."""

    def __init__(self, module, optimizer):
        self.module = module
        self.optimizer = optimizer
        self.shapes = {name: p.shape for name, p in module.named_parameters()}

    def logits(self, parameters, images):
        parts = parameters.split([shape.numel() for shape in self.shapes.values()])
        views = {
            name: part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
        return functional_call(self.module, views, (images,))

    def __call__(self, start, images, codes, log_step_size, real, real_codes, steps):
        images = images.clone().requires_grad_()
        log_step_size = log_step_size.clone().requires_grad_()
        theta = start.clone().requires_grad_()
        first = second = torch.zeros_like(theta)
        for number, step in enumerate(steps, 1):
            logits = self.logits(theta, augment(images, step.draw))
            gradient = torch.autograd.grad(
                F.cross_entropy(logits, codes), theta, create_graph=True
            )[0]
            if isinstance(self.optimizer, InnerSGD):
                update = first = self.optimizer.momentum * first + gradient
            else:
                one, two = self.optimizer.betas
                first = one * first + (1 - one) * gradient
                second = two * second + (1 - two) * gradient.square()
                # The root of a moment of 0 has no derivative.
                root = (second / (1 - two**number)).clamp_min(1e-30).sqrt()
                update = first / (1 - one**number) / (root + self.optimizer.epsilon)
            theta = theta - log_step_size.exp() * update
        loss = F.cross_entropy(self.logits(theta, real), real_codes)
        return loss.detach(), *torch.autograd.grad(loss, [images, log_step_size])


class Exact:
    """The iteration as the package computes it."""

    def __init__(self, module, optimizer, keep):
        self.network = ConvNetDerivatives(module)
        self.keep = {"yes": True, "no": False}.get(keep, keep)
        self.optimizer = optimizer
        self.n_classes = module.classifier.out_features

    def __call__(self, start, images, codes, log_step_size, real, real_codes, steps):
        targets = F.one_hot(codes, self.n_classes).to(images.dtype)
        student = unroll(
            self.network,
            start,
            images,
            targets,
            log_step_size,
            steps,
            optimizer=self.optimizer,
            keep=resolve_keep(self.keep, self.network, len(images), len(steps), 1),
        )
        logits = []
        wanted = F.one_hot(real_codes, self.n_classes).to(images.dtype)
        adjoint = self.network.gradient(student.parameters, real, wanted, logits=logits)
        loss = F.cross_entropy(torch.cat(logits), real_codes)
        found = backpropagate(student, adjoint)
        return loss, found.images, found.log_step_size


def measure(form, name, window, options, connection):
    device, size, n_classes = options.device, options.size, options.classes
    torch.manual_seed(0)
    module = ConvNet((size, size, 3), n_classes, width=options.width).to(device)
    optimizer, step_size = OPTIMIZERS[name]
    codes = torch.arange(n_classes).repeat_interleave(options.ipc).to(device)
    real_codes = (torch.arange(options.real) % n_classes).to(device)
    images = torch.randn(len(codes), 3, size, size).to(device)
    real = torch.randn(options.real, 3, size, size).to(device)
    step_size = torch.tensor(step_size, device=device).log()
    start = flatten_parameters(module)

    def plan(n_steps, n_images):
        return plan_steps(
            n_steps,
            n_images,
            batch_size=None,
            families=FAMILIES,
            generator=torch.Generator().manual_seed(0),
            device=torch.device(device),
        )

    is_exact = form == "exact"
    if is_exact:
        iterate = Exact(module, optimizer, options.keep)
    else:
        iterate = Plain(module, optimizer)
    threads = worker_threads(torch.device(device)) if is_exact else nullcontext()
    # A fit reuses memory from its first iteration to its last.
    reuse = reused_memory() if is_exact else nullcontext()
    seconds = []
    with threads, reuse:
        # One image first: what the libraries themselves allocate is not counted.
        iterate(
            start,
            images[:1],
            codes[:1],
            step_size,
            real[:1],
            real_codes[:1],
            plan(1, 1),
        )
        try:
            with PeakMemory(device) as memory:
                for _ in range(options.repeats):
                    wait(device)
                    begin = time.perf_counter()
                    loss, by_images, _ = iterate(
                        start,
                        images,
                        codes,
                        step_size,
                        real,
                        real_codes,
                        plan(window, len(images)),
                    )
                    wait(device)
                    seconds.append(time.perf_counter() - begin)
        except torch.OutOfMemoryError:
            connection.send((np.nan, np.nan, np.nan, np.nan))
            return
    connection.send(
        (min(seconds), memory.mebibytes, float(loss), float(by_images.norm()))
    )


def on_a_line(windows, values, window):
    """Read a value off the line through those of other windows."""
    if len(windows) == 1:
        return values[0] * window / windows[0]
    slope, offset = np.polyfit(windows, values, 1)
    return slope * window + offset


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--real", type=int, default=1000, help="images in the loss")
    parser.add_argument("--window", type=int, default=60, help="steps")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--keep", choices=["auto", "yes", "no"], default="auto", help="activations"
    )
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS))
    parser.add_argument(
        "--plain-windows",
        type=int,
        nargs="+",
        help="windows of the plain form; by default the whole one",
    )
    options = parser.parse_args()
    windows = options.plain_windows or [options.window]
    rows = []
    for name in options.optimizers:
        exact = in_a_process(measure, "exact", name, options.window, options)
        # The results of both forms are compared where both have the same window.
        shortest = windows[0]
        short = exact
        if shortest != options.window:
            short = in_a_process(measure, "exact", name, shortest, options)
        plain = [
            in_a_process(measure, "plain", name, window, options) for window in windows
        ]
        seconds, mebibytes = (
            on_a_line(windows, [found[place] for found in plain], options.window)
            for place in (0, 1)
        )
        rows.append(
            {
                "optimizer": name,
                "window": options.window,
                "plain s": seconds,
                "exact s": exact[0],
                "time ratio": seconds / exact[0],
                "plain MiB": mebibytes,
                "exact MiB": exact[1],
                "memory ratio": exact[1] / mebibytes,
                "losses": short[2] / plain[0][2],
                "gradients": short[3] / plain[0][3],
            }
        )
        print(pd.DataFrame(rows[-1:]).to_string(index=False, float_format="%.4g"))
    table = pd.DataFrame(rows)
    device = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"\n{device}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"plain form measured with windows of {windows}")
    print(table.to_string(index=False, float_format="%.4g"))
    table.to_csv(Path(__file__).with_name("bptt.csv"), index=False)


if __name__ == "__main__":
    main()
