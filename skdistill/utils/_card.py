"""The card of a set: Markdown with the front matter of Hugging Face, and pictures."""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skdistill.utils._facts import facts_of, loading_code, number_of_real
from skdistill.utils._metadata import check_words
from skdistill.utils._references import references_of
from skdistill.utils._results import result_rows

OWN_FILE = "synthetic_set.safetensors"
MARK = "<!-- Written by skdistill, which replaces it when a card is written here. -->"
_PICTURES = "card_images"
_MAX_CLASSES, _MAX_PER_CLASS = 100, 10
# Sides of an image in pixels: small ones are enlarged, of large ones some are shown.
_MIN_SIDE, _MAX_SIDE, _GAP = 64, 256, 4

# What Hugging Face knows by name; others are "other" with their name beside.
_LICENSES = re.compile(
    r"cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[234]\.[05]|apache-2\.0|mit|bsd(-[23]-clause)?|"
    r"[al]?gpl-[23]\.[01]|gpl|mpl-2\.0|odbl|odc-by|pddl|unlicense|unknown|other|cc"
)
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"))

Writers = dict[Path, Callable[[Path], object]]


def card_files(
    synthetic: Any,
    path: Path,
    pictures: np.ndarray,
    *,
    name: str | None = None,
    scores: Any = None,
    class_names: Any = None,
    table: str | None = None,
) -> Writers:
    """Return what has to be written for a card: each file and how.

    Parameters
    ----------
    synthetic : SyntheticSet
    path : Path
        A folder, or a file that ends in ``.md``.
    pictures : ndarray of shape (n_images, height, width, 3), uint8
    name : str, default=None
        The heading.
    scores : object, default=None
        As :func:`result_rows` takes them.
    class_names : sequence of str or dict, default=None
    table : str, default=None
        The file, from the folder of the card, in which the images are a table that
        ``datasets.load_dataset`` reads.

    Returns
    -------
    files : dict of Path to callable
        Each takes the path to write to.

    Raises
    ------
    FileExistsError
        If there is a file of the card's name that is no card.
    """
    name = check_words(name=name).get("name")
    card, folder = _place(path)
    classes = np.unique(synthetic.y)
    names = _names(class_names, classes.tolist())
    strips = _strips(synthetic.y, classes, pictures)
    files: Writers = {
        folder / _PICTURES / f"class_{place}.png": _saving(strip)
        for place, strip in enumerate(strips)
    }
    files[folder / OWN_FILE] = synthetic.save
    text = _text(synthetic, names, len(strips), name, result_rows(scores), table)
    files[card] = lambda file: file.write_text(text, encoding="utf-8")
    return files


def remove_old_pictures(path: Path, files: Writers) -> None:
    """Remove pictures of classes that an earlier card had and the new one has not."""
    for picture in (_place(path)[1] / _PICTURES).glob("class_*.png"):
        if picture not in files:
            picture.unlink(missing_ok=True)


def _place(path: Path) -> tuple[Path, Path]:
    """Return the file of a card and its folder, or say what is in the way."""
    is_file = path.suffix.lower() == ".md" and not path.is_dir()
    card = path if is_file else path / "README.md"
    if card.parent.exists() and not card.parent.is_dir():
        raise FileExistsError(
            f"`path` must be a folder, or end in .md; {card.parent} is a file"
        )
    if card.is_dir():
        raise FileExistsError(f"{card} is a folder, but must be the file of the card")
    if card.exists():
        with card.open("rb") as file:
            start = file.read(20_000)
        if MARK.encode() not in start:
            raise FileExistsError(
                f"{card} was not written by skdistill and would be overwritten; use "
                "another folder, or another file that ends in .md"
            )
    return card, card.parent


def _names(class_names: Any, classes: Sequence[Any]) -> list[str]:
    if class_names is None:
        return [str(label) for label in classes]
    if isinstance(class_names, Mapping):
        return [str(class_names.get(label, label)) for label in classes]
    names = [str(name) for name in class_names]
    if isinstance(class_names, str) or len(names) != len(classes):
        raise ValueError(
            f"`class_names` must hold a name for each of the {len(classes)} classes; "
            f"got {class_names!r:.100}"
        )
    return names


