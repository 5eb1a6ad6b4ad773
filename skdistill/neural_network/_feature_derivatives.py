"""The features of a ConvNet, and their adjoints pulled back to the images.

Matching features needs first derivatives by the images alone: a forward pass, and a
backward pass without the gradients of kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from skdistill.neural_network._block_derivatives import (
    BlockTape,
    Head,
    Layer,
    back_to_convolution,
    forward_block,
    mean_over,
    norm_sums,
    unflatten,
    unpool,
)
from skdistill.neural_network._convnet import Block
from skdistill.neural_network._convolution import Convolution

FeatureTape = list[BlockTape]


@dataclass(frozen=True)
class Features:
    """What a network makes of images, or the adjoints of that.

    Attributes
    ----------
    embedding : Tensor of shape (n_samples, n_features) or None
        The last block's output, flattened: what the last layer sees.
    logits : Tensor of shape (n_samples, n_classes) or None
    blocks : dict of Tensor of shape (n_samples, channels, height, width)
        Outputs of blocks, pooled where the block pools, by their place from 0.
    activations : dict of Tensor of shape (n_samples, channels, height, width)
        Outputs of the blocks' ReLU, before they are pooled.
    """

    embedding: Tensor | None = None
    logits: Tensor | None = None
    blocks: Mapping[int, Tensor] = field(default_factory=dict)
    activations: Mapping[int, Tensor] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """Return those that are there, in an order that depends on nothing else."""
        heads = [one for one in (self.embedding, self.logits) if one is not None]
        return [
            *heads,
            *(self.blocks[place] for place in sorted(self.blocks)),
            *(self.activations[place] for place in sorted(self.activations)),
        ]

    def map(self, function: Callable[[Tensor], Tensor]) -> Features:
        """Return what a function makes of each tensor."""
        return Features(
            None if self.embedding is None else function(self.embedding),
            None if self.logits is None else function(self.logits),
            {place: function(maps) for place, maps in self.blocks.items()},
            {place: function(maps) for place, maps in self.activations.items()},
        )

    def rows(self, part: slice) -> Features:
        """Return those of some of the images."""
        return self.map(lambda tensor: tensor[part])


def join_features(parts: list[Features]) -> Features:
    """Put the features of micro-batches one after the other."""
    if len(parts) == 1:
        return parts[0]
    joined = iter(
        torch.cat(tensors)
        for tensors in zip(*(part.tensors() for part in parts), strict=True)
    )
    first = parts[0]
    # In the order of `tensors`.
    return Features(
        None if first.embedding is None else next(joined),
        None if first.logits is None else next(joined),
        {place: next(joined) for place in sorted(first.blocks)},
        {place: next(joined) for place in sorted(first.activations)},
    )


def check_places(n_blocks: int, **wanted: Sequence[int]) -> None:
    """Raise a ValueError for the place of a block that is not there."""
    for name, places in wanted.items():
        for place in places:
            if not 0 <= place < n_blocks:
                raise ValueError(
                    f"`{name}` must hold indices of blocks, from 0 to {n_blocks - 1}; "
                    f"got {place}"
                )


def check_adjoints(
    adjoints: Features, n_samples: int, blocks: list[Block], head: Head
) -> None:
    """Raise a ValueError unless there are adjoints, of the shapes of features."""
    check_places(
        len(blocks),
        blocks=list(adjoints.blocks),
        activations=list(adjoints.activations),
    )
    if not adjoints.tensors():
        raise ValueError("`adjoints` must hold at least one tensor; got none")
    n_classes, n_features = head.weight.shape
    pairs: list[tuple[Tensor | None, tuple[int, ...]]] = [
        (adjoints.embedding, (n_features,)),
        (adjoints.logits, (n_classes,)),
    ]
    for place, maps in adjoints.blocks.items():
        block = blocks[place]
        rows, columns = block.pool
        sides = block.height // rows, block.width // columns
        pairs.append((maps, (block.out_channels, *sides)))
    for place, maps in adjoints.activations.items():
        block = blocks[place]
        pairs.append((maps, (block.out_channels, block.height, block.width)))
    for tensor, shape in pairs:
        if tensor is not None and tuple(tensor.shape) != (n_samples, *shape):
            raise ValueError(
                f"`adjoints` must have the shapes of the features, here "
                f"{(n_samples, *shape)}; got {tuple(tensor.shape)}"
            )


def features_of_part(
    blocks: list[Block],
    convolutions: list[Convolution],
    layers: list[Layer],
    head: Head,
    images: Tensor,
    wanted: Sequence[int] = (),
    activations: Sequence[int] = (),
    *,
    keep: bool,
) -> tuple[Features, FeatureTape]:
    """Return the features of a micro-batch and, if it is kept, their tape."""
    maps = images
    outputs, activated, tape = {}, {}, []
    for place, (block, convolution, layer) in enumerate(
        zip(blocks, convolutions, layers, strict=True)
    ):
        transformed = convolution.inputs(maps)
        maps, found = forward_block(block, convolution, layer, transformed)
        scores, mask, pooled_scores, pooled_mask, scale = found
        if place in wanted:
            outputs[place] = maps.permute(0, 3, 1, 2)
        if place in activations:
            values = _affine(block, layer, scores).clamp_min(0)
            activated[place] = values.permute(0, 3, 1, 2)
        if keep:
            empty = scores.new_empty(0)
            if not block.normalized:
                # All that its derivative needs are masks.
                pooled_scores = pooled_mask = empty
                if not (block.max_pooled and block.pool != (1, 1)):
                    scores = empty
            tape.append(
                BlockTape(
                    empty, scores, mask, pooled_scores, pooled_mask, scale, empty,
                    empty, empty, None,
                )
            )  # fmt: skip
    embedding = maps.permute(0, 3, 1, 2).flatten(1)
    logits = torch.addmm(head.bias, embedding, head.weight.t())
    return Features(embedding, logits, outputs, activated), tape


def mean_of_part(
    features: Features, codes: Tensor, weights: Tensor
) -> tuple[Tensor, Features]:
    """Return the classes of a micro-batch, and weighted sums over each."""
    present, places = codes.unique(return_inverse=True)
    matrix = weights.new_zeros(len(present), len(codes))
    matrix[places, torch.arange(len(codes), device=codes.device)] = weights

    def sums(tensor: Tensor) -> Tensor:
        shape = tensor.shape[1:]
        return (matrix.to(tensor.dtype) @ tensor.flatten(1)).unflatten(1, shape)

    return present, features.map(sums)


def pull_back_of_part(
    blocks: list[Block],
    convolutions: list[Convolution],
    layers: list[Layer],
    head: Head,
    tape: FeatureTape,
    adjoints: Features,
) -> Tensor:
    """Return the gradient by the images of a micro-batch, channels last."""
    gradient = _at_last_output(blocks[-1], head, adjoints)
    for place in reversed(range(len(blocks))):
        block, layer, kept = blocks[place], layers[place], tape[place]
        if place in adjoints.blocks:
            own = adjoints.blocks[place].permute(0, 2, 3, 1)
            gradient = own if gradient is None else gradient + own
        before_pooling = adjoints.activations.get(place)
        if before_pooling is not None:
            own = before_pooling.permute(0, 2, 3, 1)
            back = _back_before_pooling(block, layer, kept, gradient, own)
        elif gradient is None:
            continue
        else:
            kept = kept._replace(gradient=gradient)
            if block.normalized:
                _, _, offset, slope = norm_sums(
                    block, layer, gradient, kept.pooled_mask, kept.pooled_scores
                )
                kept = kept._replace(offset=offset, slope=slope)
            back = back_to_convolution(block, layer, kept)
        convolution = convolutions[place]
        gradient = convolution.input_gradient((convolution.outputs(back), layer.kernel))
    assert gradient is not None
    return gradient


def _affine(block: Block, layer: Layer, scores: Tensor) -> Tensor:
    """Return what the ReLU is given."""
    if not block.normalized:
        return scores
    return torch.addcmul(layer.shift, scores, layer.weight)


def _at_last_output(block: Block, head: Head, adjoints: Features) -> Tensor | None:
    """Return the gradient at the last block's output, channels last."""
    flat = adjoints.embedding
    if adjoints.logits is not None:
        by_logits = adjoints.logits @ head.weight
        flat = by_logits if flat is None else flat + by_logits
    if flat is None:
        return None
    rows, columns = block.pool
    shape = block.height // rows, block.width // columns, block.out_channels
    return unflatten(flat.contiguous(), shape)


def _back_before_pooling(
    block: Block,
    layer: Layer,
    kept: BlockTape,
    gradient: Tensor | None,
    before_pooling: Tensor,
) -> Tensor:
    """Return the gradient at the convolution, of adjoints before and after pooling."""
    relu = kept.mask
    if block.max_pooled and block.pool != (1, 1):
        # The mask has left the largest alone.
        relu = (_affine(block, layer, kept.scores) > 0).to(relu.dtype)
    back = before_pooling * relu
    if gradient is not None:
        back += unpool(gradient, kept.mask, block).mul_(kept.mask)
    if not block.normalized:
        return back
    back = back * layer.weight
    offset = mean_over(back, block)
    slope = mean_over(back * kept.scores, block)
    return (back - offset).addcmul_(kept.scores, -slope).mul_(kept.scale)
