"""TrajectoryBuffer: teachers trained on real images, with a snapshot per epoch."""

import os
from collections.abc import Sequence
from contextlib import closing
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from skdistill.neural_network._augment import resolve_families
from skdistill.neural_network._classifier import ConvNetClassifier
from skdistill.neural_network._convnet import ALL_NORMALIZATIONS
from skdistill.neural_network._network import NetworkClassifier
from skdistill.neural_network._network_kind import (
    ARCHITECTURE_CONSTRAINT,
    CONVNET,
    check_network_parameters,
    network_kind,
)
from skdistill.neural_network._own_network import OwnNetwork
from skdistill.neural_network._reinitialize import ModuleParameterMixin
from skdistill.neural_network._training import check_pixel_unit
from skdistill.trajectory._as_classifier import as_classifier
from skdistill.trajectory._cost import rehearse
from skdistill.trajectory._folders import (
    check_manifest,
    find_all_teachers,
    find_teachers,
    grow_manifest,
    join_buffer,
    place_of,
    plain_parameters,
    teacher_numbers,
    with_architecture,
)
from skdistill.trajectory._jobs import Place, store, teacher_seed, train_missing
from skdistill.trajectory._settings import (
    TeacherSettings,
    image_weights,
    resolve_average,
    resolve_batch_size,
    resolve_class_weight,
    resolve_snapshots,
    snapshot_epochs,
)
from skdistill.trajectory._store import (
    STORAGES,
    TeacherFile,
    manifest_path,
    pack,
    read_manifest,
    teacher_path,
    unpack,
)
from skdistill.trajectory._told import TeacherTasks, Trained
from skdistill.utils._callbacks import CallbackSupportMixin, FitTasks
from skdistill.utils._callers import folder_of_fit
from skdistill.utils._cost import CostEstimate
from skdistill.utils._device import resolve_device
from skdistill.utils._doc_link import DocLinkMixin
from skdistill.utils._files import (
    as_path,
    check_writable,
    remove_leftovers,
)
from skdistill.utils._frames import TablesMixin
from skdistill.utils._images import Images
from skdistill.utils._memory import is_out_of_memory
from skdistill.utils._parallel import WorkerLostError
from skdistill.utils._random import root_seed
from skdistill.utils._termination import orderly_end
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._untrusted import errors_as_value_errors
from skdistill.utils._validation import (
    check_class_sizes,
    check_images,
    check_weights,
    fingerprint_images,
)
from skdistill.utils._whole_fits import fitted_as_a_whole


