"""What sets tell of their making: plain values, and nobody's folders."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from skdistill import ConvNetClassifier, STMDistiller, SyntheticSet, TrajectoryBuffer
from skdistill.utils import _metadata
from skdistill.utils._metadata import (
    check_words,
    command_line,
    counts_of,
    describe_fit,
    plain,
)

DEEP: list = []
for _ in range(40):
    DEEP = [DEEP]


def named(image_shape, n_classes):
    """Make no network; it is a name."""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (np.bool_(True), True),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (float("inf"), "inf"),
        (np.float64("nan"), "nan"),
        ("auto", "auto"),
        ("x" * 400, "x" * 300 + " …"),
        ((1, np.array([2.0, 3.0])), [1, [2.0, 3.0]]),
        ({1: {"a", "b"}}, {"1": ["a", "b"]}),
        (np.zeros((100, 8, 8, 3)), "<ndarray of shape (100, 8, 8, 3)>"),
        (torch.zeros(2, 3), "<Tensor of shape (2, 3)>"),
        (list(range(1000)), "<list of 1000>"),
        (np.zeros((9, 8, 8, 3)).tolist(), "<list of 9>"),
        (((1, (2, 3)), ["a", ()]), [[1, [2, 3]], ["a", []]]),
        (torch.device("cpu"), "cpu"),
        (torch.float64, "torch.float64"),
        (functools.partial(named, n_classes=3), f"<{__name__}.named>"),
        (torch.nn.Linear(2, 2), "<torch.nn.modules.linear.Linear>"),
        (torch.nn.Linear, "<torch.nn.modules.linear.Linear>"),
        (object(), "<builtins.object>"),
        (Path("runs/one"), "<path>"),
        ("/home/someone/runs", "<path>"),
        ("C:\\Users\\someone\\runs", "<path>"),
        ("~/runs", "<path>"),
        ({"weights": "/home/someone/w.pt"}, {"weights": "<path>"}),
    ],
)
def test_plain(value, expected):
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)
    json.dumps(found, allow_nan=False)


def test_estimators_are_their_names_and_parameters():
    found = plain(TrajectoryBuffer(path="runs", device="cpu", class_weight={"a": 2.0}))
    assert found["name"] == "TrajectoryBuffer"
    assert found["class_weight"] == {"a": 2.0}
    assert not {"path", "device", "verbose", "n_jobs"} & set(found)
    assert plain([LogisticRegression(C=3)])[0]["C"] == 3
    json.dumps(plain(DEEP))


def test_a_fit_says_nothing_of_folders():
    distiller = STMDistiller(
        buffer="secret/teachers",
        checkpoint=Path("secret/run"),
        init=np.zeros((9, 32, 32, 3)),
        estimator=ConvNetClassifier(width=4),
        random_state=np.random.RandomState(0),
    )
    found = describe_fit(distiller, np.array([1, 1, 2]), 7, torch.device("cpu"))
    assert found["seed"] == 7
    assert found["n_real_images"] == {"1": 2, "2": 1}
    assert found["parameters"]["estimator"]["width"] == 4
    assert found["parameters"]["init"] == "<ndarray of shape (9, 32, 32, 3)>"
    assert found["run"]["device"] == "cpu"
    assert "secret" not in json.dumps(found)


def test_counts_are_of_any_labels():
    assert counts_of(np.array(["b", "a", "b"])) == {"a": 1, "b": 2}
    assert counts_of(np.array([True, False, True])) == {"False": 1, "True": 2}
    assert counts_of(np.array([0.5, 2.0])) == {"0.5": 1, "2.0": 1}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/home/someone/train.py", "--ipc", "1"], "train.py --ipc 1"),
        (["/usr/lib/python3/site-packages/pytest/__main__.py", "-q"], "pytest -q"),
        (["C:\\Users\\someone\\train.py"], "train.py"),
        (["train.py", "--x=/data/gz2", "-o", "out/x"], "train.py --x=<path> -o <path>"),
        (["train.py", "configs/a.yaml", "~/b.csv"], "train.py a.yaml b.csv"),
        (["train.py", "/home/some.one", "/home/some.one/"], "train.py <path> <path>"),
        (["train.py", "https://me:pw@host/a.zip?key=1"], "train.py a.zip"),
        (["train.py", "--api-key", "xyz", "7"], "train.py --api-key <hidden> 7"),
        (["a.py", "--token=xyz", "KEY=3"], "a.py --token=<hidden> KEY=<hidden>"),
        (["train.py", "--auth", "--lr", "1e-3"], "train.py --auth --lr 1e-3"),
        (["train.py", "--user", "someone"], "train.py --user <hidden>"),
        (["train.py", "someone", "--by=Someone"], "train.py <hidden> --by=<hidden>"),
        (["train.py", "a" * 400], "train.py " + "a" * 291 + " …"),
        ([], None),
        ([""], None),
        (["-c"], None),
        (["/x/ipykernel_launcher.py", "-f", "/run/kernel-1.json"], None),
        (["/usr/bin/ipython"], None),
    ],
    ids=str,
)  # fmt: skip
def test_command_line(argv, expected, monkeypatch):
    monkeypatch.setattr(_metadata, "_user", lambda: "someone")
    assert command_line(argv) == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=4))
def test_any_command_line_is_told_in_bounds(argv):
    found = command_line(argv)
    assert found is None or len(found) <= 302


def test_described():
    synthetic = SyntheticSet(np.zeros((2, 4, 4, 1)), [0, 1], metadata={"seed": 1})
    found = synthetic.described(data=" Galaxy Zoo 2 ", citation="a\nb")
    assert found.metadata == {"seed": 1, "data": "Galaxy Zoo 2", "citation": "a\nb"}
    assert synthetic.metadata == {"seed": 1}
    again = found.described(license="CC BY 4.0")
    assert again.metadata["data"] == "Galaxy Zoo 2"
    assert again.X is not None
    with pytest.raises(TypeError, match=r"`data` must be text; got .* ndarray"):
        synthetic.described(data=np.zeros(3))
    with pytest.raises(ValueError, match="`license` must be text; got an empty"):
        synthetic.described(license=" ")
    with pytest.raises(ValueError, match="`data` must be a single line of text"):
        check_words(data="a\nb")
