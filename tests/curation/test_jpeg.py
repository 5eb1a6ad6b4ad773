"""Damaged JPEG files: an image or an error, never a silent gray half."""

import io
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from skdistill.curation import ImageReader
from skdistill.curation._decode import decode
from skdistill.curation._jpeg import decode_jpeg

KINDS = {
    "plain": {},
    "full color": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
}


def make_jpeg(width=48, height=40, *, gray=False, seed=0, noise=6, **options):
    """Blobs with noise, as a file."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    pixels = rng.normal(20, noise, (height, width, 3))
    for _ in range(6):
        distance = (x - rng.uniform(0, width)) ** 2 + (y - rng.uniform(0, height)) ** 2
        blob = np.exp(-distance / rng.uniform(50, 500))
        pixels += blob[..., None] * rng.uniform(20, 90, 3)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    options = {"quality": 80} | options
    (image.convert("L") if gray else image).save(file, "JPEG", **options)
    return file.getvalue()


def gray_share(image, original):
    """Share of the 8 x 8 blocks that have become what libjpeg fills in."""

    def gray(picture):
        pixels = np.asarray(picture.convert("RGB"), dtype=float)
        height, width = (side // 8 * 8 for side in pixels.shape[:2])
        blocks = pixels[:height, :width].reshape(height // 8, 8, width // 8, 8, 3)
        flat = np.ptp(blocks, axis=(1, 3)).max(axis=-1) == 0
        return flat & (np.abs(blocks.mean(axis=(1, 3)) - 128).max(axis=-1) < 2)

    if image.size != original.size:
        return gray(image).mean()
    return (gray(image) & ~gray(original)).mean()


@given(data=st.data())
def test_sound_files_are_those_of_pillow(data):
    content = make_jpeg(
        data.draw(st.integers(1, 70)),
        data.draw(st.integers(1, 70)),
        gray=data.draw(st.booleans()),
        seed=data.draw(st.integers(0, 99)),
        noise=data.draw(st.sampled_from([0, 3, 50])),
        quality=data.draw(st.integers(1, 100)),
        optimize=data.draw(st.booleans()),
        progressive=data.draw(st.booleans()),
        subsampling=data.draw(st.sampled_from([0, 1, 2])),
        restart_marker_blocks=data.draw(st.integers(0, 5)),
    )
    expected = Image.open(io.BytesIO(content))
    assert decode_jpeg(content).tobytes() == expected.tobytes()
    # What follows the image does not count; nor do markers with more than one FF.
    assert decode_jpeg(content + b"\0\xff\xd9").tobytes() == expected.tobytes()
    filled = content[:-2] + b"\xff" + content[-2:]
    assert decode_jpeg(filled).tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_is_an_error(kind):
    content = make_jpeg(**KINDS[kind])
    for length in range(len(content)):
        with pytest.raises((ValueError, OSError)):
            decode(content[:length])


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_byte_is_an_image_or_an_error(kind):
    content = make_jpeg(**KINDS[kind])
    original = Image.open(io.BytesIO(content))
    n_errors = 0
    for position in range(len(content)):
        for flip in (1, 16, 128, 255):
            damaged = bytearray(content)
            damaged[position] ^= flip
            try:
                image = decode(bytes(damaged))
            # The reader makes a ValueError with the name of the file of any of these.
            except Exception as error:
                assert str(error)  # noqa: PT017
                n_errors += 1
            else:
                assert gray_share(image, original) <= 4 / 30
    assert n_errors > 0.1 * 4 * len(content)


@pytest.mark.parametrize("kind", ["plain", "full color", "restarts"])
def test_data_that_are_missing_or_too_many_are_found(kind):
    """Here Pillow alone sees nothing: it fills with gray, or ignores the rest."""
    content = make_jpeg(96, 96, **KINDS[kind])
    start = content.index(b"\xff\xda") + 14
    middle = (start + len(content)) // 2
    missing = content[:middle] + content[-2:]
    Image.open(io.BytesIO(missing)).load()
    with pytest.raises(ValueError, match=r"end too early|stretches"):
        decode_jpeg(missing)
    if kind != "restarts":
        more = content[:-2] + content[middle : middle + 9] + content[-2:]
        Image.open(io.BytesIO(more)).load()
        with pytest.raises(ValueError, match="continue after the last pixel"):
            decode_jpeg(more)


def test_half_of_a_progressive_file_is_found():
    content = make_jpeg(96, 96, progressive=True)
    # The first scan has the mean brightness of all blocks.
    start = content.index(b"\xff\xda") + 14
    end = content.index(b"\xff", start)
    cut = content[: (start + end) // 2] + content[end:]
    Image.open(io.BytesIO(cut)).load()
    with pytest.raises(ValueError, match="end too early"):
        decode_jpeg(cut)


def test_headers_that_make_no_sense():
    content = make_jpeg()
    frame = content.index(b"\xff\xc0")
    scan = content.index(b"\xff\xda")
    for damaged, message in [
        (content[:2] + b"\0\0" + content[2:], "no segment starts at byte 2"),
        (content[:4] + b"\xff\xff" + content[6:], "longer than the file"),
        (content[:scan] + content[frame:scan] + content[scan:], "two headers"),
        (content[:frame] + content[scan:], "does not fit that of the frame"),
        (content[:scan] + b"\xff\xd9", "no image data"),
        (content[:-2] + b"\xff\xd3" + content[-2:], "stretches|out of place"),
    ]:
        with pytest.raises(ValueError, match=message):
            decode_jpeg(damaged)


def test_a_file_of_very_many_scans_is_refused():
    content = make_jpeg(progressive=True)
    scan = content.rindex(b"\xff\xda")
    bomb = content[:scan] + content[scan:-2] * 200 + b"\xff\xd9"
    with pytest.raises(ValueError, match="more than 100 scans"):
        decode_jpeg(bomb)


def test_real_files_cut_short_or_changed(shared_data, tmp_path):
    folder = shared_data / "gz2-sample" / "images"
    rng = np.random.default_rng(0)
    reader = ImageReader(images_dir=tmp_path, size=8)
    for name in sorted(os.listdir(folder))[:4]:
        content = (folder / name).read_bytes()
        original = Image.open(io.BytesIO(content))
        for length in rng.integers(0, len(content), 10):
            (tmp_path / name).write_bytes(content[:length])
            with pytest.raises(ValueError, match=f"cannot read .*{name}"):
                reader.transform([name])
        for position in rng.integers(0, len(content), 40):
            damaged = bytearray(content)
            damaged[position] ^= 1 << rng.integers(8)
            try:
                image = decode(bytes(damaged))
            except Exception as error:
                assert str(error)  # noqa: PT017
            else:
                assert gray_share(image, original) < 0.005


def test_files_of_several_pictures():
    """Of a camera's stereo pair the first counts."""
    first, second = (Image.open(io.BytesIO(make_jpeg(seed=seed))) for seed in (0, 1))
    file = io.BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second])
    expected = Image.open(io.BytesIO(file.getvalue()))
    assert decode_jpeg(file.getvalue()).tobytes() == expected.tobytes()


def test_four_inks():
    file = io.BytesIO()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (20, 20, 4), dtype=np.uint8)
    Image.fromarray(pixels, "CMYK").save(file, "JPEG")
    expected = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
    assert decode(file.getvalue()).tobytes() == expected.tobytes()
