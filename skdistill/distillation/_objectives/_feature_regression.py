"""Ridge regression on the features of a network, and the backward pass to them.

With the features F of n synthetic images, their targets Y, and the features F_t of
real images ::

    K = F F^T    l = reg tr(K) / n    A = (K + l I)^-1 Y    W = F^T A    P = F_t W

W is the last layer that the regression gives the network, and P what the network then
says of the real images.  With D = dL/dW = F_t^T dL/dP, which takes the real images a
few at a time, the rest is that of a kernel regression: dL/dA = F D leads to dL/dY and
dL/dK, and ::

    dL/dF = A D^T + 2 (dL/dK) F

References
----------
Zhou, Nezhadarya and Ba, "Dataset Distillation using Neural Feature Regression",
NeurIPS 2022.
Loo et al., "Efficient Dataset Distillation using Random Feature Approximation",
NeurIPS 2022: the loss "platt".
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from skdistill.distillation._engine._parameters import one_hot
from skdistill.distillation._objectives._kernel_ridge import centered
from skdistill.neural_network._ridge import RidgeRegression

LOSSES = ("squared", "platt")


class RealFeatures(NamedTuple):
    """Features of some of the real images.

    Attributes
    ----------
    features : Tensor of shape (m, n_features), float64
    codes : Tensor of shape (m,), int64
        The class of each image.
    weights : Tensor of shape (m,), float64
        Of each image in the loss; those of all parts sum to 1.
    """

    features: Tensor
    codes: Tensor
    weights: Tensor


class PredictionLoss(NamedTuple):
    """The loss of predictions, and its derivatives.

    Attributes
    ----------
    loss : Tensor, scalar
    predictions : Tensor of shape (m, n_classes)
    log_scale : Tensor, scalar
        0 for a loss that has no scale.
    """

    loss: Tensor
    predictions: Tensor
    log_scale: Tensor


class FeatureLoss(NamedTuple):
    """The loss of a regression on features, and its derivatives.

    Attributes
    ----------
    loss : Tensor, scalar
    accuracy : Tensor, scalar
        The weight of real images whose class is predicted.
    features : Tensor of shape (n, n_features)
    targets : Tensor of shape (n, n_classes)
    log_scale : Tensor, scalar
    """

    loss: Tensor
    accuracy: Tensor
    features: Tensor
    targets: Tensor
    log_scale: Tensor


def squared_loss(predictions: Tensor, codes: Tensor, weights: Tensor) -> PredictionLoss:
    """Return half the squared distances from centered one-hot rows."""
    wanted = centered(one_hot(codes, predictions.shape[1], predictions.dtype))
    error = predictions - wanted
    by_predictions = error * weights[:, None]
    loss = (by_predictions * error).sum() / 2
    return PredictionLoss(loss, by_predictions, loss.new_zeros(()))


def platt_loss(
    predictions: Tensor, codes: Tensor, weights: Tensor, log_scale: Tensor
) -> PredictionLoss:
    """Return the cross-entropy of predictions times the exponential of a number."""
    scale = log_scale.exp()
    logarithms = (scale * predictions).log_softmax(1)
    rows = torch.arange(len(codes), device=codes.device)
    loss = -(weights * logarithms[rows, codes]).sum()
    by_logits = logarithms.exp()
    by_logits[rows, codes] -= 1
    by_logits *= weights[:, None]
    by_predictions = scale * by_logits
    return PredictionLoss(loss, by_predictions, (by_predictions * predictions).sum())


def regression_loss(
    features: Tensor,
    targets: Tensor,
    real: Iterable[RealFeatures],
    reg: float,
    log_scale: Tensor | None = None,
) -> FeatureLoss:
    """Return the loss on real images of a regression on synthetic ones.

    Parameters
    ----------
    features : Tensor of shape (n, n_features), float64
        Of the synthetic images.
    targets : Tensor of shape (n, n_classes), float64
    real : iterable of RealFeatures
    reg : float
        The ridge, in units of the mean squared length of the features.
    log_scale : Tensor, scalar, float64, default=None
        With it the loss is :func:`platt_loss`, without it :func:`squared_loss`.

    Returns
    -------
    FeatureLoss
    """
    regression = None
    coefficients = torch.zeros_like(targets)
    # Of a network that makes nothing of the images nothing can be learned.
    if bool(features.any()):
        regression = RidgeRegression(features @ features.T, reg)
        coefficients = regression.solve(targets)
    layer = features.T @ coefficients
    by_layer = torch.zeros_like(layer)
    loss, accuracy, by_log_scale = (features.new_zeros(()) for _ in range(3))
    for part in real:
        predictions = part.features @ layer
        if log_scale is None:
            found = squared_loss(predictions, part.codes, part.weights)
        else:
            found = platt_loss(predictions, part.codes, part.weights, log_scale)
        loss = loss + found.loss
        is_right = predictions.argmax(1) == part.codes
        accuracy = accuracy + (part.weights * is_right).sum()
        by_layer += part.features.T @ found.predictions
        by_log_scale = by_log_scale + found.log_scale
    if regression is None:
        nothing = torch.zeros_like(features), torch.zeros_like(targets)
        return FeatureLoss(loss, accuracy, *nothing, by_log_scale)
    by_targets, by_kernel = regression.pull_back(coefficients, features @ by_layer)
    by_features = coefficients @ by_layer.T + 2 * (by_kernel @ features)
    return FeatureLoss(loss, accuracy, by_features, by_targets, by_log_scale)


def margin_loss(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss that keeps the two largest targets of an image apart.

    It is less the mean of their difference, or of 1 / n_classes where that is less.

    Parameters
    ----------
    targets : Tensor of shape (n, n_classes)

    Returns
    -------
    loss : Tensor, scalar
    gradient : Tensor of shape (n, n_classes)
    """
    n, n_classes = targets.shape
    largest, places = targets.topk(2, dim=1)
    margins = largest[:, 0] - largest[:, 1]
    too_small = (margins < 1 / n_classes).to(targets.dtype) / n
    gradient = torch.zeros_like(targets)
    gradient.scatter_(1, places, torch.stack([-too_small, too_small], 1))
    return -margins.clamp_max(1 / n_classes).mean(), gradient
