"""One file that holds the state of a long run: tensors and what JSON can say."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from skdistill.utils._files import atomic_path
from skdistill.utils._untrusted import errors_as_value_errors, parse_json

_FORMAT = "skdistill-checkpoint"
_VERSION = "3"


def save_checkpoint(
    path: str | os.PathLike[str], tensors: dict[str, Tensor], content: dict[str, Any]
) -> None:
    """Write a state to one safetensors file, atomically.

    Parameters
    ----------
    path : path-like
    tensors : dict of Tensor
        On any device.
    content : dict
        Anything that JSON can hold; floats come back bitwise identical.

    Raises
    ------
    OSError
        If it cannot be written, as where its folder is gone; the message names it.
    """
    metadata = {
        "format": _FORMAT,
        "version": _VERSION,
        "content": json.dumps(content),
    }
    # A copy each: the format refuses tensors that share memory.
    copies = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in tensors.items()
    }
    with atomic_path(path, make_folder=False) as temporary:
        save_file(copies, temporary, metadata=metadata)


def load_checkpoint(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that :func:`save_checkpoint` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    tensors : dict of Tensor
        On the CPU.
    content : dict

    Raises
    ------
    ValueError
        If the file is damaged or holds something else; the message names it.
    """
    path = Path(path)
    with errors_as_value_errors(
        f"{path} cannot be read: {{error}}; delete it to start from the beginning"
    ):
        # What is no plain file, as a pipe, might never end.
        if not path.is_file():
            is_there = path.exists()
            raise ValueError("it is not a file" if is_there else "it does not exist")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ValueError("it is not a checkpoint")
            if metadata.get("version") != _VERSION:
                raise ValueError(
                    f"its format version is {metadata.get('version')!r}, this version "
                    f"of skdistill reads {_VERSION!r}"
                )
            # In memory of their own, that is aligned as PyTorch's: in that of the file
            # sums of products may be made in another order.
            names = list(file.keys())
            tensors = {name: file.get_tensor(name).clone() for name in names}
        content = parse_json(metadata["content"])
        if not isinstance(content, dict):
            raise ValueError("its content is damaged")
    return tensors, content
