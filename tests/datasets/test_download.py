"""Every way in which a download may fail; what is left afterwards."""

import errno
import hashlib
import json
import signal
import ssl
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.error
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skdistill.datasets import _download
from skdistill.datasets._download import DownloadError, download, remote_size

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TAG = f'"{len(CONTENT)}-{zlib.crc32(CONTENT)}"'  # what the server calls this version


def drop(n_bytes):
    """Close the connection after some bytes of the body."""

    def fault(handler, content):
        handler.send_content(content, n_bytes=n_bytes)

    return fault


def status(code, **headers):
    def fault(handler, content):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return fault


def redirect(url):
    return status(302, Location=url)


@pytest.fixture
def waits(monkeypatch):
    """Times slept, without sleeping."""
    waits = []
    monkeypatch.setattr(_download.time, "sleep", waits.append)
    return waits


@pytest.fixture
def target(tmp_path):
    return tmp_path / "home" / "file.bin"


@pytest.fixture
def fetch(server, target, waits):
    server.files["file.bin"] = CONTENT

    def fetch(**options):
        return download(server.url("file.bin"), target, **options)

    return fetch


def names(target):
    """What is in the folder, locks aside."""
    return {p.name for p in target.parent.iterdir() if p.suffix != ".lock"}


DONE = {"file.bin", "file.bin.json"}


def test_downloads_once_and_records(server, target, fetch):
    assert fetch() == SHA256
    assert target.read_bytes() == CONTENT
    assert names(target) == DONE
    record = json.loads((target.parent / "file.bin.json").read_text())
    assert record["sha256"] == SHA256
    assert record["size"] == len(CONTENT)
    assert record["url"] == server.url("file.bin")
    assert fetch() == SHA256
    assert len(server.requests) == 1


def test_files_of_no_bytes(server, target, fetch):
    server.files["file.bin"] = b""
    assert fetch() == hashlib.sha256().hexdigest()
    assert target.read_bytes() == b""


@pytest.mark.parametrize("n_bytes", [0, 1, 65_536, 299_999])
def test_resumes_after_a_dropped_connection(server, target, fetch, waits, n_bytes):
    server.faults["file.bin"] = [drop(n_bytes)]
    fetch()
    assert target.read_bytes() == CONTENT
    second = f"bytes={n_bytes}-" if n_bytes else None
    assert [r[2] for r in server.requests] == [None, second]
    assert waits == [1]


def test_resumes_as_often_as_it_gets_further(server, target, fetch, waits):
    server.faults["file.bin"] = [drop(10_000)] * 20
    fetch(n_retries=0)
    assert target.read_bytes() == CONTENT
    assert waits == [1] * 20


def test_attempts_in_vain_end_and_wait_longer(server, target, fetch, waits):
    server.faults["file.bin"] = [drop(1000)] + [drop(0)] * 4
    with pytest.raises(DownloadError, match=r"after 1000 of 300000.*4 failed attempts"):
        fetch(delay=0.5)
    assert waits == [0.5, 0.5, 1, 2]
    assert names(target) == {"file.bin.part", "file.bin.part.json"}
    fetch()
    assert target.read_bytes() == CONTENT
    assert server.requests[-1][2] == "bytes=1000-"
    assert names(target) == DONE


def test_server_that_ignores_ranges(server, target, fetch):
    server.knows_ranges = False
    server.faults["file.bin"] = [drop(200_000), drop(100_000)]
    fetch()
    assert target.read_bytes() == CONTENT
    server.faults["file.bin"] = [drop(100)] * 9
    target.unlink()
    with pytest.raises(DownloadError, match="failed attempts"):
        fetch()


def test_a_file_that_changed_is_not_glued(server, target, fetch):
    for other in [CONTENT[::-1], CONTENT[:150_000] * 3, CONTENT[:100]]:
        server.files["file.bin"] = CONTENT
        server.etags["file.bin"] = '"old"'
        server.faults["file.bin"] = [drop(200_000), status(404)]
        with pytest.raises(DownloadError, match="404"):
            fetch()
        server.files["file.bin"] = other
        server.etags["file.bin"] = '"new"'
        fetch()
        assert target.read_bytes() == other
        for name in DONE:
            (target.parent / name).unlink()


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_validator_nothing_is_resumed(server, target, fetch, etag):
    server.etags["file.bin"] = etag
    server.faults["file.bin"] = [drop(200_000)]
    fetch()
    assert target.read_bytes() == CONTENT
    assert [r[2] for r in server.requests] == [None, None]


