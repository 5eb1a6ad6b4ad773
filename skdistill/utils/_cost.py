"""What a fit will cost: the estimate, and what measures a rehearsal of it."""

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skdistill.utils._memory import return_memory

_STATUS = Path("/proc/self/status")
_SAMPLE_SECONDS = 0.005


@dataclass(frozen=True, repr=False)
class CostEstimate:
    """What a fit is expected to take, from a few timed steps.

    Shown as a sentence, such as ``about 2 h 10 min, 1.3 GiB memory, 420 MiB on disk``.

    Read more in the :ref:`User Guide <memory_time>`.

    Parameters
    ----------
    seconds : float or None
        Time of the whole fit; None where the number of iterations is not known.
    memory : int or None
        Peak of the memory in bytes, beside what the process has before the fit: of the
        main memory, or on a GPU of the tensors there.  None where the system does not
        tell.
    disk : int
        Bytes of the files that the fit leaves: snapshots of teachers, the checkpoint,
        and the distilled set once it is saved.  While a file is written again, the old
        one is there too.
    unit : str
        What an iteration is: "iteration" of a distiller, or "epoch" of a teacher.
    n_iter : int or None
        Number of iterations, or of the epochs of all teachers; None if not known.
    seconds_per_iteration : float
        Time of each: of teachers that are trained side by side, each epoch's share.
    is_bound : bool, default=False
        Whether the fit may end earlier by a test of its own.
    teachers : CostEstimate or None, default=None
        The part of teachers that a distiller's fit trains before.

    See Also
    --------
    skdistill.TrajectoryBuffer.estimate_cost : Makes one.

    Examples
    --------
    >>> from skdistill import TrajectoryBuffer, make_galaxies
    >>> X, y = make_galaxies(45, size=16, random_state=0)
    >>> buffer = TrajectoryBuffer(n_teachers=2, n_epochs=3, width=8)
    >>> cost = buffer.estimate_cost(X, y)
    >>> cost
    about ..., ... memory, nothing on disk
    >>> cost.n_iter
    6
    """

    seconds: float | None
    memory: int | None
    disk: int
    unit: str
    n_iter: int | None
    seconds_per_iteration: float
    is_bound: bool = False
    teachers: "CostEstimate | None" = None

    def __repr__(self) -> str:
        if self.seconds is None:
            time = f"about {_duration(self.seconds_per_iteration)} an {self.unit}"
        else:
            time = f"{'at most' if self.is_bound else 'about'} "
            time += _duration(self.seconds)
        if self.teachers is not None and self.teachers.seconds is not None:
            time += f" ({_duration(self.teachers.seconds)} of it for teachers)"
        memory = "unknown" if self.memory is None else _size(self.memory)
        disk = _size(self.disk) if self.disk else "nothing"
        return f"{time}, {memory} memory, {disk} on disk"


def _duration(seconds: float) -> str:
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h"


def _size(n_bytes: int) -> str:
    size = float(n_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1000 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.3g} {unit}" if size < 1000 else f"{size:,.0f} {unit}"


class PeakMemory:
    """Watches the memory of this process inside a block, or of its tensors on a GPU.

    What earlier work has freed is returned to the system first: it would hide what the
    block needs.

    Parameters
    ----------
    device : torch.device

    Attributes
    ----------
    n_bytes : int or None
        The peak above what there was before; None where the system does not tell.
    n_bytes_in_all : int or None
        The peak itself.
    """

    def __init__(self, device: Any) -> None:
        self._device = device
        self.n_bytes: int | None = None
        self.n_bytes_in_all: int | None = None

    def __enter__(self) -> "PeakMemory":
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before: int | None = torch.cuda.memory_allocated(self._device)
            return self
        return_memory()
        self._before = self._peak = _now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if self._before is not None:
            self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        now = _now()
        if now is not None and self._peak is not None:
            self._peak = max(self._peak, now)

    def __exit__(self, *_: Any) -> None:
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)
            peak = torch.cuda.max_memory_allocated(self._device)
            self.n_bytes_in_all = peak
            self.n_bytes = peak - (self._before or 0)
        elif self._before is not None and self._peak is not None:
            self._done.set()
            self._thread.join()
            self._look()
            self.n_bytes_in_all = self._peak
            self.n_bytes = self._peak - self._before


def _now() -> int | None:
    """Return the bytes that belong to this process, None if nobody tells.

    Pages of memory maps of files are not among them: the system drops them when it
    needs their place.
    """
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    # The peak so far: what is below that is not seen.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Stopwatch:
    """Says how long repetitions take, and when there were enough of them.

    Parameters
    ----------
    device : torch.device
        A GPU is waited for.
    n_max : int
        Number of repetitions at most.
    """

    _MIN_REPETITIONS, _MAX_REPETITIONS = 3, 40
    _ENOUGH_SECONDS, _TOO_LONG_SECONDS = 3.0, 30.0

    def __init__(self, device: Any, n_max: int) -> None:
        self._device = device
        self._n_max = min(n_max, self._MAX_REPETITIONS)
        self.n_done = 0
        self.seconds = 0.0
        self._start = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last lap, and count these to no repetition."""
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        found, self._start = now - self._start, now
        return found

    def count(self) -> None:
        """Count the time since the last lap as that of a repetition."""
        self.seconds += self.lap()
        self.n_done += 1

    @property
    def has_enough(self) -> bool:
        """Whether there is nothing more to learn, or no time for it."""
        return (
            self.n_done >= self._n_max
            or (
                self.n_done >= self._MIN_REPETITIONS
                and self.seconds > self._ENOUGH_SECONDS
            )
            or (self.n_done > 0 and self.seconds > self._TOO_LONG_SECONDS)
        )

    @property
    def mean(self) -> float:
        """The seconds of a repetition."""
        return self.seconds / self.n_done
