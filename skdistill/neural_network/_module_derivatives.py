"""First and second derivatives of any torch module, as those of the ConvNet.

Trajectory matching, learning through training and gradient matching need, of one step
of training at a time, the gradient g of the loss and the derivatives of <v, g>.  Here
automatic differentiation finds them, with a graph of one step that is dropped with it:
memory does not grow with the number of steps.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from skdistill.neural_network._convnet import flatten_learned
from skdistill.neural_network._derivatives import LOSSES, ConvNetDerivatives, Curvature
from skdistill.neural_network._feature_derivatives import (
    Features,
    mean_of_part,
)
from skdistill.utils._random import isolated_torch_seed

# Real images whose features are wanted go through the network so many at a time.
_BATCH = 256


class ModuleTape(NamedTuple):
    """The graph of one gradient, from its arguments on."""

    parameters: Tensor
    images: Tensor
    targets: Tensor
    gradient: Tensor


class ModuleDerivatives:
    """First and second derivatives of the mean loss of a module, and its features.

    Parameters
    ----------
    module : torch.nn.Module
        From images (n_samples, channels, height, width) to logits (n_samples,
        n_classes).  It is copied; its parameters are used where it has no others, its
        buffers always.
    images : Tensor of shape (n_samples, channels, height, width)
        Two or more, of any kind: on them the module is tried.
    loss : {"cross_entropy", "squared"}, default="cross_entropy"
        Of an image: the cross-entropy of its targets, or half the squared distance of
        logits and targets.

    Attributes
    ----------
    n_parameters : int
        Length of the flat vector of parameters, in the order of
        ``module.parameters()``.  Those that need no gradient are among them, and have
        one of 0.
    is_trained : Tensor of shape (n_parameters,), bool
        Whether each of them needs a gradient.
    n_features, n_classes : int
        Length of an embedding, which is what the last linear layer sees, and of the
        logits of an image.  Without a linear layer there is no embedding, and the
        first is 0.
    n_blocks : int
        0: blocks are those of a ConvNet.
    is_random : bool
        Whether training draws something, as dropout does.

    Raises
    ------
    ValueError
        If the module normalizes over batches, or changes its buffers in training.
    """

    n_blocks = 0

    def __init__(
        self, module: nn.Module, images: Tensor, *, loss: str = "cross_entropy"
    ) -> None:
        if loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {LOSSES}; got {loss!r}")
        check_images_are_singly(module)
        self._module = copy.deepcopy(module).to(images.device)
        self._names = [name for name, _ in self._module.named_parameters()]
        self._trained = [each.requires_grad for each in self._module.parameters()]
        self.is_trained = torch.cat(
            [
                torch.full((each.numel(),), each.requires_grad)
                for each in self._module.parameters()
            ]
        ).to(images.device)
        self._shapes = [each.shape for each in self._module.parameters()]
        self._sizes = [each.numel() for each in self._module.parameters()]
        self.n_parameters = sum(self._sizes)
        self._loss = loss
        layers = [
            name for name, part in self._module.named_modules() if _is_linear(part)
        ]
        self._last_name = layers[-1] if layers else None
        self._of_thread = threading.local()
        # Until it is known, it is taken for granted.
        self.is_random = True
        start = flatten_learned(self._module).to(images)
        found = self.features(start, images[:2])
        assert found.logits is not None
        self.n_classes = found.logits.shape[1]
        self.n_features = 0
        if found.embedding is not None:
            self.n_features = found.embedding.shape[1]
        with torch.no_grad():
            one, other = (
                self._logits(start, images[:2], training=True, seed=seed)
                for seed in (0, 1)
            )
        self.is_random = not torch.equal(one, other)
        self._check_buffers()

    def _check_buffers(self) -> None:
        """Raise a ValueError if training has changed anything but parameters."""
        trained = dict(self._copies()[0].named_buffers())
        for name, buffer in self._module.named_buffers():
            if not torch.equal(buffer, trained[name]):
                raise ValueError(
                    f"`architecture` changes its buffer {name!r} in training, and what "
                    "it computes would depend on more than its parameters and the "
                    "images; leave out running statistics, spectral normalization and "
                    "the like"
                )

    # The module as a function.

    def _split(self, parameters: Tensor) -> dict[str, Tensor]:
        # Behind the parameters there may be the buffers of the module.
        parts = parameters[: self.n_parameters].split(self._sizes)
        return {
            name: (part if trained else part.detach()).view(shape)
            for name, part, shape, trained in zip(
                self._names, parts, self._shapes, self._trained, strict=True
            )
        }

    def _copies(self) -> tuple[nn.Module, nn.Module, list[Tensor]]:
        """Return this thread's copies, one in training, and what a last layer sees.

        A call with other parameters sets them for its time: no two threads may make
        one with the same module.
        """
        own = self._of_thread
        if not hasattr(own, "copies"):
            trained, resting = (copy.deepcopy(self._module) for _ in range(2))
            seen: list[Tensor] = []

            def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                seen.append(inputs[0])

            if self._last_name is not None:
                layer = resting.get_submodule(self._last_name)
                layer.register_forward_pre_hook(note)
            own.copies = trained.train(), resting.eval(), seen
        return own.copies

    def _logits(
        self, parameters: Tensor, images: Tensor, *, training: bool, seed: int = 0
    ) -> Tensor:
        trained, resting, _ = self._copies()
        module = trained if training else resting
        with (
            # Threads wait for each other where a module draws: PyTorch has one
            # generator.
            isolated_torch_seed(seed) if training and self.is_random else nullcontext(),
            # The faster kernels of attention have no second derivative.
            sdpa_kernel(SDPBackend.MATH),
        ):
            return functional_call(module, self._split(parameters), (images,))

    def _mean_loss(
        self, logits: Tensor, targets: Tensor, weights: Tensor | None
    ) -> Tensor:
        if self._loss == "squared":
            losses = 0.5 * (logits - targets).square().sum(1)
        else:
            losses = -(targets * F.log_softmax(logits, dim=1)).sum(1)
        if weights is not None:
            losses = losses * weights
        return losses.sum() / len(logits)

    # Derivatives by the parameters.

    def gradient(
        self,
        parameters: Tensor,
        images: Tensor,
        targets: Tensor,
        *,
        weights: Tensor | None = None,
        tapes: list[ModuleTape] | None = None,
        logits: list[Tensor] | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Return the gradient of the loss with respect to the parameters.

        Parameters
        ----------
        parameters : Tensor of shape (n_parameters,)
        images : Tensor of shape (n_samples, channels, height, width)
        targets : Tensor of shape (n_samples, n_classes)
            The probability, or weight, of each class for each image; for the squared
            loss what the logits shall be.
        weights : Tensor of shape (n_samples,), default=None
            What the loss of each image is multiplied by before the mean over all of
            them; 1 by default.
        tapes : list of ModuleTape, default=None
            Is appended what :meth:`curvature` needs at the same place.
        logits : list of Tensor, default=None
            Is appended the logits of the images.
        seed : int, default=0
            Decides on what the module draws, as dropout does.

        Returns
        -------
        gradient : Tensor of shape (n_parameters,)
        """
        keep = tapes is not None
        tape, found = self._differentiate(
            parameters, images, targets, weights, seed, keep=keep
        )
        if tapes is not None:
            tapes.append(tape)
        if logits is not None:
            logits.append(found)
        return tape.gradient.detach()

    def _differentiate(
        self,
        parameters: Tensor,
        images: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        seed: int,
        *,
        keep: bool,
    ) -> tuple[ModuleTape, Tensor]:
        with torch.enable_grad():
            parameters = parameters.detach().requires_grad_()
            images = images.detach().requires_grad_(keep)
            targets = targets.detach().requires_grad_(keep)
            logits = self._logits(parameters, images, training=True, seed=seed)
            loss = self._mean_loss(logits, targets, weights)
            (gradient,) = torch.autograd.grad(loss, parameters, create_graph=keep)
        return ModuleTape(parameters, images, targets, gradient), logits.detach()

    def curvature(
        self,
        parameters: Tensor,
        direction: Tensor,
        images: Tensor,
        targets: Tensor,
        *,
        weights: Tensor | None = None,
        tapes: list[ModuleTape] | None = None,
        with_parameters: bool = True,
        seed: int = 0,
    ) -> Curvature:
        """Return <v, g> and its derivatives, g being the gradient of the loss.

        Parameters
        ----------
        parameters, direction : Tensor of shape (n_parameters,)
        images, targets, weights : Tensor
            As for :meth:`gradient`.
        tapes : list of ModuleTape, default=None
            What :meth:`gradient` kept at the same parameters, images and targets.
            Without it, that is computed again.
        with_parameters : bool, default=True
            Whether the derivative with respect to the parameters is wanted.
        seed : int, default=0
            As for :meth:`gradient`.

        Returns
        -------
        Curvature
        """
        if tapes is None:
            tape, _ = self._differentiate(
                parameters, images, targets, weights, seed, keep=True
            )
        else:
            (tape,) = tapes
        wanted = [tape.images, tape.targets]
        if with_parameters:
            wanted.append(tape.parameters)
        with torch.enable_grad():
            product = direction.detach() @ tape.gradient
        found: Sequence[Tensor | None] = [None] * len(wanted)
        if product.requires_grad:
            found = torch.autograd.grad(product, wanted, allow_unused=True)
        by_images, by_targets, *by_parameters = [
            torch.zeros_like(like) if each is None else each.detach()
            for each, like in zip(found, wanted, strict=True)
        ]
        return Curvature(
            product.detach(),
            by_images,
            by_targets,
            by_parameters[0] if by_parameters else parameters.new_empty(0),
        )

    def tape_bytes(self, n_samples: int, dtype: torch.dtype = torch.float32) -> int:
        """Return so much that a graph is never kept: nobody knows how large it is."""
        return 2**62

    # Features.

    def features(
        self,
        parameters: Tensor,
        images: Tensor,
        *,
        blocks: Sequence[int] = (),
        activations: Sequence[int] = (),
        tapes: list[tuple[Tensor, Features]] | None = None,
    ) -> Features:
        """Return what the network makes of images when it is not in training.

        Parameters
        ----------
        parameters : Tensor of shape (n_parameters,)
        images : Tensor of shape (n_samples, channels, height, width)
        blocks, activations : sequence of int, default=()
            Must be empty: only a ConvNet has blocks.
        tapes : list, default=None
            Is appended what :meth:`pull_back` needs at the same place.

        Returns
        -------
        Features
        """
        _refuse_blocks(blocks, activations)
        if tapes is None:
            with torch.no_grad():
                return self._features(parameters, images)
        with torch.enable_grad():
            leaf = images.detach().requires_grad_()
            found = self._features(parameters.detach(), leaf)
        tapes.append((leaf, found))
        return found.map(lambda tensor: tensor.detach())

    def _features(self, parameters: Tensor, images: Tensor) -> Features:
        logits = self._logits(parameters, images, training=False)
        seen = self._copies()[2]
        embedding = seen[-1].flatten(1) if seen else None
        seen.clear()
        return Features(embedding=embedding, logits=logits)

    def mean_features(
        self,
        parameters: Tensor,
        images: Tensor,
        codes: Tensor,
        weights: Tensor,
        *,
        n_groups: int | None = None,
        blocks: Sequence[int] = (),
        activations: Sequence[int] = (),
    ) -> Features:
        """Return weighted sums of features over classes; none of an image is kept.

        Parameters
        ----------
        parameters : Tensor of shape (n_parameters,)
        images : Tensor of shape (n_samples, channels, height, width)
        codes : Tensor of shape (n_samples,), int64
            The class of each image, below ``n_groups``.
        weights : Tensor of shape (n_samples,)
            Of each image in the sum of its class.
        n_groups : int, default=None
            Number of classes, ``n_classes`` by default.
        blocks, activations : sequence of int, default=()
            Must be empty.

        Returns
        -------
        Features
            With a row for each class.
        """
        _refuse_blocks(blocks, activations)
        n_groups = self.n_classes if n_groups is None else n_groups
        total: Features | None = None
        for first in range(0, len(images), _BATCH):
            part = slice(first, first + _BATCH)
            present, found = mean_of_part(
                self.features(parameters, images[part]), codes[part], weights[part]
            )
            if total is None:
                total = found.map(
                    lambda rows: rows.new_zeros(n_groups, *rows.shape[1:])
                )
            for rows, more in zip(total.tensors(), found.tensors(), strict=True):
                rows[present] += more
        assert total is not None
        return total

    def pull_back(
        self,
        parameters: Tensor,
        images: Tensor,
        adjoints: Features,
        *,
        tapes: list[tuple[Tensor, Features]] | None = None,
    ) -> Tensor:
        """Return the gradient of <adjoints, features> with respect to the images.

        Parameters
        ----------
        parameters : Tensor of shape (n_parameters,)
        images : Tensor of shape (n_samples, channels, height, width)
        adjoints : Features
            The derivative of something by the features of each image.
        tapes : list, default=None
            What :meth:`features` kept at the same parameters and images.

        Returns
        -------
        gradient : Tensor of shape (n_samples, channels, height, width)
        """
        _refuse_blocks(list(adjoints.blocks), list(adjoints.activations))
        if tapes is None:
            tapes = []
            self.features(parameters, images, tapes=tapes)
        ((leaf, found),) = tapes
        pairs = [
            (output, adjoint)
            for output, adjoint in (
                (found.embedding, adjoints.embedding),
                (found.logits, adjoints.logits),
            )
            if output is not None and adjoint is not None
        ]
        for output, adjoint in pairs:
            if output.shape != adjoint.shape:
                raise ValueError(
                    "`adjoints` must have the shapes of the features, here "
                    f"{tuple(output.shape)}; got {tuple(adjoint.shape)}"
                )
        outputs, weights = zip(*pairs, strict=True)
        (by_images,) = torch.autograd.grad(outputs, leaf, weights, retain_graph=True)
        return by_images

    def feature_tape_bytes(
        self, n_samples: int, dtype: torch.dtype = torch.float32
    ) -> int:
        """Return so much that a graph is never kept: nobody knows how large it is."""
        return 2**62


# What distillers work with, whatever the network.
Derivatives = ConvNetDerivatives | ModuleDerivatives


def with_embedding(network: Derivatives) -> Derivatives:
    """Return a network, or raise a ValueError if it has no embedding."""
    if not network.n_features:
        raise ValueError(
            "`architecture` must have a torch.nn.Linear layer at its end: what that "
            "sees of images are the features that are matched"
        )
    return network


def check_images_are_singly(module: nn.Module) -> None:
    """Raise a ValueError where a module normalizes over batches.

    Its loss is then no mean of losses of single images, and what it gives for one
    depends on the others.
    """
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm):
            raise ValueError(
                f"`architecture` has batch normalization ({type(part).__name__} "
                f"{name!r}), which makes what a network says of an image depend on the "
                "others of its batch; use group, layer or instance normalization "
                "instead, as with `normalization` of NetworkClassifier or `norm_layer` "
                "of torchvision's networks"
            )


def _is_linear(part: nn.Module) -> bool:
    return isinstance(part, nn.Linear)


def _refuse_blocks(blocks: Sequence[int], activations: Sequence[int]) -> None:
    if len(blocks) or len(activations):
        raise ValueError("only a ConvNet has `blocks` and their `activations`")
