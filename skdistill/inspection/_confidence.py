"""How sure the labels of a catalog are, class by class."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdistill.curation import GalaxyZooCurator
from skdistill.inspection._grid import MAX_INCHES, MAX_ROWS, write_title
from skdistill.inspection._plotting import check_matplotlib, plain_text
from skdistill.inspection._public import public

_AVAILABLE, _SELECTED = "0.55", "#b3003c"


class ConfidenceDisplay:
    """Confidences of the galaxies of each class: of all, and of the selected ones.

    For each there is a thin line from the lowest to the highest confidence, a thick one
    over the middle half of the galaxies, and a mark at the median; beside them is their
    number.  Created by :meth:`from_estimator`; the parameters of the constructor are
    stored as they are.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    available : list of ndarray of shape (n_galaxies,)
        Confidences of the galaxies that could be selected, of each class.
    selected : list of ndarray of shape (n_galaxies,)
        Confidences of the selected galaxies, of each class.
    class_names : list of str
        The names of the classes.
    title : str, default=""
        The title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        Its figure.

    See Also
    --------
    skdistill.curation.GalaxyZooCurator : Label and select galaxies.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import pandas as pd
    >>> from skdistill import GalaxyZooCurator
    >>> from skdistill.inspection import ConfidenceDisplay
    >>> survey = pd.DataFrame({"arms_yes": [0.9, 0.7, 0.4, 0.1]})
    >>> survey["arms_no"] = 1 - survey["arms_yes"]
    >>> tree = {"arms": {"yes": "spiral", "no": "smooth"}}
    >>> curator = GalaxyZooCurator(tree=tree, votes=None, n_train=1, n_test=0)
    >>> display = ConfidenceDisplay.from_estimator(curator.fit(survey))
    >>> display.class_names, [c.tolist() for c in display.available]
    (['spiral', 'smooth'], [[0.9, 0.7], [0.9, 0.6]])
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        available: list[np.ndarray],
        selected: list[np.ndarray],
        class_names: list[str],
        *,
        title: str = "",
    ) -> None:
        self.available = available
        self.selected = selected
        self.class_names = class_names
        self.title = title

    @classmethod
    @public(curator=[GalaxyZooCurator])
    def from_estimator(
        cls,
        curator: GalaxyZooCurator,
        *,
        classes: Sequence[str] | None = None,
        title: str = "",
        ax: Any = None,
    ) -> "ConfidenceDisplay":
        """Plot the confidences of a fitted curator.

        Parameters
        ----------
        curator : GalaxyZooCurator
            A fitted curator.
        classes : sequence of str, default=None
            The classes to show, in this order; None shows all, in the order of the
            tree, but at most 40.
        title : str, default=""
            The title.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.

        Returns
        -------
        display : ConfidenceDisplay
            The drawn display.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_is_fitted(curator)
        shown = curator.classes_.tolist() if classes is None else list(classes)
        unknown = [name for name in shown if name not in curator.classes_]
        if unknown or not shown:
            raise ValueError(
                "`classes` must be among the classes of the curator, "
                f"{curator.classes_.tolist()}; got {shown}"
            )

        def confidences(indices: np.ndarray) -> list[np.ndarray]:
            labels = curator.labels_[indices]
            return [curator.confidence_[indices[labels == name]] for name in shown]

        display = cls(
            confidences(curator.available_indices_),
            confidences(curator.sample_indices_),
            shown,
            title=title,
        )
        return display.plot(ax=ax)

    @public()
    def plot(self, *, ax: Any = None) -> "ConfidenceDisplay":
        """Draw the confidences.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.

        Returns
        -------
        display : ConfidenceDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        n_classes = min(len(self.class_names), MAX_ROWS)
        if ax is None:
            import matplotlib.pyplot as plt

            size = (6.4, min(1.5 + 0.42 * n_classes, MAX_INCHES))
            _, ax = plt.subplots(figsize=size, layout="constrained")
        groups_of_rows = [
            (self.available, -0.15, _AVAILABLE, "all that could be selected"),
            (self.selected, 0.15, _SELECTED, "selected"),
        ]
        same = all(
            np.array_equal(np.sort(one), np.sort(two))
            for one, two in zip(self.available, self.selected, strict=True)
        )
        if same:
            label = "all that could be selected, and all are"
            groups_of_rows = [(self.selected, 0.0, _SELECTED, label)]
        for groups, shift, color, label in groups_of_rows:
            groups = groups[:n_classes]
            for row, values in enumerate(groups):
                y = row + shift
                ax.annotate(
                    f"{len(values):,}",
                    (1.01, y),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    color=color,
                    fontsize="small",
                )
                if len(values):
                    low, first, middle, third, high = np.percentile(
                        values, [0, 25, 50, 75, 100]
                    )
                    ax.hlines(y, low, high, color=color, lw=1)
                    ax.hlines(y, first, third, color=color, lw=4)
                    ax.plot(middle, y, "o", color=color, mfc="white", ms=5)
            ax.plot([], [], color=color, lw=4, label=label)
        ax.set_yticks(range(n_classes), self.class_names[:n_classes])
        ax.set_ylim(n_classes - 0.5, -0.5)
        ax.set_xlim(0, None)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
        notes = []
        if n_classes < len(self.class_names):
            notes.append(f"the first {n_classes} of {len(self.class_names)} classes")
        if any(values.max(initial=0) > 1 for values in self.available[:n_classes]):
            ax.axvline(1, color="0.6", lw=0.8, zorder=0)
            notes.append(
                "confidences above 1: votes for answers that lead to one class are "
                "added, and debiased or cumulative ones may add up to more than 1"
            )
        lines = ["confidence (line: all galaxies; bar: middle half; circle: median)"]
        ax.set_xlabel("\n".join(lines + textwrap.wrap("; ".join(notes), 80)))
        ax.xaxis.label.set_fontsize("small")
        if self.title:
            write_title(ax, self.title, pad=24)
        plain_text(ax)
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        return self
