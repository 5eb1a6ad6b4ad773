"""SyntheticSetDisplay: the images of each class in a grid."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skdistill.inspection._plotting import (
    check_matplotlib,
    check_names,
    class_rows,
    distilled_by,
    draw_grid,
    in_colour,
    to_pixels,
)


class SyntheticSetDisplay:
    """Images in a grid: one row per class, in true colour, all with one stretch.

    Made by :meth:`from_estimator` or :meth:`from_data`; everything that is given to
    the constructor is stored as it is.

    Parameters
    ----------
    images : list of ndarray of shape (n_images, height, width, 3), uint8
        The images of each class.
    class_names : list of str
        The names of the classes, from the top.
    panels : list of str
        What the columns of each image are, if an image has several: "composite" and
        the names of the bands.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the grid.
    figure_ : matplotlib Figure
        Its figure.
    images_ : list of list of matplotlib AxesImage
        What is drawn, by class.

    See Also
    --------
    TreeDisplay : The images at the leaves of a decision tree.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skdistill import make_galaxies
    >>> from skdistill.inspection import SyntheticSetDisplay
    >>> X, y = make_galaxies(18, size=16, random_state=0)
    >>> display = SyntheticSetDisplay.from_data(X, y)
    >>> len(display.images_)
    9
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        images: list[np.ndarray],
        *,
        class_names: list[str],
        panels: Sequence[str] = (),
    ) -> None:
        self.images = images
        self.class_names = class_names
        self.panels = panels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        preprocessing: Any = None,
        classes: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        bands: Sequence[str] | bool = False,
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "SyntheticSetDisplay":
        """Show the images that a distiller has learned.

        Parameters
        ----------
        estimator : estimator instance
            A fitted distiller, a :class:`~skdistill.distillation.DistilledClassifier`
            or a pipeline that ends with one.
        preprocessing : transformer, default=None
            What the real images were transformed by, fitted and with
            ``inverse_transform``; not for a pipeline, which has it inside.
        classes : array-like, default=None
            The labels to show, from the top; None shows all, sorted.
        class_names : sequence of str, default=None
            Their names, if other than the labels.
        value_range : tuple (low, high), default=None
            The pixel values that become black and white; None takes nearly the whole
            range of all images.
        composite : array-like of shape (3,) or (3, channels), default=None
            How channels become red, green and blue, as in
            :meth:`~skdistill.SyntheticSet.to_images`.
        bands : bool or sequence of str, default=False
            Whether to show each channel in grey beside the composite, and the
            channels' names.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **imshow_kw : dict
            For :meth:`matplotlib.axes.Axes.imshow`, such as ``interpolation``.

        Returns
        -------
        display : SyntheticSetDisplay
            The display, drawn.
        """
        synthetic, preprocessing = distilled_by(estimator, preprocessing)
        return cls.from_data(
            *synthetic,
            preprocessing=preprocessing,
            classes=classes,
            class_names=class_names,
            value_range=value_range,
            composite=composite,
            bands=bands,
            ax=ax,
            **imshow_kw,
        )

    @classmethod
    def from_data(
        cls,
        X: Any,
        y: Any,
        *,
        preprocessing: Any = None,
        classes: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        bands: Sequence[str] | bool = False,
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "SyntheticSetDisplay":
        """Show any labelled images, such as a stored set: ``from_data(*synthetic)``.

        Parameters
        ----------
        X : array-like of shape (n_images, height, width, channels)
            Images.
        y : array-like of shape (n_images,)
            Their labels.
        preprocessing : transformer, default=None
            A fitted transformer whose ``inverse_transform`` turns X into pixels to
            look at.
        classes : array-like, default=None
            The labels to show, from the top; None shows all, sorted.
        class_names : sequence of str, default=None
            Their names, if other than the labels.
        value_range : tuple (low, high), default=None
            The pixel values that become black and white; None takes nearly the whole
            range of all images.
        composite : array-like of shape (3,) or (3, channels), default=None
            How channels become red, green and blue, as in
            :meth:`~skdistill.SyntheticSet.to_images`.
        bands : bool or sequence of str, default=False
            Whether to show each channel in grey beside the composite, and the
            channels' names.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **imshow_kw : dict
            For :meth:`matplotlib.axes.Axes.imshow`, such as ``interpolation``.

        Returns
        -------
        display : SyntheticSetDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_data")
        pixels = to_pixels(X, preprocessing)
        y = np.asarray(y)
        if y.shape != pixels.shape[:1] or not len(y):
            raise ValueError(
                "y must hold one label for each of one or more images; got "
                f"{len(pixels)} images and labels of shape {y.shape}"
            )
        shown, positions = class_rows(y, classes)
        (coloured,) = in_colour(pixels, value_range=value_range, composite=composite)
        panels: list[str] = []
        if not isinstance(bands, (bool, np.bool_)) or bands:
            panels = ["composite", *_band_names(bands, pixels.shape[-1])]
            # Bands too have one stretch, that of all their pixels.
            greys = in_colour(
                *(pixels[..., [band]] for band in range(pixels.shape[-1])),
                value_range=value_range,
            )
            stacked = np.stack([coloured, *greys], axis=1)
            coloured = stacked.reshape(-1, *coloured.shape[1:])
            positions = [
                (place[:, None] * len(panels) + np.arange(len(panels))).ravel()
                for place in positions
            ]
        display = cls(
            [coloured[place] for place in positions],
            class_names=check_names(class_names, shown),
            panels=panels,
        )
        return display.plot(ax=ax, **imshow_kw)

    def plot(self, *, ax: Any = None, **imshow_kw: Any) -> "SyntheticSetDisplay":
        """Draw the grid.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **imshow_kw : dict
            For :meth:`matplotlib.axes.Axes.imshow`, such as ``interpolation``.

        Returns
        -------
        display : SyntheticSetDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        ax, self.images_ = draw_grid(
            ax,
            self.images,
            self.class_names,
            self.panels,
            per_group=max(len(self.panels), 1),
            **imshow_kw,
        )
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _band_names(bands: Sequence[str] | bool, n_channels: int) -> list[str]:
    if isinstance(bands, (bool, np.bool_)):
        return [f"band {number}" for number in range(n_channels)]
    names = [str(name) for name in bands]
    if len(names) != n_channels:
        raise ValueError(
            f"`bands` must be True, False or names of the {n_channels} channels; got "
            f"{len(names)} names"
        )
    return names
