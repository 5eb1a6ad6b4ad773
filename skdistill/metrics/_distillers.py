"""Distillers that are compared: what is wrong with one, and clones with other seeds."""

import os
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skdistill.base import BaseDistiller
from skdistill.trajectory import TrajectoryBuffer
from skdistill.utils._files import as_path
from skdistill.utils._random import child_seed
from skdistill.utils._validation import check_class_sizes


def check_distiller(distiller: Any, y: np.ndarray | None, name: str) -> None:
    """Find out what is wrong with a distiller before work starts.

    Parameters
    ----------
    distiller : object
        What was given.
    y : ndarray of shape (n_samples,) or None
        Labels of the images that it is going to be fitted on; None if they are not
        known yet.
    name : str
        Of the parameter, for messages.

    Raises
    ------
    ValueError
        If it is no distiller, one of its parameters is wrong, or classes are too small.
    """
    if isinstance(distiller, type):
        raise ValueError(
            f"{name} must be a distiller; got a class: pass an instance, "
            f"{distiller.__name__}()"
        )
    if not isinstance(distiller, BaseDistiller):
        inner = getattr(distiller, "distiller", None)
        hint = ": pass its `distiller`" if isinstance(inner, BaseDistiller) else ""
        raise ValueError(f"{name} must be a distiller; got {distiller!r}{hint}")
    made = clone(distiller)
    try:
        made._validate_params()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if y is None:
        return
    ipc, init = getattr(made, "ipc", 1), getattr(made, "init", "real")
    if isinstance(init, str) and init == "real":
        check_class_sizes(y, ipc, f"{name} with `ipc`={ipc}")


def with_seed(distiller: Any, seed: int) -> Any:
    """Return a clone of a distiller whose draws all follow from a seed.

    Teachers that are fitted stay as they are, and are shared; those that are not are
    trained again, the same for two distillers with the same seed.

    Parameters
    ----------
    distiller : distiller
        Is not changed.
    seed : int
        Its random state.

    Returns
    -------
    clone : distiller
    """
    made = clone(distiller)
    shared = {
        name: value
        for name, value in distiller.get_params(deep=False).items()
        if isinstance(value, TrajectoryBuffer) and hasattr(value, "history_")
    }
    made.set_params(**shared)
    # By name, not by place: those of other distillers are the same.
    own = {
        name: seed if name == "random_state" else child_seed(seed, *name.encode())
        for name in made.get_params()
        if name == "random_state"
        or (name.endswith("__random_state") and name.partition("__")[0] not in shared)
    }
    # A random state of scikit-learn is an unsigned 32-bit integer.
    return made.set_params(**{name: value % 2**32 for name, value in own.items()})


def trained_teachers(distiller: Any) -> TrajectoryBuffer | None:
    """Return the teachers that a distiller was given, None if they are to be trained.

    Raises
    ------
    FileNotFoundError, ValueError
        If they are in a folder, and that holds none that can be read.
    """
    buffer = distiller.get_params(deep=False).get("buffer")
    if isinstance(buffer, (str, os.PathLike)):
        return TrajectoryBuffer.load(as_path(buffer, "buffer"))
    if isinstance(buffer, FrozenEstimator):
        buffer = buffer.estimator
    return buffer if hasattr(buffer, "history_") else None
