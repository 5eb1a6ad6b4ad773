"""The loop that distillers by trajectory matching share: teachers, updates, storage."""

import json
import os
import time
from abc import abstractmethod
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import hash as joblib_hash
from sklearn.base import _fit_context, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from tqdm.auto import tqdm

from skdistill.base import BaseDistiller
from skdistill.distillation._history import MATCH_COLUMNS, PROBE_COLUMNS
from skdistill.distillation._matcher import Matcher, Task, draw_teachers
from skdistill.distillation._run import MOST_SETBACKS, Progress, Run
from skdistill.distillation._updates import Descent, Learned, State, StepSizes
from skdistill.neural_network._augment import resolve_families
from skdistill.neural_network._default import default_network
from skdistill.neural_network._derivatives import ConvNetDerivatives, pays_to_compile
from skdistill.synthetic import SyntheticSet
from skdistill.trajectory import TrajectoryBuffer
from skdistill.trajectory._store import manifest_path
from skdistill.utils._callbacks import FitTasks
from skdistill.utils._callers import folder_of_fit, interrupt_ends_all
from skdistill.utils._checkpoint import load_checkpoint
from skdistill.utils._device import resolve_device
from skdistill.utils._distributed import Ranks
from skdistill.utils._files import as_path, check_writable, claim
from skdistill.utils._images import Images, take
from skdistill.utils._memory import is_out_of_memory, reused_memory
from skdistill.utils._pixel_space import check_contrast, pixel_space
from skdistill.utils._pixel_space_checks import warn_of_other_space
from skdistill.utils._random import child_seed, root_seed, torch_generator
from skdistill.utils._tensors import to_images, to_tensor
from skdistill.utils._termination import Request, Termination, orderly_end
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._untrusted import whatever_is_wrong
from skdistill.utils._validation import (
    check_class_sizes,
    check_given_images,
    check_images,
    check_weights,
    fingerprint_images,
)
from skdistill.utils._warnings import warn
from skdistill.utils._workers import n_threads, worker_threads

# While the maps of all steps take no more, they are kept, which is faster.
_KEPT_BYTES = 2**30

# With more images "auto" makes batches of at most so many, and at least one per class.
# Smaller images than 32x32 it takes more of: their steps are short anyway.
_AUTO_BATCH = 32
_AUTO_PIXELS = 32 * 32 * 32

_CHECKPOINT_SECONDS = 30.0

# Parameters that do not decide what comes out, or that are compared otherwise.
_FREE_PARAMETERS = {
    "buffer",
    "checkpoint",
    "device",
    "estimator",
    "image_shape",
    "init",
    "keep_activations",
    "random_state",
    "verbose",
}

# Parameters, also of teachers and networks, that may change while a search is resumed.
_WHERE_AND_HOW = {"checkpoint", "device", "n_jobs", "path", "verbose"}


