"""Callbacks by scikit-learn's protocol, where its version has one (1.9)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # pragma: no cover - only with scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand in for what this version of scikit-learn does not have."""


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
        # Without callbacks a fit pays nothing for them.
        if getattr(estimator, "_skl_callbacks", None):
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

    def end_step(self, attributes: Callable[[], dict[str, Any]]) -> bool:
        """Say that a step has ended, and ask whether the fit shall.

        Parameters
        ----------
        attributes : callable
            Returns what the estimator would have learned if its fit ended here; only
            called for a callback that wants it.

        Returns
        -------
        stop : bool
        """
        if self._step is None:
            return False
        return self._step.call_on_fit_task_end(
            reconstruction_attributes=attributes, **self._shared
        )

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
        self.end_step(dict)

    def end(self) -> None:
        """Say that the fit has ended; everything that it learned must be there."""
        if self._root is not None:
            self._root.call_on_fit_task_end(
                reconstruction_attributes=dict, **self._shared
            )
