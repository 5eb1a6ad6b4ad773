"""Votes of volunteers from the columns of a catalog, and what they amount to."""

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd

from skdistill.curation._questions import (
    CLEAN_DEBIASED,
    CLEAN_VOTES,
    GALAXY_DATASETS_NAMES,
)
from skdistill.curation._tree import NINE, VoteTree
from skdistill.utils._frames import how_to_pass
from skdistill.utils._plain import told

_COUNT_COLUMNS = (
    "total_classifications",
    "total_votes",
    "smooth-or-featured-gz2_total-votes",
)
# Published fractions are rounded, or went through float32, and sums are inexact: a vote
# that is a limit is neither beyond it nor short of it.
_VOTE_TOLERANCE = 1e-6
# Of sums of votes that were rounded to two digits.
_SUM_TOLERANCE = 0.021
# Minimum number of galaxies to detect the kind of votes.
_N_TELLING = 5
_SEPARATORS = (".", "-", ":", " ", "")
_PLACEHOLDER = re.compile(r"-1|-9+")


def read_votes(
    catalog: pd.DataFrame,
    suffix: str | None,
    tree: VoteTree = NINE,
    *,
    answers: tuple[str, ...] | None = None,
    columns: str | Mapping[str, str] | None = None,
    limit: float = 1.0,
    unit: str = "fraction",
) -> np.ndarray:
    """Read the votes for the answers of a tree.

    Parameters
    ----------
    catalog : DataFrame of shape (n_galaxies, n_columns)
        One row per galaxy.
    suffix : str or None
        Suffix of the columns.
    tree : VoteTree
        The tree.
    answers : tuple of str, default=None
        Which of its answers; None takes those on the way to a class.
    columns : str, mapping or None, default=None
        Pattern of the names of the columns, or a column for each answer.
    limit : float, default=1.0
        The largest possible vote.
    unit : {"fraction", "percent", "count"}, default="fraction"
        What they are stored as; `limit` is that of fractions.

    Returns
    -------
    votes : ndarray of shape (n_galaxies, n_answers), dtype float64
        NaN where there is none.
    """
    if not isinstance(catalog, pd.DataFrame):
        raise TypeError(
            "`catalog` must be a DataFrame with one row per galaxy and vote columns; "
            f"got {type(catalog).__name__}{how_to_pass(catalog)}"
        )
    if len(catalog) == 0:
        raise ValueError("`catalog` must have at least one row; got 0")

    answers = tree.answers if answers is None else answers
    if unit == "count":
        return _shares(catalog, suffix, tree, answers, columns)
    if unit == "percent":
        limit *= 100
    names = _vote_columns(catalog, suffix, tree, answers, columns)
    table = catalog[names]
    if table.shape[1] != len(names):
        twice = table.columns[table.columns.duplicated()].unique().tolist()
        raise ValueError(f"Vote columns must be unique; found more than once: {twice}")
    not_numeric = [c for c in names if not pd.api.types.is_numeric_dtype(table[c])]
    if not_numeric:
        first = table[not_numeric[0]]
        raise ValueError(
            f"Vote columns must be numeric; {not_numeric[0]!r} has dtype "
            f"{first.dtype}{_strange_value(first)}. Not numeric: {not_numeric}"
        )

    votes = table.to_numpy(dtype=np.float64, na_value=np.nan)
    # NaN passes: comparisons with it are false.
    wrong = np.argwhere((votes < -_VOTE_TOLERANCE) | (votes > limit + _VOTE_TOLERANCE))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"Votes must lie in [0, {limit:g}]; got {votes[row, column]:.9g} for "
            f"{names[column]!r} in row {told(catalog.index[row])} ({len(wrong)} values "
            "out of range with "
            f"`votes={suffix!r}`).{_cure(votes[tuple(wrong.T)], votes)}"
        )
    if unit == "fraction":
        return votes
    if 0 < np.nanmax(votes, initial=0) <= 1:
        raise ValueError(
            f"The largest vote is {np.nanmax(votes):g}, which suggests fractions "
            "rather than percent: use `vote_unit='fraction'`"
        )
    return votes / 100


