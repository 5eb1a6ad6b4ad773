"""The features of a ConvNet, computed and pulled back in micro-batches."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skdistill.neural_network._block_derivatives import Head, Layer
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

# Where only features are wanted, the largest feature map of what a GPU is given at
# once has at most this number of bytes.
_MAX_GPU_BYTES = 2**30


class ConvNetFeatures:
    """The features of a ConvNet, and the gradients of numbers made of them.

    Parameters
    ----------
    module : ConvNet
        Only its structure is used.  Batch normalization is refused.
    direct : bool, default=False
        Whether convolutions are always those of the library.

    Attributes
    ----------
    n_parameters : int
        Length of the flat vector of parameters.
    n_blocks, n_features, n_classes : int
        Number of blocks, length of an embedding, and of the logits of an image.

    Raises
    ------
    ValueError
        If the network normalizes over batches.
    """

    # Training draws nothing.
    is_random = False

    def __init__(self, module: ConvNet, *, direct: bool = False) -> None:
        if any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
            raise ValueError(
                "batch normalization makes the features of an image depend on the "
                "other images of its batch; `normalization` must be 'instance', "
                "'layer', 'group' or 'none'"
            )
        self._blocks = module.blocks
        self.n_blocks = len(module.blocks)
        self.n_features = module.classifier.in_features
        self.n_classes = module.classifier.out_features
        self._shapes = [parameter.shape for parameter in module.parameters()]
        self._sizes = [parameter.numel() for parameter in module.parameters()]
        self.n_parameters = n_parameters(module)
        self._direct = direct

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
                channels_last(images[part]),
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
                channels_last(images[part]),
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
            that is computed again.

        Returns
        -------
        gradient : Tensor of shape (n_samples, channels, height, width)
        """
        convolutions = self._convolutions(images.device)
        layers, head = self._split(parameters, convolutions)
        check_adjoints(adjoints, len(images), self._blocks, head)
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
                    channels_last(images[part]),
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
            and not self._direct
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


def channels_last(images: Tensor) -> Tensor:
    """Return images as (n_samples, height, width, channels)."""
    return images.permute(0, 2, 3, 1).contiguous()
