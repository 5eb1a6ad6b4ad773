"""Bands of images by their names, and how they become red, green and blue."""

import re
import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

# Where bands lie, in nanometers: ultraviolet to infrared as astronomers name them, and
# filters of Hubble and Webb.
_TABLE = """
fuv 153  nuv 227  uv 250  u 355  b 445  g 475  v 551  r 625  i 765  z 905  y 1000
j 1235  h 1660  k 2160  ks 2160  w1 3350  w2 4600  w3 11600  w4 22100
ch1 3550  ch2 4490  ch3 5730  ch4 7870
blue 450  green 530  red 650  vis 720  nir 900  ir 1500
f225w 225  f275w 275  f336w 336  f390w 390  f435w 435  f438w 438  f475w 475  f555w 555
f606w 606  f625w 625  f775w 775  f814w 814  f850lp 850  f098m 980  f105w 1050
f110w 1100  f125w 1250  f140w 1400  f160w 1600
f070w 700  f090w 900  f115w 1150  f150w 1500  f200w 2000  f277w 2770  f356w 3560
f444w 4440  f560w 5600  f770w 7700  f1000w 10000  f1280w 12800  f1500w 15000
f1800w 18000  f2100w 21000  f2550w 25500
"""
_WAVELENGTHS = dict(
    zip(_TABLE.split()[::2], map(float, _TABLE.split()[1::2]), strict=True)
)
# What stands beside the letter: "sdss_u", "DES-g", "Y_E", "r band".
_AROUND = re.compile(r"[\s_\-.:/']+")


def wavelength(name: str) -> float:
    """Return where a band lies, in nanometers, NaN if its name is not known.

    Parameters
    ----------
    name : str
        Such as "u", "SDSS_g", "Ks", "F814W", "red" or "550 nm".
    """
    plain = str(name).strip().lower()
    number = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(nm|um|µm|μm|micron|angstrom|å)", plain)
    if number:
        unit = {"nm": 1.0, "angstrom": 0.1, "å": 0.1}.get(number[2], 1000.0)
        return float(number[1]) * unit
    # Names of a part count only if no other part is one too: "g-r" is no band.
    parts = [plain, *(_AROUND.split(plain) if _AROUND.search(plain) else [])]
    found = {_WAVELENGTHS[part] for part in parts if part in _WAVELENGTHS}
    return found.pop() if len(found) == 1 else np.nan


def check_band_names(
    band_names: Sequence[str] | None, n_channels: int, parameter: str = "band_names"
) -> list[str] | None:
    """Return the names of the channels as a list of str, None if there are none."""
    if band_names is None:
        return None
    names = [str(name) for name in band_names]
    if len(names) != n_channels:
        raise ValueError(
            f"`{parameter}` must hold a name for each of the {n_channels} channels; "
            f"got {len(names)}: {names}"
        )
    return names


def wavelengths_of(
    band_names: Sequence[str] | None, stacklevel: int = 2
) -> np.ndarray | None:
    """Return where all bands lie; None, with a warning, if only some are known."""
    if band_names is None:
        return None
    found = np.array([wavelength(name) for name in band_names])
    unknown = [
        name for name, there in zip(band_names, np.isnan(found), strict=True) if there
    ]
    if not unknown:
        return found
    if len(unknown) < len(found):
        warnings.warn(
            f"the wavelengths of the bands {unknown} are not known: the channels are "
            "assumed to be in order from red to blue. Use `composite` to set the "
            "channels shown as red, green and blue",
            stacklevel=stacklevel + 1,
        )
    return None


def composite_parts(
    n_channels: int, band_names: Sequence[str] | None = None, stacklevel: int = 2
) -> list[list[int]]:
    """Return which channels become red, green and blue without a ``composite``.

    Parameters
    ----------
    n_channels : int
    band_names : sequence of str, default=None
        Names that are known put the channels in order from red to blue.  Without
        them the first channel is the reddest.

    Returns
    -------
    parts : list of three lists of int
    """
    names = check_band_names(band_names, n_channels)
    where = wavelengths_of(names, stacklevel + 1)
    order = list(range(n_channels))
    if where is not None:
        order = np.argsort(-where, kind="stable").tolist()
    if n_channels == 1:
        return [order] * 3
    if n_channels == 2:
        return [order[:1], order, order[1:]]
    third = round(n_channels / 3)
    edges = [0, third, n_channels - third, n_channels]
    return [order[a:b] for a, b in pairwise(edges)]


def composite_weights(
    n_channels: int,
    composite: ArrayLike | None = None,
    band_names: Sequence[str] | None = None,
    stacklevel: int = 2,
) -> np.ndarray:
    """Return how much each channel adds to red, green and blue, (3, n_channels).

    Parameters
    ----------
    n_channels : int
    composite : array-like of shape (3,) or (3, channels), default=None
        Positions or names of three channels, or the weights; None takes those of
        :func:`composite_parts`.
    band_names : sequence of str, default=None
        Names of the channels.
    """
    weights = np.zeros((3, n_channels))
    if composite is None:
        for color, part in enumerate(
            composite_parts(n_channels, band_names, stacklevel + 1)
        ):
            weights[color, part] = 1 / len(part)
        return weights
    names = check_band_names(band_names, n_channels)
    given = np.asarray(composite)
    if given.shape == (3,):
        if given.dtype.kind in "OSUT" and names is not None:
            given = np.array(
                [names.index(str(one)) if str(one) in names else -1 for one in given]
            )
        if given.dtype.kind in "iuf" and np.isin(given, np.arange(n_channels)).all():
            weights[np.arange(3), given.astype(np.int64)] = 1.0
            return weights
    numeric = given.dtype.kind in "biuf"
    if given.shape == (3, n_channels) and numeric and np.isfinite(given).all():
        return given.astype(np.float64)
    named = "" if names is None else f" or names, {names},"
    raise ValueError(
        f"`composite` must be the positions{named} of three of the {n_channels} "
        f"channels, or weights of shape (3, {n_channels}); got {composite!r}"
    )


def describe_composite(
    n_channels: int,
    composite: ArrayLike | None = None,
    band_names: Sequence[str] | None = None,
) -> str:
    """Say which channels are shown in which color; "" where it goes without saying."""
    plain = composite is None and band_names is None
    if n_channels == 1 or (n_channels == 3 and plain):
        return ""
    if composite is not None and np.ndim(composite) == 2:
        return "colors mixed by the weights of `composite`"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights = composite_weights(n_channels, composite, band_names)
    plain_names = map(str, range(n_channels))
    names = list(plain_names if band_names is None else band_names)
    said = [
        f"{color}: {', '.join(str(names[k]) for k in np.flatnonzero(row).tolist())}"
        for color, row in zip(("red", "green", "blue"), weights, strict=True)
    ]
    first = "bands, " if band_names is not None else "channels, "
    rule = " (assumed from red to blue; set `band_names` or `composite` to change this)"
    return first + "; ".join(said) + (rule if plain else "")
