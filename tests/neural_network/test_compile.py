"""What happens where torch.compile fails."""

from functools import partial

import pytest
import torch

from skdistill.neural_network._compile import Compiled


def test_compiler_that_fails_is_warned_about_and_done_without(monkeypatch):
    calls = []

    def broken(*arguments):
        calls.append(arguments)
        raise RuntimeError("no such luck\nand more")

    monkeypatch.setattr(torch, "compile", lambda *args, **options: broken)
    function = Compiled(lambda x: 2 * x)
    with pytest.warns(UserWarning, match=r"compile failed \(RuntimeError: no such"):
        assert function(3) == 6
    assert function(4) == 8
    # It is tried once.
    assert calls == [(3,)]


def test_failures_that_are_not_the_compilers(monkeypatch):
    def out_of_memory(*arguments):
        raise torch.OutOfMemoryError

    def of_the_function(x):
        raise ZeroDivisionError

    monkeypatch.setattr(torch, "compile", lambda *args, **options: out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        Compiled(of_the_function)(1)
    monkeypatch.setattr(torch, "compile", lambda function, **options: partial(function))
    function = Compiled(of_the_function)
    with (
        pytest.warns(UserWarning, match=r"torch.compile failed"),
        pytest.raises(ZeroDivisionError),
    ):
        function(1)
    with pytest.raises(ZeroDivisionError):
        function(1)
