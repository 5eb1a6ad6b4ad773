"""A run between two iterations: what it learned, where it is, how it is stored."""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skdistill.distillation._engine._history import History
from skdistill.distillation._engine._objective import Objective, State
from skdistill.distillation._engine._parameters import SyntheticParameters
from skdistill.utils._checkpoint import save_checkpoint
from skdistill.utils._distributed import Ranks

# Number of losses in a mean that is checked.
WATCH_EVERY = 10

# A rising mean loss above this multiple of the first losses is a divergence.
_FAR_ABOVE = 2.0
# The first losses are used up to this multiple of the very first, which is that of the
# initial images: the others may have diverged already.
_MAX_FIRST_RISE = 10.0

# No run makes more steps.
_MAX_COUNT = 2**40

# Each roll-back halves the learning rates.
MAX_ROLL_BACKS = 10


@dataclass(frozen=True)
class Progress:
    """Where a run is, but for what it learns.

    Attributes
    ----------
    n_roll_backs : int
        Roll-backs since the last good state.
    watched_from : int
        The iteration from which losses are checked for a divergence.
    losses : tuple of float
        The last of them.
    reference_loss : float
        What losses are compared with; NaN before the first ten.
    best_loss : float
        The least mean of ten losses of the present stage.
    best_iteration : int
        The number of iterations after which ``best_synthetic_`` was obtained.
    best_stage : int
        The stage that it is of.
    stop_reason : str
    """

    n_roll_backs: int = 0
    watched_from: int = 0
    losses: tuple[float, ...] = ()
    reference_loss: float = np.nan
    best_loss: float = np.inf
    best_iteration: int = 0
    best_stage: int = 0
    stop_reason: str = ""


@dataclass(frozen=True)
class Snapshot:
    """Everything that an iteration changes, as it was before."""

    parameters: State
    learning_rate_factor: float
    stage: int
    objective: State
    progress: Progress
    n_iter: int
    good: State
    best: State


