"""Callbacks by scikit-learn's protocol, where its version has one (1.9)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, ScoringMonitor
except ImportError:  # pragma: no cover - only with scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand in for what this version of scikit-learn does not have."""

    class ScoringMonitor:  # type: ignore[no-redef]
        """Stand in for what this version of scikit-learn does not have."""


Metadata = Callable[[], dict[str, Any]]


class FitTasks:
    """Tell the callbacks of an estimator of its fit and of each step in it.

    Parameters
    ----------
    estimator : estimator instance
        The estimator that is being fitted.
    name : str
        What a step is called.
    n_steps : int or None
        Number of steps, 0 for a fit in one go, None if it is not known.
    X, y : ndarray
        What is fitted.
    """

    def __init__(
        self, estimator: Any, name: str, n_steps: int | None, X: Any, y: Any
    ) -> None:
        self._name = name
        self._shared = {"estimator": estimator, "X": X, "y": y}
        self._root: Any = None
        self._step: Any = None
        callbacks = getattr(estimator, "_skl_callbacks", None)
        # Without callbacks a fit pays nothing for them.
        if callbacks:
            _check_scorable(estimator, callbacks)
            self._root = estimator._init_callback_context(max_subtasks=n_steps)
            self._root.call_on_fit_task_begin(**self._shared)

    @property
    def are_told(self) -> bool:
        """Whether there are callbacks."""
        return self._root is not None

    def begin_step(self) -> None:
        """Say that a step begins."""
        if self._root is not None:
            self._step = self._root.subcontext(task_name=self._name)
            self._step.call_on_fit_task_begin(**self._shared)

    def end_step(
        self,
        attributes: Callable[[], dict[str, Any]] | None = None,
        metadata: Metadata | None = None,
    ) -> bool:
        """Say that a step has ended, and ask whether the fit shall.

        Parameters
        ----------
        attributes : callable, default=None
            Returns what the estimator would have learned if its fit ended here; only
            called for a callback that wants it.  None where it could not end here.
        metadata : callable, default=None
            Returns the numbers of the step by their names; only called for a callback
            that wants them.

        Returns
        -------
        stop : bool
        """
        if self._step is None:
            return False
        return self._tell_of_end(self._step, attributes, metadata)

    def branch(self, step_name: str) -> "FitTasks":
        """Begin a step with nested steps, and return their reporter."""
        inner = copy(self)
        inner._name = step_name
        inner._step = None
        if self._root is not None:
            inner._root = self._root.subcontext(task_name=self._name, max_subtasks=None)
            inner._root.call_on_fit_task_begin(**self._shared)
        return inner

    @contextmanager
    def hand_on(self, sub_estimator: Any) -> Iterator[None]:
        """Make a step of the fit of an estimator inside this one.

        Parameters
        ----------
        sub_estimator : estimator instance
            What is fitted inside the block, with the callbacks that go that far.
        """
        self.begin_step()
        if self._step is None:
            yield
            return
        with self._step.propagate_callback_context(sub_estimator):
            yield
        self.end_step()

    def end(
        self,
        attributes: Callable[[], dict[str, Any]] | None = dict,
        metadata: Metadata | None = None,
    ) -> None:
        """Say that the fit has ended; everything that it learned must be there.

        Parameters
        ----------
        attributes, metadata : callable
            As of a step; the attributes are beside what the estimator has.
        """
        if self._root is not None:
            self._tell_of_end(self._root, attributes, metadata)

    def _tell_of_end(
        self,
        context: Any,
        attributes: Callable[[], dict[str, Any]] | None,
        metadata: Metadata | None,
    ) -> bool:
        # A ScoringMonitor takes metadata for arguments of its scorer, as weights are.
        everyone = context._callbacks
        monitors = [one for one in everyone if isinstance(one, ScoringMonitor)]
        others = [one for one in everyone if one not in monitors]
        stop = False
        try:
            for callbacks, said in ((others, metadata), (monitors, None)):
                if not callbacks:
                    continue
                context._callbacks = callbacks
                stop |= context.call_on_fit_task_end(
                    reconstruction_attributes=attributes, metadata=said, **self._shared
                )
        except Exception as error:
            error.add_note(
                f"Raised by a callback at the end of {context.task_name} "
                f"{context.task_id} of {context.estimator_name}."
            )
            raise
        finally:
            context._callbacks = everyone
        return stop


def _check_scorable(estimator: Any, callbacks: list[Any]) -> None:
    """Raise a TypeError before the work if its result could not be scored."""
    if any(isinstance(one, ScoringMonitor) for one in callbacks) and not (
        hasattr(estimator, "predict") or hasattr(estimator, "score")
    ):
        raise TypeError(
            f"a ScoringMonitor scores predictions, but {type(estimator).__name__} "
            "does not predict; set it on the distiller or the classifier by "
            "`set_callbacks`"
        )
