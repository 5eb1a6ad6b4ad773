"""Each parameter of each public estimator and function says what it takes."""

import functools
import importlib
import inspect
import pkgutil
import re

import pytest
from sklearn.utils._param_validation import InvalidParameterError

import skdistill
import skdistill.inspection

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


def named(thing):
    return {
        name
        for name, about in inspect.signature(thing).parameters.items()
        if about.kind in _NAMED and name not in ("self", "cls")
    }


@pytest.mark.parametrize("name", public())
def test_every_parameter_is_constrained(name):
    thing = public()[name]
    if inspect.isclass(thing):
        constraints = thing._parameter_constraints
    else:
        constraints = thing._skl_parameter_constraints
    assert named(thing) == set(constraints)


# Called by scikit-learn's fit, not by users.
CALLED_BY_FITS = {"ImageRecorder"}


def methods():
    """Return public methods of classes that are no estimators, as displays are."""
    of_teachers = {
        f"TrajectoryBuffer.{part}": getattr(skdistill.TrajectoryBuffer, part)
        for part in ("load", "snapshot", "classifier")
    }
    return of_teachers | {
        f"{name}.{part}": method
        for name in skdistill.inspection.__all__
        for thing in [getattr(skdistill.inspection, name)]
        if inspect.isclass(thing)
        and not hasattr(thing, "get_params")
        and name not in CALLED_BY_FITS
        for part, method in inspect.getmembers(thing, callable)
        if not part.startswith("_")
    }


@pytest.mark.parametrize("name", methods())
def test_every_parameter_of_a_method_is_constrained(name):
    method = methods()[name]
    assert named(method) == set(method._skl_parameter_constraints)


@pytest.mark.parametrize("name", methods())
def test_no_parameter_of_a_method_takes_anything(name):
    """What has a constraint is checked first; X and the like are checked by content."""
    method = methods()[name]
    if not inspect.ismethod(method):
        method = functools.partial(method, None)
    parameters = inspect.signature(method).parameters.values()
    given = {
        about.name: None
        for about in parameters
        if about.default is about.empty and about.kind in _NAMED
    }
    for about in parameters:
        constraints = methods()[name]._skl_parameter_constraints.get(about.name)
        if constraints in (None, "no_validation"):
            continue
        with pytest.raises(InvalidParameterError) as caught:
            method(**{**given, about.name: object()})
        # Of several that are wrong the first is named.
        others = {
            other
            for other in given
            if methods()[name]._skl_parameter_constraints[other] != "no_validation"
        }
        wrong = "|".join(others | {about.name})
        assert re.match(
            f"The '({wrong})' parameter of {re.escape(name)}", str(caught.value)
        )
