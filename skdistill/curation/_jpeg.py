"""Decode JPEG files without passing over damage in silence.

libjpeg fills what it cannot decode with gray and warns; Pillow does not pass the
warning on.  Whether the decoder had too few data or too many shows all the same in how
far it reads: the compressed data of a sound file last to the last pixel, no further.
"""

import io
import re
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

# In compressed data FF is followed by 00; anything else is a marker. FF may repeat.
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
# The same without the repetition, which costs twenty times as long to look for.
_MARKER_IN_DATA = re.compile(rb"\xff([^\x00\xff])")
_START_OF_SCAN, _END_OF_IMAGE, _RESTART_INTERVAL = 0xDA, 0xD9, 0xDD
_RESTARTS = range(0xD0, 0xD8)
# Each scan of a progressive file passes over all pixels; ten are usual.
_MAX_SCANS = 100
# Start of frame, by coding: baseline and extended Huffman, progressive Huffman.
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
_OTHER_CODINGS = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_FRAMES = frozenset((*_SEQUENTIAL, _PROGRESSIVE, *_OTHER_CODINGS))

# The decoder looks 8 bytes ahead. Bits of 1 are no code of any Huffman table: each
# costs the decoder 17 bits, so that this lasts for four blocks of 8 x 8 pixels at most.
_ONES = b"\xff\x00" * 8
# Decodes to something, but not to what libjpeg fills in.
_NOISE = bytes((i * 167 + 41) % 255 for i in range(64))
# What begins as JPEG does; several images in a file are a variety.
_FORMATS = ("JPEG", "MPO")
# A sound file needs these last bytes of its compressed data.
_TAIL = 3


