"""Tables in several files, as data sets on a hub have them."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skdistill import load_image_folder

pytest.importorskip("pyarrow")


def write(folder, stem, total, numbers=None, **more):
    """Write parts of a table of two rows each; all images of row k are of gray k."""
    folder.mkdir(exist_ok=True, parents=True)
    for number in range(total) if numbers is None else numbers:
        rows = []
        for k in (2 * number, 2 * number + 1):
            file = io.BytesIO()
            Image.new("L", (4, 4), k).save(file, "PNG")
            image = {"bytes": file.getvalue(), "path": f"{k}.png"}
            rows.append({"image": image, "label": k % 2, **more})
        name = f"{stem}-{number:05d}-of-{total:05d}.parquet"
        pd.DataFrame(rows).to_parquet(folder / name)
    return folder


def load(path):
    return load_image_folder(path, verbose=0, return_X_y=True)


@pytest.mark.filterwarnings("ignore:.*fewer than two folders")
@pytest.mark.parametrize("given", ["", "data", "data/train-*.parquet", "data/*"])
def test_parts_are_joined(tmp_path, given):
    write(tmp_path / "data", "train", 3)
    (tmp_path / "README.md").write_text("A card.")
    X, y = load(tmp_path / given)
    assert X[:, 0, 0, 0].tolist() == list(range(6))
    assert y.tolist() == [0, 1] * 3


@pytest.mark.filterwarnings("ignore:.*fewer than two folders")
def test_one_part_that_is_all(tmp_path):
    assert len(load(write(tmp_path, "train", 1))[0]) == 2


@pytest.mark.filterwarnings("error")
def test_one_of_several_is_told(tmp_path):
    write(tmp_path, "train", 2)
    with pytest.warns(
        UserWarning, match=r"one of 2 parts: use `path`=.*train-\*\.parquet"
    ):
        X, _ = load(tmp_path / "train-00001-of-00002.parquet")
    assert X[:, 0, 0, 0].tolist() == [2, 3]


def test_train_and_test_are_not_mixed(tmp_path):
    write(tmp_path, "test", 1)
    write(tmp_path, "train", 2)
    with pytest.raises(ValueError, match=r"several tables.*test-\*.*train-\*\.parquet"):
        load(tmp_path)
    assert len(load(tmp_path / "train-*.parquet")[0]) == 4


@pytest.mark.filterwarnings("ignore:.*fewer than two folders")
@pytest.mark.parametrize("given", ["", "train-*.parquet"])
def test_parts_that_are_missing(tmp_path, given):
    write(tmp_path, "train", 3, [0, 2])
    with pytest.raises(FileNotFoundError, match=r"1 of 3 .*'train-00001-of-00003"):
        load(tmp_path / given)


def test_parts_that_do_not_fit(tmp_path):
    write(tmp_path, "train", 2, [0])
    write(tmp_path, "train", 2, [1], extra=np.nan)
    with pytest.raises(ValueError, match=r"same columns.*00001-of-00002.*'extra'"):
        load(tmp_path / "train-*.parquet")


def test_patterns_without_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must match one or more tables"):
        load(tmp_path / "train-*.parquet")
