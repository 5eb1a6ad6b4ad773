"""Profiles of images by radius and by angle, and differences of images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from skdistill.inspection._morphology import (
    curves_of_growth,
    find_centres,
    subtract_sky,
)
from skdistill.inspection._plotting import (
    check_matplotlib,
    check_names,
    class_rows,
    distilled_by,
    draw_grid,
    in_colour,
    plain_text,
    real_images,
    to_pixels,
)
from skdistill.utils._images import batches

_REAL, _DISTILLED = "0.35", "#b3003c"


def radial_profiles(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average the light over rings about the galaxy in the middle of each image.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels)

    Returns
    -------
    radii : ndarray of shape (n_radii,)
        The middles of the rings, in pixels, up to half of the shorter side.
    profiles : ndarray of shape (n_images, n_radii)
        Mean of all channels above the sky, in the unit of the pixels.
    """
    flux = subtract_sky(images).mean(axis=-1)
    radii, light, area = curves_of_growth(flux, find_centres(flux))
    # Rings of one pixel: the radii are half a pixel apart.
    inner, outer = slice(0, -2, 2), slice(2, None, 2)
    middle = (radii[inner] + radii[outer]) / 2
    rings = (light[:, outer] - light[:, inner]) / np.maximum(
        area[:, outer] - area[:, inner], 1e-9
    )
    inside = middle < min(flux.shape[1:]) / 2
    return middle[inside], rings[:, inside]