@dataclass
class _Layout:
    """Where the compressed data of a file lie."""

    # Start of frame: the marker, height, width, and samplings by component.
    coding: int | None = None
    height: int = 0
    width: int = 0
    samplings: dict[int, tuple[int, int]] = field(default_factory=dict)
    # Units of blocks between two restart markers; 0 where there are none.
    restart_interval: int = 0
    n_scans: int = 0
    # Start and end of each stretch of compressed data between two markers.
    stretches: list[tuple[int, int]] = field(default_factory=list)

    def n_units(self, components: bytes) -> int:
        """Count the units of blocks in a scan of some of the components."""
        widest = max(across for across, _ in self.samplings.values())
        tallest = max(down for _, down in self.samplings.values())
        if len(components) > 1:
            across, down = 1, 1
        else:
            # Alone a component is coded block by block.
            across, down = self.samplings[components[0]]
        n_across = -(-self.width * across // (8 * widest))
        return n_across * -(-self.height * down // (8 * tallest))


def decode_jpeg(content: bytes) -> Image.Image:
    """Decode a whole JPEG file, or say why that cannot be.

    Parameters
    ----------
    content : bytes
        The file.

    Returns
    -------
    image : PIL.Image.Image
        The decoded image in the mode that the file has.

    Raises
    ------
    OSError
        If Pillow cannot decode it.
    ValueError
        If the compressed data end too early or too late, if they are interrupted by
        foreign markers or bytes, or if the image has too many pixels.

    Notes
    -----
    Found is what shifts the compressed data by more than about four blocks of 8 x 8
    pixels, hence all that libjpeg would fill with gray beyond these.  In progressive
    files and those with restart markers only data that end early are found, at the
    price of a second decoding.  Not found is a change after which the data are those of
    another image, as a flipped bit of a brightness is.  Arithmetic coding cannot be
    checked.
    """
    layout = _parse(content)
    if len(layout.stretches) == 1 and layout.coding in _SEQUENTIAL:
        return _decode_watched(content, *layout.stretches[0])

    image = open_checked(io.BytesIO(content), _FORMATS)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height * layout.n_scans > 10 * limit:
        raise ValueError(
            f"{layout.n_scans} scans of {image.width} x {image.height} pixels would "
            "take too long to decode"
        )
    image.load()
    if layout.coding in (*_SEQUENTIAL, _PROGRESSIVE):
        pieces, start = [], 0
        for _, end in layout.stretches:
            pieces += [content[start:end], _NOISE]
            start = end
        joined = io.BytesIO(b"".join([*pieces, content[start:]]))
        again = Image.open(joined, formats=_FORMATS)
        again.load()
        if not _are_equal(image, again):
            raise ValueError("the compressed data end too early: the file is corrupted")
    return image


def _are_equal(image: Image.Image, other: Image.Image) -> bool:
    # Some rows at a time: the bytes of all would take as much memory again, twice.
    if image.size != other.size:
        return False
    step = max(1, 2**20 // image.width)
    boxes = [
        (0, top, image.width, min(top + step, image.height))
        for top in range(0, image.height, step)
    ]
    return all(image.crop(b).tobytes() == other.crop(b).tobytes() for b in boxes)


def open_checked(file: io.BytesIO, formats: tuple[str, ...]) -> Any:
    """Open an image with Pillow and refuse one that is too large.

    Parameters
    ----------
    file : file object
        Binary, with the content of an image file.
    formats : tuple of str
        Formats that are tried.

    Returns
    -------
    image : PIL.Image.Image
        Not yet decoded.
    """
    image = Image.open(file, formats=formats)
    # Pillow only warns; and warnings cannot be caught safely in threads.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ValueError(
            f"{image.width} x {image.height} pixels are more than "
            f"`PIL.Image.MAX_IMAGE_PIXELS` ({limit})"
        )
    return image


def _decode_watched(content: bytes, start: int, end: int) -> Image.Image:
    """Decode a file of one stretch of data; see that it is used up, and suffices."""
    file = io.BytesIO(content[:end] + _ONES)
    image = open_checked(file, ("JPEG",))
    # FF and 00 belong together.
    border = max(start, end - _TAIL)
    border -= content[border - 1] == 0xFF
    # Pillow gets the file in two pieces, and asks for the second if it needs it.
    image.decodermaxblock = border
    try:
        image.load()
    except OSError as error:
        if file.tell() <= end:
            raise
        raise ValueError(
            "the compressed data end too early: the file is corrupted"
        ) from error
    # Pillow has let go of the file, but not closed it.
    if file.tell() <= border:
        raise ValueError("the compressed data continue after the last pixel")
    return image


def _parse(content: bytes) -> _Layout:
    """Walk through the segments of a file up to the end of the image."""
    layout = _Layout()
    position = 2
    while True:
        # Any number of FF may stand before the code of a marker.
        match = _MARKER.match(content, position)
        if match is None:
            if position >= len(content):
                raise ValueError("the file is truncated: it has no end marker")
            raise ValueError(f"no segment starts at byte {position}")
        marker, start = match[1][0], match.end()
        if marker == _END_OF_IMAGE:
            if not layout.stretches:
                raise ValueError("the file has no image data")
            return layout
        position = start + int.from_bytes(content[start : start + 2], "big")
        if not start + 2 <= position <= len(content):
            raise ValueError(
                f"the segment at byte {match.start()} is longer than the file"
            )
        segment = content[start + 2 : position]
        if marker in _FRAMES:
            _parse_frame(marker, segment, layout)
        elif marker == _RESTART_INTERVAL:
            layout.restart_interval = int.from_bytes(segment, "big")
        elif marker == _START_OF_SCAN:
            layout.n_scans += 1
            if layout.n_scans > _MAX_SCANS:
                raise ValueError(f"the file has more than {_MAX_SCANS} scans")
            position = _parse_scan(content, segment, position, layout)


def _parse_frame(marker: int, segment: bytes, layout: _Layout) -> None:
    """Note size and samplings of the components."""
    if layout.coding is not None:
        raise ValueError("the file has two headers of a frame")
    layout.coding = marker
    layout.height = int.from_bytes(segment[1:3], "big")
    layout.width = int.from_bytes(segment[3:5], "big")
    for number, sampling in zip(segment[6::3], segment[7::3], strict=False):
        layout.samplings[number] = sampling >> 4, sampling & 15
    if not all(min(both) > 0 for both in layout.samplings.values()):
        raise ValueError("the header of the frame is damaged")


def _parse_scan(content: bytes, header: bytes, position: int, layout: _Layout) -> int:
    """Note the stretches of a scan; return the position of the marker behind it."""
    components = header[1 : 1 + 2 * header[0] : 2] if header else b""
    if not components or not set(components) <= layout.samplings.keys():
        raise ValueError("the header of a scan does not fit that of the frame")
    expected = 1
    if layout.restart_interval:
        expected = -(-layout.n_units(components) // layout.restart_interval)
    n_stretches = 0
    while True:
        match = _MARKER_IN_DATA.search(content, position)
        if match is None:
            raise ValueError("the file is truncated: it has no end marker")
        end = match.start()
        while end > position and content[end - 1] == 0xFF:
            end -= 1
        layout.stretches.append((position, end))
        n_stretches += 1
        marker = match[1][0]
        # No further than that: there could be one in every two bytes.
        if marker not in _RESTARTS or n_stretches > expected:
            break
        if marker != _RESTARTS[(n_stretches - 1) % 8]:
            raise ValueError(f"a marker at byte {match.start()} is out of place")
        position = match.end()
    if n_stretches != expected:
        raise ValueError(
            f"a scan has {n_stretches} stretches between restart markers; its headers "
            f"declare {expected}"
        )
    return match.start()
