"""The loop of a distillation: iterations, progress, callbacks, interrupts, errors."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from tqdm.auto import tqdm

from skdistill.distillation._engine._checkpoint import Checkpoint
from skdistill.distillation._engine._data_parallel import evaluate_draws
from skdistill.distillation._engine._objective import Draw
from skdistill.distillation._engine._state import MAX_ROLL_BACKS, DistillationState
from skdistill.utils._callbacks import FitTasks
from skdistill.utils._distributed import Ranks
from skdistill.utils._memory import is_out_of_memory
from skdistill.utils._termination import Request, Termination
from skdistill.utils._warnings import warn


class Optimization:
    """The iterations of a fit, from wherever its state is.

    Parameters
    ----------
    state : DistillationState
    seed : int
        Decides on all draws.
    limit_name : str
        The parameter that says after how many iterations the fit ends in any case.
    limit : int or None
        Its value.
    checkpoint : Checkpoint or None
        Where this process stores the run.
    tasks : FitTasks
        What callbacks are told by.
    so_far : callable
        Returns the attributes that the fit would leave behind if it ended here.
    keep : callable
        Sets them.
    ranks : Ranks
    end : Request
        Whether the system asks the process to end.
    verbose : bool
    """

    def __init__(
        self,
        state: DistillationState,
        *,
        seed: int,
        limit_name: str,
        limit: int | None,
        checkpoint: Checkpoint | None,
        tasks: FitTasks,
        so_far: Callable[[], dict[str, Any]],
        keep: Callable[[], None],
        ranks: Ranks,
        end: Request,
        verbose: bool,
    ) -> None:
        self._state = state
        self._seed = seed
        self._limit_name = limit_name
        self._limit = limit
        self._checkpoint = checkpoint
        self._tasks = tasks
        self._so_far = so_far
        self._keep = keep
        self._ranks = ranks
        self._end = end
        self._verbose = verbose
        self._device: torch.device = state.parameters.images.device
        self._has_run = self._is_stored = False

    def run(self) -> None:
        """Iterate until there is a reason to stop."""
        if self._state.stop_reason:
            return
        self._has_run = True
        with (
            self._progress_bar() as bar,
            self._ranks.deferred_interrupt() as noted,
        ):
            self._iterate(bar, lambda: noted() or self._end.received)
        self._end.at_once = False

    def finish(self) -> None:
        """Put away what was learned, and say how it ended."""
        state, checkpoint = self._state, self._checkpoint
        # First in memory: what comes next may be interrupted, or may fail, as where
        # warnings are errors.
        try:
            state.settle(self._ranks)
            # A process that is told to end has no time, and nobody to keep it for.
            if not self._end.received:
                self._keep()
        finally:
            if self._has_run and checkpoint is not None:
                self._is_stored = checkpoint.store(state)
        if self._ranks.is_first:
            self._tell_of_end()

    def _progress_bar(self) -> tqdm:
        return tqdm(
            desc="distillation",
            unit="iteration",
            total=self._limit,
            initial=len(self._state.history),
            disable=not (self._verbose and self._ranks.is_first),
        )

    def _iterate(self, bar: tqdm, interrupted: Callable[[], bool]) -> None:
        state, tasks = self._state, self._tasks
        before = None
        try:
            while not state.stop_reason:
                before = state.snapshot()
                tasks.begin_step()
                numbers = self._iteration(interrupted)
                bar.set_postfix(state.objective.progress(numbers), refresh=False)
                bar.update()
                stop = tasks.end_step(self._so_far, partial(self._told, numbers))
                if tasks.are_told:
                    stop = self._ranks.any(stop, self._device)
                if stop and not state.stop_reason:
                    state.stop("callback")
                if self._checkpoint is not None and not state.stop_reason:
                    self._checkpoint.store_now_and_then(state)
                # Nothing is to be undone between two iterations.
                before = None
            # From here on a signal waits until all is put away.
            self._end.at_once = False
        except (KeyboardInterrupt, Termination):
            if before is not None:
                state.roll_back(before)
            if not state.stop_reason:
                state.stop("interrupted")
        except BaseException as error:
            # As a GPU without memory, a disk that is gone, or sys.exit in a callback.
            if before is not None:
                state.roll_back(before)
            self._save_what_there_is(error)
            raise

    def _save_what_there_is(self, error: BaseException) -> None:
        """Put away what an error leaves, and say so."""
        state, checkpoint = self._state, self._checkpoint
        hint = state.objective.out_of_memory_hint
        if hint and is_out_of_memory(error):
            error.add_note(hint)
        n_done = len(state.history)
        # After an error of a GPU there may be nothing to store or to keep.
        with suppress(Exception):
            if checkpoint is not None and checkpoint.store(state):
                error.add_note(
                    f"The {n_done} iterations before this are stored in "
                    f"{checkpoint.folder}: the same fit resumes from them."
                )
        with suppress(Exception):
            self._keep()
            error.add_note(f"`synthetic_` holds the images after {n_done} iterations.")

    def _iteration(self, interrupted: Callable[[], bool]) -> dict[str, float]:
        """Evaluate, learn, and decide how to continue; return what was measured."""
        state, objective = self._state, self._state.objective
        iteration = len(state.history)
        draws = [
            Draw(self._seed, iteration, place) for place in range(objective.n_draws)
        ]
        metrics, notes, gradients = evaluate_draws(
            objective, state.parameters, draws, self._ranks, interrupted
        )
        numbers = metrics | notes
        state.history.append(numbers)
        if not np.isfinite(list(metrics.values())).all():
            state.return_to_good()
        else:
            state.parameters.step(gradients, numbers)
            if not state.watch(numbers["loss"]):
                state.return_to_good()
            else:
                state.stop(objective.advance(state.parameters, numbers, draws[0]))
        if not state.stop_reason and len(state.history) == self._limit:
            state.stop(self._limit_name)
        shown = (*objective.notes, *objective.columns, *objective.last_columns)
        return {name: numbers[name] for name in shown if name in numbers}

    def _told(self, numbers: dict[str, float]) -> dict[str, float]:
        """Return what callbacks learn of the last iteration."""
        n_done = len(self._state.history)
        rates = self._state.parameters.learning_rates()
        return {"iteration": n_done, **numbers, **rates}

    def _tell_of_end(self) -> None:
        reason, n_done = self._state.stop_reason, len(self._state.history)
        if reason == "interrupted":
            where = "; the same fit resumes from it" if self._is_stored else ""
            warn(
                f"the distillation was interrupted after {n_done} iterations; the "
                f"images so far are kept{where}",
            )
        elif reason == "diverged":
            warn(
                f"the distillation diverged: {MAX_ROLL_BACKS} times in a row it was "
                "rolled back to its last good images with half the learning rates; "
                "these images are kept.  A smaller learning rate may help: see "
                "`pixel_lr` and, where they exist, `label_lr` and `step_size`",
                ConvergenceWarning,
            )
