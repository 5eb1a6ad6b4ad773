"""One fit in two processes: bitwise that of one with as many draws, a common end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from quadratic import QuadraticDistiller

PROGRAM = Path(__file__).with_name("program.py")
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch has no torch.distributed here"
)


def environment():
    """Return that of a process with one thread and no network but loopback."""
    changes = {"OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":
        changes["GLOO_SOCKET_IFNAME"] = "lo"
    return os.environ | changes


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Return what a scenario left: of how many processes, and of which of them."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), "ranks", str(folder), str(rank), str(size)],
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, size in ((0, 2), (1, 2), (0, 1))
    ]
    for process in processes:
        _, words = process.communicate(timeout=200)
        assert process.returncode == 0, words[-3000:]

    def read(name, size=2, rank=0):
        return json.loads((folder / f"{name}-{size}-{rank}.json").read_text())

    read.folder = folder
    return read


@pytest.mark.parametrize("name", ["two", "three", "broken", "part", "rest"])
def test_processes_together_are_one_alone(read, name):
    alone = read(name, size=1)
    assert "error" not in alone
    for rank in range(2):
        assert read(name, rank=rank) == alone


def test_scenarios_are_what_they_shall_be(read):
    assert read("two")["n_iter"] == 25
    assert read("two") != read("three")
    assert read("broken")["history"].count("rolled back") == 2
    assert read("part")["n_iter"] == 9
    assert read("rest") == read("two")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other data", "in process 1, which is equal only for bitwise identical data"),
        ("other parameters", "`pixel_lr`: 0.1 in process 0, 1.1 in process 1"),
        ("few draws", "for each of the 2 processes of the torch.distributed group"),
        ("damaged", "cannot be read"),
    ],
)
def test_all_processes_refuse(read, name, message):
    for rank in range(2):
        found = read(name, rank=rank)["error"]
        assert found.startswith("ValueError")
        assert message in found


@pytest.mark.parametrize(("name", "n_iter"), [("interrupted", 5), ("keys", 7)])
def test_interrupt_of_one_ends_all(read, name, n_iter):
    found = [read(name, rank=rank) for rank in range(2)]
    assert found[0] == found[1]
    assert found[0]["stop_reason"] == "interrupted"
    assert found[0]["n_iter"] == n_iter


def test_failure_of_one_ends_all(read):
    assert "MemoryError: too little" in read("failed", rank=1)["error"]
    assert "process 1 of 2 failed, which ended" in read("failed", rank=0)["error"]


def test_after_either_the_fit_is_resumed(read):
    for rank in range(2):
        assert read("resumed", rank=rank) == read("two")


def test_one_alone_resumes_what_two_began(read, squares):
    parameters = {"n_draws": 2, "stage_length": 7, "labels": "probabilities"}
    path = read.folder / "run-2"
    found = QuadraticDistiller(checkpoint=path, max_iter=31, **parameters)
    expected = QuadraticDistiller(max_iter=31, **parameters).fit(*squares)
    assert found.fit(*squares).history_.equals(expected.history_)
