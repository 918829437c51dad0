"""Pictures of a page: small ones within it, the others in sprite sheets beside it.

A page that is opened as a file can show images and run scripts that lie beside it, and read nothing else. Small pixel
images stay as they are, as PNG; larger ones become thumbnails, as WebP.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cpc_lightning.datasets.dataset import Images
from cpc_lightning.datasets.reading.image_files import for_people
from cpc_lightning.errors import InputError
from cpc_lightning.files import atomic_write, usable_cores

CRISP = 64
"""Images whose longer side has at most so many pixels are kept pixel by pixel."""

THUMBNAIL = 160
"""The side of a tile of larger images, in pixels."""

LADDER = ((256, 82), (192, 78), (THUMBNAIL, 72), (112, 60), (80, 50))
"""Side and WebP quality of pictures within the page: the first with which all of them fit."""

BUDGET = 2_200_000
"""Bytes that the pictures within the page may take, before base64 adds a third."""

SHEET = 100
"""Thumbnails of a sprite sheet, which one core draws (1,620 pixels square, 10 MB once decoded)."""

EMBEDDED = 200
"""Labels whose pictures are within the page."""

PICTURES = 60_000
"""Labels that are shown, unless a setting says otherwise: of larger sets the most suspicious ones."""

BATCH = 64  # images that are read at once
GUTTER = 1  # pixels around a tile that repeat its edge, so that scaling mixes no neighbour in


@dataclass(frozen=True)
class Tile:
    """How the pictures of a set are kept.

    Attributes:
        side: of a square tile, in pixels.
        crisp: whether pixels are kept, and shown as squares.
    """

    side: int
    crisp: bool

    @property
    def columns(self) -> int:
        """Of a sprite sheet."""
        return 23 if self.crisp else 10

    @property
    def per_sheet(self) -> int:
        """Tiles of a sprite sheet: 500 small ones, or `SHEET` thumbnails."""
        return 500 if self.crisp else SHEET

    @property
    def ending(self) -> str:
        """Of a file's name."""
        return "png" if self.crisp else "webp"


def tile_of(image: Image.Image) -> Tile:
    """How images like this one are kept."""
    longer = max(image.size)
    return Tile(longer, True) if longer <= CRISP else Tile(min(longer, THUMBNAIL), False)


def read_images(images: Images, positions: Sequence[int]) -> list[Image.Image | None]:
    """The images as they are evaluated; None for one that cannot be read any more."""
    read: list[Image.Image | None] = []
    for start in range(0, len(positions), BATCH):
        batch = positions[start : start + BATCH]
        try:
            read += map(_picture, images.fetch(torch.tensor(batch, dtype=torch.int64)).numpy())
        except (InputError, OSError):
            read += [_read_one(images, position) for position in batch]
    return read


def _read_one(images: Images, position: int) -> Image.Image | None:
    try:
        return _picture(images.fetch(torch.tensor([position])).numpy()[0])
    except (InputError, OSError):
        return None


def _picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """(C, H, W) -> an image: gray for one channel; of more than three, the first three."""
    if len(pixels) < 3:
        return Image.fromarray(pixels[0], "L")
    return Image.fromarray(np.ascontiguousarray(pixels[:3].transpose(1, 2, 0)), "RGB")


def thumbnail(image: Image.Image, side: int, crisp: bool) -> Image.Image:
    """The image in a square of `side` pixels, gray where it does not fill it; with `crisp` not scaled."""
    if not crisp and max(image.size) > side:
        image = ImageOps.contain(image, (side, side), Image.Resampling.LANCZOS)
    if image.size == (side, side):
        return image
    square = Image.new(image.mode, (side, side), 128 if image.mode == "L" else (128, 128, 128))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def encode(image: Image.Image, crisp: bool, quality: int = 75, method: int = 2) -> bytes:
    """A file's bytes: PNG, or WebP of that quality; `method` 0 takes half the time of 2, and 7 % more bytes."""
    file = io.BytesIO()
    if crisp:
        image.save(file, "PNG")
    else:
        image.save(file, "WEBP", quality=quality, method=method)
    return file.getvalue()


