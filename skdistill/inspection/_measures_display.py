"""MeasuresDisplay: distilled images among the real ones of their class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from skdistill.inspection._grid import (
    MAX_ROWS,
    font_size,
    legend_outside,
    panels,
    say,
    size_of,
    write_suptitle,
)
from skdistill.inspection._measure_labels import MeasureLabel, label_of
from skdistill.inspection._measures import MorphologyMeasures
from skdistill.inspection._placement import place_distilled
from skdistill.inspection._plotting import (
    check_matplotlib,
    check_names,
    class_rows,
    distilled_by,
    plain_text,
    real_images,
    to_pixels,
    wrapped,
)
from skdistill.inspection._public import SEVERAL_AXES, public
from skdistill.utils._labels import labels_of_images

_MAX_MEASURES = 16
_WHISKERS = (5, 95)  # percentiles
_DISTILLED = "#b3003c"


class MeasuresDisplay:
    """Measures of distilled images among those of the real images of their class.

    Created by :meth:`from_estimator` or :meth:`from_data`; the parameters of the
    constructor are stored as they are.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    table : DataFrame
        The result of :func:`~skdistill.inspection.place_distilled`.
    real : DataFrame of shape (n_real, n_measures)
        Measures of the real images.
    y : ndarray of shape (n_real,)
        Their labels.
    classes : list
        The labels to show, in order.
    class_names : list of str
        Their names.
    labels : mapping of str to tuple (label, unit, direction), default=None
        Descriptions of the measures; None uses the known descriptions of their names.
    title : str, default=""
        The title.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One for each measure.
    figure_ : matplotlib Figure
        Their figure.

    See Also
    --------
    MorphologyMeasures : The measures.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skdistill import make_galaxies
    >>> from skdistill.inspection import MeasuresDisplay
    >>> X, y = make_galaxies(90, size=24, random_state=0)
    >>> display = MeasuresDisplay.from_data(
    ...     X[9:], y[9:], X[:9], y[:9], measures=["ellipticity"])
    >>> display.table["percentile"].between(0, 100).all()
    np.True_
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        table: pd.DataFrame,
        real: pd.DataFrame,
        y: np.ndarray,
        *,
        classes: list[Any],
        class_names: list[str],
        labels: Mapping[str, tuple[str, str, str]] | None = None,
        title: str = "",
    ) -> None:
        self.table = table
        self.real = real
        self.y = y
        self.classes = classes
        self.class_names = class_names
        self.labels = labels
        self.title = title

    @classmethod
    @public(ax=SEVERAL_AXES)
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        preprocessing: Any = None,
        measures: Sequence[str] | None = None,
        transformer: Any = None,
        classes: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        random_state: Any = None,
        title: str = "",
        ax: Any = None,
    ) -> "MeasuresDisplay":
        """Measure the images of a fitted distiller, and real images.

        Parameters
        ----------
        estimator : estimator instance
            A fitted distiller, a :class:`~skdistill.distillation.DistilledClassifier`
            or a pipeline that ends with one.
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Real images, as input of the estimator.
        y : array-like of shape (n_samples,)
            Their labels.
        preprocessing : transformer, default=None
            The fitted transformer that was applied to the real images, with
            ``inverse_transform``; None for a pipeline, which contains it.
        measures : sequence of str, default=None
            Names of the measures to show; None shows all, but at most 16.
        transformer : transformer, default=None
            The transformer that measures images; None uses
            :class:`~skdistill.inspection.MorphologyMeasures`.
        classes : array-like, default=None
            The labels to show, in order; None shows all, sorted, but at most 40.
        class_names : sequence of str, default=None
            Names of the classes; None uses the labels.
        random_state : int, RandomState instance or None, default=None
            Ignored, kept for compatibility: the result is not random.
        title : str, default=""
            The title.
        ax : array-like of matplotlib Axes, default=None
            The axes of the measures; None creates a new figure.

        Returns
        -------
        display : MeasuresDisplay
            The drawn display.
        """
        synthetic, preprocessing = distilled_by(estimator, preprocessing)
        shape = synthetic.X.shape[1:]
        return cls.from_data(
            real_images(X, estimator, shape, preprocessing),
            y,
            to_pixels(synthetic.X, preprocessing),
            synthetic.y,
            measures=measures,
            transformer=transformer,
            classes=classes,
            class_names=class_names,
            random_state=random_state,
            title=title,
            ax=ax,
        )

    @classmethod
    @public(ax=SEVERAL_AXES)
    def from_data(
        cls,
        X: Any,
        y: Any,
        X_distilled: Any,
        y_distilled: Any,
        *,
        measures: Sequence[str] | None = None,
        transformer: Any = None,
        classes: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        random_state: Any = None,
        title: str = "",
        ax: Any = None,
    ) -> "MeasuresDisplay":
        """Measure real and distilled images in the same pixel unit.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels)
            Real images.
        y : array-like of shape (n_samples,)
            Their labels.
        X_distilled : array-like of shape (n_images, height, width, channels)
            Distilled images.
        y_distilled : array-like of shape (n_images,)
            Their labels.
        measures : sequence of str, default=None
            Names of the measures to show; None shows all, but at most 16.
        transformer : transformer, default=None
            The transformer that measures images; None uses
            :class:`~skdistill.inspection.MorphologyMeasures`.
        classes : array-like, default=None
            The labels to show, in order; None shows all, sorted, but at most 40.
        class_names : sequence of str, default=None
            Names of the classes; None uses the labels.
        random_state : int, RandomState instance or None, default=None
            Ignored, kept for compatibility: the result is not random.
        title : str, default=""
            The title.
        ax : array-like of matplotlib Axes, default=None
            The axes of the measures; None creates a new figure.

        Returns
        -------
        display : MeasuresDisplay
            The drawn display.
        """
        check_matplotlib(f"{cls.__name__}.from_data")
        transformer = MorphologyMeasures() if transformer is None else transformer
        # What is wrong with images is said first: a single one has as many labels.
        real = np.asarray(transformer.fit_transform(X))
        y = labels_of_images(y, len(real))
        distilled = np.asarray(transformer.transform(X_distilled))
        y_distilled = labels_of_images(y_distilled, len(distilled), "y_distilled")
        kept, _ = class_rows(y_distilled, classes)
        called = check_names(class_names, kept)
        names = transformer.get_feature_names_out().tolist()
        shown = names[:_MAX_MEASURES] if measures is None else list(measures)
        unknown = [name for name in shown if name not in names]
        if unknown or not shown:
            raise ValueError(f"`measures` must be among {names}; got {shown}")
        columns = [names.index(name) for name in shown]
        left_out = []
        if len(shown) < len(names) and measures is None:
            left_out.append(f"the first {len(shown)} of {len(names)} measures")
        if classes is None and len(kept) > MAX_ROWS:
            left_out.append(f"the first {MAX_ROWS} of {len(kept)} classes")
            kept, called = kept[:MAX_ROWS], called[:MAX_ROWS]
        if left_out:
            title = f"{title} ({', '.join(left_out)})" if title else left_out[0]
        labels = None
        if hasattr(transformer, "describe"):
            labels = {
                name: tuple(row)
                for name, *row in transformer.describe().itertuples(name=None)
            }
        used = np.isin(y_distilled, kept)
        table = place_distilled(
            real[:, columns],
            y,
            distilled[used][:, columns],
            y_distilled[used],
            names=shown,
            random_state=random_state,
        )
        display = cls(
            table,
            pd.DataFrame(real[:, columns], columns=shown),
            y,
            classes=kept,
            class_names=called,
            labels=labels,
            title=title,
        )
        return display.plot(ax=ax)

    @public(ax=SEVERAL_AXES)
    def plot(self, *, ax: Any = None) -> "MeasuresDisplay":
        """Draw the real images as boxes and the distilled ones as diamonds.

        Boxes reach from the first to the third quartile, with a line at the median;
        whiskers from the 5th to the 95th percentile.  The line through a diamond is the
        interval of its z in the table, in the unit of the measure: the range of its
        distance from the mean of the real images, in their standard deviations, for
        other samples of real images.

        Parameters
        ----------
        ax : array-like of matplotlib Axes, default=None
            The axes of the measures; None creates a new figure.

        Returns
        -------
        display : MeasuresDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        names = list(self.real.columns)
        n_classes = len(self.classes)
        letters = max((len(name) for name in self.class_names), default=1)
        self.axes_ = panels(
            ax,
            len(names),
            (2.9, 1.1 + 0.3 * n_classes),
            n_columns=4 if n_classes <= 15 else 8,
            extra=(0.4 + 0.075 * min(letters, 24), 1.2),
        )
        places = np.arange(n_classes)[::-1]
        for here, name in zip(self.axes_, names, strict=True):
            self._boxes(here, name, places)
            self._diamonds(here, name, places)
            label = (self.labels or {}).get(name, label_of(name))
            here.set_xlabel(MeasureLabel(*label).axis(), fontsize="small")
            here.set_ylim(-0.6, n_classes - 0.4)
            size = 72 * size_of(here.figure)[1] * here.get_position().height
            here.set_yticks(
                places,
                [wrapped(called, 24) for called in self.class_names],
                fontsize=float(np.clip(0.7 * size / n_classes, 4, 10)),
            )
            spec = here.get_subplotspec()
            if spec is not None and not spec.is_first_col():
                here.tick_params(labelleft=False)
        figure = self.axes_[0].figure
        legend_outside(self.axes_, self._handles())
        if self.title and ax is None:
            write_suptitle(figure, self.title, font_size(figure))
        elif self.title:
            say(self.axes_[0], self.title, "")
        for here in self.axes_:
            plain_text(here)
        self.figure_ = self.axes_[0].get_figure(root=True)
        return self

    def _boxes(self, ax: Any, name: str, places: np.ndarray) -> None:
        values = self.real[name].to_numpy()
        groups = [values[self.y == label] for label in self.classes]
        ax.boxplot(
            [group[~np.isnan(group)] for group in groups],
            positions=places,
            orientation="horizontal",
            whis=_WHISKERS,
            widths=0.6,
            showfliers=False,
            medianprops={"color": "0.3"},
            boxprops={"color": "0.5"},
            whiskerprops={"color": "0.5"},
            capprops={"color": "0.5"},
            manage_ticks=False,
        )

    def _diamonds(self, ax: Any, name: str, places: np.ndarray) -> None:
        rows = self.table[self.table["measure"] == name]
        lines = []
        for place, label in zip(places, self.classes, strict=True):
            found = rows[rows["class"] == label]
            # Several images of a class lie one above the other.
            apart = np.linspace(0.2, -0.2, len(found)) if len(found) > 1 else [0.0]
            heights = place + np.asarray(apart)[: len(found)]
            ax.plot(
                found["value"],
                heights,
                marker="D",
                markersize=6 if len(found) <= 3 else 4,
                linestyle="",
                color=_DISTILLED,
                markeredgecolor="white",
                zorder=3,
            )
            mean, deviation = found["real_mean"], found["real_std"]
            low, high = (mean + found[end] * deviation for end in ("z_low", "z_high"))
            lines += list(zip(heights, low, high, strict=True))
        # Of a few real images intervals are wide: the boxes shall still be seen.
        start, end = ax.get_xlim()
        height, low, high = np.array(lines, dtype=np.float64).reshape(-1, 3).T
        ax.hlines(height, low, high, color=_DISTILLED, lw=1.2, zorder=2)
        known = low[np.isfinite(low)], high[np.isfinite(high)]
        if len(known[0]) and len(known[1]):
            wide = 0.5 * (end - start)
            margin = 0.03 * (end - start)
            start = min(start, max(start - wide, known[0].min() - margin))
            end = max(end, min(end + wide, known[1].max() + margin))
        ax.set_xlim(start, end)

    def _handles(self) -> list[Any]:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        low, high = _WHISKERS
        box = f"real: quartiles and median, whiskers {low}th to {high}th percentile"
        interval = "95 % interval of its distance from the real ones' mean"
        return [
            Patch(facecolor="none", edgecolor="0.5", label=box),
            Line2D(
                [],
                [],
                marker="D",
                linestyle="",
                color=_DISTILLED,
                markeredgecolor="white",
                label="distilled image",
            ),
            Line2D([], [], color=_DISTILLED, lw=1.2, label=interval),
        ]
