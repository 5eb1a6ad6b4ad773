"""What the repository's host and its tools read, and how `make` sets up."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import skdistill

yaml = pytest.importorskip("yaml", reason="needs pip install pyyaml")

ROOT = Path(__file__).parents[1]
HOST = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
CONSTRAINTS = ("constraints.txt", "constraints-oldest.txt")
needs_clone = pytest.mark.skipif(
    not HOST.is_dir(), reason="what concerns the repository alone is not published"
)


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


# What the host reads


@needs_clone
def test_workflow_calls_make_alone():
    workflow = read(HOST / "workflows" / "tests.yml")
    commands = [
        step["run"]
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    assert set(commands) == {
        "make browser",
        "make test",
        "make oldest",
        "make doc",
    }
    assert {command.removeprefix("make ") for command in commands} <= TARGETS
    assert workflow["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    # YAML 1.1 reads the key `on` as a truth value.
    assert {"push", "pull_request"} <= set(workflow[True])


@needs_clone
def test_workflow_has_the_pythons_of_the_metadata():
    jobs = read(HOST / "workflows" / "tests.yml")["jobs"]
    pythons = jobs["newest"]["strategy"]["matrix"]["python-version"]
    prefix = "Programming Language :: Python :: 3."
    named = [name for name in PROJECT["classifiers"] if name.startswith(prefix)]
    assert pythons == [name.rpartition(" ")[2] for name in named]
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    versions = [
        step["with"]["python-version"]
        for name in ("oldest", "documentation")
        for step in jobs[name]["steps"]
        if "python-version" in step.get("with", {})
    ]
    assert versions[0] == pythons[0]
    assert set(versions) <= set(pythons)


@needs_clone
def test_own_ci_runs_what_the_workflow_runs():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^(?:exec )?make (\w+)", script, re.MULTILINE) == [
        "browser",
        "test",
    ]


@needs_clone
@pytest.mark.parametrize("name", ["bug.yml", "idea.yml"])
def test_issue_forms(name):
    form = read(HOST / "ISSUE_TEMPLATE" / name)
    assert form["name"]
    assert form["description"]
    identifiers = [part["id"] for part in form["body"]]
    assert len(set(identifiers)) == len(identifiers)
    assert all(part["attributes"]["label"] for part in form["body"])
    assert any(part["validations"]["required"] for part in form["body"])


def test_citation_agrees_with_the_metadata():
    citation = read(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == PROJECT["name"]
    assert citation["abstract"] == PROJECT["description"]
    assert citation["version"] == skdistill.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["keywords"] == PROJECT["keywords"]
    assert citation["authors"] == PROJECT["authors"]
    assert citation["repository-code"] == PROJECT["urls"]["Source"]
    pages = (ROOT / "doc" / "citing.rst").read_text(encoding="utf-8")
    for reference in citation["references"]:
        assert reference["title"] in pages
        assert all(author["family-names"] in pages for author in reference["authors"])


def test_addresses_are_of_one_repository():
    source = PROJECT["urls"]["Source"]
    for address in PROJECT["urls"].values():
        assert address.startswith(source)
        _, found, path = address.partition("/blob/main/")
        assert not found or (ROOT / path).is_file()


@needs_clone
def test_hooks_have_the_versions_of_the_checks():
    pinned = dict(
        line.split(" ;")[0].split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    hooks = read(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    checks = []
    for hook in hooks:
        (requirement,) = hook["additional_dependencies"]
        name, version = requirement.split("==")
        if name != "pre-commit-hooks":  # which `make lint` does without
            assert pinned[name] == version, hook["id"]
            checks.append(name)
        # The whole of `make lint` at every commit is what people switch off.
        assert "make" not in hook["entry"]
    assert set(checks) == {"ruff", "codespell", "numpydoc"}


def test_fragments_of_the_changelog_have_names_of_its_kinds():
    kinds = {
        kind["directory"]
        for kind in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
            "towncrier"
        ]["type"]
    }
    fragments = {path.name for path in (ROOT / "changelog").iterdir()} - {"README.rst"}
    pattern = rf"(\d+|\+[\w-]+)\.({'|'.join(kinds)})(\.\d+)?\.rst"
    assert [name for name in fragments if not re.fullmatch(pattern, name)] == []


# How `make` sets up

# A Python that makes environments of a file, and an installer of either kind.  Each
# writes down how it was called.
PYTHON = """#!/bin/bash
echo "python $*" >> "$LOG"
if [ "$1" = -c ]; then exit 0; fi
if [ "$2" = venv ]; then
    rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python"
