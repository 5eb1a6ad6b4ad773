"""The features of any torch module, and their adjoints pulled back to the images.

What a ConvNet has as blocks, another network has as layers: features are what its
convolutions and linear layers see, in the order in which they are called.  The last
linear layer sees the embedding.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm

from skdistill.neural_network._convnet import flatten_learned
from skdistill.neural_network._feature_derivatives import (
    Features,
    check_places,
    join_features,
    mean_of_part,
)
from skdistill.neural_network._module_checks import (
    check_alone,
    check_by_pixels,
    check_images_are_singly,
    check_no_script,
)
from skdistill.neural_network._modules import seen_by
from skdistill.neural_network._reinitialize import copy_of
from skdistill.utils._random import generator_states, isolated_torch_seed

# Number of images that go through a network at once.
_BATCH = 256


class ModuleFeatureTape(NamedTuple):
    """The graph of the features of some images."""

    images: Tensor
    features: Features


class _Seen:
    """What the layers of a thread's copy of a module are given in a forward pass."""

    def __init__(self) -> None:
        self._is_on = False
        self._wanted: Collection[int] | None = ()
        self._n_calls = 0
        self._inputs: dict[int, Tensor] = {}
        self._last_linear = -1
        self._embedding: Tensor | None = None

    def begin(self, wanted: Collection[int] | None) -> None:
        """Keep the inputs of some calls of layers, by their number; None means all."""
        self._is_on, self._wanted, self._n_calls = True, wanted, 0

    def end(self) -> tuple[dict[int, Tensor], int, Tensor | None]:
        """Return what was kept, and the number and input of the last linear layer."""
        found = self._inputs, self._last_linear, self._embedding
        self._is_on = False
        # Nothing is kept that nobody needs.
        self._inputs, self._last_linear, self._embedding = {}, -1, None
        return found

    def note(
        self, layer: nn.Module, args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        """Take note of what a layer is given."""
        inputs = seen_by(args, options)
        if not self._is_on or inputs is None:
            return
        if self._wanted is None or self._n_calls in self._wanted:
            self._inputs[self._n_calls] = inputs
        if isinstance(layer, nn.Linear):
            self._last_linear, self._embedding = self._n_calls, inputs
        self._n_calls += 1


class ModuleFeatures:
    """A module as a function of parameters and images, and its features.

    Parameters
    ----------
    module : torch.nn.Module
        From images (n_samples, channels, height, width) to logits (n_samples,
        n_classes).  It is copied; its parameters are used where it has no others, its
        buffers always.
    images : Tensor of shape (n_samples, channels, height, width)
        Two or more, of any kind: on them the module is tried.

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
        logits of an image.  Without a linear layer that sees one row of numbers for
        each image there is no embedding, and the first is 0.
    n_blocks : int
        0: blocks are those of a ConvNet.
    activation_sizes : tuple of int
        How many numbers each of the ``activations`` has for an image: what layers see
        between the first, which sees the image, and the last.
    is_random : bool
        Whether training draws something, as dropout does.

    Raises
    ------
    ValueError
        If the logits of an image depend on the others of its batch or not on the image,
        or if the module changes its buffers in training.
    """

    n_blocks = 0

    def __init__(self, module: nn.Module, images: Tensor) -> None:
        check_images_are_singly(module)
        check_no_script(module)
        self._module = copy_of(module).to(images.device)
        _make_twice_differentiable(self._module)
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
        self._of_thread = threading.local()
        # Assumed until it is known.
        self.is_random = self._draws_at_rest = True
        start = flatten_learned(self._module).to(images)
        self._find_layers(start, images[:2])
        self.n_classes, is_random = self._try(start, images[:2], training=True)
        self._check_buffers()
        _, self._draws_at_rest = self._try(start, images[:2], training=False)
        self._check_images(start, images[:2])
        self.is_random = is_random

    def _find_layers(self, parameters: Tensor, images: Tensor) -> None:
        """Find out which calls of layers see activations, and the embedding."""
        _, _, seen = self._copies()
        seen.begin(None)
        with torch.no_grad():
            self._logits(parameters, images, training=False)
        inputs, last_linear, embedding = seen.end()
        self.n_features = 0
        if embedding is not None and _is_of(embedding, len(images)):
            self.n_features = embedding[0].numel()
        self._calls: list[int] = []
        sizes = []
        different = list(inputs.values())[:1]
        for number, maps in inputs.items():
            # A shortcut sees what the layer beside it does.
            is_new = not any(maps is other for other in different)
            different.append(maps)
            if is_new and number < last_linear and _is_of(maps, len(images)):
                self._calls.append(number)
                sizes.append(maps[0].numel())
        self.activation_sizes = tuple(sizes)

    def _try(
        self, parameters: Tensor, images: Tensor, *, training: bool
    ) -> tuple[int, bool]:
        """Return the number of logits, and whether the module draws something."""
        trained, resting, _ = self._copies()
        module = trained if training else resting
        parts = self._split(parameters)
        with isolated_torch_seed(0, images.device), torch.no_grad():
            # Draws that are rare, as those of a small dropout, change no logits of two
            # images.
            before = generator_states(images.device)
            logits = self._called(module, parts, images.clone(), seed=None)
            after = generator_states(images.device)
        return logits.shape[1], not all(map(torch.equal, before, after))

    def _check_images(self, parameters: Tensor, images: Tensor) -> None:
        """Raise a ValueError unless logits are a function of each image alone."""
        # With the same seed the first image is treated alike.
        others = torch.cat([images[:1], 1 - 2 * images[:1]])
        with torch.no_grad():
            one, other = (
                self._logits(parameters, batch.clone(), training=True)[0]
                for batch in (images, others)
            )
        check_alone(one, other)
        generator = torch.Generator().manual_seed(0)
        noise = 0.03 * torch.randn(parameters.shape, generator=generator)
        moved = self._split(parameters + noise.to(parameters))
        parts = {f"module.{name}": part for name, part in moved.items()}
        check_by_pixels(
            lambda module, images: self._called(module, parts, images, seed=0),
            self._copies()[0],
            images,
        )

    def _check_buffers(self) -> None:
        """Raise a ValueError if training has changed anything but parameters."""
        trained = dict(self._copies()[0].named_buffers())
        for name, buffer in self._module.named_buffers():
            if not _are_the_same(buffer, trained[name]):
                raise ValueError(
                    f"`architecture` changes its buffer {name!r} during training, so "
                    "that its outputs depend on more than its parameters and the "
                    "images; remove running statistics, spectral normalization and "
                    "the like"
                )

    # The module as a function.

    def _split(self, parameters: Tensor) -> dict[str, Tensor]:
        parts = parameters.split(self._sizes)
        return {
            name: (part if trained else part.detach()).view(shape)
            for name, part, shape, trained in zip(
                self._names, parts, self._shapes, self._trained, strict=True
            )
        }

    def _copies(self) -> tuple[nn.Module, nn.Module, _Seen]:
        """Return this thread's copies, one in training, and what the other has seen.

        A call with other parameters sets them for its time: no two threads may make
        one with the same module.
        """
        own = self._of_thread
        if not hasattr(own, "copies"):
            trained, resting = (copy_of(self._module) for _ in range(2))
            seen = _Seen()
            for layer in resting.modules():
                if isinstance(layer, (nn.Linear, _ConvNd)):
                    layer.register_forward_pre_hook(seen.note, with_kwargs=True)
            own.copies = trained.train(), resting.eval(), seen
        return own.copies

    def _logits(
        self, parameters: Tensor, images: Tensor, *, training: bool, seed: int = 0
    ) -> Tensor:
        trained, resting, _ = self._copies()
        draws = self.is_random if training else self._draws_at_rest
        return self._called(
            trained if training else resting,
            self._split(parameters),
            images,
            seed=seed if draws else None,
        )

    def _called(
        self,
        module: nn.Module,
        parts: dict[str, Tensor],
        images: Tensor,
        *,
        seed: int | None,
    ) -> Tensor:
        """Call a module with parameters, and with a seed if it draws something."""
        with (
            # Threads wait for each other where a module draws: PyTorch has one
            # generator.
            nullcontext() if seed is None else isolated_torch_seed(seed, images.device),
            # The faster kernels of attention have no second derivative.
            sdpa_kernel(SDPBackend.MATH),
        ):
            return functional_call(module, parts, (images,))

    # Features.

    def features(
        self,
        parameters: Tensor,
        images: Tensor,
        *,
        blocks: Sequence[int] = (),
        activations: Sequence[int] = (),
        tapes: list[ModuleFeatureTape] | None = None,
    ) -> Features:
        """Return what the network makes of images when it is not in training.

        What it draws nevertheless is always the same.

        Parameters
        ----------
        parameters : Tensor of shape (n_parameters,)
        images : Tensor of shape (n_samples, channels, height, width)
        blocks : sequence of int, default=()
            Must be empty: only a ConvNet has blocks.
        activations : sequence of int, default=()
            Places of layers, from 0, whose inputs are wanted.
        tapes : list, default=None
            Is appended what :meth:`pull_back` needs at the same place.

        Returns
        -------
        Features
        """
        self._check_places(blocks, activations)
        found = []
        for part in _parts(len(images)):
            if tapes is None:
                with torch.no_grad():
                    found.append(self._features(parameters, images[part], activations))
                continue
            with torch.enable_grad():
                leaf = images[part].detach().requires_grad_()
                made = self._features(parameters.detach(), leaf, activations)
            tapes.append(ModuleFeatureTape(leaf, made))
            found.append(made.map(lambda tensor: tensor.detach()))
        return join_features(found)

    def _features(
        self, parameters: Tensor, images: Tensor, activations: Sequence[int]
    ) -> Features:
        _, _, seen = self._copies()
        seen.begin([self._calls[place] for place in activations])
        try:
            logits = self._logits(parameters, images, training=False)
        finally:
            inputs, _, embedding = seen.end()
        if not self.n_features:
            embedding = None
        return Features(
            embedding=None if embedding is None else embedding.flatten(1),
            logits=logits,
            activations={place: inputs[self._calls[place]] for place in activations},
        )

    def _check_places(self, blocks: Sequence[int], activations: Sequence[int]) -> None:
        if len(blocks):
            raise ValueError("only a ConvNet has `blocks`")
        if len(activations):
            check_places(len(self._calls), activations=activations)

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
            As for :meth:`features`.

        Returns
        -------
        Features
            With a row for each class.
        """
        self._check_places(blocks, activations)
        n_groups = self.n_classes if n_groups is None else n_groups
        total: Features | None = None
        for part in _parts(len(images)):
            present, found = mean_of_part(
                self.features(parameters, images[part], activations=activations),
                codes[part],
                weights[part],
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
        tapes: list[ModuleFeatureTape] | None = None,
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
        places = list(adjoints.activations)
        self._check_places(list(adjoints.blocks), places)
        gradient = torch.empty_like(images)
        for number, part in enumerate(_parts(len(images))):
            own: list[ModuleFeatureTape] = []
            if tapes is None:
                self.features(parameters, images[part], activations=places, tapes=own)
            else:
                own = [tapes[number]]
            gradient[part] = _pulled_back(own[0], adjoints.rows(part))
        return gradient

    def feature_tape_bytes(
        self, n_samples: int, dtype: torch.dtype = torch.float32
    ) -> int:
        """Return so much that a graph is never kept: nobody knows how large it is."""
        return 2**62


def _are_the_same(one: Tensor, other: Tensor) -> bool:
    """Tell whether tensors are equal; memory that nobody has filled may hold NaN."""
    # Of sparse tensors PyTorch compares none.
    one, other = (each.to_dense() for each in (one, other))
    return torch.equal(one, other) or (
        one.shape == other.shape
        and bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all())
    )


def _parts(n_images: int) -> list[slice]:
    """Return which images go through the network together."""
    return [slice(first, first + _BATCH) for first in range(0, n_images, _BATCH)]


def _is_of(maps: Tensor, n_images: int) -> bool:
    """Tell whether a tensor has numbers for each image, apart from the others."""
    return maps.ndim >= 2 and len(maps) == n_images


def _make_twice_differentiable(module: nn.Module) -> None:
    """Let weight normalizations compute weights by operations with second derivatives.

    PyTorch takes those of ``torch._weight_norm`` as if the norm did not depend on the
    parameters, without an error.
    """
    for part in module.modules():
        if isinstance(part, _WeightNorm):
            vars(part)["forward"] = partial(_normalized, dim=part.dim)
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                compute = partial(_normalized_of, hook.name, hook.dim)
                vars(hook)["compute_weight"] = compute


def _normalized(length: Tensor, weight: Tensor, dim: int) -> Tensor:
    return weight * (length / torch.norm_except_dim(weight, 2, dim))


def _normalized_of(name: str, dim: int, layer: nn.Module) -> Tensor:
    return _normalized(getattr(layer, f"{name}_g"), getattr(layer, f"{name}_v"), dim)


def _pulled_back(tape: ModuleFeatureTape, adjoints: Features) -> Tensor:
    found = tape.features
    pairs = [(found.embedding, adjoints.embedding), (found.logits, adjoints.logits)]
    pairs += [
        (found.activations.get(place), adjoint)
        for place, adjoint in adjoints.activations.items()
    ]
    wanted = [(one, other) for one, other in pairs if one is not None is not other]
    for output, adjoint in wanted:
        assert adjoint is not None
        if output.shape != adjoint.shape:
            raise ValueError(
                "`adjoints` must have the shapes of the features, here "
                f"{tuple(output.shape)}; got {tuple(adjoint.shape)}"
            )
    outputs, weights = zip(*wanted, strict=True)
    (by_images,) = torch.autograd.grad(outputs, tape.images, weights, retain_graph=True)
    return by_images