class TrajectoryDistiller(BaseDistiller):
    """Base class of distillers that match the trajectories of teachers.

    A subclass says which epochs an iteration matches, and how a run goes on after it.
    """

    _parameter_constraints: dict = {
        "ipc": [Interval(Integral, 1, None, closed="left")],
        "pixel_size": [Interval(Integral, 1, None, closed="left")],
        "n_matches": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "buffer": [TrajectoryBuffer, FrozenEstimator, str, os.PathLike, None],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "step_size": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"real", "noise"}), "array-like"],
        "labels": [StrOptions({"hard", "learned"})],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "augmentation": [str, "array-like", None],
        "pixel_lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "step_size_lr": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="left"),
        ],
        "label_lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "average": ["boolean"],
        "gradient": [StrOptions({"exact", "detached"})],
        "keep_activations": [StrOptions({"auto"}), "boolean"],
        "checkpoint": [str, os.PathLike, None],
        "estimator": [None, HasMethods(["fit", "score"])],
        "image_shape": ["array-like", None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    ipc: int
    buffer: Any
    n_steps: int
    step_size: float
    max_iter: int
    init: Any
    pixel_size: int
    labels: str
    batch_size: int | str | None
    n_matches: int | str
    augmentation: Any
    pixel_lr: float | str
    step_size_lr: float | str
    label_lr: float | str
    average: bool
    gradient: str
    keep_activations: bool | str
    checkpoint: Any
    _folder: Path | None
    image_shape: Any
    verbose: int

    @_fit_context(prefer_skip_nested_validation=True)
    @with_own_torch_state
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "TrajectoryDistiller":
        """Distil X, y into ``synthetic_``.

        An interrupt from the keyboard ends the fit early, with the images so far;
        where a search, a cross-validation or an ensemble makes the fit, it ends these
        too, and a second one ends whatever script runs.  With a ``checkpoint`` a
        SIGTERM, as batch systems send it before they end a job, stores the run and then
        ends the process.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images in the training of the teachers, within their
            classes; images of weight 0 are left out.

        Returns
        -------
        self : object
            The fitted distiller.
        """
        families = resolve_families(self.augmentation)
        device = resolve_device(self.device)
        X, y = check_images(
            self, X, y, reset=True, with_labels=True, image_shape=self.image_shape
        )
        self._check_pixel_size()
        check_class_sizes(y, 2, "distillation")
        for_teachers = X, y, sample_weight
        X, y, weight = check_weights(sample_weight, X, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if isinstance(self.init, str) and self.init == "real":
            check_class_sizes(y, self.ipc, f"`ipc`={self.ipc} with `init`='real'")
        self._pixel_space = pixel_space(X)
        warn_of_other_space(
            self._pixel_space,
            self._given_images(X),
            name="init",
            may_be_noise=True,
        )

        ranks = Ranks()
        self.n_matches_ = self._resolve_matches(ranks)
        seed = ranks.from_first(lambda: root_seed(self.random_state))
        fingerprint = fingerprint_images(X, codes, weight)
        signature = self._signature(fingerprint)
        has_callbacks = bool(getattr(self, "_skl_callbacks", None))
        ranks.check_same(signature | {"callbacks": has_callbacks})
        # What callbacks do not like shows before teachers are trained.
        tasks = FitTasks(self, "iteration", self._most_iterations, X, y)
        self._folder = self._resolve_folder(signature, seed)
        with ExitStack() as held:
            ranks.from_first(lambda: self._claim_checkpoint(held))
            stored = ranks.from_first(self._read_checkpoint)
            if stored is not None:
                # Before teachers are trained for a run that cannot go on.
                self._check_same(stored[1]["signature"], signature)
                stored_seed = stored[1]["signature"]["seed of random_state"]
                if self.random_state is None:
                    seed = stored_seed
            self.buffer_ = self._fit_buffer(
                for_teachers, fingerprint, child_seed(seed, 1) % 2**31, ranks
            )

            images = self._initial_images(X, codes, np.random.default_rng([seed, 0]))
            targets = torch.arange(len(self.classes_)).repeat_interleave(self.ipc)
            learned = Learned(
                Descent(
                    to_tensor(images, device), self.pixel_lr, self.buffer_.pixel_scale_
                ),
                targets.to(device),
                len(self.classes_),
                StepSizes(
                    self.step_size,
                    self.step_size_lr,
                    per_epoch=getattr(self, "step_size_per_epoch", False),
                ),
                self.label_lr if self.labels == "learned" else None,
                self.pixel_size,
            )
            first = self._first()
            learned.step_sizes.extend(first.n_epochs_matched)
            run = Run(learned, first)
            signature |= {"seed of random_state": seed} | self._teachers_signature()
            ranks.check_same(signature)
            if stored is not None:
                self._check_same(stored[1]["signature"], signature)
                with whatever_is_wrong(
                    f"{self._checkpoint_path} cannot be read: {{error}}; delete it to "
                    "start anew"
                ):
                    run.restore(*stored)
                    if not 0 < run.progress.n_epochs_matched <= self.buffer_.n_epochs_:
                        raise ValueError("it matched more epochs than teachers have")
                self._reopen(run)
            # A process does not leave while others wait for it.
            end = Request(at_once=False)
            if self.checkpoint is not None:
                end = held.enter_context(orderly_end(at_once=ranks.size == 1))
            with reused_memory(), worker_threads(device):
                self._optimise(
                    run, seed, families, device, signature, tasks, ranks, end
                )
            run.settle(ranks)
            self._keep(run)
            if run.progress.stop_reason == "interrupted" and interrupt_ends_all(
                counts=ranks.size == 1
            ):
                raise KeyboardInterrupt
            tasks.end(self._for_callbacks)
        return self

    # What subclasses decide.

    @abstractmethod
    def _first(self) -> Progress:
        """Return where a run starts."""

    @abstractmethod
    def _task(self, run: Run, rng: np.random.Generator) -> Task:
        """Choose what the next iteration matches."""

    @abstractmethod
    def _review(self, run: Run) -> None:
        """Decide after an iteration how to go on, and whether at all."""

    def _history(self, run: Run) -> pd.DataFrame:
        """Return what the iterations measured, for ``history_``."""
        return run.history.table()

    def _set_attributes(self, run: Run) -> None:
        """Set what only this distiller has."""

    @abstractmethod
    def _check_epochs(self, n_epochs: int) -> None:
        """Raise a ValueError if the teachers have too few epochs."""

    # The parameter that says after how many iterations a run ends in any case.
    _limit_name = "max_total_iter"

    @property
    def _most_iterations(self) -> int | None:
        return getattr(self, self._limit_name)

    # The start of a run.

    def _check_pixel_size(self) -> None:
        height, width, _ = self.image_shape_
        if height % self.pixel_size or width % self.pixel_size:
            raise ValueError(
                f"`pixel_size`={self.pixel_size} must divide height and width of the "
                f"images, {height} and {width}"
            )

    def _given_images(self, X: Images) -> np.ndarray | None:
        if isinstance(self.init, str):
            return None
        n_images = len(self.classes_) * self.ipc
        return check_given_images(self.init, "init", (n_images, *X.shape[1:]))

    def _initial_images(
        self, X: Images, codes: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return the first images, of as few pixels as are learned."""
        size = self.pixel_size
        height, width, n_channels = X.shape[1:]
        n_images = len(self.classes_) * self.ipc
        if isinstance(self.init, str) and self.init == "noise":
            mean, scale, _ = self._pixel_space
            shape = (n_images, height // size, width // size, n_channels)
            noise = rng.standard_normal(shape, dtype=np.float32)
            return (noise * scale.astype(np.float32) + mean).astype(np.float32)
        images = self._given_images(X)
        if images is None:
            chosen = [
                rng.choice(np.flatnonzero(codes == code), self.ipc, replace=False)
                for code in range(len(self.classes_))
            ]
            images = take(X, np.concatenate(chosen))
        blocks = images.reshape(
            n_images, height // size, size, width // size, size, n_channels
        )
        return blocks.mean(axis=(2, 4), dtype=np.float32)

    def _fit_buffer(
        self,
        data: tuple[Images, np.ndarray, Any],
        fingerprint: str,
        seed: int,
        ranks: Ranks,
    ) -> TrajectoryBuffer:
        """Return fitted teachers that match the images."""
        buffer = self.buffer
        if isinstance(buffer, FrozenEstimator):
            buffer = buffer.estimator
            if not hasattr(buffer, "history_"):
                raise ValueError("`buffer` must be fitted where it is frozen")
        if isinstance(buffer, (str, os.PathLike)):
            buffer = TrajectoryBuffer.load(as_path(buffer, "buffer"))
        elif buffer is None:
            buffer = TrajectoryBuffer(
                augmentation=self.augmentation,
                n_jobs=-1,
                device=self.device,
                verbose=self.verbose,
            )
        if not hasattr(buffer, "history_"):
            self._check_epochs(buffer._n_ways())
            buffer = clone(buffer)
            if self.checkpoint is not None and buffer.path is None:
                # Teachers are most of the work: a killed fit shall not lose them.
                # In a search all fits share those that they have in common.
                folder = as_path(self.checkpoint, "checkpoint")
                buffer.set_params(path=folder / "teachers")
            # Teachers that are on disk already keep the seed they have.
            on_disk = (
                buffer.path is not None and manifest_path(as_path(buffer.path)).exists()
            )
            if buffer.random_state is None and not on_disk:
                buffer.set_params(random_state=seed)
            if buffer.path is None:
                # One process trains them while the others wait, however long.
                return ranks.from_first(lambda: buffer.fit(*data), long=True)
            if not ranks.is_first:
                buffer.set_params(verbose=0)
            # Those that see one folder share its teachers.
            return ranks.side_by_side(lambda: buffer.fit(*data))
        # Teachers that are trained now look at this themselves.
        space = self._pixel_space
        check_contrast(data[0].dtype, space.mean, space.deviation)
        self._check_epochs(len(buffer.snapshot_epochs_) - 1)
        if buffer.image_shape_ != self.image_shape_:
            raise ValueError(
                f"`buffer` was made for images of shape {buffer.image_shape_}; X has "
                f"images of shape {self.image_shape_}"
            )
        if not np.array_equal(buffer.classes_, self.classes_):
            raise ValueError(
                f"`buffer` was made for the classes {buffer.classes_.tolist()}; y has "
                f"{self.classes_.tolist()}"
            )
        if buffer.fingerprint_ != fingerprint and ranks.is_first:
            warn(
                "`buffer` was fitted on other images, labels or weights than X, y: if "
                "they hold images that the distilled set is later tested on, the test "
                "is not fair",
            )
        return buffer

    # What a checkpoint belongs to.

    def _signature(self, fingerprint: str) -> dict[str, Any]:
        """Return everything but seed and teachers that decides what comes out."""
        parameters = {
            f"`{name}`": value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params(deep=False).items()
            if name not in _FREE_PARAMETERS and name != self._limit_name
        }
        parameters["`n_matches`"] = self.n_matches_
        parameters["`augmentation`"] = list(resolve_families(self.augmentation))
        init = self.init
        if not isinstance(init, str):
            init = f"images with the digest {joblib_hash(np.asarray(init))}"
        return {
            "distiller": type(self).__name__,
            **parameters,
            "`init`": init,
            "class labels": self.classes_.tolist(),
            "images or labels (fingerprint)": fingerprint,
        }

    def _teachers_signature(self) -> dict[str, Any]:
        buffer = self.buffer_
        return {
            "number of teachers": buffer.n_teachers_,
            "teachers' epochs": buffer.n_epochs_,
            "teachers' settings": json.loads(
                json.dumps(asdict(buffer._trained_settings))
            ),
            "teachers' images (fingerprint)": buffer.fingerprint_,
            "teachers' seed": buffer.seed_,
        }

    def _resolve_folder(self, signature: dict[str, Any], seed: int) -> Path | None:
        """Return the folder of this run."""
        if self.checkpoint is None:
            return None
        if self.random_state is not None:
            signature = signature | {"seed of random_state": seed}
        # Two that differ in nothing but the network of `score` may run side by side.
        parameters = {
            name: value
            for name, value in self.get_params().items()
            if name.rpartition("__")[2] not in _WHERE_AND_HOW
        }
        checkpoint = as_path(self.checkpoint, "checkpoint")
        return folder_of_fit(checkpoint, signature | {"parameters": parameters})

    @property
    def _checkpoint_path(self) -> Path:
        return Path(self._folder or "") / "state.safetensors"

    def _claim_checkpoint(self, held: ExitStack) -> None:
        """Keep other processes out, and see early what could not be stored late."""
        folder = self._folder
        if folder is None:
            return
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"`checkpoint` must be a folder; {folder} is a file")
        if not self._checkpoint_path.exists():
            check_writable(folder, "checkpoint")
        if not held.enter_context(claim(self._checkpoint_path)):
            raise BlockingIOError(
                f"`checkpoint`: another fit works in {folder} at this moment; wait for "
                "its end, or give another folder"
            )

    def _read_checkpoint(self) -> tuple[State, dict[str, Any]] | None:
        if self._folder is None or not self._checkpoint_path.exists():
            return None
        tensors, content = load_checkpoint(self._checkpoint_path)
        signature = content.get("signature")
        seed = isinstance(signature, dict) and signature.get("seed of random_state")
        if type(seed) is not int or seed < 0:
            raise ValueError(
                f"{self._checkpoint_path} cannot be read: it does not say what run it "
                "holds; delete it to start anew"
            )
        return tensors, content

    def _check_same(self, found: dict[str, Any], asked: dict[str, Any]) -> None:
        """Raise a ValueError that names what a checkpoint differs in."""
        differences = [
            f"{name}: {found.get(name)!r} there, {value!r} asked for"
            for name, value in asked.items()
            if found.get(name) != value
        ]
        if differences:
            raise ValueError(
                f"`checkpoint`: {self._folder} holds a run on other data or with "
                "other parameters (" + "; ".join(differences) + "); give another "
                "folder, or delete this one"
            )

    def _reopen(self, run: Run) -> None:
        """Let a run that was stored go on, unless it had come to its own end."""
        most = self._most_iterations
        n_done = len(run.history)
        if most is not None and n_done > most:
            raise ValueError(
                f"`checkpoint`: {self._folder} holds {n_done} iterations; at most "
                f"{most} are asked for"
            )
        reason = run.progress.stop_reason
        if reason in ("", "interrupted", "callback", self._limit_name):
            run.advance(stop_reason=self._limit_name if n_done == most else "")
        if not run.progress.stop_reason:
            check_writable(self._checkpoint_path.parent, "checkpoint")

    # The run itself.

    def _resolve_matches(self, ranks: Ranks) -> int:
        n_matches = ranks.size if self.n_matches == "auto" else int(self.n_matches)
        if n_matches < ranks.size:
            raise ValueError(
                f"`n_matches` must be at least the number of processes, {ranks.size}, "
                f"each of which makes a match in each iteration; got {n_matches}"
            )
        return n_matches

    def _images_per_step(self, n_images: int) -> int:
        size = self.batch_size
        if isinstance(size, str):
            height, width, _ = self.image_shape_
            most = max(
                _AUTO_BATCH, len(self.classes_), _AUTO_PIXELS // (height * width)
            )
            size = -(-n_images // -(-n_images // most))
        return min(int(size or n_images), n_images)

    def _optimise(
        self,
        run: Run,
        seed: int,
        families: tuple[str, ...],
        device: torch.device,
        signature: dict[str, Any],
        tasks: FitTasks,
        ranks: Ranks,
        end: Request,
    ) -> None:
        if run.progress.stop_reason:
            # What was stored had come to its end.
            if ranks.is_first:
                self._tell_of_end(run)
            return
        n_images = len(run.learned.images)
        batch_size = self._images_per_step(n_images)
        most = self._most_iterations
        network = ConvNetDerivatives(
            self.buffer_._structure(),
            compile=pays_to_compile(
                device,
                (most or self.max_iter) * self.n_steps * self.n_matches_ // ranks.size,
            ),
        )
        keep = self.keep_activations
        if keep == "auto":
            n_at_once = min(self.n_matches_ // ranks.size, n_threads())
            of_match = self.n_steps * network.tape_bytes(batch_size)
            keep = n_at_once * of_match <= _KEPT_BYTES
        matcher = Matcher(
            self.buffer_,
            network,
            n_steps=self.n_steps,
            batch_size=batch_size,
            families=families,
            detached=self.gradient == "detached",
            keep=bool(keep),
            device=device,
            ranks=ranks,
        )
        stores = self.checkpoint is not None and ranks.is_first
        saved_at = time.monotonic()
        bar = tqdm(
            desc="distillation",
            unit="iteration",
            total=most,
            initial=len(run.history),
            disable=not (self.verbose and ranks.is_first),
        )
        is_stored = True
        with bar, ranks.deferred_interrupt() as interrupted:
            matcher.interrupted = lambda: interrupted() or end.received
            mark = None
            try:
                while not run.progress.stop_reason:
                    mark = run.begin_iteration()
                    tasks.begin_step()
                    numbers = self._iterate(run, seed, matcher)
                    bar.set_postfix(
                        loss=f"{numbers['loss']:.3f}",
                        T=run.progress.n_epochs_matched,
                        step_size=f"{numbers['step_size']:.2g}",
                        refresh=False,
                    )
                    bar.update()
                    stop = tasks.end_step(
                        lambda: self._so_far(run), partial(_told, run, numbers)
                    )
                    if tasks.are_told:
                        stop = ranks.any(stop, device)
                    if stop and not run.progress.stop_reason:
                        run.advance(stop_reason="callback")
                    if (
                        stores
                        and not run.progress.stop_reason
                        and time.monotonic() - saved_at > _CHECKPOINT_SECONDS
                    ):
                        is_stored = self._store(run, signature, tell=is_stored)
                        saved_at = time.monotonic()
                    # Nothing is to be undone between two iterations.
                    mark = None
            except (KeyboardInterrupt, Termination):
                if mark is not None:
                    run.back_to(mark)
                run.advance(stop_reason="interrupted")
            except Exception as error:
                # As a GPU without memory, or a disk that is gone.
                if mark is not None:
                    run.back_to(mark)
                if is_out_of_memory(error):
                    error.add_note(
                        "With `keep_activations=False` the fit needs less memory."
                        if keep
                        else "A smaller `batch_size` needs less memory."
                    )
                if stores and self._store(run, signature):
                    error.add_note(
                        f"The {len(run.history)} iterations before this are stored "
                        f"in {self._folder}: the same fit goes on from them."
                    )
                # After an error of a GPU there may be nothing to keep.
                with suppress(Exception):
                    self._keep(run)
                    error.add_note(
                        f"`synthetic_` holds the images after {len(run.history)} "
                        "iterations."
                    )
                raise
        # From here on a signal waits until all is put away.
        end.at_once = False
        if stores:
            self._store(run, signature)
        if ranks.is_first:
            self._tell_of_end(run)

    def _store(self, run: Run, signature: dict[str, Any], *, tell: bool = True) -> bool:
        """Store a run, and tell whether that went well.

        The fit does not fail with it: what it has is more than what is stored.
        """
        try:
            run.save(self._checkpoint_path, signature)
        except OSError as error:
            if tell:
                warn(
                    f"the state after {len(run.history)} iterations could not be "
                    f"stored: {error}; the fit goes on with what it has in memory, and "
                    "the next attempt is made in half a minute or at its end",
                )
            return False
        return True

    def _tell_of_end(self, run: Run) -> None:
        reason = run.progress.stop_reason
        if reason == "interrupted":
            where = "" if self.checkpoint is None else "; the same fit goes on from it"
            warn(
                f"the distillation was interrupted after {len(run.history)} "
                f"iterations; the images so far are kept{where}",
            )
        elif reason == "diverged":
            warn(
                f"the distillation diverged: {MOST_SETBACKS} times in a row it went "
                "back to its last good images and halved its rates; these images are "
                "kept.  A smaller `step_size` or, if it is a number, `pixel_lr` may "
                "help",
                ConvergenceWarning,
            )

    def _iterate(self, run: Run, seed: int, matcher: Matcher) -> dict[str, float]:
        """Probe, match, learn, and decide how to go on; return what was measured."""
        iteration = len(run.history)
        rng = np.random.default_rng([seed, 2, iteration])
        task = self._task(run, rng)
        teachers = draw_teachers(
            rng, task.teacher, self.buffer_.n_teachers_, self.n_matches_
        )
        # Draws depend on the iteration alone: nothing of them has to be stored.
        generators = [
            torch_generator(child_seed(seed, 3, iteration, *([place] if place else [])))
            for place in range(self.n_matches_)
        ]
        learned = run.learned
        numbers, gradient = matcher(
            learned,
            [task._replace(teacher=teacher) for teacher in teachers],
            generators,
        )
        finite = bool(np.isfinite(list(numbers.values())).all())
        row = {
            "n_epochs_matched": run.progress.n_epochs_matched,
            "teacher": task.teacher,
            "start_epoch": task.start_epoch,
            "step_size": float(learned.step_sizes.logarithm(task.start_epoch).exp()),
        }
        row |= {n: numbers[n] for n in (*MATCH_COLUMNS, *PROBE_COLUMNS) if n in numbers}
        run.history.append(row)
        good = finite
        if finite:
            learned.step(
                task.start_epoch,
                gradient,
                numbers["by_step_size"],
                numbers["stretch"],
                run.progress.rate,
            )
            good = run.watch(numbers["loss"])
        if not good:
            run.history.mark_rolled_back()
            run.set_back()
        elif task.probe_epoch is not None:
            run.probes.append(row)
        if not run.progress.stop_reason:
            self._review(run)
        if not run.progress.stop_reason and len(run.history) == self._most_iterations:
            run.advance(stop_reason=self._limit_name)
        return row

    def _keep(self, run: Run) -> None:
        """Set what a fit leaves behind."""
        if not run.learned.is_finite():
            # The last update was too much, and no match has seen it.
            run.learned.restore(run.good)
            run.history.mark_rolled_back()
        self.history_ = self._history(run)
        self.n_iter_ = len(run.history)
        self.stop_reason_ = run.progress.stop_reason
        self.step_sizes_ = np.asarray(run.learned.step_sizes.values())
        self.best_iteration_ = run.best_iteration
        self.synthetic_ = self._synthetic_set(run.learned)
        now = run.learned.state()
        run.learned.restore(run.best)
        self.best_synthetic_ = self._synthetic_set(run.learned)
        run.learned.restore(now)
        self._set_attributes(run)

    def _so_far(self, run: Run) -> dict[str, Any]:
        """Return what the fit would leave behind if it ended here."""
        return self._for_callbacks(
            synthetic_=self._synthetic_set(run.learned),
            history_=self._history(run),
            n_iter_=len(run.history),
            step_sizes_=np.asarray(run.learned.step_sizes.values()),
        )

    def _synthetic_set(self, learned: Learned) -> SyntheticSet:
        images, targets = learned.result(self.average)
        probabilities = None
        if self.labels == "learned":
            probabilities = targets.cpu().numpy()
        return SyntheticSet(
            to_images(images),
            self.classes_.repeat(self.ipc),
            learned.step_sizes.values()[-1],
            {"distiller": type(self).__name__},
            probabilities=probabilities,
            pixel_space=self._pixel_space,
            pixel_size=self.pixel_size,
        )

    def _default_estimator(self) -> Any:
        # The teachers' own network, whichever buffer they came from.
        settings = self.buffer_._trained_settings
        return default_network(
            self.synthetic_.step_size,
            width=settings.width,
            depth=settings.depth,
            normalization=settings.normalization,
            augmentation=self.augmentation,
            image_shape=self.image_shape_,
            device=self.device,
            random_state=self.random_state,
        )


def _told(run: Run, numbers: dict[str, float]) -> dict[str, float]:
    """Return what callbacks learn of the last iteration."""
    rates = run.learned.learning_rates(run.progress.rate)
    return {"iteration": len(run.history), **numbers, **rates}
