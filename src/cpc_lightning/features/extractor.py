"""Computes vectors of images with a network, for several views of each image.

Shapes: B batch, C channels, H x W pixels as stored, S the side of what the network sees, W views, D features.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpc_lightning.backbones.folding import fold_batch_norms
from cpc_lightning.backbones.layout import may_be_channels_last
from cpc_lightning.datasets.dataset import Images
from cpc_lightning.datasets.reading.image_files import Crop, ImageFiles
from cpc_lightning.errors import InputError, first_line, require
from cpc_lightning.noise.open_set import MixedImages

MOST_VIEWS = 12
"""The image, five crops of it, and each of the six mirrored."""

CORNERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))
"""Where crops lie: shares of the room above and on the left of them."""

SOME = 4
"""Images on which a changed network is tried out, spread over all."""

CROP = 7 / 8
"""A crop's side, as a share of the image's."""


@dataclass(frozen=True)
class Extractor:
    """Makes vectors of images.

    Attributes:
        network: in evaluation mode; images (B, 3, S, S) float32 -> (B, D), or (B, D, h, w), or (B, T, D), whose mean
            over the positions is taken.
        views: W, of each image.
        size: S, the side that images are scaled to; None: as they are.
        mean: of each channel, of levels scaled to [0, 1].
        std: likewise.
        method: of the network, that answers.
    """

    network: nn.Module
    views: int
    size: int | None
    mean: Sequence[float]
    std: Sequence[float]
    method: str = "forward"

    def __post_init__(self) -> None:
        if self.channels_last:
            self.network.to(memory_format=torch.channels_last)

    def copies(self, count: int) -> list[Extractor]:
        """As many extractors, each for a thread of its own: weights are shared, what else a network notes is not.

        One alone, this one, where the network cannot be copied.
        """
        shared = {id(tensor): tensor for tensor in (*self.network.parameters(), *self.network.buffers())}
        try:
            return [replace(self, network=copy.deepcopy(self.network, dict(shared))) for _ in range(count)]
        except Exception:  # any network of any library
            return [self]

    def folded(self, images: Images) -> Extractor:
        """What answers the same on a CPU in less time; this one, where nothing can be saved.

        Args:
            images: those to come; it is tried out on some of them.
        """
        some = images.fetch(torch.linspace(0, len(images) - 1, min(SOME, len(images))).long())
        network = fold_batch_norms(self.network, lambda network: replace(self, network=network, views=1)(some))
        return self if network is self.network else replace(self, network=network)

    @torch.inference_mode()
    def __call__(self, images: Tensor, device: str = "cpu") -> Tensor:
        """Images (B, C, H, W) uint8 -> vectors (B, W, D) float32 on the CPU.

        Raises:
            InputError: named "network", where it does not take the images, or answers what is no vector of each.
        """
        inputs = self._inputs(images.to(device))
        views = [self._answer(view(inputs, number)).float().cpu() for number in range(self.views)]
        vectors = torch.stack(views, dim=1)
        finite = bool(torch.isfinite(vectors).all())
        require(finite, "network", self.name, "answers infinite numbers or NaN for some images")
        return vectors

    @cached_property
    def channels_last(self) -> bool:
        """Whether the network sees the channels as neighbours in memory, which costs a CPU two thirds of the time."""
        return may_be_channels_last(self.network)

    @property
    def name(self) -> str:
        """What the network is called, for people."""
        return type(self.network).__name__

    def sized(self, images: Images) -> Images:
        """The images, decoded at the size that is needed where they are files."""
        if isinstance(images, MixedImages):
            return replace(images, own=self.sized(images.own))
        if isinstance(images, ImageFiles) and self.size is not None:
            resize = round(self.size * images.crop.resize / images.crop.size)
            return replace(images, crop=Crop(resize, self.size))
        return images

    def _inputs(self, images: Tensor) -> Tensor:
        """What the network sees of uint8 images: of its size, standardised, with three channels."""
        levels = images.float() / 255
        if self.size is not None and levels.shape[2:] != (self.size, self.size):
            levels = centre_of(levels, self.size)
        mean, std = (torch.tensor(value, device=levels.device).view(1, -1, 1, 1) for value in (self.mean, self.std))
        inputs = (levels.expand(-1, 3, -1, -1) - mean) / std
        return inputs.contiguous(memory_format=torch.channels_last) if self.channels_last else inputs

    def _answer(self, inputs: Tensor) -> Tensor:
        try:
            answer = getattr(self.network, self.method)(inputs)
        except Exception as error:  # any network of any library, and images of any size
            shape = " x ".join(map(str, inputs.shape[1:]))
            raise InputError("network", self.name, f"fails on images of {shape}: {first_line(error)}") from error
        fine = isinstance(answer, Tensor) and 2 <= answer.ndim <= 4 and len(answer) == len(inputs)
        shown = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        require(fine, "network", self.name, f"must answer a vector for each image, and answers {shown}")
        if answer.ndim == 2:
            return answer  # type: ignore[no-any-return]
        return answer.mean(dim=(2, 3)) if answer.ndim == 4 else answer.mean(dim=1)  # type: ignore[no-any-return]

    @cached_property
    def digest(self) -> str:
        """sha256 of the network's layers and weights, and of what is done to an image before it."""
        hashed = hashlib.sha256(repr((self.views, self.size, [*self.mean], [*self.std], self.method)).encode())
        for name, module in self.network.named_modules():
            hashed.update(f"{name} {type(module).__module__}.{type(module).__qualname__}\0".encode())
        for name, value in self.network.state_dict().items():
            hashed.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
            hashed.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return hashed.hexdigest()


def centre_of(images: Tensor, size: int) -> Tensor:
    """The middle (B, C, size, size) of float images (B, C, H, W) whose shorter side is scaled to `size`."""
    height, width = images.shape[2:]
    scale = size / min(height, width)
    both = max(size, round(height * scale)), max(size, round(width * scale))
    scaled = F.interpolate(images, both, mode="bilinear", antialias=True)
    top, left = (both[0] - size) // 2, (both[1] - size) // 2
    return scaled[:, :, top : top + size, left : left + size]


def view(images: Tensor, number: int) -> Tensor:
    """View `number` of images (B, C, S, S): 0 the image, then five crops of it, each followed by its mirror image."""
    place, mirrored = divmod(number, 2)
    if place > 0:
        height, width = images.shape[2:]
        rows, columns = max(1, round(CROP * height)), max(1, round(CROP * width))
        down, right = CORNERS[place - 1]
        top, left = round(down * (height - rows)), round(right * (width - columns))
        cut = images[:, :, top : top + rows, left : left + columns]
        images = F.interpolate(cut, (height, width), mode="bilinear", antialias=True)
    return images.flip(-1) if mirrored else images
