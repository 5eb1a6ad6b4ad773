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
convolutions are fastest in, and in which the normalisation's factors, one per image
and channel, multiply contiguous numbers.

References
----------
Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6, 1994.
"""

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from skdistill.neural_network._convnet import EPSILON, Block, ConvNet, n_parameters
from skdistill.neural_network._convolution import Convolution, Direct, Winograd
from skdistill.neural_network._micro_batches import micro_batches
from skdistill.utils._workers import map_pieces

# Compiling takes a minute or two.
_STEPS_WORTH_COMPILING = 5000


class _Layer(NamedTuple):
    """The parameters of a block, or a direction in them.

    The kernel is transformed as the block's convolution wants it.  ``weight`` and
    ``shift`` are those of the normalisation, empty without one.
    """

    kernel: Tensor
    bias: Tensor
    weight: Tensor
    shift: Tensor


class _Head(NamedTuple):
    weight: Tensor
    bias: Tensor


class _BlockTape(NamedTuple):
    """What a block leaves for its derivatives.

    With h the z-scores, m the mask of the ReLU and g the gradient at the block's
    output: everything full-sized is made of h and m, all sums of pooled maps.  Without
    normalisation h is the convolution's output, and the last three are empty.
    """

    inputs: Tensor  # (n, H, W, in)
    scores: Tensor  # (n, H, W, width): h
    mask: Tensor  # (n, H, W, width): m, of 0 and 1
    pooled_scores: Tensor  # (n, H', W', width): pool(m h)
    pooled_mask: Tensor  # (n, H', W', width): pool(m)
    scale: Tensor  # 1 / standard deviation, (n, 1, 1, width or 1)
    gradient: Tensor  # (n, H', W', width): g
    offset: Tensor  # A, the mean gradient at the scores, (n, 1, 1, width or 1)
    slope: Tensor  # B, the mean of gradient times score, likewise
    shared: "_Shared | None"


class _Shared(NamedTuple):
    """What else a block leaves if its tape is used at once, and not kept."""

    inputs: Tensor  # transformed
    back: Tensor  # (n, H, W, width), the gradient at the convolution
    outputs: Tensor  # the same, transformed


class Tape(NamedTuple):
    """What :meth:`ConvNetDerivatives.gradient` leaves of one micro-batch."""

    blocks: list[_BlockTape]
    features: Tensor
    logits: Tensor
    probabilities: Tensor
    residuals: Tensor


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
    """First and second derivatives of the mean cross-entropy of a ConvNet.

    Parameters
    ----------
    module : ConvNet
        Only its structure is used.
    compile : bool, default=False
        Whether to compile the functions of a micro-batch; the values are the same
        but for rounding.

    Attributes
    ----------
    n_parameters : int
        Length of the flat vector of parameters.
    """

    def __init__(self, module: ConvNet, *, compile: bool = False) -> None:
        self._blocks = module.blocks
        self._shapes = [parameter.shape for parameter in module.parameters()]
        self._sizes = [parameter.numel() for parameter in module.parameters()]
        self.n_parameters = n_parameters(module)
        self._compile = compile
        self._forth: Callable[..., Any] = _gradient
        self._back: Callable[..., Any] = _curvature
        if compile:
            self._forth = Compiled(_gradient)
            self._back = Compiled(_curvature)

    @torch.no_grad()
    def gradient(
        self,
        parameters: Tensor,
        images: Tensor,
        targets: Tensor,
        *,
        tapes: list[Tape] | None = None,
        logits: list[Tensor] | None = None,
    ) -> Tensor:
        """Return the gradient of the loss with respect to the parameters.

        Parameters
        ----------
        parameters : Tensor of shape (n_parameters,)
        images : Tensor of shape (n_samples, channels, height, width)
        targets : Tensor of shape (n_samples, n_classes)
            The probability, or weight, of each class for each image.
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
                len(images),
                True,
            )
            # The tape is most of the memory: dropped at once where nobody wants it.
            return _flatten(parts), tape.logits, None if tapes is None else tape

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
        tapes: list[Tape] | None = None,
        with_parameters: bool = True,
    ) -> Curvature:
        """Return <v, g> and its derivatives, g being the gradient of the loss.

        Parameters
        ----------
        parameters, direction : Tensor of shape (n_parameters,)
        images, targets : Tensor
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
                    len(images),
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
                len(images),
                with_parameters,
            )
            by_images[part] = found[1].permute(0, 3, 1, 2)
            by_targets[part] = found[2]
            if not with_parameters:
                return found[0], parameters.new_empty(0)
            return found[0], _flatten(found[3])

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
            # Without normalisation the pooled scores are what comes out.
            owns_inputs = block.normalized
        numbers += pooled * block.out_channels  # the features
        return n_samples * numbers * dtype.itemsize

    def _micro_batches(self, images: Tensor) -> list[slice]:
        largest = max(
            block.height * block.width * block.out_channels for block in self._blocks
        )
        return micro_batches(
            len(images), largest * images.element_size(), images.device
        )

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
    ) -> tuple[list[_Layer], _Head]:
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
            layers.append(_Layer(kernel, bias, *norm))
        return layers, _Head(next(views), next(views))


def pays_to_compile(device: torch.device, n_student_steps: int) -> bool:
    """Decide whether so many steps are worth compiling for.

    On a CPU they never are: the convolutions take some nine tenths of the time, and
    compiled code was not measurably faster.  On a GPU what is between them costs more,
    and as much in launches as in memory traffic.
    """
    return (
        device.type == "cuda"
        and n_student_steps >= _STEPS_WORTH_COMPILING
        and importlib.util.find_spec("triton") is not None
    )


class Compiled:
    """A function that is compiled, or what it was if the compiler fails."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._eager = function
        self._function = torch.compile(function, dynamic=False)

    def __call__(self, *arguments: Any) -> Any:
        try:
            return self._function(*arguments)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler may raise
            if self._function is self._eager:
                raise
            warnings.warn(
                f"torch.compile failed ({type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}); the fit goes "
                "on without it, more slowly",
                stacklevel=2,
            )
            self._function = self._eager
            return self._function(*arguments)