def _strange_value(column: pd.Series) -> str:
    """Name the first value that is no number, as "--" among numbers that are text."""
    known = column.dropna()
    for row, value in zip(known.index, known, strict=True):
        try:
            float(value)
        except (TypeError, ValueError):
            return f", and {told(value)} in row {told(row)} is not a number"
    first = f", and its first value is {told(known.iloc[0])}" if len(known) else ""
    return f"{first}: use pd.to_numeric to convert it"


def _shares(
    catalog: pd.DataFrame,
    suffix: str | None,
    tree: VoteTree,
    answers: tuple[str, ...],
    columns: str | Mapping[str, str] | None,
) -> np.ndarray:
    """Return the share of each answer in the numbers of votes for its question."""
    question_of = {a: q for q, some in tree.answers_of.items() for a in some}
    shares: dict[str, np.ndarray] = {}
    for question in dict.fromkeys(question_of[answer] for answer in answers):
        some = tree.answers_of[question]
        counts = read_votes(
            catalog, suffix, tree, answers=some, columns=columns, limit=np.inf
        )
        total = np.nansum(counts, axis=1, keepdims=True)
        # Nobody was asked: no share.
        total[total == 0] = np.nan
        shares |= dict(zip(some, (counts / total).T, strict=True))
    return np.stack([shares[answer] for answer in answers], axis=1)


def _cure(wrong: np.ndarray, votes: np.ndarray) -> str:
    """Say what votes out of range probably are, and what makes fractions of them."""
    negative = {f"{value:g}" for value in wrong[wrong < 0]}
    placeholders = sorted(text for text in negative if _PLACEHOLDER.fullmatch(text))
    if placeholders:
        return (
            f" {', '.join(placeholders)} often marks a missing vote: replace it by NaN."
        )
    if negative or np.isinf(wrong).any():
        return ""
    known = votes[np.isfinite(votes)]
    if (known == np.rint(known)).all():
        cure = (
            " They look like numbers of votes: use `vote_unit='count'` to divide "
            "them by the total number of votes for the question."
        )
        if known.max() <= 100:
            cure += (
                " If they are percentages, use `vote_unit='percent'` to divide "
                "them by 100."
            )
        return cure
    if known.max() <= 100 + _SUM_TOLERANCE and len(wrong) > 0.05 * len(known):
        return (
            " They look like percentages: use `vote_unit='percent'` to divide "
            "them by 100."
        )
    return ""


def _named(answer: str, question: str, suffix: str | None, pattern: str) -> str:
    text = pattern.replace("{answer}", answer[len(question) + 1 :])
    return text.replace("{question}", question).replace("{votes}", str(suffix or ""))


def _vote_columns(
    catalog: pd.DataFrame,
    suffix: str | None,
    tree: VoteTree,
    answers: tuple[str, ...],
    columns: str | Mapping[str, str] | None,
) -> list[str]:
    """Names of the vote columns in the order of the answers."""
    question_of = {a: q for q, some in tree.answers_of.items() for a in some}
    present = set(catalog.columns)
    if columns is not None:
        if isinstance(columns, str):
            if not {"{question}", "{answer}"} <= set(re.findall(r"{\w+}", columns)):
                raise ValueError(
                    "`columns` as a pattern must contain '{question}' and "
                    f"'{{answer}}'; got {columns!r}"
                )
            given = {a: _named(a, question_of[a], suffix, columns) for a in answers}
        else:
            given = dict(columns)
        lacking = [answer for answer in answers if answer not in given]
        if lacking and set(lacking) <= set(map(str, given.values())):
            raise ValueError(
                "`columns` must have the answers of the tree as keys and the "
                "columns as values, not the reverse: use {v: k for k, v in "
                "columns.items()}"
            )
        if lacking:
            raise ValueError(
                "`columns` must have a column for each answer of the tree; "
                f"missing: {lacking}"
            )
        names = [given[answer] for answer in answers]
        missing = [name for name in names if name not in present]
        if missing:
            raise ValueError(
                f"`columns` names columns that are not in the catalog: {missing}; "
                f"its columns are {[str(c) for c in catalog.columns][:20]}"
            )
        return names
    end = "" if suffix is None else f"_{suffix}"
    namings = [list(answers), [GALAXY_DATASETS_NAMES.get(a, a) for a in answers]]
    for separator in _SEPARATORS:
        pattern = "{question}" + separator + "{answer}"
        namings.append([_named(a, question_of[a], None, pattern) for a in answers])
    # Of the ways to name answers, the one that this catalog follows.
    naming = max(namings, key=lambda names: sum(f"{n}{end}" in present for n in names))
    names = [f"{name}{end}" for name in naming]
    missing = [name for name in names if name not in present]
    if missing:
        strings = [column for column in catalog.columns if isinstance(column, str)]
        complete = set()
        for naming in namings:
            suffixes = [
                {c[len(name) + 1 :] for c in strings if c.startswith(f"{name}_")}
                for name in naming
            ]
            complete |= set.intersection(*suffixes)
        raise ValueError(
            f"`votes={suffix!r}` requires a column for each of the {len(answers)} "
            f"answers of the tree; missing: {missing}. Vote suffixes for which all "
            f"columns exist: {sorted(complete)}. Use `columns` if they have other "
            "names"
        )
    return names