def test_server_that_ignores_if_range(server, target, fetch):
    """It sends the rest of another file, with that one's tag."""
    server.etags["file.bin"] = '"old"'

    def change(handler, content):
        server.etags["file.bin"] = '"new"'
        server.files["file.bin"] = CONTENT[::-1]
        del handler.headers["If-Range"]
        handler.send_content(server.files["file.bin"])

    server.faults["file.bin"] = [drop(200_000), change]
    fetch()
    assert target.read_bytes() == CONTENT[::-1]


def test_part_of_another_place_or_size(server, target, fetch):
    target.parent.mkdir()
    part, note = (
        target.with_name("file.bin.part"),
        target.with_name("file.bin.part.json"),
    )
    for state in [
        {"url": "http://elsewhere", "size": len(CONTENT), "validator": TAG},
        {"url": server.url("file.bin"), "size": 9, "validator": TAG},
        {"url": server.url("file.bin")},
        [1],
    ]:
        part.write_bytes(b"x" * 1000)
        note.write_text(json.dumps(state))
        fetch()
        assert target.read_bytes() == CONTENT
        target.unlink()
    # Longer than the file is now.
    note.write_text(json.dumps({"url": server.url("file.bin"), "validator": "x"}))
    part.write_bytes(b"x" * 400_000)
    server.etags["file.bin"] = "x"
    fetch()
    assert target.read_bytes() == CONTENT


def test_body_shorter_than_promised(server, target, fetch):
    """Not a broken connection but a server that is always wrong."""

    def fault(handler, content):
        handler.send_content(content, length=len(content) + 10)

    server.faults["file.bin"] = [fault] * 9
    with pytest.raises(DownloadError, match=r"closed after 300000 of 300010 bytes"):
        fetch()
    assert not target.exists()


def test_body_longer_than_promised(server, target, fetch):
    def fault(handler, content):
        handler.send_content(content, length=len(content) - 10)

    server.faults["file.bin"] = [fault]
    with pytest.raises(DownloadError, match=rf"must be {SHA256}"):
        fetch(sha256=SHA256)
    assert names(target) == set()


def test_body_of_unknown_length(server, target, fetch):
    """Nobody could tell a whole file from a broken connection."""

    def fault(handler, content):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)

    server.faults["file.bin"] = [fault]
    with pytest.raises(DownloadError, match="does not report the length of"):
        fetch()
    assert not target.exists()


@pytest.mark.parametrize("is_whole", [True, False])
def test_body_in_chunks(server, target, fetch, is_whole):
    def fault(handler, content):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Connection", "close")
        handler.send_header("ETag", TAG)
        handler.end_headers()
        for part in [content[:100_000], content[100_000:]]:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if not is_whole:
                return
        handler.wfile.write(b"0\r\n\r\n")

    server.faults["file.bin"] = [fault]
    fetch()
    assert target.read_bytes() == CONTENT
    rest = [] if is_whole else ["bytes=100000-"]
    assert [r[2] for r in server.requests] == [None, *rest]


def test_wrong_hash(server, target, fetch):
    with pytest.raises(DownloadError, match=rf"must be 0000.*{SHA256}"):
        fetch(sha256="0" * 64)
    assert names(target) == set()
    fetch(sha256=SHA256.upper())
    with pytest.raises(DownloadError, match="must be 0000"):
        fetch(sha256="0" * 64)
    assert names(target) == DONE


@pytest.mark.parametrize("damaged", [CONTENT[:-1], CONTENT[:-1] + b"x", b""])
def test_a_file_that_is_no_longer_the_recorded_one(target, fetch, damaged):
    fetch()
    target.write_bytes(damaged)
    with pytest.raises(DownloadError, match=r"when .* first downloaded.*remove"):
        fetch()
    assert target.read_bytes() == damaged
    target.unlink()
    fetch()
    assert target.read_bytes() == CONTENT


def test_another_version_is_refused_until_it_is_accepted(server, target, fetch):
    fetch()
    target.unlink()
    server.files["file.bin"] = CONTENT[::-1]
    with pytest.raises(DownloadError, match=r"first downloaded.*file\.bin\.json"):
        fetch()
    assert names(target) == {"file.bin.json"}
    (target.parent / "file.bin.json").unlink()
    fetch()
    assert target.read_bytes() == CONTENT[::-1]


