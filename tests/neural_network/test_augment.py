"""Each family against a reference that is written image by image, in NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats

from skdistill.neural_network._augment import (
    FAMILIES,
    AugmentationDraw,
    augment,
    draw_augmentation,
    draw_class_augmentations,
    is_family,
    resolve_families,
    siamese,
    with_pull_back,
)

SHAPES = [(8, 8), (7, 12), (13, 5)]
TINY = [(1, 1), (1, 6), (5, 1), (2, 2)]


def _images(shape, n_samples=6, channels=3, seed=0):
    """Images as a tensor (n_samples, channels, height, width), float64."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(2.0, 1.0, size=(n_samples, channels, *shape)))


def _uniforms(n_samples=6, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=(n_samples, 3)))


def _integer(u, low, high):
    return low + min(math.floor(u * (high - low + 1)), high - low)


def _reference_color(image, u, scale=1.0):
    image = image + (u[0] - 0.5) * scale
    gray = image.mean(axis=0, keepdims=True)
    image = gray + 2 * u[1] * (image - gray)
    return image.mean() + (0.5 + u[2]) * (image - image.mean())


def _reference_crop(image, u):
    _, height, width = image.shape
    reach_y, reach_x = int(0.125 * height + 0.5), int(0.125 * width + 0.5)
    dy, dx = _integer(u[0], -reach_y, reach_y), _integer(u[1], -reach_x, reach_x)
    result = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row + dy < height and 0 <= column + dx < width:
                result[:, row, column] = image[:, row + dy, column + dx]
    return result


