"""Download whole files: resumed where a connection broke, checked, recorded."""

import contextlib
import email.utils
import errno
import hashlib
import http.client
import json
import os
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NoReturn

from filelock import FileLock, Timeout
from tqdm import tqdm

from skdistill._version import __version__
from skdistill.utils._files import atomic_path
from skdistill.utils._untrusted import read_json

_CHUNK = 2**20
_TIMEOUT = 30.0  # seconds without a byte
_MAX_WAIT = 120.0  # seconds between two attempts
# What may be different a moment later; any other status of 400 or more will not.
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(OSError):
    """A file could not be downloaded, or is not the one that was expected."""


class _PassingError(Exception):
    """An error after which to retry, after `wait` seconds if it is given."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


class _OnlyForward(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but not from an encrypted connection to an open one."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        secure = req.full_url.startswith("https:")
        if not newurl.startswith("https:" if secure else ("http:", "https:")):
            raise DownloadError(
                f"{req.full_url} redirects to {newurl}, which "
                f"{'is not encrypted' if secure else 'no web server has'}"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str,
    path: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    check: Callable[[Path], None] | None = None,
    n_retries: int = 3,
    delay: float = 1.0,
    verbose: bool = False,
) -> str:
    """Download a file unless it is there, and check it.

    The unfinished file is `{path}.part`: what a broken or interrupted download left is
    resumed, if the server says that the file is still the same.  It takes the name
    `path` when it is complete and checked.  `{path}.json` keeps its URL, size and
    SHA-256; from then on the file must be that one, even when it is downloaded again.
    Of several processes one downloads, the others wait for it.

    Parameters
    ----------
    url : str
        Where the file is, http or https.
    path : str or path-like
        Where it shall be.
    sha256 : str or None, default=None
        Expected checksum in hexadecimal digits.
    check : callable or None, default=None
        Called with the path of the complete download; raises ValueError if the file is
        of no use, for example since it is an error page.
    n_retries : int, default=3
        Number of further attempts after one that brought nothing new.
    delay : float, default=1.0
        Seconds before the second attempt; doubled each time.
    verbose : bool, default=False
        Whether to show a progress bar.

    Returns
    -------
    digest : str
        SHA-256 of the file.

    Raises
    ------
    DownloadError
        If the file cannot be had, is not the expected one or does not fit on the disk.
    """
    path = Path(path)
    # Without a lock where nothing is to be written: the folder may be read-only.
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path, verbose=verbose):
            if not path.exists():
                _Download(url, path, n_retries, delay, verbose).run()
                return _accept(path, url, sha256, check, verbose)
    digest = _checked(path, path, sha256, verbose)
    if not _record_path(path).exists():
        # It was put there by hand, or by another program.
        try:
            if check is not None:
                check(path)
        except ValueError as error:
            raise DownloadError(
                f"'{path}' is not usable: {error}. Remove it to download it again"
            ) from error
        with contextlib.suppress(PermissionError):
            _record(path, path, digest, url)
    return digest


def _accept(
    path: Path,
    url: str,
    sha256: str | None,
    check: Callable[[Path], None] | None,
    verbose: bool,
) -> str:
    """Give a complete download its name if it is right, and return its checksum."""
    part = _part(path)
    try:
        digest = _checked(part, path, sha256, verbose)
        if check is not None:
            check(part)
    except (DownloadError, ValueError) as error:
        # Whole, but wrong: there is nothing to resume.
        _discard(path)
        raise DownloadError(f"The file sent by {url} is not usable: {error}") from error
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    _record(path, part, digest, url)
    os.replace(part, path)
    _discard(path)
    return digest


def locked(path: Path, *, verbose: bool = False) -> Any:
    """Wait until no other process writes a file or folder.

    Parameters
    ----------
    path : Path
        What shall be written.
    verbose : bool, default=False
        Whether to say so if it takes waiting.

    Returns
    -------
    context
        Releases the lock at its end, as does the end of the process.
    """
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        if verbose:
            message = f"Waiting for another process that writes '{path}'."
            tqdm.write(message, file=sys.stderr)
        return lock.acquire()


def remote_size(url: str, path: str | os.PathLike[str]) -> tuple[int | None, int]:
    """Ask how large a file is.

    Parameters
    ----------
    url : str
        Where the file is.
    path : str or path-like
        Where it shall be.

    Returns
    -------
    total : int or None
        Size in bytes, None if the server does not tell.
    present : int
        How many of them an interrupted download has already left.
    """
    part = _part(Path(path))
    present = part.stat().st_size if part.exists() else 0
    try:
        with _open(url, {}, method="HEAD") as response:
            length = response.headers.get("Content-Length", "")
            return (int(length) if length.isdecimal() else None), present
    except (OSError, http.client.HTTPException):
        # The download itself will say what is wrong.
        return None, present


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _note(path: Path) -> Path:
    """Where the server's description of an unfinished file is."""
    return path.with_name(f"{path.name}.part.json")


