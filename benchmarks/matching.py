"""Time and memory of the exact gradient, against the plain unrolled form.

Each form runs in a process of its own, one after the other, on the same task: the
gradient of one match, DSA on, with respect to images and step size.  The plain form
keeps the graph over all of the student's steps.
"""

import argparse
import json
import multiprocessing
import resource
import time

import pandas as pd
import torch

from skdistill.distillation._matching import _student_loss, match_gradient, plan_steps
from skdistill.neural_network import ConvNet
from skdistill.neural_network._augment import FAMILIES
from skdistill.neural_network._convnet import FlatNetwork, flatten_parameters


def unrolled_gradient(network, start, target, images, targets, log_step_size, steps):
    """Differentiate the loss through a graph over all steps."""
    images = images.clone().requires_grad_()
    log_step_size = log_step_size.clone().requires_grad_()
    parameters = start.clone().requires_grad_()
    for step in steps:
        loss = _student_loss(network, parameters, images, targets, step, 1.0)
        gradient = torch.autograd.grad(loss, parameters, create_graph=True)[0]
        parameters = parameters - log_step_size.exp() * gradient
    loss = (parameters - target).square().sum() / (start - target).square().sum()
    return torch.autograd.grad(loss, [images, log_step_size])


FORMS = {"unrolled": unrolled_gradient, "exact": match_gradient}


def peak_memory():
    """Return the most memory that this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(form, ipc, n_steps, width, size, n_repeats, connection):
    torch.manual_seed(0)
    module = ConvNet((size, size, 3), 10, width=width)
    network = FlatNetwork(module)
    start = flatten_parameters(module)
    target = start + 0.01 * torch.randn_like(start)
    task = (
        network,
        start,
        target,
        torch.randn(10 * ipc, 3, size, size),
        torch.arange(10).repeat_interleave(ipc),
        torch.tensor(0.01).log(),
        plan_steps(
            n_steps,
            10 * ipc,
            batch_size=None,
            families=FAMILIES,
            generator=torch.Generator().manual_seed(0),
        ),
    )
    # One step first: what the libraries themselves allocate is not counted.
    FORMS[form](*task[:-1], task[-1][:1])
    before = peak_memory()
    seconds = []
    for _ in range(n_repeats):
        begin = time.perf_counter()
        FORMS[form](*task)
        seconds.append(time.perf_counter() - begin)
    connection.send((min(seconds), peak_memory() - before))


def run(*arguments):
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=measure, args=(*arguments, sender)
    )
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument(
        "--cases",
        type=json.loads,
        default=[[1, 10], [1, 50], [10, 5], [10, 10]],
        help="pairs of images per class and steps, as JSON",
    )
    options = parser.parse_args()
    rows = []
    for ipc, n_steps in options.cases:
        common = (ipc, n_steps, options.width, options.size, options.repeats)
        results = {form: run(form, *common) for form in FORMS}
        rows.append(
            {
                "ipc": ipc,
                "N": n_steps,
                **{f"{form} s": results[form][0] for form in FORMS},
                **{f"{form} MiB": results[form][1] for form in FORMS},
                "time ratio": results["unrolled"][0] / results["exact"][0],
                "memory ratio": results["unrolled"][1] / max(results["exact"][1], 1),
            }
        )
    table = pd.DataFrame(rows)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options}")
    print(table.to_string(index=False, float_format="%.2f"))
    table.to_csv("benchmarks/matching.csv", index=False)


if __name__ == "__main__":
    main()
