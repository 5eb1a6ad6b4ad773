"""The package as a whole: what an import costs, and what it offers."""

import importlib.metadata
import inspect
import json
import re
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest
from numpydoc.validate import validate

import skdistill
from skdistill.base import BaseDistiller

PUBLIC = [name for name in skdistill.__all__ if name != "__version__"]
INSPECTION = [f"inspection.{name}" for name in skdistill.inspection.__all__]


def _imported_by(code):
    """Top-level modules that a fresh interpreter holds after running `code`."""
    code += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    return {name.partition(".")[0] for name in json.loads(output)}


def test_import_is_light():
    modules = _imported_by("import skdistill")
    assert "skdistill" in modules
    assert not modules & {"torch", "sklearn", "scipy", "pandas", "numpy", "matplotlib"}


@pytest.mark.parametrize("package", ["curation", "datasets", "preprocessing"])
def test_data_packages_do_not_import_torch(package):
    modules = _imported_by(f"from skdistill.{package} import *")
    assert "numpy" in modules
    assert "torch" not in modules


def test_inspection_imports_neither_torch_nor_matplotlib():
    modules = _imported_by("from skdistill.inspection import *")
    assert not modules & {"torch", "matplotlib"}


@pytest.mark.parametrize("name", skdistill.__all__)
def test_public_names_resolve(name):
    assert getattr(skdistill, name) is not None


def test_dir_lists_public_names():
    assert set(PUBLIC) <= set(dir(skdistill))


def test_api_page_lists_every_public_name():
    page = Path(__file__).parents[1] / "doc" / "api.rst"
    listed = set(
        re.findall(r"^   ((?:inspection\.)?\w+)$", page.read_text(), re.MULTILINE)
    )
    public = {name for name in PUBLIC if not inspect.ismodule(getattr(skdistill, name))}
    assert listed == public | set(INSPECTION)


@pytest.mark.parametrize("page", ["distillers", "choosing", "baselines"])
def test_guide_has_every_distiller(page):
    text = (Path(__file__).parents[1] / "doc" / f"{page}.rst").read_text()
    named = set(re.findall(r":class:`(?:[^`<]*<)?(\w+)>?`", text))
    distillers = {
        name
        for name in skdistill.distillation.__all__
        if issubclass(getattr(skdistill, name), BaseDistiller)
    }
    learn = {
        name
        for name in distillers
        if hasattr(getattr(skdistill, name), "_make_objective")
    }
    wanted = {"distillers": distillers, "choosing": learn}
    assert wanted.get(page, distillers - learn) <= named


@pytest.mark.parametrize("name", [*PUBLIC, *INSPECTION])
def test_public_names_are_documented(name):
    thing = attrgetter(name)(skdistill)
    if inspect.ismodule(thing):
        assert inspect.getdoc(thing)
        return
    optional = {
        "ES01",  # no extended summary
        "SA01",  # no See Also
        "RT02",  # returned values are named, as in scikit-learn
        "SS05",  # takes every noun in the plural for a verb
    }
    errors = {name: validate(f"skdistill.{name}")["errors"]}
    if inspect.isclass(thing):
        for method, value in vars(thing).items():
            if callable(value) and not method.startswith("_"):
                report = validate(f"skdistill.{name}.{method}")
                errors[method] = [e for e in report["errors"] if e[0] != "EX01"]
    assert not [
        f"{place}: {code} {text}"
        for place, found in errors.items()
        for code, text in found
        if code not in optional
    ]


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = skdistill.no_such_thing


def test_version_is_that_of_the_metadata():
    assert skdistill.__version__ == importlib.metadata.version("skdistill")


def test_package_is_typed():
    folder = Path(skdistill.__file__).parent
    assert (folder / "py.typed").is_file()
    assert (folder / "__init__.pyi").is_file()
