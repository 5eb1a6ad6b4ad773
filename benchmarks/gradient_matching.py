"""Time and memory of gradient matching, against the plain form.

The synthetic side of an iteration is, for each class, the gradient from its synthetic
images, its distance from a given one, and the pixel gradient.  The whole iteration has
the gradient from real images, too; where networks are trained, the time of the epochs
after an update is the third part.  The plain form is written from the equations:
automatic differentiation, twice, a class after the other, or through one graph of all
classes, as released.  Each form runs in a process of its own, one after the other, on
the same task.
"""

import argparse
import json
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _measure import PeakMemory, in_a_process, wait
from torch.func import functional_call
from torch.nn import functional as F

from skdistill.distillation._objectives._gradients import match_gradient, matched_parts
from skdistill.neural_network._convnet import ConvNet, flatten_parameters
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.neural_network._sgd import (
    SGDSettings,
    descend_epoch,
    one_by_one,
    plan_epoch,
)
from skdistill.utils._memory import reused_memory
from skdistill.utils._workers import map_pieces, worker_threads

FORMS = ("exact", "plain", "plain, one graph")
# Classes, images per class, real images per class.
CASES = [[10, 1, 256], [10, 10, 256]]


class Plain:
    """The iteration as the equations say it."""

    def __init__(self, module, form):
        self.module = module
        self.one_graph = form == "plain, one graph"
        self.parameters = dict(module.named_parameters())

    def gradient(self, images, code, graph=False):
        logits = functional_call(self.module, self.parameters, (images,))
        loss = F.cross_entropy(logits, torch.full_like(logits[:, 0], code).long())
        leaves = list(self.parameters.values())
        return torch.autograd.grad(loss, leaves, create_graph=graph)

    def distance(self, found, wanted):
        return sum(
            (1 - F.cosine_similarity(a.flatten(1), b.flatten(1))).sum()
            for a, b in zip(found, wanted, strict=True)
            if a.ndim > 1
        )

    def real(self, batches):
        return [self.gradient(batch, code) for code, batch in enumerate(batches)]

    def synthetic(self, classes, real):
        losses, gradients = [], []
        leaves = [images.clone().requires_grad_() for images in classes]
        for code, (images, wanted) in enumerate(zip(leaves, real, strict=True)):
            losses.append(self.distance(self.gradient(images, code, True), wanted))
            if not self.one_graph:
                gradients += torch.autograd.grad(losses[-1], images)
                losses[-1] = losses[-1].detach()
        if self.one_graph:
            gradients = torch.autograd.grad(sum(losses), leaves)
        return sum(losses).detach(), torch.cat(list(gradients))

    def epochs(self, classes, n_epochs):
        images = torch.cat(classes)
        targets = torch.arange(len(classes)).repeat_interleave(len(classes[0]))
        targets = targets.to(images.device)
        leaves = list(self.parameters.values())
        for _ in range(n_epochs):
            order = torch.randperm(len(images))
            for batch in order.split(256):
                loss = F.cross_entropy(self.module(images[batch]), targets[batch])
                with torch.no_grad():
                    for leaf, grad in zip(
                        leaves, torch.autograd.grad(loss, leaves), strict=True
                    ):
                        leaf -= 0.01 * grad


class Exact:
    """The iteration as the package computes it."""

    def __init__(self, module, form):
        self.module = module
        self.network = ConvNetDerivatives(module)
        self.start = flatten_parameters(module)
        self.parts = matched_parts(module, "weights")
        self.eye = torch.eye(module.classifier.out_features, device=self.start.device)

    def targets(self, code, images):
        return self.eye[code].expand(len(images), -1)

    def real(self, batches):
        return map_pieces(
            lambda code: self.network.gradient(
                self.start, batches[code], self.targets(code, batches[code])
            ),
            range(len(batches)),
        )

    def synthetic(self, classes, real):
        found = map_pieces(
            lambda code: match_gradient(
                self.network,
                self.start,
                classes[code],
                self.targets(code, classes[code]),
                real[code],
                self.parts,
                "cosine",
            ),
            range(len(classes)),
        )
        return sum(one.distance for one in found), torch.cat([x.images for x in found])

    def epochs(self, classes, n_epochs):
        images = torch.cat(classes)
        targets = torch.cat([self.targets(*both) for both in enumerate(classes)])
        gradients = one_by_one(self.module)
        networks = self.start[None].clone()
        generator = torch.Generator().manual_seed(0)
        descent = SGDSettings(0.01, 0.0, 0.0, 256, 1.0)
        for _ in range(n_epochs):
            plans = [plan_epoch(len(images), 256, (), generator)]
            descend_epoch(gradients, networks, None, images, targets, plans, descent)


def measure(form, case, options, connection):
    n_classes, ipc, n_real = case
    device = options.device
    torch.manual_seed(0)
    size = options.size
    module = ConvNet((size, size, 3), n_classes, width=options.width).to(device)
    shape = (3, size, size)
    batches = [torch.randn(n_real, *shape, device=device) for _ in range(n_classes)]
    classes = [torch.randn(ipc, *shape, device=device) for _ in range(n_classes)]
    is_exact = form == "exact"
    iterate = (Exact if is_exact else Plain)(module, form)
    threads = worker_threads(torch.device(device)) if is_exact else nullcontext()
    seconds = {"synthetic": [], "real": [], "epochs": []}

    def timed(name, function, *arguments):
        wait(device)
        begin = time.perf_counter()
        found = function(*arguments)
        wait(device)
        seconds[name].append(time.perf_counter() - begin)
        return found

    reuse = reused_memory() if is_exact else nullcontext()
    with threads, reuse:
        # A few images first: what the libraries themselves allocate is not counted.
        wanted = iterate.real([batch[:2] for batch in batches])
        iterate.synthetic([images[:1] for images in classes], wanted)
        with PeakMemory(device) as memory:
            for _ in range(options.repeats):
                loss, gradient = timed("synthetic", iterate.synthetic, classes, wanted)
        for _ in range(max(1, options.repeats // 2)):
            timed("real", iterate.real, batches)
            # A part of the 50 epochs after an update with 10 images per class.
            timed("epochs", iterate.epochs, classes, 5)
    connection.send(
        (
            *(min(values) for values in seconds.values()),
            memory.mebibytes,
            float(loss),
            float(gradient.norm()),
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument(
        "--cases",
        type=json.loads,
        default=CASES,
        help="classes, images per class, real images per class, as JSON",
    )
    options = parser.parse_args()
    names = ("synthetic s", "real s", "5 epochs s", "synthetic MiB", "loss", "gradient")
    rows = []
    for case in options.cases:
        for form in FORMS:
            found = in_a_process(measure, form, case, options)
            row = dict(zip(("classes", "ipc", "real"), case, strict=True))
            rows.append(row | {"form": form} | dict(zip(names, found, strict=True)))
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table["iteration s"] = table["synthetic s"] + table["real s"]
    exact = table[table["form"] == "exact"].set_index(["classes", "ipc", "real"])
    for name in ("synthetic s", "iteration s", "5 epochs s", "synthetic MiB"):
        of_exact = [
            exact.loc[key, name]
            for key in zip(table["classes"], table["ipc"], table["real"], strict=True)
        ]
        table[f"{name} / exact"] = table[name] / np.array(of_exact)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"\n{name}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(table.to_string(index=False, float_format="%.4g"))
    table.to_csv(Path(__file__).with_name("gradient_matching.csv"), index=False)


if __name__ == "__main__":
    main()