def _strips(y: np.ndarray, classes: np.ndarray, pictures: np.ndarray) -> list[Any]:
    """Return the images of each class side by side."""
    height, width = pictures.shape[1:3]
    step = -(-max(height, width) // _MAX_SIDE)
    factor = max(1, -(-_MIN_SIDE // max(height, width)))
    strips = []
    for label in classes[:_MAX_CLASSES]:
        some = pictures[y == label][:_MAX_PER_CLASS, ::step, ::step]
        some = some.repeat(factor, axis=1).repeat(factor, axis=2)
        # Transparent gaps would be dark on a dark page.
        padded = np.pad(some, ((0, 0), (0, 0), (0, _GAP), (0, 0)), constant_values=255)
        strips.append(np.concatenate(list(padded), axis=1)[:, :-_GAP])
    return strips


def _saving(picture: np.ndarray) -> Callable[[Path], object]:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG")
    return lambda file: file.write_bytes(content.getvalue())


def cell(text: Any) -> str:
    """Return plain text as Markdown shows it, also in a table."""
    text = escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _fenced(text: str, kind: str) -> str:
    """Return code in a fence that is longer than any in it."""
    longest = max(map(len, re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{kind}\n{text}\n{fence}"


def _front(synthetic: Any, name: str, table: str | None) -> str:
    entries: dict[str, Any] = {}
    license = synthetic.metadata.get("license")
    if isinstance(license, str):
        known = re.sub(r"[\s_]+", "-", license.strip().lower())
        # Of these there is one version.
        known = {"cc0": "cc0-1.0", "bsd": "bsd-3-clause"}.get(known, known)
        if _LICENSES.fullmatch(known):
            entries["license"] = known
        else:
            entries |= {"license": "other", "license_name": license.strip()}
    entries["pretty_name"] = name
    entries["task_categories"] = ["image-classification"]
    entries["tags"] = ["dataset-distillation", "dataset-condensation", "skdistill"]
    sizes = [words for limit, words in _SIZES if len(synthetic) < limit]
    entries["size_categories"] = [sizes[0] if sizes else "n>100K"]
    if table is None:
        # Pictures of the card are not the data.
        entries["viewer"] = False
    else:
        files = [{"split": "train", "path": table}]
        entries["configs"] = [{"config_name": "default", "data_files": files}]
    # JSON is YAML, with names of any characters.
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in entries.items())


def _text(
    synthetic: Any,
    names: list[str],
    n_strips: int,
    name: str | None,
    results: tuple[list[str], list[list[str]]],
    table: str | None,
) -> str:
    metadata = synthetic.metadata
    _, height, width, channels = synthetic.X.shape
    data = metadata.get("data")
    if name is None:
        name = f"{data}, distilled" if isinstance(data, str) else "Distilled images"
    n_real = number_of_real(metadata)
    place_of = " in place of the real images"
    classes = {str(label) for label in np.unique(synthetic.y).tolist()}
    # Of a part of a set the metadata are those of the whole; classes may be renamed.
    if n_real is not None and classes <= n_real.keys():
        n_replaced = sum(n_real[label] for label in classes)
        place_of = f" in place of {n_replaced:,} real ones"
    how = metadata.get("distiller")
    made = "made by dataset distillation" if how is None else f"distilled by {how}"
    parts = [
        f"---\n{_front(synthetic, name, table)}\n---",
        MARK,
        f"# {cell(name)}",
        f"{len(synthetic)} images of {height}x{width} pixels and {channels} "
        f"{'channel' if channels == 1 else 'channels'} for {len(names)} classes, "
        f"{cell(made)}: networks are trained on them{place_of}.",
    ]
    parts += ["## Images", _pictures(synthetic, names, n_strips, n_real)]
    facts = [[cell(one), cell(value)] for one, value in facts_of(synthetic)]
    parts += ["## How they were made", _table(["", ""], facts)]
    parameters = metadata.get("parameters")
    if isinstance(parameters, Mapping) and parameters:
        text = json.dumps(parameters, indent=2)
        parts.append(
            "<details><summary>Parameters</summary>\n\n"
            f"{_fenced(text, 'json')}\n\n</details>"
        )
    head, rows = results
    if rows:
        parts += [
            "## Scores",
            "Scores of new networks trained only on these images, on real images that "
            "were not used in the distillation.",
            _table([cell(one) for one in head], [[cell(v) for v in r] for r in rows]),
        ]
    parts += ["## How to load them", _loading(synthetic, table)]
    references = [
        _fenced(one, "bibtex") if one.startswith("@") else cell(one)
        for one in references_of(metadata)
    ]
    parts += ["## How to cite them", *references]
    return "\n\n".join(parts) + "\n"


def _pictures(
    synthetic: Any,
    names: list[str],
    n_strips: int,
    n_real: dict[str, int] | None,
) -> str:
    labels, counts = np.unique(synthetic.y, return_counts=True)
    classes = labels.tolist()
    rows = []
    for place in range(n_strips):
        row = [cell(names[place])]
        if n_real is not None:
            row.append(str(n_real.get(str(classes[place]), "")))
        alternative = cell(f"distilled images of {names[place]}")
        rows.append([*row, f"![{alternative}]({_PICTURES}/class_{place}.png)"])
    head = ["class", *([] if n_real is None else ["real images"]), "distilled images"]
    notes = []
    if counts.max(initial=0) > _MAX_PER_CLASS:
        notes.append(f"the first {_MAX_PER_CLASS} images of each class")
    if n_strips < len(names):
        notes.append(f"the first {n_strips} of {len(names)} classes")
    table = _table(head, rows)
    return f"{table}\n\nThe table shows {' of '.join(notes)}." if notes else table


def _loading(synthetic: Any, table: str | None) -> str:
    parts = [
        f"`{OWN_FILE}` has the whole set. In a copy of this folder, with skdistill "
        "installed (`pip install skdistill`):",
        _fenced(loading_code(synthetic, OWN_FILE), "python"),
        'From Hugging Face, `huggingface_hub.hf_hub_download("OWNER/NAME", '
        f'"{OWN_FILE}", repo_type="dataset")` returns the path of the file.',
    ]
    if table is not None:
        columns = ["`label` their classes"]
        for name, words in (
            ("probabilities", "soft labels"),
            ("targets", "regression targets"),
        ):
            if getattr(synthetic, name) is not None:
                columns.append(f"`{name}` their {words}")
        shape = list(synthetic.X.shape[1:])
        parts.append(
            "`datasets.load_dataset` reads a table: column `image` has 8-bit pictures "
            "to look at; `pixels` has the images that networks are trained on, row by "
            f"row, channels last, `np.reshape(pixels, {shape})`; "
            f"{' and '.join(columns)}."
        )
    return "\n\n".join(parts)
