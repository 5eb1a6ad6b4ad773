"""The scripts of the paper's tables and figures, at a size that shows they work."""

import gzip
import importlib.util
import itertools
import json
import runpy
import sys
import threading
from argparse import Namespace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from skdistill import STMDistiller, SyntheticSet
from skdistill.utils._threads import single_threaded_torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SHARED = ("_data", "_tables", "table2")


def run_script(monkeypatch, folder, name, data, *more):
    """Run a script as from the command line."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    arguments = [f"--data={data}", "--scale=smoke", f"--out={folder}", "--jobs=1"]
    argv = [f"{name}.py", *arguments, "--device=cpu", *more]
    monkeypatch.setattr(sys, "argv", argv)
    runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    plt.close("all")


def forget_scripts():
    for name in SHARED:
        sys.modules.pop(name, None)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a script, and return its folder of results."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def run_there(name, data, *more, out="out"):
        folder = tmp_path / out
        run_script(monkeypatch, folder, name, data, *more)
        return folder

    yield run_there
    forget_scripts()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run a script once for all tests, which leave its folder as it is."""
    folders = {}

    def run_once(name, data):
        if (name, data) not in folders:
            folder = tmp_path_factory.mktemp(name) / "out"
            with pytest.MonkeyPatch.context() as monkeypatch:
                run_script(monkeypatch, folder, name, data)
            forget_scripts()
            folders[name, data] = folder
        return folders[name, data]

    return run_once


@pytest.mark.parametrize(
    ("script", "data", "n_sets"),
    [
        ("table1", "simulated", 14),
        ("table2", "digits", 13),
        ("figure3", "digits", 8),
        ("figure4", "digits", 8),
        ("beyond", "digits", 26),
    ],
)
def test_script(finished, run, script, data, n_sets, capsys):
    folder = finished(script, data)
    networks = pd.read_csv(folder / "networks.csv")
    assert len(networks) == 2 * n_sets
    assert networks["accuracy"].between(0, 1).all()
    assert networks["learning_rate"].isin([0.001, 0.005, 0.01, 0.05, 0.1]).all()
    summary = pd.read_csv(folder / "summary.csv")
    assert summary["n_networks"].sum() == 2 * n_sets
    assert np.isfinite(summary["std_networks"]).all()
    several = summary[summary["n_seeds"] > 1]
    assert np.isfinite(several["std_seeds"]).all()
    compared = pd.read_csv(folder / "differences.csv")
    excludes_zero = (compared["low"] > 0) | (compared["high"] < 0)
    assert (compared["differs"] == excludes_zero).all()
    page = (folder / "table.md").read_text(encoding="utf-8")
    for part in ("| mean | std networks |", "## Differences", "- seeds:", "PyTorch"):
        assert part in page
    assert len(set(np.asarray(Image.open(folder / "figure.png")).ravel())) > 10
    # What a distillation goes on from is not left; the sets are.
    assert {path.name.partition("-")[0] for path in (folder / "work").iterdir()} == {
        "teachers"
    }
    assert list((folder / "cells").glob("*.safetensors"))
    # A second run computes nothing.
    capsys.readouterr()
    run(script, data, out=folder)
    assert f"{n_sets} of {n_sets} cells are there" in capsys.readouterr().out