def _channels_last(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).contiguous()


def _flatten(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def _pool(maps: Tensor, pool: tuple[int, int]) -> Tensor:
    if pool == (1, 1):
        return maps
    return F.avg_pool2d(maps.permute(0, 3, 1, 2), pool).permute(0, 2, 3, 1)


def _unpool(maps: Tensor, like: Tensor, pool: tuple[int, int]) -> Tensor:
    """Return the transpose of :func:`_pool`: always a new tensor."""
    rows, columns = pool
    maps = maps / (rows * columns)
    if pool == (1, 1):
        return maps
    n_samples, height, width, channels = maps.shape
    maps = maps[:, :, None, :, None].expand(-1, -1, rows, -1, columns, -1)
    # Not `reshape`, which makes no copy of maps of one pixel and channel.
    maps = maps.contiguous().view(n_samples, rows * height, columns * width, channels)
    # The last row or column of an odd side is not pooled.
    below, beside = like.shape[1] - maps.shape[1], like.shape[2] - maps.shape[2]
    return F.pad(maps, (0, 0, 0, beside, 0, below)) if below or beside else maps


def _mean(maps: Tensor, block: Block) -> Tensor:
    """Average over what the block normalises over."""
    means = maps.mean(dim=(1, 2), keepdim=True)
    return means.mean(dim=3, keepdim=True) if block.over_channels else means


def _mean_of_sums(sums: Tensor, block: Block) -> Tensor:
    """Turn sums over pixels, (n, 1, 1, width), into the means of :func:`_mean`."""
    means = sums / (block.height * block.width)
    return means.mean(dim=3, keepdim=True) if block.over_channels else means


def _sum(maps: Tensor) -> Tensor:
    return maps.sum(dim=(1, 2), keepdim=True)


def _gradient(
    blocks: list[Block],
    convolutions: list[Convolution],
    layers: list[_Layer],
    head: _Head,
    images: Tensor,
    targets: Tensor,
    n_samples: int,
    with_gradient: bool,
) -> tuple[list[Tensor], Tape]:
    """Return the gradient on some of ``n_samples`` images, and the tape.

    Without the gradient, the tape holds what else :func:`_curvature` can use.
    """
    maps = images
    passed = []
    for block, convolution, layer in zip(blocks, convolutions, layers, strict=True):
        inputs = maps
        transformed = convolution.inputs(inputs)
        scores = convolution.convolve((transformed, layer.kernel))
        if not block.normalized:
            scores += layer.bias
            scale = scores.new_empty(0)
            mask = (scores > 0).to(scores.dtype)
        else:
            # The convolution's bias matters only where it is not averaged away.
            if block.over_channels:
                scores += layer.bias
            scores -= _mean(scores, block)
            scale = (_mean(scores.square(), block) + EPSILON).rsqrt()
            scores *= scale
            mask = torch.addcmul(layer.shift, scores, layer.weight).gt_(0)
        pooled_mask = _pool(mask, block.pool)
        pooled_scores = _pool(scores * mask, block.pool)
        if not block.normalized:
            maps = pooled_scores
        else:
            maps = torch.addcmul(layer.shift * pooled_mask, pooled_scores, layer.weight)
        passed.append(
            (inputs, transformed, scores, mask, pooled_scores, pooled_mask, scale)
        )

    features = maps.permute(0, 3, 1, 2).flatten(1)
    logits = torch.addmm(head.bias, features, head.weight.t())
    probabilities = logits.softmax(dim=1)
    residuals = (probabilities * targets.sum(dim=1, keepdim=True) - targets) / n_samples

    parts = [residuals.t() @ features, residuals.sum(dim=0)]
    gradient = _unflatten(residuals @ head.weight, maps)
    tapes = []
    for place in reversed(range(len(blocks))):
        block, layer, convolution = blocks[place], layers[place], convolutions[place]
        inputs, transformed, scores, mask, pooled_scores, pooled_mask, scale = passed[
            place
        ]
        offset = slope = scores.new_empty(0)
        if not block.normalized:
            norm_parts = []
        else:
            ones, slopes = _sum(gradient * pooled_mask), _sum(gradient * pooled_scores)
            norm_parts = [slopes.sum(dim=(0, 1, 2)), ones.sum(dim=(0, 1, 2))]
            # Sums of pooled maps count each pooled pixel once, of full ones each of
            # its parts with its share: both are the same.
            offset = _mean_of_sums(ones * layer.weight, block)
            slope = _mean_of_sums(slopes * layer.weight, block)
        left = _BlockTape(
            inputs, scores, mask, pooled_scores, pooled_mask, scale, gradient,
            offset, slope, None,
        )  # fmt: skip
        back = _back(block, layer, left)
        outputs = convolution.outputs(back)
        if not with_gradient:
            # torch 2.11 cannot compile `_replace`.
            left = _BlockTape(*left[:-1], _Shared(transformed, back, outputs))
        tapes.append(left)
        if with_gradient:
            bias = back.sum(dim=(0, 1, 2))
            kernel = convolution.kernel_gradient((transformed, outputs))
            parts = [kernel, bias, *norm_parts, *parts]
        if place:
            gradient = convolution.input_gradient((outputs, layer.kernel))
    tapes.reverse()
    return parts, Tape(tapes, features, logits, probabilities, residuals)


def _back(block: Block, layer: _Layer, tape: _BlockTape) -> Tensor:
    """Return the gradient at the output of a block's convolution."""
    if not block.normalized:
        return _unpool(tape.gradient, tape.mask, block.pool).mul_(tape.mask)
    scale = tape.scale
    back = _unpool(tape.gradient * (layer.weight * scale), tape.mask, block.pool)
    back.mul_(tape.mask).addcmul_(tape.scores, -tape.slope * scale)
    return back.sub_(tape.offset * scale)


def _unflatten(features: Tensor, like: Tensor) -> Tensor:
    n_samples, height, width, channels = like.shape
    return features.view(n_samples, channels, height, width).permute(0, 2, 3, 1)


def _curvature(
    blocks: list[Block],
    convolutions: list[Convolution],
    layers: list[_Layer],
    head: _Head,
    layers_along: list[_Layer],
    head_along: _Head,
    tape: Tape,
    targets: Tensor,
    n_samples: int,
    with_parameters: bool,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Return <v, g> of some of ``n_samples`` images, and its derivatives.

    A name ending in ``along`` is the derivative of what is before it along v.
    """
    maps_along = tape.features.new_empty(0)
    passed: list[tuple[Tensor, ...]] = []
    for block, convolution, layer, along, kept in zip(
        blocks, convolutions, layers, layers_along, tape.blocks, strict=True
    ):
        if kept.shared is None:
            inputs = convolution.inputs(kept.inputs)
        else:
            inputs = kept.shared.inputs
        pairs = [(inputs, along.kernel)]
        inputs_along = maps_along
        if passed:  # the images themselves do not depend on the parameters
            inputs_along = convolution.inputs(maps_along)
            pairs.append((inputs_along, layer.kernel))
        scores_along = convolution.convolve(*pairs)
        scale_along = scores_along.new_empty(0)
        if not block.normalized or block.over_channels:
            scores_along += along.bias
        if not block.normalized:
            pooled_along = _pool(scores_along * kept.mask, block.pool)
            maps_along = pooled_along
        else:
            shared = _mean(scores_along * kept.scores, block)
            scores_along -= _mean(scores_along, block)
            scores_along.addcmul_(kept.scores, -shared).mul_(kept.scale)
            # In units of the scale itself.
            scale_along = -shared * kept.scale
            pooled_along = _pool(scores_along * kept.mask, block.pool)
            maps_along = (
                pooled_along * layer.weight
                + kept.pooled_scores * along.weight
                + kept.pooled_mask * along.shift
            )
        passed.append((inputs, inputs_along, scores_along, scale_along, pooled_along))

    features_along = maps_along.permute(0, 3, 1, 2).flatten(1)
    logits_along = features_along @ head.weight.t() + torch.addmm(
        head_along.bias, tape.features, head_along.weight.t()
    )
    product = (tape.residuals * logits_along).sum()
    mean_along = (tape.probabilities * logits_along).sum(dim=1, keepdim=True)
    by_targets = (mean_along - logits_along) / n_samples
    residuals_along = (
        tape.probabilities
        * (logits_along - mean_along)
        * (targets.sum(dim=1, keepdim=True) / n_samples)
    )
    parts = [
        residuals_along.t() @ tape.features + tape.residuals.t() @ features_along,
        residuals_along.sum(dim=0),
    ]
    gradient_along = _unflatten(
        residuals_along @ head.weight + tape.residuals @ head_along.weight, maps_along
    )
    for place in reversed(range(len(blocks))):
        block, layer, along = blocks[place], layers[place], layers_along[place]
        kept, convolution = tape.blocks[place], convolutions[place]
        inputs, inputs_along, scores_along, scale_along, pooled_along = passed[place]
        if kept.shared is None:
            back = _back(block, layer, kept)
            outputs = convolution.outputs(back)
        else:
            back, outputs = kept.shared.back, kept.shared.outputs
        if not block.normalized:
            back_along = _unpool(gradient_along, kept.mask, block.pool).mul_(kept.mask)
            norm_parts = []
        else:
            weight, scale = layer.weight, kept.scale
            ones = _sum(kept.gradient * kept.pooled_mask)
            slopes = _sum(kept.gradient * kept.pooled_scores)
            ones_along = _sum(gradient_along * kept.pooled_mask)
            slopes_along = _sum(
                gradient_along * kept.pooled_scores + kept.gradient * pooled_along
            )
            norm_parts = [
                slopes_along.sum(dim=(0, 1, 2)),
                ones_along.sum(dim=(0, 1, 2)),
            ]
            offset_along = _mean_of_sums(
                ones_along * weight + ones * along.weight, block
            )
            slope_along = _mean_of_sums(
                slopes_along * weight + slopes * along.weight, block
            )
            at_scores = gradient_along * weight + kept.gradient * along.weight
            back_along = _unpool(at_scores * scale, kept.mask, block.pool)
            back_along.mul_(kept.mask)
            back_along.addcmul_(kept.scores, -slope_along * scale)
            back_along.addcmul_(scores_along, -kept.slope * scale)
            back_along.addcmul_(back, scale_along)
            back_along.sub_(offset_along * scale)
        outputs_along = convolution.outputs(back_along)
        if with_parameters:
            pairs = [(inputs, outputs_along)]
            if place:
                pairs.append((inputs_along, outputs))
            kernel = convolution.kernel_gradient(*pairs)
            parts = [kernel, back_along.sum(dim=(0, 1, 2)), *norm_parts, *parts]
        gradient_along = convolution.input_gradient(
            (outputs_along, layer.kernel), (outputs, along.kernel)
        )
    return product, gradient_along, by_targets, parts
