"""Evaluation and comparison of distilled sets."""

from skdistill.metrics._calibration import expected_calibration_error
from skdistill.metrics._compare import Comparison, compare_scores
from skdistill.metrics._compare_distillers import compare_distillers
from skdistill.metrics._cross import cross_architecture, standard_estimators
from skdistill.metrics._ddranking import export_ddranking, load_ddranking
from skdistill.metrics._distiller_comparison import DistillerComparison
from skdistill.metrics._evaluate import evaluate_synthetic
from skdistill.metrics._protocol import SyntheticScore
from skdistill.metrics._robust import (
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)

__all__ = [
    "Comparison",
    "DistillerComparison",
    "SyntheticScore",
    "augmentation_robust_score",
    "compare_distillers",
    "compare_scores",
    "cross_architecture",
    "evaluate_synthetic",
    "expected_calibration_error",
    "export_ddranking",
    "hard_label_recovery",
    "improvement_over_random",
    "label_robust_score",
    "load_ddranking",
    "standard_estimators",
]
