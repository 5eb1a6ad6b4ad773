"""Folders of teachers: whose they are, and which teachers are in them."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skdistill.neural_network._own_network import (
    OwnNetwork,
    differences_of_networks,
    own_network,
)
from skdistill.trajectory._jobs import Place, trained_teacher
from skdistill.trajectory._settings import (
    CONVNET,
    TeacherSettings,
    n_snapshots_until,
)
from skdistill.trajectory._store import (
    TeacherFile,
    binding,
    manifest_path,
    read_manifest,
    stored_teachers,
    teacher_path,
    write_manifest,
)
from skdistill.trajectory._told import Trained
from skdistill.utils._differences import describe_difference
from skdistill.utils._files import SharedFolder, check_folder, check_writable
from skdistill.utils._metadata import qualified_name
from skdistill.utils._untrusted import class_labels

# Parameters of one run, not of the teachers.
_OF_ONE_RUN = ("path", "n_jobs", "device", "random_state", "verbose")

# What of the parameters a later fit may raise.
_GROWING = ("n_teachers", "n_epochs")


def teacher_numbers(manifest: dict[str, Any] | None, n_teachers: int) -> list[int]:
    """Return the numbers of a buffer's first teachers, without those dropped."""
    dropped = set() if manifest is None else set(manifest["dropped"])
    kept = (number for number in itertools.count() if number not in dropped)
    return list(itertools.islice(kept, n_teachers))


def join_buffer(
    folder: Path, content: dict[str, Any], seed: int | None, new_seed: int
) -> dict[str, Any]:
    """Make a folder a buffer's, or see that it is that buffer's already.

    Parameters
    ----------
    folder : Path
    content : dict
        The manifest that is wanted, but for seed and dropped teachers.
    seed : int or None
        The seed that is asked for; None takes on that of the folder.
    new_seed : int
        The seed of a new buffer.

    Returns
    -------
    manifest : dict
        What is in the folder now.

    Raises
    ------
    ValueError
        If the folder holds teachers of other data or settings; the message says what
        differs.
    """
    fresh = content | {"seed": new_seed, "dropped": []}
    check_folder(folder, "path")
    if not manifest_path(folder).exists():
        if stored_teachers(folder):
            raise ValueError(
                f"`path`: {folder} holds teachers but no manifest with their "
                "settings; delete them or use another folder"
            )
        check_writable(folder, "path")
        # Another process may do the same at the same time: then its manifest counts.
        write_manifest(folder, fresh, new=True)
    manifest = read_manifest(folder)
    wanted = content | {"seed": manifest["seed"] if seed is None else seed}
    differences = differences_between(manifest, wanted)
    if not differences:
        return grow_manifest(folder, content["parameters"])
    if stored_teachers(folder):
        raise ValueError(
            f"`path`: {folder} holds teachers with different data or settings ("
            + "; ".join(differences)
            + "); use another folder, or delete this one"
        )
    # A fit that failed before its first teacher was done binds nobody.
    write_manifest(folder, fresh)
    return read_manifest(folder)


def grow_manifest(folder: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """Let a manifest ask for as many teachers and epochs as parameters do, or more."""
    manifest = read_manifest(folder)
    grown = dict(manifest["parameters"])
    for name in _GROWING:
        grown[name] = max(grown[name], parameters[name])
    if grown != manifest["parameters"]:
        manifest["parameters"] = grown
        write_manifest(folder, manifest)
    return manifest


def differences_between(manifest: dict[str, Any], content: dict[str, Any]) -> list[str]:
    """Say what differs between the buffer in a folder and one that is asked for."""

    def flat(source: dict[str, Any]) -> dict[str, Any]:
        return {
            "architecture": CONVNET,
            **source["settings"],
            "class labels": source["classes"],
            "images or labels (fingerprint)": source["fingerprint"],
            "seed of random_state": source["seed"],
        }

    found, asked = flat(manifest), flat(content)
    networks = differences_of_networks(
        found.pop("architecture"), asked.pop("architecture")
    )
    if networks:
        # What one of them does not have says no more.
        asked = {name: value for name, value in asked.items() if name in found}
    told = [f"architecture: {networks}"] if networks else []
    return told + [
        describe_difference(name, found.get(name), value)
        for name, value in asked.items()
        if found.get(name) != value
    ]


def place_of(folder: Path, manifest: dict[str, Any]) -> Place:
    """Return where the teachers of a manifest are stored."""
    shared = SharedFolder(manifest_path(folder))
    return Place(folder, binding(manifest), shared, manifest["seed"])


def plain_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a buffer's parameters as JSON can hold them, but for those of one run."""
    plain = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in parameters.items()
        if name not in _OF_ONE_RUN
    }
    if plain["architecture"] == CONVNET:
        del plain["architecture"]
    elif not isinstance(plain["architecture"], str):
        # What makes a network cannot be stored, nor imported from a file's word.
        plain["architecture"] = qualified_name(plain["architecture"])
    for name in ("image_shape", "augmentation", "snapshots_per_epoch"):
        if plain[name] is not None:
            plain[name] = np.asarray(plain[name]).tolist()
    if isinstance(plain["class_weight"], dict):
        plain["class_weight"] = [
            [np.asarray(value).item() for value in pair]
            for pair in plain["class_weight"].items()
        ]
    return plain


