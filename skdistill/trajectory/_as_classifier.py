"""A teacher's snapshot as a classifier."""

from typing import Any

import numpy as np
import torch

from skdistill.neural_network._classifier import ConvNetClassifier
from skdistill.neural_network._convnet import flatten_parameters, load_learned
from skdistill.neural_network._network import NetworkClassifier
from skdistill.trajectory._settings import TeacherSettings


def as_classifier(
    buffer: Any, settings: TeacherSettings, parameters: np.ndarray, losses: list[float]
) -> ConvNetClassifier | NetworkClassifier:
    """Return a classifier as its own fit would have left it.

    Parameters
    ----------
    buffer : TrajectoryBuffer
        The fitted buffer: what it saw of the images and labels.
    settings : TeacherSettings
        How its teachers were trained, not what its parameters say now.
    parameters : ndarray of shape (n_parameters,)
        The snapshot.
    losses : list of float
        The mean training loss of each epoch before it.

    Returns
    -------
    classifier : ConvNetClassifier or NetworkClassifier
    """
    class_weight: Any = settings.class_weight
    if isinstance(class_weight, tuple):
        class_weight = dict(zip(buffer.classes_.tolist(), class_weight, strict=True))
    shared: dict[str, Any] = dict(
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        batch_size=settings.batch_size,
        max_iter=buffer.n_epochs_,
        augmentation=list(settings.families) or None,
        class_weight=class_weight,
        image_shape=buffer.image_shape_,
        device=buffer.device,
    )
    classifier: ConvNetClassifier | NetworkClassifier
    kind = settings.network
    if kind.is_convnet:
        classifier = ConvNetClassifier(**kind.classifier_parameters(), **shared)
    else:
        classifier = NetworkClassifier(**kind.classifier_parameters(), **shared)
        # What the module holds beside its parameters is that of all teachers.
        module = kind.build_alike()
        load_learned(module, torch.from_numpy(parameters))
        parameters = flatten_parameters(module).numpy()
    classifier.classes_ = buffer.classes_
    classifier.image_shape_ = buffer.image_shape_
    classifier.n_features_in_ = buffer.n_features_in_
    if hasattr(buffer, "feature_names_in_"):
        classifier.feature_names_in_ = buffer.feature_names_in_
    classifier._fitted_loss = classifier.loss
    classifier.parameters_ = parameters
    classifier.loss_curve_ = losses
    classifier.n_iter_ = len(losses)
    return classifier
