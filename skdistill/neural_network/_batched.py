"""Training several classifiers of one kind at once.

A GPU takes each step of all of them in one call.  On a CPU one grouped convolution is
slower than one network after the other, but the written-out derivatives, which save
what automatic differentiation spends on pooling and normalization, are faster.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from skdistill.neural_network._augment import draw_augmentation, resolve_families
from skdistill.neural_network._base import BaseNetworkClassifier
from skdistill.neural_network._classifier import ConvNetClassifier
from skdistill.neural_network._convnet import (
    NORMALIZATIONS,
    ConvNet,
    flatten_parameters,
)
from skdistill.neural_network._sgd import (
    EpochPlan,
    GradientFunction,
    SGDSettings,
    all_at_once,
    descend_epoch,
    networks_at_once,
    one_by_one,
)
from skdistill.neural_network._training import make_optimizer
from skdistill.neural_network._training_data import (
    TrainingData,
    class_row_data,
    labeled_data,
)
from skdistill.utils._device import resolve_device
from skdistill.utils._memory import reused_memory
from skdistill.utils._pixel_space import pixel_scale
from skdistill.utils._random import (
    child_seed,
    isolated_torch_seed,
    root_seed,
    torch_generator,
)
from skdistill.utils._tensors import RealImages
from skdistill.utils._workers import worker_threads


def can_fit_together(estimator: Any) -> bool:
    """Tell whether classifiers like this one can be trained at once.

    A batch normalization keeps statistics, callbacks want to see each network, and
    weights of classes go into the labels, which the squared loss has no room for.
    """
    return (
        type(estimator) is ConvNetClassifier
        and estimator.normalization != "batch"
        and (estimator.loss != "squared" or estimator.class_weight is None)
        and not getattr(estimator, "_skl_callbacks", None)
    )


def can_fit_in_threads(estimator: Any) -> bool:
    """Tell whether several threads may fit classifiers like this one.

    One that draws from torch's global generator needs it for itself, callbacks expect
    to be called by one thread, and a GPU is given work by one.
    """
    return (
        isinstance(estimator, BaseNetworkClassifier)
        and resolve_device(estimator.device).type == "cpu"
        and not estimator._draws_itself
        and not getattr(estimator, "_skl_callbacks", None)
    )


def fit_together(
    classifiers: Sequence[ConvNetClassifier],
    X: Any,
    y: Any,
    probabilities: Any = None,
    targets: Any = None,
) -> np.ndarray:
    """Fit classifiers that differ in their random states alone.

    Each becomes what its ``fit`` would make of it, but for rounding.

    Parameters
    ----------
    classifiers : sequence of ConvNetClassifier
        Those that :func:`can_fit_together` accepts.
    X : array-like of shape (n_samples, height, width, channels)
        Images.
    y : array-like of shape (n_samples,)
        Class labels.
    probabilities : array-like of shape (n_samples, n_classes), default=None
        Soft labels, in place of the others.
    targets : array-like of shape (n_samples, n_classes), default=None
        Regression targets, in place of the others.

    Returns
    -------
    finite : ndarray of shape (n_classifiers,), bool
        False for those that diverged.
    """
    data = []
    for classifier in classifiers:
        classifier._validate_params()
        rows = {"targets": targets, "probabilities": probabilities}
        given = [name for name in rows if rows[name] is not None]
        if not given:
            data.append(labeled_data(classifier, X, y))
        else:
            name = given[0]
            classes = np.unique(y)
            data.append(class_row_data(classifier, X, name, rows[name], classes))
    device = resolve_device(classifiers[0].device)
    with torch.device("meta"):
        module = classifiers[0]._build()
    batch_size = min(classifiers[0].batch_size, len(data[0].images))
    size = networks_at_once(module, batch_size, device, len(classifiers))
    with worker_threads(device), reused_memory():
        return np.concatenate(
            [
                _fit_group(classifiers[first : first + size], module, data[0], device)
                for first in range(0, len(classifiers), size)
            ]
        )


def _fit_group(
    classifiers: Sequence[ConvNetClassifier],
    module: ConvNet,
    data: TrainingData,
    device: torch.device,
) -> np.ndarray:
    one = classifiers[0]
    dtype = torch.get_default_dtype()
    families = resolve_families(one.augmentation)
    images = RealImages(data.images, device, dtype)
    targets = data.targets
    if targets.ndim == 1:
        targets = F.one_hot(targets, len(one.classes_))
    targets = targets.to(device, dtype)
    if data.weight is not None:
        weight = torch.from_numpy(data.weight / data.weight.mean())
        targets = targets * weight.to(device, dtype)[:, None]

    seeds = [root_seed(classifier.random_state) for classifier in classifiers]
    initial = []
    for classifier, seed in zip(classifiers, seeds, strict=True):
        with isolated_torch_seed(child_seed(seed, 0)):
            initial.append(flatten_parameters(classifier._build()))
    generators = [torch_generator(child_seed(seed, 1)) for seed in seeds]
    parameters = torch.stack(initial).to(device)
    momentum_buffer = torch.zeros_like(parameters) if one.momentum else None
    optimizer = None
    if one.optimizer == "adam":
        optimizer = make_optimizer(
            "adam", [parameters], one._rate(0), one.momentum, one.weight_decay
        )
    gradients = _gradient_function(one, module, device)
    scale = pixel_scale(data.images)
    losses = []
    for epoch in range(one.max_iter):
        descent = SGDSettings(
            one._rate(epoch), one.momentum, one.weight_decay, one.batch_size, scale
        )
        if optimizer is not None:
            optimizer.param_groups[0]["lr"] = descent.learning_rate
        plans = [
            _plan(len(images), one.batch_size, families, generator)
            for generator in generators
        ]
        found = descend_epoch(
            gradients,
            parameters,
            momentum_buffer,
            images,
            targets,
            plans,
            descent,
            optimizer=optimizer,
        )
        # Read at the end: a GPU need not wait for the host.
        losses.append(found[0])
    curves = torch.stack(losses, dim=1).cpu().numpy()
    learned = parameters.cpu().numpy()
    for classifier, curve, vector in zip(classifiers, curves, learned, strict=True):
        classifier.loss_curve_ = curve.tolist()
        classifier.n_iter_ = len(curve)
        classifier.parameters_ = vector.copy()
    finite = np.isfinite(curves).all(axis=1) & np.isfinite(learned).all(axis=1)
    # The last step comes after the last loss.
    for place in np.flatnonzero(finite).tolist():
        finite[place] = classifiers[place]._is_finite_for(data.images)
    return finite


def _gradient_function(
    classifier: ConvNetClassifier, module: ConvNet, device: torch.device
) -> GradientFunction:
    """Return what differentiates the networks fastest."""
    is_written_out = (
        classifier.normalization in NORMALIZATIONS and classifier.pooling == "average"
    )
    if device.type == "cpu" and is_written_out:
        return one_by_one(module, loss=classifier._fitted_loss)
    return all_at_once(module, loss=classifier._fitted_loss)


def _plan(
    n_samples: int,
    batch_size: int,
    families: Sequence[str],
    generator: torch.Generator,
) -> EpochPlan:
    """Draw what :func:`train_epochs` draws in an epoch, in the same order."""
    order = torch.randperm(n_samples, generator=generator)
    draws = [
        draw_augmentation(families, len(batch), generator)
        for batch in order.split(batch_size)
    ]
    uniforms = torch.cat([draw.uniforms for draw in draws])
    return EpochPlan(order, [draw.family for draw in draws], uniforms)
