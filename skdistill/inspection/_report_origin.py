"""Sections of the report: where the images are from, what networks look at, loading."""

import os
from typing import Any

import numpy as np

from skdistill.inspection import _html
from skdistill.inspection._occlusion_display import OcclusionDisplay
from skdistill.inspection._report_networks import Networks
from skdistill.synthetic import SyntheticSet
from skdistill.utils._card import OWN_FILE
from skdistill.utils._facts import facts_of, loading_code
from skdistill.utils._metadata import A_PATH, plain
from skdistill.utils._stretch import Stretch

# Number of classes of which one real image is shown with its map.
_MAX_OCCLUDED = 9
# Parameters that hold a folder, even if they look like something else.
_FOLDERS = {"buffer", "cache", "checkpoint", "images_dir", "memory", "out", "path"}


def origin_section(synthetic: SyntheticSet) -> str:
    """Say where data and images are from, as far as the set knows."""
    text = "From the metadata of the set."
    if "data" not in synthetic.metadata:
        text += (
            " The source of the data is not given; add it by "
            "`synthetic.described(data=..., license=...)`."
        )
    return _html.note(text) + _html.table(
        ["what", "value"], facts_of(synthetic), "Origin of the images"
    )


def occlusion_section(
    networks: Networks,
    y_test: np.ndarray,
    classes: np.ndarray,
    names: list[str],
    preprocessing: Any,
    look: Stretch,
) -> str:
    """Show what the first network looks at in a test image of each class."""
    name_of = dict(zip(classes.tolist(), names, strict=True))
    shown = [label for label in classes.tolist() if (y_test == label).any()]
    rows = [int(np.argmax(y_test == label)) for label in shown][:_MAX_OCCLUDED]
    display = OcclusionDisplay._of_look(
        networks.first,
        networks.X_test[rows],
        y_test[rows],
        look=look,
        preprocessing=preprocessing,
        class_names=[
            str(name_of.get(label, label)) for label in networks.first.classes_.tolist()
        ],
        # The page says once what is black and white.
        tell_look=False,
    )
    told = ", ".join(name_of[label] for label in y_test[rows].tolist())
    left_out = ""
    if len(rows) < len(shown):
        left_out = f" Only the first {len(rows)} of {len(shown)} classes are shown."
    return _html.plot(
        display.figure_,
        f"A test image of each class, from left to right: {told}. Below each image is "
        "a map: red where hiding that part makes the class less likely, blue where it "
        "makes it more likely.",
        "Regions that a network trained only on the distilled images uses in the "
        f"first test image of each class.{left_out}",
        wide=True,
    )


def loading_section(synthetic: SyntheticSet) -> str:
    """Say how the set is kept in a file, and loaded from it."""
    return _html.note(
        f'distiller.synthetic_.save("{OWN_FILE}") writes the set to a file, and '
        "distiller.synthetic_.card(folder) writes a folder with a card and pictures. "
        "To load the file:"
    ) + _html.code(loading_code(synthetic, OWN_FILE), "How to load the set")


def parameters_section(distiller: Any) -> str:
    """List all parameters; of folders only that there is one."""
    parameters = distiller.get_params(deep=True)
    rows = [[name, short(name, parameters[name])] for name in sorted(parameters)]
    return _html.table(["parameter", "value"], rows, "Parameters of the distiller")


def short(name: str, value: Any) -> str:
    """Write the value of a parameter, of arrays only the shape."""
    if isinstance(value, (str, os.PathLike)):
        is_folder = name.rpartition("__")[2] in _FOLDERS
        return A_PATH if is_folder else repr(plain(value))
    if hasattr(value, "get_params") and not isinstance(value, type):
        # Its own parameters are listed, too.
        return type(value).__name__
    text = " ".join(str(plain(value)).split())
    return text if len(text) <= 300 else f"{text[:300]} …"
