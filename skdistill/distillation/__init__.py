"""Distillers: a large image set into a few synthetic images per class; baselines."""

from skdistill.distillation._baselines import (
    ClassMeans,
    FullData,
    Herding,
    KMeansPrototypes,
    RandomSubset,
)
from skdistill.distillation._classifier import DistilledClassifier
from skdistill.distillation._mtt import MTTDistiller
from skdistill.distillation._stm import STMDistiller

__all__ = [
    "ClassMeans",
    "DistilledClassifier",
    "FullData",
    "Herding",
    "KMeansPrototypes",
    "MTTDistiller",
    "RandomSubset",
    "STMDistiller",
]
