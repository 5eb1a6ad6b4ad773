"""The folder that a run is stored in: its lock, what it belongs to, its file."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from skdistill.distillation._engine._objective import State
from skdistill.distillation._engine._state import DistillationState
from skdistill.utils._checkpoint import load_checkpoint
from skdistill.utils._differences import describe_difference
from skdistill.utils._files import check_folder, check_writable, claim
from skdistill.utils._memory import is_out_of_memory
from skdistill.utils._untrusted import errors_as_value_errors
from skdistill.utils._warnings import warn

_SECONDS = 30.0

# What a signature calls the seed of a run.
SEED = "seed of random_state"


class Checkpoint:
    """Where a run is stored.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    stored : tuple of dict of Tensor and dict, or None
        What the folder holds.
    signature : dict
        What the run belongs to; set before it is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "state.safetensors"
        self.stored: tuple[State, dict[str, Any]] | None = None
        self.signature: dict[str, Any] = {}
        self._stored_at = time.monotonic()
        self._is_well = True

    def claim(self, held: ExitStack) -> None:
        """Keep other processes out, and see early what could not be stored late."""
        folder = self.folder
        check_folder(folder, "checkpoint")
        if not self.path.exists():
            check_writable(folder, "checkpoint")
        if not held.enter_context(claim(self.path)):
            raise BlockingIOError(
                f"`checkpoint`: {folder} is in use by another fit; wait until it has "
                "ended, or use another folder"
            )

    def read(self) -> tuple[State, dict[str, Any]] | None:
        """Return what the folder holds, if anything."""
        if not self.path.exists():
            return None
        tensors, content = load_checkpoint(self.path)
        signature = content.get("signature")
        seed = isinstance(signature, dict) and signature.get(SEED)
        if type(seed) is not int or seed < 0:
            raise ValueError(
                f"{self.path} cannot be read: it does not describe its run; delete it "
                "to start from the beginning"
            )
        return tensors, content

    @property
    def seed(self) -> int | None:
        """The seed of the run that is stored, if there is one."""
        return None if self.stored is None else self.stored[1]["signature"][SEED]

    def check_same(self, asked: dict[str, Any]) -> None:
        """Raise a ValueError that names what the stored run differs in."""
        if self.stored is None:
            return
        found = self.stored[1]["signature"]
        differences = [
            describe_difference(name, found.get(name), value)
            for name, value in asked.items()
            if found.get(name) != value
        ]
        if differences:
            raise ValueError(
                f"`checkpoint`: {self.folder} holds a run with different data or "
                "parameters ("
                + "; ".join(differences)
                + ("); use another folder, or delete this one")
            )

    def resume(
        self, state: DistillationState, limit_name: str, limit: int | None
    ) -> None:
        """Let the stored run continue, unless it had come to its own end."""
        if self.stored is None:
            return
        with errors_as_value_errors(
            f"{self.path} cannot be read: {{error}}; delete it to start from the "
            "beginning"
        ):
            state.restore(*self.stored)
        # Its tensors are those of the state now.
        self.stored = None
        n_done = len(state.history)
        if limit is not None and n_done > limit:
            raise ValueError(
                f"`checkpoint`: {self.folder} holds {n_done} iterations, more than "
                f"`{limit_name}`={limit}; use another folder, or a larger number"
            )
        if state.stop_reason in ("", "interrupted", "callback", limit_name):
            state.stop(limit_name if n_done == limit else "")
        if not state.stop_reason:
            check_writable(self.folder, "checkpoint")

    def store(
        self,
        state: DistillationState,
        *,
        tell: bool = True,
        then: str = "what was learned is in memory only",
    ) -> bool:
        """Store a run, and tell whether that went well.

        The fit does not fail with it: what it has is more than what is stored.

        Parameters
        ----------
        state : DistillationState
        tell : bool, default=True
            Whether to warn if it went wrong.
        then : str
            What the warning says of what comes next.
        """
        try:
            state.save(self.path, self.signature)
        except Exception as error:
            if not (isinstance(error, OSError) or is_out_of_memory(error)):
                raise
            if tell:
                warn(
                    f"the state after {len(state.history)} iterations could not be "
                    f"stored: {error}; {then}",
                )
            return False
        return True

    def store_now_and_then(self, state: DistillationState) -> None:
        """Store a run where it was not for half a minute."""
        if time.monotonic() - self._stored_at > _SECONDS:
            then = "the fit continues, and tries again in half a minute or at its end"
            self._is_well = self.store(state, tell=self._is_well, then=then)
            self._stored_at = time.monotonic()
