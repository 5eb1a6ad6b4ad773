"""The documentation built and served, and a browser to open it in."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WHAT_TO_DO = (
    "`make browser` as root installs it on Debian; elsewhere install it by hand, or "
    "set CHROMIUM to the path of one"
)

# What docutils and sphinx-gallery write: roles of citations that are out of use, and
# the second of the two links of an example, whose text is hidden.
TOLERATED = {"aria-deprecated-role", "aria-required-children", "link-name"}

# What reaches beyond the window although nothing around it scrolls.
OVERFLOW = """() => {
    const scrolls = (element) => {
        const around = element.parentElement;
        if (!around || around === document.body) return false;
        return getComputedStyle(around).overflowX !== "visible" || scrolls(around);
    };
    const beyond = [...document.body.querySelectorAll("*")].filter((element) => {
        const box = element.getBoundingClientRect();
        return box.width && box.right > window.innerWidth + 1
            && getComputedStyle(element).visibility !== "hidden"
            && !element.closest(".visually-hidden, dialog:not([open]), svg, math")
            && !scrolls(element);
    }).map((element) => element.outerHTML.slice(0, 120));
    const width = document.documentElement.scrollWidth;
    if (width > window.innerWidth) beyond.push(`the page is ${width} wide`);
    return beyond;
}"""
IMAGES = """async () => {
    const failed = [];
    for (const image of document.images) {
        image.loading = "eager";
        try { await image.decode(); } catch { failed.push(image.src.slice(0, 200)); }
        if (!image.naturalWidth) failed.push(image.src.slice(0, 200));
    }
    return failed;
}"""


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the pages, with the examples shown but not run.

    Processes that share the tests out among them share it, too: the first builds.
    """
    pytest.importorskip("sphinx", reason="needs pip install skdistill[doc]")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "documentation"
    with FileLock(shared / "documentation.lock"):
        if not folder.exists():
            _build(folder)
    pages = folder / "html"
    assert (pages / "index.html").is_file(), "another process failed to build it"
    return pages


def _build(folder):
    """Build from a copy: a build writes into its sources."""
    ignored = shutil.ignore_patterns("_build", "gallery", "generated", "__pycache__")
    for name in ("doc", "examples", "changelog"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for path in (ROOT / "benchmarks" / "results").rglob("*.csv"):
        (folder / path.parent.relative_to(ROOT)).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.relative_to(ROOT))
    shutil.copy(ROOT / "pyproject.toml", folder)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    command += ["-D", "plot_gallery=0", "-b", "html", "doc", "html"]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def _serve(folder):
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def served():
    """Return a context in which a folder is served on the loopback, at an address."""
    return _serve


@pytest.fixture(scope="session")
def address(site):
    """Where the documentation is served."""
    with _serve(site) as where:
        yield where


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium without a window, driven by playwright."""
    sync_api = pytest.importorskip("playwright.sync_api")
    found = filter(None, map(shutil.which, PROGRAMS))
    program = os.environ.get("CHROMIUM") or next(found, None)
    if program is None:
        pytest.skip(f"needs Chromium, and there is none. {WHAT_TO_DO}")
    # In a container there is no sandbox for root, and little shared memory.
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


class Visit:
    """A page in a browser, and everything that went wrong in it."""

    def __init__(self, context):
        self.problems = []
        self.page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("requestfailed", self._on_failure)
        self.page.on("request", self._on_request)

    def _on_console(self, message):
        if message.type == "error":
            self.problems.append(f"console: {message.text}")

    def _on_failure(self, request):
        # What the page before this one still asked for is given up.
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"{request.failure}: {request.url}")

    def _on_request(self, request):
        local = ("http://127.0.0.1:", "file:", "data:", "blob:")
        if not request.url.startswith(local):
            self.problems.append(f"asks another site: {request.url}")

    def open(self, url):
        """Open a page and look at all that every page has to be."""
        self.problems.clear()
        self.page.goto(url, wait_until="load")
        self.problems += [f"image {name}" for name in self.page.evaluate(IMAGES)]
        self.problems += [f"overflow: {o}" for o in self.page.evaluate(OVERFLOW)]
        return self.page


@pytest.fixture
def visit(browser):
    """Return a function that makes a window of a width and a color scheme."""
    contexts = []

    def make(width=1280, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        contexts.append(context)
        return Visit(context)

    yield make
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def accessibility():
    """Return a function that lists what axe-core finds in a page.

    Contrast, alternative texts, labels, languages: the rules of WCAG 2, A and AA.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    options = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa"]}}

    def problems(page):
        return [
            f"{problem['id']}: {node['html'][:150]} {node['failureSummary'][-150:]}"
            for problem in axe.run(page, options=options).response["violations"]
            if problem["id"] not in TOLERATED
            for node in problem["nodes"]
        ]

    return problems
