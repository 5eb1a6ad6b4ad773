"""One distillation in several processes: the bits of one, and a common end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from skdistill import STMDistiller
from skdistill.distillation._mtt import FixedPoolMatching
from skdistill.distillation._objectives._trajectory import (
    draw_teachers,
)
from skdistill.synthetic import SyntheticSet
from skdistill.utils._device import resolve_device

PROGRAM = Path(__file__).with_name("rank_program.py")
SCRIPT = Path(__file__).parents[2] / "doc" / "distill.py"
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch has no torch.distributed here"
)


def environment():
    """Return that of a process with one thread and no network but loopback."""
    changes = {"OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":
        changes["GLOO_SOCKET_IFNAME"] = "lo"
    return os.environ | changes


def start(folder, part, size):
    return [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(rank), str(size), str(folder), part],
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def wait_for(processes, expected=0):
    """Wait for all; their last words are shown if they end otherwise."""
    for process in processes:
        _, words = process.communicate(timeout=200)
        assert process.returncode == expected, words[-3000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes together, and one alone, left what they found."""
    folder = tmp_path_factory.mktemp("ranks")
    wait_for([*start(folder, "results", 2), *start(folder, "results", 1)])
    return folder


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refusals")
    first, second = start(folder, "refusals", 2)
    # The last thing that it does is to die.
    wait_for([second], expected=-signal.SIGKILL)
    wait_for([first])
    return folder


def read(folder, name, size, rank):
    return json.loads((folder / f"{name}-{size}-{rank}.json").read_text())


@pytest.mark.parametrize(
    "name",
    [
        "stages",
        "fine-tuned",
        "three",
        "mtt",
        "dc",
        "bptt",
        "dm",
        "ncfm",
        "cafe",
        "frepo",
        "rfad",
        "trained",
        "shared",
        "broken",
        "whole",
        "rest",
    ],
)
def test_processes_together_are_one_alone(folder, name):
    alone = read(folder, name, 1, 0)
    assert "error" not in alone
    for rank in range(2):
        assert read(folder, name, 2, rank) == alone


def test_scenarios_are_what_they_shall_be(folder):
    assert read(folder, "stages", 1, 0)["stages"].count("expanded") >= 1
    assert read(folder, "stages", 1, 0)["n_iter"] > 20
    assert read(folder, "fine-tuned", 1, 0)["reason"] == "no trend"
    assert read(folder, "fine-tuned", 1, 0)["n_matches"] == 5
    assert read(folder, "broken", 1, 0)["history"].count("rolled back") == 2
    assert read(folder, "part", 2, 0)["n_iter"] == 3
    assert read(folder, "rest", 2, 0) == read(folder, "whole", 2, 0)


def test_other_number_of_processes_goes_on(folder, monkeypatch):
    """A run of two processes is gone on with alone, if it makes as many matches."""
    monkeypatch.setattr(sys, "argv", ["", "0", "1", str(folder), "none"])
    path = folder / "run-2" / "state.safetensors"
    before = path.read_bytes()
    names = {"__file__": str(PROGRAM), "__name__": "program"}
    source = PROGRAM.read_text().partition('{"results": results')[0]
    exec(compile(source, str(PROGRAM), "exec"), names)
    make, X, y = names["make"], names["X"], names["Y"]
    with pytest.raises(ValueError, match="`n_matches`: found 2, expected 1"):
        make(n_matches="auto", checkpoint=folder / "run-2").fit(X, y)
    assert path.read_bytes() == before
    found = make(max_total_iter=12, checkpoint=folder / "run-2").fit(X, y)
    whole = make(max_total_iter=12).fit(X, y)
    assert found.n_iter_ == 12
    assert np.allclose(found.synthetic_.X, whole.synthetic_.X, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other data", "in process 1, which is equal only for bitwise identical data"),
        ("other parameters", "`ipc`: 1 in process 0, 2 in process 1"),
        ("other teachers", "teachers' seed: 0 in process 0, 1 in process 1"),
        ("few matches", "`n_matches` must be at least the number of processes, 2"),
        ("few networks", "`n_networks` must be at least the number of processes, 2"),
        ("diverged teachers", "`learning_rate`=1e+30 is too high"),
        ("diverged together", "`learning_rate`=1e+30 is too high"),
        ("damaged", "cannot be read"),
    ],
)
def test_all_processes_refuse(refusals, name, message):
    for rank in range(2):
        found = read(refusals, name, 2, rank)["error"]
        assert found.startswith("ValueError")
        assert message in found


