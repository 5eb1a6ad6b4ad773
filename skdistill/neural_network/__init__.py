"""The ConvNet classifier, its network and its augmentation; other networks; kernels."""

from skdistill.neural_network._base import TrainingDivergedError
from skdistill.neural_network._classifier import ConvNetClassifier
from skdistill.neural_network._convnet import ConvNet
from skdistill.neural_network._kernel_classifier import NeuralKernelClassifier
from skdistill.neural_network._network import NetworkClassifier

__all__ = [
    "ConvNet",
    "ConvNetClassifier",
    "NetworkClassifier",
    "NeuralKernelClassifier",
    "TrainingDivergedError",
]
