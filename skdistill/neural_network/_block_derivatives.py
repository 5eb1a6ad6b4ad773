"""The derivatives of a micro-batch, block by block, as plain functions of tensors.

Maps are stored channels last, (n, height, width, channels): the layout that
convolutions are fastest in, and in which the factors of a normalization, one per image
and channel, multiply contiguous numbers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from skdistill.neural_network._convnet import EPSILON, Block
from skdistill.neural_network._convolution import Convolution


class Layer(NamedTuple):
    """The parameters of a block, or a direction in them.

    The kernel is transformed as the block's convolution wants it.  ``weight`` and
    ``shift`` are those of the normalization, empty without one.
    """

    kernel: Tensor
    bias: Tensor
    weight: Tensor
    shift: Tensor


class Head(NamedTuple):
    weight: Tensor
    bias: Tensor


class BlockTape(NamedTuple):
    """What a block leaves for its derivatives.

    With h the z-scores, m the mask of the ReLU and g the gradient at the block's
    output: everything full-sized is made of h and m, all sums of pooled maps.  Without
    normalization h is the convolution's output, and the last three are empty.
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
    shared: "Shared | None"


class Shared(NamedTuple):
    """What else a block leaves if its tape is used at once, and not kept."""

    inputs: Tensor  # transformed
    back: Tensor  # (n, H, W, width), the gradient at the convolution
    outputs: Tensor  # the same, transformed


class Tape(NamedTuple):
    """What :meth:`ConvNetDerivatives.gradient` leaves of one micro-batch."""

    blocks: list[BlockTape]
    features: Tensor
    logits: Tensor
    probabilities: Tensor
    residuals: Tensor