@pytest.mark.parametrize("limit", [0, 1])
def test_defaults_against_random_images(monkeypatch, tmp_path, limit):
    """Without a limit in seconds, in which settings are searched, and with one."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    settings = ["default", "4 teachers"]
    search = ["--search", "--settings", *settings] if not limit else []
    small = "--ipc 1 --iterations 3 --epochs 3 --width 4 --draws 1 --score-epochs 5 "
    small += "--full-epochs 2"
    out = tmp_path / "table.csv"
    argv = ["defaults.py", "--datasets", "digits", *small.split(), *search]
    argv += [f"--seconds={limit}", "--teachers=2", "--jobs=1", f"--out={out}"]
    monkeypatch.setattr(sys, "argv", argv)
    runpy.run_path(str(BENCHMARKS / "defaults.py"), run_name="__main__")
    sys.modules.pop("_data", None)
    table = pd.read_csv(out)
    assert table["setting"].tolist() == (settings if search else ["default"])
    accuracies = table[["random", "distilled", "all"]]
    assert ((accuracies > 0) & (accuracies <= 1)).all(axis=None)
    np.testing.assert_allclose(table["ratio"], table["distilled"] / table["random"])
    assert table["iterations"].between(1, 3).all()
    if search:
        assert (table["iterations"] == 3).all()
        # Each setting's own teachers.
        assert table["teachers s"].nunique() == 2


def test_classes_with_too_few_images_are_left_out_of_all_parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from _data import without_rare

    labels = ["aabbbcc", "abc", "cba"]
    parts = []
    for text in labels:
        parts += [np.arange(len(text)), np.array(list(text))]
    found = without_rare(tuple(parts), 2)
    assert [list(part) for part in found[1::2]] == [list(text) for text in labels]
    found = without_rare(tuple(parts), 3)
    expected = [[2, 3, 4], ["b"] * 3, [1], ["b"], [1], ["b"]]
    assert [part.tolist() for part in found] == expected


def read(folder):
    return {
        path.name: json.loads(path.read_text())["scores"]
        for path in (folder / "cells").glob("*.json")
    }


def test_a_killed_run_is_resumed(finished, run, monkeypatch, capsys):
    whole = read(finished("table2", "digits"))

    import _tables

    evaluate, n_calls = _tables.evaluate_synthetic, 0

    def killed(*args, **kwargs):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 6:
            raise KeyboardInterrupt
        return evaluate(*args, **kwargs)

    with monkeypatch.context() as context:
        context.setattr(_tables, "evaluate_synthetic", killed)
        with pytest.raises(KeyboardInterrupt):
            run("table2", "digits")
    capsys.readouterr()
    folder = run("table2", "digits")
    assert "5 of 13 cells are there" in capsys.readouterr().out
    assert read(folder) == whole
    # A cell that is missing is computed, the others are left.
    cells = sorted((folder / "cells").glob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in cells}
    cells[3].unlink()
    run("table2", "digits")
    after = {path: path.stat().st_mtime_ns for path in cells}
    assert [path for path in cells if after[path] != before[path]] == [cells[3]]
    assert read(folder) == whole


def test_other_settings_are_refused(finished, run):
    folder = finished("figure4", "digits")
    with pytest.raises(SystemExit, match="n_seeds: found 2, expected 3"):
        run("figure4", "digits", "--seeds=3", out=folder)
    with pytest.raises(SystemExit, match="data: found 'digits'"):
        run("figure4", "simulated", out=folder)


@pytest.mark.usefixtures("run")
def test_stages_of_a_curve_are_those_of_one_distillation(finished):
    folder = finished("figure3", "digits")

    import _data
    import table2

    scale = table2.SCALES["smoke"]
    _, split = _data.any_images("digits", scale)
    # As the script's workers do: with more threads sums have other last bits.
    with single_threaded_torch():
        plain = STMDistiller(
            1,
            buffer=folder / "work" / "teachers-digits-1-of-4",
            n_steps=scale.n_steps["1"],
            step_size=scale.step_size,
            max_total_iter=3,
            device="cpu",
            random_state=1,
        ).fit(split.X, split.y)
    name = "data_digits-method_STM-ipc_1-seed_1-iterations_3.safetensors"
    stored = SyntheticSet.load(folder / "cells" / name)
    np.testing.assert_array_equal(stored.X, plain.synthetic_.X)


def test_no_data_is_said_plainly(run, tmp_path):
    with pytest.raises(SystemExit, match="holds neither CIFAR-10 nor CIFAR-100"):
        run("table2", tmp_path)
    with pytest.raises(
        SystemExit, match=r"holds neither CIFAR-10, FashionMNIST nor votes\.csv"
    ):
        run("figure3", tmp_path)


def test_validation_and_test_images_are_no_training_images(run):
    import _data

    for parts in (
        _data.digits(),
        _data.simulated_galaxies(16, 180, 90, share=0.2, n_rotations=2),
    ):
        X, y, X_validation, y_validation, X_test, y_test = parts
        seen = {image.tobytes() for image in X}
        assert not seen & {image.tobytes() for image in X_validation}
        assert not seen & {image.tobytes() for image in X_test}
        assert len(X) == len(y)
        assert set(y) == set(y_validation) == set(y_test)


METHODS = [
    *("--data", "digits", "--size=8", "--train=100", "--test=60", "--width=4"),
    *("--ipc", "1", "--seeds=2", "--seconds=0.05", "--networks=2", "--rates", "0.05"),
    *("--validation-networks=1", "--score-steps=4", "--full-epochs=1"),
]


@pytest.fixture
def methods(tmp_path, monkeypatch):
    """Run methods.py as from the command line, and return its table of cells."""
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    script = load_script("methods", monkeypatch, rate=False)

    def run_methods(*more):
        argv = ["methods.py", *METHODS, f"--out={tmp_path}", *more]
        monkeypatch.setattr(sys, "argv", argv)
        script.main()
        return pd.read_csv(tmp_path / "cells.csv")

    yield run_methods, script, tmp_path
    sys.modules.pop("_data", None)


def test_all_methods_have_a_cell(methods, capsys):
    run, script, folder = methods
    table = run("--seeds=1")
    assert "error" not in table, table["error"].dropna().tolist()
    assert set(table["method"]) == set(script.all_methods())
    for row in table.itertuples():
        accuracies = np.array(row.accuracies.split(), float)
        assert len(accuracies) == 2
        assert ((accuracies >= 0) & (accuracies <= 1)).all()
    made = table[table["method"] != "FullData"]
    assert (made["bytes"] > 10 * 64 * 4).all()
    assert made["kernel"].between(0, 1).all()
    ended = made[made["stop_reason"] == "callback"]
    assert len(ended) > 5
    assert (ended["iterations"] >= 1).all()
    with_teachers = table["teachers"] != "none"
    assert set(table.loc[with_teachers, "method"]) == set(script.NEED_TEACHERS)
    # All share the teachers of a seed, and are charged for them where they count.
    inside = table[table["teachers"] == "inside the budget"]
    assert inside["teacher_seconds"].nunique() == 1
    assert (inside["core_seconds"] > inside["teacher_seconds"]).all()
    soft = made[made["labels"] != "hard"]["method"]
    assert {"KIPDistiller, labels learned", "KIPDistiller, labels solved"} <= set(soft)
    page = (folder / "table.md").read_text(encoding="utf-8")
    assert "| STM, teachers given | hard |" in page
    assert "command: python methods.py --data digits" in page


def test_cells_of_a_killed_run_are_not_computed_again(methods, monkeypatch, capsys):
    run, script, folder = methods
    some = ("--methods", "RandomSubset", "KMeansPrototypes", "DMDistiller")
    compute, n_calls = script.compute, 0

    def killed(*args):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise KeyboardInterrupt
        if n_calls == 2:
            raise ValueError("of this cell")
        return compute(*args)

    with monkeypatch.context() as context:
        context.setattr(script, "compute", killed)
        with pytest.raises(KeyboardInterrupt):
            run(*some)
    before = pd.read_csv(folder / "cells.csv")
    assert before["error"].tolist()[1] == "ValueError: of this cell"
    assert "failed: digits, 1 per class" in (folder / "table.md").read_text()
    capsys.readouterr()
    # What failed is tried again, what is there is left.
    table = run(*some)
    assert "1 of 6 cells are there" in capsys.readouterr().out
    assert len(table) == 6
    assert not table.duplicated(["method", "seed"]).any()
    assert table["accuracies"].notna().all()
    same = ["method", "seed", "accuracies", "core_seconds", "bytes"]
    assert table[same].iloc[0].tolist() == before[same].iloc[0].tolist()
    written = (folder / "table.md").read_text(encoding="utf-8")
    (folder / "table.md").unlink()
    wide = (folder / "table.csv").read_text(encoding="utf-8")
    assert "digits, 1 per class" in wide
    (folder / "table.csv").unlink()
    run("--report")
    assert (folder / "table.md").read_text(encoding="utf-8") == written
    assert (folder / "table.csv").read_text(encoding="utf-8") == wide
    # Another budget is another table.
    more = run("--methods", "DMDistiller", "--seeds=1", "--seconds=0.1")
    assert len(more) == 7


def test_other_learners_and_budgets(methods, monkeypatch, capsys):
    run, script, folder = methods
    some = ("--methods", "RandomSubset", "FRePoDistiller", "FullData", "--seeds=1")
    before = run(*some)
    assert not (folder / "transfer.csv").exists()
    # Sets that are there are scored by others without being made again.
    table = run(*some, "--seconds", "0.05", "0.1", "--transfer")
    assert len(table) == 5
    pd.testing.assert_series_equal(table["bytes"][:3], before["bytes"])
    made = table[table["method"] != "FullData"].set_index("method")
    others = made[list(script.OTHERS)]
    assert others.apply(lambda c: c.between(0, 1)).all(axis=None)
    # One class per image is what those without soft labels have anyway.
    for row in made.loc["RandomSubset"].to_dict("records"):
        mean = np.mean([float(value) for value in row["accuracies"].split()])
        assert row["hard labels"] == pytest.approx(mean)
    capsys.readouterr()
    run(*some, "--seconds", "0.05", "0.1", "--transfer")
    assert "other learners" not in capsys.readouterr().out
    kernel = pd.read_csv(folder / "kernel.csv")
    assert kernel["method"].tolist() == ["RandomSubset", "FRePo"] * 2
    of_random = 100 * made.loc["RandomSubset", "kernel"].iloc[0]
    assert kernel["digits, 1 per class"][0] == f"{of_random:.1f} (1 seed)"
    transfer = pd.read_csv(folder / "transfer.csv")
    assert transfer["method"].tolist() == ["RandomSubset", "FRePo"] * 2
    assert transfer[["LRS", "ARS"]].apply(lambda c: c.between(0, 1)).all(axis=None)
    assert (folder / "figure.png").stat().st_size > 5000


def test_tables_of_cells_for_people(monkeypatch, tmp_path):
    script = load_script("_methods_report", monkeypatch, rate=False)
    said = dict.fromkeys(("core_seconds", "teacher_seconds", "iterations"), 1.0)
    said |= {"command": "c", "date": "d", "machine": "m", "versions": "v"}

    def cell(data, ipc, seed, method, accuracies, protocol="2 core-seconds, width 4"):
        teachers = "inside the budget" if method in script.NEED_TEACHERS else "none"
        labels = "targets" if method == "FRePoDistiller" else "hard"
        return said | {
            "data": data, "ipc": ipc, "seed": seed, "method": method,
            "teachers": teachers, "protocol": f"{protocol}, 2 networks",
            "labels": labels, "accuracies": accuracies,
        }  # fmt: skip

    cells = [
        cell("digits", 1, 0, "RandomSubset", "0.50 0.54"),
        cell("digits", 1, 1, "RandomSubset", "0.60 0.64"),
        cell("digits", 1, 0, "FRePoDistiller", "0.80 0.84"),
        cell("digits", 1, 1, "FRePoDistiller", "0.80 0.82"),
        cell("digits", 10, 0, "RandomSubset", "0.70 0.74"),
        cell("digits", 10, 0, "STMDistiller", np.nan),
        cell("galaxies", 1, 0, "STMDistiller", "0.40 0.50"),
        cell("digits", 0, 0, "FullData", "0.9 0.9"),
        cell("digits", 1, 0, "RandomSubset", "0.1 0.2", "9 core-seconds, width 4"),
    ]
    cells[5]["error"] = "ValueError: none"
    script.report(tmp_path, cells)
    table = pd.read_csv(tmp_path / "table.csv", dtype=str, keep_default_na=False)
    assert table.to_numpy().tolist() == [
        ["2 core-seconds, width 4", "RandomSubset", "hard", "57.0 ± 7.1 (2 seeds)",
         "72.0 ± 2.8 (1 seed)", ""],
        ["2 core-seconds, width 4", "FRePo", "soft", "81.5 ± 0.7 (2 seeds)", "", ""],
        ["2 core-seconds, width 4", "FullData", "hard", "90.0 ± 0.0 (1 seed)",
         "90.0 ± 0.0 (1 seed)", ""],
        ["2 core-seconds, width 4", "STM", "hard", "", "", "45.0 ± 7.1 (1 seed)"],
        ["9 core-seconds, width 4", "RandomSubset", "hard", "15.0 ± 7.1 (1 seed)",
         "", ""],
    ]  # fmt: skip
    assert table.columns.tolist()[3:] == [
        "digits, 1 per class",
        "digits, 10 per class",
        "galaxies, 1 per class",
    ]
    compared = pd.read_csv(tmp_path / "differences.csv")
    assert compared["method"].tolist() == ["FRePo"]
    assert compared["against"].tolist() == ["RandomSubset"]
    # Means of sets: 0.82 and 0.81 against 0.52 and 0.62.
    assert "+24.5 (" in compared["digits, 1 per class"][0]
    # All that failed is a page, too.
    script.report(tmp_path, [{**cells[5]}])
    assert "failed: digits" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_a_fit_that_was_interrupted_is_no_cell(methods, monkeypatch):
    run, script, folder = methods

    def interrupted(self, estimator, context):
        raise KeyboardInterrupt

    monkeypatch.setattr(script.Budget, "on_fit_task_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("--methods", "DMDistiller", "--seeds=1")
    assert not (folder / "cells.csv").exists()


@pytest.mark.parametrize(
    ("seconds", "n_iterations"), [(10, 3), (11.9, 4), (1, 1), (0, 1)]
)
def test_a_fit_ends_at_the_iteration_nearest_to_the_budget(
    seconds, n_iterations, monkeypatch
):
    script = load_script("_budget", monkeypatch, rate=False)
    # Iterations of three seconds.
    budget = script.Budget(seconds, itertools.count(0, 3).__next__)
    stops = [budget.on_fit_task_end(None, None) for _ in range(n_iterations)]
    assert stops == [False] * (n_iterations - 1) + [True]


def test_data_that_is_not_there_is_left_out(methods, tmp_path, capsys):
    run, *_ = methods
    one = ("--methods", "RandomSubset", "--seeds=1")
    table = run(*one, "--data", str(tmp_path / "nothing"), "digits")
    assert table["data"].tolist() == ["digits"]
    assert "left out: --data: " in capsys.readouterr().out
    with pytest.raises(SystemExit, match="none of the sets is there"):
        run(*one, "--data", str(tmp_path / "nothing"))


def test_fashion_images_are_read_from_their_four_files(monkeypatch, tmp_path):
    script = load_script("_data", monkeypatch, rate=False)
    random = np.random.default_rng(0)
    for subset, n_images in (("train", 40), ("t10k", 20)):
        labels = np.arange(n_images) % 10
        for kind, values in {
            "images-idx3": random.integers(256, size=(n_images, 28, 28)),
            "labels-idx1": labels,
        }.items():
            head = bytes([0, 0, 8, values.ndim])
            head += np.array(values.shape, ">i4").tobytes()
            with gzip.open(tmp_path / f"{subset}-{kind}-ubyte.gz", "wb") as file:
                file.write(head + values.astype(np.uint8).tobytes())
    sizes = Namespace(size=32, n_train=None, n_test=None, validation=0.25)
    name, split = script.any_images(str(tmp_path), sizes)
    assert name == "FashionMNIST"
    assert split.X.shape == (30, 28, 28, 1)
    assert len(split.y_validation) == 10
    assert split.y_test.tolist() == list(np.arange(20) % 10)


class Connection:
    """What a form of a benchmark sends its result by."""

    def send(self, result):
        self.result = result


def load_script(name, monkeypatch, rate=True):
    """Import a script, for the parts that it runs in other processes."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    path = BENCHMARKS / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if rate:
        monkeypatch.setattr(module, "matrix_rate", lambda device: 1.0)
    return module


