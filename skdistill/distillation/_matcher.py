"""The matches of an iteration: of which teachers, and in which process."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skdistill.distillation._history import PROBE_COLUMNS
from skdistill.distillation._objectives._trajectory_distance import (
    Match,
    MatchGradient,
    match,
    match_gradient,
    plan_steps,
)
from skdistill.distillation._updates import BELIEVED_STRETCHES, Learned
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.trajectory import TrajectoryBuffer
from skdistill.utils._device import to_device
from skdistill.utils._distributed import RankError, Ranks
from skdistill.utils._workers import map_pieces

# How a process fares in an iteration, as a number that the others are told.
_WELL, _INTERRUPTED, _FAILED = 0.0, 1.0, 2.0


class Task(NamedTuple):
    """What one iteration matches.

    Attributes
    ----------
    teacher : int
    start_epoch, end_epoch : int
        The snapshots that the student starts at and aims at.
    probe_epoch : int or None
        The snapshot a probe starts at, which aims as far as the match.
    """

    teacher: int
    start_epoch: int
    end_epoch: int
    probe_epoch: int | None = None


class Matcher:
    """Makes the matches of each iteration; holds what stays the same in a run."""

    def __init__(
        self,
        buffer: TrajectoryBuffer,
        network: ConvNetDerivatives,
        *,
        n_steps: int,
        batch_size: int,
        families: tuple[str, ...],
        detached: bool,
        keep: bool,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self._buffer = buffer
        self._network = network
        self._n_steps = n_steps
        self._batch_size = batch_size
        self._families = families
        self._detached = detached
        self._keep = keep
        self._device = device
        self._ranks = ranks
        # Whether the keyboard interrupted the work.
        self.interrupted: Callable[[], bool]

    def __call__(
        self,
        learned: Learned,
        tasks: list[Task],
        generators: list[torch.Generator],
    ) -> tuple[dict[str, float], MatchGradient]:
        """Return the means over the tasks of all numbers and of the gradient.

        Each process makes its share of the matches; all return the same.
        """
        rows: list[dict[str, float]] = []
        images = torch.zeros_like(learned.images)
        targets = torch.zeros_like(learned.targets)
        if self._ranks.size == 1:
            found = map_pieces(
                lambda match_: self._match(learned, *match_),
                list(zip(tasks, generators, strict=True)),
            )
            # In one transfer from the device for each.
            rows = [
                dict(
                    zip(
                        values, torch.stack(list(values.values())).tolist(), strict=True
                    )
                )
                for values, _ in found
            ]
            if len(found) == 1:
                return rows[0], found[0][1]
            for _, gradient in found:
                images += gradient.images
                targets += gradient.targets
            return self._mean(rows, images, targets)
        for first in range(0, len(tasks), self._ranks.size):
            n_matches = min(self._ranks.size, len(tasks) - first)
            share, by_images, by_targets = self._share(
                learned, tasks[first:], generators[first:]
            )
            rows += share[:n_matches]
            images = self._ranks.sums_in_order(images, by_images, n_matches)
            targets = self._ranks.sums_in_order(targets, by_targets, n_matches)
        return self._mean(rows, images, targets)

    def _mean(
        self, rows: list[dict[str, float]], images: Tensor, targets: Tensor
    ) -> tuple[dict[str, float], MatchGradient]:
        """Return the means of the matches, of whose gradients these are the sums."""
        numbers = mean_numbers(rows)
        matched = Match(*(images.new_tensor(numbers[name]) for name in Match._fields))
        return numbers, MatchGradient(
            matched,
            images / len(rows),
            targets / len(rows),
            images.new_tensor(numbers["by_step_size"]),
        )

    def _share(
        self, learned: Learned, tasks: list[Task], generators: list[torch.Generator]
    ) -> tuple[list[dict[str, float]], Tensor, Tensor]:
        """Make this process's match of a round; return all numbers and its gradient.

        An error or an interrupt in one process reaches all of them at once.
        """
        ranks = self._ranks
        names = [*Match._fields, "by_step_size", "checksum"]
        if tasks[0].probe_epoch is not None:
            names = [*PROBE_COLUMNS, *names]
        by_images = torch.zeros_like(learned.images)
        by_targets = torch.zeros_like(learned.targets)
        values = by_images.new_zeros(len(names))
        state, failure = _WELL, None
        # In the last round there may be no match left for this process.
        if ranks.rank < len(tasks):
            try:
                found, gradient = self._match(
                    learned, tasks[ranks.rank], generators[ranks.rank]
                )
                values = torch.stack([found[name] for name in names])
                by_images, by_targets = gradient.images, gradient.targets
            except KeyboardInterrupt:
                state = _INTERRUPTED
            except Exception as error:
                state, failure = _FAILED, error
        if self.interrupted():
            state = _INTERRUPTED
        own = torch.cat([values.new_tensor([state]), values])
        gathered = torch.stack(ranks.gather(own))
        states, table = gathered[:, 0].tolist(), gathered[:, 1:]
        if failure is not None:
            raise failure
        if _FAILED in states:
            raise RankError(
                f"process {states.index(_FAILED)} of {ranks.size} failed and ended the "
                "fit of all; its own message says why"
            )
        if _INTERRUPTED in states:
            raise KeyboardInterrupt
        rows = [dict(zip(names, row, strict=True)) for row in table.tolist()]
        return rows, by_images, by_targets

    def _match(
        self, learned: Learned, task: Task, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], MatchGradient]:
        """Probe and match; return all numbers and the gradient."""
        scale = self._buffer.pixel_scale_
        parts: list[Callable[[], Any]] = []
        if task.probe_epoch is not None:
            epoch = task.probe_epoch
            end = epoch + task.end_epoch - task.start_epoch
            # Draws before the match does: the order decides on both.
            probed = self._arguments(learned, task.teacher, epoch, end, generator)
            parts = [lambda: match(*probed, scale=scale)]
        matched = self._arguments(
            learned, task.teacher, task.start_epoch, task.end_epoch, generator
        )
        # The longer work first: a thread that is through with the other can help.
        gradient, *probes = map_pieces(
            lambda compute: compute(),
            [
                lambda: match_gradient(
                    *matched, detached=self._detached, keep=self._keep, scale=scale
                ),
                *parts,
            ],
        )
        found: dict[str, Tensor] = {}
        for probe in probes:
            found |= dict(
                zip(PROBE_COLUMNS, (probe.loss, probe.misalignment), strict=True)
            )
        found |= gradient.match._asdict()
        found["by_step_size"] = gradient.log_step_size
        # A sum is finite only if all that it adds up is, and needs no other transfer.
        found["checksum"] = gradient.images.sum() + gradient.targets.sum()
        return found, gradient

    def _arguments(
        self,
        learned: Learned,
        teacher: int,
        start_epoch: int,
        end_epoch: int,
        generator: torch.Generator,
    ) -> tuple:
        snapshot_epochs = self._buffer.snapshot_epochs_
        start, end = (
            to_device(
                torch.from_numpy(
                    self._buffer.snapshot(teacher, snapshot_epochs[place])
                ),
                self._device,
            )
            for place in (start_epoch, end_epoch)
        )
        steps = plan_steps(
            self._n_steps,
            len(learned.images),
            batch_size=self._batch_size,
            families=self._families,
            generator=generator,
            device=self._device,
        )
        return (
            self._network,
            start,
            end,
            learned.images,
            learned.targets,
            learned.step_sizes.logarithm(start_epoch),
            steps,
        )


def _as_floats(values: dict[str, Tensor]) -> dict[str, float]:
    # In one transfer from the device.
    return dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))


def draw_teachers(
    rng: np.random.Generator, first: int, n_teachers: int, n_matches: int
) -> list[int]:
    """Return the teachers of an iteration, each as often as any other if it can be."""
    if n_matches == 1:
        return [first]
    others = rng.permutation(np.setdiff1d(np.arange(n_teachers), first)).tolist()
    order = [first, *others]
    return [order[place % n_teachers] for place in range(n_matches)]


def mean_numbers(rows: list[dict[str, float]]) -> dict[str, float]:
    """Average the numbers of matches; the stretch, a factor, by its logarithm."""
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    stretches = np.array([row["stretch"] for row in rows])
    means["stretch"] = float(np.exp(np.log(stretches.clip(*BELIEVED_STRETCHES)).mean()))
    return means
