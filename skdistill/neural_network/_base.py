"""What every network that is a classifier of scikit-learn shares."""

import itertools
import math
import threading
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from skdistill.neural_network._augment import resolve_families
from skdistill.neural_network._convnet import (
    flatten_parameters,
    load_flat_parameters,
    n_parameters,
)
from skdistill.neural_network._losses import LOSSES, probabilities_of
from skdistill.neural_network._micro_batches import largest_map, micro_batches
from skdistill.neural_network._modules import in_type, seen_by
from skdistill.neural_network._training import (
    EpochSummary,
    train_epochs,
)
from skdistill.neural_network._training_data import (
    TrainingData,
    class_row_data,
    labeled_data,
)
from skdistill.utils._callbacks import CallbackSupportMixin, FitTasks
from skdistill.utils._device import resolve_device
from skdistill.utils._doc_link import DocLinkMixin
from skdistill.utils._image_input import unmasked
from skdistill.utils._labels import check_known_labels
from skdistill.utils._memory import reused_memory
from skdistill.utils._pixel_space import pixel_scale
from skdistill.utils._random import (
    child_seed,
    isolated_torch_seed,
    root_seed,
    torch_generator,
)
from skdistill.utils._tensors import RealImages, to_tensor
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import check_images
from skdistill.utils._whole_fits import fitted_as_a_whole
from skdistill.utils._workers import map_pieces, worker_threads

# Inference runs in batches of exactly this many images, the last one padded: kernels
# differ with the batch size, and a prediction must not depend on its neighbors.
_INFERENCE_BATCH = 64


# Of Adam: the epochs in which its learning rate rises, at most half of all, and what is
# left of it after the last.
_WARM_UP_EPOCHS = 500
_LAST_SHARE = 0.01


class TrainingDivergedError(ValueError):
    """Losses or weights became infinite: the learning rate was too high."""