fi
"""
UV = """#!/bin/bash
echo "uv $*" >> "$LOG"
exit ${UV_FAILS:-0}
"""

needs_make = pytest.mark.skipif(
    not (shutil.which("make") and shutil.which("bash")), reason="needs make and bash"
)


class Folder:
    """A clone whose Python and uv install nothing."""

    def __init__(self, path):
        self.path = path
        for name in ("Makefile", "pyproject.toml", *CONSTRAINTS):
            shutil.copy(ROOT / name, path / name)
        for name, script in (("python", PYTHON), ("uv", UV)):
            (path / name).write_text(script)
            (path / name).chmod(0o755)

    def run(self, *arguments, **environment):
        """Return what make said."""
        # The tests may have been started by a make, with settings of its own.
        own = {name: os.environ[name] for name in os.environ if "MAKE" not in name}
        return subprocess.run(
            ["make", *arguments],
            cwd=self.path,
            env={**own, **environment},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def make(self, target, uv="./uv", **environment):
        """Return what was called, and what was said."""
        log = self.path / "log"
        log.write_text("")
        said = self.run(
            target, "PYTHON=./python", f"UV={uv}", LOG=str(log), **environment
        )
        return log.read_text().splitlines(), said

    def stamps(self):
        return sorted(path.name for path in (self.path / ".venv").glob(".install*"))


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def installed(calls):
    return [call for call in calls if " install " in f"{call} "]


@needs_make
def test_demo_installs_what_it_needs(folder):
    calls, said = folder.make(".venv/.installed")
    assert calls[0] == "python -m venv --clear .venv"
    assert installed(calls) == [
        "uv pip install --python .venv/bin/python "
        "--constraint constraints.txt --editable .[plot]"
    ]
    assert "GB of disk" in said
    assert "minute" in said
    assert folder.stamps() == [".installed"]
    assert not folder.make(".venv/.installed")[0]


@needs_make
def test_tests_extend_the_environment_of_the_demo(folder):
    folder.make(".venv/.installed")
    calls, _ = folder.make(".venv/.installed-dev")
    assert not any("venv --clear" in call for call in calls)
    assert installed(calls)[0].endswith("--editable .[plot,dev]")
    assert folder.stamps() == [".installed", ".installed-dev"]
    for stamp in folder.stamps():
        assert not folder.make(f".venv/{stamp}")[0]


@needs_make
def test_without_uv_pip_installs(folder):
    for uv, environment in (("./uv", {"UV_FAILS": "2"}), ("none", {})):
        shutil.rmtree(folder.path / ".venv", ignore_errors=True)
        calls, said = folder.make(".venv/.installed", uv=uv, **environment)
        assert calls[-1] == (
            "python -m pip --disable-pip-version-check install "
            "--constraint constraints.txt --editable .[plot]"
        )
        assert "pip installs" in said
        assert folder.stamps() == [".installed"]
    # Where there is no uv, pip is asked for one first.
    shutil.rmtree(folder.path / ".venv")
    calls, _ = folder.make(".venv/.installed", uv="")
    assert installed(calls)[0].endswith(" install uv")


@needs_make
@pytest.mark.parametrize("stamp", [".installed", ".installed-dev"])
def test_environment_that_was_cut_off_is_made_anew(folder, stamp):
    folder.make(".venv/.installed")
    environment = folder.path / ".venv"
    # As a kill leaves it.
    (environment / ".installed").unlink()
    (environment / ".installing").touch()
    (environment / "half-a-package").touch()
    calls, _ = folder.make(f".venv/{stamp}")
    assert "python -m venv --clear .venv" in calls
    assert not (environment / "half-a-package").exists()
    assert folder.stamps() == sorted({".installed", stamp})


@needs_make
def test_failed_installation_leaves_no_stamp(folder):
    folder.make(".venv/.installed")
    broken = folder.path / ".venv" / "bin" / "python"
    broken.write_text(PYTHON + '[[ "$*" != *" install "* ]]\n')
    (folder.path / "pyproject.toml").touch()
    with pytest.raises(subprocess.CalledProcessError):
        folder.make(".venv/.installed", uv="none")
    assert folder.stamps() == [".installing"]


@needs_make
def test_bench_leaves_out_what_has_no_data(folder):
    (folder.path / "benchmarks").mkdir()
    names = ("_data", "beyond", "kip", "matching", "published", "table1", "table2")
    for name in names:
        (folder.path / "benchmarks" / f"{name}.py").touch()
    calls, said = folder.make("bench")
    ran = [call for call in calls if "benchmarks/" in call]
    assert ran == [f"python benchmarks/{name}.py" for name in ("kip", "matching")]
    assert "Left out: benchmarks/beyond.py needs DATA=folder" in said
    assert "Left out: benchmarks/published.py needs DATA=folder SETS=files" in said
    assert "Left out: benchmarks/table1.py needs GALAXIES=folder" in said
    calls, said = folder.make("bench", DATA="my images", SETS="one.pt two.pt")
    assert [call for call in calls if "benchmarks/" in call] == [
        "python benchmarks/beyond.py --data my images",
        "python benchmarks/kip.py --data my images",
        "python benchmarks/matching.py",
        "python benchmarks/published.py --data my images --sets one.pt two.pt",
        "python benchmarks/table2.py --data my images",
    ]
    assert said.count("Left out") == 1
    # One that fails is named at the end; the others run.
    broken = folder.path / ".venv" / "bin" / "python"
    broken.write_text(PYTHON + '[[ "$*" != *kip.py* ]]\n')
    with pytest.raises(subprocess.CalledProcessError) as failed:
        folder.make("bench")
    assert "Failed: benchmarks/kip.py" in failed.value.stderr
    assert "Running benchmarks/matching.py" in failed.value.stdout


def test_every_benchmark_that_needs_arguments_has_a_rule():
    """Run without any it would end with an error."""
    recipe = MAKEFILE.partition("\nbench:")[2].partition("\n\n")[0]
    scripts = [
        path
        for path in (ROOT / "benchmarks").glob("[!_]*.py")
        if re.search(
            r"required=True|_tables import .*\barguments\b",
            path.read_text(encoding="utf-8"),
        )
    ]
    assert len(scripts) > 5
    assert [path.name for path in scripts if path.name not in recipe] == []


@needs_make
def test_only_browser_touches_the_system(folder):
    assert "apt-get install" in folder.run("-n", "browser")
    for target in sorted(TARGETS - {"browser"}):
        assert "apt-get" not in folder.run("-n", target), target


@needs_make
def test_browser_says_what_is_there(folder):
    assert "/opt/mine" in folder.run("browser", CHROMIUM="/opt/mine")
