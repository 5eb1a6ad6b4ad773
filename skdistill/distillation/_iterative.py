"""IterativeDistiller: the common part of distillers that optimize synthetic images."""

import os
from abc import abstractmethod
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import hash as joblib_hash
from sklearn.base import _fit_context
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from torch import Tensor

from skdistill.base import BaseDistiller
from skdistill.distillation._cost import estimate_cost
from skdistill.distillation._engine._checkpoint import SEED, Checkpoint
from skdistill.distillation._engine._initialization import (
    check_image_memory,
    check_pixel_size,
    given_images,
    initial_images,
)
from skdistill.distillation._engine._loop import Optimization
from skdistill.distillation._engine._objective import Objective
from skdistill.distillation._engine._optimizers import AUTO_STEP, SGD, Optimizer
from skdistill.distillation._engine._parameters import (
    HardLabels,
    Labels,
    SyntheticParameters,
    one_hot,
)
from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._engine._state import DistillationState
from skdistill.neural_network._reinitialize import ModuleParameterMixin
from skdistill.preprocessing._carried import carried_in
from skdistill.synthetic import SyntheticSet
from skdistill.trajectory import TrajectoryBuffer
from skdistill.utils._callbacks import FitTasks
from skdistill.utils._callers import folder_of_fit, interrupt_ends_all
from skdistill.utils._cost import CostEstimate
from skdistill.utils._device import resolve_device
from skdistill.utils._distributed import Ranks
from skdistill.utils._files import as_path
from skdistill.utils._memory import reused_memory
from skdistill.utils._metadata import describe_fit
from skdistill.utils._pixel_space_checks import warn_of_other_space
from skdistill.utils._plain import as_plain
from skdistill.utils._random import root_seed
from skdistill.utils._tensors import to_images, to_tensor
from skdistill.utils._termination import Request, orderly_end
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import (
    check_class_sizes,
    check_images,
    check_weights,
    fingerprint_images,
)
from skdistill.utils._whole_fits import fitted_as_a_whole
from skdistill.utils._workers import worker_threads

# What to do about initial images that are unlike the real ones.
_OF_A_START = (
    "Transform it by the scaler or whitener that was fitted on these; pass distilled "
    "images as a SyntheticSet"
)
# Maximum number of classes in a message.
_MAX_NAMED = 10
# Parameters, also of teachers and networks, that may change while a search is resumed.
_WHERE_AND_HOW = {"checkpoint", "device", "n_jobs", "path", "verbose"}


@dataclass
class _Fit:
    """The state of a running fit besides the learned parameters."""

    ranks: Ranks
    seed: int
    signature: dict[str, Any]
    checkpoint: Checkpoint | None
    tasks: FitTasks
    end: Request