def _reference_cutout(image, u):
    _, height, width = image.shape
    sides = int(0.5 * height + 0.5), int(0.5 * width + 0.5)
    center_y = _integer(u[0], 0, height - sides[0] % 2)
    center_x = _integer(u[1], 0, width - sides[1] % 2)
    result = image.copy()
    for i in range(sides[0]):
        for j in range(sides[1]):
            row = min(max(center_y + i - sides[0] // 2, 0), height - 1)
            column = min(max(center_x + j - sides[1] // 2, 0), width - 1)
            result[:, row, column] = 0
    return result


def _reference_flip(image, u):
    return image[..., ::-1] if u[0] < 0.5 else image


def _sampled(image, matrix):
    """Bilinear samples at `matrix @ (pixel - center) + center`, zeros outside."""
    center = (np.array(image.shape[1:]) - 1) / 2
    return np.stack(
        [
            # grid-constant: pixels fade into the zeros around the image
            ndimage.affine_transform(
                plane, matrix, center - matrix @ center, order=1, mode="grid-constant"
            )
            for plane in image
        ]
    )


def _reference_scale(image, u):
    factor_x, factor_y = 1 / 1.2 + u[:2] * (1.2 - 1 / 1.2)
    return _sampled(image, np.diag([factor_y, factor_x]))


def _reference_rotate(image, u):
    angle = np.deg2rad((u[0] - 0.5) * 30)
    cosine, sine = np.cos(angle), np.sin(angle)
    return _sampled(image, np.array([[cosine, sine], [-sine, cosine]]))


REFERENCES = {
    "color": _reference_color,
    "crop": _reference_crop,
    "cutout": _reference_cutout,
    "flip": _reference_flip,
    "scale": _reference_scale,
    "rotate": _reference_rotate,
}


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_against_the_reference(family, shape, channels):
    images, uniforms = _images(shape, 12, channels), _uniforms(12)
    augmented = augment(images, AugmentationDraw(family, uniforms)).numpy()
    for image, u, result in zip(
        images.numpy(), uniforms.numpy(), augmented, strict=True
    ):
        expected = REFERENCES[family](image, u)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10)
    assert not np.allclose(augmented, images)


@pytest.mark.parametrize("family", ["color", "crop", "cutout", "flip"])
@pytest.mark.parametrize("shape", TINY)
def test_tiny_images_against_the_reference(family, shape):
    images, uniforms = _images(shape), _uniforms()
    augmented = augment(images, AugmentationDraw(family, uniforms)).numpy()
    for image, u, result in zip(
        images.numpy(), uniforms.numpy(), augmented, strict=True
    ):
        expected = REFERENCES[family](image, u)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", ["crop", "cutout"])
@given(
    u=st.tuples(*[st.sampled_from([0.0, 0.5, 1 - 2**-24, 1.0])] * 2),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_extreme_draws(family, u, shape):
    images = torch.arange(1.0, 1 + math.prod(shape)).view(1, 1, *shape)
    draw = AugmentationDraw(family, torch.tensor([[*u, 0.0]]))
    expected = REFERENCES[family](images[0].numpy(), u)
    np.testing.assert_array_equal(augment(images, draw)[0], expected)


CHAINS = ["color+crop+cutout", "cutout+crop", "rotate+flip+color+scale"]


@pytest.mark.parametrize("chain", CHAINS)
def test_chain_applies_its_families_in_turn(chain):
    families = (chain, "crop")
    draw = draw_augmentation(families, 6, torch.Generator().manual_seed(0))
    images, parts = _images((7, 12)), chain.split("+")
    uniforms = draw.uniforms.double()
    assert uniforms.shape == (6, 3 * len(parts))
    augmented = augment(images, AugmentationDraw(chain, uniforms)).numpy()
    for image, u, result in zip(
        images.numpy(), uniforms.numpy(), augmented, strict=True
    ):
        for place, family in enumerate(parts):
            image = REFERENCES[family](image, u[3 * place :][:3])
        np.testing.assert_allclose(result, image, rtol=0, atol=1e-10)
    # A shorter one among them takes what it needs of the same draws.
    alone = augment(images, AugmentationDraw("crop", uniforms[:, :3]))
    assert torch.equal(augment(images, AugmentationDraw("crop", uniforms)), alone)


def test_chain_with_too_few_draws_is_an_error():
    draw = AugmentationDraw("color+crop", _uniforms())
    with pytest.raises(ValueError, match=r"'color\+crop' requires 6 uniforms .* got 3"):
        augment(_images((4, 4)), draw)


@pytest.mark.parametrize("chain", CHAINS)
def test_chain_for_all_images_of_a_class(chain):
    images, codes = _images((6, 5)), torch.tensor([0, 1, 1, 0, 2, 2])
    drawn = draw_class_augmentations((chain,), 3, torch.Generator().manual_seed(0))
    together = drawn(images, codes)
    for row, code in enumerate(codes.tolist()):
        own = AugmentationDraw(chain, drawn.uniforms[[code]])
        alone = augment(images[[row]], own)[0]
        np.testing.assert_allclose(together[row], alone, rtol=1e-13, atol=1e-13)
    leaf = images.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: drawn(x, codes, 0.7), leaf)


def test_cutout_at_the_edges():
    images = torch.ones(2, 1, 8, 8)
    uniforms = torch.tensor([[0.0, 0.0, 0.0], [1 - 2**-24, 0.5, 0.0]])
    corner, bottom = augment(images, AugmentationDraw("cutout", uniforms))[:, 0]
    # Half of a square of 4 is inside; a center of 8 leaves rows 6 and 7.
    assert (corner[:2, :2] == 0).all()
    assert corner.sum() == 64 - 4
    assert (bottom[6:, 2:6] == 0).all()
    assert bottom.sum() == 64 - 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [*SHAPES[1:], *TINY])
@pytest.mark.parametrize("family", [*FAMILIES, "identity"])
def test_keeps_shape_and_type_and_the_given_images(family, shape, dtype):
    images = _images(shape, channels=2).to(dtype)
    before = images.clone()
    draw = AugmentationDraw(family, _uniforms().float())
    augmented = augment(images, draw)
    assert augmented.shape == images.shape
    assert augmented.dtype == dtype
    assert torch.isfinite(augmented).all()
    assert torch.equal(images, before)
    assert torch.equal(augment(images, draw), augmented)


@pytest.mark.parametrize("shape", [(4, 3), (1, 1), (1, 5)])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_with_respect_to_the_images(family, shape):
    images = _images(shape, 2, 2).requires_grad_()
    draw = AugmentationDraw(family, _uniforms(2))
    assert torch.autograd.gradcheck(lambda x: augment(x, draw, 0.7), images)


@pytest.mark.parametrize("family", FAMILIES)
def test_images_do_not_mix(family):
    images, uniforms = _images((6, 7)), _uniforms()
    together = augment(images, AugmentationDraw(family, uniforms))
    for i in range(len(images)):
        alone = augment(images[[i]], AugmentationDraw(family, uniforms[[i]]))
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 80.0])
def test_brightness_is_proportional_to_the_scale(scale):
    images = _images((4, 4))
    uniforms = _uniforms()
    uniforms[:, 1:] = 0.5  # saturation and contrast as they are
    augmented = augment(images, AugmentationDraw("color", uniforms), scale)
    shift = ((uniforms[:, 0] - 0.5) * scale)[:, None, None, None]
    np.testing.assert_allclose(augmented - images, shift.expand_as(images), atol=1e-12)


