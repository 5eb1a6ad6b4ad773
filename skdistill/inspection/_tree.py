"""TreeDisplay: a decision tree with images at its leaves."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skdistill.curation._tree import VoteTree
from skdistill.inspection._grid import MAX_INCHES, size_of
from skdistill.inspection._plotting import (
    check_fitted_columns,
    check_matplotlib,
    check_names,
    distilled_by,
    find_look,
    plain_text,
    real_images,
    to_pixels,
    wrapped,
)
from skdistill.inspection._public import public
from skdistill.inspection._tree_layout import (
    MAX_LEAVES,
    Node,
    grow,
    leaf_positions,
    pruned,
    readable,
    tree_of,
)
from skdistill.utils._labels import labels_of_images
from skdistill.utils._stretch import Stretch
from skdistill.utils._validation import image_array

# Lengths in widths of an image.
_LEVEL = 0.84  # between two levels of questions, at least
_LINE = 0.155  # of text
_TOP = 0.24  # above the first question
_GAP = 0.06
_LETTERS = 12  # in the width of an image
_LETTER, _BOLD = 0.55, 0.65  # width of a letter and of a bold one, in its size


class TreeDisplay:
    """A decision tree with images at its leaves, as in figure 1 of [1]_.

    Created by :meth:`from_estimator` or :meth:`from_data`; the parameters of the
    constructor are stored as they are.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    rows : dict of str to list of ndarray of shape (height, width, 3), uint8, or None
        The rows of images below the leaves: the title of each row, and for each leaf,
        in the order of the tree, an image or None.  Text after a line break in a title
        is not drawn, and rows with the same remaining title share it.
    tree : {"nine", "gz2"}, dict or GalaxyZooCurator, default=None
        The tree, as for :meth:`from_data`.
    class_names : mapping of str to str, default=None
        Names of leaves that replace those of the tree.
    title, note : str, default=""
        The title, and a note below the figure.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the tree.
    figure_ : matplotlib Figure
        Its figure.
    images_ : list of matplotlib AxesImage
        The drawn images.
    texts_ : list of matplotlib Text
        Title, questions, answers, names of leaves, titles of rows and the note.

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
        self,
        rows: Mapping[str, list[np.ndarray | None]],
        *,
        tree: Any = None,
        class_names: Mapping[str, str] | None = None,
        title: str = "",
        note: str = "",
    ) -> None:
        self.rows = rows
        self.tree = tree
        self.class_names = class_names
        self.title = title
        self.note = note

    @classmethod
    @public()
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        y: Any = None,
        *,
        tree: Any = None,
        preprocessing: Any = None,
        n_images: int = 1,
        row_titles: Sequence[str] = ("real", "distilled"),
        class_names: Sequence[str] | Mapping[Any, str] | None = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        band_names: Sequence[str] | None = None,
        title: str = "",
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "TreeDisplay":
        """Show distilled images at the leaves, below real images if they are given.

        Parameters
        ----------
        estimator : estimator instance
            A fitted distiller, a :class:`~skdistill.distillation.DistilledClassifier`
            or a pipeline that ends with one.
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels), default=None
            Real images, as input of the estimator.  The first of each class are shown:
            after a selection by :class:`~skdistill.GalaxyZooCurator`, the most
            confident ones.
        y : array-like of shape (n_samples,), default=None
            Their labels.
        tree : {"nine", "gz2"}, dict or GalaxyZooCurator, default=None
            The tree, as for :meth:`from_data`.
        preprocessing : transformer, default=None
            The fitted transformer that was applied to the real images, with
            ``inverse_transform``; None for a pipeline, which contains it.
        n_images : int, default=1
            Number of images of each kind at each leaf.
        row_titles : sequence of two str, default=("real", "distilled")
            The titles next to the real images and next to the distilled ones.
        class_names : sequence of str or mapping, default=None
            Names of the leaves: one for each, in the order of the tree, or a mapping
            from labels to names.
        value_range : tuple (low, high), default=None
            The pixel values that are shown as black and white; None chooses them from
            the images, as in :meth:`~skdistill.SyntheticSet.to_images`, and states them
            in the note below the figure.
        composite : array-like of shape (3,) or (3, channels), default=None
            The conversion of channels to red, green and blue, as in
            :meth:`~skdistill.SyntheticSet.to_images`.
        band_names : sequence of str, default=None
            Names of the channels, such as ``"ugriz"``, which determine their order from
            red to blue in a composite.
        title : str, default=""
            The title.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

        Returns
        -------
        display : TreeDisplay
            The drawn display.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        if (X is None) != (y is None):
            raise ValueError("X and y must be given together")
        synthetic, preprocessing = distilled_by(estimator, preprocessing)
        if len(row_titles) != 2:
            raise ValueError(
                "`row_titles` must be two titles, for the real and for the distilled "
                f"images; got {row_titles!r}"
            )
        tree = tree_of(tree)
        look = find_look(
            synthetic.X,
            preprocessing,
            value_range=value_range,
            composite=composite,
            band_names=band_names,
        )
        groups = []
        if X is not None:
            # Only what is shown is transformed.
            check_fitted_columns(estimator, X)
            X = image_array(X, shape=synthetic.X.shape[1:])
            y = labels_of_images(y, len(X))
            first = _first_of_each(y, tree, n_images)
            used = np.unique(first[first >= 0])
            shape = synthetic.X.shape[1:]
            images = real_images(X[used], estimator, shape, preprocessing)
            groups.append((str(row_titles[0]), images, y[used]))
        distilled = to_pixels(synthetic.X, preprocessing)
        groups.append((str(row_titles[1]), distilled, synthetic.y))
        display = cls._of_groups(groups, tree, look, n_images, class_names, title)
        return display.plot(ax=ax, **imshow_kw)

    @classmethod
    @public()
    def from_data(
        cls,
        X: Any,
        y: Any,
        *,
        tree: Any = None,
        preprocessing: Any = None,
        n_images: int = 1,
        row_title: str = "",
        class_names: Sequence[str] | Mapping[Any, str] | None = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        band_names: Sequence[str] | None = None,
        title: str = "",
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "TreeDisplay":
        """Show labeled images at the leaves.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels)
            Images; the first of each class are shown.
        y : array-like of shape (n_samples,)
            Their labels: names of leaves, or their positions in the tree.
        tree : {"nine", "gz2"}, dict or GalaxyZooCurator, default=None
            The tree, as in :class:`~skdistill.GalaxyZooCurator`, or a curator.  None
            uses the tree of nine classes.  If there are more than 40 leaves, only those
            with images are drawn.
        preprocessing : transformer, default=None
            A fitted transformer whose ``inverse_transform`` converts X to pixel values.
        n_images : int, default=1
            Number of images at each leaf.
        row_title : str, default=""
            The title next to the images.
        class_names : sequence of str or mapping, default=None
            Names of the leaves: one for each, in the order of the tree, or a mapping
            from labels to names.
        value_range : tuple (low, high), default=None
            The pixel values that are shown as black and white; None chooses them from
            the images, as in :meth:`~skdistill.SyntheticSet.to_images`, and states them
            in the note below the figure.
        composite : array-like of shape (3,) or (3, channels), default=None
            The conversion of channels to red, green and blue, as in
            :meth:`~skdistill.SyntheticSet.to_images`.
        band_names : sequence of str, default=None
            Names of the channels, such as ``"ugriz"``, which determine their order from
            red to blue in a composite.
        title : str, default=""
            The title.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

        Returns
        -------
        display : TreeDisplay
            The drawn display.
        """
        check_matplotlib(f"{cls.__name__}.from_data")
        X, tree = image_array(X), tree_of(tree)
        y = labels_of_images(y, len(X))
        look = find_look(
            X,
            preprocessing,
            value_range=value_range,
            composite=composite,
            band_names=band_names,
        )
        first = _first_of_each(y, tree, n_images)
        used = np.unique(first[first >= 0])
        groups = [(row_title, to_pixels(X[used], preprocessing), y[used])]
        display = cls._of_groups(groups, tree, look, n_images, class_names, title)
        return display.plot(ax=ax, **imshow_kw)

    @classmethod
    def _of_groups(
        cls,
        groups: Sequence[tuple[str, np.ndarray, np.ndarray]],
        tree: VoteTree,
        look: Stretch,
        n_images: int = 1,
        class_names: Any = None,
        title: str = "",
    ) -> "TreeDisplay":
        """Take title, images and labels of each group."""
        called = _called(class_names, list(tree.leaves))
        rows: dict[str, list[np.ndarray | None]] = {}
        for number, (name, images, y) in enumerate(groups):
            places = _first_of_each(y, tree, n_images)
            used = np.unique(places[places >= 0])
            pixels = dict(zip(used.tolist(), look(images[used]), strict=True))
            for k, column in enumerate(places.T):
                # The second line keeps rows of one title apart.
                rows[f"{name}\n{number}.{k}"] = [
                    pixels.get(place) for place in column.tolist()
                ]
        if len(tree.leaves) > MAX_LEAVES:
            # Of a large tree only what there are images of.
            kept = [
                place
                for place in range(len(tree.leaves))
                if any(row[place] is not None for row in rows.values())
            ]
            names = list(tree.leaves)
            tree = pruned(tree, {names[place] for place in kept})
            rows = {name: [row[place] for place in kept] for name, row in rows.items()}
        return cls(rows, tree=tree, class_names=called, title=title, note=look.note)

    @public()
    def plot(self, *, ax: Any = None, **imshow_kw: Any) -> "TreeDisplay":
        """Draw the tree and the images.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

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
        called = self.class_names or {}
        names = [
            wrapped(called.get(leaf.leaf, readable(leaf.leaf)), _LETTERS)
            for leaf in leaves
        ]
        # Lengths are in widths of an image, and so is the size of text.
        steps = _Steps(root)
        label = _LINE * (1 + max(name.count("\n") for name in names)) + 0.1
        titles = [title.partition("\n")[0] for title in self.rows]
        above = _LINE * 2.2 if self.title else 0.0
        # Leaf number k is drawn at k (1 + gap).
        span = len(leaves) * (1 + _GAP) + (0.45 if any(titles) else 0.1)
        # The note is in letters of 0.65 of the others' size.
        note = textwrap.wrap(self.note, int(span / (0.65 * _LETTER * _LINE / 1.2)))
        below = _LINE * (0.8 + 0.8 * len(note)) if note else 0.0
        bottom = -depth * steps.level - label
        height = -bottom + len(self.rows) * (aspect + _GAP)

        width = float(np.clip(1.5 * span, 5, MAX_INCHES))
        if len(leaves) > 16:
            width = min(0.8 * span, 2 * MAX_INCHES)
        total = height + above + below + _TOP
        if ax is None:
            import matplotlib.pyplot as plt

            shrink = min(1.0, 2 * MAX_INCHES / (width / span * total))
            wide = width * shrink
            figure = plt.figure(figsize=(wide, wide / span * total))
            ax = figure.add_axes((0.01, 0.01, 0.98, 0.98))
        box = ax.get_position()
        across, down = size_of(ax.figure) * (box.width, box.height)
        inches = min(across / span, down / total)
        # A line of text is so high in images, a point 1/72 inch and 1.2 of them a line.
        size = float(np.clip(72 * inches * _LINE / 1.2, 4, 16))

        self.texts_: list[Any] = []
        right = leaves[-1].x + 0.55
        if self.title:
            place = (right - span / 2, _TOP + above / 2)
            # There is one line for it, of the width of the tree.
            most = 72 * inches * span / (_BOLD * len(self.title))
            self._text(ax, place, self.title, min(1.25 * size, most), weight="bold")
        self._draw(ax, root, depth, size, steps)
        order = list(tree.leaves)
        for leaf, name in zip(leaves, names, strict=True):
            place = (leaf.x, -depth * steps.level - label / 2)
            self._text(ax, place, name, 0.92 * size, weight="bold")
        self.images_ = []
        imshow_kw = {"interpolation": "nearest"} | imshow_kw
        for number, row in enumerate(self.rows.values()):
            top = bottom - number * (aspect + _GAP)
            for leaf in leaves:
                image = row[order.index(leaf.leaf)]
                if image is not None:
                    extent = (leaf.x - 0.5, leaf.x + 0.5, top - aspect, top)
                    self.images_.append(ax.imshow(image, extent=extent, **imshow_kw))
        # One title for all rows of a group, in their middle.
        start = 0
        for end in range(1, len(titles) + 1):
            if end < len(titles) and titles[end] == titles[start]:
                continue
            middle = bottom - (start + end) / 2 * (aspect + _GAP) + _GAP / 2
            place = (-0.56, middle)
            self._text(ax, place, titles[start], size, rotation=90, ha="right")
            start = end
        if note:
            place = (right - span + 0.05, -height - below / 2)
            text = "\n".join(note)
            self._text(ax, place, text, 0.65 * size, ha="left", color="0.3")
        ax.set(
            xlim=(right - span, right),
            ylim=(-height - below, _TOP + above),
            aspect="equal",
        )
        ax.set_axis_off()
        plain_text(ax)
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        return self

    def _draw(
        self, ax: Any, node: Node, depth: int, size: float, steps: "_Steps"
    ) -> None:
        """Draw a node, its branches and all below it."""
        y = -node.depth * steps.level
        if node.leaf:
            end = -depth * steps.level
            ax.plot([node.x, node.x], [y, end], color="0.6", lw=1, zorder=0)
            return
        crossing = y - steps.crossing
        ax.plot([node.x, node.x], [y, crossing], color="0.6", lw=1, zorder=0)
        for child in node.children:
            ax.plot(
                [node.x, child.x, child.x],
                [crossing, crossing, y - steps.level],
                color="0.6",
                lw=1,
                zorder=0,
            )
            if child.answer:
                # On a way that continues without a question there is room below.
                place = (child.x, y - steps.answer)
                answer = wrapped(child.answer, _LETTERS)
                self._text(ax, place, answer, 0.9 * size, box="white")
            self._draw(ax, child, depth, size, steps)
        if node.question:
            box = "#e8eef7"
            self._text(
                ax, (node.x, y), wrapped(node.question, _LETTERS + 2), size, box=box
            )

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
        if not text:
            return
        patch = {"boxstyle": "round,pad=0.25", "fc": box, "ec": "none"} if box else None
        self.texts_.append(
            ax.text(*place, text, size=size, ha=ha, va="center", bbox=patch, **text_kw)
        )


