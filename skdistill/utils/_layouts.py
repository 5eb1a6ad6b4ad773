"""Distilled sets written as other codes read them."""

import io
import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skdistill.utils._files import atomic_path
from skdistill.utils._warnings import warn

LAYOUTS = ("mtt", "dc", "npz", "huggingface")
CARD_ENTRIES = ("license", "name", "source")


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
        raise TypeError(f"`{next(iter(card))}` is for layout='huggingface'")
    classes, codes = np.unique(synthetic.y, return_inverse=True)
    codes = codes.astype(np.int64)
    if classes.dtype.kind in "iu" and classes.size and classes.min() >= 0:
        # Codes of others need not be without gaps.
        codes, names = synthetic.y.astype(np.int64), None
    else:
        names = classes.tolist()
    rows = synthetic.probabilities if synthetic.targets is None else synthetic.targets
    lost = []
    if names is not None:
        lost.append(f"the names of the classes; read it with `classes`={names}")
    if layout == "dc":
        for name in ("probabilities", "targets", "step_size"):
            if getattr(synthetic, name) is not None:
                lost.append(f"`{name}`")
        rows = None
    if rows is not None:
        # Rows have a column for each class, and codes count them.
        codes = np.unique(synthetic.y, return_inverse=True)[1].astype(np.int64)
        if names is None and not np.array_equal(classes, np.arange(len(classes))):
            lost.append(f"the class labels; read it with `classes`={classes.tolist()}")
        if synthetic.targets is not None and layout == "mtt":
            lost.append("what rows of labels are; read it with `label_kind`='targets'")
        if (rows.argmax(axis=1) != codes).any():
            lost.append(
                "the class of an image whose label is largest for another, which is "
                "told by the order of images at best"
            )
    if synthetic.pixel_space is not None:
        lost.append("`pixel_space`")
    if synthetic.pixel_size > 1:
        lost.append("`pixel_size`")
    if lost:
        warn(f"the layout {layout!r} does not hold " + "; nor ".join(lost))
    labels = codes if rows is None else rows
    if layout == "npz":
        _write_npz(synthetic, labels, path)
    else:
        _write_torch(synthetic, labels, path, layout)


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
        # That of another set would be taken for this one's.
        rate.unlink(missing_ok=True)


def _write_all(files: dict[Path, Callable[[Path], object]]) -> None:
    """Write files, all of them before the first takes the place of an old one."""
    with ExitStack() as finished:
        for path, write in files.items():
            write(finished.enter_context(atomic_path(path)))


def write_pictures(synthetic: Any, pixels: np.ndarray, path: Path) -> None:
    """Write pictures (n_images, height, width, 3) in a folder for each class."""
    classes, codes = np.unique(synthetic.y, return_inverse=True)
    folders = [re.sub(r'[\\/:*?"<>|\0-\37]', "_", str(c)).strip(" .") for c in classes]
    if len({folder.lower() for folder in folders}) < len(folders) or not all(folders):
        raise ValueError(
            f"the classes {classes.tolist()} cannot be names of folders, as which "
            "some would be the same or empty"
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} must be a new or an empty folder")
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


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return file.getvalue()


def _write_huggingface(synthetic: Any, path: Path, card: dict[str, Any]) -> None:
    """Write a folder that ``datasets.load_dataset`` reads."""
    unknown = sorted(set(card) - set(CARD_ENTRIES))
    if unknown:
        raise TypeError(
            f"the card has no {unknown[0]!r}; it has {', '.join(CARD_ENTRIES)}"
        )
    for name, value in card.items():
        if not isinstance(value, str) or "\n" in value:
            raise ValueError(f"`{name}` must be a line of text; got {value!r}")
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "layout='huggingface' takes pyarrow: pip install 'skdistill[parquet]'"
        ) from error
    classes, codes = np.unique(synthetic.y, return_inverse=True)
    pictures = [{"bytes": _png(p), "path": None} for p in synthetic.to_images()]
    shape = list(synthetic.X.shape[1:])
    binary = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = {
        "image": pyarrow.array(pictures, binary),
        "label": pyarrow.array(codes.astype(np.int64)),
        "pixels": pyarrow.array(list(synthetic.X.reshape(len(codes), -1))),
    }
    sequence = {"_type": "Sequence", "feature": {"dtype": "float32", "_type": "Value"}}
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": [str(c) for c in classes.tolist()]},
        "pixels": sequence,
    }
    for name in ("probabilities", "targets"):
        rows = getattr(synthetic, name)
        if rows is not None:
            columns[name] = pyarrow.array(list(rows))
            features[name] = sequence
    info = json.dumps({"info": {"features": features}})
    table = pyarrow.table(columns).replace_schema_metadata({"huggingface": info})
    name = card.get("name", "distilled set")
    text = _card(synthetic, classes, shape, name, card)
    _write_all(
        {
            path / "data" / "train.parquet": lambda file: pyarrow.parquet.write_table(
                table, file
            ),
            path / "synthetic_set.safetensors": lambda file: synthetic.save(file),
            path / "README.md": lambda file: file.write_text(text, encoding="utf-8"),
        }
    )


def _card(
    synthetic: Any, classes: np.ndarray, shape: list[int], name: str, card: dict
) -> str:
    front = {
        **({"license": card["license"]} if "license" in card else {}),
        "pretty_name": name,
        "task_categories": ["image-classification"],
        "tags": ["dataset-distillation", "skdistill"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train.parquet"}],
            }
        ],
    }
    # JSON is YAML, whatever the names have in them.
    head = "\n".join(f"{key}: {json.dumps(value)}" for key, value in front.items())
    kind = "class labels"
    for attribute, words in (
        ("probabilities", "soft labels (column `probabilities`)"),
        ("targets", "regression targets (column `targets`)"),
    ):
        if getattr(synthetic, attribute) is not None:
            kind = words
    step = (
        "none" if synthetic.step_size is None else f"{synthetic.step_size:.6g}, learned"
    )
    origin = f"\n- Distilled from: {card['source']}" if "source" in card else ""
    return f"""---
{head}
---

# {name}

{len(synthetic)} synthetic images of {shape[0]}x{shape[1]} pixels and {shape[2]}
channels for {len(classes)} classes, made by dataset distillation: networks are trained
on them in place of the real images.
{origin}
- Labels: {kind}
- Step size: {step}

Column `image` has pictures to look at, of 8 bits; `pixels` has the images that networks
are trained on, row by row, channels last: `np.reshape(pixels, {shape})`.

The whole set, with step size and pixel space:

```python
from huggingface_hub import hf_hub_download
from skdistill import SyntheticSet

file = hf_hub_download("OWNER/NAME", "synthetic_set.safetensors", repo_type="dataset")
synthetic = SyntheticSet.load(file)
```
"""
