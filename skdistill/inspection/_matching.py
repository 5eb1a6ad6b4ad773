"""MatchingDisplay: how a distillation went."""

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils._param_validation import Interval

from skdistill.inspection._grid import write_title
from skdistill.inspection._plotting import check_matplotlib
from skdistill.inspection._public import SEVERAL_AXES, public

# Colors that people with any color vision tell apart (Okabe and Ito).
_LOSS, _PROBE, _OTHER = "#0072b2", "#d55e00", "#333333"


class MatchingDisplay:
    """Losses, matched epochs and step size of a distillation by iteration.

    Created by :meth:`from_estimator`; the parameters of the constructor are stored as
    they are.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    history : DataFrame
        The ``history_`` of a distiller by trajectory matching.
    stages : DataFrame, default=None
        Its ``stages_``, if it has any.
    title : str, default=""
        The title.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The axes of the losses, or of losses, matched epochs and step size.
    figure_ : matplotlib Figure
        Their figure.
    lines_ : dict of str to matplotlib Line2D
        The smoothed losses, the number of epochs matched and the step size, by their
        column of ``history``.

    See Also
    --------
    EvolutionDisplay : The images during the distillation.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skdistill import STMDistiller, TrajectoryBuffer, make_galaxies
    >>> from skdistill.inspection import MatchingDisplay
    >>> X, y = make_galaxies(18, size=8, random_state=0)
    >>> teachers = TrajectoryBuffer(n_teachers=1, n_epochs=2, width=4)
    >>> distiller = STMDistiller(buffer=teachers, n_steps=2, max_total_iter=3)
    >>> display = MatchingDisplay.from_estimator(distiller.fit(X, y))
    >>> [ax.get_ylabel() for ax in display.axes_]
    ['matching loss', 'epochs matched', 'step size']
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        history: pd.DataFrame,
        stages: pd.DataFrame | None = None,
        *,
        title: str = "",
    ) -> None:
        self.history = history
        self.stages = stages
        self.title = title

    @classmethod
    @public(window=[Interval(Integral, 1, None, closed="left")], ax=SEVERAL_AXES)
    def from_estimator(
        cls, estimator: Any, *, window: int = 21, title: str = "", ax: Any = None
    ) -> "MatchingDisplay":
        """Plot the history of a fitted distiller.

        Parameters
        ----------
        estimator : estimator instance
            A fitted :class:`~skdistill.STMDistiller` or
            :class:`~skdistill.MTTDistiller`, or a
            :class:`~skdistill.DistilledClassifier` or pipeline with one.
        window : int, default=21
            Number of iterations over which losses are averaged.
        title : str, default=""
            The title.
        ax : matplotlib Axes or array-like of three, default=None
            The axes to draw on: one for the losses alone, or three.  None creates a
            figure with three.

        Returns
        -------
        display : MatchingDisplay
            The drawn display.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        distiller = getattr(estimator, "steps", [(None, estimator)])[-1][1]
        distiller = getattr(distiller, "distiller_", distiller)
        if not hasattr(distiller, "history_"):
            raise ValueError(
                "`estimator` must be a fitted distiller with a `history_`; got "
                f"{type(distiller).__name__}"
            )
        stages = getattr(distiller, "stages_", None)
        display = cls(distiller.history_, stages, title=title)
        return display.plot(window=window, ax=ax)

    @public(window=[Interval(Integral, 1, None, closed="left")], ax=SEVERAL_AXES)
    def plot(self, *, window: int = 21, ax: Any = None) -> "MatchingDisplay":
        """Plot the history.

        Parameters
        ----------
        window : int, default=21
            Number of iterations over which losses are averaged.
        ax : matplotlib Axes or array-like of three, default=None
            The axes to draw on: one for the losses alone, or three.  None creates a
            figure with three.

        Returns
        -------
        display : MatchingDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(
                3,
                figsize=(8, 6.5),
                height_ratios=(3, 1, 1),
                sharex=True,
                layout="constrained",
            )
        self.axes_ = np.ravel(np.asarray(ax, dtype=object))
        if len(self.axes_) not in (1, 3):
            raise ValueError(f"`ax` must be one or three axes; got {len(self.axes_)}")
        history = self.history
        # Of a long run each row stands for several iterations.
        stride = getattr(history.index, "step", 1)
        iteration = np.asarray(history.index) + 1
        window = max(1, window // stride)
        losses = {
            "loss": ("loss of the matched epochs", _LOSS, "-"),
            "validation_loss": ("validation loss: the next epoch", _PROBE, "--"),
        }
        thin = "single iterations" if stride == 1 else f"means of {stride} iterations"
        thin += f" (thick: running means over {window * stride})"
        self.lines_: dict[str, Any] = {}
        ax = self.axes_[0]
        top = 1.0
        for name, (label, color, style) in losses.items():
            if name not in history or history[name].isna().all():
                continue
            ax.plot(
                iteration,
                history[name],
                color=color,
                alpha=0.3,
                lw=0.8,
                label=None if self.lines_ else thin,
            )
            smooth = self._smooth(name, window)
            (self.lines_[name],) = ax.plot(
                iteration, smooth, color=color, ls=style, lw=2, label=label
            )
            top = max(top, float(np.nanmax(smooth)))
        still = "1: a student that does not move"
        ax.axhline(1, color="0.6", lw=0.8, zorder=0, label=still)
        # Single peaks may leave.
        ax.set(ylabel="matching loss", ylim=(0, 1.08 * min(top, 3.0)))
        if len(self.axes_) == 3:
            for ax, name, label in zip(
                self.axes_[1:],
                ("n_epochs_matched", "step_size"),
                ("epochs matched", "step size"),
                strict=True,
            ):
                if name in history:
                    (self.lines_[name],) = ax.plot(
                        iteration, history[name], color=_OTHER, drawstyle="steps-post"
                    )
                ax.set_ylabel(label)
            self.axes_[1].yaxis.get_major_locator().set_params(
                integer=True, min_n_ticks=1
            )
            steps = history.get("step_size", pd.Series([1.0]))
            if steps.min() > 0 and steps.max() > 5 * steps.min():
                self.axes_[2].set_yscale("log")
        self._mark_stages()
        if self.lines_:
            self._legend()
        if self.title:
            write_title(self.axes_[0], self.title)
        self.axes_[-1].set_xlabel("iteration")
        self.figure_ = self.axes_[0].get_figure(root=True)
        return self

    def _legend(self) -> None:
        """Say what lines are, the thick ones first."""
        ax = self.axes_[0]
        handles, labels = ax.get_legend_handles_labels()
        order = sorted(range(len(handles)), key=lambda k: -handles[k].get_linewidth())
        ax.legend([handles[k] for k in order], [labels[k] for k in order])

    def _smooth(self, name: str, window: int) -> np.ndarray:
        """Return a column's running mean, restarted at each T: losses jump between."""
        values = self.history[name]
        level = self.history.get("n_epochs_matched", pd.Series(0, values.index))
        groups = values.groupby(level.to_numpy())
        return groups.rolling(window, min_periods=1, center=True).mean().to_numpy()

    def _mark_stages(self) -> None:
        """Draw a line at the start of each stage but the first; say how many epochs."""
        if self.stages is None:
            return
        for _, stage in self.stages.iloc[1:].iterrows():
            first = stage["first_iteration"] + 1
            for ax in self.axes_:
                ax.axvline(first, color="0.5", ls=":", lw=1)
            self.axes_[0].text(
                first,
                0.98,
                f" {stage['n_epochs_matched']} epochs",
                transform=self.axes_[0].get_xaxis_transform(),
                va="top",
                fontsize=9,
                color="0.25",
            )