def flatten_parts(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def _pool(maps: Tensor, block: Block) -> Tensor:
    """Average; where the largest is taken, add up what the mask has left of them."""
    if block.pool == (1, 1):
        return maps
    maps = maps.permute(0, 3, 1, 2)
    if block.max_pooled:
        pooled = F.avg_pool2d(maps, block.pool, divisor_override=1)
    else:
        pooled = F.avg_pool2d(maps, block.pool)
    return pooled.permute(0, 2, 3, 1)


def unpool(maps: Tensor, like: Tensor, block: Block) -> Tensor:
    """Return the transpose of :func:`_pool`: always a new tensor."""
    rows, columns = block.pool
    maps = maps / (1 if block.max_pooled else rows * columns)
    if block.pool == (1, 1):
        return maps
    n_samples, height, width, channels = maps.shape
    maps = maps[:, :, None, :, None].expand(-1, -1, rows, -1, columns, -1)
    # Not `reshape`, which makes no copy of maps of one pixel and channel.
    maps = maps.contiguous().view(n_samples, rows * height, columns * width, channels)
    # The last row or column of an odd side is not pooled.
    below, beside = like.shape[1] - maps.shape[1], like.shape[2] - maps.shape[2]
    return F.pad(maps, (0, 0, 0, beside, 0, below)) if below or beside else maps


def _mask(affine: Tensor, block: Block, *, overwrite: bool) -> Tensor:
    """Return 1 where ReLU and pooling let a value pass, and 0 elsewhere."""
    places = None
    if block.max_pooled and block.pool != (1, 1):
        maps = affine.permute(0, 3, 1, 2)
        _, places = F.max_pool2d(maps, block.pool, return_indices=True)
    mask = affine.gt_(0) if overwrite else (affine > 0).to(affine.dtype)
    if places is None:
        return mask
    n_samples, height, width, channels = mask.shape
    largest = mask.new_zeros(n_samples, channels, height * width)
    largest = largest.scatter(2, places.flatten(2), 1.0)
    return mask.mul_(largest.mT.view(mask.shape))


def mean_over(maps: Tensor, block: Block) -> Tensor:
    """Average over what the block normalizes over, (n, 1, 1, 1 or width)."""
    return _mean_of_groups(maps.mean(dim=(1, 2), keepdim=True), block)


def _mean_of_sums(sums: Tensor, block: Block) -> Tensor:
    """Turn sums over pixels, (n, 1, 1, width), into the means of :func:`mean_over`."""
    return _mean_of_groups(sums / (block.height * block.width), block)


def _mean_of_groups(means: Tensor, block: Block) -> Tensor:
    if not block.over_channels:
        return means
    if block.n_groups == 1:
        return means.mean(dim=3, keepdim=True)
    groups = means.unflatten(3, (block.n_groups, -1))
    return groups.mean(dim=4, keepdim=True).expand_as(groups).flatten(3)


def _sum(maps: Tensor) -> Tensor:
    return maps.sum(dim=(1, 2), keepdim=True)


def forward_block(
    block: Block, convolution: Convolution, layer: Layer, transformed: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """Return what comes out of a block, and what of its tape is known by then."""
    scores = convolution.convolve((transformed, layer.kernel))
    if not block.normalized:
        scores += layer.bias
        scale = scores.new_empty(0)
        mask = _mask(scores, block, overwrite=False)
    else:
        # The convolution's bias matters only where it is not averaged away.
        if block.over_channels:
            scores += layer.bias
        scores -= mean_over(scores, block)
        scale = (mean_over(scores.square(), block) + EPSILON).rsqrt()
        scores *= scale
        affine = torch.addcmul(layer.shift, scores, layer.weight)
        mask = _mask(affine, block, overwrite=True)
    pooled_mask = _pool(mask, block)
    pooled_scores = _pool(scores * mask, block)
    if not block.normalized:
        maps = pooled_scores
    else:
        maps = torch.addcmul(layer.shift * pooled_mask, pooled_scores, layer.weight)
    return maps, (scores, mask, pooled_scores, pooled_mask, scale)


def gradient_of_part(
    blocks: list[Block],
    convolutions: list[Convolution],
    layers: list[Layer],
    head: Head,
    images: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    n_samples: int,
    loss: str,
    with_gradient: bool,
) -> tuple[list[Tensor], Tape]:
    """Return the gradient on some of ``n_samples`` images, and the tape.

    Without the gradient, the tape holds what else :func:`curvature_of_part` can use.
    """
    maps = images
    passed = []
    for block, convolution, layer in zip(blocks, convolutions, layers, strict=True):
        inputs = maps
        transformed = convolution.inputs(inputs)
        maps, found = forward_block(block, convolution, layer, transformed)
        passed.append((inputs, transformed, *found))

    features = maps.permute(0, 3, 1, 2).flatten(1)
    logits = torch.addmm(head.bias, features, head.weight.t())
    if loss == "squared":
        probabilities = logits.new_empty(0)
        residuals = (logits - targets) / n_samples
    else:
        probabilities = logits.softmax(dim=1)
        residuals = probabilities * targets.sum(dim=1, keepdim=True) - targets
        residuals = residuals / n_samples
    if weights is not None:
        residuals = residuals * weights[:, None]

    parts = [residuals.t() @ features, residuals.sum(dim=0)]
    gradient = unflatten(residuals @ head.weight, maps.shape[1:])
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
            ones, slopes, offset, slope = norm_sums(
                block, layer, gradient, pooled_mask, pooled_scores
            )
            norm_parts = [slopes.sum(dim=(0, 1, 2)), ones.sum(dim=(0, 1, 2))]
        left = BlockTape(
            inputs, scores, mask, pooled_scores, pooled_mask, scale, gradient,
            offset, slope, None,
        )  # fmt: skip
        back = back_to_convolution(block, layer, left)
        outputs = convolution.outputs(back)
        if not with_gradient:
            # torch 2.11 cannot compile `_replace`.
            left = BlockTape(*left[:-1], Shared(transformed, back, outputs))
        tapes.append(left)
        if with_gradient:
            bias = back.sum(dim=(0, 1, 2))
            kernel = convolution.kernel_gradient((transformed, outputs))
            parts = [kernel, bias, *norm_parts, *parts]
        if place:
            gradient = convolution.input_gradient((outputs, layer.kernel))
    tapes.reverse()
    return parts, Tape(tapes, features, logits, probabilities, residuals)


def norm_sums(
    block: Block,
    layer: Layer,
    gradient: Tensor,
    pooled_mask: Tensor,
    pooled_scores: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return sums by shift and weight, and the tape's offset and slope."""
    # Sums of pooled maps count each pooled pixel once, of full ones each of its parts
    # with its share: both are the same.
    ones, slopes = _sum(gradient * pooled_mask), _sum(gradient * pooled_scores)
    offset = _mean_of_sums(ones * layer.weight, block)
    slope = _mean_of_sums(slopes * layer.weight, block)
    return ones, slopes, offset, slope


def back_to_convolution(block: Block, layer: Layer, tape: BlockTape) -> Tensor:
    """Return the gradient at the output of a block's convolution."""
    if not block.normalized:
        return unpool(tape.gradient, tape.mask, block).mul_(tape.mask)
    scale = tape.scale
    back = unpool(tape.gradient * (layer.weight * scale), tape.mask, block)
    back.mul_(tape.mask).addcmul_(tape.scores, -tape.slope * scale)
    return back.sub_(tape.offset * scale)


def unflatten(features: Tensor, shape: Sequence[int]) -> Tensor:
    """Return embeddings as maps of a shape (height, width, channels)."""
    height, width, channels = shape
    maps = features.view(len(features), channels, height, width)
    return maps.permute(0, 2, 3, 1)


def curvature_of_part(
    blocks: list[Block],
    convolutions: list[Convolution],
    layers: list[Layer],
    head: Head,
    layers_along: list[Layer],
    head_along: Head,
    tape: Tape,
    targets: Tensor,
    weights: Tensor | None,
    n_samples: int,
    loss: str,
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
            pooled_along = _pool(scores_along * kept.mask, block)
            maps_along = pooled_along
        else:
            shared = mean_over(scores_along * kept.scores, block)
            scores_along -= mean_over(scores_along, block)
            scores_along.addcmul_(kept.scores, -shared).mul_(kept.scale)
            # In units of the scale itself.
            scale_along = -shared * kept.scale
            pooled_along = _pool(scores_along * kept.mask, block)
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
    if loss == "squared":
        residuals_along = logits_along / n_samples
        by_targets = -residuals_along
    else:
        mean_along = (tape.probabilities * logits_along).sum(dim=1, keepdim=True)
        by_targets = (mean_along - logits_along) / n_samples
        residuals_along = (
            tape.probabilities
            * (logits_along - mean_along)
            * (targets.sum(dim=1, keepdim=True) / n_samples)
        )
    if weights is not None:
        by_targets = by_targets * weights[:, None]
        residuals_along = residuals_along * weights[:, None]
    parts = [
        residuals_along.t() @ tape.features + tape.residuals.t() @ features_along,
        residuals_along.sum(dim=0),
    ]
    gradient_along = unflatten(
        residuals_along @ head.weight + tape.residuals @ head_along.weight,
        maps_along.shape[1:],
    )
    for place in reversed(range(len(blocks))):
        block, layer, along = blocks[place], layers[place], layers_along[place]
        kept, convolution = tape.blocks[place], convolutions[place]
        inputs, inputs_along, scores_along, scale_along, pooled_along = passed[place]
        if kept.shared is None:
            back = back_to_convolution(block, layer, kept)
            outputs = convolution.outputs(back)
        else:
            back, outputs = kept.shared.back, kept.shared.outputs
        if not block.normalized:
            back_along = unpool(gradient_along, kept.mask, block).mul_(kept.mask)
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
            back_along = unpool(at_scores * scale, kept.mask, block)
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