@pytest.mark.parametrize("arm", ["plain", "package"])
def test_arms_of_the_training_of_teachers(arm, monkeypatch):
    script = load_script("teachers", monkeypatch)
    options = Namespace(
        device="cpu", width=4, size=8, batch_size=8, steps=2, epochs=1, at_once=1
    )
    connection = Connection()
    with single_threaded_torch():
        getattr(script, arm)(options, 1, threading.Barrier(1), connection)
    seconds, of_cores, rate = connection.result
    assert min(seconds, of_cores) > 0
    assert rate == 1.0


def test_forms_of_a_match_of_any_network_agree(monkeypatch):
    script = load_script("any_network", monkeypatch, rate=False)
    options = Namespace(
        device="cpu", classes=3, ipc=1, steps=2, width=4, width_multiplier=0.07
    )
    vars(options).update(normalization="group", size=8, repeats=1)
    with single_threaded_torch():
        for name, forms in (("convnet", script.FORMS), ("resnet18", script.FORMS[:2])):
            found = []
            for form in forms:
                connection = Connection()
                script.measure(form, name, options, connection)
                found.append(connection.result[2])
            for gradient in found[1:]:
                scale = np.abs(found[0]).max()
                np.testing.assert_allclose(gradient, found[0], atol=1e-4 * scale)


