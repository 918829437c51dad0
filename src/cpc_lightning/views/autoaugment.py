"""AutoAugment (Cubuk et al. 2019) and RandAugment on a batch: every image draws its own sub-policy.

torchvision draws one set of parameters for everything it is given at once: on a batch, every image would get the same
one. Here each of the two steps of a sub-policy sorts the batch by the operation drawn, applies every operation once, to
its slice, and sorts back. The draws are made on the CPU whatever the images' device: the same seed gives the same
parameters everywhere, and neither the host waits for the device nor the device for the host.

Operations, magnitudes and signs are those of `torchvision.transforms.v2.AutoAugment` on tensors, with nearest
interpolation, or those of AugDesc's published code, which differ in what moves pixels; the tests hold each against it.

Shapes: B batch, n images that share an operation, C channels (1 or 3), H x W pixels, P sub-policies.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cpc_lightning.errors import require, require_integer
from cpc_lightning.views.operations import POINTWISE, keep
from cpc_lightning.views.policies import BINS, POLICIES, magnitude_spaces
from cpc_lightning.views.shear import shear_cubic


class Draw(NamedTuple):
    """What a batch of B images draws: two steps per image. CPU tensors.

    Attributes:
        kinds: (B, 2) int64, positions in `OPERATIONS`.
        magnitudes: (B, 2) float32, signed.
        applied: (B, 2) bool, whether the step is carried out.
    """

    kinds: Tensor
    magnitudes: Tensor
    applied: Tensor


class AutoAugment:
    """A policy of AutoAugment, drawn anew for every image of a batch.

    Args:
        policy: "cifar10" or "imagenet" (the published ones), "randaugment" (two of 14 operations, of a fixed strength),
            or "symbols" (ours, for small grayscale symbols).
        fill: grey level 0..255 of the pixels that a shear, translation or rotation uncovers.
        augdesc: operations as in AugDesc's published code: turns counter-clockwise alone, cubic shears, translations
            rounded to the nearest pixel, solarize's levels counted from 256. False: as torchvision's.

    Raises:
        InputError: if the policy is unknown or the fill is no grey level.
    """

    def __init__(self, policy: str, fill: int = 0, augdesc: bool = False) -> None:
        require(policy in POLICIES, "policy", policy, f"must be one of {', '.join(POLICIES)}")
        require_integer("fill", fill, 0)
        require(fill <= 255, "fill", fill, "must be a grey level of at most 255")
        self.policy, self.fill, self.augdesc = policy, fill, augdesc

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The augmented images (B, C, H, W) uint8, new memory.

        Args:
            images: (B, C, H, W) uint8 on any device, C = 1 or 3.
            generator: a CPU generator; None for the global one.

        Raises:
            InputError: if the images are not of this type and shape.
        """
        require_images(images)
        kinds, magnitudes, applied = self.draw(len(images), images.shape[-2], images.shape[-1], generator)
        kinds = kinds.masked_fill(~applied, UNTOUCHED)
        for step in range(kinds.shape[1]):
            images = apply_step(images, kinds[:, step], magnitudes[:, step], self.fill, self.augdesc)
        return images

    def draw(self, count: int, height: int, width: int, generator: torch.Generator | None = None) -> Draw:
        """Sub-policies uniformly; for each of their steps a sign and whether it is applied, all independent.

        Args:
            count: B.
            height: H; translations are a share of it.
            width: W.
            generator: a CPU generator; None for the global one.
        """
        kinds, magnitudes, probabilities, signed = policy_tables(self.policy, height, width, self.augdesc)
        chosen = torch.randint(len(kinds), (count,), generator=generator, device="cpu")
        # rand() is below 1 and may be 0, so with < a probability of 1 always applies and one of 0 never does.
        applied = torch.rand(count, 2, generator=generator, device="cpu") < probabilities[chosen]
        negative = torch.randint(2, (count, 2), generator=generator, device="cpu").bool() & signed[chosen]
        drawn = magnitudes[chosen]
        return Draw(kinds[chosen], torch.where(negative, -drawn, drawn), applied)


def require_images(images: Tensor) -> None:
    """Raise `InputError` unless `images` is (B, C, H, W) uint8 with C = 1 or 3."""
    require(images.dtype == torch.uint8, "images", str(images.dtype), "must be uint8")
    require(
        images.ndim == 4 and images.shape[1] in (1, 3),
        "images",
        tuple(images.shape),
        "must be (B, C, H, W) with 1 or 3 channels",
    )


