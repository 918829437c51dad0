"""Grayscale and colour jitter on a batch: the strong views of MoPro, of which every image draws its own.

Li, Xiong & Hoi, "MoPro: Webly Supervised Learning with Momentum Prototypes", ICLR 2021, and its published code
(github.com/salesforce/MoPro, DataLoader/dataloader.py): RandomGrayscale(0.2), then ColorJitter(0.4, 0.4, 0.4, 0.4).
Operations are torchvision's on tensors; a hue is rounded to the nearest level.

Shapes: B batch, n images that share an operation, C channels (1 or 3), H x W pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cpc_lightning.views.autoaugment import require_images
from cpc_lightning.views.operations import brightness, color, contrast, per_image

STRENGTH = 0.4
"""Factors of brightness, contrast and saturation are within it of 1, shifts of the hue within it of 0 (1: a circle)."""

GRAY_SHARE = 0.2
"""Of images, that lose their colour before."""


class JitterDraw(NamedTuple):
    """What a batch of B images draws. CPU tensors.

    Attributes:
        gray: (B,) bool, who loses its colour.
        order: (B, 4) int64, positions in `JITTERED`, each once: what is done first, second, third and last.
        magnitudes: (B, 4) float32, of these operations.
    """

    gray: Tensor
    order: Tensor
    magnitudes: Tensor


class ColourJitter:
    """Changes brightness, contrast, saturation and hue of every image, in an order of its own."""

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The changed images (B, C, H, W) uint8, new memory; of one channel in brightness and contrast alone.

        Args:
            images: (B, C, H, W) uint8 on any device, C = 1 or 3.
            generator: a CPU generator; None for the global one.

        Raises:
            InputError: if the images are not of this type and shape.
        """
        require_images(images)
        gray, order, magnitudes = self.draw(len(images), generator)
        images = color(images, torch.where(gray, -1.0, 0.0).to(images.device, non_blocking=True)).clone()
        for step in range(len(JITTERED)):
            images = apply_own(images, order[:, step], magnitudes[:, step])
        return images

    def draw(self, count: int, generator: torch.Generator | None = None) -> JitterDraw:
        """All independent and uniform, for `count` images; `generator` as above."""
        size = (count, len(JITTERED))
        gray = torch.rand(count, generator=generator, device="cpu") < GRAY_SHARE
        order = torch.rand(size, generator=generator, device="cpu").argsort(dim=1)
        magnitudes = (2 * torch.rand(size, generator=generator, device="cpu") - 1) * STRENGTH
        return JitterDraw(gray, order, magnitudes)


def apply_own(images: Tensor, kinds: Tensor, magnitudes: Tensor) -> Tensor:
    """Every image after its own operation: each operation is applied once, to its slice of the sorted batch.

    Args:
        images: (B, C, H, W) uint8.
        kinds: (B,) int64, positions in `JITTERED`; CPU.
        magnitudes: (B,) float32; CPU.
    """
    kinds, order = kinds.sort()
    counts = kinds.bincount(minlength=len(JITTERED)).tolist()
    slices = images[order.to(images.device, non_blocking=True)].split_with_sizes(counts)
    levels = magnitudes[order].to(images.device, non_blocking=True).split_with_sizes(counts)
    changed = torch.cat([change(*part) for change, *part in zip(JITTERED, slices, levels, strict=True)])
    return changed[order.argsort().to(images.device, non_blocking=True)]


def hue(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Images whose hue is turned by the magnitude, 1 being the whole circle; of one channel they stay as they are.

    Args:
        images: (n, C, H, W) uint8.
        magnitudes: (n,) float32.
    """
    if images.shape[1] == 1:
        return images
    levels = images.float() / 255
    red, green, blue = levels.unbind(dim=1)
    value, low = levels.amax(dim=1), levels.amin(dim=1)
    spread = value - low
    divisor = spread.masked_fill(spread == 0, 1.0)  # grey: any hue will do
    of_red, of_green = (green - blue) / divisor, 2 + (blue - red) / divisor
    sixths = torch.where(value == red, of_red, torch.where(value == green, of_green, 4 + (red - green) / divisor))
    sixths = sixths + 6 * per_image(magnitudes).squeeze(1)
    channels = []
    for offset in (5, 3, 1):  # of red, green and blue: how far a channel is below the highest, round the circle
        place = (offset + sixths).remainder(6)
        channels.append(value - spread * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.stack(channels, dim=1).mul_(255).round_().clamp_(0, 255).to(torch.uint8)


JITTERED = (brightness, contrast, color, hue)
