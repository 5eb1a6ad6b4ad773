"""The file format of synthetic sets."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from skdistill.preprocessing._carried import PREFIX, packed, unpacked
from skdistill.utils._files import atomic_path
from skdistill.utils._untrusted import (
    class_labels,
    max_unpacked,
    parse_json,
)

_FORMAT = "skdistill-synthetic-set"
# A set is written in the oldest version that can hold it, for those who read no other:
# larger pixels came with version 2, regression targets with version 3, preprocessing
# with version 4.
VERSIONS = ("1", "2", "3", "4")
# What a file holds: tensors, and entries in JSON.
_DTYPES: dict[str, type] = {
    "X": np.float32,
    "y": np.int64,
    "probabilities": np.float32,
    "targets": np.float32,
    "pixel_space": np.float64,
}
_CONTENT = ("classes", "step_size", "metadata")


def write_set(synthetic: Any, path: Path, load: Callable[[Path], Any]) -> None:
    """Write a set to a file, unless ``load`` cannot read it.

    Parameters
    ----------
    synthetic : SyntheticSet
    path : Path
    load : callable
        Returns the set in a file.

    Raises
    ------
    ValueError
        If the set cannot be stored in a file.
    """
    tensors, metadata = _packed_set(synthetic)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
        try:
            found = load(temporary)
        except ValueError as error:
            reason = str(error).replace(str(temporary), "it")
            raise ValueError(f"the set cannot be saved to {path}: {reason}") from error
        if not np.array_equal(found.y, synthetic.y):
            raise ValueError(
                f"the set cannot be saved to {path}: labels of {synthetic.y.dtype} are "
                f"loaded as {found.y.dtype}"
            )


def read_set(path: Path) -> dict[str, Any]:
    """Return the attributes of the set in a file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    attributes : dict
        The arguments of :class:`~skdistill.SyntheticSet`.

    Raises
    ------
    ValueError
        If the file is damaged or is not a distilled set.
    """
    _refuse_archive(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        version = _version_of(metadata)
        parts, learned = _tensors_of(file, version)
    content = _content_of(metadata, version, parts)
    preprocessing = unpacked(content.get("preprocessing", []), learned)
    if (version == "4") != (preprocessing is not None):
        raise ValueError("its preprocessing has no step")
    codes = parts.pop("y")
    classes = class_labels(content["classes"], codes.size)
    if codes.size and not (codes.min() >= 0 and codes.max() < len(classes)):
        raise ValueError("it has labels that are not in its classes")
    pixel_size = content.get("pixel_size", 1)
    small = parts.pop("X")
    if small.nbytes * pixel_size**2 > max_unpacked(path.stat().st_size):
        raise ValueError(
            f"with pixels of {pixel_size}x{pixel_size} its images are too large"
        )
    return {
        "X": enlarge(small, pixel_size),
        "y": classes[codes],
        "step_size": content["step_size"],
        "metadata": content["metadata"],
        **parts,
        "pixel_size": pixel_size,
        "preprocessing": preprocessing,
    }


def enlarge(images: np.ndarray, pixel_size: int) -> np.ndarray:
    """Repeat each pixel of images (n_images, height, width, channels)."""
    if pixel_size == 1:
        return images
    return images.repeat(pixel_size, axis=1).repeat(pixel_size, axis=2)


def shrink(images: np.ndarray, pixel_size: int) -> np.ndarray:
    """Return one pixel of each block of equal pixels."""
    return images[:, ::pixel_size, ::pixel_size]


def check_metadata(metadata: Any) -> None:
    """Raise a ValueError unless metadata have names."""
    if not isinstance(metadata, Mapping):
        raise ValueError(
            f"`metadata` must be a dict whose keys are strings; got {metadata!r:.100}"
        )


def _packed_set(synthetic: Any) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the tensors and the entries of a file."""
    classes, codes = np.unique(synthetic.y, return_inverse=True)
    metadata = {
        "format": _FORMAT,
        "version": _version_for(synthetic),
        "classes": json.dumps(classes.tolist()),
        "step_size": json.dumps(synthetic.step_size),
        "metadata": _as_json(synthetic.metadata),
    }
    if metadata["version"] != VERSIONS[0]:
        metadata["pixel_size"] = json.dumps(synthetic.pixel_size)
    tensors = {
        "X": np.ascontiguousarray(shrink(synthetic.X, synthetic.pixel_size)),
        "y": codes.astype(np.int64),
    }
    for name in ("probabilities", "targets"):
        if getattr(synthetic, name) is not None:
            tensors[name] = getattr(synthetic, name)
    if synthetic.pixel_space is not None:
        tensors["pixel_space"] = np.asarray(synthetic.pixel_space)
    if synthetic.preprocessing is not None:
        steps, learned = packed(synthetic.preprocessing)
        metadata["preprocessing"] = json.dumps(steps)
        tensors.update(learned)
    return tensors, metadata