def _first_of_each(y: Any, tree: VoteTree, n_images: int) -> np.ndarray:
    """Return positions of the first images of each leaf, (n_leaves, n_images).

    -1 stands where a leaf has fewer images.
    """
    leaves = leaf_positions(y, list(tree.leaves), "y")
    first = np.full((len(tree.leaves), n_images), -1)
    for leaf in range(len(tree.leaves)):
        some = np.flatnonzero(leaves == leaf)[:n_images]
        first[leaf, : len(some)] = some
    # No rows that would be empty.
    return first[:, : max(1, int((first >= 0).sum(axis=1).max()))]


class _Steps:
    """How far below a question things are: branches, answers, the next question."""

    def __init__(self, root: Node) -> None:
        questions, answers = [1], [1]
        nodes = [root]
        while nodes:
            node = nodes.pop()
            nodes += node.children
            questions.append(1 + wrapped(node.question, _LETTERS + 2).count("\n"))
            answers.append(1 + wrapped(node.answer, _LETTERS).count("\n"))
        question, answer = (_LINE * max(lines) + 0.1 for lines in (questions, answers))
        self.level = max(_LEVEL, question + answer + 0.14)
        self.crossing = question / 2 + 0.06
        self.answer = self.level - question / 2 - 0.04 - answer / 2


def _called(class_names: Any, leaves: list[str]) -> dict[str, str]:
    """Return what to call leaves."""
    if class_names is None:
        return {}
    if isinstance(class_names, Mapping):
        # One by one: keys may be names and positions.
        return {
            leaves[leaf_positions([label], leaves, "class_names")[0]]: str(name)
            for label, name in class_names.items()
        }
    return dict(zip(leaves, check_names(class_names, leaves), strict=True))
