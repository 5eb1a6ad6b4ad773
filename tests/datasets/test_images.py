"""Where images are found, and archives that nobody should trust."""

import os
import stat
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from skdistill.datasets import _download, _images
from skdistill.datasets._images import extract_images, image_paths
from skdistill.utils._image_files import the_one


def write_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.fixture
def contents():
    rng = np.random.default_rng(0)
    return {i: rng.bytes(500 + i) for i in range(1, 9)}


@pytest.fixture
def archive(tmp_path, contents):
    members = [(f"images/{i}.jpg", c) for i, c in contents.items()]
    members += [("images/", b""), ("readme.txt", b"x"), ("__MACOSX/._1.jpg", b"x")]
    return write_zip(tmp_path / "a.zip", members)


def link(name):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


UNSAFE = {
    "parent": ("../1.jpg", "a path outside"),
    "parent inside": ("images/../../1.jpg", "a path outside"),
    "absolute": ("/tmp/1.jpg", "a path outside"),
    "backslashes": ("..\\1.jpg", "a path outside"),
    "drive": ("C:/1.jpg", "a path outside"),
    "not an image": ("../evil.sh", "a path outside"),
    "link": (link("images/1.jpg"), "a link"),
    "link of a folder": (link("images"), "a link"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_unsafe_archives_are_refused(tmp_path, contents, case):
    name, reason = UNSAFE[case]
    path = write_zip(tmp_path / "a.zip", [("images/2.jpg", contents[2]), (name, "x")])
    with pytest.raises(ValueError, match=rf"a\.zip.*member.*{reason}"):
        extract_images(path, tmp_path / "in" / "out")
    with pytest.raises(ValueError, match=rf"a\.zip.*member.*{reason}"):
        image_paths(path)
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"]
    assert files == [path]
    assert not (tmp_path / "in" / "out").exists()


def test_encrypted_archives_are_refused(tmp_path, archive):
    content = bytearray(archive.read_bytes())
    # The flag in the central directory, which is what zipfile lists.
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="encrypted"):
        image_paths(archive)


def test_extracts_images_and_nothing_else(tmp_path, archive, contents):
    extract_images(archive, tmp_path / "out")
    found = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert found == {f"{i}.jpg": c for i, c in contents.items()}
    assert not (tmp_path / "out.part").exists()
    # What is complete is left alone.
    archive.unlink()
    extract_images(archive, tmp_path / "out")


def test_interrupted_extraction_goes_on(tmp_path, archive, contents, monkeypatch):
    copy = _images.shutil.copyfileobj
    copied = []

    def interrupted(source, file):
        if len(copied) == 5:
            file.write(source.read(100))
            raise KeyboardInterrupt
        copied.append(source.name)
        copy(source, file)

    monkeypatch.setattr(_images.shutil, "copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract_images(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(
        _images.shutil,
        "copyfileobj",
        lambda source, file: copied.append(source.name) or copy(source, file),
    )
    extract_images(archive, tmp_path / "out")
    assert sorted(copied) == sorted(f"images/{i}.jpg" for i in contents)
    for i, content in contents.items():
        assert (tmp_path / "out" / f"{i}.jpg").read_bytes() == content


def test_two_at_once(tmp_path, archive, contents, monkeypatch):
    """The second waits, and finds the work done."""
    copy = _images.shutil.copyfileobj
    copied, started, waiting = [], threading.Event(), threading.Event()

    def slow(source, file):
        started.set()
        assert waiting.wait(30)
        copied.append(source.name)
        copy(source, file)

    def write(message, file):
        waiting.set()

    monkeypatch.setattr(_images.shutil, "copyfileobj", slow)
    monkeypatch.setattr(_download.tqdm, "write", write)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(extract_images, archive, tmp_path / "out", progress=True)
        assert started.wait(30)
        second = pool.submit(extract_images, archive, tmp_path / "out", progress=True)
        first.result(30)
        second.result(30)
    assert sorted(copied) == sorted(f"images/{i}.jpg" for i in contents)
    for i, content in contents.items():
        assert (tmp_path / "out" / f"{i}.jpg").read_bytes() == content


def test_damaged_member(tmp_path, archive, contents):
    content = bytearray(archive.read_bytes())
    place = content.index(b"images/3.jpg") + 60
    content[place] ^= 255
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip' is damaged at 'images/3\.jpg'"):
        extract_images(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_archive_that_is_cut_short(tmp_path, archive, share):
    content = archive.read_bytes()
    archive.write_bytes(content[: int(share * len(content))])
    for function in [image_paths, lambda p: extract_images(p, tmp_path / "out")]:
        with pytest.raises(ValueError, match=r"a\.zip' is not a valid zip archive"):
            function(archive)
    assert not (tmp_path / "out").exists()


def test_bomb(tmp_path, archive, monkeypatch):
    usage = _images.shutil.disk_usage
    monkeypatch.setattr(
        _images.shutil, "disk_usage", lambda path: usage(path)._replace(free=4000)
    )
    with pytest.raises(OSError, match=r"a\.zip' need 0\.0 GB; only 0\.0 GB are free"):
        extract_images(archive, tmp_path / "out")


def test_any_damage_ends_in_a_named_error(tmp_path, contents):
    """Each byte of an archive flipped: the images are right or there is an error."""
    path = write_zip(
        tmp_path / "a.zip",
        [(f"{i}.jpg", contents[i][:40]) for i in (1, 2)],
        zipfile.ZIP_STORED,
    )
    whole = path.read_bytes()
    outcomes = set()
    for place in range(0, len(whole), 2):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        out = tmp_path / f"out{place}"
        try:
            extract_images(path, out)
        except (ValueError, OSError):
            outcomes.add("error")
            assert not out.exists()
        else:
            outcomes.add("images")
            for image in out.iterdir():
                assert image.read_bytes() in (contents[1][:40], contents[2][:40])
    assert outcomes == {"error", "images"}


def test_paths_in_an_archive(archive, contents):
    paths = image_paths(str(archive))
    assert paths == {str(i): [f"{archive}!/images/{i}.jpg"] for i in contents} | {
        "._1": [f"{archive}!/__MACOSX/._1.jpg"]
    }


def test_files_by_their_names(tmp_path):
    names = ["1.png", "1.jpg", "0001.tif", "2.fits", "2.JPG", "x3.jpg", "4.gif"]
    for name in names:
        (tmp_path / name).touch()
    path = write_zip(tmp_path / "a.zip", [(name, b"") for name in names])
    files = {"1": ["0001.tif", "1.jpg", "1.png"], "2": ["2.JPG", "2.fits"]}
    files["x3"] = ["x3.jpg"]
    for place, start in ((path, f"{path}!/"), (tmp_path, f"{tmp_path}{os.sep}")):
        found = image_paths(place)
        assert {key: sorted(paths) for key, paths in found.items()} == {
            key: [start + name for name in some] for key, some in files.items()
        }
    assert the_one(found["2"], "2", "here") == (f"{start}2.JPG", True)
    assert the_one(found["x3"], "x3", "here") == (f"{start}x3.jpg", False)
    with pytest.raises(ValueError, match=r"'here' has several files of '1': .*0001"):
        the_one(found["1"], "1", "here")
    with pytest.raises(ValueError, match=r"a\.zip' has several files of '1'"):
        extract_images(path, tmp_path / "out")


def test_folders_are_searched_one_level_deep(tmp_path):
    for folder, name in [(".", "1"), ("5877", "2"), ("5877/deeper", "3"), ("x", "1")]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.jpg").touch()
    assert image_paths(tmp_path) == {
        "1": [f"{tmp_path}/1.jpg", f"{tmp_path}/x/1.jpg"],
        "2": [f"{tmp_path}/5877/2.jpg"],
    }


def test_no_such_place(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`images_dir` .*nowhere"):
        image_paths(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is not a valid zip archive"):
        image_paths(tmp_path / "file")
