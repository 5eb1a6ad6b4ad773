"""What Galaxy Zoo 2 asked, as data, and trees made of such questions."""

from collections.abc import Iterable, Mapping

from sklearn.utils._param_validation import validate_params

#: Questions and answers of Galaxy Zoo 2, with the question that each answer leads to.
GZ2_QUESTIONS: dict[str, dict[str, str | None]] = {
    "t01_smooth_or_features": {
        "a01_smooth": "t07_rounded",
        "a02_features_or_disk": "t02_edgeon",
        "a03_star_or_artifact": None,
    },
    "t02_edgeon": {"a04_yes": "t09_bulge_shape", "a05_no": "t03_bar"},
    "t03_bar": {"a06_bar": "t04_spiral", "a07_no_bar": "t04_spiral"},
    "t04_spiral": {
        "a08_spiral": "t10_arms_winding",
        "a09_no_spiral": "t05_bulge_prominence",
    },
    "t05_bulge_prominence": dict.fromkeys(
        ("a10_no_bulge", "a11_just_noticeable", "a12_obvious", "a13_dominant"),
        "t06_odd",
    ),
    "t06_odd": {"a14_yes": "t08_odd_feature", "a15_no": None},
    "t07_rounded": dict.fromkeys(
        ("a16_completely_round", "a17_in_between", "a18_cigar_shaped"), "t06_odd"
    ),
    "t08_odd_feature": dict.fromkeys(
        (
            "a19_ring",
            "a20_lens_or_arc",
            "a21_disturbed",
            "a22_irregular",
            "a23_other",
            "a24_merger",
            "a38_dust_lane",
        )
    ),
    "t09_bulge_shape": dict.fromkeys(
        ("a25_rounded", "a26_boxy", "a27_no_bulge"), "t06_odd"
    ),
    "t10_arms_winding": dict.fromkeys(
        ("a28_tight", "a29_medium", "a30_loose"), "t11_arms_number"
    ),
    "t11_arms_number": dict.fromkeys(
        ("a31_1", "a32_2", "a33_3", "a34_4", "a36_more_than_4", "a37_cant_tell"),
        "t05_bulge_prominence",
    ),
}

_SMOOTH = "t01_smooth_or_features_a01_smooth"
_FEATURES = "t01_smooth_or_features_a02_features_or_disk"
_EDGE_ON = "t02_edgeon_a04_yes"
_NOT_EDGE_ON = "t02_edgeon_a05_no"
_SPIRAL = "t04_spiral_a08_spiral"
_ODD = "t06_odd_a14_yes"

# Table 3 of Willett et al. (2013): the votes that the answers leading to a question
# need for it to be well answered, where that takes at least 10 or 20 volunteers.
_OBLIQUE = {_FEATURES: (0.227, 0.430), _NOT_EDGE_ON: (0.519, 0.715)}
_ARMS = _OBLIQUE | {_SPIRAL: (0.402, 0.619)}
CLEAN_VOTES: dict[str, dict[str, tuple[float, float]]] = {
    "t01_smooth_or_features": {},
    "t02_edgeon": {_FEATURES: (0.227, 0.430)},
    "t03_bar": _OBLIQUE,
    "t04_spiral": _OBLIQUE,
    "t05_bulge_prominence": _OBLIQUE,
    "t06_odd": {},
    "t07_rounded": {_SMOOTH: (0.263, 0.469)},
    "t08_odd_feature": {_ODD: (0.223, 0.420)},
    "t09_bulge_shape": {_FEATURES: (0.227, 0.430), _EDGE_ON: (0.326, 0.602)},
    "t10_arms_winding": _ARMS,
    "t11_arms_number": _ARMS,
}
# Debiased votes that the answer itself needs, for the published flags.
CLEAN_DEBIASED = 0.8

