"""Differentiable Siamese augmentation (DSA) as plain functions of tensors.

One family of transformations, or chain of families, is drawn per batch, and its
parameters per image.  The draws are data: if they are kept, they replay the very same
augmentation, which the backward pass through a student does.

References
----------
Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation",
ICML 2021, section 3.2.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

FAMILIES = ("color", "crop", "cutout", "flip", "scale", "rotate")

# Strengths, as in the benchmarks that all compare under DSA.
BRIGHTNESS = 1.0  # width of the shift, in units of the standard deviation
SATURATION = 2.0
CONTRAST = 0.5
CROP_RATIO = 0.125
CUTOUT_RATIO = 0.5
SCALE_RATIO = 1.2
ROTATION_DEGREES = 15.0

N_UNIFORMS = 3  # the most that a family needs per image
# Between the families of a chain, which are applied one after the other.
CHAIN = "+"


@dataclass(frozen=True)
class AugmentationDraw:
    """Everything random of the augmentation of one batch.

    Attributes
    ----------
    family : str
        One of the six families, a chain of them, or "identity".
    uniforms : Tensor of shape (n_samples, n_uniforms)
        Uniform draws from [0, 1), from which the parameters of each image follow: three
        for each family of the longest chain.
    """

    family: str
    uniforms: Tensor


def resolve_families(augmentation: str | Sequence[str] | None) -> tuple[str, ...]:
    """Turn the ``augmentation`` parameter of an estimator into a tuple of families.

    Parameters
    ----------
    augmentation : "dsa", None, str or sequence of str
        All six families, none, or those named: "crop", or "color+crop+cutout" for a
        chain.

    Returns
    -------
    families : tuple of str

    Raises
    ------
    ValueError
        If there is no such family, or a chain has one twice.
    """
    if augmentation is None:
        return ()
    if isinstance(augmentation, str):
        if augmentation == "dsa":
            return FAMILIES
        augmentation = (augmentation,)
    families = tuple(augmentation)
    for family in families:
        parts = family.split(CHAIN) if isinstance(family, str) else [family]
        if unknown := [part for part in parts if part not in FAMILIES]:
            raise ValueError(
                "`augmentation` must be 'dsa', None, a family from "
                f"{FAMILIES}, a chain of them such as 'color+crop', or a sequence of "
                f"these; got {unknown[0]!r}"
            )
        if len(set(parts)) < len(parts):
            raise ValueError(
                "`augmentation` must not have a family twice in one chain: got "
                f"{family!r}"
            )
    return families


def is_family(value: object) -> bool:
    """Whether a value is a family or a chain of them."""
    if not isinstance(value, str):
        return False
    parts = value.split(CHAIN)
    return len(set(parts)) == len(parts) and all(part in FAMILIES for part in parts)


def n_uniforms(families: Sequence[str]) -> int:
    """Return the number of uniform draws per image that any of the families needs."""
    longest = max((family.count(CHAIN) + 1 for family in families), default=1)
    return N_UNIFORMS * longest


def draw_augmentation(
    families: Sequence[str], n_samples: int, generator: torch.Generator
) -> AugmentationDraw:
    """Draw one family and the parameters of ``n_samples`` images."""
    if not families:
        return AugmentationDraw("identity", torch.empty(0, N_UNIFORMS))
    index = int(torch.randint(len(families), (), generator=generator))
    uniforms = torch.rand(n_samples, n_uniforms(families), generator=generator)
    return AugmentationDraw(families[index], uniforms)


def siamese(draw: AugmentationDraw, n_samples: int) -> AugmentationDraw:
    """Return the draw that augments n images by the single row of another draw.

    Parameters
    ----------
    draw : AugmentationDraw
        Of one image, or none at all.
    n_samples : int

    Returns
    -------
    AugmentationDraw
    """
    if draw.family == "identity":
        return draw
    if len(draw.uniforms) != 1:
        raise ValueError(
            "one augmentation for all images requires one row of uniforms; got "
            f"{len(draw.uniforms)}"
        )
    return AugmentationDraw(draw.family, draw.uniforms.expand(n_samples, -1))


@dataclass(frozen=True)
class ClassAugmentations:
    """One augmentation for all images of a class, real or synthetic.

    Attributes
    ----------
    families : tuple of str
        That of each class; empty where nothing is augmented.
    uniforms : Tensor of shape (n_classes, n_uniforms)
        Uniform draws from [0, 1), from which the parameters of each class follow.
    """

    families: tuple[str, ...]
    uniforms: Tensor

    def __call__(self, images: Tensor, codes: Tensor, scale: float = 1.0) -> Tensor:
        """Augment images, those of classes of one family in one go; differentiable.

        Parameters
        ----------
        images : Tensor of shape (n_samples, channels, height, width)
        codes : Tensor of shape (n_samples,), int64
            The class of each.
        scale : float, default=1.0
            As for :func:`augment`.

        Returns
        -------
        Tensor of shape (n_samples, channels, height, width)
        """
        if not self.families:
            return images
        uniforms = self.uniforms.to(images.device)[codes]
        parts, places = [], []
        for family in sorted(set(self.families)):
            own = torch.tensor([other == family for other in self.families])
            rows = own.to(images.device)[codes].nonzero()[:, 0]
            draw = AugmentationDraw(family, uniforms[rows])
            parts.append(augment(images[rows], draw, scale))
            places.append(rows)
        return torch.cat(parts)[torch.cat(places).argsort()]


def draw_class_augmentations(
    families: Sequence[str], n_classes: int, generator: torch.Generator
) -> ClassAugmentations:
    """Draw a family for each class, and the parameters of all its images.

    Parameters
    ----------
    families : sequence of str
    n_classes : int
    generator : torch.Generator
        On the CPU: the same draws on any device.

    Returns
    -------
    ClassAugmentations
    """
    if not families:
        return ClassAugmentations((), torch.empty(0, N_UNIFORMS))
    drawn = torch.randint(len(families), (n_classes,), generator=generator)
    uniforms = torch.rand(n_classes, n_uniforms(families), generator=generator)
    return ClassAugmentations(tuple(families[k] for k in drawn.tolist()), uniforms)


def with_pull_back(
    function: Callable[[Tensor], Tensor], images: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Augment images, and return what brings gradients back to them.

    Parameters
    ----------
    function : callable
        Augments a tensor of images, and returns that tensor where it does not.
    images : Tensor of shape (n_samples, channels, height, width)

    Returns
    -------
    seen : Tensor of shape (n_samples, channels, height, width)
        Without a graph.
    pull_back : callable
        Turns a gradient with respect to ``seen`` into one with respect to ``images``;
        may be called once.
    """
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        graph = function(leaf)
    if graph is leaf:
        return images.detach(), lambda gradient: gradient

    def pull_back(gradient: Tensor) -> Tensor:
        return torch.autograd.grad(graph, leaf, gradient)[0]

    return graph.detach(), pull_back


