"""Check the links of the built documentation.

Links between its pages, to places in them and to files must lead somewhere.  Links to
other sites are listed and not fetched: the documentation is built without a network.

    python doc/check_links.py [folder of the HTML pages]
"""

import sys
from collections import defaultdict
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup


def pages(folder):
    """Return the pages of the folder, without the templates of the theme."""
    folder = Path(folder)
    found = sorted(folder.rglob("*.html"))
    return [page for page in found if page.relative_to(folder).parts[0] != "_static"]


def read_links(folder):
    """Return what the pages link to and what they can be linked at.

    Parameters
    ----------
    folder : Path
        The folder of the HTML pages.

    Returns
    -------
    links : list of tuple (page, address)
    anchors : dict of Path to set of str
    """
    links, anchors = [], {}
    for page in pages(folder):
        soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        anchors[page] = {tag["id"] for tag in soup.find_all(id=True)}
        for tag in soup.find_all(True):
            for attribute in ("href", "src"):
                if tag.name != "link" or tag.get("rel") != ["canonical"]:
                    address = tag.get(attribute)
                    if address and not address.startswith(("data:", "javascript:")):
                        links.append((page, address))
    return links, anchors


def check(folder):
    """Check all links.

    Parameters
    ----------
    folder : Path
        The folder of the HTML pages.

    Returns
    -------
    broken : list of str
        The links that lead nowhere.
    external : dict of str to int
        The addresses on other sites, and how many pages link to each.
    """
    folder = Path(folder).resolve()
    links, anchors = read_links(folder)
    broken, pages_of = [], defaultdict(set)
    for page, address in links:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            pages_of[address].add(page)
            continue
        target = page
        if parts.path:
            target = (page.parent / unquote(parts.path)).resolve()
        if target.is_dir():
            target /= "index.html"
        place = unquote(parts.fragment)
        if not target.is_file():
            broken.append(f"{page.relative_to(folder)}: no file {address}")
        elif place and target in anchors and place not in anchors[target]:
            broken.append(f"{page.relative_to(folder)}: no such place {address}")
    return sorted(set(broken)), {a: len(p) for a, p in sorted(pages_of.items())}


def main():
    """Print what was found; the exit status tells whether links are broken."""
    default = Path(__file__).parent / "_build" / "html"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    if not pages(folder):
        sys.exit(f"no pages in {folder}: build them first, by `make doc`")
    broken, external = check(folder)
    print(f"{len(external)} addresses on other sites, which were not fetched:")
    for address, n_pages in external.items():
        print(f"  {address} ({n_pages} pages)")
    print(f"{len(broken)} broken links between pages")
    for link in broken:
        print(f"  {link}")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
