"""Which images of a FITS file are pictures, and which axis has the bands."""

import re
from collections.abc import Sequence

# Words in the names of extensions that are no pictures of the sky.
_NO_PICTURE = frozenset(
    """
    ERR ERROR ERRORS UNC UNCERT UNCERTAINTY SIG SIGMA RMS STD STDDEV NOISE VAR
    VARIANCE IVAR INVVAR WHT WGT WT WEIGHT WEIGHTS WEIGHTMAP DQ QUALITY FLAG
    FLAGS MASK MASKS MSK BPM BAD BADPIX CON CTX CONTEXT EXP EXPTIME EXPMAP
    EXPOSURE NEXP COV COVERAGE TIME SAMP NSAMP AREA SEG SEGM SEGMAP SEGMENTATION
    PSF PSFEX BKG BACKGROUND SKY MODEL RESID RESIDUAL RESIDUALS
    """.split()  # noqa: SIM905
)
_MAX_BANDS = 16


def are_pictures(names: Sequence[str]) -> list[bool]:
    """Return which images are pictures by the names of their extensions.

    Parameters
    ----------
    names : sequence of str
        Names of extensions, as `SCI`, `ERR`, `DQ`, `G_IVAR`, `MASK1`.

    Returns
    -------
    pictures : list of bool
        False for errors, weights, flags, masks and the like.
    """
    return [
        _NO_PICTURE.isdisjoint(re.split("[^A-Z]+", str(name).upper())) for name in names
    ]


def check_axes(shape: tuple[int, ...]) -> None:
    """Refuse a cube that has its bands on another axis than the first.

    Parameters
    ----------
    shape : tuple of int
        Shape of a cube in the order of NumPy.

    Raises
    ------
    ValueError
        If another axis than the first is much shorter than the others, which are those
        of a picture.
    """
    first, middle, last = shape
    for n_bands, sides, axis in (
        (last, (first, middle), -1),
        (middle, (first, last), 1),
    ):
        is_short = 2 * n_bands < min(sides)
        is_square = sides[0] == sides[1] and n_bands <= _MAX_BANDS
        if is_short and (n_bands <= 5 or is_square):
            raise ValueError(
                f"its shape {shape} looks like {n_bands} bands on the "
                f"{'last' if axis == -1 else 'middle'} axis; FITS has them on the "
                f"first: store np.moveaxis(data, {axis}, 0)"
            )