def test_check_of_the_content(server, target, fetch):
    def check(path):
        seen.append(path.read_bytes())
        if seen[-1] != CONTENT:
            raise ValueError("it is not what it should be")

    seen = []
    server.faults["file.bin"] = [lambda handler, content: b"<html>Sign in!</html>"]
    with pytest.raises(
        DownloadError, match=r"file sent by .*file\.bin .* not what it should"
    ):
        fetch(check=check)
    assert names(target) == set()
    fetch(check=check)
    assert seen[-1] == CONTENT
    assert names(target) == DONE
    # A file that somebody else put there is checked before it is trusted.
    (target.parent / "file.bin.json").unlink()
    target.write_bytes(b"half")
    with pytest.raises(DownloadError, match=r"not what it should.*Remove it"):
        fetch(check=check)
    assert names(target) == {"file.bin"}


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 501])
def test_a_status_that_stays(server, target, fetch, waits, code):
    server.faults["file.bin"] = [status(code)]
    with pytest.raises(DownloadError, match=rf"file\.bin: the server answered {code}"):
        fetch()
    assert waits == []
    assert names(target) == set()


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_status_that_passes(server, target, fetch, waits, code):
    server.faults["file.bin"] = [status(code)] * 2
    fetch()
    assert target.read_bytes() == CONTENT
    assert waits == [1, 2]
    server.faults["file.bin"] = [status(code)] * 2
    target.unlink()
    with pytest.raises(DownloadError, match=rf"{code} .*2 failed attempts"):
        fetch(n_retries=1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7),
        ("0", 1),
        ("soon", 1),
        (format_datetime(datetime.now(UTC) - timedelta(days=1)), 1),
    ],
)
def test_retry_after(server, target, fetch, waits, value, expected):
    server.faults["file.bin"] = [status(503, Retry_After=value)]
    fetch()
    assert waits == [expected]


def test_retry_after_as_a_date(server, target, fetch, waits):
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    server.faults["file.bin"] = [status(429, Retry_After=later)]
    fetch()
    assert len(waits) == 1
    assert 30 < waits[0] <= 60


def test_retry_after_is_bounded(server, target, fetch, waits):
    server.faults["file.bin"] = [status(503, Retry_After="86400")]
    with pytest.raises(DownloadError, match=r"503.*asks to wait for 86400 s"):
        fetch()
    assert waits == []


def test_redirects(server, target, fetch, waits):
    server.files["there"] = CONTENT
    server.faults["file.bin"] = [redirect(server.url("there"))] * 2
    server.faults["there"] = [drop(1000)]
    fetch()
    assert target.read_bytes() == CONTENT
    assert server.requests[-1] == ("GET", "there", "bytes=1000-")


def test_redirect_loop(server, target, fetch, waits):
    server.faults["file.bin"] = [redirect(server.url("there"))] * 20
    server.faults["there"] = [redirect(server.url("file.bin"))] * 20
    with pytest.raises(DownloadError, match=r"redirect is circular.*302"):
        fetch()
    assert waits == []
    assert len(server.requests) < 30


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", ""])
def test_redirects_to_elsewhere(server, target, fetch, place):
    server.faults["file.bin"] = [redirect(place)] if place else [status(302)]
    with pytest.raises(DownloadError, match="redirect"):
        fetch()
    assert names(target) == set()


def test_no_redirect_from_an_encrypted_connection():
    handler = _download._OnlyForward()
    request = _download.urllib.request.Request("https://somewhere/x")
    with pytest.raises(DownloadError, match="not encrypted"):
        handler.redirect_request(request, None, 302, "", {}, "http://somewhere/x")
    new = handler.redirect_request(request, None, 302, "", {}, "https://else/x")
    assert new.full_url == "https://else/x"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b", "/tmp/x", ""])
def test_url_must_be_one_of_the_web(target, url):
    with pytest.raises(DownloadError, match="must begin with http"):
        download(url, target)


def test_certificate_that_is_not_trusted(target, fetch, waits, monkeypatch):
    def refuse(*args, **options):
        raise urllib.error.URLError(ssl.SSLCertVerificationError("self-signed"))

    monkeypatch.setattr(_download, "_open", refuse)
    with pytest.raises(DownloadError, match=r"certificate is not trusted: .*self-sig"):
        fetch()
    assert waits == []


