"""A web server on this machine, whose answers can be made to fail."""

import http.server
import threading
import zlib

import pytest


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, with the next of `faults[path]` instead of a sound answer.

    A fault is a function of the handler and the content; it may answer itself and
    return None, or return the content to be sent in full.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.faults = {}
        self.etags = {}
        self.requests = []
        self.knows_ranges = True

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request, client_address):
        """Say nothing: a client that is killed is part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        name = self.path.lstrip("/").partition("?")[0]
        self.name = name
        self.server.requests.append((self.command, name, self.headers.get("Range")))
        faults = self.server.faults.get(name, [])
        content = self.server.files.get(name)
        if faults and self.command == "GET":
            content = faults.pop(0)(self, content)
            if content is None:
                return
        if content is None:
            self.send_error(404)
            return
        self.send_content(content)

    def send_content(self, content, length=None, n_bytes=None):
        """Send a file or the part that is asked for; at most `n_bytes` of it."""
        tag = f'"{len(content)}-{zlib.crc32(content)}"'
        etag = self.server.etags.get(self.name, tag)
        start = 0
        wanted = self.headers.get("Range")
        if wanted and self.server.knows_ranges:
            if not etag or self.headers.get("If-Range", etag) == etag:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content) > 0:
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
            )
        if etag:
            self.send_header("ETag", etag)
        body = content[start:]
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:n_bytes])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