def test_color_is_the_same_in_any_unit():
    images, draw = _images((5, 4)), AugmentationDraw("color", _uniforms())
    np.testing.assert_allclose(
        augment(images * 255, draw, 255.0), 255 * augment(images, draw), rtol=1e-12
    )


@pytest.mark.parametrize("shape", [(21, 41), (41, 21)])
def test_rotation_does_not_shear(shape):
    """A disc stays a disc: its second moments do not change with the angle."""
    y, x = np.indices(shape) - (np.array(shape)[:, None, None] - 1) / 2
    disc = torch.from_numpy(np.exp(-(x**2 + y**2) / 18))[None, None]
    for u in (0.0, 1.0):
        draw = AugmentationDraw("rotate", torch.tensor([[u, 0.0, 0.0]]))
        turned = augment(disc, draw)[0, 0].numpy()
        np.testing.assert_allclose(turned, disc[0, 0], atol=0.02)


def test_rotation_turns_by_15_degrees_at_most():
    image = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    image[0, 0, 20, 21:] = 1
    y, x = np.indices((41, 41)) - 20
    angles = []
    for u in (0.0, 0.5, 1.0):
        draw = AugmentationDraw("rotate", torch.tensor([[u, 0.0, 0.0]]))
        turned = augment(image, draw)[0, 0].numpy()
        angles.append(np.degrees(np.arctan2((turned * y).sum(), (turned * x).sum())))
    np.testing.assert_allclose(angles[1], 0, atol=1e-9)
    np.testing.assert_allclose(np.abs([angles[0], angles[2]]), 15, atol=0.3)
    assert angles[0] * angles[2] < 0


def test_draws_follow_the_generator():
    def draw(seed):
        return draw_augmentation(FAMILIES, 5, torch.Generator().manual_seed(seed))

    first, second = draw(3), draw(3)
    assert first.family == second.family
    assert torch.equal(first.uniforms, second.uniforms)
    assert first.uniforms.shape == (5, 3)
    assert not torch.equal(first.uniforms, draw(4).uniforms)


def test_draws_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    draw = draw_augmentation(FAMILIES, 5, torch.Generator().manual_seed(0))
    augment(_images((4, 4), 5), draw)
    assert torch.equal(torch.get_rng_state(), before)


def test_families_and_uniforms_are_uniform():
    generator = torch.Generator().manual_seed(0)
    draws = [draw_augmentation(FAMILIES, 2, generator) for _ in range(1800)]
    counts = [sum(draw.family == family for draw in draws) for family in FAMILIES]
    assert sum(counts) == 1800
    # The seed is fixed: a fair draw fails once in ten thousand changes of torch.
    assert stats.chisquare(counts).pvalue > 1e-4
    uniforms = torch.cat([draw.uniforms for draw in draws])
    for column in uniforms.T:
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-4
    assert np.abs(np.corrcoef(uniforms.T) - np.eye(3)).max() < 5 / np.sqrt(3600)


def test_no_family_is_no_augmentation():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    draw = draw_augmentation((), 5, generator)
    images = _images((4, 4), 5)
    assert draw.family == "identity"
    assert augment(images, draw) is images
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    ("augmentation", "families"),
    [
        ("dsa", FAMILIES),
        (None, ()),
        ([], ()),
        ("flip", ("flip",)),
        (["flip", "crop"], ("flip", "crop")),
        (np.array(["rotate"]), ("rotate",)),
        ("color+crop", ("color+crop",)),
        (["flip", "crop+cutout"], ("flip", "crop+cutout")),
    ],
)
def test_resolve_families(augmentation, families):
    assert resolve_families(augmentation) == families


