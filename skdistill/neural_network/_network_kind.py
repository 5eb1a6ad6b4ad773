"""Which network is drawn, trained or differentiated: one by name, or a user's own."""

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from torch import nn

from skdistill.neural_network._architectures import ARCHITECTURES, build_network
from skdistill.neural_network._convnet import ConvNet, n_parameters
from skdistill.neural_network._derivatives import ConvNetDerivatives
from skdistill.neural_network._module_derivatives import (
    Derivatives,
    ModuleDerivatives,
)
from skdistill.neural_network._own_network import OwnNetwork, own_network
from skdistill.utils._metadata import qualified_name
from skdistill.utils._random import isolated_torch_seed
from skdistill.utils._warnings import warn

# The architecture that has a width and a depth, and derivatives written out.
CONVNET = "convnet"

# What a parameter ``architecture`` can be.
ARCHITECTURE_CONSTRAINT = [StrOptions({CONVNET, *ARCHITECTURES}), callable]


@dataclass(frozen=True)
class NetworkKind:
    """Networks of one structure, each with weights of its own.

    Attributes
    ----------
    image_shape : tuple (height, width, channels)
    n_classes : int
    architecture : str or OwnNetwork
    width, depth : int or None
        None where the architecture has none.
    normalization : str or None
        None where the architecture has none.
    """

    image_shape: tuple[int, int, int]
    n_classes: int
    architecture: str | OwnNetwork = CONVNET
    width: int | None = None
    depth: int | None = None
    normalization: str | None = None

    @property
    def is_convnet(self) -> bool:
        """Whether these are ConvNets, whose derivatives are written out."""
        return self.architecture == CONVNET

    @property
    def source(self) -> Any:
        """What makes a user's own network; None if it is one of the library's."""
        if isinstance(self.architecture, OwnNetwork):
            return self.architecture.source
        return None

    def build(self) -> nn.Module:
        """Build a network, with weights from PyTorch's global generator."""
        # Weights are float32, also where PyTorch's default type is another.
        if isinstance(self.architecture, OwnNetwork):
            return self.architecture.build(self.image_shape, self.n_classes)
        if not self.is_convnet:
            return build_network(
                self.architecture,
                self.image_shape,
                self.n_classes,
                normalization=self.normalization or "none",
            ).float()
        assert self.width is not None
        assert self.depth is not None
        return ConvNet(
            self.image_shape,
            self.n_classes,
            width=self.width,
            depth=self.depth,
            normalization=self.normalization or "none",
        ).float()

    def build_structure(self) -> nn.Module:
        """Build the network without parameters; one of a user's with any."""
        if isinstance(self.architecture, OwnNetwork):
            return self.build_alike()
        with torch.device("meta"):
            return self.build()

    def build_alike(self) -> nn.Module:
        """Build the network with weights that are always the same.

        What a module draws beside its parameters, such as tables, is that of all
        networks.
        """
        with isolated_torch_seed(0):
            return self.build()

    def count_parameters(self) -> int:
        """Return the length of the vector of all parameters."""
        if isinstance(self.architecture, OwnNetwork):
            return self.architecture.n_parameters
        return n_parameters(self.build_structure())

    def derivatives(
        self,
        device: torch.device,
        *,
        compile: bool = False,
        loss: str = "cross_entropy",
    ) -> Derivatives:
        """Return the derivatives of the network.

        Parameters
        ----------
        device : torch.device
        compile : bool, default=False
            Whether to compile those of a ConvNet.
        loss : {"cross_entropy", "squared"}, default="cross_entropy"

        Returns
        -------
        ConvNetDerivatives or ModuleDerivatives

        Raises
        ------
        ValueError
            If the network is none whose images are treated alone.
        """
        if self.is_convnet:
            structure = self.build_structure()
            assert isinstance(structure, ConvNet)
            return ConvNetDerivatives(structure, compile=compile, loss=loss)
        height, width, channels = self.image_shape
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, channels, height, width, generator=generator)
        return ModuleDerivatives(self.build_alike(), images.to(device), loss=loss)

    def signature(self) -> dict[str, Any]:
        """Return what a checkpoint says of a user's network; else nothing.

        It is what the network is and computes, not the name of what makes it.
        """
        if not isinstance(self.architecture, OwnNetwork):
            return {}
        return {
            "architecture": {
                "n_parameters": self.architecture.n_parameters,
                "digest": self.architecture.digest,
            }
        }

    def classifier_parameters(self) -> dict[str, Any]:
        """Return the parameters of a classifier that say what the network is.

        With ``architecture`` among them they are those of a
        :class:`NetworkClassifier`, else those of a :class:`ConvNetClassifier`.
        """
        if self.source is not None:
            return {"architecture": self.source}
        names = ("width", "depth", "normalization")
        found = {name: getattr(self, name) for name in names}
        found = {name: value for name, value in found.items() if value is not None}
        if not self.is_convnet:
            found["architecture"] = self.architecture
        return found

    @property
    def name(self) -> str:
        """Return the name of the network, or of what makes it."""
        if isinstance(self.architecture, OwnNetwork):
            return qualified_name(self.architecture.source)
        return self.architecture


def network_kind(
    architecture: Any,
    image_shape: tuple[int, int, int],
    n_classes: int,
    *,
    width: int,
    depth: int,
    normalization: str,
    images: np.ndarray | None = None,
) -> NetworkKind:
    """Return which networks parameters ask for; one of a user's is tried.

    Parameters
    ----------
    architecture : str, callable or torch.nn.Module
    image_shape : tuple (height, width, channels)
    n_classes : int
    width, depth : int
        Of a ConvNet.
    normalization : str
        Of networks of the library.
    images : ndarray of shape (n_images, height, width, channels), default=None
        A few on which a user's network is tried; None draws some.

    Returns
    -------
    NetworkKind

    Raises
    ------
    ValueError
        If a user's network cannot be made, or does not make finite logits.
    """
    is_own = callable(architecture)
    if is_own:
        architecture = own_network(architecture, image_shape, n_classes, images)
    is_convnet = architecture == CONVNET
    return NetworkKind(
        image_shape,
        n_classes,
        architecture,
        int(width) if is_convnet else None,
        int(depth) if is_convnet else None,
        None if is_own or architecture == "mlp" else normalization,
    )


def check_network_parameters(estimator: Any, unfollowed: str) -> None:
    """Look at what an estimator's parameters say of its networks.

    Parameters
    ----------
    estimator : estimator
        With the parameters ``architecture``, ``width``, ``depth`` and
        ``normalization``.
    unfollowed : str
        What a batch normalization would lead to.

    Raises
    ------
    ValueError
        If ``normalization`` is "batch".
    """
    if estimator.normalization == "batch" and not callable(estimator.architecture):
        raise ValueError(
            "`normalization`='batch' makes the output for an image depend on the "
            f"other images of its batch, and {unfollowed}; use 'instance', 'layer', "
            "'group' or 'none'"
        )
    defaults = inspect.signature(type(estimator)).parameters
    unused = [
        f"`{name}`={getattr(estimator, name)}"
        for name in ("width", "depth")
        if getattr(estimator, name) != defaults[name].default
    ]
    is_convnet = isinstance(estimator.architecture, str) and (
        estimator.architecture == CONVNET
    )
    if unused and not is_convnet:
        warn(
            f"{' and '.join(unused)} {'are' if len(unused) > 1 else 'is'} ignored: "
            "only the architecture 'convnet' has `width` and `depth`"
        )
