"""Galaxy Zoo 2 from files on disk."""

import os
from typing import Any

import pandas as pd
from sklearn.utils._param_validation import validate_params

from skdistill.datasets._images import image_paths
from skdistill.datasets._tables import TableLike, column_names, read_table
from skdistill.utils._files import expand_path
from skdistill.utils._ids import PATHS, object_ids, plain_name
from skdistill.utils._image_files import several_endings, the_one
from skdistill.utils._leaks import find_leaks
from skdistill.utils._plain import told
from skdistill.utils._warnings import warn

# The usual ones.
_KEYS = ("dr7objid", "objid", "id_str")


@validate_params(
    {  # Tables in any form, which what reads them checks.
        "votes": "no_validation",
        "images_dir": [str, os.PathLike, None],
        "mapping": "no_validation",
        "id_column": [str, None],
    },
    prefer_skip_nested_validation=True,
)
def load_galaxy_zoo2(
    votes: TableLike,
    images_dir: str | os.PathLike[str] | None = None,
    mapping: TableLike | None = None,
    *,
    id_column: str | None = None,
) -> pd.DataFrame:
    """Load the Galaxy Zoo 2 votes and the paths of the images.

    Parameters
    ----------
    votes : str, path-like or DataFrame of pandas or polars
        Table of votes, a file ending in `.csv`, `.csv.gz`, `.parquet`, `.fits` or
        `.fit` (also with `.gz`).  All of its columns are kept, such as those of Hart et
        al. [2]_, of Willett et al. [1]_ or of the galaxy-datasets package.
    images_dir : str or path-like, default=None
        Folder, or zip archive, with one image per galaxy, named `{asset_id}` and
        `.jpg`, `.jpeg`, `.png`, `.tif`, `.webp`, `.fits` and the like.  Without
        `asset_id`, images are named by the id of the galaxy, such as `dr7objid`,
        `objid` or `id_str`.  Direct sub-folders are also searched.  With None no paths
        are looked up and no rows are dropped.
    mapping : str, path-like or DataFrame of pandas or polars, default=None
        Table with the columns `objid` and `asset_id`, as published with the images.
        Needed only if images are named by `asset_id` and `votes` has no such column;
        ignored if it has.
    id_column : str or None, default=None
        Column of `votes` with the id of each galaxy; "index" is the index of a
        DataFrame.  Images are named by these ids, unless `mapping` maps them to an
        `asset_id`; its column `objid` may have the same name.  None uses `asset_id`,
        else the first column with the name of an id.

    Returns
    -------
    galaxies : DataFrame
        The rows of `votes` in their order.  With `mapping` it also has the column
        `asset_id`, and with `images_dir` the column `path`, which is
        `"{archive}!/{member}"` for an image in a zip archive:
        :class:`~skdistill.ImageReader` reads those without extracting them.  A table
        read from file has a new RangeIndex, a DataFrame keeps its own index.  The
        identifiers `dr7objid`, `objid` and `asset_id` are int64; an `asset_id` that is
        missing for some rows, which is only possible if no images are named by it, is
        Int64.
        `id_str` remains text.

    Raises
    ------
    FileNotFoundError
        If a file or `images_dir` does not exist.
    ImportError
        If the package that reads such files is not installed: pyarrow (``pip install
        skdistill[parquet]``) or astropy (``pip install skdistill[fits]``).
    ValueError
        If a file has an unknown suffix or is damaged, a column is missing, identifiers
        are not integers or were stored as floats, a galaxy has several images, in
        several folders or as `1` and `0001`, or no galaxy has an image or is in
        `mapping`.

    Warns
    -----
    UserWarning
        If rows without an image were dropped; if images exist with several extensions;
        if `mapping` has several assets for one object or several objects for one asset;
        or if a galaxy is in several sets according to a column `split`.

    See Also
    --------
    skdistill.datasets.fetch_galaxy_zoo2 : Download the files first.
    skdistill.datasets.make_galaxies : Simulate galaxies and votes.

    Notes
    -----
    The votes are those of [1]_, debiased by [2]_; the images and the mapping are
    published in [3]_.  Cite them and the Sloan Digital Sky Survey if you use them.
    Identifiers exceed 2**53, so that different galaxies have the same identifier as a
    float.

    The first table of a FITS file is read.  A column with a vector in each row is split
    into the columns `{name}_0`, `{name}_1` and so on.

    References
    ----------
    .. [1] Willett, K. W. et al. (2013). Galaxy Zoo 2. Monthly Notices of the Royal
       Astronomical Society 435, 2835.
    .. [2] Hart, R. E. et al. (2016). Galaxy Zoo: comparing the demographics of
       spiral arm number and a new method for correcting redshift bias. Monthly
       Notices of the Royal Astronomical Society 461, 3663.
    .. [3] Galaxy Zoo 2: images from original sample.
       https://doi.org/10.5281/zenodo.3565489

    Examples
    --------
    >>> import pandas as pd
    >>> from skdistill.datasets import load_galaxy_zoo2
    >>> votes = pd.DataFrame({"dr7objid": [587722981736120347, 587722981736579107]})
    >>> mapping = pd.DataFrame(
    ...     {"objid": [587722981736579107, 587722981736120347], "asset_id": [4, 3]}
    ... )
    >>> load_galaxy_zoo2(votes, mapping=mapping)["asset_id"].tolist()
    [3, 4]
    """
    if images_dir is not None:
        images_dir = expand_path(images_dir, "images_dir")
    galaxies = read_table(votes, "votes", () if id_column is None else (id_column,))
    if "split" in galaxies or id_column is not None:
        ids = object_ids(galaxies, id_column)
    if "split" in galaxies:
        for message in find_leaks(galaxies, galaxies["split"], ids):
            warn(message)
    if mapping is not None and "asset_id" not in galaxies:
        galaxies["asset_id"] = _asset_ids(galaxies, mapping, id_column)
    if images_dir is None:
        return galaxies

    named_by = id_column if mapping is None else None
    galaxies, n_dropped = with_images(galaxies, images_dir, named_by)
    if n_dropped:
        warn(dropped_message(n_dropped, galaxies, images_dir))
    return (
        galaxies if isinstance(votes, pd.DataFrame) else galaxies.reset_index(drop=True)
    )


