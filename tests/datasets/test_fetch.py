"""Galaxy Zoo 2 from a server on this machine."""

import gzip
import hashlib
import io
import shutil
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skdistill import GalaxyZooCurator, ImageReader, make_galaxies
from skdistill.datasets import _download, _fetch, fetch_galaxy_zoo2

NAMES = {
    "votes": "gz2_hart16.csv.gz",
    "mapping": "gz2_filename_mapping.csv",
    "images": "images_gz2.zip",
}
N_GALAXIES = 40
# Of the last two galaxies one is not in the mapping, one not in the archive.
N_IMAGES = N_GALAXIES - 2


def jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def archive(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name, content in members:
            zipped.writestr(name, content)
    return file.getvalue()


@pytest.fixture(scope="module")
def published():
    """Files of the layout of the public ones, and the votes in them."""
    X, _, votes = make_galaxies(N_GALAXIES, size=16, random_state=0, return_votes=True)
    table = votes.drop(columns="asset_id").assign(sample="original")
    mapping = pd.DataFrame(
        {
            "objid": votes["dr7objid"],
            "sample": "mapped",
            "asset_id": votes["asset_id"],
        }
    )
    # In another order, with galaxies that are in no other table.
    mapping = pd.concat([mapping[:-1], mapping[:1].assign(objid=1, asset_id=99)])[::-1]
    members = [
        (f"images/{asset_id}.jpg", jpeg((image * 255).astype(np.uint8)))
        for asset_id, image in zip(votes["asset_id"], X, strict=True)
    ]
    files = {
        NAMES["votes"]: gzip.compress(table.to_csv(index=False).encode()),
        NAMES["mapping"]: mapping.to_csv(index=False).encode(),
        NAMES["images"]: archive([*members[:-2], members[-1]]),
    }
    return files, votes


@pytest.fixture
def fetch(server, published, tmp_path, monkeypatch):
    server.files.update(published[0])
    monkeypatch.setattr(_download.time, "sleep", lambda seconds: None)

    def fetch(**options):
        urls = {name: server.url(path) for name, path in NAMES.items()}
        options = {"data_home": tmp_path, "urls": urls, "verbose": 0} | options
        return fetch_galaxy_zoo2(**options)

    return fetch


@pytest.fixture
def home(tmp_path):
    return tmp_path / "galaxy_zoo_2"


DROPPED = rf"Dropped 2 of {N_GALAXIES} galaxies"


def test_bunch(fetch, published, home):
    votes = published[1][:N_IMAGES]
    with pytest.warns(UserWarning, match=DROPPED) as record:
        galaxies = fetch()
    assert [r.filename for r in record] == [__file__]
    assert galaxies.n_without_image == 2
    assert galaxies.data["dr7objid"].dtype == galaxies.data["asset_id"].dtype == "int64"
    for column in ["dr7objid", "asset_id", "t01_smooth_or_features_a01_smooth_count"]:
        assert galaxies.data[column].tolist() == votes[column].tolist()
    assert set(galaxies.data["sample"]) == {"original"}
    assert galaxies.filenames.tolist() == galaxies.data["path"].tolist()
    assert galaxies.filenames[0] == f"{home / NAMES['images']}!/images/1.jpg"
    assert galaxies.feature_names == galaxies.data.columns.tolist()
    assert "label" not in galaxies.data
    pd.testing.assert_frame_equal(
        galaxies.frame, galaxies.data.assign(label=galaxies.target)
    )
    assert set(galaxies.target) <= set(galaxies.target_names)
    assert len(galaxies.target_names) == 9
    for word in ["Willett", "Hart", "3565489", "SDSS"]:
        assert word in galaxies.DESCR
    for name, digest in galaxies.sha256.items():
        content = (home / NAMES[name]).read_bytes()
        assert content == published[0][NAMES[name]]
        assert digest == hashlib.sha256(content).hexdigest()
    assert "data" in dir(galaxies)


def test_labels_are_those_of_the_curator(fetch):
    galaxies = fetch(images=False, votes="debiased")
    curator = GalaxyZooCurator(n_train=1, n_test=0, votes="debiased")
    curator.fit(galaxies.data)
    assert galaxies.target.tolist() == curator.labels_.tolist()
    assert galaxies.target_names == curator.classes_.tolist()
    with pytest.raises(ValueError, match="'nothing'"):
        fetch(images=False, votes="nothing")


def test_second_call_asks_nobody(fetch, server):
    with pytest.warns(UserWarning, match=DROPPED):
        first = fetch()
    n_requests = len(server.requests)
    with pytest.warns(UserWarning, match=DROPPED):
        second = fetch(download_if_missing=False)
    assert len(server.requests) == n_requests
    pd.testing.assert_frame_equal(first.frame, second.frame)


def test_without_images(fetch, server, home):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        galaxies = fetch(images=False)
    assert len(galaxies.data) == N_GALAXIES
    assert galaxies.data["asset_id"].isna().sum() == 1
    assert galaxies.filenames is None
    assert "path" not in galaxies.data
    assert galaxies.n_without_image == 0
    assert set(galaxies.sha256) == {"votes", "mapping"}
    assert not (home / NAMES["images"]).exists()


def test_forms_of_the_result(fetch):
    X, y = fetch(images=False, return_X_y=True)
    assert isinstance(X, pd.DataFrame)
    assert isinstance(y, pd.Series)
    bunch = fetch(images=False, as_frame=False)
    assert bunch.frame is None
    assert bunch.data.dtype == np.float64
    assert bunch.data.shape == (N_GALAXIES, 3 * 37)
    assert len(bunch.feature_names) == 3 * 37
    np.testing.assert_array_equal(bunch.data, X[bunch.feature_names])
    assert bunch.target.tolist() == y.tolist()
    Xa, ya = fetch(images=False, as_frame=False, return_X_y=True)
    assert Xa.shape == bunch.data.shape
    assert ya.shape == (N_GALAXIES,)


def test_galaxies_that_are_only_stars_have_no_label(server, fetch, published):
    votes = published[1].copy()
    shares = [c for c in votes if c.endswith("_fraction")]
    votes.loc[3, shares] = 0.0
    votes.loc[3, "t01_smooth_or_features_a03_star_or_artifact_fraction"] = 1.0
    server.files[NAMES["votes"]] = gzip.compress(votes.to_csv(index=False).encode())
    galaxies = fetch(images=False)
    assert galaxies.target.isna().tolist() == [i == 3 for i in range(N_GALAXIES)]


@pytest.mark.filterwarnings("ignore:Dropped")
def test_extracted_images_are_those_of_the_archive(fetch, home):
    galaxies = fetch(extract=True)
    assert galaxies.filenames[0] == str(home / "images_gz2" / "1.jpg")
    with zipfile.ZipFile(home / NAMES["images"]) as zipped:
        for asset_id, path in zip(
            galaxies.data["asset_id"], galaxies.filenames, strict=True
        ):
            content = zipped.read(f"images/{asset_id}.jpg")
            assert Path(path).read_bytes() == content
    assert not (home / "images_gz2.part").exists()
    # Which may be removed then.
    (home / NAMES["images"]).unlink()
    again = fetch(extract=True, download_if_missing=False)
    pd.testing.assert_frame_equal(again.data, galaxies.data)
    assert set(again.sha256) == {"votes", "mapping"}
    with pytest.raises(OSError, match=r"images_gz2\.zip"):
        fetch(download_if_missing=False)


@pytest.mark.filterwarnings("ignore:Dropped")
def test_home_of_scikit_learn(fetch, tmp_path, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "elsewhere"))
    fetch(data_home=None)
    assert (tmp_path / "elsewhere" / "galaxy_zoo_2" / NAMES["images"]).is_file()