class DistillationState:
    """A run between two iterations: everything that a checkpoint has to hold.

    Parameters
    ----------
    parameters : SyntheticParameters
    objective : Objective

    Attributes
    ----------
    progress : Progress
    history : History
    good, best : dict of Tensor
        The last state of the parameters whose losses were good, and the state with
        the least losses.
    """

    def __init__(self, parameters: SyntheticParameters, objective: Objective) -> None:
        self.parameters = parameters
        self.objective = objective
        self.progress = Progress()
        self.history = History(
            objective.columns, objective.notes, objective.last_columns
        )
        self.good: State = parameters.state()
        self.best: State = self.good

    @property
    def stop_reason(self) -> str:
        """Why the run is at its end; "" where it is not."""
        return self.progress.stop_reason

    def stop(self, reason: str) -> None:
        """Say why the run is at its end, or with "" that it is not."""
        self._note(stop_reason=reason)

    def _note(self, **changes: Any) -> None:
        self.progress = replace(self.progress, **changes)

    # An iteration is a transaction.

    def snapshot(self) -> Snapshot:
        """Return what :meth:`roll_back` needs to undo what comes next."""
        self.history.condense()
        return Snapshot(
            self.parameters.state(),
            self.parameters.learning_rate_factor,
            self.parameters.stage,
            self.objective.state(),
            self.progress,
            len(self.history),
            self.good,
            self.best,
        )

    def roll_back(self, snapshot: Snapshot) -> None:
        """Undo an iteration that did not come to its end."""
        self.parameters.restore(snapshot.parameters)
        self.parameters.learning_rate_factor = snapshot.learning_rate_factor
        self.parameters.stage = snapshot.stage
        self.objective.restore(snapshot.objective)
        self.progress = snapshot.progress
        self.history.truncate(snapshot.n_iter)
        self.good, self.best = snapshot.good, snapshot.best

    # Divergence.

    def watch(self, loss: float) -> bool:
        """Keep the parameters if the losses are good; tell if they are very bad."""
        if not self.parameters.is_finite():
            # What no evaluation can see is not shown, kept or stored either.
            return False
        losses = (*self.progress.losses, loss)[-2 * WATCH_EVERY :]
        self._note(losses=losses)
        if (len(self.history) - self.progress.watched_from) % WATCH_EVERY:
            return True
        reference = self.progress.reference_loss
        if np.isnan(reference):
            first = losses[0]
            reference = min(
                float(np.median(losses)), first + (_MAX_FIRST_RISE - 1) * abs(first)
            )
            self._note(reference_loss=reference)
        recent = float(np.mean(losses[-WATCH_EVERY:]))
        before = losses[:-WATCH_EVERY]
        rising = bool(before) and recent > np.mean(before)
        # Losses may be negative, where twice as much would be better.
        far_above = recent > reference + (_FAR_ABOVE - 1) * abs(reference)
        if far_above and rising:
            return False
        if not far_above or before:
            self.good = self.parameters.state()
            self._note(n_roll_backs=0)
            # Losses of other stages are not comparable.
            stage = self.parameters.stage
            if recent < self.progress.best_loss or stage > self.progress.best_stage:
                self.best = self.good
                self._note(
                    best_loss=recent, best_iteration=len(self.history), best_stage=stage
                )
        return True

    def return_to_good(self) -> None:
        """Roll back to the last good parameters, with smaller learning rates."""
        n_roll_backs = self.progress.n_roll_backs + 1
        self.history.mark_rolled_back()
        self.parameters.restore(self.good)
        self.parameters.learning_rate_factor /= 2
        self.objective.rolled_back(self.parameters, n_roll_backs)
        self._note(
            n_roll_backs=n_roll_backs,
            watched_from=len(self.history),
            losses=(),
            stop_reason="diverged" if n_roll_backs >= MAX_ROLL_BACKS else "",
        )

    # Storage.

    def save(self, path: Path, signature: dict[str, Any]) -> None:
        """Write the run to a file."""
        states = {
            "now": self.parameters.state(),
            "good": self.good,
            "best": self.best,
            "objective": self.objective.state(),
        }
        tensors = {
            f"{name}/{key}": tensor
            for name, state in states.items()
            for key, tensor in state.items()
        }
        rows, reading = self.history.state()
        tensors["history"] = torch.from_numpy(rows)
        content = {
            "signature": signature,
            "progress": asdict(self.progress),
            "learning_rate_factor": self.parameters.learning_rate_factor,
            "stage": self.parameters.stage,
            "history": reading,
        }
        save_checkpoint(path, tensors, content)

    def restore(self, tensors: State, content: dict[str, Any]) -> None:
        """Take on what :meth:`save` wrote.

        What it cannot be is some error or other: the file may be anybody's.
        """
        like = self.parameters.state()

        def state(name: str) -> State:
            return {
                key.removeprefix(f"{name}/"): tensor
                for key, tensor in tensors.items()
                if key.startswith(f"{name}/")
            }

        for name in ("now", "good", "best"):
            self._check_state(state(name), like, name)
        self.parameters.restore(state("now"))
        self.good, self.best = state("good"), state("best")
        factor, stage = content["learning_rate_factor"], content["stage"]
        if type(factor) is not float or not 0 < factor < math.inf:
            raise ValueError(f"its learning_rate_factor is {factor!r}")
        if type(stage) is not int or stage < 0:
            raise ValueError(f"its stage is {stage!r}")
        self.parameters.learning_rate_factor = factor
        self.parameters.stage = stage
        progress = dict(content["progress"])
        progress["losses"] = tuple(progress["losses"])
        self.progress = Progress(**progress)
        for entry in fields(Progress):
            value = getattr(self.progress, entry.name)
            if type(value) is not entry.type and not isinstance(value, tuple):
                raise ValueError(f"its {entry.name} is {value!r}")
            if isinstance(value, int) and value < 0:
                raise ValueError(f"its {entry.name} is {value!r}")
        if not all(type(loss) is float for loss in self.progress.losses):
            raise ValueError(f"its losses are {self.progress.losses!r}")
        self.history.restore(tensors["history"].numpy(), content["history"])
        self.objective.restore(state("objective"))

    def _check_state(self, found: State, like: State, name: str) -> None:
        """Raise a ValueError unless tensors are such as the parameters have."""
        for key, tensor in like.items():
            if key not in found:
                raise ValueError(f"it lacks {name}/{key}")
            shape = found[key].shape
            # Of what an objective learns beside images and labels there may be more
            # than at the start.
            of_extra = key.partition(".")[0] in self.parameters.extras
            if of_extra and found[key].numel() > 0 and len(shape) == 1:
                shape = tensor.shape
            if shape != tensor.shape or found[key].dtype != tensor.dtype:
                raise ValueError(
                    f"{name}/{key} has shape {tuple(found[key].shape)} and type "
                    f"{found[key].dtype}"
                )
            if not found[key].isfinite().all():
                raise ValueError(f"{name}/{key} holds NaN or infinite numbers")
            if not tensor.is_floating_point() and not (
                found[key].min() >= 0 and found[key].max() < _MAX_COUNT
            ):
                raise ValueError(f"{name}/{key} holds invalid counts")

    def settle(self, ranks: Ranks) -> None:
        """Take on what the first process learned.

        The states of all follow from the same numbers, but may differ in their last
        bits where the machines do.
        """
        if ranks.size == 1:
            return
        now, self.best = ranks.from_first(
            lambda: (_on_cpu(self.parameters.state()), _on_cpu(self.best))
        )
        self.parameters.restore(now)


def _on_cpu(state: State) -> State:
    return {name: tensor.cpu() for name, tensor in state.items()}
