"""Labels, and a balanced choice of galaxies, from the votes of volunteers."""

from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    Interval,
    Options,
    RealNotInt,
    StrOptions,
)
from sklearn.utils.validation import check_is_fitted

from skdistill.curation._tree import (
    TREES,
    VoteTree,
    leaf_labels,
    leaf_scores,
    parse_tree,
)
from skdistill.curation._votes import (
    are_clean,
    have_votes,
    look_cumulative,
    read_votes,
)
from skdistill.utils._doc_link import DocLinkMixin
from skdistill.utils._frames import as_pandas, is_polars
from skdistill.utils._ids import object_ids
from skdistill.utils._leaks import find_leaks, object_ranks
from skdistill.utils._warnings import warn


class GalaxyZooCurator(TransformerMixin, DocLinkMixin, BaseEstimator):
    """Label galaxies by volunteers' votes and select the clearest of each class.

    Every galaxy gets a score for each leaf of a tree of questions, by default the nine
    leaves used for Galaxy Zoo 2, from the votes on the path to that leaf. Its label is
    the leaf with the highest score, its confidence is that score. The most confident
    galaxies of each class are selected and divided at random into a training and a test
    set, which have the same size for all classes. Only the table of votes is needed, no
    images.

    Read more in the :ref:`User Guide <curation>`.

    Parameters
    ----------
    n_train : int or None, default=500
        Training galaxies per class. None uses all that are not in the test set, so that
        classes differ in size.
    n_test : int or float, default=100
        Test galaxies per class. A float in (0, 1) is the share of the selected galaxies
        of a class, rounded to whole galaxies and at least one: of all galaxies of the
        class if `n_train=None`, else of the `n_train / (1 - n_test)` most confident
        ones.
    confidence : {"product", "mean", "min"}, default="product"
        How the score of a leaf is computed from the votes on the path to it. The
        product is the share of voters who would take this path if the answers were
        independent.
    votes : str or None, default="fraction"
        Suffix of the vote columns, as in `t01_smooth_or_features_a01_smooth_fraction`:
        "fraction", "weighted_fraction", "debiased" or any other suffix of columns with
        values in [0, 1]. Use None if columns have no suffix: `{question}_{answer}`.
    cumulative : bool or "auto", default="auto"
        Whether the votes for an answer are shares of all volunteers, already multiplied
        by the votes that lead to its question, as in the table of the Kaggle challenge.
        In that case the product is the vote for the last answer of the path; "mean" and
        "min" use the votes as they are. "auto" treats votes as cumulative, with a
        warning, if those for the answers to each question add up to those that lead to
        it.
    columns : str, mapping or None, default=None
        Names of the vote columns, if they are not `{question}_{answer}` and the suffix:
        a pattern such as `"{question}.{answer}"`, or a column for each
        `"{question}_{answer}"`. In that case `votes` is only used for `{votes}` in the
        pattern. None also finds columns with `.`, `-`, `:`, a blank or nothing between
        question and answer.
    vote_unit : {"fraction", "percent", "count"}, default="fraction"
        The unit of the votes: shares in [0, 1], shares in percent, or numbers of votes.
        Numbers require a column for every answer to a question in the tree, including
        answers that lead to no class, and are divided by their sum; if it is 0, nobody
        was asked.
    id_column : str, sequence of str or None, default=None
        Column or columns that identify a galaxy; "index" is the index. None uses the
        first column with the name of an id, see the notes.
    tree : {"nine", "gz2"} or dict, default="nine"
        The questions and the classes. "nine" has the classes of [3]_, "gz2" a class for
        each of the 1,265 paths through all 37 answers of Galaxy Zoo 2. A custom tree is
        `{question: {answer: below, ...}}`, where `below` is the name of a class,
        another such dict, or None if there is no class; a tuple of answers means any of
        them. :func:`~skdistill.curation.vote_tree` creates a tree from a list of
        questions.
    min_votes : int, default=0
        Galaxies with fewer volunteers get a label but are never selected. The number is
        read from `total_classifications`, else `total_votes`, else
        `smooth-or-featured-gz2_total-votes`, which a mapping `columns` may rename;
        else, if votes are counts, the number for the first question is used. A galaxy
        without a number counts as having too few.
    clean : {None, 10, 20}, default=None
        Select only galaxies whose path to the leaf is well sampled, by the thresholds
        of [1]_, table 3, for at least 10 or 20 votes: `votes` of each answer that leads
        to a further question are at least the threshold of that question, the
        `debiased` votes of the other answers on the path are at least 0.8, and their
        questions have at least 10 or 20 votes in the `count` columns. Requires the
        questions of Galaxy Zoo 2.
    rare_classes : {"raise", "drop"}, default="raise"
        What to do with classes that have fewer galaxies than requested: raise an error,
        or select none of them.
    random_state : int, RandomState instance or None, default=None
        Controls which of the selected galaxies are test galaxies; pass an int for
        reproducible results.

    Attributes
    ----------
    cumulative_ : bool
        Whether the votes were treated as cumulative.
    classes_ : ndarray of shape (n_classes,)
        Names of the classes in the order of the tree. (A classifier sorts the names of
        its classes alphabetically.)
    scores_ : ndarray of shape (n_galaxies, n_classes)
        Scores of the leaves, columns in the order of `classes_`; NaN for a galaxy
        without a finite vote.
    labels_ : ndarray of shape (n_galaxies,), dtype object
        Name of the class of every galaxy, None for those without a label.
    confidence_ : ndarray of shape (n_galaxies,)
        Score of the label, NaN for galaxies without a label.
    sample_indices_ : ndarray of shape (n_selected,)
        Positions of the selected galaxies in the catalog, class by class, the most
        confident first.
    selected_ : DataFrame of shape (n_selected, 3)
        `label`, `confidence` and `split` ("train" or "test") of the selected galaxies
        on the catalog's own index, in the order of `sample_indices_`.
    summary_ : DataFrame of shape (n_classes, 5)
        Per class: `available` (distinct galaxies that could be selected), `selected`,
        `mean_confidence` and `lowest_confidence` of the selected and
        `mean_confidence_available`; NaN if there are none.
    available_indices_ : ndarray of shape (n_available,)
        Positions of the galaxies that could be selected, ordered as `sample_indices_`.

    See Also
    --------
    skdistill.inspection.ConfidenceDisplay : Plot the confidences of each class.
    ImageReader : Read the images of the selected galaxies.
    RotationAugmenter : Repeat galaxies at several angles.

    Notes
    -----
    A galaxy that everybody classified as a star or an artifact has no votes for any
    leaf and gets no label; otherwise the votes for "star or artifact" are ignored. NaN
    counts as no vote for its answer.

    The choice does not depend on the order of the rows. Galaxies of equal confidence
    are selected in the order of their ids. Of several rows with the same id, only the
    most confident one can be selected, the first of equal ones, so that a galaxy is
    never in both sets. Ids are read from `id_column`, else from the first column whose
    name, without regard to case and punctuation, is `dr7objid`, `objid`, another
    `...objid`, `galaxy_id`, `iauname`, `subject_id`, `source_id` and the like,
    `asset_id`, `id_str` or `id`; else from an index of such a name, from a column of
    paths, or from an index with a name or of text. Without any of these, and for rows
    without an id, rows with the same numbers in all columns count as one galaxy. 1,
    "1", "01" and 1.0 are the same id. A number such as -9999 in many rows is treated as
    a missing id, with a warning.

    The column names of Hart et al. [2]_ for the tree of Willett et al. [1]_ and those
    of the galaxy-datasets package are understood. The product of raw fractions
    reproduces the selection in [3]_: the clearest 2.3 % of the galaxies of Stripe 82
    have a mean confidence of .79 over the classes, like those selected there. The votes
    for two answers of one step are added; debiased votes need not sum to 1, so that a
    score can exceed 1.

    References
    ----------
    .. [1] Willett, K. W., et al. "Galaxy Zoo 2: detailed morphological classifications
       for 304 122 galaxies from the Sloan Digital Sky Survey." MNRAS 435 (2013).
    .. [2] Hart, R. E., et al. "Galaxy Zoo: comparing the demographics of spiral arm
       number and a new method for correcting redshift bias." MNRAS 461 (2016).
    .. [3] Guan, H., Zhao, X., Wang, Z., Li, Z., and Kempe, J. "Discovering galaxy
       features via dataset distillation." arXiv:2311.17967 (2023).

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skdistill.curation import GalaxyZooCurator
    >>> from skdistill.curation._tree import LEAVES, ANSWERS
    >>> rng = np.random.default_rng(0)
    >>> votes = {f"{answer}_fraction": rng.uniform(0, 0.3, 90) for answer in ANSWERS}
    >>> catalog = pd.DataFrame({"objid": np.arange(90)} | votes)
    >>> for leaf, path in enumerate(LEAVES.values()):
    ...     columns = [f"{step[0]}_fraction" for step in path]
    ...     catalog.loc[leaf::9, columns] += 0.6
    >>> curator = GalaxyZooCurator(n_train=6, n_test=2, random_state=0)
    >>> rows, labels = curator.fit_resample(catalog)
    >>> rows["split"].value_counts().to_dict()
    {'train': 54, 'test': 18}
    >>> curator.summary_[["available", "selected"]].loc["barred spiral"].tolist()
    [10, 8]
    >>> curator.transform(catalog).shape
    (90, 9)

    A custom survey:

    >>> survey = pd.DataFrame(
    ...     {
    ...         "shape_smooth": [0.9, 0.2, 0.1, 0.8, 0.1, 0.3],
    ...         "shape_disc": [0.1, 0.8, 0.9, 0.2, 0.9, 0.7],
    ...         "arms_yes": [0.5, 0.9, 0.1, 0.5, 0.8, 0.2],
    ...         "arms_no": [0.5, 0.1, 0.9, 0.5, 0.2, 0.8],
    ...     },
    ...     index=pd.Index(["M1", "M2", "M3", "M4", "M5", "M6"], name="galaxy"),
    ... )
    >>> tree = {
    ...     "shape": {
    ...         "smooth": "elliptical",
    ...         "disc": {"arms": {"yes": "spiral", "no": "lenticular"}},
    ...     }
    ... }
    >>> curator = GalaxyZooCurator(tree=tree, votes=None, n_train=1, n_test=1)
    >>> curator.fit(survey).labels_.tolist()
    ['elliptical', 'spiral', 'lenticular', 'elliptical', 'spiral', 'lenticular']
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_train": [Interval(Integral, 1, None, closed="left"), None],
        "n_test": [
            Interval(Integral, 0, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "confidence": [StrOptions({"product", "mean", "min"})],
        "votes": [str, None],
        "cumulative": ["boolean", StrOptions({"auto"})],
        "columns": [str, Mapping, None],
        "vote_unit": [StrOptions({"fraction", "percent", "count"})],
        "id_column": [str, "array-like", None],
        "tree": [StrOptions(set(TREES)), dict],
        "min_votes": [Interval(Integral, 0, None, closed="left")],
        "clean": [Options(Integral, {10, 20}), None],
        "rare_classes": [StrOptions({"raise", "drop"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        n_train: int | None = 500,
        n_test: float = 100,
        confidence: str = "product",
        votes: str | None = "fraction",
        cumulative: bool | str = "auto",
        columns: str | Mapping[str, str] | None = None,
        vote_unit: str = "fraction",
        id_column: str | Sequence[str] | None = None,
        tree: str | dict = "nine",
        min_votes: int = 0,
        clean: int | None = None,
        rare_classes: str = "raise",
        random_state: int | np.random.RandomState | None = None,
    ):
        self.n_train = n_train
        self.n_test = n_test
        self.confidence = confidence
        self.votes = votes
        self.cumulative = cumulative
        self.columns = columns
        self.vote_unit = vote_unit
        self.id_column = id_column
        self.tree = tree
        self.min_votes = min_votes
        self.clean = clean
        self.rare_classes = rare_classes
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, catalog: Any, y: None = None) -> "GalaxyZooCurator":
        """Label the galaxies and select the most confident of each class.

        Parameters
        ----------
        catalog : pandas or polars DataFrame of shape (n_galaxies, n_columns)
            One row per galaxy with the vote columns, and any further columns.
        y : None
            Ignored, here for API consistency.

        Returns
        -------
        self : GalaxyZooCurator
            The fitted curator.

        Raises
        ------
        TypeError
            If `catalog` is not a DataFrame of pandas or polars.
        ValueError
            If vote columns are missing or hold anything but numbers in [0, 1] (or in
            the range of `vote_unit`) and NaN, if object ids were read as floats and
            have lost digits, if `min_votes` is set and the catalog has no numbers of
            votes, if `tree` is not a valid tree, if `clean` is set and the questions
            are not those of Galaxy Zoo 2 or votes are cumulative, or if a class has
            fewer galaxies than requested.

        Warns
        -----
        UserWarning
            If votes are treated as cumulative, ids as missing, or rows without an id as
            separate galaxies; or if a galaxy seems to be in both the training and the
            test set, by another id, by its position in the sky or by all its numbers.
        """
        catalog = as_pandas(catalog)
        tree = self._parse_tree()
        votes = self._read_votes(catalog, tree)
        counted = self.vote_unit == "count"
        able = have_votes(
            catalog,
            self.min_votes,
            self.columns,
            partial(self._n_asked, catalog, tree) if counted else None,
        )
        id_ranks, notes = object_ranks(catalog, self.id_column)
        self.cumulative_ = self._are_cumulative(votes, tree)

        scores = leaf_scores(votes, self.confidence, tree, self.cumulative_)
        codes, confidence = leaf_labels(scores)
        able &= codes >= 0
        if self.clean is not None:
            able &= are_clean(
                catalog,
                codes,
                votes,
                tree,
                int(self.clean),
                self.cumulative_,
                self.columns,
                self.vote_unit,
            )
        candidates = np.flatnonzero(able)
        candidates = _rank_candidates(candidates, codes, confidence, id_ranks)
        n_classes = len(tree.leaves)
        # Stable: the order within a class remains.
        order = np.argsort(codes[candidates], kind="stable")
        bounds = np.bincount(codes[candidates], minlength=n_classes).cumsum()[:-1]
        per_class = np.split(candidates[order], bounds)
        class_names = tuple(tree.leaves)
        voted = np.isfinite(votes).any(axis=0)
        sizes = self._class_sizes(
            class_names,
            [len(members) for members in per_class],
            [a for a, some in zip(tree.answers, voted, strict=True) if not some],
        )

        rng = check_random_state(self.random_state)
        selected, is_test = [], []
        for members, (n_train, n_test) in zip(per_class, sizes, strict=True):
            selected.append(members[: n_train + n_test])
            # Drawn over ranks, so that the order of the rows does not matter.
            is_test.append(rng.permutation(n_train + n_test) < n_test)

        names = np.array(class_names, dtype=object)
        self.classes_ = np.array(class_names)
        self.scores_ = scores
        self.labels_ = np.where(codes >= 0, names[codes], None)
        self.confidence_ = confidence
        self.sample_indices_ = np.concatenate(selected)
        self.available_indices_ = np.concatenate(per_class)
        self.selected_ = pd.DataFrame(
            {
                "label": self.labels_[self.sample_indices_],
                "confidence": confidence[self.sample_indices_],
                "split": np.where(np.concatenate(is_test), "test", "train"),
            },
            index=catalog.index[self.sample_indices_],
        )
        self.summary_ = pd.DataFrame(
            {
                "available": [len(members) for members in per_class],
                "selected": [len(members) for members in selected],
                "mean_confidence": [_mean(confidence[m]) for m in selected],
                "lowest_confidence": [
                    confidence[m].min() if len(m) else np.nan for m in selected
                ],
                "mean_confidence_available": [_mean(confidence[m]) for m in per_class],
            },
            index=pd.Index(class_names, name="class"),
        )
        rows = catalog.iloc[self.sample_indices_]
        split = self.selected_["split"].to_numpy()
        if (split == "test").any():
            ids = object_ids(rows, self.id_column)
            for message in [*notes, *find_leaks(rows, split, ids)]:
                warn(message)
        return self

    def transform(self, catalog: Any) -> np.ndarray:
        """Compute the scores of the leaves.

        Parameters
        ----------
        catalog : pandas or polars DataFrame of shape (n_galaxies, n_columns)
            One row per galaxy with the vote columns; any number of galaxies.

        Returns
        -------
        scores : ndarray or DataFrame of shape (n_galaxies, n_classes)
            Columns in the order of `classes_`; NaN for a galaxy without a finite vote.
        """
        check_is_fitted(self)
        tree = self._parse_tree()
        catalog = as_pandas(catalog)
        votes = self._read_votes(catalog, tree)
        return leaf_scores(votes, self.confidence, tree, self.cumulative_)

    def fit_resample(self, catalog: Any, y: None = None) -> tuple[Any, np.ndarray]:
        """Select galaxies and return their rows with their labels.

        Parameters
        ----------
        catalog : pandas or polars DataFrame of shape (n_galaxies, n_columns)
            One row per galaxy with the vote columns, and any further columns.
        y : None
            Ignored, here for API consistency.

        Returns
        -------
        rows : DataFrame of shape (n_selected, n_columns + 1)
            The selected rows with all their columns and their index, class by class,
            the most confident first. The column `split` is "train" or "test"; a column
            of that name in the catalog is replaced.
        labels : ndarray of shape (n_selected,)
            Names of the classes.
        """
        self.fit(catalog)
        split = self.selected_["split"].to_numpy()
        labels = self.labels_[self.sample_indices_].astype(self.classes_.dtype)
        if is_polars(catalog):
            return catalog[self.sample_indices_].with_columns(split=split), labels
        # A copy is one block of memory: pandas warns about adding a column to many.
        rows = as_pandas(catalog).iloc[self.sample_indices_].copy()
        return rows.assign(split=split), labels

    def get_feature_names_out(self, input_features: None = None) -> np.ndarray:
        """Return the names of the classes, the columns of `transform`.

        Parameters
        ----------
        input_features : None
            Ignored, here for API consistency.

        Returns
        -------
        feature_names_out : ndarray of shape (n_classes,), dtype object
            Names of the classes.
        """
        check_is_fitted(self)
        return self.classes_.astype(object)

    def _read_votes(self, catalog: pd.DataFrame, tree: VoteTree) -> np.ndarray:
        return read_votes(
            catalog, self.votes, tree, columns=self.columns, unit=self.vote_unit
        )

    def _n_asked(self, catalog: pd.DataFrame, tree: VoteTree) -> np.ndarray:
        """Return the number of votes of each galaxy for the first question."""
        first = next(iter(tree.questions.values()))[0]
        counts = read_votes(
            catalog,
            self.votes,
            tree,
            answers=tree.answers_of[first],
            columns=self.columns,
            limit=np.inf,
        )
        return np.nansum(counts, axis=1)

    def _parse_tree(self) -> VoteTree:
        tree = TREES[self.tree]() if isinstance(self.tree, str) else self.tree
        return parse_tree(tree)

    def _are_cumulative(self, votes: np.ndarray, tree: VoteTree) -> bool:
        if not isinstance(self.cumulative, str):
            if self.cumulative and self.vote_unit == "count":
                raise ValueError(
                    "`cumulative=True` is for shares of all volunteers, but with "
                    "`vote_unit='count'` numbers of votes are divided by those for "
                    "their question: use `cumulative=False`"
                )
            return bool(self.cumulative)
        cumulative = look_cumulative(votes, tree)
        if cumulative:
            warn(
                "The votes are treated as cumulative, since those for the answers "
                "to each question add up to those for the answer that leads to it. "
                "Pass `cumulative=True` to confirm this, or `cumulative=False` if "
                "they are shares of the volunteers who were asked the question"
            )
        return cumulative

    def _class_sizes(
        self, class_names: tuple[str, ...], available: list[int], unvoted: list[str]
    ) -> list[tuple[int, int]]:
        """Number of (training, test) galaxies of each class.

        `unvoted` are answers that no galaxy has a vote for, to be told with an error.
        """
        if self.n_train is not None:
            if isinstance(self.n_test, Integral):
                n_test = int(self.n_test)
            else:
                n_selected = round(self.n_train / (1 - self.n_test))
                n_test = max(1, n_selected - self.n_train)
            sizes = [(self.n_train, n_test)] * len(available)
        else:
            sizes = []
            for n in available:
                if isinstance(self.n_test, Integral):
                    n_test = int(self.n_test)
                else:
                    n_test = max(1, round(self.n_test * n))
                # At least one galaxy to train on.
                sizes.append((max(1, n - n_test), n_test))

        short = [
            f"{name!r} has {n}, {n_train} + {n_test} requested"
            for name, n, (n_train, n_test) in zip(
                class_names, available, sizes, strict=True
            )
            if n < n_train + n_test
        ]
        if short and (self.rare_classes == "raise" or len(short) == len(sizes)):
            more = f"; and {len(short) - 10} more" if len(short) > 10 else ""
            if unvoted:
                more += f". No galaxy has a vote for {unvoted[:10]}, only NaN"
            other = "a smaller `n_test`, or "
            if self.n_train is not None:
                other = (
                    "`n_train=None` to take all galaxies that are not in the test set, "
                    "or "
                )
            elif self.n_test == 0:
                other = ""
            raise ValueError(
                f"Too few galaxies for `n_train={self.n_train!r}` and "
                f"`n_test={self.n_test!r}` with `min_votes={self.min_votes!r}` and "
                f"`clean={self.clean!r}`: {'; '.join(short[:10])}{more}. Use "
                f"{other}`rare_classes='drop'` to leave out these classes"
            )
        return [
            (n_train, n_test) if n >= n_train + n_test else (0, 0)
            for n, (n_train, n_test) in zip(available, sizes, strict=True)
        ]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = True
        return tags


def _mean(confidence: np.ndarray) -> float:
    return float(confidence.mean()) if len(confidence) else np.nan


def _rank_candidates(
    candidates: np.ndarray,
    codes: np.ndarray,
    confidence: np.ndarray,
    id_ranks: np.ndarray,
) -> np.ndarray:
    """Order positions by falling confidence, then id; keep one row per galaxy."""
    # The last key comes first. The class only decides between rows of one galaxy.
    order = np.lexsort(
        (codes[candidates], id_ranks[candidates], -confidence[candidates])
    )
    candidates = candidates[order]
    _, first = np.unique(id_ranks[candidates], return_index=True)
    return candidates[np.sort(first)]