def check_manifest(manifest: dict[str, Any]) -> tuple[TeacherSettings, np.ndarray]:
    """Return the settings and the class labels of a manifest that was read.

    Raises
    ------
    ValueError
        If they are invalid.
    """
    classes = class_labels(manifest["classes"])
    settings = TeacherSettings.from_plain(manifest["settings"])
    if settings.n_classes != len(classes):
        raise ValueError("it has a different number of classes")
    # Of what size networks are: that of the files, which are there.
    if settings.network.count_parameters() != manifest["n_parameters"]:
        raise ValueError("its network has a different number of parameters")
    return settings, classes


def with_architecture(
    settings: TeacherSettings, architecture: Any, folder: Path, name: Any
) -> TeacherSettings:
    """Return settings with what makes the network, if a file cannot say that.

    Parameters
    ----------
    settings : TeacherSettings
        As a manifest says them.
    architecture : str, callable, torch.nn.Module or None
        What the user says.
    folder : Path
    name : str
        What the manifest calls the architecture.

    Raises
    ------
    ValueError
        If the user's network is missing, or another than that of the teachers.
    """
    own = settings.architecture
    if not isinstance(own, OwnNetwork):
        if architecture is not None and architecture != own:
            what = architecture if isinstance(architecture, str) else "another network"
            raise ValueError(
                f"`architecture`: the teachers in {folder} have the network {own!r}; "
                f"got {what!r}"
            )
        return settings
    if architecture is None or isinstance(architecture, str):
        got = "" if architecture is None else f"; got {architecture!r}"
        raise ValueError(
            f"the teachers in {folder} have a custom network, {name}, which cannot be "
            "stored in files: load them by TrajectoryBuffer.load(path, "
            f"architecture=...), with the network they were fitted with{got}"
        )
    given = own_network(architecture, settings.image_shape, settings.n_classes)
    differences = differences_of_networks(own.to_plain(), given.to_plain())
    if differences:
        raise ValueError(
            f"`architecture`={qualified_name(architecture)} creates a different "
            f"network from that of the teachers in {folder}, {name}: {differences}"
        )
    return replace(settings, architecture=given)


def find_teachers(
    place: Place,
    numbers: list[int],
    settings: TeacherSettings,
    length: int,
    n_epochs: int,
    *,
    verify: bool = True,
) -> dict[int, Trained]:
    """Return the teachers that are stored with all their epochs.

    Parameters
    ----------
    place : Place
    numbers : list of int
        The teachers that are wanted.
    settings : TeacherSettings
    length : int
        Number of parameters of a snapshot.
    n_epochs : int
        The epochs that each must have.
    verify : bool, default=True
        Whether to verify their files if others have to be trained.

    Returns
    -------
    found : dict of Trained
        By their numbers.

    Raises
    ------
    ValueError
        If a file is damaged or belongs to another buffer.
    """
    found = {}
    for number in numbers:
        if not teacher_path(place.folder, number).exists():
            continue
        with TeacherFile(place.folder, number, place.buffer) as file:
            file.check_shapes(
                n_snapshots_until(settings.snapshots_per_epoch, file.n_epochs), length
            )
            run = file.history()
        if run.n_epochs >= n_epochs:
            found[number] = trained_teacher(number, run, n_epochs)
    if verify and len(found) < len(numbers):
        # Damage is found before hours of training, not after them.
        for number in found:
            with TeacherFile(place.folder, number, place.buffer) as file:
                file.run()
    return found


def find_all_teachers(
    folder: Path,
    manifest: dict[str, Any],
    settings: TeacherSettings,
    n_teachers: int,
    n_epochs: int,
) -> dict[int, Trained]:
    """Return the first teachers of a folder, without verifying their snapshots.

    Raises
    ------
    ValueError
        If there are none, or fewer than ``n_teachers`` with ``n_epochs`` epochs.
    """
    if n_teachers < 1:
        raise ValueError(f"the buffer in {folder} holds no teachers")
    # No more than there can be, even if a manifest asks for more.
    n_max = len(stored_teachers(folder)) + 1
    numbers = teacher_numbers(manifest, min(n_teachers, n_max))
    found = find_teachers(
        place_of(folder, manifest),
        numbers,
        settings,
        manifest["n_parameters"],
        n_epochs,
        verify=False,
    )
    missing = [number for number in numbers if number not in found]
    if missing:
        raise ValueError(
            f"the buffer in {folder} is not complete: {n_teachers - len(found)} of "
            f"{n_teachers} teachers are missing or have fewer than {n_epochs} epochs, "
            f"the first is {teacher_path(folder, missing[0]).name}; fit a "
            "TrajectoryBuffer of the same parameters with this `path` to train them, "
            "or load fewer with `n_teachers` or `n_epochs`"
        )
    return found