def with_images(
    galaxies: pd.DataFrame,
    images_dir: str | os.PathLike[str],
    id_column: str | None = None,
) -> tuple[pd.DataFrame, int]:
    """Find the image of each galaxy.

    Parameters
    ----------
    galaxies : DataFrame
        A table with identifiers, which gets the column `path`.
    images_dir : str or path-like
        Folder or zip archive with images.
    id_column : str or None, default=None
        Column that images are named by; None looks for one.

    Returns
    -------
    galaxies : DataFrame
        The rows that have an image.
    n_dropped : int
        The number of the others.

    Raises
    ------
    FileNotFoundError
        If `images_dir` does not exist.
    ValueError
        If there are no identifiers, or no galaxy at all has an image.
    """
    name, ids = _image_ids(galaxies, id_column)
    place = os.fspath(images_dir)
    files = image_paths(place)
    paths: dict[str, str | None] = {None: None}  # type: ignore[dict-item]
    chosen = []
    for key in ids.dropna().unique():
        if key in files:
            paths[key], had_others = the_one(files[key], key, place)
            chosen += [paths[key]] * had_others
    if chosen:
        warn(several_endings(len(chosen), str(chosen[0]), place))
    galaxies["path"] = [paths.get(key) for key in ids]
    found = galaxies["path"].notna()
    if not found.any():
        hint = ""
        if id_column is None:
            hint = " If files are named by another id, use `id_column`."
            if plain_name(name) != "assetid":
                hint = hint[:-1] + ", or pass `mapping` for asset_id."
        raise ValueError(
            f"`images_dir` must contain an image of at least one of the {len(found)} "
            f"galaxies, named '{{{name}}}.jpg'; found none in '{images_dir}'."
            f"{hint}"
        )
    n_dropped = int((~found).sum())
    if n_dropped:
        galaxies = galaxies[found]
    if "asset_id" in galaxies and galaxies["asset_id"].notna().all():
        # `astype` of the whole table would cut it into one block for each column.
        galaxies = galaxies.assign(asset_id=galaxies["asset_id"].astype("int64"))
    return galaxies, n_dropped