def augment(images: Tensor, draw: AugmentationDraw, scale: float = 1.0) -> Tensor:
    """Apply a drawn augmentation; differentiable with respect to the images.

    Parameters
    ----------
    images : Tensor of shape (n_samples, channels, height, width)
    draw : AugmentationDraw
    scale : float, default=1.0
        The standard deviation of the pixels, so that brightness changes by as much in
        any unit of the pixels; 1 for standardized images, as in the literature.

    Returns
    -------
    Tensor of shape (n_samples, channels, height, width)

    Raises
    ------
    ValueError
        If there are fewer draws than the families of a chain need.
    """
    if draw.family == "identity":
        return images
    uniforms = draw.uniforms.to(device=images.device, dtype=images.dtype)
    families = draw.family.split(CHAIN)
    if uniforms.shape[1] < (needed := n_uniforms([draw.family])):
        raise ValueError(
            f"the augmentation {draw.family!r} requires {needed} uniforms per image; "
            f"got {uniforms.shape[1]}"
        )
    # There are more where another of the families is a longer chain.
    for family, own in zip(families, uniforms.split(N_UNIFORMS, dim=1), strict=False):
        if family == "color":
            images = _color(images, own, scale)
        else:
            images = _GEOMETRIC[family](images, own)
    return images


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _color(images: Tensor, uniforms: Tensor, scale: float) -> Tensor:
    """Brightness, then saturation about the gray value, then contrast."""
    brightness, saturation, contrast = uniforms.unbind(1)
    images = images + _per_image((brightness - 0.5) * (BRIGHTNESS * scale))
    gray = images.mean(dim=1, keepdim=True)
    images = (images - gray) * _per_image(saturation * SATURATION) + gray
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * _per_image(contrast + CONTRAST) + mean