def test_default_places():
    assert {n: _fetch._file_name(n, url) for n, url in _fetch._URLS.items()} == NAMES
    assert all(url.startswith("https://") for url in _fetch._URLS.values())


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("present", [0, 2000])
def test_asks_before_a_long_download(server, fetch, home, monkeypatch, capsys, present):
    monkeypatch.setattr(_fetch, "_ASK_ABOVE", 10_000)
    if present:
        home.mkdir()
        (home / f"{NAMES['images']}.part").write_bytes(b"x" * present)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y"))
    place = rf"{NAMES['images']} to '{home}'.*not interactive"
    with pytest.raises(ValueError, match=rf"`images` must be True .*0\.0 GB.*{place}"):
        fetch()
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match="`images` must be True"):
        fetch()
    # Before anything is downloaded.
    assert {r[0] for r in server.requests} == {"HEAD"}

    for answer in ["n\n", "\n", "no\n"]:
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        assert fetch().filenames is None
        assert not (home / NAMES["images"]).exists()
    question = capsys.readouterr().out
    assert "Download the images of Galaxy Zoo 2, 0.0 GB" in question
    assert ("already been downloaded" in question) == bool(present)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    with pytest.warns(UserWarning, match=DROPPED):
        assert len(fetch().filenames) == N_IMAGES
    # Once they are there nobody is asked.
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.warns(UserWarning, match=DROPPED):
        fetch()


def test_a_server_without_sizes_is_asked_about(server, fetch, monkeypatch):
    monkeypatch.setattr(_fetch, "remote_size", lambda url, path: (None, 0))
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match="about 3 GB"):
        fetch()
    with pytest.warns(UserWarning, match=DROPPED):
        fetch(images=True)


def test_offline(fetch, home):
    with pytest.raises(OSError, match=r"download_if_missing.*hart16.*`images=False`"):
        fetch(download_if_missing=False)
    fetch(images=False)
    with pytest.raises(OSError, match=r"False: \['.*images_gz2\.zip'\]"):
        fetch(download_if_missing=False)
    assert fetch(images=False, download_if_missing=False).filenames is None