def dropped_message(
    n_dropped: int, galaxies: pd.DataFrame, images_dir: str | os.PathLike[str]
) -> str:
    """Return what to warn of when galaxies have no image.

    Parameters
    ----------
    n_dropped : int
        How many were left out.
    galaxies : DataFrame
        Those that are left.
    images_dir : str or path-like
        Where images were looked for.

    Returns
    -------
    str
        The message.
    """
    return (
        f"Dropped {n_dropped} of {n_dropped + len(galaxies)} galaxies that have no "
        f"image in '{images_dir}'."
    )


def _asset_ids(
    galaxies: pd.DataFrame, mapping: TableLike, id_column: str | None
) -> pd.Series:
    """Asset of each galaxy, Int64 with missing values where it has none."""
    table = read_table(mapping, "mapping", () if id_column is None else (id_column,))
    plain = {plain_name(name): name for name in table.columns[::-1]}
    asset = plain.get("assetid")
    same = id_column if id_column in table and id_column != asset else None
    objects = object_ids(table.drop(columns=[] if asset is None else asset), same)
    if asset is None or objects is None:
        missing = [n for n in ("objid", "asset_id") if plain_name(n) not in plain]
        raise ValueError(
            f"`mapping` must have the columns 'objid' and 'asset_id'; missing "
            f"{missing}, got {column_names(table)}"
        )
    keys = object_ids(galaxies, id_column)
    if keys is None:
        raise ValueError(
            f"`votes` must have one of the columns {list(_KEYS)}, or another id "
            f"column, to be joined with `mapping`; got {column_names(galaxies)}. Use "
            "`id_column` to name it"
        )
    pairs = pd.DataFrame(
        {"object": objects.values.to_numpy(), "asset": table[asset].array}
    ).dropna()
    known = keys.values.dropna()
    matching = pairs["object"].isin(known)
    if len(known) and not matching.any():
        example = f", such as {pairs['object'].iloc[0]!r}" if len(pairs) else ""
        raise ValueError(
            f"`mapping` must have ids of `votes`; none of its {len(pairs)} objects, "
            f"{objects.name}{example}, is among the {len(known)} ids of `votes`, "
            f"{keys.name}, such as {known.iloc[0]!r}"
        )
    pairs = pairs[matching].drop_duplicates()
    for one, other in (("object", "asset"), ("asset", "object")):
        repeated = pairs[one].duplicated(keep=False)
        if repeated.any():
            first = pairs.loc[repeated, one].iloc[0]
            warn(
                f"`mapping` has more than one {other} for "
                f"{pairs.loc[repeated, one].nunique()} {one}s, the first "
                f"{told(first)}. "
                + (
                    "The first one is used for each."
                    if one == "object"
                    else "They share one image."
                )
            )
    first_of = pairs.drop_duplicates("object")
    asset_of = dict(zip(first_of["object"], first_of["asset"], strict=True))
    assets: Any = [asset_of.get(key) for key in keys.values]
    matched = pd.Series(pd.array(assets, dtype="Int64"), index=galaxies.index)
    return matched if matched.hasnans else matched.astype("int64")


def _image_ids(galaxies: pd.DataFrame, id_column: str | None) -> tuple[str, pd.Series]:
    """Return the ids that the images are named by, and the name of their column."""
    column = id_column
    if column is None:
        names = galaxies.columns
        column = next((c for c in names if plain_name(c) == "assetid"), None)
    ids = object_ids(galaxies, column)
    guessed = column is None
    if ids is None or (guessed and plain_name(ids.name) in (*PATHS, "index")):
        raise ValueError(
            f"`votes` must have a column 'asset_id', one of {list(_KEYS)}, or another "
            f"id column, to find images; got {column_names(galaxies)}. Use "
            "`id_column` to name it"
        )
    return ids.name.strip("'"), ids.values
