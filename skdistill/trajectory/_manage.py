"""What users do to folders of teachers: list them, drop some, merge several."""

import os
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.utils._param_validation import validate_params

from skdistill.trajectory._folders import differences_between, teacher_numbers
from skdistill.trajectory._settings import TeacherSettings
from skdistill.trajectory._store import (
    Identity,
    TeacherFile,
    binding,
    manifest_path,
    read_manifest,
    stored_teachers,
    teacher_path,
    write_manifest,
    write_teacher,
)
from skdistill.utils._files import as_path
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._untrusted import errors_as_value_errors


@validate_params(
    {"path": [str, os.PathLike]},
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def list_teachers(path: str | os.PathLike[str]) -> pd.DataFrame:
    """List the teachers in a folder, whether the buffer is complete or not.

    Parameters
    ----------
    path : path-like
        The ``path`` of a :class:`~skdistill.TrajectoryBuffer`.

    Returns
    -------
    teachers : DataFrame
        One row per teacher.  The index is its number, which its file is named after.
        Columns: ``n_epochs``, ``n_snapshots``, ``bytes`` of the file, and ``loss`` and
        ``accuracy`` in the last epoch; ``complete``, whether it has as many epochs as
        were asked for; ``problem``, what is wrong with the file, if anything.

    Raises
    ------
    FileNotFoundError
        If the folder holds no buffer.

    Examples
    --------
    >>> import tempfile
    >>> from skdistill import TrajectoryBuffer, make_galaxies
    >>> from skdistill.trajectory import list_teachers
    >>> X, y = make_galaxies(45, size=16, random_state=0)
    >>> folder = tempfile.mkdtemp()
    >>> buffer = TrajectoryBuffer(n_teachers=2, n_epochs=3, width=8, path=folder)
    >>> list_teachers(buffer.fit(X, y).path)["n_snapshots"].tolist()
    [4, 4]
    """
    folder = as_path(path)
    manifest = read_manifest(folder)
    rows = []
    for number in stored_teachers(folder):
        row = {
            "teacher": number,
            "n_epochs": 0,
            "n_snapshots": 0,
            "bytes": teacher_path(folder, number).stat().st_size,
            "loss": float("nan"),
            "accuracy": float("nan"),
            "problem": "",
        }
        try:
            with TeacherFile(folder, number, binding(manifest)) as file:
                run = file.history()
                row |= {
                    "n_epochs": run.n_epochs,
                    "n_snapshots": file.n_snapshots,
                    "loss": float(run.loss[-1]),
                    "accuracy": float(run.accuracy[-1]),
                }
        except ValueError as error:
            row["problem"] = str(error)
        rows.append(row)
    columns = ["teacher", "n_epochs", "n_snapshots", "bytes", "loss", "accuracy"]
    table = pd.DataFrame(rows, columns=[*columns, "problem"]).set_index("teacher")
    complete = table["n_epochs"] >= manifest["parameters"]["n_epochs"]
    table.insert(len(columns) - 1, "complete", complete)
    return table


@validate_params(
    {"path": [str, os.PathLike], "teachers": [Integral, Iterable]},
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def drop_teachers(path: str | os.PathLike[str], teachers: int | Iterable[int]) -> None:
    """Delete teachers from a folder for good.

    Their numbers are not used again: a later fit that asks for more teachers trains
    others.  Buffers that are in memory must be loaded again.

    Parameters
    ----------
    path : path-like
        The ``path`` of a :class:`~skdistill.TrajectoryBuffer`.
    teachers : int or iterable of int
        The numbers of the teachers, as :func:`list_teachers` gives them.

    Raises
    ------
    FileNotFoundError
        If the folder holds no buffer.
    ValueError
        If a number is not one of a stored teacher; then nothing is deleted.
    TypeError
        If anything but integers is given, such as a mask or a string.
    """
    folder = as_path(path)
    manifest = read_manifest(folder)
    several = list(teachers) if isinstance(teachers, Iterable) else [teachers]
    # A mask, or the digits of a string, would be read as the numbers 0 and 1.
    wrong = [one for one in several if not _is_number(one)]
    if wrong or isinstance(teachers, str):
        raise TypeError(
            "`teachers` must be the number of a teacher, or several: integers as in "
            f"the index of list_teachers; got {teachers!r:.100}"
        )
    numbers = sorted({int(number) for number in several})
    unknown = sorted(set(numbers) - set(stored_teachers(folder)))
    if unknown:
        raise ValueError(
            f"`teachers` must be numbers of teachers in {folder}; got {unknown}, for "
            "which there are no files"
        )
    # First the manifest: without the files alone, the teachers would be missing.
    manifest["dropped"] = sorted({*manifest["dropped"], *numbers})
    left = manifest["parameters"]["n_teachers"] - len(numbers)
    manifest["parameters"] |= {"n_teachers": max(left, 0)}
    write_manifest(folder, manifest)
    for number in numbers:
        teacher_path(folder, number).unlink()


def _is_number(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, (bool, np.bool_))


@validate_params(
    {"paths": [Iterable], "path": [str, os.PathLike]},
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def merge_buffers(
    paths: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str]
) -> None:
    """Bring the teachers of several folders together in a new one.

    The buffers must have been fitted on the same data with the same settings, and with
    different seeds: a teacher that is in two folders is taken once.  Every file is
    verified.  The merged buffer has as many epochs as all teachers have.

    Parameters
    ----------
    paths : sequence of path-like
        Two or more folders of a :class:`~skdistill.TrajectoryBuffer` each.  Teachers
        are numbered in this order; those of the first folder keep their numbers.
    path : path-like
        A folder that does not exist yet, or is empty.

    Raises
    ------
    FileNotFoundError
        If a folder holds no buffer.
    ValueError
        If data or settings differ, a file is damaged, or `path` holds something.
    """
    target = as_path(path)
    if isinstance(paths, (str, os.PathLike)):
        raise TypeError(
            f"`paths` must be a sequence of folders; got one path, {paths!r}"
        )
    folders = [
        as_path(source, f"paths[{number}]") for number, source in enumerate(paths)
    ]
    if len(folders) < 2:
        raise ValueError(f"`paths` must be at least two folders; got {len(folders)}")
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"`path` must be a new or empty folder; {target} is not")
    manifests = [read_manifest(folder) for folder in folders]
    first = manifests[0]
    for folder, manifest in zip(folders[1:], manifests[1:], strict=True):
        differences = differences_between(first, manifest | {"seed": first["seed"]})
        if differences:
            raise ValueError(
                f"{folder} holds teachers with different data or settings from "
                f"{folders[0]} (" + "; ".join(differences) + ")"
            )
    with errors_as_value_errors(f"{manifest_path(folders[0])} is damaged: {{error}}"):
        settings = TeacherSettings.from_plain(first["settings"])
    buffer = binding(first)
    found: dict[int, tuple[Path, int]] = {}
    for folder in folders:
        for number in stored_teachers(folder):
            with TeacherFile(folder, number, buffer) as file:
                found.setdefault(file.seed, (folder, number))
    if not found:
        raise ValueError(f"`paths`: there are no teachers in {folders}")
    free = teacher_numbers(first, len(found))
    numbers = {
        seed: number
        for seed, (folder, number) in found.items()
        if folder == folders[0] and number in free
    }
    free = [number for number in free if number not in numbers.values()]
    target.mkdir(parents=True, exist_ok=True)
    n_epochs = []
    for seed, (folder, number) in found.items():
        with TeacherFile(folder, number, buffer) as file:
            run = file.run()
        number = numbers[seed] if seed in numbers else free.pop(0)
        identity = Identity(number, buffer, seed)
        write_teacher(target, run, identity, settings.storage)
        n_epochs.append(run.n_epochs)
    parameters = {"n_teachers": len(found), "n_epochs": min(n_epochs)}
    # Last: a folder without a manifest is not read as a complete buffer.
    write_manifest(target, first | {"parameters": first["parameters"] | parameters})
