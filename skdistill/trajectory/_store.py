"""Snapshots on disk: a manifest and one file per teacher, without pickle.

A buffer is a folder.  ``manifest.json`` says which data, network and training the
teachers share; ``teacher-00000.safetensors`` holds the snapshots of one teacher and
what its training looked like.  Files appear under their names only when complete.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from skdistill.utils._files import atomic_path

FORMAT = "skdistill-trajectories"
FORMAT_VERSION = 1

_MANIFEST_CONTENT = (
    "parameters",
    "settings",
    "classes",
    "fingerprint",
    "n_parameters",
    "seed",
)


class TeacherRun(NamedTuple):
    """The training of one teacher.

    Attributes
    ----------
    parameters : ndarray of shape (n_epochs + 1, n_parameters), float32
        Row 0 holds the initial weights, row t those after epoch t.
    loss, accuracy : ndarray of shape (n_epochs,), float64
        Means over the augmented training images of each epoch.
    """

    parameters: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray


def teacher_path(folder: Path, teacher: int) -> Path:
    return folder / f"teacher-{teacher:05d}.safetensors"


def _checksum(run: TeacherRun) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in run:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _identity(teacher: int) -> dict[str, str]:
    return {
        "format": FORMAT,
        "version": str(FORMAT_VERSION),
        "teacher": str(teacher),
    }


def write_teacher(folder: Path, teacher: int, run: TeacherRun) -> None:
    """Write the run of one teacher, atomically."""
    metadata = _identity(teacher) | {"checksum": _checksum(run)}
    with atomic_path(teacher_path(folder, teacher)) as path:
        save_file(run._asdict(), path, metadata=metadata)


def read_teacher(folder: Path, teacher: int, shape: tuple[int, int]) -> TeacherRun:
    """Read and verify the run of one teacher.

    Parameters
    ----------
    folder : Path
    teacher : int
    shape : tuple (n_epochs + 1, n_parameters)
        Shape of the parameters of any teacher of this buffer.

    Returns
    -------
    TeacherRun

    Raises
    ------
    ValueError
        If the file is truncated, altered, of another format or of another teacher.
        The message names it.
    """
    path = teacher_path(folder, teacher)
    advice = "delete the file and fit again to train this teacher anew"
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            run = TeacherRun(*(file.get_tensor(name) for name in TeacherRun._fields))
    except (SafetensorError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"{path} cannot be read as the snapshots of a teacher ({error}); {advice}"
        ) from error
    if metadata.get("checksum") != _checksum(run):
        raise ValueError(
            f"{path} does not match its checksum: it was altered or damaged; {advice}"
        )
    expected = _identity(teacher)
    found = {name: metadata.get(name) for name in expected}
    if found != expected or run.parameters.shape != shape:
        raise ValueError(
            f"{path} holds {found} with parameters of shape {run.parameters.shape}, "
            f"not {expected} of shape {shape}; {advice}"
        )
    return run


def manifest_path(folder: str | os.PathLike[str]) -> Path:
    return Path(folder) / "manifest.json"


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write the manifest of a buffer, atomically."""
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, **content}
    with atomic_path(manifest_path(folder)) as path:
        path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a buffer.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is not the manifest of a buffer that this version can read.
    """
    path = manifest_path(folder)
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no trajectory buffer: there is no {path.name} in it"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path} is not the manifest of a trajectory buffer")
    if manifest.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {manifest.get('version')!r}; this version of "
            f"skdistill reads version {FORMAT_VERSION}"
        )
    missing = [name for name in _MANIFEST_CONTENT if name not in manifest]
    if missing:
        raise ValueError(f"{path} is damaged: it lacks {missing}")
    return manifest
