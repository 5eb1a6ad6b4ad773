"""The real images of a fit, and mini-batches of them, as objectives read them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skdistill.distillation._engine._objective import Draw
from skdistill.utils._images import Images, select
from skdistill.utils._pixel_space import PixelSpace, pixel_scale, pixel_space
from skdistill.utils._tensors import RealImages


class RealBatch(NamedTuple):
    """Real images, class after class.

    Attributes
    ----------
    images : Tensor of shape (n_batch, channels, height, width)
    codes : Tensor of shape (n_batch,), int64
        The class of each.
    weights : Tensor of shape (n_batch,)
        Of each image in the mean of its class; they sum to 1 in each class.
    sizes : tuple of int
        Number of images of each class that was asked for.
    """

    images: Tensor
    codes: Tensor
    weights: Tensor
    sizes: tuple[int, ...]


class RealData:
    """The real images of a fit; they are held once and may be a map of a file.

    Parameters
    ----------
    images : ndarray or Rows of shape (n_samples, height, width, channels)
        Images of positive weight.
    codes : ndarray of shape (n_samples,), int
        The class of each, as a position in ``classes``.
    weight : ndarray of shape (n_samples,) or None
    classes : ndarray of shape (n_classes,)
    device : torch.device
        Of what is drawn.
    fingerprint : str
        Of images, classes and weights.
    given : tuple of X, y, sample_weight
        As the user gave them, images of weight 0 included.

    Attributes
    ----------
    rows : list of ndarray of int
        The positions of the images of each class.
    pixel_space : PixelSpace
    """

    def __init__(
        self,
        images: Images,
        codes: np.ndarray,
        weight: np.ndarray | None,
        classes: np.ndarray,
        *,
        device: torch.device,
        fingerprint: str,
        given: tuple[Any, Any, Any],
    ) -> None:
        self.images = images
        self.codes = codes
        self.weight = weight
        self.classes = classes
        self.device = device
        self.fingerprint = fingerprint
        self.given = given
        self.rows = [np.flatnonzero(codes == code) for code in range(len(classes))]
        self._weights = [self._weights_of(rows) for rows in self.rows]
        self.pixel_space: PixelSpace = pixel_space(images)
        self._read: RealImages | None = None
        self._scale: float | None = None

    def _weights_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the weights of a class, None where all of them are equal.

        Images may be left out by a weight of 0, where the others weigh 1: then the fit
        is the one of these alone.
        """
        if self.weight is None:
            return None
        weight = self.weight[rows]
        return None if (weight == weight[0]).all() else weight

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, n_channels = self.images.shape[1:]
        return height, width, n_channels

    @property
    def pixel_scale(self) -> float:
        """Standard deviation of all pixels, 1 where they are all the same."""
        if self._scale is None:
            self._scale = pixel_scale(self.images)
        return self._scale

    def some_images(self) -> np.ndarray:
        """Return up to four images, to try something on."""
        some = np.sort(np.concatenate([rows[:2] for rows in self.rows[:2]]))
        return np.asarray(select(self.images, some))

    def batch(
        self,
        draw: Draw,
        n_per_class: int | None,
        classes: Sequence[int] | None = None,
        *,
        key: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> RealBatch:
        """Draw images of each class.

        Parameters
        ----------
        draw : Draw
            Decides, with ``key`` and the class, which they are.
        n_per_class : int or None
            How many of each class; where there are no more, all, and None takes all.
            Without weights, or with equal ones in a class, no image comes twice.
            With others they are drawn independently of each other, with probabilities
            in proportion to the weights: means over the batch are means over the
            class on average.
        classes : sequence of int, default=None
            Positions in ``classes`` of those wanted; None means all.
        key : int, default=0
            Tells the batches of one draw apart.
        dtype : torch.dtype, default=torch.float32

        Returns
        -------
        RealBatch
        """
        wanted = range(self.n_classes) if classes is None else classes
        chosen, weights = [], []
        for code in wanted:
            rows = self.rows[code]
            weight = self._weights[code]
            if n_per_class is None or n_per_class >= len(rows):
                share = np.ones(len(rows)) if weight is None else weight
                chosen.append(rows)
                weights.append(share / share.sum())
                continue
            rng = draw.rng(key, code)
            chosen.append(
                rng.choice(rows, n_per_class, replace=False)
                if weight is None
                else rng.choice(rows, n_per_class, p=weight / weight.sum())
            )
            weights.append(np.full(n_per_class, 1.0 / n_per_class))
        positions = np.concatenate(chosen)
        return RealBatch(
            self.read(positions, dtype),
            torch.from_numpy(self.codes[positions]).to(self.device),
            torch.from_numpy(np.concatenate(weights)).to(self.device, dtype),
            tuple(len(rows) for rows in chosen),
        )

    def batches(
        self,
        draw: Draw,
        n_per_class: int | None,
        max_images: int,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> Iterator[RealBatch]:
        """Draw images of each class, some classes that follow each other at a time.

        Parameters
        ----------
        draw : Draw
        n_per_class : int or None
            As for :meth:`batch`.
        max_images : int
            Maximum number of images in memory, or those of one class.
        dtype : torch.dtype, default=torch.float32

        Yields
        ------
        RealBatch
            All of them together are what :meth:`batch` returns.
        """
        sizes = [len(rows) for rows in self.rows]
        if n_per_class is not None:
            sizes = [min(size, n_per_class) for size in sizes]
        first = 0
        while first < self.n_classes:
            last, n_images = first + 1, sizes[first]
            while last < self.n_classes and n_images + sizes[last] <= max_images:
                n_images += sizes[last]
                last += 1
            yield self.batch(draw, n_per_class, range(first, last), dtype=dtype)
            first = last

    def read(self, positions: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return images as a tensor of shape (n, channels, height, width)."""
        if self._read is None:
            self._read = RealImages(self.images, self.device)
        found = self._read[torch.from_numpy(np.ascontiguousarray(positions))]
        return found.to(dtype)
