"""How good a distilled set is."""

from skdistill.metrics._evaluate import SyntheticScore, evaluate_synthetic

__all__ = ["SyntheticScore", "evaluate_synthetic"]