def _reach(ratio: float, size: int) -> int:
    return int(ratio * size + 0.5)


def _uniform_integers(uniforms: Tensor, low: int, high: int) -> Tensor:
    """Integers from low to high, both included, from draws in [0, 1)."""
    # A draw next to 1 is 1 in a type of fewer bits: hence the clamp.
    integers = (uniforms * (high - low + 1)).floor().long()
    return integers.clamp_(max=high - low) + low


def _crop(images: Tensor, uniforms: Tensor) -> Tensor:
    """Shift by whole pixels, zeros where nothing was."""
    height, width = images.shape[-2:]
    reach_y, reach_x = _reach(CROP_RATIO, height), _reach(CROP_RATIO, width)
    shift_y = _uniform_integers(uniforms[:, 0], -reach_y, reach_y)
    shift_x = _uniform_integers(uniforms[:, 1], -reach_x, reach_x)
    padded = F.pad(images, (reach_x, reach_x, reach_y, reach_y))
    rows = torch.arange(height, device=images.device) + (shift_y[:, None] + reach_y)
    columns = torch.arange(width, device=images.device) + (shift_x[:, None] + reach_x)
    # Two gathers along one axis each are several times faster, forward and backward,
    # than indexing both axes at once.
    n_samples, channels = images.shape[:2]
    rows = rows[:, None, :, None].expand(-1, channels, -1, padded.shape[-1])
    columns = columns[:, None, None, :].expand(n_samples, channels, height, -1)
    return padded.gather(2, rows).gather(3, columns)


def _cutout(images: Tensor, uniforms: Tensor) -> Tensor:
    """A square of zeros, its center anywhere, its far parts clamped at the edges."""

    def kept(size: int, draws: Tensor) -> Tensor:
        side = _reach(CUTOUT_RATIO, size)
        center = _uniform_integers(draws, 0, size - (side % 2))
        first = (center - side // 2)[:, None]
        pixels = torch.arange(size, device=images.device)
        # An index outside the image is moved to its edge, as in the reference, where
        # the square then covers the edge row.
        low = first.clamp(0, size - 1)
        high = (first + side - 1).clamp(0, size - 1)
        return (pixels < low) | (pixels > high)

    height, width = images.shape[-2:]
    keep = (
        kept(height, uniforms[:, 0])[:, :, None] | kept(width, uniforms[:, 1])[:, None]
    )
    return images * keep[:, None].to(images.dtype)


def _flip(images: Tensor, uniforms: Tensor) -> Tensor:
    return torch.where(_per_image(uniforms[:, 0] < 0.5), images.flip(-1), images)


def _scale(images: Tensor, uniforms: Tensor) -> Tensor:
    """Stretch each axis by its own factor between 1/1.2 and 1.2."""
    low = 1.0 / SCALE_RATIO
    factors = low + uniforms[:, :2] * (SCALE_RATIO - low)
    zero = torch.zeros_like(factors[:, 0])
    return _affine(images, factors[:, 0], zero, zero, factors[:, 1])


def _rotate(images: Tensor, uniforms: Tensor) -> Tensor:
    """Turn by up to 15 degrees either way."""
    angle = (uniforms[:, 0] - 0.5) * (2.0 * math.radians(ROTATION_DEGREES))
    cosine, sine = torch.cos(angle), torch.sin(angle)
    # The sampling grid runs from -1 to 1 on both axes: without the ratio of the sides
    # an image that is not square would be sheared.
    height, width = images.shape[-2:]
    aspect = max(height - 1, 1) / max(width - 1, 1)
    return _affine(images, cosine, -sine * aspect, sine / aspect, cosine)


def _affine(images: Tensor, xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor) -> Tensor:
    """Sample at (xx x + xy y, yx x + yy y), zeros outside; both sides are -1 to 1."""
    # Not F.affine_grid, which warns where a side has one pixel.
    y, x = (
        torch.linspace(-1.0, 1.0, side, device=images.device, dtype=images.dtype)
        if side > 1
        else images.new_zeros(1)
        for side in images.shape[-2:]
    )
    y = y[:, None]
    xx, xy, yx, yy = (factor[:, None, None] for factor in (xx, xy, yx, yy))
    grid = torch.stack([xx * x + xy * y, yx * x + yy * y], dim=-1)
    return F.grid_sample(images, grid, align_corners=True)


_GEOMETRIC = {
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
