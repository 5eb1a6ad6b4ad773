"""Distances between features of real and of synthetic images, with their gradients.

Features are rows, one for each image.  Which class an image belongs to, and how much it
counts in the mean of its class, are said by a matrix of averages A of shape (n_classes,
n_samples): A @ features are the means of the classes.  Every distance has a value for
each class and a gradient by the features of the synthetic images in closed form; the
real side is a constant.

References
----------
Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023.
Wang et al., "CAFE: Learning to Condense Dataset by Aligning Features", CVPR 2022.
Zhang et al., "DANCE: Dual-View Distribution Alignment for Dataset Condensation", IJCAI
2024.
Wang et al., "Dataset Distillation with Neural Characteristic Function: A Minmax
Perspective", CVPR 2025.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# What distances between characteristic functions are multiplied by, so that they
# weigh as much against a cross-entropy as in the code of their authors.
CHARACTERISTIC_WEIGHT = 300.0


class Distance(NamedTuple):
    """A distance between real and synthetic features.

    Attributes
    ----------
    values : Tensor of shape (n_classes,)
        Of each class.
    gradient : Tensor of shape (n_synthetic, n_features)
        Of the sum of the values by the synthetic features.
    """

    values: Tensor
    gradient: Tensor


def averages(codes: Tensor, n_classes: int, weights: Tensor) -> Tensor:
    """Return the matrix that turns rows into means of classes.

    Parameters
    ----------
    codes : Tensor of shape (n_samples,), int64
        The class of each row.
    n_classes : int
    weights : Tensor of shape (n_samples,)
        Of each row in the mean of its class; they sum to 1 in each class.

    Returns
    -------
    averages : Tensor of shape (n_classes, n_samples)
    """
    # A product with it is reproducible on a GPU, where adding to indexed rows is not.
    matrix = weights.new_zeros(n_classes, len(codes))
    return matrix.scatter_(0, codes[None], weights[None])


def equal_weights(codes: Tensor, n_classes: int, dtype: torch.dtype) -> Tensor:
    """Return 1 / (size of its class) for each row."""
    return 1.0 / codes.bincount(minlength=n_classes)[codes].to(dtype)


def mean_distance(means: Tensor, synthetic: Tensor, averages: Tensor) -> Distance:
    """Compare means of features: |mean of real - mean of synthetic|^2 in each class.

    Parameters
    ----------
    means : Tensor of shape (n_classes, n_features)
        Of the real images.
    synthetic : Tensor of shape (n_synthetic, n_features)
    averages : Tensor of shape (n_classes, n_synthetic)
        Those of the synthetic images.

    Returns
    -------
    Distance
    """
    difference = averages @ synthetic - means
    return Distance(difference.square().sum(dim=1), 2.0 * averages.t() @ difference)


class Characteristic(NamedTuple):
    """Characteristic functions mean(exp(i <t, f>)) of the features of each class.

    Attributes
    ----------
    real, imaginary : Tensor of shape (n_classes, n_frequencies)
    """

    real: Tensor
    imaginary: Tensor


def characteristic(
    features: Tensor, averages: Tensor, frequencies: Tensor
) -> Characteristic:
    """Return the characteristic functions of the features of each class.

    Parameters
    ----------
    features : Tensor of shape (n_samples, n_features)
    averages : Tensor of shape (n_classes, n_samples)
    frequencies : Tensor of shape (n_frequencies, n_features)

    Returns
    -------
    Characteristic
    """
    phases = features @ frequencies.t()
    return Characteristic(averages @ phases.cos(), averages @ phases.sin())


def characteristic_distance(
    target: Characteristic, synthetic: Tensor, averages: Tensor, frequencies: Tensor
) -> Distance:
    """Compare characteristic functions: the mean of |difference| over frequencies.

    The square of the difference is the sum of a term of amplitudes, (|a| - |b|)^2,
    and one of phases, 2 (|a| |b| - Re a conj(b)); equal weights of both, 1/2 each, are
    a factor of sqrt(1/2).

    Parameters
    ----------
    target : Characteristic
        Of the real images at the same frequencies.
    synthetic : Tensor of shape (n_synthetic, n_features)
    averages : Tensor of shape (n_classes, n_synthetic)
        Those of the synthetic images.
    frequencies : Tensor of shape (n_frequencies, n_features)

    Returns
    -------
    Distance
    """
    phases = synthetic @ frequencies.t()
    cosines, sines = phases.cos(), phases.sin()
    real = averages @ cosines - target.real
    imaginary = averages @ sines - target.imaginary
    modulus = torch.hypot(real, imaginary)
    weight = CHARACTERISTIC_WEIGHT * 0.5**0.5
    # Where both are the same, 0 is one of the subgradients.
    factor = weight / len(frequencies) / modulus
    factor = torch.where(modulus > 0, factor, torch.zeros_like(factor))
    by_real = averages.t() @ (real * factor)
    by_imaginary = averages.t() @ (imaginary * factor)
    by_phases = by_imaginary * cosines - by_real * sines
    return Distance(weight * modulus.mean(dim=1), by_phases @ frequencies)


def gaussian_distance(
    real: Tensor, real_averages: Tensor, synthetic: Tensor, averages: Tensor
) -> Distance:
    """Compare characteristic functions at all frequencies at once, in closed form.

    For frequencies from a standard normal distribution the expected square of the
    difference of two characteristic functions is the squared maximum mean discrepancy
    with the kernel k(f, g) = exp(-|f - g|^2 / 2): it needs no frequency at all.

    Parameters
    ----------
    real : Tensor of shape (n_real, n_features)
    real_averages : Tensor of shape (n_classes, n_real)
    synthetic : Tensor of shape (n_synthetic, n_features)
    averages : Tensor of shape (n_classes, n_synthetic)
        Of the same classes; images of none of them have no gradient.

    Returns
    -------
    Distance
    """
    values, gradient = [], torch.zeros_like(synthetic)
    for of_real, of_synthetic in zip(real_averages, averages, strict=True):
        rows, own = of_real.nonzero()[:, 0], of_synthetic.nonzero()[:, 0]
        a, b = real[rows], synthetic[own]
        p, q = of_real[rows], of_synthetic[own]
        within = _kernel(b, b) * q
        across = _kernel(b, a) * p
        value = p @ (_kernel(a, a) @ p) + q @ within.sum(1) - 2.0 * q @ across.sum(1)
        pull = across.sum(1) - within.sum(1)
        change = pull[:, None] * b - across @ a + within @ b
        gradient[own] = (2.0 * CHARACTERISTIC_WEIGHT) * q[:, None] * change
        values.append(CHARACTERISTIC_WEIGHT * value)
    return Distance(torch.stack(values), gradient)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """Return exp(-|f - g|^2 / 2) of all pairs of rows."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1)
    return torch.exp(-0.5 * (squares - 2.0 * a @ b.t()).clamp_min(0.0))


