"""The demo runs from end to end, with smaller numbers than a user gets."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from skdistill import SyntheticSet

SCRIPT = Path(__file__).parents[1] / "examples" / "plot_discover_galaxies.py"
SMALLER = {
    "make_galaxies(900,": "make_galaxies(270,",
    "WIDTH = 32": "WIDTH = 8",
    "N_TEACHERS = 6": "N_TEACHERS = 2",
    "n_epochs=10": "n_epochs=3",
    "N_ITERATIONS = 240": "N_ITERATIONS = 5",
    "max_iter=250": "max_iter=2",
    "N_NETWORKS, N_CHOICES = 5, 15": "N_NETWORKS, N_CHOICES = 1, 2",
}


@pytest.mark.parametrize("data", ["simulated", "gz2-sample"])
def test_demo_writes_what_it_promises(data, tmp_path, monkeypatch, capsys, request):
    source = SCRIPT.read_text(encoding="utf-8")
    for number, smaller in SMALLER.items():
        assert source.count(number) == 1, number
        source = source.replace(number, smaller)
    arguments = ["demo", "--output", str(tmp_path)]
    if data != "simulated":
        folder = request.getfixturevalue("shared_data") / data
        arguments += ["--data", str(folder)]
    monkeypatch.setattr(sys, "argv", arguments)
    exec(compile(source, str(SCRIPT), "exec"), {"__name__": "__main__"})

    for name in ("distilled.png", "learning.png", "confusion.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 300
    distilled = SyntheticSet.load(tmp_path / "synthetic.safetensors")
    assert distilled.X.shape == (9, 32, 32, 3)
    assert len(set(distilled.y)) == 9
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert set(scores["trained on"]) == {
        "distilled images",
        "random real images",
        "all real images",
    }
    assert scores["mean"].between(0, 1).all()
    # At the best rate of random images there is one more choice of them.
    counts = scores.set_index(["trained on", "rate"])["count"]
    assert counts["all real images"].tolist() == [2]
    assert counts["distilled images"].tolist() == [1, 1, 1]
    assert sorted(counts["random real images"]) == [1, 1, 2]
    printed = capsys.readouterr()
    assert "galaxies held out" in printed.out
    # The first picture is there before the scores are, and one bar tells of all.
    picture, table = printed.out.index("distilled.png"), printed.out.index("held out:")
    assert picture < table
    parts = ["teachers", "distillation", "evaluation"]
    found = re.findall(r"(\w+): *(\d+)%\|", printed.err)
    assert list(dict.fromkeys(part for part, _ in found)) == parts
    shares = [int(share) for _, share in found]
    assert shares == sorted(shares)
    assert shares[-1] == 100
    assert " left" in printed.err
