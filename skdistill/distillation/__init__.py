"""Distillers: a large image set into a few synthetic images per class."""

from skdistill.distillation._classifier import DistilledClassifier
from skdistill.distillation._mtt import MTTDistiller
from skdistill.distillation._stm import STMDistiller

__all__ = ["DistilledClassifier", "MTTDistiller", "STMDistiller"]
