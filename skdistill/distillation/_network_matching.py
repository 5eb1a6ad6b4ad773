"""What distillers have in common that compare real and synthetic images by networks."""

from numbers import Integral
from typing import Any

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skdistill.distillation._engine._real_batches import RealData
from skdistill.distillation._iterative import IterativeDistiller
from skdistill.neural_network._augment import resolve_families
from skdistill.neural_network._convnet import ALL_NORMALIZATIONS
from skdistill.neural_network._default import describe_kind, own_parameters
from skdistill.neural_network._module_derivatives import Derivatives
from skdistill.neural_network._network_kind import (
    ARCHITECTURE_CONSTRAINT,
    NetworkKind,
    check_network_parameters,
    network_kind,
)
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
        "architecture": ARCHITECTURE_CONSTRAINT,
        "width": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 1, None, closed="left")],
        "normalization": [StrOptions(set(ALL_NORMALIZATIONS))],
    }

    # Found on CIFAR-10 and on galaxies (benchmarks/pixel_lr.py): with smaller steps
    # short runs from noise get nowhere, and with larger ones long runs are no better.
    _auto_step = 0.05

    batch_size: int | str | None
    n_networks: int | str
    augmentation: Any
    architecture: Any
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
                "`n_networks` must be at least the number of processes, "
                f"{n_processes}, since each process uses a network in each iteration; "
                f"got {self.n_networks_}"
            )

    def _check_networks(self, data: RealData) -> None:
        """Find out which networks there are; raise an error if they cannot compute."""
        kind = self._kind = self._find_kind(data)
        if not kind.is_convnet:
            # Batch normalization is found now.
            self._check_module(kind.derivatives(torch.device("cpu")))

    def _find_kind(self, data: RealData) -> NetworkKind:
        """Return which networks the parameters ask for."""
        check_network_parameters(
            self, ("real and synthetic batches must have the same structure")
        )
        # Unknown for custom networks.
        is_normalized = callable(self.architecture) or self.normalization != "none"
        check_pixel_unit(data.images, "instance" if is_normalized else "none")
        return network_kind(
            self.architecture,
            data.image_shape,
            data.n_classes,
            width=self.width,
            depth=self.depth,
            normalization=self.normalization,
            images=data.some_images(),
        )

    def _check_module(self, network: Derivatives) -> None:
        """Raise an error if the method cannot do with a network, not a ConvNet."""

    def _resolved_parameters(self) -> dict[str, Any]:
        return {
            "n_networks": self.n_networks_,
            "augmentation": list(self._families),
            **self._kind.signature(),
        }

    def _metadata(self) -> dict[str, Any]:
        return describe_kind(self._kind)

    def _own_network(self) -> dict[str, Any]:
        return own_parameters(self._kind)
