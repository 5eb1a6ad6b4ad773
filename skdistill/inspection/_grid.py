"""Images in rows, in one axes of a bounded size."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from skdistill.inspection._plotting import plain_text, wrapped

_GAP = 0.06  # between two images of a grid, in widths of one
_GROUP_GAP = 0.25  # and between two groups of columns or of lines
_CAPTION = 0.32  # and the height of two lines below an image
MAX_INCHES = 14.0  # of a figure that a display makes
MAX_ROWS = 40  # of names that can still be read
_LETTER = 0.55  # width of a letter of a title, in its size
_MAX_SIDE = 2.0  # inches of an image
_NOTE_INCHES = 2.5  # of the lines of a note, at least
# Of a note's width as it is estimated, and as it may be in other letters.
_LOOSE = 1.2
_IMAGES_PER_LINE = 12  # where there is no reason for more


def size_of(figure: Any) -> np.ndarray:
    """Return width and height of a figure, or of a part of one, in inches."""
    if hasattr(figure, "get_size_inches"):
        return figure.get_size_inches()
    return figure.bbox.size / figure.dpi


def new_axes(ax: Any, width: float, height: float) -> Any:
    """Return the axes that are given, or those of a new figure of a size in inches.

    What is more than :data:`MAX_INCHES` is made smaller, both sides alike.
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    shrink = min(1.0, MAX_INCHES / max(width, height))
    size = max(width * shrink, 1.5), max(height * shrink, 1.5)
    _, ax = plt.subplots(figsize=size, layout="compressed")
    return ax


def panels(
    ax: Any,
    number: int,
    size: tuple[float, float],
    *,
    n_columns: int = 5,
    extra: tuple[float, float] = (0.6, 0.9),
    share: bool = False,
) -> np.ndarray:
    """Return several axes.

    Parameters
    ----------
    ax : matplotlib Axes, array-like of them or None
        Those that the user gave.
    number : int
        How many there have to be.
    size : tuple (width, height)
        Of one, in inches; smaller where all would be more than :data:`MAX_INCHES`.
    n_columns : int, default=5
        Maximum number of columns.
    extra : tuple (width, height), default=(0.6, 0.9)
        For names at the left, and a title and a legend.
    share : bool, default=False
        Whether all have the same limits.

    Returns
    -------
    axes : ndarray of matplotlib Axes, shape (number,)
    """
    if ax is not None:
        axes = np.ravel(np.asarray(ax, dtype=object))
        if not all(hasattr(one, "boxplot") for one in axes):
            raise ValueError(f"`ax` must be an array of matplotlib Axes; got {ax!r}")
        if len(axes) != number:
            raise ValueError(
                f"`ax` must be an array of {number} axes, one for each panel; got "
                f"{len(axes)}"
            )
        return axes
    import matplotlib.pyplot as plt

    n_columns = min(number, n_columns)
    n_rows = -(-number // n_columns)
    width = max(4.5, extra[0] + size[0] * n_columns)
    figure, grid = plt.subplots(
        n_rows,
        n_columns,
        figsize=(
            min(width, MAX_INCHES),
            min(extra[1] + size[1] * n_rows, MAX_INCHES),
        ),
        sharex=share,
        sharey=share,
        squeeze=False,
        layout="constrained",
    )
    for unused in grid.ravel()[number:]:
        figure.delaxes(unused)
    return grid.ravel()[:number]


def legend_outside(axes: np.ndarray, handles: Any = None) -> Any:
    """Draw one legend for all axes where no data are.

    Parameters
    ----------
    axes : ndarray of matplotlib Axes
    handles : list of matplotlib artists, default=None
        None takes those of the first axes.

    Returns
    -------
    legend : matplotlib Legend
    """
    figure = axes[0].figure
    if handles is None:
        handles, _ = axes[0].get_legend_handles_labels()
    # As many side by side as the figure is wide.
    longest = max((len(handle.get_label()) for handle in handles), default=1)
    fitting = size_of(figure)[0] / (0.085 * longest + 0.6)
    alone = len(figure.axes) == len(axes)
    if alone and figure.get_layout_engine() is not None:
        return figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=int(np.clip(fitting, 1, len(handles))),
            frameon=False,
        )
    # In a figure of the user's: below the last axes, out of the way of what is above.
    return axes[-1].legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.3),
        frameon=False,
        fontsize="small",
    )


def font_size(figure: Any) -> float:
    """Return the size of text in points that fits a figure: larger on a larger one."""
    return float(np.clip(1.05 * max(size_of(figure)), 8, 14))


def in_lines(title: str, inches: float, size: float) -> str:
    """Break a title into lines that a width has room for, besides those it has."""
    letters = max(16, int(72 * inches / (_LETTER * size)))
    return "\n".join(
        line if len(line) <= letters else "\n".join(textwrap.wrap(line, letters))
        for line in title.split("\n")
    )


def write_title(ax: Any, title: str, **text_kw: Any) -> None:
    """Write a title above axes, in lines that are no wider than these."""
    text = ax.set_title("", **text_kw)
    # The room of the axes: of what they draw the shape may be another.
    share = ax.get_position(original=True).width
    inches = size_of(ax.figure)[0] * share
    text.set_text(in_lines(title, inches, text.get_fontsize()))
    text.set_parse_math(False)


