"""Image files: decoded in the worker processes when they are needed, once for all views of an image.

Every kind of image becomes 8-bit RGB (see `decode`), then a view of one size. A batch's seed alone decides the crops,
whichever worker draws them.

Shapes: N images, B batch, V views, S the side of a view, W x H pixels of an image.
"""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from cpc_lightning.datasets.dataset import Images
from cpc_lightning.datasets.reading.copies import digest_of
from cpc_lightning.datasets.reading.formats import NEEDS_HEIF, begins_like_heif, lacks_decoder, open_image
from cpc_lightning.datasets.reading.large_png import LargePng, large_png
from cpc_lightning.datasets.reading.levels import TOPS, UnreadableImageError, is_deep, to_rgb
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.errors import InputError, require, require_integer, require_switch

MAX_PIXELS = 89_478_485
"""Larger images are refused as decompression bombs: Pillow's own limit, from which on it warns (256 MB as RGB)."""
SHRUNK_BEYOND = 1 << 24
"""A PNG of more pixels is shrunk while it is decoded, strip by strip, where its kind allows (see `LargePng`)."""
MAX_SHRUNK = 1_000_000_000
"""Of images that are shrunk while they are decoded larger ones are refused: this many take half a minute."""
MAX_ASPECT = 8
"""Of an image more than so many times as long as wide only the middle is looked at: a strip of 1 x 100,000 pixels,
scaled to a shorter side of 256, would take 20 GB."""
# torchvision's RandomResizedCrop: shares of the area, ratios of the sides, and how often it tries.
AREA, RATIO, ATTEMPTS = (0.08, 1.0), (3 / 4, 4 / 3), 10


