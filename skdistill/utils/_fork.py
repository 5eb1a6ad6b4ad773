"""State to reset in a forked child process."""

import os
from collections.abc import Callable


def after_fork(mend: Callable[[], None]) -> None:
    """Have a function called in each process that is forked from this one.

    A fork copies locks as they are: what another thread held, nobody will ever release.

    Parameters
    ----------
    mend : callable
        Called without arguments, in the new process.
    """
    # Not on Windows, where there is no fork.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=mend)