def test_wrong_parameters(fetch, server):
    with pytest.raises(ValueError, match=r"`urls` must have keys .*\['image'\]"):
        fetch(urls={"image": "http://x"})
    with pytest.raises(ValueError, match=r"`sha256` must have keys .*\['a'\]"):
        fetch(sha256={"a": "0"})
    with pytest.raises(ValueError, match=r"`urls` must name a \.zip file for 'images'"):
        fetch(urls={"images": server.url("images.tar")})
    with pytest.raises(ValueError, match="`urls` must name a file for 'votes'"):
        fetch(urls={"votes": server.url("")})
    with pytest.raises(ValueError, match="'images' parameter"):
        fetch(images="yes")
    assert server.requests == []


@pytest.mark.filterwarnings("ignore:Dropped")
def test_broken_connections(server, fetch, published):
    def drop(handler, content):
        handler.send_content(content, n_bytes=1500)

    for name in NAMES.values():
        server.faults[name] = [drop, drop]
    galaxies = fetch()
    assert len(galaxies.data) == N_IMAGES
    assert {r[2] for r in server.requests} == {None, "bytes=1500-", "bytes=3000-"}


@pytest.mark.parametrize("name", NAMES)
def test_missing_and_wrong_files(server, fetch, home, name):
    file_name = NAMES[name]
    content = server.files.pop(file_name)
    with pytest.raises(OSError, match=rf"{file_name}: the server answered 404"):
        fetch(images=True)
    for wrong in [b"<html>Sign in!</html>", content[: len(content) // 2], b""]:
        server.files[file_name] = wrong
        if name == "mapping" and wrong and wrong in content:
            continue  # half a table is one, too
        with pytest.raises(OSError, match=rf"{file_name} is not usable"):
            fetch(images=True)
        assert not (home / file_name).exists()
    server.files[file_name] = content
    with pytest.raises(OSError, match="must be 00"):
        fetch(images=True, sha256={name: "00"})
    with pytest.warns(UserWarning, match=DROPPED):
        fetch(images=True)
    (home / file_name).write_bytes(content[:-1])
    with pytest.raises(OSError, match="first downloaded"):
        fetch(images=True)


def test_unsafe_archive(server, fetch, home, tmp_path):
    server.files[NAMES["images"]] = archive([("1.jpg", b""), ("../2.jpg", b"")])
    with pytest.raises(OSError, match=r"'\.\./2\.jpg' is a path outside"):
        fetch(images=True, extract=True)
    assert not list(tmp_path.rglob("*.jpg"))


def test_pipeline_from_the_archive(fetch):
    """From the download to pixels, as a user would."""
    with pytest.warns(UserWarning, match=DROPPED):
        galaxies = fetch()
    curator = GalaxyZooCurator(n_train=2, n_test=1, votes="debiased", random_state=0)
    rows, _ = curator.fit_resample(galaxies.data)
    X = ImageReader(size=8).fit_transform(rows)
    assert X.shape == (27, 8, 8, 3)
    assert X.std() > 5


@pytest.fixture(scope="module")
def real_files(shared_data):
    """The public files, made from a sample of what is in them."""
    folder = shared_data / "gz2-sample"
    table = pd.read_csv(folder / "votes.csv")
    mapping = table[["objid", "sample", "asset_id"]].sample(frac=1, random_state=0)
    table = table.rename(columns={"objid": "dr7objid"}).drop(columns="asset_id")
    # All but the first have an image.
    paths = [folder / "images" / f"{i}.jpg" for i in sorted(mapping["asset_id"])[1:]]
    members = [(f"images/{path.name}", path.read_bytes()) for path in paths]
    return {
        NAMES["votes"]: gzip.compress(table.to_csv(index=False).encode(), 1),
        NAMES["mapping"]: mapping.to_csv(index=False).encode(),
        NAMES["images"]: archive(members),
    }


def test_real_sample(server, fetch, home, shared_data, real_files):
    server.files.update(real_files)

    def drop(handler, content):
        handler.send_content(content, n_bytes=5_000_000)

    server.faults[NAMES["images"]] = [drop, drop]
    with pytest.warns(UserWarning, match="Dropped 1 of 850 galaxies"):
        galaxies = fetch(votes="weighted_fraction")
    assert server.requests[-1][2] == "bytes=10000000-"
    expected = pd.read_csv(shared_data / "gz2-sample" / "votes.csv")
    merged = galaxies.data.merge(expected, left_on="dr7objid", right_on="objid")
    assert len(merged) == 849
    assert (merged["asset_id_x"] == merged["asset_id_y"]).all()
    counts = galaxies.target.value_counts()
    assert counts.sum() >= 845
    assert set(counts.index) == set(galaxies.target_names)
    rows = galaxies.data[:8]
    X = ImageReader(size=64).fit_transform(rows)
    plain = ImageReader(images_dir=shared_data / "gz2-sample" / "images", size=64)
    np.testing.assert_array_equal(X, plain.transform(rows[["asset_id"]]))
    shutil.rmtree(home)
