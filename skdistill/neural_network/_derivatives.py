"""The ConvNet's loss gradient and the derivative of that gradient, written out.

Trajectory matching differentiates through gradient descent.  For every step of the
student it needs, with l the cross-entropy on the synthetic images X and v a direction
in parameter space,

    g = dl/dtheta,    and then    <v, g>,  d<v, g>/dX  and  d<v, g>/dtheta.

The last two are the derivatives along v of dl/dX and of dl/dtheta, because second
derivatives commute (Pearlmutter's R operator).  One pass forth and one back with pairs
(value, derivative along v) give all three.  Against automatic differentiation done
twice that saves a third of the memory traffic, needs no graph, and lets images be
processed in micro-batches that stay in the processor's cache, each by a thread.

Maps are stored channels last, (n, height, width, channels): the layout that
convolutions are fastest in, and in which the normalization's factors, one per image
and channel, multiply contiguous numbers.

References
----------
Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6, 1994.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skdistill.neural_network._block_derivatives import (
    Head,
    Layer,
    Tape,
    curvature_of_part,
    flatten_parts,
    gradient_of_part,
)
from skdistill.neural_network._compile import (  # noqa: F401 - for distillers
    Compiled,
    pays_to_compile,
)
from skdistill.neural_network._convnet import ConvNet, n_parameters
from skdistill.neural_network._convolution import Convolution, Direct, Winograd
from skdistill.neural_network._feature_derivatives import (
    Features,
    FeatureTape,
    check_adjoints,
    check_places,
    features_of_part,
    join_features,
    mean_of_part,
    pull_back_of_part,
)
from skdistill.neural_network._micro_batches import micro_batches
from skdistill.utils._workers import map_pieces, n_threads

LOSSES = ("cross_entropy", "squared")

# Where only features are wanted, the largest feature map of what a GPU is given at
# once has at most so many bytes.
_MAX_GPU_BYTES = 2**30


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


class ConvNetDerivatives:
    """First and second derivatives of the mean loss of a ConvNet.

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
        if any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
            raise ValueError(
                "batch normalization makes the features of an image depend on the "
                "other images of its batch; `normalization` must be 'instance', "
                "'layer', 'group' or 'none'"
            )
        if loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {LOSSES}; got {loss!r}")
        self._blocks = module.blocks
        self.n_blocks = len(module.blocks)
        self.n_features = module.classifier.in_features
        self.n_classes = module.classifier.out_features
        self._shapes = [parameter.shape for parameter in module.parameters()]
        self._sizes = [parameter.numel() for parameter in module.parameters()]
        self.n_parameters = n_parameters(module)
        self._compile = compile
        self._loss = loss
        self._forth: Callable[..., Any] = gradient_of_part
        self._back: Callable[..., Any] = curvature_of_part
        if compile:
            self._forth = Compiled(gradient_of_part)
            self._back = Compiled(curvature_of_part)

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
            parts, tape = self._forth(
                self._blocks,
                convolutions,
                layers,
                head,
                _channels_last(images[part]),
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
            Without it, that is computed anew.
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
                _, tape = self._forth(
                    self._blocks,
                    convolutions,
                    layers,
                    head,
                    _channels_last(images[part]),
                    targets[part],
                    None if weights is None else weights[part],
                    len(images),
                    self._loss,
                    False,
                )
            else:
                tape = tapes[place]
            found = self._back(
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

    @torch.no_grad()
    def features(
        self,
        parameters: Tensor,
        images: Tensor,
        *,
        blocks: Sequence[int] = (),
        activations: Sequence[int] = (),
        tapes: list[FeatureTape] | None = None,
    ) -> Features:
        """Return what the network makes of images.

        Parameters
        ----------
        parameters : Tensor of shape (n_parameters,)
        images : Tensor of shape (n_samples, channels, height, width)
        blocks : sequence of int, default=()
            The blocks, from 0, whose outputs are wanted beside embedding and logits.
        activations : sequence of int, default=()
            Those whose activations before pooling are wanted.
        tapes : list of FeatureTape, default=None
            Is appended what :meth:`pull_back` needs at the same place.

        Returns
        -------
        Features

        See Also
        --------
        mean_features : Their means over classes, in less memory.
        """
        check_places(self.n_blocks, blocks=blocks, activations=activations)
        convolutions = self._convolutions(images.device)
        layers, head = self._split(parameters, convolutions)

        def compute(part: slice) -> tuple[Features, FeatureTape | None]:
            return features_of_part(
                self._blocks,
                convolutions,
                layers,
                head,
                _channels_last(images[part]),
                blocks,
                activations,
                keep=tapes is not None,
            )

        found = map_pieces(compute, self._micro_batches(images))
        if tapes is not None:
            tapes.extend(tape for _, tape in found if tape is not None)
        return join_features([features for features, _ in found])

    @torch.no_grad()
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
        """Return weighted sums of features over classes; no feature map is kept.

        Parameters
        ----------
        parameters : Tensor of shape (n_parameters,)
        images : Tensor of shape (n_samples, channels, height, width)
        codes : Tensor of shape (n_samples,), int64
            The class of each image, below ``n_groups``.  Fastest where the images of
            a class follow each other.
        weights : Tensor of shape (n_samples,)
            Of each image in the sum of its class: where they sum to 1 in each class,
            the sums are means.
        n_groups : int, default=None
            Number of classes, ``n_classes`` by default.  Sums of those without images
            are 0.
        blocks, activations : sequence of int, default=()
            As for :meth:`features`.

        Returns
        -------
        Features
            With a row for each class.
        """
        check_places(self.n_blocks, blocks=blocks, activations=activations)
        n_groups = self.n_classes if n_groups is None else n_groups
        convolutions = self._convolutions(images.device)
        layers, head = self._split(parameters, convolutions)

        def compute(part: slice) -> tuple[Tensor, Features]:
            found, _ = features_of_part(
                self._blocks,
                convolutions,
                layers,
                head,
                _channels_last(images[part]),
                blocks,
                activations,
                keep=False,
            )
            return mean_of_part(found, codes[part], weights[part])

        parts = self._micro_batches(images)
        if images.device.type != "cpu":
            n_at_once = max(1, _MAX_GPU_BYTES // self._largest_map(images))
            parts = [
                slice(first, first + n_at_once)
                for first in range(0, len(images), n_at_once)
            ]
        total: Features | None = None
        # A few at a time: their sums can be larger than the maps of their images.
        n_parts = 2 * n_threads()
        for first in range(0, len(parts), n_parts):
            for present, found in map_pieces(compute, parts[first : first + n_parts]):
                if total is None:
                    total = found.map(
                        lambda rows: rows.new_zeros(n_groups, *rows.shape[1:])
                    )
                for rows, more in zip(total.tensors(), found.tensors(), strict=True):
                    rows[present] += more
        assert total is not None
        return total

    @torch.no_grad()
    def pull_back(
        self,
        parameters: Tensor,
        images: Tensor,
        adjoints: Features,
        *,
        tapes: list[FeatureTape] | None = None,
    ) -> Tensor:
        """Return the gradient of <adjoints, features> with respect to the images.

        Parameters
        ----------
        parameters : Tensor of shape (n_parameters,)
        images : Tensor of shape (n_samples, channels, height, width)
        adjoints : Features
            The derivative of something by the features of each image, of the same
            shapes.  What is not there counts as 0.
        tapes : list of FeatureTape, default=None
            What :meth:`features` kept at the same parameters and images.  Without it,
            that is computed anew.

        Returns
        -------
        gradient : Tensor of shape (n_samples, channels, height, width)
        """
        check_adjoints(adjoints, len(images), self.n_blocks)
        convolutions = self._convolutions(images.device)
        layers, head = self._split(parameters, convolutions)
        by_images = torch.empty_like(images)
        parts = self._micro_batches(images)

        def differentiate(place: int) -> None:
            part = parts[place]
            if tapes is None:
                _, tape = features_of_part(
                    self._blocks,
                    convolutions,
                    layers,
                    head,
                    _channels_last(images[part]),
                    keep=True,
                )
            else:
                tape = tapes[place]
            found = pull_back_of_part(
                self._blocks, convolutions, layers, head, tape, adjoints.rows(part)
            )
            by_images[part] = found.permute(0, 3, 1, 2)

        map_pieces(differentiate, range(len(parts)))
        return by_images

    def feature_tape_bytes(
        self, n_samples: int, dtype: torch.dtype = torch.float32
    ) -> int:
        """Count the bytes that :meth:`features` keeps for ``n_samples`` images."""
        numbers = 0
        for block in self._blocks:
            full = block.height * block.width * block.out_channels
            pooled = full // (block.height * block.width)
            pooled *= block.height // block.pool[0] * (block.width // block.pool[1])
            is_pooled = block.pool != (1, 1)
            numbers += full  # the mask
            if block.normalized:
                # Scores, pooled scores, and the pooled mask.
                numbers += full + pooled + (pooled if is_pooled else 0)
            elif block.max_pooled and is_pooled:
                numbers += full
        return n_samples * numbers * dtype.itemsize

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

    def _micro_batches(self, images: Tensor) -> list[slice]:
        return micro_batches(len(images), self._largest_map(images), images.device)

    def _largest_map(self, images: Tensor) -> int:
        """Return the bytes of the largest feature map of one image."""
        largest = max(
            block.height * block.width * block.out_channels for block in self._blocks
        )
        return largest * images.element_size()

    def _convolutions(self, device: torch.device) -> list[Convolution]:
        """Choose how each block convolves; a GPU's library chooses by itself."""
        return [
            Winograd(block.height, block.width)
            if device.type == "cpu"
            and not self._compile
            and Winograd.pays(
                block.height, block.width, block.in_channels, block.out_channels
            )
            else Direct()
            for block in self._blocks
        ]

    def _split(
        self, parameters: Tensor, convolutions: list[Convolution]
    ) -> tuple[list[Layer], Head]:
        parts = parameters.split(self._sizes)
        views = iter(
            part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)
        )
        layers = []
        for block, convolution in zip(self._blocks, convolutions, strict=True):
            kernel = convolution.kernel(next(views))
            bias = next(views)
            empty = parameters.new_empty(0)
            norm = (next(views), next(views)) if block.normalized else (empty, empty)
            layers.append(Layer(kernel, bias, *norm))
        return layers, Head(next(views), next(views))


def _channels_last(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).contiguous()
