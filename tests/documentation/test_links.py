"""The documentation builds without warnings and its links lead somewhere."""

import re
import runpy
from pathlib import Path

import pytest

DOC = Path(__file__).parents[2] / "doc"


@pytest.fixture(scope="module")
def check():
    pytest.importorskip("bs4", reason="needs pip install skdistill[doc]")
    return runpy.run_path(str(DOC / "check_links.py"))["check"]


def test_links_of_the_documentation_lead_somewhere(site, check):
    broken, external = check(site)
    assert not broken
    assert all(address.startswith("https://") for address in external), external


def test_check_finds_what_is_broken(tmp_path, check):
    (tmp_path / "index.html").write_text(
        '<h1 id="here">A page</h1><a href="#here">x</a><a href="#not-here">x</a>'
        '<a href="other.html">x</a><img src="no.png"><a href="mailto:a@b.c">x</a>'
        '<a href="index.html#nor-here">x</a><a href="https://example.org">x</a>'
    )
    broken, external = check(tmp_path)
    assert broken == [
        "index.html: no file no.png",
        "index.html: no file other.html",
        "index.html: no such place #not-here",
        "index.html: no such place index.html#nor-here",
    ]
    assert external == {"https://example.org": 1, "mailto:a@b.c": 1}


def test_changelog_is_short_and_by_theme(site):
    """What fragments say of development versions is not told to users."""
    page = (site / "changelog.html").read_text(encoding="utf-8")
    assert (
        page.index("Loading data<") < page.index("Evaluation<") < page.index("Errors<")
    )
    text = (DOC / "changelog.rst").read_text(encoding="utf-8")
    _, found, section = text.partition("\nVersion 0.1.0 (")
    assert found
    assert len(section.splitlines()) <= 150


def test_formulas_are_drawn_without_a_network(site):
    page = (site / "theory.html").read_text(encoding="utf-8")
    assert page.count("<math") > 50
    assert "mathjax" not in page.lower()


def test_scripts_that_the_documentation_names_are_there():
    root = DOC.parent
    texts = [*DOC.glob("*.rst"), *root.glob("*.rst"), *root.glob("examples/*.py")]
    named = {
        name
        for path in texts
        for name in re.findall(
            r"(?:benchmarks|examples)/\w+\.py", path.read_text(encoding="utf-8")
        )
    }
    assert "benchmarks/matching.py" in named
    assert [name for name in named if not (root / name).is_file()] == []


def test_tests_that_the_documentation_names_are_there():
    root = DOC.parent
    named = {
        name
        for path in DOC.glob("*.rst")
        for name in re.findall(
            r"``(tests/[^`]+\.py\S*?)``", path.read_text(encoding="utf-8")
        )
    }
    assert "tests/test_formats.py" in named
    missing = []
    for name in named:
        path, *parts = name.split("::")
        text = (
            (root / path).read_text(encoding="utf-8") if (root / path).is_file() else ""
        )
        found = [re.search(rf"(def {part}\(|class {part}:)", text) for part in parts]
        if not text or not all(found):
            missing.append(name)
    assert missing == []