class TrajectoryBuffer(
    CallbackSupportMixin, ModuleParameterMixin, TablesMixin, DocLinkMixin, BaseEstimator
):
    """Teachers trained on real images, and their parameters in each epoch.

    Every teacher is a network, by default a ConvNet, trained from different random
    weights by plain SGD with a constant learning rate, augmentation, and equal class
    weights [1]_.  Trajectory matching distillers use the snapshots.

    With a ``path`` the progress of a teacher is stored after each epoch, but at most
    once a minute.  An interrupted fit resumes from there, and its result is bitwise
    identical to that of an uninterrupted fit.  If more teachers or epochs are requested
    later, only the missing ones are trained.  Several processes may fit the same buffer
    at once; each trains teachers that no other process is training.

    Read more in the :ref:`User Guide <teachers>`.

    Parameters
    ----------
    n_teachers : int, default=10
        Number of teachers.
    n_epochs : int, default=30
        Number of epochs of each.
    learning_rate : float, default=0.01
        Learning rate, the same in all epochs.
    batch_size : int or "auto", default="auto"
        Images per step.  "auto" uses 256 as in the literature, but fewer for small
        sets, at least 8, so that an epoch has about 200 steps, as in the literature on
        CIFAR-10: in an epoch of a few steps the parameters hardly change, so that there
        is little to match.
    momentum : float, default=0.0
        Momentum of the optimizer, in [0, 1).
    weight_decay : float, default=0.0
        Strength of the L2 penalty.
    class_weight : "balanced", dict or None, default="balanced"
        "balanced" gives all classes equal weight, for any number and weights of their
        images; None gives all images equal weight; a dict maps classes to the weight of
        each of their images.
    augmentation : "dsa", None, str or sequence of str, default="dsa"
        Families of which one is drawn for each batch, as in
        :class:`~skdistill.neural_network.ConvNetClassifier`.
    architecture : {"convnet", "alexnet", "mlp", "resnet18", "vgg11"}, callable or \
            torch.nn.Module, default="convnet"
        The teachers' network, and that of the students of a distiller.

        - A name: one of this library, as in
          :class:`~skdistill.neural_network.NetworkClassifier`.
        - A callable: it takes ``image_shape`` and the number of classes and returns a
          new :class:`torch.nn.Module` that maps images ``(n_images, channels, height,
          width)`` to logits ``(n_images, n_classes)``.  A callable with a parameter
          ``num_classes``, as torchvision's networks have, is called with that.
        - A module: it is copied, and its layers draw new weights for each teacher by
          their ``reset_parameters``.  Pretrained weights are lost, except for
          parameters that are not trained (``requires_grad`` is False).  To start from
          pretrained weights, pass a callable that loads them.

        No network may normalize over batches: use group, layer or instance
        normalization.  Dropout and similar layers are controlled by ``random_state``.
    width : int, default=128
        Number of channels of each convolution of a "convnet".
    depth : int, default=3
        Number of blocks of a "convnet".
    normalization : {"instance", "layer", "group", "none"}, default="instance"
        Normalization of each convolution's output; without effect for "mlp" and
        custom networks.
    snapshots_per_epoch : int or sequence of int, default=1
        Number of snapshots in an epoch, at equal distances.  A sequence gives the
        numbers for the first epochs; later epochs have one snapshot each: ``(4, 2)``
        follows the fast initial changes more closely.  Distillers go from snapshot to
        snapshot: their epochs are the intervals between snapshots.
    average : bool or "auto", default="auto"
        Whether a snapshot is the mean of the parameters over the steps since the
        previous snapshot, which removes the noise of single steps but is half an
        interval behind.  False takes the current parameters, as in [1]_.  "auto"
        averages if the batches have fewer than 100 images, whose noise is large.
        Training is the same.
    storage : {"float32", "float16", "bfloat16"}, default="float32"
        Type of the stored snapshots.  "float16" and "bfloat16" take half the space and
        round to 11 and 8 significant bits.
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None treats each row as an
        image of height 1 with one channel.
    path : path-like, default=None
        A folder for the snapshots, one file per teacher.  Existing teachers are kept
        and only the missing ones are trained; a folder of other data or settings raises
        an error.  In a search or a cross-validation of scikit-learn the teachers of
        each fold and setting use a separate subfolder ``fit-...``, which the same
        search uses again.  None keeps all snapshots in memory.
    n_jobs : int, default=None
        Number of teachers trained at once, in processes of one thread each.  None
        means 1 unless in a :func:`joblib.parallel_config` context, -1 one per core.
        The result is bitwise identical for any number.  On a GPU several teachers are
        trained in one process, and only the context is used.
    device : str or torch.device, default="auto"
        Device for the computation; "auto" uses a GPU if available.
    random_state : int, RandomState instance or None, default=None
        Controls all randomness; pass an int for reproducible results.  With None and a
        ``path`` that already holds teachers, their seed is used.
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
        Number of trained teachers, and of their epochs.
    snapshot_epochs_ : ndarray of shape (n_snapshots,)
        Number of epochs after which each snapshot was taken; the first is 0.
    n_parameters_ : int
        Length of a snapshot.
    batch_size_ : int
        Images per step.
    pixel_scale_ : float
        Standard deviation of all pixels, the unit of the augmentation's brightness.
    fingerprint_ : str
        A digest of the images and labels the teachers were trained on.
    seed_ : int
        The seed that was drawn from ``random_state``.
    settings_ : TeacherSettings
        The settings with which the teachers were trained.  Its attributes have the
        names of the parameters; ``build_structure()`` returns the teachers' network,
        without weights.
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

    See Also
    --------
    skdistill.distillation.STMDistiller : Distills a set from the snapshots.

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
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "augmentation": [str, "array-like", None],
        "architecture": ARCHITECTURE_CONSTRAINT,
        "width": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 1, None, closed="left")],
        "normalization": [StrOptions(set(ALL_NORMALIZATIONS))],
        "snapshots_per_epoch": [
            Interval(Integral, 1, None, closed="left"),
            "array-like",
        ],
        "average": ["boolean", StrOptions({"auto"})],
        "storage": [StrOptions(set(STORAGES))],
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
        class_weight: Any = "balanced",
        augmentation: str | Sequence[str] | None = "dsa",
        architecture: Any = CONVNET,
        width: int = 128,
        depth: int = 3,
        normalization: str = "instance",
        snapshots_per_epoch: int | Sequence[int] = 1,
        average: bool | str = "auto",
        storage: str = "float32",
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
        self.class_weight = class_weight
        self.augmentation = augmentation
        self.architecture = architecture
        self.width = width
        self.depth = depth
        self.normalization = normalization
        self.snapshots_per_epoch = snapshots_per_epoch
        self.average = average
        self.storage = storage
        self.image_shape = image_shape
        self.path = path
        self.n_jobs = n_jobs
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @fitted_as_a_whole()
    @_fit_context(prefer_skip_nested_validation=True)
    @with_own_torch_state
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "TrajectoryBuffer":
        """Train the teachers, except those that are already in ``path``.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images; images of weight 0 are ignored.  With "balanced"
            classes weights are relative within each class.

        Returns
        -------
        self : TrajectoryBuffer
            The fitted buffer.
        """
        images, settings = self._prepare(X, y, sample_weight)
        X, y, codes, weight = images
        place, manifest = self._join(settings)
        numbers = teacher_numbers(manifest, int(self.n_teachers))
        found: dict[int, Trained] = {}
        if place is not None:
            found = find_teachers(
                place, numbers, settings, self.n_parameters_, int(self.n_epochs)
            )
        missing = [number for number in numbers if number not in found]
        if place is not None and missing:
            check_writable(place.folder, "path")
        # The machine of a worker may have another device than this one.
        data = (X, codes, weight, self.device)
        snapshots: dict[int, np.ndarray] = {}
        tasks = FitTasks(self, "teacher", len(missing), X, y)
        told = TeacherTasks(tasks)
        training = train_missing(
            settings,
            data,
            missing,
            int(self.n_epochs),
            place,
            told,
            self.seed_,
            self.n_jobs,
        )
        try:
            # A SIGTERM ends the workers too.
            with (
                orderly_end(),
                closing(training),
                tqdm(
                    training,
                    desc="teachers",
                    unit="teacher",
                    total=len(numbers),
                    initial=len(found),
                    disable=not self.verbose,
                ) as bar,
            ):
                for trained in bar:
                    number = trained.number
                    if trained.run is not None and place is None:
                        snapshots[number] = pack(
                            trained.run.parameters, settings.storage
                        )
                    elif trained.run is not None and place is not None:
                        # From a worker that does not see the folder.
                        seed = teacher_seed(number, self.seed_, place)
                        store(place, number, trained.run, seed, settings.storage)
                    found[number] = trained._replace(run=None)
                    told.finish(found[number])
                    bar.set_postfix(
                        loss=f"{trained.loss[-1]:.3f}",
                        accuracy=f"{trained.accuracy[-1]:.3f}",
                    )
        except WorkerLostError as error:
            kept = "use `path` to keep complete teachers"
            if place is not None:
                kept = (
                    f"complete teachers are kept in {place.folder}: fit again to resume"
                )
            error.args = (f"{error}; {kept}",)
            raise
        except Exception as error:
            if place is not None and (
                isinstance(error, OSError) or is_out_of_memory(error)
            ):
                error.add_note(
                    f"Complete teachers are kept in {place.folder}: fit again to "
                    "resume."
                )
            raise
        if place is not None:
            # Another process may have asked for less at the same moment.
            grow_manifest(place.folder, self._plain_parameters())
            # A kill between a file's new name and the end leaves what no other write
            # of this teacher would find.
            for number in numbers:
                remove_leftovers(teacher_path(place.folder, number))
        self._snapshots = [snapshots[number] for number in numbers if snapshots]
        self._keep([found[number] for number in numbers], settings, place)
        tasks.end()
        return self

    def _prepare(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[tuple[Images, np.ndarray, np.ndarray, np.ndarray], TeacherSettings]:
        """Validate the input of a fit and determine the settings of the teachers.

        Returns
        -------
        images : tuple of (X, y, codes, weight)
            The images, their labels, class codes, and weights with mean 1.
        settings : TeacherSettings
        """
        families = resolve_families(self.augmentation)
        resolve_device(self.device)
        X, y = check_images(
            self, X, y, reset=True, with_labels=True, image_shape=self.image_shape
        )
        check_class_sizes(y, 2, "teachers")
        X, y, weight = check_weights(sample_weight, X, y)
        check_network_parameters(self, "a distiller could not follow such teachers")
        # Unknown for custom networks.
        is_normalized = callable(self.architecture) or self.normalization != "none"
        scale = check_pixel_unit(X, "instance" if is_normalized else "none")
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.batch_size_ = resolve_batch_size(self.batch_size, len(X))
        self.pixel_scale_ = scale
        self.fingerprint_ = fingerprint_images(X, codes, weight)
        settings = self._settings(families, X)
        if not settings.is_convnet:
            # Batch normalization is found now.
            settings.network.derivatives(torch.device("cpu"))
        self.n_parameters_ = settings.network.count_parameters()
        weight = image_weights(settings.class_weight, codes, len(self.classes_), weight)
        return (X, y, codes, weight), settings

    @with_own_torch_state
    def estimate_cost(self, X: Any, y: Any, sample_weight: Any = None) -> CostEstimate:
        """Estimate the time, memory and disk space of a fit to X, y.

        A few steps are timed, for some seconds; nothing is fitted or stored.  Teachers
        that are already in ``path`` are not considered: the estimate is for a fit from
        the beginning.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images.

        Returns
        -------
        cost : CostEstimate
            ``n_iter`` counts the epochs of all teachers.

        Notes
        -----
        Times are for this machine under its current load.  With ``n_jobs`` the steps
        are run in parallel processes.

        Examples
        --------
        >>> from skdistill import TrajectoryBuffer, make_galaxies
        >>> X, y = make_galaxies(45, size=16, random_state=0)
        >>> TrajectoryBuffer(n_teachers=2, width=8).estimate_cost(X, y)
        about ..., ... memory, nothing on disk
        """
        self._validate_params()
        cost, _ = rehearse(self, X, y, sample_weight, on_disk=self.path is not None)
        return cost

    def planned_snapshot_epochs(self) -> np.ndarray:
        """Return the epochs after which a fit with these parameters takes snapshots.

        Returns
        -------
        epochs : ndarray of shape (n_snapshots,)
            The ``snapshot_epochs_`` of a fit.

        Raises
        ------
        ValueError
            If ``snapshots_per_epoch`` is not valid.

        Examples
        --------
        >>> from skdistill import TrajectoryBuffer
        >>> buffer = TrajectoryBuffer(n_epochs=3, snapshots_per_epoch=(2, 1))
        >>> buffer.planned_snapshot_epochs().tolist()
        [0.0, 0.5, 1.0, 2.0, 3.0]
        """
        self._validate_params()
        per_epoch = resolve_snapshots(self.snapshots_per_epoch)
        return snapshot_epochs(per_epoch, int(self.n_epochs))

    @validate_params(
        {"teacher": [Integral], "epoch": [Real]}, prefer_skip_nested_validation=True
    )
    @with_own_torch_state
    def snapshot(self, teacher: int, epoch: float) -> np.ndarray:
        """Return the parameters of a teacher after an epoch.

        Parameters
        ----------
        teacher : int
            Which of the teachers, from 0.
        epoch : int or float
            After how many epochs: one of ``snapshot_epochs_``.  0 is the
            initialization, ``n_epochs_`` the last.

        Returns
        -------
        parameters : ndarray of shape (n_parameters,), float32
            A copy.

        Raises
        ------
        ValueError
            If there is no such snapshot, or its file was altered.
        """
        check_is_fitted(self)
        if not 0 <= teacher < self.n_teachers_:
            raise ValueError(
                f"`teacher` must be from 0 to {self.n_teachers_ - 1}; got {teacher}"
            )
        if not 0 <= epoch <= self.n_epochs_:
            raise ValueError(f"`epoch` must be from 0 to {self.n_epochs_}; got {epoch}")
        times = self.snapshot_epochs_
        row = int(np.abs(times - epoch).argmin())
        if abs(times[row] - epoch) > 1e-6:
            raise ValueError(
                f"`epoch` must be one of `snapshot_epochs_`; got {epoch}, the nearest "
                f"is {times[row]}"
            )
        if self._place is None:
            return unpack(self._snapshots[teacher][row], self.settings_.storage)
        # One row of the file: a distiller on many teachers holds only what it uses.
        place = self._place.present()
        with TeacherFile(place.folder, self._numbers[teacher], place.buffer) as file:
            return file.snapshot(row).numpy()

    @validate_params(
        {"teacher": [Integral], "epoch": [Real, None]},
        prefer_skip_nested_validation=True,
    )
    @with_own_torch_state
    def classifier(
        self, teacher: int, epoch: float | None = None
    ) -> ConvNetClassifier | NetworkClassifier:
        """Return a teacher as a fitted classifier.

        It classifies images in the pixel space of the teachers' images.  Its accuracy,
        with all real images, is a reference for distilled sets.

        Parameters
        ----------
        teacher : int
            Which of the teachers, from 0.
        epoch : int or float, default=None
            After how many epochs: one of ``snapshot_epochs_``.  None takes the last.

        Returns
        -------
        classifier : ConvNetClassifier or NetworkClassifier
            With the parameters of the snapshot, on this buffer's device; the latter
            for other architectures than "convnet".

        Raises
        ------
        ValueError
            If there is no such snapshot, or its file was altered.

        Examples
        --------
        >>> from skdistill import TrajectoryBuffer, make_galaxies
        >>> X, y = make_galaxies(45, size=16, random_state=0)
        >>> buffer = TrajectoryBuffer(n_teachers=1, n_epochs=2, width=8).fit(X, y)
        >>> buffer.classifier(teacher=0).predict(X).shape
        (45,)
        """
        check_is_fitted(self)
        epoch = self.snapshot_epochs_[-1] if epoch is None else epoch
        parameters = self.snapshot(teacher, epoch)
        told = self.history_.query("teacher == @teacher and epoch <= @epoch")
        return as_classifier(self, self.settings_, parameters, told["loss"].tolist())

    @classmethod
    @validate_params(
        {
            "path": [str, os.PathLike],
            "architecture": [str, callable, None],
            "n_teachers": [Interval(Integral, 1, None, closed="left"), None],
            "n_epochs": [Interval(Integral, 1, None, closed="left"), None],
        },
        prefer_skip_nested_validation=False,
    )
    @with_own_torch_state
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        architecture: Any = None,
        n_teachers: int | None = None,
        n_epochs: int | None = None,
    ) -> "TrajectoryBuffer":
        """Load the buffer in a folder.

        Snapshots are read from their files when needed, and verified then.

        Parameters
        ----------
        path : path-like
            The ``path`` that a buffer was fitted with.
        architecture : callable or torch.nn.Module, default=None
            The architecture that the teachers were fitted with, if it was a custom
            network, which is not stored in files.  Its parameters, layers and outputs
            are compared with those recorded in the folder.
        n_teachers, n_epochs : int, default=None
            Number of teachers, and of their epochs, to use.  None uses the numbers of
            the last fit.

        Returns
        -------
        buffer : TrajectoryBuffer
            A fitted buffer with the stored settings.

        Raises
        ------
        FileNotFoundError
            If the folder contains no buffer.
        ValueError
            If teachers are missing or damaged; the message names the file.  If
            ``architecture`` is missing or differs from the stored one.
        """
        folder = as_path(path)
        manifest = read_manifest(folder)
        said = manifest_path(folder)
        with errors_as_value_errors(f"{said} is damaged: {{error}}"):
            settings, classes = check_manifest(manifest)
        name = manifest["parameters"].get("architecture")
        settings = with_architecture(settings, architecture, folder, name)
        with errors_as_value_errors(f"{said} is damaged: {{error}}"):
            buffer = cls(path=path, **manifest["parameters"])
            buffer.architecture = (
                settings.architecture.source
                if isinstance(settings.architecture, OwnNetwork)
                else settings.architecture
            )
            if isinstance(buffer.class_weight, list):
                # The keys of a dict in JSON are strings.
                buffer.class_weight = dict(buffer.class_weight)
            if manifest["parameters"]["n_teachers"] > 0:  # unless all are dropped
                buffer._validate_params()
        for name, value in (("n_teachers", n_teachers), ("n_epochs", n_epochs)):
            if value is not None:
                setattr(buffer, name, int(value))
        buffer.image_shape_ = settings.image_shape
        buffer.n_features_in_ = int(np.prod(buffer.image_shape_))
        buffer.classes_ = classes
        buffer.batch_size_ = settings.batch_size
        buffer.pixel_scale_ = settings.scale
        buffer.fingerprint_ = manifest["fingerprint"]
        buffer.seed_ = manifest["seed"]
        buffer.n_parameters_ = manifest["n_parameters"]
        found = find_all_teachers(
            folder, manifest, settings, int(buffer.n_teachers), int(buffer.n_epochs)
        )
        buffer._snapshots = []
        buffer._keep(list(found.values()), settings, place_of(folder, manifest))
        return buffer

    def _settings(self, families: tuple[str, ...], X: Images) -> TeacherSettings:
        n_samples = len(X)
        kind = network_kind(
            self.architecture,
            self.image_shape_,
            len(self.classes_),
            width=self.width,
            depth=self.depth,
            normalization=self.normalization,
            images=X[:2],
        )
        return TeacherSettings(
            image_shape=kind.image_shape,
            n_classes=kind.n_classes,
            architecture=kind.architecture,
            width=kind.width,
            depth=kind.depth,
            normalization=kind.normalization,
            learning_rate=float(self.learning_rate),
            momentum=float(self.momentum),
            weight_decay=float(self.weight_decay),
            batch_size=self.batch_size_,
            class_weight=resolve_class_weight(self.class_weight, self.classes_),
            families=families,
            scale=self.pixel_scale_,
            snapshots_per_epoch=resolve_snapshots(
                self.snapshots_per_epoch, self.batch_size_, n_samples
            ),
            average=resolve_average(self.average, self.batch_size_),
            storage=self.storage,
        )

    def _plain_parameters(self) -> dict[str, Any]:
        return plain_parameters(self.get_params(deep=False))

    def _join(
        self, settings: TeacherSettings
    ) -> tuple[Place | None, dict[str, Any] | None]:
        """Claim the folder for this buffer, or check it, and set the seed."""
        asked = None if self.random_state is None else root_seed(self.random_state)
        new = root_seed(None) if asked is None else asked
        if self.path is None:
            self.seed_ = new
            return None, None
        content = {
            "parameters": self._plain_parameters(),
            "settings": settings.to_plain(),
            "classes": self.classes_.tolist(),
            "fingerprint": self.fingerprint_,
            "n_parameters": self.n_parameters_,
        }
        # More teachers or epochs may be asked for of the same folder.
        kept = {name: content[name] for name in ("settings", "classes", "fingerprint")}
        folder = folder_of_fit(as_path(self.path), kept | {"seed": asked})
        manifest = join_buffer(folder, content, asked, new)
        self.seed_ = manifest["seed"]
        return place_of(folder, manifest), manifest

    def _keep(
        self, teachers: list[Trained], settings: TeacherSettings, place: Place | None
    ) -> None:
        """Set the fitted attributes."""
        # Parameters that are set later leave the teachers as they are.
        self.settings_ = settings
        self._place = place
        self._numbers = [teacher.number for teacher in teachers]
        self.n_teachers_, self.n_epochs_ = len(teachers), len(teachers[0].loss)
        self.snapshot_epochs_ = snapshot_epochs(
            settings.snapshots_per_epoch, self.n_epochs_
        )
        self.history_ = pd.concat(
            [
                pd.DataFrame(
                    {
                        "teacher": position,
                        "epoch": np.arange(1, self.n_epochs_ + 1),
                        "loss": teacher.loss,
                        "accuracy": teacher.accuracy,
                    }
                )
                for position, teacher in enumerate(teachers)
            ],
            ignore_index=True,
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "history_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
