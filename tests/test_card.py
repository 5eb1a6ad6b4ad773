"""The card of a set: what it says, what it leaves alone, and that it loads."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

import skdistill.utils._layouts as layouts_module
from skdistill import (
    Herding,
    RandomSubset,
    SyntheticSet,
    evaluate_synthetic,
    load_image_folder,
    make_galaxies,
)
from skdistill.metrics import compare_scores
from skdistill.metrics._evaluate import SyntheticScore
from skdistill.utils._card import cell
from skdistill.utils._references import REFERENCES, references_of
from skdistill.utils._results import result_rows

rng = np.random.default_rng(0)
NAMES = ["a|b", "<b>c</b>", "d_*e*"]
SCORE = SyntheticScore(0.71, 0.02, np.array([0.69, 0.73]))
RANDOM = SyntheticScore(0.42, 0.01, np.array([0.41, 0.43]))


@pytest.fixture
def synthetic():
    X = rng.uniform(size=(30, 8, 6, 3))
    y = np.array(NAMES)[np.arange(30) % 3]
    subset = RandomSubset(ipc=2, random_state=5, device="cpu").fit(X, y)
    return subset.synthetic_


def front_of(text):
    """Return the front matter, whose values are JSON."""
    _, front, _ = text.split("---\n", 2)
    lines = (line.partition(": ") for line in front.splitlines())
    return {key: json.loads(value) for key, _, value in lines}


def card_of(synthetic, folder, **settings):
    synthetic.card(folder, **settings)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_a_card_says_what_is_known(synthetic, tmp_path):
    given = synthetic.described(url="https://example.org", citation="Me, 2026")
    text = card_of(
        given, tmp_path, data="My galaxies", license="CC BY 4.0", scores={"x": SCORE}
    )
    front = front_of(text)
    assert front["license"] == "cc-by-4.0"
    assert front["pretty_name"] == "My galaxies, distilled"
    assert front["task_categories"] == ["image-classification"]
    assert "dataset-distillation" in front["tags"]
    assert front["size_categories"] == ["n<1K"]
    assert front["viewer"] is False
    assert "# My galaxies, distilled\n" in text
    for row in (
        "| data | My galaxies |",
        "| license of the data | CC BY 4.0 |",
        "| distiller | RandomSubset |",
        "| seed | 5 |",
        r"| real images | 30 (&lt;b&gt;c&lt;/b&gt;: 10, a\|b: 10, d\_\*e\*: 10) |",
        "| x | 0.710 | 0.020 | 2 |",
    ):
        assert row in text.splitlines()
    assert (
        r"| a\|b | 10 | ![distilled images of a\|b](card_images/class_1.png) |" in text
    )
    assert "Me, 2026" in text
    assert "@software{skdistill" in text
    assert str(tmp_path) not in text
    assert '"ipc": 2' in text
    # A table has as many cells in each of its rows.
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [re.findall(r"(?<!\\)\|", row) for row in table.splitlines()]
        assert len({len(row) for row in rows}) == 1


def test_pictures_are_the_images(synthetic, tmp_path):
    text = card_of(synthetic, tmp_path)
    places = re.findall(r"\((card_images/\S+)\)", text)
    assert places == [f"card_images/class_{n}.png" for n in range(3)]
    pixels = synthetic.to_images()
    for label, place in zip(sorted(NAMES), places, strict=True):
        with Image.open(tmp_path / place) as picture:
            found = np.asarray(picture)
        # Of 8 x 6 pixels eight times as large, with a gap of four.
        assert found.shape == (64, 2 * 48 + 4, 3)
        first, second = pixels[synthetic.y == label]
        np.testing.assert_array_equal(found[::8, :48:8], first)
        np.testing.assert_array_equal(found[::8, 52::8], second)


def test_what_a_card_says_about_loading_runs(synthetic, tmp_path):
    text = card_of(synthetic, tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code += "\nassert X.shape == (6, 8, 6, 3), X.shape\n"
    code += "assert synthetic.metadata['seed'] == 5\n"
    environment = {"PYTHONPATH": str(Path(layouts_module.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_part_replaces_the_real_images_of_its_classes(synthetic, tmp_path):
    part = SyntheticSet.concat([synthetic.of_class(name) for name in NAMES[:2]])
    assert " in place of 20 real ones." in card_of(part, tmp_path)
    renamed = SyntheticSet(part.X, ["a", "b"] * 2, metadata=part.metadata)
    assert " in place of the real images." in card_of(renamed, tmp_path)


def test_a_set_that_nobody_knows_anything_about(tmp_path):
    bare = SyntheticSet(np.zeros((3, 300, 700, 5)), [True, False, True], 0.01)
    text = card_of(bare, tmp_path, class_names={True: "yes"}, composite=(0, 1, 2))
    assert "license" not in front_of(text)
    assert "# Distilled images\n" in text
    assert "made by dataset distillation" in text
    assert "| yes | ![" in text
    assert "## Scores" not in text
    assert "| step size | 0.01 |" in text
    with Image.open(tmp_path / "card_images" / "class_1.png") as picture:
        assert picture.size == (2 * 234 + 4, 100)
    strange = SyntheticSet(
        bare.X,
        bare.y,
        metadata={
            "n_real_images": "many",
            "teachers": 3,
            "run": {"versions": 3, "date": 4},
            "data": 7,
        },
    )
    assert "many" not in card_of(strange, tmp_path, composite=(0, 1, 2))


def test_many_classes_and_images_are_bounded(tmp_path):
    many = SyntheticSet(np.zeros((240, 2, 2, 1)), np.arange(240) % 120)
    text = card_of(many, tmp_path)
    assert text.count("![") == 100
    assert "the first 100 of 120 classes" in text
    few = SyntheticSet(np.zeros((24, 2, 2, 1)), np.arange(24) % 2)
    text = card_of(few, tmp_path)
    assert "the first 10 images of each class" in text
    # Those of the larger set are gone.
    assert len(list((tmp_path / "card_images").iterdir())) == 2


@pytest.mark.parametrize(
    ("license", "expected"),
    [
        ("MIT", "mit"),
        ("cc by-nc-sa 4.0", "cc-by-nc-sa-4.0"),
        ("CC0", "cc0-1.0"),
        ("Apache 2.0", "apache-2.0"),
        ("As the survey says: ask", "other"),
    ],
)
def test_licenses(synthetic, tmp_path, license, expected):
    front = front_of(card_of(synthetic, tmp_path, license=license))
    assert front["license"] == expected
    assert front.get("license_name") == (license if expected == "other" else None)


def test_what_is_there_stays(synthetic, tmp_path):
    other = tmp_path / "README.md"
    other.write_text("# My project")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        FileExistsError, match=r"README.md was not written by skdistill"
    ):
        synthetic.card(tmp_path)
    with pytest.raises(FileExistsError, match="was not written by"):
        synthetic.card(other)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "notes.txt",
    ]
    synthetic.card(tmp_path / "card.md")
    assert other.read_text() == "# My project"
    assert (tmp_path / "card.md").read_text().startswith("---\n")
    synthetic.card(tmp_path / "card.md", data="again")
    assert "again" in (tmp_path / "card.md").read_text()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(FileExistsError, match="is a file"):
        synthetic.card(tmp_path / "notes.txt")
    with pytest.raises(FileExistsError, match="is a file"):
        synthetic.card(tmp_path / "notes.txt" / "card.md")


def test_a_card_is_whole_or_not_there(synthetic, tmp_path, monkeypatch):
    synthetic.card(tmp_path, data="first")

    def full(*arguments, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SyntheticSet, "save", full)
    with pytest.raises(OSError, match="No space left"):
        synthetic.card(tmp_path, data="second")
    assert "first" in (tmp_path / "README.md").read_text()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["README.md", "card_images", "synthetic_set.safetensors"]
    assert len(list((tmp_path / "card_images").iterdir())) == 3


def test_bad_input_is_named_before_anything_is_written(synthetic, tmp_path):
    folder = tmp_path / "new"
    for error, match, settings in (
        (TypeError, "`data` must be text", {"data": np.zeros(3)}),
        (TypeError, "`name` must be text", {"name": 3}),
        (ValueError, "`license` must be a single line", {"license": "a\nb"}),
        (ValueError, "a name for each of the 3 classes", {"class_names": ["a"]}),
        (ValueError, "a name for each of the 3 classes", {"class_names": "abc"}),
        (TypeError, "`scores` must be a result of", {"scores": "good"}),
        (TypeError, "for 'x' got DataFrame", {"scores": {"x": pd.DataFrame()}}),
        (ValueError, "finite; for 'x' got nan", {"scores": {"x": np.nan}}),
    ):
        with pytest.raises(error, match=match):
            synthetic.card(folder, **settings)
    assert not folder.exists()


def test_the_baseline_has_its_name():
    X, y = make_galaxies(90, size=16, random_state=0)
    synthetic = RandomSubset(random_state=0).fit(X, y).synthetic_
    for baseline, name, made_of_real in (
        ("random", "random real images", True),
        (Herding(), "Herding", True),
        (Herding().fit(X, y).synthetic_, "Herding", False),
        (SyntheticSet(synthetic.X, synthetic.y), "another set", False),
    ):
        made = {"X_train": X, "y_train": y} if made_of_real else {}
        score = evaluate_synthetic(
            synthetic,
            *(X + 0.01, y),
            estimator=KNeighborsClassifier(1),
            n_repeats=2,
            baseline=baseline,
            **made,
        )
        rows = result_rows(score)[1]
        names = ["these images", name, "difference"]
        assert [row[0] for row in rows] == names[: len(rows)]
        found = score.difference
        assert (len(rows) == 3) == np.isfinite(found.low)
        if len(rows) == 3:
            assert rows[2][1].startswith(f"{found.difference:+.3f} ({found.low:+.3f}")


def test_the_difference_is_shown_with_its_interval():
    found = SyntheticScore(0.5, 0.1, np.array([0.4, 0.6]))
    found.baseline = SyntheticScore(0.25, 0.05, np.array([0.2, 0.3]))
    found.difference = compare_scores([0.4, 0.6, 0.5], [0.2, 0.3, 0.2])
    head, rows = result_rows(found)
    names = ["these images", "random real images", "difference"]
    assert [row[0] for row in rows] == names
    low, high = found.difference.low, found.difference.high
    assert rows[2][1] == f"+0.267 ({low:+.3f} to {high:+.3f})"
    assert len({len(row) for row in [head, *rows]}) == 1


def test_a_folder_with_a_card_is_loaded(tmp_path):
    X, y = make_galaxies(90, size=16, random_state=0)
    synthetic = RandomSubset(random_state=0).fit(X, y).synthetic_
    synthetic.card(tmp_path / "sent")
    assert np.array_equal(SyntheticSet.load(tmp_path / "sent").X, synthetic.X)
    with pytest.raises(FileNotFoundError, match=r"synthetic_set.* does not exist"):
        SyntheticSet.load(tmp_path)


@pytest.mark.filterwarnings("ignore:.*fewer than two folders")
def test_an_exported_folder_is_a_folder_of_images(tmp_path):
    """And the pictures of its card are none of them."""
    pytest.importorskip("pyarrow")
    X, y = make_galaxies(90, size=16, random_state=0)
    synthetic = RandomSubset(random_state=0).fit(X, y).synthetic_
    synthetic.export(tmp_path / "hub", "huggingface")
    images, classes = load_image_folder(tmp_path / "hub", verbose=0, return_X_y=True)
    assert images.shape == synthetic.X.shape
    assert sorted(classes.tolist()) == sorted(synthetic.y.tolist())


def test_scores_in_any_form():
    with_baseline = SyntheticScore(*SCORE)
    with_baseline.baseline = RANDOM
    head, rows = result_rows(with_baseline)
    assert head == ["", "mean", "standard deviation", "networks"]
    assert rows == [
        ["these images", "0.710", "0.020", "2"],
        ["random real images", "0.420", "0.010", "2"],
    ]
    head, rows = result_rows({"ours": with_baseline, "theirs": (0.5, 0.1)})
    assert [row[0] for row in rows] == [
        "ours",
        "random real images, for ours",
        "theirs",
    ]
    assert rows[2][1:] == ["0.500", "0.100", ""]
    assert result_rows(np.float32(0.5)) == (["", "score"], [["these images", "0.500"]])
    assert result_rows([0.25, 0.75])[1] == [["these images", "0.500", "0.250", "2"]]
    assert result_rows(None) == ([], [])
    table = pd.DataFrame({"mean": [0.5], "n": [3]}, index=["DM"])
    assert result_rows(table) == (["index", "mean", "n"], [["DM", "0.500", "3"]])


def test_cells_are_text():
    assert cell("a\n| b") == r"a \| b"
    assert cell("<img src=x> [a](b) `c`") == r"&lt;img src=x&gt; \[a\](b) \`c\`"


def test_every_method_is_cited_as_the_documentation_does():
    import skdistill.distillation as package

    cited = " ".join(
        (Path(__file__).parents[1] / "doc" / "citing.rst").read_text().split()
    )
    for references in REFERENCES.values():
        for reference in references:
            assert " ".join(reference.split()) in cited
    without = {"RandomSubset", "ClassMeans", "KMeansPrototypes", "FullData"}
    without |= {"DistilledClassifier"}
    assert set(REFERENCES) == set(package.__all__) - without
    found = references_of({"distiller": "RFADDistiller", "citation": "A catalog"})
    assert [one.partition("{")[0] for one in found] == [
        "@inproceedings",
        "@inproceedings",
        "A catalog",
        "@software",
    ]
    assert "version" not in found[-1]