class IterativeDistiller(ModuleParameterMixin, BaseDistiller):
    """Base class of distillers that optimize synthetic images iteratively.

    A subclass implements ``_make_objective``; everything else is shared.
    """

    _parameter_constraints: dict = {
        "ipc": [Interval(Integral, 1, None, closed="left")],
        "pixel_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"real", "noise"}), "array-like"],
        "pixel_lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "average": ["boolean"],
        "checkpoint": [str, os.PathLike, None],
        "estimator": [None, HasMethods(["fit", "score"])],
        "image_shape": ["array-like", None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # Parameters that do not decide what comes out, or that are compared otherwise.
    _free_parameters: frozenset[str] = frozenset(
        {
            "checkpoint",
            "device",
            "estimator",
            "image_shape",
            "init",
            "random_state",
            "verbose",
        }
    )

    # The parameter that says after how many iterations a fit ends in any case: a run
    # may be prolonged, so it is not what a checkpoint belongs to.
    _limit_name = "max_iter"

    # What `pixel_lr`="auto" is, in standard deviations of the pixels.
    _auto_step = AUTO_STEP

    ipc: int
    max_iter: int
    init: Any
    pixel_size: int
    pixel_lr: float | str
    average: bool
    checkpoint: Any
    image_shape: Any
    verbose: int

    # What a method decides.

    @abstractmethod
    def _make_objective(self, data: RealData, seed: int) -> Objective:
        """Return the objective to minimize."""

    def _check_parameters(self, data: RealData) -> None:
        """Raise an error if parameters do not match the data, before work starts."""

    def _resolved_parameters(self) -> dict[str, Any]:
        """Return the values of parameters that a checkpoint compares otherwise."""
        return {}

    def _make_labels(self, codes: Tensor, n_classes: int) -> Labels:
        """Return the labels of the synthetic images, and how they are learned."""
        return HardLabels(one_hot(codes, n_classes, torch.float32))

    def _make_optimizer(self, images: Tensor, data: RealData) -> Optimizer:
        """Return the optimizer of the pixels, given the initial images."""
        return SGD(images, self.pixel_lr, data.pixel_scale, auto_step=self._auto_step)

    def _given_buffer(self) -> Any:
        """Return the teachers, or an unfitted buffer; None if there are none."""
        return getattr(self, "buffer", None)

    def _check_teachers(self, buffer: TrajectoryBuffer) -> None:
        """Raise a ValueError if the teachers do not match the parameters."""

    def _metadata(self) -> dict[str, Any]:
        """Return the metadata of the set besides those of :func:`describe_fit`."""
        return {}

    def _attributes(self, state: DistillationState) -> dict[str, Any]:
        """Return the attributes that are specific to this distiller."""
        return {}

    # The fit.

    @fitted_as_a_whole()
    @_fit_context(prefer_skip_nested_validation=True)
    @with_own_torch_state
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "IterativeDistiller":
        """Distill X, y into ``synthetic_``.

        A keyboard interrupt ends the fit early, with the current images.  In a search,
        a cross-validation or an ensemble it ends these, too; a second interrupt ends
        the running script.  With a ``checkpoint``, SIGTERM, which batch systems send
        before they end a job, stores the run and then ends the process.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images within their classes; images of weight 0 are ignored.

        Returns
        -------
        self : object
            The fitted distiller.
        """
        data = self._validate(X, y, sample_weight)
        with ExitStack() as held:
            fit = self._open(data, held)
            objective = self._make_objective(data, fit.seed)
            self._described_fit = describe_fit(
                self, data.classes[data.codes], fit.seed, data.device
            )
            state = self._begin(data, objective, fit)
            self._optimize(state, fit, data.device)
            self._end(state, fit)
        return self

    @with_own_torch_state
    def estimate_cost(self, X: Any, y: Any, sample_weight: Any = None) -> CostEstimate:
        """Estimate the time, memory and disk space of a fit to X, y.

        Some iterations are timed, for some seconds, and some training steps of teachers
        if the fit trains these; nothing is fitted or stored.  The contents of
        ``checkpoint`` or of the teachers' ``path`` are not considered: the estimate is
        for a fit from the beginning.

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
            Its ``teachers`` are the cost of training teachers.

        Notes
        -----
        Time is that of this machine as busy as it is now.
        """
        self._validate_params()
        return estimate_cost(self, X, y, sample_weight)

    def _validate(self, X: Any, y: Any, sample_weight: Any) -> RealData:
        device = resolve_device(self.device)
        X, y = check_images(
            self, X, y, reset=True, with_labels=True, image_shape=self.image_shape
        )
        check_pixel_size(self.pixel_size, self.image_shape_)
        check_class_sizes(y, 2, "distillation")
        given = X, y, sample_weight
        X, y, weight = check_weights(sample_weight, X, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._check_estimator(X, self.classes_)
        if isinstance(self.init, str) and self.init == "real":
            check_class_sizes(y, self.ipc, f"`ipc`={self.ipc} with `init`='real'")
        check_image_memory(self.ipc, len(self.classes_), self.image_shape_, device)
        data = RealData(
            X,
            codes,
            weight,
            self.classes_,
            device=device,
            fingerprint=fingerprint_images(X, codes, weight),
            given=given,
        )
        self._pixel_space = data.pixel_space
        self._preprocessing = carried_in(self, data.image_shape)
        start = self._given_set()
        warn_of_other_space(
            data.pixel_space,
            given_images(self._start(), data.n_classes * self.ipc, data.image_shape),
            name="init",
            may_be_noise=True,
            recorded=None if start is None else start.pixel_space,
            are_distilled=start is not None,
            remedy=_OF_A_START if start is None else None,
        )
        self._check_parameters(data)
        return data

    def _start(self) -> Any:
        """Return ``init``, the images of a set in the order of the classes."""
        given = self._given_set()
        if given is None:
            return self.init
        wanted = dict.fromkeys(self.classes_.tolist(), self.ipc)
        there = Counter(given.y.tolist())
        # First those of the set, which differ where y was encoded.
        for name in {**there, **wanted}:
            if there[name] != wanted.get(name, 0):
                raise ValueError(
                    f"`init` must be a set with `ipc`={self.ipc} images of each class "
                    f"of y, {list(wanted)[:_MAX_NAMED]}; it has {there[name]} of class "
                    f"{name!r}" + ("" if name in wanted else ", which is not in y")
                )
        return given.X[np.argsort(given.y, kind="stable")]

    def _given_set(self) -> SyntheticSet | None:
        """Return a set that is ``init``, None if it is anything else."""
        if not isinstance(self.init, SyntheticSet):
            return None
        # What was changed in a set since it was made is checked, too.
        return replace(self.init, preprocessing=None)

    def _open(self, data: RealData, held: ExitStack) -> _Fit:
        """Agree with other processes, tell callbacks, and open the checkpoint."""
        ranks = Ranks()
        seed = ranks.from_first(lambda: root_seed(self.random_state))
        signature = self._signature(data)
        has_callbacks = bool(getattr(self, "_skl_callbacks", None))
        ranks.check_same(signature | {"callbacks": has_callbacks})
        # What callbacks do not like shows before the work.
        X, y, _ = data.given
        tasks = FitTasks(self, "iteration", self._limit, X, y)
        checkpoint = None
        if self.checkpoint is not None:
            checkpoint = Checkpoint(self._folder(signature, seed))
            claim, read = checkpoint.claim, checkpoint.read
            ranks.from_first(lambda: claim(held))
            checkpoint.stored = ranks.from_first(read)
            # Before teachers are trained for a run that cannot be resumed.
            checkpoint.check_same(signature)
            if self.random_state is None and checkpoint.seed is not None:
                seed = checkpoint.seed
        return _Fit(ranks, seed, signature, checkpoint, tasks, Request(at_once=False))

    def _begin(
        self, data: RealData, objective: Objective, fit: _Fit
    ) -> DistillationState:
        """Return the state that the iterations start from, or resume from."""
        ranks, checkpoint = fit.ranks, fit.checkpoint
        if objective.n_draws < ranks.size:
            raise ValueError(
                f"{type(self).__name__} must make at least one draw per iteration for "
                f"each of the {ranks.size} processes of the torch.distributed group; "
                f"got {objective.n_draws}"
            )
        images = initial_images(
            self._start(),
            data,
            self.ipc,
            self.pixel_size,
            np.random.default_rng([fit.seed, 0]),
        )
        codes = torch.arange(data.n_classes).repeat_interleave(self.ipc).to(data.device)
        parameters = SyntheticParameters(
            self._make_optimizer(to_tensor(images, data.device), data),
            self._make_labels(codes, data.n_classes),
            codes,
            objective.extras(),
            self.pixel_size,
        )
        state = DistillationState(parameters, objective)
        own = {name: as_plain(value) for name, value in objective.signature().items()}
        signature = fit.signature | {SEED: fit.seed} | own
        ranks.check_same(signature)
        if checkpoint is not None:
            checkpoint.signature = signature
            checkpoint.check_same(signature)
            checkpoint.resume(state, self._limit_name, self._limit)
        return state

    def _optimize(
        self, state: DistillationState, fit: _Fit, device: torch.device
    ) -> None:
        ranks = fit.ranks
        with ExitStack() as held:
            if fit.checkpoint is not None:
                # A process does not leave while others wait for it.
                fit.end = held.enter_context(orderly_end(at_once=ranks.size == 1))
            optimization = Optimization(
                state,
                seed=fit.seed,
                limit_name=self._limit_name,
                limit=self._limit,
                checkpoint=fit.checkpoint if ranks.is_first else None,
                tasks=fit.tasks,
                so_far=lambda: self._for_callbacks(**self._learned(state)),
                keep=lambda: self._keep(state),
                ranks=ranks,
                end=fit.end,
                verbose=bool(self.verbose),
            )
            with reused_memory(), worker_threads(device):
                optimization.run()
            optimization.finish()

    def _end(self, state: DistillationState, fit: _Fit) -> None:
        if state.stop_reason == "interrupted" and interrupt_ends_all(
            counts=fit.ranks.size == 1
        ):
            raise KeyboardInterrupt
        fit.tasks.end(self._for_callbacks)

    # What a checkpoint belongs to.

    @property
    def _limit(self) -> int | None:
        return getattr(self, self._limit_name)

    def _signature(self, data: RealData) -> dict[str, Any]:
        """Return all that determines the result, except seed and objective."""
        parameters = {
            f"`{name}`": as_plain(value)
            for name, value in self.get_params(deep=False).items()
            if name not in self._free_parameters and name != self._limit_name
        }
        for name, value in self._resolved_parameters().items():
            parameters[f"`{name}`"] = value
        init = self._start()
        if not isinstance(init, str):
            init = f"images with the digest {joblib_hash(np.asarray(init))}"
        return {
            "distiller": type(self).__name__,
            **parameters,
            "`init`": init,
            "class labels": self.classes_.tolist(),
            "images or labels (fingerprint)": data.fingerprint,
        }

    def _folder(self, signature: dict[str, Any], seed: int) -> Path:
        """Return the folder of this run."""
        if self.random_state is not None:
            signature = signature | {SEED: seed}
        # Two that differ in nothing but the network of `score` may run side by side.
        parameters = {
            name: value
            for name, value in self.get_params().items()
            if name.rpartition("__")[2] not in _WHERE_AND_HOW
            and f"`{name}`" not in signature
        }
        checkpoint = as_path(self.checkpoint, "checkpoint")
        return folder_of_fit(checkpoint, signature | {"parameters": parameters})

    # What a fit leaves behind.

    def _keep(self, state: DistillationState) -> None:
        """Set the fitted attributes."""
        parameters = state.parameters
        for name, value in self._learned(state).items():
            setattr(self, name, value)
        self.stop_reason_ = state.stop_reason
        self.best_iteration_ = state.progress.best_iteration
        now = parameters.state()
        parameters.restore(state.best)
        self.best_synthetic_ = self._synthetic_set(state, self.best_iteration_)
        parameters.restore(now)

    def _learned(self, state: DistillationState) -> dict[str, Any]:
        """Return the fitted attributes as if the fit ended here."""
        return {
            "synthetic_": self._synthetic_set(state, len(state.history)),
            "history_": state.history.table(),
            "n_iter_": len(state.history),
            **self._attributes(state),
        }

    def _synthetic_set(self, state: DistillationState, n_iter: int) -> SyntheticSet:
        images, labels = state.parameters.result(self.average)
        found = state.objective.probabilities(images)
        if state.parameters.has_probabilities:
            found = labels
        probabilities = None if found is None else found.cpu().numpy()
        found = state.objective.targets(images, labels)
        targets = None if found is None else found.float().cpu().numpy()
        return SyntheticSet(
            to_images(images),
            self.classes_.repeat(self.ipc),
            state.objective.student_learning_rate(),
            {**self._described_fit, "n_iter": n_iter, **self._metadata()},
            probabilities=probabilities,
            targets=targets,
            pixel_space=self._pixel_space,
            pixel_size=self.pixel_size,
            preprocessing=self._preprocessing,
        )
