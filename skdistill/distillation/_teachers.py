"""The teachers of a distiller: given, loaded or trained, and fit for the images."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skdistill.distillation._engine._real_batches import RealData
from skdistill.neural_network._default import describe_kind
from skdistill.neural_network._module_derivatives import Derivatives
from skdistill.neural_network._network_kind import NetworkKind, network_kind
from skdistill.trajectory import TrajectoryBuffer
from skdistill.trajectory._store import manifest_path
from skdistill.utils._distributed import Ranks
from skdistill.utils._files import as_path
from skdistill.utils._pixel_space import check_contrast
from skdistill.utils._warnings import warn


def given_buffer(distiller: Any) -> Any:
    """Return the parameter ``buffer`` of a distiller, or what None stands for."""
    if distiller.buffer is not None:
        return distiller.buffer
    return TrajectoryBuffer(
        augmentation=distiller.augmentation,
        n_jobs=-1,
        device=distiller.device,
        verbose=distiller.verbose,
    )


def fit_teachers(
    buffer: Any,
    data: RealData,
    *,
    seed: int,
    ranks: Ranks,
    is_fixed: bool = False,
    checkpoint: Any = None,
    check_epochs: Callable[[int], None] | None = None,
    check_network: Callable[[Derivatives], None] | None = None,
) -> TrajectoryBuffer:
    """Return fitted teachers that match the images.

    Parameters
    ----------
    buffer : TrajectoryBuffer, FrozenEstimator or path-like
        As the user gave it.
    data : RealData
    seed : int
        Of teachers that are trained and have none of their own.
    ranks : Ranks
    is_fixed : bool, default=False
        Whether the user chose that seed, by the distiller's random state.
    checkpoint : path-like, default=None
        The distiller's folder, in which teachers that are trained are kept.
    check_epochs : callable, default=None
        Takes the number of epochs, or parts of these, after which there is a snapshot,
        and raises a ValueError if they are too few.
    check_network : callable, default=None
        Takes the derivatives of a network of a user's own, before teachers are
        trained, and raises a ValueError if the distiller cannot do with them.

    Returns
    -------
    buffer : TrajectoryBuffer

    Raises
    ------
    ValueError
        If teachers are for other images, of another network, or too few epochs.
    """
    buffer = _as_buffer(buffer)

    def check_kind() -> None:
        kind = kind_of_teachers(buffer, data)
        if check_network is not None and kind.source is not None:
            check_network(kind.derivatives(torch.device("cpu")))

    if not hasattr(buffer, "history_"):
        if check_epochs is not None:
            check_epochs(len(buffer.planned_snapshot_epochs()) - 1)
        if callable(buffer.architecture):
            check_kind()
        return _train(buffer, data, seed, is_fixed, ranks, checkpoint)
    if check_epochs is not None:
        check_epochs(len(buffer.snapshot_epochs_) - 1)
    _check_buffer(buffer, data)
    check_kind()
    if buffer.fingerprint_ != data.fingerprint and ranks.is_first:
        warn(
            "`buffer` was fitted on different images, labels or weights from X, y: if "
            "it was fitted on images that the distilled set is later tested on, the "
            "test score is biased",
        )
    return buffer


def kind_of_teachers(buffer: Any, data: RealData) -> NetworkKind:
    """Return which network teachers are, or will be, before any is trained.

    Parameters
    ----------
    buffer : TrajectoryBuffer, FrozenEstimator or path-like
        As the user gave it.
    data : RealData

    Returns
    -------
    NetworkKind

    Raises
    ------
    ValueError
        If a network of a user's own cannot be made, or cannot compute with the images.
    """
    buffer = _as_buffer(buffer)
    if hasattr(buffer, "history_"):
        return buffer.settings_.network
    buffer._validate_params()
    return network_kind(
        buffer.architecture,
        data.image_shape,
        data.n_classes,
        width=buffer.width,
        depth=buffer.depth,
        normalization=buffer.normalization,
        images=data.some_images(),
    )


def _as_buffer(buffer: Any) -> TrajectoryBuffer:
    if isinstance(buffer, FrozenEstimator):
        buffer = buffer.estimator
        if not hasattr(buffer, "history_"):
            raise ValueError("`buffer` must be fitted if it is a FrozenEstimator")
    if isinstance(buffer, (str, os.PathLike)):
        buffer = TrajectoryBuffer.load(as_path(buffer, "buffer"))
    return buffer


def _train(
    buffer: TrajectoryBuffer,
    data: RealData,
    seed: int,
    is_fixed: bool,
    ranks: Ranks,
    checkpoint: Any,
) -> TrajectoryBuffer:
    buffer = clone(buffer)
    is_beside = checkpoint is not None and buffer.path is None
    if is_beside:
        # Teachers are most of the work: a killed fit shall not lose them.  In a
        # search all fits share those that they have in common.
        buffer.set_params(path=as_path(checkpoint, "checkpoint") / "teachers")
    # Teachers that are on disk already keep the seed they have.  But not those that a
    # killed fit of another random state has left beside a checkpoint.
    on_disk = buffer.path is not None and manifest_path(as_path(buffer.path)).exists()
    keeps_seed = on_disk and not (is_beside and is_fixed)
    if buffer.random_state is None and not keeps_seed:
        buffer.set_params(random_state=seed)
    if buffer.path is None:
        # One process trains them while the others wait, however long.
        return ranks.from_first(lambda: buffer.fit(*data.given), long=True)
    if not ranks.is_first:
        buffer.set_params(verbose=0)
    # Those that see one folder share its teachers.
    return ranks.side_by_side(lambda: buffer.fit(*data.given))


def _check_buffer(buffer: TrajectoryBuffer, data: RealData) -> None:
    """Raise a ValueError unless fitted teachers are for images such as these."""
    # Teachers that are trained now look at this themselves.
    space = data.pixel_space
    check_contrast(data.given[0].dtype, space.mean, space.deviation)
    if buffer.image_shape_ != data.image_shape:
        raise ValueError(
            f"`buffer` was made for images of shape {buffer.image_shape_}; X has "
            f"images of shape {data.image_shape}"
        )
    if not np.array_equal(buffer.classes_, data.classes):
        raise ValueError(
            f"`buffer` was made for the classes {buffer.classes_.tolist()}; y has "
            f"{data.classes.tolist()}"
        )


def describe_teachers(buffer: TrajectoryBuffer, **parameters: Any) -> dict[str, Any]:
    """Return what a set's metadata say of the teachers and of their network.

    Parameters
    ----------
    buffer : TrajectoryBuffer
        Fitted.
    **parameters : dict
        Of the classifier that a set is scored by, if that is one that a set can name.
    """
    settings = buffer.settings_
    teachers = {
        "n_teachers": buffer.n_teachers_,
        "n_epochs": buffer.n_epochs_,
        "seed": buffer.seed_,
        **settings.to_plain(),
    }
    if settings.network.source is not None:
        teachers["architecture"] = settings.network.name
    return {"teachers": teachers, **describe_kind(settings.network, **parameters)}