def within_page(images: Sequence[Image.Image | None], tile: Tile, budget: int = BUDGET) -> list[str | None]:
    """Each image as a `data:` address; None for one that is not there, or for which there is no more room.

    Larger images are as large and as good as the budget allows, all alike.
    """
    longest = max((max(image.size) for image in images if image is not None), default=tile.side)
    ladder = ((tile.side, 0),) if tile.crisp else [(min(side, longest), quality) for side, quality in LADDER]
    files: list[bytes | None] = []
    for side, quality in ladder:
        files = [
            None if image is None else encode(thumbnail(image, side, tile.crisp), tile.crisp, quality)
            for image in images
        ]
        if sum(len(file) for file in files if file) <= budget:
            break
    kind, left = ("png" if tile.crisp else "webp"), budget
    addresses: list[str | None] = []
    for file in files:
        left -= len(file or b"")
        fits = file is not None and left >= 0
        addresses.append(f"data:image/{kind};base64,{base64.b64encode(file).decode()}" if file and fits else None)
    return addresses


def sheet(images: Sequence[Image.Image | None], tile: Tile) -> Image.Image:
    """A sprite sheet: the images row by row, each in a cell one pixel wider on every side; gray where there is none."""
    cell = tile.side + 2 * GUTTER
    rows = -(-len(images) // tile.columns)
    colour = any(image is not None and image.mode == "RGB" for image in images)
    shape = (rows * cell, tile.columns * cell, 3) if colour else (rows * cell, tile.columns * cell)
    pixels = np.full(shape, 128, np.uint8)
    edges = ((GUTTER, GUTTER), (GUTTER, GUTTER), (0, 0))[: len(shape)]
    for place, image in enumerate(images):
        if image is not None:
            shown = thumbnail(image.convert("RGB") if colour else image, tile.side, tile.crisp)
            top, left = (part * cell for part in divmod(place, tile.columns))
            pixels[top : top + cell, left : left + cell] = np.pad(np.asarray(shown), edges, mode="edge")
    return Image.fromarray(pixels)


def write_sheets(
    images: Images, positions: Sequence[int], tile: Tile, folder: Path, done: Callable[[int], None] | None = None
) -> Iterator[list[bool]]:
    """Write the pictures at `positions` to `folder`/000.png, 001.png, ... (or webp), on all cores.

    Args:
        images: to read.
        positions: of them, in the order in which they are shown.
        tile: how they are kept.
        folder: that is there.
        done: is told the number of each sheet that is written.

    Yields:
        For each sheet, in order, which of its images could be read.
    """
    small = for_people(images, tile.side)

    def write(number: int) -> list[bool]:
        begin = number * tile.per_sheet
        read = read_images(small, positions[begin : begin + tile.per_sheet])
        with atomic_write(folder / f"{number:03d}.{tile.ending}") as file:
            file.write(encode(sheet(read, tile), tile.crisp, method=0))
        if done is not None:
            done(number)
        return [image is not None for image in read]

    numbers = range(-(-len(positions) // tile.per_sheet))
    with ThreadPoolExecutor(usable_cores()) as pool:  # decoding and encoding let other threads compute
        yield from pool.map(write, numbers)


def time_to_draw(images: Images, positions: Sequence[int], clock: Callable[[], float]) -> tuple[float, float]:
    """What pictures cost, tried with the few at `positions`: seconds of one within the page, and of one beside it.

    Both of one core; 0 where none of the images can be read.
    """
    begin = clock()
    read = read_images(images, positions)
    tile = next((tile_of(image) for image in read if image is not None), None)
    if tile is None:
        return 0.0, 0.0
    within_page(read, tile, BUDGET * len(positions) // EMBEDDED)
    within = clock() - begin
    read = read_images(for_people(images, tile.side), positions)
    encode(sheet(read, tile), tile.crisp, method=0)
    beside = clock() - begin - within
    return within / len(positions), beside / len(positions)