@pytest.mark.parametrize(
    "value", ["", "bytes", "bytes */300000", "bytes 0-299999/300000", "pages 1000-1/2"]
)
def test_answers_of_another_part(server, target, fetch, value):
    """What is there is given up rather than glued to who knows what."""

    def fault(handler, content):
        handler.send_response(206)
        handler.send_header("Content-Range", value)
        handler.send_header("Content-Length", "299000")
        handler.end_headers()
        handler.wfile.write(content[:299_000])

    server.faults["file.bin"] = [drop(1000), fault]
    fetch()
    assert target.read_bytes() == CONTENT
    assert [r[2] for r in server.requests] == [None, "bytes=1000-", None]


def test_no_server(server, target, waits):
    with pytest.raises(DownloadError, match=r"no connection.*3 failed attempts"):
        download("http://127.0.0.1:9/file.bin", target, n_retries=2)
    assert waits == [1, 2]


def test_a_server_that_says_nothing(server, target, fetch, monkeypatch):
    """Before and in the middle of its answer."""
    monkeypatch.setattr(_download, "_TIMEOUT", 0.2)

    def hang(handler, content):
        handler.connection.settimeout(2)
        handler.rfile.read(1)  # until the client gives up

    def hang_later(handler, content):
        handler.send_content(content, n_bytes=1000)
        handler.wfile.flush()
        hang(handler, content)

    server.faults["file.bin"] = [hang, hang_later]
    fetch()
    assert target.read_bytes() == CONTENT
    assert [r[2] for r in server.requests] == [None, None, "bytes=1000-"]


def test_an_interrupted_download_is_resumed(server, target, fetch, monkeypatch):
    """Ctrl-C at an arbitrary moment."""

    class Interrupted:
        n = 0

    def read(response):
        Interrupted.n += 1
        if Interrupted.n == 3:
            raise KeyboardInterrupt
        return response.read1(50_000)

    monkeypatch.setattr(_download, "_read", read)
    with pytest.raises(KeyboardInterrupt):
        fetch()
    assert names(target) == {"file.bin.part", "file.bin.part.json"}
    done = target.with_name("file.bin.part").stat().st_size
    assert 0 < done <= 100_000
    fetch()
    assert target.read_bytes() == CONTENT
    assert server.requests[-1][2] == f"bytes={done}-"
    assert names(target) == DONE


