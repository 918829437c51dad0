"""PNG files of many megapixels, shrunk while they are decoded, a strip of rows at a time.

A row of a PNG is coded by the row above it. A strip becomes a file of its own, which Pillow decodes: the last row of
the strip before as it is, then the strip as it is coded. Never is more than a strip in memory, whatever the size.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = 33
"""Bytes up to the chunk after the first, which gives the size."""
STRIP = 1 << 22
"""Bytes of a strip as it is coded, about."""
PIECE = 1 << 16
"""Bytes that are unpacked at once, at most a thousand times as many."""
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of each kind of colour: gray, RGB, palette, gray with alpha, RGB with alpha."""
KEPT = (b"PLTE", b"tRNS", b"eXIf")
"""Chunks that say what colours the levels stand for, which are transparent, and how the image is turned."""


@dataclass(frozen=True)
class LargePng:
    """A PNG file that can be decoded in strips: 8 bits a channel, its rows in their order.

    Attributes:
        width: in pixels.
        height: likewise.
        colour: a key of `CHANNELS`.
    """

    width: int
    height: int
    colour: int

    @property
    def row(self) -> int:
        """Bytes of a coded row: how it is coded, then its pixels."""
        return 1 + self.width * CHANNELS[self.colour]

    def shrunk(self, file: str, factor: int, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
        """The image at 1 / `factor` of its size as RGB, each pixel the mean of those that it covers.

        Args:
            file: its name.
            factor: at least 1.
            convert: makes RGB of a strip.

        Raises:
            OSError: if the file is cut off or damaged; zlib.error likewise.
        """
        whole = Image.new("RGB", (-(-self.width // factor), -(-self.height // factor)))
        rows = max(1, STRIP // (self.row * factor)) * factor
        above, top = b"", 0
        with open(file, "rb") as opened:
            opened.seek(HEADER)
            kept, pixels = _up_to_pixels(opened)
            for coded in _unpacked(pixels, self.row * rows, self.row * self.height):
                strip = Image.open(BytesIO(self._as_file(kept, above + coded)), formats=("PNG",))
                last_row = strip.crop((0, strip.height - 1, self.width, strip.height)).tobytes()
                own = convert(strip.crop((0, 1 if above else 0, self.width, strip.height)))
                whole.paste(own.reduce(factor), (0, top // factor))
                above, top = b"\0" + last_row, top + own.height
        if "exif" in strip.info:
            whole.info["exif"] = strip.info["exif"]
        return whole

    def _as_file(self, kept: bytes, coded: bytes) -> bytes:
        size = self.width, len(coded) // self.row
        header = _chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, self.colour, 0, 0, 0))
        return SIGNATURE + header + kept + _chunk(b"IDAT", zlib.compress(coded, 0)) + _chunk(b"IEND", b"")


def large_png(file: str) -> LargePng | None:
    """What the file is, where it is a PNG that can be decoded in strips; else None."""
    with open(file, "rb") as opened:
        start = opened.read(HEADER)
    if len(start) < HEADER or not start.startswith(SIGNATURE) or start[12:16] != b"IHDR":
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", start[16:29])
    fits = depth == 8 and colour in CHANNELS and not interlaced and width > 0 and height > 0
    return LargePng(width, height, colour) if fits else None


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _up_to_pixels(file: BinaryIO) -> tuple[bytes, Iterator[bytes]]:
    """The chunks of `KEPT` before the pixels, and the packed pixels in pieces."""
    kept = b""
    while True:
        length, kind = struct.unpack(">I4s", _exactly(file, 8))
        if kind == b"IDAT":
            return kept, _pixels(file, length)
        if kind == b"IEND":
            raise OSError("no pixels")
        if kind in KEPT and length <= PIECE:
            kept += _chunk(kind, _exactly(file, length))
            file.seek(4, 1)
        else:
            file.seek(length + 4, 1)


def _pixels(file: BinaryIO, length: int) -> Iterator[bytes]:
    """The packed pixels of the chunks that follow each other, in pieces."""
    kind = b"IDAT"
    while kind == b"IDAT":
        checked = zlib.crc32(kind)
        while length:
            piece = _exactly(file, min(length, PIECE))
            checked, length = zlib.crc32(piece, checked), length - len(piece)
            yield piece
        if checked != int.from_bytes(_exactly(file, 4), "big"):
            raise OSError("broken PNG file (bad checksum)")
        length, kind = struct.unpack(">I4s", _exactly(file, 8))


def _unpacked(pieces: Iterator[bytes], most: int, total: int) -> Iterator[bytes]:
    """`total` bytes, `most` at once."""
    unpack, left = zlib.decompressobj(), total
    kept: list[bytes] = []
    wanted = min(most, left)
    for piece in pieces:
        while piece and left:
            kept.append(unpack.decompress(piece, wanted))
            piece = unpack.unconsumed_tail
            wanted -= len(kept[-1])
            if not wanted:
                joined = b"".join(kept)
                yield joined
                left, kept = left - len(joined), []
                wanted = min(most, left)
        if not left:
            return
    raise OSError("image file is truncated")


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise OSError("image file is truncated")
    return data
