"""Images that come one by one, streamed into an array or a memory map."""

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import gen_batches
from sklearn.utils.parallel import Parallel, delayed
from tqdm.auto import tqdm

from skdistill.curation._array_file import ArrayFile, take_notes, with_notes
from skdistill.utils._maps import check_map_path
from skdistill.utils._memory import reused_memory
from skdistill.utils._termination import orderly_end

_BATCH_SIZE = 64
# A bar that would be gone at once is not shown.
_BAR_DELAY = 1.0


def progress(n_images: int, verbose: int, what: str = "images") -> Any:
    """Return a progress bar over images.

    Parameters
    ----------
    n_images : int
        How many there are.
    verbose : int
        Whether to show it.
    what : str, default="images"
        What it says.
    """
    return tqdm(total=n_images, desc=what, disable=not verbose, delay=_BAR_DELAY)


def check_out(out: str | os.PathLike[str] | None) -> Path | None:
    """Return where a memory map goes; None is an array in memory.

    Raises
    ------
    ValueError, OSError
        If no `.npy` file can be written there.
    """
    return None if out is None else check_map_path(out, "out")


def collect(
    n_images: int,
    read: Callable[[int], np.ndarray],
    shape: tuple[int, ...],
    dtype: Any,
    *,
    out: Path | None = None,
    stamp: Callable[[int], str] | None = None,
    skip: bool = False,
    n_jobs: int | None = None,
    verbose: int = 0,
    notes: dict[str, set[int]] | None = None,
    places: np.ndarray | None = None,
) -> tuple[np.ndarray, dict[int, str]]:
    """Read images into one array.

    Parameters
    ----------
    n_images : int
        How many there are.
    read : callable
        Takes the position of an image and returns its pixels; raises a ValueError,
        which names the image, if it cannot.
    shape : tuple (height, width, channels)
        That of each image.
    dtype : dtype
        Type of the values.
    out : Path, default=None
        A `.npy` file for them; None is an array in memory.
    stamp : callable, default=None
        Takes a position and says in a text what the image is made of: an interrupted
        call resumes where that is the same.  None never resumes.
    skip : bool, default=False
        Whether images that cannot be read are left out.
    n_jobs : int, default=None
        Number of threads.
    verbose : int, default=0
        Whether to show a progress bar.
    notes : dict of str to set of int, default=None
        To which `read` adds what it guesses or loses.  Those of an interrupted call are
        added where this one resumes.
    places : ndarray of shape (n_images,), default=None
        What the notes call the images; None numbers them.

    Returns
    -------
    images : ndarray or memmap of shape (n_read, *shape)
        Those that were read, in their order.
    failures : dict of int to str
        Why others were not, by position.
    """
    told = {} if notes is None else notes
    names = range(n_images) if places is None else np.asarray(places).tolist()
    batches = list(gen_batches(n_images, _BATCH_SIZE))
    whole = (n_images, *shape)

    def read_batch(number: int, array: Any) -> tuple[int, dict[int, str]]:
        batch = batches[number]
        rows = np.zeros((batch.stop - batch.start, *shape), dtype=dtype)
        failures = {}
        for row, i in enumerate(range(batch.start, batch.stop)):
            try:
                rows[row] = read(i)
            except ValueError as error:
                if not skip:
                    raise
                failures[i] = str(error)
        if isinstance(array, ArrayFile):
            array.write(batch.start, rows)
        else:
            array[batch] = rows
        return number, failures

    def read_all(array: Any, todo: list[int]) -> Iterator[tuple[int, dict[int, str]]]:
        parallel = Parallel(
            n_jobs=n_jobs, require="sharedmem", return_as="generator_unordered"
        )
        with progress(n_images, verbose) as bar:
            bar.update(n_images - sum(_length(batches[i]) for i in todo))
            for number, failed in parallel(delayed(read_batch)(i, array) for i in todo):
                bar.update(_length(batches[number]))
                yield number, failed

    def kept(failures: dict[int, str]) -> np.ndarray:
        keep = np.setdiff1d(np.arange(n_images), list(failures))
        if not len(keep):
            raise ValueError(
                f"{n_images} of {n_images} images could not be read; the first: "
                f"{failures[0]}"
            )
        return keep

    failures: dict[int, str] = {}
    # A decoded image is large enough to be asked from the system each time.
    with reused_memory():
        if out is None:
            array = np.empty(whole, dtype=dtype)
            for _, failed in read_all(array, list(range(len(batches)))):
                failures.update(failed)
            return array[kept(failures)] if failures else array, failures
        digests = [_digest(batch, stamp) for batch in batches]
        # A SIGTERM too leaves notes of all that is finished.
        end = nullcontext() if stamp is None else orderly_end()
        with end, ArrayFile(out, whole, dtype, digests) as file:
            todo = [i for i in range(len(batches)) if i not in file.finished]
            for number, failed in read_all(file, todo):
                batch = names[batches[number]]
                file.finish_part(number, with_notes(failed, told, batch))
            for content in file.finished.values():
                failures.update(take_notes(content, told))
            return file.complete(kept(failures)), failures


def _length(batch: slice) -> int:
    return batch.stop - batch.start


def _digest(batch: slice, stamp: Callable[[int], str] | None) -> str:
    if stamp is None:
        return uuid.uuid4().hex
    text = "\n".join(stamp(i) for i in range(batch.start, batch.stop))
    # Names of files need not be of Unicode.
    content = text.encode(errors="surrogateescape")
    return hashlib.blake2b(content, digest_size=16).hexdigest()
