"""The ConvNet classifier, its network and its augmentation."""

from skdistill.neural_network._classifier import (
    ConvNetClassifier,
    TrainingDivergedError,
)
from skdistill.neural_network._convnet import ConvNet

__all__ = ["ConvNet", "ConvNetClassifier", "TrainingDivergedError"]
