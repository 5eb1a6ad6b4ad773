"""First and second derivatives of any torch module, as those of the ConvNet.

Trajectory matching, learning through training and gradient matching need, of one step
of training at a time, the gradient g of the loss and the derivatives of <v, g>.  Here
automatic differentiation finds them, with a graph of one step that is dropped with it:
memory does not grow with the number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from skdistill.neural_network._convnet import flatten_learned
from skdistill.neural_network._derivatives import LOSSES, ConvNetDerivatives, Curvature
from skdistill.neural_network._module_features import ModuleFeatures, _parts
from skdistill.utils._memory import is_out_of_memory
from skdistill.utils._random import child_seed


class ModuleTape(NamedTuple):
    """The graph of one gradient, from its arguments on."""

    parameters: Tensor
    images: Tensor
    targets: Tensor
    gradient: Tensor


class ModuleDerivatives(ModuleFeatures):
    """First and second derivatives of the mean loss of a module, and its features.

    Parameters
    ----------
    module : torch.nn.Module
    images : Tensor of shape (n_samples, channels, height, width)
        As for :class:`ModuleFeatures`, whose attributes it has.
    loss : {"cross_entropy", "squared"}, default="cross_entropy"
        Of an image: the cross-entropy of its targets, or half the squared distance of
        logits and targets.

    Raises
    ------
    ValueError
        If the module normalizes over batches, or changes its buffers in training.
    """

    def __init__(
        self, module: nn.Module, images: Tensor, *, loss: str = "cross_entropy"
    ) -> None:
        if loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {LOSSES}; got {loss!r}")
        super().__init__(module, images)
        self._loss = loss
        self._tried = images[:2]

    def _summed_loss(
        self, logits: Tensor, targets: Tensor, weights: Tensor | None
    ) -> Tensor:
        if self._loss == "squared":
            losses = 0.5 * (logits - targets).square().sum(1)
        else:
            losses = -(targets * F.log_softmax(logits, dim=1)).sum(1)
        if weights is not None:
            losses = losses * weights
        return losses.sum()

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
        training: bool = True,
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
        training : bool, default=True
            Whether the module is in training; else nothing is drawn.

        Returns
        -------
        gradient : Tensor of shape (n_parameters,)
        """
        gradient: Tensor | None = None
        for number, part in enumerate(_parts(len(images))):
            tape, found = self._differentiate(
                parameters,
                images[part],
                targets[part],
                None if weights is None else weights[part],
                _seed_of(seed, number),
                len(images),
                keep=tapes is not None,
                training=training,
            )
            own = tape.gradient.detach()
            gradient = own if gradient is None else gradient + own
            if tapes is not None:
                tapes.append(tape)
            if logits is not None:
                logits.append(found)
        assert gradient is not None
        return gradient

    def _differentiate(
        self,
        parameters: Tensor,
        images: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        seed: int,
        n_images: int,
        *,
        keep: bool,
        training: bool = True,
    ) -> tuple[ModuleTape, Tensor]:
        """Differentiate what some of the images add to the mean loss of all."""
        with torch.enable_grad():
            parameters = parameters.detach().requires_grad_()
            images = images.detach().requires_grad_(keep)
            targets = targets.detach().requires_grad_(keep)
            logits = self._logits(parameters, images, training=training, seed=seed)
            loss = self._summed_loss(logits, targets, weights) / n_images
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
        found = []
        for number, part in enumerate(_parts(len(images))):
            if tapes is None:
                tape, _ = self._differentiate(
                    parameters,
                    images[part],
                    targets[part],
                    None if weights is None else weights[part],
                    _seed_of(seed, number),
                    len(images),
                    keep=True,
                )
            else:
                tape = tapes[number]
            found.append(_curvature_of_part(tape, direction, with_parameters))
            # Its graph goes before that of the next is made.
            del tape
        if len(found) == 1:
            return found[0]
        products, by_images, by_targets, by_parameters = zip(*found, strict=True)
        return Curvature(
            torch.stack(products).sum(),
            torch.cat(by_images),
            torch.cat(by_targets),
            torch.stack(by_parameters).sum(0),
        )

    def check_second(self) -> None:
        """Raise a ValueError unless :meth:`curvature` has all of its derivatives.

        Where a function of a module is differentiable once only, PyTorch says so only
        to those who differentiate with respect to everything; others get a wrong
        result.
        """
        images = self._tried
        parameters = flatten_learned(self._module).to(images)
        targets = images.new_full((len(images), self.n_classes), 1 / self.n_classes)
        try:
            with sdpa_kernel(SDPBackend.MATH):
                tape, _ = self._differentiate(
                    parameters, images, targets, None, 0, len(images), keep=True
                )
                if tape.gradient.requires_grad:
                    tape.gradient.sum().backward()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise ValueError(
                "`architecture` must be twice differentiable for this method; its "
                f"module raised {type(error).__name__}: {error}"
            ) from error

    def tape_bytes(self, n_samples: int, dtype: torch.dtype = torch.float32) -> int:
        """Return so much that a graph is never kept: nobody knows how large it is."""
        return 2**62


def _seed_of(seed: int, number: int) -> int:
    """Return what the draws of a part of the images follow from."""
    return child_seed(seed, number) if number else seed


def _curvature_of_part(
    tape: ModuleTape, direction: Tensor, with_parameters: bool
) -> Curvature:
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
        by_parameters[0] if by_parameters else direction.new_empty(0),
    )


# What distillers work with, for any network.
Derivatives = ConvNetDerivatives | ModuleDerivatives


def check_second_derivatives(network: Derivatives) -> None:
    """Raise a ValueError if a network cannot be differentiated twice."""
    if isinstance(network, ModuleDerivatives):
        network.check_second()


def with_embedding(network: Derivatives) -> Derivatives:
    """Return a network, or raise a ValueError if it has no embedding."""
    if not network.n_features:
        raise ValueError(
            "`architecture` must end with a torch.nn.Linear layer: its inputs, one "
            "row per image, are the features that are matched"
        )
    return network
