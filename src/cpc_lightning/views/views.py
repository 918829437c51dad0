"""Weak and strong views of a batch of images, on their device (AugDesc, Nishi et al. 2021).

Every image draws its own crop, flip and sub-policy. The draws are made on the CPU whatever the images' device: the same
seed gives the same views everywhere.

Shapes: B batch, C channels (1 or 3), H x W pixels of the images as stored, h x w those of a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor
from torch.nn import functional

from cpc_lightning.errors import require, require_integer, require_number, require_switch
from cpc_lightning.views.autoaugment import AutoAugment, require_images
from cpc_lightning.views.jitter import ColourJitter
from cpc_lightning.views.policies import POLICIES

VIEWS = 2
"""Weak views of each image, and as many strong ones (AugDesc), unless they are the weak ones (DivideMix)."""

JITTER = "jitter"
"""The policy that changes colours alone; the others are those of `POLICIES`."""


class Views:
    """How a data set's images are seen in training and in evaluation.

    Args:
        size: height and width of a view; one number for a square; None: those of the images.
        padding: pixels added on each side before the random crop.
        flip: whether weak views are mirrored left to right, each with probability 1/2.
        policy: what strong views add: "cifar10" or "imagenet" (AutoAugment's published policies), "randaugment" (two
            random operations of a fixed strength), "jitter" (MoPro's grayscale and colour jitter), "symbols" (small
            shears, turns and contrast changes, for digits and letters, where colour does not exist and inverting or
            mirroring changes the meaning), "none" or None for nothing: further weak views. "weak": there are no further
            views, the strong ones are the weak ones themselves, as in DivideMix.
        mean: each channel's mean, of levels scaled to [0, 1]; one number for all channels, or one for each.
        std: each channel's standard deviation, likewise.
        padding_mode: "constant" (black), "reflect" or "edge": what the padding shows.
        augdesc: whether strong views are made as in AugDesc's published code, whose cells CPC's are compared with: what
            an operation uncovers is gray (128), and operations are those of `AutoAugment(augdesc=True)`. False: as
            torchvision makes them; black.

    Attributes:
        strong_are_weak: whether stage 2 trains on the very views that it guesses on ("weak").
        of_certain: how many views of an image a step of stage 2 trains on where it has nothing to guess.

    Raises:
        InputError: if a setting is out of its range.
    """

    of_certain = VIEWS

    def __init__(
        self,
        size: int | Sequence[int] | None,
        padding: int,
        flip: bool,
        policy: str | None,
        mean: Sequence[float],
        std: Sequence[float],
        padding_mode: str = "constant",
        augdesc: bool = False,
    ) -> None:
        both = tuple(size) if isinstance(size, Sequence) else (size, size)
        require(len(both) == 2, "size", size, "must be one number, or a height and a width, or null")
        for side in () if size is None else both:
            require_integer("size", side, 1)
        require_integer("padding", padding, 0)
        require_switch("flip", flip)
        require_switch("augdesc", augdesc)
        require(padding_mode in PADDED, "padding_mode", padding_mode, f"must be one of {', '.join(PADDED)}")
        require(len(mean) in (1, 3), "mean", mean, "must hold 1 or 3 numbers, one for each channel")
        require(len(std) in (1, 3), "std", std, "must hold 1 or 3 numbers, one for each channel")
        for value in mean:
            require_number("mean", value, 0.0, 1.0)
        for value in std:
            require_number("std", value, 0.0, open_ends=True)
        self.height: int | None = both[0]
        self.width: int | None = both[1]
        self.padding, self.padding_mode, self.flip = padding, padding_mode, flip
        self.augdesc = augdesc
        self._take(policy, "policy")
        self.mean, self.std = tuple(mean), tuple(std)
        self.statistics: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def _take(self, policy: str | None, setting: str) -> None:
        policies = ("none", "weak", *POLICIES, JITTER)
        require(policy is None or policy in policies, setting, policy, f"must be one of {', '.join(policies)}")
        self.strong_are_weak = policy == "weak"
        nothing = policy is None or policy in ("none", "weak")
        self.policy: AutoAugment | ColourJitter | None = None
        if policy == JITTER:
            self.policy = ColourJitter()
        elif not nothing:
            self.policy = AutoAugment(str(policy), 128 if self.augdesc else 0, self.augdesc)

    def with_policy(self, policy: str | None, setting: str = "policy") -> Views:
        """The same views, but with another policy of strong ones: warm-up may have its own.

        Args:
            policy: as for the constructor.
            setting: what an error calls it.

        Raises:
            InputError: if there is no such policy.
        """
        views = copy(self)
        views._take(policy, setting)
        return views

    @property
    def per_image(self) -> int:
        """How many views stage 2 takes of an image."""
        return VIEWS if self.strong_are_weak else 2 * VIEWS

    def weak(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A random crop of each padded image, and a flip.

        Args:
            images: (B, C, H, W) uint8.
            generator: a CPU generator; None for the global one.

        Returns:
            (B, C, h, w) uint8.

        Raises:
            InputError: if the padded images are smaller than a view.
        """
        require_images(images)
        count, _, height, width = images.shape
        down, right = self.height or height, self.width or width
        room_down, room_right = height + 2 * self.padding - down, width + 2 * self.padding - right
        require(
            min(room_down, room_right) >= 0,
            "size",
            (down, right),
            f"must fit into the images, {height} x {width} with {self.padding} pixels of padding on each side",
        )
        top = torch.randint(room_down + 1, (count,), generator=generator, device="cpu")
        left = torch.randint(room_right + 1, (count,), generator=generator, device="cpu")
        flipped = torch.rand(count, generator=generator, device="cpu") < (0.5 if self.flip else 0.0)
        # One number an image travels; the positions, one a line of pixels, are put together where the images are.
        top, left, flipped = (draw.to(images.device, non_blocking=True) for draw in (top, left, flipped))
        rows, columns = crop_positions(top, left, flipped, down, right)
        return crop(images, rows - self.padding, columns - self.padding, self.padding_mode)

    def strong(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A weak view, changed by the policy; arguments, result and errors as for `weak`."""
        views = self.weak(images, generator)
        return views if self.policy is None or len(views) == 0 else self.policy(views, generator)

    def evaluation(self, images: Tensor) -> Tensor:
        """The images' centre, (B, C, h, w) uint8; the images themselves where they have the size of a view.

        Raises:
            InputError: if the images are smaller than a view.
        """
        require_images(images)
        height, width = images.shape[-2:]
        down, right = self.height or height, self.width or width
        fits = height >= down and width >= right
        require(fits, "size", (down, right), f"must not exceed the images, {height} x {width}")
        # Rounded, half to even, as torchvision's CenterCrop does.
        top, left = round((height - down) / 2), round((width - right) / 2)
        return images[..., top : top + down, left : left + right]

    def normalise(self, images: Tensor) -> Tensor:
        """What a network reads: (images / 255 - mean) / std.

        Args:
            images: (B, C, h, w) uint8.

        Returns:
            (B, C, h, w) float32.

        Raises:
            InputError: if `mean` or `std` has neither one number nor one for each channel.
        """
        channels = images.shape[1]
        require(len(self.mean) in (1, channels), "mean", self.mean, f"must hold 1 number or {channels}, one a channel")
        require(len(self.std) in (1, channels), "std", self.std, f"must hold 1 number or {channels}, one a channel")
        if images.device not in self.statistics:
            self.statistics[images.device] = (
                torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1),
                torch.tensor(self.std, device=images.device).view(1, -1, 1, 1),
            )
        mean, std = self.statistics[images.device]
        return images.float().div_(255.0).sub_(mean).div_(std)


PADDED: tuple[str, ...] = ("constant", "reflect", "edge")


def crop_positions(top: Tensor, left: Tensor, flipped: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The rows (B, h) and columns (B, w) of each crop; a flipped crop reads its columns from right to left."""
    columns = torch.arange(width, device=left.device).expand(len(left), width)
    columns = torch.where(flipped[:, None], width - 1 - columns, columns)
    return top[:, None] + torch.arange(height, device=top.device), left[:, None] + columns


def crop(images: Tensor, rows: Tensor, columns: Tensor, padding_mode: str) -> Tensor:
    """Each image at its own rows and columns, in one gather; positions outside read the padding.

    Args:
        images: (B, C, H, W).
        rows: (B, h) int64 on the images' device; may lie outside of 0..H-1.
        columns: (B, w) int64, likewise.
        padding_mode: one of `PADDED`.

    Returns:
        (B, C, h, w).
    """
    count, channels, height, width = images.shape
    if padding_mode == "constant":
        # The only mode whose padding is not a pixel of the image: a border of zeros, one pixel wide, holds it.
        images = functional.pad(images, (1, 1, 1, 1))
        rows, columns = (rows + 1).clamp(0, height + 1), (columns + 1).clamp(0, width + 1)
    elif padding_mode == "reflect":
        rows, columns = reflect(rows, height), reflect(columns, width)
    else:
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    source = rows[:, :, None] * images.shape[-1] + columns[:, None, :]
    area = rows.shape[1] * columns.shape[1]  # not -1, which no images at all would leave open
    positions = source.view(count, 1, area).expand(count, channels, area)
    return images.flatten(2).gather(2, positions).view(count, channels, rows.shape[1], columns.shape[1])


def reflect(positions: Tensor, length: int) -> Tensor:
    """Positions folded into 0..length-1 at the first and the last pixel, which are not repeated."""
    if length == 1:
        return torch.zeros_like(positions)
    period = 2 * (length - 1)
    folded = positions.remainder(period)
    return torch.minimum(folded, period - folded)
