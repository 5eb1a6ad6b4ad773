"""A distiller without networks: images fall to the means of their classes.

Its objective is quadratic and seen through noise; it has a state, stages, an end of its
own and a parameter beside images and labels.  ``events`` makes of an evaluation
whatever a test wants to happen.
"""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skdistill.distillation._engine._objective import Evaluation, Objective
from skdistill.distillation._engine._optimizers import SGD, Adam
from skdistill.distillation._engine._parameters import (
    Probabilities,
    Targets,
    first_logits,
    one_hot,
)
from skdistill.distillation._iterative import IterativeDistiller


def make_squares(seed=0):
    """Return images (18, 4, 4, 2) of three classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(18) % 3
    X = rng.normal(0, 0.3, (18, 4, 4, 2)).astype(np.float32)
    X[np.arange(18), y] += 2
    return X, y


class Offset:
    """A number that follows what the iterations measured, by a rule of its own."""

    def __init__(self):
        self.value = torch.zeros(1, dtype=torch.float64)

    def step(self, metrics, factor):
        self.value = self.value + 0.1 * factor * metrics["loss"]

    def state(self):
        return {"value": self.value}

    def restore(self, state):
        self.value = state["value"].cpu()


class Quadratic(Objective):
    """Half the squared distance from noisy means, and of labels from even ones."""

    columns = ("loss", "distance")
    notes = ("stage",)
    last_columns = ("offset",)
    out_of_memory_hint = "Fewer images need less memory."

    def __init__(self, data, distiller):
        self.n_draws = distiller.n_draws
        self.offset = Offset()
        self._distiller = distiller
        self._data = data
        means = torch.stack([data.read(rows).mean(0) for rows in data.rows])
        self._means = means.repeat_interleave(distiller.ipc, 0)
        self._n_accepted = torch.zeros((), dtype=torch.int64)

    def evaluate(self, synthetic, draw):
        noise = torch.randn(self._means.shape, generator=draw.generator())
        distance = synthetic.images - self._means
        by_image = distance - self._distiller.noise * noise
        metrics = {
            "loss": by_image.square().sum() / 2,
            "distance": distance.square().sum(),
        }
        gradients = {"images": by_image}
        if synthetic.learns_labels:
            gradients["labels"] = synthetic.labels - 1 / synthetic.labels.shape[1]
        notes = {"stage": synthetic.stage, "offset": float(self.offset.value)}
        evaluation = Evaluation(metrics, gradients, notes)
        events = self._distiller.events
        return evaluation if events is None else events(draw, evaluation)

    def extras(self):
        return {"offset": self.offset}

    def advance(self, synthetic, numbers, draw):
        self._n_accepted = self._n_accepted + 1
        n_done, every = int(self._n_accepted), self._distiller.stage_length
        if every and n_done % every == 0:
            synthetic.begin_stage()
        return "accepted enough" if n_done == self._distiller.n_accepted else ""

    def rolled_back(self, synthetic, n_times):
        self.n_times = n_times

    def targets(self, images, labels):
        if self._distiller.labels == "targets":
            return labels
        # What follows from the images alone.
        if self._distiller.labels == "sums":
            return images.sum((1, 2, 3))[:, None].expand(labels.shape)
        return None

    def student_learning_rate(self):
        return abs(float(self.offset.value)) + 1

    def state(self):
        return {"n_accepted": self._n_accepted}

    def restore(self, state):
        if state["n_accepted"].shape != () or state["n_accepted"].dtype != torch.int64:
            raise ValueError("its number of accepted steps makes no sense")
        self._n_accepted = state["n_accepted"]

    def signature(self):
        return {"deviation of the noise": (self._distiller.noise,)}


class QuadraticDistiller(IterativeDistiller):
    """Distill by a quadratic objective."""

    _parameter_constraints = {
        **IterativeDistiller._parameter_constraints,
        "labels": [StrOptions({"hard", "probabilities", "targets", "sums"})],
        "optimizer": [StrOptions({"sgd", "adam"})],
        "noise": [Interval(Real, 0, None, closed="left")],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "stage_length": [Interval(Integral, 1, None, closed="left"), None],
        "n_accepted": [Interval(Integral, 1, None, closed="left"), None],
        "note": "no_validation",
        "events": [callable, None],
    }
    _free_parameters = IterativeDistiller._free_parameters | {"events"}

    def __init__(
        self,
        ipc=1,
        *,
        pixel_size=1,
        max_iter=25,
        init="noise",
        labels="hard",
        optimizer="sgd",
        pixel_lr=0.1,
        average=True,
        noise=0.5,
        n_draws=1,
        stage_length=None,
        n_accepted=None,
        note=(1, "two"),
        events=None,
        checkpoint=None,
        estimator=None,
        image_shape=None,
        device="cpu",
        random_state=0,
        verbose=0,
    ):
        self.ipc = ipc
        self.pixel_size = pixel_size
        self.max_iter = max_iter
        self.init = init
        self.labels = labels
        self.optimizer = optimizer
        self.pixel_lr = pixel_lr
        self.average = average
        self.noise = noise
        self.n_draws = n_draws
        self.stage_length = stage_length
        self.n_accepted = n_accepted
        self.note = note
        self.events = events
        self.checkpoint = checkpoint
        self.estimator = estimator
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _make_objective(self, data, seed):
        self.objective_ = Quadratic(data, self)
        return self.objective_

    def _make_labels(self, codes, n_classes):
        if self.labels == "probabilities":
            return Probabilities(
                SGD(first_logits(codes, n_classes, torch.float32), 0.5, 1)
            )
        if self.labels == "targets":
            return Targets(SGD(one_hot(codes, n_classes, torch.float32), "auto", 1.0))
        return super()._make_labels(codes, n_classes)

    def _make_optimizer(self, images, data):
        kind = {"sgd": SGD, "adam": Adam}[self.optimizer]
        return kind(images, self.pixel_lr, data.pixel_scale)

    def _attributes(self, state):
        return {
            "offset_": float(self.objective_.offset.value),
            "learned_labels_": state.parameters.result(self.average)[1].numpy().copy(),
        }


def at(iterations, change):
    """Return events that change the evaluations of some iterations.

    ``change`` is an exception to raise, a function of the evaluation, or the loss that
    is pretended.
    """
    iterations = {iterations} if isinstance(iterations, int) else set(iterations)

    def events(draw, evaluation):
        if draw.iteration not in iterations:
            return evaluation
        if isinstance(change, BaseException):
            raise change
        return change(evaluation)

    return events


def losses(values):
    """Return events that pretend losses; gradients stay."""

    def events(draw, evaluation):
        evaluation.metrics["loss"] = torch.tensor(float(values[draw.iteration]))
        return evaluation

    return events


def broken(evaluation):
    """Return an evaluation whose gradient has one NaN."""
    gradient = evaluation.gradients["images"].clone()
    gradient[-1, -1, -1, -1] = torch.nan
    evaluation.gradients["images"] = gradient
    return evaluation


def what_is_left(distiller):
    """Return everything that a fit leaves behind, to be compared to the bit."""
    found = {
        "stop_reason": distiller.stop_reason_,
        "n_iter": distiller.n_iter_,
        "history": distiller.history_.to_csv(),
        "index": str(distiller.history_.index),
        "offset": distiller.offset_,
        "labels": distiller.learned_labels_.tolist(),
        "best_iteration": distiller.best_iteration_,
    }
    for name in ("synthetic_", "best_synthetic_"):
        synthetic = getattr(distiller, name)
        found[name] = {
            "X": synthetic.X.tolist(),
            "y": synthetic.y.tolist(),
            "step_size": synthetic.step_size,
            "probabilities": np.asarray(synthetic.probabilities).tolist(),
            "targets": np.asarray(synthetic.targets).tolist(),
        }
    return found
