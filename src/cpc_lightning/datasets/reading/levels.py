"""Converts images of any mode to 8-bit RGB: the range of their pixel values, and transparency."""

from __future__ import annotations

import numpy as np
from PIL import Image

TOPS = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))
"""The highest levels of grayscale images, as cameras and scanners have them."""
BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white, on which cut-out products and drawings are meant to be seen."""


class UnreadableImageError(Exception):
    """An image file that cannot be used; the message says why."""


def is_deep(image: Image.Image) -> bool:
    """Whether it is grayscale with more than 8 bits: "I;16", "I;16B"; some 16-bit files open as 32-bit "I"."""
    return image.mode.startswith("I")


def top_level(highest: int) -> int:
    """The highest level that fits the bits that a data set of grayscale images uses, of which `highest` is the highest.

    Cameras of 12 bits write files of 16: scaled from those, all their images would be black.
    """
    return next(top for top in TOPS if highest <= top or top == TOPS[-1])


def to_rgb(image: Image.Image, top: int = TOPS[-1]) -> Image.Image:
    """8-bit RGB of a decoded image of any mode; see `decode`. One that goes beyond `top` is scaled from 16 bits."""
    if image.mode == "F":
        raise UnreadableImageError("holds floating-point levels, whose range is not known")
    if is_deep(image):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > TOPS[-1]:
            raise UnreadableImageError("holds 32-bit levels, whose range is not known")
        full = top if levels.max() <= top else TOPS[-1]
        return Image.fromarray(np.rint(levels * (255 / full)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")