def are_clean(
    catalog: pd.DataFrame,
    codes: np.ndarray,
    votes: np.ndarray,
    tree: VoteTree,
    n_votes: int,
    cumulative: bool = False,
    columns: str | Mapping[str, str] | None = None,
    unit: str = "fraction",
) -> np.ndarray:
    """Return which galaxies are clean in the sense of Willett et al.

    Parameters
    ----------
    catalog : DataFrame of shape (n_galaxies, n_columns)
        One row per galaxy.
    codes : ndarray of shape (n_galaxies,)
        Index of the class of each; -1 for those without.
    votes : ndarray of shape (n_galaxies, n_answers)
        What :func:`read_votes` returned.
    tree : VoteTree
        The tree.
    n_votes : {10, 20}
        Which thresholds.
    cumulative : bool, default=False
        Whether the votes are cumulative, for which there are no thresholds.
    columns : str, mapping or None, default=None
        As of :func:`read_votes`; only a pattern with `{votes}` has several suffixes.
    unit : {"fraction", "percent", "count"}, default="fraction"
        What the votes are stored as; debiased votes are never numbers of votes.

    Returns
    -------
    clean : ndarray of shape (n_galaxies,), dtype bool
        Which are.
    """
    if cumulative:
        raise ValueError(
            f"`clean={n_votes}` has thresholds for shares of the volunteers who "
            "were asked, but the votes are cumulative"
        )
    strange = [q for q in tree.answers_of if q not in CLEAN_VOTES]
    if strange:
        raise ValueError(
            f"`clean={n_votes}` has thresholds for the questions of Galaxy Zoo 2, "
            f"but the tree has others: {strange}"
        )
    has_suffixes = isinstance(columns, str) and "{votes}" in columns
    pattern = columns if has_suffixes else None
    shares = "percent" if unit == "percent" else "fraction"
    debiased = read_votes(catalog, "debiased", tree, columns=pattern, unit=shares)
    column = {answer: i for i, answer in enumerate(tree.answers)}
    counts: dict[str, np.ndarray] = {}
    clean = np.zeros(len(catalog), dtype=bool)
    for code, (leaf, path) in enumerate(tree.leaves.items()):
        rows = np.flatnonzero(codes == code)
        gates: dict[str, float] = {}
        for question in tree.questions[leaf]:
            for answer, thresholds in CLEAN_VOTES[question].items():
                gates[answer] = max(gates.get(answer, 0), thresholds[n_votes == 20])
        passed = np.ones(len(rows), dtype=bool)
        for question, step in zip(tree.questions[leaf], path, strict=True):
            # A comparison with NaN is false: no vote is no clean answer.
            if step[0] in gates:
                least = gates.pop(step[0]) - _VOTE_TOLERANCE
                passed &= votes[rows, column[step[0]]] >= least
                continue
            sums = _add_votes(debiased[rows], step, column)
            passed &= sums >= CLEAN_DEBIASED - _VOTE_TOLERANCE
            if question not in counts:
                answers = tree.answers_of[question]
                counts[question] = np.nan_to_num(
                    read_votes(
                        catalog,
                        "count",
                        tree,
                        answers=answers,
                        columns=pattern,
                        limit=np.inf,
                    )
                ).sum(axis=1)
            passed &= counts[question][rows] >= n_votes
        if gates:
            raise ValueError(
                f"`clean={n_votes}` requires the questions {list(gates)} before "
                f"the class {leaf!r} in the tree"
            )
        clean[rows] = passed
    return clean


