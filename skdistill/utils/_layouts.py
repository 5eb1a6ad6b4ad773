"""Distilled sets written as other codes read them."""

import io
import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skdistill.utils._card import card_files, remove_old_pictures
from skdistill.utils._files import atomic_path
from skdistill.utils._published import MAX_CODE
from skdistill.utils._warnings import warn

LAYOUTS = ("mtt", "dc", "npz", "huggingface")
CARD_ENTRIES = ("data", "license", "name")
# A name of a file may have 255 bytes on most file systems, and a temporary one has more
# than its file.
_MAX_BYTES = 200
_SHOWN_LETTERS = 40
_TABLE = "data/train.parquet"


def write_layout(synthetic: Any, path: Path, layout: str, card: dict[str, Any]) -> None:
    """Write a set in one of ``LAYOUTS``.

    Parameters
    ----------
    synthetic : SyntheticSet
    path : Path
        A folder, or a file.
    layout : str
    card : dict
        What the card of "huggingface" shall say.
    """
    if layout == "huggingface":
        _write_huggingface(synthetic, path, card)
        return
    if card:
        raise TypeError(f"`{next(iter(card))}` requires layout='huggingface'")
    labels, lost = _labels_of(synthetic, layout)
    for name, plain in (
        ("pixel_space", None),
        ("pixel_size", 1),
        ("preprocessing", None),
    ):
        if getattr(synthetic, name) != plain:
            lost.append(f"`{name}`")
    if lost:
        warn(f"the layout {layout!r} does not hold " + "; nor ".join(lost))
    if layout == "npz":
        _write_npz(synthetic, labels, path)
    else:
        _write_torch(synthetic, labels, path, layout)


def _labels_of(synthetic: Any, layout: str) -> tuple[np.ndarray, list[str]]:
    """Return the labels that a layout stores, and what it loses of those of a set."""
    classes, codes = np.unique(synthetic.y, return_inverse=True)
    codes = codes.astype(np.int64)
    # Such labels are stored as they are: they need not be without gaps.
    are_codes = (
        classes.dtype.kind in "iu"
        and classes.size
        and classes.min() >= 0
        and classes.max() <= MAX_CODE
    )
    lost = []
    if not are_codes:
        names = classes.tolist()
        lost.append(f"the names of the classes; read it with `classes`={names}")
    rows = synthetic.probabilities if synthetic.targets is None else synthetic.targets
    if layout == "dc":
        rows = None
        for name in ("probabilities", "targets", "step_size"):
            if getattr(synthetic, name) is not None:
                lost.append(f"`{name}`")
    if rows is None:
        return synthetic.y.astype(np.int64) if are_codes else codes, lost
    # Rows have a column for each class.
    if are_codes and not np.array_equal(classes, np.arange(len(classes))):
        lost.append(f"the class labels; read it with `classes`={classes.tolist()}")
    if synthetic.targets is not None and layout == "mtt":
        lost.append("the kind of its labels; read it with `label_kind`='targets'")
    if (rows.argmax(axis=1) != codes).any():
        lost.append(
            "the class of an image whose label is largest for another class, which can "
            "at best be inferred from the order of the images"
        )
    return rows, lost


def _write_npz(synthetic: Any, labels: np.ndarray, path: Path) -> None:
    arrays = {"images": synthetic.X, "labels": labels}
    if synthetic.step_size is not None:
        arrays["step_size"] = np.asarray(synthetic.step_size)

    def write(file: Path) -> None:
        with file.open("wb") as stream:
            np.savez(stream, **arrays)

    _write_all({path: write})


def _write_torch(synthetic: Any, labels: np.ndarray, path: Path, layout: str) -> None:
    import torch

    from skdistill.utils._tensors import to_tensor

    images = to_tensor(synthetic.X, torch.device("cpu"))
    tensor = torch.from_numpy(labels.copy())

    def saving(value: Any) -> Callable[[Path], object]:
        # torch says of a full disk only that positions differ.
        content = io.BytesIO()
        torch.save(value, content)
        return lambda file: file.write_bytes(content.getvalue())

    if layout == "dc":
        _write_all({path: saving({"data": [[images, tensor]], "accs_all_exps": {}})})
        return
    files = {
        path / "images_best.pt": saving(images),
        path / "labels_best.pt": saving(tensor),
    }
    rate = path / "lr_best.pt"
    if synthetic.step_size is not None:
        files[rate] = saving(torch.tensor(synthetic.step_size, dtype=torch.float64))
    _write_all(files)
    if synthetic.step_size is None:
        # A file of another set would be read as that of this one.
        rate.unlink(missing_ok=True)


