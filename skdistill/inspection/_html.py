"""The page of a report: markup that needs nothing from elsewhere."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

# Text and links have a contrast of at least 7 on their background, borders of 3.
_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; color: #1b1f24;
  background: #fff; font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 0.6rem; padding-top: 0.6rem;
  border-top: 1px solid #767c85; }
a { color: #0b4f9e; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; list-style: none;
  padding: 0; margin: 0.8rem 0; }
nav a { display: inline-block; padding: 0.3rem 0; }
.note, figcaption, caption { color: #444b55; font-size: 0.92rem; }
.figures { display: grid; gap: 0.8rem;
  grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); }
figure { margin: 0; }
.figures img { width: 100%; image-rendering: pixelated; display: block; }
.plot img { max-width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; }
pre { border: 1px solid #767c85; padding: 0.6rem; margin: 0; }
.scroll:focus-visible, a:focus-visible { outline: 3px solid #0b4f9e; }
.wide img { max-width: none; }
figcaption { margin: 0.4rem 0 1rem; }
table { border-collapse: collapse; font-size: 0.92rem; overflow-wrap: break-word; }
caption { text-align: left; padding-bottom: 0.4rem; }
th, td { text-align: left; padding: 0.3rem 0.7rem; border-bottom: 1px solid #c9ced6;
  vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
th { font-weight: 600; }
dl.facts { display: grid; gap: 0.8rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); }
dl.facts dt { color: #444b55; font-size: 0.92rem; }
dl.facts dd { margin: 0; font-size: 1.25rem; font-weight: 600; }
@media (min-width: 60rem) { .wide img { max-width: 100%; } }
@media print { .scroll { overflow: visible; } }
"""


def page(title: str, intro: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """Return a whole page.

    Parameters
    ----------
    title : str
        Plain text.
    intro : str
        Markup.
    sections : sequence of (identifier, heading, content)
        Heading in plain text, content in markup.

    Returns
    -------
    markup : str
    """
    links = "".join(
        f'<li><a href="#{name}">{escape(heading)}</a></li>'
        for name, heading, _ in sections
    )
    content = "".join(
        f'<section id="{name}" aria-labelledby="{name}-heading">'
        f'<h2 id="{name}-heading">{escape(heading)}</h2>{markup}</section>\n'
        for name, heading, markup in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # No request for an icon that is not there.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>{intro}</header>\n"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n<main>\n{content}</main>\n'
        "</body>\n</html>\n"
    )


def facts(pairs: Iterable[tuple[str, Any]]) -> str:
    """Return a list of names and values."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in pairs
    )
    return f'<dl class="facts">{items}</dl>'


def note(text: str) -> str:
    """Return a paragraph in small print."""
    return f'<p class="note">{escape(text)}</p>'


def table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str, numbers: int = 0
) -> str:
    """Return a table that scrolls by itself where it is too wide.

    Parameters
    ----------
    head : sequence of str
    rows : iterable of sequences
        The first of each names the row.
    caption : str
    numbers : int, default=0
        How many of the last columns are numbers.

    Returns
    -------
    markup : str
    """
    n_text = len(head) - numbers

    def kind(place: int) -> str:
        return ' class="number"' if place >= n_text else ""

    top = "".join(
        f'<th scope="col"{kind(place)}>{escape(name)}</th>'
        for place, name in enumerate(head)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>'
        + "".join(
            f"<td{kind(place)}>{escape(str(value))}</td>"
            for place, value in enumerate(rest, start=1)
        )
        + "</tr>"
        for first, *rest in rows
    )
    label = f'aria-label="{escape(caption)}"'
    return (
        f'<div class="scroll" tabindex="0" role="region" {label}>'
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def code(text: str, label: str) -> str:
    """Return lines of code that scroll by themselves where they are too wide."""
    return (
        f'<pre class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<code>{escape(text)}</code></pre>"
    )


def picture(pixels: np.ndarray, alternative: str) -> str:
    """Return an image of 8-bit RGB as markup."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return _image(buffer.getvalue(), alternative)


def small_figures(images: Iterable[tuple[np.ndarray, str, str]]) -> str:
    """Return images with an alternative text and a caption each, in a grid."""
    cells = "".join(
        f"<figure>{picture(pixels, alternative)}"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for pixels, alternative, caption in images
    )
    return f'<div class="figures">{cells}</div>'


def plot(figure: Any, alternative: str, caption: str, *, wide: bool = False) -> str:
    """Return a matplotlib figure as markup, and close it.

    Parameters
    ----------
    figure : matplotlib Figure
    alternative : str
        What the figure shows, for who does not see it.
    caption : str
    wide : bool, default=False
        Whether it cannot be read at the width of a phone, and scrolls by itself.

    Returns
    -------
    markup : str
    """
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    image = _image(buffer.getvalue(), alternative)
    if wide:
        image = (
            '<div class="scroll wide" tabindex="0" role="region" '
            f'aria-label="{escape(caption)}">{image}</div>'
        )
    below = f"<figcaption>{escape(caption)}</figcaption>"
    return f'<figure class="plot">{image}{below}</figure>'


def _image(png: bytes, alternative: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alternative)}">'
