"""MorphologyMeasures: what astronomers measure in images of galaxies."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skdistill.inspection._measure_labels import LABELS, color_label, color_pairs
from skdistill.inspection._morphology import (
    Aperture,
    asymmetry,
    bar_strength,
    concentration,
    curves_of_growth,
    distances,
    ellipticity,
    find_centers,
    gini,
    light_of_channels,
    m20,
    petrosian_radius,
    segment,
    smoothness,
    subtract_sky,
)
from skdistill.utils._bands import check_band_names
from skdistill.utils._doc_link import DocLinkMixin
from skdistill.utils._images import take
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import check_images

_MEASURES = tuple(LABELS)
# Number of pixels in a batch of images to measure: about 100 MB.
_BATCH_PIXELS = 2**18


class MorphologyMeasures(TransformerMixin, DocLinkMixin, BaseEstimator):
    """Measure the morphology of the galaxy in the middle of each image.

    Images are measured without scaling: pass real and distilled images in the same
    pixel unit, after the ``inverse_transform`` of their preprocessing.  Values of
    images with a nonlinear stretch, such as color composites, can be compared with each
    other, but not with values in the literature, which are for linear fluxes.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    band_names : sequence of str, default=None
        Names of the channels, for the names of colors; None numbers them.
        Known names, such as u, g, r, i, z, also determine which of two is bluer.
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None treats each row as an
        image of height 1 with one channel.

    Attributes
    ----------
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

    See Also
    --------
    place_distilled : Position of distilled images among the real ones of their class.

    Notes
    -----
    The sky, the median of the outermost pixels of each channel, is subtracted; all
    measures except colors use the mean of the channels.  The center is where the galaxy
    is most symmetric, to half a pixel; the radius is the Petrosian radius, at which the
    surface brightness is a fifth of the mean within.  Measures that are undefined, as
    for an image without light, are NaN.

    ``concentration``
        5 log10(r80 / r20), radii with 80 % and 20 % of the light within 1.5 Petrosian
        radii [1]_.
    ``asymmetry``
        Mean absolute difference from the image rotated by 180 degrees, in units of the
        light, minus that of the sky [1]_.
    ``smoothness``
        Light in small bright structures, minus that of the sky, as a share [1]_ [2]_;
        also called clumpiness.  The box is at least three pixels wide.
    ``gini``
        Inequality of the galaxy's pixels, from 0 to 1 [2]_.
    ``m20``
        Logarithm of the second moment of the brightest 20 % of the light, in that of
        all [2]_.
    ``ellipticity``
        1 - b/a of the ellipse with the light's second moments.
    ``petrosian_radius``
        In pixels.
    ``bar_strength``
        Coherent second and fourth Fourier component over the angle in the inner disc,
        the smaller of the two, as in [3]_.  It is meaningful for discs that are not
        seen edge-on.
    ``color_u_g``, ``color_1_0``, ...
        Difference of the magnitudes of two bands within the galaxy, for each channel
        and the first one: bluer minus redder, as in u - g, so that redder galaxies have
        larger values.  If the names of the bands do not determine which is bluer, the
        first channel is assumed to be the redder one.

    :meth:`describe` returns a table of the measures with names, units and directions.
    Noise biases most of them, a small image size all: compare images of the same size
    and noise.

    References
    ----------
    .. [1] Conselice, C. J. (2003). The relationship between stellar light distributions
       of galaxies and their formation histories. Astrophysical Journal Supplement
       147, 1.
    .. [2] Lotz, J. M., Primack, J., Madau, P. (2004). A new nonparametric approach to
       galaxy morphological classification. Astronomical Journal 128, 163.
    .. [3] Ohta, K., Hamabe, M., Wakamatsu, K. (1990). Surface photometry of barred
       spiral galaxies. Astrophysical Journal 357, 71.

    Examples
    --------
    >>> from skdistill import make_galaxies
    >>> from skdistill.inspection import MorphologyMeasures
    >>> X, y = make_galaxies(45, size=32, random_state=0)
    >>> measures = MorphologyMeasures(band_names="rgb").set_output(transform="pandas")
    >>> table = measures.fit_transform(X)
    >>> list(table.columns[-2:])
    ['color_g_r', 'color_b_r']
    >>> ellipticity = table["ellipticity"].groupby(y).median()
    >>> bool(ellipticity[2] > ellipticity[1] > ellipticity[0])
    True
    """

    _parameter_constraints: dict = {
        "band_names": ["array-like", str, None],
        "image_shape": ["array-like", None],
    }

    def __init__(
        self,
        *,
        band_names: Sequence[str] | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        self.band_names = band_names
        self.image_shape = image_shape

    @_fit_context(prefer_skip_nested_validation=True)
    @with_own_torch_state
    def fit(self, X: Any, y: Any = None) -> "MorphologyMeasures":
        """Learn the shape of the images.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : None
            Ignored.

        Returns
        -------
        self : MorphologyMeasures
            The fitted transformer.
        """
        check_images(self, X, reset=True, image_shape=self.image_shape)
        self._colors()
        return self

    @with_own_torch_state
    def transform(self, X: Any) -> np.ndarray:
        """Measure images.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.

        Returns
        -------
        measures : ndarray of shape (n_samples, n_measures), float64
            Columns as in ``get_feature_names_out``; NaN if undefined.
        """
        check_is_fitted(self)
        images, _ = check_images(self, X, reset=False)
        height, width, _ = self.image_shape_
        bluer = [one for one, *_ in self._colors()]
        redder = [two for _, two, *_ in self._colors()]
        step = max(1, _BATCH_PIXELS // (height * width))
        # Where there is no light there are no measures: NaN, and no warning.
        with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            parts = [
                _measure(
                    take(images, slice(start, start + step), np.float64), bluer, redder
                )
                for start in range(0, len(images), step)
            ]
        return np.concatenate(parts)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the measures.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the pixels, which must be those of fit; they are not used.

        Returns
        -------
        feature_names_out : ndarray of shape (n_measures,), dtype object
            Names of the columns of ``transform``.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        colors = [name for _, _, name, _ in self._colors()]
        return np.asarray([*_MEASURES, *colors], dtype=object)

    def describe(self) -> pd.DataFrame:
        """Describe the measures.

        Returns
        -------
        table : DataFrame of shape (n_measures, 3)
            Indexed by the names of the measures: ``label``, ``unit`` ("" for plain
            numbers) and ``direction``, the meaning of a larger value.
        """
        check_is_fitted(self)
        labels = dict(LABELS)
        named = self.band_names is not None
        bands = self._bands() or [str(k) for k in range(self.image_shape_[2])]
        for one, two, name, known in self._colors():
            labels[name] = color_label(bands[one], bands[two], known, named)
        return pd.DataFrame.from_dict(
            labels, orient="index", columns=["label", "unit", "direction"]
        )

    @property
    def _doc_link_template(self) -> str:
        # Its page is not among those of the top level.
        template = super()._doc_link_template
        return template.replace("skdistill.{", "skdistill.inspection.{")

    def _bands(self) -> list[str] | None:
        return check_band_names(self.band_names, self.image_shape_[2])

    def _colors(self) -> list[tuple[int, int, str, bool]]:
        return color_pairs(self.image_shape_[2], self._bands())


def _measure(images: np.ndarray, bluer: list[int], redder: list[int]) -> np.ndarray:
    """Return all measures of images, (n_images, n_measures)."""
    channels = subtract_sky(images)
    flux = channels.mean(axis=-1)
    height, width = flux.shape[1:]
    center = find_centers(flux)
    radii, light, area = curves_of_growth(flux, center)
    radius = petrosian_radius(radii, light, area, min(height, width) / 2)
    aperture = Aperture(center, radius, distances(center, height, width))
    galaxy = segment(flux, aperture)
    magnitudes = -2.5 * np.log10(light_of_channels(channels, galaxy))
    return np.column_stack(
        [
            concentration(radii, light, radius),
            asymmetry(flux, aperture),
            smoothness(flux, aperture),
            gini(flux, galaxy),
            m20(flux, galaxy),
            ellipticity(flux, galaxy),
            radius,
            bar_strength(flux, aperture, galaxy),
            magnitudes[:, bluer] - magnitudes[:, redder],
        ]
    )
