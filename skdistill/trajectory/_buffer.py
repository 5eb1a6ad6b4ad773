"""TrajectoryBuffer: teachers trained on real images, snapshots kept per epoch."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from skdistill.neural_network._augment import resolve_families
from skdistill.neural_network._convnet import NORMALIZATIONS, ConvNet, n_parameters
from skdistill.neural_network._training import balanced_weights, pixel_scale, to_tensor
from skdistill.trajectory._store import (
    TeacherRun,
    manifest_path,
    read_manifest,
    read_teacher,
    teacher_path,
    write_manifest,
    write_teacher,
)
from skdistill.trajectory._teacher import TeacherSettings, train_teacher
from skdistill.utils._callbacks import CallbackSupportMixin, FitTasks
from skdistill.utils._device import resolve_device
from skdistill.utils._doc_link import DocLinkMixin
from skdistill.utils._files import SharedFolder
from skdistill.utils._frames import TablesMixin
from skdistill.utils._memory import reused_memory
from skdistill.utils._parallel import WorkerLostError, run_parallel
from skdistill.utils._random import child_seed, root_seed
from skdistill.utils._threads import single_threaded_torch
from skdistill.utils._validation import (
    check_class_sizes,
    check_images,
    check_weights,
    fingerprint_images,
)

# What "auto" keeps the batch size within, and the steps that an epoch shall have.
_SMALLEST_BATCH, _LARGEST_BATCH = 8, 256
_STEPS_PER_EPOCH = 200


class TrajectoryBuffer(CallbackSupportMixin, TablesMixin, DocLinkMixin, BaseEstimator):
    """Teachers trained on real images, and their parameters after each epoch.

    Every teacher is a ConvNet trained from its own random weights by plain stochastic
    gradient descent with a constant rate and augmentation, each class weighing the
    same [1]_.  The snapshots are what distillers by trajectory matching learn from.

    Parameters
    ----------
    n_teachers : int, default=10
        Number of teachers.
    n_epochs : int, default=30
        Number of epochs of each.
    learning_rate : float, default=0.01
        Learning rate, the same in all epochs.
    batch_size : int or "auto", default="auto"
        Images per step.  "auto" takes 256 as in the literature, but fewer of a small
        set, at least 8, so that an epoch has about 200 steps, as many as in the
        literature on CIFAR-10: in an epoch of a few steps a network hardly moves,
        which leaves little to match.
    momentum : float, default=0.0
        Momentum of the gradient descent, in [0, 1).
    weight_decay : float, default=0.0
        Strength of the L2 penalty.
    augmentation : "dsa", None or sequence of str, default="dsa"
        Families of which one is drawn per batch, as in
        :class:`~skdistill.neural_network.ConvNetClassifier`.
    width : int, default=128
        Number of channels of each convolution.
    depth : int, default=3
        Number of blocks of the network.
    normalization : {"instance", "layer", "none"}, default="instance"
        What each convolution's output is normalised over.
    image_shape : tuple (height, width, channels), default=None
        How 2-D X is to be read.  None reads one row of pixels with one channel.
    path : path-like, default=None
        A folder for the snapshots, one file per teacher.  Teachers that are complete
        there are kept and only missing ones are trained; a folder of other data or
        settings is refused.  None keeps all snapshots in memory.
    n_jobs : int, default=None
        Number of teachers trained at once, in processes of one thread each.  None
        means 1 unless in a :func:`joblib.parallel_config` context, -1 one per core.
        The result is the same to the last bit whatever the number.
    device : str or torch.device, default="auto"
        Where to compute; "auto" takes a GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        Decides on everything random.  With None and a ``path`` that already holds
        teachers, their seed is taken on.
    verbose : int, default=0
        Shows a progress bar over the teachers if positive.

    Attributes
    ----------
    history_ : DataFrame of n_teachers * n_epochs rows
        Columns ``teacher``, ``epoch`` (from 1), ``loss`` and ``accuracy``: means over
        the augmented training images of the epoch.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    n_teachers_, n_epochs_ : int
        Number of teachers, and of epochs of each, that were trained.
    n_parameters_ : int
        Length of a snapshot.
    batch_size_ : int
        Images per step, as decided.
    pixel_scale_ : float
        Standard deviation of all pixels, the unit of the augmentation's brightness.
    fingerprint_ : str
        A digest of the images and labels the teachers were trained on.
    seed_ : int
        What stands for ``random_state``.
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

    See Also
    --------
    skdistill.distillation.STMDistiller : Distils a set from the snapshots.

    References
    ----------
    .. [1] Cazenavette et al., "Dataset Distillation by Matching Training
       Trajectories", CVPR 2022, section 3.1.

    Examples
    --------
    >>> from skdistill import TrajectoryBuffer, make_galaxies
    >>> X, y = make_galaxies(45, size=16, random_state=0)
    >>> buffer = TrajectoryBuffer(n_teachers=2, n_epochs=3, width=8, random_state=0)
    >>> buffer.fit(X, y).snapshot(teacher=0, epoch=3).shape
    (1737,)
    """

    _parameter_constraints: dict = {
        "n_teachers": [Interval(Integral, 1, None, closed="left")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "augmentation": [str, "array-like", None],
        "width": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 1, None, closed="left")],
        "normalization": [StrOptions(set(NORMALIZATIONS))],
        "image_shape": ["array-like", None],
        "path": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        n_teachers: int = 10,
        n_epochs: int = 30,
        learning_rate: float = 0.01,
        batch_size: int | str = "auto",
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        augmentation: str | Sequence[str] | None = "dsa",
        width: int = 128,
        depth: int = 3,
        normalization: str = "instance",
        image_shape: tuple[int, int, int] | None = None,
        path: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_teachers = n_teachers
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.augmentation = augmentation
        self.width = width
        self.depth = depth
        self.normalization = normalization
        self.image_shape = image_shape
        self.path = path
        self.n_jobs = n_jobs
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "TrajectoryBuffer":
        """Train the teachers, or those that ``path`` does not hold yet.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images within their classes, which always weigh the same;
            images of weight 0 are left out.

        Returns
        -------
        self : TrajectoryBuffer
            The fitted buffer.
        """
        families = resolve_families(self.augmentation)
        device = resolve_device(self.device)
        X, y = check_images(
            self, X, y, reset=True, with_labels=True, image_shape=self.image_shape
        )
        check_class_sizes(y, 2, "teachers")
        X, y, weight = check_weights(sample_weight, X, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.batch_size_ = self._resolve_batch_size(len(X))
        self.pixel_scale_ = pixel_scale(X)
        self.fingerprint_ = fingerprint_images(X, codes, weight)
        settings = self._settings(families)
        self.n_parameters_ = n_parameters(settings.build_structure())

        folder = None if self.path is None else Path(self.path)
        self.seed_ = self._prepare_folder(folder, settings)
        # Damaged files are found before hours of training, not after them.
        runs: dict[int, TeacherRun] = {}
        if folder is not None:
            runs = {
                teacher: self._read_run(folder, teacher)
                for teacher in range(self.n_teachers)
                if teacher_path(folder, teacher).exists()
            }
        missing = [t for t in range(self.n_teachers) if t not in runs]
        weight = balanced_weights(codes, len(self.classes_), weight)
        shared = None if folder is None else SharedFolder(manifest_path(folder))
        tasks = {
            teacher: (teacher, child_seed(self.seed_, teacher)) for teacher in missing
        }
        results = run_parallel(
            _train_one,
            (settings, X, codes, weight, device, shared),
            tasks,
            n_jobs=self.n_jobs,
            what="teachers",
        )
        told = FitTasks(self, "teacher", len(missing), X, y)
        try:
            with tqdm(
                results,
                desc="teachers",
                unit="teacher",
                total=self.n_teachers,
                initial=len(runs),
                disable=not self.verbose,
            ) as bar:
                for teacher, run in bar:
                    # They run side by side: each is told of when it is there.
                    told.begin_step()
                    told.end_step(dict)
                    if folder is not None and run.parameters.size:
                        # From a worker that does not see the folder.
                        write_teacher(folder, teacher, run)
                        run = _without_parameters(run)
                    runs[teacher] = run
                    bar.set_postfix(
                        loss=f"{run.loss[-1]:.3f}", accuracy=f"{run.accuracy[-1]:.3f}"
                    )
        except WorkerLostError as error:
            kept = "with a `path` complete teachers would be kept"
            if folder is not None:
                kept = f"complete ones are kept in {folder}: fit again to go on"
            error.args = (f"{error}; {kept}",)
            raise
        self._keep([runs[teacher] for teacher in range(self.n_teachers)], settings)
        told.end()
        return self

    def snapshot(self, teacher: int, epoch: int) -> np.ndarray:
        """Return the parameters of a teacher after an epoch.

        Parameters
        ----------
        teacher : int
            Number of the teacher, from 0.
        epoch : int
            Number of the epoch; 0 is the initialisation, ``n_epochs`` the last.

        Returns
        -------
        parameters : ndarray of shape (n_parameters,), float32
            A copy.
        """
        check_is_fitted(self)
        if not 0 <= teacher < self.n_teachers_:
            raise ValueError(
                f"`teacher` must be from 0 to {self.n_teachers_ - 1}; got {teacher}"
            )
        if not 0 <= epoch <= self.n_epochs_:
            raise ValueError(f"`epoch` must be from 0 to {self.n_epochs_}; got {epoch}")
        if self._folder is None:
            return self._snapshots[teacher][epoch].copy()
        # One row of the file: a distiller on many teachers holds only what it uses.
        path = teacher_path(self._folder, teacher)
        with safe_open(path, framework="numpy") as file:
            return np.array(file.get_slice("parameters")[epoch], dtype=np.float32)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "TrajectoryBuffer":
        """Load the complete buffer in a folder.

        Parameters
        ----------
        path : path-like
            The ``path`` that a buffer was fitted with.

        Returns
        -------
        buffer : TrajectoryBuffer
            A fitted buffer with the settings it was made with.

        Raises
        ------
        FileNotFoundError
            If the folder holds no buffer.
        ValueError
            If teachers are missing or damaged; the message names the file.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        buffer = cls(path=path, **manifest["parameters"])
        settings = manifest["settings"]
        buffer.image_shape_ = tuple(settings["image_shape"])
        buffer.n_features_in_ = int(np.prod(buffer.image_shape_))
        buffer.classes_ = np.asarray(manifest["classes"])
        buffer.batch_size_ = settings["batch_size"]
        buffer.pixel_scale_ = settings["scale"]
        buffer.fingerprint_ = manifest["fingerprint"]
        buffer.seed_ = manifest["seed"]
        buffer.n_parameters_ = manifest["n_parameters"]
        missing = [
            teacher
            for teacher in range(buffer.n_teachers)
            if not teacher_path(folder, teacher).exists()
        ]
        if missing:
            raise ValueError(
                f"the buffer in {folder} is not complete: {len(missing)} of "
                f"{buffer.n_teachers} teachers are missing, the first is "
                f"{teacher_path(folder, missing[0]).name}; fit a TrajectoryBuffer of "
                "the same parameters with this `path` to train them"
            )
        buffer._keep(
            [buffer._read_run(folder, teacher) for teacher in range(buffer.n_teachers)],
            buffer._settings(resolve_families(buffer.augmentation)),
        )
        return buffer

    def _resolve_batch_size(self, n_samples: int) -> int:
        if self.batch_size != "auto":
            return int(self.batch_size)
        return int(
            np.clip(n_samples // _STEPS_PER_EPOCH, _SMALLEST_BATCH, _LARGEST_BATCH)
        )

    def _settings(self, families: tuple[str, ...]) -> TeacherSettings:
        return TeacherSettings(
            image_shape=self.image_shape_,
            n_classes=len(self.classes_),
            width=int(self.width),
            depth=int(self.depth),
            normalization=self.normalization,
            n_epochs=int(self.n_epochs),
            learning_rate=float(self.learning_rate),
            momentum=float(self.momentum),
            weight_decay=float(self.weight_decay),
            batch_size=self.batch_size_,
            families=families,
            scale=self.pixel_scale_,
        )

    def _prepare_folder(self, folder: Path | None, settings: TeacherSettings) -> int:
        """Compare with the buffer in the folder, or make it; return the seed."""
        if folder is None:
            return root_seed(self.random_state)
        content: dict[str, Any] = {
            "settings": asdict(settings) | {"families": list(settings.families)},
            "classes": self.classes_.tolist(),
            "fingerprint": self.fingerprint_,
            "n_parameters": self.n_parameters_,
        }
        content["settings"]["image_shape"] = list(settings.image_shape)
        has_teachers = any(folder.glob("teacher-*.safetensors"))
        if manifest_path(folder).exists():
            manifest = read_manifest(folder)
            seed = manifest["seed"]
            if self.random_state is not None:
                seed = root_seed(self.random_state)
            # A fit that failed before its first teacher was done binds nobody.
            if has_teachers:
                _check_same_buffer(folder, manifest, content | {"seed": seed})
        else:
            if has_teachers:
                raise ValueError(
                    f"`path`: {folder} holds teachers but no manifest that says how "
                    "they were trained; delete them or give another folder"
                )
            seed = root_seed(self.random_state)
        parameters = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params(deep=False).items()
            if name not in ("path", "n_jobs", "device", "random_state", "verbose")
        }
        for name in ("image_shape", "augmentation"):
            if parameters[name] is not None:
                parameters[name] = np.asarray(parameters[name]).tolist()
        write_manifest(folder, {"parameters": parameters, "seed": seed, **content})
        return seed

    def _read_run(self, folder: Path, teacher: int) -> TeacherRun:
        """Verify a teacher's file and read what its training looked like."""
        shape = (int(self.n_epochs) + 1, self.n_parameters_)
        return _without_parameters(read_teacher(folder, teacher, shape))

    def _keep(self, runs: list[TeacherRun], settings: TeacherSettings) -> None:
        """Set what fit and load leave behind."""
        # Whatever the parameters are set to later, the teachers stay what they are.
        self._trained_settings = settings
        self._folder = None if self.path is None else Path(self.path)
        # Empty arrays for teachers on disk.
        self._snapshots = [run.parameters for run in runs]
        self.n_teachers_, self.n_epochs_ = len(runs), len(runs[0].loss)
        self.history_ = pd.concat(
            [
                pd.DataFrame(
                    {
                        "teacher": teacher,
                        "epoch": np.arange(1, self.n_epochs + 1),
                        "loss": run.loss,
                        "accuracy": run.accuracy,
                    }
                )
                for teacher, run in enumerate(runs)
            ],
            ignore_index=True,
        )

    def _structure(self) -> ConvNet:
        """Return the teachers' network, without parameters."""
        return self._trained_settings.build_structure()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def _train_one(
    settings: TeacherSettings,
    X: np.ndarray,
    codes: np.ndarray,
    weight: np.ndarray,
    device: torch.device,
    folder: SharedFolder | None,
    teacher: int,
    seed: int,
) -> TeacherRun:
    """Train a teacher, here or in another process, and store it in a folder seen here.

    The run comes back without its snapshots if they are in the folder.
    """
    target = folder.path if folder is not None and folder.is_here() else None
    if target is not None and teacher_path(target, teacher).exists():
        # The word that it is done was lost on its way from a worker.
        shape = (settings.n_epochs + 1, n_parameters(settings.build_structure()))
        return _without_parameters(read_teacher(target, teacher, shape))
    with single_threaded_torch(), reused_memory():
        run = train_teacher(
            settings,
            to_tensor(X, device),
            torch.from_numpy(codes.astype(np.int64)).to(device),
            torch.from_numpy(weight.astype(np.float32)).to(device),
            seed,
        )
    if target is None:
        return run
    write_teacher(target, teacher, run)
    return _without_parameters(run)


def _without_parameters(run: TeacherRun) -> TeacherRun:
    """Drop the snapshots of a run that is on disk."""
    return run._replace(parameters=np.empty((0, 0), dtype=np.float32))


def _check_same_buffer(
    folder: Path, manifest: dict[str, Any], content: dict[str, Any]
) -> None:
    """Raise a ValueError that names what differs between a folder and a fit."""

    def flat(source: dict[str, Any]) -> dict[str, Any]:
        return {
            **source["settings"],
            "class labels": source["classes"],
            "images or labels (fingerprint)": source["fingerprint"],
            "seed of random_state": source["seed"],
        }

    found, asked = flat(manifest), flat(content)
    differences = [
        f"{name}: {found.get(name)!r} there, {value!r} asked for"
        for name, value in asked.items()
        if found.get(name) != value
    ]
    if differences:
        raise ValueError(
            f"`path`: {folder} holds teachers of other data or settings ("
            + "; ".join(differences)
            + "); give another folder, or delete this one"
        )
