"""Trees of questions as data, and the scores of their leaves."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from skdistill.curation._questions import GZ2_QUESTIONS, vote_tree

_SPIRAL_BY_BAR = {
    bar: {
        "t04_spiral": {
            "a08_spiral": f"{name} spiral",
            "a09_no_spiral": f"{name} without arms",
        }
    }
    for bar, name in (("a06_bar", "barred"), ("a07_no_bar", "unbarred"))
}

# A question, its answers, and what each leads to: a class, a question, or nothing.
NINE_CLASSES = {
    "t01_smooth_or_features": {
        "a01_smooth": {
            "t07_rounded": {
                "a16_completely_round": "smooth rounded",
                "a17_in_between": "smooth in-between",
                "a18_cigar_shaped": "smooth cigar-shaped",
            }
        },
        "a02_features_or_disk": {
            "t02_edgeon": {
                "a04_yes": {
                    "t09_bulge_shape": {
                        ("a25_rounded", "a26_boxy"): "edge-on with bulge",
                        "a27_no_bulge": "edge-on without bulge",
                    }
                },
                "a05_no": {"t03_bar": _SPIRAL_BY_BAR},
            }
        },
        "a03_star_or_artifact": None,
    }
}

TREES: dict[str, Callable[[], Mapping]] = {
    "nine": lambda: NINE_CLASSES,
    "gz2": lambda: vote_tree(GZ2_QUESTIONS),
}


@dataclass(frozen=True)
class VoteTree:
    """The leaves of a tree, with the ways that lead to them."""

    # A way is a tuple of steps; the votes of a step's answers are summed.
    leaves: dict[str, tuple[tuple[str, ...], ...]]
    # The questions on the way to each leaf.
    questions: dict[str, tuple[str, ...]]
    # All answers of each question.
    answers_of: dict[str, tuple[str, ...]]

    @property
    def answers(self) -> tuple[str, ...]:
        """Every answer on the way to a leaf, once, in the order of their names."""
        paths = self.leaves.values()
        return tuple(sorted({a for path in paths for step in path for a in step}))


def parse_tree(tree: Any) -> VoteTree:
    """Read a tree, and see that it is one.

    Parameters
    ----------
    tree : mapping
        `{question: {answer: below, ...}}`, where `below` is the name of a class,
        another such mapping, or None where no class is meant.  A tuple of answers
        stands for any of them.

    Returns
    -------
    parsed : VoteTree
        Its leaves in the order of the tree.  Answers are named
        `{question}_{answer}`.

    Raises
    ------
    ValueError
        If it is anything else, or if a class is there twice or alone.
    """
    leaves: dict[str, tuple[tuple[str, ...], ...]] = {}
    questions: dict[str, tuple[str, ...]] = {}
    answers_of: dict[str, tuple[str, ...]] = {}
    for name, way in _walk(tree, ()):
        for question, answers in way:
            known = answers_of.get(question, ())
            new = tuple(f"{question}_{answer}" for answer in answers)
            answers_of[question] = known + tuple(a for a in new if a not in known)
        if name is None:
            continue
        if name in leaves:
            raise ValueError(
                f"`tree` has the class {name!r} twice; merge answers of one "
                "question by a tuple"
            )
        leaves[name] = tuple(
            tuple(f"{question}_{answer}" for answer in answers)
            for question, answers in way
        )
        questions[name] = tuple(question for question, _ in way)
    if len(leaves) < 2:
        raise ValueError(f"`tree` must have at least two classes; got {list(leaves)}")
    return VoteTree(leaves, questions, answers_of)


def _walk(node: Any, way: tuple) -> Iterator[tuple[str | None, tuple]]:
    """Yield every end of the tree with the (question, answers) on the way to it."""
    place = "".join(f" below {answers[0]!r} of {q!r}" for q, answers in way[-1:])
    if not isinstance(node, Mapping) or len(node) != 1:
        raise ValueError(
            f"`tree` must have one question{place}, {{question: {{answer: ...}}}}; got "
            f"{_shorten(node)}"
        )
    [(question, branches)] = node.items()
    if (
        not isinstance(question, str)
        or not isinstance(branches, Mapping)
        or not branches
    ):
        raise ValueError(
            f"`tree` must have answers to the question {question!r}{place}, "
            f"{{answer: class or question}}; got {_shorten(branches)}"
        )
    if question in [q for q, _ in way]:
        raise ValueError(f"`tree` must not ask {question!r} again{place}")
    seen: set[str] = set()
    for key, below in branches.items():
        answers = key if isinstance(key, tuple) and key else (key,)
        if not all(isinstance(answer, str) for answer in answers):
            raise ValueError(
                "`tree` must have strings, or tuples of strings, as answers to "
                f"{question!r}; got {key!r}"
            )
        if seen.intersection(answers) or len(set(answers)) < len(answers):
            raise ValueError(
                f"`tree` must not have an answer to {question!r} twice: {key!r}"
            )
        seen.update(answers)
        further = (*way, (question, answers))
        if below is None or isinstance(below, str):
            yield below, further
        else:
            yield from _walk(below, further)


def _shorten(thing: Any) -> str:
    text = repr(thing)
    return text if len(text) <= 80 else f"{text[:77]}..."


NINE = parse_tree(NINE_CLASSES)
LEAVES = NINE.leaves
CLASS_NAMES = tuple(LEAVES)
ANSWERS = NINE.answers

_COMBINE: dict[str, np.ufunc] = {
    "product": np.multiply,
    "mean": np.add,
    "min": np.minimum,
}


def leaf_scores(
    votes: np.ndarray,
    confidence: str = "product",
    tree: VoteTree = NINE,
    cumulative: bool = False,
) -> np.ndarray:
    """Score of every leaf for every galaxy.

    Parameters
    ----------
    votes : ndarray of shape (n_galaxies, n_answers)
        Vote fractions in [0, 1], columns in the order of `tree.answers`. NaN (nobody
        was asked, or the debiasing failed) counts as no vote for that answer.
    confidence : {"product", "mean", "min"}, default="product"
        How the votes of the steps on the way to a leaf become one score.
    tree : VoteTree
        The tree, by default that of nine classes.
    cumulative : bool, default=False
        Whether votes are multiplied with those that lead to their question: the product
        is then that for the last answer.

    Returns
    -------
    scores : ndarray of shape (n_galaxies, n_leaves)
        Columns in the order of `tree.leaves`; NaN throughout in the row of a galaxy
        without a single finite vote.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.curation._tree import ANSWERS, leaf_scores
    >>> votes = np.zeros((1, len(ANSWERS)))
    >>> votes[0, ANSWERS.index("t01_smooth_or_features_a01_smooth")] = 0.75
    >>> votes[0, ANSWERS.index("t07_rounded_a18_cigar_shaped")] = 0.5
    >>> leaf_scores(votes)[0, :3].tolist()
    [0.0, 0.0, 0.375]
    >>> leaf_scores(votes, "min")[0, :3].tolist()
    [0.0, 0.0, 0.5]
    """
    column = {answer: i for i, answer in enumerate(tree.answers)}
    combine = _COMBINE[confidence]
    filled = np.nan_to_num(votes, nan=0.0)
    scores = np.empty((len(votes), len(tree.leaves)))
    # Neighboring leaves share the beginning of their ways: steps, and their votes
    # combined up to each.
    way: list[tuple[tuple[str, ...], np.ndarray]] = []
    for leaf, path in enumerate(tree.leaves.values()):
        shared = 0
        while shared < len(way) and way[shared][0] == path[shared]:
            shared += 1
        del way[shared:]
        for step in path[shared:]:
            combined = sum(filled[:, column[answer]] for answer in step)
            if way and not (cumulative and confidence == "product"):
                combined = combine(way[-1][1], combined)
            way.append((step, combined))
        scores[:, leaf] = way[-1][1]
        if confidence == "mean":
            scores[:, leaf] /= len(path)
    scores[np.isnan(votes).all(axis=1)] = np.nan
    return scores


def leaf_labels(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest leaf of every galaxy and its score.

    Parameters
    ----------
    scores : ndarray of shape (n_galaxies, n_leaves)
        What `leaf_scores` returns.

    Returns
    -------
    codes : ndarray of shape (n_galaxies,), dtype int64
        Index of a leaf; of equal scores the first leaf wins. -1 for a galaxy
        without a label: no finite vote, or no vote for any leaf (all scores are 0, as
        when everybody saw a star).
    confidence : ndarray of shape (n_galaxies,)
        The highest score; NaN where there is no label.
    """
    # argmax takes the first of equal values, in any order of the rows. NaN, which a row
    # has throughout or not at all, is no label: `confidence > 0` is false.
    codes = scores.argmax(axis=1)
    confidence = np.take_along_axis(scores, codes[:, None], axis=1)[:, 0]
    labeled = confidence > 0
    return np.where(labeled, codes, -1), np.where(labeled, confidence, np.nan)
