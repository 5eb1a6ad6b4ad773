"""The documentation in a browser: nothing fails, on a desk and on a phone."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Pages of every kind, for the slower checks.
MAIN_PAGES = (
    "index",
    "choosing",
    "user_guide",
    "theory",
    "gradients_features",
    "gallery/index",
    "gallery/plot_kernels",
    "api",
    "api/generated/skdistill.STMDistiller",
    "benchmarks_accuracy",
    "glossary",
)
PHONE, DESK = 390, 1280


def problems_of(window, addresses):
    """Return what went wrong in each page."""
    problems = {}
    for url in addresses:
        assert window.open(url).title()
        if window.problems:
            problems[url] = window.problems.copy()
    return problems


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_every_page_opens_without_a_problem(site, address, visit, width):
    pages = {
        path.relative_to(site).as_posix()
        for path in site.rglob("*.html")
        if "_static" not in path.parts
    }
    written = {path.stem for path in (ROOT / "doc").glob("*.rst")}
    written |= {f"gallery/{path.stem}" for path in (ROOT / "examples").glob("plot_*")}
    assert {f"{name}.html" for name in written.union(MAIN_PAGES)} <= pages
    if width == DESK:
        # The pages of the reference have one layout: one of them is enough here.
        generated = {name for name in pages if name.startswith("api/generated/")}
        pages -= generated - {f"{name}.html" for name in MAIN_PAGES}
    addresses = [f"{address}/{name}" for name in sorted(pages)]
    assert not problems_of(visit(width), addresses)


@pytest.mark.parametrize(
    ("scheme", "names"), [("light", MAIN_PAGES), ("dark", MAIN_PAGES[::3])]
)
def test_main_pages_are_accessible(address, visit, accessibility, scheme, names):
    window = visit(DESK, scheme)
    problems = {}
    for name in names:
        found = accessibility(window.open(f"{address}/{name}.html"))
        if found:
            problems[name] = found
    assert not problems


def test_search_finds_pages(address, visit):
    window = visit(PHONE)
    page = window.open(f"{address}/search.html?q=checkpoint")
    # Results are added one after the other: wait for the one that must come.
    results = page.locator("#search-results li a")
    results.filter(has_text="STMDistiller").first.wait_for()
    results.first.click()
    page.wait_for_load_state()
    assert "search.html" not in page.url
    assert not window.problems


def test_search_dialog_leads_to_results(address, visit):
    window = visit(DESK)
    page = window.open(f"{address}/index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("diverged")
    page.keyboard.press("Enter")
    page.locator("#search-results li", has_text="Troubleshooting").first.wait_for()
    assert not window.problems


def test_menu_opens_on_a_phone(address, visit):
    window = visit(PHONE)
    page = window.open(f"{address}/theory.html")
    page.locator("button.primary-toggle").click()
    link = page.locator("dialog[open] a", has_text="Benchmarks").first
    link.click()
    page.wait_for_url("**/benchmarks.html")
    assert not window.problems


def test_a_page_with_problems_is_found_out(tmp_path, visit, accessibility, served):
    (tmp_path / "index.html").write_text(
        '<title>x</title><img src="no.png"><div style="width: 500px">wide</div>'
        '<div style="overflow-x: auto"><p style="width: 900px">may scroll</p></div>'
        '<script>console.error("broken"); missing();</script>'
        '<script src="http://example.invalid/x.js"></script>'
    )
    with served(tmp_path) as address:
        window = visit(PHONE)
        page = window.open(f"{address}/index.html")
        found = " | ".join(window.problems)
        assert any("image-alt" in problem for problem in accessibility(page))
    for problem in (
        "console: broken",
        "missing is not defined",
        "image http",
        "asks another site: http://example.invalid/x.js",
        "the page is 508 wide",
    ):
        assert problem in found, found
    assert "may scroll" not in found
