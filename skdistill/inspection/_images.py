"""SyntheticSetDisplay: the images of each class in a grid."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skdistill.inspection._grid import choose, draw_grid, join_notes
from skdistill.inspection._plotting import (
    check_matplotlib,
    check_names,
    class_rows,
    distilled_by,
    find_look,
    name_of,
    to_pixels,
)
from skdistill.inspection._public import public
from skdistill.utils._bands import check_band_names
from skdistill.utils._labels import labels_of_images
from skdistill.utils._validation import image_array


class SyntheticSetDisplay:
    """Images in a grid: one row per class, in true color, all with the same stretch.

    Created by :meth:`from_estimator` or :meth:`from_data`; the parameters of the
    constructor are stored as they are.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    images : list of ndarray of shape (n_images, height, width, 3), uint8
        The images of each class.
    class_names : list of str
        The names of the classes, from the top.
    panels : sequence of str, default=()
        The columns of each image, if it has several: "composite" and the names of the
        bands.
    title, note : str, default=""
        The title, and a note below the figure.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the grid.
    figure_ : matplotlib Figure
        Its figure.
    images_ : list of list of matplotlib AxesImage
        The drawn images, by class.
    note_ : matplotlib Annotation or None
        The note: the values of black and white, and the number of omitted images.

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
        title: str = "",
        note: str = "",
    ) -> None:
        self.images = images
        self.class_names = class_names
        self.panels = panels
        self.title = title
        self.note = note

    @classmethod
    @public(title=[str, None])
    def from_estimator(
        cls,
        estimator: Any,
        *,
        preprocessing: Any = None,
        classes: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        band_names: Sequence[str] | None = None,
        bands: Sequence[str] | bool = False,
        max_images: int = 400,
        title: str | None = None,
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "SyntheticSetDisplay":
        """Show the images of a fitted distiller.

        Parameters
        ----------
        estimator : estimator instance
            A fitted distiller, a :class:`~skdistill.distillation.DistilledClassifier`
            or a pipeline that ends with one.
        preprocessing : transformer, default=None
            The fitted transformer that was applied to the real images, with
            ``inverse_transform``; None for a pipeline, which contains it.
        classes : array-like, default=None
            The labels to show, from the top; None shows all, sorted.
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
        bands : bool or sequence of str, default=False
            Whether to also show each channel in gray next to the composite, or the
            names of the channels, which are also used as ``band_names``.
        max_images : int, default=400
            Maximum number of pictures: if there are more images, the first of each
            class are drawn, and the note below states this.  Many images of a class
            take several lines; only the first 40 classes are drawn.
        title : str, default=None
            The title; None uses the name of the distiller, "" gives no title.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

        Returns
        -------
        display : SyntheticSetDisplay
            The drawn display.
        """
        synthetic, preprocessing = distilled_by(estimator, preprocessing)
        if title is None:
            title = f"distilled by {name_of(estimator)}"
        return cls.from_data(
            *synthetic,
            preprocessing=preprocessing,
            classes=classes,
            class_names=class_names,
            value_range=value_range,
            composite=composite,
            band_names=band_names,
            bands=bands,
            max_images=max_images,
            title=title,
            ax=ax,
            **imshow_kw,
        )

    @classmethod
    @public()
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
        band_names: Sequence[str] | None = None,
        bands: Sequence[str] | bool = False,
        max_images: int = 400,
        title: str = "",
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "SyntheticSetDisplay":
        """Show any labeled images, such as a stored set: ``from_data(*synthetic)``.

        Parameters
        ----------
        X : array-like of shape (n_images, height, width, channels)
            Images.
        y : array-like of shape (n_images,)
            Their labels.
        preprocessing : transformer, default=None
            A fitted transformer whose ``inverse_transform`` converts X to pixel values.
        classes : array-like, default=None
            The labels to show, from the top; None shows all, sorted.
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
        bands : bool or sequence of str, default=False
            Whether to also show each channel in gray next to the composite, or the
            names of the channels, which are also used as ``band_names``.
        max_images : int, default=400
            Maximum number of pictures: if there are more images, the first of each
            class are drawn, and the note below states this.  Many images of a class
            take several lines; only the first 40 classes are drawn.
        title : str, default=""
            The title.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

        Returns
        -------
        display : SyntheticSetDisplay
            The drawn display.
        """
        check_matplotlib(f"{cls.__name__}.from_data")
        X = image_array(X)
        y = labels_of_images(y, len(X))
        panels: list[str] = []
        if not isinstance(bands, (bool, np.bool_)) or bands:
            n_channels = X.shape[-1]
            panels = ["composite", *_band_names(bands, band_names, n_channels)]
            if not isinstance(bands, (bool, np.bool_)) and band_names is None:
                band_names = panels[1:]
        look = find_look(
            X,
            preprocessing,
            value_range=value_range,
            composite=composite,
            band_names=band_names,
        )
        shown, positions = class_rows(y, classes)
        names = check_names(class_names, shown)
        chosen, left_out = choose(positions, max_images, max(len(panels), 1))
        images = []
        for place in chosen:
            # Only what is shown is taken back to pixels.
            pixels = to_pixels(X[place], preprocessing)
            pictures = look(pixels)
            if panels:
                # Bands too have the stretch of all.
                grays = [look.gray(pixels[..., [k]]) for k in range(pixels.shape[-1])]
                stacked = np.stack([pictures, *grays], axis=1)
                pictures = stacked.reshape(-1, *pictures.shape[1:])
            images.append(pictures)
        display = cls(
            images,
            class_names=names[: len(chosen)],
            panels=panels,
            title=title,
            note=join_notes(left_out, look.note),
        )
        return display.plot(ax=ax, **imshow_kw)

    @public()
    def plot(self, *, ax: Any = None, **imshow_kw: Any) -> "SyntheticSetDisplay":
        """Draw the grid.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

        Returns
        -------
        display : SyntheticSetDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        ax, self.images_, self.note_ = draw_grid(
            ax,
            self.images,
            self.class_names,
            self.panels,
            per_group=max(len(self.panels), 1),
            wrap=True,
            title=self.title,
            note=self.note,
            **imshow_kw,
        )
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        return self


def _band_names(
    bands: Sequence[str] | bool, band_names: Sequence[str] | None, n_channels: int
) -> list[str]:
    if not isinstance(bands, (bool, np.bool_)):
        names = [str(name) for name in bands]
        if len(names) != n_channels:
            raise ValueError(
                f"`bands` must be True, False or a name for each of the {n_channels} "
                f"channels; got {len(names)} names"
            )
        return names
    known = check_band_names(band_names, n_channels)
    return known or [f"band {number}" for number in range(n_channels)]
