"""The folder of a comparison: a file for each cell, and what each belongs to."""

import hashlib
import json
import re
import warnings
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
from joblib import hash as joblib_hash

from skdistill.metrics._cells import LABELS, Cell
from skdistill.metrics._distillers import trained_teachers
from skdistill.metrics._protocol import Evaluation
from skdistill.neural_network._own_network import own_network
from skdistill.synthetic import SyntheticSet
from skdistill.trajectory._signature import teachers_signature
from skdistill.utils._differences import describe_difference
from skdistill.utils._files import atomic_path, check_folder, check_writable, claim
from skdistill.utils._plain import as_plain, digest_of
from skdistill.utils._untrusted import errors_as_value_errors, read_json
from skdistill.utils._validation import fingerprint_images

_FORMAT = "skdistill-comparison-cell"
_VERSION = 1
# Parameters that decide on no score, and seeds, which a comparison sets.
_FREE = {"checkpoint", "device", "n_jobs", "path", "random_state", "verbose"}
# Whose metrics are known by their names.
_OF_LIBRARIES = {"sklearn", "skdistill"}
# Arrays with more values are known by a digest.
_MAX_SHOWN = 100
_MAX_DIFFERENCES = 5


def signature_of(
    estimator: Any, image_shape: tuple[int, ...], n_classes: int
) -> dict[str, Any]:
    """Return the parameters of an estimator, and of those inside, as JSON has them.

    Of teachers that are trained it is what they were trained on and how, of a user's
    own network also what it computes: its code may change under the same name.

    Parameters
    ----------
    estimator : estimator instance
    image_shape : tuple (height, width, channels)
    n_classes : int

    Returns
    -------
    signature : dict
        By the names of ``get_params``, and the class.
    """
    kind = type(estimator)
    found: dict[str, Any] = {"class": f"{kind.__module__}.{kind.__qualname__}"}
    for name, value in estimator.get_params(deep=False).items():
        if name in _FREE:
            continue
        teachers = trained_teachers(estimator) if name == "buffer" else None
        if teachers is not None:
            found[name] = teachers_signature(teachers)
        elif hasattr(value, "get_params") and not isinstance(value, type):
            inner = signature_of(value, image_shape, n_classes)
            found |= {f"{name}__{key}": entry for key, entry in inner.items()}
        elif name == "architecture" and callable(value):
            found[name] = _own_network(value, image_shape, n_classes)
        elif isinstance(value, SyntheticSet):
            content = np.ascontiguousarray(value.X), np.asarray(value.y).tolist()
            found[name] = f"set of {len(value)} images, {joblib_hash(content)}"
        elif np.ndim(value) and np.size(value) > _MAX_SHOWN:
            array = np.asarray(value)
            found[name] = f"array of shape {array.shape}, {joblib_hash(array)}"
        else:
            found[name] = as_plain(value)
    return found


def _own_network(
    architecture: Any, image_shape: tuple[int, ...], n_classes: int
) -> str:
    name = as_plain(architecture)
    height, width, channels = image_shape
    # What is wrong with it, its fit tells.
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        shape = (height, width, channels)
        return f"{name}, {own_network(architecture, shape, n_classes).digest}"
    return name


