"""An end in order for a process that is told to end, as batch systems do it."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Termination(BaseException):
    """A SIGTERM, on its way through the blocks that have something to put away."""


class Request:
    """What a block knows of a SIGTERM.

    Attributes
    ----------
    received : bool
    at_once : bool
        Whether it interrupts what is running, as Ctrl-C does.
    """

    def __init__(self, at_once: bool) -> None:
        self.received = False
        self.at_once = at_once

    def __call__(self, number: int, frame: Any) -> None:
        """Receive the signal."""
        first, self.received = not self.received, True
        if first and self.at_once:
            raise Termination


@contextmanager
def orderly_end(*, at_once: bool = True) -> Iterator[Request]:
    """Let a SIGTERM inside the block end the process only when the block has ended.

    Batch systems send one some seconds before they kill.  The process still dies of
    the signal: nothing that comes after the block is done.  A handler of the user's is
    left alone, and in other threads than the main one there can be none.

    Parameters
    ----------
    at_once : bool, default=True
        Whether the signal raises :class:`Termination` in the block, for it to leave at
        once.  If not, it has to ask.

    Yields
    ------
    request : Request
        Tells whether there was a signal.
    """
    request = Request(at_once)
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield request
        return
    signal.signal(signal.SIGTERM, request)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if request.received:
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            signal.raise_signal(signal.SIGTERM)
