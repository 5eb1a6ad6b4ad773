"""TreeConfusionDisplay: confusion matrices in the order of a decision tree."""

from typing import Any

import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix
from sklearn.utils._param_validation import HasMethods

from skdistill.curation import GalaxyZooCurator
from skdistill.inspection._grid import new_axes, size_of, write_title
from skdistill.inspection._plotting import check_matplotlib, plain_text, wrapped
from skdistill.inspection._public import public
from skdistill.inspection._tree_layout import (
    MAX_LEAVES,
    grow,
    leaf_positions,
    pruned,
    readable,
    tree_of,
)
from skdistill.utils._labels import check_known_labels


class TreeConfusionDisplay(ConfusionMatrixDisplay):
    """A confusion matrix whose classes are in the order of a decision tree.

    Neighbors are classes that differ in few questions; lines separate the branches, and
    are heavier for earlier questions.  Created by :meth:`from_estimator` or
    :meth:`from_predictions`.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    confusion_matrix : ndarray of shape (n_leaves, n_leaves)
        The matrix, a row per true class.
    display_labels : sequence of str
        The names of the leaves, in the order of the tree.
    tree : {"nine", "gz2"}, dict or GalaxyZooCurator, default=None
        The tree, as for :class:`~skdistill.inspection.TreeDisplay`.
    truth : str, default=None
        The kind of the labels of the rows, such as "true" or "voted"; None uses "voted"
        with the tree of a :class:`~skdistill.GalaxyZooCurator`, else "true".
    title : str, default=""
        The title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the matrix.
    figure_ : matplotlib Figure
        Its figure.
    im_ : matplotlib AxesImage
        The matrix.
    text_ : ndarray of matplotlib Text
        The numbers in it.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skdistill.inspection import TreeConfusionDisplay
    >>> display = TreeConfusionDisplay.from_predictions([0, 5, 5, 7], [0, 5, 7, 7])
    >>> float(display.confusion_matrix[5, 7])
    0.5
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        confusion_matrix: np.ndarray,
        *,
        display_labels: Any,
        tree: Any = None,
        truth: str | None = None,
        title: str = "",
    ) -> None:
        super().__init__(confusion_matrix, display_labels=display_labels)
        self.tree = tree
        self.truth = truth
        self.title = title

    @classmethod
    @public(estimator=[HasMethods(["predict"])])
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        tree: Any = None,
        normalize: str | None = "true",
        truth: str | None = None,
        title: str = "",
        ax: Any = None,
        **plot_kw: Any,
    ) -> "TreeConfusionDisplay":
        """Plot the confusion matrix of a classifier.

        Parameters
        ----------
        estimator : classifier
            A fitted classifier or pipeline.
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Their labels: names of leaves, or their positions in the tree.
        tree : {"nine", "gz2"}, dict or GalaxyZooCurator, default=None
            The tree, as for :class:`~skdistill.inspection.TreeDisplay`.
        normalize : {"true", "pred", "all", None}, default="true"
            Normalization of the counts: by the true class, the predicted class, or all;
            None shows counts.
        truth : str, default=None
            The kind of the labels of the rows, such as "true" or "voted"; None uses
            "voted" with the tree of a :class:`~skdistill.GalaxyZooCurator`, whose
            labels are votes, else "true".
        title : str, default=""
            The title.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **plot_kw : dict
            Further parameters of :meth:`plot`.

        Returns
        -------
        display : TreeConfusionDisplay
            The drawn display.
        """
        predicted = estimator.predict(X)
        names = list(tree_of(tree).leaves)
        check_known_labels(
            [names[place] for place in leaf_positions(y, names, "y")],
            _known_leaves(estimator, names),
            of="the classifier",
        )
        return cls.from_predictions(
            y,
            predicted,
            tree=tree,
            normalize=normalize,
            truth=truth,
            title=title,
            ax=ax,
            **plot_kw,
        )

    @classmethod
    @public()
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        tree: Any = None,
        normalize: str | None = "true",
        truth: str | None = None,
        title: str = "",
        ax: Any = None,
        **plot_kw: Any,
    ) -> "TreeConfusionDisplay":
        """Plot the confusion matrix of predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels: names of leaves, or their positions in the tree.
        y_pred : array-like of shape (n_samples,)
            Predicted labels.
        tree : {"nine", "gz2"}, dict or GalaxyZooCurator, default=None
            The tree, as for :class:`~skdistill.inspection.TreeDisplay`.
        normalize : {"true", "pred", "all", None}, default="true"
            Normalization of the counts: by the true class, the predicted class, or all;
            None shows counts.
        truth : str, default=None
            The kind of the labels of the rows, such as "true" or "voted"; None uses
            "voted" with the tree of a :class:`~skdistill.GalaxyZooCurator`, whose
            labels are votes, else "true".
        title : str, default=""
            The title.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **plot_kw : dict
            Further parameters of :meth:`plot`.

        Returns
        -------
        display : TreeConfusionDisplay
            The drawn display.
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        if truth is None:
            truth = "voted" if isinstance(tree, GalaxyZooCurator) else "true"
        tree = tree_of(tree)
        names = list(tree.leaves)
        labels, found = (
            leaf_positions(y_true, names, "y_true"),
            leaf_positions(y_pred, names, "y_pred"),
        )
        if len(names) > MAX_LEAVES:
            tree = pruned(tree, {names[k] for k in np.union1d(labels, found)})
        ordered = [leaf.leaf for leaf in grow(tree).leaves()]
        matrix = confusion_matrix(
            labels,
            found,
            labels=[names.index(name) for name in ordered],
            normalize=normalize,
        )
        display = cls(
            matrix, display_labels=ordered, tree=tree, truth=truth, title=title
        )
        return display.plot(ax=ax, **plot_kw)

    @public()
    def plot(
        self,
        *,
        cmap: Any = "Blues",
        values_format: str | None = None,
        colorbar: bool = False,
        ax: Any = None,
        **plot_kw: Any,
    ) -> "TreeConfusionDisplay":
        """Draw the matrix.

        Parameters
        ----------
        cmap : str or matplotlib Colormap, default="Blues"
            The colors.
        values_format : str, default=None
            Format of the numbers; None uses ".2f" for shares, "d" for counts.
        colorbar : bool, default=False
            Whether to draw a bar of the colors.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **plot_kw : dict
            Further parameters of
            :meth:`sklearn.metrics.ConfusionMatrixDisplay.plot`.

        Returns
        -------
        display : TreeConfusionDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        number = len(self.confusion_matrix)
        if values_format is None:
            shares = np.issubdtype(self.confusion_matrix.dtype, np.floating)
            values_format = ".2f" if shares else "d"
        # Names of large trees are long, and have room in lines.
        names = [wrapped(readable(str(name)), 30) for name in self.display_labels]
        longest = max(len(line) for name in names for line in name.split("\n"))
        beside = 0.8 + 0.085 * longest
        ax = new_axes(ax, beside + 0.55 * number, beside + 0.55 * number)
        if self.title:
            write_title(ax, self.title)
        super().plot(
            cmap=cmap,
            values_format=values_format,
            colorbar=colorbar,
            ax=ax,
            xticks_rotation=45,
            **plot_kw,
        )
        ax.set_ylabel(f"{(self.truth or 'true').capitalize()} label")
        ax.set_yticks(range(number), names)
        ax.set_xticks(range(number), names, rotation=45)
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
        fit_text(ax, self.text_, number)
        plain_text(ax)
        self.figure_ = ax.get_figure(root=True)
        leaves = tree_of(self.tree).leaves
        ways = [leaves[name] for name in self.display_labels]
        for place in range(1, number):
            shared = 0
            for one, two in zip(ways[place - 1], ways[place], strict=False):
                if one != two:
                    break
                shared += 1
            if shared < 2:
                width = 1.6 - 0.8 * shared
                ax.axhline(place - 0.5, color="0.2", lw=width)
                ax.axvline(place - 0.5, color="0.2", lw=width)
        return self


def _known_leaves(estimator: Any, names: list[str]) -> list[str]:
    """Return the leaves that are classes of an estimator, all if it has no classes."""
    if not hasattr(estimator, "classes_"):
        return names
    found = []
    for label in np.asarray(estimator.classes_):
        try:
            found.append(names[leaf_positions([label], names)[0]])
        except ValueError:
            continue  # an error only where it is predicted
    return found


def fit_text(ax: Any, text: np.ndarray | None, number: int) -> None:
    """Make the text of a confusion matrix so small that nothing overlaps.

    Parameters
    ----------
    ax : matplotlib Axes
    text : ndarray of matplotlib Text or None
        The numbers in the cells.
    number : int
        Of classes.
    """
    cell = _cell(ax, number)
    for label in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        label.set_fontsize(float(np.clip(0.6 * cell, 4, 10)))
    if text is None:
        return
    if ax.figure.get_layout_engine() is not None:
        # Names take room from the cells: only now is it known how much.
        ax.get_figure(root=True).draw_without_rendering()
        cell = _cell(ax, number)
    longest = max(len(one.get_text()) for one in text.ravel())
    # A digit is 0.6 of its size wide, and the next matrix may need room too.
    size = min(10.0, 0.75 * cell / (0.6 * longest))
    for one in text.ravel():
        one.set_fontsize(size)
        # What nobody could read is left to the colors.
        one.set_visible(size >= 3)


def _cell(ax: Any, number: int) -> float:
    """Return the side of a cell of a matrix in points."""
    box = ax.get_position()
    return 72 * min(size_of(ax.figure) * (box.width, box.height)) / number
