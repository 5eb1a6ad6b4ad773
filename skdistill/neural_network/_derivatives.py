"""The ConvNet's loss gradient and the derivative of that gradient, written out.

Trajectory matching differentiates through gradient descent.  For every step of the
student it needs, with l the cross-entropy on the synthetic images X and v a direction
in parameter space,

    g = dl/dtheta,    and then    <v, g>,  d<v, g>/dX  and  d<v, g>/dtheta.

The last two are the derivatives along v of dl/dX and of dl/dtheta, because second
derivatives commute (Pearlmutter's R operator).  One forward and one backward pass with
pairs (value, derivative along v) give all three.  Against automatic differentiation
done twice that saves a third of the memory traffic, needs no graph, and lets images be
processed in micro-batches that stay in the processor's cache, each by a thread.

Maps are stored channels last, (n, height, width, channels): the layout that
convolutions are fastest in, and in which the normalization's factors, one per image
and channel, multiply contiguous numbers.

References
----------
Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6, 1994.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skdistill.neural_network._block_derivatives import (
    Tape,
    curvature_of_part,
    flatten_parts,
    gradient_of_part,
)
from skdistill.neural_network._compile import Compiled
from skdistill.neural_network._convnet import ConvNet
from skdistill.neural_network._convnet_features import ConvNetFeatures, channels_last
from skdistill.neural_network._losses import LOSSES
from skdistill.utils._workers import map_pieces


class Curvature(NamedTuple):
    """A gradient along a direction v, and the derivatives of that number.

    Attributes
    ----------
    product : Tensor, scalar
        <v, g>.
    images : Tensor of shape (n_samples, channels, height, width)
    targets : Tensor of shape (n_samples, n_classes)
    parameters : Tensor of shape (n_parameters,)
        Empty where it was not asked for.
    """

    product: Tensor
    images: Tensor
    targets: Tensor
    parameters: Tensor


class ConvNetDerivatives(ConvNetFeatures):
    """First and second derivatives of the mean loss of a ConvNet, and its features.

    Parameters
    ----------
    module : ConvNet
        Only its structure is used.  Batch normalization is refused.
    compile : bool, default=False
        Whether to compile the functions of a micro-batch; the values are the same
        but for rounding.  Features are never compiled.
    loss : {"cross_entropy", "squared"}, default="cross_entropy"
        Of an image: the cross-entropy of its targets, or half the squared distance of
        logits and targets.

    Attributes
    ----------
    n_parameters : int
        Length of the flat vector of parameters.
    n_blocks, n_features, n_classes : int
        Number of blocks, length of an embedding, and of the logits of an image.

    Raises
    ------
    ValueError
        If the network normalizes over batches, or the loss is another.
    """

    def __init__(
        self, module: ConvNet, *, compile: bool = False, loss: str = "cross_entropy"
    ) -> None:
        if loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {LOSSES}; got {loss!r}")
        super().__init__(module, direct=compile)
        self._loss = loss
        self._forward: Callable[..., Any] = gradient_of_part
        self._backward: Callable[..., Any] = curvature_of_part
        if compile:
            self._forward = Compiled(gradient_of_part)
            self._backward = Compiled(curvature_of_part)

    @torch.no_grad()
    def gradient(
        self,
        parameters: Tensor,
        images: Tensor,
        targets: Tensor,
        *,
        weights: Tensor | None = None,
        tapes: list[Tape] | None = None,
        logits: list[Tensor] | None = None,
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
        tapes : list of Tape, default=None
            Is appended what :meth:`curvature` needs at the same place.
        logits : list of Tensor, default=None
            Is appended the logits of the images, a micro-batch after the other.

        Returns
        -------
        gradient : Tensor of shape (n_parameters,)
        """
        convolutions = self._convolutions(images.device)
        layers, head = self._split(parameters, convolutions)

        def differentiate(part: slice) -> tuple[Tensor, Tensor, Tape | None]:
            parts, tape = self._forward(
                self._blocks,
                convolutions,
                layers,
                head,
                channels_last(images[part]),
                targets[part],
                None if weights is None else weights[part],
                len(images),
                self._loss,
                True,
            )
            # The tape is most of the memory: dropped at once where nobody wants it.
            return flatten_parts(parts), tape.logits, None if tapes is None else tape

        total = torch.zeros_like(parameters)
        for found, of_part, tape in map_pieces(
            differentiate, self._micro_batches(images)
        ):
            total += found
            if tapes is not None and tape is not None:
                tapes.append(tape)
            if logits is not None:
                logits.append(of_part)
        return total

    @torch.no_grad()
    def curvature(
        self,
        parameters: Tensor,
        direction: Tensor,
        images: Tensor,
        targets: Tensor,
        *,
        weights: Tensor | None = None,
        tapes: list[Tape] | None = None,
        with_parameters: bool = True,
    ) -> Curvature:
        """Return <v, g> and its derivatives, g being the gradient of the loss.

        Parameters
        ----------
        parameters, direction : Tensor of shape (n_parameters,)
        images, targets, weights : Tensor
            As for :meth:`gradient`.
        tapes : list of Tape, default=None
            What :meth:`gradient` kept at the same parameters, images and targets.
            Without it, that is computed again.
        with_parameters : bool, default=True
            Whether the derivative with respect to the parameters is wanted; without
            it the others, which are bitwise the same, take less time.

        Returns
        -------
        Curvature
        """
        convolutions = self._convolutions(images.device)
        layers, head = self._split(parameters, convolutions)
        directions = self._split(direction, convolutions)
        by_images, by_targets = torch.empty_like(images), torch.empty_like(targets)
        parts = self._micro_batches(images)

        def differentiate(place: int) -> tuple[Tensor, Tensor]:
            part = parts[place]
            if tapes is None:
                _, tape = self._forward(
                    self._blocks,
                    convolutions,
                    layers,
                    head,
                    channels_last(images[part]),
                    targets[part],
                    None if weights is None else weights[part],
                    len(images),
                    self._loss,
                    False,
                )
            else:
                tape = tapes[place]
            found = self._backward(
                self._blocks,
                convolutions,
                layers,
                head,
                *directions,
                tape,
                targets[part],
                None if weights is None else weights[part],
                len(images),
                self._loss,
                with_parameters,
            )
            by_images[part] = found[1].permute(0, 3, 1, 2)
            by_targets[part] = found[2]
            if not with_parameters:
                return found[0], parameters.new_empty(0)
            return found[0], flatten_parts(found[3])

        product = parameters.new_zeros(())
        total = parameters.new_zeros(self.n_parameters if with_parameters else 0)
        for by_direction, by_parameters in map_pieces(differentiate, range(len(parts))):
            product += by_direction
            total += by_parameters
        return Curvature(product, by_images, by_targets, total)

    def tape_bytes(self, n_samples: int, dtype: torch.dtype = torch.float32) -> int:
        """Count the bytes that :meth:`gradient` keeps for ``n_samples`` images."""
        numbers = 0
        owns_inputs = True
        for block in self._blocks:
            full = block.height * block.width
            rows, columns = block.pool
            pooled = (block.height // rows) * (block.width // columns)
            if owns_inputs:
                numbers += full * block.in_channels
            # Scores and mask, then pooled scores and gradient, then the pooled mask.
            numbers += 2 * full * block.out_channels
            numbers += 2 * pooled * block.out_channels
            if block.pool != (1, 1):
                numbers += pooled * block.out_channels
            # Without normalization the pooled scores are what comes out.
            owns_inputs = block.normalized
        numbers += pooled * block.out_channels  # the features
        return n_samples * numbers * dtype.itemsize