def protocol_signature(
    images: np.ndarray,
    labels: np.ndarray,
    checked: Evaluation,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Return what all cells of a comparison have in common, as JSON has it."""
    chosen = options["X_validation"] is not None
    data = {
        "X, y (fingerprint)": (images, labels),
        "X_test, y_test (fingerprint)": checked.test,
        "X_validation, y_validation (fingerprint)": checked.validation
        if chosen
        else None,
    }
    found: dict[str, Any] = {}
    for name, pair in data.items():
        if pair is None:
            found[name] = None
            continue
        classes, codes = np.unique(pair[1], return_inverse=True)
        found[name] = fingerprint_images(pair[0], codes)
        found[name.replace("fingerprint", "classes")] = classes.tolist()
    for name in ("protocol", "param_grid", "n_repeats"):
        found[f"evaluation's {name}"] = as_plain(options[name])
    found["evaluation's scoring"] = _metric(options["scoring"])
    if chosen:
        found["evaluation's n_validation_repeats"] = options["n_validation_repeats"]
    estimator = options["estimator"]
    own: dict[str, Any] = {"class": None}
    if estimator is not None:
        own = signature_of(estimator, images.shape[1:], len(np.unique(labels)))
    return found | {f"evaluation's estimator__{key}": own[key] for key in own}


def _metric(scoring: Any) -> Any:
    """Return a metric as JSON has it; a user's own may change under the same name."""
    name = as_plain(scoring)
    function = getattr(scoring, "_score_func", scoring)
    code = getattr(function, "__code__", None)
    home = getattr(function, "__module__", None) or ""
    if code is None or home.partition(".")[0] in _OF_LIBRARIES:
        return name
    return f"{name}, {digest_of(_parts_of(code))}"


def _parts_of(code: CodeType) -> list[Any]:
    """Return what a function does, but for where it is written."""
    constants = [
        _parts_of(one)
        if isinstance(one, CodeType)
        # The order of a set differs from process to process.
        else sorted(map(repr, one))
        if isinstance(one, frozenset)
        else repr(one)
        for one in code.co_consts
    ]
    return [code.co_code.hex(), list(code.co_names), constants]


class CellFiles:
    """The folder of a comparison, with a file for each cell and for each set.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def claim(self, held: ExitStack) -> None:
        """Keep other processes out, and see early what could not be stored late."""
        folder = self.folder
        check_folder(folder, "path")
        check_writable(folder, "path")
        if not held.enter_context(claim(folder / "cells")):
            raise BlockingIOError(
                f"`path`: {folder} is in use by another comparison; wait until it has "
                "ended, or use another folder"
            )

    def _file(self, kind: str, name: str, seed: int, suffix: str) -> Path:
        # Of names that differ in what no file name may have, too.
        plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40]
        digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
        return self.folder / kind / f"{plain}-{digest}-{seed}{suffix}"

    def set_file(self, name: str, seed: int) -> Path:
        """Return where the set of a cell is."""
        return self._file("sets", name, seed, ".safetensors")

    def read(
        self, name: str, seed: int, signature: dict[str, Any], n_scores: int
    ) -> Cell | None:
        """Return a cell that is there, None if it is not.

        Raises
        ------
        ValueError
            If it is damaged, or of another distiller, other images or another protocol;
            the message says what differs.
        """
        path = self._file("cells", name, seed, ".json")
        if not path.exists():
            return None
        with errors_as_value_errors(
            f"{path} cannot be read: {{error}}; delete it to compute it again"
        ):
            content = read_json(path)
            if not isinstance(content, dict) or content.get("format") != _FORMAT:
                raise ValueError("it is not a cell of a comparison")
            if content.get("version") != _VERSION:
                raise ValueError(
                    f"its format version is {content.get('version')!r}, this version "
                    f"of skdistill reads {_VERSION}"
                )
            found, cell = content["signature"], Cell(**content["cell"])
            if not isinstance(found, dict):
                raise ValueError("it does not describe the comparison it belongs to")
        differences = [
            describe_difference(f"`{key}`", found.get(key), signature.get(key))
            for key in dict.fromkeys([*signature, *found])
            if _text(found.get(key)) != _text(signature.get(key))
        ]
        if differences:
            shown = "; ".join(differences[:_MAX_DIFFERENCES])
            more = len(differences) - _MAX_DIFFERENCES
            raise ValueError(
                f"`path`: {path} belongs to {name!r} with different parameters, "
                "images or protocol "
                f"({shown}{f'; {more} others' if more > 0 else ''}); use another name "
                "or another folder, or delete this file"
            )
        with errors_as_value_errors(
            f"{path} cannot be read: {{error}}; delete it to compute it again"
        ):
            _check_content(cell, n_scores)
        return cell

    def write_set(self, name: str, seed: int, synthetic: SyntheticSet) -> None:
        """Store the set of a cell, before the cell."""
        synthetic.save(self.set_file(name, seed))

    def write(
        self, name: str, seed: int, signature: dict[str, Any], cell: Cell
    ) -> None:
        """Store a cell; that its file is there says that all of it is."""
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "distiller": name,
            "seed": seed,
            "cell": cell._asdict(),
            "signature": signature,
        }
        with atomic_path(self._file("cells", name, seed, ".json")) as temporary:
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _text(value: Any) -> str:
    # NaN is not NaN, and a tuple no list, before they were in a file.
    return json.dumps(value, sort_keys=True)


def _check_content(cell: Cell, n_scores: int) -> None:
    if (
        not _are_numbers(cell.scores if isinstance(cell.scores, list) else [None])
        or len(cell.scores) != n_scores
    ):
        raise ValueError(f"it must hold {n_scores} finite scores; got {cell.scores!r}")
    numbers = {"seconds": cell.seconds, "n_bytes": cell.n_bytes}
    numbers["n_images"] = cell.n_images
    for key, value in numbers.items():
        if not _are_numbers([value]) or value < 0:
            raise ValueError(f"its {key!r} must be a number; got {value!r}")
    if cell.labels not in LABELS or not isinstance(cell.classifier, str):
        raise ValueError(
            "it does not hold a description of the training data and the network"
        )
    if not isinstance(cell.parameters, dict):
        raise ValueError("its parameters are not pairs of a name and a value")


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and np.isfinite(value)
        for value in values
    )