class BaseNetworkClassifier(
    CallbackSupportMixin, ClassifierMixin, DocLinkMixin, BaseEstimator
):
    """A network trained by gradient descent with augmentation.

    A subclass has the parameters below and builds the network.
    """

    _parameter_constraints: dict = {
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "loss": [StrOptions(set(LOSSES))],
        "optimizer": [StrOptions({"sgd", "adam"})],
        "augmentation": [str, "array-like", None],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "image_shape": ["array-like", None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    learning_rate: float
    momentum: float
    weight_decay: float
    batch_size: int
    max_iter: int
    loss: str
    optimizer: str
    augmentation: Any
    class_weight: Any
    image_shape: Any
    device: Any
    random_state: Any
    verbose: int

    # What the network was built from; that of teachers is built from 0.
    _build_seed: int = 0

    @fitted_as_a_whole()
    @_fit_context(prefer_skip_nested_validation=True)
    @with_own_torch_state
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "BaseNetworkClassifier":
        """Train the network from new random weights.

        A keyboard interrupt ends the training; the network keeps its weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images; those of weight 0 are left out.

        Returns
        -------
        self : object
            The fitted classifier.
        """
        return self._train(labeled_data(self, X, y, sample_weight))

    @fitted_as_a_whole()
    @_fit_context(prefer_skip_nested_validation=True)
    @with_own_torch_state
    def fit_probabilities(
        self, X: Any, probabilities: Any, classes: Any
    ) -> "BaseNetworkClassifier":
        """Train the network on soft labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        probabilities : array-like of shape (n_samples, n_classes)
            The probability of each class for each image.
        classes : array-like of shape (n_classes,)
            The class labels, in sorted order.

        Returns
        -------
        self : object
            The fitted classifier.
        """
        name = "probabilities"
        return self._train(class_row_data(self, X, name, probabilities, classes))

    @fitted_as_a_whole()
    @_fit_context(prefer_skip_nested_validation=True)
    @with_own_torch_state
    def fit_targets(
        self, X: Any, targets: Any, classes: Any
    ) -> "BaseNetworkClassifier":
        """Train the network on regression targets, by the squared loss.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        targets : array-like of shape (n_samples, n_classes)
            What the outputs of the network shall be: numbers of any sign, one for each
            class.  The loss is the squared one regardless of the parameter ``loss``:
            they are no probabilities.
        classes : array-like of shape (n_classes,)
            The class labels, in sorted order.

        Returns
        -------
        self : object
            The fitted classifier.
        """
        return self._train(class_row_data(self, X, "targets", targets, classes))

    def _rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch."""
        if self.optimizer == "adam":
            return self.learning_rate * _warm_up_and_cosine(epoch, self.max_iter)
        return self.learning_rate * (1.0 if epoch < (self.max_iter + 1) // 2 else 0.1)

    def _train(self, data: TrainingData) -> "BaseNetworkClassifier":
        X, y, targets, weight = data
        families = resolve_families(self.augmentation)
        device = resolve_device(self.device)
        dtype = torch.get_default_dtype()
        sample_weight = None
        if weight is not None:
            sample_weight = torch.from_numpy(weight / weight.mean()).to(device, dtype)
        seed = root_seed(self.random_state)
        self._build_seed = child_seed(seed, 0)
        self._built_as = {name: getattr(self, name) for name in self._of_structure}
        with isolated_torch_seed(self._build_seed):
            module = self._checked_module(X[:2], device)
        images = RealImages(X, device, dtype)
        if len(X) % self.batch_size == 1 or self.batch_size == 1:
            self._check_last_batch(module, images)
        epochs = train_epochs(
            module,
            images,
            targets.to(device),
            n_epochs=self.max_iter,
            batch_size=self.batch_size,
            learning_rate=self._rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            families=families,
            scale=pixel_scale(X),
            generator=torch_generator(child_seed(seed, 1)),
            sample_weight=sample_weight,
            cut=self._cut(device, dtype),
            loss=self._fitted_loss,
            optimizer=self.optimizer,
        )
        if self._draws_itself:
            epochs = _seeded(epochs, seed)
        self.loss_curve_ = []
        tasks = FitTasks(self, "epoch", self.max_iter, X, y)

        def learned() -> dict[str, Any]:
            return self._learned(module, device)

        progress = tqdm(
            desc="training",
            unit="epoch",
            total=self.max_iter,
            disable=not self.verbose,
        )
        try:
            with reused_memory(), self._threads(device), progress as bar:
                tasks.begin_step()
                for summary in epochs:
                    self.loss_curve_.append(summary.loss)
                    bar.set_postfix(loss=f"{summary.loss:.3f}", refresh=False)
                    bar.update()
                    if not np.isfinite(summary.loss):
                        raise self._diverged(f"loss {summary.loss}")
                    try:
                        stop = tasks.end_step(learned, partial(self._told, summary))
                    except Exception:
                        # What a callback does wrong shall not cost the training.
                        self._keep(learned)
                        raise
                    if stop:
                        break
                    if len(self.loss_curve_) < self.max_iter:
                        tasks.begin_step()
        except KeyboardInterrupt as error:
            if self.loss_curve_:
                self._keep(learned)
                error.add_note(
                    "The network is fitted: it has the weights of this moment, after "
                    f"{self.n_iter_} of {self.max_iter} epochs."
                )
            raise
        self._keep(learned)
        # The last step comes after the last loss.  What is not learned, and comes last,
        # may be unused.
        if not np.isfinite(self.parameters_[: n_parameters(module)]).all():
            raise self._diverged("weights that are not finite")
        if not self._is_finite_for(X):
            raise self._diverged("outputs that are not finite")
        tasks.end()
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "parameters_")

    def _keep(self, learned: Callable[[], dict[str, Any]]) -> None:
        for name, value in learned().items():
            setattr(self, name, value)
        self.n_iter_ = len(self.loss_curve_)

    def _learned(self, module: nn.Module, device: torch.device) -> dict[str, Any]:
        """Return the attributes that hold what a module has learned."""
        late: dict[str, Tensor] = {}
        if self._draws_itself:
            there = dict(self._structure(device).named_buffers())
            late = {
                name: buffer.detach().cpu().clone()
                for name, buffer in module.named_buffers()
                if name not in there or there[name].shape != buffer.shape
            }
        return {
            "parameters_": flatten_parameters(module).cpu().numpy(),
            "_counters": {
                name: buffer.cpu().numpy().copy()
                for name, buffer in _counters(module).items()
            },
            "_late_buffers": late,
        }

    def _told(self, summary: EpochSummary) -> dict[str, float]:
        """Return what callbacks learn of the last epoch."""
        epoch = len(self.loss_curve_)
        return {
            "epoch": epoch,
            **{name: float(value) for name, value in summary._asdict().items()},
            "learning_rate": self._rate(epoch - 1),
        }

    @with_own_torch_state
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.  After a training by cross-entropy the
            softmax of the outputs.  After one by the squared loss, whose outputs
            estimate probabilities but may be negative or above 1, the nearest
            probabilities: often 0 or 1 exactly.  Of regression targets these
            are as good as the targets are probabilities, but for a constant that is
            added to all classes.
        """
        return probabilities_of(self._logits(X), self._fitted_loss)

    @with_own_torch_state
    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Class labels.
        """
        codes = self._logits(X).argmax(axis=1)
        return self.classes_[codes]

    @with_own_torch_state
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on the given images and labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Their labels.  Classes that the network was not trained on are warned
            about, and are an error where there are no others.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images.

        Returns
        -------
        accuracy : float
            In [0, 1].
        """
        check_is_fitted(self)
        of = "the training images"
        y = check_known_labels(y, self.classes_, of=of)
        sample_weight = unmasked(sample_weight, "sample_weight", "weights")
        return super().score(X, y, sample_weight)

    @with_own_torch_state
    def extract_features(self, X: Any) -> np.ndarray:
        """Return what goes into the last linear layer.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features)
            A row per image.
        """
        return self._outputs(X, features=True)

    @property
    def module_(self) -> nn.Module:
        """The trained network, a torch.nn.Module in evaluation mode.

        Made again, on the device of the classifier, whenever it is asked for: what
        is done to it, the classifier stays what it is.
        """
        check_is_fitted(self)
        return self._trained_module(resolve_device(self.device))

    @property
    def _of_structure(self) -> tuple[str, ...]:
        """Parameters that a fitted network is built with: its weights fit no other."""
        return ()

    def _trained_module(self, device: torch.device) -> nn.Module:
        # Networks of equal size would predict with the weights of another one.
        for name, value in getattr(self, "_built_as", {}).items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"`{name}`={getattr(self, name)!r} must be that of fit, {value!r}: "
                    "set it back, or fit again"
                )
        # A copy: PyTorch warns of read-only arrays, as joblib maps for other processes.
        parameters = torch.from_numpy(self.parameters_.copy()).to(device)
        module = in_type(self._structure(device), parameters.dtype)
        # Classifiers of earlier versions have none, nor have those of teachers.
        for name, late in getattr(self, "_late_buffers", {}).items():
            # Modules may register them when they are called first, as caches are.
            owner, _, own_name = name.rpartition(".")
            part = module.get_submodule(owner)
            part.register_buffer(own_name, late.to(device, copy=True))
        load_flat_parameters(module, parameters)
        kept = getattr(self, "_counters", {})
        for name, buffer in _counters(module).items():
            if name in kept and kept[name].shape == buffer.shape:
                buffer.copy_(torch.from_numpy(kept[name].copy()))
        return module.eval()

    @property
    def _draws_itself(self) -> bool:
        """Whether the network may draw random numbers in training, as for dropout."""
        return False

    @property
    def _treats_images_alone(self) -> bool:
        """Whether what the network makes of an image depends on no other image."""
        return getattr(self, "normalization", None) != "batch"

    def _threads(self, device: torch.device) -> AbstractContextManager[None]:
        """Return what the network computes in."""
        return worker_threads(device) if self._treats_images_alone else nullcontext()

    def _cut(
        self, device: torch.device, dtype: torch.dtype
    ) -> Callable[[int], list[slice]] | None:
        """Return what cuts a step's images into micro-batches, if anything may."""
        if not self._treats_images_alone:
            return None
        with torch.device("meta"):
            n_bytes = dtype.itemsize * largest_map(self._build(), self.image_shape_)
        return partial(micro_batches, n_bytes=n_bytes, device=device)

    @abstractmethod
    def _build(self) -> nn.Module:
        """Build the network with new weights."""

    def _checked_module(self, images: np.ndarray, device: torch.device) -> nn.Module:
        """Build the network, and see that it makes logits of a few images.

        Parameters
        ----------
        images : ndarray of shape (n_images, height, width, channels), float32
        device : torch.device
        """
        return self._build().to(device)

    def _check_last_batch(self, module: nn.Module, images: RealImages) -> None:
        """Raise a ValueError if the network cannot be trained on one image alone."""

    def _rehearse(self, images: np.ndarray, classes: np.ndarray) -> None:
        """Raise a ValueError if no network can be built for such images and classes.

        Nothing of the classifier, which need not be fitted, is changed.
        """
        other = clone(self)
        other.image_shape_, other.classes_ = images.shape[1:], classes
        if self._draws_itself:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # fit tells
                with isolated_torch_seed(0):
                    other._checked_module(images, resolve_device(self.device))
        else:
            with torch.device("meta"):
                other._build()

    def _structure(self, device: torch.device) -> nn.Module:
        """Build the network without drawing weights, which are replaced anyway."""
        with torch.device("meta"):
            module = self._build()
        return module.to_empty(device=device)

    def _is_finite_for(self, X: Any) -> bool:
        """Tell whether outputs are finite: those of large weights need not be."""
        with np.errstate(all="ignore"):
            return bool(np.isfinite(self._computed(X[:2], features=False)).all())

    def _diverged(self, sign: str) -> TrainingDivergedError:
        # Nobody shall predict by such weights.
        self.__dict__.pop("parameters_", None)
        return TrainingDivergedError(
            f"the training diverged in epoch {len(self.loss_curve_)} ({sign}); "
            f"`learning_rate`={self.learning_rate} is too high for these images"
        )

    def _logits(self, X: Any) -> np.ndarray:
        return self._outputs(X, features=False)

    @with_own_torch_state
    def _outputs(self, X: Any, *, features: bool) -> np.ndarray:
        check_is_fitted(self)
        X, _ = check_images(self, X, reset=False)
        return self._computed(X, features=features)

    # Not in inference mode: functions of the user's that keep their results, such as
    # tables, would keep tensors that no training can use.
    @torch.no_grad()
    def _computed(self, X: Any, *, features: bool) -> np.ndarray:
        device = resolve_device(self.device)
        module = self._trained_module(device)
        dtype = next(module.parameters()).dtype
        last = threading.local()
        if features:

            def note(_: nn.Module, args: Any, options: Any) -> None:
                last.inputs = seen_by(args, options)

            for layer in module.modules():
                if isinstance(layer, nn.Linear):
                    layer.register_forward_pre_hook(note, with_kwargs=True)

        def compute(start: int) -> np.ndarray:
            images = to_tensor(X[start : start + _INFERENCE_BATCH], device)
            images = images.to(dtype)
            padding = (0, 0) * 3 + (0, _INFERENCE_BATCH - len(images))
            found = module(F.pad(images, padding))
            if features:
                found = getattr(last, "inputs", None)
                if found is None or len(found) != _INFERENCE_BATCH:
                    raise ValueError(
                        "the network has no linear layer that sees one row of numbers "
                        "for each image, and thus no features"
                    )
                found = found.flatten(1)
            return found[: len(images)].to(dtype).cpu().numpy()

        # A module may draw here, too: what it predicts is always the same.
        drawn = isolated_torch_seed(0, device) if self._draws_itself else nullcontext()
        with self._threads(device), drawn:
            first = compute(0)
            # At once: small arrays that stay, between large ones that go, would leave
            # memory in pieces that fit no other batch.
            outputs = np.empty((len(X), *first.shape[1:]), first.dtype)
            outputs[: len(first)] = first

            def fill(start: int) -> None:
                outputs[start : start + _INFERENCE_BATCH] = compute(start)

            map_pieces(fill, range(_INFERENCE_BATCH, len(X), _INFERENCE_BATCH))
        return outputs


def _counters(module: nn.Module) -> dict[str, Tensor]:
    """Return the buffers of integers and booleans, which are not among the weights.

    Training may change them: some layers note that they have seen their first batch.
    """
    return {
        name: buffer
        for name, buffer in module.named_buffers()
        if buffer.layout == torch.strided
        and not buffer.is_quantized
        and not (buffer.is_floating_point() or buffer.is_complex())
    }


def _warm_up_and_cosine(epoch: int, n_epochs: int) -> float:
    """Return by what Adam's learning rate is multiplied in an epoch from 0."""
    n_warm = min(_WARM_UP_EPOCHS, n_epochs // 2)
    if epoch < n_warm:
        return (epoch + 1) / n_warm
    done = (epoch - n_warm) / max(n_epochs - n_warm - 1, 1)
    return _LAST_SHARE + (1 - _LAST_SHARE) * (1 + math.cos(math.pi * done)) / 2


def _seeded(epochs: Iterator[EpochSummary], seed: int) -> Iterator[EpochSummary]:
    """Seed torch's global generator for each epoch, and restore it after each."""
    for epoch in itertools.count():
        with isolated_torch_seed(child_seed(seed, 2, epoch)):
            summary = next(epochs, None)
        if summary is None:
            return
        yield summary
