import pytest

from skdistill.distillation._student import resolve_batch_size


def test_an_automatic_batch_holds_an_image_per_class():
    for n_images in (100, 1000):
        assert resolve_batch_size("auto", n_images, 100, (32, 32, 3)) == 100


@pytest.mark.parametrize(
    ("shape", "most"),
    [((32, 32, 3), 32), ((128, 128, 3), 32), ((16, 16, 1), 128), ((8, 8, 1), 512)],
)
def test_an_automatic_batch_holds_more_small_images(shape, most):
    for n_images, expected in [
        (most, most),
        (2 * most, most),
        (most + 1, (most + 2) // 2),
    ]:
        assert resolve_batch_size("auto", n_images, 10, shape) == expected


@pytest.mark.parametrize(("given", "expected"), [(None, 20), (7, 7), (99, 20)])
def test_a_batch_that_is_named_holds_no_more_than_there_is(given, expected):
    assert resolve_batch_size(given, 20, 10, (8, 8, 1)) == expected
