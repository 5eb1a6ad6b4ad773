"""Metadata about the making of a set, as JSON and without local paths."""

import getpass
import inspect
import os
import platform
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import PureWindowsPath
from typing import Any

import numpy as np

from skdistill._version import __version__

# Parameters that say where and how something is computed, and not what comes out.
WHERE_AND_HOW = frozenset(
    {"cache", "checkpoint", "device", "images_dir", "n_jobs", "out", "path", "verbose"}
)
# The entry in which sets of equal fits differ.
RUN = "run"
A_PATH = "<path>"

_PACKAGES = ("numpy", "scikit-learn", "torch")
_MAX_VALUES, _MAX_TEXT, _MAX_DEPTH = 64, 300, 6
_SECRET = re.compile(
    r"(?i)(pass|secret|token|api.?key|credential|auth|(^|[-_])(key|user|login|email)$)"
)
# What runs a notebook or a line of code, of which the command line tells nothing.
_INTERACTIVE = re.compile(
    r"^(-c?|-m|ipython3?|(ipykernel|colab_kernel)_launcher\.py)?$"
)


def plain(value: Any, depth: int = 0) -> Any:
    """Return a parameter as JSON can hold it and people can read it.

    Parameters
    ----------
    value : object
        Of estimators it becomes name and parameters, of large arrays the shape, of
        functions and modules the name.  Paths are omitted.
    depth : int, default=0
        Of lists, dicts and estimators around it.

    Returns
    -------
    value : None, bool, int, float, str, list or dict
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, (os.PathLike, bytes)) or is_absolute(value):
        return A_PATH
    if isinstance(value, str):
        return value if len(value) <= _MAX_TEXT else f"{value[:_MAX_TEXT]} …"
    if depth > _MAX_DEPTH:
        return f"<{qualified_name(value)}>"
    if isinstance(value, Mapping) and len(value) <= _MAX_VALUES:
        return {
            str(plain(key)): plain(entry, depth + 1) for key, entry in value.items()
        }
    if isinstance(value, (list, tuple)) and _n_values(value, depth) <= _MAX_VALUES:
        return [plain(entry, depth + 1) for entry in value]
    if isinstance(value, (set, frozenset)) and len(value) <= _MAX_VALUES:
        return sorted((plain(entry, depth + 1) for entry in value), key=str)
    shape = None if inspect.isclass(value) else getattr(value, "shape", None)
    if isinstance(value, np.ndarray) and value.size <= _MAX_VALUES:
        return plain(value.tolist(), depth + 1)
    if isinstance(shape, tuple):
        return f"<{type(value).__name__} of shape {tuple(shape)}>"
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return f"<{type(value).__name__} of {len(value)}>"
    if hasattr(value, "get_params") and not inspect.isclass(value):
        found = value.get_params(deep=False)
        return {"name": type(value).__name__, **plain_parameters(found, depth + 1)}
    if type(value).__module__ == "torch":
        # A device or a type.
        return str(value)
    # No repr: those of objects have addresses, and some have paths.
    return f"<{qualified_name(value)}>"


def _n_values(value: Any, depth: int) -> int:
    """Return how many values a list holds, those of the lists in it included."""
    if not isinstance(value, (list, tuple)) or depth > _MAX_DEPTH:
        return 1
    return sum(_n_values(entry, depth + 1) for entry in value)


def plain_parameters(parameters: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Return the parameters of an estimator that decide what comes out."""
    return {
        name: plain(value, depth)
        for name, value in parameters.items()
        if name not in WHERE_AND_HOW
    }


def qualified_name(value: Any) -> str:
    """Return the qualified name of a callable or a class, or that of an object's."""
    while isinstance(value, partial):
        value = value.func
    if not hasattr(value, "__qualname__"):
        value = type(value)
    return f"{value.__module__}.{value.__qualname__}"


def is_absolute(value: Any) -> bool:
    """Tell whether something is text that leads from a root or a home folder."""
    return isinstance(value, str) and (
        value.startswith(("/", "~/", "\\\\")) or PureWindowsPath(value).is_absolute()
    )