@pytest.mark.parametrize(
    "augmentation",
    ["DSA", "fold", ["flip", "fold"], [None], "crop+", "crop+fold", "crop,flip"],
)
def test_resolve_families_errors(augmentation):
    with pytest.raises(ValueError, match=r"`augmentation` must be 'dsa', None.*got"):
        resolve_families(augmentation)


def test_a_chain_has_no_family_twice():
    with pytest.raises(ValueError, match=r"twice in one chain: got 'crop\+flip\+crop'"):
        resolve_families(["color", "crop+flip+crop"])
    assert is_family("crop+flip")
    assert not is_family("crop+flip+crop")
    assert not is_family(("crop", "flip"))


@pytest.mark.parametrize("family", FAMILIES)
def test_one_augmentation_for_batches_of_different_sizes(family):
    row = torch.tensor([[0.2, 0.9, 0.6]], dtype=torch.float64)
    draw = AugmentationDraw(family, row)
    real, synthetic = _images((8, 9), 7), _images((8, 9), 3)
    synthetic[1] = real[4]
    seen_real = augment(real, siamese(draw, 7))
    seen_synthetic = augment(synthetic, siamese(draw, 3))
    # As each image alone, and so the same for one that both batches have.
    for images, seen in ((real, seen_real), (synthetic, seen_synthetic)):
        alone = torch.cat([augment(image[None], draw) for image in images])
        torch.testing.assert_close(seen, alone, rtol=1e-12, atol=1e-12)
        assert not torch.allclose(seen, images)
    torch.testing.assert_close(seen_synthetic[1], seen_real[4], rtol=1e-12, atol=1e-12)


def test_one_augmentation_is_of_one_row():
    draw = draw_augmentation(FAMILIES, 2, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="one row of uniforms; got 2"):
        siamese(draw, 5)
    nothing = draw_augmentation((), 1, torch.Generator())
    assert siamese(nothing, 5).family == "identity"


def test_classes_are_augmented_as_each_alone():
    generator = torch.Generator().manual_seed(1)
    drawn = draw_class_augmentations(FAMILIES, 9, generator)
    assert len(set(drawn.families)) > 2
    images = _images((6, 7), 40)
    codes = torch.randint(9, (40,), generator=generator)
    # Classes without images and images of any order.
    codes[codes == 3] = 5
    seen = drawn(images, codes, 2.0)
    for code in range(9):
        own = codes == code
        draw = AugmentationDraw(drawn.families[code], drawn.uniforms[code : code + 1])
        expected = augment(images[own], siamese(draw, int(own.sum())), 2.0)
        torch.testing.assert_close(seen[own], expected, rtol=1e-12, atol=1e-12)


def test_draws_of_classes_follow_the_generator():
    def draw(seed):
        return draw_class_augmentations(
            FAMILIES, 30, torch.Generator().manual_seed(seed)
        )

    first, second = draw(3), draw(3)
    assert first.families == second.families
    assert torch.equal(first.uniforms, second.uniforms)
    assert set(first.families) == set(FAMILIES)
    assert first.uniforms.shape == (30, 3)
    assert not torch.equal(first.uniforms, draw(4).uniforms)
    images = _images((4, 4), 5)
    nothing = draw_class_augmentations((), 3, torch.Generator())
    assert nothing(images, torch.zeros(5, dtype=torch.int64)) is images


@pytest.mark.parametrize("family", [*FAMILIES, "identity"])
def test_gradients_come_back_through_an_augmentation(family):
    images, gradient = _images((6, 7), 4), _images((6, 7), 4).flip(0)
    draw = AugmentationDraw(family, torch.rand(4, 3, dtype=torch.float64))
    with torch.no_grad():
        seen, pull_back = with_pull_back(lambda some: augment(some, draw), images)
    assert not seen.requires_grad
    assert torch.equal(seen, augment(images, draw))
    # All families are affine in the pixels: differences are exact but for rounding.
    direction = _images((6, 7), 4).roll(1, 0)
    change = augment(images + direction, draw) - seen
    expected = float((gradient * change).sum())
    found = pull_back(gradient)
    assert not found.requires_grad
    assert float((found * direction).sum()) == pytest.approx(expected, rel=1e-9)
    assert not images.requires_grad
