"""Time and memory of the gradient of a match, for a network of any kind.

Three forms compute the same: with derivatives implemented by hand, which only the
ConvNet has; with automatic differentiation of one step at a time; and plainly, by one
graph over all steps of the student.  Each runs in a process of its own, one after the
other, on the same task, with DSA.

With many steps gradients in float32 are sums in which ReLUs near zero fall on either
side: of a ResNet18 over 20 steps two plain forms differ by tenths in float32, where all
forms agree to 1e-14 in float64.

    python benchmarks/any_network.py --networks convnet resnet18
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

from skdistill.distillation._objectives._trajectory_distance import (
    match_gradient,
    plan_steps,
)
from skdistill.neural_network import ConvNet
from skdistill.neural_network._architectures import ARCHITECTURES, build_network
from skdistill.neural_network._augment import FAMILIES, augment
from skdistill.neural_network._convnet import flatten_learned
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.neural_network._module_derivatives import ModuleDerivatives
from skdistill.utils._memory import reused_memory

FORMS = ("plain", "by steps", "by hand")


def plain(module, start, target, images, targets, log_step_size, steps):
    """The gradient of the match as the equations say it."""
    parts = dict(module.named_parameters())
    sizes = [part.numel() for part in parts.values()]
    images = images.clone().requires_grad_()
    log_step_size = log_step_size.clone().requires_grad_()
    theta = start.clone().requires_grad_()
    for step in steps:
        views = {
            name: part.view(parts[name].shape)
            for name, part in zip(parts, theta.split(sizes), strict=True)
        }
        logits = functional_call(module, views, (augment(images, step.draw),))
        loss = -(targets * logits.log_softmax(1)).sum(1).mean()
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - log_step_size.exp() * gradient
    loss = (theta - target).square().sum() / (start - target).square().sum()
    return torch.autograd.grad(loss, [images, log_step_size])[0]


def build(name, options):
    torch.manual_seed(0)
    shape = options.size, options.size, 3
    if name == "convnet":
        return ConvNet(shape, options.classes, width=options.width)
    return build_network(
        name,
        shape,
        options.classes,
        width_multiplier=options.width_multiplier,
        normalization=options.normalization,
    )


def measure(form, name, options, connection):
    device = options.device
    module = build(name, options).to(device)
    start = flatten_learned(module)
    target = start + 0.01 * torch.randn_like(start)
    n_images = options.classes * options.ipc
    images = torch.randn(n_images, 3, options.size, options.size).to(device)
    codes = torch.arange(options.classes).repeat_interleave(options.ipc).to(device)
    targets = F.one_hot(codes, options.classes).to(images.dtype)
    log_step_size = torch.tensor(0.01, device=device).log()
    if form == "plain":
        network = None
    elif form == "by hand":
        network = ConvNetDerivatives(module)
    else:
        network = ModuleDerivatives(module, images)

    def iterate(n_steps, n_seen):
        steps = plan_steps(
            n_steps,
            n_seen,
            batch_size=None,
            families=FAMILIES,
            generator=torch.Generator().manual_seed(0),
            device=torch.device(device),
        )
        task = start, target, images[:n_seen], targets[:n_seen], log_step_size, steps
        if network is None:
            return plain(module, *task)
        return match_gradient(network, *task).images

    # A fit reuses memory from its first iteration to its last.
    reuse = nullcontext() if network is None else reused_memory()
    seconds = []
    with reuse:
        # One image first: what the libraries themselves allocate is not counted.
        iterate(1, 1)
        with PeakMemory(device) as memory:
            for _ in range(options.repeats):
                wait(device)
                begin = time.perf_counter()
                found = iterate(options.steps, n_images)
                wait(device)
                seconds.append(time.perf_counter() - begin)
    connection.send((min(seconds), memory.mebibytes, found.cpu().numpy()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=["convnet", *ARCHITECTURES],
        default=["convnet", "resnet18"],
    )
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--width", type=int, default=128, help="of the ConvNet")
    parser.add_argument("--width-multiplier", type=float, default=0.25)
    parser.add_argument("--normalization", default="group", help="of the others")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    rows = []
    for name in options.networks:
        forms = FORMS if name == "convnet" else FORMS[:2]
        expected = None
        for form in forms:
            seconds, mebibytes, gradient = in_a_process(measure, form, name, options)
            if expected is None:
                expected, first = gradient, (seconds, mebibytes)
            error = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
            rows.append(
                {
                    "network": name,
                    "form": form,
                    "N": options.steps,
                    "s": seconds,
                    "MiB": mebibytes,
                    "time / plain": seconds / first[0],
                    "memory / plain": mebibytes / first[1],
                    "difference of gradients": error,
                }
            )
            print(pd.DataFrame(rows[-1:]).to_string(index=False, float_format="%.3g"))
    table = pd.DataFrame(rows)
    device = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"\n{device}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(table.to_string(index=False, float_format="%.3g"))
    table.to_csv(Path(__file__).with_name("any_network.csv"), index=False)


if __name__ == "__main__":
    main()