def _add_votes(
    votes: np.ndarray, step: Iterable[str], column: Mapping[str, int]
) -> np.ndarray:
    return np.nan_to_num(votes[:, [column[answer] for answer in step]]).sum(axis=1)


def have_votes(
    catalog: pd.DataFrame,
    min_votes: int,
    columns: str | Mapping[str, str] | None = None,
    counted: Callable[[], np.ndarray] | None = None,
) -> np.ndarray:
    """Return which galaxies have enough volunteers.

    Parameters
    ----------
    catalog : DataFrame of shape (n_galaxies, n_columns)
        One row per galaxy.
    min_votes : int
        How many are enough.
    columns : str, mapping or None, default=None
        As of :func:`read_votes`; a mapping may have a name for the number of votes.
    counted : callable, default=None
        Returns the number of votes of each galaxy for the first question; None where
        votes are no numbers of votes.

    Returns
    -------
    able : ndarray of shape (n_galaxies,), dtype bool
        Which have as many.
    """
    if min_votes == 0:
        return np.ones(len(catalog), dtype=bool)
    names = dict(columns) if isinstance(columns, Mapping) else {}
    candidates = [names.get(name, name) for name in _COUNT_COLUMNS]
    column = next((c for c in candidates if c in catalog.columns), None)
    if column is None and counted is not None:
        return np.asarray(counted() >= min_votes)
    if column is None:
        raise ValueError(
            f"`min_votes={min_votes}` requires one of the columns {candidates}, "
            "which the catalog does not have. Use `columns={'total_votes': ...}` "
            "to name the column, or `min_votes=0` to skip this selection"
        )
    if not pd.api.types.is_numeric_dtype(catalog[column]):
        raise ValueError(
            f"`min_votes={min_votes}` requires numbers in {column!r}; its dtype is "
            f"{catalog[column].dtype}"
        )
    counts = catalog[column].to_numpy(dtype=np.float64, na_value=np.nan)
    return counts >= min_votes


def look_cumulative(votes: np.ndarray, tree: VoteTree) -> bool:
    """Tell whether votes are already multiplied with those that lead to the question.

    Parameters
    ----------
    votes : ndarray of shape (n_galaxies, n_answers)
        What :func:`read_votes` returned.
    tree : VoteTree
        The tree.

    Returns
    -------
    cumulative : bool
        Whether the votes for the answers of a question add up to those that lead to it
        in nearly all galaxies, and for no question to 1.
    """
    column = {answer: i for i, answer in enumerate(tree.answers)}

    def total(answers: Iterable[str]) -> np.ndarray:
        return votes[:, [column[answer] for answer in answers]].sum(axis=1)

    # What leads to each question, which several branches may ask.
    ways: dict[str, set[tuple[str, ...]]] = {}
    for leaf, path in tree.leaves.items():
        for before, question in zip(path, tree.questions[leaf][1:], strict=False):
            ways.setdefault(question, set()).add(before)
    found = False
    for question, earlier in ways.items():
        answers = [a for a in tree.answers_of[question] if a in column]
        below, above = total(answers), total({a for b in earlier for a in b})
        # NaN is neither; 0 and 1 are what both kinds add up to.
        telling = (above > 0.05) & (above < 0.9) & (below > 0)
        if telling.sum() < _N_TELLING:
            continue
        below, above = below[telling], above[telling]
        if (np.abs(below - 1) < _SUM_TOLERANCE).mean() > 0.5:
            return False
        found |= bool((np.abs(below - above) < _SUM_TOLERANCE).mean() > 0.99)
    return found
