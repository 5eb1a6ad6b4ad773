"""Images as markup whose size has a bound, however many there are and of what size."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from skdistill.utils._stretch import to_displayable

# Limits of a set in a notebook: images, pixels of their sides, and bytes of base64.
MAX_FIGURES = 24
_MAX_SIDE = 96
_MAX_BYTES = 90_000
_MAX_LABEL = 40


def some_of_each(y: Any, n_images: int) -> np.ndarray:
    """Return positions of a limited number of images, evenly over the classes.

    Parameters
    ----------
    y : array-like of shape (n_images,)
        Labels.
    n_images : int

    Returns
    -------
    positions : ndarray of int
        In increasing order.
    """
    _, codes = np.unique(np.asarray(y), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(codes.max(initial=-1) + 1))
    rank = np.empty(len(codes), dtype=np.int64)
    rank[order] = np.arange(len(codes)) - starts[codes[order]]
    # The first of each class, then the second of each, and so on.
    return np.sort(np.lexsort((codes, rank))[:n_images])


def bounded_figures(X: np.ndarray, y: Sequence[Any] | np.ndarray) -> str:
    """Return images with their labels as markup of at most some 100 kB.

    Parameters
    ----------
    X : ndarray of shape (n_images, height, width, channels)
    y : ndarray of shape (n_images,)
        Labels.

    Returns
    -------
    markup : str
        Figures, and a note on what is left out or made smaller.
    """
    shown = some_of_each(y, MAX_FIGURES)
    height, width = X.shape[1:3]
    # Every second pixel, or fewer, of images that are far larger than what is shown.
    step = max(1, max(height, width) // (4 * _MAX_SIDE))
    pixels = to_displayable(np.asarray(X[shown][:, ::step, ::step]))
    side = _MAX_SIDE
    while True:
        pictures = [_encoded(image, side) for image in pixels]
        if side <= 4 or sum(map(len, pictures)) <= _MAX_BYTES:
            break
        side //= 2
    cells = [
        '<figure style="display:inline-block;margin:4px;text-align:center">'
        f'<img src="data:image/png;base64,{picture}" alt="synthetic {name}" '
        'style="width:96px;image-rendering:pixelated">'
        f"<figcaption>{name}</figcaption></figure>"
        for picture, name in zip(
            pictures, (_label(y[place]) for place in shown), strict=True
        )
    ]
    notes = []
    if len(shown) < len(X):
        notes.append(f"and {len(X) - len(shown):,} more images")
    if max(height, width) > side:
        notes.append(f"shown with sides of at most {side} pixels")
    note = f"<p>{', '.join(notes)}</p>" if notes else ""
    return "".join(cells) + note


def _encoded(image: np.ndarray, side: int) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _label(label: Any) -> str:
    text = str(label)
    return html.escape(text if len(text) <= _MAX_LABEL else f"{text[:_MAX_LABEL]}…")
