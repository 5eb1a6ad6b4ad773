"""OcclusionDisplay: images beside maps of what a classifier looks at."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import HasMethods

from skdistill.inspection._grid import draw_grid, join_notes
from skdistill.inspection._occlusion import (
    check_classifier,
    classes_of,
    log_probabilities,
    occlusion_maps,
    window_and_stride,
)
from skdistill.inspection._plotting import (
    check_matplotlib,
    check_names,
    find_look,
    to_pixels,
    wrapped,
)
from skdistill.inspection._public import public
from skdistill.utils._labels import labels_of_images, places_of
from skdistill.utils._stretch import Stretch
from skdistill.utils._validation import image_array

# Single pixels may be far beyond the others, which would be pale.
_SHOWN = 0.995


class OcclusionDisplay:
    """Images and maps of the parts that are evidence for or against their class.

    Created by :meth:`from_estimator`; the parameters of the constructor are stored as
    they are.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, 3), uint8
        The images.
    maps : ndarray of shape (n_images, height, width)
        The result of :func:`~skdistill.inspection.occlusion_maps`.
    names : list of str
        The title of each image.
    scale : {"log-odds", "probability"}, default="log-odds"
        The quantity whose decrease the maps show.
    title, note : str, default=""
        The title, and a note below the figure.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the grid.
    figure_ : matplotlib Figure
        Its figure.
    images_ : list of list of matplotlib AxesImage
        The drawn images, and the maps below.
    colorbar_ : matplotlib Colorbar
        The scale of the maps.
    note_ : matplotlib Annotation or None
        The note: the size of the square, the values of black and white, and the number
        of omitted images.

    See Also
    --------
    occlusion_maps : The maps as an array.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skdistill import ConvNetClassifier, make_galaxies
    >>> from skdistill.inspection import OcclusionDisplay
    >>> X, y = make_galaxies(27, size=16, random_state=0)
    >>> network = ConvNetClassifier(width=8, max_iter=5, random_state=0).fit(X, y)
    >>> display = OcclusionDisplay.from_estimator(network, X[:3], y[:3], window=4)
    >>> display.maps.shape
    (3, 16, 16)
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        images: np.ndarray,
        maps: np.ndarray,
        names: list[str],
        *,
        scale: str = "log-odds",
        title: str = "",
        note: str = "",
    ) -> None:
        self.images = images
        self.maps = maps
        self.names = names
        self.scale = scale
        self.title = title
        self.note = note

    @classmethod
    @public(estimator=[HasMethods(["predict_proba"])])
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        preprocessing: Any = None,
        window: int | None = None,
        stride: int | None = None,
        fill: Any = "sky",
        scale: str = "log-odds",
        names: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        band_names: Sequence[str] | None = None,
        max_images: int = 12,
        title: str = "",
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "OcclusionDisplay":
        """Show which parts of some images a classifier uses.

        Above each image are its name, the probability p of the explained class, and the
        predicted class.

        Parameters
        ----------
        estimator : classifier
            A fitted classifier with ``predict_proba`` and ``classes_``.
        X : array-like of shape (n_samples, height, width, channels)
            Images, as input of the classifier.
        y : array-like of shape (n_samples,), default=None
            The class of each image to explain; None uses the predicted class.
        preprocessing : transformer, default=None
            A fitted transformer whose ``inverse_transform`` converts X to pixel values.
        window : int, default=None
            Side of the square in pixels; None uses a sixth of the shorter side.
        stride : int, default=None
            Step of the square in pixels; None uses half of the window.
        fill : {"sky", "mean"} or array-like of shape (channels,), default="sky"
            The value of hidden pixels, as in
            :func:`~skdistill.inspection.occlusion_maps`.
        scale : {"log-odds", "probability"}, default="log-odds"
            The quantity whose decrease the maps show, as in
            :func:`~skdistill.inspection.occlusion_maps`.
        names : sequence of str, default=None
            The name of each image; None uses the explained class.
        class_names : sequence of str, default=None
            Names of the classifier's ``classes_``; None uses the labels.
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
        max_images : int, default=12
            Maximum number of images: if there are more, the first are shown, and only
            their maps are computed; the note below states this.
        title : str, default=""
            The title.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

        Returns
        -------
        display : OcclusionDisplay
            The drawn display.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        X = image_array(X)
        n_images = len(X)
        if y is not None:
            y = labels_of_images(y, n_images)
        if names is not None and len(names) != n_images:
            raise ValueError(
                f"`names` must hold one value for each of the {n_images} images; "
                f"got {len(names)}"
            )
        X = X[:max_images]
        return cls._of_look(
            estimator,
            X,
            None if y is None else y[:max_images],
            look=find_look(
                X,
                preprocessing,
                value_range=value_range,
                composite=composite,
                band_names=band_names,
            ),
            preprocessing=preprocessing,
            names=names,
            class_names=class_names,
            title=title,
            left_out="" if len(X) == n_images else f"{len(X)} of {n_images} images",
            ax=ax,
            imshow_kw=imshow_kw,
            window=window,
            stride=stride,
            fill=fill,
            scale=scale,
        )

    @classmethod
    def _of_look(
        cls,
        estimator: Any,
        X: np.ndarray,
        y: np.ndarray | None,
        *,
        look: Stretch,
        preprocessing: Any = None,
        names: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        title: str = "",
        left_out: str = "",
        tell_look: bool = True,
        ax: Any = None,
        imshow_kw: dict[str, Any] | None = None,
        window: int | None = None,
        stride: int | None = None,
        fill: Any = "sky",
        scale: str = "log-odds",
    ) -> "OcclusionDisplay":
        """Show images by a stretch that is known."""
        check_classifier(estimator)
        # Before the maps are computed.
        classes = classes_of(estimator)
        labels = check_names(class_names, classes.tolist())
        maps = occlusion_maps(
            estimator, X, y, window=window, stride=stride, fill=fill, scale=scale
        )
        found = log_probabilities(estimator, X)
        best = found.argmax(axis=1)
        asked = best if y is None else places_of(y, classes)
        probabilities = np.exp(found[np.arange(len(X)), asked])
        if names is None:
            names = [labels[k] for k in asked]
        above = [
            f"{wrapped(name, 12)}\n{_p(p)}\npredicted:\n{wrapped(labels[k], 12)}"
            for name, p, k in zip(names, probabilities, best, strict=False)
        ]
        window, stride = window_and_stride(X.shape, window, stride)
        hidden = f"hidden: squares of {window} x {window} pixels, in steps of {stride}"
        return cls(
            look(to_pixels(X, preprocessing)),
            maps,
            above,
            scale=scale,
            title=title,
            note=join_notes(hidden, left_out, look.note if tell_look else ""),
        ).plot(ax=ax, **(imshow_kw or {}))

    @public()
    def plot(self, *, ax: Any = None, **imshow_kw: Any) -> "OcclusionDisplay":
        """Draw the images in one row and the maps below.

        Maps are red for evidence for the class and blue for evidence against it, all on
        the same scale.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

        Returns
        -------
        display : OcclusionDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        most = float(np.quantile(np.abs(self.maps), _SHOWN)) or 1.0
        scale: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
        ax, self.images_, self.note_ = draw_grid(
            ax,
            [list(self.images), list(self.maps)],
            ["image", "red: evidence for the class; blue: against it"],
            self.names,
            title=self.title,
            note=self.note,
            beside=1.4,
            **(scale | imshow_kw),
        )
        size = ax.get_yticklabels()[0].get_fontsize()
        self.colorbar_ = ax.figure.colorbar(
            self.images_[1][0], ax=ax, shrink=0.8, extend="both"
        )
        self.colorbar_.set_label(
            (f"decrease of the {self.scale}\nwhen hidden"), fontsize=size
        )
        self.colorbar_.ax.tick_params(labelsize=size)
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        return self


def _p(probability: float) -> str:
    """Write a probability; those near 0 and 1 are not rounded to them."""
    if probability > 0.999:
        return "p > 0.999"
    if probability < 0.001:
        return "p < 0.001"
    return f"p = {probability:.3g}"
