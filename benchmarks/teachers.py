"""Images a second in the training of teachers, against a plain PyTorch loop.

The plain loop is what public code for trajectory matching does: a DataLoader, DSA on
the batch, forward pass, automatic differentiation, SGD; it trains one teacher
with all cores.  The package trains a teacher per core, or on a GPU many at once.  Both
forms take turns, each in processes of its own, and the least time of each counts.

On a shared machine images per second of CPU time are more meaningful: they do not count
the time in which other programs used the core.

The share is that of the rate at which the same cores multiply large matrices; it
counts the operations of direct convolutions.  Winograd's algorithm needs fewer, so
that the share can exceed 1.
"""

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from skdistill.neural_network import ConvNet
from skdistill.neural_network._augment import FAMILIES, augment, draw_augmentation
from skdistill.trajectory._settings import TeacherSettings
from skdistill.trajectory._teacher import Teachers
from skdistill.utils._memory import reused_memory


def operations(module):
    """Count the operations of the convolutions for one image, forward and backward."""
    total = 0
    for place, block in enumerate(module.blocks):
        once = 2 * 9 * block.in_channels * block.out_channels
        # The images need no gradient.
        total += once * block.height * block.width * (3 if place else 2)
    return total


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device):
    """Return the operations per second of a large product of matrices."""
    size = 8192 if device == "cuda" else 2048
    matrix = torch.randn(size, size, device=device)
    seconds = []
    for _ in range(4):
        wait(device)
        begin = time.perf_counter()
        matrix @ matrix
        wait(device)
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / min(seconds)


def data(options):
    generator = torch.Generator().manual_seed(0)
    shape = (options.steps * options.batch_size, 3, options.size, options.size)
    images = torch.randn(shape, generator=generator)
    return images, torch.randint(10, (len(images),), generator=generator)


def plain(options, n_threads, start, connection):
    """Train one teacher the plain way; returns the seconds of an epoch."""
    torch.set_num_threads(n_threads)
    device = options.device
    images, codes = data(options)
    loader = DataLoader(
        TensorDataset(images, codes), batch_size=options.batch_size, shuffle=True
    )
    module = ConvNet((options.size, options.size, 3), 10, width=options.width)
    module = module.to(device)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    rate = matrix_rate(device)

    def epoch():
        total = right = 0.0
        for batch, labels in loader:
            batch, labels = batch.to(device), labels.to(device)
            draw = draw_augmentation(FAMILIES, len(batch), generator)
            logits = module(augment(batch, draw))
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
            right += (logits.argmax(dim=1) == labels).sum().item()

    measure(epoch, options, start, connection, rate)


def package(options, n_threads, start, connection):
    """Train teachers as the package does; returns the seconds of an epoch."""
    torch.set_num_threads(n_threads)
    images, codes = (tensor.to(options.device) for tensor in data(options))
    settings = TeacherSettings(
        image_shape=(options.size, options.size, 3),
        n_classes=10,
        width=options.width,
        depth=3,
        normalization="instance",
        learning_rate=0.01,
        momentum=0.0,
        weight_decay=0.0,
        batch_size=options.batch_size,
        average=False,
        class_weight="balanced",
        families=FAMILIES,
        scale=1.0,
        snapshots_per_epoch=1,
        storage="float32",
    )
    seeds = range(options.at_once)
    teachers = Teachers(settings, images, codes, None, seeds, options.epochs + 1)
    epochs = teachers.train()
    rate = matrix_rate(options.device)
    with reused_memory():
        measure(lambda: next(epochs), options, start, connection, rate)


def measure(epoch, options, start, connection, rate):
    epoch()
    wait(options.device)
    start.wait()
    seconds, of_cores = [], []
    for _ in range(options.epochs):
        begin, of_cores_before = time.perf_counter(), time.process_time()
        epoch()
        wait(options.device)
        seconds.append(time.perf_counter() - begin)
        of_cores.append(time.process_time() - of_cores_before)
    connection.send((min(seconds), min(of_cores), rate))


def run(arm, n_processes, n_threads, options):
    """Train in some processes at once.

    Returns their images a second, their images a second of a core, and the rate at
    which they multiply matrices.
    """
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(n_processes)
    # As in joblib's workers: OpenMP reads it when it starts.
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    processes, receivers = [], []
    for _ in range(n_processes):
        receiver, sender = context.Pipe(duplex=False)
        # A daemon: it ends with this process, should another one have failed.
        process = context.Process(
            target=arm, args=(options, n_threads, start, sender), daemon=True
        )
        process.start()
        sender.close()
        processes.append(process)
        receivers.append(receiver)
    # An EOFError where one of them raised an error, which is shown above it.
    found = [receiver.recv() for receiver in receivers]
    for process in processes:
        process.join()
    n_images = options.steps * options.batch_size
    n_images *= options.at_once if arm is package else 1
    rates, core_rates, matrices = np.transpose(found)
    return (
        (n_images / rates).sum(),
        (n_images / core_rates).mean(),
        matrices.sum(),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4, help="steps in an epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--at-once", type=int, help="teachers at once on a GPU")
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    options.at_once = options.at_once or (16 if on_gpu else 1)
    module = ConvNet((options.size, options.size, 3), 10, width=options.width)
    n_operations = operations(module)
    arms = {
        "plain loop": (plain, 1, options.cores),
        "package": (package, 1, 1) if on_gpu else (package, options.cores, 1),
    }
    rows = []
    for turn in range(options.rounds):
        for name, (arm, n_processes, n_threads) in arms.items():
            rate, core_rate, matrices = run(arm, n_processes, n_threads, options)
            share = rate * n_operations / matrices
            rows.append((turn, name, rate, core_rate, share))
            print(f"{name}: {rate:.0f} images/s, share {share:.2f}", flush=True)
    columns = ["images a second", "... of a core", "share of matrix rate"]
    table = pd.DataFrame(rows, columns=["round", "arm", *columns])
    rates = table.pivot(index="round", columns="arm", values="images a second")
    ratios = rates["package"] / rates["plain loop"]
    best = table.groupby("arm", sort=False)[columns].max()
    device = torch.cuda.get_device_name() if on_gpu else f"{options.cores} cores"
    print(f"\n{device}, torch {torch.__version__}, width {options.width}")
    print(best.to_string(float_format="%.3g"))
    print(
        f"ratio: {best.iloc[1, 0] / best.iloc[0, 0]:.2f} of the best, "
        f"{np.median(ratios):.2f} in the median round"
    )
    table.to_csv(Path(__file__).with_name("teachers.csv"), index=False)


if __name__ == "__main__":
    main()
