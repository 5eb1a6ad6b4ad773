"""A run between two iterations: what it learned, where it is, how it is stored."""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skdistill.distillation._history import History, Probes
from skdistill.distillation._stages import CHECK_EVERY
from skdistill.distillation._updates import Learned, State
from skdistill.utils._checkpoint import save_checkpoint
from skdistill.utils._distributed import Ranks

# A mean loss beyond this that still rises is a divergence.  A student that ends where
# it started has a loss of 1.
_FAR_ABOVE = 2.0
# Each setback halves the rates and the step size.
MOST_SETBACKS = 10


@dataclass(frozen=True)
class Progress:
    """Where a run is, but for what it learns.

    Attributes
    ----------
    n_epochs_matched : int
        T.
    stage_start : int
        The iteration that the stage started with.
    n_renewals : int
        How often the last stage was given more time.
    fine_tuning : bool
    rate : float
        What all rates are multiplied by.
    n_setbacks : int
        Setbacks since the last good state.
    watched_from : int
        The iteration from which losses tell of a divergence.
    stop_reason : str
    """

    n_epochs_matched: int
    stage_start: int = 0
    n_renewals: int = 0
    fine_tuning: bool = False
    rate: float = 1.0
    n_setbacks: int = 0
    watched_from: int = 0
    stop_reason: str = ""


class Run:
    """A run between two iterations: everything that a checkpoint has to hold."""

    def __init__(self, learned: Learned, progress: Progress) -> None:
        self.learned = learned
        self.progress = progress
        self.history = History()
        # Those of the stage whose numbers count.
        self.probes = Probes.none()
        # The last losses that tell of a divergence.
        self.losses: tuple[float, ...] = ()
        self.stages: list[dict[str, Any]] = []
        self.good: State = learned.state()
        self.best: State = learned.state()
        self.best_loss = np.inf
        self.best_iteration = 0

    def advance(self, **changes: Any) -> None:
        """Change where the run is."""
        self.progress = replace(self.progress, **changes)

    def begin_iteration(self) -> tuple:
        """Return what :meth:`back_to` needs to undo whatever comes."""
        self.history.condense()
        return (
            self.learned.state(),
            self.progress,
            len(self.history),
            (self.probes, len(self.probes.teacher)),
            self.losses,
            len(self.stages),
            self.good,
            (self.best, self.best_loss, self.best_iteration),
        )

    def back_to(self, mark: tuple) -> None:
        """Undo an iteration."""
        state, self.progress, n_iter, probes, self.losses, n_stages, *states = mark
        self.learned.restore(state)
        self.history.truncate(n_iter)
        self.probes = probes[0].first(probes[1])
        del self.stages[n_stages:]
        self.good, best = states
        self.best, self.best_loss, self.best_iteration = best

    def watch(self, loss: float) -> bool:
        """Keep the state if the losses are good; tell if they are very bad."""
        self.losses = (*self.losses, loss)[-2 * CHECK_EVERY :]
        if (len(self.history) - self.progress.watched_from) % CHECK_EVERY:
            return True
        recent = np.mean(self.losses[-CHECK_EVERY:])
        before = self.losses[:-CHECK_EVERY]
        rising = bool(before) and recent > np.mean(before)
        if (recent > _FAR_ABOVE and rising) or not self.learned.is_finite():
            return False
        if recent <= _FAR_ABOVE or before:
            self.good = self.learned.state()
            self.advance(n_setbacks=0)
            if recent < self.best_loss:
                self.best, self.best_loss = self.good, float(recent)
                self.best_iteration = len(self.history)
        return True

    def set_back(self) -> None:
        """Go back to the last good state, with smaller rates."""
        self.losses = ()
        n_setbacks = self.progress.n_setbacks + 1
        self.learned.restore(self.good)
        # The good state may be older than the last level-up.
        self.learned.step_sizes.extend(self.progress.n_epochs_matched)
        for _ in range(n_setbacks):
            self.learned.step_sizes.shrink()
        self.advance(
            n_setbacks=n_setbacks,
            rate=self.progress.rate / 2,
            watched_from=len(self.history),
            stop_reason="diverged" if n_setbacks == MOST_SETBACKS else "",
        )

    def save(self, path: Path, signature: dict[str, Any]) -> None:
        """Write the run to a file."""
        states = {"now": self.learned.state(), "good": self.good, "best": self.best}
        tensors = {
            f"{name}/{key}": tensor
            for name, state in states.items()
            for key, tensor in state.items()
        }
        rows, reading = self.history.state()
        tensors["history"] = torch.from_numpy(rows)
        tensors["probes"] = torch.from_numpy(self.probes.table())
        content = {
            "signature": signature,
            "progress": asdict(self.progress),
            "stages": self.stages,
            "history": reading,
            "losses": self.losses,
            "best_loss": self.best_loss,
            "best_iteration": self.best_iteration,
        }
        save_checkpoint(path, tensors, content)

    def restore(self, tensors: State, content: dict[str, Any]) -> None:
        """Take on what :meth:`save` wrote.

        What it cannot be is some error or other: the file may be anybody's.
        """
        like = self.learned.state()

        def state(name: str) -> State:
            found = {
                key.removeprefix(f"{name}/"): tensor
                for key, tensor in tensors.items()
                if key.startswith(f"{name}/")
            }
            _check_state(found, like, name)
            return found

        self.learned.restore(state("now"))
        self.good, self.best = state("good"), state("best")
        self.best_loss = content["best_loss"]
        self.best_iteration = content["best_iteration"]
        self.progress = Progress(**content["progress"])
        for entry in fields(Progress):
            value = getattr(self.progress, entry.name)
            if type(value) is not entry.type or (entry.type is int and value < 0):
                raise ValueError(f"its {entry.name} is {value!r}")
        if not isinstance(content["stages"], list):
            raise ValueError("its stages are no list")
        self.stages = content["stages"]
        self.history.restore(tensors["history"].numpy(), content["history"])
        self.losses = tuple(content["losses"])
        for values, stored in zip(self.probes, tensors["probes"], strict=True):
            values.extend(
                int(value) if values.typecode == "q" else value
                for value in stored.tolist()
            )

    def settle(self, ranks: Ranks) -> None:
        """Take on what the first process learned.

        The states of all follow from the same numbers, but may differ in their last
        bits where the machines do.
        """
        if ranks.size == 1:
            return
        now, self.best = ranks.from_first(
            lambda: (_on_cpu(self.learned.state()), _on_cpu(self.best))
        )
        self.learned.restore(now)


def _check_state(found: State, like: State, name: str) -> None:
    """Raise a ValueError unless tensors are such as another state has."""
    for key, tensor in like.items():
        if key not in found:
            raise ValueError(f"it lacks {name}/{key}")
        # There are as many step sizes as epochs that are matched.
        shape = found[key].shape
        if key.startswith("step_sizes.") and found[key].numel() > 0 and len(shape) == 1:
            shape = tensor.shape
        if shape != tensor.shape or found[key].dtype != tensor.dtype:
            raise ValueError(
                f"{name}/{key} is of shape {tuple(found[key].shape)} and type "
                f"{found[key].dtype}"
            )
        if not found[key].isfinite().all():
            raise ValueError(f"{name}/{key} holds NaN or infinite numbers")


def _on_cpu(state: State) -> State:
    return {name: tensor.cpu() for name, tensor in state.items()}
