"""Long runs of benchmarks: killed, started twice, with other settings."""

import gzip
import importlib.util
import io
import os
import signal
import sys
import time
from argparse import ArgumentTypeError, Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.dummy import DummyClassifier

from skdistill import SyntheticSet
from skdistill.utils._threads import single_threaded_torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Import a script, and those that it imports, for this test alone."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    known = set(sys.modules)

    def load(name):
        spec = importlib.util.spec_from_file_location(
            f"benchmark_{name}", BENCHMARKS / f"{name}.py"
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


@pytest.fixture
def cifar(tmp_path):
    """A folder like that of CIFAR-10, of a few images."""
    pytest.importorskip("pyarrow")
    folder = tmp_path / "cifar"
    folder.mkdir()
    random = np.random.default_rng(0)
    for subset, n_images in (("train", 40), ("test", 20)):
        rows = []
        for number in range(n_images):
            file = io.BytesIO()
            pixels = random.integers(256, size=(32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file, "PNG")
            rows.append({"image": file.getvalue(), "label": number % 10})
        pd.DataFrame(rows).to_parquet(folder / f"{subset}.parquet")
    return folder


def test_numbers_of_the_command_line(script):
    runs = script("_runs")
    assert runs.whole(0)("0") == 0
    assert runs.positive("1e-3") == 0.001
    for kind, text in [
        *((runs.whole(), text) for text in ("0", "-1", "1.5", "many")),
        *((runs.positive, text) for text in ("0", "-2", "nan", "inf", "much")),
    ]:
        with pytest.raises(ArgumentTypeError, match=f"got {text}"):
            kind(text)


def test_a_folder_belongs_to_one_run_and_its_settings(script, tmp_path):
    runs = script("_runs")
    folder = tmp_path / "out"
    with runs.own_folder(folder, "--out"):
        runs.store_settings(folder, {"width": 4, "marks": (1, 2), "path": Path("a")})
        with (
            pytest.raises(SystemExit, match="--out: another run writes to"),
            runs.own_folder(folder, "--out"),
        ):
            pass
    # What is new to the folder is added.
    runs.store_settings(folder, {"width": 4, "seeds": 3})
    for other, told in (
        ({"width": 5}, "width: found 4, expected 5"),
        ({"marks": [1]}, r"marks: found \[1, 2\], expected \[1\]"),
        ({"seeds": 2}, "seeds: found 3"),
    ):
        with pytest.raises(SystemExit, match=told):
            runs.store_settings(folder, other)
    runs.check_settings(folder, {"marks": (1, 2), "seeds": 3})
    (tmp_path / "file").touch()
    with (
        pytest.raises(SystemExit, match=r"--out.*must be in a folder"),
        runs.own_folder(tmp_path / "file", "--out"),
    ):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes of Unix")
def test_a_kill_leaves_whole_rows(script, tmp_path, monkeypatch):
    runs = script("_runs")
    path = tmp_path / "cells.csv"
    runs.write_rows(path, [{"a": 0.25, "b": "x, y"}])

    def half(self, text, **_):
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as context:
        child = os.fork()
        if child == 0:
            context.setattr(Path, "write_text", half)
            runs.write_rows(path, [{"a": 1.0, "b": "x, y"}] * 2)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert runs.read_rows(path) == [{"a": 0.25, "b": "x, y"}]
    runs.write_rows(path, [*runs.read_rows(path), {"a": 1.0}])
    assert [row["a"] for row in runs.read_rows(path)] == [0.25, 1.0]
    assert runs.read_rows(tmp_path / "none.csv") == []
    assert [found.name for found in tmp_path.iterdir()] == ["cells.csv"]


def test_core_seconds_of_a_fit_that_was_killed_are_kept(script, tmp_path, monkeypatch):
    budget = script("_budget")
    path = tmp_path / "spent.json"
    now = 0.0
    monkeypatch.setattr(time, "process_time", lambda: now)
    spent = budget.Spent(path)
    now = 5.0
    spent.start("teachers")
    for later in (35.0, 64.0, 66.0, 90.0):
        now = later
        assert not spent.on_fit_task_end(None, None)
    # Killed: what comes after the last entry is lost, what was before the start is not
    # counted.
    assert budget.Spent(path).hours("teachers") * 3600 == pytest.approx(61)
    now = 100.0
    spent.add()
    spent = budget.Spent(path)
    spent.start("scores")
    now = 103.0
    spent.add()
    assert spent.hours("teachers") * 3600 == pytest.approx(95)
    assert spent.hours("scores") * 3600 == pytest.approx(3)


def test_a_published_run_has_a_row_for_each_milestone(
    script, cifar, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    stm = script("published_stm")
    n_scored = 0

    def scored(synthetic, test, options):
        nonlocal n_scored
        n_scored += 1
        assert len(synthetic) == 10
        assert len(test[0]) == 20
        return Namespace(mean=0.25, std=0.01)

    monkeypatch.setattr(stm, "scored", scored)

    def run(*more, path="run"):
        argv = ["x", f"--data={cifar}", f"--path={tmp_path / path}", "--teachers=1"]
        argv += ["--epochs=3", "--steps=2", "--width=2", "--n-networks=1", *more]
        monkeypatch.setattr(sys, "argv", argv)
        with single_threaded_torch():
            stm.main()
        return pd.read_csv(tmp_path / path / "defaults" / "scores.csv")

    assert run("--milestones", "4", "2")["iteration"].tolist() == [2, 4]
    table = run("--milestones", "2", "3", "4")
    assert table["iteration"].tolist() == [2, 4]
    assert "left out: 3 iterations, the run has 4" in capsys.readouterr().out
    assert n_scored == 2
    assert (table["core_hours"] > 0).all()
    for more, told in (
        (["--ipc=10"], "ipc: found 1, expected 10"),
        (["--seed=1"], "seed: found 0, expected 1"),
        ([f"--data={tmp_path}"], "--data: .* cannot be read"),
        ([f"--start={tmp_path / 'no-set'}"], "--start: .*no-set does not exist"),
    ):
        with pytest.raises(SystemExit, match=told):
            run(*more)
    begin = SyntheticSet.load(tmp_path / "run" / "defaults" / "set-4.safetensors")
    begin.y, begin.step_size = begin.y[::-1], 0.5
    begin.save(tmp_path / "begin.safetensors")
    # Continued from the set, and with all epochs.
    made = []

    def make(*arguments):
        made.append(make_distiller(*arguments))
        return made[-1]

    make_distiller = stm.make_distiller
    monkeypatch.setattr(stm, "make_distiller", make)
    more = f"--start={tmp_path / 'begin.safetensors'}", "--milestones", "1"
    assert run(*more, path="other")["epochs matched"].tolist() == [2]
    assert made[0].step_size == 0.5
    np.testing.assert_array_equal(made[0].init.X, begin.X)
    assert made[0].init.y.tolist() == begin.y.tolist()


@pytest.mark.parametrize("n_teachers", [None, 2])
def test_teachers_within_a_budget(script, n_teachers):
    X, y = np.random.default_rng(0).normal(size=(40, 8, 8, 1)), np.arange(40) % 2
    # Of no budget the least is left: three epochs each.
    buffer, cost = script("methods").train_teachers(
        Namespace(X=X, y=y), 0, 2, 0, None, n_teachers=n_teachers, average=False
    )
    assert (buffer.n_teachers_, buffer.n_epochs_) == (n_teachers or 1, 3)
    assert not buffer.settings_.average
    assert cost > 0


METHODS = [
    *("--data", "digits", "--train=100", "--test=60", "--ipc", "1", "--seeds=1"),
    *("--seconds=0.05", "--networks=2", "--rates", "0.05", "--score-steps=2"),
    *("--validation-networks=1", "--methods", "RandomSubset", "DMDistiller"),
]


def test_sets_of_other_networks_and_images(script, tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    methods = script("methods")

    def run(*more):
        argv = ["methods.py", *METHODS, f"--out={tmp_path}", *more]
        monkeypatch.setattr(sys, "argv", argv)
        methods.main()
        return pd.read_csv(tmp_path / "cells.csv")

    run("--width=2")
    sets = {path: path.read_bytes() for path in (tmp_path / "sets").iterdir()}
    (tmp_path / "table.md").unlink()
    table = run("--width=3", "--seconds", "0.05", "0.05")
    # Asked for twice, computed once; the sets of the other width are left as they were.
    assert len(table) == 4
    # Pixels and classes, not the command that a file holds too.
    assert table["bytes"].tolist() == [10 * (8 * 8 * 4 + 8)] * 4
    assert {path: path.read_bytes() for path in sets} == sets
    assert len(list((tmp_path / "sets").iterdir())) == 4
    for path in sets:
        path.unlink()
    capsys.readouterr()
    run("--width=2", "--transfer")
    assert "2 cells are left out, their sets are not in" in capsys.readouterr().out
    # A run that was killed after its last row left older tables.
    (tmp_path / "table.md").unlink()
    run("--width=3")
    assert "| RandomSubset | hard |" in (tmp_path / "table.md").read_text()
    with pytest.raises(SystemExit, match=r"digits: found '75 \+ 25 \+ 60 of 8x8x1"):
        run("--train=80")
    with pytest.raises(SystemExit, match="no such cell"):
        run("--ipc=500", f"--out={tmp_path / 'other'}")
    with pytest.raises(SystemExit):
        run("--seeds=0")
    assert "--seeds: expected a whole number from 1; got 0" in capsys.readouterr().err


def test_tables_mark_soft_labels_and_compare_what_is_comparable(script, tmp_path):
    report = script("_methods_report")
    said = dict.fromkeys(("core_seconds", "teacher_seconds", "iterations"), 1.0)
    said |= {"command": "c", "date": "d", "machine": "m", "versions": "v"}

    def cell(method, seed, accuracy, labels="hard", width=4, **more):
        return said | {
            "data": "digits", "ipc": 1, "seed": seed, "method": method,
            "teachers": "none", "labels": labels, "kernel": 0.5,
            "protocol": f"2 core-seconds, width {width}, 2 networks",
            "accuracies": f"{accuracy} {accuracy}",
        } | more  # fmt: skip

    others = dict.fromkeys(report.NETWORKS, 0.5) | dict.fromkeys(report.OF_TABLES, 0.5)
    others |= {report.PLAIN: 0.3, report.HARD: 0.4}
    rows = [
        cell("RandomSubset", 0, 0.4, **others),
        cell("FRePoDistiller", 0, 0.6, "targets", **others),
        # Their other scores are missing yet.
        cell("RandomSubset", 1, 0.9),
        cell("FRePoDistiller", 1, 0.1, "targets"),
        cell("FullData", 0, 0.8, ipc=0),
        cell("FullData", 0, 0.1, ipc=0, width=8),
    ]
    report.report(tmp_path, rows)
    for name in ("table", "differences", "kernel", "transfer"):
        table = pd.read_csv(tmp_path / f"{name}.csv")
        of_frepo = table[table["method"] == "FRePo"]
        assert of_frepo["labels"].tolist() == ["soft"], name
    transfer = table.set_index("method")
    assert transfer["ConvNet"].to_dict() == {"RandomSubset": 40.0, "FRePo": 60.0}
    # With all images, networks of the same width; with random ones, the same seeds.
    expected = report.label_robust_score(0.8, 0.6, 0.4, synthetic_hard=0.4)
    assert transfer.loc["FRePo", "LRS"] == pytest.approx(expected, abs=6e-4)


def test_data_that_cannot_be_read_is_named(script, tmp_path):
    data = script("_data")
    sizes = Namespace(size=16, n_train=None, n_test=None, validation=0.25)

    def message(folder):
        with pytest.raises(SystemExit) as caught:
            data.any_images(str(folder), sizes)
        assert str(folder) in str(caught.value)
        return str(caught.value)

    assert "no such folder" in message(tmp_path / "none")
    for name, shape in {
        "train-images-idx3": (30, 4, 4), "train-labels-idx1": (20,),
        "t10k-images-idx3": (20, 4, 4), "t10k-labels-idx1": (20,),
    }.items():  # fmt: skip
        head = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes()
        with gzip.open(tmp_path / f"{name}-ubyte.gz", "wb") as file:
            file.write(head + bytes(int(np.prod(shape))))
    assert "train: images of shape (30, 4, 4) and labels of shape (20,)" in message(
        tmp_path
    )
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with gzip.open(tmp_path / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(bytes([0, 0, 8, 1, 0, 0, 0, 30]) + bytes(30))
    assert "cannot be read: EOFError" in message(tmp_path)
    galaxies = tmp_path / "galaxies"
    (galaxies / "images").mkdir(parents=True)
    pd.DataFrame({"id": [1], "label": ["a"]}).to_csv(galaxies / "labels.csv")
    assert "no column galaxy_id" in message(galaxies)
    for number in range(20):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(
            galaxies / "images" / f"{number}.jpg"
        )
    table = pd.DataFrame({"galaxy_id": range(20), "label": "spiral"})
    table.to_csv(galaxies / "labels.csv")
    assert "several classes" in message(galaxies)


def test_of_classes_that_differ_in_size_each_counts_alike(script):
    scores, data = script("_methods_scores"), script("_data")
    random = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], (80, 15, 5))
    X = random.normal(size=(100, 4, 4, 1)).astype(np.float32)
    split = data.Split(X, y, X + 1, y, X, y)
    options = Namespace(validation_networks=1, networks=1)
    # Whoever names the most frequent class is right in four fifths of the cases.
    for n_rows, expected in ((100, 1 / 3), (80, 1.0)):
        part = split._replace(X_test=X[:n_rows], y_test=y[:n_rows])
        score = scores.evaluated(
            (X[::7], y[::7]), part, {"seed": 0}, options,
            DummyClassifier(strategy="most_frequent"), {},
        )  # fmt: skip
        assert score.mean == pytest.approx(expected)
    assert data.scoring_of(split.y) == "balanced_accuracy"
    assert data.scoring_of(np.repeat([0, 1], (10, 20))) is None


def test_a_match_is_timed_on_one_device(script):
    """On a GPU a second match began with the parameters of a module moved to it."""
    gpu = script("gpu")
    options = Namespace(size=8, width=4)
    module = gpu.network(options)
    task = gpu.task_of(module, 1, 10, 8)
    gpu.iterate(options, module, task, 2, "meta", torch.float32)
    again = gpu.task_of(module, 1, 10, 8)
    assert {tensor.device.type for tensor in again} == {"cpu"}
    for one, two in zip(task, again, strict=True):
        torch.testing.assert_close(one, two)


def test_a_part_for_which_there_is_no_time_is_left_out(script, tmp_path, monkeypatch):
    gpu = script("gpu")
    out = tmp_path / "gpu.csv"
    argv = ["gpu.py", "--tiny", "--device=cpu", f"--out={out}", "--minutes=1e-9"]
    monkeypatch.setattr(sys, "argv", argv)
    try:
        gpu.main()
    finally:
        torch.compiler.set_stance("default")
    table = pd.read_csv(out)
    assert len(table) == 6
    assert set(table["what"]) == {"left out: the time is over"}
    assert table["versions"].str.contains("PyTorch").all()
    monkeypatch.setattr(sys, "argv", [*argv, f"--data={tmp_path}"])
    with pytest.raises(SystemExit, match="holds no CIFAR-10"):
        gpu.main()


def test_without_callbacks_nothing_is_computed(script, monkeypatch):
    budget = script("_budget")
    monkeypatch.setattr(budget, "STMDistiller", object)
    with pytest.raises(SystemExit, match=r"needs scikit-learn 1\.9 or newer"):
        budget.need_callbacks()


def test_a_line_has_networks_of_one_width(script, tmp_path, monkeypatch):
    report = script("_methods_report")
    names = [f"Method {number}" for number in range(12)]
    rows = [
        {
            "data": "digits", "ipc": 1, "seed": 0, "method": name, "labels": "hard",
            "teachers": "none", "accuracies": f"{seconds / 100} {seconds / 100}",
            "protocol": f"{seconds} core-seconds, width {width}, 2 networks",
        }
        for name in names
        for seconds, width in [(20, 32), (60, 32), (60, 128)]
    ]  # fmt: skip
    drawn = []
    monkeypatch.setattr(report.plt, "close", drawn.append)
    rows[-1]["accuracies"] = "0.9 0.9"
    report.draw(tmp_path / "figure.png", pd.DataFrame(rows))
    monkeypatch.undo()
    (figure,) = drawn
    (axis,) = figure.axes
    lines = axis.get_lines()
    assert len(lines) == len(names)
    for line in lines:
        assert line.get_xydata().tolist() == [[20, 20], [60, 60]]
    # No two methods look the same.
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 12
    report.plt.close(figure)
