"""Training one teacher and keeping its snapshots."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skdistill.neural_network._convnet import ConvNet, flatten_parameters
from skdistill.neural_network._training import train_epochs
from skdistill.trajectory._store import TeacherRun
from skdistill.utils._random import child_seed, isolated_torch_seed, torch_generator


@dataclass(frozen=True)
class TeacherSettings:
    """Everything but the data and the seed that decides what a teacher becomes."""

    image_shape: tuple[int, int, int]
    n_classes: int
    width: int
    depth: int
    normalization: str
    n_epochs: int
    learning_rate: float
    momentum: float
    weight_decay: float
    batch_size: int
    families: tuple[str, ...]
    scale: float

    def build(self) -> ConvNet:
        module = ConvNet(
            self.image_shape,
            self.n_classes,
            width=self.width,
            depth=self.depth,
            normalization=self.normalization,
        )
        # Snapshots are float32 whatever PyTorch's default type is.
        return module.float()

    def build_structure(self) -> ConvNet:
        """Build the network without parameters."""
        with torch.device("meta"):
            return self.build()


def train_teacher(
    settings: TeacherSettings,
    images: Tensor,
    codes: Tensor,
    sample_weight: Tensor | None,
    seed: int,
) -> TeacherRun:
    """Train one teacher from new weights and copy its parameters after each epoch.

    Parameters
    ----------
    settings : TeacherSettings
    images : Tensor of shape (n_samples, channels, height, width)
    codes : Tensor of shape (n_samples,), int64
    sample_weight : Tensor of shape (n_samples,) or None
        Weights of the images' losses, with mean 1.
    seed : int
        Decides on everything random.

    Returns
    -------
    TeacherRun
    """
    with isolated_torch_seed(child_seed(seed, 0)):
        module = settings.build().to(images.device)
    initial = flatten_parameters(module).cpu().numpy()
    parameters = np.empty((settings.n_epochs + 1, initial.size), dtype=np.float32)
    parameters[0] = initial
    loss, accuracy = np.empty((2, settings.n_epochs))
    epochs = train_epochs(
        module,
        images,
        codes,
        n_epochs=settings.n_epochs,
        batch_size=settings.batch_size,
        learning_rate=lambda epoch: settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        families=settings.families,
        scale=settings.scale,
        generator=torch_generator(child_seed(seed, 1)),
        sample_weight=sample_weight,
    )
    for epoch, summary in enumerate(epochs):
        parameters[epoch + 1] = flatten_parameters(module).cpu().numpy()
        loss[epoch], accuracy[epoch] = summary
        # The loss is that before each step, it does not see the last one.
        if not (np.isfinite(summary.loss) and np.isfinite(parameters[epoch + 1]).all()):
            raise ValueError(
                f"a teacher diverged in epoch {epoch + 1} (loss {summary.loss}); "
                f"`learning_rate`={settings.learning_rate} is too high for these images"
            )
    return TeacherRun(parameters, loss, accuracy)
