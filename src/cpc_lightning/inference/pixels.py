"""Pixels as a trained model takes them: of image files, and of images with other channels or of another size.

Shapes: N images, B batch, C channels, H x W pixels, S the side of what is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cpc_lightning.datasets.reading.image_files import Crop, ImageFiles, decode
from cpc_lightning.features.extractor import centre_of

GRAY = 1
"""Channels of a grayscale image."""


@dataclass(frozen=True)
class Decoder:
    """Makes pixels of image files, as the run's evaluation saw them.

    Attributes:
        crop: how an image becomes one of S x S pixels.
        top: the level that becomes 255, of grayscale files with more than 8 bits.
        channels: C, 1 or 3.
    """

    crop: Crop
    top: int
    channels: int

    def __call__(self, file: str) -> Tensor:
        """An image file as (C, S, S) uint8.

        Raises:
            UnreadableImageError: where it cannot be read; the message says why.
        """
        image = self.crop.centre(self.crop.scaled(decode(file, self.crop.resize, self.top)))
        if self.channels == GRAY:
            return torch.from_numpy(np.asarray(image.convert("L")).copy())[None]
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)

    @property
    def nothing(self) -> Tensor:
        """A black image, in the place of one that cannot be read."""
        return torch.zeros(self.channels, self.crop.size, self.crop.size, dtype=torch.uint8)


class GrayImages:
    """Colour images with one channel: what decoding makes of a grayscale file. See `Images`."""

    def __init__(self, images: ImageFiles) -> None:
        """Take the images that are decoded in colour."""
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def fetch(self, positions: Tensor) -> Tensor:
        """See `Images.fetch`."""
        return to_gray(self.images.fetch(positions))

    def fetch_views(self, positions: Tensor, views: int, seed: int) -> Tensor:
        """One view, as nothing is trained on them. See `Images.fetch_views`."""
        return self.fetch(positions)[None]


def to_gray(images: Tensor) -> Tensor:
    """Colour images (B, 3, H, W) uint8 as (B, 1, H, W), by the weights that Pillow gives red, green and blue."""
    red, green, blue = images.to(torch.int32).unbind(dim=1)
    return (((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16)[:, None]).to(torch.uint8)


def fitted(pixels: Tensor, channels: int, size: int) -> Tensor:
    """Images (N, C, H, W) uint8 with that many channels; where they are of another size, their middle, scaled."""
    if pixels.shape[1] != channels:
        pixels = to_gray(pixels) if channels == GRAY else pixels.expand(-1, channels, -1, -1)
    if min(pixels.shape[2:]) == size:
        return pixels
    return centre_of(pixels.float(), size).round().clamp(0, 255).to(torch.uint8)
