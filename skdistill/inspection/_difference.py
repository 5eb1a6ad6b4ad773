"""DifferenceDisplay: two images side by side and their difference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skdistill.inspection._grid import MAX_ROWS, draw_grid, join_notes
from skdistill.inspection._plotting import (
    check_matplotlib,
    check_names,
    class_rows,
    distilled_by,
    find_look,
    real_images,
    real_labels,
    rows_of_classes,
    to_pixels,
)
from skdistill.inspection._public import public
from skdistill.utils._images import select, weighted_mean
from skdistill.utils._labels import labels_of_images
from skdistill.utils._stretch import Stretch
from skdistill.utils._validation import image_array


class DifferenceDisplay:
    """Pairs of images and their differences, in rows.

    Created by :meth:`from_estimator` or :meth:`from_data`; the parameters of the
    constructor are stored as they are.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    first, second : ndarray of shape (n_rows, height, width, 3), uint8
        The images.
    difference : ndarray of shape (n_rows, height, width)
        Mean over the channels of second minus first, in the unit of the pixels.
    row_names : list of str
        The names of the rows.
    column_names : list of str
        The names of first, second and difference.
    title, note : str, default=""
        The title, and a note below the figure.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the grid.
    figure_ : matplotlib Figure
        Its figure.
    images_ : list of list of matplotlib AxesImage
        The drawn images, by row.
    note_ : matplotlib Annotation or None
        The note: the values of black and white, and the number of omitted images.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skdistill import make_galaxies
    >>> from skdistill.inspection import DifferenceDisplay
    >>> X, y = make_galaxies(90, size=24, random_state=0)
    >>> display = DifferenceDisplay.from_data(X, y, pairs=[(5, 7), (6, 8)])
    >>> display.difference.shape
    (2, 24, 24)
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        first: np.ndarray,
        second: np.ndarray,
        difference: np.ndarray,
        *,
        row_names: list[str],
        column_names: list[str],
        title: str = "",
        note: str = "",
    ) -> None:
        self.first = first
        self.second = second
        self.difference = difference
        self.row_names = row_names
        self.column_names = column_names
        self.title = title
        self.note = note

    @classmethod
    @public()
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        preprocessing: Any = None,
        classes: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        band_names: Sequence[str] | None = None,
        title: str = "",
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "DifferenceDisplay":
        """Compare the mean real image of each class with the mean distilled image.

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
        classes : array-like, default=None
            The labels to show; None shows all, sorted.
        class_names : sequence of str, default=None
            Names of the classes; None uses the labels.
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
        display : DifferenceDisplay
            The drawn display.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        synthetic, preprocessing = distilled_by(estimator, preprocessing)
        shown, members = class_rows(synthetic.y, classes)
        distilled = to_pixels(synthetic.X, preprocessing)
        real = real_images(X, estimator, synthetic.X.shape[1:], preprocessing)
        of_class = rows_of_classes(real_labels(y, len(real), synthetic), shown)
        look = find_look(
            synthetic.X,
            preprocessing,
            value_range=value_range,
            composite=composite,
            band_names=band_names,
        )
        numbers = sorted({len(some) for some in members})
        kind = "distilled"
        if numbers[-1] > 1:
            of = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
            kind = f"mean of {of}\ndistilled"
        display = cls._of(
            np.stack([_mean(real, some) for some in of_class]),
            np.stack([_mean(distilled, some) for some in members]),
            check_names(class_names, shown),
            ["mean of\nthe real", kind, "distilled\n− real"],
            look,
            title,
        )
        return display.plot(ax=ax, **imshow_kw)

    @classmethod
    @public()
    def from_data(
        cls,
        X: Any,
        y: Any,
        *,
        pairs: Sequence[tuple[Any, Any]],
        class_names: Any = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        band_names: Sequence[str] | None = None,
        title: str = "",
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "DifferenceDisplay":
        """Compare the mean images of pairs of classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels)
            Images, real or distilled.
        y : array-like of shape (n_samples,)
            Their labels.
        pairs : sequence of pairs of labels
            The classes to compare, a pair in each row.
        class_names : mapping of label to str, default=None
            Names of the classes; None uses the labels.
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
        display : DifferenceDisplay
            The drawn display.
        """
        check_matplotlib(f"{cls.__name__}.from_data")
        X = image_array(X)
        y = labels_of_images(y, len(X))
        if not len(pairs) or any(np.size(pair) != 2 for pair in map(_listed, pairs)):
            raise ValueError(
                f"`pairs` must contain at least one pair of labels; got {pairs!r}"
            )
        sides = [
            class_rows(y, [pair[side] for pair in pairs], "pairs") for side in (0, 1)
        ]
        if class_names is not None and not hasattr(class_names, "items"):
            raise ValueError(
                "`class_names` must be a mapping of labels to names, such as "
                f"{{{sides[0][0][0]!r}: 'a name'}}; got {class_names!r}"
            )
        names = None if class_names is None else dict(class_names)
        look = find_look(
            X, value_range=value_range, composite=composite, band_names=band_names
        )
        pixels = to_pixels(X)
        first, second = (
            np.stack([_mean(pixels, some) for some in members]) for _, members in sides
        )
        called = check_names(names, [*sides[0][0], *sides[1][0]])
        half = len(pairs)
        rows = [
            " | ".join(pair) for pair in zip(called[:half], called[half:], strict=True)
        ]
        columns = ["mean of\nthe first", "mean of\nthe second", "second\n− first"]
        display = cls._of(first, second, rows, columns, look, title)
        return display.plot(ax=ax, **imshow_kw)

    @classmethod
    def _of(
        cls,
        first: np.ndarray,
        second: np.ndarray,
        row_names: list[str],
        column_names: list[str],
        look: Stretch,
        title: str,
    ) -> "DifferenceDisplay":
        return cls(
            look(first),
            look(second),
            (second - first).mean(axis=-1),
            row_names=row_names,
            column_names=column_names,
            title=title,
            note=look.note,
        )

    @public()
    def plot(self, *, ax: Any = None, **imshow_kw: Any) -> "DifferenceDisplay":
        """Draw the rows.

        Differences are blue where the second image is darker and red where it is
        brighter, all on one scale.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

        Returns
        -------
        display : DifferenceDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        rows = list(zip(self.first, self.second, self.difference, strict=True))
        shown = rows[:MAX_ROWS]
        left_out = ""
        if len(shown) < len(rows):
            left_out = f"the first {len(shown)} of {len(rows)} rows"
        most = float(np.quantile(np.abs(self.difference), 0.995)) or 1.0
        scale: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
        ax, self.images_, self.note_ = draw_grid(
            ax,
            shown,
            self.row_names[: len(shown)],
            self.column_names,
            title=self.title,
            note=join_notes(left_out, self.note),
            beside=1.4,
            **(scale | imshow_kw),
        )
        size = ax.get_yticklabels()[0].get_fontsize()
        colorbar = ax.figure.colorbar(
            self.images_[0][2], ax=ax, shrink=0.7, extend="both"
        )
        colorbar.set_label(
            "difference, mean of the channels,\nin the unit of the pixels",
            fontsize=size,
        )
        colorbar.ax.tick_params(labelsize=size)
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        return self


def _listed(pair: Any) -> list[Any]:
    return list(pair) if hasattr(pair, "__len__") else [pair]


def _mean(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the mean of some images, which may be very many."""
    return weighted_mean(select(images, rows), np.ones(len(rows))).astype(np.float32)