class UnitFeatures(NamedTuple):
    """Features of length 1.

    Attributes
    ----------
    features : Tensor of shape (n_samples, n_features)
    lengths : Tensor of shape (n_samples, 1)
        What they had before; where it was 0 the features are 0 still.
    """

    features: Tensor
    lengths: Tensor


def to_unit_length(features: Tensor) -> UnitFeatures:
    """Scale each row to length 1."""
    # In units of the largest value squares neither vanish nor overflow.
    tiny = torch.finfo(features.dtype).tiny
    largest = features.abs().amax(dim=1, keepdim=True).clamp_min(tiny)
    lengths = largest * (features / largest).norm(dim=1, keepdim=True)
    return UnitFeatures(features / lengths.clamp_min(tiny), lengths)


def through_unit_length(unit: UnitFeatures, gradient: Tensor) -> Tensor:
    """Turn a gradient by features of length 1 into one by what they were made of."""
    along = (gradient * unit.features).sum(dim=1, keepdim=True)
    found = (gradient - along * unit.features) / unit.lengths
    return torch.where(unit.lengths > 0, found, torch.zeros_like(found))


def discrimination(
    real: Tensor, codes: Tensor, weights: Tensor, means: Tensor
) -> tuple[Tensor, Tensor]:
    """Classify real images by the synthetic images' mean features.

    The logit of class k is the inner product <features, mean of class k>; the loss is
    the sum over classes of the mean cross-entropy of their real images.

    Parameters
    ----------
    real : Tensor of shape (n_real, n_features)
    codes : Tensor of shape (n_real,), int64
    weights : Tensor of shape (n_real,)
        Of each image in its class.
    means : Tensor of shape (n_classes, n_features)
        Of the synthetic images.

    Returns
    -------
    loss : Tensor, scalar
    gradient : Tensor of shape (n_classes, n_features)
        By the means.
    """
    logits = real @ means.t()
    loss, residuals = cross_entropy(logits, codes, weights)
    return loss, residuals.t() @ real


def cross_entropy(
    logits: Tensor, codes: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of cross-entropies, and its gradient by the logits.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
    codes : Tensor of shape (n_samples,), int64
    weights : Tensor of shape (n_samples,)

    Returns
    -------
    loss : Tensor, scalar
    gradient : Tensor of shape (n_samples, n_classes)
    """
    logarithms = logits.log_softmax(dim=1)
    loss = -(weights * logarithms.gather(1, codes[:, None])[:, 0]).sum()
    gradient = logarithms.exp()
    gradient.scatter_add_(1, codes[:, None], gradient.new_full((len(codes), 1), -1.0))
    return loss, gradient * weights[:, None]
