"""Independent pieces of work through joblib, on whichever backend the user has chosen.

joblib has the workers: processes of this machine, a dask or a Ray cluster.  Added here
is what long work needs: each result as it comes, data that are sent once, and going on
when a worker has died.
"""

import os
import pickle
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from functools import cache
from typing import Any, NamedTuple, TypeVar

from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend

Key = TypeVar("Key", bound=Hashable)

# How often in a row, without a single piece of work done in between, workers may
# die: once is an accident, but work that kills its worker would kill all others.
_MAX_LOSSES = 3

# How often a worker looks whether its parent still lives.
_SECONDS = 1.0

# What no other worker would do better.
_NO_LOSSES = (
    AttributeError,
    ImportError,
    TypeError,
    ValueError,
    pickle.PicklingError,
)


class WorkerLostError(RuntimeError):
    """Workers died again and again, or cannot be reached any more."""


class _Outcome(NamedTuple):
    """What became of a piece of work: its result, or an error of its own."""

    key: Any
    result: Any
    error: Exception | None


def run_parallel(
    function: Callable[..., Any],
    shared: tuple,
    tasks: Mapping[Key, tuple],
    *,
    n_jobs: int | None,
    what: str,
) -> Generator[tuple[Key, Any]]:
    """Call a function for each of several tasks, side by side.

    A worker that dies costs only the work that was lost with it: this is done again.

    Parameters
    ----------
    function : callable
        Called as ``function(*shared, *task)``; a function of a module.
    shared : tuple
        What all tasks have in common.  Arrays in it are sent to a worker once, or
        mapped into its memory, where the backend can do so.
    tasks : mapping of hashable to tuple
        The other arguments of each task.
    n_jobs : int or None
        As in joblib.  None also takes all of a Ray cluster: joblib would take one CPU.
    what : str
        What the tasks are called in messages, in the plural.

    Yields
    ------
    key : hashable
    result : object
        In the order in which they come.

    Raises
    ------
    Exception
        The first that a task raises.
    WorkerLostError
        If workers die again and again.
    """
    missing = dict(tasks)
    n_losses = 0
    while missing:
        try:
            with closing(_outcomes(function, shared, missing.copy(), n_jobs)) as found:
                for key, result, error in found:
                    if error is not None:
                        raise error
                    n_losses = 0
                    del missing[key]
                    yield key, result
        except _LossError as loss:
            n_losses += 1
            cause = loss.__cause__
            happened = (
                f"a process working on {what} was lost ({type(cause).__name__}: "
                f"{_first_line(cause)})"
            )
            if n_losses == _MAX_LOSSES:
                raise WorkerLostError(
                    f"{happened}, {n_losses} times in a row without progress; "
                    f"{len(missing)} of {len(tasks)} {what} are missing.  Often the "
                    "reason is too little memory: use a smaller `n_jobs`, or fewer "
                    "workers per machine"
                ) from cause
            warnings.warn(
                f"{happened}; {len(missing)} of {len(tasks)} {what} are missing, and "
                "those in progress are started again",
                stacklevel=3,
            )


def is_serial(n_jobs: int | None) -> bool:
    """Tell whether :func:`run_parallel` would do one task after the other, here."""
    backend, _ = get_active_backend()
    is_local = type(backend).__module__.startswith("joblib._parallel_backends")
    return is_local and effective_n_jobs(n_jobs) == 1


class _LossError(Exception):
    """The backend failed, not a task."""


def _outcomes(
    function: Callable[..., Any],
    shared: tuple,
    tasks: dict[Any, tuple],
    n_jobs: int | None,
) -> Generator[_Outcome]:
    """Run tasks once, on the active backend."""
    backend, default = get_active_backend()
    on_ray = type(backend).__module__.startswith("ray.")
    if on_ray and n_jobs is None and default in (None, 1):
        n_jobs = -1
    shared = _put(shared) if on_ray else shared
    if type(backend).__name__ == "DaskDistributedBackend":
        _mend_dask(backend)
    parent = os.getpid()
    # One at a time: joblib bundles short ones, and a dead worker would cost them all.
    calls = [
        delayed(_attempt)(function, key, parent, task, *shared)
        for key, task in tasks.items()
    ]
    try:
        if backend.supports_return_generator:
            results = Parallel(
                n_jobs=n_jobs, batch_size=1, return_as="generator_unordered"
            )(calls)
            try:
                yield from _one_by_one(results)
            finally:
                # After an error joblib warns that the rest was canceled.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    results.close()
            return
        # Results come when a call ends: in rounds, so that a loss costs one round.
        n_workers = effective_n_jobs(n_jobs)
        with Parallel(n_jobs=n_jobs, batch_size=1) as parallel:
            for first in range(0, len(calls), n_workers):
                yield from parallel(calls[first : first + n_workers])
    except _NO_LOSSES:
        raise
    except Exception as error:
        raise _LossError from error


def _one_by_one(results: Iterator[_Outcome]) -> Iterator[_Outcome]:
    # Without "yield from", which would close what it goes through.
    for outcome in results:  # noqa: UP028
        yield outcome


def _attempt(
    function: Callable[..., Any], key: Any, parent: int, task: tuple, *shared: Any
) -> _Outcome:
    """Call the function in a worker; errors of its own are no losses of workers."""
    if os.getpid() != parent:
        _end_with(parent)
    if len(shared) == 1 and isinstance(shared[0], _OnRay):
        shared = shared[0].get()
    try:
        return _Outcome(key, function(*shared, *task), None)
    except Exception as error:
        if os.getpid() != parent:
            # Tracebacks do not travel between processes.
            error.add_note(f"In a worker:\n{traceback.format_exc()}")
        return _Outcome(key, None, error)


@cache
def _end_with(parent: int) -> None:
    """Let this worker end when its parent is killed: its work is for nobody then."""
    if os.getppid() != parent:
        return  # a worker of a cluster, which takes care of it

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _OnRay:
    """Objects in the store of a Ray cluster, which keeps one copy on each machine.

    Parameters
    ----------
    reference : ray.ObjectRef
    """

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def get(self) -> Any:
        import ray

        return ray.get(self._reference)


def _put(shared: tuple) -> tuple:
    import ray

    # joblib starts Ray where the user has not, but only later.
    if not ray.is_initialized():
        ray.init()
    return (_OnRay(ray.put(shared)),)


def _mend_dask(backend: Any) -> None:
    """Mend two things of joblib's dask backend (joblib 1.6).

    For a task that dask gave up because it killed several workers it waits for ever:
    only of results is it told.  And with a single core left in the cluster it works in
    the user's own process.
    """
    if "submit" in vars(backend):
        return
    submit, configure = backend.submit, backend.configure

    def submit_and_tell(
        func: Any, callback: Callable[[Any], None] | None = None
    ) -> Future:
        future = submit(func, callback)

        def tell(done: Future) -> None:
            error = done.exception()
            if error is not None and callback is not None:
                callback(error)

        future.add_done_callback(tell)
        return future

    def configure_for_two(*args: Any, **kwargs: Any) -> int:
        return max(2, configure(*args, **kwargs))

    backend.submit, backend.configure = submit_and_tell, configure_for_two


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else ""
