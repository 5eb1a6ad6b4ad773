"""Arrays in files: as a result that does not fit into memory, or as scratch space."""

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from skdistill.utils._files import as_path, atomic_path, check_writable

# Larger intermediate results are kept in a temporary file.
_SCRATCH_BYTES = 2**26


def check_map_path(path: str | os.PathLike[str], parameter: str) -> Path:
    """Return where a map can be written, or say early why it cannot.

    Raises
    ------
    TypeError
        If it is no path.
    ValueError
        If it is empty, if the name does not end in ".npy", or is that of a folder.
    OSError
        If no file can be made there.
    """
    target = as_path(path, parameter)
    if target.suffix != ".npy":
        raise ValueError(f"`{parameter}` must end in '.npy'; got {os.fspath(target)!r}")
    if target.is_dir():
        raise ValueError(f"`{parameter}` must be a file; {target} is a folder")
    check_writable(target.parent, parameter)
    return target


def write_map(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    dtype: Any,
    parts: Iterable[np.ndarray],
    parameter: str = "out",
) -> np.memmap:
    """Write an array to a `.npy` file part by part, atomically.

    Parameters
    ----------
    path : path-like
        Ends in ".npy".  A file of this name stays as it is until all is written, and
        so do maps of it.
    shape : tuple of int
    dtype : dtype
    parts : iterable of ndarray
        What follows one another along the first axis.
    parameter : str
        What the path is called in messages.

    Returns
    -------
    array : memmap
        The array, for reading.

    Raises
    ------
    OSError
        If its disk is too small, or it cannot be written for another reason.
    """
    target = check_map_path(path, parameter)
    dtype = np.dtype(dtype)
    needed = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise OSError(
            f"`{parameter}`: {target} needs {needed / 1e9:.1f} GB on its disk, but "
            f"only {free / 1e9:.1f} GB are free"
        )
    head = {
        "shape": shape,
        "fortran_order": False,
        "descr": np.lib.format.dtype_to_descr(dtype),
    }
    # Through the file and not through a map of it: on a full disk that would end the
    # process instead of raising an error.
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, head)
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype=dtype).data)
    return np.load(target, mmap_mode="r")


def scratch_array(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an empty array, in memory or, if it is large, in a temporary file.

    The file has no name and goes with the array.
    """
    dtype = np.dtype(dtype)
    n_bytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if n_bytes <= _SCRATCH_BYTES:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="skdistill-") as file:
        try:
            # Reserved: a write into a map of a full disk would end the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            else:
                file.truncate(n_bytes)
        except OSError as error:
            raise OSError(
                error.errno,
                f"an intermediate result of {n_bytes / 1e9:.1f} GB does not fit on "
                f"the disk for temporary files ({error.strerror}); use the "
                "environment variable TMPDIR to set another one",
                tempfile.gettempdir(),
            ) from error
        # No np.memmap: joblib would have workers open the file by the name it lacks.
        whole = mmap.mmap(file.fileno(), n_bytes)
    return np.frombuffer(whole, dtype).reshape(shape)
