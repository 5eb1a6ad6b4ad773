"""Warnings that point at the line of the user."""

import sys
import warnings

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
