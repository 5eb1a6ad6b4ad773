"""Compiling functions of tensors, where that pays and the compiler can."""

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch

# Compiling takes a minute or two.
_STEPS_WORTH_COMPILING = 5000


def pays_to_compile(device: torch.device, n_student_steps: int) -> bool:
    """Decide whether the number of steps is worth compiling for.

    On a CPU they never are: the convolutions take some nine tenths of the time, and
    compiled code was not measurably faster.  On a GPU what is between them costs more,
    and as much in launches as in memory traffic.
    """
    return (
        device.type == "cuda"
        and n_student_steps >= _STEPS_WORTH_COMPILING
        and importlib.util.find_spec("triton") is not None
    )


class Compiled:
    """A function that is compiled, or what it was if the compiler fails."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._eager = function
        self._function = torch.compile(function, dynamic=False)

    def __call__(self, *arguments: Any) -> Any:
        try:
            return self._function(*arguments)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler may raise anything
            if self._function is self._eager:
                raise
            warnings.warn(
                f"torch.compile failed ({type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}); the fit "
                "continues without it, more slowly",
                stacklevel=2,
            )
            self._function = self._eager
            return self._function(*arguments)
