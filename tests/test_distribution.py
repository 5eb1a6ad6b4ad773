"""What is published: the wheel and the source archive, built twice."""

import email
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import skdistill

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BACKEND = PROJECT["build-system"]["build-backend"]
NAME = f"skdistill-{skdistill.__version__}"

pytest.importorskip(
    BACKEND.partition(".")[0], reason="needs pip install skdistill[test]"
)

# What concerns the repository alone.
NOT_PUBLISHED = (".ci/", ".github/", ".pre-commit-config.yaml")
LITTER = (
    ".hypothesis/x",
    ".venv/lib/module.py",
    "benchmarks/results/table1/networks.csv",
    "build/lib/skdistill/base.py",
    "demo-output/x.png",
    "doc/_build/html/index.html",
    "doc/gallery/index.rst",
    "skdistill.egg-info/PKG-INFO",
    "skdistill/__pycache__/base.cpython-311.pyc",
    "tests/__pycache__/conftest.cpython-311.pyc",
)
BUILD = """
import importlib, sys
module, folder = sys.argv[1:]
backend = importlib.import_module(module)
backend.build_wheel(folder)
backend.build_sdist(folder)
"""


@pytest.fixture(scope="module")
def tracked():
    """Paths of the repository's files."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("what git tracks is known only in a clone, and with git")
    output = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    names = output.decode().split("\0")
    # One that was removed is listed until the removal is committed.
    return sorted(name for name in names if name and (ROOT / name).is_file())


def copy(names, folder, mode):
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
        target.chmod(mode)
    for name in LITTER:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("not to be published")


def build(sources, target, **environment):
    target.mkdir()
    subprocess.run(
        [sys.executable, "-c", BUILD, BACKEND, str(target)],
        cwd=sources,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", **environment},
        check=True,
        capture_output=True,
    )
    (wheel,) = target.glob("*.whl")
    (archive,) = target.glob("*.tar.gz")
    return wheel, archive


@pytest.fixture(scope="module")
def built(tracked, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    copy(tracked, folder / "sources", 0o644)
    return build(folder / "sources", folder / "target")


def test_wheel_holds_the_package_and_nothing_else(built, tracked):
    wheel, _ = built
    assert wheel.name == f"{NAME}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    information = {
        f"{NAME}.dist-info/{name}"
        for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE")
    }
    package = {name for name in tracked if name.startswith("skdistill/")}
    assert {"skdistill/py.typed", "skdistill/__init__.pyi"} < package
    assert names == package | information


def test_source_archive_holds_what_is_tracked(built, tracked):
    _, archive = built
    with tarfile.open(archive) as file:
        names = {member.name for member in file if member.isfile()}
    published = {name for name in tracked if not name.startswith(NOT_PUBLISHED)}
    assert {"LICENSE", "README.rst", "tests/conftest.py", "doc/conf.py"} < published
    assert names == {f"{NAME}/{name}" for name in published | {"PKG-INFO"}}


def test_metadata_is_that_of_the_project(built):
    with zipfile.ZipFile(built[0]) as file:
        text = file.read(f"{NAME}.dist-info/METADATA").decode()
    metadata = email.message_from_string(text)
    project = PROJECT["project"]
    assert metadata["Name"] == "skdistill"
    assert metadata["Version"] == skdistill.__version__
    assert metadata["Requires-Python"] == project["requires-python"]
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata.get_all("License-File") == ["LICENSE"]
    wanted = metadata.get_all("Requires-Dist")
    required = [text for text in wanted if "extra ==" not in text]
    assert sorted(required) == sorted(project["dependencies"])
    assert set(metadata.get_all("Provides-Extra")) == set(
        project["optional-dependencies"]
    )
    urls = [f"{name}, {address}" for name, address in project["urls"].items()]
    assert metadata.get_all("Project-URL") == urls
    assert metadata.get_payload() == (ROOT / "README.rst").read_text(encoding="utf-8")


def test_same_bytes_from_another_folder(built, tracked, tmp_path):
    """By another user, in another time zone, of files of another age."""
    sources = tmp_path / "elsewhere" / "another name"
    copy(tracked, sources, 0o600)
    for path in sources.rglob("*"):
        os.utime(path, (10**9, 10**9))
    again = build(sources, tmp_path / "again", TZ="Asia/Tokyo", PYTHONHASHSEED="1")
    for one, other in zip(built, again, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


def test_source_archive_builds_the_same_wheel(built, tmp_path):
    wheel, archive = built
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    again, _ = build(tmp_path / NAME, tmp_path / "again")
    assert again.read_bytes() == wheel.read_bytes()


def test_wheel_works_where_it_is_unpacked(built, tmp_path):
    with zipfile.ZipFile(built[0]) as file:
        file.extractall(tmp_path)
    code = (
        "import skdistill; from skdistill import *; print(skdistill.__file__); "
        "print(skdistill.TrajectoryBuffer, skdistill.inspection.report)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert output.startswith(str(tmp_path / "skdistill"))


def test_installed_dependencies_agree():
    """As `pip check` tells, of this package and all that it needs."""
    from packaging.requirements import Requirement

    left, seen, wrong = ["skdistill"], set(), []
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker and not needed.marker.evaluate({"extra": ""}):
                continue
            try:
                version = importlib.metadata.version(needed.name)
            except importlib.metadata.PackageNotFoundError:
                wrong.append(f"{name} needs {needed}, which is missing")
                continue
            if not needed.specifier.contains(version, prereleases=True):
                wrong.append(f"{name} needs {needed}; there is {version}")
            left.append(needed.name)
    assert wrong == []
