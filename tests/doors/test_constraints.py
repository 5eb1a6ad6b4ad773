"""Each parameter of each public estimator and function says what it takes."""

import importlib
import inspect
import pkgutil

import pytest

import skdistill

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def public():
    found = {}
    for module in pkgutil.iter_modules(skdistill.__path__):
        if not module.name.startswith("_"):
            home = importlib.import_module(f"skdistill.{module.name}")
            for name in getattr(home, "__all__", []):
                thing = getattr(home, name)
                if inspect.isfunction(thing) or hasattr(thing, "get_params"):
                    found[name] = thing
    return found


@pytest.mark.parametrize("name", public())
def test_every_parameter_is_constrained(name):
    thing = public()[name]
    if inspect.isclass(thing):
        constraints = thing._parameter_constraints
    else:
        constraints = thing._skl_parameter_constraints
    named = {
        parameter
        for parameter, about in inspect.signature(thing).parameters.items()
        if about.kind in _NAMED
    }
    assert named == set(constraints)
