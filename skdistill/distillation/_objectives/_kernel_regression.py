"""What KIP minimizes: the loss of a kernel regression on synthetic images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skdistill.distillation._engine._objective import Draw, Evaluation, Objective
from skdistill.distillation._engine._parameters import SyntheticParameters, one_hot
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._objectives._kernel_ridge import (
    RealPart,
    centered,
    part_size,
    ridge_loss,
    solve_labels,
)
from skdistill.neural_network._kernels import Kernel, as_channels_first, as_rows
from skdistill.neural_network._ridge import NotFiniteError

# Real images that are read at once where all of them pass by.
_READ_AT_ONCE = 1000


@dataclass(frozen=True)
class _All:
    """All real images, a part at a time, with equal weights of the classes."""

    data: RealData
    device: torch.device

    def __iter__(self) -> Iterator[RealPart]:
        n_classes = self.data.n_classes
        share = np.ones(len(self.data.codes))
        if self.data.weight is not None:
            share = self.data.weight.copy()
        for rows in self.data.rows:
            share[rows] /= share[rows].sum() * n_classes
        for start in range(0, len(share), _READ_AT_ONCE):
            positions = np.arange(start, min(start + _READ_AT_ONCE, len(share)))
            codes = torch.from_numpy(self.data.codes[positions])
            yield _part(
                self.data.read(positions),
                codes,
                torch.from_numpy(share[positions]),
                n_classes,
                self.device,
            )


def _part(
    images: Tensor,
    codes: Tensor,
    weight: Tensor,
    n_classes: int,
    device: torch.device,
) -> RealPart:
    rows = as_rows(images.to(device)).double()
    targets = one_hot(codes.to(device), n_classes, torch.float64)
    return RealPart(rows, centered(targets), weight.to(device).double())


class KernelRegression(Objective):
    """The loss on real images of a kernel ridge regression on synthetic images.

    Parameters
    ----------
    data : RealData
    kernel : Kernel
    reg : float
        The ridge, in units of the mean of the kernel's diagonal.
    n_targets : int or None
        Number of real images in an iteration, the same number of each class; None uses
        all.
    labels : {"hard", "learned", "solved"}
        Whether the labels of synthetic images are probabilities, regression targets, or
        the solution of a least-squares problem.
    learns_images : bool
        Whether there is a gradient by the images.
    """

    out_of_memory_hint = "A smaller `n_targets` needs less memory."

    def __init__(
        self,
        data: RealData,
        kernel: Kernel,
        reg: float,
        *,
        n_targets: int | None,
        labels: str,
        learns_images: bool,
    ) -> None:
        self._data = data
        self._kernel = kernel
        self._reg = reg
        self._n_per_class = (
            None if n_targets is None else max(1, n_targets // data.n_classes)
        )
        self._labels = labels
        self._learns_images = learns_images
        # Apple's GPUs have no float64.
        on_mps = data.device.type == "mps"
        self._device = torch.device("cpu") if on_mps else data.device
        self._solved: tuple[Tensor, Tensor] | None = None

    def evaluate(self, synthetic: SyntheticParameters, draw: Draw) -> Evaluation:
        images, labels = synthetic.images, synthetic.labels
        x = self._rows(images)
        real = self._batch(draw, len(x))
        try:
            if self._labels == "solved" and not self._learns_images:
                targets = self._solve(images)
            elif self._labels == "solved":
                # To first order the loss does not change with them: its gradient by
                # the images is that at these targets.
                targets = solve_labels(self._kernel, x, real, self._reg)
            else:
                targets = labels.to(self._device).double()
                if self._labels == "hard":
                    targets = centered(targets)
            found = ridge_loss(
                self._kernel,
                x,
                targets,
                real,
                self._reg,
                by_images=self._learns_images,
            )
        except NotFiniteError:
            # Images that diverged: the engine rolls them back.
            loss = torch.tensor(torch.nan, dtype=torch.float64)
            nothing = torch.zeros_like(images), torch.zeros_like(labels)
            return Evaluation(
                {"loss": loss}, dict(zip(("images", "labels"), nothing, strict=True))
            )
        return Evaluation(
            {"loss": found.loss},
            {
                "images": as_channels_first(found.x, images.shape[1:]).to(images),
                "labels": found.targets.to(labels),
            },
        )

    def advance(
        self, synthetic: SyntheticParameters, numbers: Mapping[str, float], draw: Draw
    ) -> str:
        """End where there is nothing to iterate: labels are solved for at once."""
        if self._labels == "solved" and not self._learns_images:
            return "solved"
        return ""

    def targets(self, images: Tensor, labels: Tensor) -> Tensor | None:
        if self._labels == "hard":
            return None
        if self._labels == "learned":
            return labels
        return self._solve(images).to(labels)

    def _rows(self, images: Tensor) -> Tensor:
        return as_rows(images.to(self._device)).double()

    def _batch(self, draw: Draw, n: int) -> list[RealPart]:
        """Return the real images of an iteration, beside n synthetic ones."""
        batch = self._data.batch(draw, self._n_per_class)
        whole = _part(
            batch.images,
            batch.codes,
            batch.weights / self._data.n_classes,
            self._data.n_classes,
            self._device,
        )
        split = (part.split(part_size(n)) for part in whole)
        return [RealPart(*part) for part in zip(*split, strict=True)]

    def _solve(self, images: Tensor) -> Tensor:
        """Solve for the labels, over all real images."""
        if self._solved is None or not torch.equal(self._solved[0], images):
            real = _All(self._data, self._device)
            found = solve_labels(self._kernel, self._rows(images), real, self._reg)
            self._solved = images, found
        return self._solved[1]
