"""Several processes that work on one fit together, through torch.distributed.

The user starts the processes (``torchrun``) and initializes their group; a fit finds it
and shares its work.  In a process that is alone nothing of this costs anything.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from skdistill.utils._differences import describe_difference

T = TypeVar("T")

# Numbers that are on their way at once, for each process: 64 MiB.
_CHUNK = 2**24

# Longer than any work that one process does while the others wait.
_LONG = timedelta(days=30)


class RankError(RuntimeError):
    """Another process of the group failed, ended, or does not answer."""


class Ranks:
    """The processes of the default group, in the order of their ranks.

    Attributes
    ----------
    rank : int
        The number of this process.
    size : int
        Number of processes; 1 where no group is initialized.
    """

    def __init__(self) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.size = dist.get_world_size() if together else 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and shows progress."""
        return self.rank == 0

    def check_same(self, content: dict[str, Any]) -> None:
        """Raise a ValueError that names what differs between the processes."""
        if self.size == 1:
            return
        found = self.gather_objects(content)
        differences = [
            describe_difference(
                name,
                found[0].get(name),
                other[name],
                f"{{!r}} in process 0, {{!r}} in process {rank}",
            )
            for rank, other in enumerate(found)
            for name in other
            if other[name] != found[0].get(name)
        ]
        if differences:
            raise ValueError(
                "the processes of a torch.distributed group must fit the same data "
                "with the same parameters; got " + "; ".join(differences)
            )

    def from_first(self, make: Callable[[], T], *, long: bool = False) -> T:
        """Have the first process make something, and return it in all.

        Parameters
        ----------
        make : callable
            Makes something that can be pickled.  An error is raised in all processes.
        long : bool, default=False
            Whether it may take longer than the time the group waits for an answer.
        """
        if self.size == 1:
            return make()
        outcome: list[Any] = [None, None]
        with self._patience(long) as group:
            if self.is_first:
                try:
                    outcome[0] = make()
                except Exception as error:
                    outcome[1] = error
            with _telling_of_loss():
                dist.broadcast_object_list(outcome, src=0, group=group)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def side_by_side(self, work: Callable[[], T]) -> T:
        """Have each process do something that may take long, and wait for all.

        An error in one of them is raised in all.
        """
        if self.size == 1:
            return work()
        result: Any = None
        error: Exception | None = None
        errors: list[Any] = [None] * self.size
        with self._patience(True) as group:
            try:
                result = work()
            except Exception as caught:
                error = caught
            with _telling_of_loss():
                dist.all_gather_object(errors, error, group=group)
        for each in [error, *errors]:
            if each is not None:
                raise each
        return result

    @contextmanager
    def _patience(self, long: bool) -> Iterator[Any]:
        """Yield a group that waits for long work, or the default one.

        It is made before the work: a process that never comes is noticed at once.
        """
        if not long:
            yield None
            return
        with _telling_of_loss():
            group = dist.new_group(backend="gloo", timeout=_LONG)
        yield group
        dist.destroy_process_group(group)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of one shape that all processes give, in their order."""
        if self.size == 1:
            return [tensor]
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        with _telling_of_loss():
            dist.all_gather(parts, tensor.contiguous())
        return parts

    def gather_objects(self, item: Any) -> list[Any]:
        """Return what all processes give, anything that can be pickled, in order."""
        if self.size == 1:
            return [item]
        found: list[Any] = [None] * self.size
        with _telling_of_loss():
            dist.all_gather_object(found, item)
        return found

    def sums_in_order(self, total: Tensor, addend: Tensor, n_addends: int) -> Tensor:
        """Add what the first ``n_addends`` processes give to a total, one by one.

        The order of the sum is that of the ranks: all processes get bitwise identical
        results, and a process that does all the work alone does too.
        """
        flat = addend.flatten()
        pieces = []
        for piece, sum_so_far in zip(
            flat.split(_CHUNK), total.flatten().split(_CHUNK), strict=True
        ):
            for part in self.gather(piece)[:n_addends]:
                sum_so_far = sum_so_far + part
            pieces.append(sum_so_far)
        return torch.cat(pieces).view_as(total)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Tell whether a flag is set in one of the processes."""
        if self.size == 1:
            return flag
        flags = self.gather(torch.tensor([float(flag)], device=device))
        return bool(torch.stack(flags).any())

    @contextmanager
    def deferred_interrupt(self) -> Iterator[Callable[[], bool]]:
        """Note interrupts from the keyboard inside the block instead of raising them.

        A process must not leave while others wait for it.  Alone, it may.  A second
        interrupt is raised: the user does not want to wait for them.

        Yields
        ------
        interrupted : callable
            Tells whether there was one.
        """
        noted: list[int] = []
        if self.size == 1 or threading.current_thread() is not threading.main_thread():
            yield lambda: False
            return

        def note(number: int, frame: Any) -> None:
            if noted:
                raise KeyboardInterrupt
            noted.append(number)

        before = signal.signal(signal.SIGINT, note)
        try:
            yield lambda: bool(noted)
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def _telling_of_loss() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RankError(
            "another process of the torch.distributed group ended, failed or did not "
            f"answer in time ({str(error).strip().splitlines()[0][:200]})"
        ) from error