def _discard(path: Path) -> None:
    _part(path).unlink(missing_ok=True)
    _note(path).unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _checked(file: Path, path: Path, sha256: str | None, verbose: bool) -> str:
    """Return the checksum of `file`, which is or shall be `path`, if it is right."""
    record_path = _record_path(path)
    record = _read_json(record_path)
    known = f"when '{path}' was first downloaded it had"
    remedy = f"If you want a different version, remove '{record_path}'"
    if file == path:
        remedy += f"; to download the file again, remove '{path}'"
    size = file.stat().st_size
    if size != record.get("size", size):
        raise DownloadError(
            f"'{file}' has {size} bytes; {known} {record['size']}. {remedy}"
        )
    digest = _sha256(file, verbose)
    if sha256 is not None and digest != sha256.lower():
        raise DownloadError(
            f"The SHA-256 of '{file}' must be {sha256.lower()}; got {digest}"
        )
    if digest != record.get("sha256", digest):
        raise DownloadError(
            f"'{file}' has the SHA-256 {digest}; {known} {record['sha256']}. {remedy}"
        )
    return digest


def _sha256(path: Path, verbose: bool) -> str:
    digest = hashlib.sha256()
    size = path.stat().st_size
    # Of smaller files nobody has to wait for it.
    hidden = not verbose or size < 200 * _CHUNK
    bar = _bar(f"checking {path.name}", size, 0, hidden)
    with path.open("rb") as file, bar:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _record(path: Path, file: Path, digest: str, url: str) -> None:
    if not _record_path(path).exists():
        record = {
            "url": url,
            "size": file.stat().st_size,
            "sha256": digest,
            "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        _write_json(_record_path(path), record)


def _bar(name: str, total: int | None, initial: int, hidden: bool) -> tqdm:
    return tqdm(
        desc=name,
        total=total,
        initial=initial,
        unit="B",
        unit_scale=True,
        unit_divisor=1000,
        disable=hidden,
    )


def _open(url: str, headers: dict[str, str], method: str = "GET") -> Any:
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"A URL must begin with http:// or https://; got {url!r}")
    headers = {
        "User-Agent": f"skdistill/{__version__}",
        # The file as it is: sizes, ranges and checksums are those of its bytes.
        "Accept-Encoding": "identity",
    } | headers
    request = urllib.request.Request(url, headers=headers, method=method)
    opener = urllib.request.build_opener(_OnlyForward)
    return opener.open(request, timeout=_TIMEOUT)


