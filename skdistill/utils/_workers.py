"""Threads that compute whole pieces of work, each with one thread of PyTorch's.

PyTorch splits each operation over threads that spin until the last of them is done.
Where other programs want the processors too, one thread that is not running holds all
others at each of the thousands of operations of a step.  Here a step is cut into
pieces; each is computed by one thread, and a wait that blocks joins them once per step.

How the work is cut and in what order results are added up does not depend on the
number of threads, and neither do the results, bit for bit.
"""

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from sklearn import config_context, get_config

from skdistill.utils._fork import after_fork
from skdistill.utils._threads import set_own_number, take_number

_CPU = torch.device("cpu")

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Local(threading.local):
    """What a thread works for.

    Attributes
    ----------
    workers : Workers or None
    batch : _Batch or None
        The innermost batch of pieces that the thread computes one of.
    """

    workers: "Workers | None" = None
    batch: "_Batch | None" = None


_local = _Local()


def _reset_after_fork() -> None:
    # The other threads of the pool are not there.
    _local.workers = _local.batch = None


after_fork(_reset_after_fork)


@contextmanager
def worker_threads(device: torch.device = _CPU) -> Iterator[None]:
    """Let :func:`map_pieces` use all threads that this thread may compute with.

    That is ``torch.get_num_threads()`` where the outermost block begins; inside of it
    PyTorch computes with one thread.  The other threads live as long as the block.

    Parameters
    ----------
    device : torch.device, default=CPU
        What the work is done on.  A GPU is given work by one thread.
    """
    outer = _local.workers
    if device.type != "cpu":
        _local.workers = None
        try:
            yield
        finally:
            _local.workers = outer
        return
    if outer is not None:
        yield
        return
    take_number()
    before = torch.get_num_threads()
    workers = Workers(before - 1)
    set_own_number(1)
    _local.workers = workers
    try:
        yield
    finally:
        _local.workers = None
        workers.close()
        set_own_number(before)


def map_pieces(
    function: Callable[[Item], Result], pieces: Sequence[Item]
) -> list[Result]:
    """Call a function for each of several pieces of work, side by side if possible.

    Parameters
    ----------
    function : callable
        It may map pieces itself.
    pieces : sequence

    Returns
    -------
    results : list
        In the order of the pieces.

    Raises
    ------
    Exception
        That of the first of the pieces that raised one, after all are done.
    """
    workers = _local.workers
    if workers is None or workers.n_helpers == 0 or len(pieces) < 2:
        return [function(piece) for piece in pieces]
    return workers.map(function, pieces)


def n_threads() -> int:
    """Return how many pieces :func:`map_pieces` computes at once, at most."""
    return 1 if _local.workers is None else 1 + _local.workers.n_helpers


class _AbandonedError(BaseException):
    """Nobody waits for the result any more."""


