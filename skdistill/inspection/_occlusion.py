"""What a classifier looks at: how its answer changes when a part is hidden."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_params,
)
from sklearn.utils.validation import check_is_fitted

from skdistill.inspection._plotting import (
    check_matplotlib,
    draw_grid,
    in_colour,
    to_pixels,
)
from skdistill.utils._validation import image_array

# Covered images are classified so many pixels at a time.
_BATCH_PIXELS = 2**20


@validate_params(
    {
        "estimator": [HasMethods(["predict_proba"])],
        "X": ["array-like"],
        "y": ["array-like", None],
        "window": [Interval(Integral, 1, None, closed="left"), None],
        "stride": [Interval(Integral, 1, None, closed="left"), None],
        "fill": [StrOptions({"sky", "mean"}), "array-like"],
    },
    prefer_skip_nested_validation=True,
)
def occlusion_maps(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    window: int | None = None,
    stride: int | None = None,
    fill: Any = "sky",
) -> np.ndarray:
    """Measure how much each part of an image speaks for a class.

    A square is moved over the image and hides what is below it, as in [1]_.  Where the
    probability of the class falls, the part that is hidden spoke for it.  This takes
    nothing but ``predict_proba``: any classifier or pipeline will do.

    Parameters
    ----------
    estimator : classifier
        A fitted classifier with ``predict_proba``.
    X : array-like of shape (n_samples, height, width, channels)
        Images.
    y : array-like of shape (n_samples,), default=None
        The class of each image to ask about; None takes what the classifier takes the
        whole image for.
    window : int, default=None
        Side of the square in pixels; None takes a sixth of the shorter side.
    stride : int, default=None
        Steps of the square in pixels; None takes half of the window.
    fill : {"sky", "mean"} or array-like of shape (channels,), default="sky"
        What hides: for each image the median of its outermost pixels or the mean of
        all, by channel, or given values.

    Returns
    -------
    maps : ndarray of shape (n_samples, height, width), float64
        Mean fall of the probability of the class over all squares that cover a pixel:
        positive where the image speaks for the class, negative where against it, 0
        where steps larger than the window leave a pixel uncovered.

    See Also
    --------
    OcclusionDisplay : The maps beside the images.

    Notes
    -----
    A map shows what this classifier uses, in this image, at the scale of the window:
    not what could be used, nor what is enough.  What is hidden twice, such as one of
    two equal arms, may show no effect.

    References
    ----------
    .. [1] Zeiler, M. D. and Fergus, R. "Visualizing and understanding convolutional
       networks", ECCV 2014.

    Examples
    --------
    >>> from skdistill import ConvNetClassifier, make_galaxies
    >>> from skdistill.inspection import occlusion_maps
    >>> X, y = make_galaxies(27, size=16, random_state=0)
    >>> network = ConvNetClassifier(width=8, max_iter=5, random_state=0).fit(X, y)
    >>> occlusion_maps(network, X[:2], window=4).shape
    (2, 16, 16)
    """
    check_is_fitted(estimator)
    X = image_array(X)
    n, height, width, channels = X.shape
    window = max(1, min(height, width) // 6) if window is None else window
    if window > min(height, width):
        raise ValueError(
            f"`window` must be at most the shorter side, {min(height, width)} pixels; "
            f"got {window}"
        )
    stride = max(1, window // 2) if stride is None else stride
    filling = _filling(X, fill)
    whole = estimator.predict_proba(X)
    columns = _columns(estimator, y, whole)
    before = whole[np.arange(n), columns]
    total = np.zeros((n, height, width))
    covered = np.zeros((height, width))
    # The last square touches the far edge.
    rows = np.unique(np.append(np.arange(0, height - window, stride), height - window))
    places = np.unique(np.append(np.arange(0, width - window, stride), width - window))
    squares = [(row, place) for row in rows for place in places]
    per_batch = max(1, _BATCH_PIXELS // max(1, n * height * width))
    for start in range(0, len(squares), per_batch):
        some = squares[start : start + per_batch]
        hidden = np.repeat(X[None], len(some), axis=0)
        for copy, (row, place) in zip(hidden, some, strict=True):
            copy[:, row : row + window, place : place + window] = filling
        answers = estimator.predict_proba(hidden.reshape(-1, height, width, channels))
        after = answers.reshape(len(some), n, -1)[:, np.arange(n), columns]
        for (row, place), left in zip(some, after, strict=True):
            square = np.s_[..., row : row + window, place : place + window]
            total[square] += (before - left)[:, None, None]
            covered[square] += 1
    return total / np.maximum(covered, 1)


class OcclusionDisplay:
    """Images beside maps of what in them speaks for their class.

    Made by :meth:`from_estimator`; everything that is given to the constructor is
    stored as it is.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, 3), uint8
        The images.
    maps : ndarray of shape (n_images, height, width)
        What :func:`~skdistill.inspection.occlusion_maps` returns.
    names : list of str
        The name of each image.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the grid.
    figure_ : matplotlib Figure
        Its figure.
    images_ : list of list of matplotlib AxesImage
        What is drawn: the images, and the maps below.

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

    def __init__(self, images: np.ndarray, maps: np.ndarray, names: list[str]) -> None:
        self.images = images
        self.maps = maps
        self.names = names

    @classmethod
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
        names: Sequence[str] | None = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "OcclusionDisplay":
        """Show what a classifier looks at in some images.

        Parameters
        ----------
        estimator : classifier
            A fitted classifier with ``predict_proba``.
        X : array-like of shape (n_samples, height, width, channels)
            Images as the classifier takes them.
        y : array-like of shape (n_samples,), default=None
            The class of each image to ask about; None takes what the classifier takes
            the whole image for.
        preprocessing : transformer, default=None
            A fitted transformer whose ``inverse_transform`` turns X into pixels to
            look at.
        window : int, default=None
            Side of the hiding square in pixels; None takes a sixth of the shorter
            side.
        stride : int, default=None
            Steps of the square in pixels; None takes half of the window.
        fill : {"sky", "mean"} or array-like of shape (channels,), default="sky"
            What hides, as in :func:`~skdistill.inspection.occlusion_maps`.
        names : sequence of str, default=None
            The name of each image; None takes the class asked about.
        value_range : tuple (low, high), default=None
            The pixel values that become black and white; None takes nearly the whole
            range of the images.
        composite : array-like of shape (3,) or (3, channels), default=None
            How channels become red, green and blue, as in
            :meth:`~skdistill.SyntheticSet.to_images`.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **imshow_kw : dict
            For :meth:`matplotlib.axes.Axes.imshow`, such as ``interpolation``.

        Returns
        -------
        display : OcclusionDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        X = image_array(X)
        y = estimator.predict(X) if y is None else np.asarray(y)
        maps = occlusion_maps(estimator, X, y, window=window, stride=stride, fill=fill)
        (images,) = in_colour(
            to_pixels(X, preprocessing), value_range=value_range, composite=composite
        )
        shown = [str(name) for name in (y if names is None else names)]
        if len(shown) != len(images):
            raise ValueError(
                f"`names` must hold one for each of the {len(images)} images; got "
                f"{len(shown)}"
            )
        return cls(images, maps, shown).plot(ax=ax, **imshow_kw)

    def plot(self, *, ax: Any = None, **imshow_kw: Any) -> "OcclusionDisplay":
        """Draw the images in one row and the maps below.

        Maps are red where the image speaks for the class and blue where against it,
        all on one scale.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **imshow_kw : dict
            For :meth:`matplotlib.axes.Axes.imshow`, such as ``interpolation``.

        Returns
        -------
        display : OcclusionDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        most = float(np.abs(self.maps).max()) or 1.0
        scale: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
        ax, self.images_ = draw_grid(
            ax,
            [list(self.images), list(self.maps)],
            ["image", "speaks for the class"],
            [name.replace(" ", "\n") for name in self.names],
            **(scale | imshow_kw),
        )
        ax.figure.colorbar(
            self.images_[1][0], ax=ax, shrink=0.7, label="fall of the probability"
        )
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _filling(X: np.ndarray, fill: Any) -> np.ndarray:
    """Return what hides, to broadcast against (n_samples, rows, columns, channels)."""
    if isinstance(fill, str):
        if fill == "mean":
            return X.mean(axis=(1, 2), keepdims=True)
        border = np.ones(X.shape[1:3], dtype=bool)
        border[1:-1, 1:-1] = False
        return np.median(X[:, border], axis=1)[:, None, None, :]
    values = np.asarray(fill, dtype=np.float64)
    if values.shape != X.shape[3:] or not np.isfinite(values).all():
        raise ValueError(
            f"`fill` must be 'sky', 'mean' or {X.shape[3]} finite values, one for each "
            f"channel; got {fill!r}"
        )
    return values


def _columns(estimator: Any, y: Any, probabilities: np.ndarray) -> np.ndarray:
    """Return which column of the probabilities each image is asked about."""
    if y is None:
        return probabilities.argmax(axis=1)
    y = np.asarray(y)
    if y.shape != probabilities.shape[:1]:
        raise ValueError(
            f"y must hold one class for each of the {len(probabilities)} images; got "
            f"shape {y.shape}"
        )
    classes = np.asarray(estimator.classes_)
    unknown = ~np.isin(y, classes)
    if unknown.any():
        raise ValueError(
            f"y must hold classes that the classifier knows, {classes.tolist()}; got "
            f"{y[unknown].tolist()[0]!r}"
        )
    return np.searchsorted(classes, y)