def counts_of(labels: np.ndarray) -> dict[str, int]:
    """Return the number of labels of each class."""
    classes, counts = np.unique(labels, return_counts=True)
    return {
        str(label): int(count)
        for label, count in zip(classes.tolist(), counts, strict=True)
    }


def describe_fit(
    distiller: Any, labels: np.ndarray, seed: int, device: Any = None
) -> dict[str, Any]:
    """Return what the metadata of a set say of the fit that made it.

    Parameters
    ----------
    distiller : estimator instance
    labels : ndarray of shape (n_samples,)
        Of the real images that count.
    seed : int
        That stands for ``random_state``.
    device : torch.device, default=None

    Returns
    -------
    metadata : dict
        The same for equal fits, but for the entry ``RUN``.
    """
    parameters = plain_parameters(distiller.get_params(deep=False))
    # Teachers have an entry of their own, whether they are given, loaded or trained.
    for name in ("buffer", "random_state"):
        parameters.pop(name, None)
    return {
        "distiller": type(distiller).__name__,
        "parameters": parameters,
        "seed": seed,
        "n_real_images": counts_of(labels),
        RUN: describe_run(device),
    }


def describe_run(device: Any = None) -> dict[str, Any]:
    """Return when, by what command and with which versions something is made.

    Parameters
    ----------
    device : torch.device, default=None
        Where it is computed.
    """
    command = command_line(sys.argv)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **({} if command is None else {"command": command}),
        **({} if device is None else {"device": getattr(device, "type", str(device))}),
        "versions": versions(),
    }


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = [("skdistill", __version__), ("python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return tuple(found)


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide what comes out."""
    return dict(_versions())


def command_line(argv: list[str]) -> str | None:
    """Return what a script was called by, without folders, users and secrets.

    Parameters
    ----------
    argv : list of str
        As ``sys.argv``.

    Returns
    -------
    command : str or None
        None in a notebook or at a prompt.
    """
    if not argv or not isinstance(argv[0], str):
        return None
    parts = re.split(r"[/\\]", argv[0])
    program = parts[-1]
    if program == "__main__.py" and len(parts) > 1:
        # Of `python -m package`.
        program = parts[-2]
    if _INTERACTIVE.match(program):
        return None
    words = [program]
    is_secret = False
    for argument in map(str, argv[1:]):
        # Of --name=value and name=value; an address may have such a sign, too.
        found = re.fullmatch(r"([-\w.+]+=)(.*)", argument, re.DOTALL)
        option, value = found.groups() if found else ("", argument)
        if is_secret and not argument.startswith("-"):
            value, is_secret = "<hidden>", False
        elif option:
            is_secret = False
            if _SECRET.search(option.strip("-=")):
                value = "<hidden>"
        else:
            is_secret = value.startswith("-") and bool(_SECRET.search(value.strip("-")))
        words.append(option + _without_folders(value))
    text = " ".join(words)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} …"


def _without_folders(word: str) -> str:
    """Return of a path the name of its file, and nothing of a folder."""
    if _user() and word.lower() == _user():
        return "<hidden>"
    if not re.search(r"[/\\~]", word):
        return word
    if re.search(r"(?i)[/\\](home|users)[/\\][^/\\]+$", word):
        return A_PATH
    last = re.split(r"[/\\]", re.split(r"[?#]", word)[0])[-1]
    return last if re.search(r"\w\.\w{1,12}$", last) else A_PATH


@cache
def _user() -> str:
    try:
        return getpass.getuser().lower()
    except (OSError, KeyError, ImportError):
        return ""


def check_words(**words: Any) -> dict[str, str]:
    """Return what a user said, without what he did not, or say what is no text.

    Parameters
    ----------
    **words : str or None
        By parameter.  ``citation`` and ``notes`` may have several lines.
    """
    found = {}
    for name, value in words.items():
        if value is None:
            continue
        if not isinstance(value, str):
            raise TypeError(
                f"`{name}` must be text; got an object of type {type(value).__name__}"
            )
        text = value.strip()
        if not text:
            raise ValueError(f"`{name}` must be text; got an empty string")
        if name not in ("citation", "notes") and len(text.splitlines()) > 1:
            raise ValueError(
                f"`{name}` must be a single line of text; got {value!r:.100}"
            )
        found[name] = text
    return found