@pytest.mark.parametrize(("name", "n_iter"), [("interrupted", 5), ("keys", 4)])
def test_interrupt_of_one_ends_all(refusals, name, n_iter):
    found = [read(refusals, name, 2, rank) for rank in range(2)]
    assert found[0] == found[1]
    assert found[0]["reason"] == "interrupted"
    assert found[0]["n_iter"] == n_iter


def test_failure_of_one_ends_all(refusals):
    assert "MemoryError: too little" in read(refusals, "failed", 2, 1)["error"]
    assert "process 1 of 2 failed" in read(refusals, "failed", 2, 0)["error"]


@pytest.mark.parametrize("name", ["gone on", "gone on after failure"])
def test_after_either_the_fit_goes_on(refusals, folder, name):
    for rank in range(2):
        assert read(refusals, name, 2, rank) == read(folder, "whole", 2, rank)


def test_death_of_one_ends_the_others_soon(refusals):
    found = json.loads((refusals / "killed.json").read_text())
    assert "another process of the torch.distributed group" in found["error"]
    # The time that the group waits for an answer.
    assert found["seconds"] < 100
    assert (refusals / "killed" / "state.safetensors").exists()


def test_with_torchrun(tmp_path):
    """The script of the guide."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node=2", str(SCRIPT)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # One process alone shows progress: on a slow machine the end is drawn twice.
    assert done.stderr.count("distillation:   0%") == 1
    assert len(SyntheticSet.load(tmp_path / "distilled").X) == 9
    assert len(list((tmp_path / "teachers").glob("*.safetensors"))) == 2
    assert (tmp_path / "run" / "state.safetensors").exists()


def test_teachers_of_an_iteration_are_others():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        assert sorted(draw_teachers(rng, 2, 5, 5)) == [0, 1, 2, 3, 4]
        assert len(set(draw_teachers(rng, 0, 5, 3))) == 3
        assert draw_teachers(rng, 1, 5, 2)[0] == 1
        assert np.bincount(draw_teachers(rng, 1, 2, 4)).tolist() == [2, 2]
    assert draw_teachers(None, 3, 5, 1) == [3]


def test_mean_numbers():
    average = object.__new__(FixedPoolMatching).average
    rows = [{"loss": 1.0, "stretch": 0.5}, {"loss": 2.0, "stretch": 2.0}]
    assert average(rows) == pytest.approx({"loss": 1.5, "stretch": 1.0})
    # Beyond a factor e nothing is believed, as with a single match.
    rows = [{"stretch": 1e9}, {"stretch": -3.0}]
    assert average(rows)["stretch"] == pytest.approx(1.0)


def test_mean_over_teachers_is_the_mean_of_gradients(
    tiny_teachers, tiny_bars, monkeypatch
):
    import skdistill.distillation._engine._parameters as parameters_module
    import skdistill.distillation._objectives._trajectory as matcher_module

    found, followed = [], []
    real_match = matcher_module.match_gradient
    real_step = parameters_module.SyntheticParameters.step

    def match_gradient(*args, **kwargs):
        found.append(real_match(*args, **kwargs))
        return found[-1]

    def step(self, gradients, metrics):
        followed.append((gradients, metrics["by_step_size"]))
        real_step(self, gradients, metrics)

    monkeypatch.setattr(matcher_module, "match_gradient", match_gradient)
    monkeypatch.setattr(parameters_module.SyntheticParameters, "step", step)
    distiller = STMDistiller(
        buffer=tiny_teachers, n_steps=2, n_matches=2, max_total_iter=3, random_state=0
    ).fit(*tiny_bars)
    assert len(found) == 6
    for place, (gradient, by_step_size) in enumerate(followed):
        pair = found[2 * place : 2 * place + 2]
        assert not torch.equal(pair[0].images, pair[1].images)
        mean = sum(each.images for each in pair) / 2
        torch.testing.assert_close(gradient["images"], mean)
        mean = sum(float(each.log_step_size) for each in pair) / 2
        assert by_step_size == pytest.approx(mean, rel=1e-5)
        losses = [float(each.match.loss) for each in pair]
        assert distiller.history_["loss"][place] == pytest.approx(np.mean(losses))


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "5")
    assert resolve_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert resolve_device("auto") == torch.device("cuda", 1)
    monkeypatch.delenv("LOCAL_RANK")
    assert resolve_device("auto") == torch.device("cuda")
