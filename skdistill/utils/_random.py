"""The one place that turns ``random_state`` into generators of NumPy and PyTorch."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.utils import check_random_state

from skdistill.utils._fork import after_fork

_global_generator = threading.Lock()


def _mend_after_fork() -> None:
    global _global_generator
    _global_generator = threading.Lock()


after_fork(_mend_after_fork)


def root_seed(random_state: object) -> int:
    """Return one non-negative 31-bit integer that stands for ``random_state``."""
    if isinstance(random_state, (int, np.integer)):
        # The number itself: what a user reads in a manifest is what was asked for.
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def child_seed(seed: int, *key: int) -> int:
    """Derive an independent 63-bit seed for the part of the work that ``key`` names."""
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator_states(device: torch.device) -> list[torch.Tensor]:
    """Return the states of PyTorch's generators from which modules draw."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def torch_generator(seed: int) -> torch.Generator:
    """Return a generator on the CPU: the same draws on any device."""
    return torch.Generator().manual_seed(seed)


@contextmanager
def isolated_torch_seed(
    seed: int, device: torch.device | None = None
) -> Iterator[None]:
    """Seed torch's global generator inside the block and restore it afterwards.

    That of the CPU, and that of a GPU where one is given, from which dropout draws.

    Constructors of modules draw their initial weights from the global generator of
    the CPU and take no other; no fit may move what the user seeded.  There is one for
    all threads: blocks wait for each other.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with _global_generator, torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for gpu in devices:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield
