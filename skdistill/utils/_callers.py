"""Who called a fit: the user's own code, or what makes one fit after another."""

import hashlib
import json
import os
import sys
import sysconfig
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import Any

from skdistill.utils._plain import lasting_repr

# They call what the user would have called, once.
_PASSING = (
    "sklearn.base",
    "sklearn.callback",
    "sklearn.compose",
    "sklearn.frozen",
    "sklearn.pipeline",
    "sklearn.utils",
    "imblearn.base",
    "imblearn.pipeline",
)
_PIPELINES = ("sklearn.pipeline", "imblearn.pipeline")
# Searches, cross-validation, ensembles: the rest of these fits clones of what it got.
_REPEATING = ("sklearn", "imblearn", "dask_ml", "optuna", "skopt", "skdistill.metrics")
# They run the user's function several times.
_RUNNING = ("joblib", "distributed", "ray", "hyperopt")

_LIBRARY_FOLDERS = tuple(
    {sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib", "stdlib")}
)
# What Python calls the code of a module, and IPython that of a cell.
_MODULES = ("<module>", "<cell line")
_LIBRARY_PARTS = ("site-packages", "dist-packages")
# The module, or notebook cell, that was running at the last interrupt that a fit kept
# for itself.  Its variables are those of the module: to hold it holds no data.
_interrupted: FrameType | None = None


def is_repeated() -> bool:
    """Tell whether a search, cross-validation or an ensemble makes this fit.

    Such fits follow each other with the same parameters, on other data.
    """
    return any(_is_of(frame, _REPEATING, _PASSING) for frame in _callers())


def folder_of_fit(path: str | os.PathLike[str], content: dict[str, Any]) -> Path:
    """Return the folder that a fit works in: the one that was given.

    Of fits that follow each other each gets one of its own inside of that: they differ
    in their data or their parameters, and the same search finds them again.

    Parameters
    ----------
    path : path-like
    content : dict
        All that tells one fit from another, as text or as JSON can hold it.
    """
    if not is_repeated():
        return Path(path)
    said = json.dumps(content, sort_keys=True, default=lasting_repr)
    return Path(path) / f"fit-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def interrupt_ends_all(*, counts: bool = True) -> bool:
    """Return whether Ctrl-C ends more than the fit that it has interrupted.

    It ends that fit alone, with what it has, where the user's own code has called it:
    a search that continued with an interrupted fit would score it like the others.
    A second one in the same script or notebook cell always ends all.

    Parameters
    ----------
    counts : bool, default=True
        Whether there may be a second one.  Of several processes that fit together each
        sees the interrupts of all, and counts those that were meant as one.
    """
    global _interrupted
    frames = _callers()
    if any(_is_of(frame, _REPEATING + _RUNNING, _PASSING) for frame in frames):
        return True
    own = [frame for frame in frames if not _is_of(frame, ("skdistill", *_PASSING))]
    # The user's code, up to what runs it, such as a notebook or pytest.
    users = list(takewhile(lambda frame: not _is_installed(frame), own))
    if not users:
        return bool(own)
    script = users[-1]
    if counts and script is _interrupted:
        return True
    if counts and script.f_code.co_name.startswith(_MODULES):
        _interrupted = script
    return False


def steps_before(estimator: Any) -> list[Any]:
    """Return what transformed the images of a fit before it: steps of its pipelines.

    A step of a pipeline does not know the steps before it.  What lies between, such
    as a classifier that chooses columns, ends the search: nothing is known then.

    Parameters
    ----------
    estimator : estimator instance
        In its ``fit``, called by a pipeline, perhaps as the distiller of a
        DistilledClassifier.

    Returns
    -------
    steps : list of transformers
        The fitted ones, first to last; empty if it was called by anything else.
    """
    steps: list[Any] = []
    for frame in _callers():
        if not _is_of(frame, (*_PIPELINES, "skdistill.distillation")):
            continue
        caller: Any = frame.f_locals.get("self")
        if getattr(caller, "distiller_", None) is estimator:
            estimator = caller
        elif _is_of(frame, _PIPELINES) and hasattr(caller, "steps"):
            inside = [step for _, step in caller.steps]
            places = [k for k, step in enumerate(inside) if step is estimator]
            if places:
                steps = inside[: places[0]] + steps
                estimator = caller
    return steps


def _callers() -> list[FrameType]:
    """Return the frames above this one, the innermost first."""
    frames = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _is_of(
    frame: FrameType, packages: tuple[str, ...], but: tuple[str, ...] = ()
) -> bool:
    name = f"{frame.f_globals.get('__name__', '')}."
    return name.startswith(_with_dots(packages)) and not name.startswith(
        _with_dots(but)
    )


def _with_dots(packages: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{package}." for package in packages)


def _is_installed(frame: FrameType) -> bool:
    """Tell whether code belongs to Python or to an installed package."""
    path = frame.f_code.co_filename
    return path.startswith(("<frozen", *_LIBRARY_FOLDERS)) or any(
        f"{os.sep}{part}{os.sep}" in path for part in _LIBRARY_PARTS
    )
