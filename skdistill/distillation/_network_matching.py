"""What distillers have in common that compare real and synthetic images by networks."""

from numbers import Integral
from typing import Any

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._iterative import IterativeDistiller
from skdistill.neural_network._augment import resolve_families
from skdistill.neural_network._convnet import ALL_NORMALIZATIONS, ConvNet
from skdistill.neural_network._default import describe_network
from skdistill.neural_network._training import check_pixel_unit
from skdistill.utils._distributed import Ranks


class NetworkMatchingDistiller(IterativeDistiller):
    """Base class of distillers that draw networks, and real images of each class."""

    _parameter_constraints: dict = {
        **IterativeDistiller._parameter_constraints,
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "n_networks": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "augmentation": [str, "array-like", None],
        "width": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 1, None, closed="left")],
        "normalization": [StrOptions(set(ALL_NORMALIZATIONS))],
    }

    batch_size: int | str | None
    n_networks: int | str
    augmentation: Any
    width: int
    depth: int
    normalization: str

    def _check_parameters(self, data: RealData) -> None:
        self._families = resolve_families(self.augmentation)
        self._check_networks(data)
        n_processes = Ranks().size
        self.n_networks_ = (
            n_processes if self.n_networks == "auto" else int(self.n_networks)
        )
        if self.n_networks_ < n_processes:
            raise ValueError(
                f"`n_networks` must be at least the number of processes, "
                f"{n_processes}, each of which takes a network in each iteration; got "
                f"{self.n_networks_}"
            )

    def _check_networks(self, data: RealData) -> None:
        """Raise an error if networks cannot compute with the images."""
        if self.normalization == "batch":
            raise ValueError(
                "`normalization`='batch' makes what a network computes of an image "
                "depend on the other images of its batch, and real and synthetic "
                "batches are not alike; use 'instance', 'layer', 'group' or 'none'"
            )
        check_pixel_unit(data.images, self.normalization)

    def _resolved_parameters(self) -> dict[str, Any]:
        return {"n_networks": self.n_networks_, "augmentation": list(self._families)}

    def _build(self) -> ConvNet:
        """Build a network, with weights from PyTorch's global generator."""
        return ConvNet(
            self.image_shape_,
            len(self.classes_),
            width=int(self.width),
            depth=int(self.depth),
            normalization=self.normalization,
        )

    def _structure(self) -> ConvNet:
        """Build the network without parameters."""
        with torch.device("meta"):
            return self._build()

    def _metadata(self) -> dict[str, Any]:
        return describe_network(
            width=self.width, depth=self.depth, normalization=self.normalization
        )
