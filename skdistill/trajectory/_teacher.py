"""Training teachers, one or several at once, and keeping their snapshots."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from skdistill.neural_network._compile import pays_to_compile
from skdistill.neural_network._convnet import ConvNet, flatten_learned
from skdistill.neural_network._module_derivatives import ModuleDerivatives
from skdistill.neural_network._sgd import (
    GradientFunction,
    SGDSettings,
    all_at_once,
    descend_epoch,
    modules_one_by_one,
    networks_at_once,
    one_by_one,
    plan_epoch,
)
from skdistill.trajectory._settings import (
    TeacherSettings,
    n_snapshots_until,
    snapshots_in,
)
from skdistill.trajectory._store import STORAGES, TeacherRun
from skdistill.utils._random import child_seed, isolated_torch_seed, torch_generator
from skdistill.utils._tensors import RealImages


class Teachers:
    """Teachers in training, side by side.

    Parameters
    ----------
    settings : TeacherSettings
    images : RealImages
    codes : Tensor of shape (n_samples,), int64
    weight : Tensor of shape (n_samples,) or None
        Weights of the images' losses, with mean 1.
    seeds : sequence of int
        Each decides on everything random of one teacher.
    n_epochs : int
        Number of epochs to train for.
    runs : sequence of TeacherRun, default=None
        The trainings so far, to be resumed, all of the same number of epochs.
    numbers : sequence of int, default=None
        What the teachers are called in messages.
    """

    def __init__(
        self,
        settings: TeacherSettings,
        images: RealImages,
        codes: Tensor,
        weight: Tensor | None,
        seeds: Sequence[int],
        n_epochs: int,
        runs: Sequence[TeacherRun] | None = None,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self._settings = settings
        self._images = images
        targets = F.one_hot(codes, settings.n_classes).to(images.dtype)
        self._targets = targets if weight is None else targets * weight[:, None]
        self._seeds = list(seeds)
        self._numbers = range(len(seeds)) if numbers is None else numbers
        self._first = runs[0].n_epochs if runs else 0
        self._last = n_epochs
        n_snapshots = n_snapshots_until(settings.snapshots_per_epoch, n_epochs)
        if runs:
            start = torch.stack([run.last for run in runs])
        else:
            start = torch.stack([self._initial(seed) for seed in seeds])
        self._parameters = start.to(images.device)
        self._velocity = None
        if settings.momentum:
            self._velocity = torch.zeros_like(self._parameters)
        n_teachers = len(self._seeds)
        self._snapshots = torch.empty(n_teachers, n_snapshots, start.shape[1])
        self._snapshots[:, 0] = start
        self._network: ModuleDerivatives | None = None
        self._frozen: Tensor | None = None
        if not settings.is_convnet:
            network = settings.network.derivatives(images.device)
            assert isinstance(network, ModuleDerivatives)
            self._network = network
            if not bool(network.is_trained.all()):
                self._frozen = ~network.is_trained
        self._fixed = self._parameters.clone() if self._frozen is not None else None
        self._curves = torch.empty(2, n_teachers, n_epochs, dtype=torch.float64)
        for place, run in enumerate(runs or []):
            self._snapshots[place, : len(run.parameters)] = run.parameters
            self._curves[0, place, : run.n_epochs] = run.loss
            self._curves[1, place, : run.n_epochs] = run.accuracy
            if self._velocity is not None:
                self._velocity[place] = run.velocity

    def _initial(self, seed: int) -> Tensor:
        with isolated_torch_seed(child_seed(seed, 0)):
            return flatten_learned(self._settings.network.build())

    def train(self) -> Iterator[int]:
        """Train; yields the number of epochs done after each of them.

        Raises
        ------
        ValueError
            If numbers are not finite any more.
        """
        settings = self._settings
        n_samples = len(self._images)
        n_steps = -(-n_samples // settings.batch_size)
        of_convnet: GradientFunction | None = None
        if self._network is None:
            of_convnet = self._gradients((self._last - self._first) * n_steps)
        descent = SGDSettings(
            settings.learning_rate,
            settings.momentum,
            settings.weight_decay,
            settings.batch_size,
            settings.scale,
        )
        for epoch in range(self._first, self._last):
            # A generator for each epoch: nothing of it has to be stored for a resume.
            plans = [
                plan_epoch(
                    n_samples,
                    settings.batch_size,
                    settings.families,
                    torch_generator(child_seed(seed, 1, epoch)),
                )
                for seed in self._seeds
            ]
            n_snapshots = snapshots_in(settings.snapshots_per_epoch, epoch)
            first = n_snapshots_until(settings.snapshots_per_epoch, epoch)
            places = {
                -(-n_steps * (k + 1) // n_snapshots): first + k
                for k in range(n_snapshots)
            }

            snapshot = self._parameters
            if settings.average:
                snapshot = torch.zeros_like(self._parameters)
            n_averaged = 0

            def keep(
                step: int,
                places: dict[int, int] = places,
                snapshot: Tensor = snapshot,
            ) -> None:
                nonlocal n_averaged
                if self._frozen is not None and self._fixed is not None:
                    # Weight decay would shrink them.
                    self._parameters[:, self._frozen] = self._fixed[:, self._frozen]
                if settings.average:
                    n_averaged += 1
                    snapshot.lerp_(self._parameters, 1 / n_averaged)
                if step in places:
                    self._snapshots[:, places[step]] = snapshot.cpu()
                    n_averaged = 0

            gradients = of_convnet
            if gradients is None:
                assert self._network is not None
                gradients = modules_one_by_one(
                    self._network,
                    [child_seed(seed, 2, epoch) for seed in self._seeds],
                )
            curves = descend_epoch(
                gradients,
                self._parameters,
                self._velocity,
                self._images,
                self._targets,
                plans,
                descent,
                keep,
            )
            self._curves[:, :, epoch] = torch.stack(curves).cpu()
            self._check(epoch, first)
            yield epoch + 1

    def runs(self, n_epochs: int) -> list[TeacherRun]:
        """Return the trainings so far.

        Parameters
        ----------
        n_epochs : int
            The number of epochs that was yielded last.
        """
        n_snapshots = n_snapshots_until(self._settings.snapshots_per_epoch, n_epochs)
        velocity = torch.empty(len(self._seeds), 0)
        if self._velocity is not None:
            velocity = self._velocity.cpu()
        last = self._parameters.cpu()
        return [
            TeacherRun(
                self._snapshots[place, :n_snapshots],
                self._curves[0, place, :n_epochs].clone(),
                self._curves[1, place, :n_epochs].clone(),
                velocity[place].clone(),
                last[place].clone(),
            )
            for place in range(len(self._seeds))
        ]

    def _gradients(self, n_steps: int) -> GradientFunction:
        structure = self._settings.build_structure()
        assert isinstance(structure, ConvNet)
        device = self._images.device
        if trains_one_by_one(device):
            return one_by_one(structure)
        return all_at_once(structure, compile=pays_to_compile(device, n_steps))

    def _check(self, epoch: int, first: int) -> None:
        # The loss is that before each step, it does not see the last one.
        losses = self._curves[0, :, epoch]
        n_snapshots = snapshots_in(self._settings.snapshots_per_epoch, epoch)
        taken = self._snapshots[:, first : first + n_snapshots]
        finite = losses.isfinite() & taken.isfinite().all(dim=2).all(dim=1)
        for number, loss, good in zip(
            self._numbers, losses.tolist(), finite.tolist(), strict=True
        ):
            if not good:
                raise ValueError(
                    f"teacher {number} diverged in epoch {epoch + 1} (loss {loss}); "
                    f"`learning_rate`={self._settings.learning_rate} is too high for "
                    "these images"
                )
        storage = self._settings.storage
        # With the initial weights, some of which may never change.
        for rows in (self._snapshots[:, :1], taken):
            if not rows.to(STORAGES[storage]).isfinite().all():
                raise ValueError(
                    f"`storage`={storage!r} holds numbers up to "
                    f"{torch.finfo(STORAGES[storage]).max:.5g}, but the teachers have "
                    f"parameters of {rows.abs().max():.3g}; use 'float32' or "
                    "'bfloat16'"
                )


def trains_one_by_one(device: torch.device) -> bool:
    """Tell whether teachers take their turns in each step."""
    return device.type == "cpu"


def teachers_at_once(
    settings: TeacherSettings, device: torch.device, n_teachers: int
) -> int:
    """Return how many of ``n_teachers`` are best trained side by side on a device."""
    if device.type != "cuda" or not settings.is_convnet:
        return 1
    structure = settings.build_structure()
    assert isinstance(structure, ConvNet)
    return networks_at_once(structure, settings.batch_size, device, n_teachers)