def test_forms_of_a_matching_iteration_agree(monkeypatch):
    script = load_script("matching", monkeypatch)
    options = Namespace(device="cpu", width=4, size=8, repeats=1, keep="auto")
    norms = []
    with single_threaded_torch():
        for form in ("plain", "exact"):
            connection = Connection()
            script.measure(form, [3, 1, 2], options, connection)
            norms.append(connection.result[2])
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_everything_for_a_gpu_works_the_first_time(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    out = tmp_path / "gpu.csv"
    argv = ["gpu.py", "--tiny", "--device=cpu", f"--out={out}"]
    monkeypatch.setattr(sys, "argv", argv)
    try:
        runpy.run_path(str(BENCHMARKS / "gpu.py"), run_name="__main__")
    finally:
        torch.compiler.set_stance("default")
        sys.modules.pop("matching", None)
    table = pd.read_csv(out)
    assert table["part"].drop_duplicates().tolist() == [
        "agreement",
        "iteration",
        "teachers",
        "precision",
        "compiling",
        "distillation",
    ]
    # Without a gain in speed compiling never pays.
    may_be_infinite = table["what"] == "pays after"
    assert np.isfinite(table["value"][~may_be_infinite]).all()
    errors = table.set_index("what")["value"]
    assert errors["cpu float32 against float64"] < 1e-4
    assert 1e-4 < errors["bfloat16: error of the gradient"] < 1
    assert errors["error of the gradient"] < 1e-4
    assert len(capsys.readouterr().out.splitlines()) >= len(table)
