"""Galaxy Zoo 2 from where it is published."""

import os
import sys
import urllib.parse
import warnings
import zlib
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skdistill.datasets._download import download, remote_size
from skdistill.datasets._galaxy_zoo import (
    dropped_message,
    load_galaxy_zoo2,
    with_images,
)
from skdistill.datasets._images import extract_images, image_members, open_archive
from skdistill.utils._files import as_path
from skdistill.utils._untrusted import BoundedGzip

_URLS = {
    "votes": "https://gz2hart.s3.amazonaws.com/gz2_hart16.csv.gz",
    "mapping": "https://zenodo.org/records/3565489/files/gz2_filename_mapping.csv",
    "images": "https://zenodo.org/records/3565489/files/images_gz2.zip",
}
_FOLDER = "galaxy_zoo_2"
_ASK_ABOVE = 100_000_000  # bytes that are downloaded without a question

_DESCR = """\
Galaxy Zoo 2: morphologies of galaxies of the Sloan Digital Sky Survey (SDSS)
==============================================================================

Votes of volunteers on images of galaxies: 37 answers to 11 questions, which form a
tree.  Each answer has its number of votes (`_count`), the sum of the volunteers'
weights (`_weight`), the shares of both (`_fraction`, `_weighted_fraction`), the share
corrected for distance (`_debiased`) and a flag for clean samples (`_flag`).  The
images are JPEG files of 424 x 424 pixels.

Votes    Willett, K. W. et al. (2013). Galaxy Zoo 2. Monthly Notices of the Royal
         Astronomical Society 435, 2835.
         Hart, R. E. et al. (2016). Galaxy Zoo: comparing the demographics of spiral arm
         number and a new method for correcting redshift bias. Monthly Notices of the
         Royal Astronomical Society 461, 3663.
Images   Galaxy Zoo 2: images from original sample.
         https://doi.org/10.5281/zenodo.3565489
         From the SDSS, https://www.sdss.org.

Cite these sources if you use the data.
"""


