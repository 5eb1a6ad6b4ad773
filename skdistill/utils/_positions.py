"""Which rows of a table are at the same place in the sky."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from skdistill.utils._ids import plain_name

# Names of columns of right ascension and declination, as letters and digits alone.
_NAMES = (
    *(("ra", "dec"), ("radeg", "decdeg"), ("raj2000", "dej2000")),
    *(("raj2000", "decj2000"), ("ra2000", "dec2000"), ("alphaj2000", "deltaj2000")),
    *(("objra", "objdec"), ("targetra", "targetdec")),
)
# Closer to each other than that no survey tells two galaxies apart.
_ARCSECOND = np.pi / 180 / 3600
# More rows at a place are no galaxy, unless they are such a share of all.
_MAX_ROWS, _MAX_SHARE = 20, 0.01
# Positions that are rounded to a thousandth of a degree tell nothing.
_DECIMALS = 3


def same_positions(table: pd.DataFrame) -> tuple[str, pd.Series] | None:
    """Name rows by their position in the sky, alike within an arcsecond.

    Parameters
    ----------
    table : DataFrame
        One row per object or per image of one; positions are in degrees.

    Returns
    -------
    found : (str, Series of object) or None
        What the columns are called, and a text for each row; None where a row has no
        position, or one that marks a missing one.  None if there are no such columns,
        or if they are too coarse.
    """
    columns = _columns(table)
    if columns is None:
        return None
    values = table[columns].to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.flatnonzero(np.isfinite(values).all(axis=1) & values.any(axis=1))
    places = values[known]
    if not len(places) or (np.abs(places[:, 1]) > 90).any():
        return None
    if (places == places.round(_DECIMALS)).all(axis=1).mean() > 0.5:
        return None
    # Once each: of a placeholder there may be thousands.
    distinct, row = np.unique(places, axis=0, return_inverse=True)
    ra, dec = np.deg2rad(distinct).T
    points = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    pairs = cKDTree(points.T).query_pairs(_ARCSECOND, output_type="ndarray")
    n = len(distinct)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, objects = connected_components(graph, directed=False)
    objects = objects[row.ravel()]
    _, first, counts = np.unique(objects, return_index=True, return_counts=True)
    texts = [f"({ra:.5f}, {dec:.5f})" for ra, dec in places[first].tolist()]
    most = max(_MAX_ROWS, _MAX_SHARE * len(places))
    named = np.array(texts, dtype=object)
    named[counts > most] = None
    names = np.full(len(table), None, dtype=object)
    names[known] = named[objects]
    what = f"their position, {columns[0]!r} and {columns[1]!r}, within an arcsecond"
    return what, pd.Series(names, dtype=object)


def _columns(table: pd.DataFrame) -> list[Any] | None:
    """Return the columns of positions in degrees, None if there are none."""
    plain = {plain_name(name): name for name in table.columns[::-1]}
    for pair in _NAMES:
        names = [plain[name] for name in pair if name in plain]
        if len(names) == 2 and all(
            getattr(table[name], "ndim", 2) == 1
            and pd.api.types.is_float_dtype(table[name].dtype)
            for name in names
        ):
            return names
    return None