def apply_step(images: Tensor, kinds: Tensor, magnitudes: Tensor, fill: int, augdesc: bool = False) -> Tensor:
    """Every image after its own operation.

    Args:
        images: (B, C, H, W) uint8.
        kinds: (B,) int64, positions in `OPERATIONS`, or `UNTOUCHED`; CPU.
        magnitudes: (B,) float32; CPU.
        fill: grey level of uncovered pixels.
        augdesc: whether pixels move as in AugDesc's code.

    Returns:
        (B, C, H, W) uint8.
    """
    kinds, order = kinds.sort()
    magnitudes = magnitudes[order]
    counts = kinds.bincount(minlength=UNTOUCHED + 1).tolist()
    sorted_images = images[order.to(images.device, non_blocking=True)]

    # Kinds are numbered with the geometric ones first: they make one slice and take one gather; cubic shears, the very
    # first, make slices of their own.
    moved = sum(counts[: len(GEOMETRIC)])
    rows, shears = (counts[0], counts[0] + counts[1]) if augdesc else (0, 0)
    columns = sorted_images[rows:shears].transpose(2, 3)
    matrices = inverse_matrices(
        kinds[shears:moved], magnitudes[shears:moved], images.shape[-2], images.shape[-1], whole_pixels=not augdesc
    )
    changed = [
        shear_cubic(sorted_images[:rows], magnitudes[:rows], fill),
        shear_cubic(columns, magnitudes[rows:shears], fill).transpose(2, 3),
        warp(sorted_images[shears:moved], matrices, fill),
    ]

    sizes = counts[len(GEOMETRIC) :]
    slices = torch.split_with_sizes(sorted_images[moved:], sizes)
    levels = torch.split_with_sizes(magnitudes[moved:].to(images.device, non_blocking=True), sizes)
    for operation, part, level in zip((*POINTWISE.values(), keep), slices, levels, strict=True):
        if len(part):
            changed.append(operation(part, level))
    return torch.cat(changed)[order.argsort().to(images.device, non_blocking=True)]


@lru_cache(maxsize=64)
def policy_tables(policy: str, height: int, width: int, augdesc: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The policy for images of H x W: kinds int64, unsigned magnitudes float32, probabilities, signed; each (P, 2)."""
    steps = POLICIES[policy]
    spaces = magnitude_spaces(height, width, BINS[policy], augdesc)
    kinds = torch.tensor([[OPERATIONS.index(name) for name, _, _ in pair] for pair in steps])
    magnitudes = torch.tensor([[float(spaces[name][0][level]) for name, _, level in pair] for pair in steps])
    probabilities = torch.tensor([[probability for _, probability, _ in pair] for pair in steps])
    signed = torch.tensor([[spaces[name][1] for name, _, _ in pair] for pair in steps])
    return kinds, magnitudes, probabilities, signed


def inverse_matrices(kinds: Tensor, magnitudes: Tensor, height: int, width: int, whole_pixels: bool = True) -> Tensor:
    """For geometric operations, the map from a pixel of the result to its source, about the image's centre.

    Shears keep the upper left corner, rotations the centre (counter-clockwise), translations go right and down; all as
    torchvision does.

    Args:
        kinds: (n,) int64, positions in `GEOMETRIC`.
        magnitudes: (n,) float32, signed.
        height: H.
        width: W.
        whole_pixels: whether fractions of a pixel are dropped from translations, as in torchvision. Where they are not,
            the nearest pixel is what they round to.

    Returns:
        (n, 2, 3) float32: [x, y] of the source = matrix @ [x, y, 1].
    """
    # In double precision, as torchvision's plain floats: sources often lie half-way between two pixels.
    shear_x, shear_y, right, down, angle = (
        magnitudes.double().where(kinds == kind, 0.0) for kind in range(len(GEOMETRIC))
    )
    if whole_pixels:
        right, down = right.trunc(), down.trunc()
    cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
    x_row = torch.stack((cos, shear_x - sin, shear_x * height / 2 - right), dim=1)
    y_row = torch.stack((sin + shear_y, cos, shear_y * width / 2 - down), dim=1)
    return torch.stack((x_row, y_row), dim=1).float()


def warp(images: Tensor, matrices: Tensor, fill: int) -> Tensor:
    """Each image moved by its own matrix: the nearest source pixel, `fill` where the source lies outside.

    Args:
        images: (n, C, H, W) uint8.
        matrices: (n, 2, 3) float32, from the result's pixels to the source's, about the centre; CPU.
        fill: grey level.

    Returns:
        (n, C, H, W) uint8.
    """
    if len(images) == 0:
        return images
    height, width = images.shape[-2:]
    # Scaled to grid_sample's -1..1 while still on the CPU, where a literal makes no device wait.
    scaled = matrices / torch.tensor([[0.5 * width], [0.5 * height]])
    of_x, of_y, shift = scaled.to(images.device, non_blocking=True).view(-1, 1, 1, 2, 3).unbind(dim=-1)
    x, y = pixel_centres(width, images.device), pixel_centres(height, images.device)
    # Written out, not a matrix product, which autocast and TF32 would round to 8 or 10 bits.
    grid = x.view(1, -1, 1) * of_x + (y.view(-1, 1, 1) * of_y + shift)
    # grid_sample reads 0 outside; shifting the levels makes that the fill. Exact: small whole numbers in float32.
    levels = images.float() if fill == 0 else images.float() - fill
    sampled = functional.grid_sample(levels, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return (sampled if fill == 0 else sampled + fill).to(torch.uint8)


def pixel_centres(length: int, device: torch.device) -> Tensor:
    """Where the pixels of a line of `length` have their centres, from the line's own centre: (length,) float32."""
    return torch.arange(length, device=device) + (0.5 - length / 2)


GEOMETRIC: tuple[str, ...] = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
"""Operations that move pixels; `inverse_matrices` unpacks them in this order."""

OPERATIONS: tuple[str, ...] = (*GEOMETRIC, *POINTWISE)
UNTOUCHED = len(OPERATIONS)