class Workers:
    """A pool of threads that help the thread that has work.

    That thread computes pieces as well: work inside of work cannot wait for itself.

    Parameters
    ----------
    n_helpers : int
        Number of threads beside the one that has the work.
    """

    def __init__(self, n_helpers: int) -> None:
        self.n_helpers = n_helpers
        # Guards what follows, and the batches' own counts.
        self.lock = threading.Lock()
        self._wanted = threading.Condition(self.lock)
        self._batches: list[_Batch] = []
        self._is_closed = False
        self._n_idle = 0
        self._threads: list[threading.Thread] = []

    def map(self, function: Callable[[Any], Any], pieces: Sequence[Any]) -> list[Any]:
        """As :func:`map_pieces`."""
        batch = _Batch(self, function, pieces, _local.batch)
        with self.lock:
            self._batches.append(batch)
            # Threads start when there is work for them: many cores cost nothing else.
            n_wanted = len(pieces) - 1
            self._start(len(self._threads) + n_wanted - self._n_idle)
            self._wanted.notify(n_wanted)
            for other in batch.ancestors():
                other.left.notify()
        try:
            return batch.finish()
        finally:
            with self.lock:
                self._batches.remove(batch)

    def first_open(self, within: "_Batch | None" = None) -> "_Batch | None":
        """Return a batch with pieces that nobody has, such as are part of another."""
        return next(
            (
                batch
                for batch in self._batches
                if batch.is_open and (within is None or within in batch.ancestors())
            ),
            None,
        )

    def close(self) -> None:
        """End the threads."""
        with self.lock:
            self._is_closed = True
            self._wanted.notify_all()
        for thread in self._threads:
            thread.join()

    def _start(self, n_threads: int) -> None:
        """Start threads up to the requested number, within the limit."""
        for n in range(len(self._threads), min(n_threads, self.n_helpers)):
            thread = threading.Thread(
                target=self._help, name=f"skdistill-{n}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _help(self) -> None:
        set_own_number(1)
        _local.workers = self
        while True:
            with self.lock:
                while (batch := self.first_open()) is None and not self._is_closed:
                    self._n_idle += 1
                    self._wanted.wait()
                    self._n_idle -= 1
                if batch is None:
                    return
                batch.n_helping += 1
            batch.help(BaseException)
            # Nothing of it is kept while there is nothing to do.
            del batch


class _Batch:
    """Pieces of work, of which each thread takes the next one that nobody has.

    Attributes
    ----------
    n_helping : int
        Number of other threads that compute pieces of it; only they are waited for.
    left : Condition
        Is notified when one of them is through, and of work that the thread can help
        with while it waits.
    """

    def __init__(
        self,
        workers: Workers,
        function: Callable[[Any], Any],
        pieces: Sequence[Any],
        parent: "_Batch | None",
    ) -> None:
        self.n_helping = 0
        self.left = threading.Condition(workers.lock)
        self._workers = workers
        self._function = function
        self._pieces = pieces
        self._parent = parent
        self._n_taken = 0
        self._results: dict[int, Any] = {}
        self._errors: dict[int, BaseException] = {}
        self._is_abandoned = False
        # What Python, PyTorch and scikit-learn keep for each thread.
        self._context = contextvars.copy_context()
        self._with_gradient = torch.is_grad_enabled()
        self._in_inference = torch.is_inference_mode_enabled()
        self._config = get_config()

    @property
    def is_open(self) -> bool:
        """Whether there are pieces that no thread has taken."""
        return self._n_taken < len(self._pieces)

    def ancestors(self) -> "Iterator[_Batch]":
        """Yield the batches that this one is part of."""
        batch = self._parent
        while batch is not None:
            yield batch
            batch = batch._parent

    def finish(self) -> list[Any]:
        """Compute what is left, and return all results."""
        try:
            self._work(Exception)
            self._help_others()
        except BaseException:
            # As a KeyboardInterrupt, which only the main thread meets.
            self._is_abandoned = True
            raise
        finally:
            with self._workers.lock:
                self._n_taken = len(self._pieces)
                while self.n_helping:
                    self.left.wait()
        self._check()
        if self._errors:
            raise self._errors[min(self._errors)]
        return [self._results[place] for place in range(len(self._pieces))]

    def help(self, kept: type[BaseException]) -> None:
        """Compute pieces for the thread that has the work.

        Parameters
        ----------
        kept : type
            Errors of pieces that are left to that thread.
        """
        try:
            with (
                config_context(**self._config),
                torch.inference_mode(self._in_inference),
                torch.set_grad_enabled(self._with_gradient),
            ):
                # A context can be entered by one thread at a time.
                self._context.copy().run(self._work, kept)
        except _AbandonedError:
            pass
        finally:
            with self._workers.lock:
                self.n_helping -= 1
                self.left.notify()

    def _help_others(self) -> None:
        """Help with what the pieces have others do, until all of them are done."""
        while True:
            with self._workers.lock:
                if not self.n_helping:
                    return
                batch = self._workers.first_open(within=self)
                if batch is None:
                    self.left.wait()
                    continue
                batch.n_helping += 1
            batch.help(Exception)

    def _work(self, kept: type[BaseException]) -> None:
        """Compute pieces until none is left; errors of the kind are kept for later."""
        before, _local.batch = _local.batch, self
        try:
            while (place := self._take()) is not None:
                self._check()
                try:
                    self._results[place] = self._function(self._pieces[place])
                except _AbandonedError:
                    raise
                except kept as error:
                    self._errors[place] = error
        finally:
            _local.batch = before

    def _take(self) -> int | None:
        with self._workers.lock:
            if not self.is_open:
                return None
            self._n_taken += 1
            return self._n_taken - 1

    def _check(self) -> None:
        """Raise an error if a thread that wants this batch has given up."""
        if self._is_abandoned or any(one._is_abandoned for one in self.ancestors()):
            raise _AbandonedError
