"""Repeat the rows of a catalog at several angles."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import validate_data

from skdistill.utils._doc_link import DocLinkMixin
from skdistill.utils._frames import as_pandas, how_to_pass, is_polars
from skdistill.utils._ids import object_ids
from skdistill.utils._image_input import unmasked
from skdistill.utils._leaks import find_leaks
from skdistill.utils._plain import told
from skdistill.utils._warnings import warn


class RotationAugmenter(DocLinkMixin, BaseEstimator):
    """Repeat every galaxy at evenly spaced angles.

    Only rows of the table are repeated, with the angle in a column `rotation`;
    `ImageReader` rotates the pixels when it reads the images, before the crop, so that
    the corners of the crop show sky.  An array has no column names: the angle is the
    last column of the result.

    Read more in the :ref:`User Guide <curation>`.

    Parameters
    ----------
    n_rotations : int, default=10
        Number of repetitions of each row. The angles are the multiples of `360 /
        n_rotations` degrees, counter-clockwise, starting at 0.
    id_column : str, sequence of str or None, default=None
        Column that identifies galaxies, as in :class:`GalaxyZooCurator`. If no column
        has the name of an id, each row is a separate galaxy.

    Attributes
    ----------
    sample_indices_ : ndarray of shape (n_rows * n_rotations,)
        Position of the source row of each row returned by `fit_resample`.
    groups_ : ndarray of shape (n_rows * n_rotations,)
        Number of the galaxy of each row returned by `fit_resample`, the same for all
        rows with the same id: the `groups` of a cross-validation, see the notes.
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns; only if there are names and all are strings.

    See Also
    --------
    ImageReader : Read images, rotated as the column `rotation` says.

    Notes
    -----
    All rotations of one galaxy are adjacent, in the order of the angles, so that the
    reader decodes each file once. Shuffle before training on batches.

    Do not rotate test images: only rotate the training rows. If rotated rows are split
    again, as in a cross-validation, all rotations of a galaxy must be in the same part;
    otherwise its label leaks into the test set. Pass `groups_` as `groups` to
    :class:`~sklearn.model_selection.GroupKFold`,
    :class:`~sklearn.model_selection.StratifiedGroupKFold` or
    :class:`~sklearn.model_selection.GroupShuffleSplit`. If rows are shuffled or left
    out before, do the same with the groups: `groups = augmenter.groups_[kept]`.

    Examples
    --------
    >>> import pandas as pd
    >>> from skdistill.curation import RotationAugmenter
    >>> rows = pd.DataFrame({"asset_id": [31, 42]}, index=["a", "b"])
    >>> augmenter = RotationAugmenter(n_rotations=3)
    >>> rotated, labels = augmenter.fit_resample(rows, ["spiral", "smooth"])
    >>> rotated
       asset_id  rotation
    a        31       0.0
    a        31     120.0
    a        31     240.0
    b        42       0.0
    b        42     120.0
    b        42     240.0
    >>> labels
    ['spiral', 'spiral', 'spiral', 'smooth', 'smooth', 'smooth']
    >>> augmenter.sample_indices_
    array([0, 0, 0, 1, 1, 1])

    In a cross-validation:

    >>> from sklearn.model_selection import GroupKFold
    >>> groups = augmenter.groups_
    >>> for train, test in GroupKFold(n_splits=2).split(rotated, labels, groups):
    ...     print(sorted(set(rotated.index[train])), sorted(set(rotated.index[test])))
    ['a'] ['b']
    ['b'] ['a']
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_rotations": [Interval(Integral, 1, None, closed="left")],
        "id_column": [str, "array-like", None],
    }

    def __init__(
        self, n_rotations: int = 10, *, id_column: str | Sequence[str] | None = None
    ):
        self.n_rotations = n_rotations
        self.id_column = id_column

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, rows: Any, y: Any = None) -> "RotationAugmenter":
        """Determine the source row of each repeated row.

        Parameters
        ----------
        rows : pandas or polars DataFrame, or array-like, of shape (n_rows, n_columns)
            One row per galaxy.
        y : array-like of shape (n_rows,), default=None
            Labels; only their number is checked.

        Returns
        -------
        self : RotationAugmenter
            The fitted augmenter.

        Raises
        ------
        TypeError
            If `rows` is another kind of table, as of astropy or of NumPy.
        ValueError
            If there are no rows, if `y` has another length, or if a column `rotation`
            holds anything but finite numbers.

        Warns
        -----
        UserWarning
            If rows share an id, so that `sample_indices_` cannot be used as groups, or
            if a galaxy is in several sets according to a column `split`.
        """
        self._check(rows, y)
        return self

    def fit_resample(self, rows: Any, y: Any = None) -> tuple[Any, Any]:
        """Repeat the rows, and the labels with them.

        Parameters
        ----------
        rows : pandas or polars DataFrame, or array-like, of shape (n_rows, n_columns)
            One row per galaxy. The new angles are added to those of a column
            `rotation`, modulo 360 degrees.
        y : array-like of shape (n_rows,), default=None
            Labels.

        Returns
        -------
        rows : DataFrame or ndarray of shape \
                (n_rows * n_rotations, n_columns or n_columns + 1)
            The rows, with their index if they have one, each repeated `n_rotations`
            times in a row, with the column `rotation` in degrees.
        y : array-like of shape (n_rows * n_rotations,) or None
            The labels, with the type of `y`; None if `y` is None.
        """
        self._validate_params()
        table, angles = self._check(rows, y)
        steps = np.arange(self.n_rotations) * 360 / self.n_rotations
        angles = (angles[:, None] + steps).ravel() % 360
        repeated: Any
        if isinstance(table, np.ndarray):
            repeated = np.column_stack([table[self.sample_indices_], angles])
        elif isinstance(table, pd.DataFrame):
            # A copy is one block of memory: pandas warns about adding a column to many.
            repeated = table.iloc[self.sample_indices_].copy().assign(rotation=angles)
        else:
            repeated = table[self.sample_indices_].with_columns(rotation=angles)
        labels = None if y is None else _safe_indexing(y, self.sample_indices_)
        return repeated, labels

    def _check(self, rows: Any, y: Any) -> tuple[Any, np.ndarray]:
        """Return the rows as a frame or an array, and the angles they have."""
        if isinstance(rows, pd.DataFrame) or is_polars(rows):
            if len(rows) == 0:
                raise ValueError("`rows` must have at least one row; got 0")
            validate_data(self, rows, skip_check_array=True)
            table = as_pandas(rows)
            angles = rotation_angles(table)
            galaxies = self._number_galaxies(table)
            rows = rows if is_polars(rows) else table
        else:
            if how := how_to_pass(rows):
                raise TypeError(
                    "`rows` must be a DataFrame or an array with 2 axes; got "
                    f"{type(rows).__name__}{how}"
                )
            rows = unmasked(rows, "rows", "rows")
            if np.ndim(rows) > 2:
                raise ValueError(
                    "`rows` must be the rows of a catalog, 2-D; got shape "
                    f"{np.shape(rows)}. To rotate the pixels of images, use "
                    "ImageReader on their files"
                )
            rows = validate_data(self, rows, dtype=None, ensure_all_finite=False)
            # Beside text numbers would become text.
            rows = rows.astype(object) if rows.dtype.kind in "SU" else rows
            angles = np.zeros(len(rows))
            galaxies = np.arange(len(rows))
        if y is not None:
            check_consistent_length(rows, y)
        self.sample_indices_ = np.repeat(np.arange(len(rows)), self.n_rotations)
        self.groups_ = galaxies[self.sample_indices_]
        return rows, angles

    def _number_galaxies(self, table: pd.DataFrame) -> np.ndarray:
        ids = object_ids(table, self.id_column)
        if "split" in table.columns:
            for message in find_leaks(table, table["split"], ids):
                warn(message)
        if ids is None:
            return np.arange(len(table))
        for note in ids.notes:
            warn(note)
        galaxies = pd.factorize(ids.ranks())[0]
        n_shared = len(galaxies) - len(np.unique(galaxies))
        if n_shared:
            warn(
                f"{n_shared} of {len(table)} rows share their id, {ids.name}, with "
                "an earlier row: use `groups_` as the groups of a "
                "cross-validation, since `sample_indices_` treats these rows as "
                "different"
            )
        return galaxies

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        return tags


def rotation_angles(rows: pd.DataFrame) -> np.ndarray:
    """Angles of the column `rotation` in degrees; zeros where there is none.

    Parameters
    ----------
    rows : DataFrame of shape (n_rows, n_columns)
        One row per galaxy.

    Returns
    -------
    angles : ndarray of shape (n_rows,)
        Degrees, counter-clockwise.
    """
    if "rotation" not in rows.columns:
        return np.zeros(len(rows))
    column = rows["rotation"]
    if not pd.api.types.is_numeric_dtype(column):
        raise ValueError(
            f"The column 'rotation' must hold degrees; its dtype is {column.dtype}"
        )
    angles = column.to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~np.isfinite(angles))
    if len(wrong):
        raise ValueError(
            "The column 'rotation' must hold finite degrees; got "
            f"{angles[wrong[0]]} in row {told(rows.index[wrong[0]])}"
        )
    return angles
