import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdistill.metrics import (
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)

accuracies = st.floats(0, 1)


def augmented(synthetic, random, weight=0.5):
    return augmentation_robust_score(
        synthetic_augmented=synthetic,
        random_augmented=random,
        synthetic_plain=synthetic,
        random_plain=random,
        weight=weight,
    )


def test_published_value():
    assert label_robust_score(0.848, 0.65, 0.31) == pytest.approx(0.300, abs=5e-4)
    assert hard_label_recovery(0.848, 0.65) == pytest.approx(0.198)
    assert improvement_over_random(0.65, 0.31) == pytest.approx(0.34)


def test_augmentation_by_hand():
    score = augmentation_robust_score(
        synthetic_augmented=0.7,
        random_augmented=0.4,
        synthetic_plain=0.5,
        random_plain=0.4,
        weight=0.25,
    )
    expected = (np.exp(0.25 * 0.3 + 0.75 * 0.1) - np.exp(-1)) / (np.e - np.exp(-1))
    assert score == pytest.approx(expected, rel=1e-12)


def test_scores_run_from_0_to_1():
    assert label_robust_score(0, 1, 0, weight=1) == pytest.approx(1)
    assert label_robust_score(1, 0, 1) == pytest.approx(0)
    assert augmented(1, 0) == pytest.approx(1)
    assert augmented(0, 1) == pytest.approx(0)


@given(accuracies, accuracies, accuracies, st.floats(0, 1))
def test_scores_are_bounded_and_no_worse_for_better_sets(real, one, random, weight):
    better = (one + 1) / 2
    for score in (
        lambda synthetic: label_robust_score(real, synthetic, random, weight=weight),
        lambda synthetic: augmented(synthetic, random, weight),
    ):
        assert -1e-12 <= score(one) <= score(better) + 1e-12
        assert score(better) <= 1 + 1e-12


def test_soft_labels_do_not_help_the_recovery():
    plain = label_robust_score(0.8, 0.5, 0.3)
    soft = label_robust_score(0.8, 0.7, 0.3, synthetic_hard=0.5)
    # As if hard labels alone had made it: the recovery would count, too.
    all_hard = label_robust_score(0.8, 0.7, 0.3)
    assert plain < soft < all_hard


def test_many_at_once():
    real, synthetic, random = np.array([0.8, 0.9]), np.array([0.6, 0.5]), 0.3
    found = label_robust_score(real, synthetic, random)
    expected = [label_robust_score(0.8, 0.6, 0.3), label_robust_score(0.9, 0.5, 0.3)]
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert type(label_robust_score(0.8, 0.6, 0.3)) is float


@pytest.mark.parametrize("wrong", [65, -0.1, np.nan, [0.5, 1.2]])
def test_percents_are_refused(wrong):
    message = r"`synthetic` must be an accuracy in \[0, 1\], not in percent"
    with pytest.raises(ValueError, match=message):
        hard_label_recovery(0.8, wrong)
    with pytest.raises(ValueError, match=message):
        label_robust_score(0.8, wrong, 0.3)
    with pytest.raises(ValueError, match="`synthetic_hard` must be"):
        label_robust_score(0.8, 0.5, 0.3, synthetic_hard=wrong)
    with pytest.raises(ValueError, match="`random_augmented` must be"):
        augmented(0.5, wrong)
    with pytest.raises(ValueError, match="'weight' parameter"):
        label_robust_score(0.8, 0.5, 0.3, weight=2)


def test_arrays_of_other_lengths_are_named():
    message = r"`synthetic` and `random` must be .* got \(2,\) and \(3,\)"
    with pytest.raises(ValueError, match=message):
        improvement_over_random([0.5, 0.6], [0.1, 0.2, 0.3])
