"""TreeConfusionDisplay: confusion matrices in the order of a decision tree."""

from typing import Any

import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from skdistill.inspection._grid import new_axes
from skdistill.inspection._plotting import check_matplotlib, plain_text
from skdistill.inspection._tree_layout import (
    MAX_LEAVES,
    grow,
    leaf_positions,
    pruned,
    tree_of,
)
from skdistill.utils._labels import check_known_labels


class TreeConfusionDisplay(ConfusionMatrixDisplay):
    """A confusion matrix whose classes are in the order of a decision tree.

    Neighbours are classes that few questions tell apart; lines separate the branches,
    the heavier the earlier the question.  Made by :meth:`from_estimator` or
    :meth:`from_predictions`.

    Parameters
    ----------
    confusion_matrix : ndarray of shape (n_leaves, n_leaves)
        The matrix, a row per true class.
    display_labels : sequence of str
        The names of the leaves, in the order of the tree.
    tree : {"nine", "gz2"}, dict or GalaxyZooCurator, default=None
        The tree, as for :class:`~skdistill.inspection.TreeDisplay`.

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
        self, confusion_matrix: np.ndarray, *, display_labels: Any, tree: Any = None
    ) -> None:
        super().__init__(confusion_matrix, display_labels=display_labels)
        self.tree = tree

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        tree: Any = None,
        normalize: str | None = "true",
        ax: Any = None,
        **plot_kw: Any,
    ) -> "TreeConfusionDisplay":
        """Draw what a classifier takes for what.

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
            What to count in shares of: the true class, the predicted one, all, or
            nothing.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **plot_kw : dict
            For :meth:`plot`.

        Returns
        -------
        display : TreeConfusionDisplay
            The display, drawn.
        """
        predicted = estimator.predict(X)
        names = list(tree_of(tree).leaves)
        check_known_labels(
            [names[place] for place in leaf_positions(y, names)],
            _known_leaves(estimator, names),
            of="the classifier",
        )
        return cls.from_predictions(
            y, predicted, tree=tree, normalize=normalize, ax=ax, **plot_kw
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        tree: Any = None,
        normalize: str | None = "true",
        ax: Any = None,
        **plot_kw: Any,
    ) -> "TreeConfusionDisplay":
        """Draw what is taken for what.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels: names of leaves, or their positions in the tree.
        y_pred : array-like of shape (n_samples,)
            Predicted labels.
        tree : {"nine", "gz2"}, dict or GalaxyZooCurator, default=None
            The tree, as for :class:`~skdistill.inspection.TreeDisplay`.
        normalize : {"true", "pred", "all", None}, default="true"
            What to count in shares of: the true class, the predicted one, all, or
            nothing.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **plot_kw : dict
            For :meth:`plot`.

        Returns
        -------
        display : TreeConfusionDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        tree = tree_of(tree)
        names = list(tree.leaves)
        truth, found = leaf_positions(y_true, names), leaf_positions(y_pred, names)
        if len(names) > MAX_LEAVES:
            tree = pruned(tree, {names[k] for k in np.union1d(truth, found)})
        ordered = [leaf.leaf for leaf in grow(tree).leaves()]
        matrix = confusion_matrix(
            truth,
            found,
            labels=[names.index(name) for name in ordered],
            normalize=normalize,
        )
        display = cls(matrix, display_labels=ordered, tree=tree)
        return display.plot(ax=ax, **plot_kw)

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
            The colours.
        values_format : str, default=None
            How to write the numbers; None takes ".2f" for shares, "d" for counts.
        colorbar : bool, default=False
            Whether to draw a bar of the colours.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
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
        ax = new_axes(ax, 2.5 + 0.55 * number, 2.2 + 0.55 * number)
        super().plot(
            cmap=cmap,
            values_format=values_format,
            colorbar=colorbar,
            ax=ax,
            xticks_rotation=45,
            **plot_kw,
        )
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
        plain_text(ax)
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
