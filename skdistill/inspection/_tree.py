"""TreeDisplay: a decision tree with images at its leaves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skdistill.curation._tree import VoteTree
from skdistill.inspection._plotting import (
    check_matplotlib,
    distilled_by,
    in_colour,
    new_axes,
    plain_text,
    real_images,
    to_pixels,
    wrapped,
)
from skdistill.inspection._tree_layout import (
    MOST_LEAVES,
    Node,
    grow,
    leaf_positions,
    pruned,
    tree_of,
)
from skdistill.utils._validation import image_array

# Lengths in widths of an image.
_LEVEL = 0.72  # between two levels of questions
_NAMES = 0.52  # between the last level and the images: the names of the leaves
_GAP = 0.06


class TreeDisplay:
    """A decision tree with images at its leaves, in the manner of figure 1 of [1]_.

    Made by :meth:`from_estimator` or :meth:`from_data`; everything that is given to
    the constructor is stored as it is.

    Parameters
    ----------
    rows : dict of str to list of ndarray of shape (height, width, 3), uint8, or None
        What is shown below the leaves, row by row: a title of the row, and for each
        leaf, in the order of the tree, an image or None.
    tree : {"nine", "gz2"}, dict or GalaxyZooCurator, default=None
        The tree, as for :meth:`from_data`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the tree.
    figure_ : matplotlib Figure
        Its figure.
    images_ : list of matplotlib AxesImage
        The images that are drawn.
    texts_ : list of matplotlib Text
        Questions, answers, names of leaves and titles of rows.

    See Also
    --------
    SyntheticSetDisplay : All images of each class in a grid.

    References
    ----------
    .. [1] Guan et al., "Discovering Galaxy Features via Dataset Distillation", 2023.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skdistill import make_galaxies
    >>> from skdistill.inspection import TreeDisplay
    >>> X, y = make_galaxies(18, size=16, random_state=0)
    >>> display = TreeDisplay.from_data(X, y, n_images=2)
    >>> len(display.images_)
    18
    >>> plt.close(display.figure_)
    """

    def __init__(
        self, rows: Mapping[str, list[np.ndarray | None]], *, tree: Any = None
    ) -> None:
        self.rows = rows
        self.tree = tree

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        y: Any = None,
        *,
        tree: Any = None,
        preprocessing: Any = None,
        n_images: int = 1,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "TreeDisplay":
        """Draw distilled images at the leaves, below real ones if any are given.

        Parameters
        ----------
        estimator : estimator instance
            A fitted distiller, a :class:`~skdistill.distillation.DistilledClassifier`
            or a pipeline that ends with one.
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels), default=None
            Real images as the estimator takes them.  The first of each class are
            shown: of what :class:`~skdistill.GalaxyZooCurator` selects, the surest.
        y : array-like of shape (n_samples,), default=None
            Their labels.
        tree : {"nine", "gz2"}, dict or GalaxyZooCurator, default=None
            The tree, as for :meth:`from_data`.
        preprocessing : transformer, default=None
            What the real images were transformed by, fitted and with
            ``inverse_transform``; not for a pipeline, which has it inside.
        n_images : int, default=1
            Number of images of each kind at each leaf.
        value_range : tuple (low, high), default=None
            The pixel values that become black and white; None takes nearly the whole
            range of the real images, or of the distilled ones if there are no others.
        composite : array-like of shape (3,) or (3, channels), default=None
            How channels become red, green and blue, as in
            :meth:`~skdistill.SyntheticSet.to_images`.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **imshow_kw : dict
            For :meth:`matplotlib.axes.Axes.imshow`, such as ``interpolation``.

        Returns
        -------
        display : TreeDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        if (X is None) != (y is None):
            raise ValueError("X and y must be given both, or neither")
        synthetic, preprocessing = distilled_by(estimator, preprocessing)
        tree = tree_of(tree)
        groups = {}
        if X is not None:
            # Only what is shown is transformed.
            X, y = image_array(X, shape=synthetic.X.shape[1:]), np.asarray(y)
            first = _first_of_each(y, tree, n_images)
            used = np.unique(first[first >= 0])
            shape = synthetic.X.shape[1:]
            images = real_images(X[used], estimator, shape, preprocessing)
            groups["real"] = images, y[used]
        groups["distilled"] = to_pixels(synthetic.X, preprocessing), synthetic.y
        display = cls._of_groups(groups, tree, n_images, value_range, composite)
        return display.plot(ax=ax, **imshow_kw)

    @classmethod
    def from_data(
        cls,
        X: Any,
        y: Any,
        *,
        tree: Any = None,
        title: str = "",
        preprocessing: Any = None,
        n_images: int = 1,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "TreeDisplay":
        """Draw any labelled images at the leaves.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels)
            Images; the first of each class are shown.
        y : array-like of shape (n_samples,)
            Their labels: names of leaves, or their positions in the tree.
        tree : {"nine", "gz2"}, dict or GalaxyZooCurator, default=None
            The tree, in the form that :class:`~skdistill.GalaxyZooCurator` takes it, or
            a curator that has it.  None takes the nine classes.  Of more than 40
            leaves only those are drawn that have images.
        title : str, default=""
            What the images are.
        preprocessing : transformer, default=None
            A fitted transformer whose ``inverse_transform`` turns X into pixels to
            look at.
        n_images : int, default=1
            Number of images at each leaf.
        value_range : tuple (low, high), default=None
            The pixel values that become black and white; None takes nearly the whole
            range of the images.
        composite : array-like of shape (3,) or (3, channels), default=None
            How channels become red, green and blue, as in
            :meth:`~skdistill.SyntheticSet.to_images`.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **imshow_kw : dict
            For :meth:`matplotlib.axes.Axes.imshow`, such as ``interpolation``.

        Returns
        -------
        display : TreeDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_data")
        X, y, tree = image_array(X), np.asarray(y), tree_of(tree)
        first = _first_of_each(y, tree, n_images)
        used = np.unique(first[first >= 0])
        groups = {title: (to_pixels(X[used], preprocessing), y[used])}
        display = cls._of_groups(groups, tree, n_images, value_range, composite)
        return display.plot(ax=ax, **imshow_kw)

    @classmethod
    def _of_groups(
        cls,
        groups: Mapping[str, tuple[np.ndarray, np.ndarray]],
        tree: VoteTree,
        n_images: int = 1,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
    ) -> "TreeDisplay":
        """Take images and labels of each group, with the stretch of the first."""
        pixels = in_colour(
            *(images for images, _ in groups.values()),
            value_range=value_range,
            composite=composite,
            reference=next(iter(groups.values()))[0],
        )
        rows: dict[str, list[np.ndarray | None]] = {}
        for (name, (_, y)), coloured in zip(groups.items(), pixels, strict=True):
            rows |= _rows(name, coloured, _first_of_each(y, tree, n_images))
        if len(tree.leaves) > MOST_LEAVES:
            # Of a large tree only what there are images of.
            used = [
                place
                for place in range(len(tree.leaves))
                if any(row[place] is not None for row in rows.values())
            ]
            names = list(tree.leaves)
            tree = pruned(tree, {names[place] for place in used})
            rows = {
                title: [row[place] for place in used] for title, row in rows.items()
            }
        return cls(rows, tree=tree)

    def plot(self, *, ax: Any = None, **imshow_kw: Any) -> "TreeDisplay":
        """Draw the tree and the images.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **imshow_kw : dict
            For :meth:`matplotlib.axes.Axes.imshow`, such as ``interpolation``.

        Returns
        -------
        display : TreeDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        tree = tree_of(self.tree)
        root = grow(tree, spacing=1 + _GAP)
        leaves = root.leaves()
        depth = max(leaf.depth for leaf in leaves)
        shown = [image for row in self.rows.values() for image in row]
        shapes = [image.shape for image in shown if image is not None]
        aspect = shapes[0][0] / shapes[0][1] if shapes else 1.0
        height = depth * _LEVEL + _NAMES + len(self.rows) * (aspect + _GAP)

        n_leaves = len(leaves)
        # Leaf number k is drawn at k (1 + gap).
        span = n_leaves * (1 + _GAP) + 0.4
        width = np.clip(1.4 * n_leaves, 5, 40)
        ax = new_axes(ax, width, width / span * height + 0.2)
        # Text has a size of its own: as large as the width of an image allows.
        box = ax.get_position()
        inches = ax.figure.get_size_inches()[0] * box.width / span
        size = float(np.clip(8.0 * inches, 4, 11))

        self.texts_: list[Any] = []
        self._draw(ax, root, depth, size)
        names = list(tree.leaves)
        self.images_ = []
        imshow_kw = {"interpolation": "nearest"} | imshow_kw
        bottom = -depth * _LEVEL - _NAMES
        for number, (title, row) in enumerate(self.rows.items()):
            top = bottom - number * (aspect + _GAP)
            for leaf in leaves:
                image = row[names.index(leaf.leaf)]
                if image is not None:
                    extent = (leaf.x - 0.5, leaf.x + 0.5, top - aspect, top)
                    self.images_.append(ax.imshow(image, extent=extent, **imshow_kw))
            self._text(
                ax,
                (-0.56, top - aspect / 2),
                title.partition("\n")[0],
                size + 1,
                rotation=90,
                ha="right",
            )
        right = leaves[-1].x + 0.55
        ax.set(xlim=(right - span, right), ylim=(-height, 0.3), aspect="equal")
        ax.set_axis_off()
        plain_text(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw(self, ax: Any, node: Node, depth: int, size: float) -> None:
        """Draw a node, its branches and all below it."""
        y = -node.depth * _LEVEL
        if node.leaf:
            end = -depth * _LEVEL
            ax.plot([node.x, node.x], [y, end - 0.08], color="0.6", lw=1, zorder=0)
            name = wrapped(node.leaf)
            self._text(ax, (node.x, end - _NAMES / 2), name, size, weight="bold")
            return
        crossing = y - 0.3 * _LEVEL
        ax.plot([node.x, node.x], [y, crossing], color="0.6", lw=1, zorder=0)
        for child in node.children:
            ax.plot(
                [node.x, child.x, child.x],
                [crossing, crossing, y - _LEVEL],
                color="0.6",
                lw=1,
                zorder=0,
            )
            if child.answer:
                # On a way that goes on without a question there is room below.
                place = (child.x, y - 0.62 * _LEVEL)
                answer = wrapped(child.answer, 12)
                self._text(ax, place, answer, size - 1, box="white")
            self._draw(ax, child, depth, size)
        if node.question:
            box = "#e8eef7"
            self._text(ax, (node.x, y), wrapped(node.question, 14), size, box=box)

    def _text(
        self,
        ax: Any,
        place: tuple[float, float],
        text: str,
        size: float,
        *,
        box: str | None = None,
        ha: str = "center",
        **text_kw: Any,
    ) -> None:
        patch = {"boxstyle": "round,pad=0.25", "fc": box, "ec": "none"} if box else None
        self.texts_.append(
            ax.text(*place, text, size=size, ha=ha, va="center", bbox=patch, **text_kw)
        )


def _first_of_each(y: Any, tree: VoteTree, n_images: int) -> np.ndarray:
    """Return positions of the first images of each leaf, (n_leaves, n_images).

    -1 stands where a leaf has fewer images.
    """
    if n_images < 1:
        raise ValueError(f"`n_images` must be at least 1; got {n_images}")
    leaves = leaf_positions(y, list(tree.leaves))
    first = np.full((len(tree.leaves), n_images), -1)
    for leaf in range(len(tree.leaves)):
        some = np.flatnonzero(leaves == leaf)[:n_images]
        first[leaf, : len(some)] = some
    # No rows that would be empty.
    return first[:, : max(1, int((first >= 0).sum(axis=1).max()))]


def _rows(
    title: str, pixels: np.ndarray, places: np.ndarray
) -> dict[str, list[np.ndarray | None]]:
    """Return the images of each row; a row's title ends with a line of its own."""
    return {
        title if not number else f"{title}\n{number}": [
            pixels[place] if place >= 0 else None for place in column
        ]
        for number, column in enumerate(places.T)
    }
