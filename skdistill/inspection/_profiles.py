"""ProfileDisplay: profiles of images by radius and by angle."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from skdistill.inspection._grid import (
    font_size,
    legend_outside,
    panels,
    say,
    write_suptitle,
    write_title,
)
from skdistill.inspection._morphology import (
    curves_of_growth,
    find_centers,
    subtract_sky,
)
from skdistill.inspection._plotting import (
    check_matplotlib,
    check_names,
    class_rows,
    distilled_by,
    plain_text,
    real_images,
    real_labels,
    rows_of_classes,
    to_pixels,
    wrapped,
)
from skdistill.inspection._public import SEVERAL_AXES, public
from skdistill.utils._images import batches
from skdistill.utils._labels import labels_of_images
from skdistill.utils._validation import image_array

_MAX_PANELS = 25
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
    radii, light, area = curves_of_growth(flux, find_centers(flux))
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
    center = find_centers(flux)
    half = min(flux.shape[1:]) / 2
    radii = np.linspace(ring[0] * half, ring[1] * half, max(4, round(half)))
    fine = 8 * n_angles
    angles = np.arange(fine) * (2 * np.pi / fine)
    rows = center[:, 0, None, None] + radii[:, None] * np.sin(angles)
    columns = center[:, 1, None, None] + radii[:, None] * np.cos(angles)
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

    Created by :meth:`from_estimator` or :meth:`from_data`; the parameters of the
    constructor are stored as they are.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    places : ndarray of shape (n_places,)
        Radii in pixels, or angles in degrees.
    real : list of ndarray of shape (n_images, n_places)
        Profiles of the real images of each class.
    distilled : list of ndarray of shape (n_images, n_places) or None
        Profiles of the distilled images of each class.
    class_names : list of str
        The names of the classes.
    kind : {"radial", "azimuthal"}, default="radial"
        The kind of profiles.
    unit : str, default=""
        The unit of the pixels.
    title : str, default=""
        The title.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The axes of each class, or a single one.
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
        unit: str = "",
        title: str = "",
    ) -> None:
        self.places = places
        self.real = real
        self.distilled = distilled
        self.class_names = class_names
        self.kind = kind
        self.unit = unit
        self.title = title

    @classmethod
    @public(ax=SEVERAL_AXES)
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
        unit: str = "",
        title: str = "",
        ax: Any = None,
    ) -> "ProfileDisplay":
        """Compare the profiles of real and distilled images of each class.

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
        kind : {"radial", "azimuthal"}, default="radial"
            Mean light by the distance from the center; or, between a tenth and four
            tenths of half of the frame, by the angle from the brightest axis of each
            galaxy, relative to the mean.
        preprocessing : transformer, default=None
            The fitted transformer that was applied to the real images, with
            ``inverse_transform``; None for a pipeline, which contains it.
        classes : array-like, default=None
            The labels to show; None shows all, sorted.
        class_names : sequence of str, default=None
            Names of the classes; None uses the labels.
        unit : str, default=""
            The unit of the pixels, such as "counts", for the label of the axis.
        title : str, default=""
            The title.
        ax : array-like of matplotlib Axes, default=None
            One for each class; None creates a new figure with the first 25 classes.

        Returns
        -------
        display : ProfileDisplay
            The drawn display.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        synthetic, preprocessing = distilled_by(estimator, preprocessing)
        shown, _ = class_rows(synthetic.y, classes)
        real = real_images(X, estimator, synthetic.X.shape[1:], preprocessing)
        members = rows_of_classes(real_labels(y, len(real), synthetic), shown)
        places, profiles = _profiles(real, kind)
        _, of_distilled = _profiles(to_pixels(synthetic.X, preprocessing), kind)
        display = cls(
            places,
            [profiles[some] for some in members],
            [of_distilled[some] for some in class_rows(synthetic.y, shown)[1]],
            check_names(class_names, shown),
            kind=kind,
            unit=unit,
            title=title,
        )
        return display.plot(ax=ax)

    @classmethod
    @public(ax=SEVERAL_AXES)
    def from_data(
        cls,
        X: Any,
        y: Any,
        *,
        kind: str = "radial",
        classes: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        unit: str = "",
        title: str = "",
        ax: Any = None,
    ) -> "ProfileDisplay":
        """Compare the profiles of classes on the same axes.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels)
            Images.
        y : array-like of shape (n_samples,)
            Their labels.
        kind : {"radial", "azimuthal"}, default="radial"
            As in :meth:`from_estimator`.
        classes : array-like, default=None
            The labels to show; None shows all, sorted.
        class_names : sequence of str, default=None
            Names of the classes; None uses the labels.
        unit : str, default=""
            The unit of the pixels, such as "counts", for the label of the axis.
        title : str, default=""
            The title.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.

        Returns
        -------
        display : ProfileDisplay
            The drawn display.
        """
        check_matplotlib(f"{cls.__name__}.from_data")
        X = image_array(X)
        shown, members = class_rows(labels_of_images(y, len(X)), classes)
        places, profiles = _profiles(to_pixels(X), kind)
        display = cls(
            places,
            [profiles[some] for some in members],
            None,
            check_names(class_names, shown),
            kind=kind,
            unit=unit,
            title=title,
        )
        return display.plot(ax=ax)

    @public(ax=SEVERAL_AXES)
    def plot(self, *, ax: Any = None) -> "ProfileDisplay":
        """Draw medians of the real images, and bands from 16th to 84th percentile.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of them, default=None
            One for each class if there are distilled images, else a single one; None
            creates a new figure with the first 25 classes.

        Returns
        -------
        display : ProfileDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        together = self.distilled is None
        number = len(self.class_names)
        if ax is None and not together:
            number = min(number, _MAX_PANELS)
        self.axes_ = panels(ax, 1 if together else number, (2.8, 2.6), share=True)
        shown = number if ax is None and not together else len(self.class_names)
        for place, name in enumerate(self.class_names[:shown]):
            here = self.axes_[0 if together else place]
            real = self.real[place]
            # Images without light have no profile relative to it.
            known = real[~np.isnan(real).all(axis=1)]
            low, middle, high = (
                np.nanpercentile(known, [16, 50, 84], axis=0)
                if len(known)
                else np.full((3, len(self.places)), np.nan)
            )
            (line,) = here.plot(
                self.places,
                middle,
                color=f"C{place}" if together else _REAL,
                ls=("-", "--", "-.", ":")[place % 4] if together else "-",
                label=name if together else "real, median (mean of the channels)",
            )
            band = here.fill_between(
                self.places, low, high, color=line.get_color(), alpha=0.2, lw=0
            )
            if place == 0:
                band.set_label("16th to 84th percentile" + " of each" * together)
            if self.distilled is not None:
                for index, profile in enumerate(self.distilled[place]):
                    label = "distilled, each image" if index == 0 else None
                    here.plot(
                        self.places, profile, color=_DISTILLED, ls="--", label=label
                    )
                here.set_title(wrapped(name, 24), fontsize="medium")
        self._label(left_out=len(self.class_names) - shown)
        for here in self.axes_:
            plain_text(here)
        self.figure_ = self.axes_[0].get_figure(root=True)
        return self

    def _label(self, left_out: int) -> None:
        radial = self.kind == "radial"
        label = "brightness above the sky"
        if radial:
            label += f"\n({self.unit or 'unit of the pixels'})"
        else:
            label += "\n(mean over the angles = 1)"
        figure = self.axes_[0].figure
        n_columns = 1
        for here in self.axes_:
            spec = here.get_subplotspec()
            if spec is not None:
                n_columns = spec.get_gridspec().ncols
            here.set_xlabel("radius (pixels)" if radial else "angle (degrees)")
            if spec is None or spec.is_first_col():
                here.set_ylabel(label)
        # Below these is no other that would have the numbers.
        for here in self.axes_[-n_columns:]:
            here.tick_params(labelbottom=True)
        title = self.title
        if left_out:
            first = f"the first {len(self.axes_)} of {len(self.class_names)} classes"
            title = f"{title} ({first})" if title else first
        if self.distilled is None:
            say(self.axes_[0], title, "")
            self.axes_[0].legend(fontsize="small")
            return
        legend_outside(self.axes_)
        if title and len(self.axes_) > 1:
            write_suptitle(figure, title, font_size(figure) + 2)
        elif title:
            name = self.axes_[0].get_title()
            write_title(self.axes_[0], f"{title}\n{name}")


def _profiles(images: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    if min(images.shape[1:3]) < 2:
        raise ValueError(
            "X must hold images of at least 2x2 pixels; got "
            f"{images.shape[1]}x{images.shape[2]}"
        )
    measure = radial_profiles if kind == "radial" else azimuthal_profiles
    found = [measure(images[part]) for part in batches(images)]
    return found[0][0], np.concatenate([profiles for _, profiles in found])
