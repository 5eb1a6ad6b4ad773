"""Networks that are drawn, trained for some steps on given images, and renewed.

A pool shows a distillation networks of all ages up to a limit, without training any of
them from the start in each iteration.  What is random about a network follows from a
seed, its place in the pool, how many were at that place before it, and how many steps
it has made: of the past nothing but the networks themselves has to be stored.

References
----------
Zhou, Nezhadarya and Ba, "Dataset Distillation using Neural Feature Regression",
NeurIPS 2022: a pool of networks of different ages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from skdistill.neural_network._augment import augment, draw_augmentation
from skdistill.neural_network._convnet import flatten_learned
from skdistill.utils._device import to_device
from skdistill.utils._random import child_seed, isolated_torch_seed, torch_generator
from skdistill.utils._workers import map_pieces

LIFETIMES = ("fixed", "random")

# Streams of random numbers of a pool.
_WEIGHTS, _TRAINING, _LIFETIME, _CHOICE, _DRAWN = range(5)


# The gradient of a mean loss by the parameters, as :meth:`ConvNetDerivatives.gradient`
# and :meth:`ModuleDerivatives.gradient`.
GradientFunction = Callable[..., Tensor]


class StepRule(Protocol):
    """An optimizer whose memory is handed to it, as :class:`InnerOptimizer`."""

    def step(
        self,
        parameters: Tensor,
        gradient: Tensor,
        step_size: Tensor,
        memory: tuple[Tensor, ...],
        number: int,
    ) -> tuple[Tensor, tuple[Tensor, ...], Any]:
        """Return parameters, memory and anything else; change nothing in place."""


class TrainedNetwork(NamedTuple):
    """A network in training; nothing of it is ever changed in place.

    Attributes
    ----------
    parameters : Tensor of shape (n_parameters,)
    memory : tuple of Tensor of shape (n_parameters,)
        What its optimizer remembers; empty before the first step.
    n_steps : int
        Number of steps since it was drawn.
    """

    parameters: Tensor
    memory: tuple[Tensor, ...] = ()
    n_steps: int = 0


@torch.no_grad()
def train_network(
    network: TrainedNetwork,
    gradient: GradientFunction,
    optimizer: StepRule,
    images: Tensor,
    targets: Tensor,
    *,
    learning_rate: float,
    n_steps: int = 1,
    weights: Tensor | None = None,
    batch_size: int | None = None,
    families: Sequence[str] = (),
    scale: float = 1.0,
    generator: torch.Generator | None = None,
    seed: int | None = None,
) -> TrainedNetwork:
    """Train a network for some steps.

    Parameters
    ----------
    network : TrainedNetwork
    gradient : callable
        As :meth:`ConvNetDerivatives.gradient`.
    optimizer : StepRule
    images : Tensor of shape (n_images, channels, height, width)
    targets : Tensor of shape (n_images, n_classes)
    learning_rate : float
    n_steps : int, default=1
    weights : Tensor of shape (n_images,), default=None
        Of the images' losses in the mean over a batch.
    batch_size : int, default=None
        Images per step, in reshuffled passes over all that begin with this call; None
        takes all in each step.
    families : sequence of str, default=()
        Families of augmentation, one of which is drawn in each step.
    scale : float, default=1.0
        Standard deviation of the pixels, the unit of the augmentation's brightness.
    generator : torch.Generator, default=None
        On the CPU.  Decides on batches and augmentations; needed where there are any.
    seed : int, default=None
        Decides, with the number of the step, on what the network draws itself, as
        dropout does; None where it draws nothing.

    Returns
    -------
    TrainedNetwork
    """
    parameters, memory, number = network
    step_size = torch.tensor(learning_rate, dtype=images.dtype, device=images.device)
    waiting: list[Tensor] = []
    is_cut = batch_size is not None and batch_size < len(images)
    for _ in range(n_steps):
        seen, wanted, own = images, targets, weights
        if is_cut:
            assert batch_size is not None
            if not waiting:
                order = torch.randperm(len(images), generator=generator)
                waiting = list(to_device(order, images.device).split(batch_size))
            batch = waiting.pop(0)
            seen, wanted = images[batch], targets[batch]
            own = None if weights is None else weights[batch]
        if families:
            assert generator is not None
            draw = draw_augmentation(families, len(seen), generator)
            seen = augment(seen, draw, scale)
        options: dict[str, Any] = {} if own is None else {"weights": own}
        if seed is not None:
            options["seed"] = child_seed(seed, number)
        found = gradient(parameters, seen, wanted, **options)
        number += 1
        parameters, memory, _ = optimizer.step(
            parameters, found, step_size, memory, number
        )
    return TrainedNetwork(parameters, memory, number)


class NetworkPool:
    """Networks of different ages, each of which is trained and renewed in time.

    Parameters
    ----------
    build : callable
        Returns a module with weights drawn from PyTorch's global generator.
    gradient : callable
        The gradient of the loss that the networks learn by, as
        :meth:`ConvNetDerivatives.gradient`.
    optimizer : StepRule
    n_networks : int
    max_steps : int
        Number of steps that a network makes at most.  With 0 none is trained: each
        is renewed when it would be.
    learning_rate : float
    lifetime : {"fixed", "random"}, default="fixed"
        How many steps a network makes before it is renewed:

        - "fixed": ``max_steps``; the first at each place fewer, so that the networks
          are renewed one after the other.
        - "random": any number from 0 to ``max_steps``, each as likely.
    batch_size : int, default=None
    families : sequence of str, default=()
    scale : float, default=1.0
        As for :func:`train_network`.
    is_random : bool, default=False
        Whether a network draws something in training, as dropout does.
    seed : int
        Decides all that is random.
    device : torch.device
    dtype : torch.dtype, default=torch.float32
        Of the parameters.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        gradient: GradientFunction,
        optimizer: StepRule,
        *,
        n_networks: int,
        max_steps: int,
        learning_rate: float,
        lifetime: str = "fixed",
        batch_size: int | None = None,
        families: Sequence[str] = (),
        scale: float = 1.0,
        is_random: bool = False,
        seed: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if lifetime not in LIFETIMES:
            raise ValueError(f"`lifetime` must be one of {LIFETIMES}; got {lifetime!r}")
        self._build = build
        self._gradient = gradient
        self._optimizer = optimizer
        self._max_steps = max_steps
        self._learning_rate = learning_rate
        self._lifetime = lifetime
        self._batch_size = batch_size
        self._families = tuple(families)
        self._scale = scale
        self._is_random = is_random
        self._seed = seed
        self._device = device
        self._dtype = dtype
        self._generations = [0] * n_networks
        self._networks = [self._drawn(place, 0) for place in range(n_networks)]

    def __len__(self) -> int:
        """Return the number of networks."""
        return len(self._networks)

    def __getitem__(self, place: int) -> TrainedNetwork:
        """Return the network at a place."""
        return self._networks[place]

    def choose(self, iteration: int, place: int = 0) -> int:
        """Return which network serves in an iteration.

        Parameters
        ----------
        iteration : int
        place : int, default=0
            Which of the draws of the iteration it serves for; as long as there are no
            more of them than networks, each gets another one.

        Returns
        -------
        place : int
            Of the network in the pool.
        """
        rng = np.random.default_rng([self._seed, _CHOICE, iteration])
        return int(rng.permutation(len(self))[place % len(self)])

    def train(
        self,
        places: Sequence[int],
        images: Tensor,
        targets: Tensor,
        *,
        n_steps: int = 1,
        weights: Tensor | None = None,
    ) -> None:
        """Train networks, and renew those that have made their steps.

        One that would make more steps than it may is renewed instead, and so is
        one whose training diverged.

        Parameters
        ----------
        places : sequence of int
            Of the networks in the pool, each at most once.
        images : Tensor of shape (n_images, channels, height, width)
        targets : Tensor of shape (n_images, n_classes)
        n_steps : int, default=1
        weights : Tensor of shape (n_images,), default=None
            Of the images' losses in the mean over a batch.
        """
        images, targets = images.to(self._dtype), targets.to(self._dtype)
        weights = None if weights is None else weights.to(self._dtype)

        def trained(place: int) -> TrainedNetwork | None:
            network, generation = self._networks[place], self._generations[place]
            drawn = None
            if self._is_random:
                drawn = child_seed(self._seed, _DRAWN, place, generation)
            if network.n_steps + n_steps > self.max_steps_of(place):
                return None
            found = train_network(
                network,
                self._gradient,
                self._optimizer,
                images,
                targets,
                learning_rate=self._learning_rate,
                n_steps=n_steps,
                weights=weights,
                batch_size=self._batch_size,
                families=self._families,
                scale=self._scale,
                generator=torch_generator(
                    child_seed(
                        self._seed, _TRAINING, place, generation, network.n_steps
                    )
                ),
                seed=drawn,
            )
            # A sum is finite only if all that it adds up is.
            sums = [tensor.sum() for tensor in (found.parameters, *found.memory)]
            return found if bool(torch.stack(sums).isfinite().all()) else None

        for place, network in zip(places, map_pieces(trained, places), strict=True):
            if network is None:
                self.renew(place)
            else:
                self._networks[place] = network

    def renew(self, place: int) -> None:
        """Draw the network at a place again."""
        self._generations[place] += 1
        self._networks[place] = self._drawn(place, self._generations[place])

    def max_steps_of(self, place: int) -> int:
        """Return how many steps the present network at a place may make."""
        generation = self._generations[place]
        if self._lifetime == "random":
            key = [self._seed, _LIFETIME, place, generation]
            return int(np.random.default_rng(key).integers(self._max_steps + 1))
        if generation:
            return self._max_steps
        return self._max_steps - place * (self._max_steps + 1) // len(self)

    def state(self) -> dict[str, Tensor]:
        """Return everything that training changes."""
        state = {
            "generations": torch.tensor(self._generations),
            "n_steps": torch.tensor([network.n_steps for network in self._networks]),
        }
        for place, network in enumerate(self._networks):
            if network.n_steps:
                state[f"{place}.parameters"] = network.parameters
                for number, tensor in enumerate(network.memory):
                    state[f"{place}.memory.{number}"] = tensor
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take on a state, from any device.

        Raises
        ------
        ValueError
            If it is not that of such a pool.
        """
        shape = (len(self),)
        generations, n_steps = state.get("generations"), state.get("n_steps")
        if (
            generations is None
            or n_steps is None
            or generations.shape != shape
            or n_steps.shape != shape
        ):
            raise ValueError(f"it is not the state of a pool of {len(self)} networks")
        networks = [
            self._stored(state, place, int(generations[place]), int(n_steps[place]))
            for place in range(len(self))
        ]
        self._generations, self._networks = generations.tolist(), networks

    def _stored(
        self, state: dict[str, Tensor], place: int, generation: int, n_steps: int
    ) -> TrainedNetwork:
        fresh = self._drawn(place, generation)
        if not n_steps:
            return fresh
        names = [f"{place}.parameters"]
        while (name := f"{place}.memory.{len(names) - 1}") in state:
            names.append(name)
        for name in names:
            if name not in state or state[name].shape != fresh.parameters.shape:
                raise ValueError("it holds networks with a different architecture")
        parameters, *memory = (
            to_device(state[name], self._device).to(self._dtype) for name in names
        )
        return TrainedNetwork(parameters, tuple(memory), n_steps)

    def _drawn(self, place: int, generation: int) -> TrainedNetwork:
        seed = child_seed(self._seed, _WEIGHTS, place, generation)
        with isolated_torch_seed(seed):
            parameters = flatten_learned(self._build())
        return TrainedNetwork(to_device(parameters, self._device).to(self._dtype))
