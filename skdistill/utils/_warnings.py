"""Warnings that point at the line of the user."""

import sys
import warnings
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_OWN = ("skdistill", "sklearn", "joblib", "contextlib")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the place where the user called the library.

    Parameters
    ----------
    message : str
        What to say.
    category : type, default=UserWarning
        Kind of the warning.
    """
    # How far up that is depends on the wrappers of scikit-learn and of its version.
    level, frame = 1, sys._getframe()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        # A doctest runs under the name of the module that it documents.
        is_own = name.partition(".")[0] in _OWN
        if not is_own or frame.f_code.co_filename.startswith("<doctest"):
            break
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def without_names() -> Iterator[None]:
    """Give images to what was fitted to a table, whose columns were checked before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        yield


# What was told since the call of the user, None outside of one that has a beginning.
_told: ContextVar[set[Hashable] | None] = ContextVar("told", default=None)


@contextmanager
def telling_once() -> Iterator[None]:
    """Tell what :func:`warn_once` has to say once in the outermost of such blocks."""
    if _told.get() is not None:
        yield
        return
    token = _told.set(set())
    try:
        yield
    finally:
        _told.reset(token)


def warn_once(key: Hashable, message: str) -> None:
    """Warn as :func:`warn` does, of one thing once in the call of the user."""
    told = _told.get()
    if told is not None:
        if key in told:
            return
        told.add(key)
    warn(message)