@validate_params(
    {
        "data_home": [str, os.PathLike, None],
        "images": ["boolean", StrOptions({"ask"})],
        "extract": ["boolean"],
        "votes": [str],
        "download_if_missing": ["boolean"],
        "urls": [Mapping, None],
        "sha256": [Mapping, None],
        "n_retries": [Interval(Integral, 0, None, closed="left")],
        "delay": [Interval(Real, 0, None, closed="left")],
        "return_X_y": ["boolean"],
        "as_frame": ["boolean"],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def fetch_galaxy_zoo2(
    *,
    data_home: str | os.PathLike[str] | None = None,
    images: bool | str = "ask",
    extract: bool = False,
    votes: str = "fraction",
    download_if_missing: bool = True,
    urls: Mapping[str, str] | None = None,
    sha256: Mapping[str, str] | None = None,
    n_retries: int = 3,
    delay: float = 1.0,
    return_X_y: bool = False,
    as_frame: bool = True,
    verbose: int = 1,
) -> Any:
    """Load Galaxy Zoo 2: the votes and the images; download them if necessary.

    Three files are downloaded once: the votes of Hart et al. [2]_, the images, and the
    table that joins both [3]_.  An interrupted download is resumed at the
    next call.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder of the data sets.  None uses the folder of scikit-learn, see
        :func:`sklearn.datasets.get_data_home`.  The files are stored in its sub-folder
        `galaxy_zoo_2`.
    images : bool or "ask", default="ask"
        Whether to load the images, 3 GB.  "ask" uses them if they have been downloaded
        already; otherwise it asks on a terminal whether to download them, and raises an
        error that states their size if the session is not interactive.
    extract : bool, default=False
        Whether to extract the images to separate files, after which the archive may be
        removed.  Otherwise they are read directly from the archive: a `path` is then
        `"{archive}!/{member}"`, as :class:`~skdistill.ImageReader` understands it.
    votes : str, default="fraction"
        Suffix of the vote columns that `target` is made from.
    download_if_missing : bool, default=True
        If False, raise an OSError if files are missing instead of downloading them.
    urls : mapping of str to str, default=None
        URLs of "votes", "mapping" or "images", for example of a mirror, that replace
        the published ones.  A file keeps the name in its URL.
    sha256 : mapping of str to str, default=None
        Expected SHA-256 of "votes", "mapping" or "images".  None are published; by
        default, the checksum of the first download is stored next to the file and
        checked afterwards.
    n_retries : int, default=3
        Number of retries after an attempt without progress.  Attempts with progress do
        not count.
    delay : float, default=1.0
        Seconds between the first two attempts, doubled each time.  A longer delay
        requested by the server is respected, up to two minutes.
    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.
    as_frame : bool, default=True
        Whether `data` is a DataFrame and `target` a Series.  If False, both are arrays,
        and `data` has only the vote columns.
    verbose : int, default=1
        Whether to show progress and waiting times; 0 is silent.

    Returns
    -------
    galaxies : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the following attributes.

        data : DataFrame of shape (n_galaxies, n_columns) or ndarray of shape \
                (n_galaxies, n_votes)
            The catalog: identifiers as int64, votes, `asset_id`, and the `path` of
            the image if there are images.  In that case galaxies without an image are
            left out.  It can be passed to :class:`~skdistill.GalaxyZooCurator` and
            :class:`~skdistill.ImageReader`.
        target : Series or ndarray of shape (n_galaxies,)
            Name of the class with the highest product of votes, as in
            `GalaxyZooCurator.labels_`; None for the few galaxies without a vote for any
            class.
        frame : DataFrame of shape (n_galaxies, n_columns + 1)
            `data` with the column `label`; None unless `as_frame=True`.
        feature_names : list of str
            The columns of `data`.
        target_names : list of str
            The nine classes, in the order of the tree.
        filenames : ndarray of shape (n_galaxies,)
            The paths of the images; None without images.
        n_without_image : int
            Number of galaxies of the catalog that were left out.
        sha256 : dict
            Checksums of the files that were used.
        DESCR : str
            Description of the data, with references.
    (data, target) : tuple if `return_X_y=True`
        Both as above.

    Raises
    ------
    OSError
        If a file cannot be downloaded or does not fit on the disk, if it is not the
        expected one, or if it is missing and `download_if_missing=False`.
    ValueError
        If the images would have to be downloaded without consent, or if a file does not
        have the expected content.

    Warns
    -----
    UserWarning
        If galaxies have no image, which is the case for some hundreds.

    See Also
    --------
    load_galaxy_zoo2 : Load files that are on disk, of any survey.
    skdistill.GalaxyZooCurator : Choose galaxies by their votes.
    skdistill.ImageReader : Read the images of the rows.

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
    >>> from skdistill.datasets import fetch_galaxy_zoo2
    >>> galaxies = fetch_galaxy_zoo2(images=True)  # doctest: +SKIP
    >>> galaxies.target.value_counts()  # doctest: +SKIP
    """
    sources = {**_URLS, **_known("urls", urls)}
    expected = _known("sha256", sha256)
    if data_home is not None:
        data_home = as_path(data_home, "data_home")
    folder = Path(get_data_home(data_home)) / _FOLDER
    paths = {name: folder / _file_name(name, url) for name, url in sources.items()}

    archive = paths["images"]
    place = folder / archive.stem if extract else archive
    with_paths = images is not False and (
        place.exists()
        or archive.exists()
        or images is True
        or not download_if_missing
        or _agreed(sources["images"], archive)
    )
    names = ["votes", "mapping"]
    # Once they are extracted the archive may be gone.
    if with_paths and not (extract and place.exists()):
        names.append("images")
    missing = [str(paths[name]) for name in names if not paths[name].exists()]
    if missing and not download_if_missing:
        raise OSError(
            f"Files are missing, and `download_if_missing` is False: {missing}."
            + (
                " Use `images=False` to load the table without images."
                if "images" in names
                else ""
            )
        )
    checksums = {
        name: download(
            sources[name],
            paths[name],
            sha256=expected.get(name),
            check=_CHECKS[name],
            n_retries=n_retries,
            delay=delay,
            verbose=bool(verbose),
        )
        for name in names
    }

    galaxies = load_galaxy_zoo2(paths["votes"], mapping=paths["mapping"])
    n_without_image = 0
    if with_paths:
        if extract:
            extract_images(archive, place, progress=bool(verbose))
        galaxies, n_without_image = with_images(galaxies, place)
        galaxies = galaxies.reset_index(drop=True)
        if n_without_image:
            # The caller is one further up: the parameters are validated between.
            message = dropped_message(n_without_image, galaxies, place)
            warnings.warn(message, stacklevel=3)
    labels, target_names = _label(galaxies, votes)
    bunch = _bunch(galaxies, labels, as_frame)
    if return_X_y:
        return bunch.data, bunch.target
    return Bunch(
        **bunch,
        target_names=target_names,
        filenames=galaxies["path"].to_numpy(object) if with_paths else None,
        n_without_image=n_without_image,
        sha256=checksums,
        DESCR=_DESCR,
    )


def _known(name: str, given: Mapping[str, str] | None) -> Mapping[str, str]:
    unknown = set(given or ()).difference(_URLS)
    if unknown:
        raise ValueError(
            f"`{name}` must have keys of {sorted(_URLS)}; got {sorted(unknown)}"
        )
    return given or {}


def _file_name(name: str, url: str) -> str:
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    file_name = PurePosixPath(path.replace("\\", "/")).name
    if file_name in ("", "..") or (name == "images" and not file_name.endswith(".zip")):
        ending = "a .zip file" if name == "images" else "a file"
        raise ValueError(f"`urls` must name {ending} for '{name}'; got {url!r}")
    return file_name


def _agreed(url: str, path: Path) -> bool:
    """Tell whether to download the images, after asking if that takes long."""
    total, present = remote_size(url, path)
    if total is not None and total - present < _ASK_ABOVE:
        return True
    size = "about 3 GB" if total is None else f"{total / 1e9:.1f} GB"
    what = f"the images of Galaxy Zoo 2, {size}"
    if present:
        what += f" of which {present / 1e9:.1f} GB have already been downloaded"
    if sys.stdin is None or not sys.stdin.isatty():
        raise ValueError(
            f"`images` must be True to download {what}, from {url} to "
            f"'{path.parent}', or False to skip them; got 'ask', but the session is "
            "not interactive"
        )
    answer = input(f"Download {what}, to '{path.parent}'? [y/N] ")
    return answer.strip().lower() in ("y", "yes")


def _check_table(path: Path, columns: set[str], compressed: bool) -> None:
    """Raise a ValueError if a table is truncated or a different file."""
    if compressed:
        try:
            with BoundedGzip(path) as file:
                while file.read(2**20):
                    pass
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise ValueError(f"it is not a valid gzip file: {error}") from error
    compression: Any = "gzip" if compressed else None
    header = pd.read_csv(path, nrows=0, compression=compression).columns
    if not columns.intersection(header):
        raise ValueError(
            f"it must be a table with the columns {sorted(columns)}; its first "
            f"columns are {header.tolist()[:5]}"
        )


def _check_votes(path: Path) -> None:
    name = path.name.removesuffix(".part").lower()
    if name.endswith((".csv", ".csv.gz")):
        _check_table(path, {"dr7objid", "objid"}, name.endswith(".gz"))


def _check_mapping(path: Path) -> None:
    name = path.name.removesuffix(".part").lower()
    if name.endswith((".csv", ".csv.gz")):
        _check_table(path, {"asset_id"}, name.endswith(".gz"))


def _check_images(path: Path) -> None:
    with open_archive(path) as archive:
        if not image_members(archive):
            raise ValueError("it has no images whose name is a number")


_CHECKS = {"votes": _check_votes, "mapping": _check_mapping, "images": _check_images}


def _label(galaxies: pd.DataFrame, votes: str) -> tuple[np.ndarray, list[str]]:
    """Return the class of each galaxy, and all classes."""
    # Not with the package: it takes longer to load than the rest.
    from skdistill.curation import GalaxyZooCurator

    # A mirror of a few galaxies may lack classes.
    curator = GalaxyZooCurator(
        n_train=None, n_test=0, votes=votes, rare_classes="drop"
    ).fit(galaxies)
    return curator.labels_, curator.classes_.tolist()


def _bunch(galaxies: pd.DataFrame, labels: np.ndarray, as_frame: bool) -> Bunch:
    if as_frame:
        frame = galaxies.assign(label=labels)
        return Bunch(
            data=galaxies,
            target=frame["label"],
            frame=frame,
            feature_names=galaxies.columns.tolist(),
        )
    # The columns of answers all begin with the number of their task.
    names = [c for c in galaxies.columns if c[:1] == "t" and c[1:3].isdecimal()]
    return Bunch(
        data=galaxies[names].to_numpy(dtype=np.float64, na_value=np.nan),
        target=labels,
        frame=None,
        feature_names=names,
    )
