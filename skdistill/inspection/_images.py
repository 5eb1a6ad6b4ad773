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
from skdistill.utils._validation import image_array


class SyntheticSetDisplay:
    """Images in a grid: one row per class, in true color, all with one stretch.

    Made by :meth:`from_estimator` or :meth:`from_data`; everything that is given to
    the constructor is stored as it is.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    images : list of ndarray of shape (n_images, height, width, 3), uint8
        The images of each class.
    class_names : list of str
        The names of the classes, from the top.
    panels : list of str
        What the columns of each image are, if an image has several: "composite" and
        the names of the bands.
    title, note : str, default=""
        What is written above, and below in small print.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the grid.
    figure_ : matplotlib Figure
        Its figure.
    images_ : list of list of matplotlib AxesImage
        What is drawn, by class.
    note_ : matplotlib Annotation or None
        The small print: which values are black and white, and what is left out.

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
            The pixel values that become black and white; None takes what fits the
            images, as in :meth:`~skdistill.SyntheticSet.to_images`, and the note below
            the picture says what that is.
        composite : array-like of shape (3,) or (3, channels), default=None
            How channels become red, green and blue, as in
            :meth:`~skdistill.SyntheticSet.to_images`.
        band_names : sequence of str, default=None
            Names of the channels, such as ``"ugriz"``, by which a composite goes from
            red to blue.
        bands : bool or sequence of str, default=False
            Whether to show each channel in gray beside the composite, and the
            channels' names, which are also their ``band_names``.
        max_images : int, default=400
            Number of pictures to draw at most: of more images the first of each class
            are drawn, and the note below says so.  Many images of a class take
            several lines, and of more than 40 classes the first 40 are drawn.
        title : str, default=None
            What to write above; None names the distiller, "" nothing.
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
            A fitted transformer whose ``inverse_transform`` turns X into pixels to
            look at.
        classes : array-like, default=None
            The labels to show, from the top; None shows all, sorted.
        class_names : sequence of str, default=None
            Their names, if other than the labels.
        value_range : tuple (low, high), default=None
            The pixel values that become black and white; None takes what fits the
            images, as in :meth:`~skdistill.SyntheticSet.to_images`, and the note below
            the picture says what that is.
        composite : array-like of shape (3,) or (3, channels), default=None
            How channels become red, green and blue, as in
            :meth:`~skdistill.SyntheticSet.to_images`.
        band_names : sequence of str, default=None
            Names of the channels, such as ``"ugriz"``, by which a composite goes from
            red to blue.
        bands : bool or sequence of str, default=False
            Whether to show each channel in gray beside the composite, and the
            channels' names, which are also their ``band_names``.
        max_images : int, default=400
            Number of pictures to draw at most: of more images the first of each class
            are drawn, and the note below says so.  Many images of a class take
            several lines, and of more than 40 classes the first 40 are drawn.
        title : str, default=""
            What to write above.
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
        X, y = image_array(X), np.asarray(y)
        if y.shape != X.shape[:1] or not len(y):
            raise ValueError(
                "X must hold at least one image and y one label for each; got "
                f"{len(X)} images and labels of shape {y.shape}"
            )
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
            Where to draw; None makes a new figure.
        **imshow_kw : dict
            For :meth:`matplotlib.axes.Axes.imshow`, such as ``interpolation``.

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
        self.ax_, self.figure_ = ax, ax.figure
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
