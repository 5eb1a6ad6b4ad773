"""Which columns of a table name image files and their classes."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from skdistill.datasets._tables import column_names
from skdistill.utils._ids import find_id_column, plain_name
from skdistill.utils._image_files import OTHER_SUFFIXES, SUFFIXES
from skdistill.utils._plain import told
from skdistill.utils._warnings import warn

# What image files end in, those in which nothing is named after an id included.
ENDINGS = (
    *SUFFIXES,
    *(".gif", ".bmp", ".jp2", ".jfif", ".ppm", ".pgm", ".fits.bz2"),
)
_FILES = (
    *("path", "file", "filename", "filepath", "fileloc", "imagepath", "imagefile"),
    *("imagefilename", "imagename", "image", "img", "imgpath", "imagebytes"),
)
_CLASSES = (
    *("class", "label", "target", "category", "classname", "classlabel", "labelname"),
    *("labels", "classes", "morphology", "type", "galaxytype", "species", "y"),
)
# Types of Python in a column, and the type of the classes that they are.
_KINDS: dict[tuple[type, ...], Any] = {
    (str,): str,
    (bool, np.bool_): bool,
    (int, float, np.number): np.int64,
}
# The first integer that int64 does not hold.
_END = 2**63
_N_SHOWN = 5
# Rows that are looked at.
_N_TELLING = 50


def choose_columns(
    table: pd.DataFrame,
    file_column: Any,
    class_column: Any,
    source: str,
) -> tuple[Any, Any]:
    """Choose the columns of files and of classes, with a warning for a guess.

    Parameters
    ----------
    table : DataFrame
        The table.
    file_column, class_column : str or None
        What the user named.
    source : str
        What the table is called in messages.

    Returns
    -------
    file_column, class_column : object
        Names of columns.

    Raises
    ------
    ValueError
        If a named column is not there, or none or several may be meant.
    """
    for parameter, column in (
        ("file_column", file_column),
        ("class_column", class_column),
    ):
        if column is not None and column not in table.columns:
            raise ValueError(
                f"`{parameter}={column!r}` must be a column of {source}; it has "
                f"{column_names(table)}"
            )
    headless = [c for c in table.columns if isinstance(c, str) and is_image_name(c)]
    if headless and file_column is None:
        raise ValueError(
            f"{source} has a column {headless[0]!r}, which looks like a file: the "
            "column names are missing. Set them by pd.read_csv(path, header=None, "
            "names=['file', 'class'])"
        )
    guesses = []
    if file_column is None:
        file_column, sure = _guess_files(table, class_column, source)
        if not sure:
            guesses.append(("files", file_column, "file_column"))
    if class_column is None:
        class_column, sure = _guess_classes(table, file_column, source)
        if not sure:
            guesses.append(("classes", class_column, "class_column"))
    _check_once(table, [file_column, class_column], source)
    if guesses:
        warn(
            f"Of {source} "
            + " and ".join(
                f"the column {column!r} is used as the {what}"
                for what, column, _ in guesses
            )
            + "; "
            + " and ".join(f"`{parameter}`" for _, _, parameter in guesses)
            + (" says otherwise." if len(guesses) == 1 else " say otherwise.")
        )
    return file_column, class_column


def tell_of_parts(
    table: pd.DataFrame, used: tuple[Any, ...], parts: Collection[str], source: str
) -> None:
    """Warn if a column says which rows are for training and which for testing.

    Parameters
    ----------
    table : DataFrame
    used : tuple of object
        Columns that have another meaning.
    parts : collection of str
        What parts of a data set are called, in lower case.
    source : str
        What the table is called in messages.
    """
    for column in table.columns.unique():
        values = table[column]
        if column in used or isinstance(values, pd.DataFrame) or not len(values):
            continue
        if not isinstance(values.iloc[0], str):
            continue
        found = sorted(map(str, values.dropna().unique()[: len(parts) + 1]))
        if len(found) > 1 and {name.strip().lower() for name in found} <= {*parts}:
            warn(
                f"The column {column!r} of {source} has the parts of a data set, "
                f"{found}, and the rows of all of them are loaded. For one of them "
                f"pass the rows of a DataFrame, table[table[{column!r}] == "
                f"{found[-1]!r}]"
            )


def _check_once(table: pd.DataFrame, columns: list[Any], source: str) -> None:
    for column in columns:
        if isinstance(table[column], pd.DataFrame):
            raise ValueError(f"{source} has the column {column!r} more than once")


def is_image_name(value: Any) -> bool:
    """Tell whether a text ends as image files do."""
    text = str(value).lower().rstrip()
    return text.endswith((*ENDINGS, *OTHER_SUFFIXES)) and not text.startswith("b'")


def _guess_files(table: pd.DataFrame, other: Any, source: str) -> tuple[Any, bool]:
    able = [name for name in table.columns.unique() if name != other]
    named = [n for n in able if plain_name(n) in _FILES and _names_files(table[n])]
    if len(named) == 1:
        return named[0], True
    # By what is in them, if not by their names.
    found = named or [name for name in able if _names_files(table[name])]
    if len(found) > 1:
        raise ValueError(
            f"`file_column` must name the column of {source} with the files; "
            f"candidates are {found}"
        )
    if found:
        return found[0], False
    identifier = find_id_column(able)
    if identifier is None:
        raise ValueError(
            f"`file_column` must name the column of {source} with the files, their "
            f"bytes, or the ids in their names; it has {column_names(table)}"
        )
    return identifier, False


def _names_files(column: Any) -> bool:
    """Tell whether values are images as bytes, or mostly names of image files."""
    if isinstance(
        column, pd.DataFrame
    ):  # of one name, which is an error if it is meant
        column = column.iloc[:, 0]
    if pd.api.types.is_numeric_dtype(column.dtype):
        return False
    some = column.dropna().head(_N_TELLING)
    telling = [
        isinstance(value, (bytes, dict)) or is_image_name(value) for value in some
    ]
    return bool(telling) and float(np.mean(telling)) > 0.5


def _guess_classes(table: pd.DataFrame, files: Any, source: str) -> tuple[Any, bool]:
    able = [name for name in table.columns.unique() if name != files]
    named = [name for name in able if plain_name(name) in _CLASSES]
    if len(named) == 1:
        return named[0], True
    if len(named) > 1:
        _check_once(table, named, source)
        codes = [pd.factorize(table[name])[0] for name in named]
        if any(not _are_the_same(codes[0], other) for other in codes[1:]):
            raise ValueError(
                f"`class_column` must name the column of {source} with the classes; "
                f"candidates are {named}, which differ"
            )
        # Names tell more than their numbers.
        text = [n for n in named if not pd.api.types.is_numeric_dtype(table[n].dtype)]
        return (text or named)[0], False
    if len(able) == 1:
        return able[0], False
    ended = [n for n in able if plain_name(n).endswith(("class", "label", "category"))]
    if len(ended) == 1:
        return ended[0], False
    raise ValueError(
        f"`class_column` must name the column of {source} with the classes; it has "
        f"{column_names(table)}{_one_hot(table[able])}"
    )


def _one_hot(table: pd.DataFrame) -> str:
    """Say how one-hot columns become classes, if that is what they are."""
    some = table.select_dtypes(["number", "bool"]).head(_N_TELLING)
    some = some.loc[:, some.isin([0, 1]).all()]
    if some.shape[1] < 2 or not (some.sum(axis=1) == 1).all():
        return ""
    columns = some.columns.tolist()
    shown = repr(columns) if len(columns) <= _N_SHOWN else "columns"
    return (
        f". {columns[:_N_SHOWN]} look one-hot encoded: table[{shown}].idxmax(axis=1) "
        "returns the classes"
    )


def _are_the_same(codes: np.ndarray, others: np.ndarray) -> bool:
    """Tell whether two namings of classes divide the rows alike."""
    pairs = len(set(zip(codes.tolist(), others.tolist(), strict=True)))
    return pairs == len(set(codes.tolist())) == len(set(others.tolist()))


def classes_of(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes in a column, and which rows have none.

    Parameters
    ----------
    column : Series
        Text, whole numbers or booleans.

    Returns
    -------
    classes : ndarray of shape (n_rows,)
        Of a type of its own: text, int64 or bool.  What is missing is any class.
    missing : ndarray of shape (n_rows,), dtype bool
        Which rows have none.

    Raises
    ------
    ValueError
        If there are numbers that are not whole, or values of several kinds.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    values = column.tolist()
    values = [v.decode() if isinstance(v, bytes) else v for v in values]
    missing = np.array(
        [bool(np.ndim(v) == 0 and pd.isna(v)) or v == "" for v in values], dtype=bool
    )
    known = [v for v, lacks in zip(values, missing, strict=True) if not lacks]
    must = f"The column {column.name!r} must hold classes, as strings or integers"
    if not known:
        raise ValueError(f"{must}; all {len(values)} rows are empty")
    kind = next(
        (
            kind
            for kinds, kind in _KINDS.items()
            if all(isinstance(value, kinds) for value in known)
        ),
        None,
    )
    if kind is None:
        some = sorted({type(v).__name__ for v in known})
        raise ValueError(f"{must}, all of the same type; got {some}")
    if kind is np.int64:
        for row, value in zip(column.index[~missing], known, strict=True):
            if not -_END <= value < _END:
                raise ValueError(
                    f"{must} from -2**63 to 2**63 - 1; got {told(value)} in row "
                    f"{told(row)}"
                )
            if value != int(value):
                raise ValueError(f"{must}; got {told(value)} in row {told(row)}")
        # Each by itself: together with floats large integers would become such.
        values = [
            0 if lacks else int(v) for v, lacks in zip(values, missing, strict=True)
        ]
        return np.array(values, dtype=np.int64), missing
    filled = [
        known[0] if lacks else v for v, lacks in zip(values, missing, strict=True)
    ]
    return np.array(filled).astype(kind), missing
