"""DD-Ranking's robust scores, as formulas over accuracies.

An accuracy may be a SyntheticScore, whose mean is used.
"""

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, validate_params

from skdistill.metrics._scores import Summary
from skdistill.utils._torch_state import with_own_torch_state

_ACCURACY = [Real, "array-like"]
_WEIGHT = [Interval(Real, 0, 1, closed="both")]


@validate_params(
    {"real": _ACCURACY, "synthetic": _ACCURACY},
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def hard_label_recovery(real: Any, synthetic: Any) -> Any:
    """Return the loss in accuracy of a distilled set compared with the real images.

    Both are evaluated with hard labels.  Lower is better; 0 means that the set is as
    good as the data.

    Parameters
    ----------
    real : float, array-like or SyntheticScore
        Accuracy of a network trained on all real images, in [0, 1].
    synthetic : float, array-like or SyntheticScore
        Accuracy of one trained on the distilled images with hard labels, in [0, 1].

    Returns
    -------
    recovery : float or ndarray
        ``real - synthetic``, in [-1, 1].

    References
    ----------
    Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation", 2025.

    Examples
    --------
    >>> from skdistill.metrics import hard_label_recovery
    >>> round(hard_label_recovery(0.848, 0.65), 3)
    0.198
    """
    return _plain(_difference(real, synthetic, ("real", "synthetic")))


@validate_params(
    {"synthetic": _ACCURACY, "random": _ACCURACY},
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def improvement_over_random(synthetic: Any, random: Any) -> Any:
    """Return the improvement over the same number of random real images.

    Parameters
    ----------
    synthetic : float, array-like or SyntheticScore
        Accuracy of a network trained on the distilled images, in [0, 1], with the
        labels and the augmentation of the method.
    random : float, array-like or SyntheticScore
        Accuracy of a network trained in the same way on the same number of random real
        images.

    Returns
    -------
    improvement : float or ndarray
        ``synthetic - random``, in [-1, 1].

    References
    ----------
    Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation", 2025.

    Examples
    --------
    >>> from skdistill.metrics import improvement_over_random
    >>> round(improvement_over_random(0.65, 0.31), 2)
    0.34
    """
    return _plain(_difference(synthetic, random, ("synthetic", "random")))


@validate_params(
    {
        "real": _ACCURACY,
        "synthetic": _ACCURACY,
        "random": _ACCURACY,
        "synthetic_hard": [*_ACCURACY, None],
        "weight": _WEIGHT,
    },
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def label_robust_score(
    real: Any,
    synthetic: Any,
    random: Any,
    *,
    synthetic_hard: Any = None,
    weight: float = 0.5,
) -> Any:
    """Score a distilled set such that soft labels alone do not make it better.

    Parameters
    ----------
    real : float, array-like or SyntheticScore
        Accuracy of a network trained on all real images, in [0, 1].
    synthetic : float, array-like or SyntheticScore
        Accuracy of one trained on the distilled images, with soft labels if the
        method has them.
    random : float, array-like or SyntheticScore
        Accuracy of a network trained in the same way on the same number of random real
        images.
    synthetic_hard : float, array-like or SyntheticScore, default=None
        Accuracy of one trained on the distilled images with hard labels; None stands
        for a method that has no others.
    weight : float, default=0.5
        Weight w of the improvement over random, against 1 - w of the hard label
        recovery.

    Returns
    -------
    score : float or ndarray
        ``(exp(a) - exp(-1)) / (exp(1) - exp(-1))`` with ``a = w * improvement -
        (1 - w) * recovery``: 0 for the worst, 1 for the best there can be.

    References
    ----------
    Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation", 2025.

    Examples
    --------
    >>> from skdistill.metrics import label_robust_score
    >>> round(label_robust_score(real=0.848, synthetic=0.65, random=0.31), 3)
    0.3
    """
    if synthetic_hard is None:
        synthetic_hard = synthetic
    else:
        _accuracy(synthetic_hard, "synthetic_hard")
    improvement = np.asarray(improvement_over_random(synthetic, random))
    recovery = np.asarray(hard_label_recovery(real, synthetic_hard))
    return _plain(_normalized(weight * improvement - (1 - weight) * recovery))


@validate_params(
    {
        "synthetic_augmented": _ACCURACY,
        "random_augmented": _ACCURACY,
        "synthetic_plain": _ACCURACY,
        "random_plain": _ACCURACY,
        "weight": _WEIGHT,
    },
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def augmentation_robust_score(
    *,
    synthetic_augmented: Any,
    random_augmented: Any,
    synthetic_plain: Any,
    random_plain: Any,
    weight: float = 0.5,
) -> Any:
    """Score a distilled set such that augmentation alone does not make it better.

    Parameters
    ----------
    synthetic_augmented, random_augmented : float, array-like or SyntheticScore
        Accuracies of networks trained with augmentation on the distilled images and on
        as many random real ones, in [0, 1].
    synthetic_plain, random_plain : float, array-like or SyntheticScore
        The same without augmentation.
    weight : float, default=0.5
        Weight g of the improvement with augmentation, against 1 - g of that without.

    Returns
    -------
    score : float or ndarray
        ``(exp(b) - exp(-1)) / (exp(1) - exp(-1))`` with ``b = g * improvement with +
        (1 - g) * improvement without``, in [0, 1].

    References
    ----------
    Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation", 2025.

    Examples
    --------
    >>> from skdistill.metrics import augmentation_robust_score
    >>> score = augmentation_robust_score(
    ...     synthetic_augmented=0.65, random_augmented=0.31,
    ...     synthetic_plain=0.55, random_plain=0.28)
    >>> round(score, 3)
    0.421
    """
    augmented = _difference(
        synthetic_augmented,
        random_augmented,
        ("synthetic_augmented", "random_augmented"),
    )
    plain = _difference(
        synthetic_plain, random_plain, ("synthetic_plain", "random_plain")
    )
    return _plain(_normalized(weight * augmented + (1 - weight) * plain))


def _normalized(value: np.ndarray) -> np.ndarray:
    return (np.exp(value) - np.exp(-1)) / (np.exp(1) - np.exp(-1))


def _accuracy(value: Any, name: str) -> np.ndarray:
    if isinstance(value, Summary):
        value = value.mean
    try:
        value = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be an accuracy, an array of them or a SyntheticScore: "
            f"{error}"
        ) from error
    if not ((value >= 0) & (value <= 1)).all():
        raise ValueError(
            f"`{name}` must be an accuracy in [0, 1], not in percent; got {value}"
        )
    return value


def _difference(one: Any, two: Any, names: tuple[str, str]) -> np.ndarray:
    first, second = _accuracy(one, names[0]), _accuracy(two, names[1])
    try:
        return first - second
    except ValueError as error:
        raise ValueError(
            f"`{names[0]}` and `{names[1]}` must be single accuracies or arrays of the "
            f"same shape; got {first.shape} and {second.shape}"
        ) from error


def _plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value
