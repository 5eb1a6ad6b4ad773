"""The one place that keeps what a notebook has set in PyTorch out of results."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from skdistill.utils._fork import after_fork
from skdistill.utils._warnings import telling_once

Function = TypeVar("Function", bound=Callable[..., Any])

_AUTOCAST_DEVICES = ("cpu", "cuda", "mps")
# As NumPy has them: probabilities of networks underflow as a matter of course.
_ERRORS: Any = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


class _DefaultType:
    """The default type, which is that of the whole process, while any thread computes.

    Networks are built in it.  float64 stays, for those who want more digits; of the
    shorter types NumPy has not all, and a training in them is another one.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n_inside = 0
        self.before: Any = None

    @contextmanager
    def kept_long(self, torch: Any) -> Iterator[None]:
        with self.lock:
            if not self.n_inside:
                self.before = torch.get_default_dtype()
                if self.before != torch.float64:
                    torch.set_default_dtype(torch.float32)
            self.n_inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.n_inside -= 1
                if not self.n_inside:
                    torch.set_default_dtype(self.before)


_default_type = _DefaultType()


def _mend_after_fork() -> None:
    _default_type.lock = threading.Lock()


after_fork(_mend_after_fork)


@contextmanager
def own_torch_state() -> Iterator[None]:
    """Compute in the block as PyTorch does where nobody has set anything.

    Gradients are recorded and tensors are no inference tensors, there is no autocast,
    tensors without a device are made on the CPU, and the default type is float32 unless
    it is float64; NumPy warns of errors rather than raise them.  What the user has set
    is set again afterwards.  What is warned of once is warned of once in the block.
    """
    with ExitStack() as stack:
        stack.enter_context(telling_once())
        stack.enter_context(np.errstate(**_ERRORS))
        # Who has not imported it has set nothing in it, and need not wait for it.
        torch = sys.modules.get("torch")
        if torch is None:
            yield
            return
        stack.enter_context(_default_type.kept_long(torch))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in _AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        # Only where it is needed: it costs time in every call of PyTorch.
        if _has_other_device(torch):
            stack.enter_context(torch.device("cpu"))
        yield


def _has_other_device(torch: Any) -> bool:
    try:
        return torch.get_default_device().type != "cpu"
    except RuntimeError:
        # One that this machine does not have.
        return True


def with_own_torch_state(function: Function) -> Function:
    """Let a public function or method compute in :func:`own_torch_state`."""

    @wraps(function)
    def computing(*args: Any, **kwargs: Any) -> Any:
        with own_torch_state():
            return function(*args, **kwargs)

    computing._has_own_torch_state = True  # type: ignore[attr-defined]
    return computing  # type: ignore[return-value]