class _Download:
    """The attempts to complete one unfinished file."""

    def __init__(
        self, url: str, path: Path, n_retries: int, delay: float, verbose: bool
    ):
        self.url = url
        self.path = path
        self.part = _part(path)
        self.n_retries = n_retries
        self.delay = delay
        self.verbose = verbose

    def run(self) -> None:
        """Try until the file is complete or nothing new comes."""
        furthest = self.part.stat().st_size if self.part.exists() else 0
        failures = 0
        while True:
            try:
                return self.attempt()
            except _PassingError as reason:
                size = self.part.stat().st_size if self.part.exists() else 0
                # A long download may break often: only attempts without progress count.
                failures = 0 if size > furthest else failures + 1
                furthest = max(furthest, size)
                if failures > self.n_retries:
                    self.fail(f"{reason}, after {failures} failed attempts", reason)
                wait = self.delay * 2 ** max(failures - 1, 0)
                if reason.wait is not None and reason.wait > _MAX_WAIT:
                    self.fail(
                        f"{reason}; the server asks to wait for {reason.wait:.0f} s",
                        reason,
                    )
                wait = max(min(wait, _MAX_WAIT), reason.wait or 0)
                if self.verbose:
                    message = f"{self.path.name}: {reason}; retrying in {wait:.0f} s."
                    tqdm.write(message, file=sys.stderr)
                time.sleep(wait)

    def attempt(self) -> None:
        """Make one request and write what comes."""
        note = _read_json(_note(self.path))
        offset = self.part.stat().st_size if self.part.exists() else 0
        same = note.get("validator") if note.get("url") == self.url else None
        if same is None:
            # Nobody could tell whether the rest belongs to the same file.
            offset = 0
        if offset and offset == note.get("size"):
            return
        headers = {}
        if same is not None and offset:
            headers = {"Range": f"bytes={offset}-", "If-Range": same}
        try:
            response = _open(self.url, headers)
        except urllib.error.HTTPError as error:
            self.refused(error)
        except DownloadError:
            raise
        except (OSError, http.client.HTTPException) as error:
            self.unreachable(error)
        with response:
            if response.status == 206:
                start, total = _content_range(response)
                is_same = (_validator(response) or same) == same
                if not is_same or start != offset or total != (note["size"] or total):
                    _discard(self.path)
                    raise _PassingError(
                        "the server sent a different part of the file than requested"
                    )
            else:
                # The whole file: the server knows no ranges, or has another version.
                # Sent piece by piece its length is not known, but its end is.
                offset, total = 0, response.length
                if total is None and not response.chunked:
                    self.fail("the server does not report the length of the file")
                self.part.unlink(missing_ok=True)
                note = {
                    "url": self.url,
                    "size": total,
                    "validator": _validator(response),
                }
                _write_json(_note(self.path), note)
            self.check_space(total, offset)
            self.receive(response, offset, total)

    def receive(self, response: Any, offset: int, total: int | None) -> None:
        """Write the body of a response; it may be short."""
        bar = _bar(self.path.name, total, offset, not self.verbose)
        # Without a buffer: what has come stays, even if the program is ended next.
        with self.part.open("ab", buffering=0) as file, bar:
            while chunk := _read(response):
                self.write(file, chunk)
                offset += len(chunk)
                bar.update(len(chunk))
        if total is not None and offset < total:
            raise _PassingError(
                f"the connection closed after {offset} of {total} bytes"
            )

    def write(self, file: IO[bytes], chunk: bytes) -> None:
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                self.fail(f"the disk is full: {error.strerror}", error)
            raise

    def check_space(self, total: int | None, offset: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if total is not None and total - offset > free:
            self.fail(
                f"it needs {(total - offset) / 1e9:.2f} GB; only {free / 1e9:.2f} GB "
                f"are free in '{self.path.parent}'"
            )

    def refused(self, error: urllib.error.HTTPError) -> NoReturn:
        """Tell a status that passes from one that stays."""
        error.close()
        if error.code == 416:
            # What is there is longer than the file now is.
            _discard(self.path)
            raise _PassingError("the file has become shorter") from error
        if 300 <= error.code < 400:
            self.fail(
                f"the redirect is circular or has no target ({error.code})", error
            )
        reason = f"the server answered {error.code} {error.reason}"
        if error.code not in _PASSING:
            self.fail(reason, error)
        raise _PassingError(reason, _retry_after(error)) from error

    def unreachable(self, error: Exception) -> NoReturn:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            self.fail(f"its certificate is not trusted: {reason}", error)
        raise _PassingError(f"no connection: {reason}") from error

    def fail(self, reason: str, cause: BaseException | None = None) -> NoReturn:
        kept = ""
        if self.part.exists() and self.part.stat().st_size:
            kept = f" '{self.part}' is kept: the next call resumes from there."
        raise DownloadError(f"Cannot download {self.url}: {reason}.{kept}") from cause


def _read(response: Any) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _PassingError(f"the connection was lost: {error!r}") from error


def _content_range(response: Any) -> tuple[int | None, int | None]:
    """First byte and size of the whole file of a partial answer."""
    value = response.headers.get("Content-Range", "")
    try:
        unit, _, rest = value.partition(" ")
        positions, _, total = rest.partition("/")
        start, size = int(positions.partition("-")[0]), int(total)
    except ValueError:
        return None, None
    return (start, size) if unit == "bytes" else (None, None)


def _validator(response: Any) -> str | None:
    """What tells versions of a file apart: a strong ETag, else its date."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    """Seconds that a server asks to wait, which it gives as such or as a date."""
    value = (error.headers.get("Retry-After") or "").strip()
    if value.isdecimal():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