def test_killed_after_the_last_byte(server, target, fetch, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_download.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch()
    assert not target.exists()
    fetch()
    assert target.read_bytes() == CONTENT
    assert names(target) == DONE


def test_disk_without_room(server, target, fetch, monkeypatch):
    usage = _download.shutil.disk_usage
    monkeypatch.setattr(
        _download.shutil, "disk_usage", lambda path: usage(path)._replace(free=299_999)
    )
    with pytest.raises(DownloadError, match=r"needs 0\.00 GB; only 0\.00 GB are free"):
        fetch()
    assert not target.exists()


SCRIPT = """
    import resource, sys
    from skdistill.datasets._download import download
    limit = int(sys.argv[3])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    download(sys.argv[1], sys.argv[2], verbose=True)
"""


def run(server, target, limit=0):
    return subprocess.Popen(
        [
            *(sys.executable, "-c", textwrap.dedent(SCRIPT)),
            *(server.url("file.bin"), str(target), str(limit)),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )


def test_disk_that_fills(server, target, fetch):
    """A limit of the file's size acts as a full disk does, in the middle of a write."""
    process = run(server, target, 123_456)
    assert process.wait(60) == 1
    error = process.stderr.read()
    assert "DownloadError" in error
    assert "the disk is full" in error
    assert "'" + str(target) + ".part' is kept" in error
    assert target.with_name("file.bin.part").stat().st_size == 123_456
    fetch()
    assert target.read_bytes() == CONTENT
    assert server.requests[-1][2] == "bytes=123456-"


def test_other_errors_of_the_disk_are_not_retried(target, fetch, monkeypatch, waits):
    def write(self, file, chunk):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(_download._Download, "write", write)
    with pytest.raises(OSError, match="broken"):
        fetch()
    assert waits == []


def await_part(target, process, size):
    """Return when a process has written so many bytes of its download."""
    part = target.with_name("file.bin.part")
    while not (part.exists() and part.stat().st_size == size):
        assert process.poll() is None
        time.sleep(0.01)


def test_two_processes_download_once(server, target):
    released = threading.Event()

    def slow(handler, content):
        handler.send_content(content, n_bytes=100_000)
        handler.wfile.flush()
        released.wait(60)

    server.files["file.bin"] = CONTENT
    server.faults["file.bin"] = [slow]
    first = run(server, target)
    await_part(target, first, 100_000)
    second = run(server, target)
    assert "Waiting for another process" in second.stderr.readline()
    assert not target.exists()
    released.set()
    assert first.wait(60) == second.wait(60) == 0
    assert [r[2] for r in server.requests] == [None, "bytes=100000-"]
    assert target.read_bytes() == CONTENT
    assert names(target) == DONE


def test_a_killed_process_leaves_no_lock(server, target):
    killed = threading.Event()

    def hang(handler, content):
        handler.send_content(content, n_bytes=100_000)
        handler.wfile.flush()
        killed.wait(60)

    server.files["file.bin"] = CONTENT
    server.faults["file.bin"] = [hang]
    process = run(server, target)
    await_part(target, process, 100_000)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    killed.set()
    assert not target.exists()
    download(server.url("file.bin"), target)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1][2] == "bytes=100000-"


def test_folder_that_is_read_only(target, fetch, monkeypatch):
    """As a cluster's: what is there is checked, nothing is written."""

    def refuse(*args, **options):
        raise PermissionError("read-only")

    fetch()
    for name in ["FileLock", "atomic_path"]:
        monkeypatch.setattr(_download, name, refuse)
    assert fetch() == SHA256
    (target.parent / "file.bin.json").unlink()
    assert fetch() == SHA256
    with pytest.raises(DownloadError, match=r"The SHA-256 of '.*' must be"):
        fetch(sha256="0" * 64)


# Three of a size, so that it does not tell them apart.
VERSIONS = [CONTENT[i : i + 40_000] for i in (0, 1, 40_000)]
VERSIONS += [CONTENT[:n] for n in (0, 1, 40_001)]
FAULTS = st.one_of(
    st.integers(0, 40_000).map(drop),
    st.sampled_from([408, 416, 429, 500, 503]).map(status),
    st.sampled_from(VERSIONS),
    st.booleans(),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(FAULTS, max_size=8), n_retries=st.integers(0, 4))
def test_any_order_of_faults(server, waits, faults, n_retries):
    """A file that changes, a server that forgets ranges: never a mixture of two."""

    def swap(version):
        def fault(handler, content):
            server.files["file.bin"] = version
            return version

        return fault

    def forget(knows_ranges):
        def fault(handler, content):
            server.knows_ranges = knows_ranges
            handler.send_content(content, n_bytes=len(content) // 2)

        return fault

    server.knows_ranges = True
    server.files["file.bin"] = VERSIONS[0]
    server.faults["file.bin"] = [
        swap(f) if isinstance(f, bytes) else forget(f) if isinstance(f, bool) else f
        for f in faults
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.bin"
        for _ in range(len(faults) + 1):
            try:
                digest = download(server.url("file.bin"), path, n_retries=n_retries)
            except DownloadError:
                assert not path.exists()
            else:
                break
        content = path.read_bytes()
        assert content in VERSIONS
        assert digest == hashlib.sha256(content).hexdigest()
        assert names(path) == DONE


def test_size_before_the_download(server, target, fetch):
    url = server.url("file.bin")
    assert remote_size(url, target) == (300_000, 0)
    assert remote_size(server.url("nothing"), target) == (None, 0)
    server.faults["file.bin"] = [drop(1000), status(404)]
    with pytest.raises(DownloadError):
        fetch()
    assert remote_size(url, target) == (300_000, 1000)


def test_progress(server, target, fetch, capsys):
    server.faults["file.bin"] = [drop(100_000)]
    fetch(verbose=True)
    out, error = capsys.readouterr()
    assert out == ""
    assert "file.bin: 100%" in error
    assert "300k/300k" in error
    assert "closed after 100000 of 300000 bytes; retrying in 1 s" in error
    fetch()
    assert capsys.readouterr() == ("", "")
