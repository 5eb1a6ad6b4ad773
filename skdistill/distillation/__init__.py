"""Distillers: a large image set into a few synthetic images per class; baselines."""

from skdistill.distillation._bptt import BPTTDistiller
from skdistill.distillation._cafe import CAFEDistiller
from skdistill.distillation._classifier import DistilledClassifier
from skdistill.distillation._coresets import FullData, Herding, RandomSubset
from skdistill.distillation._dc import DCDistiller
from skdistill.distillation._dm import DMDistiller
from skdistill.distillation._dsa import DSADistiller
from skdistill.distillation._frepo import FRePoDistiller
from skdistill.distillation._kip import KIPDistiller
from skdistill.distillation._mtt import MTTDistiller
from skdistill.distillation._ncfm import NCFMDistiller
from skdistill.distillation._prototypes import ClassMeans, KMeansPrototypes
from skdistill.distillation._rfad import RFADDistiller
from skdistill.distillation._stm import STMDistiller

__all__ = [
    "BPTTDistiller",
    "CAFEDistiller",
    "ClassMeans",
    "DCDistiller",
    "DMDistiller",
    "DSADistiller",
    "DistilledClassifier",
    "FRePoDistiller",
    "FullData",
    "Herding",
    "KIPDistiller",
    "KMeansPrototypes",
    "MTTDistiller",
    "NCFMDistiller",
    "RFADDistiller",
    "RandomSubset",
    "STMDistiller",
]