def azimuthal_profiles(
    images: np.ndarray, ring: tuple[float, float] = (0.1, 0.4), n_angles: int = 36
) -> tuple[np.ndarray, np.ndarray]:
    """Average the light over a range of radii, by the angle from the brightest axis.

    Galaxies lie at any angle, and their mean would be round: each is turned so that
    its second Fourier component peaks at angle 0.  In noise alone that leaves a bump
    at 0 and 180 degrees too, so that profiles are to be compared, not read alone.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels)
    ring : tuple (inner, outer), default=(0.1, 0.4)
        Radii, in half of the shorter side.
    n_angles : int, default=36
        Number of angles.

    Returns
    -------
    angles : ndarray of shape (n_angles,)
        In degrees.
    profiles : ndarray of shape (n_images, n_angles)
        Light above the sky, relative to the mean over all angles.
    """
    flux = subtract_sky(images).mean(axis=-1)
    centre = find_centres(flux)
    half = min(flux.shape[1:]) / 2
    radii = np.linspace(ring[0] * half, ring[1] * half, max(4, round(half)))
    fine = 8 * n_angles
    angles = np.arange(fine) * (2 * np.pi / fine)
    rows = centre[:, 0, None, None] + radii[:, None] * np.sin(angles)
    columns = centre[:, 1, None, None] + radii[:, None] * np.cos(angles)
    number = np.broadcast_to(np.arange(len(flux))[:, None, None], rows.shape)
    light = ndimage.map_coordinates(
        flux, [number, rows, columns], order=1, mode="nearest"
    )
    profile = (light * radii[:, None]).sum(axis=1) / radii.sum()
    phase = np.angle((profile * np.exp(2j * angles)).sum(axis=1)) / 2
    shift = np.rint(phase / (2 * np.pi / fine)).astype(np.int64)
    turned = (np.arange(fine) + shift[:, None]) % fine
    profile = np.take_along_axis(profile, turned, axis=1)
    # The first angle is the middle of the first bin.
    profile = np.roll(profile, fine // n_angles // 2, axis=1)
    profile = profile.reshape(len(flux), n_angles, -1).mean(axis=2)
    mean = profile.mean(axis=1, keepdims=True)
    relative = profile / np.where(mean > 0, mean, np.nan)
    return np.arange(n_angles) * (360.0 / n_angles), relative


class ProfileDisplay:
    """Profiles of real and distilled images, by radius or by angle.

    Made by :meth:`from_estimator` or :meth:`from_data`; everything that is given to
    the constructor is stored as it is.

    Parameters
    ----------
    places : ndarray of shape (n_places,)
        Radii in pixels, or angles in degrees.
    real : list of ndarray of shape (n_images, n_places)
        Profiles of the real images of each class.
    distilled : list of ndarray of shape (n_images, n_places) or None
        Of the distilled images.
    class_names : list of str
        The names of the classes.
    kind : {"radial", "azimuthal"}, default="radial"
        Which profiles they are.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One for each class, or a single one.
    figure_ : matplotlib Figure
        Their figure.

    See Also
    --------
    DifferenceDisplay : Differences of images.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skdistill import make_galaxies
    >>> from skdistill.inspection import ProfileDisplay
    >>> X, y = make_galaxies(36, size=24, random_state=0)
    >>> display = ProfileDisplay.from_data(X, y, classes=[5, 7])
    >>> len(display.axes_[0].lines)
    2
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        places: np.ndarray,
        real: list[np.ndarray],
        distilled: list[np.ndarray] | None,
        class_names: list[str],
        *,
        kind: str = "radial",
    ) -> None:
        self.places = places
        self.real = real
        self.distilled = distilled
        self.class_names = class_names
        self.kind = kind

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        kind: str = "radial",
        preprocessing: Any = None,
        classes: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        axes: Any = None,
    ) -> "ProfileDisplay":
        """Draw the real images of each class against the distilled ones.

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
        kind : {"radial", "azimuthal"}, default="radial"
            Mean light by the distance from the centre; or, between a tenth and four
            tenths of half of the frame, by the angle from the brightest axis of each
            galaxy, relative to the mean.
        preprocessing : transformer, default=None
            What the real images were transformed by, fitted and with
            ``inverse_transform``; not for a pipeline, which has it inside.
        classes : array-like, default=None
            The labels to show; None shows all, sorted.
        class_names : sequence of str, default=None
            Their names, if other than the labels.
        axes : sequence of matplotlib Axes, default=None
            One for each class; None makes a new figure.

        Returns
        -------
        display : ProfileDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        synthetic, preprocessing = distilled_by(estimator, preprocessing)
        shown, _ = class_rows(synthetic.y, classes)
        real = real_images(X, estimator, synthetic.X.shape[1:], preprocessing)
        places, profiles = _profiles(real, kind)
        _, of_distilled = _profiles(to_pixels(synthetic.X, preprocessing), kind)
        display = cls(
            places,
            [profiles[members] for members in class_rows(y, shown)[1]],
            [of_distilled[members] for members in class_rows(synthetic.y, shown)[1]],
            check_names(class_names, shown),
            kind=kind,
        )
        return display.plot(axes=axes)

    @classmethod
    def from_data(
        cls,
        X: Any,
        y: Any,
        *,
        kind: str = "radial",
        classes: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        axes: Any = None,
    ) -> "ProfileDisplay":
        """Draw class against class, all in one axes.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels)
            Images.
        y : array-like of shape (n_samples,)
            Their labels.
        kind : {"radial", "azimuthal"}, default="radial"
            As for :meth:`from_estimator`.
        classes : array-like, default=None
            The labels to show; None shows all, sorted.
        class_names : sequence of str, default=None
            Their names, if other than the labels.
        axes : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ProfileDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_data")
        shown, members = class_rows(y, classes)
        places, profiles = _profiles(to_pixels(X), kind)
        display = cls(
            places,
            [profiles[some] for some in members],
            None,
            check_names(class_names, shown),
            kind=kind,
        )
        return display.plot(axes=axes)

    def plot(self, *, axes: Any = None) -> "ProfileDisplay":
        """Draw medians of the real images, and bands from 16th to 84th percentile.

        Parameters
        ----------
        axes : matplotlib Axes or sequence of them, default=None
            One for each class, where there are distilled images, else a single one;
            None makes a new figure.

        Returns
        -------
        display : ProfileDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        number = 1 if self.distilled is None else len(self.class_names)
        self.axes_ = _panels(axes, number)
        for place, name in enumerate(self.class_names):
            ax = self.axes_[0 if self.distilled is None else place]
            low, middle, high = np.nanpercentile(self.real[place], [16, 50, 84], axis=0)
            together = self.distilled is None
            (line,) = ax.plot(
                self.places,
                middle,
                color=f"C{place}" if together else _REAL,
                ls=("-", "--", "-.", ":")[place % 4] if together else "-",
                label=name if together else "real, median",
            )
            ax.fill_between(
                self.places, low, high, color=line.get_color(), alpha=0.2, lw=0
            )
            if self.distilled is not None:
                for index, profile in enumerate(self.distilled[place]):
                    label = "distilled" if index == 0 else None
                    ax.plot(
                        self.places, profile, color=_DISTILLED, ls="--", label=label
                    )
                ax.set_title(name, fontsize=10)
        radial = self.kind == "radial"
        for ax in self.axes_:
            ax.set_xlabel("radius in pixels" if radial else "angle in degrees")
        self.axes_[0].set_ylabel("light" if radial else "light relative to the mean")
        self.axes_[0].legend(fontsize=8)
        for ax in self.axes_:
            plain_text(ax)
        self.figure_ = self.axes_[0].figure
        return self


class DifferenceDisplay:
    """Two images side by side and their difference, in rows.

    Made by :meth:`from_estimator` or :meth:`from_data`; everything that is given to
    the constructor is stored as it is.

    Parameters
    ----------
    first, second : ndarray of shape (n_rows, height, width, 3), uint8
        The images.
    difference : ndarray of shape (n_rows, height, width)
        Mean over the channels of the second less the first, in the unit of the pixels.
    row_names : list of str
        The names of the rows.
    column_names : list of str
        The names of first, second and difference.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the grid.
    figure_ : matplotlib Figure
        Its figure.
    images_ : list of list of matplotlib AxesImage
        What is drawn, by row.

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
    ) -> None:
        self.first = first
        self.second = second
        self.difference = difference
        self.row_names = row_names
        self.column_names = column_names

    @classmethod
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
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "DifferenceDisplay":
        """Show the mean of the real images of each class against the distilled ones'.

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
        classes : array-like, default=None
            The labels to show; None shows all, sorted.
        class_names : sequence of str, default=None
            Their names, if other than the labels.
        value_range : tuple (low, high), default=None
            The pixel values that become black and white; None takes nearly the whole
            range of the real means.
        composite : array-like of shape (3,) or (3, channels), default=None
            How channels become red, green and blue, as in
            :meth:`~skdistill.SyntheticSet.to_images`.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **imshow_kw : dict
            For :meth:`matplotlib.axes.Axes.imshow`, such as ``interpolation``.

        Returns
        -------
        display : DifferenceDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        synthetic, preprocessing = distilled_by(estimator, preprocessing)
        shown, members = class_rows(synthetic.y, classes)
        distilled = to_pixels(synthetic.X, preprocessing)
        real = real_images(X, estimator, synthetic.X.shape[1:], preprocessing)
        display = cls._of(
            np.stack([real[some].mean(axis=0) for some in class_rows(y, shown)[1]]),
            np.stack([distilled[some].mean(axis=0) for some in members]),
            check_names(class_names, shown),
            ["real mean", "distilled", "distilled\n− real"],
            value_range,
            composite,
        )
        return display.plot(ax=ax, **imshow_kw)

    @classmethod
    def from_data(
        cls,
        X: Any,
        y: Any,
        *,
        pairs: Sequence[tuple[Any, Any]],
        class_names: Any = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "DifferenceDisplay":
        """Show class against class: the means of their images.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels)
            Images, real or distilled.
        y : array-like of shape (n_samples,)
            Their labels.
        pairs : sequence of pairs of labels
            The classes to compare, a pair in each row.
        class_names : mapping of label to str, default=None
            Names of the classes, if other than the labels.
        value_range : tuple (low, high), default=None
            The pixel values that become black and white; None takes nearly the whole
            range of all means.
        composite : array-like of shape (3,) or (3, channels), default=None
            How channels become red, green and blue, as in
            :meth:`~skdistill.SyntheticSet.to_images`.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **imshow_kw : dict
            For :meth:`matplotlib.axes.Axes.imshow`, such as ``interpolation``.

        Returns
        -------
        display : DifferenceDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_data")
        pixels = to_pixels(X)
        if not len(pairs) or any(len(pair) != 2 for pair in pairs):
            raise ValueError(
                f"`pairs` must be one or more pairs of labels; got {pairs!r}"
            )
        names = {} if class_names is None else dict(class_names)
        first, second = (
            np.stack(
                [
                    pixels[some].mean(axis=0)
                    for some in class_rows(y, [pair[side] for pair in pairs])[1]
                ]
            )
            for side in (0, 1)
        )
        rows = [f"{names.get(one, one)} | {names.get(two, two)}" for one, two in pairs]
        columns = ["first", "second", "second\n− first"]
        display = cls._of(first, second, rows, columns, value_range, composite)
        return display.plot(ax=ax, **imshow_kw)

    @classmethod
    def _of(
        cls,
        first: np.ndarray,
        second: np.ndarray,
        row_names: list[str],
        column_names: list[str],
        value_range: tuple[float, float] | None,
        composite: ArrayLike | None,
    ) -> "DifferenceDisplay":
        coloured = in_colour(
            first, second, value_range=value_range, composite=composite, reference=first
        )
        return cls(
            coloured[0],
            coloured[1],
            (second - first).mean(axis=-1),
            row_names=row_names,
            column_names=column_names,
        )

    def plot(self, *, ax: Any = None, **imshow_kw: Any) -> "DifferenceDisplay":
        """Draw the rows.

        Differences are blue where the second image is darker and red where it is
        brighter, all on one scale.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **imshow_kw : dict
            For :meth:`matplotlib.axes.Axes.imshow`, such as ``interpolation``.

        Returns
        -------
        display : DifferenceDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        rows = list(zip(self.first, self.second, self.difference, strict=True))
        most = float(np.quantile(np.abs(self.difference), 0.995)) or 1.0
        scale: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
        ax, self.images_ = draw_grid(
            ax,
            rows,
            self.row_names,
            self.column_names,
            **(scale | imshow_kw),
        )
        ax.figure.colorbar(
            self.images_[0][2],
            ax=ax,
            shrink=0.5,
            label="difference, in the unit of the pixels",
        )
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _profiles(images: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    if min(images.shape[1:3]) < 2:
        raise ValueError(
            "X must hold images of 2x2 pixels or more to have profiles; got "
            f"{images.shape[1]}x{images.shape[2]}"
        )
    if kind not in ("radial", "azimuthal"):
        raise ValueError(f"`kind` must be 'radial' or 'azimuthal'; got {kind!r}")
    measure = radial_profiles if kind == "radial" else azimuthal_profiles
    found = [measure(images[part]) for part in batches(images)]
    return found[0][0], np.concatenate([profiles for _, profiles in found])


def _panels(axes: Any, number: int) -> np.ndarray:
    if axes is not None:
        axes = np.ravel(np.asarray(axes, dtype=object))
        if len(axes) != number:
            raise ValueError(f"`axes` must be {number}; got {len(axes)}")
        return axes
    import matplotlib.pyplot as plt

    n_columns = min(number, 5)
    n_rows = -(-number // n_columns)
    figure, grid = plt.subplots(
        n_rows,
        n_columns,
        figsize=(max(5, 2.6 * n_columns), 0.8 + 2.6 * n_rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax in grid.ravel()[number:]:
        figure.delaxes(ax)
    return grid.ravel()[:number]
