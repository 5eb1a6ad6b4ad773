"""The Python snippets of the README and of the documentation run as they stand."""

import doctest
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.rst"
# A python block: the directive, its options, and every line indented deeper than it.
CODE_BLOCK = re.compile(
    r"^(?P<indent> *)\.\. code-block:: python\n"
    r"(?P<options>(?: *:[\w-]+:.*\n)*)"
    r"(?P<body>(?:(?P=indent) +\S.*(?:\n|\Z)|[ \t]*\n)+)",
    re.MULTILINE,
)


def _snippets(path):
    """Triples of line number, source and whether it is an interactive session."""
    text = path.read_text(encoding="utf-8")
    end = 0
    for match in [*CODE_BLOCK.finditer(text), None]:
        prose = text[end : match.start() if match else None]
        if ">>> " in prose:
            yield text.count("\n", 0, end), prose, True
        if match:
            block = textwrap.dedent(match["body"])
            yield text.count("\n", 0, match.start("body")), block, ">>> " in block
            end = match.end()


def _run_session(session, name, line, namespace):
    test = doctest.DocTestParser().get_doctest(session, namespace, name, name, line)
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    report = []
    failed, _ = runner.run(test, out=report.append, clear_globs=False)
    assert not failed, "".join(report)
    namespace.update(test.globs)


def test_readme_has_python_to_run():
    assert list(_snippets(README))


PAGES = pytest.mark.parametrize(
    "path",
    [README, *sorted((ROOT / "doc").glob("*.rst"))],
    ids=lambda path: path.name,
)


@PAGES
def test_files_and_tests_that_are_named_are_there(path):
    text = path.read_text(encoding="utf-8")
    named = re.findall(
        r"``((?:tests|benchmarks|examples|doc)/[\w/]+\.\w+)([\w:]*)``", text
    )
    for file, parts in named:
        assert (ROOT / file).is_file(), file
        source = (ROOT / file).read_text(encoding="utf-8")
        for part in filter(None, parts.split("::")):
            found = re.search(rf"^ *(?:def|class) {part}\b", source, re.MULTILINE)
            assert found, f"{file}::{part}"


@PAGES
def test_snippets_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for line, source, is_session in _snippets(path):
        if is_session:
            _run_session(source, str(path), line, namespace)
        else:
            exec(compile("\n" * line + source, str(path), "exec"), namespace)
