"""Snapshots on disk: a manifest and one file per teacher, without pickle.

A buffer is a folder.  ``manifest.json`` says which data, network and training the
teachers share; ``teacher-00000.safetensors`` holds the snapshots of one teacher, what
its training looked like, and what is needed to resume it.  Files appear under
their names only when they are complete.

Every file carries digests of its parts and of the settings that it belongs to.  Single
snapshots are read through a memory map and verified when a process first reads them,
so that a buffer of gigabytes opens at once and no altered number is ever used.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from skdistill.utils._files import atomic_path
from skdistill.utils._untrusted import errors_as_value_errors, parse_json, read_json

FORMAT = "skdistill-trajectories"
FORMAT_VERSION = 3
# Of manifests; the last is that of other teachers than ConvNets.
MANIFEST_VERSIONS = (FORMAT_VERSION, 4)

# How snapshots can be stored.
STORAGES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}

_MANIFEST_CONTENT = (
    "parameters",
    "settings",
    "classes",
    "fingerprint",
    "n_parameters",
    "seed",
    "dropped",
)
# What of a manifest a teacher's file is bound to.
_BINDING = ("settings", "classes", "fingerprint", "n_parameters")

# The entry of a teacher's file that says what it is.
_METADATA = "skdistill"

_ADVICE = "delete the file and fit again to train this teacher again"


class TeacherRun(NamedTuple):
    """The training of one teacher.

    Attributes
    ----------
    parameters : Tensor of shape (n_snapshots, n_parameters), float32
        The snapshots.  The first row holds the initial weights.
    loss, accuracy : Tensor of shape (n_epochs,), float64
        Means over the augmented training images of each epoch.
    velocity : Tensor of shape (n_parameters,) or (0,), float32
        The momentum buffer at the end; empty where there is none.
    last : Tensor of shape (n_parameters,), float32
        The weights at the end, from which training resumes.
    """

    parameters: Tensor
    loss: Tensor
    accuracy: Tensor
    velocity: Tensor
    last: Tensor

    @property
    def n_epochs(self) -> int:
        """Number of epochs of the training."""
        return len(self.loss)


class Identity(NamedTuple):
    """Which teacher of which buffer a file holds.

    Attributes
    ----------
    teacher : int
        Its number.
    buffer : str
        What :func:`binding` returns for its manifest.
    seed : int
        The seed of its training.
    """

    teacher: int
    buffer: str
    seed: int


def teacher_path(folder: Path, teacher: int) -> Path:
    return folder / f"teacher-{teacher:05d}.safetensors"


def stored_teachers(folder: Path) -> list[int]:
    """Return the numbers of the teachers that a folder has files of."""
    return sorted(
        int(path.stem.removeprefix("teacher-"))
        for path in folder.glob("teacher-*.safetensors")
        if path.stem.removeprefix("teacher-").isdecimal()
    )


def _digest(content: Any) -> str:
    """Return the digest of a tensor, or of what JSON can say."""
    if isinstance(content, Tensor):
        # Bytes: NumPy has no type of its own for bfloat16.
        content = content.contiguous().view(torch.uint8).numpy().data
    else:
        content = json.dumps(content, sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def write_teacher(
    folder: Path, run: TeacherRun, identity: Identity, storage: str = "float32"
) -> None:
    """Write the run of one teacher, atomically.

    Parameters
    ----------
    folder : Path
    run : TeacherRun
    identity : Identity
    storage : {"float32", "float16", "bfloat16"}, default="float32"
        The type of the stored snapshots.
    """
    kind = STORAGES[storage]
    tensors = {
        "parameters": run.parameters.to(kind).contiguous(),
        "loss": run.loss,
        "accuracy": run.accuracy,
    }
    if len(run.velocity):
        tensors["velocity"] = run.velocity
    # The last snapshot may be rounded, or an average.
    if not torch.equal(run.last, tensors["parameters"][-1].float()):
        tensors["last"] = run.last
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        **identity._asdict(),
        "digests": {name: _digest(part) for name, part in tensors.items()},
        "snapshots": [_digest(row) for row in tensors["parameters"]],
    }
    content["checksum"] = _digest(content)
    # One entry: several are written in any order, and files of the same would differ.
    metadata = {_METADATA: json.dumps(content)}
    # A folder that is gone is not made again: it would hold one teacher of all.
    with atomic_path(teacher_path(folder, identity.teacher), make_folder=False) as path:
        save_file(tensors, path, metadata=metadata)


class TeacherFile:
    """A teacher's file, open for reading through a memory map.

    Use it as a context manager.  Anything wrong with the file is a ValueError that
    names it.

    Parameters
    ----------
    folder : Path
    teacher : int
        Number of the teacher.
    buffer : str
        What :func:`binding` returns for the manifest.
    """

    def __init__(self, folder: Path, teacher: int, buffer: str) -> None:
        self.path = teacher_path(folder, teacher)
        wrong = f"{self.path} cannot be read as the snapshots of a teacher ({{error}})"
        with errors_as_value_errors(f"{wrong}; {_ADVICE}"):
            # What is no plain file, as a pipe, might never end.
            if self.path.exists() and not self.path.is_file():
                raise ValueError("it is not a file")
            self._file = safe_open(self.path, framework="pt").__enter__()
            metadata = (self._file.metadata() or {}).get(_METADATA, "{}")
            self._names = set(self._file.keys())
            content = parse_json(metadata)
            if not isinstance(content, dict):
                raise ValueError("it does not describe its content")
        expected = {"format": FORMAT, "version": FORMAT_VERSION, "teacher": teacher}
        found = {name: content.get(name) for name in expected}
        if content.pop("checksum", None) != _digest(content):
            raise ValueError(
                f"{self.path} holds {found}, without a checksum; it was modified, "
                f"damaged or written by another version; {_ADVICE}"
            )
        if found != expected:
            raise ValueError(f"{self.path} holds {found}, not {expected}; {_ADVICE}")
        if content.get("buffer") != buffer:
            raise ValueError(
                f"{self.path} holds a teacher whose data or settings differ from "
                f"{manifest_path(folder).name}; {_ADVICE}"
            )
        # A checksum protects from accidents: who alters a file can make another.
        with errors_as_value_errors(f"{wrong}; {_ADVICE}"):
            self._check(content)
        self.seed: int = content["seed"]
        self._digests: dict[str, str] = content["digests"]
        self._rows: list[str] = content["snapshots"]

    def _check(self, content: dict[str, Any]) -> None:
        """Raise an error unless all parts are there and fit each other."""
        seed, digests, rows = (content[n] for n in ("seed", "digests", "snapshots"))
        if type(seed) is not int or seed < 0:
            raise ValueError(f"its seed is {seed!r}")
        texts = [*digests.values(), *rows]
        if not isinstance(rows, list) or not all(isinstance(t, str) for t in texts):
            raise ValueError("its checksums are damaged")
        needed = {"parameters", "loss", "accuracy"}
        unknown = self._names - needed - {"velocity", "last"}
        if unknown or not needed <= self._names or set(digests) != self._names:
            raise ValueError(f"its parts are {sorted(self._names)}")
        parts = {name: self._file.get_slice(name) for name in self._names}
        shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
        dtypes = {name: part.get_dtype() for name, part in parts.items()}
        n_epochs, n_parameters = shapes["loss"][0], shapes["parameters"][-1]
        fits = {
            "parameters": shapes["parameters"] == (len(rows), n_parameters)
            and dtypes["parameters"] in ("F32", "F16", "BF16"),
            "loss": shapes["loss"] == (n_epochs,) and dtypes["loss"] == "F64",
            "accuracy": shapes["accuracy"] == (n_epochs,)
            and dtypes["accuracy"] == "F64",
            **{
                name: shapes[name] == (n_parameters,) and dtypes[name] == "F32"
                for name in self._names & {"velocity", "last"}
            },
        }
        wrong = sorted(name for name, right in fits.items() if not right)
        if wrong or not rows or not n_epochs:
            raise ValueError(f"the shapes or types of its parts {wrong} are wrong")
        self.n_epochs: int = n_epochs
        self.n_parameters: int = n_parameters

    def __enter__(self) -> "TeacherFile":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.__exit__(None, None, None)

    def check_shapes(self, n_snapshots: int, n_parameters: int) -> None:
        """Raise a ValueError unless there are as many snapshots and parameters."""
        found = self.n_snapshots, self.n_parameters
        if found != (n_snapshots, n_parameters):
            raise ValueError(
                f"{self.path} has {found[0]} snapshots of {found[1]} parameters, not "
                f"{n_snapshots} of {n_parameters}; {_ADVICE}"
            )

    @property
    def n_snapshots(self) -> int:
        """Number of snapshots, that of the initial weights included."""
        return len(self._rows)

    def history(self) -> TeacherRun:
        """Read what the training looked like, and no snapshots."""
        empty = torch.empty(0)
        loss, accuracy = (self._verified(name) for name in ("loss", "accuracy"))
        return TeacherRun(empty.view(0, 0), loss, accuracy, empty, empty)

    def run(self) -> TeacherRun:
        """Read and verify everything."""
        parameters = self._verified("parameters").float()
        last = parameters[-1].clone()
        if "last" in self._names:
            last = self._verified("last")
        velocity = torch.empty(0)
        if "velocity" in self._names:
            velocity = self._verified("velocity")
        return self.history()._replace(
            parameters=parameters, velocity=velocity, last=last
        )

    def snapshot(self, place: int) -> Tensor:
        """Read one snapshot in float32; only its part of the file is touched."""
        row = self._file.get_slice("parameters")[place]
        # Once per process and file: a digest takes longer than reading does.
        state = self.path.stat()
        key = (str(self.path), state.st_ino, state.st_mtime_ns, state.st_size, place)
        if key not in _verified:
            self._compare(f"snapshot {place}", row, self._rows[place])
            _verified.add(key)
        # A copy always, that outlives the map.
        return row.to(torch.float32, copy=True)

    def _verified(self, name: str) -> Tensor:
        if name not in self._names:
            raise ValueError(f"{self.path} is damaged: it lacks {name!r}; {_ADVICE}")
        tensor = self._file.get_tensor(name)
        self._compare(name, tensor, self._digests[name])
        return tensor.clone()

    def _compare(self, name: str, tensor: Tensor, digest: str) -> None:
        if _digest(tensor) != digest:
            raise ValueError(
                f"{self.path} does not match its checksum ({name}): it was modified "
                f"or damaged; {_ADVICE}"
            )


_verified: set[tuple[str, int, int, int, int]] = set()


def manifest_path(folder: str | os.PathLike[str]) -> Path:
    return Path(folder) / "manifest.json"


def binding(manifest: dict[str, Any]) -> str:
    """Return the digest of all that a manifest says teachers have in common."""
    return _digest({name: manifest[name] for name in _BINDING})


def write_manifest(folder: Path, content: dict[str, Any], *, new: bool = False) -> bool:
    """Write the manifest of a buffer, atomically.

    Parameters
    ----------
    folder : Path
    content : dict
    new : bool, default=False
        Whether to write it only if there is none.

    Returns
    -------
    written : bool
    """
    content = {name: content[name] for name in _MANIFEST_CONTENT}
    version = MANIFEST_VERSIONS["architecture" in content["settings"]]
    manifest = {"format": FORMAT, "version": version, **content}
    manifest["checksum"] = _digest(manifest)
    target = manifest_path(folder)
    text = json.dumps(manifest, indent=2) + "\n"
    if not new:
        with atomic_path(target) as path:
            path.write_text(text, encoding="utf-8")
        return True
    # A link cannot take the place of a file that another process has just made.
    whole = folder / f".{target.name}.{os.getpid()}.new"
    with atomic_path(whole) as path:
        path.write_text(text, encoding="utf-8")
    try:
        os.link(whole, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if target.exists():
            return False
        os.replace(whole, target)
    finally:
        whole.unlink(missing_ok=True)
    return True


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a buffer.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is not the manifest of a buffer that this version can read, or was
        altered.
    """
    path = manifest_path(folder)
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no trajectory buffer: there is no {path.name} in it"
        )
    with errors_as_value_errors(f"{path} is not valid JSON ({{error}})"):
        manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path} is not the manifest of a trajectory buffer")
    if manifest.get("version") not in MANIFEST_VERSIONS:
        raise ValueError(
            f"{path} has format version {manifest.get('version')!r}; this version of "
            f"skdistill reads versions {MANIFEST_VERSIONS}"
        )
    missing = [name for name in _MANIFEST_CONTENT if name not in manifest]
    if missing:
        raise ValueError(f"{path} is damaged: it lacks {missing}")
    if manifest.pop("checksum", None) != _digest(manifest):
        raise ValueError(f"{path} does not match its checksum: it was modified")
    # A checksum protects from accidents: who alters a file can make another.
    wrong = [name for name, check in _CHECKS.items() if not check(manifest[name])]
    if wrong:
        raise ValueError(f"{path} is damaged: its entries {wrong} are invalid")
    return manifest


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 0


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "parameters": lambda value: (
        isinstance(value, dict)
        and all(_whole(value.get(name)) for name in ("n_teachers", "n_epochs"))
    ),
    "settings": lambda value: isinstance(value, dict),
    "classes": lambda value: isinstance(value, list),
    "fingerprint": lambda value: isinstance(value, str),
    "n_parameters": _whole,
    "seed": _whole,
    "dropped": lambda value: isinstance(value, list) and all(map(_whole, value)),
}


def pack(parameters: Tensor, storage: str) -> np.ndarray:
    """Turn snapshots into an array of a type that NumPy has, and others can store."""
    packed = parameters.to(STORAGES[storage])
    if storage == "bfloat16":
        packed = packed.view(torch.int16)
    return packed.numpy()


def unpack(parameters: np.ndarray, storage: str) -> np.ndarray:
    """Turn packed snapshots into a new array of float32."""
    # By NumPy: PyTorch warns of read-only arrays, which joblib maps for processes.
    if storage != "bfloat16":
        return parameters.astype(np.float32)
    # The upper half of a float32.
    return (parameters.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