def write_suptitle(figure: Any, title: str, size: float) -> None:
    """Write a title above a figure, in lines that are no wider than it."""
    text = in_lines(title, 0.95 * size_of(figure)[0], size)
    figure.suptitle(text, fontsize=size, parse_math=False)


def say(
    ax: Any,
    title: str,
    note: str,
    size: float | None = None,
    most: float = np.inf,
) -> Any:
    """Write a title above axes and a note below; return the note, None if empty.

    The note is at most so many inches wide, but not less than _NOTE_INCHES.
    """
    size = font_size(ax.figure) if size is None else size
    if title:
        write_title(ax, title, fontsize=size + 1)
    if not note:
        return None
    small = max(7.0, 0.75 * size)
    inches = min(size_of(ax.figure)[0] * ax.get_position().width, most)
    letters = max(30, int(72 * max(inches, _NOTE_INCHES) / (0.5 * small)))
    text = "\n".join(textwrap.wrap(note, letters))
    return ax.annotate(
        text,
        (0, 0),
        xycoords="axes fraction",
        xytext=(0, -4 if ax.xaxis.get_ticks_position() == "top" else -28),
        textcoords="offset points",
        va="top",
        fontsize=small,
        color="0.3",
        parse_math=False,
    )


def choose(
    positions: Sequence[np.ndarray], most: int, per_image: int = 1
) -> tuple[list[np.ndarray], str]:
    """Choose which images of each class to draw, and say what is left out.

    Parameters
    ----------
    positions : sequence of ndarray of int
        Of the images of each class.
    most : int
        Number of pictures to draw at most.
    per_image : int, default=1
        Number of pictures of an image.

    Returns
    -------
    chosen : list of ndarray of int
        The first images of the first classes.
    said : str
        "" if they are all.
    """
    chosen = list(positions[: max(1, min(MAX_ROWS, most // per_image))])
    said = []
    if len(chosen) < len(positions):
        said.append(
            f"the first {len(chosen)} of {len(positions)} classes (use `classes` "
            "to choose)"
        )
    each = max(len(place) for place in chosen)
    number = sum(len(place) for place in chosen)
    while each > 1 and per_image * sum(min(len(p), each) for p in chosen) > most:
        each -= 1
    chosen = [place[:each] for place in chosen]
    left = sum(len(place) for place in chosen)
    if left < number:
        said.append(f"the first {left} of {number} images, at most {each} of a class")
    return chosen, ", ".join(said)


def join_notes(*notes: str) -> str:
    """Join what there is to say."""
    return "; ".join(note for note in notes if note)


def draw_grid(
    ax: Any,
    rows: Sequence[Any],
    row_names: Sequence[str],
    column_names: Sequence[str] = (),
    per_group: int = 1,
    *,
    wrap: bool = False,
    n_apart: int = 0,
    captions: Sequence[Sequence[tuple[str, str]]] = (),
    title: str = "",
    note: str = "",
    beside: float = 0.0,
    **imshow_kw: Any,
) -> tuple[Any, list[list[Any]], Any]:
    """Draw images in rows and columns, all in one axes.

    Parameters
    ----------
    ax : matplotlib Axes or None
        Where to draw; None makes a new figure, of at most 14 inches a side.
    rows : sequence of sequences of ndarray of shape (height, width[, 3])
        The images of each row.
    row_names : sequence of str
    column_names : sequence of str, default=()
        Titles of the columns; fewer are repeated.
    per_group : int, default=1
        Number of columns after which there is a wider gap.
    wrap : bool, default=False
        Whether rows of many images are broken into several lines.
    n_apart : int, default=0
        Number of first columns that stand apart from the others; not with ``wrap``.
    captions : sequence of sequences of tuple (text, color), default=()
        What is written below each image of each row, in at most two lines.
    title, note : str, default=""
        Above and below.
    beside : float, default=0.0
        Inches that something else needs beside the images.
    **imshow_kw : dict
        For :meth:`matplotlib.axes.Axes.imshow`.

    Returns
    -------
    ax : matplotlib Axes
    drawn : list of list of matplotlib AxesImage
    note : matplotlib Annotation or None
    """
    height, width = next(image for row in rows for image in row).shape[:2]
    aspect = height / width
    longest = max(len(images) for images in rows)
    n_columns = (
        _columns([len(row) for row in rows], aspect, per_group) if wrap else longest
    )
    left = np.arange(n_columns) * (1 + _GAP)
    if per_group > 1:
        left = left + (np.arange(n_columns) // per_group) * _GROUP_GAP
    if n_apart:
        left = left + (np.arange(n_columns) >= n_apart) * _GROUP_GAP
    below = _CAPTION if captions else 0.0
    pitch = aspect + below + _GAP
    n_lines = np.array([max(1, -(-len(row) // n_columns)) for row in rows])
    first = np.concatenate([[0], np.cumsum(n_lines)[:-1]])
    apart = _GROUP_GAP * aspect if n_lines.max() > 1 else 0.0
    top = first * pitch + np.arange(len(rows)) * apart
    heights = n_lines * pitch - _GAP - below

    wide, high = left[-1] + 1, top[-1] + heights[-1] + below
    limit = MAX_INCHES - 3.0
    side = min(_MAX_SIDE, limit / wide, 0.85 * limit / high)
    if ax is not None:
        box = ax.get_position()
        room = size_of(ax.figure) * (box.width, box.height)
        side = min(room[0] / wide, room[1] / high)
    size = float(np.clip(0.95 * side * max(wide, high), 9, 13))
    # A name has the height of its row, and is broken as often as that allows.
    max_lines = max(1, int(72 * side * heights.min() / (1.25 * size)))
    if 72 * side * heights.min() < 1.25 * size:
        size = max(4.0, 72 * side * float(heights.min()) / 1.25)
    names = [_fitted(name, max_lines) for name in row_names]
    letters = max(len(line) for name in names for line in name.split("\n"))
    margin = 0.3 + 0.6 * size * letters / 72
    right = max(side * wide + beside, _LOOSE * _NOTE_INCHES if note else 0.0)
    above = 0.3 + (0.3 if title else 0)
    if column_names:
        above += 0.1 + 1.25 * size / 72 * (1 + max(n.count("\n") for n in column_names))
    most = np.inf
    if ax is None:
        ax = new_axes(
            None,
            max(margin + right, 4.0 if note or title else 1.5),
            above + side * high + (0.5 if note else 0.1),
        )
        # Beside the names, that is, which would be pushed out of the figure.
        most = (size_of(ax.figure)[0] - margin) / _LOOSE
    imshow_kw = {"interpolation": "nearest"} | imshow_kw
    drawn: list[list[Any]] = []
    for images, y in zip(rows, top, strict=True):
        drawn.append([])
        for number, image in enumerate(images):
            line, column = divmod(number, n_columns)
            x, here = left[column], y + line * pitch
            extent = (x, x + 1, here + aspect, here)
            drawn[-1].append(ax.imshow(image, extent=extent, **imshow_kw))
    for images, y, texts in zip(rows, top, captions, strict=False):
        _write_below(ax, texts, left[: len(images)] + 0.5, y + aspect, side)
    ax.set(
        xlim=(-_GAP, left[-1] + 1 + _GAP),
        ylim=(high + _GAP, -_GAP),
        aspect="equal",
        xticks=left + 0.5 if column_names else [],
        yticks=top + heights / 2,
    )
    ax.set_yticklabels(names, fontsize=size)
    if column_names:
        titles = list(column_names) * (n_columns // len(column_names))
        ax.set_xticklabels(titles, fontsize=size)
        ax.xaxis.tick_top()
        _turn_if_crowded(ax, titles, size, side)
    else:
        ax.xaxis.set_ticks_position("top")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    plain_text(ax)
    return ax, drawn, say(ax, title, note, size, most)


def _write_below(
    ax: Any, texts: Sequence[tuple[str, str]], places: np.ndarray, y: float, side: float
) -> None:
    """Write below the images of a row, in letters that the images have room for."""
    size = float(np.clip(72 * side * _CAPTION / 2.6, 4, 10))
    letters = max(4, int(72 * side / (0.58 * size)))
    for x, (text, color) in zip(places, texts, strict=True):
        lines = [
            line if len(line) <= letters else f"{line[: letters - 1]}…"
            for line in text.split("\n")
        ]
        ax.text(
            x,
            y + 0.03,
            "\n".join(lines),
            color=color,
            fontsize=size,
            ha="center",
            va="top",
            linespacing=1.1,
        )


def _columns(numbers: Sequence[int], aspect: float, per_group: int) -> int:
    """Return how many images of a line make the block of all rows about a square."""
    longest = max(numbers)
    n_columns = min(longest, max(_IMAGES_PER_LINE, per_group))
    n_columns = -(-n_columns // per_group) * per_group
    while n_columns < longest:
        lines = sum(max(1, -(-number // n_columns)) for number in numbers)
        if lines * aspect <= n_columns:
            break
        n_columns += per_group
    return n_columns


def _fitted(name: str, max_lines: int) -> str:
    """Break a name into lines that are as short as the number of lines allows."""
    for letters in range(14, 44, 6):
        text = wrapped(name, letters)
        if text.count("\n") < max_lines:
            return text
    most = 44 * max_lines
    short = textwrap.shorten(str(name), most, placeholder=" …")
    # Of one long word, such as names joined by underscores, nothing is left.
    return wrapped(short if len(short) > 1 else f"{str(name)[: most - 1]}…", 44)


def _turn_if_crowded(ax: Any, titles: Sequence[str], size: float, side: float) -> None:
    """Turn titles of columns that are wider than these."""
    longest = max(len(line) for title in titles for line in title.split("\n"))
    if 0.6 * size * longest > 72 * side * (1 + _GAP):
        for label in ax.get_xticklabels():
            label.set(rotation=45, ha="left", rotation_mode="anchor")