# What the galaxy-datasets package calls the same answers; it has none of t08.
GALAXY_DATASETS_NAMES = {
    f"{question}_{answer}": f"{other}-gz2_{name}"
    for question, other, names in (
        (
            "t01_smooth_or_features",
            "smooth-or-featured",
            ("smooth", "featured-or-disk", "artifact"),
        ),
        ("t02_edgeon", "disk-edge-on", ("yes", "no")),
        ("t03_bar", "bar", ("yes", "no")),
        ("t04_spiral", "has-spiral-arms", ("yes", "no")),
        (
            "t05_bulge_prominence",
            "bulge-size",
            ("no", "just-noticeable", "obvious", "dominant"),
        ),
        ("t06_odd", "something-odd", ("yes", "no")),
        ("t07_rounded", "how-rounded", ("round", "in-between", "cigar")),
        ("t09_bulge_shape", "bulge-shape", ("round", "boxy", "no-bulge")),
        ("t10_arms_winding", "spiral-winding", ("tight", "medium", "loose")),
        (
            "t11_arms_number",
            "spiral-arm-count",
            ("1", "2", "3", "4", "more-than-4", "cant-tell"),
        ),
    )
    for answer, name in zip(GZ2_QUESTIONS[question], names, strict=True)
}


@validate_params(
    {"questions": [Mapping], "ask": [Iterable, None]},
    prefer_skip_nested_validation=True,
)
def vote_tree(
    questions: Mapping[str, Mapping[str, str | None]],
    ask: Iterable[str] | None = None,
) -> dict:
    """Make a tree of all the ways through some questions.

    Parameters
    ----------
    questions : mapping of str to mapping of str to str or None
        For each question, beginning with the first, what question each of its answers
        leads to; None where it is the last.
    ask : str or iterable of str, default=None
        Questions that matter; the others are passed over.  None takes all.

    Returns
    -------
    tree : dict
        `{question: {answer: ...}}` for :class:`GalaxyZooCurator`.  A class is named
        after the answers on the way to it, joined by " > ".

    Raises
    ------
    ValueError
        If an answer leads to a question that is not there or was asked before, if a
        question is passed over whose answers lead to different ones, or if answers are
        not a mapping.

    Examples
    --------
    >>> from skdistill.curation import GZ2_QUESTIONS, vote_tree
    >>> vote_tree(GZ2_QUESTIONS, ask=["t01_smooth_or_features", "t07_rounded",
    ...                               "t02_edgeon"])
    {'t01_smooth_or_features':
      {'a01_smooth': {'t07_rounded':
         {'a16_completely_round': 'a01_smooth > a16_completely_round',
          'a17_in_between': 'a01_smooth > a17_in_between',
          'a18_cigar_shaped': 'a01_smooth > a18_cigar_shaped'}},
       'a02_features_or_disk': {'t02_edgeon':
         {'a04_yes': 'a02_features_or_disk > a04_yes',
          'a05_no': 'a02_features_or_disk > a05_no'}},
       'a03_star_or_artifact': 'a03_star_or_artifact'}}
    """
    for question, answers in questions.items():
        is_mapping = isinstance(answers, Mapping)
        if not is_mapping or not all(isinstance(a, str) for a in (question, *answers)):
            raise ValueError(
                "`questions` must map each question to {answer: next question or "
                f"None}}, with strings as names; got {answers!r} for {question!r}"
            )
    if isinstance(ask, str):
        ask = [ask]
    asked = set(questions) if ask is None else set(ask)
    unknown = sorted(asked - set(questions))
    if unknown:
        raise ValueError(
            f"`ask` must name questions among {list(questions)}; got {unknown}"
        )

    def pass_over(question: str | None, before: tuple[str, ...]) -> str | None:
        """Return the next question that is asked."""
        if question is None:
            return None
        if question not in questions:
            raise ValueError(
                f"`questions` must contain {question!r}, since an answer leads to it"
            )
        if question in before:
            raise ValueError(
                f"`questions` must not have cycles; {question!r} leads back to itself"
            )
        if question in asked:
            return question
        following = {
            pass_over(after, (*before, question))
            for after in questions[question].values()
        }
        if len(following) != 1:
            raise ValueError(
                f"`ask` must include {question!r}: its answers lead to different "
                f"questions, {sorted(map(str, following))}"
            )
        return following.pop()

    def grow(question: str, way: tuple[str, ...], before: tuple[str, ...]) -> dict:
        branches: dict = {}
        for answer, following in questions[question].items():
            after = pass_over(following, (*before, question))
            further = (*way, answer)
            if after is None:
                branches[answer] = " > ".join(further)
            else:
                branches[answer] = grow(after, further, (*before, question))
        return {question: branches}

    first = pass_over(next(iter(questions), None), ())
    if first is None:
        raise ValueError(
            "`questions` must have at least one question that is asked; got none"
        )
    return grow(first, (), ())