def _write_all(files: dict[Path, Callable[[Path], object]]) -> None:
    """Write files, all of them before the first takes the place of an old one."""
    with ExitStack() as finished:
        for path, write in files.items():
            write(finished.enter_context(atomic_path(path)))


def write_pictures(synthetic: Any, pixels: np.ndarray, path: Path) -> None:
    """Write pictures (n_images, height, width, 3) in a folder for each class."""
    classes, codes = np.unique(synthetic.y, return_inverse=True)
    folders = [_folder_name(str(label)) for label in classes]
    if len({folder.lower() for folder in folders}) < len(folders) or not all(folders):
        some = ", ".join(repr(str(label)[:_SHOWN_LETTERS]) for label in classes[:10])
        raise ValueError(
            f"the classes, such as {some}, cannot be used as names of folders, since "
            "some would be identical or empty: letters that names of files must not "
            f"have are replaced, and no more than {_MAX_BYTES} bytes are used"
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} must be a new or empty folder")
    lost = ["pixels but in 256 steps"]
    changed = [f for f, c in zip(folders, classes, strict=True) if f != str(c)]
    if changed:
        lost.append(f"the names of classes but as {changed}")
    for name in ("probabilities", "targets", "step_size"):
        if getattr(synthetic, name) is not None:
            lost.append(f"`{name}`")
    warn("a folder of pictures does not hold " + "; nor ".join(lost))
    places = np.zeros(len(classes), np.int64)
    for picture, code in zip(pixels, codes, strict=True):
        with atomic_path(path / folders[code] / f"{places[code]:04d}.png") as file:
            Image.fromarray(picture).save(file, format="PNG")
        places[code] += 1


def _folder_name(label: str) -> str:
    """Return a label as every file system takes it, "" if nothing is left of it."""
    name = re.sub(r'[\\/:*?"<>|\0-\37]', "_", label).strip(" .")
    content = name.encode(errors="surrogateescape")
    if len(content) <= _MAX_BYTES:
        return name
    return content[:_MAX_BYTES].decode(errors="ignore").strip(" .")


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return file.getvalue()


def _write_huggingface(synthetic: Any, path: Path, card: dict[str, Any]) -> None:
    """Write a folder that ``datasets.load_dataset`` reads."""
    unknown = sorted(set(card) - set(CARD_ENTRIES))
    if unknown:
        raise TypeError(
            f"the card has no entry {unknown[0]!r}; its entries are "
            f"{', '.join(CARD_ENTRIES)}"
        )
    name = card.pop("name", None)
    synthetic = synthetic.described(**card)
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "layout='huggingface' requires pyarrow: pip install 'skdistill[parquet]'"
        ) from error
    classes, codes = np.unique(synthetic.y, return_inverse=True)
    pictures = synthetic.to_images()
    encoded = [{"bytes": _png(picture), "path": None} for picture in pictures]
    binary = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    flattened = synthetic.X.reshape(len(codes), math.prod(synthetic.X.shape[1:]))
    columns = {
        "image": pyarrow.array(encoded, binary),
        "label": pyarrow.array(codes.astype(np.int64)),
        "pixels": pyarrow.array(list(flattened), pyarrow.list_(pyarrow.float32())),
    }
    sequence = {"_type": "Sequence", "feature": {"dtype": "float32", "_type": "Value"}}
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": [str(c) for c in classes.tolist()]},
        "pixels": sequence,
    }
    for labels in ("probabilities", "targets"):
        rows = getattr(synthetic, labels)
        if rows is not None:
            columns[labels] = pyarrow.array(list(rows))
            features[labels] = sequence
    info = json.dumps({"info": {"features": features}})
    table = pyarrow.table(columns).replace_schema_metadata({"huggingface": info})
    write_card(
        synthetic,
        path,
        pictures,
        {path / _TABLE: lambda file: pyarrow.parquet.write_table(table, file)},
        name=name,
        table=_TABLE,
    )


def write_card(
    synthetic: Any,
    path: Path,
    pictures: np.ndarray,
    more: Mapping[Path, Callable[[Path], object]] | None = None,
    **settings: Any,
) -> None:
    """Write a card, its pictures and the set.

    Parameters
    ----------
    synthetic : SyntheticSet
    path : Path
        A folder, or the card.
    pictures : ndarray of shape (n_images, height, width, 3), uint8
    more : dict of Path to callable, default=None
        Other files to write with it.
    **settings : dict
        Of :func:`card_files`.
    """
    files = card_files(synthetic, path, pictures, **settings)
    _write_all({**files, **(more or {})})
    remove_old_pictures(path, files)