@dataclass(frozen=True)
class Crop:
    """How an image of any size becomes a view of S x S pixels.

    The shorter side is scaled to `resize` (bilinear, antialiased). In evaluation the view is the centre. In training it
    is a random crop of that size; or, with `random_resized`, a crop of a random area and shape, scaled (Szegedy et al.
    2015, with torchvision's numbers).

    Attributes:
        resize: of the shorter side, in pixels, at least `size`.
        size: S.
        random_resized: see above.
    """

    resize: int
    size: int
    random_resized: bool = False

    def __post_init__(self) -> None:
        require_integer("crop.size", self.size, 1)
        require_integer("crop.resize", self.resize, 1)
        require(self.resize >= self.size, "crop.resize", self.resize, f"must be at least the view's size, {self.size}")
        require_switch("crop.random_resized", self.random_resized)

    @property
    def draws(self) -> int:
        """How many random numbers a view takes."""
        return 2 * ATTEMPTS + 2 if self.random_resized else 2

    def scaled(self, image: Image.Image) -> Image.Image:
        """The image, its shorter side `resize` long; very long ones are cut to their middle first."""
        width, height = image.size
        shorter, longer = min(width, height), max(width, height)
        if longer > MAX_ASPECT * shorter:
            cut = (longer - MAX_ASPECT * shorter) // 2
            image = image.crop((cut, 0, width - cut, height) if width > height else (0, cut, width, height - cut))
            width, height = image.size
        both = (self.resize, self.resize * height // width) if width <= height else None
        return image.resize(both or (self.resize * width // height, self.resize), Image.Resampling.BILINEAR)

    def centre(self, scaled: Image.Image) -> Image.Image:
        """The view that evaluation sees."""
        width, height = scaled.size
        # Rounded, half to even, as torchvision's CenterCrop does.
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return scaled.crop((left, top, left + self.size, top + self.size))

    def random(self, scaled: Image.Image, draws: npt.NDArray[np.float64]) -> Image.Image:
        """One view to train on, decided by `draws` (`self.draws`,) in [0, 1)."""
        width, height = (self.size, self.size)
        if self.random_resized:
            width, height = self._random_shape(scaled.size, draws)
        left = int(draws[-2] * (scaled.width - width + 1))
        top = int(draws[-1] * (scaled.height - height + 1))
        view = scaled.crop((left, top, left + width, top + height))
        return view.resize((self.size, self.size), Image.Resampling.BILINEAR) if self.random_resized else view

    def _random_shape(self, size: tuple[int, int], draws: npt.NDArray[np.float64]) -> tuple[int, int]:
        """Width and height of the first attempt that fits; where none does, the whole image cut to a fair shape."""
        for area, ratio in draws[:-2].reshape(ATTEMPTS, 2):
            pixels = size[0] * size[1] * (AREA[0] + area * (AREA[1] - AREA[0]))
            shape = math.exp(math.log(RATIO[0]) + ratio * (math.log(RATIO[1]) - math.log(RATIO[0])))
            width, height = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
            if 0 < width <= size[0] and 0 < height <= size[1]:
                return width, height
        return min(size[0], round(size[1] * RATIO[1])), min(size[1], round(size[0] / RATIO[0]))


@dataclass(frozen=True, slots=True)  # there may be a million
class Seen:
    """What a look at an image tells.

    Attributes:
        reason: why it cannot be used; None where it can.
        digest: of its pixels, equal for copies, whatever their format; empty where they are not known.
        level: the highest one of a grayscale image with more than 8 bits; 0 for all others.
    """

    reason: str | None = None
    digest: bytes = b""
    level: int = 0


@dataclass(frozen=True)
class ImageFiles:
    """Images in files; see `Images` for what it answers.

    Attributes:
        root: the folder that the names start from.
        paths: N names.
        crop: makes views of one size.
        top: the level that becomes 255, of images with more than 8 bits.
        fine: false lets a JPEG be decoded at a smaller size, as long as it need not be enlarged: half the time, and
            enough to look at.
    """

    root: str
    paths: PathList
    crop: Crop
    top: int = TOPS[-1]
    fine: bool = True

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, positions: Tensor) -> Tensor:
        """The images at `positions` (B,) as evaluation sees them, (B, 3, S, S) uint8.

        Raises:
            InputError: naming the file, if one of them cannot be read.
        """
        pixels = np.empty((len(positions), self.crop.size, self.crop.size, 3), dtype=np.uint8)
        for row, position in enumerate(positions.tolist()):
            pixels[row] = np.asarray(self.crop.centre(self._scaled(position)))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def fetch_views(self, positions: Tensor, views: int, seed: int) -> Tensor:
        """That many random crops of each image at `positions` (B,), (V, B, 3, S, S) uint8; decoded once.

        Raises:
            InputError: naming the file, if one of them cannot be read.
        """
        generator = torch.Generator().manual_seed(seed)
        shape = (len(positions), views, self.crop.draws)
        draws = torch.rand(shape, dtype=torch.float64, generator=generator).numpy()
        pixels = np.empty((views, len(positions), self.crop.size, self.crop.size, 3), dtype=np.uint8)
        for row, position in enumerate(positions.tolist()):
            scaled = self._scaled(position)
            for view in range(views):
                pixels[view, row] = np.asarray(self.crop.random(scaled, draws[row, view]))
        return torch.from_numpy(pixels).permute(0, 1, 4, 2, 3).contiguous()

    def look(self, position: int, whole: bool) -> Seen:
        """What is to be known of the image at `position`; unless `whole`, only its header is looked at."""
        file = self.file(position)
        try:
            if not whole:
                look_at_header(file, self.crop.resize)
                return Seen()
            image = load(file, self.crop.resize)
            rgb = to_rgb(image)
        except UnreadableImageError as error:
            return Seen(str(error))
        compared = image if is_deep(image) else rgb
        digest = digest_of(f"{compared.mode} {compared.size} ".encode() + compared.tobytes())
        return Seen(None, digest, int(np.asarray(image).max()) if is_deep(image) else 0)

    def file(self, position: int) -> str:
        """The full name of the image at `position`."""
        return os.path.join(self.root, self.paths[position])

    def _scaled(self, position: int) -> Image.Image:
        file = self.file(position)
        side = self.crop.resize if self.fine else -(-self.crop.resize // 2)  # `decode` keeps twice of it
        try:
            return self.crop.scaled(decode(file, side, self.top))
        except UnreadableImageError as error:
            how = "dataset.on_bad_image=skip leaves such files out from the start"
            raise InputError("image", file, f"{error}; {how}") from None


def for_people(images: Images, side: int | None = None) -> Images:
    """The same images, read as fast as is good enough to look at; with `side` in views of at most so many pixels."""
    if not isinstance(images, ImageFiles):
        return images
    crop = images.crop
    if side is not None and side < crop.size:
        crop = replace(crop, resize=max(side, round(crop.resize * side / crop.size)), size=side)
    return replace(images, crop=crop, fine=False)


def decode(file: str, side: int, top: int = TOPS[-1]) -> Image.Image:
    """An image file as upright 8-bit RGB.

    * Turned as its EXIF orientation says.
    * Gray with more than 8 bits is scaled from 0..`top` to 8 bits, not cut off; 16 bits a colour to 8. Gray and
      black-and-white get three equal channels; CMYK and other colour spaces are converted.
    * Transparency, an alpha channel or a transparent palette entry, shows `BACKGROUND`.
    * Of animations the first image.
    * A JPEG more than four times as large as needed is decoded at half, a quarter or an eighth of its size, never below
      twice `side`; a PNG of more than `SHRUNK_BEYOND` pixels at 1/2, 1/3, ... of it. In this way those of up to
      `MAX_SHRUNK` pixels can be read, if they have 8 bits a channel and are not interlaced; and JPEG of up to twice
      `MAX_PIXELS`, which Pillow opens, unless they are progressive, whose whole is held while they are decoded.

    Args:
        file: its name.
        side: the length that the shorter side will be scaled to.
        top: of gray with more than 8 bits, the level that becomes 255: see `top_level`.

    Raises:
        UnreadableImageError: if the file is not there, is empty, cut off or damaged, is of none of the `formats`, is
            larger than `MAX_PIXELS` (see above), or holds levels without a known range (32-bit integers, floats).
    """
    return to_rgb(load(file, side), top)


def load(file: str, side: int) -> Image.Image:
    """An image file as it is stored, decoded and upright; args and errors as for `decode`."""
    try:
        require_file(file)
        png = large_png(file)
        if png is not None and (factor := shrinking(png, side)):
            return upright(png.shrunk(file, factor, to_rgb))
        with open_image(file) as image:
            require_size(image, side)
            image.load()
            return upright(image)
    except UnreadableImageError:
        raise
    except Exception as error:  # decoders of garbled files raise nearly anything
        raise UnreadableImageError(reason(file, error)) from error


def look_at_header(file: str, side: int) -> None:
    """Raise `UnreadableImageError` where a file's beginning shows that it cannot be used; args as for `decode`."""
    try:
        require_file(file)
        png = large_png(file)
        if png is not None and shrinking(png, side):
            return
        with open_image(file) as image:
            require_size(image, side)
    except UnreadableImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(reason(file, error)) from error


def require_file(file: str) -> None:
    """Raise `UnreadableImageError` for a folder, and for a pipe, which would keep its reader waiting."""
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise UnreadableImageError("is no file")


def shrinking(png: LargePng, side: int) -> int:
    """At one by how many of its size a PNG is decoded, whose shorter side is to be `side` long; 0: the whole of it."""
    pixels, factor = png.width * png.height, max(1, min(png.width, png.height) // (2 * side))
    left = pixels // factor**2
    return factor if SHRUNK_BEYOND < pixels <= MAX_SHRUNK and left <= MAX_PIXELS else 0


def require_size(image: Image.Image, side: int) -> None:
    """Have an image shrunk while it is decoded, if it can; raise `UnreadableImageError` beyond `MAX_PIXELS`."""
    width, height = image.size
    if not (image.info.get("progressive") and width * height > MAX_PIXELS):
        image.draft(None, (2 * side, 2 * side))
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImageError(f"has {width} x {height} pixels, more than {MAX_PIXELS:,}")


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; as stored, where its EXIF part is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def reason(file: str, error: Exception) -> str:
    """Why a file cannot be used, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "is not there"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"has more than {MAX_PIXELS:,} pixels"
    if isinstance(error, UnidentifiedImageError):
        if Path(file).stat().st_size == 0:
            return "is empty"
        return NEEDS_HEIF if lacks_decoder(file) or begins_like_heif(file) else "is no image that can be read"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return f"cannot be decoded ({str(error) or type(error).__name__})"
