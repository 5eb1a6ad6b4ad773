"""What is known of a set, as a card and a report tell it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from skdistill.utils._inverse import names_of

# Maximum number of classes that are listed with their number of real images.
_MAX_NAMED = 30


def number_of_real(metadata: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the number of real images of each class, None if it is not known."""
    found = metadata.get("n_real_images")
    if not isinstance(found, Mapping) or not all(
        type(value) is int for value in found.values()
    ):
        return None
    return dict(found)


def origin_of(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return where the real images are from: names and values to read."""
    found = []
    for entry, words in (
        ("data", "data"),
        ("license", "license of the data"),
        ("url", "origin of the data"),
        ("notes", "notes"),
    ):
        if isinstance(metadata.get(entry), str):
            found.append((words, metadata[entry]))
    n_real = number_of_real(metadata)
    if n_real is not None:
        each = ""
        if len(n_real) <= _MAX_NAMED:
            named = (f"{name}: {number:,}" for name, number in n_real.items())
            each = f" ({', '.join(named)})"
        found.append(("real images", f"{sum(n_real.values()):,}{each}"))
    return found


def facts_of(synthetic: Any) -> list[tuple[str, str]]:
    """Return how a set was made: names and values to read.

    Parameters
    ----------
    synthetic : SyntheticSet
        Its metadata may be anybody's.

    Returns
    -------
    facts : list of (str, str)
        Plain text.
    """
    metadata = synthetic.metadata
    found = origin_of(metadata)
    for entry, words in (
        ("distiller", "distiller"),
        ("source", "read from a file in the layout of"),
        ("seed", "seed"),
        ("n_iter", "iterations"),
    ):
        if isinstance(metadata.get(entry), (str, int)):
            found.append((words, str(metadata[entry])))
    teachers = metadata.get("teachers")
    if isinstance(teachers, Mapping):
        found.append(("teachers", _teachers(teachers)))
    kind = "classes"
    if synthetic.probabilities is not None:
        kind = "soft labels: the probability of each class"
    elif synthetic.targets is not None:
        kind = "regression targets"
    found.append(("labels", kind))
    if synthetic.step_size is not None:
        found.append(("step size", f"{synthetic.step_size:.6g}"))
    if synthetic.pixel_size > 1:
        side = synthetic.pixel_size
        found.append(("pixels", f"blocks of {side}x{side}"))
    if synthetic.preprocessing is not None:
        names = names_of(synthetic.preprocessing)
        found.append(("carries the preprocessing", names))
    run = metadata.get("run")
    if isinstance(run, Mapping):
        for entry in ("date", "command", "device"):
            if isinstance(run.get(entry), str):
                found.append((entry, run[entry]))
        if isinstance(run.get("versions"), Mapping):
            versions = [f"{name} {one}" for name, one in run["versions"].items()]
            found.append(("versions", ", ".join(versions)))
    return found


def _teachers(teachers: Mapping[str, Any]) -> str:
    parts = []
    for entry, words in (("n_teachers", "networks"), ("n_epochs", "epochs")):
        if isinstance(teachers.get(entry), int):
            parts.append(f"{teachers[entry]} {words}")
    for entry in (
        "architecture",
        "width",
        "depth",
        "normalization",
        "learning_rate",
        "momentum",
        "batch_size",
        "seed",
    ):
        value = teachers.get(entry)
        if isinstance(value, (str, int, float)):
            parts.append(f"{entry.replace('_', ' ')} {value}")
    return ", ".join(parts)


def loading_code(synthetic: Any, file: str) -> str:
    """Return Python that loads a set and trains a network on it.

    Parameters
    ----------
    synthetic : SyntheticSet
    file : str
    """
    lines = [
        "from skdistill import SyntheticSet",
        "",
        f'synthetic = SyntheticSet.load("{file}")',
        f"X, y = synthetic  # {len(synthetic)} images, "
        f"{len(np.unique(synthetic.y))} classes",
    ]
    if synthetic.preprocessing is not None:
        lines += [
            "",
            "model = synthetic.classifier()  # trained on them",
            "# model.predict(...) takes raw images: the set carries "
            f"{names_of(synthetic.preprocessing)}",
        ]
    return "\n".join(lines)
