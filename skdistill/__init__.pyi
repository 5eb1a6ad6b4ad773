from . import (
    curation,
    datasets,
    distillation,
    inspection,
    metrics,
    neural_network,
    preprocessing,
    trajectory,
    utils,
)
from .curation import GalaxyZooCurator, ImageReader, RotationAugmenter
from .datasets import (
    fetch_galaxy_zoo2,
    load_cifar10,
    load_cifar100,
    load_galaxy_zoo2,
    make_galaxies,
)
from .distillation import (
    BPTTDistiller,
    ClassMeans,
    DCDistiller,
    DistilledClassifier,
    DSADistiller,
    FullData,
    Herding,
    KMeansPrototypes,
    MTTDistiller,
    RandomSubset,
    STMDistiller,
)
from .metrics import evaluate_synthetic
from .neural_network import (
    ConvNetClassifier,
    NetworkClassifier,
    NeuralKernelClassifier,
)
from .preprocessing import ChannelScaler, ZCAWhitener
from .synthetic import SyntheticSet
from .trajectory import TrajectoryBuffer

__all__ = [
    "BPTTDistiller",
    "ChannelScaler",
    "ClassMeans",
    "ConvNetClassifier",
    "DCDistiller",
    "DSADistiller",
    "DistilledClassifier",
    "FullData",
    "GalaxyZooCurator",
    "Herding",
    "ImageReader",
    "KMeansPrototypes",
    "MTTDistiller",
    "NetworkClassifier",
    "NeuralKernelClassifier",
    "RandomSubset",
    "RotationAugmenter",
    "STMDistiller",
    "SyntheticSet",
    "TrajectoryBuffer",
    "ZCAWhitener",
    "curation",
    "datasets",
    "distillation",
    "evaluate_synthetic",
    "fetch_galaxy_zoo2",
    "inspection",
    "load_cifar10",
    "load_cifar100",
    "load_galaxy_zoo2",
    "make_galaxies",
    "metrics",
    "neural_network",
    "preprocessing",
    "trajectory",
    "utils",
]
