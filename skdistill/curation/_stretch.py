"""From fluxes to brightness: the arcsinh stretch of Lupton et al."""

import numpy as np


def asinh_stretch(
    flux: np.ndarray, *, stretch: float, softening: float, minimum: float = 0.0
) -> np.ndarray:
    """Map fluxes of any number of bands to [0, 1] without changing colors.

    Parameters
    ----------
    flux : ndarray of shape (..., n_bands)
        Fluxes per pixel, all in the same unit.
    stretch : float
        Flux above `minimum` up to which brightness is about linear.
    softening : float
        Q of [1]_: the larger, the more faint light is raised above bright light.
    minimum : float, default=0.0
        Flux that becomes black, the same in all bands.

    Returns
    -------
    brightness : ndarray of shape (..., n_bands), dtype float64
        In [0, 1].

    Notes
    -----
    With :math:`x_b` the flux above `minimum` of band :math:`b`, and :math:`I` its mean
    over the bands, the brightness is :math:`x_b f(I) / I`, where

    .. math::

       f(I) = \\frac{0.1}{\\operatorname{arsinh}(0.1 Q)}
              \\operatorname{arsinh}(Q I / \\mathrm{stretch}).

    All bands of a pixel share one factor, so that their ratios, the color, remain.
    Where a band would exceed 1, all are divided by the largest.  Negative values
    become 0.  For three bands this is `astropy.visualization.make_lupton_rgb`.

    References
    ----------
    .. [1] Lupton, R., et al. "Preparing Red-Green-Blue Images from CCD Data." PASP 116
       (2004).
    """
    above = np.asarray(flux, dtype=np.float64) - minimum
    intensity = above.mean(axis=-1, keepdims=True)
    slope = 0.1 / np.arcsinh(0.1 * softening)
    lit = intensity > 0
    intensity = np.where(lit, intensity, 1.0)
    factor = np.where(
        lit, slope * np.arcsinh(softening / stretch * intensity) / intensity, 0.0
    )
    brightness = np.maximum(above * factor, 0.0)
    return brightness / np.maximum(brightness.max(axis=-1, keepdims=True), 1.0)
