import hashlib
import io
import pickle
import shutil
import sys
import tarfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skdistill.datasets import _cifar, load_cifar10, load_cifar100

# The coarse class of each fine one, as other libraries list them.
COARSE = [
    *[4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10],
    *[7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13],
    *[14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1],
    *[9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18],
    *[1, 2, 15, 6, 0, 17, 8, 14, 13],
]
LOADERS = {"CIFAR10": load_cifar10, "CIFAR100": load_cifar100}


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture(params=LOADERS)
def name(request):
    return request.param


@pytest.fixture
def published(name, server, monkeypatch, tmp_path):
    """An archive as published, but of few images: its bytes, X and y of each subset."""
    datasets = pytest.importorskip("torchvision.datasets")
    dataset = getattr(datasets, name)
    rng = np.random.default_rng(0)
    n_classes = 10 if name == "CIFAR10" else 100
    key = "labels" if name == "CIFAR10" else "fine_labels"
    files, arrays = {}, {}
    for subset in ["train", "test"]:
        entries = getattr(dataset, f"{subset}_list")
        images, targets, sums = [], [], []
        for file_name, _ in entries:
            X = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
            y = rng.integers(0, n_classes, 20)
            batch = {"data": X.transpose(0, 3, 1, 2).reshape(20, -1), key: y.tolist()}
            files[file_name] = pickle.dumps(batch)
            sums.append([file_name, md5(files[file_name])])
            images.append(X)
            targets.append(y)
        arrays[subset] = np.concatenate(images), np.concatenate(targets)
        monkeypatch.setattr(dataset, f"{subset}_list", sums)
    meta = dataset.meta
    files[meta["filename"]] = pickle.dumps({meta["key"]: ["a"]})
    monkeypatch.setattr(dataset, "meta", meta | {"md5": md5(files[meta["filename"]])})
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for file_name, data in files.items():
            info = tarfile.TarInfo(f"{dataset.base_folder}/{file_name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    server.files[dataset.filename] = content.getvalue()
    monkeypatch.setattr(dataset, "url", server.url(dataset.filename))
    monkeypatch.setattr(dataset, "tgz_md5", md5(content.getvalue()))
    return dataset, arrays


def test_downloads_once_and_reads(name, server, published, tmp_path):
    dataset, arrays = published

    def drop(handler, content):
        handler.send_content(content, n_bytes=5000)

    server.faults[dataset.filename] = [drop]
    load = LOADERS[name]
    cifar = load(tmp_path, delay=0.0, verbose=0)
    X, y = arrays["train"]
    np.testing.assert_array_equal(cifar.data, X)
    np.testing.assert_array_equal(cifar.target, y)
    assert cifar.images is cifar.data
    assert cifar.target.dtype == np.int64
    assert "Krizhevsky" in cifar.DESCR
    assert [r[2] for r in server.requests] == [None, "bytes=5000-"]

    Xt, yt = load(tmp_path, subset="test", return_X_y=True, download_if_missing=False)
    np.testing.assert_array_equal(Xt, arrays["test"][0])
    np.testing.assert_array_equal(yt, arrays["test"][1])
    Xa, ya = load(tmp_path, subset="all", return_X_y=True)
    np.testing.assert_array_equal(Xa, np.concatenate([X, Xt]))
    np.testing.assert_array_equal(ya, np.concatenate([y, yt]))
    assert len(server.requests) == 2


def test_damaged_batches_are_never_unpickled(name, published, tmp_path, server):
    dataset, arrays = published
    load = LOADERS[name]
    load(tmp_path, verbose=0)
    batch = tmp_path / dataset.base_folder / dataset.train_list[0][0]

    class Evil:
        def __reduce__(self):
            return (shutil.rmtree, (str(tmp_path),))

    batch.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(
        OSError, match=r"differs from the published.*download_if_missing"
    ):
        load(tmp_path, download_if_missing=False)
    # The archive is still there and right: extracted again, not downloaded.
    X, _ = load(tmp_path, return_X_y=True, verbose=0)
    np.testing.assert_array_equal(X, arrays["train"][0])
    assert len(server.requests) == 1


def test_wrong_archives_are_refused(name, published, tmp_path, server, monkeypatch):
    dataset, _ = published
    monkeypatch.setattr(dataset, "tgz_md5", "0" * 32)
    with pytest.raises(OSError, match=r"is not usable: .*MD5 sum must be 0000"):
        LOADERS[name](tmp_path, verbose=0)
    assert not (tmp_path / dataset.filename).exists()
    assert not (tmp_path / dataset.base_folder).exists()
    # Half a file that another program left under the name.
    (tmp_path / dataset.filename).write_bytes(b"half")
    with pytest.raises(OSError, match=r"MD5 sum must be 0000.*Remove it"):
        LOADERS[name](tmp_path, verbose=0)


def test_home_of_scikit_learn(name, published, tmp_path, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    LOADERS[name](verbose=0)
    assert (tmp_path / "cifar" / published[0].base_folder).is_dir()


def test_missing_package_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"pip install skdistill\[vision\]"):
        LOADERS[name](tmp_path)


def test_classes_of_cifar100():
    names = _cifar._CIFAR100_NAMES
    assert len(names) == 100
    assert [_cifar._COARSE_OF[n] for n in names] == COARSE
    assert names[0] == "apple"
    assert names[-1] == "worm"


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_tables(tmp_path, images, is_nested, kind):
    pytest.importorskip("pyarrow")
    cells = [encoded(image, kind) for image in images]
    if is_nested:
        cells = [{"bytes": c, "path": None} for c in cells]
    labels = [3, 99, 0, 50, 7, 3]
    columns = ("img", "fine_label") if is_nested else ("image", "label")
    frame = pd.DataFrame(dict(zip(columns, (cells, labels), strict=True)))
    frame = frame.astype({columns[1]: "int8"})
    # Large tables come in parts.
    frame[:2].to_parquet(tmp_path / "train-00000-of-00002.parquet")
    frame[2:5].to_parquet(tmp_path / "train-00001-of-00002.parquet")
    frame[5:].to_parquet(tmp_path / "test.parquet")
    cifar = load_cifar100(tmp_path, subset="all", labels="coarse")
    np.testing.assert_array_equal(cifar.data, images)
    assert cifar.fine_target.tolist() == labels
    assert cifar.coarse_target.tolist() == [COARSE[i] for i in labels]
    assert cifar.target is cifar.coarse_target
    assert cifar.target_names == cifar.coarse_names
    assert len(cifar.coarse_names) == 20
    X, y = load_cifar100(tmp_path, return_X_y=True)
    assert X.shape == (5, 32, 32, 3)
    assert y.tolist() == labels[:5]
    with pytest.raises(ValueError, match=r"Row 1 of '.*00000.*from 0 to 9; got .*99"):
        load_cifar10(tmp_path)


def test_damaged_tables(tmp_path, images):
    pytest.importorskip("pyarrow")
    path = tmp_path / "train.parquet"
    good = encoded(images[0])
    small = encoded(images[0][:16])
    animated = io.BytesIO()
    frames = [Image.fromarray(image) for image in images]
    frames[0].save(animated, "WEBP", save_all=True, append_images=frames[1:])
    other_format = encoded(images[0], "TIFF")
    for cell in [good[:50], b"", None, small, animated.getvalue(), other_format]:
        frame = pd.DataFrame({"image": [good, cell], "label": [1, 2]})
        frame.to_parquet(path)
        with pytest.raises(ValueError, match=r"Row 1 of '.*32 x 32 pixels"):
            load_cifar10(tmp_path)
    pd.DataFrame({"image": ["text"], "label": [1]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"Row 0 of '.*32 x 32 pixels"):
        load_cifar10(tmp_path)
    for label in [10, -1, 0.5, None]:
        frame = pd.DataFrame({"image": [good, good], "label": [1, label]})
        frame.to_parquet(path)
        with pytest.raises(ValueError, match=r"Row 1 of .*whole number from 0 to 9"):
            load_cifar10(tmp_path)
    pd.DataFrame({"pixels": [good]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"one of the columns .*'pixels'"):
        load_cifar10(tmp_path)
    path.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"train\.parquet.*cannot be read"):
        load_cifar10(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"test\*\.parquet"):
        load_cifar10(tmp_path, subset="test")


def test_wrong_parameters(tmp_path):
    for options in [{"subset": "val"}, {"n_retries": -1}, {"delay": -1}]:
        with pytest.raises(ValueError, match=f"'{next(iter(options))}' parameter"):
            load_cifar10(tmp_path, **options)
    with pytest.raises(ValueError, match="'labels' parameter"):
        load_cifar100(tmp_path, labels="both")


def test_real_tables(shared_data):
    pytest.importorskip("pyarrow")
    cifar = load_cifar10(shared_data / "cifar10", subset="test")
    assert cifar.data.shape == (10_000, 32, 32, 3)
    assert cifar.data.dtype == np.uint8
    assert np.bincount(cifar.target).tolist() == [1000] * 10
    assert len(cifar.target_names) == 10
    # Lossless: the published test images, in their order.
    assert cifar.target[:5].tolist() == [3, 8, 8, 0, 6]
    # Ships and airplanes are on blue ground, frogs are not.
    blue = [
        (cifar.data[cifar.target == c, :8, :, 2].mean())
        - (cifar.data[cifar.target == c, :8, :, 0].mean())
        for c in (0, 8, 6)
    ]
    assert min(blue[:2]) > blue[2]
