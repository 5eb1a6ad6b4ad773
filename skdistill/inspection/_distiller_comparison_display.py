"""DistillerComparisonDisplay: the scores of several distillers, with error bars."""

from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils._param_validation import HasMethods, Interval

from skdistill.inspection._grid import new_axes, write_title
from skdistill.inspection._plotting import check_matplotlib, plain_text, wrapped
from skdistill.inspection._public import public
from skdistill.utils._intervals import students_half_width

_COLOR = "tab:blue"


class DistillerComparisonDisplay:
    """Scores of several distillers: networks, means and their intervals.

    Created by :meth:`from_comparison`; the parameters of the constructor are stored as
    they are.

    Read more in the :ref:`User Guide <compare_distillers>`.

    Parameters
    ----------
    scores : DataFrame
        A row for each network: ``distiller``, ``seed`` and ``score``.
    metric : str, default="accuracy"
        Name of the scores; accuracies are shown in percent.
    confidence : float, default=0.95
        Confidence level of the error bars.
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
    skdistill.metrics.compare_distillers : Compute a comparison.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import pandas as pd
    >>> from skdistill.inspection import DistillerComparisonDisplay
    >>> from skdistill.metrics import DistillerComparison
    >>> comparison = DistillerComparison(pd.DataFrame({
    ...     "distiller": ["DM", "DM", "random", "random"], "seed": [0, 1, 0, 1],
    ...     "network": 0, "score": [0.51, 0.48, 0.41, 0.37]}))
    >>> display = DistillerComparisonDisplay.from_comparison(comparison)
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['DM', 'random']
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        scores: pd.DataFrame,
        *,
        metric: str = "accuracy",
        confidence: float = 0.95,
        title: str = "",
    ) -> None:
        self.scores = scores
        self.metric = metric
        self.confidence = confidence
        self.title = title

    @classmethod
    @public(
        comparison=[HasMethods(["differences", "to_markdown"])],
        confidence=[Interval(Real, 0, 1, closed="neither")],
    )
    def from_comparison(
        cls,
        comparison: Any,
        *,
        confidence: float = 0.95,
        title: str = "",
        ax: Any = None,
    ) -> "DistillerComparisonDisplay":
        """Plot the result of :func:`~skdistill.metrics.compare_distillers`.

        Parameters
        ----------
        comparison : DistillerComparison
            The comparison.
        confidence : float, default=0.95
            Confidence level of the error bars.
        title : str, default=""
            The title.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.

        Returns
        -------
        display : DistillerComparisonDisplay
            The drawn display.
        """
        display = cls(
            comparison.scores,
            metric=comparison.metric,
            confidence=confidence,
            title=title,
        )
        return display.plot(ax=ax)

    @public()
    def plot(self, *, ax: Any = None) -> "DistillerComparisonDisplay":
        """Draw a row for each distiller, the first one above.

        Dots are networks, those of the same set at the same height; the vertical line
        is the mean of the means of sets.  The error bar is Student's interval of that
        mean, with sets as runs; a single set has none.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.

        Returns
        -------
        display : DistillerComparisonDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        names = self.scores["distiller"].unique().tolist()
        here = new_axes(ax, 6.0, 1.2 + 0.4 * len(names))
        is_share = self.metric == "accuracy"
        unit = 100.0 if is_share else 1.0
        places = np.arange(len(names))[::-1]
        for place, name in zip(places, names, strict=True):
            own = self.scores[self.scores["distiller"] == name].dropna(subset=["score"])
            sets = [
                unit * of_set["score"].to_numpy(dtype=np.float64)
                for _, of_set in own.groupby("seed")
            ]
            if not sets:
                continue  # all of it failed
            # Sets side by side, so that networks of one can be told from another's.
            apart = np.linspace(0.2, -0.2, len(sets)) if len(sets) > 1 else [0.0]
            for height, values in zip(apart, sets, strict=True):
                here.plot(
                    values,
                    np.full(len(values), place + height),
                    linestyle="",
                    marker="o",
                    markersize=3.5,
                    color=_COLOR,
                    alpha=0.45,
                )
            means = np.array([values.mean() for values in sets])
            half = None
            if len(means) > 1:
                half = float(students_half_width(means, confidence=self.confidence))
            here.errorbar(
                means.mean(),
                place,
                xerr=half,
                marker="|",
                markersize=14,
                markeredgewidth=2,
                color="black",
                capsize=3,
                zorder=3,
            )
        here.set_yticks(places, [wrapped(str(name), 24) for name in names])
        here.set_ylim(-0.6, len(names) - 0.4)
        interval = f"mean with {100 * self.confidence:g} % interval, sets as runs"
        label = f"{self.metric} in %" if is_share else self.metric
        here.set_xlabel(f"{label}\n{interval}; dots: networks")
        if self.title:
            write_title(here, self.title)
        plain_text(here)
        self.ax_ = here
        self.figure_ = here.get_figure(root=True)
        return self