def _version_for(synthetic: Any) -> str:
    """Return the oldest version that can hold a set."""
    if synthetic.preprocessing is not None:
        return VERSIONS[3]
    if synthetic.targets is not None:
        return VERSIONS[2]
    return VERSIONS[1] if synthetic.pixel_size > 1 else VERSIONS[0]


def _as_json(metadata: Any) -> str:
    """Return metadata as JSON text, or raise an error that names the invalid entry."""
    check_metadata(metadata)
    if not all(isinstance(name, str) for name in metadata):
        raise ValueError(
            f"`metadata` must be a dict whose keys are strings; got {metadata!r}"
        )
    for name, value in metadata.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            of_numpy = isinstance(value, (np.generic, np.ndarray))
            hint = ". Pass its .tolist()" if of_numpy else ""
            raise ValueError(
                f"`metadata`[{name!r}] must be text, a finite number of Python, or a "
                f"list or dict of these; got {type(value).__name__}: {error}{hint}"
            ) from error
    return json.dumps(dict(metadata))


def _refuse_archive(path: Path) -> None:
    """Raise an error for a zip archive, as torch and NumPy write them."""
    with path.open("rb") as start:
        if start.read(4) == b"PK\x03\x04":
            raise ValueError(
                "it is not a set of skdistill; use `SyntheticSet.from_published` "
                "to read files written by torch or NumPy"
            )


def _version_of(metadata: Mapping[str, str]) -> str:
    """Return the version of a file."""
    if metadata.get("format") != _FORMAT:
        raise ValueError("it is not a synthetic set")
    version = metadata.get("version")
    if version not in VERSIONS:
        raise ValueError(
            f"its format version is {version!r}, this version of skdistill reads "
            f"{', '.join(VERSIONS)}"
        )
    return version


def _tensors_of(
    file: Any, version: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the tensors of a set and those of its preprocessing, by name."""
    known = _DTYPES.keys() - ({"targets"} if version in ("1", "2") else set())
    parts, learned = {}, {}
    for name in file.keys():  # noqa: SIM118
        if version == "4" and name.startswith(PREFIX):
            learned[name] = file.get_tensor(name)
            continue
        if name not in known:
            raise ValueError(f"it has an unknown part {name!r}")
        parts[name] = file.get_tensor(name)
        if parts[name].dtype != _DTYPES[name]:
            raise ValueError(
                f"its part {name!r} is of {parts[name].dtype}, not of "
                f"{_DTYPES[name].__name__}"
            )
    return parts, learned


def _content_of(
    metadata: Mapping[str, str], version: str, parts: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Return the entries of a file, where it lacks nothing."""
    missing = [name for name in ("X", "y") if name not in parts]
    if version == "3" and "targets" not in parts:
        missing.append("targets")
    entries = [*_CONTENT, *([] if version == "1" else ["pixel_size"])]
    entries += ["preprocessing"] if version == "4" else []
    missing += [name for name in entries if name not in metadata]
    if missing:
        raise ValueError(f"it lacks {missing}")
    content = {name: parse_json(metadata[name]) for name in entries}
    if not isinstance(content["step_size"], (int, float, type(None))):
        raise ValueError("its step size is not a number")
    if not isinstance(content["metadata"], dict):
        raise ValueError("its metadata are not pairs of a name and a value")
    pixel_size = content.get("pixel_size", 1)
    if type(pixel_size) is not int or pixel_size < 1:
        raise ValueError("its pixel size is not a number of pixels")
    return content
