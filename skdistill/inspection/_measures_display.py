"""MeasuresDisplay: distilled images among the real ones of their class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

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
)


class MeasuresDisplay:
    """Measures of distilled images among those of the real images of their class.

    Made by :meth:`from_estimator` or :meth:`from_data`; everything that is given to
    the constructor is stored as it is.

    Parameters
    ----------
    table : DataFrame
        What :func:`~skdistill.inspection.place_distilled` returns.
    real : DataFrame of shape (n_real, n_measures)
        Measures of the real images.
    y : ndarray of shape (n_real,)
        Their labels.
    classes : list
        The labels to show, in order.
    class_names : list of str
        Their names.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One for each measure.
    figure_ : matplotlib Figure
        Their figure.

    See Also
    --------
    MorphologyMeasures : What is measured.

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
    ) -> None:
        self.table = table
        self.real = real
        self.y = y
        self.classes = classes
        self.class_names = class_names

    @classmethod
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
        axes: Any = None,
    ) -> "MeasuresDisplay":
        """Measure the images that a distiller has learned, and real ones.

        Parameters
        ----------
        estimator : estimator instance
            A fitted distiller, a :class:`~skdistill.distillation.DistilledClassifier`
            or a pipeline that ends with one.
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Real images as the estimator takes them.
        y : array-like of shape (n_samples,)
            Their labels.
        preprocessing : transformer, default=None
            What the real images were transformed by, fitted and with
            ``inverse_transform``; not for a pipeline, which has it inside.
        measures : sequence of str, default=None
            Names of the measures to show; None shows all.
        transformer : transformer, default=None
            What measures images; None takes
            :class:`~skdistill.inspection.MorphologyMeasures`.
        classes : array-like, default=None
            The labels to show, in order; None shows all, sorted.
        class_names : sequence of str, default=None
            Their names, if other than the labels.
        random_state : int, RandomState instance or None, default=None
            Ignored: nothing is random any more.
        axes : sequence of matplotlib Axes, default=None
            Where to draw each measure; None makes a new figure.

        Returns
        -------
        display : MeasuresDisplay
            The display, drawn.
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
            axes=axes,
        )

    @classmethod
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
        axes: Any = None,
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
            Names of the measures to show; None shows all.
        transformer : transformer, default=None
            What measures images; None takes
            :class:`~skdistill.inspection.MorphologyMeasures`.
        classes : array-like, default=None
            The labels to show, in order; None shows all, sorted.
        class_names : sequence of str, default=None
            Their names, if other than the labels.
        random_state : int, RandomState instance or None, default=None
            Ignored: nothing is random any more.
        axes : sequence of matplotlib Axes, default=None
            Where to draw each measure; None makes a new figure.

        Returns
        -------
        display : MeasuresDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_data")
        transformer = MorphologyMeasures() if transformer is None else transformer
        real, y = np.asarray(transformer.fit_transform(X)), np.asarray(y)
        distilled = np.asarray(transformer.transform(X_distilled))
        names = transformer.get_feature_names_out().tolist()
        shown = names if measures is None else list(measures)
        unknown = [name for name in shown if name not in names]
        if unknown or not shown:
            raise ValueError(f"`measures` must be among {names}; got {shown}")
        columns = [names.index(name) for name in shown]
        kept, _ = class_rows(y_distilled, classes)
        used = np.isin(y_distilled, kept)
        table = place_distilled(
            real[:, columns],
            y,
            distilled[used][:, columns],
            np.asarray(y_distilled)[used],
            names=shown,
            random_state=random_state,
        )
        display = cls(
            table,
            pd.DataFrame(real[:, columns], columns=shown),
            y,
            classes=kept,
            class_names=check_names(class_names, kept),
        )
        return display.plot(axes=axes)

    def plot(self, *, axes: Any = None) -> "MeasuresDisplay":
        """Draw the real images as boxes and the distilled ones as diamonds.

        Boxes reach from the first to the third quartile, with a line at the median;
        whiskers from the 5th to the 95th percentile.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            Where to draw each measure; None makes a new figure.

        Returns
        -------
        display : MeasuresDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        names = list(self.real.columns)
        self.axes_ = _axes(axes, len(names), len(self.classes))
        places = np.arange(len(self.classes))[::-1]
        for ax, name in zip(self.axes_, names, strict=True):
            values = self.real[name].to_numpy()
            groups = [values[self.y == label] for label in self.classes]
            ax.boxplot(
                [group[~np.isnan(group)] for group in groups],
                positions=places,
                orientation="horizontal",
                whis=(5, 95),
                widths=0.6,
                showfliers=False,
                medianprops={"color": "0.3"},
                boxprops={"color": "0.5"},
                whiskerprops={"color": "0.5"},
                capprops={"color": "0.5"},
                manage_ticks=False,
            )
            rows = self.table[self.table["measure"] == name]
            for place, label in zip(places, self.classes, strict=True):
                found = rows.loc[rows["class"] == label, "value"]
                ax.plot(
                    found,
                    np.full(len(found), place),
                    marker="D",
                    linestyle="",
                    color="#b3003c",
                    markeredgecolor="white",
                    zorder=3,
                    label="distilled" if place == places[0] else None,
                )
            ax.set(xlabel=name.replace("_", " "), ylim=(-0.6, len(places) - 0.4))
            ax.set_yticks(places, self.class_names)
        for ax in self.axes_:
            if ax.get_subplotspec() is not None and not (
                ax.get_subplotspec().is_first_col()
            ):
                ax.tick_params(labelleft=False)
        self.axes_[0].legend(loc="best", frameon=True)
        for ax in self.axes_:
            plain_text(ax)
        self.figure_ = self.axes_[0].figure
        return self


def _axes(axes: Any, number: int, n_classes: int) -> np.ndarray:
    """Return axes for a number of measures."""
    if axes is not None:
        axes = np.ravel(np.asarray(axes, dtype=object))
        if len(axes) != number:
            raise ValueError(
                f"`axes` must be one for each of the {number} measures; got {len(axes)}"
            )
        return axes
    import matplotlib.pyplot as plt

    n_columns = min(number, 4)
    n_rows = -(-number // n_columns)
    figure, grid = plt.subplots(
        n_rows,
        n_columns,
        figsize=(1.8 + 2.6 * n_columns, (0.9 + 0.3 * n_classes) * n_rows),
        layout="constrained",
        squeeze=False,
    )
    for ax in grid.ravel()[number:]:
        figure.delaxes(ax)
    return grid.ravel()[:number]
