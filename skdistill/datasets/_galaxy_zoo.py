"""Galaxy Zoo 2 from files on disk."""

import os
import warnings
from pathlib import Path

import pandas as pd

_ID_COLUMNS = ["dr7objid", "objid", "asset_id"]
# In order of preference, should a galaxy have several files.
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def load_galaxy_zoo2(
    votes: str | os.PathLike[str] | pd.DataFrame,
    images_dir: str | os.PathLike[str] | None = None,
    mapping: str | os.PathLike[str] | pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Load the Galaxy Zoo 2 votes and the paths of the images.

    Parameters
    ----------
    votes : str, path-like or DataFrame
        Table of votes, a file ending in `.csv`, `.csv.gz` or `.parquet`.

    images_dir : str or path-like, default=None
        Folder with one image per galaxy, named `{asset_id}.jpg`, `.jpeg` or `.png`.
        With None no path is looked up and no row is dropped.

    mapping : str, path-like or DataFrame, default=None
        Table with the columns `objid` and `asset_id`, as published with the images.
        Needed only if `votes` has no column `asset_id`; ignored if it has.

    Returns
    -------
    galaxies : DataFrame
        The rows of `votes` in their order.  With `mapping` it has the column
        `asset_id`, with `images_dir` the column `path`, too.  A table read from file
        has a new RangeIndex, a DataFrame keeps its own index.  The identifiers
        `dr7objid`, `objid` and `asset_id` are int64; only an `asset_id` that is
        missing for some rows, which can be without `images_dir` alone, is Int64.

    Raises
    ------
    FileNotFoundError
        If a file or `images_dir` does not exist.

    ValueError
        If a file has an unknown suffix, a column is missing, identifiers are not
        whole numbers or were stored as floats, or no galaxy at all has an image.

    Warns
    -----
    UserWarning
        If rows were dropped since they have no image, with their number.

    See Also
    --------
    skdistill.datasets.make_galaxies : Simulate galaxies and votes.

    Notes
    -----
    The votes are those of [1]_, debiased by [2]_; the images and the mapping are
    published in [3]_.  Cite them and the Sloan Digital Sky Survey if you use them.
    Identifiers exceed 2**53, so that as floats different galaxies become one.

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
    # A copy is one block of memory: pandas warns about adding a column to many.
    galaxies = _read(votes, "votes").copy()
    if "asset_id" not in galaxies and mapping is not None:
        galaxies["asset_id"] = _asset_ids(galaxies, mapping)
    if images_dir is None:
        return galaxies
    if "asset_id" not in galaxies:
        raise ValueError(
            "`votes` must have a column 'asset_id' to find images, or `mapping` must "
            f"be given; got {_columns(galaxies)}."
        )
    galaxies["path"] = galaxies["asset_id"].map(_image_paths(images_dir))
    found = galaxies["path"].notna()
    if not found.any():
        raise ValueError(
            f"`images_dir` must contain an image of at least one of the {len(found)} "
            f"galaxies, named '{{asset_id}}.jpg'; found none in '{images_dir}'."
        )
    if not found.all():
        warnings.warn(
            f"Dropped {(~found).sum()} of {len(found)} galaxies: they have no image in "
            f"'{images_dir}'.",
            UserWarning,
            stacklevel=2,
        )
    galaxies = galaxies[found].astype({"asset_id": "int64"})
    return (
        galaxies if isinstance(votes, pd.DataFrame) else galaxies.reset_index(drop=True)
    )


def _read(table: str | os.PathLike[str] | pd.DataFrame, name: str) -> pd.DataFrame:
    """Read the table of the parameter `name`, its identifiers as exact integers."""
    if isinstance(table, pd.DataFrame):
        frame, source = table.copy(), "the DataFrame"
    else:
        path = Path(table)
        source = f"'{path}'"
        if not path.is_file():
            raise FileNotFoundError(f"`{name}` must be an existing file; got {source}.")
        if path.name.endswith((".csv", ".csv.gz")):
            # As text first: one missing identifier would turn all of them to floats.
            text = dict.fromkeys(_ID_COLUMNS, str)
            frame = pd.read_csv(path, dtype=text, low_memory=False)
        elif path.suffix == ".parquet":
            frame = pd.read_parquet(path).reset_index(drop=True)
        else:
            raise ValueError(
                f"`{name}` must end in .csv, .csv.gz or .parquet; got {source}."
            )
    for column in frame.columns.intersection(_ID_COLUMNS):
        frame[column] = _exact(frame[column], f"`{name}` ({source})")
    return frame


def _exact(ids: pd.Series, source: str) -> pd.Series:
    if pd.api.types.is_float_dtype(ids.dtype):
        raise ValueError(
            f"{source} must have whole numbers in column '{ids.name}'; got "
            f"{ids.dtype}, which cannot hold identifiers above 2**53 exactly. Read the "
            "column as int64 or text."
        )
    try:
        return ids.astype("int64")
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{source} must have whole numbers in column '{ids.name}': {error}."
        ) from error


def _asset_ids(
    galaxies: pd.DataFrame, mapping: str | os.PathLike[str] | pd.DataFrame
) -> pd.Series:
    """Asset of each galaxy, Int64 with missing values where it has none."""
    table = _read(mapping, "mapping")
    missing = {"objid", "asset_id"}.difference(table.columns)
    if missing:
        raise ValueError(
            f"`mapping` must have the columns 'objid' and 'asset_id'; missing "
            f"{sorted(missing)}, got {_columns(table)}."
        )
    key = next((name for name in ("dr7objid", "objid") if name in galaxies), None)
    if key is None:
        raise ValueError(
            "`votes` must have a column 'dr7objid' or 'objid' to be joined with "
            f"`mapping`; got {_columns(galaxies)}."
        )
    assets = table.drop_duplicates("objid").set_index("objid")["asset_id"]
    matched = galaxies[key].map(assets.astype("Int64"))
    return matched if matched.hasnans else matched.astype("int64")


def _image_paths(images_dir: str | os.PathLike[str]) -> dict[int, str]:
    """Path of the image of each asset: one listing instead of a look at each file."""
    folder = Path(images_dir)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"`images_dir` must be an existing folder; got '{folder}'."
        )
    names = os.listdir(folder)
    paths = {}
    for suffix in reversed(_IMAGE_SUFFIXES):
        for name in names:
            stem, end = os.path.splitext(name)
            if end == suffix and stem.isdecimal():
                paths[int(stem)] = os.path.join(folder, name)
    return paths


def _columns(frame: pd.DataFrame) -> str:
    names = [str(name) for name in frame.columns]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"the columns {names[:10]}{more}"
